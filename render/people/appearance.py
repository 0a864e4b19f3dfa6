"""What a sampled person looks like: skin, hair, eyes."""

import numpy as np

from render.people.spec import EyeSpec, HairSpec, SkinSpec, rounded

TONES = (
    (0.72, 0.47, 0.36),
    (0.62, 0.38, 0.27),
    (0.50, 0.29, 0.19),
    (0.36, 0.19, 0.115),
    (0.22, 0.11, 0.065),
    (0.11, 0.055, 0.034),
)
"""Linear reflectance of six skin tones, light to dark (after the Fitzpatrick types); draws interpolate
between two.
"""
TONE_WEIGHTS = (0.16, 0.22, 0.22, 0.16, 0.13, 0.11)
HAIR_COLOURS = {
    "black": (0.010, 0.008, 0.007),
    "dark_brown": (0.028, 0.016, 0.010),
    "brown": (0.07, 0.038, 0.02),
    "light_brown": (0.16, 0.09, 0.045),
    "blond": (0.38, 0.25, 0.12),
    "red": (0.22, 0.06, 0.022),
    "grey": (0.30, 0.29, 0.28),
}
IRISES = (
    (0.045, 0.02, 0.01),
    (0.09, 0.045, 0.02),
    (0.10, 0.12, 0.05),
    (0.08, 0.16, 0.26),
    (0.16, 0.20, 0.22),
)


def sample_skin(rng: np.random.Generator, phenotype: dict[str, float]) -> tuple[SkinSpec, float]:
    """Skin and its darkness in 0..1, loosely tied to the face's ancestry mix."""
    ancestry = phenotype["african"] * 4.2 + phenotype["asian"] * 1.7 + phenotype["caucasian"] * 0.9
    if rng.random() < 0.3:
        level = float(rng.choice(6, p=TONE_WEIGHTS)) + rng.uniform(-0.5, 0.5)
    else:
        level = ancestry + float(rng.normal(0, 0.55))
    level = float(np.clip(level, 0.0, 4.99))
    low, mix = int(level), level - int(level)
    tone = tuple(rounded(a * (1 - mix) + b * mix) for a, b in zip(TONES[low], TONES[low + 1], strict=True))
    redness = float(rng.uniform(0.15, 0.75)) * (1 - 0.12 * level)
    female = phenotype["gender"] > 0.5
    makeup = float(rng.uniform(0.2, 0.9)) if female and rng.random() < 0.4 else 0.0
    warm = np.array([tone[0] * 0.92, tone[1] * 0.62, tone[2] * 0.68])
    lips = warm * (1 - makeup) + makeup * np.array([0.42, 0.035, 0.05]) * rng.uniform(0.5, 1.1)
    wrinkles = np.clip((phenotype["age"] - 0.68) * 3.0, 0, 1)
    skin_spec = SkinSpec(
        tone=(tone[0], tone[1], tone[2]),
        lips=(rounded(lips[0]), rounded(lips[1]), rounded(lips[2])),
        redness=rounded(redness),
        freckles=rounded(max(0.0, rng.normal(-0.1, 0.4)) if level < 2 else 0.0),
        wrinkles=rounded(float(wrinkles)),
        roughness=rounded(rng.uniform(0.42, 0.58)),
        spots=0.2,
        blush=0.0,
        shadow=0.0,
        seed=int(rng.integers(1 << 20)),
    )
    return skin_spec, level / 5


def sample_hair(rng: np.random.Generator, phenotype: dict[str, float], darkness: float) -> HairSpec:
    female, old = phenotype["gender"] > 0.5, phenotype["age"] > 0.85
    child = phenotype["age"] < 0.55
    styles = (
        {"long": 0.36, "bob": 0.22, "bun": 0.2, "short": 0.14, "afro": 0.08}
        if female
        else {
            "short": 0.44,
            "crop": 0.24,
            "buzz": 0.17,
            "bald": 0.0 if child else 0.07,
            "bob": 0.05,
            "afro": 0.03,
        }
    )
    weights = np.array(list(styles.values()))
    style = list(styles)[int(rng.choice(len(styles), p=weights / weights.sum()))]
    if darkness > 0.75 and style in ("short", "long", "bob") and rng.random() < 0.6:
        style = "afro" if rng.random() < 0.6 else "bun" if female else "buzz"
    light = max(0.0, 0.75 - darkness * 1.6) * phenotype["caucasian"] * 1.6
    names = ["black", "dark_brown", "brown", "light_brown", "blond", "red"]
    probabilities = np.array([0.35 + darkness, 0.3, 0.15 + light, 0.6 * light, 0.6 * light, 0.2 * light])
    base = np.array(HAIR_COLOURS[names[int(rng.choice(6, p=probabilities / probabilities.sum()))]])
    grey = (
        float(np.clip(rng.normal(0.75, 0.2), 0, 1)) if old else float(np.clip(rng.normal(-0.25, 0.3), 0, 0.8))
    )
    grey = 0.0 if child else grey
    colour = base * rng.uniform(0.8, 1.25, 3).clip(0.85, 1.2)
    length = {"long": (0.22, 0.42), "bob": (0.13, 0.2), "short": (0.035, 0.075), "crop": (0.018, 0.03)}.get(
        style, (0.05, 0.1)
    )
    beard = 0.0
    if not female and not child and rng.random() < 0.4:
        beard = rng.uniform(0.003, 0.03)
    return HairSpec(
        style=style,
        colour=(rounded(colour[0]), rounded(colour[1]), rounded(colour[2])),
        grey=rounded(grey),
        length=rounded(rng.uniform(*length)),
        volume=rounded(rng.uniform(0.2, 1.0)),
        curl=rounded(float(np.clip(rng.normal(0.25 + 0.4 * (darkness > 0.7), 0.2), 0, 1))),
        part=rounded(float(rng.choice([-0.45, 0.0, 0.45])) + rng.uniform(-0.1, 0.1)),
        hairline=rounded(rng.uniform(0.0, 1.0) * (0.5 if female else 1.0)),
        fringe=0.0,
        tips=0.0,
        beard=rounded(beard),
        cheeks=1.0,
        moustache=rounded(beard),
        stubble=0.0,
        brow=rounded(rng.uniform(0.7, 1.0) if female else rng.uniform(0.9, 1.4)),
        seed=int(rng.integers(1 << 20)),
    )


def sample_eyes(rng: np.random.Generator, darkness: float) -> EyeSpec:
    light = max(0.0, 0.5 - darkness)
    probabilities = np.array([0.5 + darkness, 0.4, 0.35 * light, 0.8 * light, 0.4 * light])
    iris = np.array(IRISES[int(rng.choice(5, p=probabilities / probabilities.sum()))]) * rng.uniform(
        0.75, 1.3
    )
    return EyeSpec(
        iris=(rounded(iris[0]), rounded(iris[1]), rounded(iris[2])),
        pupil=rounded(rng.uniform(0.28, 0.48)),
        yaw=rounded(np.clip(rng.normal(0, 8), -22, 22)),
        pitch=rounded(np.clip(rng.normal(-1, 4), -12, 10)),
    )
