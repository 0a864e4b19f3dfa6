"""The optimizer: AdamW parameter groups (weight-decay exclusions, layer-wise learning rates) and the schedule
as a function.
"""

import math
import re
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from shards.config import Config


class OptimConfig(Config):
    """AdamW and its schedule. Defaults: the pretraining recipe. Fine-tuning: betas (0.9, 0.999), weight_decay
    0.1, layer_decay 0.85 (paper: 0.75-0.95 by task), schedule "linear".
    """

    learning_rate: float = Field(gt=0)
    """Peak rate of the layers nearest the output, at the actual batch size."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.05, ge=0)
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    warmup_steps: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip_norm: float = Field(default=1.0, gt=0)


def learning_rate(step: int, steps: int, config: OptimConfig) -> float:
    """Rate of step `step` (0-based) of `steps`: linear warm-up that reaches the peak at `warmup_steps`, then
    decay to 0.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    factor = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    return config.learning_rate * factor[config.schedule]


def layer_of(name: str, depth: int) -> int:
    """Layer of a parameter of a model that holds a ViT as `encoder` (or is one): cls, positions and patch
    embedding 0, block i is i + 1, the final norm and everything outside the encoder depth + 1 (as in BEiT and
    MAE).
    """
    match = re.match(r"(?:encoder\.)?(?:(cls_token|pos_embed|patch_embed)\b|blocks\.(\d+)\.)", name)
    if match is None:
        return depth + 1
    return 0 if match[1] else int(match[2]) + 1


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Trainable parameters grouped by (layer, decayed or not); each group carries its `lr_scale` =
    layer_decay ** (depth + 1 - layer). Biases, norms, tokens and position tables are not decayed.
    """
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    blocks = [int(m[1]) for name in names if (m := re.match(r"(?:encoder\.)?blocks\.(\d+)\.", name))]
    depth = max(blocks, default=-1) + 1
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        key = (layer_of(name, depth), _is_decayed(name, parameter))
        group = groups.setdefault(key, _empty_group(key, depth, config))
        group["params"].append(parameter)
    return list(groups.values())


def _is_decayed(name: str, parameter: torch.Tensor) -> bool:
    return parameter.ndim > 1 and not name.endswith(("_token", "pos_embed", ".bias"))


def _empty_group(key: tuple[int, bool], depth: int, config: OptimConfig) -> dict[str, Any]:
    layer, decayed = key
    scale = config.layer_decay ** (depth + 1 - layer)
    return {"params": [], "weight_decay": config.weight_decay if decayed else 0.0, "lr_scale": scale}


def adamw(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; fused, because the fused step can be told on the device to skip (see
    loop.py).
    """
    return torch.optim.AdamW(parameter_groups(model, config), config.learning_rate, config.betas, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group `rate` times its layer's scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]
