r"""Assignment 8, normalizing flows: a coupling layer, its inverse and its log-determinant."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool.checks.trial import Trial

__all__ = ["coupling", "coupling_inverse", "flow", "flow_sample", "log_density"]


def constant(log_scale: float, shift: float, half: int) -> Callable:
    r"""A conditioner that answers the same for every input."""
    answer = torch.tensor([log_scale] * half + [shift] * half, dtype=torch.float64)
    return lambda h: answer.expand(len(h), -1)


def some_net(t: Trial, half: int, seed: int) -> Callable:
    r"""A conditioner that depends on its input, smoothly."""
    A, B = t.randn(half, 8, seed=seed), t.randn(8, 2 * half, seed=seed + 100)
    return lambda h: 0.4 * torch.tanh(h @ A) @ B


def true_log_det(f: Callable, x: Tensor) -> Tensor:
    r"""By automatic differentiation, sample by sample."""
    each = [torch.autograd.functional.jacobian(lambda v: f(v[None])[0][0], row) for row in x]
    return torch.linalg.slogdet(torch.stack(each)).logabsdet


def coupling(t: Trial, f: Callable) -> None:
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, -1.0, 1.0]], dtype=torch.float64)
    net = constant(math.log(2.0), 1.0, 2)
    y, log_det = t.parts(t.run(f, x, net, untouched="x stays as it was"), "y", "log_det")
    t.shape(
        "y has the shape of x", y, 2, 4, mistake="put the two halves together: torch.cat(…, dim=1)"
    )
    t.shape(
        "one log-determinant for each sample",
        log_det,
        2,
        mistake="sum over the numbers of a sample, dim=1, and not over the samples",
    )
    t.near(
        "the first half stays",
        y[:, :2],
        x[:, :2],
        tol=1e-9,
        mistake="the first half goes through unchanged; the second is transformed",
    )
    came = y[:, 2:]
    t.near(
        "with s = log 2 and t = 1 the second half becomes 2 x + 1",
        came,
        2 * x[:, 2:] + 1,
        tol=1e-6,
        mistake=[
            (
                (came - math.log(2.0) * x[:, 2:] - 1).abs().max() < 1e-6,
                "the scale is exp(s), so that it is never 0",
            ),
            ((came - 2 * (x[:, 2:] + 1)).abs().max() < 1e-6, "first the scale, then the shift"),
            (
                (came - x[:, 2:] - 2 * 1).abs().max() < 1e-6
                or (came - x[:, 2:] * math.e - math.log(2.0)).abs().max() < 1e-6,
                "s and t are swapped: s comes first",
            ),
            (True, "y₂ = x₂ · exp(s) + t"),
        ],
    )
    d = log_det[0].item()
    t.near(
        "with s = log 2 in two places the log-determinant is 2 log 2",
        log_det,
        2 * math.log(2.0),
        tol=1e-6,
        mistake=[
            (
                abs(d - 4) < 1e-6,
                "this is the sum of the scales; the sum of their logarithms, of s, is asked for",
            ),
            (abs(d - math.log(2.0)) < 1e-6, "this is the mean of s; the sum is asked for"),
            (abs(d + 2 * math.log(2.0)) < 1e-6, "the sign is turned around: this is the inverse's"),
            (abs(d - 2 * math.log(2.0) - 2) < 1e-6, "the shift does not stretch: only s counts"),
            (True, "the sum of s over the numbers of a sample"),
        ],
    )
    net, x = some_net(t, 2, 1), t.randn(3, 4, seed=2)
    y, log_det = t.run(f, x, net)
    t.near(
        "for a real network it is the log-determinant of the Jacobian",
        log_det,
        true_log_det(lambda v: f(v, net), x),
        tol=1e-6,
        mistake="s and t may depend on the first half only: then the Jacobian is triangular",
    )


def coupling_inverse(t: Trial, f: Callable, coupling: Callable) -> None:
    y = torch.tensor([[1.0, 2.0, 7.0, 9.0]], dtype=torch.float64)
    x = t.run(f, y, constant(math.log(2.0), 1.0, 2), untouched="y stays as it was")
    t.shape("x has the shape of y", x, 1, 4)
    came = x[:, 2:]
    t.near(
        "with s = log 2 and t = 1 it takes 7, 9 back to 3, 4",
        came,
        torch.tensor([[3.0, 4.0]]),
        tol=1e-6,
        mistake=[
            (
                (came - torch.tensor([[2.5, 3.5]])).abs().max() < 1e-6,
                "the shift came last, so it is undone first: (y₂ − t) · exp(−s)",
            ),
            (
                (came - torch.tensor([[12.0, 16.0]])).abs().max() < 1e-6,
                "divide by exp(s): the sign of s is missing",
            ),
            (
                (came - torch.tensor([[4.0, 5.0]])).abs().max() < 1e-6,
                "the shift has to be subtracted",
            ),
            (True, "x₂ = (y₂ − t) · exp(−s)"),
        ],
    )
    net, x = some_net(t, 3, 1), t.randn(5, 6, seed=2)
    t.near(
        "there and back again: it undoes your coupling",
        t.run(f, t.run(coupling, x, net)[0], net),
        x,
        tol=1e-6,
        mistake="s and t come from the first half, which is the same on both sides",
    )


def flow(t: Trial, f: Callable) -> None:
    x = t.randn(3, 4)
    nets = [some_net(t, 2, 10 * j) for j in range(1, 4)]
    z, log_det = t.parts(t.run(f, x, nets, untouched="x stays as it was"), "z", "log_det")
    t.shape("z has the shape of x", z, 3, 4)
    t.shape("one log-determinant for each sample", log_det, 3)
    zero, _ = t.run(f, x, [constant(0.0, 0.0, 2)])
    t.near(
        "a layer that does nothing only turns the order of the numbers around",
        zero,
        x.flip(1),
        tol=1e-9,
        mistake="after each coupling flip(1): else the first half is never transformed",
    )
    t.near(
        "the log-determinant is that of the whole Jacobian",
        log_det,
        true_log_det(lambda v: f(v, nets), x),
        tol=1e-6,
        mistake="the log-determinants of all layers are added up",
    )


class Still(nn.Module):
    r"""A conditioner without a say, float32 and float64."""

    def forward(self, h: Tensor) -> Tensor:
        return torch.zeros(len(h), 2).to(h)


def log_density(t: Trial, f: Callable) -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    value = t.run(f, x, [Still()])
    t.shape(
        "one log-density for each sample",
        value,
        2,
        mistake="sum over the numbers of a sample, dim=1",
    )
    best = -math.log(2 * math.pi)
    t.near(
        "where the flow does nothing it is the standard normal's: −1.838 and −4.338",
        value,
        torch.tensor([best, best - 2.5], dtype=torch.float64),
        tol=1e-6,
        mistake=[
            (abs(float(value[0])) < 1e-6, "the constant −½ log 2π of each number is missing"),
            (abs(float(value[0]) + best) < 1e-6, "this is minus the log-density"),
            (abs(float(value[1]) - best + 5) < 1e-6, "the factor ½ of the squares is missing"),
        ],
    )
    line = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    stretch = constant(0.5, 0.3, 1)
    area = float(t.run(f, grid, [stretch, some_net(t, 1, 1)]).exp().sum() * 0.01)
    t.near(
        "the density has the area 1",
        area,
        1.0,
        tol=0.02,
        mistake=[
            (area < 0.6, "the log-determinant has to be added, not subtracted; or it is missing"),
            (True, "log p(x) = log N(z; 0, I) + log |det ∂z/∂x|"),
        ],
    )


def flow_sample(t: Trial, f: Callable, flow: Callable) -> None:
    n = 4000
    x = t.run(f, n, 4, [], t.rng(0))
    t.shape("n samples of d numbers", x, n, 4)
    t.holds(
        "without layers they are standard normal",
        x.mean(0).abs().max() < 0.1 and (x.var(0) - 1).abs().max() < 0.15,
        expected="means 0, variances 1",
        came=f"means {x.mean().item():.2f}, variances {x.var().item():.2f}",
        mistake="start from torch.randn, not torch.rand",
    )
    z = torch.randn(50, 4, generator=t.rng(1))
    nets = [some_net(t, 2, 10 * j) for j in range(1, 4)]
    plain = [lambda h, net=net: net(h.double()).to(h) for net in nets]
    x = t.run(f, 50, 4, plain, t.rng(1))
    back = t.run(flow, x, plain)[0]
    t.near(
        "your flow takes the samples back to the normal numbers that they were drawn from",
        back,
        z,
        tol=1e-3,
        mistake=[
            (
                (t.run(flow, z, plain)[0] - x).abs().max() < 1e-3,
                "this is the flow itself; samples need its inverse",
            ),
            (True, "undo the layers from the last to the first: flip, then the inverse coupling"),
        ],
    )
