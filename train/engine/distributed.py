"""One to many ranks by one code path: the process group, its clean end, and sharding with FSDP2."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


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
    options: dict[str, Any] = {"rank": rank, "world_size": size, "timeout": timedelta(minutes=30)}
    if "MASTER_ADDR" not in os.environ:
        options["store"] = dist.TCPStore("127.0.0.1", 0, size, is_master=True)  # type: ignore[attr-defined]
    if device.type == "cuda":
        dist.init_process_group("nccl", device_id=device, **options)
    else:
        dist.init_process_group("gloo", **options)


def shard(model: nn.Module, units: Sequence[nn.Module], world: World) -> nn.Module:
    """Shard `model` over the ranks with FSDP2: each of `units` (the transformer blocks) on its own, then the
    rest.

    On GPUs, parameters and activations are bfloat16, master weights and gradient reduction float32; on CPUs
    all is float32. A world of one without a process group is left as it is.
    """
    if not dist.is_initialized():
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    half = torch.bfloat16 if world.device.type == "cuda" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
    mesh = init_device_mesh(world.device.type, (world.size,))
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return model


def whole(tensor: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """The full value of a possibly sharded tensor (a collective: every rank must call it)."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
