r"""A restricted Boltzmann machine that dreams in the page."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lectool import check, random
from lectool.pads.page import (
    as_bytes,
    buttons,
    choice_slider,
    figure_html,
    numbers,
    packed_bits,
    packed_floats,
    png,
    show,
    stand_in,
    tools,
    view,
)

__all__ = ["rbm_pad"]

MOST_WEIGHTS, MOST_CHAINS = 500_000, 16
SPEEDS = ("1", "2", "5", "10", "20", "60")


def rbm_pad(
    W: Tensor,
    b: Tensor,
    c: Tensor,
    shape: tuple[int, int],
    *,
    start: Tensor | None = None,
    n_chains: int = 9,
    n_steps: int = 500,
    generator: torch.Generator | None = None,
    alt: str = "Particles of the restricted Boltzmann machine",
    caption: str = "",
) -> None:
    r"""Fantasy particles: a trained restricted Boltzmann machine with binary units samples in the reader's page.

    .. math:: p(v, h) \propto e^{h^\top W v + c^\top v + b^\top h}, \qquad
              p(h_j = 1 \mid v) = \sigma(W v + b)_j, \quad p(v_i = 1 \mid h) = \sigma(W^\top h + c)_i .

    Each Gibbs step draws v given h, then h given v; what is shown are the means p(v = 1 | h). The reader sets the
    speed, steps by hand, starts from noise, and holds pixels of all particles on or off by drawing on the first: the
    other pixels are then sampled given these.

    Arguments:
        W: weights, shape (k, d) with k · d ≤ 500,000: 128×784 of them take 0.3 MB of the page, as floats of 16 bits
            where no probability of the first particles changes by more than 0.001, else twice that.
        b, c: biases of the hidden and the visible units, shapes (k,) and (d,).
        shape: (rows, columns) of the visible units as an image; their product is d.
        start: visible units in [0, 1] at which the chains begin, shape (n, d) with n ≤ 16; where ``None``, coin flips
            and ``n_steps`` Gibbs steps from there.
        n_chains: how many there are, in [1, 16], where ``start`` is ``None``.
        n_steps: ≥ 0.
        generator: of the first particles; torch's global one where ``None``.
        alt: description of the particles.
        caption: one or two sentences below.

    Raises:
        ValueError: if a tensor is no valid data or has another shape, ``start`` leaves [0, 1], there are more than
            500,000 weights, or a number is out of range.
    """
    k, d = _checked(W, b, c, shape, start)
    check.inside(f"[1, {MOST_CHAINS}]", n_chains=n_chains if start is None else len(start))
    check.at_least(0, n_steps=n_steps)
    W, b, c = (t.detach().cpu() for t in (W, b, c))
    v = torch.full((n_chains, d), 0.5).to(W) if start is None else start.detach().cpu().to(W)
    if start is None:
        v = _gibbs(random.bernoulli(v, generator), W, b, c, n_steps, generator)
    h = random.bernoulli(_hidden(v, W, b), generator)
    means = _visible(h, W, c)
    packed = torch.cat([W.flatten(), b, c]).float()
    data = {
        **_pack(packed, W, b, c, v, h),
        "k": k,
        "n": len(h),
        "shape": list(shape),
        "hidden": packed_bits(h > 0),
        "speeds": list(SPEEDS),
        "alt": alt,
    }
    picture = png(_tiles(means, shape), scale=4)
    still = stand_in("the first particles", picture, alt)
    page = figure_html("rbm-pad", _live(data), still, caption, data)
    show(page, picture, alt)


def _checked(
    W: Tensor, b: Tensor, c: Tensor, shape: tuple[int, int], start: Tensor | None
) -> tuple[int, int]:
    check.data(W, "W")
    k, d = W.shape
    check.inside(f"[1, {MOST_WEIGHTS}]", **{"number of weights": W.numel()})
    for name, bias, size in (("b", b, k), ("c", c, d)):
        check.data(bias, name, n_dims=1, like=W)
        check.shape(size, **{name: bias})
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != d:
        raise ValueError(f"shape is {shape}; expected rows and columns of {d} pixels")
    if start is not None:
        check.data(start, "start", width=d, low=0.0, high=1.0)
    return k, d


def _hidden(v: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return (v @ W.T + b).sigmoid()


def _visible(h: Tensor, W: Tensor, c: Tensor) -> Tensor:
    return (h @ W + c).sigmoid()


def _gibbs(
    v: Tensor, W: Tensor, b: Tensor, c: Tensor, n_steps: int, generator: torch.Generator | None
) -> Tensor:
    for _ in range(n_steps):
        h = random.bernoulli(_hidden(v, W, b), generator)
        v = random.bernoulli(_visible(h, W, c), generator)
    return v


def _pack(packed: Tensor, W: Tensor, b: Tensor, c: Tensor, v: Tensor, h: Tensor) -> dict[str, Any]:
    r"""Weights and biases as the page's script reads them."""
    rough = [t.half().to(t) for t in (W, b, c)]
    fits = all(t.isfinite().all() for t in rough)
    if fits:
        pairs = (
            (_hidden(v, W, b), _hidden(v, *rough[:2])),
            (_visible(h, W, c), _visible(h, rough[0], rough[2])),
        )
        fits = all((exact - seen).abs().max() <= 0.001 for exact, seen in pairs)
    size = 16 if fits else 32
    return {"weights": packed_floats(packed, size), "bits": size}


def _n_columns(n: int) -> int:
    return math.ceil(math.sqrt(n))


def _tiles(x: Tensor, shape: tuple[int, int]) -> np.ndarray:
    r"""Images side by side, one pixel of gray between them: as the page's script lays them out."""
    (height, width), columns = shape, _n_columns(len(x))
    rows = math.ceil(len(x) / columns)
    whole = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), 128, np.uint8)
    for i, image in enumerate(as_bytes(x)):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        whole[top : top + height, left : left + width] = image.reshape(shape)
    return whole


def _live(data: dict[str, Any]) -> str:
    (height, width), n = data["shape"], data["n"]
    columns = _n_columns(n)
    wide, high = columns * (width + 1) - 1, math.ceil(n / columns) * (height + 1) - 1
    shown = numbers("Gibbs steps", "pixels held", "hidden units on")
    return (
        '<div class="pad-views">'
        + view(
            "pad-field pad-pixels",
            width,
            height,
            "The first particle",
            "draw to hold pixels",
            shown,
        )
        + view("pad-particles pad-pixels", wide, high, data["alt"], "all particles: p(v = 1 | h)")
        + "</div>"
        + buttons(
            run="run",
            step="step",
            noise="from noise",
            half="hold upper half",
            release="set all free",
        )
        + tools("Pen", "hold on (orange)", "hold off (blue)", "set free")
        + choice_slider("steps a second", data["speeds"], 3)
        + '<p class="ex-live" role="status" aria-live="polite"></p>'
    )
