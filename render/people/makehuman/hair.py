"""Hair assets: cards and shells of hair that move with the head, off the skin and clothes, and under a hat.

Labels see hair where its opacity exceeds one half, as for all see-through surfaces.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Shape, Skeleton
from render.people.hair.frame import HEADWEAR, covers_all
from render.people.makehuman.catalog import Catalog
from render.people.makehuman.looks import card_material, textured
from render.people.makehuman.pattern import Pattern, fit, load_pattern, pose
from render.people.makehuman.wear import find_asset
from render.people.mesh import clip, constant_parts, smooth, unit, vertex_normals
from render.people.parts import PART
from render.people.spec import HairSpec
from render.person import Surface

OFF_SKIN = 0.002  # metres
CHEST_Z = 0.2  # rest template: hair does not meet what is lower
NECK_Z = 0.66  # rest template: hair below hangs
SECTORS = 36  # around a hat's brim
INSIDE, OVERLAP = 0.003, 0.010  # hair within a hat's edge, and up into it, metres


def build_asset_hair(
    hair: HairSpec,
    clothes: tuple[Surface, ...],
    shape: Shape,
    skeleton: Skeleton,
    posed: Float64[np.ndarray, "v 3"],
    model: BodyModel,
    catalog: Catalog | None,
) -> tuple[Surface, ...]:
    """The surface of `hair.asset`; none when there is no asset, or headwear hides all of it.

    Raises VitruvianError when it is not to be found in `catalog`.
    """
    if hair.asset is None or covers_all(clothes):
        return ()
    files = find_asset(hair.asset, catalog)
    pattern = load_pattern(files)
    turn, origin = (a[model.bones.index("head")] for a in (skeleton.rotations, skeleton.heads))
    vertices = pose(pattern, fit(pattern, shape.vertices), skeleton)
    below, firm = np.ones(len(vertices)), np.clip((NECK_Z - pattern.template[:, 2]) / 0.03, 0, 1)
    hat = _hat(clothes, turn, origin)
    if hat is not None:
        pressed, below = _under(hat, _local(vertices, turn, origin))
        moved = (pressed[:, None, :] * turn[None]).sum(2) + origin
        firm = np.where(np.abs(moved - vertices).max(1) > 1e-6, 1.0, firm)
        vertices = moved
    vertices = _off(vertices, pattern, firm, posed, clothes, model)
    material = textured(files)
    uv = pattern.uv if material is None else pattern.atlas
    parts = [vertices, vertex_normals(vertices, pattern.faces), _tips(pattern)[:, None], below[:, None]]
    columns = np.concatenate([np.concatenate(parts, axis=1)[pattern.faces], uv], axis=2).reshape(-1, 10)
    faces = np.arange(len(columns), dtype=np.int32).reshape(-1, 3)
    if hat is not None:
        columns, faces = clip(columns, faces, columns[:, 7])
    if not len(faces):
        return ()
    return (
        Surface(
            name="hair",
            vertices=columns[:, :3].copy(),
            faces=faces,
            normals=unit(columns[:, 3:6]),
            uv=columns[:, 8:][faces],
            part_ids=constant_parts(faces, PART["Hair"]),
            material=material or card_material(hair),
            attributes={"tip": columns[:, 6].copy()},
        ),
    )


def _off(
    vertices: Float64[np.ndarray, "v 3"],
    pattern: Pattern,
    firm: Float64[np.ndarray, " v"],
    posed: Float64[np.ndarray, "b 3"],
    clothes: tuple[Surface, ...],
    model: BodyModel,
) -> Float64[np.ndarray, "v 3"]:
    """Hair pushed out of the skin and of what covers the shoulders where it is `firm` (0..1): below the head,
    where it stays as it was made, and where a hat pressed it.
    """
    faces = model.faces("body")
    high = np.unique(faces[(model.template[faces, 2] > CHEST_Z).all(1)])
    points, normals = [posed[high]], [vertex_normals(posed, faces)[high]]
    for cloth in clothes:
        if (cloth.part_ids == PART["Upper_Clothing"]).any():
            points.append(cloth.vertices)
            normals.append(cloth.normals)
    solid, outward = np.concatenate(points), np.concatenate(normals)
    tree = cKDTree(solid)
    for _ in range(3):
        _, nearest = tree.query(vertices)
        gap = ((vertices - solid[nearest]) * outward[nearest]).sum(1)
        lack = np.clip(OFF_SKIN - gap, 0, 0.05) * firm
        vertices = vertices + smooth(lack[:, None] * outward[nearest], pattern.faces, 1, 0.3)
    return vertices


@dataclass(frozen=True)
class _Hat:
    """A hat in the head's axes: its middle, and by direction the height and radius of its lowest edge."""

    middle: Float64[np.ndarray, " 2"]
    edge: Float64[np.ndarray, " sectors"]
    radius: Float64[np.ndarray, " sectors"]


def _hat(
    clothes: tuple[Surface, ...], head: Float64[np.ndarray, "3 3"], origin: Float64[np.ndarray, " 3"]
) -> _Hat | None:
    """The hat among the clothes, or None."""
    worn = [c.vertices for c in clothes if c.name.startswith(HEADWEAR)]
    if not worn:
        return None
    points = _local(np.concatenate(worn), head, origin)
    middle = (points[:, :2].min(0) + points[:, :2].max(0)) / 2
    turn, radius = _around(points, middle)
    sector = np.floor(turn).astype(np.int64) % SECTORS
    edge, reach = np.full(SECTORS, points[:, 2].min()), np.full(SECTORS, np.median(radius))
    for index in range(SECTORS):
        here = np.flatnonzero(sector == index)
        if len(here):
            lowest = here[np.argmin(points[here, 2])]
            edge[index], reach[index] = points[lowest, 2], radius[lowest]
    return _Hat(middle, _least(edge), _least(reach))


def _least(values: Float64[np.ndarray, " sectors"]) -> Float64[np.ndarray, " sectors"]:
    """The least of each value and its two neighbours around the circle."""
    return np.asarray(np.min([np.roll(values, step) for step in (-1, 0, 1)], axis=0))


def _under(
    hat: _Hat, hair: Float64[np.ndarray, "n 3"]
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, " n"]]:
    """Hair drawn in to the hat's edge where it comes out below it; and how far below it is, metres."""
    turn, radius = _around(hair, hat.middle)
    at = np.arange(-1, SECTORS + 1) + 0.5
    edge, reach = (np.interp(turn, at, np.concatenate([v[-1:], v, v[:1]])) for v in (hat.edge, hat.radius))
    below = edge - hair[:, 2]
    widest = reach - INSIDE + 0.9 * np.maximum(below, 0.0)
    shrink = np.minimum(1.0, widest / np.maximum(radius, 1e-6))[:, None]
    pressed = np.concatenate([hat.middle + (hair[:, :2] - hat.middle) * shrink, hair[:, 2:]], axis=1)
    return pressed, below + OVERLAP


def _around(
    points: Float64[np.ndarray, "n 3"], middle: Float64[np.ndarray, " 2"]
) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Direction from the middle, 0..SECTORS, and distance, metres."""
    away = points[:, :2] - middle
    turn = (np.arctan2(away[:, 1], away[:, 0]) + np.pi) / (2 * np.pi) * SECTORS
    return turn, np.sqrt((away**2).sum(1))


def _local(
    points: Float64[np.ndarray, "n 3"], head: Float64[np.ndarray, "3 3"], origin: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "n 3"]:
    """World points in the head's rest axes."""
    return np.asarray(((points - origin)[:, :, None] * head[None]).sum(1))


def _tips(pattern: Pattern) -> Float64[np.ndarray, " v"]:
    """0 along a card, rising to 1 over its last quarter: low in the texture is far from the root."""
    v = pattern.atlas[..., 1]
    count = int(pattern.panel.max()) + 1
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, pattern.panel, v.min(1))
    np.maximum.at(high, pattern.panel, v.max(1))
    span = np.maximum(high - low, 1e-6)[pattern.panel][:, None]
    down = 1.0 - (v - low[pattern.panel][:, None]) / span
    index = pattern.faces.reshape(-1)
    size = len(pattern.template)
    mean = np.bincount(index, down.reshape(-1), size) / np.maximum(np.bincount(index, minlength=size), 1)
    return np.asarray(np.clip((mean - 0.75) / 0.25, 0, 1))
