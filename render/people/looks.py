"""The plain materials of a person's surfaces, from their spec."""

from render.people.spec import EyeSpec, FabricSpec, HairSpec, SkinSpec
from render.person import Material


def skin_material(skin: SkinSpec, hair: HairSpec) -> Material:
    """`shade` is what short hair makes of the skin it grows on."""
    shade = tuple(0.45 * s + 0.35 * h for s, h in zip(skin.tone, hair.colour, strict=True))
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
            "seed": skin.seed,
        },
    )


def fabric_material(fabric: FabricSpec) -> Material:
    """Cloth, or leather where the fabric is leather."""
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
        },
    )


def hair_material(hair: HairSpec) -> Material:
    """Locks, brows, lashes and beards."""
    return Material("hair", {"colour": hair.colour, "grey": hair.grey, "seed": hair.seed})


def eye_material(eyes: EyeSpec) -> Material:
    """Eyeball with iris and a wet coat."""
    return Material("eye", {"iris": eyes.iris, "pupil": eyes.pupil})


def sole_material(fabric: FabricSpec) -> Material:
    """Rubber in white, the accent, or black, by the fabric's seed."""
    colours = ((0.7, 0.69, 0.66), fabric.accent, (0.02, 0.02, 0.02))
    return Material("rubber", {"colour": colours[fabric.seed % 3], "seed": fabric.seed})


TEETH = Material("teeth", {"colour": (0.68, 0.61, 0.50)})
TONGUE = Material("tongue", {"colour": (0.36, 0.10, 0.09)})
