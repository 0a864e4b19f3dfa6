"""The files that a mesh names (materials, buffers, images), read from its text without importing it."""

import json
import mmap
import re
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

_MAPS = re.compile(r"(map_\w+|bump|norm|disp|refl)\s+(?P<rest>.+)", re.I)
_MAP_OPTION = re.compile(
    r"-(?:blendu|blendv|cc|clamp|imfchan|texres|type|bm|boost|mm\s+\S+|[ost](?:\s+-?[\d.e+-]+){0,2})\s+\S+\s+",
    re.I,
)
_MTLLIB = re.compile(rb"^mtllib[ \t]+(.+?)[ \t\r]*$", re.M)
_TEXTURE_COMMENT = re.compile(rb"^comment TextureFile[ \t]+(.+?)[ \t\r]*$", re.M)
_IMAGE_NAME = re.compile(rb"[\w\-. ()/\\:]{1,240}\.(?:png|jpe?g|tga|tiff?|bmp|webp)", re.I)
_HEAD = 1 << 16


def referenced_files(path: Path) -> tuple[str, ...]:
    """Names as written in an OBJ, MTL, GLTF, GLB, PLY or FBX; () where there are none or they are
    unreadable (the import will say so).
    """
    state = path.stat()
    return _read(str(path), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=65536)
def _read(path: str, size: int, modified: int) -> tuple[str, ...]:
    readers = {".obj": _obj, ".mtl": _mtl, ".gltf": _gltf, ".glb": _glb, ".ply": _ply, ".fbx": _fbx}
    reader = readers.get(Path(path).suffix.lower())
    names = reader(Path(path)) if reader and size else []
    return tuple(dict.fromkeys(name for name in names if name))


def _obj(path: Path) -> list[str]:
    """Material libraries are named at the top; the rest, often 100 MB of numbers, is not read."""
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    return [name.decode("utf-8", "replace") for name in _MTLLIB.findall(head)]


def _mtl(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    found = (match for line in lines if (match := _MAPS.fullmatch(line)))
    return [_MAP_OPTION.sub("", match["rest"]).strip() for match in found]


def _gltf(path: Path) -> list[str]:
    try:
        return _uris(json.loads(path.read_bytes()))
    except ValueError:
        return []


def _glb(path: Path) -> list[str]:
    with path.open("rb") as stream:
        header = stream.read(20)
        if len(header) < 20 or header[:4] != b"glTF" or header[16:20] != b"JSON":
            return []
        length = struct.unpack("<I", header[12:16])[0]
        text = stream.read(min(length, path.stat().st_size))
    try:
        return _uris(json.loads(text))
    except ValueError:
        return []


def _uris(content: Any) -> list[str]:
    """Names of the external buffers and images of a glTF document."""
    from urllib.parse import unquote

    if not isinstance(content, dict):
        return []
    entries = [e for kind in ("buffers", "images") for e in content.get(kind, []) if isinstance(e, dict)]
    uris = [e["uri"] for e in entries if isinstance(e.get("uri"), str)]
    return [unquote(uri) for uri in uris if not uri.startswith("data:")]


def _ply(path: Path) -> list[str]:
    with path.open("rb") as stream:
        head = stream.read(_HEAD).partition(b"end_header")[0]
    return [name.decode("utf-8", "replace") for name in _TEXTURE_COMMENT.findall(head)]


def _fbx(path: Path) -> list[str]:
    """Image names among the strings of an FBX; one name is there several times, with different folders."""
    names = [
        name.decode("ascii").replace("\\", "/").rpartition("/")[2] for name in _search(path, _IMAGE_NAME)
    ]
    return [name.strip() for name in names]


def _search(path: Path, pattern: re.Pattern[bytes]) -> list[bytes]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return [bytes(found) for found in pattern.findall(data)]
