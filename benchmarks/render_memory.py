"""Memory of one worker over many frames whose people, HDRIs, sizes and cameras change as in a real job.

    python -P benchmarks/render_memory.py [--quick] [--frames 200]

25 people under 25 HDRIs of 2048 x 1024, one after the other; the camera and the image's size change at every
frame. That is what a worker process sees, and it must not grow. Resident set size is read after every frame.
The warm-up is the first ten people, for some are remembered on purpose; `growth` is between the medians of
the first and the last third of the rest. Last printed line: one JSON object.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipelines.cli import leave
from render.crosscheck import RIGS
from render.engine import Engine, built_person
from render.folders import Folders
from render.lights import find_hdri, list_hdris, read_hdri
from render.people import sample_person
from render.spec import LightSpec, RenderSettings, SampleSpec

PEOPLE, WARM_UP = 25, 10
HDRI_SIZE = (2048, 1024)  # 34 MB each once loaded


def resident_mb() -> float:
    """Resident set size of this process."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def make_hdris(folder: Path) -> None:
    """Large environments made of the bundled ones, each turned and dimmed by another amount."""
    bundled = list(list_hdris().values())
    for index in range(PEOPLE):
        radiance = cv2.resize(read_hdri(bundled[index % len(bundled)]), HDRI_SIZE)
        turned = np.roll(radiance, 80 * index, axis=1) * np.float32(0.98**index)
        cv2.imwrite(str(folder / f"hdri-{index:02d}.hdr"), turned[..., ::-1])


def frame(index: int, person: int, folder: Path) -> SampleSpec:
    """The spec of frame `index` of the job."""
    someone = sample_person(np.random.default_rng(100 + person))
    rig = list(RIGS.values())[index % len(RIGS)]
    settings = RenderSettings(2 * rig.width, 2 * rig.height, samples=4, noise_seed=index)
    hdri = find_hdri(f"hdri-{person:02d}", folder)
    light = LightSpec(hdri.name, hdri.sha256, 0.0, hdri.neutral_ev)
    middle = np.array([0.0, 0.0, 0.5 * built_person(someone).height])
    return replace(rig.spec(someone, middle, settings), light=light)


def growth(curve: np.ndarray) -> float:
    """Relative growth from the first to the last third of `curve` after the warm-up."""
    settled = curve[len(curve) * WARM_UP // PEOPLE :]
    third = max(1, len(settled) // 3)
    return float(np.median(settled[-third:]) / np.median(settled[:third]) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="50 frames")
    parser.add_argument("--frames", type=int, help="default 200")
    given = parser.parse_args()
    frames = given.frames or (50 if given.quick else 200)
    curve, started = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_hdris(folder)
        engine = Engine(folders=Folders(hdris=folder))
        for index in range(frames):
            person = index * PEOPLE // frames
            engine.render(frame(index, person, folder))
            curve.append(resident_mb())
            print(f"frame {index + 1}, person {person + 1}: {curve[-1]:.0f} MB", flush=True)
    marks = np.linspace(0, frames - 1, 11).astype(int)
    figures: dict[str, Any] = {
        "benchmark": "render_memory",
        "frames": frames,
        "people": PEOPLE,
        "growth": round(growth(np.array(curve)), 4),
        "peak_mb": round(max(curve)),
        "curve_mb": {str(mark + 1): round(curve[mark]) for mark in marks},
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
    leave(0)
