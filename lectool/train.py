r"""The one gradient loop of the book."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lectool import check, parallel
from lectool.batches import Batch, Data, batches_of
from lectool.record import Record, Recorder, adam, not_finite, resume, save

__all__ = ["History", "device", "epoch", "fit"]

Loss = Callable[..., "Tensor | dict[str, Tensor]"]


def device() -> torch.device:
    r"""The best device at hand: CUDA, then Apple's MPS, then the CPU. Under torchrun the GPU of this process."""
    if torch.cuda.is_available():
        return (
            torch.device("cuda", parallel.local_rank())
            if parallel.launched()
            else torch.device("cuda")
        )
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


@dataclass
class History(Record):
    r"""What :func:`fit` leaves: means over each epoch's samples, and the number of epochs completed."""

    n_epochs: int = 0

    def __repr__(self) -> str:
        last = self.last()
        return f"History({self.n_epochs} epochs{': ' if last else ''}{last})"


def epoch(loss: Loss, batches: Iterable[Batch], opt: Optimizer, book: Recorder) -> None:
    r"""One pass through the data: for each batch the loss, its gradient, an update.

    Arguments:
        loss: called with a batch of each tensor.
        batches: how many samples, and these: a part of each tensor.
        opt: moves the parameters.
        book: sets the step size and keeps the means.
    """
    for n, batch in batches:
        book.pace()
        terms = named(loss(*batch))
        opt.zero_grad()
        terms["loss"].backward()
        opt.step()
        book.add(terms, n)


def fit(
    model: nn.Module,
    x: Data,
    *,
    epochs: int = 10,
    steps: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    schedule: str = "constant",
    loss: Loss | None = None,
    optimizer: Callable[..., Optimizer] | None = None,
    validation: Data | None = None,
    callback: Callable[[int, nn.Module], None] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> History:
    r"""Trains any model that has a loss.

    The whole data set lies on the model's device as one tensor (or several of equal length, which are then all
    handed to the loss), batches are slices of a random permutation. Data that do not fit there are fetched batch
    by batch.

    Under ``torchrun`` the same line trains in several processes: each takes its share of every batch, PyTorch's
    DistributedDataParallel averages their gradients. The result is that of one process up to rounding, since random
    numbers of :mod:`lectool.random` are drawn for the whole batch. What differs: layers that draw by themselves
    (dropout) draw alike in all processes; on CPUs batch normalization takes its statistics over a process's own rows,
    on GPUs over all; running means, persistent chains and codebooks follow the first process. The last batch of an
    epoch, where it does not fall into equal shares, is computed whole by everybody.

    Arguments:
        model: its parameters are trained in place; in ``train()`` mode meanwhile. A part of it that has an
            attribute ``lr_factor`` is moved by that multiple of the step size.
        x: data, shape (n, …), tensors or NumPy arrays; moved to the model's device if need be. Arrays in a file
            (``np.memmap``, ``torch.from_file`` with ``shared=True``) stay there; of them only some rows are checked.
            Also a :class:`~torch.utils.data.Dataset` whose items are tensors or tuples of them, or a
            :class:`~torch.utils.data.DataLoader`, which keeps its own order and batch size.
        epochs: passes through the data, in all: a resumed run does the remaining ones.
        steps: updates in all, in place of ``epochs``: the same work for data sets of different size. The
            last epoch then ends early.
        batch_size: samples an update, in all processes together, of whose number it is a multiple; the last batch of an
            epoch may be smaller.
        lr: Adam's step size, at the start.
        schedule: ``"constant"``; ``"linear"`` or ``"cosine"`` for a decay to 0 at the last update; or
            ``"triangle"``, up from 0 during the first tenth and then down to 0, both linear.
        loss: called with a batch; returns a scalar, the mean over the batch, or a dict of named scalars of which
            ``"loss"`` is the one that is descended; ``model.loss`` where ``None``.
        optimizer: called as ``optimizer(parameters, lr=lr)``; fused Adam where ``None``.
        validation: data whose terms are recorded after each epoch under ``"validation …"``.
        callback: called with the epoch's number (from 1) and the model after each epoch, in ``eval()`` mode
            without gradients; in every process, of which ``parallel.is_first()`` names the one that writes.
        checkpoint: a file that is written after each epoch and, where it exists, continued from.
        progress: whether to show a bar; where ``None``, only if somebody watches.

    Returns:
        the history; in a script also after Ctrl-C, with ``interrupted`` set.

    Raises:
        Stopped: in a notebook, after Ctrl-C; its ``record`` is the history.
        ValueError: if the data are empty, differ in length or hold a NaN, if a setting is out of range, or
            if the checkpoint belongs to another model.
        FloatingPointError: if a term is not finite after an epoch; the message names model, epoch and term.
        ConnectionError: if another process is gone.
    """
    check.at_least(0, epochs=epochs, steps=0 if steps is None else steps)
    check.at_least(1, batch_size=batch_size)
    check.positive(lr=lr)
    groups = parameter_groups(model, lr)
    parallel.join()
    parallel.check_batch(batch_size)
    name, where = type(model).__name__, next(model.parameters()).device
    data = batches_of(x, where)
    held_out = None if validation is None else batches_of(validation, where, "validation")
    loss = loss or model.loss
    opt, history = (optimizer or adam)(groups, lr=lr), History()
    if checkpoint is not None and (saved := resume(Path(checkpoint), name, model, [opt])):
        history = History(**saved)
    n_batches = data.count(batch_size)
    n_updates = epochs * n_batches if steps is None else steps
    epochs = math.ceil(n_updates / n_batches)
    book = Recorder(
        history,
        [opt],
        schedule=schedule,
        n_updates=n_updates,
        n_done=history.n_epochs * n_batches,
        name=name,
        unit="epoch",
        total=epochs,
        done=history.n_epochs,
        progress=progress,
    )
    try:
        with book, parallel.watched(checkpoint):
            descended = parallel.together(model, loss)
            parallel.agree_at_first(model, opt)
            while history.n_epochs < epochs:
                model.train()
                left = n_updates - history.n_epochs * n_batches
                epoch(descended, data.shuffled(batch_size, left, history.n_epochs), opt, book)
                parallel.agree(model)
                means, _ = parallel.mean(book.means(), where), model.eval()
                with torch.no_grad():
                    if held_out is not None:
                        means |= validated(loss, held_out.ordered(batch_size))
                    for term in not_finite(means):
                        raise FloatingPointError(
                            f"{name}: the term {term!r} is {means[term]} in epoch {history.n_epochs + 1}; try a "
                            f"smaller lr than {lr:g}, or look for a log or a division of 0 in it"
                        )
                    history.n_epochs += 1
                    book.note(means)
                    if callback is not None:
                        callback(history.n_epochs, model)
                if checkpoint is not None:
                    save(Path(checkpoint), name, model, [opt], history)
    finally:
        model.eval()
    return history


def validated(loss: Loss, batches: Iterable[Batch]) -> dict[str, float]:
    r"""Means of the terms over the samples of all batches, under ``"validation …"``."""
    sums: dict[str, float] = {}
    weight = 0
    for n, batch in batches:
        for name, term in named(loss(*batch)).items():
            sums[name] = sums.get(name, 0.0) + n * term.item()
        weight += n
    return {f"validation {name}": total / weight for name, total in sums.items()}


def parameter_groups(model: nn.Module, lr: float) -> list[Any]:
    r"""What an optimizer takes: the trainable parameters, in groups where a part asks for a step size of its own.

    A part does so by an attribute ``lr_factor``, which multiplies lr for its own parameters, not its parts'.

    Raises:
        ValueError: if there is nothing to train.
    """
    by_factor: dict[float, dict[nn.Parameter, None]] = {}
    for part in model.modules():
        own = by_factor.setdefault(getattr(part, "lr_factor", 1.0), {})
        own |= {p: None for p in part.parameters(recurse=False) if p.requires_grad}
    groups = [{"params": list(own), "lr": lr * factor} for factor, own in by_factor.items() if own]
    if not groups:
        raise ValueError(f"{type(model).__name__} has no parameter to train")
    return groups if len(groups) > 1 else groups[0]["params"]


def named(value: "Tensor | dict[str, Tensor]") -> dict[str, Tensor]:
    r"""The terms of a loss by name, ``"loss"`` among them.

    Raises:
        ValueError: if it is not.
    """
    terms = value if isinstance(value, dict) else {"loss": value}
    if "loss" not in terms:
        raise ValueError(
            f"the loss returned the terms {', '.join(terms)}; expected 'loss' among them"
        )
    return terms
