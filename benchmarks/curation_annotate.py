"""Images per second of `curate annotate`, by step, inline and on Ray, on scikit-image's photographs.

    python -P benchmarks/curation_annotate.py [--quick] [--workers 2]

Last printed line: one JSON object. `bare` is the sum of what decoder, hash and models take; `overhead_ratio`
is what is left of its rate once rows, tables and markers are written (1.0: they are free). `smoke_detector`:
precision and recall over images at score > 0.55 on the same photographs ("is there a person?"; the two with a
person are labelled here by eye).
"""

import argparse
import json
import logging
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import skimage

from curation.annotate import AnnotateConfig, plan_annotate
from curation.pool import PoolConfig
from pipelines.executors import run_units
from shards.manifest import read_markers
from shards.reader import Dataset
from shards.units import close_stage, open_stage, pending

WITH_PEOPLE = ("astronaut", "camera")
SUFFIXES = (".png", ".jpg")
SURE = 0.55


def make_pool(root: Path, photographs: int, copies: int) -> None:
    """`copies` of each of the first `photographs`, those with people before the others."""
    found = [path for path in (Path(skimage.__file__).parent / "data").glob("*.*") if path.suffix in SUFFIXES]
    by_interest = sorted(found, key=lambda path: (path.stem not in WITH_PEOPLE, path.name))
    for photo in by_interest[:photographs]:
        for number in range(copies):
            shutil.copy(photo, root / f"{photo.stem}-{number}{photo.suffix}")


def annotate(pool: Path, out: Path, executor: str, workers: int) -> tuple[float, int, Counter[str]]:
    """(wall clock in seconds, images, seconds by step summed over workers)."""
    job = plan_annotate(pool, AnnotateConfig(pool=PoolConfig(files_per_unit=4)))
    stage = open_stage(out, job.name, job.key)
    started = time.perf_counter()
    for outcome in run_units(stage, pending(stage, job.units), job.worker, executor, workers):
        if outcome.error:
            raise SystemExit(outcome.error)
    seconds = time.perf_counter() - started
    manifest = close_stage(stage, job.units, job.provenance)
    steps: Counter[str] = Counter()
    for marker in read_markers(out).values():
        steps.update(marker.run["seconds"])
    return seconds, manifest.samples, steps


def smoke_detector(out: Path) -> dict[str, float]:
    """Precision and recall over images: does any box score above SURE, and is there a person?"""
    said, truth = set(), set()
    for row in Dataset.open(out).table().to_pylist():
        if any(box["score"] > SURE for box in row["person_boxes"] or []):
            said.add(row["source"])
        if row["source"].startswith(WITH_PEOPLE):
            truth.add(row["source"])
    hits = len(said & truth)
    return {"precision": round(hits / max(len(said), 1), 3), "recall": round(hits / max(len(truth), 1), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten photographs, once")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    figures: dict[str, Any] = {"benchmark": "curation_annotate", **vars(given)}
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool"
        pool.mkdir()
        make_pool(pool, *((10, 1) if given.quick else (1000, 5)))
        for executor in ("inline", "ray"):
            seconds, images, steps = annotate(pool, Path(folder) / executor, executor, given.workers)
            rates = {step: round(images / spent, 2) for step, spent in steps.items() if spent}
            figures[executor] = {"images_per_s": round(images / seconds, 2), "images_per_s_of_step": rates}
            if executor == "inline":
                figures |= {"images": images, "overhead_ratio": round(sum(steps.values()) / seconds, 3)}
        figures["ray_over_inline"] = round(
            figures["ray"]["images_per_s"] / figures["inline"]["images_per_s"], 2
        )
        figures["smoke_detector"] = smoke_detector(Path(folder) / "inline")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
