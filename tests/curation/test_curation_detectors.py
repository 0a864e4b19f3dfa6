"""The offline smoke detector and the text detector, on real photographs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from curation.boxes import Boxes, area, intersection
from curation.detectors.opencv import OpenCVConfig, OpenCVDetector
from curation.filters.text import TextConfig, TextDetector

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"
SURE = 0.55  # the smoke detector's operating point, docs/curation.md
Image = Callable[[str], Any]


@pytest.fixture(scope="module")
def people() -> OpenCVDetector:
    return OpenCVDetector(OpenCVConfig())


@pytest.fixture(scope="module")
def text() -> TextDetector:
    return TextDetector(TextConfig())


def overlap(found: Boxes, truth: list[float]) -> float:
    """Best intersection over union with `truth` among the boxes above SURE."""
    wanted = np.array([truth], np.float32)
    sure = found.xyxy[found.score > SURE]
    shared = intersection(sure, wanted)[:, 0]
    return float(max(shared / (area(sure) + area(wanted) - shared), default=0.0))


def test_faces_are_found_with_head_and_shoulders(people: OpenCVDetector, image: Image) -> None:
    astronaut, camera = people.detect([image("astronaut.png"), image("camera.png")])
    assert overlap(astronaut, [60, 0, 400, 400]) > 0.6
    assert overlap(camera, [100, 40, 420, 400]) > 0.6  # in profile


@pytest.mark.parametrize(
    "name", ["coffee.png", "chelsea.png", "rocket.jpg", "coins.png", "motorcycle_left.png"]
)
def test_things_are_not_people(people: OpenCVDetector, image: Image, name: str) -> None:
    assert not (people.detect([image(name)])[0].score > SURE).any()


def test_scale_hardly_matters(people: OpenCVDetector, image: Image) -> None:
    astronaut = image("astronaut.png")
    large = cv2.resize(astronaut, None, fx=4, fy=4)
    small = cv2.resize(astronaut, (200, 200), interpolation=cv2.INTER_AREA)
    assert overlap(people.detect([large])[0], [240, 0, 1600, 1600]) > 0.6
    assert overlap(people.detect([small])[0], [24, 0, 156, 156]) > 0.6


def test_batches_and_repetition_change_nothing(people: OpenCVDetector, image: Image) -> None:
    images = [image("astronaut.png"), image("camera.png"), image("logo.png")]
    together = [boxes.to_rows() for boxes in people.detect(images)]
    alone = [OpenCVDetector(OpenCVConfig()).detect([one])[0].to_rows() for one in reversed(images)]
    assert together == alone[::-1]
    assert any(len(rows) for rows in together)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3000)])
def test_slivers_are_survived(people: OpenCVDetector, text: TextDetector, shape: tuple[int, int]) -> None:
    sliver = np.full((*shape, 3), 128, np.uint8)
    assert len(people.detect([sliver])[0]) == 0
    assert text.measure(sliver)[0] == 0.0


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data/photos is not there")
def test_coco_photographs(people: OpenCVDetector) -> None:
    """What docs/curation.md states: 1 of 6 annotated people, no false alarm; the size rule then drops it."""
    truth = json.loads((PHOTOS / "coco_keypoints.json").read_bytes())["annotations"]
    hits, alarms = 0, 0
    for photo in sorted(PHOTOS.glob("*.jpg")):
        found = people.detect([np.ascontiguousarray(cv2.imread(str(photo))[..., ::-1])])[0]
        boxes = [note["bbox"] for note in truth if note["image_id"] == int(photo.stem)]
        matched = [overlap(found, [x, y, x + w, y + h]) > 0.3 for x, y, w, h in boxes]
        hits += sum(matched)
        alarms += int((found.score > SURE).sum()) - sum(matched)
    assert (hits, alarms) == (1, 0)


def test_captions_are_found_and_photographs_have_none(
    text: TextDetector, image: Image, caption: Callable[[Any], Any]
) -> None:
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "camera.png"):
        clean, _ = text.measure(image(name))
        share, boxes = text.measure(caption(image(name)))
        assert clean < 0.01, name
        assert 0.02 < share < 0.25, name
        height = image(name).shape[0]
        _, top, _, bottom = boxes.xyxy[area(boxes.xyxy).argmax()]
        assert 0.6 * height < top < bottom <= height, name


def test_pages_are_mostly_text_and_silhouettes_are_not(text: TextDetector, image: Image) -> None:
    assert text.measure(image("page.png"))[0] > 0.4
    assert text.measure(image("horse.png"))[0] == 0.0  # to the network, one huge letter
