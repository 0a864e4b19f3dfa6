"""Images too small to train on. Their sizes come with decoding."""

import pyarrow as pa
import pyarrow.compute as pc

REASON = "size:small"


def size_rule(table: pa.Table, min_image_side: int) -> pa.ChunkedArray:
    """`size:small` where the shorter side of the upright image is under `min_image_side` pixels."""
    small = pc.less(pc.min_element_wise(table["width"], table["height"]), min_image_side)
    return pc.if_else(small, REASON, pa.scalar(None, pa.string()))
