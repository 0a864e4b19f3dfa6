"""Which windows of a picture the network sees, and how their outputs become one prediction of the picture.

A `Layout` is a set of windows and the canvas (a grid of output pixels over the whole picture) that their
outputs are blended on. Shape suffixes: C output channels, h w pixels of a window's output, r c rows and
columns of the canvas.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Shaped
from torch import Tensor
from torch.nn import functional as F

from shards.errors import UsageError
from train.data.view import View
from train.tasks import Task

Size = tuple[int, int]
"""(height, width), pixels."""

CANVAS_VALUES = 64_000_000
"""Most numbers of a canvas (256 MB): a larger one is made coarser."""
BAND_VALUES = 32_000_000
"""Most numbers of a decoded band of rows."""


@dataclass(frozen=True)
class Fade:
    """Share of a window's height or width over which its weight rises from 0 to 1, from each edge."""

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0


@dataclass(frozen=True)
class Window:
    """A part of the picture that the network sees at once."""

    view: View
    fade: Fade = Fade()


@dataclass(frozen=True)
class Layout:
    """Windows, and the size (rows, columns) of the canvas; None: the only window's output is the canvas.

    `guided`: the first window shows the whole picture and says to what scale and shift others are brought.
    """

    windows: tuple[Window, ...]
    canvas: Size | None = None
    guided: bool = False


def whole_layout(source: Size, size: Size) -> Layout:
    """The published way: the whole picture, resized without keeping its aspect."""
    return Layout((Window(View.whole(source, size)),))


def letterbox_layout(source: Size, size: Size, stride: int, channels: int) -> Layout:
    """The whole picture at its own aspect, with margins of the mean colour."""
    scale = min(size[0] / source[0], size[1] / source[1])
    centre = ((source[1] - 1) / 2, (source[0] - 1) / 2)
    view = View(centre, size[1] / scale, size[0] / scale, size)
    return Layout((Window(view),), fitting_canvas(source, scale / stride, channels))


def people_layout(
    boxes: Float64[np.ndarray, "people 4"],
    padding: float,
    source: Size,
    size: Size,
    stride: int,
    channels: int,
) -> Layout:
    """A window around each box (x0, y0, x1, y1); weights fall off from the middle of each to its edge."""
    views = [View.around(box, padding, size) for box in boxes]
    finest = max((size[0] / view.height for view in views), default=0.0)
    fade = Fade(0.5, 0.5, 0.5, 0.5)
    canvas = fitting_canvas(source, finest / stride, channels)
    return Layout(tuple(Window(view, fade) for view in views), canvas)


def tile_layout(
    source: Size, size: Size, stride: int, channels: int, grid: Size, overlap: float, guided: bool
) -> Layout:
    """`grid` (rows, columns) of windows that overlap by the share `overlap` and each fill the network's
    input. Together they see the picture as one input of their joint size would, so one by one is the whole
    picture resized without keeping its aspect.
    """
    steps = [max(stride, round(side * (1 - overlap) / stride) * stride) for side in size]
    covered = [side + (count - 1) * step for side, count, step in zip(size, grid, steps, strict=True)]
    scale = [length / pixels for length, pixels in zip(source, covered, strict=True)]
    fades = [1 - step / side for side, step in zip(size, steps, strict=True)]
    windows = [Window(View.whole(source, size))] if guided else []
    for row, column in np.ndindex(*grid):
        centre = [
            (place * step + side / 2) * pixel - 0.5
            for place, step, side, pixel in zip((row, column), steps, size, scale, strict=True)
        ]
        view = View((centre[1], centre[0]), size[1] * scale[1], size[0] * scale[0], size)
        inner = Fade(
            fades[0] * (row > 0),
            fades[0] * (row < grid[0] - 1),
            fades[1] * (column > 0),
            fades[1] * (column < grid[1] - 1),
        )
        windows.append(Window(view, inner))
    canvas = (covered[0] // stride, covered[1] // stride)
    if channels * canvas[0] * canvas[1] > CANVAS_VALUES:
        canvas = _shrunk(canvas, channels)
    return Layout(tuple(windows), canvas, guided)


def native_grid(source: Size, size: Size, overlap: float) -> Size:
    """The fewest rows and columns of tiles at which no pixel of the picture is lost to shrinking."""
    counts = [
        max(1, math.ceil((length / side - overlap) / (1 - overlap) - 1e-9))
        for length, side in zip(source, size, strict=True)
    ]
    return counts[0], counts[1]


def fitting_canvas(source: Size, density: float, channels: int) -> Size:
    """A canvas with `density` pixels per source pixel, no larger than the picture or CANVAS_VALUES."""
    share = min(density, 1.0)
    rows, columns = (max(1, round(length * share)) for length in source)
    return _shrunk((rows, columns), channels)


def _shrunk(canvas: Size, channels: int) -> Size:
    excess = channels * canvas[0] * canvas[1] / CANVAS_VALUES
    if excess <= 1:
        return canvas
    return max(1, int(canvas[0] / math.sqrt(excess))), max(1, int(canvas[1] / math.sqrt(excess)))


class Canvas:
    """Weighted mean of the windows' outputs over a picture; zero where none reaches."""

    def __init__(self, channels: int, size: Size, source: Size) -> None:
        self.size, self.source = size, source
        self.total_Crc = torch.zeros(channels, *size)
        self.weight_rc = torch.zeros(size)

    def add(self, output_Chw: Float32[Tensor, "C h w"], window: Window) -> None:
        """Blend in the output of a window (of an upright view that is not mirrored)."""
        view, fade = window.view, window.fade
        rows, across_y = self._across(0, view.centre[1], view.height)
        columns, across_x = self._across(1, view.centre[0], view.width)
        if not len(across_y) or not len(across_x):
            return
        values_Crc = sample(output_Chw, across_y, across_x)
        weights_rc = ramp(across_y, fade.top, fade.bottom)[:, None] * ramp(across_x, fade.left, fade.right)
        self.total_Crc[:, rows, columns] += values_Crc * weights_rc
        self.weight_rc[rows, columns] += weights_rc

    def add_aligned(
        self, output_1hw: Float32[Tensor, "1 h w"], window: Window, guide_1rc: Float32[Tensor, "1 r c"]
    ) -> None:
        """Blend in a window's depth after bringing it to the scale and shift of `guide_1rc` (least squares).

        A window that runs against the guide (scale <= 0) or has no slope gets the guide's mean only.
        """
        alone = Canvas(1, self.size, self.source)
        alone.add(output_1hw, window)
        seen = alone.weight_rc > 0
        own, guide = alone.merged()[0][seen].double(), guide_1rc[0][seen].double()
        if not len(own):
            return
        spread = own.var(correction=0)
        scale = ((own - own.mean()) * (guide - guide.mean())).mean() / spread if spread > 1e-12 else 0.0
        scale = max(float(scale), 0.0)
        shift = float(guide.mean()) - scale * float(own.mean())
        self.total_Crc += (scale * alone.total_Crc) + shift * alone.weight_rc
        self.weight_rc += alone.weight_rc

    def merged(self) -> Float32[Tensor, "C r c"]:
        """The blended output."""
        return self.total_Crc / self.weight_rc.clamp(min=1e-12)

    def covered(self, size: Size) -> Bool[np.ndarray, "height width"] | None:
        """Which pixels of a picture of `size` some window reaches, a canvas pixel short of where they end;
        None: all of them.
        """
        seen = (self.weight_rc > 0).numpy()
        if seen.all():
            return None
        inner = cv2.erode(seen.astype(np.uint8), np.ones((3, 3), np.uint8))
        return np.asarray(cv2.resize(inner, size[::-1], interpolation=cv2.INTER_NEAREST) > 0)

    def _across(self, axis: int, centre: float, length: float) -> tuple[slice, Float64[np.ndarray, " n"]]:
        """Canvas pixels inside the window along an axis, and how far across it each is (0 .. 1)."""
        pixel = self.source[axis] / self.size[axis]
        across = ((np.arange(self.size[axis]) + 0.5) * pixel - 0.5 - centre) / length + 0.5
        inside = np.flatnonzero((across >= 0) & (across <= 1))
        if not len(inside):
            return slice(0, 0), across[:0]
        return slice(int(inside[0]), int(inside[-1]) + 1), across[inside]


def sample(
    output_Chw: Float32[Tensor, "C h w"],
    across_y: Float64[np.ndarray, " r"],
    across_x: Float64[np.ndarray, " c"],
) -> Float32[Tensor, "C r c"]:
    """Bilinear values at the given shares of the height and the width, the outermost pixels continued."""
    y, x = (torch.from_numpy(2 * across - 1).float() for across in (across_y, across_x))
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    return F.grid_sample(
        output_Chw[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def ramp(across: Float64[np.ndarray, " n"], before: float, after: float) -> Float32[Tensor, " n"]:
    """Weight by the share of the way across a window: sin^2 up over `before`, down over `after`, never 0."""
    weight = np.ones_like(across)
    for distance, length in ((across, before), (1 - across, after)):
        if length > 0:
            weight *= np.sin(np.pi / 2 * np.clip(distance / length, 1e-3, 1)) ** 2
    return torch.from_numpy(weight).float()


def decode_in_bands(
    task: Task, output_Chw: Float32[Tensor, "C h w"], source: Size
) -> Shaped[np.ndarray, "height width *values"]:
    """`task.decode` for a dense task's output for the whole picture, some rows at a time: 28 logits of a 4K
    picture alone would be 930 MB. The resize is that of `train.tasks.base.enlarge`.
    """
    whole = View.whole(source, source)
    channels = output_Chw.shape[0]
    rows = max(1, BAND_VALUES // (channels * source[1]))
    if rows >= source[0]:
        return np.asarray(task.decode(output_Chw, whole, source))
    bands = []
    for band in _enlarged_bands(output_Chw, source, rows):
        size = (band.shape[1], band.shape[2])
        bands.append(task.decode(band, View.whole(size, size), size))
    return np.concatenate(bands)


def _enlarged_bands(
    output_Chw: Float32[Tensor, "C h w"], source: Size, rows: int
) -> Iterator[Float32[Tensor, "C _ width"]]:
    height = output_Chw.shape[1]
    for start in range(0, source[0], rows):
        stop = min(start + rows, source[0])
        place = ((torch.arange(start, stop) + 0.5) * (height / source[0]) - 0.5).clamp(0, height - 1)
        above = place.floor().long()
        below = (above + 1).clamp(max=height - 1)
        part = (place - above).to(output_Chw.device)[:, None]
        band = output_Chw[:, above] * (1 - part) + output_Chw[:, below] * part
        size = (stop - start, source[1])
        yield F.interpolate(band[None], size=size, mode="bilinear", align_corners=False)[0]


def parse_tiles(text: str) -> Size | None:
    """ "auto" -> None; "2x3" -> (2, 3), rows by columns. Raises UsageError."""
    if text == "auto":
        return None
    rows, _, columns = text.partition("x")
    if not (rows.isdigit() and columns.isdigit() and int(rows) > 0 and int(columns) > 0):
        raise UsageError(f"tiles {text!r}: expected auto, off, or rows x columns such as 2x3")
    return int(rows), int(columns)
