"""Where garments end: scalar fields on the rest template, positive inside, about metres to each edge.

Cut parameters: `hem` and `waist` are heights on the template in metres; `sleeve` and `leg` count joints (1
elbow or knee, 2 wrist or ankle); `neck` (depth of the neckline), `vee` and `rise` are in 0..1; `open` is
half the width of an open front in metres, 0 for a closed one.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float64

HIP_Z, KNEE_Z, ANKLE_Z = 0.049, -0.369, -0.745  # joint heights of the rest template, metres
SHOULDER, ELBOW, WRIST = (
    np.array([0.168, -0.015, 0.525]),
    np.array([0.313, -0.013, 0.349]),
    np.array([0.431, -0.176, 0.245]),
)
FAR = 0.3  # what a field says where its edge does not matter
OVERLAP_Z = 0.02  # where the skirt of a coat begins under its upper part

Points = Float64[np.ndarray, "v 3"]
Field = Float64[np.ndarray, " v"]
Cut = Mapping[str, float]
Edges = dict[str, Field]


def along_arm(template: Points) -> Field:
    """Place along the arm: 0 shoulder, 1 elbow, 2 wrist (either side)."""
    mirrored = np.concatenate([np.abs(template[:, :1]), template[:, 1:]], axis=1)
    upper, fore = ELBOW - SHOULDER, WRIST - ELBOW
    first = ((mirrored - SHOULDER) * upper).sum(1) / (upper * upper).sum()
    second = ((mirrored - ELBOW) * fore).sum(1) / (fore * fore).sum()
    return np.asarray(np.where(second > 0, 1.0 + second, np.minimum(first, 1.0)))


def leg_height(leg: float) -> float:
    """Template height of a place along the leg: 0 hip joint, 1 knee, 2 ankle."""
    return float(np.interp(leg, (0, 1, 2), (HIP_Z, KNEE_Z, ANKLE_Z)))


def upper_edges(template: Points, arm: Field, cut: Cut) -> Edges:
    """Shirts, jackets and the upper part of dresses."""
    free = np.where(arm > 0.05, np.minimum(1.0, arm * 4), 0.0)
    edges = {"hem": template[:, 2] - cut["hem"] + free}
    edges["sleeve"] = _sleeve(template, arm, cut["sleeve"])
    edges["neck"] = np.minimum(
        _neckline(template, cut["neck"], cut.get("vee", 0.0)), _collar_line(template, free)
    )
    if cut.get("open", 0.0) > 0.0:
        height = np.clip(template[:, 2] / 0.5, 0, 1)
        gap = np.abs(template[:, 0]) - cut["open"] * (0.65 + 0.7 * np.abs(height - 0.55))
        edges["front"] = np.where(template[:, 1] < -0.03, gap, FAR)
    return edges


def _sleeve(template: Points, arm: Field, sleeve: float) -> Field:
    if sleeve > 0:
        return np.asarray(np.where(arm > 0.02, (sleeve - along_arm(template)) * 0.23, FAR))
    low = 0.4 * arm * (template[:, 2] < 0.45)
    return np.asarray(0.185 - np.abs(template[:, 0]) - 0.25 * (template[:, 2] - 0.52) - low)


def _neckline(template: Points, depth: float, vee: float) -> Field:
    """A round neckline, lower in front the deeper it is, with a V below it."""
    centre = np.array([0.0, -0.035 - 0.035 * depth, 0.605])
    radii = np.array([0.066 + 0.035 * depth, 0.072 + 0.022 * depth, 0.040 + 0.065 * depth])
    ball = np.sqrt((((template - centre) / radii) ** 2).sum(1))
    field = (ball - 1.0) * 0.07
    if vee > 0:
        lowest = 0.555 - 0.21 * vee
        slope = 0.075 / (0.60 - lowest)
        side = (np.abs(template[:, 0]) - slope * (template[:, 2] - lowest)) * 0.95
        field = np.where(
            template[:, 1] < 0.0, np.minimum(field, np.maximum(side, lowest - template[:, 2])), field
        )
    return np.asarray(field)


def _collar_line(template: Points, free: Field) -> Field:
    """The highest cloth on the neck."""
    return np.asarray(0.612 - template[:, 2] + free)


def high_neck_edges(template: Points, arm: Field, cut: Cut) -> Edges:
    """A roll neck: as a sweater, but up the neck instead of round it."""
    edges = upper_edges(template, arm, cut)
    tilt = 0.35 * (template[:, 1] + 0.03)
    return edges | {"neck": np.where(arm > 0.02, FAR, 0.618 + 0.02 * cut["neck"] + tilt - template[:, 2])}


def leg_edges(template: Points, arm: Field, cut: Cut) -> Edges:
    """Trousers, shorts, leggings."""
    off_arms = 3.0 * (arm > 0.02)
    waist = cut["waist"] - 0.12 * (template[:, 1] < -0.02) * np.clip(-template[:, 1] - 0.02, 0, 0.1)
    return {
        "waist": waist - template[:, 2] - off_arms,
        "hem": template[:, 2] - leg_height(cut["leg"]) - off_arms,
    }


def skirt_edges(template: Points, arm: Field, cut: Cut) -> Edges:
    """Skirts and the lower part of dresses and coats. `length`: 0 hip, 0.5 knee, 1 ankle."""
    off_arms = 3.0 * (arm > 0.02)
    edges = {
        "waist": cut["waist"] - template[:, 2] - off_arms,
        "hem": template[:, 2] - leg_height(2 * cut["length"]) - off_arms,
    }
    if cut.get("open", 0.0) > 0.0:
        edges["front"] = np.where(template[:, 1] < 0.0, np.abs(template[:, 0]) - cut["open"] * 1.1, FAR)
    return edges


def sock_edges(template: Points, arm: Field, cut: Cut) -> Edges:
    """Socks: `height` 0 ankle, 1 below the knee."""
    return {"top": -0.70 + 0.26 * cut["height"] - template[:, 2] - 3.0 * (arm > 0.02)}


def tights_edges(template: Points, arm: Field, cut: Cut) -> Edges:
    """Tights: from the waist over the feet."""
    return {"waist": cut["waist"] - template[:, 2] - 3.0 * (arm > 0.02)}


def level(edges: Callable[[Points, Field, Cut], Edges], template: Points, arm: Field, cut: Cut) -> Field:
    """How deep points lie inside a cut: the distance to the nearest edge, negative outside."""
    return np.asarray(np.min(np.stack(list(edges(template, arm, cut).values())), axis=0))
