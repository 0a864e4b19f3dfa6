"""Metric depth and pointmaps: nothing is aligned (docs/tasks.md). Units: metres."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from annotation.camera import Camera


class PointErrors(NamedTuple):
    """Of one image. Depth: root mean square error (m), mean |error| / truth, share within a factor of 1.25.
    Points: mean distance (m), shares strictly within 5, 10, 20 cm.
    """

    rmse: float
    abs_rel: float
    delta1: float
    point_error: float
    within_5cm: float
    within_10cm: float
    within_20cm: float


def pointmap(
    depth_m: Float[np.ndarray, "height width"], camera: Camera
) -> Float64[np.ndarray, "height width 3"]:
    """Each pixel's point in the camera's frame (x right, y down, z forward, m): depth times the direction
    through the pixel centre. Where depth is 0, the origin.

    Raises VitruvianError for a pixel that the lens distortion leaves without a direction.
    """
    height, width = depth_m.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(np.float64)
    directions = camera.directions(np.column_stack([x, y])).reshape(height, width, 3)
    return np.asarray(directions * depth_m[..., None])


def point_errors(
    depth_m: Float[np.ndarray, "height width"],
    truth_m: Float[np.ndarray, "height width"],
    mask: Bool[np.ndarray, "height width"],
    camera: Camera,
) -> PointErrors:
    """Errors of a metric depth (> 0) on the pixels of `mask` (at least one; truth > 0)."""
    predicted, truth = depth_m[mask].astype(np.float64), truth_m[mask].astype(np.float64)
    error = predicted - truth
    ratio = np.maximum(predicted / truth, truth / predicted)
    y, x = np.nonzero(mask)
    directions = camera.directions(np.column_stack([x, y]).astype(np.float64))
    distance = np.abs(error) * np.linalg.norm(directions, axis=1)
    return PointErrors(
        rmse=float(np.sqrt(np.mean(error**2))),
        abs_rel=float(np.mean(np.abs(error) / truth)),
        delta1=float(np.mean(ratio < 1.25)),
        point_error=float(distance.mean()),
        within_5cm=float((distance < 0.05).mean()),
        within_10cm=float((distance < 0.10).mean()),
        within_20cm=float((distance < 0.20).mean()),
    )
