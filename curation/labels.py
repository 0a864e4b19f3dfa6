"""Labels of people that others made: boxes in COCO's format, or a yes or no for each image."""

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from shards.errors import UsageError


@dataclass(frozen=True)
class Truth:
    """What the labels say of one image. `boxes` is None when they only say whether there is a person."""

    person: bool
    boxes: Float32[np.ndarray, "people 4"] | None = None
    crowds: Float32[np.ndarray, "crowds 4"] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    size: tuple[int, int] | None = None  # width, height


def read_labels(path: Path) -> dict[str, Truth]:
    """File name -> what is in it. `.json`: COCO's detection format (images, annotations, categories;
    `person`, or category 1). `.csv`: columns `source` and `person` (0 or 1).

    Raises UsageError for anything else.
    """
    try:
        truths = _read_csv(path) if path.suffix == ".csv" else _read_coco(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file of labels") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path}: not labels: expected COCO's JSON or a CSV with the columns source,person: {error!r}"
        ) from None
    if not truths:
        raise UsageError(f"{path}: no image in it")
    return truths


def _read_csv(path: Path) -> dict[str, Truth]:
    with path.open(newline="", encoding="utf-8") as file:
        values = {row["source"]: int(row["person"]) for row in csv.DictReader(file)}
    if not set(values.values()) <= {0, 1}:
        raise ValueError("person: expected 0 or 1")
    return {name: Truth(person=bool(value)) for name, value in values.items()}


def _read_coco(path: Path) -> dict[str, Truth]:
    content = json.loads(path.read_bytes())
    named = [entry["id"] for entry in content.get("categories", []) if entry.get("name") == "person"]
    person = named[0] if named else 1
    boxes: dict[tuple[Any, bool], list[list[float]]] = {}
    for note in content["annotations"]:
        if note.get("category_id", person) == person:
            x, y, width, height = note["bbox"]
            key = note["image_id"], bool(note.get("iscrowd", 0))
            boxes.setdefault(key, []).append([x, y, x + width, y + height])

    def corners(image: Any, crowd: bool) -> Float32[np.ndarray, "n 4"]:
        return np.array(boxes.get((image, crowd), []), np.float32).reshape(-1, 4)

    return {
        str(image["file_name"]): Truth(
            person=bool(boxes.get((image["id"], False))),
            boxes=corners(image["id"], False),
            crowds=corners(image["id"], True),
            size=(image["width"], image["height"]),
        )
        for image in content["images"]
    }
