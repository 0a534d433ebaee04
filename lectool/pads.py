r"""Small networks that run in the reader's browser: a plane of codes to walk on, a pad to draw on.

The weights travel in the page as 16-bit floats and a short script does the forward pass, so that a
pad moves without a kernel, without a network, and in the built page just as in Colab.
"""

import base64
import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from IPython.display import display
from PIL import Image
from torch import Tensor, nn

from lectool.explore import embed, web_file
from lectool.plot import class_color

__all__ = ["latent_pad", "sketch_pad"]

ACTIVATIONS = {
    nn.Identity: "identity",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.Softplus: "softplus",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
}


def latent_pad(
    decoder: nn.Module,
    shape: tuple[int, int],
    *,
    points: Tensor | None = None,
    labels: Tensor | None = None,
    bounds: Sequence[tuple[float, float]] | None = None,
    start: Sequence[float] | None = None,
    base: Tensor | None = None,
    axes: tuple[int, int] = (0, 1),
    names: tuple[str, str] = ("z₁", "z₂"),
    values: tuple[float, float] = (0.0, 1.0),
    alt: str = "Image decoded at the chosen code",
    caption: str = "",
    autoplay: bool = False,
) -> None:
    r"""A plane of codes: the reader drags a point, by hand or by two sliders, and sees what it decodes to.

    Arguments:
        decoder: linear layers and activations in ``nn.Sequential``, from k code numbers to pixels.
        shape: (rows, columns) of the decoded image.
        points: codes to show in the plane as orientation, shape (n, 2); a few hundred are enough.
        labels: the class of each point, shape (n,); sets its colour, and the class's name at its median.
        bounds: (lowest, highest) of each axis; the points' range with a small edge where ``None``.
        start: where the point lies at first; the middle where ``None``.
        base: the code whose other coordinates stay as they are, shape (k,); zeros where ``None``.
        axes: which two of the k coordinates move.
        names: of the two coordinates.
        values: what is drawn black and white.
        alt: description of the image, to which the code's coordinates are added as they change.
        caption: one or two sentences below.
        autoplay: whether the point wanders by itself until it is touched (never where the reader has
            asked the system for less motion).

    Raises:
        ValueError: if the decoder has other parts than linear layers and known activations, its sizes do
            not fit, or neither ``points`` nor ``bounds`` is given.
    """
    layers, weights, n_in, n_out = _pack(decoder)
    if n_out != shape[0] * shape[1]:
        raise ValueError(f"the decoder makes {n_out} numbers; expected {shape[0]}×{shape[1]}")
    base = torch.zeros(n_in) if base is None else base.detach().cpu().float()
    if base.shape != (n_in,) or n_in < 2 or not 0 <= min(axes) < max(axes) < n_in:
        raise ValueError(
            f"base has shape {tuple(base.shape)} and axes are {axes}; the code has {n_in} numbers"
        )
    bounds = _bounds(points, bounds)
    start = [sum(b) / 2 for b in bounds] if start is None else [float(v) for v in start]
    data = {
        "layers": layers,
        "weights": weights,
        "shape": list(shape),
        "base": [round(v, 5) for v in base.tolist()],
        "axes": list(axes),
        "bounds": bounds,
        "range": list(values),
        "names": list(names),
        "alt": alt,
        "autoplay": autoplay,
        **_map(points, labels),
    }
    code = base.clone()
    code[list(axes)] = torch.tensor(start)
    picture = _still(decoder, code, shape, values)
    sliders = "".join(
        _slider(name, low, high, at)
        for name, (low, high), at in zip(names, bounds, start, strict=True)
    )
    page = (
        f'<figure class="latent-pad"><style>{web_file("figure.css")}</style><div class="pad-views">'
        f'<div class="pad-view"><canvas class="pad-plane" width="512" height="512" role="img" '
        f'aria-label="Plane of codes with the chosen point"></canvas>plane of codes: drag the point</div>'
        f'<div class="pad-view"><canvas class="pad-pixels" width="{shape[1]}" height="{shape[0]}" role="img" '
        f'aria-label="{html.escape(alt, True)}"></canvas>decoded image</div></div>'
        f'{sliders}<p class="ex-live" role="status" aria-live="polite"></p>'
        f'<noscript><p>The pad needs JavaScript; this is the first picture.</p><img src="data:image/png;base64,'
        f'{picture}" width="224" alt="{html.escape(alt, True)}"></noscript>'
        f"{_end(caption, data)}"
    )
    display({"text/html": page, "image/png": picture, "text/plain": f"{alt} at {start}"}, raw=True)


def sketch_pad(
    encoder: nn.Module,
    decoder: nn.Module,
    *,
    examples: Tensor,
    alt: str = "Reconstruction of the drawn digit",
    caption: str = "",
) -> None:
    r"""A pad to draw a digit on: the page's trained network encodes and reconstructs it at once.

    The drawing is scaled to 20×20 pixels and centred by its mass in 28×28, as MNIST was made.

    Arguments:
        encoder, decoder: linear layers and activations in ``nn.Sequential``, from 784 pixels in [0, 1]
            to the code and back.
        examples: images that the reader can put on the pad by a button, shape (n, 784): the way in for those
            who do not draw.
        alt: description of the reconstruction.
        caption: one or two sentences below.

    Raises:
        ValueError: if a network has other parts than linear layers and known activations, or sizes that
            do not fit.
    """
    layers, weights, n_pixels, k = _pack(nn.Sequential(encoder, decoder))
    if n_pixels != 784 or k != 784 or examples.ndim != 2 or examples.shape[1] != 784:
        raise ValueError(
            f"sizes are {n_pixels} → {k}, examples {tuple(examples.shape)}; expected 784 each"
        )
    n_code_layers = sum(1 for part in _parts(encoder) if isinstance(part, nn.Linear))
    data = {
        "layers": layers,
        "weights": weights,
        "code": n_code_layers,
        "examples": [base64.b64encode(_bytes(x)).decode() for x in examples],
        "alt": alt,
    }
    with torch.no_grad():
        first = examples[:1].to(next(encoder.parameters()))
        picture = _png(_bytes(decoder(encoder(first))[0]).reshape(28, 28))
    views = "".join(
        f'<div class="pad-view"><canvas class="{css}" width="{n}" height="{n}" role="img" aria-label="{label}">'
        f"</canvas>{text}</div>"
        for css, n, label, text in (
            ("pad-draw", 280, "Drawing area", 'draw here <button type="button" class="pad-clear">clear</button> '
             '<button type="button" class="pad-example">next example</button>'),
            ("pad-pixels pad-input", 28, "What the network sees", "what the network sees"),
            ("pad-pixels pad-output", 28, html.escape(alt, True), "its reconstruction"),
        )
    )  # fmt: skip
    page = (
        f'<figure class="sketch-pad"><style>{web_file("figure.css")}</style><div class="pad-views">{views}</div>'
        '<p class="pad-readout" role="status" aria-live="polite"></p>'
        f'<noscript><p>The pad needs JavaScript; this is one reconstruction.</p><img src="data:image/png;base64,'
        f'{picture}" width="224" alt="{html.escape(alt, True)}"></noscript>'
        f"{_end(caption, data)}"
    )
    display({"text/html": page, "image/png": picture, "text/plain": alt}, raw=True)


def _parts(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.Sequential):
        return [part for child in module for part in _parts(child)]
    return [module]


def _known(part: nn.Module) -> bool:
    # The page's script has the activations at their default settings only.
    settings = ("negative_slope", "alpha", "beta", "threshold")
    usual = type(part)() if type(part) in ACTIVATIONS else None
    return usual is not None and all(
        getattr(part, s, None) == getattr(usual, s, None) for s in settings
    )


def _pack(module: nn.Module) -> tuple[list[dict[str, Any]], str, int, int]:
    r"""Layers as [{rows, columns, activation}], all weights as base64 of float16, width in, width out."""
    layers: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for part in _parts(module):
        if isinstance(part, nn.Linear):
            if layers and layers[-1]["rows"] != part.in_features:
                raise ValueError(f"{part} does not fit behind {layers[-1]['rows']} numbers")
            layers.append(
                {"rows": part.out_features, "columns": part.in_features, "act": "identity"}
            )
            bias = torch.zeros(part.out_features) if part.bias is None else part.bias
            for t in (part.weight, bias):
                chunks.append(t.detach().cpu().numpy().astype("<f2").tobytes())
        elif _known(part) and layers and layers[-1]["act"] == "identity":
            layers[-1]["act"] = ACTIVATIONS[type(part)]
        else:
            known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
            raise ValueError(
                f"{part} cannot run in a page; expected nn.Linear, each followed by one of {known}"
            )
    if not layers:
        raise ValueError("the network has no linear layer")
    return (
        layers,
        base64.b64encode(b"".join(chunks)).decode(),
        layers[0]["columns"],
        layers[-1]["rows"],
    )


def _bounds(
    points: Tensor | None, bounds: Sequence[tuple[float, float]] | None
) -> list[list[float]]:
    if bounds is not None:
        if len(bounds) != 2 or any(low >= high for low, high in bounds):
            raise ValueError(f"bounds are {bounds}; expected two pairs, each ascending")
        return [[float(low), float(high)] for low, high in bounds]
    if points is None:
        raise ValueError("neither points nor bounds are given; expected one of them")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points have shape {tuple(points.shape)}; expected (n, 2)")
    low, high = points.detach().min(0).values, points.detach().max(0).values
    edge = 0.05 * (high - low)
    return [
        [round(a, 4), round(b, 4)]
        for a, b in zip((low - edge).tolist(), (high + edge).tolist(), strict=True)
    ]


def _map(points: Tensor | None, labels: Tensor | None) -> dict[str, list]:
    if points is None:
        return {"points": [], "colors": [], "marks": []}
    points = points.detach().cpu()
    y = torch.zeros(len(points), dtype=torch.int64) if labels is None else labels.cpu()
    n_classes = int(y.max()) + 1
    rows = [
        [round(a, 3), round(b, 3), c] for (a, b), c in zip(points.tolist(), y.tolist(), strict=True)
    ]
    marks = []
    if labels is not None:
        marks = [
            [*[round(v, 3) for v in points[y == c].median(0).values.tolist()], c]
            for c in y.unique().tolist()
        ]
    return {"points": rows, "colors": [class_color(i) for i in range(n_classes)], "marks": marks}


def _slider(name: str, low: float, high: float, at: float) -> str:
    return (
        f'<label class="ex-row"><span class="ex-name">{html.escape(name)}</span><input type="range" min="{low:.6g}" '
        f'max="{high:.6g}" step="{(high - low) / 200:.6g}" value="{at:.6g}"><output>{at:.2f}</output></label>'
    )


def _end(caption: str, data: dict[str, Any]) -> str:
    return (
        (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "")
        + f'<script type="application/json">{embed(data)}</script><script>{web_file("pads.js")}</script></figure>'
    )


def _still(
    decoder: nn.Module, code: Tensor, shape: tuple[int, int], values: tuple[float, float]
) -> str:
    p = next(decoder.parameters())
    with torch.no_grad():
        x = decoder(code[None].to(p))[0]
    return _png(_bytes((x - values[0]) / (values[1] - values[0])).reshape(shape))


def _bytes(x: Tensor) -> np.ndarray:
    return (x.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    big = Image.fromarray(pixels).resize(
        (pixels.shape[1] * 8, pixels.shape[0] * 8), Image.Resampling.NEAREST
    )
    big.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
