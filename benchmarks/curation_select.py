"""Seconds and peak memory of `curate select` over 10 million rows, from tables on disk to committed
decisions.

    python -P benchmarks/curation_select.py [--rows 10000000] [--rules humans] [--near] [--quick]

Synthetic annotation tables in units of 10,000 rows (an img2dataset tar), with all the columns that the rules
read: 5 % of the inputs are not decoded, 5 % have the pixels of another, boxes are those of 0 to 4 people.
The rule set is the shipped one without its near-duplicates rule, which `curation_duplicates` measures;
--near leaves it in. Written once, read in a child process, whose peak resident memory and CPU seconds are
reported. Last printed line: one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.columns import ANNOTATIONS, BOX, THUMBNAIL_SIDE
from curation.keys import to_hex
from shards.manifest import commit_files, write_manifest

UNIT = 10_000
WRITTEN = (
    *(
        "source",
        "bytes",
        "key",
        "status",
        "format",
        "width",
        "height",
        "digital_source",
        "pixel_sha256",
        "text_area",
    ),
    *("watermark", "art", "unnatural", "person_boxes"),
)
NEAR = ("phash", "thumbnail")

CHILD = """
import json, resource, sys, time
from pathlib import Path
from curation.rules import RuleSet, load_rules
from curation.select import plan_select
from shards.units import close_stage, open_stage, run_unit
annotations, out, name, near = sys.argv[1:]
rules = load_rules(name)
if not int(near):
    rules = rules.model_copy(update={"rules": tuple(r for r in rules.rules if not (r.duplicates and
    r.duplicates.near))})
started = time.perf_counter()
job = plan_select(annotations, rules)
stage = open_stage(Path(out), job.name, job.key)
outcome = run_unit(stage, job.units[0], job.worker)
if outcome.error:
    raise SystemExit(outcome.error)
close_stage(stage, job.units, job.provenance)
seconds = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": round(seconds, 2), "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
                  "peak_gib": round(used.ru_maxrss / 2**20, 2)}))
"""


def make_unit(number: int, rng: np.random.Generator, near: bool) -> pa.Table:
    """One table of UNIT rows."""
    keys = rng.integers(1, 2**64, (UNIT, 2), dtype=np.uint64)
    pixels = rng.integers(1, 2**64, (UNIT, 2), dtype=np.uint64)
    # The same in every unit: what makes up 5 % of the rows is there hundreds of times.
    shared = np.random.default_rng(number // 2).integers(1, 2**64, (UNIT // 20, 2), dtype=np.uint64)
    pixels[: len(shared)] = shared
    bad = rng.random(UNIT) < 0.05
    people = np.where(bad, 0, rng.integers(0, 5, UNIT))
    corner = rng.uniform(0, 400, (2, people.sum())).astype(np.float32)
    size = rng.uniform(40, 900, (2, people.sum())).astype(np.float32)
    flat = [*corner, *(corner + size), rng.beta(2, 1, people.sum()).astype(np.float32)]
    offsets = pa.array(np.concatenate([[0], np.cumsum(people)]).astype(np.int32), mask=np.append(bad, False))
    boxes = pa.ListArray.from_arrays(
        offsets, pa.StructArray.from_arrays(list(map(pa.array, flat)), fields=list(BOX))
    )
    column: dict[str, Any] = {
        "source": pa.array([f"{number:06d}.tar"] * UNIT),
        "bytes": pa.array(rng.integers(10_000, 500_000, UNIT)),
        "key": to_hex(keys),
        "status": pa.array(np.where(bad, "decode:truncated", "ok")),
        "format": pa.array(["jpg"] * UNIT),
        "width": pa.array(rng.integers(48, 3000, UNIT).astype(np.int32), mask=bad),
        "height": pa.array(rng.integers(48, 3000, UNIT).astype(np.int32), mask=bad),
        "digital_source": pa.nulls(UNIT, pa.string()),
        "pixel_sha256": pa.array(
            [
                None if skip else text + text
                for skip, text in zip(bad, to_hex(pixels).to_pylist(), strict=True)
            ]
        ),
        "text_area": pa.array((rng.random(UNIT) ** 8).astype(np.float32), mask=bad),
        "watermark": pa.array(rng.beta(1, 6, UNIT).astype(np.float32), mask=bad),
        "art": pa.array(rng.beta(1, 6, UNIT).astype(np.float32), mask=bad),
        "unnatural": pa.nulls(UNIT, pa.float32()),
        "person_boxes": boxes,
    }
    if near:
        side = THUMBNAIL_SIDE**2
        images = pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(side), UNIT, [None, pa.py_buffer(rng.bytes(UNIT * side))]
        )
        column |= {"phash": pa.array(rng.integers(0, 2**64, UNIT, dtype=np.uint64)), "thumbnail": images}
    schema = pa.schema([ANNOTATIONS.field(name) for name in column])
    return pa.table(list(column.values()), schema)


def make_annotations(folder: Path, rows: int, near: bool) -> None:
    """Tables of `rows` rows in all, with markers and manifest."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(rows // UNIT):
        name = f"tar-{number:06d}"
        path = folder / f".{name}.parquet"
        pq.write_table(make_unit(number, rng, near), path, compression="zstd")
        commit_files(
            *(folder, name, {f"{name}.parquet": path}),
            samples=UNIT,
            rejects={},
            stage_name="annotate",
            stage_key="",
            inputs={},
            run={},
        )
    write_manifest(folder, {"stage": {"name": "annotate", "key": ""}, "pool": {"inputs": rows}})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rules", default="humans")
    parser.add_argument("--near", action="store_true", help="with the near-duplicates rule")
    parser.add_argument("--quick", action="store_true", help="200,000 rows")
    parser.add_argument("--folder", type=Path, default=None, help="where to write the tables (4 GB)")
    given = parser.parse_args()
    rows = 200_000 if given.quick else given.rows // UNIT * UNIT
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        annotations, out = Path(folder) / "annotations", Path(folder) / "out"
        started = time.perf_counter()
        make_annotations(annotations, rows, given.near)
        print(f"{rows:,} rows written in {time.perf_counter() - started:.0f} s", flush=True)
        command = [sys.executable, "-c", CHILD, str(annotations), str(out), given.rules, str(int(given.near))]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        summary = json.loads((out / "decisions.summary.json").read_bytes())
        for stage in summary["stages"]:
            print(f"{stage['stage']:>16} {stage['rejected']:>12,} {stage['left']:>12,}")
    figures = {"benchmark": "curation_select", "rows": rows, "rules": given.rules, "near": given.near}
    print(json.dumps(figures | {"kept": summary["kept"]} | json.loads(done.stdout.splitlines()[-1])))


if __name__ == "__main__":
    main()
