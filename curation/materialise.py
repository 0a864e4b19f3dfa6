"""materialise: the original bytes of every kept image into shards, never re-encoded, with where they came
from.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.job import Job
from curation.pool import read_input
from curation.select import STAGE as SELECT_STAGE
from curation.select import read_decisions
from shards.config import Config
from shards.errors import ShardError, UsageError
from shards.manifest import read_manifest
from shards.sample import Sample, canonical_json, digest_json
from shards.units import Stage, Unit, code_digest
from shards.writer import ShardWriter

STAGE = "materialise"
PROVENANCE_SCHEMA = 1
_CODE = ("curation.columns", "curation.materialise", "curation.pool")
_KEY_BITS = 32  # of a key's 128, enough to cut the key space into ranges
_READ = ("source", "member", "offset", "bytes", "key", "metadata", "format", "width", "height", "orientation")
_WANTED = (*_READ, "people", "text_area", "person_boxes", "text_boxes", "sha256")


class MaterialiseConfig(Config):
    """How the kept images are cut into shards."""

    samples_per_shard: int = Field(
        default=4096, ge=1, description="on average; keys decide, so counts vary a little"
    )


def plan_materialise(pool: Path, selection: Path, config: MaterialiseConfig) -> Job:
    """One unit per equal range of the key space; a unit's input is the digest of the kept rows in its range.

    So another selection remakes only the shards whose images changed, as long as the number of shards is the
    same. Raises UsageError when nothing was kept.
    """
    manifest = read_manifest(selection)
    if manifest.provenance.get("stage", {}).get("name") != SELECT_STAGE:
        raise UsageError(f"{selection}: expected the output of `vitruvian curate select`")
    rows = kept_rows(selection)
    if not rows.num_rows:
        raise UsageError(
            f"{selection}: no image was kept; look at its funnel and loosen a threshold of curate.select"
        )
    shards = -(-rows.num_rows // config.samples_per_shard)
    units = tuple(_unit(rows, number, shards) for number in range(shards))
    key = digest_json({"config": config.model_dump(mode="json"), "code": code_digest(*_CODE)})
    provenance = {"config": config.model_dump(mode="json"), "selection": manifest.digest}
    worker = Materialise(pool, selection)
    return Job(STAGE, key, tuple(unit for unit in units if unit.payload["samples"]), worker, provenance)


def kept_rows(selection: Path) -> pa.Table:
    """The kept rows of a selection in key order, one per key."""
    decisions = read_decisions(selection)
    kept = decisions.filter(decisions["kept"]).select(_WANTED)
    table = kept.sort_by([("key", "ascending"), ("source", "ascending"), ("offset", "ascending")])
    keys = table["key"].combine_chunks()
    if len(keys) < 2:
        return table
    # Without duplicate removal the same bytes may be kept twice; a shard holds a key once.
    new = pc.not_equal(keys[1:], keys[:-1])
    return table.filter(pa.concat_arrays([pa.array([True]), new]))


@dataclass(frozen=True)
class Materialise:
    """The worker: the kept inputs of one key range -> one shard."""

    pool: Path
    selection: Path

    def __call__(self, stage: Stage, unit: Unit) -> None:
        rows = rows_between(kept_rows(self.selection), unit.payload["first"], unit.payload["last"])
        if digest_json(rows.to_pylist()) != unit.inputs["rows"]:
            raise ShardError(f"{self.selection}: changed since this unit was planned; run materialise again")
        with ShardWriter(stage.out, unit.name, columns=index_columns) as writer:
            for sample in samples(self.pool, rows):
                writer.add(sample)
            writer.commit(stage_name=stage.name, stage_key=stage.key, inputs=unit.inputs)


def samples(pool: Path, rows: pa.Table) -> Iterator[Sample]:
    """The samples of kept rows: the original bytes under their proper extension, and a json member.

    Read in the pool's order. The json: {"schema", "width", "height", "people", "provenance": {"source",
    "member", "sha256", "orientation", "person_boxes", "text_boxes", "text_area", "original" (the json member
    it had)}}.
    """
    for row in rows.sort_by([("source", "ascending"), ("offset", "ascending")]).to_pylist():
        members = {row["format"]: read_input(pool, row), "json": canonical_json(_describe(row))}
        yield Sample(row["key"], members)


def index_columns(sample: Sample) -> Mapping[str, Any]:
    """The scalars of the shard's index."""
    meta = sample.meta()
    boxes = meta["provenance"]["person_boxes"]
    return {
        "width": meta["width"],
        "height": meta["height"],
        "people": meta["people"],
        "score": max((box["score"] for box in boxes), default=0.0),
        "source": meta["provenance"]["source"],
    }


def rows_between(rows: pa.Table, first: int, last: int) -> pa.Table:
    """The rows whose key's first 32 bits lie in first..last, both included."""
    low, high = f"{first:08x}", f"{last:08x}"
    prefix = pc.utf8_slice_codeunits(rows["key"], 0, _KEY_BITS // 4)
    return rows.filter(pc.and_(pc.greater_equal(prefix, low), pc.less_equal(prefix, high)))


def _unit(rows: pa.Table, number: int, shards: int) -> Unit:
    first = -(-(number << _KEY_BITS) // shards)
    last = -(-((number + 1) << _KEY_BITS) // shards) - 1
    inside = rows_between(rows, first, last)
    payload = {"first": first, "last": last, "samples": inside.num_rows}
    return Unit(f"curated-{number:06d}", payload, {"rows": digest_json(inside.to_pylist())})


def _describe(row: Mapping[str, Any]) -> dict[str, Any]:
    measured = ("source", "member", "sha256", "orientation", "text_area", "text_boxes", "person_boxes")
    provenance = {name: _rounded(row[name]) for name in measured}
    return {
        "schema": PROVENANCE_SCHEMA,
        "width": row["width"],
        "height": row["height"],
        "people": row["people"],
        "provenance": {**provenance, "original": _parsed(row["metadata"])},
    }


def _rounded(value: Any) -> Any:
    """float32 columns as the decimals they were written with (pixels to 0.01, scores to 0.0001)."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, list):
        return [{name: _rounded(part) for name, part in box.items()} for box in value]
    return value


def _parsed(metadata: str | None) -> Any:
    """The json member a sample had in its tar; as text when it is not JSON that canonical JSON could hold."""
    if metadata is None:
        return None
    try:
        content = json.loads(metadata)
        canonical_json(content)
    except (ValueError, ShardError, RecursionError):
        return metadata
    return content
