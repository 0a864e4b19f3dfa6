"""Parts: the weighted loss by hand, ignored pixels, and the start from the frequencies."""

import numpy as np
import pytest
import torch

from annotation.labels import Labels
from annotation.parts import IGNORE, part_vocabulary
from train.tasks import TaskConfig
from train.tasks.parts import PartsTask

TASK = PartsTask(TaskConfig())


def test_the_loss_weighs_the_true_class_and_averages_over_labelled_pixels() -> None:
    weights = part_vocabulary(28).weights
    assert weights is not None
    parts = torch.tensor([[[0, 3, 255]]], dtype=torch.uint8)
    loss = TASK.loss(torch.zeros(1, 28, 1, 3), {"parts": parts}).item()
    assert loss == pytest.approx((weights[0] + weights[3]) / 2 * np.log(28), rel=1e-6)


def test_twenty_nine_classes_have_no_weights() -> None:
    task = PartsTask(TaskConfig(classes=29))
    parts = torch.tensor([[[0, 3]]], dtype=torch.uint8)
    assert task.loss(torch.zeros(1, 29, 1, 2), {"parts": parts}).item() == pytest.approx(np.log(29))


def test_the_start_is_the_best_constant_output_of_the_weighted_loss() -> None:
    parts = torch.zeros(1, 8, 8, dtype=torch.uint8)
    parts[0, :3], parts[0, 3] = 3, 1
    target = {"parts": parts}
    constant = TASK.baselines([{"parts": parts[0]}])["constant"]
    start = TASK.start(constant).clone().requires_grad_()
    loss = TASK.loss(start.view(1, -1, 1, 1).expand(1, 28, 8, 8), target)
    (gradient,) = torch.autograd.grad(loss, start)
    assert gradient.abs().max() < 2e-3


def test_the_baselines_are_the_majority_of_all_and_of_each_pixel() -> None:
    pictures = [torch.tensor(p, dtype=torch.uint8) for p in ([[0, 3, 3]], [[0, 3, 0]], [[0, 0, 255]])]
    baselines = TASK.baselines([{"parts": p} for p in pictures])
    assert baselines["constant"].argmax().item() == 0
    assert baselines["majority_map"].argmax(0).tolist() == [[0, 3, 0]]


def test_parts_are_read_in_the_tasks_vocabulary() -> None:
    names = part_vocabulary(29).names
    parts = np.array([[names.index(name) for name in ("Background", "Eyeglass", "Hair", "Tongue")]], np.uint8)
    prepared = TASK.prepare(Labels(parts=parts, part_classes=29))
    assert prepared.parts is not None and prepared.part_classes == 28
    assert prepared.parts.tolist() == [[0, IGNORE, *map(part_vocabulary(28).index, ("Hair", "Tongue"))]]
    kept = PartsTask(TaskConfig(classes=29)).prepare(Labels(parts=parts, part_classes=29))
    assert kept.parts is not None and (kept.parts == parts).all()
