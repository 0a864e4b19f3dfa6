"""Art scores: styles against photographs, what each statistic says, and the logistic model beneath."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.filters import art, watermark
from curation.filters.art import FEATURES, ClassicalArtConfig, art_features, load_art
from curation.filters.logistic import Logistic, fit
from curation.filters.sets import ART, altered, photographs

Image = Callable[[str], Any]
NAMES = ("chelsea.png", "coffee.png", "ihc.png", "motorcycle_left.png")  # of the training set
SEEN = {kind: change for kind, change in ART.items() if kind != "painted"}


def feature(picture: Any, name: str) -> float:
    return float(art_features(picture)[FEATURES.index(name)])


def test_styles_score_over_photographs() -> None:
    measure = load_art(ClassicalArtConfig())
    clean = list(photographs(NAMES, 7))
    before = [row["art"] for row in measure.measure([picture.image for picture in clean])]
    after = [row["art"] for row in measure.measure([each.image for each in altered(clean, SEEN, 7)])]
    assert max(before) < 0.5
    assert np.mean(np.array(after) > 0.5) >= 0.9  # not all: a cat with outlines stays a photograph
    assert np.median(after) > 0.8


def test_a_logo_is_no_photograph(image: Image) -> None:
    measure = load_art(ClassicalArtConfig())
    found = [row["art"] for row in measure.measure([image(name) for name in ("logo.png", "horse.png")])]
    assert min(found) > 0.9


def test_statistics_of_two_colours() -> None:
    """Half black, half white: two colours, flat but for a line, border rows constant, columns too."""
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, 32:] = 255
    assert feature(halves, "top_colours") == 1
    assert feature(halves, "few_colours") == pytest.approx(-np.log2(2 / 64**2))
    assert feature(halves, "edges") == pytest.approx(2 / 64)  # the two columns at the step
    assert feature(halves, "flat") == pytest.approx(62 / 64)
    assert feature(halves, "white") == 0.5
    assert feature(halves, "border") == 0.5  # columns are constant, rows are not
    assert feature(halves, "saturation") == 0


def test_colours_are_counted_in_32_levels_a_channel() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)
    assert feature(ramp, "few_colours") == pytest.approx(-np.log2(32 / ramp[..., 0].size))
    assert feature(ramp, "top_colours") == 8 / 32
    assert feature(ramp, "flat") == pytest.approx(1, abs=0.02)  # one level per px
    steeper = np.ascontiguousarray(ramp[:, ::20])  # 20 levels per px: neither gentle nor an edge
    assert feature(steeper, "flat") + feature(steeper, "gentle") < 0.2
    assert feature(steeper, "edges") == 0


def test_statistics_of_noise() -> None:
    grain = np.random.default_rng(0).integers(96, 160, (200, 200, 1)).astype(np.uint8).repeat(3, axis=2)
    assert feature(grain, "noise") > 3
    assert feature(grain, "flat") < 0.1
    assert feature(np.full((200, 200, 3), 128, np.uint8), "noise") == pytest.approx(np.log2(0.05))
    red = np.zeros((50, 50, 3), np.uint8)
    red[..., 0] = 200
    assert feature(red, "saturated") == 1


def test_weights_are_of_these_features() -> None:
    for module, names in ((art, art.FEATURES), (watermark, watermark.FEATURES)):
        path = Path(str(module.__file__)).with_name(f"{module.COLUMN}_weights.json")
        content = json.loads(path.read_bytes())
        model = Logistic.from_json(content, names)
        assert model.to_json(names) == content
        with pytest.raises(ValueError, match="the features are"):
            Logistic.from_json(content, names[::-1])
    shown = load_art(ClassicalArtConfig()).identity()
    assert len(shown["art_weights.json"]) == 64


def test_fit_finds_the_model_that_made_the_data() -> None:
    random = np.random.default_rng(0)
    rows = random.normal([1, -2, 0], [1, 3, 0.5], (20_000, 3)).astype(np.float32)
    logits = 1.5 * (rows[:, 0] - 1) - 0.5 * (rows[:, 1] + 2) / 3
    positive = random.random(len(rows)) < 1 / (1 + np.exp(-logits))
    model = fit(rows, positive, ridge=0.01)
    assert model.weights == pytest.approx([1.5, -0.5, 0], abs=0.06)
    assert model.bias == pytest.approx(0, abs=0.06)
    assert model.probability(rows[positive][0]) == pytest.approx(
        1 / (1 + np.exp(-logits[positive][0])), abs=0.03
    )
    assert model.probability(np.full(3, 1e9, np.float32)) < 1  # clipped: no statistic decides alone
