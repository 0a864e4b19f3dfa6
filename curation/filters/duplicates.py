"""Exact duplicates: the same bytes under two names, or the same pixels in two files (other EXIF, other
compression level).
"""

from hashlib import sha256
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.boxes import RGB

PREFIX = "duplicate:"
Sameness = Literal["none", "bytes", "pixels"]
_COLUMN = {"bytes": "key", "pixels": "pixel_sha256"}


def pixel_sha256(image: RGB) -> str:
    """sha256 over height, width (little-endian uint32) and the RGB bytes, as 64 hex digits."""
    digest = sha256(np.array(image.shape[:2], "<u4").tobytes())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def duplicate_rule(table: pa.Table, sameness: Sameness) -> pa.ChunkedArray:
    """`duplicate:<key>`, the key of the one that stays, for all but the first of each group of equal images.

    First by key, then source, then place in the tar: an order that no sharding of the pool can change. Equal
    pixels were measured alike, so whatever else would reject one of a group rejects all of it.
    """
    none = pa.nulls(table.num_rows, pa.string())
    if sameness == "none" or not table.num_rows:
        return pa.chunked_array([none])
    identity = table[_COLUMN[sameness]]
    order = pc.sort_indices(
        pa.table({"key": table["key"], "source": table["source"], "offset": table["offset"]}),
        [("key", "ascending"), ("source", "ascending"), ("offset", "ascending")],
    )
    row, key = np.arange(table.num_rows), table["key"].to_numpy(zero_copy_only=False)
    codes = identity.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    ranked = order.to_numpy()
    _, first = np.unique(codes[ranked], return_index=True)  # the first of each group in `order`
    stays = np.full(codes.max(initial=-1) + 2, -1)
    stays[codes[ranked][first]] = ranked[first]
    keeper = np.where(codes >= 0, stays[codes], row)
    reasons = [PREFIX + key[stay] if stay != own else None for own, stay in zip(row, keeper, strict=True)]
    return pa.chunked_array([pa.array(reasons, pa.string())])
