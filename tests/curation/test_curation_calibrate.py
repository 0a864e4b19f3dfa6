"""Calibration: judging boxes by labels, the monotone map, thresholds that a precision names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from curation.boxes import make_boxes
from curation.calibrate import (
    CalibrateConfig,
    Calibration,
    calibrate,
    isotonic,
    judge,
    levels,
    load_calibration,
    match,
    score_at_precision,
    wilson,
    write_calibration,
)
from curation.columns import ANNOTATIONS
from curation.detectors import detector_config, load_detector
from curation.job import Job
from curation.labels import Truth, read_labels
from pipelines.cli.calibrate import calibrate as command
from shards.errors import UsageError
from shards.files import temporary_path
from shards.index import write_table
from shards.manifest import commit_files
from shards.units import Stage, Unit, close_stage, open_stage, pending, run_unit

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"
DETECTOR = {"name": "onnx-yolox", "weights": "ab" * 32, "onnxruntime": "1.31.0", "provider": "cpu"}
SEED = np.random.default_rng(5)
N = 20_000
SCORES = np.round(SEED.uniform(0.05, 1, N), 4)
RIGHT = SEED.random(N) < SCORES**2  # so precision above t is (1 - t^3) / (3 (1 - t))


def fitted(bound_people: int = N) -> tuple[Any, Any]:
    blocks = isotonic(SCORES, RIGHT)
    return blocks, levels(blocks, bound_people)


def row(name: str, boxes: list[list[float]] | None, width: int = 100, height: int = 100) -> dict[str, Any]:
    """An annotated image; boxes are x0, y0, x1, y1, score."""
    found = None
    if boxes is not None:
        found = [dict(zip(("x0", "y0", "x1", "y1", "score"), map(float, box), strict=True)) for box in boxes]
    numbers = {"bytes": 1, "sha256": "", "key": "", "status": "ok" if boxes is not None else "decode:empty"}
    return {"source": name, "width": width, "height": height, "person_boxes": found, **numbers}


def annotate(out: Path, rows: list[dict[str, Any]], detector: dict[str, str] | None = DETECTOR) -> Path:
    """A dataset of annotations, as `curate annotate` leaves it, in two tables."""

    def work(stage: Stage, unit: Unit) -> None:
        part = rows[:1] if unit.name == "a" else rows[1:]
        path = temporary_path(stage.out, unit.name, "parquet")
        write_table(pa.Table.from_pylist(part, ANNOTATIONS), path)
        commit_files(
            stage.out,
            unit.name,
            {f"{unit.name}.parquet": path},
            samples=len(part),
            rejects={},
            stage_name=stage.name,
            stage_key=stage.key,
            inputs=unit.inputs,
        )

    models = {"detector": detector} if detector else {}
    job = Job("annotate", "k", (Unit("a"), Unit("b")), work, {"models": models})
    stage = open_stage(out, job.name, job.key)
    for unit in pending(stage, job.units):
        assert run_unit(stage, unit, job.worker).error is None
    close_stage(stage, job.units, job.provenance)
    return out


def coco(path: Path, images: dict[str, list[list[float]]], crowds: dict[str, list[list[float]]]) -> Path:
    """COCO's JSON: name -> boxes x, y, width, height; people are category 7, and there is a dog."""
    numbers = {name: number for number, name in enumerate(images)}
    notes = [
        {"image_id": numbers[name], "bbox": box, "category_id": 7, "iscrowd": crowd}
        for crowd, group in enumerate((images, crowds))
        for name, boxes in group.items()
        for box in boxes
    ]
    notes.append({"image_id": 0, "bbox": [0, 0, 100, 100], "category_id": 8, "iscrowd": 0})
    listed = [{"id": i, "file_name": name, "width": 100, "height": 100} for name, i in numbers.items()]
    categories = [{"id": 8, "name": "dog"}, {"id": 7, "name": "person"}]
    path.write_text(json.dumps({"images": listed, "annotations": notes, "categories": categories}))
    return path


def test_the_map_is_scipys_isotonic_regression() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    score, right = np.round(SCORES[:3000], 2), RIGHT[:3000]  # with many ties
    values, place = np.unique(score, return_inverse=True)
    weights = np.bincount(place)
    expected = optimize.isotonic_regression(np.bincount(place, weights=right) / weights, weights=weights).x
    blocks = isotonic(score, right)
    found = np.concatenate(
        [np.full(int(((values >= b.first) & (values <= b.last)).sum()), b.precision) for b in blocks]
    )
    assert found == pytest.approx(expected, abs=1e-6)
    assert sum(block.count for block in blocks) == 3000
    assert sum(block.correct for block in blocks) == right.sum()


def test_a_known_map_is_recovered() -> None:
    blocks, above = fitted()
    for block in blocks:
        if block.count > 400:
            assert block.precision == pytest.approx(((block.first + block.last) / 2) ** 2, abs=0.06)
    precisions = [level.precision for level in above]
    assert precisions == sorted(precisions)
    for level in above:
        chosen = np.float32(level.score) < SCORES
        assert (level.count, level.correct) == (chosen.sum(), RIGHT[chosen].sum())
        if level.count > 1000:
            t = level.score
            assert level.precision == pytest.approx((1 - t**3) / (3 * (1 - t)), abs=0.02)


def test_thresholds_follow_from_the_precision_asked_for(tmp_path: Path) -> None:
    calibration = simulated(tmp_path)
    estimate = score_at_precision(calibration, 0.9, "estimate")
    lower = score_at_precision(calibration, 0.9)
    assert estimate == pytest.approx(0.896, abs=0.02)  # 1 + t + t^2 = 2.7
    assert estimate < lower < 0.95
    assert RIGHT[np.float32(estimate) < SCORES].mean() >= 0.9
    assert calibration.at_precision["0.9"]["lower"].score == lower  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"0\.9999 \(lower\).*reaches 0\.\d+ at most.*38411 right"):
        score_at_precision(calibration, 0.9999)


def simulated(folder: Path) -> Calibration:
    """The calibration of SCORES, through tables and labels by image."""
    rows = [row(f"{i}.jpg", [[0, 0, 50, 50, score]]) for i, score in enumerate(SCORES.tolist())]
    labels = folder / "labels.csv"
    labels.write_text("source,person\n" + "".join(f"{i}.jpg,{int(v)}\n" for i, v in enumerate(RIGHT)))
    return calibrate(annotate(folder / "annotations", rows), labels, CalibrateConfig())


def test_boxes_are_judged_as_in_coco() -> None:
    people = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    truth = Truth(True, people, crowds=np.array([[50, 50, 90, 90]], np.float32))
    found = make_boxes(
        [
            ((0.0, 0.0, 10.0, 9.0), 0.9),  # right
            ((0.0, 0.0, 10.0, 10.0), 0.8),  # the same person again, and better placed
            ((20.0, 0.0, 30.0, 5.0), 0.7),  # overlaps by exactly 0.5
            ((55.0, 55.0, 70.0, 70.0), 0.6),  # one of a crowd
            ((80.0, 80.0, 99.0, 99.0), 0.5),  # mostly beside it
            ((20.0, 0.0, 22.0, 1.0), 0.4),
        ]
    )
    assert match(found, truth, CalibrateConfig()).tolist() == [1, 0, 1, -1, 0, 0]
    assert match(found, truth, CalibrateConfig(iou=0.51)).tolist() == [1, 0, 0, -1, 0, 0]
    assert match(found, truth, CalibrateConfig(min_side=6)).tolist() == [1, 0, -1, -1, 0, -1]
    assert match(make_boxes([]), truth, CalibrateConfig()).tolist() == []
    assert match(found, Truth(False), CalibrateConfig()).tolist() == [0] * 6
    nobody = Truth(False, np.zeros((0, 4), np.float32))
    assert match(found, nobody, CalibrateConfig()).tolist() == [0] * 6


def test_boxes_labels_and_tables_meet(tmp_path: Path) -> None:
    rows = [
        row("part/one.jpg", [[0, 0, 10, 10, 0.9], [60, 60, 90, 90, 0.3]]),
        row("part/two.jpg", [[50, 50, 90, 90, 0.6]]),
        row("part/three.jpg", None),
        row("part/unlabelled.jpg", [[0, 0, 99, 99, 0.99]]),
    ]
    images = {"one.jpg": [[0.0, 0, 10, 10], [30.0, 0, 10, 10]], "two.jpg": [], "three.jpg": [[0.0, 0, 5, 5]]}
    labels = coco(tmp_path / "labels.json", images, {"two.jpg": [[45.0, 45, 50, 50]]})
    calibration = calibrate(annotate(tmp_path / "a", rows), labels, CalibrateConfig())
    assert (calibration.kind, calibration.images, calibration.people, calibration.ignored) == (
        "boxes",
        2,
        2,
        1,
    )
    assert [(b.first, b.last, b.count, b.correct) for b in calibration.blocks] == [
        (0.3, 0.3, 1, 0),
        (0.9, 0.9, 1, 1),
    ]
    assert [(level.score, level.count, level.recall) for level in calibration.above] == [
        (0.29995, 2, 0.5),
        (0.89995, 1, 0.5),
    ]
    assert calibration.detector == DETECTOR
    assert score_at_precision(calibration, 0.99, "estimate") == 0.89995
    with pytest.raises(UsageError, match="381 right and none wrong"):
        score_at_precision(calibration, 0.99)


def test_images_are_judged_by_their_best_box() -> None:
    rows = [
        row("a.jpg", [[0, 0, 9, 9, 0.4], [0, 0, 9, 9, 0.8]]),
        row("b.jpg", []),
        row("c.jpg", [[0, 0, 9, 9, 0.5]]),
    ]
    truths = {"a.jpg": Truth(True), "b.jpg": Truth(True), "c.jpg": Truth(False)}
    judged = judge(iter(rows), truths, CalibrateConfig(), "here")
    assert (judged.score.tolist(), judged.right.tolist()) == ([0.8, 0.5], [True, False])
    assert (judged.images, judged.people) == (3, 2)


def test_what_cannot_be_judged_is_said(tmp_path: Path) -> None:
    labels = coco(tmp_path / "labels.json", {"one.jpg": []}, {})
    named = annotate(tmp_path / "a", [row("one.jpg", [[0, 0, 9, 9, 0.5]], width=50)])
    with pytest.raises(UsageError, match=r"one\.jpg: labelled at 100 x 100 px, annotated at 50 x 100"):
        calibrate(named, labels, CalibrateConfig())
    empty = annotate(tmp_path / "b", [row("two.jpg", [[0, 0, 9, 9, 0.5]])])
    with pytest.raises(UsageError, match="0 labelled images among the annotations"):
        calibrate(empty, labels, CalibrateConfig())
    with pytest.raises(UsageError, match="names no detector"):
        calibrate(annotate(tmp_path / "c", [row("one.jpg", [])], None), labels, CalibrateConfig())
    for name, content in (("x.json", "[]"), ("x.csv", "file,yes\n"), ("y.csv", "source,person\na,2\n")):
        (tmp_path / name).write_text(content)
        with pytest.raises(UsageError, match=r"not labels|no image"):
            read_labels(tmp_path / name)
    with pytest.raises(UsageError, match="no such file"):
        read_labels(tmp_path / "none.json")


def test_a_calibration_is_for_one_detector(tmp_path: Path) -> None:
    out = tmp_path / "out"
    calibration = simulated(tmp_path)
    write_calibration(out, calibration)
    write_calibration(out, calibration)
    path = out / "calibration.json"
    assert load_calibration(path) == calibration
    assert load_calibration(path, DETECTOR | {"provider": "cuda", "onnxruntime": "1.32.0"}) == calibration
    with pytest.raises(UsageError, match=r"another detector \(weights: abab.* there, cd here\)"):
        load_calibration(path, DETECTOR | {"weights": "cd"})
    picture = cv2.imread(str(out / "reliability.png"))
    assert picture is not None
    assert picture.std() > 10
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write_calibration(out, calibration)
    with pytest.raises(UsageError, match="not a calibration"):
        load_calibration(out / "notes.txt")


def test_intervals_are_wilsons() -> None:
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(381, 381)[0] >= 0.99 > wilson(380, 380)[0]
    assert wilson(0, 0) == (0, 1)


def test_the_command_writes_and_tells(tmp_path: Path) -> None:
    rows = [row("one.jpg", [[0, 0, 10, 10, 0.9]])]
    annotations = annotate(tmp_path / "a", rows)
    labels = coco(tmp_path / "labels.json", {"one.jpg": [[0.0, 0, 10, 10]]}, {})
    app = typer.Typer()
    app.command()(command)
    arguments = [str(annotations), str(labels), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0, told.output
    assert "1 boxes judged in 1 images" in told.output
    assert (
        "precision 0.99: not reached (lower); score > 0.89995, 1 of 1 right, recall 1.000 (estimate)"
        in told.output
    )
    printed = CliRunner().invoke(app, [*arguments, "--json"])
    assert Calibration.model_validate_json(printed.output) == load_calibration(
        tmp_path / "out/calibration.json"
    )


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data/photos is not there")
def test_the_smoke_detector_on_coco_photographs() -> None:
    """What docs/detectors.md states: one of six people, at overlaps of 0.3 and of 0.5, no false alarm."""
    detector = load_detector(detector_config("opencv"))
    truths = read_labels(PHOTOS / "coco_keypoints.json")

    def rows() -> Iterator[dict[str, Any]]:
        for photo in sorted(PHOTOS.glob("*.jpg")):
            image = np.ascontiguousarray(cv2.imread(str(photo))[..., ::-1])
            found = detector.detect([image])[0].to_rows()
            yield {
                **row(photo.name, [], image.shape[1], image.shape[0]),
                "member": None,
                "person_boxes": found,
            }

    for iou in (0.3, 0.5):
        judged = judge(rows(), truths, CalibrateConfig(iou=iou), "photos")
        assert (judged.images, judged.people) == (2, 6)
        assert judged.right.tolist() == [True]
        assert judged.score[0] > 0.55
