r"""Chapter 15: BigGAN, a class-conditional GAN made of many small parts, each of which can be taken out."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import is_parametrized
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lectool import check
from lectool.gan import Game, Hinge, Objective, Player, draw_latent, spectral_normalize
from lectool.nets import init_small
from lectool.random import noise

__all__ = [
    "BigDiscriminator",
    "BigGenerator",
    "ConditionalBatchNorm",
    "DownBlock",
    "SelfAttention",
    "UpBlock",
    "averaged",
    "big_gan",
    "orthogonal_init",
    "orthogonal_penalty",
    "orthogonality",
    "standing_statistics",
    "truncated_latent",
]

conv3 = partial(nn.Conv2d, kernel_size=3, padding=1)
conv1 = partial(nn.Conv2d, kernel_size=1)
twice = partial(F.interpolate, scale_factor=2)  # each pixel becomes four
half = partial(F.avg_pool2d, kernel_size=2)


# ------------------------------------------------------------------------------------------ layers


class ConditionalBatchNorm(nn.Module):
    r"""Batch norm whose gains and shifts are linear in a condition.

    .. math:: h_c \leftarrow (1 + w_c^\top s)\, \frac{h_c - \mu_c}{\sigma_c} + v_c^\top s

    The mean and the standard deviation are those of the whole batch, whatever its classes; what depends on the
    condition s is where the normalized channels are moved to.

    Arguments:
        n_channels: channels c.
        n_condition: length of s.

    Input and output: h (n, channels, height, width) and s (n, n_condition) → as h.

    References:
        Dumoulin, Shlens, Kudlur (2017), A learned representation for artistic style; de Vries et al. (2017),
        Modulating early visual processing by language.
    """

    def __init__(self, n_channels: int, n_condition: int) -> None:
        super().__init__()
        check.at_least(1, n_channels=n_channels, n_condition=n_condition)
        self.norm = nn.BatchNorm2d(n_channels, affine=False)
        self.gain = nn.Linear(n_condition, n_channels, bias=False)
        self.shift = nn.Linear(n_condition, n_channels, bias=False)

    def forward(self, h: Tensor, s: Tensor) -> Tensor:
        gain, shift = 1 + self.gain(s), self.shift(s)
        return gain[:, :, None, None] * self.norm(h) + shift[:, :, None, None]


class PlainBatchNorm(nn.BatchNorm2d):
    r"""Batch norm that ignores the condition: what is left where :class:`ConditionalBatchNorm` is taken out."""

    def __init__(self, n_channels: int, n_condition: int) -> None:
        super().__init__(n_channels)

    def forward(self, h: Tensor, s: Tensor) -> Tensor:
        return super().forward(h)


class UpBlock(nn.Module):
    r"""A residual block at whose end an image is twice as large: (n, n_in, h, w) → (n, n_out, 2 h, 2 w).

    Arguments:
        n_in, n_out: channels.
        n_condition: length of the condition s of its two norms.
        norm: called with channels and n_condition.

    References:
        Brock, Donahue, Simonyan (2019), figure 15 (b).
    """

    def __init__(
        self, n_in: int, n_out: int, n_condition: int, norm: type[nn.Module] = ConditionalBatchNorm
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(n_in, n_condition), norm(n_out, n_condition)
        self.conv1, self.conv2 = conv3(n_in, n_out), conv3(n_out, n_out)
        self.skip = conv1(n_in, n_out)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        h = self.conv1(twice(F.relu(self.norm1(x, s))))
        h = self.conv2(F.relu(self.norm2(h, s)))
        # The 1 × 1 convolution gives the same before and after doubling, and is cheaper before.
        return h + twice(self.skip(x))


class DownBlock(nn.Module):
    r"""A residual block, without norms, at whose end an image is half as large, or as large as before.

    Arguments:
        n_in, n_out: channels.
        down: whether the image is halved, by the mean of four pixels.
        first: whether the input is the image itself, which is not rectified.

    References:
        Brock, Donahue, Simonyan (2019), figure 15 (c).
    """

    def __init__(self, n_in: int, n_out: int, *, down: bool = True, first: bool = False) -> None:
        super().__init__()
        self.first, self.pool = first, half if down else nn.Identity()
        self.conv1, self.conv2 = conv3(n_in, n_out), conv3(n_out, n_out)
        self.skip = conv1(n_in, n_out) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(x if self.first else F.relu(x))
        h = self.conv2(F.relu(h))
        return self.pool(h) + self.skip(self.pool(x))


class SelfAttention(nn.Module):
    r"""Lets each position of an image look at all others: a non-local block.

    .. math:: a_{ij} = \operatorname{softmax}_j (q_i^\top k_j), \qquad
        x_i \leftarrow x_i + \gamma\, O \sum_j a_{ij} v_j

    with queries q, keys k and values v, linear in the channels; keys and values are means of 2 × 2 positions, which
    makes the table a quarter as large. :math:`\gamma` is 0 at the start: the network begins with convolutions, which
    see only their neighbors, and may then learn to look further.

    Arguments:
        n_channels: c ≥ 1; queries and keys have c / 4 channels, values c / 2.

    Input and output: (n, c, h, w).

    References:
        Zhang, Goodfellow, Metaxas, Odena (2019), Self-attention generative adversarial networks.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        check.at_least(1, n_channels=n_channels)
        few, some = max(n_channels // 4, 1), max(n_channels // 2, 1)
        self.sizes = [few, few, some]
        self.seen = conv1(n_channels, 2 * few + some, bias=False)  # queries, keys, values
        self.out = conv1(some, n_channels, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def looks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Where each position looks, and what it sees there.

        Returns:
            a, shares of shape (n, h w, h w / 4), of which each row sums to 1; v, values of shape (n, c / 2, h w / 4).
        """
        q, k, v = self.seen(x).split(self.sizes, 1)
        q, k, v = q.flatten(2), half(k).flatten(2), half(v).flatten(2)
        return (q.transpose(1, 2) @ k).softmax(-1), v

    def forward(self, x: Tensor) -> Tensor:
        a, v = self.looks(x)
        h = (v @ a.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.out(h)


# ---------------------------------------------------------------------------------------- networks


class BigGenerator(nn.Module):
    r"""Codes and classes to images of 16 × 16 in [−1, 1], through residual blocks 4 × 4 → 8 × 8 → 16 × 16.

    One embedding of the class is shared by all norms. The code is split into three chunks: the first is drawn as an
    image of 4 × 4, and each of the others goes, beside the embedding, to the norms of one block.

    Arguments:
        width: ch ≥ 1, channels at 16 × 16; 8 × 8 has twice, 4 × 4 four times as many.
        chunk: length of one of the three chunks of the code.
        n_embed: length of the embedding.
        n_classes: classes are 0 … n_classes − 1.
        skip_z: whether the blocks get chunks; otherwise the whole code goes in at the bottom.
        conditional_norm: whether the norms look at embedding and chunk; otherwise both are heard at the bottom only.
        attention: whether there is a :class:`SelfAttention` at 8 × 8.

    Input and output: z (n, 3 chunk) and y (n,), whole numbers → (n, 1, 16, 16).

    References:
        Brock, Donahue, Simonyan (2019), Large scale GAN training for high fidelity natural image synthesis, table 4.
    """

    def __init__(
        self,
        width: int = 8,
        chunk: int = 8,
        n_embed: int = 16,
        n_classes: int = 10,
        *,
        skip_z: bool = True,
        conditional_norm: bool = True,
        attention: bool = True,
    ) -> None:
        super().__init__()
        check.at_least(1, width=width, chunk=chunk, n_embed=n_embed, n_classes=n_classes)
        self.skip_z, self.latent, self.n_classes = skip_z and conditional_norm, 3 * chunk, n_classes
        bottom, above = (chunk, chunk) if self.skip_z else (3 * chunk, 0)
        norm = ConditionalBatchNorm if conditional_norm else PlainBatchNorm
        self.embed = nn.Linear(n_classes, n_embed, bias=False)  # of a class, one-hot: a table
        self.first = nn.Linear(n_embed + bottom, 4 * width * 16)
        self.up1 = UpBlock(4 * width, 2 * width, n_embed + above, norm)
        self.attention = SelfAttention(2 * width) if attention else nn.Identity()
        self.up2 = UpBlock(2 * width, width, n_embed + above, norm)
        self.norm, self.last = nn.BatchNorm2d(width), conv3(width, 1)

    def conditions(self, z: Tensor, y: Tensor) -> list[Tensor]:
        r"""What the bottom and each block are told: embedding and chunk, three of shape (n, …)."""
        e = self.embed(F.one_hot(y, self.n_classes).to(z.dtype))
        chunks = z.chunk(3, 1) if self.skip_z else [z, z[:, :0], z[:, :0]]
        return [torch.cat([e, part], 1) for part in chunks]

    def draw(self, conditions: Sequence[Tensor]) -> Tensor:
        r"""The image of what the bottom and the two blocks have been told."""
        bottom, low, high = conditions
        h = self.first(bottom).unflatten(1, (-1, 4, 4))
        h = self.attention(self.up1(h, low))
        h = self.up2(h, high)
        return torch.tanh(self.last(F.relu(self.norm(h))))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.draw(self.conditions(z, y))


class BigDiscriminator(nn.Module):
    r"""Images of 16 × 16 and classes to scores, through residual blocks 16 × 16 → 8 × 8 → 4 × 4 → 4 × 4.

    .. math:: f(x, y) = \operatorname{Embed}(y)^\top h(x) + w^\top h(x) + b

    with h, the sum of the last channels over all positions: a projection discriminator.

    Arguments:
        width: ch ≥ 1; the blocks end with ch, 4 ch and 4 ch channels.
        n_classes: as there.
        projection: whether the class is looked at.
        attention: whether there is a :class:`SelfAttention` at 8 × 8.

    Input and output: x (n, 1, 16, 16) and y (n,) → (n, 1).

    References:
        Miyato, Koyama (2018), cGANs with projection discriminator; Brock, Donahue, Simonyan (2019), table 4.
    """

    def __init__(
        self,
        width: int = 8,
        n_classes: int = 10,
        *,
        projection: bool = True,
        attention: bool = True,
    ) -> None:
        super().__init__()
        check.at_least(1, width=width, n_classes=n_classes)
        self.n_classes = n_classes
        self.down1 = DownBlock(1, width, first=True)
        self.attention = SelfAttention(width) if attention else nn.Identity()
        self.down2 = DownBlock(width, 4 * width)
        self.block = DownBlock(4 * width, 4 * width, down=False)
        self.linear = nn.Linear(4 * width, 1)
        self.embed = nn.Linear(n_classes, 4 * width, bias=False) if projection else None

    def features(self, x: Tensor) -> Tensor:
        r"""h, shape (n, 4 width)."""
        h = self.block(self.down2(self.attention(self.down1(x))))
        return F.relu(h).sum((2, 3))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.features(x)
        score = self.linear(h)
        if self.embed is not None:
            e = self.embed(F.one_hot(y, self.n_classes).to(h.dtype))
            score = score + (e * h).sum(1, keepdim=True)
        return score


# ------------------------------------------------------------------------------- orthogonal weights


@torch.no_grad()
def orthogonal_init(net: nn.Module) -> nn.Module:
    r"""Random orthogonal matrices for all weights: no direction is stretched at the start; biases 0; returns the net.

    References:
        Saxe, McClelland, Ganguli (2014), Exact solutions to the nonlinear dynamics of learning.
    """
    for part in net.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.orthogonal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return net


def orthogonal_penalty(W: Tensor, diagonal: bool = False) -> Tensor:
    r"""How far the filters of a layer are from being orthogonal to each other.

    .. math:: R(W) = \lVert W W^\top \odot (\mathbf 1 - I) \rVert_F^2 \qquad \text{or, with the diagonal,} \qquad
        \lVert W W^\top - I \rVert_F^2

    where a filter is a row of W and :math:`\mathbf 1` the matrix of ones. The first leaves the lengths of the filters
    alone. Where there are more rows than columns, so that they cannot all be orthogonal, the columns are taken.

    Arguments:
        W: filters as rows, shape (outputs, rest).
        diagonal: whether each filter is drawn to length 1 too.

    Returns:
        a scalar ≥ 0.

    References:
        Brock et al. (2017), Neural photo editing with introspective adversarial networks (with the diagonal);
        Brock, Donahue, Simonyan (2019), equation 3.
    """
    check.shape("outputs", "rest", W=W)
    W = W if len(W) <= W.shape[1] else W.T
    eye = torch.eye(len(W), dtype=W.dtype, device=W.device)
    gram = W @ W.T
    return (gram - eye).square().sum() if diagonal else (gram * (1 - eye)).square().sum()


def orthogonality(G: nn.Module, diagonal: bool = False) -> Tensor:
    r"""The sum of :func:`orthogonal_penalty` over the generator's layers.

    Its weights are taken as training moves them, before spectral norms divide them; the class embedding and what makes
    gains and shifts of it are left out.
    """
    weights = [raw_weight(layer).flatten(1) for layer in layers(G)]
    return sum(orthogonal_penalty(W, diagonal) for W in weights)


def raw_weight(layer: nn.Module) -> Tensor:
    r"""The weights that training moves, also where a spectral norm divides them."""
    return layer.parametrizations.weight.original if is_parametrized(layer) else layer.weight


# -------------------------------------------------------------------------------------------- game


def big_gan(
    width: int = 8,
    *,
    skip_z: bool = True,
    conditional_norm: bool = True,
    attention: Sequence[str] = "G",
    projection: bool = True,
    spectral: Sequence[str] = "GD",
    orthogonal: bool = True,
    beta: float = 1e-4,
    objective: Objective | None = None,
    k: int = 2,
    lr: tuple[float, float] = (4e-3, 4e-3),
    betas: tuple[float, float] = (0.0, 0.9),
    n_classes: int = 10,
) -> tuple[BigGenerator, BigDiscriminator, Game]:
    r"""A small BigGAN with all its parts, of which each setting takes one out.

    Arguments:
        width: ch of both networks, ≥ 1.
        skip_z, conditional_norm: see :class:`BigGenerator`.
        attention: which network has a :class:`SelfAttention`: ``"G"``, ``"D"``, ``"GD"`` or ``""``. The paper has it
            in both.
        projection: see :class:`BigDiscriminator`.
        spectral: whose weights are divided by their spectral norm: ``"G"``, ``"D"``, both or ``""``.
        orthogonal: whether to start from orthogonal matrices, otherwise from N(0, 0.02²).
        beta: β ≥ 0, weight of :func:`orthogonality` in the generator's loss.
        objective: the hinge loss where ``None``.
        k: updates of D for each of G.
        lr: step sizes of (G, D).
        betas: of Adam. The paper has (0, 0.999); a game of some hundred steps cannot wait for so long an average.
        n_classes: number of classes.

    Returns:
        G, D and the game, to be played with data and classes.

    Raises:
        ValueError: if a setting is out of range.
    """
    check.non_negative(beta=beta)
    G = BigGenerator(
        width,
        n_classes=n_classes,
        skip_z=skip_z,
        conditional_norm=conditional_norm,
        attention="G" in attention,
    )
    D = BigDiscriminator(width, n_classes, projection=projection, attention="D" in attention)
    for name, net in (("G", G), ("D", D)):
        orthogonal_init(net) if orthogonal else init_small(net, 0.02)
        if name in spectral:
            for layer in layers(net):
                spectral_normalize(layer)
    return G, D, big_game(G, D, objective or Hinge(), beta, k, lr, betas)


def big_game(
    G: BigGenerator,
    D: BigDiscriminator,
    objective: Objective,
    beta: float,
    k: int,
    lr: tuple[float, float],
    betas: tuple[float, float],
) -> Game:
    r"""A game in which the fakes have the classes of the real batch."""

    def make(x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        z = draw_latent(len(x), G.latent, like=x, generator=generator)
        return {"x": x, "fake": G(z, y), "y": y}

    def judge(made: dict[str, Tensor]) -> Tensor:
        scores = D(torch.cat([made["x"], made["fake"]]), made["y"].repeat(2))
        return objective.discriminator_loss(*scores.chunk(2))

    def maker(made: dict[str, Tensor]) -> dict[str, Tensor]:
        own = objective.generator_loss(D(made["fake"], made["y"]))
        return {"generator": own} | ({"orthogonal": beta * orthogonality(G)} if beta else {})

    makers = {"generator": Player(G, maker, lr=lr[0], betas=betas)}
    judges = {"discriminator": Player(D, judge, lr=lr[1], betas=betas)}
    return Game(makers, judges, make, k=k)


def layers(net: nn.Module) -> list[nn.Module]:
    r"""Linear layers and convolutions, without the generator's embedding and what makes its gains and shifts."""
    norms = [m for m in net.modules() if isinstance(m, ConditionalBatchNorm)]
    left = {m for norm in norms for m in norm.modules()}
    if isinstance(net, BigGenerator):
        left.add(net.embed)
    return [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d) and m not in left]


# ---------------------------------------------------------------------------------------- sampling


def truncated_latent(
    n: int,
    latent: int | Sequence[int],
    threshold: float,
    *,
    like: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Codes from N(0, I), each number drawn anew until it lies within a threshold.

    Arguments:
        n, latent, like, generator: as for :func:`lectool.gan.draw_latent`.
        threshold: > 0; each number of a code lies in [−threshold, threshold].

    Raises:
        ValueError: if ``threshold`` is not positive.

    References:
        Brock, Donahue, Simonyan (2019), section 3.1.
    """
    check.inside("(0, ∞]", threshold=threshold)
    z = draw_latent(n, latent, like=like, generator=generator)
    while (outside := z.abs() > threshold).any():
        z[outside] = noise(int(outside.sum()), z, generator)
    return z


def averaged(G: nn.Module, decay: float = 0.99) -> AveragedModel:
    r"""A copy of a generator whose weights are running averages of its own, moved by ``update_parameters(G)``.

    .. math:: \bar\theta \leftarrow \delta \bar\theta + (1 - \delta) \theta

    Arguments:
        decay: δ in [0, 1).
    """
    check.inside("[0, 1)", decay=decay)
    return AveragedModel(G, multi_avg_fn=get_ema_multi_avg_fn(decay))


@torch.no_grad()
def standing_statistics(G: nn.Module, z: Tensor, y: Tensor, batch_size: int = 100) -> nn.Module:
    r"""Sets the means and variances of all batch norms to averages over these codes and classes; returns the net.

    Arguments:
        G: changed in place; left in ``eval()`` mode.
        z, y: drawn as the samples will be, shapes (n, …) and (n,).
        batch_size: codes a pass.

    References:
        Brock, Donahue, Simonyan (2019), appendix B: standing statistics.
    """
    norms = [part for part in G.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [part.momentum for part in norms]
    G.eval()
    for part in norms:
        part.reset_running_stats()
        part.train().momentum = None  # a plain mean over the passes
    for some_z, some_y in zip(z.split(batch_size), y.split(batch_size)):
        G(some_z, some_y)
    for part, momentum in zip(norms, momenta):
        part.momentum = momentum
    return G.eval()
