r"""What every flow shares: the contract of a layer, the chain of layers, and the density that it gives."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lectool import check

__all__ = ["Chain", "Flow", "Inverse", "Layer", "jacobian_log_det"]


class Layer(nn.Module):
    r"""An invertible map between z and x, with the logarithm of how much it stretches volume.

    A subclass defines two methods, each with one number a sample, shape (n,), as second answer:

    - ``forward(z, context=None)``: :math:`x = f(z)` and :math:`\log \lvert \det \partial x / \partial z \rvert`;
    - ``inverse(x, context=None)``: :math:`z = f^{-1}(x)` and :math:`\log \lvert \det \partial z / \partial x \rvert`.

    The context, shape (n, …), is something known, such as a class, on which the map may depend.
    """

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


class Inverse(Layer):
    r"""A layer run backwards: its ``forward`` is the other's ``inverse``.

    Arguments:
        layer: the layer to turn round.
    """

    def __init__(self, layer: Layer):
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.layer.inverse(z, context)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.layer.forward(x, context)


class Chain(Layer):
    r"""Layers one after another; their log-determinants add up.

    Arguments:
        layers: from z to x, at least one.

    Raises:
        ValueError: if there is none.
    """

    def __init__(self, layers: Sequence[Layer]):
        super().__init__()
        if len(layers) == 0:
            raise ValueError("layers is empty; expected at least one layer")
        self.layers = nn.ModuleList(layers)

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = 0.0
        for layer in self.layers:
            z, log_det = layer(z, context)
            total = total + log_det
        return z, total

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = 0.0
        for layer in reversed(self.layers):
            x, log_det = layer.inverse(x, context)
            total = total + log_det
        return x, total


class Flow(Chain):
    r"""A density made of a standard normal one and a chain of invertible layers.

    .. math:: \log p(x) = \log N(f^{-1}(x); 0, I)
        + \log \left\lvert \det \frac{\partial f^{-1}}{\partial x} \right\rvert

    Arguments:
        layers: from z to x.
        shape: of one sample: a number d, or channels, height and width.
        base: any ``torch.distributions`` distribution over batches of that shape in place of the normal one.

    Raises:
        ValueError: if the shape is not positive.

    References:
        Rezende & Mohamed (2015), Variational inference with normalizing flows.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shape: int | Sequence[int],
        base: torch.distributions.Distribution | None = None,
    ):
        super().__init__(layers)
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if len(self.shape) == 0 or min(self.shape) < 1:
            raise ValueError(f"shape is {self.shape}; expected sizes of at least 1")
        self.base = base

    @property
    def d(self) -> int:
        r"""Numbers in one sample."""
        return math.prod(self.shape)

    def base_log_prob(self, z: Tensor) -> Tensor:
        r"""The base density's logarithm in nats, shape (n,)."""
        if self.base is not None:
            return self.base.log_prob(z).flatten(1).sum(1)
        return -0.5 * (z.square().flatten(1).sum(1) + self.d * math.log(2 * math.pi))

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""The exact log-density in nats, shape (n,), of samples of shape (n, …)."""
        self._check(x, "x", context)
        z, log_det = self.inverse(x, context)
        return self.base_log_prob(z) + log_det

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Minus the mean log-density of a batch, in nats a sample."""
        return -self.log_prob(x, context).mean()

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        *,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Draws n samples, shape (n, …).

        Arguments:
            n: how many, ≥ 1.
            temperature: the standard deviation of z, ≥ 0: below 1, samples crowd round the typical ones.
            context: one row a sample.
            generator: of the noise; torch's global one where ``None``.

        Raises:
            ValueError: if ``n`` or the temperature is out of range, or the context has another length.
        """
        if n < 1 or not 0 <= temperature < math.inf:
            raise ValueError(f"n, temperature are {n}, {temperature}; expected ≥ 1 and ≥ 0")
        like = next(self.parameters(), torch.zeros(()))
        if self.base is None:
            where = "cpu" if generator else like.device
            z = torch.randn(n, *self.shape, dtype=like.dtype, device=where, generator=generator)
        else:
            z = self.base.sample((n,))
        z = temperature * z.to(like.device)
        self._check(z, "z", context)
        return self(z, context)[0]

    def path(self, z: Tensor, context: Tensor | None = None) -> list[Tensor]:
        r"""Where z is before the first layer, after it, after the second, and so on."""
        stops = [z]
        for layer in self.layers:
            stops.append(layer(stops[-1], context)[0])
        return stops

    @torch.no_grad()
    def check(self, x: Tensor, context: Tensor | None = None, *, tolerance: float = 1e-3) -> None:
        r"""Takes samples to z and back, layer by layer, and complains about a layer that cannot be undone.

        Arguments:
            x: samples, shape (n, …).
            tolerance: the largest difference allowed, relative to 1 + the largest entry.

        Raises:
            ValueError: if a layer does not bring its input back, if its two log-determinants are not each
                other's negative, or if one is not finite; the message names the layer.
        """
        self._check(x, "x", context)
        was_training = self.training
        self.eval()
        try:
            for i in reversed(range(len(self.layers))):
                layer = self.layers[i]
                name = f"layer {i}, {type(layer).__name__},"
                z, there = layer.inverse(x, context)
                back, here = layer(z, context)
                if z.shape[0] != x.shape[0] or there.shape != x.shape[:1]:
                    raise ValueError(
                        f"{name} answers with shapes {tuple(z.shape)}, {tuple(there.shape)}"
                    )
                if not (z.isfinite().all() and there.isfinite().all()):
                    raise ValueError(f"{name} gives values that are not finite")
                error = ((back - x).abs().max() / (1 + x.abs().max())).item()
                if not error <= tolerance:
                    raise ValueError(
                        f"{name} is not invertible here: x comes back changed by {error:.2g}"
                    )
                gap = ((there + here).abs().max() / (1 + here.abs().max())).item()
                if not gap <= tolerance:
                    raise ValueError(
                        f"{name} has log-determinants that do not cancel, by {gap:.2g}"
                    )
                x = z
        finally:
            self.train(was_training)

    def _check(self, x: Tensor, name: str, context: Tensor | None) -> None:
        check.data(x, name, n_dims=1 + len(self.shape))
        if x.shape[1:] != self.shape:
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; expected (n, {', '.join(map(str, self.shape))})"
            )
        if context is not None and len(context) != len(x):
            raise ValueError(
                f"context has {len(context)} rows, {name} has {len(x)}; expected as many"
            )


def jacobian_log_det(layer: Layer, z: Tensor, context: Tensor | None = None) -> Tensor:
    r""":math:`\log \lvert \det \partial x / \partial z \rvert` by automatic differentiation, one number a sample.

    It costs a d × d matrix a sample and :math:`O(d^3)`: for checks, and for small d.

    Arguments:
        layer: treats each row by itself.
        z: shape (n, …).

    Returns:
        shape (n,).
    """
    rows = []
    for i in range(len(z)):
        c = None if context is None else context[i : i + 1]
        J = torch.autograd.functional.jacobian(lambda row, c=c: layer(row, c)[0], z[i : i + 1])
        rows.append(torch.linalg.slogdet(J.reshape(z[i].numel(), z[i].numel())).logabsdet)
    return torch.stack(rows)
