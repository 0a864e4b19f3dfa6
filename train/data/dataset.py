"""From position to example: the order names a sample, its members are read from the shards, a maker turns
them into tensors.

The maker is the task's part: `make(sample, rng) -> dict of tensors`. Its generator is seeded by (seed, epoch,
key), so neither workers nor ranks nor a restart change what a sample becomes. Since the order is known, each
loader process may fetch the samples it will need next while it makes examples of those it has.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, starmap
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from shards.errors import UsageError
from shards.parallel import in_order
from shards.reader import Dataset
from shards.sample import Sample
from train.data.lending import Borrowed, Free, Slots, stack
from train.data.order import Mixture, Order, Place, SampleOrder
from train.engine.stop import outlive_sigterm

Example = dict[str, Tensor]
Batch = dict[str, Any]
"""Stacked examples, plus "key": list[str], the keys of the samples in it."""

Maker = Callable[[Sample, np.random.Generator], Example]
_Message = tuple[list[str], int, int, Example | None]
"""Keys, number of the loader process, slot, and the slot's tensors if it is new."""


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


class Examples(TorchDataset[tuple[str, Example]]):
    """Map-style: global position -> (key, example), in three parts, of which only `fetch` waits for the
    store.
    """

    def __getitem__(self, position: int) -> tuple[str, Example]:
        place = self.locate(position)
        return self.example(place, self.fetch(place))

    def locate(self, position: int) -> Place:
        """Which sample stands at a position, in which epoch."""
        raise NotImplementedError

    def fetch(self, place: Place) -> Any:
        """What the store holds of the sample. Several threads may fetch at once."""
        raise NotImplementedError

    def example(self, place: Place, sample: Any) -> tuple[str, Example]:
        """(key, example), a function of (seed, epoch, key, what was fetched)."""
        raise NotImplementedError


class ShardExamples(Examples):
    """Examples of one dataset."""

    def __init__(
        self,
        data: Dataset,
        make: Maker,
        seed: int,
        members: Sequence[str] | None = None,
        order: SampleOrder | None = None,
    ) -> None:
        """`members`: the extensions to read; None reads all of a sample. `order`: default, a permutation of
        all samples for each epoch.
        """
        self.data, self.make, self.seed = data, make, seed
        self.members = None if members is None else tuple(members)
        self.order = order or Order(len(data), seed)

    def locate(self, position: int) -> Place:
        return Place(0, *self.order(position))

    def fetch(self, place: Place) -> Sample:
        return self.data.read(place.sample, members=self.members)

    def example(self, place: Place, sample: Sample) -> tuple[str, Example]:
        return sample.key, self.make(sample, sample_generator(self.seed, place.epoch, sample.key))


class MixedExamples(Examples):
    """Examples of several datasets, in the order of a mixture."""

    def __init__(self, parts: Sequence[ShardExamples], weights: Sequence[int], seed: int) -> None:
        self.parts = tuple(parts)
        self.mixture = Mixture(tuple(part.order for part in parts), tuple(weights), seed)

    def locate(self, position: int) -> Place:
        return self.mixture(position)

    def fetch(self, place: Place) -> Sample:
        return self.parts[place.dataset].fetch(place)

    def example(self, place: Place, sample: Sample) -> tuple[str, Example]:
        return self.parts[place.dataset].example(place, sample)


def sample_generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The random generator of one sample in one epoch."""
    return np.random.default_rng([seed, epoch, *key.encode()])


class ShardSource:
    """Batches of examples from any step on; implements `Source`."""

    def __init__(
        self,
        examples: Examples,
        batch: int,
        *,
        accumulate: int = 1,
        workers: int = 0,
        read_ahead: int = 0,
    ) -> None:
        """`batch`: samples of one step over all ranks; it must divide by ranks x `accumulate`. `read_ahead`:
        samples that each loader process fetches at once, ahead of the one it works on.
        """
        self.examples, self.batch, self.accumulate = examples, batch, accumulate
        self.workers, self.read_ahead = workers, read_ahead

    def batches(self, start: int, stop: int, *, rank: int, world: int) -> Iterator[Batch]:
        steps = (start, stop, self.batch, self.accumulate, rank, world)
        free = [Free() for _ in range(self.workers)]
        loader = DataLoader(
            _Stream(self.examples, steps, self.read_ahead, free),
            batch_size=None,
            num_workers=self.workers,
            worker_init_fn=outlive_sigterm,
            pin_memory=torch.cuda.is_available() and not self.workers,
        )
        borrowed = [Borrowed(slots) for slots in free]
        try:
            for keys, worker, slot, tensors in loader:
                lent = borrowed[worker].batch(slot, tensors) if borrowed else tensors
                yield {**lent, "key": keys}
        except Exception as error:
            # Its traceback would keep the loader's processes until Python looks for cycles, too late to end
            # them in order; theirs stands in the message.
            raise error.with_traceback(None) from None


def check_batch(batch: int, accumulate: int, world: int) -> None:
    """Raises UsageError when a step cannot be cut into equal micro-batches."""
    if batch % (world * accumulate):
        raise UsageError(
            f"batch {batch} must be a multiple of {world} ranks x {accumulate} accumulated micro-batches"
        )


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


class _Stream(IterableDataset[_Message]):
    """The micro-batches of `step_positions(*steps)`; each of n loader processes makes every n-th of them."""

    def __init__(
        self,
        examples: Examples,
        steps: tuple[int, int, int, int, int, int],
        depth: int,
        free: list[Free],
    ) -> None:
        self.examples, self.steps, self.depth, self.free = examples, steps, depth, free

    def __iter__(self) -> Iterator[_Message]:
        worker = get_worker_info()
        slots = Slots(self.free[worker.id]) if worker else None
        made = self._made()
        for positions in self._lists():
            keys: list[str] = []
            examples = _noting(keys, islice(made, len(positions)))
            rows = len(positions)
            slot, tensors = slots.stack(examples, rows) if slots else (0, stack(examples, rows))
            yield keys, worker.id if worker else 0, slot, tensors

    def _lists(self) -> Iterator[list[int]]:
        """The positions of each micro-batch of this process."""
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        return islice(step_positions(*self.steps), first, None, stride)

    def _made(self) -> Iterator[tuple[str, Example]]:
        positions = chain.from_iterable(self._lists())
        if not self.depth:
            return map(self.examples.__getitem__, positions)
        fetched = in_order(self.examples.fetch, map(self.examples.locate, positions), self.depth)
        return starmap(self.examples.example, fetched)


def _noting(keys: list[str], items: Iterable[tuple[str, Example]]) -> Iterator[Example]:
    """The examples; their keys go into `keys`."""
    for key, example in items:
        keys.append(key)
        yield example
