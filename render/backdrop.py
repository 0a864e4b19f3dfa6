"""What is behind the people, in linear light: the HDRI as the camera sees it, darkened where they stand.

Computed directly instead of by path tracing: it has no noise, and Cycles is left with the people alone, which
are a small part of most pictures.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64, Int

from annotation.camera import Camera

_FILTER_WIDTH = 3.0  # px across: Blackman-Harris of "width 1.5", which Cycles doubles
_MOST_SUBPIXELS = 4  # per axis
_PADDING = 2  # px around the picture, which the filter reaches

# How far the occluders of a ground point may be: the body's soft shadow, and the dark where a sole meets it.
_DISTANCES = (1.5, 0.3)  # m
_DIRECTIONS = 128
_CELL = 0.02  # m
_LIFT = 1e-3  # m: rays start above the ground, which a sole touches


@dataclass(frozen=True)
class GroundShade:
    """Ambient occlusion of the ground plane z = 0 around the people.

    visible: share of light that arrives, 1 = all, on a grid of square cells `cell` m wide whose first centre
    is at `corner` (world x, y, m); rows run along y. Beyond the grid everything arrives.
    """

    visible: Float32[np.ndarray, "rows columns"]
    corner: tuple[float, float]
    cell: float


def backdrop(
    radiance: Float32[np.ndarray, "h w 3"], rotation_deg: float, camera: Camera, shade: GroundShade | None
) -> Float32[np.ndarray, "height width 3"]:
    """Linear radiance of the HDRI behind every pixel of `camera`, times `shade` where the ground is seen.

    rotation_deg: as `LightSpec`, about z. Filtered like the beauty render.
    """
    factor = _subpixels(radiance, camera)
    padded = camera.crop(-_PADDING, -_PADDING, camera.width + 2 * _PADDING, camera.height + 2 * _PADDING)
    fine = padded.resize(padded.width * factor, padded.height * factor)
    rays = fine.rays().astype(np.float32)
    seen = _look_up(radiance, rays, rotation_deg)
    if shade is not None:
        seen *= _shade_along(rays, camera.position, shade)[..., None]
    return np.ascontiguousarray(_filtered(seen, factor)[_PADDING:-_PADDING, _PADDING:-_PADDING])


def _subpixels(radiance: Float32[np.ndarray, "h w 3"], camera: Camera) -> int:
    """Rays per pixel and axis: two per HDRI pixel, at the picture's centre."""
    pixel = 1 / camera.K[0, 0]
    return int(np.clip(np.ceil(2 * pixel * radiance.shape[1] / (2 * np.pi)), 1, _MOST_SUBPIXELS))


def _filtered(seen: Float32[np.ndarray, "h w 3"], factor: int) -> Float32[np.ndarray, "height width 3"]:
    """One mean per `factor` x `factor` pixels, weighted by Blackman-Harris as Cycles weights its samples."""
    reach = int(_FILTER_WIDTH * factor / 2) + 1
    offsets = np.arange(-reach, reach + 1) - (0.5 if factor % 2 == 0 else 0.0)
    phase = np.clip(offsets / (_FILTER_WIDTH * factor) + 0.5, 0, 1)
    terms = np.cos(2 * np.pi * phase[:, None] * np.arange(4)) @ [0.35875, -0.48829, 0.14128, -0.01168]
    kernel = np.clip(terms, 0, None) / np.clip(terms, 0, None).sum()
    smooth = cv2.sepFilter2D(seen, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    start = (factor - 1) // 2
    return np.ascontiguousarray(smooth[start::factor, start::factor])


def _look_up(
    radiance: Float32[np.ndarray, "h w 3"], rays: Float32[np.ndarray, "height width 3"], rotation_deg: float
) -> Float32[np.ndarray, "height width 3"]:
    """Bilinear lookup in the equirectangular image, with Cycles' convention: the image's centre is +x, its
    left quarter +y, and the mapping node turns the direction by the rotation.
    """
    height, width = radiance.shape[:2]
    x, y, z = rays[..., 0], rays[..., 1], rays[..., 2]
    azimuth = np.arctan2(y, x) + np.float32(np.deg2rad(rotation_deg))
    u = (0.5 - azimuth / np.float32(2 * np.pi)) % 1.0
    v = 0.5 - np.arctan2(z, np.hypot(x, y)) / np.float32(np.pi)
    # The image is continued by two columns on both sides, so that interpolation goes around.
    wrapped = np.concatenate([radiance[:, -2:], radiance, radiance[:, :2]], axis=1)
    columns, rows = u * width - 0.5 + 2, np.clip(v * height - 0.5, 0, height - 1)
    return np.asarray(
        cv2.remap(
            wrapped,
            columns.astype(np.float32),
            rows.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def _shade_along(
    rays: Float32[np.ndarray, "height width 3"], eye: Float64[np.ndarray, "3"], shade: GroundShade
) -> Float32[np.ndarray, "height width"]:
    """The ground's share of light where each ray meets z = 0; 1 for rays that never do."""
    downward = rays[..., 2] < -1e-6
    reach = np.where(downward, -eye[2] / np.where(downward, rays[..., 2], -1), 0)
    at_x = eye[0] + reach * rays[..., 0]
    at_y = eye[1] + reach * rays[..., 1]
    columns = np.where(downward, (at_x - shade.corner[0]) / shade.cell, -10)
    rows = np.where(downward, (at_y - shade.corner[1]) / shade.cell, -10)
    return np.asarray(
        cv2.remap(
            shade.visible,
            columns.astype(np.float32),
            rows.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=1.0,
        )
    )


def shade_ground(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> GroundShade:
    """Ambient occlusion of the ground under a mesh (world, m), by ray casting (embree).

    For each distance, the cosine-weighted share of the hemisphere that is free as far as that; the shares
    multiply. Fixed directions, the same for every cell: no noise, and the same bytes each time.
    """
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, vertices[faces].astype(np.float32))
    low = vertices[:, :2].min(axis=0) - max(_DISTANCES)
    high = vertices[:, :2].max(axis=0) + max(_DISTANCES)
    columns, rows = (np.ceil((high - low) / _CELL).astype(int) + 1).tolist()
    x = (low[0] + _CELL * np.arange(columns)).astype(np.float32)
    directions = _hemisphere(_DIRECTIONS)
    visible = np.ones((rows, columns), np.float32)
    for row in range(rows):  # row by row, to bound the memory
        origins = np.stack([x, np.full_like(x, low[1] + _CELL * row), np.full_like(x, _LIFT)], axis=1)
        free = _free_distance(scene, origins, directions)
        for distance in _DISTANCES:
            visible[row] *= (free >= distance).mean(axis=1)
    return GroundShade(cv2.GaussianBlur(visible, (0, 0), 1.0), (float(low[0]), float(low[1])), _CELL)


def _free_distance(
    scene: Any, origins: Float32[np.ndarray, "n 3"], directions: Float32[np.ndarray, "m 3"]
) -> Float32[np.ndarray, "n m"]:
    """How far each direction is free from each origin, at most the largest distance."""
    starts = np.repeat(origins, len(directions), axis=0)
    along = np.tile(directions, (len(origins), 1))
    limit = np.full(len(starts), max(_DISTANCES), np.float32)
    free = scene.run(starts, along, dists=limit, query="DISTANCE")
    return np.asarray(free, dtype=np.float32).reshape(len(origins), len(directions))


def _hemisphere(count: int) -> Float32[np.ndarray, "count 3"]:
    """Directions about +z, spread by the golden angle: each stands for an equal cosine-weighted part."""
    index = np.arange(count) + 0.5
    radius, angle = np.sqrt(index / count), index * np.pi * (3 - np.sqrt(5))
    z = np.sqrt(1 - radius**2)
    directions = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=1)
    return np.asarray(directions, dtype=np.float32)
