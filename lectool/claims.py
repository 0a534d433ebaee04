r"""Claims: sentences of the book that the page itself checks."""

import html
import math
import operator

from IPython import get_ipython
from IPython.display import display
from torch import Tensor

from lectool import data, scale
from lectool.live import is_live

__all__ = ["MIME", "ClaimError", "claim"]

MIME = "application/vnd.lectool.claim+json"  # by it the build finds the claims of all chapters
COMPARE = {"<": operator.lt, "≤": operator.le, ">": operator.gt, "≥": operator.ge}


OPEN = 2  # so many claims of a cell stand open; more are folded under their count


class ClaimError(AssertionError):
    r"""A sentence of the book that this run does not bear out."""

    def _render_traceback_(self) -> list[str]:
        # What IPython shows: the two numbers, not where they were compared.
        return [f"ClaimError: {self}"]


_of_this_cell: list[dict] = []


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

    All claims of a cell are shown as one block below its other outputs. Where somebody sits before the kernel and has
    changed a line, a false claim is shown as such, and the play goes on; in a build it is an error.

    Arguments:
        sentence: one sentence, as the prose would say it.
        left, right: the two numbers, at least one of them measured on this run.
        op: ``"<"``, ``"≤"``, ``">"``, ``"≥"`` (also ``"<="``, ``">="``), or ``"≈"`` for equality up to
            ``margin``.
        margin: by how much the comparison must hold, in the numbers' own unit; for ``"≈"`` the largest
            difference allowed, which must be positive.
        unit: of both numbers, shown behind them.

    Raises:
        ClaimError: if the comparison fails and nobody watches; the message holds both numbers.
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
    if not passed and not is_live():
        raise ClaimError(f"not so on this run: {sentence}: {numbers}")
    record = {"sentence": sentence, "left": a, "op": op, "right": b, "margin": margin}
    record |= {"numbers": numbers, "passed": passed}
    record |= {"scale": scale.current(), "data": ", ".join(sorted(data.used))}
    shell = get_ipython()
    if shell is None:
        _show([record])
        return
    if not _of_this_cell:
        shell.events.register("post_run_cell", _close)
    _of_this_cell.append(record)


def _close(*_: object) -> None:
    r"""Shows the claims of the cell that ends."""
    get_ipython().events.unregister("post_run_cell", _close)
    records = _of_this_cell[:]
    _of_this_cell.clear()
    _show(records)


def _show(records: list[dict]) -> None:
    lines = [f"{_mark(r)} {r['sentence']}: {r['numbers']}" for r in records]
    bundle = {
        "text/plain": "\n".join(lines),
        "text/html": block(records),
        MIME: {"claims": records},
    }
    display(bundle, raw=True)


def block(records: list[dict]) -> str:
    r"""HTML of the claims of one cell: a table, folded where there are more than :data:`OPEN`."""
    rows = "".join(
        f'<tr class="claim"><td style="text-align:left">{_spoken_mark(r)} {html.escape(r["sentence"])}</td> '
        f'<td class="claim-numbers" style="text-align:right">{html.escape(r["numbers"])}</td></tr>'
        for r in records
    )
    table = f'<table class="claims-of-cell">{rows}</table>'
    false = sum(not r["passed"] for r in records)
    if len(records) <= OPEN or false:
        return f'<div class="claims">{table}</div>'
    return f'<details class="claims"><summary>✓ {len(records)} claims, checked</summary>{table}</details>'


def _mark(record: dict) -> str:
    return "✓" if record["passed"] else "✗ not so on this run:"


def _spoken_mark(record: dict) -> str:
    label = "checked" if record["passed"] else "not so on this run"
    return f'<span class="claim-mark" role="img" aria-label="{label}">{_mark(record)}</span>'


def _number(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:,.4g}"
