r"""Chapter 15: games in which the class is known, to the generator, to the discriminator, or to both.

The game stays that of :func:`lectool.gan.two_player`, played on images x and their classes y. What differs is how
``G(z, y)`` and ``D(x, y)`` look at the class.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lectool import check
from lectool.gan import Game, Objective, two_player

__all__ = [
    "AuxiliaryDiscriminator",
    "Blind",
    "ConcatenatedDiscriminator",
    "ConditionalGenerator",
    "ProjectionDiscriminator",
    "acgan",
    "attach",
    "class_coverage",
    "class_leakage",
    "spread_within",
]


# ------------------------------------------------------------------------------------- where the class enters


def attach(h: Tensor, y: Tensor, n_classes: int) -> Tensor:
    r"""Puts the class beside what is known of a sample: as one-hot numbers, or as planes where h has places.

    Arguments:
        h: codes, features or images, shape (n, channels, …).
        y: classes 0 … n_classes − 1, int64, shape (n,).
        n_classes: ≥ 2.

    Returns:
        shape (n, channels + n_classes, …): behind the channels one plane a class, 1 everywhere in that of y, else 0.

    Raises:
        ValueError: if shapes do not fit, or a class is out of range.
    """
    check.shape(len(h), y=y)
    if len(y) and not (y.min() >= 0 and y.max() < n_classes):
        raise ValueError(f"y holds {y.min()} … {y.max()}; expected classes 0 … {n_classes - 1}")
    planes = torch.eye(n_classes, dtype=h.dtype, device=h.device)[y]
    places = h.shape[2:]
    planes = planes.reshape(*planes.shape, *[1] * len(places)).expand(-1, -1, *places)
    return torch.cat([h, planes], 1)


class ConditionalGenerator(nn.Module):
    r"""G(z, y): a generator whose code is followed by the class, one-hot.

    Arguments:
        net: a generator, from (n, latent + n_classes) numbers to samples.
        latent: length of z, ≥ 1.
        n_classes: ≥ 2.

    References:
        Mirza, Osindero (2014), Conditional generative adversarial nets.
    """

    def __init__(self, net: nn.Module, latent: int, n_classes: int = 10) -> None:
        super().__init__()
        check.at_least(1, latent=latent)
        check.at_least(2, n_classes=n_classes)
        self.net, self.latent, self.n_classes = net, latent, n_classes

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.net(attach(z, y, self.n_classes))


class ConcatenatedDiscriminator(nn.Module):
    r"""D(x, y) that gets the class beside its features.

    Arguments:
        body: from samples to features, (n, channels, …); ``nn.Identity()`` to attach the class to the samples.
        head: from (n, channels + n_classes, …) to logits (n, 1). It must not be linear: then the class would add
            one number to the logit, whatever the image, and nobody would learn whether the two belong together.
        n_classes: ≥ 2.

    References:
        Mirza, Osindero (2014), Conditional generative adversarial nets.
    """

    def __init__(self, body: nn.Module, head: nn.Module, n_classes: int = 10) -> None:
        super().__init__()
        check.at_least(2, n_classes=n_classes)
        self.body, self.head, self.n_classes = body, head, n_classes

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(attach(self.body(x), y, self.n_classes))


class ProjectionDiscriminator(nn.Module):
    r"""D(x, y) that projects features on a vector of the class.

    .. math:: a(x, y) = \psi(\phi(x)) + v_y^\top \phi(x)

    The best logit is

    .. math:: \log \frac{p(x, y)}{q(x, y)} = \log \frac{p(x)}{q(x)} + \log \frac{p(y \mid x)}{q(y \mid x)} .

    If both posteriors are softmax-linear in the features φ, the second part is
    :math:`(v_y^p - v_y^q)^\top \phi(x)` less a number that does not depend on y, which joins the first part in ψ.

    Arguments:
        body: φ, from samples to features (n, n_features).
        n_features: ≥ 1.
        n_classes: ≥ 2.
        psi: from features to (n, 1); linear where ``None``.

    References:
        Miyato, Koyama (2018), cGANs with projection discriminator, equations 3 and 4.
    """

    def __init__(
        self, body: nn.Module, n_features: int, n_classes: int = 10, psi: nn.Module | None = None
    ) -> None:
        super().__init__()
        check.at_least(1, n_features=n_features)
        check.at_least(2, n_classes=n_classes)
        self.body = body
        self.psi = nn.Linear(n_features, 1) if psi is None else psi
        self.embed = nn.Embedding(n_classes, n_features)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        phi = self.body(x)
        return self.psi(phi) + (self.embed(y) * phi).sum(1, keepdim=True)


class Blind(nn.Module):
    r"""D(x, y) that does not look at the class: what is taken away where one asks what the class is good for.

    Arguments:
        net: a discriminator D(x).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(x)


# ----------------------------------------------------------------------------------------- an auxiliary classifier


class AuxiliaryDiscriminator(nn.Module):
    r"""A discriminator that is not told the class, but has to say it: two heads on one body.

    Arguments:
        body: from samples to features (n, n_features).
        n_features: ≥ 1.
        n_classes: ≥ 2.

    Input and output: images, and classes that it does not look at, to logits of "real", shape (n, 1).
    """

    def __init__(self, body: nn.Module, n_features: int, n_classes: int = 10) -> None:
        super().__init__()
        check.at_least(1, n_features=n_features)
        check.at_least(2, n_classes=n_classes)
        self.body = body
        self.real, self.classes = nn.Linear(n_features, 1), nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.real(self.body(x))

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Logits of "real", shape (n, 1), and of the classes, shape (n, n_classes)."""
        h = self.body(x)
        return self.real(h), self.classes(h)


def acgan(
    G: nn.Module, D: nn.Module, objective: Objective, *, weight: float = 1.0, **settings: Any
) -> Game:
    r"""A game in which both players also want the class to be read off each picture.

    .. math::
        L_D &= L_D^{\text{real or fake}} - \lambda\, \mathbb E \log C(y \mid x)
        - \lambda\, \mathbb E \log C(y \mid G(z, y)) \\
        L_G &= L_G^{\text{real or fake}} - \lambda\, \mathbb E \log C(y \mid G(z, y))

    Nobody asks whether the fakes of class y are like the real ones of class y: only whether they are real, and whether
    they are sure to be y. Where classes overlap, G therefore keeps away from the overlap.

    Arguments:
        G: a generator ``G(z, y)``.
        D: with ``D.both(x)`` for the logits of "real" and of the classes, see
            :class:`AuxiliaryDiscriminator`.
        objective: of the game of two.
        weight: λ ≥ 0.
        settings: of :func:`lectool.gan.two_player`.

    Raises:
        ValueError: if ``weight`` is negative or a setting does not fit.

    References:
        Odena, Olah, Shlens (2017), Conditional image synthesis with auxiliary classifier GANs.
    """
    check.non_negative(weight=weight)
    game = two_player(G, D, objective, **settings)

    def judge_loss(made: dict[str, Any]) -> dict[str, Tensor]:
        (y,) = made["given"]
        (real, of_real), (fake, of_fake) = D.both(made["real"]), D.both(made["fake"])
        terms = {"discriminator": objective.discriminator_loss(real, fake)}
        terms["classes of real"] = weight * cross_entropy(of_real, y)
        terms["classes of fakes"] = weight * cross_entropy(of_fake, y)
        return terms

    def maker_loss(made: dict[str, Any]) -> dict[str, Tensor]:
        (y,) = made["given"]
        fake, of_fake = D.both(made["fake"])
        real = D(made["real"]) if objective.needs_real else None
        asked = weight * cross_entropy(of_fake, y)
        return {"generator": objective.generator_loss(fake, real), "asked": asked}

    game.judges["discriminator"].loss, game.makers["generator"].loss = judge_loss, maker_loss
    return game


# ---------------------------------------------------------------------------------------------- what came of it


def class_leakage(probabilities: Tensor, sure: float = 0.6) -> float:
    r"""Share of pictures that lie between classes: no class gets a probability of ``sure`` from the judge.

    Not 0 for real pictures either, some of which are ambiguous: compare with them.

    Arguments:
        probabilities: of a classifier, one row a picture, shape (n, n_classes).
        sure: in (0, 1]; above a half, so that no two classes can have it.

    Raises:
        ValueError: if ``sure`` is out of range, or the probabilities are negative or above 1.
    """
    check.data(probabilities, "probabilities", low=0.0, high=1.0 + 1e-5)
    check.inside("(0.5, 1]", sure=sure)
    return (probabilities.max(1).values < sure).double().mean().item()


def class_coverage(classes: Tensor, n_classes: int = 10) -> float:
    r"""How many classes a sample uses, as the number of equally frequent ones of the same entropy.

    .. math:: \exp\Bigl(-\sum_y \hat p(y) \log \hat p(y)\Bigr), \qquad \hat p(y) = \tfrac1n \#\{i : y_i = y\}

    Arguments:
        classes: those that a judge sees, int64, shape (n,).
        n_classes: ≥ the largest class + 1.

    Returns:
        a number from 1 (all of one class) to ``n_classes`` (all equally often).
    """
    share = torch.bincount(classes, minlength=n_classes).double() / len(classes)
    return torch.special.entr(share).sum().exp().item()


def spread_within(features: Tensor, classes: Tensor) -> float:
    r"""How much pictures of one class differ: mean squared distance of features from the mean of their class.

    Arguments:
        features: shape (n, d).
        classes: those asked for, or true ones, shape (n,).

    Returns:
        the mean over classes, in squared units of the features; divide by that of real pictures to read it.

    Raises:
        ValueError: if the lengths differ or a class has a single picture.
    """
    check.data(features, "features")
    check.shape(len(features), classes=classes)
    groups = [features[classes == y] for y in classes.unique()]
    if min(map(len, groups)) < 2:
        raise ValueError("a class has a single picture; expected two or more")
    return sum(group.var(0).sum().item() for group in groups) / len(groups)
