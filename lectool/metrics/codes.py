r"""What a code or a subspace keeps of the data."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check
from lectool.metrics.precision import double

__all__ = ["nearest", "principal_angles", "retrieval_precision"]


def principal_angles(a: Tensor, b: Tensor) -> Tensor:
    r"""Angles between the subspaces that the columns of two matrices span.

    Computed through sines for small angles and cosines for large ones, since neither is exact for both
    (Björck & Golub 1973; Knyazev & Argentati 2002).

    Arguments:
        a, b: bases, shapes (d, k) and (d, k); they need not be orthonormal.

    Returns:
        k angles in radians, in [0, π/2], ascending, in float64.

    Raises:
        ValueError: if the shapes differ, k > d, or the columns of a basis depend on each other.
    """
    if a.shape != b.shape or a.ndim != 2 or a.shape[0] < a.shape[1]:
        raise ValueError(
            f"bases have shapes {tuple(a.shape)}, {tuple(b.shape)}; expected the same (d, k), k ≤ d"
        )
    q_a, q_b = _orthonormal(a, "a"), _orthonormal(b, "b")
    product = q_a.T @ q_b
    # Singular values come in descending order: the angles of the cosines ascend.
    cosines = torch.linalg.svdvals(product).clamp(0, 1)
    sines = torch.linalg.svdvals(q_b - q_a @ product).clamp(0, 1).flip(0)
    return torch.where(cosines**2 < 0.5, cosines.arccos(), sines.arcsin())


def _orthonormal(basis: Tensor, name: str) -> Tensor:
    check.data(basis, name)
    columns = double(basis)
    # Columns of one length, so that none counts less for its unit; a column of zeros stays one.
    columns = columns / columns.abs().amax(0).clamp(min=torch.finfo(torch.float64).tiny)
    columns = F.normalize(columns, dim=0)
    u, s, _ = torch.linalg.svd(columns, full_matrices=False)
    if s[-1] <= len(basis) * torch.finfo(basis.dtype).eps * s[0]:
        raise ValueError(f"the columns of {name} are linearly dependent; expected a basis")
    return u


def nearest(queries: Tensor, items: Tensor, k: int, *, chunk: int = 2000) -> Tensor:
    r"""For each query the ``k`` items at the smallest Euclidean distance, nearest first.

    Arguments:
        queries: shape (m, d).
        items: shape (n, d).
        k: 1 … n.
        chunk: queries handled at a time, which bounds the memory.

    Returns:
        indices into ``items``, shape (m, k).

    Raises:
        ValueError: if the widths differ or a number is out of range.
    """
    check.data(items, "items")
    check.data(queries, "queries", width=items.shape[1])
    check.at_least(1, chunk=chunk)
    if not 1 <= k <= len(items):
        raise ValueError(f"k is {k}; expected 1 … {len(items)}, the number of items")
    # In float64, and around the middle: squares of far points would cancel what lies between near ones.
    device = queries.device
    middle = double(items).mean(0)
    queries, items = double(queries) - middle, double(items) - middle
    # The query's own square is the same for all items: it cannot change their order.
    squares = items.square().sum(1)
    found = [
        (squares - 2 * q @ items.T).topk(k, largest=False).indices for q in queries.split(chunk)
    ]
    return torch.cat(found).to(device)


def retrieval_precision(codes: Tensor, labels: Tensor, k: int = 10) -> float:
    r"""The share of a sample's ``k`` nearest neighbors that carry its label, on average over the samples.

    Arguments:
        codes: shape (n, d); each row is the query once and is not its own neighbor.
        labels: shape (n,).
        k: 1 … n − 1.

    Returns:
        precision at ``k``, in [0, 1].

    Raises:
        ValueError: if the lengths differ or ``k`` is out of range.
    """
    check.lengths(codes=codes, labels=labels)
    if not 1 <= k < len(codes):
        raise ValueError(f"k is {k}; expected 1 … {len(codes) - 1}, the number of other samples")
    found = nearest(codes, codes, k + 1)
    # Twins of a query can stand before it: it is taken out by its index, not by its rank.
    other = found != torch.arange(len(codes), device=codes.device)[:, None]
    other[other.all(1), -1] = False
    neighbors = found[other].reshape(len(codes), k)
    return (labels[neighbors] == labels[:, None]).double().mean().item()
