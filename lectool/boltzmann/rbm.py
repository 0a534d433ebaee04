r"""Chapters 02 and 09: restricted Boltzmann machines: two layers, every visible unit tied to every hidden one.

Visible units v ∈ {0, 1}^d, hidden units h, weights W of shape (k, d), hidden bias b, visible bias c: the
shapes and names of a tied autoencoder's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check, random
from lectool.boltzmann.states import bit_blocks, check_bits

__all__ = ["RBM", "Restricted"]


class Restricted(nn.Module):
    r"""What machines of two layers share: block Gibbs sampling, and learning by contrastive divergence.

    A machine has ``free_energy(v)``, ``draw_hidden(v, generator)``, ``draw_visible(h, generator)`` and
    ``check_visible(x)``, and parameters W (k, d), b (k,), c (d,).

    Arguments:
        d, k: numbers of visible and hidden units, ≥ 1.
        n_gibbs: Gibbs steps behind each sample of :meth:`loss`, ≥ 1 (the k of CD-k).
        n_particles: persistent chains, from which :meth:`loss` then takes its samples; 0 for chains that start at
            the data, anew each time.
        sd: standard deviation of the weights at the start, ≥ 0.
    """

    def __init__(self, d: int, k: int, n_gibbs: int, n_particles: int, sd: float) -> None:
        super().__init__()
        check.at_least(1, d=d, k=k, n_gibbs=n_gibbs)
        check.non_negative(n_particles=n_particles, sd=sd)
        self.n_gibbs = n_gibbs
        self.W = nn.Parameter(sd * torch.randn(k, d))
        self.b = nn.Parameter(torch.zeros(k))
        self.c = nn.Parameter(torch.zeros(d))
        self.register_buffer("particles", torch.zeros(n_particles, d) if n_particles else None)

    def extra_repr(self) -> str:
        k, d = self.W.shape
        return f"{d}, {k}, n_gibbs={self.n_gibbs}"

    @torch.no_grad()
    def gibbs(
        self, v: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Visible units after some rounds of block Gibbs sampling: first h given v, then v given h.

        Arguments:
            v: where the chains start, shape (n, d).
            n_steps: rounds, ≥ 0.
            generator: of the draws; torch's global one where ``None``.

        Returns:
            visible units of v's shape and type, without gradient.

        Raises:
            ValueError: if ``n_steps`` is negative.
        """
        check.at_least(0, n_steps=n_steps)
        for _ in range(n_steps):
            h = self.draw_hidden(v, generator)
            v = self.draw_visible(h, generator)
        return v

    def negatives(self, x: Tensor) -> Tensor:
        r"""Samples that the data are held against: Gibbs steps from the data, or of the persistent particles."""
        v = self.gibbs(x if self.particles is None else self.particles, self.n_gibbs)
        if self.particles is not None:
            self.particles.copy_(v)
        return v

    def loss(self, x: Tensor) -> Tensor:
        r"""The mean free energy of the data less that of a CD-k or persistent sample: its gradient is CD-k's.

        With :math:`\tilde v` the visible units k Gibbs steps from the data (or from where the particles were
        left), held fixed,

        .. math::
            -\nabla_W\,\big(\overline{F(x)} - \overline{F(\tilde v)}\big)
            = \langle h v^\top \rangle_{\text{data}} - \langle h v^\top \rangle_{\text{CD-}k}.

        The value itself is no likelihood and need not fall as the model improves.

        References:
            Hinton (2002) for CD; Tieleman (2008), Training restricted Boltzmann machines using approximations to the
            likelihood gradient, for persistent chains.
        """
        self.check_visible(x)
        v = self.negatives(x)
        return self.free_energy(x).mean() - self.free_energy(v).mean()

    def encode(self, x: Tensor) -> Tensor:
        r"""The code of data, shape (n, d): the means of the hidden units, shape (n, k)."""
        self.check_visible(x)
        return self.hidden_given_visible(x)

    def decode(self, z: Tensor) -> Tensor:
        r"""The means of the visible units given a code, shape (n, d)."""
        return self.visible_given_hidden(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""``decode(encode(x))``."""
        return self.decode(self.encode(x))


class RBM(Restricted):
    r"""Restricted Boltzmann machine with binary visible units, trained by contrastive divergence.

    .. math:: E(v, h) = -h^\top W v - c^\top v - b^\top h, \qquad p(v, h) \propto e^{-E(v, h)},

    and :math:`\tfrac12 \lVert h \rVert^2` more where the hidden units are real (``hidden="gaussian"``). No unit
    is tied to another of its own layer, so each layer is sampled in one step given the other. Values of v
    between 0 and 1, such as gray pixels, are read as probabilities of a unit being on.

    Arguments:
        d: number of visible units, ≥ 1.
        k: number of hidden units, ≥ 1.
        hidden: ``"bernoulli"`` for binary hidden units, ``"gaussian"`` for real ones with unit variance.
        n_gibbs: Gibbs steps behind each sample of :meth:`loss`, ≥ 1 (the k of CD-k).
        n_particles: persistent chains (PCD); 0 for chains that start at the data (CD).
        sample_visible: whether Gibbs steps draw the visible units. ``False`` puts their means in place of
            the draws: a biased chain with less noise, which is what Hinton and Salakhutdinov pre-train with.
        sd: standard deviation of the weights at the start, ≥ 0.

    Attributes:
        W, b, c: parameters, shapes (k, d), (k,), (d,).
        particles: states of the persistent chains, shape (n_particles, d), or ``None``.

    Raises:
        ValueError: if a number is out of range or ``hidden`` is neither of the two; for data of another width,
            with NaN or outside [0, 1].

    References:
        Hinton (2002), Training products of experts by minimizing contrastive divergence; Hinton &
        Salakhutdinov (2006), Reducing the dimensionality of data with neural networks.

    Example:
        >>> rbm = RBM(784, 500)
        >>> x = torch.rand(10, 784)
        >>> rbm.encode(x).shape, rbm.reconstruct(x).shape
        (torch.Size([10, 500]), torch.Size([10, 784]))
    """

    def __init__(
        self,
        d: int,
        k: int,
        *,
        hidden: str = "bernoulli",
        n_gibbs: int = 1,
        n_particles: int = 0,
        sample_visible: bool = True,
        sd: float = 0.1,
    ) -> None:
        check.one_of(("bernoulli", "gaussian"), hidden=hidden)
        super().__init__(d, k, n_gibbs, n_particles, sd)
        self.hidden, self.sample_visible = hidden, sample_visible
        if n_particles:
            self.particles.copy_(random.bernoulli(torch.full_like(self.particles, 0.5)))

    def extra_repr(self) -> str:
        k, d = self.W.shape
        return f"{d}, {k}, hidden={self.hidden!r}, n_gibbs={self.n_gibbs}"

    def check_visible(self, x: Tensor) -> None:
        r"""Raises a ValueError unless x has shape (n, d) and numbers in [0, 1]."""
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        r"""Sets c to the log-odds of the units' means in the data, shape (n, d), so that learning begins with
        the right mean image (Hinton, A practical guide, 2010, section 8); particles are drawn with these means."""
        self.check_visible(x)
        mean = x.mean(0).clamp(0.01, 0.99)
        self.c.copy_(mean.logit())
        if self.particles is not None:
            self.particles.copy_(random.bernoulli(mean.expand_as(self.particles)))

    def hidden_given_visible(self, v: Tensor) -> Tensor:
        r"""Means of the hidden units, :math:`\sigma(W v + b)`, or :math:`W v + b` where they are real, shape (n, k)."""
        a = F.linear(v, self.W, self.b)
        return a.sigmoid() if self.hidden == "bernoulli" else a

    def visible_given_hidden(self, h: Tensor) -> Tensor:
        r"""Means of the visible units, :math:`\sigma(W^\top h + c)`, shape (n, d)."""
        return F.linear(h, self.W.T, self.c).sigmoid()

    def draw_hidden(self, v: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""A draw of the hidden units given visible ones, shape (n, k)."""
        h = self.hidden_given_visible(v)
        if self.hidden == "gaussian":
            return h + random.noise(h.shape, h, generator)
        return random.bernoulli(h, generator)

    def draw_visible(self, h: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""A draw of the visible units given hidden ones, or their means without ``sample_visible``, shape (n, d)."""
        v = self.visible_given_hidden(h)
        return random.bernoulli(v, generator) if self.sample_visible else v

    def experts(self, v: Tensor) -> Tensor:
        r"""The logarithms of the hidden units' factors in the product of experts, shape (n, k).

        .. math:: p(v) = \frac1Z\, e^{c^\top v} \prod_j \bigl(1 + e^{b_j + W_j v}\bigr)

        :math:`\log(1 + e^{a})` with :math:`a = b_j + W_j v`; :math:`\tfrac12 a^2` where hidden units are real.
        """
        return self.expert(F.linear(v, self.W, self.b))

    def expert(self, a: Tensor) -> Tensor:
        r"""The logarithm of an expert of input a, any shape."""
        return F.softplus(a) if self.hidden == "bernoulli" else 0.5 * a.square()

    def free_energy(self, v: Tensor) -> Tensor:
        r"""The energy with the hidden units summed out, in nats, shape (n,): :math:`p(v) = e^{-F(v)} / Z`.

        .. math:: F(v) = -\log \sum_h e^{-E(v, h)} = -c^\top v - \sum_j \log(1 + e^{b_j + (W v)_j})

        Real hidden units have :math:`F(v) = -c^\top v - \tfrac12 \lVert W v + b \rVert^2`, up to a constant.
        """
        return -(v @ self.c) - self.experts(v).sum(1)

    def hidden_free_energy(self, h: Tensor) -> Tensor:
        r"""The energy with the visible units summed out, in nats, shape (n,), of binary hidden units (n, k).

        .. math:: -\log \sum_v e^{-E(v, h)} = -b^\top h - \sum_i \log(1 + e^{c_i + (W^\top h)_i})
        """
        if self.hidden == "gaussian":
            raise ValueError("the hidden units are real; expected hidden='bernoulli'")
        return -(h @ self.b) - F.softplus(F.linear(h, self.W.T, self.c)).sum(1)

    def log_partition(self) -> Tensor:
        r"""log Z in nats, shape (), exactly: the smaller layer is enumerated, the other summed in closed form.

        Where the hidden units are real, it is the visible layer, and Z is that of :meth:`free_energy`.

        Raises:
            ValueError: if that layer has more than 20 units; :func:`ais` estimates log Z then.
        """
        k, d = self.W.shape
        if self.hidden == "gaussian" or d <= k:
            terms = [(-self.free_energy(v)).logsumexp(0) for v in bit_blocks(d, self.c)]
        else:
            terms = [(-self.hidden_free_energy(h)).logsumexp(0) for h in bit_blocks(k, self.b)]
        return torch.stack(terms).logsumexp(0)

    def log_prob(self, v: Tensor, log_z: Tensor | float | None = None) -> Tensor:
        r""":math:`\log p(v) = -F(v) - \log Z` in nats of bits v, shape (n, d): shape (n,).

        Arguments:
            log_z: where it is known or estimated; enumerated where ``None``.

        Raises:
            ValueError: if v holds other numbers than 0 and 1, or no layer is small enough.
        """
        check_bits(v, width=self.W.shape[1])
        return -self.free_energy(v) - (self.log_partition() if log_z is None else log_z)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        n_steps: int = 1000,
        *,
        start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Bits after Gibbs sampling, as many chains as samples, shape (n, d).

        Arguments:
            n: number of samples, ≥ 1.
            n_steps: rounds of Gibbs sampling, ≥ 0.
            start: where the chains begin, shape (n, d); independent bits with the odds of c where ``None``.
            generator: of the draws.
        """
        check.at_least(1, n=n)
        if start is None:
            start = random.bernoulli(self.c.sigmoid().expand(n, -1), generator)
        check.data(start, "start", width=self.W.shape[1], low=0.0, high=1.0)
        check.shape(n, self.W.shape[1], start=start)
        return self.gibbs(start, n_steps, generator)
