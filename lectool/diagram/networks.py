r"""Networks, drawn from their own layers."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lectool import check
from lectool.diagram import marks
from lectool.diagram.marks import BLUE, ORANGE, Box

__all__ = ["Stage", "layers", "read_layers"]


class Stage(NamedTuple):
    r"""What a layer leaves behind."""

    words: str
    shape: tuple[int, ...]


def read_layers(net: nn.Module | Sequence[nn.Module], shape: Sequence[int]) -> list[Stage]:
    r"""The layers of a network in the order in which a sample passes them, with the shapes between them.

    A layer with a matrix of weights, or behind which there are more or fewer numbers, makes a stage; activations and
    normalizations are words beside it. Shapes are not read off the settings: a sample of zeros is sent through.

    Arguments:
        net: a network, or several that follow each other.
        shape: of one sample.

    Returns:
        the input and each stage.
    """
    parts = [net] if isinstance(net, nn.Module) else list(net)
    stages = [Stage("", tuple(shape))]

    def note(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        before, after = tuple(inputs[0].shape[1:]), tuple(output.shape[1:])
        if isinstance(module, nn.Flatten | nn.Unflatten):
            # An image is shown with its sides, on whichever side of the folding it stands.
            if len(after) > len(before):
                stages[-1] = stages[-1]._replace(shape=after)
        elif math.prod(before) != math.prod(after) or any(p.ndim > 1 for p in module.parameters()):
            stages.append(Stage(words(module), after))
        elif word := words(module):
            old = stages[-1].words
            stages[-1] = stages[-1]._replace(words=f"{old}, {word}" if old else word)

    leaves = [m for part in parts for m in part.modules() if not list(m.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in dict.fromkeys(leaves)]
    was_training = [part.training for part in parts]
    like = next((p for part in parts for p in part.parameters()), torch.zeros(()))
    try:
        # Drawing a network leaves the random numbers of the page alone.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            x = torch.zeros(1, *shape, dtype=like.dtype, device=like.device)
            for part in parts:
                x = part.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
        for part, training in zip(parts, was_training):
            part.train(training)
    return stages


def words(layer: nn.Module) -> str:
    r"""What a layer is called in a picture; nothing for one that does nothing."""
    names = {
        "Linear": "linear",
        "Conv2d": "conv",
        "ConvTranspose2d": "transposed",
        "MaxPool2d": "max-pool",
        "AvgPool2d": "mean-pool",
        "BatchNorm1d": "batch norm",
        "BatchNorm2d": "batch norm",
        "LeakyReLU": "leaky ReLU",
        "Sigmoid": "sigmoid",
        "Tanh": "tanh",
        "Identity": "",
        "Dropout": "dropout",
        "Softmax": "softmax",
    }
    name = names.get(type(layer).__name__, type(layer).__name__)
    if not hasattr(layer, "kernel_size"):
        return name
    kernel, stride = (s if isinstance(s, int) else s[0] for s in (layer.kernel_size, layer.stride))
    return f"{name} {kernel}×{kernel}" + (f" / {stride}" if stride > 1 else "")


def layers(
    net: nn.Module | Sequence[nn.Module],
    shape: Sequence[int],
    *,
    names: Mapping[int, str] | None = None,
    code: int | None = None,
) -> str:
    r"""A network from the data at the top to the output at the bottom: a bar a layer, as wide as the square root of
    the numbers in it, with its size on the right and what leads to it on the left (``conv 3×3 / 2`` has stride 2).

    Arguments:
        net: a network, or several that follow each other, such as encoder and decoder.
        shape: of one sample.
        names: what to write behind the size of stage 0 (the input), 1, …, as in a list also from the end: −1, …
        code: the stage to mark in orange.

    Returns:
        the picture, for :func:`show`.

    Raises:
        ValueError: if there is no such stage, or the words are too long for a phone.
    """
    stages = read_layers(net, shape)
    names = dict(names or {})
    for i in [*names, *([] if code is None else [code])]:
        check.inside(f"[{-len(stages)}, {len(stages) - 1}]", stage=i)
    names = {i % len(stages): name for i, name in names.items()}
    code = None if code is None else code % len(stages)
    labels = [
        "×".join(map(str, stage.shape)) + (f" · {names[i]}" if i in names else "")
        for i, stage in enumerate(stages)
    ]
    links = [folded(stage.words) for stage in stages]
    return hourglass([math.prod(stage.shape) for stage in stages], labels, links, code)


def folded(words: str, limit: int = 20) -> str:
    r"""Words in several lines, broken behind commas."""
    lines = [""]
    for word in words.split(", "):
        if lines[-1] and len(f"{lines[-1]}, {word}") > limit:
            lines[-1] += ","
            lines.append(word)
        else:
            lines[-1] += f", {word}" if lines[-1] else word
    return "\n".join(lines)


def hourglass(
    sizes: Sequence[int], labels: Sequence[str], links: Sequence[str], code: int | None = None
) -> str:
    r"""A bar for each size with its label on the right, and on the left of the way to it what stands in ``links``."""
    left, right = (max(marks.text_size(word)[0] for word in side) for side in (links, labels))
    most = min(220.0, marks.WIDEST - 32 - left - right)
    if most < 60:
        raise ValueError(
            f"the words need {left + right:.0f} of {marks.WIDEST} units; expected shorter names"
        )
    bars: list[Box] = []
    parts: list[str] = []
    for i, (size, label, link) in enumerate(zip(sizes, labels, links)):
        high = max(26.0, marks.text_size(link)[1] + 4)
        y = bars[-1].y + 14 + high if bars else 0.0
        bar = Box(0.0, y, max(8.0, most * math.sqrt(size / max(sizes))), 14)
        if bars:
            (a, _, b, top), (c, bottom, d, _) = bars[-1].corners, bar.corners
            way = [(a, top), (b, top), (d, bottom), (c, bottom)]
            parts.append(marks.polygon(way, fill=BLUE, fill_opacity=0.16))
            parts.append(marks.text(link, -most / 2 - 12, (top + bottom) / 2, anchor="end"))
        color = ORANGE if i == code else BLUE
        parts.append(marks.rectangle(bar, radius=3, stroke=color, fill=color, fill_opacity=0.75))
        parts.append(marks.text(label, most / 2 + 12, y, anchor="start"))
        bars.append(bar)
    ends = [Box(side * (most / 2 + 12), y, 2, 24) for side in (-1, 1) for y in (0, bars[-1].y)]
    words = [Box(-most / 2 - 12 - left, 0, 2, 2), Box(most / 2 + 12 + right, 0, 2, 2)]
    return marks.picture(parts, marks.around(ends + words, pad=4))
