"""How sure a score is: percentile intervals of the bootstrap over images (Efron 1979), and scores that are
functions of sums over images, for which a resample costs one matrix product.

R resamples, I images, S sums. A resample draws as many groups as there are, with replacement; its weights say
how often each image was drawn.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

Scores = dict[str, Float64[np.ndarray, " R"]]
LEVEL = 0.95
CHUNK = 100
"""Resamples at a time: bounds the memory of the weights."""


@runtime_checkable
class Resampled(Protocol):
    """An evaluator that can say what it would have scored had each image counted `weights` times."""

    keep_images: bool
    """Whether it keeps what `resampled` needs; set it before the first image."""

    @property
    def keys(self) -> Sequence[str]:
        """The images it scored, in the order of the weights' columns."""
        ...

    def resampled(self, weights_RI: Float64[np.ndarray, "R I"]) -> Scores:
        """Scores of each row of weights; NaN where a resample has none."""
        ...


class ImageSums:
    """Adds up vectors over images; `scores` turns rows of sums into scores."""

    def __init__(self, size: int, scores: Callable[[Float64[np.ndarray, "R S"]], Scores]) -> None:
        self.total = np.zeros(size)
        self.keep_images = True
        self.scores = scores
        self._images: dict[str, Float64[np.ndarray, " S"]] = {}

    def count(self, key: str, sums: Float64[np.ndarray, " S"]) -> None:
        """Count `sums` for the image `key` (several calls add up)."""
        self.total += sums
        if self.keep_images:
            self._images[key] = self._images[key] + sums if key in self._images else sums

    def merge(self, other: "ImageSums") -> None:
        """Count everything another rank counted; no image may be in both."""
        self.total += other.total
        self._images |= other._images

    @property
    def keys(self) -> Sequence[str]:
        return list(self._images)

    def compute(self) -> dict[str, float]:
        """Scores of all images together; {} when nothing was added."""
        if not self.total.any():
            return {}
        return {name: float(values[0]) for name, values in self.scores(self.total[None]).items()}

    def resampled(self, weights_RI: Float64[np.ndarray, "R I"]) -> Scores:
        return self.scores(weights_RI @ np.stack(list(self._images.values())))


def mean_scores(names: Sequence[str]) -> Callable[[Float64[np.ndarray, "R S"]], Scores]:
    """Scores that are means over images: sums are (1, value of each name)."""

    def scores(sums_RS: Float64[np.ndarray, "R S"]) -> Scores:
        with np.errstate(invalid="ignore"):
            means = sums_RS[:, 1:] / np.where(sums_RS[:, :1] > 0, sums_RS[:, :1], np.nan)
        return {name: means[:, column] for column, name in enumerate(names)}

    return scores


def draw_weights(
    groups: Sequence[str], resamples: int, seed: int
) -> Iterator[Float64[np.ndarray, "chunk I"]]:
    """Weights of the images whose groups are `groups`, a chunk of resamples at a time. Images of one group
    (one image, or one person's images) are drawn together.
    """
    rng = np.random.default_rng(seed)
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    share = np.full(len(names), 1 / len(names))
    for start in range(0, resamples, CHUNK):
        counts = rng.multinomial(len(names), share, size=min(CHUNK, resamples - start))
        yield counts[:, member].astype(np.float64)


def intervals(
    evaluator: Resampled, groups: Mapping[str, str], resamples: int, seed: int
) -> dict[str, list[float]]:
    """Low and high end of each score's 95 % interval; `groups`: image key -> what is drawn as one.

    {} for fewer than two groups. A score that is undefined in over half of the resamples has no interval.
    """
    drawn = [groups[key] for key in evaluator.keys]
    if len(set(drawn)) < 2 or resamples == 0:
        return {}
    chunks = [evaluator.resampled(weights) for weights in draw_weights(drawn, resamples, seed)]
    tail = 100 * (1 - LEVEL) / 2
    found = {}
    for name in chunks[0]:
        values = np.concatenate([chunk[name] for chunk in chunks])
        known = values[np.isfinite(values)]
        if len(known) * 2 > len(values):
            low, high = np.percentile(known, (tail, 100 - tail))
            found[name] = [float(low), float(high)]
    return found
