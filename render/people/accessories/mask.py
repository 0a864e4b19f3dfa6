"""Face masks; and the closed solids that masks, spectacles and headwear are made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int32
from scipy.spatial import cKDTree

from render.people.accessories.wearer import Wearer
from render.people.anchors import Binding
from render.people.body import body_model
from render.people.hair.frame import HeadFrame, head_frame
from render.people.looks import cloth_material, plastic_material
from render.people.mesh import constant_parts, unit, vertex_normals
from render.people.parts import PART
from render.people.spec import GarmentSpec
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


ROWS, COLUMNS = 31, 33
MIDDLE = np.array([0.0, -0.075, 0.665])  # within the mouth, the template's metres
CLEAR = 0.0032  # least height above the skin, metres
LOOP = (
    (-0.078, 0.722),
    (-0.067, 0.733),
    (-0.057, 0.7372),
    (-0.046, 0.7352),
    (-0.037, 0.7270),
    (-0.0315, 0.7150),
    (-0.0305, 0.7020),
    (-0.036, 0.6890),
    (-0.047, 0.6780),
    (-0.058, 0.6680),
    (-0.070, 0.6560),
)
"""(y, z) on the template's side: an elastic's way from the mask over the ear, down behind it and back."""


@lru_cache(maxsize=1)
def _loop_places() -> tuple[Binding, Binding]:
    """The skin under LOOP, left and right."""
    left, right = (beside(LOOP, side) for side in (1.0, -1.0))
    return left, right


@lru_cache(maxsize=5)
def _mask_places(size: int) -> Binding:
    """The skin under a mask of size 0..4: rows from nose to under the chin, columns from right to left."""
    u = np.linspace(-1, 1, COLUMNS)[None]
    v = np.linspace(0, 1, ROWS)[:, None]
    azimuth = np.radians(70 + 1.5 * size) * u + 0 * v
    top = np.radians(22.5 + 0.75 * size + 2.5 * u**2 + 2 * np.exp(-((u / 0.3) ** 2)))
    bottom = np.radians(-47 + 25 * np.abs(u) ** 1.6)
    elevation = top + (bottom - top) * v
    rays = looking(azimuth, elevation)
    return cast(MIDDLE, rays.reshape(-1, 3), head_faces())


def build_mask(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A mask over nose, mouth and chin, pleated or (one in three) with a seam down its middle, on elastics
    around the ears. cut: `size` 0 small .. 1 large.
    """
    cut, frame = garment.cut, head_frame(wearer.posed, wearer.skeleton, wearer.model)
    skin = frame.local(carried(_mask_places(round(4 * cut["size"])), wearer.posed)).reshape(ROWS, COLUMNS, 3)
    away = skin - MIDDLE
    reach = np.sqrt((away * away).sum(2))
    outside = MIDDLE + away / reach[..., None] * _tent(reach, int(cut["seed"]) % 3 == 0)[..., None]
    inside = outside - 0.0012 * unit(away)
    sheet = plate(outside, inside, 0.4)
    white = plastic_material((0.62, 0.62, 0.61), 0.6)
    loops = together([_elastic(outside, side, wearer, frame) for side in (1.0, -1.0)])
    cloth = cloth_material(garment.fabric, (), cut)
    return (
        made_up("mask", sheet, "Apparel", cloth, frame),
        made_up("mask_binding", _binding(outside), "Apparel", cloth, frame),
        made_up("mask_loops", loops, "Apparel", white, frame),
    )


def _tent(skin: Float64[np.ndarray, "rows columns"], seamed: bool) -> Float64[np.ndarray, "rows columns"]:
    """Distances of cloth stretched over the face from MIDDLE; skin: those of the skin."""
    least = skin + CLEAR
    cloth = least
    for _ in range(60):
        padded = np.pad(cloth, 1, mode="edge")
        even = 0.25 * (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:])
        cloth = np.maximum(0.25 * cloth + 0.75 * even, least)
    u, v = np.linspace(-1, 1, COLUMNS)[None], np.linspace(0, 1, ROWS)[:, None]
    pinch = np.clip((v - 0.04) / 0.28, 0, 1)  # the wire in its upper edge, under spectacles
    cloth = least + (cloth - least) * pinch * pinch * (3 - 2 * pinch)
    if seamed:
        return np.asarray(cloth + 0.0030 * np.exp(-((u / 0.10) ** 2)) * np.sin(np.pi * v))
    place = np.clip((v - 0.18) / 0.60, 0, 1) * 3
    step = np.where((place > 0) & (place < 3), 1 - place % 1.0, 0.0)
    return np.asarray(cloth + 0.0036 * step * (1 - u**6))


def _binding(outside: Grid) -> Solid:
    """The tape around a mask's edge."""
    edge = [outside[0], outside[1:-1, -1], outside[-1, ::-1], outside[-2:0:-1, 0]]
    path = np.concatenate(edge)
    nearer = np.concatenate([outside[2], outside[1:-1, -3], outside[-3, ::-1], outside[-2:0:-1, 2]])
    out = unit(path - MIDDLE)
    into = unit(nearer - path)
    rings = [path + 0.0022 * a * into + (0.0011 * b - 0.0004) * out for a, b in section(1.0, 1.0)]
    return hoop(np.stack(rings), 0.01)


def _elastic(outside: Grid, side: float, wearer: Wearer, frame: HeadFrame) -> Solid:
    """From a mask's upper corner around the ear to its lower one."""
    column = outside[:, -1 if side > 0 else 0]
    skin = frame.local(carried(_loop_places()[0 if side > 0 else 1], wearer.posed))
    skin = skin + np.array([side * 0.0016, 0.0, 0.0])
    nodes = np.concatenate([column[1:2], skin, column[-2:-1]])
    way = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(nodes, axis=0) ** 2).sum(1)))])
    at = np.linspace(0, way[-1], 40)
    path = np.stack([np.interp(at, way, nodes[:, a]) for a in range(3)], axis=1)
    path[1:-1] = 0.25 * path[:-2] + 0.5 * path[1:-1] + 0.25 * path[2:]
    out = np.broadcast_to(np.array([side, 0.0, 0.0]), path.shape)
    return bar(path, out, np.full(40, 0.0007), np.full(40, 0.0014))
