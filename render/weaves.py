"""Threads: how yarn is woven or knitted, as relief and as the shade between yarns.

Heights are metres. All structures are sums of waves of the texture coordinates, which cost little. What would
be finer than pixels fades into its mean with the distance (`filtered`), as a shader does not know how wide a
pixel is; and bump is differenced over a whole pixel (`render.fabrics`).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from render.nodes import Nodes

DARKEST, LIGHTEST = 0.01, 0.85
"""Reflectance of the blackest and the whitest cloth."""

MEAN = 0.5
"""Of a weave's shade."""

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Cloth:
    """What a pattern is drawn with: texture coordinates in metres, u across and v up, and the fabric's data.

    where: the texture coordinates as one vector, turned by the fabric's angle like u and v.
    """

    nodes: Nodes
    where: Any
    u: Any
    v: Any
    colour: Colour
    accent: Colour
    scale: float
    seed: int

    def wave(self, axis: Any, period: float) -> Any:
        """A sine in 0..1, lowest a quarter of a period below 0."""
        sine = self.nodes.math("SINE", self.nodes.math("MULTIPLY", axis, 6.2831853 / period))
        return self.nodes.math("MULTIPLY_ADD", sine, 0.5, 0.5)

    def apart(self, axis: Any, period: float) -> Any:
        """Distance from the nearest multiple of a period."""
        return self.nodes.math("PINGPONG", axis, 0.5 * period)

    def bars(self, axis: Any, period: float, width: float) -> Any:
        """1 on bars of a width around the multiples of a period, with an edge as sharp as yarn."""
        return self.nodes.ramp(self.apart(axis, period), 0.5 * width + 0.0003, 0.5 * width - 0.0003)


@dataclass(frozen=True)
class Weave:
    """A thread structure. height: metres. shade: 0 in the valleys .. 1 on top, which scales the colour by up
    to `depth`. pitch: of the threads, metres. fuzz: weight of the sheen. wrinkles: of the usual height. soft:
    whether it is knitted.
    """

    height: Any
    shade: Any
    pitch: float
    depth: float
    fuzz: float
    wrinkles: float = 1.0
    soft: bool = False


def tone(colour: Colour, gain: float, lift: float = 0.0) -> Colour:
    """A lighter or darker dye of the same hue, within what cloth reflects."""
    red, green, blue = (min(LIGHTEST, max(DARKEST, gain * c + lift)) for c in colour)
    return red, green, blue


def blend(a: Colour, b: Colour, share: float) -> Colour:
    """A dye between two, `share` of the way to b."""
    red, green, blue = ((1 - share) * x + share * y for x, y in zip(a, b, strict=True))
    return red, green, blue


def metres(nodes: Nodes, shade: Any, height: float) -> Any:
    """A relief in 0..1 as a height."""
    return nodes.math("MULTIPLY", shade, height)


def filtered(cloth: Cloth, weave: Weave) -> Weave:
    """Threads as they look from where the camera is: at 800 pitches all there, at 2000 one even tone.

    That is where a pitch takes two pixels and less of a picture a thousand pixels wide.
    """
    n = cloth.nodes
    away = n.add("ShaderNodeCameraData").outputs["View Distance"]
    seen = n.ramp(away, 2000.0 * weave.pitch, 800.0 * weave.pitch)
    off = n.math("MULTIPLY", n.math("SUBTRACT", weave.shade, MEAN), seen)
    return replace(weave, height=n.math("MULTIPLY", weave.height, seen), shade=n.math("ADD", off, MEAN))


def plain_weave(cloth: Cloth, pitch: float = 0.0011) -> Weave:
    """Over and under."""
    n = cloth.nodes
    over = n.math("SINE", n.math("MULTIPLY", cloth.u, 6.2831853 / pitch))
    under = n.math("SINE", n.math("MULTIPLY", cloth.v, 6.2831853 / pitch))
    shade = n.math("MULTIPLY_ADD", n.math("MULTIPLY", over, under), 0.5, 0.5)
    return Weave(metres(n, shade, 0.00010), shade, pitch, 0.10, 0.10)


def twill(cloth: Cloth, pitch: float = 0.0016) -> Weave:
    """Diagonal ribs, as of chinos and suits."""
    shade = cloth.wave(cloth.nodes.math("ADD", cloth.u, cloth.v), pitch)
    return Weave(metres(cloth.nodes, shade, 0.00014), shade, 0.7 * pitch, 0.12, 0.12)


def stockinette(cloth: Cloth, width: float, height: float, depth: float, fuzz: float) -> Weave:
    """Columns of V-shaped stitches."""
    n = cloth.nodes
    aside = n.math("MULTIPLY", cloth.apart(cloth.u, width), 2.0 / width)
    leg = n.math("SINE", n.math("MULTIPLY", aside, 3.14159265))
    climb = n.math("MULTIPLY_ADD", aside, -0.55 * width, cloth.v)
    stitch = n.math("MULTIPLY_ADD", cloth.wave(climb, 0.75 * width), 0.6, 0.4)
    shade = n.math("MULTIPLY", leg, stitch)
    return Weave(metres(n, shade, height), shade, 0.75 * width, depth, fuzz, 0.8, soft=True)


def jersey(cloth: Cloth) -> Weave:
    """What T-shirts are made of: stitches too fine to see but up close."""
    return stockinette(cloth, 0.0014, 0.00012, 0.10, 0.16)


def ribs(cloth: Cloth) -> Weave:
    """Knitted ribs, one repeat of the fabric each, of round wales of stitches."""
    n = cloth.nodes
    shade = n.math("POWER", cloth.wave(cloth.u, cloth.scale), 0.6)
    stitched = n.math("MULTIPLY_ADD", cloth.wave(cloth.v, 0.0024), 0.12, n.math("MULTIPLY", shade, 0.88))
    return Weave(metres(n, stitched, 0.0011), stitched, cloth.scale, 0.45, 0.25, 0.7, soft=True)


def wales(cloth: Cloth) -> Weave:
    """Corduroy: velvet cords with narrow valleys between them."""
    shade = cloth.nodes.math("POWER", cloth.wave(cloth.u, cloth.scale), 0.5)
    return Weave(metres(cloth.nodes, shade, 0.0008), shade, cloth.scale, 0.5, 0.5, 0.9)


def knit(cloth: Cloth) -> Weave:
    """Stockinette to the fabric's gauge, and ropes of cables on every third fabric."""
    plain = stockinette(cloth, cloth.scale, 0.0014, 0.5, 0.35)
    return _cabled(cloth, plain) if cloth.seed % 3 == 0 else plain


def _cabled(cloth: Cloth, ground: Weave) -> Weave:
    """Two strands that cross over each other every few centimetres, in columns of seven stitches' width."""
    n, reach = cloth.nodes, 2.6 * cloth.scale
    aside = n.math("WRAP", cloth.u, 7.5 * cloth.scale, -7.5 * cloth.scale)
    turn = n.math("MULTIPLY", cloth.v, 3.14159265 / (2.6 * reach))
    swing, front = n.math("SINE", turn), n.math("COSINE", turn)
    strands = []
    for side in (1.0, -1.0):
        off = n.math("MULTIPLY_ADD", swing, -0.5 * side * reach, aside)
        round_ = n.math("MULTIPLY_ADD", n.math("MULTIPLY", off, off), -3.4 / reach**2, 1.0)
        strands.append(n.math("MULTIPLY_ADD", front, 0.18 * side, round_))
    rope = n.math("MAXIMUM", n.math("MAXIMUM", *strands), 0.0)
    height = n.math("MULTIPLY_ADD", rope, 0.0040, ground.height)
    crossing = n.ramp(n.math("ABSOLUTE", n.math("SUBTRACT", *strands)), 0.0, 0.3)
    raised = n.math("MULTIPLY", n.math("MULTIPLY_ADD", crossing, 0.45, -0.2), n.ramp(rope, 0.0, 0.3))
    shade = n.math("MAXIMUM", n.math("MULTIPLY_ADD", ground.shade, 0.8, raised), 0.0)
    return Weave(height, shade, 3.0 * cloth.scale, ground.depth, ground.fuzz, 0.5, soft=True)


def broken_twill(cloth: Cloth) -> Weave:
    """Herringbone: columns of diagonals that lean to one side and to the other, broken where they meet."""
    n, pitch = cloth.nodes, 0.3 * cloth.scale
    column = n.math("GREATER_THAN", n.math("FRACT", n.math("DIVIDE", cloth.u, cloth.scale)), 0.5)
    climb = n.math("ADD", cloth.apart(cloth.u, cloth.scale), cloth.v)
    shade = cloth.wave(n.math("MULTIPLY_ADD", column, 0.5 * pitch, climb), pitch)
    return Weave(metres(n, shade, 0.00022), shade, pitch, 0.0, 0.3, 0.9)


def denim_twill(cloth: Cloth) -> Weave:
    """Steep ribs of the indigo warp; the pale weft shows between them (`render.patterns.denim`)."""
    n = cloth.nodes
    shade = cloth.wave(n.math("MULTIPLY_ADD", cloth.u, 1.4, cloth.v), cloth.scale)
    return Weave(metres(n, shade, 0.00018), shade, 0.6 * cloth.scale, 0.0, 0.08, 1.1)


def smooth(cloth: Cloth) -> Weave:
    """No threads: a coated cloth."""
    return Weave(metres(cloth.nodes, cloth.wave(cloth.u, 0.01), 0.0), 1.0, 1.0, 0.0, 0.0, 0.6)


PLAIN_WEAVES: tuple[Callable[[Cloth], Weave], ...] = (plain_weave, twill, jersey)


def everyday(cloth: Cloth) -> Weave:
    """What plain clothes come in, by the fabric's seed."""
    return PLAIN_WEAVES[cloth.seed % len(PLAIN_WEAVES)](cloth)
