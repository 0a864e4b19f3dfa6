"""Standing poses: arms by direction and bend, legs by two-bone inverse kinematics, everything stored as
joint rotations.

A pose is `joint -> rotation vector (degrees, rest axes)`. The recipes below speak anatomy (which way the
upper arm
points, how far the elbow bends, where the feet stand) and are turned into rotations for one person's
skeleton.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, Shape, product, rotation, rotation_vector
from render.people.mesh import unit

Vector = Float64[np.ndarray, " 3"]
Pose = dict[str, tuple[float, float, float]]
LIMITS = {"elbow": (4.0, 140.0), "abduction": (4.0, 170.0)}


@dataclass(frozen=True)
class Arm:
    """One arm in the torso's axes, written for the left side (x is mirrored for the right)."""

    upper: tuple[float, float, float]  # direction of the upper arm
    bend: tuple[float, float, float]  # direction towards which the elbow bends the forearm
    flexion: float  # degrees between upper arm and forearm; 0 is straight
    twist: float = 0.0  # of the forearm about its axis, degrees, positive turns the thumb outwards
    wrist: float = 0.0  # flexion of the hand, degrees
    shrug: float = 0.0  # raising of the collar bone, degrees
    curl: float = 25.0  # of the fingers, degrees per joint
    spread: float = 0.0


@dataclass(frozen=True)
class Leg:
    """Where a foot stands relative to the middle of the pelvis: metres for a 1 m leg, angles in degrees."""

    out: float
    forward: float
    lift: float = 0.0  # height of the ankle above its standing height
    heel: float = 0.0  # degrees the heel is raised with the toes on the ground
    yaw: float = 8.0  # toes outwards


@dataclass(frozen=True)
class Stance:
    """A whole pose before it meets a skeleton. Torso angles in degrees: (bend forward, lean left, turn
    left).
    """

    name: str
    left: Arm
    right: Arm
    left_leg: Leg
    right_leg: Leg
    crouch: float = 0.005  # pelvis below full leg length, fraction of the leg
    pelvis: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spine: tuple[float, float, float] = (0.0, 0.0, 0.0)
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: float = 0.0  # pelvis to the left of the feet's middle, fraction of the leg
    extra: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


def frame(first: Vector, second: Vector) -> Float64[np.ndarray, "3 3"]:
    """Orthonormal columns (x along `first`, y towards `second`, z by the right-hand rule)."""
    x = unit(first)
    y = unit(second - x * float((second * x).sum()))
    return np.stack([x, y, np.cross(x, y)], axis=1)


def turn_between(rest: tuple[Vector, Vector], target: tuple[Vector, Vector]) -> Float64[np.ndarray, "3 3"]:
    """The rotation that takes one pair of directions to another."""
    return np.asarray((frame(*target)[:, None, :] * frame(*rest)[None, :, :]).sum(2))


def resolve(stance: Stance, shape: Shape, model: BodyModel) -> Pose:
    """Joint rotations of `stance` for this skeleton."""
    head = {name: shape.heads[i] for i, name in enumerate(model.bones)}
    turns: dict[str, np.ndarray] = {"root": _euler(stance.pelvis)}
    for name, share in (("spine04", 0.3), ("spine03", 0.25), ("spine02", 0.25), ("spine01", 0.2)):
        turns[name] = _euler(tuple(share * a for a in stance.spine))
    for name, share in (("neck01", 0.2), ("neck02", 0.25), ("neck03", 0.2), ("head", 0.35)):
        turns[name] = _euler(tuple(share * a for a in stance.head))
    for side, arm in (("L", stance.left), ("R", stance.right)):
        turns |= _arm(side, arm, head)
    for side, leg in (("L", stance.left_leg), ("R", stance.right_leg)):
        turns |= _leg(side, leg, stance, head, turns["root"])
    pose = {name: _rounded(rotation_vector(matrix)) for name, matrix in sorted(turns.items())}
    return {name: value for name, value in pose.items() if value != (0.0, 0.0, 0.0)} | dict(stance.extra)


def _rounded(vector: Vector) -> tuple[float, float, float]:
    x, y, z = (round(float(v), 3) + 0.0 for v in vector)
    return (x, y, z)


def _euler(angles: tuple[float, ...]) -> Float64[np.ndarray, "3 3"]:
    """(forward, left, turn) in degrees: about +x, -y... in the rest axes of a person facing -y."""
    forward, left, turn = angles
    bend = rotation(np.array([forward, 0.0, 0.0]))
    lean = rotation(np.array([0.0, left, 0.0]))
    yaw = rotation(np.array([0.0, 0.0, turn]))
    return product(yaw, product(lean, bend))


def _side(vector: tuple[float, float, float], side: str) -> Vector:
    return np.asarray(np.array(vector) * np.array([1.0 if side == "L" else -1.0, 1.0, 1.0]))


def _arm(side: str, arm: Arm, head: Mapping[str, Vector]) -> dict[str, np.ndarray]:
    sign = 1.0 if side == "L" else -1.0
    shoulder, elbow, wrist = (head[f"{n}.{side}"] for n in ("upperarm01", "lowerarm01", "wrist"))
    rest_upper, rest_fore = unit(elbow - shoulder), unit(wrist - elbow)
    clavicle = rotation(np.array([0.0, -sign * arm.shrug, 0.0]))
    aim = turn_between((rest_upper, rest_fore), (_side(arm.upper, side), _side(arm.bend, side)))
    hinge = unit(np.cross(rest_upper, rest_fore))
    at_rest = np.degrees(np.arccos(np.clip((rest_upper * rest_fore).sum(), -1, 1)))
    flex = float(np.clip(arm.flexion, *LIMITS["elbow"]))
    turns = {
        f"clavicle.{side}": clavicle,
        f"upperarm01.{side}": clavicle.T @ aim,
        f"lowerarm01.{side}": rotation(hinge * (flex - at_rest)),
        f"lowerarm02.{side}": rotation(rest_fore * sign * arm.twist * 0.6),
    }
    knuckle = head[f"finger3-1.{side}"]
    across = unit(head[f"finger5-1.{side}"] - head[f"finger2-1.{side}"])
    palm_axis = unit(across - rest_fore * (across * rest_fore).sum())
    bend_axis = -sign * palm_axis if _curls(knuckle, wrist, palm_axis, sign) else sign * palm_axis
    turns[f"wrist.{side}"] = rotation(rest_fore * sign * arm.twist * 0.4) @ rotation(bend_axis * arm.wrist)
    return turns | _fingers(side, arm, head)


def _curls(knuckle: Vector, wrist: Vector, axis: Vector, sign: float) -> bool:
    """Whether turning about -sign*axis moves the knuckles towards the palm (down in the rest pose)."""
    return float(np.cross(-sign * axis, knuckle - wrist)[2]) < 0


def _fingers(side: str, arm: Arm, head: Mapping[str, Vector]) -> dict[str, np.ndarray]:
    sign = 1.0 if side == "L" else -1.0
    turns = {}
    for finger in range(2, 6):
        base, middle, last = (head[f"finger{finger}-{i}.{side}"] for i in (1, 2, 3))
        axis = unit(np.cross(middle - base, last - middle) + 1e-9)
        across = unit(head[f"finger5-1.{side}"] - head[f"finger2-1.{side}"])
        axis = axis if float((axis * across).sum()) * float((axis * across).sum()) > 0.2 else across
        for joint, share in ((1, 0.9 + 0.12 * (finger - 3)), (2, 1.0), (3, 0.6)):
            direction = (middle - base) if joint == 1 else (last - middle)
            towards = axis if float(np.cross(axis, direction)[2]) < 0 else -axis
            turns[f"finger{finger}-{joint}.{side}"] = rotation(towards * (arm.curl * share - 8.0))
    thumb = unit(head[f"finger1-2.{side}"] - head[f"finger1-1.{side}"])
    turns[f"finger1-2.{side}"] = rotation(np.cross(thumb, np.array([-sign, 0.0, -0.3])) * arm.curl * 0.3)
    return turns


def _leg(
    side: str, leg: Leg, stance: Stance, head: Mapping[str, Vector], root: Float64[np.ndarray, "3 3"]
) -> dict[str, np.ndarray]:
    sign = 1.0 if side == "L" else -1.0
    hip0, knee0, ankle0, toe0 = (head[f"{n}.{side}"] for n in ("upperleg01", "lowerleg01", "foot", "toe2-1"))
    thigh, shin = (float(np.sqrt((d * d).sum())) for d in (knee0 - hip0, ankle0 - knee0))
    length = thigh + shin
    hip = root @ (hip0 - head["root"]) + head["root"]
    middle = (hip0 + head["upperleg01.R" if side == "L" else "upperleg01.L"]) / 2
    base = np.array([0.0, middle[1], middle[2] - length * (0.992 - stance.crouch)])
    lifted = leg.lift + 0.15 * np.sin(np.radians(leg.heel))
    place = np.array([sign * leg.out - stance.shift, -leg.forward, lifted]) * length
    reach = base + place - hip
    distance = min(float(np.sqrt((reach * reach).sum())), 0.9985 * length)
    yaw = rotation(np.array([0.0, 0.0, sign * leg.yaw]))
    front, lateral = yaw @ np.array([0.0, -1.0, 0.0]), yaw @ np.array([1.0, 0.0, 0.0])
    cosine = (thigh**2 + distance**2 - shin**2) / (2 * thigh * distance)
    down = unit(reach)
    raise_ = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    upper = _towards(down, front, raise_)
    lower = unit(down * distance - upper * thigh)
    rest_front = unit((toe0 - ankle0) * np.array([1.0, 1.0, 0.0]))
    rest_lateral = np.cross(rest_front, np.array([0.0, 0.0, 1.0])) * -1.0
    rest_lateral = rest_lateral if rest_lateral[0] > 0 else -rest_lateral
    hip_turn = turn_between((unit(knee0 - hip0), rest_lateral), (upper, lateral))
    knee_turn = turn_between((unit(ankle0 - knee0), rest_lateral), (lower, lateral))
    foot_turn = turn_between((rest_front, np.array([0.0, 0.0, 1.0])), (front, np.array([0.0, 0.0, 1.0])))
    pitch = rotation(lateral * leg.heel)
    turns = {
        f"upperleg01.{side}": root.T @ hip_turn,
        f"lowerleg01.{side}": hip_turn.T @ knee_turn,
        f"foot.{side}": knee_turn.T @ (pitch @ foot_turn),
    }
    for toe in range(1, 6):
        turns[f"toe{toe}-1.{side}"] = rotation(rest_lateral * -0.8 * leg.heel)
    return turns


def _towards(direction: Vector, goal: Vector, degrees: float) -> Vector:
    """`direction` turned towards `goal` by an angle."""
    side = unit(goal - direction * float((goal * direction).sum()))
    return np.asarray(direction * np.cos(np.radians(degrees)) + side * np.sin(np.radians(degrees)))


def _hanging(rng: np.random.Generator, swing: float = 0.0) -> Arm:
    """A relaxed arm; swing > 0 brings it forward, degrees."""
    out = np.radians(rng.uniform(7, 15))
    forward = np.radians(swing + rng.uniform(-6, 4))
    upper = (float(np.sin(out)), float(-np.sin(forward) * np.cos(out)), float(-np.cos(forward) * np.cos(out)))
    return Arm(
        upper,
        (-0.25, -1.0, 0.0),
        rng.uniform(10, 26) + max(swing, 0) * 0.5,
        rng.uniform(-15, 15),
        rng.uniform(0, 12),
        curl=rng.uniform(16, 34),
    )


def _on_hip(rng: np.random.Generator) -> Arm:
    return Arm(
        (0.72, 0.30, -0.68),
        (-0.85, -0.55, -0.25),
        rng.uniform(92, 104),
        rng.uniform(-25, -5),
        rng.uniform(25, 45),
        curl=rng.uniform(20, 35),
    )


def _raised(rng: np.random.Generator) -> Arm:
    up = np.radians(rng.uniform(20, 65))
    return Arm(
        (float(np.cos(up)), rng.uniform(-0.35, -0.05), float(np.sin(up))),
        (-0.45, -0.35, 0.9),
        rng.uniform(15, 75),
        rng.uniform(-20, 40),
        rng.uniform(-15, 10),
        shrug=rng.uniform(14, 24),
        curl=rng.uniform(2, 20),
    )


def _forearm_front(rng: np.random.Generator) -> Arm:
    """The forearm held in front, as with a phone or a cup."""
    return Arm(
        (rng.uniform(0.15, 0.4), rng.uniform(-0.5, -0.1), -0.9),
        (rng.uniform(-0.5, 0.1), -0.8, 0.6),
        rng.uniform(70, 110),
        rng.uniform(10, 70),
        rng.uniform(-15, 15),
        curl=rng.uniform(25, 45),
    )


def _out_to_side(rng: np.random.Generator) -> Arm:
    """The arm held away, gesturing."""
    return Arm(
        (0.8, rng.uniform(-0.5, 0.1), -0.55),
        (0.3, -0.8, 0.5),
        rng.uniform(30, 80),
        rng.uniform(20, 90),
        rng.uniform(-20, 10),
        shrug=4.0,
        curl=rng.uniform(8, 25),
    )


def _head(rng: np.random.Generator) -> tuple[float, float, float]:
    return (float(rng.normal(2, 6)), float(rng.normal(0, 4)), float(np.clip(rng.normal(0, 16), -45, 45)))


def _standing(rng: np.random.Generator, name: str, left: Arm, right: Arm) -> Stance:
    out = rng.uniform(0.10, 0.19)
    stagger = rng.normal(0, 0.04)
    return Stance(
        name,
        left,
        right,
        Leg(out, stagger, yaw=rng.uniform(3, 18)),
        Leg(out, -stagger, yaw=rng.uniform(3, 18)),
        crouch=rng.uniform(0.004, 0.02),
        spine=(rng.normal(0, 3), rng.normal(0, 2), rng.normal(0, 5)),
        head=_head(rng),
    )


def _contrapposto(rng: np.random.Generator, name: str, left: Arm, right: Arm) -> Stance:
    """Weight on one leg: the pelvis tilts, the other knee relaxes, the shoulders tilt back."""
    lean = float(rng.choice([-1.0, 1.0]))
    tilt = rng.uniform(3, 6)
    free = Leg(rng.uniform(0.16, 0.22), rng.uniform(0.06, 0.16), yaw=rng.uniform(15, 30))
    firm = Leg(rng.uniform(0.08, 0.11), -0.02, yaw=rng.uniform(4, 12))
    return Stance(
        name,
        left,
        right,
        firm if lean > 0 else free,
        free if lean > 0 else firm,
        crouch=0.012,
        pelvis=(0.0, -lean * tilt, lean * rng.uniform(0, 6)),
        spine=(rng.normal(0, 2), lean * tilt * 1.7, rng.normal(0, 5)),
        head=_head(rng),
        shift=lean * 0.045,
    )


def _walking(rng: np.random.Generator) -> Stance:
    lead = float(rng.choice([-1.0, 1.0]))
    step = rng.uniform(0.16, 0.26)
    front = Leg(rng.uniform(0.07, 0.1), step, yaw=6.0)
    back = Leg(rng.uniform(0.07, 0.1), -step * 0.9, heel=rng.uniform(18, 34), yaw=6.0)
    swing = rng.uniform(12, 30)
    left, right = _hanging(rng, -lead * swing), _hanging(rng, lead * swing)
    return Stance(
        "walking",
        left,
        right,
        front if lead > 0 else back,
        back if lead > 0 else front,
        crouch=0.03,
        pelvis=(0.0, 0.0, -lead * rng.uniform(3, 8)),
        spine=(rng.uniform(1, 5), 0.0, lead * rng.uniform(6, 14)),
        head=(rng.normal(0, 4), 0.0, rng.normal(0, 12)),
    )


def _pair(rng: np.random.Generator, one: Callable[[np.random.Generator], Arm]) -> tuple[Arm, Arm]:
    """`one` on both sides or with a hanging arm on either."""
    choice = int(rng.integers(3))
    return (_hanging(rng) if choice == 1 else one(rng), _hanging(rng) if choice == 2 else one(rng))


GESTURES: dict[str, tuple[float, Callable[[np.random.Generator], Arm]]] = {
    "relaxed": (0.36, _hanging),
    "hands_on_hips": (0.14, _on_hip),
    "arms_raised": (0.12, _raised),
    "forearm_front": (0.2, _forearm_front),
    "gesturing": (0.18, _out_to_side),
}
"""Arm gesture -> (probability, sampler)."""


def sample_stance(rng: np.random.Generator) -> Stance:
    """A stance: 22 % walking, else standing evenly or with the weight on one leg, with an arm gesture of
    `GESTURES`.
    """
    if rng.random() < 0.22:
        return _walking(rng)
    names = list(GESTURES)
    name = names[int(rng.choice(len(names), p=[GESTURES[n][0] for n in names]))]
    left, right = _pair(rng, GESTURES[name][1])
    return (_contrapposto if rng.random() < 0.5 else _standing)(rng, name, left, right)
