"""Whole chapters at full scale: claims are kept as they turn out, in the time there is."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lectool import results
from lectool.full import __main__ as command
from lectool.full import chapters

IMPORTS = "from lectool import scale\nfrom lectool.claims import claim"
TRUE = 'claim("Full is large, number", scale.pick(quick=1, full=100), ">", 50)'
FALSE = 'claim("Small things stay small, number", scale.pick(quick=1, full=100), "<", 50)'


def write(folder, *sources, name="03-small"):
    folder.mkdir(exist_ok=True)
    cells = [new_markdown_cell("# 3 Small"), *map(new_code_cell, sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No seed is shifted, and the code has the name of its commit."""
    monkeypatch.delenv("LECTOOL_SEED", raising=False)
    around = {"device": "CPU", "date": "2026-01-01", "commit": "abc", "versions": {"torch": "2"}}
    monkeypatch.setattr(results, "circumstances", lambda: around)
    return around


def test_false_claims_and_failing_cells_are_kept(tmp_path):
    path = write(tmp_path / "chapters", IMPORTS, TRUE, FALSE, "1 / 0", TRUE)
    made = chapters.perform_chapter(path, tmp_path)
    assert made == results.load("chapter-03", tmp_path)
    assert [row[-1] for row in made["table"]["rows"]] == [True, False, True]
    assert made["table"]["rows"][1][:2] == ["Small things stay small, number", "100 < 50"]
    assert made["finished"] and made["progress"] == "5 of 5 cells"
    assert len(made["errors"]) == 1 and "ZeroDivisionError: division by zero" in made["errors"][0]


def test_a_complete_chapter_is_not_run_again_unless_the_code_has_changed(tmp_path, clean):
    path = write(tmp_path / "chapters", IMPORTS, TRUE)
    first = chapters.perform_chapter(path, tmp_path)
    write(tmp_path / "chapters", IMPORTS, TRUE, FALSE)
    assert chapters.perform_chapter(path, tmp_path) == first
    assert len(chapters.perform_chapter(path, tmp_path, fresh=True)["table"]["rows"]) == 2
    write(tmp_path / "chapters", IMPORTS, TRUE)
    assert len(chapters.perform_chapter(path, tmp_path, seed=1)["table"]["rows"]) == 1
    write(tmp_path / "chapters", IMPORTS, TRUE, FALSE)
    clean["commit"] = "abd"
    assert len(chapters.perform_chapter(path, tmp_path)["table"]["rows"]) == 2


def test_time_ends_a_chapter_with_the_claims_it_has(tmp_path):
    path = write(tmp_path / "chapters", IMPORTS, TRUE, "import time\ntime.sleep(60)", TRUE)
    made = chapters.perform_chapter(path, tmp_path, 8.0)
    assert made["progress"] == "2 of 4 cells" and not made["finished"]
    assert len(made["table"]["rows"]) == 1 and made["seconds"] < 30 and not made["errors"]
    whole = chapters.perform_chapter(write(tmp_path / "chapters", IMPORTS, TRUE), tmp_path)
    assert whole["finished"]
    path = write(tmp_path / "chapters", IMPORTS, TRUE, "import time\ntime.sleep(60)", TRUE)
    assert not chapters.perform_chapter(path, tmp_path, 8.0, fresh=True)["finished"]
    assert results.load("chapter-03", tmp_path) == whole, "a complete record was replaced"


def test_chapters_on_the_command_line(tmp_path, monkeypatch, capsys):
    write(tmp_path / "chapters", IMPORTS, TRUE, FALSE)
    write(tmp_path / "chapters", IMPORTS, "1 / 0", TRUE, name="15a-other")
    found = chapters.chapter_names(tmp_path / "chapters")
    assert list(found) == ["03", "15a"]
    monkeypatch.setattr(command, "chapter_names", lambda: found)
    assert command.main(["chapters", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 claims hold, 3 of 3 cells" in said and "failed: 15a" in said
    assert command.main(["03", "--out", str(tmp_path)]) == 0
    with pytest.raises(SystemExit):
        command.main(["03", "--smoke"])
