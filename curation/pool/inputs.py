"""What a pool consists of, as plain data: its configuration, its units, its inputs, and how names are
written.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from os import fsdecode, fsencode
from typing import Any, Literal

from pydantic import Field

from shards.config import Config
from shards.units import Unit

Layout = Literal["auto", "files", "tars", "tables"]

MAX_METADATA = 1 << 16  # bytes of a sample's json member, or of a row's other columns, that travel with it
_SLUG = 80  # characters of a source's name in the name of its unit


class PoolConfig(Config):
    """What a pool is, how it is cut into units, and how its inputs are told to be the same as before."""

    layout: Layout = Field(default="auto", description="files, tars, tables, or see for yourself")
    files_per_unit: int = Field(default=256, ge=1, description="of a folder of files, on average")
    rows_per_unit: int = Field(default=4096, ge=1, description="of a table; parquet: whole row groups")
    max_bytes: int = Field(default=256 << 20, ge=1, description="larger inputs: decode:too-large")
    identity: Literal["auto", "content", "stat"] = Field(
        default="auto",
        description="how a change is noticed: content (sha256: the driver reads every byte), stat (size and "
        "mtime, ETag or checksum), auto (content for local pools, stat for others)",
    )
    image_column: str | None = Field(default=None, description="of tables; found by type and name if null")
    allow: tuple[str, ...] = Field(
        default=(),
        description="folders or URL prefixes outside the pool that links and tables may point into",
    )
    # May hold credentials, so they are in no key, no manifest and no error.
    storage_options: dict[str, Any] = Field(
        default_factory=dict, exclude=True, repr=False, description="for fsspec's filesystem"
    )

    def __hash__(self) -> int:  # a frozen model's own would hash the dict of options
        return hash(self.model_dump_json())


@dataclass(frozen=True)
class Input:
    """One input of a pool: which it is, and its bytes, or (`data` None) the status that says why there are
    none.

    `offset`: the byte of the tar or text table, or the row of the parquet file, where it begins.
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

    layout: Literal["files", "tars", "tables"]
    units: tuple[Unit, ...]
    inputs: int | None

    def provenance(self) -> dict[str, Any]:
        """What a manifest says of the pool: its layout, units and inputs; never where it happens to lie."""
        return {"layout": self.layout, "units": len(self.units), "inputs": self.inputs}


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


def unit_name(kind: str, source: str) -> str:
    """The name of a unit by what it begins with, never by its position: what joins the pool later leaves it
    alone.
    """
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", source)[-_SLUG:].strip("-")
    return f"{kind}-{slug}-{sha256(source.encode()).hexdigest()[:8]}"
