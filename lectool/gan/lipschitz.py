r"""Chapter 14: how a critic's slope is bounded (clipping, penalty, spectral norm) and how the bound is measured."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input
from torch.nn.utils.parametrize import register_parametrization

from lectool import check

__all__ = [
    "SpectralNorm",
    "clip_weights",
    "gradient_norm",
    "gradient_penalty",
    "lipschitz_bound",
    "power_iteration",
    "settle",
    "spectral_normalise",
]

Critic = Callable[[Tensor], Tensor]
# Activations that never stretch a distance, and parts that only move numbers about.
CONTRACTIONS = (
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU,
    nn.Flatten, nn.Unflatten, nn.Identity,
)  # fmt: skip


@torch.no_grad()
def clip_weights(module: nn.Module, c: float) -> None:
    r"""Moves every weight and bias that has left [−c, c] back to its border.

    Weights in a box bound the slope by *some* constant K, which depends on widths and depth and is never 1.

    Arguments:
        module: changed in place.
        c: > 0; 0.01 in the paper.

    Raises:
        ValueError: if c is not positive.

    References:
        Arjovsky, Chintala & Bottou (2017), Wasserstein GAN, algorithm 1.
    """
    if not c > 0:
        raise ValueError(f"c is {c}; expected > 0")
    for p in module.parameters():
        p.clamp_(-c, c)


def gradient_norm(critic: Critic, x: Tensor) -> Tensor:
    r"""Length :math:`\lVert \nabla_x f(x) \rVert_2` of the critic's slope at each sample; can be differentiated again.

    The largest over many points is a lower bound of the critic's Lipschitz constant.

    Arguments:
        critic: data → one score a sample; each row by itself (no batch normalisation in training mode).
        x: shape (n, d), images (n, channels, height, width), or (n, games, d) for several critics side by side.

    Returns:
        shape (n,), or (n, games).
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return torch.linalg.vector_norm(slope, dim=_sample_axes(x))


def gradient_penalty(
    critic: Critic,
    real: Tensor,
    fake: Tensor,
    lam: float = 10.0,
    *,
    one_sided: bool = False,
    rng: torch.Generator | None = None,
) -> Tensor:
    r"""Draws the critic's slope towards 1 on lines between real and generated samples.

    .. math:: \lambda\, \mathbb E_{\hat x} \bigl( \lVert \nabla f(\hat x) \rVert_2 - 1 \bigr)^2, \qquad
        \hat x = \epsilon x + (1 - \epsilon) y, \quad \epsilon \sim U(0, 1)

    It is added to the loss that the critic descends, :math:`\mathbb E f(y) - \mathbb E f(x)`; subtracted from what it
    ascends.

    Arguments:
        critic: as in :func:`gradient_norm`.
        real, fake: x and y, of one shape.
        lam: λ > 0.
        one_sided: whether slopes below 1 cost nothing.
        rng: of ε; torch's global one where ``None``.

    Returns:
        a scalar: mean over the batch, sum over games side by side.

    Raises:
        ValueError: if shapes differ or λ is not positive.

    References:
        Gulrajani et al. (2017), Improved training of Wasserstein GANs.
    """
    if real.shape != fake.shape or not lam > 0:
        raise ValueError(
            f"real, fake, lam are {tuple(real.shape)}, {tuple(fake.shape)}, {lam}; expected one shape and > 0"
        )
    sizes = list(real.shape)
    for axis in _sample_axes(real):
        sizes[axis] = 1
    share = torch.rand(sizes, dtype=real.dtype, device=real.device, generator=rng)
    gap = gradient_norm(critic, share * real + (1 - share) * fake) - 1
    if one_sided:
        gap = gap.clamp(min=0)
    return lam * gap.square().mean(0).sum()


def _sample_axes(x: Tensor) -> tuple[int, ...]:
    return (-1,) if x.ndim <= 3 else tuple(range(1, x.ndim))


# ---------------------------------------------------------------------------------------- spectral norm


def power_iteration(
    A: Critic, A_transposed: Critic, u: Tensor, n_steps: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Largest singular value :math:`\sigma_1` of a linear map by repeated application of it and of its adjoint.

    .. math:: v \leftarrow A^\top u / \lVert A^\top u \rVert, \qquad u \leftarrow A v / \lVert A v \rVert, \qquad
        \sigma = u^\top A v

    The error falls by :math:`(\sigma_2 / \sigma_1)^2` a step, always from below.

    Arguments:
        A: the map, for one input or for several maps side by side, along the first axis.
        A_transposed: its adjoint.
        u: a start in the range of A, shape (maps, …), not orthogonal to the leading singular vector.
        n_steps: ≥ 1.

    Returns:
        σ, shape (maps,); u; v, with gradients of σ only through A: the vectors are constants.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; expected ≥ 1")
    with torch.no_grad():
        for _ in range(n_steps):
            v = _unit(A_transposed(u))
            u = _unit(A(v))
    sigma = (u * A(v)).flatten(1).sum(1)
    return sigma, u, v


def _unit(v: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(v.flatten(1), dim=1).clamp(min=1e-12)
    return v / length.reshape(-1, *[1] * (v.ndim - 1))


class SpectralNorm(nn.Module):
    r"""Divides a layer's weights by the largest singular value of the map that they make.

    Attached to a layer by :func:`spectral_normalise`. In training mode each use takes ``n_steps`` of
    :func:`power_iteration` from where the last one ended: weights move slowly, so that one is enough.
    The gradient knows that σ depends on W.

    Arguments:
        layer: ``nn.Linear``, ``nn.Conv2d``, or an ensemble's layer with W of shape (members, ·, ·): as many matrices.
        n_steps: ≥ 1.
        input_shape: of one image that a convolution receives, (channels, height, width): then σ is that of
            the convolution, zero padding included. Where ``None``, that of the kernel reshaped to a
            matrix (outputs, rest), as published: cheaper, and not the same number.
        bound: what σ becomes, > 0.

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
        if n_steps < 1 or not bound > 0:
            raise ValueError(f"n_steps, bound are {n_steps}, {bound}; expected ≥ 1, > 0")
        self.n_steps, self.bound, self.convolution = n_steps, bound, None
        W = getattr(layer, weight_name(layer))
        if isinstance(layer, nn.Conv2d) and input_shape is not None:
            if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                raise ValueError("padding is not a number of zeros; expected zero padding")
            settings = (layer.stride, layer.padding, layer.dilation, layer.groups)
            self.convolution = (1, *input_shape), settings
            u = torch.randn_like(conv2d(W.new_zeros(1, *input_shape), W, None, *settings))
        else:
            u = torch.randn_like(_matrices(W)[:, :, 0])
        self.register_buffer("u", _unit(u.detach()))
        self.register_buffer("v", torch.zeros(0))
        self.settle(W.detach(), 20)

    def maps(self, W: Tensor) -> tuple[Critic, Critic]:
        r"""The linear map that the weights make, and its adjoint, both on vectors (maps, …)."""
        if self.convolution is not None:
            shape, settings = self.convolution
            return (
                lambda v: conv2d(v, W, None, *settings),
                lambda u: conv2d_input(shape, W, u, *settings),
            )
        M = _matrices(W)
        return lambda v: (M @ v[..., None])[..., 0], lambda u: (M.mT @ u[..., None])[..., 0]

    @torch.no_grad()
    def settle(self, W: Tensor, n_steps: int = 200) -> Tensor:
        r"""Takes many steps at once; returns σ, shape (maps,)."""
        sigma, self.u, self.v = power_iteration(*self.maps(W), self.u, n_steps)
        return sigma

    def forward(self, W: Tensor) -> Tensor:
        if self.training:
            self.settle(W.detach(), self.n_steps)
        sigma = (self.u * self.maps(W)[0](self.v)).flatten(1).sum(1)
        return self.bound * W / (sigma.reshape(-1, 1, 1) if W.ndim == 3 else sigma)


def weight_name(layer: nn.Module) -> str:
    r"""What a layer calls its matrix or kernel; empty where it has none."""
    for name in ("weight", "W"):
        if isinstance(getattr(layer, name, None), Tensor) and getattr(layer, name).ndim >= 2:
            return name
    return ""


def _matrices(W: Tensor) -> Tensor:
    return W if W.ndim == 3 else W.flatten(1)[None]


def spectral_normalise(
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
            receives, and the convolutions themselves are normalised rather than their reshaped kernels.
    """
    layers = [m for m in net.modules() if weight_name(m)]
    if not layers:
        raise ValueError(f"{type(net).__name__} has no layer with a weight matrix")
    shapes = {} if input_shape is None else _input_shapes(net, layers, input_shape)
    for layer in layers:
        part = SpectralNorm(layer, n_steps, shapes.get(layer), bound)
        register_parametrization(layer, weight_name(layer), part)
    return net


def settle(net: nn.Module, n_steps: int = 1000) -> nn.Module:
    r"""Brings every :class:`SpectralNorm` in the net up to date: one step an update lags behind moving weights."""
    for module in net.modules():
        if isinstance(module, nn.utils.parametrize.ParametrizationList):
            for part in module:
                if isinstance(part, SpectralNorm):
                    part.settle(module.original.detach(), n_steps)
    return net


def lipschitz_bound(
    net: nn.Sequential, *, input_shape: Sequence[int] | None = None, n_steps: int = 500
) -> float:
    r"""An upper bound of a chain's Lipschitz constant: the product of its layers' spectral norms.

    Arguments:
        net: a chain of linear layers, convolutions and 1-Lipschitz activations.
        input_shape: of one sample, needed where there are convolutions.
        n_steps: of power iteration for each convolution; linear layers are decomposed.

    Raises:
        ValueError: if a part is of another kind.
    """
    parts = [m for m in net.modules() if not list(m.children())]
    parts = [m for m in parts if not isinstance(m, SpectralNorm)]
    layers = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for part in parts:
        if not isinstance(part, CONTRACTIONS) and part not in layers:
            raise ValueError(
                f"{type(part).__name__} has no known Lipschitz constant; expected linear layers, "
                "convolutions and 1-Lipschitz activations"
            )
    if input_shape is None and any(isinstance(m, nn.Conv2d) for m in layers):
        raise ValueError("input_shape is None; expected the shape of one sample for convolutions")
    shapes = {} if input_shape is None else _input_shapes(net, layers, input_shape)
    norms = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            part = SpectralNorm(layer, input_shape=shapes[layer])
            norms.append(part.settle(layer.weight.detach(), n_steps).item())
        else:
            norms.append(torch.linalg.matrix_norm(layer.weight.detach(), 2).item())
    return math.prod(norms)


@torch.no_grad()
def _input_shapes(
    net: nn.Module, layers: Sequence[nn.Module], input_shape: Sequence[int]
) -> dict[nn.Module, tuple[int, ...]]:
    r"""What each convolution receives when one sample passes through the net."""
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shapes[layer] = tuple(inputs[0].shape[1:])

    hooks = [m.register_forward_pre_hook(note) for m in layers if isinstance(m, nn.Conv2d)]
    mode = net.training
    try:
        x = next(net.parameters()).new_zeros(1, *input_shape)
        net.eval()(check.data(x, n_dims=x.ndim))
    finally:
        net.train(mode)
        for hook in hooks:
            hook.remove()
    return shapes
