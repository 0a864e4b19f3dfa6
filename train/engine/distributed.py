"""One to many ranks by one code path: the process group, its timeouts and clean end, what is done to each
transformer block (activation checkpointing, compilation), and sharding with FSDP2.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")

# How long a rank waits for the others: long while ranks start, compile and open their data, then short, so
# that a hang costs minutes.
START_TIMEOUT = timedelta(minutes=30)
STEP_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True)
class World:
    """This process among the ranks of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        if dist.is_initialized():
            dist.barrier()

    def average(self, value: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Mean of `value` over the ranks."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
            value /= self.size
        return value

    def from_main(self, value: T) -> T:
        """The main rank's `value` (picklable), on every rank."""
        return self.gather(value)[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's `value` (picklable), by rank, on every rank."""
        if not dist.is_initialized():
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


@contextmanager
def open_world() -> Iterator[World]:
    """Join the group that torchrun (or Ray Train) describes in the environment, or be a world of one.

    A group that is already initialised is used and left alone. A GPU run always has a group, because FSDP2
    also carries the mixed-precision policy of a single rank. Raises RuntimeError when the environment is
    incomplete.
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    joins = (size > 1 or cuda) and not dist.is_initialized()
    if joins:
        _join(rank, size, device)
    try:
        yield World(rank, size, device)
    finally:
        if joins:
            dist.destroy_process_group()


def _join(rank: int, size: int, device: torch.device) -> None:
    options: dict[str, Any] = {"rank": rank, "world_size": size, "timeout": START_TIMEOUT}
    if "MASTER_ADDR" not in os.environ:
        options["store"] = dist.TCPStore("127.0.0.1", 0, size, is_master=True)  # type: ignore[attr-defined]
    if device.type == "cuda":
        dist.init_process_group("cpu:gloo,cuda:nccl", device_id=device, **options)
    else:
        dist.init_process_group("gloo", **options)


def background_group() -> dist.ProcessGroup | None:
    """A CPU group for a thread beside the loop, whose collectives must not mix with the loop's; None without
    ranks. Every rank must call it.
    """
    return dist.new_group(backend="gloo", timeout=START_TIMEOUT) if dist.is_initialized() else None


def shorten_timeout() -> None:
    """Let collectives of the default group give up after `STEP_TIMEOUT`. Call it once a step has passed."""
    if dist.is_initialized():
        # torch has no public way (2.13); torchtitan calls this one as well.
        dist.distributed_c10d._set_pg_timeout(STEP_TIMEOUT)


def prepare_blocks(
    blocks: Sequence[nn.Module],
    *,
    checkpoint_activations: bool = False,
    compile: bool = False,
    backend: str = "inductor",
) -> None:
    """Replace the forward of each block, before `shard`: first recompute its activations in backward instead
    of keeping them, then compile it. Equal blocks share one graph.

    Modules, parameter names and starting weights stay as they are. Blocks must draw no random numbers, since
    none are replayed.
    """
    for block in blocks:
        if checkpoint_activations:
            block.forward = _recomputed(block.forward)
        if compile:
            block.forward = torch.compile(block.forward, dynamic=False, backend=backend)


def _recomputed(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def recomputed(*inputs: Any, **named: Any) -> Tensor:
        out: Tensor = checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=False, **named)
        return out

    return recomputed


def shard(model: nn.Module, units: Sequence[nn.Module], world: World) -> nn.Module:
    """Shard `model` over the ranks with FSDP2: each of `units` (the transformer blocks) on its own, then the
    rest.

    On GPUs, parameters and activations are bfloat16, master weights and gradient reduction float32; on CPUs
    all is float32. A world of one without a process group is left as it is.
    """
    if not dist.is_initialized():
        return model
    # The prediction is a view; nothing here writes into it.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    half = torch.bfloat16 if world.device.type == "cuda" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
    mesh = init_device_mesh(world.device.type, (world.size,))
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return model


@contextmanager
def keep_gradients_local(model: nn.Module, local: bool) -> Iterator[None]:
    """While `local`, backward of a sharded model adds to whole float32 gradients on each rank; the next
    backward outside reduces their sum over the ranks, once.
    """
    if not local or not isinstance(model, FSDPModule):
        yield
        return
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def whole(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The full value of a possibly sharded tensor (a collective: every rank must call it)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
