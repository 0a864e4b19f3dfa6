"""The `scans:` section of a render job: where the scans are, and what is known about them beforehand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from shards.config import Config
from shards.errors import VitruvianError

Layout = Literal["auto", "plain", "renderpeople", "thuman"]
Axis = Literal["auto", "+x", "-x", "+y", "-y", "+z", "-z"]
Unit = Literal["auto", "m", "dm", "cm", "mm", "inch", "foot"]

METRES: Mapping[str, float] = {
    "m": 1.0,
    "dm": 0.1,
    "cm": 0.01,
    "mm": 0.001,
    "inch": 0.0254,
    "foot": 0.3048,
}
"""Length of each unit."""


class ScanRejected(VitruvianError):
    """A scan that cannot be rendered. `reason` is "what:detail" for tables, such as "mesh:empty"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ScanRejected"], tuple[str, str]]:
        return type(self), (self.reason, str(self))  # so that a worker's rejection reaches the driver


class ScanRules(Config):
    """How to read the axes and the size of a scan. "auto" is decided per scan and written into its spec.

    up, front: axes of the file (glTF and most OBJ: +y up). front: the way the person faces. unit: of the
    file's numbers. height_m: scale to this height instead; for busts, and where the numbers mean nothing.
    """

    up: Axis = "auto"
    front: Axis = "auto"
    unit: Unit = "auto"
    height_m: float | None = Field(default=None, gt=0.05, le=3.0)

    @model_validator(mode="after")
    def _consistent(self) -> "ScanRules":
        if "auto" not in (self.up, self.front) and self.up[1] == self.front[1]:
            raise ValueError(f"up ({self.up}) and front ({self.front}) must be different axes")
        if self.unit != "auto" and self.height_m is not None:
            raise ValueError("give a unit or height_m, not both")
        return self


class ScanConfig(ScanRules):
    """A folder of scans. layout: "auto" recognises each scan's own. overrides: rules by name of the scan;
    what they leave at its default is taken from here.
    """

    folder: Path
    layout: Layout = "auto"
    overrides: Mapping[str, ScanRules] = Field(default_factory=dict)

    def rules(self, name: str) -> ScanRules:
        """What holds for the scan called `name`."""
        common = {field: getattr(self, field) for field in ScanRules.model_fields}
        own = self.overrides[name].model_dump(exclude_unset=True) if name in self.overrides else {}
        if "unit" in own and "height_m" not in own:
            common["height_m"] = None
        if "height_m" in own and "unit" not in own:
            common["unit"] = "auto"
        return ScanRules(**(common | own))
