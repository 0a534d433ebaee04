r"""Chapter 10: a Gaussian whose precision matrix has zeros in given places, by four methods.

.. math:: \log p(x) = -\tfrac12 (x - \mu)^\top \Lambda (x - \mu) - \log Z, \qquad \Lambda_{ij} = 0
    \text{ where the mask is}

A zero in Λ says that two variables are independent given all others: the mask is a graph.
"""

import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check, moments
from lectool.latent import nce_objective
from lectool.random import noise

__all__ = [
    "ConstrainedGaussian",
    "band_mask",
    "fit_precision_ml",
    "fit_precision_score_matching",
    "grid_mask",
]

METHODS = ("ml", "score matching", "nce", "conditional nce")


def band_mask(d: int, width: int) -> Tensor:
    r"""Variables in a row, each tied to those at most ``width`` places away: booleans, shape (d, d).

    Arguments:
        d: ≥ 1.
        width: ≥ 0; 0 for the diagonal alone.
    """
    check.at_least(1, d=d)
    check.at_least(0, width=width)
    i = torch.arange(d)
    return (i[:, None] - i).abs() <= width


def grid_mask(height: int, width: int, radius: float) -> Tensor:
    r"""Pixels of an image, each tied to those at most ``radius`` pixels away: booleans, (d, d), d = height · width.

    Arguments:
        height, width: ≥ 1.
        radius: ≥ 0, in pixels; 1 for four neighbors, 1.5 for eight.
    """
    check.at_least(1, height=height, width=width)
    check.at_least(0, radius=radius)
    place = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    place = place.reshape(-1, 2)
    return torch.cdist(place, place) <= radius + 1e-9


# ------------------------------------------------------------------------------------------------ maximum likelihood


def fit_precision_ml(C: Tensor, mask: Tensor, *, n_sweeps: int = 100, tol: float = 1e-8) -> Tensor:
    r"""The most likely Λ with the given zeros.

    It maximises :math:`\log \det \Lambda - \operatorname{tr} \Lambda C`. At the maximum the model's covariance
    :math:`W = \Lambda^{-1}` agrees with C wherever Λ may differ from 0. Variable j's column of W is predicted from its
    neighbors, which are regressed on by their present covariance, in turns:

    .. math:: W_{NN}\, \beta = C_{Nj}, \qquad W_{\cdot j} \leftarrow W_{\cdot N}\, \beta,
        \qquad \Lambda_{jj} = \frac{1}{C_{jj} - C_{jN}\, \beta}, \qquad \Lambda_{Nj} = -\beta\, \Lambda_{jj}

    Arguments:
        C: covariance of the data, positive definite, shape (d, d).
        mask: symmetric booleans with a true diagonal, shape (d, d).
        n_sweeps: turns at most, ≥ 1.
        tol: a turn that changes W by less than this share of its largest entry is the last, > 0.

    Returns:
        shape (d, d), symmetric and positive definite.

    References:
        Hastie, Tibshirani & Friedman (2009), The elements of statistical learning, algorithm 17.1; Dempster (1972).
    """
    check.at_least(1, n_sweeps=n_sweeps)
    check.positive(tol=tol)
    check_mask(mask, len(C))
    neighbors = [
        (row & (torch.arange(len(C), device=row.device) != j)).nonzero()[:, 0]
        for j, row in enumerate(mask)
    ]
    W = C.clone()
    for _ in range(n_sweeps):
        before = W.clone()
        for j, N in enumerate(neighbors):
            beta = torch.linalg.solve(W[N][:, N], C[N, j])
            column = W[:, N] @ beta
            column[j] = C[j, j]
            W[:, j] = W[j] = column
        if (W - before).abs().max() <= tol * W.abs().max():
            break
    Lambda = torch.zeros_like(C)
    for j, N in enumerate(neighbors):
        beta = torch.linalg.solve(W[N][:, N], C[N, j])
        Lambda[j, j] = 1 / (C[j, j] - C[j, N] @ beta)
        Lambda[N, j] = -beta * Lambda[j, j]
    return (Lambda + Lambda.T) / 2


# ------------------------------------------------------------------------------------------------ score matching


def fit_precision_score_matching(
    C: Tensor, mask: Tensor, *, n_steps: int = 10_000, tol: float = 1e-10
) -> Tensor:
    r"""Λ with the given zeros by score matching: a linear system, which is solved by conjugate gradients.

    The score is :math:`\psi(x) = -\Lambda (x - \mu)` with the derivative −Λ, so that

    .. math:: J(\Lambda) = \tfrac12 E \lVert \psi \rVert^2 + \operatorname{tr} \nabla \psi
        = \tfrac12 \operatorname{tr} \Lambda C \Lambda - \operatorname{tr} \Lambda, \qquad
        \tfrac12 (\Lambda C + C \Lambda)_{ij} = I_{ij} \text{ wherever } \Lambda_{ij} \text{ is free.}

    Without a mask this is :math:`\Lambda = C^{-1}`, as for maximum likelihood. With one, nothing makes Λ positive
    definite.

    Arguments:
        C: covariance of the data, positive definite, shape (d, d).
        mask: symmetric booleans with a true diagonal, shape (d, d).
        n_steps: at most, ≥ 1.
        tol: of the residual, relative to the right-hand side, > 0.

    Returns:
        shape (d, d), symmetric.

    References:
        Hyvärinen (2005); Forbes & Lauritzen (2015), Linear estimating equations for exponential families with
        application to Gaussian linear concentration models.
    """
    check.at_least(1, n_steps=n_steps)
    check.positive(tol=tol)
    check_mask(mask, len(C))
    scale = (C.diagonal()[:, None] + C.diagonal()) / 2  # the system's diagonal
    Lambda, residual = torch.zeros_like(C), torch.eye(len(C)).to(C)
    direction = residual / scale
    rho = (residual * direction).sum()
    for _ in range(n_steps):
        CP = C @ direction
        image = mask * (CP + CP.T) / 2
        alpha = rho / (direction * image).sum()
        Lambda, residual = Lambda + alpha * direction, residual - alpha * image
        if residual.norm() <= tol * math.sqrt(len(C)):
            break
        rho, last = (residual.square() / scale).sum(), rho
        direction = residual / scale + rho / last * direction
    return Lambda


# ------------------------------------------------------------------------------------------ telling data from noise


def quadratic(Lambda: Tensor, x: Tensor) -> Tensor:
    r""":math:`-\tfrac12 x^\top \Lambda x` of each row, shape (n,)."""
    return -0.5 * ((x @ Lambda) * x).sum(1)


def make_nce_loss(
    x: Tensor, nu: int, generator: torch.Generator | None
) -> Callable[[Tensor, Tensor], Tensor]:
    r"""The NCE loss of Λ and log Z for centered data; the noise is the Gaussian with the covariance of x.

    It is :func:`lectool.latent.nce_objective`'s negative, a logistic regression, as
    :math:`\log \phi(x) - \log Z - \log p_n(x)` is linear in Λ and log Z.
    """
    L = torch.linalg.cholesky(x.T @ x / len(x))
    y = noise((nu * len(x), x.shape[1]), x, generator) @ L.T
    log_scale = L.diagonal().log().sum() + 0.5 * len(L) * math.log(2 * math.pi)
    P = torch.cholesky_inverse(L)
    of_noise = [quadratic(P, t) - log_scale for t in (x, y)]

    def loss(Lambda: Tensor, log_z: Tensor) -> Tensor:
        ratios = (quadratic(Lambda, t) - log_z - b for t, b in zip((x, y), of_noise))
        return -nce_objective(*ratios, nu)

    return loss


def make_conditional_nce_loss(
    x: Tensor, nu: int, generator: torch.Generator | None, sd: float
) -> Callable[[Tensor, Tensor], Tensor]:
    r"""The loss of conditional NCE, which tells x from ν neighbors x + sd · ε each; Z plays no part.

    :math:`2 E \log(1 + e^{-G})` with :math:`G = \log \phi(x) - \log \phi(y)`, linear in Λ.
    """
    y = x + sd * noise((nu, *x.shape), x, generator)

    def loss(Lambda: Tensor, log_z: Tensor) -> Tensor:
        of_y = quadratic(Lambda, y.flatten(0, 1)).reshape(nu, -1)
        return 2 * F.softplus(of_y - quadratic(Lambda, x)).mean() + 0 * log_z

    return loss


def descend(
    loss: Callable[[Tensor, Tensor], Tensor], mask: Tensor, like: Tensor, n_steps: int
) -> tuple[Tensor, Tensor]:
    r"""The symmetric Λ with the given zeros, and log Z, that make a convex loss small, by L-BFGS from the identity."""
    d = len(mask)
    rows, columns = torch.triu(mask).nonzero(as_tuple=True)
    theta = (rows == columns).to(like).requires_grad_()
    log_z = torch.tensor(0.5 * d * math.log(2 * math.pi)).to(like).requires_grad_()

    def precision() -> Tensor:
        half = torch.zeros(d, d).to(like).index_put((rows, columns), theta)
        return half + half.T - half.diagonal().diag()

    def closure() -> Tensor:
        opt.zero_grad()
        value = loss(precision(), log_z)
        value.backward()
        return value

    settings = {"tolerance_grad": 1e-9, "tolerance_change": 1e-12}
    opt = torch.optim.LBFGS(
        [theta, log_z], max_iter=n_steps, line_search_fn="strong_wolfe", **settings
    )
    opt.step(closure)
    return precision().detach(), log_z.detach()


# ------------------------------------------------------------------------------------------------ the model


class ConstrainedGaussian:
    r"""A Gaussian whose precision matrix Λ has zeros wherever ``mask`` has.

    Features are scaled to unit variance before the fit and Λ is scaled back, which leaves the zeros in place. All
    arithmetic is in float64; what is returned has the data's type.

    Arguments:
        mask: where Λ may differ from 0: symmetric booleans with a true diagonal, shape (d, d).
        method: ``"ml"``, ``"score matching"``, ``"nce"`` (noise is the Gaussian with the full covariance) or
            ``"conditional nce"``.
        nu: noise samples for each datum, whole, ≥ 1.
        sd: noise of conditional NCE, in units of each feature's standard deviation, > 0.
        n_steps: of L-BFGS for the last two methods, at most, ≥ 1.
        least: smallest eigenvalue that the scaled Λ may have, > 0: where the fit has smaller ones, the same number is
            added to its whole diagonal.
        generator: of the noise.

    Attributes:
        mean_: shape (d,).
        precision_, covariance_: Λ and its inverse, shape (d, d).
        n_repaired_: number of eigenvalues of the fit that were below ``least``; 0 for a fit that needed no repair.
        log_z_: log Z of Λ in nats; a number.

    Warns:
        UserWarning: if Λ had to be repaired, with the number of eigenvalues and how far below they were.

    Raises:
        ValueError: if a setting is out of range; if the mask is no symmetric matrix of booleans with a true diagonal;
            for data of another width, with NaN, or without variance in some direction.

    Example:
        >>> x = torch.randn(1000, 5)
        >>> ConstrainedGaussian(band_mask(5, 1), method="score matching").fit(x).precision_.shape
        torch.Size([5, 5])
    """

    def __init__(
        self,
        mask: Tensor,
        *,
        method: str = "ml",
        nu: int = 1,
        sd: float = 1.0,
        n_steps: int = 200,
        least: float = 1e-3,
        generator: torch.Generator | None = None,
    ):
        check.one_of(METHODS, method=method)
        check.at_least(1, nu=nu, n_steps=n_steps)
        check.positive(sd=sd, least=least)
        check_mask(mask, len(mask))
        self.mask, self.method, self.nu, self.sd = mask, method, nu, sd
        self.n_steps, self.least, self.generator = n_steps, least, generator

    def fit(self, x: Tensor) -> "ConstrainedGaussian":
        r"""Estimates μ, the mean, and Λ from data, shape (n, d)."""
        check.data(x, width=len(self.mask))
        self.mean_, mask = x.mean(0), self.mask.to(moments.double(x[:1]).device)
        z = moments.double(x)
        z = z - z.mean(0)
        scale = z.square().mean(0).sqrt()
        if (scale == 0).any():
            raise ValueError(f"x is constant in {moments.features(scale == 0)}; expected variance")
        Lambda = self.repair(self.estimate(z / scale, mask)) / (scale[:, None] * scale)
        L = torch.linalg.cholesky(Lambda)
        self.log_z_ = (0.5 * len(L) * math.log(2 * math.pi) - L.diagonal().log().sum()).item()
        self.precision_, self.covariance_ = Lambda.to(x), torch.cholesky_inverse(L).to(x)
        return self

    def estimate(self, z: Tensor, mask: Tensor) -> Tensor:
        r"""Λ of scaled and centered data (n, d) in float64, as the method has it: not yet repaired."""
        C = z.T @ z / len(z)
        if torch.linalg.cholesky_ex(C)[1]:
            raise ValueError(
                f"the covariance of {len(z)} samples with {len(C)} features is singular; expected more samples"
            )
        if self.method == "ml":
            return fit_precision_ml(C, mask)
        if self.method == "score matching":
            return fit_precision_score_matching(C, mask)
        if self.method == "nce":
            loss = make_nce_loss(z, self.nu, self.generator)
        else:
            loss = make_conditional_nce_loss(z, self.nu, self.generator, self.sd)
        return descend(loss, mask, z, self.n_steps)[0]

    def repair(self, Lambda: Tensor) -> Tensor:
        r"""Λ with a larger diagonal where an eigenvalue is below ``least``; counts those and warns."""
        values = torch.linalg.eigvalsh(Lambda)
        self.n_repaired_ = int((values < self.least).sum())
        if not self.n_repaired_:
            return Lambda
        lift = self.least - values[0].item()
        warnings.warn(
            f"{self.n_repaired_} of {len(values)} eigenvalues of the precision are below {self.least:g}, the smallest "
            f"is {values[0].item():.3g}; {lift:.3g} was added to its diagonal",
            stacklevel=3,
        )
        return Lambda + lift * torch.eye(len(Lambda)).to(Lambda)

    def log_prob(self, x: Tensor) -> Tensor:
        r"""Log-density in nats, shape (n,)."""
        check.data(x, width=len(self.mask), like=self.mean_)
        return quadratic(self.precision_, x - self.mean_) - self.log_z_

    def score(self, x: Tensor) -> float:
        r"""Mean log-density of data, shape (n, d), in nats."""
        return self.log_prob(x).mean().item()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Draws, shape (n, d)."""
        check.at_least(1, n=n)
        L = torch.linalg.cholesky(self.precision_)
        epsilon = noise((len(L), n), self.mean_, generator)
        return self.mean_ + torch.linalg.solve_triangular(L.T, epsilon, upper=True).T

    def transform(self, x: Tensor) -> Tensor:
        r"""Whitens: :math:`\Lambda^{1/2} (x - \mu)` with the symmetric root, shape (n, d)."""
        check.data(x, width=len(self.mask), like=self.mean_)
        return (x - self.mean_) @ self._root(0.5)

    def inverse_transform(self, z: Tensor) -> Tensor:
        r"""Undoes :meth:`transform`, shape (n, d)."""
        check.data(z, "z", width=len(self.mask), like=self.mean_)
        return self.mean_ + z @ self._root(-0.5)

    def _root(self, power: float) -> Tensor:
        values, vectors = torch.linalg.eigh(self.precision_.double())
        return ((vectors * values**power) @ vectors.T).to(self.precision_)


def check_mask(mask: Tensor, d: int) -> None:
    r"""Raises a ValueError unless the mask is a symmetric matrix of booleans, shape (d, d), with a true diagonal."""
    check.shape(d, d, mask=mask)
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}; expected torch.bool")
    if not (torch.equal(mask, mask.T) and mask.diagonal().all()):
        raise ValueError("the mask is not symmetric with a true diagonal; expected both")
