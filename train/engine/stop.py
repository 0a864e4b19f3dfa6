"""Being asked to end: SIGTERM, as Slurm, Kubernetes and torchrun send it some seconds before SIGKILL."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from shards.errors import VitruvianError

GRACE = 30
"""Seconds."""


class Stopped(VitruvianError):
    """The run ended early because it was asked to; a checkpoint of its last step is whole."""

    exit_code = 128 + signal.SIGTERM
    """What shells and schedulers show for a process that SIGTERM ended: 143."""


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, however often it comes (torchrun passes on what Slurm has sent already).
    Outside the main thread, where Python allows no handler, it is never set.
    """
    asked = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def outlive_sigterm(worker: int) -> None:
    """In a loader process: live on for a while after SIGTERM, which Slurm sends to every process of a job, so
    that the training process can finish its step.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
