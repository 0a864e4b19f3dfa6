"""Outfits and hair drawn from an asset folder, and the fabrics of what comes without textures."""

import colorsys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from render.people.limits import Pose
from render.people.makehuman.catalog import Catalog
from render.people.spec import AssetSpec, Colour, FabricSpec, GarmentSpec, rounded

TIGHT_SKIRTS = ("female_elegantsuit01",)
STRIDE = 35.0  # degrees that a thigh may turn in one
ADULT = 0.55  # age from which the garments, made for adults, fit
HAT_CHANCE = 0.12
SHOES_CHANCE = 0.95
PATTERNS = {"plain": 0.5, "checks": 0.16, "stripes": 0.14, "print": 0.08, "knit": 0.12}
SCALES = {"plain": 0.0016, "checks": 0.06, "stripes": 0.04, "print": 0.045, "knit": 0.006, "leather": 0.01}
MALE_HAIR = ("short01", "short02", "short04", "afro01")
FEMALE_HAIR = ("bob01", "bob02", "braid01", "long01", "ponytail01", "short03", "afro01")
"""File names of the system assets' hair by who wears it; other hair goes by its tags."""


def sample_asset_outfit(
    rng: np.random.Generator, phenotype: Mapping[str, float], catalog: Catalog
) -> tuple[GarmentSpec, ...]:
    """A suit, shoes and sometimes a hat; empty where the folder has nothing that fits: children, whose
    clothes are not among the assets, and folders without garments for this sex.
    """
    suits = _fitting(catalog, "garments", phenotype["gender"])
    if phenotype["age"] < ADULT or not suits:
        return ()
    names = [_pick(rng, suits)]
    shoes, hats = catalog.names("shoes"), catalog.names("hats")
    if shoes and rng.random() < SHOES_CHANCE:
        names.append(_pick(rng, shoes))
    if hats and rng.random() < HAT_CHANCE:
        names.append(_pick(rng, hats))
    hue = rng.random()
    tags = {e.name: e.tags for e in catalog.entries}
    return tuple(
        GarmentSpec("asset", {}, _fabric(rng, name, tags[name], hue), catalog.spec(name)) for name in names
    )


def suits_pose(outfit: tuple[GarmentSpec, ...], pose: Pose) -> bool:
    """Whether the outfit can be worn in a pose: a tight skirt follows the legs and splits when they part."""
    tight = any(g.asset is not None and Path(g.asset.name).stem in TIGHT_SKIRTS for g in outfit)
    turns = [np.linalg.norm(pose.get(f"upperleg01.{side}", (0.0, 0.0, 0.0))) for side in "LR"]
    return not tight or float(max(turns)) < STRIDE


def sample_asset_hair(
    rng: np.random.Generator, phenotype: Mapping[str, float], catalog: Catalog
) -> AssetSpec | None:
    """Hair of the folder for this sex, or None where it has none."""
    names = _fitting(catalog, "hair", phenotype["gender"])
    return catalog.spec(_pick(rng, names)) if names else None


def sample_asset_skin(
    rng: np.random.Generator, phenotype: Mapping[str, float], catalog: Catalog
) -> AssetSpec | None:
    """A photographic skin whose texture is there, for this sex and age by the words of its name; else None.

    MakeHuman's own are called like young_caucasian_female.
    """
    names = [n for n in _fitting(catalog, "skins", phenotype["gender"]) if _textured(catalog, n)]
    age = "old" if phenotype["age"] > 0.85 else "middleage" if phenotype["age"] > 0.7 else "young"
    ancestry = max(("african", "asian", "caucasian"), key=lambda a: (phenotype[a], a))
    for words in ((age, ancestry), (ancestry,)):
        chosen = [n for n in names if all(word in n.lower() for word in words)]
        if chosen:
            return catalog.spec(_pick(rng, chosen))
    return None


def _textured(catalog: Catalog, name: str) -> bool:
    return catalog.find(catalog.spec(name)).diffuse is not None


def _fitting(catalog: Catalog, category: str, gender: float) -> tuple[str, ...]:
    """Names of a category that suit the sex: by tag, else by the file's name, else anybody."""
    own, other = ("female", "male") if gender > 0.5 else ("male", "female")
    styles = FEMALE_HAIR if gender > 0.5 else MALE_HAIR
    kept = []
    for entry in (e for e in catalog.entries if e.category == category):
        stem = entry.name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
        known = category == "hair" and stem in MALE_HAIR + FEMALE_HAIR
        words = {*entry.tags, *stem.lower().replace("-", "_").split("_")}
        if (known and stem in styles) or (not known and (own in words or other not in words)):
            kept.append(entry.name)
    return tuple(kept)


def _pick(rng: np.random.Generator, names: tuple[str, ...] | list[str]) -> str:
    return names[int(rng.integers(len(names)))]


def _fabric(rng: np.random.Generator, name: str, tags: tuple[str, ...], hue: float) -> FabricSpec:
    """Colours that go together: one hue for the outfit, many of them muted. Shoes are leather or canvas,
    elegant suits dark and plain or finely striped.
    """
    shoes, elegant = "shoe" in name or "boot" in name, "elegant" in tags
    weights = np.array(list(PATTERNS.values()))
    pattern = list(PATTERNS)[int(rng.choice(len(PATTERNS), p=weights / weights.sum()))]
    if shoes:
        pattern = "leather" if rng.random() < 0.7 else "plain"
    if elegant or "hats" in tags:
        pattern = "stripes" if elegant and rng.random() < 0.3 else "plain"
    muted = elegant or rng.random() < (0.75 if shoes else 0.45)
    levels = (0.16, 0.24, 0.38) if elegant else (0.18, 0.38, 0.62, 0.86)
    value = float(np.clip(rng.choice(levels) + rng.normal(0, 0.06), 0.08, 0.92))
    colour = _colour(
        hue + rng.normal(0, 0.04), rng.uniform(0.0, 0.2) if muted else rng.uniform(0.3, 0.8), value
    )
    accent_value = value + 0.4 if value < 0.5 else value - 0.45
    accent = _colour(
        hue + rng.choice([0.5, 0.33, 0.08]), rng.uniform(0.0, 0.5), float(np.clip(accent_value, 0.1, 0.9))
    )
    return FabricSpec(
        pattern=pattern,
        colour=colour,
        accent=accent,
        scale=rounded((0.012 if elegant else SCALES[pattern]) * rng.uniform(0.6, 1.6)),
        angle=0.0,
        roughness=rounded(rng.uniform(0.3, 0.5) if pattern == "leather" else rng.uniform(0.7, 0.95)),
        seed=int(rng.integers(1 << 20)),
    )


def _colour(hue: float, saturation: float, value: float) -> Colour:
    """HSV as displayed, made linear."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return (rounded(red**2.2), rounded(green**2.2), rounded(blue**2.2))
