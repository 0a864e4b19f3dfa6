"""People's boxes out of a JSON file, by the name of the picture."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from shards.errors import UsageError
from train.metrics.boxes import PERSON
from train.prediction.picture import Boxes, Picture

FindPeople = Callable[[Picture], Boxes]
"""Who is in a picture."""

_EXPECTED = (
    "expected COCO annotations {images: [{id, file_name}], annotations: [{image_id, bbox}]}, COCO results "
    "[{image_id, bbox, score}] with image_id = the number that is the picture's name, or "
    '{"name.jpg": [[x0, y0, x1, y1], ...]}'
)


class BoxesFile:
    """Boxes by picture: of COCO annotations or results (x, y, width, height), or of a mapping from names to
    corners. People marked `iscrowd` and other categories are left out.

    A picture is found by its name (with subfolders, else without them), or by the number that its name is.
    One that the file does not mention has nobody in it. Raises UsageError for a file that is none of these.
    """

    def __init__(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: cannot be read as JSON: {error}") from None
        try:
            self._found = _parse(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{path}: {_EXPECTED}; got {str(content)[:120]} ({error!r})") from None

    def __call__(self, picture: Picture) -> Boxes:
        name = PurePosixPath(picture.name)
        keys = [picture.name, name.name, name.stem, str(int(name.stem)) if name.stem.isdigit() else ""]
        rows = next((self._found[key] for key in keys if key in self._found), [])
        corners = np.array([row[:4] for row in rows], np.float64).reshape(-1, 4)
        return Boxes(corners, np.array([row[4] for row in rows], np.float64))


Rows = dict[str, list[list[float]]]


def _parse(content: Any) -> Rows:
    if isinstance(content, list):
        return _group(content, {})
    if "annotations" in content:
        names = {str(image["id"]): str(image["file_name"]) for image in content["images"]}
        return _group(content["annotations"], names)
    return {
        str(name): [[*_four(box), float(box[4]) if len(box) > 4 else 1.0] for box in boxes]
        for name, boxes in content.items()
    }


def _group(entries: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Rows:
    found: Rows = {}
    for entry in entries:
        if int(entry.get("category_id", PERSON)) != PERSON or entry.get("iscrowd"):
            continue
        x, y, width, height = _four(entry["bbox"])
        image = str(entry["image_id"])
        row = [x, y, x + width, y + height, float(entry.get("score", 1.0))]
        found.setdefault(names.get(image, image), []).append(row)
    return found


def _four(box: Sequence[Any]) -> tuple[float, float, float, float]:
    a, b, c, d = (float(value) for value in box[:4])
    if not np.isfinite([a, b, c, d]).all():
        raise ValueError(f"box {box}: not finite")
    return a, b, c, d
