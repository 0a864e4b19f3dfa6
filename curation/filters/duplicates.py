"""What makes duplicates comparable: digest of the pixels, perceptual hash, thumbnail."""

from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from curation.boxes import RGB
from curation.columns import THUMBNAIL_SIDE
from curation.filters.reduce import Views, resized

_DCT_SIDE = 32  # px


def pixel_sha256(image: RGB) -> str:
    """sha256 over height, width (little-endian uint32) and the RGB bytes, as 64 hex digits."""
    digest = sha256(np.array(image.shape[:2], "<u4").tobytes())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def measure_hashes(image: RGB, views: Views | None = None) -> dict[str, Any]:
    """The columns pixel_sha256, phash and thumbnail. `views` of the image, where they exist already."""
    views = views or Views(image)
    return {
        "pixel_sha256": pixel_sha256(image),
        "phash": phash(image, views),
        "thumbnail": thumbnail(image, views),
    }


def phash(image: RGB, views: Views | None = None) -> int:
    """64-bit perceptual hash: similar pictures differ in few bits. A flat image's is 0.

    Luma averaged by area to 512 px, then to 32 x 32, its DCT-II, the 64 lowest frequencies without the mean
    (by u + v, then v), each a bit: above their median or not; the lowest frequency is the highest bit. After
    Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010, who leaves out all of
    the first row and column too, and with them every picture that varies in one direction only.

    A mirrored or turned picture is another picture. Coefficients are rounded to 1/16 grey level before they
    are compared, so that two CPUs agree unless one falls within float64's error of a rounding step.
    """
    grey = (views or Views(image)).small_grey
    small = resized(grey, _DCT_SIDE, _DCT_SIDE).astype(np.float64)
    # Two products of 32 x 32: as fast as cv2.dct, and in float64, where the order of the sums hardly matters.
    coefficients = (_BASIS @ small @ _BASIS.T)[_VERTICAL, _HORIZONTAL]
    steps = np.round(coefficients * 16)
    bits = steps > np.median(steps)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def thumbnail(image: RGB, views: Views | None = None) -> bytes:
    """Luma averaged by area to 512 px, then to 16 x 16, uint8, row by row: 256 bytes. Tells pictures whose
    hashes collide.
    """
    grey = (views or Views(image)).small_grey
    return resized(grey, THUMBNAIL_SIDE, THUMBNAIL_SIDE).tobytes()


def _lowest_frequencies(count: int) -> tuple[Int64[np.ndarray, " count"], Int64[np.ndarray, " count"]]:
    """(vertical, horizontal) indices of the lowest `count` frequencies but the mean."""
    ordered = sorted(((u, v) for u in range(16) for v in range(16)), key=lambda pair: (sum(pair), pair[1]))
    chosen = np.array(ordered[1 : count + 1], np.int64)
    return chosen[:, 0], chosen[:, 1]


def _dct_basis(size: int) -> Float64[np.ndarray, "size size"]:
    """Orthonormal DCT-II: row u holds cos(pi u (2 x + 1) / (2 size)), scaled to length 1."""
    u, x = np.mgrid[:size, :size]
    basis: Float64[np.ndarray, "size size"] = np.cos(np.pi * u * (2 * x + 1) / (2 * size)) * np.sqrt(2 / size)
    basis[0] /= np.sqrt(2)
    return basis


_BASIS = _dct_basis(_DCT_SIDE)
_VERTICAL, _HORIZONTAL = _lowest_frequencies(64)
