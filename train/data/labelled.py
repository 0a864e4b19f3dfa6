"""Labelled pictures for fine-tuning and evaluation, out of our shards or of others' layouts: only what a task
needs is read; small sets stay decoded in memory; several sets come in fixed shares.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import gcd
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from annotation.labels import MEMBERS, PHOTO_MEMBERS, Labels, from_members
from shards.errors import UsageError, VitruvianError
from shards.reader import Dataset
from train.data.dataset import Example, Examples, sample_generator
from train.data.layouts import LEFT_OUT, Purpose, is_layout, open_layout
from train.data.order import Mixture, Order, Place, SampleOrder, proportional

IDENTITY = "identity"
"""Index column (or key of a person in the json member) that says who is in the picture."""
PEOPLE = "people"
"""Index column that counts them, and the list of them in the json member."""

Prepare = Callable[[Labels], Labels]
MakeExample = Callable[[Labels, np.random.Generator], Example]


@runtime_checkable
class LabelSource(Protocol):
    """Labelled pictures, from anywhere. url: where, for a person. digest: of the content. labels: the names
    of those that every picture has. provenance: "protocol" names a published test set.
    """

    @property
    def url(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def __len__(self) -> int: ...

    def read(self, index: int, wanted: Sequence[str]) -> tuple[str, Labels]:
        """(key, labels) of a picture, only the labels `wanted`. Raises VitruvianError for a damaged one."""
        ...

    def identities(self) -> list[str]:
        """Who is in the pictures, sorted; empty when nobody says."""
        ...


class ShardLabels:
    """A dataset of ours. Which labels there are is judged by the first sample: a dataset is uniform.

    Raises UsageError for an empty one.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data
        if len(data) == 0:
            raise UsageError(f"{data.store.url}: an empty dataset; expected labelled samples")
        self.present = frozenset(data[0].members)
        self.labels = tuple(name for name in MEMBERS if _member(name, self.present))

    @property
    def url(self) -> str:
        return self.data.store.url

    @property
    def digest(self) -> str:
        return self.data.digest

    @property
    def provenance(self) -> Mapping[str, Any]:
        return self.data.manifest.provenance

    def __len__(self) -> int:
        return len(self.data)

    def members(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The members that these labels are read from."""
        found = tuple(member for name in wanted if (member := _member(name, self.present)))
        return (*found, "json") if "json" in self.present else found

    def read(self, index: int, wanted: Sequence[str]) -> tuple[str, Labels]:
        sample = self.data.read(index, members=self.members(wanted))
        return sample.key, _named(sample.key, lambda: from_members(sample.members, wanted))

    def identities(self) -> list[str]:
        return identities(self.data)


def open_source(place: Path | str, purpose: Purpose) -> LabelSource:
    """A dataset of ours (folder or URL with a manifest.json), or the YAML description of another layout
    (`train.data.layouts`). Raises UsageError.
    """
    return open_layout(Path(place), purpose) if is_layout(place) else ShardLabels(Dataset.open(place))


def describe(source: LabelSource) -> dict[str, Any]:
    """Where data was, for a person, and how many pictures were left out, by reason."""
    left_out = {reason: count for reason, count in source.provenance.get(LEFT_OUT, {}).items() if count}
    return {"url": source.url, "digest": source.digest, **({LEFT_OUT: left_out} if left_out else {})}


def _as_they_are(labels: Labels) -> Labels:
    return labels


class LabelledSet:
    """The labels `wanted` (and those `optional` ones that the data has) of each sample of a source.

    `prepare` is what is done to each once (`Task.prepare`). `cache`: number of decoded samples kept in
    memory. Raises UsageError for data that lacks a wanted label.
    """

    def __init__(
        self,
        data: Dataset | LabelSource,
        wanted: Sequence[str],
        optional: Sequence[str] = (),
        prepare: Prepare = _as_they_are,
        cache: int = 0,
    ) -> None:
        self.source: LabelSource = ShardLabels(data) if isinstance(data, Dataset) else data
        self.prepare, self.cache = prepare, cache
        self._kept: dict[int, tuple[str, Labels]] = {}
        self.labels = tuple(name for name in (*wanted, *optional) if name in self.source.labels)
        if missing := [name for name in wanted if name not in self.labels]:
            raise UsageError(
                f"{self.source.url}: its samples have no label {', '.join(missing)}; "
                f"they have {', '.join(self.source.labels) or 'none'}"
            )

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[str, Labels]:
        """(key, labels) of a sample. Raises VitruvianError, naming the key, for a damaged one."""
        if index in self._kept:
            return self._kept[index]
        key, labels = self.source.read(index, self.labels)
        found = key, _named(key, lambda: self.prepare(labels))
        if len(self._kept) < self.cache:
            self._kept[index] = found
        return found


@dataclass(frozen=True)
class LabelledSets:
    """One set of labelled samples or several; of each `sum(weights)` in a row, `weights[i]` are of set i."""

    sets: tuple[LabelledSet, ...]
    weights: tuple[int, ...]

    @classmethod
    def of(cls, sets: Sequence[LabelledSet], weights: Sequence[int] | None = None) -> "LabelledSets":
        """`weights`: default, as many as each set has samples, so that every sample comes equally often.

        Raises UsageError for a set given twice, and for weights that are not one for each.
        """
        for one, other in combinations([labelled.source for labelled in sets], 2):
            if one.digest == other.digest:
                raise UsageError(
                    f"{one.url} and {other.url} are the same data; give it once, and a larger "
                    "share of `weights`"
                )
        if weights is not None and len(weights) != len(sets):
            raise UsageError(
                f"weights: expected one for each of the {len(sets)} data sets of --data, in their order; "
                f"got {list(weights)}"
            )
        shares = proportional([len(one) for one in sets]) if weights is None else tuple(weights)
        return cls(tuple(sets), tuple(share // gcd(*shares) for share in shares))

    def __len__(self) -> int:
        return sum(map(len, self.sets))

    @property
    def identity(self) -> Any:
        """What the result of a run depends on: the digest; of several sets, digests and weights."""
        digests = [labelled.source.digest for labelled in self.sets]
        return digests[0] if len(digests) == 1 else {"digests": digests, "weights": list(self.weights)}

    @property
    def description(self) -> Any:
        """Where the data was, for a person, and what of it was left out: of several sets a list."""
        found = [describe(labelled.source) for labelled in self.sets]
        return found[0] if len(found) == 1 else found

    def identities(self) -> list[str]:
        """Who is in the pictures of any of the sets, sorted."""
        return sorted({who for labelled in self.sets for who in labelled.source.identities()})

    def anonymous(self) -> list[str]:
        """The sets that do not say who is in their pictures."""
        return [labelled.source.url for labelled in self.sets if not labelled.source.identities()]

    def first(self, count: int) -> list[Place]:
        """The first `count` samples (fewer where there are fewer), in shares, each set in its own order."""
        mixture = Mixture(tuple(_AsItComes(len(one)) for one in self.sets), self.weights, 0)
        return [mixture(position) for position in range(min(count, len(self)))]

    def read(self, place: Place) -> tuple[str, Labels]:
        """(key, labels) of a sample."""
        return self.sets[place.dataset][place.sample]


class LabelledExamples(Examples):
    """Map-style: global position -> (key, training example), by way of decoded labels."""

    def __init__(self, labelled: LabelledSets, make: MakeExample, seed: int) -> None:
        self.labelled, self.make, self.seed = labelled, make, seed
        orders: tuple[SampleOrder, ...] = tuple(Order(len(one), seed) for one in labelled.sets)
        self.mixture = Mixture(orders, labelled.weights, seed)

    def locate(self, position: int) -> Place:
        return self.mixture(position)

    def fetch(self, place: Place) -> tuple[str, Labels]:
        return self.labelled.read(place)

    def example(self, place: Place, sample: tuple[str, Labels]) -> tuple[str, Example]:
        key, labels = sample
        return key, self.make(labels, sample_generator(self.seed, place.epoch, key))


@dataclass(frozen=True)
class _AsItComes:
    """The order in which a set lists its samples, over and over."""

    samples: int

    def __call__(self, position: int) -> tuple[int, int]:
        return divmod(position, self.samples)


def identities(data: Dataset) -> list[str]:
    """Who is in the pictures of a dataset, sorted: its index column `identity`, or its people's json entries.

    The column names the first person only: where the column `people` counts more, the json is read. Empty
    when nothing says so.
    """
    table = data.table()
    groups = PEOPLE in table.column_names and any((count or 0) > 1 for count in table[PEOPLE].to_pylist())
    if IDENTITY in table.column_names and not groups:
        return sorted({str(value) for value in table[IDENTITY].to_pylist() if value is not None})
    people = (person for index in range(len(data)) for person in _people(data, index))
    return sorted({str(person[IDENTITY]) for person in people if IDENTITY in person})


def _people(data: Dataset, index: int) -> list[dict[str, Any]]:
    people = data.read(index, ("json",)).meta().get(PEOPLE, [])
    return [person for person in people if isinstance(person, dict)]


def _member(label: str, present: Any) -> str | None:
    candidates = PHOTO_MEMBERS if label == "rgb" else (MEMBERS[label],)
    return next((member for member in candidates if member in present), None)


def _named(key: str, make: Callable[[], Labels]) -> Labels:
    """What `make` returns; its errors name the sample."""
    try:
        return make()
    except VitruvianError as error:
        raise VitruvianError(f"sample {key}: {error}") from error
