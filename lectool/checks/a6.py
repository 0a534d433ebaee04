r"""Assignment 6, variational autoencoders: full covariances, importance weights, the weight β."""

import math
from collections.abc import Callable

import torch

from lectool.checks.trial import Trial, gradients

__all__ = ["active_units", "beta_loss", "cholesky", "draw", "full_kl", "importance_bound"]

LOG2, LOG3 = math.log(2.0), math.log(3.0)


def cholesky(t: Trial, f: Callable) -> None:
    raw = t.randn(4, 6).requires_grad_()
    L = t.run(f, raw, 3, untouched="the raw numbers stay as they were")
    t.shape("a 3 × 3 matrix for each sample", L, 4, 3, 3, mistake="one matrix for each row of raw")
    rows, columns = torch.tril_indices(3, 3)
    upper = torch.triu(L, diagonal=1)
    t.near(
        "above the diagonal it is 0",
        upper,
        0.0,
        tol=1e-6,
        mistake="fill the lower triangle: torch.tril_indices",
    )
    t.near(
        "the diagonal is exp(raw), above 0",
        L.diagonal(dim1=1, dim2=2),
        raw[:, rows == columns].exp(),
        tol=1e-6,
        mistake=[
            (
                (L.diagonal(dim1=1, dim2=2) <= 0).any(),
                "a covariance needs a positive diagonal: exp of these numbers",
            ),
            (
                True,
                "exp of the raw numbers that stand on the diagonal, in the order of torch.tril_indices",
            ),
        ],
    )
    t.near(
        "below the diagonal the raw numbers stand as they are",
        L[:, [1, 2, 2], [0, 0, 1]],
        raw[:, rows > columns],
        tol=1e-6,
        mistake="only the diagonal is exponentiated; correlations may be negative",
    )
    (grad,) = gradients(L.sum(), raw)
    t.holds(
        "gradients reach all raw numbers",
        grad is not None and bool((grad != 0).all()),
        expected="a gradient",
        came="none, or 0",
        mistake="a detach(), torch.tensor(…) or .item() cuts it off",
    )


def draw(t: Trial, f: Callable) -> None:
    n = 20000
    L = torch.tensor([[1.0, 0.0], [2.0, 0.5]], dtype=torch.float64)
    mean, Ls = torch.tensor([3.0, -1.0], dtype=torch.float64).repeat(n, 1), L.repeat(n, 1, 1)
    z = t.run(f, mean, Ls, t.rng(0))
    t.shape("a code for each sample", z, n, 2)
    t.near(
        "the codes have the mean that was asked for",
        z.mean(0),
        mean[0],
        tol=0.09,
        mistake="z = m + L ε: the mean is added",
    )
    C = torch.cov(z.T)
    t.near(
        "the codes have the covariance L Lᵀ",
        C,
        L @ L.T,
        tol=0.25,
        mistake=[
            (
                (C - L.T @ L).abs().max() < 0.25,
                "this is Lᵀ L: each row of ε has to be multiplied from the left by L",
            ),
            (C.abs().max() < 0.1, "one ε for all samples; one for each is asked for"),
            (
                abs(float(C[0, 1])) < 0.25,
                "the correlation is lost: L is a matrix, and L ε a matrix product",
            ),
        ],
    )
    small = t.randn(5, 2, seed=1).requires_grad_(), t.randn(5, 2, 2, seed=2).requires_grad_()
    z = t.run(f, *small, t.rng(1))
    t.holds(
        "gradients reach mean and L",
        all(g is not None for g in gradients(z.sum(), *small)),
        expected="both",
        came="none for one of them",
        mistake="draw ε first and compute z from it; sample() and detach() cut the gradient off",
    )


def full_kl(t: Trial, f: Callable) -> None:
    eye = torch.eye(2, dtype=torch.float64).repeat(2, 1, 1)
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    value = t.run(f, zeros, eye)
    t.shape(
        "one number for each sample",
        value,
        2,
        mistake="sum over the code, and no mean over the samples",
    )
    t.near(
        "no divergence from N(0, I) to itself", value, 0.0, tol=1e-6, mistake="the −k is missing"
    )
    mean = torch.tensor([[1.0, 2.0], [0.0, 3.0]], dtype=torch.float64)
    came = t.run(f, mean, eye)
    t.near(
        "the means (1, 2) and (0, 3) cost 2.5 and 4.5",
        came,
        torch.tensor([2.5, 4.5]),
        tol=1e-6,
        mistake=[
            ((came < 0).any(), "the sign is turned around; a divergence is never negative"),
            (abs(float(came[0]) - 5) < 1e-6, "the factor ½ is missing"),
            (True, "½ mᵀ m"),
        ],
    )
    L = torch.tensor([[2.0, 0.0], [1.0, 3.0]], dtype=torch.float64).repeat(2, 1, 1)
    came, right = float(t.run(f, zeros, L)[0]), 6 - LOG2 - LOG3
    t.near(
        "L = [[2, 0], [1, 3]] costs ½ (14 − 2) − log 6",
        came,
        right,
        tol=1e-6,
        mistake=[
            (
                abs(came - 5.5 + LOG2 + LOG3) < 1e-6,
                "the trace of L Lᵀ counts all squares, not those of the diagonal alone",
            ),
            (
                abs(came - 6 + 2 * (LOG2 + LOG3)) < 1e-6,
                "½ log |L Lᵀ| is the sum of log Lⱼⱼ, not twice that",
            ),
            (
                abs(came - 6 + (LOG2 + LOG3) / 2) < 1e-6,
                "½ log |L Lᵀ| is the sum of log Lⱼⱼ, not half of it",
            ),
            (abs(came - 6 - LOG2 - LOG3) < 1e-6, "the logarithm has the wrong sign"),
            (
                abs(came - 1.5 + LOG2 + LOG3) < 1e-6,
                "the trace of L Lᵀ is the sum of squares, not of the numbers",
            ),
        ],
    )


def importance_bound(t: Trial, f: Callable) -> None:
    value = t.run(f, torch.zeros(5, 3, dtype=torch.float64))
    t.shape(
        "one number for each sample",
        value,
        3,
        mistake="weights are (k, n): the mean runs over the first axis",
    )
    t.near(
        "five equal weights of 1 give log 1 = 0",
        value,
        0.0,
        tol=1e-6,
        mistake="the mean of the weights: log Σ w − log k; the −log k is missing",
    )
    w = torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.float64)
    came = t.run(f, w.log())
    t.near(
        "the weights 1 and 3 give log 2",
        came,
        torch.tensor([LOG2, LOG2]),
        tol=1e-6,
        mistake=[
            (
                (came[0] - LOG3 / 2).abs() < 1e-6,
                "this is the mean of the logarithms (the ELBO); the logarithm of the mean is asked for",
            ),
            ((came[0] - 2).abs() < 1e-6, "the logarithm of the mean weight, not the mean weight"),
            (True, "log of the mean of exp(log_weights), over the first axis"),
        ],
    )
    far = torch.tensor([[-2000.0, 2000.0], [-2000.0, 2000.0 - LOG3]], dtype=torch.float64)
    t.near(
        "log-weights of ±2000 neither vanish nor overflow",
        t.run(f, far),
        torch.tensor([-2000.0, 2000.0 + math.log(2 / 3)], dtype=torch.float64),
        tol=1e-6,
        mistake="exp() of large numbers is infinite, of small ones 0; torch.logsumexp avoids both",
    )


def beta_loss(t: Trial, f: Callable) -> None:
    log_likelihood = torch.tensor([-10.0, -30.0], dtype=torch.float64)
    kl = torch.tensor([2.0, 4.0], dtype=torch.float64)
    came = t.run(f, log_likelihood, kl, 1.0)
    t.shape("one number, to be made small", came, mistake="the mean over the samples is missing")
    came = float(came)
    t.near(
        "with β = 1 it is minus the ELBO: 23",
        came,
        23.0,
        tol=1e-6,
        mistake=[
            (
                abs(came + 23) < 1e-6,
                "this is the ELBO, which is to be made large; the loss is minus that",
            ),
            (abs(came - 46) < 1e-6, "this is the sum over the samples; the mean is asked for"),
            (abs(came - 17) < 1e-6, "the divergence is a price: it is added to −log p"),
            (True, "−log p(x | z) + β · KL"),
        ],
    )
    came = float(t.run(f, log_likelihood, kl, 4.0))
    t.near(
        "with β = 4 it is 32",
        came,
        32.0,
        tol=1e-6,
        mistake=[
            (abs(came - 83) < 1e-6, "β weighs the divergence, not the likelihood"),
            (abs(came - 92) < 1e-6, "β weighs the divergence alone"),
            (abs(came - 20.75) < 1e-6, "β multiplies; it does not divide"),
            (True, "−log p(x | z) + β · KL"),
        ],
    )


def active_units(t: Trial, f: Callable) -> None:
    n = 500
    wave = torch.sin(2 * math.pi * torch.arange(n, dtype=torch.float64) / n)[:, None] * 2**0.5
    means = wave * torch.tensor([1.0, 0.05, 0.3, 0.0, 0.5]) + torch.tensor(
        [0.0, 5.0, 0.0, 1.0, 0.0]
    )
    came = t.run(f, means)
    t.holds(
        "it counts: a whole number",
        isinstance(came, int) and not isinstance(came, bool),
        expected="an int",
        came=type(came).__name__,
        mistake="turn the result into an int: int(…)",
        stop=True,
    )
    t.near(
        "of units with standard deviations 1, 0.05, 0.3, 0, 0.5 over the data, three are active",
        came,
        3,
        tol=0,
        mistake=[
            (
                came == 4,
                "the variance over the data is compared with 0.01, not the standard deviation",
            ),
            (
                came == 5,
                "a constant mean far from 0 is not active: the variance over the data counts, not the size",
            ),
            (came > 5, "counts units, not samples: the variance runs over the samples"),
            (True, "the units whose mean has a variance over the data above 0.01"),
        ],
    )
    t.near(
        "a threshold of 0.5 leaves one",
        t.run(f, means, 0.5),
        1,
        tol=0,
        mistake="the threshold is an argument",
    )
