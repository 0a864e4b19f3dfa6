"""Albedo and alpha: losses and scores by hand, masks, soft edges."""

import numpy as np
import pytest
import torch

from annotation.labels import Labels
from train.data.view import View
from train.metrics.images import alpha_errors, colour_errors
from train.tasks import TaskConfig
from train.tasks.albedo import AlbedoTask
from train.tasks.alpha import AlphaTask

ALBEDO, ALPHA = AlbedoTask(TaskConfig(gradient=0)), AlphaTask(TaskConfig(gradient=0))


def test_albedo_is_l1_on_the_person() -> None:
    albedo = np.full((1, 2, 3), 51, np.uint8)  # 0.2
    target = ALBEDO.target(Labels(albedo=albedo, alpha=np.array([[255, 127]], np.uint8)), 0, (1, 2))
    batch = {name: value[None] for name, value in target.items()}
    output = torch.zeros(1, 3, 1, 2)
    output[0, :, 0, 0] = torch.tensor([0.2, 0.5, 0.8])
    output[0, :, 0, 1] = 7
    assert ALBEDO.loss(output, batch).item() == pytest.approx(0.3, rel=1e-5)


def test_the_gradient_term_is_on_unless_turned_off() -> None:
    target = {
        "albedo": torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        "mask": torch.ones(1, 8, 8, dtype=torch.bool),
    }
    flat, checks = torch.full((1, 3, 8, 8), 0.1), torch.zeros(1, 3, 8, 8)
    checks[..., ::2] = 0.2
    plain = AlbedoTask(TaskConfig())
    assert ALBEDO.loss(flat, target).item() == pytest.approx(ALBEDO.loss(checks, target).item(), rel=1e-5)
    assert plain.loss(checks, target) > plain.loss(flat, target) + 0.01


def test_albedo_of_the_person_is_not_mixed_with_what_is_behind() -> None:
    """Shrunk by four, the outline's pixels hold some background; its colour is not the person's."""
    albedo = np.zeros((64, 64, 3), np.uint8)
    alpha = np.zeros((64, 64), np.uint8)
    albedo[:, :30], alpha[:, :30] = 180, 255
    changed = View.whole((64, 64), (16, 16)).apply(Labels(albedo=albedo, alpha=alpha))
    assert changed.albedo is not None and changed.alpha is not None
    assert changed.alpha[8].tolist()[:9] == [255] * 7 + [128, 0]  # column 7 is half covered
    assert (changed.albedo[:, :8] == 180).all() and (changed.albedo[:, 8:] == 0).all()


def test_colour_errors_by_hand() -> None:
    truth, guess = np.zeros((1, 2, 3)), np.zeros((1, 2, 3))
    guess[0, 0], guess[0, 1] = [0.1, 0.1, 0.4], 1
    errors = colour_errors(guess, truth, np.array([[True, False]]))
    assert errors.mae == pytest.approx(0.2) and errors.rmse == pytest.approx(np.sqrt(0.18 / 3))


def test_alphas_loss_is_divergence_plus_difference() -> None:
    """Logit 0 says one half: KL(a || 1/2) = ln 2 - H(a), |difference| = |1/2 - a|."""
    alpha = torch.tensor([[[0, 255, 51]]], dtype=torch.uint8)
    entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    expected = np.mean([np.log(2) + 0.5, np.log(2) + 0.5, np.log(2) - entropy + 0.3])
    assert ALPHA.loss(torch.zeros(1, 1, 1, 3), {"alpha": alpha}).item() == pytest.approx(expected, rel=1e-5)


def test_soft_truth_costs_nothing() -> None:
    alpha = torch.tensor([[[26, 128, 230]]], dtype=torch.uint8)
    output = (alpha.float() / 255).logit()[:, None]
    assert ALPHA.loss(output, {"alpha": alpha}).item() == pytest.approx(0, abs=1e-5)
    assert AlphaTask(TaskConfig()).loss(output, {"alpha": alpha}).item() == pytest.approx(0, abs=1e-5)


def test_alpha_errors_by_hand() -> None:
    truth = np.zeros((50, 40))
    truth[:25] = 1
    guess = np.zeros((50, 40))
    guess[:, :20] = 0.6
    errors = alpha_errors(guess, truth)
    assert errors.mae == pytest.approx((0.4 + 1 + 0.6 + 0) / 4)
    assert errors.sad == pytest.approx(2000 * 0.5 / 1000)
    assert errors.iou == pytest.approx(1 / 3)
    assert alpha_errors(np.zeros((2, 2)), np.zeros((2, 2))).iou == 1


def test_alphas_baseline_says_the_mean_coverage() -> None:
    halves = torch.zeros(4, 4, dtype=torch.uint8)
    halves[:2] = 255
    baselines = ALPHA.baselines([{"alpha": halves}, {"alpha": halves}])
    assert baselines["constant"].sigmoid().item() == pytest.approx(0.5)
    assert baselines["mean_map"][0, 0, 0].sigmoid().item() == pytest.approx(0.999, rel=1e-4)
