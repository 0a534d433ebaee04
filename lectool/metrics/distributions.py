r"""How far two distributions are from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lectool import check
from lectool.metrics.precision import double

__all__ = ["frechet_distance", "mmd2", "squared_mmd"]

KERNELS = ("rbf", "imq", "cubic")


def squared_mmd(
    x: Tensor,
    y: Tensor,
    *,
    kernel: str = "rbf",
    widths: Sequence[float] = (1.0,),
    unbiased: bool = True,
) -> Tensor:
    r"""Squared maximum mean discrepancy between the distributions of two samples.

    .. math:: \mathbb E[k(x, x')] + \mathbb E[k(y, y')] - 2\, \mathbb E[k(x, y)]

    is the squared distance of their mean embeddings, 0 exactly where the distributions are equal if the
    kernel is characteristic (``"rbf"`` and ``"imq"`` are).

    Arguments:
        x, y: samples, shapes (n, d) and (m, d).
        kernel: ``"rbf"``: :math:`\sum_w \exp(-r^2 / 2 w^2)` over the widths w, with the distance r;
            ``"imq"``: :math:`\sum_w w^2 / (w^2 + r^2)`, whose tails reach further;
            ``"cubic"``: :math:`(x^\top y / d + 1)^3`, which needs no width.
        widths: w, in the units of x; each > 0.
        unbiased: whether pairs of a point with itself are left out: 0 in expectation where the
            distributions are equal, and negative at times. Else never negative, and too large by O(1/n).

    Returns:
        a scalar through which gradients flow to both samples.

    Raises:
        ValueError: if shapes or types do not fit, there are fewer than two points, the kernel is unknown or a
            width is out of range.

    References:
        Gretton et al. (2012), A kernel two-sample test, lemma 6.
    """
    check.data(x)
    check.data(y, "y", width=x.shape[1])
    check.one_of(KERNELS, kernel=kernel)
    for width in widths:
        check.positive(widths=width)
    if x.dtype != y.dtype:
        raise ValueError(f"x is {x.dtype} and y is {y.dtype}; expected one type")
    if unbiased and min(len(x), len(y)) < 2:
        raise ValueError(f"x and y have {len(x)} and {len(y)} points; expected at least 2 each")
    return mmd2(x, y, kernel, widths, unbiased)


def mmd2(
    x: Tensor, y: Tensor, kernel: str, widths: Sequence[float], unbiased: bool = True
) -> Tensor:
    r"""The sum over pairs of :func:`squared_mmd`, without its checks: for losses, and under ``torch.vmap``."""
    n, m = len(x), len(y)
    if kernel != "cubic":
        # A common shift changes no distance, and large squares would cancel badly.
        middle = x.detach().mean(0)
        x, y = x - middle, y - middle
    k_xx, k_yy, k_xy = (kernel_values(a, b, kernel, widths) for a, b in ((x, x), (y, y), (x, y)))
    if not unbiased:
        return k_xx.mean() + k_yy.mean() - 2 * k_xy.mean()
    within_x = (k_xx.sum() - k_xx.diagonal().sum()) / (n * (n - 1))
    within_y = (k_yy.sum() - k_yy.diagonal().sum()) / (m * (m - 1))
    return within_x + within_y - 2 * k_xy.mean()


def kernel_values(a: Tensor, b: Tensor, kernel: str, widths: Sequence[float]) -> Tensor:
    r"""Values of a kernel of :func:`squared_mmd` between all rows of a and of b, shape (n, m); without checks."""
    if kernel == "cubic":
        return (a @ b.T / a.shape[1] + 1) ** 3
    r2 = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
    if kernel == "rbf":
        return sum(torch.exp(-r2 / (2 * w**2)) for w in widths)
    return sum(w**2 / (w**2 + r2) for w in widths)


def frechet_distance(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    r"""Squared Fréchet distance (Wasserstein-2) of two Gaussians.

    .. math:: \lVert \mu_1 - \mu_2 \rVert^2
        + \operatorname{tr} \Sigma_1 + \operatorname{tr} \Sigma_2
        - 2 \operatorname{tr} (\Sigma_1 \Sigma_2)^{1/2}

    The product of two covariances is not symmetric, and a general matrix root of it breaks down where one
    of them is singular. With the symmetric roots :math:`R_i = \Sigma_i^{1/2}` the last trace is the sum of
    the singular values of :math:`R_1 R_2`, which always exist.

    Arguments:
        mean_1, mean_2: shapes (d,).
        cov_1, cov_2: covariances, shapes (d, d); they may be singular.

    Returns:
        a number ≥ 0, in squared units of the data, computed in float64.

    Raises:
        ValueError: if shapes do not fit, or a matrix is not symmetric or has a negative eigenvalue.

    References:
        Dowson & Landau (1982), The Fréchet distance between multivariate normal distributions.
    """
    check.data(mean_1, "mean_1", n_dims=1)
    check.data(mean_2, "mean_2", n_dims=1)
    check.shape(len(mean_1), mean_2=mean_2)
    check.shape(len(mean_1), len(mean_1), cov_1=cov_1, cov_2=cov_2)
    R_1, R_2 = _root(cov_1, "cov_1"), _root(cov_2, "cov_2")
    shift = (double(mean_1) - double(mean_2)).square().sum()
    # The trace of a covariance is the squared norm of its root.
    spread = R_1.square().sum() + R_2.square().sum()
    overlap = torch.linalg.svdvals(R_1 @ R_2).sum()
    return (shift + spread - 2 * overlap).clamp(min=0).item()


def _root(cov: Tensor, name: str) -> Tensor:
    cov = double(check.data(cov, name))
    variances, U = torch.linalg.eigh((cov + cov.T) / 2)
    tolerance = 1e-4 * variances.abs().max()
    if (cov - cov.T).abs().max() > tolerance or variances[0] < -tolerance:
        raise ValueError(f"{name} is no covariance: not symmetric, or a negative eigenvalue")
    return U * variances.clamp(min=0).sqrt() @ U.T
