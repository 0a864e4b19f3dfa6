"""A detector's boxes against labelled boxes: who is found, who is missed, what is no one.

    python -P benchmarks/curation_detector.py [PHOTOS LABELS] [--detector opencv] [--score 0.55]

PHOTOS: a folder of images; LABELS: COCO's JSON (default: ../shared/data/photos, two photographs, six people).
`--detector`: a name of the registry (where there is a network) or an ONNX file. Last printed line: one JSON
object.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.boxes import Boxes, area, intersection
from curation.calibrate import CalibrateConfig, match
from curation.detectors import detector_config, load_detector, pin_detector
from curation.labels import Truth, read_labels

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"


def compare(found: Boxes, truth: Truth, score: float, iou: float) -> dict[str, int]:
    """Counts at one overlap, of the boxes that score more."""
    sure = Boxes(found.xyxy[found.score > score], found.score[found.score > score])
    verdict = match(sure, truth, CalibrateConfig(iou=iou))
    people = 0 if truth.boxes is None else len(truth.boxes)
    hits = int((verdict == 1).sum())
    return {"people": people, "found": hits, "missed": people - hits, "false": int((verdict == 0).sum())}


def describe(found: Boxes, truth: Truth) -> list[dict[str, Any]]:
    """Each labelled person with the box that overlaps it most, at any score."""
    assert truth.boxes is not None
    people = []
    for person in truth.boxes:
        shared = intersection(found.xyxy, person[None])[:, 0]
        overlap = shared / np.maximum(area(found.xyxy) + area(person[None]) - shared, 1e-9)
        best = int(overlap.argmax()) if len(overlap) else None
        entry: dict[str, Any] = {"person": [round(side, 1) for side in person.tolist()]}
        if best is not None and overlap[best] > 0:
            entry |= {"iou": round(float(overlap[best]), 3), "score": round(float(found.score[best]), 3)}
        people.append(entry)
    return people


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="?", type=Path, default=PHOTOS)
    parser.add_argument("labels", nargs="?", type=Path, default=PHOTOS / "coco_keypoints.json")
    parser.add_argument("--detector", default="opencv")
    parser.add_argument("--score", type=float, default=0.55)
    given = parser.parse_args()
    detector = load_detector(pin_detector(detector_config(given.detector)))
    total: dict[str, dict[str, int]] = {}
    seconds = 0.0
    for name, truth in read_labels(given.labels).items():
        image = np.ascontiguousarray(cv2.imread(str(given.photos / name))[..., ::-1])
        started = time.perf_counter()
        found = detector.detect([image])[0]
        seconds += time.perf_counter() - started
        print(name)
        for entry in describe(found, truth):
            print("  labelled", entry)
        for corners, score in zip(found.xyxy, found.score, strict=True):
            print("  reported", corners.round(0).tolist(), round(float(score), 3))
        for iou in (0.3, 0.5):
            counts = total.setdefault(f"iou_{iou}", {})
            for key, count in compare(found, truth, given.score, iou).items():
                counts[key] = counts.get(key, 0) + count
    print(
        json.dumps(
            {"benchmark": "curation_detector", "detector": detector.identity(), "score": given.score, **total,
             "seconds": round(seconds, 2)}
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
