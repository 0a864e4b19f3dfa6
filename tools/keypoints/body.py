"""The body, the feet and the extra points of joints: bones' heads and landmarks of the skin."""

import numpy as np
from adult import adult
from rules import (
    both_sides,
    cast,
    end_of,
    extreme_vertex,
    mean,
    nearest_vertex,
    on_skin,
    skin_where,
)

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
"""Point -> bone whose head it is, and about the limb's radius with cloth, metres."""

EAR = (0.079, -0.045, 0.712)
TOES = {"left_big_toe": ("toe1-2.L", "big toe"), "left_small_toe": ("toe5-3.L", "small toe")}
LOW = -0.782
"""Up to here the heel is looked at, about 3 cm above the ground, metres in the template's frame."""
SHOE, CLOTH, SKIN = 0.03, 0.03, 0.03


def define(model: BodyModel) -> list[KeypointDefinition]:
    """17 points of the body, 6 of the feet, 7 extra ones."""
    left = [
        KeypointDefinition(name, "joint", f"head of bone {bone}", 0.9, inside, joint=bone)
        for name, (bone, inside) in JOINTS.items()
    ]
    left += [_eye(model), _ear(model), *_feet(model), *_arm(model), _acromion(model)]
    return [_nose(model), _neck(), *both_sides(model, left)]


def _nose(model: BodyModel) -> KeypointDefinition:
    middle = skin_where(model, lambda p: (np.abs(p[:, 0]) < 1e-6) & (p[:, 2] > 0.67) & (p[:, 2] < 0.71))
    tip = extreme_vertex(adult(model), (0, -1, 0), middle)
    return on_skin("nose", "geometric rule", "foremost vertex of the nose on the midline", 0.95, SKIN, tip)


def _neck() -> KeypointDefinition:
    return KeypointDefinition(
        "neck", "joint", "head of bone neck01: base of the neck", 0.6, 0.1, joint="neck01"
    )


def _eye(model: BodyModel) -> KeypointDefinition:
    """COCO's eye: it stays in the middle of the eye when the gaze wanders or the lids close."""
    ball = np.unique(model.quads["helper-l-eye"])
    front = ball[np.argsort(model.template[ball, 1], kind="stable")[:8]]
    return on_skin("left_eye", "geometric rule", "front of the eyeball", 0.85, SKIN, mean(front.tolist()))


def _ear(model: BodyModel) -> KeypointDefinition:
    place = nearest_vertex(model, EAR)
    return on_skin("left_ear", "hand placed", "middle of the ear's outer surface", 0.7, 0.04, place)


def _feet(model: BodyModel) -> list[KeypointDefinition]:
    """Tips of toes and the back of the heel."""
    found = []
    for name, (bone, words) in TOES.items():
        tip = end_of(model, bone)
        found.append(on_skin(name, "geometric rule", f"end of the {words} along its axis", 0.9, SHOE, tip))
    heel = skin_where(model, lambda p: (p[:, 0] > 0.1) & (p[:, 2] < LOW))
    back = extreme_vertex(model, (0, 1, 0), heel)
    rule = "hindmost vertex of the heel"
    return [*found, on_skin("left_heel", "geometric rule", rule, 0.85, SHOE, back)]


def _arm(model: BodyModel) -> list[KeypointDefinition]:
    """Tip of the elbow and the hollow opposite: out of the joint along the bisector of the arm."""
    shoulder, elbow, wrist = (
        model.heads[model.bones.index(f"{bone}.L")] for bone in ("upperarm01", "lowerarm01", "wrist")
    )
    inwards = sum((d - elbow) / np.linalg.norm(d - elbow) for d in (shoulder, wrist))
    tip, hollow = cast(model, elbow, -inwards), cast(model, elbow, inwards)
    words = "skin where the bisector of the arm leaves the elbow's"
    return [
        on_skin("left_olecranon", "geometric rule", f"{words} back", 0.8, CLOTH, tip),
        on_skin("left_cubital_fossa", "geometric rule", f"{words} front", 0.8, CLOTH, hollow),
    ]


def _acromion(model: BodyModel) -> KeypointDefinition:
    joint = model.heads[model.bones.index("upperarm01.L")]
    place = cast(model, joint, (0, 0, 1))
    return on_skin("left_acromion", "geometric rule", "skin above the shoulder joint", 0.7, 0.04, place)
