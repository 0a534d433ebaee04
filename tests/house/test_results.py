"""What long runs have left under results/: whole records of known runs, small and without traces of a machine."""

import json
import re

import nbformat
from environment import ROOT, files

from lectool import results
from lectool.published import PUBLISHED

KEPT = [path for path in files() if path.relative_to(ROOT).parts[0] == "results"]
RECORDS = {path.stem: json.loads(path.read_text("utf8")) for path in KEPT if path.suffix == ".json"}


def test_there_is_nothing_but_records_and_pictures():
    odd = [
        path.relative_to(ROOT).as_posix()
        for path in KEPT
        if path.suffix not in (".json", ".png") or path.parent != ROOT / "results"
    ]
    assert not odd
    # Each picture belongs to a record.
    assert {path.stem for path in KEPT if path.suffix == ".png"} <= RECORDS.keys()


def test_records_are_whole():
    for name, record in RECORDS.items():
        assert not list(results.problems(name, record)), name
        assert (ROOT / "chapters" / f"{record['chapter']}.ipynb").is_file(), name
        assert record["scale"] in ("full", "quick"), f"{name}: a trial"


def test_records_stand_beside_what_was_published():
    for name, record in RECORDS.items():
        if name not in PUBLISHED:
            assert "table" in record, f"{name}: no run has this name"
            continue
        paper = PUBLISHED[name]
        assert record["chapter"] == paper.chapter and record["scale"] == "full", name
        assert {v["metric"]: v["published"] for v in record["values"]} == paper.figures, name
        assert {"finished", "progress", "alt"} <= record.keys(), name


def test_pictures_are_small():
    for path in KEPT:
        assert path.suffix != ".png" or path.stat().st_size <= 60_000, path.name


def test_records_name_no_machine_and_no_folder():
    for name, record in RECORDS.items():
        text = json.dumps(record)
        assert not re.search(r"/(?:home|root|work|Users|tmp)\b|localhost|[A-Z]:\\\\", text), name


def test_each_chapter_of_a_run_shows_it():
    for name, paper in PUBLISHED.items():
        cells = nbformat.read(ROOT / "chapters" / f"{paper.chapter}.ipynb", as_version=4).cells
        tables = [cell.source for cell in cells if "published.table(" in cell.source]
        assert any(f'"{name}"' in source for source in tables), name
