"""The address stands in one place, everything agrees with it, and one command changes it everywhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import address
import pytest
from environment import ROOT, files

NEW = address.Address("some-school", "deep.course", "v9.8.7")


@pytest.fixture
def copy(tmp_path):
    """A copy of the tree without its history."""
    for path in files():
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return tmp_path


def test_everything_agrees():
    assert address.disagreements() == []


def test_address_is_complete():
    now = address.address()
    assert now.url == f"https://github.com/{now.owner}/{now.name}"
    assert now.install == f'%pip install -q "lectool @ git+{now.url}@{now.tag}"'
    assert re.fullmatch(address.TAG, now.tag)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        (
            "README.md",
            "[open](https://colab.research.google.com/github/someone/else/blob/main/chapters/01-pca.ipynb)",
        ),
        ("README.md", "[open](https://mybinder.org/v2/gh/{o}/{n}/v0.0.1)"),
        ("index.md", "[code](https://github.com/{o}/another)"),
        ("index.md", "[code](https://github.com/another/{n})"),
        ("index.md", "[page](https://github.com/{o}/{n}/blob/main/no/such/file.md)"),
        ("CONTRIBUTING.md", 'pip install "lectool @ git+https://github.com/{o}/{n}@v0.0.1"'),
        ("CONTRIBUTING.md", 'pip install "lectool @ git+https://github.com/fork/other@{t}"'),
        (
            "notes.ipynb",
            '{{"source": "%pip install -q \\"lectool @ git+https://github.com/{o}/{n}\\""}}',
        ),
    ],
)
def test_a_wrong_link_is_seen(copy, file, line):
    now = address.address(copy)
    with (copy / file).open("a", encoding="utf8") as opened:
        opened.write("\n" + line.format(o=now.owner, n=now.name, t=now.tag) + "\n")
    assert len(address.disagreements(copy)) >= 1


def test_links_to_other_projects_are_left_alone(copy):
    with (copy / "index.md").open("a", encoding="utf8") as opened:
        opened.write(
            "\nSee https://github.com/pytorch/examples and https://github.com/karpathy/minGPT.\n"
        )
    assert address.disagreements(copy) == []
    address.change(copy, NEW)
    text = (copy / "index.md").read_text("utf8")
    assert "https://github.com/pytorch/examples and https://github.com/karpathy/minGPT." in text


def test_the_command_changes_every_file(copy):
    old = address.address(copy)
    notebook = copy / "chapters" / "99-made-up.ipynb"
    notebook.parent.mkdir(exist_ok=True)
    source = ["import sys\n", 'if "google.colab" in sys.modules:\n', f"    {old.install}"]
    cell = {
        "cell_type": "code",
        "source": source,
        "metadata": {},
        "outputs": [],
        "execution_count": None,
        "id": "a",
    }
    notebook.write_text(
        json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), "utf8"
    )
    held = [
        p
        for p in address.text_files(copy)
        if re.search(address.BEFORE + old.repo, p.read_text("utf8"))
    ]

    changed = address.change(copy, NEW)

    assert {p.relative_to(copy).as_posix() for p in held} <= set(changed)
    assert {
        "README.md",
        "CITATION.cff",
        "pyproject.toml",
        "_config.yml",
        "chapters/99-made-up.ipynb",
    } <= set(changed)
    assert address.address(copy) == NEW
    assert address.disagreements(copy) == []
    left = rf"{address.BEFORE}{old.repo}(?![\w-])|@{re.escape(old.tag)}\b|{old.owner}\.github\.io/{old.name}"
    for path in address.text_files(copy):
        if not path.relative_to(copy).as_posix().startswith(("tests/", "_ext/")):
            assert not re.search(left, path.read_text("utf8")), path
    cells = json.loads(notebook.read_text("utf8"))["cells"]
    assert cells[0]["source"][2] == f"    {NEW.install}"
    assert f'version = "{NEW.tag[1:]}"' in (copy / "pyproject.toml").read_text("utf8")
    assert f"version: {NEW.tag[1:]}" in (copy / "CITATION.cff").read_text("utf8")


def test_the_command_is_idempotent_and_can_be_undone(copy):
    before = {path: path.read_bytes() for path in address.text_files(copy)}
    old = address.address(copy)
    address.change(copy, NEW)
    assert address.change(copy, NEW) == []
    address.change(copy, old)
    assert {path: path.read_bytes() for path in address.text_files(copy)} == before


def test_names_that_begin_alike_are_not_ours():
    old = address.Address("me", "course", "v1.0")
    text = "https://github.com/me/course-two https://github.com/me/course.js https://notgithub.com/me/course"
    assert address.rewritten(text, "a.md", old, NEW) == text
    ours = "https://github.com/me/course. (https://github.com/me/course) https://github.com/me/course.git@v1.0"
    expected = ours.replace("me/course", NEW.repo).replace("v1.0", NEW.tag)
    assert address.rewritten(ours, "a.md", old, NEW) == expected


@pytest.mark.parametrize(
    "wrong", [["no-slash"], ["a/b/c"], ["a/b", "--tag", "0.1"], ["https://github.com/a/b"]]
)
def test_bad_arguments_change_nothing(copy, wrong):
    before = {path: path.read_bytes() for path in files(copy)}
    run = subprocess.run(
        [sys.executable, copy / "_ext" / "address.py", *wrong], capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "not of the form owner/name" in run.stderr or "no tag of the form" in run.stderr
    assert {path: path.read_bytes() for path in files(copy)} == before


def test_command_line(copy):
    command = [
        sys.executable,
        copy / "_ext" / "address.py",
        "some-school/deep.course",
        "--tag",
        "v9.8.7",
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "every link agrees" in run.stdout
    assert address.address(Path(copy)) == NEW
