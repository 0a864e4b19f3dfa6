"""Fine-tuning memory without a GPU: the plan's numbers beside those of a step that is run on tensors without
values. Nothing here is measured on a device.

    python -P benchmarks/finetune_memory.py [--sizes 1b 2b] [--tasks pose parts depth normal] [--images 1 2]

The step is the house's own: model, loss, FSDP2's shards and gathered blocks, clipping, AdamW. torch's
FakeTensorMode gives its tensors shapes but no memory, and a `Meter` counts the bytes of every storage that is
alive. Three things differ from a GPU: FSDP2 is told the GPU's precision on a CPU's mesh, collectives move
nothing, and the loop's guard, which reads numbers, is left out. Not in the count: the CUDA context,
workspaces of kernels, and what the allocator cannot fill. Before the table, the same count of pretraining
steps stands beside what an H200 took for them.
Last printed line: one JSON object.
"""

import argparse
import json
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from annotation.labels import Labels
from train.data.dataset import Batch
from train.engine import distributed
from train.engine.distributed import World, prepare_blocks, shard
from train.engine.loop import Objective, compute_gradients
from train.engine.optim import OptimConfig, adamw
from train.finetune import ExampleMaker, FinetuneConfig, assemble, objective
from train.models.heads import TaskModel
from train.models.mae import MAE
from train.models.vit import ViT
from train.plan import GIB
from train.plan_finetune import memory, skeleton
from train.pretrain import PretrainConfig
from train.pretrain import objective as pretraining_objective
from train.tasks import Task, make_task

ROUND = 512
"""Bytes: what CUDA's allocator rounds a tensor up to."""
TASKS = ("pose", "parts", "depth", "normal")


Build = Callable[[World], nn.Module]
"""The sharded model of a run."""

MEASURED = (("0.3b", 32, 46.0), ("0.3b", 64, 89.0), ("1b", 32, 92.0))
"""Pretraining on one H200, uncompiled: size, images at once, GiB at most (BENCHMARKS.md, pretrain_step)."""


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operators make, from their birth to their end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # comes back as operators on the local parts
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self._see(value)
        return out

    def __enter__(self) -> "Meter":
        # FSDP2 frees gathered weights by resizing their storage, which no operator sees.
        self._resize = torch.UntypedStorage.resize_

        def resize_(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
            self._resize(storage, size)
            if storage._cdata in self.sizes:
                self._set(storage._cdata, size)
            return storage

        torch.UntypedStorage.resize_ = resize_  # type: ignore[method-assign,assignment]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *problem: Any) -> None:
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]
        super().__exit__(*problem)  # type: ignore[no-untyped-call]

    def _see(self, value: Tensor) -> None:
        local = value._local_tensor if isinstance(value, DTensor) else value
        storage = local.untyped_storage()
        if storage._cdata not in self.sizes:
            self.sizes[storage._cdata] = 0
            weakref.finalize(storage, self._forget, storage._cdata)
            self._set(storage._cdata, storage.nbytes())

    def _set(self, key: int, size: int) -> None:
        rounded = -(-size // ROUND) * ROUND
        self.now += rounded - self.sizes[key]
        self.sizes[key] = rounded
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


def simulate(
    task_name: str, config: FinetuneConfig, images: int, *, ranks: int = 1, accumulate: int = 1
) -> int:
    """Most bytes of rank 0 of `ranks` in a fine-tuning step, with `images` at once."""
    task = make_task(task_name, config.target)
    shape = skeleton(task_name, config)
    shapes = example(task, config, shape)

    def build(world: World) -> nn.Module:
        model = assemble(task, ViT(shape.encoder.config), shape.head.config, config.drop_path)
        blocks = list(model.encoder.blocks)
        prepare_blocks(blocks, checkpoint_activations=config.checkpoint_activations)
        return shard(model, blocks, world)

    return peak_of(build, objective(task), config.optim, shapes, [images] * accumulate, ranks)


def simulate_pretraining(config: PretrainConfig, images: int) -> int:
    """The same of a pretraining step on one rank, whose memory has been measured (BENCHMARKS.md)."""
    side = config.mae.encoder.image_size
    shapes = {
        "image": torch.empty(3, *side, dtype=torch.uint8, device="meta"),
        "noise": torch.empty(config.mae.encoder.patches, dtype=torch.int32, device="meta"),
    }

    def build(world: World) -> nn.Module:
        model = MAE(config.mae)
        prepare_blocks(model.units, checkpoint_activations=config.checkpoint_activations)
        return shard(model, model.units, world)

    return peak_of(build, pretraining_objective, config.optim, shapes, [images], ranks=1)


def peak_of(
    build: Build,
    objective: Objective,
    optim: OptimConfig,
    shapes: Mapping[str, Tensor],
    micro: Sequence[int],
    ranks: int,
) -> int:
    """Most bytes alive in the second step, when AdamW's moments are there."""
    with pretended_gpus(ranks) as world, FakeTensorMode(allow_non_fake_inputs=True), Meter() as meter:
        model = build(world).train()
        optimizer = adamw(model, optim)
        for _ in range(2):
            meter.peak = 0
            batches = [blank(shapes, images) for images in micro]
            step = compute_gradients(model, objective, batches, optim.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            del step, batches
    return meter.peak


@contextmanager
def pretended_gpus(ranks: int) -> Iterator[World]:
    """Rank 0 of a group whose collectives move nothing; sharding gets the precision it has on GPUs."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    mesh = init_device_mesh("cpu", (ranks,))  # here, because ranks are numbers and fake tensors have none

    def on_gpu(param_dtype: None, reduce_dtype: torch.dtype) -> MixedPrecisionPolicy:
        return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=reduce_dtype)

    try:
        with (
            patch.object(distributed, "init_device_mesh", lambda *_: mesh),
            patch.object(distributed, "MixedPrecisionPolicy", on_gpu),
        ):
            yield World(0, ranks, torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def example(task: Task, config: FinetuneConfig, model: TaskModel) -> dict[str, Tensor]:
    """One training example of a picture of nothing, by the task's own code: for its shapes and types."""
    height, width = config.image_size
    labels = Labels(
        rgb=np.zeros((height, width, 3), np.uint8),
        depth=np.ones((height, width), np.float32),
        normal=np.ones((height, width, 3), np.float32),
        parts=np.zeros((height, width), np.uint8),
        part_classes=config.target.classes,
        keypoints=np.ones((1, config.target.keypoints, 4), np.float32),
    )
    make = ExampleMaker(
        task, config.image_size, model.head.config.stride, config.augment, noise=sum(model.noise)
    )
    return make(labels, np.random.default_rng(0))


def blank(shapes: Mapping[str, Tensor], images: int) -> Batch:
    """A batch without values."""
    batch: Batch = {name: torch.empty(images, *one.shape, dtype=one.dtype) for name, one in shapes.items()}
    return batch | {"key": tuple(str(number) for number in range(images))}


def settings(size: str, checkpointed: bool) -> FinetuneConfig:
    """The published shape: 1024 x 768, 308 keypoints, 28 classes."""
    return FinetuneConfig.model_validate(
        {
            "size": size,
            "steps": 1000,
            "checkpoint_activations": checkpointed,
            "target": {"keypoints": 308},
        }
    )


def compare(task: str, size: str, checkpointed: bool, images: int) -> dict[str, Any]:
    """Computed and simulated peak of one GPU, GiB, and the micro-batch that the computation fits in 80 GB."""
    config = settings(size, checkpointed)
    computed = memory(task, skeleton(task, config), checkpointed)
    return {
        "task": task,
        "size": size,
        "checkpointed": checkpointed,
        "images": images,
        "computed_gib": round(computed.peak(images) / GIB, 2),
        "simulated_gib": round(simulate(task, config, images) / GIB, 2),
        "fits_80gb": computed.fitting("H100"),
    }


def pretraining(size: str) -> PretrainConfig:
    """As benchmarks/pretrain_step.py measures it."""
    return PretrainConfig.model_validate({"size": size, "steps": 1000, "batch": 64})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["1b", "2b"])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--images", nargs="+", type=int, default=[1, 2])
    asked = parser.parse_args(arguments)
    began, checks, rows = time.perf_counter(), [], []
    for size, images, measured in MEASURED:
        found = round(simulate_pretraining(pretraining(size), images) / GIB, 1)
        checks.append({"size": size, "images": images, "measured_gib": measured, "simulated_gib": found})
        print(json.dumps(checks[-1]), flush=True)
    for size, task, checkpointed, images in product(asked.sizes, asked.tasks, (False, True), asked.images):
        rows.append(compare(task, size, checkpointed, images))
        print(json.dumps(rows[-1]), flush=True)
    worst = max(abs(row["computed_gib"] / row["simulated_gib"] - 1) for row in rows)
    result = {
        "pretraining": checks,
        "rows": rows,
        "largest_deviation": round(worst, 4),
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps({"benchmark": "finetune_memory", **result}))


if __name__ == "__main__":
    main()
