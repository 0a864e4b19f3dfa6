"""People found by a detector: a COCO results file of boxes, matched to the pictures of a data set."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from annotation.labels import Labels
from shards.errors import UsageError

PERSON = 1
"""COCO's category."""
FIELD = "detections"
"""Entry of `Labels.meta` that holds the detections of a picture."""


@dataclass(frozen=True)
class Detection:
    """A box: x, y, width, height in pixels, and the detector's confidence."""

    box: tuple[float, float, float, float]
    score: float


Detections = Mapping[str, Sequence[Detection]]
"""By image_id, as text."""


def read_detections(path: Path) -> Detections:
    """The people in a COCO results file: a list of {image_id, category_id, bbox: [x, y, w, h], score}.

    image_id is the data set's number of the image, or the sample's key. Raises UsageError, naming the entry,
    for anything else.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(entries, list):
        raise UsageError(
            f"{path}: expected a list of detections (COCO results); got {type(entries).__name__}"
        )
    found: dict[str, list[Detection]] = {}
    for number, entry in enumerate(entries):
        try:
            if int(entry["category_id"]) == PERSON:
                x, y, width, height = (float(value) for value in entry["bbox"])
                detection = Detection((x, y, width, height), float(entry["score"]))
                found.setdefault(str(entry["image_id"]), []).append(detection)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path}: entry {number}: expected image_id, category_id, bbox [x, y, w, h] and score; "
                f"got {str(entry)[:120]} ({error!r})"
            ) from None
    return found


def image_id(key: str, labels: Labels) -> Any:
    """The data set's own name of a picture (COCO's number), else its key."""
    return labels.meta.get("image_id", key)


def with_detections(key: str, labels: Labels, detections: Detections) -> Labels:
    """The labels with the detections of their picture in `meta`."""
    found = detections.get(str(image_id(key, labels)), detections.get(key, ()))
    return replace(labels, meta={**labels.meta, FIELD: tuple(found)})


def detections_of(labels: Labels) -> Sequence[Detection]:
    """What `with_detections` put there."""
    found: Sequence[Detection] = labels.meta[FIELD]
    return found
