"""Do depth, intrinsics, pose and normals agree in three dimensions? A number (normals computed from depth
against those stored) and a picture (the pixels as points in space, seen from elsewhere).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from annotation.camera import Camera, look_at
from annotation.draw import NOTHING, captioned, tile
from annotation.labels import Labels
from shards.errors import VitruvianError

_TURN_DEG = 50.0  # to either side
_BEND = 0.25  # a second difference of depth beyond this share of the pixel's footprint is an edge
_LIGHT = np.array([-0.45, 0.6, 0.66])  # x right, y up, z toward the camera: over the viewer's left shoulder
_CLAY = np.array([226, 219, 208])


@dataclass(frozen=True)
class Agreement:
    """Angles between normals computed from depth and those stored. share: of the surface's pixels that were
    compared; the others lie at an edge, where depth has no slope.
    """

    median_deg: float
    p90_deg: float
    share: float


def normals_from_depth(
    depth: Float32[np.ndarray, "height width"], camera: Camera
) -> Float32[np.ndarray, "height width 3"]:
    """Unit normals (x right, y up, z toward the camera) of the surface through each pixel and its four
    neighbours; (0, 0, 0) where one of them has no surface or lies across a fold.
    """
    y, x = np.mgrid[: camera.height, : camera.width].reshape(2, -1).astype(np.float64)
    rays = camera.directions(np.column_stack([x, y])).reshape(*depth.shape, 3)
    points = rays * depth[..., None].astype(np.float64)
    across, down = np.zeros_like(points), np.zeros_like(points)
    across[:, 1:-1] = points[:, 2:] - points[:, :-2]
    down[1:-1] = points[2:] - points[:-2]
    normal = np.cross(down, across) * (1, -1, -1)
    length = np.linalg.norm(normal, axis=-1)
    known = _smooth(depth.astype(np.float64), camera) & (length > 0)
    unit = normal / np.where(known, length, 1)[..., None]
    return np.where(known[..., None], unit, 0).astype(np.float32)


def normal_agreement(labels: Labels) -> Agreement:
    """How well the stored normals are the slope of the depth: whether K, depth and normals belong together.

    Compared are the geometric normals if there are any (sharply), else the smooth ones, which differ from the
    slope of a coarse mesh by the angle between its faces (a degree or two).

    Raises VitruvianError without depth, normal and camera, or where nothing can be compared.
    """
    depth, normal, _, camera = _needed(labels)
    normal = normal if labels.geometric_normal is None else labels.geometric_normal
    computed = normals_from_depth(depth, camera)
    compared = (computed != 0).any(axis=-1) & (normal != 0).any(axis=-1)
    if not compared.any():
        raise VitruvianError("normal agreement: no pixel has a surface all around it")
    a, b = computed[compared].astype(np.float64), normal[compared].astype(np.float64)
    angles = np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), (a * b).sum(axis=1)))
    share = np.count_nonzero(compared) / np.count_nonzero(depth > 0)
    return Agreement(float(np.median(angles)), float(np.percentile(angles, 90)), float(share))


def pointmap_views(labels: Labels) -> UInt8[np.ndarray, "_ _ 3"]:
    """Four pictures in a row: the image, a clay figure lit by the normal label alone, and the pixels as
    points in the world from either side: in their colours, and in clay by their own normals.

    Where depth, K, pose and normals disagree the points tear or the light falls wrong; at outlines there is
    no veil between person and background, for every depth is that of one surface point. Raises VitruvianError
    without rgb, depth, normal and camera.
    """
    depth, normal, rgb, camera = _needed(labels)
    surface = depth > 0
    clay = np.where(surface[..., None], _lit(normal), NOTHING).astype(np.uint8)
    rows, columns = np.nonzero(surface)
    pixels = np.column_stack([columns, rows, depth[surface]]).astype(np.float64)
    points = camera.unproject(pixels)
    world_normals = normal[surface] @ (np.diag([1.0, -1, -1]) @ camera.world_to_camera[:3, :3])
    views = [rgb, clay]
    for angle, colours in ((_TURN_DEG, rgb[surface]), (-_TURN_DEG, clay[surface])):
        seen = orbit(camera, points, angle)
        front = ((points - seen.position) * world_normals).sum(axis=1) < 0
        views.append(splat(points[front], colours[front], seen))
    names = ("image", "lit by the normals", "depth as points, from the left", "from the right, by normals")
    return tile([captioned(view, name) for view, name in zip(views, names, strict=True)], 4)


def orbit(camera: Camera, points: Float64[np.ndarray, "n 3"], angle_deg: float) -> Camera:
    """`camera` moved around the vertical through the middle of `points`, which stay as large and as central;
    a positive angle moves it to its left.
    """
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    angle = np.deg2rad(-angle_deg)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    pose = look_at(middle + turn @ (camera.position - middle), middle, np.array([0.0, 0.0, 1.0]))
    K = camera.K.copy()
    K[:2, 2] = (camera.width - 1) / 2, (camera.height - 1) / 2
    return Camera(K, pose, camera.width, camera.height)


def splat(
    points: Float64[np.ndarray, "n 3"], colours: UInt8[np.ndarray, "n 3"], camera: Camera
) -> UInt8[np.ndarray, "height width 3"]:
    """World points as squares of 3 px, the nearest in front; a z-buffer without interpolation."""
    projected = camera.project(points)
    projected, colours = projected[np.isfinite(projected[:, 0])], colours[np.isfinite(projected[:, 0])]
    order = np.argsort(-projected[:, 2], kind="stable")
    at, inks = np.rint(projected[order, :2]).astype(np.int64), colours[order]
    height, width = camera.height, camera.width
    winner = np.full(height * width, -1)
    for dy, dx in np.ndindex(3, 3):
        x, y = at[:, 0] + dx - 1, at[:, 1] + dy - 1
        inside = np.flatnonzero((x >= 0) & (x < width) & (y >= 0) & (y < height))
        np.maximum.at(winner, y[inside] * width + x[inside], inside)
    picture = np.where(winner[:, None] >= 0, inks[winner], np.array(NOTHING))
    return np.asarray(picture.reshape(height, width, 3), np.uint8)


def _needed(
    labels: Labels,
) -> tuple[
    Float32[np.ndarray, "height width"],
    Float32[np.ndarray, "height width 3"],
    UInt8[np.ndarray, "height width 3"],
    Camera,
]:
    depth, normal, camera = labels.depth, labels.normal, labels.camera
    if depth is None or normal is None or camera is None:
        raise VitruvianError("pointmap: expected depth, normal and camera; one of them is missing")
    rgb = labels.rgb if labels.rgb is not None else np.full((*depth.shape, 3), 200, np.uint8)
    return depth, normal, rgb, camera


def _lit(normal: Float32[np.ndarray, "*shape 3"]) -> Float64[np.ndarray, "*shape 3"]:
    light = _LIGHT / np.linalg.norm(_LIGHT)
    return np.asarray((0.25 + 0.75 * np.clip(normal @ light, 0, 1))[..., None] * _CLAY)


def _smooth(depth: Float64[np.ndarray, "height width"], camera: Camera) -> Bool[np.ndarray, "height width"]:
    """Pixels with a surface on all four sides and no jump or crease of depth between them."""
    surface = cv2.erode((depth > 0).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    bend = np.zeros_like(depth)
    bend[:, 1:-1] = np.abs(depth[:, 2:] - 2 * depth[:, 1:-1] + depth[:, :-2])
    bend[1:-1] = np.maximum(bend[1:-1], np.abs(depth[2:] - 2 * depth[1:-1] + depth[:-2]))
    known = (surface > 0) & (bend < _BEND * depth / camera.K[0, 0])
    known[[0, -1]] = known[:, [0, -1]] = False
    return np.asarray(known)
