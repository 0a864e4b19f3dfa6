"""Pieces of losses against values computed by hand, and the options of depth and pose built from them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.tasks import TaskConfig
from train.tasks.depth import DepthTask
from train.tasks.losses import gradient_loss, masked_mean, scale_and_shift_free
from train.tasks.pose import PoseTask


def test_a_masked_mean_is_of_the_mask_and_zero_without_one() -> None:
    values = torch.tensor([[[1.0, 2.0, 9.0]], [[4.0, 4.0, 4.0]]])
    mask = torch.tensor([[[True, True, False]], [[False, False, False]]])
    assert masked_mean(values, mask).tolist() == [1.5, 0]


def test_gradients_of_a_ramp_by_hand() -> None:
    """Residual x + 10 y on 16 x 16: neighbours differ by (1, 10), at coarser scales by 2, 4, 8 times that."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    residual = (x + 10 * y)[None, None]
    loss = gradient_loss(residual, torch.ones(1, 16, 16, dtype=torch.bool))
    assert loss.item() == pytest.approx(11 * (1 + 2 + 4 + 8) / 4)


def test_gradients_count_neighbours_within_the_mask_only_and_no_constant() -> None:
    residual = torch.zeros(1, 1, 16, 16)
    residual[..., 8:] = 5
    left = torch.zeros(1, 16, 16, dtype=torch.bool)
    left[..., :8] = True
    assert gradient_loss(residual, left).item() == 0
    assert gradient_loss(residual, torch.ones_like(left)).item() > 0
    assert gradient_loss(residual + 3, ~left).item() == 0


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_scale_and_shift_do_not_matter_but_a_sign_does(scale: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values, mask = torch.rand(2, 9, 7, generator=generator), torch.rand(2, 9, 7, generator=generator) > 0.3
    plain = scale_and_shift_free(values, mask)
    torch.testing.assert_close(
        scale_and_shift_free(scale * values + shift, mask), plain, atol=2e-3, rtol=2e-3
    )
    assert (scale_and_shift_free(-values, mask) - plain).abs().max() > 1
    assert (plain[~mask] == 0).all()


def test_scale_and_shift_free_by_hand() -> None:
    values = torch.tensor([[[1.0, 2.0, 6.0, 99.0]]])
    mask = torch.tensor([[[True, True, True, False]]])
    # Median 2, mean |difference| 5 / 3.
    torch.testing.assert_close(scale_and_shift_free(values, mask), torch.tensor([[[-0.6, 0.0, 2.4, 0.0]]]))


def test_ssi_depth_by_hand() -> None:
    truth = torch.tensor([[[0.0, 0.5, 1.0, -1.0]]])  # median 0.5, spread 1/3: -1.5, 0, 1.5
    predicted = torch.tensor([[[[1.0, 2.0, 6.0, 50.0]]]])  # -0.6, 0, 2.4
    task = DepthTask(TaskConfig(depth_loss="ssi"))
    assert task.loss(predicted, {"depth": truth}).item() == pytest.approx((0.9 + 0 + 0.9) / 3, rel=1e-5)
    assert task.loss(3 * predicted + 1, {"depth": truth}).item() == pytest.approx(0.6, rel=1e-5)
    assert task.loss(truth[:, None], {"depth": truth}).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["silog", "ssi"])
def test_the_gradient_term_of_depth_is_an_option(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    truth, predicted = (
        torch.rand(1, 16, 16, generator=generator),
        torch.rand(1, 1, 16, 16, generator=generator),
    )
    losses = [
        DepthTask(TaskConfig.model_validate({"depth_loss": kind, "gradient": weight})).loss(
            predicted, {"depth": truth}
        )
        for weight in (None, 0.0, 0.5, 1.0)
    ]
    assert losses[0] == losses[1]
    assert (losses[3] - losses[2]).item() == pytest.approx((losses[2] - losses[1]).item(), rel=1e-4)
    assert losses[2] > losses[1]


@pytest.mark.parametrize("kind", ["silog", "ssi"])
def test_depth_without_a_person_has_a_finite_gradient(kind: str) -> None:
    task = DepthTask(TaskConfig.model_validate({"depth_loss": kind, "gradient": 0.5}))
    for predicted in (torch.zeros(1, 1, 8, 8), torch.rand(1, 1, 8, 8)):  # flat ones have no scale
        for truth in (torch.full((1, 8, 8), -1.0), torch.full((1, 8, 8), 0.5)):
            leaf = predicted.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(task.loss(leaf, {"depth": truth}), leaf)
            assert torch.isfinite(gradient).all()


def test_hard_keypoints_are_the_worst_of_each_image() -> None:
    """Two images of 17 points, squared errors 0 .. 16 and 32 .. 16; the worst two: 16, 15 and 32, 31."""
    errors = torch.stack([torch.arange(17.0), torch.arange(32.0, 15, -1)])
    output = errors.sqrt()[:, :, None, None].expand(2, 17, 4, 3)
    target = {"heatmaps": torch.zeros(2, 17, 4, 3), "weights": torch.ones(2, 17)}
    plain, hard, many = (PoseTask(TaskConfig(hard_keypoints=k)) for k in (None, 2, 99))
    assert plain.loss(output, target).item() == pytest.approx(np.mean([8, 24]), rel=1e-5)
    assert hard.loss(output, target).item() == pytest.approx((16 + 15 + 32 + 31) / 4, rel=1e-5)
    assert many.loss(output, target).item() == plain.loss(output, target).item()
    target["weights"][0, 16] = 0  # an unlabelled point is never hard
    assert hard.loss(output, target).item() == pytest.approx((15 + 14 + 32 + 31) / 4, rel=1e-5)
