"""Others' tars, read as a stream: forward only, one sample's image in memory at a time, never more than
`max_bytes` of it.

A sample is a run of files that share the name up to the first dot, as webdataset has it. Nothing is ever
unpacked, so names cannot do harm and none is refused: a link, a device, a name that is no text, or a member
that claims more than it may, costs its sample alone. Damage costs the tar: what follows it cannot be trusted.
"""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from curation.decode import NO_IMAGE, TOO_LARGE, UNREADABLE
from curation.pool.inputs import MAX_METADATA, Input, encode_name
from curation.pool.place import CHUNK, Place, Refused, open_target
from shards.errors import ShardError
from shards.tar import StrictTarInfo, split_name

# Which member of a sample is its photograph, best first; then any other member that is called an image.
IMAGE_MEMBERS = ("jpg", "jpeg", "png", "webp", "rgb.png", "rgb.jpg")
_IMAGE_SUFFIXES = frozenset(
    ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "jxl")
)
_WHOLE = ""  # the member of a file without an extension, which is a sample of its own
_MAX_HEADER = 1 << 20  # bytes of one pax or long-name header; names are at most 4096


@dataclass
class _Part:
    """The member that stands for a sample: its image, or the first one if it has none."""

    name: str
    offset: int
    size: int
    sha256: str
    data: bytes | None
    status: str | None
    rank: int | None  # among images, lower is better; None: not an image


@dataclass
class _Sample:
    key: str
    part: _Part | None = None
    metadata: str | None = None
    members: set[str] = field(default_factory=set)


def read_tar(place: Place, source: str, max_bytes: int) -> Iterator[Input]:
    """The samples of the tar `source` in order, each exactly one input.

    Raises ShardError for a tar that is damaged, stops early, or goes on behind its end.
    """
    where = f"{place.url}/{source}"
    try:
        with open_target(place.target(source)) as stream:
            for sample in _samples(_Forward(stream), max_bytes):
                yield _input(source, sample)
    except (Refused, tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise ShardError(f"{where}: truncated, damaged or not a tar: {error}") from error


def _input(source: str, sample: _Sample) -> Input:
    part = sample.part
    assert part is not None
    status = part.status or (NO_IMAGE if part.rank is None else None)
    data = None if status else part.data
    return Input(source, part.name, part.offset, part.size, part.sha256, data, status, sample.metadata)


def _samples(stream: "_Forward", max_bytes: int) -> Iterator[_Sample]:
    current: _Sample | None = None
    with tarfile.open(fileobj=stream, mode="r:", tarinfo=StrictTarInfo) as tar:  # type: ignore[call-overload]
        while (info := tar.next()) is not None:
            tar.members.clear()  # tarfile would remember every header
            if (names := _names(info)) is None:
                continue
            key, member = names
            if current and (key != current.key or member in current.members):
                yield current
                current = None
            current = current or _Sample(key)
            current.members.add(member)
            _take(current, info, member, stream, max_bytes)
    if current:
        yield current
    if not stream.only_zeros():
        raise tarfile.ReadError("it goes on behind its closing zero blocks: two tars in one file?")


def _names(info: tarfile.TarInfo) -> tuple[str, str] | None:
    """(key, member), or None for what is no input: folders, hidden files, `__meta__`."""
    if info.isdir() or info.name in ("", "."):
        return None
    if names := split_name(info.name):
        return names
    file = info.name.rpartition("/")[2]
    return None if not file or "." in file or info.name.startswith("__") else (info.name, _WHOLE)


def _take(sample: _Sample, info: tarfile.TarInfo, member: str, stream: "_Forward", max_bytes: int) -> None:
    """Keep of a member what its sample needs; the rest is passed over by the next header's seek."""
    if member == "json" and info.isreg() and info.size <= MAX_METADATA:
        data = stream.read(info.size)
        sample.metadata = data.decode("utf-8", "replace")
        if sample.part is None:
            digest = sha256(data).hexdigest()
            sample.part = _Part(encode_name(info.name), info.offset_data, info.size, digest, None, None, None)
        return
    rank, best = _rank(member), sample.part
    if best is None or (rank is not None and (best.rank is None or rank < best.rank)):
        sample.part = _read(info, rank, stream, max_bytes)


def _rank(member: str) -> int | None:
    if member in IMAGE_MEMBERS:
        return IMAGE_MEMBERS.index(member)
    other = member == _WHOLE or member.rpartition(".")[2] in _IMAGE_SUFFIXES
    return len(IMAGE_MEMBERS) if other else None


def _read(info: tarfile.TarInfo, rank: int | None, stream: "_Forward", max_bytes: int) -> _Part:
    name = encode_name(info.name)
    if not info.isreg() or info.issparse():
        return _Part(name, info.offset_data, 0, "", None, UNREADABLE, rank)
    if rank is not None and info.size <= max_bytes:
        data = stream.exactly(info.size)
        return _Part(name, info.offset_data, info.size, sha256(data).hexdigest(), data, None, rank)
    digest = sha256()
    for chunk in stream.chunks(info.size):
        digest.update(chunk)
    status = None if rank is None else TOO_LARGE
    return _Part(name, info.offset_data, info.size, digest.hexdigest(), None, status, rank)


class _Forward:
    """What tarfile needs of a file, on a stream that is only ever read forward, in bounded pieces."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.position = stream, 0

    def tell(self) -> int:
        return self.position

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end. Raises ReadError for more than a header may have."""
        if size > _MAX_HEADER:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        return self._read(size)

    def exactly(self, size: int) -> bytes:
        """`size` bytes at once. Raises ReadError when the file ends before."""
        data = self._read(size)
        if len(data) < size:
            raise tarfile.ReadError(f"truncated: {size - len(data)} bytes are missing at its end")
        return data

    def seek(self, position: int) -> None:
        """Read on to `position`."""
        if position < self.position:
            raise tarfile.ReadError("it would have to be read backwards")
        for _ in self.chunks(position - self.position):
            pass

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes. Raises ReadError when the file ends before."""
        while size > 0:
            chunk = self.read(min(size, CHUNK))
            if not chunk:
                raise tarfile.ReadError(f"truncated: {size} bytes are missing at its end")
            size -= len(chunk)
            yield chunk

    def _read(self, size: int) -> bytes:
        parts, left = list[bytes](), size
        while left > 0 and (part := self.stream.read(left)):
            parts.append(part)
            left -= len(part)
        self.position += size - left
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def only_zeros(self) -> bool:
        """Whether nothing but zeros is left."""
        while chunk := self.read(CHUNK):
            if chunk.strip(b"\0"):
                return False
        return True
