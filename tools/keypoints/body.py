"""The body, the feet and the extra points of joints: bones' heads and landmarks of the skin."""

from annotation.definitions import KeypointDefinition
from render.people.body import BodyModel

JOINTS = {
    "left_shoulder": ("upperarm01.L", 0.10),
    "left_elbow": ("lowerarm01.L", 0.07),
    "left_wrist": ("wrist.L", 0.06),
    "left_hip": ("upperleg01.L", 0.17),
    "left_knee": ("lowerleg01.L", 0.09),
    "left_ankle": ("foot.L", 0.08),
}
"""Point -> bone whose head it is, and the limb's radius with cloth, metres."""


def define(model: BodyModel) -> list[KeypointDefinition]:
    """17 + 6 + 7 points."""
    return []
