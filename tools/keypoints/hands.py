"""The 40 points of the fingers: joints are bones' heads, tips the furthest vertices of the last phalanges."""

from rules import both_sides, extreme_vertex, moved_by, on_skin

from annotation.definitions import KeypointDefinition
from render.people.body import BodyModel

FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
TIP, JOINT, KNUCKLE = 0.010, 0.014, 0.022
"""Half the thickness of a finger's end, of a finger and of the palm, and a few millimetres more, metres."""


def define(model: BodyModel) -> list[KeypointDefinition]:
    """Four points a finger: 4 tip, 3 and 2 the next joints, third_joint its base (thumb: at the wrist)."""
    left = []
    for number, finger in enumerate(FINGERS, start=1):
        bones = [f"finger{number}-{i}.L" for i in (1, 2, 3)]
        last = model.heads[model.bones.index(bones[2])] - model.heads[model.bones.index(bones[1])]
        tip = extreme_vertex(model, last, moved_by(model, bones[2]))
        rule = f"furthest vertex of {finger.replace('_', ' ')}"
        left.append(on_skin(f"left_{finger}4", "geometric rule", rule, 0.9, TIP, tip))
        for name, bone, inside in (
            ("3", bones[2], JOINT),
            ("2", bones[1], JOINT),
            ("_third_joint", bones[0], KNUCKLE),
        ):
            rule = f"head of bone {bone}"
            left.append(KeypointDefinition(f"left_{finger}{name}", "joint", rule, 0.85, inside, joint=bone))
    return both_sides(model, left)
