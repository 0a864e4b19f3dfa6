"""The training loop, one for pretraining and fine-tuning: steps, accumulation, clipping, guard, log,
checkpoints, resume.

    objective(model, batch) -> (loss, scalars)

`loss` is a mean over the samples of the batch, so that ranks and accumulation average to the same number;
`scalars` are further 0-d tensors to log. Randomness comes with the batch (its generator is seeded per
sample): a model that drew from torch's global generator would not resume exactly.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from shards.config import Config
from shards.errors import VitruvianError
from train.data.dataset import Batch, Source
from train.engine.checkpoint import Checkpoints
from train.engine.distributed import World, whole
from train.engine.optim import OptimConfig, adamw, learning_rate, set_learning_rate
from train.engine.telemetry import Log, Meter, Progress, Report, peak_flops

Objective = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]


class LoopConfig(Config):
    """How long, and how often logged and saved."""

    steps: int = Field(gt=0)
    log_every: int = Field(default=10, gt=0)
    checkpoint_every: int = Field(default=500, gt=0)
    keep_last: int = Field(default=2, gt=0)


@dataclass(frozen=True)
class Step:
    """What one optimizer step computed on this rank: per micro-batch losses and keys, mean scalars, and the
    gradient norm over all ranks.
    """

    losses: tuple[Tensor, ...]
    scalars: dict[str, Tensor]
    grad_norm: Tensor
    keys: tuple[tuple[str, ...], ...]

    @property
    def loss(self) -> Tensor:
        return torch.stack(self.losses).mean()


def fit(
    model: nn.Module,
    objective: Objective,
    source: Source,
    loop: LoopConfig,
    optim: OptimConfig,
    world: World,
    folder: Path,
    report: Report = lambda progress: None,
    flops_per_image: int | None = None,
) -> None:
    """Train `model` (on its device, already sharded) until `loop.steps` steps are done.

    Continues from the newest checkpoint in `folder`/checkpoints and writes the last one there when done;
    appends to `folder`/log.jsonl. `report` is called on the main rank with each logged line.
    `flops_per_image`: nominal training FLOPs of one image, for MFU. Raises VitruvianError, with the weights
    as before that step, when loss or gradients are not finite.
    """
    optimizer = adamw(model, optim)
    checkpoints = Checkpoints(folder / "checkpoints", world, loop.keep_last)
    start = checkpoints.load_latest(model, optimizer)
    recorder = _Recorder(folder, start, loop, world, report, flops_per_image)
    guard = Guard(world)
    batches = source.batches(start, loop.steps, rank=world.rank, world=world.size)
    model.train()
    for number in range(start, loop.steps):
        began = time.perf_counter()
        micro = [to_device(batch, world.device) for batch in islice(batches, source.accumulate)]
        recorder.meter.add(source.batch, time.perf_counter() - began)
        rate = learning_rate(number, loop.steps, optim)
        set_learning_rate(optimizer, rate)
        step = compute_gradients(model, objective, micro, optim.clip_norm)
        guard.step(optimizer, step, number)
        optimizer.zero_grad(set_to_none=True)
        recorder.record(number + 1, step, rate)
        if (number + 1) % loop.checkpoint_every == 0 or number + 1 == loop.steps:
            guard.settle()
            checkpoints.save(number + 1, model, optimizer)


def compute_gradients(model: nn.Module, objective: Objective, micro: list[Batch], clip_norm: float) -> Step:
    """Forward and backward of all micro-batches of one step; the gradients left in the model are clipped to
    `clip_norm`.
    """
    losses, collected = [], []
    for batch in micro:
        loss, scalars = objective(model, batch)
        torch.autograd.backward(loss / len(micro))
        losses.append(loss.detach())
        collected.append(scalars)
    norm = whole(nn.utils.clip_grad_norm_(model.parameters(), clip_norm))
    means = {name: torch.stack([s[name].detach() for s in collected]).mean() for name in collected[0]}
    return Step(tuple(losses), means, norm, tuple(tuple(batch["key"]) for batch in micro))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move the tensors of a batch; its keys stay."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


class Guard:
    """Keeps non-finite numbers out of the weights without a host synchronisation in the hot loop.

    The verdict (any rank's loss or the gradient norm not finite) stays on the device: the fused AdamW is told
    to skip by it. The host reads it when it has arrived: at once on CPUs, one step later on GPUs, and always
    before a checkpoint.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.unread: deque[tuple[Tensor, torch.cuda.Event | None, Step, int]] = deque()

    def step(self, optimizer: torch.optim.Optimizer, step: Step, number: int) -> None:
        """`optimizer.step()` unless `step` is bad. Raises VitruvianError as soon as a bad step is known."""
        bad = (~torch.isfinite(step.loss) | ~torch.isfinite(step.grad_norm)).float()
        if self.world.size > 1:
            dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # the fused optimizers' own switch, meant for GradScaler
        optimizer.step()
        self.unread.append((bad.to("cpu", non_blocking=True), _recorded(bad.device), step, number))
        lag = 1 if bad.is_cuda else 0
        while len(self.unread) > lag:
            self._read()

    def settle(self) -> None:
        """Read every outstanding verdict."""
        while self.unread:
            self._read()

    def _read(self) -> None:
        bad, event, step, number = self.unread.popleft()
        if event is not None:
            event.synchronize()
        if bad.item():
            raise VitruvianError(describe(step, number, self.world))


def _recorded(device: torch.device) -> torch.cuda.Event | None:
    if device.type != "cuda":
        return None
    event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def describe(step: Step, number: int, world: World) -> str:
    """The message for a non-finite step: what, where, and the keys of the samples that may have caused it."""
    suspects = [keys for loss, keys in zip(step.losses, step.keys, strict=True) if not torch.isfinite(loss)]
    names = ", ".join(key for keys in suspects or step.keys for key in keys)
    what = "loss is not finite" if suspects else "gradient norm is not finite, or another rank's loss"
    return (
        f"step {number}, rank {world.rank}: {what} (loss {step.loss.item()}, gradient norm "
        f"{step.grad_norm.item()}). The step was not applied. Samples: {names}. Look at them, lower the "
        "learning rate, or lengthen the warm-up."
    )


class _Recorder:
    """Turns steps into log lines, every `log_every` steps and at the end."""

    def __init__(
        self, folder: Path, start: int, loop: LoopConfig, world: World, report: Report, flops: int | None
    ) -> None:
        self.loop, self.world, self.report, self.flops = loop, world, report, flops
        self.log = Log(folder, start) if world.is_main else None
        self.meter = Meter()
        self.peak = peak_flops(world.device)

    def record(self, done: int, step: Step, rate: float) -> None:
        if done % self.loop.log_every and done != self.loop.steps:
            return
        loss = self.world.average(step.loss).item()
        scalars = {name: self.world.average(value).item() for name, value in step.scalars.items()}
        speed, waiting = self.meter.read()
        mfu = speed * self.flops / (self.peak * self.world.size) if self.peak and self.flops else None
        norm = step.grad_norm.item()
        progress = Progress(done, self.loop.steps, loss, rate, norm, speed, waiting, mfu, scalars)
        if self.log is not None:
            self.log.write(progress)
            self.report(progress)
