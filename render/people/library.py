"""What people may be made of beside what is made from nothing: an asset folder, and how often it is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from render.people.bvh import list_poses, read_pose
from render.people.limits import Pose
from render.people.makehuman import Catalog, open_catalog
from shards.files import sha256_file
from shards.sample import digest_json


@dataclass(frozen=True)
class Shares:
    """How often each kind of asset takes the place of what is made from nothing, 0..1."""

    outfits: float = 0.0
    hair: float = 0.0
    skins: float = 0.0
    poses: float = 0.0


@dataclass(frozen=True)
class Library:
    """An opened asset folder. poses: by file name, as joint rotations."""

    catalog: Catalog | None = None
    poses: Mapping[str, Pose] = field(default_factory=dict)
    shares: Shares = Shares()


NOTHING = Library()
"""No assets: everybody is made from nothing."""


@lru_cache(maxsize=4)
def opened_catalog(folder: Path) -> Catalog:
    """The folder's catalog, listed once per process."""
    return open_catalog(folder)


@lru_cache(maxsize=4)
def open_library(folder: Path, shares: Shares) -> Library:
    """The assets and poses of a folder. Raises UsageError or VitruvianError for files that cannot be read."""
    catalog = opened_catalog(folder)
    poses = {name: read_pose(path) for name, path in _recorded(catalog).items()}
    return Library(catalog, poses, shares)


def library_digest(folder: Path) -> str:
    """Of the bytes of all assets and poses: what people drawn from the folder hang on."""
    catalog = opened_catalog(folder)
    assets = {entry.name: catalog.spec(entry.name).sha256 for entry in catalog.entries}
    poses = {name: sha256_file(path) for name, path in _recorded(catalog).items()}
    return digest_json({"assets": assets, "poses": poses})


def _recorded(catalog: Catalog) -> dict[str, Path]:
    names = list_poses(catalog.poses) if catalog.poses.is_dir() else ()
    return {name: catalog.poses / f"{name}.bvh" for name in names}
