"""An imported scan as plain arrays in the file's own axes and units: welded, cleaned, read from the cache."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from render.people.mesh import vertex_normals
from render.sources.config import ScanRejected

MAX_FACES = 20_000_000
_NO_AREA = 1e-7  # twice the area over the longest edge squared: thinner triangles have no direction


@dataclass(frozen=True)
class ScanMesh:
    """Corners that agree in position, normal and colour share a vertex.

    colours: linear RGB per vertex. material: index into `materials`, -1 = none. part_ids: per face. trusted:
    0 or 1 per vertex. materials: what `render.sources.blender` found, images by name. degenerate: faces
    dropped because they have no area.
    """

    vertices: Float64[np.ndarray, "v 3"]
    normals: Float64[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    material: Int32[np.ndarray, " f"]
    uv: Float64[np.ndarray, "f 3 2"] | None
    colours: Float64[np.ndarray, "v 3"] | None
    part_ids: UInt8[np.ndarray, " f"] | None
    trusted: Float64[np.ndarray, " v"] | None
    materials: tuple[Mapping[str, Any], ...]
    degenerate: int


def clean(raw: Mapping[str, np.ndarray], materials: list[dict[str, Any]], path: Path) -> ScanMesh:
    """Arrays of `render.sources.blender` -> a mesh without degenerate triangles and unused vertices.

    Normals are the file's own, or smooth (weighted by area, across texture seams) where it has none. Raises
    ScanRejected "mesh:empty", "mesh:huge", "mesh:not-finite" or "mesh:no-area".
    """
    if not raw or not len(raw["corners"]):
        raise ScanRejected("mesh:empty", f"{path}: expected triangles; the import found none")
    if len(raw["corners"]) > MAX_FACES:
        raise ScanRejected(
            "mesh:huge",
            f"{path}: expected at most {MAX_FACES} triangles; got {len(raw['corners'])}: decimate it",
        )
    at = raw["vertices"][raw["corners"]].astype(np.float32) + np.float32(0)
    if bad := int((~np.isfinite(at)).any(axis=(1, 2)).sum()):
        raise ScanRejected("mesh:not-finite", f"{path}: {bad} triangles have corners that are not finite")
    good = _with_area(at)
    if not good.any():
        raise ScanRejected("mesh:no-area", f"{path}: all {len(good)} triangles are degenerate")
    kept = {name: values[good] for name, values in raw.items() if name != "vertices"}
    at, normals = at[good], _corner_normals(at[good], kept)
    colour = _complete(kept.get("colour"), 0.5)
    keys = [at, normals, *([colour] if colour is not None else [])]
    trust = _integers(kept.get("quality"))
    if trust is not None:
        keys.append(np.minimum(trust, 1).astype(np.float32)[..., None])
    first, faces = _weld(np.concatenate(keys, axis=-1))
    return ScanMesh(
        vertices=_rows(at, first),
        normals=_unit(_rows(normals, first)),
        faces=faces,
        material=kept["material"].astype(np.int32),
        uv=_wrapped(kept.get("uv")),
        colours=None if colour is None else _rows(colour, first),
        part_ids=_face_ids(_integers(kept.get("part_id"))),
        trusted=None if trust is None else np.minimum(trust, 1).reshape(-1)[first].astype(np.float64),
        materials=tuple(materials),
        degenerate=int((~good).sum()),
    )


def to_arrays(mesh: ScanMesh) -> dict[str, np.ndarray]:
    """For `np.savez`; `from_arrays` is the inverse."""
    plain = {"materials": list(mesh.materials), "degenerate": mesh.degenerate}
    arrays = {name: value for name, value in vars(mesh).items() if isinstance(value, np.ndarray)}
    return arrays | {"json": np.frombuffer(json.dumps(plain).encode(), np.uint8)}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> ScanMesh:
    """The mesh of `to_arrays`."""
    plain = json.loads(arrays["json"].tobytes())
    return ScanMesh(
        vertices=arrays["vertices"],
        normals=arrays["normals"],
        faces=arrays["faces"],
        material=arrays["material"],
        uv=arrays.get("uv"),
        colours=arrays.get("colours"),
        part_ids=arrays.get("part_ids"),
        trusted=arrays.get("trusted"),
        materials=tuple(plain["materials"]),
        degenerate=plain["degenerate"],
    )


def _rows(corners: Float32[np.ndarray, "f 3 n"], first: np.ndarray) -> Float64[np.ndarray, "v n"]:
    return np.asarray(corners.reshape(-1, corners.shape[-1])[first], np.float64)


def _with_area(at: Float32[np.ndarray, "f 3 3"]) -> np.ndarray:
    corner = at.astype(np.float64)
    edges = corner - np.roll(corner, 1, axis=1)
    longest = (edges**2).sum(-1).max(-1)
    return np.asarray(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=-1) > _NO_AREA * longest)


def _corner_normals(
    at: Float32[np.ndarray, "f 3 3"], kept: Mapping[str, np.ndarray]
) -> Float32[np.ndarray, "f 3 3"]:
    """The file's normals where it has usable ones, else smooth ones over corners of equal position."""
    own = kept["normals"]
    length = np.linalg.norm(own, axis=-1)
    usable = kept["own_normals"][:, None] & np.isfinite(length) & (length > 1e-6)
    if not usable.all():
        first, faces = _weld(at)
        smooth = vertex_normals(at.reshape(-1, 3)[first].astype(np.float64), faces)[faces]
        own = np.where(usable[..., None], own, smooth)
    return np.asarray(_unit(own.astype(np.float64)), np.float32) + np.float32(0)


def _weld(corners: Float32[np.ndarray, "f 3 n"]) -> tuple[np.ndarray, Int32[np.ndarray, "f 3"]]:
    """Rows that occur for the first time, in order of appearance, and the faces over them."""
    rows = np.ascontiguousarray(corners.reshape(-1, corners.shape[-1]), np.float32)
    packed = rows.view(np.dtype((np.void, rows.shape[1] * 4))).reshape(-1)
    _, first, index = np.unique(packed, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[index].reshape(-1, 3).astype(np.int32)


def _complete(values: np.ndarray | None, filler: float) -> np.ndarray | None:
    """Colours as float32, `filler` where a piece of the scan has none."""
    return None if values is None else np.where(np.isfinite(values), values, filler).astype(np.float32)


def _integers(values: np.ndarray | None) -> Int32[np.ndarray, "f 3"] | None:
    """Whole numbers 0 .. 255 per corner; None for a property that holds anything else."""
    if values is None:
        return None
    known = np.where(np.isfinite(values), values, 255)
    whole = (np.rint(known) == known).all() and known.min() >= 0 and known.max() <= 255
    return known.astype(np.int32) if whole else None


def _face_ids(corners: Int32[np.ndarray, "f 3"] | None) -> UInt8[np.ndarray, " f"] | None:
    """The id that two corners share, else that of the first."""
    if corners is None:
        return None
    shared = np.where(corners[:, 1] == corners[:, 2], corners[:, 1], corners[:, 0])
    return shared.astype(np.uint8)


def _wrapped(uv: np.ndarray | None) -> Float64[np.ndarray, "f 3 2"] | None:
    return None if uv is None else np.nan_to_num(uv.astype(np.float64))


def _unit(vectors: Float64[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n 3"]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
