"""What a selection remembers of every row while it runs: compact arrays in files, so memory holds no pool.

| array | bytes a row | |
|---|---|---|
| step, detail, people | 1 + 1 + 4 | the verdict so far |
| key | 16 | |
| pixels | 16 | 128 bits of the pixels' digest when a rule asks for it; zero where not measured |
| keeper | 8 | row that a duplicate is one of; a hole in the file where there is none |
| near: row, hash, pixels, bytes, thumbnail | 32 + 256 | of rows that may reach a near-duplicates rule |
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from curation.columns import THUMBNAIL_SIDE
from curation.duplicates import by_preference, bytes_per_row, resolve_exact, resolve_near
from curation.rules import Near, RuleSet
from shards.errors import UsageError

CHUNK = 1 << 22  # rows of an array in memory at once
_EXACT_BYTES = 96  # a row in memory while exact duplicates are resolved
_PREFERENCE_BYTES = 96  # a row in memory while candidates are sorted by preference
_ROWS = {"step": "u1", "detail": "u1", "people": "<i4", "keeper": "<i8"}
NEAR = np.dtype([("row", "<i8"), ("hash", "<u8"), ("pixels", "<i8"), ("bytes", "<i8")])


@dataclass(frozen=True)
class Ledger:
    """The arrays of `rows` rows in `folder`. Rows are numbered through all tables."""

    folder: Path
    rows: int

    @classmethod
    def create(cls, folder: Path, rows: int) -> "Ledger":
        """New arrays, zero everywhere (files with holes)."""
        folder.mkdir(parents=True, exist_ok=True)
        ledger = cls(folder, rows)
        for name in (*_ROWS, "key", "pixels"):
            (folder / name).unlink(missing_ok=True)
            with (folder / name).open("wb") as file:
                file.truncate(rows * (16 if name in ("key", "pixels") else np.dtype(_ROWS[name]).itemsize))
        for name in ("near", "thumbnail"):
            (folder / name).write_bytes(b"")
        return ledger

    def array(self, name: str) -> Any:
        """One array, mapped: rows, or rows x 2 words for key and identity."""
        if not self.rows:
            return np.zeros((0, 2) if name in ("key", "pixels") else 0, _ROWS.get(name, "<u8"))
        shape = (self.rows, 2) if name in ("key", "pixels") else (self.rows,)
        return np.memmap(self.folder / name, _ROWS.get(name, "<u8"), "r+", shape=shape)

    def near(self) -> tuple[Any, Any]:
        """(records of dtype NEAR, thumbnails) of the rows that may reach a near-duplicates rule."""
        count = (self.folder / "near").stat().st_size // NEAR.itemsize
        side = THUMBNAIL_SIDE**2
        if not count:
            return np.zeros(0, NEAR), np.zeros((0, side), np.uint8)
        records = np.memmap(self.folder / "near", NEAR, "r", shape=(count,))
        return records, np.memmap(self.folder / "thumbnail", np.uint8, "r", shape=(count, side))


def resolve(ledger: Ledger, rules: RuleSet, memory: int) -> None:
    """Apply the duplicates rules, in order, to what the other rules have written into the ledger.

    A row that is dropped names its keeper's row in `keeper`. Takes part: a row that no earlier rule has
    rejected, also if a later one will. `memory`: bytes. Raises UsageError when near duplicates need more.
    """
    steps = rules.steps
    for rule in rules.rules:
        if rule.duplicates is None:
            continue
        number = steps.index(rule.reason)
        same = rule.duplicates
        # Equal bytes have equal pixels: where those were measured throughout, they say it all.
        if same.bytes and not (same.pixels and _measured(ledger, number)):
            _exact(ledger, "key", number, memory)
        if same.pixels:
            _exact(ledger, "pixels", number, memory)
        if same.near is not None:
            _near(ledger, rule.reason, same.near, number, memory)


def _measured(ledger: Ledger, number: int) -> bool:
    """Whether every row that reaches this step has a digest of its pixels."""
    step, pixels = ledger.array("step"), ledger.array("pixels")
    return all(
        bool((pixels[start:stop].any(axis=1) | (step[start:stop] <= number)).all())
        for start, stop in _chunks(ledger.rows)
    )


def _exact(ledger: Ledger, by: str, number: int, memory: int) -> None:
    """Equal keys or pixels among the rows that reach this step, one range of digests in memory at a time."""
    step, key, identity = (ledger.array(name) for name in ("step", "key", by))
    parts = 1
    while parts < 1 << 16 and ledger.rows * _EXACT_BYTES / parts > memory:
        parts *= 2
    for part in range(parts):
        rows = _rows_of_part(step, identity, number, part, parts)
        found = resolve_exact(identity[rows], key[rows])
        dropped = found >= 0
        _drop(ledger, rows[dropped], rows[found[dropped]], number)


def _rows_of_part(step: Any, identity: Any, number: int, part: int, parts: int) -> Int64[np.ndarray, " rows"]:
    """The rows that reach this step and whose digest begins with `part` of `parts` (a power of two)."""
    found = [np.zeros(0, np.int64)]
    for start, stop in _chunks(len(step)):
        chosen = (step[start:stop] > number) & identity[start:stop].any(axis=1)
        if parts > 1:
            chosen &= (identity[start:stop, 0] >> np.uint64(65 - parts.bit_length())) == np.uint64(part)
        found.append(np.flatnonzero(chosen) + start)
    return np.concatenate(found)


def _near(ledger: Ledger, reason: str, near: Near, number: int, memory: int) -> None:
    records, thumbnails = ledger.near()
    place = np.flatnonzero(ledger.array("step")[records["row"]] > number)
    needed = len(place) * max(bytes_per_row(near.hamming), _PREFERENCE_BYTES)
    if needed > memory:
        raise UsageError(
            f"rule {reason!r}: resolving near duplicates among {len(place):,} images needs "
            f"{needed / 2**30:.2f} GiB, the limit is {memory / 2**30:.2f}: raise --memory, or let stricter "
            "rules come before it"
        )
    key = ledger.array("key")[records["row"][place]]
    order = place[by_preference(records["pixels"][place], records["bytes"][place], key)]
    found = resolve_near(np.asarray(records["hash"]), thumbnails, order, near)
    dropped = np.flatnonzero(found >= 0)
    _drop(ledger, records["row"][dropped], records["row"][found[dropped]], number)


def _drop(ledger: Ledger, rows: Any, keepers: Any, number: int) -> None:
    ledger.array("step")[rows] = number
    ledger.array("detail")[rows] = 0
    ledger.array("keeper")[rows] = keepers


def _chunks(rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, rows, CHUNK):
        yield start, min(start + CHUNK, rows)
