"""Per-vertex masks of the skin shader: lips, mouth, flush, nails, shaved scalp and beard shade."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, body_model
from render.people.scalp import beard_weight, scalp_weight
from render.people.spec import HairSpec

FLUSH = (
    (0.055, -0.125, 0.690, 0.022),
    (0.0, -0.17, 0.695, 0.016),
    (0.078, -0.045, 0.712, 0.03),
    (0.0, -0.14, 0.60, 0.02),
)
"""Where blood shows: cheeks, tip of the nose, ears, chin: x, y, z on the rest template and radius, metres."""


@lru_cache(maxsize=1)
def _flush() -> Float64[np.ndarray, " v"]:
    model = body_model()
    mirrored = model.template * np.array([1.0, 1.0, 1.0])
    mirrored[:, 0] = np.abs(mirrored[:, 0])
    total = np.zeros(len(mirrored))
    for x, y, z, radius in FLUSH:
        gap = ((mirrored - np.array([x, y, z])) ** 2).sum(1)
        total = np.maximum(total, np.exp(-gap / radius**2))
    knuckles = np.maximum(model.masks["fingernails"], 0) * 0.3
    return np.maximum(total, knuckles)


def skin_masks(hair: HairSpec, model: BodyModel) -> dict[str, Float64[np.ndarray, " v"]]:
    """Masks in 0..1 per template vertex, by attribute name."""
    lips = np.clip(model.masks["lips"] * 1.15 - 0.05, 0, 1)
    shade = scalp_weight(hair.hairline) * (0.85 if hair.style not in ("bald",) else 0.12)
    shade = np.maximum(shade, beard_weight() * min(0.7, 0.25 + hair.beard * 20) * (hair.beard > 0))
    inside = np.clip(model.masks["inside-mouth"] - model.masks["lips"], 0, 1)
    return {
        "lips": lips,
        "inside": np.where(model.template[:, 1] > -0.14, inside, 0.0),
        "flush": _flush(),
        "face": np.maximum(model.masks["face"], 0.3 * model.masks["ears"]),
        "nails": np.maximum(model.masks["fingernails"], model.masks["toenails"]),
        "shade": shade,
    }
