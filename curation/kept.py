"""The kept rows of a selection, joined with their annotations and cut by key: one small table per shard to
be.

Rows are spread over files by key first and sorted file by file, so memory holds a 256th of them. A worker
then reads its own table and nothing else.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from curation.decisions import DecisionStream, funnel
from curation.keys import to_words
from curation.tables import Tables
from shards.errors import ShardError
from shards.files import write_atomic
from shards.index import read_table, write_table
from shards.sample import canonical_json

KEY_BITS = 32  # of a key's 128, enough to cut the key space into ranges
READ = ("source", "member", "offset", "bytes", "key", "metadata", "format", "width", "height", "orientation")
COLUMNS = (*READ, "text_area", "person_boxes", "text_boxes", "sha256")
_ROWS_PER_FILE = 1 << 18  # rows that are sorted at once, until there are more than 256 times as many
_FILES = 256
_WAITING = 256 << 20  # bytes of rows that wait to be spread over the files
_DONE = "kept.json"


@dataclass(frozen=True)
class Slice:
    """The kept rows of one range of keys: their number, the sha256 of their table, its file."""

    number: int
    samples: int
    sha256: str
    file: str


def cut_by_key(annotations: str | Path, selection: Path, samples_per_slice: int, folder: Path) -> list[Slice]:
    """Write the kept rows to `folder`, one table per range of keys, sorted by (key, source, offset), one row
    per key. What an earlier call has finished there is returned as it is.

    The ranges are equal shares of the key space, as many as would hold `samples_per_slice` each.
    """
    finished = folder / _DONE
    if finished.is_file():
        return [Slice(**entry) for entry in json.loads(finished.read_bytes())]
    shutil.rmtree(folder, ignore_errors=True)
    spread = folder / "spread"
    spread.mkdir(parents=True)
    kept = int(funnel(selection)["kept"])
    slices = -(-kept // samples_per_slice)
    files = min(_FILES, max(1, -(-kept // _ROWS_PER_FILE)), max(slices, 1))
    for count, table in enumerate(_batches(annotations, selection)):
        _spread(table, slices, files, spread, count)
    found = []
    for number in range(files):
        found += list(_write(spread, number, slices, folder))
    shutil.rmtree(spread)
    write_atomic(finished, canonical_json([entry.__dict__ for entry in found]))
    return found


def read_slice(folder: Path, file: str, sha256: str) -> pa.Table:
    """The rows of one slice. Raises ShardError when they are not those that were planned."""
    path = folder / file
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ShardError(f"{path}: missing; run materialise again") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ShardError(f"{path}: changed since this unit was planned; run materialise again")
    return read_table(content, str(path))


def slice_of(words: Any, slices: int) -> Int64[np.ndarray, " rows"]:
    """Which of `slices` equal ranges of the key space each key lies in, by its first 32 bits."""
    prefix = (words[:, 0] >> np.uint64(64 - KEY_BITS)).astype(np.int64)
    number: Int64[np.ndarray, " rows"] = (prefix * slices) >> KEY_BITS
    return number


def _batches(annotations: str | Path, selection: Path) -> Iterator[pa.Table]:
    """Kept rows with their annotations, some 256 MB at a time; both sides are in the same order."""
    tables = Tables.open(annotations)
    decisions, waiting, size = DecisionStream(selection, ("key", "people", "kept")), list[pa.Table](), 0
    for batch in tables.batches():
        decided = decisions.take(batch.rows)
        kept = decided["kept"]
        if not pc.any(kept).as_py():
            continue
        table = tables.read(batch, COLUMNS)
        if not table["key"].equals(decided["key"]):
            raise ShardError(
                f"{selection}: not a selection of {annotations}: keys differ near row {batch.start}"
            )
        waiting.append(table.filter(kept).append_column("people", decided["people"].filter(kept)))
        size += waiting[-1].nbytes
        if size > _WAITING:
            yield pa.concat_tables(waiting)
            waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _spread(table: pa.Table, slices: int, files: int, folder: Path, count: int) -> None:
    """Append rows to the files of their keys, as files of their own: `<file>-<count>.arrow`."""
    number = slice_of(to_words(table["key"].combine_chunks()), slices) * files // slices
    order = np.argsort(number, kind="stable")
    table, bounds = table.take(pa.array(order)), np.searchsorted(number[order], np.arange(files + 1))
    for file in range(files):
        if bounds[file] < bounds[file + 1]:
            part = table.slice(bounds[file], bounds[file + 1] - bounds[file])
            path = folder / f"{file:03d}-{count:06d}.arrow"
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, part.schema) as writer:
                writer.write_table(part)


def _write(spread: Path, file: int, slices: int, folder: Path) -> Iterator[Slice]:
    """Sort the rows of one file and write its slices."""
    parts = []
    for path in sorted(spread.glob(f"{file:03d}-*.arrow")):
        with pa.OSFile(str(path)) as source:
            parts.append(pa.ipc.open_file(source).read_all())
        path.unlink()
    if not parts:
        return
    table = pa.concat_tables(parts)
    del parts
    order = [(name, "ascending") for name in ("key", "source", "offset")]
    table = table.take(pc.sort_indices(table, order))
    keys = table["key"].combine_chunks()
    if len(keys) > 1:  # without a duplicates rule the same bytes may be kept twice; a shard holds a key once
        table = table.filter(pa.concat_arrays([pa.array([True]), pc.not_equal(keys[1:], keys[:-1])]))
    number = slice_of(to_words(table["key"].combine_chunks()), slices)
    for one in np.unique(number).tolist():
        low, high = np.searchsorted(number, [one, one + 1])
        name = f"{one:06d}.parquet"
        write_table(table.slice(low, high - low), folder / name)
        content = (folder / name).read_bytes()
        yield Slice(one, int(high - low), hashlib.sha256(content).hexdigest(), name)
