r"""Restricted Boltzmann machines: two layers of units, every visible unit tied to every hidden one.

Visible units v ∈ {0, 1}^d, hidden units h, weights W of shape (k, d), hidden bias b, visible bias c: the
shapes and names of a tied autoencoder's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check, random

__all__ = ["RBM"]


class RBM(nn.Module):
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
        sample_visible: whether Gibbs steps draw the visible units. ``False`` puts their means in place of
            the draws: a biased chain with less noise, which is what Hinton and Salakhutdinov pre-train with.

    Raises:
        ValueError: if a number is below 1 or ``hidden`` is neither of the two; for data of another width,
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
        sample_visible: bool = True,
    ) -> None:
        super().__init__()
        check.at_least(1, d=d, k=k, n_gibbs=n_gibbs)
        check.one_of(("bernoulli", "gaussian"), hidden=hidden)
        self.hidden, self.n_gibbs, self.sample_visible = hidden, n_gibbs, sample_visible
        self.W = nn.Parameter(0.1 * torch.randn(k, d))
        self.b = nn.Parameter(torch.zeros(k))
        self.c = nn.Parameter(torch.zeros(d))

    def extra_repr(self) -> str:
        k, d = self.W.shape
        return f"{d}, {k}, hidden={self.hidden!r}, n_gibbs={self.n_gibbs}"

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        r"""Sets c to the log-odds of the units' means in the data, shape (n, d), so that learning begins with
        the right mean image (Hinton, A practical guide, 2010, section 8)."""
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)
        self.c.copy_(x.mean(0).clamp(0.01, 0.99).logit())

    def hidden_given_visible(self, v: Tensor) -> Tensor:
        r"""Means of the hidden units, :math:`\sigma(W v + b)`, or :math:`W v + b` where they are real, shape (n, k)."""
        a = F.linear(v, self.W, self.b)
        return a.sigmoid() if self.hidden == "bernoulli" else a

    def visible_given_hidden(self, h: Tensor) -> Tensor:
        r"""Means of the visible units, :math:`\sigma(W^\top h + c)`, shape (n, d)."""
        return F.linear(h, self.W.T, self.c).sigmoid()

    @torch.no_grad()
    def gibbs(
        self, v: Tensor, n_steps: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Visible units after some rounds of block Gibbs sampling: first h given v, then v given h.

        Arguments:
            v: where the chains start, shape (n, d), in [0, 1].
            n_steps: rounds, ≥ 0.
            generator: of the draws; torch's global one where ``None``.

        Returns:
            zeros and ones (means where ``sample_visible`` is off) of v's shape and type, without gradient.

        Raises:
            ValueError: if ``n_steps`` is negative.
        """
        check.at_least(0, n_steps=n_steps)
        for _ in range(n_steps):
            h = self.hidden_given_visible(v)
            if self.hidden == "bernoulli":
                h = random.bernoulli(h, generator)
            else:
                h = h + random.noise(h.shape, h, generator)
            v = self.visible_given_hidden(h)
            if self.sample_visible:
                v = random.bernoulli(v, generator)
        return v

    def free_energy(self, v: Tensor) -> Tensor:
        r"""The energy with the hidden units summed out, in nats, shape (n,): :math:`p(v) = e^{-F(v)} / Z`.

        .. math:: F(v) = -\log \sum_h e^{-E(v, h)} = -c^\top v - \sum_j \log(1 + e^{b_j + (W v)_j})

        Real hidden units have :math:`F(v) = -c^\top v - \tfrac12 \lVert W v + b \rVert^2`, up to a constant.
        """
        a = F.linear(v, self.W, self.b)
        if self.hidden == "bernoulli":
            return -(v @ self.c) - F.softplus(a).sum(1)
        return -(v @ self.c) - 0.5 * a.square().sum(1)

    def loss(self, x: Tensor) -> Tensor:
        r"""The mean free energy of the data less that of a CD-k sample: its gradient is CD-k's.

        With :math:`\tilde v` the visible units k Gibbs steps from the data, held fixed,

        .. math::
            -\nabla_W\,\big(\overline{F(x)} - \overline{F(\tilde v)}\big)
            = \langle h v^\top \rangle_{\text{data}} - \langle h v^\top \rangle_{\text{CD-}k}.

        The value itself is no likelihood and need not fall as the model improves.
        """
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)
        return self.free_energy(x).mean() - self.free_energy(self.gibbs(x, self.n_gibbs)).mean()

    def encode(self, x: Tensor) -> Tensor:
        r"""The code of data in [0, 1], shape (n, d): the means of the hidden units, shape (n, k)."""
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)
        return self.hidden_given_visible(x)

    def decode(self, z: Tensor) -> Tensor:
        r"""The means of the visible units given a code, shape (n, d)."""
        return self.visible_given_hidden(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""``decode(encode(x))``."""
        return self.decode(self.encode(x))
