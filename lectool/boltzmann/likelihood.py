r"""Chapter 09: what an RBM says of data without its Z: factors, pseudo-likelihood, noise-contrastive estimation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, random
from lectool.boltzmann.rbm import RBM
from lectool.boltzmann.states import check_bits
from lectool.latent import nce_objective

__all__ = [
    "BernoulliNoise",
    "NoiseContrastiveRBM",
    "factors",
    "flip_log_likelihood",
    "pseudo_log_likelihood",
    "stochastic_pseudo_log_likelihood",
]

BLOCK = 2**24  # numbers that a pseudo-likelihood holds at once


def factors(rbm: RBM) -> list[tuple[tuple[str, ...], Tensor]]:
    r"""The potentials of an RBM's factor graph: its unnormalized p is their product, of the unary ones too.

    .. math:: p(v, h) = \frac1Z \prod_{j, i} e^{W_{ji} h_j v_i} \prod_i e^{c_i v_i} \prod_j e^{b_j h_j}

    Returns:
        pairs of a scope, such as ``("h1", "v2")`` or ``("v2",)``, and a table with an axis of two states for each
        name; k d pairwise ones, then d and k unary ones.

    Raises:
        ValueError: if the hidden units are real.
    """
    check.one_of(("bernoulli",), hidden=rbm.hidden)
    (k, d), bits = rbm.W.shape, torch.tensor([0.0, 1.0]).to(rbm.W)
    v, h = ([f"{letter}{i + 1}" for i in range(n)] for letter, n in (("v", d), ("h", k)))
    tables = (rbm.W[:, :, None, None] * torch.outer(bits, bits)).exp().detach()
    pairs = [((h[j], v[i]), tables[j, i]) for j in range(k) for i in range(d)]
    of_v = [((name,), (c * bits).exp().detach()) for name, c in zip(v, rbm.c)]
    of_h = [((name,), (b * bits).exp().detach()) for name, b in zip(h, rbm.b)]
    return pairs + of_v + of_h


# ------------------------------------------------------------------------------------------------ pseudo-likelihood


def pseudo_log_likelihood(rbm: RBM, v: Tensor) -> Tensor:
    r"""The sum over visible units of the log-probability of each given all others, in nats, shape (n,).

    .. math:: \sum_i \log p(v_i \mid v_{-i}) = \sum_i \log \sigma\bigl(F(v^{(i)}) - F(v)\bigr),

    with :math:`v^{(i)}` the vector with bit i flipped: Z cancels. All d flips are computed, from the hidden units'
    inputs, to each of which a flip adds :math:`\pm W_{ji}`. Minus its mean can be a loss.

    Arguments:
        v: bits, shape (n, d).

    Raises:
        ValueError: if v holds other numbers than 0 and 1.

    References:
        Besag (1975), Statistical analysis of non-lattice data.
    """
    check_bits(v, width=rbm.W.shape[1])
    rows = max(1, BLOCK // rbm.W.numel())  # each needs d · k numbers
    changes = torch.cat([flip_changes(rbm, part) for part in v.split(rows)])
    return F.logsigmoid(changes).sum(1)


def flip_changes(rbm: RBM, v: Tensor) -> Tensor:
    r""":math:`F(v^{(i)}) - F(v)` for every bit i, shape (n, d), of bits v, shape (n, d)."""
    sign = 1 - 2 * v
    a = F.linear(v, rbm.W, rbm.b)
    a_flipped = a[:, None] + sign[:, :, None] * rbm.W.T  # (n, d, k)
    return -sign * rbm.c - rbm.expert(a_flipped).sum(2) + rbm.expert(a).sum(1, keepdim=True)


def flip_log_likelihood(rbm: RBM, v: Tensor, i: Tensor) -> Tensor:
    r""":math:`\log p(v_i \mid v_{-i})` in nats, of one bit a row, shape (n,).

    Arguments:
        v: bits, shape (n, d).
        i: which bit of each row, int64, shape (n,).
    """
    flipped = v.scatter(1, i[:, None], 1 - v.gather(1, i[:, None]))
    return F.logsigmoid(rbm.free_energy(flipped) - rbm.free_energy(v))


def stochastic_pseudo_log_likelihood(
    rbm: RBM, v: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    r"""An unbiased estimate of :func:`pseudo_log_likelihood`: d times the term of one random bit, shape (n,).

    It is what scikit-learn's ``BernoulliRBM.score_samples`` returns.

    Raises:
        ValueError: if v holds other numbers than 0 and 1.
    """
    check_bits(v, width=rbm.W.shape[1])
    n, d = v.shape
    return d * flip_log_likelihood(rbm, v, random.integers(d, n, v.device, generator))


# ------------------------------------------------------------------------------------------------ NCE


class BernoulliNoise(nn.Module):
    r"""Independent bits.

    Arguments:
        mean: probability of each to be 1, in (0, 1), shape (d,).
    """

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        check.data(mean, "mean", n_dims=1)
        check.inside("(0, 1)", smallest_mean=mean.min().item(), largest_mean=mean.max().item())
        self.register_buffer("mean", mean)

    @classmethod
    def fit(cls, x: Tensor) -> "BernoulliNoise":
        r"""With the means of bits x, shape (n, d), at least 1 % away from 0 and 1."""
        check_bits(x, "x")
        return cls(x.mean(0).clamp(0.01, 0.99))

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        r"""n draws, shape (n, d)."""
        return random.bernoulli(self.mean.expand(n, -1), generator)

    def log_prob(self, v: Tensor) -> Tensor:
        r"""In nats, shape (n,)."""
        return v @ self.mean.log() + (1 - v) @ (-self.mean).log1p()


class NoiseContrastiveRBM(nn.Module):
    r"""An RBM that learns to tell data from noise, with :math:`\log Z` as one more parameter.

    With :math:`G(v) = -F(v) - \log Z - \log p_n(v)` and ν noise samples for each datum, the loss is

    .. math:: -E_{p_d} \log \sigma(G - \log \nu) - \nu\, E_{p_n} \log \sigma(\log \nu - G) .

    Arguments:
        rbm: trained in place.
        noise: with ``sample(n)`` and ``log_prob(v)``, such as :class:`BernoulliNoise`.
        nu: ν, whole, ≥ 1.

    Attributes:
        log_z: the parameter, shape (); an estimate by importance sampling from the noise at the start.

    References:
        Gutmann & Hyvärinen (2010), Noise-contrastive estimation.
    """

    def __init__(self, rbm: RBM, noise: BernoulliNoise, nu: int = 5) -> None:
        super().__init__()
        check.at_least(1, nu=nu)
        self.rbm, self.noise, self.nu = rbm, noise, nu
        with torch.no_grad():
            v = noise.sample(1000)
            start = (-rbm.free_energy(v) - noise.log_prob(v)).logsumexp(0) - math.log(len(v))
        self.log_z = nn.Parameter(start)

    def log_prob(self, v: Tensor) -> Tensor:
        r""":math:`-F(v) - \log Z` in nats, shape (n,); normalized as far as training has come."""
        return -self.rbm.free_energy(v) - self.log_z

    def loss(self, x: Tensor) -> Tensor:
        r"""The loss above for bits x, shape (n, d), with fresh noise."""
        check_bits(x, "x", width=self.rbm.W.shape[1])
        y = self.noise.sample(self.nu * len(x))
        return -nce_objective(*(self.log_prob(v) - self.noise.log_prob(v) for v in (x, y)), self.nu)
