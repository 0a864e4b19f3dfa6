"""A small dataset of photographs and the settings of a pretraining that takes seconds on it."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from shards.manifest import write_manifest
from shards.sample import Sample, content_key
from shards.writer import ShardWriter

SETTINGS = {
    "size": "tiny",
    "image_size": [64, 48],
    "batch": 4,
    "steps": 4,
    "base_learning_rate": 0.02,
    "warmup_steps": 1,
    "reconstructions": 2,
    "log_every": 1,
    "checkpoint_every": 2,
}


def smooth_photos(count: int = 5) -> list[bytes]:
    """JPEGs of 90 x 75 pixels, smooth, each different."""
    rng, files = np.random.default_rng(0), []
    for _ in range(count):
        coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (75, 90), interpolation=cv2.INTER_CUBIC)
        files.append(cv2.imencode(".jpg", smooth)[1].tobytes())
    return files


def write_photos(folder: Path, files: Iterable[bytes]) -> Path:
    """A dataset of one shard in `folder`."""
    with ShardWriter(folder, "part-0") as writer:
        for data in files:
            writer.add(Sample(content_key(data), {"jpg": data, "json": b"{}"}))
        writer.commit()
    write_manifest(folder, {})
    return folder
