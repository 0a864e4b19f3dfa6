"""Where and with what a report was made: commit, versions, machine."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = (
    "vitruvian", "torch", "bpy", "anny", "ray", "dvc", "numpy", "opencv-python-headless", "onnxruntime",
    "rapidocr", "pyarrow", "scikit-image",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """`commit`: of the tree the pipeline lies in, with "+ changes" when files differ from it."""

    commit: str
    versions: Mapping[str, str]
    processor: str
    cores: int
    memory_gib: float
    system: str
    made: str


def this_machine(folder: Path) -> Machine:
    """What can be found out about this process's surroundings; nothing here raises."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        commit=_commit(folder),
        versions={"Python": platform.python_version()} | {name: _version(name) for name in LIBRARIES},
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(pages / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _commit(folder: Path) -> str:
    if shutil.which("git") is None:
        return "unknown (no git)"
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return "unknown (not a git tree)"
    return f"{head} + changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else head


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )
