"""Each task on eight images until it knows them: what a loss, a head or a codec gets wrong shows here first.

    python -P benchmarks/overfit.py --data out/renders/eval [--tasks depth normal] [--steps 600]

Eight samples, evenly spaced over the labelled dataset, are shrunk to the network's input (by the same `View`
as in training) and learned from random weights by the ordinary `finetune`, without augmentation; then the
ordinary decoding and scoring run on them. Last printed line: one JSON object with every task's scores and
whether the targets are met.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotation.labels import from_members, to_members
from shards.manifest import write_manifest
from shards.reader import Dataset
from shards.sample import Sample
from shards.writer import ShardWriter
from train.data.augment import AugmentConfig
from train.data.labelled import LabelledSet
from train.data.view import View
from train.finetune import FinetuneConfig, finetune, load_task_model, to_tensor
from train.models.heads import HeadConfig
from train.tasks import TASKS, Task, TaskConfig

IMAGES = 8
TARGETS: Mapping[str, tuple[str, str, float]] = {
    "depth": ("rmse", "<=", 0.01),
    "normal": ("mean", "<=", 3.0),
    "parts": ("miou", ">=", 0.95),
    "pose": ("pck02", ">=", 0.95),
    "pointmap": ("point_error", "<=", 0.02),
    "albedo": ("mae", "<=", 0.02),
    "alpha": ("mae", "<=", 0.01),
}
"""Score, direction, value. The first four are the project's (issue 7), the others of the same strictness."""


def shrink(data: Dataset, size: tuple[int, int], out: Path) -> Path:
    """Eight samples of `data` at `size` (height, width) as a dataset of its own."""
    out.mkdir(parents=True)
    with ShardWriter(out, "few") as writer:
        for index in np.linspace(0, len(data) - 1, IMAGES).astype(int):
            sample = data[int(index)]
            labels = from_members(sample.members)
            source = labels.size()
            assert source is not None
            changed = View.whole(source, size).apply(labels)
            writer.add(Sample(sample.key, to_members(replace(changed, quality=None))))
        writer.commit(stage_name="overfit", stage_key="benchmark")
    write_manifest(out, {"made": "by benchmarks/overfit.py"})
    return out


def settings(task: str, size: tuple[int, int], steps: int, rate: float) -> FinetuneConfig:
    """The run of one task: a narrow head whose output has the input's size, half of it for pose."""
    widths = (96, 64, 48) if task == "pose" else (96, 64, 48, 32)
    return FinetuneConfig(
        image_size=size,
        size="tiny",
        head=HeadConfig(deconv_channels=widths, conv_channels=(48,)),
        target=TaskConfig(sigma=2, blur=5, class_weight_power=0.5),
        augment=AugmentConfig.off(),
        batch=IMAGES,
        steps=steps,
        learning_rate=rate,
        layer_decay=1.0,
        weight_decay=0.0,
        warmup_steps=20,
        log_every=steps,
        checkpoint_every=steps,
        cache=IMAGES,
    )


def score(task: Task, model: torch.nn.Module, data: LabelledSet, size: tuple[int, int]) -> dict[str, float]:
    """The evaluator's scores on all samples."""
    evaluator = task.evaluator()
    with torch.inference_mode():
        for index in range(len(data)):
            key, labels = data[index]
            source = labels.size()
            assert source is not None and labels.rgb is not None
            for person in task.people(labels):
                view = task.view(labels, person, size)
                output = model(to_tensor(view.colours(labels.rgb))[None])[0]
                evaluator.add(key, labels, person, task.decode(output, view, source))
    return evaluator.compute()


def overfit(
    task: str, data: Path, size: tuple[int, int], steps: int, rate: float, out: Path
) -> dict[str, Any]:
    """Train and score one task."""
    began = time.perf_counter()
    config = settings(task, size, steps, rate)
    result = finetune(task, config, data, None, out)
    model, made, _ = load_task_model(result.model)
    labelled = LabelledSet(Dataset.open(data), made.wanted, made.optional, made.prepare)
    scores = {name: value for name, value in score(made, model, labelled, size).items() if "/" not in name}
    name, sign, target = TARGETS[task]
    met = scores[name] <= target if sign == "<=" else scores[name] >= target
    report = {
        "met": met,
        "target": f"{name} {sign} {target}",
        name: scores[name],
        "loss": result.result["loss"],
    }
    return {**report, "scores": scores, "seconds": round(time.perf_counter() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset with all labels")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--size", type=int, nargs=2, default=(64, 48), metavar=("HEIGHT", "WIDTH"))
    given = parser.parse_args()
    size = (given.size[0], given.size[1])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = shrink(Dataset.open(given.data), size, Path(folder) / "few")
        for task in given.tasks:
            found[task] = overfit(task, data, size, given.steps, given.rate, Path(folder) / task)
            print(task, json.dumps(found[task]), flush=True)
    shown = {task: {k: v for k, v in row.items() if k != "scores"} for task, row in found.items()}
    met = all(row["met"] for row in found.values())
    print(json.dumps({"overfit": shown, "met": met, "steps": given.steps, "size": list(size)}))


if __name__ == "__main__":
    main()
