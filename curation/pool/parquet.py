"""Parquet files as tables of images: cut at row groups, read in small batches of the columns that are needed.

The image's column is found by type, then by name: a struct {bytes, path}; a binary column; a column of text
that is called as paths are, or as URLs are. The first of them that is not null in a row has its image.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.pool.inputs import PoolConfig
from curation.pool.place import Place, Refused, open_target
from curation.pool.rows import BYTES_COLUMNS, PATH_COLUMNS, URL_COLUMNS, Row, by_preference
from shards.errors import ShardError, UsageError

_BATCH_BYTES = 16 << 20  # of a batch, by the row group's own account
_MAX_BATCH = 256
_MAX_ROW = 1 << 30  # bytes of a row on average, by the row group's own account: pages are decoded whole
_BUFFER = 1 << 20


def cut(place: Place, source: str) -> list[dict[str, Any]]:
    """The parts of a file: {first row, rows, row groups first..last}, from its footer alone.

    Raises UsageError when no column can hold images. One part without rows for a damaged file.
    """
    try:
        with _opened(place, source) as file:
            columns(file.schema_arrow, place.config, source)
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    except ShardError:
        return [{"first": 0, "rows": 0, "groups": []}]
    parts, first, start, rows = list[dict[str, Any]](), 0, 0, 0
    for group, size in enumerate(sizes):
        rows += size
        if rows >= place.config.rows_per_unit or group == len(sizes) - 1:
            parts.append({"first": first, "rows": rows, "groups": [start, group + 1]})
            first, start, rows = first + rows, group + 1, 0
    return parts


def read(place: Place, payload: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one part. Raises ShardError for a damaged file."""
    source, groups = payload["table"], payload["groups"]
    with _opened(place, source) as file:
        if not groups:
            raise ShardError(f"{source}: it could not be read when the pool was listed; run annotate again")
        images = columns(file.schema_arrow, place.config, source)
        row = payload["first"]
        wanted = [field.name for field in file.schema_arrow if field.name in images or _is_plain(field.type)]
        for batch in _batches(file, range(*groups), wanted):
            values = {name: _values(batch.column(name)) for name in wanted}
            for index in range(batch.num_rows):
                yield Row(row, {name: found[index] for name, found in values.items()}, images)
                row += 1


def value_at(place: Place, source: str, row: int, column: str) -> Any:
    """One value. Rows that are asked for in order are read once."""
    cursor = _cursor(place, source, column, place.stamp(source))
    try:
        return cursor.at(row)
    except BaseException:
        _cursor.cache_clear()
        raise


def columns(schema: pa.Schema, config: PoolConfig, source: str) -> tuple[str, ...]:
    """The columns that may hold a row's image, best first. Raises UsageError when there is none."""
    if config.image_column is not None:
        if config.image_column in schema.names:
            return (config.image_column,)
        raise UsageError(f"{source}: no column {config.image_column!r} (`image_column`) among {schema.names}")
    structs = [field.name for field in schema if _is_image_struct(field.type)]
    binary = [field.name for field in schema if _is_binary(field.type)]
    texts = [field.name for field in schema if _is_text(field.type)]
    named = by_preference(binary, BYTES_COLUMNS)
    found = (
        *by_preference(structs, BYTES_COLUMNS),
        *(named or (binary if len(binary) == 1 else ())),
        *by_preference(texts, (*PATH_COLUMNS, *URL_COLUMNS)),
    ) or tuple(structs[:1])
    if not found:
        raise UsageError(
            f"{source}: no column that holds images among {schema.names}: expected bytes, a struct "
            "{bytes, path}, or text called path or url; name it in `image_column`"
        )
    return found


@lru_cache(maxsize=4)
def _cursor(place: Place, source: str, column: str, _stamp: str) -> "_Cursor":
    return _Cursor(place, source, column)


class _Cursor:
    """Values of one column by row; the iterator goes on from one call to the next."""

    def __init__(self, place: Place, source: str, column: str) -> None:
        self.place, self.source, self.column = place, source, column
        self.values: Iterator[tuple[int, Any]] = iter(())
        self.next = -1

    def at(self, row: int) -> Any:
        if self.next < 0 or row < self.next or self._group(row)[0] > self.next:
            group = self._group(row)
            self.values, self.next = self._from(group[1], group[0]), group[0]
        for number, value in self.values:
            self.next = number + 1
            if number == row:
                return value
        raise ShardError(f"{self.source}: no row {row}; the table has changed, run annotate again")

    def _group(self, row: int) -> tuple[int, int]:
        """(first row, number) of the row group that holds `row`."""
        first = 0
        for group, size in enumerate(self._sizes()):
            if row < first + size:
                return first, group
            first += size
        raise ShardError(f"{self.source}: no row {row}; the table has changed, run annotate again")

    def _sizes(self) -> list[int]:
        if not hasattr(self, "sizes"):
            with _opened(self.place, self.source) as file:
                self.sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        return self.sizes

    def _from(self, group: int, row: int) -> Iterator[tuple[int, Any]]:
        with _opened(self.place, self.source) as file:
            for batch in _batches(file, range(group, file.num_row_groups), [self.column]):
                for value in _values(batch.column(0)):
                    yield row, value
                    row += 1


@contextmanager
def _opened(place: Place, source: str) -> Iterator[pq.ParquetFile]:
    try:
        with open_target(place.target(source), _BUFFER) as stream:
            file = pq.ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False)
            yield file
    except (Refused, pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise ShardError(f"{place.url}/{source}: damaged parquet: {error}") from error


def _batches(file: pq.ParquetFile, groups: range, names: list[str]) -> Iterator[pa.RecordBatch]:
    for group in groups:
        meta = file.metadata.row_group(group)
        size = max(1, meta.total_byte_size // max(1, meta.num_rows))
        if size > _MAX_ROW:
            raise ValueError(f"row group {group} has {size} bytes a row")
        rows = min(_MAX_BATCH, max(1, _BATCH_BYTES // size))
        yield from file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)


def _values(column: Any) -> list[Any]:
    """Python values: bytes as memoryviews (no copy), text that is not UTF-8 with its bytes escaped."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return _values(column.storage)
    if _is_text(kind):
        return [None if value is None else str(value, "utf-8", "surrogateescape") for value in
                _values(column.cast(pa.large_binary()))]  # fmt: skip
    if _is_binary(kind):
        return [memoryview(one.as_buffer()) if one.is_valid else None for one in column]
    if pa.types.is_struct(kind):
        parts = {kind.field(i).name: _values(pc.struct_field(column, i)) for i in range(kind.num_fields)}
        return [{name: part[i] for name, part in parts.items()} for i in range(len(column))]
    try:
        return list(column.to_pylist())
    except (ValueError, UnicodeDecodeError, OverflowError, pa.ArrowException):
        pass  # nanoseconds that datetime cannot hold, text that is not UTF-8
    try:
        return list(column.cast(pa.string()).to_pylist())
    except (ValueError, UnicodeDecodeError, pa.ArrowException):
        return [None] * len(column)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether a column can travel as JSON: no bytes in it."""
    if _is_binary(kind):
        return False
    return all(_is_plain(kind.field(i).type) for i in range(kind.num_fields))


def _is_image_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    parts = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
    return "bytes" in parts and _is_binary(parts["bytes"])


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
        or types.is_binary_view(kind)
    )  # fmt: skip


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
