"""Rows of tables, whatever the table: their values, and which of their columns may hold the image."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

# In order of preference; compared without case.
BYTES_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "content", "data")
BASE64_COLUMNS = ("image_bytes", "bytes", "base64", "image_base64", "b64")
PATH_COLUMNS = ("image", "img", "path", "image_path", "img_path", "file_path", "filepath", "file_name",
                "filename", "file")  # fmt: skip
URL_COLUMNS = ("url", "image_url", "img_url", "uri")


class Row(NamedTuple):
    """`values`: by column, bytes as memoryview; None when the row is no row. `columns`: those that may hold
    its image, best first.
    """

    offset: int
    values: Mapping[str, Any] | None
    columns: tuple[str, ...]


def by_preference(names: Iterable[str], wanted: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that are among `wanted`, in the order of `wanted`."""
    lower = {name.lower(): name for name in reversed(list(names))}
    return tuple(lower[name] for name in wanted if name in lower)
