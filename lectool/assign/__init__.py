r"""Assignments on the instructor's side: student notebooks from masters, and grades from submissions.

    python -m lectool.assign release assignments/*.ipynb --to assignments/student [--check]
    python -m lectool.assign grade MASTER SUBMISSION [SUBMISSION …] -o grades.csv
    python -m lectool.assign grade MASTER --merge PART.csv [PART.csv …] -o grades.csv

Needs nbformat, and jupyter-client for grading; students need neither.
"""

from lectool.assign.grade import Grade, grade, grade_all, merge
from lectool.assign.master import Exercise, MarkerError, read, released, solutions, student_notebook
from lectool.assign.release import release

__all__ = [
    "Exercise",
    "Grade",
    "MarkerError",
    "grade",
    "grade_all",
    "merge",
    "read",
    "release",
    "released",
    "solutions",
    "student_notebook",
]
