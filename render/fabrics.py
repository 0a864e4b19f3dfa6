"""Shaders of what people wear: woven and knitted cloth, leather, rubber, metal. All procedural.

Shading coordinates: uv in metres for patterns, object coordinates for wear; per-vertex scalars come
from `Surface.attributes` by name (`fold`, `seam`).
"""

from collections.abc import Callable
from typing import Any

from render.nodes import Nodes


def _object_coordinates(nodes: Nodes) -> Any:
    return nodes.add("ShaderNodeTexCoord").outputs["Object"]


def _uv(nodes: Nodes) -> Any:
    return nodes.add("ShaderNodeUVMap").outputs[0]


def _pattern(nodes: Nodes, p: dict[str, Any], uv: Any) -> tuple[Any, Any]:
    """(colour, fine height) of a fabric; uv in metres."""
    colour, accent, scale = tuple(p["colour"]), tuple(p["accent"]), float(p["scale"])
    turned = nodes.add(
        "ShaderNodeMapping", {"Vector": uv, "Rotation": (0.0, 0.0, float(p["angle"]) * 0.0174532925)}
    ).outputs[0]
    split = nodes.add("ShaderNodeSeparateXYZ", {0: turned})
    u, v = split.outputs[0], split.outputs[1]

    def wave(axis: Any, period: float) -> Any:
        return nodes.math(
            "MULTIPLY_ADD", nodes.math("SINE", nodes.math("MULTIPLY", axis, 6.2831853 / period)), 0.5, 0.5
        )

    weave = nodes.math("MAXIMUM", wave(u, 0.0016), wave(v, 0.0016))
    style = p["pattern"]
    if style == "stripes":
        return nodes.mix(nodes.ramp(wave(v, scale), 0.46, 0.54), colour, accent), weave
    if style == "checks":
        across, along = nodes.ramp(wave(u, scale), 0.55, 0.62), nodes.ramp(wave(v, scale), 0.55, 0.62)
        thin = nodes.ramp(wave(v, scale * 0.5), 0.96, 0.985)
        base = nodes.mix(
            nodes.math("MULTIPLY_ADD", across, 0.5, nodes.math("MULTIPLY", along, 0.5)), colour, accent
        )
        return nodes.mix(nodes.math("MULTIPLY", thin, 0.6), base, tuple(0.5 * c for c in accent)), weave
    if style == "print":
        cells = nodes.add(
            "ShaderNodeTexVoronoi", {"Vector": turned, "Scale": 1.0 / scale, "Randomness": 0.45}
        )
        dots = nodes.ramp(cells.outputs["Distance"], 0.30, 0.27)
        return nodes.mix(dots, colour, accent), weave
    if style == "knit":
        ribs = nodes.math(
            "MULTIPLY_ADD", wave(u, scale), 0.7, nodes.math("MULTIPLY", wave(v, scale * 0.7), 0.3)
        )
        return nodes.mix(nodes.math("MULTIPLY", ribs, 0.35), colour, tuple(0.45 * c for c in colour)), ribs
    if style == "denim":
        twill = wave(nodes.math("ADD", u, v), 0.0022)
        worn = nodes.ramp(nodes.noise(turned, 7.0, 3.0, p["seed"] % 991), 0.4, 0.75)
        faded = nodes.mix(
            nodes.math("MULTIPLY", worn, 0.45), colour, tuple(min(1.0, 0.25 + 1.3 * c) for c in colour)
        )
        return nodes.mix(
            nodes.math("MULTIPLY", twill, 0.3), faded, tuple(min(1.0, c + 0.25) for c in colour)
        ), twill
    return nodes.mix(
        nodes.math("MULTIPLY", nodes.noise(turned, 30.0, 3.0, p["seed"] % 991), 0.18),
        colour,
        tuple(0.6 * c for c in colour),
    ), weave


def _fabric(nodes: Nodes, p: dict[str, Any]) -> None:
    """A woven, knitted or twilled cloth with wrinkles as bump, darker in folds (`fold`) and sewn hems
    (`seam`).
    """
    uv = _uv(nodes)
    colour, fine = _pattern(nodes, p, uv)
    where, seed = _object_coordinates(nodes), p["seed"] % 983
    stretched = nodes.add("ShaderNodeMapping", {"Vector": where, "Scale": (1.0, 1.0, 0.7)}).outputs[0]
    creases = nodes.noise(stretched, 9.0, 4.0, seed)
    ridged = nodes.math("ABSOLUTE", nodes.math("ADD", creases, -0.5))
    colour = nodes.mix(
        nodes.math("MULTIPLY", nodes.attribute("seam"), 0.5), colour, tuple(0.45 * c for c in p["colour"])
    )
    colour = nodes.mix(
        nodes.math("MULTIPLY", nodes.attribute("fold"), 0.4), colour, tuple(0.4 * c for c in p["colour"])
    )
    wrinkled = nodes.bump(ridged, 0.016, 0.6)
    node = nodes.add(
        "ShaderNodeBump",
        {
            "Height": fine,
            "Distance": 0.0006 if p["pattern"] != "knit" else 0.002,
            "Strength": 0.5,
            "Normal": wrinkled,
        },
    )
    nodes.surface(
        Base_Color=colour,
        Roughness=float(p["roughness"]),
        Normal=node.outputs[0],
        Specular_IOR_Level=0.25,
        Sheen_Weight=0.25 if p["pattern"] in ("knit", "plain") else 0.08,
        Sheen_Roughness=0.5,
    )


def _leather(nodes: Nodes, p: dict[str, Any]) -> None:
    where = _object_coordinates(nodes)
    cells = nodes.add("ShaderNodeTexVoronoi", {"Vector": where, "Scale": 420.0})
    worn = nodes.ramp(nodes.noise(where, 25.0, 3.0, p["seed"] % 977), 0.5, 0.8)
    colour = nodes.mix(
        nodes.math("MULTIPLY", worn, 0.3),
        tuple(p["colour"]),
        tuple(min(1.0, 0.03 + 1.5 * c) for c in p["colour"]),
    )
    colour = nodes.mix(
        nodes.math("MULTIPLY", nodes.attribute("seam"), 0.6), colour, tuple(0.4 * c for c in p["colour"])
    )
    nodes.surface(
        Base_Color=colour,
        Roughness=float(p["roughness"]),
        Specular_IOR_Level=0.5,
        Normal=nodes.bump(cells.outputs["Distance"], 0.0004, 0.5),
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
