r"""Assignment 8, normalizing flows: a coupling layer, its inverse and its log-determinant."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from lectool.checks.trial import Trial

__all__ = ["coupling", "coupling_inverse", "flow", "flow_sample", "log_density"]


class Net:
    r"""A conditioner: log-scales and shifts of the second half, which depend smoothly on the first."""

    def __init__(self, t: Trial, half: int) -> None:
        self.A, self.B = t.randn(half, 8), 0.4 * t.randn(8, 2 * half)
        self.B.requires_grad_()

    def __call__(self, h: Tensor) -> Tensor:
        return (torch.tanh(h.double() @ self.A) @ self.B).to(h)


def nets_of(t: Trial, n_layers: int, half: int) -> list[Net]:
    return [Net(t, half) for _ in range(n_layers)]


def bend(row: Tensor, net: Callable) -> Tensor:
    r"""One layer for one sample, without its log-determinant: that comes from its Jacobian."""
    half = len(row) // 2
    answer = net(row[None, :half])[0]
    moved = [row[half + j] * answer[j].exp() + answer[half + j] for j in range(half)]
    return torch.cat([row[:half], torch.stack(moved)])


def whole(row: Tensor, nets: Sequence[Callable]) -> Tensor:
    r"""All layers for one sample, the numbers turned around after each."""
    for layer in nets:
        row = bend(row, layer).flip(0)
    return row


def by_sample(f: Callable, x: Tensor, net: object) -> tuple[Tensor, Tensor]:
    r"""``f(row, net)`` for each sample, and the log-determinants of its Jacobians."""
    jacobian = torch.autograd.functional.jacobian
    J = [jacobian(lambda row: f(row, net), row, create_graph=True) for row in x]
    values = torch.stack([f(row, net) for row in x])
    return values, torch.linalg.slogdet(torch.stack(J)).logabsdet


def coupling(t: Trial, f: Callable) -> None:
    for n, half in t.cases((3, 5), (2, 4)):
        x, net = t.randn(n, 2 * half), Net(t, half)
        y, log_det = t.parts(t.run(f, x, net, untouched="x stays as it was"), "y", "log_det")
        t.shape(
            "y has the shape of x",
            y,
            n,
            2 * half,
            mistake="put the two halves together: torch.cat(…, dim=1)",
        )
        t.shape(
            "one log-determinant for each sample",
            log_det,
            n,
            mistake="sum over the numbers of a sample, dim=1, and not over the samples",
        )
        t.value(
            "the first half stays",
            y[:, :half],
            x[:, :half],
            mistake="the first half goes through unchanged; the second is transformed",
        )
        right, volume = by_sample(bend, x, net)
        (s, shift), upper = net(x[:, :half]).chunk(2, dim=1), x[:, half:]
        t.value(
            "the second half becomes x₂ · exp(s) + t",
            y[:, half:],
            right[:, half:],
            mistakes={
                "the scale is exp(s), so that it is never 0": upper * s + shift,
                "first the scale, then the shift": (upper + shift) * s.exp(),
                "s and t are swapped: s comes first": upper * shift.exp() + s,
                "each sample has an s and a t of its own": upper * s[:1].exp() + shift[:1],
            },
            mistake="y₂ = x₂ · exp(s) + t, where s and t depend on the first half only",
        )
        t.value(
            "the log-determinant is that of the Jacobian, by automatic differentiation",
            log_det,
            volume,
            mistakes={
                "this is the sum of the scales; the sum of their logarithms, of s, is asked for": (
                    s.exp().sum(1)
                ),
                "this is the mean of s; the sum is asked for": s.mean(1),
                "the sign is turned around: this is the inverse's": -volume,
                "the shift does not stretch: only s counts": (s + shift).sum(1),
                "each sample has a log-determinant of its own": bool(
                    (log_det - log_det[0]).abs().max() < 1e-9
                ),
            },
            mistake="the sum of s over the numbers of a sample",
        )
        t.gradient("the network learns from y", y, right, net.B)
        t.gradient("the network learns from the log-determinant", log_det, volume, net.B)


def coupling_inverse(t: Trial, f: Callable, coupling: Callable) -> None:
    for n, half in t.cases((3, 5), (2, 4)):
        x, net = t.randn(n, 2 * half), Net(t, half)
        y = torch.stack([bend(row, net) for row in x]).detach()
        came = t.run(f, y, net, untouched="y stays as it was")
        t.shape("x has the shape of y", came, n, 2 * half)
        s, shift = net(x[:, :half]).chunk(2, dim=1)
        upper = y[:, half:]
        t.value("the first half stays", came[:, :half], x[:, :half], mistake="y₁ = x₁")
        t.value(
            "it takes the second half back to the x₂ that it came from",
            came[:, half:],
            x[:, half:],
            mistakes={
                "the shift came last, so it is undone first: (y₂ − t) · exp(−s)": (
                    upper * (-s).exp() - shift
                ),
                "divide by exp(s): the sign of s is missing": ((upper - shift) * s.exp()),
                "the shift has to be subtracted": ((upper + shift) * (-s).exp()),
                "each sample has an s and a t of its own": ((upper - shift[:1]) * (-s[:1]).exp()),
            },
            mistake="s and t come from the first half, which is the same on both sides",
        )
        back = t.run(coupling, came, net)[0]
        t.value(
            "your coupling takes it to y again", back, y, mistake="your coupling is another map"
        )


def flow(t: Trial, f: Callable) -> None:
    for n, half, n_layers in t.cases((3, 5), (2, 4), (3, 4)):
        x, nets = t.randn(n, 2 * half), nets_of(t, n_layers, half)
        z, log_det = t.parts(t.run(f, x, nets, untouched="x stays as it was"), "z", "log_det")
        t.shape("z has the shape of x", z, n, 2 * half)
        t.shape("one log-determinant for each sample", log_det, n)
        right, volume = by_sample(whole, x, nets)
        no_flip, flip_first = x, x
        for layer in nets:
            no_flip = torch.stack([bend(row, layer) for row in no_flip])
            flip_first = torch.stack([bend(row.flip(0), layer) for row in flip_first])
        others = {
            "the loop ends after its first layer": nets[:1],
            "every layer has a network of its own": nets[:1] * n_layers,
            "the layers stand in another order": nets[::-1],
            "the last layer is missing": nets[:-1],
        }
        others = {words: by_sample(whole, x, other) for words, other in others.items()}
        t.value(
            "z is what the layers make of x, one after the other, a flip after each",
            z,
            right,
            mistakes={
                "after each coupling flip(1): else the first half is never transformed": no_flip,
                "the flip comes after the coupling, not before it": flip_first,
                "after the last layer comes a flip too": right.flip(1),
                **{words: value for words, (value, _) in others.items()},
            },
            mistake="z, then log_det, of the coupling with each network in turn, each followed by flip(1)",
        )
        t.value(
            "the log-determinant is that of the whole Jacobian",
            log_det,
            volume,
            mistakes={words: value for words, (_, value) in others.items()},
            mistake="the log-determinants of all layers are added up, each sample's by itself",
        )
        t.gradient("all layers learn from z", z, right, *(net.B for net in nets))
        t.gradient("all layers learn from log_det", log_det, volume, *(net.B for net in nets))


def log_density(t: Trial, f: Callable) -> None:
    for n, half, n_layers in t.cases((3, 5), (1, 3), (2, 3)):
        d = 2 * half
        x, nets = t.randn(n, d), nets_of(t, n_layers, half)
        value = t.run(f, x, nets, untouched="x stays as it was")
        t.shape(
            "one log-density for each sample",
            value,
            n,
            mistake="sum over the numbers of a sample, dim=1",
        )
        z, volume = by_sample(whole, x, nets)
        normal = MultivariateNormal(torch.zeros(d).double(), torch.eye(d).double()).log_prob(z)
        t.value(
            "log N(z; 0, I) + log |det ∂z/∂x|, both found in another way",
            value,
            normal + volume,
            mistakes={
                "the log-determinant has to be added, not subtracted": normal - volume,
                "the log-determinant is missing": normal,
                "the constant −½ log 2π of each number is missing": (
                    normal + volume + d / 2 * math.log(2 * math.pi)
                ),
                "this is minus the log-density": -normal - volume,
                "the factor ½ of the squares is missing": (normal + volume - z.square().sum(1) / 2),
                "each sample has a log-determinant of its own": normal + volume[0],
            },
            mistake="log p(x) = log N(z; 0, I) + log |det ∂z/∂x|",
        )
        t.gradient("all layers learn from it", value, normal + volume, *(net.B for net in nets))


def flow_sample(t: Trial, f: Callable, flow: Callable) -> None:
    for n, half, n_layers in t.cases((50, 90), (2, 4), (3, 4)):
        d, start = 2 * half, torch.randn(4000, 2, generator=t.rng())
        x = t.run(f, 4000, 2, [], t.rng())
        t.shape("n samples of d numbers", x, 4000, 2)
        t.distributed("without layers they are standard normal", x, "norm")
        t.value(
            "without layers they are the numbers that the generator draws",
            x,
            start,
            mistake="start from torch.randn(n, d, generator=generator)",
        )
        nets = nets_of(t, n_layers, half)
        with torch.no_grad():
            x, z = t.run(f, n, d, nets, t.rng(1)), torch.randn(n, d, generator=t.rng(1))
            t.value(
                "the layers take the samples back to the normal numbers that they were drawn from",
                torch.stack([whole(row, nets) for row in x]),
                z,
                tol=2e-3,
                mistakes={
                    "this is the flow itself; samples need its inverse": bool(
                        (torch.stack([whole(row, nets) for row in z]) - x).abs().max() < 1e-3
                    )
                },
                mistake="undo the layers from the last to the first: flip, then the inverse coupling",
            )
            back = t.run(flow, x, nets)[0]
            t.value("your flow does so too", back, z, tol=2e-3, mistake="your flow is another map")
    t.draws(lambda g: t.run(f, n, d, nets, g).detach())
