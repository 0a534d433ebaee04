r"""Chapter 11: the variational autoencoder, made of parts that the rest of the family exchanges."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lectool import check
from lectool.nets import Rows, init_he, mlp
from lectool.vae.parts import LIKELIHOODS, POSTERIORS, Likelihood, Posterior, StandardNormal

__all__ = ["VAE"]


class VAE(nn.Module):
    r"""A model :math:`p(x, z) = p(z)\, p(x \mid z)` and an encoder :math:`q(z \mid x)`, trained together.

    .. math:: L(x) = -\mathbb E_{q(z \mid x)}[\log p(x \mid z)] + \beta\, \mathrm{KL}(q(z \mid x) \Vert p(z)),

    at β = 1 minus the evidence lower bound (ELBO). A condition c, where there is one, is laid beside x for
    the encoder and beside z for the decoder: :math:`q(z \mid x, c)` and :math:`p(x \mid z, c)`.

    Arguments:
        encoder: from samples, shape (n, d), to the numbers of the posterior.
        decoder: from codes, shape (…, n, k), to the numbers of the likelihood.
        prior: p(z).
        likelihood: an object of :mod:`~lectool.vae.parts`, or ``"bernoulli"``, ``"gaussian"`` (one learned σ) or
            ``"heteroscedastic"``.
        posterior: a class of :mod:`~lectool.vae.parts`, or ``"diagonal"`` or ``"full"``.
        beta: β ≥ 0.
        warm_up: the number of first updates in training over which β grows linearly from 0; 0 for none. The
            updates done are counted in the buffer ``n_updates``.
        free_nats: the KL of each coordinate, as a mean over the batch, is not pressed below this ("free bits").

    Raises:
        ValueError: if a setting is out of range or unknown; when used, if the data leave the likelihood's range or
            there are fewer than one draws.

    References:
        Kingma & Welling (2014), Auto-encoding variational Bayes; Rezende, Mohamed & Wierstra (2014).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        *,
        likelihood: str | Likelihood = "bernoulli",
        posterior: str | type[Posterior] = "diagonal",
        beta: float = 1.0,
        warm_up: int = 0,
        free_nats: float = 0.0,
    ):
        super().__init__()
        check.non_negative(beta=beta, warm_up=warm_up, free_nats=free_nats)
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.likelihood, self.posterior = _likelihood(likelihood), _posterior(posterior)
        self.beta, self.warm_up, self.free_nats = beta, warm_up, free_nats
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    @classmethod
    def mlp(
        cls,
        sizes: Sequence[int],
        *,
        n_conditions: int = 0,
        activation: Callable[[], nn.Module] = nn.ReLU,
        likelihood: str | Likelihood = "bernoulli",
        posterior: str | type[Posterior] = "diagonal",
        **settings: object,
    ) -> "VAE":
        r"""One with fully connected networks, whose decoder mirrors its encoder.

        Arguments:
            sizes: widths from data to code, such as ``[784, 400, 20]``.
            n_conditions: width of the condition c.
            activation: between the layers.
            likelihood, posterior, settings: of the class.

        Example:
            >>> vae = VAE.mlp([784, 400, 20])
        """
        check.at_least(0, n_conditions=n_conditions)
        check.sizes(sizes)
        likelihood, posterior = _likelihood(likelihood), _posterior(posterior)
        d, *hidden, k = sizes
        down = [d + n_conditions, *hidden, posterior.n_outputs(k)]
        up = [k + n_conditions, *hidden[::-1], likelihood.n_outputs(d)]
        parts = mlp(down, activation), mlp(up, activation), StandardNormal(k)
        return cls(*parts, likelihood=likelihood, posterior=posterior, **settings)

    @classmethod
    def convolutional(
        cls,
        side: int,
        channels: Sequence[int],
        k: int,
        *,
        likelihood: str | Likelihood = "bernoulli",
        posterior: str | type[Posterior] = "diagonal",
        **settings: object,
    ) -> "VAE":
        r"""One for square images: each convolution of the encoder halves the side, each of the decoder doubles it.

        Arguments:
            side: of the images, which come as rows of side² numbers; a multiple of 2 to the number of layers.
            channels: of the encoder's layers; the decoder has them in reverse.
            k: numbers in a code.
            likelihood, posterior, settings: of the class.

        Raises:
            ValueError: if the side cannot be halved so often.

        References:
            Radford, Metz & Chintala (2016), whose generator and discriminator have these layers.

        Example:
            >>> vae = VAE.convolutional(32, [16, 32, 64], 20, likelihood="gaussian")
        """
        check.sizes([k, *channels])
        likelihood, posterior = _likelihood(likelihood), _posterior(posterior)
        small, left = divmod(side, 2 ** len(channels))
        if left or not small:
            raise ValueError(f"side is {side}; expected a multiple of {2 ** len(channels)}")
        inner, n_out = (channels[-1], small, small), likelihood.n_outputs(side**2) // side**2
        down, up = [nn.Unflatten(-1, (1, side, side))], []
        for n_in, n in zip([1, *channels], channels):
            down += [nn.Conv2d(n_in, n, 4, stride=2, padding=1), nn.ReLU()]
        down += [nn.Flatten(), nn.Linear(math.prod(inner), posterior.n_outputs(k))]
        up += [nn.Linear(k, math.prod(inner)), nn.Unflatten(-1, inner)]
        for n_in, n in zip(channels[::-1], [*channels[-2::-1], n_out], strict=True):
            up += [nn.ReLU(), nn.ConvTranspose2d(n_in, n, 4, stride=2, padding=1)]
        up += [nn.Flatten()]
        parts = init_he(nn.Sequential(*down)), init_he(Rows(*up)), StandardNormal(k)
        return cls(*parts, likelihood=likelihood, posterior=posterior, **settings)

    def encode(self, x: Tensor, c: Tensor | None = None) -> Posterior:
        r"""The posterior q(z | x) of each sample, for x of shape (n, d)."""
        self.likelihood.check(x)
        return self.posterior(self.encoder(beside(x, c)))

    def infer(self, x: Tensor, c: Tensor | None = None, q: Posterior | None = None) -> Posterior:
        r"""q, where somebody else has found it for these samples, else the encoder's answer."""
        if q is None:
            return self.encode(x, c)
        self.likelihood.check(x)
        return q

    def output(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        r"""The decoder's numbers a(z), before the likelihood makes a distribution of them."""
        return self.decoder(beside(z, c))

    def decode(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        r"""The mean E[x | z] of each code, shape (…, n, d)."""
        return self.likelihood.mean(self.output(z, c))

    def reconstruct(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        r"""The data decoded from the posterior's mean, shape (n, d)."""
        return self.decode(self.encode(x, c).mean, c)

    def sample(
        self, n: int, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""n draws of x: first z from the prior, then x given z. Noise and all; ``decode`` gives means."""
        a = self.output(self.prior.sample(n, c, generator), c)
        return self.likelihood.sample(a, generator)

    def terms(
        self,
        x: Tensor,
        c: Tensor | None = None,
        generator: torch.Generator | None = None,
        q: Posterior | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""One draw of log p(x | z), shape (n,), and the KL to the prior by coordinate, shape (n, k).

        Here and below, ``q`` takes the place of the encoder's posterior where it is given.
        """
        q = self.infer(x, c, q)
        z = q.sample(generator=generator)
        return self.likelihood.log_prob(self.output(z, c), x), self.prior.kl_terms(q, c, generator)

    def log_weights(
        self,
        x: Tensor,
        k: int,
        c: Tensor | None = None,
        generator: torch.Generator | None = None,
        q: Posterior | None = None,
    ) -> Tensor:
        r""":math:`\log p(x, z_i) - \log q(z_i \mid x)` for k draws :math:`z_i \sim q(z \mid x)`, shape (k, n)."""
        q = self.infer(x, c, q)
        check.at_least(1, k=k)
        z, log_q = q.sample_with_log_prob(k, generator)
        log_joint = self.likelihood.log_prob(self.output(z, c), x) + self.prior.log_prob(z, c)
        return log_joint - log_q

    def elbo(
        self,
        x: Tensor,
        k: int = 1,
        c: Tensor | None = None,
        generator: torch.Generator | None = None,
        q: Posterior | None = None,
    ) -> Tensor:
        r"""A lower bound of log p(x) in nats from k draws, shape (n,), whose mean grows with k.

        .. math:: L_k(x) = \log \tfrac1k \sum_{i=1}^k \frac{p(x, z_i)}{q(z_i \mid x)}, \qquad z_i \sim q(z \mid x)

        For k = 1 the part of it that has a closed form, the KL, is not sampled.

        References:
            Burda, Grosse & Salakhutdinov (2016), Importance weighted autoencoders.
        """
        check.at_least(1, k=k)
        if k == 1:
            log_likelihood, kl = self.terms(x, c, generator, q)
            return log_likelihood - kl.sum(-1)
        return self.log_weights(x, k, c, generator, q).logsumexp(0) - math.log(k)

    @torch.no_grad()
    def log_prob(
        self,
        x: Tensor,
        k: int = 500,
        c: Tensor | None = None,
        generator: torch.Generator | None = None,
        q: Posterior | None = None,
        chunk: int = 50,
    ) -> Tensor:
        r"""log p(x) by importance sampling with k draws from the encoder, shape (n,): ``elbo`` for large k.

        Its mean is too small by an error that falls as k grows. Draws are taken ``chunk`` at a time.
        """
        check.at_least(1, k=k, chunk=chunk)
        sizes = [min(chunk, k - done) for done in range(0, k, chunk)]
        parts = [self.log_weights(x, size, c, generator, q).logsumexp(0) for size in sizes]
        return torch.stack(parts).logsumexp(0) - math.log(k)

    def loss(
        self,
        x: Tensor,
        c: Tensor | None = None,
        generator: torch.Generator | None = None,
        q: Posterior | None = None,
    ) -> dict[str, Tensor]:
        r"""The terms ``loss`` = ``reconstruction`` + β ``kl`` in nats, means over the batch, from one draw."""
        log_likelihood, kl = self.terms(x, c, generator, q)
        reconstruction, kl = -log_likelihood.mean(), kl.mean(0)
        loss = reconstruction + self.price(kl)
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl.sum()}

    def price(self, kl: Tensor) -> Tensor:
        r"""What a code costs whose coordinates have these KLs, shape (k,): β times their sum.

        Less during the warm-up; a coordinate is charged for at least its free nats.
        """
        free = kl.clamp(min=self.free_nats) if self.free_nats else kl
        return self.weight() * free.sum()

    def weight(self) -> float:
        r"""β, or during the warm-up its share for the updates done; counts the calls in training mode."""
        if not (self.training and self.warm_up):
            return self.beta
        self.n_updates += 1
        return self.beta * min(1.0, self.n_updates.item() / self.warm_up)


def beside(v: Tensor, c: Tensor | None) -> Tensor:
    r"""v with the condition laid beside it, where there is one."""
    return v if c is None else torch.cat([v, c.expand(*v.shape[:-1], -1)], -1)


def _likelihood(part: str | Likelihood) -> Likelihood:
    if isinstance(part, Likelihood):
        return part
    check.one_of(LIKELIHOODS, likelihood=part)
    return LIKELIHOODS[part]()


def _posterior(part: str | type[Posterior]) -> type[Posterior]:
    if isinstance(part, type) and issubclass(part, Posterior):
        return part
    check.one_of(POSTERIORS, posterior=part)
    return POSTERIORS[part]
