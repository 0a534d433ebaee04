r"""Chapter 07: Bayesian curve fitting: a distribution over polynomials in place of one of them."""

import math

import torch
from torch import Tensor

from lectool import check, random

__all__ = ["BayesianCurve", "powers"]


class BayesianCurve:
    r"""Polynomial regression with a Gaussian prior on the weights and Gaussian noise, both of known width.

    .. math:: w \sim N(0, \alpha^{-1} I), \qquad t_n = \sum_{j=0}^M w_j x_n^j + \varepsilon_n, \quad
              \varepsilon_n \sim N(0, \sigma^2) .

    With the matrix Φ of powers, the posterior of w is N(m, S),

    .. math:: S^{-1} = \alpha I + \Phi^\top \Phi / \sigma^2, \qquad m = S\, \Phi^\top t / \sigma^2 .

    Arguments:
        degree: M, ≥ 0.
        alpha: α, the prior's precision (one over its variance), > 0.
        noise_variance: σ², in squared units of t, > 0.

    Attributes:
        mean_: m, shape (M + 1,).
        cov_: S, shape (M + 1, M + 1).

    Raises:
        ValueError: if a number is out of range.

    References:
        Bishop (2006), Pattern recognition and machine learning, sections 1.2.6 and 3.3.

    Example:
        >>> x = torch.linspace(0, 1, 10)
        >>> curve = BayesianCurve(3, alpha=5e-3, noise_variance=0.01).fit(x, (6 * x).sin())
        >>> mean, variance = curve.predict(torch.tensor([0.5]))
        >>> bool((mean - math.sin(3)).abs() < 0.1)
        True
    """

    def __init__(self, degree: int, *, alpha: float, noise_variance: float) -> None:
        check.at_least(0, degree=degree)
        check.positive(alpha=alpha, noise_variance=noise_variance)
        self.degree, self.alpha, self.noise_variance = degree, alpha, noise_variance

    def fit(self, x: Tensor, t: Tensor) -> "BayesianCurve":
        r"""The posterior of the weights given inputs x and targets t, both of shape (n,).

        Raises:
            ValueError: if they are no valid data, or differ in length or type.
        """
        check.data(x, n_dims=1)
        check.data(t, "t", n_dims=1, like=x)
        check.lengths(x=x, t=t)
        phi, t = powers(x.double(), self.degree), t.double()
        precision = (
            self.alpha * torch.eye(self.degree + 1).to(phi) + phi.T @ phi / self.noise_variance
        )
        root = torch.linalg.cholesky(precision)
        cov = torch.cholesky_inverse(root)
        mean = cov @ phi.T @ t / self.noise_variance
        self.mean_, self.cov_, self.precision_root_ = mean.to(x), cov.to(x), root.to(x)
        self.evidence_ = self._log_evidence(phi, t, mean, root)
        return self

    def _log_evidence(self, phi: Tensor, t: Tensor, mean: Tensor, root: Tensor) -> float:
        r"""log p(t | x, α, σ²) = log p(t | w) + log p(w) − log p(w | t) at w = m."""
        n, k = phi.shape
        errors = (t - phi @ mean).square().sum() / self.noise_variance
        fit = -0.5 * (errors + n * math.log(2 * math.pi * self.noise_variance))
        prior = -0.5 * (self.alpha * mean.square().sum() - k * math.log(self.alpha))
        return (fit + prior - root.diagonal().log().sum()).item()

    def score(self) -> float:
        r"""The evidence: log p(t | x, α, σ²) of the data of :meth:`fit` in nats, with w integrated out."""
        return self.evidence_

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and variance of a new target at each input, shape (n,):

        .. math:: p(\hat t \mid \hat x, x, t) = N\bigl( m^\top \varphi(\hat x),\;
                  \sigma^2 + \varphi(\hat x)^\top S\, \varphi(\hat x) \bigr) .

        Raises:
            ValueError: if x is no valid data, or of another type than the data of :meth:`fit`.
        """
        check.data(x, n_dims=1, like=self.mean_)
        phi = powers(x, self.degree)
        white = torch.linalg.solve_triangular(self.precision_root_, phi.T, upper=False)
        return phi @ self.mean_, self.noise_variance + white.square().sum(0)

    def sample(self, n: int = 1, *, generator: torch.Generator | None = None) -> Tensor:
        r"""Weights drawn from the posterior, shape (n, M + 1); each is a curve, ``powers(x, degree) @ w``."""
        check.at_least(1, n=n)
        noise = random.noise((n, self.degree + 1), self.mean_, generator)
        colored = torch.linalg.solve_triangular(self.precision_root_.T, noise.T, upper=True)
        return self.mean_ + colored.T


def powers(x: Tensor, degree: int) -> Tensor:
    r"""The matrix Φ of powers :math:`1, x, \dots, x^M` of inputs of shape (n,), shape (n, M + 1)."""
    return x[:, None] ** torch.arange(degree + 1).to(x)
