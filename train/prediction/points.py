"""Depth as points in space: with which focal length, in which metres; normals of the surface; PLY files."""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

ASSUMED_FOCAL = 1.2
"""Of a picture that says nothing: in units of its longer side, about a 43 mm lens on 35 mm film."""
_FILM_DIAGONAL = math.hypot(36, 24)


@dataclass(frozen=True)
class Focal:
    """Focal length in pixels, and where it comes from."""

    px: float
    source: Literal["given", "exif", "assumed"]


def choose_focal(size: tuple[int, int], given: float | None, focal_35mm: float | None) -> Focal:
    """For a picture of `size` (height, width): `given` (px), else the file's 35 mm equivalent (mm; equal
    diagonals), else 1.2 longer sides.
    """
    if given is not None:
        return Focal(given, "given")
    if focal_35mm is not None:
        return Focal(focal_35mm / _FILM_DIAGONAL * math.hypot(*size), "exif")
    return Focal(ASSUMED_FOCAL * max(size), "assumed")


def unproject(
    depth_m: Float32[np.ndarray, "height width"], focal_px: float
) -> Float64[np.ndarray, "height width 3"]:
    """Camera-frame points (m; x right, y down, z forward); the optical axis meets the picture's middle."""
    height, width = depth_m.shape
    z = depth_m.astype(np.float64)
    x = (np.arange(width) - (width - 1) / 2) / focal_px
    y = (np.arange(height)[:, None] - (height - 1) / 2) / focal_px
    return np.stack([x * z, y * z, z], axis=-1)


def normals_of(
    points: Float64[np.ndarray, "height width 3"], mask: Bool[np.ndarray, "height width"]
) -> Float32[np.ndarray, "height width 3"]:
    """Unit normals (x right, y up, z toward the camera) of the surface through each pixel's four neighbours
    (the paper's Fig. 8); (0, 0, 0) where one of them is missing.
    """
    across, down = np.zeros_like(points), np.zeros_like(points)
    across[:, 1:-1] = points[:, 2:] - points[:, :-2]
    down[1:-1] = points[2:] - points[:-2]
    normal = np.cross(down, across) * (1, -1, -1)
    length = np.linalg.norm(normal, axis=-1)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inside = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    known = inside & (length > 0)
    unit = normal / np.where(known, length, 1)[..., None]
    return np.where(known[..., None], unit, 0).astype(np.float32)


def encode_ply(points: Float64[np.ndarray, "n 3"], colours: UInt8[np.ndarray, "n 3"]) -> bytes:
    """A binary PLY of coloured vertices (float32 metres, uint8 RGB)."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    vertices = np.empty(len(points), np.dtype(fields))
    for axis, name in enumerate("xyz"):
        vertices[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours[:, channel]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    lines += [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    return ("\n".join([*lines, "end_header"]) + "\n").encode() + vertices.tobytes()


def thinned(mask: Bool[np.ndarray, "height width"], most: int) -> Bool[np.ndarray, "height width"]:
    """The mask on every n-th row and column, n the smallest that leaves at most `most` pixels."""
    step = 1
    while np.count_nonzero(mask[::step, ::step]) > most:
        step += 1
    kept = np.zeros_like(mask)
    kept[::step, ::step] = mask[::step, ::step]
    return kept
