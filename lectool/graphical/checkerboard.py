r"""Chapter 07: a grid of spins as two packed halves, black and white, and half a sweep of Gibbs sampling."""

import torch
from torch import Tensor

__all__ = ["checkerboard_links", "half_sweep", "pack", "signed_uniform", "unpack"]

# Where a packed grid keeps the neighbors of a spin: (steps, axis) for torch.roll.
SHIFTS = ((0, -1), (1, -1), (-1, -1), (1, -2), (-1, -2))


def half_sweep(
    other: Tensor, h: Tensor, links: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""New spins of one color of the checkerboard, given the other color: half a sweep.

    A spin is up where a uniform number of [−1, 1) lies below :math:`\tanh a`, which has the probability
    :math:`\sigma(2 a)`.

    Arguments:
        other: spins of the other color, packed by :func:`pack`, shape (…, height, width / 2).
        h: field at the spins of this color, shape (…, height, width / 2).
        links: couplings with the spins of the other color at each of :data:`SHIFTS`, shape (5, height, width / 2).
    """
    a = torch.addcmul(h, links[0], other)
    for link, (shift, axis) in zip(links[1:], SHIFTS[1:]):
        a = a.addcmul_(link, other.roll(shift, axis))
    a = a.tanh_().sub_(signed_uniform(a, generator))
    return a.add_(1e-30).sign_()  # no difference is that small, save one of 0, which has no sign


def checkerboard_links(right: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    r"""Couplings of the black and of the white spins for :func:`half_sweep`, both of shape (5, height, width / 2).

    In a packed grid the neighbors at the sides are the spin of the same index and, in every second row, the one
    before, in the others the one after: one of the two links is 0.
    """
    left, above = pack(right.roll(1, -1)), pack(down.roll(1, -2))
    right, below = pack(right), pack(down)
    links = []
    for color in (0, 1):
        first = (torch.arange(right[0].shape[-2]) % 2 == color)[:, None].to(right[0].device)
        same = torch.where(first, right[color], left[color])
        before, after = left[color].where(first, 0), right[color].where(~first, 0)
        links.append(torch.stack((same, before, after, above[color], below[color])))
    return tuple(links)


def signed_uniform(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Uniform numbers of [−1, 1), two from each 64-bit word of the generator: half the price of :func:`torch.rand`."""
    source = like.device if generator is None else generator.device
    words = torch.empty((like.numel() + 1) // 2, dtype=torch.int64, device=source)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int32)[: like.numel()].view(like.shape).to(like).mul_(2.0**-31)


def pack(s: Tensor) -> tuple[Tensor, Tensor]:
    r"""The black and the white fields of grids with even sides, both of shape (…, height, width / 2)."""
    black, white = s[..., ::2].clone(), s[..., 1::2].clone()
    black[..., 1::2, :], white[..., 1::2, :] = s[..., 1::2, 1::2], s[..., 1::2, ::2]
    return black, white


def unpack(black: Tensor, white: Tensor) -> Tensor:
    r"""The grids of which :func:`pack` makes these, shape (…, height, width)."""
    s = torch.stack((black, white), -1)
    s[..., 1::2, :, :] = s[..., 1::2, :, :].flip(-1)
    return s.flatten(-2)
