r"""Grades: every submission in a fresh kernel, exercise by exercise.

Grading runs what students wrote. Do it in a container, without a network and without anything worth taking.
"""

import ast
import csv
import hashlib
import io
import json
import os
import secrets
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lectool import check
from lectool.assign.inside import MIME
from lectool.assign.kernel import Kernel, Outcome
from lectool.assign.master import Exercise, checks, exercises, parse, read, student_notebook

__all__ = ["Grade", "grade", "grade_all"]

# cells of a submission that may run out of time before the rest is not run
MOST_TIMEOUTS = 10


@dataclass
class Grade:
    r"""What a submission earned: points and the check's report for each exercise."""

    student: str
    points: dict[str, float]
    reports: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    key: str = ""

    @property
    def total(self) -> float:
        return sum(self.points.values())


def _plain(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines() if line.strip())


def _text(source: str) -> str:
    r"""A cell as text that can be sent: half of a surrogate pair becomes a question mark."""
    return source.encode("utf8", "replace").decode("utf8")


def _defined(source: str) -> set[str]:
    r"""The names that a cell gives a value to at its top level."""
    tree, names = parse(source), set()
    for node in tree.body if tree else []:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return names


def _question(source: str, token: str) -> str:
    r"""The check of a master's cell as a call that reports to the grader."""
    (statement,) = parse(source).body
    call = statement.value
    answers = "".join(f"{ast.unparse(a)}, " for a in call.args[1:])
    report = "__import__('lectool.assign.inside', fromlist=['report']).report"
    return f"{report}({token!r}, {call.args[0].value!r}, lambda: ({answers}))"


class Session:
    r"""One submission on its way through a kernel."""

    def __init__(self, master: Any, kernel: Kernel, timeout: float, grade: Grade):
        self.exercises = {exercise.name: exercise for exercise in exercises(master)}
        self.master, self.kernel, self.timeout, self.grade = master, kernel, timeout, grade
        # cells to be run again where the kernel dies; cells that raised, since what they lack may come later
        self.done: list[str] = []
        self.failed: list[str] = []
        # exercises whose check did not end
        self.lost: set[str] = set()
        self.n_timeouts = 0

    def cell(self, source: str, number: int) -> None:
        r"""Runs a cell of the submission."""
        outcome = self._run(source)
        if outcome.status == "error":
            self.failed.append(source)
        if outcome.status in ("timeout", "dead"):
            self.grade.notes.append(f"cell {number + 1}: {outcome.error}")
        if outcome.status != "dead":
            self.done.append(source)

    def exercise(self, name: str) -> None:
        r"""Tries an exercise that has not passed yet; the best result counts."""
        if self.grade.points[name] or name in self.lost:
            return
        exercise: Exercise = self.exercises[name]
        token = secrets.token_hex(8)
        outcome = self._run(_question(self.master.cells[exercise.check].source, token))
        found = [d for d in outcome.data or [] if d.get("token") == token]
        if outcome.status in ("timeout", "dead"):
            self.lost.add(name)
            self.grade.reports[name] = f"{name}: {outcome.error}"
        elif found:
            self.grade.reports[name] = found[-1]["text"]
            self.grade.points[name] = exercise.points * bool(found[-1]["passed"])
        else:
            self.grade.reports[name] = f"{name}: {outcome.error or 'the check did not report'}"

    def _run(self, source: str) -> Outcome:
        if self.n_timeouts >= MOST_TIMEOUTS:
            return Outcome("timeout", f"not run: {MOST_TIMEOUTS} cells ran out of time")
        outcome = self.kernel.run(source, self.timeout)
        self.n_timeouts += outcome.status == "timeout"
        if outcome.status == "dead":  # a new kernel, which knows nothing: run again what had worked
            self.n_timeouts += 1
            again, self.done = self.done, []
            for old in again:
                if self.kernel.run(old, self.timeout).status != "dead":
                    self.done.append(old)
        return outcome


def grade(
    master_path: Path,
    submission: Path,
    *,
    student: str | None = None,
    timeout: float = 60,
    seed: int = 1,
) -> Grade:
    r"""Runs a submission and tries every exercise with the master's check.

    The student's cells run in the student's order; checks are the master's, whatever became of them in the
    submission. Cells that only show something (tagged ``experiment`` in the master) and empty stubs beside a filled
    cell are left out. What raised is tried once more at the end, so that cells may stand in any order.

    Arguments:
        master_path: the master.
        submission: a notebook; metadata, ids, outputs are not needed.
        student: the name in the table; the file's where ``None``.
        timeout: seconds that a cell, or a check, may take.
        seed: added to every seed of the checks.
    """
    start = time.perf_counter()
    master = read(master_path)
    wanted = exercises(master, Path(master_path).name)
    result = Grade(student or Path(submission).stem, {exercise.name: 0.0 for exercise in wanted})
    try:
        cells = [_text(c.source) for c in read(submission).cells if c.cell_type == "code"]
    except (ValueError, OSError) as error:
        result.notes.append(_readable(str(error).replace(str(submission), Path(submission).name)))
        return result
    clean = student_notebook(master)
    experiments = {
        _plain(c.source) for c in clean.cells if "experiment" in c.metadata.get("tags", [])
    }
    ids = {c.id for number in wanted for c in [master.cells[i] for i in number.cells]}
    stubs = {_plain(c.source) for c in clean.cells if c.id in ids}
    with tempfile.TemporaryDirectory() as folder:
        with Kernel(Path(folder), seed=seed, mime=MIME) as kernel:
            session = Session(master, kernel, timeout, result)
            for number, source in enumerate(cells):
                others = set().union(
                    *(_defined(c) for c in cells if _plain(c) not in stubs | {_plain(source)})
                )
                empty = _plain(source) in stubs and _defined(source) <= others
                if not source.strip() or _plain(source) in experiments or empty:
                    continue
                named = [name for name in checks(source) if name in session.exercises]
                tree = parse(source)
                if not (named and tree is not None and len(tree.body) == len(named)):
                    session.cell(source, number)
                for name in named:
                    session.exercise(name)
            again, session.failed = session.failed, []
            for source in again:
                session._run(source)
            for name in session.exercises:
                session.exercise(name)
    result.seconds = time.perf_counter() - start
    return result


# ------------------------------------------------------------------------------------------ many submissions


def collected(paths: Sequence[Path]) -> tuple[dict[str, Path], dict[Path, str]]:
    r"""Submissions by student, and what is none of them with the reason why.

    A student is called as the notebook, or, for a folder, as its path below it.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if two submissions have the same name.
    """
    found: dict[str, Path] = {}
    others: dict[Path, str] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        for file, why in _listed(path) if path.is_dir() else [(path, _unfit(path, named=True))]:
            if why:
                others[file] = why
                continue
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            student = _readable(name.with_suffix("").as_posix())
            if student in found:
                raise ValueError(f"two submissions are called {student!r}; rename one")
            found[student] = file
    return found, others


def _listed(folder: Path) -> Iterator[tuple[Path, str]]:
    r"""The files below a folder, in order, and why they are no submissions; what is hidden or a link is not entered."""
    for path in sorted(folder.iterdir()):
        why = _unfit(path)
        if path.is_dir() and not why:
            yield from _listed(path)
        else:
            yield path, why


def _unfit(path: Path, *, named: bool = False) -> str:
    r"""Why a path is no submission; a link is followed only where it was named itself."""
    if path.name.startswith("."):
        return "hidden"
    if path.name == "__MACOSX":
        return "macOS's own, beside the files of an archive"
    if path.is_symlink() and not named:
        return "a link"
    if path.is_dir():
        return ""
    if not path.is_file():
        return "no file"
    return "" if path.suffix.lower() == ".ipynb" else "the name does not end in .ipynb"


def _readable(name: str) -> str:
    r"""A file's name as text that can be written: composed letters, and a mark for bytes that are no UTF-8."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf8", "replace"))


def grade_all(
    master: Path,
    submissions: Sequence[Path],
    output: Path,
    *,
    timeout: float = 60,
    seed: int = 1,
    workers: int = 2,
) -> list[Grade]:
    r"""Grades submissions side by side and writes a table, which grows with every submission.

    Beside the table lies ``….jsonl`` with all reports. A run that was cut off goes on where it stopped; what has
    changed meanwhile (submission, master, checks, seed, time limit) is graded anew. Files that are no submissions
    (without ``.ipynb`` at their end, hidden, links) are named.

    Arguments:
        master: the master.
        submissions: notebooks, or folders of them.
        output: the CSV file: a row a student, a column an exercise.
        timeout, seed: as in :func:`grade`.
        workers: kernels at the same time.

    Raises:
        FileNotFoundError: if a path does not exist, or there is no notebook at all.
        ValueError: if two submissions have the same name, or a setting is out of range.
    """
    check.positive(timeout=timeout)
    check.at_least(1, workers=workers)
    names = [exercise.name for exercise in exercises(read(master), Path(master).name)]
    found, others = collected(submissions)
    for path, why in others.items():
        print(f"not a submission: {_readable(str(path))} ({why})")
    if not found:
        raise FileNotFoundError(f"no notebook in {', '.join(map(str, submissions))}")
    log = Path(output).with_suffix(".jsonl")
    keys = {s: _key(master, path, timeout, seed) for s, path in found.items()}
    kept = {g.student: g for g in _load(log) if keys.get(g.student) == g.key}
    grades: dict[str, Grade] = {s: kept[s] for s in found if s in kept}
    if kept:
        print(f"{len(kept)} of {len(found)} were graded before")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(_line(g) for g in grades.values()), "utf8")
    _write(Path(output), names, grades)
    todo = [s for s in found if s not in grades]
    stop = threading.Event()

    def work(student: str) -> Grade | None:
        if stop.is_set():
            return None
        try:
            result = grade(master, found[student], student=student, timeout=timeout, seed=seed)
        except Exception as error:
            # of the machine, not of the student: say so, and grade it next time
            result = Grade(student, dict.fromkeys(names, 0.0))
            result.notes.append(f"NOT GRADED: {type(error).__name__}: {error}")
            return result
        result.key = keys[student]
        return result

    with ThreadPoolExecutor(workers) as pool:
        try:
            for future in as_completed([pool.submit(work, student) for student in todo]):
                if (result := future.result()) is None:
                    continue
                grades[result.student] = result
                if result.key:
                    with log.open("a", encoding="utf8") as file:
                        file.write(_line(result))
                _write(Path(output), names, grades)
                n_passed = sum(points > 0 for points in result.points.values())
                words = [
                    f"{n_passed} of {len(names)} exercises, {result.seconds:.1f} s",
                    *result.notes,
                ]
                print(
                    f"[{len(grades)}/{len(found)}] {result.student}: {'; '.join(words)}", flush=True
                )
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [grades[student] for student in sorted(grades)]


def _key(master: Path, submission: Path, timeout: float, seed: int) -> str:
    import lectool.checks

    digest = hashlib.sha256(f"{timeout} {seed}".encode())
    parts = sorted(Path(lectool.checks.__file__).parent.glob("*.py"))
    for path in (Path(master), Path(submission), *parts):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _line(grade: Grade) -> str:
    return json.dumps(asdict(grade), ensure_ascii=False) + "\n"


def _load(log: Path) -> list[Grade]:
    grades = []
    for line in log.read_text("utf8").splitlines() if log.is_file() else []:
        try:
            grades.append(Grade(**json.loads(line)))
        except (ValueError, TypeError):  # the line at which a run was cut off
            continue
    return grades


def _write(path: Path, names: list[str], grades: dict[str, Grade]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["student", *names, "total", "notes"])
    for student in sorted(grades):
        result = grades[student]
        points = [f"{result.points.get(name, 0.0):g}" for name in names]
        notes = " | ".join(" ".join(note.split()) for note in result.notes)
        table.writerow([_harmless(student), *points, f"{result.total:g}", _harmless(notes)])
    part = path.with_name(path.name + ".part")
    part.write_text(text.getvalue(), "utf8")
    part.replace(path)


def _harmless(text: str) -> str:
    r"""A spreadsheet takes a cell that begins with one of these for a formula."""
    return f"'{text}" if text.startswith(tuple("=+-@\t\r")) else text
