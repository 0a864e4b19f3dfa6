"""Where hair grows: levels and weights on the template's head for the scalp and the beard."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from render.people.body import body_model
from render.people.parts import region_weights

CROWN = np.array([0.008, 0.005, 0.84])  # the whorl that hair turns around, rest template
SOFT = 0.010  # metres over which hair gets denser and longer from the hairline inwards

Field = Float64[np.ndarray, " v"]


def _head() -> np.ndarray:
    return np.asarray(region_weights()["Face_Neck"] > 0.5)


def scalp_level(hairline: float) -> Field:
    """Metres inside the hair-bearing scalp, negative outside. hairline: 0 low, 1 receding at the temples, up
    to 2 bald on top (a ring of hair remains).
    """
    model = body_model()
    x, y, z = np.abs(model.template[:, 0]), model.template[:, 1], model.template[:, 2]
    receding = min(hairline, 1.0)
    front = 0.7865 + 0.010 * receding - 0.10 * np.clip(x - 0.035, 0, 0.02)
    front = front + 0.028 * receding * np.exp(-(((x - 0.043) / 0.016) ** 2))  # the corners of the forehead
    temple = np.interp(
        y,
        (-0.16, -0.115, -0.085, -0.06, -0.035, -0.01, 0.02, 0.10),
        (0.79, 0.775, 0.755, 0.722, 0.738, 0.715, 0.665, 0.645),
    )
    temple = temple + 0.012 * receding * np.clip((-0.07 - y) / 0.03, 0, 1)
    forward = np.interp(y, (-0.12, -0.06), (1.0, 0.0))
    line = np.where(x < 0.045, forward * front + (1 - forward) * temple, temple)
    level = z - line
    level = np.where((model.masks["ears"] > 0.3) & (x > 0.068), np.minimum(level, -0.01), level)
    if hairline > 1.0:
        bare = 0.845 - 0.055 * (hairline - 1.0) * (1.0 + 0.45 * np.clip((-0.02 - y) / 0.08, -0.6, 1.0))
        level = np.minimum(level, 0.35 * (bare - z))  # the edge of a bald patch is soft
    return np.where(_head(), level, -1.0)


def scalp_weight(hairline: float) -> Field:
    """Soft 0..1 version of `scalp_level`."""
    return np.asarray(np.clip(scalp_level(hairline) / (0.7 * SOFT), 0, 1))


@lru_cache(maxsize=1)
def beard_levels() -> dict[str, Field]:
    """Metres inside the places where a beard grows: `beard` (jaw, chin, upper lip), `chin`, `moustache`."""
    model = body_model()
    x, y, z = np.abs(model.template[:, 0]), model.template[:, 1], model.template[:, 2]
    upper = np.interp(x, (0.0, 0.02, 0.030, 0.045, 0.060, 0.075), (0.679, 0.677, 0.660, 0.664, 0.680, 0.720))
    lower = np.interp(y, (-0.16, -0.11, -0.085, -0.06, 0.0), (0.60, 0.604, 0.618, 0.640, 0.67))
    level = np.minimum(np.minimum(upper - z, z - lower), (-0.060 - y) * 0.8)
    level = np.minimum(level, 0.006 - 0.02 * model.masks["lips"])
    chin = np.minimum(level, np.minimum(0.026 - x, 0.655 - z))
    chin = np.where((z > 0.64) & (x > 0.012), np.minimum(level, x - 0.018), chin)
    chin = np.minimum(chin, 0.030 - x)
    lip = np.minimum(level, np.minimum(z - 0.660, 0.031 - x))
    lip = np.minimum(lip, np.where(y > -0.125, -1.0, lip))
    return {
        name: np.where(_head(), v, -1.0) for name, v in (("beard", level), ("chin", chin), ("moustache", lip))
    }


@lru_cache(maxsize=1)
def beard_weight() -> Field:
    """Soft 0..1: jaw, chin, upper lip; not lips, not cheeks."""
    return np.asarray(np.clip(beard_levels()["beard"] / 0.010, 0, 1))
