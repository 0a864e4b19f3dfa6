"""Two real Ray nodes on one machine: one dies, one joins, the driver dies, and the bytes are the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.executors.rehearsal import Rehearsal, kill_session, rehearse, session_of
from shards.manifest import read_manifest
from shards.units import STATE

VITRUVIAN = str(Path(sys.executable).parent / "vitruvian")
PATIENCE_S = 240.0  # until a test that waits for ever is given up


def make_pool(root: Path, images: int) -> Path:
    """Pictures of noise, each different, two to a unit."""
    folder, random = root / "pool", np.random.default_rng(7)
    folder.mkdir()
    for number in range(images):
        noise = random.integers(0, 255, (240, 320, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:03d}.jpg", quality=80)
    (root / "config.yaml").write_text("pool: {files_per_unit: 2}\n")
    return folder


def start(pool: Path, out: Path, environment: dict[str, str], *how: str) -> subprocess.Popen[str]:
    words = ["curate", "annotate", str(pool), "--out", str(out), "--config", str(pool.parent / "config.yaml")]
    return subprocess.Popen(
        [VITRUVIAN, *words, "--quiet", *how],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(run: subprocess.Popen[str]) -> str:
    printed, _ = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, printed
    return printed


def content(out: Path) -> dict[str, bytes]:
    """Everything that a dataset's digest stands for: manifest and tables."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.parquet"))} | {
        "digest": read_manifest(out).digest.encode()
    }


def wait_for(what: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.02)


def at_work(out: Path, session: int) -> bool:
    """Whether a process of this session has a unit in hand."""
    pids = set(session_of(session))
    for record in (out / STATE / "attempts").glob("[!.]*.json"):
        with suppress(OSError, ValueError):  # done meanwhile
            if json.loads(record.read_bytes())["pid"] in pids:
                return True
    return False


def done(out: Path) -> int:
    return len(list(out.glob("*.parquet")))


def test_a_node_dies_in_the_middle_and_no_byte_differs(tmp_path: Path) -> None:
    pool, out = make_pool(tmp_path, 40), tmp_path / "out"
    finish(start(pool, tmp_path / "inline", dict(os.environ)))
    with rehearse([1, 1]) as cluster:
        run = start(pool, out, cluster.environment, "--executor", "ray")
        other = cluster.sessions[1].pid
        wait_for(lambda: done(out) >= 2 and at_work(out, other), run)
        cluster.kill_node(1)
        printed = finish(run)
    assert "is gone; unit" in printed and "(raylet)" not in printed
    assert content(out) == content(tmp_path / "inline")
    assert not list((out / STATE).glob("quarantine/*")) and not list((out / STATE).glob("attempts/*"))
    assert "up to date" in finish(start(pool, out, dict(os.environ)))


@pytest.mark.slow
def test_a_node_that_joins_is_used_and_a_dead_driver_costs_nothing(tmp_path: Path) -> None:
    pool, out = make_pool(tmp_path, 240), tmp_path / "out"
    finish(start(pool, tmp_path / "inline", dict(os.environ)))
    with rehearse([1]) as cluster:
        run = start(pool, out, cluster.environment, "--executor", "ray")
        wait_for(lambda: done(out) >= 1, run)
        joined = cluster.add_node(1)
        wait_for(lambda: at_work(out, cluster.sessions[joined].pid), run)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        finish(start(pool, out, cluster.environment, "--executor", "ray"))
    assert content(out) == content(tmp_path / "inline")


def test_an_end_leaves_no_process_behind() -> None:
    with rehearse([1]) as cluster:
        sessions = [process.pid for process in cluster.sessions]
        assert any("raylet" in name for name in session_of(sessions[0]).values())
        assert isinstance(cluster, Rehearsal) and cluster.folder.is_dir()
    assert not any(session_of(session) for session in sessions) and not cluster.folder.exists()


LOCAL = """
import os, sys, time
from pipelines.executors import connect
with connect(1, "local") as ray:
    sys.stdout.write("up\\n")
    sys.stdout.flush()
    time.sleep(600)
"""


def test_a_killed_driver_takes_its_local_ray_with_it() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(
        [sys.executable, "-c", LOCAL], stdout=subprocess.PIPE, env=environment, start_new_session=True
    ) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == b"up\n"
        assert {"gcs_server", "raylet"} <= set(session_of(driver.pid).values())
        driver.kill()
    for _ in range(240):
        if not (left := session_of(driver.pid)):
            return
        time.sleep(0.25)
    kill_session(driver)
    raise AssertionError(f"still there after a minute: {left}")
