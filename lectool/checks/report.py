r"""What a check found, line by line, as text and as HTML."""

import html
from dataclasses import dataclass, field
from typing import Any

__all__ = ["CheckFailed", "Line", "Report"]


class CheckFailed(AssertionError):
    r"""An answer that does not pass. Its message is the whole report; notebooks show one line of it."""

    def __init__(self, report: "Report"):
        super().__init__(report.text())
        self.report = report

    def _render_traceback_(
        self, *_: Any
    ) -> list[str]:  # IPython asks for this in place of a traceback
        return [self.report.verdict()]


@dataclass
class Line:
    r"""One property: what it says, whether it holds, and, where it does not, what was seen."""

    sentence: str
    passed: bool
    expected: str = ""
    came: str = ""
    mistake: str = ""

    def text(self) -> str:
        if self.passed:
            return f"✓ {self.sentence}"
        likely = f"\n    likely: {self.mistake}" if self.mistake else ""
        return f"✗ {self.sentence}: expected {self.expected}, came {self.came}{likely}"


@dataclass
class Report:
    r"""What a check found. ``str(report)`` is plain text; notebooks show the same with colors."""

    name: str
    lines: list[Line] = field(default_factory=list)
    unfilled: str = ""

    @property
    def passed(self) -> bool:
        return not self.unfilled and bool(self.lines) and all(line.passed for line in self.lines)

    def verdict(self) -> str:
        if self.unfilled:
            return f"{self.name}: {self.unfilled}"
        n_failed = sum(not line.passed for line in self.lines)
        if n_failed:
            return f"{self.name}: not passed, {n_failed} of {len(self.lines)} properties fail"
        return f"{self.name}: passed, {len(self.lines)} properties hold"

    def text(self) -> str:
        return "\n".join([*(line.text() for line in self.lines), self.verdict()])

    __str__ = __repr__ = text

    def _repr_html_(self) -> str:
        colors = {
            True: "#1a7f37",
            False: "#c9510c",
        }  # on white and on black, also for the color-blind
        rows = []
        for line in self.lines:
            mark, *rest = line.text().split(" ", 1)
            first, _, likely = rest[0].partition("\n")
            hint = f"<br><em>{html.escape(likely.strip())}</em>" if likely else ""
            color = colors[line.passed]
            rows.append(
                f'<li style="list-style:none;margin:.15rem 0"><b style="color:{color}">{mark}</b> '
                f"{html.escape(first)}{hint}</li>"
            )
        verdict = f'<p style="margin:.3rem 0"><b>{html.escape(self.verdict())}</b></p>'
        verdict = verdict if self.passed else ""  # where it fails, the error shows it
        return f'<ul style="margin:.3rem 0;padding-left:.5rem">{"".join(rows)}</ul>{verdict}'
