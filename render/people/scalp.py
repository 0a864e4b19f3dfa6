"""Where hair grows: smooth weights on the template's head for the scalp and the beard."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from render.people.body import body_model
from render.people.parts import region_weights

CROWN = np.array([0.0, 0.03, 0.845])  # where hair turns around, rest template


def scalp_level(hairline: float) -> Float64[np.ndarray, " v"]:
    """Metres inside the hair-bearing scalp, negative outside. hairline: 0 low, 1 receding."""
    model = body_model()
    x, y, z = np.abs(model.template[:, 0]), model.template[:, 1], model.template[:, 2]
    front = 0.7865 + 0.014 * hairline - 0.10 * np.clip(x - 0.035 + 0.01 * hairline, 0, 0.02)
    temple = np.interp(
        y,
        (-0.16, -0.115, -0.085, -0.06, -0.035, -0.01, 0.02, 0.10),
        (0.79, 0.775, 0.755, 0.722, 0.738, 0.715, 0.665, 0.645),
    )
    line = np.where(
        x < 0.045,
        np.interp(y, (-0.12, -0.06), (1.0, 0.0)) * front + np.interp(y, (-0.12, -0.06), (0.0, 1.0)) * temple,
        temple,
    )
    level = z - line
    level = np.where((model.masks["ears"] > 0.3) & (x > 0.068), np.minimum(level, -0.01), level)
    head = region_weights()["Face_Neck"] > 0.5
    return np.where(head, level, -1.0)


def scalp_weight(hairline: float) -> Float64[np.ndarray, " v"]:
    """Soft 0..1 version of `scalp_level`."""
    return np.clip(scalp_level(hairline) / 0.012 + 0.3, 0, 1)


@lru_cache(maxsize=1)
def beard_weight() -> Float64[np.ndarray, " v"]:
    """Soft 0..1: jaw, chin, moustache; not lips, not cheeks."""
    model = body_model()
    x, y, z = np.abs(model.template[:, 0]), model.template[:, 1], model.template[:, 2]
    upper = np.interp(x, (0.0, 0.02, 0.035, 0.055, 0.075), (0.676, 0.674, 0.655, 0.668, 0.715))
    lower = np.interp(y, (-0.16, -0.11, -0.06, 0.0), (0.60, 0.598, 0.615, 0.65))
    level = np.minimum(upper - z, z - lower) / 0.008
    level = np.minimum(level, (-0.03 - y) / 0.01)
    level = np.minimum(level, 1.2 - 3.0 * model.masks["lips"])
    head = region_weights()["Face_Neck"] > 0.5
    return np.where(head, np.clip(level, 0, 1), 0.0)
