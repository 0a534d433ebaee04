r"""Data as batches, wherever they lie: in memory, in a file that is mapped into memory, or behind a data loader."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset

from lectool import check, parallel, random

__all__ = ["Data", "Items", "Loaded", "Rows", "batches_of"]

Batch = tuple[int, list[Tensor]]  # how many samples in all processes, and this process's
Data = Tensor | np.ndarray | Sequence[Tensor | np.ndarray] | Dataset | DataLoader

LOOK = 1000  # rows of a file that are looked at before training


class Rows:
    r"""Rows of tensors of equal length. What is in memory lies on the model's device; a file stays where it is.

    Arguments:
        tensors: at least one.
        where: the model's device.
        mapped: whether they lie in a file, from which each batch is fetched.
    """

    def __init__(self, tensors: Sequence[Tensor], where: torch.device, mapped: bool) -> None:
        self.tensors = tensors if mapped else [t.to(where) for t in tensors]
        self.n, self.where, self.mapped = len(tensors[0]), where, mapped

    def count(self, batch_size: int) -> int:
        r"""Batches an epoch."""
        return math.ceil(self.n / batch_size)

    def shuffled(self, batch_size: int, at_most: int, epoch: int = 0) -> Iterator[Batch]:
        r"""The batches of an epoch, slices of a random permutation, of which the last may be smaller."""
        order = random.permutation(self.n, self.where)
        order = order.cpu() if self.mapped else order
        return self._slices(order.split(batch_size)[:at_most])

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        r"""All rows, whole for every process: in one batch where they are in memory."""
        if not self.mapped:
            return iter([(self.n, self.tensors)])
        return ((len(r), self._batch(r)) for r in torch.arange(self.n).split(batch_size))

    def _slices(self, slices: Sequence[Tensor]) -> Iterator[Batch]:
        for rows in slices:
            with parallel.share(len(rows)) as own:
                yield len(rows), self._batch(rows[own])

    def _batch(self, rows: Tensor) -> list[Tensor]:
        if not self.mapped:
            return [t[rows] for t in self.tensors]
        return [_moved(t[rows], self.where) for t in self.tensors]


class Items:
    r"""A data set of PyTorch's that has a length and items; batches as those of :class:`Rows`, to the bit."""

    def __init__(self, dataset: Dataset, where: torch.device) -> None:
        self.dataset, self.n, self.where = dataset, len(dataset), where

    def count(self, batch_size: int) -> int:
        return math.ceil(self.n / batch_size)

    def shuffled(self, batch_size: int, at_most: int, epoch: int = 0) -> Iterator[Batch]:
        order = random.permutation(self.n, self.where).cpu()
        return self._loaded(order.split(batch_size)[:at_most], shared=True)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        return self._loaded(torch.arange(self.n).split(batch_size), shared=False)

    def _loaded(self, slices: Sequence[Tensor], shared: bool) -> Iterator[Batch]:
        own = []
        for rows in slices:
            with parallel.share(len(rows)) as part:
                own.append(rows[part if shared else slice(None)].tolist())
        # A generator of its own: the loader draws a seed, which would move the global one.
        loader = DataLoader(self.dataset, batch_sampler=own, generator=torch.Generator())
        for rows, batch in zip(slices, loader):
            with parallel.share(len(rows) if shared else 1):
                yield len(rows), _tensors(batch, self.where)


class Loaded:
    r"""A loader that makes its batches itself, in its own order and size.

    Raises:
        ValueError: if several processes would all be given the same batches.
    """

    def __init__(self, loader: DataLoader, where: torch.device) -> None:
        self.loader, self.where = loader, where
        if parallel.size() > 1 and not isinstance(loader.sampler, DistributedSampler):
            raise ValueError(
                f"{parallel.size()} processes would be given the same batches; expected a loader with "
                "sampler=DistributedSampler(dataset), or the data set itself"
            )

    def count(self, batch_size: int) -> int:
        return len(self.loader)

    def shuffled(self, batch_size: int, at_most: int, epoch: int = 0) -> Iterator[Batch]:
        if isinstance(self.loader.sampler, DistributedSampler):
            self.loader.sampler.set_epoch(epoch)
        for batch in islice(self.loader, at_most):
            tensors = _tensors(batch, self.where)
            n = parallel.size() * len(tensors[0])
            with parallel.share(n):
                yield n, tensors

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        for batch in self.loader:
            tensors = _tensors(batch, self.where)
            yield len(tensors[0]), tensors


def batches_of(x: Data, where: torch.device, name: str = "x") -> Rows | Items | Loaded:
    r"""Where a model's batches come from.

    Arguments:
        x: a tensor or NumPy array, or several of equal length; those that lie in a file (``np.memmap``,
            ``torch.from_file(…, shared=True)``), or are larger than the free memory of a GPU, are left there. Or a
            :class:`~torch.utils.data.Dataset` with a length, or a :class:`~torch.utils.data.DataLoader`.
        where: the model's device.
        name: what to call them in messages.

    Raises:
        ValueError: if the data are none of these, are empty, differ in length or hold a NaN; of a file only some rows
            are looked at beforehand.
    """
    if isinstance(x, TensorDataset):
        x = x.tensors
    if isinstance(x, DataLoader | Dataset):
        _check_length(x, name)
        return Loaded(x, where) if isinstance(x, DataLoader) else Items(x, where)
    parts = [x] if isinstance(x, Tensor | np.ndarray) else list(x)
    if not all(isinstance(t, Tensor | np.ndarray) for t in parts):
        raise ValueError(
            f"{name} is {type(x).__name__}; expected a tensor, a sequence of tensors, a Dataset or a DataLoader"
        )
    lengths = {len(t) for t in parts}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"{name} has {[tuple(t.shape) for t in parts]}; expected equal lengths of at least 1"
        )
    mapped = any(_in_file(t) for t in parts) or not _fits(parts, where)
    tensors = [_tensor(t) for t in parts]
    for t in tensors:
        if t.is_floating_point():
            look = t[:: max(1, len(t) // LOOK)] if mapped else t
            check.data(look, name, n_dims=t.ndim)
    return Rows(tensors, where, mapped)


def _check_length(x: Any, name: str) -> None:
    n = None
    if not isinstance(x, IterableDataset):  # whose items have no number
        with suppress(TypeError, NotImplementedError):
            n = len(x)
    if not n:
        given = "has no length" if n is None else "is empty"
        raise ValueError(f"{name} is a {type(x).__name__} that {given}; expected at least 1")


def _in_file(t: Tensor | np.ndarray) -> bool:
    if isinstance(t, Tensor):
        return t.device.type == "cpu" and t.untyped_storage().filename is not None
    while t is not None and not isinstance(t, np.memmap):
        t = getattr(t, "base", None)  # a view of a file is a file
    return t is not None


def _fits(parts: Sequence[Tensor | np.ndarray], where: torch.device) -> bool:
    r"""Whether the data leave half of a GPU's free memory to the model."""
    if where.type != "cuda":
        return True
    n_bytes = sum(t.nbytes for t in parts if not (isinstance(t, Tensor) and t.device == where))
    return n_bytes < torch.cuda.mem_get_info(where)[0] / 2


def _tensor(t: Tensor | np.ndarray) -> Tensor:
    with warnings.catch_warnings():  # training does not write
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return t if isinstance(t, Tensor) else torch.from_numpy(t)


def _tensors(batch: Any, where: torch.device) -> list[Tensor]:
    parts = [batch] if isinstance(batch, Tensor) else batch
    if not isinstance(parts, list | tuple) or not all(isinstance(t, Tensor) for t in parts):
        raise ValueError(
            f"a batch is {type(batch).__name__}; expected a tensor or a sequence of tensors"
        )
    return [_moved(t, where) for t in parts]


def _moved(t: Tensor, where: torch.device) -> Tensor:
    r"""On its way to a GPU a batch goes by memory that the CPU does not swap, so that nobody waits for it."""
    if where.type == "cuda" and t.device.type == "cpu":
        return (t if t.is_pinned() else t.pin_memory()).to(where, non_blocking=True)
    return t.to(where)
