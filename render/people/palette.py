"""Colours and fabrics as people wear them: named dyes, which patterns a garment comes in, and draws from
both.
"""

from collections.abc import Mapping

import numpy as np

from render.people.spec import Colour, FabricSpec, rounded

NEUTRALS = (
    "1b1b1d",
    "2e3033",
    "55585c",
    "8d8f92",
    "c9c8c4",
    "e9e7e1",
    "f2efe6",
    "1f2a40",
    "d6c7a9",
    "b08d5f",
    "5b5a3c",
    "4a3527",
)
MUTED = (
    "7b3440",
    "c58f8c",
    "9fae96",
    "5f7a8c",
    "c79a3f",
    "3f6b6b",
    "8c7fa3",
    "8aa5c2",
    "a4553f",
    "44604a",
    "d9b7a5",
    "6d5a72",
)
BRIGHT = ("b3202c", "1f4fa8", "e0b52a", "1f8a53", "e06a25", "d2447f", "5c34a0", "17a0a6")
DENIM = ("1c2740", "2b3d5e", "3f5a80", "6d8bae", "9db4cd", "232428")
HIDES = ("17130f", "2b1d14", "5a3820", "8a5c34", "b58a5c", "3a0f10", "d9d3c8")
METALS: dict[str, Colour] = {
    "steel": (0.55, 0.55, 0.56),
    "gold": (0.72, 0.50, 0.20),
    "black": (0.03, 0.03, 0.032),
}
SHARES = {"NEUTRALS": 0.52, "MUTED": 0.32, "BRIGHT": 0.16}
"""Of tops; trousers, shoes and coats take NEUTRALS four times in five."""
PATTERNS: dict[str, dict[str, float]] = {
    "tshirt": {
        "plain": 0.38,
        "heather": 0.17,
        "stripes": 0.15,
        "logo": 0.2,
        "blocks": 0.05,
        "camouflage": 0.02,
        "gradient": 0.03,
    },
    "tank": {"plain": 0.6, "stripes": 0.2, "heather": 0.2},
    "bra": {"plain": 0.8, "heather": 0.2},
    "polo": {"plain": 0.6, "stripes": 0.2, "blocks": 0.2},
    "shirt": {
        "plain": 0.42,
        "checks": 0.14,
        "plaid": 0.16,
        "pinstripe": 0.14,
        "dots": 0.05,
        "floral": 0.05,
        "denim": 0.04,
    },
    "sweater": {"knit": 0.5, "heather": 0.2, "stripes": 0.15, "plain": 0.15},
    "turtleneck": {"knit": 0.5, "ribs": 0.5},
    "cardigan": {"knit": 0.7, "heather": 0.3},
    "hoodie": {"plain": 0.45, "heather": 0.3, "logo": 0.2, "blocks": 0.05},
    "vest": {"plain": 0.6, "knit": 0.2, "herringbone": 0.2},
    "jacket": {"plain": 0.45, "denim": 0.22, "leather": 0.2, "camouflage": 0.05, "corduroy": 0.08},
    "blazer": {"plain": 0.5, "herringbone": 0.25, "pinstripe": 0.15, "plaid": 0.1},
    "coat": {"plain": 0.6, "herringbone": 0.25, "plaid": 0.15},
    "dress": {"plain": 0.34, "floral": 0.3, "dots": 0.1, "stripes": 0.1, "print": 0.1, "gradient": 0.06},
    "skirt": {"plain": 0.45, "plaid": 0.2, "floral": 0.12, "denim": 0.13, "dots": 0.1},
    "trousers": {"plain": 0.72, "pinstripe": 0.08, "herringbone": 0.1, "plaid": 0.1},
    "chinos": {"plain": 0.88, "corduroy": 0.12},
    "jeans": {"denim": 1.0},
    "joggers": {"plain": 0.5, "heather": 0.5},
    "leggings": {"plain": 0.9, "print": 0.1},
    "briefs": {"plain": 1.0},
    "shorts": {"plain": 0.55, "denim": 0.25, "camouflage": 0.08, "plaid": 0.06, "floral": 0.06},
    "tights": {"plain": 1.0},
    "socks": {"ribs": 0.75, "stripes": 0.25},
    "sneaker": {"plain": 0.6, "leather": 0.4},
    "boot": {"leather": 1.0},
    "loafer": {"leather": 1.0},
    "pump": {"leather": 1.0},
    "sandal": {"leather": 1.0},
    "cap": {"plain": 0.8, "logo": 0.1, "denim": 0.1},
    "beanie": {"ribs": 0.6, "knit": 0.4},
    "hat": {"plain": 0.6, "knit": 0.4},
    "headscarf": {"plain": 0.7, "floral": 0.15, "stripes": 0.15},
    "scarf": {"knit": 0.4, "plaid": 0.4, "plain": 0.2},
    "tie": {"plain": 0.4, "pinstripe": 0.4, "dots": 0.2},
    "belt": {"leather": 1.0},
    "gloves": {"knit": 0.6, "leather": 0.4},
    "mask": {"plain": 1.0},
    "watch": {"leather": 1.0},
    "bracelet": {"plain": 1.0},
    "necklace": {"plain": 1.0},
    "backpack": {"plain": 0.8, "camouflage": 0.1, "denim": 0.1},
    "bag": {"leather": 0.7, "plain": 0.3},
    "glasses": {"plain": 1.0},
    "sunglasses": {"plain": 1.0},
}
SCALES = {
    "plain": 0.0016,
    "heather": 0.004,
    "stripes": 0.03,
    "pinstripe": 0.018,
    "checks": 0.03,
    "plaid": 0.09,
    "herringbone": 0.012,
    "dots": 0.022,
    "floral": 0.05,
    "camouflage": 0.12,
    "gradient": 0.6,
    "blocks": 0.1,
    "logo": 0.1,
    "print": 0.04,
    "knit": 0.006,
    "ribs": 0.005,
    "corduroy": 0.004,
    "denim": 0.0018,
    "leather": 0.01,
    "rubber": 0.01,
}
"""Repeat lengths, metres; draws lie within a factor of 1.5."""
SOBER = (
    "trousers",
    "chinos",
    "joggers",
    "shorts",
    "blazer",
    "coat",
    "jacket",
    "boot",
    "loafer",
    "pump",
    "sandal",
    "belt",
    "backpack",
    "bag",
    "leggings",
    "tights",
    "skirt",
    "socks",
    "watch",
    "briefs",
    "vest",
)
SATIN = (0.28, 0.42)  # roughness of ties
ROUGHNESS = {"leather": (0.3, 0.5), "gradient": (0.5, 0.7), "plain": (0.65, 0.9), "floral": (0.55, 0.85)}


def linear(text: str) -> Colour:
    """Linear reflectance of a "rrggbb" sRGB colour."""
    values = (int(text[i : i + 2], 16) / 255 for i in (0, 2, 4))
    red, green, blue = (rounded(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for v in values)
    return red, green, blue


def choice(rng: np.random.Generator, table: Mapping[str, float]) -> str:
    """A key, as often as its weight."""
    weights = np.array(list(table.values()))
    return list(table)[int(rng.choice(len(table), p=weights / weights.sum()))]


def _dye(rng: np.random.Generator, kind: str, pattern: str) -> Colour:
    shades: tuple[str, ...]
    if pattern == "denim":
        shades = DENIM
    elif pattern == "leather":
        shades = HIDES
    else:
        table = {"NEUTRALS": 0.8, "MUTED": 0.16, "BRIGHT": 0.04} if kind in SOBER else SHARES
        shades = {"NEUTRALS": NEUTRALS, "MUTED": MUTED, "BRIGHT": BRIGHT}[choice(rng, table)]
    base = np.array(linear(shades[int(rng.integers(len(shades)))]))
    varied = np.clip(base * rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3), 0.008, 0.88)
    return rounded(varied[0]), rounded(varied[1]), rounded(varied[2])


def sample_fabric(rng: np.random.Generator, kind: str) -> FabricSpec:
    """The fabric of a garment: a pattern it comes in, a dye, and a second one that shows against it."""
    pattern = choice(rng, PATTERNS[kind])
    colour = _dye(rng, kind, pattern)
    accent = _dye(rng, "", "plain")
    for _ in range(3):
        if abs(sum(accent) - sum(colour)) < 0.3:
            accent = _dye(rng, "", "plain")
    low, high = SATIN if kind == "tie" else ROUGHNESS.get(pattern, (0.75, 0.95))
    return FabricSpec(
        pattern=pattern,
        colour=colour,
        accent=accent,
        scale=rounded(SCALES[pattern] * rng.uniform(0.67, 1.5)),
        angle=rounded(90.0 if pattern == "stripes" and rng.random() < 0.1 else 0.0),
        roughness=rounded(rng.uniform(low, high)),
        seed=int(rng.integers(1 << 20)),
    )
