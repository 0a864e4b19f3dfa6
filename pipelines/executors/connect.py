"""A connection to Ray: the cluster at an address, or one of our own that ends with us. Quiet in both."""

import faulthandler
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shards.errors import VitruvianError

# Ray's own defaults would report usage over the network and warn about GPUs nobody asked for.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    # Ray starts idle processes for a first driver, and does not answer it before they stand: when one of them
    # is killed meanwhile, never (2.60). Ours are started for what they do, so those would only cost memory.
    "RAY_prestart_worker_first_driver": "0",
}
START_S = 300.0  # Ray starts in 3 s, on a very busy machine in 30
# Units and outcomes are small JSON; samples never pass through the object store.
OBJECT_STORE_BYTES = 128 << 20
_AUTH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextmanager
def connect(workers: int | None = None, address: str | None = None) -> Iterator[Any]:
    """The ray module, connected to `address` (default: RAY_ADDRESS), or to a local Ray with a CPU for each of
    `workers` (default: one per core).

    What was started or joined here is left again; a connection that the caller had stays. Raises
    VitruvianError when there is no Ray at the address, or none can be started.
    """
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS")
    local = not address or address == "local"
    if local:
        _local_token()
    import ray
    import ray.exceptions

    if ray.is_initialized():
        yield ray
        return
    try:
        _init(ray, None if local else address, max(workers or 0, cores()))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise VitruvianError(f"could not start or join Ray at {address or 'local'!r}: {error}") from error
    try:
        with _guard(_daemons(ray) if local else []):
            yield ray
    finally:
        ray.shutdown()


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _init(ray: Any, address: str | None, cpus: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    with _ended_after(START_S):
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            store = OBJECT_STORE_BYTES
            ray.init("local", num_cpus=cpus, object_store_memory=store, include_dashboard=False, **quiet)
    # The raylets' messages ("A worker died or was killed ...", a paragraph each) come through another door,
    # which only this closes (Ray 2.60). What matters of them is in our own messages and in the quarantine.
    if hasattr(ray._private.worker, "_worker_logs_enabled"):
        ray._private.worker._worker_logs_enabled = False


@contextmanager
def _ended_after(seconds: float) -> Iterator[None]:
    """End this process, saying where it was, when it is not through in time: ray.init waits for its raylet in
    a call that nothing interrupts, and a run that has ended can be run again.
    """
    if sys.__stderr__ is None:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def _guard(pids: Sequence[int]) -> Iterator[None]:
    """Let these end with this process, however it ends: a SIGKILL would leave Ray's agents behind (2.60)."""
    if not pids:
        yield
        return
    # `read` returns when the last writer of the pipe, this process, is gone.
    script = ("sh", "-c", 'read _; kill -9 "$@" 2>/dev/null', "guard", *map(str, pids))
    guard = subprocess.Popen(script, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _daemons(ray: Any) -> list[int]:
    """The processes of the Ray that this one has started: controller, raylet and its agents (Linux)."""
    node = getattr(ray._private.worker, "_global_node", None)
    started = [entry.process.pid for group in getattr(node, "all_processes", {}).values() for entry in group]
    found = list(started)
    for pid in started:
        with suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return found


def _local_token() -> None:
    """Ray 2.60 asks for a token. A local Ray lives as long as this process, and so does its token."""
    # Ray reads these when it is imported, and never again.
    if not set(_AUTH) & set(os.environ) and "ray" not in sys.modules:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
