"""Annotation tables made by hand: no pixel, no model."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.columns import ANNOTATIONS
from curation.decisions import read_decisions
from curation.job import Job
from curation.rules import RuleSet, parse_rules
from curation.select import plan_select
from shards.files import temporary_path
from shards.index import write_table
from shards.manifest import Manifest, commit_files, write_manifest
from shards.units import close_stage, open_stage, pending, run_unit

PERSON = {"x0": 0.0, "y0": 0.0, "x1": 400.0, "y1": 500.0, "score": 0.95}
FLAT = bytes([128]) * 256


def row(number: int, **changes: Any) -> dict[str, Any]:
    """An image that every rule keeps, but for `changes`."""
    spread = (number * 0x9E3779B97F4A7C15) % 2**64  # hashes far apart
    good = {
        "source": f"{number:04d}.jpg",
        "bytes": 10,
        "sha256": f"{number:064x}",
        "key": f"{number:032x}",
        "status": "ok",
        "format": "jpg",
        "width": 640,
        "height": 640,
        "orientation": 1,
        "pixel_sha256": f"{number + 1000:032x}" + "0" * 32,
        "phash": spread,
        "thumbnail": FLAT,
        "text_area": 0.0,
        "text_boxes": [],
        "person_boxes": [PERSON],
    }
    return good | changes


def undecoded(number: int, status: str) -> dict[str, Any]:
    """An image that could not be decoded: nothing was measured."""
    known = ("source", "bytes", "sha256", "key", "status")
    return {name: value for name, value in row(number, status=status).items() if name in known}


def write_annotations(folder: Path, units: Sequence[Sequence[dict[str, Any]]], **provenance: Any) -> Path:
    """A dataset of annotations with one table per unit."""
    folder.mkdir(parents=True)
    for number, rows in enumerate(units):
        name = f"unit-{number:04d}"
        path = temporary_path(folder, name, "parquet")
        write_table(pa.Table.from_pylist(list(rows), ANNOTATIONS), path)
        commit_files(
            folder,
            name,
            {f"{name}.parquet": path},
            samples=len(rows),
            rejects={},
            stage_name="annotate",
            stage_key="k",
            inputs={},
            run={},
        )
    inputs = sum(len(rows) for rows in units)
    write_manifest(
        folder, {"stage": {"name": "annotate", "key": "k"}, "pool": {"inputs": inputs}, **provenance}
    )
    return folder


def run_to_end(job: Job, out: Path) -> Manifest:
    """Run a job in this process; raises what quarantined a unit."""
    stage = open_stage(out, job.name, job.key)
    for unit in pending(stage, job.units):
        outcome = run_unit(stage, unit, job.worker)
        assert outcome.error is None, outcome.error
    return close_stage(stage, job.units, job.provenance)


def select(annotations: Path, rules: RuleSet | dict[str, Any], out: Path, **options: Any) -> list[str | None]:
    """Run a selection; the reasons in order."""
    rules = rules if isinstance(rules, RuleSet) else parse_rules(rules)
    run_to_end(plan_select(annotations, rules, **options), out)
    found: list[str | None] = read_decisions(out)["reason"].to_pylist()
    return found


def cut(rows: Sequence[dict[str, Any]], at: Sequence[int]) -> list[Sequence[dict[str, Any]]]:
    """Rows cut into units at some places."""
    bounds = [0, *sorted({min(place, len(rows)) for place in at}), len(rows)]
    return [rows[low:high] for low, high in itertools.pairwise(bounds) if high > low]


def thumbnails_of(rows: Sequence[dict[str, Any]]) -> Any:
    """uint8 (rows, 256)."""
    return np.stack([np.frombuffer(entry["thumbnail"], np.uint8) for entry in rows])
