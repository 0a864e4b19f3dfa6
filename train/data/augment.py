"""Random views, backgrounds and distortion: what happens to a sample before it becomes a training example.

Geometry is a random `View`, which moves the picture and every label alike; a new background goes behind the
person (`backdrop`); photometry touches the picture only (`distort`). Defaults are mild, for small data;
`AugmentConfig.published(task)` has the released recipes' ranges (docs/tasks.md).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field, model_validator

from annotation.labels import Labels
from train.data.backdrop import Backdrops, replace_background
from train.data.distort import DistortConfig, Range, distort
from train.data.view import View

_COLOURS = {"brightness": 32, "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": 18}
_DENSE = {**_COLOURS, "zoom": (0.2, 2.0), "rotate": 0, "rotate_probability": 0}
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "pose": {
        **_COLOURS,
        "spread": "normal",
        "scale": (0.5, 1.5),
        "shift": 0.16,
        "shift_probability": 0.3,
        "rotate": 80,
        "rotate_probability": 0.6,
        "half_body": 0.3,
        "channel_swap": 0.5,
        "blur": 0.1,
        "median_blur": 0.1,
        "hole": 1,
    },
    "parts": {**_DENSE, "rotate": 45, "rotate_probability": 0.5, "background": 0.8},
    "depth": {**_DENSE, "rotate": 60, "rotate_probability": 0.5, "background": 0.5},
    "normal": {**_DENSE, "background": 0.5},
    # Not published: the normals' recipe for what lives in the camera's frame, the parts' for silhouettes.
    "pointmap": {**_DENSE, "background": 0.5},
    "albedo": {**_DENSE, "hue": 0, "background": 0.5},
    "alpha": {**_DENSE, "rotate": 45, "rotate_probability": 0.5, "background": 0.8},
}
"""Settings by task. Sources: the released configurations (2024-10); the last three are ours."""


class AugmentConfig(DistortConfig):
    """How far training views and colours may stray. `AugmentConfig.off()` leaves everything as it is.

    In a file, `published: pose` stands for the published settings of a task; other fields beside it
    override them.
    """

    mirror: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    spread: Literal["uniform", "normal"] = "uniform"
    """How scale, shift and angle fill their ranges: evenly (the scale in its logarithm), or by a normal
    distribution cut off at one standard deviation.
    """
    scale: Range = (0.75, 1.25)
    """The window's sides are multiplied by a factor of this range."""
    zoom: Range | None = None
    """Dense tasks as published, instead of scale and shift: the picture is resized by a factor of this range
    and a window of its old size is cut out of it. Below 1 the window is the whole picture, which has lost
    resolution.
    """
    shift: float = Field(default=0.1, ge=0)
    """The window moves by up to this share of its sides."""
    shift_probability: float = Field(default=1.0, ge=0, le=1)
    rotate: float = Field(default=20.0, ge=0, le=180)
    """Largest angle, degrees."""
    rotate_probability: float = Field(default=0.5, ge=0, le=1)
    half_body: float = Field(default=0.0, ge=0, le=1)
    """Pose: probability that the window is put around the upper or the lower body."""
    backgrounds: Path | None = None
    """Folder of pictures without people."""
    background: float = Field(default=0.0, ge=0, le=1)
    """Probability that the background is replaced by one of them."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "published" not in given:
            return given
        task, own = given["published"], {name: value for name, value in given.items() if name != "published"}
        if task not in PUBLISHED:
            raise ValueError(f"published must be one of {', '.join(PUBLISHED)}, got {task!r}")
        preset = {"shift": 0, **PUBLISHED[task]}
        if own.get("backgrounds") is None:
            preset.pop("background", None)
        return {**preset, **own}

    @model_validator(mode="after")
    def _check(self) -> "AugmentConfig":
        for name in ("scale", "zoom", "contrast", "saturation", "hole_size"):
            low, high = getattr(self, name) or (1, 1)
            if not 0 < low <= high:
                raise ValueError(
                    f"{name} must be a range low, high with 0 < low <= high, got [{low}, {high}]"
                )
        if self.background and self.backgrounds is None:
            raise ValueError(f"background {self.background} needs backgrounds, a folder of pictures")
        return self

    @classmethod
    def off(cls) -> "AugmentConfig":
        """No augmentation."""
        return cls(mirror=0, scale=(1, 1), shift=0, rotate=0, rotate_probability=0, photometric_probability=0)

    @classmethod
    def published(cls, task: str, backgrounds: Path | None = None) -> "AugmentConfig":
        """The published settings of a task; without a folder of backgrounds, without replacing any.

        Raises ValueError (pydantic's) for a task that has none.
        """
        return cls.model_validate({"published": task, "backgrounds": backgrounds})


def augment(
    labels: Labels, view: View, config: AugmentConfig, rng: np.random.Generator, backdrops: Backdrops | None
) -> Labels:
    """Picture and labels in a random neighbour of `view`, perhaps before another background, the picture
    distorted. A pure function of its arguments and the generator's state.
    """
    crop = random_view(view, config, rng).apply(labels)
    if backdrops is not None and rng.random() < config.background:
        crop = replace_background(crop, backdrops.draw(view.size, rng))
    assert crop.rgb is not None
    return replace(crop, rgb=distort(crop.rgb, config, rng))


def random_view(view: View, config: AugmentConfig, rng: np.random.Generator) -> View:
    """A random neighbour of `view`: scaled or zoomed, shifted, turned, mirrored. Always draws as many
    numbers.
    """
    placed, chosen = rng.random(4), rng.random(3)
    signed = 2 * placed - 1 if config.spread == "uniform" else cut_normal(placed)
    moved = float(chosen[0] < config.shift_probability)
    detail, factor, reach = 1.0, _scale(config, float(placed[0]), float(signed[0])), config.shift * moved
    if config.zoom is not None:
        zoom = config.zoom[0] + float(placed[0]) * (config.zoom[1] - config.zoom[0])
        detail, factor = min(1.0, zoom), min(1.0, 1 / zoom)
        reach = (1 - factor) / 2  # the window stays within the picture
    return replace(
        view,
        centre=(
            view.centre[0] + float(signed[1]) * reach * view.width,
            view.centre[1] + float(signed[2]) * reach * view.height,
        ),
        width=view.width * factor,
        height=view.height * factor,
        angle=config.rotate * float(signed[3]) if chosen[1] < config.rotate_probability else 0.0,
        mirror=bool(chosen[2] < config.mirror),
        detail=detail,
    )


def _scale(config: AugmentConfig, placed: float, signed: float) -> float:
    """The factor of the window's sides."""
    low, high = config.scale
    if config.spread == "uniform":
        return float(low ** (1 - placed) * high**placed)
    return (low + high) / 2 + signed * (high - low) / 2


def cut_normal(uniform: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    """Uniform numbers in [0, 1) -> standard normal ones cut off at -1 and 1, by the inverse distribution."""
    normal = NormalDist()
    low, high = normal.cdf(-1), normal.cdf(1)
    return np.array([normal.inv_cdf(low + float(u) * (high - low)) for u in uniform])
