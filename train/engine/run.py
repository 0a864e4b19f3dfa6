"""The folder of a training run: who owns it, whether it is finished, what may be resumed.

`config.json` (written first) is the run's identity: its settings and the digest of its data. `run.json`
(written last) says that it is finished and holds its results.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.errors import UsageError
from shards.files import write_atomic
from train.engine.distributed import World

IDENTITY, RESULT = "config.json", "run.json"


@dataclass(frozen=True)
class Run:
    """A claimed folder. `result`: the contents of run.json when an earlier call finished this very run, else
    None.
    """

    folder: Path
    result: dict[str, Any] | None

    def finish(self, result: Mapping[str, Any]) -> None:
        """Mark the run as finished. Call it on the main rank, last."""
        write_atomic(self.folder / RESULT, _pretty(result))


def open_run(folder: Path, identity: Mapping[str, Any], world: World, *, replace: bool = False) -> Run:
    """Claim `folder` for the run that `identity` (JSON data) describes; every rank must call it.

    A folder with the same identity is resumed, or found finished. Raises UsageError for a folder with another
    identity (deleted instead when `replace`) and for a folder that holds anything else.
    """
    world.barrier()
    wanted = json.loads(json.dumps(identity))
    found = _read(folder / IDENTITY)
    if found is None and folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: not empty and not a training run; choose another --out")
    same = found is None or found == wanted
    if not same and not replace:
        raise UsageError(
            f"{folder}: holds another run; {_difference(found, wanted)}; pass --replace or another --out"
        )
    world.barrier()  # every rank has looked before the main rank changes anything
    if world.is_main:
        if not same:
            shutil.rmtree(folder)
        write_atomic(folder / IDENTITY, _pretty(identity))
    world.barrier()
    return Run(folder, _read(folder / RESULT))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON ({error}); delete the folder or choose another --out") from None


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _difference(found: Any, wanted: Any, path: str = "") -> str:
    """The first few settings that differ, as `name: there x, asked y`."""
    return "; ".join(_differences(found, wanted, path)[:5])


def _differences(found: Any, wanted: Any, path: str) -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = sorted(found.keys() | wanted.keys())
        return [
            line
            for n in names
            for line in _differences(found.get(n), wanted.get(n), f"{path}.{n}".strip("."))
        ]
    return [] if found == wanted else [f"{path}: there {found!r}, asked {wanted!r}"]
