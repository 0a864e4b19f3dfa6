"""Memory of one worker over many frames whose people, HDRIs, sizes and cameras change as in a real job.

    python -P benchmarks/render_memory.py [--quick] [--frames 200]

A new person every 8 frames, a new HDRI every 8, the camera and the image's size at every frame: what a worker
process sees, which must not grow. Resident set size is read after every frame; the growth is between the
means of the first and the last quarter of what follows the warm-up (the first fifth), and so is free of what
one large person adds for a while. Last printed line: one JSON object.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cli import leave
from render.crosscheck import RIGS
from render.engine import Engine, built_person
from render.lights import list_hdris
from render.people import sample_person
from render.spec import RenderSettings, SampleSpec

FRAMES_PER_PERSON = 8


def resident_mb() -> float:
    """Resident set size of this process."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def frame(index: int) -> SampleSpec:
    """The spec of frame `index` of the job."""
    group, rigs, hdris = index // FRAMES_PER_PERSON, list(RIGS.values()), sorted(list_hdris())
    someone = sample_person(np.random.default_rng(100 + group))
    rig = rigs[index % len(rigs)]
    settings = RenderSettings(2 * rig.width, 2 * rig.height, samples=4, noise_seed=index)
    middle = np.array([0.0, 0.0, 0.5 * built_person(someone).height])
    return rig.spec(someone, middle, settings, hdris[group % len(hdris)])


def growth(curve: np.ndarray) -> float:
    """Relative growth from the first to the last quarter of `curve` after its first fifth."""
    settled = curve[len(curve) // 5 :]
    quarter = max(1, len(settled) // 4)
    return float(settled[-quarter:].mean() / settled[:quarter].mean() - 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="40 frames")
    parser.add_argument("--frames", type=int, help="default 200")
    given = parser.parse_args()
    frames = given.frames or (40 if given.quick else 200)
    engine, curve, started = Engine(), [], time.perf_counter()
    for index in range(frames):
        engine.render(frame(index))
        curve.append(resident_mb())
        if index % FRAMES_PER_PERSON == FRAMES_PER_PERSON - 1:
            print(f"frame {index + 1}: {curve[-1]:.0f} MB", flush=True)
    marks = np.linspace(0, frames - 1, 11).astype(int)
    figures: dict[str, Any] = {
        "benchmark": "render_memory",
        "frames": frames,
        "people": -(-frames // FRAMES_PER_PERSON),
        "growth": round(growth(np.array(curve)), 4),
        "peak_mb": round(max(curve)),
        "curve_mb": {str(mark + 1): round(curve[mark]) for mark in marks},
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
    leave(0)
