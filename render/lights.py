"""HDRI environments: bpy's own eight or a folder of the user's, their digests and the exposure that suits
each.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from shards.errors import UsageError

_MIDDLE_GREY = 0.18


@dataclass(frozen=True)
class Hdri:
    """An equirectangular environment image. neutral_ev: stops that bring a grey card in its light to middle
    grey.
    """

    name: str
    path: Path
    sha256: str
    neutral_ev: float


def bundled_folder() -> Path:
    """Where the bpy wheel keeps its HDRIs (CC0, Poly Haven; 1024 x 512), found without importing bpy."""
    found = importlib.util.find_spec("bpy")
    if found is None or not found.submodule_search_locations:
        raise UsageError("bpy is not installed: pip install 'vitruvian[render]' on Python 3.11")
    root = Path(next(iter(found.submodule_search_locations)))
    return next(iter(sorted(root.glob("*/datafiles/studiolights/world"))), root)


def list_hdris(folder: Path | None = None) -> dict[str, Path]:
    """Name (file stem) -> path of the .exr and .hdr files of `folder` (default: the bundled ones), sorted."""
    where = folder or bundled_folder()
    found = {path.stem: path for path in sorted(where.glob("*")) if path.suffix.lower() in (".exr", ".hdr")}
    if not found:
        raise UsageError(f"{where}: no .exr or .hdr environment found; name a folder that holds some")
    return found


def find_hdri(name: str, folder: Path | None = None) -> Hdri:
    """The HDRI called `name`. Raises UsageError, listing those there are."""
    paths = list_hdris(folder)
    if name not in paths:
        raise UsageError(f"HDRI {name!r}: not in {folder or bundled_folder()}; there are: {', '.join(paths)}")
    return _describe(paths[name])


@lru_cache(maxsize=256)
def _describe(path: Path) -> Hdri:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Hdri(path.stem, path, digest, neutral_exposure(read_hdri(path)))


def read_hdri(path: Path) -> Float32[np.ndarray, "height width 3"]:
    """Linear RGB radiance of an equirectangular .exr or .hdr file, row 0 at the zenith."""
    if path.suffix.lower() == ".hdr":
        import cv2

        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise UsageError(f"{path}: not a readable Radiance HDR image")
        return np.ascontiguousarray(image[..., ::-1], dtype=np.float32)
    import OpenEXR

    with OpenEXR.File(str(path)) as file:
        channels = file.channels()
        stacked = channels["RGB"] if "RGB" in channels else channels.get("RGBA")
        if stacked is not None:
            return np.asarray(stacked.pixels[..., :3], dtype=np.float32)
        return np.stack([np.asarray(channels[c].pixels, dtype=np.float32) for c in "RGB"], axis=-1)


def neutral_exposure(radiance: Float32[np.ndarray, "height width 3"]) -> float:
    """Stops that bring a middle-grey card, facing sideways and averaged over headings, to middle grey.

    A vertical card sees radiance weighted by |cos elevation| of the direction's horizontal part: averaged
    over headings its irradiance is the integral of L cos(elevation) / pi over the sphere. People are lit like
    that.
    """
    luminance = radiance.astype(np.float64) @ [0.2126, 0.7152, 0.0722]
    height, width = luminance.shape
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * np.pi
    solid_angle = np.cos(elevation) * (np.pi / height) * (2 * np.pi / width)
    irradiance = float((luminance.sum(axis=1) * np.cos(elevation) * solid_angle).sum()) / np.pi
    exitance = _MIDDLE_GREY * irradiance / np.pi  # radiance leaving a Lambertian card
    return round(float(np.log2(_MIDDLE_GREY / max(exitance, 1e-6))), 3)
