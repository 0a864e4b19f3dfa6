"""Pictures beside PNGs of part ids, of the same names: LIP and CIHP (20 classes), or 28 and 29 classes.

LIP: images train_images, parts train_segmentations. CIHP: Images, Category_ids. 255 counts for nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import UInt8
from pydantic import model_validator

from annotation.codecs import decode_image
from annotation.labels import Labels
from annotation.parts import IGNORE, lip_to_28
from shards.errors import VitruvianError
from train.data.layouts.base import Layout, LayoutConfig, Purpose
from train.data.layouts.files import PICTURES, check_sizes, decode_ids, find, listing_digest, pair, read


class PartsConfig(LayoutConfig):
    """Where the folders are, and what the ids mean."""

    places: ClassVar[frozenset[str]] = frozenset({"images", "parts"})
    layout: Literal["parts"]
    images: Path
    parts: Path
    classes: Literal[20, 28, 29]
    """Of the vocabulary of the files."""
    mapped_to: Literal[28] | None = None
    """Only with 20 classes: hair, face, clothing and shoes get their id of 28, everything else on a person
    counts for nothing (the released code's table). It says too little to score a model of 28 classes by.
    """

    @model_validator(mode="after")
    def _check(self) -> "PartsConfig":
        if self.mapped_to is not None and self.classes != 20:
            raise ValueError(f"mapped_to: the table starts from 20 classes, not {self.classes}; leave it out")
        return self

    def open(self, root: Path, where: str, purpose: Purpose) -> "PartsLayout":
        return PartsLayout(self, root, where)


class PartsLayout(Layout):
    """rgb and parts."""

    labels = ("rgb", "parts")

    def __init__(self, config: PartsConfig, root: Path, where: str) -> None:
        self.classes, self.mapped_to = config.classes, config.mapped_to
        files = {
            "images": find(root / config.images, PICTURES),
            "parts": find(root / config.parts, (".png",)),
        }
        names, left_out = pair(files, config.unpaired, where)
        self.files = {role: {name: found[name] for name in names} for role, found in files.items()}
        contents = [f"{role} {listing_digest(found)}" for role, found in self.files.items()]
        super().__init__(config, where, names, contents, {"unpaired": left_out})

    def labels_of(self, index: int, wanted: Sequence[str]) -> Labels:
        name = self.names[index]
        arrays: dict[str, Any] = {}
        if "rgb" in wanted:
            arrays["rgb"] = read(self.files["images"][name], decode_image)
        if "parts" in wanted:
            arrays["parts"] = self._parts(self.files["parts"][name])
        check_sizes(arrays)
        return Labels(**arrays, part_classes=self.mapped_to or self.classes, meta=self.people(index))

    def _parts(self, path: Path) -> UInt8[np.ndarray, "height width"]:
        ids = read(path, decode_ids)
        strange = np.unique(ids[(ids >= self.classes) & (ids != IGNORE)])
        if len(strange):
            raise VitruvianError(
                f"{path}: expected ids 0 .. {self.classes - 1} or {IGNORE}; got {strange.tolist()}: "
                "is `classes` right?"
            )
        return ids if self.mapped_to is None else lip_to_28(ids)
