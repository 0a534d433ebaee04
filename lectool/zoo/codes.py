r"""Chapter 15: a code that the picture must give away (InfoGAN), and the bound of mutual information behind it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, softplus

from lectool import check
from lectool.gan import Game, Objective, draw_latent, two_player
from lectool.random import integers, uniform

__all__ = [
    "CodeDiscriminator",
    "Codes",
    "guide",
    "infogan",
    "matched",
    "mutual_information",
    "variational_bound",
]


# ------------------------------------------------------------------------------------------------- the codes


class Codes:
    r"""What is drawn besides the noise: a class out of K, and some numbers between −1 and 1.

    A code c is one vector of ``width`` numbers: the class one-hot, then the numbers. What a network says of it,
    :math:`Q(c \mid x)`, are ``n_outputs`` numbers: K logits, then a mean and a raw scale for each number, of which
    softplus makes the part of its standard deviation above ``least_sd``.

    Arguments:
        n_categories: K ≥ 2.
        n_continuous: how many numbers, ≥ 0.
        least_sd: smallest standard deviation that Q may claim, > 0. Without it a generator could earn more and more by
            writing one number into the picture ever more exactly.

    Attributes:
        entropy: H(c) in nats, log K for the class and log 2 for each number (the differential entropy of its
            uniform density).
    """

    def __init__(
        self, n_categories: int = 10, n_continuous: int = 2, least_sd: float = 0.1
    ) -> None:
        check.at_least(2, n_categories=n_categories)
        check.at_least(0, n_continuous=n_continuous)
        check.positive(least_sd=least_sd)
        self.n_categories, self.n_continuous, self.least_sd = n_categories, n_continuous, least_sd
        self.width = n_categories + n_continuous
        self.n_outputs = n_categories + 2 * n_continuous
        self.entropy = math.log(n_categories) + n_continuous * math.log(2)

    def draw(
        self, n: int, *, like: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Codes, shape (n, width), on the device and in the type of ``like``."""
        numbers = 2 * uniform((n, self.n_continuous), like, generator) - 1
        classes = integers(self.n_categories, n, numbers.device, generator)
        return self.join(classes, numbers)

    def join(self, classes: Tensor, numbers: Tensor | None = None) -> Tensor:
        r"""Codes of given classes (n,) and numbers (n, n_continuous), 0 where ``None``."""
        if numbers is None:
            numbers = torch.zeros(len(classes), self.n_continuous, device=classes.device)
        return torch.cat([one_hot(classes, self.n_categories).to(numbers), numbers], 1)

    def log_likelihood(self, outputs: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        r"""log Q(c | x) of the class and of the numbers, shapes (n,) and (n,).

        Arguments:
            outputs: of the network that looks at x, shape (n, n_outputs).
            c: the codes, shape (n, width).

        Raises:
            ValueError: if a shape does not fit.
        """
        check.shape(len(c), self.n_outputs, outputs=outputs)
        check.shape(len(c), self.width, c=c)
        sizes = [self.n_categories, self.n_continuous, self.n_continuous]
        logits, mean, scale = outputs.split(sizes, 1)
        classes, numbers = c.split(sizes[:2], 1)
        sd = self.least_sd + softplus(scale)
        gauss = -0.5 * ((numbers - mean) / sd) ** 2 - sd.log() - 0.5 * math.log(2 * math.pi)
        return -cross_entropy(logits, classes, reduction="none"), gauss.sum(1)

    def bounds(self, outputs: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        r"""The bound :math:`L_I = \mathbb E \log Q(c \mid x) + H(c)`, of the class and of the numbers, in nats.

        The first is at most log K. The second may be negative, as the first may: then Q is worse than no look at x.
        """
        of_class, of_numbers = self.log_likelihood(outputs, c)
        chance = math.log(self.n_categories)
        return of_class.mean() + chance, of_numbers.mean() + self.entropy - chance


class CodeDiscriminator(nn.Module):
    r"""D and Q on one body: a last layer for "real", and one for the parameters of :math:`Q(c \mid x)`.

    Arguments:
        body: from samples to features (n, n_features).
        n_features: ≥ 1.
        codes: what Q speaks of.

    Input and output: samples to logits of "real", shape (n, 1).
    """

    def __init__(self, body: nn.Module, n_features: int, codes: Codes) -> None:
        super().__init__()
        check.at_least(1, n_features=n_features)
        self.body = body
        self.real, self.Q = nn.Linear(n_features, 1), nn.Linear(n_features, codes.n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.real(self.body(x))

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Logits of "real", shape (n, 1), and the parameters of Q(c | x), shape (n, codes.n_outputs)."""
        h = self.body(x)
        return self.real(h), self.Q(h)


# -------------------------------------------------------------------------------------------------- the game


def infogan(
    G: nn.Module,
    D: nn.Module,
    objective: Objective,
    codes: Codes,
    *,
    lam: float | tuple[float, float] = (1.0, 0.1),
    latent: int | None = None,
    **settings: Any,
) -> Game:
    r"""A game in which the generator is also paid for pictures that give their code away.

    .. math::
        \min_{G, Q} \max_D\; V(D, G) - \lambda\, L_I(G, Q), \qquad
        L_I = \mathbb E_{c,\, x \sim G(z, c)} \log Q(c \mid x) + H(c) \le I(c; x)

    Q lives in D's network and moves when D does, but it wants what G wants: a tight and large bound.

    Arguments:
        G: from (n, latent) numbers, the noise z and behind it the code c, to samples.
        D: with ``D(x)`` for the logits and ``D.both(x)`` for them and Q's parameters, see :class:`CodeDiscriminator`.
        objective: of the game of two.
        codes: the distribution of c.
        lam: λ ≥ 0, what G is paid for the bound; or one weight for the part of the class and one for that of the
            numbers. With 0 it is an ordinary GAN, and Q a spectator who still guesses.
        latent: length of z and c together; ``G.latent`` where ``None``.
        settings: others of :func:`lectool.gan.two_player`.

    Raises:
        ValueError: if ``lam`` is negative, nothing is left for z, or a setting does not fit.

    References:
        Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel (2016), InfoGAN.
    """
    lams = lam if isinstance(lam, tuple) else (lam, lam)
    check.non_negative(lam=min(lams))
    latent = getattr(G, "latent", None) if latent is None else latent
    game = two_player(G, D, objective, latent=latent, **settings)
    check.at_least(codes.width + 1, latent=latent)

    def judge_loss(made: dict[str, Any]) -> dict[str, Tensor]:
        fake, told = D.both(made["fake"])
        loss = objective.discriminator_loss(D(made["real"]), fake)
        return {"discriminator": loss, "not told": -sum(codes.bounds(told, made["c"]))}

    def maker_loss(made: dict[str, Any]) -> dict[str, Tensor]:
        fake, told = D.both(made["fake"])
        of_class, of_numbers = codes.bounds(told, made["c"])
        paid = lams[0] * of_class + lams[1] * of_numbers
        real = D(made["real"]) if objective.needs_real else None
        return {"generator": objective.generator_loss(fake, real), "not paid": -paid}

    game.make = _with_code(G, codes, latent)
    game.judges["discriminator"].loss, game.makers["generator"].loss = judge_loss, maker_loss
    return game


def _with_code(G: nn.Module, codes: Codes, latent: int) -> Callable[..., dict[str, Any]]:
    r"""Lays fakes of noise and code on the table, with the code."""

    def make(real: Tensor, generator: torch.Generator | None = None) -> dict[str, Any]:
        z = draw_latent(len(real), latent - codes.width, like=real, generator=generator)
        c = codes.draw(len(real), like=real, generator=generator)
        return {"real": real, "fake": G(torch.cat([z, c], 1)), "c": c}

    return make


def guide(game: Game, codes: Codes, x: Tensor, y: Tensor, *, batch_size: int = 64) -> Game:
    r"""Names for the codes: Q is also shown a few real pictures with their classes, and G follows Q.

    Q's loss gets the term :math:`-\mathbb E \log Q(y \mid x)`, the mean over a batch of them, drawn anew at each move.

    Arguments:
        game: of :func:`infogan`; changed in place.
        codes: those of the game.
        x: real samples, shape (n, …); some dozens are enough.
        y: their classes, 0 … n_categories − 1, int64, shape (n,).
        batch_size: pictures a move, ≥ 1.

    Raises:
        ValueError: if the lengths differ.

    References:
        Spurr, Aksan, Hilliges (2017), Guiding InfoGAN with semi-supervision.
    """
    check.lengths(x=x, y=y)
    check.at_least(1, batch_size=batch_size)
    judge = game.judges["discriminator"]
    unguided, D = judge.loss, judge.net

    def judge_loss(made: dict[str, Any]) -> dict[str, Tensor]:
        rows = integers(len(x), batch_size, x.device)
        logits = D.both(x[rows])[1][:, : codes.n_categories]
        return unguided(made) | {"hints": cross_entropy(logits, y[rows])}

    judge.loss = judge_loss
    return game


# ---------------------------------------------------------------------------------------------- what came of it


def matched(found: Tensor, y: Tensor, n: int = 10) -> tuple[Tensor, float]:
    r"""Names for unnamed classes: the one-to-one naming by which most samples get their class.

    Arguments:
        found: what was found, 0 … n − 1, int64, shape (m,).
        y: classes, 0 … n − 1, int64, shape (m,).
        n: how many of each.

    Returns:
        the class that each of the n stands for, shape (n,), and the share of samples that it names rightly.

    Raises:
        ValueError: if the lengths differ.
    """
    from scipy.optimize import linear_sum_assignment

    check.lengths(found=found, y=y)
    counts = torch.bincount(found * n + y, minlength=n * n).reshape(n, n)
    _, name = linear_sum_assignment(counts.cpu().numpy(), maximize=True)
    name = torch.as_tensor(name, device=y.device)
    return name, (name[found] == y).double().mean().item()


def mutual_information(joint: Tensor) -> Tensor:
    r"""I(c; x) of a table of probabilities, in nats.

    Arguments:
        joint: p(c, x), not negative, sum 1, shape (codes, pictures).
    """
    p_c, p_x = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    return (torch.xlogy(joint, joint) - torch.xlogy(joint, p_c * p_x)).sum()


def variational_bound(joint: Tensor, log_Q: Tensor) -> Tensor:
    r"""The bound :math:`L_I = \sum_{c, x} p(c, x) \log Q(c \mid x) + H(c)` of a table, in nats.

    It misses I(c; x) by :math:`\mathbb E_x \mathrm{KL}(p(c \mid x) \Vert Q(c \mid x))`.

    Arguments:
        joint: as in :func:`mutual_information`.
        log_Q: log Q(c | x), each column a distribution, shape (codes, pictures).
    """
    return (joint * log_Q).sum() + torch.special.entr(joint.sum(1)).sum()
