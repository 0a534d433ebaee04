r"""Chapter 09: annealed importance sampling: the partition function of an RBM that is too large to enumerate."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lectool import check, random
from lectool.boltzmann.rbm import RBM

__all__ = ["LogPartition", "ais", "from_log_weights"]


@dataclass(frozen=True)
class LogPartition:
    r"""An estimate of log Z.

    Attributes:
        log_z: in nats, shape ().
        standard_error: of ``log_z``, from the spread of the weights, shape (). Where few chains carry all the weight
            it is itself too small.
        log_weights: of the chains; the mean weight is an unbiased estimate of Z, shape (n_chains,).
        effective: as many equal weights would say as much, in [1, n_chains], shape ().
    """

    log_z: Tensor
    standard_error: Tensor
    log_weights: Tensor
    effective: Tensor

    def interval(self, n_errors: float = 3.0) -> tuple[Tensor, Tensor]:
        r""":math:`\log(\hat Z \pm n\, \hat s)` with :math:`\hat s` the standard error of :math:`\hat Z`; −∞ where the
        lower end is below 0."""
        wide = n_errors * self.standard_error
        return self.log_z + (1 - wide).clamp(min=0).log(), self.log_z + (1 + wide).log()


def from_log_weights(log_w: Tensor) -> LogPartition:
    r"""The mean of importance weights and its error, computed from their logarithms, shape (m,).

    .. math:: \log \hat Z = \log \frac1m \sum_i w_i, \qquad
              \operatorname{se}(\log \hat Z) \approx \frac{\operatorname{sd}(w)}{\sqrt m\, \bar w}

    Raises:
        ValueError: if there are fewer than two weights, or one is not finite.
    """
    check.data(log_w, "log_w", n_dims=1)
    check.at_least(2, n_weights=len(log_w))
    m, log_w = len(log_w), log_w.double()
    log_z = log_w.logsumexp(0) - math.log(m)
    w = (log_w - log_z).exp()  # of mean 1
    error = w.std() / math.sqrt(m)
    return LogPartition(log_z, error, log_w, m / w.square().mean())


@torch.no_grad()
def ais(
    rbm: RBM,
    *,
    n_chains: int = 100,
    n_temperatures: int | Tensor = 1000,
    base: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> LogPartition:
    r"""Estimates log Z by chains that go from independent bits to the RBM through machines in between.

    At inverse temperature β from 0 to 1 the machine has weights βW, hidden biases βb and visible biases
    :math:`(1 - \beta)\, c_0 + \beta c`:

    .. math:: F_\beta(v) = -\bigl((1 - \beta) c_0 + \beta c\bigr)^\top v
              - \sum_j \log\bigl(1 + e^{\beta (b_j + W_j v)}\bigr), \qquad
              Z_0 = 2^k \prod_i \bigl(1 + e^{c_{0 i}}\bigr) .

    A chain starts at a draw of the first, does a Gibbs step at each β, and is weighted by

    .. math:: \log w = \log Z_0 + \sum_t \bigl[F_{\beta_{t - 1}}(v_t) - F_{\beta_t}(v_t)\bigr],
              \qquad E\, w = Z .

    Arguments:
        rbm: with binary hidden units.
        n_chains: ≥ 2.
        n_temperatures: steps, ≥ 1, equally spaced; or the values β themselves, rising from 0 to 1, shape (T + 1,).
        base: :math:`c_0`, shape (d,), such as the log-odds of the data's means; zeros where ``None``.
        generator: of the draws.

    Raises:
        ValueError: if a number is out of range or the hidden units are real.

    References:
        Neal (2001), Annealed importance sampling; Salakhutdinov & Murray (2008), On the quantitative analysis of deep
        belief networks.
    """
    if not isinstance(rbm, RBM):
        raise ValueError(
            f"ais takes binary visible units; expected an RBM, not {type(rbm).__name__}"
        )
    check.one_of(("bernoulli",), hidden=rbm.hidden)
    check.at_least(2, n_chains=n_chains)
    (k, d), c = rbm.W.shape, rbm.c
    c_0 = torch.zeros_like(c) if base is None else base.to(c)
    check.shape(d, base=c_0)
    betas = inverse_temperatures(n_temperatures)
    v = random.bernoulli(c_0.sigmoid().expand(n_chains, d), generator)
    log_w = torch.full((n_chains,), k * math.log(2)).to(v) + F.softplus(c_0).sum()
    for last, beta in zip(betas, betas[1:]):
        a = F.linear(v, rbm.W, rbm.b)
        log_w += (beta - last) * (v @ (c - c_0))
        log_w += (F.softplus(beta * a) - F.softplus(last * a)).sum(1)
        h = random.bernoulli((beta * a).sigmoid(), generator)
        bias = (1 - beta) * c_0 + beta * c
        v = random.bernoulli((beta * (h @ rbm.W) + bias).sigmoid(), generator)
    return from_log_weights(log_w)


def inverse_temperatures(n_temperatures: int | Tensor) -> list[float]:
    r"""β from 0 to 1 as numbers: equally spaced, or those given.

    Raises:
        ValueError: if those given do not rise from 0 to 1.
    """
    if not isinstance(n_temperatures, Tensor):
        check.at_least(1, n_temperatures=n_temperatures)
        return [t / n_temperatures for t in range(n_temperatures + 1)]
    betas = n_temperatures.double().tolist()
    if len(betas) < 2 or betas[0] != 0 or betas[-1] != 1 or sorted(betas) != betas:
        raise ValueError(f"n_temperatures is {betas}; expected numbers that rise from 0 to 1")
    return betas
