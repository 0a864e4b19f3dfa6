"""Local files that are either whole or absent: hashing, temporary folders, atomic replacement."""

import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path

from shards.errors import UsageError

MANIFEST_NAME = "manifest.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_=+-]{0,199}")
_RESERVED = "manifest"


def check_name(name: str) -> str:
    """`name` when it can name a shard or a unit; raises UsageError otherwise (dots and slashes would be
    ambiguous).
    """
    if not _NAME.fullmatch(name) or name == _RESERVED:
        raise UsageError(
            f"shard or unit name {name!r}: expected 1 to 200 of letters, digits, '_', '-', '=', '+', "
            f"not starting with '-', '=' or '+', and not {_RESERVED!r}"
        )
    return name


def sha256_file(path: Path) -> str:
    """sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def temporary_folder(folder: Path, name: str) -> Path:
    """Where the files of shard `name` live until they are committed: `<folder>/.<name>.tmp`, created if need
    be.
    """
    temporary = folder / f".{check_name(name)}.tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return temporary


def temporary_path(folder: Path, name: str, suffix: str) -> Path:
    """A path nobody else uses, for a file that `commit_files` will move: unique, so a stray worker cannot
    share it.
    """
    return temporary_folder(folder, name) / f"{secrets.token_hex(8)}.{suffix}"


def discard_temporaries(folder: Path, name: str) -> None:
    """Remove whatever an attempt at shard `name` left behind (also a killed process's)."""
    shutil.rmtree(folder / f".{check_name(name)}.tmp", ignore_errors=True)


def sweep_temporaries(folder: Path) -> None:
    """Remove what killed processes left anywhere below `folder`, when nobody is writing there."""
    for path in list(folder.rglob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """fsync a file or a folder, so that a rename that follows or preceded survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `path` whole or not at all: temporary name in the same folder, fsync, rename, fsync of the
    folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.write_bytes(data)
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)
