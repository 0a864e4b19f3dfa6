"""An ONNX network that takes whole images: how pixels become its input, and its output a score.

Preprocessing is the configuration's to say, and wrong in every public model in another way: the order of the
channels, the resizing, the crop, the normalisation. Resizing is Pillow's, antialiased, as torchvision does
it.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from PIL import Image
from pydantic import Field, field_validator

from curation.boxes import RGB
from curation.weights import OnnxModelConfig, fetch, onnx_session
from shards.errors import UsageError
from shards.files import sha256_file

Three = tuple[float, float, float]
Rows = Float32[np.ndarray, "images values"]
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class EncoderConfig(OnnxModelConfig):
    """A network over whole images, and how it takes them. Defaults: ImageNet's customs."""

    size: int = Field(default=224, ge=8, le=2048, description="px; side of the square input")
    resize: Literal["squash", "crop"] = Field(
        default="crop", description="squash: both sides to `size`; crop: the shorter side, then the middle"
    )
    shorter: int | None = Field(
        default=None, ge=8, le=4096, description="px; of the shorter side before a crop; default `size`"
    )
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: Three = Field(default=(0.485, 0.456, 0.406), description="of values 0..1, in the order of channels")
    std: Three = Field(default=(0.229, 0.224, 0.225), description="of values 0..1, in the order of channels")
    output: str | None = Field(default=None, description="name of the output; default the first")

    @field_validator("std")
    @classmethod
    def _positive(cls, value: Three) -> Three:
        if min(value) <= 0:
            raise ValueError("expected three numbers over 0")
        return value


class NetworkConfig(EncoderConfig):
    """A classifier of whole images: which of its outputs is the score."""

    activation: Literal["softmax", "sigmoid", "none"] = Field(
        default="softmax", description="what makes the output a probability; none: it is one"
    )
    index: int = Field(default=0, ge=0, description="of the class that is meant")


class ImageNetwork:
    """A network opened at the first image."""

    def __init__(self, config: EncoderConfig) -> None:
        self.config = config

    def run(self, images: Sequence[RGB]) -> Rows:
        """The network's output for each image, flattened."""
        if not images:
            return np.zeros((0, 0), np.float32)
        node, rows = self._session.get_inputs()[0], []
        fixed = node.shape[0]
        batch = fixed if isinstance(fixed, int) else self.config.batch
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            tensor = np.zeros((batch, 3, self.config.size, self.config.size), _TYPES[node.type])
            for number, image in enumerate(part):
                tensor[number] = prepare(image, self.config)
            (values,) = self._session.run([self._output], {node.name: tensor})
            if len(values) != batch:
                raise UsageError(f"{self._path}: {batch} images gave an output of shape {values.shape}")
            rows.append(np.asarray(values, np.float32).reshape(batch, -1)[: len(part)])
        return np.concatenate(rows)

    def identity(self) -> dict[str, str]:
        """sha256 of the weights by file name."""
        return {self._path.name: sha256_file(self._path)}

    @property
    def where(self) -> Path:
        """The file, for errors."""
        return self._path

    @cached_property
    def _path(self) -> Path:
        return fetch(self.config.weights)

    @cached_property
    def _output(self) -> str:
        names = [node.name for node in self._session.get_outputs()]
        if self.config.output is None:
            return str(names[0])
        if self.config.output not in names:
            raise UsageError(f"{self._path}: no output {self.config.output!r}; it has {', '.join(names)}")
        return self.config.output

    @cached_property
    def _session(self) -> Any:
        session = onnx_session(self._path, self.config.provider, self.config.threads)
        nodes, size = session.get_inputs(), self.config.size
        wanted = (None, 3, size, size)
        got = nodes[0].shape
        fits = len(got) == 4 and all(
            not isinstance(side, int) or want is None or side == want
            for side, want in zip(got, wanted, strict=True)
        )
        if len(nodes) != 1 or nodes[0].type not in _TYPES or not fits:
            inputs = "; ".join(f"{node.name} {node.type}{node.shape}" for node in nodes)
            raise UsageError(
                f"{self._path}: expected one input of floats, images x 3 x {size} x {size} (`size`), "
                f"got {inputs}"
            )
        return session


class ScoreNetwork:
    """One column out of one output of a classifier."""

    def __init__(self, config: NetworkConfig, column: str) -> None:
        self.config, self.columns, self._network = config, (column,), ImageNetwork(config)

    def measure(self, images: Sequence[RGB]) -> list[dict[str, float]]:
        """The score of each image, to four decimals; no value where the network gives none (NaN)."""
        if not images:
            return []
        logits = self._network.run(images).astype(np.float64)
        index, activation, count = self.config.index, self.config.activation, logits.shape[1]
        if index >= count or (activation == "softmax" and count < 2):
            raise UsageError(
                f"{self._network.where}: index {index} by {activation} of {count} outputs per image: "
                "expected an index below their number, and two or more for softmax"
            )
        if activation == "softmax":
            scores = softmax(logits)[:, index]
        elif activation == "sigmoid":
            scores = 1 / (1 + np.exp(-np.clip(logits[:, index], -80, 80)))
        else:
            scores = logits[:, index]
        return [finite({self.columns[0]: score}) for score in scores.tolist()]

    def identity(self) -> dict[str, str]:
        """Name, and sha256 of the weights."""
        return {"name": f"onnx-{self.columns[0]}", **self._network.identity()}


def prepare(image: RGB, config: EncoderConfig) -> Float32[np.ndarray, "3 _size _size"]:
    """The image resized, cropped and normalised as `config` says."""
    size, picture = config.size, Image.fromarray(np.ascontiguousarray(image))
    width, height = picture.size
    if config.resize == "squash":
        picture = picture.resize((size, size), _FILTERS[config.interpolation])
    else:
        shorter = max(size, config.shorter or size)
        scale = shorter / min(width, height)
        # torchvision's rule: the longer side is rounded down; its crop begins at the rounded half.
        inner = (max(shorter, int(width * scale + 1e-6)), max(shorter, int(height * scale + 1e-6)))
        left, top = (round((side - size) / 2) for side in inner)
        across, down = width / inner[0], height / inner[1]
        # Only what the crop shows is resized: a sliver of 1 x 10,000 px must not become 224 x 2,240,000.
        right, bottom = min((left + size) * across, width), min((top + size) * down, height)
        box = (left * across, top * down, right, bottom)
        picture = picture.resize((size, size), _FILTERS[config.interpolation], box=box)
    pixels = np.asarray(picture, np.float32) / np.float32(255)
    if config.channels == "bgr":
        pixels = pixels[..., ::-1]
    normal = (pixels - np.array(config.mean, np.float32)) / np.array(config.std, np.float32)
    tensor: Float32[np.ndarray, "3 _size _size"] = np.ascontiguousarray(normal.transpose(2, 0, 1))
    return tensor


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(x) / sum exp(x) over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: np.ndarray = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return found


def finite(scores: dict[str, float]) -> dict[str, float]:
    """Scores to four decimals, without those that are no numbers."""
    return {column: round(score, 4) for column, score in scores.items() if np.isfinite(score)}
