"""Person detectors behind one interface; which one runs, and with which weights, is part of the stage key."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

from curation.boxes import RGB, Boxes
from curation.detectors.opencv import OpenCVConfig, OpenCVDetector


@runtime_checkable
class Detector(Protocol):
    """Finds people. Built once per process; `detect` is a pure function of the pixels, whatever the batch."""

    def detect(self, images: Sequence[RGB]) -> list[Boxes]:
        """Boxes around people, one `Boxes` per image, in that image's pixels, all with a score of at least
        0.05.

        Thresholds are `select`'s affair: a detector reports everything it is not sure to be wrong about.
        """
        ...

    def identity(self) -> dict[str, str]:
        """Name and sha256 of the weights: two detectors with the same identity and configuration agree."""
        ...


class OpenCVChoice(OpenCVConfig):
    """`backend: opencv`: the offline smoke default. See `curation.detectors.opencv`."""

    backend: Literal["opencv"] = "opencv"


def load_detector(config: OpenCVChoice) -> Detector:
    """Build the detector that `config.backend` names."""
    return OpenCVDetector(config)
