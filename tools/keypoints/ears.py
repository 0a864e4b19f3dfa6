"""The ears: 26 points each, on the relief of the mean adult's ear.

The ear's quads lie in rings around the concha: outer edge of the helix, its inner margin, scapha, antihelix,
concha; a line of the ear is a line of such vertices.
"""

from collections.abc import Sequence

from adult import adult, along
from rules import Anchor, both_sides, mean, vertex

from annotation.definitions import KeypointDefinition
from render.people.body import BodyModel

INSIDE_M = 0.012

INNER_HELIX = (
    12169,
    12092,
    12267,
    12068,
    12058,
    12056,
    12059,
    12065,
    12060,
    12066,
    12062,
    12061,
    12073,
    12168,
    12074,
)
"""Inner margin of the helix, from above its crus over the top to its tail."""

ANTIHELIX = ((12104, 12110, 12186, 12185), 12186, 12194, 12193, 12195, 12319, 12307, 12297)
"""Crest of the antihelix, from where the crura part to the saddle before the antitragus."""

INFERIOR_CRUS = ((12113, 12133), 12133, 12173, 12175, 12142, 12136, 12141, (12104, 12110, 12186, 12185))
"""Crest of the lower crus, from under the helix to where the crura part."""

OUTER_EDGE = (12027, 12028, 12050, 12053, 12052, 12166, 12051)
"""Outer edge of the ear from the tip of the lobe up to beside point 7 of the inner helix."""

Row = tuple[Anchor, str, str, float]
"""Place, method, rule, confidence."""

PLACED: dict[str, Row] = {
    "top_end_of_superior_crus": (
        mean((12313, 12087)),
        "hand placed",
        "upper end of the crest of the upper crus, under the helix",
        0.6,
    ),
    "highest_point_of_antitragus": (
        vertex(12311),
        "geometric rule",
        "crest of the antitragus where it stands out furthest",
        0.7,
    ),
    "bottom_point_of_tragus": (
        vertex(12064),
        "hand placed",
        "lower end of the free edge of the tragus, in the notch before the antitragus",
        0.7,
    ),
    "protruding_point_of_tragus": (
        vertex(12077),
        "geometric rule",
        "point of the free edge of the tragus furthest back",
        0.9,
    ),
    "top_point_of_tragus": (
        vertex(12207),
        "hand placed",
        "upper end of the free edge of the tragus, in the notch below the helix",
        0.7,
    ),
    "start_point_of_crus_of_helix": (
        mean((12274, 12282)),
        "hand placed",
        "hind end of the crus, where the helix rises from the floor of the concha",
        0.5,
    ),
    "deepest_point_of_concha": (
        vertex(12240),
        "geometric rule",
        "lowest point of the concha's cavity under the plane of the ear's edge",
        0.7,
    ),
    "tip_of_ear_lobe": (mean((12019, 12027)), "geometric rule", "lowest part of the lobe's edge", 0.8),
    "bottom_connecting_point_of_ear_lobe": (
        mean((12328, 12349)),
        "hand placed",
        "otobasion inferius: where the lobe joins the cheek",
        0.7,
    ),
    "top_connecting_point_of_helix": (
        mean((12024, 12338)),
        "hand placed",
        "otobasion superius: where the edge of the helix joins the head",
        0.8,
    ),
}


def define(model: BodyModel) -> list[KeypointDefinition]:
    """26 points an ear."""
    grown = adult(model)
    points = PLACED | _ridges(grown) | _helix(grown)
    left = [
        KeypointDefinition(f"l_{name}", method, rule, confidence, INSIDE_M, *place)
        for name, (place, method, rule, confidence) in points.items()
    ]
    return both_sides(model, left)


def _ridges(grown: BodyModel) -> dict[str, Row]:
    """The antihelix (from above: start, 2, 1, 3, end, the order that eyebrows have) and the lower crus."""
    numbers = ("start", "midpoint_2", "midpoint_1", "midpoint_3", "end")
    found: dict[str, Row] = {}
    places = along(grown, _stops(ANTIHELIX), (0, 0.25, 0.5, 0.75, 1))
    for name, place, share, sure in zip(
        numbers, places, (0, 0.25, 0.5, 0.75, 1), (0.6, 0.5, 0.6, 0.5, 0.6), strict=True
    ):
        rule = f"crest of the antihelix, {share:g} of the way from between the crura to the antitragus"
        found[f"{name}_of_antihelix"] = (place, "edge loop", rule, sure)
    for name, place, rule in zip(
        ("top_end", "midpoint_1"),
        along(grown, _stops(INFERIOR_CRUS), (0, 0.5)),
        ("end", "middle"),
        strict=True,
    ):
        rule = f"crest of the lower crus: {rule}" + (" under the helix" if name == "top_end" else "")
        found[f"{name}_of_inferior_crus"] = (place, "edge loop", rule, 0.6)
    return found


def _helix(grown: BodyModel) -> dict[str, Row]:
    """Eight even steps along the helix's inner margin, and the outer edge between lobe and point 7."""
    found: dict[str, Row] = {}
    for i, place in enumerate(along(grown, _stops(INNER_HELIX), [k / 7 for k in range(8)])):
        rule = f"inner margin of the helix, {i}/7 of the way from above its crus over the top to its tail"
        found[f"point_{i + 1}_of_inner_helix"] = (place, "edge loop", rule, 0.5)
    (between,) = along(grown, _stops(OUTER_EDGE), (0.5,))
    rule = "outer edge of the ear, halfway between the tip of the lobe and point 7 of the inner helix"
    return found | {"midpoint_between_22_15": (between, "edge loop", rule, 0.5)}


def _stops(path: Sequence[int | tuple[int, ...]]) -> list[Anchor]:
    return [vertex(stop) if isinstance(stop, int) else mean(stop) for stop in path]
