"""Grey and reduced pixels, as the statistics of the other filters take them; each is made once per image."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import UInt8

from curation.boxes import RGB

SMALL = 512  # px; most statistics depend on scale, so that all images are brought to one

Grey = UInt8[np.ndarray, "_height _width"]
Pixels = UInt8[np.ndarray, "_height _width ..."]


@dataclass(frozen=True)
class Views:
    """What statistics look at."""

    image: RGB

    @cached_property
    def grey(self) -> Grey:
        """Luma of the image, at its own size."""
        return luminance(self.image)

    @cached_property
    def small_grey(self) -> Grey:
        """`grey` averaged by area to a longer side of SMALL px, never enlarged."""
        return bounded(self.grey, SMALL)

    @cached_property
    def small(self) -> RGB:
        """The image averaged by area to a longer side of SMALL px, never enlarged."""
        return bounded(self.image, SMALL)

    @cached_property
    def halved(self) -> RGB:
        """The image halved until its longer side is at most SMALL px: cheaper than `small`, less exact in
        size.
        """
        return halved(self.image, SMALL)


def luminance(image: RGB) -> Grey:
    """Luma of the gamma-encoded pixels, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), uint8, in fixed-point
    arithmetic: the same on every machine.
    """
    grey: Grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return grey


def bounded(pixels: Pixels, longest: int) -> Pixels:
    """The pixels averaged by area to a longer side of `longest` px; as they are when not longer than that.

    Halved while they can be (which is integer arithmetic, and many times faster), then averaged to size.
    """
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return resized(halved(pixels, 2 * longest - 1), *size)


def halved(pixels: Pixels, longest: int) -> Pixels:
    """The pixels averaged 2 x 2 until the longer side is at most `longest` px. An odd last row or column
    goes.
    """
    while max(pixels.shape[:2]) > longest and min(pixels.shape[:2]) > 1:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        pixels = resized(pixels[: 2 * height, : 2 * width], height, width)
    return pixels


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """The pixels averaged by area (interpolated where they must grow) to `height` x `width`."""
    small: Pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return small
