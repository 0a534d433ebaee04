r"""Measures of reconstruction, of subspaces, of codes and of the distance between samples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lectool.train import check_data

__all__ = [
    "nearest",
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
