"""The executors: the same bytes inline and under a real Ray, and what a dying worker costs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.executors import connect, run_units
from pipelines.executors.nodes import Node, capacity, cpu_share, per_node, threads
from shards.errors import UsageError, VitruvianError
from shards.manifest import read_markers
from shards.sample import Sample, content_key
from shards.units import Outcome, Stage, Unit, close_stage, open_stage, pending, quarantined
from shards.writer import ShardWriter

UNITS = [Unit(f"part-{number:06d}", {"seed": number}) for number in range(6)]


def write_shard(stage: Stage, unit: Unit) -> None:
    """Three samples that depend on the unit's seed alone."""
    with ShardWriter(stage.out, unit.name) as writer:
        for number in range(3):
            data = f"{unit.payload['seed']}/{number}".encode()
            writer.add(Sample(content_key(data), {"txt": data}))
        writer.commit(
            stage_name=stage.name, stage_key=stage.key, inputs=unit.inputs, run={"pid": os.getpid()}
        )


class DieOnce:
    """Kills its process the first time it meets unit 2, as an out-of-memory killer would."""

    def __call__(self, stage: Stage, unit: Unit) -> None:
        first = stage.out.parent / "died"
        if unit.payload["seed"] == 2 and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        write_shard(stage, unit)


class Poison:
    """Dies on unit 1 every time, raises on unit 3 every time, does the rest."""

    def __call__(self, stage: Stage, unit: Unit) -> None:
        if unit.payload["seed"] == 1:
            os._exit(7)
        if unit.payload["seed"] == 3:
            raise ValueError("this scan has no texture")
        write_shard(stage, unit)


class BadConfig:
    def __call__(self, stage: Stage, unit: Unit) -> None:
        raise UsageError("detector: no such weights")


class CannotArrive:
    """Kills the process that unpickles it: the worker is lost before any attempt can be noted."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)

    def __call__(self, stage: Stage, unit: Unit) -> None:
        raise AssertionError("never called")


class FallsAsleep:
    """Never returns from unit 1: a dead mount, a lock that nobody gives back. Works hard at unit 2."""

    def __call__(self, stage: Stage, unit: Unit) -> None:
        if unit.payload["seed"] == 1:
            time.sleep(600)
        until = time.monotonic() + (13 if unit.payload["seed"] == 2 else 0)
        while time.monotonic() < until:
            sum(range(10_000))
        write_shard(stage, unit)


class NotesThreads:
    def __call__(self, stage: Stage, unit: Unit) -> None:
        (stage.out.parent / unit.name).write_text(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}")
        write_shard(stage, unit)


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    """One local Ray for the module; run_units must use it and leave it running."""
    with connect(workers=2, address="local") as ray:
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a Ray worker cannot import a test file
        yield
        assert ray.is_initialized()
    assert not ray.is_initialized()


def run(out: Path, worker: Any, **options: Any) -> tuple[Stage, dict[str, Outcome]]:
    stage = open_stage(out, "demo", "key", max_attempts=2)
    return stage, {outcome.unit: outcome for outcome in run_units(stage, UNITS, worker, **options)}


def digest(stage: Stage) -> str:
    return close_stage(stage, UNITS, {}).digest


def test_ray_makes_the_bytes_that_inline_makes(tmp_path: Path) -> None:
    inline, first = run(tmp_path / "inline", write_shard)
    pool, second = run(tmp_path / "ray", write_shard, executor="ray", workers=2)
    assert {outcome.status for outcome in [*first.values(), *second.values()]} == {"done"}
    assert list(first) == [unit.name for unit in UNITS] and set(second) == set(first)
    assert digest(inline) == digest(pool)


def test_what_is_done_is_skipped(tmp_path: Path) -> None:
    run(tmp_path / "out", write_shard)
    _, again = run(tmp_path / "out", Poison(), executor="ray", workers=2)
    assert {outcome.status for outcome in again.values()} == {"skipped"}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_killed_actor_costs_one_attempt_and_is_replaced(tmp_path: Path, workers: int) -> None:
    stage, outcomes = run(tmp_path / "out", DieOnce(), executor="ray", workers=workers)
    assert {outcome.status for outcome in outcomes.values()} == {"done"}
    assert {name: outcome.attempts for name, outcome in outcomes.items()} == {
        unit.name: 2 if unit.payload["seed"] == 2 else 1 for unit in UNITS
    }
    clean, _ = run(tmp_path / "clean", write_shard)
    assert digest(stage) == digest(clean)


def test_poison_is_quarantined_and_the_rest_is_done(tmp_path: Path) -> None:
    stage, outcomes = run(tmp_path / "out", Poison(), executor="ray", workers=2)
    status = {name: outcome.status for name, outcome in outcomes.items()}
    assert status == {u.name: "quarantined" if u.payload["seed"] in (1, 3) else "done" for u in UNITS}
    killed, raised = quarantined(stage)
    assert (killed.unit, killed.attempts) == ("part-000001", 2) and "died" in killed.error
    assert (raised.unit, raised.attempts) == ("part-000003", 2) and "no texture" in raised.error
    assert close_stage(stage, UNITS, {}).quarantined == ("part-000001", "part-000003")


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_usage_error_in_the_worker_stops_the_run(tmp_path: Path, executor: str) -> None:
    with pytest.raises(UsageError, match="no such weights"):
        run(tmp_path / "out", BadConfig(), executor=executor, workers=2)
    assert len(pending(open_stage(tmp_path / "out", "demo", "key"), UNITS)) == len(UNITS)


def test_workers_that_cannot_start_end_the_run_instead_of_hanging(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "demo", "key", max_attempts=1)
    with pytest.raises(VitruvianError, match="died 2 times before any could start"):
        list(run_units(stage, UNITS, CannotArrive(), executor="ray", workers=1))


def test_actors_are_reused_and_share_the_cores(tmp_path: Path) -> None:
    run(tmp_path / "out", NotesThreads(), executor="ray", workers=2)
    notes = [(tmp_path / unit.name).read_text().split() for unit in UNITS]
    assert 1 <= len({pid for pid, _ in notes}) <= 2
    cores = len(os.sched_getaffinity(0))
    assert {threads for _, threads in notes} == {str(max(1, cores // 2))}


def test_a_run_given_up_midway_frees_its_actors(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "demo", "key")
    outcomes = run_units(stage, UNITS, write_shard, executor="ray", workers=2)
    assert next(outcomes).status == "done"
    outcomes.close()  # type: ignore[attr-defined]
    _, rest = run(tmp_path / "out", write_shard, executor="ray", workers=2)
    assert set(rest) == {unit.name for unit in UNITS}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "slurm"}, "slurm"),
        ({"workers": 0}, "at least 1"),
        ({"gpu_share": 2.0}, "share of one GPU"),
        ({"stall_s": 0.0}, "above 0"),
    ],
)
def test_bad_arguments_are_usage_errors(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "out", write_shard, **options)


def test_no_units_start_no_ray(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "demo", "key")
    assert list(run_units(stage, [], write_shard, executor="ray")) == []


def test_a_process_that_has_grown_is_replaced(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "parts", "key")
    pair = UNITS[:2]
    grown = [outcome.status for outcome in run_units(stage, pair, write_shard, "ray", 1, retire_bytes=1)]
    assert grown == ["done", "done"]
    pids = {marker.run["pid"] for marker in read_markers(stage.out).values()}
    assert len(pids) == 2  # one byte is always exceeded: a process for each unit


def test_a_unit_that_sleeps_is_ended_and_one_that_works_is_not(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "demo", "key", max_attempts=1)
    found = run_units(stage, UNITS, FallsAsleep(), executor="ray", workers=2, stall_s=6.0)
    status = {outcome.unit: outcome.status for outcome in found}
    assert {name for name, ended in status.items() if ended == "quarantined"} == {"part-000001"}
    assert "no progress for 6 s" in quarantined(stage)[0].error
    assert status["part-000002"] == "done"  # at work for twice the limit, and its only attempt


def test_a_cluster_without_room_is_an_error_that_names_the_units(tmp_path: Path) -> None:
    import ray

    @ray.remote(num_cpus=len(os.sched_getaffinity(0)))
    class Neighbour:
        def ready(self) -> bool:
            return True

    neighbour = Neighbour.remote()  # type: ignore[attr-defined]
    assert ray.get(neighbour.ready.remote())
    stage = open_stage(tmp_path / "out", "demo", "key")
    with pytest.raises(VitruvianError, match=r"no progress for 3 s: Ray starts no worker.*part-000000"):
        list(run_units(stage, UNITS, write_shard, "ray", workers=1, stall_s=3.0))
    ray.kill(neighbour)


def test_attempts_of_a_run_that_was_killed_are_not_held_against_a_unit(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "demo", "key", max_attempts=1)
    attempts = stage.out / ".stage" / "attempts"
    attempts.mkdir()
    (attempts / "part-000004.1.json").write_text('{"host": "spot-17", "pid": 1, "started": 0}')
    outcomes = {o.unit: o for o in run_units(stage, UNITS, write_shard, executor="ray", workers=1)}
    assert outcomes["part-000004"].status == "done"
    assert not list(attempts.iterdir())


@pytest.mark.parametrize(
    ("cpus", "workers", "share", "each"),
    [
        ([2], 2, 0.5, 1),  # the small machine: two processes, and a CPU left
        ([2], 4, 0.25, 1),
        ([1], 1, 0.5, 1),
        ([1], 2, 0.25, 1),
        ([16], 2, 1.0, 8),
        ([16], 16, 0.9375, 1),
        ([0, 16, 16], 32, 0.9375, 1),  # a head that only manages
        ([4, 16], 20, 0.75, 1),  # the small node decides
        ([0.5], 1, 0.25, 1),
    ],
)
def test_processes_never_claim_the_last_cpu_of_a_node(
    cpus: list[float], workers: int, share: float, each: int
) -> None:
    nodes = [Node(str(number), float(has), 0.0) for number, has in enumerate(cpus)]
    assert cpu_share(nodes, workers) == share
    assert threads(nodes, workers) == each
    for node in nodes:
        mine = per_node([node], round(workers * node.cpus / sum(cpus))) if node.cpus else 0
        assert node.cpus == 0 or mine * share < node.cpus


def test_capacity_counts_cpus_or_shares_of_gpus() -> None:
    nodes = [Node("head", 0.0, 0.0), Node("a", 16.0, 2.0), Node("b", 8.0, 1.0)]
    assert capacity(nodes, 0.0) == 24
    assert capacity(nodes, 1.0) == 3
    assert capacity(nodes, 0.25) == 12
    assert capacity([], 0.0) == 1


def test_a_start_that_waits_for_ever_ends_the_process() -> None:
    code = (
        "import time\nfrom pipelines.executors.connect import _ended_after\n"
        "with _ended_after(60.0):\n    pass\nprint('in time', flush=True)\n"
        "with _ended_after(0.2):\n    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "in time\n") and "Timeout" in done.stderr
