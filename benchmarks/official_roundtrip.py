"""Official-shaped checkpoints -> our models -> official names: is every bit what it was? The checkpoints are
made here, with the official names and shapes and seeded random values; no released file is used.

    python -P benchmarks/official_roundtrip.py [--size 0.3b] [--kinds pose depth]

For each kind of file: write it as the official .pth, import it, load our file strictly into the model that
its header describes, export it under official names, compare every tensor's bytes with those written first.
Last printed line: one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from train.engine.archive import read_archive
from train.engine.checkpoint import load_encoder, load_mae
from train.finetune import Description, FinetuneConfig, load_task_model
from train.models.mae import MAEConfig
from train.models.vit import SIZES, ViTConfig
from train.official import (
    Architecture,
    Kind,
    official_padding,
    official_shapes,
    to_official,
    with_padding,
)
from train.tasks import TaskConfig
from train.weights import export_weights, import_weights

TARGETS = {"pose": TaskConfig(keypoints=308), "parts": TaskConfig(classes=28)}


def architecture(kind: str, size: str) -> Architecture:
    """The published model of `kind`."""
    if kind == "pretrain_clean":
        return ViTConfig.of(size)
    if kind == "pretrain":
        return MAEConfig.of(size)
    settings = {"size": size, "target": TARGETS.get(kind, TaskConfig()), "steps": 1, "warmup_steps": 0}
    config = FinetuneConfig.model_validate(settings)
    plain = Description(kind, config, ViTConfig.of(size, config.image_size, with_cls=False))
    return with_padding(plain, official_padding(plain))


def seeded(kind: str, size: str) -> dict[str, Tensor]:
    """Official names with random values, NaNs among them: bits, not numbers, are compared."""
    generator = torch.Generator().manual_seed(0)
    shapes = official_shapes(architecture(kind, size))
    return {
        name: torch.empty(shape, dtype=torch.int32).random_(generator=generator).view(torch.float32)
        for name, shape in shapes.items()
    }


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Equal names, dtypes, shapes and bytes."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype
        and torch.equal(value.view(torch.int32), other[name].view(torch.int32))
        for name, value in one.items()
    )


def loaded(kind: str, path: Path) -> nn.Module:
    """Our file in the model that its header describes; strict."""
    if kind == "pretrain_clean":
        return load_encoder(path, with_cls=True)
    return load_mae(path) if kind == "pretrain" else load_task_model(path)[0]


def round_trip(kind: str, size: str, folder: Path) -> dict[str, object]:
    """One kind, there and back."""
    official, ours, back = folder / "official.pth", folder / "ours.safetensors", folder / "back.pth"
    given = seeded(kind, size)
    torch.save(given if kind == "pretrain_clean" else {"state_dict": given}, official)
    began = time.perf_counter()
    found = import_weights(official, ours, decoder=kind == "pretrain")
    imported = time.perf_counter()
    # The state dict of the live model, and the file that was exported without it.
    in_model = same(to_official(loaded(kind, ours).state_dict(), found), given)
    ready = time.perf_counter()
    export_weights(ours, back)
    exported = time.perf_counter()
    in_file = same(read_archive(back)[0], given)
    figures: dict[str, object] = {
        "bitwise": in_model and in_file,
        "tensors": len(given),
        "parameters": sum(value.numel() for value in given.values()),
        "import_s": round(imported - began, 2),
        "export_s": round(exported - ready, 2),
    }
    print(f"{kind}: {figures}")
    for path in (official, ours, back):
        path.unlink()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="0.3b", choices=SIZES)
    parser.add_argument("--kinds", nargs="+", default=list(get_args(Kind)), choices=get_args(Kind))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kinds = {kind: round_trip(kind, given.size, Path(folder)) for kind in given.kinds}
    bitwise = all(figures["bitwise"] for figures in kinds.values())
    result = {"benchmark": "official_roundtrip", "bitwise": bitwise, "size": given.size, "kinds": kinds}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
