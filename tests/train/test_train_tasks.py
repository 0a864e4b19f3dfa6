"""What holds for every task: the truth scores perfectly and costs nothing, mirrored outputs are turned
back, baselines do not look at the image.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from annotation.camera import Camera
from annotation.labels import Labels
from shards.errors import UsageError
from train.data.view import View
from train.tasks import TASKS, Task, TaskConfig, make_task
from train.tasks.base import Target

SIZE = (96, 80)
PERFECT = {
    "depth": {"rmse": 0.0, "abs_rel": 0.0, "delta1": 1.0},
    "normal": {"mean": 0.0, "within_5": 1.0, "within_30": 1.0},
    "parts": {"miou": 1.0, "macc": 1.0, "aacc": 1.0},
    "pose": {"pck10": 1.0, "ap": 1.0, "ar": 1.0},
    "pointmap": {"rmse": 0.0, "delta1": 1.0, "point_error": 0.0, "within_5cm": 1.0},
    "albedo": {"mae": 0.0, "rmse": 0.0},
    "alpha": {"mae": 0.0, "sad": 0.0, "iou": 1.0},
}


@pytest.fixture(scope="module")
def labels(label_scene: Callable[[Camera, int, int], Labels], camera_of: Callable[..., Camera]) -> Labels:
    return label_scene(camera_of(SIZE), 5, 0)


@pytest.fixture(params=sorted(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    return make_task(request.param, TaskConfig(sigma=2, blur=11))


def perfect_output(task: Task, target: Target) -> Tensor:
    """The output (C, H, W) that says the target."""
    if task.name == "parts":
        known = target["parts"].long().clamp(max=task.channels - 1)
        return 50 * torch.nn.functional.one_hot(known, task.channels).permute(2, 0, 1).float()
    if task.name == "depth":
        return target["depth"][None].clamp(min=0)
    if task.name == "pointmap":
        return target["canonical"][None].clamp(min=1e-3).log()
    if task.name == "alpha":
        return 200 * (target["alpha"][None].float() / 255 - 0.5)
    if task.name == "albedo":
        return target["albedo"].float() / 255
    return target["normal" if task.name == "normal" else "heatmaps"]


def example(task: Task, labels: Labels, view: View) -> Target:
    return task.target(view.apply(labels), 0, view.size)


def test_the_truth_scores_perfectly(task: Task, labels: Labels) -> None:
    view = task.view(labels, 0, SIZE)
    output = perfect_output(task, example(task, labels, view))
    evaluator = task.evaluator()
    row = evaluator.add("key", labels, 0, task.decode(output, view, SIZE))
    scores = evaluator.compute()
    assert {name: scores[name] for name in PERFECT[task.name]} == pytest.approx(PERFECT[task.name], abs=1e-5)
    assert row and task.headline in scores


def test_the_truth_costs_nothing_and_anything_else_costs_more(task: Task, labels: Labels) -> None:
    target = example(task, labels, task.view(labels, 0, SIZE))
    output = perfect_output(task, target)[None]
    batch = {name: value[None] for name, value in target.items()}
    assert task.loss(output, batch).item() < 2e-3
    noise = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).abs()
    assert task.loss(output + 60 * noise, batch).item() > 10 * task.loss(output, batch).item() + 0.1


def test_the_loss_is_the_mean_over_images(task: Task, labels: Labels) -> None:
    view = task.view(labels, 0, SIZE)
    targets = [example(task, labels, v) for v in (view, replace(view, width=view.width * 0.6, mirror=True))]
    outputs = torch.rand(2, task.channels, *SIZE, generator=torch.Generator().manual_seed(0))
    both = task.loss(outputs, {name: torch.stack([t[name] for t in targets]) for name in targets[0]})
    alone = [
        task.loss(o[None], {name: t[name][None] for name in t}) for o, t in zip(outputs, targets, strict=True)
    ]
    torch.testing.assert_close(both, torch.stack(alone).mean())


def test_an_image_without_anyone_costs_nothing_and_has_a_gradient(
    task: Task, camera_of: Callable[..., Camera]
) -> None:
    if task.name == "alpha":
        pytest.skip("that nobody is there is what alpha says")
    empty = Labels(
        rgb=np.zeros((*SIZE, 3), np.uint8),
        depth=np.zeros(SIZE, np.float32),
        normal=np.zeros((*SIZE, 3), np.float32),
        alpha=np.zeros(SIZE, np.uint8),
        parts=np.full(SIZE, 255, np.uint8),
        albedo=np.zeros((*SIZE, 3), np.uint8),
        keypoints=np.zeros((0, 17, 4), np.float32),
    )
    empty = replace(empty, camera=camera_of(SIZE))
    target = task.target(empty, -1, SIZE)
    output = torch.rand(1, task.channels, *SIZE, requires_grad=True)
    loss = task.loss(output, {name: value[None] for name, value in target.items()})
    torch.autograd.backward(loss)
    assert loss.item() < 1e-5
    assert output.grad is not None and torch.isfinite(output.grad).all()


def test_unmirror_turns_the_output_for_the_mirror_image_back(task: Task, labels: Labels) -> None:
    view = task.view(labels, 0, SIZE)
    plain = perfect_output(task, example(task, labels, view))
    mirrored = perfect_output(task, example(task, labels, replace(view, mirror=True)))
    assert not torch.equal(plain, mirrored)
    torch.testing.assert_close(task.unmirror(mirrored[None])[0], plain, atol=1e-4, rtol=0)


def test_losses_accept_outputs_of_any_resolution(task: Task, labels: Labels) -> None:
    if task.name == "pose":
        pytest.skip("heat maps are made at the output's resolution")
    target = example(task, labels, task.view(labels, 0, SIZE))
    output = torch.rand(1, task.channels, SIZE[0] // 4, SIZE[1] // 4)
    assert torch.isfinite(task.loss(output, {name: value[None] for name, value in target.items()}))


def test_baselines_are_outputs(task: Task, labels: Labels) -> None:
    view = task.view(labels, 0, SIZE)
    targets = [example(task, labels, view), example(task, labels, replace(view, mirror=True))]
    baselines = task.baselines(iter(targets))
    assert next(iter(baselines)) == "constant"
    assert task.start(baselines["constant"]).shape == (task.channels,)
    for output in baselines.values():
        evaluator = task.evaluator()
        evaluator.add("key", labels, 0, task.decode(output, view, SIZE))
        assert np.isfinite(evaluator.compute()[task.headline])


def test_pictures_have_the_size_of_the_image(task: Task, labels: Labels) -> None:
    picture = task.draw(labels, 0, task.truth(labels, 0))
    assert picture.shape == (*SIZE, 3) and picture.std() > 0


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UsageError, match="expected one of"):
        make_task("dance", TaskConfig())
