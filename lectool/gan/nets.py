r"""Generators, discriminators and their layers."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lectool import check

__all__ = [
    "DCDiscriminator",
    "DCGenerator",
    "MinibatchDiscrimination",
    "ReferenceBatchNorm",
    "VirtualBatchNorm",
    "WithReference",
]


# ------------------------------------------------------------------------- a look at the whole batch


class MinibatchDiscrimination(nn.Module):
    r"""Appends to each sample's features how near the other samples of its batch are.

    .. math::
        o_b(x_i) = \frac1{n - 1} \sum_{j \ne i} \exp(-\lVert M_{ib} - M_{jb} \rVert_1), \qquad
        M_i = x_i T \in \mathbb R^{B \times C}

    Fakes that are all alike betray themselves by large o, however good each of them is.

    Arguments:
        n_in: number of features.
        n_out: B, the number of similarities appended.
        n_kernel: C, the numbers compared for each of them.

    Input and output: (n, n_in) → (n, n_in + n_out). The paper has the sum; with the mean the size of the batch
    does not matter.

    References:
        Salimans et al. (2016), Improved techniques for training GANs, section 3.2.
    """

    def __init__(self, n_in: int, n_out: int = 8, n_kernel: int = 4) -> None:
        super().__init__()
        check.at_least(1, n_in=n_in, n_out=n_out, n_kernel=n_kernel)
        self.T = nn.Parameter(torch.randn(n_in, n_out, n_kernel) / math.sqrt(n_in))

    def forward(self, x: Tensor) -> Tensor:
        M = torch.einsum("ni,ibc->cbn", x, self.T)
        distance = sum((m[:, :, None] - m[:, None, :]).abs() for m in M.unbind())
        o = (torch.exp(-distance).sum(2) - 1) / max(len(x) - 1, 1)  # without the sample itself
        return torch.cat([x, o.T], 1)


# --------------------------------------------------------------------------------- normalization


class ReferenceBatchNorm(nn.Module):
    r"""Batch norm by the statistics of a fixed reference batch, the first ``n_reference`` rows of its input.

    Samples do not depend on their neighbors in the batch. Works on (n, channels) and (n, channels, height, width).

    Arguments:
        n_channels: c.
        n_reference: rows of the input that are the reference, at least 2 (of one pixel each).
        eps: added to the variance.

    References:
        Goodfellow (2016), NIPS 2016 tutorial, section 4.3; Salimans et al. (2016), section 3.4.
    """

    def __init__(self, n_channels: int, n_reference: int, eps: float = 1e-5) -> None:
        super().__init__()
        check.at_least(1, n_channels=n_channels)
        check.at_least(2, n_reference=n_reference)
        self.n_reference, self.eps = n_reference, eps
        self.scale = nn.Parameter(torch.ones(n_channels))
        self.shift = nn.Parameter(torch.zeros(n_channels))

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Mean and mean square of each row's channels, by which it is normalized, shapes (n or 1, c)."""
        reference = x[: self.n_reference].flatten(2)
        return reference.mean((0, 2))[None], reference.square().mean((0, 2))[None]

    def forward(self, x: Tensor) -> Tensor:
        flat = x if x.ndim == 2 else x.flatten(2)
        mean, square = self.moments(flat[:, :, None] if x.ndim == 2 else flat)
        shape = (*mean.shape, *[1] * (x.ndim - 2))
        std = (square - mean**2).clamp(min=0).add(self.eps).sqrt()
        channel = (-1, *[1] * (x.ndim - 2))
        normal = (x - mean.reshape(shape)) / std.reshape(shape)
        return normal * self.scale.reshape(channel) + self.shift.reshape(channel)


class VirtualBatchNorm(ReferenceBatchNorm):
    r"""Batch norm by the statistics of the reference batch and of the sample itself, as one more row of it.

    Still no sample depends on its neighbors, and none is measured by the reference alone, to which a
    generator can otherwise fit itself. The reference's own rows are normalized by the reference.

    References:
        Salimans et al. (2016), Improved techniques for training GANs, section 3.4.
    """

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n = self.n_reference
        mean, square = super().moments(x)
        rows = x[n:]
        means = torch.cat([mean.expand(n, -1), (n * mean + rows.mean(2)) / (n + 1)])
        squares = torch.cat([square.expand(n, -1), (n * square + rows.square().mean(2)) / (n + 1)])
        return means, squares


class WithReference(nn.Module):
    r"""A network whose reference batch travels with every input: put first, taken off at the end.

    Arguments:
        net: with :class:`ReferenceBatchNorm` or :class:`VirtualBatchNorm` layers of the same ``n_reference``.
        reference: the batch, drawn once, shape (n_reference, …).

    Raises:
        ValueError: if a layer expects another number of rows.
    """

    def __init__(self, net: nn.Module, reference: Tensor) -> None:
        super().__init__()
        for part in net.modules():
            if isinstance(part, ReferenceBatchNorm) and part.n_reference != len(reference):
                raise ValueError(
                    f"the reference has {len(reference)} rows, {type(part).__name__} expects {part.n_reference}"
                )
        self.net = net
        self.register_buffer("reference", reference)
        self.latent = tuple(reference.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.cat([self.reference, x]))[len(self.reference) :]


# ------------------------------------------------------------------------------------------- DCGAN


def init_dcgan(module: nn.Module) -> nn.Module:
    r"""Weights from N(0, 0.02²), scales of batch norm from N(1, 0.02²), biases 0 (Radford et al., 2016)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=0.02)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
        if getattr(part, "bias", None) is not None:
            nn.init.zeros_(part.bias)
    return module


class DCGenerator(nn.Sequential):
    r"""Codes to images of 28 × 28 by strided transposed convolutions, 7 × 7 → 14 × 14 → 28 × 28, in [−1, 1].

    Batch norm behind every layer but the last, ReLU, tanh at the end. At full resolution nothing is wider than the
    image itself, since that is where the time goes.

    Arguments:
        latent: length of a code.
        width: channels at 14 × 14; 7 × 7 has twice as many.
        norm: called with the number of channels; ``nn.BatchNorm2d`` where ``None``.

    Input and output: (n, latent) → (n, 1, 28, 28).

    References:
        Radford, Metz, Chintala (2016), Unsupervised representation learning with deep convolutional GANs.
    """

    def __init__(
        self, latent: int = 32, width: int = 16, norm: Callable[[int], nn.Module] | None = None
    ) -> None:
        norm = norm or nn.BatchNorm2d
        super().__init__(
            nn.Unflatten(1, (latent, 1, 1)),
            nn.ConvTranspose2d(latent, 2 * width, 7, bias=False),
            norm(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            norm(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        self.latent = latent
        init_dcgan(self)


class DCDiscriminator(nn.Sequential):
    r"""Images of 28 × 28 to a logit by strided convolutions with leaky ReLU, 14 × 14 → 7 × 7 → 3 × 3.

    Batch norm everywhere but at the input, where it would hide the brightness and the contrast of a batch. A unit of
    the last convolution sees up to 22 × 22 pixels, one of the convolution before it up to 10 × 10.

    Arguments:
        width: channels at 14 × 14, twice as many at 7 × 7, four times at 3 × 3.
        norm: as in :class:`DCGenerator`.

    Input and output: (n, 1, 28, 28) → (n, 1).
    """

    def __init__(self, width: int = 16, norm: Callable[[int], nn.Module] | None = None) -> None:
        norm = norm or nn.BatchNorm2d
        super().__init__(
            nn.Conv2d(1, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            norm(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, stride=2, padding=1, bias=False),
            norm(4 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * width * 9, 1),
        )
        init_dcgan(self)
