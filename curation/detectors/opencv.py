"""People with nothing but what OpenCV ships: the offline *smoke* default. It serves the demo, never a
dataset.

Upright bodies by Dalal and Triggs' HOG + linear SVM (CVPR 2005; `HOGDescriptor_getDefaultPeopleDetector`),
faces by Viola and Jones' cascades (frontal `alt2`, and profile, both ways round). A face stands for the head
and shoulders around it. docs/curation.md says how many people it finds and how many motorcycles.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import Field

from curation.boxes import RGB, Boxes, clip, make_boxes, merge
from shards.config import Config
from shards.files import sha256_file

FRONTAL, PROFILE = "haarcascade_frontalface_alt2.xml", "haarcascade_profileface.xml"
_BODY_MARGIN = (0.12, 0.08)  # of the HOG window's width and height, on each side: background by training
_WINDOW = (64, 128)  # px: width and height of the HOG window
_PAD = 32  # px of repeated border, so that a body that touches the edge still has its window's margin
_BLUR = 1.5  # px: standard deviation
_SAME_PERSON = 0.5  # share of the smaller box


class OpenCVConfig(Config):
    """How hard to look. Lengths in pixels.

    Upright bodies of at least 128 px are within reach in images of up to `body_max_side`, beyond it of a
    tenth of the longer side; faces of `min_face / face_side` (8 %) of the longer side.
    """

    body_min_side: int = Field(default=512, ge=128, description="smaller images are enlarged to it")
    body_max_side: int = Field(default=1280, ge=256, description="larger images are reduced to it")
    face_side: int = Field(default=400, ge=128, description="faces are sought at this size")
    min_face: int = Field(default=32, ge=20, description="smallest face, after resizing")
    floor: float = Field(default=0.05, ge=0, le=1, description="boxes with a lower score are not reported")


class OpenCVDetector:
    """Scores are no probabilities (measured on what is at hand, `benchmarks/curation_detector.py`):

    * body: the SVM margin m, squashed: 1 / (1 + exp(-4 (m - 1)));
    * face: the number n of overlapping windows that the cascade accepted, squashed: 1 - exp(-n / 8).
    """

    def __init__(self, config: OpenCVConfig) -> None:
        self.config = config

    def detect(self, images: Sequence[RGB]) -> list[Boxes]:
        """Boxes around people in each image; see `curation.detectors.Detector`."""
        with _one_thread():
            return [self._detect_one(image) for image in images]

    def identity(self) -> dict[str, str]:
        """The cascades' digests, and OpenCV's version for the SVM that is compiled into it."""
        cascades = {name: sha256_file(_cascade_path(name)) for name in (FRONTAL, PROFILE)}
        return {"name": "opencv-hog-haar", "opencv": str(cv2.__version__), **cascades}

    def _detect_one(self, image: RGB) -> Boxes:
        height, width = image.shape[:2]
        found = [*self._bodies(image), *self._faces(image)]
        boxes = make_boxes([(xyxy, score) for xyxy, score in found if score >= self.config.floor])
        return merge(clip(boxes, width, height), _SAME_PERSON)

    def _bodies(self, full: RGB) -> Iterator[tuple[list[float], float]]:
        image, scale = _fit(full, self.config.body_min_side, self.config.body_max_side)
        padded = cv2.copyMakeBorder(image, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_REPLICATE)
        if padded.shape[1] < _WINDOW[0] or padded.shape[0] < _WINDOW[1]:
            return
        windows, margins = self._hog.detectMultiScale(
            padded, hitThreshold=0.0, winStride=(8, 8), padding=(0, 0), scale=1.1, groupThreshold=2.0
        )
        for (x, y, width, height), margin in zip(windows, np.ravel(margins), strict=True):
            dx, dy = width * _BODY_MARGIN[0], height * _BODY_MARGIN[1]
            left, top = x - _PAD + dx, y - _PAD + dy
            box = [left, top, left + width - 2 * dx, top + height - 2 * dy]
            yield [float(corner) / scale for corner in box], 1 / (1 + math.exp(-4 * (float(margin) - 1)))

    def _faces(self, full: RGB) -> Iterator[tuple[list[float], float]]:
        image, scale = _fit(full, self.config.face_side, self.config.face_side)
        # Grain, of film or of a renderer, hides faces from the cascades and puts some where there are none.
        gray = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), _BLUR)
        width = gray.shape[1]
        for cascade, view, mirrored in (
            (self._frontal, gray, False),
            (self._profile, gray, False),
            (self._profile, np.ascontiguousarray(gray[:, ::-1]), True),
        ):
            smallest = (self.config.min_face, self.config.min_face)
            faces, votes = cascade.detectMultiScale2(view, scaleFactor=1.1, minNeighbors=3, minSize=smallest)
            for (x, y, side, _), count in zip(faces, np.ravel(votes), strict=True):
                left = width - x - side if mirrored else x
                square = [float(length) / scale for length in (left, y, side)]
                yield _head_and_shoulders(*square), 1 - math.exp(-float(count) / 8)

    @cached_property
    def _hog(self) -> Any:
        hog = cv2.HOGDescriptor()
        # OpenCV's own type stub leaves this function out.
        hog.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())  # type: ignore[attr-defined]
        return hog

    @cached_property
    def _frontal(self) -> Any:
        return cv2.CascadeClassifier(str(_cascade_path(FRONTAL)))

    @cached_property
    def _profile(self) -> Any:
        return cv2.CascadeClassifier(str(_cascade_path(PROFILE)))


def _cascade_path(name: str) -> Path:
    return Path(cv2.__file__).with_name("data") / name


def _head_and_shoulders(x: float, y: float, side: float) -> list[float]:
    """The box around a face's head and shoulders: 3 faces wide, from half a face above it to 2 below."""
    return [x - side, y - side / 2, x + 2 * side, y + 3 * side]


def _fit(image: RGB, min_side: int, max_side: int) -> tuple[RGB, float]:
    """The image with its longer side within min_side..max_side, and by how much it was scaled."""
    longer = max(image.shape[:2])
    scale = min(max(longer, min_side), max_side) / longer
    if scale == 1.0:
        return image, scale
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=method), scale


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV collects windows as its threads find them, so their order, and the merged boxes, would vary."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
