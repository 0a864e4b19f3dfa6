"""Training on Ray: the same plain functions as under torchrun, their ranks being workers of Ray Train.

Ray starts the ranks, joins them to one process group, and starts them again when one is lost; everything else
stays ours. The run's folder holds the checkpoints (Ray is given none), samples are read by position (no Ray
Data), so a run goes on exactly where its last checkpoint stands, also with another number of ranks.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread, current_thread, main_thread
from typing import Any, TypeVar

from pipelines.executors.connect import connect
from shards.errors import UsageError, VitruvianError
from train.engine.telemetry import Progress, Report, read_log

T = TypeVar("T")
FOLLOW_S = 1.0  # how often the driver looks for news


@dataclass(frozen=True)
class Ranks:
    """How many ranks: `low` to `high`, as many as there is room for; Ray looks every minute."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> "Ranks":
        """From `"8"` or `"4:8"`. Raises UsageError."""
        low, _, high = text.partition(":")
        try:
            ranks = cls(int(low), int(high or low))
        except ValueError:
            raise UsageError(
                f"--nproc: expected N, or MIN:MAX with a launcher of ray, got {text!r}"
            ) from None
        if not 1 <= ranks.low <= ranks.high:
            raise UsageError(f"--nproc: expected 1 <= MIN <= MAX, got {text!r}")
        return ranks

    @property
    def elastic(self) -> bool:
        return self.low < self.high

    def check(self, batch: int, accumulate: int) -> None:
        """Raise UsageError when `batch` cannot be cut for every number of ranks that may come."""
        bad = [ranks for ranks in range(self.low, self.high + 1) if batch % (ranks * accumulate)]
        if bad:
            raise UsageError(
                f"batch {batch} must be a multiple of ranks x {accumulate} accumulated micro-batches for "
                f"every number of ranks that may come; it is not for {', '.join(map(str, bad))}"
            )


def launch(
    work: Callable[[], T],
    ranks: Ranks,
    out: Path,
    report: Report = lambda progress: None,
    *,
    restarts: int = 3,
    address: str | None = None,
) -> T:
    """Call `work` on every rank, and return what it returns on the first.

    `work` must be picklable and resume from `out`, a folder that all nodes share. One GPU a rank where the
    cluster has any, else one CPU. `report` is called here with each line of the log; lost ranks are named on
    stderr. `address`: of a cluster; default RAY_ADDRESS, else a Ray of this process's own.

    A lost rank ends the others, and all start again, `restarts` times; nodes that were announced to go (spot
    machines) do not count. A VitruvianError of `work` is raised here at once: it would only come again.
    Raises VitruvianError, too, when ranks were lost more often.
    """
    with connect(ranks.high, address) as ray, TemporaryDirectory(prefix="vitruvian-ray-") as scratch:
        from ray.train import ControllerError, TrainingFailedError

        from pipelines.ray_verdicts import first_line

        losses = Path(scratch) / "losses.txt"
        trainer = _trainer(ray, work, ranks, losses, restarts)
        try:
            with _follow(out, losses, report), _interruptible():
                result = trainer.fit()
        except ControllerError as error:
            if isinstance(error.controller_failure, VitruvianError):
                raise error.controller_failure from None
            raise VitruvianError(f"Ray Train: {error}") from error
        except TrainingFailedError as error:
            raise VitruvianError(
                f"ranks were lost more than {restarts} times, last: {first_line(error)}; run it again to go "
                f"on from the last checkpoint in {out}"
            ) from error
        value: T = result.return_value
        return value


def _trainer(ray: Any, work: Callable[[], Any], ranks: Ranks, losses: Path, restarts: int) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from pipelines.ray_verdicts import Verdicts

    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus and gpus < ranks.low:
        print(f"waiting for {ranks.low} GPUs; the cluster has {gpus}", file=sys.stderr, flush=True)

    return TorchTrainer(
        partial(_call, work),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(ranks.low, ranks.high) if ranks.elastic else ranks.low, use_gpu=gpus > 0
        ),
        run_config=RunConfig(
            storage_path=str(losses.parent),
            failure_config=FailureConfig(max_failures=restarts),
            callbacks=[Verdicts(losses)],
        ),
    )


def _call(work: Callable[[], T]) -> T:
    """What every rank runs: a function of a module, so that Ray need not send its code."""
    return work()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end this process as it would elsewhere: Ray Train (2.60) answers it with exit code 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, before)


@contextmanager
def _follow(out: Path, losses: Path, report: Report) -> Iterator[None]:
    """Meanwhile pass on, from files, what the ranks log and which were lost."""
    ended, news = Event(), _News(out, losses, report)

    def watch() -> None:
        while not ended.wait(FOLLOW_S):
            news.tell()
        news.tell()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _News:
    """What has been told of a run's log and of its lost ranks."""

    def __init__(self, out: Path, losses: Path, report: Report) -> None:
        self.out, self.losses, self.report = out, losses, report
        self.step, self.lost = max(self._steps(), default=0), 0

    def _steps(self) -> dict[int, dict[str, Any]]:
        return {line["step"]: line for line in read_log(self.out)}

    def tell(self) -> None:
        """Report new lines of the log; after a loss the log, too, goes on from the last checkpoint."""
        lost = self.losses.read_text(encoding="utf-8").splitlines() if self.losses.exists() else []
        for text in lost[self.lost :]:
            print(f"lost {text}; starting again", file=sys.stderr, flush=True)
        self.lost = len(lost)
        steps = self._steps()
        for step in sorted(step for step in steps if step > self.step):
            self.report(Progress(**steps[step]))
        self.step = max(steps, default=0)
