"""CSV, TSV and JSON lines as tables of images: read line by line, cut by bytes, one bad line costs one row.

The standard library's readers rather than pyarrow's: those infer one type per column and refuse the file
where a later line differs, and they do not say at which byte a row begins.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from curation.pool.place import CHUNK, Place, Refused, open_target
from curation.pool.rows import BASE64_COLUMNS, BYTES_COLUMNS, PATH_COLUMNS, URL_COLUMNS, Row, by_preference
from shards.errors import ShardError, UsageError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
# Bytes of one line: as a Python object, JSON may take twenty times as much.
MAX_JSON_LINE = 32 << 20
MAX_CSV_LINE = 1 << 20
_COLUMNS = tuple(dict.fromkeys((*BYTES_COLUMNS, *BASE64_COLUMNS, *PATH_COLUMNS, *URL_COLUMNS)))
_ONE_ROW = 64 << 10  # bytes fetched from a store to read a single row


class _Record(NamedTuple):
    """The bytes start..stop of a table, and what they say: a line of JSON, fields of CSV, None if neither."""

    start: int
    stop: int
    content: Any


def cut(place: Place, source: str) -> list[dict[str, Any]]:
    """The parts of a table: {first byte, rows, sha256 of its bytes and of the header}, by reading it once.

    Raises UsageError when no column can hold images, or the table cannot be read.
    """
    try:
        with open_target(place.target(source)) as stream:
            lines = _Lines(stream, _limit(source))
            header = _take_header(lines, source)
            parts = _cut(lines, header, source, place.config.rows_per_unit)
    except (Refused, OSError) as error:
        raise UsageError(f"{place.url}/{source}: cannot be read: {error}") from error
    if header is not None:
        columns(header, place, source)
    return parts


def read(place: Place, payload: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of one part. Raises ShardError when the table cannot be read."""
    source = payload["table"]
    try:
        header = _header(place, source)
        with open_target(place.target(source)) as stream:
            stream.seek(payload["first"])
            records = _records(_Lines(stream, _limit(source), payload["first"]), source)
            for record, _ in zip(records, range(payload["rows"]), strict=False):
                yield _row(record, header, place, source)
    except (Refused, OSError) as error:
        raise ShardError(f"{place.url}/{source}: cannot be read: {error}") from error


def value_at(place: Place, source: str, offset: int, column: str) -> Any:
    """The value of one row, which begins at byte `offset`. Raises ShardError when there is none."""
    try:
        header = _cached_header(place, source, place.stamp(source))
        with open_target(place.target(source), _ONE_ROW) as stream:
            stream.seek(offset)
            record = next(_records(_Lines(stream, _limit(source), offset), source), None)
    except (Refused, OSError) as error:
        raise ShardError(f"{place.url}/{source}: cannot be read: {error}") from error
    row = _row(record, header, place, source) if record else None
    if row is None or row.values is None or column not in row.values:
        raise ShardError(f"{source}: no row at byte {offset}; the table has changed, run annotate again")
    return row.values[column]


def columns(names: tuple[str, ...], place: Place, source: str) -> tuple[str, ...]:
    """The columns that may hold an image, best first. Raises UsageError when there is none."""
    if (named := place.config.image_column) is not None:
        if named in names:
            return (named,)
        raise UsageError(f"{source}: no column {named!r} (`image_column`) among {list(names)[:20]}")
    if found := by_preference(names, _COLUMNS):
        return found
    raise UsageError(
        f"{source}: no column that names images among {list(names)[:20]}: expected one called path or url; "
        "name it in `image_column`"
    )


def _row(record: _Record, header: tuple[str, ...] | None, place: Place, source: str) -> Row:
    if header is not None:
        fields = record.content
        values = None if fields is None else dict(zip(header, fields, strict=False))
        return Row(record.start, values, columns(header, place, source))
    try:
        found = json.loads(record.content) if record.content is not None else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return Row(record.start, None, ())
    named = place.config.image_column
    return Row(record.start, found, by_preference(found, _COLUMNS) if named is None else (named,))


def _cut(lines: "_Lines", header: tuple[str, ...] | None, source: str, size: int) -> list[dict[str, Any]]:
    parts, rows = list[dict[str, Any]](), 0
    salt = repr(header).encode()
    first, stop, lines.digest = lines.position, lines.position, sha256(salt)
    for record in _records(lines, source):
        rows, stop = rows + 1, record.stop
        if rows == size:
            parts.append({"first": first, "rows": rows, "sha256": lines.digest.hexdigest()})
            first, rows, lines.digest = stop, 0, sha256(salt)
    if rows or not parts:
        parts.append({"first": first, "rows": rows, "sha256": lines.digest.hexdigest()})
    return parts


def _records(lines: "_Lines", source: str) -> Iterator[_Record]:
    """Every record from here on; blank lines are none."""
    if not _is_csv(source):
        for start, line in lines:
            if line is None or line.strip():
                yield _Record(start, lines.position, line)
        return
    reader = csv.reader(_decoded(lines), delimiter=_delimiter(source), strict=False)
    while True:
        start = lines.position
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield _Record(start, lines.position, None)
            continue
        if fields:
            yield _Record(start, lines.position, None if fields == [_TOO_LONG] else fields)


_TOO_LONG = "\0"  # a line that is not even tried


def _decoded(lines: "_Lines") -> Iterator[str]:
    for _, line in lines:
        yield _TOO_LONG if line is None else line.decode("utf-8", "surrogateescape").replace("\0", "\ufffd")


class _Lines:
    """(byte where it begins, line) of a stream; None for a line over `limit`, which is passed over."""

    def __init__(self, stream: Any, limit: int, position: int = 0) -> None:
        self.stream, self.limit, self.position, self.digest = stream, limit, position, sha256()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> tuple[int, bytes | None]:
        start, line = self.position, self._piece(self.limit + 1)
        if not line:
            raise StopIteration
        if len(line) <= self.limit or line.endswith(b"\n"):
            return start, line
        while (piece := self._piece(CHUNK)) and not piece.endswith(b"\n"):
            pass
        return start, None

    def _piece(self, size: int) -> bytes:
        piece = bytes(self.stream.readline(size))
        self.position += len(piece)
        self.digest.update(piece)
        return piece


def _take_header(lines: _Lines, source: str) -> tuple[str, ...] | None:
    """The names in the first record of a CSV; None for JSON lines."""
    if not _is_csv(source):
        return None
    record = next(_records(lines, source), None)
    if record is None or record.content is None:
        raise UsageError(f"{source}: expected a line of column names at its beginning")
    return tuple(name.removeprefix("\ufeff").strip() for name in record.content)


def _header(place: Place, source: str) -> tuple[str, ...] | None:
    with open_target(place.target(source), _ONE_ROW) as stream:
        return _take_header(_Lines(stream, _limit(source)), source)


@lru_cache(maxsize=16)
def _cached_header(place: Place, source: str, _stamp: str) -> tuple[str, ...] | None:
    return _header(place, source)


def _is_csv(source: str) -> bool:
    return source.lower().endswith((".csv", ".tsv"))


def _delimiter(source: str) -> str:
    return "\t" if source.lower().endswith(".tsv") else ","


def _limit(source: str) -> int:
    return MAX_CSV_LINE if _is_csv(source) else MAX_JSON_LINE
