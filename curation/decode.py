"""From untrusted bytes to upright RGB pixels, or a status that says why not. Nothing here raises for a bad
image.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from curation.boxes import RGB
from curation.columns import DECODED_OK

EMPTY = "decode:empty"
NOT_AN_IMAGE = "decode:not-an-image"
UNSUPPORTED = "decode:unsupported"  # an image, but animated or of a format that training shards do not hold
TOO_LARGE = "decode:too-large"  # more pixels, or more bytes, than the configuration allows; never decoded
TRUNCATED = "decode:truncated"
CORRUPT = "decode:corrupt"
UNREADABLE = "decode:unreadable"  # the file cannot be opened
NO_IMAGE = "decode:no-image"  # a sample of a tar without an image member

EXIF_ORIENTATION = 0x0112
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
_BMP_HEADERS = (12, 40, 56, 108, 124)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """The outcome for one file: `image` (upright, uint8 RGB) when `status` is "ok"; what is known of it
    otherwise.

    `width` and `height` are upright too, and known for an image that is too large to decode.
    """

    status: str
    image: RGB | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    orientation: int | None = None


def decode(data: bytes, max_pixels: int) -> Decoded:
    """Decode a JPEG, PNG or WebP of at most `max_pixels`, a limit checked before any pixel is decoded."""
    if not data:
        return Decoded(EMPTY)
    kind = sniff(data)
    if kind not in ("JPEG", "PNG", "WEBP"):
        return Decoded(UNSUPPORTED if kind else NOT_AN_IMAGE)
    try:
        with _untroubled_pillow(), Image.open(BytesIO(data), formats=(kind,)) as picture:
            return _decode_opened(picture, max_pixels)
    except Exception:  # whatever a hostile file makes a decoder raise costs that file its row, not the run
        return Decoded(CORRUPT if is_complete(data, kind) else TRUNCATED)


def sniff(data: bytes) -> str | None:
    """The image format that the first bytes announce; None when they announce none."""
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"):
        return "HEIF"
    is_bitmap = data[:2] == b"BM" and int.from_bytes(data[14:18], "little") in _BMP_HEADERS
    return "BMP" if is_bitmap else None


def is_complete(data: bytes, kind: str) -> bool:
    """Whether the file reaches its format's end mark; of a JPEG, PNG or WebP that fails to decode."""
    if kind == "JPEG":
        return b"\xff\xd9" in data[-65536:]
    if kind == "PNG":
        return b"IEND" in data[-65536:]
    return len(data) >= int.from_bytes(data[4:8], "little") + 8


def _decode_opened(picture: Image.Image, max_pixels: int) -> Decoded:
    orientation = _orientation(picture)
    width, height = picture.size if orientation < 5 else picture.size[::-1]
    status = DECODED_OK
    if width * height > max_pixels:
        status = TOO_LARGE
    elif picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
        status = UNSUPPORTED
    image = _pixels(picture, orientation) if status == DECODED_OK else None
    return Decoded(status, image, _EXTENSIONS[str(picture.format)], width, height, orientation)


def _pixels(picture: Image.Image, orientation: int) -> RGB:
    if (turn := _TURNS.get(orientation)) is not None:
        picture = picture.transpose(turn)
    if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip rather than scale
        grey = (np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = int(picture.getexif().get(EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF is common, and the pixels beneath it are often fine
        return 1
    return orientation if 1 <= orientation <= 8 else 1


@contextmanager
def _untroubled_pillow() -> Iterator[None]:
    """Pillow without its own size limit (ours is checked from the header first) and without its warnings."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"8BPS": "PSD",
    b"\x00\x00\x01\x00": "ICO",
    b"\x00\x00\x00\x0cjP  ": "JPEG2000",
    b"\xff\x0a": "JXL",
    b"\x00\x00\x00\x0cJXL ": "JXL",
}
