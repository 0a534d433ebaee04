r"""Flows for images: squeeze and split, Glow, and the way from integers to real numbers and back."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check
from lectool.flows.core import Chain, Flow, Inverse, Layer
from lectool.flows.couplings import AffineCoupling
from lectool.flows.simple import ActNorm, InvertibleConv, Logit
from lectool.random import noise, uniform

__all__ = ["Dequantized", "Split", "Squeeze", "VariationalNoise", "conv_net", "glow", "glow_step"]


class Squeeze(Layer):
    r"""Trades space for channels: each 2 × 2 block of pixels becomes four channels of one pixel.

    From (n, c, h, w) to (n, 4c, h/2, w/2); nothing is stretched.

    Raises:
        ValueError: if the height or the width is odd; for the inverse, if the channels are not a multiple of 4.
    """

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if z.ndim != 4 or z.shape[2] % 2 or z.shape[3] % 2:
            raise ValueError(
                f"images have shape {tuple(z.shape)}; expected (n, c, h, w), h and w even"
            )
        return F.pixel_unshuffle(z, 2), z.new_zeros(len(z))

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if x.ndim != 4 or x.shape[1] % 4:
            raise ValueError(
                f"images have shape {tuple(x.shape)}; expected a multiple of 4 channels"
            )
        return F.pixel_shuffle(x, 2), x.new_zeros(len(x))


class Split(Layer):
    r"""The first half of the channels goes through further layers, the second half is done.

    On the way from x to z this is where coarse and fine part: what is left behind needs no more work.

    Arguments:
        inner: what happens to the first half; must keep its shape.

    Raises:
        ValueError: if the channels are odd in number.
    """

    def __init__(self, inner: Layer):
        super().__init__()
        self.inner = inner

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.run(self.inner.forward, z, context)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.run(self.inner.inverse, x, context)

    def run(self, go: Callable, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        r"""Sends the first half through the inner layer in one of the two directions."""
        if x.shape[1] % 2:
            raise ValueError(f"{x.shape[1]} channels; expected an even number to split in halves")
        first, second = x.chunk(2, 1)
        first, log_det = go(first, context)
        return torch.cat([first, second], 1), log_det


def conv_net(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    r"""Three convolutions, 3 × 3, 1 × 1 and 3 × 3, the last of which starts at zero.

    Arguments:
        n_in, n_hidden, n_out: channels, ≥ 1.
    """
    net = nn.Sequential(
        nn.Conv2d(n_in, n_hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(n_hidden, n_hidden, 1),
        nn.ReLU(),
        nn.Conv2d(n_hidden, n_out, 3, padding=1),
    )
    nn.init.zeros_(net[-1].weight)
    nn.init.zeros_(net[-1].bias)
    return net


def conv_coupling(channels: int, n_hidden: int, swap: bool = False, n_context: int = 0) -> Layer:
    r"""An affine coupling of channels, whose network is a :func:`conv_net`."""
    stay, move = channels - channels // 2, channels // 2
    if swap:
        stay, move = move, stay
    net = conv_net(stay + n_context, n_hidden, 2 * move)
    return AffineCoupling(channels, net, swap=swap, n_context=n_context)


def glow_step(channels: int, n_hidden: int) -> list[Layer]:
    r"""Glow's layers, from z to x: affine coupling, invertible 1×1 convolution, actnorm.

    Arguments:
        channels: ≥ 2.
        n_hidden: channels within the coupling's network.

    References:
        Kingma & Dhariwal (2018), Glow: generative flow with invertible 1×1 convolutions.
    """
    return [conv_coupling(channels, n_hidden), InvertibleConv(channels), ActNorm(channels)]


def glow(
    shape: Sequence[int] = (1, 28, 28),
    *,
    n_scales: int = 2,
    n_steps: int = 4,
    n_hidden: int = 32,
    alpha: float = 0.05,
) -> Flow:
    r"""A multi-scale flow on images with pixels in [0, 1].

    Each scale squeezes, takes ``n_steps`` of Glow, and leaves half of its channels behind, whose mean and
    scale are first predicted from the other half by one more coupling.

    Arguments:
        shape: channels, height, width; both sides divisible by :math:`2^{\text{n\_scales}}`.
        n_scales, n_steps: ≥ 1.
        n_hidden: channels within each coupling's network.
        alpha: of the :class:`Logit` between pixels and the whole line.

    Raises:
        ValueError: if a size is out of range; when used, if pixels leave [0, 1].

    References:
        Kingma & Dhariwal (2018), Glow: generative flow with invertible 1×1 convolutions.
    """
    c, height, width = shape
    check.at_least(1, n_scales=n_scales, n_steps=n_steps, n_hidden=n_hidden)
    if height % 2**n_scales or width % 2**n_scales:
        raise ValueError(
            f"images have {height} × {width} pixels; expected sides divisible by {2**n_scales}, by 2 for each scale"
        )

    def scale(channels: int, left: int) -> Layer:
        channels, layers = 4 * channels, [Squeeze()]
        if left > 1:
            inner = scale(channels // 2, left - 1)
            layers += [Split(inner), conv_coupling(channels, n_hidden)]
        for _ in range(n_steps):
            layers += glow_step(channels, n_hidden)
        return Chain([*layers, Inverse(Squeeze())])

    return Flow([scale(c, n_scales), Logit(alpha)], shape)


# ----------------------------------------------------------------------------------------- dequantization


class VariationalNoise(nn.Module):
    r"""Noise in (0, 1) whose distribution depends on the image: :math:`u = \sigma(f_x(\epsilon))`, a small flow.

    Arguments:
        channels: of the images, ≥ 1; height and width even.
        levels: gray values, to bring them to [0, 1] for the network.
        n_hidden: channels within the networks.
        n_layers: couplings, ≥ 0; with none, each pixel has its own mean and scale.

    References:
        Ho, Chen, Srinivas, Duan & Abbeel (2019), Flow++, section 3.1.
    """

    def __init__(self, channels: int, levels: int = 256, n_hidden: int = 16, n_layers: int = 2):
        super().__init__()
        self.levels = levels
        c = 4 * channels
        self.start = conv_net(c, n_hidden, 2 * c)
        self.layers = nn.ModuleList(
            conv_coupling(c, n_hidden, swap=bool(i % 2), n_context=c) for i in range(n_layers)
        )

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        r"""Noise of x's shape, (n, c, h, w), and its log-density in nats, shape (n,)."""
        context = F.pixel_unshuffle(x / self.levels - 0.5, 2)
        epsilon = noise(context.shape, context, generator)
        mean, s = self.start(context).chunk(2, 1)
        # At first nearly uniform: σ(1.6 ε).
        s = s + math.log(1.6)
        v = mean + s.exp() * epsilon
        log_q = -(0.5 * epsilon.square() + 0.5 * math.log(2 * math.pi) + s).flatten(1).sum(1)
        for layer in self.layers:
            v, log_det = layer(v, context)
            log_q = log_q - log_det
        log_q = log_q - (F.logsigmoid(v) + F.logsigmoid(-v)).flatten(1).sum(1)
        return F.pixel_shuffle(torch.sigmoid(v), 2), log_q


class Dequantized(nn.Module):
    r"""A flow on images with whole gray values: noise fills the gaps between them.

    With :math:`y = (x + u) / \text{levels}` and noise u in [0, 1), Jensen's inequality gives

    .. math:: \log P(x) \ge \mathbb E_{q(u \mid x)} \bigl[ \log p(y) - \log q(u \mid x) \bigr] - d \log \text{levels}.

    Arguments:
        flow: a density on images with pixels in [0, 1].
        levels: gray values 0 … levels − 1.
        noise: called with x, returns u and log q(u | x); uniform noise, with log q = 0, where ``None``.

    Raises:
        ValueError: if there are fewer than two levels; for data that are not whole numbers in that range.

    References:
        Theis, van den Oord & Bethge (2016), A note on the evaluation of generative models, section 3.1.
    """

    def __init__(self, flow: Flow, levels: int = 256, noise: nn.Module | None = None):
        super().__init__()
        check.at_least(2, levels=levels)
        self.flow, self.levels, self.noise = flow, levels, noise

    def dequantize(
        self, x: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Images in [0, 1), shape (n, c, h, w), and log q of their noise, shape (n,)."""
        check.data(x, n_dims=1 + len(self.flow.shape), low=0, high=self.levels - 1)
        if not torch.equal(x, x.round()):
            raise ValueError(
                f"x holds {int((x != x.round()).sum())} values that are not whole; expected 0 … {self.levels - 1}"
            )
        if self.noise is None:
            u, log_q = uniform(x.shape, x, generator), x.new_zeros(len(x))
        else:
            u, log_q = self.noise(x) if generator is None else self.noise(x, generator)
        return (x + u) / self.levels, log_q

    def log_prob(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""One draw's estimate of the lower bound of log P(x), in nats, shape (n,)."""
        y, log_q = self.dequantize(x, generator)
        return self.flow.log_prob(y) - log_q - self.flow.d * math.log(self.levels)

    def bits(self, x: Tensor) -> Tensor:
        r"""Bits a pixel and channel, shape (n,): an upper bound of what a perfect code would take."""
        return -self.log_prob(x) / (self.flow.d * math.log(2))

    def loss(self, x: Tensor) -> dict[str, Tensor]:
        r"""``loss``, nats a pixel, and ``bits``, a pixel: the same in other units."""
        nll = -self.log_prob(x).mean()
        return {"loss": nll / self.flow.d, "bits": nll.detach() / (self.flow.d * math.log(2))}

    @torch.no_grad()
    def sample(
        self, n: int, temperature: float = 1.0, *, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Images of whole gray values, shape (n, c, h, w)."""
        y = self.flow.sample(n, temperature, generator=generator)
        return (y * self.levels).floor().clamp(0, self.levels - 1)
