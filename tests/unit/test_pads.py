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

from lectool import pads
from lectool.nets import mlp
from lectool.pads import latent_pad, sketch_pad, sparse_pad
from lectool.sparse import fista, shrink_positive


@pytest.fixture(autouse=True)
def shown(monkeypatch) -> list[dict]:
    bundles: list[dict] = []
    monkeypatch.setattr(pads, "display", lambda bundle, raw: bundles.append(bundle))
    torch.manual_seed(0)
    return bundles


def data_of(bundle: dict) -> dict:
    return json.loads(
        re.search(r'<script type="application/json">(.*?)</script>', bundle["text/html"], re.S)[1]
    )


# As in web/pads.js.
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


def first_picture(bundle: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(bundle["image/png"]))))[::8, ::8] / 255


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
