r"""Chapter 08: a distribution over the parameters themselves. Variational Bayes for a mixture of Gaussians."""

import math

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence

from lectool import check
from lectool.em import climb
from lectool.latent.mixture import (
    log_gaussians,
    owned,
    precision_factors,
    split_by_kmeans,
    statistics,
)
from lectool.moments import double

__all__ = ["VariationalGaussianMixture", "kl_normal_wishart"]


def kl_normal_wishart(q: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
    r"""KL between two distributions of a mean μ and a precision Λ, in nats, shape (…).

    .. math:: \mu \mid \Lambda \sim N(m, (\beta \Lambda)^{-1}), \qquad \Lambda \sim \mathcal W(W, \nu)

    Arguments:
        q, p: tuples of m (…, d), β (…), ν > d − 1 (…) and W⁻¹ (…, d, d).

    References:
        Bishop (2006), Pattern Recognition and Machine Learning, appendix B.
    """
    (m, beta, nu, inverse), (m0, beta0, nu0, inverse0) = q, p
    d, shift = m.shape[-1], m - m0
    W = torch.linalg.inv(inverse)
    distance = ((shift[..., None, :] @ W)[..., 0, :] * shift).sum(-1)
    of_mean = d * (beta0 / beta - 1 - (beta0 / beta).log()) + beta0 * nu * distance
    log_ratio = torch.linalg.slogdet(inverse)[1] - torch.linalg.slogdet(inverse0)[1]
    trace = (inverse0 * W).sum((-2, -1))
    of_precision = nu0 * log_ratio + nu * (trace - d) + (nu - nu0) * digammas(nu, d)
    log_gamma = torch.special.multigammaln
    return 0.5 * (of_mean + of_precision) + log_gamma(nu0 / 2, d) - log_gamma(nu / 2, d)


def digammas(nu: Tensor, d: int) -> Tensor:
    r""":math:`\sum_{j=0}^{d-1} \psi((\nu - j) / 2)`, of which :math:`E \log \lvert \Lambda \rvert` is made."""
    return torch.digamma((nu[..., None] - torch.arange(d).to(nu)) / 2).sum(-1)


class VariationalGaussianMixture:
    r"""A mixture of Gaussians whose parameters have a posterior, by variational Bayes.

    Weights, means and precisions get a prior and an approximate posterior
    :math:`q(\pi) \prod_c q(\mu_c, \Lambda_c)`: a Dirichlet and Normal–Wishart distributions. In turns, responsibilities
    are set from the expected log-parameters, and the posterior from what each component owns. Each turn raises

    .. math:: \mathcal L = \sum_i \log \sum_c \exp E_q[\log \pi_c N(x_i; \mu_c, \Lambda_c^{-1})]
        - \mathrm{KL}(q(\pi) \Vert p(\pi)) - \sum_c \mathrm{KL}(q(\mu_c, \Lambda_c) \Vert p(\mu_c, \Lambda_c))
        \le \log p(x),

    in which the parameters are integrated out. With a concentration far below 1, components that explain nothing of
    their own fall back to the prior and switch off.

    Arguments:
        n_components: k, the number of components at most.
        weight_concentration_prior: α₀ > 0; 1/k where ``None``.
        mean_precision_prior: β₀ > 0, in samples.
        mean_prior: m₀, shape (d,); the data's mean where ``None``.
        degrees_of_freedom_prior: ν₀ > d − 1; d where ``None``.
        covariance_prior: W₀⁻¹, positive definite, shape (d, d); the data's covariance where ``None``.
        tol: smallest gain in the bound, in nats a sample, that is worth another iteration.
        max_iter: ≥ 1.
        generator: of the start by k-means.

    Attributes:
        weight_concentration_, mean_precision_, degrees_of_freedom_: α, β and ν, shape (k,).
        weights_, means_: expected weights, shape (k,), and means, shape (k, d).
        covariances_: the inverse of the expected precision, W⁻¹/ν, shape (k, d, d).
        bound_: :math:`\mathcal L / n` at the start and after each iteration, in nats a sample, a list.
        path_: expected weights, means and covariances at the start and after each iteration, a list.
        n_iter_: number of iterations.

    References:
        Attias (2000), A variational Bayesian framework for graphical models; Bishop (2006), section 10.2.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float = 1.0,
        mean_prior: Tensor | None = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: Tensor | None = None,
        tol: float = 1e-4,
        max_iter: int = 200,
        generator: torch.Generator | None = None,
    ):
        check.at_least(1, n_components=n_components, max_iter=max_iter)
        check.non_negative(tol=tol)
        alpha = (
            1 / n_components if weight_concentration_prior is None else weight_concentration_prior
        )
        check.positive(weight_concentration_prior=alpha, mean_precision_prior=mean_precision_prior)
        self.n_components, self.tol, self.max_iter = n_components, tol, max_iter
        self.weight_concentration_prior, self.mean_precision_prior = alpha, mean_precision_prior
        self.mean_prior, self.covariance_prior = mean_prior, covariance_prior
        self.degrees_of_freedom_prior, self.generator = degrees_of_freedom_prior, generator

    def fit(self, x: Tensor) -> "VariationalGaussianMixture":
        r"""Finds the posterior given x, shape (n, d).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`, has fewer samples than components, or the prior
                does not fit the data.
        """
        check.data(x)
        if len(x) < self.n_components:
            raise ValueError(f"{len(x)} samples; expected at least {self.n_components}, one each")
        mean, self.path_ = double(x).mean(0), []
        # Centered, so that sums of squares lose nothing.
        X = double(x) - mean
        prior = self._prior(X, mean)

        def e_step(*posterior: Tensor) -> tuple[float, tuple]:
            self.path_.append(self._expected(x, mean, *posterior))
            return self.expect(X, prior, *posterior)

        def m_step(*sums: Tensor) -> tuple[Tensor, ...]:
            return self.update(prior, *sums)

        start = m_step(*owned(X, split_by_kmeans(X, self.n_components, self.generator)))
        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": type(self).__name__}
        found, _, self.bound_ = climb(e_step, m_step, start, **steps)
        self.weights_, self.means_, self.covariances_ = self._expected(x, mean, *found)
        alpha, _, beta, nu, _ = (t.to(x) for t in found)
        self.weight_concentration_, self.mean_precision_ = alpha, beta
        self.degrees_of_freedom_, self.n_iter_ = nu, len(self.bound_) - 1
        return self

    @staticmethod
    def expect(x: Tensor, prior: tuple[Tensor, ...], *posterior: Tensor) -> tuple[float, tuple]:
        r"""The bound in nats a sample, and what each component owns given the expected log-parameters."""
        alpha, m, beta, nu, inverse = posterior
        d, U = x.shape[1], precision_factors(inverse)
        log_weights = alpha.digamma() - alpha.sum().digamma()
        # E log|Λ| and E (x − μ)ᵀΛ(x − μ) beside those of the Gaussian with mean m and precision W.
        log_det = digammas(nu, d) + d * math.log(2)
        gauss = torch.sqrt(nu)[:, None, None] * U  # precision ν W
        extra = log_weights + 0.5 * (log_det - d / beta - d * nu.log())
        fit, sums = statistics(x, lambda rows: log_gaussians(rows, m, gauss) + extra)
        kl = kl_divergence(Dirichlet(alpha), Dirichlet(prior[0].expand_as(alpha)))
        kl = kl + kl_normal_wishart(posterior[1:], prior[1:]).sum()
        return fit - kl.item() / len(x), sums

    @staticmethod
    def update(
        prior: tuple[Tensor, ...], total: Tensor, first: Tensor, second: Tensor
    ) -> tuple[Tensor, ...]:
        r"""The posterior from what each component owns: α, m, β, ν and W⁻¹ (Bishop, 10.58 to 10.63)."""
        alpha0, m0, beta0, nu0, inverse0 = prior
        beta = beta0 + total
        m = (beta0 * m0 + first) / beta[:, None]
        squares = second + beta0 * torch.outer(m0, m0) - beta[:, None, None] * outer(m)
        return alpha0 + total, m, beta, nu0 + total, inverse0 + squares

    def _prior(self, x: Tensor, mean: Tensor) -> tuple[Tensor, ...]:
        r"""α₀, m₀, β₀, ν₀ and W₀⁻¹ for centered data."""
        n, d = x.shape
        nu = d if self.degrees_of_freedom_prior is None else self.degrees_of_freedom_prior
        check.inside(f"({d - 1}, ∞)", degrees_of_freedom_prior=nu)
        m = mean if self.mean_prior is None else self.mean_prior.to(x)
        inverse = x.T @ x / n if self.covariance_prior is None else self.covariance_prior.to(x)
        check.shape(d, mean_prior=m)
        check.shape(d, d, covariance_prior=inverse)
        scale = inverse.diagonal().clamp(min=0).sqrt()
        if (
            scale.min() == 0
            or torch.linalg.eigvalsh(inverse / torch.outer(scale, scale))[0] < 1e-12
        ):
            raise ValueError(
                "covariance_prior, or the data's covariance in its place, is singular; "
                "expected a positive definite matrix"
            )
        numbers = (self.weight_concentration_prior, self.mean_precision_prior, nu)
        alpha, beta, nu = (torch.tensor(float(value)).to(x) for value in numbers)
        return alpha, m - mean, beta, nu, inverse

    @staticmethod
    def _expected(x: Tensor, mean: Tensor, *posterior: Tensor) -> tuple[Tensor, ...]:
        alpha, m, _, nu, inverse = posterior
        found = alpha / alpha.sum(), mean + m, inverse / nu[:, None, None]
        return tuple(t.to(x) for t in found)

    def joint(self, x: Tensor) -> Tensor:
        r"""Log of expected weight times predictive density, a Student t, of each component, float64, shape (n, k).

        The density of a new point with the parameters integrated out (Bishop, 10.81).
        """
        check.data(x, width=self.means_.shape[1], like=self.means_)
        d, (mean, m) = x.shape[1], (double(self.means_.mean(0)), double(self.means_))
        beta, nu = double(self.mean_precision_), double(self.degrees_of_freedom_)
        free = nu + 1 - d
        # The t distribution's scale matrix is W⁻¹ (1 + β) / (β (ν + 1 − d)).
        scale = double(self.covariances_) * (nu * (1 + beta) / (beta * free))[:, None, None]
        U = precision_factors(scale)
        log_det = U.diagonal(dim1=1, dim2=2).log().sum(1)
        # Twice what the Gaussian's log-density lacks to its maximum is the squared distance.
        top = log_det - 0.5 * d * math.log(2 * math.pi)
        squared = 2 * (top - log_gaussians(double(x) - mean, m - mean, U))
        log_t = torch.lgamma((free + d) / 2) - torch.lgamma(free / 2) + log_det
        log_t = log_t - 0.5 * d * (free * math.pi).log() - (free + d) / 2 * (squared / free).log1p()
        return log_t + double(self.weights_).log()

    def score_samples(self, x: Tensor) -> Tensor:
        r"""Log predictive density of each sample in nats, shape (n,)."""
        return self.joint(x).logsumexp(1).to(x)

    def score(self, x: Tensor) -> float:
        r"""Mean log predictive density in nats a sample."""
        return self.joint(x).logsumexp(1).mean().item()

    def predict_proba(self, x: Tensor) -> Tensor:
        r"""The probability of each component given a new sample, shape (n, k)."""
        return self.joint(x).softmax(1).to(x)

    def predict(self, x: Tensor) -> Tensor:
        r"""The component of each sample that is most probable, int64, shape (n,)."""
        return self.joint(x).argmax(1).to(x.device)

    def n_active(self, least: float = 0.01) -> int:
        r"""The number of components with an expected weight of at least ``least``."""
        return int((self.weights_ >= least).sum())


def outer(m: Tensor) -> Tensor:
    r""":math:`m m^\top` for each row, shape (k, d, d)."""
    return m[:, :, None] * m[:, None]
