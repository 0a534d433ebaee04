r"""Measures of reconstruction, of subspaces, of codes and of the distance between samples."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from scipy.stats import t as students_t
from torch import Tensor

from lectool.train import check_data

__all__ = [
    "Estimate",
    "frechet_distance",
    "frechet_inception_distance",
    "inception_score",
    "jackknife",
    "kernel_inception_distance",
    "nearest",
    "precision_recall",
    "principal_angles",
    "psnr",
    "reconstruction_error",
    "retrieval_precision",
    "squared_mmd",
]


def reconstruction_error(x: Tensor, x_hat: Tensor) -> float:
    r"""Squared error per sample: summed over all numbers of a sample, averaged over samples.

    .. math:: \frac1n \sum_{i=1}^n \lVert x_i - \hat x_i \rVert^2

    Arguments:
        x, x_hat: data and their reconstruction, of one shape (n, …).

    Raises:
        ValueError: if the shapes differ or there is no sample.
    """
    if x.shape != x_hat.shape or x.numel() == 0:
        raise ValueError(
            f"shapes are {tuple(x.shape)} and {tuple(x_hat.shape)}; expected the same, not empty"
        )
    return ((x - x_hat) ** 2).sum().item() / len(x)


def psnr(error: float, d: int, peak: float = 1.0) -> float:
    r"""Peak signal-to-noise ratio in decibels of a squared error that is summed over ``d`` pixels."""
    if error <= 0 or d < 1:
        raise ValueError(f"error is {error}, d is {d}; expected > 0 and ≥ 1")
    return 10 * torch.log10(torch.tensor(peak**2 * d / error, dtype=torch.float64)).item()


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    r"""Angles between the subspaces that the columns of two matrices span.

    Computed through sines for small angles and cosines for large ones, since neither is exact for both
    (Björck & Golub 1973; Knyazev & Argentati 2002).

    Arguments:
        a, b: bases, shapes (d, k) and (d, k); they need not be orthonormal.

    Returns:
        k angles in radians, in [0, π/2], ascending, in float64.

    Raises:
        ValueError: if the shapes differ, k > d, or a basis has not full rank.
    """
    if a.shape != b.shape or a.ndim != 2 or a.shape[0] < a.shape[1]:
        raise ValueError(
            f"bases have shapes {tuple(a.shape)}, {tuple(b.shape)}; expected the same (d, k), k ≤ d"
        )
    q = []
    for name, basis in (("a", a), ("b", b)):
        u, s, _ = torch.linalg.svd(basis.double(), full_matrices=False)
        if s[-1] <= 1e-12 * s[0]:
            raise ValueError(f"the columns of {name} are linearly dependent; expected a basis")
        q.append(u)
    product = q[0].T @ q[1]
    cosines = torch.linalg.svdvals(product).clamp(0, 1)  # descending: angles ascending
    sines = torch.linalg.svdvals(q[1] - q[0] @ product).clamp(0, 1).flip(0)
    return torch.where(cosines**2 < 0.5, cosines.arccos(), sines.arcsin())


def nearest(queries: Tensor, items: Tensor, k: int, *, chunk: int = 2000) -> Tensor:
    r"""For each query the ``k`` items at the smallest Euclidean distance, nearest first.

    Arguments:
        queries: shape (m, d).
        items: shape (n, d).
        k: at most n.
        chunk: queries handled at a time, which bounds the memory.

    Returns:
        indices into ``items``, shape (m, k).

    Raises:
        ValueError: if the widths differ or ``k`` is not in 1 … n.
    """
    check_data(queries, "queries", width=items.shape[-1])
    check_data(items, "items")
    if not 1 <= k <= len(items):
        raise ValueError(f"k is {k}; expected 1 … {len(items)}, the number of items")
    middle = items.mean(0)  # distances stay the same, and squares of large offsets do not cancel
    queries, items = queries - middle, items - middle
    squares = (items**2).sum(1)  # |q|² is the same for all items: it cannot change their order
    found = [
        (squares - 2 * q @ items.T).topk(k, largest=False).indices for q in queries.split(chunk)
    ]
    return torch.cat(found)


def retrieval_precision(codes: Tensor, labels: Tensor, k: int = 10) -> float:
    r"""The share of a sample's ``k`` nearest neighbours that carry its label, averaged over samples.

    Arguments:
        codes: shape (n, d); each row is the query once and is not its own neighbour.
        labels: shape (n,).

    Returns:
        precision at ``k``, in [0, 1].

    Raises:
        ValueError: if the lengths differ or ``k`` is not in 1 … n − 1.
    """
    if len(codes) != len(labels):
        raise ValueError(f"{len(codes)} codes but {len(labels)} labels")
    if not 1 <= k < len(codes):
        raise ValueError(f"k is {k}; expected 1 … {len(codes) - 1}, the number of other samples")
    found = nearest(codes, codes, k + 1)
    # Twins of a query can stand before it: it is taken out by its index, not by its rank.
    other = found != torch.arange(len(codes), device=codes.device)[:, None]
    other[other.all(1), -1] = False
    neighbours = found[other].reshape(len(codes), k)
    return (labels[neighbours] == labels[:, None]).double().mean().item()


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
        ValueError: if shapes do not fit, there are fewer than two points, or kernel or width is invalid.

    References:
        Gretton et al. (2012), A kernel two-sample test, lemma 6.
    """
    check_data(x)
    check_data(y, "y", width=x.shape[1])
    if kernel not in ("rbf", "imq", "cubic") or min(widths) <= 0:
        raise ValueError(
            f"kernel is {kernel!r} with widths {tuple(widths)}; expected 'rbf', 'imq' or 'cubic', widths > 0"
        )
    n, m = len(x), len(y)
    if unbiased and min(n, m) < 2:
        raise ValueError(f"x and y have {n} and {m} points; expected at least 2 each")

    def k(a: Tensor, b: Tensor) -> Tensor:
        if kernel == "cubic":
            return (a @ b.T / a.shape[1] + 1) ** 3
        r2 = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)
        if kernel == "rbf":
            return sum(torch.exp(-r2 / (2 * w**2)) for w in widths)
        return sum(w**2 / (w**2 + r2) for w in widths)

    if (
        kernel != "cubic"
    ):  # a common shift changes no distance, and large squares would cancel badly
        middle = x.detach().mean(0)
        x, y = x - middle, y - middle
    k_xx, k_yy, k_xy = k(x, x), k(y, y), k(x, y)
    if not unbiased:
        return k_xx.mean() + k_yy.mean() - 2 * k_xy.mean()
    within_x = (k_xx.sum() - k_xx.diagonal().sum()) / (n * (n - 1))
    within_y = (k_yy.sum() - k_yy.diagonal().sum()) / (m * (m - 1))
    return within_x + within_y - 2 * k_xy.mean()


# --------------------------------------------------------------------------------- judging generated samples


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
    check_data(mean_1, "mean_1", n_dims=1)
    d = len(mean_1)
    check_data(mean_2, "mean_2", n_dims=1)
    roots = []
    for name, cov in (("cov_1", cov_1), ("cov_2", cov_2)):
        check_data(cov, name)
        if cov.shape != (d, d) or len(mean_2) != d:
            raise ValueError(
                f"means and {name} have shapes {(d,)}, {tuple(mean_2.shape)} and {tuple(cov.shape)}; "
                f"expected ({d},), ({d},) and ({d}, {d})"
            )
        cov = cov.double()
        variances, U = torch.linalg.eigh((cov + cov.T) / 2)
        tolerance = 1e-4 * variances.abs().max()
        if (cov - cov.T).abs().max() > tolerance or variances[0] < -tolerance:
            raise ValueError(f"{name} is no covariance: not symmetric, or a negative eigenvalue")
        roots.append(U * variances.clamp(min=0).sqrt() @ U.T)
    shift = (mean_1.double() - mean_2.double()).square().sum()
    overlap = torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    spread = sum(root.square().sum() for root in roots)  # tr Σ is the squared norm of its root
    return (shift + spread - 2 * overlap).clamp(min=0).item()


def frechet_inception_distance(real: Tensor, fake: Tensor) -> float:
    r"""FID: the squared Fréchet distance of two samples' features, each sample taken as a Gaussian.

    Features come from a layer of a classifier: the published numbers use 2048 of the Inception network,
    this book a small network trained on digits. Numbers of different networks cannot be compared.
    The estimate is too large by O(1/n): compare samples of the same size only.

    Arguments:
        real, fake: features, shapes (n, d) and (m, d), at least two rows each.

    References:
        Heusel et al. (2017), GANs trained by a two time-scale update rule converge to a local Nash equilibrium.
    """
    real, fake = _pair(real, fake)
    cov_1, cov_2 = (torch.atleast_2d(x.T.cov()) for x in (real, fake))
    return frechet_distance(real.mean(0), cov_1, fake.mean(0), cov_2)


def kernel_inception_distance(real: Tensor, fake: Tensor) -> float:
    r"""KID: the unbiased squared MMD of features with the kernel :math:`(x^\top y / d + 1)^3`.

    0 on average where both come from one distribution, for samples of any size; negative at times.

    Arguments:
        real, fake: features, shapes (n, d) and (m, d), at least two rows each.

    References:
        Bińkowski, Sutherland, Arbel & Gretton (2018), Demystifying MMD GANs.
    """
    return squared_mmd(*_pair(real, fake), kernel="cubic").item()


def inception_score(probabilities: Tensor) -> float:
    r"""How sure a classifier is of each sample, and how evenly it uses its classes.

    .. math:: \exp \mathbb E_x\, \mathrm{KL}\bigl(p(y \mid x) \,\Vert\, p(y)\bigr), \qquad
        p(y) = \mathbb E_x\, p(y \mid x)

    Arguments:
        probabilities: :math:`p(y \mid x)`, one row a sample, shape (n, classes).

    Returns:
        a number from 1 to the number of classes.

    Raises:
        ValueError: if a number is negative or a row does not sum to 1.

    References:
        Salimans et al. (2016), Improved techniques for training GANs.
    """
    check_data(probabilities, "probabilities", low=0.0)
    p = probabilities.double()
    if (p.sum(1) - 1).abs().max() > 1e-4:
        raise ValueError(
            f"rows of probabilities sum to {p.sum(1).min():.4g} … {p.sum(1).max():.4g}; expected 1"
        )
    marginal = p.mean(0)
    kl = (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)
    return kl.mean().exp().item()


def precision_recall(real: Tensor, fake: Tensor, *, k: int = 3) -> tuple[float, float]:
    r"""Precision: the share of generated samples that lie among the real ones; recall: the converse.

    A sample spans the union of balls around its points, each as wide as the distance to the point's ``k``-th
    neighbour in the same sample. Precision is the share of ``fake`` inside the balls of ``real``, recall
    the share of ``real`` inside the balls of ``fake``.

    Arguments:
        real, fake: features, shapes (n, d) and (m, d); best of the same size.
        k: neighbours, 1 … min(n, m) − 1.

    Returns:
        (precision, recall), each in [0, 1].

    References:
        Kynkäänniemi et al. (2019), Improved precision and recall metric for assessing generative models.
    """
    real, fake = _pair(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(f"k is {k}; expected 1 … {min(len(real), len(fake)) - 1}")

    def inside(points: Tensor, centres: Tensor) -> float:
        radius = torch.cat(
            [torch.cdist(c, centres).kthvalue(k + 1).values for c in centres.split(1000)]
        )  # the nearest is the point itself
        hits = [(torch.cdist(p, centres) <= radius).any(1) for p in points.split(1000)]
        return torch.cat(hits).double().mean().item()

    return inside(fake, real), inside(real, fake)


class Estimate(NamedTuple):
    r"""A measured value with its confidence.

    Attributes:
        value: on all samples.
        low, high: the interval.
        bias: by how much the value is too large for being measured on so few samples, to first order.
    """

    value: float
    low: float
    high: float
    bias: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {(self.high - self.low) / 2:.1g}"


def jackknife(
    measure: Callable[..., float | tuple[float, ...]],
    *samples: Tensor,
    n_groups: int = 20,
    level: float = 0.95,
) -> Estimate | tuple[Estimate, ...]:
    r"""A confidence interval for any measure of samples, by leaving out one group of rows at a time.

    With :math:`\theta_j` measured without group j of g, and their mean :math:`\bar\theta`,

    .. math:: \mathrm{se}^2 = \frac{g - 1}{g} \sum_j (\theta_j - \bar\theta)^2, \qquad
        \text{bias} \approx (g - 1)(\bar\theta - \theta).

    The bootstrap draws rows twice. Twins are no matter for a mean; they make neighbours' balls empty and
    covariances narrow, so that precision, recall, FID and KID of a resample are those of another kind of sample.

    Arguments:
        measure: called with the samples; returns a number, or several.
        samples: tensors whose rows are independent of each other and in random order, ≥ ``n_groups`` each.
        n_groups: g, ≥ 2.
        level: of the interval, in (0, 1).

    Returns:
        an :class:`Estimate`, or one for each number that ``measure`` returns.

    References:
        Efron & Stein (1981), The jackknife estimate of variance.
    """
    if n_groups < 2 or not 0 < level < 1 or not samples:
        raise ValueError(
            f"n_groups, level are {n_groups}, {level} with {len(samples)} samples; expected ≥ 2, in (0, 1), ≥ 1"
        )
    if min(len(x) for x in samples) < n_groups:
        raise ValueError(
            f"samples have {[len(x) for x in samples]} rows; expected ≥ {n_groups} each"
        )
    groups = [torch.arange(len(x), device=x.device) % n_groups for x in samples]
    value = torch.tensor(measure(*samples), dtype=torch.float64)
    left_out = torch.tensor(
        [
            measure(*[x[group != j] for x, group in zip(samples, groups, strict=True)])
            for j in range(n_groups)
        ],
        dtype=torch.float64,
    )
    se = ((n_groups - 1) * left_out.var(0, correction=0)).sqrt()
    half = students_t.ppf(0.5 + level / 2, n_groups - 1).item() * se
    bias = (n_groups - 1) * (left_out.mean(0) - value)
    columns = torch.stack([value, value - half, value + half, bias], -1).tolist()
    return Estimate(*columns) if value.ndim == 0 else tuple(Estimate(*row) for row in columns)


def _pair(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    check_data(real, "real")
    check_data(fake, "fake", width=real.shape[1])
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"real and fake have {len(real)} and {len(fake)} rows; expected ≥ 2 each")
    return real.double(), fake.double()
