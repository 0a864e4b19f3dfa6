"""Shoes: a loft of the foot's outlines, level by level, on a flat rubber sole; rigid with the foot."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float64, Int32
from scipy.spatial import ConvexHull

from render.people.anchors import bind, body_normals, place, slab, solid_surface, tube, with_bone
from render.people.body import BodyModel, Shape, Skeleton
from render.people.looks import fabric_material, plastic_material, sole_material
from render.people.mesh import constant_parts, face_normals, vertex_normals
from render.people.parts import PART, region_weights
from render.people.spec import GarmentSpec
from render.person import Surface

AROUND, LEVELS = 40, 14


@dataclass(frozen=True)
class Shoe:
    """Lengths in metres above the ground. collar: lowest and highest opening; welt: how far the sole stands
    out; heel: a block under the heel beyond the sole.
    """

    collar: tuple[float, float]
    welt: float
    heel: float
    room: float


SHOES: dict[str, Shoe] = {
    "sneaker": Shoe((0.060, 0.082), 0.006, 0.0, 0.011),
    "boot": Shoe((0.095, 0.125), 0.007, 0.012, 0.013),
    "loafer": Shoe((0.050, 0.060), 0.003, 0.008, 0.008),
    "pump": Shoe((0.046, 0.052), 0.001, 0.034, 0.006),
    "sandal": Shoe((0.0, 0.0), 0.002, 0.0, 0.002),
}
STRAPS = ((-0.118, 0.011), (-0.058, 0.012))
"""Sandal straps across the foot: place on the template's y axis and half their width, metres."""


def build_shoes(
    garment: GarmentSpec,
    shape: Shape,
    skeleton: Skeleton,
    posed: Float64[np.ndarray, "v 3"],
    model: BodyModel,
) -> tuple[Surface, ...]:
    """Both shoes. cut: `collar` 0 lowest .. 1 highest opening; `sole` thickness in metres."""
    style = SHOES[garment.kind]
    surfaces: list[Surface] = []
    for side, name in (("L", "Left_Shoe"), ("R", "Right_Shoe")):
        skin = np.unique(model.quads["body"])
        foot = shape.vertices[skin[region_weights()[f"Foot.{side}"][skin] > 0.3]]
        ankle = shape.vertices[skin[region_weights()[f"Lower_Leg.{side}"][skin] > 0.5]]
        below = np.concatenate([foot, ankle[ankle[:, 2] < foot[:, 2].min() + 0.2]])
        top = style.collar[0] + garment.cut["collar"] * (style.collar[1] - style.collar[0])
        rings = _rings(below, max(top, 0.05), style.room)
        pieces = [("sole", *_loft(_sole(rings, garment.cut["sole"], style.welt), True))]
        if style.heel > 0:
            pieces.append(("heel", *_loft(_heel(rings, garment.cut["sole"], style.heel), True)))
        if garment.kind != "sandal":
            pieces.append(("shoe", *_loft(rings, False)))
        bone = f"foot.{side}"
        placed = partial(with_bone, bone=bone, skeleton=skeleton, model=model)
        surfaces += [_shoe_surface(p, garment, placed(p[2]), name) for p in pieces]
        if garment.kind == "sandal":
            surfaces += _straps(garment, side, name, posed, model)
        if garment.kind == "sneaker":
            surfaces.append(_laces(garment, rings, placed, name))
    return tuple(surfaces)


def _shoe_surface(
    piece: tuple[str, Int32[np.ndarray, "f 3"], Float64[np.ndarray, "v 3"], Float64[np.ndarray, "v 2"]],
    garment: GarmentSpec,
    vertices: Float64[np.ndarray, "v 3"],
    part: str,
) -> Surface:
    kind, faces, _, uv = piece
    return Surface(
        name=kind,
        vertices=vertices,
        faces=faces,
        normals=vertex_normals(vertices, faces),
        uv=uv[faces],
        part_ids=constant_parts(faces, PART[part]),
        material=fabric_material(garment.fabric) if kind == "shoe" else sole_material(garment.fabric),
        attributes={"edge": _seam(len(vertices), kind)},
    )


def _straps(
    garment: GarmentSpec, side: str, part: str, posed: Float64[np.ndarray, "v 3"], model: BodyModel
) -> list[Surface]:
    """Bands over the foot, bound to its skin."""
    normals = body_normals(posed, model)
    skin = np.unique(model.quads["body"])
    foot = model.template[skin[region_weights()[f"Foot.{side}"][skin] > 0.5]]
    made = []
    for at, half in STRAPS:
        curves = []
        for y in (at - half, at + half):
            near = foot[np.abs(foot[:, 1] - y) < 0.012]
            x = np.linspace(near[:, 0].min() - 0.001, near[:, 0].max() + 0.001, 15)
            span = np.abs(near[:, 0] - x[:, None]) < 0.011
            z = np.where(span, near[:, 2], -1.0).max(1)
            z[[0, -1]] = near[:, 2].min() + 0.002
            curves.append(np.stack([x, np.full(15, y), z], axis=1))
        (left, outward), (right, _) = (place(bind(c), posed, normals) for c in curves)
        points, faces = slab(left + 0.0015 * outward, right + 0.0015 * outward, outward, 0.003)
        made.append(solid_surface("strap", points, faces, part, fabric_material(garment.fabric)))
    return made


def _laces(
    garment: GarmentSpec,
    rings: Float64[np.ndarray, "levels around 3"],
    placed: Callable[[Float64[np.ndarray, "n 3"]], Float64[np.ndarray, "n 3"]],
    part: str,
) -> Surface:
    """Five cords across the instep, where the upper slopes from its collar to the toe."""
    front = np.argmin(rings[:, :, 1], axis=1)
    points, faces, base = [], [], 0
    for level in np.linspace(LEVELS * 0.45, LEVELS - 2, 5).astype(int):
        reach = np.arange(-3, 4)
        path = rings[level, (front[level] + reach) % AROUND] + np.array([0.0, -0.0005, 0.0022])
        p, f = tube(path, 0.0021, 6)
        points.append(placed(p))
        faces.append(f + base)
        base += len(p)
    colour = (0.72, 0.71, 0.68) if garment.fabric.seed % 3 else (0.03, 0.03, 0.03)
    return solid_surface(
        "laces", np.concatenate(points), np.concatenate(faces), part, plastic_material(colour, 0.8)
    )


def _heel(
    rings: Float64[np.ndarray, "levels around 3"], sole: float, height: float
) -> Float64[np.ndarray, "_ around 3"]:
    """A block below the rear third of the sole."""
    base = rings[0].copy()
    back, length = float(base[:, 1].max()), float(np.ptp(base[:, 1]))
    base[:, 1] = np.maximum(base[:, 1], back - 0.3 * length)
    middle = base.mean(0)
    rows = []
    for scale, drop in ((0.99, 0.4), (0.98, 1.0), (0.92, 1.5), (0.90, 2.0), (0.6, 2.0)):
        row = middle + (base - middle) * scale
        row[:, 2] = base[:, 2] - sole * min(drop, 1.0) - height * max(0.0, drop - 1.0)
        rows.append(row)
    return np.stack(rows[::-1])


def shoe_top(garments: tuple[GarmentSpec, ...], shape: Shape, model: BodyModel) -> float:
    """Rest height below which feet and socks are inside shoes and not drawn; -inf for the barefoot."""
    worn = [g for g in garments if g.kind in SHOES and g.kind != "sandal"]
    if not worn:
        return float("-inf")
    ground = float(shape.vertices[np.unique(model.quads["body"]), 2].min())
    low, high = SHOES[worn[0].kind].collar
    return ground + low + worn[0].cut["collar"] * (high - low) - 0.002


def _seam(count: int, kind: str) -> Float64[np.ndarray, " v"]:
    """Distance from seams, metres: below the collar and above the welt."""
    row = np.arange(count) // AROUND
    stitched = ((row == 2) | (row == LEVELS - 3)) & (kind == "shoe")
    return np.asarray(np.where(stitched, 0.018, 0.1))


def _rings(
    foot: Float64[np.ndarray, "n 3"], top: float, space: float
) -> Float64[np.ndarray, "levels around 3"]:
    """Outlines from the welt up to the collar: the hull of all that is higher, with room around it."""
    bottom = float(foot[:, 2].min())
    heights = np.concatenate([[0.0, 0.006], np.linspace(0.014, top, LEVELS - 2)])
    rings = np.empty((LEVELS, AROUND, 3))
    back = float(foot[:, 1].max())
    for level, height in enumerate(heights):
        above = foot[(foot[:, 2] >= bottom + height - 0.004) & (foot[:, 2] < bottom + 0.15)]
        outline = _outline(above[:, :2], back)
        rings[level, :, :2] = outline
        rings[level, :, 2] = bottom + height
    room = np.interp(heights, (0.0, 0.02, top), (0.6 * space, 0.9 * space, space))
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
    rings: Float64[np.ndarray, "levels around 3"], thickness: float, welt: float
) -> Float64[np.ndarray, "_ around 3"]:
    """Welt, side and tread: slightly wider than the upper, lifted at the toe."""
    base = rings[0]
    rows = []
    for out, drop in (
        (-0.004, 0.5),
        (welt, 0.35),
        (welt + 0.001, -0.1),
        (welt, -0.75),
        (welt - 0.003, -1.0),
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
