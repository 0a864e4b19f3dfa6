"""Pictures out of files, folders, videos and standard input, one at a time: counted, named, bounded."""

import hashlib
import io
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from PIL import Image

from annotation.codecs import DecodeError, decode_image
from shards.errors import UsageError
from shards.files import sha256_file
from train.prediction.picture import Picture, Reject

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
STDIN = "-"
_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405

IsDone = Callable[[str, str], bool]
"""(name, digest) -> whether this very input has its outputs already."""


@dataclass(frozen=True)
class Source:
    """A file to read; `name` is what its outputs are called after (with `/` for subfolders)."""

    name: str
    path: Path
    kind: Literal["image", "video", "stdin"]


@dataclass(frozen=True)
class Skipped:
    """An input that has its outputs already."""

    name: str


def list_sources(inputs: Sequence[str]) -> list[Source]:
    """What the arguments name, in order: a folder gives its pictures at any depth, sorted (no videos); `-` is
    the bytes of one picture on standard input. Raises UsageError for what is not there, an empty folder, or
    two inputs of one name.
    """
    sources = [source for text in inputs for source in _expand(text)]
    seen: dict[str, Source] = {}
    for source in sources:
        if source.name in seen:
            raise UsageError(
                f"{seen[source.name].path} and {source.path}: outputs of both would be called {source.name}; "
                "predict them into two folders, or give the folder that holds both"
            )
        seen[source.name] = source
    return sources


def _expand(text: str) -> list[Source]:
    path = Path(text)
    if text == STDIN:
        return [Source("stdin", path, "stdin")]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if not found:
            raise UsageError(f"{path}: no pictures in it; looked for {', '.join(IMAGE_SUFFIXES)}")
        return [Source(p.relative_to(path).as_posix(), p, "image") for p in found]
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; expected a picture, a video, a folder, or -")
    return [Source(path.name, path, "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image")]


def read_sources(
    sources: Iterable[Source], is_done: IsDone, max_pixels: int, every: int = 1
) -> Iterator[Picture | Skipped | Reject]:
    """The pictures of the sources; of videos every `every`-th frame, named `<video>/<frame number>`."""
    for source in sources:
        if source.kind == "video":
            yield from _frames(source, is_done, max_pixels, every)
        else:
            yield _picture(source, is_done, max_pixels)


def _picture(source: Source, is_done: IsDone, max_pixels: int) -> Picture | Skipped | Reject:
    try:
        data = sys.stdin.buffer.read() if source.kind == "stdin" else source.path.read_bytes()
    except OSError as error:
        return Reject(source.name, "read:failed", f"{source.path}: {error}")
    digest = hashlib.sha256(data).hexdigest()
    if is_done(source.name, digest):
        return Skipped(source.name)
    try:
        image = decode_image(data, max_pixels)
    except DecodeError as error:
        return Reject(source.name, f"decode:{error.reason}", str(error))
    return Picture(source.name, image, digest=digest, focal_35mm=focal_35mm(data))


def focal_35mm(data: bytes) -> float | None:
    """The 35 mm equivalent focal length (mm) in the EXIF of an image file; None when it says none."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            value = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM, 0))
    except Exception:  # EXIF of the wild: what cannot be read says nothing
        return None
    return value if np.isfinite(value) and value > 0 else None


def _frames(
    source: Source, is_done: IsDone, max_pixels: int, every: int
) -> Iterator[Picture | Skipped | Reject]:
    digest = sha256_file(source.path)
    capture = cv2.VideoCapture(str(source.path))
    try:
        if problem := _unfit(capture, max_pixels):
            yield Reject(source.name, problem[0], f"{source.path}: {problem[1]}")
            return
        number = 0
        while capture.grab():
            if number % every == 0:
                yield _frame(capture, f"{source.name}/{number:06d}", digest, is_done)
            number += 1
        if number == 0:
            yield Reject(source.name, "video:empty", f"{source.path}: not a single frame can be decoded")
    finally:
        capture.release()


def _unfit(capture: Any, max_pixels: int) -> tuple[str, str] | None:
    if not capture.isOpened():
        return "video:unreadable", "OpenCV cannot open it as a video"
    width, height = (int(capture.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > max_pixels:
        return "video:size", f"frames of {width} x {height}; at most {max_pixels} pixels are decoded"
    return None


def _frame(capture: Any, name: str, digest: str, is_done: IsDone) -> Picture | Skipped | Reject:
    if is_done(name, digest):
        return Skipped(name)
    ok, frame = capture.retrieve()
    if not ok:
        return Reject(name, "video:frame", f"{name}: the frame cannot be decoded")
    return Picture(name, np.ascontiguousarray(frame[..., ::-1]), digest=digest)


_END = object()
T = TypeVar("T")


def ahead(items: Iterable[T], depth: int = 4) -> Iterator[T]:
    """The same items, made by a thread that is at most `depth` of them in front."""
    iterator = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[Any]] = deque(pool.submit(next, iterator, _END) for _ in range(depth))
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, iterator, _END))
            yield item
