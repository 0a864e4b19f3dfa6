"""Errors of predictions that are pictures: albedo and alpha, values 0 .. 1 (docs/tasks.md)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class ColourErrors(NamedTuple):
    """Of one image, over pixels and channels, sRGB 0 .. 1: mean and root mean square error."""

    mae: float
    rmse: float


class AlphaErrors(NamedTuple):
    """Of one image: mean error, sum of absolute differences in thousands of pixels (SAD), and intersection
    over union of the pixels at or above one half (1 where there are none in either).
    """

    mae: float
    sad: float
    iou: float


def colour_errors(
    prediction: Float[np.ndarray, "height width 3"],
    truth: Float[np.ndarray, "height width 3"],
    mask: Bool[np.ndarray, "height width"],
) -> ColourErrors:
    """On the pixels of `mask` (at least one)."""
    error = prediction[mask].astype(np.float64) - truth[mask]
    return ColourErrors(mae=float(np.abs(error).mean()), rmse=float(np.sqrt((error**2).mean())))


def alpha_errors(
    prediction: Float[np.ndarray, "height width"], truth: Float[np.ndarray, "height width"]
) -> AlphaErrors:
    """On all pixels."""
    error = np.abs(prediction.astype(np.float64) - truth)
    guessed, person = prediction >= 0.5, truth >= 0.5
    union = np.count_nonzero(guessed | person)
    shared = np.count_nonzero(guessed & person)
    return AlphaErrors(
        mae=float(error.mean()), sad=float(error.sum() / 1000), iou=shared / union if union else 1.0
    )
