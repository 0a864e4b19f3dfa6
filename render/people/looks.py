"""The plain materials of a person's surfaces, from their spec."""

from collections.abc import Mapping, Sequence

from render.people.spec import Colour, EyeSpec, FabricSpec, HairSpec, SkinSpec
from render.person import Material

WHITE = 0.42
"""Reflectance of hair without pigment."""


def _roots(skin: SkinSpec, hair: HairSpec) -> Colour:
    """Skin that hair grows from: its shafts show through."""
    grey = tuple((1 - hair.grey) * h + 0.3 * hair.grey * WHITE for h in hair.colour)
    a, b, c = (0.40 * s + 0.30 * h for s, h in zip(skin.tone, grey, strict=True))
    return a, b, c


def skin_material(skin: SkinSpec, hair: HairSpec) -> Material:
    """`shade` is what short hair makes of the skin it grows on."""
    shade = _roots(skin, hair)
    return Material(
        "skin",
        {
            "tone": skin.tone,
            "lips": skin.lips,
            "shade": shade,
            "redness": skin.redness,
            "freckles": skin.freckles,
            "wrinkles": skin.wrinkles,
            "roughness": skin.roughness,
            "spots": skin.spots,
            "blush": skin.blush,
            "shadow": skin.shadow,
            "seed": skin.seed,
        },
    )


def fabric_material(fabric: FabricSpec) -> Material:
    """Cloth, or leather where the fabric is leather, without seams."""
    return cloth_material(fabric, (), {})


def cloth_material(
    fabric: FabricSpec, marks: Sequence[tuple[str, float, float, float, float]], cut: Mapping[str, float]
) -> Material:
    """Cloth with its sewing. marks: (kind, u0, v0, u1, v1) on the cloth's texture coordinates, metres; see
    `render.fabrics`. cut: `band` is the width of ribbed edges, 0 for stitched ones.
    """
    kind = "leather" if fabric.pattern == "leather" else "fabric"
    return Material(
        kind,
        {
            "pattern": fabric.pattern,
            "colour": fabric.colour,
            "accent": fabric.accent,
            "scale": fabric.scale,
            "angle": fabric.angle,
            "roughness": fabric.roughness,
            "seed": fabric.seed,
            "marks": tuple(marks),
            "band": cut.get("band", 0.0),
        },
    )


def hair_material(hair: HairSpec) -> Material:
    """Locks, brows, lashes and beards."""
    return Material("hair", {"colour": hair.colour, "white": (WHITE, 0.97 * WHITE, 0.92 * WHITE)})


def scalp_material(skin: SkinSpec, hair: HairSpec) -> Material:
    """What shows between strands: hair in the shadow of hair, and at the edge the skin it grows on."""
    dark = tuple(0.28 * h for h in hair.colour)
    within = tuple(0.20 * s + 0.5 * h for s, h in zip(skin.tone, hair.colour, strict=True))
    within = within if hair.style in ("buzz", "ring") else dark
    return Material("scalp", {"colour": within, "shade": _roots(skin, hair)})


def eye_material(eyes: EyeSpec) -> Material:
    """Eyeball with iris and a wet coat."""
    return Material("eye", {"iris": eyes.iris, "pupil": eyes.pupil})


def sole_material(fabric: FabricSpec) -> Material:
    """Rubber in white, the accent, or black, by the fabric's seed."""
    colours = ((0.7, 0.69, 0.66), fabric.accent, (0.02, 0.02, 0.02))
    return Material("rubber", {"colour": colours[fabric.seed % 3], "seed": fabric.seed})


def metal_material(colour: Colour, roughness: float) -> Material:
    """Buckles, zips, watches, thin spectacle frames, jewellery."""
    return Material("gloss", {"colour": colour, "metallic": 1.0, "roughness": roughness})


def plastic_material(colour: Colour, roughness: float) -> Material:
    """Buttons, spectacle frames, buckles."""
    return Material("gloss", {"colour": colour, "metallic": 0.0, "roughness": roughness})


def lens_material(tint: Colour, opacity: float) -> Material:
    """Spectacle lenses; labels see what is behind them up to an opacity of one half."""
    return Material("lens", {"colour": tint, "opacity": opacity})


TEETH = Material("teeth", {"colour": (0.68, 0.61, 0.50)})
TONGUE = Material("tongue", {"colour": (0.36, 0.10, 0.09)})
