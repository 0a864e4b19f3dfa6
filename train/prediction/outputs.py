"""Files of a prediction: labels as PNG in the project's codecs, raw numbers, pictures to look at, points; the
marker last, so that what has its marker is whole.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8
from pydantic import Field, model_validator

from annotation.codecs import (
    MAX_DEPTH,
    decode_mask,
    encode_depth,
    encode_mask,
    encode_normal,
    encode_rgb,
)
from annotation.draw import (
    colour_depth,
    colour_normals,
    draw_keypoints,
    letterbox,
    overlay_parts,
    parts_legend,
)
from shards.config import Config
from shards.errors import UsageError, VitruvianError
from shards.files import write_atomic
from train.data.view import HALF_COVERED
from train.prediction.picture import Prediction, Reject
from train.prediction.points import Focal, choose_focal, encode_ply, normals_of, thinned, unproject
from train.tasks import Task

Kind = Literal["png", "npy", "overlay", "ply", "pseudo-normals"]
FOLDER = "predictions"
OVERLAY_SIDE = 1280
"""Longer side of a picture to look at, px; larger ones are reduced to it."""
SURE = 0.2
"""Keypoints below this confidence do not count in a person's score (as in evaluation)."""
_WITH_POINTS = frozenset({"depth", "pointmap"})
_JPEG_FLAGS = [cv2.IMWRITE_JPEG_QUALITY, 90]

Mask = Bool[np.ndarray, "height width"]
Rgb = UInt8[np.ndarray, "_ _ 3"]


class OutputConfig(Config):
    """What is written."""

    write: tuple[Kind, ...] = ("png", "overlay")
    """png: labels; npy: raw numbers; overlay: JPEG to look at; ply: points (depth, pointmap);
    pseudo-normals: of the depth's surface.
    """
    min_confidence: float = Field(default=0.3, ge=0, le=1)
    """Pose: keypoints below it are not drawn; the JSON holds all."""
    focal: float | None = Field(default=None, gt=0)
    """Focal length in pixels of every picture; None: what the file's EXIF says, else an assumed one."""
    depth_range: tuple[float, float] | None = None
    """Depth: metres that 0 and 1 stand for. Relative depth has none of its own: points need it."""
    masks: Path | None = None
    """Output folder of `predict alpha` or `predict parts` on the same inputs: nothing is written off the
    people.
    """
    points: int = Field(default=1_000_000, gt=0)
    """Most points of a PLY; pictures with more lose rows and columns evenly."""

    @model_validator(mode="after")
    def _check(self) -> "OutputConfig":
        if self.depth_range is not None and not 0 < self.depth_range[0] < self.depth_range[1] < MAX_DEPTH:
            raise ValueError(f"depth_range must be 0 < near < far (metres), got {self.depth_range}")
        return self


class OutputWriter:
    """Writes predictions under `<out>/predictions/<name of the input>.*`."""

    def __init__(self, out: Path, task: Task, config: OutputConfig) -> None:
        """Raises UsageError for outputs that the task does not have."""
        wanted = {"ply", "pseudo-normals"} & set(config.write)
        if wanted and task.name not in _WITH_POINTS:
            raise UsageError(f"{task.name}: has no {' or '.join(sorted(wanted))}; depth and pointmap have")
        if wanted and task.name == "depth" and config.depth_range is None:
            raise UsageError(
                "depth: is relative, 0 the nearest and 1 the farthest of the person: points and slopes need "
                "metres; say which ones 0 and 1 stand for (--depth-range 2.2 2.7), or use a pointmap model"
            )
        self.folder, self.task, self.config = out / FOLDER, task, config

    def is_done(self, name: str, digest: str) -> bool:
        """Whether the input of this name and content has all its files."""
        marker = self.folder / f"{name}.json"
        if not marker.is_file():
            return False
        found = json.loads(marker.read_text(encoding="utf-8"))
        return found["digest"] == digest and all((self.folder / f).is_file() for f in found["files"])

    def write(self, prediction: Prediction) -> Reject | None:
        """All files of one input. An output that is no label is a reject, of which nothing is written."""
        name = prediction.picture.name
        try:
            if not np.isfinite(prediction.values).all():
                raise VitruvianError("the model's output is not finite (NaN or infinite)")
            files, facts = render(self.task, self.config, prediction)
        except UsageError:
            raise
        except VitruvianError as error:
            return Reject(name, "output:invalid", f"{name}: {error}")
        for suffix, data in files.items():
            write_atomic(self.folder / f"{name}.{suffix}", data)
        marker = {
            "name": name,
            "task": self.task.name,
            "digest": prediction.picture.digest,
            "size": list(prediction.picture.size),
            "files": [f"{name}.{suffix}" for suffix in files],
            **facts,
        }
        write_atomic(self.folder / f"{name}.json", (json.dumps(marker, allow_nan=False) + "\n").encode())
        return None


@dataclass(frozen=True, eq=False)
class _Content:
    """What of a prediction goes into files. `label`: bytes of the PNG; `picture`: to look at."""

    label: bytes | None
    numbers: Shaped[np.ndarray, "..."] | None
    picture: Rgb
    facts: dict[str, Any]
    depth_m: Float32[np.ndarray, "height width"] | None = None
    focal: Focal | None = None


def render(
    task: Task, config: OutputConfig, prediction: Prediction
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """(bytes by suffix, what the marker says). Raises VitruvianError for values that are no label."""
    mask = read_mask(config.masks, prediction)
    content = _CONTENTS[task.name](task, config, prediction, mask)
    files: dict[str, bytes] = {}
    if "png" in config.write and content.label is not None:
        files[f"{task.name}.png"] = content.label
    if "npy" in config.write and content.numbers is not None:
        files[f"{task.name}.npy"] = _npy(content.numbers)
    if "overlay" in config.write:
        files[f"{task.name}.jpg"] = _jpeg(content.picture)
    if content.depth_m is not None and content.focal is not None:
        files |= _points(config, prediction, content.depth_m, content.focal)
    return files, content.facts


def read_mask(masks: Path | None, prediction: Prediction) -> Mask:
    """Human pixels: all without `masks`; else alpha of at least a half, or any part but the background.

    Raises VitruvianError when the folder has neither for the picture.
    """
    if masks is None:
        return np.ones(prediction.picture.size, bool)
    folder = masks / FOLDER if (masks / FOLDER).is_dir() else masks
    for kind, least in (("alpha", HALF_COVERED), ("parts", 1)):
        path = folder / f"{prediction.picture.name}.{kind}.png"
        if path.is_file():
            found = decode_mask(path.read_bytes())
            if found.shape != prediction.picture.size:
                raise VitruvianError(
                    f"{path}: {found.shape} pixels; the picture has {prediction.picture.size}"
                )
            return np.asarray(found >= least)
    raise VitruvianError(f"{folder}: neither {prediction.picture.name}.alpha.png nor .parts.png")


def _pose(task: Task, config: OutputConfig, prediction: Prediction, mask: Mask) -> _Content:
    values, boxes = prediction.values, prediction.boxes
    assert boxes is not None
    shown = np.zeros((*values.shape[:2], 4), np.float32)
    shown[..., :2] = values[..., :2]
    shown[..., 3] = 2 * (values[..., 2] >= config.min_confidence)
    people = [
        {
            "box": [round(float(v), 2) for v in box],
            "score": round(float(score) * person_confidence(person), 5),
            "keypoints": [[round(float(v), 3) for v in point] for point in person],
        }
        for box, score, person in zip(boxes.xyxy, boxes.score, values, strict=True)
    ]
    rgb = prediction.picture.image
    picture = draw_keypoints(rgb, shown) if len(shown) else rgb
    return _Content(None, values, _reduced(picture), {"keypoints": values.shape[1], "people": people})


def person_confidence(person: Float32[np.ndarray, "points 3"]) -> float:
    """Mean confidence of the keypoints above 0.2."""
    sure = person[person[:, 2] > SURE, 2]
    return float(sure.mean()) if len(sure) else 0.0


def _parts(task: Task, config: OutputConfig, prediction: Prediction, mask: Mask) -> _Content:
    parts = np.where(mask, prediction.values, 0).astype(np.uint8)
    classes = task.config.classes
    rgb = _reduced(prediction.picture.image)
    small = cv2.resize(parts, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    shown = overlay_parts(rgb, small, classes)
    legend = parts_legend(small, classes, shown.shape[0])
    facts = {"classes": classes, "background": float((parts == 0).mean())}
    return _Content(encode_mask(parts), parts, np.concatenate([shown, legend], axis=1), facts)


def _normal(task: Task, config: OutputConfig, prediction: Prediction, mask: Mask) -> _Content:
    normal = np.where(mask[..., None], prediction.values, np.float32(0))
    facts = {"frame": "x right, y up, z toward the camera"}
    return _Content(
        encode_normal(normal), prediction.values, _beside(prediction, colour_normals(normal)), facts
    )


def _depth(task: Task, config: OutputConfig, prediction: Prediction, mask: Mask) -> _Content:
    values = prediction.values
    lowest = float(values[mask].min()) if mask.any() else 0.0
    # The codec knows positive depths only; relative ones may be anything, so they travel shifted to 1 and up.
    label, near, far = encode_depth(np.where(mask, values - np.float32(lowest) + 1, 0).astype(np.float32))
    shown = np.where(mask, values - lowest + 1, 0).astype(np.float32)
    facts: dict[str, Any] = {
        "near": near - 1 + lowest,
        "far": far - 1 + lowest,
        "unit": "relative: 0 the nearest, 1 the farthest of the person",
    }
    picture = _beside(prediction, colour_depth(shown))
    if config.depth_range is None:
        return _Content(label, values, picture, facts)
    start, stop = config.depth_range
    metres = (start + values * (stop - start)).clip(min=0.01)
    focal = _focal(config, prediction)
    facts |= {"depth_range": [start, stop], "focal": {"px": focal.px, "source": focal.source}}
    return _Content(label, values, picture, facts, np.where(mask, metres, 0).astype(np.float32), focal)


def _pointmap(task: Task, config: OutputConfig, prediction: Prediction, mask: Mask) -> _Content:
    focal = _focal(config, prediction)
    metres = prediction.values * np.float32(focal.px / prediction.picture.size[1])
    mask = mask & (metres > 0)
    metres = np.where(mask, metres.clip(0.01, 0.99 * MAX_DEPTH), 0).astype(np.float32)
    label, near, far = encode_depth(metres)
    facts = {"near": near, "far": far, "unit": "m", "focal": {"px": focal.px, "source": focal.source}}
    return _Content(label, metres, _beside(prediction, colour_depth(metres)), facts, metres, focal)


def _albedo(task: Task, config: OutputConfig, prediction: Prediction, mask: Mask) -> _Content:
    rgb = np.rint(np.where(mask[..., None], prediction.values, 0).clip(0, 1) * 255).astype(np.uint8)
    return _Content(encode_rgb(rgb), prediction.values, _beside(prediction, rgb), {})


def _alpha(task: Task, config: OutputConfig, prediction: Prediction, mask: Mask) -> _Content:
    alpha = np.rint(prediction.values.clip(0, 1) * 255).astype(np.uint8)
    cut = np.rint(prediction.picture.image * prediction.values[..., None].clip(0, 1)).astype(np.uint8)
    return _Content(encode_mask(alpha), prediction.values, _beside(prediction, cut), {})


_CONTENTS = {
    "pose": _pose,
    "parts": _parts,
    "depth": _depth,
    "normal": _normal,
    "pointmap": _pointmap,
    "albedo": _albedo,
    "alpha": _alpha,
}


def _focal(config: OutputConfig, prediction: Prediction) -> Focal:
    return choose_focal(prediction.picture.size, config.focal, prediction.picture.focal_35mm)


def _points(
    config: OutputConfig, prediction: Prediction, depth_m: Float32[np.ndarray, "height width"], focal: Focal
) -> Mapping[str, bytes]:
    """The point cloud and the slopes of a metric depth (0: nothing)."""
    files: dict[str, bytes] = {}
    if not {"ply", "pseudo-normals"} & set(config.write):
        return files
    points, surface = unproject(depth_m, focal.px), depth_m > 0
    if "ply" in config.write:
        kept = thinned(surface, config.points)
        files["points.ply"] = encode_ply(points[kept], prediction.picture.image[kept])
    if "pseudo-normals" in config.write:
        normal = normals_of(points, surface)
        files["pseudo-normal.png"] = encode_normal(normal)
        files["pseudo-normal.jpg"] = _jpeg(_beside(prediction, colour_normals(normal)))
    return files


def _reduced(image: Rgb) -> Rgb:
    side = max(image.shape[:2])
    if side <= OVERLAY_SIDE:
        return image
    height, width = (max(1, round(length * OVERLAY_SIDE / side)) for length in image.shape[:2])
    return letterbox(image, width, height)


def _beside(prediction: Prediction, picture: Rgb) -> Rgb:
    """The photograph and the prediction next to each other."""
    return np.concatenate([_reduced(prediction.picture.image), _reduced(picture)], axis=1)


def _npy(values: Shaped[np.ndarray, "..."]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _jpeg(rgb: Rgb) -> bytes:
    ok, buffer = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), _JPEG_FLAGS)
    if not ok:
        raise VitruvianError(f"jpeg: could not encode a picture of shape {rgb.shape}")
    return bytes(buffer)
