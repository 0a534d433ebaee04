r"""Assignment 2, three autoencoders on variance-MNIST: data, vanilla, denoising, variational."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lectool.checks.trial import Trial, gradients, off_diagonal

__all__ = [
    "bottleneck_loss",
    "denoising_loss",
    "gaussian_nll",
    "kl_divergence",
    "sample_code",
    "variance_images",
]


def scalar(t: Trial, value: Any) -> float:
    shape = tuple(value.shape) if isinstance(value, Tensor) else None
    t.holds(
        "the loss is one number, as a tensor",
        shape == (),
        expected="shape ()",
        came=f"shape {shape}" if shape is not None else type(value).__name__,
        mistake=[
            (value is None, "a return is missing"),
            (
                isinstance(value, float),
                "item() or float() cuts the gradient off; return the tensor",
            ),
            (True, "sum over the pixels of an image, then the mean over the images"),
        ],
        stop=True,
    )
    return float(value.detach())


def variance_images(t: Trial, f: Callable) -> None:
    n, b = 3000, 0.04
    gray = torch.tensor([0.0, 0.5, 1.0, 1.0]).repeat(n, 1)
    x = t.run(f, gray, b, t.rng(0), untouched="the gray images stay as they were")
    t.shape("as many images and pixels as there were", x, n, 4)
    again = t.run(f, gray, b, t.rng(0))
    t.near(
        "the generator decides the numbers: the same again from the same start",
        again,
        x,
        tol=0.0,
        mistake="hand the generator on: torch.randn(…, generator=generator)",
    )
    t.near(
        "every pixel has mean 0",
        x.mean(0),
        0.0,
        tol=5 / n**0.5,
        mistake="the image is in the variance alone: the noise is multiplied, not added to the image",
    )
    var = x.var(0)
    low, middle, high = (float(var[j]) for j in range(3))
    t.near(
        "gray values 0, ½, 1 give the variances b, b + (1 − b)/4, 1; here 0.04, 0.28, 1",
        torch.tensor([low / 0.04, middle / 0.28, high]),
        1.0,
        tol=0.18,
        mistake=[
            (
                low < 0.01 and abs(middle - 0.28**2) < 0.04,
                "the variance is used as a standard deviation",
            ),
            (abs(middle - 0.52) < 0.08, "the gray value enters squared"),
            (
                abs(high - 1.04) < 0.18 and abs(low - 0.04) < 0.02,
                "the strokes have 1 − b more than the background",
            ),
            (True, "standard deviation √(b + (1 − b) g²), times standard normal numbers"),
        ],
    )
    t.near(
        "pixels are independent of each other",
        off_diagonal(torch.corrcoef(x[:, 1:].T)),
        0.0,
        tol=5 / n**0.5,
        mistake="one draw for each pixel of each image: torch.randn of the shape of the images",
    )


def bottleneck_loss(t: Trial, f: Callable) -> None:
    x = t.randn(3, 6)
    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    step = torch.tensor([[2.0], [2.0], [2.0]], dtype=torch.float64)
    value = t.run(f, lambda v: v + shift, lambda z: z + step, x)
    came = scalar(t, value)
    t.near(
        "six pixels that are off by 2 cost 24",
        came,
        24.0,
        tol=1e-6,
        mistake=[
            (
                abs(came - 4) < 1e-6,
                "this is the mean over the pixels; an image's cost is their sum",
            ),
            (
                abs(came - 72) < 1e-6,
                "this is the sum over the images; the mean over them is asked for",
            ),
            (abs(came - 24**0.5) < 1e-6, "this is the distance; its square is asked for"),
            (abs(came - 12) < 1e-6, "this is the absolute difference, or half of the square"),
            (abs(came) < 1e-6, "the decoder is not used, or its input is compared with itself"),
            (True, "decode the code of x, and compare with x"),
        ],
    )
    came = float(t.run(f, lambda v: 3 * v, lambda z: z + 1, torch.zeros(2, 5)))
    t.near(
        "the code is what the decoder gets",
        came,
        5.0,
        tol=1e-6,
        mistake="decoder(encoder(x)), in this order",
    )
    value = t.run(f, lambda v: v + shift, lambda z: z + step, x)
    (grad,) = gradients(value, shift)
    t.holds(
        "the gradient reaches the encoder",
        grad is not None and abs(float(grad) - 24) < 1e-6,
        expected="24",
        came="none" if grad is None else grad,
        mistake="a detach() or torch.no_grad() cuts it off",
    )


class Spy:
    r"""A network that keeps what it was given and answers with one number times that."""

    def __init__(self, answer: float) -> None:
        self.answer = answer
        self.seen: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.answer * x


def denoising_loss(t: Trial, f: Callable) -> None:
    n, d, sigma = 2000, 5, 0.5
    x = t.randn(n, d, seed=1)
    silent, mirror = Spy(0.0), Spy(1.0)
    value = t.run(f, silent, x, sigma, t.rng(0), untouched="x stays as it was")
    cost = scalar(t, value)
    norm = float(x.square().sum(1).mean())
    t.near(
        "a network that answers 0 pays for the clean image, Σ x²",
        cost,
        norm,
        tol=1e-6,
        mistake=[
            (
                abs(cost * d - norm) < 1e-6,
                "this is the mean over the pixels; an image's cost is their sum",
            ),
            (abs(cost - norm) > 0.5, "the target is the clean x, not the noisy one"),
        ],
    )
    came = float(t.run(f, mirror, x, sigma, t.rng(0)))
    t.near(
        "a network that answers its input pays d σ², here 1.25",
        came,
        d * sigma**2,
        tol=0.12,
        mistake=[
            (
                abs(came) < 1e-9,
                "the network must see the noisy image, and its answer be compared with the clean one",
            ),
            (abs(came - d * sigma**4) < 0.1, "σ is a standard deviation: noise σ ε, not σ² ε"),
            (
                abs(came - d * sigma**2 / 3) < 0.1,
                "torch.rand is uniform; the noise is Gaussian, torch.randn",
            ),
            (abs(came - d * sigma) < 0.2, "σ is a standard deviation: noise σ ε, not √σ ε"),
            (True, "noise of the standard deviation σ, added to every pixel"),
        ],
    )
    noise = mirror.seen[-1] - x
    t.near(
        "every pixel has a noise of its own",
        off_diagonal(torch.corrcoef(noise.T)),
        0.0,
        tol=5 / n**0.5,
        mistake="one draw for each number of x: torch.randn of the shape of x",
    )
    t.run(f, mirror, x, sigma, t.rng(0))
    t.near(
        "the generator decides the numbers: the same again from the same start",
        mirror.seen[-1],
        x + noise,
        tol=1e-6,
        mistake="hand the generator on: torch.randn(…, generator=generator)",
    )


def near(a: Tensor, b: list[float]) -> bool:
    return bool((a / torch.tensor(b) - 1).abs().max() < 0.08)


def sample_code(t: Trial, f: Callable) -> None:
    n = 4000
    mean = torch.tensor([3.0, -1.0], dtype=torch.float64).repeat(n, 1)
    log_variance = torch.tensor([math.log(4.0), math.log(0.25)], dtype=torch.float64).repeat(n, 1)
    z = t.run(f, mean, log_variance, t.rng(0), untouched="mean and log-variance stay as they were")
    t.shape("a code for each sample", z, n, 2)
    t.near(
        "the codes have the means 3, −1",
        z.mean(0),
        mean[0],
        tol=0.16,
        mistake="the mean is added, and the noise has mean 0: torch.randn, not torch.rand",
    )
    sd = z.std(0)
    t.near(
        "the codes have the standard deviations 2, ½",
        sd / torch.tensor([2.0, 0.5]),
        1.0,
        tol=0.07,
        mistake=[
            (
                abs(float(sd[0]) - 4) < 0.4,
                "exp(log σ²) is the variance; exp(½ log σ²) is the standard deviation",
            ),
            (near(sd, [2**0.5, 0.5**0.5]), "the root has been taken twice"),
            (
                near(sd, [math.log(4)] * 2) or near(sd, [math.log(2)] * 2),
                "the logarithm of the variance has to be exponentiated",
            ),
            (
                float(sd[0]) < 0.1,
                "one noise for all samples; one draw for each number is asked for",
            ),
            (True, "z = mean + exp(½ log σ²) ε with standard normal ε"),
        ],
    )
    small = t.randn(3, 2, seed=1).requires_grad_(), t.randn(3, 2, seed=2).requires_grad_()
    z = t.run(f, *small, t.rng(1))
    grads = gradients(z.sum(), *small)
    t.holds(
        "the gradient passes through the draw: ∂z/∂mean = 1, ∂z/∂(log σ²) = ½ (z − mean)",
        all(g is not None for g in grads)
        and torch.allclose(grads[0], torch.ones(3, 2).to(grads[0]))
        and torch.allclose(grads[1], 0.5 * (z - small[0])),
        expected="both",
        came="no gradient" if None in grads else "another gradient",
        mistake="draw ε outside of the graph and compute z from it; sample(), torch.normal and detach() cut it off",
    )


def kl_divergence(t: Trial, f: Callable) -> None:
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    value = t.run(f, zeros, zeros)
    came = scalar(t, value)
    t.near(
        "no divergence from N(0, I) to itself",
        came,
        0.0,
        tol=1e-9,
        mistake="½ (m² + σ² − 1 − log σ²): a term is missing, perhaps the −1",
    )
    mean = torch.tensor([[1.0, 2.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    came = float(t.run(f, mean, zeros))
    t.near(
        "means (1, 2, 0) and (1, 0, 0) with variance 1 cost 2.5 and 0.5, on average 1.5",
        came,
        1.5,
        tol=1e-9,
        mistake=[
            (abs(came + 1.5) < 1e-6, "the sign is turned around; a divergence is never negative"),
            (
                abs(came - 3) < 1e-6,
                "a factor ½ is missing, or the samples are summed; their mean is asked for",
            ),
            (
                abs(came - 0.5) < 1e-6,
                "this is the mean over the code numbers; their sum is asked for",
            ),
            (True, "the means enter squared"),
        ],
    )
    came = float(t.run(f, zeros[:, :1], zeros[:, :1] + math.log(4.0)))
    t.near(
        "variance 4 costs ½ (4 − 1 − log 4) = 0.807",
        came,
        0.5 * (3 - math.log(4.0)),
        tol=1e-9,
        mistake=[
            (
                abs(came - 0.5 * (15 - 2 * math.log(4.0))) < 1e-3,
                "the argument is log σ², not log σ",
            ),
            (abs(came - 0.5 * (1 - math.log(4.0) / 2)) < 1e-3, "σ² is asked for, not σ"),
            (abs(came - 0.5 * (3 + math.log(4.0))) < 1e-3, "the logarithm has the wrong sign"),
            (True, "½ (σ² − 1 − log σ²) with σ² = exp(log σ²)"),
        ],
    )


def gaussian_nll(t: Trial, f: Callable) -> None:
    x = t.randn(3, 4)
    zeros = torch.zeros_like(x)
    value = t.run(f, x, x, zeros)
    best, came = 2 * math.log(2 * math.pi), scalar(t, value)
    least = came
    t.near(
        "four pixels at their means with variance 1 cost 4 · ½ log 2π = 3.676",
        came,
        best,
        tol=1e-6,
        mistake=[
            (abs(came) < 1e-6, "the constant ½ log 2π of each pixel is missing"),
            (abs(came + best) < 1e-6, "this is the log-density; the loss is minus that"),
            (
                abs(came - best / 4) < 1e-6,
                "this is the mean over the pixels; an image's cost is their sum",
            ),
            (
                abs(came - best * 3) < 1e-6,
                "this is the sum over the images; the mean over them is asked for",
            ),
            (abs(came - 2 * best) < 1e-6, "the factor ½ is missing"),
        ],
    )
    came = float(t.run(f, x + 2, x, zeros)) - least
    t.near(
        "four pixels that are off by 2 cost 4 · ½ · 2² = 8 more",
        came,
        8.0,
        tol=1e-6,
        mistake=[
            (abs(came - 16) < 1e-6, "the factor ½ of the square is missing"),
            (abs(came - 4) < 1e-6, "the difference enters squared"),
            (abs(came + 8) < 1e-6, "the sign of the square is turned around"),
        ],
    )
    grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    log_variance = torch.full((1, 1), math.log(4.0), dtype=torch.float64)
    costs = [
        t.run(f, g.reshape(1, 1), torch.ones(1, 1, dtype=torch.float64), log_variance)
        for g in grid[::10]
    ]
    p = torch.stack([c.detach() for c in costs]).neg().exp()
    area = float(p.sum() * 0.1)
    variance = float((p * (grid[::10] - 1) ** 2).sum() * 0.1 / area)
    t.near(
        "with variance 4 the density has the area 1",
        area,
        1.0,
        tol=1e-3,
        mistake=[
            (abs(area - 4) < 0.05, "½ log σ² has the wrong sign"),
            (abs(area - 2) < 0.05, "½ log σ² is missing"),
            (
                abs(area - 0.5) < 0.05,
                "log σ² has the factor ½: it is the logarithm of the standard deviation",
            ),
            (True, "the square is divided by σ², and ½ log σ² is added"),
        ],
    )
    t.near(
        "with variance 4 the density has the variance 4",
        variance,
        4.0,
        tol=1e-2,
        mistake=[
            (
                abs(variance - 2) < 0.05,
                "divided by the standard deviation; the square is divided by the variance",
            ),
            (
                abs(variance - 0.25) < 0.05 or abs(variance - 1) < 0.05,
                "the square is divided by exp(log σ²)",
            ),
            (abs(variance - 16) < 2, "the argument is log σ², not log σ"),
        ],
    )
