r"""Two moons, with the density that they come from."""

import math

import torch
from torch import Tensor

from lectool.random import generator

__all__ = ["two_moons", "two_moons_log_prob"]


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
    _check(n, noise)
    rng = generator(seed)
    y = torch.randint(2, (n,), generator=rng)
    x = _arcs(math.pi * torch.rand(n, generator=rng), y)
    return x + noise * torch.randn(n, 2, generator=rng), y


def two_moons_log_prob(x: Tensor, *, noise: float = 0.1, n_nodes: int = 400) -> Tensor:
    r"""The true log-density of :func:`two_moons` in nats, shape (n,), by the midpoint rule along both arcs.

    Arguments:
        x: points, shape (n, 2).
        noise: as in :func:`two_moons`.
        n_nodes: points on each arc.
    """
    _check(n_nodes, noise)
    angle = math.pi * (torch.arange(n_nodes, dtype=x.dtype, device=x.device) + 0.5) / n_nodes
    nodes = torch.cat([_arcs(angle, torch.full_like(angle, moon)) for moon in (0, 1)])
    squares = torch.cdist(x, nodes).square()
    log_sum = (-squares / (2 * noise**2)).logsumexp(1)
    return log_sum - math.log(2 * math.pi * noise**2 * len(nodes))


def _arcs(angle: Tensor, moon: Tensor) -> Tensor:
    r"""The upper half circle round (−0.5, −0.25), the lower one round (0.5, 0.25)."""
    side = 1 - 2 * moon.to(angle)
    return torch.stack([side * (angle.cos() - 0.5), side * (angle.sin() - 0.25)], 1)


def _check(n: int, noise: float) -> None:
    if n < 1 or not 0 < noise < math.inf:
        raise ValueError(f"n, noise are {n}, {noise}; expected ≥ 1 and > 0")
