"""Emblems printed on the chest: procedural signs and words, drawn in units of their own size."""

from typing import Any

from render.weaves import Cloth, Weave, blend

HEIGHT = 0.39
"""Of an emblem's middle up the front panel, metres of texture coordinates; its u is 0."""


def logo(cloth: Cloth, weave: Weave) -> Any:
    """A sign, a word below it, or both, in the accent; every third one small and on the left breast."""
    n, seed = cloth.nodes, cloth.seed
    sign, worded = (_sun, _star, _chevrons, None)[seed % 4], (seed // 4) % 3 != 0
    small = (seed // 16) % 3 == 0
    size = 0.03 if small else max(0.07, min(0.105, cloth.scale))
    middle = HEIGHT + (0.02 if small else 0.0)
    x = n.math("MULTIPLY_ADD", cloth.u, 1.0 / size, -(0.075 if small else 0.0) / size)
    y = n.math("MULTIPLY_ADD", cloth.v, 1.0 / size, -middle / size)
    colour: Any = cloth.colour
    if sign is not None:
        colour = n.mix(sign(cloth, x, y), colour, cloth.accent)
    if worded or sign is None:
        below = n.math("ADD", y, 1.42) if sign is not None else y
        ink = blend(cloth.accent, cloth.colour, 0.0 if sign is None else 0.15)
        colour = n.mix(_word(cloth, x, below), colour, ink)
    return colour


def _inside(cloth: Cloth, distance: Any, limit: float) -> Any:
    """1 where a distance is below a limit."""
    return cloth.nodes.ramp(distance, limit + 0.006, limit - 0.006)


def _polar(cloth: Cloth, x: Any, y: Any) -> tuple[Any, Any]:
    """(radius, angle from straight up)."""
    n = cloth.nodes
    radius = n.math("SQRT", n.math("MULTIPLY_ADD", x, x, n.math("MULTIPLY", y, y)))
    return radius, n.math("ARCTAN2", x, y)


def _sun(cloth: Cloth, x: Any, y: Any) -> Any:
    """A disc that sets into bars."""
    n = cloth.nodes
    radius, _ = _polar(cloth, x, y)
    bar = _inside(cloth, n.math("PINGPONG", y, 0.13), 0.085)
    upper = n.ramp(y, -0.07, -0.06)
    return n.math("MULTIPLY", _inside(cloth, radius, 0.95), n.math("MAXIMUM", bar, upper))


def _star(cloth: Cloth, x: Any, y: Any) -> Any:
    """A star in a ring. Its edge from tip to notch is a straight line in each tenth of the turn."""
    n = cloth.nodes
    radius, angle = _polar(cloth, x, y)
    aside = n.math("PINGPONG", angle, 0.62831853)
    slope = n.math(
        "MULTIPLY_ADD", n.math("COSINE", aside), 0.325, n.math("MULTIPLY", n.math("SINE", aside), 0.945)
    )
    star = _inside(cloth, n.math("MULTIPLY", radius, slope), 0.215)
    ring = _inside(cloth, n.math("ABSOLUTE", n.math("SUBTRACT", radius, 0.86)), 0.08)
    return n.math("MAXIMUM", star, ring)


def _chevrons(cloth: Cloth, x: Any, y: Any) -> Any:
    """Three angles above each other, like a mountain range."""
    n = cloth.nodes
    aside = n.math("ABSOLUTE", x)
    climb = n.math("MULTIPLY_ADD", aside, 0.8, y)
    bar = _inside(cloth, n.math("PINGPONG", climb, 0.22), 0.12)
    within = _inside(cloth, n.math("ABSOLUTE", n.math("SUBTRACT", climb, 0.22)), 0.66)
    return n.math("MULTIPLY", n.math("MULTIPLY", bar, within), _inside(cloth, aside, 0.9))


def _word(cloth: Cloth, x: Any, y: Any) -> Any:
    """Letters of one upright each, with another and three bars drawn by lot, as of E, H, P, U."""
    n, letters = cloth.nodes, 4 + cloth.seed % 5
    pitch = 2.3 / letters
    column = n.math("MULTIPLY_ADD", x, 1.0 / pitch, 0.5 * letters)
    index = n.math("FLOOR", column)
    lot = n.add(
        "ShaderNodeTexWhiteNoise", {"W": n.math("ADD", index, 0.5 + cloth.seed % 907)}, noise_dimensions="1D"
    )
    chance = n.add("ShaderNodeSeparateColor", {0: lot.outputs["Color"]}).outputs
    at, height = n.math("FRACT", column), 0.42 * min(1.0, 1.25 * pitch)
    rise = n.math("DIVIDE", y, height)

    def stroke(axis: Any, place: float, half: float, drawn: Any) -> Any:
        near = n.ramp(n.math("ABSOLUTE", n.math("SUBTRACT", axis, place)), half + 0.03, half - 0.03)
        return near if drawn is None else n.math("MULTIPLY", near, drawn)

    right, top, low = (n.math("GREATER_THAN", c, 0.4) for c in chance)
    marks = [stroke(at, 0.2, 0.1, None), stroke(at, 0.7, 0.1, right), stroke(rise, 0.87, 0.13, top)]
    marks += [
        stroke(rise, -0.87, 0.13, low),
        stroke(rise, 0.0, 0.13, n.math("LESS_THAN", lot.outputs["Value"], 0.6)),
    ]
    ink = marks[0]
    for mark in marks[1:]:
        ink = n.math("MAXIMUM", ink, mark)
    within = n.math("MULTIPLY", n.math("LESS_THAN", at, 0.8), n.math("GREATER_THAN", at, 0.1))
    line = n.math(
        "MULTIPLY", _inside(cloth, n.math("ABSOLUTE", rise), 1.0), _inside(cloth, n.math("ABSOLUTE", x), 1.15)
    )
    return n.math("MULTIPLY", n.math("MULTIPLY", ink, within), line)
