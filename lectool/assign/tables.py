r"""Grades on their way out: tables for people and for learning platforms, feedback for students, parts put together."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["FORMATS", "Grade", "load", "merged", "write_feedback", "write_log", "write_table"]


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


# ------------------------------------------------------------------------------------------ reports, as JSON


def line(grade: Grade) -> str:
    r"""A grade as a line of the log."""
    return json.dumps(asdict(grade), ensure_ascii=False) + "\n"


def write_log(path: Path, grades: Sequence[Grade]) -> None:
    r"""Replaces the log: a line a grade, with all reports."""
    _replace(path, "".join(map(line, grades)))


def load(path: Path) -> list[Grade]:
    r"""The grades of a log; without the line at which a run was cut off."""
    grades = []
    for text in path.read_text("utf8").splitlines() if path.is_file() else []:
        try:
            grades.append(Grade(**json.loads(text)))
        except (ValueError, TypeError):
            continue
    return grades


# ------------------------------------------------------------------------------------------------- tables

Row = list[str]
Roster = Mapping[str, Mapping[str, str]]


def plain(
    grades: Sequence[Grade], most: Mapping[str, float], column: str, roster: Roster
) -> list[Row]:
    r"""A row a student, a column an exercise."""
    rows = [["student", *most, "total", "notes"]]
    for grade in grades:
        points = [f"{grade.points.get(name, 0.0):g}" for name in most]
        rows.append([grade.student, *points, f"{grade.total:g}", _notes(grade)])
    return rows


CANVAS = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
CANVAS_FILE = re.compile(r"(?:^|/)[^_/]+_(?:LATE_)?(?P<id>\d+)_\d+_[^/]*$")


def canvas(
    grades: Sequence[Grade], most: Mapping[str, float], column: str, roster: Roster
) -> list[Row]:
    r"""What Canvas's gradebook imports; its own export is the roster.

    Canvas finds students by their ID, which also stands in the names of the files that it hands out.
    """
    rows = [[*CANVAS, column], ["    Points Possible", *[""] * 4, f"{sum(most.values()):g}"]]
    for grade in grades:
        found = CANVAS_FILE.search(grade.student)
        own = {"ID": found["id"]} if found else {"SIS Login ID": grade.student}
        known = _known(grade.student, own.get("ID", ""), roster)
        known = known or {"Student": grade.student, **own}
        rows.append([*[known.get(name, "") for name in CANVAS], f"{grade.total:g}"])
    return rows


MOODLE = ["Identifier", "Full name", "Email address"]
MOODLE_FILE = re.compile(r"(?:^|/)(?P<name>[^_/]+)_(?P<id>\d+)_assignsubmission_")


def moodle(
    grades: Sequence[Grade], most: Mapping[str, float], column: str, roster: Roster
) -> list[Row]:
    r"""Moodle's grading worksheet; also for its import of grades, where one says which column is which.

    Moodle finds students by their identifier, "Participant 12345", whose number also stands in the names of the folders
    that it hands out, or, at an import, by their e-mail address.
    """
    rows = [[*MOODLE, "Grade", "Maximum Grade", "Feedback comments"]]
    for grade in grades:
        found = MOODLE_FILE.search(grade.student)
        number = f"Participant {found['id']}" if found else ""
        mail = {"Email address": grade.student} if "@" in grade.student else {}
        own = {"Identifier": number, "Full name": found["name"] if found else grade.student, **mail}
        known = _known(grade.student, number, roster) or own
        points = [f"{grade.total:g}", f"{sum(most.values()):g}"]
        rows.append([*[known.get(name, "") for name in MOODLE], *points, _comments(grade, most)])
    return rows


def _known(student: str, number: str, roster: Roster) -> Mapping[str, str] | None:
    parts = student.split("/")
    for name in (number, student, parts[-1], parts[0]):
        if name and name in roster:
            return roster[name]
    return None


def _comments(grade: Grade, most: Mapping[str, float]) -> str:
    earned = [
        f"{name}: {grade.points.get(name, 0.0):g} of {n:g}"
        + ("" if grade.points.get(name) else f" ({_in_a_line(grade.reports.get(name, ''))})")
        for name, n in most.items()
    ]
    return "\n".join([*earned, *grade.notes])


def _notes(grade: Grade) -> str:
    return " | ".join(map(_in_a_line, grade.notes))


def _in_a_line(text: str) -> str:
    return " ".join(text.split())


FORMATS: dict[str, Callable[..., list[Row]]] = {"plain": plain, "canvas": canvas, "moodle": moodle}


def read_roster(path: Path | None, kind: str) -> dict[str, dict[str, str]]:
    r"""A platform's own list of students, by everything that names one of them alone.

    Raises:
        ValueError: if it has none of the platform's columns.
    """
    if path is None:
        return {}
    columns = {"canvas": CANVAS, "moodle": [*MOODLE, "Username", "ID number"]}.get(kind, [])
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    keys = [name for name in columns if name in (reader.fieldnames or []) and name != "Section"]
    if not keys:
        raise ValueError(f"{path}: none of the columns {', '.join(columns) or '(no platform)'}")
    roster: dict[str, dict[str, str]] = {}
    twice: set[str] = set()
    for row in rows:
        if row.get("Student", "").strip() == "Points Possible":
            continue
        for name in {row[key] for key in keys if row.get(key)}:
            twice |= {name} if name in roster else set()
            roster[name] = row
    return {name: row for name, row in roster.items() if name not in twice}


def write_table(
    path: Path,
    grades: Sequence[Grade],
    most: Mapping[str, float],
    *,
    kind: str,
    column: str,
    roster: Roster,
) -> None:
    r"""Replaces a table, in the order of the students.

    Arguments:
        path: of the CSV file.
        grades: one a student.
        most: the points of each exercise.
        kind: a name of :data:`FORMATS`.
        column: what Canvas calls the assignment, with its number: ``A1 (4711)``.
        roster: see :func:`read_roster`.
    """
    ordered = sorted(grades, key=lambda grade: grade.student)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    for row in FORMATS[kind](ordered, most, column, roster):
        table.writerow(map(_harmless, row))
    _replace(path, text.getvalue())


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, "utf8")
    part.replace(path)


def _harmless(text: str) -> str:
    r"""A spreadsheet takes a cell that begins with one of these for a formula."""
    return f"'{text}" if text.startswith(tuple("=+-@\t\r")) else text


# ----------------------------------------------------------------------------------------------- feedback


def write_feedback(folder: Path, grade: Grade, most: Mapping[str, float], title: str) -> Path:
    r"""A page in Markdown for one student: points, and what each check said.

    Returns:
        its path, which is the student's name below the folder.
    """
    parts = [part for part in grade.student.split("/") if part not in ("", ".", "..")]
    path = folder.joinpath(*parts[:-1], f"{parts[-1]}.md" if parts else "unnamed.md")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [f"# {title}: {grade.student}", f"{grade.total:g} of {sum(most.values()):g} points."]
    text += [f"> {_in_a_line(note)}" for note in grade.notes]
    for name, n in most.items():
        text.append(f"## {name}: {grade.points.get(name, 0.0):g} of {n:g}")
        text.append(_fenced(grade.reports.get(name) or "no report"))
    path.write_text("\n\n".join(text) + "\n", "utf8")
    return path


def _fenced(text: str) -> str:
    r"""A report may hold what a student wrote: the fence is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


# -------------------------------------------------------------------------------------------------- parts


def merged(tables: Sequence[Path], most: Mapping[str, float]) -> list[Grade]:
    r"""The grades of several plain tables, such as one from each job of a batch system.

    Reports come from the log beside a table, where there is one.

    Raises:
        FileNotFoundError: if a table is missing.
        ValueError: if a table has other exercises, or a student has two different results.
    """
    found: dict[str, tuple[Grade, Path]] = {}
    for path in map(Path, tables):
        for grade in _table(path, most):
            before, where = found.get(grade.student, (grade, path))
            if before.points != grade.points:
                raise ValueError(
                    f"{grade.student} has {before.total:g} points in {where} and {grade.total:g} in {path}"
                )
            found[grade.student] = grade, path
    return [found[student][0] for student in sorted(found)]


def _table(path: Path, most: Mapping[str, float]) -> list[Grade]:
    with path.open(encoding="utf8", newline="") as file:
        head, *rows = list(csv.reader(file)) or [[]]
    expected = ["student", *most, "total", "notes"]
    if head != expected:
        raise ValueError(
            f"{path}: its columns are {', '.join(head)}; expected {', '.join(expected)}"
        )
    logged = {grade.student: grade for grade in load(path.with_suffix(".jsonl"))}
    grades = []
    for student, *cells in rows:
        student = (
            student[1:] if student[:1] == "'" and _harmless(student[1:]) == student else student
        )
        points = dict(zip(most, map(float, cells)))
        grade = Grade(student, points, notes=[cells[-1]] if cells[-1] else [])
        known = logged.get(student)
        grades.append(known if known is not None and known.points == points else grade)
    return grades
