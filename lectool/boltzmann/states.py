r"""Chapter 09: all states of a few binary units, in blocks that fit into memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lectool import check

__all__ = ["MOST_UNITS", "all_bits", "bit_blocks", "check_bits"]

MOST_UNITS = 20  # whose 2²⁰ states are enumerated in seconds
BLOCK = 2**13


def all_bits(n: int, like: Tensor | None = None) -> Tensor:
    r"""Every vector of n bits, the first bit changing slowest, shape (2ⁿ, n).

    Arguments:
        n: number of units, 0 … 20.
        like: a tensor whose device and type the result takes; the CPU and torch's default type where ``None``.

    Raises:
        ValueError: if n is out of range.
    """
    return torch.cat(list(bit_blocks(n, like)))


def bit_blocks(n: int, like: Tensor | None = None) -> Iterator[Tensor]:
    r"""The rows of :func:`all_bits` in blocks of at most 8192.

    Raises:
        ValueError: if n is out of range.
    """
    if not 0 <= n <= MOST_UNITS:
        raise ValueError(
            f"{n} units have 2^{n} states; expected at most {MOST_UNITS} units, for more see ais"
        )
    like = torch.empty(0) if like is None else like
    places = torch.arange(n - 1, -1, -1, device=like.device)
    for numbers in torch.arange(2**n, device=like.device).split(BLOCK):
        yield ((numbers[:, None] >> places) & 1).to(like.dtype)


def check_bits(v: Tensor, name: str = "v", **expected) -> None:
    r"""Zeros and ones, of a shape and a type as :func:`lectool.check.data` takes them.

    Raises:
        ValueError: if v holds another number, or does not pass :func:`lectool.check.data`.
    """
    check.data(v, name, low=0.0, high=1.0, **expected)
    if not ((v == 0) | (v == 1)).all():
        raise ValueError(f"{name} holds other numbers than 0 and 1; expected bits: {name}.round()")
