"""Which inputs a pool holds, cut into units of work. The driver lists, and reads only what `identity` asks
for.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import fsspec
from fsspec.utils import glob_translate

from curation.pool.inputs import Pool, PoolConfig, encode_name, unit_name
from curation.pool.place import Entry, Place, Refused, local_path, open_target
from curation.pool.tables import TABLE_SUFFIXES, table_units
from shards.errors import UsageError
from shards.files import MANIFEST_NAME
from shards.manifest import read_manifest
from shards.units import Unit

_LISTS = (".txt", ".lst", ".list")
_SIDECARS = frozenset((".json", ".parquet", ".idx", ".txt", ".md", ".csv"))  # what may lie beside tars
_BESIDE_TABLES = frozenset((".json", ".txt", ".md"))
_FILES = frozenset((".tar", *TABLE_SUFFIXES, *_LISTS, ".jpg", ".jpeg", ".png", ".webp"))
_LARGEST = 4  # times `files_per_unit`: the most files a unit may have
_MAX_LIST = 1 << 30  # bytes of a file that lists a pool


class Root(NamedTuple):
    """What the user named: a folder, one file of it, a pattern below it, or a list of files."""

    kind: Literal["folder", "file", "glob", "list"]
    place: Place
    name: str


def locate(root: str | Path, config: PoolConfig) -> Root:
    """Split what the user named into a folder and what is meant in it; the disk is asked, a store is not.

    A URL is a list or a file by its suffix, and a folder otherwise.
    """
    url = str(root)
    local = local_path(url)
    if local is None:
        magic = "*[" if url.startswith("http") else "*?["
        suffix = posixpath.splitext(url)[1].lower()
        is_file, is_glob = suffix in _FILES, any(sign in url for sign in magic)
    else:
        url = os.path.abspath(local)  # noqa: PTH100  (resolving links would change what is named)
        suffix = posixpath.splitext(url)[1].lower()
        is_file = os.path.isfile(url)  # noqa: PTH113
        is_glob = not os.path.exists(url) and any(sign in url for sign in "*?[")  # noqa: PTH110
    if is_glob:
        fixed = re.split(r"[*?\[]", url, maxsplit=1)[0].rpartition("/")[0]
        return Root("glob", Place(fixed or "/", config), url[len(fixed) :].lstrip("/"))
    if is_file:
        folder, _, name = url.rpartition("/")
        listed = suffix in _LISTS
        return Root("list" if listed else "file", Place(folder or "/", config, listed), encode_name(name))
    return Root("folder", Place(url, config), "")


def list_pool(root: str | Path, config: PoolConfig) -> Pool:
    """List the inputs of `root`: a folder (any depth), a file, a pattern (`*`, `?`, `[..]`, `**`), or a text
    file of one path or URL a line; on this machine or wherever fsspec reaches.

    Units have names and inputs that do not depend on what else the pool holds. Names that are not UTF-8 are
    listed with their odd bytes escaped. Raises UsageError when there is nothing, when (layout "auto") kinds
    of files are mixed, or when a table has no column of images.
    """
    where = locate(root, config)
    if where.kind == "folder" and config.layout not in ("files", "tables") and _has_manifest(where.place):
        return _list_dataset(where.place)
    entries = sorted(_entries(where))
    if not entries:
        raise UsageError(
            f"{root}: no such pool, or an empty one; expected a folder, file, pattern or list of images, "
            "tars or tables"
        )
    layout = _guess_layout(str(root), entries) if config.layout == "auto" else config.layout
    if layout == "files":
        chunks = list(_cut(entries, config.files_per_unit))
        return Pool(layout, tuple(_files_unit(where.place, *chunk) for chunk in chunks), len(entries))
    wanted = (".tar",) if layout == "tars" else TABLE_SUFFIXES
    chosen = [entry for entry in entries if _suffix(entry.name) in wanted]
    if not chosen:
        raise UsageError(f"{root}: `layout` is {layout!r}, but no file ends in {' or '.join(wanted)}")
    if layout == "tars":
        tars = tuple(_tar_unit(entry.name, where.place.digest(entry)) for entry in chosen)
        return Pool(layout, tars, None)
    units = table_units(where.place, chosen)
    return Pool(layout, units, sum(unit.payload["rows"] for unit in units))


def _entries(where: Root) -> Iterator[Entry]:
    if where.kind == "file":
        yield where.place.info(where.name)
    elif where.kind == "list":
        for name in sorted(set(_read_list(where.place, where.name))):
            yield where.place.info(name)
    elif where.kind == "glob":
        depth = None if "**" in where.name else where.name.count("/") + 1
        matches = _matcher(where.name)
        yield from (entry for entry in _walk(where.place, depth) if matches(entry.name))
    else:
        yield from _walk(where.place, None)


def _walk(place: Place, depth: int | None) -> Iterator[Entry]:
    try:
        yield from place.walk(depth)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        raise UsageError(f"{place.url}: may not be listed: {error}") from error


def _matcher(pattern: str) -> Any:
    try:
        return re.compile(glob_translate(encode_name(pattern))).match
    except ValueError as error:
        raise UsageError(f"{pattern}: not a pattern: {error}") from None


def _read_list(place: Place, name: str) -> list[str]:
    """The lines of a list: paths relative to its folder, absolute ones and URLs; blanks and #... are none."""
    try:
        with open_target(place.target(name)) as stream:
            content = stream.read(_MAX_LIST + 1)
    except Refused as error:
        raise UsageError(f"{place.url}/{name}: cannot be read: {error}") from error
    if len(content) > _MAX_LIST:
        raise UsageError(f"{name}: expected a list of at most {_MAX_LIST} bytes; pass a folder or a pattern")
    lines = (os.fsdecode(line).strip() for line in content.splitlines())
    return [encode_name(line) for line in lines if line and not line.startswith("#")]


def _has_manifest(place: Place) -> bool:
    if place.local is not None:
        return Path(place.local, MANIFEST_NAME).is_file()
    filesystem, path = fsspec.core.url_to_fs(place.url, **place.config.storage_options)
    return bool(filesystem.exists(f"{path.rstrip('/')}/{MANIFEST_NAME}"))


def _list_dataset(place: Place) -> Pool:
    manifest = read_manifest(place.local or place.url, place.config.storage_options)
    units = tuple(_tar_unit(f"{shard.name}.tar", shard.sha256) for shard in manifest.shards)
    return Pool("tars", units, manifest.samples)


def _guess_layout(root: str, entries: list[Entry]) -> Literal["files", "tars", "tables"]:
    suffixes = [_suffix(entry.name) for entry in entries]
    tars, tables = suffixes.count(".tar"), sum(map(suffixes.count, TABLE_SUFFIXES))
    if not tars and not tables:
        return "files"
    beside = {".tar", *_SIDECARS} if tars else {*TABLE_SUFFIXES, *_BESIDE_TABLES}
    strays = [
        entry.name for entry, suffix in zip(entries, suffixes, strict=True)
        if suffix not in beside and not posixpath.basename(entry.name).startswith((".", "_"))
    ]  # fmt: skip
    if not strays:
        return "tars" if tars else "tables"
    kinds = f"{tars} tars" if tars else f"{tables} tables"
    raise UsageError(
        f"{root}: {kinds} beside {len(strays)} other files ({strays[0]}, ...): set `layout` to "
        f"'{kinds.split()[1]}' to read only those, to 'files' to take every file for an image, or pass "
        f"a pattern such as '{root.rstrip('/')}/**/*.jpg'"
    )


def _suffix(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


def _cut(entries: list[Entry], size: int) -> Iterator[tuple[str, list[Entry]]]:
    """(name, files) of units of `size` files on average, at most `_LARGEST` times that, in sorted order.

    A unit begins at a file whose hashed name says so, so a file that joins or leaves changes the unit it
    falls into, not those behind it. (Cuts by count would shift; buckets of hashes would scatter neighbours
    over the disk, and need the pool's size to be known for ever.)
    """
    name, chunk = "files-first", list[Entry]()
    for entry in entries:
        begins = int.from_bytes(sha256(entry.name.encode()).digest()[:8]) % size == 0
        if begins or len(chunk) == _LARGEST * size:
            if chunk:
                yield name, chunk
            name, chunk = unit_name("files", entry.name), []
        chunk.append(entry)
    yield name, chunk


def _files_unit(place: Place, name: str, entries: list[Entry]) -> Unit:
    names = [entry.name for entry in entries]
    return Unit(name, {"files": names}, {entry.name: place.digest(entry) for entry in entries})


def _tar_unit(source: str, digest: str) -> Unit:
    return Unit(unit_name("tar", source.removesuffix(".tar")), {"tar": source}, {source: digest})
