r"""Mean, covariance and principal axes of data at any scale, and what counts as variance: the numerics said once.

Closed-form models rest on sums of squares, which lose what is small beside something large: a year (2000 ± 0.5) next
to an income (60,000 ± 30,000). Four rules keep it, here and for every model that builds on them:

1. Data are always centered before they are multiplied, block by block, without a centered copy of them all.
2. Sums are float64. Products are, too, up to :data:`PRECISE` multiplications; single precision is faster above.
3. Eigenvectors are sought with the columns in the order of their variance, which keeps small columns beside large ones.
4. A direction counts as one of no variance where it has less than the rounding errors of the columns that it is made
   of, each in its own scale (:func:`rank`).
"""

import numpy as np
import torch
from torch import Tensor

from lectool import check

__all__ = [
    "LinearModel",
    "constant_columns",
    "covariance",
    "double",
    "eigen",
    "features",
    "mean",
    "principal_axes",
    "rank",
]

# Multiplications up to which products of float32 data are float64: a small part of a second on any processor.
PRECISE = 2**31

# A direction varies if its standard deviation exceeds so many rounding errors of its numbers.
ROUNDINGS = 16


class LinearModel:
    r"""What the closed-form models share: a mean, and directions as rows.

    Attributes:
        mean_: :math:`\mu`, shape (d,).
        components_: :math:`W`, shape (k, d).
    """

    mean_: Tensor
    components_: Tensor

    def transform(self, x: Tensor) -> Tensor:
        r"""Codes :math:`z = W (x - \mu)` of x, shape (n, k)."""
        check.data(x, width=len(self.mean_), like=self.mean_)
        return (x - self.mean_) @ self.components_.T

    def fit_transform(self, x: Tensor) -> Tensor:
        r"""``fit(x)`` and then ``transform(x)``."""
        return self.fit(x).transform(x)

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""The points :math:`\mu + W^\top z` with codes z, shape (n, d)."""
        check.data(z, "z", width=len(self.components_), like=self.mean_)
        return self.mean_ + z @ self.components_


def mean(x: Tensor, block: int = 128) -> Tensor:
    r"""The mean of data, shape (d,), which first pass :func:`lectool.check.data`.

    On the CPU both are had in one pass, since no mean with a NaN or an infinity in it is finite. It is NumPy's, like
    the products below, and goes by blocks of rows, which keeps single precision's rounding small.
    """
    is_plain = isinstance(x, Tensor) and x.dtype in (torch.float32, torch.float64)
    if is_plain and x.device.type == "cpu" and x.ndim == 2 and x.numel() > 0:
        array, n = x.detach().numpy(), len(x) // block * block
        # check.data has better words for an infinity than NumPy's warning.
        with np.errstate(invalid="ignore", over="ignore"):
            total = array[:n].reshape(-1, block, x.shape[1]).sum(1).sum(0, dtype=float)
            total += array[n:].sum(0, dtype=float)
        if np.isfinite(total).all():
            return torch.from_numpy(total / len(x)).to(x)
    check.data(x)
    # Dividing first keeps the sum of huge numbers finite.
    return (double(x) / len(x)).sum(0).to(x)


def principal_axes(x: Tensor, mean: Tensor, solver: str = "auto") -> tuple[Tensor, Tensor]:
    r"""Eigenvectors of the covariance as rows, and its eigenvalues (divisor n), both descending.

    Arguments:
        x: data, shape (n, d).
        mean: their mean, shape (d,).
        solver: ``"covariance"``, ``"svd"`` of the centered data, or ``"auto"``: the SVD where n < d.

    Returns:
        axes: float64 on the CPU, shape (d, d), or (min(n, d), d) by the SVD.
        variances: one for each of them, float64.

    Raises:
        ValueError: if the variances are too large or too small for the type of x.
    """
    n, d = x.shape
    if solver == "svd" or (solver == "auto" and n < d):
        # X − μ = Q S Uᵀ, λ = s² / n
        s, axes = right_singular_vectors(double(x) - double(mean))
        variances = s**2 / n
    else:
        # C = U Λ Uᵀ
        axes, variances = eigen(covariance(x, mean))
    _representable(variances.max(), x)
    return axes, variances


def covariance(x: Tensor, mean: Tensor, block: int = 4096) -> Tensor:
    r"""Covariance :math:`\frac1n \sum_i (x_i - \mu)(x_i - \mu)^\top` in float64 on the CPU, shape (d, d)."""
    n, d = x.shape
    dtype, device = (torch.float64, "cpu") if _is_precise(x) else (x.dtype, x.device)
    C, rest, mean = np.zeros((d, d)), np.zeros(d), mean.detach().to(device, dtype)
    # One place for all blocks: new pages for each would take a third of the time.
    place = torch.empty(min(block, n), d, dtype=dtype, device=device)
    for rows in x.detach().split(block):
        gram, total = _sums(rows.to(device), mean, place[: len(rows)])
        C, rest = C + gram, rest + total
    # What rounding has left of the mean.
    rest = rest / n
    return torch.from_numpy(C / n - np.outer(rest, rest))


def _sums(rows: Tensor, mean: Tensor, X: Tensor) -> tuple[np.ndarray, np.ndarray]:
    r""":math:`X^\top X` and the column sums of centered rows, which are put into X."""
    if X.device.type != "cpu":
        torch.sub(rows, mean, out=X)
        return (X.T @ X).cpu().numpy(), X.sum(0).cpu().numpy()
    # NumPy sees one matrix in both factors and does half of the work (BLAS syrk); torch does not.
    X = np.subtract(rows.numpy(), mean.numpy(), out=X.numpy())
    return X.T @ X, np.ones(len(X), X.dtype) @ X


def eigen(C: Tensor) -> tuple[Tensor, Tensor]:
    r"""Eigenvectors of a covariance as rows and its eigenvalues, both descending, in float64 on the CPU.

    With its large entries first, LAPACK finds the small eigenvalues of a matrix of mixed scales to nearly all digits;
    in another order it finds none of them.
    """
    C = C.detach().cpu().double().numpy()
    order = np.argsort(-C.diagonal())
    variances, vectors = np.linalg.eigh(C[order][:, order])
    axes = np.empty_like(vectors)
    axes[:, order] = vectors.T[::-1]
    return torch.from_numpy(axes), torch.from_numpy(variances[::-1].clip(min=0))


def right_singular_vectors(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Singular values and right singular vectors (as rows), descending, in float64 on the CPU."""
    order = x.square().sum(0).argsort(descending=True)
    _, s, sorted_axes = torch.linalg.svd(x[:, order], full_matrices=False)
    axes = torch.empty_like(sorted_axes)
    axes[:, order] = sorted_axes
    return s.cpu(), axes.cpu()


def rank(x: Tensor, mean: Tensor, axes: Tensor, variances: Tensor) -> int:
    r"""The number of directions in which data vary by more than rounding errors.

    A number in column j is known to :math:`\epsilon\,(|\mu_j| + \sigma_j)`, with the :math:`\epsilon` of its type, and
    the covariance to a small share of :math:`\sigma_j^2`. Along an axis u these errors add up with the weights
    :math:`u_j^2`, so that a column in large units cannot hide one in small units.

    Arguments:
        x, mean: the data and their mean.
        axes, variances: of :func:`principal_axes`.
    """
    # In NumPy, like the products above: two libraries' threads in turns would cost as much as all the rest.
    squares, variances, mean = axes.numpy() ** 2, variances.numpy(), double(mean).cpu().numpy()
    spread = variances @ squares
    numbers = ROUNDINGS**2 * torch.finfo(x.dtype).eps ** 2 * (mean**2 + spread)
    products = 8 * (x.shape[1] * np.finfo(float).eps if _is_precise(x) else 1e-7) * spread
    return int((variances > squares @ (numbers + products)).sum())


def constant_columns(x: Tensor) -> Tensor:
    r"""Which columns hold one number only, bool, shape (d,)."""
    return (x == x[0]).all(0)


def features(where: Tensor, most: int = 5) -> str:
    r"""The places where a bool tensor is True, in words: ``"features 0, 6"``; empty where there is none."""
    found = where.nonzero()[:, 0].tolist()
    text = ", ".join(str(j) for j in found[:most]) + (" …" if len(found) > most else "")
    return f"feature {text}" if len(found) == 1 else f"features {text}" if found else ""


def double(x: Tensor) -> Tensor:
    r"""x in float64, on its own device or, where that one has no float64, on the CPU."""
    return x.detach().cpu().double() if x.device.type == "mps" else x.detach().double()


def _is_precise(x: Tensor) -> bool:
    return x.dtype == torch.float64 or len(x) * x.shape[1] ** 2 <= PRECISE


def _representable(variance: Tensor, x: Tensor) -> None:
    info = torch.finfo(x.dtype)
    if not info.tiny <= variance <= info.max and not constant_columns(x).all():
        raise ValueError(
            f"x has values up to {x.abs().max():.1e}, the square of whose spread {x.dtype} cannot hold; "
            "expected other units" + (", or float64" if x.dtype == torch.float32 else "")
        )
