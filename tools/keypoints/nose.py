"""The nose (15 points) and the face's midline (glabella, labiomental groove, chin)."""

from adult import adult, along
from rules import Anchor, both_sides, mean, vertex

from annotation.definitions import KeypointDefinition
from render.people.body import BodyModel

INSIDE_M = 0.008

BRIDGE = (132, 133, 134, 135, 131, 5063, 164, 201, 291, 5134)
"""The midline from sellion to the supratip break, downwards."""

MIDLINE: dict[str, tuple[Anchor, str, str, float]] = {
    "center_of_glabella": (
        vertex(227),
        "geometric rule",
        "most forward point of the midline between the brows",
        0.7,
    ),
    "center_of_nose_root": (
        vertex(132),
        "geometric rule",
        "sellion: the midline's most hollow point between forehead and bridge",
        0.8,
    ),
    "tip_of_nose_bridge": (
        vertex(5134),
        "hand placed",
        "supratip break: lower end of the straight bridge, above the tip",
        0.5,
    ),
    "tip_of_nose": (vertex(5054), "geometric rule", "pronasale: most forward point of the midline", 0.9),
    "bottom_center_of_nose": (
        vertex(343),
        "geometric rule",
        "subnasale: where the columella turns into the upper lip, on the midline",
        0.8,
    ),
    "center_of_labiomental_groove": (
        vertex(724),
        "geometric rule",
        "most hollow point of the midline between lower lip and chin",
        0.8,
    ),
    "tip_of_chin": (
        vertex(5171),
        "geometric rule",
        "gnathion: point of the chin's midline furthest forward and down, at 45 degrees",
        0.6,
    ),
}

LEFT: dict[str, tuple[Anchor, str, str, float]] = {
    "l_outer_corner_of_nose": (
        vertex(11673),
        "geometric rule",
        "alare: outermost point of the wing of the nose",
        0.8,
    ),
    "inner_corner_of_l_nostril": (
        vertex(7072),
        "hand placed",
        "rim of the nostril at the foot of the columella",
        0.7,
    ),
    "outer_corner_of_l_nostril": (
        mean((7087, 7082)),
        "hand placed",
        "rim of the nostril where the wing turns into the sill, outermost",
        0.7,
    ),
    "upper_corner_of_l_nostril": (
        mean((7089, 7125)),
        "hand placed",
        "front end (apex) of the rim of the nostril, highest from the front",
        0.7,
    ),
}


def define(model: BodyModel) -> list[KeypointDefinition]:
    """15 + 3 points.

    The bridge's midpoints from above are 2, 1, 3: 1 halves the line and 2 comes before 3, as in the eyebrows,
    whose order the vocabulary's flips prove (2 and 3 trade names, 1 keeps its own).
    """
    bridge = along(adult(model), [vertex(v) for v in BRIDGE], (0.25, 0.5, 0.75))
    rule = "share {} of the midline from sellion to the supratip break"
    middle = MIDLINE | {
        f"midpoint_{number}_of_nose_bridge": (place, "edge loop", rule.format(share), confidence)
        for number, share, confidence, place in zip(
            (2, 1, 3), ("1/4", "1/2", "3/4"), (0.5, 0.7, 0.5), bridge, strict=True
        )
    }
    return [*_definitions(middle), *both_sides(model, _definitions(LEFT))]


def _definitions(points: dict[str, tuple[Anchor, str, str, float]]) -> list[KeypointDefinition]:
    return [
        KeypointDefinition(name, method, rule, confidence, INSIDE_M, *place)
        for name, (place, method, rule, confidence) in points.items()
    ]
