"""Measures are functions of the pixels, not of where these lie in memory, nor of the number of threads."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from curation.boxes import RGB
from curation.filters import FilterConfig, load_filters
from curation.filters.duplicates import measure_hashes
from curation.filters.quality import measure_quality
from curation.filters.reduce import Views

NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "noise")


def noise() -> RGB:
    """Noise after JPEG, in which some gradients lie on thresholds: three of 40 such pictures gave it away."""
    random, stream = np.random.default_rng(7), BytesIO()
    for _ in range(8):
        pixels = random.integers(0, 255, (240, 320, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return np.asarray(Image.open(stream))


def everything(image: RGB) -> dict[str, Any]:
    views = Views(image)
    row = measure_quality(image, views) | measure_hashes(image, views)
    for measure in load_filters(FilterConfig()):
        row |= measure.measure([image])[0]
    return row


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_is_a_function_of_the_pixels(name: str, image: Callable[[str], RGB]) -> None:
    """OpenCV's float routines round by where a row lies (cv2.magnitude did): so memory is shuffled."""
    random = np.random.default_rng(7)
    picture = noise() if name == "noise" else image(name)
    expected, threads = everything(picture), cv2.getNumThreads()
    ballast = [np.empty(0, np.uint8)] * 20
    try:
        for attempt in range(80 if name == "noise" else 6):
            cv2.setNumThreads(1 + attempt % 3)
            ballast[attempt % 20] = np.empty(int(random.integers(1000, 600_000)), np.uint8)
            assert everything(np.array(picture)) == expected
    finally:
        cv2.setNumThreads(threads)
