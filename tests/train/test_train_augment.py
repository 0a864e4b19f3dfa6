"""Views move the picture, its camera and every label alike: labelling what a changed camera sees gives the
same as changing the labels.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.camera import Camera
from annotation.labels import Labels
from annotation.parts import flip_parts
from shards.errors import VitruvianError
from train.data.augment import AugmentConfig, random_view
from train.data.distort import distort_colours
from train.data.view import PADDING, View

Scene = Callable[[Camera], Labels]
SOURCE, SIZE = (120, 90), (96, 80)
FINE = 4

views = st.builds(
    View,
    centre=st.tuples(st.floats(30, 60), st.floats(40, 80)),
    width=st.floats(50, 110),
    height=st.floats(60, 140),
    size=st.just(SIZE),
    angle=st.floats(-60, 60),
    mirror=st.booleans(),
)


@pytest.fixture(scope="module")
def scene(label_scene: Callable[[Camera, int, int], Labels]) -> Scene:
    """A person seen by any camera."""
    return lambda camera: label_scene(camera, 3, 1)


@pytest.fixture(scope="module")
def labels(scene: Scene, camera_of: Callable[[tuple[int, int]], Camera]) -> Labels:
    return scene(camera_of(SOURCE))


@pytest.fixture(scope="module")
def fine_labels(scene: Scene, camera_of: Callable[[tuple[int, int]], Camera]) -> Labels:
    """The same picture on a grid so fine that the nearest pixel is close to the point itself."""
    return scene(camera_of((FINE * SOURCE[0], FINE * SOURCE[1])))


def _on_fine_grid(view: View) -> View:
    x, y = view.centre
    centre = (FINE * x + (FINE - 1) / 2, FINE * y + (FINE - 1) / 2)
    return replace(view, centre=centre, width=FINE * view.width, height=FINE * view.height)


@settings(max_examples=20, deadline=None)
@given(view=views.map(_on_fine_grid))
def test_label_then_transform_equals_transform_then_label(
    scene: Scene, fine_labels: Labels, view: View
) -> None:
    labels = fine_labels
    assert labels.camera is not None
    changed = view.apply(labels)
    truth = scene(view.camera(labels.camera))  # the same scene, ray cast through the changed camera
    inside = view.apply(replace(labels, parts=np.zeros_like(labels.parts))).parts == 0
    # A mirrored camera sees the left arm on the other side; in a mirrored picture that is a right arm.
    parts = flip_parts(np.asarray(truth.parts)[:, ::-1], 28) if view.mirror else truth.parts
    same = np.logical_and(changed.parts == parts, inside)
    # Nearest-pixel lookup moves an outline by at most half a source pixel.
    assert np.count_nonzero(same) > 0.97 * np.count_nonzero(inside)
    assert changed.depth is not None and truth.depth is not None
    assert changed.normal is not None and truth.normal is not None
    surface = same & (changed.depth > 0) & (truth.depth > 0)
    assert np.median(np.abs(changed.depth - truth.depth)[surface]) < 0.002
    cosine = (changed.normal * truth.normal).sum(-1)[surface]
    # Half a pixel on a limb 60 pixels thick turns the normal by 1.5 degrees; a wrong sign by 50 or more.
    assert np.degrees(np.arccos(np.median(cosine).clip(-1, 1))) < 4


@settings(max_examples=50, deadline=None)
@given(view=views)
def test_keypoints_go_where_the_changed_camera_sees_them(scene: Scene, labels: Labels, view: View) -> None:
    assert labels.camera is not None and labels.keypoints is not None
    moved = view.keypoints(labels.keypoints)
    world = labels.camera.unproject(labels.keypoints[0, :, :3].astype(np.float64))
    seen = view.camera(labels.camera).project(world)
    if view.mirror:
        seen = seen[_flip()]
    before = labels.keypoints[0, :, 3][_flip() if view.mirror else slice(None)]
    labelled = before > 0
    np.testing.assert_allclose(moved[0, labelled, :3], seen[labelled], atol=2e-3)
    inside = (seen[:, 0] >= -0.5) & (seen[:, 0] < 79.5) & (seen[:, 1] >= -0.5) & (seen[:, 1] < 95.5)
    assert np.array_equal(moved[0, labelled, 3], (before * inside)[labelled])


def _flip() -> np.ndarray:
    from annotation.keypoints import keypoint_vocabulary

    return keypoint_vocabulary(17).flip


def test_the_whole_view_at_its_own_size_changes_nothing(labels: Labels) -> None:
    changed = View.whole(SOURCE, SOURCE).apply(labels)
    for name, image in labels.images().items():
        assert np.array_equal(getattr(changed, name), image), name
    assert changed.keypoints is not None and labels.keypoints is not None
    np.testing.assert_allclose(changed.keypoints, labels.keypoints, atol=1e-5)
    assert changed.camera is not None and labels.camera is not None
    np.testing.assert_allclose(changed.camera.K, labels.camera.K)


def test_mirroring_twice_changes_nothing(labels: Labels) -> None:
    mirror = replace(View.whole(SOURCE, SOURCE), mirror=True)
    once = mirror.apply(labels)
    assert not np.array_equal(np.asarray(once.parts), np.asarray(labels.parts)[:, ::-1])  # sides traded names
    twice = mirror.apply(once)
    for name, image in labels.images().items():
        assert np.array_equal(getattr(twice, name), image), name
    assert twice.keypoints is not None and labels.keypoints is not None
    np.testing.assert_allclose(twice.keypoints, labels.keypoints, atol=1e-4)


@pytest.mark.parametrize("angle", [25.0, -50.0])
def test_normals_recomputed_from_depth_agree_after_a_turn(labels: Labels, angle: float) -> None:
    view = replace(View.whole(SOURCE, (240, 180)), angle=angle)
    changed = view.apply(labels)
    assert changed.depth is not None and changed.normal is not None and changed.camera is not None
    # Compare only where depth is smooth over whole source pixels: the lookup repeats each of them 2 x 2.
    recomputed, smooth = _normals_from_depth(changed.depth[::2, ::2], changed.camera.resize(90, 120))
    cosine = (recomputed * changed.normal[::2, ::2]).sum(-1)[smooth]
    assert labels.camera is not None
    before, smooth_before = _normals_from_depth(np.asarray(labels.depth), labels.camera)
    cosine_before = (before * labels.normal).sum(-1)[smooth_before]
    assert np.degrees(np.arccos(np.median(cosine_before))) < 4
    assert np.degrees(np.arccos(np.median(cosine))) < 8  # a turn the wrong way would give 50 or more


def _normals_from_depth(depth: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    level = Camera(camera.K, np.eye(4), camera.width, camera.height)
    points = depth[..., None] * level.rays()
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    normal = np.cross(down, across) * [1, -1, -1]
    smooth = np.zeros(depth.shape, bool)
    window = np.lib.stride_tricks.sliding_window_view(depth, (3, 3))
    smooth[1:-1, 1:-1] = (window.min((2, 3)) > 0) & (np.ptp(window, axis=(2, 3)) < 0.04)
    full = np.zeros((*depth.shape, 3))
    full[1:-1, 1:-1] = normal / np.linalg.norm(normal, axis=-1, keepdims=True).clip(1e-12)
    return full, smooth


def test_outside_the_source_there_is_nothing(labels: Labels) -> None:
    view = View((44.5, 59.5), 180.0, 240.0, (64, 48))
    changed = view.apply(labels)
    corner = {name: image[0, 0].tolist() for name, image in changed.images().items()}
    assert corner == {
        "rgb": list(PADDING),
        "depth": 0,
        "normal": [0, 0, 0],
        "alpha": 0,
        "parts": 255,
        "instance": 0,
        "albedo": [0, 0, 0],
    }


def test_shrinking_averages_instead_of_picking() -> None:
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    image = np.repeat(checks[..., None], 3, 2).astype(np.uint8)
    small = View.whole((64, 64), (16, 16)).colours(image)
    assert np.abs(small.astype(int) - 127.5).max() < 2


@settings(max_examples=50, deadline=None)
@given(view=views)
def test_a_turned_view_keeps_the_lens_distortion(view: View) -> None:
    """The world seen through the view's camera moves as its matrix moves the pixels of the source."""
    K = np.array([[90.0, 0, 41.0], [0, 90.0, 63.0], [0, 0, 1]])
    camera = Camera(K, np.eye(4), SOURCE[1], SOURCE[0], (-0.2, 0.05, 0.01))
    pixels = np.column_stack([*np.random.default_rng(5).uniform(0, 85, (2, 30)), np.full(30, 2.0)])
    moved = view.camera(camera).project(camera.unproject(pixels))
    homogeneous = np.column_stack([pixels[:, :2], np.ones(30)])
    np.testing.assert_allclose(moved[:, :2], (homogeneous @ view.matrix.T)[:, :2], atol=1e-6)


def test_turning_non_square_pixels_is_refused() -> None:
    camera = Camera(np.array([[50.0, 0, 10], [0, 60.0, 10], [0, 0, 1]]), np.eye(4), 21, 21)
    with pytest.raises(VitruvianError, match="non-square"):
        replace(View.whole((21, 21), (32, 32)), angle=10.0).camera(camera)


def test_a_box_is_widened_to_the_aspect_and_padded() -> None:
    view = View.around(np.array([10.0, 20.0, 30.0, 100.0]), 1.25, (64, 48))
    assert view.centre == (20, 60)
    assert (view.width, view.height) == (75, 100)


def test_no_augmentation_is_none(labels: Labels) -> None:
    view, off = View.whole(SOURCE, SIZE), AugmentConfig.off()
    rng = np.random.default_rng(0)
    assert random_view(view, off, rng) == view
    assert labels.rgb is not None
    assert np.array_equal(distort_colours(labels.rgb, off, rng), labels.rgb)


def test_augmentation_depends_on_its_generator_alone(labels: Labels) -> None:
    view, config = View.whole(SOURCE, SIZE), AugmentConfig(rotate_probability=1, photometric_probability=1)
    first, again, other = (random_view(view, config, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert abs(first.angle) <= config.rotate
    assert 0.75 * SOURCE[1] <= first.width <= 1.25 * SOURCE[1]
    assert labels.rgb is not None
    colours = [distort_colours(labels.rgb, config, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(colours[0], colours[1])
    assert not np.array_equal(colours[0], colours[2])
