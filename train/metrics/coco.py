"""COCO AP and AR of keypoints by pycocotools, of a whole vocabulary and of its parts, and what they would
have been on other drawings of the images.

R resamples, I images, T = 10 OKS thresholds, D guesses by falling score.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from annotation.keypoints import KeypointVocabulary
from train.metrics.resampling import Scores

COCO_STATS = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar", "ar50", "ar75", "ar_medium", "ar_large")
PARTS = ("body", "foot", "face", "left_hand", "right_hand", "extra")
"""Groups of a vocabulary that are scored on their own, where it has them."""
HANDS = ("left_hand", "right_hand")
RECALLS = np.linspace(0, 1, 101)


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
    """Prediction for one person. keypoints: x px, y px, confidence. `area`: of the person in pixels; None:
    the extent of the keypoints. It matters to AP and AR by size, and to duplicates (`train.metrics.pose`).
    """

    image: int
    keypoints: Float64[np.ndarray, "points 3"]
    score: float
    area: float | None = None


@dataclass(frozen=True, eq=False)
class KeypointMatches:
    """What pycocotools decided: COCO's ten numbers, and which guess matched at which threshold."""

    stats: Mapping[str, float]
    image: Int64[np.ndarray, " D"]
    """Position of each guess's image in the sorted image numbers."""
    hit: Bool[np.ndarray, "T D"]
    miss: Bool[np.ndarray, "T D"]
    """Guesses matched to people that do not count (crowds, nothing labelled) are neither hit nor miss."""
    people: Float64[np.ndarray, " I"]
    """People that count in each image."""

    def resampled(self, weights_RI: Float64[np.ndarray, "R I"]) -> Scores:
        """ap and ar, had each image occurred `weights` times; NaN where nobody counts. Weights of one give
        COCO's own.
        """
        people = weights_RI @ self.people
        people = np.where(people > 0, people, np.nan)[:, None]
        drawn_RD = weights_RI[:, self.image]
        precision, recall = np.zeros((2, len(weights_RI), len(self.hit)))
        for threshold, (hit, miss) in enumerate(zip(self.hit, self.miss, strict=True)):
            hits, misses = (drawn_RD * hit).cumsum(axis=1), (drawn_RD * miss).cumsum(axis=1)
            precision[:, threshold] = _mean_precision(hits / people, hits / (hits + misses + np.spacing(1)))
            recall[:, threshold] = (hits[:, -1:] / people)[:, 0] if len(self.image) else 0
        nobody = np.where(np.isnan(people[:, 0]), np.nan, 0)
        return {"ap": precision.mean(axis=1) + nobody, "ar": recall.mean(axis=1) + nobody}


def _mean_precision(
    recall_RD: Float64[np.ndarray, "R D"], precision_RD: Float64[np.ndarray, "R D"]
) -> Float64[np.ndarray, " R"]:
    """Mean over 101 recalls of the best precision at that recall or a higher one; 0 where it is not
    reached.
    """
    best = np.maximum.accumulate(precision_RD[:, ::-1], axis=1)[:, ::-1]
    best = np.column_stack([best, np.zeros(len(best))])
    reached = [np.searchsorted(row, RECALLS, side="left") for row in recall_RD]
    return np.array([row[places].mean() for row, places in zip(best, reached, strict=True)])


def match_keypoints(
    truth: Sequence[PosedPerson],
    guesses: Sequence[PoseGuess],
    sigmas: Float64[np.ndarray, " points"],
    images: Sequence[int] | None = None,
) -> KeypointMatches:
    """COCO's evaluation over OKS 0.50:0.05:0.95 with at most 20 guesses an image. `images`: all numbers,
    those without people too (default: those with people).

    COCO's mark for no truth (say, no medium-sized person) is -1.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = sorted({person.image for person in truth} if images is None else set(images))
    if not guesses:
        return _no_guesses(truth, numbers)
    with contextlib.redirect_stdout(io.StringIO()):
        gold: Any = COCO()
        gold.dataset = _coco_dataset(truth, numbers)
        gold.createIndex()
        found: Any = gold.loadRes([_coco_result(guess) for guess in guesses])
        for number, guess in enumerate(guesses, start=1):
            if guess.area is not None:
                found.anns[number]["area"] = guess.area
        evaluation: Any = COCOeval(gold, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    stats = {name: float(value) for name, value in zip(COCO_STATS, evaluation.stats, strict=True)}
    return _matches(evaluation, stats, len(numbers))


def coco_scores(
    truth: Sequence[PosedPerson], guesses: Sequence[PoseGuess], sigmas: Float64[np.ndarray, " points"]
) -> dict[str, float]:
    """All ten numbers of COCO (`match_keypoints`)."""
    return dict(match_keypoints(truth, guesses, sigmas).stats)


def match_parts(
    truth: Sequence[PosedPerson],
    guesses: Sequence[PoseGuess],
    vocabulary: KeypointVocabulary,
    images: Sequence[int] | None = None,
) -> dict[str, KeypointMatches]:
    """Matches of all points ("") and, where the vocabulary has more than a body, of each of `PARTS` alone.

    A part is scored with its own sigmas; people without a labelled point of it do not count; scores are the
    person's. Whose guess is medium or large is judged by the extent of its body, as xtcocotools does.
    """
    body = list(vocabulary.groups["body"])
    if len(body) == len(vocabulary):
        return {"": match_keypoints(truth, guesses, vocabulary.sigmas, images)}
    groups = {"": tuple(range(len(vocabulary)))} | {
        part: vocabulary.groups[part] for part in PARTS if part in vocabulary.groups
    }
    sized = [replace(guess, area=_extent(guess.keypoints[body])) for guess in guesses]
    return {
        part: match_keypoints(
            [replace(person, keypoints=person.keypoints[list(points)]) for person in truth],
            [replace(guess, keypoints=guess.keypoints[list(points)]) for guess in sized],
            vocabulary.sigmas[list(points)],
            images,
        )
        for part, points in groups.items()
    }


def with_hands(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Adds ap/hand and ar/hand: the means of left and right, which are evaluated separately.

    -1 (nobody has such a hand) takes no part in the mean.
    """
    added = {}
    for score in ("ap", "ar"):
        both = [np.asarray(scores[name]) for hand in HANDS if (name := f"{score}/{hand}") in scores]
        if both:
            known = np.stack([np.where(hand < 0, np.nan, hand) for hand in both])
            count = np.isfinite(known).sum(0)
            mean = np.nansum(known, 0) / np.where(count > 0, count, 1)
            added[f"{score}/hand"] = np.where(count > 0, mean, -1.0)
    return {**scores, **added}


def _matches(evaluation: Any, stats: Mapping[str, float], images: int) -> KeypointMatches:
    """Of area "all", the first of three; the guesses in the order in which pycocotools ranks them."""
    found = [(i, entry) for i, entry in enumerate(evaluation.evalImgs[:images]) if entry is not None]
    people = np.zeros(images)
    for i, entry in found:
        people[i] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
    scores = np.concatenate([entry["dtScores"] for _, entry in found])
    rank = np.argsort(-scores, kind="mergesort")
    image = np.concatenate([np.full(len(entry["dtScores"]), i) for i, entry in found])[rank]
    matched = np.concatenate([entry["dtMatches"] for _, entry in found], axis=1)[:, rank] > 0
    ignored = np.concatenate([entry["dtIgnore"] for _, entry in found], axis=1)[:, rank].astype(bool)
    return KeypointMatches(stats, image.astype(np.int64), matched & ~ignored, ~matched & ~ignored, people)


def _no_guesses(truth: Sequence[PosedPerson], images: Sequence[int]) -> KeypointMatches:
    place = {number: position for position, number in enumerate(images)}
    people = np.zeros(len(images))
    for person in truth:
        people[place[person.image]] += not person.crowd and bool((person.keypoints[:, 2] > 0).any())
    nothing = np.zeros((10, 0), dtype=bool)
    stats = dict.fromkeys(COCO_STATS, 0.0 if people.any() else -1.0)
    return KeypointMatches(stats, np.zeros(0, np.int64), nothing, nothing, people)


def _coco_dataset(truth: Sequence[PosedPerson], images: Sequence[int]) -> dict[str, Any]:
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
    return {
        "info": {},
        "images": [{"id": image} for image in images],
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


def _extent(keypoints: Float64[np.ndarray, "points 3"]) -> float:
    """Area of the box around the points, as pycocotools takes it for guesses."""
    return float(np.ptp(keypoints[:, 0]) * np.ptp(keypoints[:, 1]))
