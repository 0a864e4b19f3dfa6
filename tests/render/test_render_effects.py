"""Photographic effects: off is nothing, noise is as strong as it says, the lens bends image, labels and
projection alike.
"""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float32
from PIL import Image

from annotation.camera import Camera, Radial
from render import effects
from shards.errors import VitruvianError

LENSES = [(-0.25, 0.06, 0.0), (0.15, 0.02, 0.0), (0.1, -0.3, 0.05)]  # barrel, pincushion, moustache


def camera_of(distortion: Radial, width: int = 96, height: int = 128) -> Camera:
    K = np.array([[110.0, 0, 45.0], [0, 110.0, 66.5], [0, 0, 1]])
    return Camera(K, np.eye(4), width, height, distortion)


def picture(seed: int = 0, height: int = 128, width: int = 96) -> Float32[np.ndarray, "height width 3"]:
    return np.random.default_rng(seed).uniform(0, 4, (height, width, 3)).astype(np.float32)


def test_what_is_off_changes_no_bit() -> None:
    image, camera = picture(), camera_of((0.0, 0.0, 0.0))
    assert effects.white_balance(image, (1.0, 1.0, 1.0)) is image
    assert effects.sensor_noise(image, 1.5, 0.0, 0.0, seed=3) is image
    assert effects.ideal_camera(camera) is camera
    assert effects.oversampled(camera, 1) is camera
    assert effects.distort_image(image, camera, camera) is image
    assert effects.distort_labels({"depth": image}, camera, camera)["depth"] is image
    assert not effects.label_displacement(camera, camera).any()


def test_white_balance_multiplies_linear_channels() -> None:
    image = picture()
    balanced = effects.white_balance(image, (1.25, 1.0, 0.5))
    np.testing.assert_allclose(balanced, image * (1.25, 1.0, 0.5), rtol=1e-6)
    assert balanced.dtype == np.float32


@pytest.mark.parametrize("exposure_ev", [-2.0, 0.0, 1.5])
@pytest.mark.parametrize("level", [0.0, 0.02, 0.7])
def test_noise_has_the_variance_of_the_exposed_signal(exposure_ev: float, level: float) -> None:
    """At white = 1 after exposure: shot * v + read^2; 270,000 draws know a variance to 0.3 %."""
    flat = np.full((300, 300, 3), level / 2**exposure_ev, np.float32)
    noisy = effects.sensor_noise(flat, exposure_ev, shot=0.004, read=0.01, seed=11)
    exposed = (noisy.astype(np.float64) - flat) * 2**exposure_ev
    variance = 0.004 * level + 0.01**2
    assert exposed.var() == pytest.approx(variance, rel=0.015)
    assert abs(exposed.mean()) < 5 * np.sqrt(variance / exposed.size)
    neighbours = np.corrcoef(exposed[:, 1:, 0].ravel(), exposed[:, :-1, 0].ravel())[0, 1]
    channels = np.corrcoef(exposed[..., 0].ravel(), exposed[..., 1].ravel())[0, 1]
    assert abs(neighbours) < 0.015 and abs(channels) < 0.015


def test_noise_is_a_function_of_its_arguments() -> None:
    image = picture()
    once, again, other = (effects.sensor_noise(image, 0.5, 0.01, 0.01, seed) for seed in (1, 1, 2))
    assert once.tobytes() == again.tobytes() != other.tobytes()
    assert once.dtype == np.float32


@pytest.mark.parametrize("distortion", LENSES)
def test_the_ideal_camera_covers_every_pixel(distortion: Radial) -> None:
    camera = camera_of(distortion)
    ideal = effects.ideal_camera(camera)
    assert not ideal.distorted and np.array_equal(ideal.world_to_camera, camera.world_to_camera)
    assert ideal.K[0, 0] == camera.K[0, 0]
    y, x = np.mgrid[-0.5:128:0.5, -0.5:96:0.5].reshape(2, -1)
    seen = ideal.project(camera.unproject(np.column_stack([x, y, np.ones_like(x)])))
    room = np.array([seen[:, :2].min(axis=0), (ideal.width - 1, ideal.height - 1) - seen[:, :2].max(axis=0)])
    assert (room >= 2).all() and (room < 4).all()


@pytest.mark.parametrize("distortion", LENSES)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_projected_point_falls_on_its_own_label(distortion: Radial, factor: int) -> None:
    """A wall with the world's x and y as labels, 2 m away: the distorted camera projects each label back to
    its pixel, within the displacement that nearest lookup allows.
    """
    camera = camera_of(distortion)
    fine = effects.oversampled(effects.ideal_camera(camera), factor)
    assert fine.width == factor * effects.ideal_camera(camera).width
    wall = (fine.position + 2.0 * fine.rays())[..., :2]
    ids = np.arange(fine.width * fine.height).reshape(fine.height, fine.width)
    labels = effects.distort_labels({"wall": wall, "id": ids}, fine, camera)
    assert len(np.unique(labels["id"])) > 0.85 * labels["id"].size
    points = np.concatenate([labels["wall"], np.full((128, 96, 1), 2.0)], axis=-1).reshape(-1, 3)
    y, x = np.mgrid[:128, :96].reshape(2, -1)
    off = np.hypot(*(camera.project(points)[:, :2] - np.column_stack([x, y])).T)
    np.testing.assert_allclose(effects.label_displacement(fine, camera).ravel(), off, atol=1e-9)
    magnification = 1 / 0.6  # of these lenses, at most: the limit is in pixels of the straight picture
    assert 0 < off.max() <= np.sqrt(0.5) / factor * magnification
    assert np.median(off) < 0.5 / factor


@pytest.mark.parametrize("distortion", LENSES)
def test_straightening_with_opencv_gives_the_straight_picture_back(distortion: Radial) -> None:
    camera = camera_of(distortion).resize(192, 256)
    ideal = effects.ideal_camera(camera)
    y, x = np.mgrid[: ideal.height, : ideal.width].astype(np.float32)
    waves = np.stack([np.sin(x / 6), np.cos(y / 5), np.sin((x + y) / 9)], axis=-1) + np.float32(1.5)
    bent = effects.distort_image(waves, ideal, camera)
    assert bent.shape == (256, 192, 3) and bent.dtype == np.float32
    k1, k2, k3 = distortion
    straight = cv2.undistort(bent, camera.K, np.array([k1, k2, 0, 0, k3]))
    expected = _window(waves, ideal, camera)
    inside = cv2.undistort(np.ones((256, 192), np.float32), camera.K, np.array([k1, k2, 0, 0, k3])) > 0.999
    inside = cv2.erode(inside.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    assert inside.mean() > 0.5
    difference = np.abs(straight - expected)[inside & (expected[..., 0] > 0)]
    assert difference.max() < 0.03  # of waves 2 high: two interpolations
    assert np.abs(bent - expected)[64:192, 48:144].max() < 2.1 and np.abs(bent - expected).max() > 0.3


def _window(
    image: Float32[np.ndarray, "h w 3"], ideal: Camera, camera: Camera
) -> Float32[np.ndarray, "height width 3"]:
    """The part of the ideal picture that `camera` without its lens shows, 0 where there is none."""
    shift = (ideal.K[:2, 2] - camera.K[:2, 2]).round().astype(int)
    y, x = np.mgrid[: camera.height, : camera.width] + shift[::-1, None, None]
    known = (x >= 0) & (y >= 0) & (x < ideal.width) & (y < ideal.height)
    found = image[y.clip(0, ideal.height - 1), x.clip(0, ideal.width - 1)]
    return np.where(known[..., None], found, 0).astype(np.float32)


def test_a_lamp_gets_no_dark_ring_and_coverage_stays_coverage() -> None:
    camera = camera_of(LENSES[0])
    ideal = effects.ideal_camera(camera)
    lamp = np.full((ideal.height, ideal.width, 3), 0.2, np.float32)
    lamp[60:63, 50:53] = 30000.0
    bent = effects.distort_image(lamp, ideal, camera)
    assert bent.min() == np.float32(0.2) and bent.max() == 30000
    coverage = effects.distort_image((lamp[..., 0] > 1).astype(np.float32), ideal, camera)
    assert coverage.shape == (128, 96) and coverage.min() == 0 and coverage.max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(-0.05, 0.05)] * 3), st.integers(1, 120), st.integers(1, 120))
def test_every_pixel_of_any_mild_lens_finds_a_label(distortion: Radial, width: int, height: int) -> None:
    camera = camera_of(distortion, width, height)
    ideal = effects.ideal_camera(camera)
    row_and_column = np.indices((ideal.height, ideal.width)).transpose(1, 2, 0)
    found = effects.distort_labels({"at": row_and_column}, ideal, camera)["at"]
    assert found.shape == (height, width, 2)
    if camera.distorted:
        assert found.min() >= 1 and (found.max(axis=(0, 1)) < (ideal.height - 1, ideal.width - 1)).all()


def test_jpeg_is_readable_repeatable_and_halves_chroma_below_90() -> None:
    y, x = np.mgrid[:64, :48]
    rgb = np.stack([x * 5, y * 3, 255 - x * 2], axis=-1).astype(np.uint8)
    coarse, fine = effects.encode_jpeg(rgb, 60), effects.encode_jpeg(rgb, 95)
    assert fine == effects.encode_jpeg(rgb, 95) and len(coarse) < len(fine)
    for data, sampling in ((coarse, 2), (fine, 1)):
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG" and image.size == (48, 64)
            assert image.layer[0][1] == sampling  # type: ignore[attr-defined]
            assert np.abs(np.asarray(image).astype(int) - rgb).mean() < 4
    for quality in (0, 101):
        with pytest.raises(VitruvianError, match="1 to 100"):
            effects.encode_jpeg(rgb, quality)
