r"""What the game is about: pairs of losses on the discriminator's outputs, means over the batch."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from lectool import check
from lectool.metrics import kernel_values, mmd2

__all__ = [
    "MMD",
    "FDivergence",
    "Fisher",
    "Hinge",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "jensen_shannon",
    "optimal_discriminator",
]


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
        check.inside("[0, 1)", alpha=alpha, beta=beta)
        self.alpha, self.beta = alpha, beta

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        # −t log σ(a) − (1 − t) log(1 − σ(a)) = softplus(a) − t a, with t = 1 − α and t = β
        on_real = softplus(real) - (1 - self.alpha) * real
        on_fake = softplus(fake) - self.beta * fake
        return on_real.mean() + on_fake.mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -softplus(fake).mean()  # log(1 − σ(a)) = −softplus(a)


class NonSaturating(Minimax):
    r"""The game of practice: the same discriminator, and a generator that ascends :math:`\mathbb E \log D(G(z))`.

    The slope of the generator's loss in the logit is :math:`-(1 - D(G(z)))`: largest where the discriminator is sure.
    ``alpha`` and ``beta`` as in :class:`Minimax`.

    References:
        Goodfellow et al. (2014), Generative adversarial nets, section 3.
    """

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return softplus(-fake).mean()  # −log σ(a)


class Hinge:
    r"""Scores beyond the margins ±1 earn nothing more.

    .. math:: L_D = \mathbb E \max(0, 1 - f(x)) + \mathbb E \max(0, 1 + f(G(z))), \qquad L_G = -\mathbb E f(G(z))

    References:
        Lim, Ye (2017), Geometric GAN; Miyato et al. (2018), Spectral normalization for GANs.
    """

    needs_real = False

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return relu(1 - real).mean() + relu(1 + fake).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class LeastSquares:
    r"""Scores are drawn to 1 for real and 0 for fake data by squares, which do not saturate.

    References:
        Mao et al. (2017), Least squares generative adversarial networks.
    """

    needs_real = False

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean()

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * ((fake - 1) ** 2).mean()


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
    "kl": (lambda u: u * u.log(), lambda v: v, lambda v: torch.exp(v - 1), lambda r: 1 + r),
    "reverse kl": (lambda u: -u.log(), lambda v: -torch.exp(-v), lambda v: v - 1, lambda r: r),
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
        check.one_of(FAMILY, name=name)
        self.name = name
        self.f, self.g, self.conjugate, self.optimum = FAMILY[name]

    def bound(self, real: Tensor, fake: Tensor) -> Tensor:
        r"""The lower bound of the divergence, from outputs on real and on fake data."""
        return self.g(real).mean() - self.conjugate(fake).mean()

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.bound(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -self.conjugate(fake).mean()


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
        return mmd2(real, fake, self.kernel, self.widths)

    def witness(
        self, features: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor
    ) -> Callable[[Tensor], Tensor]:
        r"""What plays the critic's part: large where real samples are near in the features, small where fakes are.

        .. math:: f(v) = \mathbb E_x k(h(v), h(x)) - \mathbb E_y k(h(v), h(y))

        The mean of f over real samples less that over fakes is the discrepancy; its slope is what a penalty is
        for. The values of one kernel lie in 0 … 1.

        Arguments:
            features: h, the discriminator.
            real, fake: x and y, shapes (n, …).

        Returns:
            a function of samples, shape (n, …), with values of shape (n,).
        """
        of_real, of_fake = features(real), features(fake)

        def f(v: Tensor) -> Tensor:
            h = features(v)
            near_real, near_fake = (
                kernel_values(h, other, self.kernel, self.widths).mean(1)
                for other in (of_real, of_fake)
            )
            return near_real - near_fake

        return f

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return -self.discrepancy(real, fake)

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return self.discrepancy(real, fake)


class Fisher(nn.Module):
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
        lam: the multiplier λ, part of the state that is saved.

    Raises:
        ValueError: if ``rho`` is not positive.

    References:
        Mroueh, Sercu (2017), Fisher GAN, algorithm 1.
    """

    needs_real = False

    def __init__(self, rho: float = 1e-3) -> None:
        super().__init__()
        check.positive(rho=rho)
        self.rho = rho
        self.register_buffer("lam", torch.zeros(()))

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        omega = 0.5 * real.square().mean() + 0.5 * fake.square().mean()
        gap, lam = real.mean() - fake.mean(), self.lam.clone()
        self.lam += self.rho * (omega.detach() - 1)
        return -gap - lam * (1 - omega) + 0.5 * self.rho * (omega - 1) ** 2

    def generator_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()
