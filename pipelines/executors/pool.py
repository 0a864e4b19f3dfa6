"""The pool of actors: who has which unit in hand, who died and of what, who hangs.

One loop, no thread: actors are started up to what the cluster takes, those that stand get a unit each, and
what ends is looked at. Ray's own retries are off, since they know neither attempts nor poison.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.executors import nodes as cluster
from pipelines.executors.actor import Runner, Work
from shards.errors import UsageError, VitruvianError
from shards.units import Outcome, Stage, Unit, attempt_seen, blame_attempt, forgive_attempts

Gpus = Literal["none", "auto", "one"]

LOOK_S = 10.0  # how often nodes are counted, and how long one wait for news lasts at most
VERDICT_S = 60.0  # Ray takes 15 s or so to declare a silent node dead
MEMORY_SHARE = 0.8

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What `run_units` was asked for; see there."""

    workers: int | None = None
    gpus: Gpus = "none"
    gpu_share: float = 1.0
    retire_bytes: int | None = None
    stall_s: float = 1800.0


@dataclass
class _Actor:
    """One process: its handle and, once it has said hello, its node and the size at which it is replaced."""

    handle: Any
    shared_by: int
    node: str = ""
    retire_bytes: int = 0


@dataclass
class _Hand:
    """A unit in an actor's hand. `seen`: its record's time stamp; `moved`: when that last changed (our
    clock)."""

    actor: _Actor
    unit: Unit
    seen: float = 0.0
    moved: float = field(default_factory=time.monotonic)


@dataclass
class _Limbo:
    """A unit whose actor went silent: its node is dead (no attempt used), or it was the unit."""

    unit: Unit
    node: str
    cause: str
    deadline: float


def run_pool(
    ray: Any, stage: Stage, units: Sequence[Unit], worker: Work, limits: Limits
) -> Iterator[Outcome]:
    """Run all units in actors of a connected Ray; see `pipelines.executors.run_units`."""
    # Whatever was in hand when an earlier run died, died of that: a poisonous unit kills an actor, not a run.
    forgive_attempts(stage, [unit.name for unit in units])
    pool = _Pool(ray, stage, units, worker, limits)
    try:
        yield from pool.run()
    finally:
        pool.close()


class _Pool:
    """Actors that start, wait, and work; units that wait, are in hand, or are in limbo."""

    def __init__(self, ray: Any, stage: Stage, units: Sequence[Unit], worker: Work, limits: Limits) -> None:
        self.ray, self.stage, self.limits = ray, stage, limits
        self.worker = ray.put(worker)
        self.waiting = deque(units)
        self.starting: dict[Any, _Actor] = {}  # by the reference to its hello
        self.idle: list[_Actor] = []
        self.busy: dict[Any, _Hand] = {}  # by the reference to the outcome
        self.limbo: list[_Limbo] = []
        self.lost = Counter[str]()
        self.failed_starts = 0
        self.progress = time.monotonic()
        self.nodes: list[cluster.Node] = []
        self.looked = 0.0
        self._look()
        self.gpu_share = self._gpu_share()

    def run(self) -> Iterator[Outcome]:
        while self.waiting or self.busy or self.limbo:
            self._look()
            self._grow()
            self._assign()
            outcome = self._next()
            if outcome is not None:
                self.progress = time.monotonic()
                yield outcome
            self._leave_limbo()
            self._end_stalled()

    def close(self) -> None:
        """Kill all actors."""
        hands = [hand.actor for hand in self.busy.values()]
        for actor in [*self.idle, *self.starting.values(), *hands]:
            self._kill(actor)

    # Actors

    def _look(self) -> None:
        """Count the nodes, at most every LOOK_S."""
        if not self.nodes or time.monotonic() - self.looked > LOOK_S:
            self.nodes, self.looked = cluster.alive(self.ray), time.monotonic()

    def _gpu_share(self) -> float:
        found = any(node.gpus for node in self.nodes)
        if self.limits.gpus == "one" and not found:
            raise UsageError("gpus: Ray finds no GPU; use the cpu, or join a cluster that has some")
        return self.limits.gpu_share if found and self.limits.gpus != "none" else 0.0

    def _wanted(self) -> int:
        fits = cluster.capacity(self.nodes, self.gpu_share)
        asked = self.limits.workers or fits
        wanted = min(asked, fits) if self.gpu_share else asked
        return min(wanted, len(self.waiting) + len(self.busy) + len(self.limbo))

    def _grow(self) -> None:
        wanted = self._wanted()
        for _ in range(wanted - len(self.starting) - len(self.idle) - len(self.busy)):
            self._start(wanted)

    def _start(self, wanted: int) -> None:
        number = str(cluster.threads(self.nodes, wanted))
        variables = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), number)
        options = {
            "num_cpus": cluster.cpu_share(self.nodes, wanted),
            "num_gpus": self.gpu_share,
            "scheduling_strategy": "SPREAD",
            "max_restarts": 0,
            "max_task_retries": 0,
            "runtime_env": {"env_vars": variables},
        }
        beat = min(60.0, self.limits.stall_s / 20)
        handle = self.ray.remote(**options)(Runner).remote(self.worker, beat)
        self.starting[handle.hello.remote()] = _Actor(handle, cluster.per_node(self.nodes, wanted))

    def _kill(self, actor: _Actor) -> None:
        with suppress(self.ray.exceptions.RayError):  # its node may be gone
            self.ray.kill(actor.handle)

    # Units

    def _assign(self) -> None:
        while self.waiting and self.idle:
            actor, unit = self.idle.pop(), self.waiting.popleft()
            self.busy[actor.handle.run.remote(self.stage, unit)] = _Hand(actor, unit)
        if not self.waiting and not self.limbo:  # a node without actors is one that can be given back
            while self.idle:
                self._kill(self.idle.pop())

    def _next(self) -> Outcome | None:
        """Wait for one actor's hello or outcome, for a moment at most; None when there is no outcome yet."""
        references = [*self.busy, *self.starting]
        patience = 1.0 if self.limbo else min(LOOK_S, self.limits.stall_s / 4)
        if not references:
            time.sleep(patience)
            return None
        ready, _ = self.ray.wait(references, num_returns=1, timeout=patience)
        if not ready:
            return None
        if ready[0] in self.starting:
            self._greet(ready[0])
            return None
        return self._take(ready[0])

    def _greet(self, reference: Any) -> None:
        actor = self.starting.pop(reference)
        try:
            hello = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self._kill(actor)
            self._note_failed_start(str(error).strip())
            return
        actor.node = hello.node
        share = int(MEMORY_SHARE * hello.memory / actor.shared_by)
        actor.retire_bytes = share if self.limits.retire_bytes is None else self.limits.retire_bytes
        self.idle.append(actor)
        self.failed_starts, self.progress = 0, time.monotonic()

    def _note_failed_start(self, cause: str) -> None:
        self.failed_starts += 1
        if self.failed_starts > self.stage.max_attempts and not (self.idle or self.busy or self.starting):
            raise VitruvianError(_never_started(self.stage, self.failed_starts, cause))
        self.looked = 0.0

    def _take(self, reference: Any) -> Outcome | None:
        """The outcome of a unit, or None when its actor died."""
        hand = self.busy.pop(reference)
        try:
            outcome, resident = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what run_unit lets pass, such as a UsageError
        except self.ray.exceptions.RayError as error:
            self._kill(hand.actor)  # dead already, or not to be trusted again
            self._lose(hand, error)
            return None
        if resident > hand.actor.retire_bytes:  # it leaks, or its unit was large: the next one starts afresh
            self._kill(hand.actor)
        else:
            self.idle.append(hand.actor)
        return outcome  # type: ignore[no-any-return]

    # Losses

    def _lose(self, hand: _Hand, error: Exception) -> None:
        """Whose fault was it? A raylet that lives reports a dead process at once; silence means the node."""
        self.nodes, self.looked = cluster.alive(self.ray), time.monotonic()
        cause = str(error).strip()
        there = hand.actor.node in {node.id for node in self.nodes}
        if getattr(error, "preempted", False) or not there:
            self._forgive(hand.unit, hand.actor.node)
        elif isinstance(error, self.ray.exceptions.ActorUnavailableError):
            deadline = time.monotonic() + VERDICT_S
            self.limbo.append(_Limbo(hand.unit, hand.actor.node, cause, deadline))
        else:
            self._charge(hand.unit, cause)

    def _leave_limbo(self) -> None:
        if not self.limbo:
            return
        there = {node.id for node in cluster.alive(self.ray)}
        for entry in list(self.limbo):
            if entry.node not in there:
                self.limbo.remove(entry)
                self._forgive(entry.unit, entry.node)
            elif time.monotonic() > entry.deadline:
                self.limbo.remove(entry)
                self._charge(entry.unit, entry.cause)

    def _forgive(self, unit: Unit, node: str) -> None:
        _log.warning("%s: node %s is gone; unit %s goes to another", self.stage.name, node[:12], unit.name)
        forgive_attempts(self.stage, [unit.name])
        self.looked = 0.0
        self.waiting.append(unit)

    def _charge(self, unit: Unit, cause: str) -> None:
        # The attempt was a file before the work began, so run_unit quarantines a poison unit by itself.
        # A unit lost more often than that never got as far as run_unit.
        self.lost[unit.name] += 1
        if self.lost[unit.name] > self.stage.max_attempts:
            raise VitruvianError(f"{self.stage.name}: unit {unit.name} is lost again and again: {cause}")
        self.waiting.append(unit)

    def _end_stalled(self) -> None:
        """Kill the actors that stopped getting on; raise when none can be had at all."""
        now, stall = time.monotonic(), self.limits.stall_s
        for hand in self.busy.values():
            if now - hand.moved > stall / 4:
                seen = attempt_seen(self.stage, hand.unit.name)
                if seen != hand.seen:
                    hand.seen, hand.moved = seen, now
                elif now - hand.moved > stall:
                    self._end(hand)
        if self.starting and not self.busy and now - self.progress > stall:
            raise VitruvianError(
                _no_room(self.stage, stall, self.nodes, [unit.name for unit in self.waiting])
            )

    def _end(self, hand: _Hand) -> None:
        error = f"no progress for {self.limits.stall_s:g} s: its process used no CPU, and was killed"
        _log.warning("%s: unit %s: %s", self.stage.name, hand.unit.name, error)
        blame_attempt(self.stage, hand.unit.name, error)
        hand.moved = time.monotonic()  # its reference now fails, which _take looks at
        self._kill(hand.actor)


def _never_started(stage: Stage, times: int, cause: str) -> str:
    return (
        f"{stage.name}: worker processes died {times} times before any could start on a unit; run with "
        f"--executor inline to see why. Ray says: {cause}"
    )


def _no_room(stage: Stage, stall: float, nodes: Sequence[cluster.Node], units: list[str]) -> str:
    named = ", ".join(units[:5]) + (" ..." if len(units) > 5 else "")
    has = ", ".join(f"{node.cpus:g} CPUs and {node.gpus:g} GPUs" for node in nodes[:5])
    return (
        f"{stage.name}: no progress for {stall:g} s: Ray starts no worker process (nodes: {has or 'none'}; "
        f"is another job using them?); {len(units)} units wait: {named}"
    )
