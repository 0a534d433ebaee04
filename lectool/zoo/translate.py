r"""Chapter 15: translating between two domains of which no pair is known (CycleGAN), and drawing pairs that nobody has
shown (coupled GAN)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lectool import check
from lectool.gan import Game, LeastSquares, NonSaturating, Objective, Player, draw_latent
from lectool.gan.game import Made
from lectool.random import integers, noise, uniform

__all__ = [
    "CoupledDiscriminator",
    "CoupledGenerator",
    "ImagePool",
    "SmallDiscriminator",
    "Translator",
    "coupled",
    "cycle_error",
    "cyclegan",
    "there_and_back",
    "translator_loss",
]


# ---------------------------------------------------------------------------------------------- CycleGAN


def there_and_back(
    G_AB: nn.Module,
    G_BA: nn.Module,
    a: Tensor,
    b: Tensor,
    sd: float = 0.0,
    generator: torch.Generator | None = None,
) -> Made:
    r"""Both translations, and both ways back.

    Arguments:
        G_AB, G_BA: translators from domain A to B and from B to A.
        a, b: samples of the two domains, shapes (n, …) and (m, …); no row belongs to another.
        sd: standard deviation of noise put on a translation before it is translated back, ≥ 0.
        generator: of the noise.

    Returns:
        ``a``, ``b``, ``fake_b`` = G_AB(a), ``fake_a`` = G_BA(b), ``back_a`` = G_BA(G_AB(a)) and
        ``back_b`` = G_AB(G_BA(b)).
    """
    fake_b, fake_a = G_AB(a), G_BA(b)
    sent_b, sent_a = fake_b, fake_a
    if sd > 0:
        sent_b, sent_a = (v + sd * noise(v.shape, v, generator) for v in (fake_b, fake_a))
    back = {"back_a": G_BA(sent_b), "back_b": G_AB(sent_a)}
    return {"a": a, "b": b, "fake_a": fake_a, "fake_b": fake_b} | back


def cycle_error(made: Made) -> Tensor:
    r"""How far both ways there and back end from where they began.

    .. math:: \lVert G_{BA}(G_{AB}(a)) - a \rVert_1 + \lVert G_{AB}(G_{BA}(b)) - b \rVert_1

    with :math:`\lVert\cdot\rVert_1` the mean over samples and numbers; a scalar.
    """
    return distance(made["back_a"], made["a"]) + distance(made["back_b"], made["b"])


def distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Mean absolute difference over samples and numbers."""
    return (x - y).abs().mean()


def translator_loss(
    G: nn.Module, D: nn.Module, to: str, objective: Objective, lam: float, identity: float
) -> Callable[[Made], dict[str, Tensor]]:
    r"""What a translator wants: to be believed, to be undone, and to leave alone what needs no translation.

    Arguments:
        G: the translator into domain ``to``, ``"a"`` or ``"b"``.
        D: the discriminator of that domain.
        objective, lam, identity: as for :func:`cyclegan`.

    Returns:
        a function of what :func:`there_and_back` has made, with the terms by name.
    """

    def loss(made: Made) -> dict[str, Tensor]:
        real = D(made[to]) if objective.needs_real else None
        terms = {f"G to {to}": objective.generator_loss(D(made[f"fake_{to}"]), real)}
        if lam > 0:
            terms["cycle"] = lam * cycle_error(made)
        if identity > 0:
            terms[f"identity {to}"] = identity * distance(G(made[to]), made[to])
        return terms

    return loss


class ImagePool:
    r"""A box of earlier fakes, so that the discriminator does not forget what it has seen through.

    While the box is not full, fakes pass and leave a copy. Then each fake passes as it is with probability 1/2; else it
    is put in the box in place of a fake drawn from it, which passes instead.

    Arguments:
        size: fakes that the box holds; with 0 all pass.
        generator: of the draws.

    References:
        Shrivastava et al. (2017), Learning from simulated and unsupervised images, section 2.3; Zhu et al. (2017),
        section 4 (50 images).
    """

    def __init__(self, size: int = 50, generator: torch.Generator | None = None) -> None:
        check.at_least(0, size=size)
        self.size, self.generator, self.box = size, generator, None

    def __call__(self, fakes: Tensor) -> Tensor:
        r"""Fakes of now and of before, shape (n, …) as given; without gradients to the earlier ones."""
        box = fakes.new_empty(0, *fakes.shape[1:]) if self.box is None else self.box
        n_new = min(self.size - len(box), len(fakes))
        self.box = torch.cat([box, fakes[:n_new].detach()])
        if n_new == len(fakes) or self.size == 0:
            return fakes
        late, out = fakes[n_new:], fakes.clone()
        place = integers(self.size, len(late), fakes.device, self.generator)
        swap = uniform(len(late), generator=self.generator).to(fakes.device) < 0.5
        out[n_new:][swap] = self.box[place[swap]]
        self.box[place[swap]] = late[swap].detach()
        return out


def cyclegan(
    G_AB: nn.Module,
    G_BA: nn.Module,
    D_A: nn.Module,
    D_B: nn.Module,
    objective: Objective | None = None,
    *,
    lam: float = 10.0,
    identity: float = 0.0,
    pool: int = 0,
    sd: float = 0.0,
    lr: float | tuple[float, float] = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    k: int = 1,
) -> Game:
    r"""A game of four: two translators that must find back to where they started, and a discriminator of each domain.

    .. math::
        L(G_{AB}) = \ell\bigl(D_B(G_{AB}(a))\bigr) + \lambda \bigl( \lVert G_{BA}(G_{AB}(a)) - a \rVert_1
        + \lVert G_{AB}(G_{BA}(b)) - b \rVert_1 \bigr) + \mu \lVert G_{AB}(b) - b \rVert_1

    and the same for :math:`G_{BA}` with the letters exchanged. Played on unpaired data of equal length,
    ``gan.play(game, [a, b])``: which rows meet in a batch does not matter to any term.

    Arguments:
        G_AB, G_BA: translators.
        D_A, D_B: from a domain's samples to scores without a sigmoid, shape (n, …).
        objective: :math:`\ell`; least squares where ``None``.
        lam: λ ≥ 0, weight of the cycle; 10 in the paper. Without it nobody translates back.
        identity: μ ≥ 0, weight of leaving alone what is in the target domain already; for domains of one shape.
        pool: fakes that each discriminator remembers, see :class:`ImagePool`; not for :func:`lectool.gan.several`.
        sd: noise on a translation before it is translated back, see :func:`there_and_back`.
        lr: step size of all, or (the translators', the discriminators').
        betas, k: as for :func:`lectool.gan.two_player`.

    Raises:
        ValueError: if a number is out of range, or, before the game, if the two data sets differ in length or a
            translation has not the shape of its domain.

    References:
        Zhu, Park, Isola & Efros (2017), Unpaired image-to-image translation using cycle-consistent adversarial
        networks, equations 1 to 3 and section 5.2; with ``sd``: Bashkirova, Usman & Saenko (2019), Adversarial
        self-defense for cycle-consistent GANs.
    """
    check.non_negative(lam=lam, identity=identity, sd=sd)
    objective = objective or LeastSquares()
    lr_G, lr_D = lr if isinstance(lr, tuple) else (lr, lr)

    def make(a: Tensor, b: Tensor, *, generator: torch.Generator | None = None) -> Made:
        if lam > 0:
            return there_and_back(G_AB, G_BA, a, b, sd, generator)
        return {"a": a, "b": b, "fake_a": G_BA(b), "fake_b": G_AB(a)}

    def translator(G: nn.Module, D: nn.Module, to: str) -> Player:
        return Player(G, translator_loss(G, D, to, objective, lam, identity), lr=lr_G, betas=betas)

    def discriminator(D: nn.Module, of: str) -> Player:
        remembered = ImagePool(pool)

        def loss(made: Made) -> Tensor:
            return objective.discriminator_loss(D(made[of]), D(remembered(made[f"fake_{of}"])))

        return Player(D, loss, lr=lr_D, betas=betas)

    @torch.no_grad()
    def sanity(a: Tensor, b: Tensor) -> None:
        pairs = (("G_AB", G_AB, a, b), ("G_BA", G_BA, b, a))
        for name, G, start, end in pairs:
            mode = G.training
            found = G.eval()(start[:2]).shape[1:]
            G.train(mode)
            if found != end.shape[1:]:
                raise ValueError(
                    f"{name} makes samples of shape {tuple(found)}; expected {tuple(end.shape[1:])}"
                )
        if identity > 0 and a.shape[1:] != b.shape[1:]:
            raise ValueError(
                f"identity is {identity} for domains of shapes {tuple(a.shape[1:])} and "
                f"{tuple(b.shape[1:])}; expected one shape"
            )

    return Game(
        makers={"G_AB": translator(G_AB, D_B, "b"), "G_BA": translator(G_BA, D_A, "a")},
        judges={"D_A": discriminator(D_A, "a"), "D_B": discriminator(D_B, "b")},
        make=make,
        k=k,
        sanity=sanity,
    )


# ---------------------------------------------------------------------------------- networks for 14 × 14


class Translator(nn.Sequential):
    r"""Images to images of the same size by strided convolutions and back, in [−1, 1].

    Batch norm and ReLU behind every layer but the last, tanh at the end. Nothing leads past the middle, which has
    7 × 7 places; a pixel of the translation depends on a window of 10 × 10 pixels of 14 × 14. The wide translator goes
    on to 3 × 3 places, and each of its pixels depends on the whole image.

    Arguments:
        n_in, n_out: channels of the two domains.
        width: channels at 7 × 7; 3 × 3 has twice as many.
        wide: whether to look at the whole image.

    Input and output: (n, n_in, 14, 14) → (n, n_out, 14, 14).
    """

    def __init__(self, n_in: int, n_out: int, width: int = 32, wide: bool = False) -> None:
        middle = [nn.Conv2d(width, width, 3, padding=1)]
        if wide:
            middle = [
                nn.Conv2d(width, 2 * width, 3, stride=2),
                nn.Conv2d(2 * width, 2 * width, 3, padding=1),
                nn.ConvTranspose2d(2 * width, width, 3, stride=2),
            ]
        layers = []
        for layer in [nn.Conv2d(n_in, width, 4, stride=2, padding=1), *middle]:
            layers += [layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()]
        last = nn.ConvTranspose2d(width, n_out, 4, stride=2, padding=1)
        super().__init__(*layers, last, nn.Tanh())


class SmallDiscriminator(nn.Sequential):
    r"""Images of 14 × 14 to a score by strided convolutions with leaky ReLU, 7 × 7 → 3 × 3.

    Arguments:
        n_in: channels.
        width: channels at 7 × 7, twice as many at 3 × 3.

    Input and output: (n, n_in, 14, 14) → (n, 1).
    """

    def __init__(self, n_in: int, width: int = 16) -> None:
        super().__init__(
            nn.Conv2d(n_in, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 3, stride=2),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * 9, 1),
        )


# ------------------------------------------------------------------------------------------- coupled GAN


class CoupledGenerator(nn.Module):
    r"""Generators that share their first layers: one code, one sample a domain.

    .. math:: G_i(z) = g_i(h(z))

    Arguments:
        trunk: h, from codes to features; shared.
        heads: :math:`g_i`, from features to a sample of domain i.
        latent: shape of one code.

    Input and output: (n, \*latent) → a tuple of samples, one tensor a domain.
    """

    def __init__(
        self, trunk: nn.Module, heads: Sequence[nn.Module], latent: int | Sequence[int]
    ) -> None:
        super().__init__()
        check.at_least(1, n_heads=len(heads))
        self.trunk, self.heads, self.latent = trunk, nn.ModuleList(heads), latent

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        h = self.trunk(z)
        return tuple(head(h) for head in self.heads)


class CoupledDiscriminator(nn.Module):
    r"""Discriminators that share their last layers.

    .. math:: D_i(x_i) = d(f_i(x_i))

    Arguments:
        heads: :math:`f_i`, from a sample of domain i to features.
        trunk: d, from features to a score; shared.

    Input and output: a tuple of samples, one tensor a domain → a tuple of scores.
    """

    def __init__(self, heads: Sequence[nn.Module], trunk: nn.Module) -> None:
        super().__init__()
        check.at_least(1, n_heads=len(heads))
        self.heads, self.trunk = nn.ModuleList(heads), trunk

    def forward(self, x: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.trunk(head(v)) for head, v in zip(self.heads, x, strict=True))


def coupled(
    G: CoupledGenerator,
    D: CoupledDiscriminator,
    objective: Objective | None = None,
    *,
    lr: float | tuple[float, float] = 2e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    k: int = 1,
) -> Game:
    r"""A game of two teams: generators that draw from one code, and the discriminators of their domains.

    The losses are those of separate games, added up. No term compares the domains; what makes pairs is the layers
    that the players of a team share. Played on unpaired data of equal length, ``gan.play(game, [x1, x2])``.

    Arguments:
        G: the generators.
        D: the discriminators, in the same order.
        objective: of each domain's game; non-saturating where ``None``.
        lr: step size of both, or (the generators', the discriminators').
        betas, k: as for :func:`lectool.gan.two_player`.

    Raises:
        ValueError: if a number is out of range, or the teams differ in size.

    References:
        Liu & Tuzel (2016), Coupled generative adversarial networks.
    """
    check.lengths(generators=G.heads, discriminators=D.heads)
    objective = objective or NonSaturating()
    lr_G, lr_D = lr if isinstance(lr, tuple) else (lr, lr)

    def make(*real: Tensor, generator: torch.Generator | None = None) -> Made:
        z = draw_latent(len(real[0]), G.latent, like=real[0], generator=generator)
        return {"real": real, "fake": G(z)}

    def discriminators(made: Made) -> Tensor:
        scores = zip(D(made["real"]), D(made["fake"]))
        return sum(objective.discriminator_loss(real, fake) for real, fake in scores)

    def generators(made: Made) -> Tensor:
        real = D(made["real"]) if objective.needs_real else [None] * len(G.heads)
        return sum(map(objective.generator_loss, D(made["fake"]), real))

    makers = {"generators": Player(G, generators, lr=lr_G, betas=betas)}
    judges = {"discriminators": Player(D, discriminators, lr=lr_D, betas=betas)}
    return Game(makers, judges, make, k)
