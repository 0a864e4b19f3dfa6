"""Pose: the heat-map codec to a fraction of a pixel, boxes, people, and the mean pose."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.keypoints import keypoint_vocabulary
from annotation.labels import Labels
from train.tasks import TaskConfig
from train.tasks.heatmaps import decode_heatmaps, encode_heatmaps, unit_scale
from train.tasks.people import person_box
from train.tasks.pose import PoseTask

TASK = PoseTask(TaskConfig())


@settings(max_examples=60, deadline=None)
@given(x=st.floats(8, 39), y=st.floats(8, 55), sigma=st.sampled_from([1.5, 2.0, 3.0]))
def test_a_point_survives_encoding_and_decoding(x: float, y: float, sigma: float) -> None:
    heatmaps = encode_heatmaps(np.array([[x, y]]), (64, 48), sigma)
    points, scores = decode_heatmaps(torch.from_numpy(heatmaps), (64, 48), blur=5)
    np.testing.assert_allclose(points, [[x, y]], atol=0.06)
    assert 0.8 < scores[0] <= 1


def test_first_and_last_pixels_of_input_and_heat_map_coincide() -> None:
    scale = unit_scale((256, 192), (64, 48))
    np.testing.assert_allclose(scale * [47, 63], [191, 255])
    heatmaps = np.zeros((1, 64, 48), np.float32)
    heatmaps[0, 63, 47] = 1
    points, _ = decode_heatmaps(torch.from_numpy(heatmaps), (256, 192), blur=3)
    np.testing.assert_allclose(points, [[191, 255]], atol=4.1)  # within the clamp of one heat-map pixel


def test_the_gaussian_is_one_at_its_centre_and_ends_at_three_sigma() -> None:
    heatmap = encode_heatmaps(np.array([[10.0, 12.0]]), (32, 32), 2.0)[0]
    assert heatmap[12, 10] == 1
    assert heatmap[12, 12] == pytest.approx(np.exp(-0.5))
    assert heatmap[12, 16] > 0 and heatmap[12, 17] == 0


def test_an_empty_heat_map_is_decoded_without_nan() -> None:
    points, scores = decode_heatmaps(torch.zeros(3, 16, 12), (64, 48), blur=11)
    assert np.isfinite(points).all() and (scores == 0).all()


def _two_people() -> Labels:
    keypoints = np.zeros((3, 17, 4), np.float32)
    keypoints[0, :3] = [[10, 10, 2, 2], [30, 50, 2, 1], [99, 99, 2, 0]]
    keypoints[2, 5] = [60, 20, 2, 2]
    instance = np.zeros((80, 100), np.uint8)
    instance[5:61, 8:41] = 1
    instance[10:30, 50:70] = 3
    return Labels(rgb=np.zeros((80, 100, 3), np.uint8), keypoints=keypoints, instance=instance)


def test_people_are_those_with_a_labelled_point() -> None:
    assert TASK.people(_two_people()) == [0, 2]


def test_the_box_is_the_masks_extent_else_that_of_the_labelled_points() -> None:
    labels = _two_people()
    assert person_box(labels, 0).tolist() == [8, 5, 40, 60]
    bare = Labels(rgb=labels.rgb, keypoints=labels.keypoints)
    assert person_box(bare, 0).tolist() == [10, 10, 30, 50]


def test_weights_are_zero_for_points_that_are_unlabelled_or_out_of_view() -> None:
    labels = _two_people()
    target = TASK.target(TASK.view(labels, 0, (64, 48)).apply(labels), 0, (16, 12))
    assert target["weights"].nonzero().flatten().tolist() == [0, 1]
    assert target["heatmaps"][2:].abs().max() == 0
    assert target["heatmaps"].shape == (17, 16, 12)


def test_unlabelled_points_cost_nothing() -> None:
    heatmaps, weights = torch.zeros(1, 17, 8, 6), torch.zeros(1, 17)
    weights[0, 3] = 1
    output = torch.ones(1, 17, 8, 6)
    loss = TASK.loss(output, {"heatmaps": heatmaps, "weights": weights})
    assert loss.item() == pytest.approx(1 / 17)  # a mean over everything


def test_the_baseline_is_the_mean_pose() -> None:
    targets = []
    for x in (10.0, 14.0):
        points, weights = torch.zeros(17, 2), torch.zeros(17)
        points[0], weights[0] = torch.tensor([x, 20.0]), 1
        targets.append({"points": points, "weights": weights, "heatmaps": torch.zeros(17, 64, 48)})
    decoded, _ = decode_heatmaps(TASK.baselines(targets)["constant"], (64, 48), blur=5)
    np.testing.assert_allclose(decoded[0], [12, 20], atol=0.05)


def test_keypoints_are_read_in_the_tasks_vocabulary() -> None:
    many = np.zeros((1, 308, 4), np.float32)
    many[0, keypoint_vocabulary(308).index("left_wrist")] = [3, 4, 5, 2]
    prepared = TASK.prepare(Labels(keypoints=many)).keypoints
    assert prepared is not None and prepared.shape == (1, 17, 4)
    assert prepared[0, keypoint_vocabulary(17).index("left_wrist")].tolist() == [3, 4, 5, 2]


def test_points_that_the_data_lack_weigh_nothing() -> None:
    """Data of 17 points trains 308: what a model says about the others costs nothing."""
    few = np.full((1, 17, 4), 20, np.float32)
    few[..., 3] = 2
    task = PoseTask(TaskConfig(keypoints=308))
    labels = task.prepare(Labels(rgb=np.zeros((64, 48, 3), np.uint8), keypoints=few))
    target = task.target(labels, 0, (16, 12))
    known = target["weights"] > 0
    assert int(known.sum()) == 17
    assert not target["heatmaps"][~known].any() and target["heatmaps"][known].flatten(1).any(1).all()
    target = {name: value[None] for name, value in target.items()}
    wrong = target["heatmaps"] + 5.0 * ~known[None, :, None, None]
    assert task.loss(wrong, target) == 0
    assert task.loss(target["heatmaps"] + 1.0, target) == pytest.approx(17 / 308)
