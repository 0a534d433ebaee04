r"""Couplings: half of the numbers stay, and say how the other half is to be moved."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lectool import check, nets
from lectool.flows.core import Flow, Layer, beside
from lectool.flows.simple import ActNorm

__all__ = [
    "AdditiveCoupling",
    "AffineCoupling",
    "Coupling",
    "CouplingFlow",
    "SplineCoupling",
    "nice",
    "rational_quadratic_spline",
    "realnvp",
    "spline_backward",
    "spline_flow",
    "spline_forward",
    "spline_knots",
    "spline_log_slope",
    "spline_pieces",
]


class Coupling(Layer):
    r"""Splits axis 1 in two; a network sees one part, and its answer moves the other.

    A subclass sets ``per_number`` and defines :meth:`move` and :meth:`move_back`.

    Arguments:
        d: size of axis 1 (numbers of a vector, channels of an image), ≥ 2.
        net: from the part that stays, and the context behind it, to ``per_number`` times the channels of the other;
            where ``None``, a perceptron.
        hidden: widths of that perceptron; (64, 64) where ``None``.
        swap: whether the second part stays and the first one moves.
        n_context: size of axis 1 of the context.

    Attributes:
        per_number: parameters that each moved number needs.

    Raises:
        ValueError: if d is below 2, or widths are given beside a network; when used, if the context has another size.
    """

    per_number: int

    def __init__(
        self,
        d: int,
        net: nn.Module | None = None,
        *,
        hidden: Sequence[int] | None = None,
        swap: bool = False,
        n_context: int = 0,
    ):
        super().__init__()
        if d < 2:
            raise ValueError(f"d is {d}; expected at least 2: one part stays, the other moves")
        if net is not None and hidden is not None:
            raise ValueError(f"hidden is {hidden} beside a network; expected one of the two")
        self.d, self.swap, self.n_context = d, swap, n_context
        self.sizes = [d - d // 2, d // 2]
        self.n_stay, self.n_move = self.sizes[::-1] if swap else self.sizes
        n_in, n_out = self.n_stay + n_context, self.per_number * self.n_move
        hidden = (64, 64) if hidden is None else hidden
        self.net = nets.mlp([n_in, *hidden, n_out]) if net is None else net

    def move(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        r"""Moves a part from z to x.

        Arguments:
            z: the part, shape (n, ``n_move``, …).
            parameters: what the network says of the other part, shape (n, ``per_number`` · ``n_move``, …).

        Returns:
            the moved part, and :math:`\log \lvert \det \partial x / \partial z \rvert`, shape (n,).
        """
        raise NotImplementedError

    def move_back(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        r"""Moves it from x to z; as :meth:`move`, with the log-determinant of this direction."""
        raise NotImplementedError

    def answer(self, stay: Tensor, context: Tensor | None = None) -> Tensor:
        r"""What the network says of the part that stays."""
        return self.net(beside(stay, context, self.n_context))

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.run(self.move, z, context)

    def inverse(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.run(self.move_back, x, context)

    def run(self, move: Callable, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        r"""One part stays, the other is moved in one of the two directions."""
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

    per_number = 1

    def move(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return z + t, z.new_zeros(len(z))

    def move_back(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return x - t, x.new_zeros(len(x))


class AffineCoupling(Coupling):
    r"""RealNVP's coupling: scales and shifts one part by what a network says of the other.

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

    def move(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift(parameters)
        return (z - t) * (-s).exp(), -s.flatten(1).sum(1)

    def move_back(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.scale_and_shift(parameters)
        return x * s.exp() + t, s.flatten(1).sum(1)


# ---------------------------------------------------------------------------------------------- splines


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
    check.positive(bound=bound)
    knots = spline_knots(parameters, bound)
    q, inside = x.clamp(-bound, bound), x.abs() < bound
    piece = spline_pieces(q, knots, axis=1 if inverse else 0)
    xi, y = spline_backward(q, piece) if inverse else spline_forward(q, piece)
    log_slope = spline_log_slope(xi, piece)
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, y, x), torch.where(inside, log_slope, torch.zeros_like(x))


class Piece(NamedTuple):
    r"""What a curve is between the two knots beside each number: where it starts, how far it goes, how steep it is."""

    x0: Tensor
    y0: Tensor
    width: Tensor
    height: Tensor
    d0: Tensor
    d1: Tensor
    slope: Tensor


def spline_knots(parameters: Tensor, bound: float) -> Tensor:
    r"""x, y and slope of the K + 1 knots, shape (…, 3, K + 1), from 3K − 1 free numbers in the last axis.

    Widths and heights are at least a thousandth of the box, and slopes at least 0.001.

    Raises:
        ValueError: if there are not 3K − 1 for a K ≥ 1.
    """
    K, left = divmod(parameters.shape[-1] + 1, 3)
    if left or K < 1:
        raise ValueError(f"parameters have {parameters.shape[-1]} a number; expected 3K − 1")
    floor = 1e-3
    sizes = parameters[..., : 2 * K].unflatten(-1, (2, K)).softmax(-1) * (1 - floor * K) + floor
    corners = F.pad(sizes.cumsum(-1), (1, 0)) * (2 * bound) - bound
    # At a parameter of 0 the slope is 1 + floor.
    slopes = F.softplus(parameters[..., 2 * K :] + math.log(math.e - 1)) + floor
    return torch.cat([corners, F.pad(slopes, (1, 1), value=1.0)[..., None, :]], -2)


def spline_pieces(q: Tensor, knots: Tensor, axis: int) -> Piece:
    r"""The piece that each number lies in, by its x (``axis`` 0) or by its y (1)."""
    k = (q[..., None] >= knots[..., axis, 1:-1]).sum(-1, keepdim=True)
    at = k[..., None].expand(*k.shape[:-1], 3, 1)
    x0, y0, d0 = knots.gather(-1, at).squeeze(-1).unbind(-1)
    x1, y1, d1 = knots.gather(-1, at + 1).squeeze(-1).unbind(-1)
    width, height = x1 - x0, y1 - y0
    return Piece(x0, y0, width, height, d0, d1, height / width)


def spline_forward(x: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
    r"""From x to its place :math:`\xi` in the piece, 0 … 1, and to y."""
    x0, y0, w, h, d0, d1, s = piece
    xi = (x - x0) / w
    both = xi * (1 - xi)
    return xi, y0 + h * (s * xi.square() + d0 * both) / (s + (d0 + d1 - 2 * s) * both)


def spline_backward(y: Tensor, piece: Piece) -> tuple[Tensor, Tensor]:
    r"""From y to the place :math:`\xi` of its x, and to x: the root of a quadratic equation.

    With :math:`\rho = (y - y_0) / h` and :math:`u = \delta_0 (1 - \rho) - \delta_1 \rho` the discriminant is
    :math:`u^2 + 4 s^2 \rho (1 - \rho)`: no term is negative, so that rounding cannot make it so.
    """
    x0, y0, w, h, d0, d1, s = piece
    rho = ((y - y0) / h).clamp(0, 1)
    u, rest = d0 * (1 - rho) - d1 * rho, 4 * s.square() * rho * (1 - rho)
    root = u.abs() + (u.square() + rest).sqrt()
    xi = 2 * s * rho / (2 * s * rho + torch.where(u >= 0, root, rest / root))
    return xi, x0 + w * xi


def spline_log_slope(xi: Tensor, piece: Piece) -> Tensor:
    r""":math:`\log \partial y / \partial x` at the place :math:`\xi`."""
    _, _, _, _, d0, d1, s = piece
    eta = 1 - xi
    both = xi * eta
    rise = d1 * xi.square() + 2 * s * both + d0 * eta.square()
    return 2 * s.log() + rise.log() - 2 * (s + (d0 + d1 - 2 * s) * both).log()


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
        self,
        d: int,
        net: nn.Module | None = None,
        *,
        n_bins: int = 8,
        bound: float = 3.0,
        **settings,
    ):
        check.inside("[1, 500]", n_bins=n_bins)
        check.positive(bound=bound)
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

    Where the networks are small, cutting and joining at each coupling costs a quarter of a step's time.

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
    return Flow(layers, d)
