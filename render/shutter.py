"""What happens while the shutter is open: the camera's path, and how much of the picture depth of field and
motion reach.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float64

from annotation.camera import Camera
from render.spec import EffectsSpec


def is_shaken(effects: EffectsSpec) -> bool:
    """Whether the camera moves while the shutter is open."""
    return any(effects.shake_m) or any(effects.shake_deg)


def moved(camera: Camera, effects: EffectsSpec, exposures: float) -> Camera:
    """The camera so many exposures after the middle of its own: moved along and turned about its axes."""
    if not exposures or not is_shaken(effects):
        return camera
    path = np.eye(4)
    path[:3, :3] = cv2.Rodrigues(np.deg2rad(effects.shake_deg) * exposures)[0]
    path[:3, 3] = np.array(effects.shake_m) * exposures
    pose = np.linalg.inv(path) @ camera.world_to_camera
    return Camera(camera.K, pose, camera.width, camera.height)


def path_of(camera: Camera, effects: EffectsSpec, count: int) -> Sequence[Camera]:
    """`count` cameras, evenly from the opening of the shutter to its closing; one when nothing moves."""
    if not is_shaken(effects):
        return (camera,)
    return [moved(camera, effects, float(at)) for at in np.linspace(-0.5, 0.5, count)]


def blur_radius(
    camera: Camera, focal_mm: float, effects: EffectsSpec, depth_m: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, " n"]:
    """Radius (px) of the circle that a point at each depth is blurred to; 0 without depth of field.

    A thin lens of diameter focal_mm / fstop focused at focus_m: half the diameter, seen from the point,
    projected onto the plane of focus.
    """
    if not effects.fstop:
        return np.zeros_like(depth_m)
    radius_m = focal_mm / 1000 / effects.fstop / 2
    return np.asarray(camera.K[0, 0] * radius_m * np.abs(1 / effects.focus_m - 1 / depth_m))


def picture_box(
    camera: Camera, focal_mm: float, effects: EffectsSpec, points: Float64[np.ndarray, "n 3"], margin: int
) -> tuple[int, int, int, int]:
    """x, y, width, height (px) of the part of the image that world `points` can touch, `margin` px included.

    Blur and motion are counted in. Points behind the camera, or none at all in view, give the whole image.
    """
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for view in path_of(camera, effects, 3):
        seen = view.project(points)
        if not (seen[:, 2] > 0).all():
            return 0, 0, camera.width, camera.height
        blur = blur_radius(view, focal_mm, effects, seen[:, 2])[:, None]
        low = np.minimum(low, (seen[:, :2] - blur).min(axis=0))
        high = np.maximum(high, (seen[:, :2] + blur).max(axis=0))
    size = np.array([camera.width, camera.height])
    first = np.clip(np.floor(low).astype(int) - margin, 0, size)
    last = np.clip(np.ceil(high).astype(int) + margin + 1, 0, size)
    if (last <= first).any():
        return 0, 0, camera.width, camera.height
    (x, y), (width, height) = first.tolist(), (last - first).tolist()
    return x, y, width, height
