"""Typed labels of one image <-> the members of a shard sample: which label lives in which member."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from annotation import codecs
from annotation.camera import Camera
from annotation.parts import SIZES as PART_SIZES
from shards.errors import VitruvianError
from shards.sample import canonical_json

SCHEMA = 1

MEMBERS: Mapping[str, str] = {
    "rgb": "rgb.png",
    "depth": "depth.png",
    "normal": "normal.png",
    "geometric_normal": "geometric_normal.png",
    "alpha": "alpha.png",
    "parts": "parts.png",
    "instance": "instance.png",
    "albedo": "albedo.png",
    "quality": "quality.png",
    "keypoints": "keypoints.npy",
}
"""Label -> member it is written to."""

PHOTO_MEMBERS = ("rgb.png", "rgb.jpg", "jpg", "jpeg", "png", "webp")
"""Members an image is read from, first found first: renders, then curated photographs as they came."""

_RESERVED = ("schema", "camera", "depth", "part_classes")
"""Keys of the json member that `Labels` holds in typed fields."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Everything known about one image; each label is an array or None. One size for all images of a sample.

    rgb, albedo: sRGB. depth: z in metres, 0 = none. normal: of the smooth surface, unit, x right, y up, z
    toward the camera, 0 = none; geometric_normal: of the flat triangle. alpha: coverage. parts: ids of the
    vocabulary of `part_classes`, 255 = ignore. instance: person ids, 0 = nobody. quality: 255 where the
    geometry is to be trusted, else 0. keypoints: x px, y px, z m, visibility; their number names their
    vocabulary. meta: the rest of the json member ("people", "provenance" ...).
    Raises VitruvianError for labels of different sizes.
    """

    rgb: UInt8[np.ndarray, "height width 3"] | None = None
    depth: Float32[np.ndarray, "height width"] | None = None
    normal: Float32[np.ndarray, "height width 3"] | None = None
    geometric_normal: Float32[np.ndarray, "height width 3"] | None = None
    alpha: UInt8[np.ndarray, "height width"] | None = None
    parts: UInt8[np.ndarray, "height width"] | None = None
    instance: UInt8[np.ndarray, "height width"] | None = None
    albedo: UInt8[np.ndarray, "height width 3"] | None = None
    quality: UInt8[np.ndarray, "height width"] | None = None
    keypoints: Float32[np.ndarray, "people points 4"] | None = None
    camera: Camera | None = None
    part_classes: int = 28
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {name: image.shape[:2] for name, image in self.images().items()}
        if self.camera is not None:
            sizes["camera"] = (self.camera.height, self.camera.width)
        if len(set(sizes.values())) > 1:
            raise VitruvianError(f"labels: expected one (height, width) for all; got {sizes}")
        if reserved := sorted(set(_RESERVED) & set(self.meta)):
            raise VitruvianError(
                f"labels: meta may not hold {reserved}: they are fields of the labels themselves"
            )

    def images(self) -> dict[str, np.ndarray]:
        """The pixel labels that are present, by name."""
        present = {name: getattr(self, name) for name in MEMBERS if name != "keypoints"}
        return {name: image for name, image in present.items() if image is not None}

    def size(self) -> tuple[int, int] | None:
        """(height, width) in pixels, of any image or of the camera; None when neither is there."""
        if self.camera is not None:
            return self.camera.height, self.camera.width
        return next(((image.shape[0], image.shape[1]) for image in self.images().values()), None)


def to_members(labels: Labels) -> dict[str, bytes]:
    """Labels -> members of a sample, always with the "json" member. The same labels give the same bytes."""
    members: dict[str, bytes] = {}
    document: dict[str, Any] = {**labels.meta, "schema": SCHEMA}
    if labels.camera is not None:
        document["camera"] = labels.camera.to_json()
    for name, image in labels.images().items():
        if name == "depth":
            members[MEMBERS[name]], near, far = codecs.encode_depth(image)
            document["depth"] = {"near": near, "far": far}
        else:
            members[MEMBERS[name]] = _ENCODERS[name](image)
    if labels.keypoints is not None:
        members[MEMBERS["keypoints"]] = codecs.encode_keypoints(labels.keypoints)
    if labels.parts is not None:
        document["part_classes"] = labels.part_classes
    members["json"] = canonical_json(document)
    return members


def from_members(members: Mapping[str, bytes], wanted: Collection[str] | None = None) -> Labels:
    """Members -> labels. `wanted` names the labels to decode (all must be there); None decodes what there is.

    Camera and meta are read whenever there is a "json" member. Raises VitruvianError for a wanted label
    without a member, an unknown name or schema, and DecodeError for bytes that cannot be decoded.
    """
    names = [name for name in MEMBERS if _member(name, members)] if wanted is None else list(wanted)
    document = _document(members)
    arrays: dict[str, Any] = {}
    for name in names:
        member = _member(name, members)
        if member is None:
            raise VitruvianError(
                f"labels: wanted {name!r} (member {MEMBERS.get(name)}); got {sorted(members)}"
            )
        arrays[name] = _decode(name, members[member], document)
    meta = {key: value for key, value in document.items() if key not in _RESERVED}
    camera = Camera.from_json(document["camera"]) if "camera" in document else None
    return Labels(**arrays, camera=camera, part_classes=_part_classes(document), meta=meta)


def members_of(wanted: Collection[str]) -> tuple[str, ...]:
    """The members to read from a shard for these labels (`Dataset.read`); rgb has several names."""
    members = [MEMBERS[name] for name in MEMBERS if name in wanted and name != "rgb"]
    return (*(PHOTO_MEMBERS if "rgb" in wanted else ()), *members, "json")


_ENCODERS: Mapping[str, Callable[[Any], bytes]] = {
    "rgb": codecs.encode_rgb,
    "albedo": codecs.encode_rgb,
    "normal": codecs.encode_normal,
    "geometric_normal": codecs.encode_normal,
    "quality": codecs.encode_mask,
    "alpha": codecs.encode_mask,
    "parts": codecs.encode_mask,
    "instance": codecs.encode_mask,
}
_DECODERS: Mapping[str, Callable[[bytes], np.ndarray]] = {
    "rgb": codecs.decode_image,
    "albedo": codecs.decode_image,
    "normal": codecs.decode_normal,
    "geometric_normal": codecs.decode_normal,
    "quality": codecs.decode_mask,
    "alpha": codecs.decode_mask,
    "parts": codecs.decode_mask,
    "instance": codecs.decode_mask,
    "keypoints": codecs.decode_keypoints,
}


def _member(name: str, members: Mapping[str, bytes]) -> str | None:
    candidates = PHOTO_MEMBERS if name == "rgb" else (MEMBERS.get(name, ""),)
    return next((member for member in candidates if member in members), None)


def _document(members: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        document = json.loads(members.get("json", b"{}"))
    except ValueError as error:
        raise codecs.DecodeError("corrupt", f"labels: the json member is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("schema", SCHEMA) != SCHEMA:
        raise VitruvianError(f"labels: expected a json object of schema {SCHEMA}; got {document!r:.120}")
    return document


def _part_classes(document: Mapping[str, Any]) -> int:
    """The size of the parts' vocabulary; 28, the paper's, where nothing is said."""
    classes = document.get("part_classes", 28)
    if classes not in PART_SIZES:
        raise codecs.DecodeError("corrupt", f"labels: expected part_classes of {PART_SIZES}; got {classes!r}")
    return int(classes)


def _decode(name: str, data: bytes, document: Mapping[str, Any]) -> np.ndarray:
    if name != "depth":
        return _DECODERS[name](data)
    try:
        near, far = float(document["depth"]["near"]), float(document["depth"]["far"])
    except (KeyError, TypeError, ValueError) as error:
        raise codecs.DecodeError(
            "corrupt",
            f"labels: expected depth: {{near, far}} in the json member; got {document.get('depth')!r}",
        ) from error
    return codecs.decode_depth(data, near, far)
