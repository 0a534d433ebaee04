r"""Network parts that several chapters share."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check

__all__ = ["Rows", "bernoulli_cross_entropy", "count_parameters", "init_he", "init_small", "mlp"]


def bernoulli_cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    r"""Minus the log-probability of black and white pixels, in nats, shape (…, n).

    .. math:: -\sum_j x_j \log \hat x_j + (1 - x_j) \log(1 - \hat x_j), \qquad \hat x = \sigma(a)

    Arguments:
        logits: a, shape (…, n, d); leading axes, such as several codes a sample, carry over to the result.
        x: numbers in [0, 1], shape (n, d); this is not checked here.
    """
    return F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def mlp(
    sizes: Sequence[int],
    activation: Callable[[], nn.Module] = nn.ReLU,
    last: Callable[[], nn.Module] | None = None,
) -> nn.Sequential:
    r"""A chain of linear layers with an activation between each two of them.

    Arguments:
        sizes: widths from input to output, at least two.
        activation: between the layers.
        last: behind the last layer; nothing where ``None``.

    Raises:
        ValueError: if there are fewer than two sizes or one is below 1.

    Example:
        >>> encoder = mlp([784, 256, 32])
    """
    check.sizes(sizes)
    layers: list[nn.Module] = []
    for n_in, n_out in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_in, n_out), activation()]
    layers.pop()
    if last is not None:
        layers.append(last())
    return nn.Sequential(*layers)


class Rows(nn.Sequential):
    r"""Parts that know batches only, for tensors with more leading axes, such as several codes a sample: (…, k)."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.reshape(-1, z.shape[-1])).unflatten(0, z.shape[:-1])


def init_small(module: nn.Module, sd: float = 0.1) -> nn.Module:
    r"""Draws all weights from N(0, ``sd``²) and sets all biases to 0, as in 2006; returns the module."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=sd)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


def count_parameters(module: nn.Module) -> int:
    r"""The number of parameters that training changes."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def init_he(module: nn.Module) -> nn.Module:
    r"""Draws all weights from N(0, 2 / inputs), which keeps a signal's size through rectified linear units,
    and sets all biases to 0; returns the module (He et al., 2015)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module
