"""Shaders of people: plain `Material` data -> Cycles Principled node trees. All procedural, no image
textures.

Shading coordinates: the surface's uv in metres for fabrics and hair, object coordinates elsewhere; per-vertex
scalars come from `Surface.attributes` by name. Nothing here moves a surface: bump only bends the shading.
"""

from collections.abc import Callable
from typing import Any

from render.asset_materials import ASSET_BUILDERS
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
    """Melanin and blood vary over the body; lines, pores and folds are bump; lips, make-up and nails on top.

    Masks are attributes of the surface: see `render.people.skin`.
    """
    where = _object_coordinates(nodes)
    colour = _made_up(nodes, p, _complexion(nodes, p, where))
    oily = nodes.math("MULTIPLY_ADD", nodes.attribute("oily"), -0.10, float(p["roughness"]))
    wet = nodes.math("MULTIPLY_ADD", nodes.attribute("lips"), -0.12, oily)
    broken = nodes.noise(where, 330.0, 3.0, p["seed"] % 997 + 13)
    rough = nodes.math("MULTIPLY_ADD", broken, 0.30, nodes.math("ADD", wet, -0.13))
    nodes.surface(
        Base_Color=colour,
        Roughness=rough,
        Normal=nodes.bump(_relief(nodes, p, where), 0.0012, 0.55),
        Specular_IOR_Level=0.45,
        Subsurface_Weight=0.20,
        Subsurface_Radius=(1.0, 0.34, 0.16),
        Subsurface_Scale=0.0045,
    )


def _complexion(nodes: Nodes, p: dict[str, Any], where: Any) -> Any:
    """The colour of skin without what is put on it."""
    seed, (r, g, b) = p["seed"] % 997, p["tone"]
    dark, light = (0.78 * r, 0.72 * g, 0.66 * b), (min(1.0, 1.10 * r), min(1.0, 1.12 * g), min(1.0, 1.14 * b))
    blood = (min(1.0, r * 1.04), g * 0.66, b * 0.66)
    mottled = nodes.ramp(nodes.noise(where, 22.0, 5.0, seed), 0.3, 0.72)
    fine = nodes.ramp(nodes.noise(where, 420.0, 3.0, seed + 1), 0.3, 0.7)
    patchy = nodes.ramp(nodes.noise(where, 55.0, 4.0, seed + 3), 0.30, 0.70)
    colour = nodes.mix(0.62, nodes.mix(mottled, dark, light), (r, g, b))
    colour = nodes.mix(nodes.math("MULTIPLY", fine, 0.16), colour, dark)
    flush = nodes.math("MULTIPLY", nodes.attribute("flush"), nodes.math("MULTIPLY_ADD", patchy, 0.6, 0.4))
    everywhere = nodes.math("MULTIPLY", patchy, 0.22)
    flush = nodes.math("MULTIPLY", nodes.math("ADD", flush, everywhere), float(p["redness"]))
    colour = nodes.mix(flush, colour, blood)
    colour = nodes.mix(
        nodes.math("MULTIPLY", nodes.attribute("socket"), 0.30 + 0.25 * float(p["wrinkles"])),
        colour,
        (r * 0.66, g * 0.56, b * 0.60),
    )
    colour = nodes.mix(
        nodes.math("MULTIPLY", nodes.attribute("fold"), 0.10 + 0.25 * float(p["wrinkles"])), colour, dark
    )
    pale = tuple(min(1.0, 0.55 * c + 0.45 * t) for c, t in zip((r, g, b), (0.56, 0.34, 0.25), strict=True))
    darkness = max(0.0, min(1.0, (0.45 - r) / 0.3))
    colour = nodes.mix(nodes.math("MULTIPLY", nodes.attribute("palm"), darkness), colour, pale)
    return _spotted(nodes, p, where, colour)


def _spotted(nodes: Nodes, p: dict[str, Any], where: Any, colour: Any) -> Any:
    """Freckles on the face and arms' skin, and scattered moles and age spots."""
    seed, (r, g, b) = p["seed"] % 997, p["tone"]
    brown = (r * 0.55, g * 0.40, b * 0.34)
    if p["freckles"] > 0:
        density = nodes.noise(where, 40.0, 2.0, seed + 4)
        field = nodes.math("MULTIPLY_ADD", density, 0.25, nodes.noise(where, 300.0, 2.0, seed + 5))
        share = nodes.math("MULTIPLY_ADD", nodes.attribute("face"), 0.7, 0.3)
        freckle = nodes.math("MULTIPLY", nodes.ramp(field, 0.70, 0.80), share)
        colour = nodes.mix(nodes.math("MULTIPLY", freckle, min(1.0, float(p["freckles"]))), colour, brown)
    if p["spots"] > 0:
        away = nodes.add("ShaderNodeVectorMath", {0: where, 1: (0.013 * seed,) * 3}, operation="ADD").outputs[
            0
        ]
        cells = nodes.add("ShaderNodeTexVoronoi", {"Vector": away, "Scale": 26.0})
        chosen = nodes.math("LESS_THAN", cells.outputs["Color"], 0.5 * float(p["spots"]))
        near = nodes.ramp(cells.outputs["Distance"], 0.055, 0.025)
        colour = nodes.mix(
            nodes.math("MULTIPLY", nodes.math("MULTIPLY", near, chosen), 0.75),
            colour,
            (r * 0.32, g * 0.22, b * 0.20),
        )
        blotch = nodes.ramp(nodes.noise(where, 75.0, 3.0, seed + 7), 0.62, 0.68)
        old = 0.55 * float(p["wrinkles"]) * float(p["spots"])
        colour = nodes.mix(nodes.math("MULTIPLY", blotch, old), colour, brown)
    return colour


def _made_up(nodes: Nodes, p: dict[str, Any], colour: Any) -> Any:
    """Hair's shade, nails, lips, the mouth's inside, blush and eye shadow over the complexion."""
    r, g, b = p["tone"]
    colour = nodes.mix(nodes.attribute("shade"), colour, tuple(p["shade"]))
    rouge = nodes.math("MULTIPLY", nodes.attribute("rouge"), 0.5 * float(p["blush"]))
    colour = nodes.mix(rouge, colour, (min(1.0, r * 1.05), g * 0.48, b * 0.52))
    lid = nodes.math("MULTIPLY", nodes.attribute("lid"), 0.85 * float(p["shadow"]))
    colour = nodes.mix(lid, colour, tuple(0.22 * c for c in p["lips"]))
    nail = (0.55 * r + 0.30, 0.55 * g + 0.19, 0.55 * b + 0.16)
    colour = nodes.mix(nodes.attribute("nails"), colour, nail)
    lines = nodes.math("MULTIPLY_ADD", _lip_lines(nodes), -0.35, 1.0)
    edge = nodes.math("MULTIPLY", nodes.ramp(nodes.attribute("lips"), 0.18, 0.85), 0.92)
    lips = nodes.mix(lines, tuple(0.6 * c for c in p["lips"]), tuple(p["lips"]))
    colour = nodes.mix(edge, colour, lips)
    return nodes.mix(nodes.attribute("inside"), colour, (0.13, 0.022, 0.020))


def _lip_lines(nodes: Nodes) -> Any:
    """Fine lines across the lips, 0..1."""
    place = nodes.add(
        "ShaderNodeCombineXYZ",
        {0: nodes.attribute("place_x"), 2: nodes.math("MULTIPLY", nodes.attribute("place_z"), 0.12)},
    ).outputs[0]
    return nodes.ramp(nodes.noise(place, 1100.0, 1.0, 3.0), 0.45, 0.75)


def _relief(nodes: Nodes, p: dict[str, Any], where: Any) -> Any:
    """Height in units of the bump's distance: pores, fine lines, and with age forehead lines, crow's feet and
    the folds beside the mouth.
    """
    seed, age = p["seed"] % 997, float(p["wrinkles"])
    pores = nodes.noise(where, 1300.0, 2.0, seed + 9)
    lines = nodes.math("MULTIPLY", nodes.noise(where, 130.0, 4.0, seed + 11), 0.7 + 1.3 * age)
    height = nodes.math("MULTIPLY_ADD", pores, 0.55, lines)
    height = nodes.math("MULTIPLY_ADD", nodes.attribute("fold"), -(0.15 + 1.3 * age), height)
    lip = nodes.math("MULTIPLY", nodes.attribute("lips"), _lip_lines(nodes))
    height = nodes.math("MULTIPLY_ADD", lip, -0.5, height)
    if age <= 0.02:
        return height
    x, z = nodes.attribute("place_x"), nodes.attribute("place_z")
    wander = nodes.math("MULTIPLY_ADD", nodes.noise(where, 60.0, 2.0, seed + 15), 0.010, z)
    across = nodes.math("SINE", nodes.math("MULTIPLY", wander, 6.2831853 / 0.0075))
    brow = nodes.math("MULTIPLY", nodes.ramp(across, 0.55, 1.0), nodes.attribute("forehead"))
    height = nodes.math("MULTIPLY_ADD", brow, -0.9 * age, height)
    angle = nodes.math("ARCTAN2", nodes.math("ADD", z, -0.727), nodes.math("ADD", x, -0.044))
    ray = nodes.math(
        "SINE", nodes.math("MULTIPLY_ADD", angle, 16.0, nodes.noise(where, 90.0, 2.0, seed + 17))
    )
    crow = nodes.math("MULTIPLY", nodes.ramp(ray, 0.4, 1.0), nodes.attribute("crow"))
    return nodes.math("MULTIPLY_ADD", crow, -0.9 * age, height)


def _hair(nodes: Nodes, p: dict[str, Any]) -> None:
    """A strand: `tint` is the logarithm (base 2) of its lightness, `grey` 1 where it has no pigment.

    Its two highlights, one white and one coloured by the pigment, are a coat and a specular layer.
    """
    colour = nodes.mix(nodes.attribute("grey"), tuple(p["colour"]), tuple(p["white"]))
    light = nodes.math("POWER", 2.0, nodes.math("MULTIPLY", nodes.attribute("tint"), 1.2))
    shaded = nodes.add("ShaderNodeVectorMath", {0: colour, "Scale": light}, operation="SCALE").outputs[0]
    warm = tuple(min(1.0, 0.35 + 1.6 * c) for c in p["colour"])
    nodes.surface(
        Base_Color=shaded,
        Roughness=0.38,
        Specular_IOR_Level=0.45,
        Specular_Tint=(*warm, 1.0),
    )


def _scalp(nodes: Nodes, p: dict[str, Any]) -> None:
    """Skin between strands, darker where they are `dense`."""
    speckle = nodes.ramp(nodes.noise(_object_coordinates(nodes), 1500.0, 1.0), 0.35, 0.65)
    dense = nodes.math("MULTIPLY", nodes.attribute("dense"), nodes.math("MULTIPLY_ADD", speckle, 0.3, 0.7))
    nodes.surface(
        Base_Color=nodes.mix(dense, tuple(p["shade"]), tuple(p["colour"])),
        Roughness=0.6,
        Specular_IOR_Level=0.2,
    )


def _eye(nodes: Nodes, p: dict[str, Any]) -> None:
    """`radial`: 0 at the middle of the pupil, 1 at the limbus, more on the white; `angle` around it."""
    radial = nodes.attribute("radial")
    colour = nodes.mix(nodes.ramp(radial, 0.955, 1.06), _iris(nodes, p, radial), _sclera(nodes, radial))
    nodes.surface(
        Base_Color=colour,
        Roughness=0.32,
        Coat_Weight=1.0,
        Coat_Roughness=0.015,
        Coat_IOR=1.45,
        Specular_IOR_Level=0.3,
        Subsurface_Weight=0.12,
        Subsurface_Radius=(1.0, 0.5, 0.3),
        Subsurface_Scale=0.002,
    )


def _iris(nodes: Nodes, p: dict[str, Any], radial: Any) -> Any:
    """Fibres towards the pupil, crypts, a warm collarette around it, the limbal ring and the pupil."""
    base, pupil = tuple(p["iris"]), float(p["pupil"])
    angle = nodes.attribute("angle")
    around = {0: nodes.math("COSINE", angle), 1: nodes.math("SINE", angle)}
    ring = nodes.add("ShaderNodeCombineXYZ", around | {2: nodes.math("MULTIPLY", radial, 0.45)}).outputs[0]
    fibres = nodes.noise(ring, 17.0, 4.0, 1.0)
    crypts = nodes.noise(ring, 5.0, 2.0, 4.0)
    dark, light = tuple(0.42 * c for c in base), tuple(min(1.0, 2.0 * c + 0.01) for c in base)
    iris = nodes.mix(nodes.ramp(fibres, 0.30, 0.68), dark, light)
    iris = nodes.mix(nodes.math("MULTIPLY", nodes.ramp(crypts, 0.5, 0.7), 0.45), iris, dark)
    warm = (min(1.0, 1.7 * base[0] + 0.03), min(1.0, 1.1 * base[1] + 0.012), 0.7 * base[2])
    wander = nodes.math("MULTIPLY_ADD", fibres, 0.22, nodes.math("ADD", radial, -0.11))
    collarette = nodes.ramp(wander, min(0.9, pupil + 0.30), pupil + 0.06)
    iris = nodes.mix(nodes.math("MULTIPLY", collarette, 0.6), iris, warm)
    limbus = nodes.math("MULTIPLY", nodes.ramp(radial, 0.76, 0.98), 0.85)
    iris = nodes.mix(limbus, iris, tuple(0.10 * c for c in base))
    return nodes.mix(nodes.ramp(radial, pupil * 0.94, pupil * 1.06), (0.0015, 0.0015, 0.0015), iris)


def _sclera(nodes: Nodes, radial: Any) -> Any:
    """Off-white, redder and veined away from the iris, with a grey edge beside it."""
    veins = nodes.ramp(nodes.noise(_object_coordinates(nodes), 210.0, 5.0, 2.0), 0.52, 0.70)
    away = nodes.ramp(radial, 1.15, 2.3)
    white = nodes.mix(away, (0.57, 0.545, 0.52), (0.43, 0.33, 0.30))
    share = nodes.math("MULTIPLY", veins, nodes.math("MULTIPLY_ADD", away, 0.35, 0.08))
    white = nodes.mix(share, white, (0.40, 0.16, 0.13))
    return nodes.mix(nodes.ramp(radial, 1.13, 1.0), white, (0.33, 0.33, 0.35))


def _teeth(nodes: Nodes, p: dict[str, Any]) -> None:
    """Enamel, yellower and darker here and there."""
    patchy = nodes.noise(_object_coordinates(nodes), 160.0, 2.0, 5.0)
    r, g, b = p["colour"]
    nodes.surface(
        Base_Color=nodes.mix(nodes.ramp(patchy, 0.3, 0.7), (r, g, b), (0.86 * r, 0.80 * g, 0.68 * b)),
        Roughness=0.22,
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
    **ASSET_BUILDERS,
    "hair": _hair,
    "scalp": _scalp,
    "eye": _eye,
    "teeth": _teeth,
    "tongue": _tongue,
    "scan": _scan,
}
"""Material kind -> what fills its node tree from the parameters."""
