r"""Guards: early and plain errors that name the argument, its value and what is expected.

Each guard takes arguments by name, ``positive(lam=lam, rho=rho)``, and complains about the first that does not fit.
"""

import math
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "at_least",
    "data",
    "inside",
    "lengths",
    "non_negative",
    "one_of",
    "positive",
    "same_kind",
    "shape",
    "sizes",
]


def positive(**values: float) -> None:
    r"""Finite numbers above 0.

    Raises:
        ValueError: if one of them is not.
    """
    inside("(0, ∞)", **values)


def non_negative(**values: float) -> None:
    r"""Finite numbers of at least 0.

    Raises:
        ValueError: if one of them is not.
    """
    inside("[0, ∞)", **values)


def at_least(least: float, **values: float) -> None:
    r"""Finite numbers that are not below ``least``.

    Raises:
        ValueError: if one of them is.
    """
    inside(f"[{least}, ∞)", **values)


def inside(interval: str, **values: float) -> None:
    r"""Numbers in an interval, written as in mathematics: ``inside("[0, 1)", decay=decay)``.

    Arguments:
        interval: its ends, of which those beside a round bracket do not belong to it; ``∞`` for no end.
        values: the numbers, by name.

    Raises:
        ValueError: if one of them lies outside; NaN lies outside of every interval.
    """
    low, high = (float(end.replace("∞", "inf")) for end in interval[1:-1].split(","))
    for name, value in values.items():
        above = value > low if interval[0] == "(" else value >= low
        below = value < high if interval[-1] == ")" else value <= high
        if not (above and below):
            raise ValueError(f"{name} is {value}; expected {_words(interval, low, high)}")


def _words(interval: str, low: float, high: float) -> str:
    if high < math.inf:
        return f"a number in {interval}"
    return f"a finite number {'>' if interval[0] == '(' else '≥'} {low:g}"


def one_of(options: Collection[Any], **values: Any) -> None:
    r"""Settings that have a few possible values.

    Raises:
        ValueError: if one of them is not among the options.
    """
    *most, last = map(repr, options)
    said = f"{', '.join(most)} or {last}" if most else last
    for name, value in values.items():
        if value not in options:
            raise ValueError(f"{name} is {value!r}; it can be {said}")


def lengths(**values: Any) -> None:
    r"""Tensors or lists that belong to each other row by row.

    Raises:
        ValueError: if they differ in length.
    """
    if len({len(value) for value in values.values()}) > 1:
        said = ", ".join(f"{name} has {len(value)}" for name, value in values.items())
        raise ValueError(f"{said} rows; expected equally many")


def sizes(sizes: Sequence[int]) -> None:
    r"""Widths of a network's layers, from its input to its output.

    Raises:
        ValueError: if there are fewer than two or one is below 1.
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes are {list(sizes)}; expected two or more numbers, each at least 1")


def shape(*sizes: int | str, **tensors: Tensor) -> None:
    r"""Tensors of one shape: ``shape("n", 3, z=z)``, where a word stands for any size.

    Raises:
        ValueError: if one of them has another shape.
    """
    for name, x in tensors.items():
        fits = x.ndim == len(sizes) and all(
            isinstance(size, str) or size == found for size, found in zip(sizes, x.shape)
        )
        if not fits:
            expected = ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "")
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected ({expected})")


def same_kind(fitted: Tensor, **tensors: Tensor) -> None:
    r"""Tensors of the type and on the device of a model: ``same_kind(self.mean_, x=x)``.

    Raises:
        ValueError: if one of them has another type or lies elsewhere.
    """
    for name, x in tensors.items():
        if x.dtype != fitted.dtype:
            raise ValueError(
                f"{name} is {x.dtype}, the model {fitted.dtype}; expected the same: {name}.to({fitted.dtype})"
            )
        if x.device != fitted.device:
            raise ValueError(
                f"{name} is on {x.device}, the model on {fitted.device}; expected the same: "
                f"{name}.to({str(fitted.device)!r})"
            )


def data(
    x: Tensor,
    name: str = "x",
    *,
    n_dims: int = 2,
    width: int | None = None,
    low: float | None = None,
    high: float | None = None,
    like: Tensor | None = None,
) -> Tensor:
    r"""Data that a model can learn from.

    Arguments:
        x: the data.
        name: what to call them in the message.
        n_dims: the number of axes expected.
        width: the size expected of all axes but the first, multiplied.
        low, high: the range that the values must keep to.
        like: a tensor of the model that is to take them, whose type and device they must share.

    Returns:
        ``x`` itself.

    Raises:
        ValueError: if ``x`` is neither float32 nor float64, is empty, has another shape, holds a NaN or an
            infinity, leaves the range or is of another type than the model; the message says what was given
            and what is expected. Under torch.compile the values are not looked at.
    """
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} is {kind}; expected a float32 or float64 tensor")
    if x.ndim != n_dims:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {n_dims} axes")
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}")
    if like is not None:
        same_kind(like, **{name: x})
    if width is not None and x[0].numel() != width:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {width} numbers in a sample")
    if torch.compiler.is_compiling():  # a look at the values would cut the graph in two
        return x
    smallest, largest = (t.item() for t in torch.aminmax(x.detach()))
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        n_bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} holds {n_bad} values that are NaN or infinite")
    if (low is not None and smallest < low) or (high is not None and largest > high):
        raise ValueError(
            f"{name} lies in [{smallest:.4g}, {largest:.4g}]; expected [{low}, {high}]"
        )
    return x
