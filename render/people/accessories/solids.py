"""The closed solids that masks, spectacles and headwear are made of, and rays from within the head."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int32
from scipy.spatial import cKDTree

from render.people.anchors import Binding
from render.people.body import body_model
from render.people.hair.frame import HeadFrame
from render.people.mesh import constant_parts, unit, vertex_normals
from render.people.parts import PART
from render.person import Material, Surface

Points = Float64[np.ndarray, "n 3"]
Grid = Float64[np.ndarray, "rows columns 3"]


@dataclass(frozen=True)
class Solid:
    """A closed surface. uv: of each corner, metres; where: which of the given points each vertex is."""

    points: Float64[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    uv: Float64[np.ndarray, "f 3 2"]


def ball(
    rings: Grid, first: Float64[np.ndarray, " 3"], last: Float64[np.ndarray, " 3"], turn: float
) -> Solid:
    """Closed rings of points from one pole to another. turn: length in texture of a way around, metres."""
    rows, columns = rings.shape[:2]
    grid_faces, grid_uv = _sewn(rings, turn, False)
    column = np.arange(columns)
    after, end = (column + 1) % columns, (rows - 1) * columns
    one, two = np.full(columns, rows * columns), np.full(columns, rows * columns + 1)
    caps = [np.stack([one, after, column], axis=1), np.stack([two, end + column, end + after], axis=1)]
    height = rise(rings)
    u = (column[:, None] + np.array([0.5, 1.0, 0.0])) * (turn / columns)
    below = float(np.sqrt(((rings[0] - first) ** 2).sum(1)).mean())
    above = float(np.sqrt(((rings[-1] - last) ** 2).sum(1)).mean())
    low = np.stack([u, np.broadcast_to(np.array([-below, 0.0, 0.0]), u.shape)], axis=2)
    high = np.stack(
        [u[:, [0, 2, 1]], height[-1] + np.broadcast_to(np.array([above, 0.0, 0.0]), u.shape)], axis=2
    )
    points = np.concatenate([rings.reshape(-1, 3), first[None], last[None]])
    return _outward(points, np.concatenate([grid_faces, *caps]), np.concatenate([grid_uv, low, high]))


def plate(outside: Grid, inside: Grid, turn: float) -> Solid:
    """Two sheets of points, back to back, sewn together along their edges."""
    rings = np.concatenate([outside, inside[:, ::-1]], axis=1)
    rows, columns = rings.shape[:2]
    faces, uv = _sewn(rings, turn, False)
    c = np.arange(columns // 2 - 1)
    rim = []
    for row, order in ((0, (0, 3, 2, 1)), (rows - 1, (0, 1, 2, 3))):
        corner = [row * columns + i for i in (c, c + 1, columns - 2 - c, columns - 1 - c)]
        a, b, d, e = (corner[i] for i in order)
        rim += [np.stack([a, b, d], axis=1), np.stack([a, d, e], axis=1)]
    edges = np.concatenate(rim)
    place = np.stack([(edges % columns) * (turn / columns), 0.0 * edges], axis=2)
    return _outward(rings.reshape(-1, 3), np.concatenate([faces, edges]), np.concatenate([uv, place]))


def hoop(rings: Grid, turn: float) -> Solid:
    """Closed rings of points that themselves go around: the last ring is sewn to the first."""
    faces, uv = _sewn(rings, turn, True)
    return _outward(rings.reshape(-1, 3), faces, uv)


def together(solids: Sequence[Solid]) -> Solid:
    """Several solids as one."""
    start = np.cumsum([0, *(len(s.points) for s in solids)])
    return Solid(
        np.concatenate([s.points for s in solids]),
        np.concatenate([s.faces + int(n) for s, n in zip(solids, start, strict=False)]).astype(np.int32),
        np.concatenate([s.uv for s in solids]),
    )


def rise(rings: Grid) -> Float64[np.ndarray, " rows"]:
    """Mean way along the columns up to each ring, metres."""
    step = np.sqrt((np.diff(rings, axis=0) ** 2).sum(2)).mean(1)
    return np.concatenate([[0.0], np.cumsum(step)])


def _sewn(rings: Grid, turn: float, around: bool) -> tuple[np.ndarray, np.ndarray]:
    """Triangles between neighbouring rings, and their corners' texture coordinates."""
    rows, columns = rings.shape[:2]
    row, column = (i.ravel() for i in np.indices((rows if around else rows - 1, columns)))
    right, above = (column + 1) % columns, (row + 1) % rows
    height = rise(np.concatenate([rings, rings[:1]]))
    corner = [
        row * columns + column,
        row * columns + right,
        above * columns + right,
        above * columns + column,
    ]
    u = [column, column + 1, column + 1, column]
    v = [height[row], height[row], height[row + 1], height[row + 1]]
    place = [np.stack([i * (turn / columns), j], axis=1) for i, j in zip(u, v, strict=True)]
    order = ((0, 1, 2), (0, 2, 3))
    faces = [np.stack([corner[i] for i in o], axis=1) for o in order]
    return np.concatenate(faces), np.concatenate([np.stack([place[i] for i in o], axis=1) for o in order])


def _outward(points: Points, faces: np.ndarray, uv: np.ndarray) -> Solid:
    corner = points[faces] - points.mean(0)
    if float((np.cross(corner[:, 0], corner[:, 1]) * corner[:, 2]).sum()) < 0:
        faces, uv = faces[:, ::-1], uv[:, ::-1]
    return Solid(points, np.ascontiguousarray(faces, dtype=np.int32), np.ascontiguousarray(uv))


def lined(
    outside: Grid, middle: Float64[np.ndarray, " 3"], thickness: float, turn: float
) -> tuple[Solid, Float64[np.ndarray, " v"]]:
    """A hollow crown around a middle: its outside from the edge up, and an inside; metres from the edge."""
    inside = outside - unit(outside - middle) * thickness
    tops = [grid[-1].mean(0) for grid in (inside, outside)]
    height = rise(outside)
    edge = np.repeat(np.concatenate([height[::-1], height]), outside.shape[1])
    made = ball(np.concatenate([inside[::-1], outside]), tops[0], tops[1], turn)
    return made, np.concatenate([edge, [0.1, 0.1]])


def made_up(
    name: str,
    solid: Solid,
    part: str,
    material: Material,
    frame: HeadFrame | None = None,
    edge: Float64[np.ndarray, " v"] | None = None,
) -> Surface:
    """A solid as a labelled surface; with a frame, carried from the head into the world. edge: metres from
    the cloth's edge, per vertex.
    """
    points = solid.points if frame is None else frame.world(solid.points)
    return Surface(
        name=name,
        vertices=points,
        faces=solid.faces,
        normals=vertex_normals(points, solid.faces),
        uv=solid.uv,
        part_ids=constant_parts(solid.faces, PART[part]),
        material=material,
        attributes={"edge": np.full(len(points), 0.1) if edge is None else np.clip(edge, 0.0, 0.1)},
    )


def looking(azimuth: np.ndarray, elevation: np.ndarray) -> Float64[np.ndarray, "*n 3"]:
    """Directions at radians from the front (to the left positive) and above the horizon."""
    level = np.cos(elevation)
    return np.stack([np.sin(azimuth) * level, -np.cos(azimuth) * level, np.sin(elevation)], axis=-1)


def cast(
    centre: Float64[np.ndarray, " 3"], rays: Points, kept: Bool[np.ndarray, " f"], near: int = 96
) -> Binding:
    """Where rays from a point leave the template for good, of those of its triangles that are `kept`."""
    model = body_model()
    faces = model.faces("body")[kept]
    corner = model.template[faces] - centre
    middle = unit(corner.mean(1))
    _, close = cKDTree(middle).query(rays, k=near)
    a, b, c = (corner[close][:, :, i] for i in range(3))
    ray = np.broadcast_to(rays[:, None], a.shape)
    across = np.cross(ray, c - a)
    det = ((b - a) * across).sum(2)
    safe = np.where(np.abs(det) > 1e-14, det, 1e-14)
    u = (-a * across).sum(2) / safe
    over = np.cross(-a, b - a)
    v = (ray * over).sum(2) / safe
    reach = ((c - a) * over).sum(2) / safe
    miss = np.maximum(np.maximum(-u, -v), u + v - 1.0)
    score = np.where((miss < 1e-7) & (reach > 0), reach, -1.0 - miss - (reach <= 0) * 10.0)
    best = np.argmax(score, axis=1)
    row = np.arange(len(rays))
    u, v = np.clip(u[row, best], 0, 1), np.clip(v[row, best], 0, 1)
    weights = np.clip(np.stack([1 - u - v, u, v], axis=1), 0, 1)
    return Binding(faces[close[row, best]], weights / weights.sum(1, keepdims=True), np.zeros(len(rays)))


def joined(bindings: Sequence[Binding]) -> Binding:
    """Several bindings as one."""
    return Binding(
        *(np.concatenate([getattr(b, n) for b in bindings]) for n in ("corners", "weights", "height"))
    )


def beside(places: Sequence[tuple[float, float]], side: float) -> Binding:
    """The template's head at (y, z), from its left (1) or right (-1); of ears, what is beneath."""
    ray = np.array([[side, 0.0, 0.0]])
    return joined([cast(np.array([0.0, y, z]), ray, head_faces()) for y, z in places])


def carried(binding: Binding, posed: Float64[np.ndarray, "v 3"]) -> Points:
    """Bound points on a posed body."""
    return np.asarray((posed[binding.corners] * binding.weights[..., None]).sum(1))


@lru_cache(maxsize=1)
def head_faces() -> Bool[np.ndarray, " f"]:
    """The template's triangles from the neck upwards, without ears."""
    model = body_model()
    faces = model.faces("body")
    corner = model.template[faces]
    ears = (model.masks["ears"][faces] > 0.3).any(1) & (np.abs(corner[..., 0]).max(1) > 0.068)
    return np.asarray((corner[..., 2].min(1) > 0.5) & ~ears)


def section(wide: float, deep: float) -> Float64[np.ndarray, "8 2"]:
    """Outline of a rounded bar, 8 points."""
    angle = (np.arange(8) + 0.5) * (np.pi / 4)
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([wide * np.sign(c) * np.abs(c) ** 0.75, deep * np.sign(s) * np.abs(s) ** 0.75], axis=1)


def bar(
    path: Points, across: Points, wide: Float64[np.ndarray, " n"], deep: Float64[np.ndarray, " n"]
) -> Solid:
    """A rounded bar along a path. across: directions of its width; wide, deep: half its size there."""
    along = unit(np.gradient(path, axis=0))
    across = unit(across - along * (across * along).sum(1, keepdims=True))
    third = np.cross(along, across)
    outline = section(1.0, 1.0)
    one = across[:, None] * (wide[:, None] * outline[None, :, 0])[..., None]
    two = third[:, None] * (deep[:, None] * outline[None, :, 1])[..., None]
    return ball(path[:, None] + one + two, path[0], path[-1], 0.01)
