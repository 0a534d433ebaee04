r"""The one gradient loop of the book."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lectool import check
from lectool.record import Record, Recorder, adam, not_finite

__all__ = ["History", "device", "epoch", "fit"]

Loss = Callable[..., "Tensor | dict[str, Tensor]"]


def device() -> torch.device:
    r"""The best device at hand: CUDA, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
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


def epoch(
    loss: Loss,
    data: Sequence[Tensor],
    order: Tensor,
    batch_size: int,
    opt: Optimizer,
    book: Recorder,
) -> None:
    r"""One pass through the data: for each batch the loss, its gradient, an update.

    Arguments:
        loss: called with a batch of each tensor.
        data: tensors of equal length.
        order: the rows in the order in which they are used, such as ``torch.randperm(n)``.
        batch_size: rows an update.
        opt: moves the parameters.
        book: sets the step size and keeps the means.
    """
    for rows in order.split(batch_size):
        book.pace()
        terms = named(loss(*[t[rows] for t in data]))
        opt.zero_grad()
        terms["loss"].backward()
        opt.step()
        book.add(terms, len(rows))


def fit(
    model: nn.Module,
    x: Tensor | Sequence[Tensor],
    *,
    epochs: int = 10,
    steps: int | None = None,
    batch_size: int = 128,
    lr: float = 1e-3,
    schedule: str = "constant",
    loss: Loss | None = None,
    optimizer: Callable[..., Optimizer] | None = None,
    validation: Tensor | Sequence[Tensor] | None = None,
    callback: Callable[[int, nn.Module], None] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> History:
    r"""Trains any model that has a loss.

    The whole data set lies on the model's device as one tensor (or several of equal length, which are
    then all handed to the loss), batches are slices of a random permutation.

    Arguments:
        model: its parameters are trained in place; in ``train()`` mode meanwhile. A part of it that has an
            attribute ``lr_factor`` is moved by that multiple of the step size.
        x: data, shape (n, …); moved to the model's device if need be.
        epochs: passes through the data, in all: a resumed run does the remaining ones.
        steps: updates in all, in place of ``epochs``: the same work for data sets of different size. The
            last epoch then ends early.
        batch_size: samples an update; the last batch of an epoch may be smaller.
        lr: Adam's step size, at the start.
        schedule: ``"constant"``; ``"linear"`` or ``"cosine"`` for a decay to 0 at the last update; or
            ``"triangle"``, up from 0 during the first tenth and then down to 0, both linear.
        loss: called with a batch; returns a scalar, or a dict of named scalars of which ``"loss"`` is
            the one that is descended; ``model.loss`` where ``None``.
        optimizer: called as ``optimizer(parameters, lr=lr)``; fused Adam where ``None``.
        validation: data whose terms are recorded after each epoch under ``"validation …"``.
        callback: called with the epoch's number (from 1) and the model after each epoch, in ``eval()`` mode
            without gradients.
        checkpoint: a file that is written after each epoch and, where it exists, continued from.
        progress: whether to show a bar; where ``None``, only if somebody watches.

    Returns:
        the history; in a script also after Ctrl-C, with ``interrupted`` set.

    Raises:
        Stopped: in a notebook, after Ctrl-C; its ``record`` is the history.
        ValueError: if the data are empty, differ in length or hold a NaN, if a setting is out of range, or
            if the checkpoint belongs to another model.
        FloatingPointError: if a term is not finite after an epoch; the message names model, epoch and term.
    """
    check.at_least(0, epochs=epochs, steps=0 if steps is None else steps)
    check.at_least(1, batch_size=batch_size)
    check.positive(lr=lr)
    groups = parameter_groups(model, lr)
    where = next(model.parameters()).device
    data = on_device(x, where, "x")
    held_out = None if validation is None else on_device(validation, where, "validation")
    loss = loss or model.loss
    opt, history = (optimizer or adam)(groups, lr=lr), History()
    if checkpoint is not None and Path(checkpoint).exists():
        history = _resume(Path(checkpoint), model, opt)
    n = len(data[0])
    n_batches = math.ceil(n / batch_size)
    n_updates = epochs * n_batches if steps is None else steps
    epochs = math.ceil(n_updates / n_batches)
    book = Recorder(
        history,
        [opt],
        schedule=schedule,
        n_updates=n_updates,
        n_done=history.n_epochs * n_batches,
        name=type(model).__name__,
        unit="epoch",
        total=epochs,
        done=history.n_epochs,
        progress=progress,
    )
    try:
        with book:
            while history.n_epochs < epochs:
                model.train()
                left = n_updates - history.n_epochs * n_batches
                order = torch.randperm(n, device=where)[: left * batch_size]
                epoch(loss, data, order, batch_size, opt, book)
                means, _ = book.means(), model.eval()
                with torch.no_grad():
                    terms = {} if held_out is None else named(loss(*held_out))
                    means |= {f"validation {name}": term.item() for name, term in terms.items()}
                    for name in not_finite(means):
                        raise FloatingPointError(
                            f"{type(model).__name__}: the term {name!r} is {means[name]} in epoch "
                            f"{history.n_epochs + 1}; try a smaller lr than {lr:g}, or look for a log or a division "
                            "of 0 in it"
                        )
                    history.n_epochs += 1
                    book.note(means)
                    if callback is not None:
                        callback(history.n_epochs, model)
                if checkpoint is not None:
                    _save(Path(checkpoint), model, opt, history)
    finally:
        model.eval()
    return history


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


def on_device(x: Tensor | Sequence[Tensor], where: torch.device, name: str) -> list[Tensor]:
    r"""One or several tensors of equal length, checked and moved."""
    tensors = [x] if isinstance(x, Tensor) else list(x)
    if not all(isinstance(t, Tensor) for t in tensors):
        raise ValueError(
            f"{name} is {type(x).__name__}; expected a tensor or a sequence of tensors"
        )
    lengths = {len(t) for t in tensors}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"{name} has {[tuple(t.shape) for t in tensors]}; expected equal lengths of at least 1"
        )
    for t in tensors:
        if t.is_floating_point():
            check.data(t, name, n_dims=t.ndim)
    return [t.to(where) for t in tensors]


def _save(path: Path, model: nn.Module, opt: Optimizer, history: History) -> None:
    state = {
        "name": type(model).__name__,
        "model": model.state_dict(),
        "optimizer": opt.state_dict(),
        "history": asdict(history),
        "rng": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    temporary = path.with_name(path.name + ".part")
    try:
        torch.save(state, temporary)
        os.replace(temporary, path)  # in one step: whoever reads finds the old file or the new one
    finally:
        temporary.unlink(missing_ok=True)


def _resume(path: Path, model: nn.Module, opt: Optimizer) -> History:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        name, weights, *_ = (
            state[key] for key in ("name", "model", "optimizer", "history", "rng", "cuda")
        )
    except Exception as error:
        raise ValueError(
            f"{path}: no checkpoint of lectool, or a damaged one ({type(error).__name__})"
        ) from error
    own = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    saved = {key: tuple(value.shape) for key, value in weights.items()}
    if name != type(model).__name__ or own != saved:
        differing = next((k for k in {**own, **saved} if own.get(k) != saved.get(k)), "its class")
        raise ValueError(
            f"{path}: a checkpoint of another model, {name} against {type(model).__name__}; they differ in "
            f"{differing}: {saved.get(differing)} against {own.get(differing)}"
        )
    model.load_state_dict(weights)
    sizes = [group["lr"] for group in opt.param_groups]
    opt.load_state_dict(state["optimizer"])
    for group, lr in zip(opt.param_groups, sizes, strict=True):
        group["lr"] = lr  # of this call, from which the schedule goes on
    torch.set_rng_state(state["rng"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return History(**state["history"])
