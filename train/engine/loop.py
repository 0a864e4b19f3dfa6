"""The training loop, one for pretraining and fine-tuning: steps, accumulation, clipping, guard, log,
checkpoints, resume.

    objective(model, batch) -> (loss, scalars)

`loss` is a mean over the samples of the batch, so that ranks and accumulation average to the same number;
`scalars` are further 0-d tensors to log. Randomness comes with the batch (its generator is seeded per
sample): a model that drew from torch's global generator would not resume exactly.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch
import torch.distributed as dist
from pydantic import Field
from torch import Tensor, nn

from shards.config import Config
from shards.errors import VitruvianError
from train.data.dataset import Batch, Source
from train.engine.distributed import World, keep_gradients_local, shorten_timeout, whole
from train.engine.optim import OptimConfig, adamw, learning_rate, set_learning_rate
from train.engine.resume import Checkpoints
from train.engine.stop import Stopped, stop_requests
from train.engine.telemetry import Log, Meter, Progress, Report, peak_flops, peak_memory

NAMED = 200
"""Samples that a message lists at most."""

Objective = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]


def with_bfloat16(objective: Objective) -> Objective:
    """`objective` with the matrix products of a CPU in bfloat16; weights, norms and sums stay float32.

    Twice as fast where the CPU has such products (AVX-512 BF16, AMX), slower elsewhere. On GPUs sharding's
    own policy does the same, and this does nothing.
    """

    def lowered(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.autocast("cpu", torch.bfloat16):
            return objective(model, batch)

    return lowered


class LoopConfig(Config):
    """How long, and how often logged and saved."""

    steps: int = Field(gt=0)
    log_every: int = Field(default=10, gt=0)
    checkpoint_every: int = Field(default=500, gt=0)
    keep_last: int = Field(default=2, gt=0)
    keep_every: int | None = Field(default=None, gt=0)
    """Of every so many steps, the first checkpoint stays for good."""
    cpu_bfloat16: bool = False
    """Matrix products of CPUs in bfloat16, as those of GPUs always are: twice as fast with AVX-512 BF16."""


class RunConfig(LoopConfig):
    """What pretraining and fine-tuning have in common: the loop, and how its steps are carried out."""

    accumulate: int = Field(default=1, gt=0)
    """Micro-batches of one step on each rank."""
    workers: int = Field(default=0, ge=0)
    """Loader processes of each rank."""
    checkpoint_activations: bool = False
    """Recompute each block's activations in backward: less memory, about a third more time."""
    compile: bool = False
    """Compile each transformer block: slower first step, faster others."""


OPERATIONAL = set(RunConfig.model_fields) - {"steps", "cpu_bfloat16"}
"""Settings that change how a run is carried out, not what comes of it: a run may be resumed with others."""


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


Watch = Callable[[int, list[Batch], Step], None]
"""Called on every rank after each step: (steps finished, the rank's micro-batches, what came of them)."""


def unwatched(done: int, micro: list[Batch], step: Step) -> None:
    """The Watch that looks away."""


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
    watch: Watch = unwatched,
) -> None:
    """Train `model` (on its device, already sharded) until `loop.steps` steps are done.

    Continues from the newest whole checkpoint in `folder`/checkpoints and writes the last one there when
    done; appends to `folder`/log.jsonl. `report` is called on the main rank with each logged line.
    `flops_per_image`: nominal training FLOPs of one image, for MFU. Raises VitruvianError, with the weights
    as before that step, when loss or gradients are not finite, or when a checkpoint could not be written, and
    Stopped, once a checkpoint is written, after SIGTERM on any rank.
    """
    objective = with_bfloat16(objective) if loop.cpu_bfloat16 else objective
    optimizer = adamw(model, optim)
    checkpoints = Checkpoints(folder / "checkpoints", world, loop.keep_last, loop.keep_every)
    start = checkpoints.load_latest(model, optimizer)
    recorder = _Recorder(folder, start, loop, world, report, flops_per_image)
    guard = Guard(world)
    batches = source.batches(start, loop.steps, rank=world.rank, world=world.size)
    model.train()
    with stop_requests() as asked, checkpoints:
        for number in range(start, loop.steps):
            began = time.perf_counter()
            micro = [to_device(batch, world.device) for batch in islice(batches, source.accumulate)]
            recorder.meter.add(source.batch, time.perf_counter() - began)
            rate = learning_rate(number, loop.steps, optim)
            set_learning_rate(optimizer, rate)
            step = compute_gradients(model, objective, micro, optim.clip_norm)
            stop = guard.step(optimizer, step, number, stop=asked.is_set() or checkpoints.failed)
            optimizer.zero_grad(set_to_none=True)
            watch(number + 1, micro, step)
            recorder.record(number + 1, step, rate)
            if number == start:
                shorten_timeout()
            if stop or (number + 1) % loop.checkpoint_every == 0 or number + 1 == loop.steps:
                guard.settle()
                recorder.meter.add_saving(checkpoints.save(number + 1, model, optimizer))
            if stop and number + 1 < loop.steps:
                checkpoints.wait()
                raise Stopped(
                    f"stopped by SIGTERM after step {number + 1} of {loop.steps}; its checkpoint is in "
                    f"{checkpoints.folder}; the same command goes on from there"
                )


def compute_gradients(model: nn.Module, objective: Objective, micro: list[Batch], clip_norm: float) -> Step:
    """Forward and backward of all micro-batches of one step; the gradients left in the model are clipped to
    `clip_norm`.
    """
    losses, collected = [], []
    for number, batch in enumerate(micro):
        with keep_gradients_local(model, number + 1 < len(micro)):
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
    """Keeps non-finite numbers out of the weights, and ranks in step, without a host synchronisation in the
    hot loop.

    The verdict (any rank's loss or the gradient norm not finite; any rank asked to stop) stays on the device:
    the fused AdamW is told to skip by it. The host reads it when it has arrived: at once on CPUs, one step
    later on GPUs, and always before a checkpoint; on all ranks at the same step.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.unread: deque[tuple[Tensor, torch.cuda.Event | None, Step, int]] = deque()

    def step(self, optimizer: torch.optim.Optimizer, step: Step, number: int, *, stop: bool = False) -> bool:
        """`optimizer.step()` unless `step` is bad. Returns whether a rank is known to have wanted to `stop`;
        raises VitruvianError as soon as a bad step is known.
        """
        bad = (~torch.isfinite(step.loss) | ~torch.isfinite(step.grad_norm)).float()
        verdict = torch.stack([bad, torch.full_like(bad, float(stop))])
        if self.world.size > 1:
            dist.all_reduce(verdict, op=dist.ReduceOp.MAX)
        optimizer.found_inf = verdict[0]  # type: ignore[attr-defined]  # the fused optimizers' own switch, meant for GradScaler
        optimizer.step()
        self.unread.append((verdict.to("cpu", non_blocking=True), _recorded(bad.device), step, number))
        return self._read(lag=1 if bad.is_cuda else 0)

    def settle(self) -> None:
        """Read every outstanding verdict."""
        self._read(lag=0)

    def _read(self, lag: int) -> bool:
        stop = False
        while len(self.unread) > lag:
            verdict, event, step, number = self.unread.popleft()
            if event is not None:
                event.synchronize()
            bad, wanted = verdict.tolist()
            stop |= bool(wanted)
            if bad:
                raise VitruvianError(describe(number, self.world.gather(_findings(step))))
        return stop


def _recorded(device: torch.device) -> torch.cuda.Event | None:
    if device.type != "cuda":
        return None
    event: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


@dataclass(frozen=True)
class Findings:
    """What a rank knows about a bad step: loss, gradient norm, the keys of the micro-batches whose loss is
    not finite, and all keys.
    """

    loss: float
    grad_norm: float
    suspects: tuple[str, ...]
    keys: tuple[str, ...]


def _findings(step: Step) -> Findings:
    bad = [keys for loss, keys in zip(step.losses, step.keys, strict=True) if not torch.isfinite(loss)]
    return Findings(step.loss.item(), step.grad_norm.item(), tuple(chain(*bad)), tuple(chain(*step.keys)))


def describe(number: int, ranks: Sequence[Findings]) -> str:
    """The message for a non-finite step, the same on every rank: what, where, and the keys of the samples
    that may have caused it.
    """
    guilty = [rank for rank, found in enumerate(ranks) if found.suspects]
    what = "loss is not finite" if guilty else "gradient norm is not finite"
    where = guilty or range(len(ranks))
    names = [key for rank in where for key in ranks[rank].suspects or ranks[rank].keys]
    rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return (
        f"step {number}, rank {', '.join(map(str, where))}: {what} (loss {ranks[where[0]].loss}, gradient "
        f"norm {ranks[where[0]].grad_norm}). The step was not applied. Samples: {', '.join(names[:NAMED])}"
        f"{rest}. Look at them, lower the learning rate, or lengthen the warm-up."
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
        pace = self.meter.read()
        achieved = pace.images_per_second * self.flops if self.flops else None
        progress = Progress(
            step=done,
            steps=self.loop.steps,
            loss=loss,
            learning_rate=rate,
            grad_norm=step.grad_norm.item(),
            images_per_second=pace.images_per_second,
            data_wait=pace.data_wait,
            mfu=achieved / (self.peak * self.world.size) if self.peak and achieved else None,
            scalars=scalars,
            checkpoint_wait=pace.checkpoint_wait,
            memory_gib=peak_memory(self.world.device),
        )
        if self.log is not None:
            self.log.write(progress)
            self.report(progress)
