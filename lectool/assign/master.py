r"""Masters: where their solutions stand, and what of them a student gets.

A master is a notebook that runs. In its code cells

- ``### BEGIN SOLUTION`` … ``### END SOLUTION`` enclose what students do not get. Inside a function a stub takes its
  place, ``# YOUR CODE HERE`` and ``raise NotImplementedError()``; outside, the lines between the markers that start
  with ``#~`` (a formatter makes it ``# ~``) are the stub, without that mark;
- a cell whose first line is ``### INSTRUCTOR ONLY`` is left out;
- ``check("a1.whiten", whiten)`` closes an exercise, in a cell of its own;
- the tag ``experiment`` marks a cell that no check needs: grading leaves it out.

What else nbgrader knows (hidden tests, mark schemes, automatic tests, cells that are solutions by their metadata) is
refused: students would get it, and grading would not run it.
"""

import ast
import difflib
import json
import math
import re
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

__all__ = ["Exercise", "MarkerError", "read", "released", "solutions", "student_notebook"]

BEGIN, END, ONLY = "### BEGIN SOLUTION", "### END SOLUTION", "### INSTRUCTOR ONLY"
MARKERS = (BEGIN, END, ONLY)
PAIRS = [
    f"### {word} {what}" for word in ("BEGIN", "END") for what in ("HIDDEN TESTS", "MARK SCHEME")
]
FOREIGN = (*PAIRS, "### AUTOTEST", "### HASHED AUTOTEST")
STUB = re.compile(r"^(\s*)# ?~ ?(.*)$")
CHECK = re.compile(r"""\bcheck\(\s*["']([\w.]+)["']""")


class MarkerError(ValueError):
    r"""A master whose markers are not in order; the message names file, cell and line."""


@dataclass(frozen=True)
class Exercise:
    r"""An exercise of a master.

    Attributes:
        name: as its check calls it, such as ``a1.whiten``.
        cells: positions of the cells with its solution.
        check: position of the cell with its check.
        points: from that cell's metadata, above 0; 1 where it says nothing.
    """

    name: str
    cells: tuple[int, ...]
    check: int
    points: float


def read(path: Path) -> Any:
    r"""A notebook, in whichever of the Unicode encodings it was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no notebook.
    """
    try:
        content = Path(path).read_bytes()
        notebook = nbformat.reads(content.decode(json.detect_encoding(content)), as_version=4)
        notebook.cells = list(notebook.cells)
        if not all(isinstance(c.source, str) and c.cell_type for c in notebook.cells):
            raise TypeError("a cell without text")
    except FileNotFoundError:
        raise
    except Exception as error:
        why = f"no notebook that can be read ({type(error).__name__})"
        raise ValueError(f"{path}: {why}") from error
    return notebook


def parse(source: str) -> ast.Module | None:
    r"""The syntax tree of a cell, IPython's own lines left out; None where it is no Python."""
    try:
        return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE))
    except (SyntaxError, ValueError):
        return None


def checks(source: str) -> list[str]:
    r"""The exercises that a cell checks."""
    tree = parse(source)
    if tree is None:
        return CHECK.findall(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [c for c in calls if getattr(c.func, "id", getattr(c.func, "attr", "")) == "check"]
    names = [c.args[0].value for c in named if c.args and isinstance(c.args[0], ast.Constant)]
    return [name for name in names if isinstance(name, str)]


# ------------------------------------------------------------------------------------------------ markers


def blocks(source: str, where: str = "cell") -> list[tuple[int, int]]:
    r"""The solutions of a cell: numbers of the lines with their two markers, from 0.

    Raises:
        MarkerError: if a marker is misspelled, unclosed, nested, behind code, encloses nothing, or is one of
            nbgrader's others.
    """
    found: list[tuple[int, int]] = []
    start = None
    lines = source.splitlines()
    for number, line in enumerate(lines):
        text, place = line.strip(), f"{where}, line {number + 1}"
        if text == BEGIN:
            if start is not None:
                raise MarkerError(f"{place}: {BEGIN} inside of a solution")
            start = number
        elif text == END:
            if start is None:
                raise MarkerError(f"{place}: {END} without {BEGIN}")
            inside = [t.strip() for t in lines[start + 1 : number]]
            if all(t.startswith("#") for t in inside if t):
                raise MarkerError(f"{place}: the solution is empty")
            found.append((start, number))
            start = None
        elif text == ONLY:
            if number:
                raise MarkerError(f"{place}: {ONLY} can only be the first line of a cell")
        elif complaint := _complaint(text):
            raise MarkerError(f"{place}: {complaint}")
        elif STUB.match(line) and start is None:
            raise MarkerError(f"{place}: a stub line (#~) outside of a solution")
    if start is not None:
        raise MarkerError(f"{where}, line {start + 1}: {BEGIN} is not closed")
    return found


def _complaint(text: str) -> str | None:
    r"""What is wrong with a line that is no marker of ours but looks like one."""
    meant = _meant(text) if text.startswith("#") else None
    meant = meant or next((marker for marker in (*FOREIGN, *MARKERS) if marker in text), None)
    if meant in FOREIGN:
        return (
            f"{meant!r} is nbgrader's: students would get it, and grading would not see it; what is for "
            f"instructors stands in a cell that begins with {ONLY}"
        )
    if meant and not text.startswith("#"):
        return f"{meant!r} must stand alone in its line"
    return f"{text!r} is misspelled; {meant!r} is meant" if meant else None


def _meant(text: str) -> str | None:
    words = re.sub(r"[^A-Za-z ]", "", text).strip()
    for marker in (*MARKERS, *FOREIGN):
        name = marker.removeprefix("### ")
        # a comment that only mentions a solution is longer, or not in capitals
        same = difflib.SequenceMatcher(None, words.upper(), name).ratio()
        if same > 0.8 and (text.startswith("##") or words.isupper()):
            return marker
        if text.startswith("##") and words.upper().startswith(name):
            return marker
    return None


def _in_function(tree: ast.Module | None, first: int, last: int) -> bool:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return tree is not None and any(
        isinstance(node, kinds) and node.lineno < first and last <= (node.end_lineno or 0) + 1
        for node in ast.walk(tree)
    )


def stubbed(source: str, where: str = "cell") -> str:
    r"""The cell as students get it.

    Raises:
        MarkerError: as :func:`blocks`, or where a solution outside of a function has no stub.
    """
    lines, tree = source.splitlines(), parse(source)
    for first, last in reversed(blocks(source, where)):
        stub = [
            f"{m[1]}{m[2]}".rstrip() for line in lines[first + 1 : last] if (m := STUB.match(line))
        ]
        indent = re.match(r"\s*", lines[first])[0]
        if not stub and _in_function(tree, first + 1, last + 1):
            stub = [f"{indent}# YOUR CODE HERE", f"{indent}raise NotImplementedError()"]
        if not stub:
            needed = "a solution outside of a function needs stub lines, which start with #~"
            raise MarkerError(f"{where}, line {first + 1}: {needed}")
        lines[first : last + 1] = stub
    return "\n".join(lines)


def filled(source: str) -> str:
    r"""The cell with its solution, without markers and stub lines: what the page folds in under the check."""
    kept = [
        line
        for line in source.splitlines()
        if line.strip() not in (BEGIN, END) and not STUB.match(line)
    ]
    return "\n".join(kept)


# ---------------------------------------------------------------------------------------------- notebooks


def _is_private(cell: Any) -> bool:
    return cell.source.lstrip().split("\n", 1)[0].strip() == ONLY


def exercises(master: Any, name: str = "master") -> list[Exercise]:
    r"""The exercises of a master in their order.

    Raises:
        MarkerError: if markers are not in order, a solution has no check behind it or a check no solution before
            it, an exercise has two checks, a check shares its cell with other code, points are no number above 0 or
            stand elsewhere than with a check, or a cell is a solution for nbgrader alone.
    """
    found: list[Exercise] = []
    pending: list[int] = []
    for number, cell in enumerate(master.cells):
        where = f"{name}, cell {number + 1}"
        if _is_private(cell):
            continue
        if cell.cell_type != "code":
            _no_marker(cell.source, where)
        solved = blocks(cell.source, where) if cell.cell_type == "code" else []
        if not solved and cell.metadata.get("nbgrader", {}).get("solution"):
            raise MarkerError(f"{where}: nbgrader takes it for a solution, but {BEGIN} is missing")
        if cell.cell_type != "code":
            continue
        if "points" in cell.metadata and not checks(cell.source):
            raise MarkerError(f"{where}: points belong to the cell with the check")
        if solved:
            pending.append(number)
        for checked in checks(cell.source):
            tree = parse(cell.source)
            if tree is None or len(tree.body) != 1:
                raise MarkerError(f"{where}: check({checked!r}) shares its cell with other code")
            if not pending:
                raise MarkerError(f"{where}: check({checked!r}) without a solution before it")
            if checked in {exercise.name for exercise in found}:
                raise MarkerError(f"{where}: check({checked!r}) a second time")
            points = _points(cell.metadata.get("points", 1), where)
            found.append(Exercise(checked, tuple(pending), number, points))
            pending = []
    if pending:
        raise MarkerError(f"{name}, cell {pending[0] + 1}: a solution without a check behind it")
    return found


def _no_marker(text: str, where: str) -> None:
    for number, line in enumerate(text.splitlines()):
        place = f"{where}, line {number + 1}"
        if line.strip() in MARKERS:
            raise MarkerError(f"{place}: a marker in a cell that is no code")
        if complaint := _complaint(line.strip()):
            raise MarkerError(f"{place}: {complaint}")


def _points(value: Any, where: str) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value < math.inf:
        raise MarkerError(f"{where}: points are {value!r}; expected a number above 0")
    return float(value)


def solutions(master: Any) -> dict[str, list[str]]:
    r"""The solved cells of each exercise, without markers."""
    return {
        exercise.name: [filled(master.cells[number].source) for number in exercise.cells]
        for exercise in exercises(master)
    }


def solution_lines(master: Any, shortest: int = 16) -> set[str]:
    r"""The lines that only a solution holds, short and commonplace ones left out."""
    found = set()
    for cell in master.cells:
        if cell.cell_type == "code" and not _is_private(cell):
            lines = cell.source.splitlines()
            for first, last in blocks(cell.source):
                inside = [t.strip() for t in lines[first + 1 : last] if not STUB.match(t)]
                found |= {t for t in inside if len(t) >= shortest and not t.startswith("#")}
    return found


def student_notebook(master: Any, name: str = "master") -> Any:
    r"""What students get: stubs for solutions, no private cells, no outputs.

    Raises:
        MarkerError: as :func:`exercises`, or if a line of a solution also stands in what students get.
    """
    exercises(master, name)
    secret = solution_lines(master)
    result = deepcopy(master)
    result.cells = []
    for number, cell in enumerate(master.cells):
        if _is_private(cell):
            continue
        cell = deepcopy(cell)
        if cell.cell_type == "code":
            cell.source = stubbed(cell.source, f"{name}, cell {number + 1}")
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("points", None)
        for line, text in enumerate(cell.source.splitlines()):
            if text.strip() in secret:
                place = f"{name}, cell {number + 1}, line {line + 1}"
                leak = f"students would get a line of the solution, {text.strip()!r}"
                raise MarkerError(f"{place}: {leak}")
        result.cells.append(cell)
    result.metadata.pop("widgets", None)
    return result


def released(path: Path) -> str:
    r"""The text of the student notebook of a master.

    Raises:
        MarkerError: as :func:`student_notebook`.
        ValueError: if the file is no notebook.
    """
    notebook = student_notebook(read(path), Path(path).name)
    return nbformat.writes(notebook, version=4) + "\n"
