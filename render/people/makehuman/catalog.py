"""What an asset folder holds, by name and content: a spec names an asset with the digest of its bytes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from render.people.makehuman.mhclo import Clothes, Look, parse_clothes, parse_look, parse_tags
from render.people.spec import AssetSpec
from shards.errors import UsageError, VitruvianError

CATEGORIES = ("garments", "shoes", "hats", "hair", "eyebrows", "skins")
_FOLDERS = {"clothes": "garments", "hair": "hair", "eyebrows": "eyebrows", "skins": "skins"}
_MAX_TEXTURE = 256 << 20  # bytes
_MAX_ASSETS = 10_000


@dataclass(frozen=True)
class Entry:
    """An asset: `name` is the path of its .mhclo (a skin's .mhmat) relative to the folder."""

    name: str
    category: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class AssetFiles:
    """The files of an asset. mesh, clothes: None for skins. Textures that a material names but that are not
    there are None.
    """

    spec: AssetSpec
    clothes: Path | None
    mesh: Path | None
    material: Path | None
    diffuse: Path | None
    normal: Path | None
    look: Look | None


@dataclass(frozen=True)
class Catalog:
    """The assets of one folder, sorted by name."""

    folder: Path
    entries: tuple[Entry, ...]

    @property
    def poses(self) -> Path:
        """The folder of BVH poses, whether it exists or not."""
        return self.folder / "poses"

    def names(self, category: str, tag: str = "") -> tuple[str, ...]:
        """Names of a category; with a tag (lower case) only those that carry it."""
        return tuple(e.name for e in self.entries if e.category == category and (not tag or tag in e.tags))

    def spec(self, name: str) -> AssetSpec:
        """The asset called `name`, with the digest of its bytes. Raises VitruvianError when there is none."""
        self._entry(name)
        return _files(self.folder, name, _stamp(self.folder, name)).spec

    def find(self, asset: AssetSpec) -> AssetFiles:
        """The files of `asset`. Raises VitruvianError when it is not there or its bytes are others."""
        self._entry(asset.name)
        files = _files(self.folder, asset.name, _stamp(self.folder, asset.name))
        if files.spec.sha256 != asset.sha256:
            raise VitruvianError(
                f"asset {asset.name} in {self.folder}: expected sha256 {asset.sha256} as in the spec; got "
                f"{files.spec.sha256}: name the asset folder that the spec was planned with (textures count)"
            )
        return files

    def _entry(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise VitruvianError(
            f"asset {name!r}: expected in {self.folder}; got a folder with {len(self.entries)} others: name "
            "the asset folder that the spec was planned with"
        )


def open_catalog(folder: Path) -> Catalog:
    """Lists the assets of `folder`: clothes/, hair/, eyebrows/ and skins/, each asset in a folder of its own.

    Raises UsageError when it is no folder or holds none, VitruvianError naming file and line for a bad file.
    """
    if not folder.is_dir():
        raise UsageError(f"asset folder {folder}: expected a folder; got none: name an existing one")
    entries = tuple(sorted(_entries(folder), key=lambda e: e.name))
    if not entries:
        raise UsageError(
            f"asset folder {folder}: expected clothes/, hair/, eyebrows/ or skins/ with assets; got none: "
            "name the folder that holds these, such as MakeHuman's data folder"
        )
    return Catalog(folder, entries)


def _entries(folder: Path) -> Iterator[Entry]:
    count = 0
    for top, category in _FOLDERS.items():
        suffix = "*.mhmat" if category == "skins" else "*.mhclo"
        for path in sorted((folder / top).rglob(suffix)):
            count += 1
            if count > _MAX_ASSETS:
                raise UsageError(f"asset folder {folder}: expected at most {_MAX_ASSETS} assets; got more")
            name = path.relative_to(folder).as_posix()
            inside(folder, folder, name)
            tags = parse_tags(path)
            yield Entry(name, _clothing(tags) if category == "garments" else category, tags)


def _clothing(tags: tuple[str, ...]) -> str:
    """Shoes and hats say so in their tags; whatever else lies in clothes/ is a garment."""
    if any("shoe" in tag or "boot" in tag for tag in tags):
        return "shoes"
    return "hats" if any(tag in ("hat", "hats", "cap", "headwear") for tag in tags) else "garments"


def inside(folder: Path, base: Path, name: str) -> Path:
    """The file `name`, relative to `base`. Raises VitruvianError when that leaves the asset folder."""
    try:
        path = (base / name).resolve()
    except (OSError, RuntimeError, ValueError):
        path = Path("/")
    if not path.is_relative_to(folder.resolve()):
        raise VitruvianError(
            f"{base}: expected names of files inside the asset folder {folder}; got {name[:200]!r}: do not "
            "use this asset"
        )
    return path


def _stamp(folder: Path, name: str) -> tuple[tuple[str, int, int], ...]:
    """Size and time of the asset's files, so that an edit is noticed within a process."""
    found = []
    for path in sorted((folder / name).parent.rglob("*")):
        if path.is_file():
            status = path.stat()
            found.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=512)
def _files(folder: Path, name: str, stamp: tuple[tuple[str, int, int], ...]) -> AssetFiles:
    """Follows an asset to its files and takes their digest."""
    first = inside(folder, folder, name)
    clothes = mesh = None
    if first.suffix == ".mhmat":
        material: Path | None = first
    else:
        clothes, parsed = first, _parsed(first, stamp)
        mesh = _existing(inside(folder, first.parent, parsed.obj_file), first)
        material = inside(folder, first.parent, parsed.material) if parsed.material else None
        material = material if material is not None and material.is_file() else None
    look = parse_look(material) if material else None
    diffuse = _texture(folder, material, look.diffuse) if material and look else None
    normal = _texture(folder, material, look.normal) if material and look else None
    digest = hashlib.sha256()
    for role, path in (
        ("clothes", clothes),
        ("mesh", mesh),
        ("material", material),
        ("diffuse", diffuse),
        ("normal", normal),
    ):
        if path is not None:
            data = path.read_bytes()
            digest.update(f"{role} {len(data)}\n".encode() + data)
    return AssetFiles(AssetSpec(name, digest.hexdigest()), clothes, mesh, material, diffuse, normal, look)


@lru_cache(maxsize=64)
def _parsed(path: Path, stamp: tuple[tuple[str, int, int], ...]) -> Clothes:
    return parse_clothes(path)


def _existing(path: Path, named_by: Path) -> Path:
    if not path.is_file():
        raise VitruvianError(
            f"{named_by}: obj_file: expected {path.name} beside it; got no such file: copy the whole asset"
        )
    return path


def _texture(folder: Path, material: Path, name: str | None) -> Path | None:
    """The texture a material names, if it is there; checked to be an image of a sane size."""
    if name is None:
        return None
    path = inside(folder, material.parent, name)
    if not path.is_file():
        return None
    if path.stat().st_size > _MAX_TEXTURE:
        raise VitruvianError(
            f"{path}: expected at most {_MAX_TEXTURE} bytes; got {path.stat().st_size}: scale it down"
        )
    from render.sources.guard import check_image

    check_image(path)
    return path
