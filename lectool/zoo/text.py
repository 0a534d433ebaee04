r"""Text to image: captions of digits and what they say, an encoder of captions, and a GAN that is asked in words."""

import re
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lectool import check
from lectool.gan.game import Game, Made, Player, draw_latent
from lectool.gan.nets import DCGenerator, init_dcgan
from lectool.random import integers, noise

__all__ = [
    "NAMES",
    "TRAITS",
    "CaptionEncoder",
    "Captions",
    "ImageEncoder",
    "TextDiscriminator",
    "TextGenerator",
    "Vocabulary",
    "between",
    "gan_cls",
    "matching_loss",
    "mode_seeking",
    "retrieved",
    "traits",
]

# Two names of each digit; for each trait two words of the lowest third and two of the highest.
NAMES = tuple(
    zip("zero one two three four five six seven eight nine".split(), "0123456789", strict=True)
)
TRAITS = {
    "width": (("narrow", "slim"), ("wide", "broad")),
    "slant": (("upright", "straight"), ("slanted", "leaning")),
    "thickness": (("thin", "fine"), ("thick", "bold")),
}
WORD = re.compile(r"\w+")


# ------------------------------------------------------------------------------ what can be measured


def traits(images: Tensor, *, faint: float = 0.1) -> Tensor:
    r"""Width, slant and stroke thickness of what is drawn, measured on the pixels.

    With the ink of a pixel as its mass, and x counted to the right and y upward,

    .. math::
        \text{slant} = \frac{\operatorname{cov}(x, y)}{\operatorname{var}(y)}, \qquad
        \text{width}^2 = \operatorname{var}(x) - \frac{\operatorname{cov}(x, y)^2}{\operatorname{var}(y)}, \qquad
        \text{thickness} = \frac{2\, \text{area}}{\text{length of the outline}}

    The slant is the tangent of the angle by which the drawing leans to the right; the width is what is left of its
    spread when it is sheared upright. A stroke of length L and thickness w, w ≪ L, has the area w L and an outline of
    2 L; the outline is the sum of the lengths of the gradient (total variation).

    Arguments:
        images: in [−1, 1], −1 for no ink, shape (n, 1, h, w).
        faint: ink up to this does not count, in [0, 1).

    Returns:
        shape (n, 3): width in pixels (a standard deviation), slant (a tangent), thickness in pixels; 0 for an empty
        image, and no slant where all ink lies in one row.

    Raises:
        ValueError: if the images do not have one channel or ``faint`` is out of range.
    """
    check.shape("n", 1, "height", "width", images=images)
    check.inside("[0, 1)", faint=faint)
    ink = ((1 + images[:, 0]) / 2 - faint).clamp(min=0)
    area = ink.sum((1, 2))
    mass = area.clamp(min=1e-6)
    x, y = (torch.arange(n, dtype=ink.dtype, device=ink.device) for n in ink.shape[:0:-1])

    def mean(values: Tensor) -> Tensor:
        return (ink * values).sum((1, 2)) / mass

    x = x[None, None, :] - mean(x[None, None, :])[:, None, None]
    y = mean(y[None, :, None])[:, None, None] - y[None, :, None]
    slant = mean(x * y) / mean(y**2).clamp(min=1e-6)
    width = (mean(x**2) - slant * mean(x * y)).clamp(min=0).sqrt()
    return torch.stack([width, slant, 2 * area / outline(ink).clamp(min=1e-6)], 1)


def outline(ink: Tensor) -> Tensor:
    r"""Total variation: the summed length of the gradient by forward differences, shape (n, h, w) → (n,)."""
    padded = F.pad(ink, (1, 1, 1, 1))
    right = padded[:, :-1, 1:] - padded[:, :-1, :-1]
    down = padded[:, 1:, :-1] - padded[:, :-1, :-1]
    return (right**2 + down**2).sqrt().sum((1, 2))


# ---------------------------------------------------------------------------------- captions


class Captions:
    r"""Writes captions: which words fit a drawing, in one of many wordings.

    A word of a trait is used where the drawing belongs to the lowest or the highest third of *its own class*: a wide
    one is wide for a one. Of the middle third nothing is said. Digits, traits and levels go by number: levels are 0
    (lowest third), 1 (middle) and 2 (highest), the traits those of ``TRAITS`` in their order.

    Arguments:
        values: traits of training images, shape (n, 3).
        labels: their classes, shape (n,), each of 0 … 9 at least three times.

    Attributes:
        thirds: where the thirds of each class part, shape (10, 3, 2).

    Raises:
        ValueError: if a class is missing.
    """

    def __init__(self, values: Tensor, labels: Tensor) -> None:
        check.lengths(values=values, labels=labels)
        counts = torch.bincount(labels, minlength=len(NAMES))
        if len(counts) > len(NAMES) or counts.min() < 3:
            raise ValueError(
                f"the classes have {counts.tolist()} images; expected 10 classes of at least 3"
            )
        parts = torch.tensor([1 / 3, 2 / 3], dtype=values.dtype, device=values.device)
        self.thirds = torch.stack(
            [values[labels == c].quantile(parts, dim=0).T for c in range(len(NAMES))]
        )

    def levels(self, values: Tensor, labels: Tensor) -> Tensor:
        r"""In which third of its class each drawing lies, integers 0, 1, 2, shape (n, 3)."""
        return (values[:, :, None] > self.thirds[labels]).sum(2)

    def write(
        self,
        labels: Tensor,
        levels: Tensor,
        *,
        unheard: bool = False,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        r"""One caption each, in a random wording: words, their order and the form of the sentence.

        Some pairs of words are kept back: the second word of trait j is not used of digit c where c + j is odd.

        Arguments:
            labels: digits, shape (n,).
            levels: shape (n, 3), integers 0, 1, 2.
            unheard: whether to use second words throughout, and so the pairs that were kept back.
            generator: of the wording; torch's global one where ``None``.
        """
        chance = integers(2, (len(labels), 4), generator=generator).tolist()
        order = noise((len(labels), 3), generator=generator).argsort(1).tolist()
        form = integers(3, len(labels), generator=generator).tolist()
        lines = zip(labels.tolist(), levels.tolist(), chance, order, form, strict=True)
        return [_sentence(*line, unheard=unheard) for line in lines]


def _sentence(
    digit: int, levels: list[int], chance: list[int], order: list[int], form: int, *, unheard: bool
) -> str:
    choices, words = list(TRAITS.values()), []
    for j in order:
        if levels[j] != 1:
            which = 1 if unheard else chance[j] * ((digit + j) % 2 == 0)
            words.append(choices[j][levels[j] // 2][which])
    name = NAMES[digit][chance[3]]
    if form == 0 or not words:
        return " ".join(["a", *words, name])
    return f"{name}, {', '.join(words)}" if form == 1 else f"this {name} is {' and '.join(words)}"


class Vocabulary:
    r"""Numbers whole words from 1 on, in order of appearance; 0 fills up short captions.

    Arguments:
        captions: from which the words are taken.

    Raises:
        ValueError: if there is no word.
    """

    def __init__(self, captions: Iterable[str]) -> None:
        words = dict.fromkeys(word for line in captions for word in WORD.findall(line.lower()))
        if not words:
            raise ValueError("captions hold no word; expected at least one")
        self.number = {word: i for i, word in enumerate(words, 1)}

    def __len__(self) -> int:
        return len(self.number) + 1

    def encode(self, captions: Sequence[str]) -> Tensor:
        r"""Word numbers, shape (n, words of the longest caption), int64.

        Raises:
            ValueError: if a word is unknown; the message names it.
        """
        lines = [WORD.findall(line.lower()) for line in captions]
        if unknown := {word for line in lines for word in line} - set(self.number):
            raise ValueError(
                f"unknown words: {', '.join(sorted(unknown))}; known are {', '.join(self.number)}"
            )
        longest = max(map(len, lines))
        rows = [
            [self.number[word] for word in line] + [0] * (longest - len(line)) for line in lines
        ]
        return torch.tensor(rows)


# ------------------------------------------------------------------------ one space for both


class CaptionEncoder(nn.Module):
    r"""A bag of words: the sum of the words' vectors through a small network, φ(t).

    Word order is lost, which costs nothing where it carries no meaning.

    Arguments:
        n_words: size of the vocabulary, with the number 0.
        width: of a word's vector and of the hidden layer.
        embedding: length of φ.

    Input and output: word numbers (n, words) → (n, embedding), of length 1.
    """

    def __init__(self, n_words: int, width: int = 64, embedding: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(n_words, width, padding_idx=0)
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, embedding))

    def forward(self, words: Tensor) -> Tensor:
        return F.normalize(self.net(self.words(words).sum(1)), dim=1)


class ImageEncoder(nn.Sequential):
    r"""Images of 28 × 28 to a vector of length 1 in the same space, by strided convolutions.

    Input and output: (n, 1, 28, 28) → (n, embedding).
    """

    def __init__(self, width: int = 16, embedding: int = 32) -> None:
        super().__init__(
            *(nn.Conv2d(1, width, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()),
            nn.Linear(2 * width * 49, embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(super().forward(x), dim=1)


def matching_loss(v: Tensor, phi: Tensor, temperature: float = 0.1) -> Tensor:
    r"""Each image must find its caption among those of the batch, and each caption its image.

    .. math:: -\frac1{2n} \sum_i \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
        + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}, \qquad s_{ij} = \frac{v_i^\top \varphi_j}{T}

    Two captions of a batch may say the same; then the best loss is not 0.

    Arguments:
        v, phi: embeddings of images and of their captions, shape (n, embedding), of length 1.
        temperature: T > 0.

    Returns:
        a scalar, in nats.

    References:
        Reed, Akata, Schiele, Lee (2016), Learning deep representations of fine-grained visual descriptions, who have
        a margin between class means in its place.
    """
    check.positive(temperature=temperature)
    scores, own = v @ phi.T / temperature, torch.arange(len(v), device=v.device)
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


@torch.no_grad()
def retrieved(v: Tensor, phi: Tensor, n_others: int = 9) -> float:
    r"""Share of images that find their own caption among it and ``n_others`` of the next images, in [0, 1]."""
    check.inside(f"[1, {len(v) - 1}]", n_others=n_others)
    own = (v * phi).sum(1)
    others = torch.stack([(v * phi.roll(-i - 1, 0)).sum(1) for i in range(n_others)])
    return (own > others.amax(0)).double().mean().item()


# ----------------------------------------------------------------------------- the two networks


class Projection(nn.Sequential):
    r"""An embedding of length 1 to a few numbers of ordinary size, (n, embedding) → (n, n_text)."""

    def __init__(self, embedding: int, n_text: int) -> None:
        super().__init__(nn.Linear(embedding, n_text), nn.LeakyReLU(0.2))

    def forward(self, phi: Tensor) -> Tensor:
        return super().forward(phi.shape[1] ** 0.5 * phi)


class TextGenerator(nn.Module):
    r"""Codes and a caption's embedding to images: φ is projected to a few numbers and appended to z.

    From there on a DCGAN: 7 × 7 → 14 × 14 → 28 × 28, or up to 14 × 14 only.

    Arguments:
        latent: length of z.
        embedding: length of φ.
        n_text: length of its projection.
        width: channels at 14 × 14; 7 × 7 has twice as many.
        size: of the images, 14 or 28.

    Input and output: (n, latent), (n, embedding) → (n, 1, size, size) in [−1, 1].
    """

    def __init__(
        self,
        latent: int = 8,
        embedding: int = 32,
        n_text: int = 32,
        width: int = 12,
        size: int = 28,
    ) -> None:
        super().__init__()
        check.one_of((14, 28), size=size)
        self.latent = latent
        self.project = Projection(embedding, n_text)
        n_in, low = latent + n_text, 2 * width
        if size == 28:
            self.net = DCGenerator(n_in, width)
            return
        first = [nn.ConvTranspose2d(n_in, low, 7, bias=False), nn.BatchNorm2d(low), nn.ReLU()]
        last = [nn.ConvTranspose2d(low, 1, 4, stride=2, padding=1), nn.Tanh()]
        self.net = init_dcgan(nn.Sequential(nn.Unflatten(1, (n_in, 1, 1)), *first, *last))

    def forward(self, z: Tensor, phi: Tensor) -> Tensor:
        return self.net(torch.cat([z, self.project(phi)], 1))


class TextDiscriminator(nn.Module):
    r"""Does this look real, and is it what the caption says? One score for both questions.

    The image becomes a map of 7 × 7; the projected caption is put, the same everywhere, behind the channels of every
    place ("depth concatenation"), and convolutions look at both together.

    Arguments:
        embedding: length of φ.
        n_text: length of its projection.
        width: channels at 14 × 14; 7 × 7 has twice as many.
        size: of the images, 14 or 28.

    Input and output: (n, 1, size, size), (n, embedding) → (n, 1), a logit.
    """

    def __init__(
        self, embedding: int = 32, n_text: int = 32, width: int = 12, size: int = 28
    ) -> None:
        super().__init__()
        check.one_of((14, 28), size=size)
        self.project = Projection(embedding, n_text)
        first = [nn.Conv2d(1, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        n_in, n = (width, 2 * width) if size == 28 else (1, 2 * width)
        self.look = nn.Sequential(
            *(first if size == 28 else []),
            *(nn.Conv2d(n_in, n, 4, stride=2, padding=1), nn.BatchNorm2d(n), nn.LeakyReLU(0.2)),
        )
        self.compare = nn.Sequential(
            *(nn.Conv2d(n + n_text, n, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(n, n, 3, stride=2, padding=1), nn.BatchNorm2d(n), nn.LeakyReLU(0.2)),
            *(nn.Flatten(), nn.Linear(16 * n, 1)),
        )

    def judge(self, h: Tensor, phi: Tensor) -> Tensor:
        r"""Scores of what was seen in images, h = ``look(x)``, beside captions."""
        text = self.project(phi)[:, :, None, None].expand(-1, -1, *h.shape[2:])
        return self.compare(torch.cat([h, text], 1))

    def forward(self, x: Tensor, phi: Tensor) -> Tensor:
        return self.judge(self.look(x), phi)


# ------------------------------------------------------------------------------------ the game


def gan_cls(
    G: nn.Module,
    D: nn.Module,
    *,
    wrong: bool = True,
    blend: float = 0.0,
    extra: Callable[[Made], Tensor] | None = None,
    lr: tuple[float, float] = (1e-3, 1e-3),
    betas: tuple[float, float] = (0.5, 0.999),
) -> Game:
    r"""The game of images and captions (GAN-CLS): the discriminator judges three kinds of pairs.

    .. math::
        L_D = -\mathbb E \log D(x, t) - \tfrac12 \mathbb E \log (1 - D(x, \tilde t))
        - \tfrac12 \mathbb E \log (1 - D(G(z, t), t)), \qquad L_G = -\mathbb E \log D(G(z, t), t)

    with a real image x and its caption t, and the caption :math:`\tilde t` of another image of the batch, which may say
    the same by chance. Data and conditions of the game: images (n, 1, h, w) and embeddings φ(t), (n, embedding).

    Arguments:
        G, D: as :class:`TextGenerator` and :class:`TextDiscriminator`.
        wrong: whether real images with wrong captions are shown to D as false; without, the last term has weight 1.
        blend: weight of the generator's loss on mean embeddings of two captions (GAN-INT), ≥ 0.
        extra: a term of what has been made, added to the generator's loss.
        lr, betas: (G's, D's) step sizes and Adam's settings.

    References:
        Reed, Akata, Yan, Logeswaran, Schiele, Lee (2016), Generative adversarial text to image synthesis, algorithm 1
        and equation 5.
    """
    check.non_negative(blend=blend)

    def make(real: Tensor, right: Tensor, *, generator: torch.Generator | None = None) -> Made:
        z = draw_latent(len(real), G.latent, like=real, generator=generator)
        return {
            "real": real,
            "right": right,
            "wrong": right.roll(1, 0),
            "z": z,
            "fake": G(z, right),
        }

    def discriminator_loss(made: Made) -> dict[str, Tensor]:
        return cls_loss(D, made, wrong=wrong)

    def generator_loss(made: Made) -> dict[str, Tensor]:
        terms = {"generator": F.softplus(-D(made["fake"], made["right"])).mean()}
        if blend:
            phi = between(made["right"], made["wrong"], 0.5)
            terms["between"] = blend * F.softplus(-D(G(made["z"], phi), phi)).mean()
        return terms | ({} if extra is None else {"extra": extra(made)})

    return Game(
        makers={"generator": Player(G, generator_loss, lr=lr[0], betas=betas)},
        judges={"discriminator": Player(D, discriminator_loss, lr=lr[1], betas=betas)},
        make=make,
    )


def cls_loss(D: nn.Module, made: Made, *, wrong: bool = True) -> dict[str, Tensor]:
    r"""The discriminator's loss of :func:`gan_cls`; what it sees in a real image serves both captions."""
    h = D.look(made["real"])
    false = {"fake": F.softplus(D(made["fake"], made["right"])).mean()}
    if wrong:
        false["wrong"] = F.softplus(D.judge(h, made["wrong"])).mean()
    true = F.softplus(-D.judge(h, made["right"])).mean()
    return {"right": true} | {name: loss / len(false) for name, loss in false.items()}


def between(phi_0: Tensor, phi_1: Tensor, t: float) -> Tensor:
    r"""A point on the way between embeddings, (1 − t) φ₀ + t φ₁, brought back to length 1."""
    return F.normalize((1 - t) * phi_0 + t * phi_1, dim=1)


def mode_seeking(G: nn.Module, made: Made, *, eps: float = 0.01) -> Tensor:
    r"""A price on ignoring the noise: two codes for one caption should make two pictures.

    A term for ``extra`` of :func:`gan_cls`.

    .. math:: \mathbb E\, \frac{\lVert z - z' \rVert_1 / k}{\lVert G(z, t) - G(z', t) \rVert_1 / d + \epsilon}

    with the mean differences of k noise numbers and of d pixels. The second pictures are made for half of the batch.

    Arguments:
        G: generator, called as ``G(z, φ)``.
        made: what lies on the table, with the codes z.
        eps: ε > 0, below which a difference of pixels is none.

    Returns:
        a scalar.

    References:
        Mao, Lee, Tseng, Ma, Yang (2019), Mode seeking generative adversarial networks for diverse image synthesis.
    """
    check.positive(eps=eps)
    half = slice(0, max(len(made["z"]) // 2, 1))
    z, other = made["z"][half], made["z"].roll(1, 0)[half]
    moved = made["fake"][half] - G(other, made["right"][half])
    return ((z - other).abs().mean(1) / (moved.abs().flatten(1).mean(1) + eps)).mean()
