r"""How far a chapter's numbers move when all that is random is drawn anew: the chapter, run at several seeds.

``python -m lectool.repeat 17-side-by-side`` executes a chapter of the checkout once a seed, takes the tables that have
a name (:func:`lectool.sortable.table`), and keeps the mean and the standard deviation of each of their numbers in
``results/NAME.json``, at full scale in ``results/NAME-full.json``. A seed moves everything: which images are for
training and which for the test, initial weights, batches and draws.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lectool import results, scale
from lectool.sortable import MIME

__all__ = ["executed", "main", "record", "run_cells", "spread", "tables"]

ROOT = Path(__file__).parents[1]
COLUMNS = ["row", "measure", "mean", "standard deviation"]


def run_cells(
    path: Path,
    settings: dict[str, str],
    seconds: float | None = None,
    *,
    allow_errors: bool = False,
) -> tuple[list, int]:
    r"""Runs a notebook's code cells in a kernel of its own, one after the other while there is time.

    Arguments:
        path: the notebook, which stays as it is.
        settings: variables of the kernel's environment, besides those of this process.
        seconds: for all cells; a cell that is not done by then is stopped. ``None`` for no limit.
        allow_errors: whether it goes on behind a cell that fails.

    Returns:
        the cells that came to their end, with their outputs, and how many cells there are.

    Raises:
        CellExecutionError: of nbclient, if a cell fails and ``allow_errors`` is not set.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError

    notebook = nbformat.read(path, as_version=4)
    code = [(i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    end = math.inf if seconds is None else time.monotonic() + seconds
    environ = os.environ | {"PYTHONPATH": str(ROOT)} | settings
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # not the cells' output
    client = NotebookClient(notebook, allow_errors=allow_errors, kernel_name="python3")
    done: list = []
    with client.setup_kernel(env=environ, cwd=str(path.parent), **quiet):
        for i, cell in code:
            left = end - time.monotonic()
            if left < 1:
                break
            client.timeout = None if left == math.inf else int(left)
            try:
                client.execute_cell(cell, i)
            except CellTimeoutError:
                break
            done.append(cell)
    return done, len(code)


def executed(path: Path, seed: int) -> list:
    r"""A notebook's code cells with their outputs at ``LECTOOL_SEED=seed``.

    Raises:
        RuntimeError: if it does not run to its end, as where a claim does not hold; the message says which cell failed.
    """
    from nbclient.exceptions import CellExecutionError

    try:
        return run_cells(path, {"LECTOOL_SEED": str(seed), "LECTOOL_EXPLORE": "static"})[0]
    except CellExecutionError as error:
        raise RuntimeError(f"{path.name} at seed {seed}: {str(error)[-2000:]}") from None


def tables(cells: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    r"""The tables of executed cells that have a name: ``name``, ``columns``, ``rows``, ``data``, ``scale``."""
    for cell in cells:
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).get(MIME):
                yield found


def spread(repeats: Sequence[dict[str, Any]]) -> dict[str, list]:
    r"""Mean and standard deviation of each number over repeats of one table.

    A cell counts where it is a number in all of them, and not a whole one throughout: those are counts of parameters
    and the like, and no measurements.

    Arguments:
        repeats: of one table, at least two, with the same rows and columns.

    Returns:
        a table of its own, ``columns`` and ``rows``, with one row a number: the row's name, the measure, mean and
        standard deviation (with n − 1).

    Raises:
        ValueError: if there are fewer than two, or they have other rows or columns.
    """
    if len(repeats) < 2:
        raise ValueError(f"{len(repeats)} repeats of a table; expected at least 2")
    shapes = [(t["columns"], [row[0] for row in t["rows"]]) for t in repeats]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("the repeats differ in the names of their rows or columns")
    found = []
    for alike in zip(*(t["rows"] for t in repeats), strict=True):
        for measure, *values in list(zip(repeats[0]["columns"], *alike, strict=True))[1:]:
            if all(map(_is_number, values)) and not all(isinstance(v, int) for v in values):
                moments = statistics.fmean(values), statistics.stdev(values)
                found.append([alike[0][0], measure, *(float(f"{m:.4g}") for m in moments)])
    return {"columns": COLUMNS, "rows": found}


def record(
    chapter: str, seeds: Sequence[int], repeats: Sequence[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    r"""What :func:`lectool.results.write` keeps of repeats of one table, which took so many seconds together."""
    first = repeats[0]
    name = first["name"] + ("-full" if first["scale"] == "full" else "")
    return {
        "name": name,
        "chapter": chapter,
        "scale": first["scale"],
        "data": first["data"],
        "seeds": list(seeds),
        **results.circumstances(),
        "seconds": round(seconds, 1),
        "table": spread(repeats),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def main(arguments: Sequence[str] | None = None) -> int:
    r"""The command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lectool.repeat", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "chapter", help="name of a notebook in chapters/, or its beginning, such as 17"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], help="at least two (0 1 2)"
    )
    parser.add_argument("--out", type=Path, help="folder for the records (results/)")
    options = parser.parse_args(arguments)
    paths = sorted((ROOT / "chapters").glob(f"{options.chapter}*.ipynb"))
    if len(paths) != 1:
        parser.error(
            f"{len(paths)} notebooks in chapters/ begin with {options.chapter!r}; expected 1"
        )
    if len(set(options.seeds)) < 2:
        parser.error("expected at least two different seeds")
    start, by_name = time.monotonic(), {}
    for seed in options.seeds:
        print(f"{paths[0].stem}, seed {seed}, scale {scale.current()} …", flush=True)
        for table in tables(executed(paths[0], seed)):
            by_name.setdefault(table["name"], []).append(table)
    if not by_name:
        parser.error(f"{paths[0].name} has no table with a name")
    for repeats in by_name.values():
        made = record(paths[0].stem, options.seeds, repeats, time.monotonic() - start)
        print(f"kept: {results.write(made['name'], made, options.out).name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
