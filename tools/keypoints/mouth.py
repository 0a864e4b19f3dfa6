"""The mouth: 16 points of the lips' outer border and 16 of the line where they meet."""

from collections.abc import Sequence

from adult import adult, along
from rules import Anchor, both_sides, mean, vertex

from annotation.definitions import KeypointDefinition
from render.people.body import BodyModel

OUTER_CORNER = mean((7182, 7183))
INNER_CORNER = mean((7188, 7189))

UPPER_OUTER = (455, 7214, 7210, 7215, 7169, 11956, 7170, 7171, 7168, (7167, 7184), 10404)
LOWER_OUTER = (492, 7241, 7235, 7166, 7165, (7164, 7201), 10371)
"""The vermilion border from the midline to the corner: the lips' outermost edge loop (where the lips' mask is
0.5), at the corner half a quad or one within it, as the mask is."""

UPPER_INNER = (520, 7267, 7268, 7261, 7262, 11962, 7263, 7179, 7178, 7193, 10400)
LOWER_INNER = (523, 7264, 7265, 7266, 7206, 7204, 10375)
"""The edge loop along which closed lips meet, seen from the front; near the corner the loop before it, which
is the edge that an open mouth shows."""

FROM_MIDLINE = ((5, 0.25), (2, 0.5), (6, 0.75))
"""Midpoint of the left half -> share of the length from the midline to the corner."""


def define(model: BodyModel) -> list[KeypointDefinition]:
    """32 points: 4 corners, 4 centres, 24 midpoints."""
    grown = adult(model)
    middle, left = (
        [],
        [
            _point(
                "l_outer_corner_of_mouth", OUTER_CORNER, "hand placed", "cheilion: outer end of the lips", 0.8
            ),
            _point(
                "l_inner_corner_of_mouth",
                INNER_CORNER,
                "hand placed",
                "where the lips' inner edges meet",
                0.7,
            ),
        ],
    )
    for name, path, corner, line, center in (
        ("upper_outer_lip", UPPER_OUTER, OUTER_CORNER, "upper vermilion border", "center_of_cupid_bow"),
        ("lower_outer_lip", LOWER_OUTER, OUTER_CORNER, "lower vermilion border", "center_of_lower_outer_lip"),
        ("upper_inner_lip", UPPER_INNER, INNER_CORNER, "upper lip's edge that meets the lower", ""),
        ("lower_inner_lip", LOWER_INNER, INNER_CORNER, "lower lip's edge that meets the upper", ""),
    ):
        stops = [*_stops(path), corner]
        middle.append(_point(center or f"center_of_{name}", stops[0], "edge loop", f"{line}, midline", 0.9))
        shares = [share for _, share in FROM_MIDLINE]
        for (number, share), place in zip(FROM_MIDLINE, along(grown, stops, shares), strict=True):
            rule = f"{line}, {share:g} of the way from the midline to the corner"
            left.append(_point(f"midpoint_{number}_of_{name}", place, "edge loop", rule, 0.8))
    return [*middle, *both_sides(model, left)]


def _stops(path: Sequence[int | tuple[int, int]]) -> list[Anchor]:
    return [vertex(stop) if isinstance(stop, int) else mean(stop) for stop in path]


def _point(name: str, place: Anchor, method: str, rule: str, confidence: float) -> KeypointDefinition:
    inside_m = 0.006 if "inner" in name else 0.008
    return KeypointDefinition(name, method, rule, confidence, inside_m, *place)
