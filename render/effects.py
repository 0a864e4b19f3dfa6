"""What a real camera does to the picture: white balance, sensor noise, lens distortion, JPEG. Plain arrays in
and out, no Blender; an effect that is off returns its input.

Pixels are scene-referred linear light, before exposure and view transform. Depth of field and motion blur
need the scene and are not here. A lens: Blender renders the straight picture of `ideal_camera`, which covers
everything that the lens shows, and image and labels are bent from there.
"""

import io
from collections.abc import Mapping
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8
from PIL import Image

from annotation.camera import Camera
from render.spec import Triple
from shards.errors import VitruvianError

JPEG_MEMBER = "rgb.jpg"

_NOISE_STREAM = 0x6E6F6973  # keeps the noise apart from whatever else is drawn from the same seed
_MARGIN = 2  # px around the ideal picture: the reach of the interpolation
_BAND = 256  # rows looked up at a time, which bounds the memory of a 4K picture
_FULL_CHROMA_QUALITY = 90


def white_balance(
    linear: Float32[np.ndarray, "height width 3"], gains: Triple
) -> Float32[np.ndarray, "height width 3"]:
    """Linear light with R, G, B multiplied by `gains`."""
    return linear if gains == (1.0, 1.0, 1.0) else np.asarray(linear * np.array(gains, np.float32))


def sensor_noise(
    linear: Float32[np.ndarray, "height width 3"], exposure_ev: float, shot: float, read: float, seed: int
) -> Float32[np.ndarray, "height width 3"]:
    """Linear light as a sensor counts it: Gaussian noise, independent in each pixel and channel.

    At the exposed signal v = linear * 2 ** exposure_ev its variance is shot * v + read ** 2, the usual
    heteroscedastic model (Foi et al. 2008) with v = 1 at white; the result is unexposed again and may be
    below 0. The same arguments give the same values.
    """
    if shot == read == 0:
        return linear
    rng = np.random.default_rng([_NOISE_STREAM, seed])
    exposure = np.float32(2.0**exposure_ev)
    deviation = np.sqrt(np.float32(shot) * np.maximum(linear * exposure, 0) + np.float32(read) ** 2)
    noise = rng.standard_normal(linear.shape, dtype=np.float32)
    return np.asarray(linear + noise * deviation / exposure)


def ideal_camera(camera: Camera) -> Camera:
    """The pinhole camera at the same place whose picture holds all that `camera`'s lens shows, with 2 px to
    spare; `camera` itself if it has no distortion.

    Same focal length, so the middle keeps its scale; barrel distortion makes it larger, pincushion smaller.
    Raises VitruvianError where the distortion leaves a part of the image without light.
    """
    if not camera.distorted:
        return camera
    straight = Camera(camera.K, camera.world_to_camera, camera.width, camera.height)
    border = _project(straight, camera.directions(_border(camera.width, camera.height)))
    low = np.floor(border.min(axis=0)).astype(int) - _MARGIN
    high = np.ceil(border.max(axis=0)).astype(int) + _MARGIN
    (x, y), (width, height) = low.tolist(), (high - low + 1).tolist()
    return straight.crop(x, y, width, height)


def oversampled(camera: Camera, factor: int) -> Camera:
    """The same view with `factor` x `factor` pixels for each."""
    return camera if factor == 1 else camera.resize(camera.width * factor, camera.height * factor)


def distort_image(
    ideal_linear: Float32[np.ndarray, "h w *channels"], ideal: Camera, camera: Camera
) -> Float32[np.ndarray, "height width *channels"]:
    """The picture of `ideal` as `camera`'s lens shows it: bicubic in linear light, positions to 1/64 px.

    Kept within the range of the 3 x 3 nearest pixels: a lamp gets no dark ring, and coverage stays in 0..1.
    """
    if not camera.distorted:
        return ideal_linear
    where = _positions(ideal, camera).astype(np.float32)
    neighbours = np.ones((3, 3), np.uint8)

    def look_up(image: Float32[np.ndarray, "..."], interpolation: int) -> Float32[np.ndarray, "..."]:
        return np.asarray(cv2.remap(image, where, None, interpolation, borderMode=cv2.BORDER_REPLICATE))

    low = look_up(np.asarray(cv2.erode(ideal_linear, neighbours)), cv2.INTER_NEAREST)
    high = look_up(np.asarray(cv2.dilate(ideal_linear, neighbours)), cv2.INTER_NEAREST)
    return np.clip(look_up(ideal_linear, cv2.INTER_CUBIC), low, high)


def distort_labels(
    labels: Mapping[str, Shaped[np.ndarray, "h w *_"]], ideal: Camera, camera: Camera
) -> dict[str, Shaped[np.ndarray, "height width *_"]]:
    """Labels of `ideal` (usually `oversampled`) as `camera`'s lens shows them: each pixel takes the label of
    the nearest ray, so that every value is still that of one surface point.

    With oversampling by n that ray is at most 0.71 / n px of the straight picture from the pixel's own
    (`label_displacement`). Depth and normals need no change: the two cameras share their frame.
    """
    if not camera.distorted:
        return dict(labels)
    x, y = np.moveaxis(np.rint(_positions(ideal, camera)).astype(np.intp), -1, 0)
    return {name: image[y, x] for name, image in labels.items()}


def label_displacement(ideal: Camera, camera: Camera) -> Float64[np.ndarray, "height width"]:
    """How far (px of `camera`) the ray that `distort_labels` takes lies from each pixel's centre."""
    y, x = np.mgrid[: camera.height, : camera.width].astype(np.float64)
    if not camera.distorted:
        return np.zeros_like(x)
    nearest = np.rint(_positions(ideal, camera)).reshape(-1, 2)
    seen = camera.project(ideal.unproject(np.column_stack([nearest, np.ones(len(nearest))])))
    return np.asarray(np.hypot(seen[:, 0].reshape(x.shape) - x, seen[:, 1].reshape(y.shape) - y))


def encode_jpeg(rgb: UInt8[np.ndarray, "height width 3"], quality: int) -> bytes:
    """Baseline JPEG, the member `JPEG_MEMBER`. Chroma is halved in both directions below quality 90, where
    photographs usually are, and whole from there on.

    Raises VitruvianError for a quality outside 1 .. 100.
    """
    if not 1 <= quality <= 100:
        raise VitruvianError(f"jpeg: expected a quality of 1 to 100; got {quality}: write a PNG instead")
    buffer = io.BytesIO()
    chroma = "4:4:4" if quality >= _FULL_CHROMA_QUALITY else "4:2:0"
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, subsampling=chroma)
    return buffer.getvalue()


def _positions(ideal: Camera, camera: Camera) -> Float64[np.ndarray, "height width 2"]:
    """Where (x, y px) on the picture of `ideal` each pixel of `camera` looks."""
    return np.asarray(_tangents(camera) @ ideal.K[:2, :2].T + ideal.K[:2, 2])


@lru_cache(maxsize=1)  # image, coverage and labels of one sample ask in turn, and solving it takes long
def _tangents(camera: Camera) -> Float64[np.ndarray, "height width 2"]:
    """The direction (x / z, y / z) of what each pixel shows. Shared: not to be written to."""
    tangents = np.empty((camera.height, camera.width, 2))
    for top in range(0, camera.height, _BAND):
        rows = tangents[top : top + _BAND]
        y, x = np.mgrid[top : top + len(rows), : camera.width].reshape(2, -1).astype(np.float64)
        rows[:] = camera.directions(np.column_stack([x, y]))[:, :2].reshape(rows.shape)
    tangents.setflags(write=False)
    return tangents


def _project(camera: Camera, directions: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
    """Camera-frame directions -> x, y px of a camera without distortion."""
    return np.asarray((directions @ camera.K.T)[:, :2])


def _border(width: int, height: int) -> Float64[np.ndarray, "n 2"]:
    """Points half a pixel apart along the outline of an image; a lens maps the outline to the outline."""
    x, y = np.arange(-0.5, width, 0.5), np.arange(-0.5, height, 0.5)
    sides = [(x, np.full_like(x, end)) for end in (-0.5, height - 0.5)]
    sides += [(np.full_like(y, end), y) for end in (-0.5, width - 0.5)]
    return np.concatenate([np.column_stack(side) for side in sides])
