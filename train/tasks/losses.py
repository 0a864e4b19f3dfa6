"""Pieces of losses that tasks share: means over a mask, gradient matching, scale-and-shift-free residuals.

Shapes: B batch, C channels, H W pixels. Where a mask is empty every function gives 0 with a finite gradient.
"""

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

SCALES = 4
SMALLEST_SPREAD = 1e-6


def masked_mean(
    values_BHW: Float32[Tensor, "B H W"], mask_BHW: Bool[Tensor, "B H W"]
) -> Float32[Tensor, " B"]:
    """Each image's mean over its mask; 0 where the mask is empty."""
    inside = values_BHW.where(mask_BHW, 0).sum((1, 2))
    return inside / mask_BHW.sum((1, 2)).clamp(min=1)


def gradient_loss(
    residual_BCHW: Float32[Tensor, "B C H W"], mask_BHW: Bool[Tensor, "B H W"]
) -> Float32[Tensor, " B"]:
    """Multi-scale gradient matching (Ranftl et al., "Towards Robust Monocular Depth Estimation", Eq. 11):
    mean |dx| + |dy| of the residual (prediction - truth) between neighbours that are both in the mask, mean
    over the channels and over `SCALES` scales, of which each takes every second pixel of the one before.
    """
    channels = residual_BCHW.shape[1]
    residual = residual_BCHW.flatten(0, 1)
    mask = mask_BHW.repeat_interleave(channels, 0)
    total = residual.new_zeros(len(residual))
    for scale in range(SCALES):
        step = 2**scale
        r, m = residual[:, ::step, ::step], mask[:, ::step, ::step]
        total = total + masked_mean((r[:, :, 1:] - r[:, :, :-1]).abs(), m[:, :, 1:] & m[:, :, :-1])
        total = total + masked_mean((r[:, 1:] - r[:, :-1]).abs(), m[:, 1:] & m[:, :-1])
    return total.view(-1, channels).mean(1) / SCALES


def scale_and_shift_free(
    values_BHW: Float32[Tensor, "B H W"], mask_BHW: Bool[Tensor, "B H W"]
) -> Float32[Tensor, "B H W"]:
    """(values - median) / mean |values - median| over the mask: the same for a v + b with any a > 0 and b
    (Ranftl et al., Eq. 5). 0 outside the mask.
    """
    flat, mask = values_BHW.flatten(1), mask_BHW.flatten(1)
    median = flat.masked_fill(~mask, torch.nan).nanmedian(1).values
    # An empty mask has the median NaN, which reaches no value: all are outside.
    centred = (values_BHW - median[:, None, None]).where(mask_BHW, 0)
    spread = masked_mean(centred.abs(), mask_BHW).clamp(min=SMALLEST_SPREAD)
    return centred / spread[:, None, None]
