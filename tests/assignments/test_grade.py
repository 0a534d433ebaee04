"""Grading: right, wrong, endless, crashing, stripped, duplicated, reordered and unreadable submissions."""

import csv
import json
import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lectool.assign import grade, grade_all, read
from lectool.assign import master as masters
from lectool.assign.__main__ import main
from lectool.assign.grade import collected
from lectool.assign.master import student_notebook

ROOT = Path(__file__).parents[2]
A1 = sorted((ROOT / "assignments").glob("a01-*.ipynb"))[0]
NAMES = ["a1.whiten", "a1.slow_features", "a1.decorrelate"]
TIMEOUT = 10


def short_master():
    """Three exercises of assignment 1 and nothing that takes time."""
    whole = read(A1)
    cells = [new_code_cell("import torch\n\nfrom lectool.checks import check")]
    for exercise in masters.exercises(whole):
        if exercise.name in NAMES:
            cells += [whole.cells[n] for n in (*exercise.cells, exercise.check)]
    cells[2].metadata["points"] = 2
    experiment = new_code_cell("raise RuntimeError('an experiment is not run')")
    experiment.metadata["tags"] = ["experiment"]
    cells.insert(3, experiment)
    kernel = {"name": "python3", "display_name": "Python 3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    path = tmp_path_factory.mktemp("master") / "a01-short.ipynb"
    nbformat.write(short_master(), path)
    return path


def submission(master, *, damage=None, **answers):
    """The master's student notebook, filled in; an answer replaces a solution, None leaves its stub."""
    whole = read(master)
    nb = student_notebook(whole)
    for exercise in masters.exercises(whole):
        name = exercise.name.split(".")[1]
        for number in exercise.cells:
            cell = next(c for c in nb.cells if c.id == whole.cells[number].id)
            text = answers.get(name, masters.filled(whole.cells[number].source))
            cell.source = cell.source if text is None else text
    if damage:
        damage(nb)
    return nb


ENDLESS = "def slow_features(z, k):\n    while True:\n        pass"
STUBBORN = (
    "def slow_features(z, k):\n    while True:\n        try:\n            while True:\n                pass\n"
    "        except BaseException:\n            pass"
)
CRASH = "import os\n\n\ndef slow_features(z, k):\n    os._exit(1)"
WRONG = "def slow_features(z, k):\n    return z[:, :k]"


def strip(nb):
    """As some front ends save: no ids, no metadata, other line ends."""
    for cell in nb.cells:
        cell.metadata = {}
        cell.pop("id", None)
        cell.source = (
            cell.source.replace("\n", "\r\n") if cell.source.startswith("check") else cell.source
        )
    nb.metadata = {}
    nb.nbformat_minor = 4


def duplicate(nb):
    """A second check, and the empty stub once more below the answer."""
    stub = new_code_cell("def whiten(x):\n" + _stub(nb, "whiten"))
    nb.cells.insert(3, new_code_cell(nb.cells[2].source))
    nb.cells.insert(2, stub)


def _stub(nb, name):
    clean = student_notebook(read(nb.path))
    return next(c.source for c in clean.cells if f"def {name}(" in c.source).split("\n", 1)[1]


def reorder(nb):
    nb.cells = nb.cells[::-1]


def odd(nb):
    """Cells that scream, ask, cannot be read: none of them an exercise."""
    for source in (
        "print('x' * 10_000_000)\nfor _ in range(5000):\n    print(_)",
        "input('your name? ')",
        "def broken(:",
        "odd = '\ud800'",
    ):
        nb.cells.insert(1, new_code_cell(source))


def tamper(nb):
    nb.cells.insert(1, new_code_cell("def check(*a):\n    print('passed')"))


def endless_cell(nb):
    nb.cells.insert(1, new_code_cell("while True:\n    pass"))


def dying_cell(nb):
    nb.cells.insert(4, new_code_cell("import os\nos._exit(1)"))


ALL = [2, 1, 1]
CASES = {
    "right": ({}, ALL, ""),
    "empty": (dict.fromkeys(["whiten", "slow_features", "decorrelate"]), [0, 0, 0], ""),
    "wrong": ({"slow_features": WRONG}, [2, 0, 1], ""),
    "endless": ({"slow_features": ENDLESS}, [2, 0, 1], ""),
    "stubborn": ({"slow_features": STUBBORN}, [2, 0, 1], ""),
    "crashing": ({"slow_features": CRASH}, [2, 0, 1], ""),
    "stripped": ({"damage": strip}, ALL, ""),
    "duplicated": ({"damage": duplicate}, ALL, ""),
    "reordered": ({"damage": reorder}, ALL, ""),
    "odd cells": ({"damage": odd}, ALL, ""),
    "tampered": ({"damage": tamper, "slow_features": WRONG}, [2, 0, 1], ""),
    "endless cell": ({"damage": endless_cell}, ALL, "cell 2: longer than 10 s"),
    "dying cell": ({"damage": dying_cell}, ALL, "cell 5: the kernel died"),
}


@pytest.fixture
def made(master, tmp_path):
    def make(name):
        answers, _, _ = CASES[name]
        answers = dict(answers)
        damage = answers.pop("damage", None)

        def apply(nb):
            nb.path = master
            if damage:
                damage(nb)
            nb.pop("path")

        path = tmp_path / f"{name}.ipynb"
        path.write_text(json.dumps(submission(master, damage=apply, **answers)), "utf8")
        return path

    return make


@pytest.mark.parametrize("name", CASES)
def test_submission(name, master, made):
    result = grade(master, made(name), timeout=TIMEOUT, seed=3)
    assert list(result.points) == NAMES
    _, points, note = CASES[name]
    assert list(result.points.values()) == points, result
    assert note in " ".join(result.notes)
    if name == "empty":
        assert set(result.reports.values()) == {f"{n}: not filled in yet" for n in NAMES}
    if name in ("endless", "stubborn"):
        assert "longer than 10 s" in result.reports["a1.slow_features"]
    if name == "crashing":
        assert "the kernel died" in result.reports["a1.slow_features"]
    if name == "wrong":
        assert "likely: the eigenvectors" in result.reports["a1.slow_features"]


def test_the_seed_is_another_one(master, made, tmp_path):
    """An answer that knows the numbers of seed 0 fails at the grader's."""
    nb = submission(
        master,
        whiten="def whiten(x):\n    from lectool.random import shifted\n    1 / shifted(-3)\n    return x",
    )
    path = tmp_path / "x.ipynb"
    nbformat.write(nb, path)
    assert "ZeroDivisionError" in grade(master, path, timeout=TIMEOUT, seed=3).reports["a1.whiten"]


def test_the_whole_assignment(tmp_path):
    path = tmp_path / "right.ipynb"
    nbformat.write(submission(A1), path)
    result = grade(A1, path, timeout=60)
    assert set(result.points.values()) == {1.0} and not result.notes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        '{"cells": [], "metadata": {}, "nbformat": 2}',
        '{"cells": [{"cell_type": "code"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}',
        '{"cells": [{"source": "1"}], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}',
        '{"cells": ["x = 1"], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}',
    ],
)
def test_what_is_no_notebook_gets_no_points(text, master, tmp_path):
    path = tmp_path / "anna.ipynb"
    path.write_text(text)
    result = grade(master, path)
    assert result.total == 0 and "anna.ipynb: no notebook that can be read" in result.notes[0]


# --- many submissions -----------------------------------------------------------------------------


def table(path):
    return list(csv.reader(path.read_text("utf8").splitlines()))


@pytest.fixture
def folder(master, made, tmp_path):
    for name, case in {"anna": "right", "bert": "wrong", "class 2/cleo": "empty"}.items():
        target = tmp_path / "all" / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        made(case).rename(target)
    (tmp_path / "all" / "notes.txt").write_text("not a submission")
    (tmp_path / "all" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "all" / ".ipynb_checkpoints" / "anna.ipynb").write_text("{}")
    return tmp_path / "all"


def test_a_table_that_grows_and_goes_on(master, folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out" / "grades.csv"
    command = ["grade", str(master), str(folder), "-o", str(output), "--timeout", str(TIMEOUT)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "[3/3]" in said and "bert: 2 of 3 exercises" in said
    assert table(output) == [
        ["student", *NAMES, "total", "notes"],
        ["anna", "2", "1", "1", "4", ""],
        ["bert", "2", "0", "1", "3", ""],
        ["class 2/cleo", "0", "0", "0", "0", ""],
    ]
    first = output.read_text("utf8")

    module = sys.modules["lectool.assign.grade"]
    ran = []
    monkeypatch.setattr(module, "grade", lambda *a, **k: ran.append(k["student"]) or 1 / 0)
    command += ["--jobs", "1"]  # in this process, where the stand-in is
    assert main(command) == 0
    assert ran == [] and output.read_text("utf8") == first
    assert "3 of 3 were graded before" in capsys.readouterr().out

    log = output.with_suffix(".jsonl")
    lines = log.read_text("utf8").splitlines(keepends=True)
    log.write_text("".join(lines[:2]) + lines[2][:50], "utf8")  # cut off while it was written
    gone = json.loads(lines[2])["student"]
    assert main(command) == 0
    assert ran == [gone]
    row = next(row for row in table(output) if row[0] == gone)
    assert (
        row[-1].startswith("NOT GRADED: ZeroDivisionError")
        and len(log.read_text().splitlines()) == 2
    )

    ran.clear()
    (folder / "anna.ipynb").write_text("{}")
    main(command)
    assert set(ran) == {"anna", gone}, "what has changed is graded anew, what was not graded too"
    ran.clear()
    main([*command, "--seed", "9"])
    assert set(ran) == {"anna", "bert", "class 2/cleo"}


def test_ctrl_c_keeps_what_was_graded(master, folder, tmp_path, capsys, monkeypatch):
    module = sys.modules["lectool.assign.grade"]

    def stand_in(master, path, *, student, **_):
        if student == "bert":
            raise KeyboardInterrupt
        return module.Grade(student, dict.fromkeys(NAMES, 1.0))

    monkeypatch.setattr(module, "grade", stand_in)
    output = tmp_path / "grades.csv"
    assert main(["grade", str(master), str(folder), "-o", str(output), "--jobs", "1"]) == 130
    assert "goes on" in capsys.readouterr().err
    assert "anna" in [row[0] for row in table(output)]


EMPTY = json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


@pytest.fixture
def unpacked(tmp_path):
    """What an archive of submissions holds, besides submissions."""
    folder = tmp_path / "in"
    names = [
        "__MACOSX/._a01.ipynb",
        "__MACOSX/dora/._a01.ipynb",
        ".DS_Store",
        ".git/x.ipynb",
        "notes.txt",
    ]
    names += [
        "._anna.ipynb",
        ".ipynb_checkpoints/anna.ipynb",
        "emil.ipynb.txt",
        "fred",
        "table.csv",
    ]
    names += [
        "anna.ipynb",
        "carl.IPYNB",
        "dora.ipynb/a01.Ipynb",
        "class 2/anna.ipynb",
        "Zoe\u0308.ipynb",
    ]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(EMPTY)
    (folder / "gone.ipynb").symlink_to(tmp_path / "nowhere.ipynb")
    (folder / "copy.ipynb").symlink_to(folder / "anna.ipynb")
    (folder / "loop").symlink_to(folder)
    return folder


STUDENTS = ["Zo\u00eb", "anna", "carl", "class 2/anna", "dora.ipynb/a01"]


def test_what_is_no_submission_is_named(master, unpacked, tmp_path, capsys):
    output = tmp_path / "grades.csv"
    grade_all(master, [unpacked], output, jobs=1)
    assert [row[0] for row in table(output)[1:]] == STUDENTS
    said = re.findall(r"^not a submission: (.+) \((.+)\)$", capsys.readouterr().out, re.MULTILINE)
    assert {str(Path(path).relative_to(unpacked)): why for path, why in said} == {
        "__MACOSX": "macOS's own, beside the files of an archive",
        **dict.fromkeys([".DS_Store", ".git", ".ipynb_checkpoints", "._anna.ipynb"], "hidden"),
        **dict.fromkeys(["copy.ipynb", "gone.ipynb", "loop"], "a link"),
        **dict.fromkeys(
            ["notes.txt", "emil.ipynb.txt", "fred", "table.csv"], "the name does not end in .ipynb"
        ),
    }


def test_files_may_be_named_one_by_one(unpacked, tmp_path):
    outside = tmp_path / "nora.ipynb"
    outside.symlink_to(unpacked / "anna.ipynb")
    found, others = collected([*unpacked.glob("*a*.*"), outside])
    assert sorted(found) == ["a01", "anna", "carl", "nora"]
    assert {path.name for path in others} == {"._anna.ipynb", "table.csv"}


def test_one_student_twice_is_refused(unpacked):
    for name in ("anna.IPYNB", "Zo\u00eb.ipynb"):
        (unpacked / name).write_text(EMPTY)
        with pytest.raises(ValueError, match="two submissions are called"):
            collected([unpacked])
        (unpacked / name).unlink()


def test_names_that_are_no_utf8_can_be_written(master, tmp_path):
    path = os.fsencode(tmp_path) + b"/J\xfcrgen.ipynb"
    try:
        Path(os.fsdecode(path)).write_text("{}")
    except OSError:
        pytest.skip("this file system refuses such names")
    grade_all(master, [Path(os.fsdecode(path))], tmp_path / "grades.csv")
    assert table(tmp_path / "grades.csv")[1][0] == "J\ufffdrgen"


def test_a_folder_without_a_notebook(master, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "anna.zip").write_text("")
    assert main(["grade", str(master), str(tmp_path / "in"), "-o", str(tmp_path / "g.csv")]) == 2
    said = capsys.readouterr()
    assert "anna.zip" in said.out and "no notebook in" in said.err


def test_formulas_in_names_are_harmless(master, tmp_path, monkeypatch):
    path = tmp_path / "=1+1.ipynb"
    path.write_text("{}")
    output = tmp_path / "grades.csv"
    grade_all(master, [path], output)
    assert table(output)[1][0] == "'=1+1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.ipynb"], "no such file"),
        (["{master}", "{master}"], "two submissions are called"),
        (["{empty}"], "no notebook in"),
        (["{master}", "--timeout", "0"], "timeout is 0"),
        (["{master}", "--timeout", "nan"], "timeout is nan"),
        (["{master}", "--jobs", "0"], "jobs is 0"),
        (["{master}", "--part", "3/2"], "part is 3; expected a number in [1, 2]"),
        ([], "expected either submissions or --merge"),
        (["{master}", "--merge", "{master}"], "expected either submissions or --merge"),
        (["--merge", "nowhere.csv"], "nowhere.csv"),
        (
            ["{master}", "--roster", "{master}", "--format", "canvas"],
            "none of the columns Student, ID",
        ),
        (["{master}", "--roster", "{master}"], "none of the columns (no platform)"),
    ],
)
def test_bad_calls_are_named(arguments, words, master, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    places = {"master": master, "empty": tmp_path / "empty"}
    arguments = [a.format(**places) for a in arguments]
    assert main(["grade", str(master), *arguments, "-o", str(tmp_path / "g.csv")]) == 2
    assert words in capsys.readouterr().err


# --- a large course -------------------------------------------------------------------------------


KILLER = "import os\n\n\ndef slow_features(z, k):\n    os.kill(os.getppid(), 9)"


def test_jobs_are_processes_with_the_same_results(master, folder, tmp_path, capsys):
    """Beside a submission that kills the process which grades it, the others get what they got one by one."""
    command = ["grade", str(master), str(folder), "--timeout", str(TIMEOUT), "-o"]
    assert main([*command, str(tmp_path / "one.csv"), "--jobs", "1"]) == 0
    nb = submission(master, slow_features=KILLER)
    (folder / "carl.ipynb").write_text(json.dumps(nb), "utf8")
    assert main([*command, str(tmp_path / "two.csv"), "--jobs", "2"]) == 0
    one, two = (table(tmp_path / f"{name}.csv") for name in ("one", "two"))
    (killer,) = [row for row in two if row[0] == "carl"]
    assert [row for row in two if row[0] != "carl"] == one
    assert killer[1:5] == ["0"] * 4
    assert killer[5] == "NOT GRADED: ChildProcessError: its process ended with code -9"
    logs = [
        [json.loads(text) for text in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    for log in logs:
        for entry in log:
            entry.pop("seconds")
    assert logs[0] == logs[1], "in the same order, with the same reports"


def test_what_a_process_raises_is_said(master, tmp_path):
    module = sys.modules["lectool.assign.grade"]
    with pytest.raises(RuntimeError, match=r"MarkerError|ValueError|FileNotFoundError"):
        module._apart(tmp_path / "no master.ipynb", master, student="anna", timeout=5, seed=1)


@pytest.fixture
def graded(monkeypatch):
    """Grades without a kernel: a point for each letter of the name but the last exercise's."""
    module = sys.modules["lectool.assign.grade"]

    def stand_in(master, path, *, student, **_):
        points = {NAMES[0]: 2.0, NAMES[1]: float(student.startswith("a")), NAMES[2]: 0.0}
        reports = {NAMES[0]: "passed", NAMES[2]: "=1+1 ```` <b>"}
        return module.Grade(student, points, reports, ["a note,\n of two lines"], 0.1)

    monkeypatch.setattr(module, "grade", stand_in)
    return stand_in


def many(tmp_path, names):
    folder = tmp_path / "in"
    for name in names:
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(EMPTY)
    return folder


COURSE = ["anna", "bert", "class 2/anna", "dora", "emil"]


def test_parts_together_are_the_whole(master, graded, tmp_path, capsys):
    folder = many(tmp_path, COURSE)
    whole = grade_all(master, [folder], tmp_path / "whole.csv", jobs=1)
    parts = []
    for i in (1, 2, 3, 4, 5, 6):
        parts.append(tmp_path / "parts" / f"{i}.csv")
        command = ["grade", str(master), str(folder), "-o", str(parts[-1]), "--jobs", "1"]
        assert main([*command, "--part", f"{i}/6"]) == 0
    assert [len(table(path)) for path in parts] == [2, 2, 2, 2, 2, 1]
    merged = ["grade", str(master), "--merge", *map(str, reversed(parts))]
    assert main([*merged, "-o", str(tmp_path / "merged.csv")]) == 0
    assert "5 students from 6 tables" in capsys.readouterr().out
    for end in ("csv", "jsonl"):
        assert (tmp_path / f"merged.{end}").read_text() == (tmp_path / f"whole.{end}").read_text()
    assert [g.student for g in whole] == COURSE
    two = [len(table(_part(master, folder, tmp_path, i))) - 1 for i in (1, 2)]
    assert two == [3, 2]
    for path in parts:
        path.with_suffix(".jsonl").unlink()  # without reports
    assert main([*merged, "-o", str(tmp_path / "bare.csv")]) == 0
    assert (tmp_path / "bare.csv").read_text() == (tmp_path / "whole.csv").read_text()


def _part(master, folder, tmp_path, i):
    grade_all(master, [folder], tmp_path / f"half{i}.csv", jobs=1, part=(i, 2))
    return tmp_path / f"half{i}.csv"


def test_one_student_with_two_results_is_refused(master, tmp_path, capsys):
    head = ",".join(["student", *NAMES, "total", "notes"])
    for name, row in {"a": "anna,2,1,0,3,", "b": "anna,2,0,0,2,", "c": "anna,2,1,0,3,"}.items():
        (tmp_path / f"{name}.csv").write_text(f"{head}\n{row}\n")
    (tmp_path / "d.csv").write_text("student,other,total,notes\n")
    merged = ["grade", str(master), "-o", str(tmp_path / "all.csv"), "--merge"]
    assert main([*merged, str(tmp_path / "a.csv"), str(tmp_path / "c.csv")]) == 0
    assert table(tmp_path / "all.csv")[1:] == [["anna", "2", "1", "0", "3", ""]]
    assert main([*merged, str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]) == 2
    assert "anna has 3 points in" in capsys.readouterr().err
    assert main([*merged, str(tmp_path / "d.csv")]) == 2
    assert "its columns are student, other, total, notes; expected student, a1.whiten" in (
        capsys.readouterr().err
    )


CANVAS = ["muster_12345_777_a01", "zoe_LATE_99_778_a01", "bert"]


def test_canvas(master, graded, tmp_path):
    folder, output = many(tmp_path, CANVAS), tmp_path / "g.csv"
    column = "A1 (4711)"
    grade_all(master, [folder], output, jobs=1, kind="canvas", column=column)
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", column]
    possible = ["    Points Possible", "", "", "", "", "4"]
    assert table(output) == [
        head,
        possible,
        ["bert", "", "", "bert", "", "2"],
        ["muster_12345_777_a01", "12345", "", "", "", "2"],
        ["zoe_LATE_99_778_a01", "99", "", "", "", "2"],
    ]
    roster = tmp_path / "export.csv"
    roster.write_text(
        "\ufeffStudent,ID,SIS User ID,SIS Login ID,Section,A1 (4711)\n    Points Possible,,,,,4\n"
        '"Muster, Max",12345,s1,mm1,Group A,\n"Berg, Bert",7,s2,bert,Group B,\n'
        '"Twin, A",8,s3,,x,\n"Twin, A",9,s4,,y,\n'
    )
    grade_all(master, [folder], output, jobs=1, kind="canvas", column=column, roster=roster)
    assert table(output)[2:] == [
        ["Berg, Bert", "7", "s2", "bert", "Group B", "2"],
        ["Muster, Max", "12345", "s1", "mm1", "Group A", "2"],
        ["zoe_LATE_99_778_a01", "99", "", "", "", "2"],
    ]
    many(tmp_path, ["Twin, A"])
    grade_all(master, [folder], output, jobs=1, kind="canvas", column=column, roster=roster)
    row = next(row for row in table(output) if row[0] == "Twin, A")
    assert row[1:4] == ["", "", "Twin, A"], (
        "two students of one name: neither is taken for the other"
    )


def test_moodle(master, graded, tmp_path):
    names = ["Anna Muster_17_assignsubmission_file_/a01", "bert@uni.edu", "emil"]
    folder, output = many(tmp_path, names), tmp_path / "g.csv"
    command = ["grade", str(master), str(folder), "-o", str(output), "--jobs", "1"]
    assert main([*command, "--format", "moodle"]) == 0
    head, *rows = table_with_lines(output)
    assert head == [
        *["Identifier", "Full name", "Email address"],
        *["Grade", "Maximum Grade", "Feedback comments"],
    ]
    assert [row[:5] for row in rows] == [
        ["Participant 17", "Anna Muster", "", "2", "4"],
        ["", "bert@uni.edu", "bert@uni.edu", "2", "4"],
        ["", "emil", "", "2", "4"],
    ]
    assert rows[0][5].splitlines() == [
        "a1.whiten: 2 of 2",
        "a1.slow_features: 0 of 1 ()",
        "a1.decorrelate: 0 of 1 (=1+1 ```` <b>)",
        "a note,",
        " of two lines",
    ]
    roster = tmp_path / "worksheet.csv"
    roster.write_text(
        "Identifier,Full name,Email address,Status,Grade\nParticipant 17,Anna M.,am@uni.edu,x,\n"
        "Participant 18,Bert B.,bert@uni.edu,x,\nParticipant 19,emil,e@uni.edu,x,\n"
    )
    assert main([*command, "--format", "moodle", "--roster", str(roster)]) == 0
    assert [row[:3] for row in table_with_lines(output)[1:]] == [
        ["Participant 17", "Anna M.", "am@uni.edu"],
        ["Participant 18", "Bert B.", "bert@uni.edu"],
        ["Participant 19", "emil", "e@uni.edu"],
    ]


def table_with_lines(path):
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.reader(file))


def test_a_page_for_each_student(master, graded, tmp_path):
    folder = many(tmp_path, ["anna", "class 2/anna"])
    grade_all(master, [folder], tmp_path / "g.csv", jobs=1, feedback=tmp_path / "back")
    pages = sorted(
        p.relative_to(tmp_path / "back").as_posix() for p in (tmp_path / "back").rglob("*.md")
    )
    assert pages == ["anna.md", "class 2/anna.md"]
    text = (tmp_path / "back" / "anna.md").read_text("utf8")
    assert text.startswith("# a01-short: anna\n\n3 of 4 points.\n\n> a note, of two lines\n")
    assert "## a1.whiten: 2 of 2\n\n```text\npassed\n```\n" in text
    assert "## a1.slow_features: 1 of 1\n\n```text\nno report\n```\n" in text
    assert "`````text\n=1+1 ```` <b>\n`````\n" in text, "a fence longer than any in the report"


def test_a_page_stays_in_its_folder(tmp_path):
    from lectool.assign.tables import Grade, write_feedback

    for student in ("../../out", "/etc/out", "..", "./a/../out"):
        path = write_feedback(tmp_path / "back", Grade(student, {}), {}, "A1")
        assert (tmp_path / "back").resolve() in path.resolve().parents
