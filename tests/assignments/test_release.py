"""Student notebooks: fresh, without a solution, complete with one; masters that are not in order are refused."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from lectool.assign import MarkerError, read, release, released, solutions, student_notebook
from lectool.assign import master as masters
from lectool.assign.__main__ import main

ROOT = Path(__file__).parents[2]
MASTERS = sorted((ROOT / "assignments").glob("a[0-9][0-9]-*.ipynb"))
STUDENT = ROOT / "assignments" / "student"
FUNCTION = """def half(x):
    \"\"\"Half of x.\"\"\"
    ### BEGIN SOLUTION
    result = x * 0.5  # halved
    return result
    ### END SOLUTION
"""
TOP = "### BEGIN SOLUTION\n#~ answer = None  # your number\nanswer = half(84.0)\n### END SOLUTION"


def small(*sources, **metadata):
    """A master; its last cell checks the cells before it."""
    cells = [new_markdown_cell("# A title")]
    cells += [new_code_cell(source) for source in sources]
    nb = new_notebook(
        cells=cells,
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, **metadata},
    )
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number}"
    return nb


def written(folder, nb, name="a01-x.ipynb"):
    path = folder / name
    nbformat.write(nb, path)
    return path


# --- the book's own ----------------------------------------


def test_the_release_is_fresh(capsys):
    assert len(MASTERS) >= 1
    assert release(MASTERS, STUDENT, check=True) == 0, capsys.readouterr().out


def test_released_notebooks_hold_no_output_and_no_marker(master_path):
    nb = read(STUDENT / master_path.name)
    for cell in nb.cells:
        assert not re.search(r"SOLUTION|INSTRUCTOR|^\s*# ?~", cell.source, re.M)
        assert cell.cell_type != "code" or (cell.outputs, cell.execution_count) == ([], None)


def leaks(lines, text):
    return sorted(line for line in lines if line in {t.strip() for t in text.splitlines()})


def test_no_solution_line_is_released_or_installed(master_path):
    secret = masters.solution_lines(read(master_path))
    assert len(secret) >= 8
    student = "\n".join(cell.source for cell in read(STUDENT / master_path.name).cells)
    assert leaks(secret, student) == []
    for path in (ROOT / "lectool").rglob("*.py"):
        assert leaks(secret, path.read_text("utf8")) == [], path.name


def test_no_solution_is_a_function_of_the_checks(master_path):
    """The checks hold no reference solution: nothing in them has an exercise's arguments and returns its answer."""
    wanted = {}
    for name, cells in solutions(read(master_path)).items():
        for node in ast.walk(ast.parse("\n".join(cells))):
            if isinstance(node, ast.FunctionDef):
                wanted[node.name] = [a.arg for a in node.args.args], name
    path = ROOT / "lectool" / "checks" / f"a{int(master_path.name[1:3])}.py"
    for node in ast.walk(ast.parse(path.read_text("utf8"))):
        if isinstance(node, ast.FunctionDef) and node.name in wanted:
            arguments = [a.arg for a in node.args.args]
            assert arguments[0] == "t" and arguments != wanted[node.name][0], node.name


def run(cells):
    """Runs cells without a kernel; returns what the checks said."""
    space, said = {}, {}
    for cell in cells:
        if cell.cell_type != "code" or "experiment" in cell.metadata.get("tags", []):
            continue
        code = re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.M)
        named = masters.checks(cell.source)
        try:
            exec(compile(code, "cell", "exec"), space)
        except AssertionError as error:
            assert named
            said[named[0]] = str(error)
        else:
            said.update(dict.fromkeys(named, "passed"))
    return said


def test_a_released_notebook_fails_at_its_checks_only(master_path):
    said = run(read(STUDENT / master_path.name).cells)
    assert list(said) == list(solutions(read(master_path)))
    assert all(text.startswith(f"{name}: not filled in yet") for name, text in said.items())


def test_it_passes_with_the_solutions_pasted_in(master_path):
    master, student = read(master_path), read(STUDENT / master_path.name)
    by_id = {c.id: c for c in student.cells}
    for exercise in masters.exercises(master):
        for number in exercise.cells:
            cell = master.cells[number]
            assert by_id[cell.id].source != cell.source
            by_id[cell.id].source = masters.filled(cell.source)
    assert set(run(student.cells).values()) == {"passed"}


def test_anatomy(master_path):
    nb = read(STUDENT / master_path.name)
    first, last = nb.cells[0].source, nb.cells[-1].source
    number = int(master_path.name[1:3])
    assert first.startswith(f"# Assignment {number}: ")
    assert re.search(r"^A few seconds on a laptop · \S", first, re.M)
    assert "**What it needs:** chapter" in first and re.search(r"hours?; (?:no|a) GPU", first)
    assert last.startswith("## Your own") and "no check" in last
    exercises = [c.source for c in nb.cells if c.source.startswith("## Exercise ")]
    assert [int(re.match(r"## Exercise (\d)", s)[1]) for s in exercises] == list(
        range(1, len(solutions(read(master_path))) + 1)
    )
    chapter = next(iter(sorted((ROOT / "chapters").glob("*.ipynb"))))
    setups = [
        next(c for c in book.cells if c.cell_type == "code").source for book in (nb, read(chapter))
    ]
    assert setups[0] == setups[1]
    for cell in nb.cells:
        assert "plt.show()" not in cell.source
        if cell.cell_type == "code" and (told := re.search(r'plot\.show\("(.*)"\)', cell.source)):
            assert len(told[1]) > 40
            assert "experiment" in cell.metadata.tags


# --- markers ----------------------------------------


def test_stubs():
    nb = student_notebook(small(FUNCTION, TOP, "check('a1.x', half)"))
    half, answer, check = (cell.source for cell in nb.cells[1:])
    assert half == (
        'def half(x):\n    """Half of x."""\n    # YOUR CODE HERE\n    raise NotImplementedError()'
    )
    assert answer == "answer = None  # your number"
    assert check == "check('a1.x', half)"


def test_a_formatter_may_touch_the_stub_lines():
    assert masters.stubbed(TOP.replace("#~", "# ~")) == "answer = None  # your number"


def test_a_stub_inside_of_a_function_replaces_the_usual_one():
    source = FUNCTION.replace(
        "    result =", "    #~ result = ...\n    #~ return result\n    result ="
    )
    assert masters.stubbed(source).endswith("    result = ...\n    return result")


def test_methods_and_two_solutions_in_a_cell():
    source = (
        "class A:\n    def f(self):\n        ### BEGIN SOLUTION\n        return 1\n        ### END SOLUTION\n\n"
        "    def g(self):\n        y = 2\n        ### BEGIN SOLUTION\n        return y + y\n        ### END SOLUTION"
    )
    text = masters.stubbed(source)
    assert (
        text.count("raise NotImplementedError()") == 2 and "y = 2" in text and "return" not in text
    )
    ast.parse(text)


def test_private_cells_and_outputs_are_left_out():
    nb = small("### INSTRUCTOR ONLY\nkey = 'all answers'", FUNCTION, "check('a1.x', half)")
    nb.cells[3].outputs = [nbformat.v4.new_output("stream", text="passed")]
    nb.cells[3].execution_count = 3
    text = nbformat.writes(student_notebook(nb))
    assert "all answers" not in text and "passed" not in text and '"execution_count": 3' not in text


WITH_CHECK = "check('a1.x', half)"
DAMAGES = {
    "misspelled end": (
        FUNCTION.replace("END SOLUTION", "END SOLUTOIN"),
        "line 6: .* is misspelled",
    ),
    "misspelled begin": (
        FUNCTION.replace("BEGIN SOLUTION", "BEGIN SOLUTIONS"),
        "line 3: .* is misspelled",
    ),
    "two signs": (FUNCTION.replace("### BEGIN", "## BEGIN"), "line 3: .* is misspelled"),
    "no space": (FUNCTION.replace("### BEGIN", "###BEGIN"), "line 3: .* is misspelled"),
    "small letters": (
        FUNCTION.replace("BEGIN SOLUTION", "begin solution"),
        "line 3: .* is misspelled",
    ),
    "words behind": (
        FUNCTION.replace("BEGIN SOLUTION", "BEGIN SOLUTION 1"),
        "line 3: .* is misspelled",
    ),
    "unclosed": (FUNCTION.replace("    ### END SOLUTION\n", ""), "line 3: .* is not closed"),
    "not opened": (FUNCTION.replace("    ### BEGIN SOLUTION\n", ""), "line 5: .* without"),
    "nested": (
        FUNCTION.replace("    return", "    ### BEGIN SOLUTION\n    return"),
        "line 5: .* inside",
    ),
    "empty": (
        "def f():\n    ### BEGIN SOLUTION\n    # nothing\n    ### END SOLUTION",
        "line 4: .* is empty",
    ),
    "no stub": (
        TOP.replace("#~ answer = None  # your number\n", ""),
        "line 1: .* needs stub lines",
    ),
    "no stub behind a function": (
        "def g(x):\n    return x\n\n\n" + TOP.replace("#~ answer = None  # your number\n", ""),
        "line 5: .* needs stub lines",
    ),
    "stub outside": ("#~ answer = None\n" + FUNCTION, "line 1: a stub line"),
    "private below": ("x = 1\n### INSTRUCTOR ONLY\n" + FUNCTION, "line 2: .* first line"),
    "private misspelled": ("### INSTRUCTORS ONLY\n" + FUNCTION, "line 1: .* is misspelled"),
    "behind code": (
        FUNCTION.replace("    return result", "    return result  ### END SOLUTION"),
        "line 5: .* alone",
    ),
    "hidden tests": (
        FUNCTION + "\n### BEGIN HIDDEN TESTS\nassert half(3.0) == 1.5",
        "line 8: .* is nbgrader's",
    ),
    "hidden tests, end": (FUNCTION + "\n### END HIDDEN TESTS", "line 8: .* is nbgrader's"),
    "hidden tests, misspelled": (FUNCTION + "\n## begin hidden test", "line 8: .* is nbgrader's"),
    "hidden tests behind code": (
        FUNCTION + "\nx = 1  ### BEGIN HIDDEN TESTS",
        "line 8: .* is nbgrader's",
    ),
    "mark scheme": (
        FUNCTION + "\n### BEGIN MARK SCHEME\n# 2 points for the sign",
        "line 8: .* is nbgrader's",
    ),
    "autotest": (FUNCTION + "\n### AUTOTEST half(3.0)", "line 8: .* is nbgrader's"),
    "hashed autotest": (FUNCTION + "\n### HASHED AUTOTEST half(3.0)", "line 8: .* is nbgrader's"),
    "leak": (
        FUNCTION + "\n\ndef again(x):\n    result = x * 0.5  # halved",
        "line 8: .*get a line of the solution",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_master_is_refused_with_cell_and_line(name, tmp_path, capsys):
    source, words = DAMAGES[name]
    path = written(tmp_path, small("import math", source, WITH_CHECK))
    with pytest.raises(MarkerError, match=rf"a01-x\.ipynb, cell 3, {words}"):
        released(path)
    good = written(tmp_path, small(FUNCTION, WITH_CHECK), "a02-y.ipynb")
    assert main(["release", str(good), str(path), "--to", str(tmp_path / "to")]) == 2
    assert "a01-x.ipynb, cell 3" in capsys.readouterr().err
    assert not (tmp_path / "to").exists(), "nothing is written where one master is damaged"


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ((FUNCTION,), "without a check"),
        ((WITH_CHECK,), "without a solution"),
        ((FUNCTION, WITH_CHECK, TOP, WITH_CHECK), "second time"),
        ((FUNCTION, "x = 1\n" + WITH_CHECK), "shares its cell"),
    ],
)
def test_exercises_and_checks_belong_together(cells, words, tmp_path):
    with pytest.raises(MarkerError, match=words):
        released(written(tmp_path, small(*cells)))


@pytest.mark.parametrize(
    "comment",
    ["# the solution begins here", "# BEGIN with the mean", "#: a solution", "x = 1  ### BEGIN"],
)
def test_ordinary_comments_are_no_markers(comment):
    assert masters.blocks(comment) == []


@pytest.mark.parametrize("kind", ["markdown", "raw"])
@pytest.mark.parametrize("lines", ["# A title\n\n{}\n42", "{}\n42"], ids=["below", "first"])
@pytest.mark.parametrize("marker", [*masters.MARKERS[:2], *masters.FOREIGN])
def test_a_marker_in_text_is_refused(marker, lines, kind, tmp_path):
    nb = small(FUNCTION, WITH_CHECK)
    make = {"markdown": new_markdown_cell, "raw": nbformat.v4.new_raw_cell}[kind]
    nb.cells[0] = make(lines.format(marker))
    with pytest.raises(MarkerError, match=r"cell 1, line .: .*(no code|nbgrader's)"):
        released(written(tmp_path, nb))


def test_what_is_for_instructors_may_hold_anything(tmp_path):
    nb = small(
        FUNCTION, WITH_CHECK, "### INSTRUCTOR ONLY\n### BEGIN HIDDEN TESTS\nassert half(4.0) == 2"
    )
    nb.cells.append(
        new_markdown_cell("### INSTRUCTOR ONLY\n\n### BEGIN MARK SCHEME\n2 for the sign")
    )
    text = released(written(tmp_path, nb))
    assert "half(4.0)" not in text and "for the sign" not in text and "def half" in text


@pytest.mark.parametrize("kind", ["code", "markdown"])
def test_a_solution_by_metadata_alone_is_refused(kind, tmp_path):
    nb = small(FUNCTION, WITH_CHECK)
    cell = new_code_cell("answer = 42") if kind == "code" else new_markdown_cell("Because.")
    cell.metadata["nbgrader"] = {"grade": True, "solution": True}
    nb.cells.append(cell)
    with pytest.raises(MarkerError, match="cell 4: nbgrader takes it for a solution"):
        released(written(tmp_path, nb))
    nb.cells[-1].metadata["nbgrader"] = {"grade": True, "solution": False}
    nb.cells[1].metadata["nbgrader"] = {"grade": False, "solution": True}
    released(written(tmp_path, nb))


@pytest.mark.parametrize("points", [-1, 0, float("nan"), float("inf"), "2", True, None, [1]])
def test_points_are_numbers_above_zero(points, tmp_path):
    nb = small(FUNCTION, WITH_CHECK)
    nb.cells[2].metadata["points"] = points
    with pytest.raises(MarkerError, match=r"cell 3: points are .*; expected a number above 0"):
        released(written(tmp_path, nb))


def test_points_belong_to_the_check(tmp_path):
    nb = small(FUNCTION, WITH_CHECK)
    nb.cells[2].metadata["points"] = 2.5
    assert masters.exercises(nb)[0].points == 2.5
    nb.cells[1].metadata["points"] = 2
    with pytest.raises(MarkerError, match="cell 2: points belong to the cell with the check"):
        released(written(tmp_path, nb))


# --- the command ----------------------------------------


def test_release_and_its_check(tmp_path, capsys):
    path, to = written(tmp_path, small(FUNCTION, WITH_CHECK)), tmp_path / "student"
    command = ["release", str(path), "--to", str(to)]
    assert main([*command, "--check"]) == 1
    assert "is missing" in capsys.readouterr().out and not to.exists()
    assert main(command) == 0
    assert main([*command, "--check"]) == 0
    before = (to / path.name).stat().st_mtime_ns
    assert main(command) == 0
    assert (to / path.name).stat().st_mtime_ns == before, (
        "an unchanged notebook is not written again"
    )
    written(tmp_path, small(FUNCTION, "more = 1", WITH_CHECK))
    assert main([*command, "--check"]) == 1
    assert "differs from its master" in capsys.readouterr().out
    assert main(command) == 0
    (to / "a09-gone.ipynb").write_text("{}")
    assert main([*command, "--check"]) == 1
    assert "has no master" in capsys.readouterr().out


def test_release_refuses_what_it_would_overwrite(tmp_path, capsys):
    path = written(tmp_path, small(FUNCTION, WITH_CHECK))
    assert main(["release", str(path), "--to", str(tmp_path)]) == 2
    assert "expected another folder" in capsys.readouterr().err
    assert "### BEGIN" in path.read_text()
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / path.name).symlink_to(path)
    assert main(["release", str(path), "--to", str(tmp_path / "student")]) == 2
    assert "### BEGIN" in path.read_text()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_notebooks_in_other_unicode_encodings(encoding, tmp_path):
    path = written(tmp_path, small(FUNCTION + "    # größer", WITH_CHECK))
    text = path.read_text("utf8")
    path.write_bytes(text.encode(encoding))
    assert read(path) == nbformat.reads(text, as_version=4)


def test_what_is_no_notebook(tmp_path, capsys):
    (tmp_path / "a01-x.ipynb").write_text(json.dumps({"cells": 3}))
    assert main(["release", str(tmp_path / "a01-x.ipynb"), "--to", str(tmp_path / "to")]) == 2
    assert "no notebook that can be read" in capsys.readouterr().err


# --- the tests above can fail ----------------------------------------


def test_a_stale_release_is_seen(tmp_path):
    for path in STUDENT.glob("*.ipynb"):
        text = path.read_text("utf8")
        (tmp_path / path.name).write_text(
            text.replace("raise NotImplementedError()", "pass", 1), "utf8"
        )
    assert release(MASTERS, tmp_path, check=True) == 1


def test_a_leaked_solution_is_seen(master_path):
    nb = read(master_path)
    secret = masters.solution_lines(nb)
    assert leaks(secret, "\n".join(cell.source for cell in nb.cells)) == sorted(secret)
    exercise = masters.exercises(nb)[0]
    line = next(iter(sorted(masters.solution_lines(nb))))
    nb.cells[exercise.check].source = f"{line}\n"
    nb.cells.insert(0, new_markdown_cell(f"```python\n{line}\n```"))
    with pytest.raises(MarkerError):
        student_notebook(nb)
