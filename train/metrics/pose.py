"""Keypoint scores of single people: shares of correct keypoints (PCK), pixel errors, OKS, and how guesses
about one image are scored, thinned out and written down (docs/evaluate.md). AP, AR: train/metrics/coco.py.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64

from annotation.keypoints import KeypointVocabulary
from train.metrics.coco import PARTS, PoseGuess
from train.metrics.resampling import Scores

PCK = (0.02, 0.05, 0.1, 0.2)
"""Distances, as shares of the longer side of the person's unpadded box, below which a point is correct."""
SURE = 0.2
"""Keypoints up to this confidence do not count in a person's score."""
DUPLICATE = 0.9
"""OKS to a better guess about the same image above which a guess is dropped."""
RESULT_FIELDS = {
    133: {
        "keypoints": "body",
        "foot_kpts": "foot",
        "face_kpts": "face",
        "lefthand_kpts": "left_hand",
        "righthand_kpts": "right_hand",
    },
    308: {"goliath_wholebody_kpts": ""},
}
"""Names of the parts in result files: COCO-WholeBody's, and the released code's for 308 points."""


def pixel_errors(
    truth: Float[np.ndarray, "points 3"], guess: Float[np.ndarray, "points 3"]
) -> Float64[np.ndarray, " labelled"]:
    """Distances (px) of the labelled points (visibility > 0)."""
    labelled = truth[:, 2] > 0
    return np.asarray(_distances(truth, guess)[labelled])


def pck_groups(vocabulary: KeypointVocabulary) -> dict[str, Bool[np.ndarray, " points"]]:
    """The parts whose PCK is given: all points (""), and `PARTS` where there is more than a body."""
    groups = {"": np.ones(len(vocabulary), dtype=bool)}
    for part in PARTS:
        points = vocabulary.groups.get(part, ())
        if 0 < len(points) < len(vocabulary):
            groups[part] = np.isin(np.arange(len(vocabulary)), points)
    return groups


def pck_sums(
    truth: Float[np.ndarray, "points 3"],
    guess: Float[np.ndarray, "points 3"],
    side: float,
    groups: Mapping[str, Bool[np.ndarray, " points"]],
) -> Float64[np.ndarray, " S"]:
    """What is added up over people, group by group: labelled points, their distances (px), and how many are
    closer than each of `PCK` x `side`.
    """
    distance, labelled = _distances(truth, guess), truth[:, 2] > 0
    sums = []
    for members in groups.values():
        chosen = distance[labelled & members]
        sums += [len(chosen), chosen.sum(), *((chosen < share * side).sum() for share in PCK)]
    return np.array(sums, dtype=np.float64)


def pck_scores(groups: Sequence[str]) -> Callable[[Float64[np.ndarray, "R S"]], Scores]:
    """pck02 .. pck20 and error_px of all points; pck10/<part> of each part."""

    def scores(sums_RS: Float64[np.ndarray, "R S"]) -> Scores:
        found: Scores = {}
        for number, part in enumerate(groups):
            start = number * (2 + len(PCK))
            count, distance, *below = sums_RS[:, start : start + 2 + len(PCK)].T
            count = np.where(count > 0, count, np.nan)
            shares = {f"pck{round(100 * share):02d}": b / count for share, b in zip(PCK, below, strict=True)}
            if part:
                found[f"pck10/{part}"] = shares["pck10"]
            else:
                found |= {**shares, "error_px": distance / count}
        return found

    return scores


def oks(
    truth: Float[np.ndarray, "points 3"],
    guess: Float[np.ndarray, "points 3"],
    area: float,
    sigmas: Float64[np.ndarray, " points"],
) -> float:
    """Object keypoint similarity: mean over the labelled points of exp(-d^2 / (2 area (2 sigma)^2)); 0
    without any.
    """
    labelled = truth[:, 2] > 0
    if not labelled.any():
        return 0.0
    spread = 2 * max(area, float(np.spacing(1))) * (2 * sigmas) ** 2
    return float(np.exp(-(_distances(truth, guess) ** 2) / spread)[labelled].mean())


def person_score(keypoints: Float[np.ndarray, "points 3"], box_score: float = 1.0) -> float:
    """The box's score times the mean confidence of the keypoints above 0.2; 0 when none is."""
    confidence = keypoints[:, 2]
    sure = confidence[confidence > SURE]
    return float(box_score * sure.mean()) if len(sure) else 0.0


def without_duplicates(
    guesses: Sequence[PoseGuess], sigmas: Float64[np.ndarray, " points"]
) -> list[PoseGuess]:
    """Guesses about one image, best first, without those whose OKS to a better one is above 0.9.

    All points count, whatever their confidence; the area is the mean of both guesses' areas.
    """
    kept: list[PoseGuess] = []
    for guess in sorted(guesses, key=lambda guess: -guess.score):
        if all(_similarity(guess, better, sigmas) <= DUPLICATE for better in kept):
            kept.append(guess)
    return kept


def coco_result(guess: PoseGuess, image_id: int | str, vocabulary: KeypointVocabulary) -> dict[str, Any]:
    """An entry of a COCO results file: 17 points as COCO's, 133 split as COCO-WholeBody's, 308 as the
    released code's.
    """
    fields = RESULT_FIELDS.get(len(vocabulary), {"keypoints": ""})
    everything = tuple(range(len(vocabulary)))
    points = {
        field: guess.keypoints[list(vocabulary.groups[part] if part else everything)]
        for field, part in fields.items()
    }
    lists = {field: np.round(values, 3).reshape(-1).tolist() for field, values in points.items()}
    return {"image_id": image_id, "category_id": 1, **lists, "score": guess.score}


def _distances(
    truth: Float[np.ndarray, "points 3"], guess: Float[np.ndarray, "points 3"]
) -> Float64[np.ndarray, " points"]:
    return np.asarray(np.linalg.norm(guess[:, :2].astype(np.float64) - truth[:, :2], axis=1))


def _similarity(a: PoseGuess, b: PoseGuess, sigmas: Float64[np.ndarray, " points"]) -> float:
    everything = np.column_stack([a.keypoints[:, :2], np.ones(len(sigmas))])
    return oks(everything, b.keypoints, ((a.area or 0) + (b.area or 0)) / 2, sigmas)
