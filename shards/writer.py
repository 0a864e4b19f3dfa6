"""Writing a shard: samples in any order become a tar in key order, its index and its marker, or nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from shards.errors import UsageError
from shards.files import check_name, discard_temporaries, temporary_path
from shards.index import IndexRow, MemberRange, build_index, write_table
from shards.manifest import Marker, commit_files
from shards.sample import Sample
from shards.tar import check_key, check_member, ending, member_header, padding

Columns = Callable[[Sample], Mapping[str, Any]]


def no_columns(sample: Sample) -> Mapping[str, Any]:
    """The default: an index without metadata."""
    return {}


class ShardWriter:
    """Writes `<name>.tar`, `<name>.parquet` and `<name>.json` into `folder`; nothing is visible before
    `commit`.

    Samples go to a spool as they come, each as a finished run of tar blocks, so memory holds one sample. If
    they came in key order the spool is the tar; otherwise `commit` copies the runs in order. One process
    writes a name at a time.

    `columns(sample)` gives the scalars to keep in the sample's index row. Use as a context manager: leaving
    without `commit` removes what was written.
    """

    def __init__(self, folder: Path, name: str, columns: Columns = no_columns) -> None:
        self._folder, self._name, self._columns = folder, check_name(name), columns
        discard_temporaries(folder, name)
        self._spool_path = temporary_path(folder, name, "tar")
        self._spool = self._spool_path.open("wb")
        self._rows: dict[
            str, tuple[int, int, IndexRow]
        ] = {}  # key -> first and last byte in the spool, index row
        self._size = 0

    def add(self, sample: Sample) -> None:
        """Add one sample. Raises UsageError for a key or member that would not survive, or a key added
        before.
        """
        key = check_key(sample.key)
        if key in self._rows:
            raise UsageError(
                f"shard {self._name!r}: key {key!r} added twice; drop one or give it another key"
            )
        if not sample.members:
            raise UsageError(f"shard {self._name!r}: sample {key!r} has no members")
        for member in sample.members:
            check_member(key, member)
        start = self._size
        ranges = [self._append(key, member, sample.members[member]) for member in sorted(sample.members)]
        row = IndexRow(key, tuple(ranges), dict(self._columns(sample)))
        self._rows[key] = (start, self._size, row)

    def commit(
        self,
        *,
        stage_name: str = "",
        stage_key: str = "",
        inputs: Mapping[str, str] | None = None,
        rejects: Mapping[str, int] | None = None,
        run: Mapping[str, Any] | None = None,
    ) -> Marker:
        """Write the tar in key order, the index, and last the marker.

        `inputs`: name -> digest of what this shard was made from. `rejects`: reason -> count of inputs left
        out. `run`: what varies between runs (timings, attempt); it is kept, never digested.
        """
        tar, rows = self._finish_tar()
        index = temporary_path(self._folder, self._name, "parquet")
        write_table(build_index(rows), index)
        return commit_files(
            self._folder,
            self._name,
            {f"{self._name}.tar": tar, f"{self._name}.parquet": index},
            samples=len(rows),
            rejects=rejects or {},
            stage_name=stage_name,
            stage_key=stage_key,
            inputs=inputs or {},
            run=run,
        )

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()
        discard_temporaries(self._folder, self._name)

    def _append(self, key: str, member: str, data: bytes) -> MemberRange:
        header = member_header(f"{key}.{member}", len(data))
        found = MemberRange.of(member, self._size + len(header), data)
        for part in (header, data, padding(len(data))):
            self._spool.write(part)
            self._size += len(part)
        return found

    def _finish_tar(self) -> tuple[Path, list[IndexRow]]:
        self._spool.write(ending(self._size))
        self._spool.close()
        keys = sorted(self._rows)
        if keys == list(self._rows):
            return self._spool_path, [self._rows[key][2] for key in keys]
        return self._sort(keys)

    def _sort(self, keys: list[str]) -> tuple[Path, list[IndexRow]]:
        """Copy the spool's runs into a new temporary in the order of `keys`, moving the offsets along."""
        path, rows = temporary_path(self._folder, self._name, "tar"), []
        with self._spool_path.open("rb") as spool, path.open("wb") as tar:
            for key in keys:
                start, stop, row = self._rows[key]
                rows.append(_moved(row, tar.tell() - start))
                spool.seek(start)
                _copy(spool, tar, stop - start)
            tar.write(ending(tar.tell()))
        self._spool_path.unlink()
        return path, rows


def _moved(row: IndexRow, distance: int) -> IndexRow:
    return replace(row, members=tuple(replace(m, offset=m.offset + distance) for m in row.members))


def _copy(source: Any, target: Any, size: int, chunk: int = 1 << 22) -> None:
    while size > 0:
        data = source.read(min(chunk, size))
        target.write(data)
        size -= len(data)
