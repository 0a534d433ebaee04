r"""Chapter 12: vector-quantized codes, their codebook, and an autoregressive prior over them."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, random
from lectool.nets import bernoulli_cross_entropy
from lectool.vae.discrete import gumbel

__all__ = ["VQVAE", "CodePrior", "MaskedConv2d", "VectorQuantizer", "grid_networks", "perplexity"]


def perplexity(indices: Tensor, n_codes: int) -> Tensor:
    r"""How many codes are in use, as a number between 1 and ``n_codes``: :math:`\exp(-\sum_j f_j \log f_j)`.

    Arguments:
        indices: integers in 0 … n_codes − 1, any shape.
        n_codes: the size of the codebook.

    Returns:
        a scalar: ``n_codes`` if all codes are equally frequent, 1 if there is only one.
    """
    f = torch.bincount(indices.flatten(), minlength=n_codes).double()
    f = f / f.sum()
    return torch.special.entr(f).sum().exp()


class VectorQuantizer(nn.Module):
    r"""Replaces each vector by the nearest of K code vectors, and learns these.

    The arg min has no gradient. The straight-through rule pretends that it is the identity: what arrives at
    the code vector is handed to the encoder. Two terms replace what is missing: the code vectors go to the
    vectors that chose them, by an exponential moving average (k-means, one batch at a time) or by gradient;
    and the commitment cost keeps the encoder near its choice.

    .. math:: N_j \leftarrow \gamma N_j + (1 - \gamma)\, n_j, \quad
        m_j \leftarrow \gamma m_j + (1 - \gamma) \sum_{i:\, c_i = j} z_i, \quad e_j = m_j / N_j

    Arguments:
        n_codes: K ≥ 2.
        size: numbers in a code vector.
        decay: γ in (0, 1) of the moving averages; ``None`` trains the codebook by gradient.
        restart: whether a code that hardly any vector has chosen of late moves to a random one of the batch;
            the codebook then also starts from the first batch's vectors, of which some are taken more than once
            where there are fewer than codes. Only in training mode.

    Raises:
        ValueError: if a size is too small or γ is not in (0, 1).

    References:
        van den Oord, Vinyals & Kavukcuoglu (2017), Neural discrete representation learning, section 3 and
        appendix A.1.
    """

    def __init__(
        self, n_codes: int, size: int, *, decay: float | None = 0.95, restart: bool = True
    ):
        super().__init__()
        check.at_least(2, n_codes=n_codes)
        check.at_least(1, size=size)
        if decay is not None:
            check.inside("(0, 1)", decay=decay)
        self.decay, self.restart = decay, restart
        self.codebook = nn.Parameter(torch.randn(n_codes, size), requires_grad=decay is None)
        self.register_buffer("counts", torch.zeros(n_codes))
        self.register_buffer("sums", torch.zeros(n_codes, size))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def nearest(self, z: Tensor) -> Tensor:
        r"""The index of the nearest code vector, shape (n,), for vectors of shape (n, size)."""
        e = self.codebook
        return (e.square().sum(1) - 2 * z @ e.T).argmin(1)

    def forward(
        self, z: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""Quantizes vectors of shape (n, size).

        Returns:
            the code vectors with straight-through gradient, shape (n, size); their indices, shape (n,);
            and the squared distances :math:`\lVert z - \mathrm{sg}[e] \rVert^2`, which moves the encoder, and
            :math:`\lVert \mathrm{sg}[z] - e \rVert^2`, which moves the codebook, shape (n,) each.
        """
        fixed = z.detach()
        if self.training and self.restart and not self.started:
            self.start(fixed, generator)
        indices = self.nearest(fixed)
        e = self.codebook[indices]
        if self.training:
            self.learn(fixed, indices, generator)
        to_code = (z - e.detach()).square().sum(1)
        return z + (e - z).detach(), indices, to_code, (fixed - e).square().sum(1)

    @torch.no_grad()
    def start(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        r"""Puts the codes on vectors of a batch, a little beside them: two that chose one vector can part."""
        n_codes, n = len(self.codebook), len(z)
        order = random.uniform(n, z, generator).argsort()
        rows = order.repeat(-(-n_codes // n))[:n_codes]
        jitter = 0.01 * z.std(correction=0) * random.noise(self.codebook.shape, z, generator)
        self.codebook.copy_(z[rows] + jitter)
        self.counts.fill_(1.0)
        self.sums.copy_(self.codebook)
        self.started.fill_(True)

    @torch.no_grad()
    def learn(self, z: Tensor, indices: Tensor, generator: torch.Generator | None = None) -> None:
        r"""Moves each code to the running mean of the vectors that chose it."""
        decay = 0.95 if self.decay is None else self.decay
        n = torch.bincount(indices, minlength=len(self.codebook)).to(self.counts)
        self.counts.mul_(decay).add_(n, alpha=1 - decay)
        if self.decay is not None:
            sums = torch.zeros_like(self.sums).index_add_(0, indices, z.to(self.sums))
            self.sums.mul_(decay).add_(sums, alpha=1 - decay)
            # a code that nobody chooses stays where it is
            chosen = self.counts > 1e-3
            self.codebook[chosen] = (self.sums[chosen] / self.counts[chosen, None]).to(z)
        if self.restart:
            self.revive(z, generator)

    @torch.no_grad()
    def revive(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        r"""Moves the codes that hardly any vector has chosen of late to vectors of this batch."""
        dead = self.counts < 0.01 * self.counts.mean()
        n_dead = int(dead.sum())
        if n_dead:
            self.codebook[dead] = z[random.integers(len(z), n_dead, z.device, generator)]
            self.counts[dead] = self.counts.mean()
            self.sums[dead] = self.codebook[dead] * self.counts[dead, None]


class VQVAE(nn.Module):
    r"""An autoencoder whose code is a grid of indices into a learned codebook.

    .. math:: L(x) = -\log p(x \mid e_{c(x)}) + \beta \sum_{i} \lVert z_i - \mathrm{sg}[e_{c_i}] \rVert^2
        \;\bigl(+ \sum_i \lVert \mathrm{sg}[z_i] - e_{c_i} \rVert^2 \text{ without moving averages}\bigr)

    with sg for "no gradient through this". With a uniform prior over K codes at s places, and a posterior
    that is certain, the bound on log p(x) is :math:`\log p(x \mid e_{c(x)}) - s \log K`.

    Arguments:
        encoder: from images in [0, 1], shape (n, d), to a grid of vectors, shape (n, size, rows, columns).
        decoder: from such a grid to Bernoulli logits, shape (n, d).
        quantizer: a :class:`VectorQuantizer`.
        beta: weight β ≥ 0 of the commitment cost.

    Raises:
        ValueError: if β < 0; for data outside [0, 1].

    References:
        van den Oord, Vinyals & Kavukcuoglu (2017), equation 3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        quantizer: VectorQuantizer,
        *,
        beta: float = 0.25,
    ):
        super().__init__()
        check.non_negative(beta=beta)
        self.encoder, self.decoder, self.quantizer, self.beta = encoder, decoder, quantizer, beta

    @property
    def n_codes(self) -> int:
        return len(self.quantizer.codebook)

    def vectors(self, x: Tensor) -> tuple[Tensor, torch.Size]:
        r"""The encoder's vectors, one a row, shape (n · rows · columns, size), and (n, rows, columns)."""
        z = self.encoder(check.data(x, low=0.0, high=1.0)).permute(0, 2, 3, 1)
        return z.flatten(0, 2), z.shape[:3]

    def quantize(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        r"""The grid of code vectors, shape (n, size, rows, columns), the indices, shape (n, rows, columns), and
        both of the quantizer's squared distances, summed over an image, shape (n,) each."""
        z, places = self.vectors(x)
        e, indices, to_code, to_vector = self.quantizer(z, generator)
        grid = e.reshape(*places, -1).permute(0, 3, 1, 2)
        distances = (v.reshape(len(x), -1).sum(1) for v in (to_code, to_vector))
        return grid, indices.reshape(places), *distances

    def encode(self, x: Tensor) -> Tensor:
        r"""The indices, shape (n, rows, columns); the codebook learns nothing from it."""
        z, places = self.vectors(x)
        return self.quantizer.nearest(z.detach()).reshape(places)

    def decode(self, indices: Tensor) -> Tensor:
        r"""Pixel probabilities, shape (n, d), of indices, shape (n, rows, columns)."""
        return torch.sigmoid(self.decoder(self.quantizer.codebook[indices].permute(0, 3, 1, 2)))

    def reconstruct(self, x: Tensor) -> Tensor:
        r"""``decode(encode(x))``."""
        return self.decode(self.encode(x))

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        r"""The terms ``loss``, ``reconstruction`` (nats), ``commitment`` and ``perplexity`` of a batch."""
        grid, indices, to_code, to_vector = self.quantize(x, generator)
        reconstruction = bernoulli_cross_entropy(self.decoder(grid), x).mean()
        commitment = to_code.mean()
        loss = reconstruction + self.beta * commitment
        if self.quantizer.decay is None:
            loss = loss + to_vector.mean()
        return {
            "loss": loss,
            "reconstruction": reconstruction,
            "commitment": commitment,
            "perplexity": perplexity(indices, self.n_codes).to(loss),
        }

    @torch.no_grad()
    def usage(self, x: Tensor) -> dict[str, float]:
        r"""``perplexity`` and ``share`` of the codes that some place of x uses; warns of a
        collapsed codebook where the perplexity is below a fifth of the codes."""
        indices = self.encode(x)
        value = perplexity(indices, self.n_codes).item()
        share = len(indices.unique()) / self.n_codes
        if value < 0.2 * self.n_codes:
            warnings.warn(
                f"the codebook has collapsed: perplexity {value:.1f} of {self.n_codes} codes; "
                "start it from data and restart unused codes (restart=True)",
                stacklevel=3,
            )
        return {"perplexity": value, "share": share}


def grid_networks(width: int = 32, size: int = 16) -> tuple[nn.Module, nn.Module]:
    r"""A small encoder from 28×28 images, shape (n, 784), to a grid of 7×7 vectors, and a decoder back.

    Arguments:
        width: channels of the hidden layers.
        size: numbers in a code vector.
    """
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, width, 4, stride=4),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, size, 1),
    )
    decoder = nn.Sequential(
        nn.Conv2d(size, width, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(width // 2, 1, 4, stride=2, padding=1),
        nn.Flatten(),
    )
    return encoder, decoder


class MaskedConv2d(nn.Conv2d):
    r"""A convolution that sees only what comes before, row by row; with ``own`` also the place itself."""

    def __init__(self, n_in: int, n_out: int, size: int, *, own: bool):
        super().__init__(n_in, n_out, size, padding=size // 2)
        middle = size // 2
        mask = torch.ones(size, size)
        mask[middle, middle + int(own) :] = 0
        mask[middle + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class CodePrior(nn.Module):
    r"""A distribution over grids of codes: each code given those above it and to its left.

    .. math:: \log p(c) = \sum_i \log p(c_i \mid c_1, \dots, c_{i-1})

    A code's own place is hidden from the first masked convolution; the later ones may look at what the first
    has made of it. A learned vector for each place says where in the grid one is.

    Arguments:
        n_codes: K, the size of the codebook.
        shape: (rows, columns) of the grid.
        width: channels.
        n_layers: masked convolutions behind the first, ≥ 0.

    Raises:
        ValueError: if a size is out of range; for indices of another shape or outside 0 … K − 1.

    References:
        van den Oord, Kalchbrenner & Kavukcuoglu (2016), Pixel recurrent neural networks, section 3.5.
    """

    def __init__(
        self, n_codes: int, shape: tuple[int, int] = (7, 7), *, width: int = 48, n_layers: int = 2
    ):
        super().__init__()
        check.at_least(2, n_codes=n_codes)
        check.at_least(1, rows=shape[0], columns=shape[1], width=width)
        check.at_least(0, n_layers=n_layers)
        self.n_codes, self.shape = n_codes, tuple(shape)
        self.embedding = nn.Embedding(n_codes, width)
        self.place = nn.Parameter(0.1 * torch.randn(width, *shape))
        self.first = MaskedConv2d(width, width, 5, own=False)
        self.rest = nn.ModuleList(MaskedConv2d(width, width, 3, own=True) for _ in range(n_layers))
        self.last = nn.Conv2d(width, n_codes, 1)

    def logits(self, indices: Tensor) -> Tensor:
        r"""Scores of every code at every place, shape (n, K, rows, columns)."""
        h = self.first(self.embedding(indices).permute(0, 3, 1, 2)) + self.place
        for layer in self.rest:
            h = h + layer(F.relu(h))
        return self.last(F.relu(h))

    def log_prob(self, indices: Tensor) -> Tensor:
        r""":math:`\log p(c)` in nats, one number a grid, shape (n,)."""
        if indices.shape[1:] != self.shape or indices.is_floating_point():
            raise ValueError(
                f"indices have shape {tuple(indices.shape)} and type {indices.dtype}; "
                f"expected integers of shape (n, {self.shape[0]}, {self.shape[1]})"
            )
        low, high = (int(v) for v in torch.aminmax(indices))
        if low < 0 or high >= self.n_codes:
            raise ValueError(f"indices lie in [{low}, {high}]; expected 0 … {self.n_codes - 1}")
        return -F.cross_entropy(self.logits(indices), indices, reduction="none").sum((1, 2))

    def loss(self, indices: Tensor) -> Tensor:
        r"""Mean of :math:`-\log p(c)` over the batch, in nats."""
        return -self.log_prob(indices).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Grids of codes, one place after the other, shape (n, rows, columns)."""
        indices = torch.zeros(n, *self.shape, dtype=torch.int64, device=self.place.device)
        for row in range(self.shape[0]):
            for column in range(self.shape[1]):
                scores = self.logits(indices)[:, :, row, column]
                scores = scores + gumbel(scores.shape, scores, generator)
                indices[:, row, column] = scores.argmax(1)
        return indices
