"""Untrusted bytes become upright pixels or a status, never an exception."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from curation import decode as d
from curation.camera import ORIENTATION
from curation.decode import decode

LIMIT = 1_000_000
PICTURE = np.arange(20 * 30 * 3, dtype=np.uint32).reshape(20, 30, 3).astype(np.uint8)


def saved(kind: str, picture: Image.Image | None = None, **options: object) -> bytes:
    stream = BytesIO()
    (picture or Image.fromarray(PICTURE)).save(stream, kind, **options)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header was changed to claim another size."""
    import struct
    import zlib

    data = bytearray(saved("PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize(("kind", "extension"), [("PNG", "png"), ("WEBP", "webp"), ("JPEG", "jpg")])
def test_formats_are_told_by_content(kind: str, extension: str) -> None:
    decoded = decode(saved(kind), LIMIT)
    assert (decoded.status, decoded.format, decoded.width, decoded.height) == ("ok", extension, 30, 20)
    assert decoded.image is not None and decoded.image.shape == (20, 30, 3)
    if kind == "PNG":
        np.testing.assert_array_equal(decoded.image, PICTURE)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", d.EMPTY),
        (b"<html>404</html>", d.NOT_AN_IMAGE),
        (b"BM is how some letters begin", d.NOT_AN_IMAGE),
        (saved("GIF"), d.UNSUPPORTED),
        (saved("TIFF"), d.UNSUPPORTED),
        (saved("BMP"), d.UNSUPPORTED),
        (saved("JPEG")[:-20], d.TRUNCATED),
        (saved("JPEG")[:4], d.TRUNCATED),
        (saved("PNG")[:60], d.TRUNCATED),
        (saved("WEBP")[:-5], d.TRUNCATED),
        (saved("PNG").replace(b"IDAT", b"IDAX"), d.CORRUPT),
    ],
)
def test_each_failure_has_its_status(data: bytes, status: str) -> None:
    decoded = decode(data, LIMIT)
    assert (decoded.status, decoded.image) == (status, None)


def test_animations_are_unsupported() -> None:
    frames = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]
    for kind in ("PNG", "WEBP"):
        data = saved(kind, frames[0], save_all=True, append_images=frames[1:])
        assert decode(data, LIMIT).status == d.UNSUPPORTED


@pytest.mark.parametrize("size", [(60_000, 60_000), (1001, 1000), (2**31 - 1, 2**31 - 1)])
def test_too_large_is_told_from_the_header(size: tuple[int, int]) -> None:
    decoded = decode(bomb(*size), LIMIT)
    assert (decoded.status, decoded.width, decoded.height) == (d.TOO_LARGE, *size)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    decoded = decode(saved("PNG", exif=exif), LIMIT)
    expected = [
        PICTURE,
        PICTURE[:, ::-1],
        PICTURE[::-1, ::-1],
        PICTURE[::-1],
        PICTURE.transpose(1, 0, 2),
        np.rot90(PICTURE, -1),
        PICTURE[::-1, ::-1].transpose(1, 0, 2),
        np.rot90(PICTURE, 1),
    ][orientation - 1]
    assert decoded.image is not None and decoded.orientation == orientation
    np.testing.assert_array_equal(decoded.image, expected)
    assert (decoded.height, decoded.width) == expected.shape[:2]


def test_an_impossible_orientation_counts_as_upright() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 77
    assert decode(saved("JPEG", exif=exif), LIMIT).orientation == 1


def test_other_colour_models_become_rgb() -> None:
    grey = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    deep = decode(saved("PNG", Image.fromarray(grey)), LIMIT).image
    assert deep is not None
    np.testing.assert_array_equal(deep, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))
    for mode in ("CMYK", "L", "1", "P", "RGBA", "LA"):
        kind = "JPEG" if mode == "CMYK" else "PNG"
        image = decode(saved(kind, Image.fromarray(PICTURE).convert(mode)), LIMIT).image
        assert image is not None and image.shape == (20, 30, 3), mode


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.data())
def test_no_damage_raises(kind: str, data: st.DataObject) -> None:
    content = bytearray(saved(kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    decoded = decode(bytes(content[:cut]), LIMIT)
    assert (decoded.status == "ok") == (decoded.image is not None)


def test_pillow_is_left_as_it_was() -> None:
    before = Image.MAX_IMAGE_PIXELS
    decode(bomb(60_000, 60_000), LIMIT)
    assert before == Image.MAX_IMAGE_PIXELS
