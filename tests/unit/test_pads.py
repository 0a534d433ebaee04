"""Pads: what the page's script computes is what torch computes."""

import base64
import io
import json
import math
import re
from functools import partial
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from lectool import pads, random
from lectool.graphical import Ising
from lectool.nets import mlp
from lectool.pads import (
    hopfield_pad,
    ising_pad,
    latent_pad,
    rbm_pad,
    sketch_pad,
    sparse_pad,
    stroke_pad,
)
from lectool.sparse import fista, shrink_positive
from lectool.zoo.inverse import project


@pytest.fixture(autouse=True)
def shown(monkeypatch) -> list[dict]:
    bundles: list[dict] = []
    monkeypatch.setattr("lectool.pads.page.display", lambda bundle, raw: bundles.append(bundle))
    torch.manual_seed(0)
    return bundles


def data_of(bundle: dict) -> dict:
    return json.loads(
        re.search(r'<script type="application/json">(.*?)</script>', bundle["text/html"], re.S)[1]
    )


# As in web/pads-network.js.
ACTIVATIONS = {
    "identity": lambda a: a,
    "relu": lambda a: np.where(a > 0, a, 0),
    "leaky": lambda a: np.where(a > 0, a, 0.01 * a),
    "elu": lambda a: np.where(a > 0, a, np.expm1(a)),
    "silu": lambda a: a / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "softplus": lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))),
    "sigmoid": lambda a: 1 / (1 + np.exp(np.minimum(-a, 80))),
}


def forward(data: dict, x: np.ndarray, first: int = 0, last: int | None = None) -> np.ndarray:
    """The forward pass of the page, from the page."""
    kind = {16: "<f2", 32: "<f4"}[data["bits"]]
    weights = np.frombuffer(base64.b64decode(data["weights"]), kind).astype(np.float32)
    at = 0
    for i, layer in enumerate(data["layers"]):
        n = layer["rows"] * layer["columns"]
        W, b = (
            weights[at : at + n].reshape(layer["rows"], layer["columns"]),
            weights[at + n : at + n + layer["rows"]],
        )
        at += n + layer["rows"]
        if i >= first and (last is None or i < last):
            x = ACTIVATIONS[layer["act"]](x @ W.T + b)
    assert at == len(weights)
    return x


PLANE = {"bounds": [(-2, 2), (-3, 3)]}


@pytest.mark.parametrize("activation", list(pads.ACTIVATIONS))
def test_the_page_decodes_as_torch_does(shown, activation):
    decoder = mlp([2, 16, 12, 20], activation, last=nn.Sigmoid)
    latent_pad(decoder, (4, 5), **PLANE)
    z = 2 * torch.randn(30, 2)
    expected = decoder(z).detach().numpy()
    assert np.abs(forward(data_of(shown[0]), z.numpy()) - expected).max() < 3e-3


def test_weights_travel_as_half_precision(shown):
    decoder = nn.Sequential(
        nn.Sequential(nn.Linear(2, 3), nn.Tanh()), nn.Linear(3, 4, bias=False)
    ).double()
    latent_pad(decoder, (2, 2), **PLANE)
    data = data_of(shown[0])
    packed = np.frombuffer(base64.b64decode(data["weights"]), "<f2").astype(np.float64)
    parts = [decoder[0][0].weight, decoder[0][0].bias, decoder[1].weight, torch.zeros(4)]
    exact = torch.cat([p.detach().double().flatten() for p in parts]).numpy()
    np.testing.assert_allclose(packed, exact, rtol=2**-11, atol=2**-25)
    assert data["layers"] == [
        {"rows": 3, "columns": 2, "act": "tanh"},
        {"rows": 4, "columns": 3, "act": "identity"},
    ]


@pytest.mark.parametrize(
    "scales", [(1e6, 1e-6), (1e-9, 1e9), (1e30, 1e-30), (3e4, 1.0), (1.0, 1e5)]
)
def test_weights_that_half_precision_cannot_hold_travel_as_they_are(shown, scales):
    decoder = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4), nn.Sigmoid())
    with torch.no_grad():
        for layer, scale in zip((decoder[0], decoder[2]), scales):
            layer.weight.mul_(scale)
        decoder[0].bias.mul_(scales[0])
    latent_pad(decoder, (2, 2), **PLANE)
    z = torch.randn(30, 2)
    expected = decoder(z).detach().numpy()
    assert np.abs(forward(data_of(shown[0]), z.numpy()) - expected).max() < 0.01


def test_usual_weights_travel_as_half_precision_and_the_precision_is_named(shown):
    usual, loud = nn.Linear(2, 4), nn.Linear(2, 4)
    with torch.no_grad():
        loud.weight[0, 0] = 7e4
    for decoder in (usual, loud):
        latent_pad(decoder, (2, 2), **PLANE)
    assert [data_of(bundle)["bits"] for bundle in shown] == [16, 32]
    assert forward(data_of(shown[1]), np.array([1e-3, 0.0]))[0] == pytest.approx(
        70 + loud.bias[0].item()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e39])
def test_weights_that_are_no_numbers_are_refused(shown, value):
    decoder = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)).double()
    with torch.no_grad():
        decoder[1].weight[1, 2] = value
    with pytest.raises(ValueError, match=r"Linear\(in_features=3.* has weights that are NaN"):
        latent_pad(decoder, (2, 2), **PLANE)
    huge = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    with torch.no_grad():
        for p in huge.parameters():
            p.fill_(1e30)
    with pytest.raises(ValueError, match="the network makes numbers that are NaN or infinite"):
        latent_pad(huge, (2, 2), **PLANE)
    assert not shown


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_decoder_of_another_float_type(shown, dtype):
    decoder = mlp([2, 8, 4], last=nn.Sigmoid)
    latent_pad(decoder.to(dtype), (2, 2), **PLANE)
    z = torch.randn(20, 2)
    expected = decoder.float()(z).detach().numpy()
    assert np.abs(forward(data_of(shown[0]), z.numpy()) - expected).max() < 3e-3


def test_the_size_is_that_of_the_weights(shown):
    latent_pad(mlp([2, 64, 784], last=nn.Sigmoid), (28, 28), **PLANE)
    n_weights = 2 * 64 + 64 + 64 * 784 + 784
    n_bytes = len(shown[0]["text/html"].encode())
    assert 2 * n_weights * 4 / 3 < n_bytes < 2 * n_weights * 4 / 3 + 25_000 < 180_000


@pytest.mark.parametrize(
    "decoder",
    [
        nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4)),
        nn.Sequential(nn.Linear(2, 4), nn.Dropout()),
        nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.Linear(2, 4)),
        nn.Sequential(nn.Linear(2, 4), nn.GELU()),
        nn.Sequential(nn.Linear(2, 4), nn.LeakyReLU(0.2)),  # the page's slope is 0.01
        nn.Sequential(nn.Linear(2, 4), nn.ELU(alpha=0.5)),
        nn.Sequential(nn.Linear(2, 4), nn.Softplus(beta=2.0)),
        nn.Conv2d(1, 1, 2),
    ],
    ids=str,
)
def test_parts_that_cannot_run_in_a_page(shown, decoder):
    with pytest.raises(
        ValueError, match=r"cannot run in a page; expected nn\.Linear, each followed by one of"
    ):
        latent_pad(decoder, (2, 2), **PLANE)
    assert not shown


def test_networks_that_do_not_fit(shown):
    with pytest.raises(ValueError, match="does not fit behind 3 numbers"):
        latent_pad(nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 4)), (2, 2), **PLANE)
    with pytest.raises(ValueError, match="no linear layer"):
        latent_pad(nn.Sequential(), (2, 2), **PLANE)
    with pytest.raises(ValueError, match="the decoder makes 5 numbers; expected 2×2"):
        latent_pad(nn.Linear(2, 5), (2, 2), **PLANE)
    assert not shown


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "neither points nor bounds are given"),
        ({"points": torch.zeros(3, 3)}, r"points has shape \(3, 3\); expected \(n, 2\)"),
        ({"points": torch.tensor([[0, 1], [math.nan, 1]])}, "points holds 1 values that are NaN"),
        ({**PLANE, "points": torch.tensor([[0, math.inf]])}, "points holds 1 values that are NaN"),
        ({"points": torch.zeros(3, 2).half()}, "points is torch.float16"),
        ({"points": torch.zeros(0, 2)}, "points is empty"),
        ({"points": torch.zeros(3, 2), "labels": torch.zeros(2)}, "points has 3, labels has 2"),
        ({"points": torch.zeros(3, 2), "labels": -torch.ones(3)}, "labels is -1"),
        ({**PLANE, "base": torch.zeros(2)}, r"base has shape \(2,\)"),
        ({**PLANE, "base": torch.tensor([0, 0, math.nan])}, "base holds 1 values that are NaN"),
        ({"bounds": [(0, 1), (0, math.nan)]}, "bounds are"),
        ({"bounds": [(0, 1), (0, math.inf)]}, "bounds are"),
        ({**PLANE, "start": [0.0, math.nan]}, "start is"),
        ({**PLANE, "start": [0.0, 4.0]}, r"start is \[0.0, 4.0\]; expected a point within"),
        ({**PLANE, "values": (1.0, 1.0)}, "values are"),
        ({**PLANE, "values": (0.0, math.nan)}, "white is nan"),
        ({**PLANE, "axes": (0, 3)}, "the code has 3 numbers"),
        ({**PLANE, "axes": (-1, 0)}, "the code has 3 numbers"),
        ({**PLANE, "axes": (1, 1)}, "the code has 3 numbers"),
        ({"bounds": [(0, 1), (2, 2)]}, "bounds"),
        ({"bounds": [(0, 1)]}, None),
        ({**PLANE, "start": [0.0]}, None),
    ],
)
def test_planes_that_make_no_sense(shown, options, words):
    with pytest.raises(ValueError, match=words):
        latent_pad(nn.Linear(3, 4), (2, 2), **options)
    assert not shown


def test_a_code_of_one_number_has_no_plane():
    with pytest.raises(ValueError, match="the code has 1 numbers"):
        latent_pad(nn.Linear(1, 4), (2, 2), **PLANE)


def test_bounds_of_points_with_an_edge(shown):
    points = torch.tensor([[0.0, -10.0], [2.0, 30.0], [1.0, 0.0]])
    latent_pad(nn.Linear(2, 4), (2, 2), points=points, labels=torch.tensor([0, 2, 2]))
    data = data_of(shown[0])
    assert data["bounds"] == [[-0.1, 2.1], [-12.0, 32.0]]
    assert data["points"] == [[0, -10, 0], [2, 30, 2], [1, 0, 2]]
    assert data["marks"] == [[0, -10, 0], [1, 0, 2]] and len(data["colors"]) == 3
    latent_pad(nn.Linear(2, 4), (2, 2), points=points)
    assert data_of(shown[1])["marks"] == [] and {c for *_, c in data_of(shown[1])["points"]} == {0}
    latent_pad(nn.Linear(2, 4), (2, 2), points=points, **PLANE)
    assert data_of(shown[2])["bounds"] == [[-2, 2], [-3, 3]]


def moving(data: dict) -> None:
    """The plane has a width in both directions, and each step of a slider is another code and another text."""
    for (low, high), n_digits in zip(data["bounds"], data["digits"]):
        steps = low + (high - low) * np.arange(201) / 200
        assert low < high and len({f"{v:.{n_digits}f}" for v in steps}) == 201
        assert len(set(steps.astype(np.float32))) > 20


@pytest.mark.parametrize("collapsed", [0, 1])
@pytest.mark.parametrize(
    ("at", "noise"), [(0.0, 0.0), (0.0, 1e-3), (0.7, 1e-9), (1e6, 0.0), (-1e6, 0.01)]
)
def test_a_collapsed_coordinate_has_the_range_of_the_other(shown, collapsed, at, noise):
    points = torch.randn(300, 2)
    points[:, collapsed] = at + noise * torch.randn(300)
    latent_pad(nn.Linear(2, 4), (2, 2), points=points, labels=torch.arange(300) % 3)
    data = data_of(shown[0])
    moving(data)
    (low, high), (wide_low, wide_high) = data["bounds"][collapsed], data["bounds"][1 - collapsed]
    assert low < at < high and (low + high) / 2 == pytest.approx(at, abs=0.1)
    assert high - low >= 0.999 * (wide_high - wide_low) > 4
    for slider, (low, high) in zip(Tags(shown[0]["text/html"]).all("input"), data["bounds"]):
        assert float(slider["min"]) < float(slider["value"]) < float(slider["max"])
        assert float(slider["step"]) == pytest.approx((high - low) / 200, rel=1e-3)


def test_a_code_that_has_collapsed_wholly_has_a_plane(shown):
    latent_pad(nn.Linear(2, 4), (2, 2), points=torch.full((9, 2), 0.25))
    assert data_of(shown[0])["bounds"] == [[-0.75, 1.25]] * 2
    latent_pad(nn.Linear(2, 4), (2, 2), points=torch.tensor([[3.0, -2.0]]))
    moving(data_of(shown[1]))


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1e4])
def test_codes_of_any_scale_have_a_plane(shown, scale):
    points = scale * torch.rand(50, 2)
    latent_pad(nn.Linear(2, 4), (2, 2), points=points)
    data = data_of(shown[0])
    moving(data)
    shift = np.array([p[:2] for p in data["points"]]) - points.numpy()
    assert np.abs(shift).max() < 1e-2 * scale
    assert data["bounds"][0] == pytest.approx([-0.05 * scale, 1.05 * scale], abs=0.05 * scale)


def first_picture(bundle: dict, scale: int = 8) -> np.ndarray:
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    return np.asarray(picture)[::scale, ::scale] / 255


def test_the_other_coordinates_stay_at_the_base(shown):
    decoder = mlp([5, 8, 6], nn.Tanh, last=nn.Sigmoid)
    base = torch.tensor([0.5, 1.0, -1.0, 2.0, 0.25])
    latent_pad(
        decoder, (2, 3), base=base, axes=(3, 1), start=[1.5, -0.5], names=("p", "q"), **PLANE
    )
    data = data_of(shown[0])
    assert data["base"] == base.tolist() and data["axes"] == [3, 1] and data["shape"] == [2, 3]
    code = torch.tensor([0.5, -0.5, -1.0, 1.5, 0.25])
    expected = decoder(code[None]).detach().numpy().reshape(2, 3)
    assert np.abs(first_picture(shown[0]) - expected).max() < 1 / 255
    assert np.abs(forward(data, code.numpy()).reshape(2, 3) - expected).max() < 3e-3


def test_the_first_picture_is_the_middle_in_its_range(shown):
    decoder = nn.Linear(2, 4)
    latent_pad(decoder, (2, 2), bounds=[(0, 2), (2, 6)], values=(-3.0, 3.0))
    expected = (decoder(torch.tensor([1.0, 4.0])).detach().numpy().reshape(2, 2) + 3) / 6
    assert np.abs(first_picture(shown[0]) - expected.clip(0, 1)).max() < 1 / 255
    assert data_of(shown[0])["range"] == [-3, 3]


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def test_the_structure_of_a_latent_pad(shown):
    latent_pad(
        nn.Linear(2, 4),
        (2, 2),
        names=("w <1>", "q"),
        alt='an "alt"',
        caption="a < b",
        autoplay=True,
        **PLANE,
    )
    found = Tags(shown[0]["text/html"])
    assert [a["class"] for a in found.all("figure")] == ["latent-pad"]
    canvases = found.all("canvas")
    assert len(canvases) == 2 and all(a["role"] == "img" and a["aria-label"] for a in canvases)
    sliders = found.all("input")
    assert [(a["type"], a["min"], a["max"], a["value"]) for a in sliders] == [
        ("range", "-2", "2", "0"),
        ("range", "-3", "3", "0"),
    ]
    assert len(found.all("label")) == len(found.all("output")) == 2
    assert [a.get("class") for a in found.all("div")].count("pad-still") == 1
    assert found.all("img")[0]["alt"] == 'an "alt"' and data_of(shown[0])["autoplay"] is True
    text = shown[0]["text/html"]
    assert "w &lt;1&gt;" in text and "a &lt; b" in text
    assert not re.search(r"https?:", text) and all("src" not in a for a in found.all("script"))
    assert all("id" not in attrs for _, attrs in found.tags)
    assert set(shown[0]) == {"text/html", "image/png", "text/plain"}


@pytest.mark.parametrize("text", ["</script><b>", "<!--<script>"])
def test_no_text_breaks_out_of_a_pad(shown, text):
    latent_pad(nn.Linear(2, 4), (2, 2), alt=text, caption=text, names=(text, text), **PLANE)
    data = re.search(
        r'<script type="application/json">(.*?)</script>', shown[0]["text/html"], re.S
    )[1]
    assert "<!--" not in data and "<script" not in data and data_of(shown[0])["alt"] == text


def test_two_calls_give_the_identical_pad(shown):
    decoder, points = mlp([2, 8, 4]), torch.randn(20, 2)
    for _ in range(2):
        latent_pad(decoder, (2, 2), points=points, labels=torch.arange(20) % 3)
    assert shown[0] == shown[1]


# ------------------------------------------------------------------------------------------ sketch pad


def pair() -> tuple[nn.Sequential, nn.Sequential]:
    return mlp([784, 16, 3]), mlp([3, 16, 784], last=nn.Sigmoid)


def test_a_sketch_pad_encodes_and_decodes_as_torch_does(shown):
    encoder, decoder = pair()
    x = torch.rand(2, 784)
    sketch_pad(encoder, decoder, examples=x)
    data = data_of(shown[0])
    z = forward(data, x.numpy(), 0, data["code"])
    assert np.abs(z - encoder(x).detach().numpy()).max() < 3e-3
    y = forward(data, x.numpy())
    expected = decoder(encoder(x)).detach().numpy()
    assert np.abs(y - expected).max() < 3e-3
    assert np.abs(first_picture(shown[0]) - expected[0].reshape(28, 28)).max() < 1.1 / 255
    for text, example in zip(data["examples"], x):
        gray = np.frombuffer(base64.b64decode(text), np.uint8) / 255
        assert np.abs(gray - example.numpy()).max() <= 0.5 / 255 + 1e-6
    found = Tags(shown[0]["text/html"])
    assert [len(found.all(tag)) for tag in ("canvas", "button", "img")] == [3, 2, 1]


def test_a_sketch_pad_leaves_the_network_as_it_is(shown):
    encoder, decoder = (net.double() for net in pair())
    # Images in float32 beside weights in float64.
    sketch_pad(encoder, decoder, examples=torch.rand(2, 784))
    assert next(encoder.parameters()).dtype == torch.float64 and len(shown) == 1


def test_a_sketch_pad_for_other_sizes(shown):
    encoder, decoder = pair()
    for e, d, examples in (
        (mlp([4, 3]), decoder, torch.rand(1, 784)),
        (encoder, mlp([3, 4]), torch.rand(1, 784)),
        (encoder, decoder, torch.rand(1, 4)),
        (encoder, decoder, torch.rand(784)),
    ):
        with pytest.raises(ValueError, match="expected 784 each"):
            sketch_pad(e, d, examples=examples)
    for examples, words in (
        (torch.full((1, 784), math.nan), "examples holds 784 values that are NaN"),
        (torch.full((1, 784), 1.5), "examples lies in"),
        (torch.rand(0, 784), "examples is empty"),
    ):
        with pytest.raises(ValueError, match=words):
            sketch_pad(encoder, decoder, examples=examples)
    with pytest.raises(ValueError, match="cannot run in a page"):
        sketch_pad(nn.Sequential(nn.Flatten(), encoder), decoder, examples=torch.rand(1, 784))
    assert not shown


# ------------------------------------------------------------------------------------------ sparse pad


CODE = partial(fista, prox=shrink_positive)


def strokes(k: int, signed: bool = False) -> torch.Tensor:
    """Atoms that overlap as those of digits do: blobs of length 1, as columns."""
    row, column = (t.flatten() for t in torch.meshgrid(*2 * [torch.arange(28.0)], indexing="ij"))
    center = 6 + 16 * torch.rand(k, 2, 1)
    D = torch.exp(-((row - center[:, 0]) ** 2 + (column - center[:, 1]) ** 2) / 12)
    if signed:
        D = D - 0.5 * D.roll(3, 1)
    return (D / D.norm(dim=1, keepdim=True)).T


def sums(D: torch.Tensor, n: int) -> torch.Tensor:
    """Images that are sums of a few atoms."""
    z = torch.rand(n, D.shape[1]) * (torch.rand(n, D.shape[1]) < 0.15)
    z = z.to(D.dtype)
    x = (z @ D.T).clamp(min=0)
    return x / x.amax(1, keepdim=True)


def decompose(data: dict, x: np.ndarray, lam: float) -> tuple[np.ndarray, np.ndarray]:
    """Codes and reconstructions by the page's arithmetic, from the page."""
    packed = np.frombuffer(base64.b64decode(data["atoms"]), {16: "<f2", 32: "<f4"}[data["bits"]])
    atoms = packed.reshape(-1, 784).astype(np.float64)
    G, pull = atoms @ atoms.T, x @ atoms.T
    codes = []
    for b in pull:
        z = ahead = np.zeros(len(G))
        t = 1.0
        for _ in range(data["steps"]):
            new = np.maximum(0, ahead - (G @ ahead - b + lam) / data["L"])
            t = 1.0 if (ahead - new) @ (new - z) > 0 else t
            t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
            ahead, z, t = new + (t - 1) / t_next * (new - z), new, t_next
        codes.append(z)
    return np.stack(codes), np.stack(codes) @ atoms


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sparse_pad_decomposes_as_fista_does(shown, signed, dtype):
    D = strokes(64, signed).to(dtype)
    x = sums(D, 5)
    sparse_pad(D, examples=x, lam=0.1, code=CODE)
    data = data_of(shown[0])
    assert data["bits"] == 16 and data["steps"] == 100
    for lam in data["lams"]:
        expected = CODE(x, D, lam, n_steps=100) @ D.T
        _, y = decompose(data, x.numpy(), lam)
        assert np.abs(y - expected.numpy()).max() < 0.01


def test_the_first_picture_of_a_sparse_pad(shown):
    D = strokes(64)
    x = sums(D, 2)
    sparse_pad(D, examples=x, lam=0.1, code=CODE, n_shown=4)
    data, png = data_of(shown[0]), first_picture(shown[0])
    z, y = decompose(data, x[:1].numpy(), 0.1)
    order = np.argsort(-z[0])[:4]
    tiles = [x[0].numpy(), y[0], *(D[:, j].numpy() / D[:, j].max().item() for j in order)]
    assert png.shape == (60, 150, 3)
    for i, tile in enumerate(tiles):
        row, column = 30 * (i // 5) + 1, 30 * (i % 5) + 1
        seen = png[row : row + 28, column : column + 28, 0]
        assert np.abs(seen - tile.reshape(28, 28).clip(0, 1)).max() < 3 / 255
    error = ((x[0].numpy() - y[0]) ** 2).sum()
    words = f"{(z > 0).sum()} of 64 atoms in use, squared error {error:.1f}"
    assert shown[0]["text/plain"] == f"Reconstruction from few atoms: {words}"


def test_the_structure_of_a_sparse_pad(shown):
    D = strokes(20)
    sparse_pad(
        D, examples=sums(D, 3), lam=0.2, code=CODE, n_shown=6, alt='an "alt"', caption="a < b"
    )
    text, data = shown[0]["text/html"], data_of(shown[0])
    found = Tags(text)
    assert [a["class"] for a in found.all("figure")] == ["sparse-pad"]
    assert len(found.all("canvas")) == 3 + 6 and len(data["examples"]) == 3
    assert all(a["role"] == "img" and a["aria-label"] for a in found.all("canvas"))
    (slider,) = found.all("input")
    assert slider["type"] == "range" and slider["aria-valuetext"] == "0.2"
    assert data["names"][int(slider["value"])] == "0.2" and int(slider["max"]) == 12
    for control in (slider, *found.all("button")):
        assert control["data-lm-suppress-shortcuts"] == "true"
    assert [a.get("class") for a in found.all("div")].count("pad-still") == 1
    assert found.all("img")[0]["alt"].startswith('an "alt": ') and "a &lt; b" in text
    assert not re.search(r"https?:", text) and all("src" not in a for a in found.all("script"))
    assert all("id" not in attrs for _, attrs in found.tags)
    assert set(shown[0]) == {"text/html", "image/png", "text/plain"}


def test_the_slider_of_a_sparse_pad_has_lambda_among_its_values(shown):
    D = strokes(20)
    for lam, lam_range in ((0.2, None), (0.137, (0.01, 2)), (0.5, (0.5, 1)), (3e-4, (1e-4, 3e-4))):
        sparse_pad(D, examples=sums(D, 1), lam=lam, lam_range=lam_range, code=CODE)
        data = data_of(shown[-1])
        lams = np.array(data["lams"])
        assert lam in lams and 8 <= len(lams) <= 13 and len(set(data["names"])) == len(lams)
        low, high = lam_range or (lam / 8, 8 * lam)
        assert lams[0] == pytest.approx(low, rel=0.05) and lams[-1] == pytest.approx(high, rel=0.05)
        ratio = lams[1:] / lams[:-1]
        assert ratio.min() > 1 and ratio.max() < 1.5 * (high / low) ** (1 / 12)


def test_atoms_that_half_precision_cannot_hold_travel_as_they_are(shown):
    D = strokes(20)
    D[:, 3] *= 1e-8
    x = sums(strokes(20), 2)
    sparse_pad(D, examples=x, lam=0.1, code=CODE)
    data = data_of(shown[0])
    assert data["bits"] == 32
    _, y = decompose(data, x.numpy(), 0.1)
    assert np.abs(y - (CODE(x, D, 0.1, n_steps=100) @ D.T).numpy()).max() < 0.01


def test_no_more_atoms_are_shown_than_there_are(shown):
    D = strokes(3)
    sparse_pad(D, examples=torch.zeros(1, 784), lam=0.1, code=CODE)
    assert len(Tags(shown[0]["text/html"]).all("canvas")) == 3 + 3
    assert "0 of 3 atoms in use, squared error 0.0" in shown[0]["text/plain"]


def test_a_sparse_pad_leaves_the_dictionary_as_it_is_and_is_the_same_twice(shown):
    D = strokes(20)
    before, x = D.clone(), sums(D, 2).double()  # images in float64 beside atoms in float32
    for _ in range(2):
        sparse_pad(D, examples=x, lam=0.1, code=CODE)
    assert torch.equal(D, before) and shown[0] == shown[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"D": torch.ones(3, 784)}, r"D has shape \(3, 784\); expected \(784, k\)"),
        ({"D": torch.full((784, 2), math.nan)}, "D holds 1568 values that are NaN"),
        ({"D": torch.eye(784)[:, :2] * torch.tensor([1.0, 0.0])}, r"lengths in \[0, 1\]"),
        ({"D": 2 * torch.eye(784)[:, :2]}, r"lengths in \[2, 2\]"),
        ({"lam": 0.0}, "lam is 0.0"),
        ({"lam": math.nan}, "lam is nan"),
        ({"lam_range": (0.0, 1.0)}, "lam_range is"),
        ({"lam_range": (0.2, 1.0)}, "lam_range is"),
        ({"lam_range": (0.09, 0.11)}, "lam_range is"),
        ({"lam_range": (0.01, math.inf)}, "lam_range is"),
        ({"lam_range": (0.01, 0.1, 1.0)}, "lam_range is"),
        ({"n_shown": 0}, "n_shown is 0"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"examples": torch.full((1, 784), 1.5)}, "examples lies in"),
        ({"examples": torch.full((1, 784), math.nan)}, "examples holds 784 values that are NaN"),
        ({"examples": torch.rand(1, 4)}, "examples has shape"),
        ({"examples": torch.rand(0, 784)}, "examples is empty"),
        ({"code": lambda x, D, lam, n_steps: x}, r"codes has shape \(1, 784\)"),
        ({"code": lambda x, D, lam, n_steps: -x @ D}, "the smallest coefficient of the codes is -"),
    ],
)
def test_sparse_pads_that_make_no_sense(shown, change, words):
    usual = {"D": strokes(5), "examples": torch.rand(1, 784), "lam": 0.1, "code": CODE}
    with pytest.raises(ValueError, match=words):
        sparse_pad(**{**usual, **change})
    assert not shown


# ------------------------------------------------------------------------------------------- ising pad


def spins_of(data: dict, name: str = "spins") -> np.ndarray:
    packed = np.frombuffer(base64.b64decode(data[name]), np.uint8)
    return 2.0 * np.unpackbits(packed, count=data["size"] ** 2) - 1


def test_an_ising_pad_begins_with_a_sample_of_the_model(shown):
    source = random.generator(3)
    ising_pad(size=128, coupling=0.5, field=-0.1, n_sweeps=100, generator=source)
    data = data_of(shown[0])
    x = torch.from_numpy(spins_of(data)).view(1, 128, 128)
    up = (first_picture(shown[0], scale=4) * 255).round()[..., 0] == 242
    assert ((x[0] > 0).numpy() == up).all()
    model = Ising(128, 128, coupling=0.5, field=-0.1, dtype=torch.float64)
    later = model.gibbs(x.repeat(8, 1, 1), 30, source)
    assert x.mean().item() == pytest.approx(later.mean().item(), abs=0.02)
    assert x.mean() < -0.9
    energies = [model.energy(t).mean().item() / 128**2 for t in (x, later)]
    assert energies[0] == pytest.approx(energies[1], abs=0.02)
    assert shown[0]["text/plain"] == f"Ising field: T = 2, b = -0.1, magnetization {x.mean():.2f}"


@pytest.mark.parametrize(
    ("coupling", "field"), [(0.44, 0.0), (1.0, -0.4), (0.25, 0.013), (0.5, 0.001)]
)
def test_the_sliders_of_an_ising_pad_begin_where_it_begins(shown, coupling, field):
    ising_pad(size=4, coupling=coupling, field=field)
    data, sliders = data_of(shown[0]), Tags(shown[0]["text/html"]).all("input")
    assert data["couplings"][int(sliders[0]["value"])] == coupling
    assert data["fields"][int(sliders[1]["value"])] == field and 0.0 in data["fields"]
    for name in ("names", "fieldNames"):
        assert len(set(data[name])) == len(data[name])
    assert sliders[0]["aria-valuetext"] == f"{1 / coupling:.3g} (J = {coupling:.3g})"
    temperatures = 1 / np.array(data["couplings"])
    assert (np.diff(temperatures) > 0).all() and (np.diff(data["fields"]) > 0).all()
    assert temperatures[0] == pytest.approx(1) and temperatures[-1] == pytest.approx(4)
    sinh = np.sinh(2 / temperatures)
    exact = np.where(sinh > 1, np.clip(1 - sinh**-4.0, 0, 1) ** 0.125, 0)
    np.testing.assert_allclose(data["exact"], exact, atol=1e-6)


def test_the_structure_of_an_ising_pad(shown):
    ising_pad(size=16, alt='an "alt"', caption="a < b")
    found = structure(shown[0], "ising-pad", n_canvases=2, n_buttons=5, n_sliders=3)
    assert found.all("img")[0]["alt"].startswith('an "alt": T = 2.27, b = 0, magnetization ')


def structure(bundle: dict, kind: str, n_canvases: int, n_buttons: int, n_sliders: int) -> Tags:
    """What is so of every pad that moves by itself."""
    text = bundle["text/html"]
    found = Tags(text)
    assert [a["class"] for a in found.all("figure")] == [kind]
    assert len(found.all("canvas")) == n_canvases
    seen = [a for a in found.all("canvas") if a.get("aria-hidden") != "true"]
    assert all(a["role"] == "img" and a["aria-label"] for a in seen)
    controls = [*found.all("button"), *found.all("input")]
    assert [a["data-lm-suppress-shortcuts"] for a in controls] == ["true"] * (n_buttons + n_sliders)
    assert (
        len(found.all("input")) == len(found.all("label")) == len(found.all("output")) == n_sliders
    )
    assert all(a["type"] == "range" and a["aria-valuetext"] for a in found.all("input"))
    assert all(a["type"] == "button" for a in found.all("button"))
    (live,) = [a for a in found.all("div") if a.get("class") == "pad-live"]
    assert live["hidden"] == "hidden" and "a &lt; b" in text
    assert [a.get("class") for a in found.all("div")].count("pad-still") == 1
    assert [a.get("aria-live") for a in found.all("p")].count("polite") == 1
    assert not re.search(r"https?:", text) and all("src" not in a for a in found.all("script"))
    assert all("id" not in attrs for _, attrs in found.tags)
    assert set(bundle) == {"text/html", "image/png", "text/plain"}
    return found


def test_ising_pads_are_the_same_twice_and_small(shown):
    for _ in range(2):
        ising_pad(generator=random.generator(0))
    assert shown[0] == shown[1] and len(shown[0]["text/html"]) < 40_000
    ising_pad(generator=random.generator(1))
    assert data_of(shown[2])["spins"] != data_of(shown[0])["spins"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 5}, "size is 5; expected an even number"),
        ({"size": 2}, "size is 2"),
        ({"size": 258}, "size is 258"),
        ({"coupling": 0.2}, "coupling is 0.2"),
        ({"coupling": -0.5}, "coupling is -0.5"),
        ({"coupling": math.nan}, "coupling is nan"),
        ({"field": 0.5}, "field is 0.5"),
        ({"field": math.inf}, "field is inf"),
        ({"n_sweeps": -1}, "n_sweeps is -1"),
    ],
)
def test_ising_pads_that_make_no_sense(shown, change, words):
    with pytest.raises(ValueError, match=words):
        ising_pad(**change)
    assert not shown


# ---------------------------------------------------------------------------------------- hopfield pad


def memories(n: int, n_patterns: int, rule: str = "hebb") -> tuple[torch.Tensor, torch.Tensor]:
    """Weights that store random patterns, and the patterns."""
    x = 2.0 * torch.randint(0, 2, (n_patterns, n)) - 1
    W = x.T @ x / n if rule == "hebb" else torch.linalg.pinv(x) @ x
    return ((W + W.T) / 2).fill_diagonal_(0), x


def weights_of(data: dict) -> np.ndarray:
    """The page's weights, from the page."""
    kind = {8: "i1", 16: "<f2", 32: "<f4"}[data["bits"]]
    W = np.zeros((data["n"], data["n"]))
    W[np.triu_indices(data["n"], 1)] = np.frombuffer(base64.b64decode(data["weights"]), kind)
    return data["scale"] * (W + W.T)


@pytest.mark.parametrize("n_patterns", [1, 2, 3, 4, 7, 12])
def test_hebbs_weights_travel_as_whole_numbers(shown, n_patterns):
    W, x = memories(100, n_patterns)
    hopfield_pad(W, x, (10, 10))
    data = data_of(shown[0])
    assert data["bits"] == 8
    np.testing.assert_allclose(weights_of(data), W.numpy(), atol=1e-8)


def test_other_weights_travel_as_half_precision_where_that_is_enough(shown):
    W, x = memories(100, 10, "projection")
    loud = torch.zeros(100, 100)
    loud[0, 1] = loud[1, 0] = 1.0
    loud[2, 3:] = loud[3:, 2] = 1e-9 * (
        1 + torch.rand(97)
    )  # nothing beside the largest, yet all that pulls at unit 2
    for weights, size, precision in ((W, 16, 2**-11), (loud, 32, 2**-24)):
        hopfield_pad(weights, x, (5, 20))
        data = data_of(shown[-1])
        assert data["bits"] == size
        np.testing.assert_allclose(weights_of(data), weights, rtol=precision, atol=1e-7)
    assert len(shown[0]["text/html"]) < 45_000


def test_the_largest_hopfield_pad_stays_small(shown):
    W, x = memories(784, 5, "projection")
    hopfield_pad(W, x, (28, 28))
    assert len(shown[0]["text/html"]) < 900_000


def test_the_first_picture_of_a_hopfield_pad_is_what_it_recalls(shown):
    W, x = memories(400, 9)
    b = 0.1 * torch.randn(400)
    hopfield_pad(W, x, (20, 20), bias=b, labels=list("abcdefghi"))
    data = data_of(shown[0])
    assert sorted(data["order"]) == list(range(400)) and data["order"] != sorted(data["order"])
    bits = [
        np.frombuffer(base64.b64decode(text), np.uint8)
        for text in (*data["patterns"], data["start"])
    ]
    states = torch.tensor(np.array([2.0 * np.unpackbits(part, count=400) - 1 for part in bits]))
    assert torch.equal(states[:9], x.double()) and (states[9] != states[0]).sum() == 80
    s, before = states[9].clone(), None
    while before is None or not torch.equal(s, before):
        before = s.clone()
        for i in data["order"]:
            pull = W[i].double() @ s + b[i]
            s[i] = pull.sign() if pull.abs() > 1e-12 else s[i]
    png = first_picture(shown[0])
    assert png.shape == (22, 66)
    for k, tile in enumerate((x[0], states[9], s)):
        seen = png[1:21, 22 * k + 1 : 22 * k + 21]
        assert (seen == (tile.view(20, 20).numpy() + 1) / 2).all()
    assert shown[0]["text/plain"] == (
        "State of the Hopfield network: pattern a, the same with 80 of 400 pixels flipped, "
        f"and what is recalled, of which {(s != x[0]).sum()} pixels differ from the pattern"
    )


def test_the_structure_of_a_hopfield_pad(shown):
    W, x = memories(20, 2)
    hopfield_pad(W, x, (4, 5), alt='an "alt"', caption="a < b", labels=["<b>", "</script>"])
    found = structure(shown[0], "hopfield-pad", n_canvases=4, n_buttons=7, n_sliders=1)
    assert found.all("img")[0]["alt"].startswith('an "alt": pattern <b>, the same with 4 of 20')
    assert not found.all("b") and data_of(shown[0])["labels"] == ["<b>", "</script>"]


def test_a_hopfield_pad_leaves_everything_as_it_is_and_is_the_same_twice(shown):
    W, x = memories(64, 3)
    before, state = (W.clone(), x.clone()), torch.get_rng_state()
    for _ in range(2):
        hopfield_pad(W, x, (8, 8))
    assert shown[0] == shown[1] and torch.equal(state, torch.get_rng_state())
    assert torch.equal(W, before[0]) and torch.equal(x, before[1])


def test_a_network_without_weights_stays_as_it_is(shown):
    hopfield_pad(torch.zeros(10, 10), torch.ones(1, 10), (2, 5))
    assert "of which 2 pixels differ" in shown[0]["text/plain"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"W": torch.zeros(6, 5)}, r"W has shape \(6, 5\)"),
        ({"W": torch.ones(6, 6)}, "the diagonal of W holds numbers up to 1; expected 0"),
        ({"W": torch.ones(6, 6).triu(1)}, "W and its transpose differ by up to 1"),
        ({"W": torch.full((6, 6), math.nan)}, "W holds 36 values that are NaN"),
        ({"W": torch.zeros(6, 6).long()}, "W is torch.int64"),
        ({"W": torch.zeros(1, 1)}, "number of units is 1"),
        ({"W": torch.zeros(800, 800)}, "number of units is 800"),
        ({"patterns": torch.zeros(2, 6)}, "patterns hold other numbers than −1 and 1"),
        ({"patterns": torch.ones(2, 5)}, r"patterns has shape \(2, 5\)"),
        ({"patterns": torch.ones(13, 6)}, "number of patterns is 13"),
        ({"patterns": torch.ones(0, 6)}, "patterns is empty"),
        ({"shape": (2, 2)}, r"shape is \(2, 2\); expected rows and columns of 6 pixels"),
        ({"shape": (-2, -3)}, "shape is"),
        ({"bias": torch.zeros(5)}, r"bias has shape \(5,\)"),
        ({"bias": torch.full((6,), math.inf)}, "bias holds 6 values"),
        ({"labels": ["a"]}, "patterns has 2, labels has 1"),
    ],
)
def test_hopfield_pads_that_make_no_sense(shown, change, words):
    usual = {"W": torch.zeros(6, 6), "patterns": torch.ones(2, 6), "shape": (2, 3)}
    with pytest.raises(ValueError, match=words):
        hopfield_pad(**{**usual, **change})
    assert not shown


# --------------------------------------------------------------------------------------------- rbm pad


def machine(k: int, d: int, scale: float = 0.3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return scale * torch.randn(k, d), torch.randn(k), torch.randn(d) - 1


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(a, -700, 700)))


def machine_of(data: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The page's weights and biases, from the page."""
    kind = {16: "<f2", 32: "<f4"}[data["bits"]]
    whole = np.frombuffer(base64.b64decode(data["weights"]), kind).astype(np.float64)
    k, d = data["k"], data["shape"][0] * data["shape"][1]
    assert len(whole) == k * d + k + d
    return whole[: k * d].reshape(k, d), whole[k * d : k * d + k], whole[k * d + k :]


def units_of(data: dict) -> np.ndarray:
    packed = np.frombuffer(base64.b64decode(data["hidden"]), np.uint8)
    return np.unpackbits(packed, count=data["n"] * data["k"]).reshape(data["n"], data["k"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_rbm_pad_has_the_conditionals_of_torch(shown, dtype):
    W, b, c = (t.to(dtype) for t in machine(128, 784, 0.1))
    rbm_pad(W, b, c, (28, 28), n_steps=3)
    data = data_of(shown[0])
    Wp, bp, cp = machine_of(data)
    v, h = (torch.rand(20, n).round().to(dtype) for n in (784, 128))
    hidden, visible = (v @ W.T + b).sigmoid(), (h @ W + c).sigmoid()
    assert data["bits"] == 16 and len(shown[0]["text/html"]) < 310_000
    assert np.abs(sigmoid(v.numpy() @ Wp.T + bp) - hidden.numpy()).max() < 2e-3
    assert np.abs(sigmoid(h.numpy() @ Wp + cp) - visible.numpy()).max() < 2e-3


@pytest.mark.parametrize("scale", [300.0, 1e5])
def test_weights_of_an_rbm_that_half_precision_cannot_hold_travel_as_they_are(shown, scale):
    W, b, c = machine(20, 64, 1.0)
    W, b = scale * W, -scale * W.sum(1) / 2  # pulls that all but cancel
    v = torch.rand(5, 64).round()
    rbm_pad(W, b, c, (8, 8), start=v)
    data = data_of(shown[0])
    assert data["bits"] == 32
    Wp, bp, _ = machine_of(data)
    assert np.abs(sigmoid(v.numpy() @ Wp.T + bp) - (v @ W.T + b).sigmoid().numpy()).max() < 0.02


def test_the_first_picture_of_an_rbm_pad_shows_its_particles(shown):
    W, b, c = machine(12, 20)
    rbm_pad(W, b, c, (4, 5), n_chains=5)
    data, png = data_of(shown[0]), first_picture(shown[0], scale=4)
    assert data["n"] == 5 and png.shape == (2 * 5 - 1, 3 * 6 - 1)
    means = sigmoid(units_of(data) @ W.double().numpy() + c.double().numpy())
    for i, image in enumerate(means):
        top, left = i // 3 * 5, i % 3 * 6
        seen = png[top : top + 4, left : left + 5]
        assert np.abs(seen - image.reshape(4, 5)).max() <= 0.51 / 255


def test_particles_follow_the_law_of_the_machine(shown):
    W, b, c = machine(3, 6, 1.0)
    v = ((torch.arange(64)[:, None] >> torch.arange(6)) % 2).float()
    free = -(v @ c) - torch.nn.functional.softplus(v @ W.T + b).sum(1)
    expected = ((-free).softmax(0)[:, None] * (v @ W.T + b).sigmoid()).sum(0)
    for _ in range(60):
        rbm_pad(W, b, c, (2, 3), n_chains=16, n_steps=30)
    seen = np.concatenate([units_of(data_of(bundle)) for bundle in shown]).mean(0)
    assert np.abs(seen - expected.numpy()).max() < 0.06  # four standard deviations of 960 particles


def test_an_rbm_pad_that_starts_somewhere(shown):
    W, b, c = machine(6, 4, 100.0)
    start = torch.tensor([[0.0, 1, 0, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
    rbm_pad(W, b, c, (2, 2), start=start)
    data = data_of(shown[0])
    assert data["n"] == 3 and (units_of(data) == (start @ W.T + b > 0).numpy()).all()


def test_the_structure_of_an_rbm_pad(shown):
    rbm_pad(*machine(3, 6), (2, 3), alt='an "alt"', caption="a < b")
    found = structure(shown[0], "rbm-pad", n_canvases=2, n_buttons=8, n_sliders=1)
    assert found.all("img")[0]["alt"] == 'an "alt"'
    pressed = [a["aria-pressed"] for a in found.all("button") if "aria-pressed" in a]
    assert pressed == ["true", "false", "false"]


def test_rbm_pads_are_the_same_twice(shown):
    parts = machine(5, 6)
    before = [t.clone() for t in parts]
    for _ in range(2):
        rbm_pad(*parts, (2, 3), generator=random.generator(0))
    assert shown[0] == shown[1] and all(torch.equal(s, t) for s, t in zip(before, parts))
    rbm_pad(*(torch.nn.Parameter(t) for t in parts), (2, 3), generator=random.generator(1))
    assert data_of(shown[2])["weights"] == data_of(shown[0])["weights"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"W": torch.zeros(6)}, r"W has shape \(6,\); expected 2 axes"),
        ({"W": torch.full((3, 6), math.nan)}, "W holds 18 values that are NaN"),
        ({"W": torch.zeros(3, 6).half()}, "W is torch.float16"),
        ({"W": torch.zeros(1000, 600)}, "number of weights is 600000"),
        ({"b": torch.zeros(6)}, r"b has shape \(6,\); expected \(3,\)"),
        ({"c": torch.zeros(3)}, r"c has shape \(3,\); expected \(6,\)"),
        ({"c": torch.zeros(6).double()}, "c is torch.float64, the model torch.float32"),
        ({"b": torch.full((3,), math.inf)}, "b holds 3 values"),
        ({"shape": (2, 2)}, r"shape is \(2, 2\); expected rows and columns of 6 pixels"),
        ({"shape": (6,)}, "shape is"),
        ({"start": torch.full((2, 6), 1.5)}, "start lies in"),
        ({"start": torch.rand(2, 5)}, "start has shape"),
        ({"start": torch.rand(17, 6)}, "n_chains is 17"),
        ({"n_chains": 0}, "n_chains is 0"),
        ({"n_chains": 17}, "n_chains is 17"),
        ({"n_steps": -1}, "n_steps is -1"),
    ],
)
def test_rbm_pads_that_make_no_sense(shown, change, words):
    usual = {"W": torch.zeros(3, 6), "b": torch.zeros(3), "c": torch.zeros(6), "shape": (2, 3)}
    with pytest.raises(ValueError, match=words):
        rbm_pad(**{**usual, **change})
    assert not shown


# ------------------------------------------------------------------------------------------ stroke pad


def pen(activation=nn.ReLU, last=nn.Tanh) -> nn.Sequential:
    return mlp([6, 20, 30], activation, last=last)


def hints(n: int = 2, n_pixels: int = 30) -> torch.Tensor:
    drawn = torch.randint(-1, 2, (n, n_pixels)).float()
    drawn[:, 0] = 1
    return drawn


def strokes_of(data: dict) -> np.ndarray:
    packed = [np.frombuffer(base64.b64decode(text), np.uint8) for text in data["examples"]]
    return np.array([0, -1, 1])[np.stack(packed)]


def searched(
    data: dict, drawn: np.ndarray, n_steps: int, weights: float
) -> tuple[np.ndarray, np.ndarray]:
    """Code and picture after some steps of Adam by the arithmetic of web/pads-stroke.js, for ReLU and tanh."""
    kind = {16: "<f2", 32: "<f4"}[data["bits"]]
    w, at, layers = np.frombuffer(base64.b64decode(data["weights"]), kind).astype(float), 0, []
    for layer in data["layers"]:
        rows, columns = layer["rows"], layer["columns"]
        end = at + rows * columns
        layers.append((w[at:end].reshape(rows, columns), w[end : end + rows]))
        at = end + rows
    (W1, b1), (W2, b2) = layers
    low, high = data["range"]
    wanted = np.where(drawn > 0, high, low)
    z = np.array(data["start"])
    m = v = np.zeros_like(z)
    for t in range(1, n_steps + 1):
        a = W1 @ z + b1
        y = np.tanh(W2 @ np.maximum(a, 0) + b2)
        slope = 2 * (y - wanted) * (drawn != 0) * (1 - y**2)
        g = W1.T @ ((W2.T @ slope) * (a > 0)) + weights * z
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        z = z - data["lr"] * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return z, np.tanh(W2 @ np.maximum(W1 @ z + b1, 0) + b2)


def test_a_stroke_pad_finds_what_its_python_twin_finds(shown):
    generator, drawn, start = pen(), hints(), torch.randn(6)
    stroke_pad(
        generator, (5, 6), examples=drawn, project=project, start=start, prior=2.0, n_steps=30
    )
    data, png = data_of(shown[0]), first_picture(shown[0])
    assert data["bits"] == 16 and data["steps"] == 30 and data["priors"][3] == 2.0
    assert (strokes_of(data) == drawn.numpy()).all()
    z, y = searched(data, drawn[0].numpy(), 30, 2.0)
    mask = (drawn[:1] != 0).float()
    found = project(
        generator,
        drawn[:1],
        start[None],
        distance=lambda a, b: (mask * (a - b)).square().sum(1),
        prior=2.0,
        n_steps=30,
    )
    assert np.abs(found.z.numpy() - z).max() < 3e-3
    assert np.abs(generator(found.z).detach().numpy() - y).max() < 3e-3
    plain = png[:, 7:, :]
    assert png.shape == (5, 13, 3)
    assert np.abs(plain - (y.reshape(5, 6, 1) + 1) / 2).max() < 3e-3 + 0.51 / 255
    left, kinds = (png[:, :6] * 255).round().reshape(30, 3), drawn[0].numpy()
    assert (left[kinds > 0] == [230, 159, 0]).all() and (left[kinds < 0] == [0, 80, 127]).all()
    assert (left[kinds == 0] == (plain * 255).round().reshape(30, 3)[kinds == 0]).all()
    error = (((y - np.where(kinds > 0, 1, -1)) / 2)[kinds != 0] ** 2).mean()
    said = re.search(r": (\d+) pixels drawn, error ([\d.]+) each", shown[0]["text/plain"])
    assert int(said[1]) == (kinds != 0).sum() and abs(float(said[2]) - error) < 2e-3


@pytest.mark.parametrize("values", [(0.0, 1.0), (-3.0, 5.0), (1.0, 0.0)])
def test_a_stroke_pad_of_other_values(shown, values):
    generator = nn.Sequential(nn.Linear(2, 30)).double()
    drawn, seen = hints(1), []

    def twin(G, x, z, **settings):
        seen.append((x, z, settings))
        return project(G, x, z, **settings)

    stroke_pad(generator, (5, 6), examples=drawn, project=twin, values=values, lr=0.1, n_steps=3)
    ((x, z, settings),) = seen
    assert torch.equal(x, torch.where(drawn > 0, values[1], values[0]).double())
    assert torch.equal(z, torch.zeros(1, 2).double()) and settings.pop("distance")
    assert settings == {"prior": 1.0, "n_steps": 3, "lr": 0.1}
    assert data_of(shown[0])["range"] == list(values)


def test_the_structure_of_a_stroke_pad(shown):
    generator = mlp([16, 128, 784], last=nn.Tanh)
    drawn = hints(3, 784)
    stroke_pad(
        generator, (28, 28), examples=drawn, project=project, alt='an "alt"', caption="a < b"
    )
    found = structure(shown[0], "stroke-pad", n_canvases=2, n_buttons=8, n_sliders=1)
    assert found.all("img")[0]["alt"].startswith('an "alt": ')
    (slider,) = found.all("input")
    assert slider["aria-valuetext"] == "1" == data_of(shown[0])["names"][int(slider["value"])]
    pressed = [a["aria-pressed"] for a in found.all("button") if "aria-pressed" in a]
    assert pressed == ["true", "false", "false"]
    assert len(shown[0]["text/html"]) < 310_000


def test_a_stroke_pad_leaves_everything_as_it_is_and_is_the_same_twice(shown):
    generator, drawn = pen().double(), hints().double()
    before = [p.clone() for p in generator.parameters()]
    state = torch.get_rng_state()
    for _ in range(2):
        stroke_pad(generator, (5, 6), examples=drawn, project=project)
    assert shown[0] == shown[1] and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(before, generator.parameters()))
    assert all(p.grad is None for p in generator.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"generator": nn.Sequential(nn.Linear(6, 30), nn.GELU())}, "cannot run in a page"),
        ({"generator": nn.Linear(6, 20)}, r"shape is \(5, 6\); expected rows and columns of 20"),
        ({"generator": nn.Linear(20000, 30)}, "number of weights is 600030"),
        ({"shape": (30,)}, "shape is"),
        ({"examples": torch.ones(1, 20)}, "examples has shape"),
        ({"examples": torch.full((1, 30), 0.5)}, "other numbers than −1, 0 and 1"),
        ({"examples": torch.zeros(1, 30)}, "one has no stroke"),
        ({"examples": torch.full((1, 30), 2.0)}, "examples lies in"),
        ({"examples": torch.full((1, 30), math.nan)}, "examples holds 30 values"),
        ({"start": torch.zeros(5)}, r"start has shape \(5,\)"),
        ({"start": torch.full((6,), math.inf)}, "start holds 6 values"),
        ({"values": (1.0, 1.0)}, "values are"),
        ({"values": (0.0, math.nan)}, "high is nan"),
        ({"priors": (0.0, 2.0)}, "with prior = 1.0 among them"),
        ({"priors": (1.0, 0.0)}, "ascending"),
        ({"priors": (1.0,)}, "two or more"),
        ({"priors": (-1.0, 1.0)}, r"priors\[0\] is -1.0"),
        ({"n_steps": 0}, "n_steps is 0"),
        ({"lr": 0.0}, "lr is 0.0"),
    ],
)
def test_stroke_pads_that_make_no_sense(shown, change, words):
    usual = {"generator": pen(), "shape": (5, 6), "examples": hints(), "project": project}
    with pytest.raises(ValueError, match=words):
        stroke_pad(**{**usual, **change})
    assert not shown
