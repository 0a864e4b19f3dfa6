"""Hair as geometry: a scalp cap and tapered ribbons that grow along a flow, fall, and stay off the head and
clothes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Skeleton
from render.people.cloth import Solid, waves
from render.people.looks import hair_material
from render.people.mesh import clip, constant_parts, face_normals, subdivide, unit, vertex_normals
from render.people.parts import PART
from render.people.scalp import CROWN, beard_weight, scalp_level
from render.people.spec import HairSpec, PersonSpec
from render.person import Surface

STEPS = 8
PROFILE = np.array([0.75, 1.0, 1.0, 1.0, 0.95, 0.85, 0.7, 0.45, 0.1])  # width of a lock from root to tip
DOWN = np.array([0.0, 0.0, -1.0])
BUN = np.array([0.0, 0.105, 0.775])  # centre of a bun on the rest template


@dataclass(frozen=True)
class Style:
    """How locks grow. lift: out of the scalp at the root; gravity per step; width of a lock; cap thickness.
    Metres.
    """

    locks: int
    lift: float
    gravity: float
    width: float
    cap: float
    stiff: float  # how much of the previous direction a step keeps
    cling: float  # how much a lock follows the head instead of leaving it, 0..1


STYLES: dict[str, Style] = {
    "buzz": Style(0, 0.0, 0.0, 0.0, 0.0025, 0.0, 0.0),
    "crop": Style(620, 0.45, 0.05, 0.008, 0.006, 1.0, 0.35),
    "short": Style(640, 0.4, 0.12, 0.010, 0.007, 1.0, 0.6),
    "bob": Style(480, 0.15, 0.6, 0.016, 0.008, 0.7, 0.9),
    "long": Style(480, 0.12, 0.8, 0.018, 0.008, 0.6, 0.9),
    "bun": Style(360, 0.05, 0.0, 0.013, 0.006, 1.0, 1.0),
    "afro": Style(560, 1.2, 0.0, 0.014, 0.024, 1.0, 0.0),
}


@dataclass(frozen=True)
class Roots:
    """Where locks start: world and template points, scalp normals."""

    at: Float64[np.ndarray, "n 3"]
    template: Float64[np.ndarray, "n 3"]
    normal: Float64[np.ndarray, "n 3"]


def build_hair(
    spec: PersonSpec,
    posed: Float64[np.ndarray, "v 3"],
    skeleton: Skeleton,
    clothes: tuple[Surface, ...],
    model: BodyModel,
) -> tuple[Surface, ...]:
    """Cap, locks, bun and beard of a person; nothing for the bald and shaven."""
    hair, surfaces = spec.hair, []
    head = skeleton.rotations[model.bones.index("head")]
    rng = np.random.default_rng(hair.seed)
    solid = _obstacles(posed, clothes, model)
    if hair.style in STYLES:
        style = STYLES[hair.style]
        cap = _patch(scalp_level(hair.hairline), posed, model)
        surfaces.append(_cap(cap, hair, style))
        if style.locks:
            roots = _sample_roots(cap, style.locks, rng)
            goal = posed[_bun_anchor(model)] if hair.style == "bun" else None
            surfaces.append(
                _locks(_grow(roots, hair, style, head, solid, rng, goal), hair, style.width, "hair")
            )
        if hair.style == "bun":
            surfaces.append(_bun(hair, posed, head, model, rng))
    if hair.beard > 0.004:
        patch = _patch((beard_weight() - 0.45) * 0.02, posed, model)
        roots = _sample_roots(patch, 460, rng)
        surfaces.append(_locks(_beard(roots, hair, solid, rng), hair, 0.0032, "beard"))
    return tuple(surfaces)


Patch = tuple[Float64[np.ndarray, "n c"], Int32[np.ndarray, "m 3"]]


def _patch(level: Float64[np.ndarray, " v"], posed: Float64[np.ndarray, "v 3"], model: BodyModel) -> Patch:
    """The skin where level > 0: columns are world point, template point, normal, level."""
    faces = model.faces("body")
    near = faces[(level[faces] > -0.02).any(1) & (level[faces] > -0.5).all(1)]
    normals = vertex_normals(posed, faces)
    columns = np.concatenate([posed, model.template, normals, level[:, None]], axis=1)
    return clip(columns, near, level)


def _cap(patch: Patch, hair: HairSpec, style: Style) -> Surface:
    columns, faces = patch
    if hair.style == "afro":
        columns, faces = subdivide(columns, faces)
    level = columns[:, 9]
    rise = (
        style.cap
        * (1 + hair.volume * (0.9 if hair.style == "afro" else 0.3))
        * np.clip(level / 0.02 + 0.12, 0, 1)
    )
    if hair.style == "afro":
        rise = rise * (1.0 + 0.10 * waves(columns[:, 3:6], hair.seed, (0.022, 0.012, 0.008)))
    vertices = columns[:, :3] + columns[:, 6:9] * rise[:, None]
    relative = columns[:, 3:6] - CROWN
    turn = np.arctan2(relative[:, 0], -relative[:, 1])
    uv = np.stack([turn * 0.09, np.sqrt((relative**2).sum(1))], axis=1)[faces]
    uv[..., 0] -= np.rint((uv[..., 0] - uv[:, :1, 0]) / (0.18 * np.pi)) * 0.18 * np.pi
    return Surface(
        name="scalp",
        vertices=vertices,
        faces=faces,
        normals=vertex_normals(vertices, faces),
        uv=uv,
        part_ids=constant_parts(faces, PART["Hair"]),
        material=hair_material(hair),
        attributes={"tint": np.full(len(vertices), 0.7)},
    )


def _sample_roots(patch: Patch, count: int, rng: np.random.Generator) -> Roots:
    """Points spread evenly by area."""
    columns, faces = patch
    area = np.sqrt((face_normals(columns[:, :3], faces) ** 2).sum(1))
    edges = np.cumsum(area) / area.sum()
    pick = np.minimum(np.searchsorted(edges, (np.arange(count) + rng.random(count)) / count), len(faces) - 1)
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weight = np.stack([1 - u, u * (1 - v), u * v], axis=1)
    values = (columns[faces[pick]] * weight[..., None]).sum(1)
    return Roots(values[:, :3], values[:, 3:6], unit(values[:, 6:9]))


def _obstacles(posed: Float64[np.ndarray, "v 3"], clothes: tuple[Surface, ...], model: BodyModel) -> Solid:
    faces = model.faces("body")
    upper = np.unique(faces[(model.template[faces, 2] > 0.2).all(1)])
    points, normals = [posed[upper]], [vertex_normals(posed, faces)[upper]]
    for cloth in clothes:
        if (cloth.part_ids == PART["Upper_Clothing"]).all():
            points.append(cloth.vertices)
            normals.append(cloth.normals)
    return np.concatenate(points), np.concatenate(normals)


def _flow(roots: Roots, hair: HairSpec, rng: np.random.Generator) -> Float64[np.ndarray, "n 3"]:
    """The way hair is combed at each root, in the head's rest axes."""
    p = roots.template
    away = p - CROWN
    if hair.style == "bun":
        return np.asarray(BUN - p)
    if hair.style in ("short", "crop"):
        side = np.where(p[:, 0] - 0.05 * hair.part > 0, 1.0, -1.0)
        top = (np.clip((p[:, 2] - 0.785) / 0.02, 0, 1) * np.clip((0.04 - p[:, 1]) / 0.05, 0, 1))[:, None]
        swept = np.stack(
            [side * 0.35 - 1.6 * hair.part, np.full(len(p), 0.55 - hair.volume), np.full(len(p), 0.5)], axis=1
        )
        return np.asarray(unit(away) * (1 - top) + swept * top)
    side = np.where(p[:, 0] - 0.07 * hair.part > 0, 1.0, -1.0)
    front = np.clip((-0.02 - p[:, 1]) / 0.08, 0, 1)
    return np.stack(
        [side * 1.0, 0.6 + 0.5 * front + 0.6 * np.clip(p[:, 1] / 0.06, 0, 1), -0.25 + 0.45 * front], axis=1
    )


def _grow(
    roots: Roots,
    hair: HairSpec,
    style: Style,
    head: Float64[np.ndarray, "3 3"],
    solid: Solid,
    rng: np.random.Generator,
    goal: Float64[np.ndarray, " 3"] | None,
) -> tuple[Float64[np.ndarray, "n s 3"], Float64[np.ndarray, "n s 3"]]:
    """Centre lines and outward normals of the locks, step by step."""
    count = len(roots.at)
    flow = (_flow(roots, hair, rng)[:, None, :] * head[None]).sum(2)
    flow = unit(flow - roots.normal * (flow * roots.normal).sum(1, keepdims=True))
    lift = style.lift * (0.6 + 0.8 * hair.volume)
    direction = unit(flow + lift * roots.normal + rng.normal(size=(count, 3)) * (0.12 + 0.25 * hair.curl))
    length = hair.length * rng.uniform(0.75, 1.1, count)
    if hair.style == "bun":
        length = np.sqrt(((BUN - roots.template) ** 2).sum(1)) * 0.95
    if hair.style == "afro":
        length = np.full(count, 0.012 + 0.012 * hair.volume)
    step = (length / STEPS)[:, None]
    layer = 0.003 + rng.random(count) * (0.006 + 0.012 * hair.volume * (hair.style in ("bob", "long")))
    points, normals = (
        [roots.at + roots.normal * style.cap * (0.6 + 0.9 * hair.volume * (hair.style == "afro"))],
        [roots.normal],
    )
    tree = cKDTree(solid[0])
    phase = rng.uniform(0, 2 * np.pi, count)
    hugging = STEPS if goal is not None else STEPS * 0.11 / float(length.mean())
    for i in range(STEPS):
        cling = style.cling if i <= hugging else 0.0
        near = normals[-1]
        wobble = np.sin(phase + i * (1.2 + 2.0 * hair.curl)) * hair.curl * 0.4
        direction = (
            unit(goal - points[-1]) if goal is not None else style.stiff * direction + style.gravity * DOWN
        )
        direction = unit(direction + np.cross(direction, near) * wobble[:, None])
        rising = np.maximum((direction * near).sum(1, keepdims=True), 0.0)
        direction = unit(direction - cling * rising * near)
        moved, normal = _off(points[-1] + direction * step, tree, solid, layer, cling)
        direction = unit(moved - points[-1])
        points.append(moved)
        normals.append(unit(near * 0.4 + normal * 0.6))
    return np.stack(points, axis=1), np.stack(normals, axis=1)


def _off(
    points: Float64[np.ndarray, "n 3"],
    tree: cKDTree,
    solid: Solid,
    layer: Float64[np.ndarray, " n"],
    cling: float,
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"]]:
    """Points moved out to their layer above the nearest surface (and, clinging, back in to it), and its
    normal.
    """
    _, nearest = tree.query(points)
    normal = solid[1][nearest]
    gap = ((points - solid[0][nearest]) * normal).sum(1)
    back = np.where(gap < 0.04, cling * np.minimum(layer - gap, 0.0), 0.0)
    return points + (np.clip(layer - gap, 0, 0.05) + back)[:, None] * normal, normal


def _beard(
    roots: Roots, hair: HairSpec, solid: Solid, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, "n s 3"], Float64[np.ndarray, "n s 3"]]:
    count = len(roots.at)
    style = Style(count, 0.8, 0.25, 0.005, 0.0, 1.0, 0.0)
    direction = unit(roots.normal * 0.35 + DOWN * 0.9 + rng.normal(size=(count, 3)) * 0.25)
    step = (max(hair.beard, 0.006) * rng.uniform(0.6, 1.1, count) / STEPS)[:, None]
    points, normals = [roots.at], [roots.normal]
    for _ in range(STEPS):
        direction = unit(direction + style.gravity * DOWN)
        points.append(points[-1] + direction * step)
        normals.append(roots.normal)
    return np.stack(points, axis=1), np.stack(normals, axis=1)


def _locks(
    lines: tuple[Float64[np.ndarray, "n s 3"], Float64[np.ndarray, "n s 3"]],
    hair: HairSpec,
    width: float,
    name: str,
) -> Surface:
    """Ribbons along centre lines, their normals turned outwards at both edges so that they shade as round
    locks.
    """
    points, normals = lines
    count, rows = points.shape[:2]
    tangent = unit(np.gradient(points, axis=1))
    across = unit(np.cross(tangent, normals))
    half = (PROFILE * width / 2)[None, :, None] * across
    facing = np.cross(across, tangent)
    facing = np.where((facing * normals).sum(2, keepdims=True) < 0, -facing, facing)
    sag = 0.18 * width * facing
    grid = np.stack([points - half - sag, points, points + half - sag], axis=2)
    bent = unit(np.stack([facing - 0.7 * across, facing, facing + 0.7 * across], axis=2))
    index = np.arange(count * rows * 3).reshape(count, rows, 3)
    a, b = index[:, :-1, :-1].reshape(-1), index[:, :-1, 1:].reshape(-1)
    c, d = index[:, 1:, 1:].reshape(-1), index[:, 1:, :-1].reshape(-1)
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]).astype(np.int32)
    vertices = grid.reshape(-1, 3)
    turned = (face_normals(vertices, faces) * bent.reshape(-1, 3)[faces[:, 0]]).sum(1) < 0
    faces[turned] = faces[turned][:, ::-1]
    along = np.concatenate(
        [np.zeros((count, 1)), np.cumsum(np.sqrt((np.diff(points, axis=1) ** 2).sum(2)), axis=1)], axis=1
    )
    u = np.arange(count)[:, None, None] * 0.037 + np.array([-0.5, 0.0, 0.5]) * width * np.ones(
        (count, rows, 1)
    )
    uv = np.stack([u, np.broadcast_to(along[..., None], u.shape)], axis=3).reshape(-1, 2)
    rootward = 1.0 - np.arange(rows) / (rows - 1)
    tint = np.broadcast_to((0.8 * rootward**2)[None, :, None], u.shape).reshape(-1)
    return Surface(
        name=name,
        vertices=vertices,
        faces=faces,
        normals=bent.reshape(-1, 3),
        uv=uv[faces],
        part_ids=constant_parts(faces, PART["Hair"] if name == "hair" else PART["Face_Neck"]),
        material=hair_material(hair),
        attributes={"tint": tint.copy()},
    )


def _bun_anchor(model: BodyModel) -> int:
    body = np.unique(model.quads["body"])
    return int(body[np.argmin(((model.template[body] - BUN) ** 2).sum(1))])


def _bun(
    hair: HairSpec,
    posed: Float64[np.ndarray, "v 3"],
    head: Float64[np.ndarray, "3 3"],
    model: BodyModel,
    rng: np.random.Generator,
) -> Surface:
    """A knot of hair: locks wound around a small ellipsoid at the back of the head."""
    anchor = _bun_anchor(model)
    normal = vertex_normals(posed, model.faces("body"))[anchor]
    radius = 0.026 + 0.018 * hair.volume
    centre = posed[anchor] + normal * radius * 0.75
    side = unit(np.cross(normal, head[:, 2]))
    up = np.cross(side, normal)
    count = 130
    latitude = np.arcsin(rng.uniform(-0.2, 1.0, count))[:, None]
    turn = rng.uniform(0, 2 * np.pi, count)[:, None] + np.linspace(0, 1.6, STEPS + 1)[None]
    height = latitude + np.linspace(-0.25, 0.25, STEPS + 1)[None] * rng.choice([-1.0, 1.0], (count, 1))
    outward = (
        np.cos(height)[..., None] * (np.cos(turn)[..., None] * side + np.sin(turn)[..., None] * up)
        + np.sin(height)[..., None] * normal
    )
    points = centre + outward * radius * rng.uniform(0.92, 1.08, (count, 1, 1))
    return _locks((points, unit(outward)), hair, 0.014, "hair")
