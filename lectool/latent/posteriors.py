r"""Chapter 08: four ways to a posterior: its peak, draws from it, the nearest Gaussian, a network that guesses it."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lectool import check
from lectool.nets import mlp
from lectool.random import noise, uniform

__all__ = [
    "AmortizedPosterior",
    "fit_forward",
    "fit_reverse",
    "gaussian_free_energy",
    "map_estimate",
    "metropolis",
    "nodes",
]

LogDensity = Callable[[Tensor], Tensor]


def map_estimate(log_p: LogDensity, grid: Tensor) -> Tensor:
    r"""The highest peak of log-densities: the best value of a grid, moved to the top of the parabola through its
    neighbors.

    Arguments:
        log_p: maps values of z, shape (g,), to log-densities, shape (n, g), up to a constant of each.
        grid: evenly spaced, shape (g,), g ≥ 3.

    Returns:
        shape (n,). A peak at the grid's end stays there.
    """
    values = log_p(grid)
    best = values.argmax(1)
    inner = best.clamp(1, len(grid) - 2)
    left, middle, right = (values.gather(1, (inner + j)[:, None])[:, 0] for j in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = torch.where(bend < 0, 0.5 * (left - right) / bend, 0.0).clamp(-1, 1)
    return grid[best] + torch.where(best == inner, shift, 0.0) * (grid[1] - grid[0])


def metropolis(
    log_p: LogDensity,
    z: Tensor,
    *,
    n_steps: int = 1000,
    step: float = 1.0,
    n_burn_in: int = 100,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Draws by random-walk Metropolis, one chain for each entry of z, all at once.

    A proposal :math:`z' = z + \text{step} \cdot \epsilon` is taken with probability
    :math:`\min(1, p(z') / p(z))`; the unknown p(x) cancels.

    Arguments:
        log_p: maps z of shape (n,) to log-densities up to a constant, shape (n,).
        z: where the chains start, shape (n,).
        n_steps: draws that are kept, ≥ 1.
        step: standard deviation of a proposal, > 0.
        n_burn_in: draws before them, which are thrown away, ≥ 0.
        generator: of proposals and decisions.

    Returns:
        draws: shape (n_steps, n).
        accepted: the share of proposals taken in each chain, shape (n,).

    Raises:
        ValueError: if a chain starts where the density is 0.

    References:
        Metropolis, Rosenbluth, Rosenbluth, Teller & Teller (1953), Equation of state calculations by fast computing
        machines.
    """
    check.at_least(1, n_steps=n_steps)
    check.non_negative(n_burn_in=n_burn_in)
    check.positive(step=step)
    here = log_p(z)
    if not torch.isfinite(here).all():
        raise ValueError("a chain starts where the density is 0 or undefined; expected it positive")
    draws, accepted = [], torch.zeros_like(z)
    for t in range(n_burn_in + n_steps):
        proposal = z + step * noise(z.shape, z, generator)
        there = log_p(proposal)
        take = uniform(z.shape, z, generator).log() < there - here
        z, here = torch.where(take, proposal, z), torch.where(take, there, here)
        if t >= n_burn_in:
            draws.append(z)
            accepted += take
    return torch.stack(draws), accepted / n_steps


def nodes(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    r"""Gauss–Hermite values ε and weights that sum to 1, shapes (n,):
    :math:`E h(\epsilon) \approx \sum_j w_j h(\epsilon_j)` for ε ~ N(0, 1), exactly for polynomials below degree 2n."""
    points, weights = np.polynomial.hermite_e.hermegauss(n)
    return tuple(torch.as_tensor(t).to(like) for t in (points, weights / weights.sum()))


def gaussian_free_energy(log_p: LogDensity, mean: Tensor, sd: Tensor, n_nodes: int = 40) -> Tensor:
    r"""The free energy :math:`E_q \log p(z) + H(q)` of Gaussians q = N(m, s²), by quadrature, in nats.

    Arguments:
        log_p: maps z of shape (n, n_nodes) to log-densities of that shape. With :math:`\log p(x, z)` the result is the
            ELBO, a lower bound on :math:`\log p(x)`; with a normalized density, −KL(q‖p).
        mean, sd: m and s > 0, shape (n,).
        n_nodes: of the quadrature, ≥ 1.

    Returns:
        shape (n,).
    """
    epsilon, weights = nodes(n_nodes, mean)
    z = mean[:, None] + sd[:, None] * epsilon
    return log_p(z) @ weights + sd.log() + 0.5 * (1 + math.log(2 * math.pi))


def fit_reverse(
    log_p: LogDensity,
    mean: Tensor,
    sd: Tensor,
    *,
    n_steps: int = 400,
    lr: float = 0.05,
    n_nodes: int = 40,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Gaussians with the least KL(q‖p), from a given start, for all densities at once: variational inference.

    q must be small where p is: between two peaks it takes one, which one the start decides.

    Arguments:
        log_p: maps z of shape (n, n_nodes) to log-densities of that shape, up to a constant; differentiable.
        mean, sd: the start, sd > 0, shape (n,).
        n_steps: of Adam, whose step size falls to 0 along a cosine, ≥ 1.
        lr: the first step size, > 0.
        n_nodes: as in :func:`gaussian_free_energy`.

    Returns:
        mean, sd: shape (n,).
        free: the free energy :math:`E_q \log p + H(q)` reached, in nats, shape (n,).
    """
    check.at_least(1, n_steps=n_steps, n_nodes=n_nodes)
    check.positive(lr=lr)
    if not (sd > 0).all():
        raise ValueError(f"sd is as small as {sd.min().item():.3g}; expected numbers > 0")
    m, log_sd = (t.detach().clone().requires_grad_() for t in (mean, sd.log()))
    opt = torch.optim.Adam([m, log_sd], lr=lr)
    pace = torch.optim.lr_scheduler.CosineAnnealingLR(opt, n_steps)
    for _ in range(n_steps):
        opt.zero_grad()
        (-gaussian_free_energy(log_p, m, log_sd.exp(), n_nodes).sum()).backward()
        opt.step()
        pace.step()
    with torch.no_grad():
        free = gaussian_free_energy(log_p, m, log_sd.exp(), n_nodes)
    return m.detach(), log_sd.detach().exp(), free


def fit_forward(log_p: LogDensity, grid: Tensor) -> tuple[Tensor, Tensor]:
    r"""Gaussians with the least KL(p‖q): they have p's mean and variance, so q covers all of p.

    Arguments:
        log_p: maps values of z, shape (g,), to log-densities, shape (n, g), up to a constant of each.
        grid: evenly spaced over all of p's mass, shape (g,).

    Returns:
        mean, sd: shape (n,).
    """
    p = log_p(grid).softmax(1)
    mean = p @ grid
    variance = (p * (grid - mean[:, None]).square()).sum(1)
    return mean, variance.sqrt()


class AmortizedPosterior(nn.Module):
    r"""A network that maps x to the mean and standard deviation of a Gaussian q(z|x), trained on the ELBO.

    Where :func:`fit_reverse` solves one problem for each datum, it learns the map from the problem to its solution;
    a new datum then costs one pass. It can do no better on any datum than the best Gaussian.

    Arguments:
        log_joint: maps x (n, d) and z (n, m) to :math:`\log p(x, z)`, shape (n, m); kept fixed.
        n_features: d ≥ 1.
        n_hidden: widths of the hidden layers.
        n_nodes: as in :func:`gaussian_free_energy`.
    """

    def __init__(
        self,
        log_joint: Callable[[Tensor, Tensor], Tensor],
        n_features: int = 1,
        n_hidden: Sequence[int] = (32, 32),
        n_nodes: int = 20,
    ):
        super().__init__()
        check.at_least(1, n_features=n_features, n_nodes=n_nodes)
        self.log_joint, self.n_nodes = log_joint, n_nodes
        self.net = mlp([n_features, *n_hidden, 2], nn.Tanh)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and standard deviation of q(z|x), shape (n,) each."""
        mean, log_sd = self.net(x).unbind(1)
        return mean, log_sd.exp()

    def elbo(self, x: Tensor) -> Tensor:
        r"""The ELBO of each sample in nats, shape (n,)."""
        return gaussian_free_energy(lambda z: self.log_joint(x, z), *self.encode(x), self.n_nodes)

    def loss(self, x: Tensor) -> Tensor:
        r"""Minus the mean ELBO."""
        return -self.elbo(x).mean()
