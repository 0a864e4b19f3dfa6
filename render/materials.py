"""Shaders of people: plain `Material` data -> Cycles Principled node trees. All procedural, no image
textures.

Shading coordinates: the surface's uv in metres for fabrics and hair, object coordinates elsewhere; per-vertex
scalars come from `Surface.attributes` by name. Nothing here moves a surface: bump only bends the shading.
"""

from collections.abc import Callable
from typing import Any

from render.fabrics import FABRICS
from render.nodes import Nodes
from render.person import Material
from shards.errors import VitruvianError
from shards.sample import digest_json


def build_material(material: Material) -> Any:
    """The bpy material of a plain one; equal data gives the same datablock while it lives.

    Raises VitruvianError for an unknown kind.
    """
    import bpy

    if material.kind not in BUILDERS:
        raise VitruvianError(f"materials: unknown kind {material.kind!r}; expected one of {sorted(BUILDERS)}")
    name = f"{material.kind}-{digest_json({'kind': material.kind, 'params': dict(material.params)})[:16]}"
    if name in bpy.data.materials:
        return bpy.data.materials[name]
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    made.cycles.use_bump_map_correction = False
    BUILDERS[material.kind](Nodes(made.node_tree), dict(material.params))
    return made


def _object_coordinates(nodes: Nodes) -> Any:
    return nodes.add("ShaderNodeTexCoord").outputs["Object"]


def _uv(nodes: Nodes) -> Any:
    return nodes.add("ShaderNodeUVMap").outputs[0]


def _skin(nodes: Nodes, p: dict[str, Any]) -> None:
    """Tone with mottling, flush where `flush`, lips, freckles, shaved-hair shade, nails; pores as bump;
    subsurface.
    """
    where, seed = _object_coordinates(nodes), p["seed"] % 997
    tone = tuple(p["tone"])
    dark = tuple(0.72 * c for c in tone)
    light = tuple(min(1.0, 1.12 * c) for c in tone)
    flushed = (min(1.0, tone[0] * 1.08), tone[1] * 0.70, tone[2] * 0.72)
    colour = nodes.mix(nodes.ramp(nodes.noise(where, 14.0, 4.0, seed), 0.35, 0.7), dark, light)
    colour = nodes.mix(0.55, colour, tone)
    patchy = nodes.ramp(nodes.noise(where, 9.0, 3.0, seed + 3), 0.25, 0.75)
    flush = nodes.math("MULTIPLY", nodes.attribute("flush"), nodes.math("MULTIPLY_ADD", patchy, 0.5, 0.5))
    colour = nodes.mix(nodes.math("MULTIPLY", flush, float(p["redness"])), colour, flushed)
    freckle = nodes.ramp(nodes.noise(where, 260.0, 1.0, seed + 5), 0.62, 0.7)
    face = nodes.math("MULTIPLY", nodes.attribute("face"), float(p["freckles"]) * 0.6)
    colour = nodes.mix(
        nodes.math("MULTIPLY", freckle, face), colour, (tone[0] * 0.6, tone[1] * 0.45, tone[2] * 0.4)
    )
    colour = nodes.mix(nodes.attribute("shade"), colour, tuple(p["shade"]))
    colour = nodes.mix(
        nodes.attribute("nails"), colour, (tone[0] * 0.9 + 0.08, tone[1] * 0.8 + 0.06, tone[2] * 0.8 + 0.06)
    )
    colour = nodes.mix(nodes.attribute("lips"), colour, tuple(p["lips"]))
    colour = nodes.mix(nodes.attribute("inside"), colour, (0.16, 0.03, 0.03))
    pores = nodes.noise(where, 900.0, 1.0, seed + 9)
    lines = nodes.math("MULTIPLY", nodes.noise(where, 70.0, 4.0, seed + 11), 1.0 + 3.0 * float(p["wrinkles"]))
    height = nodes.math("MULTIPLY_ADD", lines, 0.6, pores)
    shiny = nodes.math("MULTIPLY_ADD", nodes.attribute("lips"), -0.14, float(p["roughness"]))
    rough = nodes.math(
        "MULTIPLY_ADD", nodes.noise(where, 40.0, 2.0, seed + 13), 0.16, nodes.math("ADD", shiny, -0.08)
    )
    nodes.surface(
        Base_Color=colour,
        Roughness=rough,
        Normal=nodes.bump(height, 0.0005, 0.5),
        Specular_IOR_Level=0.42,
        Subsurface_Weight=0.22,
        Subsurface_Radius=(1.0, 0.35, 0.18),
        Subsurface_Scale=0.006,
    )


def _hair(nodes: Nodes, p: dict[str, Any]) -> None:
    """Locks: streaks along v of the uv (u across the lock, metres), darker at the root, some grey strands."""
    uv = _uv(nodes)
    split = nodes.add("ShaderNodeSeparateXYZ", {0: uv})
    streaky = nodes.add(
        "ShaderNodeCombineXYZ",
        {0: nodes.math("MULTIPLY", split.outputs[0], 1.0), 1: nodes.math("MULTIPLY", split.outputs[1], 0.04)},
    ).outputs[0]
    fine = nodes.noise(streaky, 1400.0, 2.0, p["seed"] % 967)
    broad = nodes.noise(streaky, 300.0, 2.0, p["seed"] % 953)
    base = tuple(p["colour"])
    colour = nodes.mix(
        nodes.ramp(fine, 0.3, 0.7), tuple(0.45 * c for c in base), tuple(min(1.0, 1.7 * c) for c in base)
    )
    tint = nodes.attribute("tint")
    colour = nodes.mix(nodes.math("MULTIPLY", tint, 0.5), colour, tuple(0.45 * c for c in base))
    grey = nodes.ramp(
        nodes.math("MULTIPLY_ADD", broad, 0.5, nodes.math("MULTIPLY", fine, 0.5)),
        0.72 - 0.55 * float(p["grey"]),
        0.78 - 0.5 * float(p["grey"]),
    )
    colour = nodes.mix(
        nodes.math("MULTIPLY", grey, min(1.0, 2.2 * float(p["grey"]))), colour, (0.27, 0.265, 0.255)
    )
    nodes.surface(
        Base_Color=colour,
        Roughness=0.52,
        Specular_IOR_Level=0.3,
        Anisotropic=0.5,
        Normal=nodes.bump(fine, 0.0012, 0.8),
        Sheen_Weight=0.1,
    )


def _eye(nodes: Nodes, p: dict[str, Any]) -> None:
    """`radial`: 0 at the middle of the pupil, 1 at the limbus, more on the white."""
    radial = nodes.attribute("radial")
    angle = nodes.attribute("angle")
    fibres = nodes.add(
        "ShaderNodeCombineXYZ",
        {0: nodes.math("MULTIPLY", angle, 9.0), 1: nodes.math("MULTIPLY", radial, 1.2)},
    ).outputs[0]
    streak = nodes.noise(fibres, 6.0, 3.0, 1.0)
    iris = nodes.mix(
        nodes.ramp(streak, 0.35, 0.7),
        tuple(0.5 * c for c in p["iris"]),
        tuple(min(1.0, 1.8 * c) for c in p["iris"]),
    )
    ring = nodes.ramp(radial, 0.8, 1.0)
    iris = nodes.mix(nodes.math("MULTIPLY", ring, 0.85), iris, tuple(0.15 * c for c in p["iris"]))
    pupil = nodes.ramp(radial, float(p["pupil"]) * 0.92, float(p["pupil"]) * 1.08)
    iris = nodes.mix(pupil, (0.002, 0.002, 0.002), iris)
    veins = nodes.ramp(nodes.noise(_object_coordinates(nodes), 160.0, 4.0, 2.0), 0.52, 0.72)
    white = nodes.mix(nodes.math("MULTIPLY", veins, 0.35), (0.62, 0.585, 0.55), (0.52, 0.30, 0.26))
    nodes.surface(
        Base_Color=nodes.mix(nodes.ramp(radial, 0.97, 1.1), iris, white),
        Roughness=0.3,
        Coat_Weight=1.0,
        Coat_Roughness=0.02,
        Specular_IOR_Level=0.4,
    )


def _teeth(nodes: Nodes, p: dict[str, Any]) -> None:
    nodes.surface(
        Base_Color=tuple(p["colour"]),
        Roughness=0.25,
        Subsurface_Weight=0.15,
        Subsurface_Radius=(0.6, 0.5, 0.4),
        Subsurface_Scale=0.003,
    )


def _tongue(nodes: Nodes, p: dict[str, Any]) -> None:
    bumpy = nodes.noise(_object_coordinates(nodes), 500.0, 2.0, 3.0)
    nodes.surface(Base_Color=tuple(p["colour"]), Roughness=0.35, Normal=nodes.bump(bumpy, 0.0006))


def _scan(nodes: Nodes, p: dict[str, Any]) -> None:
    """Textures, or per-vertex colours, of a scan.

    Nodes called `part_id` and `quality` hold the labels where the scan has them in texture space; a label's
    texel is looked up without filtering.
    """
    colour: Any = tuple(p["base_colour"])
    if p["colour"]:
        colour = _texture(nodes, p["colour"], "sRGB").outputs["Color"]
    elif p["vertex_colour"]:
        channels = {i: nodes.attribute(name) for i, name in enumerate(("col_r", "col_g", "col_b"))}
        colour = nodes.add("ShaderNodeCombineColor", channels, mode="RGB").outputs[0]
    inputs = {"Base_Color": colour, "Roughness": _scan_roughness(nodes, p), "Specular_IOR_Level": 0.4}
    if p["normal_map"]:
        texel = _texture(nodes, p["normal_map"], "Non-Color").outputs["Color"]
        inputs["Normal"] = nodes.add("ShaderNodeNormalMap", {"Color": texel}, space="TANGENT").outputs[0]
    nodes.surface(**inputs)
    if p["parts"]:
        texel = _texture(nodes, p["parts"], "Non-Color", "Closest").outputs["Color"]
        value = nodes.math("MULTIPLY", texel, 255.0)
        nodes.add("ShaderNodeMath", {0: value}, operation="ROUND", name="part_id")
    if p["quality"]:
        texel = _texture(nodes, p["quality"], "Non-Color", "Closest").outputs["Color"]
        nodes.add("ShaderNodeMath", {0: texel, 1: 0.5 / 255}, operation="GREATER_THAN", name="quality")
    elif p["trusted_attribute"]:
        trusted = nodes.attribute(p["trusted_attribute"])
        nodes.add("ShaderNodeMath", {0: trusted, 1: 0.999}, operation="GREATER_THAN", name="quality")


def _scan_roughness(nodes: Nodes, p: dict[str, Any]) -> Any:
    """A constant, or a texture: its green channel (glTF), its grey value, or 1 - gloss."""
    if isinstance(p["roughness"], float):
        return p["roughness"]
    texel = _texture(nodes, p["roughness"], "Non-Color").outputs["Color"]
    if p["roughness_channel"] == "green":
        return nodes.add("ShaderNodeSeparateColor", {0: texel}, mode="RGB").outputs[1]
    return nodes.math("SUBTRACT", 1.0, texel) if p["roughness_channel"] == "gloss" else texel


def _texture(nodes: Nodes, path: str, colour_space: str, interpolation: str = "Linear") -> Any:
    """An image over the surface's texture coordinates, loaded once per path and colour space.

    Those of scans that have left the scene go when another is loaded: a worker sees hundreds.
    """
    import bpy

    name = f"scan-{digest_json(path)[:24]}-{colour_space}"
    image = bpy.data.images.get(name)
    if image is None:
        for left in [i for i in bpy.data.images if i.users == 0 and i.name.startswith("scan-")]:
            bpy.data.images.remove(left)
        image = bpy.data.images.load(path)
        image.name, image.alpha_mode = name, "CHANNEL_PACKED"
        image.colorspace_settings.name = colour_space
    texture = nodes.add("ShaderNodeTexImage", {"Vector": _uv(nodes)}, interpolation=interpolation)
    texture.image = image
    return texture


BUILDERS: dict[str, Callable[[Nodes, dict[str, Any]], None]] = {
    "skin": _skin,
    **FABRICS,
    "hair": _hair,
    "eye": _eye,
    "teeth": _teeth,
    "tongue": _tongue,
    "scan": _scan,
}
"""Material kind -> what fills its node tree from the parameters."""
