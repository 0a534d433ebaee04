r"""What keeps a long run within its time, and lets it go on where it stopped."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lectool import data, gan, random, results, train
from lectool.full.picture import save_picture
from lectool.published import PUBLISHED, Published
from lectool.record import SCHEDULES, Record, adam

__all__ = ["Run", "Session", "TimeIsUp", "perform"]

TRAINING = 0.75  # of a run's time; the rest is for measuring


class TimeIsUp(Exception):
    r"""The time for training is over; what has been learned is measured."""


class Pace:
    r"""The clock of one training: it lets the step sizes fall, and ends it.

    A schedule asks how much is done. That is the share of the updates or the share of the time, whichever is larger:
    a training that has less time than the paper's ends with small steps, too.

    Arguments:
        end: the moment at which time is up, in seconds of ``time.monotonic``; ∞ for none.
        n_updates: of the whole training.
        share: from the share that is done, 0 to 1, to that of the step size.
    """

    def __init__(self, end: float, n_updates: int, share: Callable[[float], float]):
        self.start, self.end, self.n_updates, self.share = time.monotonic(), end, n_updates, share
        self.n_done, self.sizes = 0, []

    def follow(self, optimizer: Optimizer) -> Optimizer:
        r"""Takes an optimizer's step sizes for those at the start."""
        self.sizes.append((optimizer, [group["lr"] for group in optimizer.param_groups]))
        return optimizer

    def tick(self) -> None:
        r"""Sets the step sizes of the next update.

        Raises:
            TimeIsUp: if there is no time for it.
        """
        now = time.monotonic()
        if now >= self.end:
            raise TimeIsUp
        by_time = 0.0 if self.end == math.inf else (now - self.start) / (self.end - self.start)
        share = self.share(min(1.0, max(self.n_done / self.n_updates, by_time)))
        for optimizer, sizes in self.sizes:
            for group, lr in zip(optimizer.param_groups, sizes, strict=True):
                group["lr"] = lr * share
        self.n_done += 1


class Session:
    r"""A run's time, its checkpoints, and how far it came.

    Arguments:
        folder: of the checkpoints.
        seconds: for all of the run; ``None`` for as many as it needs.
        smoke: whether everything is made tiny, to see that it works.
        seed: of all random numbers.

    Attributes:
        spent: seconds of training, those before an interruption with them.
        progress: for each training how much is done, of how much, in which unit.
        n_test, n_test_of: test samples that were measured, and how many there are.
    """

    def __init__(
        self, folder: Path, seconds: float | None = None, *, smoke: bool = False, seed: int = 0
    ):
        self.folder, self.seconds, self.smoke, self.seed = folder, seconds, smoke, seed
        self.start, self.device = time.monotonic(), train.device()
        self.end = math.inf if seconds is None else self.start + seconds
        self.spent, self.n_test, self.n_test_of = 0.0, 0, 0
        self.source, self._digits = "", None
        self.progress: dict[str, tuple[float, int, str]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        random.seed(seed)

    @property
    def limited(self) -> bool:
        r"""Whether the run has less time than it may need."""
        return self.seconds is not None

    def pick(self, full: Any, smoke: Any) -> Any:
        r"""The paper's setting, or the tiny one."""
        return smoke if self.smoke else full

    def digits(self) -> data.Digits:
        r"""MNIST; a few images of whatever is at hand where it is only a trial.

        Raises:
            ValueError: if it is no trial, and MNIST is not at hand.
        """
        if self._digits is None:
            self._digits = data.digits(*self.pick((None, None), (500, 60)))
            self.source = self._digits.source
        if self.source != "mnist" and not self.smoke:
            raise ValueError(f"the published figures are about MNIST; this is: {self._digits.note}")
        return self._digits

    # ------------------------------------------------------------------------------------------ training

    def fit(
        self,
        model: nn.Module,
        x: Any,
        *,
        epochs: int,
        batch_size: int,
        lr: float,
        schedule: str | Callable[[float], float] = "constant",
        loss: Callable[..., Any] | None = None,
        optimizer: Callable[..., Optimizer] = adam,
        part: str = "training",
        until: float = 1.0,
    ) -> None:
        r"""``train.fit`` with a checkpoint and an end: an unfinished epoch does not count.

        Arguments:
            model, x, epochs, batch_size, lr, loss: as there.
            schedule: a name of ``record.SCHEDULES``, or a function of the share that is done.
            optimizer: called as ``optimizer(parameters, lr=lr)``.
            part: name of this training, where a run has several.
            until: the share of the run's training time that is gone when this training ends.
        """
        n_batches = -(-len(x[0] if isinstance(x, list) else x) // batch_size)
        pace = self._pace(until, epochs * n_batches, schedule)
        model.to(self.device)
        own = model.loss if loss is None else loss

        def timed(*batch: Tensor) -> Any:
            pace.tick()
            return own(*batch)

        def make(parameters: Any, lr: float) -> Optimizer:
            return pace.follow(optimizer(parameters, lr=lr))

        settings = {"lr": lr, "batch_size": batch_size, "checkpoint": self.checkpoint(part)}
        settings |= {"optimizer": make, "progress": False}
        before = train.fit(model, x, epochs=0, loss=own, **settings)  # what is done already
        pace.n_done = before.n_epochs * n_batches
        try:
            history = train.fit(model, x, epochs=epochs, loss=timed, **settings)
        except TimeIsUp:
            history = train.fit(model, x, epochs=0, loss=own, **settings)
        # Where no epoch was finished, the model holds what it has learned of the first.
        done = history.n_epochs or pace.n_done / n_batches
        self.spent += before.seconds + time.monotonic() - pace.start
        self._note(part, history, done, epochs, "epochs")

    def play(
        self,
        game: gan.Game,
        x: Any,
        *,
        n_steps: int,
        batch_size: int,
        schedule: str | Callable[[float], float] = "constant",
        part: str = "game",
        until: float = 1.0,
    ) -> None:
        r"""``gan.play`` with a checkpoint and an end; arguments as there and in :meth:`fit`."""
        pace = self._pace(until, n_steps, schedule)
        players = [*game.makers.values(), *game.judges.values()]
        for player in players:
            pace.follow(player.optimizer)

        def each(n: int, _: gan.Game) -> None:
            pace.n_done = n
            pace.tick()

        settings = {"batch_size": batch_size, "checkpoint": self.checkpoint(part)}
        settings |= {"progress": False, "window": self.pick(100, 2)}
        before = gan.play(game, x, n_steps=0, **settings)  # what is done already
        try:
            record = gan.play(game, x, n_steps=n_steps, each=each, **settings)
        except TimeIsUp:
            record = gan.play(game, x, n_steps=0, **settings)
        if record.stopped:
            raise FloatingPointError(record.stopped)
        self.spent += before.seconds + time.monotonic() - pace.start
        self._note(part, record, record.n_steps or pace.n_done, n_steps, "steps")

    def checkpoint(self, part: str) -> Path:
        r"""The file of a training's checkpoint."""
        return self.folder / f"{part.replace(' ', '-')}.pt"

    def _pace(self, until: float, n_updates: int, schedule: str | Callable) -> Pace:
        share = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
        end = math.inf if self.seconds is None else self.start + until * TRAINING * self.seconds
        return Pace(end, n_updates, share)

    def _note(self, part: str, record: Record, done: float, total: int, unit: str) -> None:
        self.progress[part] = min(done, total), total, unit
        if record.interrupted:
            raise KeyboardInterrupt

    # ----------------------------------------------------------------------------------------- measuring

    def test(self, *data: Tensor, size: int) -> Iterator[list[Tensor]]:
        r"""Batches of test data in random order, on the device: all of them, or as many as there is time for."""
        order = random.permutation(len(data[0]), generator=random.generator(self.seed))
        self.n_test, self.n_test_of = 0, len(order)
        for rows in order.split(size):
            start = time.monotonic()
            yield [t[rows].to(self.device) for t in data]
            self.n_test += len(rows)
            if 2 * time.monotonic() - start >= self.end:  # the next one would come too late
                return

    def affordable(self, work: Callable[[int], Any], n: int) -> int:
        r"""The largest number up to n for which ``work(number)`` fits into the time left, by a trial with n / 100."""
        if not self.limited:
            return n
        work(2)  # a device's first call takes longer
        few, start = max(2, n // 100), time.monotonic()
        work(few)
        each = (time.monotonic() - start) / few
        return max(few, min(n, int(0.8 * (self.end - time.monotonic()) / each)))

    def how_far(self) -> str:
        r"""``"12 of 100 epochs"``, of the last training that is not finished, or else of the last."""
        unfinished = [(d, n, unit) for d, n, unit in self.progress.values() if d < n]
        done, total, unit = (unfinished or list(self.progress.values()))[-1]
        return (
            f"{done:,.3g} of {total:,} {unit}" if done < 10 else f"{done:,.0f} of {total:,} {unit}"
        )


class Run:
    r"""A model of a paper, trained and measured as there; ``figures`` of :data:`lectool.published.PUBLISHED` say what.

    Attributes:
        name: on the command line, of the files, and of what was published.
        alt: what there is to see in the picture.
        weight: its share of the time, where several runs have one.
    """

    name: str
    alt: str
    weight: float = 1.0

    @property
    def paper(self) -> Published:
        r"""What was published."""
        return PUBLISHED[self.name]

    def build(self, s: Session) -> Any:
        r"""What is to be trained."""
        raise NotImplementedError

    def train(self, s: Session, model: Any) -> Any:
        r"""Trains it, by ``s.fit`` and ``s.play``; returns what is measured."""
        raise NotImplementedError

    def measure(self, s: Session, model: Any) -> dict[str, float]:
        r"""A number for each metric that was published."""
        raise NotImplementedError

    def picture(self, s: Session, model: Any) -> Any:
        r"""Images in [0, 1], shape (n, 784), ten in a row, or a figure of matplotlib."""
        raise NotImplementedError


def set_precision(quick: bool) -> None:
    r"""Lets a GPU compute products and convolutions in TF32, with 10 bits in place of 23, or forbids it."""
    torch.set_float32_matmul_precision("high" if quick else "highest")
    torch.backends.cudnn.allow_tf32 = quick


def perform(run: Run, session: Session, out: Path) -> dict[str, Any]:
    r"""Trains, in TF32 where the GPU has it, measures in full precision, and keeps record and picture in a folder.

    A record of a run that came to its end is not replaced by one that did not.

    Returns:
        the record.
    """
    set_precision(quick=True)
    try:
        model = run.train(session, run.build(session))
    finally:
        set_precision(quick=False)
    start = time.monotonic()
    with torch.no_grad():
        found = run.measure(session, model)
        picture = run.picture(session, model)
    values = [
        {"metric": metric, "value": found[metric], "published": number, "source": run.paper.source}
        for metric, number in run.paper.figures.items()
    ]
    done = all(n >= total for n, total, _ in session.progress.values())
    record = {
        "name": run.name,
        "chapter": run.paper.chapter,
        "scale": session.pick("full", "smoke"),
        "values": values,
        "finished": done,
        "progress": session.how_far(),
        "n_test": session.n_test,
        "n_test_of": session.n_test_of,
        "data": session.source,
        "seed": random.shifted(session.seed),
        "seconds": round(session.spent + time.monotonic() - start, 1),
        **results.circumstances(),
        "alt": run.alt,
    }
    kept = results.load(run.name, out)
    if done or kept is None or not kept["finished"]:
        save_picture(picture, out / f"{run.name}.png")
        results.write(run.name, record, out)
    return record
