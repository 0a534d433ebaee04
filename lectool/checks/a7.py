r"""Assignment 7, adversarial networks: the Wasserstein critic with gradient penalty, and mode coverage."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lectool.checks.trial import Trial, gradients

__all__ = ["critic_loss", "generator_loss", "gradient_penalty", "interpolate", "mode_coverage"]


def linear(x: Tensor) -> Tensor:
    r"""A critic that anyone can work out by hand: the sum of the coordinates."""
    return x.flatten(1).sum(1)


def critic_loss(t: Trial, f: Callable) -> None:
    real = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    fake = torch.tensor(
        [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64, requires_grad=True
    )
    value = t.run(f, linear, real, fake)
    t.shape("one number", value, mistake="the mean over the samples is missing")
    came = float(value.detach())
    t.near(
        "scores of 3, 7 for real and 1, 1, 1 for fake ones give 1 − 5 = −4",
        came,
        -4.0,
        tol=1e-6,
        mistake=[
            (
                abs(came - 4) < 1e-6,
                "the sign is turned around: the critic's loss is small where real scores are high",
            ),
            (abs(came + 7) < 1e-6, "sums, where means are asked for"),
            (
                abs(came + 6) < 1e-6 or abs(came - 6) < 1e-6,
                "the two means are subtracted, not added",
            ),
            (
                True,
                "mean score of the fake samples minus mean score of the real ones; no logarithm",
            ),
        ],
    )
    t.holds(
        "no gradient reaches the generator",
        gradients(value, fake) == (None,),
        expected="none",
        came="a gradient of the fake samples",
        mistake="detach() the fake samples: the critic's step must not move the generator, nor pay for its gradient",
    )
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    value = t.run(f, lambda x: scale * linear(x), real, fake)
    (g,) = gradients(value, scale)
    t.holds(
        "the critic's gradient is complete",
        g is not None and abs(float(g) + 4) < 1e-6,
        expected="−4",
        came="none" if g is None else g,
        mistake="detach() the samples, not the scores",
    )


def generator_loss(t: Trial, f: Callable) -> None:
    fake = torch.tensor([[0.0, 1.0], [3.0, 2.0]], dtype=torch.float64, requires_grad=True)
    value = t.run(f, linear, fake)
    t.shape("one number", value, mistake="the mean over the samples is missing")
    came = float(value.detach())
    t.near(
        "scores of 1 and 5 cost −3",
        came,
        -3.0,
        tol=1e-6,
        mistake=[
            (abs(came - 3) < 1e-6, "the sign is turned around: the generator wants high scores"),
            (abs(came + 6) < 1e-6, "a sum, where the mean is asked for"),
            (True, "minus the mean score of the fake samples; no logarithm"),
        ],
    )
    (g,) = gradients(value, fake)
    t.holds(
        "its gradient reaches the generator",
        g is not None and bool((g == -0.5).all()),
        expected="−½ for each number",
        came="none" if g is None else g,
        mistake="here the fake samples must not be detached",
    )


def interpolate(t: Trial, f: Callable) -> None:
    n = 3000
    real, fake = t.randn(n, 3, 2, seed=1), t.randn(n, 3, 2, seed=2)
    x = t.run(f, real, fake, t.rng(0), untouched="the samples stay as they were")
    t.shape(
        "one point for each pair, also of images",
        x,
        n,
        3,
        2,
        mistake="u has the shape (n, 1, …, 1), with as many axes as the samples",
    )
    u = ((x - fake) / (real - fake)).flatten(1)
    middle = u.median(dim=1).values
    t.near(
        "each point lies on the line between its two samples",
        ((x - fake) - middle[:, None, None] * (real - fake)),
        0.0,
        tol=1e-6,
        mistake=[
            (
                u.min() > -1e-6 and u.max() < 1 + 1e-6,
                "one u for each sample, the same for all its numbers; not one for each number",
            ),
            (True, "u · real + (1 − u) · fake"),
        ],
    )
    t.holds(
        "each pair has a u of its own",
        middle.std() > 0.05,
        expected="different u",
        came=f"a standard deviation of {float(middle.std()):.2g}",
        mistake="one u for all samples; one for each is asked for",
    )
    t.holds(
        "u is uniform between 0 and 1",
        middle.min() >= 0 and middle.max() <= 1 and (middle.var() - 1 / 12).abs() < 0.01,
        expected="0 to 1, variance 1/12",
        came=f"{float(middle.min()):.2f} to {float(middle.max()):.2f}, variance {float(middle.var()):.3f}",
        mistake="torch.rand, not torch.randn",
    )
    t.near(
        "the generator decides the numbers: the same again from the same start",
        t.run(f, real, fake, t.rng(0)),
        x,
        tol=0.0,
        mistake="hand the generator on: torch.rand(…, generator=generator)",
    )


def gradient_penalty(t: Trial, f: Callable) -> None:
    a = torch.tensor([3.0, 4.0], dtype=torch.float64, requires_grad=True)
    x = t.randn(4, 2)
    value = t.run(f, lambda v: v @ a, x)
    t.shape("one number", value, mistake="the mean over the samples is missing")
    came = float(value.detach())
    t.near(
        "a critic with the slope (3, 4) costs (5 − 1)² = 16",
        came,
        16.0,
        tol=1e-4,
        mistake=[
            (abs(came - 4) < 1e-3, "the difference from 1 enters squared"),
            (abs(came - 576) < 1, "the norm itself is compared with 1, not its square"),
            (abs(came - 25) < 1e-3, "the norm is compared with 1"),
            (abs(came - 64) < 1e-3, "a sum over the samples, where the mean is asked for"),
            (
                abs(came - 81) < 1e-3,
                "one norm for the whole batch; each sample has a gradient and a norm of its own",
            ),
            (abs(came - 36) < 1e-2, "the norm is the root of the sum of squares, not the sum"),
        ],
    )
    (g,) = gradients(value, a)
    t.holds(
        "the critic can be moved by it",
        g is not None and torch.allclose(g, 2 * 4 * a.detach() / 5),
        expected="the gradient (4.8, 6.4) for the slope",
        came="none" if g is None else g,
        mistake="torch.autograd.grad(…, create_graph=True): the penalty itself is differentiated once more",
    )
    flat = t.run(f, lambda v: 0.5 * linear(v), t.randn(6, 3, seed=1))
    t.near(
        "slopes below 1 cost too",
        flat,
        (0.75**0.5 - 1) ** 2,
        tol=1e-6,
        mistake="the penalty has two sides: no clamp at 1",
    )
    images = torch.ones(3, 1, 2, 2, dtype=torch.float64) * torch.tensor(
        [1.0, 2.0, 3.0], dtype=torch.float64
    ).view(3, 1, 1, 1)
    came = float(t.run(f, lambda v: v.square().flatten(1).sum(1) / 2, images).detach())
    t.near(
        "images with gradients of the norms 2, 4, 6 cost (1 + 9 + 25)/3",
        came,
        35 / 3,
        tol=1e-4,
        mistake="flatten(1) the gradients: one norm over all numbers of an image",
    )


def mode_coverage(t: Trial, f: Callable) -> None:
    turn = 2 * math.pi * torch.arange(8, dtype=torch.float64) / 8
    centers = 2 * torch.stack([turn.cos(), turn.sin()], 1)
    samples = torch.cat(
        [
            centers[:3],
            centers[:1] + torch.tensor([0.0, 0.4]),
            torch.zeros(2, 2, dtype=torch.float64),
        ]
    )
    answer = t.parts(t.run(f, samples, centers, 0.5), "n_modes", "share")
    modes, share = (float(v) for v in answer)
    t.near(
        "samples at three of eight centers cover 3 modes",
        modes,
        3,
        tol=0,
        mistake=[
            (modes == 4, "a mode counts once, however many samples it has"),
            (modes == 8, "every sample has a nearest center; it covers it only within the radius"),
            (True, "the number of different centers that have a sample within the radius"),
        ],
    )
    t.near(
        "four of six samples are near a center: a share of 0.667",
        share,
        2 / 3,
        tol=1e-6,
        mistake=[
            (abs(share - 4) < 1e-6, "this is their number; the share of all samples is asked for"),
            (
                abs(share - 0.375) < 1e-6,
                "this is a share of the modes; a share of the samples is asked for",
            ),
            (abs(share - 0.5) < 1e-6, "a share of the centers, or a radius that is too small"),
        ],
    )
    near = centers[:1] + torch.tensor([[0.6, 0.0]])
    t.near(
        "a sample at the distance 0.6 is outside of the radius 0.5",
        float(t.run(f, near, centers, 0.5)[0]),
        0,
        tol=0,
        mistake="the squared distance is compared with the radius",
    )
