r"""Chapter 04, independent components: measures of non-Gaussianity and FastICA."""

import warnings

import torch
from torch import Tensor

from lectool import check
from lectool.em import warn_not_converged
from lectool.moments import LinearModel, double, features, mean, principal_axes, rank
from lectool.random import noise


def kurtosis(y: Tensor) -> Tensor:
    r"""Excess kurtosis of each column, :math:`E[\tilde y^4] - 3` of the standardized variable.

    For centered y of variance 1 it is the fourth cumulant, :math:`E[y^4] - 3 E[y^2]^2`. A Gaussian
    has 0, a uniform variable −1.2, a Laplacian 3.

    Arguments:
        y: shape (n, k).

    Raises:
        ValueError: if y does not pass :func:`lectool.check.data`, or a column is constant.
    """
    return (standardized(y) ** 4).mean(0) - 3


def negentropy(y: Tensor) -> Tensor:
    r"""How much less entropy each column has than a Gaussian of its variance, approximately, in nats.

    With the standardized variable, the maximum-entropy approximation

    .. math:: J \approx k_1 E[y\, e^{-y^2/2}]^2 + k_2 \bigl(E[e^{-y^2/2}] - \sqrt{1/2}\bigr)^2

    with :math:`k_1 = 36 / (8\sqrt3 - 9)` and :math:`k_2 = 24 / (16\sqrt3 - 27)`. The averages are of
    bounded functions, so that outliers matter less than in the kurtosis.

    Arguments:
        y: shape (n, k).

    Raises:
        ValueError: as :func:`kurtosis`.

    References:
        Hyvärinen (1998), New approximations of differential entropy.
    """
    y = standardized(y)
    bell = torch.exp(-(y**2) / 2)
    odd, even = (y * bell).mean(0), bell.mean(0) - 0.5**0.5
    return 36 / (8 * 3**0.5 - 9) * odd**2 + 24 / (16 * 3**0.5 - 27) * even**2


def standardized(y: Tensor) -> Tensor:
    r"""Columns of mean 0 and variance 1.

    Raises:
        ValueError: if y does not pass :func:`lectool.check.data`, or a column is constant.
    """
    check.data(y, "y")
    centered = double(y) - double(y).mean(0)
    sd = centered.square().mean(0).sqrt()
    if constant := features((y == y[0]).all(0)):
        raise ValueError(f"constant: {constant}; expected some variance")
    return (centered / sd).to(y)


# g = G' and g' for each contrast G.
CONTRASTS = {
    # tanh, by a sigmoid, which is a few times faster.
    "logcosh": lambda y: (g := 2 * torch.sigmoid(2 * y) - 1, 1 - g * g),
    "exp": lambda y: (y * (e := torch.exp(-(y**2) / 2)), (1 - y**2) * e),
    "cube": lambda y: (y**3, 3 * y**2),
}


class FastICA(LinearModel):
    r"""Independent components by fixed-point iterations on whitened data.

    For whitened x, each row w of the unmixing matrix is driven to where :math:`E[G(w^\top x)]` is
    extreme under :math:`\lVert w \rVert = 1`, by approximate Newton steps

    .. math:: w \leftarrow E[x\, g(w^\top x)] - E[g'(w^\top x)]\, w, \qquad g = G' ,

    for all rows at once with symmetric decorrelation, :math:`W \leftarrow (W W^\top)^{-1/2} W`, or one row
    after the other, orthogonal to those before.

    Arguments:
        n_components: number of sources; all dimensions where ``None``.
        algorithm: ``"parallel"`` (symmetric) or ``"deflation"``.
        fun: ``"logcosh"``, ``"exp"`` or ``"cube"`` (that is, kurtosis).
        max_iter: iterations at most (with deflation, for each row).
        tol: stops where no row turns: 1 − \|cos\| between two iterations.
        w_init: start, shape (k, k); Gaussian where ``None``.
        generator: of that start.

    Attributes:
        mean_: shape (d,).
        whitening_: shape (k, d).
        components_: the unmixing matrix W, :math:`z = W (x - \mu)`, shape (k, d); sources have variance 1.
        mixing_: its pseudo-inverse A, shape (d, k).
        n_iter_: iterations done; with deflation, the most that a row took.

    References:
        Hyvärinen (1999), Fast and robust fixed-point algorithms for independent component analysis.
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        algorithm: str = "parallel",
        fun: str = "logcosh",
        max_iter: int = 200,
        tol: float = 1e-4,
        w_init: Tensor | None = None,
        generator: torch.Generator | None = None,
    ):
        check.one_of(("parallel", "deflation"), algorithm=algorithm)
        check.one_of(CONTRASTS, fun=fun)
        check.at_least(1, max_iter=max_iter)
        check.non_negative(tol=tol)
        self.n_components, self.algorithm, self.fun = n_components, algorithm, fun
        self.max_iter, self.tol, self.w_init, self.generator = max_iter, tol, w_init, generator

    def fit(self, x: Tensor) -> "FastICA":
        r"""Finds the sources of x, shape (n, d).

        Warns where the iterations do not converge, and where two or more of the sources found look
        Gaussian: such sources are determined only up to a rotation among themselves.

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`,
                ``n_components`` is not in 1 … min(n − 1, d), or x varies in fewer
                directions.
        """
        self.mean_ = mean(x)
        n, d = x.shape
        k = min(n - 1, d) if self.n_components is None else self.n_components
        if not 1 <= k <= min(n - 1, d):
            raise ValueError(
                f"n_components is {k} for {n} samples of {d} numbers; expected 1 … {min(n - 1, d)}"
            )
        axes, variances = principal_axes(x, self.mean_)
        if (found := rank(x, self.mean_, axes, variances)) < k:
            raise ValueError(
                f"x varies in {found} directions, n_components is {k}; expected at most {found}"
            )
        self.whitening_ = (axes[:k] / variances[:k, None].sqrt()).to(x)
        white = (x - self.mean_) @ self.whitening_.T
        start = noise((k, k), x, self.generator) if self.w_init is None else self.w_init.to(x)
        check.shape(k, k, w_init=start)
        W = (
            self.symmetric(white, start)
            if self.algorithm == "parallel"
            else self.deflation(white, start)
        )
        self.components_ = W @ self.whitening_
        self.mixing_ = torch.linalg.pinv(double(self.components_).cpu()).to(x)
        warn_gaussian(white[:: -(-n // 20_000)] @ W.T)
        return self

    def symmetric(self, x: Tensor, W: Tensor) -> Tensor:
        r"""All rows of W at once, each step followed by symmetric decorrelation; x is white."""
        W = symmetric_decorrelation(W)
        for step in range(1, self.max_iter + 1):
            new = symmetric_decorrelation(newton_step(x, W, self.fun))
            change = (1 - (new * W).sum(1).abs()).abs().max().item()
            W, self.n_iter_ = new, step
            if change < self.tol:
                return W
        warn_not_converged("FastICA", self.max_iter, change, self.tol)
        return W

    def deflation(self, x: Tensor, start: Tensor) -> Tensor:
        r"""One row of W after the other, each kept orthogonal to those before it; x is white."""
        W, self.n_iter_ = start[:0], 0
        for w in start:
            w = w - W.T @ (W @ w)
            w = w / w.norm()
            for step in range(1, self.max_iter + 1):
                new = newton_step(x, w[None], self.fun)[0]
                new = new - W.T @ (W @ new)
                new = new / new.norm()
                change = (1 - (new @ w).abs()).abs().item()
                w, self.n_iter_ = new, max(self.n_iter_, step)
                if change < self.tol:
                    break
            else:
                warn_not_converged("FastICA", self.max_iter, change, self.tol)
            W = torch.cat([W, w[None]])
        return W

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""The mixtures :math:`x = A z + \mu` of sources z, shape (n, d)."""
        check.data(z, "z", width=self.mixing_.shape[1], like=self.mixing_)
        return self.mean_ + z @ self.mixing_.T


def newton_step(x: Tensor, W: Tensor, fun: str, *, chunk: int = 4096) -> Tensor:
    r"""One fixed-point step for each row of W, on slices of x that fit into the processor's cache."""
    moved, slope = torch.zeros_like(W), torch.zeros_like(W[:, 0])
    for rows in x.split(chunk):
        g, dg = CONTRASTS[fun](rows @ W.T)
        moved.addmm_(g.T, rows)
        slope += dg.sum(0)
    return (moved - slope[:, None] * W) / len(x)


def symmetric_decorrelation(W: Tensor) -> Tensor:
    r"""The orthogonal matrix nearest to W, :math:`(W W^\top)^{-1/2} W`."""
    u, _, vt = torch.linalg.svd(W.double().cpu())
    return (u @ vt).to(W)


def amari_distance(unmixing: Tensor, mixing: Tensor) -> float:
    r"""How far an unmixing matrix is from the inverse of the mixing, up to scale, sign and order.

    With :math:`P = |W A|`,

    .. math:: \frac{1}{2k(k-1)} \Bigl[ \sum_i \Bigl( \frac{\sum_j P_{ij}}{\max_j P_{ij}} - 1 \Bigr)
              + \sum_j \Bigl( \frac{\sum_i P_{ij}}{\max_i P_{ij}} - 1 \Bigr) \Bigr] \in [0, 1] .

    Arguments:
        unmixing: W, shape (k, d).
        mixing: the true A, shape (d, k), k ≥ 2.

    Raises:
        ValueError: if the shapes do not fit.

    References:
        Amari, Cichocki & Yang (1996), A new learning algorithm for blind signal separation.
    """
    k = len(unmixing)
    if unmixing.ndim != 2 or k < 2 or mixing.shape != unmixing.T.shape:
        raise ValueError(
            f"shapes are {tuple(unmixing.shape)} and {tuple(mixing.shape)}; expected (k, d), (d, k), k ≥ 2"
        )
    P = (unmixing.double() @ mixing.double()).abs()
    rows, columns = (P.sum(axis) / P.amax(axis) - 1 for axis in (1, 0))
    return ((rows.sum() + columns.sum()) / (2 * k * (k - 1))).item()


def warn_gaussian(z: Tensor) -> None:
    r"""Warns where two or more of the sources look Gaussian."""
    n, k = z.shape
    # Under a Gaussian the sample kurtosis has the standard deviation √(24/n); a maximum over directions is larger.
    plain = (kurtosis(z).abs() < (3 + k**0.5) * (24 / n) ** 0.5) & (
        negentropy(z) < (3 + k**0.5) ** 2 * 0.6 / n
    )
    if k > 1 and plain.sum() > 1:
        warnings.warn(
            f"FastICA: {int(plain.sum())} of {k} sources cannot be told from Gaussian ones with {n} samples; "
            "they are determined only up to a rotation among themselves",
            stacklevel=3,
        )
