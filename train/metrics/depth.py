"""Depth errors after the best scale and shift (docs/evaluate.md). Units: metres."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64


class DepthErrors(NamedTuple):
    """Of one image: root mean square error (m), mean |error| / truth, share within a factor of 1.25."""

    rmse: float
    abs_rel: float
    delta1: float


def align_depth(
    prediction: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """scale * prediction + shift, by least squares in depth space (not disparity: the target is affine in
    depth).

    Computed in float64 on centred values. A constant prediction has no scale: it becomes the mean of the
    truth.
    """
    p, t = prediction.astype(np.float64), truth.astype(np.float64)
    p_mean, t_mean = p.mean(), t.mean()
    centred = p - p_mean
    spread = centred @ centred
    flat = spread <= 1e-12 * len(p) * max(p_mean**2, np.finfo(np.float64).tiny)
    scale = 0.0 if flat else centred @ (t - t_mean) / spread
    return np.asarray(scale * centred + t_mean)


def depth_errors(
    prediction: Float[np.ndarray, "height width"],
    truth: Float[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
) -> DepthErrors:
    """Errors of an up to scale and shift known `prediction` on the pixels of `mask` (at least one; truth >
    0).
    """
    t = truth[mask].astype(np.float64)
    aligned = align_depth(prediction[mask], t)
    error = aligned - t
    with np.errstate(divide="ignore"):
        ratio = np.maximum(aligned / t, np.where(aligned > 0, t / aligned, np.inf))
    return DepthErrors(
        rmse=float(np.sqrt(np.mean(error**2))),
        abs_rel=float(np.mean(np.abs(error) / t)),
        delta1=float(np.mean(ratio < 1.25)),
    )
