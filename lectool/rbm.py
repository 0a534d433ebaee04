r"""Restricted Boltzmann machines: two layers of units, every visible unit tied to every hidden one.

The symbols are those of ``notation.md``: visible units :math:`v \in \{0, 1\}^d`, hidden units
:math:`h`, weights :math:`W` of shape ``(k, d)``, hidden bias :math:`b`, visible bias :math:`c`: the same
shapes and names as a tied autoencoder's.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check

__all__ = ["RBM"]


class RBM(nn.Module):
    r"""Restricted Boltzmann machine with binary visible units, trained by contrastive divergence.

    Its energy is

    .. math::
        E(v, h) = -h^\top W v - c^\top v - b^\top h \qquad (h \text{ binary}),

    with :math:`+ \tfrac12 \|h\|^2` added where the hidden units are real (``hidden="gaussian"``),
    and :math:`p(v, h) \propto e^{-E(v, h)}`. No unit is tied to another of its own layer, so each
    layer is sampled in one step given the other. Values of ``v`` between 0 and 1, such as gray
    pixels, are read as probabilities of a unit being on.

    Randomness comes from torch's global generator: ``torch.manual_seed`` fixes it.

    Arguments:
        n_visible: Number :math:`d \geq 1` of visible units.
        n_hidden: Number :math:`k \geq 1` of hidden units.
        hidden: ``"bernoulli"`` for binary hidden units, ``"gaussian"`` for real ones with unit
            variance.
        k: Number of Gibbs steps, at least 1, behind each sample of ``loss`` (the k of CD-k).
        sample_visible: Whether Gibbs steps draw the visible units. ``False`` puts their means in
            place of the draws: a biased chain with less noise, which is what Hinton and
            Salakhutdinov pre-train with.

    Raises:
        ValueError: If a count is below 1 or ``hidden`` is neither of the two.

    References:
        | Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002),
          Neural Computation 14(8)
        | Reducing the Dimensionality of Data with Neural Networks (Hinton & Salakhutdinov, 2006),
          Science 313

    Example:
        >>> rbm = RBM(784, 500)
        >>> x = torch.rand(10, 784)
        >>> rbm.encode(x).shape, rbm.reconstruct(x).shape
        (torch.Size([10, 500]), torch.Size([10, 784]))
    """

    def __init__(
        self,
        n_visible: int,
        n_hidden: int,
        *,
        hidden: str = "bernoulli",
        k: int = 1,
        sample_visible: bool = True,
    ) -> None:
        super().__init__()
        for name, count in {"n_visible": n_visible, "n_hidden": n_hidden, "k": k}.items():
            if count < 1:
                raise ValueError(f"{name} is {count}; expected at least 1")
        if hidden not in ("bernoulli", "gaussian"):
            raise ValueError(f"hidden is {hidden!r}; it can be 'bernoulli' or 'gaussian'")
        self.hidden, self.k, self.sample_visible = hidden, k, sample_visible
        self.W = nn.Parameter(0.1 * torch.randn(n_hidden, n_visible))
        self.b = nn.Parameter(torch.zeros(n_hidden))
        self.c = nn.Parameter(torch.zeros(n_visible))

    def extra_repr(self) -> str:
        k, d = self.W.shape
        return f"{d}, {k}, hidden={self.hidden!r}, k={self.k}"

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        r"""Sets the visible biases to the log-odds of the units' means in the data, ``(n, d)``, so that
        learning begins with the right mean image (Hinton, A practical guide, 2010, section 8).

        Raises:
            ValueError: As ``loss`` does.
        """
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)
        self.c.copy_(x.mean(0).clamp(0.01, 0.99).logit())

    def hidden_given_visible(self, v: Tensor) -> Tensor:
        r"""Mean of the hidden units, :math:`\mathbb{E}[h \mid v] = \sigma(W v + b)`
        (without :math:`\sigma` where they are Gaussian): ``(n, d)`` to ``(n, k)``."""
        activation = F.linear(v, self.W, self.b)
        return activation.sigmoid() if self.hidden == "bernoulli" else activation

    def visible_given_hidden(self, h: Tensor) -> Tensor:
        r"""Mean of the visible units, :math:`\mathbb{E}[v \mid h] = \sigma(W^\top h + c)`:
        ``(n, k)`` to ``(n, d)``."""
        return F.linear(h, self.W.T, self.c).sigmoid()

    @torch.no_grad()
    def gibbs(self, v: Tensor, n_steps: int = 1) -> Tensor:
        r"""Visible units after ``n_steps`` rounds of block Gibbs sampling from ``v``.

        Each round draws :math:`h \sim p(h \mid v)`, then :math:`v \sim p(v \mid h)`. The chain
        carries no gradient.

        Arguments:
            v: Starting point, ``(n, d)`` in [0, 1].
            n_steps: Number of rounds, at least 0.

        Returns:
            Binary sample (means where ``sample_visible`` is off) of the shape and dtype of ``v``;
            ``v`` itself after 0 rounds.

        Raises:
            ValueError: If ``n_steps`` is negative.
        """
        if n_steps < 0:
            raise ValueError(f"n_steps is {n_steps}; expected at least 0")
        for _ in range(n_steps):
            mean = self.hidden_given_visible(v)
            h = mean.bernoulli() if self.hidden == "bernoulli" else mean + torch.randn_like(mean)
            v = self.visible_given_hidden(h)
            if self.sample_visible:
                v = v.bernoulli()
        return v

    def free_energy(self, v: Tensor) -> Tensor:
        r"""Energy with the hidden units summed out, in nats: ``(n, d)`` to ``(n,)``.

        .. math::
            F(v) = -\log \sum_h e^{-E(v, h)} = -c^\top v - \sum_j \log(1 + e^{b_j + (W v)_j}),

        so that :math:`p(v) = e^{-F(v)} / Z`. Gaussian hidden units have
        :math:`F(v) = -c^\top v - \tfrac12 \|W v + b\|^2 - \tfrac k2 \log 2\pi`, of which the last
        term, the same for every ``v``, is left out.
        """
        activation = F.linear(v, self.W, self.b)
        if self.hidden == "bernoulli":
            return -(v @ self.c) - F.softplus(activation).sum(1)
        return -(v @ self.c) - 0.5 * activation.square().sum(1)

    def loss(self, x: Tensor) -> Tensor:
        r"""Mean free energy of the data less that of a CD-k sample: its gradient is CD-k's.

        With :math:`\tilde v` the visible units ``k`` Gibbs steps from the data, held fixed,

        .. math::
            -\nabla_W\,\big(\overline{F(x)} - \overline{F(\tilde v)}\big)
            = \langle h v^\top \rangle_{\text{data}} - \langle h v^\top \rangle_{\text{CD-}k}.

        The value itself is no likelihood and need not fall as the model improves.

        Arguments:
            x: Data, ``(n, d)`` in [0, 1].

        Returns:
            Scalar, the mean over the batch.

        Raises:
            ValueError: If ``x`` is empty, has another width, holds NaN or leaves [0, 1].
        """
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)
        return self.free_energy(x).mean() - self.free_energy(self.gibbs(x, self.k)).mean()

    def encode(self, x: Tensor) -> Tensor:
        """Code of the data, the mean of the hidden units: ``(n, d)`` in [0, 1] to ``(n, k)``.
        Raises ``ValueError`` as ``loss`` does."""
        check.data(x, width=self.W.shape[1], low=0.0, high=1.0)
        return self.hidden_given_visible(x)

    def decode(self, z: Tensor) -> Tensor:
        """Mean of the visible units given the code: ``(n, k)`` to ``(n, d)`` in [0, 1]."""
        return self.visible_given_hidden(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """One round trip through the means, ``(n, d)`` to ``(n, d)``. Raises ``ValueError`` as
        ``loss`` does."""
        return self.decode(self.encode(x))
