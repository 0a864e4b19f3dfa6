"""Sewing: hems, ribbed bands, and the marks of `render.people.trimmings`, as colour and relief.

Read off texture coordinates in metres and the attributes `edge` and `top` (distances from the nearest cut
edge, and from the neck or waist; 0 without). Shoes have no `top`: their `edge` is low in narrow rows, which
are seams.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from render.nodes import Nodes
from render.weaves import Colour, blend, tone

Mark = tuple[str, float, float, float, float]

HEM = 0.017
WAISTBAND, NECKBAND = 0.036, 0.021
PITCH = 0.0036  # of stitches
CREASE = 0.0016  # "line" marks narrower than this are pressed creases
STEEL = (0.36, 0.35, 0.34)


@dataclass(frozen=True)
class Sewn:
    """Cloth as it is sewn. height: metres. metal: how much of it is metal, or None."""

    colour: Any
    height: Any
    metal: Any = None


@dataclass(frozen=True)
class Seamstress:
    """What sewing is done with. u, v: texture coordinates in metres, at: both; edge, top: metres, or 0 where
    the surface does not say.

    dye: of the cloth; thread: of the stitches, None for a darker tone of what they are on; worn: how pale
    edges are rubbed. soft: jersey and other knits, whose necks are bound with ribs.
    """

    nodes: Nodes
    at: Any
    u: Any
    v: Any
    edge: Any
    top: Any
    dye: Colour
    thread: Colour | None
    worn: float
    soft: bool


def seamstress(
    nodes: Nodes, at: Any, uv: tuple[Any, Any], dye: Colour, pattern: str, soft: bool
) -> Seamstress:
    """Threads are ochre or white on denim, and a tone of the cloth elsewhere."""
    denim, thread = pattern == "denim", None
    if denim:
        thread = blend((0.40, 0.22, 0.07), tone(dye, 1.5, 0.1), 0.15 if sum(dye) < 0.6 else 0.75)
    elif sum(dye) < 0.15:
        thread = tone(dye, 1.6, 0.02)
    edge, top = nodes.attribute("edge"), nodes.attribute("top")
    return Seamstress(nodes, at, *uv, edge, top, dye, thread, 0.35 if denim else 0.0, soft)


def darkened(nodes: Nodes, colour: Any, where: Any, share: float) -> Any:
    """A colour less `share` of it where a mask is 1."""
    rest = nodes.math("MULTIPLY_ADD", where, -share, 1.0)
    return nodes.add("ShaderNodeVectorMath", {0: colour, "Scale": rest}, operation="SCALE").outputs[0]


def sew(tools: Seamstress, sewn: Sewn, marks: Sequence[Mark], band: float) -> Sewn:
    """Bands and stitches first, then what lies over them."""
    by_kind = {kind: [m for m in marks if m[0] == kind] for kind in ("line", "stitch", "zip")}
    creases = [m for m in by_kind["line"] if m[3] - m[1] < CREASE]
    welts = [m for m in by_kind["line"] if m not in creases]
    if band > 0:
        sewn = _ribbed(tools, sewn, band)
        if by_kind["stitch"]:
            sewn = _stitched(tools, sewn, _outline(tools, by_kind["stitch"]))
    else:
        sewn = _hemmed(tools, sewn, by_kind["stitch"])
    if creases:
        sewn = _pressed(tools, sewn, creases)
    if welts:
        sewn = _welted(tools, sewn, welts)
    for mark in by_kind["zip"]:
        sewn = _zipped(tools, sewn, mark)
    return sewn


def _stitched(tools: Seamstress, sewn: Sewn, away: Any) -> Sewn:
    """A dashed thread in a dark groove, where `away` (metres from its line) is 0."""
    n = tools.nodes
    # Dashes advance along both axes, as lines do that follow either.
    dash = n.math("PINGPONG", n.math("MULTIPLY_ADD", tools.v, 0.93, tools.u), 0.5 * PITCH)
    thread = n.math("MULTIPLY", n.ramp(away, 0.0011, 0.0004), n.ramp(dash, 0.00035, 0.0007))
    groove = n.ramp(away, 0.0032, 0.0)
    colour = darkened(n, sewn.colour, groove, 0.2)
    if tools.thread is None:
        colour = darkened(n, colour, thread, 0.35)
    else:
        colour = n.mix(n.math("MULTIPLY", thread, 0.9), colour, tools.thread)
    return replace(sewn, colour=colour)


def _hemmed(tools: Seamstress, sewn: Sewn, marks: Sequence[Mark]) -> Sewn:
    """Turned edges, stitched like the marks; below a waist or neck the seam of a band."""
    n = tools.nodes
    hem = n.math("ABSOLUTE", n.math("SUBTRACT", tools.edge, HEM))
    # On shoes, which have no top, rows dip to 1.8 cm over some millimetres only: their line is made wider.
    scale = n.math("MULTIPLY_ADD", n.math("GREATER_THAN", tools.top, 1e-6), 0.9, 0.1)
    drawn = n.math("MULTIPLY", hem, scale)
    sewn = _stitched(tools, sewn, n.math("MINIMUM", drawn, _outline(tools, marks)) if marks else drawn)
    # Relief is worked out three times over, for its slope: of all stitches, it is worth that at hems alone.
    height = n.math("MULTIPLY_ADD", n.ramp(hem, 0.0032, 0.0), -0.0006, sewn.height)
    depth = NECKBAND if tools.soft else WAISTBAND
    seam = n.ramp(n.math("ABSOLUTE", n.math("SUBTRACT", tools.top, depth)), 0.0018, 0.0003)
    colour = darkened(n, sewn.colour, seam, 0.4)
    if tools.worn:
        known = n.math("GREATER_THAN", tools.edge, 1e-6)
        rubbed = n.math("MULTIPLY", n.ramp(tools.edge, 0.004, 0.0005), known)
        colour = n.mix(n.math("MULTIPLY", rubbed, tools.worn), colour, tone(tools.dye, 1.3, 0.15))
    return replace(sewn, colour=colour, height=height)


def _ribbed(tools: Seamstress, sewn: Sewn, band: float) -> Sewn:
    """Ribs up to a seam, across the edge: along v, but at the edges of an open front along u."""
    n, pitch = tools.nodes, 0.0055
    trunk = n.math(
        "MULTIPLY",
        n.math("LESS_THAN", n.math("ABSOLUTE", tools.u), 0.14),
        n.math("GREATER_THAN", tools.v, band + 0.055),
    )
    lapel = n.math("MULTIPLY", trunk, n.math("LESS_THAN", tools.v, 0.4))
    axis = n.math(
        "ADD", n.math("MULTIPLY", lapel, tools.v), n.math("MULTIPLY", n.math("SUBTRACT", 1.0, lapel), tools.u)
    )
    rib = n.math("MULTIPLY", n.math("PINGPONG", axis, 0.5 * pitch), 2.0 / pitch)
    inside = n.ramp(tools.edge, band + 0.0006, band - 0.0006)
    valley = n.math("MULTIPLY", n.ramp(rib, 0.42, 0.05), inside)
    seam = n.ramp(n.math("ABSOLUTE", n.math("SUBTRACT", tools.edge, band)), 0.0032, 0.0)
    dark = n.math("MAXIMUM", n.math("MULTIPLY", valley, 0.5), n.math("MULTIPLY", seam, 0.45))
    low = n.math("MULTIPLY_ADD", valley, -0.0013, n.math("MULTIPLY_ADD", seam, -0.0018, sewn.height))
    return replace(sewn, colour=darkened(n, sewn.colour, dark, 0.6), height=low)


def _box(tools: Seamstress, mark: Mark) -> Any:
    """Distance outside a mark's rectangle, negative inside."""
    n, (_, u0, v0, u1, v1) = tools.nodes, mark

    def vector(operation: str, a: Any, b: Any) -> Any:
        return n.add("ShaderNodeVectorMath", {0: a, 1: b}, operation=operation).outputs[0]

    off = vector("SUBTRACT", tools.at, (0.5 * (u0 + u1), 0.5 * (v0 + v1), 0.0))
    off = vector("ABSOLUTE", off, (0.0, 0.0, 0.0))
    off = vector("SUBTRACT", off, (0.5 * abs(u1 - u0), 0.5 * abs(v1 - v0), 0.0))
    split = n.add("ShaderNodeSeparateXYZ", {0: off}).outputs
    return n.math("MAXIMUM", split[0], split[1])


def _nearest(tools: Seamstress, distances: Sequence[Any]) -> Any:
    nearest = distances[0]
    for distance in distances[1:]:
        nearest = tools.nodes.math("MINIMUM", nearest, distance)
    return nearest


def _outline(tools: Seamstress, marks: Sequence[Mark]) -> Any:
    """Distance from the nearest rectangle's outline."""
    n = tools.nodes
    return _nearest(tools, [n.math("ABSOLUTE", _box(tools, m)) for m in marks])


def _welted(tools: Seamstress, sewn: Sewn, marks: Sequence[Mark]) -> Sewn:
    """Slits with a rolled edge: pockets."""
    n = tools.nodes
    away = _nearest(tools, [_box(tools, m) for m in marks])
    slit, lip = n.ramp(away, 0.0006, -0.0006), n.ramp(away, 0.006, 0.003)
    colour = darkened(n, sewn.colour, slit, 0.65)
    height = n.math("MULTIPLY_ADD", lip, 0.0009, n.math("MULTIPLY_ADD", slit, -0.002, sewn.height))
    return replace(sewn, colour=colour, height=height)


def _pressed(tools: Seamstress, sewn: Sewn, marks: Sequence[Mark]) -> Sewn:
    """Creases of an iron: a ridge that catches the light."""
    n = tools.nodes
    ridge = n.ramp(_nearest(tools, [_box(tools, m) for m in marks]), 0.012, -0.001)
    return replace(sewn, height=n.math("MULTIPLY_ADD", ridge, 0.0022, sewn.height))


def _zipped(tools: Seamstress, sewn: Sewn, mark: Mark) -> Sewn:
    """Tape with two rows of teeth that mesh, and a seam at either side."""
    n, middle = tools.nodes, 0.5 * (mark[1] + mark[3])
    away = _box(tools, mark)
    tape, seam = n.ramp(away, 0.0004, -0.0004), n.ramp(n.math("ABSOLUTE", away), 0.0025, 0.0)
    left = n.math("LESS_THAN", tools.u, middle)
    turn = n.math("MULTIPLY_ADD", left, 0.0014, tools.v)
    row = n.ramp(n.math("PINGPONG", turn, 0.0014), 0.00075, 0.00055)
    near = n.ramp(n.math("ABSOLUTE", n.math("SUBTRACT", tools.u, middle)), 0.0030, 0.0026)
    teeth = n.math("MULTIPLY", n.math("MULTIPLY", row, near), tape)
    colour = darkened(n, sewn.colour, seam, 0.35)
    colour = n.mix(n.math("MULTIPLY", tape, 0.9), colour, tone(tools.dye, 0.45))
    height = n.math("MULTIPLY_ADD", teeth, 0.0012, n.math("MULTIPLY_ADD", seam, -0.0012, sewn.height))
    return Sewn(n.mix(teeth, colour, STEEL), height, teeth)
