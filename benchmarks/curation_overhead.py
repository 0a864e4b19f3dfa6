"""What `curate annotate` adds to decoding and measuring: its rate, inline, over that of a bare loop.

    python -P benchmarks/curation_overhead.py [--quick] [--rounds 3]

Last printed line: one JSON object. The bare loop reads each file, decodes it and calls the same models on the
same batches, in this process, and keeps nothing. `annotate` is the whole verb: list and hash the pool, rows,
tables, markers, manifest. Both run `rounds` times in turn, after a warm-up that loads the models. `ratio` is
from the sums of CPU time (which a busy machine disturbs least), `ratio_wall` from the wall clock.
`cpu_s_per_image`, `row_bytes` and `images_per_s_of_step` (a core's) are what tools/curation_cost.py reads.
"""

import argparse
import json
import logging
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import skimage

from curation.annotate import AnnotateConfig, load_models, plan_annotate
from curation.decode import decode
from curation.filters.duplicates import measure_hashes
from curation.filters.quality import measure_quality
from curation.filters.reduce import Views
from pipelines.executors import run_units
from shards.config import parse_config
from shards.manifest import read_markers
from shards.units import close_stage, open_stage

SUFFIXES = (".png", ".jpg")


def make_pool(root: Path, photographs: int, copies: int) -> None:
    """`copies` of each of the first `photographs` of scikit-image's, with a copy's number in its name."""
    found = [path for path in (Path(skimage.__file__).parent / "data").glob("*.*") if path.suffix in SUFFIXES]
    root.mkdir()
    for photo in sorted(found)[:photographs]:
        for number in range(copies):
            shutil.copy(photo, root / f"{photo.stem}-{number}{photo.suffix}")


def bare(pool: Path, config: AnnotateConfig) -> None:
    """Decode and measure, and nothing else: what annotate measures must be called here, no less, no more."""
    models, batch = load_models(config), []
    paths = sorted(pool.iterdir())
    for place, path in enumerate(paths):
        decoded = decode(path.read_bytes(), config.max_pixels)
        if decoded.image is not None:
            batch.append(decoded.image)
        if len(batch) == config.batch or place == len(paths) - 1:
            for image in batch:
                views = Views(image)
                measure_quality(image, views)
                measure_hashes(image, views)
                models.text.measure(image)
            for measure in models.filters:
                measure.measure(batch)
            models.detector.detect(batch)
            batch = []


def annotate(pool: Path, out: Path, config: AnnotateConfig) -> tuple[int, int, Counter[str]]:
    """The whole verb, inline; (images, bytes of the tables, seconds by step)."""
    job = plan_annotate(pool, config)
    stage = open_stage(out, job.name, job.key)
    for outcome in run_units(stage, job.units, job.worker):
        if outcome.error:
            raise SystemExit(outcome.error)
    manifest = close_stage(stage, job.units, job.provenance)
    steps: Counter[str] = Counter()
    for marker in read_markers(out).values():
        steps.update(marker.run["seconds"])
    size = sum(path.stat().st_size for path in out.glob("*.parquet"))
    return manifest.samples, size, steps


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """(wall clock, CPU time of this process, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="ten photographs, once")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    logging.disable(logging.INFO)
    config = parse_config({"pool": {"files_per_unit": 64}}, AnnotateConfig, "benchmark")
    copies = 1 if given.quick else 4
    total = Counter[str]()
    steps = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        pool, warm = Path(folder) / "pool", Path(folder) / "warm"
        make_pool(pool, 10 if given.quick else 1000, copies)
        make_pool(warm, 2, 1)
        annotate(warm, Path(folder) / "warm-out", config)
        for number in range(1 if given.quick else given.rounds):
            wall, cpu, _ = timed(lambda: bare(pool, config))
            total.update({"bare_wall": wall, "bare_cpu": cpu})
            out = Path(folder) / f"out-{number}"
            wall, cpu, (images, size, spent) = timed(lambda out=out: annotate(pool, out, config))  # type: ignore[misc]
            total.update({"wall": wall, "cpu": cpu, "images": images, "bytes": size})
            steps.update(spent)
    images = total["images"]
    print(
        json.dumps(
            {
                "benchmark": "curation_overhead",
                "images": images,
                "ratio": round(total["bare_cpu"] / total["cpu"], 3),
                "ratio_wall": round(total["bare_wall"] / total["wall"], 3),
                "images_per_s": round(images / total["wall"], 2),
                "cpu_s_per_image": round(total["cpu"] / images, 4),
                # copies of a photograph compress to nothing, photographs do not
                "row_bytes": round(total["bytes"] / images * copies),
                "images_per_s_of_step": {
                    step: round(images / spent, 2) for step, spent in sorted(steps.items())
                },
            }
        )
    )


if __name__ == "__main__":
    main()
