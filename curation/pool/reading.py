"""From a unit to its inputs, and from a row of an annotation table back to its bytes."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from curation.pool.files import read_file
from curation.pool.inputs import Input, PoolConfig
from curation.pool.listing import locate
from curation.pool.place import Place, Refused, read_range
from curation.pool.tables import TABLE_SUFFIXES, read_row, read_table
from curation.pool.tars import read_tar
from shards.errors import ShardError
from shards.sample import content_key
from shards.units import Unit


def read_unit(root: str | Path, unit: Unit, config: PoolConfig) -> Iterator[Input]:
    """The inputs of one unit in order, one in memory at a time; of one larger than `max_bytes`, only its
    digest.

    Raises ShardError for a damaged tar or table (the whole unit is then suspect); a bad file, sample or row
    is an Input with a status.
    """
    place = locate(root, config).place
    if "tar" in unit.payload:
        yield from read_tar(place, unit.payload["tar"], config.max_bytes)
    elif "table" in unit.payload:
        yield from read_table(place, unit.payload, config.max_bytes)
    else:
        for name in unit.payload["files"]:
            yield read_file(place, name, config.max_bytes)


def read_input(root: str | Path, row: Mapping[str, Any], config: PoolConfig | None = None) -> bytes:
    """The bytes of one row of an annotation table: `source`, `member`, `offset`, `bytes` and `key` are used.

    `config`: the pool's; only `allow` and `storage_options` matter. Raises ShardError when they are not what
    was annotated.
    """
    place = locate(root, config or PoolConfig()).place
    where = f"{place.url}/{row['source']}"
    try:
        data = _read(place, row)
    except (OSError, Refused) as error:
        raise ShardError(f"{where}: cannot be read any more ({error}); run annotate again") from error
    if content_key(data) != row["key"]:
        raise ShardError(
            f"{where}: its bytes have changed since annotate: expected key {row['key']}, "
            f"got {content_key(data)}; run annotate and select again"
        )
    return data


def _read(place: Place, row: Mapping[str, Any]) -> bytes:
    source, offset, size = row["source"], row["offset"], row["bytes"]
    if offset is not None and source.lower().endswith(TABLE_SUFFIXES):
        return read_row(place, row, size)
    if not size:
        return b""  # S3 has no range of nothing
    if offset is None:
        return read_range(place.target(source), 0, size + 1)  # one more byte: has the file grown?
    return read_range(place.target(source), offset, offset + size)
