"""Albedo, the colour of the surface without light and shadow: sRGB 0 .. 1; L1 and gradients on the person."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from annotation.labels import Labels
from train.data.view import View
from train.metrics.images import ColourErrors, colour_errors
from train.metrics.resampling import ImageSums, mean_scores
from train.tasks.base import Evaluator, Target, Task, enlarge, human_pixels
from train.tasks.losses import gradient_loss, masked_mean

GRADIENT = 0.5
"""Weight of the gradient term where the configuration names none."""


class AlbedoTask(Task):
    """Output: 3 channels, sRGB 0 .. 1. Prediction: (height, width, 3) in 0 .. 1."""

    name = "albedo"
    wanted = ("rgb", "albedo", "alpha")
    optional = ("depth",)
    headline, better = "mae", "lower"
    protocol = (
        "Whole image, resized without keeping its aspect; prediction resized to the image bilinearly and "
        "clipped to 0 .. 1. Per image on human pixels (alpha >= 0.5), sRGB values 0 .. 1, over pixels and "
        "channels: mean absolute error and root mean square error. Mean over images. No scale is fitted."
    )
    channels = 3

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        assert crop.albedo is not None
        return {
            "albedo": torch.from_numpy(np.ascontiguousarray(crop.albedo.transpose(2, 0, 1))),
            "mask": torch.from_numpy(human_pixels(crop)),
        }

    def loss(self, output_BChw: Float32[Tensor, "B 3 h w"], target: Target) -> Float32[Tensor, ""]:
        """Mean over pixels and channels of |difference| on the person, plus gradient matching."""
        mask_BHW = target["mask"]
        residual = enlarge(output_BChw, mask_BHW.shape[1:]) - target["albedo"].float() / 255
        weight = GRADIENT if self.config.gradient is None else self.config.gradient
        losses_B = masked_mean(residual.abs().mean(1), mask_BHW)
        return (losses_B + weight * gradient_loss(residual, mask_BHW)).mean()

    def decode(
        self, output_Chw: Float32[Tensor, "3 h w"], view: View, source: tuple[int, int]
    ) -> Float32[np.ndarray, "height width 3"]:
        albedo = enlarge(output_Chw[None], source)[0].clamp(0, 1)
        return np.ascontiguousarray(albedo.cpu().numpy().transpose(1, 2, 0))

    def unmirror(self, output_BChw: Float32[Tensor, "B 3 h w"]) -> Float32[Tensor, "B 3 h w"]:
        return output_BChw.flip(3)

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "3 _ _"]]:
        """The mean colour, and each pixel's mean colour where it was human (elsewhere the mean)."""
        known, total = torch.zeros(1, 1, 1).double(), torch.zeros(3, 1, 1).double()
        for target in targets:
            known = known + target["mask"][None]
            total = total + target["albedo"].double() / 255 * target["mask"]
        mean = (total.sum((1, 2)) / known.sum().clamp(min=1))[:, None, None]
        at_pixel = torch.where(known > 0, total / known.clamp(min=1), mean)
        return {"constant": mean.float(), "mean_map": at_pixel.float()}

    def evaluator(self) -> Evaluator:
        return AlbedoEvaluator()

    def truth(self, labels: Labels, person: int) -> Float32[np.ndarray, "height width 3"]:
        assert labels.albedo is not None
        return labels.albedo / np.float32(255)

    def draw(
        self, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """On human pixels only, black elsewhere."""
        return np.asarray(np.rint(255 * prediction) * human_pixels(labels)[..., None], np.uint8)


class AlbedoEvaluator(ImageSums):
    """Mean over images of each image's errors."""

    def __init__(self) -> None:
        super().__init__(1 + len(ColourErrors._fields), mean_scores(ColourErrors._fields))

    def add(
        self, key: str, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width 3"]
    ) -> dict[str, float]:
        assert labels.albedo is not None
        mask = human_pixels(labels)
        if not mask.any():
            return {}
        errors = colour_errors(prediction, labels.albedo / np.float32(255), mask)
        self.count(key, np.array([1, *errors]))
        return {**errors._asdict(), "pixels": int(mask.sum())}
