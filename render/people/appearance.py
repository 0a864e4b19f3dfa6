"""What a sampled person looks like: skin, hair, eyes."""

from collections.abc import Mapping

import numpy as np

from render.people.spec import Colour, EyeSpec, HairSpec, SkinSpec, rounded

TONES: tuple[Colour, ...] = (
    (0.66, 0.43, 0.32),
    (0.58, 0.35, 0.24),
    (0.47, 0.27, 0.17),
    (0.34, 0.18, 0.105),
    (0.21, 0.105, 0.062),
    (0.115, 0.056, 0.034),
    (0.065, 0.034, 0.023),
)
"""Linear reflectance (R, G, B) of seven skin tones, light to dark; draws interpolate between two.

The ends are set so that rendered cheeks span the ten swatches of the Monk Skin Tone scale but for its two
lightest, which are lighter than measured skin; red exceeds green exceeds blue throughout, as it does in
measured reflectance spectra of skin.
"""
TONE_WEIGHTS = (0.13, 0.20, 0.21, 0.16, 0.13, 0.10, 0.07)
UNDERTONE = 0.05  # standard deviation of the shift between red and yellow, as a share of green and blue
HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.011, 0.0090, 0.0082),
    "dark_brown": (0.028, 0.0165, 0.0110),
    "brown": (0.062, 0.034, 0.020),
    "light_brown": (0.135, 0.080, 0.043),
    "blond": (0.30, 0.195, 0.096),
    "light_blond": (0.43, 0.315, 0.185),
    "red": (0.185, 0.053, 0.018),
    "auburn": (0.075, 0.022, 0.011),
}
DYES: tuple[Colour, ...] = (
    (0.50, 0.44, 0.34),
    (0.22, 0.012, 0.012),
    (0.45, 0.10, 0.19),
    (0.035, 0.075, 0.26),
    (0.03, 0.17, 0.13),
    (0.12, 0.04, 0.22),
    (0.26, 0.085, 0.025),
)
"""Platinum, red, pink, blue, green, purple, copper."""
WOMEN = {
    "long": 0.20,
    "wavy": 0.15,
    "shoulder": 0.15,
    "bob": 0.13,
    "ponytail": 0.11,
    "curly": 0.07,
    "bun": 0.06,
    "textured": 0.05,
    "braid": 0.03,
    "topknot": 0.02,
    "braids": 0.02,
    "side": 0.01,
}
MEN = {
    "side": 0.25,
    "crop": 0.22,
    "textured": 0.20,
    "buzz": 0.13,
    "slick": 0.08,
    "bald": 0.04,
    "shoulder": 0.03,
    "topknot": 0.02,
    "wavy": 0.02,
    "curly": 0.01,
}
COILY_WOMEN = {
    "afro": 0.26,
    "coily": 0.17,
    "curly": 0.15,
    "bun": 0.13,
    "braids": 0.12,
    "ponytail": 0.10,
    "braid": 0.07,
}
COILY_MEN = {"coily": 0.44, "buzz": 0.34, "afro": 0.11, "bald": 0.07, "braids": 0.04}
GIRLS = {
    "long": 0.3,
    "ponytail": 0.2,
    "wavy": 0.12,
    "bob": 0.14,
    "braids": 0.12,
    "braid": 0.07,
    "curly": 0.05,
}
BOYS = {"textured": 0.36, "side": 0.24, "crop": 0.24, "buzz": 0.10, "curly": 0.03, "bob": 0.03}
"""Shares of hair styles; `COILY_...` of people with coily hair."""
LENGTHS: dict[str, tuple[float, float]] = {
    "buzz": (0.004, 0.011),
    "ring": (0.010, 0.035),
    "crop": (0.016, 0.032),
    "side": (0.050, 0.090),
    "slick": (0.060, 0.100),
    "textured": (0.040, 0.075),
    "bob": (0.20, 0.27),
    "shoulder": (0.30, 0.38),
    "long": (0.40, 0.56),
    "wavy": (0.32, 0.52),
    "curly": (0.22, 0.46),
    "ponytail": (0.28, 0.50),
    "braid": (0.35, 0.55),
    "braids": (0.32, 0.52),
    "afro": (0.035, 0.090),
    "coily": (0.010, 0.025),
}
"""Metres, the least and most of each style; other styles need none."""
BEARDS = {"shaven": 0.40, "stubble": 0.20, "moustache": 0.06, "goatee": 0.09, "short": 0.18, "long": 0.07}
IRISES: dict[str, Colour] = {
    "dark_brown": (0.040, 0.018, 0.009),
    "brown": (0.090, 0.042, 0.017),
    "amber": (0.160, 0.082, 0.026),
    "hazel": (0.115, 0.092, 0.036),
    "green": (0.085, 0.125, 0.062),
    "grey": (0.150, 0.185, 0.205),
    "blue": (0.075, 0.145, 0.245),
}
CHILD, MIDDLE, OLD = 0.55, 0.74, 0.86
"""anny's ages up to which someone is a child, young, middle-aged (0.33 is 10 years, 0.67 25)."""


def _draw(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(shares), p=weights / weights.sum()))]


def _colour(values: np.ndarray) -> Colour:
    r, g, b = (rounded(float(np.clip(v, 0.0, 1.0))) for v in values)
    return r, g, b


def sample_skin(rng: np.random.Generator, phenotype: dict[str, float]) -> tuple[SkinSpec, float]:
    """Skin and its darkness in 0..1. Seven of ten tones follow the face's ancestry mix, the others
    `TONE_WEIGHTS`.
    """
    ancestry = phenotype["african"] * 5.0 + phenotype["asian"] * 1.7 + phenotype["caucasian"] * 0.8
    if rng.random() < 0.3:
        level = float(rng.choice(len(TONES), p=TONE_WEIGHTS)) + rng.uniform(-0.5, 0.5)
    else:
        level = ancestry + float(rng.normal(0, 0.6))
    level = float(np.clip(level, 0.0, len(TONES) - 1.01))
    low, mix = int(level), level - int(level)
    tone = np.array(TONES[low]) * (1 - mix) + np.array(TONES[low + 1]) * mix
    tone *= 1 + UNDERTONE * rng.normal() * np.array([0.0, 1.0, 0.8])
    adult = phenotype["age"] >= CHILD
    painted = phenotype["gender"] > 0.5 and adult and rng.random() < 0.5
    paint = rng.uniform(0.15, 0.9, 3) * painted
    own = tone * (0.86, 0.56, 0.60) + np.array([0.015, 0.004, 0.005])
    stick = np.array([0.40, 0.035, 0.05]) * rng.uniform(0.4, 1.1) + 0.25 * own
    wrinkles = np.clip((phenotype["age"] - 0.68) * 3.0, 0, 1)
    skin = SkinSpec(
        tone=_colour(tone),
        lips=_colour(own * (1 - paint[0]) + paint[0] * stick),
        redness=rounded(float(rng.uniform(0.25, 0.85)) * (1 - 0.10 * level)),
        freckles=rounded(float(np.clip(rng.normal(-0.1, 0.4), 0, 1)) if level < 2 else 0.0),
        wrinkles=rounded(float(wrinkles) * (1 - 0.07 * level)),
        roughness=rounded(rng.uniform(0.40, 0.56)),
        spots=rounded(float(np.clip(rng.normal(0.12, 0.12) + 0.4 * wrinkles, 0, 1)) * adult),
        blush=rounded(paint[1]),
        shadow=rounded(paint[2] * (rng.random() < 0.6)),
        seed=int(rng.integers(1 << 20)),
    )
    return skin, level / (len(TONES) - 1)


def sample_hair(rng: np.random.Generator, phenotype: dict[str, float], darkness: float) -> HairSpec:
    """Hair by sex, age and ancestry; beards of four in ten men and more."""
    female, child = phenotype["gender"] > 0.5, phenotype["age"] < CHILD
    coily = rng.random() < 0.9 * phenotype["african"]
    style = _sample_style(rng, phenotype["age"], female, coily)
    colour, dyed = _hair_colour(rng, phenotype, darkness, female)
    turning = 0.0 if child or dyed else np.clip((phenotype["age"] - MIDDLE) * 5.0, 0, 1)
    grey = float(np.clip(rng.normal(turning * 0.9, 0.22 * turning), 0, 1))
    straight = 0.12 + 0.5 * coily + 0.2 * phenotype["caucasian"]
    receding = rng.uniform(0.0, 0.35) if female or child else rng.uniform(0.0, 1.0)
    fringed = style in ("bob", "shoulder", "long", "textured", "side") and rng.random() < 0.35
    beard, cheeks, moustache, stubble = _beard(rng, female or child, coily)
    tips = rng.uniform(0.3, 1.3) if female and not child and rng.random() < 0.2 else rng.uniform(0.0, 0.2)
    return HairSpec(
        style=style,
        colour=colour,
        grey=rounded(grey),
        length=rounded(rng.uniform(*LENGTHS.get(style, (0.25, 0.35)))),
        volume=rounded(rng.uniform(0.1, 1.0)),
        curl=rounded(float(np.clip(rng.normal(straight, 0.18), 0, 1))),
        part=rounded(float(rng.choice([-0.45, 0.0, 0.45])) + rng.uniform(-0.1, 0.1)),
        hairline=rounded(rng.uniform(1.4, 2.0) if style == "ring" else receding),
        fringe=rounded(rng.uniform(0.3, 1.0) if fringed else 0.0),
        tips=rounded(tips),
        beard=rounded(beard),
        cheeks=rounded(cheeks),
        moustache=rounded(moustache),
        stubble=rounded(stubble),
        brow=rounded(rng.uniform(0.6, 0.95) if female else rng.uniform(0.85, 1.25)),
        seed=int(rng.integers(1 << 20)),
    )


def _sample_style(rng: np.random.Generator, age: float, female: bool, coily: bool) -> str:
    balding = 0.0 if female or age < MIDDLE else 0.10 if age < OLD else 0.30
    if rng.random() < balding:
        return "ring" if rng.random() < 0.75 else "bald"
    if coily:
        style = _draw(rng, COILY_WOMEN if female else COILY_MEN)
        return "coily" if style == "bald" and age < CHILD else style
    if age < CHILD:
        return _draw(rng, GIRLS if female else BOYS)
    return _draw(rng, WOMEN if female else MEN)


def _hair_colour(
    rng: np.random.Generator, phenotype: dict[str, float], darkness: float, female: bool
) -> tuple[Colour, bool]:
    """A natural colour or, for one in eleven women and one in thirty men, a dye; and which."""
    adult = phenotype["age"] >= CHILD
    if adult and rng.random() < (0.09 if female else 0.03):
        return _colour(np.array(DYES[int(rng.integers(len(DYES)))]) * rng.uniform(0.7, 1.2)), True
    light = max(0.0, 0.75 - darkness * 1.6) * phenotype["caucasian"] * 1.8
    shares = {
        "black": 0.3 + darkness + 0.3 * phenotype["asian"],
        "dark_brown": 0.3,
        "brown": 0.12 + light,
        "light_brown": 0.7 * light,
        "blond": 0.55 * light,
        "light_blond": 0.2 * light,
        "red": 0.12 * light,
        "auburn": 0.15 * light,
    }
    base = np.array(HAIR_COLOURS[_draw(rng, shares)])
    return _colour(base * rng.uniform(0.8, 1.25) * rng.uniform(0.92, 1.08, 3)), False


def _beard(rng: np.random.Generator, bare: bool, coily: bool) -> tuple[float, float, float, float]:
    """Lengths (m) of beard, of the cheeks' beard as a share of it, of the moustache; and stubble, 0..1."""
    kind = "none" if bare else _draw(rng, BEARDS)
    chin, lip, shade = rng.uniform(0.008, 0.022), rng.uniform(0.005, 0.010), rng.uniform(0.0, 1.0)
    found = {
        "none": (0.0, 0.0, 0.0, 0.0),
        "shaven": (0.0, 0.0, 0.0, 0.18 * shade),
        "stubble": (0.0025 + 0.0015 * shade, 1.0, 0.0025, 0.35 + 0.2 * shade),
        "moustache": (0.0, 0.0, 1.4 * lip, 0.25 * shade),
        "goatee": (chin, 0.0, lip, 0.30 * shade),
        "short": (chin, 0.45 + 0.5 * shade, lip, 0.45),
        "long": (0.035 + 0.055 * shade, 0.30, 1.8 * lip, 0.45),
    }[kind]
    scale = 0.55 if coily else 1.0
    return found[0] * scale, found[1], found[2] * scale, found[3]


def sample_eyes(rng: np.random.Generator, darkness: float) -> EyeSpec:
    """Iris, pupil and gaze; light irises with light skin."""
    light = max(0.0, 0.5 - darkness)
    shares = {
        "dark_brown": 0.35 + 1.2 * darkness,
        "brown": 0.4,
        "amber": 0.05,
        "hazel": 0.35 * light,
        "green": 0.25 * light,
        "grey": 0.25 * light,
        "blue": 0.8 * light,
    }
    iris = np.array(IRISES[_draw(rng, shares)]) * rng.uniform(0.75, 1.3)
    return EyeSpec(
        iris=_colour(iris),
        pupil=rounded(rng.uniform(0.28, 0.48)),
        yaw=rounded(np.clip(rng.normal(0, 8), -22, 22)),
        pitch=rounded(np.clip(rng.normal(-1, 4), -12, 10)),
    )
