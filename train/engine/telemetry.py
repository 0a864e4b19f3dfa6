"""What a run says about itself: the progress record, throughput and MFU, the JSON-lines log, TensorBoard."""

import json
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch

# Dense bf16 peak, FLOP/s per device; the sparse figures of data sheets are twice as high.
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}


@dataclass(frozen=True)
class Progress:
    """One line of log.jsonl. `step` counts finished steps; loss and scalars are means over the ranks at that
    step.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    grad_norm: float
    images_per_second: float
    """Over all ranks, since the last line."""
    data_wait: float
    """Share of that time spent waiting for data."""
    mfu: float | None = None
    """Model FLOPs utilisation: the nominal FLOPs of the step over the devices' dense bf16 peak; None on CPUs.
    """
    scalars: dict[str, float] = field(default_factory=dict)
    checkpoint_wait: float = 0.0
    """Share of that time in which a checkpoint held up the loop (mostly: the copy to the CPU)."""
    memory_gib: float = 0.0
    """Peak memory of the main rank so far, GiB: of its GPU, else of its process."""


Report = Callable[[Progress], None]


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 peak of `device`, None for CPUs and for GPUs not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for key, peak in PEAK_FLOPS.items() if key in name), None)


def peak_memory(device: torch.device) -> float:
    """Most memory used so far, GiB: allocated on a GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


class Pace(NamedTuple):
    """What a Meter reads; the waits are shares of the time since the last reading."""

    images_per_second: float
    data_wait: float
    checkpoint_wait: float


class Meter:
    """Images and waiting time since the last reading."""

    def __init__(self) -> None:
        self.images, self.waited, self.saving, self.since = 0, 0.0, 0.0, time.perf_counter()

    def add(self, images: int, waited: float) -> None:
        self.images += images
        self.waited += waited

    def add_saving(self, seconds: float) -> None:
        """The loop stood still for a checkpoint."""
        self.saving += seconds

    def read(self) -> Pace:
        """The pace since the last reading; then start anew."""
        elapsed = max(time.perf_counter() - self.since, 1e-9)
        waits = (min(seconds / elapsed, 1.0) for seconds in (self.waited, self.saving))
        pace = Pace(self.images / elapsed, *waits)
        self.__init__()  # type: ignore[misc]
        return pace


class Log:
    """`log.jsonl` of a run, one Progress a line. Lines past `start` belong to steps that were lost with a
    killed run and will be redone: they are dropped.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / "log.jsonl"
        kept = [line for line in read_log(folder) if line["step"] <= start]
        temporary = self.path.with_name(self.path.name + ".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)

    def write(self, progress: Progress) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(progress)) + "\n")


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line cut off by a kill is ignored."""
    path = folder / "log.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


class TensorBoard:
    """A report that writes TensorBoard events to `folder`, chained before `then`."""

    def __init__(self, folder: Path, then: Report) -> None:
        self.folder, self.then = folder, then

    @cached_property
    def writer(self) -> Any:
        """Opened at the first report, when the run has claimed its folder."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.folder))

    def __call__(self, progress: Progress) -> None:
        for name, value in asdict(progress).items():
            if name not in ("step", "steps", "scalars") and value is not None:
                self.writer.add_scalar(name, value, progress.step)
        for name, value in progress.scalars.items():
            self.writer.add_scalar(f"scalars/{name}", value, progress.step)
        self.writer.flush()
        self.then(progress)
