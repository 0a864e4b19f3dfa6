"""Depth: the target of a crop and the loss of Eq. 1-3, against values computed by hand."""

import numpy as np
import pytest
import torch

from annotation.labels import Labels
from train.data.view import View
from train.tasks import TaskConfig
from train.tasks.depth import DepthTask, floored_log, relative_depth, silog


def test_relative_depth_is_near_zero_far_one_on_the_person() -> None:
    depth = np.array([[2.0, 3.0, 4.0, 9.0, 0.0]], np.float32)
    alpha = np.array([[255, 128, 255, 100, 255]], np.uint8)
    relative = relative_depth(Labels(depth=depth, alpha=alpha))
    np.testing.assert_allclose(relative, [[0, 0.5, 1, -1, -1]])


def test_the_range_is_that_of_the_crop_not_of_the_image() -> None:
    depth = np.linspace(1, 5, 5, dtype=np.float32)[None].repeat(3, 0)
    crop = View((1.0, 1.0), 3.0, 3.0, (3, 3)).apply(Labels(depth=depth))
    np.testing.assert_allclose(relative_depth(crop)[0], [0, 0.5, 1])


def test_silog_golden() -> None:
    # Log differences 0, ln 2, ln 4 -> mean of squares 5/3 ln2^2, mean ln 2, Eq. 3: (5/3 - 1/2) ln2^2.
    truth = torch.tensor([[[0.5, 0.5, 1.0, 0.0, -1.0]]])
    predicted = torch.tensor([[[0.5, 0.25, 0.25, 3.0, 3.0]]])
    expected = (5 / 3 - 1 / 2) * np.log(2) ** 2
    assert silog(predicted, truth, 0.05).item() == pytest.approx(expected, rel=1e-6)
    for config, value in (
        (TaskConfig(silog="plain"), expected),
        (TaskConfig(silog="root"), np.sqrt(expected)),
    ):
        task = DepthTask(config)
        assert task.loss(predicted[:, None], {"depth": truth}).item() == pytest.approx(value, rel=1e-6)


def test_half_of_a_common_factor_is_forgiven() -> None:
    truth = torch.rand(1, 4, 4) + 0.1
    assert silog(truth * 2, truth, 0.05).item() == pytest.approx(np.log(2) ** 2 / 2, rel=1e-5)


def test_outputs_at_or_below_zero_have_a_finite_cost_and_a_gradient() -> None:
    truth = torch.full((1, 1, 3), 0.5)
    predicted = torch.tensor([[[-1.0, 0.0, 0.5]]], requires_grad=True)
    loss = silog(predicted, truth, 0.05).sum()
    torch.autograd.backward(loss)
    assert torch.isfinite(loss) and predicted.grad is not None
    assert predicted.grad[0, 0, 0] < 0 and (predicted.grad != 0).all()


def test_the_floored_logarithm_is_the_logarithm_and_its_tangent() -> None:
    values = torch.tensor([[[0.5, 0.05, 0.0, -0.05]]])
    expected = [np.log(0.5), np.log(0.05), np.log(0.05) - 1, np.log(0.05) - 2]
    np.testing.assert_allclose(floored_log(values, 0.05)[0, 0], expected, rtol=1e-5)
