r"""Mode collapse: how it is counted, and a generator that looks ahead."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from lectool import check
from lectool.gan.game import Objective

__all__ = ["Unrolled", "modes_covered"]


def modes_covered(
    samples: Tensor, centers: Tensor, sd: float = 0.05, *, min_share: float = 0.1
) -> tuple[int, float]:
    r"""How many modes a sample reaches, and how much of it lies in one.

    A point belongs to its nearest center if it is within 3 ``sd`` of it. A mode counts as covered if it holds at
    least ``min_share`` of its fair share of the sample, n / n_modes: a few stragglers are not enough.

    Arguments:
        samples: shape (n, d).
        centers: shape (n_modes, d).
        sd: standard deviation of a mode, > 0.
        min_share: in (0, 1].

    Returns:
        the number of modes covered, and the share of points within 3 ``sd`` of a center.

    Raises:
        ValueError: if the widths differ or a setting is out of range.
    """
    check.data(samples, "samples", width=centers.shape[1])
    check.positive(sd=sd)
    check.inside("(0, 1]", min_share=min_share)
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
    :func:`lectool.gan.two_player` as ``look_ahead``.

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
        check.at_least(0, n_steps=n_steps)
        check.positive(lr=lr)
        self.n_steps, self.lr, self.through = n_steps, lr, through

    def __call__(self, D: nn.Module, objective: Objective, real: Tensor, fake: Tensor) -> Tensor:
        def judged(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            return functional_call(D, weights, (real,)), functional_call(D, weights, (fake,))

        def loss(weights: dict[str, Tensor]) -> Tensor:
            return objective.discriminator_loss(*judged(weights))

        weights = {name: p.detach() for name, p in D.named_parameters()}
        for _ in range(self.n_steps):
            slopes = grad(loss)(weights)
            if not self.through:
                slopes = {name: slope.detach() for name, slope in slopes.items()}
            weights = {name: w - self.lr * slopes[name] for name, w in weights.items()}
        on_real, on_fake = judged(weights)
        return objective.generator_loss(on_fake, on_real)
