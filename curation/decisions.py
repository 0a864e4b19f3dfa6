"""Reading a finished selection: its summary, its decisions, examples of each reason."""

import heapq
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.funnel import KEPT
from curation.pool import PoolConfig
from curation.tables import Tables
from shards.config import parse_config
from shards.errors import ShardError, UsageError
from shards.manifest import Manifest, read_manifest

STAGE = "select"
DECISIONS_NAME = "decisions"
SUMMARY_FILE = "decisions.summary.json"


def reading_of(annotated: Manifest, storage_options: dict[str, Any] | None = None) -> PoolConfig:
    """How the pool was read when it was annotated; credentials, which no manifest holds, come with
    `storage_options`.
    """
    settings = dict(annotated.provenance.get("config", {}).get("pool", {}))
    return parse_config(settings | {"storage_options": storage_options or {}}, PoolConfig, "pool")


def selected(selection: Path | str) -> Manifest:
    """The manifest of a finished selection. Raises UsageError for anything else."""
    manifest = read_manifest(selection)
    if manifest.provenance.get("stage", {}).get("name") != STAGE:
        raise UsageError(f"{selection}: expected the output of `vitruvian curate select`")
    return manifest


def funnel(selection: Path) -> dict[str, Any]:
    """The summary of a finished selection; see `curation.funnel.Tally.to_json`."""
    selected(selection)
    content: dict[str, Any] = json.loads((selection / SUMMARY_FILE).read_bytes())
    return content


def read_decisions(selection: Path) -> pa.Table:
    """The decision table of a selection (schema `curation.columns.DECISIONS`), all of it in memory."""
    selected(selection)
    return pq.read_table(selection / f"{DECISIONS_NAME}.parquet")


def iterate_decisions(selection: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The same, some 100,000 rows at a time."""
    selected(selection)
    with pq.ParquetFile(selection / f"{DECISIONS_NAME}.parquet") as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, None if columns is None else list(columns))


class DecisionStream:
    """The decisions of a selection as a stream of any number of rows."""

    def __init__(self, selection: Path, columns: Sequence[str]) -> None:
        self.selection = selection
        self.stream = iterate_decisions(selection, columns)
        self.waiting: list[pa.Table] = []
        self.rows = 0

    def take(self, count: int) -> pa.Table:
        """The next `count` rows. Raises ShardError when there are fewer."""
        while self.rows < count:
            table = next(self.stream, None)
            if table is None:
                raise ShardError(f"{self.selection}: has fewer rows than expected; run select again")
            self.waiting.append(table)
            self.rows += table.num_rows
        table = pa.concat_tables(self.waiting)
        self.waiting, self.rows = [table.slice(count)], self.rows - count
        return table.slice(0, count)


def examples(
    annotations: Path | str, selection: Path, count: int, reasons: Sequence[str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Up to `count` rows of each reason ("kept", "duplicate", "decode:truncated", "person:none", ...), the
    first by key; of all reasons, or of those named.

    Rows are dicts with the columns of ANNOTATIONS and `people`, `kept`, `reason`;
    `curation.pool.read_input(pool, row)` gives their bytes.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    start = 0
    for table in iterate_decisions(selection, ("key", "reason")):
        groups = reason_groups(table["reason"])
        smallest_keys(found, groups, table["key"], start, count)
        start += table.num_rows
    tables, wanted = Tables.open(annotations), found if reasons is None else reasons
    chosen = {name: [position for _, position in found.get(name, ())] for name in wanted}
    decided = decisions_at(selection, sorted({position for rows in chosen.values() for position in rows}))
    return {
        name: [row | decided[at] for row, at in zip(tables.rows(rows), rows, strict=True)]
        for name, rows in chosen.items()
    }


def decisions_at(selection: Path, positions: Sequence[int]) -> dict[int, dict[str, Any]]:
    """{"people", "kept", "reason"} of the rows at some positions (ascending) of a selection."""
    found, start = dict[int, dict[str, Any]](), 0
    for table in iterate_decisions(selection, ("people", "kept", "reason")):
        inside = [position for position in positions if start <= position < start + table.num_rows]
        rows = table.take(pa.array([position - start for position in inside], pa.int64())).to_pylist()
        found.update(zip(inside, rows, strict=True))
        start += table.num_rows
    return found


def reason_groups(reasons: pa.ChunkedArray) -> pa.Array:
    """Reasons without what is peculiar to one input: `duplicate:<key>` -> `duplicate`; null -> `kept`."""
    text = pc.replace_substring_regex(reasons.combine_chunks(), ":[0-9a-f]{32}$", "")
    return pc.fill_null(text, KEPT).dictionary_encode()


def smallest_keys(
    found: dict[str, list[tuple[str, int]]],
    groups: pa.DictionaryArray,
    keys: pa.ChunkedArray,
    start: int,
    count: int,
    wanted: Sequence[str] | None = None,
) -> None:
    """Keep in `found` the `count` rows of each group (or of those wanted) with the smallest keys, as
    (key, position), sorted.

    Keys are digests, so the smallest are a random sample, and the same one however the rows are cut.
    `start`: position of the first row of `groups`.
    """
    keys = keys.combine_chunks()
    for number, name in enumerate(groups.dictionary.to_pylist()):
        if wanted is not None and name not in wanted:
            continue
        rows = pc.indices_nonzero(pc.equal(groups.indices, number))
        place = pa.table({"key": keys.take(rows), "row": rows})
        # By row as well: where keys are equal, the first rows are taken, whatever the algorithm.
        chosen = place.take(pc.select_k_unstable(place, count, [("key", "ascending"), ("row", "ascending")]))
        candidates = [(entry["key"], start + entry["row"]) for entry in chosen.to_pylist()]
        found[name] = heapq.nsmallest(count, [*found.get(name, ()), *candidates])
