r"""Chapter 11: posteriors without an encoder, gradients of the ELBO, the mixture of all posteriors."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool import check, random
from lectool.vae.parts import Posterior
from lectool.vae.plain import VAE

__all__ = ["AggregatePosterior", "NonAmortized", "elbo_gradients", "refine"]

ESTIMATORS = ("pathwise", "score", "score with baseline")


class NonAmortized(nn.Module):
    r"""Trains a VAE's decoder without its encoder: each training sample has posterior numbers of its own.

    Arguments:
        model: its decoder is trained; its encoder is left as it is.
        n: the number of training samples; the table of their posteriors grows with it.
        lr_factor: by how many times the step size a row moves, > 0. Adam moves each number by about one step an
            update; a weight is moved by each batch, a row once an epoch.

    Raises:
        ValueError: if ``n`` or ``lr_factor`` is out of range.

    Example:
        >>> table = NonAmortized(VAE.mlp([784, 400, 20]), 1000)
        >>> history = train.fit(table, [x, torch.arange(1000)])  # doctest: +SKIP
    """

    def __init__(self, model: VAE, n: int, *, lr_factor: float = 20.0):
        super().__init__()
        check.at_least(1, n=n)
        check.positive(lr_factor=lr_factor)
        self.model, self.lr_factor = model, lr_factor
        self.table = nn.Parameter(torch.zeros(n, model.posterior.n_outputs(model.prior.k)))

    def posterior(self, rows: Tensor | slice) -> Posterior:
        r"""The posteriors of some of the training samples, by their numbers."""
        return self.model.posterior(self.table[rows])

    def loss(
        self, x: Tensor, rows: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        r"""The VAE's loss of samples x, shape (m, d), that are the training set's ``rows``, shape (m,)."""
        return self.model.loss(x, generator=generator, q=self.posterior(rows))


def refine(
    model: VAE,
    x: Tensor,
    *,
    steps: int = 200,
    lr: float = 0.05,
    posterior: type[Posterior] | None = None,
    n_draws: int = 4,
    c: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Posterior:
    r"""The best posterior of each sample by itself, at the decoder as it is.

    Maximizes the ELBO over the numbers of each :math:`q_i(z)` by Adam with a falling step size, from the
    encoder's answer where the family is the encoder's own, else from that answer's means and variances.

    Arguments:
        x: shape (n, d).
        steps: updates, ≥ 1.
        lr: step size at the start, > 0.
        posterior: the family; the model's own where ``None``.
        n_draws: draws a sample and update, ≥ 1.
        c: the condition.
        generator: of the draws.

    Returns:
        a posterior of n samples, to be handed to ``model.elbo(x, q=…)``.

    Raises:
        ValueError: if a number is out of range, or the data leave the likelihood's.

    References:
        Cremer, Li & Duvenaud (2018), Inference suboptimality in variational autoencoders: what is lost between
        this and the encoder is the amortization gap, what is lost between log p(x) and this the gap of the family.
    """
    check.at_least(1, steps=steps, n_draws=n_draws)
    check.positive(lr=lr)
    family = model.posterior if posterior is None else posterior
    with torch.no_grad():
        q = model.encode(x, c)
        a = (q if family is model.posterior else family.like(q)).numbers
    a = a.clone().requires_grad_()
    # a short memory: the first slopes are steep
    opt = torch.optim.Adam([a], lr=lr, betas=(0.9, 0.95))
    for step in range(steps):
        opt.param_groups[0]["lr"] = lr * (1 - step / steps)
        with torch.enable_grad():
            q = family(a)
            z = q.sample(n_draws, generator)
            fit = model.likelihood.log_prob(model.output(z, c), x).mean(0)
            (a.grad,) = torch.autograd.grad((model.prior.kl(q, c) - fit).sum(), a)
        opt.step()
    return family(a.detach())


def elbo_gradients(
    log_joint: Callable[[Tensor], Tensor],
    posterior: type[Posterior],
    a: Tensor,
    n: int,
    estimator: str = "pathwise",
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""n unbiased estimates of the ELBO's gradient in the numbers of one posterior, from one draw each.

    With :math:`f(z) = \log p(x, z) - \log q_a(z)` the ELBO is :math:`\mathbb E_{q_a}[f(z)]`, and

    .. math:: \nabla_a \mathbb E[f] = \mathbb E_{\epsilon}\bigl[\nabla_a f(z_a(\epsilon))\bigr]
        = \mathbb E_{q_a}\bigl[(f(z) - b)\, \nabla_a \log q_a(z)\bigr] .

    Arguments:
        log_joint: :math:`\log p(x, z)` of codes, from (n, k) to (n,).
        posterior: the family of q.
        a: its numbers, shape (1, ``n_outputs(k)``).
        n: number of estimates, at least 2.
        estimator: ``"pathwise"`` (the reparameterized draw is differentiated), ``"score"`` (b = 0), or
            ``"score with baseline"`` (b is the mean of f over the other draws).
        generator: of the draws.

    Returns:
        shape (n, ``n_outputs(k)``).

    Raises:
        ValueError: if the estimator is unknown or there are fewer than two draws.
    """
    check.one_of(ESTIMATORS, estimator=estimator)
    check.at_least(2, n=n)
    # one copy a draw: one gradient a draw
    rows = a.detach().expand(n, -1).clone().requires_grad_()
    q = posterior(rows)
    z = q.sample(generator=generator)
    if estimator == "pathwise":
        target = log_joint(z) - q.log_prob(z)
    else:
        z = z.detach()
        log_q = q.log_prob(z)
        f = (log_joint(z) - log_q).detach()
        if estimator == "score with baseline":
            f = f - (f.sum() - f) / (n - 1)
        target = f * log_q
    return torch.autograd.grad(target.sum(), rows)[0]


class AggregatePosterior:
    r"""The mixture :math:`\bar q(z) = \tfrac1n \sum_{i=1}^n q(z \mid x_i)` of the posteriors of n samples.

    Arguments:
        q: the posteriors.

    References:
        Hoffman & Johnson (2016), ELBO surgery: yet another way to carve up the variational evidence lower bound.
    """

    def __init__(self, q: Posterior):
        self.q, self.n = q, len(q.mean)

    def log_prob(self, z: Tensor, chunk: int = 256) -> Tensor:
        r""":math:`\log \bar q(z)`, shape (m,), of codes, shape (m, k)."""
        parts = [self.q.log_prob(some[:, None]).logsumexp(1) for some in z.split(chunk)]
        return torch.cat(parts) - math.log(self.n)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Codes, shape (n, k): a sample is picked, then a draw of its posterior is taken."""
        rows = random.integers(self.n, n, self.q.mean.device, generator)
        return self.q[rows].sample(generator=generator)

    def kl_to(
        self, prior: nn.Module, generator: torch.Generator | None = None
    ) -> tuple[float, float]:
        r""":math:`\mathrm{KL}(\bar q \Vert p)` and the index information I, in nats, from a draw of each posterior.

        .. math:: \tfrac1n \sum_i \mathrm{KL}(q_i \Vert p) = \mathrm{KL}(\bar q \Vert p) + I, \qquad
            I = \tfrac1n \sum_i \mathrm{KL}(q_i \Vert \bar q), \qquad 0 \le I \le \log n

        I says how much a code tells about which sample it came from. No draw of its estimate exceeds log n.
        """
        z = self.q.sample(generator=generator)
        information = (self.q.log_prob(z) - self.log_prob(z)).mean()
        return (prior.kl(self.q).mean() - information).item(), information.item()
