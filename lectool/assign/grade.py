r"""Grades: every submission in a fresh kernel, exercise by exercise.

Grading runs what students wrote. Do it in a container, without a network and without anything worth taking.
"""

import ast
import hashlib
import multiprocessing
import os
import secrets
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from lectool import check
from lectool.assign.inside import MIME
from lectool.assign.kernel import Kernel, Outcome
from lectool.assign.master import Exercise, checks, exercises, parse, read, student_notebook
from lectool.assign.tables import (
    FORMATS,
    Grade,
    line,
    load,
    merged,
    read_roster,
    write_feedback,
    write_log,
    write_table,
)

__all__ = ["Grade", "grade", "grade_all", "merge"]

# cells of a submission that may run out of time before the rest is not run
MOST_TIMEOUTS = 10


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
    ids = {master.cells[i].id for exercise in wanted for i in exercise.cells}
    stubs = {_plain(c.source) for c in clean.cells if c.id in ids}
    filled = set().union(*(_defined(source) for source in cells if _plain(source) not in stubs))
    with tempfile.TemporaryDirectory() as folder:
        with Kernel(Path(folder), seed=seed, mime=MIME) as kernel:
            session = Session(master, kernel, timeout, result)
            for number, source in enumerate(cells):
                plain = _plain(source)
                empty = plain in stubs and _defined(source) <= filled
                if not plain or plain in experiments or empty:
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
    jobs: int = 2,
    part: tuple[int, int] = (1, 1),
    feedback: Path | None = None,
    kind: str = "plain",
    column: str | None = None,
    roster: Path | None = None,
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
        jobs: submissions at the same time, each in a process of its own where there are more than one: one that brings
            its process down costs its own grade only.
        part: (i, n) grades the i-th of n equal parts of the submissions, counted from 1, as one job of a batch system.
        feedback: a folder for a page in Markdown a student.
        kind: ``"plain"``, ``"canvas"`` or ``"moodle"``: the table's columns.
        column: what Canvas calls the assignment; the master's name where ``None``.
        roster: Canvas's or Moodle's own export, from which students get their numbers.

    Raises:
        FileNotFoundError: if a path does not exist, or there is no notebook at all.
        ValueError: if two submissions have the same name, or a setting is out of range.
    """
    check.positive(timeout=timeout)
    check.at_least(1, jobs=jobs)
    check.one_of(FORMATS, format=kind)
    index, n_parts = part
    check.inside(f"[1, {n_parts}]", part=index)
    most = _most(master)
    found, others = collected(submissions)
    for path, why in others.items():
        print(f"not a submission: {_readable(str(path))} ({why})")
    if not found:
        raise FileNotFoundError(f"no notebook in {', '.join(map(str, submissions))}")
    found = {student: found[student] for student in sorted(found)[index - 1 :: n_parts]}
    out = Output(Path(output), most, feedback, kind, column or Path(master).stem, roster)
    keys = {s: _key(master, path, timeout, seed) for s, path in found.items()}
    out.take([g for g in load(out.log) if keys.get(g.student) == g.key])
    if out.grades:
        print(f"{len(out.grades)} of {len(found)} were graded before")
    todo = [s for s in found if s not in out.grades]
    stop = threading.Event()
    run = grade if jobs == 1 else _apart

    def work(student: str) -> Grade | None:
        if stop.is_set():
            return None
        try:
            result = run(master, found[student], student=student, timeout=timeout, seed=seed)
        except Exception as error:
            # of the machine, not of the student: say so, and grade it next time
            result = Grade(student, dict.fromkeys(most, 0.0))
            result.notes.append(f"NOT GRADED: {type(error).__name__}: {error}")
            return result
        result.key = keys[student]
        return result

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(work, student) for student in todo]):
                if (result := future.result()) is None:
                    continue
                out.add(result)
                n_passed = sum(points > 0 for points in result.points.values())
                words = [
                    f"{n_passed} of {len(most)} exercises, {result.seconds:.1f} s",
                    *result.notes,
                ]
                print(
                    f"[{len(out.grades)}/{len(found)}] {result.student}: {'; '.join(words)}",
                    flush=True,
                )
        except KeyboardInterrupt:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return out.finish()


def merge(
    master: Path,
    tables: Sequence[Path],
    output: Path,
    *,
    feedback: Path | None = None,
    kind: str = "plain",
    column: str | None = None,
    roster: Path | None = None,
) -> list[Grade]:
    r"""Puts the plain tables of several runs together, such as those of the jobs of a batch system.

    Arguments:
        tables: CSV files of :func:`grade_all`; reports come from the logs beside them.
        master, output, feedback, kind, column, roster: as in :func:`grade_all`.

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: if a table has other exercises than the master, or a student has two different results.
    """
    check.one_of(FORMATS, format=kind)
    most = _most(master)
    grades = merged(tables, most)
    out = Output(Path(output), most, feedback, kind, column or Path(master).stem, roster)
    out.take(grades)
    print(f"{len(grades)} students from {len(tables)} tables")
    return out.finish()


class Output:
    r"""Table, log and feedback of a run, as they grow."""

    def __init__(
        self,
        table: Path,
        most: dict[str, float],
        feedback: Path | None,
        kind: str,
        title: str,
        roster: Path | None,
    ) -> None:
        self.table, self.log, self.most = table, table.with_suffix(".jsonl"), most
        self.feedback, self.title = None if feedback is None else Path(feedback), title
        self.settings = {"kind": kind, "column": title, "roster": read_roster(roster, kind)}
        self.grades: dict[str, Grade] = {}
        table.parent.mkdir(parents=True, exist_ok=True)

    def take(self, grades: Sequence[Grade]) -> None:
        r"""Begins with the grades of earlier runs, and nothing else."""
        self.grades = {grade.student: grade for grade in grades}
        write_log(self.log, [grade for grade in grades if grade.key])
        self._write()
        for grade in grades:
            self._page(grade)

    def add(self, grade: Grade) -> None:
        self.grades[grade.student] = grade
        if grade.key:
            with self.log.open("a", encoding="utf8") as file:
                file.write(line(grade))
        self._write()
        self._page(grade)

    def finish(self) -> list[Grade]:
        r"""All grades in the students' order, which is also that of the log, however many jobs there were."""
        ordered = [self.grades[student] for student in sorted(self.grades)]
        write_log(self.log, [grade for grade in ordered if grade.key])
        return ordered

    def _write(self) -> None:
        write_table(self.table, list(self.grades.values()), self.most, **self.settings)

    def _page(self, grade: Grade) -> None:
        if self.feedback is not None:
            write_feedback(self.feedback, grade, self.most, self.title)


def _most(master: Path) -> dict[str, float]:
    r"""The points of each exercise."""
    return {e.name: e.points for e in exercises(read(master), Path(master).name)}


# ----------------------------------------------------------------------------------- a process a submission


def _apart(master: Path, submission: Path, **settings: Any) -> Grade:
    r""":func:`grade` in a process of its own.

    Raises:
        ChildProcessError: if the process died.
    """
    # A server that has read this package forks off a process for each submission, where there is such a thing.
    known = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if known else "spawn")
    if known:
        context.set_forkserver_preload(["lectool.assign.grade"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, master, submission, settings))
    process.start()
    sender.close()  # so that the end of the process ends the pipe
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(f"its process ended with code {process.exitcode}") from None
    process.join()
    if isinstance(result, Exception):
        raise result
    return result


def _send(sender: Any, master: Path, submission: Path, settings: dict[str, Any]) -> None:
    try:
        sender.send(grade(master, submission, **settings))
    except KeyboardInterrupt:
        os._exit(130)  # the process that waits for it says so
    except Exception as error:
        sender.send(RuntimeError(f"{type(error).__name__}: {error}"))


def _key(master: Path, submission: Path, timeout: float, seed: int) -> str:
    import lectool.checks

    digest = hashlib.sha256(f"{timeout} {seed}".encode())
    parts = sorted(Path(lectool.checks.__file__).parent.glob("*.py"))
    for path in (Path(master), Path(submission), *parts):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
