"""The solved camera fills the asked share and keeps out of margins, ground and people. No rendering."""

import numpy as np
import pytest

from annotation.camera import Camera
from render.framing import Framing, FramingName, View, sample_camera, solve_position
from render.recipe import Framings
from render.spec import CameraSpec
from shards.errors import VitruvianError

WIDTH = 300
NAMES: tuple[FramingName, ...] = ("face", "upper_body", "full_body")


def _bodies(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A person-sized ellipsoid standing on the ground, its upper half and a head."""
    height = rng.uniform(1.0, 2.1)
    ball = rng.normal(size=(400, 3))
    ball /= np.linalg.norm(ball, axis=1, keepdims=True)
    body = ball * [rng.uniform(0.2, 0.8), 0.2, height / 2] + [0, 0, height / 2]
    head = ball * [0.09, 0.11, 0.13] + [0, 0, height - 0.1]
    return {
        "face": head,
        "upper_body": np.concatenate([body[body[:, 2] > 0.45 * height], head]),
        "full_body": np.concatenate([body, head]),
    }


def _camera(spec: CameraSpec, aspect: float) -> Camera:
    return spec.camera(WIDTH, round(WIDTH * aspect))


def test_a_thousand_specs_fill_their_share_within_their_margins() -> None:
    rng = np.random.default_rng(0)
    framings = Framings().named()
    for index in range(1000):
        name, aspect = NAMES[index % 3], [4 / 3, 3 / 4, 1.0][index % 7 % 3]
        framing = framings[name].model_copy(update={"principal_shift": 0.05 * (index % 2)})
        regions = _bodies(rng)
        spec = sample_camera(rng, regions, name, framing, aspect)
        camera = _camera(spec, aspect)
        size = np.array([camera.width, camera.height])
        projected = camera.project(regions[name])
        low, high = projected[:, :2].min(axis=0) + 0.5, projected[:, :2].max(axis=0) + 0.5
        share = float(((high - low) / size).max())
        assert projected[:, 2].min() > 0
        assert framing.share[0] - 1e-3 <= share <= framing.share[1] + 1e-3
        assert (low >= (framing.margin - 1e-3) * size).all()
        assert (high <= (1 - framing.margin + 1e-3) * size).all()
        assert camera.position[2] >= 0.1
        assert np.linalg.norm(regions["full_body"] - camera.position, axis=1).min() > 0.12


@pytest.mark.parametrize("focal", [14.0, 50.0, 200.0, 600.0])
def test_slack_places_the_box_at_any_focal_length(focal: float) -> None:
    points = _bodies(np.random.default_rng(1))["full_body"]
    view = View(20.0, 8.0, 3.0, focal, share=0.6, margin=0.1, slack=(0.0, 1.0))
    position = solve_position(points, view, 4 / 3)
    assert position is not None
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = view.rotation(), -view.rotation() @ position
    camera = CameraSpec(focal, tuple(map(tuple, pose.tolist()))).camera(300, 400)
    xy = camera.project(points)[:, :2] + 0.5
    assert np.isclose(xy[:, 0].min(), 30, atol=0.1)
    assert np.isclose(xy[:, 1].max(), 360, atol=0.1)


def test_azimuth_runs_from_the_front_to_the_persons_left() -> None:
    points = _bodies(np.random.default_rng(2))["full_body"]
    front = solve_position(points, View(0.0, 0.0, 0.0, 50.0, 0.8), 1.0)
    left = solve_position(points, View(90.0, 0.0, 0.0, 50.0, 0.8), 1.0)
    assert front is not None and left is not None
    assert front[1] < -1 and abs(front[0]) < 0.1
    assert left[0] > 1 and abs(left[1]) < 0.1


def test_an_impossible_framing_says_so() -> None:
    framing = Framing(share=(0.9, 0.9), focal_mm=(8, 8))
    regions = _bodies(np.random.default_rng(3))
    with pytest.raises(VitruvianError, match="widen"):
        sample_camera(np.random.default_rng(0), regions, "face", framing, 1.0)
