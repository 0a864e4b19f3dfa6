"""Units of work: what is pending, what was tried, what failed for good. Knows no Ray; an executor calls
`run_unit`.

State is files under `<out>/.stage/`, so that a process killed at any instant leaves the truth behind:
`claim.json` (whose folder this is), `attempts/<unit>.<n>.json` (written before the work starts, removed when
the unit is done), `quarantine/<unit>.json` (the last traceback). Nothing in there is ever digested.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shards.errors import ShardError, UsageError, VitruvianError
from shards.files import MANIFEST_NAME, check_name, discard_temporaries, sweep_temporaries, write_atomic
from shards.manifest import Manifest, Marker, read_marker, read_markers, remove_marker, write_manifest
from shards.sample import canonical_json

STATE = ".stage"
_COMPILED = (".pyc", ".pyo", ".so", ".pyd")


@dataclass(frozen=True)
class Unit:
    """One unit of work = one output shard or table, called `name`.

    `payload`: what the worker needs, as plain JSON data. `inputs`: name -> digest of what the output depends
    on besides the stage's key; when they change, the unit is pending again.
    """

    name: str
    payload: dict[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A claimed output folder. `key`: digest of everything but the units: configuration, code, weights, input
    manifest.
    """

    name: str
    key: str
    out: Path
    max_attempts: int = 3


@dataclass(frozen=True)
class Outcome:
    """How one unit ended. `error` is the last traceback of a quarantined unit; `seconds` counts this
    process's work.
    """

    unit: str
    status: Literal["done", "skipped", "quarantined"]
    attempts: int
    seconds: float
    samples: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Quarantined:
    """A unit that failed `attempts` times, and how the last time went."""

    unit: str
    attempts: int
    error: str


Work = Callable[[Stage, Unit], None]


def open_stage(out: Path, name: str, key: str, replace: bool = False, max_attempts: int = 3) -> Stage:
    """Claim the folder `out` for stage `name` with `key`; an earlier claim with the same key is continued.

    Quarantined units get a fresh set of attempts: whoever runs a stage again wants them tried again. With
    `replace`, what this stage made under another key is deleted and the rest kept. Raises UsageError for a
    folder that holds anything else, or another stage's output (never deleted), or another key's without
    `replace`.
    """
    stage = Stage(name, key, out, max_attempts)
    if max_attempts < 1:
        raise UsageError(f"max_attempts: expected at least 1, got {max_attempts}")
    claim = require_own(out, name)
    if claim is not None and claim.get("key") != key:
        if not replace:
            raise UsageError(
                f"{out}: made by stage {name!r} with key {str(claim.get('key'))[:12]}, this run has "
                f"{key[:12]}: its configuration, code or input changed; pass --replace to remake what "
                "differs, or choose another --out"
            )
        _delete_other_keys(stage)
    shutil.rmtree(_quarantine(stage), ignore_errors=True)
    write_atomic(out / STATE / "claim.json", canonical_json({"name": name, "key": key}))
    return stage


def require_own(out: Path, name: str) -> dict[str, Any] | None:
    """The claim that stage `name` has on the folder `out`, None when nobody has one; nothing is written.

    For whoever must write beneath `out` before the stage can be opened. Raises UsageError for a folder that
    holds anything else, or another stage's output.
    """
    claim = _read_claim(out)
    if claim is None:
        _require_empty(out)
    elif claim.get("name") != name:
        raise UsageError(
            f"{out}: holds the output of stage {claim.get('name')!r}, not {name!r}; choose another --out"
        )
    return claim


def pending(stage: Stage, units: Iterable[Unit]) -> list[Unit]:
    """The units without a valid marker of this stage's key and their own inputs, in the given order.

    Valid: the marker can be read and the files it names are there with the sizes it names (contents: `verify
    --deep`).
    """
    units = list(units)
    _require_distinct(units)
    return [unit for unit in units if _marker(stage, unit) is None]


def run_unit(stage: Stage, unit: Unit, work: Work) -> Outcome:
    """Call `work(stage, unit)` until it commits the shard `unit.name`, at most `stage.max_attempts` times in
    all.

    An attempt is a file written before the work starts, so a process killed mid-way has used one. Failures
    end in quarantine, not in an exception; UsageError (every unit would fail alike) and KeyboardInterrupt
    pass through and cost no attempt. A unit that is already done is not run.
    """
    started = time.monotonic()
    if (marker := _marker(stage, unit)) is not None:
        _clear_attempts(stage, unit.name)
        return _outcome(marker, "skipped", 0, started)
    error = None
    for attempt in range(_attempts(stage, unit.name) + 1, stage.max_attempts + 1):
        error = _attempt(stage, unit, work, attempt)
        if error is None:
            done = _marker(stage, unit)
            assert done is not None  # _attempt saw it
            _clear_attempts(stage, unit.name)
            return _outcome(done, "done", attempt, started)
    return _put_in_quarantine(stage, unit, error, started)


def quarantined(stage: Stage) -> list[Quarantined]:
    """The units that failed for good since the stage was opened, sorted by name."""
    found = [json.loads(path.read_bytes()) for path in sorted(_quarantine(stage).glob("*.json"))]
    return [Quarantined(entry["unit"], entry["attempts"], entry["error"]) for entry in found]


def forgive_attempts(stage: Stage, names: Iterable[str]) -> None:
    """Forget the attempts of these units: they ended with something that was not the units' fault, such as
    the loss of a machine or of the run before this one.
    """
    wanted = set(names)
    for path in (stage.out / STATE / "attempts").glob("*.json"):
        if path.name.split(".")[0] in wanted:
            path.unlink(missing_ok=True)


def touch_attempt(stage: Stage, name: str) -> None:
    """Say that the attempt under way at a unit gets on; `attempt_seen` is then later than before."""
    path = _attempt_path(stage, name, _attempts(stage, name))
    try:
        os.utime(path)
    except FileNotFoundError:
        return


def attempt_seen(stage: Stage, name: str) -> float:
    """When the last attempt at a unit began or was touched, by the clock of whoever keeps the files; 0:
    there is none.
    """
    try:
        return _attempt_path(stage, name, _attempts(stage, name)).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def blame_attempt(stage: Stage, name: str, error: str) -> None:
    """Note in the last attempt at a unit why it was ended from outside: what a quarantine would quote."""
    path = _attempt_path(stage, name, _attempts(stage, name))
    try:
        entry = json.loads(path.read_bytes())
    except FileNotFoundError:
        return
    write_atomic(path, canonical_json({**entry, "error": _printable(error)}))


def close_stage(stage: Stage, units: Iterable[Unit], provenance: Mapping[str, Any]) -> Manifest:
    """Write the manifest once every unit is done or quarantined; `provenance` must not vary between runs.

    Outputs of units no longer in the list, and temporaries of killed processes, are removed. Raises
    VitruvianError, naming them, when units are still pending.
    """
    units = list(units)
    failed = {entry.unit for entry in quarantined(stage)}
    left = [unit.name for unit in pending(stage, units)]
    if missing := [name for name in left if name not in failed]:
        raise VitruvianError(
            f"{stage.out}: {len(missing)} of {len(units)} units are neither done nor quarantined: "
            f"{_first(missing)}; run the stage again"
        )
    wanted = {unit.name for unit in units} - set(left)
    for name in read_markers(stage.out):
        if name not in wanted:
            _delete_shard(stage.out, name)
    sweep_temporaries(stage.out)
    origin = {"stage": {"name": stage.name, "key": stage.key}, **provenance}
    return write_manifest(stage.out, origin, tuple(left))


def code_digest(*packages: str) -> str:
    """sha256 over the names and bytes of the packages' (or single modules') source and data files.

    Compiled and hidden files do not count. A package is found without importing it (its parents are
    imported).
    """
    digest = hashlib.sha256()
    for package in sorted(set(packages)):
        spec = importlib.util.find_spec(package)
        if spec is None or not (spec.origin or spec.submodule_search_locations):
            raise UsageError(f"code_digest: no package or module {package!r}")
        roots = [Path(root) for root in spec.submodule_search_locations or ()]
        for name, path in _source_files(package, roots or [Path(str(spec.origin))]):
            content = path.read_bytes()
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def _source_files(package: str, roots: Sequence[Path]) -> list[tuple[str, Path]]:
    found = []
    for root in roots:
        for path in [root] if root.is_file() else root.rglob("*"):
            name = "" if path == root else path.relative_to(root).as_posix()
            hidden = any(part.startswith(".") or part == "__pycache__" for part in name.split("/"))
            if path.is_file() and not hidden and path.suffix not in _COMPILED:
                found.append((f"{package}/{name}", path))
    return sorted(found)


def _attempt(stage: Stage, unit: Unit, work: Work, attempt: int) -> str | None:
    """One try: None when the unit's shard got committed, else the traceback."""
    record = _attempt_path(stage, unit.name, attempt)
    entry = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
    write_atomic(record, canonical_json(entry))
    try:
        work(stage, unit)
        if _marker(stage, unit) is None:
            raise ShardError(
                f"unit {unit.name!r}: the worker returned, but committed no shard of that name with "
                f"stage_key={stage.key[:12]!r}... and the unit's inputs"
            )
    except (UsageError, KeyboardInterrupt):
        record.unlink(missing_ok=True)
        raise
    except Exception:
        error = traceback.format_exc()
        write_atomic(record, canonical_json({**entry, "error": _printable(error)}))
        return error
    return None


def _put_in_quarantine(stage: Stage, unit: Unit, error: str | None, started: float) -> Outcome:
    attempts = _attempts(stage, unit.name)
    reason = _printable(error or _last_error(stage, unit.name, attempts))
    entry = {"unit": unit.name, "attempts": attempts, "error": reason}
    write_atomic(_quarantine(stage) / f"{unit.name}.json", canonical_json(entry))
    _clear_attempts(stage, unit.name)
    discard_temporaries(stage.out, unit.name)
    return Outcome(unit.name, "quarantined", attempts, time.monotonic() - started, error=reason)


def _last_error(stage: Stage, name: str, attempt: int) -> str:
    record = json.loads(_attempt_path(stage, name, attempt).read_bytes())
    died = (
        f"process {record['pid']} on {record['host']} died during attempt {attempt} (killed, out of memory?)"
    )
    return str(record.get("error", died))


def _outcome(marker: Marker, status: Literal["done", "skipped"], attempts: int, started: float) -> Outcome:
    seconds = time.monotonic() - started
    return Outcome(marker.name, status, attempts, seconds, marker.samples, marker.rejects)


def _marker(stage: Stage, unit: Unit) -> Marker | None:
    """The unit's marker when it is valid for this stage and these inputs."""
    check_name(unit.name)
    try:
        marker = read_marker(stage.out, unit.name)
    except ShardError:
        return None
    if marker is None or (marker.stage_name, marker.stage_key) != (stage.name, stage.key):
        return None
    if marker.inputs != dict(unit.inputs):
        return None
    for name, file in marker.files.items():
        path = stage.out / name
        if not path.is_file() or path.stat().st_size != file.bytes:
            return None
    return marker


def _attempt_path(stage: Stage, name: str, attempt: int) -> Path:
    return stage.out / STATE / "attempts" / f"{name}.{attempt}.json"


def _attempts(stage: Stage, name: str) -> int:
    """How many attempts a unit has used: the highest number among its files."""
    found = (stage.out / STATE / "attempts").glob(f"{name}.*.json")
    return max((int(path.name.split(".")[-2]) for path in found), default=0)


def _clear_attempts(stage: Stage, name: str) -> None:
    for path in (stage.out / STATE / "attempts").glob(f"{name}.*.json"):
        path.unlink(missing_ok=True)


def _quarantine(stage: Stage) -> Path:
    return stage.out / STATE / "quarantine"


def _read_claim(out: Path) -> dict[str, Any] | None:
    path = out / STATE / "claim.json"
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise ShardError(f"{path}: not JSON: {error}; delete {out} and run again") from None
    return content if isinstance(content, dict) else {}


def _require_empty(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: a file; --out needs a folder")
    found = sorted(path.name for path in out.glob("[!.]*"))
    if found:
        raise UsageError(
            f"{out}: holds files that no stage made ({_first(found)}); choose another --out or empty it"
        )


def _require_distinct(units: Sequence[Unit]) -> None:
    counts = Counter(unit.name for unit in units)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise UsageError(
            f"units with the same name: {_first(twice)}; each makes one shard, so names must differ"
        )


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _delete_other_keys(stage: Stage) -> None:
    (stage.out / MANIFEST_NAME).unlink(missing_ok=True)
    for name, marker in read_markers(stage.out).items():
        if (marker.stage_name, marker.stage_key) != (stage.name, stage.key):
            _delete_shard(stage.out, name)
    shutil.rmtree(stage.out / STATE / "attempts", ignore_errors=True)


def _delete_shard(folder: Path, name: str) -> None:
    marker = read_marker(folder, name)
    remove_marker(folder, name)
    for file in marker.files if marker else ():
        (folder / file).unlink(missing_ok=True)
    discard_temporaries(folder, name)


def _printable(text: str) -> str:
    """Text that canonical JSON accepts: a traceback may quote undecodable bytes as lone surrogates."""
    return text.encode("utf-8", "replace").decode("utf-8")
