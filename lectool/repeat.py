r"""How far a chapter's numbers move when all that is random is drawn anew: the chapter, run at several seeds.

``python -m lectool.repeat 17-side-by-side`` executes a chapter of the checkout once a seed, takes the tables that have
a name (:func:`lectool.sortable.table`), and keeps the mean and the standard deviation of each of their numbers in
``results/NAME.json``, at full scale in ``results/NAME-full.json``. A seed moves everything: which images are for
training and which for the test, initial weights, batches and draws.
"""

import argparse
import json
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

__all__ = ["executed", "main", "record", "spread", "tables"]

ROOT = Path(__file__).parents[1]
COLUMNS = ["row", "measure", "mean", "standard deviation"]


def executed(path: Path, seed: int) -> dict[str, Any]:
    r"""A notebook with its outputs at ``LECTOOL_SEED=seed``, from a process of its own.

    Raises:
        RuntimeError: if it does not run to its end, as where a claim does not hold; the message ends with what
            nbconvert says.
    """
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout"]
    command += ["--log-level=ERROR", "--ExecutePreprocessor.timeout=-1", str(path)]
    settings = {"LECTOOL_SEED": str(seed), "LECTOOL_EXPLORE": "static", "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"{path.name} at seed {seed}: {run.stderr.strip()[-2000:]}")
    return json.loads(run.stdout)


def tables(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    r"""The tables of an executed notebook that have a name: ``name``, ``columns``, ``rows``, ``data``, ``scale``."""
    for cell in notebook["cells"]:
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
