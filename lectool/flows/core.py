r"""What every flow shares: the contract of a layer, the chain of layers, and the density that it gives."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lectool import check, random

__all__ = ["Chain", "Flow", "Inverse", "Layer", "beside", "jacobian_log_det", "same_type"]


class Layer(nn.Module):
    r"""An invertible map between z and x, with the logarithm of how much it stretches volume.

    A subclass defines two methods, each with one number for every sample, shape (n,), as second answer:

    - ``forward(z, context=None)``: :math:`x = f(z)` and :math:`\log \lvert \det \partial x / \partial z \rvert`;
    - ``inverse(x, context=None)``: :math:`z = f^{-1}(x)` and :math:`\log \lvert \det \partial z / \partial x \rvert`.

    The context, shape (n, …), is something known, such as a class. Layers that take an ``n_context`` look at it;
    the others do not.
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
        base: a continuous distribution of ``torch.distributions`` in place of the normal one: over whole samples,
            such as ``MultivariateNormal``, or over single numbers, such as ``Laplace(0.0, 1.0)``, which are then
            independent. It is no part of the state that a checkpoint keeps, and stays on its device.

    Raises:
        ValueError: if the shape is not positive, or the base does not fit it; when used, if the data hold a NaN, or
            have another shape or another type than the flow's parameters.

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
        self.base = None if base is None else spread_base(base, self.shape)

    @property
    def d(self) -> int:
        r"""Numbers in one sample."""
        return math.prod(self.shape)

    def base_log_prob(self, z: Tensor) -> Tensor:
        r"""The base density's logarithm in nats, shape (n,)."""
        if self.base is not None:
            return self.base.log_prob(z).reshape(len(z), -1).sum(1)
        return -0.5 * (z.square().flatten(1).sum(1) + self.d * math.log(2 * math.pi))

    def base_sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        r"""Draws n points of the base, shape (n, …), in the type and on the device of the parameters."""
        like = next(self.parameters(), torch.empty(0))
        if self.base is None:
            return random.noise((n, *self.shape), like, generator)
        if generator is None:
            return self.base.sample((n,)).to(like)
        # torch.distributions draw from the global source only: it is seeded by the generator for a moment.
        with torch.random.fork_rng([like.device] if like.is_cuda else []):
            torch.manual_seed(random.integers(2**62, 1, generator=generator).item())
            return self.base.sample((n,)).to(like)

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""The exact log-density in nats, shape (n,), of samples of shape (n, …)."""
        self.check_samples(x, context)
        z, log_det = self.inverse(x, context)
        return self.base_log_prob(z) + log_det

    def loss(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Minus the mean log-density of a batch, in nats."""
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
            temperature: multiplies z, ≥ 0: its standard deviation under the normal base. Below 1, samples crowd round
                the typical ones.
            context: one row for each sample.
            generator: source of z.

        Raises:
            ValueError: if ``n`` or the temperature is out of range, or the context has another length.
        """
        check.at_least(1, n=n)
        check.non_negative(temperature=temperature)
        z = temperature * self.base_sample(n, generator)
        self.check_samples(z, context, "z")
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
        self.check_samples(x, context)
        check.positive(tolerance=tolerance)
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

    def check_samples(self, x: Tensor, context: Tensor | None = None, name: str = "x") -> None:
        r"""Complains about samples, or a context beside them, that the flow cannot take.

        Raises:
            ValueError: if they are no finite numbers of the flow's shape and type, or the context has another length.
        """
        check.data(x, name, n_dims=1 + len(self.shape))
        check.shape("n", *self.shape, **{name: x})
        same_type(x, self, name)
        if context is not None:
            check.lengths(**{"context": context, name: x})


def same_type(x: Tensor, model: nn.Module, name: str = "x") -> None:
    r"""Complains where data and the parameters of a model are of different types.

    Raises:
        ValueError: if they are.
    """
    own = next((p.dtype for p in model.parameters()), x.dtype)
    if x.dtype != own:
        raise ValueError(
            f"{name} is {x.dtype}, the parameters of {type(model).__name__} are {own}; expected one type, such as by "
            f"{name}.to({own})"
        )


def beside(x: Tensor, context: Tensor | None, n_context: int) -> Tensor:
    r"""What the network of a conditional layer looks at: x, and after it along axis 1 the context.

    Raises:
        ValueError: if there is a context where the layer expects none, or the other way round, or one of another
            size.
    """
    given = None if context is None else tuple(context.shape)
    fits = given is None if n_context == 0 else given is not None and given[1:2] == (n_context,)
    if not fits or (given is not None and context.ndim != x.ndim):
        raise ValueError(f"context is {given}; the layer was made for n_context = {n_context}")
    return x if context is None else torch.cat([x, context], 1)


def spread_base(
    base: torch.distributions.Distribution, shape: tuple[int, ...]
) -> torch.distributions.Distribution:
    r"""The distribution of samples of a shape, made of one over whole samples or over parts of them.

    Raises:
        ValueError: if it is no continuous distribution, or draws something of another shape.
    """
    if not isinstance(base, torch.distributions.Distribution):
        raise ValueError(
            f"base is {type(base).__name__}; expected a distribution of torch.distributions"
        )
    if base.support.is_discrete:
        raise ValueError(f"base is {type(base).__name__}, which is discrete; expected a density")
    batch, event = tuple(base.batch_shape), tuple(base.event_shape)
    parts = shape[: len(shape) - len(event)]
    fits = shape[len(parts) :] == event and len(batch) <= len(parts)
    if not fits or any(b not in (1, s) for b, s in zip(batch[::-1], parts[::-1])):
        raise ValueError(
            f"base draws samples of shape {(*batch, *event)}; expected {shape}, or numbers of one distribution"
        )
    return base if batch == parts else base.expand(parts)


def jacobian_log_det(layer: Layer, z: Tensor, context: Tensor | None = None) -> Tensor:
    r""":math:`\log \lvert \det \partial x / \partial z \rvert` by automatic differentiation.

    It costs a d × d matrix for each sample and :math:`O(d^3)`: for checks, and for small d.

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
