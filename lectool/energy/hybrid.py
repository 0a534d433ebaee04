r"""Chapter 10: hybrid Monte Carlo, which moves a sample as a ball that rolls on the energy."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lectool import check, random

__all__ = ["Chains", "energy_error", "hmc", "hmc_step", "leapfrog"]

Energy = Callable[[Tensor], Tensor]


class Chains(NamedTuple):
    r"""What :func:`hmc` leaves.

    Attributes:
        x: where the chains are, without gradient.
        step: the step size after the last round, a scalar tensor.
        rate: the share of proposals accepted in all rounds, in [0, 1], a scalar tensor.
    """

    x: Tensor
    step: Tensor
    rate: Tensor


def leapfrog(
    gradient: Energy, x: Tensor, p: Tensor, step: float | Tensor, n_leapfrog: int
) -> tuple[Tensor, Tensor]:
    r"""Moves places x and momenta p through the time ``n_leapfrog * step``, as a ball that rolls on the energy.

    Each step is half a push, a move and half a push. It can be run back by turning p round, keeps volumes, and errs
    in :math:`E(x) + \tfrac12 \lVert p \rVert^2` by a multiple of step².

    Arguments:
        gradient: maps x to :math:`\nabla E(x)`, of x's shape.
        x, p: shape (n, …).
        step: > 0.
        n_leapfrog: steps, ≥ 1.

    Returns:
        x and p at the end.
    """
    p = p - 0.5 * step * gradient(x)
    for _ in range(n_leapfrog - 1):
        x = x + step * p
        p = p - step * gradient(x)
    x = x + step * p
    return x, p - 0.5 * step * gradient(x)


def hmc_step(
    energy: Energy,
    gradient: Energy,
    x: Tensor,
    step: float | Tensor,
    n_leapfrog: int,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""One round of hybrid Monte Carlo: fresh momenta, a trajectory, and the choice to take its end or stay.

    The end is taken with probability :math:`\min(1, e^{H - H'})`, :math:`H = E(x) + \tfrac12 \lVert p \rVert^2`.
    A trajectory that ends at a NaN or at an infinite energy is not taken.

    Arguments:
        energy, gradient: map x to E(x), shape (n,), and to its gradient, of x's shape.
        x, step, n_leapfrog: as in :func:`leapfrog`.
        generator: of the draws.

    Returns:
        x: shape (n, …).
        accepted: shape (n,), bool.
    """
    p = random.noise(x.shape, x, generator)
    x_new, p_new = leapfrog(gradient, x, p, step, n_leapfrog)
    before = energy(x) + 0.5 * p.square().flatten(1).sum(1)
    after = energy(x_new) + 0.5 * p_new.square().flatten(1).sum(1)
    accepted = random.uniform(len(x), x, generator).log() < before - after
    return torch.where(accepted.reshape(-1, *[1] * (x.ndim - 1)), x_new, x), accepted


def gradient_of(energy: Energy) -> Energy:
    r"""The function that maps x to :math:`\nabla E(x)`, by automatic differentiation."""

    def gradient(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(energy(x).sum(), x)[0]

    return gradient


@torch.no_grad()
def hmc(
    energy: Energy,
    x: Tensor,
    n_steps: int = 1,
    *,
    step: float | Tensor = 0.1,
    n_leapfrog: int = 20,
    jitter: float = 0.1,
    target: float | None = None,
    gradient: Energy | None = None,
    generator: torch.Generator | None = None,
) -> Chains:
    r"""Hybrid (Hamiltonian) Monte Carlo: chains that keep :math:`p(x) \propto e^{-E(x)}` and go far in each round.

    With a fixed step size detailed balance holds, whatever the step size. With ``target`` set, each round multiplies
    it by :math:`e^{(\text{rate} - \text{target}) / 10}`, which is for the burn-in: then go on with the returned one.
    Where a trajectory takes a whole period of some direction, :math:`2 \pi` times its standard deviation, a chain
    returns to where it began; a step size that differs a little from round to round keeps that from lasting.

    Arguments:
        energy: maps places, shape (n, …), to E(x) in nats, shape (n,); any constant may be missing.
        x: where the chains start, shape (n, …).
        n_steps: rounds, ≥ 0.
        step: of the leapfrog, in units of x, > 0.
        n_leapfrog: leapfrog steps a round, ≥ 1.
        jitter: each round draws its step size evenly within this share of ``step``, in [0, 1).
        target: the acceptance rate that the step size is adapted to, in (0, 1); it stays as it is where ``None``.
        gradient: maps x to :math:`\nabla E(x)`; by automatic differentiation where ``None``.
        generator: of the draws; torch's global one where ``None``.

    Raises:
        ValueError: if a setting is out of range or x holds a NaN.

    References:
        Duane, Kennedy, Pendleton & Roweth (1987), Hybrid Monte Carlo; Neal (2011), MCMC using Hamiltonian dynamics.

    Example:
        >>> chains = hmc(lambda x: 0.5 * x.square().sum(1), torch.zeros(1000, 2), 20, step=0.2)
        >>> chains.x.shape, bool(chains.rate > 0.9)
        (torch.Size([1000, 2]), True)
    """
    check.data(x, n_dims=x.ndim)
    check.at_least(0, n_steps=n_steps)
    check.at_least(1, n_leapfrog=n_leapfrog)
    check.positive(step=float(step))
    check.inside("[0, 1)", jitter=jitter)
    if target is not None:
        check.inside("(0, 1)", target=target)
    gradient = gradient or gradient_of(energy)
    x, step = x.detach(), torch.as_tensor(step, dtype=x.dtype, device=x.device)
    total = torch.zeros_like(step)
    for _ in range(n_steps):
        now = step * (1 + jitter * (2 * random.uniform((), x, generator) - 1))
        x, accepted = hmc_step(energy, gradient, x, now, n_leapfrog, generator)
        rate = accepted.to(x.dtype).mean()
        total = total + rate
        if target is not None:
            step = step * torch.exp(0.1 * (rate - target))
    return Chains(x, step, total / max(n_steps, 1))


@torch.no_grad()
def energy_error(
    energy: Energy, x: Tensor, p: Tensor, step: float, time: float, gradient: Energy | None = None
) -> Tensor:
    r"""By how much the leapfrog misses the energy that it should keep, :math:`\lvert H' - H \rvert`, shape (n,).

    Arguments:
        energy, x, p, gradient: as in :func:`hmc` and :func:`leapfrog`.
        step: > 0.
        time: length of the trajectory; rounded to whole steps, at least one.
    """
    check.positive(step=step, time=time)
    gradient = gradient or gradient_of(energy)
    x_new, p_new = leapfrog(gradient, x, p, step, max(1, round(time / step)))
    change = energy(x_new) - energy(x)
    return (change + 0.5 * (p_new.square() - p.square()).flatten(1).sum(1)).abs()
