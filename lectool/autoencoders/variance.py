r"""Chapter 03: a decoder that answers with a variance as well as a mean."""

import math

from torch import Tensor, nn

from lectool import check, random

__all__ = ["VarianceAutoencoder"]


class VarianceAutoencoder(nn.Module):
    r"""Encoder and decoder both answer with a Gaussian: a small variational autoencoder (chapter 11).

    .. math:: q(z \mid x) = N(m(x), \operatorname{diag} s^2(x)), \quad
        p(x \mid z) = N(\mu(z), \operatorname{diag} \sigma^2(z)), \quad p(z) = N(0, I)

    Arguments:
        encoder: from (n, d) to (n, 2k): the means m and the logarithms of s².
        decoder: from (n, k) to (n, 2d): the means μ and the logarithms of σ².
        floor: the smallest σ², > 0, in squared units of the data; keeps the likelihood bounded.

    References:
        Kingma & Welling (2014), Auto-encoding variational Bayes.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, *, floor: float = 1e-3):
        super().__init__()
        check.positive(floor=floor)
        self.encoder, self.decoder, self.floor = encoder, decoder, floor

    def encode(self, x: Tensor) -> Tensor:
        r"""The means m(x), shape (n, k)."""
        return self.encoder(x).chunk(2, 1)[0]

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""Means and variances of the data, each of shape (n, d)."""
        mean, log_variance = self.decoder(z).chunk(2, 1)
        return mean, log_variance.exp() + self.floor

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""Minus the evidence lower bound in nats, ``loss`` = ``reconstruction`` + ``kl``."""
        check.data(x)
        m, log_s2 = self.encoder(x).chunk(2, 1)
        z = m + (log_s2 / 2).exp() * random.noise(m.shape, m)
        mean, variance = self.decode(z)
        nll = 0.5 * ((x - mean).square() / variance + variance.log() + math.log(2 * math.pi))
        kl = 0.5 * (m.square() + log_s2.exp() - 1 - log_s2)
        reconstruction, kl = nll.sum(1).mean(), kl.sum(1).mean()
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
