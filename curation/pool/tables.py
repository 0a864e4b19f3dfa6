"""Tables whose rows are images: parquet, CSV, TSV, JSON lines. Every row is one input, whatever it holds.

A row's image is bytes (a binary column, Hugging Face's struct {bytes, path}, base64 in JSON), or a path or
URL of a file that lies inside the pool. Nothing is fetched from the web. The other columns travel along as
JSON. What is particular to parquet is in `parquet`, to text in `text`.
"""

import base64
import binascii
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from curation.decode import BAD_ROW, NO_IMAGE, TOO_LARGE
from curation.pool import parquet, text
from curation.pool.inputs import MAX_METADATA, Input, unit_name
from curation.pool.place import Content, Entry, Place, Refused, read_bounded
from curation.pool.rows import BASE64_COLUMNS, Row
from shards.errors import ShardError
from shards.units import Unit

TABLE_SUFFIXES = (".parquet", *text.SUFFIXES)
_LISTING_THREADS = 32  # footers of a remote pool are small and many
_INLINE = "data:"


class Image(NamedTuple):
    """A row's image: the column it is in, how it is written, and what is written there."""

    column: str
    how: Literal["bytes", "base64", "reference", "nonsense"]
    value: Any


def table_units(place: Place, entries: Sequence[Entry]) -> tuple[Unit, ...]:
    """The units of all tables: `rows_per_unit` rows of a text table, about as many of whole row groups of a
    parquet file; named after the table and the row (or byte) they begin at.

    Reads the footers of parquet files and all of text tables. Raises UsageError for a table without a column
    of images. A table that is damaged is a unit still, and will end in quarantine.
    """

    def units(entry: Entry) -> list[Unit]:
        if entry.name.lower().endswith(".parquet"):
            digest = place.digest(entry)
            return [_unit(entry.name, part, {entry.name: digest}) for part in parquet.cut(place, entry.name)]
        parts = text.cut(place, entry.name)
        return [_unit(entry.name, part, {entry.name: part.pop("sha256")}) for part in parts]

    if place.local is not None:
        return tuple(unit for entry in entries for unit in units(entry))
    with ThreadPoolExecutor(_LISTING_THREADS) as threads:
        return tuple(unit for found in threads.map(units, entries) for unit in found)


def read_table(place: Place, payload: Mapping[str, Any], max_bytes: int) -> Iterator[Input]:
    """The rows of one unit, in order. Raises ShardError for a damaged table."""
    source = payload["table"]
    reader = parquet.read if source.lower().endswith(".parquet") else text.read
    for row in reader(place, payload):
        yield _input(place, source, row, max_bytes)


def read_row(place: Place, row: Mapping[str, Any], max_bytes: int) -> bytes:
    """The bytes of the image of one annotated row. Raises ShardError when it is not there any more."""
    source, offset, column = row["source"], row["offset"], row["member"]
    reader = parquet.value_at if source.lower().endswith(".parquet") else text.value_at
    image = _image(column, reader(place, source, offset, column))
    content = _content(place, source, image, max_bytes) if image else Content(0, "", None, NO_IMAGE)
    if content.data is None:
        raise ShardError(f"{source}: the image of row {offset} cannot be read any more: {content.status}")
    return content.data


def _unit(source: str, part: Mapping[str, Any], inputs: Mapping[str, str]) -> Unit:
    name = f"{unit_name('table', source)}-{part['first']:012d}"
    return Unit(name, {"table": source, **part}, inputs)


def _input(place: Place, source: str, row: Row, max_bytes: int) -> Input:
    if row.values is None:
        return Input(source, None, row.offset, 0, "", None, BAD_ROW)
    candidates = (_image(column, row.values.get(column)) for column in row.columns)
    image = next((found for found in candidates if found), None)
    metadata = _metadata(row.values, image)
    if image is None:
        return Input(source, None, row.offset, 0, "", None, NO_IMAGE, metadata)
    content = _content(place, source, image, max_bytes)
    return Input(source, image.column, row.offset, *content, metadata)


def _image(column: str, value: Any) -> Image | None:
    """What a value says of an image; None when it says nothing (null, or empty text)."""
    is_struct = isinstance(value, Mapping)  # Hugging Face's Image feature
    if is_struct:
        inner = value.get("bytes")
        if isinstance(inner, str) and inner:
            return Image(column, "base64", inner)
        value = value.get("path") if inner is None or inner == "" else inner
    if value is None or value == "":
        return None
    if isinstance(value, (bytes, memoryview)):
        return Image(column, "bytes", value)
    if not isinstance(value, str):
        return Image(column, "nonsense", value)
    if value.startswith(_INLINE):
        return Image(column, "base64", value.partition(",")[2])
    return Image(
        column, "base64" if column.lower() in BASE64_COLUMNS and not is_struct else "reference", value
    )


def _content(place: Place, source: str, image: Image, max_bytes: int) -> Content:
    data = image.value
    try:
        if image.how == "reference":
            return read_bounded(place.reference(source, data), max_bytes)
        if image.how == "base64":
            data = base64.b64decode(data, validate=True)
    except Refused as error:
        return Content(0, "", None, error.status)
    except (binascii.Error, ValueError):
        return Content(0, "", None, BAD_ROW)
    if image.how == "nonsense":
        return Content(0, "", None, BAD_ROW)
    size, digest = len(data), sha256(data).hexdigest()
    return Content(size, digest, None, TOO_LARGE) if size > max_bytes else Content(size, digest, bytes(data))


def _metadata(values: Mapping[str, Any], image: Image | None) -> str | None:
    """The row as JSON, without the image's bytes; None when nothing is left or it is too long."""
    plain = {name: _plain(value) for name, value in values.items() if not _is_bytes(value)}
    if image is not None and image.how == "base64":
        plain.pop(image.column)
    try:
        content = json.dumps(plain, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")
    except (RecursionError, ValueError):
        return None
    return content.decode() if plain and len(content) <= MAX_METADATA else None


def _plain(value: Any) -> Any:
    """What JSON can hold: bytes are left out, anything else becomes text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items() if not _is_bytes(part)}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    return None if _is_bytes(value) else str(value)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, (bytes, memoryview))
