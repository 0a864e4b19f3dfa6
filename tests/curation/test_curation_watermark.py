"""Watermark scores: what repeats, what is lettered, what is neither; and that the sets keep their promise."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from curation.filters import FilterConfig, Measure, load_filters
from curation.filters.sets import CLEAN, TEST, TRAINING, WATERMARKS, altered, photographs
from curation.filters.watermark import (
    ClassicalWatermarkConfig,
    letters,
    load_watermark,
    repetition,
    watermark_features,
)

Image = Callable[[str], Any]
NAMES = ("chelsea.png", "coffee.png", "moon.png", "rocket.jpg")  # of the training set: no figure is made here
THRESHOLD = 0.8


def noise(level: float, shape: tuple[int, int] = (240, 320)) -> Any:
    values = np.random.default_rng(5).normal(128, level, shape)
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def line(text: str, colour: int = 255, height: int = 24) -> Any:
    canvas = np.full((120, 320), 90, np.uint8)
    cv2.putText(canvas, text, (10, 70), cv2.FONT_HERSHEY_SIMPLEX, height / 24, colour, 2)
    return canvas


def test_marked_photographs_score_over_clean_ones() -> None:
    measure = load_watermark(ClassicalWatermarkConfig())
    clean = list(photographs(NAMES, 7))
    strong = {kind: WATERMARKS[kind] for kind in ("tiled, alpha 0.35",)}
    marked = list(altered(clean, strong, 7))
    before = [row["watermark"] for row in measure.measure([picture.image for picture in clean])]
    after = [row["watermark"] for row in measure.measure([picture.image for picture in marked])]
    assert max(before) < THRESHOLD < min(after)
    assert all(0 <= score <= 1 for score in before + after)


@pytest.mark.parametrize("lag", [(40, 50), (33, 70), (61, 27)])
def test_what_repeats_stands_out(lag: tuple[int, int]) -> None:
    """A patch of detail on a grid, weaker than the noise that it lies in."""
    ground = np.random.default_rng(0).normal(128, 4, (240, 320))
    patch = np.random.default_rng(1).choice([-3.0, 3.0], (24, 24))
    for row in range(20, 200, lag[0]):
        for column in range(20, 280, lag[1]):
            if row + 24 <= 240 and column + 24 <= 320:
                ground[row : row + 24, column : column + 24] += patch
    plain, repeated = noise(4), np.clip(np.round(ground), 0, 255).astype(np.uint8)
    assert repetition(repeated) > repetition(plain) + 0.4


def test_stripes_and_flats_are_no_repetition() -> None:
    stripes = np.tile(np.where(np.arange(320) % 16 < 8, 120, 136).astype(np.uint8), (240, 1))
    grained = np.clip(stripes + np.random.default_rng(0).normal(0, 4, stripes.shape), 0, 255).astype(np.uint8)
    assert repetition(grained) < repetition(noise(4)) + 0.4  # its lags lie on an axis, as those of walls do
    assert repetition(np.full((240, 320), 128, np.uint8)) == 0
    assert repetition(noise(4, (63, 320))) == 0


def test_letters_are_counted_along_their_line() -> None:
    assert letters(line("HANNA")) == 5
    assert letters(line("HANNANANNA")) == 8  # no more are told apart
    assert letters(line("HANNA", colour=80)) == 0  # bright lettering only
    assert letters(line("H  A  N")) == 1  # gaps of two glyphs end a line
    assert letters(np.full((120, 320), 90, np.uint8)) == 0
    assert letters(np.zeros((10, 400), np.uint8)) == 0


def test_letters_of_unlike_heights_make_no_line() -> None:
    canvas = np.full((120, 320), 90, np.uint8)
    for sizes, expected in (((8, 15, 26, 8, 16), 1), ((20, 20, 20, 20, 20), 5)):
        canvas[:] = 90
        for number, size in enumerate(sizes):
            left = 20 + 10 * number
            cv2.line(canvas, (left, 80), (left + 4, 80 - size), 255, 2)  # a slash
        assert letters(canvas) == expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (2, 3000), (70, 70)])
def test_slivers_are_survived(shape: tuple[int, int]) -> None:
    for measure in load_filters(FilterConfig()):
        (row,) = measure.measure([np.full((*shape, 3), 128, np.uint8)])
        assert set(row) == set(measure.columns)
        assert all(0 <= value <= 1 for value in row.values())


def test_an_image_is_measured_alone(image: Image) -> None:
    images = [image("coffee.png"), image("logo.png"), image("page.png")]
    threads = cv2.getNumThreads()
    for measure in load_filters(FilterConfig()):
        assert isinstance(measure, Measure)
        together = measure.measure(images)
        try:
            cv2.setNumThreads(4)
            assert [measure.measure([each])[0] for each in images] == together
        finally:
            cv2.setNumThreads(threads)
        assert measure.measure([]) == []


def test_size_matters_little(image: Image) -> None:
    picture = image("retina.jpg")  # 1411 px: reduced to 512 by way of 705
    half = cv2.resize(picture, (705, 705), interpolation=cv2.INTER_AREA)
    repeated, lettered = np.abs(watermark_features(picture) - watermark_features(half))
    assert repeated < 0.1
    assert lettered <= 1


def test_sets_are_disjoint_and_reproducible() -> None:
    assert not {name.split(".")[0] for name in TRAINING} & {name.split(".")[0] for name in TEST}
    assert "motorcycle_right.png" not in (*TRAINING, *TEST)  # the same scene as the left one
    one, other = (list(photographs(("coffee.png", "city.exr"), 3)) for _ in range(2))
    assert [picture.source for picture in one] == [picture.source for picture in other]
    assert len({picture.source for picture in one}) == len(one)
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a.image, b.image)
        assert a.kind == CLEAN
    few = list(altered(one[:1], {"corner logo": WATERMARKS["corner logo"]}, 3))
    all_kinds = [picture for picture in altered(one[:1], WATERMARKS, 3) if picture.kind == "corner logo"]
    assert np.array_equal(few[0].image, all_kinds[0].image)
    assert not np.array_equal(few[0].image, one[0].image)
