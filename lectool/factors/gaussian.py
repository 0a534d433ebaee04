r"""Chapter 04, Gaussian factors: factor analysis and probabilistic PCA."""

import math
import warnings
from functools import partial

import torch
from torch import Tensor, nn

from lectool import check
from lectool.em import climb, extrapolate
from lectool.moments import (
    constant_columns,
    covariance,
    eigen,
    features,
    mean,
    principal_axes,
    rank,
)
from lectool.random import noise as draw

LOG_2PI = math.log(2 * math.pi)


def posterior(x: Tensor, W: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""What x says about z where :math:`x = W z + \varepsilon`, :math:`z \sim N(0, I)`.

    With :math:`\Psi` the diagonal covariance of :math:`\varepsilon`, the posterior is Gaussian with

    .. math:: G = (I + W^\top \Psi^{-1} W)^{-1}, \qquad m = G\, W^\top \Psi^{-1} x .

    Only a k × k matrix is inverted; :math:`m = W^\top (W W^\top + \Psi)^{-1} x` is the same.

    Arguments:
        x: centered data, shape (n, d).
        W: loadings, shape (d, k).
        noise: the diagonal of :math:`\Psi`, positive, shape (d,) or ().

    Returns:
        m: posterior means, shape (n, k).
        G: posterior covariance, the same for every x, shape (k, k).
    """
    A = W.T / noise
    G = torch.linalg.inv(torch.eye(W.shape[1]).to(W) + A @ W)
    return x @ A.T @ G, G


def log_density(x: Tensor, W: Tensor, noise: Tensor) -> Tensor:
    r"""Log-density of x under :math:`N(0, W W^\top + \Psi)` in nats, without a d × d matrix.

    With posterior mean m and covariance G,

    .. math:: x^\top \Sigma^{-1} x = (x - W m)^\top \Psi^{-1} (x - W m) + m^\top m, \qquad
              \log\lvert\Sigma\rvert = \log\lvert\Psi\rvert - \log\lvert G\rvert .

    The quadratic form is a sum of squares, so that nothing cancels where the noise is small.

    Arguments:
        x, W, noise: as in :func:`posterior`.

    Returns:
        shape (n,).
    """
    m, G = posterior(x, W, noise)
    noise = noise.expand(len(W))
    squares = ((x - m @ W.T) ** 2 / noise).sum(1) + (m**2).sum(1)
    log_det = noise.log().sum() - torch.logdet(G)
    return -0.5 * (squares + log_det + len(W) * LOG_2PI)


class LinearGaussian:
    r"""What factor analysis and PPCA share: :math:`x = W z + \mu + \varepsilon`, all Gaussian.

    Attributes:
        mean_: :math:`\mu`, shape (d,).
        W_: loadings, shape (d, k); ``components_`` is its transpose, as in scikit-learn.
        noise_variance_: of :math:`\varepsilon`; shape (d,) in factor analysis, () in PPCA.
    """

    mean_: Tensor
    W_: Tensor
    noise_variance_: Tensor

    @property
    def components_(self) -> Tensor:
        r"""The loadings as rows, shape (k, d)."""
        return self.W_.T

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean (n, k) and covariance (k, k) of z given x."""
        check.data(x, width=len(self.mean_), like=self.mean_)
        return posterior(x - self.mean_, self.W_, self.noise_variance_)

    def transform(self, x: Tensor) -> Tensor:
        r"""Posterior means of z, shape (n, k)."""
        return self.posterior(x)[0]

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""The mean of x given z, :math:`\mu + W z`, shape (n, d)."""
        check.data(z, "z", width=self.W_.shape[1], like=self.mean_)
        return self.mean_ + z @ self.W_.T

    def get_covariance(self) -> Tensor:
        r"""The model's covariance :math:`W W^\top + \Psi`, shape (d, d)."""
        return self.W_ @ self.W_.T + self.noise_variance_.expand(len(self.W_)).diag()

    def score_samples(self, x: Tensor) -> Tensor:
        r"""Log-density of each sample in nats, shape (n,)."""
        check.data(x, width=len(self.mean_), like=self.mean_)
        return log_density(x - self.mean_, self.W_, self.noise_variance_)

    def score(self, x: Tensor) -> float:
        r"""Mean log-density in nats a sample."""
        return self.score_samples(x).double().mean().item()

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        r"""New data, shape (n, d): draw z, map it, add noise."""
        d, k = self.W_.shape
        check.at_least(1, n=n)
        z, noise = (draw((n, size), self.W_, generator) for size in (k, d))
        return self.mean_ + z @ self.W_.T + noise * self.noise_variance_.sqrt()


def gaussian_em(C: Tensor, shared: bool, floor: float = 0.0):
    r"""The two steps of EM for :math:`x = W z + \varepsilon` with covariance C, for :func:`lectool.em.climb`.

    .. math:: B = G\, W^\top \Psi^{-1}, \qquad
        W \leftarrow C B^\top (G + B C B^\top)^{-1}, \qquad
        \psi_j \leftarrow (C - 2\, W B C + W (G + B C B^\top) W^\top)_{jj}

    with the posterior's covariance G of :func:`posterior`; m = B x is its mean. Factor analysis keeps one ψ for each
    feature, PPCA the mean of them: that is all the difference.

    Arguments:
        C: covariance, shape (d, d); the data enter by it alone.
        shared: whether all features have one noise variance.
        floor: the smallest noise variance.
    """

    def e_step(W: Tensor, noise: Tensor) -> tuple[float, tuple]:
        A = W.T / noise
        G = torch.linalg.inv(torch.eye(W.shape[1]).to(W) + A @ W)
        B = G @ A
        xz = C @ B.T
        mm = B @ xz
        left = C.diag() - 2 * (W * xz).sum(1) + (W @ mm * W).sum(1)
        log_det = noise.expand(len(C)).log().sum() - torch.logdet(G)
        squares = (left / noise).sum() + mm.trace()
        return -0.5 * (len(C) * LOG_2PI + log_det + squares).item(), (xz, mm + G)

    def m_step(xz: Tensor, zz: Tensor) -> tuple[Tensor, Tensor]:
        W = torch.linalg.solve(zz, xz.T).T
        left = C.diag() - 2 * (W * xz).sum(1) + (W @ zz * W).sum(1)
        return W, (left.mean() if shared else left).clamp(min=floor)

    return e_step, m_step


class FactorAnalysis(LinearGaussian):
    r"""Factor analysis by EM: k common factors, and a noise variance for each feature alone.

    The data enter once, through the covariance C. An iteration then costs two products of C with a
    d × k matrix and k × k solves: no pass over the data, no SVD.

    The start is PPCA of the standardized data. Noise variances are kept above a small share of their
    feature's variance, below which the likelihood can grow without bound (a Heywood case); a warning
    tells where that bound is met.

    Arguments:
        n_components: k, fewer than the features and than n − 1.
        max_iter: EM iterations at most, each of two M-steps and a guess at where they lead.
        tol: stops where the log-likelihood grows by less, in nats a sample.
        min_noise: the smallest share of a feature's variance that may be noise, in (0, 1).

    Attributes:
        mean_, W_, noise_variance_: see :class:`LinearGaussian`.
        loglike_: mean log-likelihood before each iteration and after the last, nats a sample.
        n_iter_: iterations done.

    References:
        Rubin & Thayer (1982), EM algorithms for ML factor analysis.

    Example:
        >>> z = FactorAnalysis(2).fit(torch.randn(100, 6)).transform(torch.randn(3, 6))
    """

    def __init__(
        self, n_components: int, *, max_iter: int = 1000, tol: float = 1e-8, min_noise: float = 1e-6
    ):
        check.at_least(1, max_iter=max_iter)
        check.non_negative(tol=tol)
        check.inside("(0, 1)", min_noise=min_noise)
        self.n_components, self.max_iter = n_components, max_iter
        self.tol, self.min_noise = tol, min_noise

    def fit(self, x: Tensor) -> "FactorAnalysis":
        r"""Finds mean, loadings and noise variances of x, shape (n, d).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`, a feature is constant, or
                ``n_components`` is not in 1 … min(n − 2, d − 1).
        """
        self.mean_ = mean(x)
        n, d = x.shape
        k = self.n_components
        if not 1 <= k <= min(n - 2, d - 1):
            raise ValueError(
                f"n_components is {k} for {n} samples of {d} numbers; expected 1 … {min(n - 2, d - 1)}"
            )
        if constant := features(constant_columns(x)):
            raise ValueError(f"constant: {constant}; expected some variance in every feature")
        C = covariance(x, self.mean_)
        sd = C.diag().sqrt()
        W, noise = self.climb(C / sd / sd[:, None], k)
        # EM saw correlations, so that units do not matter; here they come back.
        self.loglike_ = [value - sd.log().sum().item() for value in self.loglike_]
        self.W_, self.noise_variance_ = (W * sd[:, None]).to(x), (noise * sd**2).to(x)
        if stuck := features(noise <= 1.001 * self.min_noise):
            warnings.warn(
                f"FactorAnalysis: the noise variance met its lower bound in {stuck} (a Heywood case); "
                "fewer factors, or fewer features that repeat each other, avoid it",
                stacklevel=2,
            )
        return self

    def climb(self, C: Tensor, k: int) -> tuple[Tensor, Tensor]:
        r"""Loadings and noise variances for a correlation matrix, by EM from PPCA's solution."""
        axes, variances = eigen(C)
        W, noise = ppca_closed_form(axes, variances, len(C), k)
        start = W, noise.clamp(min=self.min_noise).expand(len(C))
        e_step, m_step = gaussian_em(C, shared=False, floor=self.min_noise)
        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": "FactorAnalysis"}
        (W, noise), _, self.loglike_ = climb(e_step, m_step, start, leap=self.leap, **steps)
        self.n_iter_ = len(self.loglike_) - 1
        return W, noise

    def leap(self, *path: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        r"""Where three steps lead, with noise variances between their bound and all of a feature's variance."""
        W, noise = extrapolate(*path)
        return W, noise.clamp(self.min_noise, 1.0)


class PPCA(LinearGaussian):
    r"""Probabilistic PCA: factor analysis with one noise variance for all features.

    Maximum likelihood has a closed form: with the eigenvectors and eigenvalues of C,

    .. math:: \sigma^2 = \frac{1}{d - k} \sum_{j > k} \lambda_j, \qquad
              W = U_k (\Lambda_k - \sigma^2 I)^{1/2} R

    for any rotation R; here R = I.

    Arguments:
        n_components: k, fewer than the features.
        solver: ``"closed"`` or ``"em"``, which starts at random.
        noise_variance: :math:`\sigma^2` given rather than learned (closed form only); directions with
            less variance than it get no loading.
        correction: C divides by n − correction: 0 for maximum likelihood, 1 for the numbers that
            scikit-learn's ``PCA.score`` rests on.
        max_iter, tol: of EM; as in :class:`FactorAnalysis`.
        generator: of EM's start.

    Attributes:
        mean_, W_, noise_variance_: see :class:`LinearGaussian`.
        loglike_, n_iter_: of EM; as in :class:`FactorAnalysis`.

    References:
        Tipping & Bishop (1999), Probabilistic principal component analysis.
    """

    def __init__(
        self,
        n_components: int,
        *,
        solver: str = "closed",
        noise_variance: float | None = None,
        correction: int = 0,
        max_iter: int = 1000,
        tol: float = 1e-6,
        generator: torch.Generator | None = None,
    ):
        check.one_of(("closed", "em"), solver=solver)
        check.one_of((0, 1), correction=correction)
        check.at_least(1, max_iter=max_iter)
        check.non_negative(tol=tol)
        if noise_variance is not None and (solver == "em" or not noise_variance > 0):
            raise ValueError(
                f"noise_variance is {noise_variance} with solver {solver!r}; expected > 0 and 'closed'"
            )
        self.n_components, self.solver, self.noise_variance = n_components, solver, noise_variance
        self.correction, self.max_iter, self.tol = correction, max_iter, tol
        self.generator = generator

    def fit(self, x: Tensor) -> "PPCA":
        r"""Finds mean, loadings and noise variance of x, shape (n, d).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data` or has one sample only, ``n_components`` is not in
                1 … d − 1, or the data have no variance outside k directions and
                :math:`\sigma^2` is to be learned.
        """
        self.mean_ = mean(x)
        n, d = x.shape
        k = self.n_components
        if not 1 <= k < d or n < 2:
            raise ValueError(
                f"n_components is {k} for {n} samples of {d} numbers; expected 1 … {d - 1}, n ≥ 2"
            )
        axes, variances = principal_axes(x, self.mean_)
        if self.noise_variance is None and rank(x, self.mean_, axes, variances) <= k:
            raise ValueError(
                f"the data vary in at most {k} directions: no noise is left for n_components = {k}; "
                "expected fewer components, or noise_variance > 0"
            )
        variances = variances * n / (n - self.correction)
        if self.solver == "em":
            W, noise = self.climb((axes.T * variances) @ axes, k)
        else:
            W, noise = ppca_closed_form(axes, variances, d, k, self.noise_variance)
        self.W_, self.noise_variance_ = W.to(x), noise.to(x)
        return self

    def climb(self, C: Tensor, k: int) -> tuple[Tensor, Tensor]:
        r"""Loadings and noise variance for a covariance, by EM from a random start."""
        noise = C.trace() / len(C)
        start = draw((len(C), k), C, self.generator) * (noise / k).sqrt(), noise
        e_step, m_step = gaussian_em(C, shared=True)
        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": "PPCA"}
        (W, noise), _, self.loglike_ = climb(e_step, m_step, start, **steps)
        self.n_iter_ = len(self.loglike_) - 1
        return W, noise


def ppca_closed_form(
    axes: Tensor, variances: Tensor, d: int, k: int, noise: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Loadings (d, k) and noise variance from eigenvectors (rows) and eigenvalues, descending.

    Eigenvalues that are not given count as 0, so that fewer than d of them will do.
    """
    sigma2 = variances[k:].sum() / (d - k) if noise is None else variances.new_tensor(noise)
    W = axes[:k].T * (variances[:k] - sigma2).clamp(min=0).sqrt()
    return nn.functional.pad(W, (0, k - W.shape[1])), sigma2


def ppca_em_missing(
    x: Tensor,
    observed: Tensor,
    n_components: int,
    *,
    max_iter: int = 200,
    tol: float = 1e-4,
    generator: torch.Generator | None = None,
) -> tuple[PPCA, Tensor]:
    r"""PPCA of data with holes, by EM: each sample's posterior rests on what was observed of it.

    Arguments:
        x: shape (n, d); what stands at unobserved places is not read and may be NaN.
        observed: shape (n, d), True where a number is known.
        n_components: k.
        max_iter, tol: as in :class:`FactorAnalysis`; the likelihood is that of the observed numbers.
        generator: of the start.

    Returns:
        model: fitted, with ``loglike_`` and ``n_iter_``.
        filled: x with the holes filled by their conditional means, shape (n, d).

    Raises:
        ValueError: if the shapes differ, an observed number is NaN, k is not in 1 … d − 1, or a sample or
            a feature was never observed.

    References:
        Ilin & Raiko (2010), Practical approaches to PCA in the presence of missing values.
    """
    if observed.shape != x.shape or observed.dtype != torch.bool:
        raise ValueError(
            f"observed is {observed.dtype} of shape {tuple(observed.shape)}; expected bool, {tuple(x.shape)}"
        )
    x = torch.where(observed, x, torch.zeros_like(x))
    check.data(x)
    d, k = x.shape[1], n_components
    if not 1 <= k < d:
        raise ValueError(f"n_components is {k} for samples of {d} numbers; expected 1 … {d - 1}")
    if not (observed.any(0).all() and observed.any(1).all()):
        raise ValueError("a sample or a feature is nowhere observed; expected to leave it out")
    model, seen = PPCA(k, max_iter=max_iter, tol=tol), observed.to(x)
    mu = x.sum(0) / seen.sum(0)
    noise = (seen * (x - mu) ** 2).sum() / seen.sum()
    start = draw((d, k), x, generator) * (noise / k).sqrt(), mu, noise

    steps = {"max_iter": max_iter, "tol": tol, "name": "PPCA"}
    e_step, m_step = (partial(step, x, seen) for step in (posteriors_missing, regression_missing))
    found, (m, _), model.loglike_ = climb(e_step, m_step, start, **steps)
    model.W_, model.mean_, model.noise_variance_ = found
    model.n_iter_ = len(model.loglike_) - 1
    return model, torch.where(observed, x, model.inverse_transform(m))


def posteriors_missing(
    x: Tensor, seen: Tensor, W: Tensor, mu: Tensor, noise: Tensor
) -> tuple[float, tuple[Tensor, Tensor]]:
    r"""E-step with holes: the mean log-likelihood, and mean (n, k) and covariance (n, k, k) of each sample's z.

    Arguments:
        x: with 0 at the holes, shape (n, d).
        seen: 1 where a number is known, else 0.
        W, mu, noise: the present parameters.
    """
    (d, k), centered = W.shape, seen * (x - mu)
    pairs = (W[:, :, None] * W[:, None, :]).reshape(d, k * k)
    # One posterior covariance for each sample.
    precision = torch.eye(k).to(x) + (seen @ pairs).reshape(-1, k, k) / noise
    G = torch.linalg.inv(precision)
    m = (G @ (centered @ W / noise)[:, :, None])[:, :, 0]
    left = ((seen * (centered - m @ W.T)) ** 2).sum(1)
    log_det = seen.sum(1) * noise.log() + torch.logdet(precision)
    squares = left / noise + (m**2).sum(1)
    nats = -0.5 * (seen.sum(1) * LOG_2PI + log_det + squares)
    return nats.double().mean().item(), (m, G)


def regression_missing(
    x: Tensor, seen: Tensor, m: Tensor, G: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""M-step with holes: each feature regressed on (z, 1) over the samples in which it was seen."""
    n, k, d = *m.shape, x.shape[1]
    z = torch.cat([m, torch.ones(n, 1).to(x)], 1)
    zz = z[:, :, None] * z[:, None, :]
    zz[:, :k, :k] += G
    moments = (seen.T @ zz.reshape(n, -1)).reshape(d, k + 1, k + 1)
    loadings = torch.linalg.solve(moments, (x.T @ z)[:, :, None])[:, :, 0]
    W = loadings[:, :k]
    left = (seen * (x - z @ loadings.T) ** 2).sum()
    spread = (seen @ (W[:, :, None] * W[:, None, :]).reshape(d, -1) * G.reshape(n, -1)).sum()
    return W, loadings[:, k], (left + spread) / seen.sum()


class GradientPPCA(nn.Module):
    r"""PPCA as a network: the same likelihood, climbed by gradient.

    Arguments:
        d: numbers in a sample.
        k: numbers in a code, fewer than d.
    """

    def __init__(self, d: int, k: int):
        super().__init__()
        if not 1 <= k < d:
            raise ValueError(f"k is {k} for samples of {d} numbers; expected 1 … {d - 1}")
        self.W = nn.Parameter(torch.randn(d, k) / d**0.5)
        self.b = nn.Parameter(torch.zeros(d))
        self.log_noise = nn.Parameter(torch.zeros(()))

    def log_prob(self, x: Tensor) -> Tensor:
        r"""Log-density in nats, shape (n,)."""
        return log_density(x - self.b, self.W, self.log_noise.exp())

    def loss(self, x: Tensor) -> Tensor:
        r"""Negative log-likelihood in nats, mean over the batch."""
        return -self.log_prob(x).mean()

    def encode(self, x: Tensor) -> Tensor:
        r"""Posterior means of z, shape (n, k)."""
        return posterior(x - self.b, self.W, self.log_noise.exp())[0]

    def decode(self, z: Tensor) -> Tensor:
        r"""The mean of x given z, shape (n, d)."""
        return self.b + z @ self.W.T

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        r"""New data, shape (n, d)."""
        d, k = self.W.shape
        check.at_least(1, n=n)
        z, noise = (draw((n, size), self.W, generator) for size in (k, d))
        return self.decode(z) + noise * (self.log_noise / 2).exp()


def ppca_gradient(W: Tensor, noise: Tensor, C: Tensor) -> Tensor:
    r"""Gradient of the mean log-likelihood with respect to W, a matrix like W, shape (d, k).

    .. math:: \nabla_W = \Sigma^{-1} C\, \Sigma^{-1} W - \Sigma^{-1} W, \qquad \Sigma = W W^\top + \sigma^2 I

    The second term is half of :math:`\nabla_W \log\lvert\Sigma\rvert = 2 \Sigma^{-1} W`.
    """
    sigma = W @ W.T + noise * torch.eye(len(W)).to(W)
    turned = torch.linalg.solve(sigma, W)
    return torch.linalg.solve(sigma, C @ turned) - turned
