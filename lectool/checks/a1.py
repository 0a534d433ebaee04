r"""Assignment 1, linear factor models: whitening, slow features, probabilistic PCA, independent components."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lectool.checks.trial import Trial, off_diagonal

__all__ = ["decorrelate", "newton_step", "posterior", "ppca", "slow_features", "whiten"]


def waves(n: int, frequencies: list[int]) -> Tensor:
    r"""Sines of whole periods as columns: mean 0, variance 1, no correlation, exactly."""
    t = torch.arange(n, dtype=torch.float64)[:, None] / n
    return 2**0.5 * torch.sin(2 * math.pi * t * torch.tensor(frequencies))


def rotation(t: Trial, d: int, seed: int = 0) -> Tensor:
    r"""Some orthogonal matrix."""
    return torch.linalg.matrix_exp((a := t.randn(d, d, seed=seed)) - a.T)


def covariance(z: Tensor) -> Tensor:
    return (z - z.mean(0)).T @ (z - z.mean(0)) / len(z)


def whiten(t: Trial, f: Callable) -> None:
    n, spread = 200, torch.tensor([4.0, 1.0, 0.5], dtype=torch.float64)
    x = (waves(n, [3, 7, 5]) * spread.sqrt()) @ rotation(t, 3).T + torch.tensor([5.0, -2.0, 1.0])
    z = t.run(f, x, untouched="the data that were handed in stay as they were")
    t.shape("one whitened sample for each sample", z, n, 3, mistake="samples are rows, as in x")
    c = covariance(z)
    var = c.diagonal().sort().values
    t.near(
        "every column has mean 0",
        z.mean(0),
        0.0,
        tol=1e-6,
        mistake="the mean of x has not been subtracted",
    )
    t.near(
        "the columns are uncorrelated",
        off_diagonal(c),
        0.0,
        tol=1e-6,
        mistake=[
            (
                (c.diagonal() - 1).abs().max() < 1e-2,
                "each column was divided by its own standard deviation; turn to the eigenvectors first",
            ),
            (True, "the eigenvectors are the columns of U; a transpose is missing or one too many"),
        ],
    )
    t.near(
        "every column has variance 1",
        var,
        1.0,
        tol=1e-4,
        mistake=[
            (
                (var - 1 / spread).abs().max() < 0.02,
                "divided by the variances; the standard deviations, their square roots, are meant",
            ),
            (
                (var - spread.flip(0)).abs().max() < 0.02,
                "rotated only; divide by the standard deviations",
            ),
            ((var - 1).abs().max() < 0.02, "divided by n − 1 somewhere; the exercise divides by n"),
        ],
    )


def slow_features(t: Trial, f: Callable) -> None:
    n, speeds = 600, [13, 2, 29, 5]
    hidden, Q = waves(n, speeds), rotation(t, 4)
    z = hidden @ Q.T
    y = t.run(f, z, 2)
    t.shape(
        "two features for each time step",
        y,
        n,
        2,
        mistake=[
            (
                isinstance(y, Tensor) and len(y) == n - 1,
                "these are steps; the features of z itself are asked for",
            ),
            (True, "the features are columns: z @ (d, k)"),
        ],
    )
    alike = (y.T @ hidden / n).abs()  # correlations with the four hidden waves
    slowest, second = alike[0, 1], alike[1, 3]
    t.near(
        "every feature has variance 1",
        covariance(y).diagonal(),
        1.0,
        tol=1e-6,
        mistake="z is white already: a turn by unit vectors keeps the variance, so divide by nothing",
    )
    t.holds(
        "the two slowest waves are found",
        alike[:, [1, 3]].amax(1).min() > 0.99,
        expected="correlations with them above 0.99",
        came=alike[:, [1, 3]].amax(1),
        mistake=[
            (
                alike[:, [0, 2]].amax(1).min() > 0.99,
                "these are the fastest; eigh sorts from small to large",
            ),
            (
                True,
                "the eigenvectors of the covariance of the steps z(t+1) − z(t) are asked for, as columns",
            ),
        ],
    )
    t.holds(
        "the slowest comes first",
        slowest > second - 0.5 and slowest > 0.5 and alike[0, 3] < 0.5,
        expected="the slowest wave in column 0",
        came=f"correlation {float(slowest):.2f} with it in column 0",
        mistake="eigh sorts from small to large, and small means slow: keep that order",
    )


def ppca(t: Trial, f: Callable) -> None:
    n, k, spread = 400, 2, torch.tensor([5.0, 3.0, 1.2, 0.8, 0.4], dtype=torch.float64)
    Q, mean = rotation(t, 5), 3 + t.randn(5, seed=1)
    x = (waves(n, [3, 7, 5, 11, 2]) * spread.sqrt()) @ Q.T + mean
    mu, W, sigma2 = t.parts(t.run(f, x, k), "mean", "W", "sigma2")
    t.near(
        "the mean is that of the data",
        mu,
        mean,
        tol=1e-6,
        mistake="mean over the samples: x.mean(0)",
    )
    noise = float(sigma2)
    t.near(
        "the noise is the mean variance of what is left out",
        noise,
        0.8,
        tol=1e-6,
        mistake=[
            (
                abs(noise - 2.4) < 1e-3,
                "this is the sum of the variances left out; the mean is asked for",
            ),
            (
                abs(noise - 2.08) < 1e-3,
                "this is the mean of all variances; only the d − k smallest count",
            ),
            (abs(noise - 4.0) < 1e-3, "this is the mean of the variances that are kept"),
            (abs(noise - 0.8**0.5) < 1e-3, "this is the standard deviation; sigma2 is a variance"),
            (
                True,
                "the covariance of the centered data, divided by n, has the variances as eigenvalues",
            ),
        ],
    )
    t.shape("W has a row a feature, a column a factor", W, 5, 2, mistake="transposed: W is d × k")
    t.finite(
        "W holds finite numbers",
        W,
        mistake="the root of a negative number: eigh sorts from small to large",
    )
    total = torch.linalg.eigvalsh(W @ W.T + 0.8 * torch.eye(5)).flip(0)
    t.near(
        "W Wᵀ + σ² I has the k largest variances of the data",
        total[:2],
        spread[:2],
        tol=1e-6,
        mistake=[
            (
                (total[:2] - spread[:2] - 0.8).abs().max() < 1e-3,
                "σ² has to be subtracted from the variances",
            ),
            (
                (total[:2] - 0.8 - (spread[:2] - 0.8) ** 2).abs().max() < 1e-3,
                "W holds standard deviations: the root of λ − σ² is missing",
            ),
            (
                True,
                "eigh sorts from small to large; the k largest eigenvalues, less σ², are asked for",
            ),
        ],
    )
    t.near(
        "W lies in the first k axes of the data",
        Q[:, k:].T @ W,
        0.0,
        tol=1e-6,
        mistake="the eigenvectors are columns, and the last ones that eigh returns have the largest variance",
    )


def posterior(t: Trial, f: Callable) -> None:
    W, mean = (
        torch.zeros(3, 1, dtype=torch.float64),
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
    )
    W[0] = 2.0
    x = mean + torch.tensor([[0.9, 0.0, 0.0], [0.0, 4.0, -4.0]], dtype=torch.float64)
    answer = t.run(f, x, mean, W, 0.5, untouched="the data that were handed in stay as they were")
    m, G = t.parts(answer, "m", "G")
    t.shape(
        "m has a row a sample, a column a factor", m, 2, 1, mistake="transposed: samples are rows"
    )
    t.shape("G is k × k", G, 1, 1, mistake="one covariance for all samples, between the k factors")
    t.near(
        "with W = (2, 0, 0)ᵀ and σ² = 1/2 the means are 0.4 and 0",
        m[:, 0],
        torch.tensor([0.4, 0.0]),
        tol=1e-6,
        mistake=[
            (
                (m[:, 0] - torch.tensor([0.45, 0.0])).abs().max() < 1e-3,
                "without σ²: this is least squares",
            ),
            ((m[1] - m[0] * 0).abs() > 0.3, "the mean of x has not been subtracted"),
            (True, "m solves (WᵀW + σ² I) m = Wᵀ (x − μ)"),
        ],
    )
    g = float(G[0, 0])
    t.near(
        "with W = (2, 0, 0)ᵀ and σ² = 1/2 the variance is 1/9",
        g,
        1 / 9,
        tol=1e-6,
        mistake=[
            (abs(g - 2 / 9) < 1e-3, "σ² is missing as a factor: G = σ² (WᵀW + σ² I)⁻¹"),
            (abs(g - 4.5) < 1e-3 or abs(g - 9) < 1e-3, "the inverse is missing"),
            (abs(g - 1 / 8) < 1e-3, "without σ² in the inverse"),
        ],
    )
    n, W = 20000, t.randn(6, 2, seed=1)
    z, noise = t.randn(n, 2, seed=2), t.randn(n, 6, seed=3)
    x = torch.ones(6, dtype=torch.float64) + z @ W.T + 0.7**0.5 * noise
    m, G = t.run(f, x, torch.ones(6, dtype=torch.float64), W, 0.7)
    left = covariance(z - m)
    t.near(
        "on 20 000 drawn samples the error z − m has the covariance G",
        G,
        left,
        tol=0.06 * float(left.diagonal().max()),
        mistake="two factors at once: a transpose, or the identity matrix in the inverse",
    )


def decorrelate(t: Trial, f: Callable) -> None:
    R = rotation(t, 4)
    W = t.run(f, R.clone())
    t.shape("it keeps the shape", W, 4, 4)
    t.near(
        "an orthogonal matrix stays as it is",
        W,
        R,
        tol=1e-6,
        mistake="compute (W Wᵀ)^(−1/2) W, on the left",
    )
    A = t.randn(4, 4, seed=1) + 3 * torch.eye(4, dtype=torch.float64)
    W = t.run(f, A)
    t.near(
        "the rows become orthonormal",
        W @ W.T,
        torch.eye(4),
        tol=1e-6,
        mistake=[
            (
                (W @ A.T - torch.eye(4)).abs().max() < 1e-3,
                "this is (W Wᵀ)⁻¹ W; the power is −1/2, not −1",
            ),
            (
                off_diagonal(W @ W.T).abs().max() > 1e-3 and (W.norm(dim=1) - 1).abs().max() < 1e-3,
                "rows of length 1 are not enough; they must be orthogonal too",
            ),
            (True, "with W Wᵀ = U Λ Uᵀ the power −1/2 is U Λ^(−1/2) Uᵀ"),
        ],
    )
    order = torch.tensor([2, 0, 3, 1])
    t.near(
        "all rows are treated alike: swapped rows in, swapped rows out",
        t.run(f, A[order]),
        W[order],
        tol=1e-6,
        mistake="one row after the other (QR, Gram–Schmidt) favors the first; the symmetric form is asked for",
    )


def newton_step(t: Trial, f: Callable, decorrelate: Callable) -> None:
    corners = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    start = torch.eye(2, dtype=torch.float64)
    W = t.run(f, corners, start, untouched="z and W stay as they were")
    t.shape("a new row for each row of W", W, 2, 2)
    g = math.tanh(1.0)
    right, came = g - (1 - g * g), float(W[0, 0])
    t.near(
        "for the corners of a square and W = I it is (tanh 1 − 1 + tanh² 1) I",
        W,
        right * start,
        tol=1e-6,
        mistake=[
            (abs(came - 4 * right) < 1e-3, "sums over the samples; both terms are means"),
            (
                abs(came - (4 * g - 1 + g * g)) < 1e-3,
                "the first term is a sum over the samples; it must be a mean",
            ),
            (
                abs(came - (g - (1 - g))) < 1e-3,
                "the derivative of tanh y is 1 − tanh² y; the square is missing",
            ),
            (abs(came - g) < 1e-3, "the second term, E[g′(wᵀz)] w, is missing"),
            (abs(came - (g + 1 - g * g)) < 1e-3, "the second term has to be subtracted, not added"),
            (abs(came + right) < 1e-3, "the sign is turned around"),
            (True, "E[z g(wᵀz)] − E[g′(wᵀz)] w for each row w of W, means over the samples"),
        ],
    )
    Q = rotation(t, 3)
    n = 4000
    uniform = torch.rand(n, 3, generator=t.rng(3), dtype=torch.float64)
    sources = (uniform - 0.5) * 12**0.5
    z, W = sources @ Q.T, rotation(t, 3, seed=4)
    for _ in range(50):
        W = t.run(decorrelate, t.run(f, z, W))
    best = (W @ Q).abs().amax(1)
    t.holds(
        "fifty steps separate three mixed sources",
        best.min() > 0.98,
        expected="each row picks one source, |cos| above 0.98",
        came=best,
        mistake="row j of W belongs to source j: sources are z @ W.T, not z @ W; "
        "and the mean of g′ is one number for each row",
    )
