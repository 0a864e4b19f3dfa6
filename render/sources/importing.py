"""Import a scan once per machine: Blender in a process of its own, the result in the user's cache."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from render.sources import blender
from render.sources.config import ScanRejected
from render.sources.files import ScanFiles
from render.sources.guard import check_files, check_image
from render.sources.mesh import ScanMesh, clean, from_arrays, to_arrays

CACHE_SCHEMA = 2
TIME_LIMIT_S = 1800.0


_REJECTED: dict[Path, tuple[str, str]] = {}  # of this process: a file that hangs is not waited for twice


@lru_cache(maxsize=2)
def _remembered(path: Path) -> ScanMesh:
    with np.load(path, allow_pickle=False) as data:
        return from_arrays({name: data[name] for name in data.files})


def import_scan(files: ScanFiles) -> ScanMesh:
    """The mesh of a scan in its file's own axes and units, from the cache when these bytes were seen before.

    Raises ScanRejected for files that are corrupt, crash or hang the importer, or hold no usable mesh.
    """
    path = _cache_path(files)
    if path in _REJECTED:
        raise ScanRejected(*_REJECTED[path])
    if not path.exists() or not _has_images(_remembered(path)):
        _remembered.cache_clear()
        try:
            _write_cache(files, path)
        except ScanRejected as rejected:
            _REJECTED[path] = rejected.reason, str(rejected)
            raise
    return _remembered(path)


def image_folder() -> Path:
    """Where images that were inside of mesh files lie, each named by its sha256."""
    return _cache_root() / "images"


def _has_images(mesh: ScanMesh) -> bool:
    """Whether the images that the mesh file held are still in the cache."""
    looks = [look for material in mesh.materials for look in material.values() if isinstance(look, dict)]
    return all((image_folder() / look["packed"]).exists() for look in looks if "packed" in look)


def _write_cache(files: ScanFiles, path: Path) -> None:
    check_files(files)
    image_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="import-", dir=_cache_root()) as name:
        out = Path(name)
        _run_blender(files.mesh, out)
        with np.load(out / blender.RAW, allow_pickle=False) as data:
            raw = {key: data[key] for key in data.files}
        materials = json.loads((out / blender.MATERIALS).read_text(encoding="utf-8"))
        mesh = clean(raw, materials, files.mesh)
        for image in sorted(out.glob("*")):
            if image.name not in (blender.RAW, blender.MATERIALS, _LOG):
                check_image(image)
                image.replace(image_folder() / image.name)
        temporary = out / "mesh.npz"
        np.savez(temporary, **to_arrays(mesh))
        temporary.replace(path)


_LOG = "blender.log"


def _run_blender(mesh: Path, out: Path) -> None:
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", str(blender.__file__), str(mesh.resolve()), str(out)]
    log = out / _LOG
    with log.open("wb") as sink:
        try:
            done = subprocess.run(
                command,
                stdout=sink,
                stderr=sink,
                stdin=subprocess.DEVNULL,
                env=environment,
                timeout=TIME_LIMIT_S,
                cwd=out,
            )
        except subprocess.TimeoutExpired:
            raise ScanRejected(
                "import:hung", f"{mesh}: Blender's importer did not end within {TIME_LIMIT_S:g} s"
            ) from None
    if done.returncode < 0:
        raise ScanRejected("import:crashed", f"{mesh}: Blender's importer died of signal {-done.returncode}")
    if done.returncode or not (out / blender.MATERIALS).exists():
        raise ScanRejected("import:failed", f"{mesh}: Blender could not import it: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    telling = [line for line in lines if "Error" in line]
    return (telling or lines or ["no message"])[-1][:300]


def _cache_root() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "vitruvian" / "scans"
    root.mkdir(parents=True, exist_ok=True)
    return root


def _cache_path(files: ScanFiles) -> Path:
    key = hashlib.sha256(
        f"{version('bpy')}/{CACHE_SCHEMA}/{files.mesh.name}/{files.import_digest()}".encode()
    )
    return _cache_root() / f"{key.hexdigest()[:32]}.npz"
