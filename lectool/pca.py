r"""Chapter 01: principal component analysis and the linear autoencoder."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from lectool import check

__all__ = [
    "PCA",
    "LinearAutoencoder",
    "Whitening",
    "allocate_bits",
    "alternating_least_squares",
    "quantize",
]


class PCA:
    r"""Principal component analysis: the k-dimensional subspace that loses least squared error.

    With the mean :math:`\mu` and the covariance :math:`C = \frac1n \sum_i (x_i - \mu)(x_i - \mu)^\top =
    U \Lambda U^\top`, the code is :math:`z = U_k^\top (x - \mu)` and the reconstruction :math:`\hat x =
    \mu + U_k z`.

    Arguments:
        n_components: k; all that the data can have, min(n, d), where ``None``.
        solver: ``"covariance"`` (eigenvectors of the d × d matrix C, best for n ≥ d), ``"svd"`` (of the
            centred data, best for n < d) or ``"auto"``, which chooses by that rule.

    Attributes:
        mean_: :math:`\mu`, shape (d,).
        components_: the rows are the columns of :math:`U_k`, shape (k, d); in each the entry of the
            largest magnitude is positive, which fixes the sign.
        explained_variance_: variance along each component with the divisor n − 1, as in scikit-learn,
            shape (k,), descending.
        explained_variance_ratio_: the same as shares of the total variance.
        discarded_variance_: sum of the other eigenvalues of C, with the divisor n: the squared error per
            sample that the reconstruction of the training data leaves.

    References:
        Pearson (1901), On lines and planes of closest fit; Hotelling (1933).

    Example:
        >>> z = PCA(n_components=2).fit_transform(torch.randn(100, 5))
    """

    def __init__(self, n_components: int | None = None, *, solver: str = "auto"):
        if solver not in ("auto", "covariance", "svd"):
            raise ValueError(f"solver is {solver!r}; it can be 'auto', 'covariance' or 'svd'")
        self.n_components = n_components
        self.solver = solver

    def fit(self, x: Tensor) -> "PCA":
        r"""Finds mean and components of x, shape (n, d).

        Raises:
            ValueError: if x is empty, not two-dimensional, holds a NaN, has one sample only, or
                ``n_components`` is not in 1 … min(n, d).
        """
        self.mean_ = checked_mean(x)
        n, d = x.shape
        k = min(n, d) if self.n_components is None else self.n_components
        if n < 2 or not 1 <= k <= min(n, d):
            raise ValueError(
                f"n_components is {k} for {n} samples of {d} numbers; expected 1 … {min(n, d)}, n ≥ 2"
            )
        solve = (
            principal_axes_svd
            if self.solver == "svd" or (self.solver == "auto" and n < d)
            else principal_axes
        )
        axes, variances = solve(x, self.mean_)
        self.components_ = _fix_signs(axes[:k])
        self.explained_variance_ = variances[:k] * n / (n - 1)
        self.explained_variance_ratio_ = variances[:k] / variances.sum().clamp(min=1e-30)
        self.discarded_variance_ = variances[k:].sum().item()
        return self

    def transform(self, x: Tensor) -> Tensor:
        r"""Codes z of x, shape (n, k)."""
        check.data(x, width=len(self.mean_))
        return (x - self.mean_) @ self.components_.T

    def fit_transform(self, x: Tensor) -> Tensor:
        r"""``fit(x)`` and then ``transform(x)``."""
        return self.fit(x).transform(x)

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""Points of the subspace with codes z, shape (n, d)."""
        check.data(z, "z", width=len(self.components_))
        return self.mean_ + z @ self.components_

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""The orthogonal projection of x onto the subspace, shape (n, d)."""
        return self.inverse_transform(self.transform(x))


def checked_mean(x: Tensor, block: int = 128) -> Tensor:
    r"""The mean of data, shape (d,), which first pass :func:`lectool.check.data`.

    On the CPU both are had in one pass, since no mean with a NaN or an infinity in it is finite. It is NumPy's, like
    the products below, and goes by blocks of rows, which keeps single precision's rounding small.
    """
    is_plain = isinstance(x, Tensor) and x.dtype in (torch.float32, torch.float64)
    if is_plain and x.device.type == "cpu" and x.ndim == 2 and x.numel() > 0:
        array, n = x.detach().numpy(), len(x) // block * block
        with np.errstate(invalid="ignore", over="ignore"):  # check_data has better words for it
            total = array[:n].reshape(-1, block, x.shape[1]).sum(1).sum(0, dtype=float)
            total += array[n:].sum(0, dtype=float)
        if np.isfinite(total).all():
            return torch.from_numpy(total / len(x)).to(x)
    return check.data(x).mean(0)


def principal_axes(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    r"""Eigenvectors of the covariance as rows, and its eigenvalues (divisor n), both descending."""
    variances, vectors = np.linalg.eigh(covariance(x, mean).numpy())
    axes, variances = vectors.T[::-1].copy(), variances[::-1].clip(min=0)
    return torch.from_numpy(axes).to(x), torch.from_numpy(variances).to(x)


def covariance(x: Tensor, mean: Tensor) -> Tensor:
    r"""Covariance :math:`\frac1n \sum_i (x_i - \mu)(x_i - \mu)^\top` in float64 on the CPU, shape (d, d).

    The shortest way is :math:`\frac1n X^\top X - \mu \mu^\top`, which needs no centred copy of the data, but
    subtracts two large numbers where the mean is large beside the spread: there the data are centred.
    """
    n, centre = len(x), mean.cpu().numpy().astype(float)
    some = x.detach()[:: max(1, n // 256)].cpu().numpy().astype(float)
    spread = np.median(np.square(some - centre).sum(1))
    if (
        centre @ centre > 16 * spread
    ):  # single precision: up to here the smallest eigenvalues keep three digits
        x = x.detach() - mean
        centre = x.mean(0).cpu().numpy().astype(float)  # what rounding has left of the mean
    C = _gram(x) / n - np.outer(centre, centre)
    return torch.from_numpy(C)


def _gram(x: Tensor) -> np.ndarray:
    r""":math:`X^\top X` in float64."""
    if x.device.type == "cpu":
        # NumPy sees one matrix in both factors and does half of the work (BLAS syrk); torch does not. What
        # goes before and follows is NumPy's too: threads wait a while for more work, and torch's would get in the way.
        array = x.detach().numpy()
        return (array.T @ array).astype(float)
    return (x.T @ x).detach().cpu().numpy().astype(float)


def principal_axes_svd(x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    r"""The same from :math:`X - \mu = Q S U^\top`: right singular vectors and :math:`s_j^2 / n`."""
    _, s, vt = torch.linalg.svd(x - mean, full_matrices=False)
    return vt, s**2 / len(x)


def _fix_signs(axes: Tensor) -> Tensor:
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return axes * torch.where(largest < 0, -1.0, 1.0).to(axes)


class Whitening:
    r"""A linear map after which all directions have variance 1 and none are correlated.

    PCA whitening is :math:`\Lambda^{-1/2} U^\top (x - \mu)`; ZCA rotates back,
    :math:`U \Lambda^{-1/2} U^\top (x - \mu)`, and is of all whitened versions the one nearest to x.

    Arguments:
        method: ``"pca"`` or ``"zca"``.
        eps: added to each eigenvalue; more than 0 where some are 0 or nearly so.

    References:
        Bell & Sejnowski (1997); Kessy, Lewin & Strimmer (2018).
    """

    def __init__(self, method: str = "zca", *, eps: float = 1e-2):
        if method not in ("pca", "zca"):
            raise ValueError(f"method is {method!r}; it can be 'pca' or 'zca'")
        if eps < 0:
            raise ValueError(f"eps is {eps}; expected ≥ 0")
        self.method, self.eps = method, eps

    def fit(self, x: Tensor) -> "Whitening":
        r"""Finds mean and map of x, shape (n, d).

        Raises:
            ValueError: if x is no valid data or, with ``eps=0``, its covariance is singular.
        """
        self.mean_ = checked_mean(x)
        axes, variances = principal_axes(x, self.mean_)
        variances = variances + self.eps
        if variances.min() <= 1e-10 * variances.max():
            raise ValueError(
                "the covariance is singular: some direction has no variance; expected eps > 0"
            )
        back = axes.T if self.method == "zca" else torch.eye(len(axes)).to(x)
        self.whitener_ = back @ (axes / variances.sqrt()[:, None])
        self.colorer_ = (axes.T * variances.sqrt()) @ back.T
        return self

    def transform(self, x: Tensor) -> Tensor:
        r"""Whitened data, shape (n, d)."""
        check.data(x, width=len(self.mean_))
        return (x - self.mean_) @ self.whitener_.T

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""The data that z is the whitened version of."""
        return self.mean_ + z @ self.colorer_.T


class LinearAutoencoder(nn.Module):
    r"""An autoencoder without any nonlinearity: :math:`z = V x + b,\ \hat x = U z + c`.

    Arguments:
        d: numbers in a sample.
        k: numbers in a code.
        tied: whether decoder and encoder share one matrix, :math:`U = V^\top`.
        bias: whether b and c are there; without them the data must have mean 0.

    References:
        Bourlard & Kamp (1988); Baldi & Hornik (1989).
    """

    def __init__(self, d: int, k: int, *, tied: bool = False, bias: bool = False):
        super().__init__()
        if not 1 <= k or not 1 <= d:
            raise ValueError(f"d and k are {d} and {k}; expected at least 1")
        self.V = nn.Parameter(torch.randn(k, d) / d**0.5)
        self.U = None if tied else nn.Parameter(torch.randn(d, k) / d**0.5)
        self.b = nn.Parameter(torch.zeros(k)) if bias else None
        self.c = nn.Parameter(torch.zeros(d)) if bias else None

    def encode(self, x: Tensor) -> Tensor:
        z = x @ self.V.T
        return z if self.b is None else z + self.b

    def decode(self, z: Tensor) -> Tensor:
        x_hat = z @ (self.V if self.U is None else self.U.T)
        return x_hat if self.c is None else x_hat + self.c

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    def loss(self, x: Tensor) -> Tensor:
        r"""Squared error, summed over the numbers of a sample, mean over the batch."""
        return (self.reconstruct(x) - x).square().sum(1).mean()


def alternating_least_squares(
    x: Tensor, k: int, *, n_steps: int = 50, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    r"""Best codes for a decoder, best decoder for the codes, and again: no encoder at all.

    Each sample has k free numbers that need not be a function of it; a decoder maps them linearly. For
    a fixed decoder U the best codes are :math:`Z = X U (U^\top U)^{-1}`, linear in x all the same.

    Arguments:
        x: centred data, shape (n, d).
        k: numbers in a code.
        n_steps: rounds.
        generator: of the decoder's random start.

    Returns:
        z: codes, shape (n, k).
        U: decoder, shape (d, k).

    Raises:
        ValueError: if x is no valid data or k is not in 1 … min(n, d).
    """
    check.data(x)
    if not 1 <= k <= min(x.shape):
        raise ValueError(
            f"k is {k} for data of shape {tuple(x.shape)}; expected 1 … {min(x.shape)}"
        )
    U = torch.randn(x.shape[1], k, generator=generator).to(x)
    for _ in range(n_steps):
        z = x @ torch.linalg.pinv(U).T
        U = x.T @ torch.linalg.pinv(z).T
    return x @ torch.linalg.pinv(U).T, U


MAX_BITS = 10


@lru_cache
def quantizer_table() -> tuple[Tensor, Tensor]:
    r"""The best uniform quantiser of a standard Gaussian at 0 … 10 bits, found on a grid of steps.

    Returns:
        steps: width of its cells, shape (11,).
        errors: the mean squared error that it leaves, shape (11,); 1 at 0 bits.

    References:
        Max (1960), Quantizing for minimum distortion, table II.
    """
    z = torch.linspace(-8, 8, 12001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / (torch.exp(-(z**2) / 2)).sum()
    steps, errors = [1.0], [1.0]
    for bits in range(1, MAX_BITS + 1):
        width = (
            torch.linspace(0.4, 0.9, 101, dtype=torch.float64)[:, None]
            * 2
            * (1.6 + bits**0.9)
            / 2**bits
        )
        error = ((round_to_cells(z, width, bits) - z) ** 2 @ density).min(0)
        steps.append(width[error.indices].item())
        errors.append(error.values.item())
    return torch.tensor(steps, dtype=torch.float64), torch.tensor(errors, dtype=torch.float64)


def round_to_cells(z: Tensor, width: Tensor, bits: Tensor | int) -> Tensor:
    r"""The middle of the cell that z falls into, of :math:`2^b` cells of this width around 0."""
    half = torch.as_tensor(2.0).to(z) ** (bits - 1)
    return ((z / width).floor().clamp(-half, half - 1) + 0.5) * width


def quantize(z: Tensor, bits: Tensor, sd: Tensor) -> Tensor:
    r"""Rounds each code to :math:`2^b` levels, spaced as is best for a Gaussian of its spread.

    Arguments:
        z: codes of mean 0, shape (n, k).
        bits: b of each component, shape (k,), integers in 0 … 10; a component of 0 bits becomes 0.
        sd: standard deviation of each component, shape (k,).

    Raises:
        ValueError: if a number of bits is out of range.
    """
    if bits.min() < 0 or bits.max() > MAX_BITS:
        raise ValueError(f"bits lie in {bits.min()} … {bits.max()}; expected 0 … {MAX_BITS}")
    steps, _ = quantizer_table()
    rounded = round_to_cells(z, steps.to(z)[bits] * sd, bits)
    return torch.where(bits > 0, rounded, torch.zeros_like(z))


def allocate_bits(variances: Tensor, total: int) -> Tensor:
    r"""Spends ``total`` bits one by one, each where it lowers the error most.

    Component j at b bits leaves the error :math:`\lambda_j e_b`, with :math:`e_b` from
    :func:`quantizer_table`. Each bit buys less than the one before it, so that the greedy choice is the best
    one: reverse water-filling in integers.

    Arguments:
        variances: :math:`\lambda_j`, shape (k,), positive.
        total: bits for one sample, at most 10 k.

    Returns:
        bits of each component, shape (k,), int64, summing to ``total``.

    Raises:
        ValueError: if a variance is not positive or ``total`` is out of range.

    References:
        Cover & Thomas, Elements of Information Theory, section 10.3.
    """
    k = len(variances)
    if variances.min() <= 0 or not 0 <= total <= MAX_BITS * k:
        raise ValueError(
            f"smallest variance is {variances.min():.3g}, total is {total}; expected > 0 and 0 … {MAX_BITS * k}"
        )
    _, errors = quantizer_table()
    gains = variances.cpu().double()[:, None] * (errors[:-1] - errors[1:])  # of each next bit
    best = (
        gains.flatten().topk(total).indices
    )  # gains fall along a row: no bit is bought before the one below it
    return torch.bincount(best // MAX_BITS, minlength=k).to(variances.device)
