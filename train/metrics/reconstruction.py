"""Losses of a masked autoencoder picture by picture, beside predictors that learn nothing, with intervals.

All in training's own units: mean squared error over the hidden patches, each normalised to mean 0 and
variance 1 over its pixels and colours.

Shapes: B images, N patches, K visible, M = N - K hidden, P values of a patch, W widths, S images of the set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped
from torch import Tensor

from train.models.mae import Prediction

WIDTHS = (0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Standard deviations that the neighbours' Gaussian may have, in patches."""
RESAMPLES = 2000


@dataclass
class Losses:
    """What is kept of each picture at one mask ratio, on a grid of (rows, columns) patches."""

    grid: tuple[int, int]
    model: list[float] = field(default_factory=list)
    own_mean: list[float] = field(default_factory=list)
    neighbours: list[Float64[np.ndarray, " W"]] = field(default_factory=list)
    targets: list[Float64[np.ndarray, " P"]] = field(default_factory=list)
    """Each picture's mean target, from which the loss of any constant follows."""

    def add(
        self,
        prediction: Prediction,
        patches_BNP: Float32[Tensor, "b n p"],
        visible_BK: Int64[Tensor, "b k"],
    ) -> None:
        """Score a batch. `patches_BNP`: all its patches, normalised."""
        target = prediction.target_BMP
        self.model += _per_image(prediction.predicted_BMP, target)
        self.own_mean += _per_image(torch.zeros_like(target), target)
        self.targets += list(target.double().mean(dim=1).cpu().numpy())
        known = torch.take_along_dim(patches_BNP, visible_BK[..., None], dim=1)
        guesses = (neighbours(known, visible_BK, prediction.masked_BM, self.grid, width) for width in WIDTHS)
        self.neighbours += list(np.array([_per_image(guess, target) for guess in guesses]).T)

    def of_predictors(self) -> dict[str, Float64[np.ndarray, " S"]]:
        """Loss of each picture by predictor: the model; each hidden patch's own mean; the one normalised
        patch, and the width of the neighbours' Gaussian, that score best on these very pictures.
        """
        targets = np.array(self.targets)
        constant = targets.mean(axis=0)
        flat = np.array(self.own_mean)
        return {
            "model": np.array(self.model),
            "own_mean": flat,
            "best_constant": flat - 2 * (targets * constant).mean(axis=1) + (constant**2).mean(),
            "neighbours": np.array(self.neighbours)[:, self._best()],
        }

    def width(self) -> float:
        """Standard deviation, in patches, with which the neighbours score best."""
        return WIDTHS[self._best()]

    def _best(self) -> int:
        return int(np.mean(self.neighbours, axis=0).argmin())


def _per_image(predicted: Float32[Tensor, "b m p"], target: Float32[Tensor, "b m p"]) -> list[float]:
    errors: list[float] = (predicted - target).double().square().mean(dim=(1, 2)).tolist()
    return errors


def neighbours(
    known_BKP: Float32[Tensor, "b k p"],
    visible_BK: Int64[Tensor, "b k"],
    masked_BM: Int64[Tensor, "b m"],
    grid: tuple[int, int],
    width: float,
) -> Float32[Tensor, "b m p"]:
    """For each hidden patch the mean of the visible ones, weighted by a Gaussian (standard deviation `width`
    patches) of their distance on the grid.
    """
    places = torch.cartesian_prod(torch.arange(grid[0]), torch.arange(grid[1])).float()
    places = places.to(known_BKP.device)
    distances_BMK = torch.cdist(places[masked_BM], places[visible_BK])
    return torch.softmax(-(distances_BMK**2) / (2 * width**2), dim=2) @ known_BKP


def resampled_means(
    losses: Mapping[str, Float64[np.ndarray, " S"]], groups: Sequence[str], seed: int
) -> dict[str, Float64[np.ndarray, " _"]]:
    """Means of `RESAMPLES` bootstrap samples, the same ones for every predictor; pictures of one group (a
    person) are drawn together.
    """
    _, group = np.unique(np.array(groups), return_inverse=True)
    sizes = np.bincount(group)
    sums = np.array([np.bincount(group, weights=values) for values in losses.values()])
    rng, chances = np.random.default_rng(seed), np.full(len(sizes), 1 / len(sizes))
    draws = [rng.multinomial(len(sizes), chances) for _ in range(RESAMPLES)]
    means = np.array([sums @ draw / (sizes @ draw) for draw in draws]).T
    return dict(zip(losses, means, strict=True))


def interval(mean: float, resamples: Shaped[np.ndarray, " _"]) -> dict[str, float]:
    """`mean` between the 2.5 and 97.5 percentiles of its resamples, for JSON."""
    low, high = np.percentile(resamples, (2.5, 97.5))
    return {"mean": float(mean), "low": float(low), "high": float(high)}
