"""What a dataset, a stage's output or a single tar holds, as plain data for `inspect`."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.index import FIXED_SCHEMA, MEMBERS, index_tar
from shards.reader import Dataset


def summarise(url: Path | str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Shards, samples, bytes, members, rejects, provenance and index columns of a dataset or of one tar.

    Reads the manifest and the indexes, of a lone tar the whole file. The result is JSON-ready.
    """
    if str(url).endswith(".tar"):
        index = index_tar(url, options)
        return {"url": str(url), "shards": 1, "samples": index.num_rows, "members": _members(index)}
    dataset = Dataset.open(url, options)
    manifest, table = dataset.manifest, dataset.table()
    rejects: Counter[str] = Counter()
    for shard in manifest.shards:
        rejects.update(shard.rejects)
    return {
        "url": dataset.store.url,
        "digest": manifest.digest,
        "shards": len(manifest.shards),
        "samples": manifest.samples,
        "bytes": sum(file.bytes for shard in manifest.shards for file in shard.files.values()),
        "members": _members(table),
        "columns": {field.name: str(field.type) for field in table.schema if field.name != MEMBERS},
        "rejects": dict(sorted(rejects.items())),
        "quarantined": list(manifest.quarantined),
        "provenance": manifest.provenance,
        "shard_list": [
            {
                "name": shard.name,
                "samples": shard.samples,
                "sha256": shard.sha256,
                "bytes": _bytes(shard.files),
            }
            for shard in manifest.shards
        ],
    }


def _bytes(files: Mapping[str, Any]) -> int:
    return sum(file.bytes for file in files.values())


def _members(index: pa.Table) -> dict[str, dict[str, int]]:
    """Per extension: how many samples have it, and its bytes in all; {} for tables that hold no samples."""
    if (
        MEMBERS not in index.column_names
        or index.schema.field(MEMBERS).type != FIXED_SCHEMA.field(MEMBERS).type
    ):
        return {}
    flat = pa.Table.from_struct_array(index[MEMBERS].combine_chunks().flatten())
    grouped = flat.group_by("name").aggregate([("size", "count"), ("size", "sum")]).sort_by("name")
    return {
        row["name"]: {"samples": row["size_count"], "bytes": row["size_sum"]} for row in grouped.to_pylist()
    }
