"""Statistics of an image's pixels: how bright, how sharp, how empty. Columns for `select`; no model, no
decision.

Pure functions of the upright pixels. Y is luma (BT.601, of gamma-encoded values), 0..255; "small" is the
image averaged by area to a longer side of 512 px (never enlarged; `curation.filters.reduce`). Results do not
depend on OpenCV's threads; they are rounded to four decimals, since the order in which floats are summed is a
CPU's own.
"""

import cv2
import numpy as np
from jaxtyping import Float64, Int16, UInt8

from curation.boxes import RGB
from curation.filters.reduce import Grey, Views

GRID = 8  # px; JPEG's blocks
THIRD = 3  # every third row or column is enough of a sample, and meets all rows of a block alike
_EVEN = 0.5  # grey levels; keeps the ratio of two near-zero steps from being noise

Levels = Float64[np.ndarray, "256"]


def measure_quality(image: RGB, views: Views | None = None) -> dict[str, float]:
    """All columns of `curation.columns.QUALITY`, by name. `views` of the image, where they exist already."""
    views = views or Views(image)
    counts = cv2.calcHist([views.small_grey], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    levels = counts / views.small_grey.size
    values = {
        "brightness": brightness(levels),
        "contrast": contrast(levels),
        "sharpness": sharpness(views.small_grey),
        "entropy": entropy(levels),
        "flatness": flatness(views.grey),
        "blockiness": blockiness(views.grey),
        "colourfulness": colourfulness(views.halved),
    }
    return {name: round(float(value), 4) for name, value in values.items()}


def brightness(levels: Levels) -> float:
    """mean(Y) / 255 of the small image, given its histogram's shares: 0 black .. 1 white."""
    return float(levels @ np.arange(256)) / 255


def contrast(levels: Levels) -> float:
    """std(Y) / 255 of the small image, given its histogram's shares: 0 even .. 0.5 half black, half white.

    RMS contrast (Peli, "Contrast in complex images", JOSA A 7, 1990).
    """
    values = np.arange(256) / 255
    return float(np.sqrt(levels @ (values - levels @ values) ** 2))


def entropy(levels: Levels) -> float:
    """-sum p log2 p over the 256 levels of Y of the small image: 0 one level .. 8 all alike (Shannon)."""
    present = levels[levels > 0]
    return float(-(present @ np.log2(present))) + 0.0  # no -0.0


def sharpness(small: Grey) -> float:
    """Variance of the Laplacian (4 neighbours, kernel 0 1 0, 1 -4 1, 0 1 0) of Y: 0 .. some 10^4.

    Under about 50 most photographs are blurred; noise counts as sharp. Pech-Pacheco et al., "Diatom
    autofocusing in brightfield microscopy", ICPR 2000. Expects the small image: the value falls with size.
    """
    return float(cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_16S, ksize=1))[1][0, 0] ** 2)


def flatness(grey: Grey) -> float:
    """Share of pixels whose Y equals that of the pixel to the right and of the one below: 0 .. 1.

    At full size, in every third row: averaging would make flats of noise's absence and noise of flats' edges.
    Screenshots and drawings are mostly flat; photographs are where they are clipped or strongly compressed.
    """
    if min(grey.shape) < 2:
        return float(grey.max(initial=0) == grey.min(initial=255))
    rows, below = grey[:-1:THIRD], grey[1::THIRD]
    here = rows[:, :-1]
    return float(((here == rows[:, 1:]) & (here == below[:, :-1])).mean())


def blockiness(grey: Grey) -> float:
    """How much steeper Y is across the borders of 8 x 8 blocks than next to them: -1 .. 1, about 0 without a
    grid, some 0.1 at JPEG quality 30, over 0.3 at quality 10.

    Mean over both directions of (border - inside) / (border + inside + 0.5), where `border` is the mean
    |difference| of neighbours on two sides of a block's border and `inside` that of neighbours two px away
    from one, on either side. After Wang, Sheikh, Bovik, "No-reference perceptual quality assessment of JPEG
    compressed images", ICIP 2002.

    Means something for JPEGs in their own pixels only: no resizing. EXIF's mirrors and turns move the grid
    where a side is no multiple of 8, and then this is about 0.
    """
    if min(grey.shape) < 2:
        return 0.0
    across: UInt8[np.ndarray, "_height _steps"] = cv2.absdiff(grey[::THIRD, 1:], grey[::THIRD, :-1])
    down: UInt8[np.ndarray, "_steps _width"] = cv2.absdiff(grey[1:], grey[:-1])
    return (_grid(_means(across, 0)) + _grid(_means(down, 1))) / 2


def _means(steps: UInt8[np.ndarray, "_height _width"], axis: int) -> Float64[np.ndarray, " n"]:
    means: Float64[np.ndarray, " n"] = steps.sum(axis, dtype=np.uint32) / steps.shape[axis]
    return means


def _grid(profile: Float64[np.ndarray, " steps"]) -> float:
    """`profile`: mean |difference| of the pixels on both sides of each line between rows or columns."""
    if len(profile) < 3 * GRID:
        return 0.0
    border = profile[GRID - 1 :: GRID].mean()
    inside = (profile[GRID - 3 :: GRID].mean() + profile[GRID + 1 :: GRID].mean()) / 2
    return float((border - inside) / (border + inside + _EVEN))


def colourfulness(halved: RGB) -> float:
    """sqrt(var rg + var yb) + 0.3 sqrt(mean rg ^ 2 + mean yb ^ 2), rg = R - G, yb = (R + G) / 2 - B: 0 grey,
    15 slightly, 59 quite, 109 extremely colourful; Hasler and Suesstrunk, "Measuring colourfulness in natural
    images", HVEI 2003. Expects the image halved to at most 512 px.
    """
    red, green, blue = (halved[..., channel].astype(np.int16) for channel in range(3))
    mean_rg, spread_rg = _mean_and_deviation(red - green)
    mean_yb, spread_yb = _mean_and_deviation(red + green - 2 * blue)  # twice as far from 0
    spread = np.hypot(spread_rg, spread_yb / 2)
    return float(spread + 0.3 * np.hypot(mean_rg, mean_yb / 2))


def _mean_and_deviation(values: Int16[np.ndarray, "_height _width"]) -> tuple[float, float]:
    mean, deviation = cv2.meanStdDev(values)
    return float(mean[0, 0]), float(deviation[0, 0])
