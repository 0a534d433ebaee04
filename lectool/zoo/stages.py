r"""Large pictures from small ones: StackGAN, LAPGAN, and a GAN that grows while it is trained."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check
from lectool.gan.game import Game, GameRecord, Made, Objective, play, two_player
from lectool.gan.nets import init_dcgan
from lectool.random import noise
from lectool.zoo.text import TextGenerator

__all__ = [
    "ConditioningAugmentation",
    "EqualConv2d",
    "GrowingDiscriminator",
    "GrowingGenerator",
    "MinibatchDeviation",
    "PixelNorm",
    "ResidualDiscriminator",
    "ResidualGenerator",
    "StageOne",
    "StageTwo",
    "climb",
    "down",
    "grow",
    "laplacian_pyramid",
    "rebuild",
    "up",
]


def down(x: Tensor) -> Tensor:
    r"""Half the resolution: means of 2 × 2 pixels, (n, c, 2h, 2w) → (n, c, h, w)."""
    return F.avg_pool2d(x, 2)


def up(x: Tensor) -> Tensor:
    r"""Twice the resolution, by linear interpolation, (n, c, h, w) → (n, c, 2h, 2w)."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


# ------------------------------------------------------------------------------------ StackGAN


class ConditioningAugmentation(nn.Module):
    r"""A caption's embedding as a cloud: a condition c is drawn around it.

    .. math:: c = \mu(\varphi) + \sigma(\varphi) \odot \epsilon, \quad \epsilon \sim N(0, I), \qquad
        \mathrm{KL} = \tfrac12 \sum_j \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2

    The divergence from N(0, I), added to the generator's loss, keeps the clouds wide and near each other, so that the
    space between the captions is filled.

    Arguments:
        embedding: length of φ.
        n_text: length of c.

    References:
        Zhang et al. (2017), StackGAN: text to photo-realistic image synthesis with stacked generative adversarial
        networks, section 3.2.
    """

    def __init__(self, embedding: int = 32, n_text: int = 16) -> None:
        super().__init__()
        check.at_least(1, embedding=embedding, n_text=n_text)
        self.net = nn.Linear(embedding, 2 * n_text)
        self.n_text = n_text

    def moments(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        r"""μ and log σ², shapes (n, n_text)."""
        return self.net(phi.shape[1] ** 0.5 * phi).chunk(2, 1)

    def forward(self, phi: Tensor, epsilon: Tensor) -> Tensor:
        mean, log_variance = self.moments(phi)
        return mean + torch.exp(log_variance / 2) * epsilon

    def kl(self, phi: Tensor) -> Tensor:
        r"""The divergence from N(0, I) in nats, mean over the batch."""
        mean, log_variance = self.moments(phi)
        return (mean**2 + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2


class StageOne(TextGenerator):
    r"""The sketch: a :class:`~lectool.zoo.text.TextGenerator` of 14 × 14 pixels with conditioning augmentation.

    A code is z and, behind it, the noise ε of the augmentation; ``latent`` counts both.

    Arguments:
        n_noise: length of z.
        embedding: length of φ.
        n_text: length of the condition c.
        width: as in TextGenerator.

    Input and output: (n, latent), (n, embedding) → (n, 1, 14, 14) in [−1, 1].
    """

    def __init__(
        self, n_noise: int = 8, embedding: int = 32, n_text: int = 16, width: int = 16
    ) -> None:
        super().__init__(n_noise, embedding, n_text, width, size=14)
        self.project = ConditioningAugmentation(embedding, n_text)
        self.n_noise, self.latent = n_noise, n_noise + n_text

    def forward(self, z: Tensor, phi: Tensor) -> Tensor:
        z, epsilon = z[:, : self.n_noise], z[:, self.n_noise :]
        return self.net(torch.cat([z, self.project(phi, epsilon)], 1))


class StageTwo(nn.Module):
    r"""The picture: the sketch and, once more, the caption, to 28 × 28 pixels.

    The sketch is looked at by convolutions, the caption is put behind each place, and what the two ask for is added to
    the enlarged sketch before the tanh. The first stage stands still, in evaluation mode, and is not a part of this
    module.

    Arguments:
        first: a trained :class:`StageOne`.
        embedding, n_text: as there.
        width: channels at 28 × 28; 14 × 14 has twice as many.
        reads: whether the caption is read again; without, the noise ε stands in its place.

    Input and output: (n, latent), (n, embedding) → (n, 1, 28, 28) in [−1, 1]; the code is the first stage's and,
    behind it, the noise of the second augmentation.
    """

    def __init__(
        self,
        first: StageOne,
        embedding: int = 32,
        n_text: int = 16,
        width: int = 8,
        *,
        reads: bool = True,
    ) -> None:
        super().__init__()
        self.first, self.reads = (first.eval(),), reads  # in a tuple, so that it is not registered
        self.latent = first.latent + n_text
        self.project = ConditioningAugmentation(embedding, n_text)
        n = 2 * width
        self.look = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2))
        self.refine = nn.Sequential(
            *(nn.Conv2d(width + n_text, n, 3, padding=1, bias=False), nn.BatchNorm2d(n), nn.ReLU()),
            *(nn.ConvTranspose2d(n, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, 1, 3, padding=1),
        )
        init_dcgan(self.refine)

    @torch.no_grad()
    def sketch(self, z: Tensor, phi: Tensor) -> Tensor:
        r"""The first stage's picture for the same code, (n, 1, 14, 14)."""
        (first,) = self.first
        return first(z[:, : first.latent], phi)

    def forward(self, z: Tensor, phi: Tensor) -> Tensor:
        sketch, epsilon = self.sketch(z, phi), z[:, -self.project.n_text :]
        c = self.project(phi, epsilon) if self.reads else epsilon
        seen = self.look(sketch)
        text = c[:, :, None, None].expand(-1, -1, *seen.shape[2:])
        return torch.tanh(2 * up(sketch) + self.refine(torch.cat([seen, text], 1)))


# -------------------------------------------------------------------------------------- LAPGAN


def laplacian_pyramid(x: Tensor, n_levels: int = 2) -> list[Tensor]:
    r"""What an image loses at each halving, and what is left.

    .. math:: h_j = x_j - \mathrm{up}(x_{j+1}), \qquad x_{j+1} = \mathrm{down}(x_j), \qquad x_0 = x

    Arguments:
        x: shape (n, c, h, w); h and w divisible by 2 to the power of n_levels.
        n_levels: ≥ 1.

    Returns:
        the residuals from fine to coarse, and the smallest image behind them: :func:`rebuild` is its inverse.

    Raises:
        ValueError: if the sides cannot be halved so often.

    References:
        Burt, Adelson (1983), The Laplacian pyramid as a compact image code.
    """
    check.at_least(1, n_levels=n_levels)
    if any(side % 2**n_levels for side in x.shape[2:]):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected sides divisible by {2**n_levels}")
    parts = []
    for _ in range(n_levels):
        low = down(x)
        parts.append(x - up(low))
        x = low
    return [*parts, x]


def rebuild(parts: Sequence[Tensor]) -> Tensor:
    r"""The image of a pyramid: from the smallest on, enlarge and add the residual."""
    *residuals, x = parts
    for residual in reversed(residuals):
        x = up(x) + residual
    return x


class ResidualGenerator(nn.Sequential):
    r"""The details that an enlarged image lacks, made of a plane of noise and that image.

    Arguments:
        size: side of the images.
        width: channels within.

    Input and output: (n, 1, size, size), (n, 1, size, size) → (n, 1, size, size); details may lie in [−2, 2].

    References:
        Denton, Chintala, Szlam, Fergus (2015), Deep generative image models using a Laplacian pyramid of adversarial
        networks.
    """

    def __init__(self, size: int, width: int = 8) -> None:
        super().__init__(
            *(nn.Conv2d(2, width, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2)),
            nn.Conv2d(width, 1, 3, padding=1),
        )
        self.latent = (1, size, size)

    def forward(self, z: Tensor, low: Tensor) -> Tensor:
        return super().forward(torch.cat([z, low], 1))


class ResidualDiscriminator(nn.Sequential):
    r"""Are these details real ones of this image? Details are added to the enlarged image, and both are shown.

    Arguments:
        size: side of the images, divisible by 4.
        width: channels at half of it.

    Input and output: (n, 1, size, size), (n, 1, size, size) → (n, 1), a logit.
    """

    def __init__(self, size: int, width: int = 12) -> None:
        side = -(-size // 4)
        super().__init__(
            *(nn.Conv2d(2, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Linear(2 * width * side**2, 1)),
        )

    def forward(self, details: Tensor, low: Tensor) -> Tensor:
        return super().forward(torch.cat([low + details, low], 1))


@torch.no_grad()
def climb(
    x: Tensor, generators: Sequence[nn.Module], generator: torch.Generator | None = None
) -> Tensor:
    r"""Enlarges images and draws details into them, level by level.

    Arguments:
        x: small images, shape (n, 1, h, w).
        generators: of details, from coarse to fine; each doubles the sides.
        generator: of the noise.
    """
    for G in generators:
        x = up(x)
        x = x + G(noise((len(x), *G.latent), x, generator), x)
    return x


# ------------------------------------------------------------------------- progressive growing


class EqualConv2d(nn.Module):
    r"""A convolution with weights from N(0, 1) that are scaled when used, by :math:`\sqrt{2 / \text{inputs}}`.

    The function is that of a convolution of the usual start. But Adam moves every weight by about the step size,
    whatever its size: scaled at use, all layers move by the same share of their weights ("equalized learning rate").

    Arguments:
        n_in, n_out: channels.
        size: of the kernel, odd: the image keeps its size.
        gain: √2 before a rectifier, 1 before nothing.
    """

    def __init__(self, n_in: int, n_out: int, size: int = 3, gain: float = 2**0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, size, size))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.scale = gain / (n_in * size**2) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        padding = self.weight.shape[-1] // 2
        return F.conv2d(x, self.scale * self.weight, self.bias, padding=padding)


class PixelNorm(nn.Module):
    r"""Scales the channels of each pixel to a mean square of 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class MinibatchDeviation(nn.Module):
    r"""Appends one channel: how much the batch varies, the standard deviations of all features averaged.

    Input and output: (n, c, h, w) → (n, c + 1, h, w).
    """

    def forward(self, x: Tensor) -> Tensor:
        variance = (x - x.mean(0)).square().mean(0)
        plane = (variance + 1e-8).sqrt().mean().expand(len(x), 1, *x.shape[2:])
        return torch.cat([x, plane], 1)


class Growing(nn.Module):
    r"""A network of which, at ``level`` j, j + 1 resolutions are in use, the newest with the share ``alpha``.

    Attributes:
        level: from 0.
        alpha: α in [0, 1]: 1 once the newest layers are faded in.
    """

    level: int = 0
    alpha: float = 1.0

    def mixed(self, new: Tensor, old: Callable[[], Tensor]) -> Tensor:
        r"""α new + (1 − α) old, where the old is computed only if it counts."""
        if self.alpha >= 1 or self.level == 0:
            return new
        return self.alpha * new + (1 - self.alpha) * old()


class GrowingGenerator(Growing):
    r"""Codes to images of 7 × 7, then 14 × 14, then 28 × 28 pixels.

    Arguments:
        latent: length of a code.
        widths: channels at each resolution.

    Input and output: (n, latent) → (n, 1, 7 · 2^level, 7 · 2^level), not bounded.

    References:
        Karras, Aila, Laine, Lehtinen (2018), Progressive growing of GANs for improved quality, stability, and
        variation.
    """

    def __init__(self, latent: int = 16, widths: Sequence[int] = (32, 16, 8)) -> None:
        super().__init__()
        check.sizes(widths)
        self.latent = latent
        self.base = nn.Sequential(
            *(PixelNorm(), nn.Unflatten(1, (latent, 1, 1)), EqualConv2d(latent, widths[0] * 49, 1)),
            *(nn.Flatten(), nn.Unflatten(1, (widths[0], 7, 7)), nn.LeakyReLU(0.2), PixelNorm()),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(EqualConv2d(a, b), nn.LeakyReLU(0.2), PixelNorm())
            for a, b in zip((widths[0], *widths), widths, strict=False)
        )
        self.to_image = nn.ModuleList(EqualConv2d(n, 1, 1, gain=1.0) for n in widths)

    def forward(self, z: Tensor) -> Tensor:
        h = before = self.blocks[0](self.base(z))
        for block in self.blocks[1 : self.level + 1]:
            h, before = block(up(h)), h
        image = self.to_image[self.level](h)
        return self.mixed(image, lambda: up(self.to_image[self.level - 1](before)))


class GrowingDiscriminator(Growing):
    r"""The way back: images of the level's size down to 7 × 7, and a score.

    Arguments:
        widths: channels at each resolution, from 7 × 7 on.

    Input and output: (n, 1, 7 · 2^level, 7 · 2^level) → (n, 1).
    """

    def __init__(self, widths: Sequence[int] = (32, 16, 8)) -> None:
        super().__init__()
        check.sizes(widths)
        self.from_image = nn.ModuleList(
            nn.Sequential(EqualConv2d(1, n, 1), nn.LeakyReLU(0.2)) for n in widths
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(EqualConv2d(b, a), nn.LeakyReLU(0.2))
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.end = nn.Sequential(
            *(MinibatchDeviation(), EqualConv2d(widths[0] + 1, widths[0]), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Unflatten(1, (49 * widths[0], 1, 1))),
            *(EqualConv2d(49 * widths[0], 1, 1, gain=1.0), nn.Flatten()),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.from_image[self.level](x)
        for j in range(self.level, 0, -1):
            h = down(self.blocks[j - 1](h))
            if j == self.level:
                h = self.mixed(h, lambda: self.from_image[self.level - 1](down(x)))
        return self.end(h)


def grow(
    G: Growing,
    D: Growing,
    objective: Objective,
    x: Tensor,
    *,
    n_steps: Sequence[int],
    fade: float = 0.5,
    schedule: str = "constant",
    each: Callable[[int, Game], Any] | None = None,
    batch_size: int = 64,
    generator: torch.Generator | None = None,
    progress: bool | None = None,
    **moves: Any,
) -> list[GameRecord]:
    r"""One game a resolution, from coarse to fine, with the same two networks.

    While new layers are faded in, the real images are mixed in the same way with their own coarse versions.

    Arguments:
        G, D: with the same resolutions.
        objective, moves: as for :func:`lectool.gan.two_player`.
        x: images of full resolution, shape (n, 1, h, w).
        n_steps: for each resolution.
        fade: the share of a resolution's steps in which α rises from 0 to 1, in (0, 1].
        schedule: of the step sizes at full resolution, as for :func:`lectool.gan.play`; constant before.
        each: called as ``each(n, game)`` with the number of steps since the start.
        batch_size, generator, progress: as for :func:`lectool.gan.play`.
    """
    check.inside("(0, 1]", fade=fade)
    settings = {"batch_size": batch_size, "generator": generator, "progress": progress}
    records: list[GameRecord] = []
    for level, n in enumerate(n_steps):
        G.level = D.level = level
        left = len(n_steps) - 1 - level
        game = two_player(G, D, objective, **moves)
        game.make = faded(game.make, G)
        turn = partial(_turn, G, D, round(fade * n), sum(n_steps[:level]), each)
        pace = "constant" if left else schedule
        records.append(play(game, coarse(x, left), n_steps=n, each=turn, schedule=pace, **settings))
    return records


def _turn(
    G: Growing, D: Growing, n_fade: int, n_before: int, each: Callable | None, n: int, game: Game
) -> None:
    G.alpha = D.alpha = min(1.0, (n + 1) / max(n_fade, 1))
    if each is not None:
        each(n_before + n, game)


def coarse(x: Tensor, n_times: int) -> Tensor:
    r"""Images halved several times."""
    for _ in range(n_times):
        x = down(x)
    return x


def faded(make: Callable[..., Made], G: Growing) -> Callable[..., Made]:
    r"""What lies on the table, with the real images as coarse as the newest layers still are."""

    def table(real: Tensor, **settings: Any) -> Made:
        return make(G.mixed(real, lambda: up(down(real))), **settings)

    return table
