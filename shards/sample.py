"""A sample (files that share a key), its key, and the one JSON spelling whose bytes may be digested."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shards.errors import ShardError


@dataclass(frozen=True)
class Sample:
    """Files that share a key inside a tar.

    `key`: ours are 32 lower-case hex digits; in foreign tars whatever stands before the first dot of the file
    name. `members`: extension without the leading dot ("jpg", "rgb.png", "json") -> the file's bytes.
    """

    key: str
    members: Mapping[str, bytes]

    def meta(self) -> dict[str, Any]:
        """The parsed "json" member; {} when there is none. Raises ShardError when it is not a JSON object."""
        if "json" not in self.members:
            return {}
        try:
            content = json.loads(self.members["json"])
        except ValueError as error:
            raise ShardError(f"sample {self.key!r}: its json member is not JSON: {error}") from None
        if not isinstance(content, dict):
            raise ShardError(
                f"sample {self.key!r}: its json member must hold an object, got {type(content).__name__}"
            )
        return content


def content_key(data: bytes) -> str:
    """The key of a file by what it holds: the first 128 bits of its sha256, as 32 hex digits."""
    return hashlib.sha256(data).hexdigest()[:32]


def canonical_json(value: Any) -> bytes:
    """The one spelling of `value` as JSON: sorted keys, no spaces, UTF-8.

    Raises ShardError for NaN, infinities, lone surrogates and anything JSON cannot hold.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise ShardError(f"not expressible as canonical JSON: {error}") from None


def digest_json(value: Any) -> str:
    """sha256 of `canonical_json(value)`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
