"""COCO person keypoints (17 points), COCO-WholeBody (133) and files of their form with 308: a folder of
pictures and a JSON of annotations.

For evaluation the labels hold everybody, crowds and people without a labelled point too, with `image_id`,
`bbox`, `area` and `iscrowd` in `meta`, as COCO's evaluation needs them. For training only people to learn
from, and only pictures that show one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64
from pydantic import Field, model_validator

from annotation.codecs import decode_image
from annotation.labels import Labels
from shards.errors import UsageError, VitruvianError
from shards.files import sha256_file
from train.data.layouts.base import Layout, LayoutConfig, Purpose
from train.data.layouts.files import SHOWN, listing_digest, read, within

PERSON = 1
"""COCO's category."""
FIELDS: Mapping[int, Mapping[str, int]] = {
    308: {"goliath_wholebody_kpts": 308},
    133: {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21},
    17: {"keypoints": 17},
}
"""Vocabulary -> fields of an annotation and their numbers of points, in the vocabulary's order."""


class CocoConfig(LayoutConfig):
    """Where pictures and annotations are."""

    places: ClassVar[frozenset[str]] = frozenset({"images", "annotations"})
    layout: Literal["coco"]
    images: Path
    annotations: Path
    least_points: int = Field(default=1, gt=0)
    """Labelled points that a person has at least to be trained on."""

    @model_validator(mode="after")
    def _nameless(self) -> "CocoConfig":
        if self.identity is not None:
            raise ValueError(
                "identity: a picture of COCO shows several people, its name says nothing of them"
            )
        return self

    def open(self, root: Path, where: str, purpose: Purpose) -> "CocoLayout":
        return CocoLayout(self, root, where, purpose)


@dataclass(frozen=True, eq=False)
class Crowd:
    """The people of all pictures, those of picture i in rows starts[i] .. starts[i + 1]. areas: NaN where
    unknown.
    """

    starts: Sequence[int]
    points: Float32[np.ndarray, "people points 3"]
    boxes: Float64[np.ndarray, "people 4"]
    areas: Float64[np.ndarray, " people"]
    crowd: Bool[np.ndarray, " people"]

    def trainable(self, least: int) -> Bool[np.ndarray, " people"]:
        """Whether there is enough to learn from a person, and the person is one."""
        return np.asarray(~self.crowd & ((self.points[..., 2] > 0).sum(1) >= least))


class CocoLayout(Layout):
    """rgb and keypoints, in the largest vocabulary of which the annotations have every field."""

    labels = ("rgb", "keypoints")

    def __init__(self, config: CocoConfig, root: Path, where: str, purpose: Purpose) -> None:
        path = root / config.annotations
        listed, annotations = _read(path)
        self.people_of = _people(listed, annotations, path)
        self.kept = np.ones(len(self.people_of.crowd), bool)
        if purpose == "training":
            self.kept = self.people_of.trainable(config.least_points)
        files, missing = _files(listed, (root / config.images), config.unpaired == "skip", where)
        starts = self.people_of.starts
        self.rows = [
            row
            for row, image in enumerate(listed)
            if _name(image) in files
            and (purpose == "evaluation" or self.kept[starts[row] : starts[row + 1]].any())
        ]
        if not self.rows:
            raise UsageError(f"{where}: no picture of {path} shows a person with labelled keypoints")
        self.ids = [listed[row]["id"] for row in self.rows]
        self.sizes = [(int(listed[row]["height"]), int(listed[row]["width"])) for row in self.rows]
        names = [_name(listed[row]) for row in self.rows]
        self.paths = [files[name] for name in names]
        contents = [sha256_file(path), listing_digest(dict(zip(names, self.paths, strict=True)))]
        idle = len(listed) - missing - len(self.rows)
        super().__init__(config, where, names, contents, {"missing": missing, "nobody": idle})

    def labels_of(self, index: int, wanted: Sequence[str]) -> Labels:
        rgb = self._picture(index) if "rgb" in wanted else None
        row, people = self.rows[index], self.people_of
        chosen = np.arange(people.starts[row], people.starts[row + 1])
        chosen = chosen[self.kept[chosen]]
        said = [_said(people, int(person)) for person in chosen]
        keypoints = None
        if "keypoints" in wanted:
            keypoints = np.zeros((len(chosen), people.points.shape[1], 4), np.float32)
            keypoints[..., [0, 1, 3]] = people.points[chosen]
        return Labels(rgb=rgb, keypoints=keypoints, meta={"image_id": self.ids[index], "people": said})

    def _picture(self, index: int) -> np.ndarray:
        rgb = np.asarray(read(self.paths[index], decode_image))
        if rgb.shape[:2] != self.sizes[index]:
            raise VitruvianError(
                f"{self.paths[index]}: expected (height, width) {self.sizes[index]} of the annotations; got "
                f"{rgb.shape[:2]}: a resized picture, or one that its EXIF data turn"
            )
        return rgb


def _read(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(images, annotations of people) of a COCO file."""
    try:
        content = json.loads(path.read_bytes())
        images = [
            {name: image[name] for name in ("id", "file_name", "height", "width")}
            for image in content["images"]
        ]
        annotations = [a for a in content["annotations"] if a["category_id"] == PERSON]
    except FileNotFoundError:
        raise UsageError(f"{path}: no such annotation file") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: expected COCO annotations (images with id, file_name, height, width; annotations with "
            f"category_id): {error!r}"
        ) from None
    if not annotations:
        raise UsageError(f"{path}: no annotation of category {PERSON} (person) in it")
    return images, annotations


def _people(images: list[dict[str, Any]], annotations: list[dict[str, Any]], path: Path) -> Crowd:
    """The annotations in the order of the images, and among those of one image in the file's."""
    row = {image["id"]: number for number, image in enumerate(images)}
    if len(row) < len(images):
        raise UsageError(f"{path}: two images with one id")
    points = next((p for p, fields in FIELDS.items() if all(f in annotations[0] for f in fields)), None)
    if points is None:
        raise UsageError(
            f"{path}: its annotations have no field keypoints: is it the file of person keypoints?"
        )
    try:
        rows = np.array([row[annotation["image_id"]] for annotation in annotations])
        order = np.argsort(rows, kind="stable")
        ordered = [annotations[index] for index in order]
        return Crowd(
            starts=np.searchsorted(rows[order], np.arange(len(images) + 1)).tolist(),
            points=np.stack([_points(annotation, FIELDS[points]) for annotation in ordered]),
            boxes=np.array([annotation["bbox"] for annotation in ordered], np.float64).reshape(-1, 4),
            areas=np.array([annotation.get("area", np.nan) for annotation in ordered], np.float64),
            crowd=np.array([bool(annotation.get("iscrowd", 0)) for annotation in ordered]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path}: expected annotations with image_id, bbox and {', '.join(FIELDS[points])} of "
            f"{points} x 3 numbers: {error!r}"
        ) from None


def _points(annotation: Mapping[str, Any], fields: Mapping[str, int]) -> Float32[np.ndarray, "points 3"]:
    """x px, y px, visibility 0, 1, 2; zero where it is 0."""
    parts = [np.array(annotation[name], np.float32).reshape(count, 3) for name, count in fields.items()]
    points = np.concatenate(parts)
    points[:, 2] = points[:, 2].round().clip(0, 2)
    points[points[:, 2] == 0] = 0
    return np.asarray(points)


def _name(image: Mapping[str, Any]) -> str:
    """The picture's name without its suffix."""
    return Path(image["file_name"]).with_suffix("").as_posix()


def _files(images: list[dict[str, Any]], folder: Path, skip: bool, where: str) -> tuple[dict[str, Path], int]:
    """(name -> path of the pictures that are there, number of those that are not).

    Raises UsageError for missing ones, unless they are to be skipped, for two of one name, and for names that
    lead out of the folder.
    """
    root = folder.resolve()
    paths = {_name(image): within(root, folder / image["file_name"]) for image in images}
    if len({name.replace("/", "+") for name in paths}) < len(images):
        raise UsageError(f"{where}: two images of one file name")
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing and not skip:
        raise UsageError(
            f"{where}: {len(missing)} of {len(paths)} pictures of the annotations are missing: "
            f"{', '.join(missing[:SHOWN])}. `unpaired: skip` leaves them out"
        )
    return {name: path for name, path in paths.items() if path.is_file()}, len(missing)


def _said(people: Crowd, person: int) -> dict[str, Any]:
    """COCO's words about a person, as evaluation reads them."""
    area = float(people.areas[person])
    known = {} if np.isnan(area) else {"area": area}
    return {"bbox": people.boxes[person].tolist(), "iscrowd": int(people.crowd[person]), **known}
