"""Occluders as plain meshes: the renderer, the preview and the tests all build them here.

Before it is sized, turned and moved, every shape fills the unit cube around the origin, so that `size` is its
extent along its own axes: a ball touches the cube's faces, a cylinder stands along z, a ring lies in the xy
plane, its tube a fifth of its diameter.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float64, Int32

from render.spec import OccluderSpec, Triple

_SEGMENTS = 96  # around the axis: a 0.5 m ball is within 0.14 mm of round
_TUBE = 0.1  # radius of the ring's tube, before its height is stretched to fill the cube

Strip = Float64[np.ndarray, "n 4"]
"""A smooth piece of the half-plane that is turned about z: radius, z, and the normal in both."""
Mesh = tuple[Float64[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"], Float64[np.ndarray, "v 3"]]


def occluder_mesh(
    spec: OccluderSpec,
) -> tuple[Float64[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"], Float64[np.ndarray, "v 3"]]:
    """Vertices (world, m), triangles (counter-clockwise from outside) and unit vertex normals (outward).

    Round sides are smooth; at hard edges the vertices are split.
    """
    vertices, faces, normals = _SHAPES[spec.shape]()
    size, turn = np.array(spec.size), rotation(spec.turn_deg)
    normals = normals / size
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return vertices * size @ turn.T + np.array(spec.position), faces, normals @ turn.T


def rotation(turn_deg: Triple) -> Float64[np.ndarray, "3 3"]:
    """The rotation about x, then y, then z of the world, in degrees."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.deg2rad(turn_deg)), np.sin(np.deg2rad(turn_deg))
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cx, -sx], [0.0, sx, cx]])
    about_y = np.array([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_z = np.array([[cz, -sz, 0.0], [sz, cz, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(about_z @ about_y @ about_x)


def _ball() -> Mesh:
    angles = np.linspace(-np.pi / 2, np.pi / 2, _SEGMENTS // 2 + 1)
    normals = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    normals[[0, -1]] = (0, -1), (0, 1)  # exactly on the axis
    return _turned(np.hstack([normals / 2, normals]))


def _cylinder() -> Mesh:
    edge = np.array([[0.0, -0.5], [0.5, -0.5], [0.5, 0.5], [0.0, 0.5]])
    outward = np.array([[0.0, -1.0], [1.0, 0.0], [0.0, 1.0]])
    strips = [np.hstack([edge[i : i + 2], np.tile(outward[i], (2, 1))]) for i in range(3)]
    return _turned(*strips)


def _ring() -> Mesh:
    angles = np.linspace(0, 2 * np.pi, _SEGMENTS // 2 + 1)
    radius, z = 0.5 - _TUBE + _TUBE * np.cos(angles), np.sin(angles) / 2
    normals = np.stack([np.cos(angles) / _TUBE, np.sin(angles) / 0.5], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return _turned(np.column_stack([radius, z, normals]))


def _box() -> Mesh:
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    vertices, normals = [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            face = np.insert(square if side > 0 else square[::-1], 0, side / 2, axis=1)
            vertices.append(np.roll(face, axis, axis=1))
            normals.append(np.tile(np.roll([side, 0.0, 0.0], axis), (4, 1)))
    corners = 4 * np.arange(6)[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])
    return np.concatenate(vertices), corners.reshape(-1, 3).astype(np.int32), np.concatenate(normals)


def _turned(*strips: Strip) -> Mesh:
    """The surface that the strips sweep around z; a strip runs upward with the outside on its right."""
    azimuth = np.linspace(0, 2 * np.pi, _SEGMENTS, endpoint=False)
    around = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
    vertices, normals, faces, count = [], [], [], 0
    for strip in strips:
        vertices.append(_swept(strip[:, :2], around))
        normals.append(_swept(strip[:, 2:], around))
        faces.append(count + _grid_faces(len(strip)))
        count += len(strip) * _SEGMENTS
    points, triangles = np.concatenate(vertices), np.concatenate(faces).astype(np.int32)
    a, b, c = np.moveaxis(points[triangles], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)  # none where a quad's edge shrinks to a pole
    return points, triangles[area > 1e-12], np.concatenate(normals)


def _swept(
    profile: Float64[np.ndarray, "n 2"], around: Float64[np.ndarray, "s 2"]
) -> Float64[np.ndarray, "_ 3"]:
    horizontal = profile[:, None, :1] * around
    height = np.broadcast_to(profile[:, None, 1:], (len(profile), len(around), 1))
    return np.asarray(np.concatenate([horizontal, height], axis=2).reshape(-1, 3))


def _grid_faces(rows: int) -> Int32[np.ndarray, "f 3"]:
    row, column = np.mgrid[: rows - 1, :_SEGMENTS].reshape(2, -1)
    right = (column + 1) % _SEGMENTS
    low, low_right = row * _SEGMENTS + column, row * _SEGMENTS + right
    high, high_right = low + _SEGMENTS, low_right + _SEGMENTS
    quads = np.stack([low, low_right, high_right, low, high_right, high], axis=1)
    return np.asarray(quads.reshape(-1, 3), np.int32)


_SHAPES: Mapping[str, Callable[[], Mesh]] = {"ball": _ball, "box": _box, "cylinder": _cylinder, "ring": _ring}
