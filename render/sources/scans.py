"""A scan's way to the renderer: inspected, planned as a `ScanSpec`, loaded as a `Person`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from annotation.parts import IGNORE
from render.people.mesh import compact
from render.person import Material, Person, Surface
from render.sources.config import ScanConfig, ScanRejected
from render.sources.files import ROLES, ScanFiles, find_scan
from render.sources.importing import image_folder, import_scan
from render.sources.mesh import ScanMesh
from render.sources.orientation import decide
from render.sources.sidecars import check_parts, read_keypoints, read_map, sample_map
from render.spec import ScanSpec
from shards.errors import VitruvianError
from shards.sample import canonical_json

_TRUSTED = "trusted"
_COLOURS = ("col_r", "col_g", "col_b")


def plan_scan(files: ScanFiles, config: ScanConfig) -> ScanSpec:
    """Read and inspect a scan. Raises ScanRejected, with `.reason`, for one that cannot be rendered."""
    mesh = import_scan(files)
    pose = decide(mesh, files, config.rules(files.name))
    check_sidecars(files, mesh)
    return ScanSpec(name=files.name, sha256=files.digest(), to_person=pose.to_person)


def load_scan(spec: ScanSpec, folder: Path) -> Person:
    """The person of a planned scan. Raises VitruvianError when `folder` does not hold these very bytes."""
    found = find_scan(spec.name, folder)
    files = next((one for one in found if one.digest() == spec.sha256), None)
    if files is None:
        got = [one.digest() for one in found] or "no scan of that name"
        raise VitruvianError(
            f"scan {spec.name!r} in {folder}: expected sha256 {spec.sha256} as in the spec; got {got}: "
            "name the folder that holds the files the spec was planned with"
        )
    mesh, matrix = import_scan(files), np.array(spec.to_person)
    scale = _check_similarity(matrix, spec.name)
    placed = replace(
        mesh,
        vertices=mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3],
        normals=mesh.normals @ (matrix[:3, :3] / scale).T,
    )
    keypoints = None
    if "keypoints" in files.sidecars:
        keypoints = read_keypoints(files.sidecars["keypoints"]) @ matrix[:3, :3].T + matrix[:3, 3]
    return Person(_surfaces(placed, files), keypoints, height=float(placed.vertices[:, 2].max()))


def materials_of(files: ScanFiles, mesh: ScanMesh) -> tuple[Material, ...]:
    """The look of each of the mesh's materials, the last for faces without one."""
    return tuple(_material(files, mesh, found) for found in (*mesh.materials, {}))


def _surfaces(mesh: ScanMesh, files: ScanFiles) -> tuple[Surface, ...]:
    """One surface per distinct look."""
    looks = materials_of(files, mesh)
    digests = [canonical_json(asdict(look)) for look in looks]
    look_of = np.array([digests.index(digest) for digest in digests])[mesh.material]
    parts = _face_parts(mesh, files)
    return tuple(
        _surface(f"scan{number}", mesh, look_of == look, looks[look], parts)
        for number, look in enumerate(np.unique(look_of))
    )


def _surface(
    name: str,
    mesh: ScanMesh,
    chosen: Bool[np.ndarray, " f"],
    material: Material,
    parts: UInt8[np.ndarray, " f"],
) -> Surface:
    used, faces = compact(mesh.faces[chosen], len(mesh.vertices))
    attributes: dict[str, np.ndarray] = {}
    if mesh.colours is not None:
        attributes |= {name: mesh.colours[used, i] for i, name in enumerate(_COLOURS)}
    if mesh.trusted is not None:
        attributes[_TRUSTED] = mesh.trusted[used]
    return Surface(
        name=name,
        vertices=mesh.vertices[used],
        faces=faces,
        normals=mesh.normals[used],
        uv=None if mesh.uv is None else mesh.uv[chosen],
        part_ids=parts[chosen],
        material=material,
        attributes=attributes,
    )


def _material(files: ScanFiles, mesh: ScanMesh, found: Mapping[str, Any]) -> Material:
    """Files beside the mesh by role come before what its own material names."""
    mapped = mesh.uv is not None
    maps: dict[str, Path | None] = {role: _image(files, found.get(role)) for role in ROLES}
    maps = {role: path if mapped else None for role, path in (maps | dict(files.roles)).items()}
    channel = str(found.get("roughness_channel", "grey"))
    if "roughness" in files.roles:
        channel = "grey"
    elif maps["gloss"]:
        maps["roughness"], channel = maps["gloss"], "gloss"
    params = {
        "colour": _text(maps["colour"]),
        "normal_map": _text(maps["normal_map"]),
        "roughness": _text(maps["roughness"]) or float(found.get("roughness_constant", 0.6)),
        "roughness_channel": channel,
        "parts": _sidecar(files, "parts", mesh),
        "quality": _sidecar(files, "quality", mesh),
        "trusted_attribute": _TRUSTED if mesh.trusted is not None else None,
        "vertex_colour": mesh.colours is not None,
        "base_colour": [float(c) for c in found.get("base_colour", (0.5, 0.5, 0.5))],
    }
    return Material("scan", params)


def _image(files: ScanFiles, image: Mapping[str, str] | None) -> Path | None:
    """Where an image lies that the import found, or None when it is missing."""
    if image is None:
        return None
    return image_folder() / image["packed"] if "packed" in image else files.textures.get(image["file"])


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _sidecar(files: ScanFiles, what: str, mesh: ScanMesh) -> str | None:
    return str(files.sidecars[what]) if what in files.sidecars and mesh.uv is not None else None


def _face_parts(mesh: ScanMesh, files: ScanFiles) -> UInt8[np.ndarray, " f"]:
    """From `<stem>.parts.png` at each face's centre, else the vertices' own, else 255."""
    if "parts" in files.sidecars and mesh.uv is not None:
        return sample_map(read_map(files.sidecars["parts"]), mesh.uv.mean(axis=1))
    return np.full(len(mesh.faces), IGNORE, np.uint8) if mesh.part_ids is None else mesh.part_ids


def check_sidecars(files: ScanFiles, mesh: ScanMesh) -> None:
    if mesh.uv is None and (useless := [what for what in ("parts", "quality") if what in files.sidecars]):
        raise ScanRejected(
            "sidecar:uv", f"{files.mesh}: has no texture coordinates, which its sidecars {useless} need"
        )
    if "parts" in files.sidecars:
        check_parts(files.sidecars["parts"])
    if "quality" in files.sidecars:
        read_map(files.sidecars["quality"])
    if "keypoints" in files.sidecars:
        read_keypoints(files.sidecars["keypoints"])


def _check_similarity(matrix: Float64[np.ndarray, "4 4"], name: str) -> float:
    """The scale of a rotation with one scale and no mirroring. Raises VitruvianError for anything else."""
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    if not scale > 0 or not np.allclose(
        matrix[:3, :3] @ matrix[:3, :3].T, scale**2 * np.eye(3), atol=1e-6 * scale**2
    ):
        raise VitruvianError(
            f"scan {name!r}: expected to_person to be a rotation with one scale; got {matrix.tolist()}"
        )
    return scale
