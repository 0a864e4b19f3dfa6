"""Where a pool lies, and the only door to its bytes: local folders and whatever fsspec reaches.

A name, a link or a table's path is data by strangers, so nothing is opened before it is known to lie inside
the pool (or below a prefix that the user allowed) and to be a regular file: a pipe would block for ever, a
device answer with anything. Reading is forward and bounded.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import fsspec

from curation.decode import LINK, NOT_FETCHED, OUTSIDE, TOO_LARGE, UNREADABLE
from curation.pool.inputs import PoolConfig, decode_name, encode_name

READ_AHEAD = 8 << 20  # bytes per request to a store: 128 requests for a tar of 1 GiB
CHUNK = 1 << 20
_LOCAL = ("file://", "local://")
_WEB = ("http://", "https://")
# What an info of fsspec may say of a file's content or last change, best first.
_STAMPS = ("ETag", "etag", "md5Hash", "crc32c", "content_md5", "checksum", "mtime", "LastModified",
           "last_modified", "updated", "modified", "created")  # fmt: skip
# The machine's trouble, not the file's: the unit is tried again rather than the file given up.
_TRANSIENT = frozenset(
    (errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR)
)


class Refused(Exception):
    """An input that is not read; `status` says why."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Entry(NamedTuple):
    """A file of a listing: name relative to the pool's folder, size in bytes, and what changes with it."""

    name: str
    size: int
    stamp: str


class Content(NamedTuple):
    """What was read: size in bytes, sha256, the bytes; or no bytes and the status that says why."""

    size: int
    sha256: str
    data: bytes | None
    status: str | None = None


class Target(NamedTuple):
    """One file that may be opened: `filesystem` is None for a local path."""

    filesystem: Any
    path: str


@dataclass(frozen=True)
class Place:
    """The folder that names are relative to. `listed`: the user named every file, so names may be absolute.

    Holds no connection, so it may be pickled.
    """

    url: str
    config: PoolConfig
    listed: bool = False

    @property
    def local(self) -> str | None:
        """The folder as a path, when it is on this machine."""
        return local_path(self.url)

    def target(self, name: str) -> Target:
        """The file `name` of a listing, or of a row's `source`. Raises Refused for a link that leaves the
        pool.
        """
        plain = decode_name(name)
        if self.listed and (plain.startswith("/") or "://" in plain):
            return _anywhere(plain, self.config)
        if self.local is None:
            filesystem, path = self._resolve()
            return Target(filesystem, f"{path.rstrip('/')}/{plain}" if path else plain)
        path = os.path.join(self.local, plain)  # noqa: PTH118
        if os.path.islink(path):  # noqa: PTH114
            if os.path.isdir(path):  # noqa: PTH112
                raise Refused(LINK, f"{path}: a link to a folder; those may loop and are not followed")
            if not self.listed:
                self._require_inside(path, LINK)
        return Target(None, path)

    def reference(self, source: str, text: str) -> Target:
        """The file that a row of the table `source` names: a path relative to the table, or an absolute path
        or URL inside the pool or below an allowed prefix.

        Raises Refused: "decode:not-fetched" for other web addresses, "decode:outside" for all else.
        """
        if "\0" in text or not text:
            raise Refused(OUTSIDE, "an empty path, or one with a zero byte")
        local = local_path(text)
        if local is None:
            return self._remote_reference(text)
        if self.local is not None:
            folder = os.path.dirname(os.path.join(self.local, decode_name(source)))  # noqa: PTH118, PTH120
            path = os.path.join(folder, local)  # noqa: PTH118
            self._require_inside(path, OUTSIDE)
            return Target(None, path)
        if local.startswith("/"):
            self._require_inside(local, OUTSIDE)
            return Target(None, local)
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(decode_name(source)), local))
        if inside == ".." or inside.startswith("../"):
            raise Refused(OUTSIDE, f"{text!r} leaves the pool")
        return self.target(encode_name(inside))

    def walk(self, depth: int | None = None) -> Iterator[Entry]:
        """Every file below the folder (to `depth` levels), in no order.

        Links to folders and folders that cannot be listed are entries too: what lies behind them is not read,
        and that must show.
        """
        if self.local is not None:
            yield from _walk_local(self.local, depth)
            return
        filesystem, path = self._resolve()
        found = filesystem.find(path, maxdepth=depth, detail=True)
        start = path.strip("/")
        for full, info in found.items():
            name = full.strip("/").removeprefix(start).lstrip("/")
            if name:
                yield Entry(encode_name(name), int(info.get("size") or 0), _stamp(info))

    def info(self, name: str) -> Entry:
        """The entry of one file that was not found by walking."""
        try:
            filesystem, path = self.target(name)
            if filesystem is not None:
                info = filesystem.info(path)
                return Entry(name, int(info.get("size") or 0), _stamp(info))
            return _entry(name, path)
        except (Refused, OSError):
            return Entry(name, 0, UNREADABLE)

    def stamp(self, name: str) -> str:
        """What changes with a local file, for caches; "" for others (asking costs a request)."""
        return "" if self.local is None else self.info(name).stamp

    def digest(self, entry: Entry) -> str:
        """What a unit depends on: the sha256 of the file, or its stamp, as `identity` says."""
        how = self.config.identity
        if how == "stat" or (how == "auto" and self.local is None):
            return entry.stamp
        try:
            with open_target(self.target(entry.name)) as stream:
                return _digest(stream)[1]
        except (Refused, OSError) as error:
            return getattr(error, "status", UNREADABLE)

    def _resolve(self) -> tuple[Any, str]:
        # fsspec caches filesystems by process and arguments. Only the pool's own URL is ever parsed: a name
        # such as "a::b" or "http://c" in it stays a name.
        filesystem, path = fsspec.core.url_to_fs(self.url, **self.config.storage_options)
        return filesystem, str(path)

    def _require_inside(self, path: str, status: str) -> None:
        real = os.path.realpath(path)
        allowed = [prefix for prefix in map(local_path, self.config.allow) if prefix is not None]
        roots = [*allowed, *([self.local] if self.local is not None else [])]
        if not any(_below(real, os.path.realpath(root)) for root in roots):
            raise Refused(status, f"{path} leads to {real}, outside the pool; see `allow`")

    def _remote_reference(self, text: str) -> Target:
        prefixes = [*self.config.allow, *([self.url] if self.local is None else [])]
        plain = ".." not in text.split("/") and "::" not in text
        if plain and any("://" in prefix and _below(text, prefix) for prefix in prefixes):
            return _anywhere(text, self.config)
        web = text.lower().startswith(_WEB)
        raise Refused(NOT_FETCHED if web else OUTSIDE, f"{text!r} is not in the pool; see `allow`")


def local_path(url: str) -> str | None:
    """The path of a local URL or plain path; None for any other URL."""
    for prefix in _LOCAL:
        if url.startswith(prefix):
            return url.removeprefix(prefix)
    return None if "://" in url else url


def open_target(target: Target, read_ahead: int = READ_AHEAD) -> Any:
    """The file as a binary stream that is read in blocks; never waits for a pipe, never opens a device.

    Raises Refused when there is no such regular file, or it may not be read.
    """
    try:
        if target.filesystem is None:
            return _open_regular(target.path)
        # s3fs would fetch 50 MB at a time, and more than one such block.
        return target.filesystem.open(target.path, "rb", block_size=read_ahead, cache_type="readahead")
    except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
        raise Refused(UNREADABLE, str(error)) from error
    except (OSError, ValueError) as error:
        if target.filesystem is not None or getattr(error, "errno", None) in _TRANSIENT:
            raise
        raise Refused(UNREADABLE, str(error)) from error


def read_bounded(target: Target, max_bytes: int) -> Content:
    """The whole file, or only the digest of one larger than `max_bytes`. Raises Refused, and OSError for a
    store or disk that fails.
    """
    try:
        with open_target(target) as stream:
            data = stream.read(max_bytes + 1)
            if len(data) <= max_bytes:
                return Content(len(data), sha256(data).hexdigest(), data)
            size, digest = _digest(stream, data)
            return Content(size, digest, None, TOO_LARGE)
    except OSError as error:  # a bad sector costs its file; a store that fails is asked again
        if target.filesystem is not None or error.errno in _TRANSIENT:
            raise
        raise Refused(UNREADABLE, str(error)) from error


def read_range(target: Target, start: int, stop: int) -> bytes:
    """Bytes start..stop, fewer where the file ends. Raises Refused and OSError as `read_bounded`."""
    if target.filesystem is not None:
        return bytes(target.filesystem.cat_file(target.path, start=start, end=stop))
    with open_target(target) as stream:
        stream.seek(start)
        return bytes(stream.read(stop - start))


def _stamp(info: Any) -> str:
    """Size and what an fsspec info says of content or last change."""
    known = next((f"{name}={info[name]}" for name in _STAMPS if info.get(name) is not None), "")
    return f"{info.get('size')} {known}".strip()


def _digest(stream: Any, head: bytes = b"") -> tuple[int, str]:
    digest, size = sha256(head), len(head)
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _open_regular(path: str) -> Any:
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
        raise Refused(UNREADABLE, f"{path}: no regular file")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # changed in between
        os.close(descriptor)
        raise Refused(UNREADABLE, f"{path}: no regular file")
    return os.fdopen(descriptor, "rb")


def _anywhere(text: str, config: PoolConfig) -> Target:
    if (local := local_path(text)) is not None:
        return Target(None, local)
    filesystem, path = fsspec.core.url_to_fs(text, **config.storage_options)
    return Target(filesystem, str(path))


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _walk_local(root: str, depth: int | None) -> Iterator[Entry]:
    folders = [("", 1)]
    while folders:
        folder, level = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as found:  # noqa: PTH118
                entries = list(found)
        except OSError:
            if not folder:
                raise
            yield Entry(encode_name(folder), 0, UNREADABLE)
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield _entry(encode_name(name), entry.path)
            elif depth is None or level < depth:
                folders.append((name, level + 1))


def _entry(name: str, path: str) -> Entry:
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return Entry(name, 0, UNREADABLE)
    if stat.S_ISDIR(found.st_mode):
        return Entry(name, 0, LINK)
    return Entry(name, found.st_size, f"{found.st_size} {found.st_mtime_ns}")
