"""Relative depth (paper section 3.5): min-max depth of each crop, scale-invariant logarithmic loss, Eq.
1-3.
"""

from collections.abc import Iterable
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor

from annotation.draw import colour_depth
from annotation.labels import Labels
from train.data.view import View
from train.metrics.depth import DepthErrors, align_depth, depth_errors
from train.metrics.resampling import ImageSums, mean_scores
from train.tasks.base import Evaluator, Scoring, Target, Task, enlarge, human_pixels
from train.tasks.losses import gradient_loss, masked_mean, scale_and_shift_free

TINY = 1e-6
"""Smallest number whose logarithm is taken; targets up to it (background -1, the nearest pixel 0) do not
count.
"""
BACKGROUND = -1.0


class DepthTask(Task):
    """Output: 1 channel, 0 = the nearest human pixel of the crop, 1 = the farthest. Prediction: (height,
    width).
    """

    name = "depth"
    wanted = ("rgb", "depth")
    optional = ("alpha",)
    headline, better = "rmse", "lower"
    protocol = (
        "Whole image, resized without keeping its aspect; prediction resized to the image bilinearly. "
        "Per image: least-squares scale and shift of the prediction to the truth in {space} on human pixels "
        "(alpha >= 0.5 and a depth), float64; then RMSE in metres, AbsRel, delta1 (< 1.25). Mean over "
        "images. The constant baseline thus scores each image's own spread."
    )
    units = MappingProxyType({"rmse": "m"})
    channels = 1

    def how(self) -> str:
        """Names the space of the alignment."""
        clamped = (
            f"disparity space (1 / depth), clamped to a depth of {self.scoring.depth_cap:g} m, then inverted,"
        )
        return self.protocol.format(
            space="depth space (not disparity)" if self.scoring.depth_space == "depth" else clamped
        )

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        assert crop.depth is not None
        return {"depth": torch.from_numpy(relative_depth(crop))}

    def loss(self, output_BChw: Float32[Tensor, "B 1 h w"], target: Target) -> Float32[Tensor, ""]:
        depth_BHW = target["depth"]
        predicted_BHW = enlarge(output_BChw, depth_BHW.shape[1:])[:, 0]
        parts = self._ssi if self.config.depth_loss == "ssi" else self._silog
        losses_B, residual_BHW, mask_BHW = parts(predicted_BHW, depth_BHW)
        if self.config.gradient:
            losses_B = losses_B + self.config.gradient * gradient_loss(residual_BHW[:, None], mask_BHW)
        return losses_B.mean()

    def _silog(self, predicted_BHW: Tensor, depth_BHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each image's loss, the residual whose gradient may be matched, and where both count."""
        floor = self.config.depth_floor
        losses_B = silog(predicted_BHW, depth_BHW, floor)
        if self.config.silog == "root":
            # The gradient of a root at 0 is infinite: images without a valid pixel must not pass through it.
            losses_B = losses_B.clamp(min=TINY**2).sqrt()
        residual_BHW = floored_log(predicted_BHW, floor) - floored_log(depth_BHW, floor)
        return losses_B, residual_BHW, depth_BHW > TINY

    def _ssi(self, predicted_BHW: Tensor, depth_BHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `_silog`; the nearest pixel counts too, no logarithm is taken."""
        mask_BHW = depth_BHW >= 0
        predicted_BHW, depth_BHW = (scale_and_shift_free(d, mask_BHW) for d in (predicted_BHW, depth_BHW))
        residual_BHW = predicted_BHW - depth_BHW
        return masked_mean(residual_BHW.abs(), mask_BHW), residual_BHW, mask_BHW

    def decode(
        self, output_Chw: Float32[Tensor, "1 h w"], view: View, source: tuple[int, int]
    ) -> Float32[np.ndarray, "height width"]:
        return enlarge(output_Chw[None], source)[0, 0].cpu().numpy()

    def unmirror(self, output_BChw: Float32[Tensor, "B 1 h w"]) -> Float32[Tensor, "B 1 h w"]:
        return output_BChw.flip(3)

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "1 _ _"]]:
        """The mean depth, and each pixel's mean depth where it was human (elsewhere the mean)."""
        known, total = torch.zeros(1, 1, 1).double(), torch.zeros(1, 1, 1).double()
        for target in targets:
            known = known + (target["depth"] >= 0)[None]
            total = total + target["depth"].clamp(min=0)[None]
        mean = total.sum() / known.sum().clamp(min=1)
        at_pixel = torch.where(known > 0, total / known.clamp(min=1), mean)
        return {"constant": mean.float().reshape(1, 1, 1), "mean_map": at_pixel.float()}

    def evaluator(self) -> Evaluator:
        return DepthEvaluator(self.scoring)

    def truth(self, labels: Labels, person: int) -> Float32[np.ndarray, "height width"]:
        assert labels.depth is not None
        return labels.depth

    def draw(
        self, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Aligned to the truth and coloured on human pixels only, by the truth's range."""
        assert labels.depth is not None
        mask = scored_pixels(labels, self.scoring)
        if not mask.any():
            return colour_depth(np.zeros_like(prediction))
        truth = labels.depth[mask]
        near, far = (float(value) for value in np.percentile(truth, (1, 99)))
        shown = np.zeros_like(prediction)
        shown[mask] = _aligned(prediction[mask], truth, self.scoring).clip(near, far)
        return colour_depth(shown, near, far)


def scored_pixels(labels: Labels, scoring: Scoring) -> Bool[np.ndarray, "height width"]:
    """Human pixels; in disparity space those within the cap."""
    assert labels.depth is not None
    mask = human_pixels(labels)
    return mask if scoring.depth_space == "depth" else mask & (labels.depth <= scoring.depth_cap)


def _aligned(
    prediction: Float32[np.ndarray, " n"], truth: Float32[np.ndarray, " n"], scoring: Scoring
) -> Float64[np.ndarray, " n"]:
    return align_depth(prediction, truth, scoring.depth_space, scoring.depth_cap)


def relative_depth(crop: Labels) -> Float32[np.ndarray, "height width"]:
    """(d - min) / (max - min) over the human pixels of the crop, near = 0; -1 elsewhere.

    Taken after augmentation, so that it never depends on what the crop does not show.
    """
    assert crop.depth is not None
    mask = human_pixels(crop)
    relative = np.full(crop.depth.shape, BACKGROUND, np.float32)
    if mask.any():
        depth = crop.depth[mask].astype(np.float64)
        span = depth.max() - depth.min()
        relative[mask] = (depth - depth.min()) / (span if span > 0 else 1.0)
    return relative


def silog(
    predicted_BHW: Float32[Tensor, "B H W"], depth_BHW: Float32[Tensor, "B H W"], floor: float
) -> Float32[Tensor, " B"]:
    """Eq. 1-3 of each image: mean of squared log differences minus half the square of their mean."""
    mask_BHW = depth_BHW > TINY
    difference = floored_log(depth_BHW, floor) - floored_log(predicted_BHW, floor)
    mean, mean_of_squares = masked_mean(difference, mask_BHW), masked_mean(difference**2, mask_BHW)
    return mean_of_squares - 0.5 * mean**2


def floored_log(values: Float32[Tensor, "B H W"], floor: float) -> Float32[Tensor, "B H W"]:
    """The logarithm, below `floor` continued by its tangent there."""
    return values.clamp(min=floor).log() + (values - floor).clamp(max=0) / floor


class DepthEvaluator(ImageSums):
    """Mean over images of each image's errors."""

    def __init__(self, scoring: Scoring) -> None:
        super().__init__(1 + len(DepthErrors._fields), mean_scores(DepthErrors._fields))
        self.scoring = scoring

    def add(
        self, key: str, labels: Labels, person: int, prediction: Float32[np.ndarray, "height width"]
    ) -> dict[str, float]:
        assert labels.depth is not None
        mask = scored_pixels(labels, self.scoring)
        if not mask.any():
            return {}
        errors = depth_errors(
            prediction, labels.depth, mask, self.scoring.depth_space, self.scoring.depth_cap
        )
        self.count(key, np.array([1, *errors]))
        return {**errors._asdict(), "pixels": int(mask.sum())}
