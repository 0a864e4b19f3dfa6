"""Pictures of an evaluation: input, truth and prediction side by side, and sheets of the worst and of random
cases.
"""

import heapq
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8

from annotation.draw import letterbox, tile
from annotation.labels import Labels
from train.tasks import Task

Picture = UInt8[np.ndarray, "_ _ 3"]
PANEL_HEIGHT = 384
CELL_HEIGHT = 224
"""Of a panel on a sheet; it bounds what the sheets keep in memory."""


def draw_panel(
    task: Task, labels: Labels, person: int, prediction: Shaped[np.ndarray, "..."], height: int = PANEL_HEIGHT
) -> UInt8[np.ndarray, "_ _ 3"]:
    """Input, truth and prediction side by side."""
    assert labels.rgb is not None
    truth = task.draw(labels, person, task.truth(labels, person))
    images = [labels.rgb, truth, task.draw(labels, person, prediction)]
    width = max(1, round(height * labels.rgb.shape[1] / labels.rgb.shape[0]))
    return tile([letterbox(image, width, height) for image in images], columns=3, gap=6)


class Worst:
    """Keeps the pictures of the `limit` worst cases; draws only those that are among them so far."""

    def __init__(self, limit: int, better: Literal["higher", "lower"]) -> None:
        self.limit, self.sign = limit, -1.0 if better == "higher" else 1.0
        self._kept: list[tuple[float, int, Picture]] = []
        self._offered = 0

    def offer(self, score: float, draw: Callable[[], Picture]) -> None:
        """A case with its score; NaN is no candidate. Of equal scores the first ones stay."""
        self._offered += 1
        badness = self.sign * score
        full = len(self._kept) >= self.limit
        if np.isnan(score) or self.limit == 0 or (full and badness <= self._kept[0][0]):
            return
        entry = (badness, -self._offered, draw())
        if full:
            heapq.heapreplace(self._kept, entry)
        else:
            heapq.heappush(self._kept, entry)

    def pictures(self) -> list[Picture]:
        """The worst first."""
        return [picture for _, _, picture in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)]


def sheet(pictures: Sequence[Picture]) -> Picture:
    """All of them, two in a row."""
    return tile(pictures, columns=2, gap=12)
