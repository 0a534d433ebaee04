"""A chapter at several seeds, kept for its page: against moments that are known, and a notebook that is run."""

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lectool import repeat, results, sortable
from lectool.metrics import Estimate

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "results" / "side-by-side.json"


def table(*rows, scale="quick", columns=("model", "FID", "no.", "kind")):
    return {
        "name": "side",
        "columns": list(columns),
        "rows": [list(row) for row in rows],
        "data": "mnist",
        "scale": scale,
    }


# ------------------------------------------------------------------------------------------------ one table


def test_spread_is_mean_and_standard_deviation_of_each_number():
    repeats = [table(["VAE", fid, 3, "bound"]) for fid in (1.0, 2.0, 6.0)]
    found = repeat.spread(repeats)
    assert found["columns"] == ["row", "measure", "mean", "standard deviation"]
    assert found["rows"] == [["VAE", "FID", 3.0, 2.646]]  # √7: squares 4 + 1 + 9 over n − 1


def test_what_is_empty_once_or_no_measurement_is_left_out():
    first = table(["VAE", None, 3, "bound"], ["GAN", 5.0, 4, None])
    second = table(["VAE", 1.5, 3, "bound"], ["GAN", 7.0, 4, None])
    assert repeat.spread([first, second])["rows"] == [["GAN", "FID", 6.0, 1.414]]


@pytest.mark.parametrize(
    ("repeats", "words"),
    [
        ([table(["VAE", 1.0, 3, None])], "1 repeats of a table"),
        ([table(["VAE", 1.0, 3, None]), table(["GAN", 1.0, 3, None])], "names of their rows"),
        ([table(["V", 1.0]), table(["V", 1.0], columns=("model", "KID"))], "rows or columns"),
    ],
)
def test_repeats_of_other_tables_are_refused(repeats, words):
    with pytest.raises(ValueError, match=words):
        repeat.spread(repeats)


@pytest.mark.parametrize(("scale", "name"), [("quick", "side"), ("full", "side-full")])
def test_record_is_one_that_results_keeps(tmp_path, scale, name):
    repeats = [table(["VAE", fid, 3, None], scale=scale) for fid in (1.0, 2.0)]
    made = repeat.record("17-side-by-side", [4, 5], repeats, 12.34)
    assert list(results.problems(name, made)) == []
    assert results.write(name, made, tmp_path).name == f"{name}.json"
    assert (made["seeds"], made["data"], made["seconds"]) == ([4, 5], "mnist", 12.3)


# ------------------------------------------------------------------------------------------------ a notebook


SOURCE = """
import os
from lectool import sortable
seed = int(os.environ["LECTOOL_SEED"])
sortable.table(["model", "FID"], [["VAE", 0.5 + seed]], "Kept.", name="one")
sortable.table(["model", "FID"], [["VAE", 0.5]], "Not kept.")
"""


@pytest.fixture
def chapters(tmp_path, monkeypatch):
    folder = tmp_path / "chapters"
    folder.mkdir()

    def write(name, source):
        nb = new_notebook(cells=[new_code_cell(source)])
        nb.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(nb, folder / f"{name}.ipynb")

    write("01-a", SOURCE)
    write("02-b", "assert False, 'it broke'")
    write("03-c", "pass")
    monkeypatch.setattr(repeat, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return folder


def test_command_runs_a_chapter_at_each_seed(chapters, tmp_path, capsys):
    assert repeat.main(["01", "--seeds", "2", "5", "--out", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "one.json").read_text("utf8"))
    assert kept["table"]["rows"] == [["VAE", "FID", 4.0, 2.121]]
    assert kept["chapter"] == "01-a"
    assert "kept: one.json" in capsys.readouterr().out


def test_a_chapter_that_fails_is_named(chapters):
    with pytest.raises(RuntimeError, match=r"02-b\.ipynb at seed 7: (.|\n)*it broke"):
        repeat.executed(chapters / "02-b.ipynb", 7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["9"], "0 notebooks in chapters/ begin with '9'"),
        (["0"], "3 notebooks"),
        (["01", "--seeds", "1", "1"], "two different seeds"),
    ],
)
def test_command_refuses(chapters, capsys, arguments, words):
    with pytest.raises(SystemExit):
        repeat.main(arguments)
    assert words in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ on the page


@pytest.fixture
def kept(monkeypatch):
    """Another record in place of that of the chapter."""

    def keep(scale="quick"):
        repeats = [table(["VAE", fid, 3, None], scale=scale) for fid in (1.0, 2.0)]
        made = repeat.record("17-side-by-side", [0, 1], repeats, 1.0)
        shelf = {made["name"]: made}
        monkeypatch.setattr(results, "load", shelf.get)

    return keep


def test_over_seeds_reads_what_was_kept(kept, monkeypatch):
    monkeypatch.delenv("LECTOOL_SCALE", raising=False)
    kept()
    found, told = sortable.over_seeds("side", "mnist")
    assert found == {("VAE", "FID"): pytest.approx(Estimate(1.5, 1.5 - 0.7071, 1.5 + 0.7071, 0))}
    assert "seeds 0, 1, run on 2" in told


def test_over_seeds_has_nothing_from_other_data_or_another_scale(kept, monkeypatch):
    monkeypatch.delenv("LECTOOL_SCALE", raising=False)
    kept()
    assert sortable.over_seeds("other", "mnist")[0] == {}
    found, told = sortable.over_seeds("side", "bundled")
    assert found == {}
    assert "have not been run with these data at quick scale" in told
    monkeypatch.setenv("LECTOOL_SCALE", "full")
    assert sortable.over_seeds("side", "mnist")[0] == {}
    kept("full")
    assert sortable.over_seeds("side", "mnist")[0] != {}


def test_only_a_table_with_a_name_shows_its_numbers_to_programs(monkeypatch):
    bundles = []
    monkeypatch.setattr(sortable, "display", lambda bundle, raw: bundles.append(bundle))
    row = ["VAE", Estimate(1.5, 1.0, 2.0, 0.0), None, float("nan"), 3]
    sortable.table(["model", "FID", "bits", "KL", "no."], [row], "One.")
    sortable.table(["model", "FID", "bits", "KL", "no."], [row], "One.", name="one")
    assert set(bundles[0]) == {"text/html", "text/plain"}
    found = bundles[1].pop(sortable.MIME)
    assert bundles[1] == bundles[0]
    assert found["name"] == "one"
    assert found["columns"] == ["model", "FID", "bits", "KL", "no."]
    assert found["rows"] == [["VAE", 1.5, None, None, 3]]
    json.dumps(found, allow_nan=False)


# ------------------------------------------------------------------------------------------------ the file


def test_the_kept_file_belongs_to_the_chapter_as_it_is():
    kept = json.loads(KEPT.read_text("utf8"))
    assert list(results.problems("side-by-side", kept)) == []
    assert (kept["chapter"], kept["data"], kept["seeds"]) == ("17-side-by-side", "mnist", [0, 1, 2])
    cells = nbformat.read(ROOT / "chapters" / "17-side-by-side.ipynb", 4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    added = re.findall(r'^add\(\s*"([^"]+)"', code, re.MULTILINE)
    header = next(c.source for c in cells if c.get("id") == "measures-table")
    rows = {name for name, *_ in kept["table"]["rows"]}
    assert rows == {*added, "other test images", "the pixels themselves"}
    for measure in {measure for _, measure, *_ in kept["table"]["rows"]}:
        assert f'"{measure}"' in header
    assert all(sd >= 0 for *_, sd in kept["table"]["rows"])
