"""Segmentation scores from one confusion matrix over a test set (docs/evaluate.md)."""

import numpy as np
from jaxtyping import Int64, UInt8

from annotation.parts import IGNORE


class ConfusionMatrix:
    """counts[truth, prediction] over all pixels whose truth is not 255."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts: Int64[np.ndarray, "classes classes"] = np.zeros((classes, classes), np.int64)

    def add(
        self, prediction: UInt8[np.ndarray, "height width"], truth: UInt8[np.ndarray, "height width"]
    ) -> None:
        """One image of class ids; predictions are class ids, never 255."""
        known = truth != IGNORE
        pairs = truth[known].astype(np.int64) * self.classes + prediction[known]
        self.counts += np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    def per_class(self) -> list[dict[str, float]]:
        """IoU and accuracy of each class; NaN where a class is in neither truth nor prediction (IoU) or not
        in the truth (accuracy).
        """
        hits, truth, predicted = self.counts.diagonal(), self.counts.sum(1), self.counts.sum(0)
        with np.errstate(invalid="ignore"):
            iou = hits / np.where(truth + predicted == 0, np.nan, truth + predicted - hits)
            accuracy = hits / np.where(truth == 0, np.nan, truth)
        return [{"iou": float(i), "accuracy": float(a)} for i, a in zip(iou, accuracy, strict=True)]

    def compute(self) -> dict[str, float]:
        """miou and macc: means over the classes that have one (above); aacc: share of pixels that are
        right.
        """
        rows = self.per_class()
        return {
            "miou": float(np.nanmean([row["iou"] for row in rows])),
            "macc": float(np.nanmean([row["accuracy"] for row in rows])),
            "aacc": float(self.counts.trace() / self.counts.sum()),
        }
