r"""Flows in continuous time: a field of velocities, two solvers, and the trace that keeps the density."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lectool import check
from lectool.flows.core import Layer, beside
from lectool.random import integers

__all__ = ["ContinuousFlow", "TangentMLP", "VelocityField", "dopri5", "rk4"]

Derivative = Callable[[float, Tensor], Tensor]


# ------------------------------------------------------------------------------------------------ solvers


def rk4(f: Derivative, y: Tensor, t0: float, t1: float, n_steps: int) -> Tensor:
    r"""Solves :math:`\dot y = f(t, y)` from t0 to t1 by ``n_steps`` equal steps of the classical Runge–Kutta rule.

    Arguments:
        f: the derivative, of y's shape.
        y: where to begin.
        t0, t1: from where to where; t1 < t0 runs backwards.
        n_steps: ≥ 1, each with four evaluations of f.

    Returns:
        y at t1; its error falls with the fourth power of the step.
    """
    check.at_least(1, n_steps=n_steps)
    h = (t1 - t0) / n_steps
    for i in range(n_steps):
        t = t0 + i * h
        k1 = f(t, y)
        k2 = f(t + h / 2, y + h / 2 * k1)
        k3 = f(t + h / 2, y + h / 2 * k2)
        k4 = f(t + h, y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


# Dormand & Prince (1980): places, and weights of the slopes so far; the last row is the fifth-order step.
DOPRI_C = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
DOPRI_A = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
# The fifth-order weights minus those of the embedded fourth-order rule.
DOPRI_E = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def dopri5(
    f: Derivative,
    y: Tensor,
    t0: float,
    t1: float,
    *,
    tolerance: float = 1e-5,
    max_steps: int = 1000,
) -> tuple[Tensor, int]:
    r"""Solves :math:`\dot y = f(t, y)` with steps that adapt to a tolerance (Dormand & Prince, 1980).

    Two rules, of orders five and four, share seven slopes. Their difference estimates the error: a step
    whose largest row has a larger one than the tolerance is taken again, shorter; the next step grows or
    shrinks with its fifth root.

    Arguments:
        f, y, t0, t1: as in :func:`rk4`; axis 0 of y counts samples, which take their steps together.
        tolerance: of the error of one step, absolute and relative to y, > 0.
        max_steps: tries after which it gives up.

    Returns:
        y at t1, and the number of evaluations of f.

    Raises:
        ValueError: if the tolerance is not positive.
        RuntimeError: if ``max_steps`` do not suffice.
    """
    check.positive(tolerance=tolerance)
    t, h, n_evaluations = t0, (t1 - t0) / 8, 1
    first = f(t, y)
    for _ in range(max_steps):
        if abs(t1 - t) <= 1e-12 * abs(t1 - t0):
            return y, n_evaluations
        h = math.copysign(min(abs(h), abs(t1 - t)), t1 - t0)
        k = [first]
        for c, weights in zip(DOPRI_C[1:], DOPRI_A[1:]):
            new = y + h * sum(a * k_i for a, k_i in zip(weights, k) if a)
            k.append(f(t + c * h, new))
        n_evaluations += 6
        ratio = error_ratio(h, k, y, new, tolerance)
        if ratio <= 1:
            # The last slope is the next step's first.
            t, y, first = t + h, new, k[-1]
        h *= min(5.0, max(0.2, 0.9 * max(ratio, 1e-10) ** -0.2))
    raise RuntimeError(f"no end after {max_steps} steps, at t = {t:.3g}; the field is too stiff")


@torch.no_grad()
def error_ratio(h: float, k: Sequence[Tensor], y: Tensor, new: Tensor, tolerance: float) -> float:
    r"""The largest row's estimated error of a step, in units of what is allowed."""
    error = h * sum(e * k_i for e, k_i in zip(DOPRI_E, k) if e)
    allowed = tolerance * (1 + torch.maximum(y.abs(), new.abs()))
    return (error / allowed).reshape(len(y), -1).square().mean(1).max().sqrt().item()


# ------------------------------------------------------------------------------------- fields with a trace


class TangentMLP(nn.Module):
    r"""A tanh perceptron that can push directions through itself along with points.

    Arguments:
        sizes: widths from input to output, at least two.
    """

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        check.sizes(sizes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes[:-1], sizes[1:]))

    def weights(self) -> list[Tensor]:
        r"""The matrices in use, from input to output."""
        return [layer.weight for layer in self.layers]

    def forward(self, x: Tensor) -> Tensor:
        for i, (W, layer) in enumerate(zip(self.weights(), self.layers)):
            x = nn.functional.linear(torch.tanh(x) if i else x, W, layer.bias)
        return x

    def with_tangents(self, x: Tensor, T: Tensor) -> tuple[Tensor, Tensor]:
        r"""The output at x, shape (n, d_out), and :math:`J T`.

        Arguments:
            x: shape (n, d_in).
            T: m directions for each sample as rows, shape (n, m, d_in).

        Returns:
            the output, and the directions that it moves in, shape (n, m, d_out).
        """
        for i, (W, layer) in enumerate(zip(self.weights(), self.layers)):
            if i:
                x = torch.tanh(x)
                T = T * (1 - x.square())[:, None]
            x, T = nn.functional.linear(x, W, layer.bias), T @ W.T
        return x, T


class VelocityField(nn.Module):
    r"""A velocity :math:`v(t, x)` for points and times, by a tanh perceptron.

    Arguments:
        d: numbers in a point, ≥ 1.
        hidden: widths between.
        n_context: numbers in the context.
    """

    def __init__(self, d: int, hidden: Sequence[int] = (64, 64), n_context: int = 0):
        super().__init__()
        self.d, self.n_context = d, n_context
        self.net = TangentMLP([d + 1 + n_context, *hidden, d])

    def _input(self, t: float | Tensor, x: Tensor, context: Tensor | None) -> Tensor:
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(len(x))[:, None]
        return beside(torch.cat([x, t], 1), context, self.n_context)

    def forward(self, t: float | Tensor, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Velocities, shape (n, d), at times of shape () or (n,)."""
        return self.net(self._input(t, x, context))

    def with_divergence(
        self, t: float | Tensor, x: Tensor, probes: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Velocities, and the sum of eᵀ (∂v/∂x) e over the probes e.

        With the d unit vectors as probes this is the trace, the divergence of the field; with one vector of
        random signs, an unbiased estimate of it (Hutchinson).

        Arguments:
            t: times, shape () or (n,).
            x: points, shape (n, d).
            probes: shape (n, m, d).

        Returns:
            shapes (n, d) and (n,).
        """
        inputs = self._input(t, x, context)
        T = nn.functional.pad(probes, (0, inputs.shape[1] - self.d))
        v, JT = self.net.with_tangents(inputs, T)
        return v, (probes * JT).sum((1, 2))


def trace_probes(x: Tensor, *, signs: bool) -> Tensor:
    r"""Directions e that give the trace of a matrix J for each row of x, as the sum of eᵀ J e.

    Arguments:
        x: shape (n, d).
        signs: whether to take one vector of random signs, whose answer is right on average (Hutchinson).

    Returns:
        that vector for each row, shape (n, 1, d), or the d unit vectors, shape (n, d, d).
    """
    n, d = x.shape
    if signs:
        return 2 * integers(2, (n, 1, d), x.device).to(x) - 1
    return torch.eye(d).to(x).expand(n, d, d)


class ContinuousFlow(Layer):
    r"""Points follow a field of velocities from time 0 to time 1: :math:`\dot x = v(t, x)`.

    .. math:: \log \left\lvert \det \frac{\partial x(1)}{\partial x(0)} \right\rvert
        = \int_0^1 \operatorname{tr} \frac{\partial v}{\partial x}\bigl(t, x(t)\bigr) \, \mathrm dt

    Gradients go through the solver's steps.

    Arguments:
        field: gives velocities and divergence, as :class:`VelocityField`.
        trace: ``"exact"``; or ``"hutchinson"``, while in ``train()`` mode, for one random probe for each sample, kept
            during a solution. In ``eval()`` mode the trace is exact.
        solver: ``"rk4"`` with ``n_steps``, or ``"dopri5"`` with ``tolerance``.
        n_steps, tolerance: as in :func:`rk4` and :func:`dopri5`.

    Raises:
        ValueError: if a name is unknown.

    References:
        Chen et al. (2018), Neural ordinary differential equations; Grathwohl et al. (2019), FFJORD.
    """

    def __init__(
        self,
        field: VelocityField,
        *,
        trace: str = "exact",
        solver: str = "rk4",
        n_steps: int = 8,
        tolerance: float = 1e-5,
    ):
        super().__init__()
        check.one_of(("exact", "hutchinson"), trace=trace)
        check.one_of(("rk4", "dopri5"), solver=solver)
        check.at_least(1, n_steps=n_steps)
        check.positive(tolerance=tolerance)
        self.field, self.trace, self.solver = field, trace, solver
        self.n_steps, self.tolerance = n_steps, tolerance
        self.n_evaluations = 0  # of the last solution

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.integrate(z, 0.0, 1.0, context)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.integrate(x, 1.0, 0.0, context)

    def integrate(
        self, x: Tensor, t0: float, t1: float, context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Moves points of shape (n, d) from time t0 to t1; returns them and the log-determinant, shape (n,)."""
        n, d = x.shape
        probes = trace_probes(x, signs=self.trace == "hutchinson" and self.training)

        def slope(t: float, state: Tensor) -> Tensor:
            v, divergence = self.field.with_divergence(t, state[:, :d], probes, context)
            return torch.cat([v, divergence[:, None]], 1)

        state = torch.cat([x, x.new_zeros(n, 1)], 1)
        if self.solver == "rk4":
            state, self.n_evaluations = rk4(slope, state, t0, t1, self.n_steps), 4 * self.n_steps
        else:
            state, self.n_evaluations = dopri5(slope, state, t0, t1, tolerance=self.tolerance)
        return state[:, :d], state[:, d]
