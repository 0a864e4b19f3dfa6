"""How likely a picture carries a watermark: marks repeated all over it, or lettering set upon it; column
`watermark`, 0..1.

The offline default is classical: an autocorrelation for repeated marks, top-hat and connected components for
lettering, and a logistic model of the two (watermark_weights.json, made by tools/fit_filter_weights.py). It
is weak: it misses a third of faint marks and every logo without letters, and takes some bricks and fences for
marks; docs/filters.md has its figures. `backend: onnx` is for a real model.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32
from pydantic import Field

from curation.boxes import RGB
from curation.filters.logistic import Logistic
from curation.filters.measure import Measure
from curation.filters.network import NetworkConfig, ScoreNetwork
from curation.filters.reduce import Grey, bounded, luminance
from shards.config import Config
from shards.files import sha256_file

COLUMN = "watermark"
SIDE = 512  # px; longer side of the image that is looked at
FEATURES = ("repetition", "letters")
_WEIGHTS = Path(__file__).with_name("watermark_weights.json")

_FINE = 2.0  # px; sigma of the blur whose difference to the image is looked at for repetition
_FAINT = 2.0  # grey levels; differences beyond count as this, so that strong edges do not drown faint marks
_WHITEN = 0.3  # exponent of the spectrum's magnitude: 2 is a plain autocorrelation, 0 phase alone
_NEAREST, _OFF_AXIS, _FARTHEST = 20, 8, 0.4  # px, px, share of the side: lags that are looked at

_STROKE = 9  # px; thicker strokes are no lettering
_CONTRASTS = (10, 20, 40, 80)  # grey levels over the surroundings
_HEIGHTS = (5, 40)  # px of a glyph
_MOST = 400  # glyphs looked at for each contrast


class ClassicalWatermarkConfig(Config):
    """Autocorrelation and connected components: works offline, weak."""

    backend: Literal["classical"] = "classical"


class OnnxWatermarkConfig(NetworkConfig):
    """An ONNX classifier of whole images."""

    backend: Literal["onnx"] = "onnx"


WatermarkConfig = Annotated[ClassicalWatermarkConfig | OnnxWatermarkConfig, Field(discriminator="backend")]


def load_watermark(config: ClassicalWatermarkConfig | OnnxWatermarkConfig) -> Measure:
    """The measure that a configuration names; networks load at first use."""
    if isinstance(config, OnnxWatermarkConfig):
        return ScoreNetwork(config, COLUMN)
    return ClassicalWatermark()


class ClassicalWatermark:
    """`watermark` by repetition and lettering."""

    columns = (COLUMN,)

    def measure(self, images: Sequence[RGB]) -> list[dict[str, float]]:
        """The score of each image."""
        model = _model()
        return [{COLUMN: model.probability(watermark_features(image))} for image in images]

    def identity(self) -> dict[str, str]:
        """Name and digest of the weights."""
        return {"name": "classical-watermark", _WEIGHTS.name: sha256_file(_WEIGHTS)}


@cache
def _model() -> Logistic:
    return Logistic.from_json(json.loads(_WEIGHTS.read_bytes()), FEATURES)


def watermark_features(image: RGB) -> Float32[np.ndarray, "2"]:
    """FEATURES of an image averaged by area to a longer side of SIDE px: `repetition`, `letters`."""
    grey = bounded(luminance(image), SIDE)
    return np.array([repetition(grey), letters(grey)], np.float32)


def repetition(grey: Grey) -> float:
    """log2 of how far the highest peak of the autocorrelation of fine detail stands out, in robust standard
    deviations (1.4826 median |deviation|): about 2.6 for most photographs, over 3.5 with repeated marks.

    Detail is clipped, its spectrum flattened. Lags shorter than 20 px, within 8 px of an axis (walls,
    horizons, blocks of JPEG) or over 0.4 of a side do not count. 0 for an image too small, or without detail.
    """
    height, width = grey.shape
    if min(grey.shape) < 64:
        return 0.0
    sharp = grey.astype(np.float32)
    detail = np.clip(sharp - cv2.GaussianBlur(sharp, (0, 0), _FINE), -_FAINT, _FAINT)
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectrum = np.abs(np.fft.rfft2(detail * window)) ** _WHITEN
    correlation = np.fft.fftshift(np.fft.irfft2(spectrum, grey.shape)).astype(np.float32)
    values = cv2.GaussianBlur(correlation, (0, 0), 0.8)[_lags(height, width)]
    middle = np.median(values)
    deviation = 1.4826 * np.median(np.abs(values - middle))
    if deviation < 1e-9:
        return 0.0
    return float(np.log2(1 + (values.max() - middle) / deviation))


@cache
def _lags(height: int, width: int) -> Bool[np.ndarray, "height width"]:
    y, x = np.ogrid[-(height // 2) : height - height // 2, -(width // 2) : width - width // 2]
    far = y**2 + x**2 > _NEAREST**2
    allowed: Bool[np.ndarray, "height width"] = (
        far
        & (np.abs(y) > _OFF_AXIS)
        & (np.abs(x) > _OFF_AXIS)
        & (np.abs(y) < _FARTHEST * height)
        & (np.abs(x) < _FARTHEST * width)
    )
    return allowed


def letters(grey: Grey) -> float:
    """Glyphs in the longest line of bright glyphs, at most 8: over 4 in few photographs without lettering.

    White top-hat, a threshold (each of 10, 20, 40, 80 levels), connected components of a glyph's shape; a
    line goes from glyph to glyph while heights, brightness and base (or top) line agree and gaps are short.
    """
    if min(grey.shape) < 2 * _STROKE:
        return 0.0
    brush = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE, _STROKE))
    bright = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, brush)
    return float(min(8, max(_longest_line(grey, bright > contrast) for contrast in _CONTRASTS)))


def _longest_line(grey: Grey, strokes: Bool[np.ndarray, "_height _width"]) -> int:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
    glyphs = _glyphs(stats)
    if not len(glyphs):
        return 0
    pixels = np.bincount(labels.ravel(), minlength=count)
    level = np.bincount(labels.ravel(), weights=grey.ravel(), minlength=count) / np.maximum(pixels, 1)
    left, top, width, height = stats[glyphs, :4].T
    linked = _links(left, top, width, height, level[glyphs])
    longest = np.ones(len(glyphs), np.int64)
    for right in range(len(glyphs)):  # from left to right: what leads to a glyph is known by then
        before = longest[linked[:, right]]
        if len(before):
            longest[right] = 1 + before.max()
    return int(longest.max())


def _glyphs(stats: Int32[np.ndarray, "components 5"]) -> Int32[np.ndarray, " glyphs"]:
    """Components (but the background) of a glyph's size, proportions and fill; the largest, left to right."""
    _, _, width, height, area = stats.T
    shaped = (height >= _HEIGHTS[0]) & (height <= _HEIGHTS[1]) & (width <= 2 * height) & (8 * width >= height)
    filled = (area >= 8) & (area <= 0.8 * width * height + 6) & (area >= 0.15 * width * height)
    found = np.flatnonzero(shaped & filled & (np.arange(len(stats)) > 0))
    found = found[np.argsort(-area[found], kind="stable")[:_MOST]]
    ordered: Int32[np.ndarray, " glyphs"] = found[np.argsort(stats[found, 0], kind="stable")].astype(np.int32)
    return ordered


def _links(
    left: Int32[np.ndarray, " n"],
    top: Int32[np.ndarray, " n"],
    width: Int32[np.ndarray, " n"],
    height: Int32[np.ndarray, " n"],
    level: Float64[np.ndarray, " n"],
) -> Bool[np.ndarray, "n n"]:
    """Whether the second may follow the first in a line of text."""
    larger, smaller = np.maximum.outer(height, height), np.minimum.outer(height, height)
    gap = left[None] - (left + width)[:, None]
    bottom = top + height
    aligned = np.abs(np.subtract.outer(bottom, bottom)) <= 0.15 * larger + 1
    aligned |= np.abs(np.subtract.outer(top, top)) <= 0.15 * larger + 0.5
    alike = (smaller >= 0.75 * larger) & (np.abs(np.subtract.outer(level, level)) <= 30)
    linked: Bool[np.ndarray, "n n"] = (
        aligned & alike & (gap >= -1) & (gap <= 0.8 * larger + 1) & (left[None] > left[:, None])
    )
    return linked
