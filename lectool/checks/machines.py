r"""Small machines of binary units, by the sum over all their states: what the checks of such models compare with."""

import torch
from scipy.stats import chi2
from torch import Tensor

__all__ = [
    "all_ratings",
    "fits",
    "hidden",
    "joint",
    "log_mass",
    "rounds",
    "states",
    "statistics",
    "tally",
    "transition",
    "visible",
]


def states(n: int) -> Tensor:
    r"""All vectors of n zeros and ones, in the order of the numbers that they write down, shape (2ⁿ, n)."""
    return torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * n).reshape(-1, n)


def joint(v: Tensor, h: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""Minus the energy of each v with each h, shape (number of v, number of h)."""
    return v @ W.T @ h.T + (v @ c)[:, None] + h @ b


def hidden(v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""Mean of h given v, over all h."""
    h = states(len(b))
    return joint(v, h, W, b, c).softmax(1) @ h


def visible(h: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""Mean of v given h, over all v."""
    v = states(len(c))
    return joint(v, h, W, b, c).softmax(0).T @ v


def log_mass(v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""Log of the sum over all h, minus the free energy."""
    return joint(v, states(len(b)), W, b, c).logsumexp(1)


def statistics(v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""E[h vᵀ | v], E[h | v] and v, flat and side by side, one row for each v."""
    h = hidden(v, W, b, c)
    return torch.cat([torch.einsum("nk,nd->nkd", h, v).flatten(1), h, v], 1)


def transition(v: Tensor, W: Tensor, b: Tensor, c: Tensor) -> Tensor:
    r"""How likely one round, h given v and v given h, leads from each of the states v to each of them."""
    table = joint(v, states(len(b)), W, b, c)
    return table.softmax(1) @ table.softmax(0).T


def rounds(T: Tensor, n: int) -> Tensor:
    r"""The same for n rounds."""
    return torch.linalg.matrix_power(T, n)


def tally(v: Tensor, n_groups: int) -> Tensor:
    r"""How often each state came, where the rows belong to the groups in turn, shape (n_groups, 2^d)."""
    d = v.shape[1]
    number = (v @ 2.0 ** torch.arange(d - 1, -1, -1).double()).long()
    return torch.stack([number[g::n_groups].bincount(minlength=2**d) for g in range(n_groups)])


def fits(counts: Tensor, p: Tensor) -> bool:
    r"""Whether counts follow the probabilities p: a test by χ² that a right answer fails once in a million."""
    n = counts.sum(1, keepdim=True) * p
    rare = n < 5
    seen, wanted = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, n))
    return float(((seen - wanted) ** 2 / wanted.clamp(min=1)).sum()) < chi2.isf(1e-6, len(seen))


def all_ratings(rated: Tensor, K: int) -> Tensor:
    r"""All ways to rate the films that are rated, one-hot and flat, shape (ways, films · K)."""
    films = rated.nonzero()[:, 0]
    ways = torch.cartesian_prod(*[torch.arange(K)] * len(films)).reshape(-1, len(films))
    found = torch.zeros(len(ways), len(rated), K).double()
    found[:, films] = torch.nn.functional.one_hot(ways, K).double()
    return found.flatten(1)
