r"""Whole chapters at full scale: what their claims measure there.

A chapter holds its claims at quick scale, in every build. With the papers' settings its numbers are others, and some
claims may be false: those stay in the record as what they are, and the chapter goes on. There is no checkpoint within
a chapter; one that came to its end is not run again.
"""

import time
from pathlib import Path
from typing import Any

from lectool import random, results
from lectool.claims import MIME
from lectool.repeat import run_cells

__all__ = ["COLUMNS", "chapter_names", "perform_chapter"]

ROOT = Path(__file__).parents[2]
COLUMNS = ["claim", "numbers", "holds"]
SETTINGS = {
    "LECTOOL_SCALE": "full",
    "LECTOOL_EXPLORE": "live",  # a false claim is shown, and a slider draws what it shows only
}


def chapter_names(folder: Path = ROOT / "chapters") -> dict[str, Path]:
    r"""The chapters of the checkout by their numbers: ``"01"``, …, ``"15a"``; none where lectool was installed."""
    return {path.stem.split("-")[0]: path for path in sorted(folder.glob("[0-9]*.ipynb"))}


def perform_chapter(
    path: Path, out: Path, seconds: float | None = None, *, seed: int = 0, fresh: bool = False
) -> dict[str, Any]:
    r"""Runs a chapter's cells, one after the other while there is time, and keeps its claims as ``chapter-NN.json``.

    Arguments:
        path: a notebook.
        out: folder of the record; one that is complete is not replaced by one that is not.
        seconds: for the whole chapter; ``None`` for as many as it needs.
        seed: added to every seed of the chapter.
        fresh: run it although there is a complete record of this code.

    Returns:
        the record: of each claim the sentence, the two numbers, and whether it holds; which cells failed, and why.
    """
    name = f"chapter-{path.stem.split('-')[0]}"
    around = results.circumstances()
    kept = results.load(name, out)
    complete = kept is not None and kept["finished"]
    # A commit with a + is no name of a code: there are changes that it does not know.
    now = (around["commit"], random.shifted(seed))
    if complete and (kept["commit"], kept["seed"]) == now and now[0].isalnum() and not fresh:
        return kept
    start = time.monotonic()
    settings = SETTINGS | {"LECTOOL_SEED": str(random.shifted(seed))}
    cells, n_cells = run_cells(path, settings, seconds, allow_errors=True)
    record = {
        "name": name,
        "chapter": path.stem,
        "scale": "full",
        "seed": random.shifted(seed),
        **around,
        "seconds": round(time.monotonic() - start, 1),
        "finished": len(cells) == n_cells,
        "progress": f"{len(cells)} of {n_cells} cells",
        "errors": [f"{c.id}: {o.ename}: {o.evalue}"[:300] for c, o in _outputs(cells, "error")],
        "table": {"columns": COLUMNS, "rows": _claims(cells)},
    }
    if record["table"]["rows"] and (record["finished"] or not complete):
        results.write(name, record, out)
    return record


def _outputs(cells: list, kind: str) -> list[tuple]:
    return [(c, o) for c in cells for o in c.outputs if o.output_type == kind]


def _claims(cells: list) -> list[list]:
    shown = [o.data[MIME]["claims"] for _, o in _outputs(cells, "display_data") if MIME in o.data]
    return [[c["sentence"], c["numbers"], bool(c["passed"])] for found in shown for c in found]
