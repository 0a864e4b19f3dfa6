"""A raw pool as the wild would hand it over, small and the same every time: photographs, pictures of people,
and a few of everything that a curator has to turn away.

    python pool.py --config params.yaml --section pool --renders out/renders/train --out out/pool

Photographs: the samples that scikit-image ships. People: the RGB of our own renders, saved as JPEG, alone
and in groups. Trouble: copies (same bytes; same pixels in another file), captions burnt in, truncated files,
files that are no images or of odd formats, thumbnails, people far away. `pool.json`, beside it, lists them.
"""

import argparse
import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8
from pydantic import Field

from annotation.labels import from_members
from shards.config import Config, load_config
from shards.errors import UsageError, VitruvianError
from shards.files import sha256_file, write_atomic
from shards.reader import Dataset
from shards.sample import canonical_json, digest_json

RGB = UInt8[np.ndarray, "_ _ 3"]
File = tuple[str, bytes]

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png",
    "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png",
    "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
ODD_FORMATS = ("multipage_rgb.tif", "no_time_for_that_tiny.gif")
CAPTIONS = (
    "HUMANS 2026",
    "BEST PRICE EVER",
    "follow for more",
    "SAMPLE ONLY",
    "when it renders",
    "photo by nobody",
)


class PoolConfig(Config):
    """How many of each kind. People are renders, the first in key order; trouble is made of them in turn."""

    people: int = Field(ge=1, description="renders saved as JPEG")
    groups: int = Field(ge=0, description="pictures of two to four people side by side")
    copies: int = Field(ge=0, description="files with the bytes of another")
    reencoded: int = Field(ge=0, description="PNGs with the pixels of a JPEG")
    captions: int = Field(ge=0, description="pictures with text burnt in")
    truncated: int = Field(ge=0, description="JPEGs that end too early")
    thumbnails: int = Field(ge=0, description="people on 48 x 64 pixels")
    distant: int = Field(ge=0, description="people far away, in front of a photograph")
    jpeg_quality: int = Field(92, ge=1, le=100)


def make_pool(config: PoolConfig, renders: Path, out: Path) -> int:
    """Write the pool anew into the folder `out`, its listing to `<out>.json`; returns the number of files."""
    listing = out.with_name(f"{out.name}.json")
    if out.exists() and not (listing.exists() or not any(out.iterdir())):
        raise UsageError(
            f"{out}: holds files that no pool stage listed in {listing.name}; choose another --out"
        )
    write_atomic(
        listing, canonical_json({"complete": False})
    )  # claimed: what a killed run leaves may be deleted
    shutil.rmtree(out, ignore_errors=True)
    for name, data in pool_files(config, renders):
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    files = {path.relative_to(out).as_posix(): sha256_file(path) for path in sorted(out.rglob("*.*"))}
    write_atomic(listing, canonical_json({"complete": True, "digest": digest_json(files), "files": files}))
    return len(files)


def pool_files(config: PoolConfig, renders: Path) -> Iterator[File]:
    """Every file of the pool as (path inside the pool, bytes)."""
    people = read_people(renders, config.people)
    encoded = [encode_jpeg(person, config.jpeg_quality) for person in people]

    def turn(number: int) -> int:
        return number * 7 % len(people)  # 7: neighbours in key order are no better than any others

    yield from photographs()
    for number, data in enumerate(encoded):
        yield f"people/{number:04d}.jpg", data
    for number in range(config.groups):
        size = 2 + number % 3
        group = [people[turn(number * 4 + place)] for place in range(size)]
        yield (
            f"groups/{number:03d}-of-{size}.jpg",
            encode_jpeg(np.concatenate(group, axis=1), config.jpeg_quality),
        )
    for number in range(config.copies):
        yield f"mirror/copy-{number:03d}.jpg", encoded[turn(number)]
    for number in range(config.reencoded):
        yield f"mirror/again-{number:03d}.png", encode_png(decode(encoded[turn(number + config.copies)]))
    for number in range(config.captions):
        captioned = caption(people[turn(number)], CAPTIONS[number % len(CAPTIONS)])
        yield f"memes/{number:03d}.jpg", encode_jpeg(captioned, config.jpeg_quality)
    for number in range(config.truncated):
        data = encoded[turn(number)]
        yield f"broken/cut-{number:03d}.jpg", data[: len(data) * (3 + number % 5) // 10]
    for number in range(config.thumbnails):
        thumbnail = cv2.resize(people[turn(number)], (48, 64), interpolation=cv2.INTER_AREA)
        yield f"thumbnails/{number:03d}.jpg", encode_jpeg(thumbnail, config.jpeg_quality)
    for number in range(config.distant):
        yield f"distant/{number:03d}.jpg", encode_jpeg(far_away(people[turn(number)]), config.jpeg_quality)
    yield from no_images()


def read_people(renders: Path, count: int) -> list[RGB]:
    """The RGB of the first `count` renders in key order."""
    dataset = Dataset.open(renders)
    if len(dataset) < count:
        raise UsageError(f"pool.people: {count} asked, but {renders} holds {len(dataset)} renders")
    positions = sorted(range(len(dataset)), key=list(dataset.keys()).__getitem__)[:count]
    images = [
        from_members(dataset.read(position, ("rgb.png",)).members, ("rgb",)).rgb for position in positions
    ]
    return [image for image in images if image is not None]


def photographs() -> Iterator[File]:
    """scikit-image's sample photographs, as on disk; two are of formats that shards do not hold."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise VitruvianError("the demo's photographs come with scikit-image; install vitruvian[cluster]")
    for name in (*PHOTOGRAPHS, *ODD_FORMATS):
        yield f"photographs/{name}", (Path(spec.origin).parent / "data" / name).read_bytes()


def no_images() -> Iterator[File]:
    """What crawlers bring home under the name of an image."""
    yield "broken/not-found.jpg", b"<!doctype html><title>404</title><p>The image you asked for is gone.\n"
    yield "broken/readme.txt", b"These pictures were collected in 2026.\n"
    yield "broken/empty.png", b""


def caption(image: RGB, text: str) -> RGB:
    """The picture with a line of white, black-edged text across its lower part."""
    height, width = image.shape[:2]
    font, thickness = cv2.FONT_HERSHEY_DUPLEX, max(1, width // 110)
    (length, _), _ = cv2.getTextSize(text, font, 1.0, thickness)
    scale = 0.9 * width / length
    place = (int(0.05 * width), int(height * 0.92))
    marked = image.copy()
    for colour, weight in (((0, 0, 0), thickness + 3), ((255, 255, 255), thickness)):
        cv2.putText(marked, text, place, font, scale, colour, weight, cv2.LINE_AA)
    return marked


def far_away(image: RGB) -> RGB:
    """The picture reduced to a third, on a canvas of its own size filled with its blurred self."""
    height, width = image.shape[:2]
    canvas = cv2.GaussianBlur(image, (0, 0), width / 8)
    small = cv2.resize(image, (width // 3, height // 3), interpolation=cv2.INTER_AREA)
    top, left = height // 3, width // 3
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return np.asarray(canvas, np.uint8)


def encode_jpeg(image: RGB, quality: int) -> bytes:
    """OpenCV's JPEG, 4:2:0: the same bytes for the same pixels on one build."""
    data: bytes = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return data


def encode_png(image: RGB) -> bytes:
    data: bytes = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    return data


def decode(data: bytes) -> RGB:
    """What the curation will see: the RGB pixels of an encoded image."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    image: RGB = np.array(bgr[..., ::-1], np.uint8)
    return image


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--section", default="pool")
    parser.add_argument("--renders", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    try:
        count = make_pool(load_config(given.config, PoolConfig, given.section), given.renders, given.out)
    except VitruvianError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(json.dumps({"out": str(given.out), "files": count}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
