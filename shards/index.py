"""The parquet sidecar of a tar: one row per sample, enough to read any member with one range request.

| column | type | |
|---|---|---|
| key | string | in the tar's order |
| members | list<struct<name: string, offset: int64, size: int64, sha256: string>> | each file of the sample |
| any other | scalar | metadata of the writer's choice, columns sorted by name |
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.errors import ShardError, UsageError
from shards.sample import Sample
from shards.storage import open_url
from shards.tar import TarMember, iterate_members

KEY, MEMBERS = "key", "members"
MEMBER_TYPE = pa.struct(
    [("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("sha256", pa.string())]
)
FIXED_SCHEMA = pa.schema([(KEY, pa.string()), (MEMBERS, pa.list_(MEMBER_TYPE))])
_ROW_GROUP = 16384
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class MemberRange:
    """Where one file of a sample lies in its tar, in bytes, and what its bytes hash to (64 hex digits)."""

    name: str
    offset: int
    size: int
    sha256: str

    @classmethod
    def of(cls, name: str, offset: int, data: bytes) -> "MemberRange":
        return cls(name, offset, len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class IndexRow:
    """One sample of a tar: its key, where its members lie, and its scalar metadata."""

    key: str
    members: tuple[MemberRange, ...]
    columns: Mapping[str, Any]


def build_index(rows: Iterable[IndexRow]) -> pa.Table:
    """The index table of `rows`, in their order. A column absent from a row is null there.

    Raises UsageError when a column's values share no type, are no scalars, or its name is one of the fixed
    ones.
    """
    rows = list(rows)
    table = FIXED_SCHEMA.empty_table() if not rows else _fixed_columns(rows)
    for name in sorted({name for row in rows for name in row.columns}):
        if name in (KEY, MEMBERS):
            raise UsageError(f"index column {name!r}: the name is taken; rename it in `columns(sample)`")
        table = table.append_column(name, _scalar_column(name, [row.columns.get(name) for row in rows]))
    return table


def write_table(table: pa.Table, path: Path) -> None:
    """Write parquet whose bytes are a function of the table alone (for one pyarrow version)."""
    bare = table.replace_schema_metadata(None).combine_chunks()
    pq.write_table(bare, path, compression="zstd", row_group_size=_ROW_GROUP, version="2.6")


def read_table(content: bytes, where: str) -> pa.Table:
    """Parse the bytes of a parquet file. Raises ShardError naming `where` when they are damaged."""
    try:
        return pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise ShardError(f"{where}: damaged parquet: {error}") from error


def read_locations(content: bytes, where: str) -> pa.Table:
    """Only what random access needs of a sidecar's bytes: key, and name, offset and size of each member.

    A third of the memory of the whole rows, of which hashes and metadata are most. Raises ShardError as
    `read_table` does.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        paths = [file.schema.column(number).path for number in range(len(file.schema))]
        wanted = [path for path in paths if path == KEY or path.startswith(f"{MEMBERS}.")]
        return file.read([path for path in wanted if not path.endswith(".sha256")])
    except (pa.ArrowException, OSError) as error:
        raise ShardError(f"{where}: damaged parquet: {error}") from error


def index_tar(url: Path | str, options: Mapping[str, Any] | None = None) -> pa.Table:
    """The index of an uncompressed tar, ours or foreign, by reading it once.

    Samples are grouped as webdataset groups them: adjacent files with the same name up to the first dot.
    Raises ShardError for damage, refused members, a key that comes back later, and compressed tars (no random
    access).
    """
    with open_tar(url, options) as stream:
        return build_index(
            IndexRow(key, tuple(MemberRange.of(part.member, part.offset, part.data) for part in parts), {})
            for key, parts in group_members(iterate_members(stream, str(url), "r:"), str(url))
        )


def open_tar(url: Path | str, options: Mapping[str, Any] | None = None) -> Any:
    """The tar as a binary stream, to be closed by the caller. Raises UsageError when there is none."""
    store, name = open_url(url, options)
    try:
        return store.open(name)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"{url}: no such tar") from None


def iterate_samples(stream: Any, where: str) -> Iterator[Sample]:
    """The samples of a tar stream (compressed or not), in the tar's order; grouping and errors as in
    `index_tar`.
    """
    for key, parts in group_members(iterate_members(stream, where), where):
        yield Sample(key, {part.member: part.data for part in parts})


def group_members(members: Iterable[TarMember], where: str) -> Iterator[tuple[str, list[TarMember]]]:
    """Adjacent members of one key, together. Raises ShardError when a key or a member occurs twice."""
    seen: set[str] = set()
    parts: list[TarMember] = []
    for member in members:
        if parts and member.key != parts[0].key:
            yield parts[0].key, parts
            parts = []
        if not parts and member.key in seen:
            raise ShardError(
                f"{where}: duplicate key {member.key!r}: its files lie apart, or two samples share it; "
                "rewrite the tar with sorted names"
            )
        if any(part.member == member.member for part in parts):
            raise ShardError(
                f"{where}: duplicate key: sample {member.key!r} has two members {member.member!r}"
            )
        seen.add(member.key)
        parts.append(member)
    if parts:
        yield parts[0].key, parts


def _fixed_columns(rows: list[IndexRow]) -> pa.Table:
    members = [
        [{"name": m.name, "offset": m.offset, "size": m.size, "sha256": m.sha256} for m in row.members]
        for row in rows
    ]
    return pa.Table.from_pydict({KEY: [row.key for row in rows], MEMBERS: members}, schema=FIXED_SCHEMA)


def _scalar_column(name: str, values: list[Any]) -> pa.Array:
    for value in values:
        if not isinstance(value, _SCALARS):
            raise UsageError(
                f"index column {name!r}: expected str, int, float, bool or None, got {type(value).__name__}"
            )
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError) as error:
        raise UsageError(f"index column {name!r}: its values share no type: {error}") from None
