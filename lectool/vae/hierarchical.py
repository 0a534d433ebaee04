r"""Chapter 12: several layers of codes, inferred from below or from above."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, random
from lectool.nets import bernoulli_cross_entropy, mlp
from lectool.vae.parts import DiagonalGaussian, StandardNormal, residual_kl

__all__ = ["HierarchicalVAE", "TopDownVAE"]


class HierarchicalVAE(nn.Module):
    r"""L layers of codes, each explained by the one above it, and inferred from the one below it.

    .. math:: p(x, z_1, \dots, z_L) &= p(x \mid z_1)\, p(z_1 \mid z_2) \cdots p(z_{L-1} \mid z_L)\, p(z_L) \\
        q(z_1, \dots, z_L \mid x) &= q(z_1 \mid x)\, q(z_2 \mid z_1) \cdots q(z_L \mid z_{L-1})

    All are diagonal Gaussians, :math:`p(z_L) = N(0, I)`, and x is Bernoulli.

    Arguments:
        d: numbers in a sample.
        sizes: numbers in :math:`z_1, \dots, z_L`, at least one.
        widths: hidden units of the networks below each layer, as many.

    Raises:
        ValueError: if the lists are empty, differ in length or hold a number below 1; if k < 1; for data outside
            [0, 1].

    References:
        Rezende, Mohamed & Wierstra (2014); Burda, Grosse & Salakhutdinov (2016), with two layers.
    """

    def __init__(self, d: int, sizes: Sequence[int], widths: Sequence[int]):
        super().__init__()
        check.lengths(sizes=sizes, widths=widths)
        _check_sizes(d, sizes)
        below = [d, *sizes[:-1]]
        self.up = nn.ModuleList(
            mlp([b, w, w, 2 * k]) for b, w, k in zip(below, widths, sizes, strict=True)
        )
        # from z_l to what is below: x itself, or mean and log-variance of z_(l-1)
        self.down = nn.ModuleList(
            mlp([k, w, w, b if i == 0 else 2 * b])
            for i, (b, w, k) in enumerate(zip(below, widths, sizes, strict=True))
        )
        self.top = StandardNormal(sizes[-1])

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        r"""One draw of :math:`z_1, \dots, z_L`, shapes (n, k_l)."""
        z = [check.data(x, low=0.0, high=1.0)]
        for net in self.up:
            z.append(DiagonalGaussian(net(z[-1])).sample(generator=generator))
        return z[1:]

    def log_ratios(
        self, x: Tensor, n_draws: int = 1, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""log p(x | z₁), shape (n_draws, n), and :math:`\log q(z_l \mid \cdot) - \log p(z_l \mid \cdot)` at the
        drawn codes, shape (L, n_draws, n): layer l's share of the KL."""
        check.data(x, low=0.0, high=1.0)
        log_q, z = [], [x.expand(n_draws, *x.shape)]
        for net in self.up:
            q = DiagonalGaussian(net(z[-1]))
            z.append(q.sample(generator=generator))
            log_q.append(q.log_prob(z[-1]))
        lower = zip(self.down[1:], z[1:-1], z[2:], strict=True)
        log_p = [DiagonalGaussian(net(above)).log_prob(own) for net, own, above in lower]
        log_p.append(self.top.log_prob(z[-1]))
        log_x = -bernoulli_cross_entropy(self.down[0](z[1]), x)
        return log_x, torch.stack(log_q) - torch.stack(log_p)

    def elbo(self, x: Tensor, k: int = 1, generator: torch.Generator | None = None) -> Tensor:
        r""":math:`L_k`, a lower bound of log p(x) in nats from k draws, shape (n,)."""
        check.at_least(1, k=k)
        log_x, kl = self.log_ratios(x, k, generator)
        return (log_x - kl.sum(0)).logsumexp(0) - math.log(k)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        r"""``loss``, ``reconstruction`` and ``kl 1`` … ``kl L`` from one draw, nats, means over the batch."""
        log_x, kl = self.log_ratios(x, generator=generator)
        return _terms(-log_x.mean(), kl.mean((1, 2)))

    def decode(self, z: Tensor) -> Tensor:
        r"""Pixel probabilities, shape (n, d), of codes :math:`z_1`."""
        return torch.sigmoid(self.down[0](z))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Pixel probabilities of n draws from the top down, shape (n, d)."""
        z = self.top.sample(n, generator=generator)
        for net in reversed(self.down[1:]):
            z = DiagonalGaussian(net(z)).sample(generator=generator)
        return self.decode(z)


class TopDownVAE(nn.Module):
    r"""L layers of codes, drawn from the top down in the model and in the posterior alike.

    A state s runs from the top to the picture. Each layer reads its prior :math:`N(\mu, \sigma^2)` off s; the
    posterior sees the data too, as features h of x, and says only in what it differs from the prior:

    .. math:: p(z_l \mid z_{>l}) = N(\mu, \sigma^2), \quad q(z_l \mid z_{>l}, x) = N(\mu + \Delta, (\sigma r)^2),
        \quad (\mu, \log\sigma) = f_l(s), \quad (\Delta, \log r) = g_l(s, h_l), \quad s \leftarrow s + u_l(s, z_l)

    Arguments:
        d: numbers in a sample.
        sizes: numbers in :math:`z_1, \dots, z_L` (the last is the top), at least one.
        width: of the state, the features and the networks' hidden layers.

    Raises:
        ValueError: as :class:`HierarchicalVAE`.

    References:
        Vahdat & Kautz (2020), NVAE; Sønderby et al. (2016), Ladder variational autoencoders. Fully
        connected and small here: no convolutions, no squeeze-and-excitation, no spectral regularization.
    """

    def __init__(self, d: int, sizes: Sequence[int], width: int = 100):
        super().__init__()
        _check_sizes(d, sizes)
        check.at_least(1, width=width)
        self.sizes = list(sizes)
        self.first = nn.Linear(d, width)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in sizes)
        self.start = nn.Parameter(torch.zeros(width))
        self.prior = nn.ModuleList(nn.Linear(width, 2 * k) for k in sizes)
        self.residual = nn.ModuleList(mlp([2 * width, width, 2 * k]) for k in sizes)
        self.update = nn.ModuleList(mlp([width + k, width, width]) for k in sizes)
        self.last = nn.Linear(width, d)
        # N(0, I) at first
        for net in self.prior:
            nn.init.zeros_(net.weight)
            nn.init.zeros_(net.bias)

    def features(self, x: Tensor) -> list[Tensor]:
        r""":math:`h_1, \dots, h_L`, from the data upwards, shape (n, width) each."""
        h = [self.first(check.data(x, low=0.0, high=1.0))]
        for net in self.up:
            h.append(h[-1] + net(F.relu(h[-1])))
        return h[1:]

    def descend(
        self,
        n: int,
        h: list[Tensor] | None = None,
        n_prior: int = 0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        r"""From the top to the picture.

        Arguments:
            n: number of samples.
            h: features of data, for draws from the posterior; from the prior where ``None``.
            n_prior: this many of the lowest layers are drawn from the prior even where h is given.

        Returns:
            the decoder's Bernoulli logits, shape (n, d), and each layer's KL, from z₁ up, shape (n,) each.
        """
        s, kls = self.start.expand(n, -1), []
        for layer in reversed(range(len(self.sizes))):
            mean, log_sigma = self.prior[layer](s).chunk(2, -1)
            shift, log_r = torch.zeros_like(mean), torch.zeros_like(mean)
            if h is not None and layer >= n_prior:
                shift, log_r = self.residual[layer](torch.cat([s, h[layer]], -1)).chunk(2, -1)
            epsilon = random.noise(mean.shape, mean, generator)
            z = mean + shift + (log_sigma + log_r).exp() * epsilon
            kls.insert(0, residual_kl(shift, log_r, log_sigma).sum(-1))
            s = s + self.update[layer](torch.cat([s, z], -1))
        return self.last(F.relu(s)), kls

    def elbo(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""One draw of the bound on log p(x) in nats, shape (n,)."""
        a, kls = self.descend(len(x), self.features(x), generator=generator)
        return -bernoulli_cross_entropy(a, x) - sum(kls)

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        r"""``loss``, ``reconstruction`` and ``kl 1`` … ``kl L`` in nats, means over the batch."""
        a, kls = self.descend(len(x), self.features(x), generator=generator)
        return _terms(bernoulli_cross_entropy(a, x).mean(), torch.stack(kls).mean(1))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Pixel probabilities of n draws from the prior, shape (n, d)."""
        return torch.sigmoid(self.descend(n, generator=generator)[0])

    def resample(self, x: Tensor, n_prior: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Pixel probabilities of x with its ``n_prior`` lowest layers drawn anew from their priors."""
        check.inside(f"[0, {len(self.sizes)}]", n_prior=n_prior)
        return torch.sigmoid(self.descend(len(x), self.features(x), n_prior, generator)[0])


def _terms(reconstruction: Tensor, kls: Tensor) -> dict[str, Tensor]:
    named = {f"kl {i}": kl for i, kl in enumerate(kls, start=1)}
    return {"loss": reconstruction + kls.sum(), "reconstruction": reconstruction, **named}


def _check_sizes(d: int, sizes: Sequence[int]) -> None:
    check.at_least(1, d=d, n_layers=len(sizes))
    for layer, k in enumerate(sizes):
        check.at_least(1, **{f"sizes[{layer}]": k})
