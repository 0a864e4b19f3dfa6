"""Which of the 29 body-part classes a triangle is: from bone weights and masks of the template, once per
process.
"""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from annotation.parts import part_vocabulary
from render.people.body import BodyModel, body_model

NAMES = part_vocabulary(29).names
PART: dict[str, int] = {name: index for index, name in enumerate(NAMES)}
"""Class ids of the 29-class vocabulary: the 28 of the paper and eyeglasses."""

MOUTH_LINE = 0.6610  # height of the closed lips' contact line in the rest template, metres


def bone_group(bone: str) -> str:
    """Body region that a bone moves: Torso, Face_Neck, Upper_Arm.L, Hand.R, ..."""
    stem, _, side = bone.partition(".")
    for prefix, region in (
        ("upperarm", "Upper_Arm"),
        ("shoulder", "Torso"),
        ("lowerarm", "Lower_Arm"),
        ("wrist", "Hand"),
        ("finger", "Hand"),
        ("metacarpal", "Hand"),
        ("upperleg", "Upper_Leg"),
        ("lowerleg", "Lower_Leg"),
        ("foot", "Foot"),
        ("toe", "Foot"),
    ):
        if stem.startswith(prefix):
            return region if region == "Torso" else f"{region}.{side[:1]}"
    if stem in ("root", "pelvis", "breast", "clavicle") or stem.startswith("spine"):
        return "Torso"
    return "Face_Neck"


@lru_cache(maxsize=1)
def region_weights() -> dict[str, Float64[np.ndarray, " v"]]:
    """Per region, how much of each template vertex's skinning belongs to it (sums to 1 over regions)."""
    model = body_model()
    groups = [bone_group(b) for b in model.bones]
    totals: dict[str, np.ndarray] = {name: np.zeros(len(model.template)) for name in sorted(set(groups))}
    index = np.array([sorted(set(groups)).index(g) for g in groups])[model.weight_bones]
    for i, name in enumerate(totals):
        totals[name] += np.where(index == i, model.weights, 0.0).sum(1)
    return totals


def vertex_regions(model: BodyModel) -> tuple[tuple[str, ...], np.ndarray]:
    """Region names and, per template vertex, the index of the strongest."""
    weights = region_weights()
    names = tuple(weights)
    return names, np.argmax(np.stack([weights[n] for n in names]), axis=0)


def part_of_region(region: str) -> int:
    """Class id of a bare body region."""
    stem, _, side = region.partition(".")
    return PART[f"{'Left' if side == 'L' else 'Right'}_{stem}"] if side else PART[stem]


def mouth_region(model: BodyModel) -> Bool[np.ndarray, " v"]:
    """Vertices of the mouth's inside (oral cavity) of the body mesh."""
    return (model.masks["inside-mouth"] > 0.6) & (model.template[:, 1] > -0.15)


@lru_cache(maxsize=1)
def body_face_parts() -> UInt8[np.ndarray, " f"]:
    """Class id per body triangle, bare skin."""
    model = body_model()
    faces = model.faces("body")
    names = tuple(region_weights())
    weights = np.stack([region_weights()[n] for n in names])[:, faces].sum(2)
    ids = np.array([part_of_region(n) for n in names], dtype=np.uint8)[np.argmax(weights, axis=0)]
    lips = model.masks["lips"][faces].mean(1) > 0.45
    upper = model.template[faces, 2].mean(1) > MOUTH_LINE
    ids[lips & upper] = PART["Upper_Lip"]
    ids[lips & ~upper] = PART["Lower_Lip"]
    return np.asarray(ids)
