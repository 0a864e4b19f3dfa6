"""From untrusted bytes to upright RGB pixels, or a status that says why not. Nothing here raises for a bad
image, and the outcome is a function of the bytes and the limits.

Pixels are those that training will see (`annotation.codecs.decode_image`): as stored, without applying ICC
profiles; CMYK and YCCK by Pillow's plain formula (Adobe's inversion undone); transparency over white; 16 bits
as their high byte; the first picture of an MPO.
"""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile

from curation.boxes import RGB
from curation.camera import NO_CAMERA, ORIENTATION, Camera, camera_facts, read_exif
from curation.columns import DECODED_OK

EMPTY = "decode:empty"
NOT_AN_IMAGE = "decode:not-an-image"
UNSUPPORTED = "decode:unsupported"  # an image, but animated or of a format that training shards do not hold
TOO_LARGE = "decode:too-large"  # more pixels, bytes or memory than the configuration allows; never decoded
TRUNCATED = "decode:truncated"
CORRUPT = "decode:corrupt"
UNREADABLE = "decode:unreadable"  # the file cannot be opened, or is none (a pipe, a device, a dangling link)
LINK = "decode:link"  # a link to a folder, or one that leaves the pool
OUTSIDE = "decode:outside"  # a table's path or URL that leaves the pool
NOT_FETCHED = "decode:not-fetched"  # a table's web address; nothing here downloads
NO_IMAGE = "decode:no-image"  # a sample of a tar, or a row of a table, without an image
BAD_ROW = "decode:bad-row"  # a line that is no JSON or CSV, or no image where one is expected

MEMORY = 1 << 30  # bytes that decoding one image may take, unless the caller says otherwise
# Peak bytes per pixel of Pillow 13's decoders and the copy into RGB, measured (docs/pool.md).
_BYTES_PER_PIXEL = {"JPEG": 7, "PNG": 7, "WEBP": 16}
_PROGRESSIVE = 5  # more: libjpeg holds all coefficients
_COPIES = {"JPEG": 2, "PNG": 1, "WEBP": 3}  # of the file, with the one there is
_FIXED = 32 << 20  # bytes: strips, zlib, EXIF
_STRIP = 1 << 20  # pixels that are converted at once
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_BMP_HEADERS = (12, 40, 56, 108, 124)
# How stored pixels become upright (Exif 3.0, 4.6.5.1.6).
_TURNS: dict[int, Callable[[RGB], RGB]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: np.rot90(image),
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
    camera: Camera = NO_CAMERA


def decode(data: bytes, max_pixels: int, max_memory: int = MEMORY) -> Decoded:
    """Decode a JPEG, PNG or WebP of at most `max_pixels` that takes at most `max_memory` bytes to decode;
    both are checked before any pixel is.
    """
    if not data:
        return Decoded(EMPTY)
    kind = sniff(data)
    if kind not in ("JPEG", "PNG", "WEBP"):
        return Decoded(UNSUPPORTED if kind else NOT_AN_IMAGE)
    if kind == "WEBP" and (size := webp_size(data)) and _is_large(*size, kind, data, max_pixels, max_memory):
        return Decoded(TOO_LARGE, None, "webp", *size, 1)  # Pillow would allocate its canvas to open it
    try:
        with _untroubled_pillow(), Image.open(BytesIO(_without_exif(data, kind)), formats=(kind,)) as picture:
            return _decode_opened(picture, data, max_pixels, max_memory)
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


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP's header claims; None when it is cut short (RFC 9649, 2.5 to 2.7)."""
    kind, bits = data[12:16], data[20:30]
    if len(bits) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(bits[4:7], "little") + 1, int.from_bytes(bits[7:10], "little") + 1
    if kind == b"VP8L":
        size = int.from_bytes(bits[1:5], "little")
        return (size & 0x3FFF) + 1, (size >> 14 & 0x3FFF) + 1
    return int.from_bytes(bits[6:8], "little") & 0x3FFF, int.from_bytes(bits[8:10], "little") & 0x3FFF


def _decode_opened(picture: Image.Image, data: bytes, max_pixels: int, max_memory: int) -> Decoded:
    kind = "JPEG" if picture.format == "MPO" else str(picture.format)
    width, height = picture.size
    progressive = "progressive" in picture.info
    status, image = DECODED_OK, None
    if _is_large(width, height, kind, data, max_pixels, max_memory, progressive):
        status = TOO_LARGE
    elif getattr(picture, "n_frames", 1) > 1:
        status = UNSUPPORTED
    else:
        image = _pixels(picture)
        width, height = picture.size
    tags = read_exif(_exif(picture, data))
    orientation = _orientation(picture, tags)
    picture.close()  # frees its pixels before they are turned
    if image is not None:
        image = np.ascontiguousarray(_TURNS[orientation](image))
    if orientation > 4:
        width, height = height, width
    camera = camera_facts(tags, data)
    return Decoded(status, image, _EXTENSIONS[kind], width, height, orientation, camera)


def _is_large(
    width: int,
    height: int,
    kind: str,
    data: bytes,
    max_pixels: int,
    max_memory: int,
    progressive: bool = False,
) -> bool:
    """Whether a limit forbids to decode."""
    per_pixel = _BYTES_PER_PIXEL[kind] + (_PROGRESSIVE if progressive else 0)
    memory = _FIXED + _COPIES[kind] * len(data) + width * height * per_pixel
    return width * height > max_pixels or memory > max_memory


def _pixels(picture: Image.Image) -> RGB:
    """The pixels as stored, strip by strip, so that no second picture stands beside the first."""
    picture.load()
    width, height = picture.size
    image = np.empty((height, width, 3), np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        image[top:bottom] = _to_rgb(picture.crop((0, top, width, bottom)))
    return image


def _to_rgb(strip: Image.Image) -> RGB:
    if strip.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip rather than scale
        grey = (np.asarray(strip).astype(np.uint32) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if not strip.has_transparency_data:
        return np.asarray(strip.convert("RGB"))
    rgba = strip.convert("RGBA")
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


def _without_exif(data: bytes, kind: str) -> bytes:
    """A JPEG whose EXIF and MPF segments Pillow does not recognise: to open one, it would join all of them
    and, before version 13, load every value that their directories point to (gigabytes from a megabyte).

    Within coded pixels 0xff is followed by 0 or a restart, so only segments can match.
    """
    if kind != "JPEG" or not (b"Exif\0\0" in data or b"MPF\0" in data):
        return data
    return _SEGMENT.sub(lambda found: found[0][:4] + bytes(len(found[0]) - 4), data)


_SEGMENT = re.compile(rb"\xff\xe1..Exif\0\0|\xff\xe2..MPF\0", re.DOTALL)


def _exif(picture: Image.Image, data: bytes) -> bytes:
    """The EXIF block of an opened file. A PNG's may follow its pixels, so is known once they are loaded."""
    if picture.format == "JPEG":
        return _jpeg_exif(data)
    block = picture.info.get("exif")
    raw = picture.info.get("Raw profile type exif")  # how ImageMagick wrote it before PNG had eXIf
    if block is None and isinstance(raw, str):
        try:
            block = bytes.fromhex("".join(raw.split("\n")[3:]))
        except ValueError:
            return b""
    return block if isinstance(block, bytes) else b""


def _jpeg_exif(data: bytes) -> bytes:
    """The first EXIF segment before the first scan; an MPO's further pictures have their own."""
    place = 2
    while data[place : place + 1] == b"\xff" and place + 4 <= len(data):
        marker = data[place + 1]
        if marker in (0xD9, 0xDA):
            break
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:  # padding; markers without a length
            place += 1 if marker == 0xFF else 2
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if marker == 0xE1 and data[place + 4 : place + 10] == b"Exif\0\0":
            return data[place + 4 : end]
        place = end
    return b""


def _orientation(picture: Image.Image, tags: dict[int, str | int]) -> int:
    """EXIF's, else XMP's as Pillow has it; 1 when neither says, or says nonsense."""
    orientation = tags.get(ORIENTATION)
    if orientation is None:
        xmp = picture.info.get("XML:com.adobe.xmp") or picture.info.get("xmp") or b""
        found = _XMP_ORIENTATION.search(xmp.encode("utf-8", "replace") if isinstance(xmp, str) else xmp)
        orientation = int(found[1]) if found else 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@contextmanager
def _untroubled_pillow() -> Iterator[None]:
    """Pillow without its own size limit (ours is checked from the header first), without its warnings, and
    strict about files that stop early.
    """
    limit, lenient = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = limit, lenient


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
