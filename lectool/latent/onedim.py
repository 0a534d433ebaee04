r"""Chapter 08: one latent variable, bent by a function, plus noise: small enough that a grid gives every integral."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lectool import check
from lectool.em import climb
from lectool.moments import double
from lectool.random import noise

__all__ = ["LatentCurve", "NonlinearLatentModel", "entropy", "free_energy", "kl"]

Function = Callable[[Tensor], Tensor]


def entropy(q: Tensor) -> Tensor:
    r""":math:`H(q) = -\sum_z q(z) \log q(z)` in nats, of probabilities along the last axis, shape (…)."""
    return -torch.special.xlogy(q, q).sum(-1)


def kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    r""":math:`\mathrm{KL}(q \Vert p) = \sum_z q(z) (\log q(z) - \log p(z))` in nats, shape (…).

    Arguments:
        log_q, log_p: log-probabilities along the last axis, shape (…, g). As logarithms, since p(z) may be a number too
            small to be told from 0 where q(z) still is one.
    """
    q = log_q.exp()
    return torch.where(q > 0, q * (log_q - log_p), 0.0).sum(-1)


def free_energy(log_joint: Tensor, q: Tensor) -> Tensor:
    r""":math:`F(q, \theta) = E_q \log p(x, z) + H(q) = \log p(x) - \mathrm{KL}(q \Vert p(z \mid x))`, in nats.

    Arguments:
        log_joint: :math:`\log p(x, z)` for each value of z along the last axis, shape (…, g).
        q: probabilities of these values, shape (…, g).

    Returns:
        shape (…).
    """
    # A value that q never takes counts nothing, even where log p(x, z) = −∞.
    expected = torch.where(q > 0, q * log_joint, 0.0).sum(-1)
    return expected + entropy(q)


class NonlinearLatentModel:
    r"""The model :math:`z \sim N(0, 1)`, :math:`x = f(z) + \sigma \epsilon`, whose posterior a grid over z gives.

    Integrals over z are sums over evenly spaced values with the prior's density as weights, whose error is far below
    rounding as long as the spacing is well below that of the posterior's narrowest peak.

    Arguments:
        f: maps z of any shape (…) to x, shape (…, d).
        noise_variance: σ² > 0.
        limit: the grid reaches from −limit to limit, > 0.
        n_grid: number of values, ≥ 3.
        like: a tensor whose type and device the grid takes; float64 on the CPU where ``None``.
    """

    def __init__(
        self,
        f: Function,
        noise_variance: float,
        *,
        limit: float = 6.0,
        n_grid: int = 601,
        like: Tensor | None = None,
    ):
        check.positive(noise_variance=noise_variance, limit=limit)
        check.at_least(3, n_grid=n_grid)
        self.f, self.noise_variance = f, noise_variance
        like = torch.empty(0, dtype=torch.float64) if like is None else like
        self.grid = torch.linspace(-limit, limit, n_grid, dtype=like.dtype, device=like.device)
        self.log_weights = (-0.5 * self.grid**2).log_softmax(0)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`\log p(x \mid z)` in nats for x (n, d) and z (n, m) or (m,), shape (n, m)."""
        squares = (x[:, None] - self.f(z)).square().sum(-1)
        log_scale = 0.5 * x.shape[1] * math.log(2 * math.pi * self.noise_variance)
        return -0.5 * squares / self.noise_variance - log_scale

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        r"""The log-density :math:`\log p(x, z)` in nats for x (n, d) and z (n, m) or (m,), shape (n, m)."""
        return self.log_likelihood(x, z) - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)

    def grid_joint(self, x: Tensor) -> Tensor:
        r""":math:`\log p(x, z)` with the grid's values of z, each with its share of the prior, shape (n, n_grid)."""
        check.data(x)
        return self.log_likelihood(x, self.grid) + self.log_weights

    def log_prob(self, x: Tensor) -> Tensor:
        r"""The evidence :math:`\log p(x)` in nats, shape (n,)."""
        return self.grid_joint(x).logsumexp(1)

    def log_posterior(self, x: Tensor) -> Tensor:
        r"""Log-probabilities of the grid's values given x, shape (n, n_grid)."""
        return self.grid_joint(x).log_softmax(1)

    def posterior(self, x: Tensor) -> Tensor:
        r"""Probabilities of the grid's values given x, shape (n, n_grid); divided by the spacing, a density."""
        return self.grid_joint(x).softmax(1)

    def modes(self, x: Tensor) -> Tensor:
        r"""The number of peaks of each posterior, int64, shape (n,)."""
        joint = torch.nn.functional.pad(self.log_joint(x, self.grid), (1, 1), value=-torch.inf)
        inner = joint[:, 1:-1]
        return ((inner > joint[:, :-2]) & (inner >= joint[:, 2:])).sum(1)

    def log_gaussian(self, mean: Tensor, sd: Tensor) -> Tensor:
        r"""Gaussians N(m, s²) as log-probabilities of the grid's values, for m and s of shape (n,): (n, n_grid)."""
        return (-0.5 * ((self.grid - mean[:, None]) / sd[:, None]) ** 2).log_softmax(1)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        r"""Data, shape (n, d), and the z behind them, shape (n,)."""
        check.at_least(1, n=n)
        z = noise(n, self.grid, generator)
        x = self.f(z)
        return x + math.sqrt(self.noise_variance) * noise(x.shape, x, generator), z


class LatentCurve(NonlinearLatentModel):
    r"""The same model with an f that is learned by EM: a sum of bumps along z.

    .. math:: f(z) = \theta_0 + \theta_1 z + \sum_j \theta_j e^{-(z - c_j)^2 / 2 w^2}

    The E-step is exact, by the grid. Given its probabilities q, the M-step is least squares: each grid value should
    lead to the mean of the data that it answers for. A small penalty, which is a Gaussian prior of θ, keeps f
    calm where hardly any data lie.

    Arguments:
        n_basis: number of bumps, at even distances from −3 to 3, ≥ 2.
        ridge: precision of the prior of θ, > 0.
        start: f before the first iteration, a function of z (…) to x (…, d); the line through the data's mean with the
            data's spread where ``None``.
        noise_variance: σ² before the first iteration; a quarter of the data's variance where ``None``.
        min_noise: least σ², as a share of the data's variance, > 0.
        tol: smallest gain in the objective, in nats a sample, that is worth another iteration.
        max_iter: ≥ 1.
        limit, n_grid: as in :class:`NonlinearLatentModel`.

    Attributes:
        coef_: θ, shape (n_basis + 2, d).
        noise_variance_: σ².
        loglike_: mean log-likelihood, plus the log-density of θ (without its constant) divided by n, in nats, at the
            start and after each iteration, a list.
        path_: θ and σ² at the start and after each iteration, a list.
        n_iter_: number of iterations.
    """

    def __init__(
        self,
        n_basis: int = 12,
        *,
        ridge: float = 1e-2,
        start: Function | None = None,
        noise_variance: float | None = None,
        min_noise: float = 1e-4,
        tol: float = 1e-5,
        max_iter: int = 200,
        limit: float = 6.0,
        n_grid: int = 401,
    ):
        check.at_least(2, n_basis=n_basis)
        check.at_least(1, max_iter=max_iter)
        check.non_negative(tol=tol)
        check.positive(ridge=ridge, min_noise=min_noise)
        first = 1.0 if noise_variance is None else noise_variance
        super().__init__(self.curve, first, limit=limit, n_grid=n_grid)
        self.n_basis, self.ridge, self.start = n_basis, ridge, start
        self.start_variance, self.min_noise = noise_variance, min_noise
        self.tol, self.max_iter = tol, max_iter

    def basis(self, z: Tensor) -> Tensor:
        r"""The functions of z whose weighted sum is f, shape (…, n_basis + 2)."""
        centers = torch.linspace(-3, 3, self.n_basis, dtype=z.dtype, device=z.device)
        width = 6 / (self.n_basis - 1)
        bumps = torch.exp(-0.5 * ((z[..., None] - centers) / width) ** 2)
        return torch.cat([torch.ones_like(z)[..., None], z[..., None], bumps], -1)

    def curve(self, z: Tensor) -> Tensor:
        r"""f(z) with the fitted θ, shape (…, d)."""
        return self.basis(z) @ self.coef_.to(z)

    def fit(self, x: Tensor) -> "LatentCurve":
        r"""Finds θ and σ² for x, shape (n, d).

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data` or has no variance.
        """
        check.data(x)
        X, self.path_ = double(x), []
        variance = X.var(0, correction=0).mean().item()
        if variance == 0:
            raise ValueError("all samples are the same; expected some variance")
        self.floor = self.min_noise * variance

        def e_step(coef: Tensor, sigma2: Tensor) -> tuple[float, tuple]:
            self.at(coef, sigma2)
            self.path_.append((coef, sigma2.item()))
            joint = self.grid_joint(X)
            prior = -0.5 * self.ridge * coef.square().sum().item() / len(X)
            return joint.logsumexp(1).mean().item() + prior, (joint.softmax(1), sigma2)

        def m_step(q: Tensor, sigma2: Tensor) -> tuple[Tensor, Tensor]:
            return self.maximize(X, q, sigma2)

        steps = {"max_iter": self.max_iter, "tol": self.tol, "name": type(self).__name__}
        found, _, self.loglike_ = climb(e_step, m_step, self._start(X, variance), **steps)
        self.at(*found)
        self.n_iter_ = len(self.loglike_) - 1
        return self

    def at(self, coef: Tensor, sigma2: Tensor | float) -> "LatentCurve":
        r"""Sets θ and σ², for instance to an earlier step: ``model.at(*model.path_[2])``; returns the model."""
        self.coef_, self.noise_variance_ = coef, float(sigma2)
        self.noise_variance = self.noise_variance_
        return self

    def maximize(self, x: Tensor, q: Tensor, sigma2: Tensor) -> tuple[Tensor, Tensor]:
        r"""M-step: θ by weighted least squares over the grid, then σ² as the mean squared error that is left.

        Arguments:
            x: shape (n, d).
            q: probabilities of the grid's values for each sample, shape (n, n_grid).
            sigma2: the present σ², which weighs the penalty.
        """
        B, weight = self.basis(self.grid), q.sum(0)
        eye = torch.eye(B.shape[1]).to(B)
        gram = (B.T * weight) @ B + self.ridge * sigma2 * eye
        coef = torch.linalg.solve(gram, B.T @ (q.T @ x))
        squares = (x[:, None] - B @ coef).square().mean(-1)
        return coef, (q * squares).sum(1).mean().clamp(min=self.floor)

    def _start(self, x: Tensor, variance: float) -> tuple[Tensor, Tensor]:
        B, z = self.basis(self.grid), self.grid
        f = x.mean(0) + z[:, None] * x.std(0, correction=0) if self.start is None else self.start(z)
        check.shape(len(z), x.shape[1], start=f)
        near = torch.exp(-0.25 * z**2)[:, None]  # it matters where the prior expects z
        eye = torch.eye(B.shape[1]).to(B)
        coef = torch.linalg.solve((B * near).T @ B + 1e-6 * eye, (B * near).T @ f.to(B))
        sigma2 = variance / 4 if self.start_variance is None else self.start_variance
        return coef, torch.tensor(sigma2).to(x)
