"""What exists: the commit marker of one shard (or table) and the manifest of a dataset.

A shard without its marker does not exist; a dataset is what its manifest lists. Whatever varies between runs
(time, host, worker, attempt) stands in a marker's `run` and nowhere else.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from shards.config import Config, explain
from shards.errors import ShardError, UsageError
from shards.files import MANIFEST_NAME, check_name, discard_temporaries, flush, sha256_file, write_atomic
from shards.sample import canonical_json, digest_json
from shards.storage import Store

SCHEMA_VERSION = 1
MAIN_SUFFIXES = (".tar", ".parquet")


class FileRecord(Config):
    """One committed file: its sha256 (64 hex digits) and its size."""

    sha256: str
    bytes: int


class Marker(Config):
    """`<name>.json`, written last: this shard is whole, made by this stage from these inputs."""

    schema_version: int = SCHEMA_VERSION
    name: str
    files: dict[str, FileRecord]
    samples: int
    rejects: dict[str, int]
    inputs: dict[str, str]
    stage_name: str
    stage_key: str
    run: dict[str, Any]

    def record(self) -> "ShardRecord":
        """What the manifest says of this shard: everything about its bytes, nothing about the run."""
        return ShardRecord(
            name=self.name,
            sha256=self.files[main_file(self.files)].sha256,
            samples=self.samples,
            rejects=self.rejects,
            files=self.files,
        )


class ShardRecord(Config):
    """One line of the manifest. `sha256` is that of the main file: `<name>.tar`, or a table's
    `<name>.parquet`.
    """

    name: str
    sha256: str
    samples: int
    rejects: dict[str, int]
    files: dict[str, FileRecord]


class Manifest(Config):
    """`manifest.json`: the shards sorted by name, their digest, where they come from.

    `digest` covers the shards (names, bytes, counts), not the provenance: the same data has the same digest
    whoever made it. `quarantined` names the units that failed for good; a complete dataset has none.
    """

    schema_version: int = SCHEMA_VERSION
    shards: tuple[ShardRecord, ...]
    samples: int
    digest: str
    quarantined: tuple[str, ...] = ()
    provenance: dict[str, Any]


ModelT = TypeVar("ModelT", Marker, Manifest)


def main_file(files: Mapping[str, Any]) -> str:
    """The file whose sha256 stands for the shard: the tar, else the table, else the first by name."""
    for suffix in MAIN_SUFFIXES:
        for file in sorted(files):
            if file.endswith(suffix):
                return file
    return min(files)


def commit_files(
    folder: Path,
    name: str,
    files: Mapping[str, Path],
    *,
    samples: int,
    rejects: Mapping[str, int],
    stage_name: str,
    stage_key: str,
    inputs: Mapping[str, str],
    run: Mapping[str, Any] | None = None,
) -> Marker:
    """Make finished temporary files the shard `name` of `folder`: all of them, or (killed on the way) none.

    `files`: final file name, `<name>.<something>` -> the temporary file, in the same file system (see
    `shards.files.temporary_path`). Order: an old marker goes first, then each file is fsynced and renamed,
    then the new marker appears. Host, process and time are added to `run`. Raises UsageError for a bad name.
    """
    _check_files(name, files)
    marker = Marker(
        name=name,
        files={file: _record(files[file]) for file in sorted(files)},
        samples=samples,
        rejects=dict(sorted(rejects.items())),
        inputs=dict(sorted(inputs.items())),
        stage_name=stage_name,
        stage_key=stage_key,
        run={"host": socket.gethostname(), "pid": os.getpid(), "committed": time.time(), **(run or {})},
    )
    content = _dump(marker)
    remove_marker(folder, name)
    for file, temporary in files.items():
        flush(temporary)
        temporary.replace(folder / file)
    flush(folder)
    write_atomic(folder / f"{name}.json", content)
    discard_temporaries(folder, name)
    return marker


def remove_marker(folder: Path, name: str) -> None:
    """Make the shard `name` not exist, durably, before its files change."""
    marker = folder / f"{name}.json"
    if marker.exists():
        marker.unlink()
        flush(folder)


def read_marker(folder: Path | str, name: str, options: Mapping[str, Any] | None = None) -> Marker | None:
    """The marker of shard `name` in a folder or fsspec URL; None when there is none. Raises ShardError when
    damaged.
    """
    store = Store(str(folder), options or {})
    try:
        content = store.read(f"{name}.json")
    except FileNotFoundError:
        return None
    return _parse(content, Marker, store.at(f"{name}.json"))


def read_markers(folder: Path) -> dict[str, Marker]:
    """Every readable marker of a local folder, by name; JSON files that are no markers are passed over."""
    markers = {}
    for path in sorted(folder.glob("*.json")):
        if path.name != MANIFEST_NAME and not path.name.startswith("."):
            try:
                markers[path.stem] = _parse(path.read_bytes(), Marker, str(path))
            except ShardError:
                continue
    return markers


def dataset_digest(shards: tuple[ShardRecord, ...]) -> str:
    """sha256 over the canonical JSON of the sorted shard records and the schema version."""
    return digest_json({"schema_version": SCHEMA_VERSION, "shards": [shard.model_dump() for shard in shards]})


def write_manifest(
    folder: Path, provenance: Mapping[str, Any], quarantined: tuple[str, ...] = ()
) -> Manifest:
    """List every committed shard of `folder` in its `manifest.json`; the file is left alone when nothing
    changed.

    `provenance`: plain data that does not vary between runs (stage, key, configuration, input digests).
    """
    folder.mkdir(parents=True, exist_ok=True)
    markers = read_markers(folder)
    shards = tuple(markers[name].record() for name in sorted(markers))
    manifest = Manifest(
        shards=shards,
        samples=sum(shard.samples for shard in shards),
        digest=dataset_digest(shards),
        quarantined=tuple(sorted(quarantined)),
        provenance=dict(provenance),
    )
    content, path = _dump(manifest), folder / MANIFEST_NAME
    if not path.exists() or path.read_bytes() != content:
        write_atomic(path, content)
    return manifest


def read_manifest(url: Path | str, options: Mapping[str, Any] | None = None) -> Manifest:
    """The manifest of a dataset: a folder, an fsspec URL of one, or of its `manifest.json`.

    Raises UsageError when there is none, ShardError when it is damaged or its digest disagrees with its
    shards.
    """
    store = Store(str(url).removesuffix(f"/{MANIFEST_NAME}"), options or {})
    try:
        content = store.read(MANIFEST_NAME)
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{store.url}: no {MANIFEST_NAME} there: not a dataset, or the run that makes it has not finished"
        ) from None
    where = store.at(MANIFEST_NAME)
    manifest = _parse(content, Manifest, where)
    expected = dataset_digest(manifest.shards)
    if manifest.digest != expected:
        raise ShardError(
            f"{where}: its digest is {manifest.digest}, but its shards give {expected}: edited by hand?"
        )
    return manifest


def _check_files(name: str, files: Mapping[str, Path]) -> None:
    check_name(name)
    for file in files:
        if not file.startswith(f"{name}.") or "/" in file or file == f"{name}.json":
            raise UsageError(
                f"shard {name!r}: file name {file!r}: expected '{name}.<extension>', not the marker's"
            )
    if not files:
        raise UsageError(f"shard {name!r}: no files to commit")


def _record(path: Path) -> FileRecord:
    return FileRecord(sha256=sha256_file(path), bytes=path.stat().st_size)


def _dump(model: Marker | Manifest) -> bytes:
    # Indented for readers and diffs, yet one spelling: canonical_json refuses what has none.
    content = json.loads(canonical_json(model.model_dump()))
    return (json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def _parse(content: bytes, model: type[ModelT], where: str) -> ModelT:
    """Validate JSON bytes as `model`; any damage is a ShardError that names the file."""
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise ShardError(f"{where}: not JSON: {error}") from None
    if isinstance(parsed, dict) and parsed.get("schema_version") != SCHEMA_VERSION:
        found = parsed.get("schema_version")
        raise ShardError(f"{where}: schema_version {found!r}, this version reads {SCHEMA_VERSION}")
    try:
        return model.model_validate(parsed)
    except ValidationError as error:
        raise ShardError(explain(error, model, where)) from None
