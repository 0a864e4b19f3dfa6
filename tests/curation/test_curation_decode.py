"""Untrusted bytes become upright pixels or a status, never an exception."""

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, PngImagePlugin

from curation import decode as d
from curation.camera import ORIENTATION, Camera, camera_facts, digital_source, read_exif
from curation.columns import CAMERA
from curation.decode import decode

LIMIT = 1_000_000
PICTURE = np.arange(20 * 30 * 3, dtype=np.uint32).reshape(20, 30, 3).astype(np.uint8)


def saved(kind: str, picture: Image.Image | None = None, **options: object) -> bytes:
    stream = BytesIO()
    (picture or Image.fromarray(PICTURE)).save(stream, kind, **options)
    return stream.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header was changed to claim another size."""
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


def test_transparency_is_shown_over_white() -> None:
    alpha = np.linspace(0, 255, 600).reshape(20, 30).astype(np.uint8)
    picture = Image.fromarray(np.dstack([PICTURE, alpha]))
    image = decode(saved("PNG", picture), LIMIT).image
    assert image is not None
    share = alpha[..., None] / 255
    assert np.abs(image - (PICTURE * share + 255 * (1 - share))).max() <= 1
    clear = Image.new("P", (4, 4), 1)
    clear.putpalette([0, 0, 0, 9, 9, 9])
    for kind, options in (("PNG", {"transparency": 1}), ("PNG", {"transparency": bytes([255, 0])})):
        image = decode(saved(kind, clear, **options), LIMIT).image
        assert image is not None and (image == 255).all()


def test_sixteen_bits_of_colour_lose_their_low_byte() -> None:
    deep = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3) * 36
    done, data = cv2.imencode(".png", deep[..., ::-1])
    image = decode(bytes(data), LIMIT).image
    assert done and image is not None
    np.testing.assert_array_equal(image, (deep >> 8).astype(np.uint8))


@pytest.mark.parametrize("marker", [True, False])
def test_cmyk_is_not_inverted(marker: bool) -> None:
    """White paper is white: values are taken for inverted ones, Adobe's marker or not, as all encoders do."""
    data = saved("JPEG", Image.new("CMYK", (16, 16), (0, 0, 0, 0)), quality=95)
    if not marker:
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4]) :]
    image = decode(data, LIMIT).image
    assert image is not None and image.min() > 250


def test_profiles_change_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind in ("PNG", "JPEG", "WEBP"):
        plain, tagged = (decode(saved(kind, icc_profile=icc), LIMIT) for icc in (None, profile))
        assert plain.image is not None and tagged.image is not None
        np.testing.assert_array_equal(plain.image, tagged.image)


def test_a_multi_picture_jpeg_is_its_first() -> None:
    second = Image.new("RGB", (8, 8))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = saved("MPO", save_all=True, append_images=[second])
    assert decode(data, LIMIT).orientation == 1
    decoded = decode(data, LIMIT)
    assert (decoded.status, decoded.format, decoded.width, decoded.height) == ("ok", "jpg", 30, 20)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_prefix_has_a_status(kind: str) -> None:
    """Truncated at every byte: never an exception, and no picture until the last of its pixels is there."""
    whole = saved(kind)
    found = [decode(whole[:size], LIMIT).status for size in range(len(whole) + 1)]
    assert found[0] == d.EMPTY and found[-1] == "ok"
    first_ok = found.index("ok")
    assert set(found[first_ok:]) == {"ok"} and len(whole) - first_ok <= 24  # checks and end mark
    sniffed = next(i for i, status in enumerate(found) if status not in (d.EMPTY, d.NOT_AN_IMAGE))
    assert sniffed <= 12 and set(found[sniffed:first_ok]) == {d.TRUNCATED}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.data())
def test_no_damage_raises(kind: str, data: st.DataObject) -> None:
    content = bytearray(saved(kind))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    decoded = decode(bytes(content[:cut]), LIMIT)
    assert (decoded.status == "ok") == (decoded.image is not None)


def test_pillow_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # by somebody else
    before = Image.MAX_IMAGE_PIXELS
    assert decode(saved("JPEG")[:-20], LIMIT).status == d.TRUNCATED
    decode(bomb(60_000, 60_000), LIMIT)
    assert before == Image.MAX_IMAGE_PIXELS and ImageFile.LOAD_TRUNCATED_IMAGES


def tiff(entries: list[tuple[int, int, int, int]], body: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of one directory of (tag, type, count, value or offset), and what follows it."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return head + b"".join(struct.pack(order + "HHII", *entry) for entry in entries) + bytes(4) + body


def exif_of(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131], exif[0x0132] = (
        "Canon\0junk",
        "EOS  R5\n",
        "é" * 300,
        "2024:01:02 03:04:05",
    )
    exif.get_ifd(0x8769)[0x9003] = "2023:12:31 23:59:58"
    return saved(kind, exif=exif)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_camera_facts(kind: str) -> None:
    camera = decode(exif_of(kind), LIMIT).camera
    assert (camera.make, camera.model, camera.taken) == ("Canon", "EOS R5", "2023-12-31T23:59:58")
    assert camera.software is not None and len(camera.software) == 128
    assert decode(saved(kind), LIMIT).camera == Camera()
    assert set(camera.columns()) == {field.name for field in CAMERA}


def test_times_that_are_none() -> None:
    for text in (b"0000:00:00 00:00:00\0", b"    :  :     :  :  \0", b"2024:13:45 99:99:99\0", b"yesterday"):
        block = tiff([(0x0132, 2, len(text), 26)], text)
        assert camera_facts(read_exif(block), b"").taken is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_digital_source(kind: str) -> None:
    uri = "http://cv.iptc.org/newscodes/digitalsourcetype/"
    for word in (
        "trainedAlgorithmicMedia",
        "compositeWithTrainedAlgorithmicMedia",
        "digitalCapture",
        "composite",
    ):
        xmp = f'<rdf:Description Iptc4xmpExt:DigitalSourceType="{uri}{word}"/>'.encode()
        options: dict[str, Any] = {"xmp": xmp}
        if kind == "PNG":
            info = PngImagePlugin.PngInfo()
            info.add_itxt("XML:com.adobe.xmp", xmp.decode())
            options = {"pnginfo": info}
        assert decode(saved(kind, **options), LIMIT).camera.digital_source == word
    assert digital_source(b"digitalsourcetype/unheardOf") is None
    assert digital_source(b"x" * 5_000_000 + b"digitalsourcetype/print") == "print"


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_read_within_bounds(order: str) -> None:
    make = (0x010F, 2, 5, 26)
    assert read_exif(tiff([make], b"Canon", order)) == {0x010F: "Canon"}
    assert read_exif(tiff([(0x010F, 2, 2**32 - 1, 26)], b"Canon", order)) == {0x010F: "Canon"}
    assert read_exif(tiff([(0x010F, 2, 5, 2**32 - 1)], b"Canon", order)) == {0x010F: ""}
    assert read_exif(tiff([(0x8769, 4, 1, 8)], b"", order)) == {}  # a directory that is its own child


@given(st.binary(max_size=200), st.booleans())
def test_any_exif_is_read(block: bytes, is_tiff: bool) -> None:
    read_exif((b"II*\0\x08\0\0\0" if is_tiff else b"") + block)


def peak_growth(data: bytes, max_pixels: int) -> tuple[str, int]:
    """Status of decoding in a process of its own, and by how many MiB the process grew at its peak."""
    code = (
        "import sys; from curation.decode import decode; data = sys.stdin.buffer.read()\n"
        "status = lambda: dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "peak = lambda: int(status()['VmHWM'].split()[0]) >> 10\n"
        "decode(data[:2000], 1); open('/proc/self/clear_refs', 'w').write('5'); before = peak()\n"
        f"print(decode(data, {max_pixels}).status, peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, check=True, timeout=100
    )
    status, grown = done.stdout.split()
    return status.decode(), int(grown)


def exif_bomb() -> bytes:
    """Two megabytes of EXIF in one JPEG: 40,000 values of a megabyte each, all the same one."""
    block = tiff([(tag, 7, 1 << 20, 8) for tag in range(0x1000, 0x1000 + 40_000)], bytes(1 << 20))
    segments = [block[start : start + 65_000] for start in range(0, len(block), 65_000)]
    head = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in segments)
    return saved("JPEG")[:2] + head + saved("JPEG")[2:]


def pixel_bomb() -> bytes:
    """A sound PNG of 16,000 x 16,000 pixels in 32 kB."""
    return saved("PNG", Image.new("1", (16_000, 16_000)))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize(
    ("make", "status"),
    [
        (exif_bomb, "ok"),
        (pixel_bomb, d.TOO_LARGE),
        (lambda: bomb(60_000, 60_000), d.TOO_LARGE),
        (lambda: webp_bomb(16_383, 16_383), d.TOO_LARGE),
        (lambda: webp_bomb(1 << 24, 1 << 24), d.TOO_LARGE),
    ],
)
def test_a_bomb_costs_no_memory(make: Callable[[], bytes], status: str) -> None:
    found, grown = peak_growth(make(), LIMIT)
    assert (found, grown < 40) == (status, True), grown


def webp_bomb(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + saved("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("lossless", [True, False])
def test_the_size_of_a_webp(lossless: bool) -> None:
    assert d.webp_size(saved("WEBP", lossless=lossless)) == (30, 20)
    exif = Image.Exif()
    assert d.webp_size(saved("WEBP", exif=exif.tobytes(), lossless=lossless)) == (30, 20)
    assert d.webp_size(saved("WEBP")[:20]) is None


def test_memory_limits_what_is_decoded() -> None:
    large = Image.new("RGB", (3000, 2000))  # 6 megapixels: 42 MB as a baseline JPEG, 96 MB as a WebP
    for kind, options, needed in (("JPEG", {}, 42), ("JPEG", {"progressive": True}, 72), ("WEBP", {}, 96)):
        data = saved(kind, large, **options)
        assert decode(data, 10**9, (32 << 20) + needed * 10**6 + 3 * len(data)).status == "ok"
        assert decode(data, 10**9, (32 << 20) + needed * 10**6 - 1).status == d.TOO_LARGE
