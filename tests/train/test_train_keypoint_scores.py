"""Keypoint scores: parts, hands, duplicates and scores against values by hand, pycocotools on COCO's own
files, and resampled AP against pycocotools run on data sets in which images really occur several times.
"""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import Float64

from annotation.keypoints import keypoint_vocabulary
from annotation.labels import Labels
from shards.errors import UsageError
from train.metrics.boxes import Detection, read_detections, with_detections
from train.metrics.coco import (
    PosedPerson,
    PoseGuess,
    coco_scores,
    match_keypoints,
    match_parts,
    with_hands,
)
from train.metrics.pose import (
    coco_result,
    oks,
    pck_groups,
    pck_scores,
    pck_sums,
    person_score,
    without_duplicates,
)
from train.tasks import TaskConfig, make_task
from train.tasks.base import Scoring

PHOTOS = Path(__file__).parents[3] / "shared/data/photos"
FIELDS = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
PARTS = ("body", "foot", "face", "left_hand", "right_hand")
BODY, WHOLE = keypoint_vocabulary(17), keypoint_vocabulary(133)
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data/photos is not there")


def crowd(seed: int, images: int = 6, points: int = 17) -> tuple[list[PosedPerson], list[PoseGuess]]:
    """People of 1 to 3 an image, some hardly labelled, and guesses of mixed quality, some about nobody."""
    rng = np.random.default_rng(seed)
    truth, guesses = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(1, 4)):
            keypoints = np.column_stack([rng.uniform(0, 200, (points, 2)), rng.integers(0, 3, points)])
            keypoints[:, 2] *= rng.random() < 0.9
            person = PosedPerson(
                image, keypoints.astype(float), (0.0, 0.0, 200.0, 200.0), 2e4, bool(rng.random() < 0.1)
            )
            truth.append(person)
            noise = rng.choice([1.0, 5.0, 12.0]) * rng.normal(size=(points, 2))
            guessed = np.column_stack([keypoints[:, :2] + noise, rng.random(points)])
            guesses.append(PoseGuess(image, guessed, round(float(rng.random()), 1)))  # with ties
        guesses.append(PoseGuess(image, rng.uniform(0, 200, (points, 3)), float(rng.random())))
    return truth, guesses


@pytest.mark.parametrize("seed", range(4))
def test_resampling_every_image_once_is_cocos_own_score(seed: int) -> None:
    truth, guesses = crowd(seed)
    matches = match_keypoints(truth, guesses, BODY.sigmas)
    scores = matches.resampled(np.ones((1, 6)))
    assert 0.05 < matches.stats["ap"] < 0.95
    assert scores["ap"][0] == pytest.approx(matches.stats["ap"], abs=1e-12)
    assert scores["ar"][0] == pytest.approx(matches.stats["ar"], abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_resampled_scores_are_those_of_a_data_set_with_repeated_images(seed: int) -> None:
    truth, guesses = crowd(seed)
    weights = np.random.default_rng(seed).multinomial(6, [1 / 6] * 6)
    again_truth, again_guesses, number = [], [], 0
    for image, times in enumerate(weights, start=1):
        for _ in range(times):
            number += 1
            again_truth += [replace(one, image=number) for one in truth if one.image == image]
            again_guesses += [replace(one, image=number) for one in guesses if one.image == image]
    expected = coco_scores(again_truth, again_guesses, BODY.sigmas)
    scores = match_keypoints(truth, guesses, BODY.sigmas).resampled(weights[None].astype(float))
    assert scores["ap"][0] == pytest.approx(expected["ap"], abs=1e-12)
    assert scores["ar"][0] == pytest.approx(expected["ar"], abs=1e-12)


def test_images_without_people_cost_what_is_guessed_in_them() -> None:
    truth, guesses = crowd(0, images=1)
    truth = [replace(person, crowd=False) for person in truth]
    perfect = [PoseGuess(1, person.keypoints, 0.5) for person in truth if person.keypoints[:, 2].any()]
    stray = [PoseGuess(2, guesses[0].keypoints, 0.9)]
    alone = match_keypoints(truth, perfect, BODY.sigmas, [1, 2]).stats["ap"]
    with_stray = match_keypoints(truth, [*perfect, *stray], BODY.sigmas, [1, 2]).stats["ap"]
    count = len(perfect)
    assert alone == pytest.approx(1)
    assert with_stray == pytest.approx(count / (count + 1))  # the best precision at every recall


def test_nobody_and_no_guess() -> None:
    truth, _ = crowd(0, images=2)
    nothing = match_keypoints(truth, [], BODY.sigmas)
    assert nothing.stats["ap"] == 0 and nothing.resampled(np.ones((3, 2)))["ap"].tolist() == [0, 0, 0]
    unlabelled = [replace(person, keypoints=person.keypoints * [1, 1, 0]) for person in truth]
    assert match_keypoints(unlabelled, [], BODY.sigmas).stats["ap"] == -1
    assert np.isnan(match_keypoints(unlabelled, [], BODY.sigmas).resampled(np.ones((1, 2)))["ap"][0])


def whole_body() -> list[tuple[int, dict[str, Any], Float64[np.ndarray, "133 3"]]]:
    annotations = json.loads((PHOTOS / "coco_wholebody.json").read_text())["annotations"]
    lists = [
        np.concatenate([np.array(a[field], float).reshape(-1, 3) for field in FIELDS]) for a in annotations
    ]
    return [(a["image_id"], a, points) for a, points in zip(annotations, lists, strict=True)]


@needs_photos
def test_parts_equal_pycocotools_run_on_the_part_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    truth, guesses = [], []
    for image, annotation, points in whole_body():
        box = tuple(annotation["bbox"])
        truth.append(PosedPerson(image, points, box, annotation["area"]))
        scale = 0.15 * WHOLE.sigmas[:, None] * np.sqrt(annotation["area"]) * rng.choice([1.0, 8.0])
        guess = np.column_stack([points[:, :2] + rng.normal(size=(133, 2)) * 4 * scale, rng.random(133)])
        guesses.append(PoseGuess(image, guess, float(rng.random())))
    ours = match_parts(truth, guesses, WHOLE)
    bodies = [guess.keypoints[:17] for guess in guesses]
    areas = [float(np.ptp(body[:, 0]) * np.ptp(body[:, 1])) for body in bodies]
    assert set(ours) == {"", *PARTS}
    seen = set()
    for part, matches in ours.items():
        members = list(WHOLE.groups[part]) if part else list(range(133))
        expected = reference(tmp_path, members, guesses, areas)
        assert list(matches.stats.values()) == pytest.approx(expected, abs=1e-12), part
        seen.add(round(matches.stats["ap"], 6))
    assert len(seen) > 2  # a comparison of ones or zeros would prove nothing


def reference(folder: Path, points: list[int], guesses: list[PoseGuess], areas: list[float]) -> list[float]:
    """pycocotools called directly on files that hold only these points."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    content = json.loads((PHOTOS / "coco_wholebody.json").read_text())
    for annotation, (_, _, keypoints) in zip(content["annotations"], whole_body(), strict=True):
        annotation["keypoints"] = keypoints[points].ravel().tolist()
        annotation["num_keypoints"] = int((keypoints[points, 2] > 0).sum())
    results = [
        {
            "image_id": guess.image,
            "category_id": 1,
            "keypoints": guess.keypoints[points].ravel().tolist(),
            "score": guess.score,
        }
        for guess in guesses
    ]
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        gold: Any = COCO(str(folder / "truth.json"))
        found: Any = gold.loadRes(str(folder / "results.json"))
        for number, area in enumerate(areas, start=1):
            found.anns[number]["area"] = area
        evaluation: Any = COCOeval(gold, found, "keypoints")
        evaluation.params.kpt_oks_sigmas = WHOLE.sigmas[points]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def test_hands_are_the_mean_of_left_and_right_where_there_is_one() -> None:
    both = with_hands({"ap/left_hand": 0.2, "ap/right_hand": 0.4, "ar/left_hand": 0.5, "ar/right_hand": -1.0})
    assert float(both["ap/hand"]) == pytest.approx(0.3)
    assert float(both["ar/hand"]) == pytest.approx(0.5)
    assert float(with_hands({"ap/left_hand": -1.0, "ap/right_hand": -1.0})["ap/hand"]) == -1
    assert with_hands({"ap": 0.5}) == {"ap": 0.5}


def test_the_parts_of_308_points_have_the_papers_sizes() -> None:
    groups = pck_groups(keypoint_vocabulary(308))
    sizes = {part: int(members.sum()) for part, members in groups.items()}
    assert sizes == {
        "": 308,
        "body": 17,
        "foot": 6,
        "face": 238,
        "left_hand": 20,
        "right_hand": 20,
        "extra": 7,
    }
    assert list(pck_groups(BODY)) == [""]


def test_pck_golden() -> None:
    """Errors of 1, 4, 15 and (face) 10 px on a side of 100 px; a distance of exactly 0.1 is not closer."""
    truth, guess = np.zeros((133, 3)), np.zeros((133, 3))
    truth[:3, 2] = 2
    guess[:3, 0] = [1, 4, 15]
    guess[50, :2] = 99  # not labelled
    face = WHOLE.groups["face"][0]
    truth[face] = [10, 10, 1]
    guess[face] = [10, 20, 1]
    groups = pck_groups(WHOLE)
    scores = pck_scores(list(groups))(pck_sums(truth, guess, 100.0, groups)[None])
    values = {name: float(value[0]) for name, value in scores.items()}
    assert values["pck02"] == 0.25 and values["pck05"] == 0.5
    assert values["pck10"] == 0.5 and values["pck20"] == 1.0
    assert values["error_px"] == (1 + 4 + 15 + 10) / 4
    assert values["pck10/body"] == pytest.approx(2 / 3) and values["pck10/face"] == 0
    assert np.isnan(values["pck10/left_hand"])


def test_oks_and_person_score_golden() -> None:
    truth = np.array([[0, 0, 2], [0, 0, 1], [0, 0, 0]], float)
    guess = np.array([[3, 4, 0.9], [0, 0, 0.3], [50, 0, 0.1]])
    sigmas = np.array([0.05, 0.1, 0.1])
    expected = (np.exp(-25 / (2 * 400 * 0.01)) + 1) / 2
    assert oks(truth, guess, 400.0, sigmas) == pytest.approx(expected)
    assert person_score(guess, box_score=0.5) == pytest.approx(0.5 * (0.9 + 0.3) / 2)
    assert person_score(np.array([[0, 0, 0.2]])) == 0  # not above 0.2


def test_a_guess_like_a_better_one_is_dropped() -> None:
    points = np.column_stack([np.arange(17.0) * 10, np.arange(17.0), np.ones(17)])
    same = points + np.array([0.5, 0, 0])
    far = points + np.array([40, 0, 0])
    guesses = [
        PoseGuess(1, keypoints, score, 1e4) for keypoints, score in ((same, 0.5), (points, 0.9), (far, 0.7))
    ]
    kept = without_duplicates(guesses, BODY.sigmas)
    assert [guess.score for guess in kept] == [0.9, 0.7]


def test_results_have_the_fields_of_their_vocabulary() -> None:
    guess = PoseGuess(1, np.column_stack([np.arange(133.0), np.zeros(133), np.ones(133)]), 0.5)
    entry = coco_result(guess, 785, WHOLE)
    assert entry["image_id"] == 785 and entry["score"] == 0.5
    assert [len(entry[field]) // 3 for field in FIELDS] == [17, 6, 68, 21, 21]
    assert entry["foot_kpts"][0] == 17 and entry["lefthand_kpts"][0] == 91
    assert "keypoints" in coco_result(PoseGuess(1, guess.keypoints[:17], 0.5), "a", BODY)


def test_detections_are_read_by_image_and_bad_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    entry = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}
    path.write_text(json.dumps([entry, {**entry, "category_id": 3}, {**entry, "image_id": "k"}]))
    found = read_detections(path)
    assert {name: len(boxes) for name, boxes in found.items()} == {"7": 1, "k": 1}
    labels = Labels(keypoints=np.zeros((1, 17, 4), np.float32), meta={"image_id": 7})
    assert with_detections("any", labels, found).meta["detections"][0].box == (1, 2, 30, 40)
    path.write_text(json.dumps([{**entry, "bbox": [1, 2]}]))
    with pytest.raises(UsageError, match=r"entry 0: expected image_id, category_id, bbox"):
        read_detections(path)
    path.write_text("{}")
    with pytest.raises(UsageError, match="expected a list"):
        read_detections(path)


@needs_photos
@pytest.mark.parametrize("boxes", ["truth", "detected"])
def test_the_evaluator_equals_pycocotools_on_cocos_file(boxes: Any) -> None:
    """Shaken truth through the task's evaluator, boxes from the annotations or from a detector."""
    content = json.loads((PHOTOS / "coco_keypoints.json").read_text())
    task = make_task("pose", TaskConfig(keypoints=17))
    task.scoring = Scoring(boxes=boxes)
    evaluator: Any = task.evaluator()
    rng = np.random.default_rng(0)
    entries = []
    for image in content["images"]:
        people = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        points = np.array([a["keypoints"] for a in people], np.float32).reshape(-1, 17, 3)
        keypoints = np.insert(points, 2, 0, axis=2)
        size = (image["height"], image["width"], 3)
        labels = Labels(
            rgb=np.zeros(size, np.uint8),
            keypoints=keypoints,
            meta={"image_id": image["id"], "people": people},
        )
        if boxes == "detected":
            found = [Detection(tuple(a["bbox"]), 0.75) for a in people]
            labels = with_detections("key", labels, {str(image["id"]): found})
        evaluator.begin(f"key-{image['id']}", labels)
        for person in task.people(labels):
            noise = rng.normal(0, 0.03 * np.sqrt(people[person]["area"]), (17, 2))
            guess = np.column_stack([points[person, :, :2] + noise, rng.uniform(0.3, 1, 17)])
            evaluator.add(f"key-{image['id']}", labels, person, guess.astype(np.float64))
            score = guess[:, 2].mean() * (0.75 if boxes == "detected" else 1)
            entries.append(
                {
                    "image_id": image["id"],
                    "category_id": 1,
                    "keypoints": guess.ravel().tolist(),
                    "score": score,
                }
            )
    scores = evaluator.compute()
    expected = _direct(entries)
    assert len(entries) == (6 if boxes == "detected" else 5)  # one person has no labelled point
    assert [scores[name] for name in ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar")] == pytest.approx(
        expected[:6], abs=1e-9
    )
    assert 0.05 < scores["ap"] < 0.99
    assert ("pck10" in scores) == (boxes == "truth")
    results = json.loads(evaluator.files()["keypoints.json"])
    assert _direct(results)[:6] == pytest.approx(expected[:6], abs=2e-3)  # rounded to 0.001 px
    sure = evaluator.resampled(np.ones((1, 2)))
    assert sure["ap"][0] == pytest.approx(scores["ap"], abs=1e-12)


def _direct(entries: list[dict[str, Any]]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gold: Any = COCO(str(PHOTOS / "coco_keypoints.json"))
        evaluation: Any = COCOeval(gold, gold.loadRes(entries), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]
