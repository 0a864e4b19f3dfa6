"""Body-part vocabularies (20 LIP, 28 Sapiens, 29 Sapiens2): names, flip partners, colours, class weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from shards.errors import VitruvianError

TABLES = Path(__file__).parent / "vocabularies"
SIZES = (20, 28, 29)
IGNORE = 255
"""The id of pixels that count for nothing: neither in the loss nor in a metric."""


@dataclass(frozen=True, eq=False)
class PartVocabulary:
    """What the class ids of one vocabulary are; 0 is the background, 255 (IGNORE) is no class.

    flip: id of the mirror partner, itself for the unpaired. colours: the field's palette, RGB. weights: of
    the cross-entropy as published with the vocabulary; None for 29, which has none.
    """

    name: str
    names: tuple[str, ...]
    flip: Int64[np.ndarray, " classes"]
    colours: UInt8[np.ndarray, "classes 3"]
    weights: Float64[np.ndarray, " classes"] | None

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The id of the class called `name`. Raises VitruvianError when there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise VitruvianError(f"parts: {self.name} has no class {name!r}; it has {self.names}") from None


@cache
def part_vocabulary(classes: int) -> PartVocabulary:
    """The vocabulary of 20, 28 or 29 classes. Raises VitruvianError for another number."""
    if classes not in SIZES:
        raise VitruvianError(f"parts: expected a vocabulary of {SIZES} classes; got {classes}")
    table = json.loads((TABLES / f"parts_{classes}.json").read_text(encoding="utf-8"))
    rows: Mapping[str, Mapping[str, Any]] = table["classes"]
    names = tuple(rows)
    weighted = all("weight" in row for row in rows.values())
    return PartVocabulary(
        name=table["name"],
        names=names,
        flip=_frozen([names.index(row["flip"]) for row in rows.values()], np.int64),
        colours=_frozen([row["colour"] for row in rows.values()], np.uint8),
        weights=_frozen([row["weight"] for row in rows.values()], np.float64) if weighted else None,
    )


def flip_parts(parts: UInt8[np.ndarray, "height width"], classes: int) -> UInt8[np.ndarray, "height width"]:
    """The part ids of the horizontally mirrored image: left and right trade names. An involution."""
    names = np.arange(256, dtype=np.uint8)
    names[:classes] = part_vocabulary(classes).flip
    return np.asarray(names[parts[:, ::-1]])


def map_parts(
    parts: UInt8[np.ndarray, "height width"], source: int, target: int
) -> UInt8[np.ndarray, "height width"]:
    """Part ids of the vocabulary of `source` classes in that of `target`: classes of one name, else IGNORE.

    29 -> 28 ignores eyeglasses, as the published 28-class labels do. Raises VitruvianError between
    vocabularies that divide the body differently (20 classes and the others).
    """
    if source == target:
        return parts
    if 20 in (source, target):
        raise VitruvianError(
            f"parts: {source} classes cannot be mapped to {target}: they are not the same parts"
        )
    old, new = part_vocabulary(source).names, part_vocabulary(target).names
    ids = np.full(256, IGNORE, np.uint8)
    ids[: len(old)] = [new.index(name) if name in new else IGNORE for name in old]
    return np.asarray(ids[parts])


def lip_to_28(parts: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Ids of the 20 classes of LIP and CIHP -> of 28, as the released code maps them: hair, face, clothing,
    shoes and background; everything else on a person becomes IGNORE.
    """
    return np.asarray(_lip_ids()[parts])


@cache
def _lip_ids() -> UInt8[np.ndarray, "256"]:
    table = json.loads((TABLES / "parts_20_to_28.json").read_text(encoding="utf-8"))["classes"]
    ids = np.full(256, IGNORE, np.uint8)
    for old, new in table.items():
        ids[part_vocabulary(20).index(old)] = part_vocabulary(28).index(new)
    return ids


def _frozen(values: list[Any], dtype: type[np.generic]) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
