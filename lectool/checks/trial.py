r"""How an answer is tried: property by property, with a report that a student can act on."""

import importlib
import inspect
import math
import pkgutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from IPython.display import display
from scipy.stats import kstest
from torch import Tensor

from lectool.checks.report import CheckFailed, Line, Report
from lectool.random import generator, shifted

__all__ = ["CheckFailed", "Line", "Report", "Trial", "check", "exercises", "judge"]

NOT_FILLED = "not filled in yet"
CUT = "a detach(), .item(), .data or torch.no_grad() cuts the gradient off"
# What torch says, and what is usually behind it.
FAMILIAR = {
    "shapes cannot be multiplied": "a transpose is missing, or one is too many",
    "must match the size of tensor": "a transpose or keepdim=True is missing, so that the shapes do not fit",
    "in-place operation": "x += … changes a tensor that is still needed; write x = x + …",
    "modified inplace": "in-place operation: x *= … changes the caller's tensor; write x = x * …",
    "Can't call numpy() on Tensor that requires grad": "call .detach() before .numpy()",
    "does not require grad": "a detach() or torch.no_grad() cuts the gradient off",
    "expected scalar type": "float32 and float64 are mixed; new tensors take dtype and device of x",
    "same dtype": "float32 and float64 are mixed; new tensors take dtype and device of x",
    "not defined": "the name is misspelled, or the cell that defines it has not been run",
    "positional argument": "the arguments of the function have changed; leave its first line as it was",
}


class Stop(Exception):
    r"""Ends a trial: what follows would rest on what has just failed."""


class Unfilled(Exception):
    r"""The answer, or a function that it calls, still holds its stub."""


class Trial:
    r"""Collects the properties of one answer, on inputs that are drawn anew under each ``LECTOOL_SEED``.

    A property that is tried in several rounds is one line of the report: the first failure stays.
    ``mistakes`` says what is likely behind a failure, as a dictionary from the words to what the answer would
    then have been (a number or a tensor), or to a condition (``True`` or ``False``); the first that fits is
    shown, else ``mistake``.
    """

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.source = generator(1_000_003)  # not where rng() starts: noise must not be the data

    # ------------------------------------------------------------------------------------ inputs

    def rng(self, seed: int = 0) -> torch.Generator:
        r"""Random numbers to hand to an answer; ``LECTOOL_SEED`` shifts them."""
        return generator(seed)

    def randn(self, *shape: int) -> Tensor:
        r"""Standard normal numbers, float64, others at each call."""
        return torch.randn(*shape, generator=self.source, dtype=torch.float64)

    def rand(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        r"""Numbers between low and high, float64, others at each call."""
        return low + (high - low) * torch.rand(*shape, generator=self.source, dtype=torch.float64)

    def order(self, n: int) -> Tensor:
        r"""The numbers 0 … n − 1 in some order."""
        return torch.randperm(n, generator=self.source)

    def cases(self, *ranges: tuple[int, int], rounds: int = 2) -> Iterator[tuple[int, ...]]:
        r"""Sizes for each round, one from each range (both ends belong to it), none of them twice."""
        columns = [(low + self.order(high + 1 - low)[:rounds]).tolist() for low, high in ranges]
        return zip(*columns)

    # ------------------------------------------------------------------------------------ properties

    def holds(
        self,
        sentence: str,
        passed: Any,
        *,
        expected: Any,
        came: Any,
        mistakes: Mapping[str, Any] | None = None,
        mistake: str = "",
        stop: bool = False,
    ) -> bool:
        r"""Any property; ``stop=True`` where the following ones have no sense without it."""
        passed = bool(passed)
        words = next((words for words, true in (mistakes or {}).items() if true), mistake)
        line = Line(sentence, passed)
        if not passed:
            line = Line(sentence, passed, _show(expected), _show(came), words)
        known = {line.sentence: i for i, line in enumerate(self.lines)}
        if sentence not in known:
            self.lines.append(line)
        elif self.lines[known[sentence]].passed:
            self.lines[known[sentence]] = line
        if stop and not passed:
            raise Stop
        return passed

    def value(
        self,
        sentence: str,
        came: Any,
        expected: Any,
        *,
        tol: float = 1e-5,
        mistakes: Mapping[str, Any] | None = None,
        mistake: str = "",
        stop: bool = False,
    ) -> bool:
        r"""Equal everywhere, up to ``tol`` times the size of what is expected (at least 1).

        Example:
            >>> t = Trial()
            >>> t.value("fake minus real", 4.0, -4.0, mistakes={"the sign is turned around": 4.0})
            False
            >>> print(t.lines[0].text())
            ✗ fake minus real: expected −4, came 4
                likely: the sign is turned around
        """
        a, b = torch.broadcast_tensors(_numbers(came), _numbers(expected))
        gap = (a - b).abs().nan_to_num(nan=math.inf)
        worst = int(gap.argmax()) if gap.numel() else 0
        few = a.numel() <= 6
        guesses = mistakes or {}
        return self.holds(
            sentence,
            _same(a, b, tol),
            expected=b if few else b.reshape(-1)[worst],
            came=a if few else f"{_show(a.reshape(-1)[worst])} at the worst of {a.numel()} places",
            mistakes={
                w: v if isinstance(v, bool) else _same(a, v, tol) for w, v in guesses.items()
            },
            mistake=mistake,
            stop=stop,
        )

    def gradient(
        self, sentence: str, value: Tensor, truth: Tensor, *inputs: Tensor, mistake: str = ""
    ) -> bool:
        r"""The answer's gradient in each input is that of ``truth``, the same number found in another way."""
        came, right = gradients(value, *inputs), gradients(truth, *inputs)
        n_cut = sum(a is None and b is not None for a, b in zip(came, right))
        flat = [
            torch.cat(
                [torch.zeros_like(x).flatten() if g is None else g.flatten() for g, x in pairs]
            )
            for pairs in (zip(came, inputs), zip(right, inputs))
        ]
        return self.value(
            sentence,
            *flat,
            mistakes={f"{CUT}; {mistake}".removesuffix("; "): n_cut > 0},
            mistake=mistake or "part of the answer is detached, or has another derivative",
        )

    def number(self, what: str, value: Any, *, mistake: str) -> None:
        r"""A tensor with one number, as a loss is; the trial ends where it is none."""
        shape = tuple(value.shape) if isinstance(value, Tensor) else None
        self.holds(
            f"{what} is one number, as a tensor",
            shape == (),
            expected="shape ()",
            came=type(value).__name__ if shape is None else f"shape {shape}",
            mistakes={
                "a return is missing": value is None,
                "item() or float() cuts the gradient off; return the tensor": shape is None,
            },
            mistake=mistake,
            stop=True,
        )

    def shape(self, sentence: str, value: Any, *shape: int, mistake: str = "") -> None:
        r"""A tensor of that shape; the trial ends where it is not."""
        is_tensor = isinstance(value, Tensor)
        self.holds(
            sentence,
            is_tensor and tuple(value.shape) == shape,
            expected=f"a tensor of shape {shape}",
            came=f"shape {tuple(value.shape)}" if is_tensor else type(value).__name__,
            mistakes={"a return is missing": value is None},
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

    def finite(self, sentence: str, value: Tensor, *, mistake: str = "") -> None:
        r"""Neither NaN nor infinite; the trial ends where a number is."""
        n_bad = int((~torch.isfinite(value)).sum())
        came = f"{n_bad} NaN or infinite"
        self.holds(sentence, not n_bad, expected="numbers", came=came, mistake=mistake, stop=True)

    # ------------------------------------------------------------------------------------ chance

    def draws(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        r"""What ``draw(generator)`` gives; the generator alone must decide it, and global numbers stay alone."""
        state, source = torch.get_rng_state(), self.rng()
        first, second, again = draw(source), draw(source), draw(self.rng())
        frozen, same = torch.equal(first, second), torch.equal(first, again)
        touched = not torch.equal(state, torch.get_rng_state())
        self.holds(
            "the generator decides the numbers: the same again from the same start, others as it goes on",
            same and not frozen and not touched,
            expected="that",
            came="the same numbers at every call" if frozen else "others from the same start",
            mistakes={
                "the same noise at every call: no seed belongs into the function": frozen,
                "nothing may seed or use the global random numbers": touched and same,
            },
            mistake="hand the generator on: generator=generator",
        )
        return first

    def distributed(
        self, sentence: str, sample: Tensor, law: str, *, mistakes: Mapping[str, Any] | None = None
    ) -> None:
        r"""By the test of Kolmogorov and Smirnov; a right answer fails it once in 100 000 times.

        Arguments:
            sentence: the property.
            sample: independent numbers, of any shape.
            law: ``"norm"`` or ``"uniform"``, with its standard parameters.
            mistakes: as everywhere.
        """
        numbers = sample.detach().double().flatten()
        gap = kstest(numbers.numpy(), law).statistic
        self.holds(
            sentence,
            gap * len(numbers) ** 0.5 < 2.5,
            expected={"norm": "a standard normal law", "uniform": "a uniform law"}[law],
            came=f"one that is {gap:.1%} off",
            mistakes=mistakes,
            mistake={
                "norm": "the variance alone does not make it: torch.randn draws normal numbers",
                "uniform": "torch.rand draws uniform numbers between 0 and 1",
            }[law],
        )

    def independent(self, sentence: str, sample: Tensor, *, mistake: str) -> None:
        r"""No two columns of standard numbers (n, d) are correlated."""
        d = sample.shape[1]
        came = off_diagonal(sample.T @ sample / len(sample)) if d > 1 else torch.zeros(1)
        self.value(sentence, came, 0.0, tol=5.5 / len(sample) ** 0.5, mistake=mistake)

    # ------------------------------------------------------------------------------------ calling the answer

    def run(self, f: Callable, *args: Any, untouched: str = "", **kwargs: Any) -> Any:
        r"""Calls the answer; with ``untouched``, a sentence, also sees whether it changed its arguments."""
        if not callable(f):
            self.holds(
                "the answer can be called", False, expected="a function", came=_show(f), stop=True
            )
        tensors = [a for a in args if isinstance(a, Tensor)]
        before = [(a.detach().clone(), a.requires_grad, _grad(a)) for a in tensors]
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
                torch.equal(a.detach(), old) and a.requires_grad == wanted and _grad(a) is grad
                for a, (old, wanted, grad) in zip(tensors, before)
            )
            self.holds(
                untouched,
                same,
                expected="the same before and after",
                came="changed ones",
                mistake="an in-place operation such as x -= … changes the caller's tensor; write x = x - …",
            )
        return value

    def _raised(self, came: str, mistake: str) -> None:
        self.holds("it runs", False, expected="a result", came=came, mistake=mistake, stop=True)


def gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor | None, ...]:
    r"""Of a number in each input, or of several numbers with unequal weights; None where it depends not."""
    if not value.requires_grad:
        return (None,) * len(inputs)
    weights = torch.linspace(1, 2, value.numel()).reshape(value.shape).to(value)
    return torch.autograd.grad(
        (value * weights).sum(), inputs, allow_unused=True, retain_graph=True
    )


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
    names = {m.name for m in pkgutil.iter_modules(package.__path__) if m.name[1:].isdigit()}
    if assignment not in names:
        raise ValueError(f"assignment is {assignment!r}; it can be {', '.join(sorted(names))}")
    return importlib.import_module(f"lectool.checks.{assignment}")


def _find(name: str) -> Callable:
    assignment, _, exercise = name.partition(".")
    module = _module(assignment)
    if exercise not in module.__all__:
        raise ValueError(f"exercise is {name!r}; it can be {', '.join(exercises(assignment))}")
    return getattr(module, exercise)


def _numbers(value: Any) -> Tensor:
    return torch.as_tensor(value).detach().double().cpu()


def _grad(x: Tensor) -> Tensor | None:
    return x.grad if x.is_leaf else None


def _same(came: Any, expected: Any, tol: float) -> bool:
    a, b = _numbers(came), _numbers(expected)
    try:
        gap = (a - b).abs().nan_to_num(nan=math.inf)
    except RuntimeError:  # shapes that do not fit
        return False
    return gap.numel() > 0 and float(gap.max()) <= min(tol * max(1.0, float(b.abs().max())), 1e300)


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
