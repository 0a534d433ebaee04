r"""Checks of the assignments: they say what is wrong with an answer, and what the likely mistake is.

``check("a1.whiten", whiten)`` tries an answer of assignment 1, one module an assignment. A check knows properties
that a right answer has (a shape, an identity, a known value, a statistic with its tolerance), never the answer.
"""

from lectool.checks.report import CheckFailed, Line, Report
from lectool.checks.trial import Trial, check, exercises, judge

__all__ = ["CheckFailed", "Line", "Report", "Trial", "check", "exercises", "judge"]
