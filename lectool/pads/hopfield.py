r"""A Hopfield network that recalls in the page."""

import html
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lectool import check
from lectool.explore import OWN_KEYS
from lectool.pads.page import (
    as_bytes,
    buttons,
    choice_slider,
    figure_html,
    numbers,
    packed_bits,
    packed_bytes,
    packed_floats,
    png,
    show,
    stand_in,
    view,
)

__all__ = ["hopfield_pad"]

MOST_UNITS, MOST_PATTERNS = 784, 12
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
SHARE = 0.2  # of the pixels, which is flipped at first


def hopfield_pad(
    W: Tensor,
    patterns: Tensor,
    shape: tuple[int, int],
    *,
    bias: Tensor | None = None,
    labels: Sequence[str] | None = None,
    alt: str = "State of the Hopfield network",
    caption: str = "",
) -> None:
    r"""A Hopfield network in the reader's page: a stored pattern is damaged, and updates bring it back, or do not.

    .. math:: E(x) = -\tfrac12 x^\top W x - b^\top x, \qquad x \in \{-1, +1\}^n .

    One unit after the other, in an order that is shuffled once, takes the sign of :math:`(W x + b)_i` and stays as it
    is where that is 0, so that the energy never rises. The reader loads a pattern by a button, flips pixels by hand or
    at random, erases half of them, and lets the network run; the page shows the energy update by update, the nearest
    pattern and how far it is.

    Arguments:
        W: weights, symmetric, 0 on the diagonal, shape (n, n) with n ≤ 784. They travel as whole numbers of 8 bits
            times a scale where that is exact (as Hebb's are), else as floats of 16 bits where that changes no pull at
            a pattern visibly, else of 32: for 20×20 pixels 0.1, 0.2 and 0.4 MB.
        patterns: stored patterns of −1 and 1, shape (p, n) with p ≤ 12.
        shape: (rows, columns) of a pattern as an image; their product is n.
        bias: b, shape (n,); zeros where ``None``.
        labels: a word for each pattern; their numbers, from 1, where ``None``.
        alt: description of the state, to which its energy and the nearest pattern are added.
        caption: one or two sentences below.

    Raises:
        ValueError: if W is not symmetric, has a diagonal other than 0 or more than 784 rows, a pattern holds other
            numbers than −1 and 1, sizes do not fit, there are more than 12 patterns, or a number is NaN or infinite.
    """
    n, labels = _checked(W, patterns, shape, bias, labels)
    W, patterns = W.detach().cpu().double(), patterns.detach().cpu()
    b = torch.zeros(n).double() if bias is None else bias.detach().cpu().double()
    generator = torch.Generator().manual_seed(0)  # of no result: how the pad looks at first
    order = torch.randperm(n, generator=generator)
    flipped = torch.randperm(n, generator=generator)[: round(SHARE * n)]
    start = patterns[0].double()
    start[flipped] *= -1
    packed, travels = _pack_weights(W, b, torch.cat([patterns.double(), start[None]]))
    end = _settled(travels, b, start, order)
    differ = int((end != patterns[0]).sum())
    data = {
        **packed,
        "n": n,
        "shape": list(shape),
        "bias": b.tolist(),
        "patterns": [packed_bits(p > 0) for p in patterns],
        "start": packed_bits(start > 0),
        "order": order.tolist(),
        "labels": labels,
        "shares": list(SHARES),
        "shareNames": [f"{share:.0%}" for share in SHARES],
        "alt": alt,
    }
    words = (
        f"{alt}: pattern {labels[0]}, the same with {len(flipped)} of {n} pixels flipped, "
        f"and what is recalled, of which {differ} pixels differ from the pattern"
    )
    picture = png(_side_by_side([patterns[0], start, end], shape))
    still = stand_in("a pattern, the pattern damaged, and what the network recalls", picture, words)
    page = figure_html("hopfield-pad", _live(data), still, caption, data)
    show(page, picture, words)


def _checked(
    W: Tensor,
    patterns: Tensor,
    shape: tuple[int, int],
    bias: Tensor | None,
    labels: Sequence[str] | None,
) -> tuple[int, list[str]]:
    r"""The number of units, and the patterns' labels."""
    check.data(W, "W")
    n = len(W)
    check.shape(n, n, W=W)
    check.inside(f"[2, {MOST_UNITS}]", **{"number of units": n})
    gap = (W - W.T).abs().max().item()
    if gap > 1e-5 * W.abs().max().item():
        raise ValueError(f"W and its transpose differ by up to {gap:.4g}; expected a symmetric W")
    if W.diagonal().any():
        largest = W.diagonal().abs().max().item()
        raise ValueError(f"the diagonal of W holds numbers up to {largest:.4g}; expected 0")
    check.data(patterns, "patterns")
    check.shape("p", n, patterns=patterns)
    check.inside(f"[1, {MOST_PATTERNS}]", **{"number of patterns": len(patterns)})
    if not (patterns.abs() == 1).all():
        raise ValueError("patterns hold other numbers than −1 and 1")
    if len(shape) != 2 or min(shape) < 1 or shape[0] * shape[1] != n:
        raise ValueError(f"shape is {shape}; expected rows and columns of {n} pixels")
    if bias is not None:
        check.data(bias, "bias", n_dims=1)
        check.shape(n, bias=bias)
    labels = [str(i + 1) for i in range(len(patterns))] if labels is None else list(labels)
    check.lengths(patterns=patterns, labels=labels)
    return n, labels


def _pack_weights(W: Tensor, b: Tensor, x: Tensor) -> tuple[dict[str, Any], Tensor]:
    r"""The weights above the diagonal, row by row, as the script reads them; what it makes of them, shape (n, n)."""
    n = len(W)
    rows, columns = torch.triu_indices(n, n, 1)
    upper = W[rows, columns]

    def whole(packed: Tensor, scale: float) -> Tensor:
        travels = torch.zeros_like(W)
        travels[rows, columns] = travels[columns, rows] = scale * packed
        return travels

    largest = upper.abs().max().item() or 1.0
    smallest = upper.abs()[upper != 0].min().item() if upper.any() else largest
    for scale in (smallest, smallest / 2, smallest / 3):
        near = (upper / scale).round()
        if near.abs().max() <= 127 and (scale * near - upper).abs().max() <= 1e-6 * largest:
            text = packed_bytes(near.to(torch.int8))
            return {"weights": text, "bits": 8, "scale": scale}, whole(near, scale)
    rough, exact = upper.div(largest).half().double(), upper.div(largest).float().double()
    pull, seen = (x @ whole(packed, largest) + b for packed in (exact, rough))
    fits = (
        torch.equal(pull.sign(), seen.sign())
        and (pull - seen).abs().max() < 0.01 * pull.abs().mean()
    )
    packed, size = (rough, 16) if fits else (exact, 32)
    text = packed_floats(packed, size)
    return {"weights": text, "bits": size, "scale": largest}, whole(packed, largest)


def _settled(W: Tensor, b: Tensor, x: Tensor, order: Tensor) -> Tensor:
    # As in web/pads-hopfield.js.
    x, moved = x.clone(), True
    while moved:
        moved = False
        for i in order.tolist():
            if (W[i] @ x + b[i]) * x[i] < 0:
                x[i], moved = -x[i], True
    return x


def _side_by_side(x: Sequence[Tensor], shape: tuple[int, int]) -> Any:
    framed = [torch.nn.functional.pad(t.view(shape).double(), (1, 1, 1, 1)) for t in x]
    return as_bytes((torch.cat(framed, 1) + 1) / 2)


def _live(data: dict[str, Any]) -> str:
    rows, columns = data["shape"]
    shown = numbers("energy", "nearest pattern", "pixels that differ", "updates", "state")
    label = "Energy update by update"
    memories = " ".join(
        f'<button type="button" {OWN_KEYS} class="pad-pattern"><canvas width="{columns}" height="{rows}" '
        f'aria-hidden="true"></canvas>{html.escape(name)}</button>'
        for name in data["labels"]
    )
    return (
        '<div class="pad-views">'
        + view("pad-field pad-pixels", columns, rows, data["alt"], "the state: drag to flip pixels")
        + view("pad-trace", 512, 256, label, "energy; dashed: nearest pattern", after=shown)
        + '</div><div class="pad-buttons" role="group" aria-label="Stored patterns">'
        + f"{memories}</div>"
        + buttons(
            noise="add noise", half="erase half", invert="invert", run="recall", step="next flip"
        )
        + choice_slider("noise: pixels flipped", data["shareNames"], SHARES.index(SHARE))
        + '<p class="ex-live" role="status" aria-live="polite"></p>'
    )
