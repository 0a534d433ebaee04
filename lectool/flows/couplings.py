r"""Couplings: half of the numbers stay, and say how the other half is to be moved."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import nets
from lectool.flows.core import Flow, Layer
from lectool.flows.simple import ActNorm

__all__ = [
    "AdditiveCoupling",
    "AffineCoupling",
    "CouplingFlow",
    "SplineCoupling",
    "nice",
    "rational_quadratic_spline",
    "realnvp",
    "spline_flow",
]


class Coupling(Layer):
    r"""Splits axis 1 in two; a network sees one part, and its answer moves the other.

    A subclass says how, by ``move(part, parameters)`` and ``move_back``, each of which returns the moved part
    and the log-determinant, shape (n,).

    Arguments:
        d: size of axis 1 (numbers of a vector, channels of an image), ≥ 2.
        per_number: parameters that each moved number needs.
        net: from the part that stays (and the context behind it) to ``per_number`` times the channels of
            the other; a perceptron with the widths ``hidden`` where ``None``.
        hidden: widths of that perceptron.
        swap: whether the second part stays and the first one moves.
        n_context: size of axis 1 of the context.

    Raises:
        ValueError: if d is below 2.
    """

    per_number = 1

    def __init__(
        self,
        d: int,
        net: nn.Module | None = None,
        *,
        hidden: Sequence[int] = (64, 64),
        swap: bool = False,
        n_context: int = 0,
    ):
        super().__init__()
        if d < 2:
            raise ValueError(f"d is {d}; expected at least 2: one part stays, the other moves")
        self.d, self.swap = d, swap
        self.sizes = [d - d // 2, d // 2]
        self.n_stay, self.n_move = self.sizes[::-1] if swap else self.sizes
        if net is None:
            net = nets.mlp([self.n_stay + n_context, *hidden, self.per_number * self.n_move])
        self.net = net

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(self.move, z, context)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._run(self.move_back, x, context)

    def answer(self, stay: Tensor, context: Tensor | None = None) -> Tensor:
        r"""What the network says of the part that stays."""
        return self.net(stay if context is None else torch.cat([stay, context], 1))

    def _run(self, move, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        first, second = x.split(self.sizes, 1)
        stay, part = (second, first) if self.swap else (first, second)
        part, log_det = move(part, self.answer(stay, context))
        return torch.cat([part, stay] if self.swap else [stay, part], 1), log_det


class AdditiveCoupling(Coupling):
    r"""NICE's coupling: the moved part is shifted by :math:`t`, what a network says of the other; volume stays.

    Arguments:
        as :class:`Coupling`: d, net, hidden, swap, n_context.

    References:
        Dinh, Krueger & Bengio (2015), NICE: non-linear independent components estimation.
    """

    def move(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return z + t, z.new_zeros(len(z))

    def move_back(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return x - t, x.new_zeros(len(x))


class AffineCoupling(Coupling):
    r"""RealNVP's coupling: the moved part is scaled and shifted by what a network says of the other.

    .. math:: z_a = x_a, \quad z_b = e^{s(x_a)} \odot x_b + t(x_a), \qquad
        \log \left\lvert \det \frac{\partial z}{\partial x} \right\rvert = \sum_j s_j(x_a)

    The network's numbers become s through asinh, which is straight near 0 and grows like a logarithm: the
    factor :math:`e^s` can be any, but grows no faster than the network's numbers.

    Arguments:
        as :class:`Coupling`: d, net, hidden, swap, n_context.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017), Density estimation using Real NVP.
    """

    per_number = 2

    def scale_and_shift(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        r"""s and t, each of the moved part's shape."""
        s, t = parameters.chunk(2, 1)
        return torch.asinh(s), t

    def move_back(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift(parameters)
        return x * s.exp() + t, s.flatten(1).sum(1)

    def move(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift(parameters)
        return (z - t) * (-s).exp(), -s.flatten(1).sum(1)


def rational_quadratic_spline(
    x: Tensor, parameters: Tensor, *, bound: float = 3.0, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    r"""An increasing curve through K + 1 knots, a ratio of two quadratics in between, the identity outside.

    With :math:`\xi` the place within a bin of width w, height h, mean slope :math:`s = h / w` and slopes
    :math:`\delta_0, \delta_1` at its ends,

    .. math:: y = y_0 + h \frac{s \xi^2 + \delta_0 \xi (1 - \xi)}{s + (\delta_0 + \delta_1 - 2 s)\, \xi (1 - \xi)}.

    Arguments:
        x: numbers, any shape; those outside [−bound, bound] stay as they are, with slope 1.
        parameters: shape (\*x.shape, 3K − 1): K for the widths and K for the heights, which a softmax makes
            positive and sum to 2·bound; K − 1 for the inner slopes, which a softplus makes positive.
        bound: half the side of the box, > 0.
        inverse: whether to run the curve backwards, by the quadratic equation's stable root.

    Returns:
        the curve's values and the logarithms of its slopes, both of x's shape.

    Raises:
        ValueError: if the last axis of the parameters is not 3K − 1 for a K ≥ 1, or the bound is not positive.

    References:
        Durkan, Bekasov, Murray & Papamakarios (2019), Neural spline flows.
    """
    K, left = divmod(parameters.shape[-1] + 1, 3)
    if left or K < 1 or not bound > 0:
        raise ValueError(
            f"{parameters.shape[-1]} parameters a number, bound {bound}; expected 3K − 1 and > 0"
        )
    floor = 1e-3  # smallest bin, as a share of the box, and smallest slope
    two, slopes = parameters[..., : 2 * K], parameters[..., 2 * K :]
    sizes = two.unflatten(-1, (2, K)).softmax(-1) * (1 - floor * K) + floor
    knots = F.pad(sizes.cumsum(-1), (1, 0)) * (2 * bound) - bound  # (…, 2, K + 1)
    slopes = F.pad(F.softplus(slopes + math.log(math.e - 1)) + floor, (1, 1), value=1.0)
    inside = x.abs() < bound
    q = x.clamp(-bound, bound)
    k = (q[..., None] >= knots[..., 1 if inverse else 0, 1:-1]).sum(-1, keepdim=True)  # the bin
    table = torch.cat([knots, slopes[..., None, :]], -2)  # x, y and slope of each knot
    at = k[..., None].expand(*k.shape[:-1], 3, 1)
    x0, y0, d0 = table.gather(-1, at).squeeze(-1).unbind(-1)
    x1, y1, d1 = table.gather(-1, at + 1).squeeze(-1).unbind(-1)
    w, h = x1 - x0, y1 - y0
    s = h / w
    bend = d0 + d1 - 2 * s
    if inverse:  # a ξ² + b ξ + c = 0
        rise = (q - y0) / h
        a, b, c = s - d0 + rise * bend, d0 - rise * bend, -s * rise
        root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
        xi = (-2 * c / (b + root)).clamp(0, 1)
        y = x0 + w * xi
    else:
        xi = (q - x0) / w
        y = y0 + h * xi * (s * xi + d0 * (1 - xi)) / (s + bend * xi * (1 - xi))
    eta = 1 - xi
    denominator = s + bend * xi * eta
    slope = s.square() * (d1 * xi.square() + 2 * s * xi * eta + d0 * eta.square())
    log_slope = slope.log() - 2 * denominator.log()
    y = torch.where(inside, y, x)
    return y, torch.where(inside, -log_slope if inverse else log_slope, torch.zeros_like(x))


class SplineCoupling(Coupling):
    r"""Each moved number goes through an increasing spline, whose knots the other part sets.

    Arguments:
        as :class:`Coupling`: d, net, hidden, swap, n_context; for vectors.
        n_bins: pieces of the spline, ≥ 1 and at most 500.
        bound: the spline fills the box [−bound, bound]; outside, numbers stay as they are.

    Raises:
        ValueError: if ``n_bins`` or the bound is out of range.

    References:
        Durkan, Bekasov, Murray & Papamakarios (2019), Neural spline flows.
    """

    def __init__(
        self, d: int, net: nn.Module | None = None, *, n_bins: int = 8, bound: float = 3.0, **settings
    ):  # fmt: skip
        if not (1 <= n_bins <= 500 and 0 < bound < math.inf):
            raise ValueError(f"n_bins, bound are {n_bins}, {bound}; expected 1 … 500 and > 0")
        self.per_number = 3 * n_bins - 1
        super().__init__(d, net, **settings)
        self.bound = bound

    def move(self, z: Tensor, parameters: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        parameters = parameters.view(*z.shape, self.per_number)
        x, log_slope = rational_quadratic_spline(z, parameters, bound=self.bound, inverse=inverse)
        return x, log_slope.sum(1)

    def move_back(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self.move(x, parameters, inverse=True)


# ------------------------------------------------------------------------------------------- whole flows


class CouplingFlow(Flow):
    r"""A flow of couplings only, which keeps the two parts apart until the last one: the same numbers, sooner.

    Arguments:
        layers: couplings of one size, from z to x, at least one.
        shape: as in :class:`~lectool.flows.Flow`.

    Raises:
        ValueError: if a layer is no coupling, or the sizes differ.
    """

    def __init__(self, layers: Sequence[Coupling], shape: int | Sequence[int]):
        super().__init__(layers, shape)
        if not all(isinstance(layer, Coupling) for layer in layers):
            raise ValueError("layers hold something else; expected couplings only")
        if len({layer.d for layer in layers}) > 1:
            raise ValueError(f"sizes are {[layer.d for layer in layers]}; expected one")

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        parts, total = list(z.split(self.layers[0].sizes, 1)), 0.0
        for layer in self.layers:
            stay, move = (1, 0) if layer.swap else (0, 1)
            parts[move], log_det = layer.move(parts[move], layer.answer(parts[stay], context))
            total = total + log_det
        return torch.cat(parts, 1), total

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        parts, total = list(x.split(self.layers[0].sizes, 1)), 0.0
        for layer in reversed(self.layers):
            stay, move = (1, 0) if layer.swap else (0, 1)
            parts[move], log_det = layer.move_back(parts[move], layer.answer(parts[stay], context))
            total = total + log_det
        return torch.cat(parts, 1), total


def nice(d: int, n_layers: int = 8, hidden: Sequence[int] = (64, 64), n_context: int = 0) -> Flow:
    r"""Additive couplings that take turns, and one scale a number at the end (Dinh, Krueger & Bengio, 2015).

    Arguments:
        d: numbers in a sample, ≥ 2.
        n_layers: couplings, ≥ 1.
        hidden: widths of each coupling's network.
        n_context: numbers in the context.
    """
    layers = [
        AdditiveCoupling(d, hidden=hidden, swap=bool(i % 2), n_context=n_context)
        for i in range(n_layers)
    ]
    return Flow([*layers, ActNorm(d)], d)


def realnvp(
    d: int, n_layers: int = 8, hidden: Sequence[int] = (64, 64), n_context: int = 0
) -> Flow:
    r"""Affine couplings that take turns (Dinh, Sohl-Dickstein & Bengio, 2017).

    Arguments:
        as :func:`nice`.
    """
    layers = [
        AffineCoupling(d, hidden=hidden, swap=bool(i % 2), n_context=n_context)
        for i in range(n_layers)
    ]
    return CouplingFlow(layers, d)


def spline_flow(
    d: int,
    n_layers: int = 2,
    hidden: Sequence[int] = (64, 64),
    n_context: int = 0,
    *,
    n_bins: int = 8,
    bound: float = 3.0,
) -> Flow:
    r"""Spline couplings that take turns (Durkan et al., 2019).

    Arguments:
        d, n_layers, hidden, n_context: as in :func:`nice`.
        n_bins, bound: as in :class:`SplineCoupling`.
    """
    settings = {"hidden": hidden, "n_context": n_context, "n_bins": n_bins, "bound": bound}
    layers = [SplineCoupling(d, swap=bool(i % 2), **settings) for i in range(n_layers)]
    return CouplingFlow(layers, d)
