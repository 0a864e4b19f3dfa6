"""Assets on a person: fitted at rest, posed, kept off skin and what is worn below, hemmed, labelled."""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Bool, Float64, Int32
from scipy.spatial import cKDTree

from render.people.body import BodyModel, Shape, Skeleton
from render.people.cloth import with_hem
from render.people.garments import Dressed
from render.people.makehuman.catalog import AssetFiles, Catalog
from render.people.makehuman.labels import ONE_GARMENT, SLOTS, FaceLabels, label_faces
from render.people.makehuman.looks import cloth_material, textured
from render.people.makehuman.pattern import Pattern, fit, load_pattern, pose
from render.people.mesh import compact, constant_parts, smooth, unit, vertex_normals
from render.people.spec import AssetSpec, GarmentSpec
from render.person import Surface
from shards.errors import VitruvianError

GAP = (0.0015, 0.004)  # metres that cloth keeps off what is below: what it has at rest, within these
DEEP = 0.012  # what lies deeper inside at rest is meant to (linings, the inside of collars)
KIN = 0.12  # cloth keeps off what was nearer than this at rest, metres
MUSH_STEPS = 12
THICKNESS, FOLD = 0.0025, 0.015  # of hems, metres
SUIT = ((("lower",), ("upper", "inner", "trim")), (("inner",), ("upper", "tie")))
OVERALLS = ((("upper",), ("lower", "trim")),)
"""Cloths of one asset that lie under others of it, from the skin outwards."""

HEMMED = ("upper", "lower", "inner", "sock")


@dataclass(frozen=True)
class Solid:
    """What cloth keeps off: points of a surface at rest and posed, with outward normals."""

    rest: Float64[np.ndarray, "n 3"]
    rest_normals: Float64[np.ndarray, "n 3"]
    posed: Float64[np.ndarray, "n 3"]
    normals: Float64[np.ndarray, "n 3"]


@dataclass(frozen=True)
class _Asset:
    """A garment of the spec with what its files say."""

    garment: GarmentSpec
    files: AssetFiles
    category: str
    pattern: Pattern
    labels: FaceLabels


def find_asset(asset: AssetSpec, catalog: Catalog | None) -> AssetFiles:
    """The files of an asset. Raises VitruvianError when no folder is named or it holds other bytes."""
    if catalog is None:
        raise VitruvianError(
            f"asset {asset.name}: expected an asset folder, for the person wears or is made of it; got none: "
            "name the folder (--asset-folder)"
        )
    return catalog.find(asset)


def wear_assets(
    clothes: Dressed,
    garments: tuple[GarmentSpec, ...],
    shape: Shape,
    skeleton: Skeleton,
    posed: Float64[np.ndarray, "v 3"],
    model: BodyModel,
    catalog: Catalog | None,
) -> Dressed:
    """`clothes` with the garments of kind "asset" added, from the skin outwards (by z_depth).

    Raises VitruvianError when an asset is not to be found in `catalog`.
    """
    worn = [_asset(g, catalog) for g in garments if g.kind == "asset"]
    if not worn:
        return clothes
    hidden = clothes.hidden.copy()
    for asset in worn:
        hidden |= asset.pattern.clothes.deleted
    under = [_skin(shape, posed, hidden, model)]
    surfaces = list(clothes.surfaces)
    for asset in sorted(worn, key=lambda a: a.pattern.clothes.z_depth):
        rest = fit(asset.pattern, shape.vertices)
        vertices = relaxed(pose(asset.pattern, rest, skeleton), rest, asset.pattern.faces)
        vertices = _layered(asset, rest, vertices, under)
        surfaces += _surfaces(asset, vertices)
        if asset.category != "hats":
            under.append(_solid(asset.pattern.faces, rest, vertices))
    return replace(clothes, surfaces=tuple(surfaces), hidden=hidden)


def _asset(garment: GarmentSpec, catalog: Catalog | None) -> _Asset:
    if garment.asset is None:
        raise VitruvianError(
            'garment of kind "asset": expected the asset it is; got none: the spec is incomplete'
        )
    files = find_asset(garment.asset, catalog)
    pattern = load_pattern(files)
    category = next(e.category for e in catalog.entries if e.name == garment.asset.name) if catalog else ""
    return _Asset(garment, files, category, pattern, label_faces(pattern, category, garment.asset.name))


def _solid(
    faces: Int32[np.ndarray, "f 3"], rest: Float64[np.ndarray, "v 3"], posed: Float64[np.ndarray, "v 3"]
) -> Solid:
    used, local = compact(faces, len(rest))
    return Solid(
        rest[used], vertex_normals(rest[used], local), posed[used], vertex_normals(posed[used], local)
    )


def _skin(
    shape: Shape, posed: Float64[np.ndarray, "v 3"], hidden: Bool[np.ndarray, " v"], model: BodyModel
) -> Solid:
    """The skin that is drawn: nothing can poke out that is not."""
    faces = model.faces("body")
    solid = _solid(faces, shape.vertices, posed)
    used = compact(faces, len(posed))[0]
    drawn = np.zeros(len(posed), dtype=bool)
    drawn[faces[~hidden[faces].all(1)].reshape(-1)] = True
    kept = drawn[used]
    return Solid(solid.rest[kept], solid.rest_normals[kept], solid.posed[kept], solid.normals[kept])


def _layered(
    asset: _Asset, rest: Float64[np.ndarray, "v 3"], posed: Float64[np.ndarray, "v 3"], under: list[Solid]
) -> Float64[np.ndarray, "v 3"]:
    """All of an asset off what is below it; then its own upper garments off its lower and inner ones."""
    pattern, slots = asset.pattern, asset.labels.slots
    posed = keep_off(rest, posed, pattern.faces, under)
    order = OVERALLS if PurePosixPath(asset.files.spec.name).stem in ONE_GARMENT else SUIT
    for below, above in order:
        inner = np.isin(slots, [SLOTS.index(s) for s in below])
        outer = np.isin(slots, [SLOTS.index(s) for s in above])
        if not (inner.any() and outer.any()):
            continue
        solid = _solid(pattern.faces[inner], rest, posed)
        movable = np.setdiff1d(pattern.faces[outer], pattern.faces[inner])
        moved = keep_off(rest, posed, pattern.faces, [solid])
        posed = posed.copy()
        posed[movable] = moved[movable]
    return posed


def keep_off(
    rest: Float64[np.ndarray, "v 3"],
    posed: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    under: list[Solid],
) -> Float64[np.ndarray, "v 3"]:
    """Moves posed points out of the surfaces under them until they keep the distance they had at rest, within
    `GAP`. Only what was near a point at rest moves it: an arm does not move the cloth over the chest.
    """
    solid_rest, rest_normals = (
        np.concatenate([getattr(s, n) for s in under]) for n in ("rest", "rest_normals")
    )
    solid, normals = (np.concatenate([getattr(s, n) for s in under]) for n in ("posed", "normals"))
    _, nearest = cKDTree(solid_rest).query(rest, k=4)
    had = ((rest[:, None] - solid_rest[nearest]) * rest_normals[nearest]).sum(2).min(1)
    margin = np.where(had > -DEEP, np.clip(had, *GAP), -1.0)
    tree = cKDTree(solid)
    rows = np.arange(len(posed))
    for turn in range(4):
        _, nearest = tree.query(posed, k=4)
        gap = ((posed[:, None] - solid[nearest]) * normals[nearest]).sum(2)
        away = ((rest[:, None] - solid_rest[nearest]) ** 2).sum(2)
        worst = np.argmin(np.where(away < KIN**2, gap, np.inf), axis=1)
        lack = np.clip(margin - gap[rows, worst], 0.0, 0.05) * (away[rows, worst] < KIN**2)
        move = lack[:, None] * normals[nearest[rows, worst]]
        posed = posed + (smooth(move, faces, 2, 0.5) if turn < 2 else move)
    return posed


def relaxed(
    posed: Float64[np.ndarray, "v 3"], rest: Float64[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"]
) -> Float64[np.ndarray, "v 3"]:
    """Posed cloth without the bulges of linear blending: smoothed, with the detail it had at rest put back in
    local frames (Mancewicz et al. 2014, "Delta Mush").
    """
    smooth_rest, smooth_posed = (smooth(p, faces, MUSH_STEPS, 0.6) for p in (rest, posed))
    first = np.full(len(rest), -1)
    first[faces[::-1].reshape(-1)] = np.roll(faces[::-1], -1, axis=1).reshape(-1)
    first = np.where(first < 0, np.arange(len(rest)), first)
    before, after = (_frames(p, faces, first) for p in (smooth_rest, smooth_posed))
    detail = (before * (rest - smooth_rest)[:, None, :]).sum(2)
    return np.asarray(smooth_posed + (after * detail[:, :, None]).sum(1))


def _frames(
    points: Float64[np.ndarray, "v 3"], faces: Int32[np.ndarray, "f 3"], first: np.ndarray
) -> Float64[np.ndarray, "v 3 3"]:
    """Per vertex the rows tangent (towards the vertex `first`), bitangent, normal."""
    normal = vertex_normals(points, faces)
    along = points[first] - points
    tangent = unit(along - normal * (along * normal).sum(1, keepdims=True))
    return np.stack([tangent, np.cross(normal, tangent), normal], axis=1)


def _surfaces(asset: _Asset, vertices: Float64[np.ndarray, "v 3"]) -> list[Surface]:
    """One surface per cloth and class, in the order of `SLOTS`."""
    own = textured(asset.files)
    made = []
    for index, slot in enumerate(SLOTS):
        for part in np.unique(asset.labels.parts[asset.labels.slots == index]):
            chosen = (asset.labels.slots == index) & (asset.labels.parts == part)
            material = own or cloth_material(slot, asset.garment.fabric, _tags(asset))
            uv = asset.pattern.uv if own is None else asset.pattern.atlas
            cut = _hemmed if slot in HEMMED else _cut
            points, faces, corners = cut(asset.pattern.faces[chosen], uv[chosen], vertices)
            made.append(
                Surface(
                    name=_name(slot),
                    vertices=points,
                    faces=faces,
                    normals=vertex_normals(points, faces),
                    uv=corners,
                    part_ids=constant_parts(faces, int(part)),
                    material=material,
                )
            )
    return made


def _tags(asset: _Asset) -> tuple[str, ...]:
    return tuple(tag.lower() for tag in asset.pattern.clothes.tags)


def _name(slot: str) -> str:
    return slot if slot in ("hat", "tie", "shoe", "sock", "sole") else f"asset_{slot}"


Piece = tuple[Float64[np.ndarray, "_ 3"], Int32[np.ndarray, "g 3"], Float64[np.ndarray, "g 3 2"]]
"""Vertices, faces over them, texture coordinates of the faces' corners."""


def _cut(
    faces: Int32[np.ndarray, "f 3"], uv: Float64[np.ndarray, "f 3 2"], vertices: Float64[np.ndarray, "v 3"]
) -> Piece:
    """Some faces as a mesh of their own."""
    used, local = compact(faces, len(vertices))
    return vertices[used], local, uv


def _hemmed(
    faces: Int32[np.ndarray, "f 3"], uv: Float64[np.ndarray, "f 3 2"], vertices: Float64[np.ndarray, "v 3"]
) -> Piece:
    """Some faces as a mesh of their own, its open edges folded in as cloth's are."""
    points, local, _ = _cut(faces, uv, vertices)
    first = np.unique(local, return_index=True)[1]
    made, all_faces, source = with_hem(points, vertex_normals(points, local), local, THICKNESS, FOLD)
    fold = uv.reshape(-1, 2)[first][source[all_faces[len(faces) :]]]
    return made, all_faces, np.concatenate([uv, fold])
