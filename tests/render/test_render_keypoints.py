"""Joints: inside or outside, visible or hidden, against a hand-made depth."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from annotation.camera import Camera
from annotation.definitions import keypoint_definitions
from annotation.keypoints import keypoint_mapping
from render.keypoints import depth_tolerances, label_keypoints

CAMERA = Camera(np.array([[50.0, 0, 15.5], [0, 50.0, 15.5], [0, 0, 1]]), np.eye(4), 32, 32)


def _visibility(point: tuple[float, float, float], depth: float, instance: int = 1) -> np.ndarray:
    points = np.tile(np.array(point), (17, 1))
    plane = np.full((32, 32), depth, np.float32)
    people = np.full((32, 32), instance, np.uint8)
    return np.asarray(label_keypoints([points], [1.7], CAMERA, plane, people)[0])


def test_a_joint_under_the_skin_is_visible_and_one_behind_it_is_occluded() -> None:
    labels = _visibility((0, 0, 2.0), depth=1.95)
    tolerance = depth_tolerances(1.7)
    assert np.array_equal(labels[:, 3], np.where(tolerance >= 0.05 - 1e-6, 2, 1))
    assert np.allclose(labels[:, :3], [15.5, 15.5, 2.0])
    assert (_visibility((0, 0, 2.0), depth=1.5)[:, 3] == 1).all()


def test_someone_elses_surface_does_not_make_a_joint_visible() -> None:
    assert (_visibility((0, 0, 2.0), depth=2.0, instance=2)[:, 3] == 1).all()


def test_outside_and_behind_the_camera() -> None:
    assert (_visibility((2.0, 0, 2.0), depth=2.0)[:, 3] == 0).all()
    assert (_visibility((0, 0, -1.0), depth=2.0) == 0).all()


def test_a_joint_on_the_last_pixel_is_inside() -> None:
    edge = (31 - 15.5) / 50 * 2
    assert (_visibility((edge, edge, 2.0), depth=2.0)[:, 3] == 2).all()


def test_of_308_points_each_has_its_own_tolerance() -> None:
    tolerance = depth_tolerances(1.7, 308)
    assert np.allclose(tolerance, [d.inside_m for d in keypoint_definitions()])
    assert np.allclose(depth_tolerances(0.85, 308), tolerance / 2)
    both = keypoint_mapping(308, 17)
    assert np.allclose(tolerance[both.source], depth_tolerances(1.7))


def test_the_table_is_what_its_rules_say() -> None:
    """The rules read the body and the brows' hair: when these move, the table must move with them."""
    script = Path(__file__).parents[2] / "tools" / "keypoints" / "make.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
