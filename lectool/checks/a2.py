r"""Assignment 2, three autoencoders on variance-MNIST: data, vanilla, denoising, variational."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as divergence

from lectool.checks.trial import Trial

__all__ = [
    "bottleneck_loss",
    "denoising_loss",
    "gaussian_nll",
    "kl_divergence",
    "sample_code",
    "variance_images",
]

MEAN_OVER = "sum over the pixels of an image, then the mean over the images"
PIXELS = "this is the mean over the pixels; an image's cost is their sum"
IMAGES = "this is the sum over the images; the mean over them is asked for"


class Net:
    r"""A function of each pixel with parameters of its own; it keeps what it was given last."""

    def __init__(self, t: Trial, d: int) -> None:
        self.scale, self.shift = (t.rand(d, low=0.5, high=2).requires_grad_() for _ in range(2))
        self.seen: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        self.seen = x.detach().clone()
        return self.scale * torch.tanh(x) + self.shift


def squares(a: Tensor, b: Tensor) -> Tensor:
    r"""Squared distance of each row from its partner: the diagonal of all distances."""
    return torch.stack([torch.dist(p, q) ** 2 for p, q in zip(a, b)])


def variance_images(t: Trial, f: Callable) -> None:
    n = 3000
    for d, percent in t.cases((4, 6), (3, 8)):
        b = percent / 100
        gray = torch.cat([torch.tensor([0.0, 0.5, 1.0]).double(), t.rand(d - 3)]).repeat(n, 1)
        x = t.run(f, gray, b, t.rng(), untouched="the gray images stay as they were")
        t.shape("as many images and pixels as there were", x, n, d)
        t.value(
            "every pixel has mean 0",
            x.mean(0),
            0.0,
            tol=5 / n**0.5,
            mistake="the image is in the variance alone: the noise is multiplied, not added to the image",
        )
        v = b + (1 - b) * gray[0] ** 2
        t.value(
            "gray values 0, ½, 1 and others give the variances b + (1 − b) g²",
            x.var(0) / v,
            1.0,
            tol=0.18,
            mistakes={
                "the variance is used as a standard deviation": bool(
                    (x.var(0) / v**2 - 1).abs().max() < 0.18
                ),
                "the gray value enters squared": bool(
                    (x.var(0) / (b + (1 - b) * gray[0]) - 1).abs().max() < 0.18
                ),
            },
            mistake="standard deviation √(b + (1 − b) g²), times standard normal numbers",
        )
        each = x / (b + (1 - b) * gray**2).sqrt()
        t.independent(
            "pixels are independent of each other",
            each,
            mistake="one draw for each pixel of each image: torch.randn of the shape of the images",
        )
    t.distributed(
        "divided by its standard deviation, a pixel is a standard normal number", each, "norm"
    )
    gray = t.rand(7, 3, 2)
    x = t.draws(lambda g: t.run(f, gray, b, g))
    t.shape("images may have any shape", x, 7, 3, 2, mistake="torch.randn(gray.shape, …)")


def bottleneck_loss(t: Trial, f: Callable) -> None:
    for n, d in t.cases((3, 6), (5, 8)):
        x, encoder, decoder = t.randn(n, d), Net(t, d), Net(t, d)
        value = t.run(f, encoder, decoder, x, untouched="the images stay as they were")
        t.number("the loss", value, mistake=MEAN_OVER)
        truth = squares(decoder(encoder(x)), x)
        t.value(
            "the squared distance between an image and its reconstruction, on average",
            value,
            truth.mean(),
            mistakes={
                PIXELS: truth.mean() / d,
                IMAGES: truth.sum(),
                "this is the distance; its square is asked for": truth.sqrt().mean(),
                "this is the absolute difference": (decoder(encoder(x)) - x).abs().sum(1).mean(),
                "this is half of the square": truth.mean() / 2,
                "the decoder is not used": squares(encoder(x), x).mean(),
                "decoder(encoder(x)), in this order": squares(encoder(decoder(x)), x).mean(),
                "one image stands for all": truth[0],
            },
            mistake="decode the code of x, and compare with x",
        )
        weights = (encoder.scale, encoder.shift, decoder.scale, decoder.shift)
        t.gradient("encoder and decoder learn from it", value, truth.mean(), *weights)


def denoising_loss(t: Trial, f: Callable) -> None:
    for d, percent in t.cases((4, 7), (40, 70)):
        n, sigma = 2000, percent / 100
        x, net = t.randn(n, d), Net(t, d)
        value = t.run(f, net, x, sigma, t.rng(), untouched="x stays as it was")
        t.number("the loss", value, mistake=MEAN_OVER)
        seen = x if net.seen is None else net.seen
        t.shape("the network sees an image for each image", seen, n, d)
        noise = (seen - x) / sigma
        t.value(
            "the network sees x + σ ε: noise of the standard deviation σ",
            noise.std(),
            1.0,
            tol=0.05,
            mistakes={
                "the network must see the noisy image, and its answer be compared with the clean one": 0.0,
                "σ is a standard deviation: noise σ ε, not σ² ε": sigma,
                "σ is a standard deviation: noise σ ε, not √σ ε": sigma**-0.5,
                "torch.rand is uniform; the noise is Gaussian, torch.randn": 12**-0.5,
            },
            mistake="noise of the standard deviation σ, added to every pixel",
        )
        t.distributed(
            "ε is standard normal",
            noise,
            "norm",
            mistakes={"one draw for each number of x": len(noise.unique()) < n * d / 2},
        )
        t.independent(
            "every pixel has a noise of its own",
            noise,
            mistake="one draw for each number of x: torch.randn of the shape of x",
        )
        truth = squares(net(seen), x)
        t.value(
            "the squared distance between the answer and the clean image, on average",
            value,
            truth.mean(),
            mistakes={
                PIXELS: truth.mean() / d,
                IMAGES: truth.sum(),
                "the target is the clean x, not the noisy one": squares(net(seen), seen).mean(),
                "one image stands for all": truth[0],
            },
            mistake=MEAN_OVER,
        )
        t.gradient("the network learns from it", value, truth.mean(), net.scale, net.shift)
    t.draws(lambda g: t.run(f, net, x, sigma, g).detach())


def sample_code(t: Trial, f: Callable) -> None:
    for (k,) in t.cases((2, 4)):
        n = 4000
        mean, log_variance = 2 + 3 * t.randn(n, k), t.rand(k, low=1, high=2).repeat(n, 1)
        log_variance[:, 0] *= -1
        z = t.run(
            f, mean, log_variance, t.rng(), untouched="mean and log-variance stay as they were"
        )
        t.shape("a code for each sample", z, n, k)
        t.value(
            "the codes have the means that were asked for",
            (z - mean).mean(0),
            0.0,
            tol=0.2,
            mistake="the mean is added, and the noise has mean 0: torch.randn, not torch.rand",
        )
        log_sd, sd = log_variance[0] / 2, (z - mean).std(0)
        t.value(
            "the codes have the standard deviations exp(½ log σ²)",
            sd / log_sd.exp(),
            1.0,
            tol=0.07,
            mistakes={
                "exp(log σ²) is the variance; exp(½ log σ²) is the standard deviation": bool(
                    (sd / (2 * log_sd).exp() - 1).abs().max() < 0.07
                ),
                "the root has been taken twice": bool(
                    (sd / (log_sd / 2).exp() - 1).abs().max() < 0.07
                ),
                "the logarithm of the variance has to be exponentiated": bool(
                    (sd / log_sd.abs() - 1).abs().max() < 0.07
                    or (sd / (2 * log_sd).abs() - 1).abs().max() < 0.07
                ),
                "one noise for all samples; one draw for each number is asked for": bool(
                    (sd < 0.1).all()
                ),
            },
            mistake="z = mean + exp(½ log σ²) ε with standard normal ε",
        )
        noise = (z - mean) / log_sd.exp()
        t.distributed("ε is standard normal", noise, "norm")
        t.independent(
            "each number of a code has a draw of its own",
            noise,
            mistake="one draw for each number: torch.randn of the shape of the mean",
        )
        m, log_v = t.randn(5, k).requires_grad_(), t.randn(5, k).requires_grad_()
        z = t.run(f, m, log_v, t.rng())
        truth = m + (log_v / 2).exp() * ((z - m) / (log_v / 2).exp()).detach()
        t.gradient(
            "the gradient passes through the draw: ∂z/∂mean = 1, ∂z/∂(log σ²) = ½ (z − mean)",
            z,
            truth,
            m,
            log_v,
            mistake="draw ε outside of the graph and compute z from it; sample(), torch.normal and detach() cut it off",
        )
    t.draws(lambda g: t.run(f, m, log_v, g).detach())


def kl_divergence(t: Trial, f: Callable) -> None:
    for n, k in t.cases((3, 6), (2, 5)):
        zeros, m, log_v = torch.zeros(n, k).double(), t.randn(n, k), t.randn(n, k)
        m, log_v = m.requires_grad_(), log_v.requires_grad_()
        value = t.run(f, zeros, zeros)
        t.number(
            "the divergence", value, mistake="sum over the code, then the mean over the samples"
        )
        t.value(
            "no divergence from N(0, I) to itself",
            value,
            0.0,
            mistake="½ (m² + σ² − 1 − log σ²): a term is missing, perhaps the −1",
        )
        truth = m.square().sum(1) / 2
        t.value(
            "means alone, with variance 1, cost half of their squares",
            t.run(f, m, zeros),
            truth.mean(),
            mistakes={
                "the sign is turned around; a divergence is never negative": -truth.mean(),
                "a factor ½ is missing": 2 * truth.mean(),
                "the samples are summed; their mean is asked for": truth.sum(),
                "this is the mean over the code numbers; their sum is asked for": truth.mean() / k,
                "one sample stands for all": truth[0],
            },
            mistake="the means enter squared",
        )
        V, L = log_v.exp().sum(1).mean() / 2, log_v.sum(1).mean() / 2
        t.value(
            "variances alone, with mean 0, cost ½ (σ² − 1 − log σ²)",
            t.run(f, zeros, log_v),
            V - k / 2 - L,
            mistakes={
                "the argument is log σ², not log σ": (2 * log_v).exp().sum(1).mean() / 2
                - k / 2
                - 2 * L,
                "σ² is asked for, not σ": (log_v / 2).exp().sum(1).mean() / 2 - k / 2 - L / 2,
                "the logarithm has the wrong sign": V - k / 2 + L,
            },
            mistake="½ (σ² − 1 − log σ²) with σ² = exp(log σ²)",
        )
        stay = "mean and log-variance stay as they were"
        value = t.run(f, m, log_v, untouched=stay)
        truth = divergence(Normal(m, (log_v / 2).exp()), Normal(zeros, 1.0)).sum(1).mean()
        t.value(
            "together they cost what torch.distributions finds",
            value,
            truth,
            mistake="½ Σ (m² + σ² − 1 − log σ²): the sum of both costs",
        )
        t.gradient("the encoder learns from it", value, truth, m, log_v)


def gaussian_nll(t: Trial, f: Callable) -> None:
    for n, d in t.cases((3, 6), (3, 7)):
        x, m, log_v = t.randn(n, d), t.randn(n, d).requires_grad_(), t.randn(n, d).requires_grad_()
        zeros, best = torch.zeros_like(x), d / 2 * math.log(2 * math.pi)
        value = t.run(f, x, x, zeros)
        t.number("the loss", value, mistake=MEAN_OVER)
        t.value(
            "pixels at their means with variance 1 cost ½ log 2π each",
            value,
            best,
            mistakes={
                "the constant ½ log 2π of each pixel is missing": 0.0,
                "this is the log-density; the loss is minus that": -best,
                PIXELS: best / d,
                IMAGES: best * n,
                "the factor ½ is missing": 2 * best,
            },
        )
        truth = (x - m).square().sum(1).mean() / 2
        t.value(
            "with variance 1, pixels that are off cost half of the squares more",
            t.run(f, x, m, zeros) - value,
            truth,
            mistakes={
                "the factor ½ of the square is missing": 2 * truth,
                "the difference enters squared": (x - m).abs().sum(1).mean() / 2,
                "the sign of the square is turned around": -truth,
            },
        )
        value = t.run(f, x, m, log_v, untouched="what was handed in stays as it was")
        density = Normal(m, (log_v / 2).exp())
        truth = -density.log_prob(x).sum(1).mean()
        off, L = (x - m).square(), log_v.sum(1).mean()
        t.value(
            "it is minus the log-density that torch.distributions finds",
            value,
            truth,
            mistakes={
                "½ log σ² has the wrong sign": truth - L,
                "½ log σ² is missing": truth - L / 2,
                "log σ² has the factor ½: it is the logarithm of the standard deviation": truth
                + L / 2,
                "the square is divided by exp(log σ²)": truth
                + (off - off / log_v.exp()).sum(1).mean() / 2,
                "the square is divided by the variance, not the standard deviation": truth
                + (off / (log_v / 2).exp() - off / log_v.exp()).sum(1).mean() / 2,
            },
            mistake="the square is divided by σ², and ½ log σ² is added, for each pixel",
        )
        t.gradient(
            "the decoder learns from it, both its mean and its variance", value, truth, m, log_v
        )
