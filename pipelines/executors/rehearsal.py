"""A Ray cluster rehearsed on one machine: a head and further nodes as processes that can be killed.

For tests, benchmarks and trying things out (docs/cluster.md). Everything lives in a folder of its own and in
sessions of its own: other Rays of this machine are not touched, neither now nor at the end.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

from pipelines.executors.connect import OBJECT_STORE_BYTES, RAY_ENVIRONMENT
from shards.errors import VitruvianError

END_S = 30.0
START_S = 120.0
_LOOPBACK = "127.0.0.1"


@dataclass
class Rehearsal:
    """A running cluster. `environment` is what a process needs to join it: address, token, the same Python.

    `sessions`: the leaders of the nodes' sessions, the head's first.
    """

    folder: Path
    address: str
    dashboard: str
    environment: dict[str, str]
    sessions: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, arguments: Sequence[str], cpus: int) -> subprocess.Popen[bytes]:
        """One more `ray start`, in a session of its own."""
        sizes = (f"--num-cpus={cpus}", f"--object-store-memory={OBJECT_STORE_BYTES}")
        quiet = ("--disable-usage-stats", f"--dashboard-agent-listen-port={_free_port()}")
        command = [_ray(), "start", "--block", *arguments, *sizes, *quiet]
        with (self.folder / f"node-{len(self.sessions)}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        self.sessions.append(process)
        return process

    def add_node(self, cpus: int = 1) -> int:
        """Join another node, wait until the head knows it, and return its number."""
        wanted = self.alive() + 1
        process = self.start([f"--address={self.address}"], cpus)
        self.wait(lambda: self.alive() >= wanted, process)
        return len(self.sessions) - 1

    def kill_node(self, number: int) -> None:
        """SIGKILL to everything on a node at once, as when a machine is taken away."""
        kill_session(self.sessions[number])

    def alive(self) -> int:
        """How many nodes the head holds for alive; 0 while it does not answer."""
        url = f"{self.dashboard}/api/v0/nodes?limit=1000"
        headers = {"authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
                nodes = json.load(answer)["data"]["result"]["result"]
        except (OSError, urllib.error.URLError, KeyError, TypeError, ValueError):
            return 0
        return sum(node["state"] == "ALIVE" for node in nodes)

    def wait(self, ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        """Until `ready()`; raises VitruvianError when the node ends or START_S pass before."""
        deadline = time.monotonic() + START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"node-{len(self.sessions) - 1}.log").read_text(errors="replace")
                raise VitruvianError(f"ray start did not come up:\n{log[-2000:]}")
            time.sleep(0.3)


@contextmanager
def rehearse(cpus: Sequence[int] = (1, 1)) -> Iterator[Rehearsal]:
    """A cluster with a node per entry of `cpus`, the head first; killed and removed at the end."""
    folder = Path(mkdtemp(prefix="vr-", dir="/tmp"))  # short: Ray's socket paths may have 107 characters
    port, dashboard = _free_port(), _free_port()
    cluster = Rehearsal(folder, f"{_LOOPBACK}:{port}", f"http://{_LOOPBACK}:{dashboard}", _environment())
    cluster.environment["RAY_ADDRESS"] = cluster.address
    head = [
        "--head",
        f"--node-ip-address={_LOOPBACK}",
        f"--port={port}",
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={_free_port()}",
        f"--temp-dir={folder / 'ray'}",
    ]
    try:
        process = cluster.start(head, cpus[0])
        cluster.wait(lambda: cluster.alive() >= 1, process)
        for each in cpus[1:]:
            cluster.add_node(each)
        yield cluster
    finally:
        for session in cluster.sessions:
            kill_session(session)
        shutil.rmtree(folder, ignore_errors=True)


def kill_session(leader: subprocess.Popen[bytes]) -> None:
    """SIGKILL to every process of a session (Ray's workers have process groups of their own), until none is
    left: some are being born at the first blow, and large ones take a moment to go.
    """
    deadline = time.monotonic() + END_S
    while (living := session_of(leader.pid)) and time.monotonic() < deadline:
        for pid in living:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    leader.wait()


def session_of(leader: int) -> dict[int, str]:
    """The living processes of a session (Linux): pid -> command name."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(")")
            state, _, _, session = rest.split()[:4]
            if int(session) == leader and state != "Z":
                found[int(entry.name)] = name
    return found


def _environment() -> dict[str, str]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **RAY_ENVIRONMENT, **token, "PATH": path}


def _ray() -> str:
    return str(Path(sys.executable).parent / "ray")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])
