"""Eyelids (82), eyebrows (18), iris and pupil (36): lines of the mesh around the eye, circles on the eyeball.

The base mesh has closed lines of 28 vertices around each eye, one inside the other, joined rung by rung. Of
those the lids' front edge is `LASH`, the deepest of the furrow above the upper lid `CREASE`, and the eyeball
comes out of the lids between `MARGIN` and `BACK`. Each starts at the outer corner of the eye, goes over the
upper lid to the inner corner and back under the eye. So the points keep their place on the lids in any shape
and expression.
"""

import numpy as np
from adult import adult, along
from rules import Anchor, blend, both_sides, cast, edge_loop, on_skin, vertex

from annotation.definitions import EyePoint, KeypointDefinition
from render.people.body import BodyModel
from render.people.brows import BROW, THICK

LASH = (6808, 6805)
MARGIN = (13376, 13377)
BACK = (7755, 7754)
CREASE = (6870, 6869)
"""The first two vertices of each line around the left eye: at the outer corner, and the next one upwards."""
SEEN = 0.6
"""Share of `MARGIN` in the line between it and `BACK` where people's lids meet their eyeballs."""
INNER = 14  # the inner corner's place in a line of 28

ALONG = {"midpoint_3": 1, "midpoint_1": 2, "midpoint_4": 3, "centerpoint": 4}
ALONG |= {"midpoint_5": 5, "midpoint_2": 6, "midpoint_6": 7}
"""Eighths from a line's end at the image's left, the inner one on the left eye, to the other."""

LIDS, BROW_HAIR, EYEBALL = 0.006, 0.008, 0.0008

BROW_POINTS = {
    "upper_startpoint": (0, 1),
    "lower_startpoint": (0, -1),
    "upper_midpoint_2": (1, 1),
    "lower_midpoint_2": (1, -1),
    "upper_midpoint_1": (2, 1),
    "lower_midpoint_1": (2, -1),
    "upper_midpoint_3": (3, 1),
    "lower_midpoint_3": (3, -1),
    "end": (4, 0),
}
"""Point of the left eyebrow -> knot of the line on which its hairs grow, from nose to temple, and edge."""
BROW_SHIFT = ((0, 0.0030), (0, 0.0002), (0, -0.0008), (0, -0.0005), (0.0025, -0.0010))
"""From that line's knots to the middle of the hairs, which rise from their roots: (x, z), metres."""

CLOCK = {"3": 3.0, "midpoint_1": 1.5, "12": 0.0, "midpoint_4": 10.5, "9": 9.0}
CLOCK |= {"midpoint_3": 7.5, "6": 6.0, "midpoint_2": 4.5}


def define(model: BodyModel) -> list[KeypointDefinition]:
    """Of both eyes; shares of lines are taken on the mean adult."""
    grown = adult(model)
    return both_sides(model, [*_lids(grown), *_brow(model), *_eyeball()])


def _lids(grown: BodyModel) -> list[KeypointDefinition]:
    found = []
    for lid in ("upper", "lower"):
        lash = [vertex(v) for v in _line(grown, LASH, lid)]
        rungs = zip(_line(grown, MARGIN, lid), _line(grown, BACK, lid), strict=True)
        edge = [lash[0], *(blend([vertex(m), vertex(b)], [SEEN, 1 - SEEN]) for m, b in rungs)]
        ends = {"inner_end": 0.0, "outer_end": 1.0}
        found += _points(grown, f"{lid}_lash_line", lash, ends, "front edge of the lid", 0.85)
        found += _points(grown, f"{lid}_eyelid_line", edge, {"outer_end": 1.0}, "lid at the eyeball", 0.8)
    crease = [vertex(v) for v in _line(grown, CREASE, "upper")]
    return found + _points(grown, "upper_crease_line", crease, {}, "furrow above the lid", 0.7)


def _line(grown: BodyModel, start: tuple[int, int], lid: str) -> list[int]:
    """Vertices of one lid's part of a line, from the inner to the outer corner."""
    closed = list(edge_loop(grown, *start))
    return closed[INNER::-1] if lid == "upper" else closed[INNER:]


def _points(
    grown: BodyModel,
    line: str,
    stops: list[Anchor],
    ends: dict[str, float],
    words: str,
    confidence: float,
) -> list[KeypointDefinition]:
    shares = ends | {name: eighths / 8 for name, eighths in ALONG.items()}
    places = along(grown, stops, list(shares.values()))
    return [
        on_skin(f"l_{name}_of_{line}", "edge loop", _rule(words, name, share), confidence, LIDS, place)
        for (name, share), place in zip(shares.items(), places, strict=True)
    ]


def _rule(words: str, name: str, share: float) -> str:
    return f"{words}, {name.replace('_', ' ')}" if "end" in name else f"{words}, {share * 8:.0f}/8 outwards"


def _brow(model: BodyModel) -> list[KeypointDefinition]:
    """Edges of the band of hair that `render.people.brows` grows on the template's face."""
    found = []
    for name, (knot, edge) in BROW_POINTS.items():
        x, z = np.array(BROW[knot]) + np.array(BROW_SHIFT[knot]) + (0, edge * THICK[knot])
        place = cast(model, (x, -1.0, z), (0, 1, 0))
        rule = "edge of the band of the brow's hair"
        found.append(on_skin(f"{name}_of_l_eyebrow", "geometric rule", rule, 0.6, BROW_HAIR, place))
    return found


def _eyeball() -> list[KeypointDefinition]:
    found = [_ring("l_center_of_iris", "center", 0.0), _ring("l_center_of_pupil", "center", 0.0)]
    for ring in ("iris", "pupil"):
        found += [_ring(f"l_border_of_{ring}_{name}", ring, clock) for name, clock in CLOCK.items()]
    return found


def _ring(name: str, ring: str, clock: float) -> KeypointDefinition:
    rule = "front pole of the eyeball" if ring == "center" else f"border of the {ring} at {clock:g} h"
    eye = EyePoint("l", ring, clock)
    return KeypointDefinition(name, "eyeball", rule, 0.95, EYEBALL, eye=eye)
