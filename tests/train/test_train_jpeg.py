"""Boxes of JPEGs at reduced scale: where a full decode has them, upright; what is left to `decode_image`."""

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from annotation.codecs import MAX_PIXELS, decode_image
from shards.errors import VitruvianError
from shards.sample import Sample
from train.data.jpeg import Box, Jpeg, reduction
from train.data.photo import MaskedPhoto, photo_box, resize, to_tensor


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with edges, asymmetric in every direction."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 5, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(picture, (width // 3, height // 4), min(height, width) // 6, (250, 20, 30), -1)
    cv2.line(picture, (0, height - 1), (width // 2, height // 2), (10, 240, 90), max(2, width // 60))
    return np.asarray(picture)


def jpeg(picture: np.ndarray, orientation: int = 1, **options: Any) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(buffer, "JPEG", quality=95, exif=exif, **options)
    return buffer.getvalue()


def read(data: bytes) -> Jpeg:
    found = Jpeg.read(data)
    assert found is not None
    return found


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(61, 83), (64, 48)])
def test_a_box_at_full_scale_is_that_of_decode_image(orientation: int, size: tuple[int, int]) -> None:
    data = jpeg(scene(*size), orientation)
    whole, found = decode_image(data), read(data)
    assert found.size == whole.shape[:2]
    for y, x, height, width in ((0, 0, *found.size), (3, 5, 20, 31), (10, 1, 37, 7)):
        cut = found.cut((y, x, height, width), (height, width))
        assert cut is not None
        assert np.array_equal(cut, whole[y : y + height, x : x + width])


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]
)
def test_kinds_of_jpeg(options: dict[str, Any]) -> None:
    data = jpeg(scene(50, 70), **options)
    cut = read(data).cut((0, 0, 50, 70), (50, 70))
    assert cut is not None
    assert np.array_equal(cut, decode_image(data))


def test_grey_jpegs_come_as_rgb() -> None:
    data = jpeg(scene(40, 30)[..., 0])
    cut = read(data).cut((0, 0, 40, 30), (40, 30))
    assert cut is not None
    assert np.array_equal(cut, decode_image(data))


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow makes of a picture with that orientation."""
    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def stored_box(box: Box, stored: tuple[int, int], orientation: int) -> Box:
    """The box of the stored picture that becomes `box`, by following each pixel."""
    y, x, height, width = box
    rows, columns = (
        upright(grid.astype(np.int32), orientation)[y : y + height, x : x + width]
        for grid in np.indices(stored)
    )
    return int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("share", "factor"), [(1.0, 1), (2.2, 2), (4.3, 4), (9.0, 8)])
def test_a_reduced_box_lies_where_the_full_one_does(orientation: int, share: float, factor: int) -> None:
    """Odd sides: a mirrored picture's reduced pixels do not start at its edge. Half a pixel's shift would be
    seen.
    """
    data = jpeg(scene(611, 499), orientation)
    found = read(data)
    rows, columns = found.size
    box: Box = (rows // 9, columns // 7, round(rows * 0.8), round(columns * 0.8))
    least = (int(box[2] / share), int(box[3] / share))
    cut = found.cut(box, least)
    assert cut is not None
    assert cut.shape[0] >= least[0] and cut.shape[1] >= least[1]
    inside = reduction(stored_box(box, (611, 499), orientation), least[::-1] if orientation > 4 else least)
    assert inside[0] == factor
    y, x, height, width = (factor * side for side in inside[1])
    pixels = np.asarray(Image.open(io.BytesIO(data)))[y : y + height, x : x + width]
    expected = resize(to_tensor(upright(pixels, orientation)), least).float()
    ours = resize(to_tensor(cut), least).float()
    error = (ours - expected).abs().mean()
    halves = [(expected + expected.roll(by, axis)) / 2 for by in (1, -1) for axis in (1, 2)]
    assert error < 1
    assert error < min((ours - half)[:, 2:-2, 2:-2].abs().mean() for half in halves)


@given(
    box=st.tuples(*[st.integers(0, 400)] * 2, *[st.integers(1, 5000)] * 2),
    least=st.tuples(*[st.integers(1, 700)] * 2),
)
def test_reduction_never_leaves_less_than_asked_and_stays_inside(box: Box, least: tuple[int, int]) -> None:
    factor, (y, x, height, width) = reduction(box, least)
    assert factor in (1, 2, 4, 8)
    if factor == 1:
        assert (y, x, height, width) == box
    else:
        assert height >= least[0] and width >= least[1]
        assert y * factor >= box[0] and (y + height) * factor <= box[0] + box[2]
        assert x * factor >= box[1] and (x + width) * factor <= box[1] + box[3]
    if factor < 8:  # the next coarser one would be too coarse, up to what whole pixels cost
        assert box[2] < 2 * factor * (least[0] + 2) or box[3] < 2 * factor * (least[1] + 2)


def with_size(data: bytes, height: int, width: int) -> bytes:
    """A JPEG whose header claims another size."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


def test_other_files_are_left_to_decode_image() -> None:
    picture = Image.fromarray(scene(30, 40))
    for kind, mode in (("PNG", "RGB"), ("WEBP", "RGB"), ("JPEG", "CMYK")):
        buffer = io.BytesIO()
        picture.convert(mode).save(buffer, kind)
        assert Jpeg.read(buffer.getvalue()) is None
        box = photo_box(Sample("k", {"jpg": buffer.getvalue()}), lambda size: (2, 3, 10, 20), (1, 1))
        assert np.array_equal(box, decode_image(buffer.getvalue())[2:12, 3:23])
    assert Jpeg.read(b"") is None


def test_a_huge_header_is_refused_undecoded() -> None:
    data = with_size(jpeg(scene(30, 40)), 9000, MAX_PIXELS // 9000 + 1)
    assert Jpeg.read(data) is None
    with pytest.raises(VitruvianError, match=f"sample k, member jpg: .*at most {MAX_PIXELS} pixels"):
        photo_box(Sample("k", {"jpg": data}), lambda size: (0, 0, 1, 1), (1, 1))


@pytest.mark.parametrize("least", [(8, 8), (500, 500)])
def test_truncated_photos_are_named(least: tuple[int, int]) -> None:
    data = jpeg(scene(611, 499))
    for size in (700, len(data) // 2, len(data) - 200):
        with pytest.raises(VitruvianError, match=r"sample k, member jpg: .*truncated"):
            photo_box(Sample("k", {"jpg": data[:size]}), lambda size: (0, 0, size[0], size[1]), least)


def test_bytes_after_the_end_do_not_matter() -> None:
    data = jpeg(scene(61, 83)) + bytes(50)
    box = photo_box(Sample("k", {"jpg": data}), lambda size: (5, 6, 20, 30), (20, 30))
    assert np.array_equal(box, decode_image(data)[5:25, 6:36])


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 10**6), orientation=st.integers(1, 8))
def test_examples_of_large_photos_look_as_if_decoded_in_full(seed: int, orientation: int) -> None:
    data = jpeg(scene(900, 700), orientation)
    make = MaskedPhoto((128, 96), 48)
    ours = make(Sample("k", {"jpg": data}), np.random.default_rng(seed))
    lossless = io.BytesIO()
    Image.fromarray(decode_image(data)).save(lossless, "PNG")
    full = make(Sample("k", {"png": lossless.getvalue()}), np.random.default_rng(seed))
    assert np.array_equal(ours["noise"], full["noise"])
    assert (ours["image"].float() - full["image"].float()).abs().mean() < 4  # other boxes: 60
