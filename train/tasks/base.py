"""What a task is to fine-tuning and evaluation. Whoever adds one writes a file beside this one.

Shape suffixes: B batch, C output channels, H W input pixels, h w output pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from annotation.labels import Labels
from shards.config import Config
from train.data.augment import AugmentConfig
from train.data.view import HALF_COVERED as HALF_COVERED
from train.data.view import View
from train.tasks.losses import masked_mean as masked_mean

Target = dict[str, Tensor]


class TaskConfig(Config):
    """What targets are made of; a task reads its own fields."""

    keypoints: Literal[17, 133, 308] = 17
    classes: Literal[20, 28, 29] = 28
    class_weight_power: float = Field(default=1.0, ge=0, le=1)
    """Parts: exponent of the published class weights; 1 as published, 0 unweighted. The published
    background weight of 0.1 makes a model that knows little see people everywhere: short runs want less of
    it.
    """
    sigma: float = Field(default=2.0, gt=0)
    """Pose: of the Gaussians, in heat-map pixels (the paper's models: 6 at 256 x 192)."""
    blur: int = Field(default=11, ge=3)
    """Pose: kernel of the blur before sub-pixel decoding, odd, in heat-map pixels (11 at 256 x 192)."""
    box_padding: float = Field(default=1.25, ge=1)
    """Pose: the person's box is enlarged by this factor."""
    depth_floor: float = Field(default=0.05, gt=0)
    """Depth: below it the logarithm of Eq. 1 is continued by its tangent, so that an output at or under
    zero has a finite cost and a gradient. The released code clamps at 1e-6 instead.
    """
    silog: Literal["root", "plain"] = "root"
    """Depth: the square root of Eq. 3, as the released code has it, or Eq. 3 as printed."""
    depth_loss: Literal["silog", "ssi"] = "silog"
    """Depth: Eq. 1-3, or the mean difference of prediction and truth, each without its scale and shift."""
    gradient: float | None = Field(default=None, ge=0)
    """Dense tasks with a gradient term: its weight; None: 0 for depth, 0.5 for pointmap, albedo and alpha."""
    hard_keypoints: int | None = Field(default=None, gt=0)
    """Pose: only this many keypoints with the largest errors count in each image (released 0.3b and 1b
    models: 128 of 308); None: all.
    """


@dataclass(frozen=True)
class Scoring:
    """How predictions are scored, where a task has a choice."""

    depth_space: Literal["depth", "disparity"] = "depth"
    """Depth: where the scale and shift are fitted; disparity for models that predict it."""
    depth_cap: float = 10.0
    """Depth, in disparity space: metres beyond which nothing is scored."""
    boxes: Literal["truth", "detected"] = "truth"
    """Pose: whose boxes the people are cut out by; detected ones are in the labels (train.metrics.boxes)."""


@runtime_checkable
class Evaluator(Protocol):
    """Collects predictions and truth of a test set."""

    def add(
        self, key: str, labels: Labels, person: int, prediction: Shaped[np.ndarray, "..."]
    ) -> dict[str, float]:
        """Count the prediction for a person of the image `key`; returns the scores of this image alone, for
        the per-image table.
        """
        ...

    def compute(self) -> dict[str, float]:
        """The scores of the test set. What else it may offer: train.metrics.resampling.Resampled (intervals),
        SeesImages, WritesFiles.
        """
        ...


@runtime_checkable
class SeesImages(Protocol):
    """An evaluator that wants every image, those without a case too (missed people count)."""

    def begin(self, key: str, labels: Labels) -> None:
        """Called once for each image, before its cases."""
        ...


@runtime_checkable
class WritesFiles(Protocol):
    """An evaluator with more to leave than scores."""

    def files(self) -> dict[str, bytes]:
        """Name -> content, written beside metrics.json."""
        ...


class Task(ABC):
    """Everything particular to one task. Predictions are arrays in the frame of the source image."""

    name: ClassVar[str]
    wanted: ClassVar[tuple[str, ...]]
    """Labels it cannot do without (annotation.labels)."""
    optional: ClassVar[tuple[str, ...]] = ()
    """Labels it uses where the data has them."""
    last_layer: ClassVar[Literal["final_layer", "conv_seg"]] = "conv_seg"
    offset: ClassVar[Literal["none", "pooled"]] = "none"
    """pooled: the head adds what a linear layer makes of the mean of the encoder's features; for tasks in
    absolute units, whose mean over the image InstanceNorm would take away.
    """
    spread: ClassVar[float] = 0.02
    """Standard deviation of the output layer's starting weights."""
    headline: ClassVar[str]
    """The score that says how good a model is, and whether "higher" or "lower" is better."""
    better: ClassVar[Literal["higher", "lower"]]
    protocol: ClassVar[str]
    """How the scores are computed, in words, written beside them."""
    units: ClassVar[Mapping[str, str]] = {}
    """Of the scores that are no shares of 1."""

    def __init__(self, config: TaskConfig) -> None:
        self.config = config
        self.scoring = Scoring()

    def how(self) -> str:
        """`protocol`, as the chosen `scoring` has it."""
        return self.protocol

    @property
    @abstractmethod
    def channels(self) -> int:
        """Of the head's output."""

    def prepare(self, labels: Labels) -> Labels:
        """Labels of a sample in the task's own vocabulary. Raises VitruvianError when they cannot be."""
        return labels

    def people(self, labels: Labels) -> list[int]:
        """The people of an image that are examples of their own; [0] when the image as a whole is one."""
        return [0]

    def view(self, labels: Labels, person: int, size: tuple[int, int]) -> View:
        """What the network sees of the source image, at `size` (height, width): the whole, in the dense
        tasks.
        """
        source = labels.size()
        assert source is not None
        return View.whole(source, size)

    def training_view(
        self,
        labels: Labels,
        person: int,
        size: tuple[int, int],
        config: AugmentConfig,
        rng: np.random.Generator,
    ) -> View:
        """The view that augmentation starts from."""
        return self.view(labels, person, size)

    @abstractmethod
    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        """Training target of an augmented crop, for a head whose output has `size` (h, w)."""

    @abstractmethod
    def loss(self, output_BChw: Float32[Tensor, "B C h w"], target: Target) -> Float32[Tensor, ""]:
        """Mean over the images of the batch of each image's loss."""

    @abstractmethod
    def decode(
        self, output_Chw: Float32[Tensor, "C h w"], view: View, source: tuple[int, int]
    ) -> Shaped[np.ndarray, "..."]:
        """Output for `view` -> prediction for the source image of size `source` (height, width)."""

    @abstractmethod
    def unmirror(self, output_BChw: Float32[Tensor, "B C h w"]) -> Float32[Tensor, "B C h w"]:
        """Output for mirrored images -> output for the images, for averaging both at test time."""

    def flip_averaged(
        self, model: nn.Module, images_BCHW: UInt8[Tensor, "B 3 H W"]
    ) -> Float32[Tensor, "B C h w"]:
        """Mean of the outputs for the images and for their mirror images (the published flip test)."""
        output: Tensor = model(images_BCHW)
        return (output + self.unmirror(model(images_BCHW.flip(3)))) / 2

    @abstractmethod
    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "C _ _"]]:
        """Outputs that do not look at the image, fitted on training targets; the first one is constant."""

    def start(self, constant: Float32[Tensor, "C _ _"]) -> Float32[Tensor, " C"]:
        """What the head says before training, given the constant baseline: that baseline."""
        return constant.flatten()

    @abstractmethod
    def evaluator(self) -> Evaluator: ...

    @abstractmethod
    def truth(self, labels: Labels, person: int) -> Shaped[np.ndarray, "..."]:
        """The labels in the form of a prediction, for pictures."""

    @abstractmethod
    def draw(
        self, labels: Labels, person: int, prediction: Shaped[np.ndarray, "..."]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """A picture of `prediction` at the source image's size."""


def human_pixels(labels: Labels) -> Bool[np.ndarray, "height width"]:
    """Pixels at least half covered by a person (alpha, where known) that have whatever surface label is
    known.
    """
    size = labels.size()
    assert size is not None
    mask = np.ones(size, dtype=bool)
    if labels.alpha is not None:
        mask &= labels.alpha >= HALF_COVERED
    if labels.depth is not None:
        mask &= labels.depth > 0
    if labels.normal is not None:
        mask &= labels.normal.any(axis=-1)
    return mask


def enlarge(output_BChw: Float32[Tensor, "B C h w"], size: Any) -> Float32[Tensor, "B C H W"]:
    """Bilinear resize of a dense output to `size` (height, width), corners unaligned."""
    if output_BChw.shape[2:] == tuple(size):
        return output_BChw
    return F.interpolate(output_BChw, size=tuple(size), mode="bilinear", align_corners=False)
