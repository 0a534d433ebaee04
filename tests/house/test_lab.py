"""What a reader saves in JupyterLab never touches the repository, and is never lost when the book moves on."""

import json
import subprocess

import lab
import pytest
from environment import ROOT


def notebook(source, outputs=()):
    cell = {"cell_type": "code", "source": [source], "outputs": list(outputs), "id": "a"}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def book(tmp_path):
    root = tmp_path / "book"
    for name in ("chapters/01-a.ipynb", "assignments/student/a01-b.ipynb"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(notebook("1"), "utf8")
    (root / "assignments" / "a01-b.ipynb").write_text(notebook("solution"), "utf8")
    (root / "notation.md").write_text("symbols", "utf8")
    (root / "README.md").write_text("readme", "utf8")
    return root


def laid(book):
    return lab.lay_out(book, book / "lab"), book / "lab"


def test_it_reaches_chapters_assignments_and_pages_but_no_solutions(book):
    said, folder = laid(book)
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {
        ".copied.json",
        "chapters/01-a.ipynb",
        "assignments/student/a01-b.ipynb",
        "notation.md",
    }
    assert said == []


def test_a_copy_that_was_only_run_follows_the_book(book):
    _, folder = laid(book)
    copy = folder / "chapters/01-a.ipynb"
    copy.write_text(notebook("1", [{"output_type": "stream", "name": "stdout", "text": "1"}]))
    assert laid(book)[0] == []
    assert "stdout" in copy.read_text(), "what it showed is kept while the book stays as it is"
    (book / "chapters/01-a.ipynb").write_text(notebook("2"), "utf8")
    assert laid(book)[0] == []
    assert copy.read_text() == notebook("2")


def test_work_is_kept_and_the_new_version_lies_beside_it(book):
    _, folder = laid(book)
    copy = folder / "chapters/01-a.ipynb"
    copy.write_text(notebook("mine"), "utf8")
    (book / "chapters/01-a.ipynb").write_text(notebook("2"), "utf8")
    said, _ = laid(book)
    assert copy.read_text() == notebook("mine") and "01-a.new.ipynb" in said[0]
    assert (folder / "chapters/01-a.new.ipynb").read_text() == notebook("2")
    assert laid(book)[0] == [], "it is said once"
    assert copy.read_text() == notebook("mine")


def test_a_damaged_copy_counts_as_work(book):
    _, folder = laid(book)
    (folder / "chapters/01-a.ipynb").write_text("{", "utf8")
    (book / "chapters/01-a.ipynb").write_text(notebook("2"), "utf8")
    assert len(laid(book)[0]) == 1
    assert (folder / "chapters/01-a.ipynb").read_text() == "{"


def test_git_does_not_see_the_copies():
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "lab/chapters/01-pca.ipynb"], cwd=ROOT, check=False
    )
    assert ignored.returncode == 0
