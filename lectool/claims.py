r"""Claims: sentences of the book that the page itself checks."""

import html
import math
import operator

from IPython.display import display
from torch import Tensor

from lectool import data, scale

__all__ = ["MIME", "ClaimError", "claim"]

MIME = "application/vnd.lectool.claim+json"  # by it the build finds the claims of all chapters
COMPARE = {"<": operator.lt, "≤": operator.le, ">": operator.gt, "≥": operator.ge}


class ClaimError(AssertionError):
    r"""A sentence of the book that this run does not bear out."""


def claim(
    sentence: str,
    left: float | Tensor,
    op: str,
    right: float | Tensor,
    *,
    margin: float = 0.0,
    unit: str = "",
) -> None:
    r"""Shows a sentence with the two numbers that it rests on, or raises where they do not bear it out.

    Arguments:
        sentence: one sentence, as the prose would say it.
        left, right: the two numbers, at least one of them measured on this run.
        op: ``"<"``, ``"≤"``, ``">"``, ``"≥"`` (also ``"<="``, ``">="``), or ``"≈"`` for equality up to
            ``margin``.
        margin: by how much the comparison must hold, in the numbers' own unit; for ``"≈"`` the largest
            difference allowed, which must be positive.
        unit: of both numbers, shown behind them.

    Raises:
        ClaimError: if the comparison fails; the message holds both numbers.
        ValueError: if ``op`` is unknown, a number is NaN or infinite, ``margin`` is negative, or both numbers are the
            same object.
    """
    op = {"<=": "≤", ">=": "≥"}.get(op, op)
    if op not in COMPARE and op != "≈":
        raise ValueError(f"op is {op!r}; it can be <, ≤, >, ≥ or ≈")
    if left is right and not isinstance(left, int | float):
        raise ValueError(f"claim {sentence!r} compares a value with itself")
    a, b = float(left), float(right)
    if not (math.isfinite(a) and math.isfinite(b)):
        raise ValueError(f"claim {sentence!r}: {a} {op} {b} cannot be decided")
    if margin < 0 or (op == "≈" and margin == 0):
        raise ValueError(f"margin is {margin}; expected {'> 0 with ≈' if op == '≈' else '≥ 0'}")
    if op == "≈":
        passed = abs(a - b) <= margin
    elif op in "<≤":
        passed = COMPARE[op](a + margin, b)
    else:
        passed = COMPARE[op](a - margin, b)
    numbers = f"{_number(a)} {op} {_number(b)}{f' {unit}' if unit else ''}"
    if margin:
        numbers += f" (within {_number(margin)})" if op == "≈" else f" (margin {_number(margin)})"
    if not passed:
        raise ClaimError(f"not so on this run: {sentence}: {numbers}")
    bundle = {
        "text/plain": f"✓ {sentence}: {numbers}",
        "text/html": (
            '<p class="claim"><span class="claim-mark" role="img" aria-label="checked">✓</span> '
            f'{html.escape(sentence)} <span class="claim-numbers">{html.escape(numbers)}</span></p>'
        ),
        MIME: {
            "sentence": sentence,
            "left": a,
            "op": op,
            "right": b,
            "margin": margin,
            "numbers": numbers,
            "passed": True,
            "scale": scale.current(),
            "data": ", ".join(sorted(data.used)),
        },
    }
    display(bundle, raw=True)


def _number(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:,.4g}"
