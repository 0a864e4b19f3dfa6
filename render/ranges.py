"""Distributions of everything but people and cameras: photographic effects, the stage. A recipe names each
field; there are no defaults, so that a recipe's file says all there is to say.
"""

from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import AfterValidator, Field

from render.people import Shares
from render.spec import Background, EffectsSpec, Ground, Triple
from shards.config import Config

_D65_MIRED = 1e6 / 6504


Bounds = TypeVar("Bounds", tuple[int, int], tuple[float, float])


def ordered(bounds: Bounds) -> Bounds:
    """`bounds`, which must not fall."""
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected [low, high] with low <= high, got {list(bounds)}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(ordered)]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(ordered)]
NotNegativeRange = Annotated[tuple[NotNegative, NotNegative], AfterValidator(ordered)]
Mired = Annotated[float, Field(ge=-110, le=95)]
Quality = Annotated[int, Field(ge=1, le=100)]


class Assets(Config):
    """How often what a folder of MakeHuman assets holds takes the place of what is made from nothing. Counts
    only where a job names such a folder, and for what it holds.
    """

    outfits: Probability
    hair: Probability
    skins: Probability
    poses: Probability

    def shares(self) -> Shares:
        """The same as plain data."""
        return Shares(**self.model_dump())


class DepthOfField(Config):
    """Blur away from the framed region, whose distance is in focus. fstop: log-uniform."""

    probability: Probability
    fstop: PositiveRange


class Shake(Config):
    """The camera moves and turns while the shutter is open, in a random direction of its own axes.
    metres, degrees: how far, uniform.
    """

    probability: Probability
    metres: NotNegativeRange
    degrees: NotNegativeRange


class WhiteBalance(Config):
    """A camera that takes the light for another. mired: shift of the colour temperature from 6504 K, positive
    is warmer. green: relative gain of green.
    """

    probability: Probability
    mired: Annotated[tuple[Mired, Mired], AfterValidator(ordered)]
    green: Range


class Noise(Config):
    """Sensor noise (meaning: `EffectsSpec`). shot, read: log-uniform."""

    probability: Probability
    shot: PositiveRange
    read: PositiveRange


class Distortion(Config):
    """Radial distortion of the lens (meaning: `EffectsSpec`), uniform."""

    probability: Probability
    k1: Range
    k2: Range
    k3: Range


class Jpeg(Config):
    """Storage as JPEG. quality: uniform over whole numbers."""

    probability: Probability
    quality: Annotated[tuple[Quality, Quality], AfterValidator(ordered)]


class Effects(Config):
    """What a real camera does to the picture; each effect on its own, as often as its probability says."""

    depth_of_field: DepthOfField
    shake: Shake
    white_balance: WhiteBalance
    noise: Noise
    distortion: Distortion
    jpeg: Jpeg

    def draw_distortion(self, rng: np.random.Generator) -> Triple:
        """k1, k2, k3: drawn before the camera, which has to frame through the lens."""
        chosen, lens = rng.random() < self.distortion.probability, self.distortion
        drawn = tuple(_rounded(rng.uniform(*span)) for span in (lens.k1, lens.k2, lens.k3))
        return (drawn[0], drawn[1], drawn[2]) if chosen else (0.0, 0.0, 0.0)

    def draw(self, rng: np.random.Generator, focus_m: float, distortion: Triple) -> EffectsSpec:
        """The effects of one picture whose framed region is `focus_m` from the camera.

        Every number is drawn whether its effect is on or off: one effect's probability moves no other's.
        """
        on = dict(zip(Effects.model_fields, rng.random(len(Effects.model_fields)), strict=True))
        fstop = _log_uniform(rng, self.depth_of_field.fstop)
        metres = _in_a_direction(rng, rng.uniform(*self.shake.metres))
        degrees = _in_a_direction(rng, rng.uniform(*self.shake.degrees))
        gains = white_balance_gains(
            rng.uniform(*self.white_balance.mired), rng.uniform(*self.white_balance.green)
        )
        shot, read = _log_uniform(rng, self.noise.shot), _log_uniform(rng, self.noise.read)
        low, high = self.jpeg.quality
        quality = int(rng.integers(low, high + 1))
        focused = on["depth_of_field"] < self.depth_of_field.probability
        shaken = on["shake"] < self.shake.probability
        tinted = on["white_balance"] < self.white_balance.probability
        noisy = on["noise"] < self.noise.probability
        return EffectsSpec(
            fstop=_rounded(fstop) if focused else 0.0,
            focus_m=_rounded(focus_m) if focused else 0.0,
            shake_m=metres if shaken else (0.0, 0.0, 0.0),
            shake_deg=degrees if shaken else (0.0, 0.0, 0.0),
            white_balance=gains if tinted else (1.0, 1.0, 1.0),
            shot_noise=_rounded(shot) if noisy else 0.0,
            read_noise=_rounded(read) if noisy else 0.0,
            distortion=distortion,
            jpeg_quality=quality if on["jpeg"] < self.jpeg.probability else 0,
        )


class Occluders(Config):
    """Things in front of people or beside them. size_m: the largest extent. between: how often one hangs
    between camera and people; otherwise it stands on the ground beside them. hidden_share: of the framed
    region's silhouette, at most, by all of them together.
    """

    probability: Probability
    count: Annotated[tuple[int, int], AfterValidator(ordered)]
    size_m: PositiveRange
    between: Probability
    hidden_share: Annotated[float, Field(gt=0, le=0.9)]


class Stage(Config):
    """What is around the people. transparent: how often the background is left out."""

    ground: Ground
    transparent: Probability
    occluders: Occluders

    def draw_background(self, rng: np.random.Generator) -> Background:
        return "transparent" if rng.random() < self.transparent else "hdri"


class Facing(Config):
    """Which way people in a group look: relative weights of toward the front (-y, where cameras mostly are),
    toward each other, and anywhere. jitter_deg: standard deviation around the first two.
    """

    front: NotNegative
    each_other: NotNegative
    anywhere: NotNegative
    jitter_deg: NotNegative


class People(Config):
    """How many people there are and how they stand.

    weights: relative probability of 1, 2, 3 ... people. gap_m: distance of a person's surface to the nearest
    other one's. reach_m: how far from the first person anyone may stand.
    """

    weights: Annotated[tuple[NotNegative, ...], Field(min_length=1, max_length=8)]
    gap_m: NotNegativeRange
    reach_m: Positive
    facing: Facing

    def draw_count(self, rng: np.random.Generator) -> int:
        weights = np.array(self.weights)
        return 1 + int(rng.choice(len(weights), p=weights / weights.sum()))


Order = Literal["drawn", "in_turn"]


def white_balance_gains(mired: float, green: float) -> Triple:
    """Gains of linear R, G, B that make D65 look like daylight of another colour temperature.

    The colour of CIE daylight (CIE 15:2004, eq. 3.2 to 3.4) at 6504 K shifted by `mired`, in linear sRGB, at
    equal luminance; then green by `1 + green`.
    """
    daylight = _daylight_rgb(1e6 / (_D65_MIRED + mired)) / _daylight_rgb(1e6 / _D65_MIRED)
    gains = daylight / (daylight @ [0.2126, 0.7152, 0.0722]) * [1.0, 1.0 + green, 1.0]
    red, green, blue = (_rounded(gain) for gain in gains)
    return red, green, blue


def _daylight_rgb(kelvin: float) -> np.ndarray:
    low, high = (0.244063, 99.11, 2.9678e6, -4.6070e9), (0.237040, 247.48, 1.9018e6, -2.0064e9)
    terms = low if kelvin <= 7000 else high
    x = sum(term / kelvin**power * 1.0 for power, term in zip((0, 1, 2, 3), terms, strict=True))
    y = -3.0 * x * x + 2.870 * x - 0.275
    xyz = np.array([x / y, 1.0, (1 - x - y) / y])
    to_srgb = np.array(  # IEC 61966-2-1
        [
            [3.2406255, -1.537208, -0.4986286],
            [-0.9689307, 1.8757561, 0.0415175],
            [0.0557101, -0.2040211, 1.0569959],
        ]
    )
    return np.asarray(to_srgb @ xyz)


def _in_a_direction(rng: np.random.Generator, length: float) -> Triple:
    direction = rng.normal(size=3)
    x, y, z = (_rounded(value) for value in direction / np.linalg.norm(direction) * length)
    return x, y, z


def _log_uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(span))))


def _rounded(value: float) -> float:
    """On a grid of 1e-9, so that CPUs whose exp or sin differ in the last bit draw the same."""
    return round(float(value), 9) + 0.0
