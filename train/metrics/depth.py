"""Depth errors after the best scale and shift (docs/evaluate.md). Units: metres."""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

Space = Literal["depth", "disparity"]
"""Where a prediction is affine in the truth: depth (this project's and the paper's models), or 1 / depth
(MiDaS, Depth Anything).
"""
CAP = 10.0
"""Metres beyond which depth is cut off in disparity space, where none is given."""


class DepthErrors(NamedTuple):
    """Of one image: root mean square error (m), mean |error| / truth, share within a factor of 1.25."""

    rmse: float
    abs_rel: float
    delta1: float


def align_depth(
    prediction: Float[np.ndarray, " n"],
    truth: Float[np.ndarray, " n"],
    space: Space = "depth",
    cap: float = CAP,
) -> Float64[np.ndarray, " n"]:
    """Depth (m) by the scale and shift of the prediction that fit the truth best in least squares.

    "disparity": fitted to 1 / truth, clamped to at least 1 / cap, then inverted, as MiDaS is evaluated.
    """
    if space == "depth":
        return _affine_fit(prediction, truth.astype(np.float64))
    return np.asarray(1 / _affine_fit(prediction, 1 / truth.astype(np.float64)).clip(min=1 / cap))


def depth_errors(
    prediction: Float[np.ndarray, "height width"],
    truth: Float[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    space: Space = "depth",
    cap: float = CAP,
) -> DepthErrors:
    """Errors of an up to scale and shift known `prediction` on the pixels of `mask` (at least one; truth >
    0; no farther than `cap` in disparity space).
    """
    t = truth[mask].astype(np.float64)
    aligned = align_depth(prediction[mask], t, space, cap)
    error = aligned - t
    with np.errstate(divide="ignore"):
        ratio = np.maximum(aligned / t, np.where(aligned > 0, t / aligned, np.inf))
    return DepthErrors(
        rmse=float(np.sqrt(np.mean(error**2))),
        abs_rel=float(np.mean(np.abs(error) / t)),
        delta1=float(np.mean(ratio < 1.25)),
    )


def _affine_fit(
    prediction: Float[np.ndarray, " n"], target: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """scale * prediction + shift by least squares, in float64 on centred values.

    A constant prediction has no scale: it becomes the mean of the target.
    """
    p, mean = prediction.astype(np.float64), target.mean()
    p_mean = p.mean()
    centred = p - p_mean
    spread = centred @ centred
    flat = spread <= 1e-12 * len(p) * max(p_mean**2, np.finfo(np.float64).tiny)
    scale = 0.0 if flat else centred @ (target - mean) / spread
    return np.asarray(scale * centred + mean)
