"""What is checked of a file before Blender sees it: that it is what it says, whole, and of a sane size."""

import json
import struct
from pathlib import Path

from annotation.codecs import MAX_PIXELS
from render.sources.config import ScanRejected
from render.sources.files import IMAGES, ScanFiles

MAX_BYTES = 4 << 30
_MANGLED = b"\xef\xbf\xbd"
_HEAD = 1 << 16


def check_files(files: ScanFiles) -> None:
    """Raise ScanRejected, saying which file is wrong and how, when one cannot be what its name says."""
    _check_mesh(files.mesh)
    for path in sorted(set(files.paths()) - set(files.sidecars.values())):
        if path.suffix.lower() in IMAGES:
            check_image(path)


def check_image(path: Path) -> None:
    """Decode an image once, its size bounded beforehand. Raises ScanRejected "texture:..."."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ScanRejected(
                    "texture:size",
                    f"{path}: expected at most {MAX_PIXELS} pixels; got {image.width} x {image.height}: "
                    "scale the texture down",
                )
            image.load()
    except ScanRejected:
        raise
    except UnidentifiedImageError:
        raise ScanRejected(
            "texture:unknown", f"{path}: expected an image; got {_start(path)}{_mangled(path)}"
        ) from None
    except Exception as error:  # on bad bytes Pillow raises almost anything
        raise ScanRejected("texture:corrupt", f"{path}: not decodable: {error}{_mangled(path)}") from None


def _check_mesh(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise ScanRejected("file:empty", f"{path}: expected a mesh; got 0 bytes: copy it again")
    if size > MAX_BYTES:
        raise ScanRejected("file:huge", f"{path}: expected at most {MAX_BYTES} bytes; got {size}")
    checks = {".glb": _check_glb, ".gltf": _check_gltf, ".ply": _check_ply, ".fbx": _check_fbx}
    checks.get(path.suffix.lower(), _check_obj)(path, size)


def _check_glb(path: Path, size: int) -> None:
    with path.open("rb") as stream:
        head = stream.read(20)
    if len(head) < 20 or head[:4] != b"glTF":
        raise ScanRejected("glb:header", f"{path}: expected a GLB header; got {_start(path)}{_mangled(path)}")
    version, length, json_length = struct.unpack("<III", head[4:16])
    if version != 2:
        raise ScanRejected("glb:version", f"{path}: expected glTF version 2; got {version}: convert it")
    if length != size:
        raise ScanRejected(
            "glb:length",
            f"{path}: expected {length} bytes as its header says; got {size}{_mangled(path)}: copy it again",
        )
    if json_length > size - 20:
        raise ScanRejected(
            "glb:length", f"{path}: expected at most {size - 20} bytes of JSON; its header says {json_length}"
        )
    with path.open("rb") as stream:
        stream.seek(20)
        _check_json(path, stream.read(json_length))


def _check_gltf(path: Path, size: int) -> None:
    _check_json(path, path.read_bytes())


def _check_json(path: Path, data: bytes) -> None:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ScanRejected("gltf:json", f"{path}: not valid glTF JSON: {error}{_mangled(path)}") from None
    if not isinstance(content, dict) or not content.get("meshes"):
        raise ScanRejected("mesh:empty", f"{path}: expected a mesh; the glTF document has none")


def _check_ply(path: Path, size: int) -> None:
    with path.open("rb") as stream:
        head, found, _ = stream.read(_HEAD).partition(b"end_header")
    if not head.startswith(b"ply") or not found:
        raise ScanRejected("ply:header", f"{path}: expected a PLY header; got {_start(path)}{_mangled(path)}")
    words = [line.split() for line in head.splitlines()]
    counts = {w[1]: int(w[2]) for w in words if len(w) == 3 and w[0] == b"element" and w[2].isdigit()}
    if not counts.get(b"vertex") or not counts.get(b"face"):
        raise ScanRejected(
            "mesh:empty",
            f"{path}: expected vertices and faces; its header has {counts.get(b'vertex', 0)} and "
            f"{counts.get(b'face', 0)}: point clouds must be meshed first",
        )
    least = 6 * counts[b"vertex"] + 6 * counts[b"face"]  # no vertex or triangle takes fewer bytes
    if size - len(head) < least:
        raise ScanRejected(
            "ply:truncated",
            f"{path}: expected at least {least} bytes for its elements; got {size}: copy it again",
        )


def _check_fbx(path: Path, size: int) -> None:
    with path.open("rb") as stream:
        head = stream.read(23)
    if not head.startswith(b"Kaydara FBX Binary"):
        raise ScanRejected(
            "fbx:header", f"{path}: expected a binary FBX; got {_start(path)}: save text FBX as binary"
        )


def _check_obj(path: Path, size: int) -> None:
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    if b"\0" in head:
        raise ScanRejected("obj:binary", f"{path}: expected text; got {_start(path)}")


def _start(path: Path) -> str:
    with path.open("rb") as stream:
        return repr(stream.read(12))


def _mangled(path: Path) -> str:
    """Says so when a binary file went through a text conversion, which nothing can undo."""
    with path.open("rb") as stream:
        marks = stream.read(_HEAD).count(_MANGLED)
    return f" ({marks} bytes in its head became U+FFFD: it was saved as text)" if marks > 8 else ""
