"""The people of a picture: their masks, boxes and annotations. Boxes are in source pixels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from annotation.labels import Labels
from train.metrics.coco import PosedPerson
from train.tasks.base import HALF_COVERED

BOX_AREA_SHARE = 0.53
"""Share of a person's box that COCO's segmentations cover, for people without a mask."""


def person_mask(labels: Labels, person: int) -> Bool[np.ndarray, "height width"] | None:
    """The person's pixels: by instance id (index + 1), by alpha when alone, else unknown."""
    if labels.instance is not None:
        return np.asarray(labels.instance == person + 1)
    if labels.alpha is not None and labels.keypoints is not None and len(labels.keypoints) == 1:
        return np.asarray(labels.alpha >= HALF_COVERED)
    return None


def person_box(labels: Labels, person: int) -> Float64[np.ndarray, "4"]:
    """x0, y0, x1, y1 (first and last pixel): the annotation's box (`meta["people"]`: "bbox", x y width
    height), else the extent of the person's mask, else of the labelled keypoints.
    """
    if (bbox := annotation_of(labels, person).get("bbox")) is not None:
        return corners(bbox)
    mask = person_mask(labels, person)
    if mask is not None and mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float64)
    assert labels.keypoints is not None
    points = labels.keypoints[person]
    labelled = points[points[:, 3] > 0, :2].astype(np.float64)
    return np.concatenate([labelled.min(0), labelled.max(0)])


def annotation_of(labels: Labels, person: int) -> Mapping[str, Any]:
    """What the json member says of a person; {} where nothing."""
    people: Sequence[Any] = labels.meta.get("people", ())
    return people[person] if person < len(people) and isinstance(people[person], Mapping) else {}


def has_box(labels: Labels, person: int) -> bool:
    """Whether `person_box` has something to go by."""
    assert labels.keypoints is not None
    mask = person_mask(labels, person)
    return bool(
        annotation_of(labels, person).get("bbox") is not None
        or (mask is not None and mask.any())
        or (labels.keypoints[person][:, 3] > 0).any()
    )


def corners(bbox: Sequence[float]) -> Float64[np.ndarray, "4"]:
    """x, y, width, height -> x0, y0, x1, y1."""
    x, y, width, height = (float(value) for value in bbox)
    return np.array([x, y, x + width, y + height])


def overlap(a: Float64[np.ndarray, "4"], b: Float64[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    shared = float((np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(min=0).prod())
    union = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - shared
    return shared / union if union > 0 else 0.0


def posed_person(labels: Labels, person: int, image: int) -> PosedPerson:
    """The truth about a person in a numbered image. `meta["people"]` may give "bbox", "area" and "iscrowd" as
    COCO has them; else both come from the mask, or the area is a share of the box.
    """
    assert labels.keypoints is not None
    said = annotation_of(labels, person)
    mask = person_mask(labels, person)
    x0, y0, x1, y1 = (float(value) for value in person_box(labels, person))
    width, height = (x1 - x0, y1 - y0) if "bbox" in said else (x1 - x0 + 1, y1 - y0 + 1)
    known = mask is not None and mask.any()
    area = float(mask.sum()) if known and mask is not None else BOX_AREA_SHARE * width * height
    return PosedPerson(
        image=image,
        keypoints=labels.keypoints[person][:, [0, 1, 3]].astype(np.float64),
        box=(x0, y0, width, height),
        area=float(said.get("area", area)),
        crowd=bool(said.get("iscrowd", False)),
    )
