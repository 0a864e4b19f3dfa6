"""A person's keypoints in an image: projected, and judged visible or occluded against the exact depth."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from annotation.camera import Camera
from annotation.definitions import keypoint_definitions
from annotation.keypoints import keypoint_vocabulary

OUTSIDE, OCCLUDED, VISIBLE = 0, 1, 2

_DEPTH_INSIDE_M = {
    "nose": 0.03,
    "eye": 0.03,
    "ear": 0.04,
    "shoulder": 0.10,
    "elbow": 0.07,
    "wrist": 0.06,
    "hip": 0.17,
    "knee": 0.09,
    "ankle": 0.08,
}
"""How far under the skin a joint of a scan with 17 or 133 points may lie, metres, for a person of 1.7 m:
about the limb's radius plus cloth. A joint whose pixel shows a surface nearer to the camera than that is
hidden behind something else. Of 308 points each has its own, `KeypointDefinition.inside_m`.
"""
_ON_THE_SKIN_M = 0.03  # every other point of a scan: of face, hands and feet
_REFERENCE_HEIGHT = 1.7


def label_keypoints(
    points: Sequence[Float64[np.ndarray, "joints 3"]],
    heights: Sequence[float],
    camera: Camera,
    depth: Float32[np.ndarray, "height width"],
    instance: UInt8[np.ndarray, "height width"],
) -> Float32[np.ndarray, "people joints 4"]:
    """x px, y px, z m and visibility of every person's joints (world, m).

    All people's points are of one vocabulary (17, 133 or 308). Visibility: 0 outside the image or behind
    the camera; 2 when a pixel within one of the joint's shows this person's surface, no further in front
    of the joint than the table allows (scaled by height); else 1. A joint behind the camera has no place
    in the image, one that is NaN is not known: both are all zeros.
    """
    return np.stack(
        [
            _label_person(person, height, index, camera, depth, instance)
            for index, (person, height) in enumerate(zip(points, heights, strict=True), start=1)
        ]
    )


def depth_tolerances(height: float, count: int = 17) -> Float64[np.ndarray, " count"]:
    """Metres each point of a vocabulary may lie under the visible surface of a person of this height (m)."""
    if count == len(keypoint_definitions()):
        inside = [definition.inside_m for definition in keypoint_definitions()]
    else:
        joints = set(keypoint_vocabulary(17).names)
        inside = [
            _DEPTH_INSIDE_M[name.rpartition("_")[2]] if name in joints else _ON_THE_SKIN_M
            for name in keypoint_vocabulary(count).names
        ]
    return np.array(inside) * height / _REFERENCE_HEIGHT


def _label_person(
    points: Float64[np.ndarray, "joints 3"],
    height: float,
    index: int,
    camera: Camera,
    depth: Float32[np.ndarray, "height width"],
    instance: UInt8[np.ndarray, "height width"],
) -> Float32[np.ndarray, "joints 4"]:
    projected = camera.project(points)
    labels = np.zeros((len(points), 4), np.float32)
    inside = camera.contains(projected)
    surface = np.pad(np.where(instance == index, depth, 0), 1)
    for joint, tolerance in enumerate(depth_tolerances(height, len(points))):
        x, y, z = projected[joint]
        if not z > 0:
            continue
        labels[joint, :3] = x, y, z
        if inside[joint]:
            row, column = int(np.rint(y)), int(np.rint(x))
            window = surface[row : row + 3, column : column + 3]
            seen = (window > 0) & (window >= z - tolerance)
            labels[joint, 3] = VISIBLE if seen.any() else OCCLUDED
    return labels
