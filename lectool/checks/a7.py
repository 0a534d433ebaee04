r"""Assignment 7, adversarial networks: the Wasserstein critic with gradient penalty, and mode coverage."""

from collections.abc import Callable

import torch
from torch import Tensor

from lectool.checks.trial import Trial, gradients

__all__ = ["critic_loss", "generator_loss", "gradient_penalty", "interpolate", "mode_coverage"]

MEAN = "the mean over the samples is missing"


class Critic:
    r"""Scores of samples of any shape: tanh of a weighted sum, times a number."""

    def __init__(self, t: Trial, d: int) -> None:
        self.weight = t.randn(d).requires_grad_()
        self.scale = t.rand(1, low=2, high=4).requires_grad_()

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * torch.tanh(0.3 * x.flatten(1) @ self.weight)

    def slopes(self, x: Tensor) -> Tensor:
        r"""The gradient at each point, one after the other, differentiable."""
        jacobian = torch.autograd.functional.jacobian
        score = lambda v: self(v[None])[0]  # noqa: E731
        return torch.stack([jacobian(score, row, create_graph=True) for row in x])

    def untouched(self, t: Trial) -> None:
        r"""No gradient was left behind in the weights, and they still ask for one."""
        t.holds(
            "the critic is left as it was",
            self.weight.grad is None and self.weight.requires_grad,
            expected="no gradient in its weights",
            came="one" if self.weight.requires_grad else "frozen weights",
            mistake="backward() leaves gradients in the critic; return the loss, and let the loop call it",
        )


def critic_loss(t: Trial, f: Callable) -> None:
    for n, m, d in t.cases((2, 5), (6, 9), (2, 4)):
        critic, real, fake = (
            Critic(t, 2 * d),
            t.randn(n, 2, d) + 1,
            t.randn(m, 2, d).requires_grad_(),
        )
        value = t.run(f, critic, real, fake, untouched="the samples stay as they were")
        t.number("the loss", value, mistake=MEAN)
        on_real, on_fake = ([critic(x[None])[0] for x in xs] for xs in (real, fake.detach()))
        r, g = sum(on_real) / n, sum(on_fake) / m
        t.value(
            "mean score of the fake samples minus mean score of the real ones",
            value,
            g - r,
            mistakes={
                "the sign is turned around: the critic's loss is small where real scores are high": r
                - g,
                "sums, where means are asked for": sum(on_fake) - sum(on_real),
                "the two means are subtracted, not added": g + r,
                "one sample stands for all": on_fake[0] - on_real[0],
            },
            mistake="mean score of the fake samples minus mean score of the real ones; no logarithm",
        )
        t.holds(
            "no gradient reaches the generator",
            gradients(value, fake) == (None,),
            expected="none",
            came="a gradient of the fake samples",
            mistake="detach() the fake samples: the critic's step must not move the generator",
        )
        t.gradient(
            "the critic learns from both",
            value,
            g - r,
            critic.weight,
            critic.scale,
            mistake="detach() the samples, not the scores",
        )
        critic.untouched(t)


def generator_loss(t: Trial, f: Callable) -> None:
    for n, d in t.cases((2, 5), (2, 4)):
        critic, fake = Critic(t, 2 * d), t.randn(n, d, 2).requires_grad_()
        value = t.run(f, critic, fake, untouched="the samples stay as they were")
        t.number("the loss", value, mistake=MEAN)
        scores = [critic(x[None])[0] for x in fake]
        mean = sum(scores) / n
        t.value(
            "minus the mean score of the fake samples",
            value,
            -mean,
            mistakes={
                "the sign is turned around: the generator wants high scores": mean,
                "a sum, where the mean is asked for": -sum(scores),
                "one sample stands for all": -scores[0],
            },
            mistake="minus the mean score of the fake samples; no logarithm",
        )
        t.gradient(
            "its gradient reaches the generator",
            value,
            -mean,
            fake,
            mistake="here the fake samples must not be detached",
        )
        critic.untouched(t)


def interpolate(t: Trial, f: Callable) -> None:
    for c, d in t.cases((2, 4), (2, 4)):
        n = 3000
        real, fake = t.randn(n, c, d), t.randn(n, c, d)
        x = t.run(f, real, fake, t.rng(), untouched="the samples stay as they were")
        t.shape(
            "one point for each pair, also of images",
            x,
            n,
            c,
            d,
            mistake="u has the shape (n, 1, …, 1), with as many axes as the samples",
        )
        u = ((x - fake) / (real - fake)).flatten(1)
        middle = u.median(dim=1).values
        t.value(
            "each point lies on the line between its two samples",
            (x - fake) - middle[:, None, None] * (real - fake),
            0.0,
            mistakes={
                "one u for each sample, the same for all its numbers; not one for each number": bool(
                    u.min() > -1e-6 and u.max() < 1 + 1e-6
                )
            },
            mistake="u · real + (1 − u) · fake",
        )
        t.holds(
            "each pair has a u of its own",
            middle.std() > 0.05,
            expected="different u",
            came=f"a standard deviation of {float(middle.std()):.2g}",
            mistake="one u for all samples; one for each is asked for",
        )
        t.distributed(
            "u is uniform between 0 and 1",
            middle,
            "uniform",
            mistakes={"torch.rand, not torch.randn": bool(middle.min() < 0 or middle.max() > 1)},
        )
    t.draws(lambda g: t.run(f, real, fake, g))


def gradient_penalty(t: Trial, f: Callable) -> None:
    for n, d in t.cases((3, 6), (3, 5)):
        critic, x = Critic(t, 2 * d), 3 * t.randn(n, 2, d)
        stay = "the points stay as they were"
        value = t.run(f, critic, x, untouched=stay)
        t.number("the penalty", value, mistake=MEAN)
        slopes = critic.slopes(x)
        norms = torch.stack([g.flatten().norm() for g in slopes])
        truth = (norms - 1).square()
        t.value(
            "(slope − 1)², the slope by automatic differentiation of one sample after the other",
            value,
            truth.mean(),
            mistakes={
                "the difference from 1 enters squared": (norms - 1).abs().mean(),
                "the norm itself is compared with 1, not its square": (
                    (norms.square() - 1).square().mean()
                ),
                "the norm is compared with 1": norms.square().mean(),
                "a sum over the samples, where the mean is asked for": truth.sum(),
                "one norm for the whole batch; each sample has a gradient and a norm of its own": (
                    (slopes.norm() - 1).square()
                ),
                "the norm is the root of the sum of squares, not the sum": (
                    (slopes.abs().sum((1, 2)) - 1).square().mean()
                ),
                "the penalty has two sides: no clamp at 1": (norms - 1)
                .clamp(min=0)
                .square()
                .mean(),
                "flatten(1) the gradients: one norm over all numbers of a sample": (
                    (slopes.norm(dim=1) - 1).square().mean()
                ),
                "one sample stands for all": truth[0],
            },
            mistake="the mean over the samples of (norm of the gradient − 1)²",
        )
        t.gradient(
            "the critic can be moved by it",
            value,
            truth.mean(),
            critic.weight,
            critic.scale,
            mistake="torch.autograd.grad(…, create_graph=True): the penalty itself is differentiated once more",
        )
        critic.untouched(t)


def mode_coverage(t: Trial, f: Callable) -> None:
    for n_centers, n_left in t.cases((6, 10), (2, 4)):
        n, radius = 61, float(t.rand(1, low=0.3, high=0.4))
        centers = (
            3 * torch.cartesian_prod(*[torch.arange(4.0)] * 2).double()[t.order(16)[:n_centers]]
        )
        way = t.randn(n, 2)
        distance = t.rand(n, low=0.55, high=0.95) * radius  # half of the radius is too near
        distance[: n // 3] = t.rand(n // 3, low=1.1, high=1.6) * radius
        belongs = torch.randint(1, n_centers - n_left, (n,), generator=t.source)
        belongs[-1] = 0  # a single good sample covers a mode
        belongs[: n // 3] = torch.arange(n // 3) % n_centers
        samples = centers[belongs] + distance[:, None] * way / way.norm(dim=1, keepdim=True)
        stay = "samples and centers stay as they were"
        answer = t.run(f, samples, centers, radius, untouched=stay)
        modes, share = t.parts(answer, "n_modes", "share")
        good = [
            {c for c in range(n_centers) if torch.dist(s, centers[c]) <= radius} for s in samples
        ]
        n_good, n_modes = sum(bool(g) for g in good), len(set().union(*good))
        t.value(
            "a mode is covered where at least one good sample belongs to it",
            modes,
            n_modes,
            mistakes={
                "a mode counts once, however many samples it has": n_good,
                "every sample has a nearest center; it covers it only within the radius": n_centers,
            },
            mistake="the number of different centers that have a sample within the radius",
        )
        t.value(
            "the share of all samples that are good",
            share,
            n_good / n,
            mistakes={
                "this is their number; the share of all samples is asked for": n_good,
                "this is a share of the modes; a share of the samples is asked for": n_modes
                / n_centers,
            },
            mistake="samples whose distance from the nearest center is at most the radius, out of all",
        )
        near = centers[:1] + torch.tensor([[1.2 * radius, 0.0]])
        t.value(
            "a sample at 1.2 times the radius is outside of it",
            float(t.run(f, near, centers, radius)[0]),
            0,
            mistake="the squared distance is compared with the radius",
        )
