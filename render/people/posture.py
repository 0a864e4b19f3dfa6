"""What pose a sampled person is in: stances and recorded poses drawn until one is possible."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from render.people.body import BodyModel, Shape, Skeleton, body_model, pose_skeleton, shape_body
from render.people.limits import Pose
from render.people.plausibility import SWAY, check_pose, gaps, posed_sample
from render.people.pose import Arm, Reach, Stance, resolve
from render.people.stances import DYNAMIC, FALLBACK_STANCE, sample_stance

ATTEMPTS = 30
CLEAR = 0.018  # metres of air between free arms and the trunk and legs, for sleeves and trousers
_WIDENINGS = 3  # of the arms, before a stance is given up


def _ignore(reason: str) -> None:
    """What becomes of the reasons of a caller that asks for none."""


def sample_posture(
    rng: np.random.Generator,
    phenotype: Mapping[str, float],
    poses: Mapping[str, Pose] | None = None,
    share: float = 0.0,
    note: Callable[[str], None] = _ignore,
) -> tuple[str, Pose]:
    """Name and joint rotations of a pose that `check_pose` finds possible for this body.

    A share of the draws takes one of `poses` (from `bvh.read_pose`), the others a stance of
    `stances.FAMILIES` whose free arms are spread until they clear the body. `note` is called with the reason
    of every rejected draw. After 30 of those it is a quiet stance with the arms held well away.
    """
    model = body_model()
    shape = shape_body(phenotype, {}, model)
    names = sorted(poses or {})
    for _ in range(ATTEMPTS):
        if poses and rng.random() < share:
            name = names[int(rng.integers(len(names)))]
            pose, reason = poses[name], check_recorded(name, poses[name], shape, model)
        else:
            stance = _spread_arms(sample_stance(rng), _room(phenotype))
            name = stance.name
            pose, reason = _fitted(stance, shape, model)
        if reason is None:
            return name, pose
        note(reason)
    return FALLBACK_STANCE.name, resolve(FALLBACK_STANCE, shape, model)


def check_recorded(name: str, pose: Pose, shape: Shape, model: BodyModel) -> str | None:
    """Why a recorded pose does not suit a body, or None. Names that start like a family in motion are given
    its room for balance (`run01`: running).
    """
    moving = [sway for family, sway in DYNAMIC.items() if name[:3].lower() == family[:3]]
    return check_pose(shape, pose_skeleton(shape, pose, model), model, max(moving, default=SWAY))


def _fitted(stance: Stance, shape: Shape, model: BodyModel) -> tuple[Pose, str | None]:
    """The pose of a stance, its free arms spread as far as needed, and what is wrong with it."""
    pose: Pose = {}
    reason: str | None = None
    for _ in range(1 + _WIDENINGS):
        pose = resolve(stance, shape, model)
        skeleton = pose_skeleton(shape, pose, model)
        reason = check_pose(shape, skeleton, model, DYNAMIC.get(stance.name, SWAY))
        if reason is None and not _arm_too_close(stance, shape, skeleton, model):
            return pose, None
        if reason is not None and "penetration" not in reason:
            return pose, reason
        stance = _spread_arms(stance, 0.09, 0.015)
    return pose, reason or "pose:arm_too_close"


def _arm_too_close(stance: Stance, shape: Shape, skeleton: Skeleton, model: BodyModel) -> bool:
    """Whether a free arm leaves no room for clothes beside trunk or legs."""
    free = {side for side, arm in (("L", stance.left), ("R", stance.right)) if _hangs(arm)}
    around = ("Torso", "Upper_Leg.L", "Upper_Leg.R")
    return any(
        gap < CLEAR and probe[-1] in free and target in around
        for (probe, target), gap in gaps(posed_sample(shape, skeleton, model), skeleton, model).items()
        if probe.startswith(("Hand", "Lower_Arm"))
    )


def _hangs(arm: Arm | Reach) -> bool:
    return isinstance(arm, Arm) and arm.upper[2] < -0.75


def _room(phenotype: Mapping[str, float]) -> float:
    """How much further hanging arms stand off heavier bodies."""
    return max(0.0, phenotype.get("weight", 0.5) - 0.45) * 0.45 + 0.04


def _spread_arms(stance: Stance, extra: float, lift: float = 0.0) -> Stance:
    """Hanging arms moved outwards, hands that touch lifted off by `lift` metres."""

    def wider(arm: Arm | Reach) -> Arm | Reach:
        if isinstance(arm, Reach):
            return replace(arm, gap=arm.gap + (lift if arm.gap > 0 else -lift))
        if not _hangs(arm):
            return arm
        x, y, z = arm.upper
        return replace(arm, upper=(x + extra, y, z))

    return replace(stance, left=wider(stance.left), right=wider(stance.right))
