"""How samples travel: deterministic tars, index sidecars, commit markers, manifests, reader, units of work,
config, errors.

This room knows bytes, not labels. The names below are its public interface; each is imported from its module
when it is first used, so that `vitruvian --help` pays for neither pyarrow nor pydantic.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shards.config import Config, load_config, parse_config
    from shards.errors import ShardError, UsageError, VitruvianError
    from shards.files import sha256_file, write_atomic
    from shards.index import index_tar, write_table
    from shards.manifest import (
        FileRecord,
        Manifest,
        Marker,
        ShardRecord,
        commit_files,
        read_manifest,
        read_marker,
        write_manifest,
    )
    from shards.reader import Dataset, read_tar
    from shards.sample import Sample, canonical_json, content_key, digest_json
    from shards.summary import summarise
    from shards.units import (
        Outcome,
        Quarantined,
        Stage,
        Unit,
        close_stage,
        code_digest,
        open_stage,
        pending,
        quarantined,
        run_unit,
    )
    from shards.verify import Problem, verify_bytes, verify_structure
    from shards.writer import ShardWriter

_MODULES = {
    "config": ("Config", "load_config", "parse_config"),
    "errors": ("ShardError", "UsageError", "VitruvianError"),
    "files": ("sha256_file", "write_atomic"),
    "index": ("index_tar", "write_table"),
    "manifest": (
        "FileRecord",
        "Manifest",
        "Marker",
        "ShardRecord",
        "commit_files",
        "read_manifest",
        "read_marker",
        "write_manifest",
    ),
    "reader": ("Dataset", "read_tar"),
    "sample": ("Sample", "canonical_json", "content_key", "digest_json"),
    "summary": ("summarise",),
    "units": (
        "Outcome",
        "Quarantined",
        "Stage",
        "Unit",
        "close_stage",
        "code_digest",
        "open_stage",
        "pending",
        "quarantined",
        "run_unit",
    ),
    "verify": ("Problem", "verify_bytes", "verify_structure"),
    "writer": ("ShardWriter",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Config",
    "Dataset",
    "FileRecord",
    "Manifest",
    "Marker",
    "Outcome",
    "Problem",
    "Quarantined",
    "Sample",
    "ShardError",
    "ShardRecord",
    "ShardWriter",
    "Stage",
    "Unit",
    "UsageError",
    "VitruvianError",
    "canonical_json",
    "close_stage",
    "code_digest",
    "commit_files",
    "content_key",
    "digest_json",
    "index_tar",
    "load_config",
    "open_stage",
    "parse_config",
    "pending",
    "quarantined",
    "read_manifest",
    "read_marker",
    "read_tar",
    "run_unit",
    "sha256_file",
    "summarise",
    "verify_bytes",
    "verify_structure",
    "write_atomic",
    "write_manifest",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'shards' has no attribute {name!r}")
    return getattr(import_module(f"shards.{_HOME[name]}"), name)
