r"""Chapter 06: deconvolutional networks: convolutional sparse codes of convolutional sparse codes.

Images, filters and codes are those of :mod:`lectool.sparse.convolutional`, with an open boundary. Layer l has filters
:math:`D_l`, shape (filters, filters of the layer below, size, size); the maps of a layer are the channels of the next.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.grad import conv2d_weight

from lectool import check, random
from lectool.sparse.convolutional import (
    ConvolutionalDictionaryLearning,
    conv_analysis,
    conv_synthesis,
    first_filters,
    fitting,
    length,
    map_shape,
    replace_unused,
    with_border,
)
from lectool.sparse.inference import shrink

__all__ = [
    "AdaptiveDeconvolutionalNetwork",
    "DeconvolutionalNetwork",
    "Switches",
    "chain_down",
    "chain_up",
    "infer_through",
    "middle_switches",
    "pick",
    "pool",
    "unpool",
    "update_through",
]


class DeconvolutionalNetwork:
    r"""Layers of convolutional sparse coding: each codes the maps of the layer below, the first one the images.

    .. math:: z_l = \arg\min_z \tfrac12 \lVert z_{l-1} - D_l * z \rVert^2 + \lambda_l \lVert z \rVert_1, \qquad z_0 = x

    A code becomes an image again by a chain of convolutions, :math:`\hat x = D_1 * (D_2 * (D_3 * z_3))`.

    Arguments:
        n_filters: of each layer, from the bottom.
        size: side of the square filters, in pixels of the layer below, ≥ 1.
        lams: λ > 0 of each layer.
        n_iter, n_steps, n_filter_steps, positive, generator: of each layer's
            :class:`lectool.sparse.ConvolutionalDictionaryLearning`.

    Attributes:
        layers_: the learners of all layers, from the bottom; ``layers_[l].D_`` are the filters of layer l + 1.

    References:
        Zeiler, Krishnan, Taylor & Fergus (2010), Deconvolutional networks.
    """

    def __init__(
        self,
        n_filters: Sequence[int] = (8, 16, 32),
        size: int = 5,
        lams: Sequence[float] = (0.1, 0.1, 0.1),
        *,
        n_iter: int = 15,
        n_steps: int = 15,
        n_filter_steps: int = 5,
        positive: bool = False,
        generator: torch.Generator | None = None,
    ):
        check_settings(n_filters, lams)
        steps = {"n_iter": n_iter, "n_steps": n_steps, "n_filter_steps": n_filter_steps}
        rest = {"positive": positive, "generator": generator}
        self.layers = [
            ConvolutionalDictionaryLearning(k, size, lam, **steps, **rest)
            for k, lam in zip(n_filters, lams)
        ]

    def fit(self, x: Tensor) -> "DeconvolutionalNetwork":
        r"""Learns layer after layer from images x, shape (n, c, H, W), each from the codes of the one before.

        Raises:
            ValueError: if x is no valid data, its images are smaller than a filter, or the codes of a layer hold fewer
                patches that are not zero than the next layer has filters.
        """
        check.data(x, n_dims=4)
        for layer in self.layers:
            x = layer.fit_transform(x)
        self.layers_ = self.layers
        return self

    def transform(self, x: Tensor, *, n_steps: int = 200) -> list[Tensor]:
        r"""The codes of all layers, from the bottom, by so many steps of FISTA each.

        Raises:
            ValueError: if x is no valid data or does not fit the filters.
        """
        codes = [x]
        for layer in self.layers_:
            codes.append(layer.transform(codes[-1], n_steps=n_steps))
        return codes[1:]

    def reconstruct(self, z: Tensor, level: int) -> Tensor:
        r"""The images of codes z of the layer ``level``, counted from 1.

        Raises:
            ValueError: if there is no such layer, or z is no valid data or does not fit it.
        """
        check.inside(f"[1, {len(self.layers_)}]", level=level)
        for layer in self.layers_[level - 1 :: -1]:
            z = layer.inverse_transform(z)
        return z


def check_settings(n_filters: Sequence[int], lams: Sequence[float]) -> None:
    r"""At least one layer, each with filters and a λ.

    Raises:
        ValueError: if not.
    """
    if len(n_filters) == 0:
        raise ValueError("n_filters is empty; expected a number of filters for at least one layer")
    check.lengths(n_filters=n_filters, lams=lams)
    check.at_least(1, **{f"n_filters[{i}]": k for i, k in enumerate(n_filters)})
    check.positive(**{f"lams[{i}]": lam for i, lam in enumerate(lams)})


# ------------------------------------------------------------------------------------- pooling that can be undone


class Switches(NamedTuple):
    r"""From where in its window each pooled value comes.

    Attributes:
        places: row · W + column in the map, int64, shape (n, k, windows in a column, windows in a row).
        shape: (H, W) of the map.
    """

    places: Tensor
    shape: tuple[int, int]


def pool(z: Tensor, size: int) -> tuple[Tensor, Switches]:
    r"""Of each window the value of the largest magnitude, with its sign, and where it stood.

    Arguments:
        z: maps, shape (n, k, H, W).
        size: side of the windows, ≥ 1; those at the lower and right border may be smaller.

    Returns:
        the values, shape (n, k, ⌈H / size⌉, ⌈W / size⌉), and their switches.

    Raises:
        ValueError: if z is no valid data or the size is out of range.
    """
    check.data(z, "z", n_dims=4)
    check.at_least(1, size=size)
    options = {"ceil_mode": True, "return_indices": True}
    _, places = torch.nn.functional.max_pool2d(z.abs(), size, **options)
    switches = Switches(places, tuple(z.shape[2:]))
    return pick(z, switches), switches


def pick(z: Tensor, switches: Switches) -> Tensor:
    r"""The values at the switches: the transposed map of :func:`unpool`, shape of ``switches.places``."""
    places = switches.places
    return z.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)


def unpool(p: Tensor, switches: Switches) -> Tensor:
    r"""Maps with each pooled value back where it stood, and zeros elsewhere: shape (n, k, H, W)."""
    height, width = switches.shape
    z = p.new_zeros(*p.shape[:2], height * width)
    return z.scatter(2, switches.places.flatten(2), p.flatten(2)).unflatten(2, (height, width))


def middle_switches(switches: Switches, size: int) -> Switches:
    r"""Switches for the same maps that know nothing: the middle of each window.

    Arguments:
        switches: those to forget.
        size: side of the windows, ≥ 1. A side of 2 has no middle; its lower right quarter is taken.

    Raises:
        ValueError: if the size is out of range or not that of these switches.
    """
    check.at_least(1, size=size)
    (height, width), (n, k, *windows) = switches.shape, switches.places.shape
    if windows != [-(-height // size), -(-width // size)]:
        raise ValueError(
            f"size is {size}; the switches have {windows[0]} × {windows[1]} windows in maps of {height} × {width}"
        )
    steps = [torch.arange(count, device=switches.places.device) for count in windows]
    rows = (steps[0] * size + size // 2).clamp(max=height - 1)
    columns = (steps[1] * size + size // 2).clamp(max=width - 1)
    return Switches((rows[:, None] * width + columns).repeat(n, k, 1, 1), switches.shape)


# ------------------------------------------------------------------------------------- codes of the input itself


def chain_down(p: Tensor, filters: Sequence[Tensor], switches: Sequence[Switches]) -> Tensor:
    r"""Pooled maps become images, :math:`D_1 * U_1(D_2 * U_2 \cdots p)`: each U puts values back to their switches.

    Arguments:
        p: pooled maps of the last layer given, shape (n, k, …, …).
        filters, switches: of all layers from the bottom; without any, p is the image.
    """
    for D, s in zip(filters[::-1], switches[::-1]):
        p = conv_synthesis(unpool(p, s), D)
    return p


def chain_up(x: Tensor, filters: Sequence[Tensor], switches: Sequence[Switches]) -> Tensor:
    r"""The transposed map of :func:`chain_down`, from images to pooled maps."""
    for D, s in zip(filters, switches):
        x = pick(conv_analysis(x, D), s)
    return x


def rebuild(
    z: Tensor, D: Tensor, filters: Sequence[Tensor], switches: Sequence[Switches]
) -> Tensor:
    r"""The images R z of a layer's codes: through its own filters D and then through all layers below."""
    return chain_down(conv_synthesis(z, D), filters, switches)


def correlate(
    x: Tensor, D: Tensor, filters: Sequence[Tensor], switches: Sequence[Switches]
) -> Tensor:
    r"""The transposed map :math:`R^\top x`, from images to a layer's codes."""
    return conv_analysis(chain_up(x, filters, switches), D)


def infer_through(
    x: Tensor,
    D: Tensor,
    lam: float,
    filters: Sequence[Tensor] = (),
    switches: Sequence[Switches] = (),
    *,
    n_steps: int = 20,
    pool_size: int | None = None,
    start: Tensor | None = None,
    watch: Callable[[Tensor], object] | None = None,
) -> Tensor:
    r"""ISTA for a layer's code of the images themselves, through all layers below it.

    .. math:: \min_z \tfrac12 \lVert x - R z \rVert^2 + \lambda \lVert z \rVert_1, \qquad
        R z = D_1 * U_1(\cdots D_{l-1} * U_{l-1}(D_l * z))

    The switches below stay as they are. Where the layer is pooled itself, its own are chosen anew after each step: each
    window keeps its largest entry. That is the exact answer to "at most one entry a window", so that no step raises the
    objective, just as without it.

    Arguments:
        x: images, shape (n, c, H, W).
        D: the layer's filters, shape (k, filters of the layer below, h, w).
        lam: λ > 0.
        filters, switches: of all layers below, from the bottom.
        n_steps: ≥ 0.
        pool_size: side of the windows that the layer's codes are pooled by; none where ``None``.
        start: codes to begin with; zeros where ``None``.
        watch: called with the codes after each step.

    Returns:
        codes, shape (n, k, …, …), larger than the pooled maps below by the filters' size − 1.

    Raises:
        ValueError: if x or a filter is no valid data, they do not fit, λ ≤ 0, or a number is out of range.

    References:
        Zeiler, Taylor & Fergus (2011), Adaptive deconvolutional networks for mid and high level feature learning.
    """
    z = first_codes(x, D, lam, filters, switches, start)
    check.at_least(0, n_steps=n_steps)
    check.at_least(1, pool_size=1 if pool_size is None else pool_size)
    layers = (D, filters, switches)
    step = 1 / largest_gain(lambda v: rebuild(v, *layers), lambda e: correlate(e, *layers), z)
    for _ in range(n_steps):
        z = shrink(z - step * correlate(rebuild(z, *layers) - x, *layers), step * lam)
        if pool_size is not None:
            z = unpool(*pool(z, pool_size))
        if watch is not None:
            watch(z)
    return z


def update_through(
    D: Tensor,
    x: Tensor,
    z: Tensor,
    filters: Sequence[Tensor] = (),
    switches: Sequence[Switches] = (),
    *,
    n_steps: int = 3,
) -> Tensor:
    r"""Better filters for given codes: steps down ½‖x − R z‖², after each of which long filters are cut to length 1.

    For fixed codes and switches the images are linear in the filters, as they are in the codes.

    Arguments:
        D, x, filters, switches: as in :func:`infer_through`.
        z: the layer's codes.
        n_steps: ≥ 1.

    Returns:
        the new filters, of the shape of D.
    """
    layers = (filters, switches)
    forward, back = lambda v: rebuild(z, v, *layers), lambda e: filter_slope(e, D, z, *layers)
    step = 1 / largest_gain(forward, back, D)
    for _ in range(n_steps):
        D = D - step * back(forward(D) - x)
        D = D / length(D).clamp(min=1)
    return D


def filter_slope(
    error: Tensor, D: Tensor, z: Tensor, filters: Sequence[Tensor], switches: Sequence[Switches]
) -> Tensor:
    r"""Derivative of ½‖error‖² with respect to the filters D, whose codes are z, through the layers below."""
    below = with_border(chain_up(error, filters, switches), D, "open")
    return conv2d_weight(below, D.shape, z)


def largest_gain(
    forward: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    like: Tensor,
    n_steps: int = 12,
) -> float:
    r"""The largest eigenvalue of a linear map followed by its transposed one, by power iteration, and 5 % for safety.

    Arguments:
        forward: a linear map.
        back: its transposed map.
        like: what it takes: shape, type, device.
        n_steps: ≥ 1.
    """
    v = random.noise(like.shape, like, torch.Generator().manual_seed(0))
    for _ in range(n_steps):
        v = back(forward(v / v.norm().clamp(min=1e-30)))
    return 1.05 * max(v.norm().item(), 1e-12)


def first_codes(
    x: Tensor,
    D: Tensor,
    lam: float,
    filters: Sequence[Tensor],
    switches: Sequence[Switches],
    start: Tensor | None,
) -> Tensor:
    r"""Codes to begin with, after a look at all layers.

    Raises:
        ValueError: if they do not fit each other.
    """
    check.positive(lam=lam)
    check.lengths(filters=filters, switches=switches)
    below = x
    for i, (lower, s) in enumerate(zip(filters, switches)):
        fitting(below, lower)
        if s.shape != map_shape(lower, below.shape[2:], "open"):
            raise ValueError(
                f"switches[{i}] are for maps of {s.shape[0]} × {s.shape[1]}, the layer's maps are "
                f"{' × '.join(map(str, map_shape(lower, below.shape[2:], 'open')))}"
            )
        check.shape(len(x), len(lower), "any", "any", **{f"switches[{i}].places": s.places})
        below = x.new_zeros(s.places.shape)
    fitting(below, D)
    shape = (len(x), len(D), *map_shape(D, below.shape[2:], "open"))
    z = x.new_zeros(shape) if start is None else start
    check.shape(*shape, start=z)
    check.same_kind(D, start=z)
    return z


class AdaptiveDeconvolutionalNetwork:
    r"""A deconvolutional network with max pooling between its layers, each of which rebuilds the images themselves.

    .. math:: z_l = \arg\min_z \tfrac12 \lVert x - R_l z \rVert^2 + \lambda_l \lVert z \rVert_1, \qquad
        R_3 z = D_1 * U_1(D_2 * U_2(D_3 * z))

    Pooling keeps of each window the entry of the largest magnitude and, as a switch, its place; :math:`U_l` puts it
    back there. Layers are trained one after the other. Codes of all layers but the last have one entry a window, see
    :func:`infer_through`, so that pooling loses nothing of them.

    Arguments:
        n_filters: of each layer, from the bottom.
        size: side of the square filters, in pixels of the layer below, ≥ 1.
        lams: λ > 0 of each layer.
        pool_size: side of the windows, ≥ 1.
        n_iter: rounds a layer, ≥ 1: codes, then filters.
        n_steps: ISTA steps a round, which go on from the codes of the round before, ≥ 1.
        n_filter_steps: steps of :func:`update_through` a round, ≥ 1.
        generator: of each layer's first filters, which are patches of what it codes, and of replaced ones.

    Attributes:
        filters_: of each layer, from the bottom, a list of tensors of shape (filters, filters below, size, size).
        objective_: mean objective of the images after each round, a list for each layer.

    References:
        Zeiler, Taylor & Fergus (2011), Adaptive deconvolutional networks for mid and high level feature learning. There
        windows also span pairs of maps.
    """

    def __init__(
        self,
        n_filters: Sequence[int] = (8, 16, 32),
        size: int = 5,
        lams: Sequence[float] = (0.1, 0.1, 0.1),
        *,
        pool_size: int = 2,
        n_iter: int = 10,
        n_steps: int = 10,
        n_filter_steps: int = 3,
        generator: torch.Generator | None = None,
    ):
        check_settings(n_filters, lams)
        check.at_least(1, size=size, pool_size=pool_size, n_iter=n_iter, n_steps=n_steps)
        check.at_least(1, n_filter_steps=n_filter_steps)
        self.n_filters, self.size, self.lams, self.pool_size = n_filters, size, lams, pool_size
        self.n_iter, self.n_steps, self.n_filter_steps = n_iter, n_steps, n_filter_steps
        self.generator = generator

    def fit(self, x: Tensor) -> "AdaptiveDeconvolutionalNetwork":
        r"""Learns layer after layer from images x, shape (n, c, H, W).

        Raises:
            ValueError: if x is no valid data, a layer's input is smaller than a filter, or it holds fewer patches that
                are not zero than the layer has filters.
        """
        check.data(x, n_dims=4)
        self.filters_, self.objective_ = [], []
        below, switches = x, []
        while len(self.filters_) < len(self.n_filters):
            D, z = self.fit_layer(x, below, switches)
            self.filters_.append(D)
            below, s = pool(z, self.pool_size)
            switches.append(s)
        return self

    def fit_layer(
        self, x: Tensor, below: Tensor, switches: list[Switches]
    ) -> tuple[Tensor, Tensor]:
        r"""Filters and codes of the next layer, which stands on the pooled maps ``below``."""
        k, lam = self.n_filters[len(switches)], self.lams[len(switches)]
        D, z = first_filters(below, k, self.size, self.generator), None
        self.objective_.append([])
        for _ in range(self.n_iter):
            z = self.infer(x, D, switches, z, self.n_steps)
            D = update_through(D, x, z, self.filters_, switches, n_steps=self.n_filter_steps)
            error = x - rebuild(z, D, self.filters_, switches)
            cost = 0.5 * error.square().sum((1, 2, 3)) + lam * z.abs().sum((1, 2, 3))
            self.objective_[-1].append(cost.double().mean().item())
            D, _ = replace_unused(D, below, z)
        return D, z

    def infer(
        self, x: Tensor, D: Tensor, switches: list[Switches], start: Tensor | None, n_steps: int
    ) -> Tensor:
        r"""Codes of the next layer: where nothing is known yet first with as many entries as they like, then pooled."""
        level, below = len(switches), {"filters": self.filters_[: len(switches)]}
        below |= {"switches": switches, "n_steps": n_steps}
        last = level == len(self.n_filters) - 1
        if start is None:
            start = infer_through(x, D, self.lams[level], **below)
        size = None if last else self.pool_size
        return infer_through(x, D, self.lams[level], pool_size=size, start=start, **below)

    def transform(self, x: Tensor, *, n_steps: int = 50) -> tuple[list[Tensor], list[Switches]]:
        r"""The codes of all layers, from the bottom, and the switches of all but the last.

        Arguments:
            x: images, shape (n, c, H, W).
            n_steps: of ISTA: so many free ones and so many pooled ones a layer.

        Raises:
            ValueError: if x is no valid data or does not fit the filters.
        """
        codes, switches = [], []
        for D in self.filters_:
            codes.append(self.infer(x, D, switches, None, n_steps))
            switches.append(pool(codes[-1], self.pool_size)[1])
        return codes, switches[:-1]

    def reconstruct(self, z: Tensor, switches: Sequence[Switches]) -> Tensor:
        r"""The images :math:`R_l z` of codes z of layer l.

        Arguments:
            z: codes, shape (n, filters of the layer, …, …).
            switches: of all l − 1 layers below, from the bottom; l is one more than their number.

        Raises:
            ValueError: if there are too many switches, or z is no valid data or does not fit the layer.
        """
        check.inside(f"[0, {len(self.filters_) - 1}]", **{"number of switches": len(switches)})
        D = self.filters_[len(switches)]
        check.data(z, "z", n_dims=4, like=D)
        check.shape("n", len(D), "H", "W", z=z)
        return rebuild(z, D, self.filters_[: len(switches)], switches)

    def forget(self, switches: Sequence[Switches]) -> list[Switches]:
        r"""The middle of each window in place of each switch: see :func:`middle_switches`."""
        return [middle_switches(s, self.pool_size) for s in switches]
