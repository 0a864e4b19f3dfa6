"""Random views and photometric distortion: what happens to a sample before it becomes a training example.

Geometry is a random `View`, which moves the picture and every label alike; photometry touches the picture
only. Defaults are mild, for small data; the published ranges are in docs/evaluate.md.
"""

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field

from shards.config import Config
from train.data.view import View

Range = tuple[float, float]


class AugmentConfig(Config):
    """How far training views and colours may stray. `AugmentConfig.off()` leaves everything as it is."""

    mirror: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    scale: Range = (0.75, 1.25)
    """The window's sides are multiplied by a log-uniform factor of this range."""
    shift: float = Field(default=0.1, ge=0)
    """The window moves by up to this share of its sides."""
    rotate: float = Field(default=20.0, ge=0, le=180)
    """Largest angle, degrees."""
    rotate_probability: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=32.0, ge=0)
    """Largest offset, grey levels."""
    contrast: Range = (0.5, 1.5)
    saturation: Range = (0.5, 1.5)
    hue: float = Field(default=9.0, ge=0)
    """Largest turn of the hue, degrees of OpenCV's half circle (0 .. 180)."""
    photometric_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of each of the four distortions."""

    @classmethod
    def off(cls) -> "AugmentConfig":
        """No augmentation."""
        return cls(mirror=0, scale=(1, 1), shift=0, rotate=0, rotate_probability=0, photometric_probability=0)


def random_view(view: View, config: AugmentConfig, rng: np.random.Generator) -> View:
    """A random neighbour of `view`: scaled, shifted, turned, mirrored. Always draws as many numbers."""
    factor = float(np.exp(rng.uniform(*np.log(config.scale))))
    across, down = rng.uniform(-config.shift, config.shift, 2)
    angle = rng.uniform(-config.rotate, config.rotate)
    turned, mirrored = rng.random(2)
    return replace(
        view,
        centre=(view.centre[0] + across * view.width, view.centre[1] + down * view.height),
        width=view.width * factor,
        height=view.height * factor,
        angle=float(angle) if turned < config.rotate_probability else 0.0,
        mirror=bool(mirrored < config.mirror),
    )


def distort_colours(
    image: UInt8[np.ndarray, "height width 3"], config: AugmentConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Random brightness, contrast, saturation and hue, each with its probability."""
    applied = rng.random(4) < config.photometric_probability
    offset = rng.uniform(-config.brightness, config.brightness)
    contrast, saturation = rng.uniform(*config.contrast), rng.uniform(*config.saturation)
    hue = rng.uniform(-config.hue, config.hue)
    if applied[:2].any():
        gain = contrast if applied[1] else 1.0
        shift = offset if applied[0] else 0.0
        image = _to_uint8((image.astype(np.float32) - 128) * np.float32(gain) + np.float32(128 + shift))
    if applied[2:].any():
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + (hue if applied[3] else 0)) % 180
        hsv[..., 1] *= saturation if applied[2] else 1
        image = np.asarray(cv2.cvtColor(_to_uint8(hsv), cv2.COLOR_HSV2RGB))
    return image


def _to_uint8(image: Float32[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.asarray(np.rint(image).clip(0, 255), dtype=np.uint8)
