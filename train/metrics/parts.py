"""Segmentation scores from one confusion matrix over a test set (docs/evaluate.md)."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from annotation.parts import IGNORE
from train.metrics.resampling import Scores


def confusion(
    prediction: UInt8[np.ndarray, "height width"], truth: UInt8[np.ndarray, "height width"], classes: int
) -> Int64[np.ndarray, "classes classes"]:
    """counts[truth, prediction] over the pixels whose truth is not 255; predictions are never 255."""
    known = truth != IGNORE
    pairs = truth[known].astype(np.int64) * classes + prediction[known]
    return np.asarray(np.bincount(pairs, minlength=classes**2).reshape(classes, classes))


def class_scores(
    counts: Float64[np.ndarray, "*R classes classes"],
) -> tuple[Float64[np.ndarray, "*R classes"], Float64[np.ndarray, "*R classes"]]:
    """IoU and accuracy of each class; NaN where a class is in neither truth nor prediction (IoU) or not in
    the truth (accuracy).
    """
    hits, truth, predicted = np.einsum("...cc->...c", counts), counts.sum(-1), counts.sum(-2)
    union = truth + predicted - hits
    return hits / np.where(union == 0, np.nan, union), hits / np.where(truth == 0, np.nan, truth)


def confusion_scores(names: Sequence[str]) -> Callable[[Float64[np.ndarray, "R S"]], Scores]:
    """Scores of flattened confusion matrices over the classes `names`: miou and macc, means over the classes
    that have one (above); aacc, the share of pixels that are right; iou/<class> of each.
    """

    def scores(sums_RS: Float64[np.ndarray, "R S"]) -> Scores:
        counts = sums_RS.reshape(-1, len(names), len(names))
        iou, accuracy = class_scores(counts)
        pixels = sums_RS.sum(axis=1)
        right = np.einsum("rcc->r", counts) / np.where(pixels == 0, np.nan, pixels)
        each = {f"iou/{name}": iou[:, index] for index, name in enumerate(names)}
        return {"miou": _nanmean(iou), "macc": _nanmean(accuracy), "aacc": right, **each}

    return scores


def _nanmean(values: Float64[np.ndarray, "R classes"]) -> Float64[np.ndarray, " R"]:
    """Mean over the known values of each row, NaN where none is."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    return np.asarray(total / np.where(count == 0, np.nan, count))
