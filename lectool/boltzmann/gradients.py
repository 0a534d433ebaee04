r"""Chapter 09: the likelihood's gradient of an RBM, exactly and by contrastive divergence, and how far they differ."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check
from lectool.boltzmann.rbm import RBM
from lectool.boltzmann.states import all_bits, bit_blocks, check_bits

__all__ = [
    "Statistics",
    "cd_gradient",
    "cosine",
    "data_statistics",
    "exact_gradient",
    "expected_cd_gradient",
    "model_statistics",
    "negative_pair",
    "transition_matrix",
]


@dataclass(frozen=True)
class Statistics:
    r"""Means of what an RBM's energy is linear in, by the names of the parameters; or a difference of two.

    Attributes:
        W: :math:`E[h v^\top]`, shape (k, d).
        b: :math:`E[h]`, shape (k,).
        c: :math:`E[v]`, shape (d,).
    """

    W: Tensor
    b: Tensor
    c: Tensor

    def __sub__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.W - other.W, self.b - other.b, self.c - other.c)

    def flat(self) -> Tensor:
        r"""All numbers in one vector, shape (k d + k + d,)."""
        return torch.cat([self.W.flatten(), self.b, self.c])


@torch.no_grad()
def data_statistics(
    rbm: RBM, v: Tensor, h: Tensor | None = None, p: Tensor | None = None
) -> Statistics:
    r"""Means over rows of visible units v, shape (n, d), and hidden ones h, shape (n, k).

    Arguments:
        h: the hidden units' means given v where ``None``.
        p: weights of the rows that sum to 1, shape (n,); equal ones where ``None``.
    """
    h = rbm.hidden_given_visible(v) if h is None else h
    p = v.new_full((len(v),), 1 / len(v)) if p is None else p
    return Statistics((p[:, None] * h).T @ v, p @ h, p @ v)


@torch.no_grad()
def model_statistics(rbm: RBM) -> Statistics:
    r"""The means under the model itself, exactly: the smaller layer is enumerated.

    Raises:
        ValueError: if that layer has more than 20 units.
    """
    (k, d), log_z = rbm.W.shape, rbm.log_partition()
    parts = []
    if rbm.hidden == "gaussian" or d <= k:
        for v in bit_blocks(d, rbm.c):
            parts.append(data_statistics(rbm, v, p=(-rbm.free_energy(v) - log_z).exp()))
    else:
        for h in bit_blocks(k, rbm.b):
            p = (-rbm.hidden_free_energy(h) - log_z).exp()
            parts.append(data_statistics(rbm, rbm.visible_given_hidden(h), h, p))
    return Statistics(*(sum(getattr(part, name) for part in parts) for name in ("W", "b", "c")))


def exact_gradient(rbm: RBM, x: Tensor) -> Statistics:
    r"""The gradient of the mean log-likelihood of data, shape (n, d): the data's statistics less the model's.

    .. math:: \nabla_W \log p(x) = E[h \mid x]\, x^\top - E[h v^\top]

    Raises:
        ValueError: if x holds other numbers than 0 and 1, or no layer is small enough to be enumerated.
    """
    check_bits(x, "x", width=rbm.W.shape[1])
    return data_statistics(rbm, x) - model_statistics(rbm)


@torch.no_grad()
def negative_pair(
    rbm: RBM, x: Tensor, n_gibbs: int = 1, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The end of the chains :math:`x \to h \to x' \to h' \to \dots` that begin at the data.

    The negative pair is :math:`(x', h')`. In :math:`(x', h)` the hidden units are those that x' was drawn from: they
    are half a step older, and further from the model.

    Arguments:
        x: data, shape (n, d).
        n_gibbs: rounds, ≥ 1.
        generator: of the draws.

    Returns:
        x_new: visible units x' at the end, shape (n, d).
        h_old: the hidden units h that they were drawn from, shape (n, k).
        h_new: means of the hidden units h' given x', shape (n, k).
    """
    check.at_least(1, n_gibbs=n_gibbs)
    v = rbm.gibbs(x, n_gibbs - 1, generator)
    h_old = rbm.draw_hidden(v, generator)
    x_new = rbm.draw_visible(h_old, generator)
    return x_new, h_old, rbm.hidden_given_visible(x_new)


def cd_gradient(
    rbm: RBM,
    x: Tensor,
    n_gibbs: int = 1,
    *,
    old_hidden: bool = False,
    generator: torch.Generator | None = None,
) -> Statistics:
    r"""CD-k's estimate of the gradient, from one chain a datum.

    Arguments:
        x: data, shape (n, d).
        n_gibbs: the k of CD-k, ≥ 1.
        old_hidden: whether to take the pair (x', h) in place of (x', h').
        generator: of the draws.
    """
    x_new, h_old, h_new = negative_pair(rbm, x, n_gibbs, generator)
    negative = data_statistics(rbm, x_new, h_old if old_hidden else h_new)
    return data_statistics(rbm, x) - negative


@torch.no_grad()
def transition_matrix(rbm: RBM) -> Tensor:
    r"""One Gibbs step :math:`v \to h \to v'` on all states of a small machine, as :func:`all_bits` numbers them.

    .. math:: T_{v v'} = \sum_h p(h \mid v)\, p(v' \mid h)

    Returns:
        shape (2^d, 2^d); rows sum to 1.

    Raises:
        ValueError: if the hidden units are real, or a layer has more than 12 units.
    """
    return _up(rbm) @ _down(rbm)


@torch.no_grad()
def expected_cd_gradient(
    rbm: RBM, x: Tensor, n_gibbs: int = 1, *, old_hidden: bool = False
) -> Statistics:
    r"""What :func:`cd_gradient` is on average over all chains, exactly, for a small machine.

    Arguments, errors: as in :func:`cd_gradient` and :func:`transition_matrix`; x holds bits.
    """
    check.at_least(1, n_gibbs=n_gibbs)
    check_bits(x, "x", width=rbm.W.shape[1])
    v, up, down = all_bits(x.shape[1], x), _up(rbm), _down(rbm)
    rows = (x @ 2.0 ** torch.arange(x.shape[1] - 1, -1, -1).to(x)).long()
    p = torch.bincount(rows, minlength=len(v)).to(x) / len(x)
    for _ in range(n_gibbs):
        q = p @ up  # of the hidden states
        p = q @ down  # of the visible states drawn from them
    if old_hidden:
        h = all_bits(rbm.W.shape[0], x)
        negative = data_statistics(rbm, rbm.visible_given_hidden(h), h, q)
    else:
        negative = data_statistics(rbm, v, p=p)
    return data_statistics(rbm, x) - negative


def cosine(a: Statistics, b: Statistics) -> Tensor:
    r"""The cosine of the angle between two gradients, all parameters taken as one vector, shape ()."""
    return F.cosine_similarity(a.flat(), b.flat(), dim=0)


def _up(rbm: RBM) -> Tensor:
    # p(h | v) of all states, shape (2^d, 2^k)
    v, h = _small(rbm)
    return _bernoulli(F.linear(v, rbm.W, rbm.b), h)


def _down(rbm: RBM) -> Tensor:
    # p(v | h) of all states, shape (2^k, 2^d)
    v, h = _small(rbm)
    return _bernoulli(F.linear(h, rbm.W.T, rbm.c), v)


def _bernoulli(a: Tensor, bits: Tensor) -> Tensor:
    # The probability of each row of bits for each row of log-odds.
    return (F.logsigmoid(a) @ bits.T + F.logsigmoid(-a) @ (1 - bits).T).exp()


def _small(rbm: RBM) -> tuple[Tensor, Tensor]:
    check.one_of(("bernoulli",), hidden=rbm.hidden)
    k, d = rbm.W.shape
    check.inside("[1, 12]", d=d, k=k)
    return all_bits(d, rbm.c), all_bits(k, rbm.b)
