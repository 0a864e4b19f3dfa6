"""From position to example: the order names a sample, its members are read from the shards, a maker turns
them into tensors.

The maker is the task's part: `make(sample, rng) -> dict of tensors`. Its generator is seeded by (seed, epoch,
key), so neither workers nor ranks nor a restart change what a sample becomes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from shards.reader import Dataset
from shards.sample import Sample
from train.data.order import Order

Example = dict[str, Tensor]
Batch = dict[str, Any]
"""Stacked examples, plus "key": list[str], the keys of the samples in it."""

Maker = Callable[[Sample, np.random.Generator], Example]


@runtime_checkable
class Source(Protocol):
    """What the training loop needs of data."""

    batch: int
    """Samples of one step over all ranks."""
    accumulate: int
    """Micro-batches of one step on each rank."""

    def batches(self, start: int, stop: int, *, rank: int, world: int) -> Iterator[Batch]:
        """This rank's micro-batches of the steps [start, stop), `accumulate` of them for each step."""
        ...


class ShardExamples(TorchDataset[tuple[str, Example]]):
    """Map-style: global position -> (key, example)."""

    def __init__(self, data: Dataset, make: Maker, seed: int, members: Sequence[str] | None = None) -> None:
        """`members`: the extensions to read; None reads all of a sample."""
        self.data, self.make, self.seed = data, make, seed
        self.members = None if members is None else tuple(members)
        self.order = Order(len(data), seed)

    def __getitem__(self, position: int) -> tuple[str, Example]:
        epoch, index = self.order(position)
        sample = self.data[index] if self.members is None else self.data.read(index, members=self.members)
        return sample.key, self.make(sample, sample_generator(self.seed, epoch, sample.key))


def sample_generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The random generator of one sample in one epoch."""
    return np.random.default_rng([seed, epoch, *key.encode()])


class ShardSource:
    """Batches of `ShardExamples` from any step on; implements `Source`."""

    def __init__(self, examples: ShardExamples, batch: int, *, accumulate: int = 1, workers: int = 0) -> None:
        """`batch`: samples of one step over all ranks; it must divide by ranks x `accumulate`."""
        self.examples, self.batch, self.accumulate, self.workers = examples, batch, accumulate, workers

    def batches(self, start: int, stop: int, *, rank: int, world: int) -> Iterator[Batch]:
        positions = step_positions(start, stop, self.batch, self.accumulate, rank, world)
        loader = DataLoader(
            self.examples,
            batch_sampler=_Lists(positions),
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )
        yield from loader


def step_positions(
    start: int, stop: int, batch: int, accumulate: int, rank: int, world: int
) -> Iterator[list[int]]:
    """Positions of each micro-batch of one rank. Step s covers [s * batch, (s + 1) * batch), whatever the
    number of ranks.
    """
    share, rest = divmod(batch, accumulate * world)
    if rest:
        raise ValueError(f"batch {batch} must be a multiple of {accumulate} accumulated x {world} ranks")
    for step in range(start, stop):
        for part in range(accumulate):
            first = step * batch + (rank * accumulate + part) * share
            yield list(range(first, first + share))


def collate(items: Sequence[tuple[str, Example]]) -> Batch:
    """Stack each tensor of the examples along a new first axis."""
    batch: Batch = {name: torch.stack([example[name] for _, example in items]) for name in items[0][1]}
    return {**batch, "key": [key for key, _ in items]}


class _Lists(torch.utils.data.Sampler[list[int]]):
    """A batch sampler over a given iterator; made anew for every loader."""

    def __init__(self, lists: Iterator[list[int]]) -> None:
        self.lists = lists

    def __iter__(self) -> Iterator[list[int]]:
        return self.lists
