"""What training does to a picture alone: colours, blur, a hole. Labels stay as they are.

Every function draws the same number of random numbers whatever it decides, so that one setting does not
change what another one does.
"""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import Field

from shards.config import Config
from train.data.view import PADDING

Range = tuple[float, float]
KERNELS = (3, 5, 7)
"""Sides of the blurs, pixels."""


class DistortConfig(Config):
    """How far colours may stray, and what else is done to the picture."""

    brightness: float = Field(default=32.0, ge=0)
    """Largest offset, grey levels."""
    contrast: Range = (0.5, 1.5)
    saturation: Range = (0.5, 1.5)
    hue: float = Field(default=9.0, ge=0)
    """Largest turn of the hue, degrees of OpenCV's half circle (0 .. 180)."""
    photometric_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of each of the four distortions."""
    channel_swap: float = Field(default=0.0, ge=0, le=1)
    """Probability that red, green and blue trade places."""
    blur: float = Field(default=0.0, ge=0, le=1)
    """Probability of a box blur of 3, 5 or 7 pixels; `median_blur` likewise."""
    median_blur: float = Field(default=0.0, ge=0, le=1)
    hole: float = Field(default=0.0, ge=0, le=1)
    """Probability that a rectangle of the picture is blanked; labels under it stay."""
    hole_size: Range = (0.2, 0.4)
    """Sides of that rectangle, shares of the picture's."""


def distort(
    image: UInt8[np.ndarray, "height width 3"], config: DistortConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Everything, in the published order: colours, channels, blur, median blur, hole."""
    image = distort_colours(image, config, rng)
    image = swap_channels(image, config, rng)
    image = blur(image, config, rng)
    return punch_hole(image, config, rng)


def distort_colours(
    image: UInt8[np.ndarray, "height width 3"], config: DistortConfig, rng: np.random.Generator
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


def swap_channels(
    image: UInt8[np.ndarray, "height width 3"], config: DistortConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Red, green and blue in another order."""
    chosen, order = rng.random(), rng.permutation(3)
    return np.ascontiguousarray(image[..., order]) if chosen < config.channel_swap else image


def blur(
    image: UInt8[np.ndarray, "height width 3"], config: DistortConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """A box blur, a median blur, each with its probability."""
    chosen, kernels = rng.random(2), rng.choice(KERNELS, 2)
    if chosen[0] < config.blur:
        image = np.asarray(cv2.blur(image, (int(kernels[0]), int(kernels[0]))))
    if chosen[1] < config.median_blur:
        image = np.asarray(cv2.medianBlur(image, int(kernels[1])))
    return image


def punch_hole(
    image: UInt8[np.ndarray, "height width 3"], config: DistortConfig, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """One rectangle of the mean colour, which the network sees as zero (coarse dropout). It lies inside."""
    chosen, (tall, wide) = rng.random(), rng.uniform(*config.hole_size, 2)
    place = rng.random(2)
    if chosen >= config.hole:
        return image
    rows, columns = round(image.shape[0] * tall), round(image.shape[1] * wide)
    y, x = round((image.shape[0] - rows) * place[0]), round((image.shape[1] - columns) * place[1])
    image = image.copy()
    image[y : y + rows, x : x + columns] = PADDING
    return image


def _to_uint8(image: Float32[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    return np.asarray(np.rint(image).clip(0, 255), dtype=np.uint8)
