r"""The one gradient loop of the book, and what makes a run repeatable."""

import math
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

__all__ = ["History", "check_data", "device", "fit", "generator", "seed", "shifted"]

Loss = Callable[..., "Tensor | dict[str, Tensor]"]

SCHEDULES: dict[
    str, Callable[[float], float]
] = {  # share of the updates done → share of the step size
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "triangle": lambda done: min((done + 1e-3) / 0.1, (1 - done) / 0.9),
}


def device() -> torch.device:
    r"""The best device at hand: CUDA, then Apple's MPS, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def shifted(seed: int) -> int:
    r"""The seed plus ``LECTOOL_SEED``, by which ``make claims`` repeats the whole book at other seeds."""
    return seed + int(os.environ.get("LECTOOL_SEED") or 0)


def seed(seed: int = 0) -> None:
    r"""Fixes Python's, NumPy's and torch's random numbers: same seed, same machine, same figures.

    Also lets the CPU treat denormal numbers as zero: Adam's state is full of them in later epochs, where
    they cost a fifth of the time.
    """
    seed = shifted(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (libraries that still use it)
    torch.manual_seed(seed)
    torch.set_flush_denormal(True)


def generator(seed: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    r"""A source of random numbers of its own, for functions that take ``generator=``."""
    return torch.Generator(device).manual_seed(shifted(seed))


def check_data(
    x: Tensor,
    name: str = "x",
    *,
    n_dims: int = 2,
    width: int | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    r"""Early and plain errors for data that no model can learn from.

    Arguments:
        x: the data.
        name: what to call them in the message.
        n_dims: the number of axes expected.
        width: the size expected of all axes but the first, multiplied.
        low, high: the range that the values must keep to.

    Returns:
        ``x`` itself.

    Raises:
        ValueError: if ``x`` is no floating-point tensor, is empty, has another shape, holds a NaN or an
            infinity, or leaves the range; the message says what was given and what is expected.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name} is {kind}; expected a float32 or float64 tensor")
    if x.ndim != n_dims:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {n_dims} axes")
    if x.numel() == 0:
        raise ValueError(f"{name} is empty, shape {tuple(x.shape)}")
    if width is not None and x[0].numel() != width:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {width} numbers a sample")
    smallest, largest = (t.item() for t in torch.aminmax(x.detach()))
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        n_bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"{name} holds {n_bad} values that are NaN or infinite")
    if (low is not None and smallest < low) or (high is not None and largest > high):
        raise ValueError(
            f"{name} lies in [{smallest:.4g}, {largest:.4g}]; expected [{low}, {high}]"
        )
    return x


@dataclass
class History:
    r"""What a training run leaves.

    Attributes:
        terms: one list a named term, one number an epoch (mean over that epoch's samples).
        n_epochs: epochs completed.
        seconds: time spent in them.
        interrupted: whether Ctrl-C ended the run.
    """

    terms: dict[str, list[float]] = field(default_factory=dict)
    n_epochs: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def __getitem__(self, name: str) -> list[float]:
        return self.terms[name]

    def __repr__(self) -> str:
        last = ", ".join(
            f"{name} {values[-1]:.4g}" for name, values in self.terms.items() if values
        )
        return f"History({self.n_epochs} epochs{': ' if last else ''}{last})"


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
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    validation: Tensor | Sequence[Tensor] | None = None,
    callback: Callable[[int, nn.Module], None] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
) -> History:
    r"""Trains any model that has a loss.

    The whole data set lies on the model's device as one tensor (or several of equal length, which are
    then all handed to the loss), batches are slices of a random permutation.

    Arguments:
        model: its parameters are trained in place; in ``train()`` mode meanwhile.
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
        the history; also after Ctrl-C, with ``interrupted`` set.

    Raises:
        ValueError: if the data are empty, differ in length or hold a NaN, if a setting is out of range, or
            if the checkpoint belongs to another model.
        FloatingPointError: if a term is not finite after an epoch; the message names model, epoch and term.
    """
    if epochs < 0 or batch_size < 1 or not lr > 0:
        raise ValueError(
            f"epochs, batch_size, lr are {epochs}, {batch_size}, {lr}; expected ≥ 0, ≥ 1, > 0"
        )
    if steps is not None and steps < 0:
        raise ValueError(f"steps is {steps}; expected ≥ 0")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule is {schedule!r}; it can be one of {', '.join(SCHEDULES)}")
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(f"{type(model).__name__} has no parameter to train")
    where = parameters[0].device
    data, n = _on_device(x, where, "x")
    held_out, _ = (
        _on_device(validation, where, "validation") if validation is not None else (None, 0)
    )
    loss = loss or model.loss
    if optimizer is None:
        optimizer = _adam
    opt = optimizer(parameters, lr=lr)
    history = History()
    if checkpoint is not None and Path(checkpoint).exists():
        history = _resume(Path(checkpoint), model, opt)
    n_batches = math.ceil(n / batch_size)
    n_steps = epochs * n_batches if steps is None else steps
    epochs = math.ceil(n_steps / n_batches)
    bar = tqdm(
        total=epochs,
        initial=history.n_epochs,
        unit="epoch",
        desc=type(model).__name__,
        disable=not _shown(progress),
    )
    try:
        while history.n_epochs < epochs:
            start = time.perf_counter()
            model.train()
            sums: dict[str, Tensor] = {}
            first = history.n_epochs * n_batches
            n_now = min(n_batches, n_steps - first)
            order = torch.randperm(n, device=where)[: n_now * batch_size]
            for i, rows in enumerate(order.split(batch_size)):
                for group in opt.param_groups:
                    group["lr"] = lr * SCHEDULES[schedule]((first + i) / n_steps)
                terms = _terms(loss(*[t[rows] for t in data]))
                for p in parameters:
                    p.grad = None  # what zero_grad does, without its bookkeeping
                terms["loss"].backward()
                opt.step()
                for (
                    name,
                    term,
                ) in terms.items():  # stays on the device: one transfer an epoch, not one a step
                    weighted = term.detach() * len(rows)
                    sums[name] = sums[name] + weighted if name in sums else weighted
            means = {name: (total / len(order)).item() for name, total in sums.items()}
            model.eval()
            if held_out is not None:
                with torch.no_grad():
                    means |= {
                        f"validation {k}": v.item() for k, v in _terms(loss(*held_out)).items()
                    }
            for name, mean in means.items():
                if not math.isfinite(mean):
                    raise FloatingPointError(
                        f"{type(model).__name__}: the term {name!r} is {mean} in epoch {history.n_epochs + 1}; "
                        f"try a smaller lr than {lr:g}, or look for a log or a division of 0 in it"
                    )
                history.terms.setdefault(name, []).append(mean)
            history.n_epochs += 1
            history.seconds += time.perf_counter() - start
            if callback is not None:
                with torch.no_grad():
                    callback(history.n_epochs, model)
            if checkpoint is not None:
                _save(Path(checkpoint), model, opt, history)
            bar.set_postfix({name: f"{mean:.4g}" for name, mean in means.items()}, refresh=False)
            bar.update()
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        bar.close()
        model.eval()
    return history


def _adam(parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, fused=parameters[0].device.type in ("cpu", "cuda"))


def _terms(value: "Tensor | dict[str, Tensor]") -> dict[str, Tensor]:
    terms = value if isinstance(value, dict) else {"loss": value}
    if "loss" not in terms:
        raise ValueError(
            f"the loss returned the terms {', '.join(terms)}; expected 'loss' among them"
        )
    return terms


def _on_device(
    x: Tensor | Sequence[Tensor], where: torch.device, name: str
) -> tuple[list[Tensor], int]:
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
            check_data(t, name, n_dims=t.ndim)
    return [t.to(where) for t in tensors], lengths.pop()


def _shown(progress: bool | None) -> bool:
    if progress is not None:
        return progress
    from lectool.explore import is_live

    return is_live()


def _save(path: Path, model: nn.Module, opt: torch.optim.Optimizer, history: History) -> None:
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


def _resume(path: Path, model: nn.Module, opt: torch.optim.Optimizer) -> History:
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
    opt.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    if torch.cuda.is_available() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return History(**state["history"])
