"""The command line as a whole: what it costs to ask for help, and what it must not import on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS

VITRUVIAN = Path(sys.executable).parent / "vitruvian"
HEAVY = ("bpy", "ray", "torch", "numpy", "pyarrow", "pydantic", "dvc", "cv2", "matplotlib", "rich.progress")


def test_help_names_every_verb() -> None:
    shown = subprocess.run([VITRUVIAN, "--help"], capture_output=True, text=True, check=True).stdout
    assert all(verb in shown for verb in COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    """What keeps `vitruvian --help` under half a second; the time itself is for benchmarks."""
    code = f"""
import sys
sys.argv = ["vitruvian", "--help"]
from pipelines.cli import main
try:
    main()
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"


@pytest.mark.parametrize("verb", list(COMMANDS))
def test_every_verb_has_help(verb: str) -> None:
    shown = subprocess.run([VITRUVIAN, verb, "--help"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0 and "Usage" in shown.stdout, shown.stderr


def test_bad_usage_exits_with_2() -> None:
    for arguments in (["no-such-verb"], ["run", "--no-such-option"], ["run", "no-such-pipeline"]):
        assert subprocess.run([VITRUVIAN, *arguments], capture_output=True, check=False).returncode == 2


@pytest.mark.skipif(sys.platform != "linux", reason="a stage ends with its run on Linux only")
def test_a_stage_ends_when_its_run_is_killed(tmp_path: Path) -> None:
    stage = (
        "import pipelines.cli as c, time; c.end_with_parent(); open('ready', 'w').close(); time.sleep(600)"
    )
    start = f"""
import os, pathlib, signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {stage!r}], env=os.environ | {{"DVC_STAGE": "render"}})
while not pathlib.Path("ready").exists():
    time.sleep(0.05)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", start], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    status = Path(f"/proc/{int(killed.stdout)}/stat")
    for _ in range(600):  # it ends at once; a loaded machine may take its time
        if not status.exists() or " Z " in status.read_text():
            return
        time.sleep(0.1)
    os.kill(int(killed.stdout), signal.SIGKILL)
    pytest.fail("the stage outlived its run")
