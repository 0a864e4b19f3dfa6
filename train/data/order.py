"""The order of samples: a pure function position -> (epoch, index), so that resuming needs one integer and no
state.

A format-preserving permutation (an unbalanced Feistel network over [0, a) x [0, b), walked until it lands
inside [0, samples)) shuffles each epoch in O(1) memory: 300 million samples need no 2.4 GB permutation.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from math import gcd, isqrt
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

ROUNDS = 8
BLOCK = 10_000
"""Largest block of a mixture whose weights follow the sizes of its datasets."""
_WORD = (1 << 64) - 1


@runtime_checkable
class SampleOrder(Protocol):
    """An endless order of the samples of one dataset."""

    def __call__(self, position: int) -> tuple[int, int]:
        """(epoch, index) of the position `position` >= 0 of this dataset."""
        ...


@dataclass(frozen=True)
class Order:
    """The endless order of `samples` samples under `seed`: every epoch visits each index exactly once."""

    samples: int
    seed: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"an order needs at least one sample, got {self.samples}")

    def __call__(self, position: int) -> tuple[int, int]:
        """(epoch, index) of the global position `position` >= 0."""
        epoch, place = divmod(position, self.samples)
        return epoch, permute(place, self.samples, mix(self.seed, epoch))


@dataclass(frozen=True)
class WindowedOrder:
    """An endless order that reads few shards at a time: every epoch shuffles the shards, then the samples
    within each window of `window` shards; it visits each index exactly once.

    `shards`: samples of each shard, in the dataset's order. Memory: two integers a shard, for two epochs.
    """

    shards: tuple[int, ...]
    window: int
    seed: int
    _layouts: dict[int, "_Layout"] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.samples < 1 or self.window < 1:
            raise ValueError(
                f"an order needs at least one sample and a window of at least one shard, got {self.samples} "
                f"samples and a window of {self.window}"
            )

    @cached_property
    def samples(self) -> int:
        return sum(self.shards)

    @cached_property
    def starts(self) -> Int64[np.ndarray, " shards"]:
        """Index of the first sample of each shard."""
        return np.cumsum([0, *self.shards[:-1]], dtype=np.int64)

    def __call__(self, position: int) -> tuple[int, int]:
        """(epoch, index) of the global position `position` >= 0."""
        epoch, place = divmod(position, self.samples)
        layout = self._layout(epoch)
        window = bisect_right(layout.windows, place)
        first = layout.windows[window - 1] if window else 0
        key = mix(self.seed, epoch, window)
        place = first + permute(place - first, layout.windows[window] - first, key)
        turn = int(np.searchsorted(layout.ends, place, side="right"))
        shard = int(layout.shards[turn])
        return epoch, int(self.starts[shard]) + self.shards[shard] - int(layout.ends[turn]) + place

    def _layout(self, epoch: int) -> "_Layout":
        if epoch not in self._layouts:
            count, key = len(self.shards), mix(self.seed, epoch)
            shards = np.array([permute(turn, count, key) for turn in range(count)], np.int64)
            ends = np.cumsum(np.array(self.shards, np.int64)[shards])
            windows = [*ends[self.window - 1 :: self.window].tolist(), self.samples]
            while len(self._layouts) >= 2:  # a batch may span two epochs
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[epoch] = _Layout(shards, ends, windows)
        return self._layouts[epoch]


@dataclass(frozen=True)
class _Layout:
    """One epoch of a windowed order: which shard comes at each turn, the place where its samples end, and
    where each window ends.
    """

    shards: Int64[np.ndarray, " shards"]
    ends: Int64[np.ndarray, " shards"]
    windows: list[int]


class Place(NamedTuple):
    """Where a position of a run leads: a dataset, by number, and the epoch and index of a sample there."""

    dataset: int
    epoch: int
    sample: int


@dataclass(frozen=True)
class Mixture:
    """The endless order of several datasets in fixed shares, exact in every block of `sum(weights)`
    positions.

    Block b takes the next `weights[d]` samples of each dataset d's own order and shuffles which dataset comes
    when. Small datasets come round sooner: their epoch counts up by itself.
    """

    orders: tuple[SampleOrder, ...]
    weights: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if len(self.orders) != len(self.weights) or not self.orders or min(self.weights) < 1:
            raise ValueError(
                f"a mixture needs one positive weight for each of its datasets, got {len(self.orders)} "
                f"datasets and weights {self.weights}"
            )

    def __call__(self, position: int) -> Place:
        ends = list(accumulate(self.weights))
        block, slot = divmod(position, ends[-1])
        slot = permute(slot, ends[-1], mix(self.seed, block))
        dataset = bisect_right(ends, slot)
        weight = self.weights[dataset]
        return Place(dataset, *self.orders[dataset](block * weight + slot - ends[dataset] + weight))


def proportional(sizes: Sequence[int]) -> tuple[int, ...]:
    """Weights of a mixture in which every sample comes equally often, whichever of the datasets it is in.

    Exact when the sizes, divided by their common factor, sum to at most `BLOCK`; else to 1 / `BLOCK` of all
    samples, and at least 1. The block stays short, so that a windowed order keeps its locality.
    """
    factor, total = gcd(*sizes), sum(sizes)
    if total // factor <= BLOCK:
        return tuple(size // factor for size in sizes)
    return tuple(max(1, round(size * BLOCK / total)) for size in sizes)


def permute(place: int, size: int, key: int) -> int:
    """The image of `place` in [0, size) under the permutation that `key` selects."""
    if not 0 <= place < size:
        raise ValueError(f"place must be in [0, {size}), got {place}")
    left_size = isqrt(size - 1) + 1
    right_size = -(-size // left_size)
    while True:  # a bijection of a slightly larger set: walking its cycle stays a bijection of [0, size)
        left, right = divmod(place, right_size)
        for number in range(0, ROUNDS, 2):
            left = (left + mix(key, number, right)) % left_size
            right = (right + mix(key, number + 1, left)) % right_size
        place = left * right_size + right
        if place < size:
            return place


def mix(*words: int) -> int:
    """A 64-bit hash of integers, the same on every machine (the finaliser of splitmix64, chained)."""
    state = 0
    for word in words:
        state = (state + word + 0x9E3779B97F4A7C15) & _WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
        state ^= state >> 31
    return state
