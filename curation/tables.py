"""Streaming a dataset of tables: batches of rows in order, wherever the cuts between units and row groups
lie.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from shards.errors import ShardError
from shards.manifest import Manifest, read_manifest
from shards.storage import Store

BATCH = 1 << 17  # rows
_CACHED = 64  # open tables, for single rows


@dataclass(frozen=True)
class Part:
    """Some row groups of one table."""

    name: str
    groups: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Batch:
    """Neighbouring rows of a dataset: `start` is the position of the first among all."""

    start: int
    rows: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Tables:
    """The tables of a dataset in the order of its manifest."""

    store: Store
    manifest: Manifest

    @classmethod
    def open(cls, url: str | Path) -> "Tables":
        """Raises UsageError when there is no manifest, ShardError when it is damaged."""
        return cls(Store(str(url)), read_manifest(url))

    @property
    def names(self) -> list[str]:
        """The unit of each table."""
        return [shard.name for shard in self.manifest.shards]

    @property
    def starts(self) -> Int64[np.ndarray, " tables_and_end"]:
        """Position of the first row of each table, and the number of all rows."""
        return np.array([0, *accumulate(shard.samples for shard in self.manifest.shards)], np.int64)

    def batches(self, rows: int = BATCH) -> Iterator[Batch]:
        """Cut the dataset into batches of about `rows`, at row groups. Raises ShardError for a table whose
        number of rows is not what the manifest says.
        """
        parts: list[Part] = []
        start = waiting = 0
        for shard in self.manifest.shards:
            for part in self._parts(shard.name, shard.samples, rows):
                parts, waiting = [*parts, part], waiting + part.rows
                if waiting >= rows:
                    yield Batch(start, waiting, tuple(parts))
                    parts, start, waiting = [], start + waiting, 0
        if parts:
            yield Batch(start, waiting, tuple(parts))

    def read(self, batch: Batch, columns: Sequence[str]) -> pa.Table:
        """The rows of a batch. Raises ShardError for a damaged table or one without these columns."""
        found = []
        for part in batch.parts:
            with self._open(part.name) as file:
                try:
                    found.append(file.read_row_groups(list(part.groups), list(columns), use_threads=False))
                except (pa.ArrowException, OSError) as error:
                    raise ShardError(f"{self.store.at(part.name)}.parquet: damaged: {error}") from error
                if missing := set(columns) - set(found[-1].column_names):
                    raise ShardError(
                        f"{self.store.at(part.name)}.parquet: no column {', '.join(sorted(missing))}: made "
                        "by an older version; run annotate again"
                    )
        return pa.concat_tables(found)

    def rows(self, positions: Sequence[int], columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Single rows by position, in the order given; each table is read once for those in it."""
        starts, found = self.starts, dict[int, dict[str, Any]]()
        place = np.searchsorted(starts, np.array(positions, np.int64), side="right") - 1
        for number in sorted(set(place.tolist())):
            with self._open(self.names[number]) as file:
                table = file.read(None if columns is None else list(columns))
                for position, at in zip(positions, place.tolist(), strict=True):
                    if at == number:
                        found[position] = table.slice(position - int(starts[number]), 1).to_pylist()[0]
        return [found[position] for position in positions]

    def _parts(self, name: str, samples: int, rows: int) -> Iterator[Part]:
        with self._open(name) as file:
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        if sum(sizes) != samples:
            raise ShardError(
                f"{self.store.at(name)}.parquet: {sum(sizes)} rows, the manifest says {samples}; "
                "run `vitruvian shards verify`"
            )
        groups: list[int] = []
        for number, _size in enumerate(sizes):
            groups.append(number)
            total = sum(sizes[group] for group in groups)
            if total >= rows or number == len(sizes) - 1:
                yield Part(name, tuple(groups), total)
                groups = []

    def _open(self, name: str) -> Any:
        where = f"{name}.parquet"
        try:
            local = self.store.local
            return pq.ParquetFile(self.store.open(where) if local is None else str(local / where))
        except FileNotFoundError:
            raise ShardError(f"{self.store.at(where)}: missing, though the manifest lists it") from None
        except (pa.ArrowException, OSError) as error:
            raise ShardError(f"{self.store.at(where)}: damaged parquet: {error}") from error
