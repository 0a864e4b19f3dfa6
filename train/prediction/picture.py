"""What prediction takes and gives: a picture with the people to look at, and what was predicted for it."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped, UInt8


@dataclass(frozen=True, eq=False)
class Boxes:
    """People in a picture, `xyxy` in pixels of the upright original, `score` 0..1."""

    xyxy: Float64[np.ndarray, "people 4"]
    score: Float64[np.ndarray, " people"]

    def __len__(self) -> int:
        return len(self.score)

    def above(self, score: float) -> "Boxes":
        """Those with at least this score."""
        kept = self.score >= score
        return Boxes(self.xyxy[kept], self.score[kept])


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded input. `name`: of its outputs; `digest`: sha256 of the file it comes from; `boxes`: None when
    nobody looked for people; `focal_35mm`: the 35 mm equivalent focal length that the file states (mm).
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    boxes: Boxes | None = None
    digest: str = ""
    focal_35mm: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class Reject:
    """An input that could not be predicted: why, in one word for tables and in a sentence."""

    name: str
    reason: str
    message: str


@dataclass(frozen=True, eq=False)
class Prediction:
    """`values`: (height, width[, channels]) in the dense tasks; (people, points, 3) in pose: x px, y px,
    confidence.
    """

    picture: Picture
    boxes: Boxes | None
    values: Shaped[np.ndarray, "..."]
