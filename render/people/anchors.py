"""Things fastened to the body: points bound to the template's skin follow it over shapes and poses; tubes,
strips and lofts to make them of.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int, Int32
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Shape, Skeleton, body_model
from render.people.mesh import compact, constant_parts, face_normals, unit, vertex_normals
from render.people.parts import PART
from render.person import Material, Surface

Points = Float64[np.ndarray, "n 3"]


@dataclass(frozen=True)
class Binding:
    """Where points sit: on which triangles of the body, with what weights, how far above them (metres)."""

    corners: Int32[np.ndarray, "n 3"]
    weights: Float64[np.ndarray, "n 3"]
    height: Float64[np.ndarray, " n"]


@lru_cache(maxsize=1)
def _template() -> tuple[Int32[np.ndarray, "f 3"], Float64[np.ndarray, "f 3 3"], cKDTree]:
    model = body_model()
    faces = model.faces("body")
    corner = model.template[faces]
    return faces, corner, cKDTree(corner.mean(1))


def bind(points: Points) -> Binding:
    """Binds points near the template's skin to it."""
    faces, corner, tree = _template()
    _, near = tree.query(points, k=12)
    a, b, c = (corner[near][:, :, i] for i in range(3))
    weights = np.clip(_barycentric(points[:, None], a, b, c), 0.0, 1.0)
    weights /= weights.sum(2, keepdims=True)
    foot = a * weights[..., :1] + b * weights[..., 1:2] + c * weights[..., 2:]
    distance = ((foot - points[:, None]) ** 2).sum(2)
    best = np.argmin(distance, axis=1)
    rows = np.arange(len(points))
    chosen = near[rows, best]
    normal = unit(np.cross(b - a, c - a)[rows, best])
    height = ((points - foot[rows, best]) * normal).sum(1)
    return Binding(faces[chosen], weights[rows, best], height)


def _barycentric(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    u, v, w = b - a, c - a, p - a
    uu, uv, vv, wu, wv = (u * u).sum(2), (u * v).sum(2), (v * v).sum(2), (w * u).sum(2), (w * v).sum(2)
    det = np.maximum(uu * vv - uv * uv, 1e-18)
    second, third = (vv * wu - uv * wv) / det, (uu * wv - uv * wu) / det
    return np.stack([1 - second - third, second, third], axis=2)


def place(
    binding: Binding, posed: Float64[np.ndarray, "v 3"], normals: Float64[np.ndarray, "v 3"]
) -> tuple[Points, Points]:
    """(points, outward normals) of bound points on a posed body."""
    weights = binding.weights[..., None]
    outward = unit((normals[binding.corners] * weights).sum(1))
    return (posed[binding.corners] * weights).sum(1) + binding.height[:, None] * outward, outward


def body_normals(posed: Float64[np.ndarray, "v 3"], model: BodyModel) -> Float64[np.ndarray, "v 3"]:
    """Vertex normals of the skin; of helpers, up."""
    used, local = compact(model.faces("body"), len(posed))
    normals = np.zeros_like(posed)
    normals[used] = vertex_normals(posed[used], local)
    return normals


def with_bone(points: Points, bone: str, skeleton: Skeleton, model: BodyModel) -> Points:
    """Points of the rest shape moved rigidly with a bone."""
    b = model.bones.index(bone)
    turned = ((points - skeleton.rest_heads[b])[:, None, :] * skeleton.rotations[b]).sum(2)
    return np.asarray(turned + skeleton.heads[b])


def eyes_of(shape: Shape, model: BodyModel) -> Float64[np.ndarray, "2 3"]:
    """Middles of the left and the right eyeball of a rest shape."""
    return np.stack([shape.vertices[np.unique(model.quads[f"helper-{s}-eye"])].mean(0) for s in "lr"])


def grid_faces(rows: int, columns: int, closed: bool) -> Int32[np.ndarray, "f 3"]:
    """Triangles of a grid of points, row by row; `closed` joins the last column to the first."""
    column = np.arange(columns if closed else columns - 1)
    after = (column + 1) % columns
    made = []
    for row in range(rows - 1):
        a, b = row * columns + column, row * columns + after
        c, d = b + columns, a + columns
        made += [np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]
    return np.asarray(np.concatenate(made), dtype=np.int32)


def outwards(points: Points, faces: Int32[np.ndarray, "f 3"]) -> Int32[np.ndarray, "f 3"]:
    """The faces of a closed surface, wound so that they look out."""
    corner = points[faces] - points.mean(0)
    volume = float((np.cross(corner[:, 0], corner[:, 1]) * corner[:, 2]).sum())
    return faces if volume > 0 else np.ascontiguousarray(faces[:, ::-1])


def tube(
    path: Points, radius: Float64[np.ndarray, " n"] | float, sides: int = 8, *, closed: bool = False
) -> tuple[Float64[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """A round tube along a path; open ones end in points."""
    around = np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0)
    if not closed:
        around[0], around[-1] = path[1] - path[0], path[-1] - path[-2]
    along = unit(around)
    middle = path - path.mean(0)
    rough = unit(np.cross(along, middle + 1e-4)) if closed else np.zeros_like(path) + _across(along)
    first = unit(rough - along * (rough * along).sum(1, keepdims=True))
    second = np.cross(along, first)
    angle = np.arange(sides) * (2 * np.pi / sides)
    size = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(path),))[:, None, None]
    ring = first[:, None] * np.cos(angle)[:, None] + second[:, None] * np.sin(angle)[:, None]
    rings = path[:, None] + size * ring
    if closed:
        rings = np.concatenate([rings, rings[:1]])
        points = rings[:-1].reshape(-1, 3)
        faces = grid_faces(len(rings), sides, True) % len(points)
        return points, outwards(points, faces.astype(np.int32))
    return capped(rings)


def capped(
    rings: Float64[np.ndarray, "n k 3"],
) -> tuple[Float64[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """The closed surface through rings of points, with a fan to the middle of each end."""
    rows, columns = rings.shape[:2]
    points = np.concatenate([rings.reshape(-1, 3), rings[[0, -1]].mean(1)])
    column = np.arange(columns)
    after, last = (column + 1) % columns, (rows - 1) * columns
    start, end = (np.full(columns, rows * columns + i) for i in range(2))
    fans = [np.stack([start, after, column], axis=1), np.stack([end, last + column, last + after], axis=1)]
    faces = np.concatenate([grid_faces(rows, columns, True), *fans]).astype(np.int32)
    return points, outwards(points, faces)


def _across(along: Points) -> Float64[np.ndarray, " 3"]:
    """A direction that no part of a path runs along."""
    weakest = int(np.argmin(np.abs(along).max(0)))
    return np.asarray(np.eye(3)[weakest])


def slab(
    left: Points, right: Points, outward: Points, thickness: float, columns: int = 5
) -> tuple[Float64[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """A band between two curves with rounded edges: straps, belts, ties. outward: where its face looks."""
    t = np.linspace(0, 1, columns)
    lift = thickness * (1 - np.abs(2 * t - 1) ** 4) + 0.15 * thickness
    top = left[:, None] * (1 - t)[:, None] + right[:, None] * t[:, None] + outward[:, None] * lift[:, None]
    ring = np.concatenate([top, right[:, None], left[:, None]], axis=1)
    return capped(ring)


def solid_surface(
    name: str,
    points: Points,
    faces: Int[np.ndarray, "f 3"],
    part: str,
    material: Material,
    attributes: Mapping[str, Float64[np.ndarray, " n"]] | None = None,
) -> Surface:
    """A labelled surface with texture coordinates in metres, by the axis its triangles look along."""
    faces = np.asarray(faces, dtype=np.int32)
    normals = vertex_normals(points, faces)
    corner = points[faces]
    main = np.argmax(np.abs(face_normals(points, faces)), axis=1)
    first = np.where((main == 0)[:, None], corner[..., 1], corner[..., 0])
    second = np.where((main == 2)[:, None], corner[..., 1], corner[..., 2])
    return Surface(
        name=name,
        vertices=points,
        faces=faces,
        normals=normals,
        uv=np.stack([first, second], axis=2),
        part_ids=constant_parts(faces, PART[part]),
        material=material,
        attributes=dict(attributes or {"edge": np.full(len(points), 0.1)}),
    )
