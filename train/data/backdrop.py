"""Other backgrounds: a folder of pictures without people, and a person laid over one of them.

Blending is done in linear light, as a lens does it and as the renderer's own anti-aliasing is: half a white
edge over black is the grey 188, not 128.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from annotation.codecs import decode_image
from annotation.labels import Labels
from shards.errors import UsageError, VitruvianError
from train.data.photo import crop_box

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MAX_PIXELS = 50_000_000
"""Larger pictures of the folder are refused before they are decoded."""
REACH = 7
"""Side of the square around a soft pixel in which opaque ones are looked for, pixels."""

_CODES = np.arange(256) / 255
_TO_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4).astype(np.float32)
_LIGHT = np.arange(65536) / 65535
_TO_SRGB = np.rint(
    255 * np.where(_LIGHT <= 0.0031308, 12.92 * _LIGHT, 1.055 * _LIGHT ** (1 / 2.4) - 0.055)
).astype(np.uint8)


class Backdrops:
    """The pictures of a folder, beneath it too, in the order of their names.

    `digest`: of their names and sizes in bytes; a run that uses them records it. Raises UsageError for a
    folder without pictures.
    """

    def __init__(self, folder: Path) -> None:
        found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        self.paths = sorted(found, key=lambda path: path.relative_to(folder).as_posix())
        if not self.paths:
            raise UsageError(
                f"{folder}: expected pictures without people ({', '.join(SUFFIXES)}); found none"
            )
        names = "".join(
            f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0" for path in self.paths
        )
        self.digest = hashlib.sha256(names.encode()).hexdigest()

    def draw(self, size: tuple[int, int], rng: np.random.Generator) -> UInt8[np.ndarray, "height width 3"]:
        """A random crop (a quarter of the area at least) of a random picture, mirrored or not, at `size`
        (height, width). Raises VitruvianError that names the file for one that cannot be decoded.
        """
        path = self.paths[rng.integers(len(self.paths))]
        mirrored = rng.random() < 0.5
        try:
            picture = decode_image(path.read_bytes(), MAX_PIXELS)
        except (OSError, VitruvianError) as error:
            raise VitruvianError(f"background {path}: {error}") from error
        y, x, rows, columns = crop_box(picture.shape[:2], size, (0.25, 1.0), rng)
        crop = picture[y : y + rows, x : x + columns]
        shrinks = rows > size[0] or columns > size[1]
        crop = cv2.resize(crop, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return np.ascontiguousarray(crop[:, ::-1] if mirrored else crop)


def replace_background(labels: Labels, backdrop: UInt8[np.ndarray, "height width 3"]) -> Labels:
    """The person of `labels` over `backdrop` (same size). Where there is nobody (alpha 0) there is now no
    surface and no instance, and a part that was unknown there is background.

    Raises VitruvianError for labels without a picture or without alpha.
    """
    if labels.rgb is None or labels.alpha is None:
        raise VitruvianError(
            "backgrounds can be replaced only in pictures with an alpha label; this sample has none: "
            "set augment.background to 0"
        )
    nobody = labels.alpha == 0
    changed: dict[str, object] = {"rgb": composite(labels.rgb, labels.alpha, backdrop)}
    images = labels.images()
    for name in ("depth", "normal", "geometric_normal", "albedo", "instance", "quality", "parts"):
        if name in images:
            changed[name] = images[name].copy()
            changed[name][nobody] = 0  # type: ignore[index]
    return replace(labels, **changed)  # type: ignore[arg-type]


def composite(
    rgb: UInt8[np.ndarray, "height width 3"],
    alpha: UInt8[np.ndarray, "height width"],
    backdrop: UInt8[np.ndarray, "height width 3"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Opaque pixels of `rgb`, transparent ones of `backdrop`; between them alpha F + (1 - alpha) B in linear
    light.

    A soft pixel of `rgb` holds some of the old background, so F is the mean of the opaque pixels around it
    (the pixel itself only where there are none, as in loose hair).
    """
    opaque, soft = alpha == 255, (alpha > 0) & (alpha < 255)
    result = np.where(opaque[..., None], rgb, backdrop)
    if soft.any():
        share = alpha[soft, None] / np.float32(255)
        mixed = share * _surface(rgb, opaque)[soft] + (1 - share) * _TO_LINEAR[backdrop[soft]]
        result[soft] = _TO_SRGB[np.rint(65535 * mixed).astype(np.uint16)]
    return np.asarray(result)


def _surface(
    rgb: UInt8[np.ndarray, "height width 3"], opaque: np.ndarray
) -> Float32[np.ndarray, "height width 3"]:
    """Linear mean of the opaque pixels around each pixel; the pixel's own colour where there are none."""
    linear, weight = _TO_LINEAR[rgb], opaque.astype(np.float32)
    total, count = (_sums(values) for values in (linear * weight[..., None], weight))
    count = count[..., None]
    return np.asarray(np.where(count > 0.5, total / count.clip(min=1), linear).clip(0, 1), np.float32)


def _sums(
    values: Float32[np.ndarray, "height width *channels"],
) -> Float32[np.ndarray, "height width *channels"]:
    """Over the square around each pixel, nothing outside the image."""
    box = (REACH, REACH)
    return np.asarray(cv2.boxFilter(values, -1, box, normalize=False, borderType=cv2.BORDER_CONSTANT))
