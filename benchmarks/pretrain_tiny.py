"""Pretraining of `tiny` on CPU cores, judged on held-out pictures: its loss beside each patch's own mean.

    python -P benchmarks/pretrain_tiny.py --data DATASET [--data ...] --heldout DATASET [--out FOLDER]

Pretrains with train/configs/pretrain_tiny.yaml, then runs `train.reconstruct` on the held-out pictures.
`ratio`: the model's loss at mask ratio 0.75 as a share of that of each hidden patch's own mean;
`ratio_neighbours`: as a share of that of the weighted mean of visible patches. Without --out everything is
written to a temporary folder and deleted. Last printed line: one JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from shards.config import load_config
from train.pretrain import PretrainConfig, pretrain, print_progress
from train.reconstruct import ReconstructConfig, reconstruct

CONFIG = Path(__file__).parents[1] / "train" / "configs" / "pretrain_tiny.yaml"


def measure(config: PretrainConfig, data: list[str], heldout: str, out: Path) -> dict[str, Any]:
    """Pretrain into `out`/encoder, score into `out`/reconstruct."""
    trained = pretrain(config, data, out / "encoder", print_progress)
    scored = reconstruct(ReconstructConfig(), heldout, out / "encoder", out / "reconstruct")
    at = next(entry for entry in scored.metrics["ratios"] if entry["mask_ratio"] == 0.75)
    loss, shares = at["loss"], at["model_as_share_of"]
    return {
        "heldout_loss": round(loss["model"]["mean"], 4),
        "heldout_interval": [round(loss["model"][end], 4) for end in ("low", "high")],
        "own_mean": round(loss["own_mean"]["mean"], 4),
        "best_constant": round(loss["best_constant"]["mean"], 4),
        "neighbours": round(loss["neighbours"]["mean"], 4),
        "ratio": round(shares["own_mean"]["mean"], 4),
        "ratio_neighbours": round(shares["neighbours"]["mean"], 4),
        "other_ratios": {
            str(entry["mask_ratio"]): {name: round(value["mean"], 4) for name, value in entry["loss"].items()}
            for entry in scored.metrics["ratios"]
            if entry is not at
        },
        "heldout_images": scored.metrics["images"],
        "training_images": trained.result["samples"],
        "steps": config.steps,
        "seconds": round(trained.result["run"]["seconds"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", required=True, help="repeat it for a mixture")
    parser.add_argument("--heldout", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, help="other than the configuration's, to try it out")
    given = parser.parse_args()
    config = load_config(CONFIG, PretrainConfig, "pretrain")
    if given.steps:
        changes = {"steps": given.steps, "warmup_steps": min(config.warmup_steps, given.steps // 10)}
        config = PretrainConfig.model_validate(config.model_dump() | changes)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(config, given.data, given.heldout, given.out or Path(folder))
    if given.out:
        print(f"pictures: {given.out / 'reconstruct' / 'reconstructions.png'}", file=sys.stderr)
    machine = {"threads": torch.get_num_threads(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "pretrain_tiny", **machine, **figures}))


if __name__ == "__main__":
    main()
