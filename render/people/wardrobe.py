"""Which clothes a person wears: outfits, cuts and fabrics, drawn together so that colours go with each
other.
"""

import colorsys

import numpy as np

from render.people.spec import Colour, FabricSpec, GarmentSpec, rounded

TOPS = {"tshirt": 0.36, "shirt": 0.24, "sweater": 0.2, "tank": 0.06}
JACKET_CHANCE = 0.22
PATTERNS = {
    "tshirt": {"plain": 0.55, "stripes": 0.2, "print": 0.25},
    "tank": {"plain": 0.7, "stripes": 0.3},
    "shirt": {"plain": 0.45, "checks": 0.3, "stripes": 0.25},
    "sweater": {"knit": 0.6, "stripes": 0.2, "plain": 0.2},
    "jacket": {"plain": 0.5, "denim": 0.3, "leather": 0.2},
    "trousers": {"plain": 0.85, "checks": 0.15},
    "jeans": {"denim": 1.0},
    "shorts": {"plain": 0.6, "denim": 0.4},
    "skirt": {"plain": 0.5, "checks": 0.25, "print": 0.25},
    "dress": {"plain": 0.4, "print": 0.45, "stripes": 0.15},
    "socks": {"knit": 0.8, "stripes": 0.2},
    "shoes": {"leather": 0.45, "plain": 0.55},
}
SCALES = {
    "plain": 0.0016,
    "stripes": 0.04,
    "checks": 0.06,
    "print": 0.045,
    "knit": 0.006,
    "denim": 0.0018,
    "leather": 0.01,
    "rubber": 0.01,
}


def sample_outfit(rng: np.random.Generator, gender: float) -> tuple[GarmentSpec, ...]:
    """Garments from the skin outwards; everyone wears shoes unless barefoot (6 %), and something above and
    below.
    """
    female = gender > 0.5
    garments: list[GarmentSpec] = []
    base_hue = rng.random()
    if female and rng.random() < 0.2:
        garments.append(_garment(rng, "dress", base_hue))
    else:
        garments.append(_garment(rng, _lower(rng, female), (base_hue + rng.choice([0.0, 0.5, 0.08])) % 1))
        garments.append(_garment(rng, _choice(rng, TOPS), base_hue))
    if rng.random() < JACKET_CHANCE:
        garments.append(_garment(rng, "jacket", (base_hue + 0.45) % 1))
    if rng.random() < 0.94:
        if rng.random() < 0.75:
            garments.insert(0, _garment(rng, "socks", base_hue))
        garments.append(_garment(rng, "shoes", base_hue))
    return tuple(garments)


def _lower(rng: np.random.Generator, female: bool) -> str:
    table = {"jeans": 0.36, "trousers": 0.34, "shorts": 0.18, "skirt": 0.12 if female else 0.0}
    return _choice(rng, table)


def _choice(rng: np.random.Generator, table: dict[str, float]) -> str:
    weights = np.array(list(table.values()))
    return list(table)[int(rng.choice(len(table), p=weights / weights.sum()))]


def _garment(rng: np.random.Generator, kind: str, hue: float) -> GarmentSpec:
    return GarmentSpec(kind, _cut(rng, kind), _fabric(rng, kind, hue))


def _cut(rng: np.random.Generator, kind: str) -> dict[str, float]:
    """Cut of a garment, fractions and metres; `render.people.garments` says what each means."""
    ranges = {
        "tshirt": {"hem": (0.0, 1.0), "sleeve": (0.35, 0.9), "neck": (0.1, 0.9), "ease": (0.1, 1.0)},
        "tank": {"hem": (0.0, 1.0), "sleeve": (0.0, 0.0), "neck": (0.5, 1.0), "ease": (0.0, 0.6)},
        "shirt": {"hem": (0.2, 1.0), "sleeve": (1.55, 2.0), "neck": (0.0, 0.3), "ease": (0.3, 1.0)},
        "sweater": {"hem": (0.1, 0.8), "sleeve": (1.85, 2.0), "neck": (0.0, 0.6), "ease": (0.4, 1.0)},
        "jacket": {"hem": (0.2, 1.0), "sleeve": (1.88, 2.0), "neck": (0.0, 0.3), "ease": (0.6, 1.0)},
        "trousers": {"leg": (1.84, 1.97), "rise": (0.0, 1.0), "ease": (0.2, 1.0), "flare": (0.0, 1.0)},
        "jeans": {"leg": (1.84, 1.97), "rise": (0.0, 1.0), "ease": (0.0, 0.8), "flare": (0.0, 0.6)},
        "shorts": {"leg": (0.45, 1.05), "rise": (0.0, 1.0), "ease": (0.2, 1.0), "flare": (0.3, 1.0)},
        "skirt": {"length": (0.3, 0.9), "rise": (0.4, 1.0), "flare": (0.0, 1.0), "ease": (0.2, 0.8)},
        "dress": {
            "length": (0.35, 0.95),
            "sleeve": (0.0, 0.9),
            "neck": (0.2, 1.0),
            "flare": (0.1, 1.0),
            "ease": (0.1, 0.7),
        },
        "socks": {"height": (0.2, 1.0)},
        "shoes": {"collar": (0.0, 1.0), "sole": (0.015, 0.032)},
    }[kind]
    values = {name: rounded(rng.uniform(low, high)) for name, (low, high) in ranges.items()}
    if "sleeve" in values and values["sleeve"] < 0.12 and kind == "dress":
        values["sleeve"] = 0.0
    return values | {"seed": float(int(rng.integers(1 << 16)))}


def _colour(rng: np.random.Generator, hue: float, saturation: float, value: float) -> Colour:
    """sRGB-like HSV made linear."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return (rounded(red**2.2), rounded(green**2.2), rounded(blue**2.2))


def _fabric(rng: np.random.Generator, kind: str, hue: float) -> FabricSpec:
    pattern = _choice(rng, PATTERNS[kind])
    neutral = rng.random() < (0.75 if kind in ("trousers", "shoes", "socks", "jacket") else 0.35)
    saturation = rng.uniform(0.0, 0.18) if neutral else rng.uniform(0.3, 0.8)
    value = float(np.clip(rng.choice([0.16, 0.35, 0.6, 0.86]) + rng.normal(0, 0.07), 0.06, 0.93))
    hue = hue + rng.normal(0, 0.04)
    if pattern == "denim":
        hue, saturation, value = 0.6 + rng.normal(0, 0.012), rng.uniform(0.35, 0.65), rng.uniform(0.18, 0.6)
    if pattern == "leather":
        hue, saturation, value = 0.07, rng.uniform(0.1, 0.65), rng.uniform(0.08, 0.42)
    accent_value = value + 0.45 if value < 0.5 else value - 0.45
    accent_hue = hue if rng.random() < 0.5 else hue + rng.choice([0.5, 0.33, 0.1])
    return FabricSpec(
        pattern=pattern,
        colour=_colour(rng, hue, saturation, value),
        accent=_colour(rng, accent_hue, rng.uniform(0.0, 0.7), float(np.clip(accent_value, 0.08, 0.92))),
        scale=rounded(SCALES[pattern] * rng.uniform(0.6, 1.6)),
        angle=rounded(0.0 if rng.random() < 0.85 else 90.0),
        roughness=rounded(rng.uniform(0.3, 0.5) if pattern == "leather" else rng.uniform(0.7, 0.95)),
        seed=int(rng.integers(1 << 20)),
    )
