"""Normals: Eq. 4 by hand, the frame, and the baseline."""

import numpy as np
import pytest
import torch

from annotation.labels import Labels
from train.data.view import View
from train.tasks import TaskConfig
from train.tasks.normal import NormalTask

TASK = NormalTask(TaskConfig())


def test_the_loss_is_l1_of_the_raw_output_plus_one_minus_cosine() -> None:
    normal = torch.zeros(1, 3, 1, 2)
    normal[0, :, 0, 0] = torch.tensor([0.0, 0.0, 1.0])  # the other pixel is background
    output = torch.zeros(1, 3, 1, 2)
    output[0, :, 0, 0] = torch.tensor([0.0, 3.0, 4.0])
    output[0, :, 0, 1] = 100.0
    assert TASK.loss(output, {"normal": normal}).item() == pytest.approx((3 + 3) + (1 - 0.8))


def test_only_covered_pixels_with_a_normal_are_targets() -> None:
    normal = np.zeros((1, 3, 3), np.float32)
    normal[0, :2] = [0, 0, 1]
    target = TASK.target(Labels(normal=normal, alpha=np.array([[255, 20, 255]], np.uint8)), 0, (1, 3))
    assert target["normal"][2].tolist() == [[1, 0, 0]]


def test_mirroring_negates_x_alone() -> None:
    normal = np.array([[[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]], np.float32)
    view = View((0.5, 0.0), 2.0, 1.0, (1, 2), mirror=True)
    changed = view.apply(Labels(normal=normal)).normal
    assert changed is not None
    np.testing.assert_allclose(changed, np.array([[[0, 0, 1], [-0.6, 0.8, 0]]]), atol=1e-7)


def test_a_quarter_turn_clockwise_takes_right_to_down() -> None:
    normal = np.array([[[1.0, 0.0, 0.0]]], np.float32)  # points right
    changed = View((0.0, 0.0), 1.0, 1.0, (1, 1), angle=90.0).apply(Labels(normal=normal)).normal
    assert changed is not None
    np.testing.assert_allclose(changed[0, 0], [0, -1, 0], atol=1e-7)  # y is up: down is -1


def test_the_constant_baseline_is_the_mean_direction() -> None:
    normal = torch.zeros(3, 1, 2)
    normal[:, 0, 0], normal[:, 0, 1] = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 0, 1])
    constant = TASK.baselines([{"normal": normal}])["constant"].flatten()
    torch.testing.assert_close(constant, torch.tensor([0.5**0.5, 0, 0.5**0.5]))
