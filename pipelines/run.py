"""Reproduce a pipeline folder (dvc.yaml + params.yaml) with DVC: what is up to date is skipped.

DVC decides what has to run; this module only walks its stages in order, so that it can say where it is, and
writes `code.yaml` beforehand: a digest per room of the house and the versions of what the rooms lean on.
Stages name the keys they depend on under `params:`, so an edit in render/ reruns the stages that render and
what follows from a changed result, and nothing else.
"""

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import yaml

from shards.errors import UsageError, VitruvianError
from shards.files import write_atomic
from shards.units import code_digest

PIPELINES = Path(__file__).parent
ROOMS = {
    "shards": "shards",
    "annotation": "annotation",
    "curation": "curation",
    "render": "render",
    "train": "train",
    "report": "pipelines.report",
}
LIBRARIES = (
    "anny",
    "bpy",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "rapidocr",
    "scikit-image",
    "torch",
)
CODE_HEADER = "# Written by `vitruvian run`: what stages depend on besides data and parameters.\n"
TIMINGS = "out/timings.json"  # seconds each stage took when it last ran; the report shows them


@dataclass(frozen=True)
class Progress:
    """A stage is about to run, or it ran, or it was skipped because nothing it depends on has changed."""

    stage: str
    number: int
    total: int
    state: Literal["running", "ran", "skipped"]
    seconds: float = 0.0


@dataclass(frozen=True)
class Reproduced:
    """What one run did, in order of execution."""

    ran: tuple[str, ...]
    skipped: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class StageStatus:
    """Why a stage would run. No reasons but `after`: only if one of those stages changes its output."""

    stage: str
    reasons: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


class StageFailed(VitruvianError):
    """A stage's command failed; `code` is its exit code (3: finished, with quarantined items)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def find_pipeline(name: str) -> Path:
    """The folder of a pipeline, given its path or the name of one of ours. Raises UsageError."""
    for folder in (Path(name), PIPELINES / name):
        if (folder / "dvc.yaml").is_file():
            return folder.resolve()
    known = sorted(path.parent.name for path in PIPELINES.glob("*/dvc.yaml"))
    raise UsageError(
        f"{name}: no such pipeline: neither a folder with a dvc.yaml nor one of: {', '.join(known)}"
    )


def reproduce(folder: Path, notify: Callable[[Progress], None] = lambda _: None) -> Reproduced:
    """Run every stage that is not up to date. Raises StageFailed, UsageError for a bad dvc.yaml."""
    started = time.monotonic()
    ran: list[str] = []
    skipped: list[str] = []
    with _open(folder) as repo:
        names = _in_order(repo)
        for number, name in enumerate(names, start=1):
            if repo.status(targets=[name]):
                notify(Progress(name, number, len(names), "running"))
            begun = time.monotonic()
            did_run = _reproduce_stage(repo, name)
            seconds = time.monotonic() - begun
            if did_run:
                _note_time(folder, name, seconds)
            (ran if did_run else skipped).append(name)
            notify(Progress(name, number, len(names), "ran" if did_run else "skipped", seconds))
    return Reproduced(tuple(ran), tuple(skipped), time.monotonic() - started)


def status(folder: Path) -> list[StageStatus]:
    """Every stage in order, with the reasons why it would run; nothing is run."""
    with _open(folder) as repo:
        changes, ever_ran = repo.status(targets=["dvc.yaml"]), _locked_stages(folder)
        found: dict[str, StageStatus] = {}
        for name in _in_order(repo):
            reasons = tuple(reason for change in changes.get(name, ()) for reason in _reasons(change))
            if name not in ever_ran:
                reasons = ("it has not run here yet",)
            upstream = [found[other] for other in _upstream(repo, name) if other in found]
            after = tuple(other.stage for other in upstream if other.reasons or other.after)
            found[name] = StageStatus(name, reasons, after)
    return list(found.values())


def write_code_digests(folder: Path) -> Path:
    """Write `code.yaml`, what the code and the libraries are now; leave it alone when it says so already."""
    content = {
        **{room: code_digest(package) for room, package in ROOMS.items()},
        "versions": {library: _version(library) for library in LIBRARIES},
    }
    path = folder / "code.yaml"
    text = CODE_HEADER + yaml.safe_dump(content)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text.encode())
    return path


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


@contextlib.contextmanager
def _open(folder: Path) -> Iterator[Any]:
    """DVC's view of a pipeline folder: the working directory, with this Python's folder first on PATH."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    write_code_digests(folder)
    logging.getLogger("dvc").setLevel(logging.WARNING)  # we say what runs; how to `git add` a lock is known
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Spinning OpenMP threads made training ten times slower whenever anything else used a core.
    variables = {"PATH": path, "DVC_NO_ANALYTICS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with contextlib.chdir(folder), _environment(**variables):
        try:
            root = _dvc_root(folder)
            if root is None:
                Repo.init(str(folder), no_scm=True).close()
                root = folder
            # Git only gives DVC its history: an archive without it is reproduced all the same.
            core = {"analytics": False, "check_update": False, "no_scm": not (root / ".git").exists()}
            with Repo(str(root), config={"core": core}) as repo:
                yield repo
        except DvcException as error:
            raise UsageError(f"{folder}: {_chain(error)}") from error


def _dvc_root(folder: Path) -> Path | None:
    return next((place for place in (folder, *folder.parents) if (place / ".dvc").is_dir()), None)


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _in_order(repo: Any) -> list[str]:
    """The names of the folder's stages, each after those it depends on."""
    wanted = {stage.addressing for stage in repo.stage.collect("dvc.yaml")}
    graph = {stage.addressing: _upstream(repo, stage.addressing) for stage in repo.index.graph}
    return [name for name in TopologicalSorter(graph).static_order() if name in wanted]


def _upstream(repo: Any, name: str) -> list[str]:
    graph = repo.index.graph
    return [other.addressing for stage in graph if stage.addressing == name for other in graph[stage]]


def _reproduce_stage(repo: Any, name: str) -> bool:
    """Whether the stage had to run."""
    from dvc.exceptions import ReproductionError

    try:
        return bool(repo.reproduce(targets=[name], single_item=True))
    except ReproductionError as error:
        found = re.search(r"exited with (\d+)$", str(error.__cause__))
        raise StageFailed(
            f"stage {name}: {_chain(error.__cause__ or error)}", int(found[1]) if found else 1
        ) from error


def _chain(error: BaseException) -> str:
    """DVC's own message, and that of what it wraps."""
    cause = f": {error.__cause__}" if error.__cause__ else ""
    return f"{error}{cause}"


def _locked_stages(folder: Path) -> set[str]:
    path = folder / "dvc.lock"
    return set(yaml.safe_load(path.read_text(encoding="utf-8")).get("stages", {})) if path.exists() else set()


def _reasons(change: Any) -> Iterator[str]:
    """One entry of `dvc status`, {"changed deps": {"params.yaml": {"pool": "modified"}}}, in words."""
    if isinstance(change, str):
        yield change
        return
    for kind, places in change.items():
        for place, what in places.items():
            inner = what if isinstance(what, dict) else {"": what}
            for item, state in inner.items():
                label = "output" if kind == "changed outs" else "input"
                where = f"{place} ({item})" if item else place
                yield f"{label} {where} is {'missing' if state == 'deleted' else state}"


def _note_time(folder: Path, name: str, seconds: float) -> None:
    path = folder / TIMINGS
    known = json.loads(path.read_bytes()) if path.exists() else {}
    known[name] = round(seconds, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(known, indent=1).encode())
