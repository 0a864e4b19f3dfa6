"""The 17 COCO keypoints as points of the skeleton (limbs) and of the surface (face), in world coordinates."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, Skeleton

JOINTS = {5: "upperarm01", 7: "lowerarm01", 9: "wrist", 11: "upperleg01", 13: "lowerleg01", 15: "foot"}
"""COCO index of the left joint -> bone whose head it is; the right one is index + 1."""

NOSE_TIP, EAR_LEFT, EAR_RIGHT = 0, 3, 4
TEMPLATE_POINTS = {
    NOSE_TIP: (0.0, -0.168, 0.692),
    EAR_LEFT: (0.079, -0.045, 0.712),
    EAR_RIGHT: (-0.079, -0.045, 0.712),
}
"""Template positions (metres, rest) whose nearest vertices carry the surface keypoints."""


def coco_keypoints(
    vertices: Float64[np.ndarray, "v 3"], skeleton: Skeleton, model: BodyModel
) -> Float64[np.ndarray, "17 3"]:
    """Keypoints from the posed base mesh (all 19 158 vertices) and its skeleton.

    Eyes are the centres of the eye balls' front, nose the tip of the nose, ears the middle of the ear's
    outer surface;
    shoulders, elbows, wrists, hips, knees and ankles are joint centres, as COCO annotators place them.
    """
    points = np.empty((17, 3))
    for index, where in TEMPLATE_POINTS.items():
        points[index] = vertices[_nearest(model, where)]
    for index, side in ((1, "l"), (2, "r")):
        eye = np.unique(model.quads[f"helper-{side}-eye"])
        front = eye[np.argsort(model.template[eye, 1], kind="stable")[:8]]
        points[index] = vertices[front].mean(0)
    for index, bone in JOINTS.items():
        for offset, side in ((0, "L"), (1, "R")):
            points[index + offset] = skeleton.heads[model.bones.index(f"{bone}.{side}")]
    return points


def _nearest(model: BodyModel, where: tuple[float, float, float]) -> int:
    body = np.unique(model.quads["body"])
    gap = model.template[body] - np.array(where)
    return int(body[np.argmin((gap * gap).sum(1))])


def named_joints(skeleton: Skeleton, model: BodyModel) -> Mapping[str, Float64[np.ndarray, " 3"]]:
    """Every bone's head, by bone name."""
    return {name: skeleton.heads[i].copy() for i, name in enumerate(model.bones)}
