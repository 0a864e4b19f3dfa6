"""What a detector's score is worth: a monotone map from score to precision, measured on a labelled set.

0.9 means something else for each detector, so a rule may name the precision it wants and have it translated.
Detections are judged against labels (boxes, as in COCO: greedily, best score first, at an overlap of `iou`;
or "is there a person in this image": by the image's best box), then pool-adjacent-violators (Ayer et al.,
1955) fits the non-decreasing map closest to what was seen. Intervals are Wilson's (1927) at 95 %.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int64
from pydantic import Field

from curation.boxes import Boxes, area, from_rows, intersection
from curation.labels import Truth, read_labels
from shards.config import Config, parse_config
from shards.errors import UsageError
from shards.files import sha256_file, write_atomic
from shards.index import read_table
from shards.reader import Dataset

Bound = Literal["lower", "estimate"]
TARGETS = (0.9, 0.95, 0.99)
JSON_NAME, PLOT_NAME = "calibration.json", "reliability.png"
_Z = 1.959963984540054  # two-sided 95 %
_TICK = 5e-5  # half the step to which tables round scores: `score > low - tick` takes `low` in
_RIGHT, _WRONG, _IGNORED = 1, 0, -1
# What may differ between the detector that was calibrated and the one in use: scores move by 1e-4, if at all.
_INCIDENTAL = frozenset({"onnxruntime", "provider", "device", "torch", "torchvision", "transformers"})


class CalibrateConfig(Config):
    """What counts as right."""

    iou: float = Field(default=0.5, gt=0, le=1, description="overlap of a box with a labelled person")
    min_side: float = Field(default=0.0, ge=0, description="px; boxes with a shorter side are left out")


class Share(Config):
    """`correct` of `count`, and its 95 % interval."""

    count: int
    correct: int
    precision: float
    low: float
    high: float


class Block(Share):
    """Boxes (or images) with a score from `first` to `last`: the map is constant here."""

    first: float
    last: float


class Level(Share):
    """All with a score above `score`, strictly. `recall`: of the labelled people (or images of people)."""

    score: float
    recall: float


class Calibration(Config):
    """The map, and what it was measured on."""

    schema_version: Literal[1] = 1
    detector: dict[str, str]
    kind: Literal["boxes", "images"]
    labels_sha256: str
    annotations: str  # digest of the manifest
    settings: CalibrateConfig
    images: int
    people: int  # labelled: boxes, or images with a person
    ignored: int  # boxes on crowds, or too small to be judged
    blocks: tuple[Block, ...]
    above: tuple[Level, ...]
    at_precision: dict[str, dict[Bound, Level | None]]


@dataclass(frozen=True)
class Judged:
    """Scores and verdicts of everything that was judged, over all images."""

    score: Float64[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]
    images: int
    people: int
    ignored: int


def calibrate(annotations: Path, labels: Path, config: CalibrateConfig) -> Calibration:
    """Judge the person boxes of an annotated dataset by `labels`; see `read_labels` for their formats.

    Images without a label are left out. Raises UsageError when nothing can be judged.
    """
    dataset = Dataset.open(annotations)
    identity = dataset.manifest.provenance.get("models", {}).get("detector")
    if not isinstance(identity, dict):
        raise UsageError(f"{annotations}: its manifest names no detector; expected the output of `annotate`")
    truths = read_labels(labels)
    judged = judge(_rows(dataset), truths, config, f"{annotations}, {labels}")
    blocks = isotonic(judged.score, judged.right)
    above = levels(blocks, judged.people)
    wanted = {str(target): _operating_points(above, target) for target in TARGETS}
    kind: Literal["boxes", "images"] = "images" if next(iter(truths.values())).boxes is None else "boxes"
    return Calibration(
        detector={name: str(value) for name, value in identity.items()},
        kind=kind,
        labels_sha256=sha256_file(labels),
        annotations=dataset.digest,
        settings=config,
        images=judged.images,
        people=judged.people,
        ignored=judged.ignored,
        blocks=blocks,
        above=above,
        at_precision=wanted,
    )


def score_at_precision(calibration: Calibration, precision: float, bound: Bound = "lower") -> float:
    """The lowest threshold t (for `score > t`) above which precision is at least `precision`.

    `bound`: what must reach it, the lower end of the 95 % interval (so that a handful of lucky boxes proves
    nothing) or the estimate. Raises UsageError when nothing reaches it, with what does.
    """
    level = _lowest(calibration.above, precision, bound)
    if level is None:
        best = max(calibration.above, key=lambda other: _value(other, bound))
        needed = math.ceil(precision * _Z**2 / (1 - precision)) if precision < 1 else None
        hint = f"; {needed} right and none wrong would show it" if needed and bound == "lower" else ""
        raise UsageError(
            f"precision {precision} ({bound}): this calibration reaches {_value(best, bound):.4f} at most, "
            f"above score {best.score:.5f} ({best.correct} of {best.count} correct){hint}"
        )
    return level.score


def load_calibration(path: Path, detector: Mapping[str, str] | None = None) -> Calibration:
    """Read `calibration.json`. With `detector` (an identity), UsageError when it was measured on another."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise UsageError(f"{path}: not a calibration: {error}") from None
    calibration = parse_config(content, Calibration, str(path))
    if detector is not None:
        names = (set(detector) | set(calibration.detector)) - _INCIDENTAL
        differing = sorted(name for name in names if detector.get(name) != calibration.detector.get(name))
        if differing:
            said = {name: (calibration.detector.get(name), detector.get(name)) for name in differing}
            listed = "; ".join(f"{name}: {there} there, {here} here" for name, (there, here) in said.items())
            raise UsageError(f"{path}: measured on another detector ({listed}); calibrate the one in use")
    return calibration


def write_calibration(out: Path, calibration: Calibration) -> None:
    """`calibration.json` and `reliability.png` in the folder `out`; refuses one with anything else in it."""
    foreign = sorted({path.name for path in out.iterdir()} - {JSON_NAME, PLOT_NAME}) if out.is_dir() else []
    if foreign:
        raise UsageError(f"{out}: holds {foreign[0]}, which is not a calibration's; choose another --out")
    content = calibration.model_dump_json(indent=1).encode() + b"\n"
    from curation.reliability import draw_reliability

    write_atomic(out / PLOT_NAME, draw_reliability(calibration))
    write_atomic(out / JSON_NAME, content)


def judge(
    rows: Iterator[Mapping[str, Any]], truths: Mapping[str, Truth], config: CalibrateConfig, where: str
) -> Judged:
    """Verdicts on the boxes of every row whose path ends in a labelled name; rows not decoded are left
    out.
    """
    scores: list[Float64[np.ndarray, " n"]] = [np.zeros(0)]
    verdicts, images, people = [np.zeros(0, np.int8)], 0, 0
    for row in rows:
        truth = _truth_of(row, truths)
        if truth is None or row["person_boxes"] is None:
            continue
        if truth.size is not None and truth.size != (row["width"], row["height"]):
            raise UsageError(
                f"{where}: {_path(row)}: labelled at {truth.size[0]} x {truth.size[1]} px, annotated at "
                f"{row['width']} x {row['height']}"
            )
        images += 1
        found = from_rows(row["person_boxes"])
        verdict = match(found, truth, config)
        if truth.boxes is None:  # the image is judged, by its best box
            found, verdict = Boxes(found.xyxy[:1], found.score[:1]), verdict[:1]
        people += int(truth.person) if truth.boxes is None else len(truth.boxes)
        scores.append(np.round(found.score.astype(np.float64), 4))
        verdicts.append(verdict)
    score, verdict = np.concatenate(scores), np.concatenate(verdicts)
    kept = verdict != _IGNORED
    if not kept.any():
        raise UsageError(f"{where}: {images} labelled images among the annotations, no box in them to judge")
    return Judged(score[kept], verdict[kept] == _RIGHT, images, people, int((~kept).sum()))


def match(found: Boxes, truth: Truth, config: CalibrateConfig) -> Int8[np.ndarray, " boxes"]:
    """1 right, 0 wrong, -1 not judged, for each box, best first.

    Right: overlaps a person whom no better box has taken by `iou` at least (the one it overlaps most). A box
    of which half or more lies on a crowd is not judged; nor is one with a side under `min_side`.
    """
    small = (found.xyxy[:, 2:] - found.xyxy[:, :2]).min(axis=1, initial=np.inf) < config.min_side
    if truth.boxes is None:
        return np.where(small, _IGNORED, _RIGHT if truth.person else _WRONG).astype(np.int8)
    shared = intersection(found.xyxy, truth.boxes)
    union = area(found.xyxy)[:, None] + area(truth.boxes)[None] - shared
    overlap = shared / np.maximum(union, np.float32(1e-9))
    crowded = intersection(found.xyxy, truth.crowds).max(axis=1, initial=0) >= area(found.xyxy) / 2
    verdict, free = np.zeros(len(found), np.int8), np.ones(len(truth.boxes), bool)
    for i in range(len(found)):
        best = int(np.where(free, overlap[i], -1).argmax()) if free.any() else -1
        if best >= 0 and overlap[i, best] >= config.iou:
            free[best], verdict[i] = False, _RIGHT
        elif crowded[i]:
            verdict[i] = _IGNORED
        if small[i]:
            verdict[i] = _IGNORED
    return verdict


def isotonic(score: Float64[np.ndarray, " n"], right: Bool[np.ndarray, " n"]) -> tuple[Block, ...]:
    """Pool adjacent violators: blocks of rising score in which the share of right ones strictly rises."""
    values, place = np.unique(score, return_inverse=True)
    counts: Int64[np.ndarray, " m"] = np.bincount(place).astype(np.int64)
    rights: Int64[np.ndarray, " m"] = np.bincount(place, weights=right).astype(np.int64)
    pools: list[tuple[float, float, int, int]] = []  # first, last, count, correct
    for value, count, correct in zip(values.tolist(), counts.tolist(), rights.tolist(), strict=True):
        pool = (value, value, count, correct)
        while pools and pools[-1][3] * pool[2] >= pool[3] * pools[-1][2]:  # not rising: pool them
            first, _, before, good = pools.pop()
            pool = (first, pool[1], before + pool[2], good + pool[3])
        pools.append(pool)
    return tuple(
        Block(first=first, last=last, **_share(correct, count)) for first, last, count, correct in pools
    )


def levels(blocks: Sequence[Block], people: int) -> tuple[Level, ...]:
    """Precision above each block's lower end, by rising score. It never falls, since the blocks' does not."""
    found, count, correct = [], 0, 0
    for block in reversed(blocks):
        count, correct = count + block.count, correct + block.correct
        score = max(0.0, round(block.first - _TICK, 6))
        recall = round(correct / people, 6) if people else 0.0
        found.append(Level(score=score, recall=recall, **_share(correct, count)))
    return tuple(reversed(found))


def wilson(correct: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927); (0, 1) of nothing."""
    if count == 0:
        return 0.0, 1.0
    share, extra = correct / count, _Z**2 / count
    middle, half = share + extra / 2, _Z * math.sqrt(share * (1 - share) / count + extra / (4 * count))
    return max(0.0, (middle - half) / (1 + extra)), min(1.0, (middle + half) / (1 + extra))


def _share(correct: int, count: int) -> dict[str, Any]:
    low, high = wilson(correct, count)
    return {
        "count": count,
        "correct": correct,
        "precision": round(correct / count, 6),
        "low": round(low, 6),
        "high": round(high, 6),
    }


def _value(level: Level, bound: Bound) -> float:
    return level.low if bound == "lower" else level.precision


def _lowest(above: Sequence[Level], precision: float, bound: Bound) -> Level | None:
    return next((level for level in above if _value(level, bound) >= precision), None)


def _operating_points(above: Sequence[Level], precision: float) -> dict[Bound, Level | None]:
    return {"lower": _lowest(above, precision, "lower"), "estimate": _lowest(above, precision, "estimate")}


def _rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    columns = ["source", "member", "width", "height", "person_boxes"]
    for shard in dataset.manifest.shards:
        name = f"{shard.name}.parquet"
        yield from read_table(dataset.store.read(name), dataset.store.at(name)).select(columns).to_pylist()


def _path(row: Mapping[str, Any]) -> str:
    return str(row.get("member") or row["source"])


def _truth_of(row: Mapping[str, Any], truths: Mapping[str, Truth]) -> Truth | None:
    parts = _path(row).split("/")
    names = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((truths[name] for name in names if name in truths), None)
