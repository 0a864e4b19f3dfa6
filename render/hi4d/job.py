"""Hi4D as units of work: up to 50 frames of one sequence and camera become one shard."""

import importlib.metadata
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from pydantic import Field

from render.hi4d.files import (
    PUBLISHED_CAMERAS,
    PUBLISHED_PAIRS,
    Frame,
    Listed,
    cameras_file,
    list_frames,
    pairs_of,
)
from render.hi4d.labels import Geometry, Human, make_sample
from render.hi4d.read import FrameRejected, read_calibration
from shards.config import Config
from shards.errors import UsageError
from shards.files import sha256_file
from shards.sample import Sample, digest_json
from shards.units import Stage, Unit, code_digest
from shards.writer import ShardWriter

STAGE_NAME = "hi4d"
PROTOCOL = "hi4d"
"""Name of the published test set, for whoever evaluates on it."""

_BLOCK = 50  # frames of a shard: what a killed run may have to do again
_CODE = ("render.hi4d", "render.crosscheck", "render.people.mesh", "annotation", "shards")


class Hi4dConfig(Config):
    """Which frames, and what their labels are made of (`render.hi4d.labels.make_sample`). listed: sequences
    and frames instead of whole pairs.
    """

    pairs: tuple[int, ...] = Field(default=PUBLISHED_PAIRS, min_length=1)
    cameras: tuple[int, ...] = Field(default=PUBLISHED_CAMERAS, min_length=1)
    listed: Listed | None = None
    geometry: Geometry = "scan"
    human: Human = "mesh"

    def is_published(self) -> bool:
        """Whether the frames are of the pairs and the camera of the paper's test set."""
        pairs = self.pairs if self.listed is None else pairs_of(self.listed)
        return set(pairs) == set(PUBLISHED_PAIRS) and set(self.cameras) == set(PUBLISHED_CAMERAS)


def plan(root: Path, config: Hi4dConfig) -> list[Unit]:
    """The units, in order of sequence, camera and frame. Files count by name and size, calibrations by
    content. Raises UsageError for what is missing as a whole: a folder, a calibration, a camera.
    """
    frames = list_frames(root, config.pairs, sorted(set(config.cameras)), config.listed)
    calibrations = {frame.sequence: cameras_file(frame.folder) for frame in frames}
    for path in calibrations.values():
        ids = read_calibration(path).ids.tolist()
        if unknown := sorted(set(config.cameras) - set(ids)):
            raise UsageError(f"{path}: no camera {unknown}; it has {ids}")
    digests = {sequence: sha256_file(path) for sequence, path in calibrations.items()}
    groups = groupby(frames, key=lambda frame: (frame.sequence, frame.camera, frame.number // _BLOCK))
    return [
        Unit(
            name=f"{sequence.replace('/', '-')}-camera-{camera:02d}-frames-{block * _BLOCK:06d}",
            payload={"sequence": sequence, "camera": camera, "frames": [frame.number for frame in group]},
            inputs={"calibration": digests[sequence], "files": _sizes(root, group)},
        )
        for (sequence, camera, block), group in ((key, list(members)) for key, members in groups)
    ]


def stage_key(config: Hi4dConfig) -> str:
    """Digest of all that a byte of the output depends on but the units: settings, code, versions."""
    look = {"geometry": config.geometry, "human": config.human}
    return digest_json({**look, "code": code_digest(*_CODE), **_versions()})


def provenance(config: Hi4dConfig) -> dict[str, Any]:
    """What the manifest says about where its samples come from; "protocol" where they are the paper's."""
    listed = None if config.listed is None else sorted(
        [sequence, None if frames is None else sorted(frames)] for sequence, frames in config.listed.items()
    )  # fmt: skip
    said = {
        "dataset": "Hi4D",
        "pairs": sorted(set(config.pairs if config.listed is None else pairs_of(config.listed))),
        "cameras": sorted(set(config.cameras)),
        "listed_sha256": None if listed is None else digest_json(listed),
        "geometry": config.geometry,
        "human": config.human,
        "versions": _versions(),
    }
    return said | ({"protocol": PROTOCOL} if config.is_published() else {})


@dataclass(frozen=True)
class Hi4dWorker:
    """Makes one unit into one shard. Picklable; `root` is where Hi4D lies on this machine."""

    root: Path
    geometry: Geometry = "scan"
    human: Human = "mesh"

    def __call__(self, stage: Stage, unit: Unit) -> None:
        """Label the unit's frames and commit its shard. A frame that misses a file, or has a damaged one, is
        a reject.
        """
        what, rejects, started = unit.payload, Counter[str](), time.perf_counter()
        frames = [Frame(self.root, what["sequence"], what["camera"], number) for number in what["frames"]]
        calibration = read_calibration(cameras_file(frames[0].folder))
        messages: list[str] = []
        with ShardWriter(stage.out, unit.name, columns=scalar_columns) as writer:
            for frame in frames:
                try:
                    writer.add(make_sample(frame, calibration, self.geometry, self.human))
                except FrameRejected as rejected:
                    rejects[rejected.reason] += 1
                    messages.append(str(rejected))
            writer.commit(
                stage_name=stage.name,
                stage_key=stage.key,
                inputs=unit.inputs,
                rejects=rejects,
                run={
                    "seconds": round(time.perf_counter() - started, 3),
                    "pid": os.getpid(),
                    "rejected": messages,
                },
            )


def scalar_columns(sample: Sample) -> Mapping[str, Any]:
    """Index columns of a sample, for selecting without opening it."""
    meta = sample.meta()
    told = meta["provenance"]
    return {
        "identity": meta["people"][0]["identity"],
        "people": len(meta["people"]),
        "sequence": told["sequence"],
        "camera": told["camera"],
        "frame": told["frame"],
        "mask_iou": told["mask_iou"],
        "width": meta["camera"]["width"],
        "height": meta["camera"]["height"],
        "depth_near": meta["depth"]["near"],
        "depth_far": meta["depth"]["far"],
    }


def _sizes(root: Path, frames: list[Frame]) -> str:
    """Digest of the names (below `root`) and sizes of the frames' files that are there."""
    paths = [path for frame in frames for path in frame.paths() if path.is_file()]
    return digest_json({path.relative_to(root).as_posix(): path.stat().st_size for path in paths})


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("embreex", "numpy", "scipy", "trimesh")}
