"""Shaders of assets: textured cloth and hair, photographic skin, and hair cards without a texture.

A material names its asset and the digest of its bytes, never a path: whoever finds the asset says where its
textures lie on this machine (`publish`), and the shader looks them up when it is built.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from render.nodes import Nodes
from shards.errors import VitruvianError

_SUBSURFACE = {"Subsurface_Radius": (1.0, 0.35, 0.18), "Subsurface_Scale": 0.006}


@dataclass(frozen=True)
class Textures:
    """Where an asset's images lie on this machine."""

    diffuse: Path
    normal: Path | None


_PUBLISHED: dict[str, Textures] = {}  # by the asset's digest


def publish(sha256: str, diffuse: Path, normal: Path | None) -> None:
    """Says where the textures of the asset with this digest lie; their bytes are part of the digest."""
    _PUBLISHED[sha256] = Textures(diffuse, normal)


def published(asset: str, sha256: str) -> Textures:
    """The textures of an asset. Raises VitruvianError when nobody has found them in this process."""
    if sha256 not in _PUBLISHED:
        raise VitruvianError(
            f"textures of asset {asset} ({sha256[:12]}): expected to be found before the material is built; "
            "got none: build the person in this process, with the asset folder named (--asset-folder)"
        )
    return _PUBLISHED[sha256]


def _image(nodes: Nodes, path: Path, sha256: str, colour_space: str) -> Any:
    """A texture over the surface's uv, loaded once while it is used."""
    import bpy

    name = f"asset-{sha256[:24]}-{colour_space}-{path.name}"[:60]
    image = bpy.data.images.get(name)
    if image is None:
        for left in [i for i in bpy.data.images if i.users == 0 and i.name.startswith("asset-")]:
            bpy.data.images.remove(left)
        image = bpy.data.images.load(str(path))
        image.name, image.alpha_mode = name, "CHANNEL_PACKED"
        image.colorspace_settings.name = colour_space
    uv = nodes.add("ShaderNodeUVMap").outputs[0]
    texture = nodes.add("ShaderNodeTexImage", {"Vector": uv})
    texture.image = image
    return texture


def _has_alpha(texture: Any) -> bool:
    """Whether the image has an alpha channel at all."""
    return int(texture.image.depth) in (32, 64, 128)


def _textured(nodes: Nodes, p: dict[str, Any]) -> None:
    """Colour, alpha as opacity, and tangent-space normals of an asset's own images."""
    found = published(p["asset"], p["sha256"])
    colour = _image(nodes, found.diffuse, p["sha256"], "sRGB")
    inputs: dict[str, Any] = {
        "Base_Color": nodes.mix(0.0, colour.outputs["Color"], (1.0, 1.0, 1.0)),
        "Roughness": float(p["roughness"]),
        "Specular_IOR_Level": 0.3,
    }
    if found.normal is not None:
        texel = _image(nodes, found.normal, p["sha256"], "Non-Color").outputs["Color"]
        inputs["Normal"] = nodes.add("ShaderNodeNormalMap", {"Color": texel}, space="TANGENT").outputs[0]
    nodes.surface(opacity=colour.outputs["Alpha"] if _has_alpha(colour) else None, **inputs)


def _photo_skin(nodes: Nodes, p: dict[str, Any]) -> None:
    """A photograph's colours with procedural pores, roughness and subsurface."""
    found, seed = published(p["asset"], p["sha256"]), p["seed"] % 997
    where = nodes.add("ShaderNodeTexCoord").outputs["Object"]
    pores = nodes.noise(where, 900.0, 1.0, seed + 9)
    lines = nodes.math("MULTIPLY", nodes.noise(where, 70.0, 4.0, seed + 11), 1.0 + 3.0 * float(p["wrinkles"]))
    height = nodes.math("MULTIPLY_ADD", lines, 0.6, pores)
    shiny = nodes.math("MULTIPLY_ADD", nodes.attribute("lips"), -0.14, float(p["roughness"]))
    rough = nodes.math("MULTIPLY_ADD", nodes.noise(where, 40.0, 2.0, seed + 13), 0.16, shiny)
    nodes.surface(
        Base_Color=_image(nodes, found.diffuse, p["sha256"], "sRGB").outputs["Color"],
        Roughness=nodes.math("ADD", rough, -0.08),
        Normal=nodes.bump(height, 0.0005, 0.5),
        Specular_IOR_Level=0.42,
        Subsurface_Weight=0.22,
        **_SUBSURFACE,
    )


def _hair_cards(nodes: Nodes, p: dict[str, Any]) -> None:
    """Strands along v (uv in metres); towards the `tip` of a card (0..1) the gaps between them open."""
    split = nodes.add("ShaderNodeSeparateXYZ", {0: nodes.add("ShaderNodeUVMap").outputs[0]})
    along = nodes.math("MULTIPLY", split.outputs[1], 0.03)
    strands = nodes.add("ShaderNodeCombineXYZ", {0: split.outputs[0], 1: along}).outputs[0]
    fine = nodes.noise(strands, 1100.0, 2.0, p["seed"] % 967)
    broad = nodes.noise(strands, 260.0, 2.0, p["seed"] % 953)
    base = tuple(p["colour"])
    bright, dark = tuple(min(1.0, 1.7 * c) for c in base), tuple(0.4 * c for c in base)
    colour = nodes.mix(nodes.ramp(fine, 0.3, 0.7), dark, bright)
    colour = nodes.mix(nodes.math("MULTIPLY", nodes.ramp(broad, 0.35, 0.65), 0.45), colour, dark)
    grey = nodes.ramp(broad, 0.72 - 0.55 * float(p["grey"]), 0.78 - 0.5 * float(p["grey"]))
    share = nodes.math("MULTIPLY", grey, min(1.0, 2.2 * float(p["grey"])))
    locks = nodes.math("MULTIPLY_ADD", broad, 0.65, nodes.math("MULTIPLY", fine, 0.35))
    bare = nodes.math("MULTIPLY_ADD", nodes.attribute("tip"), 0.62, 0.0)
    nodes.surface(
        opacity=nodes.ramp(nodes.math("SUBTRACT", locks, bare), 0.0, 0.03),
        Base_Color=nodes.mix(share, colour, (0.27, 0.265, 0.255)),
        Roughness=0.45,
        Specular_IOR_Level=0.35,
        Anisotropic=0.5,
        Normal=nodes.bump(nodes.math("MULTIPLY_ADD", broad, 1.6, fine), 0.002, 0.8),
    )


ASSET_BUILDERS: dict[str, Callable[[Nodes, dict[str, Any]], None]] = {
    "textured": _textured,
    "photo_skin": _photo_skin,
    "hair_cards": _hair_cards,
}
"""Material kind -> what fills its node tree from the parameters; `render.materials` adds them to its own."""
