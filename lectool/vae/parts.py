r"""The interchangeable parts of a variational autoencoder: likelihoods, posteriors and priors.

A likelihood turns the decoder's numbers a(z) into :math:`p(x \mid z)`, a posterior turns the encoder's
numbers into :math:`q(z \mid x)`, and a prior is :math:`p(z)`. Every one can sample and say how
likely something is; any likelihood goes with any posterior.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool import check, random
from lectool.nets import bernoulli_cross_entropy

__all__ = [
    "Bernoulli",
    "DiagonalGaussian",
    "FullGaussian",
    "Gaussian",
    "HeteroscedasticGaussian",
    "Likelihood",
    "Posterior",
    "StandardNormal",
    "binarize",
    "normal_log_prob",
    "residual_kl",
]

LOG_2PI = math.log(2 * math.pi)


def normal_log_prob(squares: Tensor, d: int) -> Tensor:
    r""":math:`\log N(u; 0, I) = -\tfrac12 (\lVert u \rVert^2 + d \log 2 \pi)`, from which every Gaussian here is made.

    Arguments:
        squares: :math:`\lVert u \rVert^2`, any shape.
        d: the numbers in u.
    """
    return -0.5 * (squares + d * LOG_2PI)


def residual_kl(shift: Tensor, log_stretch: Tensor, prior_log_sigma: Tensor) -> Tensor:
    r"""KL of :math:`q = N(\mu + \Delta, (\sigma r)^2)` from :math:`p = N(\mu, \sigma^2)`, one number a coordinate:

    .. math:: \mathrm{KL}(q \Vert p) = \tfrac12 \left( \frac{\Delta^2}{\sigma^2} + r^2 - 1 - \log r^2 \right)

    The prior's mean drops out: a posterior that repeats the prior costs nothing, whatever the prior is.

    Arguments:
        shift: Δ.
        log_stretch: log r.
        prior_log_sigma: log σ, same shape.

    References:
        Vahdat & Kautz (2020), NVAE: a deep hierarchical variational autoencoder, equation 2.
    """
    r, squares = log_stretch.exp(), (shift / prior_log_sigma.exp()).square()
    return 0.5 * (squares + r.square() - 1) - log_stretch


def binarize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Draws each pixel to be 1 with the probability that its gray value in [0, 1] names, else 0.

    Called for each batch anew it makes *dynamically binarized* images: no two epochs see the same ones.

    Raises:
        ValueError: if x leaves [0, 1].
    """
    return random.bernoulli(check.data(x, n_dims=x.ndim, low=0.0, high=1.0), generator)


# ---------------------------------------------------------------------------------- likelihoods p(x | z)


class Likelihood(nn.Module):
    r"""What the decoder's numbers a, shape (…, n, ``n_outputs(d)``), say about the data x, shape (n, d).

    Leading axes of a, such as several codes a sample, carry over to the result. A likelihood may have
    parameters of its own.
    """

    def n_outputs(self, d: int) -> int:
        r"""The numbers that a decoder must give for a sample of d numbers."""
        return d

    def check(self, x: Tensor) -> Tensor:
        r"""x itself; a ValueError where it lies outside what the likelihood can describe."""
        return check.data(x)

    def log_prob(self, a: Tensor, x: Tensor) -> Tensor:
        r"""log p(x | z) in nats, summed over the numbers of a sample, shape (…, n); the model checks x."""
        raise NotImplementedError

    def mean(self, a: Tensor) -> Tensor:
        r"""E[x | z], shape (…, n, d)."""
        raise NotImplementedError

    def sample(self, a: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""One draw of x for each row of a."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    r"""Black or white pixels: :math:`\log p(x \mid z) = \sum_j x_j \log \hat x_j + (1 - x_j) \log(1 - \hat x_j)`,
    :math:`\hat x = \sigma(a)`. Data must lie in [0, 1]; it is a probability only for 0 and 1."""

    def check(self, x: Tensor) -> Tensor:
        return check.data(x, low=0.0, high=1.0)

    def log_prob(self, a: Tensor, x: Tensor) -> Tensor:
        return -bernoulli_cross_entropy(a, x)

    def mean(self, a: Tensor) -> Tensor:
        return torch.sigmoid(a)

    def sample(self, a: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return random.bernoulli(self.mean(a), generator)


class Gaussian(Likelihood):
    r"""Real numbers with one standard deviation for all: :math:`p(x \mid z) = N(a, \sigma^2 I)`.

    Arguments:
        sigma: σ > 0, in units of the data.
        learned: whether training fits σ; it then starts at ``sigma``.

    What is trained is log σ, by five times the step size: Adam moves every number by about one step an update, and
    this one has further to go than a weight.

    Raises:
        ValueError: if σ is not positive.
    """

    lr_factor = 5.0

    def __init__(self, sigma: float = 1.0, *, learned: bool = False):
        super().__init__()
        check.positive(sigma=sigma)
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=learned)

    @property
    def sigma(self) -> Tensor:
        return self.log_sigma.exp()

    def log_prob(self, a: Tensor, x: Tensor) -> Tensor:
        d, squares = x.shape[-1], ((x - a) / self.sigma).square().sum(-1)
        return normal_log_prob(squares, d) - d * self.log_sigma

    def mean(self, a: Tensor) -> Tensor:
        return a

    def sample(self, a: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return a + self.sigma * random.noise(a.shape, a, generator)


class HeteroscedasticGaussian(Likelihood):
    r"""Real numbers with a variance of their own: :math:`p(x \mid z) = N(\mu(z), \operatorname{diag} \sigma^2(z))`.

    The decoder gives 2d numbers, the means and the logarithms of the variances.

    Arguments:
        floor: added to every variance, > 0, in squared units of the data: a pixel that never changes would
            else make the likelihood infinite.

    Raises:
        ValueError: if the floor is not positive.
    """

    def __init__(self, floor: float = 1e-3):
        super().__init__()
        check.positive(floor=floor)
        self.floor = floor

    def n_outputs(self, d: int) -> int:
        return 2 * d

    def moments(self, a: Tensor) -> tuple[Tensor, Tensor]:
        r"""Means and variances, each of shape (…, n, d)."""
        mean, log_variance = a.chunk(2, -1)
        return mean, log_variance.exp() + self.floor

    def log_prob(self, a: Tensor, x: Tensor) -> Tensor:
        mean, variance = self.moments(a)
        squares = ((x - mean).square() / variance).sum(-1)
        return normal_log_prob(squares, x.shape[-1]) - 0.5 * variance.log().sum(-1)

    def mean(self, a: Tensor) -> Tensor:
        return self.moments(a)[0]

    def sample(self, a: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, variance = self.moments(a)
        return mean + variance.sqrt() * random.noise(mean.shape, mean, generator)


# ----------------------------------------------------------------------------------- posteriors q(z | x)


class Posterior:
    r"""A Gaussian :math:`q(z \mid x)` for each of n samples.

    Attributes:
        numbers: what it was made of, shape (n, ``n_outputs(k)``).
        mean: m, shape (n, k).
        variance: of each coordinate by itself, shape (n, k).
        log_scale: :math:`\log L_{jj}` of the factor L in :math:`z = m + L \epsilon`, shape (n, k); their
            sum is half the log-determinant of the covariance.
    """

    numbers: Tensor
    mean: Tensor
    variance: Tensor
    log_scale: Tensor

    def __getitem__(self, rows: Tensor | slice) -> "Posterior":
        r"""The posteriors of some of the samples."""
        return type(self)(self.numbers[rows])

    @staticmethod
    def n_outputs(k: int) -> int:
        r"""The numbers that an encoder must give for a code of k numbers."""
        raise NotImplementedError

    @classmethod
    def like(cls, q: "Posterior") -> "Posterior":
        r"""The member of this family with the means and the coordinates' variances of q, uncorrelated."""
        raise NotImplementedError

    def spread(self, epsilon: Tensor) -> Tensor:
        r""":math:`L \epsilon`, for ε of shape (…, n, k)."""
        raise NotImplementedError

    def standardize(self, z: Tensor) -> Tensor:
        r""":math:`L^{-1} (z - m)`, for z of shape (…, n, k)."""
        raise NotImplementedError

    def sample(self, k: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        r"""Reparameterized draws :math:`z = m + L \epsilon`, shape (n, k), or with a first axis of ``k`` draws."""
        shape = self.mean.shape if k is None else (k, *self.mean.shape)
        return self.mean + self.spread(random.noise(shape, self.mean, generator))

    def log_prob(self, z: Tensor) -> Tensor:
        r"""log q(z | x), shape (…, n), for z of shape (…, n, k)."""
        squares = self.standardize(z).square().sum(-1)
        return normal_log_prob(squares, z.shape[-1]) - self.log_scale.sum(-1)

    def sample_with_log_prob(
        self, k: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Draws z as ``sample`` does, and their log q(z | x), shape (n,) or (k, n)."""
        z = self.sample(k, generator)
        return z, self.log_prob(z)

    def entropy(self) -> Tensor:
        r""":math:`-E_q[\log q]`, shape (n,)."""
        return self.log_scale.sum(-1) + 0.5 * self.mean.shape[-1] * (1 + LOG_2PI)


class DiagonalGaussian(Posterior):
    r""":math:`q(z \mid x) = N(m, \operatorname{diag} s^2)`; the encoder gives m and :math:`\log s^2`, 2k numbers.

    Arguments:
        a: the encoder's numbers, shape (n, 2k).
    """

    def __init__(self, a: Tensor):
        self.numbers = a
        self.mean, self.log_variance = a.chunk(2, -1)

    @staticmethod
    def n_outputs(k: int) -> int:
        return 2 * k

    @classmethod
    def like(cls, q: Posterior) -> "DiagonalGaussian":
        return cls(torch.cat([q.mean, q.variance.log()], -1))

    @property
    def variance(self) -> Tensor:
        return self.log_variance.exp()

    @property
    def log_scale(self) -> Tensor:
        return 0.5 * self.log_variance

    def spread(self, epsilon: Tensor) -> Tensor:
        return (0.5 * self.log_variance).exp() * epsilon

    def standardize(self, z: Tensor) -> Tensor:
        return (z - self.mean) * (-0.5 * self.log_variance).exp()


class FullGaussian(Posterior):
    r""":math:`q(z \mid x) = N(m, L L^\top)` with a lower triangular L.

    The encoder gives m, the logarithms of L's diagonal and the numbers below it: 2k + k (k − 1) / 2.

    Arguments:
        a: the encoder's numbers, shape (n, 2k + k (k − 1) / 2).
    """

    def __init__(self, a: Tensor):
        self.numbers = a
        # 2k + k (k − 1) / 2 numbers, solved for k
        k = round((math.sqrt(9 + 8 * a.shape[-1]) - 3) / 2)
        self.mean, self.log_scale, below = a.split([k, k, k * (k - 1) // 2], -1)
        L = torch.diag_embed(self.log_scale.exp())
        row, column = torch.tril_indices(k, k, -1, device=a.device)
        self.L = L.index_put((torch.arange(len(a), device=a.device)[:, None], row, column), below)

    @staticmethod
    def n_outputs(k: int) -> int:
        return 2 * k + k * (k - 1) // 2

    @classmethod
    def like(cls, q: Posterior) -> "FullGaussian":
        k = q.mean.shape[-1]
        below = q.mean.new_zeros(len(q.mean), k * (k - 1) // 2)
        return cls(torch.cat([q.mean, 0.5 * q.variance.log(), below], -1))

    @property
    def variance(self) -> Tensor:
        return self.L.square().sum(-1)

    def spread(self, epsilon: Tensor) -> Tensor:
        return (self.L @ epsilon[..., None])[..., 0]

    def standardize(self, z: Tensor) -> Tensor:
        gap = (z - self.mean)[..., None]
        return torch.linalg.solve_triangular(self.L, gap, upper=False)[..., 0]


# ------------------------------------------------------------------------------------------ priors p(z)


class StandardNormal(nn.Module):
    r"""The prior :math:`p(z) = N(0, I)`.

    Another prior has these three methods, too; where :math:`\mathrm{KL}(q \Vert p)` has no closed form, ``kl_terms``
    may estimate it, with the ``generator``. ``c`` is a condition for priors :math:`p(z \mid c)`; this one needs
    neither.

    Arguments:
        k: dimension of the code, ≥ 1.
    """

    def __init__(self, k: int):
        super().__init__()
        check.at_least(1, k=k)
        self.k = k
        self.register_buffer("zero", torch.zeros(k), persistent=False)

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        r"""log p(z), shape (…, n)."""
        return normal_log_prob(z.square().sum(-1), self.k)

    def sample(
        self, n: int, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Codes, shape (n, k)."""
        return random.noise((n, self.k), self.zero, generator)

    def kl_terms(
        self, q: Posterior, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r""":math:`\mathrm{KL}(q \Vert p)` in nats, split over the coordinates, shape (n, k).

        With a full covariance, term j is the mean KL of coordinate j given those before it. The sum over j is

        .. math:: \tfrac12 \bigl( \operatorname{tr} \Sigma + \lVert m \rVert^2 - k - \log \lvert \Sigma \rvert \bigr).
        """
        return 0.5 * (q.variance + q.mean.square() - 1) - q.log_scale

    def kl(self, q: Posterior, c: Tensor | None = None) -> Tensor:
        r""":math:`\mathrm{KL}(q \Vert p)` in nats, shape (n,)."""
        return self.kl_terms(q, c).sum(-1)


LIKELIHOODS: dict[str, Callable[[], Likelihood]] = {
    "bernoulli": Bernoulli,
    "gaussian": lambda: Gaussian(learned=True),
    "heteroscedastic": HeteroscedasticGaussian,
}
POSTERIORS: dict[str, type[Posterior]] = {"diagonal": DiagonalGaussian, "full": FullGaussian}
