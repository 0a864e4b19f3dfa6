"""select: rules over the columns of `annotate`; every input kept or rejected for one reason, in seconds, no
pixels.

Two passes over the tables' batches, in bounded memory: the first judges rows by what stands in them, the
second writes the decisions; in between duplicates are resolved over all rows (`curation.ledger`). The bytes
written depend on the tables and the rules, not on threads, memory or the cut into batches.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64, UInt64

from curation.columns import DECISIONS
from curation.decisions import DECISIONS_NAME, STAGE, SUMMARY_FILE
from curation.funnel import Tally
from curation.histograms import Histograms
from curation.job import Job
from curation.keys import to_hex, to_words
from curation.ledger import NEAR, Ledger, resolve
from curation.rules import DECODE, SUBSET, RuleSet
from curation.tables import BATCH, Batch, Tables
from curation.verdicts import PASSES, Verdicts, in_subset, judge, needed_columns, read_boxes
from shards.errors import ShardError, UsageError
from shards.files import temporary_folder, temporary_path
from shards.manifest import Manifest, commit_files, read_manifest
from shards.parallel import in_order
from shards.sample import canonical_json, digest_json
from shards.units import Stage, Unit, code_digest

MEMORY = 4 << 30  # bytes
_NEAR_COLUMNS = ("phash", "thumbnail", "width", "height", "bytes")
_CODE = tuple(
    f"curation.{name}"
    for name in (
        "columns",
        "duplicates",
        "funnel",
        "histograms",
        "keys",
        "ledger",
        "rules",
        "select",
        "verdicts",
    )
)


def plan_select(
    annotations: Path | str, rules: RuleSet, memory: int = MEMORY, scratch: Path | None = None
) -> Job:
    """One unit: all tables of `annotations` -> `decisions.parquet` and its summary.

    `memory`: bytes, a limit on what resolving duplicates may hold. `scratch`: where the ledger lies while it
    runs (in the output folder by default); 38 bytes a row, and 300 for each that reaches a near-duplicates
    rule. Raises UsageError when the annotations are not complete.
    """
    manifest = annotated(annotations)
    rules = rules.resolved()
    config = rules.model_dump(mode="json", exclude_none=True)
    unit = Unit(DECISIONS_NAME, {}, {"annotations": manifest.digest})
    key = digest_json({"rules": config, "code": code_digest(*_CODE)})
    provenance = {"rules": config, "annotations": manifest.digest, "pool": manifest.provenance["pool"]}
    return Job(STAGE, key, (unit,), Select(annotations, rules, memory, scratch), provenance)


def annotated(annotations: Path | str) -> Manifest:
    """The manifest of complete annotations. Raises UsageError for anything else."""
    manifest = read_manifest(annotations)
    if manifest.provenance.get("stage", {}).get("name") != "annotate":
        raise UsageError(f"{annotations}: expected the output of `vitruvian curate annotate`")
    if manifest.quarantined:
        raise UsageError(
            f"{annotations}: {len(manifest.quarantined)} units in quarantine "
            f"({manifest.quarantined[0]}, ...): their inputs have no row; "
            "repair or remove them from the pool and run annotate again"
        )
    return manifest


@dataclass(frozen=True)
class Select:
    """The worker: the annotation tables at `annotations` -> `decisions.parquet` and
    `decisions.summary.json`.
    """

    annotations: Path | str
    rules: RuleSet
    memory: int = MEMORY
    scratch: Path | None = None
    threads: int | None = None

    def __call__(self, stage: Stage, unit: Unit) -> None:
        tables = Tables.open(self.annotations)
        table = temporary_path(stage.out, unit.name, "parquet")
        counts = temporary_path(stage.out, unit.name, "summary.json")
        folder = temporary_folder(self.scratch or stage.out, unit.name) / "ledger"
        summary = self.decide(tables, folder, table)
        counts.write_bytes(canonical_json(summary))
        rejects = {reason: n for step in summary["stages"] for reason, n in step["reasons"].items()}
        commit_files(
            stage.out,
            unit.name,
            {f"{unit.name}.parquet": table, SUMMARY_FILE: counts},
            samples=summary["inputs"],
            rejects=rejects,
            stage_name=stage.name,
            stage_key=stage.key,
            inputs=unit.inputs,
        )
        shutil.rmtree(folder, ignore_errors=True)

    def decide(self, tables: Tables, folder: Path, path: Path) -> dict[str, Any]:
        """Write the decisions of all rows to `path`; returns the summary."""
        rows = int(tables.starts[-1])
        expected = tables.manifest.provenance["pool"]["inputs"]
        if expected is not None and rows != expected:
            raise ShardError(
                f"{self.annotations}: the pool has {expected} inputs, the tables {rows} rows: inputs were "
                "lost or counted twice"
            )
        ledger = Ledger.create(folder, rows)
        statuses, histograms = self._judge(tables, ledger)
        resolve(ledger, self.rules, self.memory)
        tally = Tally(self.rules, statuses)
        with pq.ParquetWriter(
            path, DECISIONS, compression="zstd", use_dictionary=["unit", "reason"]
        ) as writer:
            for start in range(0, rows, BATCH):
                decisions = self._decisions(tables, ledger, tally, start, min(start + BATCH, rows))
                writer.write_table(decisions, row_group_size=BATCH)
        return tally.to_json() | {"histograms": histograms.to_json()}

    def _judge(self, tables: Tables, ledger: Ledger) -> tuple[tuple[str, ...], Histograms]:
        """The first pass. Returns what `detail` means at the step `decode`, and the columns' histograms."""
        near = [n for n, rule in _numbered(self.rules) if rule.duplicates and rule.duplicates.near]
        pixels = any(rule.duplicates and rule.duplicates.pixels for rule in self.rules.rules)
        columns = sorted(
            {
                *needed_columns(self.rules),
                *(["pixel_sha256"] if pixels else []),
                *(_NEAR_COLUMNS if near else []),
            }
        )
        statuses, histograms = dict[str, int](), Histograms(self.rules)
        arrays = {name: ledger.array(name) for name in ("step", "detail", "people", "key", "pixels")}
        work = partial(_read_and_judge, tables, self.rules, columns, near[0] if near else None)
        threads = self.threads or min(cpu_count() or 1, 4)
        with (
            (ledger.folder / "near").open("ab") as records,
            (ledger.folder / "thumbnail").open("ab") as images,
        ):
            for batch, judged in in_order(work, tables.batches(), threads):
                part = slice(batch.start, batch.start + batch.rows)
                found = judged.verdicts
                numbers = [statuses.setdefault(status, len(statuses)) for status in found.statuses]
                decode = found.step == self.rules.steps.index(DECODE)
                found.detail[decode] = np.array(numbers, np.uint8)[found.detail[decode]]
                arrays["step"][part], arrays["detail"][part] = found.step, found.detail
                arrays["people"][part], arrays["key"][part] = found.people, judged.key
                if judged.pixels is not None:
                    arrays["pixels"][part] = judged.pixels
                if judged.near is not None:
                    judged.near["row"] += batch.start
                    judged.near.tofile(records)
                    judged.thumbnails.tofile(images)
                histograms.merge(judged.histograms)
        return tuple(statuses), histograms

    def _decisions(self, tables: Tables, ledger: Ledger, tally: Tally, start: int, stop: int) -> pa.Table:
        """The rows start..stop of the decision table."""
        part, steps = slice(start, stop), self.rules.steps
        step, detail = np.array(ledger.array("step")[part]), np.array(ledger.array("detail")[part])
        people, words = np.array(ledger.array("people")[part]), np.array(ledger.array("key")[part])
        if self.rules.subset is not None:
            out = ~in_subset(words, self.rules.subset)
            if self.rules.subset.of == "kept":
                out &= step == PASSES
            step[out], detail[out] = steps.index(SUBSET), 0
        tally.add(step, detail, people)
        reason = tally.reasons(step, detail)
        duplicates = [n for n, rule in _numbered(self.rules) if rule.duplicates]
        if (same := np.isin(step, duplicates)).any():
            keepers = to_hex(ledger.array("key")[ledger.array("keeper")[part][same]])
            named = pc.binary_join_element_wise(reason.filter(pa.array(same)), keepers, ":")
            reason = pc.replace_with_mask(reason, pa.array(same), named)
        unit, row = _places(tables.names, tables.starts, start, stop)
        kept = pa.array(step == PASSES)
        columns = [unit, pa.array(row), to_hex(words), pa.array(people), kept, reason]
        return pa.table(columns, DECISIONS)


@dataclass(frozen=True)
class _Judged:
    """What one batch gives to the ledger; `near["row"]` counts from the batch's first row."""

    verdicts: Verdicts
    key: UInt64[np.ndarray, "rows 2"]
    pixels: UInt64[np.ndarray, "rows 2"] | None
    near: Any
    thumbnails: Any
    histograms: Histograms


def _read_and_judge(
    tables: Tables, rules: RuleSet, columns: Sequence[str], near: int | None, batch: Batch
) -> _Judged:
    table = tables.read(batch, columns)
    boxes = read_boxes(table)
    verdicts = judge(table, rules, boxes)
    histograms = Histograms(rules)
    histograms.add(table, verdicts.people, boxes)
    key = to_words(table["key"].combine_chunks())
    pixels = to_words(table["pixel_sha256"].combine_chunks()) if "pixel_sha256" in columns else None
    records, thumbnails = (None, None) if near is None else _candidates(table, verdicts, near)
    return _Judged(verdicts, key, pixels, records, thumbnails, histograms)


def _candidates(table: pa.Table, verdicts: Verdicts, near: int) -> tuple[Any, Any]:
    """Hash, thumbnail and what makes them preferable of the rows that may reach step `near`."""
    measured = pc.and_(pc.is_valid(table["phash"]), pc.is_valid(table["thumbnail"])).to_numpy()
    row = np.flatnonzero((verdicts.step > near) & measured)
    found = table.select(_NEAR_COLUMNS).take(pa.array(row)).combine_chunks()
    records = np.zeros(len(row), NEAR)
    column = {name: found[name].to_numpy() for name in _NEAR_COLUMNS if name != "thumbnail"}
    records["row"], records["hash"], records["bytes"] = row, column["phash"], column["bytes"]
    records["pixels"] = column["width"].astype(np.int64) * column["height"]
    if not len(row):
        return records, np.zeros(0, np.uint8)
    images = found["thumbnail"].combine_chunks()
    size = images.type.byte_width
    data = np.frombuffer(images.buffers()[1], np.uint8)
    return records, data[images.offset * size : (images.offset + len(images)) * size]


def _numbered(rules: RuleSet) -> Iterator[tuple[int, Any]]:
    """(step, rule) of each rule."""
    steps = rules.steps
    for rule in rules.rules:
        yield steps.index(rule.reason), rule


def _places(
    names: list[str], starts: Int64[np.ndarray, " tables_and_end"], start: int, stop: int
) -> tuple[pa.Array, Any]:
    """(unit, row in it) of the rows start..stop of all tables."""
    positions = np.arange(start, stop)
    number = np.searchsorted(starts, positions, side="right") - 1
    first = int(number[0])
    unit = pa.DictionaryArray.from_arrays(
        pa.array((number - first).astype(np.int32)), pa.array(names[first : int(number[-1]) + 1], pa.string())
    )
    return unit, (positions - starts[number]).astype(np.int32)
