"""Where units of work run: in this process (`inline`) or in a bounded pool of actors (`ray`), same bytes.

Attempts, markers and quarantine are files that `shards.units` keeps, so an executor holds no state worth
saving: kill it and run again. docs/cluster.md says what each death costs.
"""

from collections.abc import Callable, Iterator, Sequence

from pipelines.executors.connect import connect
from pipelines.executors.pool import Gpus, Limits, run_pool
from shards.errors import UsageError
from shards.units import Outcome, Stage, Unit, run_unit

__all__ = ["Gpus", "Work", "connect", "run_units"]

Work = Callable[[Stage, Unit], None]
STALL_S = 1800.0


def run_units(
    stage: Stage,
    units: Sequence[Unit],
    worker: Work,
    executor: str = "inline",
    workers: int | None = None,
    address: str | None = None,
    gpus: Gpus = "none",
    gpu_share: float = 1.0,
    retire_bytes: int | None = None,
    stall_s: float = STALL_S,
) -> Iterator[Outcome]:
    """Run `worker(stage, unit)` for every unit; yield the outcomes (done, skipped, quarantined) as they come.

    A unit that raises, or kills its process, is tried again until the stage's `max_attempts` are used up;
    under `ray` attempts are counted from the start of this call, and the loss of a node costs none.
    `workers` is the number of processes under `ray`; by default one per CPU of the cluster, followed up when
    nodes join or leave. `address` (default: RAY_ADDRESS) names a running cluster; without one a local Ray is
    started, and shut down at the end. `gpus` says whether each process under `ray` gets `gpu_share` of a GPU:
    "none", "auto" (if the cluster has any), "one"; there are then at most as many processes as fit the GPUs.
    A process under `ray` that has grown beyond `retire_bytes` (default: its share of four fifths of its
    machine's memory) is replaced after its unit. One that uses no CPU for `stall_s` seconds with a unit in
    hand is killed, which costs the unit an attempt.
    `worker` must be picklable. Raises UsageError for a bad argument or from the worker (every unit would
    fail alike), VitruvianError when worker processes die before they can start on a unit, or when for
    `stall_s` seconds none can be started.
    """
    if executor not in ("inline", "ray"):
        raise UsageError(f"executor: expected 'inline' or 'ray', got {executor!r}")
    if workers is not None and workers < 1:
        raise UsageError(f"workers: expected at least 1, got {workers}")
    if not 0 < gpu_share <= 1:
        raise UsageError(f"gpu_share: expected a share of one GPU in (0, 1], got {gpu_share}")
    if stall_s <= 0:
        raise UsageError(f"stall_s: expected seconds above 0, got {stall_s}")
    if executor == "inline":
        return _run_inline(stage, units, worker)
    return _run_ray(stage, units, worker, address, Limits(workers, gpus, gpu_share, retire_bytes, stall_s))


def _run_inline(stage: Stage, units: Sequence[Unit], worker: Work) -> Iterator[Outcome]:
    for unit in units:
        yield run_unit(stage, unit, worker)


def _run_ray(
    stage: Stage, units: Sequence[Unit], worker: Work, address: str | None, limits: Limits
) -> Iterator[Outcome]:
    if not units:
        return
    with connect(limits.workers and min(limits.workers, len(units)), address) as ray:
        yield from run_pool(ray, stage, units, worker, limits)
