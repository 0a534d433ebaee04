r"""How an answer is tried: property by property, with a report that a student can act on."""

import html
import importlib
import inspect
import math
import pkgutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from IPython.display import display
from torch import Tensor

from lectool.random import generator, shifted

__all__ = ["CheckFailed", "Line", "Report", "Trial", "check", "exercises", "judge"]

NOT_FILLED = "not filled in yet"
# What torch says, and what is usually behind it.
FAMILIAR = {
    "shapes cannot be multiplied": "a transpose is missing, or one is too many",
    "must match the size of tensor": "a transpose or keepdim=True is missing, so that the shapes do not fit",
    "in-place operation": "x += … changes a tensor that is still needed; write x = x + …",
    "Can't call numpy() on Tensor that requires grad": "call .detach() before .numpy()",
    "does not require grad": "a detach() or torch.no_grad() cuts the gradient off",
    "expected scalar type": "float32 and float64 are mixed; new tensors take dtype and device of x",
    "same dtype": "float32 and float64 are mixed; new tensors take dtype and device of x",
    "not defined": "the name is misspelled, or the cell that defines it has not been run",
    "positional argument": "the arguments of the function have changed; leave its first line as it was",
}


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


class Stop(Exception):
    r"""Ends a trial: what follows would rest on what has just failed."""


class Unfilled(Exception):
    r"""The answer, or a function that it calls, still holds its stub."""


Mistakes = str | Sequence[tuple[Any, str]]


class Trial:
    r"""Collects the properties of one answer.

    ``mistake`` is a sentence, or a list of pairs (condition, sentence) of which the first that is true is shown;
    the pair ``(True, sentence)`` closes such a list.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def rng(self, seed: int = 0) -> torch.Generator:
        r"""Random numbers that ``LECTOOL_SEED`` shifts: an answer cannot know them."""
        return generator(seed)

    def randn(self, *shape: int, seed: int = 0) -> Tensor:
        r"""Standard normal numbers, float64."""
        return torch.randn(*shape, generator=self.rng(seed), dtype=torch.float64)

    # ------------------------------------------------------------------------------------ properties

    def holds(
        self,
        sentence: str,
        passed: Any,
        *,
        expected: Any,
        came: Any,
        mistake: Mistakes = "",
        stop: bool = False,
    ) -> bool:
        r"""Any property; ``stop=True`` where the following ones have no sense without it."""
        passed = bool(passed)
        if passed:
            self.lines.append(Line(sentence, True))
        else:
            words = mistake if isinstance(mistake, str) else _first(mistake)
            self.lines.append(Line(sentence, False, _show(expected), _show(came), words))
            if stop:
                raise Stop
        return passed

    def shape(self, sentence: str, value: Any, *shape: int, mistake: Mistakes = "") -> None:
        r"""A tensor of that shape; the trial ends where it is not."""
        fits = isinstance(value, Tensor) and tuple(value.shape) == shape
        came = (
            f"shape {tuple(value.shape)}"
            if isinstance(value, Tensor)
            else f"{type(value).__name__}"
        )
        if value is None:
            came, mistake = "None", "a return is missing"
        self.holds(
            sentence,
            fits,
            expected=f"a tensor of shape {shape}",
            came=came,
            mistake=mistake,
            stop=True,
        )

    def parts(self, answer: Any, *names: str) -> tuple:
        r"""A tuple of as many parts as there are names; the trial ends where it is none."""
        self.holds(
            f"it returns {', '.join(names)}",
            isinstance(answer, tuple) and len(answer) == len(names),
            expected=f"a tuple of {len(names)}",
            came=type(answer).__name__,
            mistake=f"return {', '.join(names)}",
            stop=True,
        )
        return answer

    def finite(self, sentence: str, value: Tensor, *, mistake: Mistakes = "") -> None:
        r"""Neither NaN nor infinite; the trial ends where a number is."""
        n_bad = int((~torch.isfinite(value)).sum())
        self.holds(
            sentence,
            not n_bad,
            expected="numbers",
            came=f"{n_bad} NaN or infinite",
            mistake=mistake,
            stop=True,
        )

    def near(
        self,
        sentence: str,
        came: Any,
        expected: Any,
        *,
        tol: float,
        mistake: Mistakes = "",
        stop: bool = False,
    ) -> bool:
        r"""Equal up to ``tol``, an absolute difference, everywhere."""
        a, b = (torch.as_tensor(v).detach().double().cpu() for v in (came, expected))
        a, b = torch.broadcast_tensors(a, b)
        gap = (a - b).abs().nan_to_num(nan=math.inf)
        worst = int(gap.argmax()) if gap.numel() else 0
        few = a.numel() <= 6
        return self.holds(
            sentence,
            gap.numel() > 0 and gap.max() <= tol,
            expected=b if few else b.reshape(-1)[worst],
            came=a if few else f"{_show(a.reshape(-1)[worst])} at the worst of {a.numel()} places",
            mistake=mistake,
            stop=stop,
        )

    # ------------------------------------------------------------------------------------ calling the answer

    def run(self, f: Callable, *args: Any, untouched: str = "", **kwargs: Any) -> Any:
        r"""Calls the answer; with ``untouched``, a sentence, also sees whether it changed its arguments."""
        if not callable(f):
            self.holds(
                "the answer can be called", False, expected="a function", came=_show(f), stop=True
            )
        before = [a.detach().clone() if isinstance(a, Tensor) else None for a in args]
        try:
            value = f(*args, **kwargs)
        except NotImplementedError as error:
            raise Unfilled(_who(error, f)) from None
        except RecursionError:
            self._raised("RecursionError: the function calls itself without end", "")
        except Exception as error:
            said = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            words = next((w for key, w in FAMILIAR.items() if key in str(error)), "")
            self._raised(said + _place(error), words)
        if untouched:
            same = all(
                b is None or torch.equal(a.detach(), b) for a, b in zip(args, before, strict=True)
            )
            self.holds(
                untouched,
                same,
                expected="the same numbers before and after",
                came="changed ones",
                mistake="an in-place operation such as x -= … changes the caller's tensor; write x = x - …",
            )
        return value

    def _raised(self, came: str, mistake: str) -> None:
        self.holds("it runs", False, expected="a result", came=came, mistake=mistake, stop=True)


def gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    r"""Of one number in each of the inputs; None for an input that it does not depend on."""
    if not value.requires_grad:
        return (None,) * len(inputs)
    return torch.autograd.grad(value, inputs, allow_unused=True)


def off_diagonal(square: Tensor) -> Tensor:
    r"""The entries of a matrix beside its diagonal."""
    return square[~torch.eye(len(square), dtype=torch.bool)]


def judge(name: str, *answers: Any) -> Report:
    r"""Tries the answers to an exercise and returns the report.

    Arguments:
        name: of the exercise, such as ``"a1.whiten"``.
        answers: what the student wrote: functions, classes, tensors, numbers.

    Raises:
        ValueError: if there is no such exercise, or another number of answers belongs to it.
    """
    trial, report = Trial(), Report(name)
    f = _find(name)
    wanted = list(inspect.signature(f).parameters)[1:]
    if len(answers) != len(wanted):
        raise ValueError(
            f"check({name!r}) has {len(answers)} answers; expected {', '.join(wanted)}"
        )
    if any(answer is None or answer is Ellipsis for answer in answers):
        report.unfilled = NOT_FILLED
        return report
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(shifted(0))
        try:
            f(trial, *answers)
        except Unfilled as stub:
            report.unfilled = f"{NOT_FILLED}{stub}"
        except Stop:
            pass
        except Exception as error:  # the answer is of a kind that the check did not think of
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            words = next((w for key, w in FAMILIAR.items() if key in str(error)), "")
            trial.lines.append(
                Line("its result can be computed with", False, "numbers that fit", said, words)
            )
    if not report.unfilled:
        report.lines = trial.lines
    return report


def check(name: str, *answers: Any) -> None:
    r"""Tries the answers to an exercise and shows, property by property, what holds and what does not.

    Arguments:
        name: of the exercise, such as ``"a1.whiten"``.
        answers: what the exercise asked for.

    Raises:
        CheckFailed: if the answer is missing or wrong; notebooks show the report in place of a traceback.
        ValueError: if there is no such exercise.

    Example:
        >>> check("a1.whiten", lambda x: x)  # doctest: +SKIP
    """
    report = judge(name, *answers)
    if report.lines:
        display(report)
    if not report.passed:
        raise CheckFailed(report)


def exercises(assignment: str) -> list[str]:
    r"""The names of an assignment's exercises, such as ``"a1"``, in their order.

    Raises:
        ValueError: if there is no such assignment.
    """
    module = _module(assignment)
    names = sorted(module.__all__, key=lambda name: getattr(module, name).__code__.co_firstlineno)
    return [f"{assignment}.{name}" for name in names]


def _module(assignment: str) -> Any:
    package = importlib.import_module("lectool.checks")
    names = {m.name for m in pkgutil.iter_modules(package.__path__)} - {"trial"}
    if assignment not in names:
        raise ValueError(f"assignment is {assignment!r}; it can be {', '.join(sorted(names))}")
    return importlib.import_module(f"lectool.checks.{assignment}")


def _find(name: str) -> Callable:
    assignment, _, exercise = name.partition(".")
    module = _module(assignment)
    if exercise not in module.__all__:
        raise ValueError(f"exercise is {name!r}; it can be {', '.join(exercises(assignment))}")
    return getattr(module, exercise)


def _first(mistakes: Sequence[tuple[Any, str]]) -> str:
    return next((words for condition, words in mistakes if bool(condition)), "")


def _show(value: Any) -> str:
    if isinstance(value, Tensor):
        numbers = [_number(v) for v in value.detach().reshape(-1)[:6].tolist()]
        return ", ".join(numbers) + (", …" if value.numel() > 6 else "")
    if isinstance(value, float):
        return _number(value)
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) < 200 else text[:200] + " …"


def _number(value: float) -> str:
    return str(value) if isinstance(value, bool | int) else f"{value:.4g}".replace("-", "−")


def _who(error: Exception, f: Callable) -> str:
    name = traceback.extract_tb(error.__traceback__)[-1].name
    return (
        ""
        if name in (getattr(f, "__name__", ""), "__init__", "forward")
        else f": {name}, which it calls"
    )


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "lectool" not in f.filename and "site-packages" not in f.filename]
    return f", in the line {own[-1].line.strip()!r}" if own and own[-1].line else ""
