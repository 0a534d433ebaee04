r"""Chapter 10: stacks of restricted Boltzmann machines: the deep belief network and the deep Boltzmann machine.

Layers are counted from below: x = v are the visible units, :math:`h_1, h_2, \dots` the hidden layers, all of them bits.
A machine's W has a row for each unit of its upper layer, b is the upper layer's bias and c the lower one's, as in
:class:`~lectool.boltzmann.RBM`. All energies and probabilities are in nats.
"""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, train
from lectool.boltzmann import RBM, Restricted, all_bits, check_bits
from lectool.nets import bernoulli_cross_entropy
from lectool.random import bernoulli, integers

__all__ = [
    "DeepBeliefNetwork",
    "DeepBoltzmannMachine",
    "DoubledRBM",
    "bernoulli_entropy",
    "train_stack",
    "transposed",
]


def bernoulli_entropy(p: Tensor) -> Tensor:
    r"""Entropy of independent bits that are 1 with probability p, shape (…, k), in nats, summed: shape (…)."""
    return -(torch.special.xlogy(p, p) + torch.special.xlogy(1 - p, 1 - p)).sum(-1)


def train_stack(
    rbms: Sequence[Restricted], x: Tensor, generator: torch.Generator | None = None, **settings
) -> list[train.History]:
    r"""Trains machines one after the other, each on the hidden units that the one below draws for the data.

    Arguments:
        rbms: from below; changed in place.
        x: data for the first, shape (n, d), in [0, 1].
        generator: of the hidden units.
        settings: of :func:`lectool.train.fit`.

    References:
        Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets.
    """
    histories = []
    for rbm in rbms:
        histories.append(train.fit(rbm, x, **settings))
        x = bernoulli(rbm.encode(x).detach(), generator)
    return histories


def transposed(rbm: RBM) -> RBM:
    r"""The same machine upside down: its visible units are the hidden ones of ``rbm``, with the same distribution.

    As the second layer of a :class:`DeepBeliefNetwork` it leaves p(x) where ``rbm`` had it.
    """
    k, d = rbm.W.shape
    turned = RBM(k, d, n_gibbs=rbm.n_gibbs).to(rbm.W)
    with torch.no_grad():
        for new, old in ((turned.W, rbm.W.T), (turned.b, rbm.c), (turned.c, rbm.b)):
            new.copy_(old)
    return turned


# ------------------------------------------------------------------------------------------------ deep belief network


class DeepBeliefNetwork(nn.Module):
    r"""A restricted Boltzmann machine on top of a directed network.

    .. math:: p(v, h_1, \dots, h_L) = p(v \mid h_1)\, p(h_1 \mid h_2) \cdots p(h_{L-2} \mid h_{L-1})\,
        p(h_{L-1}, h_L)

    The last factor is the topmost machine, the others are the ways down :math:`\sigma(W^\top h + c)` through the
    machines below it. The posterior is guessed by the ways up, :math:`q(h_l \mid h_{l-1}) = \sigma(W h_{l-1} + b)`.

    Arguments:
        rbms: two or more machines from below, each as wide below as the one beneath it is above; they become parts of
            the network, and are trained beforehand by :func:`train_stack`.

    Attributes:
        rbms: the machines.
        recognition: machines that hold the ways up, all but the topmost; the same objects until :meth:`untie`.

    Raises:
        ValueError: if there are fewer than two machines, their widths do not fit or their hidden units are real; for
            data of another width, with NaN or outside [0, 1].

    References:
        Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets.

    Example:
        >>> rbms = [RBM(784, 200), RBM(200, 100)]
        >>> dbn = DeepBeliefNetwork(rbms)
        >>> dbn.sample(5, n_steps=10).shape
        torch.Size([5, 784])
    """

    def __init__(self, rbms: Sequence[RBM]):
        super().__init__()
        check.at_least(2, n_machines=len(rbms))
        for lower, upper in zip(rbms, rbms[1:]):
            if len(lower.W) != upper.W.shape[1]:
                raise ValueError(
                    f"a machine with {len(lower.W)} hidden units lies below one with {upper.W.shape[1]} visible "
                    "ones; expected equally many"
                )
        for rbm in rbms:
            check.one_of(("bernoulli",), hidden=rbm.hidden)
        self.rbms = nn.ModuleList(rbms)
        self.recognition = nn.ModuleList(rbms[:-1])

    @property
    def top(self) -> RBM:
        r"""The topmost machine."""
        return self.rbms[-1]

    def untie(self) -> "DeepBeliefNetwork":
        r"""Gives the ways up weights of their own, which start where the ways down are; returns the network."""
        self.recognition = copy.deepcopy(self.recognition)
        return self

    def recognize(self, x: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        r"""x and a draw of :math:`h_1, \dots, h_{L-1}` from q, shapes (n, d), (n, k_1), …"""
        self.rbms[0].check_visible(x)
        layers = [x]
        for rbm in self.recognition:
            layers.append(rbm.draw_hidden(layers[-1], generator))
        return layers

    def descend(self, h: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        r"""A draw of all layers below and including :math:`h = h_{L-1}`, from v upward: v, h₁, …, h."""
        layers = [h]
        for rbm in reversed(self.rbms[:-1]):
            layers.append(rbm.draw_visible(layers[-1], generator))
        return layers[::-1]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        n_steps: int = 1000,
        *,
        start: Tensor | None = None,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Gibbs sampling in the topmost machine, then one way down, shape (n, d).

        Arguments:
            n: number of samples, ≥ 1.
            n_steps: rounds of Gibbs sampling, ≥ 0.
            start: data from which the chains begin, shape (n, d); independent bits of :math:`h_{L-1}` where ``None``.
            mean: whether to return the visible units' probabilities given h₁ in place of bits.
            generator: of the draws.
        """
        if start is not None:
            start = self.recognize(start, generator)[-1]
        h = self.top.sample(n, n_steps, start=start, generator=generator)
        v, h_1, *_ = self.descend(h, generator)
        return self.rbms[0].visible_given_hidden(h_1) if mean else v

    def encode(self, x: Tensor) -> Tensor:
        r"""Probabilities passed up to the top, shape (n, k_L)."""
        self.rbms[0].check_visible(x)
        for rbm in [*self.recognition, self.top]:
            x = rbm.hidden_given_visible(x)
        return x

    def decode(self, z: Tensor) -> Tensor:
        r"""Probabilities passed down from the top, shape (n, d)."""
        for rbm in reversed(self.rbms):
            z = rbm.visible_given_hidden(z)
        return z

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""``decode(encode(x))``."""
        return self.decode(self.encode(x))

    def log_weights(
        self,
        x: Tensor,
        k: int = 1,
        log_z: Tensor | float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r""":math:`\log p(x, h_1, \dots, h_{L-1}) - \log q(h_1, \dots, h_{L-1} \mid x)` for k draws from q, (k, n).

        Arguments:
            x: bits or probabilities, shape (n, d).
            k: draws for each row, ≥ 1.
            log_z: log Z of the topmost machine, such as :func:`~lectool.boltzmann.ais` estimates it; enumerated where
                ``None``.
            generator: of the draws.
        """
        check.at_least(1, k=k)
        log_z = self.top.log_partition() if log_z is None else log_z
        layers = self.recognize(x.repeat(k, 1), generator)
        log_w = -self.top.free_energy(layers[-1]) - log_z
        for down, up, low, high in zip(self.rbms, self.recognition, layers, layers[1:]):
            log_w = log_w + log_below(down, low, high) - log_above(up, low, high)
        return log_w.reshape(k, -1)

    def elbo(
        self,
        x: Tensor,
        k: int = 1,
        log_z: Tensor | float | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""A lower bound of log p(x) in nats, shape (n,), whose mean grows with the number k of draws from q.

        .. math:: \log \tfrac1k \sum_{i=1}^k \frac{p(x, h^{(i)})}{q(h^{(i)} \mid x)}, \qquad h^{(i)} \sim q

        Arguments as in :meth:`log_weights`.
        """
        return self.log_weights(x, k, log_z, generator).logsumexp(0) - math.log(k)

    def log_prob(self, x: Tensor) -> Tensor:
        r"""log p(x) in nats of bits, shape (n, d), by enumeration of every hidden layer: shape (n,).

        Raises:
            ValueError: if x holds other numbers than 0 and 1 or a layer has more than 20 units.
        """
        check_bits(x, width=self.rbms[0].W.shape[1])
        h = all_bits(self.top.W.shape[1], self.top.c)
        log_p = -self.top.free_energy(h) - self.top.log_partition()
        for rbm in reversed(self.rbms[:-1]):
            low = x if rbm is self.rbms[0] else all_bits(rbm.W.shape[1], rbm.c)
            logits = rbm.c + h @ rbm.W  # of the layer below, for each state of this one
            log_below = low @ logits.T - F.softplus(logits).sum(1)
            h, log_p = low, (log_below + log_p).logsumexp(1)
        return log_p

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""The up–down algorithm: all ways down learn from the way up, all ways up from the way down.

        ``wake`` is −log p of each layer given the one above it, which q has drawn for the data; ``top`` is the topmost
        machine's own loss on :math:`h_{L-1}`; ``sleep`` is −log q of each layer given the one below it, both dreamt: a
        few Gibbs steps of the topmost machine from the data's :math:`h_{L-1}`, then down. ``loss`` is their sum. Means
        over the batch, in nats; ``top`` is no likelihood.

        Raises:
            ValueError: if the ways up and down are still the same weights; see :meth:`untie`.
        """
        if any(up is down for up, down in zip(self.recognition, self.rbms)):
            raise ValueError("the ways up and down share weights; call untie() before training")
        with torch.no_grad():
            awake = self.recognize(x)
            dreamt = self.top.negatives(awake[-1])
            asleep = self.descend(dreamt)
        wake = sum(-log_below(*part).mean() for part in zip(self.rbms, awake, awake[1:]))
        sleep = sum(-log_above(*part).mean() for part in zip(self.recognition, asleep, asleep[1:]))
        top = self.top.free_energy(awake[-1]).mean() - self.top.free_energy(dreamt).mean()
        return {"loss": wake + top + sleep, "wake": wake, "top": top, "sleep": sleep}


def log_below(rbm: RBM, low: Tensor, high: Tensor) -> Tensor:
    r"""log p(low | high) of a machine's lower layer given its upper one, row by row, shape (n,)."""
    return -bernoulli_cross_entropy(rbm.c + high @ rbm.W, low)


def log_above(rbm: RBM, low: Tensor, high: Tensor) -> Tensor:
    r"""log p(high | low) of a machine's upper layer given its lower one, row by row, shape (n,)."""
    return -bernoulli_cross_entropy(rbm.b + low @ rbm.W.T, high)


# ----------------------------------------------------------------------------------------------- deep Boltzmann machine


class DoubledRBM(Restricted):
    r"""A machine with two copies of one of its layers, all with the same weights, to train a part of a deep machine.

    In a deep Boltzmann machine the middle layer hears from both sides. While only one side exists, a second copy of it
    stands for the other: two copies of v make p(h = 1 | v) = σ(2 W v + b), while p(v = 1 | h) = σ(Wᵀ h + c) of each
    copy stays. v (or h) is the mean of its copies, which is itself in the data.

    Arguments:
        d, k: numbers of visible and hidden units, ≥ 1.
        doubled: ``"visible"`` for the machine at the bottom, ``"hidden"`` for the one at the top.
        n_gibbs, n_particles, sd: as for :class:`~lectool.boltzmann.RBM`.

    Raises:
        ValueError: if a number is out of range or ``doubled`` is neither of the two; for data of another width, with
            NaN or outside [0, 1].

    References:
        Salakhutdinov & Hinton (2009), Deep Boltzmann machines.
    """

    def __init__(
        self,
        d: int,
        k: int,
        doubled: str,
        *,
        n_gibbs: int = 1,
        n_particles: int = 0,
        sd: float = 0.1,
    ):
        check.one_of(("visible", "hidden"), doubled=doubled)
        super().__init__(d, k, n_gibbs, n_particles, sd)
        self.n_v, self.n_h = (2, 1) if doubled == "visible" else (1, 2)

    def check_visible(self, x: Tensor) -> None:
        r"""Raises a ValueError unless x has shape (n, d) and numbers in [0, 1]."""
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        r"""Sets c to the log-odds of the units' means in the data, shape (n, d)."""
        self.check_visible(x)
        self.c.copy_(x.mean(0).clamp(0.01, 0.99).logit())

    def hidden_given_visible(self, v: Tensor) -> Tensor:
        r"""Means of a hidden copy, shape (n, k)."""
        return F.linear(self.n_v * v, self.W, self.b).sigmoid()

    def visible_given_hidden(self, h: Tensor) -> Tensor:
        r"""Means of a visible copy, shape (n, d)."""
        return F.linear(self.n_h * h, self.W.T, self.c).sigmoid()

    def draw_hidden(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""The mean of the hidden copies' draws, shape (n, k)."""
        p = self.hidden_given_visible(v)
        return bernoulli(p.expand(self.n_h, *p.shape), generator).mean(0)

    def draw_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""The mean of the visible copies' draws, shape (n, d)."""
        p = self.visible_given_hidden(h)
        return bernoulli(p.expand(self.n_v, *p.shape), generator).mean(0)

    def free_energy(self, v: Tensor) -> Tensor:
        r""":math:`-n_v\, c^\top v - n_h \sum_j \log(1 + e^{b_j + n_v (W v)_j})`, shape (n,), with one or two copies."""
        a = F.linear(self.n_v * v, self.W, self.b)
        return -self.n_v * (v @ self.c) - self.n_h * F.softplus(a).sum(1)


class DeepBoltzmannMachine(nn.Module):
    r"""Three layers of bits, each tied to the next in both directions.

    .. math:: E(v, h_1, h_2) = -c^\top v - b_1^\top h_1 - b_2^\top h_2 - h_1^\top W_1 v - h_2^\top W_2 h_1,
        \qquad p(v, h_1, h_2) = e^{-E} / Z

    Given the middle layer both ends are independent, and given the ends the middle is: the machine is a restricted one
    whose visible units are v and h₂ together, see :meth:`as_rbm`. But h₂ is not in the data, so the posterior of
    h₁ and h₂ is not independent, and :meth:`mean_field` stands for it.

    Arguments:
        d, k_1, k_2: numbers of units, ≥ 1.
        n_particles: persistent chains, ≥ 1.
        n_gibbs: rounds that they go on at each :meth:`loss`, ≥ 1.
        n_mean_field: rounds of :meth:`mean_field`, ≥ 1.
        sd: standard deviation of the weights at the start, ≥ 0.

    Attributes:
        W_1, W_2, c, b_1, b_2: parameters, shapes (k_1, d), (k_2, k_1), (d,), (k_1,), (k_2,).
        particles: h₁ of the chains, shape (n_particles, k_1).

    Raises:
        ValueError: if a number is out of range; for data of another width, with NaN or outside [0, 1].

    References:
        Salakhutdinov & Hinton (2009), Deep Boltzmann machines.

    Example:
        >>> dbm = DeepBoltzmannMachine(784, 200, 100)
        >>> dbm.encode(torch.rand(10, 784)).shape
        torch.Size([10, 100])
    """

    def __init__(
        self,
        d: int,
        k_1: int,
        k_2: int,
        *,
        n_particles: int = 100,
        n_gibbs: int = 1,
        n_mean_field: int = 10,
        sd: float = 0.01,
    ):
        super().__init__()
        check.at_least(1, d=d, k_1=k_1, k_2=k_2)
        check.at_least(1, n_particles=n_particles, n_gibbs=n_gibbs, n_mean_field=n_mean_field)
        check.non_negative(sd=sd)
        self.n_gibbs, self.n_mean_field = n_gibbs, n_mean_field
        self.W_1 = nn.Parameter(sd * torch.randn(k_1, d))
        self.W_2 = nn.Parameter(sd * torch.randn(k_2, k_1))
        self.c = nn.Parameter(torch.zeros(d))
        self.b_1 = nn.Parameter(torch.zeros(k_1))
        self.b_2 = nn.Parameter(torch.zeros(k_2))
        self.register_buffer("particles", bernoulli(torch.full((n_particles, k_1), 0.5)))

    @classmethod
    def from_rbms(
        cls, first: DoubledRBM, second: DoubledRBM, **settings: object
    ) -> "DeepBoltzmannMachine":
        r"""Puts two machines together, the first with its visible units doubled, the second with its hidden ones.

        The middle layer's log-odds are the mean of what they are in the two machines,
        :math:`\tfrac12 (2 W_1 v + b) + \tfrac12 (2 W_2^\top h_2 + c)`: each input counts once, and the bias is the mean
        of both biases.

        Raises:
            ValueError: if the widths do not fit or the wrong layers are doubled.
        """
        (k_1, d), (k_2, below) = first.W.shape, second.W.shape
        if below != k_1 or (first.n_v, second.n_h) != (2, 2):
            raise ValueError(
                f"machines of {d}-{k_1} and {below}-{k_2} units, with {first.n_v} and {second.n_h} copies of the "
                "outer layers; expected the same middle layer and two copies each"
            )
        dbm = cls(d, k_1, k_2, **settings).to(first.W)
        with torch.no_grad():
            for new, old in ((dbm.W_1, first.W), (dbm.W_2, second.W), (dbm.c, first.c)):
                new.copy_(old)
            dbm.b_1.copy_((first.b + second.c) / 2)
            dbm.b_2.copy_(second.b)
        return dbm

    def extra_repr(self) -> str:
        (k_1, d), k_2 = self.W_1.shape, len(self.W_2)
        return f"{d}, {k_1}, {k_2}, n_gibbs={self.n_gibbs}, n_mean_field={self.n_mean_field}"

    def energy(self, v: Tensor, h_1: Tensor, h_2: Tensor) -> Tensor:
        r"""E(v, h₁, h₂) in nats, shape (n,). Linear in each layer: of independent bits' means it is the mean energy."""
        pairs = (h_1 * (v @ self.W_1.T)).sum(1) + (h_2 * (h_1 @ self.W_2.T)).sum(1)
        return -(v @ self.c) - h_1 @ self.b_1 - h_2 @ self.b_2 - pairs

    def middle_given_ends(self, v: Tensor, h_2: Tensor) -> Tensor:
        r"""Means of h₁, :math:`\sigma(W_1 v + W_2^\top h_2 + b_1)`, shape (n, k_1)."""
        return (v @ self.W_1.T + h_2 @ self.W_2 + self.b_1).sigmoid()

    def ends_given_middle(self, h_1: Tensor) -> tuple[Tensor, Tensor]:
        r"""Means of v and h₂, :math:`\sigma(W_1^\top h_1 + c)` and :math:`\sigma(W_2 h_1 + b_2)`."""
        return (h_1 @ self.W_1 + self.c).sigmoid(), (h_1 @ self.W_2.T + self.b_2).sigmoid()

    @torch.no_grad()
    def gibbs(
        self, h_1: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""The middle layer after rounds of Gibbs sampling: both ends given the middle, then the middle given both.

        Arguments:
            h_1: where the chains start, shape (n, k_1).
            n_steps: rounds, ≥ 0.
            generator: of the draws.
        """
        check.at_least(0, n_steps=n_steps)
        for _ in range(n_steps):
            v, h_2 = (bernoulli(p, generator) for p in self.ends_given_middle(h_1))
            h_1 = bernoulli(self.middle_given_ends(v, h_2), generator)
        return h_1

    @torch.no_grad()
    def mean_field(self, x: Tensor, n_steps: int | None = None) -> tuple[Tensor, Tensor]:
        r"""The independent bits whose bound on log p(x) is as high as it gets: means of h₁ and h₂.

        .. math:: \mu_1 = \sigma(W_1 x + W_2^\top \mu_2 + b_1), \qquad \mu_2 = \sigma(W_2 \mu_1 + b_2)

        in turns. Each turn is the best one layer given the other, so that the bound never falls. It starts from below,
        with 2 W₁ x where nothing comes from above yet.

        Arguments:
            x: data in [0, 1], shape (n, d).
            n_steps: rounds, ≥ 1; those of the class where ``None``.
        """
        check.data(x, width=len(self.c), low=0.0, high=1.0)
        n_steps = self.n_mean_field if n_steps is None else n_steps
        check.at_least(1, n_steps=n_steps)
        from_x = x @ self.W_1.T + self.b_1
        mu_1 = (x @ self.W_1.T + from_x).sigmoid()
        for _ in range(n_steps):
            mu_2 = (mu_1 @ self.W_2.T + self.b_2).sigmoid()
            mu_1 = (from_x + mu_2 @ self.W_2).sigmoid()
        return mu_1, mu_2

    def loss(self, x: Tensor) -> Tensor:
        r"""The energy of the data with their mean-field layers less that of the chains, which go on; means.

        .. math:: \overline{E(x, \mu_1, \mu_2)} - \overline{E(\tilde v, \tilde h_1, \tilde h_2)}

        Its gradient is that of :meth:`elbo`, as far as the chains represent the model. :math:`\tilde v` and
        :math:`\tilde h_2` are means given :math:`\tilde h_1`, which spares the noise of draws.
        """
        mu_1, mu_2 = self.mean_field(x)
        with torch.no_grad():
            self.particles.copy_(self.gibbs(self.particles, self.n_gibbs))
            v, h_2 = self.ends_given_middle(self.particles)
        return self.energy(x, mu_1, mu_2).mean() - self.energy(v, self.particles, h_2).mean()

    def as_rbm(self) -> RBM:
        r"""The same distribution as a restricted machine: visible units v and h₂ side by side, hidden units h₁.

        :func:`~lectool.boltzmann.ais` then estimates log Z. A copy, without gradient.
        """
        (k_1, d), k_2 = self.W_1.shape, len(self.W_2)
        rbm = RBM(d + k_2, k_1).to(self.W_1)
        with torch.no_grad():
            rbm.W.copy_(torch.cat([self.W_1, self.W_2.T], 1))
            rbm.b.copy_(self.b_1)
            rbm.c.copy_(torch.cat([self.c, self.b_2]))
        return rbm

    def log_partition(self) -> Tensor:
        r"""log Z in nats, shape (), exactly.

        Raises:
            ValueError: if the middle layer and the ends both have more than 20 units.
        """
        return self.as_rbm().log_partition().detach()

    def elbo(
        self, x: Tensor, log_z: Tensor | float | None = None, n_steps: int | None = None
    ) -> Tensor:
        r"""A lower bound of log p(x) in nats, shape (n,), by mean field.

        .. math:: -E(x, \mu_1, \mu_2) + H(\mu_1) + H(\mu_2) - \log Z \le \log p(x)

        Arguments:
            x: data in [0, 1], shape (n, d).
            log_z: log Z; enumerated where ``None``.
            n_steps: rounds of :meth:`mean_field`.
        """
        log_z = self.log_partition() if log_z is None else log_z
        mu_1, mu_2 = self.mean_field(x, n_steps)
        entropy = bernoulli_entropy(mu_1) + bernoulli_entropy(mu_2)
        return entropy - self.energy(x, mu_1, mu_2) - log_z

    def log_prob(self, x: Tensor, log_z: Tensor | float | None = None) -> Tensor:
        r"""log p(x) in nats of bits, shape (n, d), by enumeration of the middle layer: shape (n,).

        Raises:
            ValueError: if x holds other numbers than 0 and 1 or that layer has more than 20 units.
        """
        check_bits(x, width=len(self.c))
        h = all_bits(len(self.b_1), self.b_1)
        of_h = h @ self.b_1 + F.softplus(h @ self.W_2.T + self.b_2).sum(1)
        log_phi = (x @ self.W_1.T @ h.T + of_h).logsumexp(1) + x @ self.c
        return log_phi - (self.log_partition() if log_z is None else log_z)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        n_steps: int = 1000,
        *,
        start: Tensor | None = None,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Visible units after Gibbs sampling, shape (n, d).

        Arguments:
            n: number of samples, ≥ 1.
            n_steps: rounds, ≥ 0.
            start: data from which the chains begin, shape (n, d); the persistent chains where ``None``.
            mean: whether to return probabilities given h₁ in place of bits.
            generator: of the draws.
        """
        check.at_least(1, n=n)
        if start is None:
            rows = integers(len(self.particles), n, self.particles.device, generator)
            h_1 = self.particles[rows]
        else:
            check.shape(n, len(self.c), start=start)
            h_1 = bernoulli(self.mean_field(start)[0], generator)
        v, _ = self.ends_given_middle(self.gibbs(h_1, n_steps, generator))
        return v if mean else bernoulli(v, generator)

    def encode(self, x: Tensor) -> Tensor:
        r"""The mean-field means of the topmost layer, shape (n, k_2)."""
        return self.mean_field(x)[1]

    def decode(self, z: Tensor) -> Tensor:
        r"""The visible units' probabilities given the topmost layer, passed down, shape (n, d).

        The middle layer hears from above only, which counts twice then.
        """
        return ((2 * z @ self.W_2 + self.b_1).sigmoid() @ self.W_1 + self.c).sigmoid()

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""The visible units' probabilities given the mean-field middle layer, shape (n, d)."""
        return self.ends_given_middle(self.mean_field(x)[0])[0]
