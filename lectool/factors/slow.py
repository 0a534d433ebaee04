r"""Chapter 04, slow features: slow feature analysis and the slowness penalty."""

import torch
from torch import Tensor

from lectool import check
from lectool.moments import double, principal_axes, rank


class SlowFeatureAnalysis:
    r"""The functions of the input that change least from one time step to the next.

    Among :math:`y_j = w_j^\top (h(x) - \mu)` with mean 0, variance 1 and no correlation with each other,
    those with the smallest :math:`\Delta_j = E[(y_j(t+1) - y_j(t))^2]`, slowest first. h is the identity or all
    monomials of degree 1 and 2. Two eigenproblems solve it: whiten h(x), then take the directions in which the
    differences vary least.

    Arguments:
        n_components: k; all that the data can have where ``None``.
        degree: of the polynomials, 1 or 2.
        tol: directions with less than this share of the largest variance are left out.

    Attributes:
        mean_: of h(x).
        components_: :math:`w_j` as rows.
        slowness_: :math:`\Delta_j`, ascending, shape (k,): 2 for white noise, at most 4n / (n − 1).

    References:
        Wiskott & Sejnowski (2002), Slow feature analysis: unsupervised learning of invariances.
    """

    def __init__(self, n_components: int | None = None, *, degree: int = 1, tol: float = 1e-9):
        check.one_of((1, 2), degree=degree)
        check.non_negative(tol=tol)
        self.n_components, self.degree, self.tol = n_components, degree, tol

    def fit(self, x: Tensor) -> "SlowFeatureAnalysis":
        r"""Finds the slow features of x, shape (n, d), whose rows are in the order of time.

        Raises:
            ValueError: if x does not pass :func:`lectool.check.data`,
                has fewer than three samples, or has fewer directions of
                variance than ``n_components``.
        """
        check.data(x)
        if len(x) < 3:
            raise ValueError(f"x has {len(x)} samples; expected at least 3")
        h = double(self.expand(x))
        self.mean_ = h.mean(0)
        axes, variances = principal_axes(h, self.mean_, "covariance")
        varying = rank(self.expand(x), self.mean_, axes, variances)
        kept = min(varying, int((variances > self.tol * variances[0]).sum()))
        k = kept if self.n_components is None else self.n_components
        if not 1 <= k <= kept:
            raise ValueError(
                f"n_components is {k}; expected 1 … {kept}, the directions in which the data vary"
            )
        h = h - self.mean_
        whitener = (axes[:kept].T / variances[:kept].sqrt()).to(h)
        steps = (h[1:] - h[:-1]) @ whitener
        slowness, turn = torch.linalg.eigh((steps.T @ steps / len(steps)).cpu())
        self.components_ = (whitener @ turn[:, :k].to(h)).T.to(x)
        self.slowness_, self.mean_ = slowness[:k].to(x), self.mean_.to(x)
        return self

    def transform(self, x: Tensor) -> Tensor:
        r"""Slow features of x, shape (n, k)."""
        check.data(x, like=self.mean_)
        h = self.expand(x)
        if h.shape[1] != len(self.mean_):
            raise ValueError(
                f"x has shape {tuple(x.shape)}; not as many numbers in a sample as in fit"
            )
        return (h - self.mean_) @ self.components_.T

    def fit_transform(self, x: Tensor) -> Tensor:
        r"""``fit(x)`` and then ``transform(x)``."""
        return self.fit(x).transform(x)

    def expand(self, x: Tensor) -> Tensor:
        r"""h(x): x itself, or all monomials of degree 1 and 2."""
        return quadratic_expansion(x) if self.degree == 2 else x


def quadratic_expansion(x: Tensor) -> Tensor:
    r"""All monomials of degree 1 and 2 of d numbers, shape (n, d + d(d + 1)/2)."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1]).to(x.device)
    return torch.cat([x, x[:, i] * x[:, j]], 1)


def slowness(z: Tensor, z_next: Tensor) -> Tensor:
    r"""The slowness penalty: the mean squared step of each feature in units of its variance, summed.

    .. math:: \sum_j \frac{E[(z_j(t+1) - z_j(t))^2]}{\operatorname{var} z_j}

    Without the division a network could do justice to it by shrinking its features.

    Arguments:
        z, z_next: features at times t and t + 1, shape (n, k).
    """
    both = torch.cat([z, z_next])
    return ((z_next - z) ** 2).mean(0).div(both.var(0, correction=0) + 1e-8).sum()


def decorrelation_penalty(z: Tensor) -> Tensor:
    r"""Squared distance of the correlation matrix of the columns of z, shape (n, k), from the identity."""
    z = (z - z.mean(0)) / (z.std(0, correction=0) + 1e-4)
    return (z.T @ z / len(z) - torch.eye(z.shape[1]).to(z)).square().sum()
