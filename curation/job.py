"""A verb as data: the stage's name and key, its units, the worker that does one, and what the manifest will
say.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shards.units import Stage, Unit


@dataclass(frozen=True)
class Job:
    """What an executor needs to run a verb, and `open_stage` / `close_stage` to frame it. Nothing has run
    yet.

    `worker(stage, unit)` is picklable, loads what it needs in the process that calls it, and commits one
    shard or table.
    """

    name: str
    key: str
    units: tuple[Unit, ...]
    worker: Callable[[Stage, Unit], None]
    provenance: dict[str, Any]
