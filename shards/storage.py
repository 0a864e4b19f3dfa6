"""Reading from a folder that may be anywhere fsspec reaches; local files take a shorter path."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec

from shards.errors import ShardError

_LOCAL = ("file", "local")


@dataclass(frozen=True)
class Store:
    """A folder of files, read only. Holds no connection, so it may be pickled and used after a fork.

    `url`: a path or an fsspec URL (`s3://bucket/prefix`, `memory://x`, `https://...`); `options` go to its
    filesystem.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def local(self) -> Path | None:
        """The folder as a path, when it is on this machine."""
        protocol, separator, path = self.url.partition("://")
        if not separator:
            return Path(self.url)
        return Path(path) if protocol in _LOCAL else None

    def at(self, name: str) -> str:
        """The URL of the file `name`."""
        return f"{self.url}{name}" if self.url.endswith("://") else f"{self.url.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """A whole file. Raises FileNotFoundError."""
        if self.local is not None:
            return (self.local / name).read_bytes()
        filesystem, path = self._resolve(name)
        return bytes(filesystem.cat_file(path))

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes start..stop of a file. Raises ShardError when the file is shorter or the server ignores
        ranges.
        """
        if self.local is not None:
            data = _pread(self.local / name, start, stop - start)
        else:
            filesystem, path = self._resolve(name)
            data = bytes(filesystem.cat_file(path, start=start, end=stop))
        if len(data) != stop - start:
            raise ShardError(
                f"{self.at(name)}: asked for bytes {start}..{stop} ({stop - start}), got {len(data)}: "
                "the file is truncated, or its server ignores byte ranges; run `vitruvian shards verify`"
            )
        return data

    def open(self, name: str) -> Any:
        """The file as a seekable binary stream. Raises FileNotFoundError."""
        if self.local is not None:
            return (self.local / name).open("rb")
        filesystem, path = self._resolve(name)
        return filesystem.open(path, "rb")

    def size(self, name: str) -> int | None:
        """Size in bytes; None when there is no such file."""
        try:
            if self.local is not None:
                return (self.local / name).stat().st_size
            filesystem, path = self._resolve(name)
            size = filesystem.info(path)["size"]
            return len(self.read(name)) if size is None else int(size)
        except FileNotFoundError:
            return None

    def names(self) -> list[str]:
        """Sorted names of the visible files in the folder; [] over HTTP, which has no listing."""
        if self.url.startswith(("http://", "https://")):
            return []
        if self.local is not None:
            found = [entry.name for entry in self.local.iterdir() if entry.is_file()]
        else:
            filesystem, path = self._resolve("")
            try:
                entries = filesystem.ls(path, detail=True)
            except FileNotFoundError:
                return []
            found = [
                entry["name"].rstrip("/").rpartition("/")[2] for entry in entries if entry["type"] == "file"
            ]
        return sorted(name for name in found if not name.startswith("."))

    def _resolve(self, name: str) -> tuple[Any, str]:
        # fsspec caches filesystems by process and arguments; asking each time keeps forked readers safe.
        filesystem, path = fsspec.core.url_to_fs(self.at(name) if name else self.url, **self.options)
        return filesystem, path


def open_url(url: str | Path, options: Mapping[str, Any] | None = None) -> tuple[Store, str]:
    """Split the URL of a file into its folder and its name."""
    folder, slash, name = str(url).rpartition("/")
    if not folder or folder.endswith(":/"):
        folder += slash or "."
    return Store(folder, options or {}), name


def _pread(path: Path, start: int, size: int) -> bytes:
    """`size` bytes from `start`, short only at the end of the file (one pread may return less than asked)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        chunks = []
        while size > 0 and (chunk := os.pread(descriptor, size, start)):
            chunks.append(chunk)
            start, size = start + len(chunk), size - len(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    finally:
        os.close(descriptor)
