r"""Chapter 08: learning a density by telling data from noise: NCE, conditional NCE and variational NCE.

Every density may lack its normalizer: :math:`\log \phi(x)` with :math:`p(x) = \phi(x) / Z`. All logarithms are in nats,
and ν is the number of noise samples for each datum.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check
from lectool.nets import mlp
from lectool.random import noise

__all__ = [
    "NoiseContrastive",
    "NormalNoise",
    "VariationalNCE",
    "conditional_nce_loss",
    "estimate_log_z",
    "log_mean_weight",
    "nce_objective",
    "vnce_divergence",
    "vnce_first_term",
    "vnce_objective",
]


class Noise(Protocol):
    r"""What the noise must be able to do."""

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor: ...
    def log_prob(self, x: Tensor) -> Tensor: ...


class NormalNoise:
    r"""Gaussian noise, fitted to data or given.

    Arguments:
        mean: shape (d,).
        covariance: positive definite, shape (d, d).
    """

    def __init__(self, mean: Tensor, covariance: Tensor):
        check.shape(len(mean), len(mean), covariance=covariance)
        self.mean, self.L = mean, torch.linalg.cholesky(covariance)

    @classmethod
    def fit(cls, x: Tensor, scale: float = 1.0) -> "NormalNoise":
        r"""With the mean of x, shape (n, d), and ``scale²`` times its covariance.

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data` or its covariance is singular.
        """
        check.data(x)
        check.positive(scale=scale)
        centered = x - x.mean(0)
        covariance = scale**2 * centered.T @ centered / len(x)
        if torch.linalg.cholesky_ex(covariance)[1]:
            raise ValueError(
                "the covariance of x is singular; expected variance in every direction"
            )
        return cls(x.mean(0), covariance)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        r"""Draws, shape (n, d)."""
        return self.mean + noise((n, len(self.mean)), self.mean, generator) @ self.L.T

    def log_prob(self, x: Tensor) -> Tensor:
        r"""Log-density in nats, shape (n,)."""
        y = torch.linalg.solve_triangular(self.L, (x - self.mean).T, upper=False)
        log_scale = self.L.diagonal().log().sum() + 0.5 * len(self.mean) * math.log(2 * math.pi)
        return -0.5 * y.square().sum(0) - log_scale


# ------------------------------------------------------------------------------------------------ NCE


def nce_objective(data_ratio: Tensor, noise_ratio: Tensor, nu: float = 1.0) -> Tensor:
    r"""The NCE objective: the log-likelihood of a classifier that tells data from noise, to be maximized; at most 0.

    .. math:: J = E_{p_d} \log \frac{p(x)}{p(x) + \nu p_n(x)} + \nu E_{p_n} \log \frac{\nu p_n(x)}{p(x) + \nu p_n(x)}

    Arguments:
        data_ratio: :math:`\log p(x) - \log p_n(x)` of data, shape (n,).
        noise_ratio: the same of noise, shape (m,); any m, as ν weighs the two means.
        nu: ν > 0.

    Returns:
        a scalar.

    References:
        Gutmann & Hyvärinen (2010), Noise-contrastive estimation.
    """
    check.positive(nu=nu)
    of_data, of_noise = (ratio - math.log(nu) for ratio in (data_ratio, noise_ratio))
    return F.logsigmoid(of_data).mean() + nu * F.logsigmoid(-of_noise).mean()


def estimate_log_z(
    data_ratio: Tensor, noise_ratio: Tensor, nu: float = 1.0, *, n_steps: int = 200
) -> float:
    r"""The normalizer of a model with no other unknown, :math:`\log Z`, by NCE.

    With :math:`c = \log Z` and :math:`G = \log \phi - \log p_n - \log \nu`, J is concave in c and its slope

    .. math:: \nu E_{p_n} \sigma(G - c) - E_{p_d}[1 - \sigma(G - c)]

    falls as c grows; bisection finds its zero.

    Arguments:
        data_ratio, noise_ratio: :math:`\log \phi(x) - \log p_n(x)` of data and of noise, shapes (n,) and (m,).
        nu: ν > 0.
        n_steps: halvings at most.

    Raises:
        ValueError: if a ratio is no finite number.
    """
    check.positive(nu=nu)
    ratios = [check.data(r.detach(), "a ratio", n_dims=1) for r in (data_ratio, noise_ratio)]
    data, others = (ratio.double() - math.log(nu) for ratio in ratios)
    low = min(data.min().item(), others.min().item()) - 50
    high = max(data.max().item(), others.max().item()) + 50
    for _ in range(n_steps):
        c = 0.5 * (low + high)
        slope = nu * torch.sigmoid(others - c).mean() - torch.sigmoid(c - data).mean()
        low, high = (c, high) if slope > 0 else (low, c)
        if high - low < 1e-12:
            break
    return c


class NoiseContrastive(nn.Module):
    r"""Trains a density without a normalizer by NCE, and learns :math:`\log Z` as one more parameter.

    Arguments:
        log_phi: a module that maps x (n, d) to :math:`\log \phi(x)`, shape (n,).
        noise: with ``sample(n)`` and ``log_prob(x)``.
        nu: ν, whole, ≥ 1.
        generator: of the noise.
    """

    def __init__(
        self,
        log_phi: nn.Module,
        noise: Noise,
        nu: int = 5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check.at_least(1, nu=nu)
        self.log_phi, self.noise, self.nu, self.generator = log_phi, noise, nu, generator
        self.log_z = nn.Parameter(torch.zeros(()))

    def log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log \phi(x) - \log Z` in nats, shape (n,); normalized as far as training has come."""
        return self.log_phi(x) - self.log_z

    def loss(self, x: Tensor) -> Tensor:
        r"""−J, with fresh noise."""
        x_noise = self.noise.sample(self.nu * len(x), generator=self.generator)
        of_data, of_noise = (self.log_prob(t) - self.noise.log_prob(t) for t in (x, x_noise))
        return -nce_objective(of_data, of_noise, self.nu)


def conditional_nce_loss(
    log_phi: Callable[[Tensor], Tensor],
    x: Tensor,
    sd: float,
    *,
    n_noise: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Conditional NCE: tells each datum x from a neighbor :math:`y = x + \text{sd} \cdot \epsilon`, to be minimized.

    .. math:: 2\, E \log\left(1 + e^{-G}\right), \qquad G = \log \phi(x) - \log \phi(y)

    The two have the same normalizer, which cancels, and so does the noise's density, which is symmetric. Noise comes
    close to the data by itself. For sd → 0 minimizing it becomes score matching.

    Arguments:
        log_phi: maps x (n, d) to :math:`\log \phi(x)`, shape (n,).
        x: data, shape (n, d).
        sd: of the noise: a number > 0, for all features.
        n_noise: neighbors for each datum, ≥ 1.
        generator: of the noise.

    Returns:
        a scalar, in nats.

    References:
        Ceylan & Gutmann (2018), Conditional noise-contrastive estimation of unnormalised models.
    """
    check.positive(sd=sd)
    check.at_least(1, n_noise=n_noise)
    y = x + sd * noise((n_noise, *x.shape), x, generator)
    G = log_phi(x) - log_phi(y.flatten(0, 1)).reshape(n_noise, -1)
    return 2 * F.softplus(-G).mean()


# ------------------------------------------------------------------------------------------------ variational NCE


def vnce_first_term(log_w: Tensor, log_noise: Tensor, nu: float = 1.0) -> Tensor:
    r"""Draws of the bound on the first term of J, for a model with hidden z.

    .. math:: E_{q(z \mid x)} \log \frac{p(x, z)}{p(x, z) + \nu\, q(z \mid x)\, p_n(x)}
        \le \log \frac{p(x)}{p(x) + \nu p_n(x)}

    since :math:`g(r) = -\log(1 + \nu / r)` is concave and :math:`E_q\, p(x, z) / q(z \mid x) = p(x)`. They are equal
    where q is the posterior.

    Arguments:
        log_w: :math:`\log p(x, z) - \log q(z \mid x)` of draws z ~ q, shape (k, n).
        log_noise: :math:`\log p_n(x)`, shape (n,).
        nu: ν > 0.

    Returns:
        shape (k, n).
    """
    check.positive(nu=nu)
    return F.logsigmoid(log_w - log_noise - math.log(nu))


def log_mean_weight(log_w: Tensor) -> Tensor:
    r""":math:`\log \frac1k \sum_j w_j`, importance sampling's :math:`\log p(x)`, of log-weights (k, n): shape (n,)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def vnce_objective(
    data_log_w: Tensor,
    data_log_noise: Tensor,
    noise_log_w: Tensor,
    noise_log_noise: Tensor,
    nu: float = 1.0,
) -> Tensor:
    r"""The variational NCE objective, to be maximized.

    The first term is the bound :func:`vnce_first_term`. The second needs p(x) of noise, which importance sampling
    gives:

    .. math:: \nu E_{p_n} \log \frac{\nu p_n(x)}{\frac1k \sum_j w_j + \nu p_n(x)} .

    With the exact p(x) in it (``noise_log_w`` = :math:`\log p(x)`, shape (1, m)) the objective is at most J. With k
    draws the second term is too large on average, because :math:`-\log(w + c)` is convex in w; so the whole may exceed
    J, the less the larger k.

    Arguments:
        data_log_w, noise_log_w: :math:`\log p(x, z) - \log q(z \mid x)` of draws for data and for noise,
            shapes (k, n) and (k, m).
        data_log_noise, noise_log_noise: :math:`\log p_n(x)` of data and of noise, shapes (n,) and (m,).
        nu: ν > 0.

    Returns:
        a scalar.

    References:
        Rhodes & Gutmann (2019), Variational noise-contrastive estimation.
    """
    first = vnce_first_term(data_log_w, data_log_noise, nu).mean()
    ratio = log_mean_weight(noise_log_w) - noise_log_noise - math.log(nu)
    return first + nu * F.logsigmoid(-ratio).mean()


def vnce_divergence(log_q: Tensor, log_p: Tensor, c: Tensor) -> Tensor:
    r"""What the bound on the first term lacks: an f-divergence between q and the posterior p.

    .. math:: D_f(q \Vert p) = E_p f(q / p), \qquad f(u) = u \log \frac{1 + c u}{1 + c}, \qquad
        c = \nu p_n(x) / p(x), \qquad f(1) = 0

    For large c it is KL(q‖p), for small c it vanishes.

    Arguments:
        log_q, log_p: log-probabilities along the last axis, shape (…, g).
        c: > 0, shape (…).
    """
    c = c[..., None]
    return (log_q.exp() * (F.softplus(c.log() + log_q - log_p) - c.log1p())).sum(-1)


class VariationalNCE(nn.Module):
    r"""Trains a model with hidden z and without a normalizer: :math:`\log \phi(x, z)` and a Gaussian q(z|x), jointly.

    Arguments:
        log_phi: a module that maps x (…, d) and z (…, n_latent) to :math:`\log \phi(x, z)`, shape (…). What it lacks of
            the normalizer has to be one of its parameters.
        noise: with ``sample(n)`` and ``log_prob(x)``.
        n_features, n_latent: dimensions of x and z.
        n_hidden: widths of the hidden layers of the network that maps x to q's mean and log standard deviation.
        nu: ν, whole, ≥ 1.
        k: draws of z for each x, ≥ 1.
        generator: of noise and draws.
    """

    def __init__(
        self,
        log_phi: nn.Module,
        noise: Noise,
        n_features: int,
        n_latent: int = 1,
        *,
        n_hidden: Sequence[int] = (32,),
        nu: int = 5,
        k: int = 5,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        check.at_least(1, n_features=n_features, n_latent=n_latent, nu=nu, k=k)
        self.log_phi, self.noise, self.nu, self.k, self.generator = log_phi, noise, nu, k, generator
        self.net = mlp([n_features, *n_hidden, 2 * n_latent], nn.Tanh)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and standard deviation of q(z|x), shape (n, n_latent) each."""
        mean, log_sd = self.net(x).chunk(2, -1)
        return mean, log_sd.exp()

    def log_weights(self, x: Tensor) -> Tensor:
        r""":math:`\log \phi(x, z) - \log q(z \mid x)` of k draws for each x, shape (k, n)."""
        mean, sd = self.encode(x)
        epsilon = noise((self.k, *mean.shape), mean, self.generator)
        log_q = (-0.5 * epsilon**2 - sd.log() - 0.5 * math.log(2 * math.pi)).sum(-1)
        return self.log_phi(x.expand(self.k, *x.shape), mean + sd * epsilon) - log_q

    def loss(self, x: Tensor) -> Tensor:
        r"""Minus the objective, with fresh noise."""
        x_noise = self.noise.sample(self.nu * len(x), generator=self.generator)
        log_w = (self.log_weights(x), self.noise.log_prob(x))
        noise_log_w = (self.log_weights(x_noise), self.noise.log_prob(x_noise))
        return -vnce_objective(*log_w, *noise_log_w, self.nu)
