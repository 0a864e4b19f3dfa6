"""`sample_person`: draws a `PersonSpec` from documented distributions; rejects poses that do not stand or
that collide.
"""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from render.people.body import BodyModel, body_model, pose_skeleton, shape_body, skin
from render.people.parts import region_weights
from render.people.pose import Arm, Pose, Stance, resolve, sample_stance
from render.people.spec import EyeSpec, HairSpec, PersonSpec, SkinSpec, rounded
from render.people.wardrobe import sample_outfit
from shards.errors import VitruvianError

ATTEMPTS = 20
TONES = (
    (0.72, 0.47, 0.36),
    (0.62, 0.38, 0.27),
    (0.50, 0.29, 0.19),
    (0.36, 0.19, 0.115),
    (0.22, 0.11, 0.065),
    (0.11, 0.055, 0.034),
)
"""Linear reflectance of six skin tones, light to dark (after the Fitzpatrick types); draws interpolate
between two.
"""
TONE_WEIGHTS = (0.16, 0.22, 0.22, 0.16, 0.13, 0.11)
HAIR_COLOURS = {
    "black": (0.010, 0.008, 0.007),
    "dark_brown": (0.028, 0.016, 0.010),
    "brown": (0.07, 0.038, 0.02),
    "light_brown": (0.16, 0.09, 0.045),
    "blond": (0.38, 0.25, 0.12),
    "red": (0.22, 0.06, 0.022),
    "grey": (0.30, 0.29, 0.28),
}
IRISES = (
    (0.045, 0.02, 0.01),
    (0.09, 0.045, 0.02),
    (0.10, 0.12, 0.05),
    (0.08, 0.16, 0.26),
    (0.16, 0.20, 0.22),
)
EXPRESSIONS: dict[str, tuple[float, dict[str, float]]] = {
    "neutral": (0.40, {}),
    "smile": (0.30, {"mouthSmile": 0.75, "cheekSquint": 0.35, "eyeSquint": 0.2}),
    "open_smile": (0.10, {"mouthSmile": 0.8, "jawOpen": 0.22, "cheekSquint": 0.5, "mouthUpperUp": 0.3}),
    "talking": (0.10, {"jawOpen": 0.3, "mouthFunnel": 0.25}),
    "frown": (0.05, {"browDown": 0.6, "mouthFrown": 0.5}),
    "surprised": (0.05, {"browInnerUp": 0.8, "browOuterUp": 0.7, "jawOpen": 0.35, "eyeWide": 0.6}),
}
"""Name -> (probability, mean strength of facial actions; those without a side act on both)."""


def sample_person(rng: np.random.Generator) -> PersonSpec:
    """One person. Adults 86 %, children 8 % (from about 7 years), elders 6 %; the sexes equally often.

    Raises VitruvianError when no plausible pose was found in 20 draws (does not happen in practice).
    """
    phenotype = _phenotype(rng)
    face = _expression(rng)
    skin_spec, darkness = _skin(rng, phenotype)
    hair = _hair(rng, phenotype, darkness)
    eyes = _eyes(rng, darkness)
    garments = sample_outfit(rng, phenotype["gender"])
    name, pose = _plausible_pose(rng, phenotype)
    spec = PersonSpec(phenotype, name, pose, face, skin_spec, eyes, hair, garments)
    return PersonSpec.from_json(spec.to_json())


def _phenotype(rng: np.random.Generator) -> dict[str, float]:
    """anny phenotypes. age: 1/3 child of about 10, 2/3 adult of about 25, 1 old; weight and muscle centred
    on average.
    """
    group = rng.random()
    if group < 0.86:
        age = rng.uniform(0.63, 0.88)
    elif group < 0.94:
        age = rng.uniform(0.30, 0.50)
    else:
        age = rng.uniform(0.88, 0.98)
    female = rng.random() < 0.5
    race = rng.dirichlet((0.45, 0.45, 0.45))
    values = {
        "gender": rng.uniform(0.86, 1.0) if female else rng.uniform(0.0, 0.14),
        "age": age,
        "muscle": np.clip(rng.normal(0.48 if female else 0.58, 0.14), 0.15, 0.95),
        "weight": np.clip(rng.normal(0.5, 0.15), 0.14, 0.95),
        "height": np.clip(rng.normal(0.5, 0.17), 0.1, 0.95),
        "proportions": np.clip(rng.normal(0.32, 0.2), 0.0, 0.9),
        "cupsize": np.clip(rng.normal(0.45, 0.17), 0.05, 0.9),
        "firmness": rng.uniform(0.4, 0.9),
        "african": race[0],
        "asian": race[1],
        "caucasian": race[2],
    }
    return {name: rounded(float(value)) for name, value in values.items()}


def _expression(rng: np.random.Generator) -> dict[str, float]:
    names = list(EXPRESSIONS)
    name = names[int(rng.choice(len(names), p=[EXPRESSIONS[n][0] for n in names]))]
    labels = body_model().face_labels
    face: dict[str, float] = {}
    for action, mean in EXPRESSIONS[name][1].items():
        value = float(np.clip(mean * rng.uniform(0.55, 1.2), 0, 1))
        for label in labels:
            if label in (action, f"{action}Left", f"{action}Right"):
                face[label] = rounded(np.clip(value * rng.uniform(0.88, 1.12), 0, 1))
    blink = float(abs(rng.normal(0.0, 0.09)))
    for side in ("Left", "Right"):
        face[f"eyeBlink{side}"] = rounded(min(blink, 0.35))
        face[f"browOuterUp{side}"] = rounded(max(face.get(f"browOuterUp{side}", 0.0), rng.uniform(0, 0.15)))
    return face


def _skin(rng: np.random.Generator, phenotype: dict[str, float]) -> tuple[SkinSpec, float]:
    """Skin and its darkness in 0..1, loosely tied to the face's ancestry mix."""
    ancestry = phenotype["african"] * 4.2 + phenotype["asian"] * 1.7 + phenotype["caucasian"] * 0.9
    if rng.random() < 0.3:
        level = float(rng.choice(6, p=TONE_WEIGHTS)) + rng.uniform(-0.5, 0.5)
    else:
        level = ancestry + float(rng.normal(0, 0.55))
    level = float(np.clip(level, 0.0, 4.99))
    low, mix = int(level), level - int(level)
    tone = tuple(rounded(a * (1 - mix) + b * mix) for a, b in zip(TONES[low], TONES[low + 1], strict=True))
    redness = float(rng.uniform(0.15, 0.75)) * (1 - 0.12 * level)
    female = phenotype["gender"] > 0.5
    makeup = float(rng.uniform(0.2, 0.9)) if female and rng.random() < 0.4 else 0.0
    warm = np.array([tone[0] * 0.92, tone[1] * 0.62, tone[2] * 0.68])
    lips = warm * (1 - makeup) + makeup * np.array([0.42, 0.035, 0.05]) * rng.uniform(0.5, 1.1)
    wrinkles = np.clip((phenotype["age"] - 0.68) * 3.0, 0, 1)
    skin_spec = SkinSpec(
        tone=(tone[0], tone[1], tone[2]),
        lips=(rounded(lips[0]), rounded(lips[1]), rounded(lips[2])),
        redness=rounded(redness),
        freckles=rounded(max(0.0, rng.normal(-0.1, 0.4)) if level < 2 else 0.0),
        wrinkles=rounded(float(wrinkles)),
        roughness=rounded(rng.uniform(0.42, 0.58)),
        seed=int(rng.integers(1 << 20)),
    )
    return skin_spec, level / 5


def _hair(rng: np.random.Generator, phenotype: dict[str, float], darkness: float) -> HairSpec:
    female, old = phenotype["gender"] > 0.5, phenotype["age"] > 0.85
    child = phenotype["age"] < 0.55
    styles = (
        {"long": 0.36, "bob": 0.22, "bun": 0.2, "short": 0.14, "afro": 0.08}
        if female
        else {
            "short": 0.44,
            "crop": 0.24,
            "buzz": 0.17,
            "bald": 0.0 if child else 0.07,
            "bob": 0.05,
            "afro": 0.03,
        }
    )
    weights = np.array(list(styles.values()))
    style = list(styles)[int(rng.choice(len(styles), p=weights / weights.sum()))]
    if darkness > 0.75 and style in ("short", "long", "bob") and rng.random() < 0.6:
        style = "afro" if rng.random() < 0.6 else "bun" if female else "buzz"
    light = max(0.0, 0.75 - darkness * 1.6) * phenotype["caucasian"] * 1.6
    names = ["black", "dark_brown", "brown", "light_brown", "blond", "red"]
    probabilities = np.array([0.35 + darkness, 0.3, 0.15 + light, 0.6 * light, 0.6 * light, 0.2 * light])
    base = np.array(HAIR_COLOURS[names[int(rng.choice(6, p=probabilities / probabilities.sum()))]])
    grey = (
        float(np.clip(rng.normal(0.75, 0.2), 0, 1)) if old else float(np.clip(rng.normal(-0.25, 0.3), 0, 0.8))
    )
    grey = 0.0 if child else grey
    colour = base * rng.uniform(0.8, 1.25, 3).clip(0.85, 1.2)
    length = {"long": (0.22, 0.42), "bob": (0.13, 0.2), "short": (0.035, 0.075), "crop": (0.018, 0.03)}.get(
        style, (0.05, 0.1)
    )
    beard = 0.0
    if not female and not child and rng.random() < 0.4:
        beard = rng.uniform(0.003, 0.03)
    return HairSpec(
        style=style,
        colour=(rounded(colour[0]), rounded(colour[1]), rounded(colour[2])),
        grey=rounded(grey),
        length=rounded(rng.uniform(*length)),
        volume=rounded(rng.uniform(0.2, 1.0)),
        curl=rounded(float(np.clip(rng.normal(0.25 + 0.4 * (darkness > 0.7), 0.2), 0, 1))),
        part=rounded(float(rng.choice([-0.45, 0.0, 0.45])) + rng.uniform(-0.1, 0.1)),
        hairline=rounded(rng.uniform(0.0, 1.0) * (0.5 if female else 1.0)),
        beard=rounded(beard),
        brow=rounded(rng.uniform(0.7, 1.0) if female else rng.uniform(0.9, 1.4)),
        seed=int(rng.integers(1 << 20)),
    )


def _eyes(rng: np.random.Generator, darkness: float) -> EyeSpec:
    light = max(0.0, 0.5 - darkness)
    probabilities = np.array([0.5 + darkness, 0.4, 0.35 * light, 0.8 * light, 0.4 * light])
    iris = np.array(IRISES[int(rng.choice(5, p=probabilities / probabilities.sum()))]) * rng.uniform(
        0.75, 1.3
    )
    return EyeSpec(
        iris=(rounded(iris[0]), rounded(iris[1]), rounded(iris[2])),
        pupil=rounded(rng.uniform(0.28, 0.48)),
        yaw=rounded(np.clip(rng.normal(0, 8), -22, 22)),
        pitch=rounded(np.clip(rng.normal(-1, 4), -12, 10)),
    )


def _plausible_pose(rng: np.random.Generator, phenotype: dict[str, float]) -> tuple[str, Pose]:
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


def _stands(heads: Any, model: BodyModel) -> bool:
    """Whether the middle of the trunk is above the feet's support area, with 4 cm to spare."""
    at = {
        name: heads[model.bones.index(name)]
        for name in ("foot.L", "foot.R", "toe2-1.L", "toe2-1.R", "spine04", "spine01")
    }
    feet = np.array([at[n][:2] for n in ("foot.L", "foot.R", "toe2-1.L", "toe2-1.R")])
    centre = (at["spine04"][:2] + at["spine01"][:2]) / 2
    return bool((centre > feet.min(0) - 0.04).all() and (centre < feet.max(0) + 0.04).all())


def _arm_gap(shape: Any, skeleton: Any, model: BodyModel) -> float:
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
