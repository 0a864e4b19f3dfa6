"""Boxes with scores: how detectors, filters and tables exchange what was found in an image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, UInt8

RGB = UInt8[np.ndarray, "_height _width 3"]  # sizes are not compared: batches mix them


@dataclass(frozen=True)
class Boxes:
    """What was found in one image, best first.

    `xyxy`: left, top, right, bottom in pixels of the upright original image, corners (the whole image is `0,
    0, width, height`). `score`: 0..1; what it means is the finder's to say, and only its order is comparable
    between finders.
    """

    xyxy: Float32[np.ndarray, "boxes 4"]
    score: Float32[np.ndarray, " boxes"]

    def __len__(self) -> int:
        return len(self.score)

    def to_rows(self) -> list[dict[str, float]]:
        """One dict per box (x0, y0, x1, y1, score), as the tables hold them: pixels to 0.01, scores to
        0.0001.
        """
        corners = np.round(self.xyxy.astype(np.float64), 2).tolist()
        scores = np.round(self.score.astype(np.float64), 4).tolist()
        return [
            {"x0": x0, "y0": y0, "x1": x1, "y1": y1, "score": score}
            for (x0, y0, x1, y1), score in zip(corners, scores, strict=True)
        ]


def make_boxes(found: Sequence[tuple[Sequence[float], float]]) -> Boxes:
    """Boxes of (xyxy, score) pairs by falling score, then position: equal sets give equal arrays."""
    ordered = sorted(found, key=lambda pair: (-pair[1], *pair[0]))
    xyxy = np.array([corners for corners, _ in ordered], np.float32).reshape(-1, 4)
    return Boxes(xyxy, np.array([score for _, score in ordered], np.float32))


def from_rows(rows: Sequence[Mapping[str, Any]]) -> Boxes:
    """The inverse of `Boxes.to_rows`, up to its rounding."""
    return make_boxes([((row["x0"], row["y0"], row["x1"], row["y1"]), row["score"]) for row in rows])


def area(xyxy: Float32[np.ndarray, "boxes 4"]) -> Float32[np.ndarray, " boxes"]:
    """Area of each box in square pixels; 0 for a box that is inside out."""
    sides: Float32[np.ndarray, "boxes 2"] = np.maximum(xyxy[:, 2:] - xyxy[:, :2], np.float32(0))
    product: Float32[np.ndarray, " boxes"] = sides[:, 0] * sides[:, 1]
    return product


def intersection(
    one: Float32[np.ndarray, "n 4"], other: Float32[np.ndarray, "m 4"]
) -> Float32[np.ndarray, "n m"]:
    """Area in square pixels that each box of `one` shares with each of `other`."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    sides = np.maximum(high - low, np.float32(0))
    shared: Float32[np.ndarray, "n m"] = sides[..., 0] * sides[..., 1]
    return shared


def merge(boxes: Boxes, share: float) -> Boxes:
    """Drop each box that shares more than `share` of the smaller of the two with a better one: the same
    person twice.

    Unlike intersection over union this also recognises a head inside a body.
    """
    sizes = area(boxes.xyxy)
    shared = intersection(boxes.xyxy, boxes.xyxy) / np.maximum(np.minimum(sizes[:, None], sizes[None, :]), 1)
    keep: Bool[np.ndarray, " boxes"] = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if keep[i]:
            keep[i + 1 :] &= shared[i, i + 1 :] <= share
    return Boxes(boxes.xyxy[keep], boxes.score[keep])


def clip(boxes: Boxes, width: int, height: int) -> Boxes:
    """The parts of the boxes inside an image of `width` x `height` pixels."""
    limits = np.array([width, height, width, height], np.float32)
    return Boxes(np.clip(boxes.xyxy, np.float32(0), limits), boxes.score)
