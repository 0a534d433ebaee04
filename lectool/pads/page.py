r"""What the pads have in common: the figure, its buttons and sliders, and how numbers and pictures travel in it."""

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from IPython.display import display
from PIL import Image
from torch import Tensor

from lectool.explore import OWN_KEYS, embed, web_file

__all__ = [
    "as_bytes",
    "buttons",
    "choice_slider",
    "drawing_area",
    "figure_html",
    "n_decimals",
    "numbers",
    "packed_bits",
    "packed_bytes",
    "packed_floats",
    "packed_images",
    "pixel_view",
    "png",
    "show",
    "slider",
    "stand_in",
    "tools",
    "view",
    "words_below",
]

# A page carries its pad's scripts alone.
SCRIPTS = {
    "latent-pad": ("pads.js", "pads-network.js", "pads-latent.js"),
    "sketch-pad": ("pads.js", "pads-network.js", "pads-drawing.js", "pads-sketch.js"),
    "sparse-pad": ("pads.js", "pads-drawing.js", "pads-sparse.js"),
    "ising-pad": ("pads.js", "pads-moving.js", "pads-ising.js"),
    "hopfield-pad": ("pads.js", "pads-moving.js", "pads-hopfield.js"),
    "rbm-pad": ("pads.js", "pads-moving.js", "pads-rbm.js"),
    "stroke-pad": ("pads.js", "pads-network.js", "pads-moving.js", "pads-stroke.js"),
}


def words_below(text: str) -> str:
    r"""A few words below a canvas."""
    # By the style sheet: a front end that takes canvases away takes this too, and no words are left without a picture.
    return f'<span class="pad-words" data-words="{text}"></span>'


def drawing_area() -> str:
    r"""The area to draw on, with its buttons."""
    return (
        '<div class="pad-view"><canvas class="pad-draw" width="280" height="280" role="img" '
        f'aria-label="Drawing area"></canvas>{words_below("draw here")} '
        f'<button type="button" {OWN_KEYS} class="pad-clear">clear</button> '
        f'<button type="button" {OWN_KEYS} class="pad-example">next example</button></div>'
    )


def pixel_view(css: str, label: str, words: str) -> str:
    r"""An image of 28×28 pixels with a few words below."""
    return (
        f'<div class="pad-view"><canvas class="pad-pixels {css}" width="28" height="28" role="img" '
        f'aria-label="{html.escape(label, True)}"></canvas>{words_below(words)}</div>'
    )


def view(css: str, width: int, height: int, label: str, words: str, after: str = "") -> str:
    r"""A canvas with a few words below, and what else belongs to it."""
    return (
        f'<div class="pad-view"><canvas class="{css}" width="{width}" height="{height}" role="img" '
        f'aria-label="{html.escape(label, True)}"></canvas>{words_below(words)}{after}</div>'
    )


def buttons(**names: str) -> str:
    r"""A row of buttons: the words on each, by what the script calls it."""
    row = " ".join(
        f'<button type="button" {OWN_KEYS} class="pad-{css}">{html.escape(name)}</button>'
        for css, name in names.items()
    )
    return f'<div class="pad-buttons">{row}</div>'


def tools(what: str, *names: str) -> str:
    r"""Buttons of which one is pressed, the first at first."""
    row = " ".join(
        f'<button type="button" {OWN_KEYS} aria-pressed="{str(not i).lower()}">{html.escape(name)}</button>'
        for i, name in enumerate(names)
    )
    return f'<div class="pad-buttons pad-tools" role="group" aria-label="{html.escape(what, True)}">{row}</div>'


def numbers(*names: str) -> str:
    r"""A list of numbers, which the script fills in."""
    rows = "".join(f"<div><span>{html.escape(name)}</span> <span></span></div>" for name in names)
    return f'<div class="pad-readout pad-numbers">{rows}</div>'


def choice_slider(name: str, names: Sequence[str], at: int) -> str:
    r"""A slider over some values, each with its name."""
    names = [html.escape(name, True) for name in names]
    return (
        f'<label class="ex-row"><span class="ex-name">{html.escape(name)}</span><input type="range" {OWN_KEYS} '
        f'min="0" max="{len(names) - 1}" step="1" value="{at}" aria-valuetext="{names[at]}">'
        f"<output>{names[at]}</output></label>"
    )


def packed_bits(x: Tensor) -> str:
    r"""Base64 of truth values, eight a byte."""
    return base64.b64encode(np.packbits(x.cpu().numpy().flatten()).tobytes()).decode()


def packed_images(x: Tensor) -> list[str]:
    r"""Each image, its numbers in [0, 1], as base64 of bytes."""
    return [base64.b64encode(as_bytes(image)).decode() for image in x]


def stand_in(what: str, picture: str, alt: str) -> str:
    r"""What is seen where the pad's script may not run: without JavaScript, in a notebook that is not trusted."""
    alt = html.escape(alt, True)
    return (
        '<div class="pad-still"><p>The pad needs JavaScript, in a notebook also your trust (File, Trust Notebook). '
        f'This is {what}.</p><img src="data:image/png;base64,{picture}" width="224" alt="{alt}"></div>'
    )


def slider(name: str, low: float, high: float, at: float) -> str:
    r"""A slider of 200 steps over an interval."""
    return (
        f'<label class="ex-row"><span class="ex-name">{html.escape(name)}</span>'
        f'<input type="range" {OWN_KEYS} min="{low:.10g}" max="{high:.10g}" step="{(high - low) / 200:.6g}" '
        f'value="{at:.10g}"><output>{at:.{n_decimals(low, high)}f}</output></label>'
    )


def figure_html(kind: str, live: str, still: str, caption: str, data: dict[str, Any]) -> str:
    r"""One figure: what the script brings to life, hidden until it does, and what is seen where it may not run."""
    return (
        f'<figure class="{kind}"><style>{web_file("figure.css")}</style>'
        f'<div class="pad-live" hidden="hidden">{live}</div>{still}'
        + (f"<figcaption>{html.escape(caption)}</figcaption>" if caption else "")
        + f'<script type="application/json">{embed(data)}</script><script>{script(kind)}</script></figure>'
    )


def script(kind: str) -> str:
    r"""What a pad runs: the parts of ``web/`` that it needs, in a scope of their own."""
    return "(() => {\n" + "".join(web_file(name) for name in SCRIPTS[kind]) + "})();\n"


def show(page: str, picture: str, words: str) -> None:
    r"""Shows a pad: in HTML, as a picture for whoever cannot show HTML, and in words."""
    display({"text/html": page, "image/png": picture, "text/plain": words}, raw=True)


def packed_bytes(values: Tensor) -> str:
    r"""Base64 of whole numbers of 8 bits."""
    return base64.b64encode(values.numpy().tobytes()).decode()


def packed_floats(values: Tensor, bits: int) -> str:
    r"""Base64 of floats of 16 or 32 bits."""
    return base64.b64encode(values.numpy().astype(f"<f{bits // 8}").tobytes()).decode()


def as_bytes(x: Tensor) -> np.ndarray:
    r"""Numbers in [0, 1] as 256 grays, of the same shape."""
    return (x.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def png(pixels: np.ndarray, scale: int = 8) -> str:
    r"""Base64 of a picture of bytes, each pixel so many times as wide and as high."""
    buffer = io.BytesIO()
    big = Image.fromarray(pixels).resize(
        (pixels.shape[1] * scale, pixels.shape[0] * scale), Image.Resampling.NEAREST
    )
    big.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def n_decimals(low: float, high: float) -> int:
    r"""How many digits behind the point tell the 200 steps of a slider apart; two at least."""
    return max(2, math.ceil(-math.log10((high - low) / 200)))
