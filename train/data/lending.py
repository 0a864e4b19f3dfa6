"""Shared memory that is lent with a batch and used again: a loader process writes its next batches where
batches lay that its parent has dropped.

Fresh shared memory costs more than all copies of a batch: a page fault for every 4 KiB, and almost as much
again to give it back (measured: 2 to 3 ms for a picture of 3 MiB, a third of decoding it).
"""

import os
from collections.abc import Iterable
from multiprocessing import Pipe
from typing import Any

import numpy as np
import torch
from torch import Tensor

Tensors = dict[str, Tensor]


class Free:
    """The numbers of a loader process's slots that may be written again, from parent to loader process.

    A pipe without a lock: a number is put when memory is freed, and that may happen anywhere.
    """

    def __init__(self) -> None:
        self._reader, self._writer = Pipe(duplex=False)

    def put(self, number: int) -> None:
        self._writer.send_bytes(number.to_bytes(8, "little"))  # a single write, which is atomic

    def take(self) -> int | None:
        """A free slot, if there is one."""
        return int.from_bytes(self._reader.recv_bytes(), "little") if self._reader.poll() else None


class Slots:
    """A loader process's side: its slots, each the tensors of one batch in shared memory."""

    def __init__(self, free: Free) -> None:
        self._free = free
        self._slots: list[Tensors] = []

    def stack(self, examples: Iterable[Tensors], rows: int) -> tuple[int, Tensors | None]:
        """Stack `rows` examples in a free slot: (its number, its tensors if it is new)."""
        if (number := self._free.take()) is not None:
            stack(examples, rows, self._slots[number])
            return number, None
        tensors = stack(examples, rows, shared=True)  # the parent may hold any number of batches
        self._slots.append(tensors)
        return len(self._slots) - 1, tensors


def stack(
    examples: Iterable[Tensors], rows: int, out: Tensors | None = None, *, shared: bool = False
) -> Tensors:
    """Example i becomes row i of each tensor, as soon as it is there: it still lies in the processor's cache.

    `out`: where to; default, new memory, `shared` with other processes or not. All examples have one shape.
    """
    for row, example in enumerate(examples):
        if out is None:
            out = {name: part.new_empty((rows, *part.shape)) for name, part in example.items()}
            if shared:
                out = {name: tensor.share_memory_() for name, tensor in out.items()}  # type: ignore[no-untyped-call]
        for name, part in example.items():
            out[name][row].copy_(part)
    return out or {}


class Borrowed:
    """The parent's side for one loader process."""

    def __init__(self, free: Free) -> None:
        self._free = free
        self._slots: dict[int, Tensors] = {}

    def batch(self, number: int, new: Tensors | None) -> Tensors:
        """The tensors of a slot, lent: when none of them is left, nor anything that shares their memory, the
        slot goes back. Where there is a GPU: copies in page-locked memory instead.
        """
        if new is not None:
            self._slots[number] = new
        lease = _Lease(self._free, number)
        return {name: _lend(tensor, lease) for name, tensor in self._slots[number].items()}


class _Lease:
    """Gives the slot back when the last holder is gone."""

    def __init__(self, free: Free, number: int) -> None:
        self._free, self._number, self._owner = free, number, os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self._owner:  # not in a fork, which has copies of the parent's objects
            self._free.put(self._number)


class _Loan:
    """What numpy, and through it torch, holds on to for as long as the memory is in use."""

    def __init__(self, tensor: Tensor, lease: _Lease) -> None:
        self.tensor, self.lease = tensor, lease
        self.__array_interface__: dict[str, Any] = tensor.numpy().__array_interface__


def _lend(tensor: Tensor, lease: _Lease) -> Tensor:
    if torch.cuda.is_available():
        return tensor.pin_memory()
    return torch.from_numpy(np.asarray(_Loan(tensor, lease)))
