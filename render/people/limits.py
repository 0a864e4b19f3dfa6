"""Joint angles and their limits: a rotation of a joint as (flexion, sideways, twist) degrees, and back.

Normal ranges of motion are those of the AAOS (Joint Motion, 1965; Norkin & White, Measurement of Joint
Motion, 5th ed., table A.1): shoulder flexion 180, extension 60, abduction 180, medial/lateral rotation 70/90;
elbow 150; pronation/supination 80/80; wrist flexion/extension 80/70, radial/ulnar 20/30; hip flexion 120,
extension 30, abduction 45, adduction 30, rotation 45/45; knee 135; ankle 20/50, inversion/eversion 35/15;
cervical spine 45/45, 45, 60; thoracolumbar spine 80/25, 35, 45; fingers 90/45, 100, 90; thumb 20..50, 50, 80.
Deep squats and kneeling take the knee to about 155 and the loaded ankle to about 35 (Hemmerich et al., J.
Orthop. Res. 24, 2006). Where linear blend skinning tears before the joint does, the table is tighter.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, Shape, product, rotation, rotation_vector
from render.people.mesh import unit

Vector = Float64[np.ndarray, " 3"]
Matrix = Float64[np.ndarray, "3 3"]
Pose = dict[str, tuple[float, float, float]]
Range = tuple[float, float]
SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")
NECK = ("neck01", "neck02", "neck03", "head")
FINGERS = (2, 3, 4, 5)
MIRROR = np.array([-1.0, 1.0, 1.0])
LATERAL, FRONT, UP = np.eye(3) * np.array([1.0, -1.0, 1.0])
"""The person's left, ahead and up, in rest axes."""

LIMITS: dict[str, tuple[Range, Range, Range]] = {
    "clavicle": ((-20.0, 20.0), (-10.0, 35.0), (-20.0, 20.0)),
    "shoulder01": ((-20.0, 20.0), (-15.0, 30.0), (-20.0, 20.0)),
    "upperarm01": ((-60.0, 170.0), (-45.0, 170.0), (-95.0, 95.0)),
    "lowerarm01": ((0.0, 145.0), (-12.0, 12.0), (-30.0, 30.0)),
    "lowerarm02": ((-15.0, 15.0), (-15.0, 15.0), (-80.0, 80.0)),
    "wrist": ((-70.0, 80.0), (-30.0, 20.0), (-40.0, 40.0)),
    "finger-1": ((-30.0, 90.0), (-20.0, 20.0), (-10.0, 10.0)),
    "finger-2": ((-12.0, 100.0), (-15.0, 15.0), (-10.0, 10.0)),
    "finger-3": ((-10.0, 80.0), (-15.0, 15.0), (-10.0, 10.0)),
    "thumb-1": ((-25.0, 45.0), (-35.0, 45.0), (-40.0, 40.0)),
    "thumb-2": ((-20.0, 60.0), (-30.0, 15.0), (-20.0, 20.0)),
    "thumb-3": ((-35.0, 80.0), (-8.0, 8.0), (-10.0, 10.0)),
    "upperleg01": ((-30.0, 125.0), (-30.0, 50.0), (-45.0, 95.0)),
    "lowerleg01": ((-3.0, 150.0), (-8.0, 8.0), (-25.0, 25.0)),
    "foot": ((-50.0, 35.0), (-25.0, 25.0), (-35.0, 35.0)),
    "toe-1": ((-40.0, 65.0), (-15.0, 15.0), (-10.0, 10.0)),
    "spine": ((-25.0, 80.0), (-35.0, 35.0), (-45.0, 45.0)),
    "neck": ((-45.0, 45.0), (-45.0, 45.0), (-65.0, 65.0)),
}
"""Joint -> ranges of (flexion, sideways, twist), degrees from the anatomical zero position.

Flexion is positive as anatomy counts it (dorsiflexion for foot and toes); sideways positive is abduction,
radial deviation, elevation of the collar bone, leaning left; twist positive is lateral rotation, turning
left. `spine` and `neck` hold for the sum over their joints.
"""

OTHER = 60.0  # degrees, any rotation of a joint without ranges of its own (upperarm02, metacarpals, ...)
TOLERANCE = 3.0  # degrees beyond a limit that are nobody's concern


@dataclass(frozen=True)
class Joint:
    """How a joint's rotation is read. zero: turns the rest bone into the anatomical zero position. axes: rows
    are the axes of flexion, sideways and twist in rest axes; twist is along the bone at zero.
    """

    kind: str
    zero: Matrix
    axes: Matrix


def anatomy(shape: Shape, model: BodyModel) -> dict[str, Joint]:
    """The joints of one person's rest skeleton."""
    heads = {name: shape.heads[i] for i, name in enumerate(model.bones)}
    joints = {f"{name}.L": joint for name, joint in _side_joints(heads, "L", np.ones(3)).items()}
    for name, joint in _side_joints(heads, "R", MIRROR).items():
        flip = np.diag(MIRROR)
        joints[f"{name}.R"] = Joint(joint.kind, flip @ joint.zero @ flip, joint.axes * -MIRROR)
    return joints


def angles_of(turn: Matrix, joint: Joint) -> Vector:
    """(flexion, sideways, twist) degrees of a joint's rotation: swing away from the zero position after a
    twist about the bone.
    """
    swing, twist = swing_twist(product(turn, joint.zero.T), joint.axes[2])
    angles = (joint.axes * swing).sum(1)
    angles[2] = twist
    return np.asarray(angles)


def turn_of(angles: Vector, joint: Joint) -> Matrix:
    """The inverse of `angles_of`; a swing of more than 175 degrees is cut there."""
    flat = np.array([angles[0], angles[1], 0.0])
    size = float(np.sqrt((flat * flat).sum()))
    flat *= min(1.0, 175.0 / max(size, 1e-9))
    swing = rotation((flat[:, None] * joint.axes).sum(0))
    return product(product(swing, rotation(joint.axes[2] * angles[2])), joint.zero)


def clamp_pose(pose: Mapping[str, tuple[float, float, float]], joints: Mapping[str, Joint]) -> Pose:
    """`pose` with every joint within `LIMITS`; joints already within are returned as they are."""
    clamped: Pose = {}
    for name, vector in pose.items():
        turn = rotation(np.array(vector))
        if name in joints:
            angles = angles_of(turn, joints[name])
            low, high = np.array(LIMITS[joints[name].kind]).T
            cut = np.clip(angles, low, high)
            clamped[name] = vector if (cut == angles).all() else rounded_vector(turn_of(cut, joints[name]))
        else:
            clamped[name] = vector if name in (*SPINE, *NECK, "root") else _shorter(vector, OTHER)
    for chain, kind in ((SPINE, "spine"), (NECK, "neck")):
        while (share := _chain_share(clamped, chain, kind)) < 0.999:
            clamped |= {n: _scaled(clamped[n], share) for n in chain if n in clamped}
    return clamped


def beyond_limits(
    pose: Mapping[str, tuple[float, float, float]], joints: Mapping[str, Joint], tolerance: float = TOLERANCE
) -> str | None:
    """The joint whose rotation is furthest beyond its limits, by more than `tolerance` degrees; else None."""
    clamped = clamp_pose(pose, joints)
    worst, name = tolerance, None
    for joint, vector in sorted(pose.items()):
        if clamped[joint] != vector:
            between = product(rotation(np.array(vector)).T, rotation(np.array(clamped[joint])))
            angle = float(np.degrees(np.arccos(np.clip((np.trace(between) - 1) / 2, -1, 1))))
            worst, name = (angle, joint) if angle > worst else (worst, name)
    return name


def rounded_vector(turn: Matrix) -> tuple[float, float, float]:
    """A rotation as a spec writes it: rotation vector, degrees, thousandths."""
    x, y, z = (round(float(v), 3) + 0.0 for v in rotation_vector(turn))
    return (x, y, z)


def _side_joints(heads: Mapping[str, Vector], side: str, flip: Vector) -> dict[str, Joint]:
    """Joints of one side, seen as if it were the left."""
    at = {name[:-2]: head * flip for name, head in heads.items() if name.endswith(f".{side}")}
    limb = np.stack([-LATERAL, FRONT, UP])  # a hanging limb: forwards, outwards, outward rotation
    arm, fore = at["lowerarm01"] - at["upperarm01"], at["wrist"] - at["lowerarm01"]
    thigh, shin = at["lowerleg01"] - at["upperleg01"], at["foot"] - at["lowerleg01"]
    collar = np.stack([-UP, FRONT, LATERAL])
    joints = {
        "clavicle": Joint("clavicle", np.eye(3), collar),
        "shoulder01": Joint("shoulder01", np.eye(3), collar),
        "upperarm01": Joint("upperarm01", align(arm, -UP), limb),
        "lowerarm01": Joint("lowerarm01", align(fore, arm), _axes(arm, np.cross(arm, fore))),
        "lowerarm02": Joint("lowerarm02", np.eye(3), _axes(fore, np.cross(arm, fore))),
        "upperleg01": Joint("upperleg01", align(thigh, -UP), limb),
        "lowerleg01": Joint("lowerleg01", align(shin, thigh), _axes(thigh, LATERAL)),
        "foot": Joint("foot", np.eye(3), np.stack([-LATERAL, UP, FRONT])),
    }
    for toe in range(1, 6):
        joints[f"toe{toe}-1"] = Joint("toe-1", np.eye(3), np.stack([-LATERAL, UP, FRONT]))
    return joints | _hand_joints(at, fore)


def _hand_joints(at: Mapping[str, Vector], fore: Vector) -> dict[str, Joint]:
    palm, across = hand_axes(at)[1:]
    hand = at["finger3-1"] - at["wrist"]
    joints = {"wrist": Joint("wrist", align(hand, fore), _axes(fore, np.cross(fore, palm)))}
    for finger in FINGERS:
        base, middle, last = (at[f"finger{finger}-{i}"] for i in (1, 2, 3))
        bones = (base - at[f"metacarpal{finger - 1}"], middle - base, last - middle, last - middle)
        for i in (1, 2, 3):
            bend = np.cross(bones[i - 1], palm)
            turn = align(bones[i], bones[i - 1])
            joints[f"finger{finger}-{i}"] = Joint(f"finger-{i}", turn, _axes(bones[i - 1], bend))
    first, second, third = (at[f"finger1-{i}"] for i in (1, 2, 3))
    inwards = unit(across + 0.35 * palm)
    thumb = (second - first, second - first, third - second, third - second)
    for i in (1, 2, 3):
        bend = np.cross(thumb[i - 1], inwards)
        joints[f"finger1-{i}"] = Joint(f"thumb-{i}", align(thumb[i], thumb[i - 1]), _axes(thumb[i - 1], bend))
    return joints


def hand_axes(at: Mapping[str, Vector]) -> tuple[Vector, Vector, Vector]:
    """(towards the fingers, out of the palm, towards the little finger) of a left hand; `at`: bone heads
    without the side's letter.
    """
    fingers = unit(at["finger3-1"] - at["wrist"])
    across = at["finger5-1"] - at["finger2-1"]
    across = unit(across - fingers * float((across * fingers).sum()))
    return fingers, np.cross(across, fingers), across


def _axes(along: Vector, bend: Vector) -> Matrix:
    """Rows (bend, third, along), orthonormal; a positive turn about `third` moves the bone against `bend`."""
    along = unit(along)
    bend = unit(bend - along * float((bend * along).sum()))
    return np.stack([bend, np.cross(bend, along), along])


def align(source: Vector, goal: Vector) -> Matrix:
    """The smallest rotation that takes one direction to another."""
    a, b = unit(source), unit(goal)
    axis = np.cross(a, b)
    sine, cosine = float(np.sqrt((axis * axis).sum())), float((a * b).sum())
    return rotation(unit(axis) * np.degrees(np.arctan2(sine, cosine))) if sine > 1e-9 else np.eye(3)


def swing_twist(turn: Matrix, axis: Vector) -> tuple[Vector, float]:
    """Rotation vector of the swing and angle of the twist about `axis`, degrees: turn = swing * twist."""
    vector = rotation_vector(turn)
    half = np.radians(float(np.sqrt((vector * vector).sum()))) / 2
    part = float((unit(vector) * axis).sum()) * np.sin(half)
    twist = float(np.degrees(2 * np.arctan2(part, np.cos(half))))
    twist = (twist + 180.0) % 360.0 - 180.0
    return rotation_vector(product(turn, rotation(axis * -twist))), twist


def _chain_share(pose: Pose, chain: tuple[str, ...], kind: str) -> float:
    """Factor <= 1 for the rotations of a chain that brings their product within its limits."""
    total = np.eye(3)
    for name in chain:
        total = product(total, rotation(np.array(pose.get(name, (0.0, 0.0, 0.0)))))
    axes = np.stack([LATERAL, -FRONT, UP])
    angles = angles_of(total, Joint(kind, np.eye(3), axes))
    ends = [high if a > 0 else low for a, (low, high) in zip(angles, LIMITS[kind], strict=True)]
    return min(1.0, *(float(end / a) for a, end in zip(angles, ends, strict=True) if abs(a) > 1e-6), 1.0)


def _scaled(vector: tuple[float, float, float], share: float) -> tuple[float, float, float]:
    x, y, z = (round(v * share, 3) + 0.0 for v in vector)
    return (x, y, z)


def _shorter(vector: tuple[float, float, float], most: float) -> tuple[float, float, float]:
    size = float(np.sqrt(sum(v * v for v in vector)))
    return vector if size <= most else _scaled(vector, most / size)
