r"""Random numbers: what makes a run repeatable, and one source of noise for every model."""

import os
import random
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lectool import parallel

__all__ = [
    "bernoulli",
    "generator",
    "integers",
    "noise",
    "permutation",
    "seed",
    "shifted",
    "uniform",
]


def shifted(seed: int) -> int:
    r"""The seed plus ``LECTOOL_SEED``, by which ``make claims`` repeats the whole book at other seeds."""
    return seed + int(os.environ.get("LECTOOL_SEED") or 0)


def seed(seed: int = 0) -> None:
    r"""Fixes Python's, NumPy's and torch's random numbers: same seed, same machine, same figures.

    Also lets the CPU treat denormal numbers as zero: Adam's state is full of them in later epochs, where
    they cost a fifth of the time.
    """
    seed = shifted(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (libraries that still use it)
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)


def generator(seed: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    r"""A source of random numbers of its own, for functions that take ``generator=``."""
    return torch.Generator(device).manual_seed(shifted(seed))


def noise(
    shape: int | Sequence[int], like: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    r"""Standard normal numbers, drawn where the generator lives and then moved to where they are needed.

    Arguments:
        shape: of the result.
        like: a tensor whose device and type the result takes; the CPU and torch's default type where ``None``.
        generator: source of the numbers, on any device; the global one of the result's device where ``None``.
    """
    return _draw(torch.randn, shape, like, generator)


def uniform(
    shape: int | Sequence[int], like: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    r"""Numbers between 0 and 1, all equally likely; arguments as in :func:`noise`."""
    return _draw(torch.rand, shape, like, generator)


def bernoulli(p: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""1 with probability p and else 0, of p's shape, type and device; ``generator`` as in :func:`noise`."""
    return uniform(p.shape, p, generator).lt_(p.detach())  # in place, which is quicker


def integers(
    high: int,
    shape: int | Sequence[int],
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Whole numbers 0 … high − 1, all equally likely, int64; ``generator`` as in :func:`noise`."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    source = device if generator is None else generator.device
    numbers = parallel.own(
        lambda size: torch.randint(high, size, device=source, generator=generator), shape
    )
    return numbers.to(device)


def permutation(
    n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None
) -> Tensor:
    r"""The numbers 0 … n − 1 in random order, int64; ``generator`` as in :func:`noise`."""
    source = device if generator is None else generator.device
    return torch.randperm(n, device=source, generator=generator).to(device)


def _draw(
    draw, shape: int | Sequence[int], like: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    like = torch.empty(0) if like is None else like
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    source = like.device if generator is None else generator.device
    settings = {"dtype": like.dtype, "device": source, "generator": generator}
    return parallel.own(lambda size: draw(size, **settings), shape).to(like.device)
