r"""Assignment 6, variational autoencoders: full covariances, importance weights, the weight β."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from lectool.checks.trial import Trial

__all__ = ["active_units", "beta_loss", "cholesky", "draw", "full_kl", "importance_bound"]


def triangles(t: Trial, n: int, k: int) -> Tensor:
    r"""Lower triangular matrices with a positive diagonal, (n, k, k), all different."""
    return torch.tril(t.randn(n, k, k), -1) + torch.diag_embed(t.rand(n, k, low=0.5, high=2.0))


def cholesky(t: Trial, f: Callable) -> None:
    for n, k in t.cases((3, 6), (2, 4)):
        raw = t.randn(n, k * (k + 1) // 2).requires_grad_()
        L = t.run(f, raw, k, untouched="the raw numbers stay as they were")
        t.shape(
            "a k × k matrix for each sample", L, n, k, k, mistake="one matrix for each row of raw"
        )
        places = [(i, j) for i in range(k) for j in range(i + 1)]  # row by row
        right = torch.zeros(n, k, k, dtype=torch.float64)
        for column, (i, j) in enumerate(places):
            right[:, i, j] = raw[:, column].exp() if i == j else raw[:, column]
        t.value(
            "above the diagonal it is 0",
            torch.triu(L, diagonal=1),
            0.0,
            mistake="fill the lower triangle: torch.tril_indices",
        )
        diagonal = L.diagonal(dim1=1, dim2=2)
        t.value(
            "the diagonal is exp(raw), above 0",
            diagonal,
            right.diagonal(dim1=1, dim2=2),
            mistakes={
                "a covariance needs a positive diagonal: exp of these numbers": bool(
                    (diagonal <= 0).any()
                )
            },
            mistake="exp of the raw numbers that stand on the diagonal, in the order of torch.tril_indices",
        )
        t.value(
            "below the diagonal the raw numbers stand as they are, row by row",
            torch.tril(L, -1),
            torch.tril(right, -1),
            mistakes={
                "only the diagonal is exponentiated; correlations may be negative": torch.tril(
                    right.exp(), -1
                )
            },
            mistake="in the order of torch.tril_indices, each sample's own numbers",
        )
        t.gradient("gradients reach all raw numbers", L, right, raw)


def draw(t: Trial, f: Callable) -> None:
    for (k,) in t.cases((2, 4)):
        n = 20000
        L, mean = triangles(t, 1, k)[0], 2 + 3 * t.randn(n, k)
        stay = "mean and L stay as they were"
        z = t.run(f, mean, L.repeat(n, 1, 1), t.rng(), untouched=stay)
        t.shape("a code for each sample", z, n, k)
        size = float(L.square().sum(1).max())
        t.value(
            "the codes have the means that were asked for",
            (z - mean).mean(0),
            0.0,
            tol=5 * (size / n) ** 0.5,
            mistake="z = m + L ε: the mean is added",
        )
        C = torch.cov((z - mean).T)
        t.value(
            "the codes have the covariance L Lᵀ",
            C / size,
            L @ L.T / size,
            tol=0.06,
            mistakes={
                "this is Lᵀ L: each row of ε has to be multiplied from the left by L": L.T
                @ L
                / size,
                "one ε for all samples; one for each is asked for": 0.0,
                "the correlation is lost: L is a matrix, and L ε a matrix product": torch.diag(
                    C.diagonal()
                )
                / size,
            },
            mistake="z = m + L ε with one standard normal number for each of the k",
        )
        noise = torch.linalg.solve_triangular(L, (z - mean).T, upper=False).T
        t.distributed("ε is standard normal", noise, "norm")
        m, free = t.randn(5, k).requires_grad_(), triangles(t, 5, k).requires_grad_()
        Ls = torch.tril(free)  # what stands above the diagonal takes no part
        z = t.run(f, m, Ls, t.rng())
        eps = torch.linalg.solve_triangular(Ls, (z - m)[:, :, None], upper=False).detach()
        t.gradient(
            "gradients reach mean and L: each sample's own",
            z,
            m + (Ls @ eps)[:, :, 0],
            m,
            free,
            mistake="every sample has an L of its own; draw ε first and compute z from it",
        )
    t.draws(lambda g: t.run(f, m, Ls, g).detach())


def full_kl(t: Trial, f: Callable) -> None:
    for n, k in t.cases((3, 6), (2, 4)):
        eye = torch.eye(k, dtype=torch.float64).repeat(n, 1, 1)
        zeros = torch.zeros(n, k, dtype=torch.float64)
        value = t.run(f, zeros, eye)
        t.shape(
            "one number for each sample",
            value,
            n,
            mistake="sum over the code, and no mean over the samples",
        )
        t.value("no divergence from N(0, I) to itself", value, 0.0, mistake="the −k is missing")
        m, free = t.randn(n, k).requires_grad_(), triangles(t, n, k).requires_grad_()
        L = torch.tril(free)  # what stands above the diagonal takes no part
        half = m.square().sum(1) / 2
        t.value(
            "means alone cost ½ mᵀ m",
            t.run(f, m, eye),
            half,
            mistakes={
                "the sign is turned around; a divergence is never negative": -half,
                "the factor ½ is missing": 2 * half,
                "each sample has a price of its own: no mean over the samples": half.mean(),
            },
            mistake="½ mᵀ m",
        )
        value = t.run(f, m, L, untouched="mean and L stay as they were")
        standard = MultivariateNormal(torch.zeros(k).double(), torch.eye(k).double())
        truth = kl_divergence(MultivariateNormal(m, scale_tril=L), standard)
        diagonal = L.diagonal(dim1=1, dim2=2)
        logs, squares = diagonal.log().sum(1), L.square().sum((1, 2)) / 2
        t.value(
            "mean and L cost what torch.distributions finds",
            value,
            truth,
            mistakes={
                "the trace of L Lᵀ counts all squares, not those of the diagonal alone": (
                    truth - squares + diagonal.square().sum(1) / 2
                ),
                "½ log |L Lᵀ| is the sum of log Lⱼⱼ, not twice that": truth - logs,
                "½ log |L Lᵀ| is the sum of log Lⱼⱼ, not half of it": truth + logs / 2,
                "the logarithm has the wrong sign": truth + 2 * logs,
                "the trace of L Lᵀ is the sum of squares, not of the numbers": (
                    truth - squares + diagonal.sum(1) / 2
                ),
                "each sample has a trace of its own: no mean over the samples": (
                    truth - squares + squares.mean()
                ),
            },
            mistake="½ (tr L Lᵀ + mᵀ m − k) − Σ log Lⱼⱼ, for each sample",
        )
        t.gradient("the encoder learns from it", value, truth, m, free)


def importance_bound(t: Trial, f: Callable) -> None:
    for k, n in t.cases((3, 6), (7, 9)):
        value = t.run(f, torch.zeros(k, n, dtype=torch.float64))
        t.shape(
            "one number for each sample",
            value,
            n,
            mistake="weights are (k, n): the mean runs over the first axis",
        )
        t.value(
            "equal weights of 1 give log 1 = 0",
            value,
            0.0,
            mistake="the mean of the weights: log Σ w − log k; the −log k is missing",
        )
        log_w = t.randn(k, n).requires_grad_()
        value = t.run(f, log_w, untouched="the weights stay as they were")
        truth = log_w.exp().mean(0).log()
        t.value(
            "log of the mean weight",
            value,
            truth,
            mistakes={
                "this is the mean of the logarithms (the ELBO); the logarithm of the mean is asked for": (
                    log_w.mean(0)
                ),
                "the logarithm of the mean weight, not the mean weight": truth.exp(),
                "each sample has a bound of its own": truth[0],
            },
            mistake="log of the mean of exp(log_weights), over the first axis",
        )
        t.gradient("encoder and decoder learn from it", value, truth, log_w)
        far = t.rand(n, low=-3000, high=3000)
        far[:2] = torch.tensor([-2000.0, 2000.0])
        t.value(
            "log-weights of ±2000 neither vanish nor overflow",
            t.run(f, log_w.detach() + far) - far,
            truth,
            mistake="exp() of large numbers is infinite, of small ones 0; torch.logsumexp avoids both",
        )


def beta_loss(t: Trial, f: Callable) -> None:
    for n, beta in t.cases((3, 7), (2, 6)):
        ll, kl = -10 * t.rand(n, low=1, high=3), t.rand(n, low=2, high=5)
        ll, kl = ll.requires_grad_(), kl.requires_grad_()
        came = t.run(f, ll, kl, 1.0, untouched="what was handed in stays as it was")
        t.number("the loss", came, mistake="the mean over the samples is missing")
        price, cost = -ll.mean(), kl.mean()
        t.value(
            "with β = 1 it is minus the ELBO",
            came,
            price + cost,
            mistakes={
                "this is the ELBO, which is to be made large; the loss is minus that": -price
                - cost,
                "this is the sum over the samples; the mean is asked for": n * (price + cost),
                "the divergence is a price: it is added to −log p": price - cost,
                "one sample stands for all": kl[0] - ll[0],
            },
            mistake="−log p(x | z) + β · KL",
        )
        came = t.run(f, ll, kl, float(beta))
        truth = price + beta * cost
        t.value(
            "with another β the divergence weighs more",
            came,
            truth,
            mistakes={
                "β weighs the divergence, not the likelihood": beta * price + cost,
                "β weighs the divergence alone": beta * (price + cost),
                "β multiplies; it does not divide": price + cost / beta,
            },
            mistake="−log p(x | z) + β · KL",
        )
        t.gradient("encoder and decoder learn from it", came, truth, ll, kl)


def active_units(t: Trial, f: Callable) -> None:
    for n, k in t.cases((300, 600), (6, 10), rounds=4):  # a count can be right by chance
        # In some order, around means far from 0; one variance is below 0.01 and its root above.
        var = torch.cat([torch.tensor([0.0, 5e-5, 0.003, 0.03]).double(), t.rand(k - 4, low=0.1)])
        var = var[t.order(k)]
        means = t.randn(n, k)
        means = (means - means.mean(0)) / means.std(0) * var.sqrt() + t.rand(k, low=1, high=5)
        came = t.run(f, means, untouched="the means stay as they were")
        t.holds(
            "it counts: a whole number",
            isinstance(came, int) and not isinstance(came, bool),
            expected="an int",
            came=type(came).__name__,
            mistake="turn the result into an int: int(…)",
            stop=True,
        )
        spread = means.max(0).values - means.min(0).values
        t.value(
            "units whose means have a variance over the data above 0.01 are active",
            came,
            int((var > 0.01).sum()),
            mistakes={
                "the variance over the data is compared with 0.01, not the standard deviation": int(
                    (var.sqrt() > 0.01).sum()
                ),
                "the variance over the data counts, not the range": int((spread > 0.01).sum()),
                "a constant mean far from 0 is not active: the variance over the data counts, not the size": k,
                "counts units, not samples: the variance runs over the samples": came > k,
            },
            mistake="the units whose mean has a variance over the data above 0.01",
        )
        t.value(
            "a threshold of 0.05 leaves fewer",
            t.run(f, means, 0.05),
            int((var > 0.05).sum()),
            mistake="the threshold is an argument",
        )
