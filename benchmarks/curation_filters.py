"""Precision and recall of the filters' offline defaults on photographs and what is made of them.

    python -P benchmarks/curation_filters.py [--quick] [--renders FOLDER] [--sheet PNG]

On `curation.filters.sets.TEST`: photographs and panoramas on which nothing was fitted or chosen. Overlays and
styles are drawn by us, so the figures compare filters; in the wild they are lower. Precision is over all
kinds of a filter together against the clean photographs, each counted as often as there are kinds: as if half
of the pool were affected. `--renders` adds the scores of the synthetic images in the tars of a folder;
`--sheet` writes a contact sheet of the set. Last printed line: one JSON object.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.boxes import RGB
from curation.filters import FilterConfig, load_filters
from curation.filters.duplicates import measure_hashes, phash, pixel_sha256
from curation.filters.quality import measure_quality
from curation.filters.reduce import Views
from curation.filters.sets import (
    ART,
    CLEAN,
    TEST,
    TEXT,
    WATERMARKS,
    WITH_TEXT,
    Change,
    Picture,
    altered,
    photographs,
)
from curation.filters.text import TextConfig, TextDetector
from shards.reader import read_tar

SEED = 1000  # not one that anything was fitted with
THRESHOLDS = {"text": 0.02, "watermark": 0.8, "art": 0.8}
KINDS: dict[str, dict[str, Change]] = {"text": TEXT, "watermark": WATERMARKS, "art": ART}
Score = Callable[[RGB], float]


def scorers() -> dict[str, Score]:
    """Filter -> the score that its column gets."""
    measures = {measure.columns[0]: measure for measure in load_filters(FilterConfig())}
    text = TextDetector(TextConfig())
    return {
        "text": lambda image: text.measure(image)[0],
        "watermark": lambda image: measures["watermark"].measure([image])[0]["watermark"],
        "art": lambda image: measures["art"].measure([image])[0]["art"],
    }


def measure(name: str, score: Score, clean: list[Picture]) -> dict[str, Any]:
    """Precision and recall at the documented threshold, recall by kind, and which photographs are taken."""
    photos = [picture for picture in clean if name != "text" or not picture.source.startswith(WITH_TEXT)]
    changed = list(altered(photos, KINDS[name], SEED))
    started = time.process_time()
    over = {id(picture): score(picture.image) > THRESHOLDS[name] for picture in (*photos, *changed)}
    seconds = time.process_time() - started
    recall = {
        kind: round(float(np.mean([over[id(each)] for each in changed if each.kind == kind])), 3)
        for kind in KINDS[name]
    }
    hits = sum(over[id(picture)] for picture in changed)
    alarms = [picture.source for picture in photos if over[id(picture)]]
    taken = hits + len(alarms) * len(recall)
    return {
        "precision": round(hits / taken, 3) if taken else None,
        "recall": round(hits / len(changed), 3),
        "threshold": THRESHOLDS[name],
        "recall_by_kind": recall,
        "false_alarms": f"{len(alarms)} of {len(photos)}",
        "taken_for_it": alarms,
        "ms_per_image": round(1e3 * seconds / len(over), 1),
    }


def overlays_elsewhere(scores: dict[str, Score], clean: list[Picture]) -> dict[str, float]:
    """What one filter says of another's kinds: captions by watermark, watermarks by text."""
    photos = [picture for picture in clean if not picture.source.startswith(WITH_TEXT)]
    found = {}
    for name, kinds in (("watermark", TEXT), ("text", WATERMARKS)):
        for picture_kind, change in kinds.items():
            these = altered(photos, {picture_kind: change}, SEED)
            over = [scores[name](picture.image) > THRESHOLDS[name] for picture in these]
            found[f"{name} over {picture_kind}"] = round(float(np.mean(over)), 3)
    return found


def renders(folder: Path, scores: dict[str, Score]) -> dict[str, Any]:
    """Quantiles of the scores of synthetic images, and the share over the thresholds."""
    images = []
    for tar in sorted(folder.rglob("*.tar")):
        for sample in read_tar(tar):
            for name, data in sample.members.items():
                if name in ("rgb.png", "rgb.jpg"):
                    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                    images.append(np.ascontiguousarray(image[..., ::-1]))
    if not images:
        return {"images": 0}
    found: dict[str, Any] = {"images": len(images)}
    for name in ("watermark", "art"):
        values = np.array([scores[name](image) for image in images])
        quantiles = np.round(np.quantile(values, [0.1, 0.5, 0.9]), 3).tolist()
        share = round(float((values > THRESHOLDS[name]).mean()), 3)
        found[name] = {"quantiles_10_50_90": quantiles, "over_threshold": share}
    return found


def hash_distances(clean: list[Picture]) -> dict[str, Any]:
    """Hamming distance of the perceptual hash to copies, and to the nearest other photograph."""
    copies: dict[str, Callable[[RGB], RGB]] = {
        "quality 30": lambda image: _jpeg(image, 30),
        "half size": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "5 % brighter": lambda image: np.clip(image * 1.05 + 8, 0, 255).astype(np.uint8),
        "cropped by 2 %": lambda image: np.ascontiguousarray(image[_margin(image, 0)][:, _margin(image, 1)]),
    }
    hashes = [phash(picture.image) for picture in clean]
    found: dict[str, Any] = {}
    for name, copy in copies.items():
        pairs = zip(hashes, clean, strict=True)
        apart = np.array([(value ^ phash(copy(picture.image))).bit_count() for value, picture in pairs])
        within = {f"within_{limit}": round(float((apart <= limit).mean()), 3) for limit in (4, 6)}
        found[name] = {"median": float(np.median(apart)), **within, "largest": int(apart.max())}
    others = [
        min((one ^ other).bit_count() for j, other in enumerate(hashes) if j != i)
        for i, one in enumerate(hashes)
    ]
    found["nearest other"] = {"smallest": min(others), "median": float(np.median(others))}
    return found


def _jpeg(image: RGB, quality: int) -> RGB:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def _margin(image: RGB, axis: int) -> slice:
    margin = round(0.01 * image.shape[axis])
    return slice(margin, image.shape[axis] - margin)


def milliseconds() -> dict[str, float]:
    """Of CPU, best of 9, for 1632 x 1224 px of photograph, one thread."""
    photo = next(photographs(["astronaut.png"], SEED)).image
    image = cv2.resize(photo, (1632, 1224), interpolation=cv2.INTER_CUBIC)

    def all_of_it() -> None:
        views = Views(image)
        measure_quality(image, views)
        measure_hashes(image, views)

    return {"quality_and_hashes": _best(all_of_it), "sha256_alone": _best(lambda: pixel_sha256(image))}


def _best(work: Callable[[], Any]) -> float:
    times = []
    for _ in range(9):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return round(1e3 * min(times), 2)


def write_sheet(path: Path, clean: list[Picture]) -> None:
    """Four photographs in every kind."""
    kinds = {**TEXT, **WATERMARKS, **ART}
    chosen = [picture for picture in clean if picture.source.endswith("#0")][::3][:4]
    rows = []
    for photo in chosen:
        row = [photo, *altered([photo], kinds, SEED)]
        rows.append(
            np.hstack([cv2.resize(each.image, (320, 240), interpolation=cv2.INTER_AREA) for each in row])
        )
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="every third photograph")
    parser.add_argument("--renders", type=Path, default=None, help="folder of tars with synthetic images")
    parser.add_argument("--sheet", type=Path, default=None, help="write a contact sheet")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    cv2.setNumThreads(1)
    clean = list(photographs(TEST, SEED))[:: 3 if given.quick else 1]
    scores = scorers()
    figures: dict[str, Any] = {"benchmark": "curation_filters", "quick": given.quick}
    figures[CLEAN + "s"] = len(clean)
    for name, score in scores.items():
        figures[name] = measure(name, score, clean)
    figures["elsewhere"] = overlays_elsewhere(scores, clean)
    figures["phash"] = hash_distances(clean)
    figures["ms_for_2_megapixels"] = milliseconds()
    if given.renders:
        figures["renders"] = renders(given.renders, scores)
    if given.sheet:
        write_sheet(given.sheet, clean)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
