"""Sampled people by the hundred: are they dressed, labelled exactly, varied, and how long do they take.

python -P benchmarks/people.py [--quick] [--people 200] [--asset-folder DIR] [--out DIR]

Every person of people-v1 is drawn, built and rendered once at 384 x 512. Measured: skin seen through clothes
(rays from eight directions), part ids against an independent ray cast on interior pixels (all eight
neighbours of the same part), stored keypoints against the projection of the person's 3-D points, classes
seen (on at least 16 pixels of a picture), rejects by reason; and seconds to draw, build and load one person
on one core, in a process of its own after a warm-up. --out: folder for a contact sheet. --quick: 6 people.
Last printed line: one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from annotation.codecs import encode_rgb
from annotation.definitions import keypoint_definitions
from annotation.draw import tile
from annotation.labels import Labels
from annotation.parts import part_vocabulary
from pipelines.cli import leave
from render.check import render_checked
from render.crosscheck import RayCaster, interior
from render.engine import Engine, built_person
from render.people import PersonSpec
from render.people.through import skin_through
from render.recipe import RenderConfig, SampledSubject, plan_views
from render.scene import shared_scene
from render.spec import Placement, SampleSpec, StageSpec

SHEET = 64
SEEN_PX = 16
TIMED = 24
WARM_UP = 3


@dataclass
class Tally:
    """What was found so far."""

    people: int = 0
    rejects: Counter[str] = field(default_factory=Counter)
    through: list[float] = field(default_factory=list)
    interior_px: int = 0
    mismatch_px: int = 0
    keypoint_px: float = 0.0
    visible: Counter[int] = field(default_factory=Counter)
    classes: set[str] = field(default_factory=set)
    specs: list[PersonSpec] = field(default_factory=list)
    sheet: list[UInt8[np.ndarray, "height width 3"]] = field(default_factory=list)


def job(given: argparse.Namespace) -> RenderConfig:
    """One picture of each person."""
    return RenderConfig(
        seed=given.seed,
        identities=given.people,
        views=1,
        width=384,
        height=512,
        samples=given.samples,
        asset_folder=given.asset_folder,
    )


def survey(config: RenderConfig) -> Tally:
    """Plan, render and check everybody."""
    tally, engine = Tally(), Engine(folders=config.folders)
    for identity in config.identity_range():
        for spec in _planned(config, identity, tally):
            checked = render_checked(spec, engine.render_labels)
            tally.people += 1
            tally.rejects.update(problem.name for problem in checked.problems[:1])
            _count(tally, spec, checked.labels, config)
        print(f"{identity + 1}/{config.identities}", _figures(tally), file=sys.stderr, flush=True)
    return tally


def _planned(config: RenderConfig, identity: int, tally: Tally) -> Iterator[SampleSpec]:
    def reject(reason: str, images: int) -> None:
        tally.rejects[reason] += images

    def build(spec: Any) -> Any:
        return built_person(spec, config.folders)

    return plan_views(config, SampledSubject(identity), 0, build, reject)


def _count(tally: Tally, spec: SampleSpec, labels: Labels, config: RenderConfig) -> None:
    person = built_person(spec.people[0], config.folders)
    assert isinstance(spec.people[0], PersonSpec)
    assert labels.parts is not None and labels.camera is not None and labels.rgb is not None
    tally.specs.append(spec.people[0])
    tally.through.append(skin_through(person))
    names = part_vocabulary(labels.part_classes).names
    counts = np.bincount(labels.parts.reshape(-1), minlength=256)[: len(names)]
    tally.classes |= {name for name, count in zip(names, counts, strict=True) if count >= SEEN_PX}
    if not uses_cards(spec.people[0]):
        cast = RayCaster([person], spec.placements).cast(labels.camera)
        inside = settled(labels.parts) & settled(cast.parts)
        tally.interior_px += int((inside & cast.mask).sum())
        tally.mismatch_px += int((inside & (labels.parts != cast.parts)).sum())
    _count_keypoints(tally, spec, labels, config)
    if len(tally.sheet) < SHEET:
        tally.sheet.append(labels.rgb)


def uses_cards(spec: PersonSpec) -> bool:
    """Whether some of this person is cut out by a texture, which a cast at triangles cannot know."""
    return spec.hair.asset is not None


def settled(parts: UInt8[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels all of whose neighbours have their part."""
    found = np.zeros(parts.shape, bool)
    for part in np.unique(parts):
        found |= interior(parts == part)
    return found


def _count_keypoints(tally: Tally, spec: SampleSpec, labels: Labels, config: RenderConfig) -> None:
    """Project by hand: p = K (R X + t), written out."""
    person, placement = built_person(spec.people[0], config.folders), spec.placements[0]
    assert person.keypoints is not None and labels.keypoints is not None and labels.camera is not None
    turn = np.radians(placement.heading_deg)
    x = np.cos(turn) * person.keypoints[:, 0] - np.sin(turn) * person.keypoints[:, 1] + placement.x
    y = np.sin(turn) * person.keypoints[:, 0] + np.cos(turn) * person.keypoints[:, 1] + placement.y
    world = np.stack([x, y, person.keypoints[:, 2], np.ones(len(x))], axis=1)
    seen = world @ np.array(spec.camera.world_to_camera).T
    ahead = seen[:, 2] > 0
    focal = spec.camera.focal_mm / 36.0 * spec.settings.width
    u = (
        focal * seen[:, 0] / seen[:, 2]
        + (spec.settings.width - 1) / 2
        - spec.camera.shift_x * spec.settings.width
    )
    v = (
        focal * seen[:, 1] / seen[:, 2]
        + (spec.settings.height - 1) / 2
        + spec.camera.shift_y * spec.settings.width
    )
    stored = labels.keypoints[0]
    near = ahead & (np.abs(u) < 1e4) & (np.abs(v) < 1e4)  # beyond, float32 cannot hold a thousandth
    error = np.hypot(stored[near, 0] - u[near], stored[near, 1] - v[near])
    tally.keypoint_px = max(tally.keypoint_px, float(error.max(initial=0)))
    tally.visible.update(np.flatnonzero(stored[:, 3] == 2).tolist())


def time_one_core(config: RenderConfig) -> dict[str, float]:
    """Seconds to draw, build and load a person, in a process that may use one core."""
    given = [] if config.asset_folder is None else ["--asset-folder", str(config.asset_folder)]
    command = [sys.executable, "-P", __file__, "--times", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def print_times(given: argparse.Namespace) -> None:
    """The body of that process."""
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    config = job(given)
    seconds: dict[str, list[float]] = {"draw": [], "build": [], "load": []}
    scene = shared_scene(1)
    for identity in range(10_000, 10_000 + WARM_UP + TIMED):
        start = time.perf_counter()
        spec = SampledSubject(identity).cast(config, 1)[str(identity)]
        drawn = time.perf_counter()
        person = built_person(spec, config.folders)
        built = time.perf_counter()
        scene.load_people((person,), (Placement(),), StageSpec())
        loaded = time.perf_counter()
        for name, spent in zip(seconds, (drawn - start, built - drawn, loaded - built), strict=True):
            seconds[name].append(spent)
    means = {name: round(float(np.mean(values[WARM_UP:])), 3) for name, values in seconds.items()}
    every = np.sum([values[WARM_UP:] for values in seconds.values()], axis=0)
    print(json.dumps({**means, "mean": round(float(every.mean()), 3), "worst": round(float(every.max()), 3)}))
    leave(0)


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "people": tally.people,
        "rejects": dict(tally.rejects),
        "skin_through_max": round(max(tally.through, default=0.0), 5),
        "part_classes_seen": len(tally.classes),
        "part_interior_px": tally.interior_px,
        "part_mismatch_px": tally.mismatch_px,
        "keypoint_error_px": round(tally.keypoint_px, 6),
        "keypoints_seen": len(tally.visible),
    }


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="6 people")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--asset-folder", type=Path)
    parser.add_argument("--out", type=Path, help="folder for sheet.png")
    parser.add_argument("--times", action="store_true", help="only the seconds, as the run measures them")
    given = parser.parse_args(arguments)
    if given.quick:
        given.people = min(given.people, 6)
    return given


def main() -> None:
    given = parse()
    if given.times:
        print_times(given)
    config = job(given)
    tally = survey(config)
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "sheet.png").write_bytes(encode_rgb(tile(tally.sheet, 8)))
    seconds = time_one_core(config)
    missing = sorted(set(part_vocabulary(29).names) - tally.classes)
    figures = {
        "benchmark": "people",
        "assets": given.asset_folder is not None,
        **_figures(tally),
        "part_classes_missing": missing,
        "keypoints_defined": len(keypoint_definitions()),
        "seconds_per_person": seconds["mean"],
        "seconds": seconds,
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
    leave(0)
