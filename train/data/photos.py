"""The datasets of a pretraining run and the shares in which their photos come."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import gcd
from pathlib import Path
from typing import Any

from shards.errors import UsageError
from shards.reader import Dataset
from shards.sample import Sample
from train.data.dataset import Maker, MixedExamples, ShardExamples
from train.data.order import Mixture, Order, SampleOrder, WindowedOrder, proportional
from train.data.photo import members_to_read

READ_AHEAD = 16
"""Samples that a loader process fetches ahead where nothing else is asked: far stores only."""


@dataclass(frozen=True)
class Photos:
    """One dataset or several; of each `sum(weights)` photos in a row, `weights[i]` are of dataset i."""

    datasets: tuple[Dataset, ...]
    weights: tuple[int, ...]

    @classmethod
    def open(cls, data: Path | str | Sequence[Path | str], weights: Sequence[int] | None = None) -> "Photos":
        """`weights`: default, as many as each dataset has samples, so that every photo comes equally often.

        Raises UsageError for an empty dataset, one given twice, and weights that are not one for each.
        """
        places = [data] if isinstance(data, Path | str) else list(data)
        datasets = tuple(Dataset.open(place) for place in places)
        for dataset in datasets:
            if not len(dataset):
                raise UsageError(f"{dataset.store.url}: holds no samples; nothing to pretrain on")
        for one, other in combinations(datasets, 2):
            if one.digest == other.digest:
                raise UsageError(
                    f"{one.store.url} and {other.store.url} are the same data; give it once, and a larger "
                    "share of `weights`"
                )
        if weights is None:
            return cls(datasets, proportional([len(dataset) for dataset in datasets]))
        if len(weights) != len(datasets):
            raise UsageError(
                f"weights: expected one for each of the {len(datasets)} datasets of --data, in their order; "
                f"got {list(weights)}"
            )
        return cls(datasets, tuple(weight // gcd(*weights) for weight in weights))

    def __len__(self) -> int:
        return sum(map(len, self.datasets))

    @property
    def identity(self) -> Any:
        """What the result of a run depends on: the digest; of several datasets, digests and weights."""
        digests = [dataset.digest for dataset in self.datasets]
        return digests[0] if len(digests) == 1 else {"digests": digests, "weights": list(self.weights)}

    @property
    def description(self) -> Any:
        """Where the data was, for a person: of several datasets a list."""
        found = [{"url": dataset.store.url, "digest": dataset.digest} for dataset in self.datasets]
        return found[0] if len(found) == 1 else found

    @property
    def read_ahead(self) -> int:
        """Samples to fetch ahead: none where all data is on this machine."""
        return 0 if all(dataset.store.local for dataset in self.datasets) else READ_AHEAD

    def examples(self, make: Maker, seed: int, window: int | None = None) -> MixedExamples:
        """The examples of a run; `window`: shards that are shuffled together (None: all)."""
        parts = [
            ShardExamples(dataset, make, seed, members_to_read(dataset), _order(dataset, seed, window))
            for dataset in self.datasets
        ]
        return MixedExamples(parts, self.weights, seed)

    def pick(self, count: int, seed: int) -> list[Sample]:
        """The first `count` samples (fewer where there are fewer) of a shuffled mixture."""
        orders = tuple(Order(len(dataset), seed) for dataset in self.datasets)
        mixture = Mixture(orders, self.weights, seed)
        places = [mixture(position) for position in range(min(count, len(self)))]
        members = [members_to_read(dataset) for dataset in self.datasets]
        return [self.datasets[place.dataset].read(place.sample, members[place.dataset]) for place in places]


def _order(dataset: Dataset, seed: int, window: int | None) -> SampleOrder:
    if window is None:
        return Order(len(dataset), seed)
    return WindowedOrder(tuple(shard.samples for shard in dataset.manifest.shards), window, seed)
