"""The perceptual hash and the thumbnail: what they survive, what they tell apart, what they are made of."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import cv2
import numpy as np
import pytest

from curation.columns import THUMBNAIL_SIDE
from curation.filters.duplicates import measure_hashes, phash, pixel_sha256, thumbnail

Image = Callable[[str], Any]
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
    "text.png",
)


def jpeg(image: Any, quality: int) -> Any:
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def half(image: Any) -> Any:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def brighter(image: Any) -> Any:
    return np.clip(image * 1.05 + 8, 0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[Any], Any]] = {
    "quality 30": lambda image: jpeg(image, 30),
    "half size": half,
    "brighter": brighter,
    "half size, quality 75": lambda image: jpeg(half(image), 75),
}


def distance(one: Any, other: Any) -> int:
    return (phash(one) ^ phash(other)).bit_count()


@pytest.mark.parametrize("copy", COPIES)
def test_copies_stay_near(image: Image, copy: str) -> None:
    """docs/filters.md states the distribution; grass and gravel, all texture, are the far ones."""
    distances = [distance(image(name), COPIES[copy](image(name))) for name in PHOTOGRAPHS]
    assert np.median(distances) <= 2
    assert np.mean(np.array(distances) <= 4) >= 0.9
    assert max(distances) <= 8


def test_different_photographs_are_far(image: Image) -> None:
    hashes = [phash(image(name)) for name in PHOTOGRAPHS]
    distances = [(one ^ other).bit_count() for one, other in combinations(hashes, 2)]
    assert min(distances) > 12
    assert 28 < np.mean(distances) < 36


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png", "rocket.jpg"])
def test_mirrored_and_turned_pictures_are_others(image: Image, name: str) -> None:
    picture = image(name)
    for other in (picture[:, ::-1], picture[::-1], np.rot90(picture)):
        assert distance(picture, np.ascontiguousarray(other)) > 12


def test_hash_is_the_sign_of_the_lowest_frequencies() -> None:
    """A horizontal cosine of frequency 1 sets exactly its own bit: the second, after the vertical one."""
    x = np.arange(32)
    wave = 128 + 100 * np.cos(np.pi * (2 * x + 1) / 64)
    across = np.repeat(np.round(np.tile(wave, (32, 1))).astype(np.uint8)[..., None], 3, axis=2)
    down = np.ascontiguousarray(across.transpose(1, 0, 2))
    assert phash(across) >> 62 == 0b01
    assert phash(down) >> 62 == 0b10


def test_hash_agrees_with_opencvs_transform(image: Image) -> None:
    """The same bits by another DCT, but where a coefficient lies at the median."""
    order = sorted(((u, v) for u in range(32) for v in range(32)), key=lambda pair: (sum(pair), pair[1]))
    for name in PHOTOGRAPHS:
        grey = cv2.cvtColor(image(name), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA)
        spectrum = cv2.dct(small.astype(np.float32))
        values = np.array([spectrum[pair] for pair in order[1:65]])
        expected = int("".join("1" if value > np.median(values) else "0" for value in values), 2)
        assert (phash(image(name)) ^ expected).bit_count() <= 2, name


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (600, 800)])
def test_flat_images_hash_to_zero(shape: tuple[int, int]) -> None:
    found = measure_hashes(np.full((*shape, 3), 77, np.uint8))
    assert found["phash"] == 0
    assert found["thumbnail"] == bytes([77]) * THUMBNAIL_SIDE**2


def test_thumbnail_is_the_average_by_area(image: Image) -> None:
    picture = image("astronaut.png")
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).reshape(16, 32, 16, 32).mean(axis=(1, 3))
    found = np.frombuffer(thumbnail(picture), np.uint8).reshape(16, 16)
    assert np.abs(found - grey).max() <= 0.5


def test_columns_are_those_of_the_functions(image: Image) -> None:
    picture = image("coffee.png")
    assert measure_hashes(picture) == {
        "pixel_sha256": pixel_sha256(picture),
        "phash": phash(picture),
        "thumbnail": thumbnail(picture),
    }
    assert 0 <= phash(picture) < 2**64
