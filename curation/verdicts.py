"""What each row of a table is, by rules that look at one row alone: arrays in, arrays out, no state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8, UInt64

from curation.columns import DECODED_OK
from curation.rules import DECODE, SUBSET, PersonLimits, Rule, RuleSet, SizeRule, Subset

PASSES = 255  # the step of a row that no rule has rejected so far
PERSON_DETAILS = ("none", "score", "small")
_DERIVED_FROM = {
    "short_side": ("width", "height"),
    "long_side": ("width", "height"),
    "aspect": ("width", "height"),
    "megapixels": ("width", "height"),
    "people": ("person_boxes",),
}


@dataclass(frozen=True)
class Boxes:
    """All boxes of a table: the row of each, its score and its sides in pixels."""

    row: Int64[np.ndarray, " boxes"]
    score: Float32[np.ndarray, " boxes"]
    width: Float32[np.ndarray, " boxes"]
    height: Float32[np.ndarray, " boxes"]

    def side(self, rule: SizeRule) -> Float32[np.ndarray, " boxes"]:
        """The side that `rule` looks at, in pixels."""
        if rule == "height":
            return self.height
        if rule == "sqrt_area":
            side: Float32[np.ndarray, " boxes"] = np.sqrt(self.width * self.height)
            return side
        chosen: Float32[np.ndarray, " boxes"] = (np.minimum if rule == "min" else np.maximum)(
            self.width, self.height
        )
        return chosen


@dataclass(frozen=True)
class Verdicts:
    """For each row: the first step (position in `RuleSet.steps`) that rejects it, or PASSES; which of the
    step's reasons (position in PERSON_DETAILS, or of the status); how many people were counted.
    """

    step: UInt8[np.ndarray, " rows"]
    detail: UInt8[np.ndarray, " rows"]
    people: Int32[np.ndarray, " rows"]
    statuses: tuple[str, ...]  # what `detail` means at the step `decode`


def needed_columns(rules: RuleSet) -> tuple[str, ...]:
    """The columns of `annotate` that `judge` looks at."""
    columns = {"key", "status", "person_boxes"}
    for rule in rules.rules:
        if rule.column is not None:
            columns.update(_DERIVED_FROM.get(rule.column, (rule.column,)))
    return tuple(sorted(columns))


def judge(table: pa.Table, rules: RuleSet, boxes: Boxes | None = None) -> Verdicts:
    """Apply every rule that looks at one row alone.

    Duplicates rules are passed over (`curation.ledger` resolves them among the rows that got so far), and so
    is the subset (whoever is no duplicate of whom must not depend on it).
    """
    boxes = boxes or read_boxes(table)
    people = count_people(boxes, rules.people.score_above, table.num_rows)
    step = np.full(table.num_rows, PASSES, np.uint8)
    detail = np.zeros(table.num_rows, np.uint8)
    status = table["status"].combine_chunks().dictionary_encode()
    statuses = tuple(status.dictionary.to_pylist())
    named = {rule.reason: rule for rule in rules.rules}
    for number, name in enumerate(rules.steps):
        if name == DECODE:
            rejected, which = pc.not_equal(table["status"], DECODED_OK).to_numpy(), status.indices.to_numpy()
        elif name != SUBSET:
            rejected, which = _apply(named[name], table, boxes, people)
        else:
            continue
        new = rejected & (step == PASSES)
        step[new] = number
        detail[new] = which[new] if isinstance(which, np.ndarray) else which
    return Verdicts(step, detail, people, statuses)


def read_boxes(table: pa.Table) -> Boxes:
    """The person boxes of a table; a row that was not looked at has none."""
    column = table["person_boxes"].combine_chunks()
    row = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    flat = column.flatten()
    corner = {
        name: flat.field(name).to_numpy(zero_copy_only=False).astype(np.float32)
        for name in ("x0", "y0", "x1", "y1", "score")
    }
    return Boxes(row, corner["score"], corner["x1"] - corner["x0"], corner["y1"] - corner["y0"])


def count_people(boxes: Boxes, score_above: float, rows: int) -> Int32[np.ndarray, " rows"]:
    """Number of boxes with score > `score_above` of each row (paper, Fig. 2)."""
    sure = boxes.score > np.float32(score_above)
    return np.bincount(boxes.row[sure], minlength=rows).astype(np.int32)


def values(table: pa.Table, name: str, people: Int32[np.ndarray, " rows"]) -> pa.Array:
    """A column of `annotate`, or one derived from it: short_side, long_side (px), aspect (long / short, >=
    1), megapixels, people.
    """
    if name == "people":
        return pa.array(people)
    if name not in _DERIVED_FROM:
        return table[name].combine_chunks()
    width, height = (table[side].combine_chunks() for side in ("width", "height"))
    if name == "short_side":
        return pc.min_element_wise(width, height)
    if name == "long_side":
        return pc.max_element_wise(width, height)
    wide, high = width.cast(pa.float64()), height.cast(pa.float64())
    if name == "megapixels":
        return pc.divide(pc.multiply(wide, high), 1e6)
    return pc.divide(pc.max_element_wise(wide, high), pc.min_element_wise(wide, high))


def in_subset(key: UInt64[np.ndarray, "rows 2"], subset: Subset) -> Bool[np.ndarray, " rows"]:
    """Where `draw(key, seed)` < share: the same for a key wherever it lies, and nested by construction."""
    if subset.share == 1:
        return np.ones(len(key), bool)
    return draw(key, subset.seed) < subset.share


def draw(key: UInt64[np.ndarray, "rows 2"], seed: int) -> Float64[np.ndarray, " rows"]:
    """A number in [0, 1) for each key: splitmix64's finaliser (Steele et al., 2014) over both halves of the
    key and the seed, upper 53 bits.
    """
    state = _mix(key[:, 0] ^ _mix(np.array([seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15)))
    mixed = _mix(state ^ key[:, 1])
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def details(rule: Rule) -> tuple[str, ...]:
    """The reasons that a rule can give, without what is peculiar to one row."""
    if rule.person is not None:
        return tuple(f"{rule.reason}:{detail}" for detail in PERSON_DETAILS)
    return (rule.reason,)


def _apply(
    rule: Rule, table: pa.Table, boxes: Boxes, people: Int32[np.ndarray, " rows"]
) -> tuple[Bool[np.ndarray, " rows"], UInt8[np.ndarray, " rows"] | int]:
    """(which rows the rule rejects, for which of its reasons)."""
    if rule.duplicates is not None:
        return np.zeros(table.num_rows, bool), 0
    if rule.person is not None:
        return _apply_person(rule.person, table, boxes)
    assert rule.column is not None
    column = values(table, rule.column, people)
    kept = _COMPARE[rule.comparison[0]](column, _as_typed(rule.comparison[1], column.type))
    if column.null_count:  # what was not measured is kept
        kept = pc.or_(pc.is_null(column), pc.fill_null(kept, True))
    return ~kept.to_numpy(zero_copy_only=False), 0


def _apply_person(
    limits: PersonLimits, table: pa.Table, boxes: Boxes
) -> tuple[Bool[np.ndarray, " rows"], UInt8[np.ndarray, " rows"]]:
    none, score, small = range(3)
    sure = boxes.score > np.float32(_number(limits))
    large = sure & (boxes.side(limits.size_rule) > np.float32(limits.side_above))
    why = np.full(table.num_rows, none, np.uint8)
    why[boxes.row] = score
    why[boxes.row[sure]] = small
    rejected = np.ones(table.num_rows, bool)
    rejected[boxes.row[large]] = False
    rejected[table["person_boxes"].is_null().to_numpy()] = False  # not looked at: not this rule's affair
    return rejected, why


def _number(limits: PersonLimits) -> float:
    if not isinstance(limits.score_above, float | int):
        raise TypeError("call RuleSet.resolved() first: score_above is still a precision")
    return limits.score_above


def _as_typed(wanted: Any, kind: pa.DataType) -> Any:
    """The threshold in the column's own precision: 0.02 of a float32 column is float32's 0.02."""
    if pa.types.is_floating(kind):
        numbers = [float(value) for value in (wanted if isinstance(wanted, tuple) else (wanted,))]
        typed = pa.array(numbers, pa.float64()).cast(kind, safe=False)
    elif pa.types.is_string(kind):
        typed = pa.array(wanted if isinstance(wanted, tuple) else (wanted,), kind)
    else:
        typed = pa.array([float(value) for value in (wanted if isinstance(wanted, tuple) else (wanted,))])
    return typed if isinstance(wanted, tuple) else typed[0]


def _is_in(column: pa.Array, wanted: pa.Array) -> pa.Array:
    if not pa.types.is_string(column.type) and column.type != wanted.type:
        column = column.cast(wanted.type, safe=False)
    return pc.is_in(column, value_set=wanted)


_COMPARE: Mapping[str, Any] = {
    "above": pc.greater,
    "at_least": pc.greater_equal,
    "below": pc.less,
    "at_most": pc.less_equal,
    "equals": pc.equal,
    "one_of": _is_in,
    "none_of": lambda column, wanted: pc.invert(_is_in(column, wanted)),
}


def _mix(state: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[np.ndarray, " n"] = state ^ (state >> np.uint64(31))
    return mixed
