r"""Wasserstein GANs: the critic's loss, what keeps its slope bounded (clipping, a penalty), and the two games."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lectool import check
from lectool.gan.game import Game, Made, Player, two_player
from lectool.random import uniform

__all__ = ["Wasserstein", "clip_weights", "gradient_norm", "gradient_penalty", "wgan", "wgan_gp"]

Critic = Callable[[Tensor], Tensor]


class Wasserstein:
    r"""Difference of mean scores; a distance only if something bounds the critic's slope.

    .. math:: \max_f \; \mathbb E_x f(x) - \mathbb E_z f(G(z))

    References:
        Arjovsky, Chintala, Bottou (2017), Wasserstein GAN.
    """

    needs_real = False

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


@torch.no_grad()
def clip_weights(module: nn.Module, c: float) -> None:
    r"""Moves every weight and bias that has left [−c, c] back to its border.

    Weights in a box bound the slope by *some* constant K, which depends on widths and depth and is never 1.

    Arguments:
        module: changed in place.
        c: > 0; 0.01 in the paper.

    Raises:
        ValueError: if c is not positive.

    References:
        Arjovsky, Chintala & Bottou (2017), Wasserstein GAN, algorithm 1.
    """
    check.positive(c=c)
    for p in module.parameters():
        p.clamp_(-c, c)


def gradient_norm(critic: Critic, x: Tensor) -> Tensor:
    r"""Length :math:`\lVert \nabla_x f(x) \rVert_2` of the critic's slope at each sample; can be differentiated again.

    The largest over many points is a lower bound of the critic's Lipschitz constant.

    Arguments:
        critic: data → one score a sample; each row by itself (no batch normalization in training mode).
        x: shape (n, …).

    Returns:
        shape (n,).
    """
    slope = torch.func.grad(lambda v: critic(v).sum())(x.detach())
    return torch.linalg.vector_norm(slope.flatten(1), dim=1)


def gradient_penalty(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    lam: float = 10.0,
    *,
    one_sided: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Draws the critic's slope towards 1 on lines between real and generated samples: what makes WGAN-GP of WGAN.

    .. math:: \lambda\, \mathbb E_{\hat x} \bigl( \lVert \nabla f(\hat x) \rVert_2 - 1 \bigr)^2, \qquad
        \hat x = \epsilon x + (1 - \epsilon) y, \quad \epsilon \sim U(0, 1)

    It is added to the loss that the critic descends, :math:`\mathbb E f(y) - \mathbb E f(x)`; subtracted from what it
    ascends.

    Arguments:
        critic: as in :func:`gradient_norm`.
        real, fake: x and y, of one shape (n, …).
        lam: λ > 0.
        one_sided: whether slopes below 1 cost nothing.
        generator: of ε; torch's global one where ``None``.

    Returns:
        a scalar, the mean over the batch.

    Raises:
        ValueError: if shapes differ or λ is not positive.

    References:
        Gulrajani et al. (2017), Improved training of Wasserstein GANs.
    """
    check.positive(lam=lam)
    check.shape(*real.shape, fake=fake)
    share = uniform((len(real), *[1] * (real.ndim - 1)), real, generator)
    gap = gradient_norm(critic, share * real + (1 - share) * fake) - 1
    if one_sided:
        gap = gap.clamp(min=0)
    return lam * gap.square().mean()


# ----------------------------------------------------------------------------------------- the two games


def wgan(
    G: nn.Module, D: nn.Module, *, c: float = 0.01, k: int = 5, lr: float = 5e-5, **settings: Any
) -> Game:
    r"""WGAN as it was published first: the critic's weights are clipped to [−c, c], RMSProp moves both.

    Arguments:
        G, D, k, lr, settings: as for :func:`lectool.gan.two_player`.
        c: as in :func:`clip_weights`.

    References:
        Arjovsky, Chintala & Bottou (2017), Wasserstein GAN, algorithm 1.
    """
    check.positive(c=c)
    settings = {
        "optimizer": torch.optim.RMSprop,
        "constrain": lambda f: clip_weights(f, c),
    } | settings
    return two_player(G, D, Wasserstein(), k=k, lr=lr, **settings)


def wgan_gp(
    G: nn.Module,
    f: nn.Module,
    *,
    lam: float = 10.0,
    k: int = 5,
    lr: float = 1e-4,
    betas: tuple[float, float] = (0.0, 0.9),
    latent: int | None = None,
) -> Game:
    r"""WGAN-GP: the critic f is drawn to slope 1 between real and generated samples, and moves k times a step.

    All of it in one place; ``two_player(G, f, Wasserstein(), penalty=gradient_penalty, …)`` is the same game.

    Arguments:
        G: generator, with an attribute ``latent`` where that is not given.
        f: critic, without batch normalization.
        lam: λ of :func:`gradient_penalty`.
        k, lr, betas, latent: as for :func:`lectool.gan.two_player`.

    References:
        Gulrajani et al. (2017), Improved training of Wasserstein GANs, algorithm 1.
    """

    def critic_loss(made: Made) -> dict[str, Tensor]:
        real, fake = made["real"], made["fake"]
        loss = f(fake).mean() - f(real).mean()
        return {"critic": loss, "penalty": gradient_penalty(f, real, fake, lam)}

    def generator_loss(made: Made) -> Tensor:
        return -f(made["fake"]).mean()

    check.positive(lam=lam)
    game = two_player(G, f, Wasserstein(), latent=latent)
    game.judges = {"critic": Player(f, critic_loss, lr=lr, betas=betas)}
    game.makers = {"generator": Player(G, generator_loss, lr=lr, betas=betas)}
    game.k = k
    return game
