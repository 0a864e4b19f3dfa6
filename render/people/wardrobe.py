"""Which clothes a person wears: a theme, then garments from the skin outwards, shoes and accessories."""

from collections.abc import Mapping

import numpy as np

from render.people.limits import Pose
from render.people.palette import choice, sample_fabric
from render.people.spec import GarmentSpec, HairSpec, rounded

Table = Mapping[str, float]

THEMES: dict[str, float] = {"casual": 0.38, "smart": 0.2, "sporty": 0.13, "summer": 0.15, "winter": 0.14}
TOPS: dict[str, Table] = {
    "casual": {"tshirt": 0.42, "shirt": 0.2, "sweater": 0.15, "hoodie": 0.15, "polo": 0.08},
    "smart": {"shirt": 0.68, "turtleneck": 0.12, "sweater": 0.12, "polo": 0.08},
    "sporty": {"tshirt": 0.5, "tank": 0.22, "hoodie": 0.28},
    "summer": {"tshirt": 0.5, "tank": 0.24, "shirt": 0.16, "polo": 0.1},
    "winter": {"sweater": 0.4, "turtleneck": 0.3, "hoodie": 0.3},
}
BOTTOMS: dict[str, Table] = {
    "casual": {"jeans": 0.55, "chinos": 0.25, "joggers": 0.08, "shorts": 0.12},
    "smart": {"trousers": 0.7, "chinos": 0.3},
    "sporty": {"joggers": 0.45, "shorts": 0.55},
    "summer": {"shorts": 0.65, "chinos": 0.2, "jeans": 0.15},
    "winter": {"jeans": 0.5, "trousers": 0.3, "chinos": 0.2},
}
OUTER: dict[str, tuple[float, Table]] = {
    "casual": (0.28, {"jacket": 0.6, "cardigan": 0.25, "vest": 0.15}),
    "smart": (0.5, {"blazer": 0.65, "vest": 0.12, "coat": 0.13, "cardigan": 0.1}),
    "sporty": (0.1, {"jacket": 1.0}),
    "summer": (0.0, {"jacket": 1.0}),
    "winter": (0.75, {"coat": 0.5, "jacket": 0.5}),
}
SHOES: dict[str, Table] = {
    "casual": {"sneaker": 0.75, "boot": 0.15, "loafer": 0.1},
    "smart": {"loafer": 0.75, "boot": 0.25},
    "sporty": {"sneaker": 1.0},
    "summer": {"sneaker": 0.5, "sandal": 0.34, "loafer": 0.08, "barefoot": 0.08},
    "winter": {"boot": 0.65, "sneaker": 0.35},
}
FEMALE: dict[str, float] = {"dress": 0.17, "skirt": 0.14, "leggings": 0.12, "pump": 0.35}
"""Chances of women and girls: a dress, a skirt or leggings instead of trousers; pumps instead of smart
shoes.
"""
BARE: dict[str, float] = {"man": 0.09, "woman": 0.06}
"""In summer or at sports: a man with a bare chest, a woman in a sports top."""
ACCESSORIES: dict[str, dict[str, float]] = {
    "casual": {
        "cap": 0.09,
        "beanie": 0.03,
        "watch": 0.2,
        "bracelet": 0.08,
        "necklace": 0.06,
        "backpack": 0.1,
        "bag": 0.06,
        "belt": 0.3,
    },
    "smart": {
        "hat": 0.02,
        "watch": 0.35,
        "necklace": 0.08,
        "tie": 0.3,
        "belt": 0.5,
        "bag": 0.12,
        "scarf": 0.04,
    },
    "sporty": {"cap": 0.14, "watch": 0.2, "bracelet": 0.05, "backpack": 0.06},
    "summer": {
        "cap": 0.1,
        "hat": 0.1,
        "watch": 0.15,
        "bracelet": 0.14,
        "necklace": 0.1,
        "bag": 0.08,
        "backpack": 0.04,
    },
    "winter": {"beanie": 0.24, "scarf": 0.32, "gloves": 0.22, "bag": 0.06, "backpack": 0.06},
}
EYEWEAR: dict[str, float] = {"glasses": 0.17, "glasses of elders": 0.5, "sunglasses": 0.03}
EVERYONE: dict[str, float] = {
    "mask": 0.02,
    "headscarf of women": 0.05,
    "socks": 0.85,
    "tights under skirts": 0.35,
    "tucked": 0.35,
}
STUBBLE = 0.003  # metres of hair that go under a mask
STRIDE = 40.0  # degrees that a thigh may turn in a skirt without tights
HEADWEAR = ("cap", "beanie", "hat", "headscarf")
COLLARED = ("shirt", "polo")

_TOP = {"sleeve": (0.45, 0.85), "neck": (0.1, 0.8), "ease": (0.1, 1.0), "hem": (-0.02, 0.05)}
_LONG = {"sleeve": (1.92, 2.03), "neck": (0.05, 0.4), "ease": (0.3, 1.0), "hem": (-0.02, 0.05)}
_LEGS = {"leg": (1.84, 1.96), "waist": (0.105, 0.15), "ease": (0.1, 0.9), "flare": (0.0, 0.6)}
CUTS: dict[str, dict[str, tuple[float, float]]] = {
    "tshirt": _TOP,
    "tank": {"sleeve": (0.0, 0.0), "neck": (0.5, 1.0), "ease": (0.0, 0.6), "hem": (0.0, 0.1)},
    "bra": {"sleeve": (0.0, 0.0), "neck": (0.8, 1.0), "hem": (0.27, 0.31)},
    "polo": _TOP | {"neck": (0.0, 0.1), "sleeve": (0.5, 0.8)},
    "shirt": _LONG | {"sleeve": (1.7, 1.96), "neck": (0.0, 0.12), "ease": (0.2, 0.9)},
    "sweater": _LONG | {"neck": (0.0, 0.5), "hem": (0.0, 0.06), "band": (0.03, 0.06)},
    "turtleneck": _LONG | {"neck": (0.2, 1.0), "hem": (0.0, 0.06), "ease": (0.0, 0.6), "band": (0.03, 0.05)},
    "hoodie": _LONG | {"neck": (0.15, 0.35), "ease": (0.5, 1.0), "band": (0.045, 0.06)},
    "cardigan": _LONG | {"neck": (0.0, 0.1), "vee": (0.5, 1.0), "band": (0.03, 0.05)},
    "vest": {"sleeve": (0.0, 0.0), "neck": (0.0, 0.2), "ease": (0.2, 0.7), "hem": (0.02, 0.07)},
    "jacket": _LONG | {"neck": (0.0, 0.15), "ease": (0.5, 1.0)},
    "blazer": _LONG | {"neck": (0.0, 0.1), "vee": (0.7, 1.0), "ease": (0.3, 0.7), "hem": (-0.02, 0.0)},
    "coat": _LONG
    | {
        "neck": (0.0, 0.1),
        "vee": (0.3, 0.7),
        "ease": (0.5, 0.9),
        "length": (0.28, 0.75),
        "flare": (0.35, 0.6),
    },
    "dress": {
        "length": (0.3, 0.95),
        "sleeve": (0.0, 0.9),
        "neck": (0.2, 1.0),
        "flare": (0.1, 1.0),
        "ease": (0.0, 0.5),
    },
    "skirt": {"length": (0.25, 0.95), "waist": (0.12, 0.16), "flare": (0.0, 1.0), "pleats": (0.0, 0.75)},
    "trousers": _LEGS | {"flare": (0.1, 1.0)},
    "chinos": _LEGS,
    "jeans": _LEGS | {"ease": (0.0, 0.7)},
    "joggers": _LEGS | {"flare": (0.0, 0.2), "band": (0.03, 0.05)},
    "shorts": _LEGS | {"leg": (0.45, 1.0), "flare": (0.3, 1.0)},
    "leggings": {"leg": (1.6, 1.97), "waist": (0.12, 0.17)},
    "briefs": {"leg": (0.3, 0.4), "waist": (0.08, 0.12)},
    "tights": {"waist": (0.12, 0.14)},
    "socks": {"height": (0.05, 0.5)},
    "sneaker": {"collar": (0.0, 1.0), "sole": (0.02, 0.034)},
    "boot": {"collar": (0.0, 1.0), "sole": (0.018, 0.03)},
    "loafer": {"collar": (0.0, 1.0), "sole": (0.008, 0.012)},
    "pump": {"collar": (0.0, 1.0), "sole": (0.008, 0.02)},
    "sandal": {"collar": (0.0, 0.0), "sole": (0.012, 0.024)},
    "cap": {"room": (0.3, 1.0), "turn": (-8.0, 8.0), "brim": (0.055, 0.075)},
    "beanie": {"room": (0.2, 1.0), "turn": (0.0, 0.0), "slouch": (0.0, 0.04)},
    "hat": {"room": (0.3, 1.0), "turn": (0.0, 0.0), "brim": (0.045, 0.10)},
    "headscarf": {"room": (0.3, 1.0)},
    "scarf": {"width": (0.08, 0.13), "length": (0.2, 0.4)},
    "tie": {"width": (0.05, 0.085), "length": (0.42, 0.5)},
    "belt": {"width": (0.028, 0.042)},
    "watch": {"size": (0.014, 0.021), "side": (-1.0, 1.0)},
    "bracelet": {"size": (0.002, 0.006), "side": (-1.0, 1.0)},
    "necklace": {"size": (0.0012, 0.003), "length": (0.0, 1.0)},
    "gloves": {"cuff": (0.0, 1.0)},
    "mask": {"size": (0.0, 1.0)},
    "backpack": {"size": (0.75, 1.1)},
    "bag": {"size": (0.7, 1.1), "side": (-1.0, 1.0)},
    "glasses": {"shape": (0.0, 3.999), "width": (0.94, 1.08), "rim": (0.0008, 0.0026)},
    "sunglasses": {"shape": (0.0, 3.999), "width": (0.98, 1.12), "rim": (0.0010, 0.0028)},
}
"""Ranges that cuts are drawn from; `render.people.cuts` and the builders of accessories say what they mean.
"""


def sample_outfit(rng: np.random.Generator, phenotype: Mapping[str, float]) -> tuple[GarmentSpec, ...]:
    """Garments from the skin outwards, then shoes, then accessories. Everyone is covered below, women and
    children above too.
    """
    female, elder = phenotype["gender"] > 0.5, phenotype["age"] > 0.85
    child = phenotype["age"] < 0.55
    theme = choice(rng, THEMES)
    kinds = _trunk(rng, theme, female, child)
    shoes = choice(rng, SHOES[theme])
    if female and not child and shoes in ("loafer", "boot") and rng.random() < FEMALE["pump"]:
        shoes = "pump"
    bare_legged = bool({"dress", "skirt"} & set(kinds))
    if bare_legged and rng.random() < EVERYONE["tights under skirts"] and shoes not in ("sandal", "barefoot"):
        kinds.insert(0, "tights")
    elif bare_legged:
        kinds.insert(0, "briefs")
    sockless = "tights" in kinds or shoes in ("sandal", "barefoot", "pump")
    if not sockless and rng.random() < EVERYONE["socks"]:
        kinds.insert(0, "socks")
    if shoes != "barefoot":
        kinds.append(shoes)
    kinds += _accessories(rng, theme, kinds, female, elder, child)
    return tuple(_garment(rng, kind, kinds) for kind in kinds)


def suit_to_pose(
    rng: np.random.Generator, garments: tuple[GarmentSpec, ...], pose: Pose
) -> tuple[GarmentSpec, ...]:
    """The outfit for a pose: who sits, squats or strides in a skirt wears tights under it."""
    turned = max(float(np.linalg.norm(pose.get(f"upperleg01.{side}", (0.0, 0.0, 0.0)))) for side in "LR")
    if turned < STRIDE or not any(g.kind == "briefs" for g in garments):
        return garments
    kept = [g for g in garments if g.kind not in ("briefs", "socks")]
    return (_garment(rng, "tights", [g.kind for g in kept]), *kept)


def suit_to_beard(garments: tuple[GarmentSpec, ...], hair: HairSpec) -> tuple[GarmentSpec, ...]:
    """The outfit without a mask over a beard, which it would not hold down."""
    bearded = max(hair.beard, hair.moustache) > STUBBLE
    return tuple(g for g in garments if not (bearded and g.kind == "mask"))


def _trunk(rng: np.random.Generator, theme: str, female: bool, child: bool) -> list[str]:
    """What covers the trunk and legs, in layers."""
    drawn = rng.random(4)
    warm = theme in ("summer", "sporty")
    if female and drawn[0] < FEMALE["dress"] and theme != "sporty":
        kinds = ["dress"]
    else:
        bottom = choice(rng, BOTTOMS[theme])
        if female and drawn[0] > 1 - FEMALE["skirt"] and theme != "sporty":
            bottom = "skirt"
        elif female and drawn[0] > 1 - FEMALE["skirt"] - FEMALE["leggings"]:
            bottom = "leggings"
        top = choice(rng, TOPS[theme])
        if warm and not child and drawn[1] < BARE["woman" if female else "man"] * 2:
            if not female:
                return ["shorts"] if bottom == "leggings" else [bottom]
            top = "bra"
        tucked = (
            drawn[2] < EVERYONE["tucked"]
            and bottom not in ("leggings", "joggers")
            and top not in ("hoodie", "bra")
        )
        kinds = [top, bottom] if tucked else [bottom, top]
    chance, table = OUTER[theme]
    if drawn[3] < chance and kinds[-1] != "hoodie":
        kinds.append(choice(rng, table))
    return kinds


def _accessories(
    rng: np.random.Generator, theme: str, worn: list[str], female: bool, elder: bool, child: bool
) -> list[str]:
    drawn = {name: float(rng.random()) for name in sorted({k for t in ACCESSORIES.values() for k in t})}
    kinds = [name for name, chance in ACCESSORIES[theme].items() if drawn[name] < chance]
    veiled, masked, seeing, shaded = rng.random(4)
    if female and veiled < EVERYONE["headscarf of women"] and "hoodie" not in worn:
        kinds = [k for k in kinds if k not in (*HEADWEAR, "scarf", "necklace")] + ["headscarf"]
    hats = [k for k in kinds if k in HEADWEAR]
    kinds = [k for k in kinds if k not in hats[1:]]
    if "shirt" not in worn or female or child or "hoodie" in worn:
        kinds = [k for k in kinds if k != "tie"]
    if not _tucked(worn):
        kinds = [k for k in kinds if k != "belt"]
    if "backpack" in kinds:
        kinds = [k for k in kinds if k != "bag"]
    if masked < EVERYONE["mask"]:
        kinds.append("mask")
    if shaded < EYEWEAR["sunglasses"]:
        kinds.append("sunglasses")
    elif seeing < EYEWEAR["glasses of elders" if elder else "glasses"]:
        kinds.append("glasses")
    return kinds


def _tucked(worn: list[str]) -> bool:
    """Whether a waistband shows: trousers over the top, or no top."""
    below = [i for i, k in enumerate(worn) if k in ("trousers", "chinos", "jeans", "shorts")]
    above = [i for i, k in enumerate(worn) if k in CUTS and "sleeve" in CUTS[k]]
    return bool(below) and (not above or max(above) < below[0])


def _garment(rng: np.random.Generator, kind: str, worn: list[str]) -> GarmentSpec:
    cut = {name: rounded(rng.uniform(low, high)) for name, (low, high) in CUTS[kind].items()}
    cut["seed"] = float(int(rng.integers(1 << 16)))
    drawn = rng.random(3)
    if kind in ("tshirt", "sweater") and drawn[0] < 0.2:
        cut["vee"] = rounded(0.15 + 0.35 * drawn[1])
    if kind == "shirt" and drawn[0] < 0.25 and "blazer" not in worn:
        cut["sleeve"] = rounded(0.55 + 0.4 * drawn[1])
    if kind in ("jacket", "cardigan", "blazer", "coat", "vest") and drawn[2] < 0.55:
        cut["open"] = rounded(0.02 + 0.06 * drawn[1])
    if kind == "dress":
        cut |= {"hem": 0.10, "waist": 0.125}
        cut["sleeve"] = 0.0 if cut["sleeve"] < 0.25 else cut["sleeve"]
    if kind == "coat":
        cut |= {"hem": 0.10, "waist": 0.13}
    if kind == "tank" and drawn[0] < 0.15 and "skirt" not in worn:
        cut["hem"] = rounded(0.16 + 0.05 * drawn[1])
    if kind == "socks" and drawn[0] < 0.15:
        cut["height"] = 1.0
    return GarmentSpec(kind, cut, sample_fabric(rng, kind))
