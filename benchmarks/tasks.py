"""What the four tasks learn on two CPU cores, from a pretrained encoder and from random weights.

    python -P benchmarks/tasks.py --data R1 --data R2 ... --heldout E --out O [--tasks normal] [--scale 0.1]

A `small` encoder is pretrained on the pictures of the training people, then fine-tuned on each task at
256 x 192 for ten minutes' worth of steps; the same from random weights. Evaluation: the published protocols
on people, and under HDRIs, that neither saw. Every part is an ordinary run beneath --out: a killed benchmark
goes on where it was. Last printed line: one JSON object; `random` holds the scores without pretraining.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from train.engine.telemetry import Progress
from train.evaluate import EvaluateConfig, evaluate
from train.finetune import FinetuneConfig, finetune
from train.pretrain import PretrainConfig, pretrain

SIZE = (256, 192)
PRETRAIN: dict[str, Any] = {
    "size": "small",
    "image_size": SIZE,
    "batch": 16,
    "steps": 1800,
    "base_learning_rate": 1.6e-2,  # x batch / 256 = 1e-3
    "warmup_steps": 100,
    "crop_scale": (0.4, 1.0),
    "workers": 1,
    "cpu_bfloat16": True,
    "log_every": 50,
    "checkpoint_every": 300,
}
COMMON: dict[str, Any] = {
    "size": "small",
    "image_size": SIZE,
    "head": {"deconv_channels": [128, 96, 64], "conv_channels": [64]},
    # Every picture comes twice: much variation would only be more to learn in the same minutes.
    "augment": {"scale": [0.9, 1.1], "shift": 0.05, "rotate_probability": 0, "photometric_probability": 0.3},
    "batch": 8,
    "steps": 560,
    "learning_rate": 1e-3,
    "layer_decay": 0.75,
    "warmup_steps": 40,
    "weight_decay": 0.1,
    "workers": 1,
    "cpu_bfloat16": True,
    "log_every": 50,
    "checkpoint_every": 140,
}
TASKS: dict[str, dict[str, Any]] = {
    "normal": {},
    "depth": {},
    "parts": {"target": {"class_weight_power": 0.3}},
    "pose": {
        "head": {"deconv_channels": [128, 96], "conv_channels": [64]},
        "target": {"sigma": 2.0, "blur": 7},
    },
}
SCORES = {"normal": "mean", "depth": "rmse", "parts": "miou", "pose": "pck10"}
NAMES = {"normal": "normal_mean_deg", "depth": "depth_rmse_ratio", "parts": "miou", "pose": "pck10"}


def score(task: str, metrics: dict[str, Any]) -> float:
    """The benchmark's figure of a task; depth: RMSE over the constant baseline's."""
    found = float(metrics["metrics"][SCORES[task]])
    return found / float(metrics["baselines"]["constant"]["rmse"]) if task == "depth" else found


def learn(
    task: str, encoder: Path | None, data: Sequence[str], heldout: str, out: Path, scale: float
) -> dict[str, Any]:
    """Fine-tune and evaluate one task beneath `out`; returns its score and seconds."""
    settings = COMMON | TASKS[task]
    # A fresh encoder has nothing that small rates for its first layers would keep.
    settings |= {"layer_decay": 1.0} if encoder is None else {}
    settings["steps"] = max(20, round(settings["steps"] * scale))
    settings["warmup_steps"] = min(settings["warmup_steps"], settings["steps"] // 5)
    trained = finetune(task, FinetuneConfig.model_validate(settings), data, encoder, out / "model", _say(out))
    scored = evaluate(task, EvaluateConfig(pictures=6), heldout, out / "model", out / "scores")
    return {
        "score": round(score(task, scored.metrics), 4),
        "seconds": round(trained.result["run"]["seconds"]),
    }


def _say(out: Path) -> Any:
    def report(progress: Progress) -> None:
        print(f"{out.parent.name}/{out.name}: {progress.summary}", flush=True)

    return report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, help="labelled people; repeat it")
    parser.add_argument("--heldout", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps, to try it out")
    given = parser.parse_args()
    settings = PRETRAIN | {"steps": max(100, round(PRETRAIN["steps"] * given.scale))}
    settings["warmup_steps"] = min(100, settings["steps"] // 10)
    base = given.out / "pretrained"
    encoder = pretrain(
        PretrainConfig.model_validate(settings), given.data, base / "encoder", _say(base / "encoder")
    )
    starts = {"pretrained": encoder.encoder, "random": None}
    found = {
        name: {
            task: learn(task, start, given.data, given.heldout, given.out / name / task, given.scale)
            for task in given.tasks
        }
        for name, start in starts.items()
    }
    scores, seconds = (
        {name: {label(task): one[what] for task, one in tasks.items()} for name, tasks in found.items()}
        for what, label in (("score", NAMES.__getitem__), ("seconds", str))
    )
    figures = {**scores["pretrained"], "random": scores["random"], "seconds": seconds}
    figures["pretrain_seconds"] = round(encoder.result["run"]["seconds"])
    print(json.dumps({"benchmark": "tasks", **figures, "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
