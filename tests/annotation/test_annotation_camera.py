"""The camera: projection, pixel centres, crops, resizes, flips; OpenGL and Blender and back."""

import json
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.camera import (
    BlenderCamera,
    Camera,
    Radial,
    blender_camera,
    camera_from_blender,
    look_at,
    opencv_to_opengl,
    opengl_to_opencv,
)
from shards.errors import VitruvianError

quick = settings(max_examples=50, deadline=None)

UP = np.array([0.0, 0.0, 1.0])
HALF = np.array([0.5, 0.5, 0.0])
FRONT = look_at(np.array([0.0, -3.0, 1.0]), np.array([0.0, 0.0, 1.0]), UP)


def pinhole(focal: float = 1000.0, width: int = 768, height: int = 1024, **options: Any) -> Camera:
    K = np.array([[focal, 0, options.get("cx", 383.5)], [0, focal, options.get("cy", 511.5)], [0, 0, 1]])
    return Camera(K, options.get("pose", FRONT), width, height)


@st.composite
def cameras(draw: st.DrawFn) -> Camera:
    """Any pinhole camera: skew and non-square pixels included, principal point anywhere, any rotation."""
    focal = st.floats(50, 5000)
    centre = st.floats(-500, 4500)
    skew = draw(st.sampled_from([0.0, 0.0, 1.5, -20.0]))
    K = np.array([[draw(focal), skew, draw(centre)], [0, draw(focal), draw(centre)], [0, 0, 1]])
    axis = np.array(draw(st.tuples(*[st.floats(-3, 3)] * 3)))
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(axis)[0]
    pose[:3, 3] = draw(st.tuples(*[st.floats(-5, 5)] * 3))
    return Camera(K, pose, draw(st.integers(1, 4096)), draw(st.integers(1, 4096)))


def in_front(camera: Camera, seed: int, count: int = 20) -> np.ndarray:
    """World points that the camera sees, 0.3 to 8 m away, on and around its image."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(-0.5, 1.5, (count, 2)) * (camera.width, camera.height)
    return camera.unproject(np.column_stack([pixels, rng.uniform(0.3, 8, count)]))


seeds, offsets, sizes = st.integers(0, 2**32 - 1), st.integers(-50, 900), st.integers(1, 4096)


def test_axes_are_opencv_x_right_y_down_z_forward() -> None:
    camera = pinhole()
    centre, right, down = camera.project(np.array([[0.0, 0, 1], [0.1, 0, 1], [0, 0, 0.9]]))
    np.testing.assert_allclose(centre, [383.5, 511.5, 3.0], atol=1e-9)
    assert right[0] > centre[0] and right[1] == pytest.approx(centre[1])
    assert down[1] > centre[1] and down[0] == pytest.approx(centre[0])


def test_the_centre_of_the_top_left_pixel_is_zero_zero() -> None:
    """The middle of a 2 x 2 image lies between the pixels, at 0.5."""
    camera = Camera(np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]), np.eye(4), 2, 2)
    assert camera.project(np.array([[0.0, 0, 1]]))[0, :2].tolist() == [0.5, 0.5]
    edge = np.array([[-0.5, -0.5], [1.49, 1.49], [1.5, 0.0], [0.0, -0.51], [np.nan, 0.0]])
    assert camera.contains(edge).tolist() == [True, True, False, False, False]


def test_depth_is_z_along_the_optical_axis_not_distance() -> None:
    camera = pinhole()
    plane = np.array([[x, 0.0, z] for x in (-0.8, 0.0, 0.8) for z in (0.2, 1.0, 1.8)])
    np.testing.assert_allclose(camera.project(plane)[:, 2], 3.0, atol=1e-12)


def test_points_behind_the_camera_have_no_pixel() -> None:
    behind = pinhole().project(np.array([[0.0, -4.0, 1.0], [0.0, -3.0, 1.0]]))
    assert np.isnan(behind[:, :2]).all()
    np.testing.assert_allclose(behind[:, 2], [-1.0, 0.0], atol=1e-12)


@quick
@given(cameras(), seeds)
def test_unproject_is_the_inverse_of_project(camera: Camera, seed: int) -> None:
    points = in_front(camera, seed)
    np.testing.assert_allclose(camera.unproject(camera.project(points)), points, atol=1e-6)


@quick
@given(
    cameras(), seeds, st.integers(-50, 900), st.integers(-50, 900), st.integers(1, 999), st.integers(1, 999)
)
def test_crop_moves_pixels(camera: Camera, seed: int, x: int, y: int, width: int, height: int) -> None:
    points = in_front(camera, seed)
    cropped = camera.crop(x, y, width, height)
    np.testing.assert_allclose(cropped.project(points), camera.project(points) - (x, y, 0), atol=1e-6)
    assert (cropped.width, cropped.height) == (width, height)


@quick
@given(cameras(), seeds, sizes, sizes)
def test_resize_scales_pixel_areas(camera: Camera, seed: int, width: int, height: int) -> None:
    points = in_front(camera, seed)
    scale = np.array([width / camera.width, height / camera.height, 1])
    expected = (camera.project(points) + HALF) * scale - HALF
    np.testing.assert_allclose(camera.resize(width, height).project(points), expected, rtol=1e-9, atol=1e-6)


@quick
@given(cameras(), seeds)
def test_flip_mirrors_pixels_and_keeps_the_world(camera: Camera, seed: int) -> None:
    points = in_front(camera, seed)
    pixels = camera.project(points)
    pixels[:, 0] = camera.width - 1 - pixels[:, 0]
    flipped = camera.flip()
    np.testing.assert_allclose(flipped.project(points), pixels, atol=1e-6)
    assert flipped.mirrored and not camera.mirrored
    again = flipped.flip()
    np.testing.assert_allclose(again.K, camera.K, rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(again.world_to_camera, camera.world_to_camera)


@pytest.mark.parametrize(
    ("width", "height", "interpolation"), [(14, 20, cv2.INTER_AREA), (56, 80, cv2.INTER_LINEAR)]
)
def test_resize_agrees_with_opencv(width: int, height: int, interpolation: int) -> None:
    """A bright spot stays on the projection of its point when cv2 resamples the image."""
    camera = Camera(np.array([[20.0, 0, 13.5], [0, 20, 19.5], [0, 0, 1]]), np.eye(4), 28, 40)
    point = np.array([[0.11, -0.13, 1.0]])
    spot = np.exp(
        -np.square(np.mgrid[:40, :28] - camera.project(point)[0, 1::-1, None, None]).sum(axis=0) / 8
    )
    resized = cv2.resize(spot, (width, height), interpolation=interpolation)
    y, x = np.mgrid[:height, :width]
    centroid = np.array([(resized * x).sum(), (resized * y).sum()]) / resized.sum()
    np.testing.assert_allclose(centroid, camera.resize(width, height).project(point)[0, :2], atol=0.01)


@quick
@given(cameras())
def test_rays_times_depth_are_the_surface(camera: Camera) -> None:
    small = camera.crop(3, 5, 4, 3)
    y, x = np.mgrid[:3, :4]
    depth = 2.0 + x + 0.1 * y
    pixels = np.stack([x, y, depth], axis=-1).reshape(-1, 3).astype(np.float64)
    surface = small.position + depth[..., None] * small.rays()
    np.testing.assert_allclose(surface.reshape(-1, 3), small.unproject(pixels), rtol=1e-9, atol=1e-6)


def test_normals_are_x_right_y_up_z_toward_the_camera() -> None:
    toward, up, right = np.array([[0.0, -1, 0], [0, 0, 1], [1, 0, 0]])
    camera = pinhole()
    labels = camera.world_normals_to_label(np.stack([toward, up, right, np.zeros(3)]))
    np.testing.assert_allclose(labels, [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]], atol=1e-12)


@quick
@given(cameras(), seeds)
def test_flip_negates_x_of_normals(camera: Camera, seed: int) -> None:
    normals = np.random.default_rng(seed).normal(size=(4, 5, 3))
    flipped = camera.flip().world_normals_to_label(normals)
    np.testing.assert_allclose(flipped, camera.world_normals_to_label(normals) * (-1, 1, 1), atol=1e-12)


@quick
@given(cameras())
def test_json_round_trip_is_lossless(camera: Camera) -> None:
    again = Camera.from_json(json.loads(json.dumps(camera.to_json())))
    assert again == camera and hash(again) == hash(camera)
    assert again != camera.crop(1, 0, camera.width, camera.height)


@quick
@given(st.floats(-9, 9), st.floats(-9, 9), st.floats(-9, 9))
def test_look_at_puts_the_target_in_the_middle_and_up_up(x: float, y: float, z: float) -> None:
    position, target = np.array([x, y, z]), np.array([0.3, 9.5, 1.0])
    camera = pinhole(pose=look_at(position, target, UP))
    middle, above = camera.project(np.stack([target, target + 0.01 * UP]))
    np.testing.assert_allclose(middle[:2], [383.5, 511.5], atol=1e-6)
    np.testing.assert_allclose(camera.position, position, atol=1e-9)
    assert above[1] < middle[1] and above[0] == pytest.approx(middle[0], abs=1e-6)
    assert not camera.mirrored


@quick
@given(cameras())
def test_opengl_axes_are_y_up_and_z_backward(camera: Camera) -> None:
    pose = opencv_to_opengl(camera.camera_to_world)
    np.testing.assert_array_equal(pose[:, 1:3], -camera.camera_to_world[:, 1:3])
    np.testing.assert_array_equal(pose[:, [0, 3]], camera.camera_to_world[:, [0, 3]])
    np.testing.assert_array_equal(opengl_to_opencv(pose), camera.camera_to_world)


@quick
@given(cameras(), st.floats(1, 100))
def test_blender_round_trip(camera: Camera, sensor_width: float) -> None:
    K = camera.K.copy()
    K[0, 1], K[1, 1] = 0, K[0, 0]
    square = Camera(K, camera.world_to_camera, camera.width, camera.height)
    again = camera_from_blender(blender_camera(square, sensor_width))
    np.testing.assert_allclose(again.K, square.K, rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(again.world_to_camera, square.world_to_camera, atol=1e-9)
    assert (again.width, again.height) == (square.width, square.height)


def test_a_centred_portrait_camera_has_no_shift_in_blender() -> None:
    """lens / sensor_width spans the width in portrait too: that is what sensor_fit HORIZONTAL means."""
    blender = blender_camera(pinhole(focal=50 / 36 * 768), sensor_width=36.0)
    assert blender.lens == pytest.approx(50.0)
    assert (blender.shift_x, blender.shift_y, blender.sensor_fit) == (0.0, 0.0, "HORIZONTAL")
    np.testing.assert_allclose(blender.matrix_world[:3, 2], [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(blender.matrix_world[:3, 3], [0, -3, 1], atol=1e-12)


def test_blender_shift_moves_the_principal_point_by_fractions_of_the_width() -> None:
    blender = BlenderCamera(opencv_to_opengl(np.eye(4)), 36.0, 36.0, 0.25, 0.125, 400, 800)
    K = camera_from_blender(blender).K
    assert K[0, 2] == 400 / 2 - 0.25 * 400 - 0.5
    assert K[1, 2] == 800 / 2 + 0.125 * 400 - 0.5


def test_what_blender_cannot_render_is_refused() -> None:
    camera = pinhole()
    skewed = camera.K.copy()
    skewed[0, 1] = 0.5
    for unfit, words in (
        (camera.resize(768, 500), "square pixels"),
        (camera.flip(), "mirrored"),
        (Camera(skewed, FRONT, 768, 1024), "no skew"),
        (Camera(camera.K, FRONT, 768, 1024, (0.1, 0.0, 0.0)), "no lens distortion"),
    ):
        with pytest.raises(VitruvianError, match=words):
            blender_camera(unfit)
    auto = BlenderCamera(np.eye(4), 50.0, 36.0, 0.0, 0.0, 3, 4, sensor_fit="AUTO")
    with pytest.raises(VitruvianError, match="HORIZONTAL"):
        camera_from_blender(auto)


def test_arrays_are_frozen_copies() -> None:
    K = pinhole().K.copy()
    camera = Camera(K, FRONT, 768, 1024)
    K[0, 0] = 5
    assert camera.K[0, 0] == 1000
    with pytest.raises(ValueError, match="read-only"):
        camera.K[0, 0] = 5


@pytest.mark.parametrize(
    ("K", "pose", "size", "words"),
    [
        (np.eye(3) * 2, np.eye(4), (4, 4), "expected K"),
        (np.diag([-1.0, 1, 1]), np.eye(4), (4, 4), "fx, fy > 0"),
        (np.diag([np.nan, 1, 1]), np.eye(4), (4, 4), "expected K"),
        (np.eye(3), np.diag([2.0, 2, 2, 1]), (4, 4), "rigid"),
        (np.eye(3), np.full((4, 4), np.nan), (4, 4), "rigid"),
        (np.eye(3), np.eye(4), (0, 4), "at least 1"),
    ],
)
def test_impossible_cameras_are_refused(
    K: np.ndarray, pose: np.ndarray, size: tuple[int, int], words: str
) -> None:
    with pytest.raises(VitruvianError, match=words):
        Camera(K, pose, *size)


@pytest.mark.parametrize(
    "broken",
    [{}, {"K": [[1, 2], [3, 4]]}, {"K": "no"}, {"world_to_camera": [[1]]}, {"width": None}],
)
def test_broken_json_is_refused(broken: dict[str, Any]) -> None:
    data = {} if not broken else pinhole().to_json() | broken
    with pytest.raises(VitruvianError, match="camera: expected"):
        Camera.from_json(data)


def test_look_at_refuses_a_view_along_up() -> None:
    with pytest.raises(VitruvianError, match="parallel"):
        look_at(np.zeros(3), UP, UP)


DISTORTIONS = [(0.08, -0.05, 0.01), (-0.25, 0.08, 0.0), (0.3, 0.0, 0.0), (-0.1, 0.0, 0.02)]


def lens(distortion: Radial, focal: float = 700.0) -> Camera:
    K = np.array([[focal, 0, 380.0], [0, focal * 1.01, 520.0], [0, 0, 1]])
    return Camera(K, FRONT, 768, 1024, distortion)


def opencv_coefficients(camera: Camera) -> np.ndarray:
    k1, k2, k3 = camera.distortion
    return np.array([k1, k2, 0.0, 0.0, k3])  # OpenCV's order: p1 and p2 stand between k2 and k3


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_distortion_projects_as_opencv_does(distortion: Radial) -> None:
    camera = lens(distortion)
    points = in_front(camera, seed=1, count=200)
    turn, move = cv2.Rodrigues(FRONT[:3, :3])[0], FRONT[:3, 3]
    theirs, _ = cv2.projectPoints(points, turn, move, camera.K, opencv_coefficients(camera))
    ours = camera.project(points)
    seen = np.isfinite(ours[:, 0])
    assert seen.mean() > 0.9
    np.testing.assert_allclose(ours[seen, :2], theirs[seen, 0], atol=1e-6)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_distortion_is_undone_as_opencv_does(distortion: Radial) -> None:
    camera = lens(distortion)
    pixels = np.random.default_rng(2).uniform(-0.5, 1, (200, 2)) * (camera.width / 2, camera.height / 2)
    pixels += (camera.width / 4, camera.height / 4)
    often = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 500, 1e-12)
    theirs = cv2.undistortPointsIter(
        pixels[:, None], camera.K, opencv_coefficients(camera), np.eye(3), np.eye(3), often
    )
    np.testing.assert_allclose(camera.directions(pixels)[:, :2], theirs[:, 0], atol=1e-9)


@quick
@given(cameras(), st.tuples(*[st.floats(-0.05, 0.05)] * 3), seeds)
def test_a_distorted_pixel_comes_back_through_the_world(camera: Camera, ks: Radial, seed: int) -> None:
    """To 1e-9 of the image plane, wherever the lens shows anything."""
    rng = np.random.default_rng(seed)
    plane = np.column_stack([rng.uniform(-0.7, 0.7, (40, 2)), np.ones(40)])
    bent = Camera(camera.K, np.eye(4), camera.width, camera.height, ks)
    pixels = bent.project(plane)
    np.testing.assert_allclose(bent.directions(pixels[:, :2]), plane, atol=1e-9)
    np.testing.assert_allclose(bent.unproject(pixels), plane, atol=1e-9)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_crop_resize_and_flip_keep_the_distortion(distortion: Radial) -> None:
    camera = lens(distortion)
    inside = np.column_stack([np.random.default_rng(3).uniform(0, 700, (30, 2)), np.full(30, 2.0)])
    points = camera.unproject(inside)
    np.testing.assert_allclose(camera.crop(40, 60, 300, 200).project(points), inside - (40, 60, 0), atol=1e-7)
    doubled = camera.resize(1536, 512).project(points)
    np.testing.assert_allclose(doubled, (inside + HALF) * (2, 0.5, 1) - HALF, atol=1e-7)
    mirrored = camera.flip().project(points)
    np.testing.assert_allclose(mirrored, inside * (-1, 1, 1) + (767, 0, 0), atol=1e-7)


def test_distortion_survives_json_and_tells_cameras_apart() -> None:
    bent, straight = lens((-0.2, 0.05, 0.0)), lens((0.0, 0.0, 0.0))
    assert "distortion" not in straight.to_json() and not straight.distorted
    assert Camera.from_json(json.loads(json.dumps(bent.to_json()))) == bent
    assert bent != straight and hash(bent) != hash(straight)


def test_what_folds_back_has_no_pixel() -> None:
    """1 - 0.3 r^2 turns at r = 1.054: a point further off the axis would appear inside the image again."""
    camera = lens((-0.3, 0.0, 0.0))
    far = np.array([[1.3, 0.0, 1.0]]) @ FRONT[:3, :3] + camera.position
    assert np.isnan(camera.project(far)[:, :2]).all()
    near = np.array([[1.0, 0.0, 1.0]]) @ FRONT[:3, :3] + camera.position
    np.testing.assert_allclose(camera.project(near), [[380 + 700 * 0.7, 520, 1]], atol=1e-9)


def test_a_pixel_that_the_lens_leaves_empty_is_refused() -> None:
    with pytest.raises(VitruvianError, match=r"folds the image back beyond radius 0\.7027"):
        lens((-0.3, 0.0, 0.0), focal=350.0).rays()
    with pytest.raises(VitruvianError, match="finite"):
        lens((np.nan, 0.0, 0.0))
