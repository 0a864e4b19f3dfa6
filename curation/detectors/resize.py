"""Images brought to a network's size, each way exactly as the released networks were fed.

Coordinates are corners: the whole image is 0..width, 0..height. All three resizers align pixel *centres* at
half pixels (pixel i covers i..i+1), so a corner at x lies at x * new_width / width afterwards, exactly.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from curation.boxes import RGB

PAD = 114  # of 255, in every channel


@dataclass(frozen=True)
class Placement:
    """An original image of `width` x `height` px, and how many px of the input one of its px takes, by axis.

    Its top-left corner is the input's.
    """

    width: int
    height: int
    scale_x: float
    scale_y: float

    def to_original(self, xyxy: Float32[np.ndarray, "boxes 4"]) -> Float32[np.ndarray, "boxes 4"]:
        """Corners in px of the input -> corners in px of the original image."""
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float64)
        original: Float32[np.ndarray, "boxes 4"] = (xyxy / scale).astype(np.float32)
        return original


def letterbox(
    image: RGB, height: int, width: int, rounding: float
) -> tuple[UInt8[np.ndarray, "h w 3"], Placement]:
    """The image at its own aspect ratio in the top-left corner of `height` x `width`, the rest grey (PAD).

    r = min(height / h, width / w); its sides become int(side * r + rounding): YOLOX truncates (0), mmdet
    rounds (0.5). Bilinear between pixel centres, no antialiasing (cv2.INTER_LINEAR). Rounding bends the
    aspect ratio a little: the placement has the scale of each axis as it is, where YOLOX's demo divides by r.
    """
    high, wide = image.shape[:2]
    ratio = min(height / high, width / wide)
    new_high = min(height, max(1, int(high * ratio + rounding)))
    new_wide = min(width, max(1, int(wide * ratio + rounding)))
    canvas: UInt8[np.ndarray, "h w 3"] = np.full((height, width, 3), PAD, np.uint8)
    canvas[:new_high, :new_wide] = cv2.resize(image, (new_wide, new_high), interpolation=cv2.INTER_LINEAR)
    return canvas, Placement(wide, high, new_wide / wide, new_high / high)


def stretch(image: RGB, height: int, width: int) -> Float32[np.ndarray, "h w 3"]:
    """Bilinear between pixel centres, no antialiasing, in float, 0..255, aspect ratio not kept.

    What torchvision's `resize(..., antialias=False)` does to a float tensor; cv2.INTER_LINEAR would round to
    uint8, and would need the whole image as float first. Reads only the rows and columns it needs.
    """
    top, bottom, down = _neighbours(image.shape[0], height)
    left, right, across = _neighbours(image.shape[1], width)
    across = across[None, :, None]

    def row(rows: np.ndarray) -> Float32[np.ndarray, "h w 3"]:
        lines = image[rows]
        line: Float32[np.ndarray, "h w 3"] = lines[:, left] * (1 - across) + lines[:, right] * across
        return line

    down = down[:, None, None]
    resized: Float32[np.ndarray, "h w 3"] = row(top) * (1 - down) + row(bottom) * down
    return resized


def stretch_antialiased(image: RGB, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """Pillow's bilinear (a triangle as wide as the reduction), in uint8: torchvision's `Resize` of a PIL
    image.
    """
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def stretched(image: RGB, height: int, width: int) -> Placement:
    """The placement of an image that fills the input."""
    return Placement(image.shape[1], image.shape[0], width / image.shape[1], height / image.shape[0])


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, Float32[np.ndarray, " n"]]:
    """For each new pixel the two old ones around its centre, and the weight of the second."""
    centre = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)
    first = np.floor(centre).astype(np.int64)
    return first, np.minimum(first + 1, old - 1), (centre - first).astype(np.float32)
