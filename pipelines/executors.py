"""Where units of work run: in this process (`inline`) or in a bounded pool of actors (`ray`), same bytes.

Attempts, markers and quarantine are files that `shards.units` keeps, so an executor holds no state worth
saving: kill it and run again. An actor that dies (`os._exit`, out of memory, SIGKILL) costs the unit it held
one attempt and is replaced.
"""

import math
import os
import secrets
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from shards.errors import UsageError, VitruvianError
from shards.units import Outcome, Stage, Unit, run_unit

Work = Callable[[Stage, Unit], None]

# Ray's own defaults would report usage over the network and warn about GPUs nobody asked for.
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
OBJECT_STORE_BYTES = (
    128 << 20
)  # units and outcomes are small JSON; samples never pass through the object store
Gpus = Literal["none", "auto", "one"]

CPU_SHARE = (
    0.9  # of all CPUs, for the actors together: with every CPU taken, Ray's own tasks wait for ever (#44687)
)


def run_units(
    stage: Stage,
    units: Sequence[Unit],
    worker: Work,
    executor: str = "inline",
    workers: int | None = None,
    address: str | None = None,
    gpus: Gpus = "none",
    retire_bytes: int | None = None,
) -> Iterator[Outcome]:
    """Run `worker(stage, unit)` for every unit; yield the outcomes (done, skipped, quarantined) as they come.

    A unit that raises, or kills its process, is tried again until the stage's `max_attempts` are used up.
    `workers` is the number of processes under `ray` (default: one per core). `address` (default:
    RAY_ADDRESS) names a running cluster; without one a local Ray is started, and shut down at the end.
    `gpus` says whether each process under `ray` gets a GPU of its own: "none", "auto" (if the cluster has
    any), "one"; there are then at most as many processes as GPUs. A process under `ray` that has grown
    beyond `retire_bytes` (default: its share of four fifths of the memory) is replaced after its unit.
    `worker` must be picklable. Raises UsageError for a bad argument or from the worker (every unit would
    fail alike), VitruvianError when worker processes die before they can start on a unit.
    """
    if executor not in ("inline", "ray"):
        raise UsageError(f"executor: expected 'inline' or 'ray', got {executor!r}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers: expected at least 1, got {workers}")
    if executor == "inline":
        return _run_inline(stage, units, worker)
    workers = min(workers or _cores(), max(1, len(units)))
    return _run_ray(stage, units, worker, workers, address, gpus, retire_bytes)


def _run_inline(stage: Stage, units: Sequence[Unit], worker: Work) -> Iterator[Outcome]:
    for unit in units:
        yield run_unit(stage, unit, worker)


def _run_ray(
    stage: Stage,
    units: Sequence[Unit],
    worker: Work,
    workers: int,
    address: str | None,
    gpus: Gpus,
    retire_bytes: int | None,
) -> Iterator[Outcome]:
    if not units:
        return
    with _ray(workers, address) as ray:
        devices = 0 if gpus == "none" else int(ray.cluster_resources().get("GPU", 0))
        if gpus == "one" and not devices:
            raise UsageError("gpus: Ray finds no GPU; use the cpu, or join a cluster that has some")
        workers = min(workers, devices) if devices else workers
        limit = _share_of_memory(workers) if retire_bytes is None else retire_bytes
        pool = _Pool(ray, worker, workers, 1 if devices else 0, limit)
        try:
            yield from pool.run(stage, units)
        finally:
            pool.close()


class _Runner:
    """The actor: keeps `worker`, and with it whatever the worker loaded, from one unit to the next."""

    def __init__(self, worker: Work) -> None:
        self.worker = worker

    def run(self, stage: Stage, unit: Unit) -> tuple[Outcome, int]:
        """How the unit ended, and how large this process is now (bytes)."""
        return run_unit(stage, unit, self.worker), _resident_bytes()


class _Pool:
    """At most `workers` actors, each with at most one unit in hand."""

    def __init__(self, ray: Any, worker: Work, workers: int, gpus: int, retire_bytes: int) -> None:
        self.ray = ray
        self.retire_bytes = retire_bytes
        self.worker = ray.put(worker)
        self.workers = workers
        self.actor_class = ray.remote(**_actor_options(ray, workers, gpus))(_Runner)
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Unit]] = {}  # reference to the outcome -> (actor, unit)

    def run(self, stage: Stage, units: Sequence[Unit]) -> Iterator[Outcome]:
        waiting, lost = deque(units), Counter[str]()
        while waiting or self.busy:
            while waiting and len(self.busy) < self.workers:
                self._submit(stage, waiting.popleft())
            unit, outcome, cause = self._next()
            if outcome is not None:
                yield outcome
                continue
            waiting.append(unit)
            lost[unit.name] += 1
            # The attempt was a file before the work began, so run_unit quarantines a poison unit by itself.
            # A unit lost more often than that never got as far as run_unit.
            if lost[unit.name] > stage.max_attempts:
                raise VitruvianError(_never_started(stage, unit, lost[unit.name], cause))

    def _submit(self, stage: Stage, unit: Unit) -> None:
        actor = self.idle.pop() if self.idle else self.actor_class.remote(self.worker)
        self.busy[actor.run.remote(stage, unit)] = (actor, unit)

    def _next(self) -> tuple[Unit, Outcome | None, str]:
        """The unit that ended first, with its outcome, or None and the cause when its actor died."""
        (reference, *_), _ = self.ray.wait(list(self.busy), num_returns=1)
        actor, unit = self.busy.pop(reference)
        try:
            outcome, resident = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what run_unit lets pass, such as a UsageError
        except self.ray.exceptions.RayError as error:
            self.ray.kill(actor)  # dead already, or not to be trusted again
            return unit, None, str(error).strip()
        if resident > self.retire_bytes:  # it leaks, or its unit was large: the next one starts afresh
            self.ray.kill(actor)
        else:
            self.idle.append(actor)
        return unit, outcome, ""

    def close(self) -> None:
        for actor in [*self.idle, *(actor for actor, _ in self.busy.values())]:
            self.ray.kill(actor)


def _resident_bytes() -> int:
    """Physical memory of this process; 0 where /proc does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _share_of_memory(workers: int) -> int:
    return int(0.8 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / workers)


def _never_started(stage: Stage, unit: Unit, times: int, cause: str) -> str:
    return (
        f"{stage.name}: unit {unit.name}: its worker process died {times} times before it could start on the "
        f"unit; run with --executor inline to see why. Ray says: {cause}"
    )


def _actor_options(ray: Any, workers: int, gpus: int) -> dict[str, Any]:
    """A share of the CPUs that always fits, as many threads per process as there are cores for it, and so
    many GPUs of its own (Ray shows it no others).
    """
    cpus = float(ray.cluster_resources().get("CPU", 0.0))
    share = min(1.0, math.floor(CPU_SHARE * cpus / workers * 1e4) / 1e4) if cpus else 1.0
    threads = str(max(1, _cores() // workers))
    variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    return {
        "num_cpus": share,
        "num_gpus": gpus,
        "max_restarts": 0,
        "max_task_retries": 0,
        "runtime_env": {"env_vars": variables},
    }


@contextmanager
def _ray(workers: int, address: str | None) -> Iterator[Any]:
    """The ray module, connected; what was started or joined here is left again, what the caller had stays."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    address = address or os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        _local_token()
    import ray
    import ray.exceptions

    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address and address != "local":
            ray.init(address=address, **quiet)
        else:
            cpus = max(workers, _cores())
            ray.init(
                "local",
                num_cpus=cpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise VitruvianError(f"could not start or join Ray at {address or 'local'!r}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _local_token() -> None:
    """Ray 2.60 asks for a token. A local Ray lives as long as this process, and so does its token."""
    chosen = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if not chosen and "ray" not in sys.modules:  # Ray reads these when it is imported, and never again
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
