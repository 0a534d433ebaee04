r"""A plane of codes to walk on."""

import html
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lectool import check
from lectool.pads.network import decoded_png, in_and_out, packed_network
from lectool.pads.page import figure_html, n_decimals, show, slider, stand_in, words_below
from lectool.plot import class_color

__all__ = ["latent_pad"]


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
        labels: the class of each point, shape (n,); sets its color, and the class's name at its median.
        bounds: (lowest, highest) of each axis; the points' range with a small edge where ``None``. An axis on which
            the points have collapsed (a hundredth of the other's range, or less) gets the range of the other.
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
            not fit, a number that is given or decoded is NaN or infinite, or neither ``points`` nor ``bounds``
            is given.
    """
    n_in, n_out = in_and_out(decoder)
    if n_out != shape[0] * shape[1]:
        raise ValueError(f"the decoder makes {n_out} numbers; expected {shape[0]}×{shape[1]}")
    base = torch.zeros(n_in) if base is None else base.detach().cpu().float()
    check.data(base, "base", n_dims=1)
    if base.shape != (n_in,) or n_in < 2 or not 0 <= min(axes) < max(axes) < n_in:
        raise ValueError(
            f"base has shape {tuple(base.shape)} and axes are {axes}; the code has {n_in} numbers"
        )
    black, white = values
    check.inside("(-∞, ∞)", black=black, white=white)
    if black == white:
        raise ValueError(f"values are {values}; expected two numbers that differ")
    points, labels = _points(points, labels)
    bounds = _bounds(points, bounds)
    start = _start(start, bounds)
    code = base.clone()
    code[list(axes)] = torch.tensor(start)
    corners = base.repeat(5, 1)
    corners[:4, list(axes)] = torch.cartesian_prod(*torch.tensor(bounds))
    corners[4] = code
    data = {
        **packed_network(decoder, corners, black, white),
        "shape": list(shape),
        "base": base.tolist(),
        "axes": list(axes),
        "bounds": bounds,
        "digits": [n_decimals(*b) for b in bounds],
        "range": [black, white],
        "names": list(names),
        "alt": alt,
        "autoplay": autoplay,
        **_map(points, labels, bounds),
    }
    picture = decoded_png(decoder, code, shape, values)
    sliders = "".join(
        slider(name, low, high, at)
        for name, (low, high), at in zip(names, bounds, start, strict=True)
    )
    live = (
        '<div class="pad-views">'
        f'<div class="pad-view"><canvas class="pad-plane" width="512" height="512" role="img" '
        'aria-label="Plane of codes with the chosen point"></canvas>'
        f"{words_below('plane of codes: drag the point')}</div>"
        f'<div class="pad-view"><canvas class="pad-pixels" width="{shape[1]}" height="{shape[0]}" role="img" '
        f'aria-label="{html.escape(alt, True)}"></canvas>{words_below("decoded image")}</div></div>'
        f'{sliders}<p class="ex-live" role="status" aria-live="polite"></p>'
    )
    page = figure_html(
        "latent-pad", live, stand_in("its first picture", picture, alt), caption, data
    )
    show(page, picture, f"{alt} at {start}")


def _points(points: Tensor | None, labels: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if points is None:
        return None, None
    check.data(points, "points")
    check.shape("n", 2, points=points)
    if labels is not None:
        check.lengths(points=points, labels=labels)
        labels = labels.detach().cpu().long()
        check.at_least(0, labels=int(labels.min()))
    return points.detach().cpu(), labels


def _bounds(
    points: Tensor | None, bounds: Sequence[tuple[float, float]] | None
) -> list[list[float]]:
    if bounds is not None:
        fits = len(bounds) == 2 and all(-math.inf < low < high < math.inf for low, high in bounds)
        if not fits:
            raise ValueError(f"bounds are {bounds}; expected two pairs, each ascending")
        return [[float(low), float(high)] for low, high in bounds]
    if points is None:
        raise ValueError("neither points nor bounds are given; expected one of them")
    low, high = points.double().aminmax(dim=0)
    middle, half = (low + high) / 2, 0.55 * (high - low)
    # Collapsed: nothing beside the other coordinate, or beside the rounding of the code's own numbers.
    alive = (half > 0.01 * half.max()) & (half > 1e-5 * middle.abs())
    usual = half.max() if alive.any() else torch.ones((), dtype=torch.float64)
    half = torch.where(alive, half, torch.maximum(usual, 1e-3 * middle.abs()))
    ends = zip((middle - half).tolist(), (middle + half).tolist())
    return [[round(v, 2 + n_decimals(a, b)) for v in (a, b)] for a, b in ends]


def _start(start: Sequence[float] | None, bounds: list[list[float]]) -> list[float]:
    if start is None:
        return [(low + high) / 2 for low, high in bounds]
    if len(start) != 2 or not all(low <= v <= high for v, (low, high) in zip(start, bounds)):
        raise ValueError(f"start is {list(start)}; expected a point within {bounds}")
    return [float(v) for v in start]


def _map(
    points: Tensor | None, labels: Tensor | None, bounds: list[list[float]]
) -> dict[str, list]:
    if points is None:
        return {"points": [], "colors": [], "marks": []}
    y = torch.zeros(len(points), dtype=torch.int64) if labels is None else labels
    n_digits = [1 + n_decimals(*b) for b in bounds]

    def place(point: Tensor) -> list[float]:
        return [round(v, n) for v, n in zip(point.tolist(), n_digits)]

    marks = []
    if labels is not None:
        marks = [[*place(points[y == c].median(0).values), c] for c in y.unique().tolist()]
    return {
        "points": [[*place(point), c] for point, c in zip(points, y.tolist())],
        "colors": [class_color(i) for i in range(int(y.max()) + 1)],
        "marks": marks,
    }
