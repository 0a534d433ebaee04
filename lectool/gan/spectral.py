r"""Chapter 14: spectral normalization, and what the norms of the layers say about a whole network's slope."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d
from torch.nn.utils.parametrize import register_parametrization

from lectool import check

__all__ = ["SpectralNorm", "lipschitz_bound", "power_iteration", "settle", "spectral_normalize"]

Map = Callable[[Tensor], Tensor]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# Parts that never stretch a distance.
CONTRACTIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.Hardtanh,
    nn.Softsign,
    nn.LogSigmoid,
    nn.Flatten,
    nn.Unflatten,
    nn.Identity,
)


def power_iteration(
    A: Map, A_transposed: Map, u: Tensor, n_steps: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Largest singular value :math:`\sigma_1` of a linear map by repeated application of it and of its adjoint.

    .. math:: v \leftarrow A^\top u / \lVert A^\top u \rVert, \qquad u \leftarrow A v / \lVert A v \rVert, \qquad
        \sigma = u^\top A v

    With :math:`r = \sigma_2 / \sigma_1 < 1` a step shrinks the part of the vectors outside their leading directions by
    :math:`r^2` in the long run. The error of σ is of second order in that part, so that it falls by :math:`r^4` a step.
    σ never exceeds :math:`\sigma_1`.

    Arguments:
        A: the map.
        A_transposed: its adjoint.
        u: a start in the range of A, not orthogonal to the leading singular vector.
        n_steps: ≥ 1.

    Returns:
        σ, a scalar; u; v, with gradients of σ only through A: the vectors are constants.
    """
    check.at_least(1, n_steps=n_steps)
    with torch.no_grad():
        for _ in range(n_steps):
            v = _unit(A_transposed(u))
            u = _unit(A(v))
    return (u * A(v)).sum(), u, v


def _unit(v: Tensor) -> Tensor:
    return v / torch.linalg.vector_norm(v).clamp(min=1e-12)


class SpectralNorm(nn.Module):
    r"""Divides a layer's weights by the largest singular value of the map that they make.

    Attached to a layer by :func:`spectral_normalize`. In training mode each use takes ``n_steps`` of
    :func:`power_iteration` from where the last one ended: weights move slowly, so that one is enough.
    The gradient knows that σ depends on W.

    Arguments:
        layer: linear, a convolution or a transposed convolution.
        n_steps: ≥ 1.
        input_shape: of one image that a two-dimensional convolution receives, (channels, height, width): then σ is
            that of the convolution, zero padding included. Where ``None``, that of the kernel reshaped to a
            matrix (outputs, rest), as published: cheaper, and not the same number.
        bound: what σ becomes, > 0.

    Raises:
        ValueError: if a number is out of range, or the layer is of another kind.

    References:
        Miyato et al. (2018), Spectral normalization for generative adversarial networks, algorithm 1;
        Tsuzuku, Sato & Sugiyama (2018), Lipschitz-margin training (the convolution itself).
    """

    def __init__(
        self,
        layer: nn.Module,
        n_steps: int = 1,
        input_shape: Sequence[int] | None = None,
        bound: float = 1.0,
    ) -> None:
        super().__init__()
        check.at_least(1, n_steps=n_steps)
        check.positive(bound=bound)
        self.n_steps, self.bound = n_steps, bound
        self.maps = (
            matrix_maps(layer) if input_shape is None else convolution_maps(layer, input_shape)
        )
        W = layer.weight.detach()
        start = W.new_zeros(W.shape[1] if input_shape is None else (1, *input_shape))
        if input_shape is None:
            start = as_matrix(layer)(W)[0]
        self.register_buffer("u", _unit(torch.randn_like(self.maps(W)[0](torch.zeros_like(start)))))
        self.register_buffer("v", torch.zeros_like(start))
        self.settle(W, 20)

    @torch.no_grad()
    def settle(self, W: Tensor, n_steps: int = 200) -> Tensor:
        r"""Takes many steps at once; returns σ."""
        sigma, u, v = power_iteration(*self.maps(W), self.u, n_steps)
        self.u.copy_(u)
        self.v.copy_(v)
        return sigma

    def forward(self, W: Tensor) -> Tensor:
        if self.training:
            self.settle(W.detach(), self.n_steps)
        A, _ = self.maps(W)
        # Copies, since the next use moves u and v while this one's graph still needs them.
        sigma = (self.u.clone() * A(self.v.clone())).sum()
        return self.bound * W / sigma


def as_matrix(layer: nn.Module) -> Map:
    r"""How a layer's weights are read as a matrix (outputs, rest).

    Raises:
        ValueError: if the layer is neither linear nor a convolution.
    """
    if isinstance(layer, (nn.Linear, *CONVOLUTIONS)):
        return lambda W: W.flatten(1)
    if isinstance(layer, TRANSPOSED) and layer.groups == 1:
        return lambda W: W.transpose(0, 1).flatten(1)  # its kernel has the inputs first
    raise ValueError(
        f"{type(layer).__name__} is not a layer whose norm is known here; expected linear layers and convolutions"
    )


def matrix_maps(layer: nn.Module) -> Callable[[Tensor], tuple[Map, Map]]:
    r"""From the weights to the matrix that they make, as a map, and its transpose."""
    matrix = as_matrix(layer)
    return lambda W: (matrix(W).mv, matrix(W).T.mv)


def convolution_maps(
    layer: nn.Module, input_shape: Sequence[int]
) -> Callable[[Tensor], tuple[Map, Map]]:
    r"""From the kernel to the convolution itself on images of that shape, and its adjoint.

    Raises:
        ValueError: if the layer is no two-dimensional convolution with zero padding.
    """
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return matrix_maps(layer)
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise ValueError("padding is not a number of zeros; expected zero padding")
    stride, padding, dilation, groups = layer.stride, layer.padding, layer.dilation, layer.groups
    if isinstance(layer, nn.ConvTranspose2d):
        extra = layer.output_padding
        return lambda W: (
            lambda v: conv_transpose2d(v, W, None, stride, padding, extra, groups, dilation),
            lambda u: conv2d(u, W, None, stride, padding, dilation, groups),
        )
    W = layer.weight.detach()
    size = conv2d(W.new_zeros(1, *input_shape), W, None, stride, padding, dilation, groups)
    left = [
        n - ((m - 1) * s - 2 * p + d * (w - 1) + 1)
        for n, m, s, p, d, w in zip(
            input_shape[1:], size.shape[2:], stride, padding, dilation, layer.kernel_size
        )
    ]
    return lambda W: (
        lambda v: conv2d(v, W, None, stride, padding, dilation, groups),
        lambda u: conv_transpose2d(u, W, None, stride, padding, left, groups, dilation),
    )


def spectral_normalize(
    net: nn.Module,
    *,
    n_steps: int = 1,
    input_shape: Sequence[int] | None = None,
    bound: float = 1.0,
) -> nn.Module:
    r"""Attaches :class:`SpectralNorm` to every layer with a weight matrix or kernel; returns the net, changed in place.

    If all activations are 1-Lipschitz, the net's own constant is then at most ``bound`` to the power of the number of
    layers.

    Arguments:
        net: of linear layers, convolutions and parts without weights.
        n_steps, bound: as in :class:`SpectralNorm`.
        input_shape: of one sample of the net; where given, one pass through the net finds what each convolution
            receives, and the convolutions themselves are normalized rather than their reshaped kernels.

    Raises:
        ValueError: if a layer with a weight matrix is of another kind, or there is none.
    """
    layers = [m for m in net.modules() if any(p.ndim >= 2 for p in m.parameters(recurse=False))]
    if not layers:
        raise ValueError(f"{type(net).__name__} has no layer with a weight matrix")
    for layer in layers:
        as_matrix(layer)
    shapes = {} if input_shape is None else _input_shapes(net, layers, input_shape)
    for layer in layers:
        register_parametrization(
            layer, "weight", SpectralNorm(layer, n_steps, shapes.get(layer), bound)
        )
    return net


def settle(net: nn.Module, n_steps: int = 1000) -> nn.Module:
    r"""Brings every :class:`SpectralNorm` in the net up to date: one step an update lags behind moving weights."""
    for module in net.modules():
        if isinstance(module, nn.utils.parametrize.ParametrizationList):
            for part in module:
                if isinstance(part, SpectralNorm):
                    part.settle(module.original.detach(), n_steps)
    return net


@torch.no_grad()
def lipschitz_bound(
    net: nn.Sequential, *, input_shape: Sequence[int] | None = None, n_steps: int = 500
) -> float:
    r"""An upper bound of a chain's Lipschitz constant: the product of its parts' norms, in the order of their use.

    Arguments:
        net: a chain of linear layers, convolutions and activations whose steepest slope is known.
        input_shape: of one sample, needed where there are convolutions.
        n_steps: of power iteration for each convolution; linear layers are decomposed.

    Raises:
        ValueError: if a part is of another kind, or a container has a forward pass of its own: it could skip parts.
    """
    mode, bound = net.training, 1.0
    try:
        net.eval()
        x = None if input_shape is None else next(net.parameters()).new_zeros(1, *input_shape)
        for part in _parts(net):
            shape = None if x is None else x.shape[1:]
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and shape is None:
                raise ValueError(
                    "input_shape is None; expected the shape of one sample for convolutions"
                )
            bound *= _norm(part, shape, n_steps)
            x = None if x is None else part(x)
    finally:
        net.train(mode)
    return bound


def _parts(net: nn.Module) -> list[nn.Module]:
    if not isinstance(net, nn.Sequential):
        return [net]
    if type(net).forward is not nn.Sequential.forward:
        raise ValueError(
            f"{type(net).__name__} has a forward pass of its own; expected a plain chain"
        )
    return [part for child in net for part in _parts(child)]


def _norm(part: nn.Module, shape: Sequence[int] | None, n_steps: int) -> float:
    r"""Largest factor by which a part stretches a distance."""
    if isinstance(part, CONTRACTIONS):
        return 1.0
    if isinstance(part, nn.LeakyReLU | nn.ELU):
        return max(1.0, abs(getattr(part, "negative_slope", getattr(part, "alpha", 1.0))))
    if isinstance(part, nn.Linear):
        return torch.linalg.matrix_norm(part.weight, 2).item()
    if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
        return SpectralNorm(part, input_shape=shape).settle(part.weight, n_steps).item()
    raise ValueError(
        f"{type(part).__name__} has no known Lipschitz constant; expected linear layers, two-dimensional convolutions "
        "and activations of a known slope"
    )


@torch.no_grad()
def _input_shapes(
    net: nn.Module, layers: Sequence[nn.Module], input_shape: Sequence[int]
) -> dict[nn.Module, tuple[int, ...]]:
    r"""What each convolution receives when one sample passes through the net."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shape = tuple(inputs[0].shape[1:])
        if shapes.setdefault(layer, shape) != shape:
            raise ValueError(
                f"{type(layer).__name__} receives {shapes[layer]} and {shape}; expected one shape"
            )

    hooks = [
        m.register_forward_pre_hook(note)
        for m in layers
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    mode = net.training
    try:
        net.eval()(next(net.parameters()).new_zeros(1, *input_shape))
    finally:
        net.train(mode)
        for hook in hooks:
            hook.remove()
    return shapes
