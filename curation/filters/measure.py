"""What annotate asks of every filter that scores whole images."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from curation.boxes import RGB


@runtime_checkable
class Measure(Protocol):
    """Scores of whole images, by column of `curation.columns.MEASURED`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that `measure` gives."""
        ...

    def measure(self, images: Sequence[RGB]) -> list[dict[str, float]]:
        """Column -> value for each image, in order. An image's values depend on that image alone."""
        ...

    def identity(self) -> dict[str, str]:
        """Names, and sha256 of weights, of everything that the values depend on: part of the stage key."""
        ...
