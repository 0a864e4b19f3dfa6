"""Metrics against values computed by hand, and keypoints against pycocotools run on COCO's own file."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.keypoints import keypoint_vocabulary
from train.metrics.coco import PosedPerson, PoseGuess, coco_scores
from train.metrics.depth import align_depth, depth_errors
from train.metrics.normal import SUMS, angle_scores, angle_sums, angles
from train.metrics.parts import class_scores, confusion, confusion_scores
from train.metrics.pose import pixel_errors
from train.metrics.resampling import ImageSums

PHOTOS = Path(__file__).parents[3] / "shared/data/photos"


def test_depth_golden() -> None:
    # Truth 1, 2, 3 and prediction 0, 0, 3: scale 1/2, shift 3/2 -> 1.5, 1.5, 3.
    truth = np.array([[1.0, 2.0, 3.0, 9.0]])
    prediction = np.array([[0.0, 0.0, 3.0, -7.0]])
    mask = np.array([[True, True, True, False]])
    errors = depth_errors(prediction, truth, mask)
    assert errors.rmse == pytest.approx(np.sqrt((0.25 + 0.25) / 3))
    assert errors.abs_rel == pytest.approx((0.5 + 0.25) / 3)
    assert errors.delta1 == pytest.approx(1 / 3)  # ratios 1.5, 1.33, 1


def test_a_constant_depth_becomes_the_mean() -> None:
    truth = np.array([1.0, 2.0, 6.0])
    np.testing.assert_allclose(align_depth(np.full(3, 0.7), truth), 3.0)
    np.testing.assert_allclose(align_depth(np.zeros(3), truth), 3.0)


def test_disparity_golden() -> None:
    """Truth 1, 2, 4 m: disparity 1, 1/2, 1/4. Prediction 0, 0, 3 fits 3/4, 3/4, 1/4: depth 4/3, 4/3, 4."""
    truth = np.array([[1.0, 2.0, 4.0]])
    prediction = np.array([[0.0, 0.0, 3.0]])
    errors = depth_errors(prediction, truth, truth > 0, "disparity", cap=10.0)
    assert errors.rmse == pytest.approx(np.sqrt((1 / 9 + 4 / 9) / 3))
    assert errors.abs_rel == pytest.approx((1 / 3 + 1 / 3) / 3)
    assert errors.delta1 == pytest.approx(1 / 3)  # ratios 4/3, 3/2, 1
    # A fit of 1/4 m^-1 at the last pixel is beyond a cap of 2 m.
    np.testing.assert_allclose(align_depth(prediction[0], truth[0], "disparity", 2.0), [4 / 3, 4 / 3, 2])


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 50), shift=st.floats(-5, 5))
def test_a_perfect_disparity_is_perfect_in_its_own_space_only(scale: float, shift: float) -> None:
    truth = np.random.default_rng(0).uniform(1, 6, (4, 5))
    prediction = scale / truth + shift
    everywhere = np.ones((4, 5), dtype=bool)
    assert depth_errors(prediction, truth, everywhere, "disparity").rmse == pytest.approx(0, abs=1e-9)
    assert depth_errors(prediction, truth, everywhere, "depth").rmse > 0.1


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(-50, 50).filter(lambda s: abs(s) > 1e-2), shift=st.floats(-50, 50))
def test_depth_does_not_depend_on_scale_and_shift(scale: float, shift: float) -> None:
    rng = np.random.default_rng(0)
    truth, prediction = rng.uniform(1, 3, (4, 5)), rng.uniform(0, 1, (4, 5))
    mask = rng.random((4, 5)) < 0.7
    expected = depth_errors(prediction, truth, mask)
    np.testing.assert_allclose(depth_errors(prediction * scale + shift, truth, mask), expected, rtol=1e-6)


def test_alignment_is_the_least_squares_solution() -> None:
    rng = np.random.default_rng(1)
    prediction, truth = rng.normal(size=20), rng.normal(5, 1, size=20)
    design = np.column_stack([prediction, np.ones(20)])
    solution = np.linalg.lstsq(design, truth, rcond=None)[0]
    np.testing.assert_allclose(align_depth(prediction, truth), design @ solution)


def test_normal_golden() -> None:
    z = np.array([0.0, 0.0, 1.0])
    tilted = [np.array([np.sin(np.radians(d)), 0, np.cos(np.radians(d))]) for d in (0, 4, 10, 20, 180)]
    degrees = angles(np.stack([2 * n for n in tilted]), np.stack([z] * 5))
    np.testing.assert_allclose(degrees, [0, 4, 10, 20, 180], atol=1e-9)
    statistics = ImageSums(SUMS, angle_scores)
    statistics.count("a", angle_sums(degrees[:2]))
    statistics.count("b", angle_sums(degrees[2:]))
    assert statistics.compute() == {
        "mean": pytest.approx(214 / 5),
        "median": pytest.approx(10, abs=0.026),
        "rmse": pytest.approx(np.sqrt((16 + 100 + 400 + 180**2) / 5)),
        "within_5": pytest.approx(2 / 5),
        "within_7.5": pytest.approx(2 / 5),
        "within_11.25": pytest.approx(3 / 5),
        "within_22.5": pytest.approx(4 / 5),
        "within_30": pytest.approx(4 / 5),
    }


def test_small_angles_are_exact_in_float32() -> None:
    a = np.array([[0.0, 0.0, 1.0]], np.float32)
    b = np.array([[1e-4, 0.0, 1.0]], np.float32)
    assert angles(a, b)[0] == pytest.approx(np.degrees(1e-4), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 180), min_size=1, max_size=40))
def test_the_median_of_the_histogram_is_the_median(values: list[float]) -> None:
    median = angle_scores(angle_sums(np.array(values))[None])["median"][0]
    assert median == pytest.approx(np.median(values), abs=0.0251)


def test_parts_golden() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 2, 255]], np.uint8)
    prediction = np.array([[0, 1, 1, 1], [2, 2, 3, 0]], np.uint8)
    counts = confusion(prediction, truth, 5)
    scores = confusion_scores("abcde")(counts.reshape(1, -1).astype(np.float64))
    # IoU: 1/2, 2/3, 2/3, 0 (predicted, never true), none (class 4); accuracy: 1/2, 1, 2/3.
    assert {name: float(scores[name][0]) for name in ("miou", "macc", "aacc")} == {
        "miou": pytest.approx((1 / 2 + 2 / 3 + 2 / 3 + 0) / 4),
        "macc": pytest.approx((1 / 2 + 1 + 2 / 3) / 3),
        "aacc": pytest.approx(5 / 7),
    }
    iou, accuracy = class_scores(counts.astype(np.float64))
    np.testing.assert_allclose(iou, [1 / 2, 2 / 3, 2 / 3, 0, np.nan])
    np.testing.assert_allclose(accuracy, [1 / 2, 1, 2 / 3, np.nan, np.nan])


def test_the_confusion_matrix_is_one_over_the_data_set_not_a_mean_over_images() -> None:
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 3, (2, 8, 6)).astype(np.uint8)
    sums = ImageSums(9, confusion_scores("abc"))
    for name, rows in (("top", slice(0, 3)), ("bottom", slice(3, 8))):
        sums.count(name, confusion(prediction[rows], truth[rows], 3).reshape(-1).astype(np.float64))
    whole = confusion(prediction, truth, 3).reshape(1, -1).astype(np.float64)
    assert sums.compute() == {name: pytest.approx(value[0]) for name, value in sums.scores(whole).items()}


def _person(image: int, offset: float = 0.0) -> PosedPerson:
    x = np.linspace(10, 100, 17)
    keypoints = np.column_stack([x + offset, 2 * x, np.full(17, 2.0)])
    return PosedPerson(image, keypoints, (10.0, 20.0, 90.0, 180.0), area=10_000.0)


def test_oks_golden() -> None:
    """One point labelled; its distance is chosen to give OKS 0.82: a match up to the threshold 0.80 (7 of
    10).
    """
    sigmas = keypoint_vocabulary(17).sigmas
    keypoints = np.zeros((17, 3))
    keypoints[0] = [50, 50, 2]
    truth = [PosedPerson(1, keypoints, (0.0, 0.0, 100.0, 100.0), area=10_000.0)]
    distance = np.sqrt(-np.log(0.82) * 2 * 10_000 * (2 * sigmas[0]) ** 2)
    guess = keypoints + np.eye(17, 3) * [distance, 0, 0]
    scores = coco_scores(truth, [PoseGuess(1, guess, 0.9)], sigmas)
    assert scores["ap"] == pytest.approx(0.7)
    assert scores["ar"] == pytest.approx(0.7)
    assert scores["ap50"] == pytest.approx(1.0)
    assert scores["ap_medium"] == -1


def test_coco_scores_of_the_truth_are_one_and_of_nothing_zero() -> None:
    truth = [_person(1), _person(2)]
    sigmas = keypoint_vocabulary(17).sigmas
    perfect = [PoseGuess(person.image, person.keypoints, 1.0) for person in truth]
    assert coco_scores(truth, perfect, sigmas)["ap"] == pytest.approx(1)
    assert coco_scores(truth, [], sigmas)["ap"] == 0


def test_pixel_errors_count_labelled_points_only() -> None:
    truth = np.array([[0, 0, 2], [10, 0, 1], [5, 5, 0]], np.float64)
    guess = np.array([[3, 4, 1], [10, 1, 1], [99, 99, 1]], np.float64)
    np.testing.assert_allclose(pixel_errors(truth, guess), [5, 1])


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared/data/photos is not there")
def test_keypoint_scores_equal_pycocotools_on_a_coco_file(tmp_path: Path) -> None:
    path = PHOTOS / "coco_keypoints.json"
    annotations = json.loads(path.read_text())["annotations"]
    rng = np.random.default_rng(0)
    guesses = []
    for annotation in annotations:
        keypoints = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)
        keypoints[:, :2] += rng.normal(0, 0.04 * np.sqrt(annotation["area"]), (17, 2))
        keypoints[:, 2] = rng.random(17)
        guesses.append(PoseGuess(annotation["image_id"], keypoints, float(rng.random())))
    truth = [
        PosedPerson(
            a["image_id"],
            np.array(a["keypoints"], np.float64).reshape(-1, 3),
            tuple(a["bbox"]),
            a["area"],
            bool(a["iscrowd"]),
        )
        for a in annotations
    ]
    ours = coco_scores(truth, guesses, keypoint_vocabulary(17).sigmas)
    assert list(ours.values()) == pytest.approx(_reference(path, guesses, tmp_path), abs=1e-12)
    assert 0.05 < ours["ap"] < 0.95  # a comparison of ones or zeros would prove nothing


def _reference(path: Path, guesses: list[PoseGuess], folder: Path) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    results = [
        {"image_id": g.image, "category_id": 1, "keypoints": g.keypoints.ravel().tolist(), "score": g.score}
        for g in guesses
    ]
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        gold: Any = COCO(str(path))
        evaluation: Any = COCOeval(gold, gold.loadRes(str(folder / "results.json")), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]
