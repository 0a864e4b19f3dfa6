"""A raw pool: which inputs there are, in a fixed order, cut into units of work; and how to read them.

A pool is a folder of image files (any depth), a folder of tars by others (img2dataset, webdataset), a dataset
of our own shards, or one tar. Every file of a folder of images is an input, whatever its name says; every
sample of a tar is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from os import fsdecode, fsencode, walk
from pathlib import Path
from typing import Any, Literal

from curation.decode import NO_IMAGE, TOO_LARGE, UNREADABLE
from shards.errors import ShardError, UsageError
from shards.files import MANIFEST_NAME, sha256_file
from shards.index import group_members
from shards.manifest import read_manifest
from shards.sample import content_key
from shards.tar import TarMember, iterate_members
from shards.units import Unit

Layout = Literal["auto", "files", "tars"]

# Which member of a sample is its photograph, best first; then any other member that is called an image.
IMAGE_MEMBERS = ("jpg", "jpeg", "png", "webp", "rgb.png", "rgb.jpg")
_IMAGE_SUFFIXES = frozenset(
    ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl")
)
_SIDECARS = frozenset((".json", ".parquet", ".idx", ".txt", ".md"))  # what may lie beside foreign tars
_MAX_METADATA = 1 << 16  # bytes of a sample's json member that travel with it
_ABSENT = "unreadable"


@dataclass(frozen=True)
class Input:
    """One input of a pool: which it is, and its bytes, or (`data` None) the status that says why there are
    none.
    """

    source: str
    member: str | None
    offset: int | None
    size: int
    sha256: str
    data: bytes | None
    status: str | None = None
    metadata: str | None = None

    @property
    def key(self) -> str:
        """The first 128 bits of the sha256 of its bytes, as 32 hex digits."""
        return self.sha256[:32]


@dataclass(frozen=True)
class Pool:
    """The listing of a pool: its units in order. `inputs` is None when foreign tars must be read to know."""

    layout: Literal["files", "tars"]
    units: tuple[Unit, ...]
    inputs: int | None

    def provenance(self) -> dict[str, Any]:
        """What a manifest says of the pool: its layout, units and inputs; never where it happens to lie."""
        return {"layout": self.layout, "units": len(self.units), "inputs": self.inputs}


def list_pool(root: Path, files_per_unit: int, layout: Layout = "auto") -> Pool:
    """List the inputs of `root` in sorted order. The digest of every file is an input of its unit.

    Names that are not UTF-8 are listed with their odd bytes escaped. Symbolic links to files are followed,
    links to folders are not (loops). Raises UsageError when there is nothing, or (layout "auto") files and
    tars are mixed.
    """
    if (root / MANIFEST_NAME).is_file() and layout != "files":
        return _list_dataset(root)
    base, names = (root.parent, [root.name]) if root.is_file() else (root, list(_walk(root)))
    if not names:
        raise UsageError(
            f"{root}: no such pool, or an empty one; expected a folder of images or tars, or a tar"
        )
    tars = [name for name in names if name.endswith(".tar")]
    if layout == "auto":
        layout = _guess_layout(root, names, tars)
    if layout == "tars":
        units = tuple(_tar_unit(name, sha256_file(base / decode_name(name))) for name in tars)
        return Pool("tars", units, None)
    chunks = [names[start : start + files_per_unit] for start in range(0, len(names), files_per_unit)]
    return Pool("files", tuple(_files_unit(base, i, chunk) for i, chunk in enumerate(chunks)), len(names))


def read_unit(root: Path, unit: Unit, max_bytes: int) -> Iterator[Input]:
    """The inputs of one unit in order, one in memory at a time; of a file larger than `max_bytes`, only its
    digest.

    Raises ShardError for a damaged tar (the whole unit is then suspect); a bad file is an Input with a
    status.
    """
    base = root.parent if root.is_file() else root
    if "tar" in unit.payload:
        yield from _read_tar(base, unit.payload["tar"], max_bytes)
        return
    for name in unit.payload["files"]:
        yield _read_file(base, name, max_bytes)


def read_input(root: Path, row: Mapping[str, Any]) -> bytes:
    """The bytes of one row of a table: the file, or its range of the tar.

    Raises ShardError when they are not what was annotated.
    """
    base = root.parent if root.is_file() else root
    path = base / decode_name(row["source"])
    try:
        with path.open("rb") as stream:
            stream.seek(row["offset"] or 0)
            data = stream.read(row["bytes"] + (row["offset"] is None))  # one more byte: has the file grown?
    except OSError as error:
        raise ShardError(f"{path}: cannot be read any more ({error}); run annotate again") from error
    if content_key(data) != row["key"]:
        raise ShardError(
            f"{path}: its bytes have changed since annotate: expected key {row['key']}, "
            f"got {content_key(data)}; run annotate and select again"
        )
    return data


def encode_name(path: str) -> str:
    """A file name as text that JSON and parquet can hold; bytes that are not UTF-8 become \\xff, a backslash
    two.
    """
    return fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")


def decode_name(name: str) -> str:
    """The inverse of `encode_name`."""
    escaped = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")
    return fsdecode(
        escaped.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else b"\\", name.encode())
    )


def _walk(root: Path) -> Iterator[str]:
    found = []
    for folder, _, files in walk(root):
        found += [(Path(folder) / file).relative_to(root).as_posix() for file in files]
    return iter(sorted(map(encode_name, found)))


def _guess_layout(root: Path, names: list[str], tars: list[str]) -> Literal["files", "tars"]:
    if not tars:
        return "files"
    strays = [name for name in names if not name.endswith(".tar") and Path(name).suffix not in _SIDECARS]
    if strays:
        raise UsageError(
            f"{root}: {len(tars)} tars beside {len(strays)} other files ({strays[0]}, ...): "
            "set `layout` to 'tars' to read only the tars, or to 'files' to take every file for an image"
        )
    return "tars"


def _list_dataset(root: Path) -> Pool:
    manifest = read_manifest(root)
    units = tuple(_tar_unit(f"{shard.name}.tar", shard.sha256) for shard in manifest.shards)
    return Pool("tars", units, manifest.samples)


def _tar_unit(source: str, digest: str) -> Unit:
    # Named after the tar, not its position: a tar that joins the pool leaves the other units alone.
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", source.removesuffix(".tar")).strip("-")[-80:]
    name = f"tar-{stem}-{sha256(source.encode()).hexdigest()[:8]}"
    return Unit(name, {"tar": source}, {source: digest})


def _files_unit(base: Path, number: int, names: list[str]) -> Unit:
    inputs = {name: _digest(base / decode_name(name)) for name in names}
    return Unit(f"files-{number:06d}", {"files": names}, inputs)


def _digest(path: Path) -> str:
    try:
        return sha256_file(path) if path.is_file() else _ABSENT
    except OSError:
        return _ABSENT


def _read_file(base: Path, name: str, max_bytes: int) -> Input:
    path = base / decode_name(name)
    try:
        size = path.stat().st_size if path.is_file() else -1
        if size > max_bytes:
            return Input(name, None, None, size, sha256_file(path), None, TOO_LARGE)
        data = path.read_bytes() if size >= 0 else None
    except OSError:
        data = None
    if data is None:
        return Input(name, None, None, 0, "", None, UNREADABLE)
    return Input(name, None, None, len(data), sha256(data).hexdigest(), data)


def _read_tar(base: Path, source: str, max_bytes: int) -> Iterator[Input]:
    path = base / decode_name(source)
    with path.open("rb") as stream:
        for key, parts in group_members(iterate_members(stream, str(path), "r:"), str(path)):
            image = _image_member(parts)
            chosen = image or parts[0]
            status = None if image else NO_IMAGE
            if image and len(image.data) > max_bytes:
                status = TOO_LARGE
            yield Input(
                source,
                f"{key}.{chosen.member}",
                chosen.offset,
                len(chosen.data),
                sha256(chosen.data).hexdigest(),
                None if status else chosen.data,
                status,
                _metadata(parts),
            )


def _image_member(parts: list[TarMember]) -> TarMember | None:
    named = {part.member: part for part in parts}
    for member in IMAGE_MEMBERS:
        if member in named:
            return named[member]
    others = [part for part in parts if part.member.rpartition(".")[2] in _IMAGE_SUFFIXES]
    return others[0] if others else None


def _metadata(parts: list[TarMember]) -> str | None:
    for part in parts:
        if part.member == "json" and len(part.data) <= _MAX_METADATA:
            return part.data.decode("utf-8", "replace")
    return None
