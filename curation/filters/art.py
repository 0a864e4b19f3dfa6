"""How likely a picture is no photograph: drawn, printed in few colours, filtered; column `art`, 0..1.

The offline default is classical: statistics of colours, gradients and noise in a logistic model of a few
weights (art_weights.json, made by tools/fit_filter_weights.py). It is weak, knows nothing of what is shown,
and takes many a screenshot for a photograph: docs/filters.md has its figures. `backend: onnx` is for a real
model.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from pydantic import Field

from curation.boxes import RGB
from curation.filters.logistic import Logistic
from curation.filters.measure import Measure
from curation.filters.network import NetworkConfig, ScoreNetwork
from curation.filters.reduce import Grey, bounded, luminance
from shards.config import Config
from shards.files import sha256_file

COLUMN = "art"
SIDE = 384  # px; longer side of the image that is looked at
FEATURES = (
    "top_colours",
    "few_colours",
    "flat",
    "gentle",
    "edges",
    "edge_contrast",
    "steps",
    "outlines",
    "peaks",
    "noise",
    "saturation",
    "saturated",
    "white",
    "border",
)
_WEIGHTS = Path(__file__).with_name("art_weights.json")
_STEEP, _FLAT = 40, 1.5  # grey levels per px


class ClassicalArtConfig(Config):
    """Statistics and a logistic model: works offline, weak."""

    backend: Literal["classical"] = "classical"


class OnnxArtConfig(NetworkConfig):
    """An ONNX classifier of whole images."""

    backend: Literal["onnx"] = "onnx"


ArtConfig = Annotated[ClassicalArtConfig | OnnxArtConfig, Field(discriminator="backend")]


def load_art(config: ClassicalArtConfig | OnnxArtConfig) -> Measure:
    """The measure that a configuration names; networks load at first use."""
    if isinstance(config, OnnxArtConfig):
        return ScoreNetwork(config, COLUMN)
    return ClassicalArt()


class ClassicalArt:
    """`art` by statistics."""

    columns = (COLUMN,)

    def measure(self, images: Sequence[RGB]) -> list[dict[str, float]]:
        """The score of each image."""
        model = _model()
        return [{COLUMN: model.probability(art_features(image))} for image in images]

    def identity(self) -> dict[str, str]:
        """Name and digest of the weights."""
        return {"name": "classical-art", _WEIGHTS.name: sha256_file(_WEIGHTS)}


@cache
def _model() -> Logistic:
    return Logistic.from_json(json.loads(_WEIGHTS.read_bytes()), FEATURES)


def art_features(image: RGB) -> Float32[np.ndarray, " features"]:
    """FEATURES of an image averaged by area to a longer side of SIDE px, each about 0..1 or a logarithm.

    top_colours: share of the 8 most frequent colours of 32 levels a channel. few_colours: -log2 of (different
    colours of those / pixels). flat, gentle, edges: shares of pixels whose gradient of luma (Sobel / 8, L2)
    is under 1.5, from there to 5, over 40 levels per px. edge_contrast: log2 of mean gradient over median
    gradient. steps: of the pixels that are not flat, the share over 15. outlines: share of pixels that a
    closing with 5 x 5 lightens by over 40. peaks: sum of what the histogram of luma rises over its own mean
    of 17 levels. noise: log2 of mean |Y - median3x3(Y)| among the half of the pixels with the least gradient.
    saturation, saturated: mean, and share over 0.75, of (max - min) / max of the channels. white: share of Y
    over 245. border: share of outermost rows and columns (4 on each side) of which every pixel is the same.
    """
    small = bounded(image, SIDE)
    grey = luminance(small)
    gradient = _gradient(grey)
    values = [
        *_colours(small),
        (gradient < _FLAT).mean(),
        ((gradient >= _FLAT) & (gradient < 5)).mean(),
        (gradient > _STEEP).mean(),
        np.log2((gradient.mean() + 0.1) / (np.median(gradient) + 0.1)),
        (gradient > 15).sum() / ((gradient >= _FLAT).sum() + 0.01 * gradient.size),
        (cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((5, 5), np.uint8)) > _STEEP).mean(),
        _peaks(grey),
        _noise(grey, gradient),
        *_saturation(small),
        (grey > 245).mean(),
        _border(small),
    ]
    return np.array(values, np.float32)


def _gradient(grey: Grey) -> Float64[np.ndarray, "_height _width"]:
    """Grey levels per px. Squares are integers and the root is IEEE's: cv2.magnitude rounds by where in
    memory a row lies, and a pixel at a threshold would fall on either side of it.
    """
    across, down = (cv2.Sobel(grey, cv2.CV_16S, *axis).astype(np.int32) for axis in ((1, 0), (0, 1)))
    gradient: Float64[np.ndarray, "_height _width"] = np.sqrt(across * across + down * down) / 8
    return gradient


def _peaks(grey: Grey) -> float:
    """How spiky the histogram is: what rises over its own moving average."""
    counts = np.bincount(grey.ravel(), minlength=256) / grey.size
    return float(np.maximum(counts - np.convolve(counts, np.ones(17) / 17, mode="same"), 0).sum())


def _colours(image: RGB) -> tuple[float, float]:
    levels = (image >> 3).astype(np.int32)
    codes = (levels[..., 0] << 10) | (levels[..., 1] << 5) | levels[..., 2]
    counts = np.bincount(codes.ravel(), minlength=1 << 15)
    top = np.partition(counts, -8)[-8:].sum() / codes.size
    return float(top), float(-np.log2(np.count_nonzero(counts) / codes.size))


def _noise(grey: Grey, gradient: Float64[np.ndarray, "_height _width"]) -> float:
    apart = cv2.absdiff(grey, cv2.medianBlur(grey, 3))
    return float(np.log2(apart[gradient <= np.median(gradient)].mean() + 0.05))


def _saturation(image: RGB) -> tuple[float, float]:
    high, low = image.max(axis=2).astype(np.float32), image.min(axis=2).astype(np.float32)
    saturation = (high - low) / np.maximum(high, 1)
    return float(saturation.mean()), float((saturation > 0.75).mean())


def _border(image: RGB) -> float:
    lines: list[UInt8[np.ndarray, "_pixels 3"]] = []
    for turned in (image, image.transpose(1, 0, 2)):
        lines += [*turned[:4], *turned[-4:]]
    return float(np.mean([bool((line == line[0]).all()) for line in lines]))
