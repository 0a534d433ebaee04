r"""Chapter 12: discrete codes. Categorical latents by three gradient estimators."""

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, random
from lectool.nets import bernoulli_cross_entropy

__all__ = ["DiscreteVAE", "gumbel", "gumbel_softmax", "reinforce"]

ESTIMATORS = ("gumbel", "straight-through", "reinforce", "exact")
BASELINES = (None, "mean", "others")


def gumbel(shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Gumbel noise :math:`g = -\log(-\log u)` with u uniform on (0, 1).

    :math:`\arg\max_j (\log q_j + g_j)` is a draw from the categorical distribution q, which need not be normalized.

    Arguments:
        shape: of the result.
        like: a tensor whose device and type the result takes.
        generator: of the uniform numbers, on any device; torch's global one where ``None``.
    """
    tiny = torch.finfo(like.dtype).tiny
    u = random.uniform(shape, like, generator).clamp(min=tiny)
    return -(-u.log()).clamp(min=tiny).log()


def gumbel_softmax(
    log_q: Tensor, tau: float, *, hard: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    r"""A relaxed draw from a categorical distribution, differentiable in its log-probabilities.

    With Gumbel noise g, :math:`\arg\max_j (\log q_j + g_j)` is an exact draw. The softmax at temperature τ replaces
    the arg max:

    .. math:: z_j = \frac{\exp((\log q_j + g_j) / \tau)}{\sum_i \exp((\log q_i + g_i) / \tau)}

    Arguments:
        log_q: log-probabilities, normalized over the last axis, shape (…, K).
        tau: temperature τ > 0; towards 0 draws become one-hot and their gradients wild.
        hard: whether to return the one-hot arg max and keep the relaxed draw's gradient (straight-through).
        generator: of the uniform numbers; torch's global one where ``None``.

    Returns:
        weights that sum to 1 over the last axis, shape (…, K).

    Raises:
        ValueError: if τ is not positive.

    References:
        Jang, Gu & Poole (2017), Categorical reparameterization with Gumbel-softmax; Maddison, Mnih & Teh (2017).
    """
    check.positive(tau=tau)
    z = ((log_q + gumbel(log_q.shape, log_q, generator)) / tau).softmax(-1)
    if hard:
        z = F.one_hot(z.argmax(-1), z.shape[-1]).to(z) + z - z.detach()
    return z


def reinforce(cost: Tensor, log_q_z: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    r"""A term of value 0 whose gradient is the score-function estimate of :math:`\nabla E_q[c(z)]`.

    .. math:: \nabla_\varphi E_q[c(z)] = E_q[(c(z) - b)\, \nabla_\varphi \log q_\varphi(z)]

    holds for every b that does not depend on z, since :math:`E_q[\nabla \log q] = 0`.

    Arguments:
        cost: c(z) at drawn z, any shape; no gradient flows through it.
        log_q_z: :math:`\log q_\varphi(z)` at the same z, same shape.
        baseline: b, a number or a tensor that broadcasts; no gradient flows through it.

    References:
        Williams (1992), Simple statistical gradient-following algorithms.
    """
    b = baseline.detach() if isinstance(baseline, Tensor) else baseline
    score = (cost.detach() - b) * log_q_z
    return score - score.detach()


class DiscreteVAE(nn.Module):
    r"""A VAE whose code is m categorical variables with K categories each.

    .. math:: -L(x) = E_{q(z \mid x)}[-\log p(x \mid z)] + \mathrm{KL}(q(z \mid x) \,\Vert\, p(z)),
        \qquad p(z) = K^{-m}

    The KL is a finite sum, here and in its gradient. The expectation has no pathwise gradient: ``estimator``
    says what takes its place.

    Arguments:
        encoder: from data, shape (n, d), to logits, shape (n, m · K).
        decoder: from one-hot codes, shape (n, m · K), to Bernoulli logits, shape (n, d).
        n_latents: m ≥ 1.
        n_categories: K ≥ 2.
        estimator: ``"gumbel"`` (relaxed draws), ``"straight-through"`` (one-hot draws with the relaxed
            draw's gradient), ``"reinforce"`` (score function) or ``"exact"`` (all :math:`K^m` codes).
        baseline: for ``"reinforce"``: ``None``; ``"mean"``, the running mean of the cost over past batches; or
            ``"others"``, the mean cost of the same image's other draws. All three are unbiased.
        n_draws: draws an image; at least 2 for ``"others"``; 1 for ``"exact"``, which draws none.
        tau: temperature of the relaxed draws, 1 where ``None``. It can be changed between updates, is kept in the
            buffer ``temperature``, and goes on from there after a checkpoint.

    Raises:
        ValueError: if a size, an estimator or a baseline is out of range, or if the estimator has no use for a
            setting that is given; for data outside [0, 1].

    References:
        Mnih & Gregor (2014), Neural variational inference and learning in belief networks, for the baseline.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        n_latents: int,
        n_categories: int,
        *,
        estimator: str = "gumbel",
        baseline: str | None = None,
        n_draws: int = 1,
        tau: float | None = None,
    ):
        super().__init__()
        check.at_least(1, n_latents=n_latents)
        check.at_least(2, n_categories=n_categories)
        check.one_of(ESTIMATORS, estimator=estimator)
        check.one_of(BASELINES, baseline=baseline)
        check.at_least(2 if baseline == "others" else 1, n_draws=n_draws)
        _check_used(estimator, baseline, n_draws, tau)
        self.encoder, self.decoder = encoder, decoder
        self.m, self.K = n_latents, n_categories
        self.estimator, self.baseline, self.n_draws = estimator, baseline, n_draws
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("mean_cost", torch.zeros(()))
        self.register_buffer("n_batches", torch.zeros(()))
        self.tau = 1.0 if tau is None else tau

    @property
    def tau(self) -> float:
        r"""The temperature of the relaxed draws."""
        return self.temperature.item()

    @tau.setter
    def tau(self, tau: float) -> None:
        check.positive(tau=tau)
        self.temperature.fill_(tau)

    def encode(self, x: Tensor) -> Tensor:
        r"""The log-probabilities :math:`\log q(z_i = j \mid x)`, shape (n, m, K)."""
        check.data(x, low=0.0, high=1.0)
        return self.encoder(x).reshape(len(x), self.m, self.K).log_softmax(2)

    def decode(self, z: Tensor) -> Tensor:
        r"""Pixel probabilities, shape (n, d), of codes, shape (n, m, K)."""
        return torch.sigmoid(self.decoder(z.flatten(-2)))

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""Decodes each variable's likeliest category."""
        return self.decode(self.one_hot(self.encode(x).argmax(2)))

    def one_hot(self, indices: Tensor) -> Tensor:
        r"""Categories, shape (…, m), as one-hot codes, shape (…, m, K)."""
        return F.one_hot(indices, self.K).to(next(self.decoder.parameters()))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Pixel probabilities of n codes from the uniform prior, shape (n, d)."""
        indices = random.integers(self.K, (n, self.m), self.temperature.device, generator)
        return self.decode(self.one_hot(indices))

    def cost(self, x: Tensor, z: Tensor) -> Tensor:
        r""":math:`-\log p(x \mid z)` in nats; x of shape (n, d), z of shape (…, n, m, K), result (…, n)."""
        check.data(x, low=0.0, high=1.0)
        return bernoulli_cross_entropy(self.decoder(z.flatten(-2)), x)

    def kl(self, log_q: Tensor) -> Tensor:
        r""":math:`\mathrm{KL}(q \Vert p) = \sum_i (\log K - H(q_i))` in nats, one number an image, shape (n,)."""
        return (log_q.exp() * (log_q + math.log(self.K))).sum((1, 2))

    def codes(self) -> Tensor:
        r"""All :math:`K^m` codes, one-hot, shape (K^m, m, K)."""
        if self.K**self.m > 4096:
            raise ValueError(f"there are {self.K}^{self.m} codes; at most 4096 can be enumerated")
        rows = list(itertools.product(range(self.K), repeat=self.m))
        return self.one_hot(torch.tensor(rows, device=self.temperature.device))

    def expected_cost(self, x: Tensor, log_q: Tensor) -> Tensor:
        r""":math:`E_q[-\log p(x \mid z)]` as a sum over all codes, shape (n,)."""
        z = self.codes()
        log_q_z = torch.einsum("nik,cik->cn", log_q, z)
        costs = self.cost(x, z[:, None].expand(-1, len(x), -1, -1))
        return (log_q_z.exp() * costs).sum(0)

    def draw(
        self, log_q: Tensor, n_draws: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""One-hot draws from q, shape (n_draws, n, m, K); as many as in training where ``None``."""
        n_draws = self.n_draws if n_draws is None else n_draws
        log_q = log_q.detach().expand(n_draws, -1, -1, -1)
        return self.one_hot((log_q + gumbel(log_q.shape, log_q, generator)).argmax(-1))

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        r"""The terms ``loss``, ``reconstruction`` and ``kl`` in nats, means over the batch.

        For ``"reinforce"`` and ``"exact"`` the gradient of ``loss`` is an unbiased estimate of the bound's.
        """
        log_q = self.encode(x)
        kl, score = self.kl(log_q).mean(), 0.0
        if self.estimator == "exact":
            cost = self.expected_cost(x, log_q)
        elif self.estimator == "reinforce":
            z = self.draw(log_q, generator=generator)
            cost = self.cost(x, z)
            score = reinforce(cost, (z * log_q).sum((2, 3)), self.usual(cost.detach())).mean()
        else:
            many, hard = log_q.expand(self.n_draws, -1, -1, -1), self.estimator != "gumbel"
            cost = self.cost(x, gumbel_softmax(many, self.tau, hard=hard, generator=generator))
        return {"loss": cost.mean() + kl + score, "reconstruction": cost.mean(), "kl": kl}

    def usual(self, cost: Tensor) -> Tensor | float:
        r"""The baseline of costs, shape (n_draws, n): what was to be expected without looking at the draw.

        The running mean is one of earlier batches only, and so independent of these draws; in training mode it
        then takes these in.
        """
        if self.baseline == "others":
            return (cost.sum(0) - cost) / (self.n_draws - 1)
        if self.baseline == "mean":
            past = self.mean_cost.clone()
            if self.training:
                self.n_batches += 1
                self.mean_cost += (cost.mean() - past) / self.n_batches.clamp(max=20)
            return past
        return 0.0

    @torch.no_grad()
    def elbo(
        self, x: Tensor, n_draws: int = 10, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""The bound with exact draws (never relaxed ones), in nats, one number an image, shape (n,)."""
        check.at_least(1, n_draws=n_draws)
        log_q = self.encode(x)
        return -self.cost(x, self.draw(log_q, n_draws, generator)).mean(0) - self.kl(log_q)


def _check_used(estimator: str, baseline: str | None, n_draws: int, tau: float | None) -> None:
    relaxed = estimator in ("gumbel", "straight-through")
    for name, value, used in (
        ("baseline", baseline, baseline is None or estimator == "reinforce"),
        ("n_draws", n_draws, n_draws == 1 or estimator != "exact"),
        ("tau", tau, tau is None or relaxed),
    ):
        if not used:
            raise ValueError(
                f"{name} is {value!r}, and the estimator {estimator!r} has no use for it"
            )
