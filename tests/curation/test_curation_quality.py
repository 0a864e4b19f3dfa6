"""Quality statistics against their formulas on pictures that are easy to work out, and on photographs."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from curation.columns import QUALITY
from curation.filters.quality import measure_quality
from curation.filters.reduce import Views, bounded, luminance

Image = Callable[[str], Any]
FLAT = {
    "contrast": 0,
    "sharpness": 0,
    "entropy": 0,
    "flatness": 1,
    "blockiness": 0,
    "colourfulness": 0,
}


def jpeg(image: Any, quality: int) -> Any:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def test_every_column_is_measured(image: Image) -> None:
    assert list(measure_quality(image("coffee.png"))) == [field.name for field in QUALITY]


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3000), (24, 24), (600, 800)])
def test_an_even_grey_has_no_statistics(shape: tuple[int, int]) -> None:
    assert measure_quality(np.full((*shape, 3), 51, np.uint8)) == {"brightness": 0.2, **FLAT}


def test_half_black_half_white() -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    found = measure_quality(halves)
    # Flat: in each of the 63 compared columns but the one left of the border. Laplacian: 255 and -255 in two
    # of 64 columns.
    assert found["brightness"] == found["contrast"] == 0.5
    assert found["entropy"] == 1
    assert found["flatness"] == round(62 / 63, 4)
    assert found["sharpness"] == pytest.approx(255**2 * 2 / 64, abs=1e-3)
    assert found["colourfulness"] == 0


def test_colourfulness_is_hasler_and_suesstrunks_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    red, green, blue = np.moveaxis(pixels.astype(float), -1, 0)
    rg, yb = red - green, (red + green) / 2 - blue
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert measure_quality(pixels)["colourfulness"] == pytest.approx(expected, abs=1e-3)
    swapped = measure_quality(np.ascontiguousarray(pixels[..., ::-1]))["colourfulness"]
    assert abs(swapped - expected) > 0.01  # the order of the channels matters


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "chelsea.png", "grass.png"])
def test_blockiness_grows_with_compression(image: Image, name: str) -> None:
    found = [measure_quality(jpeg(image(name), quality))["blockiness"] for quality in (95, 30, 10)]
    assert abs(measure_quality(image(name))["blockiness"]) < 0.05
    assert found[0] < 0.1 < found[1] < found[2]
    assert found[2] > 0.28


def test_blockiness_sees_the_grid_through_turns_that_keep_it(image: Image) -> None:
    blocky = jpeg(image("astronaut.png"), 20)  # 512 x 512: whole blocks
    upright = measure_quality(blocky)["blockiness"]
    for turns in range(4):
        turned = measure_quality(np.ascontiguousarray(np.rot90(blocky, turns)))["blockiness"]
        assert turned == pytest.approx(upright, abs=0.02)
    assert abs(measure_quality(np.ascontiguousarray(blocky[3:, 3:]))["blockiness"]) < 0.2 * upright


def test_sharpness_falls_with_blur_and_not_with_size(image: Image) -> None:
    picture = image("retina.jpg")  # 1411 px
    sharp = measure_quality(picture)["sharpness"]
    assert measure_quality(cv2.GaussianBlur(picture, (0, 0), 8))["sharpness"] < 0.2 * sharp
    half = cv2.resize(picture, (705, 705), interpolation=cv2.INTER_AREA)
    assert measure_quality(half)["sharpness"] == pytest.approx(sharp, rel=0.1)


def test_noise_takes_flatness_away(image: Image) -> None:
    logo = image("logo.png")
    noise = np.random.default_rng(0).normal(0, 2, logo.shape)
    noisy = np.clip(logo + noise, 0, 255).astype(np.uint8)
    assert measure_quality(logo)["flatness"] > 0.5
    assert measure_quality(noisy)["flatness"] < 0.25


def test_reduction_is_an_average_by_area() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2048, 1024, 3)).astype(np.uint8)
    boxes = pixels.reshape(512, 4, 256, 4, 3).mean(axis=(1, 3))
    assert np.abs(bounded(pixels, 512) - boxes).max() <= 1  # two roundings
    assert bounded(pixels, 4096) is pixels
    assert bounded(pixels, 500).shape == (500, 250, 3)
    assert bounded(np.zeros((1, 5000), np.uint8), 512).shape == (1, 512)


def test_views_are_those_of_the_image(image: Image) -> None:
    picture = image("motorcycle_left.png")
    views = Views(picture)
    assert measure_quality(picture, views) == measure_quality(picture)
    assert max(views.small.shape) == max(views.small_grey.shape) == 512
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert luminance(red) == 76


def test_threads_do_not_matter(image: Image) -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = measure_quality(image("retina.jpg"))
        cv2.setNumThreads(4)
        assert measure_quality(image("retina.jpg")) == alone
    finally:
        cv2.setNumThreads(threads)
