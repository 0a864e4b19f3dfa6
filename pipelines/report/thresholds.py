"""Rules in words, and histograms beside their thresholds, from what `select` wrote of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from curation.rules import DECODE, SUBSET, AtPrecision, PersonLimits, Rule, RuleSet, Sameness
from pipelines.report.charts import histogram_chart
from pipelines.report.html import number, percent

_SIGNS = {"above": ">", "at_least": "≥", "below": "<", "at_most": "≤", "equals": "="}
_UPWARDS, _ORDERED = ("above", "at_least"), ("above", "at_least", "below", "at_most")
_SIDES = {"min": "shorter side", "max": "longer side", "height": "height", "sqrt_area": "root of the area"}
_IN_PIXELS = ("width", "height", "short_side", "long_side")
_FEWEST = 12  # bins that a chart shows at least
_FAINT, _BETWEEN, _FULL = 0.35, 0.65, 1.0  # opacity of bars: rejected, cut by the line, kept


@dataclass(frozen=True)
class Sides:
    """How many values lie below a threshold, in the bin that it cuts (0 when it is an edge), above it."""

    below: int
    cut: int
    above: int


@dataclass(frozen=True)
class Distribution:
    """One histogram, ready for the page. `chart` is an SVG, "" where nothing was measured."""

    rule: str
    condition: str
    chart: str
    told: str


def conditions(rules: RuleSet) -> dict[str, str]:
    """What each step of a selection keeps, in words."""
    told = {DECODE: "decodes as one still JPEG, PNG or WebP image"}
    told |= {rule.reason: condition(rule) for rule in rules.rules}
    if rules.subset is not None:
        told[SUBSET] = f"a share of {number(rules.subset.share)} by key, seed {rules.subset.seed}"
    return told


def condition(rule: Rule) -> str:
    """What one rule keeps."""
    if rule.person is not None:
        side = f"{_SIDES[rule.person.size_rule]} > {rule.person.side_above:g} px"
        return f"a person with score > {_score(rule.person)} and {side}"
    if rule.duplicates is not None:
        return _no_duplicate(rule.duplicates)
    return f"{rule.column} {compared(dict([rule.comparison]))}"


def compared(keeps: Mapping[str, Any]) -> str:
    """ "≥ 96" of {"at_least": 96}."""
    name, wanted = next(iter(keeps.items()))
    if name in _SIGNS:
        return f"{_SIGNS[name]} {_value(wanted)}"
    listed = ", ".join(_value(value) for value in wanted)
    return f"one of {listed}" if name == "one_of" else f"none of {listed}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _score(limits: PersonLimits) -> str:
    if isinstance(limits.score_above, AtPrecision):
        return f"that of precision {limits.score_above.precision:g}"
    return f"{limits.score_above:g}"


def _no_duplicate(same: Sameness) -> str:
    equal = [name for name, wanted in (("bytes", same.bytes), ("pixels", same.pixels)) if wanted]
    near = same.near and f"within {same.near.hamming} bits of hash and {same.near.thumbnail:g} grey levels"
    told = [f"with equal {' or '.join(equal)}"] if equal else []
    return "no other " + " or ".join([*told, near] if near else told)


def distributions(histograms: Sequence[Mapping[str, Any]], rules: RuleSet) -> list[Distribution]:
    """The histograms of a selection's summary (`curation.histograms.Histograms.to_json`) as charts."""
    named = {rule.reason: rule for rule in rules.rules}
    return [_distribution(entry, named[entry["rule"]]) for entry in histograms]


def _distribution(entry: Mapping[str, Any], rule: Rule) -> Distribution:
    label, keeps = _label(entry["column"], rule), entry["keeps"]
    total = entry["below"] + sum(entry["counts"]) + entry["above"]
    told = f"{entry['column']} {compared(keeps)}"
    if not total:
        return Distribution(entry["rule"], told, "", "measured of no image")
    edges, counts = visible(entry)
    strength = [opacity(low, high, keeps) for low, high in pairwise(edges)]
    by_factor = entry["edges"][0] > 0  # bins that grow by a factor; see curation.histograms
    chart = histogram_chart(edges, counts, strength, places(keeps), label, "images", by_factor)
    return Distribution(entry["rule"], told, chart, _told(entry, total))


def _told(entry: Mapping[str, Any], total: int) -> str:
    """The shares on either side of the threshold, and what lies outside the bins."""
    parts = []
    if (found := sides(entry)) is not None:
        shares = [
            (found.below, "below the line"),
            (found.cut, "in the bin it cuts"),
            (found.above, "above it"),
        ]
        if not found.cut:
            del shares[1]
        parts.append(", ".join(f"{count:,} ({percent(count, total)}) {where}" for count, where in shares))
    parts.append(f"measured of {total:,}")
    for name, edge in (("below", entry["edges"][0]), ("above", entry["edges"][-1])):
        if entry[name]:
            parts.append(f"{entry[name]:,} {name} {edge:g}, not drawn")
    return "; ".join(parts)


def _label(column: str, rule: Rule) -> str:
    """What the x axis shows."""
    if rule.person is None:
        return f"{column} (px)" if column in _IN_PIXELS else column
    if column == "score":
        return "best score of a person"
    return f"largest {_SIDES[rule.person.size_rule]} of a person (px)"


def places(keeps: Mapping[str, Any]) -> list[float]:
    """Where the lines of a threshold stand."""
    wanted = next(iter(keeps.values()))
    return [float(value) for value in (wanted if isinstance(wanted, list | tuple) else [wanted])]


def sides(entry: Mapping[str, Any]) -> Sides | None:
    """The counts on either side of a threshold; None where a rule has no sides (equals, one_of, none_of)."""
    name, wanted = next(iter(entry["keeps"].items()))
    if name not in _ORDERED:
        return None
    edges = [-math.inf, *entry["edges"], math.inf]
    found = [0, 0, 0]
    counts = [entry["below"], *entry["counts"], entry["above"]]
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        found[_position(low, high, wanted)] += count
    return Sides(*found)


def _position(low: float, high: float, threshold: float) -> int:
    """0: a bin below the threshold, 2: above it, 1: cut by it."""
    if high <= threshold or math.isclose(high, threshold):
        return 0
    return 2 if low >= threshold or math.isclose(low, threshold) else 1


def opacity(low: float, high: float, keeps: Mapping[str, Any]) -> float:
    """Of a bin's bar: full where its values are kept, faint where they are not."""
    name, wanted = next(iter(keeps.items()))
    if name in _ORDERED:
        place = _position(low, high, wanted)
        return _BETWEEN if place == 1 else _FULL if (place == 2) == (name in _UPWARDS) else _FAINT
    inside = any(low <= value < high for value in places(keeps))
    return _FULL if inside != (name == "none_of") else _FAINT


def visible(entry: Mapping[str, Any]) -> tuple[list[float], list[int]]:
    """(edges, counts) from the first to the last bin that holds something or a threshold, and one more."""
    edges, counts = entry["edges"], entry["counts"]
    shown = [number for number, count in enumerate(counts) if count]
    for place in places(entry["keeps"]):
        shown += [number for number in range(len(counts)) if edges[number] <= place <= edges[number + 1]]
    first, last = (min(shown), max(shown)) if shown else (0, 0)
    first = max(0, first - 1)
    last = min(len(counts) - 1, max(last + 1, first + _FEWEST - 1))
    first = max(0, min(first, last - _FEWEST + 1))
    return edges[first : last + 2], counts[first : last + 1]
