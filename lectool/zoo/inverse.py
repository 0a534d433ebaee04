r"""Chapter 15: the way back from an image to its code, learned in the game or found by descent, and what it is for.

BiGAN learns an encoder beside the generator. Latent optimization looks for the code of one image at a time, from a
start that an auxiliary encoder gives. With codes at hand images can be edited, aged, searched for what does not belong,
and drawn from a few strokes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, one_hot

from lectool import check
from lectool.gan import Game, Objective, Player, draw_latent
from lectool.nets import mlp
from lectool.record import adam

__all__ = [
    "CoarseDiscriminator",
    "PairDiscriminator",
    "Projection",
    "SmoothGenerator",
    "anomaly_distance",
    "area_under_curve",
    "bigan",
    "change",
    "feature_distance",
    "made_pairs",
    "masked_distance",
    "mean_difference",
    "pair_losses",
    "project",
    "squared_distance",
]

Distance = Callable[
    [Tensor, Tensor], Tensor
]  # two batches of images → one number a pair, shape (n,)
leaky = partial(nn.LeakyReLU, 0.2)


# ------------------------------------------------------------------------------------- small networks


class SmoothGenerator(nn.Module):
    r"""Codes, and classes, to images in [−1, 1] by two linear layers; the second makes every other row and column only.

    What lies between is interpolated before the tanh, so that a discriminator that looks at a quarter of the pixels
    decides about all of them.

    Arguments:
        latent: length of a code.
        n_classes: 0 for a generator without conditions.
        width: of the hidden layer.
        size: (rows, columns) of the images, even numbers.

    Input and output: codes (n, latent) and, where there are classes, int64 (n,) → (n, 1, rows, columns).

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        latent: int = 16,
        n_classes: int = 0,
        width: int = 128,
        size: tuple[int, int] = (28, 28),
    ) -> None:
        super().__init__()
        check.at_least(1, latent=latent, width=width)
        check.at_least(0, n_classes=n_classes)
        if len(size) != 2 or min(size) < 2 or size[0] % 2 or size[1] % 2:
            raise ValueError(f"size is {size}; expected two even numbers, at least 2")
        self.latent, self.n_classes, self.coarse = latent, n_classes, (size[0] // 2, size[1] // 2)
        self.hidden = nn.Linear(latent + n_classes, width)
        self.pixels = nn.Linear(width, self.coarse[0] * self.coarse[1])

    def forward(self, z: Tensor, *y: Tensor) -> Tensor:
        given = [one_hot(classes, self.n_classes).to(z) for classes in y]
        h = self.hidden(torch.cat([z, *given], 1)).relu()
        return self.enlarge(self.pixels(h)).tanh()

    def enlarge(self, a: Tensor) -> Tensor:
        a = a.unflatten(1, (1, *self.coarse))
        return interpolate(a, scale_factor=2, mode="bilinear")

    @torch.no_grad()
    def at(self, y: int | None = None) -> nn.Sequential:
        r"""The same for one class, as layers that a page can run: codes (n, latent) → (n, rows · columns).

        The class moves the first bias, and the interpolation, a linear map behind a linear layer, is drawn into it.
        """
        hidden = nn.Linear(self.latent, self.hidden.out_features).to(self.hidden.weight)
        hidden.weight.copy_(self.hidden.weight[:, : self.latent])
        bias = self.hidden.bias
        hidden.bias.copy_(bias if y is None else bias + self.hidden.weight[:, self.latent + y])
        pixels = nn.Linear(hidden.out_features, 4 * self.pixels.out_features).to(hidden.weight)
        pixels.weight.copy_(self.enlarge(self.pixels.weight.T).flatten(1).T)
        pixels.bias.copy_(self.enlarge(self.pixels.bias[None]).flatten())
        return nn.Sequential(hidden, nn.ReLU(), pixels, nn.Tanh())


def halved(x: Tensor) -> Tensor:
    r"""Means over squares of 2 × 2 pixels, (n, 1, rows, columns) → (n, rows · columns / 4)."""
    return avg_pool2d(x, 2).flatten(1)


class CoarseDiscriminator(nn.Module):
    r"""Scores of images at half their resolution, one output for each class.

    Arguments:
        n_classes: 0 for a discriminator without conditions.
        width: of both hidden layers.
        size: (rows, columns) of the images.

    Input and output: images (n, 1, rows, columns) and, where there are classes, int64 (n,) → (n, 1).
    """

    def __init__(
        self, n_classes: int = 0, width: int = 128, size: tuple[int, int] = (28, 28)
    ) -> None:
        super().__init__()
        check.at_least(0, n_classes=n_classes)
        self.body = mlp([size[0] * size[1] // 4, width, width], leaky, last=leaky)
        self.head = nn.Linear(width, max(1, n_classes))

    def features(self, x: Tensor) -> Tensor:
        r"""What the last hidden layer says, shape (n, width)."""
        return self.body(halved(x))

    def forward(self, x: Tensor, *y: Tensor) -> Tensor:
        scores = self.head(self.features(x))
        return scores.gather(1, y[0][:, None]) if y else scores


class PairDiscriminator(nn.Module):
    r"""Scores of pairs of an image, at half its resolution, and a code.

    Arguments:
        latent: length of a code.
        width: of both hidden layers.
        size: (rows, columns) of the images.

    Input and output: images (n, 1, rows, columns) and codes (n, latent) → (n, 1).
    """

    def __init__(self, latent: int, width: int = 128, size: tuple[int, int] = (28, 28)) -> None:
        super().__init__()
        self.net = mlp([size[0] * size[1] // 4 + latent, width, width, 1], leaky)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.net(torch.cat([halved(x), z], 1))


# --------------------------------------------------------------------------------------------- BiGAN


def pair_losses(D: nn.Module, objective: Objective, made: dict[str, Tensor]) -> dict[str, Tensor]:
    r"""What each player of BiGAN makes small.

    Arguments:
        D: scores of pairs, ``D(x, z)``; it sees both kinds in one batch, the real ones first.
        objective: as for :func:`bigan`.
        made: images ``real`` with their ``code``, images ``fake`` with the ``z`` of which they were made.
    """
    images = torch.cat([made["real"], made["fake"]])
    codes = torch.cat([made["code"], made["z"]])
    real, fake = D(images, codes).chunk(2)
    return {
        "discriminator": objective.discriminator_loss(real, fake),
        "encoder": objective.generator_loss(-real),  # the generator's wish, mirrored
        "generator": objective.generator_loss(fake),
    }


def bigan(
    G: nn.Module,
    E: nn.Module,
    D: nn.Module,
    objective: Objective,
    *,
    lr: float | tuple[float, float] = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    latent: int | Sequence[int] | None = None,
) -> Game:
    r"""The game of BiGAN, or ALI: the discriminator compares pairs (x, E(x)) and (G(z), z).

    .. math:: \min_{G, E} \max_D\; \mathbb E_x \log D(x, E(x)) + \mathbb E_z \log (1 - D(G(z), z))

    Encoder and generator want the same: pairs that cannot be told apart. If neither can be told from the other
    by any D, E and G are inverse to each other almost everywhere.

    Arguments:
        G: maps codes (n, \*latent) to fakes of the data's shape.
        E: maps data to codes of shape (n, \*latent).
        D: scores of pairs, ``D(x, z)``, shape (n, …), without a sigmoid.
        objective: its generator's loss of −a is what the encoder descends on its pairs: right where real and fake
            have mirrored parts, as in the minimax, the non-saturating and the hinge game.
        lr: step size of all three, or (G's and E's, D's).
        betas: of Adam.
        latent: shape of one code; ``G.latent`` where ``None``.

    Raises:
        ValueError: if a step size is not positive, or the shape of a code is unknown.

    References:
        Donahue, Krähenbühl, Darrell (2017), Adversarial feature learning; Dumoulin et al. (2017), Adversarially
        learned inference.
    """
    lr_makers, lr_D = lr if isinstance(lr, tuple) else (lr, lr)
    latent = getattr(G, "latent", None) if latent is None else latent
    if latent is None:
        raise ValueError(
            f"latent is None and {type(G).__name__} has no attribute latent; expected the shape of a code"
        )

    def make(real: Tensor, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        z = draw_latent(len(real), latent, like=real, generator=generator)
        return {"real": real, "code": E(real), "fake": G(z), "z": z}

    def discriminator_loss(made: dict[str, Tensor]) -> Tensor:
        return pair_losses(D, objective, made)["discriminator"]

    def loss_of_both(made: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = pair_losses(D, objective, made)
        return {name: losses[name] for name in ("encoder", "generator")}

    return Game(
        makers={"both": Player(nn.ModuleList([G, E]), loss_of_both, lr=lr_makers, betas=betas)},
        judges={"discriminator": Player(D, discriminator_loss, lr=lr_D, betas=betas)},
        make=make,
        others=[objective] if isinstance(objective, nn.Module) else [],
    )


# ------------------------------------------------------------------------------- latent optimization


def squared_distance(x: Tensor, x_hat: Tensor) -> Tensor:
    r"""Squared error, summed over the pixels of each image, (n, …) to (n,)."""
    return (x - x_hat).flatten(1).square().sum(1)


def masked_distance(mask: Tensor) -> Distance:
    r"""Squared error on the pixels where the mask is 1, such as those that somebody has drawn.

    Arguments:
        mask: numbers in [0, 1], of the images' shape.
    """
    return lambda x, x_hat: squared_distance(mask * x, mask * x_hat)


def feature_distance(features: Callable[[Tensor], Tensor]) -> Distance:
    r"""Squared distance of features, such as those by which a network recognizes a person.

    .. math:: \lVert \mathrm{FR}(x) - \mathrm{FR}(\hat x) \rVert^2

    Arguments:
        features: FR, images to (n, …), differentiable.

    References:
        Antipov, Baccouche, Dugelay (2017), Face aging with conditional GANs.
    """
    return lambda x, x_hat: squared_distance(features(x), features(x_hat))


@dataclass
class Projection:
    r"""Where a search for codes ended.

    Attributes:
        z: the codes, shape (n, …).
        errors: the distance of each image from what its code gives, before the first step and after each, shape
            (n_steps + 1, n).
    """

    z: Tensor
    errors: Tensor

    def __repr__(self) -> str:
        first, last = self.errors[0].mean(), self.errors[-1].mean()
        return f"Projection({len(self.z)} codes, {len(self.errors) - 1} steps: mean error {first:.4g} → {last:.4g})"


def project(
    G: Callable[..., Tensor],
    x: Tensor,
    z: Tensor,
    *given: Tensor,
    distance: Distance = squared_distance,
    prior: float = 0.0,
    n_steps: int = 100,
    lr: float = 0.05,
) -> Projection:
    r"""Codes whose images are near to x, each found by Adam from its own start.

    .. math:: z^* = \arg\min_z\; \mathrm{distance}(x, G(z, y)) + \tfrac\rho2 \lVert z \rVert^2

    Arguments:
        G: generator in ``eval()`` mode, ``G(z, *given)``; its weights stand still.
        x: images, shape (n, …).
        z: starts, shape (n, …).
        given: conditions of the generator, n rows each.
        distance: of two batches, differentiable in the second; :func:`squared_distance` or another.
        prior: ρ ≥ 0, which holds codes where N(0, I) has them.
        n_steps: ≥ 0.
        lr: Adam's step size.

    Raises:
        ValueError: if a number is out of range, or lengths differ.

    References:
        Zhu, Krähenbühl, Shechtman, Efros (2016), Generative visual manipulation on the natural image manifold.
    """
    check.non_negative(prior=prior)
    check.at_least(0, n_steps=n_steps)
    check.positive(lr=lr)
    check.lengths(x=x, z=z, **{f"condition {i + 1}": c for i, c in enumerate(given)})
    z = z.detach().clone().requires_grad_()
    opt, errors = adam([z], lr=lr), []
    for _ in range(n_steps):
        error = distance(x, G(z, *given))
        loss = (error + prior / 2 * z.flatten(1).square().sum(1)).sum()
        (z.grad,) = torch.autograd.grad(loss, z)
        opt.step()
        errors.append(error.detach())
    z = z.detach()
    with torch.no_grad():
        errors.append(distance(x, G(z, *given)))
    return Projection(z, torch.stack(errors))


@torch.no_grad()
def made_pairs(
    G: Callable[..., Tensor],
    n: int,
    latent: int,
    *given: Tensor,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    r"""What an auxiliary encoder learns from: images of a generator, with the codes of which they were made.

    Arguments:
        G: generator in ``eval()`` mode, ``G(z, *given)``.
        n: how many.
        latent: length of a code.
        given: conditions, n rows each.
        generator: of the codes.

    Returns:
        images (n, …), codes (n, latent), and the conditions.
    """
    check.at_least(1, n=n, latent=latent)
    like = given[0] if given and given[0].is_floating_point() else None
    z = draw_latent(n, latent, like=like, generator=generator)
    x = torch.cat([G(*part) for part in zip(*[t.split(500) for t in (z, *given)])])
    return [x, z, *given]


# ------------------------------------------------------------------------------------------ what for


def change(
    G: Callable[..., Tensor],
    E: Callable[..., Tensor],
    x: Tensor,
    old: Tensor,
    new: Tensor,
    **search,
) -> tuple[Tensor, Projection]:
    r"""The same image under another condition: face aging, where the condition is an age.

    The encoder gives a first code :math:`z_0 = E(x, y_0)`, a search makes it better under the old condition, and then
    only the condition is changed, :math:`G(z^*, y)`.

    Arguments:
        G, E: ``G(z, y)`` and ``E(x, y)``.
        x: images, shape (n, …).
        old, new: their conditions, and those that they are to have, n rows each.
        search: settings of :func:`project`; with ``distance=feature_distance(FR)`` it is the features that are kept.

    Returns:
        the changed images, and the projection under the old condition.

    References:
        Antipov, Baccouche, Dugelay (2017), Face aging with conditional GANs.
    """
    with torch.no_grad():
        start = E(x, old)
    found = project(G, x, start, old, **search)
    with torch.no_grad():
        return G(found.z, new), found


def mean_difference(z: Tensor, chosen: Tensor) -> Tensor:
    r"""A direction of codes: from the mean of the others to the mean of the chosen ones, shape (k,).

    Arguments:
        z: codes, shape (n, k).
        chosen: truth values, shape (n,).

    Raises:
        ValueError: if lengths differ, or all or none are chosen.

    References:
        Radford, Metz, Chintala (2016), Unsupervised representation learning with deep convolutional GANs.
    """
    check.lengths(z=z, chosen=chosen)
    chosen = chosen.bool()
    check.inside(f"[1, {len(z) - 1}]", **{"number of chosen codes": int(chosen.sum())})
    return z[chosen].mean(0) - z[~chosen].mean(0)


def anomaly_distance(features: Callable[[Tensor], Tensor], lam: float = 0.1) -> Distance:
    r"""How badly an image that a generator can make fits, in pixels and in the discriminator's features.

    .. math:: (1 - \lambda) \sum \lvert x - \hat x \rvert + \lambda \sum \lvert f(x) - f(\hat x) \rvert

    It is what the search for the code makes small, and what is left at its end is the score of AnoGAN.

    Arguments:
        features: f, an inner layer of the discriminator, (n, …) to (n, …), differentiable.
        lam: λ in [0, 1].

    Raises:
        ValueError: if λ is out of range.

    References:
        Schlegl et al. (2017), Unsupervised anomaly detection with generative adversarial networks, equations 3 to 5.
    """
    check.inside("[0, 1]", lam=lam)

    def distance(x: Tensor, x_hat: Tensor) -> Tensor:
        residual = (x - x_hat).abs().flatten(1).sum(1)
        discrepancy = (features(x) - features(x_hat)).abs().flatten(1).sum(1)
        return (1 - lam) * residual + lam * discrepancy

    return distance


def area_under_curve(scores: Tensor, positive: Tensor) -> float:
    r"""Area under the receiver operating characteristic: how often a positive scores above a negative, ties half.

    Arguments:
        scores: shape (n,).
        positive: truth values, shape (n,).

    Returns:
        in [0, 1]; 1/2 for scores that know nothing.

    Raises:
        ValueError: if lengths differ, or all or none are positive.
    """
    check.lengths(scores=scores, positive=positive)
    positive = positive.bool()
    check.inside(f"[1, {len(scores) - 1}]", **{"number of positives": int(positive.sum())})
    above, below = scores[positive].double(), scores[~positive].double().sort().values
    left, right = (torch.searchsorted(below, above, right=side) for side in (False, True))
    return ((left + right).double().mean() / 2 / len(below)).item()
