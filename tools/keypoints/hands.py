"""The 40 points of the fingers: joints are bones' heads, tips the ends of the last phalanges."""

import numpy as np
from rules import blend, both_sides, cast, end_of, on_skin

from annotation.definitions import KeypointDefinition
from render.people.body import BodyModel

FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
TIP, JOINT, KNUCKLE = 0.010, 0.014, 0.022
"""Half the thickness of a finger's end, of a finger and of the palm, and a few millimetres more, metres."""


THUMB_BASE = 1.7
"""The rig turns the thumb too far from the wrist: its base joint is so many times further behind the next."""


def define(model: BodyModel) -> list[KeypointDefinition]:
    """Four points a finger: 4 tip, 3 and 2 the next joints, third_joint its base (thumb: at the wrist)."""
    left = [_thumb_base(model)]
    for number, finger in enumerate(FINGERS, start=1):
        base, second, third = (f"finger{number}-{i}.L" for i in (1, 2, 3))
        left.append(_tip(model, finger, third))
        left += [_joint(f"left_{finger}3", third, JOINT), _joint(f"left_{finger}2", second, JOINT)]
        if finger != "thumb":
            left.append(_joint(f"left_{finger}_third_joint", base, KNUCKLE))
    return both_sides(model, left)


def _joint(name: str, bone: str, inside: float) -> KeypointDefinition:
    return KeypointDefinition(name, "joint", f"head of bone {bone}", 0.85, inside, joint=bone)


def _tip(model: BodyModel, finger: str, bone: str) -> KeypointDefinition:
    rule = "end of the finger along the axis of its last phalanx"
    return on_skin(f"left_{finger}4", "geometric rule", rule, 0.9, TIP, end_of(model, bone))


def _thumb_base(model: BodyModel) -> KeypointDefinition:
    """The joint of thumb and wrist: the middle of the back of the hand and the palm over it."""
    base, second, wrist, index, pinky = (
        model.heads[model.bones.index(f"{bone}.L")]
        for bone in ("finger1-1", "finger1-2", "wrist", "finger2-1", "finger5-1")
    )
    centre = second + THUMB_BASE * (base - second)
    across = np.cross(index - wrist, pinky - wrist)
    place = blend([cast(model, centre, across), cast(model, centre, -across)], [0.5, 0.5])
    rule = "inside the base of the thumb, on its axis, between back and palm"
    return on_skin("left_thumb_third_joint", "geometric rule", rule, 0.7, KNUCKLE, place)
