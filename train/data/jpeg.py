"""A box of a JPEG: decoded no finer than the example needs, upright as EXIF says.

libjpeg can decode at 1/2, 1/4 and 1/8 of the size for little (it inverts smaller cosine transforms). A box is
cut on whole pixels of the scale it is decoded at, so that the picture lies where a full decode has it.
"""

import io
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from annotation.codecs import MAX_PIXELS

Box = tuple[int, int, int, int]
"""(y, x, height, width), pixels."""

_PLAIN = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_FLAGS = {
    8: _PLAIN | cv2.IMREAD_REDUCED_COLOR_8,
    4: _PLAIN | cv2.IMREAD_REDUCED_COLOR_4,
    2: _PLAIN | cv2.IMREAD_REDUCED_COLOR_2,
    1: _PLAIN,
}
# EXIF orientation -> how the stored picture becomes upright: transpose, then flip (down, across).
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Jpeg:
    """A JPEG of which only the header was read. `stored`: (height, width) as stored, before EXIF's turn."""

    data: bytes
    stored: tuple[int, int]
    orientation: int

    @classmethod
    def read(cls, data: bytes) -> "Jpeg | None":
        """None for anything but a grey or RGB JPEG of at most MAX_PIXELS pixels: `decode_image` is to judge
        it.
        """
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                (width, height), mode = image.size, image.mode
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception:  # on bad bytes Pillow's readers raise almost anything
            return None
        if mode not in ("RGB", "L") or width * height > MAX_PIXELS:
            return None
        return cls(data, (height, width), orientation if orientation in _TURNS else 1)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) upright."""
        transposed = _TURNS[self.orientation][0]
        return self.stored[::-1] if transposed else self.stored

    def cut(self, box: Box, least: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"] | None:
        """The upright box as RGB, reduced by 1, 2, 4 or 8 but never below `least` (height, width).

        Reduced, it loses up to 7 pixels at each side (see `reduction`). None when the bytes are damaged.
        """
        transpose, down, across = _TURNS[self.orientation]
        factor, (y, x, height, width) = reduction(self._to_stored(box), least[::-1] if transpose else least)
        picture = cv2.imdecode(np.frombuffer(self.data, np.uint8), _FLAGS[factor])
        if picture is None or picture.shape[:2] != tuple(-(-side // factor) for side in self.stored):
            return None
        found = np.asarray(picture)[y : y + height, x : x + width]
        if transpose:
            found = found.transpose(1, 0, 2)
        return found[:: -1 if down else 1, :: -1 if across else 1]

    def _to_stored(self, box: Box) -> Box:
        transpose, down, across = _TURNS[self.orientation]
        (y, x, height, width), size = box, self.size
        y = size[0] - y - height if down else y
        x = size[1] - x - width if across else x
        return (x, y, width, height) if transpose else (y, x, height, width)


def reduction(box: Box, least: tuple[int, int]) -> tuple[int, Box]:
    """(factor, box in pixels of the picture reduced by it): the largest factor of 8, 4, 2, 1 at which the
    whole reduced pixels inside `box` are at least `least` (height, width), so that nothing reduced is ever
    enlarged.
    """
    y, x, height, width = box
    for factor in (8, 4, 2):
        top, left = -(-y // factor), -(-x // factor)
        inside = (top, left, (y + height) // factor - top, (x + width) // factor - left)
        if inside[2] >= least[0] and inside[3] >= least[1]:
            return factor, inside
    return 1, box
