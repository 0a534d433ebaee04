r"""Assignment 4, restricted Boltzmann machines: conditionals, free energy, Gibbs sampling, CD, PCD, ratings."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lectool.checks.machines import (
    all_ratings,
    fits,
    hidden,
    joint,
    log_mass,
    rounds,
    states,
    statistics,
    tally,
    transition,
    visible,
)
from lectool.checks.trial import Trial

__all__ = [
    "cd_gradient",
    "free_energy",
    "gibbs",
    "hidden_given_visible",
    "pcd_step",
    "ratings_gradient",
]

STAY = "v, W, b and c stay as they were"


def some(t: Trial, k: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""W, b and c of a machine, none of the biases near 0."""
    sizes = (1.5 * t.randn(k, d), t.rand(k, low=0.5, high=1.5), t.rand(d, low=0.5, high=1.5))
    return sizes[0], *(u * (t.rand(len(u)) - 0.5).sign() for u in sizes[1:])


def balanced(t: Trial, k: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""W, b and c of a machine whose units are often on and often off, and remember for a few steps."""
    W = t.rand(k, d, low=1.4, high=2.4) * (t.rand(k, d) - 0.5).sign()
    return W, 0.5 * t.randn(k) - W.sum(1) / 2, 0.5 * t.randn(d) - W.sum(0) / 2


def one_and_more(t: Trial) -> tuple[int, int]:
    r"""Numbers of rounds: a single one, whose effect is largest, and two or three."""
    return 1, 2 + int(t.order(2)[0])


def bits(t: Trial, n: int, d: int) -> Tensor:
    r"""Zeros and ones, as likely as each other."""
    return (t.rand(n, d) < 0.5).double()


def is_drawn(v: Tensor) -> bool:
    r"""Zeros and ones only; 1e-9 is left to whoever subtracts."""
    return bool(torch.minimum(v.abs(), (v - 1).abs()).max() < 1e-9)


def flat(t: Trial, answer: Any, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""The three parts of a gradient as one vector; the trial ends where they have other shapes."""
    t.parts(answer, "dW", "db", "dc")
    shapes = [tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in answer]
    wanted = [tuple(x.shape) for x in (W, b, c)]
    t.holds(
        "dW, db and dc have the shapes of W, b and c",
        shapes == wanted,
        expected=", ".join(map(str, wanted)),
        came=", ".join(map(str, shapes)),
        mistakes={
            "dW is transposed: h vᵀ has a row for each hidden unit": shapes[0] == wanted[0][::-1]
        },
        mistake="a mean over the samples, which are rows",
        stop=True,
    )
    return torch.cat([x.flatten() for x in answer])


def hidden_given_visible(t: Trial, f: Callable, visible_given_hidden: Callable) -> None:
    for (n, d), less in zip(t.cases((5, 9), (4, 6)), (0, 1)):  # a transposed square matrix fits
        k = d - less
        W, b, c = some(t, k, d)
        for answer, at, law, size, letter, other, ask, bias, swapped in (
            (f, bits(t, n, d), hidden, k, "h", "v", "b", "hidden", c),
            (visible_given_hidden, bits(t, n, k), visible, d, "v", "h", "c", "visible", b),
        ):
            own, across = (b, W) if letter == "h" else (c, W.T)
            came = t.run(answer, at, W, own, untouched=f"{other}, W and {ask} stay as they were")
            right = law(at, W, b, c)
            t.shape(
                f"a probability for each {bias} unit of each sample",
                came,
                n,
                size,
                mistake="samples are rows",
            )
            a = right.logit()
            square = W.T if less == 0 else W
            no_bias = {"b": 0 * b, "c": c} if letter == "h" else {"b": b, "c": 0 * c}
            likely = {
                f"the bias {ask} is missing": law(at, W, **no_bias),
                "W is transposed: it has a row for each hidden unit and a column for each visible one": (
                    law(at, square, b, c) if less == 0 else False
                ),
                f"the {bias} units have the bias {ask}": (
                    (at @ across.T + swapped).sigmoid() if less == 0 else False
                ),
                "the energy has the minus signs, so the sum goes into σ as it is": 1 - right,
                "hᵀWv counts each pair once, so there is no factor 2": (2 * a).sigmoid(),
                "this is the sum that goes into σ, not yet a probability": a,
                "units are 0 or 1, and their mean is σ, not tanh": a.tanh(),
                "the probabilities are asked for, not samples": is_drawn(came),
                "each unit decides by itself: σ, not a softmax over the units": bool(
                    (came.sum(1) - 1).abs().max() < 1e-6
                ),
            }
            t.value(
                f"p({letter} = 1 | {other}) is what the sum over all {letter} of exp(−E) gives",
                came,
                right,
                mistakes=likely,
                mistake=f"σ of the unit's bias and of its weights times {other}",
            )
            t.value(
                f"weights a thousand times as large make p({letter} = 1 | {other}) 0 or 1, and never NaN",
                t.run(answer, at, 1000 * W, 1000 * own),
                law(at, 1000 * W, 1000 * b, 1000 * c),
                mistake="e^a leaves the range of numbers; torch.sigmoid(a) does not",
            )


def free_energy(t: Trial, f: Callable, log_partition: Callable) -> None:
    for n, d, k in t.cases((5, 9), (4, 6), (2, 3)):
        W, b, c = (x.requires_grad_() for x in some(t, k, d))
        v = bits(t, n, d)
        came = t.run(f, v, W, b, c, untouched=STAY)
        t.shape(
            "a free energy for each sample", came, n, mistake="sum over units, not over samples"
        )
        mass = log_mass(v, W, b, c)
        with torch.no_grad():
            on, seen = v @ W.T + b, v @ c
            parts = torch.logaddexp(seen + log_mass(v, W, 0 * b, 0 * c), log_mass(v, W, b, 0 * c))
            means = hidden(v, W, b, c)
            guesses = {
                "the sign: F is minus the log of the sum over h": mass,
                "the visible units' own part, cᵀv, is missing": seen - mass,
                "the sign of cᵀv": 2 * seen - mass,
                "the bias b is missing": -log_mass(v, W, 0 * b, c),
                "unary factors multiply: e^(cᵀv) · e^(bᵀh), no sum of the two": -parts,
                "each hidden unit has a sum of its own, over h_j = 0 and 1; their logs are added": (
                    -seen - torch.logaddexp(0 * seen, on.sum(1))
                ),
                "the sum over h_j = 0 and 1 is 1 + e^a; the 1 is h_j = 0": -seen - on.sum(1),
                "all the hidden units' terms are added, no mean": -seen + (seen - mass) / k,
                "the term is log(1 + e^a), softplus; its slope is σ": -seen - on.sigmoid().sum(1),
                "softplus is smooth: log(1 + e^a), not max(a, 0)": -seen - on.clamp(min=0).sum(1),
                "the sign within softplus": -seen - torch.logaddexp(0 * on, -on).sum(1),
                "this is the energy at the means of h; the sum over all h is asked for": (
                    -seen - (on * means).sum(1)
                ),
                "the log is missing: this is e^(−F)": mass.exp(),
            }
        t.value(
            "F(v) is minus the log of the sum of exp(−E(v, h)) over all h",
            came,
            -mass,
            mistakes=guesses,
            mistake="−cᵀv minus the sum of log(1 + e^a) over the hidden units, with a = Wv + b",
        )
        t.gradient("its gradient in W, b and c is right", came, -mass, W, b, c)
        large = [1000 * x.detach() for x in (W, b, c)]
        t.value(
            "F stays a number where the weights are a thousand times as large",
            t.run(f, v, *large),
            -log_mass(v, *large),
            mistake="e^a leaves the range of numbers; torch.nn.functional.softplus does not",
        )
        came = t.run(log_partition, W, b, c, untouched="W, b and c stay as they were")
        t.number("log Z", came, mistake="a sum over all configurations")
        log_Z = log_mass(states(d), W, b, c).logsumexp(0)
        with torch.no_grad():
            h = states(k)
            wanted = {
                "the log is missing": log_Z.exp(),
                "the sign: log Z is plus the log of the sum": -log_Z,
                "the bias b is missing": log_mass(states(d), W, 0 * b, c).logsumexp(0),
                "the bias c is missing": log_mass(states(d), W, b, 0 * c).logsumexp(0),
                "the sum over all h is asked for, not their mean": log_Z - k * math.log(2),
                "the sum runs over the visible units too: each gives 1 + e^a, with a = Wᵀh + c": (
                    (h @ b).logsumexp(0)
                ),
                "this is the largest term; all h are to be summed": (
                    joint(states(d), h, W, b, c).logsumexp(0).max()
                ),
                "the sum over h, not over the hidden units one by one": (
                    joint(states(d), torch.eye(k).double(), W, b, c).logsumexp((0, 1))
                ),
            }
        t.value(
            "log Z is the log of the sum of exp(−E(v, h)) over all v and all h",
            came,
            log_Z,
            mistakes=wanted,
            mistake="logsumexp over all h of bᵀh plus the sum of log(1 + e^a), with a = Wᵀh + c",
        )
        t.gradient("the gradient of log Z in W, b and c is right", came, log_Z, W, b, c)
        t.value(
            "log Z stays a number where the weights are a thousand times as large",
            t.run(log_partition, *large),
            log_mass(states(d), *large).logsumexp(0),
            mistake="exp leaves the range of numbers; torch.logsumexp does not",
        )


def gibbs(t: Trial, f: Callable) -> None:
    for (d, k), n_steps in zip(t.cases((3, 4), (2, 3)), one_and_more(t)):
        judge_chains(t, f, d, k, n_steps)


def judge_chains(t: Trial, f: Callable, d: int, k: int, n_steps: int) -> None:
    r"""Where many chains from three states arrive."""
    W, b, c = balanced(t, k, d)
    V, groups = states(d), t.order(2**d)[:3]
    v = V[groups.repeat(7000)]
    came = t.run(f, v, W, b, c, n_steps, t.rng(), untouched=STAY)
    t.shape(
        "the visible units of each chain",
        came,
        *v.shape,
        mistake="return v, where the last round ends",
    )
    t.holds(
        "they are zeros and ones",
        is_drawn(came),
        expected="0 and 1",
        came="other numbers",
        mistakes={
            "the probabilities of the last round have to be drawn from": bool(
                ((came > 0) & (came < 1)).any()
            )
        },
        mistake="units are drawn: 1 with the probability p, else 0",
        stop=True,
    )
    counts, T = tally(came, 3), transition(V, W, b, c)
    table, H = joint(V, states(k), W, b, c), hidden(V, W, b, c)
    to_h, to_v = table.softmax(1), table.softmax(0).T
    by_means = joint(V, H, W, b, c).softmax(0).T
    round_h = joint(V, H.round(), W, b, c).softmax(0).T
    each = [len(came[g::3].unique(dim=0)) for g in range(3)]

    def after(law: Tensor, n: int = n_steps) -> bool:
        return fits(counts, rounds(law, n)[groups])

    t.holds(
        "v is distributed as n_steps rounds, h given v and v given h, make it, by enumeration",
        after(T),
        expected="the frequencies of all states",
        came="others",
        mistakes={
            "no round has been made: the chain does not move": torch.equal(came, v),
            "n_steps rounds are asked for, this is one": n_steps > 1 and after(T, 1),
            "n_steps rounds are asked for, this is one less": after(T, n_steps - 1),
            "n_steps rounds are asked for, this is one more": after(T, n_steps + 1),
            "every chain, and every unit, has a draw of its own": max(each) == 1,
            "the hidden units have to be drawn before the visible ones are asked, their means are no h": (
                after(by_means)
            ),
            "a unit is 1 with the probability p, it is not rounded": after(round_h),
            "h is 1 where a uniform number is below p, not above": after(to_h.flip(1) @ to_v),
            "v is 1 where a uniform number is below p, not above": after(T.flip(1)),
            "the chain starts at v that is handed in": (
                fits(counts, rounds(T, n_steps).mean(0).repeat(3, 1))
            ),
            "the chain starts at v that is handed in, not at zeros": (
                fits(counts, rounds(T, n_steps)[:1].repeat(3, 1))
            ),
            "the next round goes on from v, it does not start again": (
                n_steps > 1 and fits(counts, T[groups])
            ),
        },
        mistake="each round draws all h given v, then all v given h, each unit with a draw of its own",
    )
    t.draws(lambda g: t.run(f, v[:50], W, b, c, n_steps, g))


def cd_gradient(t: Trial, f: Callable, contrast: Callable) -> None:
    sizes = t.cases((5, 8), (9, 12), (3, 4), (2, 3))
    for (n, m, d, k), n_steps in zip(sizes, one_and_more(t)):
        W, b, c = some(t, k, d)
        v, v_model = bits(t, n, d), bits(t, m, d)
        stay = "v, v_model, W, b and c stay as they were"
        came = flat(t, t.run(contrast, v, v_model, W, b, c, untouched=stay), W, b, c)
        free = [x.clone().requires_grad_() for x in (W, b, c)]
        up, down = (
            torch.cat([g.flatten() for g in torch.autograd.grad(log_mass(x, *free).mean(), free)])
            for x in (v, v_model)
        )
        means = []
        for x in (v, v_model):
            h = hidden(x, W, b, c).mean(0)
            means.append(torch.cat([torch.outer(h, x.mean(0)).flatten(), h, x.mean(0)]))
        t.value(
            "contrast is the gradient of mean −F(v) minus mean −F(v_model), by automatic differentiation",
            came,
            up - down,
            mistakes={
                "the sign: plus at the data, minus at the model's samples": down - up,
                "the negative phase, the model's samples, is missing": up,
                "the positive phase, the data, is missing": -down,
                "the two phases are subtracted, not added": up + down,
                "a mean over the samples is asked for, not a sum": n * up - m * down,
                "dW is a mean of products h vᵀ, not a product of two means": means[0] - means[1],
                "half of it: there is no factor ½": (up - down) / 2,
            },
            mistake="mean of p(h|v) vᵀ, p(h|v) and v over the data, minus the same over v_model",
        )
        judge_cd(t, f, d, k, n_steps)


def judge_cd(t: Trial, f: Callable, d: int, k: int, n_steps: int) -> None:
    r"""The gradient of one sample, which shows the pair behind it, then its mean over many."""
    W, b, c = balanced(t, k, d)
    V, groups = states(d), t.order(2**d)[:3]
    drawn, off, parts = [], [], []
    for g in groups.repeat(8):
        one = V[g].clone()[None]
        answer = flat(
            t, t.run(f, one, W, b, c, n_steps, t.rng(len(drawn)), untouched=STAY), W, b, c
        )
        drawn.append(one - answer[-d:])
        off.append(one + answer[-d:])
        parts.append((one, answer))
    t.holds(
        "of one sample, dc = v − v′, and v′ is a draw: zeros and ones",
        is_drawn(torch.cat(drawn)),
        expected="0 and 1 in v − dc",
        came="other numbers",
        mistakes={
            "the sign: plus at the data v, minus at v′": is_drawn(torch.cat(off)),
            "v′ is drawn, its probabilities do not do": bool(
                ((torch.cat(drawn) > 0) & (torch.cat(drawn) < 1)).any()
            ),
        },
        mistake="dc = v − v′ with v′ from gibbs",
        stop=True,
    )
    first, last = torch.cat([one for one, _ in parts]), torch.cat(drawn)
    came = torch.stack([answer[:-d] for _, answer in parts])
    pos, neg = (statistics(x, W, b, c)[:, :-d] for x in (first, last))
    H = hidden(first, W, b, c)
    half = torch.cat([torch.einsum("nk,nd->nkd", H, last).flatten(1), H], 1)
    units = pos[:, -k:] - came[:, -k:]
    t.value(
        "dW and db belong to the pairs v, p(h|v) and v′, p(h|v′)",
        came,
        pos - neg,
        mistakes={
            "the pair (v′, h) is half a step: v′ is asked for its own hidden units, p(h|v′)": (
                pos - half
            ),
            "the negative phase, v′ and p(h|v′), is missing": pos,
            "h given v′ enters by its probabilities; samples, or the h that made v′, will not do": (
                is_drawn(units)
            ),
            "h given v enters by its probabilities, not by samples": is_drawn(
                came[:, -k:] + neg[:, -k:]
            ),
        },
        mistake="contrast(v, v′, W, b, c)",
    )
    T, S = transition(V, W, b, c), statistics(V, W, b, c)
    # Most of the chains start where a second round changes most.
    far = (T @ S - T @ T @ S).abs().amax(1).argmax()
    groups = torch.stack([far, far, groups[0]])
    v = V[groups.repeat(14000)]
    came = flat(t, t.run(f, v, W, b, c, n_steps, t.rng()), W, b, c)

    def mean(law: Tensor) -> Tensor:
        return (S[groups] - law @ S).mean(0)

    right = mean(rounds(T, n_steps)[groups])
    t.value(
        "over many samples it comes to the mean that n_steps rounds from the data give, by enumeration",
        came,
        right,
        tol=0.014,
        mistakes={
            "a mean over the samples is asked for, not a sum": bool(
                (came / len(v) - right).abs().max() < 0.014
            ),
            "n_steps rounds are asked for, this is one": (n_steps > 1 and mean(T[groups])),
            "the chain starts at the data": mean(rounds(T, n_steps).mean(0)[None]),
            "the chain starts at the data, not at zeros": mean(rounds(T, n_steps)[:1]),
            "the chain does not move: v′ comes from gibbs": 0 * right,
        },
        mistake="v′ = gibbs(v, …, n_steps, generator)",
    )
    t.draws(lambda g: flat(t, t.run(f, v[:50], W, b, c, n_steps, g), W, b, c))


def pcd_step(t: Trial, f: Callable) -> None:
    for (n, d, k), n_steps in zip(t.cases((5, 9), (3, 4), (2, 3)), one_and_more(t)):
        judge_persistent(t, f, n, d, k, n_steps)


def judge_persistent(t: Trial, f: Callable, n: int, d: int, k: int, n_steps: int) -> None:
    r"""Where many chains from three states arrive, and the gradient that they give."""
    W, b, c = balanced(t, k, d)
    V, groups = states(d), t.order(2**d)[:3]
    chains, v = V[groups.repeat(7000)], bits(t, n, d)
    answer = t.run(
        f, v, chains, W, b, c, n_steps, t.rng(), untouched="v, chains, W, b and c stay as they were"
    )
    gradient, moved = t.parts(answer, "gradient", "chains")
    came = flat(t, gradient, W, b, c)
    t.shape("as many chains as before", moved, *chains.shape, mistake="chains, not v, move on")
    t.holds(
        "the chains are zeros and ones",
        is_drawn(moved),
        expected="0 and 1",
        came="other numbers",
        mistake="the chains are drawn, by gibbs",
        stop=True,
    )
    counts, T = tally(moved, 3), transition(V, W, b, c)
    numbers = (v @ 2.0 ** torch.arange(d - 1, -1, -1).double()).long()
    t.holds(
        "the chains go on for n_steps rounds from where they were",
        fits(counts, rounds(T, n_steps)[groups]),
        expected="the frequencies of all states",
        came="others",
        mistakes={
            "the new chains have to be returned, these are the old ones": torch.equal(
                moved, chains
            ),
            "n_steps rounds are asked for, this is one": n_steps > 1 and fits(counts, T[groups]),
            "the chains start where they were, not at the data": fits(
                counts.sum(0, keepdim=True), rounds(T, n_steps)[numbers].mean(0, keepdim=True)
            ),
        },
        mistake="gibbs(chains, W, b, c, n_steps, generator)",
    )
    S = [statistics(x, W, b, c) for x in (v, moved, chains)]
    up, down, before = (s.mean(0) for s in S)
    t.value(
        "the gradient is the data's mean minus that of the new chains",
        came,
        up - down,
        mistakes={
            "the sign: plus at the data, minus at the chains": down - up,
            "the chains move first, and the new ones are the negative phase": up - before,
            "the negative phase is missing": up,
            "the data are missing": before - down,
            "each mean is taken over its own samples": up - S[1].sum(0) / n,
            "a mean over the samples is asked for, not a sum": S[0].sum(0) - S[1].sum(0),
        },
        mistake="contrast(v, chains, W, b, c) after the chains have moved",
    )
    t.draws(lambda g: t.run(f, v, chains[:60], W, b, c, n_steps, g)[1])


def users(t: Trial, films: int, K: int) -> Tensor:
    r"""Three users' ratings, one-hot (3, films, K): some films each, others each, zeros where there is none."""
    rating = (t.rand(3, films) * K).long()
    rated = torch.ones(3, films, dtype=torch.bool)
    rated[:, 0] = False  # nobody has seen the first
    for user, n in enumerate((1, 2, 1)):
        rated[user, 1 + (t.order(films - 1) + user)[:n] % (films - 1)] = False
    return torch.nn.functional.one_hot(rating, K).double() * rated[:, :, None]


def judge_softmax(t: Trial, f: Callable, W: Tensor, b: Tensor, c: Tensor) -> None:
    r"""The films' conditionals, against the sum over all ways to rate all films."""
    k, films, K = W.shape
    h = bits(t, 6, k)
    came = t.run(f, h, W, c, untouched="h, W and c stay as they were")
    t.shape(
        "a probability for each user, film and rating",
        came,
        len(h),
        films,
        K,
        mistake="W has the axes hidden unit, film, rating; the sum runs over the first",
    )
    every = all_ratings(torch.ones(films), K)

    def law(W: Tensor, c: Tensor) -> Tensor:
        table = joint(every, h, W.flatten(1), b, c.flatten())
        return (table.softmax(0).T @ every).reshape(len(h), films, K)

    right = law(W, c)
    a = right.log() + (torch.einsum("nk,kir->nir", h, W) + c).logsumexp(2, keepdim=True)
    t.value(
        "the ratings of a film are 1 … K with the probabilities that the sum over all of them gives",
        came,
        right,
        mistakes={
            "the softmax runs over the ratings of one film, not over the films": a.softmax(1),
            "each film has a softmax of its own": a.flatten(1).softmax(1).reshape(a.shape),
            "one rating excludes the others: a softmax, not a σ for each": a.sigmoid(),
            "the film's own preference c is missing": law(W, 0 * c),
            "the sign: the energy has the minus": law(-W, -c),
            "this goes into the softmax, it is not yet a probability": a,
            "the exponentials have to be divided by their sum": a.exp(),
            "the most likely rating is not the only one": bool(is_drawn(came)),
        },
        mistake="softmax over the ratings of c plus the sum of h_j W_j over the hidden units",
    )
    t.value(
        "probabilities stay numbers where the weights are a thousand times as large",
        t.run(f, h, 1000 * W, 1000 * c),
        law(1000 * W, 1000 * c),
        mistake="exp leaves the range of numbers; torch.softmax does not",
    )


def judge_predict(t: Trial, f: Callable, v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> None:
    r"""The expected rating of each film that a user has not rated, by the sum over all h and its K ratings."""
    n, films, K = v.shape
    came = t.run(f, v, W, b, c, untouched=STAY)
    t.shape("a number for each user and film", came, n, films, mistake="the mean over the ratings")
    score, H, flat_W = torch.arange(1, K + 1).double(), states(len(b)), W.flatten(1)
    missing = ~v.any(2)
    right, most = torch.zeros(n, films).double(), torch.zeros(n, films).double()
    for user, film in missing.nonzero().tolist():
        tried = v[user].repeat(K, 1, 1)
        tried[:, film] = torch.eye(K)
        table = joint(tried.flatten(1), H, flat_W, b, c.flatten())
        p = table.flatten().softmax(0).reshape(table.shape).sum(1)
        right[user, film], most[user, film] = p @ score, p.argmax() + 1
    h = hidden(v.flatten(1), flat_W, b, c.flatten())
    prior = hidden(0 * v.flatten(1), flat_W, b, c.flatten())

    def at(h: Tensor) -> Tensor:
        return ((torch.einsum("nk,kir->nir", h, W) + c).softmax(2) @ score)[missing]

    a = v.flatten(1) @ flat_W.T + b

    def summed(a: Tensor, c: Tensor) -> Tensor:
        every = a[:, :, None, None] + W
        return ((c + torch.logaddexp(0 * every, every).sum(1)).softmax(2) @ score)[missing]

    lowest = v + missing[:, :, None] * torch.eye(K)[0]
    t.value(
        "a film that the user has not rated gets its mean over all h and all ratings, by enumeration",
        came[missing],
        right[missing],
        mistakes={
            "ratings are the numbers 1 … K, not 0 … K − 1": right[missing] - 1,
            "the mean of the rating is asked for, not the most likely one": most[missing],
            "these are the ratings at the means of h; sum over h_j = 0 and 1, one softplus for each": at(
                h
            ),
            "the user's own ratings have to enter: a = b + the weights of what was rated": (
                summed(b.expand(n, -1), c)
            ),
            "the user's own ratings have to enter, and a sum over h in place of its means": at(
                prior
            ),
            "the bias b is missing": summed(a - b, c),
            "the film's own preference c is missing": summed(a, 0 * c),
            "a missing rating is no rating of 1: its film takes no part": (
                summed(lowest.flatten(1) @ flat_W.T + b, c)
            ),
        },
        mistake="a softmax over r of c_ir + Σ_j softplus(a_j + W_jir), then the mean of r",
    )


def ratings_gradient(
    t: Trial, f: Callable, ratings_given_hidden: Callable, predict: Callable
) -> None:
    for films, K, k in t.cases((4, 5), (3, 4), (2, 3)):
        W = 2 * t.randn(k, films, K)
        v, c = users(t, films, K), t.randn(films, K)
        # Each hidden unit is in doubt about one of the users: there a draw and its mean differ most.
        b = 0.4 * (t.rand(k) - 0.5).sign() - torch.einsum("nir,kir->nk", v, W).median(0).values
        judge_softmax(t, ratings_given_hidden, W, b, c)
        judge_ratings(t, f, v, W, b, c)
        judge_predict(t, predict, v, W, b, c)


def judge_ratings(t: Trial, f: Callable, v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> None:
    r"""The gradient of one user, which shows the pair behind it, then its mean over many."""
    k, films, K = W.shape
    flat_W, flat_c = W.flatten(1), c.flatten()
    rated, size = v.any(2), films * K
    first = v.repeat(8, 1, 1)
    came = torch.stack(
        [
            flat(t, t.run(f, one.clone()[None], W, b, c, t.rng(i), untouched=STAY), W, b, c)
            for i, one in enumerate(first)
        ]
    )
    dc = came[:, -size:].reshape(first.shape)
    last, of = first - dc, rated.repeat(8, 1)
    t.value(
        "of one user, dc = v − v′, and v′ holds no film that the user has not rated",
        last[~of],
        0.0,
        mistakes={
            "the machine of a user holds the rated films only: cut v′ off at the others": bool(
                (last[~of].sum(1) - 1).abs().max() < 1e-6
            )
        },
        mistake="v is zero there, so v′ has to be zero as well",
    )
    one_each = bool((last[of].sum(1) - 1).abs().max() < 1e-9)
    t.holds(
        "v′ has one drawn rating for each film that the user has rated",
        is_drawn(last[of]) and one_each,
        expected="one 1 and else 0 in v − dc",
        came="other numbers",
        mistakes={
            "the sign: plus at the data v, minus at v′": (
                is_drawn((first + dc)[of]) and not is_drawn(last[of])
            ),
            "v′ is drawn, its probabilities do not do": one_each,
            "one rating of a film excludes the others: draw one of K": is_drawn(last[of]),
        },
        mistake="draw one rating of each film, as torch.multinomial does",
        stop=True,
    )
    x, y, cut = first.flatten(1), last.flatten(1), k * size + k
    pos, neg = (statistics(s, flat_W, b, flat_c)[:, :cut] for s in (x, y))
    H = hidden(x, flat_W, b, flat_c)
    half = torch.cat([torch.einsum("nk,nd->nkd", H, y).flatten(1), H], 1)
    t.value(
        "dW and db belong to the pairs v, p(h|v) and v′, p(h|v′)",
        came[:, :cut],
        pos - neg,
        mistakes={
            "the pair (v′, h) is half a step: v′ is asked for its own hidden units, p(h|v′)": (
                pos - half
            ),
            "hidden units enter by their probabilities, not by samples": is_drawn(
                pos[:, -k:] - came[:, cut - k : cut]
            ),
            "the bias b of the hidden units is missing": (
                statistics(x, flat_W, 0 * b, flat_c) - statistics(y, flat_W, 0 * b, flat_c)
            )[:, :cut],
        },
        mistake="mean of p(h|v) v at the data, minus the same at v′",
    )
    many = v.repeat(2000, 1, 1)
    came = flat(t, t.run(f, many, W, b, c, t.rng()), W, b, c)
    expected, by_means = [], []
    for one, mask in zip(v.flatten(1), rated):
        ways = all_ratings(mask, K)
        here = int((ways == one).all(1).nonzero()[0])
        S = statistics(ways, flat_W, b, flat_c)
        expected.append(S[here] - transition(ways, flat_W, b, flat_c)[here] @ S)
        h = hidden(one[None], flat_W, b, flat_c)
        by_means.append(S[here] - joint(ways, h, flat_W, b, flat_c).softmax(0).T[0] @ S)
    right, lazy = torch.stack(expected).mean(0), torch.stack(by_means).mean(0)
    raters = (rated.sum(0).clamp(min=1) / 3).repeat_interleave(K)
    per_film = torch.cat(
        [right[: k * size].reshape(k, size).div(raters).flatten(), right[-k - size : -size]]
    )
    per_film = torch.cat([per_film, right[-size:] / raters])
    t.value(
        "over many users it comes to the mean that one round from the data gives, by enumeration",
        came,
        right,
        tol=0.035,
        mistakes={
            "a mean over the users is asked for, not a sum": bool(
                (came / len(many) - right).abs().max() < 0.035
            ),
            "all users count, also those who have not rated the film": per_film,
            "the hidden units have to be drawn before the films are asked": lazy,
        },
        mistake="draw h given v, one rating of each film given h, and compare",
    )
    t.draws(lambda g: flat(t, t.run(f, many[:60], W, b, c, g), W, b, c))
