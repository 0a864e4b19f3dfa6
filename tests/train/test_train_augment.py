"""Views move the picture, its camera and every label alike: labelling what a changed camera sees gives the
same as changing the labels.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.camera import Camera
from annotation.codecs import encode_rgb
from annotation.labels import Labels
from annotation.parts import flip_parts
from shards.errors import VitruvianError
from train.data.augment import AugmentConfig, augment, cut_normal, random_view
from train.data.backdrop import Backdrops
from train.data.distort import distort_colours
from train.data.view import PADDING, View
from train.tasks import TASKS

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


@settings(max_examples=20, deadline=None)
@given(view=views.map(_on_fine_grid))
def test_coverage_and_colour_are_those_of_the_changed_scene(
    scene: Scene, fine_labels: Labels, view: View
) -> None:
    assert fine_labels.camera is not None
    changed, truth = view.apply(fine_labels), scene(view.camera(fine_labels.camera))
    assert changed.alpha is not None and changed.albedo is not None and changed.parts is not None
    shown = changed.parts != 255
    # Mirrored, the changed camera sees the very same pixels: only names of sides differ, and these have none.
    wrong = np.abs(changed.alpha.astype(int) - np.asarray(truth.alpha))[shown]
    assert wrong.mean() < 0.04 * 255
    person = shown & (changed.alpha == 255) & (np.asarray(truth.alpha) == 255)
    difference = np.abs(changed.albedo.astype(int) - np.asarray(truth.albedo))[person]
    assert np.median(difference) <= 1 and (difference.max(-1) <= 3).mean() > 0.85
    assert (changed.albedo[changed.alpha == 0] == 0).all()


@settings(max_examples=30, deadline=None)
@given(view=views)
def test_a_pixels_depth_unprojected_by_the_changed_camera_is_its_source_pixels_surface(
    labels: Labels, view: View
) -> None:
    """No scene involved: back into the world, then into the source's camera, gives the source's own depth."""
    assert labels.camera is not None and labels.depth is not None
    changed = view.apply(labels)
    assert changed.depth is not None and changed.camera is not None
    y, x = np.nonzero(changed.depth)
    world = changed.camera.unproject(np.column_stack([x, y, changed.depth[y, x]]).astype(np.float64))
    back = labels.camera.project(world)
    # Which pixel was looked up is known up to rounding: on an edge between two, either.
    rows, columns = np.rint(back[:, 1]).astype(int), np.rint(back[:, 0]).astype(int)
    edge = (np.abs(np.abs(back[:, :2] - np.floor(back[:, :2])) - 0.5) < 1e-4).any(1)
    np.testing.assert_allclose(back[~edge, 2], labels.depth[rows, columns][~edge], atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(view=views)
def test_the_part_and_the_person_at_a_keypoint_stay_the_same(labels: Labels, view: View) -> None:
    """Looked up at the moved keypoint, or within a pixel of it: the lookup shifts outlines by half of one."""
    assert labels.keypoints is not None and labels.parts is not None
    changed = view.apply(labels)
    assert changed.keypoints is not None and changed.parts is not None and changed.instance is not None
    order = _flip() if view.mirror else np.arange(17)
    for index, source in enumerate(order):
        x, y, _, visible = changed.keypoints[0, index]
        if not visible:
            continue
        before = _around(labels.parts, labels.keypoints[0, source], 0)
        expected = {
            int(flip_parts(np.array([[part]], np.uint8), 28)[0, 0]) if view.mirror else part
            for part in before
        }
        assert expected & _around(changed.parts, np.array([x, y]), 2 if visible == 1 else 1)


def _around(parts: np.ndarray, point: np.ndarray, reach: int) -> set[int]:
    x, y = round(float(point[0])), round(float(point[1]))
    window = parts[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
    return {int(part) for part in np.unique(window)}


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


@settings(max_examples=15, deadline=None)
@given(view=views.map(_on_fine_grid))
def test_normals_recomputed_from_changed_depth_agree_with_changed_normals(
    fine_labels: Labels, view: View
) -> None:
    changed = view.apply(fine_labels)
    assert changed.depth is not None and changed.normal is not None and changed.camera is not None
    recomputed, smooth = _normals_from_depth(changed.depth, changed.camera)
    if np.count_nonzero(smooth) < 100:
        return
    cosine = (recomputed * changed.normal).sum(-1)[smooth]
    assert np.degrees(np.arccos(np.median(cosine).clip(-1, 1))) < 12  # mirrored or turned wrongly: 40 or more


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


def test_zoom_keeps_its_window_inside_and_takes_detail_from_what_it_shrinks() -> None:
    whole, config = View.whole(SOURCE, SIZE), AugmentConfig(zoom=(0.2, 2.0), rotate_probability=0)
    found = [random_view(whole, config, np.random.default_rng(seed)) for seed in range(300)]
    for view in found:
        for middle, length, full in (
            (view.centre[0], view.width, SOURCE[1]),
            (view.centre[1], view.height, SOURCE[0]),
        ):
            assert middle - length / 2 >= -0.5 - 1e-9 and middle + length / 2 <= full - 0.5 + 1e-9
        assert view.width / SOURCE[1] == pytest.approx(view.height / SOURCE[0])
        assert (view.detail < 1) == (view.width == SOURCE[1])
    # Uniform factors in 0.2 .. 2: 8 in 18 shrink.
    assert np.mean([view.detail < 1 for view in found]) == pytest.approx(8 / 18, abs=0.1)
    assert min(view.width for view in found) < 0.55 * SOURCE[1]


def test_less_detail_blurs_the_picture_in_place_and_leaves_labels_alone(labels: Labels) -> None:
    sharp = View.whole(SOURCE, SOURCE)
    coarse = replace(sharp, detail=0.25, mirror=True)
    changed, reference = coarse.apply(labels), replace(sharp, mirror=True).apply(labels)
    for name in ("depth", "normal", "parts", "alpha", "albedo"):
        assert np.array_equal(getattr(changed, name), getattr(reference, name)), name
    assert changed.rgb is not None and reference.rgb is not None
    rough = np.abs(np.diff(reference.rgb.astype(float), axis=0)).mean()
    assert np.abs(np.diff(changed.rgb.astype(float), axis=0)).mean() < 0.7 * rough
    middle = np.s_[8:-8, 8:-8]
    shifted = [
        np.abs(np.roll(changed.rgb.astype(float), s, 1) - reference.rgb)[middle].mean() for s in (-2, 0, 2)
    ]
    assert shifted[1] == min(shifted)


def test_the_cut_normal_is_within_one_and_denser_in_the_middle() -> None:
    drawn = cut_normal(np.linspace(0, 1 - 1e-12, 10001))
    assert drawn[0] == pytest.approx(-1) and drawn[-1] == pytest.approx(1) and drawn[5000] == pytest.approx(0)
    # Of a normal distribution 0.3829 lie within half a deviation, 0.6827 within one.
    assert (np.abs(drawn) < 0.5).mean() == pytest.approx(0.38292 / 0.68269, abs=1e-3)


def test_published_settings_hold_for_every_task_and_can_be_changed_beside_the_name(tmp_path: Path) -> None:
    for task in TASKS:
        config = AugmentConfig.published(task)
        assert config.mirror == 0.5 and config.background == 0 and config.brightness == 32
    pose = AugmentConfig.published("pose")
    assert (pose.scale, pose.rotate, pose.rotate_probability, pose.half_body) == ((0.5, 1.5), 80, 0.6, 0.3)
    assert AugmentConfig.published("normal").rotate == 0
    assert AugmentConfig.published("parts", tmp_path).background == 0.8
    own = AugmentConfig.model_validate({"published": "depth", "rotate": 10})
    assert (own.rotate, own.zoom) == (10, (0.2, 2.0))
    assert AugmentConfig.model_validate(own.model_dump(mode="json")) == own
    with pytest.raises(ValueError, match="published must be one of pose"):
        AugmentConfig.model_validate({"published": "dance"})
    with pytest.raises(ValueError, match="needs backgrounds"):
        AugmentConfig(background=0.5)
    with pytest.raises(ValueError, match="low <= high"):
        AugmentConfig(scale=(2, 1))


@pytest.mark.parametrize("task", sorted(TASKS))
def test_augmentation_is_a_function_of_the_generator_and_every_label_keeps_its_person(
    labels: Labels, task: str, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 60, 3)).astype(np.uint8)
    (tmp_path / "wall.png").write_bytes(encode_rgb(noise))
    config = AugmentConfig.published(task, tmp_path)
    backdrops, view = Backdrops(tmp_path), View.whole(SOURCE, SIZE)
    for seed in range(6):
        first, again = (
            augment(labels, view, config, np.random.default_rng(seed), backdrops) for _ in range(2)
        )
        for name, image in first.images().items():
            assert np.array_equal(image, getattr(again, name)), name
        assert first.depth is not None and first.normal is not None and first.alpha is not None
        human = first.alpha == 255
        assert (first.depth[human] > 0).mean() > 0.97 and (first.depth[first.alpha == 0] == 0).all()
        lengths = np.linalg.norm(first.normal, axis=-1)
        np.testing.assert_allclose(lengths[first.depth > 0], 1, atol=1e-5)
        assert (lengths[first.depth == 0] == 0).all()
