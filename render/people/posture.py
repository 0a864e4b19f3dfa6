"""How a sampled person stands: stances drawn until one is possible."""

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Shape, Skeleton, body_model, pose_skeleton, shape_body, skin
from render.people.parts import region_weights
from render.people.pose import Arm, Pose, Stance, resolve, sample_stance
from shards.errors import VitruvianError

ATTEMPTS = 20


def sample_posture(rng: np.random.Generator, phenotype: dict[str, float]) -> tuple[str, Pose]:
    """Draws stances until one keeps hands and forearms off the body and the weight above the feet."""
    model = body_model()
    shape = shape_body(phenotype, {}, model)
    for _ in range(ATTEMPTS):
        stance = _spread_arms(sample_stance(rng), phenotype)
        pose = resolve(stance, shape, model)
        skeleton = pose_skeleton(shape, pose, model)
        touching = stance.name == "hands_on_hips"
        if _stands(skeleton.heads, model) and _arm_gap(shape, skeleton, model) > (
            -0.002 if touching else 0.02
        ):
            return stance.name, pose
    raise VitruvianError(
        f"no plausible pose in {ATTEMPTS} draws for phenotype {phenotype}; widen render/people/pose.py"
    )


def _spread_arms(stance: Stance, phenotype: dict[str, float]) -> Stance:
    """Hanging arms move outwards with body weight, so that they clear the hips."""
    from dataclasses import replace

    extra = max(0.0, phenotype["weight"] - 0.45) * 0.45 + 0.04

    def wider(arm: Arm) -> Arm:
        x, y, z = arm.upper
        return replace(arm, upper=(x + extra, y, z)) if z < -0.75 else arm

    return replace(stance, left=wider(stance.left), right=wider(stance.right))


def _stands(heads: Float64[np.ndarray, "b 3"], model: BodyModel) -> bool:
    """Whether the middle of the trunk is above the feet's support area, with 4 cm to spare."""
    at = {
        name: heads[model.bones.index(name)]
        for name in ("foot.L", "foot.R", "toe2-1.L", "toe2-1.R", "spine04", "spine01")
    }
    feet = np.array([at[n][:2] for n in ("foot.L", "foot.R", "toe2-1.L", "toe2-1.R")])
    centre = (at["spine04"][:2] + at["spine01"][:2]) / 2
    return bool((centre > feet.min(0) - 0.04).all() and (centre < feet.max(0) + 0.04).all())


def _arm_gap(shape: Shape, skeleton: Skeleton, model: BodyModel) -> float:
    """Smallest distance between forearms or hands and the trunk, thighs or head; negative when inside.
    Metres.
    """
    weights = region_weights()
    body = np.zeros(len(model.template), dtype=bool)
    body[np.unique(model.quads["body"])] = True
    arm = body & (sum(weights[f"{n}.{s}"] for n in ("Lower_Arm", "Hand") for s in "LR") > 0.9)
    rest = body & (
        weights["Torso"] + weights["Face_Neck"] + weights["Upper_Leg.L"] + weights["Upper_Leg.R"] > 0.95
    )
    rest &= ~((np.abs(model.template[:, 0]) > 0.15) & (model.template[:, 2] > 0.3))
    points = {}
    for name, mask in (("arm", arm), ("rest", rest)):
        index = np.flatnonzero(mask)[:: 3 if name == "arm" else 1]
        points[name] = skin(shape.vertices[index], model.weights[index], model.weight_bones[index], skeleton)
    distance, nearest = cKDTree(points["rest"]).query(points["arm"])
    centre = points["rest"][:, :2].mean(0)
    outward = points["rest"][nearest] - np.concatenate(
        [np.broadcast_to(centre, (len(nearest), 2)), points["rest"][nearest][:, 2:]], axis=1
    )
    inside = ((points["arm"] - points["rest"][nearest]) * outward).sum(1) < 0
    return float(np.where(inside & (distance < 0.08), -distance, distance).min())
