"""What a folder of predictions holds: a line per input, counts, rejects, and the people in COCO's form."""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from shards.files import flush, write_atomic
from train.metrics.boxes import PERSON
from train.prediction.outputs import FOLDER
from train.prediction.picture import Reject


def write_summary(out: Path, task: str, counts: Mapping[str, int], rejects: Sequence[Reject]) -> None:
    """manifest.jsonl (a line per predicted input, by name), keypoints.json (pose) and summary.json with the
    rejects of this run. Reads one marker at a time.
    """
    numbers = image_numbers(out)
    _stream(out / "manifest.jsonl", (_line(marker, numbers) for marker in markers(out)))
    if task == "pose":
        _stream(out / "keypoints.json", _json_array(_results(out, numbers)))
    rejected = [{"name": r.name, "reason": r.reason, "message": r.message} for r in rejects]
    summary = {"task": task, "predictions": len(numbers), "this_run": dict(counts), "rejects": rejected}
    write_atomic(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())


def markers(out: Path) -> Iterator[dict[str, Any]]:
    """The markers of the folder, sorted by name."""
    for path in marker_paths(out):
        yield json.loads(path.read_text(encoding="utf-8"))


def marker_paths(out: Path) -> list[Path]:
    """Markers are the only JSON files there; what begins with a dot is being written."""
    return sorted(p for p in (out / FOLDER).rglob("*.json") if not p.name.startswith("."))


def image_numbers(out: Path) -> dict[str, int]:
    """COCO image ids by name: the numbers that the names are (000000000785.jpg -> 785) when all are, and
    differ; else 1, 2, 3 ... by name.
    """
    names = [path.relative_to(out / FOLDER).as_posix().removesuffix(".json") for path in marker_paths(out)]
    stems = [PurePosixPath(name).stem for name in names]
    if all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems):
        return {name: int(stem) for name, stem in zip(names, stems, strict=True)}
    return {name: number for number, name in enumerate(names, 1)}


def _line(marker: Mapping[str, Any], numbers: Mapping[str, int]) -> str:
    kept = {key: value for key, value in marker.items() if key != "people"}
    if "people" in marker:
        kept["people"] = len(marker["people"])
    return json.dumps({"image_id": numbers[marker["name"]], **kept}) + "\n"


def _results(out: Path, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """COCO keypoint results; every keypoint's third number is its confidence."""
    for marker in markers(out):
        for person in marker["people"]:
            x0, y0, x1, y1 = person["box"]
            yield {
                "image_id": numbers[marker["name"]],
                "category_id": PERSON,
                "keypoints": [value for point in person["keypoints"] for value in point],
                "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                "score": person["score"],
            }


def _json_array(items: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield "["
    for number, item in enumerate(items):
        yield (",\n" if number else "\n") + json.dumps(item)
    yield "\n]\n"


def _stream(path: Path, pieces: Iterable[str]) -> None:
    """`write_atomic` for what does not fit in memory."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(pieces)
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)
