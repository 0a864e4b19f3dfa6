"""Per-vertex masks of the skin shader: blood, sockets, folds, make-up, hair's shade, places."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, body_model
from render.people.brows import BROW
from render.people.parts import region_weights
from render.people.scalp import beard_weight, scalp_weight
from render.people.spec import HairSpec

Field = Float64[np.ndarray, " v"]
Spots = tuple[tuple[float, float, float, float], ...]
FLUSH: Spots = (
    (0.052, -0.125, 0.692, 0.020),
    (0.0, -0.17, 0.693, 0.013),
    (0.013, -0.15, 0.686, 0.009),
    (0.080, -0.045, 0.712, 0.025),
    (0.0, -0.14, 0.605, 0.014),
)
"""Where blood shows: cheeks, nose and its wings, ears, chin: x, y, z on the rest template, radius; metres."""
SOCKETS: Spots = (
    (0.020, -0.145, 0.722, 0.010),
    (0.030, -0.145, 0.7175, 0.009),
    (0.040, -0.14, 0.7195, 0.009),
)
"""Thin skin around the eyes, darker than the rest."""
LIDS: Spots = ((0.022, -0.145, 0.739, 0.0065), (0.031, -0.145, 0.7415, 0.0065), (0.041, -0.14, 0.739, 0.0075))
"""Upper lids, where make-up goes."""
OILY: Spots = ((0.0, -0.155, 0.770, 0.026), (0.0, -0.16, 0.715, 0.016), (0.0, -0.17, 0.693, 0.014))
"""Forehead and nose, which shine."""
BLUSH: Spots = ((0.056, -0.115, 0.700, 0.017), (0.064, -0.10, 0.708, 0.014))
FOLD = ((0.0185, 0.690), (0.024, 0.681), (0.0285, 0.670), (0.0305, 0.660))
"""The fold from the wing of the nose to the corner of the mouth: (x, z) on the template's face, metres."""
FOLD_WIDTH = 0.0028
JOINTS = ("finger", "wrist", "lowerarm01", "lowerleg01")


def _spots(spots: Spots) -> Field:
    """Gaussian spots on both sides, the strongest counting."""
    at = body_model().template * np.array([1.0, 1.0, 1.0])
    at[:, 0] = np.abs(at[:, 0])
    total = np.zeros(len(at))
    for x, y, z, radius in spots:
        gap = ((at - np.array([x, y, z])) ** 2).sum(1)
        total = np.maximum(total, np.exp(-gap / radius**2))
    return total


def _near_line(line: tuple[tuple[float, float], ...]) -> Field:
    """Distance on the face's (x, z) plane from a polyline, on either side; metres. Far behind the face."""
    template = body_model().template
    at = np.stack([np.abs(template[:, 0]), template[:, 2]], axis=1)
    result = np.full(len(at), 1.0)
    for start, end in pairwise(line):
        a, ab = np.array(start), np.array(end) - np.array(start)
        t = np.clip(((at - a) * ab).sum(1) / (ab * ab).sum(), 0, 1)
        result = np.minimum(result, np.sqrt(((at - a - t[:, None] * ab) ** 2).sum(1)))
    return np.where(template[:, 1] < -0.09, result, 1.0)


@lru_cache(maxsize=1)
def _joints() -> Field:
    """1 where two bones of fingers, elbows or knees meet: skin there is redder and darker."""
    model = body_model()
    own = np.sort(model.weights, axis=1)
    mixed = np.clip(2.5 * own[:, -2], 0, 1)
    names = np.array([b.startswith(JOINTS) for b in model.bones])
    return np.asarray(mixed * np.where(names[model.weight_bones], model.weights, 0.0).sum(1))


@lru_cache(maxsize=1)
def _palms() -> Field:
    """1 on palms and soles. In the rest pose palms face down and inwards, soles down."""
    from render.people.mesh import vertex_normals

    model = body_model()
    weights = region_weights()
    normals = vertex_normals(model.template, model.faces("body"))
    facing = -normals[:, 2] - 0.5 * np.sign(model.template[:, 0]) * normals[:, 0]
    hand = (weights["Hand.L"] + weights["Hand.R"]) * np.clip(1.4 * facing - 0.1, 0, 1)
    foot = (weights["Foot.L"] + weights["Foot.R"]) * np.clip(-2.0 * normals[:, 2] - 0.6, 0, 1)
    return np.asarray(np.clip(hand + foot, 0, 1))


@lru_cache(maxsize=1)
def _constant_masks() -> dict[str, Field]:
    """What does not depend on the person. `place_x`, `place_z`: where on the template, metres."""
    model = body_model()
    x, y, z = np.abs(model.template[:, 0]), model.template[:, 1], model.template[:, 2]
    inside = np.clip(model.masks["inside-mouth"] - model.masks["lips"], 0, 1)
    head = region_weights()["Face_Neck"] > 0.5
    forehead = np.clip((z - 0.757) / 0.008, 0, 1) * np.clip((0.055 - x) / 0.02, 0, 1) * (y < -0.06)
    forehead = forehead * np.clip((0.797 - z) / 0.008, 0, 1)
    crow = np.exp(-(((x - 0.058) / 0.011) ** 2) - ((z - 0.727) / 0.013) ** 2) * (y < -0.05)
    return {
        "lips": np.clip(model.masks["lips"] * 1.15 - 0.05, 0, 1),
        "inside": np.where(y > -0.14, inside, 0.0),
        "flush": np.maximum(_spots(FLUSH), 0.7 * _joints()),
        "face": np.maximum(model.masks["face"], 0.3 * model.masks["ears"]),
        "nails": np.maximum(model.masks["fingernails"], model.masks["toenails"]),
        "socket": _spots(SOCKETS),
        "lid": _spots(LIDS),
        "oily": _spots(OILY),
        "rouge": _spots(BLUSH),
        "palm": _palms(),
        "fold": np.exp(-((_near_line(FOLD) / FOLD_WIDTH) ** 2)),
        "forehead": np.where(head, forehead, 0.0),
        "crow": np.where(head, crow, 0.0),
        "place_x": np.where(head, x, 0.0),
        "place_z": np.where(head, z, 0.0),
    }


def skin_masks(hair: HairSpec, model: BodyModel) -> dict[str, Float64[np.ndarray, " v"]]:
    """Masks in 0..1 per template vertex, by attribute name."""
    growing = {"bald": 0.10, "buzz": 0.75}.get(hair.style, 0.85)
    shade = scalp_weight(hair.hairline) * growing
    beard = max(hair.stubble, min(0.55, 25 * hair.beard * hair.cheeks))
    shade = np.maximum(shade, beard_weight() * beard)
    brow = np.exp(-((_near_line(BROW) / (0.0036 * hair.brow)) ** 2)) * 0.32
    return _constant_masks() | {"shade": np.maximum(shade, brow)}
