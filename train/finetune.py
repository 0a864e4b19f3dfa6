"""Fine-tuning: an encoder and a fresh head on one task; a run is a function of (config, data, encoder).

    torchrun --nproc-per-node 8 -m train.finetune depth --config params.yaml --section finetune.depth \\
        --data D --encoder E --out O

`O` then holds model.safetensors (weights, with what is needed to rebuild the model in its header),
baseline.safetensors (outputs that do not look at the image, fitted on the same data), config.json (what was
asked), log.jsonl, run.json (what came of it) and checkpoints/. Killed, it goes on from its last checkpoint.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from pydantic import Field, model_validator
from torch import Tensor, nn

from annotation.labels import Labels
from shards.config import load_config
from shards.errors import UsageError, VitruvianError
from shards.files import sha256_file
from train.data.augment import AugmentConfig, augment
from train.data.backdrop import Backdrops
from train.data.dataset import Batch, Example, ShardSource, check_batch
from train.data.labelled import LabelledExamples, LabelledSet, LabelledSets, open_source
from train.engine.checkpoint import full_state, load_encoder, load_weights, read_weights, save_weights
from train.engine.distributed import World, open_world, prepare_blocks, shard
from train.engine.loop import OPERATIONAL as RUN_OPERATIONAL
from train.engine.loop import Objective, RunConfig, fit
from train.engine.optim import OptimConfig
from train.engine.run import open_run
from train.engine.telemetry import Report, read_log
from train.models.heads import PUBLISHED_HEADS, DeconvHead, HeadConfig, TaskModel
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig
from train.pretrain import complain, leave, print_progress
from train.tasks import Task, TaskConfig, make_task
from train.tasks.base import Target

OPERATIONAL = RUN_OPERATIONAL | {"cache"}
"""Settings that change how a run is carried out, not what comes of it."""


class FinetuneConfig(RunConfig):
    """Settings of a fine-tuning run. Defaults: the published recipe for the dense tasks."""

    image_size: tuple[int, int] = (1024, 768)
    """(height, width) of the network's input, multiples of 16."""
    size: Literal["0.3b", "0.6b", "1b", "2b", "small", "tiny"] = "0.3b"
    """Of the encoder when none is given (training from scratch); a given encoder brings its own."""
    head: HeadConfig | None = None
    """None: the published head of the task."""
    target: TaskConfig = TaskConfig()
    augment: AugmentConfig = AugmentConfig()
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth: probability that a sample skips the last block's branches; the first's is 0."""
    batch: int = Field(default=32, gt=0)
    """Images of one step, over all ranks and accumulated micro-batches."""
    learning_rate: float = Field(default=5e-4, gt=0)
    """Peak rate of the head, at this batch."""
    layer_decay: float = Field(default=0.85, gt=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    warmup_steps: int = Field(default=400, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    weights: tuple[Annotated[int, Field(gt=0)], ...] | None = None
    """Shares of several data sets, in the order of --data. Default: every sample comes equally often."""
    seed: int = Field(default=0, ge=0)
    baseline_samples: int = Field(default=2000, gt=0)
    """Training samples that the baselines are fitted on, at most."""
    cache: int = Field(default=0, ge=0)
    """Decoded training samples kept in memory by each loader."""

    @model_validator(mode="after")
    def _check(self) -> "FinetuneConfig":
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} must be less than steps {self.steps}")
        if any(side <= 0 or side % 16 for side in self.image_size):
            raise ValueError(f"image_size must be positive multiples of 16, got {self.image_size}")
        return self

    @property
    def optim(self) -> OptimConfig:
        given = self.model_dump(include=set(OptimConfig.model_fields))
        return OptimConfig(betas=(0.9, 0.999), schedule="linear", **given)


@dataclass(frozen=True)
class FinetuneResult:
    """`status`: "finished", or "unchanged" when this very run was found complete. `result`: contents of
    run.json.
    """

    status: Literal["finished", "unchanged"]
    model: Path
    result: dict[str, Any]


def finetune(
    task_name: str,
    config: FinetuneConfig,
    data: Path | str | Sequence[Path | str],
    encoder: Path | None,
    out: Path,
    report: Report = lambda progress: None,
    *,
    replace: bool = False,
) -> FinetuneResult:
    """Train the task on labelled data, from the weights `encoder` (None: from scratch), into `out`.

    `data`: a dataset of ours, the YAML description of another layout (`train.data.layouts`), or several.

    Does nothing when `out` holds this finished run; resumes it when unfinished. Raises UsageError for data
    without the task's labels or when `out` holds something else (another run is deleted when `replace`),
    VitruvianError for weights that do not fit, damaged samples or a diverged run.
    """
    task = make_task(task_name, config.target)
    with open_world() as world:
        labelled = open_training(data, task, config)
        check_batch(config.batch, config.accumulate, world.size)
        identity = {
            "task": task_name,
            "finetune": config.model_dump(mode="json", exclude=OPERATIONAL),
            "data": labelled.identity,
            "encoder": None if encoder is None else _digest(encoder),
        }
        backdrops = None if config.augment.backgrounds is None else Backdrops(config.augment.backgrounds)
        if backdrops is not None:
            identity["backgrounds"] = backdrops.digest
        run = open_run(out, identity, world, replace=replace)
        path = out / "model.safetensors"
        if run.result is not None:
            return FinetuneResult("unchanged", path, run.result)
        began = time.perf_counter()
        model, baselines = build(task, config, labelled, encoder, world)
        description = Description(task_name, config, model.encoder.config)
        blocks = list(model.encoder.blocks)
        prepare_blocks(blocks, checkpoint_activations=config.checkpoint_activations, compile=config.compile)
        shard(model, blocks, world)
        make = ExampleMaker(
            task, config.image_size, description.head.stride, config.augment, backdrops, sum(model.noise)
        )
        examples = LabelledExamples(labelled, make, config.seed)
        source = ShardSource(examples, config.batch, accumulate=config.accumulate, workers=config.workers)
        fit(model, objective(task), source, config, config.optim, world, out, report)
        weights = full_state(model)
        if world.is_main:
            save_weights(path, weights, description.header())
            save_weights(out / "baseline.safetensors", baselines, {"task": task_name})
            run.finish(_result(config, labelled, weights, out, time.perf_counter() - began, world))
        world.barrier()
        done = open_run(out, identity, world).result
        assert done is not None
        return FinetuneResult("finished", path, done)


@dataclass(frozen=True)
class Description:
    """What is needed to rebuild a task model; it travels in the header of model.safetensors."""

    task: str
    config: FinetuneConfig
    vit: ViTConfig

    @property
    def head(self) -> HeadConfig:
        """The head asked for, else the published one."""
        return self.config.head or PUBLISHED_HEADS[self.task]

    def header(self) -> dict[str, str]:
        return {
            "format": "pt",
            "task": self.task,
            "finetune": self.config.model_dump_json(),
            "vit": self.vit.model_dump_json(),
        }

    @classmethod
    def of(cls, header: Mapping[str, str], where: str) -> "Description":
        """From the header of a file. Raises VitruvianError when it is no task model's."""
        try:
            config = FinetuneConfig.model_validate_json(header["finetune"])
            return cls(header["task"], config, ViTConfig.model_validate_json(header["vit"]))
        except (KeyError, ValueError) as error:
            raise VitruvianError(f"{where}: not a task model of `vitruvian finetune`: {error!r}") from None


Baselines = dict[str, Tensor]


def open_training(
    data: Path | str | Sequence[Path | str], task: Task, config: FinetuneConfig
) -> LabelledSets:
    """The data of a run, in shares. Raises UsageError for any that lacks what task or config want."""
    places = [data] if isinstance(data, Path | str) else list(data)
    sets = [
        LabelledSet(open_source(place, "training"), task.wanted, task.optional, task.prepare, config.cache)
        for place in places
    ]
    if config.augment.backgrounds is not None and config.augment.background > 0:
        for bare in (one for one in sets if "alpha" not in one.labels):
            raise UsageError(
                f"{bare.source.url}: backgrounds can be replaced only where there is an alpha label; it has "
                f"{', '.join(bare.source.labels)}: set augment.background to 0"
            )
    return LabelledSets.of(sets, config.weights)


def build(
    task: Task, config: FinetuneConfig, labelled: LabelledSets, encoder: Path | None, world: World
) -> tuple[TaskModel, Baselines]:
    """The model on this rank's device, and the task's baselines, fitted on the first training samples.

    The encoder is pretrained, or fresh when None; the head is fresh, seeded by the config, and starts from
    the constant baseline.
    """
    if encoder is not None:
        trunk = load_encoder(encoder, config.image_size)
    else:
        trunk = ViT(ViTConfig.of(config.size, config.image_size, with_cls=False))
        initialise(trunk, config.seed)
    head = config.head or PUBLISHED_HEADS[task.name]
    model = assemble(task, trunk, head, config.drop_path)
    initialise(model.head, config.seed + 1)
    plain = ExampleMaker(task, config.image_size, head.stride, AugmentConfig.off())
    baselines = task.baselines(targets(labelled, plain, config.baseline_samples))
    model.head.start_at(task.start(baselines["constant"]))
    return model.to(world.device), baselines


def assemble(task: Task, encoder: ViT, head: HeadConfig, drop_path: float = 0.0) -> TaskModel:
    """The task's model around `encoder`, its head uninitialised."""
    width = encoder.config.width
    built = DeconvHead(width, task.channels, head, task.last_layer, task.spread, task.offset)
    return TaskModel(encoder, built, drop_path)


def load_task_model(path: Path) -> tuple[TaskModel, Task, Description]:
    """A model of `finetune` on the CPU, in evaluation mode. Raises VitruvianError with every difference
    when it does not fit.
    """
    tensors, header = read_weights(path)
    description = Description.of(header, str(path))
    task = make_task(description.task, description.config.target)
    model = assemble(task, ViT(description.vit), description.head)
    load_weights(model, tensors, str(path))
    return model.eval(), task, description


class ExampleMaker:
    """Labels -> training example: "image" uint8 (3, H, W), the task's target, and with `noise` > 0 that many
    random numbers for what the model drops.
    """

    def __init__(
        self,
        task: Task,
        size: tuple[int, int],
        stride: int,
        augment: AugmentConfig,
        backdrops: Backdrops | None = None,
        noise: int = 0,
    ) -> None:
        self.task, self.size, self.augment, self.backdrops, self.noise = task, size, augment, backdrops, noise
        self.output_size = (size[0] // stride, size[1] // stride)

    def __call__(self, labels: Labels, rng: np.random.Generator) -> Example:
        """One person of the picture, at random, in a random view."""
        people = self.task.people(labels)
        person = people[rng.integers(len(people))] if people else -1
        view = self.task.training_view(labels, person, self.size, self.augment, rng)
        crop = augment(labels, view, self.augment, rng, self.backdrops)
        assert crop.rgb is not None
        example = {"image": to_tensor(crop.rgb), **self.task.target(crop, person, self.output_size)}
        if self.noise:
            example["noise"] = torch.from_numpy(rng.random(self.noise, np.float32))
        return example


def to_tensor(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[Tensor, "3 height width"]:
    """Channels first."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def targets(labelled: LabelledSets, make: ExampleMaker, limit: int) -> Iterator[Target]:
    """Targets of the first `limit` samples, for the baselines."""
    for number, place in enumerate(labelled.first(limit)):
        yield make(labelled.read(place)[1], np.random.default_rng(number))


def objective(task: Task) -> Objective:
    """The loop's objective: the task's loss."""

    def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        given = () if "noise" not in batch else (batch["noise"],)
        return task.loss(model(batch["image"], *given), batch), {}

    return loss


def _result(
    config: FinetuneConfig,
    labelled: LabelledSets,
    weights: Mapping[str, Tensor],
    out: Path,
    seconds: float,
    world: World,
) -> dict[str, Any]:
    log = read_log(out)
    return {
        "steps": config.steps,
        "loss": log[-1]["loss"] if log else None,
        "samples": len(labelled),
        "data": labelled.description,
        "identities": labelled.identities(),
        "anonymous": labelled.anonymous(),
        "parameters": sum(value.numel() for value in weights.values()),
        "run": {"seconds": seconds, "ranks": world.size, "torch": torch.__version__},
    }


def _digest(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{path}: no such encoder; expected a file of `vitruvian pretrain`")
    return sha256_file(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point under torchrun; returns the exit code (0 done, 1 failed, 2 usage, 143
    after SIGTERM).
    """
    parser = argparse.ArgumentParser(prog="python -m train.finetune", description="Fine-tune a task model.")
    parser.add_argument("task", help="pose, parts, depth, normal, pointmap, albedo or alpha")
    parser.add_argument("--config", type=Path, required=True, help="YAML file")
    parser.add_argument("--section", help="dotted name of the section of the file")
    parser.add_argument(
        "--data",
        action="append",
        required=True,
        help="folder or URL with a manifest.json, or YAML of another layout; may be repeated, for a mixture",
    )
    parser.add_argument("--encoder", type=Path, help="encoder.safetensors; without it, from scratch")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--replace", action="store_true", help="delete another run found in --out")
    given = parser.parse_args(arguments)
    try:
        config = load_config(given.config, FinetuneConfig, given.section)
        result = finetune(
            given.task, config, given.data, given.encoder, given.out, print_progress, replace=given.replace
        )
    except VitruvianError as error:
        return complain(error)
    if int(os.environ.get("RANK", 0)) == 0:
        print(f"{result.status}: {result.model}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    leave(main)
