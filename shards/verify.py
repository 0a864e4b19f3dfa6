"""Is a dataset what its manifest says? Every disagreement found and named; nothing is repaired.

`verify_structure` reads manifest, markers, indexes, sizes and the ends of the tars; `verify_bytes` reads
every byte.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from shards.errors import ShardError, UsageError, VitruvianError
from shards.files import MANIFEST_NAME
from shards.index import FIXED_SCHEMA, KEY, MEMBERS, index_tar, read_table
from shards.manifest import FileRecord, Manifest, Marker, ShardRecord, main_file, read_manifest, read_marker
from shards.storage import Store
from shards.tar import BLOCK

Kind = Literal[
    "manifest:missing", "manifest:damaged", "manifest:disagrees", "manifest:incomplete",
    "marker:missing", "marker:damaged", "file:missing", "file:size", "file:unlisted",
    "index:stale", "index:damaged", "tar:truncated", "tar:damaged", "bytes:changed", "key:duplicate",
]  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One disagreement: its kind, the file (and key or member) it concerns, expected and got."""

    kind: Kind
    where: str
    what: str


OnFile = Callable[[FileRecord], None]


def verify_structure(url: Path | str, options: Mapping[str, Any] | None = None) -> Iterator[Problem]:
    """The problems of a dataset (folder or URL), or of one tar, that show without reading the samples."""
    if str(url).endswith(".tar"):
        yield from _check_tar_alone(str(url))
        return
    store = Store(str(url).removesuffix(f"/{MANIFEST_NAME}"), options or {})
    try:
        manifest = read_manifest(store.url, options)
    except ShardError as error:
        yield Problem("manifest:damaged", store.at(MANIFEST_NAME), str(error))
        return
    except VitruvianError as error:
        yield Problem("manifest:missing", store.at(MANIFEST_NAME), str(error))
        return
    yield from _check_manifest(store, manifest)
    counts: Counter[str] = Counter()
    for shard in manifest.shards:
        yield from _check_shard(store, shard, counts)
    for key in sorted(key for key, count in counts.items() if count > 1):
        yield Problem("key:duplicate", store.url, f"key {key!r} occurs {counts[key]} times")


def verify_bytes(
    url: Path | str, options: Mapping[str, Any] | None = None, on_file: OnFile = lambda record: None
) -> Iterator[Problem]:
    """What `verify_structure` finds, then every file against its sha256; a change is traced to its member.

    `on_file` is called with each file's record once its bytes were read (for progress).
    """
    damaged = set()
    for problem in verify_structure(url, options):
        damaged.add(problem.where)
        yield problem
    try:
        manifest = read_manifest(url, options)
    except VitruvianError:
        return  # named above; a lone tar was read whole
    store = Store(str(url).removesuffix(f"/{MANIFEST_NAME}"), options or {})
    for shard in manifest.shards:
        for name, record in shard.files.items():
            if store.at(name) not in damaged:
                indexed = name.endswith(".tar") and store.at(f"{shard.name}.parquet") not in damaged
                changes = list(_compare_members(store, shard, name)) if indexed else []
                yield from changes or _check_digest(store, name, record.sha256)
            on_file(record)


def _check_manifest(store: Store, manifest: Manifest) -> Iterator[Problem]:
    """Do the manifest's own numbers, the markers and the folder's files agree?"""
    where = store.at(MANIFEST_NAME)
    total = sum(shard.samples for shard in manifest.shards)
    if total != manifest.samples:
        yield Problem(
            "manifest:disagrees", where, f"{manifest.samples} samples, but its shards add up to {total}"
        )
    if manifest.quarantined:
        yield Problem("manifest:incomplete", where, f"quarantined units: {', '.join(manifest.quarantined)}")
    listed = {MANIFEST_NAME}
    for shard in manifest.shards:
        listed.update(shard.files, [f"{shard.name}.json"])
    for name in store.names():
        if name not in listed and name.endswith((".tar", ".parquet", ".json")):
            yield Problem(
                "file:unlisted", store.at(name), "is not in the manifest: left over, or committed since"
            )


def _check_shard(store: Store, shard: ShardRecord, counts: Counter[str]) -> Iterator[Problem]:
    yield from _check_marker(store, shard)
    whole = True
    for name, record in shard.files.items():
        size = store.size(name)
        if size is None:
            yield Problem("file:missing", store.at(name), "the manifest lists it, it is not there")
        elif size != record.bytes:
            kind: Kind = "tar:truncated" if name.endswith(".tar") and size < record.bytes else "file:size"
            yield Problem(kind, store.at(name), f"expected {record.bytes} bytes, got {size}")
        whole = whole and size == record.bytes
    if whole and main_file(shard.files).endswith(".tar"):
        yield from _check_index(store, shard, counts)


def _check_marker(store: Store, shard: ShardRecord) -> Iterator[Problem]:
    where = store.at(f"{shard.name}.json")
    try:
        marker: Marker | None = read_marker(store.url, shard.name, store.options)
    except ShardError as error:
        yield Problem("marker:damaged", where, str(error))
        return
    if marker is None:
        yield Problem("marker:missing", where, "the commit marker is not there, so the shard does not exist")
    elif marker.record() != shard:
        fields = [name for name, value in marker.record() if value != getattr(shard, name)]
        yield Problem("manifest:disagrees", where, f"marker and manifest differ in: {', '.join(fields)}")


def _check_index(store: Store, shard: ShardRecord, counts: Counter[str]) -> Iterator[Problem]:
    """The sidecar against the manifest and against the tar it describes: digest, rows, ranges, keys."""
    name, tar = f"{shard.name}.parquet", f"{shard.name}.tar"
    if name not in shard.files:
        yield Problem("file:missing", store.at(name), "the shard has no index sidecar")
        return
    content = store.read(name)
    if (found := _sha256(content)) != shard.files[name].sha256:
        expected = shard.files[name].sha256
        yield Problem(
            "index:stale", store.at(name), f"stale or changed: sha256 {expected} expected, got {found}"
        )
        return
    try:
        index = read_table(content, store.at(name)).select(FIXED_SCHEMA.names).cast(FIXED_SCHEMA)
    except (ShardError, KeyError, ValueError) as error:
        yield Problem("index:damaged", store.at(name), str(error))
        return
    if index.num_rows != shard.samples:
        what = f"stale: {index.num_rows} rows, {shard.samples} samples in the manifest"
        yield Problem("index:stale", store.at(name), what)
    counts.update(index[KEY].to_pylist())
    yield from _check_ends(store, tar, index, shard.files[tar].bytes)


def _check_ends(store: Store, tar: str, index: pa.Table, size: int) -> Iterator[Problem]:
    """Every range inside the tar, and the closing zero blocks after the last."""
    ends = [m["offset"] + m["size"] for members in index[MEMBERS].to_pylist() for m in members]
    stop = max(ends, default=0)
    stop += -stop % BLOCK
    if stop + 2 * BLOCK > size:
        what = f"the index needs {stop + 2 * BLOCK} bytes, the tar has {size}: stale sidecar or truncated tar"
        yield Problem("index:stale", store.at(tar), what)
    elif any(store.read_range(tar, stop, stop + 2 * BLOCK)):
        yield Problem(
            "index:stale", store.at(tar), f"no closing zero blocks at byte {stop}, where the index ends"
        )


def _check_digest(store: Store, name: str, expected: str) -> Iterator[Problem]:
    """A whole file against the manifest; a tar's members, if they have an index, were found intact."""
    if (found := _stream_sha256(store, name)) != expected:
        place = "; no member's bytes: a header or padding changed" if name.endswith(".tar") else ""
        yield Problem("bytes:changed", store.at(name), f"sha256 {expected} expected, got {found}{place}")


def _compare_members(store: Store, shard: ShardRecord, tar: str) -> Iterator[Problem]:
    """The tar's members as they are now against the ranges and digests in its index."""
    try:
        found = index_tar(store.at(tar), store.options).to_pylist()
    except ShardError as error:
        yield Problem("tar:damaged", store.at(tar), str(error))
        return
    sidecar = f"{shard.name}.parquet"
    expected = read_table(store.read(sidecar), store.at(sidecar)).select(FIXED_SCHEMA.names).to_pylist()
    if [row[KEY] for row in found] != [row[KEY] for row in expected]:
        yield Problem("index:stale", store.at(tar), "the tar's keys are not the index's keys")
        return
    for now, then in zip(found, expected, strict=True):
        if now != then:
            yield _name_change(store.at(tar), now, then)


def _name_change(where: str, now: dict[str, Any], then: dict[str, Any]) -> Problem:
    """The first member of one sample that differs from its index row."""
    key, members = then[KEY], {member["name"]: member for member in now[MEMBERS]}
    for member in then[MEMBERS]:
        current = members.get(member["name"])
        if current is not None and current["sha256"] != member["sha256"]:
            what = f"expected sha256 {member['sha256']}, got {current['sha256']}"
            return Problem("bytes:changed", f"{where}: {key}.{member['name']}", what)
    return Problem(
        "index:stale", f"{where}: {key}", f"index says {then[MEMBERS]}, the tar holds {now[MEMBERS]}"
    )


def _check_tar_alone(url: str) -> Iterator[Problem]:
    """A tar without a manifest: it must read to its end and hold each key once."""
    try:
        index_tar(url)
    except UsageError as error:
        yield Problem("file:missing", url, str(error))
    except ShardError as error:
        yield Problem("key:duplicate" if "duplicate key" in str(error) else "tar:damaged", url, str(error))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _stream_sha256(store: Store, name: str) -> str:
    with store.open(name) as stream:
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 22):
            digest.update(chunk)
    return digest.hexdigest()
