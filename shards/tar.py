"""Tars in webdataset's layout: deterministic headers out, strict reading in.

Written with the standard library's `tarfile` headers rather than `webdataset.TarWriter`: TarWriter is USTAR
only (it refuses names over 100 characters), does not say where a member's bytes begin, and importing
webdataset takes two seconds. Headers are plain ustar as long as they can be, pax when a name is long or not
ASCII. Reading refuses what a tar of samples has no business holding (links, devices, paths that leave the
folder) and, unlike `tarfile` and webdataset, does not take a tar that stops early for one that ends.
"""

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shards.errors import ShardError, UsageError

BLOCK = tarfile.BLOCKSIZE
MAX_NAME_BYTES = 4096
_EMPTY_PART = re.compile(r"(?:^|/)\.{0,2}(?:/|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MEMBER = re.compile(r"[a-z0-9][a-z0-9_-]*(\.[a-z0-9_-]+)*")


@dataclass(frozen=True)
class TarMember:
    """One regular file of a tar: its sample key, its extension, where its bytes lie, and the bytes."""

    key: str
    member: str
    offset: int
    data: bytes


def split_name(path: str) -> tuple[str, str] | None:
    """`a.dir/b.rgb.PNG` -> (`a.dir/b`, `rgb.png`): webdataset's rule, at the first dot of the last path
    component.

    None for what webdataset passes over: no extension, hidden files, and names like `__meta__`.
    """
    folder, slash, file = path.removeprefix("./").rpartition("/")
    stem, dot, extension = file.partition(".")
    if not stem or not dot or re.match(r"__[^/]*__($|/)", path):
        return None
    return folder + slash + stem, extension.lower()


def check_key(key: str) -> str:
    """`key` when webdataset would read the same key back; raises UsageError with the reason otherwise."""
    problem = _path_problem(key)
    if not problem and "." in key.rpartition("/")[2]:
        problem = "a dot in its last part (readers split the key from the extension at the first dot)"
    if not problem and (key.endswith("/") or key.startswith("__")):
        problem = "it ends with '/' or starts with '__' (reserved by webdataset)"
    if problem:
        raise UsageError(f"sample key {key!r}: {problem}; use a content key, or replace what offends")
    return key


def check_member(key: str, member: str) -> str:
    """`member` when it is an extension that survives a round trip; raises UsageError otherwise."""
    if not _MEMBER.fullmatch(member):
        raise UsageError(
            f"sample {key!r}: member {member!r}: expected an extension without leading dot, of lower-case "
            "letters, digits, '_', '-' and single dots, such as 'rgb.png'"
        )
    return member


def member_header(name: str, size: int) -> bytes:
    """The header blocks of a regular file: mtime 0, uid and gid 0, mode 0444, no owner names."""
    if not name.isascii() or len(name) > _USTAR_NAME or size >= _USTAR_SIZE:
        return _tarfile_header(name, size)
    # The common case, 30 times faster than tarfile: only name, size and checksum differ from the template.
    front = (
        name.encode().ljust(_USTAR_NAME, b"\0") + _TEMPLATE[100:124] + b"%011o\0" % size + _TEMPLATE[136:148]
    )
    checksum = sum(front) + _TEMPLATE_REST
    return front + b"%06o\0 " % checksum + _TEMPLATE[156:]


def _tarfile_header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, 0, 0o444
    return info.tobuf(tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")


_USTAR_NAME = 100  # the longest name, in bytes
_USTAR_SIZE = 8**11  # the first size that 11 octal digits cannot say
_TEMPLATE = _tarfile_header("", 0)
_TEMPLATE_REST = sum(_TEMPLATE[156:]) + 8 * ord(" ")  # a checksum counts its own field as spaces


def padding(size: int, block: int = BLOCK) -> bytes:
    """The zeros that fill `size` bytes up to a whole block."""
    return bytes(-size % block)


def ending(size: int) -> bytes:
    """What closes a tar of `size` bytes: two zero blocks, then zeros up to a record of 10240 bytes."""
    return bytes(2 * BLOCK) + padding(size + 2 * BLOCK, tarfile.RECORDSIZE)


def iterate_members(stream: Any, where: str, mode: str = "r:*") -> Iterator[TarMember]:
    """The regular files of a seekable tar, in order. `mode`: `r:*` reads compressed tars too, `r:` does not.

    Raises ShardError, naming `where` and the member, for damage, truncation, unsafe paths, links and devices.
    """
    try:
        with tarfile.open(fileobj=stream, mode=mode, tarinfo=StrictTarInfo) as tar:  # type: ignore[call-overload]
            while (info := tar.next()) is not None:
                tar.members.clear()  # tarfile would remember every header of a 100 000-member shard
                if not info.isdir() and (names := _checked_names(info, where)):
                    yield TarMember(*names, info.offset_data, _read(tar, info, where))
            _drain(tar.fileobj)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ShardError(f"{where}: truncated, damaged or not a tar: {error}") from error


def _checked_names(info: tarfile.TarInfo, where: str) -> tuple[str, str] | None:
    if kind := _special_kind(info):
        raise ShardError(
            f"{where}: member {info.name!r} is a {kind}; a tar of samples holds regular files only"
        )
    if problem := _path_problem(info.name.removeprefix("./")):
        raise ShardError(f"{where}: member {info.name!r} refused: {problem}")
    return split_name(info.name)


def _drain(stream: Any) -> None:
    """Read on to the end of the file: a compressed stream checks its digest only there."""
    while stream.read(1 << 20):
        pass


def _special_kind(info: tarfile.TarInfo) -> str | None:
    """What a member is when it is no regular file."""
    if info.issym() or info.islnk():
        return "link"
    if info.issparse():
        return "sparse file"
    return None if info.isreg() else "device or pipe"


def _path_problem(path: str) -> str | None:
    """Why a path is unsafe or cannot be stored; None when it is fine."""
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if not path or size > MAX_NAME_BYTES:
        return f"expected 1 to {MAX_NAME_BYTES} bytes, got {size}"
    if path.startswith("/") or "\\" in path:
        return "it is an absolute path or holds a backslash"
    if _EMPTY_PART.search(path.rstrip("/")):
        return "it has an empty, '.' or '..' part (it could leave its folder)"
    if _CONTROL.search(path):
        return "it holds a control character"
    return None


def _read(tar: tarfile.TarFile, info: tarfile.TarInfo, where: str) -> bytes:
    content = tar.extractfile(info)
    data = content.read() if content else b""
    if len(data) != info.size:
        raise ShardError(f"{where}: truncated: member {info.name!r} has {len(data)} of {info.size} bytes")
    return data


class StrictTarInfo(tarfile.TarInfo):
    """A header that must be there: only the zero block that closes a tar may end it."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Any:
        return _strict_header(super().fromtarfile, tarfile)


def _strict_header(parse: Any, tar: tarfile.TarFile) -> Any:
    # TarFile.next() swallows every HeaderError but the first header's, so a tar cut between members, or
    # with a damaged header, would read as a short but healthy one. ReadError passes through.
    try:
        return parse(tar)
    except tarfile.HeaderError as error:
        if type(error).__name__ == "EOFHeaderError":
            raise
        reason = str(error) or "it ends without the closing zero blocks"
        raise tarfile.ReadError(f"no valid header at byte {tar.offset}: {reason}") from error
