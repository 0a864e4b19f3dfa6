"""Intervals: resamples do what resampled data would do, and cover the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.metrics.normal import SUMS, angle_scores, angle_sums
from train.metrics.parts import confusion, confusion_scores
from train.metrics.resampling import ImageSums, Resampled, draw_weights, intervals, mean_scores


def means(values: list[float]) -> ImageSums:
    sums = ImageSums(2, mean_scores(["score"]))
    for number, value in enumerate(values):
        sums.count(f"image-{number}", np.array([1, value]))
    return sums


def groups(sums: ImageSums) -> dict[str, str]:
    return {key: key for key in sums.keys}


def test_weights_draw_as_many_groups_as_there_are_and_whole_groups_only() -> None:
    weights = np.concatenate(list(draw_weights(["a", "b", "b", "c"], 250, seed=0)))
    assert weights.shape == (250, 4)
    assert np.array_equal(weights[:, 1], weights[:, 2])
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(4), abs=0.15)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=3, max_size=3).filter(any))
def test_a_resample_scores_as_the_repeated_images_would(times: list[int]) -> None:
    rng = np.random.default_rng(1)
    pictures = [180 * rng.random(rng.integers(3, 9)) for _ in range(3)]
    sums = ImageSums(SUMS, angle_scores)
    for number, degrees in enumerate(pictures):
        sums.count(str(number), angle_sums(degrees))
    resampled = sums.resampled(np.array([times], dtype=np.float64))
    pooled = np.concatenate([pictures[n] for n, count in enumerate(times) for _ in range(count)])
    assert resampled["mean"][0] == pytest.approx(pooled.mean())
    assert resampled["rmse"][0] == pytest.approx(np.sqrt((pooled**2).mean()))
    assert resampled["median"][0] == pytest.approx(np.median(pooled), abs=0.0251)
    assert resampled["within_30"][0] == pytest.approx((pooled < 30).mean())


def test_resampled_iou_is_that_of_the_summed_confusion_matrices() -> None:
    rng = np.random.default_rng(0)
    sums = ImageSums(9, confusion_scores("abc"))
    matrices = []
    for number in range(4):
        prediction, truth = rng.integers(0, 3, (2, 5, 5)).astype(np.uint8)
        matrices.append(confusion(prediction, truth, 3))
        sums.count(str(number), matrices[-1].reshape(-1).astype(np.float64))
    weights = np.array([[2.0, 0, 1, 1]])
    total = 2 * matrices[0] + matrices[2] + matrices[3]
    hits = total.diagonal()
    expected = (hits / (total.sum(0) + total.sum(1) - hits)).mean()
    assert sums.resampled(weights)["miou"][0] == pytest.approx(expected)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """400 data sets of 40 images each from a known distribution: 95 % intervals, 91 .. 98 % coverage."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        sums = means(rng.normal(2.0, 1.0, 40).tolist())
        low, high = intervals(sums, groups(sums), 200, seed=int(rng.integers(1 << 30)))["score"]
        hits += low <= 2.0 <= high
    assert 0.91 * 400 <= hits <= 0.98 * 400


def test_one_persons_images_count_as_one_draw() -> None:
    """Ten people with five equal images each: 50 images promise a certainty that 10 people do not give."""
    values = np.repeat(np.random.default_rng(0).normal(size=10), 5).tolist()
    sums = means(values)
    alone = intervals(sums, groups(sums), 1000, seed=0)["score"]
    people = {key: f"person-{int(key.split('-')[1]) // 5}" for key in sums.keys}
    together = intervals(sums, people, 1000, seed=0)["score"]
    ratio = (together[1] - together[0]) / (alone[1] - alone[0])
    assert ratio == pytest.approx(np.sqrt(5), rel=0.15)


def test_the_same_seed_gives_the_same_interval_and_one_image_none() -> None:
    sums = means([1.0, 2.0, 4.0])
    assert intervals(sums, groups(sums), 100, seed=1) == intervals(sums, groups(sums), 100, seed=1)
    assert intervals(sums, groups(sums), 100, seed=1) != intervals(sums, groups(sums), 100, seed=2)
    assert intervals(means([1.0]), {"image-0": "image-0"}, 100, seed=1) == {}
    assert intervals(sums, groups(sums), 0, seed=1) == {}


def test_ranks_merge_to_what_one_would_have_counted() -> None:
    whole, left, right = (ImageSums(SUMS, angle_scores) for _ in range(3))
    for number in range(6):
        vector = angle_sums(180 * np.random.default_rng(number).random(20))
        whole.count(str(number), vector)
        (left if number < 3 else right).count(str(number), vector)
    left.merge(right)
    assert left.compute() == pytest.approx(whole.compute())
    assert list(left.keys) == list(whole.keys)
    assert isinstance(whole, Resampled)


def test_nothing_counted_scores_nothing_and_images_may_be_forgotten() -> None:
    sums = ImageSums(2, mean_scores(["score"]))
    assert sums.compute() == {}
    sums.keep_images = False
    sums.count("a", np.array([1.0, 3.0]))
    assert sums.compute() == {"score": 3.0} and not list(sums.keys)
