"""Files beside each other: found and paired by name, kept within their folder, bounded before decoding."""

import hashlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8
from PIL import Image

from annotation.codecs import MAX_PIXELS, DecodeError
from shards.errors import UsageError, VitruvianError
from train.data.layouts.base import Unpaired

T = TypeVar("T")
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SHOWN = 5
"""Names listed in an error."""


def find(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files with these suffixes in `folder` and beneath it, hidden ones aside: relative name without
    suffix -> path, sorted.

    Raises UsageError when there is none, for two of one name, and for a link that leads out of the folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    root, found = folder.resolve(), dict[str, Path]()
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(part.startswith(".") for part in inner.parts):
            continue
        name = inner.with_suffix("").as_posix()
        if name in found:
            raise UsageError(f"{path}: of the same name as {found[name]}; which one is meant?")
        if path.is_file():
            found[name] = within(root, path)
    if not found:
        raise UsageError(f"{folder}: expected files *{', *'.join(suffixes)}; found none")
    if len({name.replace("/", "+") for name in found}) < len(found):
        raise UsageError(f"{folder}: names that differ only in '/' and '+': rename one")
    return found


def within(root: Path, path: Path) -> Path:
    """`path`, when it lies in the resolved folder `root` after every link and `..`. Raises UsageError."""
    if not path.resolve().is_relative_to(root):
        raise UsageError(f"{path}: leads out of {root}, to {path.resolve()}; expected a file inside")
    return path


def pair(files: Mapping[str, Mapping[str, Path]], unpaired: Unpaired, where: str) -> tuple[list[str], int]:
    """(names that every one of the folders has, number of those that only some have).

    `files`: what each folder holds, by the role of the folder. Raises UsageError when none are in all, and
    for names that lack a file unless they are to be skipped.
    """
    everything = {name for found in files.values() for name in found}
    common = sorted(name for name in everything if all(name in found for found in files.values()))
    if not common:
        heads = "; ".join(f"{role}: {', '.join(list(found)[:SHOWN])}" for role, found in files.items())
        raise UsageError(f"{where}: no name is in every folder; {heads}")
    lacking = {role: sorted(everything - found.keys()) for role, found in files.items()}
    if unpaired == "refuse" and any(lacking.values()):
        listed = "; ".join(
            f"{role}: {len(names)} missing, {', '.join(names[:SHOWN])}"
            for role, names in lacking.items()
            if names
        )
        raise UsageError(
            f"{where}: files without their counterpart. {listed}. `unpaired: skip` leaves them out"
        )
    return common, len(everything) - len(common)


def listing_digest(files: Mapping[str, Path]) -> str:
    """sha256 over names, suffixes and sizes in bytes: neither the place nor the times count."""
    lines = "".join(f"{name}{path.suffix}\0{path.stat().st_size}\0" for name, path in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def read(path: Path, decode: Callable[[bytes], T]) -> T:
    """A file's content. Raises VitruvianError that names the file."""
    try:
        return decode(path.read_bytes())
    except (OSError, VitruvianError) as error:
        raise VitruvianError(f"{path}: {error}") from error


def decode_ids(data: bytes) -> UInt8[np.ndarray, "height width"]:
    """Class ids of a PNG: grey levels, or of a palette the indices (not the colours). Raises DecodeError."""
    pixels, mode = _pixels(data)
    if mode not in ("L", "P"):
        raise DecodeError("corrupt", f"ids: expected an 8-bit grey or palette PNG; got mode {mode}")
    return np.asarray(pixels, np.uint8)


def decode_cover(data: bytes) -> Bool[np.ndarray, "height width"]:
    """Where a mask PNG of any kind is above 0, in any colour. Raises DecodeError."""
    pixels, mode = _pixels(data)
    colours = len(mode) - mode.endswith("A")
    return np.asarray(pixels > 0 if pixels.ndim == 2 else (pixels[..., :colours] > 0).any(-1))


def read_array(path: Path, channels: tuple[int, ...] = ()) -> Float32[np.ndarray, "height width *channels"]:
    """An npy file of numbers, of shape (height, width, *channels); never unpickles.

    Raises VitruvianError for anything else, for a file that ends early, and for too many pixels, which the
    header tells before anything is read.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError(f"expected an npy file of numbers; got {getattr(array, 'dtype', type(array))}")
        if array.ndim != 2 + len(channels) or array.shape[2:] != channels:
            raise ValueError(
                f"expected shape (height, width{''.join(f', {c}' for c in channels)}); got {array.shape}"
            )
        if array.shape[0] * array.shape[1] > MAX_PIXELS:
            raise ValueError(f"expected at most {MAX_PIXELS} pixels; got {array.shape}")
        with np.errstate(over="ignore"):  # doubles used as marks become infinite: no surface either way
            return np.array(array, np.float32)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise VitruvianError(f"{path}: {error}") from error


def check_sizes(arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    """Raises VitruvianError for labels of one picture that differ in height or width."""
    sizes = {name: array.shape[:2] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise VitruvianError(f"expected one (height, width) for all of a picture; got {sizes}")


def _pixels(data: bytes) -> tuple[np.ndarray, str]:
    """(pixels, Pillow's mode) of a PNG whose size is bounded first."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DecodeError("size", f"mask: expected at most {MAX_PIXELS} pixels; got {image.size}")
            return np.array(image), image.mode
    except DecodeError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DecodeError("size", f"mask: expected at most {MAX_PIXELS} pixels; {error}") from error
    except Exception as error:  # on bad bytes Pillow's readers raise almost anything
        raise DecodeError("corrupt", f"mask: expected a PNG ({len(data)} bytes): {error}") from error
