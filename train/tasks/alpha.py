"""Alpha, how much of each pixel the people cover: cross-entropy, L1 and gradients over the whole image."""

from collections.abc import Iterable
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from annotation.labels import Labels
from train.data.view import View
from train.metrics.images import AlphaErrors, alpha_errors
from train.metrics.resampling import ImageSums, mean_scores
from train.tasks.base import Evaluator, Target, Task, enlarge
from train.tasks.losses import gradient_loss

GRADIENT = 0.5
"""Weight of the gradient term where the configuration names none."""
SURE = 1e-3
"""The baselines claim no more certainty than this."""


class AlphaTask(Task):
    """Output: 1 logit. Prediction: (height, width), coverage 0 .. 1."""

    name = "alpha"
    wanted = ("rgb", "alpha")
    headline, better = "mae", "lower"
    protocol = (
        "Whole image, resized without keeping its aspect; logits resized to the image bilinearly, then the "
        "logistic function. Per image on all pixels: mean absolute error, sum of absolute differences in "
        "thousands of pixels (SAD), IoU of the pixels at or above 0.5 (1 where neither has any). Mean over "
        "images."
    )
    units = MappingProxyType({"sad": "thousands of pixels"})
    channels = 1

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        assert crop.alpha is not None
        return {"alpha": torch.from_numpy(np.ascontiguousarray(crop.alpha))}

    def loss(self, output_BChw: Float32[Tensor, "B 1 h w"], target: Target) -> Float32[Tensor, ""]:
        """Binary cross-entropy less its smallest possible value (soft pixels have one), |difference| and
        gradient matching of the coverage.
        """
        alpha_BHW = target["alpha"].float() / 255
        logits_BHW = enlarge(output_BChw, alpha_BHW.shape[1:])[:, 0]
        entropy = F.binary_cross_entropy(alpha_BHW, alpha_BHW, reduction="none")
        crossed = F.binary_cross_entropy_with_logits(logits_BHW, alpha_BHW, reduction="none") - entropy
        residual = logits_BHW.sigmoid() - alpha_BHW
        weight = GRADIENT if self.config.gradient is None else self.config.gradient
        gradients_B = gradient_loss(residual[:, None], torch.ones_like(residual, dtype=torch.bool))
        return ((crossed + residual.abs()).mean((1, 2)) + weight * gradients_B).mean()

    def decode(
        self, output_Chw: Float32[Tensor, "1 h w"], view: View, source: tuple[int, int]
    ) -> Float32[np.ndarray, "height width"]:
        return enlarge(output_Chw[None], source)[0, 0].sigmoid().cpu().numpy()

    def unmirror(self, output_BChw: Float32[Tensor, "B 1 h w"]) -> Float32[Tensor, "B 1 h w"]:
        return output_BChw.flip(3)

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "1 _ _"]]:
        """The mean coverage, and each pixel's mean coverage, as logits."""
        total, count = torch.zeros(1, 1, 1).double(), 0
        for target in targets:
            total, count = total + target["alpha"].double()[None] / 255, count + 1
        at_pixel = (total / max(count, 1)).clamp(SURE, 1 - SURE)
        constant = (total.mean() / max(count, 1)).clamp(SURE, 1 - SURE).reshape(1, 1, 1)
        return {"constant": constant.logit().float(), "mean_map": at_pixel.logit().float()}

    def evaluator(self) -> Evaluator:
        return AlphaEvaluator()

    def truth(self, labels: Labels, person: int) -> Float32[np.ndarray, "height width"]:
        assert labels.alpha is not None
        return labels.alpha / np.float32(255)

    def draw(
        self, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Grey: white is all person."""
        return np.repeat(np.rint(255 * prediction).astype(np.uint8)[..., None], 3, axis=2)


class AlphaEvaluator(ImageSums):
    """Mean over images of each image's errors."""

    def __init__(self) -> None:
        super().__init__(1 + len(AlphaErrors._fields), mean_scores(AlphaErrors._fields))

    def add(
        self, key: str, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width"]
    ) -> dict[str, float]:
        assert labels.alpha is not None
        errors = alpha_errors(prediction, labels.alpha / np.float32(255))
        self.count(key, np.array([1, *errors]))
        return errors._asdict()
