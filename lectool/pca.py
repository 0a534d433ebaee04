r"""Chapter 01: principal component analysis and the linear autoencoder."""

from functools import lru_cache

import torch
from torch import Tensor, nn

from lectool import check
from lectool.moments import LinearModel, mean, principal_axes, rank
from lectool.random import noise

__all__ = [
    "PCA",
    "LinearAutoencoder",
    "Whitening",
    "allocate_bits",
    "alternating_least_squares",
    "quantize",
]


class PCA(LinearModel):
    r"""Principal component analysis: the k-dimensional subspace that loses least squared error.

    With the mean :math:`\mu` and the covariance :math:`C = \frac1n \sum_i (x_i - \mu)(x_i - \mu)^\top =
    U \Lambda U^\top`, the code is :math:`z = U_k^\top (x - \mu)` and the reconstruction :math:`\hat x =
    \mu + U_k z`.

    Arguments:
        n_components: k; all that the data can have, min(n, d), where ``None``.
        solver: ``"covariance"`` (eigenvectors of the d × d matrix C, best for n ≥ d), ``"svd"`` (of the
            centered data, best for n < d) or ``"auto"``, which chooses by that rule.

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
        check.one_of(("auto", "covariance", "svd"), solver=solver)
        self.n_components, self.solver = n_components, solver

    def fit(self, x: Tensor) -> "PCA":
        r"""Finds mean and components of x, shape (n, d).

        Raises:
            ValueError: if x is empty, not two-dimensional, holds a NaN, has one sample only, or
                ``n_components`` is not in 1 … min(n, d).
        """
        self.mean_ = mean(x)
        n, d = x.shape
        k = min(n, d) if self.n_components is None else self.n_components
        if n < 2 or not 1 <= k <= min(n, d):
            raise ValueError(
                f"n_components is {k} for {n} samples of {d} numbers; expected 1 … {min(n, d)}, n ≥ 2"
            )
        axes, variances = principal_axes(x, self.mean_, self.solver)
        self.components_ = fix_signs(axes[:k]).to(x)
        self.explained_variance_ = (variances[:k] * n / (n - 1)).to(x)
        self.explained_variance_ratio_ = (variances[:k] / variances.sum().clamp(min=1e-300)).to(x)
        self.discarded_variance_ = variances[k:].sum().item()
        return self

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""The orthogonal projection of x onto the subspace, shape (n, d)."""
        return self.inverse_transform(self.transform(x))


def fix_signs(axes: Tensor) -> Tensor:
    r"""Rows turned so that in each the entry of the largest magnitude is positive."""
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
        check.one_of(("pca", "zca"), method=method)
        check.non_negative(eps=eps)
        self.method, self.eps = method, eps

    def fit(self, x: Tensor) -> "Whitening":
        r"""Finds mean and map of x, shape (n, d).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data` or, with ``eps=0``, its covariance is singular.
        """
        self.mean_ = mean(x)
        axes, variances = principal_axes(x, self.mean_, "covariance")
        if self.eps == 0 and rank(x, self.mean_, axes, variances) < x.shape[1]:
            raise ValueError(
                "the covariance is singular: some direction has no variance; expected eps > 0"
            )
        sd = (variances + self.eps).sqrt()
        back = axes.T if self.method == "zca" else torch.eye(len(axes)).to(axes)
        self.whitener_, self.colorer_ = (
            (back @ (axes / sd[:, None])).to(x),
            ((axes.T * sd) @ back.T).to(x),
        )
        return self

    def transform(self, x: Tensor) -> Tensor:
        r"""Whitened data, shape (n, d)."""
        check.data(x, width=len(self.mean_), like=self.mean_)
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
        check.at_least(1, d=d, k=k)
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
        x: centered data, shape (n, d).
        k: numbers in a code.
        n_steps: rounds.
        generator: of the decoder's random start.

    Returns:
        z: codes, shape (n, k).
        U: decoder, shape (d, k).

    Raises:
        ValueError: if x does not pass :func:`lectool.check.data`, or k is not in 1 … min(n, d).
    """
    check.data(x)
    if not 1 <= k <= min(x.shape):
        raise ValueError(
            f"k is {k} for data of shape {tuple(x.shape)}; expected 1 … {min(x.shape)}"
        )
    check.at_least(0, n_steps=n_steps)
    U = noise((x.shape[1], k), x, generator)
    for _ in range(n_steps):
        z = x @ torch.linalg.pinv(U).T
        U = x.T @ torch.linalg.pinv(z).T
    return x @ torch.linalg.pinv(U).T, U


MAX_BITS = 10


@lru_cache
def quantizer_table() -> tuple[Tensor, Tensor]:
    r"""The best uniform quantizer of a standard Gaussian at 0 … 10 bits, found on a grid of steps.

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
        shares = torch.linspace(0.4, 0.9, 101, dtype=torch.float64)[:, None]
        width = shares * 2 * (1.6 + bits**0.9) / 2**bits
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
    # What each next bit would save.
    gains = variances.cpu().double()[:, None] * (errors[:-1] - errors[1:])
    # Gains fall along a row, so that no bit is bought before the one below it.
    best = gains.flatten().topk(total).indices
    return torch.bincount(best // MAX_BITS, minlength=k).to(variances.device)
