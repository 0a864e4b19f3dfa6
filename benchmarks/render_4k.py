"""One sample of 3072 x 4096 pixels on the CPU: seconds by step, peak memory, bytes by member; and a plan.

    python -P benchmarks/render_4k.py [--quick] [--samples 64] [--threads N]

A dressed person from head to foot with every label. Loading and BVH are outside the seconds given: a small
picture comes first. The plan scales one image to the paper's 500,000: core
hours from the measured CPU seconds, GPU hours from --gpu-seconds. Without that figure they are an assumption
and named so: path tracing as fast as on 32 such cores, the rest on one core. --quick: 768 x 1024 and
8 samples, nothing scaled. Last printed line: one JSON object.
"""

import argparse
import json
import os
import resource
import time
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.cli import leave
from render.crosscheck import Rig
from render.engine import Engine, built_person
from render.people import sample_person
from render.spec import SENSOR_WIDTH_MM, RenderSettings, SampleSpec

IMAGES = 500_000
GPU_IN_CORES = 32
LENS = 50.0


def full_body(settings: RenderSettings) -> SampleSpec:
    """A person who fills nine tenths of the frame's height."""
    someone = sample_person(np.random.default_rng(3))
    height = built_person(someone).height
    distance = height / 0.85 * LENS / SENSOR_WIDTH_MM * settings.width / settings.height
    rig = Rig(settings.width, settings.height, LENS, distance, azimuth_deg=15.0, elevation_deg=4.0)
    return rig.spec(someone, np.array([0.0, 0.0, 0.5 * height]), settings)


def measure(engine: Engine, spec: SampleSpec) -> dict[str, Any]:
    """Seconds by step once all is loaded, bytes by member, peak memory (MB) of the process."""
    small = replace(spec.settings, width=spec.settings.width // 16, height=spec.settings.height // 16)
    engine.render(replace(spec, settings=small))
    engine.seconds.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    sample = engine.render(spec)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, **engine.seconds}
    return {
        "seconds": {step: round(seconds, 2) for step, seconds in spent.items()},
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "bytes": {member: len(data) for member, data in sorted(sample.members.items())},
    }


def plan(measured: dict[str, Any], gpu_seconds: float | None) -> dict[str, Any]:
    """What `IMAGES` such images take. Terabytes are of 10**12 bytes."""
    cpu, total = measured["seconds"]["cpu"], sum(measured["bytes"].values())
    others = cpu - sum(measured["seconds"].get(step, 0.0) for step in ("beauty", "truth"))
    assumed = gpu_seconds or max(0.0, others) + (cpu - max(0.0, others)) / GPU_IN_CORES
    return {
        "images": IMAGES,
        "terabytes": round(IMAGES * total / 1e12, 2),
        "core_hours": round(IMAGES * cpu / 3600),
        "gpu_hours_assumed" if gpu_seconds is None else "gpu_hours": round(IMAGES * assumed / 3600),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="768 x 1024, 8 samples")
    parser.add_argument("--samples", type=int, help="default 64")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--gpu-seconds", type=float, help="of one such image, measured on a GPU")
    given = parser.parse_args()
    width, height = (768, 1024) if given.quick else (3072, 4096)
    samples = given.samples or (8 if given.quick else 64)
    spec = full_body(RenderSettings(width=width, height=height, samples=samples))
    measured = measure(Engine(given.threads), spec)
    total = sum(measured["bytes"].values())
    figures: dict[str, Any] = {
        "benchmark": "render_4k",
        "size": [width, height],
        "samples": samples,
        "threads": given.threads,
        **measured,
        "bytes_total": total,
        "bytes_per_pixel": round(total / (width * height), 3),
    }
    if not given.quick:
        figures["plan"] = plan(measured, given.gpu_seconds)
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
    leave(0)
