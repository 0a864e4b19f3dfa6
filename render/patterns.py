"""Patterns of cloth by name: what is dyed, woven in and printed, as colour over texture coordinates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from render import weaves
from render.emblems import logo
from render.weaves import Cloth, Colour, Weave, blend, tone


@dataclass(frozen=True)
class Pattern:
    """design: colour, given the threads; weave: the threads."""

    design: Callable[[Cloth, Weave], Any]
    weave: Callable[[Cloth], Weave]


def solid(cloth: Cloth, weave: Weave) -> Any:
    """One dye."""
    return cloth.colour


def heather(cloth: Cloth, weave: Weave) -> Any:
    """Melange: fibres of lighter and darker dyes spun together, in short streaks along the stitches."""
    n = cloth.nodes
    streaked = n.add(
        "ShaderNodeMapping", {"Vector": cloth.where, "Scale": (1.0, 0.42, 1.0), "Location": _away(cloth)}
    ).outputs[0]
    fibres = n.ramp(_noise2(cloth, streaked, 2.2 / cloth.scale, 2.0), 0.28, 0.72)
    light, dark = blend(tone(cloth.colour, 1.0), (0.62, 0.62, 0.61), 0.30), tone(cloth.colour, 0.58)
    return n.mix(fibres, dark, light)


def stripes(cloth: Cloth, weave: Weave) -> Any:
    """Bars of the accent, as wide as the ground between them or narrower, some with a second thin bar."""
    n, style = cloth.nodes, cloth.seed % 4
    bars = cloth.bars(cloth.v, cloth.scale, cloth.scale * (0.5, 0.34, 0.25, 0.4)[style])
    if style == 3:
        shifted = n.math("ADD", cloth.v, 0.5 * cloth.scale)
        bars = n.math("MAXIMUM", bars, cloth.bars(shifted, cloth.scale, 0.1 * cloth.scale))
    return n.mix(bars, cloth.colour, cloth.accent)


def pinstripe(cloth: Cloth, weave: Weave) -> Any:
    """Single pale yarns, broken where they dive under the weft."""
    line = cloth.bars(cloth.u, cloth.scale, 0.0011)
    shown = cloth.nodes.math("MULTIPLY", line, 0.55)
    light = sum(cloth.colour) < sum(cloth.accent)
    yarn = cloth.accent if light else tone(cloth.colour, 0.35)
    return cloth.nodes.mix(shown, cloth.colour, yarn)


def gingham(cloth: Cloth, weave: Weave) -> Any:
    """Warp and weft of equal bars: both, one or neither of a dye."""
    n = cloth.nodes
    warp = cloth.bars(cloth.u, cloth.scale, 0.5 * cloth.scale)
    weft = cloth.bars(cloth.v, cloth.scale, 0.5 * cloth.scale)
    return n.mix(
        n.math("MULTIPLY", n.math("ADD", warp, weft), 0.5),
        blend(cloth.accent, (0.8, 0.8, 0.78), 0.5),
        cloth.colour,
    )


SETTS: tuple[tuple[tuple[float, str], ...], ...] = (
    ((0.0, "a"), (0.40, "d"), (0.49, "l"), (0.52, "d"), (0.62, "b"), (0.72, "a"), (0.80, "d"), (0.96, "l")),
    ((0.0, "a"), (0.26, "l"), (0.29, "a"), (0.5, "d"), (0.82, "b"), (0.86, "d")),
    ((0.0, "d"), (0.30, "b"), (0.58, "d"), (0.66, "a"), (0.82, "l"), (0.85, "a")),
    ((0.0, "a"), (0.62, "b"), (0.70, "a"), (0.76, "d"), (0.79, "a"), (0.94, "l")),
)
"""Tartans: where along half a repeat each dye of the yarn begins (ground, accent, dark, light)."""


def plaid(cloth: Cloth, weave: Weave) -> Any:
    """Tartan: warp and weft of one sett, of which a twill shows now one and now the other."""
    n, pale = cloth.nodes, max(cloth.colour, cloth.accent, key=sum)
    dyes = {
        "a": cloth.colour,
        "b": blend(cloth.accent, cloth.colour, 0.25),
        "d": tone(min(cloth.colour, cloth.accent, key=sum), 0.35),
        "l": blend(pale, (0.75, 0.72, 0.66), 0.6),
    }
    sett = tuple((at, dyes[name]) for at, name in SETTS[cloth.seed % len(SETTS)])
    warp, weft = (
        _banded(cloth, n.math("MULTIPLY", cloth.apart(axis, cloth.scale), 2.0 / cloth.scale), sett)
        for axis in (cloth.u, cloth.v)
    )
    return n.mix(n.math("MULTIPLY_ADD", weave.shade, 0.3, 0.35), warp, weft)


def _banded(cloth: Cloth, at: Any, stops: Sequence[tuple[float, Colour]]) -> Any:
    """Colours that change at places in 0..1."""
    node = cloth.nodes.add("ShaderNodeValToRGB", {0: at})
    node.color_ramp.interpolation = "CONSTANT"
    elements = node.color_ramp.elements
    elements.remove(elements[1])
    for index, (place, colour) in enumerate(stops):
        element = elements[0] if index == 0 else elements.new(place)
        element.position, element.color = place, (*colour, 1.0)
    return node.outputs[0]


def herringbone(cloth: Cloth, weave: Weave) -> Any:
    """Two yarns of near tones."""
    other = tone(cloth.colour, 0.55) if sum(cloth.colour) > 0.6 else tone(cloth.colour, 1.35, 0.07)
    shown = cloth.nodes.ramp(weave.shade, 0.25, 0.75)
    return cloth.nodes.mix(shown, cloth.colour, other)


def dots(cloth: Cloth, weave: Weave) -> Any:
    """Polka dots on a staggered grid."""
    n, half = cloth.nodes, 0.5 * cloth.scale
    across, along = cloth.apart(cloth.u, cloth.scale), cloth.apart(cloth.v, cloth.scale)
    here = _hypotenuse(cloth, across, along)
    between = _hypotenuse(cloth, n.math("SUBTRACT", half, across), n.math("SUBTRACT", half, along))
    radius = cloth.scale * (0.14, 0.2, 0.25)[cloth.seed % 3]
    inside = n.ramp(n.math("MINIMUM", here, between), radius + 0.0003, radius - 0.0003)
    return n.mix(inside, cloth.colour, cloth.accent)


def _hypotenuse(cloth: Cloth, a: Any, b: Any) -> Any:
    n = cloth.nodes
    return n.math("SQRT", n.math("MULTIPLY_ADD", a, a, n.math("MULTIPLY", b, b)))


def floral(cloth: Cloth, weave: Weave) -> Any:
    """Scattered flowers of five petals with leaves behind them, over sprigs of small blossom."""
    n = cloth.nodes
    petal = cloth.accent
    pale = blend(cloth.accent, (0.80, 0.74, 0.68), 0.55)
    leaf = blend((0.07, 0.13, 0.05), cloth.colour, 0.2) if sum(cloth.colour) > 0.5 else (0.16, 0.24, 0.11)
    small = _cells(cloth, 2.3 / cloth.scale, 0.9, 0.37)
    colour = n.mix(
        n.ramp(small.outputs["Distance"], 0.17, 0.13), cloth.colour, blend(pale, cloth.colour, 0.3)
    )
    cells = _cells(cloth, 1.0 / cloth.scale, 0.6, 0.0)
    x, y = _off(cloth, cells)
    draw = n.add("ShaderNodeSeparateColor", {0: cells.outputs["Color"]})
    radius = n.math("DIVIDE", _hypotenuse(cloth, x, y), cloth.scale)
    angle = n.math("ARCTAN2", y, x)
    angle = n.math("MULTIPLY_ADD", draw.outputs[0], 6.2831853, angle)
    size = n.math("MULTIPLY_ADD", draw.outputs[1], 0.15, 0.17)
    colour = n.mix(_leaves(cloth, radius, angle, size), colour, leaf)
    lobes = n.math("ABSOLUTE", n.math("COSINE", n.math("MULTIPLY", angle, 2.5)))
    rim = n.math("MULTIPLY", size, n.math("MULTIPLY_ADD", n.math("SQRT", lobes), 0.5, 0.5))
    out = n.math("DIVIDE", radius, rim)
    flower = n.mix(
        n.math("MULTIPLY", n.ramp(out, 0.95, 0.25), 0.5),
        n.mix(draw.outputs[2], petal, pale),
        tone(petal, 0.4),
    )
    colour = n.mix(n.ramp(out, 1.03, 0.97), colour, flower)
    return n.mix(
        n.ramp(n.math("DIVIDE", radius, size), 0.24, 0.2), colour, blend((0.62, 0.42, 0.07), petal, 0.2)
    )


def _off(cloth: Cloth, cells: Any) -> tuple[Any, Any]:
    """Metres from the middle of the cell that a place lies in."""
    middle, place = cells.outputs["Position"], cells.inputs["Vector"].links[0].from_socket
    off = cloth.nodes.add("ShaderNodeVectorMath", {0: place, 1: middle}, operation="SUBTRACT")
    split = cloth.nodes.add("ShaderNodeSeparateXYZ", {0: off.outputs[0]})
    return split.outputs[0], split.outputs[1]


def _leaves(cloth: Cloth, radius: Any, angle: Any, size: Any) -> Any:
    """Three pointed leaves that stick out from under a flower."""
    n = cloth.nodes
    aside = n.math("PINGPONG", n.math("ADD", angle, 0.6), 1.0472)
    reach = n.math("DIVIDE", radius, n.math("MULTIPLY", size, 1.75))
    width = n.math("MULTIPLY", n.math("SUBTRACT", 1.0, reach), 0.75)
    return n.ramp(n.math("SUBTRACT", width, aside), -0.02, 0.04)


def camouflage(cloth: Cloth, weave: Weave) -> Any:
    """Ragged blots of three tones over a fourth."""
    n = cloth.nodes
    wide = n.add(
        "ShaderNodeMapping", {"Vector": cloth.where, "Scale": (0.7, 1.15, 1.0), "Location": _away(cloth)}
    ).outputs[0]
    node = n.add(
        "ShaderNodeTexNoise",
        {"Vector": wide, "Scale": 2.6 / cloth.scale, "Detail": 2.0, "Roughness": 0.45},
        noise_dimensions="2D",
    )
    layers = n.add("ShaderNodeSeparateColor", {0: node.outputs["Color"]}).outputs
    red, green, blue = cloth.colour
    earth = tone((1.05 * red + 0.02, 0.78 * green + 0.01, 0.6 * blue), 0.75)
    field = tone((0.62 * red, 0.78 * green, 0.5 * blue), 0.7)
    colour = cloth.colour
    for layer, dye, share in zip(
        layers, (earth, field, tone(cloth.colour, 0.14)), (0.5, 0.52, 0.58), strict=False
    ):
        colour = n.mix(n.ramp(layer, share - 0.004, share + 0.004), colour, dye)
    return colour


def gradient(cloth: Cloth, weave: Weave) -> Any:
    """Dipped in a second dye from below, which bled upwards; sleeves from the wrist."""
    n = cloth.nodes
    sleeve = n.math("GREATER_THAN", cloth.v, 0.8)
    height = n.math("ADD", cloth.v, n.math("MULTIPLY", sleeve, n.math("MULTIPLY_ADD", cloth.v, -1.9, 1.45)))
    bled = n.math("MULTIPLY_ADD", _noise2(cloth, cloth.where, 14.0, 2.0), 0.10, height)
    return n.mix(n.ramp(bled, 0.32 - 0.5 * cloth.scale, 0.32 + 0.5 * cloth.scale), cloth.accent, cloth.colour)


def blocks(cloth: Cloth, weave: Weave) -> Any:
    """A band across the chest and the upper arms, or shoulders, or sleeves of the accent."""
    n, style = cloth.nodes, cloth.seed % 3
    sleeve = n.math("GREATER_THAN", cloth.v, 0.8)
    if style == 2:
        return n.mix(sleeve, cloth.colour, cloth.accent)
    # Sleeves count on from 1 at the shoulder, 0.5 up the trunk, downwards.
    height = n.math("ADD", cloth.v, n.math("MULTIPLY", sleeve, n.math("MULTIPLY_ADD", cloth.v, -2.0, 1.5)))
    low, high = 0.33 - 0.5 * cloth.scale, 0.33 + 0.5 * cloth.scale if style == 0 else 9.0
    above = n.ramp(height, low - 0.0003, low + 0.0003)
    below = n.ramp(height, high + 0.0003, high - 0.0003)
    return n.mix(n.math("MULTIPLY", above, below), cloth.colour, cloth.accent)


def print_(cloth: Cloth, weave: Weave) -> Any:
    """All over: rosettes of a cat's fur, brush strokes, or a grid of lozenges, by the fabric's seed."""
    return (_rosettes, _strokes, _lozenges)[cloth.seed % 3](cloth)


def _rosettes(cloth: Cloth) -> Any:
    n = cloth.nodes
    cells = _cells(cloth, 1.5 / cloth.scale, 0.75, 0.0)
    ragged = _noise2(cloth, cloth.where, 2.6 / cloth.scale, 1.0)
    out = n.math("MULTIPLY_ADD", n.math("SUBTRACT", ragged, 0.5), 0.55, cells.outputs["Distance"])
    colour = n.mix(n.ramp(out, 0.42, 0.38), cloth.colour, tone(min(cloth.colour, cloth.accent, key=sum), 0.2))
    return n.mix(n.ramp(out, 0.24, 0.20), colour, blend(cloth.colour, cloth.accent, 0.65))


def _strokes(cloth: Cloth) -> Any:
    n = cloth.nodes
    bent = n.math(
        "MULTIPLY_ADD", _noise2(cloth, cloth.where, 0.7 / cloth.scale, 1.0), 3.2 * cloth.scale, cloth.v
    )
    ends = n.ramp(_noise2(cloth, cloth.where, 1.1 / cloth.scale, 1.0, 5.0), 0.47, 0.50)
    strokes = n.math("MULTIPLY", cloth.bars(bent, 1.1 * cloth.scale, 0.3 * cloth.scale), ends)
    colour = n.mix(strokes, cloth.colour, cloth.accent)
    between = cloth.bars(n.math("ADD", bent, 0.5 * cloth.scale), 1.1 * cloth.scale, 0.12 * cloth.scale)
    thin = n.math("MULTIPLY", between, n.math("SUBTRACT", 1.0, ends))
    return n.mix(thin, colour, blend(cloth.accent, (0.7, 0.68, 0.62), 0.5))


def _lozenges(cloth: Cloth) -> Any:
    n = cloth.nodes
    across, along = cloth.apart(cloth.u, cloth.scale), cloth.apart(cloth.v, 1.4 * cloth.scale)
    out = n.math("DIVIDE", n.math("MULTIPLY_ADD", along, 1.0 / 1.4, across), cloth.scale)
    stops = (
        (0.0, cloth.accent),
        (0.13, cloth.colour),
        (0.24, blend(cloth.accent, cloth.colour, 0.5)),
        (0.36, cloth.colour),
        (0.44, cloth.accent),
        (0.56, cloth.colour),
        (0.86, tone(cloth.accent, 0.5)),
    )
    return _banded(cloth, out, stops)


def denim(cloth: Cloth, weave: Weave) -> Any:
    """Indigo over a pale weft: uneven yarn along the warp, washed out on thighs and wherever it is rubbed."""
    n = cloth.nodes
    streaked = n.add(
        "ShaderNodeMapping", {"Vector": cloth.where, "Scale": (1.0, 0.06, 1.0), "Location": _away(cloth)}
    ).outputs[0]
    slub = n.math("MULTIPLY_ADD", _noise2(cloth, streaked, 700.0, 1.0), 0.22, -0.11)
    rubbed = n.ramp(_noise2(cloth, cloth.where, 9.0, 2.0), 0.35, 0.75)
    thigh = n.math(
        "MULTIPLY",
        n.ramp(n.math("ABSOLUTE", n.math("SUBTRACT", cloth.u, 4.0)), 0.12, 0.01),
        n.ramp(n.math("ABSOLUTE", n.math("ADD", cloth.v, 0.27)), 0.23, 0.04),
    )
    washed = 0.2 + 0.38 * (cloth.seed % 7) / 6.0
    worn = n.math("MULTIPLY", n.math("MAXIMUM", n.math("MULTIPLY", rubbed, 0.16), thigh), washed)
    pale = blend(tone(cloth.colour, 1.2), (0.52, 0.56, 0.60), 0.45)
    weft = n.math("MULTIPLY_ADD", weave.shade, -0.16, n.math("ADD", slub, 0.2))
    return n.mix(n.math("ADD", worn, weft), tone(cloth.colour, 0.85), pale)


def _away(cloth: Cloth) -> Colour:
    """Where in the noise a fabric lies, by its seed."""
    return 0.37 * (cloth.seed % 101), 0.53 * (cloth.seed % 89), 0.0


def _noise2(cloth: Cloth, where: Any, scale: float, detail: float, shift: float = 0.0) -> Any:
    """Noise over the cloth in 0..1; two dimensions cost half of three."""
    place = where
    if shift:
        place = cloth.nodes.add("ShaderNodeVectorMath", {0: where, 1: (shift, shift, 0.0)}).outputs[0]
    return cloth.nodes.add(
        "ShaderNodeTexNoise", {"Vector": place, "Scale": scale, "Detail": detail}, noise_dimensions="2D"
    ).outputs[0]


def _cells(cloth: Cloth, scale: float, randomness: float, shift: float) -> Any:
    """A Voronoi node over the cloth; its Position is in the space of its own Vector."""
    x, y, _ = _away(cloth)
    place = cloth.nodes.add("ShaderNodeVectorMath", {0: cloth.where, 1: (x + shift, y, 0.0)}).outputs[0]
    return cloth.nodes.add(
        "ShaderNodeTexVoronoi",
        {"Vector": place, "Scale": scale, "Randomness": randomness},
        voronoi_dimensions="2D",
    )


PATTERNS: dict[str, Pattern] = {
    "plain": Pattern(solid, weaves.everyday),
    "heather": Pattern(heather, weaves.jersey),
    "stripes": Pattern(stripes, weaves.jersey),
    "pinstripe": Pattern(pinstripe, weaves.plain_weave),
    "checks": Pattern(gingham, weaves.plain_weave),
    "plaid": Pattern(plaid, weaves.twill),
    "herringbone": Pattern(herringbone, weaves.broken_twill),
    "dots": Pattern(dots, weaves.plain_weave),
    "floral": Pattern(floral, weaves.plain_weave),
    "camouflage": Pattern(camouflage, weaves.twill),
    "gradient": Pattern(gradient, weaves.plain_weave),
    "blocks": Pattern(blocks, weaves.jersey),
    "logo": Pattern(logo, weaves.jersey),
    "print": Pattern(print_, weaves.plain_weave),
    "knit": Pattern(solid, weaves.knit),
    "ribs": Pattern(solid, weaves.ribs),
    "corduroy": Pattern(solid, weaves.wales),
    "denim": Pattern(denim, weaves.denim_twill),
    "leather": Pattern(solid, weaves.smooth),
    "rubber": Pattern(solid, weaves.smooth),
}
"""Every name of `render.people.palette.SCALES`; leather proper is a kind of its own."""
