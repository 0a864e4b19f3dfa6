"""Keypoint vocabularies (17 COCO, 133 COCO-WholeBody, 308 Goliath), their flips and mappings."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from shards.errors import VitruvianError

TABLES = Path(__file__).parent / "vocabularies"
SIZES = (17, 133, 308)

TIERS = ("same_name", "hand_base", "face_name", "face_side", "face_approximate")
"""How sure a pair of the 308-to-133 mapping is, surest first. Only `same_name` (53 points) is beyond doubt;
the meaning of each is written in vocabularies/keypoints_308_to_133.json.
"""


@dataclass(frozen=True, eq=False)
class KeypointVocabulary:
    """What the points of one vocabulary are, by index.

    flip: index of the mirror partner, itself on the midline. sides: "left", "right" (the person's) or
    "middle". groups: name -> indices: body, foot, left_hand, right_hand, face, extra; 308 also has
    face.eyelid, face.nose ...; upper_body and lower_body are the halves of half-body augmentation. sigmas:
    OKS constants. links: skeleton.
    """

    name: str
    names: tuple[str, ...]
    flip: Int64[np.ndarray, " points"]
    sides: tuple[str, ...]
    groups: Mapping[str, tuple[int, ...]]
    sigmas: Float64[np.ndarray, " points"]
    links: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The index of the point called `name`. Raises VitruvianError when there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise VitruvianError(
                f"keypoints: {self.name} has no point {name!r}; it has {self.names}"
            ) from None


@cache
def keypoint_vocabulary(points: int) -> KeypointVocabulary:
    """The vocabulary of 17, 133 or 308 points. Raises VitruvianError for another number."""
    if points not in SIZES:
        raise VitruvianError(f"keypoints: expected a vocabulary of {SIZES} points; got {points}")
    table = json.loads((TABLES / f"keypoints_{points}.json").read_text(encoding="utf-8"))
    rows: Mapping[str, Mapping[str, Any]] = table["points"]
    names = tuple(rows)
    position = {name: index for index, name in enumerate(names)}
    return KeypointVocabulary(
        name=table["name"],
        names=names,
        flip=_frozen([position[row["flip"]] for row in rows.values()], np.int64),
        sides=tuple(row["side"] for row in rows.values()),
        groups=_groups(list(rows.values())),
        sigmas=_frozen([row["sigma"] for row in rows.values()], np.float64),
        links=tuple((position[start], position[end]) for start, end in table["links"]),
    )


def flip_keypoints(
    keypoints: Float32[np.ndarray, "people points 4"], width: int
) -> Float32[np.ndarray, "people points 4"]:
    """Keypoints of the horizontally mirrored image of `width` px: x' = width - 1 - x, left and right trade
    names.

    An involution. The vocabulary is the one with as many points.
    """
    flipped = keypoints[:, keypoint_vocabulary(keypoints.shape[1]).flip]
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


@dataclass(frozen=True, eq=False)
class KeypointMapping:
    """Pairs of points of two vocabularies: `source[i]` is the same place as `target[i]`, as sure as
    `tiers[i]`.
    """

    source: Int64[np.ndarray, " pairs"]
    target: Int64[np.ndarray, " pairs"]
    tiers: tuple[str, ...]


@cache
def keypoint_mapping(source: int, target: int) -> KeypointMapping:
    """The pairs from one vocabulary to another.

    308 -> 133 has 114 pairs: 53 by name, the others inferred. 133 -> 17 and 308 -> 17 are the 17 equal names.
    To a larger one, as the released code trains 308 points on COCO: the equal names only, 17 or 53.
    """
    if source < target:
        return _by_name(keypoint_mapping(target, source))
    big, small = keypoint_vocabulary(source), keypoint_vocabulary(target)
    if (source, target) == (308, 133):
        tiers = json.loads((TABLES / "keypoints_308_to_133.json").read_text(encoding="utf-8"))["tiers"]
        named = [(*pair, tier) for tier in TIERS for pair in tiers[tier]["pairs"]]
    else:
        named = [(name, name, "same_name") for name in small.names]
    pairs = sorted((small.index(to), big.index(start), tier) for start, to, tier in named)
    return KeypointMapping(
        source=_frozen([pair[1] for pair in pairs], np.int64),
        target=_frozen([pair[0] for pair in pairs], np.int64),
        tiers=tuple(pair[2] for pair in pairs),
    )


def map_keypoints(
    keypoints: Float32[np.ndarray, "people source 4"], target: int, tiers: Collection[str] = TIERS
) -> Float32[np.ndarray, "people target 4"]:
    """Keypoints in the vocabulary of `target` points; what has no counterpart within `tiers` is zero
    (visibility 0).

    308 -> 133 fills 114 points with all tiers, 53 with ("same_name",): the jaw line and the hand roots stay
    empty. To a larger vocabulary go the points of equal names: 17 -> 133 and 308 fills 17, 133 -> 308
    fills 53.
    """
    if unknown := sorted(set(tiers) - set(TIERS)):
        raise VitruvianError(f"keypoints: expected tiers among {TIERS}; got {unknown}")
    mapping = keypoint_mapping(keypoints.shape[1], target)
    kept = np.array([tier in tiers for tier in mapping.tiers])
    mapped = np.zeros((len(keypoints), target, 4), np.float32)
    mapped[:, mapping.target[kept]] = keypoints[:, mapping.source[kept]]
    return mapped


def _by_name(mapping: KeypointMapping) -> KeypointMapping:
    """The other way round, only what is beyond doubt, in the order of the new target."""
    sure = np.flatnonzero([tier == "same_name" for tier in mapping.tiers])
    order = sure[np.argsort(mapping.source[sure])]
    return KeypointMapping(
        _frozen(mapping.target[order].tolist(), np.int64),
        _frozen(mapping.source[order].tolist(), np.int64),
        ("same_name",) * len(order),
    )


def _groups(rows: list[Mapping[str, Any]]) -> Mapping[str, tuple[int, ...]]:
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        names = {row["group"], row["group"].partition(".")[0]}
        if "half" in row:
            names.add(f"{row['half']}_body")
        for name in sorted(names):
            groups.setdefault(name, []).append(index)
    return MappingProxyType({name: tuple(indices) for name, indices in groups.items()})


def _frozen(values: list[Any], dtype: type[np.generic]) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array
