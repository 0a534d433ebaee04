r"""A pad to draw a few strokes on, to which a trained generator finds a picture."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lectool import check
from lectool.explore import readable
from lectool.pads.network import in_and_out, outputs, packed_network
from lectool.pads.page import (
    as_bytes,
    buttons,
    choice_slider,
    figure_html,
    numbers,
    packed_bytes,
    png,
    show,
    stand_in,
    tools,
    view,
)

__all__ = ["stroke_pad"]

MOST_WEIGHTS = 500_000
COLORS = np.array([[0, 80, 127], [230, 159, 0]], np.uint8)  # no ink, ink; as in web/pads-stroke.js


def stroke_pad(
    generator: nn.Module,
    shape: tuple[int, int],
    *,
    examples: Tensor,
    project: Callable[..., Any],
    start: Tensor | None = None,
    values: tuple[float, float] = (-1.0, 1.0),
    priors: Sequence[float] = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0),
    prior: float = 1.0,
    n_steps: int = 200,
    lr: float = 0.05,
    alt: str = "Picture that fits the strokes",
    caption: str = "",
) -> None:
    r"""The generator's part of a drawing: the reader says of a few pixels whether there is ink, the page finds a code.

    .. math:: \min_z \sum_{i \text{ drawn}} (G(z)_i - x_i)^2 + \tfrac\rho2 \lVert z \rVert^2

    The page takes steps of Adam, its own gradient running backwards through the network, while the reader draws. A new
    start is the best of fifty random codes.

    Arguments:
        generator: linear layers and activations in ``nn.Sequential``, from k code numbers to the pixels; at most
            500,000 weights: 16 → 128 → 784 take 0.3 MB of the page.
        shape: (rows, columns) of the image.
        examples: strokes that the reader can put on the pad by a button, of which the first are there from the
            beginning, shape (n, pixels): 1 for ink, −1 for none, 0 where nothing is drawn. The way in for those who do
            not draw.
        project: the Python twin of the page's search, :func:`lectool.zoo.project`; called as ``project(generator, x,
            z, distance=…, prior=ρ, n_steps=n_steps, lr=lr)``, its result has the codes as ``z``. It makes the picture
            that stands in where no script runs.
        start: the first code, shape (k,); zeros where ``None``.
        values: of the generator's pixels without and with ink.
        priors: values of ρ ≥ 0 that a slider offers, ascending; ``prior`` is one of them, at first.
        n_steps: after each change, ≥ 1.
        lr: Adam's step size.
        alt: description of the picture, to which the number of pixels drawn and the error are added.
        caption: one or two sentences below.

    Raises:
        ValueError: if the generator has other parts than linear layers and known activations, sizes do not fit, a
            tensor is no valid data, an example holds other numbers or no stroke, or a setting is out of range.

    References:
        Zhu, Krähenbühl, Shechtman, Efros (2016), Generative visual manipulation on the natural image manifold.
    """
    k, start = _checked(generator, shape, examples, start)
    check.positive(lr=lr)
    check.at_least(1, n_steps=n_steps)
    low, high = values
    check.inside("(-∞, ∞)", low=low, high=high)
    if low == high:
        raise ValueError(f"values are {values}; expected two numbers that differ")
    _check_priors(priors, prior)
    strokes = examples.detach().cpu()
    names = [readable(v) for v in priors]
    data = {
        **packed_network(generator, torch.cat([start[None], _corners(k)]), low, high),
        "shape": list(shape),
        "range": [low, high],
        "start": start.tolist(),
        "examples": [packed_bytes(_kinds(s)) for s in strokes],
        "priors": list(priors),
        "names": names,
        "steps": n_steps,
        "lr": lr,
        "alt": alt,
    }
    x = _first(generator, strokes[0], start, values, project, prior, n_steps, lr)
    words = f"{alt}: {_said(x, strokes[0])}"
    picture = png(_tiles(x, strokes[0], shape))
    still = stand_in("the first strokes, and the picture that fits them", picture, words)
    live = _live(shape, words, names, list(priors).index(prior))
    show(figure_html("stroke-pad", live, still, caption, data), picture, words)


def _checked(
    generator: nn.Module, shape: tuple[int, int], examples: Tensor, start: Tensor | None
) -> tuple[int, Tensor]:
    k, n_pixels = in_and_out(generator)
    n_weights = sum(p.numel() for p in generator.parameters())
    check.inside(f"[1, {MOST_WEIGHTS}]", **{"number of weights": n_weights})
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != n_pixels:
        raise ValueError(f"shape is {shape}; expected rows and columns of {n_pixels} pixels")
    check.data(examples, "examples", width=n_pixels, low=-1.0, high=1.0)
    if not ((examples == examples.round()).all() and examples.any(1).all()):
        raise ValueError("examples hold other numbers than −1, 0 and 1, or one has no stroke")
    start = torch.zeros(k) if start is None else start.detach().cpu().float()
    check.data(start, "start", n_dims=1)
    check.shape(k, start=start)
    return k, start


def _check_priors(priors: Sequence[float], prior: float) -> None:
    check.non_negative(prior=prior, **{f"priors[{i}]": v for i, v in enumerate(priors)})
    if prior not in priors or list(priors) != sorted(set(priors)) or len(priors) < 2:
        raise ValueError(
            f"priors are {priors}; expected two or more numbers, ascending, with prior = {prior} among them"
        )


def _corners(k: int) -> Tensor:
    r"""Codes at which 16-bit weights are compared with exact ones: two steps out on each axis, either way."""
    return torch.cat([2 * torch.eye(k), -2 * torch.eye(k)])


def _kinds(strokes: Tensor) -> Tensor:
    r"""0: nothing drawn; 1: no ink; 2: ink."""
    return torch.where(strokes < 0, 1, 2 * strokes).to(torch.uint8)


def _first(
    generator: nn.Module,
    strokes: Tensor,
    start: Tensor,
    values: tuple[float, float],
    project: Callable[..., Any],
    prior: float,
    n_steps: int,
    lr: float,
) -> Tensor:
    r"""The picture that fits the strokes, its numbers in [0, 1] where there is no ink and where there is."""
    (low, high), like = values, next(generator.parameters())
    mask = (strokes != 0).to(like)[None]
    wanted = torch.where(strokes > 0, high, low).to(like)[None]
    found = project(
        generator,
        wanted,
        start.to(like)[None],
        distance=lambda a, b: (mask * (a - b)).square().sum(1),
        prior=prior,
        n_steps=n_steps,
        lr=lr,
    )
    with torch.no_grad():
        return (outputs(generator, found.z)[0] - low) / (high - low)


def _said(x: Tensor, strokes: Tensor) -> str:
    # As in web/pads-stroke.js.
    drawn = strokes != 0
    error = (x - strokes.clamp(min=0))[drawn].square().mean().item()
    return f"{int(drawn.sum())} pixels drawn, error {error:.3f} each"


def _tiles(x: Tensor, strokes: Tensor, shape: tuple[int, int]) -> np.ndarray:
    r"""The picture with the strokes on it, and without: bytes of red, green and blue."""
    plain = np.repeat(as_bytes(x)[:, None], 3, 1)
    drawn, colored = (strokes != 0).numpy(), plain.copy()
    colored[drawn] = COLORS[(strokes > 0).long().numpy()[drawn]]
    (height, width), tiles = shape, (colored, plain)
    whole = np.full((height, 2 * width + 1, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        whole[:, i * (width + 1) :][:, :width] = tile.reshape(height, width, 3)
    return whole


def _live(shape: tuple[int, int], words: str, names: list[str], at: int) -> str:
    height, width = shape
    return (
        '<div class="pad-views">'
        + view("pad-field pad-pixels", width, height, "Drawing area", "draw here")
        + view("pad-found pad-pixels", width, height, words, "what the generator makes of it")
        + "</div>"
        + numbers("pixels drawn", "squared error on each", "root mean square of the code")
        + buttons(
            run="search", step="step", start="new start", clear="clear", example="next example"
        )
        + tools("Pen", "ink (orange)", "no ink (blue)", "take away")
        + choice_slider("pull ρ", names, at)
        + '<p class="ex-live" role="status" aria-live="polite"></p>'
    )
