"""The 308 keypoints of a posed person: the table of `annotation.definitions`, evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

from annotation.definitions import EyePoint, keypoint_definitions
from render.people.body import BodyModel, Skeleton
from render.people.eyes import IRIS_ANGLE, fit_eyeball
from render.people.spec import EyeSpec, PersonSpec


@dataclass(frozen=True)
class _Table:
    """The definitions by kind: rows are indices of keypoints. Absent vertices have weight 0."""

    skin_rows: Int64[np.ndarray, " s"]
    vertices: Int64[np.ndarray, "s k"]
    weights: Float64[np.ndarray, "s k"]
    joint_rows: Int64[np.ndarray, " j"]
    bones: Int64[np.ndarray, " j"]
    eyes: tuple[tuple[int, EyePoint], ...]


def person_keypoints(
    spec: PersonSpec, vertices: Float64[np.ndarray, "v 3"], skeleton: Skeleton, model: BodyModel
) -> Float64[np.ndarray, "308 3"]:
    """Keypoints (vocabulary of 308) of the posed base mesh (all 19 158 vertices) with its skeleton.

    Points of iris and pupil are on the rendered eyeball, where its shader draws their borders.
    """
    table = _table(model.bones)
    points = np.empty((len(keypoint_definitions()), 3))
    points[table.skin_rows] = (vertices[table.vertices] * table.weights[..., None]).sum(1)
    points[table.joint_rows] = skeleton.heads[table.bones]
    head = skeleton.rotations[model.bones.index("head")]
    for side in "lr":
        ball = fit_eyeball(spec.eyes, side, vertices, head, model)
        places = [(row, eye) for row, eye in table.eyes if eye.side == side]
        polar = np.array([_polar(eye, spec.eyes) for _, eye in places])
        turn = np.radians([90.0 - 30.0 * eye.clock for _, eye in places])
        points[[row for row, _ in places]] = ball.surface(polar, turn)
    return points


def named_joints(skeleton: Skeleton, model: BodyModel) -> Mapping[str, Float64[np.ndarray, " 3"]]:
    """Every bone's head, by bone name."""
    return {name: skeleton.heads[i].copy() for i, name in enumerate(model.bones)}


def _polar(place: EyePoint, eyes: EyeSpec) -> float:
    """Degrees from the gaze, seen from the eyeball's centre."""
    return IRIS_ANGLE * {"center": 0.0, "pupil": eyes.pupil, "iris": 1.0}[place.ring]


@lru_cache(maxsize=1)
def _table(bones: tuple[str, ...]) -> _Table:
    definitions = list(enumerate(keypoint_definitions()))
    skin = [(row, d) for row, d in definitions if d.vertices]
    joints = [(row, d.joint) for row, d in definitions if d.joint is not None]
    width = max(len(d.vertices) for _, d in skin)
    filled = [(width - len(d.vertices)) * (0,) for _, d in skin]
    return _Table(
        skin_rows=np.array([row for row, _ in skin]),
        vertices=np.array([d.vertices + rest for (_, d), rest in zip(skin, filled, strict=True)]),
        weights=np.array([d.weights + rest for (_, d), rest in zip(skin, filled, strict=True)], np.float64),
        joint_rows=np.array([row for row, _ in joints]),
        bones=np.array([bones.index(joint) for _, joint in joints]),
        eyes=tuple((row, d.eye) for row, d in definitions if d.eye is not None),
    )
