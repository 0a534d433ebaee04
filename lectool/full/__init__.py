r"""The papers' runs, for a GPU and within a given time: ``python -m lectool.full``.

Each run trains a model of the book at the size of the paper that made it known, measures what the paper measured, and
keeps the figure (:mod:`lectool.results`), which the chapters show beside the published one (:mod:`lectool.published`).
"""

from lectool.full.core import Run, Session, perform
from lectool.full.runs import RUNS

__all__ = ["RUNS", "Run", "Session", "perform"]
