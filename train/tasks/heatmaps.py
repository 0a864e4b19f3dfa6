"""Keypoints <-> heat maps: unbiased (UDP) encoding and distribution-aware (DARK) sub-pixel decoding.

Sources: Huang et al., "The Devil is in the Details" (UDP, 2020); Zhang et al., "Distribution-Aware
Coordinate Representation" (DARK, 2020). K points, input H x W, heat map h x w: pixel i of a heat map lies
at i (W - 1) / (w - 1) of the input, so that first and last pixels coincide.
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]


def unit_scale(size: Size, heatmap: Size) -> Float64[np.ndarray, "2"]:
    """Input pixels (x, y) per heat-map pixel, by size - 1; sizes are (height, width)."""
    return np.array([(size[1] - 1) / (heatmap[1] - 1), (size[0] - 1) / (heatmap[0] - 1)])


def encode_heatmaps(
    points: Float[np.ndarray, "K 2"], heatmap: Size, sigma: float
) -> Float32[np.ndarray, "K h w"]:
    """A Gaussian of height 1 around each point (x, y in heat-map pixels), zero beyond 3 sigma of its
    nearest pixel.
    """
    factors = []
    for axis, length in ((1, heatmap[0]), (0, heatmap[1])):
        pixels = np.arange(length)
        centre = points[:, axis, None].astype(np.float64)
        gauss = np.exp(-((pixels - centre) ** 2) / (2 * sigma**2))
        factors.append(np.where(np.abs(pixels - np.floor(centre + 0.5)) <= 3 * sigma, gauss, 0))
    return np.asarray(np.einsum("kh,kw->khw", *factors), dtype=np.float32)


def decode_heatmaps(
    heatmaps_Khw: Float32[Tensor, "K h w"], size: Size, blur: int
) -> tuple[Float64[np.ndarray, "K 2"], Float64[np.ndarray, " K"]]:
    """Points (x, y in input pixels) and scores: the maximum, moved to the top of the parabola through the
    logarithm of the blurred heat map (`blur`: kernel, odd).
    """
    rows, columns = heatmaps_Khw.shape[1:]
    scores, places = heatmaps_Khw.flatten(1).max(1)
    x, y = places % columns, places // columns
    offsets = _parabola_offsets(_blurred(heatmaps_Khw, blur).clamp(1e-3, 50).log().double(), x, y)
    points = torch.stack([x, y], 1).double() + offsets
    scale = unit_scale(size, (rows, columns))
    return points.cpu().numpy() * scale, scores.double().cpu().numpy()


def _blurred(heatmaps_Khw: Float32[Tensor, "K h w"], kernel: int) -> Float32[Tensor, "K h w"]:
    """Gaussian blur with OpenCV's sigma for a kernel size, each map scaled back to its maximum."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    taps = torch.arange(kernel, device=heatmaps_Khw.device) - (kernel - 1) / 2
    weights = torch.exp(-(taps**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    maps = heatmaps_Khw[:, None]
    maps = F.conv2d(maps, weights.view(1, 1, -1, 1), padding=(kernel // 2, 0))
    maps = F.conv2d(maps, weights.view(1, 1, 1, -1), padding=(0, kernel // 2))[:, 0]
    tops = (heatmaps_Khw.amax((1, 2)), maps.amax((1, 2)).clamp(min=1e-12))
    return maps * (tops[0] / tops[1])[:, None, None]


def _parabola_offsets(logs_Khw: Float64[Tensor, "K h w"], x: Tensor, y: Tensor) -> Float64[Tensor, "K 2"]:
    """-H^-1 g of each map at (x, y) by central differences; 0 where the Hessian is singular, at most one
    pixel.
    """
    padded = F.pad(logs_Khw[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    number = torch.arange(len(padded), device=padded.device)

    def at(dx: int, dy: int) -> Tensor:
        return padded[number, y + 1 + dy, x + 1 + dx]

    here = at(0, 0)
    gradient = torch.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], 1) / 2
    xx, yy = at(1, 0) - 2 * here + at(-1, 0), at(0, 1) - 2 * here + at(0, -1)
    xy = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * here - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
    determinant = xx * yy - xy**2
    peak = (determinant > 1e-12) & (xx < 0)
    safe = torch.where(peak, determinant, 1.0)
    solved = torch.stack(
        [yy * gradient[:, 0] - xy * gradient[:, 1], xx * gradient[:, 1] - xy * gradient[:, 0]], 1
    )
    return torch.where(peak[:, None], -solved / safe[:, None], 0.0).clamp(-1, 1)
