"""Angles between normals, pooled over all pixels of a test set in a fine histogram (docs/evaluate.md)."""

import numpy as np
from jaxtyping import Float, Float64

THRESHOLDS = (5.0, 7.5, 11.25, 22.5, 30.0)
BIN = 0.01
"""Degrees per bin of the histogram the median is read from: its error is at most half of that."""


def angles(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float64[np.ndarray, " n"]:
    """Degrees between directions of any length > 0, by 2 atan2(|a - b|, |a + b|): arccos loses 0.03 deg
    near 0.
    """
    u = a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12)
    v = b / np.linalg.norm(b, axis=1, keepdims=True).clip(1e-12)
    u, v = u.astype(np.float64), v.astype(np.float64)
    half = np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))
    return np.asarray(np.degrees(2 * half))


class AngleStatistics:
    """Mean, median and shares below the thresholds (strictly) of all angles added. Constant memory."""

    def __init__(self) -> None:
        self.count, self.total = 0, 0.0
        self.below = np.zeros(len(THRESHOLDS), np.int64)
        self.histogram = np.zeros(int(180 / BIN) + 1, np.int64)

    def add(self, degrees: Float64[np.ndarray, " n"]) -> None:
        """Angles in 0 .. 180 degrees."""
        self.count += len(degrees)
        self.total += float(degrees.sum())
        self.below += (degrees[:, None] < np.array(THRESHOLDS)).sum(axis=0)
        self.histogram += np.bincount((degrees / BIN).astype(np.int64), minlength=len(self.histogram))

    def median(self) -> float:
        """The median, to half a bin; of an even number of angles the mean of the middle two."""
        cumulative = self.histogram.cumsum()
        low, high = np.searchsorted(cumulative, [(self.count + 1) // 2, self.count // 2 + 1])
        return float((low + high + 1) / 2 * BIN)

    def compute(self) -> dict[str, float]:
        """mean, median (degrees) and within_5 .. within_30 (0 .. 1)."""
        shares = {f"within_{threshold:g}": count / self.count for threshold, count in self._below()}
        return {"mean": self.total / self.count, "median": self.median(), **shares}

    def _below(self) -> list[tuple[float, int]]:
        return [(threshold, int(count)) for threshold, count in zip(THRESHOLDS, self.below, strict=True)]
