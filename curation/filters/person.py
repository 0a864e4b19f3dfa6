"""Images without a person, or with too small or too doubtful ones. The boxes come from the detector."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32

NONE, SCORE, SMALL = "person:none", "person:score", "person:small"
SizeRule = Literal["min", "max", "height"]


def person_rule(
    table: pa.Table, min_score: float, min_box_side: float, size_rule: SizeRule
) -> pa.ChunkedArray:
    """Keep an image with at least one box of score > `min_score` and side > `min_box_side` px, both strict.

    Else `person:none` (no box at all), `person:score` (none scores enough), `person:small` (those that do are
    small). Side: the box's shorter (`min`, the literal reading of the paper's "dimensions exceeding 300
    pixels", section 3.1), longer (`max`) or vertical (`height`) one.
    """
    row, sure = _flags(table, min_score)
    large = sure & (_side(table, size_rule) > np.float32(min_box_side))
    reasons = np.full(table.num_rows, NONE, object)
    reasons[row] = SCORE
    reasons[row[sure]] = SMALL
    reasons[row[large]] = None
    reasons[table["person_boxes"].is_null().to_numpy()] = None  # not decoded: not this rule's affair
    return pa.chunked_array([pa.array(reasons, pa.string())])


def count_people(table: pa.Table, min_score: float) -> pa.ChunkedArray:
    """Number of boxes with score > `min_score` in each row, int32."""
    row, sure = _flags(table, min_score)
    counts = np.bincount(row[sure], minlength=table.num_rows).astype(np.int32)
    return pa.chunked_array([pa.array(counts)])


def _flags(table: pa.Table, min_score: float) -> tuple[np.ndarray, Bool[np.ndarray, " boxes"]]:
    """(the row of each box, whether its score is above `min_score`) over all boxes of the table."""
    column = table["person_boxes"].combine_chunks()
    row = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    return row, _field(table, "score") > np.float32(min_score)


def _side(table: pa.Table, size_rule: SizeRule) -> Float32[np.ndarray, " boxes"]:
    width: Float32[np.ndarray, " boxes"] = _field(table, "x1") - _field(table, "x0")
    height: Float32[np.ndarray, " boxes"] = _field(table, "y1") - _field(table, "y0")
    if size_rule == "height":
        return height
    side: Float32[np.ndarray, " boxes"] = (np.minimum if size_rule == "min" else np.maximum)(width, height)
    return side


def _field(table: pa.Table, name: str) -> Float32[np.ndarray, " boxes"]:
    boxes = table["person_boxes"].combine_chunks().flatten()
    values: Float32[np.ndarray, " boxes"] = (
        boxes.field(name).to_numpy(zero_copy_only=False).astype(np.float32)
    )
    return values
