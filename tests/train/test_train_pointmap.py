"""Metric depth: the canonical depth by hand, through views, back to metres and points."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.camera import Camera
from annotation.labels import Labels
from shards.errors import VitruvianError
from train.data.view import View
from train.metrics.pointmap import point_errors, pointmap
from train.tasks import TaskConfig
from train.tasks.pointmap import PointmapTask, focal_ratio, metric_depth

TASK = PointmapTask(TaskConfig(gradient=0))
SIZE = (96, 80)


def _camera(focal: float, width: int = 5, height: int = 3) -> Camera:
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    return Camera(K, np.eye(4), width, height)


def test_canonical_depth_is_that_of_a_lens_as_long_as_the_image_is_wide() -> None:
    """A lens twice as long as the image is wide sees a person at 4 m as the canonical one does at 2 m."""
    camera = _camera(10.0)
    labels = Labels(depth=np.full((3, 5), 4.0, np.float32), camera=camera)
    assert focal_ratio(camera) == 2
    truth = TASK.truth(labels, 0)
    assert (truth == 2).all()
    assert (metric_depth(truth, camera) == 4).all()


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-60, 60), width=st.floats(30, 90), mirror=st.booleans())
def test_canonical_depth_follows_the_views_camera_and_metres_come_back(
    angle: float, width: float, mirror: bool
) -> None:
    """Zooming by 2 halves the canonical depth; turning and mirroring leave it."""
    camera = _camera(120.0, 60, 70)
    labels = Labels(depth=np.full((70, 60), 3.0, np.float32), camera=camera)
    view = View((29.5, 34.5), width, width, (32, 32), angle, mirror)
    target = TASK.target(view.apply(labels), 0, (32, 32))["canonical"]
    seen = target[target > 0]
    torch.testing.assert_close(seen, torch.full_like(seen, 3.0 * width / 120))
    whole = TASK.decode(target.clamp(min=1e-3).log()[None], view, (70, 60))
    assert metric_depth(whole, camera)[35, 30] == pytest.approx(3.0, rel=1e-4)


def test_resizing_does_not_change_it() -> None:
    labels = Labels(depth=np.full((64, 48), 2.0, np.float32), camera=_camera(96.0, 48, 64))
    small, large = (
        TASK.target(View.whole((64, 48), size).apply(labels), 0, size)["canonical"]
        for size in ((32, 24), (128, 112))
    )
    assert (small == 1).all() and (large == 1).all()


def test_the_loss_is_the_mean_log_difference_on_the_person() -> None:
    target = {"canonical": torch.tensor([[[2.0, 4.0, 0.0]]])}
    output = torch.tensor([[[[0.0, np.log(2.0), 9.0]]]], dtype=torch.float32)
    assert TASK.loss(output, target).item() == pytest.approx(np.log(2), rel=1e-6)
    with_gradient = PointmapTask(TaskConfig(gradient=1.0))
    assert with_gradient.loss(output, target).item() == pytest.approx(
        np.log(2), rel=1e-6
    )  # the same everywhere


def test_points_by_hand() -> None:
    points = pointmap(np.full((3, 5), 2.0), _camera(10.0))
    np.testing.assert_allclose(points[0, 4], [0.4, -0.2, 2.0])
    np.testing.assert_allclose(points[1, 2], [0, 0, 2])
    assert (pointmap(np.zeros((3, 5)), _camera(10.0)) == 0).all()


def test_points_are_the_surface_in_the_cameras_frame(
    label_scene: Callable[[Camera, int, int], Labels], camera_of: Callable[..., Camera]
) -> None:
    labels = label_scene(camera_of(SIZE), 5, 0)
    assert labels.depth is not None and labels.camera is not None
    points = pointmap(labels.depth, labels.camera)
    back = labels.camera.project(points[labels.depth > 0])  # the scene's camera stands at the origin
    y, x = np.nonzero(labels.depth)
    np.testing.assert_allclose(back, np.column_stack([x, y, labels.depth[y, x]]), atol=1e-4)


def test_errors_by_hand() -> None:
    """One pixel on the axis 8 cm too far; one whose ray is sqrt(1 + .2^2 + .1^2) long, 15 cm too near."""
    truth, mask = np.full((3, 5), 2.0), np.zeros((3, 5), bool)
    mask[1, 2] = mask[0, 4] = True
    guess = truth.copy()
    guess[1, 2], guess[0, 4], guess[2, 2] = 2.08, 1.85, 99
    errors = point_errors(guess, truth, mask, _camera(10.0))
    assert errors.rmse == pytest.approx(np.sqrt((0.08**2 + 0.15**2) / 2))
    assert errors.abs_rel == pytest.approx((0.04 + 0.075) / 2)
    assert errors.delta1 == 1
    assert errors.point_error == pytest.approx((0.08 + 0.15 * np.sqrt(1.05)) / 2)
    assert (errors.within_5cm, errors.within_10cm, errors.within_20cm) == (0, 0.5, 1)


def test_a_common_factor_is_not_forgiven(
    label_scene: Callable[[Camera, int, int], Labels], camera_of: Callable[..., Camera]
) -> None:
    labels = label_scene(camera_of(SIZE), 5, 0)
    evaluator = TASK.evaluator()
    evaluator.add("key", labels, 0, 1.3 * TASK.truth(labels, 0))
    scores = evaluator.compute()
    assert scores["abs_rel"] == pytest.approx(0.3, rel=1e-3) and scores["delta1"] == 0


def test_labels_without_a_camera_are_refused() -> None:
    with pytest.raises(VitruvianError, match="with a camera"):
        TASK.prepare(replace(Labels(depth=np.ones((2, 2), np.float32)), camera=None))
