"""Stances and how they become joint rotations: arms by direction or by what the hand touches, legs by where
the foot stands or by joint angles.

A pose is `joint -> rotation vector (degrees, rest axes)`. A stance speaks anatomy (which way the upper arm
points, how far the elbow bends, where the feet stand) and is turned into rotations for one person's skeleton.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from render.people.body import BodyModel, Shape, Skeleton, pose_skeleton, product, rotation, skin
from render.people.hands import HANDS, Hand, hand_turns
from render.people.limits import (
    LIMITS,
    MIRROR,
    Joint,
    Matrix,
    Pose,
    Vector,
    anatomy,
    clamp_pose,
    hand_axes,
    rounded_vector,
    swing_twist,
    turn_of,
)
from render.people.mesh import unit

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Arm:
    """One arm in the torso's axes, written for the left side (x is mirrored for the right)."""

    upper: Triple  # direction of the upper arm
    bend: Triple  # direction towards which the elbow bends the forearm
    flexion: float  # degrees between upper arm and forearm; 0 is straight
    twist: float = 0.0  # of the forearm about its axis, degrees, positive turns the thumb outwards
    wrist: float = 0.0  # flexion of the hand, degrees
    shrug: float = 0.0  # raising of the collar bone, degrees
    hand: Hand = HANDS["relaxed"]


@dataclass(frozen=True)
class Reach:
    """An arm whose palm meets a place on the body, written for the left side.

    place: on the template, metres (x mirrored for the right). gap: from the skin to the palm along the palm's
    normal, metres. fingers, palm: where those point, in the rest axes of the bone under the place. elbow:
    which way it points away from the line of shoulder and wrist, in the torso's axes.
    """

    place: Triple
    gap: float
    fingers: Triple
    palm: Triple
    elbow: Triple = (0.6, 0.3, -0.8)
    hand: Hand = HANDS["relaxed"]
    shrug: float = 0.0
    along: float = 0.75  # of the way from wrist to knuckles that touches


@dataclass(frozen=True)
class Leg:
    """Where a foot stands relative to the middle of the pelvis: metres for a 1 m leg, angles in degrees."""

    out: float
    forward: float
    lift: float = 0.0  # height of the ankle above its standing height
    heel: float = 0.0  # degrees the heel is raised with the toes on the ground
    yaw: float = 8.0  # toes outwards


@dataclass(frozen=True)
class Bent:
    """A leg by its joint angles, degrees as in `limits`. hip: (flexion, abduction, outward rotation)."""

    hip: Triple
    knee: float
    ankle: float = 0.0  # dorsiflexion
    toes: float = 0.0


@dataclass(frozen=True)
class Stance:
    """A whole pose before it meets a skeleton. Torso angles in degrees: (bend forward, lean left, turn
    left).
    """

    name: str
    left: Arm | Reach
    right: Arm | Reach
    left_leg: Leg | Bent
    right_leg: Leg | Bent
    crouch: float = 0.005  # pelvis below full leg length, fraction of the leg
    pelvis: Triple = (0.0, 0.0, 0.0)
    spine: Triple = (0.0, 0.0, 0.0)
    head: Triple = (0.0, 0.0, 0.0)
    shift: float = 0.0  # pelvis to the left of the feet's middle, fraction of the leg


def frame(first: Vector, second: Vector) -> Matrix:
    """Orthonormal columns (x along `first`, y towards `second`, z by the right-hand rule)."""
    x = unit(first)
    y = unit(second - x * float((second * x).sum()))
    return np.stack([x, y, np.cross(x, y)], axis=1)


def turn_between(rest: tuple[Vector, Vector], target: tuple[Vector, Vector]) -> Matrix:
    """The rotation that takes one pair of directions to another."""
    return np.asarray((frame(*target)[:, None, :] * frame(*rest)[None, :, :]).sum(2))


def resolve(stance: Stance, shape: Shape, model: BodyModel) -> Pose:
    """Joint rotations of `stance` for this skeleton, within the limits of its joints."""
    head = {name: shape.heads[i] for i, name in enumerate(model.bones)}
    joints = anatomy(shape, model)
    turns: dict[str, Matrix] = {"root": _euler(stance.pelvis)}
    for name, share in (("spine04", 0.3), ("spine03", 0.25), ("spine02", 0.25), ("spine01", 0.2)):
        turns[name] = _euler(_part(stance.spine, share))
    for name, share in (("neck01", 0.2), ("neck02", 0.25), ("neck03", 0.2), ("head", 0.35)):
        turns[name] = _euler(_part(stance.head, share))
    for side, leg in (("L", stance.left_leg), ("R", stance.right_leg)):
        if isinstance(leg, Leg):
            turns |= _standing_leg(side, leg, stance, head, turns["root"])
        else:
            turns |= _bent_leg(side, leg, joints)
    for side, arm in (("L", stance.left), ("R", stance.right)):
        sign = 1.0 if side == "L" else -1.0
        turns[f"clavicle.{side}"] = rotation(np.array([0.0, -sign * arm.shrug, 0.0]))
    trunk = pose_skeleton(shape, clamp_pose(_vectors(turns), joints), model)
    for side, arm in (("L", stance.left), ("R", stance.right)):
        if isinstance(arm, Arm):
            turns |= _arm(side, arm, head, turns[f"clavicle.{side}"])
        else:
            turns |= _reach(side, arm, shape, trunk, head, model)
        turns |= hand_turns(arm.hand, side, joints)
    return clamp_pose(_vectors(turns), joints)


def _vectors(turns: Mapping[str, Matrix]) -> Pose:
    pose = {name: rounded_vector(matrix) for name, matrix in sorted(turns.items())}
    return {name: value for name, value in pose.items() if value != (0.0, 0.0, 0.0)}


def _part(angles: Triple, share: float) -> Triple:
    return (angles[0] * share, angles[1] * share, angles[2] * share)


def _euler(angles: Triple) -> Matrix:
    """(forward, left, turn) in degrees: about +x, +y and +z in the rest axes of a person facing -y."""
    forward, left, turn = angles
    bend = rotation(np.array([forward, 0.0, 0.0]))
    lean = rotation(np.array([0.0, left, 0.0]))
    yaw = rotation(np.array([0.0, 0.0, turn]))
    return product(yaw, product(lean, bend))


def _side(vector: Triple, side: str) -> Vector:
    return np.asarray(np.array(vector) * (np.ones(3) if side == "L" else MIRROR))


def _arm(side: str, arm: Arm, head: Mapping[str, Vector], clavicle: Matrix) -> dict[str, Matrix]:
    sign = 1.0 if side == "L" else -1.0
    shoulder, elbow, wrist = (head[f"{n}.{side}"] for n in ("upperarm01", "lowerarm01", "wrist"))
    rest_upper, rest_fore = unit(elbow - shoulder), unit(wrist - elbow)
    aim = turn_between((rest_upper, rest_fore), (_side(arm.upper, side), _side(arm.bend, side)))
    hinge = unit(np.cross(rest_upper, rest_fore))
    at_rest = np.degrees(np.arccos(np.clip((rest_upper * rest_fore).sum(), -1, 1)))
    flex = float(np.clip(arm.flexion, *LIMITS["lowerarm01"][0]))
    bend = np.cross(rest_fore, _hand_axes(side, head)[1])
    return {
        f"upperarm01.{side}": product(clavicle.T, aim),
        f"lowerarm01.{side}": rotation(hinge * (flex - at_rest)),
        f"lowerarm02.{side}": rotation(rest_fore * sign * arm.twist * 0.6),
        f"wrist.{side}": product(
            rotation(rest_fore * sign * arm.twist * 0.4), rotation(unit(bend) * arm.wrist)
        ),
    }


def _hand_axes(side: str, head: Mapping[str, Vector]) -> tuple[Vector, Vector]:
    """At rest: towards the fingers, and out of the palm."""
    flip = np.ones(3) if side == "L" else MIRROR
    fingers, palm, _ = hand_axes({n[:-2]: at * flip for n, at in head.items() if n.endswith(f".{side}")})
    return fingers * flip, palm * flip


def _place(side: str, reach: Reach, shape: Shape, trunk: Skeleton, model: BodyModel) -> tuple[Vector, Matrix]:
    """Where the touched skin is in the world, and the rotation of the bone under it."""
    body = np.unique(model.quads["body"])
    offset = model.template[body] - _side(reach.place, side)
    index = body[np.argmin((offset * offset).sum(1))][None]
    at = skin(shape.vertices[index], model.weights[index], model.weight_bones[index], trunk)[0]
    return at, trunk.rotations[model.weight_bones[index[0], 0]]


def _reach(
    side: str, reach: Reach, shape: Shape, trunk: Skeleton, head: Mapping[str, Vector], model: BodyModel
) -> dict[str, Matrix]:
    """Two-bone inverse kinematics from the shoulder to the wrist of a hand that lies on its place."""
    shoulder0, elbow0, wrist0, knuckle0 = (
        head[f"{n}.{side}"] for n in ("upperarm01", "lowerarm01", "wrist", "finger3-1")
    )
    at, under = _place(side, reach, shape, trunk, model)
    fingers, palm = ((under * _side(v, side)).sum(1) for v in (reach.fingers, reach.palm))
    rest_fingers, rest_palm = _hand_axes(side, head)
    hand = turn_between((rest_fingers, rest_palm), (fingers, palm))
    touching = (knuckle0 - wrist0) * reach.along + rest_palm * 0.022
    goal = at - unit(palm) * reach.gap - (hand * touching).sum(1)
    shoulder = trunk.heads[model.bones.index(f"upperarm01.{side}")]
    chest = trunk.rotations[model.bones.index("spine01")]
    upper, fore = _two_bones(
        goal - shoulder,
        _length(elbow0 - shoulder0),
        _length(wrist0 - elbow0),
        chest @ _side(reach.elbow, side),
    )
    parent = trunk.rotations[model.bones.index(f"shoulder01.{side}")]
    rest_upper, rest_fore = unit(elbow0 - shoulder0), unit(wrist0 - elbow0)
    aim = turn_between((rest_upper, rest_fore), (upper, fore))
    angle, at_rest = (
        float(np.degrees(np.arccos(np.clip((a * b).sum(), -1, 1))))
        for a, b in ((upper, fore), (rest_upper, rest_fore))
    )
    elbow = rotation(unit(np.cross(rest_upper, rest_fore)) * (angle - at_rest))
    rest_of_hand = product(product(aim, elbow).T, hand)
    twist = swing_twist(rest_of_hand, rest_fore)[1]
    forearm = rotation(rest_fore * float(np.clip(0.65 * twist, -80, 80)))
    return {
        f"upperarm01.{side}": product(parent.T, aim),
        f"lowerarm01.{side}": elbow,
        f"lowerarm02.{side}": forearm,
        f"wrist.{side}": product(forearm.T, rest_of_hand),
    }


def _length(vector: Vector) -> float:
    return float(np.sqrt((vector * vector).sum()))


def _two_bones(reach: Vector, first: float, second: float, towards: Vector) -> tuple[Vector, Vector]:
    """Unit directions of two bones whose chain spans `reach` (cut to what they can), the joint between them
    lying `towards`.
    """
    folded = np.radians(180.0 - LIMITS["lowerarm01"][0][1])
    shortest = float(np.sqrt(first**2 + second**2 - 2 * first * second * np.cos(folded)))
    distance = float(np.clip(_length(reach), shortest, 0.998 * (first + second)))
    cosine = (first**2 + distance**2 - second**2) / (2 * first * distance)
    upper = _towards(unit(reach), towards, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    return upper, unit(unit(reach) * distance - upper * first)


def _bent_leg(side: str, leg: Bent, joints: Mapping[str, Joint]) -> dict[str, Matrix]:
    angles = {"upperleg01": leg.hip, "lowerleg01": (leg.knee, 0.0, 0.0), "foot": (leg.ankle, 0.0, 0.0)}
    angles |= {f"toe{toe}-1": (leg.toes, 0.0, 0.0) for toe in range(1, 6)}
    return {f"{n}.{side}": turn_of(np.array(a), joints[f"{n}.{side}"]) for n, a in angles.items()}


def _standing_leg(
    side: str, leg: Leg, stance: Stance, head: Mapping[str, Vector], root: Matrix
) -> dict[str, Matrix]:
    sign = 1.0 if side == "L" else -1.0
    hip0, knee0, ankle0, toe0 = (head[f"{n}.{side}"] for n in ("upperleg01", "lowerleg01", "foot", "toe2-1"))
    thigh, shin = _length(knee0 - hip0), _length(ankle0 - knee0)
    length = thigh + shin
    hip = (root * (hip0 - head["root"])).sum(1) + head["root"]
    middle = (hip0 + head["upperleg01.R" if side == "L" else "upperleg01.L"]) / 2
    base = np.array([0.0, middle[1], middle[2] - length * (0.992 - stance.crouch)])
    lifted = leg.lift + 0.15 * np.sin(np.radians(leg.heel))
    place = np.array([sign * leg.out - stance.shift, -leg.forward, lifted]) * length
    reach = base + place - hip
    distance = min(_length(reach), 0.9985 * length)
    yaw = rotation(np.array([0.0, 0.0, sign * leg.yaw]))
    front, lateral = (yaw * np.array([0.0, -1.0, 0.0])).sum(1), (yaw * np.array([1.0, 0.0, 0.0])).sum(1)
    cosine = (thigh**2 + distance**2 - shin**2) / (2 * thigh * distance)
    upper = _towards(unit(reach), front, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    lower = unit(unit(reach) * distance - upper * thigh)
    rest_front = unit((toe0 - ankle0) * np.array([1.0, 1.0, 0.0]))
    up = np.array([0.0, 0.0, 1.0])
    rest_lateral = np.cross(up, rest_front)
    hip_turn = turn_between((unit(knee0 - hip0), rest_lateral), (upper, lateral))
    knee_turn = turn_between((unit(ankle0 - knee0), rest_lateral), (lower, lateral))
    foot_turn = product(rotation(lateral * leg.heel), turn_between((rest_front, up), (front, up)))
    turns = {
        f"upperleg01.{side}": product(root.T, hip_turn),
        f"lowerleg01.{side}": product(hip_turn.T, knee_turn),
        f"foot.{side}": product(knee_turn.T, foot_turn),
    }
    for toe in range(1, 6):
        turns[f"toe{toe}-1.{side}"] = rotation(rest_lateral * -0.8 * leg.heel)
    return turns


def _towards(direction: Vector, goal: Vector, degrees: float) -> Vector:
    """`direction` turned towards `goal` by an angle."""
    side = unit(goal - direction * float((goal * direction).sum()))
    return np.asarray(direction * np.cos(np.radians(degrees)) + side * np.sin(np.radians(degrees)))
