"""`curate annotate` on Ray against inline, on the same pool: two processes on two cores.

    python -P benchmarks/curation_ray.py [--quick] [--workers 2]

Last printed line: one JSON object. `ratio` compares steady states: images a second between the moment when
every process has finished a unit (so Ray, the processes and the models have started) and the moment when the
first process finds no further unit. Start-up and tail are constants, which a run of hours does not see:
`startup_s` is from the call until every process had finished its first unit, less what a unit takes;
`ratio_whole` counts everything, on this small pool. `ceiling` is what as many plain processes reach, each
inline on a part of the pool: what cores, memory and neighbours allow. The manifests must be `identical`.
"""

import argparse
import json
import logging
import shutil
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import skimage

from curation.annotate import AnnotateConfig, plan_annotate
from pipelines.executors import run_units
from shards.config import parse_config
from shards.units import close_stage, open_stage

SUFFIXES = (".png", ".jpg")


def make_pool(root: Path, copies: int) -> None:
    """Units of equal work: each file of a unit is another photograph, and all units hold the same ones."""
    found = [path for path in (Path(skimage.__file__).parent / "data").glob("*.*") if path.suffix in SUFFIXES]
    photographs = [path for path in sorted(found) if path.stat().st_size < 1 << 20][:8]
    root.mkdir()
    for number in range(copies):
        for photo in photographs:
            shutil.copy(photo, root / f"{number:04d}-{photo.name}")


def annotate(pool: Path, out: Path, config: AnnotateConfig, executor: str, workers: int) -> dict[str, Any]:
    """Times at which units ended (seconds since the call), images in each, and the manifest's digest."""
    job = plan_annotate(pool, config)
    stage = open_stage(out, job.name, job.key)
    started, ends, images = time.perf_counter(), list[float](), list[int]()
    for outcome in run_units(stage, job.units, job.worker, executor, workers):
        if outcome.error:
            raise SystemExit(outcome.error)
        ends.append(time.perf_counter() - started)
        images.append(outcome.samples)
    whole = time.perf_counter() - started
    digest = close_stage(stage, job.units, job.provenance).digest
    steady = slice(workers, len(ends) - workers + 1)  # the outcomes between the two moments
    rate = sum(images[steady]) / (ends[steady][-1] - ends[workers - 1])
    return {"rate": rate, "whole": whole, "images": sum(images), "first": ends[workers - 1], "digest": digest}


def inline(part: tuple[Path, Path, AnnotateConfig]) -> float:
    """Images a second of one process on its own pool, from its first unit's end."""
    return float(annotate(*part, "inline", 1)["rate"])


def plain_processes(pools: list[Path], root: Path, config: AnnotateConfig) -> float:
    """Images a second of a process per pool, at once."""
    parts = [(pool, root / f"plain-{number}", config) for number, pool in enumerate(pools)]
    with get_context("spawn").Pool(len(pools)) as processes:
        return sum(processes.map(inline, parts, chunksize=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="12 units instead of 60")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    config = parse_config({"pool": {"files_per_unit": 8}}, AnnotateConfig, "benchmark")
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder) / "pool"
        make_pool(pool, 12 if given.quick else 60)
        alone = annotate(pool, Path(folder) / "inline", config, "inline", 1)
        ray = annotate(pool, Path(folder) / "ray", config, "ray", given.workers)
        parts = [Path(folder) / f"part-{number}" for number in range(given.workers)]
        for part in parts:
            make_pool(part, (12 if given.quick else 60) // given.workers)
        plain = plain_processes(parts, Path(folder), config)
    unit = 8 * given.workers / ray["rate"]
    print(
        json.dumps(
            {
                "benchmark": "curation_ray",
                "workers": given.workers,
                "images": alone["images"],
                "ratio": round(ray["rate"] / alone["rate"], 2),
                "ceiling": round(plain / alone["rate"], 2),
                "ratio_whole": round(alone["whole"] / ray["whole"], 2),
                "startup_s": round(ray["first"] - unit, 1),
                "images_per_s": {"inline": round(alone["rate"], 2), "ray": round(ray["rate"], 2)},
                "identical": alone["digest"] == ray["digest"],
            }
        )
    )


if __name__ == "__main__":
    main()
