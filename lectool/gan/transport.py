r"""Chapter 14: the earth mover's distance, exactly."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array
from torch import Tensor

from lectool import check

__all__ = ["Transport", "exact_critic", "optimal_transport", "wasserstein_1d"]


def wasserstein_1d(
    x: Tensor, y: Tensor, a: Tensor | None = None, b: Tensor | None = None
) -> Tensor:
    r"""Wasserstein-1 of two distributions on a line, exactly: the area between their distribution functions.

    .. math:: W_1 = \int \lvert F_x(t) - F_y(t) \rvert \, \mathrm dt
        = \frac1n \sum_i \lvert x_{(i)} - y_{(i)} \rvert \text{ for samples of equal size}

    On a line no path needs to cross another: the best plan moves the i-th smallest point to the i-th smallest.

    Arguments:
        x, y: points, shapes (n,) and (m,).
        a, b: their masses, which are divided by their sum; equal where ``None``.

    Returns:
        a scalar in the units of x.

    Raises:
        ValueError: if a shape does not fit or a mass is negative.
    """
    check.data(x, n_dims=1)
    check.data(y, "y", n_dims=1)
    if a is None and b is None and len(x) == len(y):
        return (x.sort().values - y.sort().values).abs().mean()
    a, b = _masses(a, len(x), "a"), _masses(b, len(y), "b")
    t, order = torch.cat([x, y]).sort()
    # F_x − F_y just behind each point, in float64: what is left of it over a wide gap must be nothing.
    ahead = torch.cat([a, -b])[order.cpu()].cumsum(0).to(t)
    return (ahead[:-1].abs() * t.diff()).sum()


class Transport(NamedTuple):
    r"""The cheapest way to turn one pile into another.

    Attributes:
        cost: of the plan, :math:`\sum_{ij} \gamma_{ij} C_{ij}`.
        plan: γ, mass moved from i to j, shape (n, m); rows sum to a, columns to b.
        f, g: potentials, shapes (n,) and (m,), with :math:`f_i + g_j \le C_{ij}` and
            :math:`\sum_i f_i a_i + \sum_j g_j b_j` = cost: what proves that no plan is cheaper.
    """

    cost: float
    plan: Tensor
    f: Tensor
    g: Tensor


def optimal_transport(cost: Tensor, a: Tensor | None = None, b: Tensor | None = None) -> Transport:
    r"""Solves the transport problem exactly as a linear program (HiGHS).

    .. math:: \min_{\gamma \ge 0} \sum_{ij} \gamma_{ij} C_{ij}, \qquad
        \sum_j \gamma_{ij} = a_i, \quad \sum_i \gamma_{ij} = b_j

    With distances as costs this is Wasserstein-1. The time grows faster than n³: for hundreds of points, not for
    thousands.

    Arguments:
        cost: C, shape (n, m).
        a, b: masses, which are divided by their sum; equal where ``None``.

    Raises:
        ValueError: if shapes do not fit or a mass is negative.
        RuntimeError: if the solver fails.
    """
    check.data(cost, "cost")
    n, m = cost.shape
    a, b = _masses(a, n, "a"), _masses(b, m, "b")
    C = cost.detach().cpu().double()
    # γ as one vector, row by row: entry i m + j is part of row i and of column j.
    entry = torch.arange(n * m)
    rows = torch.cat([entry // m, n + entry % m])
    sums = coo_array((torch.ones(2 * n * m), (rows, entry.repeat(2))), shape=(n + m, n * m))
    # The largest column's sum follows from the others; asked for, it contradicts them by a rounding error.
    implied = n + b.argmax()
    plan, potentials = _linear_program((C - C.min()).flatten(), sums, torch.cat([a, b]), implied)
    plan, f, g = plan.reshape(n, m), potentials[:n] + C.min(), potentials[n:]
    return Transport((plan * C).sum().item(), plan.to(cost), f.to(cost), g.to(cost))


def _linear_program(c: Tensor, A: coo_array, b: Tensor, implied: Tensor) -> tuple[Tensor, Tensor]:
    r"""The x ≥ 0 of least :math:`c^\top x` where all equations :math:`A x = b` hold, of which one is ``implied``
    by the others, and the multipliers of the equations."""
    # The solver's tolerances are absolute: it gets costs from 0 to 1, and masses in millionths.
    span = c.max().clamp(min=torch.finfo(c.dtype).tiny)
    asked = torch.arange(len(b)) != implied
    found = linprog(
        (c / span).numpy(),
        A_eq=A.tocsr()[asked.numpy()],
        b_eq=1e6 * b[asked].numpy(),
        method="highs",
    )
    if found.status != 0:
        raise RuntimeError(f"linear program not solved: {found.message}")
    multipliers = torch.zeros_like(b)
    multipliers[asked] = torch.from_numpy(found.eqlin.marginals) * span
    return torch.from_numpy(found.x / 1e6).clamp(min=0), multipliers


def exact_critic(
    x: Tensor, y: Tensor, *, p: float = 2.0
) -> tuple[float, Callable[[Tensor], Tensor]]:
    r"""Wasserstein-1 of two samples, and a critic that attains it (Kantorovich and Rubinstein).

    From the potentials g of the linear program,

    .. math:: f(t) = \min_j \bigl( \lVert t - y_j \rVert - g_j \bigr)

    is 1-Lipschitz everywhere, as a minimum of functions that are; its mean over x minus that over y is the distance.

    Arguments:
        x, y: samples, shapes (n, d) and (m, d).
        p: of the norm that is the cost, ≥ 1. A critic that is 1-Lipschitz for ‖·‖ₚ has a gradient of at most 1
            in the dual norm: ℓ₂ for p = 2, the largest component for p = 1.

    Returns:
        the distance, and the critic: points (n, d) → scores (n,).

    Raises:
        ValueError: if the widths differ or ``p`` is out of range.
    """
    check.data(x)
    check.data(y, "y", width=x.shape[1])
    check.inside("[1, ∞]", p=p)
    # Without the matrix product, whose rounding would bend the slopes of near points.
    distance = partial(torch.cdist, p=p, compute_mode="donot_use_mm_for_euclid_dist")
    found = optimal_transport(distance(x, y.to(x)))

    def critic(t: Tensor) -> Tensor:
        return (distance(t, y.to(t)) - found.g.to(t)).min(1).values

    return found.cost, critic


def _masses(a: Tensor | None, n: int, name: str) -> Tensor:
    r"""Masses that sum to 1, in float64 on the CPU, where the sums of two of them agree."""
    if a is None:
        return torch.full((n,), 1 / n, dtype=torch.float64)
    check.data(a, name, n_dims=1, low=0.0)
    if len(a) != n or not a.max() > 0:
        raise ValueError(f"{name} has {len(a)} masses with sum {a.sum():.4g}; expected {n} and > 0")
    a = a.cpu().double() / a.max().item()
    return a / a.sum()
