"""Surface normals (paper section 3.6): x right, y up, z toward the camera; L1 plus cosine loss, Eq. 4."""

from collections.abc import Iterable
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from annotation.draw import colour_normals
from annotation.labels import Labels
from train.data.view import View
from train.metrics.normal import SUMS, angle_scores, angle_sums, angles
from train.metrics.resampling import ImageSums
from train.tasks.base import Evaluator, Target, Task, enlarge, human_pixels, masked_mean


class NormalTask(Task):
    """Output: 3 channels of any length. Prediction: (height, width, 3), unit."""

    name = "normal"
    wanted = ("rgb", "normal")
    optional = ("alpha",)
    headline, better = "mean", "lower"
    protocol = (
        "Whole image, resized without keeping its aspect; prediction resized to the image bilinearly, "
        "then normalised. Angle 2 atan2(|a - b|, |a + b|) on human pixels (alpha >= 0.5 and a "
        "normal), pooled over all pixels of the test set: mean, median (0.05 degree bins), root "
        "mean square, shares strictly below 5, 7.5, 11.25, 22.5, 30 degrees. Frame: x right, y up, "
        "z toward the camera."
    )
    units = MappingProxyType({"mean": "degrees", "median": "degrees", "rmse": "degrees"})
    channels = 3

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        """Zero where there is nothing to learn."""
        assert crop.normal is not None
        normal = np.where(human_pixels(crop)[..., None], crop.normal, 0)
        return {"normal": torch.from_numpy(np.ascontiguousarray(normal.transpose(2, 0, 1), np.float32))}

    def loss(self, output_BChw: Float32[Tensor, "B 3 h w"], target: Target) -> Float32[Tensor, ""]:
        """Eq. 4 on human pixels: |n - p|_1 of the prediction as it is, plus 1 - n . p / |p|."""
        normal_B3HW = target["normal"]
        predicted = enlarge(output_BChw, normal_B3HW.shape[2:])
        mask_BHW = (normal_B3HW != 0).any(1)
        distance = (predicted - normal_B3HW).abs().sum(1)
        cosine = (unit(predicted, 1) * normal_B3HW).sum(1)
        return masked_mean(distance + 1 - cosine, mask_BHW).mean()

    def decode(
        self, output_Chw: Float32[Tensor, "3 h w"], view: View, source: tuple[int, int]
    ) -> Float32[np.ndarray, "height width 3"]:
        normal = unit(enlarge(output_Chw[None], source)[0], 0)
        return np.ascontiguousarray(normal.cpu().numpy().transpose(1, 2, 0))

    def unmirror(self, output_BChw: Float32[Tensor, "B 3 h w"]) -> Float32[Tensor, "B 3 h w"]:
        signs = torch.tensor([-1.0, 1.0, 1.0], device=output_BChw.device)
        return output_BChw.flip(3) * signs[:, None, None]

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "3 _ _"]]:
        """The mean normal, and each pixel's mean normal where it was human (elsewhere the mean)."""
        total = torch.zeros(3, 1, 1).double()
        for target in targets:
            total = total + target["normal"]
        mean = unit(total.sum((1, 2)), 0)[:, None, None]
        at_pixel = torch.where((total == 0).all(0), mean, unit(total, 0))
        return {"constant": mean.float(), "mean_map": at_pixel.float()}

    def evaluator(self) -> Evaluator:
        return NormalEvaluator()

    def truth(self, labels: Labels, person: int) -> Float32[np.ndarray, "height width 3"]:
        assert labels.normal is not None
        return labels.normal

    def draw(
        self, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Coloured on human pixels only."""
        return colour_normals(np.where(human_pixels(labels)[..., None], prediction, np.float32(0)))


def unit(vectors: Float[Tensor, "..."], dim: int) -> Float[Tensor, "..."]:
    """`vectors` along `dim`, divided by their length, or by 1e-6 where that is larger.

    F.normalize does the same, seven times as slowly where a CPU sums over three planes of an image.
    """
    squared = vectors.square().sum(dim, keepdim=True)
    return vectors * squared.clamp(min=1e-12).rsqrt()


class NormalEvaluator(ImageSums):
    """All pixels pooled."""

    def __init__(self) -> None:
        super().__init__(SUMS, angle_scores)

    def add(
        self, key: str, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width 3"]
    ) -> dict[str, float]:
        assert labels.normal is not None
        mask = human_pixels(labels)
        if not mask.any():
            return {}
        degrees = angles(prediction[mask], labels.normal[mask])
        self.count(key, angle_sums(degrees))
        return {
            "mean": float(degrees.mean()),
            "median": float(np.median(degrees)),
            "within_11.25": float((degrees < 11.25).mean()),
            "pixels": len(degrees),
        }
