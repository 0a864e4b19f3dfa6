"""The process that works: one unit at a time, in its main thread, and a sign of life while it gets on."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pipelines.executors.nodes import memory_bytes
from shards.units import Outcome, Stage, Unit, run_unit, touch_attempt

Work = Callable[[Stage, Unit], None]

# Of a core: a process that uses less is asleep (a dead mount, a lock, a server that never answers). Ray's own
# threads use about 0.01 of one.
AWAKE = 0.05


class Hello(NamedTuple):
    """What a process says once it stands: where it is, and the memory of its machine (bytes)."""

    node: str
    memory: int


class Runner:
    """The actor: keeps `worker`, and with it whatever the worker loaded, from one unit to the next.

    Every `beat_s` it touches the record of the attempt in hand, if it has used the CPU since.
    """

    def __init__(self, worker: Work, beat_s: float) -> None:
        self.worker = worker
        self.beat_s = beat_s
        self.hand: tuple[Stage, str] | None = None
        threading.Thread(target=self._beat, daemon=True, name="beat").start()

    def hello(self) -> Hello:
        """Answers when the process has started and `worker` has arrived."""
        import ray

        return Hello(ray.get_runtime_context().get_node_id(), memory_bytes())

    def run(self, stage: Stage, unit: Unit) -> tuple[Outcome, int]:
        """How the unit ended, and how large this process is now (bytes)."""
        self.hand = stage, unit.name
        try:
            return run_unit(stage, unit, self.worker), _resident_bytes()
        finally:
            self.hand = None

    def _beat(self) -> None:
        used = _cpu_seconds()
        while True:
            time.sleep(self.beat_s)
            before, used = used, _cpu_seconds()
            hand = self.hand
            if hand is not None and used - before > AWAKE * self.beat_s:
                touch_attempt(*hand)


def _cpu_seconds() -> float:
    return sum(os.times()[:4])  # this process and the children it has waited for


def _resident_bytes() -> int:
    """Physical memory of this process; 0 where /proc does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
