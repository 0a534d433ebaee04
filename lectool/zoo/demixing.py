r"""Chapter 15: two generators whose sum has to look like a mixture, and the way back from a mixture to its parts."""

import torch
from torch import Tensor, nn

from lectool import check, train
from lectool.gan import Game, Objective, Player, draw_latent
from lectool.zoo.inverse import project

__all__ = ["Pair", "demix", "demixing_game", "train_encoder"]


class Pair(nn.Module):
    r"""Two generators side by side: a code for each, and the sum of what they make.

    Arguments:
        G1, G2: map codes (n, k) to parts of one shape, (n, …); each has an attribute ``latent``, its k.

    Input and output: (n, k1 + k2) → (n, …).
    """

    def __init__(self, G1: nn.Module, G2: nn.Module) -> None:
        super().__init__()
        self.G1, self.G2 = G1, G2
        self.latent = G1.latent + G2.latent

    def parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""What each of the two makes of its share of the code."""
        z1, z2 = z.split([self.G1.latent, self.G2.latent], dim=1)
        return self.G1(z1), self.G2(z2)

    def forward(self, z: Tensor) -> Tensor:
        x1, x2 = self.parts(z)
        return x1 + x2


def demixing_game(
    pair: Pair,
    D: nn.Module,
    objective: Objective,
    *,
    D1: nn.Module | None = None,
    lr: float | tuple[float, float] = 1e-3,
    betas: tuple[float, float] = (0.5, 0.999),
) -> Game:
    r"""Two generators make mixtures together; one discriminator looks at mixtures, another at first parts.

    Played with data [y], mixtures, or where there is a D1 with [y, x1], mixtures and samples of the first part, which
    need not be those of the mixtures.

    Arguments:
        pair: the two generators.
        D: judges sums, (n, …) → (n, 1).
        objective: of both discriminators; its generator's loss may look at fakes only.
        D1: judges what the first generator makes; ``None`` where nobody has seen a part alone.
        lr: step size of all, or (the generators', the discriminators').
        betas: of Adam.

    References:
        Soltani, Jain, Sambasivan (2019), Learning generative models of structured signals from their superposition
        using GANs with application to denoising and demixing.
    """
    lr_G, lr_D = lr if isinstance(lr, tuple) else (lr, lr)

    def make(y: Tensor, *given: Tensor, generator: torch.Generator | None = None) -> dict:
        x1, x2 = pair.parts(draw_latent(len(y), pair.latent, like=y, generator=generator))
        return {"y": y, "sum": x1 + x2, "part": x1, "given": given}

    def on_sums(made: dict) -> Tensor:
        return objective.discriminator_loss(D(made["y"]), D(made["sum"]))

    def on_part(made: dict) -> Tensor:
        return objective.discriminator_loss(D1(made["given"][0]), D1(made["part"]))

    def together(made: dict) -> dict[str, Tensor]:
        terms = {"sums": objective.generator_loss(D(made["sum"]))}
        return terms | ({"part": objective.generator_loss(D1(made["part"]))} if D1 else {})

    settings = {"lr": lr_D, "betas": betas}
    judges = {"of sums": Player(D, on_sums, **settings)}
    judges |= {"of the part": Player(D1, on_part, **settings)} if D1 else {}
    return Game({"generators": Player(pair, together, lr=lr_G, betas=betas)}, judges, make)


def train_encoder(
    encoder: nn.Module,
    G: nn.Module,
    *,
    noise: float = 0.0,
    steps: int = 500,
    batch_size: int = 128,
    lr: float = 2e-3,
) -> nn.Module:
    r"""Teaches a network to guess the code from what a generator makes of it; returns the network.

    It learns from codes drawn at random, so that there are as many pairs as one likes.

    Arguments:
        encoder: (n, …) → (n, latent).
        G: a generator with an attribute ``latent``, such as a :class:`Pair`; it stands still.
        noise: standard deviation, ≥ 0, of noise put on what the encoder sees.
        steps, batch_size, lr: as in :func:`lectool.train.fit`.
    """
    check.non_negative(noise=noise)

    def loss(z: Tensor) -> Tensor:
        with torch.no_grad():
            x = G(z)
            x = x + noise * torch.randn_like(x)
        return (encoder(x) - z).square().mean()

    like = next(G.parameters())
    z = draw_latent(steps * batch_size, G.latent, like=like)
    train.fit(encoder, z, steps=steps, batch_size=batch_size, lr=lr, loss=loss, schedule="linear")
    return encoder


def demix(
    y: Tensor,
    G: nn.Module,
    starts: Tensor,
    *,
    n_steps: int = 100,
    lr: float = 0.05,
    lam: float = 0.0,
) -> tuple[Tensor, Tensor]:
    r"""Searches the code whose image is a given one, from several starts at once, and keeps the best for each.

    .. math:: z^* = \arg\min_z \lVert y - G(z) \rVert^2 + \lambda \lVert z \rVert^2

    Arguments:
        y: what is to be explained, shape (n, …).
        G: a generator, such as a :class:`Pair`; its weights stand still.
        starts: shape (s, n, latent), s of them for each y.
        n_steps: of Adam, ≥ 0, for all codes at once.
        lr: step size, > 0.
        lam: λ ≥ 0, the price of codes that are unlikely.

    Returns:
        the codes, shape (n, latent), and the squared error of each without the price, shape (n,).

    Raises:
        ValueError: if the shapes do not fit, or a setting is out of range.
    """
    check.non_negative(lam=lam)
    check.shape("s", len(y), G.latent, starts=starts)
    targets = y.repeat(len(starts), *[1] * (y.ndim - 1))
    found = project(G, targets, starts.flatten(0, 1), prior=2 * lam, n_steps=n_steps, lr=lr)
    z, error = found.z, found.errors[-1]
    price = (error + lam * z.square().sum(1)).view(len(starts), -1)
    rows = price.argmin(0) * len(y) + torch.arange(len(y), device=y.device)
    return z[rows], error[rows]
