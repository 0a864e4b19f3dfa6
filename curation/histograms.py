"""How a rule's column is distributed, beside its threshold: counts over fixed bins, added up batch by
batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int32, Int64

from curation.rules import NUMERIC, Rule, RuleSet
from curation.verdicts import Boxes, values

_SHARES = tuple(k / 50 for k in range(51))  # what lies in 0..1 by definition
_OCTAVES = tuple(
    2.0 ** (k / 4) for k in range(-40, 97)
)  # anything else: quarter octaves, 0.001 to 16 million
_PIXELS = tuple(float(k) for k in range(0, 4097, 32))
_COUNTS = tuple(k - 0.5 for k in range(65))
_BINS = {
    **dict.fromkeys(
        ("text_area", "watermark", "art", "unnatural", "brightness", "flatness", "score"), _SHARES
    ),
    **dict.fromkeys(("width", "height", "short_side", "long_side", "side"), _PIXELS),
    "people": _COUNTS,
}


@dataclass
class Histograms:
    """One per numeric rule and two per person rule (best score of an image; largest side among the boxes that
    score enough), over all rows where the column was measured.
    """

    rules: RuleSet
    counts: dict[tuple[str, str], Int64[np.ndarray, " bins"]] = field(default_factory=dict)

    def add(self, table: pa.Table, people: Int32[np.ndarray, " rows"], boxes: Boxes) -> None:
        """Count the rows of one batch."""
        for rule in self.rules.rules:
            for name, found in _measured(rule, table, people, boxes):
                counted = count(found, edges_of(name))
                place = (rule.reason, name)
                self.counts[place] = self.counts[place] + counted if place in self.counts else counted

    def merge(self, other: "Histograms") -> None:
        """Add what another one has counted."""
        for place, counted in other.counts.items():
            self.counts[place] = self.counts[place] + counted if place in self.counts else counted

    def to_json(self) -> list[dict[str, Any]]:
        """In the order of the rules: {"rule", "column", "keeps": {"at_most": 0.02}, "edges", "below",
        "counts", "above"}; counts[i] are the values in edges[i] <= value < edges[i + 1] (the last bin is
        closed).
        """
        found = []
        for rule in self.rules.rules:
            for name, keeps in _thresholds(rule):
                edges = edges_of(name)
                counted = self.counts.get((rule.reason, name), np.zeros(len(edges) + 1, np.int64)).tolist()
                entry = {"rule": rule.reason, "column": name, "keeps": keeps, "edges": list(edges)}
                found.append(entry | {"below": counted[0], "counts": counted[1:-1], "above": counted[-1]})
        return found


def edges_of(name: str) -> tuple[float, ...]:
    """The fixed bin edges of a column, or of a box's `score` and `side` (px)."""
    return _BINS.get(name, _OCTAVES)


def count(found: Float64[np.ndarray, " values"], edges: tuple[float, ...]) -> Int64[np.ndarray, " bins"]:
    """[below the first edge, each bin ..., above the last edge]; the last bin includes its upper edge."""
    bounds = np.array(edges)
    place = np.searchsorted(bounds, found, side="right")
    place[found == bounds[-1]] = len(bounds) - 1
    return np.bincount(place, minlength=len(bounds) + 1)


def _thresholds(rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    if rule.person is not None:
        yield "score", {"above": rule.person.score_above}
        yield "side", {"above": rule.person.side_above}
    elif rule.column in NUMERIC:
        yield str(rule.column), dict([rule.comparison])


def _measured(
    rule: Rule, table: pa.Table, people: Int32[np.ndarray, " rows"], boxes: Boxes
) -> Iterator[tuple[str, Float64[np.ndarray, " values"]]]:
    if rule.person is not None:
        assert isinstance(rule.person.score_above, float | int)  # resolved before anything is counted
        yield "score", _largest(boxes.row, boxes.score)
        sure = boxes.score > np.float32(rule.person.score_above)
        yield "side", _largest(boxes.row[sure], boxes.side(rule.person.size_rule)[sure])
    elif rule.column in NUMERIC:
        column = values(table, str(rule.column), people).drop_null()
        yield str(rule.column), column.to_numpy(zero_copy_only=False).astype(np.float64)


def _largest(row: Int64[np.ndarray, " boxes"], value: Any) -> Float64[np.ndarray, " rows_with_boxes"]:
    """The largest value of each row that has any; `row` ascends."""
    if not len(row):
        return np.zeros(0)
    first = np.flatnonzero(np.diff(row, prepend=row[0] - 1))
    largest: Float64[np.ndarray, " rows_with_boxes"] = np.maximum.reduceat(value, first).astype(np.float64)
    return largest
