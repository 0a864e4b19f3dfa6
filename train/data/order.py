"""The order of samples: a pure function position -> (epoch, index), so that resuming needs one integer and no
state.

A format-preserving permutation (an unbalanced Feistel network over [0, a) x [0, b), walked until it lands
inside [0, samples)) shuffles each epoch in O(1) memory: 300 million samples need no 2.4 GB permutation.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import isqrt
from typing import NamedTuple, Protocol, runtime_checkable

ROUNDS = 8
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
