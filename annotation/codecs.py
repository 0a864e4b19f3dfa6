"""One pair of functions per label: array -> bytes of a member, and back. Tests prove the error bounds.

Labels are PNG (lossless, readable by any tool) and npy. A size is read from the header and bounded before
anything is decoded, and only the pixel format that the encoder writes is accepted.
"""

import io
import math
import struct
import tokenize

import cv2
import numpy as np
from jaxtyping import Float32, Integer, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from shards.errors import VitruvianError

MAX_PIXELS = 80_000_000
"""Largest image decoded by default: twice an 8K frame, and below Pillow's own decompression-bomb warning."""

MAX_DEPTH = 10_000.0
"""Depths from here on are a renderer's mark for "nothing hit" (Cycles: 1e10, half-float EXR: 65504)."""

_DEPTH_STEPS = 65534  # codes 1 .. 65535; 0 says: no surface
_NORMAL_SCALE = 32767  # code = 32768 + 32767 n lies in 1 .. 65535, so (0, 0, 0) is free to say: no surface
_NORMAL_ZERO = 32768
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_FLAGS = [cv2.IMWRITE_PNG_COMPRESSION, 3]
_GRAY, _RGB = 0, 2  # PNG colour types
_PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


class DecodeError(VitruvianError):
    """Bytes that are not the label or image they should be.

    `reason` is one word for tables: "unknown" (no image format we read), "size" (too many pixels),
    "truncated" (ends early), "corrupt" (anything else that is wrong inside).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def encode_depth(depth_m: Float32[np.ndarray, "height width"]) -> tuple[bytes, float, float]:
    """Depth in metres, 0 = no surface -> (16-bit PNG, near, far): nearest and farthest depth of the sample.

    Error at most (far - near) / 131068 plus float32 rounding: 0.046 mm over 6 m. Without any surface near and
    far are 0. Raises VitruvianError for negative, non-finite or background depths (>= MAX_DEPTH), which would
    eat up the precision.
    """
    surface = depth_m > 0
    if not np.isfinite(depth_m).all() or (depth_m < 0).any() or (depth_m >= MAX_DEPTH).any():
        raise VitruvianError(
            f"depth: expected metres in (0, {MAX_DEPTH:g}), or 0 for no surface; got {depth_m.min()} .. "
            f"{depth_m.max()}: write 0 where the renderer hit nothing"
        )
    if not surface.any():
        return _encode_png(np.zeros(depth_m.shape, np.uint16)), 0.0, 0.0
    near, far = float(depth_m[surface].min()), float(depth_m.max())
    steps = (depth_m.astype(np.float64) - near) * (_DEPTH_STEPS / (far - near) if far > near else 0.0)
    codes = np.where(surface, np.rint(steps) + 1, 0)
    return _encode_png(codes.astype(np.uint16)), near, far


def decode_depth(png: bytes, near: float, far: float) -> Float32[np.ndarray, "height width"]:
    """The inverse of `encode_depth`: metres, 0 = no surface."""
    codes = _decode_png(png, "depth", bits=16, colour=_GRAY)
    metres = near + (codes.astype(np.float64) - 1) * ((far - near) / _DEPTH_STEPS)
    return np.where(codes > 0, metres, 0).astype(np.float32)


def encode_normal(normal: Float32[np.ndarray, "height width 3"]) -> bytes:
    """Unit normals (x right, y up, z toward the camera), (0, 0, 0) = no surface -> 48-bit PNG, R G B = x y z.

    Error at most 0.0016 degrees. Raises VitruvianError for lengths other than 0 and 1 (within 0.1 %).
    """
    length = _length(normal)
    bad = ~((length == 0) | (np.abs(length - 1) < 1e-3))
    if bad.any():
        y, x = np.argwhere(bad)[0]
        raise VitruvianError(
            f"normal: expected length 1, or 0 for no surface; got {normal[y, x].tolist()} at x={x}, y={y} "
            f"({int(bad.sum())} such pixels): normalise before encoding"
        )
    surface = length > 0
    codes = normal * (_NORMAL_SCALE / np.where(surface, length, 1))[..., None]
    np.rint(codes, out=codes)
    codes += np.where(surface, _NORMAL_ZERO, 0).astype(np.float32)[..., None]
    return _encode_png(cv2.cvtColor(codes.astype(np.uint16), cv2.COLOR_RGB2BGR))


def decode_normal(png: bytes) -> Float32[np.ndarray, "height width 3"]:
    """The inverse of `encode_normal`: unit length again, (0, 0, 0) = no surface."""
    codes = _decode_png(png, "normal", bits=16, colour=_RGB)
    normal: np.ndarray = cv2.cvtColor(codes, cv2.COLOR_BGR2RGB).astype(np.float32)
    none = (codes[..., 0] == 0) & (codes[..., 1] == 0) & (codes[..., 2] == 0)
    normal -= _NORMAL_ZERO  # dividing by the scale can wait for the length
    length = _length(normal)
    normal *= np.where(none | (length == 0), 0, 1 / np.maximum(length, 1))[..., None]
    normal += 0.0  # turns -0.0 into 0.0
    return normal


def encode_mask(mask: UInt8[np.ndarray, "height width"]) -> bytes:
    """Alpha (255 = covered), part ids (255 = ignore) or person ids -> 8-bit grey PNG, without loss."""
    return _encode_png(mask)


def decode_mask(png: bytes) -> UInt8[np.ndarray, "height width"]:
    """The inverse of `encode_mask`."""
    return _decode_png(png, "mask", bits=8, colour=_GRAY)


def encode_rgb(rgb: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """RGB image (not OpenCV's BGR) -> 24-bit PNG, without loss."""
    return _encode_png(rgb[..., ::-1])


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS) -> UInt8[np.ndarray, "height width 3"]:
    """Any photograph or picture file -> RGB, upright as its EXIF orientation says.

    Transparent pixels are shown over white, 16-bit greys lose their low byte, animations give their first
    frame. A file that ends after its last pixel is accepted. Raises DecodeError (its `reason` says which
    way), in particular for more than `max_pixels` pixels, which are read from the header before any pixel is
    decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_PHOTO_FORMATS) as image:
            _refuse_large(*image.size, max_pixels)
            return np.asarray(_to_rgb(_upright(image)))
    except DecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("size", f"image: expected at most {max_pixels} pixels; {error}") from error
    except UnidentifiedImageError as error:
        raise DecodeError(
            "unknown",
            f"image: expected one of {', '.join(_PHOTO_FORMATS)}; got {data[:12]!r} ({len(data)} bytes)",
        ) from error
    except (
        Exception
    ) as error:  # on bad bytes Pillow's readers raise almost anything: struct.error, SyntaxError
        reason = "truncated" if _ends_early(error) else "corrupt"
        raise DecodeError(reason, f"image: {reason} ({len(data)} bytes): {error}") from error


def encode_keypoints(keypoints: Float32[np.ndarray, "people points 4"]) -> bytes:
    """x px, y px, z m, visibility (0 outside, 1 occluded, 2 visible) per point -> npy bytes, without loss."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(keypoints, dtype="<f4"), allow_pickle=False)
    return buffer.getvalue()


def decode_keypoints(data: bytes) -> Float32[np.ndarray, "people points 4"]:
    """The inverse of `encode_keypoints`. Raises DecodeError for any other array; never unpickles."""
    buffer = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(buffer)  # type: ignore[no-untyped-call]
        if version != (1, 0):
            raise ValueError(f"npy version {version}")
        header = np.lib.format.read_array_header_1_0(buffer)  # type: ignore[no-untyped-call]
    except (ValueError, SyntaxError, tokenize.TokenError) as error:
        raise DecodeError("corrupt", f"keypoints: expected an npy file (version 1.0); {error}") from error
    (shape, column_major, dtype), body = header, data[buffer.tell() :]
    if dtype != np.dtype("<f4") or len(shape) != 3 or shape[2] != 4 or column_major or min(shape) < 0:
        raise DecodeError(
            "corrupt", f"keypoints: expected float32 (people, points, 4) in C order; got {dtype} {shape}"
        )
    if len(body) != 4 * math.prod(shape):
        raise DecodeError(
            "truncated", f"keypoints: {shape} needs {4 * math.prod(shape)} bytes; got {len(body)}"
        )
    return np.frombuffer(body, dtype="<f4").reshape(shape).astype(np.float32)


def _length(vectors: Float32[np.ndarray, "height width 3"]) -> Float32[np.ndarray, "height width"]:
    x, y, z = (
        vectors[..., 0],
        vectors[..., 1],
        vectors[..., 2],
    )  # several times faster than a norm along axis 2
    return np.asarray(np.sqrt(x * x + y * y + z * z))


def _encode_png(image: Integer[np.ndarray, "height width *channels"]) -> bytes:
    ok, buffer = cv2.imencode(".png", np.ascontiguousarray(image), _PNG_FLAGS)
    if not ok:
        raise VitruvianError(f"png: could not encode an image of shape {image.shape} and type {image.dtype}")
    return bytes(buffer)


def _decode_png(
    png: bytes, label: str, bits: int, colour: int
) -> Integer[np.ndarray, "height width *channels"]:
    """Pixels as stored (OpenCV's channel order). A wrong kind, a wrong checksum or an early end is a
    DecodeError.
    """
    if png[:8] != _PNG_SIGNATURE or len(png) < 33:
        raise DecodeError("unknown", f"{label}: expected a PNG file; got {png[:12]!r} ({len(png)} bytes)")
    width, height, found_bits, found_colour = struct.unpack(">IIBB", png[16:26])
    if (found_bits, found_colour) != (bits, colour):
        raise DecodeError(
            "corrupt",
            f"{label}: expected a PNG of {bits} bits, colour type {colour} (0 grey, 2 RGB); "
            f"got {found_bits} bits, colour type {found_colour}",
        )
    _refuse_large(width, height, MAX_PIXELS)
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        reason = "corrupt" if png[-8:-4] == b"IEND" else "truncated"
        raise DecodeError(reason, f"{label}: {reason} PNG ({len(png)} bytes): write the sample again")
    return np.asarray(image)


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise DecodeError(
            "size",
            f"image: expected at most {max_pixels} pixels; the header says {width} x {height}: "
            "raise max_pixels if that is meant",
        )


def _upright(image: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    turned.load()
    return turned


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray(
            (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _ends_early(error: Exception) -> bool:
    return any(
        word in str(error).lower() for word in ("truncated", "incomplete", "not enough", "end of file")
    )
