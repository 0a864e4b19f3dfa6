"""Hair assets: cards and shells of hair that move with the head, off the skin and clothes, and under a hat.

Labels see hair where its opacity exceeds one half, as for all see-through surfaces.
"""

import numpy as np
from jaxtyping import Bool, Float64
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Shape, Skeleton
from render.people.makehuman.catalog import Catalog
from render.people.makehuman.looks import card_material, textured
from render.people.makehuman.pattern import Pattern, fit, load_pattern, pose
from render.people.makehuman.wear import find_asset
from render.people.mesh import compact, constant_parts, smooth, vertex_normals
from render.people.parts import PART
from render.people.spec import HairSpec
from render.person import Surface

OFF_SKIN = 0.002  # metres
CHEST_Z = 0.2  # rest template: hair does not meet what is lower
HEADWEAR = ("hat", "cap", "beanie", "headscarf")
SECTORS = 24  # around a hat's brim


def build_asset_hair(
    hair: HairSpec,
    clothes: tuple[Surface, ...],
    shape: Shape,
    skeleton: Skeleton,
    posed: Float64[np.ndarray, "v 3"],
    model: BodyModel,
    catalog: Catalog | None,
) -> tuple[Surface, ...]:
    """The surface of `hair.asset`; none when there is no asset, or a hat hides all of it.

    Raises VitruvianError when it is not to be found in `catalog`.
    """
    if hair.asset is None:
        return ()
    files = find_asset(hair.asset, catalog)
    pattern = load_pattern(files)
    vertices = pose(pattern, fit(pattern, shape.vertices), skeleton)
    vertices = _off(vertices, pattern, posed, clothes, model)
    bone = model.bones.index("head")
    shown = ~_under_hat(vertices, clothes, skeleton.rotations[bone], skeleton.heads[bone])
    kept = shown[pattern.faces].any(1)
    if not kept.any():
        return ()
    used, faces = compact(pattern.faces[kept], len(vertices))
    material = textured(files)
    uv = pattern.uv if material is None else pattern.atlas
    return (
        Surface(
            name="hair",
            vertices=vertices[used],
            faces=faces,
            normals=vertex_normals(vertices[used], faces),
            uv=uv[kept],
            part_ids=constant_parts(faces, PART["Hair"]),
            material=material or card_material(hair),
            attributes={"tip": _tips(pattern)[used]},
        ),
    )


def _off(
    vertices: Float64[np.ndarray, "v 3"],
    pattern: Pattern,
    posed: Float64[np.ndarray, "b 3"],
    clothes: tuple[Surface, ...],
    model: BodyModel,
) -> Float64[np.ndarray, "v 3"]:
    """Hair pushed out of the shoulders and what covers them; on the head it stays as it was made."""
    faces = model.faces("body")
    high = np.unique(faces[(model.template[faces, 2] > CHEST_Z).all(1)])
    points, normals = [posed[high]], [vertex_normals(posed, faces)[high]]
    for cloth in clothes:
        if (cloth.part_ids == PART["Upper_Clothing"]).any():
            points.append(cloth.vertices)
            normals.append(cloth.normals)
    solid, outward = np.concatenate(points), np.concatenate(normals)
    low = np.clip((0.66 - pattern.template[:, 2]) / 0.03, 0, 1)
    tree = cKDTree(solid)
    for _ in range(3):
        _, nearest = tree.query(vertices)
        gap = ((vertices - solid[nearest]) * outward[nearest]).sum(1)
        lack = np.clip(OFF_SKIN - gap, 0, 0.05) * low
        vertices = vertices + smooth(lack[:, None] * outward[nearest], pattern.faces, 1, 0.3)
    return vertices


def _under_hat(
    vertices: Float64[np.ndarray, "v 3"],
    clothes: tuple[Surface, ...],
    head: Float64[np.ndarray, "3 3"],
    origin: Float64[np.ndarray, " 3"],
) -> Bool[np.ndarray, " v"]:
    """Hair above the lowest edge of a hat, which varies around the head."""
    hats = [c.vertices for c in clothes if c.name.startswith(HEADWEAR)]
    if not hats:
        return np.zeros(len(vertices), dtype=bool)
    hat, hair = (_local(p, head, origin) for p in (np.concatenate(hats), vertices))
    middle = (hat[:, :2].min(0) + hat[:, :2].max(0)) / 2
    sector = _sector(hat, middle)
    edge = np.full(SECTORS, np.inf)
    np.minimum.at(edge, sector, hat[:, 2])
    edge[~np.isfinite(edge)] = hat[:, 2].min()
    return np.asarray(hair[:, 2] > edge[_sector(hair, middle)] - 0.002)


def _local(
    points: Float64[np.ndarray, "n 3"], head: Float64[np.ndarray, "3 3"], origin: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "n 3"]:
    """World points in the head's rest axes."""
    return np.asarray(((points - origin)[:, :, None] * head[None]).sum(1))


def _sector(points: Float64[np.ndarray, "n 3"], middle: Float64[np.ndarray, " 2"]) -> np.ndarray:
    angle = np.arctan2(points[:, 1] - middle[1], points[:, 0] - middle[0])
    return np.asarray(np.floor((angle + np.pi) / (2 * np.pi) * SECTORS).astype(np.int64) % SECTORS)


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
