"""Pictures of labels: keypoints on the image, parts, depth and normals as colours, contact sheets. All uint8
RGB.

Drawings are anti-aliased and measured in a unit that follows the image and the person, so that a 192 x 256
crop and a 4K render look alike. The person's left is orange, the right blue, the midline white: colour-blind
safe.
"""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image, ImageDraw, ImageFont

from annotation.keypoints import KeypointVocabulary, keypoint_vocabulary
from annotation.parts import IGNORE, part_vocabulary
from shards.errors import VitruvianError

Colour = tuple[int, int, int]

SIDE_COLOURS: Mapping[str, Colour] = {
    "left": (255, 150, 30),
    "right": (40, 165, 255),
    "middle": (250, 250, 245),
}
OUTLINE: Colour = (18, 20, 28)
NOTHING: Colour = (18, 20, 28)
"""Colour of pixels without a surface in depth and normal pictures."""
IGNORED: Colour = (128, 128, 128)
WHITE: Colour = (255, 255, 255)

_HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
_HEAD_SCALE = 0.75
_DENSE_GROUPS = {"face": 0.016, "left_hand": 0.035, "right_hand": 0.035}
"""Groups whose dots shrink to this share of the group's extent, so that they stay apart."""
_FRACTION_BITS = 4  # OpenCV's fixed-point drawing coordinates: sixteenths of a pixel


def draw_keypoints(
    rgb: UInt8[np.ndarray, "height width 3"], keypoints: Float32[np.ndarray, "people points 4"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with skeletons and points over it; the vocabulary is the one with as many points.

    Visible points are filled, occluded ones are rings, points outside (visibility 0) are left out with their
    links.
    """
    vocabulary = keypoint_vocabulary(keypoints.shape[1])
    height, width = rgb.shape[:2]
    finer = int(np.clip(np.ceil(1024 / min(height, width)), 1, 4))
    ink = np.zeros((height * finer, width * finer, 4), np.uint8)
    for person in keypoints.astype(np.float64):
        seen = (person[:, 3] > 0) & np.isfinite(person[:, :2]).all(axis=1)
        if seen.any():
            person[:, :2] = (person[:, :2].clip(-width, 2 * width + height) + 0.5) * finer - 0.5
            person[~seen, 3] = 0
            radii = _radii(person, vocabulary, min(height, width) * finer)
            _draw_links(ink, person, vocabulary, radii)
            _draw_points(ink, person, vocabulary, radii)
    return _composite(rgb, cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA))


def colour_parts(
    parts: UInt8[np.ndarray, "height width"], classes: int
) -> UInt8[np.ndarray, "height width 3"]:
    """Every class in its vocabulary's colour, ignored pixels (255) grey."""
    return np.asarray(_palette(classes)[parts])


def overlay_parts(
    rgb: UInt8[np.ndarray, "height width 3"],
    parts: UInt8[np.ndarray, "height width"],
    classes: int,
    opacity: float = 0.65,
) -> UInt8[np.ndarray, "height width 3"]:
    """The image with its parts coloured over it; the background shows through unchanged."""
    weight = np.where((parts != 0) & (parts != IGNORE), opacity, 0.0).astype(np.float32)[..., None]
    mixed = rgb * (1 - weight) + _palette(classes)[parts] * weight
    return np.asarray(np.rint(mixed), dtype=np.uint8)


def parts_legend(
    parts: UInt8[np.ndarray, "height width"], classes: int, height: int
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A white strip of `height` px naming the classes that occur, the largest first; put it beside the
    picture.

    The type shrinks to 9 px; classes for which there is then no room are left out.
    """
    vocabulary = part_vocabulary(classes)
    counts = np.bincount(parts.reshape(-1), minlength=256)[1:classes]
    ids = [int(index) + 1 for index in np.argsort(-counts, kind="stable") if counts[index]]
    row = int(np.clip(height / max(len(ids), 1), 12, max(14, height / 16)))
    ids = ids[: height // row]
    size = row * 0.72
    font = ImageFont.load_default(size)
    names = [vocabulary.names[index].replace("_", " ") for index in ids]
    width = int(max((font.getlength(name) for name in names), default=0) + 2.4 * size)
    page = Image.new("RGB", (max(width, 1), height), WHITE)
    pen = ImageDraw.Draw(page)
    for line, (index, name) in enumerate(zip(ids, names, strict=True)):
        middle = (line + 0.5) * row
        box = (0.4 * size, middle - 0.4 * size, 1.2 * size, middle + 0.4 * size)
        pen.rounded_rectangle(box, radius=0.15 * size, fill=tuple(vocabulary.colours[index].tolist()))
        pen.text((1.7 * size, middle), name, fill=(40, 42, 50), font=font, anchor="lm")
    return np.asarray(page)


def colour_depth(
    depth_m: Float32[np.ndarray, "height width"], near: float | None = None, far: float | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Depth as heat: near bright, far dark, no surface almost black.

    Without `near` and `far` (metres) the picture spans its own 1st to 99th percentile; give them to compare
    pictures.
    """
    surface = np.isfinite(depth_m) & (depth_m > 0)
    low, high = np.percentile(depth_m[surface], (1, 99)) if surface.any() else (0.0, 1.0)
    low, high = (low if near is None else near), (high if far is None else far)
    closeness = np.clip((high - depth_m) / max(high - low, 1e-6), 0, 1)
    heat = np.where(surface, 40 + closeness * 215, 0).astype(
        np.uint8
    )  # 40: the darkest still differs from NOTHING
    picture: np.ndarray = cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO)[..., ::-1].copy()
    picture[~surface] = NOTHING
    return picture


def colour_normals(normal: Float32[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    """Normals (x right, y up, z toward the camera) as red, green, blue = (n + 1) / 2, the field's colours."""
    picture: np.ndarray = np.rint((np.clip(normal, -1, 1) + 1) * 127.5).astype(np.uint8)
    picture[(normal == 0).all(axis=-1)] = NOTHING
    return picture


def letterbox(
    image: UInt8[np.ndarray, "_ _ 3"], width: int, height: int, background: Colour = WHITE
) -> UInt8[np.ndarray, "height width 3"]:
    """The image scaled to fit `width` x `height`, its aspect kept, centred on `background`."""
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    if size != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    page = np.full((height, width, 3), background, np.uint8)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    page[y : y + size[1], x : x + size[0]] = image
    return page


def captioned(
    image: UInt8[np.ndarray, "height width 3"], caption: str, background: Colour = WHITE
) -> UInt8[np.ndarray, "_ width 3"]:
    """The image with a line of text under it for each line of `caption`; the type shrinks until it fits."""
    lines, width = caption.split("\n"), image.shape[1]
    size = float(np.clip(width / 18, 9, 48))
    widest = max(ImageFont.load_default(size).getlength(line) for line in lines)
    size = max(7.0, size * min(1.0, 0.96 * width / max(widest, 1)))
    row = round(1.4 * size)
    page = Image.new("RGB", (width, row * len(lines) + round(0.3 * size)), background)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        place = (width / 2, (number + 0.6) * row)
        pen.text(place, line, fill=(40, 42, 50), font=ImageFont.load_default(size), anchor="mm")
    return np.concatenate([image, np.asarray(page)])


def tile(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    columns: int,
    gap: int = 4,
    background: Colour = WHITE,
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A contact sheet, row by row; every cell is as large as the largest image, smaller ones are scaled to
    fit.

    Raises VitruvianError without images or columns.
    """
    if not images or columns < 1:
        raise VitruvianError(
            f"tile: expected images and columns; got {len(images)} images, {columns} columns"
        )
    columns = min(columns, len(images))
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    rows = -(-len(images) // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8)
    for index, image in enumerate(images):
        y, x = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = letterbox(image, width, height, background)
    return sheet


def _radii(
    person: Float64[np.ndarray, "points 4"], vocabulary: KeypointVocabulary, image_side: int
) -> Float64[np.ndarray, " points"]:
    """Dot radius (px) of every point: it follows the person within what is readable on the image, then its
    group.
    """
    seen = person[:, 3] > 0
    largest = float(np.clip(_extent(person[seen]) / 65, image_side / 190, image_side / 65))
    radii = np.full(len(person), largest)
    radii[[vocabulary.index(name) for name in _HEAD]] *= _HEAD_SCALE
    for group, share in _DENSE_GROUPS.items():
        indices = np.array(vocabulary.groups.get(group, ()), dtype=int)
        size = share * _extent(person[indices[seen[indices]]])
        radii[indices] = np.clip(size, image_side / 900, 0.6 * largest)
    return radii


def _extent(points: Float64[np.ndarray, "points _"]) -> float:
    """Diagonal (px) of the box around the points, 0 without any."""
    return float(np.linalg.norm(np.ptp(points[:, :2], axis=0))) if len(points) else 0.0


def _draw_links(
    ink: UInt8[np.ndarray, "height width 4"],
    person: Float64[np.ndarray, "points 4"],
    vocabulary: KeypointVocabulary,
    radii: Float64[np.ndarray, " points"],
) -> None:
    links = [link for link in vocabulary.links if person[list(link), 3].all()]
    for layer in ("outline", "colour"):
        for start, end in links:
            thickness = 0.8 * min(radii[start], radii[end])
            colour = SIDE_COLOURS[_link_side(vocabulary.sides[start], vocabulary.sides[end])]
            if layer == "outline":
                thickness, colour = 1.65 * thickness, OUTLINE
            ends = _fixed(person[start, :2]), _fixed(person[end, :2])
            cv2.line(ink, *ends, (*colour, 255), max(1, round(thickness)), cv2.LINE_AA, _FRACTION_BITS)


def _link_side(one: str, other: str) -> str:
    """A link belongs to a side unless it crosses the body."""
    sides = {one, other} - {"middle"}
    return sides.pop() if len(sides) == 1 else "middle"


def _draw_points(
    ink: UInt8[np.ndarray, "height width 4"],
    person: Float64[np.ndarray, "points 4"],
    vocabulary: KeypointVocabulary,
    radii: Float64[np.ndarray, " points"],
) -> None:
    for index in np.flatnonzero(person[:, 3]):
        centre, radius = person[index, :2], radii[index]
        _disc(ink, centre, 1.27 * radius, OUTLINE)
        _disc(ink, centre, radius, SIDE_COLOURS[vocabulary.sides[index]])
        if person[index, 3] == 1:
            _disc(ink, centre, 0.55 * radius, OUTLINE)


def _disc(
    ink: UInt8[np.ndarray, "height width 4"], centre: Float64[np.ndarray, "2"], radius: float, colour: Colour
) -> None:
    fixed_radius = max(1, round(radius * 2**_FRACTION_BITS))
    cv2.circle(ink, _fixed(centre), fixed_radius, (*colour, 255), cv2.FILLED, cv2.LINE_AA, _FRACTION_BITS)


def _fixed(point: Float64[np.ndarray, "2"]) -> tuple[int, int]:
    x, y = np.rint(point * 2**_FRACTION_BITS).astype(int).tolist()
    return x, y


def _composite(
    rgb: UInt8[np.ndarray, "height width 3"], ink: UInt8[np.ndarray, "height width 4"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Ink drawn on a transparent black page is premultiplied by its alpha."""
    bare = 1 - ink[..., 3:].astype(np.float32) / 255
    return np.asarray(np.rint(np.clip(rgb * bare + ink[..., :3], 0, 255)), dtype=np.uint8)


def _palette(classes: int) -> UInt8[np.ndarray, "256 3"]:
    palette = np.full((256, 3), IGNORED, np.uint8)
    palette[:classes] = part_vocabulary(classes).colours
    return palette
