r"""Chapter 05: how much an atom looks like a Gabor function, the shape to which cells of the visual cortex respond."""

import math

import torch
from torch import Tensor

from lectool import check

__all__ = ["gabor_fit"]


def gabor_fit(atoms: Tensor, *, n_steps: int = 100, lr: float = 0.05) -> Tensor:
    r"""The share of each atom's square that the best Gabor function explains.

    A Gabor function is a wave under a bell: :math:`e^{-u^2 / 2 s^2 - v^2 / 2 t^2} \cos(2 \pi f u + \varphi)`, where u
    and v are the coordinates along and across the wave. Height and phase follow by least squares; Adam finds the
    other six numbers, from the four best of 32 starts.

    Arguments:
        atoms: square images as rows, shape (k, size²), size ≥ 4.
        n_steps: of Adam, ≥ 1.
        lr: its step size, > 0.

    Returns:
        shares in [0, 1], shape (k,); 1 for a Gabor function.

    Raises:
        ValueError: if the atoms are no valid data, no squares, or one of them is zero.

    References:
        Jones & Palmer (1987), An evaluation of the two-dimensional Gabor filter model of simple receptive fields.
    """
    check.data(atoms, "atoms")
    check.at_least(1, n_steps=n_steps)
    check.positive(lr=lr)
    size = math.isqrt(atoms.shape[1])
    if size**2 != atoms.shape[1] or size < 4 or not atoms.any(1).all():
        raise ValueError(
            f"atoms have shape {tuple(atoms.shape)}; expected squares of at least 4×4, none of them zero"
        )
    unit = (atoms / atoms.norm(dim=1, keepdim=True))[:, None]
    start = _starts(unit[:, 0], size)
    best = _explained(unit, start).topk(4).indices
    numbers = start.gather(1, best[:, :, None].expand(-1, -1, 6)).requires_grad_()
    adam = torch.optim.Adam([numbers], lr=lr)
    for _ in range(n_steps):
        adam.zero_grad()
        (-_explained(unit, numbers).sum()).backward()
        adam.step()
    return _explained(unit, numbers).amax(1).detach()


def _starts(unit: Tensor, size: int) -> Tensor:
    r"""Eight angles and four frequencies for each atom, its center at the middle of its energy: shape (k, 32, 6)."""
    row, column = _pixels(size).to(unit)
    energy = unit.square()
    center = torch.stack([(energy * row).sum(1), (energy * column).sum(1)], 1)
    angles = torch.arange(8) * math.pi / 8
    waves = torch.cartesian_prod(angles, torch.tensor([0.4, 0.8, 1.4, 2.2])).to(unit)
    flat = torch.zeros(len(unit), 32, 2).to(unit)  # logarithms of the widths
    return torch.cat(
        [center[:, None].expand(-1, 32, 2), waves.expand(len(unit), 32, 2), flat - 1], 2
    )


def _explained(unit: Tensor, numbers: Tensor) -> Tensor:
    r"""Squared length of each atom's projection on the waves of both phases under its bell, shape (k, starts)."""
    row, column = _pixels(math.isqrt(unit.shape[2])).to(unit)
    y0, x0, angle, frequency, s, t = (n[:, :, None] for n in numbers.unbind(2))
    y, x = row - y0, column - x0
    u, v = x * angle.cos() + y * angle.sin(), y * angle.cos() - x * angle.sin()
    bell = torch.exp(-0.5 * ((u / s.exp()).square() + (v / t.exp()).square()))
    phase = math.pi * frequency * u  # waves across the patch, which is 2 wide
    even, odd = bell * phase.cos(), bell * phase.sin()
    even = even / even.norm(dim=2, keepdim=True).clamp(min=1e-12)
    odd = odd - (odd * even).sum(2, keepdim=True) * even
    odd = odd / odd.norm(dim=2, keepdim=True).clamp(min=1e-6)
    return (unit * even).sum(2).square() + (unit * odd).sum(2).square()


def _pixels(size: int) -> Tensor:
    r"""Row and column of each pixel, from −1 to 1, shape (2, size²)."""
    line = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1)
