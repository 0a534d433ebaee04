r"""Mode collapse: sets on which it can be counted, the count, and a generator that looks ahead."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lectool import check
from lectool.gan.game import Objective

__all__ = ["Unrolled", "grid", "modes_covered", "ring", "sample_modes"]


def ring(n_modes: int = 8, radius: float = 2.0) -> Tensor:
    r"""Centres of ``n_modes`` Gaussians on a circle, shape (n_modes, 2)."""
    if n_modes < 1 or not radius > 0:
        raise ValueError(f"n_modes, radius are {n_modes}, {radius}; expected ≥ 1, > 0")
    angle = 2 * math.pi * torch.arange(n_modes) / n_modes
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def grid(side: int = 5, spacing: float = 1.0) -> Tensor:
    r"""Centres of ``side``² Gaussians on a square grid around the origin, shape (side², 2)."""
    if side < 1 or not spacing > 0:
        raise ValueError(f"side, spacing are {side}, {spacing}; expected ≥ 1, > 0")
    axis = spacing * (torch.arange(side) - (side - 1) / 2)
    return torch.cartesian_prod(axis, axis).reshape(-1, 2)


def sample_modes(
    n: int,
    centers: Tensor,
    sd: float = 0.05,
    *,
    n_members: int | None = None,
    rng: torch.Generator | None = None,
) -> Tensor:
    r"""Points from a mixture of equal, round Gaussians.

    Arguments:
        n: number of points.
        centers: shape (n_modes, 2).
        sd: standard deviation of each Gaussian, > 0.
        n_members: draw that many independent sets, shape (n, n_members, 2), for games side by side.
        rng: source of the draws.

    Returns:
        shape (n, 2), or (n, n_members, 2).
    """
    if n < 1 or not sd > 0:
        raise ValueError(f"n, sd are {n}, {sd}; expected ≥ 1, > 0")
    shape = (n,) if n_members is None else (n, n_members)
    chosen = centers[torch.randint(len(centers), shape, generator=rng)]
    return chosen + sd * torch.randn(chosen.shape, generator=rng)


def modes_covered(
    samples: Tensor, centers: Tensor, sd: float = 0.05, *, min_share: float = 0.1
) -> tuple[int, float]:
    r"""How many modes a sample reaches, and how much of it lies in one.

    A point belongs to its nearest centre if it is within 3 ``sd`` of it. A mode counts as covered if it holds at
    least ``min_share`` of its fair share of the sample, n / n_modes: a few stragglers are not enough.

    Arguments:
        samples: shape (n, d).
        centers: shape (n_modes, d).
        sd: standard deviation of a mode, > 0.
        min_share: in (0, 1].

    Returns:
        the number of modes covered, and the share of points within 3 ``sd`` of a centre.

    Raises:
        ValueError: if the widths differ or a setting is out of range.
    """
    check.data(samples, "samples", width=centers.shape[1])
    if not sd > 0 or not 0 < min_share <= 1:
        raise ValueError(f"sd, min_share are {sd}, {min_share}; expected > 0, in (0, 1]")
    distance, nearest = torch.cdist(samples, centers).min(1)
    inside = distance <= 3 * sd
    counts = torch.bincount(nearest[inside], minlength=len(centers))
    needed = min_share * len(samples) / len(centers)
    return int((counts >= max(needed, 1)).sum()), inside.double().mean().item()


class Unrolled:
    r"""A generator's loss that asks what the discriminator will answer after ``n_steps`` updates of its own.

    .. math::
        \theta_D^{0} = \theta_D, \qquad
        \theta_D^{j+1} = \theta_D^{j} - \eta\, \nabla_{\theta_D} L_D(\theta_D^{j}, \theta_G), \qquad
        \min_{\theta_G} L_G(\theta_D^{K}(\theta_D, \theta_G), \theta_G)

    The gradient flows through the updates: besides :math:`\partial L_G / \partial \theta_G` it has the term
    :math:`\frac{\partial L_G}{\partial \theta_D^K} \frac{\mathrm d \theta_D^K}{\mathrm d \theta_G}`, by which the
    generator learns that a crowd on one spot will be noticed. The real discriminator does not move. Handed to
    :func:`lectool.gan.play` as ``look_ahead``.

    Arguments:
        n_steps: K ≥ 0; 0 is the ordinary loss.
        lr: η, step size of the imagined updates.
        through: whether the gradient flows through the updates; without, the generator meets a discriminator that is K
            steps ahead, and nothing more.

    Raises:
        ValueError: if a setting is out of range.

    References:
        Metz, Poole, Pfau, Sohl-Dickstein (2017), Unrolled generative adversarial networks.
    """

    def __init__(self, n_steps: int = 5, lr: float = 0.1, *, through: bool = True) -> None:
        if n_steps < 0 or not lr > 0:
            raise ValueError(f"n_steps, lr are {n_steps}, {lr}; expected ≥ 0, > 0")
        self.n_steps, self.lr, self.through = n_steps, lr, through

    def __call__(
        self, discriminator: nn.Module, objective: Objective, real: Tensor, fake: Tensor
    ) -> Tensor:
        weights = {
            name: p.detach().requires_grad_() for name, p in discriminator.named_parameters()
        }
        for _ in range(self.n_steps):
            loss = objective.discriminator_loss(*self.judge(discriminator, weights, real, fake))
            slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=self.through)
            weights = {
                name: w - self.lr * s for (name, w), s in zip(weights.items(), slopes, strict=True)
            }
        judged_real, judged_fake = self.judge(discriminator, weights, real, fake)
        return objective.generator_loss(judged_fake, judged_real)

    @staticmethod
    def judge(
        discriminator: nn.Module, weights: dict[str, Tensor], real: Tensor, fake: Tensor
    ) -> tuple[Tensor, Tensor]:
        return tuple(functional_call(discriminator, weights, (v,)) for v in (real, fake))
