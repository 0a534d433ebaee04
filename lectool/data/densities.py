r"""Densities in the plane that are known exactly: two moons, and rings and grids of Gaussians."""

import math

import torch
from torch import Tensor

from lectool import check, random

__all__ = ["grid", "ring", "sample_modes", "two_moons", "two_moons_log_prob"]


def two_moons(n: int, *, noise: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Points on two interleaved half circles, uniform along them, plus Gaussian noise.

    Arguments:
        n: number of points, ≥ 1.
        noise: its standard deviation in both coordinates, > 0; the circles have radius 1.
        seed: shifted by ``LECTOOL_SEED``.

    Returns:
        the points, shape (n, 2), and which moon each belongs to, 0 or 1, shape (n,).

    Raises:
        ValueError: if ``n`` or the noise is out of range.
    """
    check.at_least(1, n=n)
    check.positive(noise=noise)
    generator = random.generator(seed)
    moon = random.integers(2, n, generator=generator)
    points = _arcs(math.pi * random.uniform(n, generator=generator), moon)
    return points + noise * random.noise((n, 2), generator=generator), moon


def two_moons_log_prob(x: Tensor, *, noise: float = 0.1, n_nodes: int = 400) -> Tensor:
    r"""The true log-density of :func:`two_moons` in nats, shape (n,), by the midpoint rule along both arcs.

    Arguments:
        x: points, shape (n, 2).
        noise: as in :func:`two_moons`.
        n_nodes: points on each arc.

    Raises:
        ValueError: if ``x`` has another shape, or a number is out of range.
    """
    check.shape("n", 2, x=x)
    check.at_least(1, n_nodes=n_nodes)
    check.positive(noise=noise)
    angle = math.pi * (torch.arange(n_nodes, dtype=x.dtype, device=x.device) + 0.5) / n_nodes
    nodes = torch.cat([_arcs(angle, torch.full_like(angle, moon)) for moon in (0, 1)])
    squares = torch.cdist(x, nodes).square()
    log_sum = (-squares / (2 * noise**2)).logsumexp(1)
    return log_sum - math.log(2 * math.pi * noise**2 * len(nodes))


def ring(n_modes: int = 8, radius: float = 2.0) -> Tensor:
    r"""Centers of Gaussians on a circle around the origin.

    Arguments:
        n_modes: how many, ≥ 1.
        radius: of the circle, > 0.

    Returns:
        shape (n_modes, 2).

    Raises:
        ValueError: if a number is out of range.
    """
    check.at_least(1, n_modes=n_modes)
    check.positive(radius=radius)
    angle = 2 * math.pi * torch.arange(n_modes) / n_modes
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def grid(side: int = 5, spacing: float = 1.0) -> Tensor:
    r"""Centers of Gaussians on a square grid around the origin.

    Arguments:
        side: how many in a row, ≥ 1.
        spacing: distance between neighbors, > 0.

    Returns:
        shape (side², 2).

    Raises:
        ValueError: if a number is out of range.
    """
    check.at_least(1, side=side)
    check.positive(spacing=spacing)
    axis = spacing * (torch.arange(side) - (side - 1) / 2)
    return torch.cartesian_prod(axis, axis)


def sample_modes(
    n: int, centers: Tensor, sd: float = 0.05, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""Points from a mixture of round Gaussians, all of the same weight and width.

    Arguments:
        n: number of points, ≥ 1.
        centers: of the Gaussians, shape (n_modes, 2).
        sd: standard deviation of each, > 0.
        generator: source of the draws.

    Returns:
        shape (n, 2), on the device and in the type of the centers.

    Raises:
        ValueError: if a number is out of range or the centers have another shape.
    """
    check.at_least(1, n=n)
    check.positive(sd=sd)
    check.data(centers, "centers", width=2)
    chosen = centers[random.integers(len(centers), n, centers.device, generator)]
    return chosen + sd * random.noise(chosen.shape, chosen, generator)


def _arcs(angle: Tensor, moon: Tensor) -> Tensor:
    r"""The upper half circle round (−0.5, −0.25), the lower one round (0.5, 0.25)."""
    side = 1 - 2 * moon.to(angle)
    return torch.stack([side * (angle.cos() - 0.5), side * (angle.sin() - 0.25)], 1)
