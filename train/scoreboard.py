"""metrics.json as a table to read: the model with its intervals, the baselines, and what was published."""

from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = ("iou/",)
"""Scores by class are left to metrics.json."""
UNKNOWN = "-"


def scoreboard(metrics: Mapping[str, Any]) -> str:
    """Plain text: a line for each score, a column for each contender; what was published, a line for each
    model; how it was done.
    """
    baselines: Mapping[str, Mapping[str, float]] = metrics["baselines"]
    sure: Mapping[str, Sequence[float]] = metrics["intervals"]["metrics"]
    table = [["", "model", "95 %", *baselines, "unit"]]
    for name, score in metrics["metrics"].items():
        if not name.startswith(HIDDEN):
            low_high = " .. ".join(_number(value) for value in sure[name]) if name in sure else UNKNOWN
            others = [_number(scores.get(name)) for scores in baselines.values()]
            unit = metrics["units"][name].replace("share of 1", "")
            table.append([name, _number(score), low_high, *others, unit])
    return "\n".join([*_aligned(table), *_notes(metrics), *_published(metrics)])


def _published(metrics: Mapping[str, Any]) -> list[str]:
    """This model above the published ones, in the published scores."""
    found = metrics["published"]
    if found is None:
        return []
    if "withheld" in found:
        return [f"published figures ({found['protocol']}): not shown, {found['withheld']}"]
    rows: Mapping[str, Mapping[str, float]] = {"this model": metrics["metrics"], **found["rows"]}
    scores = list(next(iter(found["rows"].values())))
    table = [["", *scores]]
    table += [[model, *(_number(row.get(score)) for score in scores)] for model, row in rows.items()]
    notes = [f"{found['title']}", f"published under: {found['conditions']}; {found['source']}"]
    return ["", *_aligned(table), *notes]


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{value:,} {name}" for name, value in metrics["counts"].items() if value is not None)
    better = f"{metrics['headline']['metric']}: {metrics['headline']['better']} is better"
    return [f"{counts}; {better}", f"intervals: {metrics['intervals']['method']}"]


def _number(value: float | None) -> str:
    """COCO marks what there is none of by -1."""
    return UNKNOWN if value is None or value < 0 else f"{value:.4g}"


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = (
        [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))]
        for line in table
    )
    return ["  ".join(line).rstrip() for line in lines]
