"""Masked-autoencoder pretraining: a run is a function of (config, dataset manifest), on one rank or many.

    torchrun --nproc-per-node 8 -m train.pretrain --config params.yaml --section pretrain --data D --out O

`O` then holds encoder.safetensors (the weights, with the encoder's shape in its header), mae.safetensors (the
same with the decoder), config.json (what was asked), log.jsonl (losses), reconstructions.png, run.json (what
came of it) and checkpoints/. Killed, it goes on from its last checkpoint.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from annotation.codecs import encode_rgb
from annotation.draw import tile
from shards.config import load_config
from shards.errors import UsageError, VitruvianError
from shards.files import write_atomic
from train.data.dataset import Batch, ShardSource, check_batch, sample_generator
from train.data.photo import MaskedPhoto, central_view, photo
from train.data.photos import Photos
from train.engine.checkpoint import full_state, save_encoder, save_mae
from train.engine.distributed import World, open_world, prepare_blocks, shard
from train.engine.loop import OPERATIONAL as RUN_OPERATIONAL
from train.engine.loop import RunConfig, Watch, fit, unwatched
from train.engine.optim import OptimConfig
from train.engine.run import open_run
from train.engine.stop import Stopped
from train.engine.telemetry import Progress, Report, TensorBoard, read_log
from train.models.initial import initialise
from train.models.mae import MAE, MAEConfig, Prediction, reconstruct, training_flops

OPERATIONAL = RUN_OPERATIONAL | {"read_ahead"}
"""Settings that change how a run is carried out, not what comes of it."""


class PretrainConfig(RunConfig):
    """Settings of a pretraining run. Defaults: the paper's recipe (its batches: 20,480 to 98,304)."""

    size: Literal["0.3b", "0.6b", "1b", "2b", "small", "tiny"]
    image_size: tuple[int, int] = (1024, 1024)
    """(height, width) in pixels, multiples of 16; one number stands for a square."""
    mask_ratio: float = Field(default=0.75, gt=0, lt=1)
    batch: int = Field(default=4096, gt=0)
    """Images of one step, over all ranks and accumulated micro-batches."""
    base_learning_rate: float = Field(default=1.5e-4, gt=0)
    """The peak rate is this times batch / 256."""
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    crop_scale: tuple[float, float] = (0.2, 1.0)
    """Share of a photo's area that a random crop covers."""
    weights: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    """Shares of several datasets, in the order of --data. Default: every photo comes equally often."""
    shuffle_window: int | None = Field(default=None, gt=0)
    """Shards whose samples are shuffled together; fewer read faster from far stores. Default: all."""
    seed: int = Field(default=0, ge=0)
    reconstructions: int = Field(default=8, ge=1)
    """Photos shown in reconstructions.png."""
    read_ahead: int | None = Field(default=None, ge=0)
    """Samples that each loader process fetches at once. Default: 16 from far stores, 0 on this machine."""

    @field_validator("image_size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @model_validator(mode="after")
    def _check(self) -> "PretrainConfig":
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ValueError(f"crop_scale must be 0 < low <= high <= 1, got {self.crop_scale}")
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be less than steps {self.steps}")
        self.mae  # noqa: B018  # its own checks: sides, mask ratio
        return self

    @property
    def mae(self) -> MAEConfig:
        return MAEConfig.of(self.size, self.image_size, mask_ratio=self.mask_ratio)

    @property
    def optim(self) -> OptimConfig:
        return OptimConfig(
            learning_rate=self.base_learning_rate * self.batch / 256,
            weight_decay=self.weight_decay,
            warmup_steps=self.warmup_steps,
            clip_norm=self.clip_norm,
        )


@dataclass(frozen=True)
class PretrainResult:
    """`status`: "finished", or "unchanged" when this very run was found complete. `result`: contents of
    run.json.
    """

    status: Literal["finished", "unchanged"]
    encoder: Path
    result: dict[str, Any]


def pretrain(
    config: PretrainConfig,
    data: Path | str | Sequence[Path | str],
    out: Path,
    report: Report = lambda progress: None,
    *,
    replace: bool = False,
    watch: Watch = unwatched,
) -> PretrainResult:
    """Pretrain on the photos (or renders) of the dataset `data`, or of several, into the folder `out`, on the
    ranks of the environment.

    Does nothing when `out` holds this finished run; resumes it when unfinished. Raises UsageError when `out`
    holds something else (another run's folder is deleted when `replace`), VitruvianError for bad data or a
    diverged run.
    """
    with open_world() as world:
        photos = Photos.open(data, config.weights)
        check_batch(config.batch, config.accumulate, world.size)
        identity = {"pretrain": config.model_dump(mode="json", exclude=OPERATIONAL), "data": photos.identity}
        run = open_run(out, identity, world, replace=replace)
        encoder = out / "encoder.safetensors"
        if run.result is not None:
            return PretrainResult("unchanged", encoder, run.result)
        began = time.perf_counter()
        model = build(config, world)
        fit(
            model,
            objective,
            _source(config, photos),
            config,
            config.optim,
            world,
            out,
            report,
            flops_per_image=training_flops(config.mae),
            watch=watch,
        )
        sheet = picture_sheet(model, config, photos, world.device)
        weights = full_state(model)
        log = read_log(out)
        result = {
            "steps": config.steps,
            "loss": log[-1]["loss"] if log else None,
            "samples": len(photos),
            "data": photos.description,
            "parameters": sum(value.numel() for value in weights.values()),
            "run": {"seconds": time.perf_counter() - began, "ranks": world.size, "torch": torch.__version__},
        }
        if world.is_main:
            prefix = "encoder."
            own = {name.removeprefix(prefix): v for name, v in weights.items() if name.startswith(prefix)}
            save_encoder(encoder, own, config.mae.encoder)
            save_mae(out / "mae.safetensors", weights, config.mae)
            write_atomic(out / "reconstructions.png", encode_rgb(sheet))
            run.finish(result)
        world.barrier()
        return PretrainResult("finished", encoder, result)


def build(config: PretrainConfig, world: World) -> nn.Module:
    """The model on the ranks' devices with its starting weights, the same at every number of ranks."""
    with torch.device("meta"):
        model = MAE(config.mae)
    prepare_blocks(model.units, checkpoint_activations=config.checkpoint_activations, compile=config.compile)
    shard(model, model.units, world)
    model.to_empty(device=world.device)
    initialise(model, config.seed)
    return model


def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """The loop's objective: mean squared error on the masked patches."""
    prediction: Prediction = model(batch["image"], batch["noise"])
    return prediction.loss(), {}


def picture_sheet(
    model: nn.Module, config: PretrainConfig, photos: Photos, device: torch.device
) -> UInt8[np.ndarray, "height width 3"]:
    """One row per fixed photo: truth, what the encoder saw, what the model made of it (the paper's Fig. 3).
    Every rank must call it.
    """
    images, noise = fixed_examples(config, photos)
    model.eval()
    shown = reconstruct(model, config.mae, images.to(device), noise.to(device))
    columns = torch.stack([images, shown.masked.cpu(), shown.reconstructed.cpu()], dim=1)
    return tile(list(columns.flatten(0, 1).permute(0, 2, 3, 1).numpy()), columns=3, gap=6)


def fixed_examples(
    config: PretrainConfig, photos: Photos
) -> tuple[UInt8[Tensor, "b 3 h w"], Int32[Tensor, "b n"]]:
    """(central crops, mask noise) of a few photos chosen by the seed."""
    images, noise = [], []
    for sample in photos.pick(config.reconstructions, config.seed + 1):
        images.append(central_view(photo(sample), config.image_size))
        rng = sample_generator(config.seed, 0, sample.key)
        noise.append(torch.from_numpy(rng.permutation(config.mae.encoder.patches).astype(np.int32)))
    return torch.stack(images), torch.stack(noise)


def _source(config: PretrainConfig, photos: Photos) -> ShardSource:
    make = MaskedPhoto(config.image_size, config.mae.encoder.patches, config.crop_scale)
    return ShardSource(
        photos.examples(make, config.seed, config.shuffle_window),
        config.batch,
        accumulate=config.accumulate,
        workers=config.workers,
        read_ahead=photos.read_ahead if config.read_ahead is None else config.read_ahead,
    )


def print_progress(progress: Progress) -> None:
    """One line on stderr, for launchers without a terminal."""
    print(f"step {progress.step}/{progress.steps}  {progress.summary}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point under torchrun; returns the exit code of design section 2 (0, 1 failed, 2 usage), or 143
    after SIGTERM.
    """
    parser = argparse.ArgumentParser(
        prog="python -m train.pretrain", description="Pretrain a masked autoencoder."
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file")
    parser.add_argument("--section", help="dotted name of the section of the file")
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        help="dataset: folder or URL with a manifest.json; may be repeated, for a mixture",
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replace", action="store_true", help="delete another run found in --out")
    parser.add_argument("--tensorboard", action="store_true", help="also write events to OUT/events")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.config, PretrainConfig, given.section)
        report = TensorBoard(given.out / "events", print_progress) if given.tensorboard else print_progress
        result = pretrain(config, given.data, given.out, report, replace=given.replace)
    except VitruvianError as error:
        return complain(error)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"{result.status}: {result.encoder}", file=sys.stderr, flush=True)
    return 0


def complain(error: VitruvianError) -> int:
    """Say on stderr why a run ended; returns its exit code."""
    if isinstance(error, Stopped):
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 2 if isinstance(error, UsageError) else 1


def leave(run: Callable[[], int]) -> None:
    """End the process with the exit code of `run`. Ranks skip the interpreter's own teardown: gloo's threads
    outlive their group and abort it now and then (training notes, 2.6).
    """
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main)
