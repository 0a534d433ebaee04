r"""Several processes that train one model, each on its share of every batch: what ``torchrun`` starts.

PyTorch's DistributedDataParallel averages the gradients, and each process takes the rows that PyTorch's
DistributedSampler would hand it. What is added here makes the result that of one process, up to rounding: random
numbers are drawn for the whole batch, alike in all processes, and each takes its rows of them.

In one process, which is the rule, nothing here does anything.
"""

import atexit
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = [
    "agree",
    "agree_at_first",
    "check_batch",
    "from_first",
    "is_first",
    "join",
    "mean",
    "own",
    "rank",
    "share",
    "size",
    "together",
    "watched",
]

T = TypeVar("T")


def launched() -> bool:
    r"""Whether torchrun started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def join() -> None:
    r"""Joins the processes that torchrun started, once; each is to use the GPU of its own number."""
    if not launched() or distributed.is_initialized():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    distributed.init_process_group()  # NCCL for tensors on GPUs, Gloo for those of CPUs
    atexit.register(_leave)


def _leave() -> None:
    # After a crash the others are not there to say goodbye to.
    if distributed.is_initialized() and not hasattr(sys, "last_value"):
        distributed.destroy_process_group()


def local_rank() -> int:
    r"""The number of this process on its machine; 0 where it is alone."""
    return int(os.environ.get("LOCAL_RANK", 0)) if launched() else 0


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rank() -> int:
    r"""The number of this process, from 0."""
    return distributed.get_rank() if _joined() else 0


def size() -> int:
    r"""How many processes train together."""
    return distributed.get_world_size() if _joined() else 1


def is_first() -> bool:
    r"""Whether this is the process that writes files and shows progress."""
    return rank() == 0


# ------------------------------------------------------------------------------------------------ shares

_sharing = False


def check_batch(batch_size: int) -> None:
    r"""A batch must fall into equal shares, so that the mean of their gradients is that of the whole.

    Raises:
        ValueError: if it does not.
    """
    if batch_size % size():
        raise ValueError(
            f"batch_size is {batch_size}; expected a multiple of {size()}, the number of processes"
        )


@contextmanager
def share(n: int) -> Iterator[slice]:
    r"""The rows of a batch of n that are this process's; within, :func:`own` draws for these rows.

    A batch that does not fall into equal shares, as the last one of an epoch may not, is everybody's: all processes
    then do the same.
    """
    global _sharing
    before, _sharing = _sharing, size() > 1 and n % size() == 0
    try:
        yield slice(rank(), None, size()) if _sharing else slice(None)
    finally:
        _sharing = before


def own(draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
    r"""Random numbers of a shape: within :func:`share`, this process's rows of what all draw alike.

    Arguments:
        draw: from a shape to as many numbers.
        shape: of the result; its first axis is taken for the rows of the batch. Where it is not, the numbers are not
            those of one process, but still independent of the other processes'.
    """
    if not _sharing or not shape:
        return draw(shape)
    return draw((shape[0] * size(), *shape[1:]))[rank() :: size()].contiguous()


# ---------------------------------------------------------------------------------- what all have in common


class _Loss(nn.Module):
    r"""A loss as a module's forward pass, which is what DistributedDataParallel takes."""

    def __init__(self, model: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.loss = (loss,)  # a tuple, so that a loss that is a module is not registered

    def forward(self, *batch: Any) -> Any:
        return self.loss[0](*batch)


def together(model: nn.Module, loss: Callable[..., Any]) -> Callable[..., Any]:
    r"""The same loss; its backward pass leaves, in each parameter of the model, the mean gradient over all processes.

    On GPUs the model's batch normalizations turn into PyTorch's SyncBatchNorm, which take their statistics over all
    processes; on CPUs, for which PyTorch has none, each process normalizes by the statistics of its own rows.

    Arguments:
        model: the same in all processes; they start at the first one's weights.
        loss: of a batch; each call is followed by one backward pass.
    """
    if size() == 1:
        return loss
    if next(model.parameters()).device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    # A loss need not use all parameters. Buffers are not handed around before each call, as DDP would: a game's graph
    # may still need them; see `agree`.
    for message in (
        "find_unused_parameters=True was specified",
        ".*broadcast_buffers. is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)
    return DistributedDataParallel(
        _Loss(model, loss), broadcast_buffers=False, find_unused_parameters=True
    )


@torch.no_grad()
def agree(model: nn.Module, generator: torch.Generator | None = None) -> None:
    r"""All processes go on from the first one's weights, buffers and random numbers.

    Trained weights are equal already, but for those that a first batch has set (an activation normalization). Buffers
    and weights without gradient (running means, persistent chains, a codebook) are each process's own until here.

    Arguments:
        model: what they train; random numbers are those of its device and of the CPU.
        generator: another source of random numbers in use.
    """
    if size() == 1:
        return
    for tensor in (*model.parameters(), *model.buffers()):
        first = tensor.detach().contiguous()
        distributed.broadcast(first, 0)
        tensor.copy_(first)
    gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
    states = from_first(
        lambda: (
            torch.get_rng_state(),
            [torch.cuda.get_rng_state(gpu) for gpu in gpus],
            None if generator is None else generator.get_state(),
        )
    )
    torch.set_rng_state(states[0])
    for gpu, state in zip(gpus, states[1]):
        torch.cuda.set_rng_state(state, gpu)
    if generator is not None:
        generator.set_state(states[2])


def agree_at_first(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    r"""The processes agree now, and again after the first update: what the first batch has set by then differs."""
    agree(model)
    if size() > 1:
        handle = optimizer.register_step_post_hook(lambda *_: (handle.remove(), agree(model)))


def mean(values: dict[str, float], device: torch.device) -> dict[str, float]:
    r"""Means over all processes of named numbers; a device that the processes exchange tensors of."""
    if size() == 1 or not values:
        return values
    numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    distributed.all_reduce(numbers)
    return dict(zip(values, (numbers / size()).tolist()))


def from_first(make: Callable[[], T]) -> T:
    r"""What the first process makes or reads, for all; what it raises, all raise."""
    if size() == 1:
        return make()
    box: list[Any] = [None, None]
    if is_first():
        try:
            box[0] = make()
        except Exception as error:
            box[1] = error
    distributed.broadcast_object_list(box)
    if box[1] is not None:
        raise box[1]
    return box[0]


LOST = re.compile(r"gloo|nccl|connection (was )?(closed|reset)|broken pipe|timed out", re.I)


@contextmanager
def watched(checkpoint: Any) -> Iterator[None]:
    r"""Says in plain words that another process is gone.

    Raises:
        ConnectionError: in place of what PyTorch's communication raises then.
    """
    try:
        yield
    except RuntimeError as error:
        if size() == 1 or not LOST.search(str(error)):
            raise
        again = "anew" if checkpoint is None else f"from {checkpoint}"
        raise ConnectionError(
            f"process {rank()} of {size()} has lost another one, whose own message says why; the same command begins "
            f"{again}"
        ) from error
