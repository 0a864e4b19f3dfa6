"""The folders of the official repository's depth and normal tasks, as in its toy data set:

    images/NAME.png (or .jpg)   masks/NAME.png   depths/NAME.npy   normals/NAME.npy

Masks: above 0 is human. Depths: float (height, width), z in metres. Normals: float (height, width, 3), x
right, y up, z toward the camera. What is no surface there (background -1000, depths of 1e10, zeros, NaN,
pixels outside the mask) is none here.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float32
from pydantic import Field

from annotation.codecs import MAX_DEPTH, decode_image
from annotation.labels import Labels
from shards.errors import UsageError
from train.data.layouts.base import Layout, LayoutConfig, Purpose
from train.data.layouts.files import (
    PICTURES,
    check_sizes,
    decode_cover,
    find,
    listing_digest,
    pair,
    read,
    read_array,
)

LARGEST_COMPONENT = 1.1
"""Of a normal; beyond it the pixel holds a mark, not a direction."""
SHORTEST = 0.1
"""Length of a normal; below it there is none."""
FOLDERS = {"masks": (".png",), "depths": (".npy",), "normals": (".npy",)}


class ToyConfig(LayoutConfig):
    """Where the folders are. A folder of labels that is not named and not there is a label the data lacks."""

    places: ClassVar[frozenset[str]] = frozenset({"root", "images", "masks", "depths", "normals"})
    layout: Literal["toy"]
    root: Path = Path()
    images: Path = Path("images")
    masks: Path = Path("masks")
    depths: Path = Path("depths")
    normals: Path = Path("normals")
    depth_unit: float = Field(default=1.0, gt=0)
    """Metres in a unit of the depth files: 0.01 for centimetres."""

    def open(self, root: Path, where: str, purpose: Purpose) -> "ToyLayout":
        return ToyLayout(self, root / self.root, where)


class ToyLayout(Layout):
    """rgb; alpha, depth and normal where their folders are there. Alpha is 0 or 255."""

    def __init__(self, config: ToyConfig, root: Path, where: str) -> None:
        self.depth_unit = config.depth_unit
        self.files = {"images": find(root / config.images, PICTURES)}
        for role, suffixes in FOLDERS.items():
            folder = root / getattr(config, role)
            if folder.is_dir() or role in config.model_fields_set:
                self.files[role] = find(folder, suffixes)
        if len(self.files) == 1:
            raise UsageError(f"{where}: expected {', '.join(FOLDERS)} or some of them in {root}; found none")
        names, left_out = pair(self.files, config.unpaired, where)
        self.files = {role: {name: found[name] for name in names} for role, found in self.files.items()}
        present = {"masks": "alpha", "depths": "depth", "normals": "normal"}
        self.labels = ("rgb", *(label for role, label in present.items() if role in self.files))
        contents = [f"{role} {listing_digest(found)}" for role, found in self.files.items()]
        super().__init__(config, where, names, contents, {"unpaired": left_out})

    def labels_of(self, index: int, wanted: Sequence[str]) -> Labels:
        path = {role: found[self.names[index]] for role, found in self.files.items()}
        cover = read(path["masks"], decode_cover) if "masks" in path else None
        arrays: dict[str, Any] = {}
        if "rgb" in wanted:
            arrays["rgb"] = read(path["images"], decode_image)
        if cover is not None:
            arrays["alpha"] = cover.astype(np.uint8) * 255
        if "depth" in wanted:
            arrays["depth"] = clean_depth(read_array(path["depths"]) * np.float32(self.depth_unit))
        if "normal" in wanted:
            arrays["normal"] = clean_normal(read_array(path["normals"], (3,)))
        check_sizes(arrays)
        labels = Labels(**arrays, meta=self.people(index))
        for surface in (labels.depth, labels.normal):
            if surface is not None and cover is not None:
                surface[~cover] = 0
        return labels if "alpha" in wanted else replace(labels, alpha=None)


def clean_depth(depth: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """Metres, 0 where the value is no depth of a surface."""
    with np.errstate(invalid="ignore"):
        valid = (depth > 0) & (depth < MAX_DEPTH)
    return np.where(valid, depth, np.float32(0))


def clean_normal(normal: Float32[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "height width 3"]:
    """Of length 1, or 0 where the value is no direction."""
    valid: Bool[np.ndarray, "height width"] = (np.abs(normal) <= LARGEST_COMPONENT).all(-1)
    normal[~valid] = 0
    length = np.sqrt((normal * normal).sum(-1, keepdims=True))
    return np.where(length > SHORTEST, normal / np.maximum(length, SHORTEST), np.float32(0))
