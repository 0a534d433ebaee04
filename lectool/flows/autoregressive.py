r"""Autoregressive flows: number j is moved by what the numbers before it say."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check
from lectool.flows.core import Flow, Layer, beside

__all__ = ["InverseAutoregressive", "MaskedAutoregressive", "MaskedMLP", "iaf", "maf"]


class MaskedMLP(nn.Module):
    r"""A perceptron whose j-th outputs depend on the inputs before the j-th only.

    Every unit has a number. Input j has number j, hidden units take 1 … d − 1 in turn and are fed by units of
    at most their own number, outputs j are fed by units of smaller number; the other weights are masked out.
    The context feeds all hidden units.

    Arguments:
        d: inputs, ≥ 1.
        hidden: widths between, at least one.
        per_number: outputs for each input.
        n_context: numbers in the context.
        reverse: whether "before" means to the right.

    Raises:
        ValueError: if a size is out of range.

    References:
        Germain, Gregor, Murray & Larochelle (2015), MADE: masked autoencoder for distribution estimation.
    """

    def __init__(
        self,
        d: int,
        hidden: Sequence[int] = (64, 64),
        per_number: int = 2,
        n_context: int = 0,
        reverse: bool = False,
    ):
        super().__init__()
        check.at_least(1, d=d, n_hidden=len(hidden), smallest_hidden=min(hidden, default=1))
        check.at_least(0, n_context=n_context)
        self.d, self.per_number, self.n_context = d, per_number, n_context
        own = torch.arange(d, 0, -1) if reverse else torch.arange(1, d + 1)
        numbers = [torch.cat([own, torch.zeros(n_context, dtype=torch.long)])]
        numbers += [torch.arange(width) % max(d - 1, 1) + 1 for width in hidden]
        # All first parameters, then all second ones, …
        numbers.append(own.repeat(per_number) - 1)
        layers: list[nn.Module] = []
        for below, above in zip(numbers[:-1], numbers[1:], strict=True):
            layers += [MaskedLinear(above[:, None] >= below), nn.ReLU()]
        self.net = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Shape (n, per_number · d): the first parameter of all numbers, then the second, and so on."""
        return self.net(beside(x, context, self.n_context))


class MaskedLinear(nn.Linear):
    r"""A linear layer of which some weights do not count; the mask has the weights' shape."""

    def __init__(self, mask: Tensor):
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.mask * self.weight, self.bias)


class MaskedAutoregressive(Layer):
    r"""MAF's layer: z_j = exp(s_j) x_j + t_j, where s_j and t_j depend on x_1, …, x_{j-1}.

    All x are known when a density is asked for: ``inverse`` is one pass. ``forward`` has to find the x
    one after another: d passes, of which the j-th makes x_j right.

    Arguments:
        d: numbers in a sample, ≥ 1.
        hidden: widths of the masked network.
        n_context: numbers in the context.
        reverse: whether the last number comes first.

    References:
        Papamakarios, Pavlakou & Murray (2017), Masked autoregressive flow for density estimation.
    """

    def __init__(
        self, d: int, hidden: Sequence[int] = (64, 64), n_context: int = 0, *, reverse: bool = False
    ):
        super().__init__()
        self.net = MaskedMLP(d, hidden, 2, n_context, reverse)

    def scale_and_shift(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""s and t, each of shape (n, d)."""
        s, t = self.net(x, context).chunk(2, 1)
        return torch.asinh(s), t

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift(x, context)
        return x * s.exp() + t, s.sum(1)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = z
        for _ in range(self.net.d):
            s, t = self.scale_and_shift(x, context)
            x = (z - t) * (-s).exp()
        return x, -s.sum(1)


class InverseAutoregressive(MaskedAutoregressive):
    r"""IAF's layer: x_j = exp(s_j) z_j + t_j, where s_j and t_j depend on z_1, …, z_{j-1}.

    Now ``forward`` is one pass, and ``inverse`` takes d: fast samples, slow densities, except of its own
    samples, whose z are known.

    Arguments:
        as :class:`MaskedAutoregressive`.

    References:
        Kingma et al. (2016), Improving variational inference with inverse autoregressive flow.
    """

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift(z, context)
        return z * s.exp() + t, s.sum(1)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = x
        for _ in range(self.net.d):
            s, t = self.scale_and_shift(z, context)
            z = (x - t) * (-s).exp()
        return z, -s.sum(1)


def maf(d: int, n_layers: int = 5, hidden: Sequence[int] = (64, 64), n_context: int = 0) -> Flow:
    r"""Masked autoregressive layers, every second one in reverse order (Papamakarios et al., 2017).

    Arguments:
        d: numbers in a sample, ≥ 1.
        n_layers: ≥ 1.
        hidden: widths of each masked network.
        n_context: numbers in the context.
    """
    return Flow(
        [MaskedAutoregressive(d, hidden, n_context, reverse=bool(i % 2)) for i in range(n_layers)],
        d,
    )


def iaf(d: int, n_layers: int = 5, hidden: Sequence[int] = (64, 64), n_context: int = 0) -> Flow:
    r"""Inverse autoregressive layers, every second one in reverse order (Kingma et al., 2016).

    Arguments:
        as :func:`maf`.
    """
    return Flow(
        [InverseAutoregressive(d, hidden, n_context, reverse=bool(i % 2)) for i in range(n_layers)],
        d,
    )
