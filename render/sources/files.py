"""Which files of a folder make up which scan, and the digest of their bytes."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from render.sources.config import ScanConfig
from render.sources.references import referenced_files
from shards.errors import UsageError
from shards.files import sha256_file
from shards.sample import digest_json

MESHES = (".glb", ".gltf", ".obj", ".fbx", ".ply")
"""Formats that are read, the preferred one of several with the same name first."""

IMAGES = (".png", ".jpg", ".jpeg", ".tga", ".tif", ".tiff", ".bmp", ".webp")

ROLES = ("colour", "normal_map", "roughness", "gloss")
"""What a texture beside the mesh can be, other than by the file's own materials."""

_RENDERPEOPLE = re.compile(r"(?P<name>rp_[a-z0-9]+(?:_[a-z0-9]+)*?_\d{3,})(?:_(?P<size>\d+)k)?", re.I)
_RENDERPEOPLE_MAPS = {"dif": "colour", "norm": "normal_map", "gloss": "gloss"}
_THUMAN = re.compile(r"\d{4}")


@dataclass(frozen=True)
class ScanFiles:
    """A scan as it lies on disk.

    name: path of the mesh below the folder without its suffix, or the layout's own name. parts_of: further
    files the mesh needs (.mtl, buffers). textures: file name in lower case -> path, all images the mesh
    refers to. roles: of `ROLES`, images by what they are, whatever the mesh says. sidecars: "parts",
    "quality", "keypoints". missing: files that are referred to and not there.
    """

    name: str
    mesh: Path
    layout: str
    folder: Path
    parts_of: tuple[Path, ...] = ()
    textures: Mapping[str, Path] = field(default_factory=dict)
    roles: Mapping[str, Path] = field(default_factory=dict)
    sidecars: Mapping[str, Path] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def paths(self) -> tuple[Path, ...]:
        """Every file the scan is made of, sorted, each once."""
        values = (*self.textures.values(), *self.roles.values(), *self.sidecars.values())
        return tuple(sorted({self.mesh, *self.parts_of, *values}))

    def digest(self) -> str:
        """sha256 over the names (below the mesh's own folder) and the bytes of all files, as 64 hex digits.

        Each file is hashed once per process as long as its size and modification time stay.
        """
        return self._digest_of(self.paths())

    def import_digest(self) -> str:
        """The same over what the import depends on: all but the sidecars."""
        return self._digest_of(tuple(p for p in self.paths() if p not in self.sidecars.values()))

    def _digest_of(self, paths: tuple[Path, ...]) -> str:
        names = {os.path.relpath(path, self.mesh.parent).replace(os.sep, "/"): path for path in paths}
        return digest_json({name: _hashed(path) for name, path in names.items()})


def list_scans(config: ScanConfig) -> tuple[ScanFiles, ...]:
    """The scans below `config.folder`, sorted by name; nothing but text headers is read.

    Raises UsageError when there is no such folder or no scan in it.
    """
    best = _meshes(config)
    if not best:
        raise UsageError(
            f"scans: {config.folder}: no scan of layout {config.layout!r} found; "
            f"expected meshes ({', '.join(MESHES)}) in it or below"
        )
    if unknown := sorted(set(config.overrides) - set(best)):
        raise UsageError(
            f"scans: overrides for {unknown}, which are not in {config.folder}; there are: {_some(best)}"
        )
    return tuple(_gather(name, mesh, layout, config.folder) for name, (layout, mesh) in sorted(best.items()))


def find_scan(name: str, folder: Path) -> tuple[ScanFiles, ...]:
    """The scans called `name` in `folder`, one per layout under which there is one."""
    found: dict[Path, ScanFiles] = {}
    for reading in ("auto", "plain"):
        layout, mesh = _meshes(ScanConfig(folder=folder, layout=reading)).get(name, ("", None))
        if mesh is not None and mesh not in found:
            found[mesh] = _gather(name, mesh, layout, folder)
    return tuple(found.values())


def _meshes(config: ScanConfig) -> dict[str, tuple[str, Path]]:
    """Name -> (layout, mesh file), the best file of each scan. Raises UsageError for a missing folder."""
    if not config.folder.is_dir():
        raise UsageError(f"scans: {config.folder}: no such folder")
    best: dict[str, tuple[tuple[int, int], str, Path]] = {}
    for mesh in sorted(config.folder.rglob("*")):
        if mesh.suffix.lower() not in MESHES or not mesh.is_file() or mesh.name.startswith("."):
            continue
        layout, name, size = _classify(mesh, config)
        if name is None:
            continue
        rank = (-size, MESHES.index(mesh.suffix.lower()))
        if name not in best or rank < best[name][0]:
            best[name] = (rank, layout, mesh)
    return {name: (layout, mesh) for name, (_, layout, mesh) in best.items()}


def _classify(mesh: Path, config: ScanConfig) -> tuple[str, str | None, int]:
    """(layout, name or None when the file is not a scan of the asked layout, thousands of faces named)."""
    place = mesh.relative_to(config.folder).with_suffix("")
    rp = _RENDERPEOPLE.fullmatch(mesh.stem)
    if rp and config.layout in ("auto", "renderpeople"):
        return "renderpeople", rp["name"], int(rp["size"] or 0)
    if _THUMAN.fullmatch(mesh.parent.name) and config.layout in ("auto", "thuman"):
        name = place.parent.as_posix() if place.parent != Path() else mesh.stem
        return "thuman", name if mesh.stem == mesh.parent.name else None, 0
    return "plain", place.as_posix() if config.layout in ("auto", "plain") else None, 0


def _gather(name: str, mesh: Path, layout: str, folder: Path) -> ScanFiles:
    """Everything that belongs to one mesh."""
    images = _images_around(mesh)
    parts, textures, missing = [], {}, []
    for reference in referenced_files(mesh):
        found = _resolve(reference, mesh, folder, images)
        if found is None:
            missing.append(reference)
        elif found.suffix.lower() in IMAGES:
            textures[Path(reference.replace("\\", "/")).name.lower()] = found
        else:
            parts.append(found)
            for texture in referenced_files(found):
                at = _resolve(texture, found, folder, images)
                if at is None:
                    missing.append(texture)
                else:
                    textures[Path(texture.replace("\\", "/")).name.lower()] = at
    return ScanFiles(
        name=name,
        mesh=mesh,
        layout=layout,
        folder=folder,
        parts_of=tuple(parts),
        textures=textures,
        roles=_roles(mesh, layout, images),
        sidecars=_sidecars(mesh),
        missing=tuple(dict.fromkeys(missing)),
    )


def _images_around(mesh: Path) -> dict[str, Path]:
    """File name in lower case -> path, of the images beside the mesh or in its usual texture folders."""
    places = [mesh.parent, *(mesh.parent / n for n in ("tex", "textures", "texture", f"{mesh.stem}.fbm"))]
    found: dict[str, Path] = {}
    for place in places:
        for path in sorted(place.glob("*")):
            if path.suffix.lower() in IMAGES and path.is_file():
                found.setdefault(path.name.lower(), path)
    return found


def _resolve(reference: str, mesh: Path, folder: Path, images: Mapping[str, Path]) -> Path | None:
    """Where a file that the mesh names lies: as written if that is inside the folder, else by its name."""
    plain = reference.replace("\\", "/")
    written = mesh.parent / plain
    inside = written.resolve().is_relative_to(folder.resolve())
    if inside and written.is_file():
        return written
    return images.get(Path(plain).name.lower())


def _roles(mesh: Path, layout: str, images: Mapping[str, Path]) -> dict[str, Path]:
    """`<stem>.colour.png` and the like; in RenderPeople's folders `*_dif`, `*_norm`, `*_gloss`."""
    found: dict[str, Path] = {}
    if layout == "renderpeople":
        for name, path in images.items():
            words = Path(name).stem.split("_")
            for word, role in _RENDERPEOPLE_MAPS.items():
                if word in words[-2:] and name.startswith(_renderpeople_name(mesh)):
                    found[role] = _larger(found.get(role), path)
    for role in ROLES:
        for suffix in IMAGES:
            if (named := images.get(f"{mesh.stem}.{role}{suffix}".lower())) is not None:
                found[role] = named
                break
    if "colour" not in found and mesh.suffix.lower() == ".ply":  # it has no materials to refer to textures
        likely = [Path(name).name.lower() for name in referenced_files(mesh)]
        likely += [f"{mesh.stem}{suffix}".lower() for suffix in IMAGES]
        colour = next((images[name] for name in likely if name in images), None)
        return found if colour is None else found | {"colour": colour}
    return found


def _renderpeople_name(mesh: Path) -> str:
    match = _RENDERPEOPLE.fullmatch(mesh.stem)
    return match["name"].lower() if match else mesh.stem.lower()


def _larger(one: Path | None, other: Path) -> Path:
    """The file with more bytes: 8k rather than 2k."""
    return other if one is None or other.stat().st_size > one.stat().st_size else one


def _sidecars(mesh: Path) -> dict[str, Path]:
    names = {"parts": "parts.png", "quality": "quality.png", "keypoints": "keypoints.json"}
    paths = {what: mesh.parent / f"{mesh.stem}.{suffix}" for what, suffix in names.items()}
    return {what: path for what, path in paths.items() if path.is_file()}


def _some(names: Sequence[str] | Mapping[str, object]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def _hashed(path: Path) -> str:
    state = path.stat()
    return _hash_once(str(path.resolve()), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=65536)
def _hash_once(path: str, size: int, modified: int) -> str:
    return sha256_file(Path(path))
