"""Photographs, and what becomes of them: the sets on which the filters' defaults are fitted and measured.

There are few photographs on a machine without a network: scikit-image's, and crops of the panoramas (CC0)
that come with bpy, tone-mapped, with a camera's noise added. Every picture ends as a JPEG of random quality,
so that no filter learns who was compressed. `TRAINING` and `TEST` share no photograph and no panorama.

The kinds are drawn here, and drawn overlays are easier than those of the wild: figures on these sets compare
filters and catch regressions; they are no promise.
"""

import importlib.util
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from curation.boxes import RGB
from curation.filters.reduce import bounded

CLEAN = "photograph"
TRAINING = (
    *("camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "gravel.png", "hubble_deep_field.jpg"),
    *("ihc.png", "moon.png", "motorcycle_left.png", "rocket.jpg"),
    *("city.exr", "courtyard.exr", "interior.exr", "sunset.exr"),
)
TEST = (
    *("astronaut.png", "brick.png", "cell.png", "coins.png", "grass.png", "microaneurysms.png"),
    *("page.png", "retina.jpg", "text.png"),
    *("forest.exr", "night.exr", "studio.exr", "sunrise.exr"),
)
WITH_TEXT = ("page.png", "text.png")
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
)
WORDS = ("SAMPLE", "PREVIEW", "stock photo", "example.com", "PROOF", "(c) Studio 9", "DO NOT COPY", "lorem")
CROPS = 8  # of a panorama
LONGEST = 640  # px

Change = Callable[[RGB, np.random.Generator], RGB]


@dataclass(frozen=True)
class Picture:
    """One picture of a set: `source` names the photograph, `kind` what was done to it."""

    source: str
    kind: str
    image: RGB


def photographs(names: Sequence[str], seed: int) -> Iterator[Picture]:
    """The named photographs, and CROPS views into each named panorama, compressed.

    Panoramas are left out where bpy is not installed.
    """
    for name in names:
        random = _random(seed, name)
        crops = _panorama_crops(name, random) if name.endswith(".exr") else [_photograph(name)]
        for number, crop in enumerate(crops):
            yield Picture(f"{name}#{number}", CLEAN, compressed(crop, random))


def altered(pictures: Sequence[Picture], kinds: dict[str, Change], seed: int) -> Iterator[Picture]:
    """Every picture in every kind; the same pixels whatever else is asked for."""
    for picture in pictures:
        for kind, change in kinds.items():
            random = _random(seed, f"{picture.source}/{kind}")
            yield Picture(picture.source, kind, compressed(change(picture.image, random), random))


def compressed(image: RGB, random: np.random.Generator) -> RGB:
    """The image after JPEG at a quality of 60 to 95."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(60, 96))]
    data = cv2.imencode(".jpg", image[..., ::-1], quality)[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def caption(low: float, high: float) -> Change:
    """A line of opaque lettering at the top or bottom, `low` to `high` of the width long, as memes have."""

    def change(image: RGB, random: np.random.Generator) -> RGB:
        text = " ".join(random.choice(WORDS, 3)).upper()
        height, width = image.shape[:2]
        font, wide = int(random.choice(FONTS)), random.uniform(low, high) * width
        scale = wide / cv2.getTextSize(text, font, 1, 2)[0][0]
        strokes = max(1, round(2.5 * scale))
        middle = (width / 2, height * random.choice([0.1, 0.9]))
        dark = bool(random.random() < 0.3)
        letters = _letters((height, width), text, font, scale, strokes, middle)
        outline = _letters((height, width), text, font, scale, strokes + 2, middle)
        return _blend(_blend(image, outline, 255 * dark, 1.0), letters, 255 * (not dark), 1.0)

    return change


def tiled(alpha: float) -> Change:
    """Lettering repeated over the whole picture on a slanted grid, `alpha` opaque."""

    def change(image: RGB, random: np.random.Generator) -> RGB:
        height, width = image.shape[:2]
        text, font = str(random.choice(WORDS)), int(random.choice(FONTS))
        scale = max(height, width) / 900 * random.uniform(0.8, 1.3)
        wide, high = cv2.getTextSize(text, font, scale, 2)[0]
        side = 2 * max(height, width)
        mask = np.zeros((side, side), np.uint8)
        step_x, step_y = round(wide * random.uniform(1.2, 1.6)), round(high * random.uniform(3, 5))
        for row, y in enumerate(range(0, side, step_y)):
            for x in range(-(row % 2) * step_x // 2, side, step_x):
                cv2.putText(mask, text, (x, y), font, scale, 255, max(1, round(2 * scale)), cv2.LINE_AA)
        turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(15, 45), 1)
        mask = cv2.warpAffine(mask, turn, (side, side))
        top, left = (side - height) // 2, (side - width) // 2
        return _blend(image, mask[top : top + height, left : left + width], 255, alpha)

    return change


def corner_logo(image: RGB, random: np.random.Generator) -> RGB:
    """A ring with a word beside it in one corner, 0.5 to 0.8 opaque, as agencies sign their pictures."""
    height, width = image.shape[:2]
    text, font = str(random.choice(WORDS)), int(random.choice(FONTS))
    size = max(height, width) / 28
    scale = size / cv2.getTextSize(text, font, 1, 1)[0][1]
    wide = cv2.getTextSize(text, font, scale, 2)[0][0] + 3 * size
    scale, size, wide = (value * min(1.0, 0.8 * width / wide) for value in (scale, size, wide))
    right, low = random.random() < 0.6, random.random() < 0.7
    left = width - wide - 0.03 * width if right else 0.03 * width
    middle = height * (0.93 if low else 0.07)
    strokes = max(1, round(2 * scale))
    where = (left + 3 * size + (wide - 3 * size) / 2, middle)
    mask = _letters((height, width), text, font, scale, strokes, where)
    cv2.circle(mask, (round(left + size), round(middle)), round(size), 255, max(1, strokes), cv2.LINE_AA)
    return _blend(image, mask, 255, random.uniform(0.5, 0.8))


def posterised(image: RGB, random: np.random.Generator) -> RGB:
    """Smoothed, then few levels per channel: printed posters, old palettes."""
    smooth = cv2.bilateralFilter(image, 9, 60, 5)
    steps = int(random.integers(3, 7))
    levels = np.round(np.arange(256) / 255 * (steps - 1)) / (steps - 1) * 255
    found: RGB = levels.astype(np.uint8)[smooth]
    return found


def cartoon(image: RGB, random: np.random.Generator) -> RGB:
    """Edge-preserving smoothing until areas are flat, with dark lines along edges."""
    flat = image
    for _ in range(int(random.integers(3, 7))):
        flat = cv2.bilateralFilter(flat, 9, 40, 7)
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 5)
    kind = (cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY)
    lines = cv2.adaptiveThreshold(grey, 255, *kind, 9, float(random.uniform(4, 8)))
    found: RGB = np.where(lines[..., None] > 0, flat, np.uint8(20)).astype(np.uint8)
    return found


def edge_drawn(image: RGB, random: np.random.Generator) -> RGB:
    """A pencil drawing: grey over its blurred negative, lighter where nothing happens."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(255 - grey, (0, 0), float(random.uniform(3, 8)))
    drawing = cv2.divide(grey, 255 - blurred, scale=250)
    found: RGB = np.repeat(drawing[..., None], 3, axis=2)
    return found


def painted(image: RGB, random: np.random.Generator) -> RGB:
    """A painting of sorts: broad medians and means, on a canvas. No default was fitted on it."""
    small = cv2.medianBlur(bounded(image, 400), int(random.choice([5, 7])))
    dabs = cv2.resize(
        cv2.pyrMeanShiftFiltering(small, 7, 25), image.shape[1::-1], interpolation=cv2.INTER_CUBIC
    )
    canvas = cv2.GaussianBlur(random.normal(0, 12, image.shape[:2]), (0, 0), 0.8)
    found: RGB = np.clip(np.round(dabs + canvas[..., None]), 0, 255).astype(np.uint8)
    return found


WATERMARKS: dict[str, Change] = {
    "tiled, alpha 0.1": tiled(0.1),
    "tiled, alpha 0.2": tiled(0.2),
    "tiled, alpha 0.35": tiled(0.35),
    "corner logo": corner_logo,
}
ART: dict[str, Change] = {
    "posterised": posterised,
    "cartoon": cartoon,
    "edge-drawn": edge_drawn,
    "painted": painted,
}
TEXT: dict[str, Change] = {"caption": caption(0.6, 0.9), "small caption": caption(0.3, 0.5)}


def _letters(
    shape: tuple[int, int], text: str, font: int, scale: float, strokes: int, middle: tuple[float, float]
) -> UInt8[np.ndarray, "_height _width"]:
    """A mask, 0..255, of one line of text around `middle`, (x, y) px."""
    mask = np.zeros(shape, np.uint8)
    (wide, high), _ = cv2.getTextSize(text, font, scale, strokes)
    start = (round(middle[0] - wide / 2), round(middle[1] + high / 2))
    cv2.putText(mask, text, start, font, scale, 255, strokes, cv2.LINE_AA)
    return mask


def _blend(image: RGB, mask: UInt8[np.ndarray, "_height _width"], level: int, alpha: float) -> RGB:
    share = (mask.astype(np.float32) / 255 * alpha)[..., None]
    found: RGB = np.round(image * (1 - share) + level * share).astype(np.uint8)
    return found


def _photograph(name: str) -> RGB:
    import skimage

    path = Path(skimage.__file__).parent / "data" / name
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image: RGB = np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
    return bounded(image, LONGEST)


def _panorama_crops(name: str, random: np.random.Generator) -> list[RGB]:
    """CROPS views of 90 degrees, 320 x 240 px (all that is in a panorama), as a camera exposes them."""
    path = _panorama(name)
    if path is None:
        return []
    import OpenEXR

    with OpenEXR.File(str(path)) as file:
        channels = file.channels()
        radiance = np.asarray(channels["RGB"].pixels if "RGB" in channels else None, np.float32)
    return [
        _exposed(_view(radiance, turn + random.uniform(-0.2, 0.2), random.uniform(-0.3, 0.3)), random)
        for turn in np.linspace(0, 2 * np.pi, CROPS, endpoint=False)
    ]


def _panorama(name: str) -> Path | None:
    spec = importlib.util.find_spec("bpy")  # not imported: it takes seconds, and only its files are needed
    roots = spec.submodule_search_locations if spec else None
    found = sorted(Path(roots[0]).glob(f"*/datafiles/studiolights/world/{name}")) if roots else []
    return found[0] if found else None


def _view(
    radiance: Float32[np.ndarray, "_height _width 3"], turn: float, tilt: float
) -> Float32[np.ndarray, "240 320 3"]:
    """A pinhole camera's view, 90 degrees wide, into an equirectangular panorama."""
    x, y = np.meshgrid((np.arange(320) - 159.5) / 160, (np.arange(240) - 119.5) / 160)
    down, ahead = y * np.cos(tilt) - np.sin(tilt), np.cos(tilt) + y * np.sin(tilt)
    longitude, latitude = np.arctan2(x, ahead) + turn, np.arctan2(down, np.hypot(x, ahead))
    height, width = radiance.shape[:2]
    column = (longitude / (2 * np.pi) + 0.5) % 1 * width - 0.5
    row = (latitude / np.pi + 0.5) * height - 0.5
    view: Float32[np.ndarray, "240 320 3"] = cv2.remap(
        radiance,
        column.astype(np.float32),
        row.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return view


def _exposed(view: Float32[np.ndarray, "_height _width 3"], random: np.random.Generator) -> RGB:
    """sRGB by a camera that exposes for the middle tones, clips, and adds noise: it grows with the light."""
    linear = view * (0.18 * random.uniform(0.6, 1.6) / max(float(np.median(view)), 1e-6))
    noise = np.sqrt(np.clip(linear, 0, 1) * 0.0004 + 1e-6) * random.uniform(0.5, 3)
    linear = np.clip(linear + random.normal(0, 1, linear.shape) * noise, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: RGB = np.round(encoded * 255).astype(np.uint8)
    return found


def _random(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
