r"""Chapter 05: compressed sensing: sparse signals from fewer measurements than unknowns, and what theory says of it."""

import math

import torch
from torch import Tensor

from lectool import check
from lectool.sparse.inference import shrink

__all__ = ["basis_pursuit", "coherence_bound", "l1_dimension", "mutual_coherence"]


def basis_pursuit(x: Tensor, D: Tensor, *, n_steps: int = 500, threshold: float = 0.1) -> Tensor:
    r"""The solutions of Dz = x with the least ‖z‖₁, for many problems at once, by Douglas–Rachford splitting.

    Two operations take turns, each easy by itself: the projection onto the solutions of Dz = x, and shrinkage.

    Arguments:
        x: measurements, shape (…, n, m).
        D: what is measured, shape (…, m, k), with independent rows, m ≤ k; leading axes are as many problems.
        n_steps: ≥ 1.
        threshold: of the shrinkage, > 0, best near the size of the entries of z. Any size leads to the solution.

    Returns:
        shape (…, n, k), with Dz = x up to rounding errors.

    Raises:
        ValueError: if a number is out of range, or there are more measurements than unknowns.

    References:
        Combettes & Pesquet (2007), A Douglas–Rachford splitting approach to nonsmooth convex variational signal
        recovery.
    """
    check.positive(threshold=threshold)
    check.at_least(1, n_steps=n_steps)
    if D.shape[-2] > D.shape[-1]:
        raise ValueError(f"D has shape {tuple(D.shape)}; expected no more rows than columns")
    inverse = torch.linalg.pinv(D).mT
    v = x @ inverse
    for _ in range(n_steps):
        z = v + (x - v @ D.mT) @ inverse  # the solution nearest to v
        v = v + shrink(2 * z - v, threshold) - z
    return z


def mutual_coherence(D: Tensor) -> float:
    r"""The largest |cosine| between two different atoms of D, shape (d, k), in [0, 1].

    Raises:
        ValueError: if D is no valid data or has fewer than two atoms.
    """
    check.data(D, "D")
    check.at_least(2, n_atoms=D.shape[1])
    unit = D / D.norm(dim=0)
    return (unit.T @ unit).fill_diagonal_(0).abs().max().item()


def coherence_bound(D: Tensor) -> int:
    r"""Largest number s < (1 + 1/μ)/2 of atoms, with the coherence μ of D.

    Each code with up to s entries is then the sparsest code of its signal, the one that :func:`lectool.sparse.omp`
    finds, and, if all atoms have the same length, the one of least ‖z‖₁.

    References:
        Donoho & Elad (2003), Optimally sparse representation in general (nonorthogonal) dictionaries via ℓ¹
        minimization.
    """
    bound = (1 + 1 / max(mutual_coherence(D), 1e-12)) / 2
    return min(D.shape[0], math.ceil(bound) - 1)


def l1_dimension(n_nonzero: int, k: int) -> float:
    r"""Number of random measurements at which ‖z‖₁ begins to find a code of length k with so many entries.

    It is the statistical dimension of the cone of directions in which ‖z‖₁ falls,

    .. math:: \min_\tau\; s (1 + \tau^2) + (k - s)\, \mathbb E \bigl[ \max(|g| - \tau, 0)^2 \bigr],
              \qquad g \sim N(0, 1).

    With Gaussian measurements recovery goes from nearly never to nearly always within some √k of it.

    Raises:
        ValueError: if ``n_nonzero`` is not in 0 … k.

    References:
        Amelunxen, Lotz, McCoy & Tropp (2014), Living on the edge: phase transitions in convex programs with random
        data.
    """
    check.inside(f"[0, {k}]", n_nonzero=n_nonzero)
    tau = torch.linspace(0, 6, 6001, dtype=torch.float64)
    normal = torch.distributions.Normal(*torch.tensor([0.0, 1.0], dtype=torch.float64))
    tail, density = 1 - normal.cdf(tau), normal.log_prob(tau).exp()
    excess = 2 * ((1 + tau.square()) * tail - tau * density)
    return (n_nonzero * (1 + tau.square()) + (k - n_nonzero) * excess).min().item()
