"""Shoes: a loft of the foot's outlines, level by level, on a flat rubber sole; rigid with the foot."""

import numpy as np
from jaxtyping import Float64, Int32
from scipy.spatial import ConvexHull

from render.people.body import BodyModel, Shape, Skeleton
from render.people.looks import fabric_material, sole_material
from render.people.mesh import constant_parts, face_normals, vertex_normals
from render.people.parts import PART, region_weights
from render.people.spec import GarmentSpec
from render.person import Surface

AROUND, LEVELS = 40, 14
COLLAR = (0.060, 0.105)  # height of the collar above the ground, low to boot, metres


def build_shoes(
    garment: GarmentSpec, shape: Shape, skeleton: Skeleton, model: BodyModel
) -> tuple[Surface, ...]:
    """Upper and sole of both shoes. cut: `collar` 0 low .. 1 boot; `sole` thickness in metres."""
    surfaces: list[Surface] = []
    for side, name in (("L", "Left_Shoe"), ("R", "Right_Shoe")):
        skin = np.unique(model.quads["body"])
        foot = shape.vertices[skin[region_weights()[f"Foot.{side}"][skin] > 0.3]]
        ankle = shape.vertices[skin[region_weights()[f"Lower_Leg.{side}"][skin] > 0.5]]
        below = np.concatenate([foot, ankle[ankle[:, 2] < foot[:, 2].min() + 0.2]])
        rings = _rings(below, garment.cut["collar"])
        bone = model.bones.index(f"foot.{side}")
        for kind, points in (("shoe", rings), ("sole", _sole(rings, garment.cut["sole"]))):
            faces, points, uv = _loft(points, kind == "sole")
            placed = ((points - skeleton.rest_heads[bone])[:, None, :] * skeleton.rotations[bone]).sum(2)
            vertices = placed + skeleton.heads[bone]
            material = fabric_material(garment.fabric) if kind == "shoe" else sole_material(garment.fabric)
            surfaces.append(
                Surface(
                    name=kind,
                    vertices=vertices,
                    faces=faces,
                    normals=vertex_normals(vertices, faces),
                    uv=uv[faces],
                    part_ids=constant_parts(faces, PART[name]),
                    material=material,
                    attributes={"seam": _seam(len(vertices), kind)},
                )
            )
    return tuple(surfaces)


def shoe_top(garments: tuple[GarmentSpec, ...], shape: Shape, model: BodyModel) -> float:
    """Rest height below which feet and socks are inside shoes and not drawn; -inf for the barefoot."""
    worn = [g for g in garments if g.kind == "shoes"]
    if not worn:
        return float("-inf")
    ground = float(shape.vertices[np.unique(model.quads["body"]), 2].min())
    return ground + COLLAR[0] + worn[0].cut["collar"] * (COLLAR[1] - COLLAR[0]) - 0.002


def _seam(count: int, kind: str) -> Float64[np.ndarray, " v"]:
    """A stitched line below the collar and above the welt."""
    row = np.arange(count) // AROUND
    return np.asarray(((row == 2) | (row == LEVELS - 3)) * (1.0 if kind == "shoe" else 0.0))


def _rings(foot: Float64[np.ndarray, "n 3"], collar: float) -> Float64[np.ndarray, "levels around 3"]:
    """Outlines from the welt up to the collar: the hull of all that is higher, with room around it."""
    bottom = float(foot[:, 2].min())
    top = COLLAR[0] + collar * (COLLAR[1] - COLLAR[0])
    heights = np.concatenate([[0.0, 0.006], np.linspace(0.014, top, LEVELS - 2)])
    rings = np.empty((LEVELS, AROUND, 3))
    back = float(foot[:, 1].max())
    for level, height in enumerate(heights):
        above = foot[(foot[:, 2] >= bottom + height - 0.004) & (foot[:, 2] < bottom + 0.15)]
        outline = _outline(above[:, :2], back)
        rings[level, :, :2] = outline
        rings[level, :, 2] = bottom + height
    room = np.interp(heights, (0.0, 0.02, top), (0.007, 0.010, 0.012))
    smoothed = rings.copy()
    for _ in range(3):
        smoothed[1:-1] = 0.25 * smoothed[:-2] + 0.5 * smoothed[1:-1] + 0.25 * smoothed[2:]
    return _grow(smoothed, room)


def _outline(points: Float64[np.ndarray, "n 2"], back: float) -> Float64[np.ndarray, "around 2"]:
    """The convex hull as AROUND points at even arc length from the heel's back; smooth enough for a toe
    cap.
    """
    hull = points[ConvexHull(points).vertices]
    start = int(np.argmax(hull[:, 1] - 0.2 * np.abs(hull[:, 0] - hull[:, 0].mean())))
    hull = np.roll(hull, -start, axis=0)
    closed = np.concatenate([hull, hull[:1]])
    step = np.sqrt(((closed[1:] - closed[:-1]) ** 2).sum(1))
    length = np.concatenate([[0.0], np.cumsum(step)])
    at = np.linspace(0, length[-1], AROUND, endpoint=False)
    ring = np.stack([np.interp(at, length, closed[:, c]) for c in range(2)], axis=1)
    for _ in range(4):
        ring = 0.25 * np.roll(ring, 1, axis=0) + 0.5 * ring + 0.25 * np.roll(ring, -1, axis=0)
    return ring


def _grow(
    rings: Float64[np.ndarray, "levels around 3"], room: Float64[np.ndarray, " levels"]
) -> Float64[np.ndarray, "levels around 3"]:
    tangent = np.roll(rings, -1, axis=1) - np.roll(rings, 1, axis=1)
    outward = np.stack([tangent[..., 1], -tangent[..., 0]], axis=2)
    outward /= np.sqrt((outward**2).sum(2, keepdims=True)) + 1e-12
    grown = rings.copy()
    grown[..., :2] += outward * room[:, None, None]
    return grown


def _sole(
    rings: Float64[np.ndarray, "levels around 3"], thickness: float
) -> Float64[np.ndarray, "_ around 3"]:
    """Welt, side and tread: slightly wider than the upper, lifted at the toe."""
    base = rings[0]
    rows = []
    for out, drop in (
        (-0.004, 0.5),
        (0.004, 0.35),
        (0.005, -0.1),
        (0.004, -0.75),
        (0.001, -1.0),
        (-0.03, -1.0),
    ):
        row = _grow(base[None], np.array([out]))[0]
        row[:, 2] = base[:, 2] + drop * thickness
        rows.append(row)
    return np.stack(rows[::-1])


def _loft(
    rings: Float64[np.ndarray, "levels around 3"], closed: bool
) -> tuple[Int32[np.ndarray, "f 3"], Float64[np.ndarray, "v 3"], Float64[np.ndarray, "v 2"]]:
    """Triangles between rings; sole: capped below; upper: the collar folded inwards."""
    if not closed:
        inner = rings[-1].copy()
        middle = inner.mean(0)
        fold = [
            rings[-1] + (middle - rings[-1]) * np.array([f, f, 0]) + np.array([0, 0, h])
            for f, h in ((0.03, 0.003), (0.1, 0.002), (0.16, -0.012))
        ]
        rings = np.concatenate([rings, np.stack(fold)])
    levels = len(rings)
    points = rings.reshape(-1, 3)
    column = np.arange(AROUND)
    after = (column + 1) % AROUND
    strips = []
    for level in range(levels - 1):
        a, b = level * AROUND + column, level * AROUND + after
        c, d = b + AROUND, a + AROUND
        strips += [np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]
    if closed:
        points = np.concatenate([points, rings[0].mean(0, keepdims=True)])
        strips.append(np.stack([np.full(AROUND, len(points) - 1), after, column], axis=1))
    faces = np.concatenate(strips).astype(np.int32)
    uv = np.stack([points[:, 0] + points[:, 1], points[:, 2]], axis=1)
    centre = points.mean(0)
    outward = float((face_normals(points, faces) * (points[faces].mean(1) - centre)).sum())
    return (faces if outward > 0 else faces[:, ::-1].copy()), points, uv
