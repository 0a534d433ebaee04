r"""What a training loop needs besides its steps: step sizes, means of terms, a bar, and an end by Ctrl-C."""

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from IPython import get_ipython
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from lectool import check, parallel
from lectool.live import is_live

__all__ = ["SCHEDULES", "Record", "Recorder", "Stopped", "adam", "not_finite", "resume", "save"]

# name → (share of the updates done → share of the step size)
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "triangle": lambda done: min((done + 1e-3) / 0.1, (1 - done) / 0.9),
}


def adam(parameters: Sequence[Any], lr: float, **settings: Any) -> Optimizer:
    r"""Adam in one fused call an update, where the device has it: a third of a small model's time."""
    first = parameters[0]["params"][0] if isinstance(parameters[0], dict) else parameters[0]
    fused = first.device.type in ("cpu", "cuda")
    return torch.optim.Adam(parameters, lr=lr, fused=fused, **settings)


def not_finite(means: Mapping[str, float]) -> list[str]:
    r"""The names of the terms that are NaN or infinite."""
    return [name for name, mean in means.items() if not math.isfinite(mean)]


@dataclass
class Record:
    r"""What any training leaves.

    Attributes:
        terms: one list a named term, one mean an epoch or a window of steps.
        seconds: time spent.
        interrupted: whether Ctrl-C ended it.
    """

    terms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def __getitem__(self, name: str) -> list[float]:
        return self.terms[name]

    def last(self) -> str:
        r"""The last value of each term, in words."""
        return ", ".join(
            f"{name} {values[-1]:.4g}" for name, values in self.terms.items() if values
        )


class Stopped(KeyboardInterrupt):
    r"""Somebody stopped a training in a notebook: the cell ends, and so do those that wait behind it.

    Attributes:
        record: of the training up to there.
    """

    def __init__(self, text: str, record: Record):
        super().__init__(text)
        self.record = record

    def _render_traceback_(self) -> list[str]:
        # What IPython shows: one line, not the way down into the loop.
        return [str(self)]


class Recorder:
    r"""Keeps the books of a loop, and ends it where Ctrl-C is pressed.

    In a notebook the interrupt ends the cell and what is queued behind it, as :class:`Stopped`; in a script the loop
    returns its record.

    Used as ``with Recorder(…) as book:``; within, the loop calls :meth:`pace` before each update, :meth:`add` after it,
    and :meth:`means` and :meth:`note` at the end of each epoch or window.

    Arguments:
        record: what is filled in.
        optimizers: their present step sizes are those that the schedule scales.
        schedule: a name of :data:`SCHEDULES`.
        n_updates: of the whole run.
        n_done: of those, the updates that an earlier run has made.
        name: of the bar, which counts updates.
        unit, total, done: in what the caller counts, how many there are, and how many an earlier run has made.
        progress: whether to show the bar; where ``None``, only if somebody watches. Of several processes the first
            shows it.

    Raises:
        ValueError: if the schedule is unknown.
    """

    def __init__(
        self,
        record: Record,
        optimizers: Sequence[Optimizer],
        *,
        schedule: str = "constant",
        n_updates: int,
        name: str,
        unit: str,
        total: int,
        done: int = 0,
        n_done: int = 0,
        progress: bool | None = None,
    ):
        check.one_of(SCHEDULES, schedule=schedule)
        self.record, self.n_updates, self.n_done = record, n_updates, n_done
        self.start: float | None = None  # the clock stands between two windows
        self.share = None if schedule == "constant" else SCHEDULES[schedule]
        self.groups = [(g, g["lr"]) for opt in optimizers for g in opt.param_groups]
        self.sums: dict[str, Tensor] = {}
        self.weight = 0.0
        shown = parallel.is_first() and (is_live() if progress is None else progress)
        # A bar of plain text: its last state stays in a saved notebook, where a widget's bar would be lost.
        screen = None if get_ipython() is None else sys.stdout
        self.bar = tqdm(
            total=n_updates,
            initial=n_done,
            unit=" updates",
            desc=name,
            disable=not shown,
            file=screen,
            bar_format="{desc}: {percentage:3.0f} %|{bar:20}| {n_fmt} of {total_fmt}{unit}, {elapsed}{postfix}",
        )
        self.unit, self.total, self.done = unit, total, done

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> bool:
        self.bar.close()
        self.record.interrupted = kind is KeyboardInterrupt
        if self.record.interrupted and get_ipython() is not None:
            where = f"{self.unit} {self.done} of {self.total}"
            text = f"stopped after {where}; the model keeps what it has learned"
            raise Stopped(text, self.record) from None
        return self.record.interrupted

    def pace(self) -> None:
        r"""Sets the step sizes for the next update."""
        if self.start is None:
            self.start = time.perf_counter()
        if self.share is not None:
            for group, lr in self.groups:
                group["lr"] = lr * self.share(self.n_done / self.n_updates)
        self.n_done += 1
        self.bar.update()

    def add(self, terms: Mapping[str, Tensor], weight: float = 1.0) -> None:
        r"""Counts the terms of one update. They stay on their device: one transfer a window, not one a step."""
        for name, term in terms.items():
            weighted = term.detach() * weight
            self.sums[name] = self.sums[name] + weighted if name in self.sums else weighted
        self.weight += weight

    def means(self) -> dict[str, float]:
        r"""Means of the terms since the last call."""
        means = {name: total.item() / self.weight for name, total in self.sums.items()}
        self.sums, self.weight = {}, 0.0
        return means

    def note(self, means: Mapping[str, float], n: int = 1) -> None:
        r"""Enters means into the record, and counts ``n`` epochs or steps as done."""
        for name, mean in means.items():
            self.record.terms.setdefault(name, []).append(mean)
        if self.start is not None:
            self.record.seconds += time.perf_counter() - self.start
            self.start = None
        self.bar.set_postfix({name: f"{mean:.4g}" for name, mean in means.items()})
        self.done += n


# ------------------------------------------------------------------------------------------- checkpoints


def save(
    path: Path,
    name: str,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    record: Record,
    generator: torch.Generator | None = None,
) -> None:
    r"""Writes all that a training needs to go on from here; of several processes the first one does.

    Arguments:
        path: of the file, which is replaced in one step: whoever reads finds the old one or the new one.
        name: of what is trained.
        model, optimizers: their state.
        record: of the training up to here.
        generator: a source of random numbers besides torch's global ones.
    """
    if not parallel.is_first():
        return
    state = {
        "name": name,
        "model": model.state_dict(),
        "optimizers": [opt.state_dict() for opt in optimizers],
        "record": asdict(record),
        "rng": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "generator": None if generator is None else generator.get_state(),
    }
    temporary = path.with_name(path.name + ".part")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


KEYS = ("name", "model", "optimizers", "record", "rng", "cuda", "generator")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {key: state[key] for key in KEYS}
    except Exception as error:
        raise ValueError(
            f"{path}: no checkpoint of lectool, or a damaged one ({type(error).__name__})"
        ) from error


def resume(
    path: Path,
    name: str,
    model: nn.Module,
    optimizers: Sequence[Optimizer],
    generator: torch.Generator | None = None,
) -> dict[str, Any] | None:
    r"""Takes up what :func:`save` wrote; the arguments are its own. The first process reads, for all.

    Returns:
        the fields of the record; ``None`` where there is no file.

    Raises:
        ValueError: if the file is damaged, or the checkpoint belongs to another model; which is then as it was.
    """
    state = parallel.from_first(lambda: _read(path))
    if state is None:
        return None
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    saved = {key: tuple(value.shape) for key, value in state["model"].items()}
    if state["name"] != name or own != saved:
        differing = next((k for k in {**own, **saved} if own.get(k) != saved.get(k)), "its class")
        raise ValueError(
            f"{path}: a checkpoint of another model, {state['name']} against {name}; they differ in "
            f"{differing}: {saved.get(differing)} against {own.get(differing)}"
        )
    model.load_state_dict(state["model"])
    for opt, saved_opt in zip(optimizers, state["optimizers"], strict=True):
        sizes = [group["lr"] for group in opt.param_groups]
        opt.load_state_dict(saved_opt)
        for group, lr in zip(opt.param_groups, sizes, strict=True):
            group["lr"] = lr  # of this call, from which the schedule goes on
    torch.set_rng_state(state["rng"])
    if torch.cuda.is_available() and state["cuda"]:
        for gpu, numbers in zip(range(torch.cuda.device_count()), state["cuda"]):
            torch.cuda.set_rng_state(numbers, gpu)
    if generator is not None and state["generator"] is not None:
        generator.set_state(state["generator"])
    return state["record"]
