r"""What the game is about: pairs of losses on the discriminator's logits.

All losses are means over the batch, the first axis, and sums over whatever other axes the outputs have: several games
that are played side by side in one tensor then do not know of each other.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from lectool.metrics import squared_mmd

__all__ = [
    "MMD",
    "FDivergence",
    "Fisher",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Wasserstein",
    "jensen_shannon",
    "optimal_discriminator",
]


def mean(terms: Tensor) -> Tensor:
    return terms.mean(0).sum()


class Minimax:
    r"""The game of the theory: the generator descends what the discriminator ascends.

    .. math:: V = \mathbb E_x \log D(x) + \mathbb E_z \log (1 - D(G(z))), \qquad D = \sigma(a)

    The discriminator's loss is :math:`-V`, with targets :math:`1 - \alpha` for real and :math:`\beta` for fake
    data if the labels are smoothed; the generator's is :math:`\mathbb E \log(1 - D(G(z)))`, whose slope in the logit is
    :math:`-D(G(z))`: nothing where the discriminator is sure.

    Arguments:
        alpha: what is taken off the target of real data, in [0, 1): one-sided label smoothing (Salimans et al., 2016).
        beta: what is put on the target of fakes, in [0, 1): smoothing that one should leave.

    Raises:
        ValueError: if one of them is out of range.

    References:
        Goodfellow et al. (2014), Generative adversarial nets, equation 1.
    """

    needs_real = False

    def __init__(self, alpha: float = 0.0, beta: float = 0.0) -> None:
        if not (0 <= alpha < 1 and 0 <= beta < 1):
            raise ValueError(f"alpha, beta are {alpha}, {beta}; expected both in [0, 1)")
        self.alpha, self.beta = alpha, beta

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        # −t log σ(a) − (1 − t) log(1 − σ(a)) = softplus(a) − t a
        return mean(softplus(real) - (1 - self.alpha) * real) + mean(
            softplus(fake) - self.beta * fake
        )

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -mean(softplus(fake))  # log(1 − σ(a)) = −softplus(a)


class NonSaturating(Minimax):
    r"""The game of practice: the same discriminator, and a generator that ascends :math:`\mathbb E \log D(G(z))`.

    The slope of the generator's loss in the logit is :math:`-(1 - D(G(z)))`: largest where the discriminator is sure.
    ``alpha`` and ``beta`` as in :class:`Minimax`.

    References:
        Goodfellow et al. (2014), Generative adversarial nets, section 3.
    """

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return mean(softplus(-fake))  # −log σ(a)


class Wasserstein:
    r"""Difference of mean scores; a distance only if something bounds the critic's slope.

    .. math:: \max_f \; \mathbb E_x f(x) - \mathbb E_z f(G(z))

    References:
        Arjovsky, Chintala, Bottou (2017), Wasserstein GAN.
    """

    needs_real = False

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return mean(fake) - mean(real)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -mean(fake)


class Hinge:
    r"""Scores beyond the margins ±1 earn nothing more.

    .. math:: L_D = \mathbb E \max(0, 1 - f(x)) + \mathbb E \max(0, 1 + f(G(z))), \qquad L_G = -\mathbb E f(G(z))

    References:
        Lim, Ye (2017), Geometric GAN; Miyato et al. (2018), Spectral normalization for GANs.
    """

    needs_real = False

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return mean(relu(1 - real)) + mean(relu(1 + fake))

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -mean(fake)


class LeastSquares:
    r"""Scores are drawn to 1 for real and 0 for fake data by squares, which do not saturate.

    References:
        Mao et al. (2017), Least squares generative adversarial networks.
    """

    needs_real = False

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * mean((real - 1) ** 2) + 0.5 * mean(fake**2)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * mean((fake - 1) ** 2)


# ------------------------------------------------------------------------------ what the theory knows


def optimal_discriminator(
    log_p: Tensor, log_q: Tensor, alpha: float = 0.0, beta: float = 0.0
) -> Tensor:
    r"""The best answer to a fixed generator, at points where both log-densities are known.

    .. math:: D^*(x) = \frac{(1 - \alpha)\, p(x) + \beta\, q(x)}{p(x) + q(x)}

    Arguments:
        log_p, log_q: log-densities of data and model, of one shape.
        alpha, beta: label smoothing, as in :class:`Minimax`.

    Returns:
        probabilities of "real", of the same shape.
    """
    share = torch.sigmoid(log_p - log_q)  # p / (p + q), also where both densities underflow
    return (1 - alpha) * share + beta * (1 - share)


def jensen_shannon(log_p: Tensor, log_q: Tensor, x: Tensor) -> float:
    r"""Jensen–Shannon divergence of two densities on the line, by the trapezoidal rule, in nats.

    Arguments:
        log_p, log_q: log-densities at the points x, shape (n,).
        x: an ascending grid that covers both densities, shape (n,).
    """
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    f = 0.5 * log_p.exp() * (log_p - log_m) + 0.5 * log_q.exp() * (log_q - log_m)
    return torch.trapezoid(f, x).item()


# ---------------------------------------------------------------------------------- other divergences


# name → f(u), g(v), f*(g(v)), and the output v at which the bound is tight where log p/q = r
FAMILY: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "kl": (
        lambda u: u * u.log(),
        lambda v: v,
        lambda v: torch.exp(v - 1),
        lambda r: 1 + r,
    ),
    "reverse kl": (
        lambda u: -u.log(),
        lambda v: -torch.exp(-v),
        lambda v: v - 1,
        lambda r: r,
    ),
    "pearson": (
        lambda u: (u - 1) ** 2,
        lambda v: v,
        lambda v: v**2 / 4 + v,
        lambda r: 2 * torch.expm1(r),
    ),
    "hellinger": (
        lambda u: (u.sqrt() - 1) ** 2,
        lambda v: -torch.expm1(-v),
        lambda v: torch.expm1(v),
        lambda r: r / 2,
    ),
    "jensen-shannon": (
        lambda u: u * u.log() - (1 + u) * ((1 + u) / 2).log(),
        lambda v: math.log(2) - softplus(-v),
        lambda v: softplus(v) - math.log(2),
        lambda r: r,
    ),
}


class FDivergence:
    r"""Any f-divergence :math:`D_f(p \Vert q) = \mathbb E_q f(p / q)`, by its variational bound.

    .. math:: D_f(p \Vert q) \ge \mathbb E_x\, T(x) - \mathbb E_z\, f^*(T(G(z))), \qquad T = g(v)

    with the convex conjugate :math:`f^*` and an activation g that keeps the outputs v of the network within its
    domain. The bound is tight at :math:`T = f'(p / q)`. The discriminator raises it, the generator lowers it.

    Arguments:
        name: ``"kl"``: KL(p‖q); ``"reverse kl"``: KL(q‖p); ``"pearson"``: χ²; ``"hellinger"``: squared
            Hellinger distance; ``"jensen-shannon"``: 2 JSD, the game of :class:`Minimax` up to log 4.

    Raises:
        ValueError: if the name is unknown.

    References:
        Nowozin, Cseke, Tomioka (2016), f-GAN, tables 1, 2 and 6.
    """

    needs_real = False

    def __init__(self, name: str) -> None:
        if name not in FAMILY:
            raise ValueError(f"name is {name!r}; it can be one of {', '.join(FAMILY)}")
        self.name = name
        self.f, self.g, self.conjugate, self.optimum = FAMILY[name]

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        r"""The lower bound of the divergence, from outputs on real and on fake data."""
        return mean(self.g(real)) - mean(self.conjugate(fake))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.bound(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -mean(self.conjugate(fake))


class MMD:
    r"""The discriminator picks features, in which the maximum mean discrepancy of real and fake is to be large.

    Its output is a vector of features a sample, not a logit. Without a bound on its slope (a gradient
    penalty, clipped weights) it can make any small difference as large as the kernel allows.

    Arguments:
        kernel, widths: as in :func:`lectool.metrics.squared_mmd`.

    References:
        Li et al. (2017), MMD GAN; Bińkowski et al. (2018), Demystifying MMD GANs.
    """

    needs_real = True

    def __init__(
        self, kernel: str = "imq", widths: Sequence[float] = (0.2, 0.5, 1.0, 2.0, 5.0)
    ) -> None:
        self.kernel, self.widths = kernel, tuple(widths)

    def discrepancy(self, real: Tensor, fake: Tensor) -> Tensor:
        if real.ndim == 3:  # games side by side
            return sum(self.discrepancy(real[:, i], fake[:, i]) for i in range(real.shape[1]))
        if not (torch.isfinite(real).all() and torch.isfinite(fake).all()):
            return (real.sum() + fake.sum()) * math.nan  # for the game loop to see
        return squared_mmd(real, fake, kernel=self.kernel, widths=self.widths)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.discrepancy(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return self.discrepancy(real, fake)


class Fisher:
    r"""Difference of mean scores at bounded second moment, by an augmented Lagrangian.

    .. math::
        \max_f\, \mathbb E_p f - \mathbb E_q f \quad \text{where} \quad
        \Omega = \tfrac12 \mathbb E_p f^2 + \tfrac12 \mathbb E_q f^2 = 1

    The critic descends :math:`-(\mathbb E_p f - \mathbb E_q f) - \lambda (1 - \Omega) + \tfrac\rho2 (\Omega - 1)^2`;
    after each of its losses the multiplier moves by :math:`\lambda \leftarrow \lambda + \rho\, (\Omega - 1)`. The
    optimum is proportional to :math:`(p - q) / (p + q)`: the same ratio as the best discriminator, on another scale.

    Arguments:
        rho: ρ > 0, weight of the quadratic term and step size of the multiplier.

    Attributes:
        lam: the multiplier λ, one a game where several are played side by side.

    Raises:
        ValueError: if ``rho`` is not positive.

    References:
        Mroueh, Sercu (2017), Fisher GAN, algorithm 1.
    """

    needs_real = False

    def __init__(self, rho: float = 1e-3) -> None:
        if not rho > 0:
            raise ValueError(f"rho is {rho}; expected > 0")
        self.rho, self.lam = rho, torch.zeros(())

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        omega = 0.5 * real.square().mean(0) + 0.5 * fake.square().mean(0)
        gap, lam = real.mean(0) - fake.mean(0), self.lam.to(omega)
        self.lam = lam + self.rho * (omega.detach() - 1)
        return (-gap - lam * (1 - omega) + 0.5 * self.rho * (omega - 1) ** 2).sum()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -mean(fake)
