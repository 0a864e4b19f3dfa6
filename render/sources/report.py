"""What there is to know about a scan before rendering it, as plain data for a table or JSON."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from render.sources.config import ScanConfig, ScanRejected
from render.sources.files import ScanFiles
from render.sources.importing import import_scan
from render.sources.mesh import ScanMesh
from render.sources.orientation import Pose, decide
from render.sources.scans import check_sidecars, materials_of


@dataclass(frozen=True)
class ScanReport:
    """One scan, inspected. What could not be found out, because it was rejected before, is at its default.

    extents: of the file, in its own axes and units. textures: file names by role ("colour", "normal_map",
    "roughness"). missing: files that the mesh names and that are not there. degenerate: triangles without
    area, which are not used. components: pieces that do not touch. reason: "" or why it is rejected.
    """

    name: str
    layout: str
    mesh: str
    sha256: str
    accepted: bool = True
    reason: str = ""
    message: str = ""
    vertices: int = 0
    faces: int = 0
    degenerate: int = 0
    components: int = 0
    watertight: bool = False
    extents: tuple[float, ...] = ()
    up: str = ""
    front: str = ""
    unit: str = ""
    height_m: float = 0.0
    textures: tuple[str, ...] = ()
    normal_maps: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    vertex_colour: bool = False
    parts: bool = False
    keypoints: bool = False
    quality: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def inspect_scan(files: ScanFiles, config: ScanConfig) -> ScanReport:
    """Import and judge one scan; never raises ScanRejected, the report says so instead."""
    report: dict[str, Any] = {
        "name": files.name,
        "layout": files.layout,
        "mesh": str(files.mesh),
        "sha256": files.digest(),
        "missing": files.missing,
        "keypoints": "keypoints" in files.sidecars,
    }
    try:
        mesh = import_scan(files)
        report |= _measure(mesh) | _looks(files, mesh)
        check_sidecars(files, mesh)
        report |= _decided(decide(mesh, files, config.rules(files.name)))
    except ScanRejected as rejected:
        report |= {"accepted": False, "reason": rejected.reason, "message": str(rejected)}
    return ScanReport(**report)


def _measure(mesh: ScanMesh) -> dict[str, Any]:
    import trimesh

    positions, index = np.unique(mesh.vertices, axis=0, return_inverse=True)
    body = trimesh.Trimesh(positions, index.reshape(-1)[mesh.faces], process=False)
    return {
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
        "degenerate": mesh.degenerate,
        "components": int(body.body_count),
        "watertight": bool(body.is_watertight),
        "extents": tuple(float(x) for x in body.extents),
    }


def _looks(files: ScanFiles, mesh: ScanMesh) -> dict[str, Any]:
    looks = [
        dict(material.params) for material in materials_of(files, mesh)[:-1] or materials_of(files, mesh)
    ]

    def names(role: str) -> tuple[str, ...]:
        paths = {Path(look[role]).name for look in looks if isinstance(look[role], str)}
        return tuple(sorted(paths))

    return {
        "textures": names("colour"),
        "normal_maps": names("normal_map"),
        "vertex_colour": mesh.colours is not None,
        "parts": "parts" in files.sidecars or mesh.part_ids is not None,
        "quality": "quality" in files.sidecars or mesh.trusted is not None,
    }


def _decided(pose: Pose) -> dict[str, Any]:
    return {
        "up": pose.up,
        "front": pose.front,
        "unit": pose.unit,
        "height_m": round(pose.height_m, 4),
        "notes": pose.notes,
    }
