r"""Chapter 05: automatic relevance determination: sparsity from a prior whose width is learned, one a coefficient."""

import math

import torch
from torch import Tensor

from lectool import check
from lectool.sparse.inference import fitting

__all__ = ["RelevanceDetermination"]


class RelevanceDetermination:
    r"""Sparse Bayesian learning: :math:`x = D z + \varepsilon` with :math:`z_j \sim N(0, \gamma_j)` and each γ learned.

    The evidence :math:`p(x) = N(x;\, 0, \sigma^2 I + D \Gamma D^\top)`, in which z is integrated out, is largest where
    most γ are 0; a coefficient that is kept is hardly shrunk. EM takes turns: the posterior :math:`N(m, S)` of z, then
    :math:`\gamma_j \leftarrow m_j^2 + S_{jj}`.

    Arguments:
        noise_variance: σ², if it is known; learned where ``None``.
        max_iter: EM steps, ≥ 1.
        tol: EM ends when a step raises the evidence by less (in nats), ≥ 0.
        min_variance: a coefficient whose γ falls below this share of the largest one is taken out for good.

    Attributes:
        coef_: posterior mean m of z, shape (k,); 0 where taken out.
        coef_variance_: diagonal of the posterior covariance S, shape (k,).
        gamma_: prior variances γ, shape (k,).
        noise_variance_: σ².
        evidence_: log p(x) in nats before each step, a list.

    References:
        Tipping (2001), Sparse Bayesian learning and the relevance vector machine; MacKay (1992), Bayesian
        interpolation.
    """

    def __init__(
        self,
        *,
        noise_variance: float | None = None,
        max_iter: int = 2000,
        tol: float = 1e-4,
        min_variance: float = 1e-8,
    ):
        check.at_least(1, max_iter=max_iter)
        check.non_negative(tol=tol)
        check.inside("(0, 1)", min_variance=min_variance)
        if noise_variance is not None:
            check.positive(noise_variance=noise_variance)
        self.noise_variance, self.max_iter, self.tol = noise_variance, max_iter, tol
        self.min_variance = min_variance

    def fit(self, D: Tensor, x: Tensor) -> "RelevanceDetermination":
        r"""Explains a signal x, shape (d,), by the columns of D, shape (d, k).

        Raises:
            ValueError: if D or x is no valid data, they do not fit, a column of D or all of x is zero.
        """
        check.data(x, n_dims=1)
        fitting(x[None], D)
        if not x.any():
            raise ValueError("x is zero everywhere; expected a signal")
        kind, x, D = x, x.double(), D.double()
        sigma2 = self.noise_variance or 0.1 * x.var().item()
        gamma = x.square().mean() / D.square().sum(1).mean() * x.new_ones(D.shape[1])
        self.evidence_ = []
        for _ in range(self.max_iter):
            m, S, log_p = posterior(x, D, gamma, sigma2)
            self.evidence_.append(log_p)
            if len(self.evidence_) > 1 and log_p - self.evidence_[-2] < self.tol:
                break
            if self.noise_variance is None:
                sigma2 = expected_error(x, D, m, S, gamma, sigma2) / len(x)
            gamma = without_small(m.square() + S, self.min_variance)
        self.coef_, self.coef_variance_, self.gamma_ = (t.to(kind) for t in (m, S, gamma))
        self.noise_variance_ = sigma2
        return self


def posterior(
    x: Tensor, D: Tensor, gamma: Tensor, noise_variance: float
) -> tuple[Tensor, Tensor, float]:
    r"""Mean and variances of z given x, both of shape (k,), and the evidence log p(x) in nats.

    Everything comes from one factorization of the covariance :math:`C = \sigma^2 I + D \Gamma D^\top` of x:
    :math:`m = \Gamma D^\top C^{-1} x` and :math:`S_{jj} = \gamma_j - \gamma_j^2\, D_j^\top C^{-1} D_j`.
    """
    C = noise_variance * torch.eye(len(x)).to(x) + (D * gamma) @ D.T
    root = torch.linalg.cholesky(C)
    white_x = torch.linalg.solve_triangular(root, x[:, None], upper=False)[:, 0]
    white_D = torch.linalg.solve_triangular(root, D, upper=False)
    m = gamma * (white_x @ white_D)
    S = gamma - gamma.square() * white_D.square().sum(0)
    log_p = -0.5 * (white_x.square().sum() + len(x) * math.log(2 * math.pi))
    return m, S.clamp(min=0), (log_p - root.diagonal().log().sum()).item()


def expected_error(
    x: Tensor, D: Tensor, m: Tensor, S: Tensor, gamma: Tensor, noise_variance: float
) -> float:
    r"""E‖x − Dz‖² under the posterior: the error of its mean, and a trace that its variances give."""
    certain = (1 - S / gamma.clamp(min=1e-300)).where(gamma > 0, 0).sum()
    return ((x - D @ m).square().sum() + noise_variance * certain).item()


def without_small(gamma: Tensor, share: float) -> Tensor:
    r"""γ with zeros where it is below this share of its largest entry: EM never brings these back."""
    return gamma.where(gamma > share * gamma.max(), 0)
