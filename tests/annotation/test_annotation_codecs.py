"""Label codecs: error bounds, what is lossless, what is refused, sizes bounded before decoding."""

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from annotation import codecs
from annotation.codecs import DecodeError
from shards.errors import VitruvianError

quick = settings(max_examples=60, deadline=None)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def png_claiming(width: int, height: int, bits: int, colour: int) -> bytes:
    """A PNG whose header promises a size and whose body is not there."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    header = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + header + end


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@quick
@given(
    shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))),
    st.floats(0.0625, 100, width=32),
)
def test_depth_error_is_below_a_tenth_of_a_millimetre_over_six_metres(
    fraction: np.ndarray, start: float
) -> None:
    depth = np.where(fraction > 0, np.float32(start) + fraction * np.float32(6), 0).astype(np.float32)
    png, near, far = codecs.encode_depth(depth)
    again = codecs.decode_depth(png, near, far)
    np.testing.assert_array_equal(again == 0, depth == 0)
    assert np.abs(again.astype(np.float64) - depth).max() <= 1e-4


def test_depth_over_six_metres_meets_the_bound_on_every_step() -> None:
    depth = np.linspace(0.3, 6.3, 1024 * 512, dtype=np.float32).reshape(512, 1024)
    png, near, far = codecs.encode_depth(depth)
    error = np.abs(codecs.decode_depth(png, near, far).astype(np.float64) - depth)
    assert 4e-5 < error.max() <= 4.7e-5
    assert [near, far] == [float(depth.min()), float(depth.max())]


@pytest.mark.parametrize("depth", [0.0, 1.5])
def test_depth_without_a_range_is_exact(depth: float) -> None:
    plane = np.full((3, 4), depth, np.float32)
    png, near, far = codecs.encode_depth(plane)
    assert near == far == depth
    np.testing.assert_array_equal(codecs.decode_depth(png, near, far), plane)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, 1e10, 65504.0])
def test_depth_that_is_no_depth_is_refused(bad: float) -> None:
    with pytest.raises(VitruvianError, match="0 for no surface"):
        codecs.encode_depth(np.array([[1, bad]], np.float32))


@quick
@given(hnp.arrays(np.float64, (6, 5, 3), elements=st.floats(-1, 1)))
def test_normal_error_is_below_a_hundredth_of_a_degree(vectors: np.ndarray) -> None:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    normal = np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), 0).astype(np.float32)
    again = codecs.decode_normal(codecs.encode_normal(normal)).astype(np.float64)
    surface = (normal != 0).any(axis=-1)
    np.testing.assert_array_equal((again != 0).any(axis=-1), surface)
    np.testing.assert_allclose(np.linalg.norm(again[surface], axis=-1), 1, atol=1e-6)
    sine = np.linalg.norm(np.cross(again, normal.astype(np.float64)), axis=-1)
    assert np.degrees(sine.max()) <= 0.0016
    assert (np.einsum("hwc,hwc->hw", again, normal)[surface] > 0.99).all()


def test_normal_channels_are_x_y_z_in_any_reader() -> None:
    """A normal to the right is red in the file: R = x, as OpenCV (which reads BGR) shows."""
    png = codecs.encode_normal(np.array([[[1, 0, 0], [0, 0, 0]]], np.float32))
    bgr = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert bgr[0].tolist() == [[32768, 32768, 65535], [0, 0, 0]]


@pytest.mark.parametrize("bad", [[0, 0, 0.5], [np.nan, 0, 1], [1, 1, 1]])
def test_normals_of_other_lengths_are_refused(bad: list[float]) -> None:
    with pytest.raises(VitruvianError, match="x=1, y=0"):
        codecs.encode_normal(np.array([[[0, 0, 1], bad]], np.float32))


@quick
@given(shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape)))
def test_masks_are_lossless(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(codecs.decode_mask(codecs.encode_mask(mask)), mask)


@quick
@given(images)
def test_rgb_is_lossless_and_rgb(image: np.ndarray) -> None:
    png = codecs.encode_rgb(image)
    np.testing.assert_array_equal(codecs.decode_image(png), image)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), image)
    assert codecs.encode_rgb(image.copy()) == png


@quick
@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(0, 5), st.just(4))))
def test_keypoints_are_lossless(keypoints: np.ndarray) -> None:
    again = codecs.decode_keypoints(codecs.encode_keypoints(keypoints))
    np.testing.assert_array_equal(again, keypoints)
    assert again.dtype == np.float32 and again.shape == keypoints.shape


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "corrupt"),
        (b"not an array", "corrupt"),
        (npy(np.zeros((1, 17, 4))), "corrupt"),
        (npy(np.zeros((1, 17, 3), np.float32)), "corrupt"),
        (npy(np.array([[[{}] * 4]], object)), "corrupt"),
        (npy(np.zeros((2, 17, 4), np.float32))[:-1], "truncated"),
        (npy(np.zeros((1, 1, 4), np.float32)).replace(b"(1, 1, 4)", b"(9**9,4)"), "corrupt"),
        (npy(np.zeros((1, 1, 4), np.float32)).replace(b"(1, 1, 4)", b"(-1,-1,4)"), "corrupt"),
    ],
)
def test_other_arrays_are_not_keypoints(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        codecs.decode_keypoints(data)
    assert caught.value.reason == reason


def test_keypoints_that_claim_terabytes_are_refused_before_allocating() -> None:
    claim = npy(np.zeros((100000000, 0, 4), np.float32)).replace(b"(100000000, 0, 4)", b"(99999999, 99, 4)")
    with pytest.raises(DecodeError, match="needs 158399998416 bytes") as caught:
        codecs.decode_keypoints(claim)
    assert caught.value.reason == "truncated"


NOISE = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
DECODERS: dict[str, tuple[Callable[[bytes], object], bytes, tuple[int, int]]] = {
    "depth": (
        lambda data: codecs.decode_depth(data, 1.0, 2.0),
        codecs.encode_depth(np.random.default_rng(0).uniform(1, 2, (40, 30)).astype(np.float32))[0],
        (16, 0),
    ),
    "normal": (
        codecs.decode_normal,
        codecs.encode_normal(np.full((40, 30, 3), 3**-0.5, np.float32)),
        (16, 2),
    ),
    "mask": (codecs.decode_mask, codecs.encode_mask(np.eye(40, dtype=np.uint8)), (8, 0)),
    "image": (codecs.decode_image, codecs.encode_rgb(NOISE), (8, 2)),
}


@pytest.mark.parametrize("label", DECODERS)
def test_a_size_is_refused_before_anything_is_decoded(label: str) -> None:
    decode, _, (bits, colour) = DECODERS[label]
    with pytest.raises(DecodeError, match="at most") as caught:
        decode(png_claiming(65000, 65000, bits, colour))
    assert caught.value.reason == "size"


@pytest.mark.parametrize("label", DECODERS)
def test_what_is_no_image_is_refused(label: str) -> None:
    for data in (b"", b"GIF", b"<html>", b"\x89PNG\r\n\x1a\n"):
        with pytest.raises(DecodeError) as caught:
            DECODERS[label][0](data)
        assert caught.value.reason in ("unknown", "truncated")


@pytest.mark.parametrize("label", DECODERS)
def test_every_truncation_is_noticed(label: str) -> None:
    decode, png, _ = DECODERS[label]
    end_of_pixels = len(png) - 12 - 8  # before the checksums of the data and the IEND chunk
    for length in range(8, end_of_pixels, max(1, len(png) // 40)):
        with pytest.raises(DecodeError) as caught:
            decode(png[:length])
        assert caught.value.reason in ("truncated", "unknown", "corrupt")


@pytest.mark.parametrize("label", ["depth", "normal", "mask"])
def test_a_flipped_bit_in_a_label_is_noticed(label: str) -> None:
    decode, png, _ = DECODERS[label]
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 1
    with pytest.raises(DecodeError) as caught:
        decode(bytes(damaged))
    assert caught.value.reason == "corrupt"


def test_labels_of_another_kind_are_refused() -> None:
    with pytest.raises(DecodeError, match="16 bits"):
        codecs.decode_depth(codecs.encode_mask(np.zeros((2, 2), np.uint8)), 1.0, 2.0)
    with pytest.raises(DecodeError, match="colour type 2"):
        codecs.decode_normal(codecs.encode_depth(np.ones((2, 2), np.float32))[0])
    with pytest.raises(DecodeError, match="8 bits"):
        codecs.decode_mask(codecs.encode_depth(np.ones((2, 2), np.float32))[0])


def test_max_pixels_is_the_callers() -> None:
    png = codecs.encode_rgb(np.zeros((10, 10, 3), np.uint8))
    assert codecs.decode_image(png, max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(DecodeError, match="10 x 10"):
        codecs.decode_image(png, max_pixels=99)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(
        Image.fromarray(np.ascontiguousarray(turns[orientation](upright))), "PNG", exif=exif.tobytes()
    )
    np.testing.assert_array_equal(codecs.decode_image(data), upright)


@pytest.mark.parametrize(
    ("mode", "kind", "value", "expected"),
    [
        ("RGB", "JPEG", (200, 100, 50), (200, 100, 50)),
        ("RGB", "WEBP", (200, 100, 50), (200, 100, 50)),
        ("L", "JPEG", 77, (77, 77, 77)),
        ("CMYK", "JPEG", (0, 255, 255, 0), (255, 0, 0)),
        ("I;16", "PNG", 0x8012, (0x80, 0x80, 0x80)),
        ("1", "PNG", 1, (255, 255, 255)),
        ("RGBA", "PNG", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", "PNG", (0, 0, 0, 128), (127, 127, 127)),
        ("LA", "PNG", (9, 255), (9, 9, 9)),
        ("P", "GIF", 0, (0, 0, 0)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    mode: str, kind: str, value: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    image = codecs.decode_image(saved(Image.new(mode, (16, 12), value), kind))
    assert image.shape == (12, 16, 3) and image.dtype == np.uint8
    assert np.abs(image.astype(int) - expected).max() <= 4


def test_a_truncated_photograph_is_named_truncated() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    data = saved(noise, "JPEG")
    with pytest.raises(DecodeError) as caught:
        codecs.decode_image(data[: len(data) // 2])
    assert caught.value.reason == "truncated"


@quick
@given(
    st.binary(max_size=200),
    st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"]),
    st.integers(0, 400),
)
def test_arbitrary_bytes_give_a_picture_or_a_decode_error(noise: bytes, kind: str, at: int) -> None:
    data = bytearray(saved(Image.new("RGB", (20, 20), (1, 2, 3)), kind))
    data[at : at + len(noise)] = noise
    try:
        assert codecs.decode_image(bytes(data)).shape[2] == 3
    except DecodeError as error:
        assert error.reason in ("unknown", "size", "truncated", "corrupt")
