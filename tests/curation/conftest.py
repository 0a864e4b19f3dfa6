"""A pool with one input for every reason there is, built from scikit-image's photographs."""

import struct
import zlib
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import skimage

from curation.job import Job
from shards.manifest import Manifest
from shards.units import close_stage, open_stage, pending, run_unit

SAMPLES = Path(skimage.__file__).parent / "data"


def photo(name: str) -> bytes:
    """The bytes of one of scikit-image's photographs."""
    return (SAMPLES / name).read_bytes()


def pixels(name: str) -> Any:
    """Its pixels, uint8 RGB."""
    return np.ascontiguousarray(cv2.imread(str(SAMPLES / name))[..., ::-1])


def encode(image: Any, extension: str, *flags: int) -> bytes:
    """uint8 RGB as the bytes of an image file."""
    done, data = cv2.imencode(extension, image[..., ::-1], list(flags))
    assert done
    return bytes(data)


def captioned(image: Any) -> Any:
    """The image with a caption across its lower part."""
    image = image.copy()
    width, height = image.shape[1], image.shape[0]
    scale = width / 640
    place = (round(20 * scale), round(0.9 * height))
    cv2.putText(image, "ONLY TODAY 50% OFF", place, cv2.FONT_HERSHEY_SIMPLEX, 1.7 * scale, (255, 255, 255), 3)
    return image


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A well-formed PNG of a few hundred bytes that claims to be `width` x `height`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")


def hostile_pool() -> dict[str, bytes]:
    """File name -> bytes: people, no people, and everything that goes wrong."""
    astronaut, camera = pixels("astronaut.png"), pixels("camera.png")
    rocket = photo("rocket.jpg")
    return {
        "people/astronaut.png": photo("astronaut.png"),
        "people/cameraman.png": photo("camera.png"),
        "people/mirrored.webp": encode(
            np.ascontiguousarray(camera[:, ::-1]), ".webp", cv2.IMWRITE_WEBP_QUALITY, 90
        ),
        "people/far away.jpg": encode(
            cv2.resize(astronaut, (110, 110), interpolation=cv2.INTER_AREA), ".jpg"
        ),
        "people/thumbnail.jpg": encode(cv2.resize(astronaut, (48, 48)), ".jpg"),
        "copies/same bytes.png": photo("astronaut.png"),
        "copies/same pixels.png": encode(astronaut, ".png", cv2.IMWRITE_PNG_COMPRESSION, 1),
        "captions/caption.jpg": encode(captioned(astronaut), ".jpg"),
        "things/coffee.jpg": encode(pixels("coffee.png"), ".jpg"),
        "things/logo.png": photo("logo.png"),
        "things/rocket.jpg": rocket,
        "bad/truncated.jpg": rocket[: len(rocket) // 2],
        "bad/corrupt.png": photo("chelsea.png").replace(b"IDAT", b"IDAX"),
        "bad/page.jpg": b"<html><body>404 Not Found</body></html>",
        "bad/empty.jpg": b"",
        "bad/bomb.png": bomb(),
        "bad/animated.gif": photo("no_time_for_that_tiny.gif"),
        "bad/ünïcode 名前.txt": b"notes",
    }


@pytest.fixture(scope="session")
def image() -> Callable[[str], Any]:
    """`image("coffee.png")` -> the pixels of one of scikit-image's photographs, uint8 RGB."""
    return pixels


@pytest.fixture(scope="session")
def caption() -> Callable[[Any], Any]:
    """Burns a caption into an image."""
    return captioned


@pytest.fixture(scope="session")
def files_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile pool as a folder of files."""
    root = tmp_path_factory.mktemp("pool")
    for name, data in hostile_pool().items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return root


@pytest.fixture(scope="session")
def run_job() -> Callable[[Job, Path], Manifest]:
    """Runs a job to its end in this process."""
    return run_inline


def run_inline(job: Job, out: Path) -> Manifest:
    """Open the stage, run what is pending, close it."""
    stage = open_stage(out, job.name, job.key)
    for unit in pending(stage, job.units):
        run_unit(stage, unit, job.worker)
    return close_stage(stage, job.units, job.provenance)


@pytest.fixture(scope="session")
def made() -> Any:
    """Annotation tables made by hand: the functions of `tests/curation/tables.py`."""
    spec = spec_from_file_location("curation_tables_made_by_hand", Path(__file__).with_name("tables.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
