r"""Chapter 12: the VAE's relatives, each by the lines in which it differs from :class:`~lectool.vae.plain.VAE`.

A β-VAE needs no class of its own, it is ``VAE(…, beta=4)``, unless its β is to be found.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check
from lectool.metrics import squared_mmd
from lectool.nets import mlp
from lectool.vae.parts import DiagonalGaussian, Likelihood, Posterior, residual_kl
from lectool.vae.plain import VAE

__all__ = [
    "IWAE",
    "WAE",
    "ConditionalNormal",
    "ConditionalVAE",
    "ConstrainedVAE",
    "CriticPenalty",
    "MMDPenalty",
    "Point",
    "effective_samples",
    "normalized_weights",
]


# ------------------------------------------------------------------------------------------------ IWAE


class IWAE(VAE):
    r"""A VAE that is trained by the bound from k draws,

    .. math:: L_k(x) = E\left[\log \tfrac1k \sum_{i=1}^k w_i\right], \quad w_i = \frac{p(x, z_i)}{q(z_i \mid x)},
        \quad z_i \sim q(z \mid x).

    Arguments:
        k: draws an image, ≥ 1; :math:`L_1` is the ELBO.
        encoder, decoder, prior, likelihood, posterior: as for :class:`~lectool.vae.plain.VAE`. A bound from several
            draws does not split into reconstruction and KL: there is no β, no warm-up and no free bits.

    Raises:
        ValueError: if k < 1.

    References:
        Burda, Grosse & Salakhutdinov (2016), Importance weighted autoencoders.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        *,
        k: int = 5,
        likelihood: str | Likelihood = "bernoulli",
        posterior: str | type[Posterior] = "diagonal",
    ):
        check.at_least(1, k=k)
        super().__init__(encoder, decoder, prior, likelihood=likelihood, posterior=posterior)
        self.k = k

    def loss(
        self, x: Tensor, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Minus :math:`L_k`, mean over the batch, in nats."""
        log_w = self.log_weights(x, self.k, c, generator)
        return math.log(self.k) - log_w.logsumexp(0).mean()


def normalized_weights(log_w: Tensor) -> Tensor:
    r"""The shares :math:`\tilde w_i = w_i / \sum_j w_j` of k draws, shape (k, n), from their log-weights.

    They are what each draw counts in the gradient: :math:`\nabla L_k = E[\sum_i \tilde w_i \nabla \log w_i]`.
    """
    return log_w.softmax(0)


def effective_samples(log_w: Tensor) -> Tensor:
    r"""How many of k draws carry the estimate, :math:`1 / \sum_i \tilde w_i^2`, between 1 and k, shape (n,)."""
    return 1 / normalized_weights(log_w).square().sum(0)


# ----------------------------------------------------------------------------------------- conditional


class ConditionalNormal(nn.Module):
    r"""A prior that knows the condition: :math:`p(z \mid c) = N(m(c), \operatorname{diag} s^2(c))`, linear in c.

    It starts as N(0, I).

    Arguments:
        n_conditions: width of c, ≥ 1.
        k: dimension of the code, ≥ 1.

    Raises:
        ValueError: if a size is below 1.
    """

    def __init__(self, n_conditions: int, k: int):
        super().__init__()
        check.at_least(1, n_conditions=n_conditions, k=k)
        self.k = k
        self.numbers = nn.Linear(n_conditions, 2 * k)
        nn.init.zeros_(self.numbers.weight)
        nn.init.zeros_(self.numbers.bias)

    def given(self, c: Tensor) -> DiagonalGaussian:
        r"""p(z | c), one for each row of c."""
        return DiagonalGaussian(self.numbers(c))

    def log_prob(self, z: Tensor, c: Tensor) -> Tensor:
        r"""log p(z | c), shape (…, n)."""
        return self.given(c).log_prob(z)

    def sample(self, n: int, c: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""Codes, shape (n, k), one for each row of c."""
        return self.given(c.expand(n, -1)).sample(generator=generator)

    def kl_terms(self, q: Posterior, c: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r""":math:`\mathrm{KL}(q \Vert p)` by coordinate, in nats, shape (n, k), for a diagonal q."""
        p = self.given(c)
        return residual_kl(q.mean - p.mean, q.log_scale - p.log_scale, p.log_scale)


class ConditionalVAE(VAE):
    r"""A VAE in which everything is given c; it maximizes a bound of log p(x | c),

    .. math:: E_{q(z \mid x, c)}[\log p(x \mid z, c)] - \mathrm{KL}(q(z \mid x, c) \,\Vert\, p(z \mid c)).

    Make one with ``ConditionalVAE.mlp(sizes, n_conditions=…)``; ``loss(x, c)`` takes c as rows of numbers, a
    class as one-hot.

    Arguments:
        blind: whether the encoder is not shown c: q(z | x), as one also finds it. Still a bound, a looser
            one wherever x alone does not give away c. For comparison only.
        encoder, decoder, prior, settings: as for :class:`~lectool.vae.plain.VAE`.

    Raises:
        ValueError: if c is missing or has another length than x.

    References:
        Sohn, Lee & Yan (2015), Learning structured output representation using deep conditional generative models.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        *,
        blind: bool = False,
        **settings,
    ):
        super().__init__(encoder, decoder, prior, **settings)
        self.blind = blind

    def encode(self, x: Tensor, c: Tensor | None = None) -> Posterior:
        r"""The posterior q(z | x, c)."""
        if c is None:
            raise ValueError(f"c is None; expected one row for each of {len(x)} samples")
        check.lengths(x=x, c=c)
        return super().encode(x, torch.zeros_like(c) if self.blind else c)

    def output(self, z: Tensor, c: Tensor | None = None) -> Tensor:
        r"""The decoder's numbers a(z, c)."""
        if c is None:
            raise ValueError("c is None; expected one row for each code")
        return super().output(z, c)


# ----------------------------------------------------------------------------------------- constrained


class ConstrainedVAE(VAE):
    r"""A β-VAE that is told how much its code may say, and finds the β for it.

    .. math:: \max_{\theta, \varphi} E_q[\log p(x \mid z)] \quad \text{subject to} \quad
        \mathrm{KL}(q(z \mid x) \Vert p(z)) \le C

    has the Lagrangian :math:`E_q[\log p(x \mid z)] - \beta (\mathrm{KL} - C)`. The networks climb it at the present β
    ≥ 0, and after each batch β rises where the code says more than C, and falls where it says less:

    .. math:: \log \beta \leftarrow \log \beta + \eta\, (\mathrm{KL} - C) / C

    Arguments:
        capacity: C > 0, in nats a sample, as a mean over the batch.
        rate: η > 0; a code that says twice C multiplies β by :math:`e^\eta` in an update.
        encoder, decoder, prior, likelihood, posterior: as for :class:`~lectool.vae.plain.VAE`.

    Raises:
        ValueError: if C or η is not positive.

    References:
        Higgins et al. (2017), beta-VAE, equations 2 to 4; Rezende & Viola (2018), Taming VAEs, for the updates.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        *,
        capacity: float,
        rate: float = 0.02,
        likelihood: str | Likelihood = "bernoulli",
        posterior: str | type[Posterior] = "diagonal",
    ):
        check.positive(capacity=capacity, rate=rate)
        super().__init__(encoder, decoder, prior, likelihood=likelihood, posterior=posterior)
        self.capacity, self.rate = capacity, rate
        self.register_buffer("log_beta", torch.zeros(()))

    def loss(
        self, x: Tensor, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        r"""The terms ``loss`` = ``reconstruction`` + β ``kl`` in nats, and ``beta``; moves β in training mode."""
        log_likelihood, kl = self.terms(x, c, generator)
        reconstruction, kl = -log_likelihood.mean(), kl.sum(-1).mean()
        beta = self.log_beta.exp()
        if self.training:
            self.log_beta += self.rate * (kl.detach() / self.capacity - 1)
        loss = reconstruction + beta * kl
        return {"loss": loss, "reconstruction": reconstruction, "kl": kl, "beta": beta}


# ------------------------------------------------------------------------------------------------- WAE


class Point(Posterior):
    r"""A code without noise, as a posterior: all of q(z | x) at one place. It has no density.

    Raises:
        ValueError: if it is asked for one, by ``log_prob``, ``log_scale`` or a model's bound.
    """

    def __init__(self, a: Tensor):
        self.numbers = self.mean = a

    @staticmethod
    def n_outputs(k: int) -> int:
        return k

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.mean)

    @property
    def log_scale(self) -> Tensor:
        return self.log_prob(self.mean)

    def sample(self, k: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        return self.mean if k is None else self.mean.expand(k, *self.mean.shape)

    def log_prob(self, z: Tensor) -> Tensor:
        raise ValueError("a code without noise has no density, and its model no bound on log p(x)")


class MMDPenalty(nn.Module):
    r"""The squared maximum mean discrepancy between a batch of codes and draws from the prior.

    The kernel is the inverse multiquadric :math:`s / (s + \lVert a - b \rVert^2)`, summed over several s
    around :math:`2k`, the mean squared distance of two draws from N(0, I): its heavy tails still pull on codes
    that lie far out.
    """

    def forward(self, z: Tensor, z_prior: Tensor) -> tuple[Tensor, Tensor]:
        r"""The penalty on the encoder, and 0: nothing else is to be trained."""
        widths = [(2 * z.shape[1] * s) ** 0.5 for s in (0.1, 0.5, 1.0, 2.0, 10.0)]
        return squared_mmd(z, z_prior, kernel="imq", widths=widths), z.new_zeros(())


class CriticPenalty(nn.Module):
    r"""A critic T that tells codes from draws of the prior; the encoder is to mislead it.

    The critic descends :math:`-\log \sigma(T(z_p)) - \log(1 - \sigma(T(z)))`, the encoder :math:`-\log \sigma(T(z))`.
    At the critic's optimum T is the log-ratio of the prior's and the codes' densities.

    Arguments:
        k: dimension of the code.
        width: units in each of the critic's two hidden layers.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(self, k: int, width: int = 64):
        super().__init__()
        self.critic = mlp([k, width, width, 1])

    def forward(self, z: Tensor, z_prior: Tensor) -> tuple[Tensor, Tensor]:
        r"""The penalty, whose gradient reaches only the codes, and the critic's cost, which reaches only T."""
        frozen = {name: p.detach() for name, p in self.critic.named_parameters()}
        misled = F.softplus(-torch.func.functional_call(self.critic, frozen, (z,)))
        wrong = F.softplus(-self.critic(z_prior)), F.softplus(self.critic(z.detach()))
        return misled.mean(), wrong[0].mean() + wrong[1].mean()


class WAE(VAE):
    r"""A Wasserstein autoencoder: reconstruction, and the *aggregate* posterior pulled to the prior.

    .. math:: L = E_x E_{q(z \mid x)}[-\log p(x \mid z)] + \lambda\, D\Bigl(E_x[q(z \mid x)],\, p(z)\Bigr)

    The VAE pulls every single :math:`q(z \mid x)` to the prior; here their mixture is enough, so that codes can be
    certain and still fill the prior together. It has no bound on log p(x).

    Arguments:
        penalty: the divergence D from draws: ``forward(z, z_prior)`` returns the penalty on the encoder and a
            cost of its own parameters; an :class:`MMDPenalty` or a :class:`CriticPenalty`.
        lam: λ ≥ 0; at 0 a plain autoencoder.
        encoder, decoder, prior, likelihood: as for :class:`~lectool.vae.plain.VAE`; λ takes the place of β.
        posterior: :class:`Point` (no noise) or a family of its :mod:`~lectool.vae.parts`.

    Raises:
        ValueError: if λ < 0.

    References:
        Tolstikhin, Bousquet, Gelly & Schölkopf (2018), Wasserstein auto-encoders, algorithms 1 and 2.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        prior: nn.Module,
        *,
        penalty: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        lam: float = 10.0,
        likelihood: str | Likelihood = "bernoulli",
        posterior: str | type[Posterior] = Point,
    ):
        check.non_negative(lam=lam)
        super().__init__(encoder, decoder, prior, likelihood=likelihood, posterior=posterior)
        self.penalty, self.lam = penalty, lam

    @classmethod
    def mlp(
        cls, sizes: Sequence[int], *, posterior: str | type[Posterior] = Point, **settings: object
    ) -> "WAE":
        r"""One with fully connected networks, as :meth:`VAE.mlp` makes it."""
        return super().mlp(sizes, posterior=posterior, **settings)

    def loss(
        self, x: Tensor, c: Tensor | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        r"""The terms ``loss``, ``reconstruction`` (nats), ``penalty`` and ``critic``, means over the batch."""
        z = self.encode(x, c).sample(generator=generator)
        z_prior = self.prior.sample(len(z), c, generator)
        fit = -self.likelihood.log_prob(self.output(z, c), x).mean()
        penalty, critic = self.penalty(z, z_prior)
        loss = fit + self.lam * penalty + critic
        return {"loss": loss, "reconstruction": fit, "penalty": penalty, "critic": critic}
