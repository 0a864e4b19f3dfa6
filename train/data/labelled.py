"""Labelled samples out of shards: only the members a task needs are read; small sets stay decoded in
memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from annotation.labels import MEMBERS, PHOTO_MEMBERS, Labels, from_members
from shards.errors import UsageError, VitruvianError
from shards.reader import Dataset
from shards.sample import Sample
from train.data.dataset import Example, ShardExamples, sample_generator

IDENTITY = "identity"
"""Index column (or key of a person in the json member) that says who is in the picture."""
PEOPLE = "people"
"""Index column that counts them, and the list of them in the json member."""

Prepare = Callable[[Labels], Labels]
MakeExample = Callable[[Labels, np.random.Generator], Example]


def _as_they_are(labels: Labels) -> Labels:
    return labels


class LabelledSet:
    """The labels `wanted` (and those `optional` ones that the data has) of each sample of a dataset.

    Which members there are is judged by the first sample: a dataset is uniform. `prepare` is what is done
    to each once (`Task.prepare`). `cache`: number of decoded samples kept in memory. Raises UsageError for
    data that lacks a wanted label.
    """

    def __init__(
        self,
        data: Dataset,
        wanted: Sequence[str],
        optional: Sequence[str] = (),
        prepare: Prepare = _as_they_are,
        cache: int = 0,
    ) -> None:
        self.data, self.prepare, self.cache = data, prepare, cache
        self._kept: dict[int, tuple[str, Labels]] = {}
        if len(data) == 0:
            raise UsageError(f"{data.store.url}: an empty dataset; expected samples with {', '.join(wanted)}")
        present = data[0].members
        self.members = tuple(m for name in (*wanted, *optional) if (m := _member(name, present)))
        self.labels = tuple(name for name in (*wanted, *optional) if _member(name, present))
        if missing := [name for name in wanted if name not in self.labels]:
            raise UsageError(
                f"{data.store.url}: its samples have no label {', '.join(missing)}; "
                f"they hold {', '.join(sorted(present))}"
            )
        if "json" in present:
            self.members += ("json",)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[str, Labels]:
        """(key, labels) of a sample. Raises VitruvianError, naming the key, for a damaged one."""
        if index in self._kept:
            return self._kept[index]
        sample = self.data.read(index, members=self.members)
        try:
            found = sample.key, self.prepare(from_members(sample.members, self.labels))
        except VitruvianError as error:
            raise type(error)(*error.args[:-1], f"sample {sample.key}: {error}") from error
        if len(self._kept) < self.cache:
            self._kept[index] = found
        return found


class LabelledExamples(ShardExamples):
    """Map-style: global position -> (key, training example), by way of decoded labels."""

    def __init__(self, labelled: LabelledSet, make: MakeExample, seed: int) -> None:
        super().__init__(labelled.data, _not_from_bytes, seed)
        self.labelled, self.make_example = labelled, make

    def __getitem__(self, position: int) -> tuple[str, Example]:
        epoch, index = self.order(position)
        key, labels = self.labelled[index]
        return key, self.make_example(labels, sample_generator(self.seed, epoch, key))


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


def _not_from_bytes(sample: Sample, rng: np.random.Generator) -> Example:
    raise TypeError("labelled examples are made from decoded labels, not from a sample")
