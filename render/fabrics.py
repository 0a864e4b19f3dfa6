"""Shaders of what people wear: woven and knitted cloth, leather, rubber, metal. All procedural.

Shading coordinates: uv in metres for patterns and sewing, object coordinates for wrinkles and wear;
per-vertex scalars come from `Surface.attributes` by name (`edge`, `top`). Patterns are `render.patterns`,
threads `render.weaves`, seams `render.sewing`.
"""

from collections.abc import Callable
from typing import Any

from render.nodes import Nodes
from render.patterns import PATTERNS
from render.sewing import Sewn, seamstress, sew
from render.weaves import DARKEST, Cloth, blend, filtered, tone


def _object_coordinates(nodes: Nodes) -> Any:
    return nodes.add("ShaderNodeTexCoord").outputs["Object"]


def _cloth(nodes: Nodes, p: dict[str, Any]) -> tuple[Cloth, Any, tuple[Any, Any]]:
    """(what patterns are drawn with; texture coordinates as sewing sees them, not turned by the fabric's
    angle, as a vector and as u, v).
    """
    uv = nodes.add("ShaderNodeUVMap").outputs[0]
    split = nodes.add("ShaderNodeSeparateXYZ", {0: uv})
    u, v = split.outputs[0], split.outputs[1]
    where, across, along = uv, u, v
    if p["angle"]:
        turn = (0.0, 0.0, float(p["angle"]) * 0.0174532925)
        where = nodes.add("ShaderNodeMapping", {"Vector": uv, "Rotation": turn}).outputs[0]
        turned = nodes.add("ShaderNodeSeparateXYZ", {0: where})
        across, along = turned.outputs[0], turned.outputs[1]
    dye, accent = tone(tuple(p["colour"]), 1.0), tone(tuple(p["accent"]), 1.0)
    return Cloth(nodes, where, across, along, dye, accent, float(p["scale"]), int(p["seed"])), uv, (u, v)


def _wrinkles(nodes: Nodes, v: Any, seed: int, size: float) -> tuple[Any, Any]:
    """(height in metres of soft folds, a slow noise in 0..1 that they share with what else varies).

    Folds lie across the body and limbs, wander, and come and go; they are deeper at elbows (1.23 on sleeves'
    texture coordinates) and knees (-0.37).
    """

    def stretched(on: Any, factor: Any, off: Any) -> Any:
        sway = {0: on, 1: factor, 2: off}
        return nodes.add("ShaderNodeVectorMath", sway, operation="MULTIPLY_ADD").outputs[0]

    def noise(place: Any, scale: float, detail: float) -> Any:
        return nodes.add("ShaderNodeTexNoise", {"Vector": place, "Scale": scale, "Detail": detail}).outputs[0]

    away = stretched(_object_coordinates(nodes), (1.0, 1.0, 2.4), (float(seed % 97),) * 3)
    slow = noise(away, 4.5, 0.0)
    off = nodes.math("SUBTRACT", noise(stretched(slow, (0.12, 0.12, 0.45), away), 7.5, 1.0), 0.5)
    # Rounded crests: the distance from a level set, without its kink.
    crest = nodes.math("SQRT", nodes.math("MULTIPLY_ADD", off, off, 0.0016))
    elbow = nodes.math("ABSOLUTE", nodes.math("SUBTRACT", v, 1.23))
    knee = nodes.math("ABSOLUTE", nodes.math("ADD", v, 0.37))
    bend = nodes.ramp(nodes.math("MINIMUM", elbow, knee), 0.14, 0.02)
    depth = nodes.math("MULTIPLY_ADD", bend, 0.6, nodes.ramp(slow, 0.3, 0.75))
    deep = nodes.math("MULTIPLY_ADD", depth, -0.030 * size, -0.008 * size)
    return nodes.math("MULTIPLY", crest, deep), slow


def _relief(nodes: Nodes, height: Any) -> Any:
    """The bent normal of a height in metres.

    Differences reach over a whole pixel, so that threads finer than that fade instead of sparkling.
    """
    return nodes.add(
        "ShaderNodeBump", {"Height": height, "Distance": 1.0, "Strength": 1.0, "Filter Width": 1.0}
    ).outputs[0]


def _scaled(nodes: Nodes, colour: Any, factor: Any) -> Any:
    """A colour or a dye times a number."""
    return nodes.add("ShaderNodeVectorMath", {0: colour, "Scale": factor}, operation="SCALE").outputs[0]


def _not_too_dark(nodes: Nodes, colour: Any) -> Any:
    """A colour no darker than cloth can be, in seams and between yarns too."""
    floor = {0: colour, 1: (DARKEST,) * 3}
    return nodes.add("ShaderNodeVectorMath", floor, operation="MAXIMUM").outputs[0]


def _fabric(nodes: Nodes, p: dict[str, Any]) -> None:
    """A woven or knitted cloth: its pattern and threads, sewing, wrinkles, and a little uneven wear."""
    cloth, at, uv = _cloth(nodes, p)
    pattern = PATTERNS[p["pattern"]]
    weave = filtered(cloth, pattern.weave(cloth))
    wrinkled, slow = _wrinkles(nodes, uv[1], cloth.seed, weave.wrinkles)
    worn = nodes.math("MULTIPLY_ADD", slow, 0.14, 0.89 - weave.depth)
    colour = pattern.design(cloth, weave)
    colour = _scaled(nodes, colour, nodes.math("MULTIPLY_ADD", weave.shade, weave.depth, worn))
    tools = seamstress(nodes, at, uv, cloth.colour, p["pattern"], weave.soft)
    sewn = sew(tools, Sewn(colour, weave.height), p.get("marks", ()), float(p.get("band", 0.0)))
    roughness = float(p["roughness"])
    satin = max(0.0, min(1.0, (0.6 - roughness) / 0.2))
    colour = _not_too_dark(nodes, sewn.colour)
    extra = {} if sewn.metal is None else {"Metallic": sewn.metal}
    nodes.surface(
        bounced=colour,
        Base_Color=colour,
        Roughness=roughness,
        Normal=_relief(nodes, nodes.math("ADD", sewn.height, wrinkled)),
        Specular_IOR_Level=0.25 + 0.25 * satin,
        Sheen_Weight=weave.fuzz * (1.0 - satin),
        Sheen_Roughness=0.45,
        Sheen_Tint=(*blend(cloth.colour, (0.8, 0.8, 0.8), 0.5), 1.0),
        **extra,
    )


def _leather(nodes: Nodes, p: dict[str, Any]) -> None:
    """Grain, creases, a polish that is rubbed off in places, and seams."""
    cloth, at, uv = _cloth(nodes, p)
    where = _object_coordinates(nodes)
    cells = nodes.add("ShaderNodeTexVoronoi", {"Vector": where, "Scale": 420.0})
    wrinkled, slow = _wrinkles(nodes, uv[1], cloth.seed, 0.55)
    worn = nodes.ramp(nodes.noise(where, 28.0, 2.0, cloth.seed % 977), 0.45, 0.8)
    colour = nodes.mix(nodes.math("MULTIPLY", worn, 0.3), cloth.colour, tone(cloth.colour, 1.5, 0.03))
    colour = _scaled(nodes, colour, nodes.math("MULTIPLY_ADD", slow, 0.3, 0.75))
    tools = seamstress(nodes, at, uv, cloth.colour, "leather", False)
    grain = nodes.math("MULTIPLY", cells.outputs["Distance"], 0.00022)
    sewn = sew(tools, Sewn(colour, grain), p.get("marks", ()), float(p.get("band", 0.0)))
    colour = _not_too_dark(nodes, sewn.colour)
    extra = {} if sewn.metal is None else {"Metallic": sewn.metal}
    nodes.surface(
        bounced=colour,
        Base_Color=colour,
        Roughness=nodes.math("MULTIPLY_ADD", worn, 0.2, float(p["roughness"]) - 0.04),
        Specular_IOR_Level=0.5,
        Normal=_relief(nodes, nodes.math("ADD", sewn.height, wrinkled)),
        **extra,
    )


def _rubber(nodes: Nodes, p: dict[str, Any]) -> None:
    where = _object_coordinates(nodes)
    dirt = nodes.ramp(nodes.noise(where, 30.0, 4.0, p["seed"] % 971), 0.45, 0.8)
    colour = nodes.mix(
        nodes.math("MULTIPLY", dirt, 0.5), tuple(p["colour"]), tuple(0.5 * c for c in p["colour"])
    )
    nodes.surface(Base_Color=colour, Roughness=0.75, Specular_IOR_Level=0.35)


def _gloss(nodes: Nodes, p: dict[str, Any]) -> None:
    """Metal (`metallic` 1) or plastic."""
    scratched = nodes.noise(_object_coordinates(nodes), 900.0, 2.0)
    nodes.surface(
        Base_Color=tuple(p["colour"]),
        Metallic=float(p["metallic"]),
        Roughness=nodes.math("MULTIPLY_ADD", scratched, 0.1, float(p["roughness"]) - 0.05),
        Specular_IOR_Level=0.5,
    )


def _lens(nodes: Nodes, p: dict[str, Any]) -> None:
    """Tinted glass: mostly see-through, with sharp reflections that grow towards grazing angles."""
    facing = nodes.add("ShaderNodeLayerWeight", {"Blend": 0.25}).outputs["Fresnel"]
    nodes.surface(
        opacity=nodes.math("MULTIPLY_ADD", facing, 0.35, float(p["opacity"])),
        Base_Color=tuple(p["colour"]),
        Roughness=0.03,
        Specular_IOR_Level=0.5,
    )


FABRICS: dict[str, Callable[[Nodes, dict[str, Any]], None]] = {
    "fabric": _fabric,
    "leather": _leather,
    "rubber": _rubber,
    "gloss": _gloss,
    "lens": _lens,
}
"""Material kinds of clothes -> what fills their node trees; part of `render.materials.BUILDERS`."""
