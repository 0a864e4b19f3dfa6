"""select: thresholds over the columns of `annotate`; every input kept or rejected for one reason, in seconds,
no pixels.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from curation.columns import DECISIONS, DECODED_OK
from curation.filters.duplicates import Sameness, duplicate_rule
from curation.filters.person import SizeRule, count_people, person_rule
from curation.filters.size import size_rule
from curation.filters.text import text_rule
from curation.job import Job
from shards.config import Config
from shards.errors import ShardError, UsageError
from shards.files import temporary_path
from shards.index import write_table
from shards.manifest import commit_files, read_manifest
from shards.reader import Dataset
from shards.sample import canonical_json, digest_json
from shards.units import Stage, Unit, code_digest

STAGE = "select"
DECISIONS_NAME = "decisions"
FUNNEL_FILE = "decisions.funnel.json"
KEPT = "kept"


class SelectConfig(Config):
    """Thresholds. The defaults are the paper's (section 3.1) where it gives one; comparisons are strict, as
    there.

    The scores' meaning is the detector's: 0.9 of one is not 0.9 of another.
    """

    min_score: float = Field(default=0.9, ge=0, le=1, description="a person's score must be greater")
    min_box_side: float = Field(default=300.0, ge=0, description="px; a person's box must be larger")
    size_rule: SizeRule = Field(
        default="min", description="which side of the box: the shorter, longer, vertical"
    )
    min_count_score: float = Field(
        default=0.3, ge=0, le=1, description="boxes above it are counted as people"
    )
    max_text_area: float = Field(default=0.02, ge=0, le=1, description="share of the image under text")
    min_image_side: int = Field(default=64, ge=1, description="px; shorter side of the image")
    duplicates: Sameness = Field(default="pixels", description="what makes two images the same")


STEPS = ("decode", "size", "duplicate", "text", "person")
"""The rules in order: an input that several would reject is counted under the first."""


def decide(annotations: pa.Table, config: SelectConfig) -> pa.Table:
    """Add `kept` and `reason` (schema `curation.columns.DECISIONS`) to an annotation table; rows keep their
    order.
    """
    status = annotations["status"]
    reasons = (
        pc.if_else(pc.equal(status, DECODED_OK), pa.scalar(None, pa.string()), status),
        size_rule(annotations, config.min_image_side),
        duplicate_rule(annotations, config.duplicates),
        text_rule(annotations, config.max_text_area),
        person_rule(annotations, config.min_score, config.min_box_side, config.size_rule),
    )
    reason = pc.coalesce(*reasons)
    people = count_people(annotations, config.min_count_score)
    table = annotations.append_column("people", people)
    table = table.append_column("kept", pc.is_null(reason)).append_column("reason", reason)
    return table.select(DECISIONS.names).cast(DECISIONS)


def summarise(decisions: pa.Table) -> dict[str, Any]:
    """The funnel of a decision table as JSON data: {"inputs", "kept", "stages": [...], "people": {...}}.

    A stage: {"stage", "entered", "rejected", "left", "reasons": {reason: count}}, in the order of the rules;
    `duplicate:<key>` counts as `duplicate`. "people": number of people (as text) -> number of kept images.
    """
    counts = Counter(map(reason_group, decisions["reason"].to_pylist()))
    kept, left, stages = counts.pop(KEPT, 0), decisions.num_rows, []
    for step in STEPS:
        reasons = {reason: n for reason, n in sorted(counts.items()) if reason.partition(":")[0] == step}
        rejected = sum(reasons.values())
        stage = {"stage": step, "entered": left, "rejected": rejected, "left": left - rejected}
        stages.append({**stage, "reasons": reasons})
        left -= rejected
    if left != kept:
        raise ShardError(f"the funnel does not add up: {left} inputs left after all rules, {kept} kept")
    people = Counter(decisions.filter(decisions["kept"])["people"].to_pylist())
    crowd = {str(number): people[number] for number in sorted(people)}
    return {"inputs": decisions.num_rows, "kept": kept, "stages": stages, "people": crowd}


def reason_group(reason: str | None) -> str:
    """A reason without what is peculiar to one input: `duplicate:<key>` -> `duplicate`; null -> `kept`."""
    if reason is None:
        return KEPT
    return "duplicate" if reason.startswith("duplicate:") else reason


def plan_select(annotations: Path, config: SelectConfig) -> Job:
    """One unit: all tables of `annotations` -> `decisions.parquet`. Raises UsageError when they are not
    complete.
    """
    manifest = read_manifest(annotations)
    if manifest.provenance.get("stage", {}).get("name") != "annotate":
        raise UsageError(f"{annotations}: expected the output of `vitruvian curate annotate`")
    if manifest.quarantined:
        raise UsageError(
            f"{annotations}: {len(manifest.quarantined)} units in quarantine "
            f"({manifest.quarantined[0]}, ...): their inputs have no row; "
            "repair or remove them from the pool and run annotate again"
        )
    unit = Unit(DECISIONS_NAME, {}, {"annotations": manifest.digest})
    # The whole room is the code: select takes seconds, so there is nothing to save by being subtle.
    key = digest_json({"config": config.model_dump(mode="json"), "code": code_digest("curation")})
    provenance = {
        "config": config.model_dump(mode="json"),
        "annotations": manifest.digest,
        "pool": manifest.provenance["pool"],
    }
    return Job(STAGE, key, (unit,), Select(annotations, config), provenance)


@dataclass(frozen=True)
class Select:
    """The worker: the annotation tables in one folder -> `decisions.parquet` and its funnel."""

    annotations: Path
    config: SelectConfig

    def __call__(self, stage: Stage, unit: Unit) -> None:
        decisions = decide(read_annotations(self.annotations), self.config)
        funnel = summarise(decisions)
        table = temporary_path(stage.out, unit.name, "parquet")
        counts = temporary_path(stage.out, unit.name, "funnel.json")
        write_table(decisions, table)
        counts.write_bytes(canonical_json(funnel))
        rejects = {reason: n for step in funnel["stages"] for reason, n in step["reasons"].items()}
        commit_files(
            stage.out,
            unit.name,
            {f"{unit.name}.parquet": table, FUNNEL_FILE: counts},
            samples=decisions.num_rows,
            rejects=rejects,
            stage_name=stage.name,
            stage_key=stage.key,
            inputs=unit.inputs,
        )


def read_annotations(folder: Path) -> pa.Table:
    """All rows of an annotation dataset, in the order of its units.

    Raises ShardError when a table or the total disagrees with the manifest: then inputs were lost or counted
    twice.
    """
    dataset = Dataset.open(folder)
    table = dataset.table()
    expected = dataset.manifest.provenance["pool"]["inputs"]
    if expected is not None and table.num_rows != expected:
        raise ShardError(f"{folder}: the pool has {expected} inputs, the tables {table.num_rows} rows")
    return table


def read_decisions(selection: Path) -> pa.Table:
    """The decision table of a selection (schema `curation.columns.DECISIONS`)."""
    read_manifest(selection)
    return pq.read_table(selection / f"{DECISIONS_NAME}.parquet")


def funnel(selection: Path) -> dict[str, Any]:
    """The funnel of a finished selection; see `summarise`."""
    read_manifest(selection)
    content: dict[str, Any] = json.loads((selection / FUNNEL_FILE).read_bytes())
    return content


def examples(selection: Path, reason: str, count: int) -> list[dict[str, Any]]:
    """Up to `count` rows of one reason ("kept", "duplicate", "decode:truncated", "person:none", ...), by key.

    Rows are dicts with the columns of DECISIONS; `curation.pool.read_input(pool, row)` gives their bytes.
    """
    decisions = read_decisions(selection)
    groups = pa.array([reason_group(found) for found in decisions["reason"].to_pylist()], pa.string())
    rows: list[dict[str, Any]] = (
        decisions.filter(pc.equal(groups, reason)).sort_by("key").slice(0, count).to_pylist()
    )
    return rows
