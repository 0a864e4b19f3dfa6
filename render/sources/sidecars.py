"""What may lie beside a mesh: part ids and a quality mask in its texture space, and keypoints."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from annotation.keypoints import SIZES, KeypointVocabulary, keypoint_vocabulary
from annotation.parts import IGNORE, part_vocabulary
from render.sources.config import ScanRejected
from render.sources.guard import check_image

PART_CLASSES = 28


def read_map(path: Path) -> UInt8[np.ndarray, "height width"]:
    """An 8-bit single-channel image in texture space. Raises ScanRejected "sidecar:image" or
    "texture:...".
    """
    from PIL import Image

    check_image(path)
    with Image.open(path) as image:
        if image.mode not in ("L", "P", "1"):
            raise ScanRejected(
                "sidecar:image", f"{path}: expected an 8-bit image of one channel; got mode {image.mode}"
            )
        if image.mode == "P":
            raise ScanRejected(
                "sidecar:image", f"{path}: expected grey values; got a palette: save it as grey"
            )
        return np.asarray(image.convert("L"))


def check_parts(path: Path) -> None:
    """Raise ScanRejected "parts:unknown" for ids outside of the 28 classes that are not 255 (ignore)."""
    ids = np.unique(read_map(path))
    if unknown := [int(i) for i in ids if i >= PART_CLASSES and i != IGNORE]:
        raise ScanRejected(
            "parts:unknown",
            f"{path}: expected ids of {part_vocabulary(PART_CLASSES).name} (0 .. {PART_CLASSES - 1}) or "
            f"{IGNORE}; got {unknown[:8]}",
        )


def sample_map(
    image: UInt8[np.ndarray, "height width"], uv: Float64[np.ndarray, "n 2"]
) -> UInt8[np.ndarray, " n"]:
    """The texel under each point, v upward, repeated outside of 0..1: as the renderer's "Closest" does."""
    height, width = image.shape
    column = np.minimum(np.floor((uv[:, 0] % 1.0) * width).astype(int), width - 1)
    row = height - 1 - np.minimum(np.floor((uv[:, 1] % 1.0) * height).astype(int), height - 1)
    return np.asarray(image[row, column])


def read_keypoints(path: Path) -> Float64[np.ndarray, "k 3"]:
    """Points of the smallest vocabulary that has all the names, in the file's axes and units; NaN where the
    file has none.

    Raises ScanRejected "keypoints:json", "keypoints:names" or "keypoints:count".
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        points = content["points"]
    except (ValueError, KeyError, TypeError) as error:
        raise ScanRejected("keypoints:json", f'{path}: expected {{"points": ...}}: {error!r}') from None
    if isinstance(points, dict):
        vocabulary = _vocabulary_of(sorted(points), path)
        listed = [points.get(name) for name in vocabulary.names]
    else:
        size = content.get("vocabulary", len(points))
        if size not in SIZES or not isinstance(points, list) or len(points) != size:
            raise ScanRejected(
                "keypoints:count",
                f"{path}: expected a vocabulary of {SIZES} and as many points; got {size!r}",
            )
        listed = points
    return np.stack([_point(value, path) for value in listed])


def _vocabulary_of(names: Sequence[str], path: Path) -> KeypointVocabulary:
    for size in SIZES:
        vocabulary = keypoint_vocabulary(size)
        if set(names) <= set(vocabulary.names):
            return vocabulary
    known = set(keypoint_vocabulary(SIZES[-1]).names)
    raise ScanRejected(
        "keypoints:names",
        f"{path}: no vocabulary of {SIZES} has all of these names; unknown to the largest: "
        f"{[n for n in names if n not in known][:8]}",
    )


def _point(value: Any, path: Path) -> Float64[np.ndarray, " 3"]:
    if value is None:
        return np.full(3, np.nan)
    numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(x, int | float) for x in value)
    if not numbers or not np.isfinite(value).all():
        raise ScanRejected("keypoints:json", f"{path}: expected [x, y, z] or null; got {value!r}")
    return np.array(value, np.float64)
