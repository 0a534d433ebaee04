r"""Chapter 04, Gaussian factors: factor analysis, probabilistic PCA and mixtures of it."""

import math
import warnings

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from lectool import check
from lectool.factors._shared import done, listed
from lectool.pca import checked_mean, covariance, principal_axes, principal_axes_svd


def posterior(x: Tensor, W: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    r"""What x says about z where :math:`x = W z + \varepsilon`, :math:`z \sim N(0, I)`.

    With :math:`\Psi` the diagonal covariance of :math:`\varepsilon`, the posterior is Gaussian with

    .. math:: G = (I + W^\top \Psi^{-1} W)^{-1}, \qquad m = G\, W^\top \Psi^{-1} x .

    Only a k × k matrix is inverted; :math:`m = W^\top (W W^\top + \Psi)^{-1} x` is the same.

    Arguments:
        x: centred data, shape (n, d).
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
    return -0.5 * (squares + log_det + len(W) * math.log(2 * math.pi))


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
        check.data(x, width=len(self.mean_))
        return posterior(x - self.mean_, self.W_, self.noise_variance_)

    def transform(self, x: Tensor) -> Tensor:
        r"""Posterior means of z, shape (n, k)."""
        return self.posterior(x)[0]

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""The mean of x given z, :math:`\mu + W z`, shape (n, d)."""
        check.data(z, "z", width=self.W_.shape[1])
        return self.mean_ + z @ self.W_.T

    def get_covariance(self) -> Tensor:
        r"""The model's covariance :math:`W W^\top + \Psi`, shape (d, d)."""
        return self.W_ @ self.W_.T + self.noise_variance_.expand(len(self.W_)).diag()

    def score_samples(self, x: Tensor) -> Tensor:
        r"""Log-density of each sample in nats, shape (n,)."""
        check.data(x, width=len(self.mean_))
        return log_density(x - self.mean_, self.W_, self.noise_variance_)

    def score(self, x: Tensor) -> float:
        r"""Mean log-density in nats per sample."""
        return self.score_samples(x).double().mean().item()

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        r"""New data, shape (n, d): draw z, map it, add noise."""
        d, k = self.W_.shape
        z, noise = (torch.randn(n, size, generator=generator).to(self.W_) for size in (k, d))
        return self.mean_ + z @ self.W_.T + noise * self.noise_variance_.sqrt()


class FactorAnalysis(LinearGaussian):
    r"""Factor analysis by EM: k common factors, and a noise variance for each feature alone.

    The data enter once, through the covariance C. An iteration then costs two products of C with a
    d × k matrix and k × k solves: no pass over the data, no SVD.

    The start is PPCA of the standardised data. Noise variances are kept above a small share of their
    feature's variance, below which the likelihood can grow without bound (a Heywood case); a warning
    tells where that bound is met.

    Arguments:
        n_components: k, fewer than the features and than n − 1.
        max_iter: EM iterations at most.
        tol: stops where the log-likelihood grows by less, in nats per sample.
        min_noise: the smallest share of a feature's variance that may be noise, in (0, 1).

    Attributes:
        mean_, W_, noise_variance_: see :class:`LinearGaussian`.
        loglike_: mean log-likelihood before each iteration and after the last, nats per sample.
        n_iter_: iterations done.

    References:
        Rubin & Thayer (1982), EM algorithms for ML factor analysis.

    Example:
        >>> z = FactorAnalysis(2).fit(torch.randn(100, 6)).transform(torch.randn(3, 6))
    """

    def __init__(
        self, n_components: int, *, max_iter: int = 1000, tol: float = 1e-6, min_noise: float = 1e-6
    ):
        if max_iter < 1 or tol < 0 or not 0 < min_noise < 1:
            raise ValueError(
                f"max_iter, tol, min_noise are {max_iter}, {tol}, {min_noise}; expected ≥ 1, ≥ 0, in (0, 1)"
            )
        self.n_components, self.max_iter = n_components, max_iter
        self.tol, self.min_noise = tol, min_noise

    def fit(self, x: Tensor) -> "FactorAnalysis":
        r"""Finds mean, loadings and noise variances of x, shape (n, d).

        Raises:
            ValueError: if x is no valid data, a feature is constant, or ``n_components`` is not in
                1 … min(n − 2, d − 1).
        """
        self.mean_ = checked_mean(x)
        n, d = x.shape
        k = self.n_components
        if not 1 <= k <= min(n - 2, d - 1):
            raise ValueError(
                f"n_components is {k} for {n} samples of {d} numbers; expected 1 … {min(n - 2, d - 1)}"
            )
        if constant := listed((x == x[0]).all(0)):
            raise ValueError(f"constant: {constant}; expected some variance in every feature")
        C = covariance(x, self.mean_)
        sd = C.diag().sqrt()
        W, noise = self._em(C / sd / sd[:, None], k)  # EM on the correlations: units do not matter
        self.loglike_ = [value - sd.log().sum().item() for value in self.loglike_]
        self.W_, self.noise_variance_ = (W * sd[:, None]).to(x), (noise * sd**2).to(x)
        if stuck := listed(noise <= self.min_noise):
            warnings.warn(
                f"FactorAnalysis: the noise variance met its lower bound in {stuck} (a Heywood case); "
                "fewer factors, or fewer features that repeat each other, avoid it",
                stacklevel=2,
            )
        return self

    def _em(self, C: Tensor, k: int) -> tuple[Tensor, Tensor]:
        variances, vectors = torch.linalg.eigh(C)
        W, noise = ppca_closed_form(vectors.T.flip(0), variances.flip(0).clamp(min=0), len(C), k)
        noise = noise.clamp(min=self.min_noise).expand(len(C))
        self.loglike_ = []
        for step in range(self.max_iter + 1):
            A = W.T / noise
            G = torch.linalg.inv(torch.eye(k).to(W) + A @ W)
            B = G @ A  # E-step: the posterior mean of z is B x, its covariance G
            CB = C @ B.T  # E[x zᵀ]
            zz = B @ CB  # E[m mᵀ]
            left = C.diag() - 2 * (W * CB).sum(1) + (W @ zz * W).sum(1)  # E[(x − W m)²]
            log_det = noise.log().sum() - torch.logdet(G)
            squares = (left / noise).sum() + zz.trace()
            self.loglike_.append(-0.5 * (len(C) * math.log(2 * math.pi) + log_det + squares).item())
            if done(self, step):
                break
            W = torch.linalg.solve(G + zz, CB.T).T  # M-step: regress x on z …
            left = C.diag() - 2 * (W * CB).sum(1) + (W @ (G + zz) * W).sum(1)
            noise = left.clamp(min=self.min_noise)  # … and what is left is noise
        return W, noise


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
        if solver not in ("closed", "em"):
            raise ValueError(f"solver is {solver!r}; it can be 'closed' or 'em'")
        if noise_variance is not None and (solver == "em" or not noise_variance > 0):
            raise ValueError(
                f"noise_variance is {noise_variance} with solver {solver!r}; expected > 0 and 'closed'"
            )
        if correction not in (0, 1) or max_iter < 1 or tol < 0:
            raise ValueError(
                f"correction, max_iter, tol are {correction}, {max_iter}, {tol}; expected 0 or 1, ≥ 1, ≥ 0"
            )
        self.n_components, self.solver, self.noise_variance = n_components, solver, noise_variance
        self.correction, self.max_iter, self.tol = correction, max_iter, tol
        self.generator = generator

    def fit(self, x: Tensor) -> "PPCA":
        r"""Finds mean, loadings and noise variance of x, shape (n, d).

        Raises:
            ValueError: if x is no valid data or has one sample only, ``n_components`` is not in
                1 … d − 1, or the data have no variance outside k directions and
                :math:`\sigma^2` is to be learned.
        """
        self.mean_ = checked_mean(x)
        n, d = x.shape
        k = self.n_components
        if not 1 <= k < d or n < 2:
            raise ValueError(
                f"n_components is {k} for {n} samples of {d} numbers; expected 1 … {d - 1}, n ≥ 2"
            )
        solve = principal_axes_svd if n < d else principal_axes
        axes, variances = solve(x, self.mean_)
        variances = variances * (n / (n - self.correction))
        left = variances[k:].sum() / (d - k)
        if self.noise_variance is None and left <= 1e-12 * variances[0]:
            raise ValueError(
                f"the data vary in at most {k} directions: no noise is left for n_components = {k}; "
                "expected fewer components, or noise_variance > 0"
            )
        if self.solver == "em":
            C = (axes.T.double() * variances) @ axes.double()
            self.W_, self.noise_variance_ = (t.to(x) for t in self._em(C.cpu(), k))
        else:
            self.W_, self.noise_variance_ = ppca_closed_form(
                axes, variances, d, k, self.noise_variance
            )
        return self

    def _em(self, C: Tensor, k: int) -> tuple[Tensor, Tensor]:
        d = len(C)
        noise = C.trace() / d
        W = torch.randn(d, k, generator=self.generator).to(C) * (noise / k).sqrt()
        self.loglike_ = []
        for step in range(self.max_iter + 1):
            G = torch.linalg.inv(torch.eye(k).to(C) + W.T @ W / noise)
            B = G @ W.T / noise  # E-step: the posterior mean of z is B x, its covariance G
            CB = C @ B.T
            zz = B @ CB
            left = C.trace() - 2 * (W * CB).sum() + (W @ zz * W).sum()
            log_det = d * noise.log() - torch.logdet(G)
            squares = left / noise + zz.trace()
            self.loglike_.append(-0.5 * (d * math.log(2 * math.pi) + log_det + squares).item())
            if done(self, step):
                break
            W = torch.linalg.solve(G + zz, CB.T).T  # M-step
            noise = (C.trace() - 2 * (W * CB).sum() + (W @ (G + zz) * W).sum()) / d
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
    (n, d), k = x.shape, n_components
    if not 1 <= k < d:
        raise ValueError(f"n_components is {k} for samples of {d} numbers; expected 1 … {d - 1}")
    if not (observed.any(0).all() and observed.any(1).all()):
        raise ValueError("a sample or a feature is nowhere observed; expected to leave it out")
    model = PPCA(k, max_iter=max_iter, tol=tol)
    seen = observed.to(x)
    mean = x.sum(0) / seen.sum(0)
    noise = (seen * (x - mean) ** 2).sum() / seen.sum()
    W = torch.randn(d, k, generator=generator).to(x) * (noise / k).sqrt()
    model.loglike_ = []
    for step in range(max_iter + 1):
        centred = seen * (x - mean)
        pairs = (W[:, :, None] * W[:, None, :]).reshape(d, k * k)
        precision = torch.eye(k).to(x) + (seen @ pairs).reshape(n, k, k) / noise
        G = torch.linalg.inv(precision)  # E-step: one posterior covariance a sample
        m = (G @ (centred @ W / noise)[:, :, None])[:, :, 0]
        left = (seen * (centred - m @ W.T)) ** 2
        log_det = seen.sum(1) * noise.log() + torch.logdet(precision)
        squares = left.sum(1) / noise + (m**2).sum(1)
        nats = -0.5 * (seen.sum(1) * math.log(2 * math.pi) + log_det + squares)
        model.loglike_.append(nats.double().mean().item())
        if done(model, step):
            break
        z = torch.cat([m, torch.ones(n, 1).to(x)], 1)  # M-step: regress each feature on (z, 1)
        zz = z[:, :, None] * z[:, None, :]
        zz[:, :k, :k] += G
        moments = (seen.T @ zz.reshape(n, -1)).reshape(d, k + 1, k + 1)
        loadings = torch.linalg.solve(moments, (x.T @ z)[:, :, None])[:, :, 0]
        W, mean = loadings[:, :k], loadings[:, k]
        left = (seen * (x - z @ loadings.T) ** 2).sum()
        spread = (seen @ (W[:, :, None] * W[:, None, :]).reshape(d, -1) * G.reshape(n, -1)).sum()
        noise = (left + spread) / seen.sum()
    model.mean_, model.W_, model.noise_variance_ = mean, W, noise
    return model, torch.where(observed, x, mean + m @ W.T)


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
        z, noise = (torch.randn(n, size, generator=generator).to(self.W) for size in (k, d))
        return self.decode(z) + noise * (self.log_noise / 2).exp()


def ppca_gradient(W: Tensor, noise: Tensor, C: Tensor) -> Tensor:
    r"""Gradient of the mean log-likelihood with respect to W, a matrix like W, shape (d, k).

    .. math:: \nabla_W = \Sigma^{-1} C\, \Sigma^{-1} W - \Sigma^{-1} W, \qquad \Sigma = W W^\top + \sigma^2 I

    The second term is half of :math:`\nabla_W \log\lvert\Sigma\rvert = 2 \Sigma^{-1} W`.
    """
    sigma = W @ W.T + noise * torch.eye(len(W)).to(W)
    turned = torch.linalg.solve(sigma, W)
    return torch.linalg.solve(sigma, C @ turned) - turned


class MixtureOfPPCA:
    r"""Several PPCA models that share the data: a bent set of points by flat pieces, by EM.

    The E-step finds the share :math:`r_{ic}` of each piece in each sample; the M-step is the closed form
    of PPCA on the covariance with these weights.

    Arguments:
        n_mixtures: number of pieces.
        n_components: k of each.
        max_iter, tol: as in :class:`FactorAnalysis`.
        min_noise: lower bound of each noise variance, as a share of the mean variance of a feature.
        generator: of the start by k-means.

    Attributes:
        weights_: prior share of each piece, shape (m,).
        means_: shape (m, d).
        W_: loadings, shape (m, d, k).
        noise_variance_: shape (m,).
        loglike_, n_iter_: as in :class:`FactorAnalysis`.

    References:
        Tipping & Bishop (1999), Mixtures of probabilistic principal component analysers.
    """

    def __init__(
        self,
        n_mixtures: int,
        n_components: int,
        *,
        max_iter: int = 200,
        tol: float = 1e-4,
        min_noise: float = 1e-4,
        generator: torch.Generator | None = None,
    ):
        if n_mixtures < 1 or max_iter < 1 or tol < 0 or not min_noise > 0:
            raise ValueError(
                f"n_mixtures, max_iter, tol, min_noise are {n_mixtures}, {max_iter}, {tol}, {min_noise}; "
                "expected ≥ 1, ≥ 1, ≥ 0, > 0"
            )
        self.n_mixtures, self.n_components, self.max_iter = n_mixtures, n_components, max_iter
        self.tol, self.min_noise, self.generator = tol, min_noise, generator

    def fit(self, x: Tensor) -> "MixtureOfPPCA":
        r"""Finds the pieces in x, shape (n, d).

        Raises:
            ValueError: if x is no valid data, has no variance, ``n_components`` is not in 1 … d − 1 or
                there are not at least two samples a piece.
        """
        check.data(x)
        (n, d), k = x.shape, self.n_components
        if not 1 <= k < d or n < 2 * self.n_mixtures:
            raise ValueError(
                f"n_components is {k}, n_mixtures {self.n_mixtures} for {n} samples of {d} numbers; "
                f"expected 1 … {d - 1} and at most {n // 2}"
            )
        floor = self.min_noise * x.var(0, correction=0).mean().item()
        if floor == 0:
            raise ValueError("all samples are the same; expected some variance")
        seed = int(torch.randint(2**31 - 1, (), generator=self.generator))
        found = KMeans(self.n_mixtures, n_init=3, random_state=seed).fit(x.cpu().numpy()).labels_
        share = nn.functional.one_hot(torch.as_tensor(found).long(), self.n_mixtures).to(x)
        self.loglike_ = []
        for step in range(self.max_iter + 1):
            self._maximise(x, share.clamp(min=1e-10), floor)
            joint = self._joint(x)
            self.loglike_.append(joint.logsumexp(1).double().mean().item())
            if done(self, step):
                break
            share = joint.softmax(1)
        return self

    def _maximise(self, x: Tensor, share: Tensor, floor: float) -> None:
        total = share.sum(0)
        self.weights_ = total / total.sum()
        self.means_ = (share.T @ x) / total[:, None]
        W, noise = [], []
        for r, mean in zip((share / total).T, self.means_, strict=True):
            centred = x - mean
            C = ((centred.T * r) @ centred).double().cpu()
            variances, vectors = torch.linalg.eigh(C)
            axes, variances = vectors.T.flip(0), variances.flip(0).clamp(min=0)
            k, d = self.n_components, len(C)
            sigma2 = max(variances[k:].mean().item(), floor)
            loadings, sigma2 = ppca_closed_form(axes, variances, d, k, sigma2)
            W.append(loadings.to(x))
            noise.append(sigma2.to(x))
        self.W_, self.noise_variance_ = torch.stack(W), torch.stack(noise)

    def _joint(self, x: Tensor) -> Tensor:
        pieces = zip(self.means_, self.W_, self.noise_variance_, strict=True)
        logs = torch.stack([log_density(x - mean, W, noise) for mean, W, noise in pieces], 1)
        return logs + self.weights_.log()

    def score_samples(self, x: Tensor) -> Tensor:
        r"""Log-density of each sample in nats, shape (n,)."""
        return self._joint(check.data(x, width=self.means_.shape[1])).logsumexp(1)

    def score(self, x: Tensor) -> float:
        r"""Mean log-density in nats per sample."""
        return self.score_samples(x).double().mean().item()

    def predict_proba(self, x: Tensor) -> Tensor:
        r"""The share of each piece in each sample, shape (n, m)."""
        return self._joint(check.data(x, width=self.means_.shape[1])).softmax(1)

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        r"""New data, shape (n, d)."""
        _, d, k = self.W_.shape
        c = torch.multinomial(self.weights_.cpu(), n, replacement=True, generator=generator)
        z, noise = (torch.randn(n, size, generator=generator).to(self.W_) for size in (k, d))
        mapped = (self.W_[c] @ z[:, :, None])[:, :, 0]
        return self.means_[c] + mapped + noise * self.noise_variance_[c].sqrt()[:, None]
