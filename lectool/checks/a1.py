r"""Assignment 1, linear factor models: whitening, slow features, probabilistic PCA, independent components."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lectool.checks.trial import Trial, off_diagonal

__all__ = ["decorrelate", "newton_step", "posterior", "ppca", "slow_features", "whiten"]


def eye(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)


def waves(n: int, frequencies: Tensor) -> Tensor:
    r"""Sines of whole periods as columns: mean 0, variance 1, no correlation, exactly."""
    t = torch.arange(n, dtype=torch.float64)[:, None] / n
    return 2**0.5 * torch.sin(2 * math.pi * t * frequencies)


def rotation(t: Trial, d: int) -> Tensor:
    r"""Some orthogonal matrix."""
    return torch.linalg.matrix_exp((a := t.randn(d, d)) - a.T)


def table(t: Trial, n: int, d: int) -> Tensor:
    r"""Some data: no two directions have the same variance, no column the mean 0."""
    spread = 1.6 ** torch.arange(d, dtype=torch.float64)
    return (t.randn(n, d) * spread.sqrt()) @ rotation(t, d).T + t.rand(d, low=2, high=5)


def covariance(z: Tensor) -> Tensor:
    return (z - z.mean(0)).T @ (z - z.mean(0)) / len(z)


def whiten(t: Trial, f: Callable) -> None:
    for n, d in t.cases((150, 250), (3, 6)):
        x = table(t, n, d)
        z = t.run(f, x, untouched="the data that were handed in stay as they were")
        t.shape("one whitened sample for each sample", z, n, d, mistake="samples are rows, as in x")
        c, spectrum = covariance(z), torch.linalg.eigvalsh(covariance(x))
        var = c.diagonal().sort().values
        t.value(
            "every column has mean 0",
            z.mean(0),
            0.0,
            mistake="the mean of x has not been subtracted",
        )
        t.value(
            "the columns are uncorrelated",
            off_diagonal(c),
            0.0,
            mistakes={
                "each column was divided by its own standard deviation; turn to the eigenvectors first": bool(
                    (var - 1).abs().max() < 0.02
                )
            },
            mistake="the eigenvectors are the columns of U; a transpose is missing or one too many",
        )
        t.value(
            "every column has variance 1",
            var,
            1.0,
            mistakes={
                "divided by the variances; the standard deviations, their square roots, are meant": (
                    1 / spectrum
                ).flip(0),
                "rotated only; divide by the standard deviations": spectrum,
                "divided by n − 1 somewhere; the exercise divides by n": (n - 1) / n,
            },
            mistake="the j-th eigenvalue belongs to the j-th eigenvector, and the covariance is divided by n",
        )


def slow_features(t: Trial, f: Callable) -> None:
    for n, d, k in t.cases((500, 700), (4, 6), (2, 3)):
        speeds = (3 * torch.arange(1, 12))[t.order(11)[:d]]
        by_speed = speeds.argsort()
        hidden = waves(n, speeds)
        z = hidden @ rotation(t, d).T
        y = t.run(f, z, k, untouched="the features that were handed in stay as they were")
        t.shape(
            "k features for each time step",
            y,
            n,
            k,
            mistake="these are steps; the features of z itself are asked for"
            if isinstance(y, Tensor) and len(y) == n - 1
            else "the features are columns: z @ (d, k)",
        )
        t.value(
            "every feature has variance 1",
            covariance(y).diagonal(),
            1.0,
            mistake="z is white already: a turn by unit vectors keeps the variance, so divide by nothing",
        )
        alike = (y.T @ hidden / n).abs()  # correlations with the hidden waves
        t.holds(
            "the k slowest waves are found",
            (found := alike[:, by_speed[:k]].amax(0)).min() > 0.99,
            expected="correlations with them above 0.99",
            came=found,
            mistakes={
                "these are the fastest; eigh sorts from small to large": (
                    alike[:, by_speed[-k:]].amax(0).min() > 0.99
                )
            },
            mistake="the eigenvectors of the covariance of the steps z(t+1) − z(t) are asked for, as columns",
        )
        t.holds(
            "the slowest comes first",
            torch.equal(alike.argmax(1), by_speed[:k]) or found.min() <= 0.99,
            expected="the waves in the order of their speed",
            came="another order",
            mistake="eigh sorts from small to large, and small means slow: keep that order",
        )


def ppca(t: Trial, f: Callable) -> None:
    for n, d, k in t.cases((100, 300), (5, 7), (2, 3)):
        x = table(t, n, d)
        U = torch.linalg.svd(x - x.mean(0)).Vh.T
        spectrum = torch.linalg.svdvals(x - x.mean(0)).square() / n
        sigma2 = float(spectrum[k:].mean())
        answer = t.run(f, x, k, untouched="the data that were handed in stay as they were")
        mu, W, noise = t.parts(answer, "mean", "W", "sigma2")
        t.value(
            "the mean is that of the data", mu, x.mean(0), mistake="over the samples: x.mean(0)"
        )
        t.value(
            "the noise is the mean variance of what is left out",
            noise,
            sigma2,
            mistakes={
                "this is the sum of the variances left out; the mean is asked for": spectrum[
                    k:
                ].sum(),
                "this is the mean of all variances; only the d − k smallest count": spectrum.mean(),
                "this is the mean of the variances that are kept": spectrum[:k].mean(),
                "this is the standard deviation; sigma2 is a variance": sigma2**0.5,
                "eigh sorts from small to large: these are not the d − k smallest": spectrum[
                    :-k
                ].mean(),
                "divided by n − 1; the exercise divides by n": sigma2 * n / (n - 1),
            },
            mistake="the covariance of the centered data, divided by n, has the variances as eigenvalues",
        )
        t.shape(
            "W has a row a feature, a column a factor", W, d, k, mistake="transposed: W is d × k"
        )
        t.finite(
            "W holds finite numbers",
            W,
            mistake="the root of a negative number: eigh sorts from small to large",
        )
        t.value(
            "W lies in the first k axes of the data",
            U[:, k:].T @ W,
            0.0,
            mistake="the eigenvectors are columns, and the last ones that eigh returns have the largest variance",
        )
        left = spectrum[:k] - sigma2
        t.value(
            "along these axes W Wᵀ + σ² I has the variances of the data",
            U[:, :k].T @ W @ W.T @ U[:, :k] + sigma2 * eye(k),
            torch.diag(spectrum[:k]),
            mistakes={
                "σ² has to be subtracted from the variances": torch.diag(spectrum[:k] + sigma2),
                "W holds standard deviations: the root of λ − σ² is missing": torch.diag(
                    left.square() + sigma2
                ),
            },
            mistake="column j is the j-th eigenvector times the root of its own eigenvalue less σ²",
        )


def posterior(t: Trial, f: Callable) -> None:
    for n, d, k in t.cases((5, 9), (6, 9), (2, 4)):
        x, mean, W = t.randn(n, d), t.randn(d), t.randn(d, k)
        sigma2 = float(t.rand(1, low=0.3, high=0.8))
        stay = "the numbers that were handed in stay as they were"
        m, G = t.parts(t.run(f, x, mean, W, sigma2, untouched=stay), "m", "G")
        t.shape("m has a row a sample, a column a factor", m, n, k, mistake="samples are rows")
        t.shape(
            "G is k × k", G, k, k, mistake="one covariance for all samples, between the k factors"
        )
        # The same by conditioning the joint Gaussian of x and z, whose inverse is d × d.
        gain = W.T @ torch.linalg.inv(W @ W.T + sigma2 * eye(d))
        t.value(
            "the means are those of the joint Gaussian, given x",
            m,
            (x - mean) @ gain.T,
            mistakes={
                "without σ²: this is least squares": (x - mean) @ torch.linalg.pinv(W).T,
                "the mean of x has not been subtracted": x @ gain.T,
            },
            mistake="m solves (WᵀW + σ² I) m = Wᵀ (x − μ); I is the identity matrix, not a matrix of ones",
        )
        right = eye(k) - gain @ W
        t.value(
            "G is the covariance of the factors, given x",
            G,
            right,
            mistakes={
                "σ² is missing as a factor: G = σ² (WᵀW + σ² I)⁻¹": right / sigma2,
                "the inverse is missing": torch.linalg.inv(right / sigma2),
                "the inverse is missing, and σ² as a factor": torch.linalg.inv(right),
                "without σ² in the inverse": sigma2 * torch.linalg.inv(W.T @ W),
            },
            mistake="G = σ² (WᵀW + σ² I)⁻¹",
        )


def decorrelate(t: Trial, f: Callable) -> None:
    for (d,) in t.cases((3, 6)):
        R = rotation(t, d)
        W = t.run(f, R.clone())
        t.shape("it keeps the shape", W, d, d)
        t.value(
            "an orthogonal matrix stays as it is",
            W,
            R,
            mistake="compute (W Wᵀ)^(−1/2) W, on the left",
        )
        A = t.randn(d, d) + 3 * eye(d)
        W = t.run(f, A, untouched="W stays as it was")
        rows = bool((W.norm(dim=1) - 1).abs().max() < 1e-3)
        t.value(
            "the rows become orthonormal",
            W @ W.T,
            eye(d),
            mistakes={
                "this is (W Wᵀ)⁻¹ W; the power is −1/2, not −1": bool(
                    (W @ A.T - eye(d)).abs().max() < 1e-3
                ),
                "rows of length 1 are not enough; they must be orthogonal too": rows,
            },
            mistake="with W Wᵀ = U Λ Uᵀ the power −1/2 is U Λ^(−1/2) Uᵀ",
        )
        U, _, V = torch.linalg.svd(A)
        t.value(
            "it is the nearest such matrix, which treats all rows alike",
            W,
            U @ V,
            mistake="one row after the other (QR, Gram–Schmidt) favors the first; the symmetric form is asked for",
        )


def newton_step(t: Trial, f: Callable, decorrelate: Callable) -> None:
    for n, d, k in t.cases((50, 90), (4, 6), (2, 3)):
        z, W = t.randn(n, d), t.randn(k, d)
        came = t.run(f, z, W, untouched="z and W stay as they were")
        t.shape("a new row for each row of W", came, k, d)
        # The mean of log cosh has the derivatives that are asked for.
        free = W.clone().requires_grad_()
        (pull,) = torch.autograd.grad((z @ free.T).cosh().log().sum(1).mean(), free)
        slope = (1 / (z @ W.T).cosh().square()).mean(0)[:, None]
        right = pull - slope * W
        t.value(
            "E[z g(wᵀz)] − E[g′(wᵀz)] w for each row w",
            came,
            right,
            mistakes={
                "sums over the samples; both terms are means": n * right,
                "the first term is a sum over the samples; it must be a mean": n * pull - slope * W,
                "the second term is a sum over the samples; it must be a mean": pull
                - n * slope * W,
                "the derivative of tanh y is 1 − tanh² y; the square is missing": (
                    pull - (1 - (z @ W.T).tanh().abs()).mean(0)[:, None] * W
                ),
                "the second term, E[g′(wᵀz)] w, is missing": pull,
                "the second term has to be subtracted, not added": pull + slope * W,
                "the sign is turned around": -right,
                "the mean of g′ is one number for each row of W, not one for all": (
                    pull - slope.mean() * W
                ),
            },
            mistake="E[z g(wᵀz)] − E[g′(wᵀz)] w for each row w of W, means over the samples",
        )
    n, d = 4000, 3
    sources = t.rand(n, d, low=-(3**0.5), high=3**0.5)
    Q, W = rotation(t, d), rotation(t, d)
    for _ in range(50):
        W = t.run(decorrelate, t.run(f, sources @ Q.T, W))
    best = (W @ Q).abs().amax(1)
    t.holds(
        "fifty steps separate three mixed sources",
        best.min() > 0.98,
        expected="each row picks one source, |cos| above 0.98",
        came=best,
        mistake="row j of W belongs to source j: sources are z @ W.T, not z @ W",
    )
