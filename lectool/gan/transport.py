r"""Chapter 14: the earth mover's distance, exactly."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array
from torch import Tensor

from lectool.train import check_data

__all__ = [
    "Transport",
    "exact_critic",
    "optimal_transport",
    "wasserstein_1d",
]


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
    check_data(x, n_dims=1)
    check_data(y, "y", n_dims=1)
    if a is None and b is None and len(x) == len(y):
        return (x.sort().values - y.sort().values).abs().mean()
    a, b = _masses(a, x, "a"), _masses(b, y, "b")
    t, order = torch.cat([x, y]).sort()
    ahead = torch.cat([a, -b])[order].cumsum(0)  # F_x − F_y just behind each point
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
    r"""Solves the transport problem exactly as a linear programme (HiGHS).

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
    check_data(cost, "cost")
    n, m = cost.shape
    a, b = _masses(a, cost[:, 0], "a"), _masses(b, cost[0], "b")
    entry = torch.arange(n * m)  # γ as one vector, row by row: entry i m + j
    rows = torch.cat([entry // m, n + entry % m])
    sums = coo_array((torch.ones(2 * n * m), (rows, entry.repeat(2))), shape=(n + m, n * m))
    found = linprog(
        cost.detach().double().cpu().reshape(-1).numpy(),
        A_eq=sums.tocsc(),
        b_eq=torch.cat([a, b]).double().cpu().numpy(),
        method="highs",
    )
    if found.status != 0:
        raise RuntimeError(f"linear programme not solved: {found.message}")
    plan = torch.from_numpy(found.x).to(cost).reshape(n, m)
    f, g = torch.from_numpy(found.eqlin.marginals).to(cost).split([n, m])
    return Transport(float(found.fun), plan, f, g)


def exact_critic(
    x: Tensor, y: Tensor, *, p: float = 2.0
) -> tuple[float, Callable[[Tensor], Tensor]]:
    r"""Wasserstein-1 of two samples, and a critic that attains it (Kantorovich and Rubinstein).

    From the potentials g of the linear programme,

    .. math:: f(t) = \min_j \bigl( \lVert t - y_j \rVert - g_j \bigr)

    is 1-Lipschitz everywhere, as a minimum of functions that are; its mean over x minus that over y is the distance.

    Arguments:
        x, y: samples, shapes (n, d) and (m, d).
        p: of the norm that is the cost, ≥ 1. A critic that is 1-Lipschitz for ‖·‖ₚ has a gradient of at most 1
            in the dual norm: ℓ₂ for p = 2, the largest component for p = 1.

    Returns:
        the distance, and the critic: points (n, d) → scores (n,).
    """
    check_data(x)
    check_data(y, "y", width=x.shape[1])
    if not p >= 1:
        raise ValueError(f"p is {p}; expected ≥ 1")
    # Without the matrix product, whose rounding would bend the slopes of near points.
    distance = partial(torch.cdist, p=p, compute_mode="donot_use_mm_for_euclid_dist")
    found = optimal_transport(distance(x, y))

    def critic(t: Tensor) -> Tensor:
        return (distance(t, y) - found.g).min(1).values

    return found.cost, critic


def _masses(a: Tensor | None, like: Tensor, name: str) -> Tensor:
    if a is None:
        return torch.full_like(like, 1 / len(like))
    check_data(a, name, n_dims=1, low=0.0)
    if len(a) != len(like) or not a.sum() > 0:
        raise ValueError(
            f"{name} has {len(a)} masses with sum {a.sum():.4g}; expected {len(like)} and > 0"
        )
    return a / a.sum()
