"""Where the files that specs name lie on this machine. Not part of a spec: content is, by digest."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """hdris: environments (None: bpy's own). scans: of `ScanSpec`s. assets: MakeHuman garments, hair, skins
    and poses. A spec that needs a folder that is None cannot be built, and says so.
    """

    hdris: Path | None = None
    scans: Path | None = None
    assets: Path | None = None


NO_FOLDERS = Folders()
