"""Angles between normals, pooled over all pixels of a test set (docs/evaluate.md)."""

import numpy as np
from jaxtyping import Float, Float64

from train.metrics.resampling import Scores

THRESHOLDS = (5.0, 7.5, 11.25, 22.5, 30.0)
BIN = 0.05
"""Degrees per bin of the histogram the median is read from: its error is at most half of that."""
BINS = 3601
"""The last one holds exactly 180 degrees."""
SUMS = 2 + len(THRESHOLDS) + BINS


def angles(a: Float[np.ndarray, "n 3"], b: Float[np.ndarray, "n 3"]) -> Float64[np.ndarray, " n"]:
    """Degrees between directions of any length > 0, by 2 atan2(|a - b|, |a + b|): arccos loses 0.03 deg
    near 0.
    """
    u = a / np.linalg.norm(a, axis=1, keepdims=True).clip(1e-12)
    v = b / np.linalg.norm(b, axis=1, keepdims=True).clip(1e-12)
    u, v = u.astype(np.float64), v.astype(np.float64)
    half = np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))
    return np.asarray(np.degrees(2 * half))


def angle_sums(degrees: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " S"]:
    """What is added up over images: the angles (0 .. 180), their squares, how many are strictly below each
    threshold, and a histogram. All counts are exact.
    """
    below = (degrees[:, None] < np.array(THRESHOLDS)).sum(axis=0)
    histogram = np.bincount((degrees / BIN).astype(np.int64).clip(max=BINS - 1), minlength=BINS)
    sums = [[degrees.sum(), degrees @ degrees], below, histogram]
    return np.asarray(np.concatenate(sums), dtype=np.float64)


def angle_scores(sums_RS: Float64[np.ndarray, "R S"]) -> Scores:
    """mean, median, rmse (degrees) and within_5 .. within_30 (0 .. 1) of each row of sums."""
    histograms = sums_RS[:, 2 + len(THRESHOLDS) :]
    count = histograms.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums_RS[:, : 2 + len(THRESHOLDS)] / np.where(count > 0, count, np.nan)[:, None]
    within = {f"within_{threshold:g}": shares[:, 2 + i] for i, threshold in enumerate(THRESHOLDS)}
    return {"mean": shares[:, 0], "median": _medians(histograms), "rmse": np.sqrt(shares[:, 1]), **within}


def _medians(histograms_RB: Float64[np.ndarray, "R B"]) -> Float64[np.ndarray, " R"]:
    """To half a bin; of an even number of angles the mean of the middle two; NaN of none."""
    cumulative = histograms_RB.cumsum(axis=1)
    count = cumulative[:, -1]
    middle = [np.floor((count + 1) / 2), np.floor(count / 2) + 1]
    low, high = [(cumulative >= rank[:, None]).argmax(axis=1) for rank in middle]
    return np.where(count > 0, (low + high + 1) / 2 * BIN, np.nan)
