r"""What long runs have measured, kept as small files: ``NAME.json``, and ``NAME.png`` where there is a picture.

In a checkout they lie in ``results/`` beside the package; an installed lectool brings them along. A record holds what
was measured and how it came about:

- ``name``, ``chapter`` (the notebook's name without its ending), ``scale`` (``"full"``, ``"quick"`` or ``"smoke"``);
- ``seed``, or ``seeds`` where several runs were made;
- ``device``, ``date``, ``commit``, ``versions``, ``seconds``;
- ``values``, a list of ``{"metric", "value", "published", "source"}``, or ``table`` with ``columns`` and ``rows``;
- and what else a run has to say, such as ``progress``: how far it came.
"""

import json
import math
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from lectool import __version__, train

__all__ = ["circumstances", "find", "load", "problems", "write"]

ROOT = Path(__file__).parents[1]
SCALES = ("full", "quick", "smoke")
# Each must be there, of this type.
FIELDS = {
    "name": str,
    "chapter": str,
    "scale": str,
    "device": str,
    "date": str,
    "commit": str,
    "versions": dict,
    "seconds": int | float,
}


# ------------------------------------------------------------------------------------------------- reading


def find(file: str) -> Path | None:
    r"""Where a kept file lies: in the checkout, else among what was installed with lectool; ``None`` if nowhere."""
    beside = ROOT / "results" / file
    if beside.is_file():
        return beside
    try:
        installed = metadata.files("lectool") or []
    except metadata.PackageNotFoundError:
        return None
    places = [Path(p.locate()) for p in installed if p.name == file and p.parent.name == "results"]
    return next((path for path in places if path.is_file()), None)


def load(name: str, folder: str | Path | None = None) -> dict[str, Any] | None:
    r"""The record of a run, from a folder or from where :func:`find` finds it; ``None`` where it has not been made.

    Raises:
        ValueError: if the file is no record; the message says why.
    """
    file = f"{name}.json"
    path = find(file) if folder is None else Path(folder) / file
    if path is None or not path.is_file():
        return None
    try:
        record = json.loads(path.read_text("utf8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    _complain(name, record)
    return record


# ------------------------------------------------------------------------------------------------- writing


def write(name: str, record: dict[str, Any], folder: str | Path | None = None) -> Path:
    r"""Keeps the record of a run.

    Arguments:
        name: small letters, digits and hyphens; the record's own ``name``.
        record: as the module's head describes.
        folder: where the file goes, made if need be; the checkout's ``results/`` where ``None``.

    Returns:
        the file, which is replaced in one step: whoever reads finds the old one or the new one.

    Raises:
        ValueError: if a field is missing or wrong; all that is wrong is named.
        FileNotFoundError: if no folder is given and lectool does not run from a checkout.
    """
    _complain(name, record)
    if folder is None and not (ROOT / "pyproject.toml").is_file():
        raise FileNotFoundError("lectool runs from no checkout; say where the results shall go")
    path = Path(ROOT / "results" if folder is None else folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf8")
    os.replace(part, path)
    return path


def circumstances() -> dict[str, Any]:
    r"""The fields ``device``, ``date``, ``commit`` and ``versions`` of a record made here and now."""
    where = train.device()
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(where)
    else:
        device = f"{where.type.upper()}, {os.cpu_count()} cores"
    return {
        "device": device,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "versions": {"lectool": __version__, "torch": torch.__version__},
    }


def _commit() -> str:
    r"""The checkout's commit, with a + behind it where lectool differs from it; ``"unknown"`` elsewhere."""

    def git(*words: str) -> str:
        run = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "lectool")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


# ------------------------------------------------------------------------------------------------ the schema


def problems(name: str, record: Any) -> Iterator[str]:
    r"""All that is wrong with a record, in words; nothing where it is as the module's head describes."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        yield f"the name {name!r} holds more than small letters, digits and hyphens"
    if not isinstance(record, dict):
        yield f"a record is a dict, not {type(record).__name__}"
        return
    for field, kind in FIELDS.items():
        if not isinstance(record.get(field), kind) or record[field] in ("", {}):
            yield f"{field} is {record.get(field)!r}"
    if record.get("name") != name:
        yield f"the record's name is {record.get('name')!r}; expected {name!r}"
    if record.get("scale") not in SCALES:
        yield f"scale is {record.get('scale')!r}; it can be {', '.join(SCALES)}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(record.get("date"))):
        yield f"date is {record.get('date')!r}; expected YYYY-MM-DD"
    if not _finite(record.get("seconds")) or record["seconds"] < 0:
        yield f"seconds is {record.get('seconds')!r}"
    yield from _seed_problems(record)
    if ("values" in record) == ("table" in record):
        yield "expected either values or a table"
    yield from _value_problems(record.get("values", [{}] if "table" not in record else None))
    if "table" in record:
        yield from _table_problems(record["table"])


def _complain(name: str, record: Any) -> None:
    if found := list(problems(name, record)):
        raise ValueError(f"the record {name!r}: {'; '.join(found)}")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _seed_problems(record: dict[str, Any]) -> Iterator[str]:
    seeds = record.get("seeds", [record.get("seed")])
    whole = isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)
    if not whole or ("seed" in record) == ("seeds" in record):
        yield "expected either seed, a whole number, or seeds, a list of them"


def _value_problems(values: Any) -> Iterator[str]:
    if values is None:
        return
    if not isinstance(values, list) or not values:
        yield f"values is {values!r}; expected a list that is not empty"
        return
    for value in values:
        if not isinstance(value, dict) or not isinstance(value.get("metric"), str):
            yield f"a value has no metric: {value!r}"
        elif not _finite(value.get("value")):
            yield f"{value['metric']} has the value {value.get('value')!r}; expected a finite number"
        elif value.get("published") is not None and not (
            _finite(value["published"]) and value.get("source")
        ):
            yield f"{value['metric']}: a published figure is a number and has a source"


def _table_problems(table: Any) -> Iterator[str]:
    columns, rows = (table.get("columns"), table.get("rows")) if isinstance(table, dict) else (0, 0)
    if not isinstance(columns, list) or not all(isinstance(c, str) and c for c in columns):
        yield f"the table's columns are {columns!r}; expected names"
    elif not isinstance(rows, list) or not rows or any(len(r) != len(columns) for r in rows):
        yield f"the table's rows are not all of {len(columns)} cells"
    elif any(isinstance(c, float) and not math.isfinite(c) for row in rows for c in row):
        yield "the table holds a number that is not finite; expected null where there is none"
