r"""Chapter 05: the sparse code of a signal, given the dictionary: the Lasso, its relatives, and their solvers.

Signals are rows of x, shape (n, d); atoms are columns of D, shape (d, k); codes are rows of z, shape (n, k). All
solvers work on many signals at once, as matrix products, on the device and in the type of x.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lectool import check

__all__ = [
    "clamped_step",
    "coordinate_descent",
    "duality_gap",
    "fista",
    "ista",
    "keep_large",
    "lasso",
    "lipschitz",
    "objective",
    "omp",
    "shrink",
    "shrink_half",
    "shrink_positive",
]

Prox = Callable[[Tensor, "Tensor | float"], Tensor]

# Signals that are coded together on a CPU: their codes then stay in its cache.
BLOCK = 512

# FISTA steps after which :func:`lasso` looks who is done.
CHUNK = 40


# ------------------------------------------------------------------------------------- thresholding rules


def shrink(a: Tensor, b: Tensor | float) -> Tensor:
    r"""Soft thresholding, :math:`\operatorname{sign}(a) \max(|a| - b, 0)`: the z that makes ½(z − a)² + b|z| least.

    Arguments:
        a: any shape.
        b: threshold ≥ 0, a number or of a shape that fits a's.
    """
    if isinstance(b, Tensor):
        return a - a.clamp(-b, b)
    return F.softshrink(a, b)


def shrink_positive(a: Tensor, b: Tensor | float) -> Tensor:
    r"""The same for z ≥ 0: :math:`\max(a - b, 0)`, a ReLU with the bias −b."""
    return F.relu(a - b)


def shrink_half(a: Tensor, b: float) -> Tensor:
    r"""Half thresholding: the z that makes ½(z − a)² + b√|z| least. It is 0 up to |a| = 3/2 · b^(2/3), where it jumps.

    Where z is not 0, √|z| is the largest root of a cubic, which a cosine gives in closed form.

    References:
        Xu, Chang, Xu & Zhang (2012), L1/2 regularization: a thresholding representation theory and a fast solver.
    """
    angle = torch.arccos((b / 4 * (a.abs() / 3).clamp(min=1e-30) ** -1.5).clamp(max=1))
    root = 2 / 3 * a * (1 + torch.cos(2 * math.pi / 3 - 2 / 3 * angle))
    return torch.where(a.abs() > 1.5 * b ** (2 / 3), root, torch.zeros_like(a))


def keep_large(a: Tensor, b: float) -> Tensor:
    r"""Hard thresholding: the z that makes ½(z − a)² + b·[z ≠ 0] least: a itself where |a| > √(2b), else 0."""
    return torch.where(a.abs() > math.sqrt(2 * b), a, torch.zeros_like(a))


# ------------------------------------------------------------------------------------- the Lasso


def objective(x: Tensor, D: Tensor, z: Tensor, lam: float) -> Tensor:
    r"""The Lasso objective ½‖x − Dz‖² + λ‖z‖₁ of each signal, shape (n,)."""
    return 0.5 * (x - z @ D.T).square().sum(1) + lam * z.abs().sum(1)


def duality_gap(x: Tensor, D: Tensor, z: Tensor, lam: float, *, positive: bool = False) -> Tensor:
    r"""How far above its minimum the objective can be at most, shape (n,); 0 at the solution.

    Any u with :math:`|D_j^\top u| \le \lambda` for all atoms (without the bars where z ≥ 0) bounds the minimum from
    below by ½‖x‖² − ½‖x − u‖². The residual x − Dz, scaled down until it fits, is such a u, and at the solution the
    best one.
    """
    residual = x - z @ D.T
    slope = residual @ D if positive else (residual @ D).abs()
    scale = (lam / slope.amax(1).clamp(min=1e-30)).clamp(max=1)
    bound = 0.5 * x.square().sum(1) - 0.5 * (x - scale[:, None] * residual).square().sum(1)
    return objective(x, D, z, lam) - bound


def lipschitz(D: Tensor) -> float:
    r"""L, the largest eigenvalue of :math:`D^\top D`: by as much, at most, the gradient changes when z moves by 1."""
    small = D.T @ D if D.shape[0] > D.shape[1] else D @ D.T  # both have the same largest eigenvalue
    return torch.linalg.eigvalsh(small)[-1].item()


def descend(z: Tensor, x: Tensor, D: Tensor, step: float) -> Tensor:
    r"""One step down the gradient of ½‖x − Dz‖²: z + step · (x − zDᵀ) D, in two fused calls."""
    return torch.addmm(z, torch.addmm(x, z, D.T, alpha=-1), D, alpha=step)


def clamped_step(z: Tensor, x: Tensor, D: Tensor, lam: float, step: float) -> Tensor:
    r"""One step down the gradient, and one down the ℓ₁ norm that stops at 0 where it would cross it.

    Arguments:
        z: codes, shape (n, k).
        x: signals, shape (n, d).
        D: dictionary, shape (d, k).
        lam: λ > 0.
        step: size of the step, > 0.
    """
    z = descend(z, x, D, step)
    down = z - step * lam * z.sign()
    return torch.where(down.sign() != z.sign(), torch.zeros_like(z), down)


def ista(
    x: Tensor,
    D: Tensor,
    lam: float,
    *,
    n_steps: int = 100,
    prox: Prox = shrink,
    step: float | None = None,
    start: Tensor | None = None,
    watch: Callable[[Tensor], object] | None = None,
) -> Tensor:
    r"""Iterative shrinkage and thresholding: a step down the gradient of ½‖x − Dz‖², then the penalty's own rule.

    .. math:: z \leftarrow \operatorname{prox}\bigl(z - \tau (D z - x) D,\ \tau \lambda\bigr)

    Arguments:
        x: signals, shape (n, d).
        D: dictionary, shape (d, k).
        lam: λ > 0.
        n_steps: ≥ 0.
        prox: the rule that belongs to the penalty: :func:`shrink` for ‖z‖₁, :func:`shrink_positive` for ‖z‖₁ with
            z ≥ 0, :func:`shrink_half` for Σ√|z|, :func:`keep_large` for the number of entries that are not 0.
        step: τ in (0, 1/L]; 1/L where ``None``, with L from :func:`lipschitz`.
        start: codes to begin with, shape (n, k); zeros where ``None``.
        watch: called with the codes after each step.

    Returns:
        codes, shape (n, k).

    Raises:
        ValueError: if x or D is no valid data, they do not fit, D has a column of zeros, λ ≤ 0, or the step is not in
            (0, 1/L].

    References:
        Daubechies, Defrise & De Mol (2004), An iterative thresholding algorithm for linear inverse problems.
    """
    z, step = begin(x, D, lam, step, start)
    for _ in range(n_steps):
        z = prox(descend(z, x, D, step), step * lam)
        if watch is not None:
            watch(z)
    return z


def fista(
    x: Tensor,
    D: Tensor,
    lam: float,
    *,
    n_steps: int = 100,
    prox: Prox = shrink,
    restart: bool = True,
    step: float | None = None,
    start: Tensor | None = None,
    watch: Callable[[Tensor], object] | None = None,
) -> Tensor:
    r"""ISTA with momentum: the step starts not from z but from a point ahead of it.

    Arguments:
        restart: whether a signal loses its momentum as soon as that points up the slope.
        x, D, lam, n_steps, prox, step, start, watch: as in :func:`ista`. Momentum needs a convex penalty.

    Returns:
        codes, shape (n, k). Without restart the objective is within 2L‖z* − start‖² / (n_steps + 1)² of its minimum.

    Raises:
        ValueError: as :func:`ista` does.

    References:
        Beck & Teboulle (2009), A fast iterative shrinkage-thresholding algorithm; O'Donoghue & Candès (2015), Adaptive
        restart for accelerated gradient schemes.
    """
    z, step = begin(x, D, lam, step, start)
    return accelerated(
        z, lambda z: prox(descend(z, x, D, step), step * lam), n_steps, restart=restart, watch=watch
    )


def accelerated(
    z: Tensor,
    move: Callable[[Tensor], Tensor],
    n_steps: int,
    *,
    restart: bool = True,
    watch: Callable[[Tensor], object] | None = None,
) -> Tensor:
    r"""FISTA's loop, for any step: it is taken not from z but from a point ahead, in the direction of the last move.

    Arguments:
        z: codes to begin with, one a row, shape (n, …).
        move: one proximal step from codes of this shape.
        n_steps, restart, watch: as in :func:`fista`.
    """
    ahead, t = z, z.new_ones(len(z), *[1] * (z.ndim - 1)) if restart else 1.0
    for _ in range(n_steps):
        new = move(ahead)
        if restart:
            uphill = ((ahead - new) * (new - z)).flatten(1).sum(1) > 0
            t = t.masked_fill(uphill.reshape(t.shape), 1.0)
        t_next = (1 + (1 + 4 * t**2) ** 0.5) / 2
        ahead = torch.lerp(z, new, 1 + (t - 1) / t_next)
        z, t = new, t_next
        if watch is not None:
            watch(z)
    return z


def lasso(
    x: Tensor,
    D: Tensor,
    lam: float,
    *,
    tol: float = 1e-4,
    max_steps: int = 1000,
    positive: bool = False,
    start: Tensor | None = None,
) -> Tensor:
    r"""Codes that are proven to be good: FISTA until each signal's duality gap is small, and no longer.

    Every forty steps the signals that are done leave, and the others lose their momentum.

    Arguments:
        x: signals, shape (n, d).
        D: dictionary, shape (d, k).
        lam: λ > 0.
        tol: largest gap allowed, as a share of ½‖x‖².
        max_steps: after so many the codes are returned as they are.
        positive: whether z ≥ 0.
        start: codes to begin with, shape (n, k); zeros where ``None``.

    Returns:
        codes, shape (n, k).

    Raises:
        ValueError: as :func:`ista` does.
    """
    z, step = begin(x, D, lam, None, start)
    check.positive(tol=tol)
    check.at_least(1, max_steps=max_steps)
    prox = shrink_positive if positive else shrink
    allowed = tol * 0.5 * x.square().sum(1)
    z, size = z.clone(), BLOCK if x.device.type == "cpu" else len(x)
    for todo in torch.arange(len(x), device=x.device).split(size):
        for _ in range(0, max_steps, CHUNK):
            way = {"n_steps": CHUNK, "prox": prox, "restart": False, "step": step}
            z[todo] = fista(x[todo], D, lam, start=z[todo], **way)
            gap = duality_gap(x[todo], D, z[todo], lam, positive=positive)
            todo = todo[gap > allowed[todo]]
            if len(todo) == 0:
                break
    return z


def begin(
    x: Tensor, D: Tensor, lam: float, step: float | None, start: Tensor | None
) -> tuple[Tensor, float]:
    r"""First codes and step size, after a look at all that a solver is given.

    Raises:
        ValueError: see :func:`ista`.
    """
    check.positive(lam=lam)
    fitting(x, D)
    L = lipschitz(D)
    if step is not None and not 0 < step <= (1 + 1e-5) / L:
        raise ValueError(f"step is {step}; expected a number in (0, {1 / L:.6g}], which is 1/L")
    z = x.new_zeros(len(x), D.shape[1]) if start is None else start
    check.shape(len(x), D.shape[1], start=z)
    return z, 1 / L if step is None else step


def fitting(x: Tensor, D: Tensor) -> None:
    r"""Signals and a dictionary that belong together, none of whose atoms is zero.

    Raises:
        ValueError: if they do not.
    """
    check.data(D, "D")
    check.data(x, width=D.shape[0], like=D)
    n_zero = int((D == 0).all(0).sum())
    if n_zero:
        raise ValueError(f"{n_zero} of {D.shape[1]} atoms (columns of D) are zero; expected none")


def coordinate_descent(
    x: Tensor,
    D: Tensor,
    lam: float,
    *,
    n_sweeps: int = 50,
    prox: Prox = shrink,
    start: Tensor | None = None,
    watch: Callable[[Tensor], object] | None = None,
) -> Tensor:
    r"""One coefficient after the other takes its best value with all others held fixed, in all signals at once.

    Arguments:
        n_sweeps: how often all coefficients have their turn, ≥ 0.
        watch: called with the codes after each sweep.
        x, D, lam, prox, start: as in :func:`ista`.

    Returns:
        codes, shape (n, k).

    Raises:
        ValueError: as :func:`ista` does.

    References:
        Friedman, Hastie, Höfling & Tibshirani (2007), Pathwise coordinate optimization.
    """
    z = begin(x, D, lam, None, start)[0].clone()
    G = D.T @ D
    pull = x @ D - z @ G  # correlation of each atom with the residual
    for _ in range(n_sweeps):
        for j in range(len(G)):
            new = prox(z[:, j] + pull[:, j] / G[j, j], lam / G[j, j])
            pull -= (new - z[:, j])[:, None] * G[j]
            z[:, j] = new
        if watch is not None:
            watch(z)
    return z


# ------------------------------------------------------------------------------------- counting instead of ℓ₁


def omp(x: Tensor, D: Tensor, n_nonzero: int) -> Tensor:
    r"""Orthogonal matching pursuit: choose the atom nearest to the residual, refit all that are chosen, repeat.

    Arguments:
        x: signals, shape (n, d).
        D: dictionary, shape (d, k).
        n_nonzero: entries of a code that are not zero, in 1 … min(d, k).

    Returns:
        codes, shape (n, k). A signal that is met exactly before gets zeros for the rest.

    Raises:
        ValueError: if x or D is no valid data, they do not fit, D has a column of zeros, or ``n_nonzero`` is out of
            range.

    References:
        Pati, Rezaiifar & Krishnaprasad (1993), Orthogonal matching pursuit.
    """
    fitting(x, D)
    check.inside(f"[1, {min(D.shape)}]", n_nonzero=n_nonzero)
    G, fit, length = D.T @ D, x @ D, D.norm(dim=0)
    z = torch.zeros_like(fit)
    chosen = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    for _ in range(n_nonzero):
        near = ((fit - z @ G) / length).abs().scatter(1, chosen, -1.0)
        chosen = torch.cat([chosen, near.argmax(1, keepdim=True)], 1)
        among = G[chosen[:, :, None], chosen[:, None, :]]  # of each signal's atoms with each other
        best = torch.linalg.lstsq(among, fit.gather(1, chosen)[:, :, None]).solution
        z = torch.zeros_like(fit).scatter(1, chosen, best[:, :, 0])
    return z
