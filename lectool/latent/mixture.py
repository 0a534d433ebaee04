r"""Chapter 08: a mixture of Gaussians by EM, in passes of matrix products over the data."""

import math
from collections.abc import Callable

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from lectool import check, moments
from lectool.em import climb
from lectool.moments import double
from lectool.random import noise

__all__ = [
    "GaussianMixture",
    "lift_variances",
    "log_gaussians",
    "owned",
    "precision_factors",
    "statistics",
]

# Rows of data whose products with all components fit into a processor's cache.
BLOCK = 1024


def precision_factors(covariances: Tensor) -> Tensor:
    r"""Upper triangular :math:`U_c` with :math:`\Sigma_c^{-1} = U_c U_c^\top`, shape (k, d, d).

    Raises:
        ValueError: if a matrix is not positive definite.
    """
    L, info = torch.linalg.cholesky_ex(covariances)
    if info.any():
        bad = info.nonzero()[:, 0].tolist()
        raise ValueError(f"the covariances of components {bad} are not positive definite")
    eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device).expand_as(L)
    return torch.linalg.solve_triangular(L, eye, upper=False).mT


def log_gaussians(x: Tensor, means: Tensor, U: Tensor) -> Tensor:
    r"""Log-density :math:`\log N(x; \mu_c, \Sigma_c)` of each sample under each component, in nats.

    .. math:: \log \lvert U_c \rvert - \tfrac12 \lVert U_c^\top (x - \mu_c) \rVert^2 - \tfrac d2 \log 2 \pi

    Arguments:
        x: shape (n, d).
        means: shape (k, d).
        U: from :func:`precision_factors`, shape (k, d, d).

    Returns:
        shape (n, k).
    """
    k, d = means.shape
    # One matrix product for all components.
    y = x @ U.permute(1, 0, 2).reshape(d, k * d) - (means[:, None] @ U).reshape(k * d)
    distances = y.square_().reshape(-1, k, d).sum(2)
    log_det = U.diagonal(dim1=1, dim2=2).log().sum(1)
    return log_det - 0.5 * distances - 0.5 * d * math.log(2 * math.pi)


def owned(x: Tensor, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""What each component owns of the data: how much, the sum, and the sum of squares.

    :math:`\sum_i r_{ic}`, :math:`\sum_i r_{ic} x_i` and :math:`\sum_i r_{ic} x_i x_i^\top`, shapes (k,), (k, d) and
    (k, d, d), for x of shape (n, d) and r of shape (n, k).
    """
    k, d = r.shape[1], x.shape[1]
    parts = (r[:, :, None] * x[:, None]).reshape(len(x), k * d)
    return r.sum(0), r.T @ x, (parts.T @ x).reshape(k, d, d)


def statistics(x: Tensor, log_joint: Callable[[Tensor], Tensor]) -> tuple[float, tuple]:
    r"""E-step: one pass over the data that keeps only what the M-step needs.

    Arguments:
        x: shape (n, d).
        log_joint: maps rows of x to :math:`\log p(x, c)`, shape (rows, k).

    Returns:
        loglike: mean of :math:`\log \sum_c p(x, c)`, in nats a sample.
        sums: those of :func:`owned` with :math:`r_{ic} = p(c \mid x_i)`.
    """
    loglike, sums = 0.0, None
    for rows in x.split(BLOCK):
        joint = log_joint(rows)
        log_p = joint.logsumexp(1, keepdim=True)
        loglike = loglike + log_p.sum()
        part = owned(rows, (joint - log_p).exp_())
        sums = part if sums is None else tuple(a + b for a, b in zip(sums, part, strict=True))
    return loglike.item() / len(x), sums


def lift_variances(covariances: Tensor, least: float) -> tuple[Tensor, int]:
    r"""Covariances none of whose variances, in any direction, is below ``least``.

    Of all covariances with this property they are the most likely ones, so that EM with this repair still never
    lowers the likelihood (adding a number to the diagonal may).

    Arguments:
        covariances: shape (k, d, d).
        least: > 0.

    Returns:
        lifted: the same matrices where nothing was to do, shape (k, d, d).
        n_lifted: the number of components that were repaired.
    """
    variances, axes = torch.linalg.eigh(covariances)
    low = (variances < least).any(1)
    repaired = (axes * variances.clamp(min=least)[:, None]) @ axes.mT
    return torch.where(low[:, None, None], repaired, covariances), int(low.sum())


def split_by_kmeans(x: Tensor, k: int, generator: torch.Generator | None) -> Tensor:
    r"""A start: each sample belongs to its cluster alone, one-hot, shape (n, k)."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    found = KMeans(k, n_init=1, random_state=seed).fit(x.cpu().numpy()).labels_
    return nn.functional.one_hot(torch.as_tensor(found).long(), k).to(x)


class GaussianMixture:
    r"""A mixture of Gaussians with full covariances, :math:`p(x) = \sum_c \pi_c N(x; \mu_c, \Sigma_c)`, by EM.

    The E-step finds the responsibilities :math:`r_{ic} = p(c \mid x_i)`, the M-step the moments of what each
    component owns.

    A component that shrinks onto a few points would make the likelihood infinite. So no variance, in any direction,
    may fall below ``min_variance`` times that of the data (each feature in its own scale); components that were
    held up are counted.

    Arguments:
        n_components: k ≥ 1.
        tol: smallest gain in mean log-likelihood, in nats, that is worth another iteration.
        max_iter: ≥ 1.
        min_variance: > 0.
        weights_init, means_init, precisions_init: where to start, shapes (k,), (k, d) and (k, d, d). Without
            ``means_init`` the start is k-means; with it, weights are equal and covariances those of the data's
            features, unless they are given too.
        generator: of k-means.

    Attributes:
        weights_, means_, covariances_: shapes (k,), (k, d) and (k, d, d).
        precisions_cholesky_: upper triangular U with :math:`\Sigma^{-1} = U U^\top`, shape (k, d, d).
        loglike_: mean log-likelihood in nats at the start and after each iteration, a list.
        path_: weights, means and covariances at the start and after each iteration, a list.
        n_iter_: number of iterations.
        n_floored_: how often, over all iterations, a component was held up at the least variance.

    References:
        Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm;
        Bishop (2006), Pattern Recognition and Machine Learning, section 9.2.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        tol: float = 1e-3,
        max_iter: int = 100,
        min_variance: float = 1e-6,
        weights_init: Tensor | None = None,
        means_init: Tensor | None = None,
        precisions_init: Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        check.at_least(1, n_components=n_components, max_iter=max_iter)
        check.non_negative(tol=tol)
        check.positive(min_variance=min_variance)
        if means_init is None and (weights_init is not None or precisions_init is not None):
            raise ValueError("weights_init or precisions_init without means_init; expected both")
        self.n_components, self.tol, self.max_iter = n_components, tol, max_iter
        self.min_variance, self.generator = min_variance, generator
        self.init = (weights_init, means_init, precisions_init)

    def fit(self, x: Tensor) -> "GaussianMixture":
        r"""Finds the components in x, shape (n, d).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`, has fewer samples than components or a feature
                that never varies, or a start does not fit.
        """
        check.data(x)
        if len(x) < self.n_components:
            raise ValueError(f"{len(x)} samples; expected at least {self.n_components}, one each")
        constant = moments.features(moments.constant_columns(x))
        if constant:
            raise ValueError(f"{constant} never vary; expected some variance in each")
        self.path_, self.n_floored_, X = [], 0, double(x)
        # Standard units: sums of squares lose nothing, and one floor fits all features.
        mean, scale = X.mean(0), X.std(0, correction=0)
        X = (X - mean) / scale
        units = scale.log().sum().item()

        def e_step(*parameters: Tensor) -> tuple[float, tuple]:
            self.path_.append(self._in_units(x, mean, scale, *parameters))
            loglike, sums = self.expect(X, *parameters)
            return loglike - units, sums

        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": type(self).__name__}
        found, _, self.loglike_ = climb(e_step, self.maximize, self._start(X, mean, scale), **steps)
        self.weights_, self.means_, self.covariances_ = self._in_units(x, mean, scale, *found)
        self.precisions_cholesky_ = (precision_factors(found[2]) / scale[:, None]).to(x)
        self.n_iter_ = len(self.loglike_) - 1
        return self

    @staticmethod
    def expect(
        x: Tensor, weights: Tensor, means: Tensor, covariances: Tensor
    ) -> tuple[float, tuple]:
        r"""E-step: mean log-likelihood, and what each component owns of the data."""
        U = precision_factors(covariances)
        return statistics(x, lambda rows: log_gaussians(rows, means, U) + weights.log())

    def maximize(self, total: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, ...]:
        r"""M-step: weights, means and covariances of what each component owns."""
        # A component that owns nothing keeps a weight of next to nothing.
        total = total + 10 * torch.finfo(total.dtype).eps
        means = first / total[:, None]
        covariances = second / total[:, None, None] - means[:, :, None] * means[:, None]
        covariances, n_lifted = lift_variances(covariances, self.min_variance)
        self.n_floored_ += n_lifted
        return total / total.sum(), means, covariances

    def _start(self, x: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, ...]:
        r"""Parameters before the first iteration, for data in standard units."""
        weights, means, precisions = self.init
        k, d = self.n_components, x.shape[1]
        if means is None:
            return self.maximize(*owned(x, split_by_kmeans(x, k, self.generator)))
        weights = x.new_full((k,), 1 / k) if weights is None else weights
        precisions = torch.diag(scale**-2).expand(k, d, d) if precisions is None else precisions
        shapes = tuple(tuple(t.shape) for t in (weights, means, precisions))
        if shapes != ((k,), (k, d), (k, d, d)):
            raise ValueError(
                f"the start has shapes {shapes}; expected {(k,)}, {(k, d)}, {(k, d, d)}"
            )
        if (weights < 0).any() or abs(weights.sum().item() - 1) > 1e-5:
            raise ValueError(f"weights_init is {weights.tolist()}; expected shares that sum to 1")
        covariances = torch.linalg.inv(precisions.to(x)) / (scale[:, None] * scale)
        return weights.to(x), (means.to(x) - mean) / scale, covariances

    @staticmethod
    def _in_units(
        x: Tensor, mean: Tensor, scale: Tensor, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        r"""Parameters in the units, type and device of the data."""
        weights, means, covariances = parameters
        found = weights, mean + scale * means, scale[:, None] * covariances * scale
        return tuple(t.to(x) for t in found)

    def joint(self, x: Tensor) -> Tensor:
        r""":math:`\log p(x, c)` under the fitted model, float64, shape (n, k)."""
        check.data(x, width=self.means_.shape[1], like=self.means_)
        mean = double(self.means_.mean(0))
        means, U = double(self.means_) - mean, double(self.precisions_cholesky_)
        return log_gaussians(double(x) - mean, means, U) + double(self.weights_).log()

    def score_samples(self, x: Tensor) -> Tensor:
        r"""Log-density of each sample in nats, shape (n,)."""
        return self.joint(x).logsumexp(1).to(x)

    def score(self, x: Tensor) -> float:
        r"""Mean log-density in nats a sample."""
        return self.joint(x).logsumexp(1).mean().item()

    def predict_proba(self, x: Tensor) -> Tensor:
        r"""Responsibilities :math:`p(c \mid x)`, shape (n, k)."""
        return self.joint(x).softmax(1).to(x)

    def predict(self, x: Tensor) -> Tensor:
        r"""The component of each sample that is most probable, int64, shape (n,)."""
        return self.joint(x).argmax(1).to(x.device)

    def bic(self, x: Tensor) -> float:
        r"""Bayesian information criterion :math:`p \log n - 2 \log p(x)` of p free numbers; smaller is better."""
        k, d = self.means_.shape
        free = k - 1 + k * d + k * d * (d + 1) // 2
        return free * math.log(len(x)) - 2 * len(x) * self.score(x)

    def sample(
        self, n: int = 1, *, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""New data, shape (n, d), and the component of each, shape (n,)."""
        check.at_least(1, n=n)
        where = "cpu" if generator is None else generator.device
        c = torch.multinomial(self.weights_.to(where), n, replacement=True, generator=generator)
        c = c.to(self.means_.device)
        epsilon = noise((n, self.means_.shape[1]), self.means_, generator)
        L = torch.linalg.cholesky(self.covariances_)
        return self.means_[c] + (L[c] @ epsilon[:, :, None])[:, :, 0], c
