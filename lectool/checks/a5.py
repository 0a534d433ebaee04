r"""Assignment 5, a deep energy model of patches: softplus, log p, score, score matching, a Gaussian, training."""

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from scipy.linalg import sqrtm
from scipy.special import expit
from torch import Tensor

from lectool.checks.machines import states
from lectool.checks.trial import Trial

__all__ = ["fit_precision", "log_p", "score", "score_matching_loss", "softplus", "train"]

STAY = "x, V, W, b and c stay as they were"
NAMES = ("V", "W", "b", "c")


def gate(u: Tensor) -> Tensor:
    r"""The logistic function, as a shifted tanh."""
    return (1 + torch.tanh(u / 2)) / 2


def with_hidden(x: Tensor, V: Tensor, W: Tensor, b: Tensor, c: Tensor, sigma: float) -> Tensor:
    r"""log p(x, z) up to a constant of each x with each state z of the hidden units, shape (n, 2^k)."""
    z = states(len(c))
    alone = x @ b - x.square().sum(1) / (2 * sigma**2)
    return alone[:, None] + (gate(x @ V.T) @ W.T + c) @ z.T


def log_mass(x: Tensor, V: Tensor, W: Tensor, b: Tensor, c: Tensor, sigma: float) -> Tensor:
    r"""The model's log p up to a constant, by the sum over all z."""
    return with_hidden(x, V, W, b, c, sigma).logsumexp(1)


def slope(x: Tensor, *model: Tensor | float) -> Tensor:
    r"""Its gradient in x, by automatic differentiation, which can be differentiated again."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(log_mass(x, *model).sum(), x, create_graph=True)[0]


def curvature(x: Tensor, *model: Tensor | float) -> Tensor:
    r"""The Hessian of log p in x of each sample, by automatic differentiation, shape (n, d, d)."""
    x = x.detach().requires_grad_()
    psi = torch.autograd.grad(log_mass(x, *model).sum(), x, create_graph=True)[0]
    rows = [torch.autograd.grad(p.sum(), x, create_graph=True)[0] for p in psi.T]
    return torch.stack(rows, 1)


def some(t: Trial, d: int, m: int, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""V, W, b and c of a model, none of the biases near 0."""
    b, c = (u * (t.rand(len(u)) - 0.5).sign() for u in (t.rand(d, low=1, high=2), t.rand(k) + 0.5))
    return t.randn(m, d), 1.5 * t.randn(k, m), b, c


def width(t: Trial) -> float:
    r"""A σ that differs from its square, from 1 and from ½."""
    return float(t.rand(1, low=0.65, high=0.8) if t.rand(1) < 0.5 else t.rand(1, low=1.3, high=1.6))


def models(t: Trial) -> list[tuple[int, int, int, int]]:
    r"""Samples and sizes d, m, k of two rounds: all unequal, and all equal, where a transposed matrix fits."""
    (n, other), (d, same) = t.order(4)[:2] + 6, t.order(2) + 4
    m, k = (d + 1, d + 2) if t.rand(1) < 0.5 else (d - 1, d + 1)
    return [(int(n), int(d), int(m), int(k)), (int(other), *[int(same)] * 3)]


# ------------------------------------------------------------------------------------------------ exercise 1


def softplus(t: Trial, f: Callable, sigmoid: Callable) -> None:
    for (n,) in t.cases((5, 9)):
        near, far = 3 * t.randn(n), t.rand(n, low=150, high=1000)
        u = torch.cat([near, far, -far, near.new_zeros(1)])[t.order(3 * n + 1)]
        S, s = np.logaddexp(0, u.numpy()), expit(u.numpy())
        slopes = {"S": s, "s": expit(u.numpy()) * expit(-u.numpy())}
        for letter, answer, right, likely, say in (
            (
                "S",
                f,
                S,
                {
                    "max(u, 0) has a kink; softplus is smooth, S(0) = log 2": u.clamp(min=0),
                    "this is s, its slope": torch.as_tensor(s),
                    "the sign of u: this is S(−u) = S(u) − u": torch.as_tensor(S) - u,
                    "the sign: −log s(−u), not log s(−u)": -torch.as_tensor(S),
                    "the logarithm to base 2 is taken": torch.as_tensor(S) / np.log(2),
                    "where u > 0, u has to be added to log(1 + e⁻ᵘ)": (
                        torch.as_tensor(S) - u.clamp(min=0)
                    ),
                },
                "log(1 + eᵘ) for u ≤ 0 and u + log(1 + e⁻ᵘ) for u ≥ 0",
            ),
            (
                "s",
                sigmoid,
                s,
                {
                    "the sign of u: s(u) grows from 0 to 1": 1 - torch.as_tensor(s),
                    "s runs from 0 to 1, tanh from −1 to 1": u.tanh(),
                    "this is s(2u)": torch.as_tensor(expit(2 * u.numpy())),
                    "this is the derivative s(1 − s)": torch.as_tensor(slopes["s"]),
                },
                "eᵘ/(1 + eᵘ) for u ≤ 0 and 1/(1 + e⁻ᵘ) for u ≥ 0",
            ),
        ):
            right = torch.as_tensor(right)
            came = t.run(answer, u, untouched="u stays as it was")
            t.shape(f"{letter} has a number for each of u", came, len(u), mistake="entry by entry")
            small = u.abs() < 30
            t.value(
                f"{letter}(u) is right where eᵘ is no large number",
                came[small],
                right[small],
                mistakes={w: g[small] for w, g in likely.items()},
                mistake=say,
            )
            single = u.float().requires_grad_()
            came = t.run(answer, single)
            t.value(
                f"{letter}(u) is right up to |u| = 1000, in float32",
                came,
                right,
                mistake="eᵘ leaves the range of float32 at u = 89: no exponent may be above 0",
            )
            rise = torch.as_tensor(slopes[letter])
            seen = "the slope cannot be had: a detach() or float() cuts the gradient off"
            t.holds(
                f"{letter} can be differentiated",
                came.requires_grad,
                expected="a gradient",
                came="none",
                mistake=seen,
                stop=True,
            )
            first = torch.autograd.grad(came.sum(), single, create_graph=True)[0]
            is_zero = u == 0
            t.value(
                f"its slope {letter}′ is right where u ≠ 0, and never NaN",
                first[~is_zero],
                rise[~is_zero],
                mistakes={
                    "torch.where runs both branches, and 0 · ∞ in the one that is not taken is NaN: "
                    "clamp what goes into each": bool(first.isnan().any())
                },
                mistake="another derivative: part of the answer is detached, or rounded",
            )
            t.value(
                f"its slope {letter}′ is right at u = 0",
                first[is_zero],
                rise[is_zero],
                mistake="max(u, 0) and |u| have a kink at 0, where torch takes one of their slopes: "
                "let each branch see its own u, clamped",
            )
            if letter == "S":
                bend = torch.as_tensor(slopes["s"])
                second = [torch.zeros(1)]
                if first.requires_grad:
                    second = torch.autograd.grad(first.sum(), single)
                t.value(
                    "the slope of S can itself be differentiated, to s(1 − s)",
                    second[0],
                    bend,
                    mistakes={
                        "torch.logaddexp has no second derivative where eᵘ is 0 in float32": bool(
                            second[0].isnan().any()
                        )
                    },
                    mistake="score matching differentiates twice; nothing may be detached",
                )


# ------------------------------------------------------------------------------------------------ exercise 2


def log_p(t: Trial, f: Callable) -> None:
    for n, d, m, k in models(t):
        V, W, b, c = (p.requires_grad_() for p in some(t, d, m, k))
        x, sigma = t.randn(n, d), width(t)
        came = t.run(f, x, V, W, b, c, sigma, untouched=STAY)
        t.shape("a number for each sample", came, n, mistake="sum over pixels, not over samples")
        right = log_mass(x, V, W, b, c, sigma)
        parabola, linear = x.square().sum(1) / (2 * sigma**2), x @ b
        h = gate(x @ V.T)
        a = h @ W.T + c
        rest = right - linear + parabola
        square = d == k

        def net(u: Tensor, linear: Tensor = linear, parabola: Tensor = parabola) -> Tensor:
            return linear - parabola + torch.logaddexp(u, torch.zeros_like(u)).sum(1)

        t.value(
            "it is the log of the sum over all z of exp(log p(x, z))",
            came,
            right,
            mistakes={
                "this is the energy, −log p": -right,
                "this is p; its log is asked for": right.exp(),
                "σ has to be squared": right + parabola - parabola * sigma,
                "the factor ½ of the parabola is missing": right - parabola,
                "the parabola is missing": right + parabola,
                "the parabola has a minus sign": right + 2 * parabola,
                "bᵀx is missing": right - linear,
                "the sign of bᵀx": right - 2 * linear,
                "the bias c is missing": net(h @ W.T),
                "c stands inside of S": net(h @ W.T) + c.sum(),
                "g(x) = s(Vx) is missing: W sees s(Vx), not Vx": net(x @ V.T @ W.T + c),
                "g(x) is s(Vx), not S(Vx)": net(torch.logaddexp(x @ V.T, 0 * x @ V.T) @ W.T + c),
                "g(x) is s(Vx), not tanh(Vx)": net((x @ V.T).tanh() @ W.T + c),
                "each hidden unit has an S of its own: first S, then the sum": net(
                    a.sum(1, keepdim=True)
                ),
                "S is softplus; s is its slope": linear - parabola + gate(a).sum(1),
                "S is smooth; max(u, 0) is not": linear - parabola + a.clamp(min=0).sum(1),
                "z = 0 counts too: log(1 + eᵘ), not u": linear - parabola + a.sum(1),
                "the sum over the hidden units is asked for, not their mean": (
                    linear - parabola + rest / k
                ),
                "the sign of S": linear - parabola - rest,
                "V is transposed: its rows are the filters": (
                    net(gate(x @ V) @ W.T + c) if square else False
                ),
                "W is transposed: its rows belong to the hidden units": (
                    net(h @ W + c) if square else False
                ),
                "a constant is added: leave it out, nobody knows Z": bool(
                    (came - right).std() < 1e-9
                ),
            },
            mistake="−‖x‖²/(2σ²) + bᵀx + Σ S(w_kᵀ s(Vx) + c_k)",
        )
        t.gradient(
            "its gradient in V, W, b and c, by automatic differentiation",
            came,
            right,
            V,
            W,
            b,
            c,
            mistake="what is detached does not learn",
        )
        large = 1000 * x
        t.value(
            "values a thousand times as large give finite numbers",
            t.run(f, large, V, 1000 * W, b, 1000 * c, sigma),
            log_mass(large, V, 1000 * W, b, 1000 * c, sigma),
            tol=1e-9,
            mistake="eᵘ leaves the range of numbers: use your softplus and sigmoid",
        )


# ------------------------------------------------------------------------------------------------ exercise 3


def score(t: Trial, f: Callable) -> None:
    for n, d, m, k in models(t):
        V, W, b, c = (p.requires_grad_() for p in some(t, d, m, k))
        x, sigma = t.randn(n, d), width(t)
        came = t.run(f, x, V, W, b, c, sigma, untouched=STAY)
        t.shape("the shape of x", came, n, d, mistake="one number for each pixel of each sample")
        right = slope(x, V, W, b, c, sigma)
        h, on = gate(x @ V.T), gate(gate(x @ V.T) @ W.T + c)
        pull, h1 = x / sigma**2, h * (1 - h)
        net = right - b + pull
        square = d == m == k

        def through(on: Tensor, h1: Tensor = h1, W: Tensor = W, V: Tensor = V) -> Tensor:
            return b - pull + (on @ W * h1) @ V  # noqa: B023

        t.value(
            "it is the gradient of log p in x, by automatic differentiation",
            came,
            right,
            mistakes={
                "this is the gradient of the energy: the sign is turned around": -right,
                "σ has to be squared": right + pull - pull * sigma,
                "the parabola has the factor ½, so its slope has none": right + pull / 2,
                "the slope −x/σ² of the parabola is missing": right + pull,
                "the sign of x/σ²": right + 2 * pull,
                "the slope of bᵀx is b": right - b,
                "b is no part of it twice": right + b,
                "the derivative s(1 − s) of g is missing": through(on, torch.ones_like(h1)),
                "the derivative of s is s(1 − s), not s": through(on, h),
                "s(1 − s) is multiplied twice": through(on, h1.square()),
                "the derivative of S is s, not s(1 − s)": through(on * (1 - on)),
                "the derivative s of S is missing": through(torch.ones_like(on)),
                "the bias c is missing": through(gate(h @ W.T)),
                "the chain rule ends with V": (b - pull + on @ W * h1) if d == m else False,
                "this is s of all units together": through(
                    gate((h @ W.T + c).sum(1, keepdim=True)).expand_as(on)
                ),
                "W is transposed": through(on, W=W.T) if square else False,
                "V is transposed": through(on, V=V.T) if square else False,
                "each sample has a gradient of its own, without a mean over them": right / n,
                "the sign of the network's part": right - 2 * net,
                "the score is a gradient in x, not divided by its length": (
                    right / right.norm(dim=1, keepdim=True)
                ),
            },
            mistake="−x/σ² + b + Vᵀ (s′(Vx) · Wᵀ s(W s(Vx) + c))",
        )
        t.gradient(
            "it can be differentiated in V, W, b and c",
            came,
            right,
            V,
            W,
            b,
            c,
            mistake="with torch.autograd.grad that takes create_graph=True",
        )


# ------------------------------------------------------------------------------------------------ exercise 4


def score_matching_loss(t: Trial, f: Callable, hessian_trace: Callable) -> None:
    for n, d, m, k in models(t):
        V, W, b, c = (p.requires_grad_() for p in some(t, d, m, k))
        x, sigma = t.randn(n, d), width(t)
        model = V, W, b, c, sigma
        came = t.run(hessian_trace, x, *model, untouched=STAY)
        t.shape("a trace for each sample", came, n, mistake="sum over pixels, not over samples")
        H = curvature(x, *model)
        trace = H.diagonal(dim1=1, dim2=2).sum(1)
        h = gate(x @ V.T)
        h1, on = h * (1 - h), gate(h @ W.T + c)
        flat, lengths, slopes = d / sigma**2, V.square().sum(1), on * (1 - on)
        bent = (h1 * (1 - 2 * h) * (on @ W)) @ lengths
        A = torch.einsum("kj,nj,jd->nkd", W, h1, V)
        turned = (slopes * A.square().sum(2)).sum(1)
        own = (slopes * (torch.einsum("kj,nj->nkj", W, h1).square() @ lengths)).sum(1)
        t.value(
            "it is the sum of the second derivatives of log p, by automatic differentiation",
            came,
            trace,
            tol=1e-6,
            mistakes={
                "every pixel has −1/σ²: their sum is −d/σ²": trace + flat - flat / d,
                "the curvature −d/σ² of the parabola is missing": trace + flat,
                "the sign of d/σ²": trace + 2 * flat,
                "σ has to be squared": trace + flat - d / sigma,
                "s(Vx) is bent too: the part with s″ is missing": trace - bent,
                "the sign of s″ = s(1 − s)(1 − 2s)": trace - 2 * bent,
                "s″ = s(1 − s)(1 − 2s); the factor 1 − 2s is missing": (
                    trace - bent + (h1 * (on @ W)) @ lengths
                ),
                "the part with S″ is missing: the slope of s(w_kᵀ g + c_k)": trace - turned,
                "S″ = s(1 − s), not s": trace - turned + (on * A.square().sum(2)).sum(1),
                "the pairs j ≠ l of features count too: square the sum, do not sum the squares": (
                    trace - turned + own
                ),
                "the length of Σ_j W_kj s′_j v_j has to be squared": (
                    trace - turned + (slopes * A.norm(dim=2)).sum(1)
                ),
                "the lengths of the filters have to be squared": (
                    trace - bent + (h1 * (1 - 2 * h) * (on @ W)) @ V.norm(dim=1)
                ),
                "all entries of the Hessian are summed; the trace has its diagonal alone": H.sum(
                    (1, 2)
                ),
                "first derivatives are summed": slope(x, *model).sum(1),
                "second derivatives are summed, not squared": H.square().sum((1, 2)),
                "the sign of the whole": -trace,
                "the trace is a sum, not a mean over pixels": trace / d,
            },
            mistake="−d/σ² + Σ_j ‖v_j‖² s″_j (Wᵀp)_j + Σ_k p_k(1 − p_k) ‖Σ_j W_kj s′_j v_j‖²",
        )
        t.gradient(
            "the trace can be differentiated in V, W and c",
            came,
            trace,
            V,
            W,
            c,
            mistake="with torch.autograd.grad that takes create_graph=True",
        )
        came = t.run(f, x, *model, untouched=STAY)
        t.number("the loss", came, mistake="the mean over the samples is asked for")
        half = slope(x, *model).square().sum(1) / 2
        right = (half + trace).mean()
        t.value(
            "the loss is the mean of ½‖score‖² + trace",
            came,
            right,
            tol=1e-6,
            mistakes={
                "the factor ½ of ‖score‖² is missing": (2 * half + trace).mean(),
                "the trace is added": (half - trace).mean(),
                "the sign of the whole: it is made small": -right,
                "the trace is missing": half.mean(),
                "‖score‖² is missing": trace.mean(),
                "the mean over the samples is asked for, not their sum": n * right,
                "it is a sum over pixels, not a mean": right / d,
                "‖score‖² is a sum over pixels, not a mean": (half / d + trace).mean(),
                "the norm has to be squared": ((2 * half).sqrt() / 2 + trace).mean(),
                "the trace is not multiplied by ½": (half + trace / 2).mean(),
                "each sample's score is squared before the mean is taken": (
                    slope(x, *model).mean(0).square().sum() / 2 + trace.mean()
                ),
            },
            mistake="½ of the squared length of the score, plus the trace, and the mean of it",
        )
        t.gradient(
            "the loss can be differentiated in V, W, b and c",
            came,
            right,
            V,
            W,
            b,
            c,
            mistake="both of its parts learn",
        )


# ------------------------------------------------------------------------------------------------ exercise 5


def symmetric(theta: Tensor, mask: Tensor) -> Tensor:
    r"""The symmetric matrix whose upper free entries are θ, row by row."""
    rows, columns = mask.triu().nonzero(as_tuple=True)
    half = torch.zeros(mask.shape, dtype=theta.dtype).index_put((rows, columns), theta)
    return half + half.T - half.diagonal().diag()


def matched(C: Tensor, mask: Tensor) -> Tensor:
    r"""The symmetric Λ with the mask's zeros at the lowest point of the mean of ½‖Λ(x − μ)‖² − tr Λ.

    It is a parabola in the free entries: its gradient at 0 and its Hessian, by automatic differentiation, tell where.
    """

    def loss(theta: Tensor) -> Tensor:
        Lambda = symmetric(theta, mask)
        return (Lambda @ C @ Lambda).trace() / 2 - Lambda.trace()

    zero = torch.zeros(int(mask.triu().sum()), dtype=C.dtype)
    gradient = torch.autograd.functional.jacobian(loss, zero)
    bends = torch.autograd.functional.hessian(loss, zero)
    return symmetric(torch.linalg.solve(bends, -gradient), mask)


def lifted(Lambda: Tensor, C: Tensor) -> Tensor:
    r"""With the same number on its whole diagonal, so that no direction varies more than the data do."""
    least = 1 / torch.linalg.eigvalsh(C)[-1]
    short = (least - torch.linalg.eigvalsh(Lambda)[0]).clamp(min=0)
    return Lambda + short * torch.eye(len(C)).to(C)


def patch(t: Trial, d: int) -> Tensor:
    r"""A symmetric mask with a true diagonal, in which about half of the pairs are free, and not all."""
    free = t.rand(d, d) < 0.5
    free[0, 1:3] = torch.tensor([True, False])
    return free.triu(1) | free.triu(1).T | torch.eye(d, dtype=torch.bool)


def agreeing(t: Trial, n: int, C: Tensor, mean: Tensor) -> Tensor:
    r"""Samples whose mean and covariance are exactly these."""
    x = t.randn(n, len(C))
    x = x - x.mean(0)
    own, wanted = (torch.linalg.cholesky(c) for c in (x.T @ x / n, C))
    return mean + x @ torch.linalg.inv(own).T @ wanted.T


def misfit(t: Trial, n: int, mean: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Samples, a mask that does not fit them, their covariance, and a Λ so small somewhere that it has to be lifted.

    About a third of all draws are like this.
    """
    d = len(mean)
    while True:
        mask, x = patch(t, d), mean + t.randn(n, d) @ (torch.eye(d).to(mean) + 0.4 * t.randn(d, d))
        C = (x - x.mean(0)).T @ (x - x.mean(0)) / n
        Lambda = matched(C, mask)
        if torch.linalg.eigvalsh(Lambda)[0] < 0.8 / torch.linalg.eigvalsh(C)[-1]:
            return x, mask, C, Lambda


def fit_precision(t: Trial, f: Callable, whiten: Callable) -> None:
    for n, d in t.cases((40, 60), (4, 6)):
        mask, mean = patch(t, d), 1 + t.rand(d)
        known = mask * t.rand(d, d, low=-1, high=1)
        known = known + known.T
        known = known + (0.5 - torch.linalg.eigvalsh(known)[0]) * torch.eye(d).to(known)
        exact = agreeing(t, n, torch.linalg.inv(known), mean)
        answer = t.run(f, exact, mask, untouched="x and the mask stay as they were")
        mu, Lambda = t.parts(answer, "mean", "Lambda")
        t.shape("the mean has a number for each pixel", mu, d)
        t.value("it is the mean of each pixel", mu, mean, mistake="x.mean(0)")
        t.shape("Λ has a number for each pair of pixels", Lambda, d, d)
        C, raw = torch.linalg.inv(known), exact.T @ exact / n
        likely = {
            "this is the covariance; Λ is more like its inverse": C,
            "½ (ΛC + CΛ), not ΛC + CΛ, is the gradient's part": known / 2,
            "the gradient is ½ (ΛC + CΛ) − I: with ¼ in place of ½, Λ is twice as large": 2 * known,
            "C divides by n, not by n − 1": known * (n - 1) / n,
            "C is a mean over the samples": known / n,
            "the sign of Λ": -known,
            "neighbors are correlated: Λ has entries beside its diagonal": known.diag().diag(),
            "these are the inverse variances of single pixels, without their neighbors": (
                (1 / C.diagonal()).diag()
            ),
        }
        t.value(
            "data whose covariance is exactly the inverse of a Λ with these zeros give this Λ",
            Lambda,
            known,
            tol=1e-4,
            mistakes={
                "the mean has to be subtracted before products are taken": lifted(
                    matched(raw, mask), raw
                ),
                **{
                    say: any(
                        torch.allclose(Lambda, g, atol=1e-4) for g in (guess, lifted(guess, C))
                    )
                    for say, guess in likely.items()
                },
            },
            mistake="solve ½ (ΛC + CΛ) = I for the free entries",
        )
        x, mask, C, bare = misfit(t, n, mean)
        top = torch.linalg.eigvalsh(C)[-1]
        mu, Lambda = t.parts(t.run(f, x, mask), "mean", "Lambda")
        right, P = lifted(bare, C), torch.linalg.inv(C)
        t.holds(
            "Λ is 0 where the mask is False",
            not Lambda[~mask].any(),
            expected="zeros only",
            came=f"{int((Lambda[~mask] != 0).sum())} of {int((~mask).sum())} that are not 0",
            mistakes={
                "this is C⁻¹: the mask has been forgotten": bool(
                    (Lambda - Lambda.diag().diag() - P + P.diag().diag()).abs().max() < 1e-3
                )
            },
            mistake="only the free entries may change",
        )
        t.value(
            "Λ is symmetric",
            Lambda,
            Lambda.T,
            tol=1e-6,
            mistake="ΛC = I, solved row by row, is not symmetric; ½ (ΛC + CΛ) is",
        )
        least = torch.linalg.eigvalsh((Lambda + Lambda.T) / 2)[0]
        t.value(
            "the smallest eigenvalue of Λ is one over the largest of C, where it would be smaller",
            least * top,
            1.0,
            tol=1e-3,
            mistakes={
                "nothing makes Λ positive by itself: add the same number to its whole diagonal": bool(
                    least < 0.9 / top
                )
            },
            mistake="add what is missing, no more: 1/λ_max(C) less the smallest eigenvalue",
        )
        t.value(
            "its other entries make the score-matching loss least, by automatic differentiation",
            Lambda - Lambda.diag().diag(),
            right - right.diag().diag(),
            tol=1e-3,
            mistakes={
                "zeros cannot be cut into C⁻¹: what is left is no minimum": mask * P
                - P.diag().diag(),
                "zeros belong into Λ, not into C": (
                    (inverse := torch.linalg.pinv(mask * C)) * mask - inverse.diag().diag()
                ),
            },
            mistake="solve ½ (ΛC + CΛ) = I for the free entries alone, and leave the others 0",
        )
        root = torch.as_tensor(sqrtm(right.numpy()).real)
        z = t.run(whiten, x, mu, right, untouched="x, the mean and Λ stay as they were")
        t.shape("whitened patches have the shape of x", z, n, d)
        at = x - mu
        values, axes = torch.linalg.eigh(right)
        L = torch.linalg.cholesky(right)
        t.value(
            "whitening multiplies x − μ by the symmetric square root of Λ",
            z,
            at @ root,
            tol=1e-6,
            mistakes={
                "the mean has to be subtracted": x @ root,
                "this is Λ (x − μ); the root of Λ is asked for": at @ right,
                "Λ^(1/2), not Λ^(−1/2): Λ is the inverse of a covariance": (
                    at @ torch.linalg.inv(root)
                ),
                "the Cholesky factor whitens, and turns the patches besides": at @ L,
                "the transposed Cholesky factor whitens in no case": at @ L.T,
                "U D^(1/2) Uᵀ: without the last Uᵀ patches stay turned to the eigenvectors": bool(
                    torch.allclose(z.abs(), (at @ axes * values.sqrt()).abs(), atol=1e-6)
                ),
                "U D^(1/2) Uᵀ: the eigenvectors are the columns of U": (
                    at @ (axes.T * values.sqrt()) @ axes
                ),
                "the root of the matrix, not of its entries": at @ right.clamp(min=0).sqrt(),
                "the roots of the eigenvalues are missing": at @ (axes * values) @ axes.T,
            },
            mistake="U D^(1/2) Uᵀ from the eigenvalues D and eigenvectors U of Λ",
        )


# ------------------------------------------------------------------------------------------------ exercise 6


def clusters(t: Trial, n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Two clouds, the first fifth from one of them; others from both, and the true score there."""
    way, mean = t.randn(d), t.randn(d)
    centers = mean + 1.3 * way / way.norm() * torch.tensor([[1.0], [-1.0]]).to(way)

    def draw(which: Tensor) -> Tensor:
        return centers[which] + 0.6 * t.randn(len(which), d)

    first = (t.rand(n) < 0.5).long()
    first[: n // 5] = 0
    x, y = draw(first), draw((t.rand(500) < 0.5).long()).requires_grad_()
    near = -torch.stack([(y - center).square().sum(1) for center in centers]) / (2 * 0.6**2)
    return x, y.detach(), torch.autograd.grad(near.logsumexp(0).sum(), y)[0]


def contest(t: Trial, n: int, other: int) -> tuple[Tensor, Tensor, float, dict[str, float]]:
    r"""Numbers a and b, the share of the pairs in which a is above b, and what mistakes would make of it.

    They are drawn anew where one mistake could be taken for another.
    """
    while True:
        a, b = t.randn(n).round(decimals=1) + 0.7, t.randn(other)
        b[: other // 2] = a[: other // 2]
        pairs, few = list(product(a.tolist(), b.tolist())), min(n, other)
        above = sum(p > q for p, q in pairs) / len(pairs)
        ties = sum(p == q for p, q in pairs) / len(pairs)
        right = above + ties / 2
        likely = {
            "ties count half": above,
            "ties count half, not whole": above + ties,
            "a is to be the larger one": 1 - right,
            "a share lies between 0 and 1, it is no percentage": 100 * right,
            "the share of pairs is asked for, not their number": len(pairs) * right,
            "every number of a is compared with every one of b": float(
                (a[:few] > b[:few]).double().mean()
            ),
            "this compares with a single threshold": float(
                ((a > 0).double().mean() + (b <= 0).double().mean()) / 2
            ),
            "this compares the means": float(a.mean() > b.mean()),
        }
        if torch.tensor([right, *likely.values()]).sort().values.diff().min() > 0.002:
            return a, b, right, likely


def train(t: Trial, f: Callable, auc: Callable) -> None:
    for n, other in t.cases((7, 12), (5, 9)):
        a, b, right, likely = contest(t, n, other)
        t.value(
            "auc is the share of pairs in which a is larger, ties counted half",
            float(t.run(auc, a, b, untouched="a and b stay as they were")),
            right,
            mistakes=likely,
            mistake="compare each number of a with each of b",
        )
    for last, (d, m) in enumerate(t.cases((2, 3), (6, 8))):
        k = m - 1
        sigma = float(t.rand(1, low=0.78, high=0.86))
        x, y, true = clusters(t, 500, d)
        found = t.run(f, x, sigma, m, k, 1, t.rng(1), untouched="x stays as it was")
        parts = t.parts(found, *NAMES)
        wanted = [(m, d), (k, m), (d,), (k,)]
        shapes = [tuple(p.shape) if isinstance(p, Tensor) else () for p in parts]
        t.holds(
            "V, W, b and c have the shapes of a model with m features and k hidden units",
            shapes == wanted,
            expected=", ".join(map(str, wanted)),
            came=", ".join(map(str, shapes)),
            mistake="V is m × d, W is k × m; b has d numbers and c has k",
            stop=True,
        )
        t.draws(
            lambda g: torch.cat(
                [p.detach().flatten() for p in f(x, sigma, m, k, 3, g)]  # noqa: B023
            )
        )
        later = t.run(f, x, sigma, m, k, 12, t.rng(1))
        still = [
            name
            for name, p, q in zip(NAMES, parts, later)
            if (p.detach() - q.detach()).abs().max() < 1e-7
        ]
        t.holds(
            "all four go on learning between the first step and the twelfth",
            not still,
            expected="changes in V, W, b and c",
            came=f"none in {', '.join(still)}",
            mistakes={"the loop runs n_steps times": len(still) == 4},
            mistake="hand all four to the optimizer, with requires_grad_()",
        )
        wider = t.run(f, x, 2 * sigma, m, k, 12, t.rng(1))
        t.holds(
            "another σ leads to other weights",
            (later[1] - wider[1]).abs().max() > 1e-7,
            expected="W that depends on σ",
            came="the same W for σ and for 2σ",
            mistake="the model has the σ that is handed in",
        )
        if not last:
            continue
        V, W, b, c = (p.detach() for p in t.run(f, x, sigma, m, k, 120, t.rng()))
        t.finite(
            "after 120 steps all numbers are finite",
            torch.cat([p.flatten() for p in (V, W, b, c)]),
            mistake="the step size is too large, or the loss is climbed, which has no top",
        )
        rows = torch.cdist(V, V) + torch.eye(m).to(V)
        t.holds(
            "no two filters are the same",
            rows.min() > 1e-3,
            expected="rows of V that differ",
            came="two that are equal",
            mistake="units that start alike stay alike: start V and W from random numbers",
        )
        came = slope(y, V, W, b, c, sigma).detach()
        plain = true + y / sigma**2
        off, gap = (float(u.square().sum(1).mean()) for u in (came - true, plain - plain.mean(0)))
        t.holds(
            "after 120 steps its score is nearer to the true one than that of any Gaussian with this σ",
            off < 0.75 * gap,
            expected=f"a mean squared distance below {0.75 * gap:.3g}",
            came=f"{off:.3g}",
            mistake="a longer step, a start at b = mean/σ², batches from all of x; and down the loss, not up",
        )
        size, right = (float(u.square().sum(1).mean()) for u in (came, true))
        t.holds(
            "and it is about as long as the true one",
            size > 0.42 * right,
            expected=f"a mean square near {right:.3g}",
            came=f"{size:.3g}",
            mistake="without the trace, the loss is least where log p is flat",
        )
