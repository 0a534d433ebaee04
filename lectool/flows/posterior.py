r"""Flows inside of a variational autoencoder (chapter 11): behind its encoder, or for its prior."""

import torch
from torch import Tensor, nn

from lectool.flows.core import Flow, Layer
from lectool.vae.parts import Posterior
from lectool.vae.plain import VAE

__all__ = ["FlowPosterior", "FlowPrior", "FlowVAE"]


class FlowPosterior:
    r""":math:`q(z \mid x)` of :math:`z = f(z_0)`, where :math:`z_0` comes from a Gaussian that the encoder sets.

    .. math:: \log q(z \mid x) = \log q_0(z_0 \mid x)
        - \log \left\lvert \det \frac{\partial z}{\partial z_0} \right\rvert

    Arguments:
        q0: the Gaussian, with means of shape (n, k).
        flow: from z₀ to z.
        context: the encoder's numbers, shape (n, m), on which the flow may depend.
    """

    def __init__(self, q0: Posterior, flow: Layer, context: Tensor):
        self.q0, self.flow, self.context = q0, flow, context

    def sample_with_log_prob(
        self, k: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Draws z, shape (n, k) or with a first axis of ``k`` draws, and their log q(z | x): forward passes only."""
        z0 = self.q0.sample(k, generator)
        context = self.context.expand(*z0.shape[:-1], -1).flatten(0, -2)
        z, log_det = self.flow(z0.flatten(0, -2), context)
        return z.view_as(z0), self.q0.log_prob(z0) - log_det.view(z0.shape[:-1])

    def sample(self, k: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.sample_with_log_prob(k, generator)[0]

    def log_prob(self, z: Tensor) -> Tensor:
        r"""log q(z | x) of any z, shape (…, n), by the flow's inverse."""
        context = self.context.expand(*z.shape[:-1], -1).flatten(0, -2)
        z0, log_det = self.flow.inverse(z.flatten(0, -2), context)
        return self.q0.log_prob(z0.view_as(z)) + log_det.view(z.shape[:-1])

    @property
    def mean(self) -> Tensor:
        r"""Where the flow takes the Gaussian's mean, shape (n, k): a typical code, not the mean of q."""
        return self.flow(self.q0.mean, self.context)[0]


class FlowVAE(VAE):
    r"""A variational autoencoder whose posterior a flow bends; the KL is that of one draw.

    .. math:: \mathrm{KL}(q \Vert p) \approx \log q_0(z_0 \mid x)
        - \log \left\lvert \det \frac{\partial z}{\partial z_0} \right\rvert - \log p(z)

    Arguments:
        flow: from z₀ to z, layers over vectors of k numbers; its context is all that the encoder gives, so that
            a conditional layer has ``n_context = posterior.n_outputs(k)``.
        settings: as for :class:`~lectool.vae.VAE`: encoder, decoder, prior, likelihood, …

    References:
        Rezende & Mohamed (2015), Variational inference with normalizing flows; Kingma et al. (2016), Improving
        variational inference with inverse autoregressive flow.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module, *, flow: Layer, **settings
    ):
        super().__init__(encoder, decoder, prior, **settings)
        self.flow = flow

    def encode(self, x: Tensor, c: Tensor | None = None) -> FlowPosterior:
        q0 = super().encode(x, c)
        return FlowPosterior(q0, self.flow, q0.numbers)

    def terms(
        self,
        x: Tensor,
        c: Tensor | None = None,
        generator: torch.Generator | None = None,
        q: FlowPosterior | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""One draw of log p(x | z), shape (n,), and of the whole KL, shape (n, 1)."""
        q = self.encode(x, c) if q is None else q
        z, log_q = q.sample_with_log_prob(generator=generator)
        kl = log_q - self.prior.log_prob(z, c)
        return self.likelihood.log_prob(self.output(z, c), x), kl[:, None]


class FlowPrior(nn.Module):
    r"""A prior p(z) with the density of a flow, for any :class:`~lectool.vae.VAE`.

    .. math:: \mathrm{KL}(q \Vert p) \approx \log q(z \mid x) - \log p(z), \qquad z \sim q(z \mid x)

    Arguments:
        flow: over codes, vectors of k numbers.

    References:
        Chen et al. (2017), Variational lossy autoencoder.
    """

    def __init__(self, flow: Flow):
        super().__init__()
        self.flow = flow

    def log_prob(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        r"""log p(z), shape (…, n)."""
        return self.flow.log_prob(z.flatten(0, -2)).view(z.shape[:-1])

    def sample(
        self, n: int, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Codes, shape (n, k)."""
        return self.flow.sample(n, generator=generator)

    def kl_terms(
        self, q: Posterior, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""One draw of log q − log p, shape (n, 1): it does not split by coordinate."""
        z, log_q = q.sample_with_log_prob(generator=generator)
        return (log_q - self.log_prob(z, c))[:, None]

    def kl(self, q: Posterior, c: Tensor | None = None) -> Tensor:
        r"""The same, shape (n,)."""
        return self.kl_terms(q, c).sum(-1)
