"""Pretraining steps on a GPU: images a second and MFU of the trainer's own model, sharding, optimizer and
step, with and without per-block compilation. Images lie on the device already: the step, not the loader.

    python -P benchmarks/pretrain_step.py [--sizes 0.3b 1b] [--batches 32 64] [--steps 8]

MFU: nominal training FLOPs of an image (`train.models.mae.training_flops`) x images/s / dense bf16 peak.
Last printed line: one JSON object; a case that runs out of memory is null.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from train.data.dataset import Batch
from train.engine.distributed import World, open_world
from train.engine.loop import Guard, compute_gradients
from train.engine.optim import adamw, set_learning_rate
from train.engine.telemetry import peak_flops
from train.models.mae import MAE, training_flops
from train.pretrain import PretrainConfig, build, objective

WARM_UP = 3


def random_batch(config: PretrainConfig, images: int, device: torch.device) -> Batch:
    """Noise images and mask noise as the loader would deliver them."""
    height, width = config.image_size
    generator = torch.Generator(device=device).manual_seed(0)
    shape = (images, 3, height, width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator, device=device)
    noise = torch.rand((images, config.mae.encoder.patches), generator=generator, device=device).argsort(1)
    return {"image": pixels, "noise": noise.int(), "key": [str(i) for i in range(images)]}


def step_seconds(step: Callable[[], None], steps: int) -> float:
    """Median seconds of a step, each waited for, after a warm-up."""
    seconds = []
    for number in range(WARM_UP + steps):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        torch.cuda.synchronize()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure(
    size: str, images: int, compiled: bool, side: int, steps: int, world: World
) -> dict[str, Any] | None:
    """One case; None when the device's memory does not hold it."""
    config = PretrainConfig(size=size, image_size=(side, side), batch=images, steps=1000)  # type: ignore[arg-type]
    torch.cuda.reset_peak_memory_stats()
    try:
        model = build(config, world)
        if compiled:
            compile_units(model)  # type: ignore[arg-type]  # sharding keeps its class's methods
        optimizer, guard = adamw(model, config.optim), Guard(world)
        set_learning_rate(optimizer, 1e-5)
        batch = random_batch(config, images, world.device)

        def step() -> None:
            done = compute_gradients(model, objective, [batch], config.clip_norm)
            guard.step(optimizer, done, 0)
            optimizer.zero_grad(set_to_none=True)

        seconds = step_seconds(step, steps)
    except torch.OutOfMemoryError:
        return None
    rate, peak = images / seconds, peak_flops(world.device)
    mfu = rate * training_flops(config.mae) / peak if peak else None
    return {
        "images_per_s": round(rate, 1),
        "mfu": mfu and round(mfu, 3),
        "gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def compile_units(model: MAE) -> None:
    """Compile the forward of each transformer block, inside FSDP's hooks; equal blocks share one graph."""
    for unit in model.units:
        unit.forward = torch.compile(unit.forward, dynamic=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["0.3b", "1b"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--compile", nargs="+", type=int, default=[0, 1], choices=[0, 1])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU here: not run (CPU steps: benchmarks/mae.py)")
    cases: dict[str, Any] = {}
    with open_world() as world:
        for size in given.sizes:
            for images in given.batches:
                for compiled in given.compile:
                    name = f"{size} batch {images}{' compiled' if compiled else ''}"
                    began = time.perf_counter()
                    cases[name] = measure(size, images, bool(compiled), given.side, given.steps, world)
                    torch.cuda.empty_cache()
                    print(f"{name}: {cases[name]} ({time.perf_counter() - began:.0f} s)", flush=True)
        device = torch.cuda.get_device_name(world.device)
    print(json.dumps({"benchmark": "pretrain_step", "device": device, "torch": torch.__version__, **cases}))


if __name__ == "__main__":
    main()
