r"""A table that its reader sorts, on the built page and in a notebook, without a network."""

import html
import math
from collections.abc import Sequence
from typing import Any

from IPython.display import display

from lectool.explore import OWN_KEYS, web_file
from lectool.metrics import Estimate

__all__ = ["table"]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str) -> None:
    r"""A table that its reader sorts by a click, or Enter, on the name of a column; once more to turn it round.

    Arguments:
        header: names of the columns; the first column names the rows.
        rows: cells: words, numbers, :class:`~lectool.metrics.Estimate`, or ``None`` for an empty one, which stays
            at the bottom.
        caption: what the table shows.

    Raises:
        ValueError: if a row has another length than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"the row {list(row)} has {len(row)} cells; expected {len(header)}")
    names = "".join(
        f'<th scope="col"><button type="button" {OWN_KEYS}>{html.escape(name)}</button></th>'
        for name in header
    )
    body = "".join(
        f"<tr>{''.join(_cell(value, not j) for j, value in enumerate(row))}</tr>" for row in rows
    )
    plain = "\n".join(" | ".join(_words(value) for value in row) for row in [header, *rows])
    page = (
        f'<figure class="sortable"><style>{web_file("table.css")}</style>'
        f'<div tabindex="0" role="region" aria-label="{html.escape(caption, True)}">'
        f"<table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>"
        f"<figcaption>{html.escape(caption)} Click a column’s name to sort by it.</figcaption>"
        f"<script>{web_file('table.js')}</script></figure>"
    )
    display({"text/html": page, "text/plain": plain}, raw=True)


def _cell(value: Any, first: bool) -> str:
    words = html.escape(_words(value))
    if first:
        return f'<th scope="row">{words}</th>'
    number = value.value if isinstance(value, Estimate) else value
    known = isinstance(number, int | float) and not math.isnan(number)
    key = f' data-key="{number:.10g}"' if known else ""
    return f"<td{key}>{words}</td>"


def _words(value: Any) -> str:
    if isinstance(value, Estimate):
        half = (value.high - value.low) / 2
        n_decimals = max(0, -math.floor(math.log10(half))) if half > 0 else 2
        return f"{value.value:,.{n_decimals}f} ± {half:,.{n_decimals}f}".replace("-", "−")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    words = f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 4):.3g}"
    return words.replace("-", "−")
