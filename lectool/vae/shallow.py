r"""Chapter 11: one layer, three objectives: a linear VAE, hidden bits with exact expectations, and score matching."""

import math

import torch
from torch import Tensor, nn

from lectool import check
from lectool.nets import bernoulli_cross_entropy
from lectool.vae.parts import Gaussian, Posterior, normal_log_prob
from lectool.vae.plain import VAE

__all__ = ["BernoulliVAE", "linear_vae", "score_matching"]


def linear_vae(
    d: int, k: int, *, sigma: float = 1.0, posterior: str | type[Posterior] = "diagonal"
) -> VAE:
    r"""A VAE with one linear layer each way and Gaussian data: its best parameters are those of PPCA.

    .. math:: p(x \mid z) = N(W z + b, \sigma^2 I)

    Arguments:
        d: numbers in a sample.
        k: dimension of the code.
        sigma: where σ starts; it is learned.
        posterior: as in :class:`VAE`. The diagonal one suffices: it makes the columns of W orthogonal.

    References:
        Lucas, Tucker, Grosse & Norouzi (2019), Don't blame the ELBO!
    """
    return VAE.mlp([d, k], likelihood=Gaussian(sigma, learned=True), posterior=posterior)


class BernoulliVAE(nn.Module):
    r"""One layer of hidden bits, whose ELBO needs no sampling.

    .. math:: p(z_j = 1) = \tfrac12, \quad p(x \mid z) = N(W z + c, \sigma^2 I), \quad
        q(z_j = 1 \mid x) = p_j = \sigma(w_j^\top x + b_j)

    The bits of q are independent, so that

    .. math:: \mathbb E_q \lVert x - c - W z \rVert^2 = \lVert x - c - W p \rVert^2
        + \sum_j \lVert w_j \rVert^2 p_j (1 - p_j), \qquad
        \mathrm{KL}(q \Vert p) = \sum_j \bigl( \log 2 - H(p_j) \bigr) .

    Arguments:
        d: numbers in a sample.
        k: hidden bits.
        sigma: σ > 0, fixed.
        tied: whether the encoder's weights are the decoder's :math:`W^\top`; else it has its own.

    Raises:
        ValueError: if a setting is out of range.
    """

    def __init__(self, d: int, k: int, *, sigma: float = 1.0, tied: bool = True):
        super().__init__()
        check.at_least(1, d=d, k=k)
        check.positive(sigma=sigma)
        self.sigma, self.k = sigma, k
        self.W = nn.Parameter(torch.randn(d, k) / d**0.5)
        self.V = None if tied else nn.Parameter(torch.randn(d, k) / d**0.5)
        self.b = nn.Parameter(torch.zeros(k))
        self.c = nn.Parameter(torch.zeros(d))

    def encode(self, x: Tensor) -> Tensor:
        r"""The logits of q(z = 1 | x), shape (n, k), for x of shape (n, d)."""
        check.data(x, width=self.W.shape[0])
        return x @ (self.W if self.V is None else self.V) + self.b

    def decode(self, z: Tensor) -> Tensor:
        r"""The mean of x for bits (or their probabilities) z, shape (…, k)."""
        return z @ self.W.T + self.c

    def expected_error(self, x: Tensor, p: Tensor) -> Tensor:
        r""":math:`\mathbb E_q \lVert x - c - W z \rVert^2`, shape (n,), for bits that are 1 with probabilities p."""
        spread = (p * (1 - p)) @ self.W.square().sum(0)
        return (x - self.decode(p)).square().sum(1) + spread

    def elbo(self, x: Tensor) -> Tensor:
        r"""The exact ELBO in nats, shape (n,)."""
        a = self.encode(x)
        p = torch.sigmoid(a)
        entropy = bernoulli_cross_entropy(a, p)
        log_likelihood = self.log_likelihood(self.expected_error(x, p))
        return log_likelihood - (self.k * math.log(2) - entropy)

    def log_prob(self, x: Tensor) -> Tensor:
        r"""log p(x) in nats, shape (n,), by a sum over all :math:`2^k` settings of the bits; k ≤ 16."""
        check.data(x, width=self.W.shape[0])
        if self.k > 16:
            raise ValueError(f"k is {self.k}; the sum over 2^k settings is offered for k ≤ 16")
        numbers = torch.arange(2**self.k, device=x.device)
        z = (numbers[:, None] >> torch.arange(self.k, device=x.device) & 1).to(x.dtype)
        squares = torch.cdist(x, self.decode(z)).square()
        return (self.log_likelihood(squares) - self.k * math.log(2)).logsumexp(1)

    def loss(self, x: Tensor) -> Tensor:
        r"""Minus the mean ELBO of a batch, shape (n, d)."""
        return -self.elbo(x).mean()

    def log_likelihood(self, squares: Tensor) -> Tensor:
        r"""log p(x | z) in nats for squared errors :math:`\lVert x - c - W z \rVert^2`, or its mean for theirs."""
        d = len(self.c)
        return normal_log_prob(squares / self.sigma**2, d) - d * math.log(self.sigma)


def score_matching(W: Tensor, x: Tensor) -> Tensor:
    r"""The score matching objective of a one-layer energy model, one number a sample, shape (n,).

    The model :math:`\log p(x) = \sum_j \log(1 + e^{w_j^\top x}) - \tfrac12 \lVert x \rVert^2 - \log Z` has
    the score :math:`\psi(x) = W \sigma(W^\top x) - x`, which is the residual of a tied autoencoder, and

    .. math:: \tfrac12 \lVert \psi \rVert^2 + \operatorname{tr} \tfrac{\partial \psi}{\partial x}
        = \tfrac12 \lVert x - W p \rVert^2 + \sum_j \lVert w_j \rVert^2 p_j (1 - p_j) - d,
        \qquad p = \sigma(W^\top x) .

    Arguments:
        W: shape (d, k).
        x: shape (n, d).

    References:
        Hyvärinen (2005), Estimation of non-normalized statistical models by score matching.
    """
    check.data(x, width=W.shape[0])
    p = torch.sigmoid(x @ W)
    curvature = (p * (1 - p)) @ W.square().sum(0) - W.shape[0]
    return 0.5 * (x - p @ W.T).square().sum(1) + curvature
