"""Metric depth with known intrinsics, and the pointmap it spans: not in the paper, its second edition has it.

The network cannot know the focal length: the same picture shows a person at 2 m through one lens, at 4 m
through another. So it learns the *canonical* depth, z * width / fx: the depth at which the same picture would
have been taken by a lens whose focal length is the image's width (768 px for an input of 768). It does not
change when the image is resized, and a crop changes it as it changes the apparent size. Metres follow from K:
`metric_depth`, then `train.metrics.pointmap.pointmap`.
"""

from collections.abc import Iterable
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from annotation.camera import Camera
from annotation.draw import colour_depth
from annotation.labels import Labels
from shards.errors import VitruvianError
from train.data.view import View
from train.metrics.pointmap import PointErrors, point_errors
from train.metrics.resampling import ImageSums, mean_scores
from train.tasks.base import Evaluator, Target, Task, enlarge, human_pixels
from train.tasks.losses import gradient_loss, masked_mean

GRADIENT = 0.5
"""Weight of the gradient term where the configuration names none."""


class PointmapTask(Task):
    """Output: 1 channel, the logarithm of the canonical depth (m). Prediction: (height, width), the canonical
    depth of the source image.
    """

    name = "pointmap"
    wanted = ("rgb", "depth")
    optional = ("alpha",)
    offset = "pooled"
    headline, better = "point_error", "lower"
    protocol = (
        "Whole image, resized without keeping its aspect; the canonical depth is resized to the image "
        "bilinearly in its logarithm and turned into metres by the image's own K (depth = prediction * fx / "
        "width). Nothing is aligned. Per image on human pixels (alpha >= 0.5 and a depth): RMSE in metres, "
        "AbsRel, delta1 (< 1.25) of depth; mean distance of the points in metres and the shares strictly "
        "within 5, 10, 20 cm. Mean over images."
    )
    units = MappingProxyType({"rmse": "m", "point_error": "m"})
    channels = 1

    def prepare(self, labels: Labels) -> Labels:
        """As they are. Raises VitruvianError for labels without a camera."""
        _camera(labels)
        return labels

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        """Canonical depth on human pixels, 0 elsewhere."""
        canonical = np.where(human_pixels(crop), self.truth(crop, person), np.float32(0))
        return {"canonical": torch.from_numpy(canonical)}

    def loss(self, output_BChw: Float32[Tensor, "B 1 h w"], target: Target) -> Float32[Tensor, ""]:
        """Mean |log difference| on human pixels, plus gradient matching of the same residual."""
        truth_BHW = target["canonical"]
        mask_BHW = truth_BHW > 0
        predicted_BHW = enlarge(output_BChw, truth_BHW.shape[1:])[:, 0]
        residual_BHW = predicted_BHW - truth_BHW.where(mask_BHW, 1).log()
        weight = GRADIENT if self.config.gradient is None else self.config.gradient
        gradients_B = gradient_loss(residual_BHW[:, None], mask_BHW)
        return (masked_mean(residual_BHW.abs(), mask_BHW) + weight * gradients_B).mean()

    def decode(
        self, output_Chw: Float32[Tensor, "1 h w"], view: View, source: tuple[int, int]
    ) -> Float32[np.ndarray, "height width"]:
        """The view's canonical depth is for a lens as long as the view is wide."""
        logarithm = enlarge(output_Chw[None], source)[0, 0]
        return logarithm.exp().cpu().numpy() * np.float32(source[1] / view.width)

    def unmirror(self, output_BChw: Float32[Tensor, "B 1 h w"]) -> Float32[Tensor, "B 1 h w"]:
        return output_BChw.flip(3)

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "1 _ _"]]:
        """The mean logarithm, and each pixel's mean where it was human (elsewhere the mean)."""
        known, total = torch.zeros(1, 1, 1).double(), torch.zeros(1, 1, 1).double()
        for target in targets:
            human = target["canonical"] > 0
            known = known + human[None]
            total = total + target["canonical"].where(human, 1).log()[None]
        mean = total.sum() / known.sum().clamp(min=1)
        at_pixel = torch.where(known > 0, total / known.clamp(min=1), mean)
        return {"constant": mean.float().reshape(1, 1, 1), "mean_map": at_pixel.float()}

    def evaluator(self) -> Evaluator:
        return PointmapEvaluator()

    def truth(self, labels: Labels, person: int) -> Float32[np.ndarray, "height width"]:
        assert labels.depth is not None
        return np.asarray(labels.depth / focal_ratio(_camera(labels)), np.float32)

    def draw(
        self, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Metric depth, not aligned, on human pixels only, coloured by the truth's range."""
        assert labels.depth is not None
        mask = human_pixels(labels)
        depth = np.where(mask, metric_depth(prediction, _camera(labels)), np.float32(0))
        if not mask.any():
            return colour_depth(depth)
        near, far = (float(value) for value in np.percentile(labels.depth[mask], (1, 99)))
        return colour_depth(depth, near, far)


class PointmapEvaluator(ImageSums):
    """Mean over images of each image's errors."""

    def __init__(self) -> None:
        super().__init__(1 + len(PointErrors._fields), mean_scores(PointErrors._fields))

    def add(
        self, key: str, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width"]
    ) -> dict[str, float]:
        assert labels.depth is not None
        mask, camera = human_pixels(labels), _camera(labels)
        if not mask.any():
            return {}
        errors = point_errors(metric_depth(prediction, camera), labels.depth, mask, camera)
        self.count(key, np.array([1, *errors]))
        return {**errors._asdict(), "pixels": int(mask.sum())}


def focal_ratio(camera: Camera) -> float:
    """fx over the image's width: metres of depth for a metre of canonical depth."""
    return float(camera.K[0, 0] / camera.width)


def metric_depth(
    canonical: Float32[np.ndarray, "height width"], camera: Camera
) -> Float32[np.ndarray, "height width"]:
    """A prediction for the camera's image -> depth in metres."""
    return canonical * np.float32(focal_ratio(camera))


def _camera(labels: Labels) -> Camera:
    if labels.camera is None:
        raise VitruvianError("pointmap: expected labels with a camera (K); got none")
    return labels.camera
