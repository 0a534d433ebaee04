r"""A table that its reader sorts, on the built page and in a notebook, without a network."""

import html
import math
from collections.abc import Sequence
from typing import Any

from IPython.display import display

from lectool import data, results, scale
from lectool.explore import OWN_KEYS, web_file
from lectool.metrics import Estimate

__all__ = ["MIME", "over_seeds", "table"]

MIME = "application/vnd.lectool.table+json"  # by it lectool.repeat finds the numbers of a table


def table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str, *, name: str = ""
) -> None:
    r"""A table that its reader sorts by a click, or Enter, on the name of a column; once more to turn it round.

    Arguments:
        header: names of the columns; the first column names the rows.
        rows: cells: words, numbers, :class:`~lectool.metrics.Estimate`, or ``None`` for an empty one, which stays
            at the bottom.
        caption: what the table shows.
        name: under which :mod:`lectool.repeat` keeps what several seeds give; not kept where it is empty.

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
    bundle: dict[str, Any] = {"text/html": page, "text/plain": plain}
    if name:
        bundle[MIME] = {
            "name": name,
            "columns": list(header),
            "rows": [[_plain(value) for value in row] for row in rows],
            "data": ", ".join(sorted(data.used)),
            "scale": scale.current(),
        }
    display(bundle, raw=True)


def over_seeds(name: str, source: str) -> tuple[dict[tuple[str, str], Estimate], str]:
    r"""What the numbers of a table were at several seeds, as :mod:`lectool.repeat` has kept them.

    Arguments:
        name: of the table.
        source: data set of this run, ``"mnist"`` or ``"bundled"``; numbers from other data do not count.

    Returns:
        (row, measure) → mean, with one standard deviation to either side; empty where nothing was kept for these data
        and this scale. And a sentence that says how the numbers came about, or that there are none.
    """
    kept = results.load(name + ("-full" if scale.current() == "full" else ""))
    if kept is None or source not in kept["data"].split(", "):
        where = f"with these data at {scale.current()} scale"
        return {}, f"Several seeds have not been run {where} (python -m lectool.repeat)."
    seeds = ", ".join(map(str, kept["seeds"]))
    told = f"Mean ± standard deviation of seeds {seeds}, run on {kept['date']} ({kept['device']})."
    found = {
        (row, measure): Estimate(mean, mean - sd, mean + sd, 0.0)
        for row, measure, mean, sd in kept["table"]["rows"]
    }
    return found, told


def _cell(value: Any, first: bool) -> str:
    words = html.escape(_words(value))
    if first:
        return f'<th scope="row">{words}</th>'
    number = value.value if isinstance(value, Estimate) else value
    known = isinstance(number, int | float) and not math.isnan(number)
    key = f' data-key="{number:.10g}"'.replace("inf", "Infinity") if known else ""
    return f"<td{key}>{words}</td>"


def _plain(value: Any) -> str | int | float | None:
    r"""A cell as JSON has it: numbers without their intervals, nothing in place of a number that is not finite."""
    number = value.value if isinstance(value, Estimate) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _words(value: Any) -> str:
    if isinstance(value, Estimate):
        half = (value.high - value.low) / 2
        n_decimals = min(4, max(0, -math.floor(math.log10(half)))) if half > 0 else 2
        return f"{value.value:,.{n_decimals}f} ± {half:,.{n_decimals}f}".replace("-", "−")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    words = f"{value:,.0f}" if abs(value) >= 100 else f"{round(value, 4):.3g}"
    return words.replace("-", "−")
