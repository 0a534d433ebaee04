r"""Assignment 3, sparse coding and dictionary learning: shrinkage, ISTA, FISTA, one atom's update, ReLU layers."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from lectool.checks.trial import Trial

__all__ = ["distance", "fista", "ista_step", "relu_layer", "shrink", "update_atom"]


def lowest(F: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    r"""Where a function with one valley is least, entry by entry: of three parts the one that cannot hold it goes."""
    for _ in range(60):
        third = (high - low) / 3
        left, right = low + third, high - third
        falls = F(left) > F(right)
        low, high = torch.where(falls, left, low), torch.where(falls, high, right)
    return (low + high) / 2


def valley(a: Tensor, b: float, *, positive: bool = False) -> Tensor:
    r"""The u that makes ½(u − a)² + b|u| least, found by trying; among the u ≥ 0 where ``positive``."""
    wide = torch.full_like(a, float(a.abs().max()) + b + 1)
    return lowest(lambda u: (u - a) ** 2 / 2 + b * u.abs(), 0 * wide if positive else -wide, wide)


def error(x: Tensor, D: Tensor, z: Tensor) -> Tensor:
    r"""½‖x − Dz‖², all signals together."""
    return (x - z @ D.T).square().sum() / 2


def pixel_error(x: Tensor, z: Tensor, row: Tensor) -> Tensor:
    r"""What one pixel x, shape (n, 1), adds to it: a function of its row of D."""
    return error(x, row[None], z)


def slope(x: Tensor, D: Tensor, z: Tensor) -> Tensor:
    r"""Its gradient in z, by automatic differentiation."""
    z = z.detach().requires_grad_()
    return torch.autograd.grad(error(x, D, z), z, create_graph=True)[0]


def one_error(D: Tensor, x: Tensor, z: Tensor) -> Tensor:
    r"""½‖x − Dz‖² of one signal, as a function of x and z."""
    return error(x[None], D, z[None])


def steepest(D: Tensor) -> float:
    r"""The largest curvature of ½‖x − Dz‖² in z."""
    return float(torch.linalg.matrix_norm(D, 2)) ** 2


def cut(atoms: Tensor) -> Tensor:
    r"""Columns that are longer than 1, at length 1; the others as they are."""
    return atoms / atoms.norm(dim=0).clamp(min=1)


def sparse(t: Trial, n: int, k: int) -> Tensor:
    r"""Codes about half of whose entries are 0, the others at least 0.1 in size."""
    numbers = t.randn(n, k)
    return (numbers + 0.1 * numbers.sign()) * (t.rand(n, k) < 0.5)


def one_sided(z: Tensor, g: Tensor, b: float, h: float = 0.01) -> tuple[Tensor, Tensor]:
    r"""The slopes of g u + b|u| to the left and to the right of z: exact, since it is straight on both sides."""
    left, here, right = (g * u + b * u.abs() for u in (z - h, z, z + h))
    return (here - left) / h, (right - here) / h


def moved(x: Tensor, D: Tensor, lam: float, y: Tensor, at: Tensor | None = None) -> Tensor:
    r"""From y to the lowest point of λ|z| and a parabola that touches the error there, or has its slope at ``at``."""
    step = 1 / steepest(D)
    g = slope(x, D, y if at is None else at).detach()
    return valley(y - step * g, step * lam)


def ages(n: int) -> list[float]:
    r"""FISTA's t: 1, then each time the larger root of t² − t = (the last t)²."""
    found = [1.0]
    for _ in range(n - 1):
        found.append(float(np.roots([1, -1, -(found[-1] ** 2)]).max()))
    return found


def shrink(t: Trial, f: Callable) -> None:
    for n, k in t.cases((4, 7), (6, 9)):
        b = float(t.rand(1, low=0.5, high=1.5))
        a = b * t.rand(n, k, low=-2.5, high=2.5)
        z = t.run(f, a, b, untouched="a stays as it was")
        t.shape("z has the shape of a", z, n, k, mistake="every entry of a is shrunk by itself")
        inside, right = a.abs() <= b, valley(a, b)
        ends = a - b * a.sign()
        t.holds(
            "z is exactly 0 where |a| ≤ b",
            not z[inside].any(),
            expected="zeros only",
            came=f"{int((z[inside] != 0).sum())} of {int(inside.sum())} that are not 0",
            mistakes={
                "an entry must not cross 0: where |a| < b cut it off there": bool(
                    (z - ends)[inside].abs().max() < 1e-6
                ),
                "a square shrinks in proportion and makes no zeros; |z| takes b away": bool(
                    (z - a / (1 + b)).abs().max() < 1e-6
                ),
            },
            mistake="a small number is no zero; a code is sparse by its exact zeros",
        )
        t.value(
            "elsewhere it is the z with the least ½(z − a)² + b|z|, found by trying",
            z[~inside],
            right[~inside],
            mistakes={
                "what is left has to shrink too, by b": a[~inside],
                "negative entries shrink towards 0 as well, they do not vanish": right[
                    ~inside
                ].clamp(min=0),
                "the sign of a is lost": right[~inside].abs(),
                "it grows: b has to be taken away from |a|": (a + b * a.sign())[~inside],
                "the square has the factor ½, so the threshold is b": (a - b / 2 * a.sign())[
                    ~inside
                ],
                "the threshold is b as it is handed in": (a - a.sign())[~inside],
            },
            mistake="the size of each entry is reduced by b, and it keeps its sign",
        )


def distance(t: Trial, f: Callable, shrink: Callable) -> None:
    for n, k in t.cases((4, 7), (6, 9)):
        b = float(t.rand(1, low=0.5, high=1.5))
        z, g = sparse(t, n, k), b * t.rand(n, k, low=-2.5, high=2.5)
        came = t.run(f, z, g, b, untouched="z and g stay as they were")
        t.shape("one distance for each entry", came, n, k)
        before, after = one_sided(z, g, b)
        right = torch.maximum(before, -after).clamp(min=0)
        bent = z == 0
        t.value(
            "where z ≠ 0 it is the size of the one slope there",
            came[~bent],
            right[~bent],
            mistakes={
                "a distance has no sign": before[~bent],
                "the slope of b|z| is missing": g[~bent].abs(),
                "the slope of b|z| is −b where z is negative": (g + b)[~bent].abs(),
                "the slope of b|z| is added to g, not subtracted": (g - b * z.sign())[~bent].abs(),
                "only at 0 is there an interval": (g[~bent].abs() - b).clamp(min=0),
                "the slope of |z| is its sign, whatever its size": (g + b * z)[~bent].abs(),
            },
            mistake="the only slope is g + b · sign(z)",
        )
        t.value(
            "where z = 0 it is the distance from 0 to the interval of all slopes",
            came[bent],
            right[bent],
            mistakes={
                "at 0 the slopes of b|z| fill the interval from −b to b; sign(0) = 0 is only one of them": (
                    g[bent].abs()
                ),
                "where 0 lies inside of the interval its distance is 0": g[bent].abs() - b,
                "the nearest point of the interval counts, not its ends alone": (
                    (g[bent].abs() - b).abs()
                ),
                "this is the farthest end of the interval; the nearest is asked for": (
                    g[bent].abs() + b
                ),
            },
            mistake="the interval reaches from g − b to g + b",
        )
        a = b * t.rand(n, k, low=-2.5, high=2.5)
        best = t.run(shrink, a, b)
        at_best = t.run(f, best, best - a, b)
        t.value(
            "at your shrink(a, b), where g = z − a, it is 0",
            at_best,
            0.0,
            mistake="a minimum has the slope 0 among its slopes; your shrink goes elsewhere",
        )
        away = valley(a, b) + (move := 0.1 + t.rand(n, k))
        t.holds(
            "a step δ away from the minimum it is at least δ",
            (surplus := t.run(f, away, away - a, b) - move).min() > -1e-6,
            expected="no distance below δ",
            came=f"one that is {float(-surplus.min()):.3g} below",
            mistake="½(z − a)² curves by 1, so every step away from the minimum adds its length to the slope",
        )


def ista_step(t: Trial, f: Callable, step_size: Callable) -> None:
    for n, d, k in t.cases((3, 6), (5, 7), (8, 11)):
        D, x, z = t.randn(d, k), 2 * t.randn(n, d), sparse(t, n, k)
        L, squares = steepest(D), D.square().sum()
        t.value(
            "the step size is one over the largest curvature of the error",
            t.run(step_size, D, untouched="D stays as it was"),
            1 / L,
            tol=1e-7,
            mistakes={
                "this is L itself; the step is 1/L": L,
                "the largest singular value has to be squared: DᵀD counts, not D": L**-0.5,
                "these are all squares of D; one direction cannot be as steep as all together": (
                    1 / squares
                ),
                "this is the longest atom's curvature; several atoms together are steeper": (
                    1 / D.square().sum(0).max()
                ),
                "the error has the factor ½, so L has no 2": 1 / (2 * L),
                "twice as far: steps as long as 2/L no longer come to rest": 2 / L,
            },
            mistake="L is the largest eigenvalue of DᵀD; eigvalsh sorts from small to large",
        )
        lam, step = float(t.rand(1, low=0.5, high=1)), float(t.rand(1, low=0.3, high=0.7)) / L
        came = t.run(f, z, x, D, lam, step, untouched="z, x and D stay as they were")
        t.shape("z has a code for each signal", came, n, k, mistake="codes are rows")
        g = slope(x, D, z).detach()
        t.value(
            "it goes where slope · u + ‖u − z‖²/(2 step) + λ‖u‖₁ is least, found by trying",
            came,
            valley(z - step * g, step * lam),
            tol=1e-6,
            mistakes={
                "a step of this size needs the threshold step · λ": valley(z - step * g, lam),
                "down the slope, not up: the sign of the gradient": (
                    valley(z + step * g, step * lam)
                ),
                "the shrinking is missing": z - step * g,
                "first the step, then the shrinking": valley(z, step * lam) - step * g,
                "the gradient has to be multiplied by step": valley(z - g, step * lam),
                "take the step that is handed in, not another one": valley(z - g / L, lam / L),
                "the error has the factor ½, so its gradient has no 2": (
                    valley(z - 2 * step * g, step * lam)
                ),
                "z itself is missing; the gradient is subtracted from it": (
                    valley(-step * g, step * lam)
                ),
                "the gradient at z is asked for, not the one at 0": (
                    valley(z + step * x @ D, step * lam)
                ),
                "each signal is coded by itself, without a mean over them": (
                    valley(z - step * g / n, step * lam)
                ),
            },
            mistake="shrink(z − step · gradient, step · λ) with the gradient (Dz − x)ᵀD of each signal",
        )


def fista(t: Trial, f: Callable) -> None:
    for n, d, k in t.cases((3, 5), (5, 7), (9, 11)):
        D = t.randn(d, k)
        D, lam = D / D.norm(dim=0), float(t.rand(1, low=0.1, high=0.3))
        x = sparse(t, n, k) @ D.T + 0.1 * t.randn(n, d)
        codes = [t.run(f, x, D, lam, 1, untouched="x and D stay as they were")]
        t.shape("it returns a code for each signal", codes[0], n, k)
        zero = torch.zeros(n, k, dtype=x.dtype)
        t.value(
            "the first step is a plain one from 0",
            codes[0],
            moved(x, D, lam, zero),
            tol=1e-6,
            mistakes={"no step has been made: the loop runs n_steps times": zero},
            mistake="z₀ = 0, y₁ = z₀, and the step is ista_step with step_size(D)",
        )
        codes = [zero, codes[0], *(t.run(f, x, D, lam, m) for m in range(2, 8))]
        ts = list(zip(ages(7), ages(7)[1:]))

        pushed = {
            "": lambda a, b: (a - 1) / b,
            "this is ISTA, without momentum: the step has to start from y, and t has to grow": (
                lambda a, b: 0.0
            ),
            "the momentum points forward, along z − z_old": lambda a, b: (1 - a) / b,
            "t has to grow by its rule before it divides: (t − 1)/t_next": lambda a, b: (a - 1) / a,
            "the factor is (t − 1)/t_next, not t/t_next": lambda a, b: a / b,
            "the way is shortened by (t − 1)/t_next, not gone in full": lambda a, b: 1.0,
        }
        starts = {
            say: torch.cat([z + push(*t2) * (z - old) for z, old, t2 in zip(codes[1:], codes, ts)])
            for say, push in pushed.items()
        }
        signals, seen = x.repeat(len(ts), 1), torch.cat(codes[1:-1])
        guesses = {say: moved(signals, D, lam, y) for say, y in starts.items()}
        behind = moved(signals, D, lam, starts[""], at=seen)
        t.value(
            "each further step starts ahead of z, by (t − 1)/t_next of the way it came",
            torch.cat(codes[2:]),
            guesses.pop(""),
            tol=1e-6,
            mistakes={
                **guesses,
                "the gradient belongs to the point ahead, y, where the step starts": (behind),
                "all calls give the same code: the loop runs n_steps times": bool(
                    torch.equal(codes[1], codes[2])
                ),
            },
            mistake="y = z + (t − 1)/t_next · (z − z_old); return z, and not the point ahead",
        )
        judged = Lasso(alpha=lam / d, fit_intercept=False, tol=1e-10, max_iter=100_000)
        truth = torch.as_tensor(judged.fit(D.numpy(), x.T.numpy()).coef_)
        came = t.run(f, x, D, lam, 600)
        t.value(
            "600 steps come to the minimum that scikit-learn's Lasso finds",
            float(error(x, D, came) + lam * came.abs().sum()),
            float(error(x, D, truth) + lam * truth.abs().sum()),
            tol=1e-5,
            mistake="it stops too early: the loop runs n_steps times, however many they are",
        )


def update_atom(t: Trial, f: Callable, sums: Callable) -> None:
    for n, d, k in t.cases((50, 80), (4, 6), (7, 9)):
        z, lengths = sparse(t, n, k), torch.tensor([0.4, 3.0]).double().repeat(k)[t.order(k)]
        atoms = t.randn(d, k)
        atoms = atoms / atoms.norm(dim=0) * lengths
        x = z @ atoms.T + 0.05 * t.randn(n, d)
        D = 0.9 * atoms / lengths.clamp(min=1) + 0.05 * t.randn(d, k)
        came = t.run(sums, x, z, untouched="x and z stay as they were")
        A, B = t.parts(came, "A", "B")
        swapped = "A = Σ z zᵀ and B = Σ x zᵀ are swapped: A belongs to the codes alone"
        is_swapped = isinstance(A, Tensor) and A.shape == (d, k)
        t.shape(
            "A has a number for each pair of atoms",
            A,
            k,
            k,
            mistake=swapped if is_swapped else "A = Σ z zᵀ; codes are rows of z",
        )
        t.shape("B has the shape of D", B, d, k, mistake="B = Σ x zᵀ; signals are rows of x")
        pixel = partial(pixel_error, x[:, :1], z)
        right_A = torch.autograd.functional.hessian(pixel, D[0])
        zeros = torch.zeros_like(D).requires_grad_()
        right_B = -torch.autograd.grad(error(x, zeros, z), zeros)[0]
        t.value(
            "A is the curvature of ½ Σ ‖x − Dz‖² in D, by automatic differentiation",
            A,
            right_A,
            mistakes={
                "this is the mean over the signals; the sum is asked for": right_A / n,
                "products of different atoms count too": right_A.diag().diag(),
            },
            mistake="A = Σ z zᵀ over all signals",
        )
        t.value(
            "B is minus its gradient at D = 0",
            B,
            right_B,
            mistakes={
                "this is the mean over the signals; the sum is asked for": right_B / n,
                "this is minus Σ x zᵀ": -right_B,
            },
            mistake="B = Σ x zᵀ over all signals, each with its own code",
        )
        new, best = [], []
        for j in range(k):
            came = t.run(f, D, right_A, right_B, j, untouched="D, A and B stay as they were")
            t.shape(
                "it returns the whole dictionary", came, d, k, mistake="d × k, not the atom alone"
            )
            others = [i for i in range(k) if i != j]
            t.value(
                "all other atoms stay",
                came[:, others],
                D[:, others],
                mistake="only column j changes, and only it is cut to length 1",
            )
            rest = x - z[:, others] @ D[:, others].T
            new.append(came[:, j])
            best.append(torch.linalg.lstsq(z[:, j : j + 1], rest).solution[0])
        new, best = torch.stack(new, 1), torch.stack(best, 1)
        curve, length = right_A.diagonal(), best.norm(dim=0)
        for short, sentence, words in (
            (
                True,
                "an atom whose best value is shorter than 1 takes that value, by least squares",
                "D_j + (B_j − D A_j)/A_jj, with columns B_j and A_j",
            ),
            (
                False,
                "an atom whose best value is longer than 1 is cut to length 1",
                "the direction of D_j + (B_j − D A_j)/A_jj, with the length 1",
            ),
        ):
            of = (length < 1) == short
            full, old, c = best[:, of], D[:, of], curve[of]
            changes = {
                "this is the change alone; D_j has to be added": full - old,
                "the change has to be divided by A_jj": old + c * (full - old),
                "the sign of the change: B_j − D A_j": 2 * old - full,
            }
            t.value(
                sentence,
                new[:, of],
                cut(full),
                mistakes={
                    "an atom that is shorter than 1 stays so: divide by max(1, length)": (
                        full / length[of]
                    ),
                    "an atom must not be longer than 1: divide it by max(1, length)": full,
                    "the length is the root of the sum of squares": (
                        full / length[of].square().clamp(min=1)
                    ),
                    "the Euclidean length counts, not the sum of the sizes": (
                        full / full.abs().sum(0).clamp(min=1)
                    ),
                    "the whole atom is cut, and keeps its direction": full.clamp(-1, 1),
                    **{say: cut(atom) for say, atom in changes.items()},
                },
                mistake=words,
            )


def relu_layer(t: Trial, f: Callable, positive_step: Callable) -> None:
    for n, d, k in t.cases((4, 6), (5, 7), (8, 10)):
        D, x, z = t.randn(d, k).requires_grad_(), 2 * t.randn(n, d), sparse(t, n, k).abs()
        L = steepest(D.detach())
        lam, step = float(t.rand(1, low=0.5, high=1)), float(t.rand(1, low=0.4, high=0.9)) / L
        g = slope(x, D, z)
        a, b = (z - step * g).detach(), step * lam
        right = valley(a, b, positive=True)
        came = t.run(positive_step, z, x, D, lam, step, untouched="z, x and D stay as they were")
        t.shape("the step returns a code for each signal", came, n, k)
        t.value(
            "it goes to the best u ≥ 0 of slope · u + ‖u − z‖²/(2 step) + λ‖u‖₁, found by trying",
            came,
            right,
            mistakes={
                "the gradient is not squared": (z - step * g.square() - b).clamp(min=0),
                "codes must not be negative: what is below the threshold becomes 0": valley(a, b),
                "large negative entries become 0, not positive": valley(a, b).abs(),
                "first the threshold, then the ReLU": a.clamp(min=0) - b,
                "the threshold step · λ is missing": a.clamp(min=0),
                "the threshold is subtracted: the bias is negative": (a + b).clamp(min=0),
                "a step of this size needs the threshold step · λ": (a - lam).clamp(min=0),
                "down the slope, not up: the sign of the gradient": (z + step * g - b).clamp(min=0),
            },
            mistake="relu(z − step · gradient − step · λ)",
        )
        W, S, bias = t.parts(t.run(f, D, lam, step, untouched="D stays as it was"), "W", "S", "b")
        t.shape("W takes d pixels to k units", W, k, d, mistake="the rows of W belong to the units")
        t.shape("S takes k units to k units", S, k, k)
        t.shape("there is one bias for each unit", bias, k, mistake="b = −step · λ, k times")
        bends = torch.autograd.functional.hessian(partial(one_error, D.detach()), (x[0], z[0]))
        by_x, by_z = bends[1]  # how its gradient in z changes with x, and with z
        eye = torch.eye(k, dtype=x.dtype)
        t.value(
            "W is what the gradient step does with x, by automatic differentiation",
            W,
            -step * by_x,
            tol=1e-7,
            mistakes={
                "the step size is missing": -by_x,
                "the sign: x pulls the code towards the atoms that look like it": step * by_x,
            },
            mistake="write z − step · (Dz − x)ᵀD as a sum, and see what multiplies x",
        )
        t.value(
            "S is what it does with z",
            S,
            eye - step * by_z,
            tol=1e-7,
            mistakes={
                "the z from which the gradient is subtracted is missing: the identity": (
                    -step * by_z
                ),
                "active units inhibit those with similar atoms: the sign": eye + step * by_z,
                "the step size is missing": eye - by_z,
                "a single step from 0 needs no S, further ones do": eye,
            },
            mistake="write z − step · (Dz − x)ᵀD as a sum, and see what multiplies z",
        )
        t.value(
            "the bias is minus the threshold",
            bias,
            -b,
            mistakes={
                "the sign: a unit stays silent until its input exceeds the threshold": b,
                "the threshold of a step is step · λ": -lam,
            },
            mistake="b = −step · λ",
        )
        layer = torch.relu(x @ W.T + z @ S.T + bias)
        smooth = (z - step * g - b) * (right > 1e-7)
        t.gradient("the dictionary can learn through the layer", layer, smooth, D)
