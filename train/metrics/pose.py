"""Keypoint scores: COCO AP and AR by pycocotools, PCK and mean pixel error (docs/evaluate.md)."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

COCO_STATS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")


@dataclass(frozen=True)
class PosedPerson:
    """Truth about one person. keypoints: x px, y px, visibility (0 unlabelled, 1 occluded, 2 visible)."""

    image: int
    keypoints: Float64[np.ndarray, "points 3"]
    box: tuple[float, float, float, float]
    """x, y, width, height in pixels, without padding."""
    area: float
    """Pixels of the person (COCO: the segmentation's), the scale of the OKS."""
    crowd: bool = False


@dataclass(frozen=True)
class PoseGuess:
    """Prediction for one person. keypoints: x px, y px, confidence."""

    image: int
    keypoints: Float64[np.ndarray, "points 3"]
    score: float


def coco_scores(
    truth: Sequence[PosedPerson], guesses: Sequence[PoseGuess], sigmas: Float64[np.ndarray, " points"]
) -> dict[str, float]:
    """AP and AR over OKS 0.50:0.05:0.95 with at most 20 people an image, all ten numbers of COCO.

    -1, COCO's own mark, where there is no truth (say, no medium-sized person).
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gold: Any = COCO()
        gold.dataset = _coco_dataset(truth)
        gold.createIndex()
        if not guesses:
            return dict.fromkeys(COCO_STATS, 0.0)
        evaluation: Any = COCOeval(
            gold, gold.loadRes([_coco_result(guess) for guess in guesses]), "keypoints"
        )
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(COCO_STATS, evaluation.stats, strict=True)}


def _coco_dataset(truth: Sequence[PosedPerson]) -> dict[str, Any]:
    annotations = [
        {
            "id": number,
            "image_id": person.image,
            "category_id": 1,
            "keypoints": person.keypoints.reshape(-1).tolist(),
            "num_keypoints": int((person.keypoints[:, 2] > 0).sum()),
            "bbox": list(person.box),
            "area": person.area,
            "iscrowd": int(person.crowd),
        }
        for number, person in enumerate(truth, start=1)
    ]
    images = [{"id": image} for image in sorted({person.image for person in truth})]
    return {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }


def _coco_result(guess: PoseGuess) -> dict[str, Any]:
    return {
        "image_id": guess.image,
        "category_id": 1,
        "keypoints": guess.keypoints.reshape(-1).tolist(),
        "score": guess.score,
    }


def pixel_errors(
    truth: Float[np.ndarray, "points 3"], guess: Float[np.ndarray, "points 3"]
) -> Float64[np.ndarray, " labelled"]:
    """Distances (px) of the labelled points (visibility > 0)."""
    labelled = truth[:, 2] > 0
    difference = guess[labelled, :2].astype(np.float64) - truth[labelled, :2]
    return np.asarray(np.linalg.norm(difference, axis=1))
