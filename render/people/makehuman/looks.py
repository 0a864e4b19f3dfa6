"""What the cloths of an asset look like: its textures where they are there, else procedural fabrics."""

from dataclasses import replace

from render.asset_materials import publish
from render.people.looks import fabric_material, sole_material
from render.people.makehuman.catalog import AssetFiles
from render.people.spec import Colour, FabricSpec, HairSpec, SkinSpec
from render.person import Material
from shards.errors import VitruvianError

_SHIRTS: tuple[Colour, ...] = (
    (0.78, 0.78, 0.77),
    (0.55, 0.64, 0.76),
    (0.80, 0.72, 0.70),
    (0.05, 0.05, 0.055),
)


def textured(files: AssetFiles) -> Material | None:
    """The material of an asset whose colour texture is there, or None.

    It names the asset and its digest, not a path: `render.asset_materials` is told where the bytes lie.
    """
    if files.diffuse is None or files.look is None:
        return None
    publish(files.spec.sha256, files.diffuse, files.normal)
    red, green, blue = files.look.colour
    return Material(
        "textured",
        {
            "asset": files.spec.name,
            "sha256": files.spec.sha256,
            "colour": (red**2.2, green**2.2, blue**2.2),
            "roughness": files.look.roughness,
        },
    )


def cloth_material(slot: str, fabric: FabricSpec, tags: tuple[str, ...]) -> Material:
    """The procedural look of one of an asset's cloths (`labels.SLOTS`), all drawn from one fabric.

    A casual suit's trousers take the accent colour; an elegant one is of one cloth.
    """
    plain = replace(fabric, pattern="plain", scale=0.0016, roughness=0.85)
    if slot == "lower" and "elegant" not in tags:
        denim = fabric.seed % 5 < 2
        return fabric_material(
            replace(
                plain,
                pattern="denim" if denim else "plain",
                colour=(0.035, 0.06, 0.13) if denim else fabric.accent,
                seed=fabric.seed + 1,
            )
        )
    if slot == "inner":
        return fabric_material(
            replace(plain, colour=_SHIRTS[fabric.seed % len(_SHIRTS)], seed=fabric.seed + 2)
        )
    if slot == "tie":
        striped = replace(plain, pattern="stripes", scale=0.02, angle=35.0, roughness=0.5)
        return fabric_material(replace(striped, colour=fabric.accent, accent=fabric.colour))
    if slot in ("trim", "lace"):
        dark = (0.4 * fabric.accent[0], 0.4 * fabric.accent[1], 0.4 * fabric.accent[2])
        return fabric_material(replace(plain, colour=dark, roughness=0.5))
    if slot == "sock":
        return fabric_material(replace(plain, pattern="knit", scale=0.004, colour=fabric.accent))
    return sole_material(fabric) if slot == "sole" else fabric_material(fabric)


def card_material(hair: HairSpec) -> Material:
    """Hair of an asset without textures: strands along the cards, ragged at their tips."""
    return Material("hair_cards", {"colour": hair.colour, "grey": hair.grey, "seed": hair.seed})


def photo_material(skin: SkinSpec, files: AssetFiles) -> Material:
    """A photographic skin over the body's own uv. Raises VitruvianError without its texture."""
    if files.diffuse is None:
        named = files.look.diffuse if files.look else None
        raise VitruvianError(
            f"skin {files.spec.name}: expected its texture {named!r}; got no such file beside it: download "
            "MakeHuman's skins with their textures, or leave `photo` out of the spec"
        )
    publish(files.spec.sha256, files.diffuse, files.normal)
    return Material(
        "photo_skin",
        {
            "asset": files.spec.name,
            "sha256": files.spec.sha256,
            "colour": skin.tone,
            "roughness": skin.roughness,
            "wrinkles": skin.wrinkles,
            "seed": skin.seed,
        },
    )
