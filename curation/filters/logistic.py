"""A logistic model of a few features, as the offline defaults use: fitted by numpy, kept as readable JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64


@dataclass(frozen=True)
class Logistic:
    """p = 1 / (1 + exp(-(bias + weights . (x - mean) / scale)))."""

    mean: Float64[np.ndarray, " features"]
    scale: Float64[np.ndarray, " features"]
    weights: Float64[np.ndarray, " features"]
    bias: float

    def probability(self, features: Float32[np.ndarray, " features"]) -> float:
        """0..1, to four decimals. Features beyond four scales of the mean count as at four."""
        standard = np.clip((features.astype(np.float64) - self.mean) / self.scale, -4, 4)
        return round(float(1 / (1 + np.exp(-(self.bias + standard @ self.weights)))), 4)

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        """{bias, features: {name: {mean, scale, weight}}}, to six digits."""
        rows = zip(names, self.mean, self.scale, self.weights, strict=True)
        features = {
            name: {"mean": _six(mean), "scale": _six(scale), "weight": _six(weight)}
            for name, mean, scale, weight in rows
        }
        return {"bias": _six(self.bias), "features": features}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], names: Sequence[str]) -> "Logistic":
        """The inverse of `to_json`; ValueError when the features are others."""
        features = content["features"]
        if list(features) != list(names):
            raise ValueError(f"weights of {', '.join(features)}; the features are {', '.join(names)}")
        columns = {
            part: np.array([features[name][part] for name in names]) for part in ("mean", "scale", "weight")
        }
        return cls(columns["mean"], columns["scale"], columns["weight"], float(content["bias"]))


def fit(
    features: Float32[np.ndarray, "rows features"], positive: Bool[np.ndarray, " rows"], ridge: float = 1.0
) -> Logistic:
    """Maximum likelihood with `ridge` times |weights|^2 / 2 against it, both classes weighing half; Newton's
    method.
    """
    x = features.astype(np.float64)
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    x = np.column_stack([np.clip((x - mean) / scale, -4, 4), np.ones(len(x))])
    share = np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum()) * len(x)
    penalty = np.diag([ridge] * features.shape[1] + [1e-6])
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (share * (p - positive)) + penalty @ weights
        curvature = (x * (share * p * (1 - p))[:, None]).T @ x + penalty
        weights = weights - np.linalg.solve(curvature, slope)
    return Logistic(mean, scale, weights[:-1], float(weights[-1]))


def _six(value: float) -> float:
    return float(f"{value:.6g}")
