"""Small models under official names, for the tests of names and of files."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from train.finetune import Description, FinetuneConfig, assemble
from train.models.heads import HeadConfig
from train.models.initial import initialise
from train.models.mae import MAE, MAEConfig
from train.models.vit import ViT, ViTConfig
from train.official import Architecture, Shape
from train.tasks import TaskConfig, make_task

TINY_HEAD = HeadConfig(deconv_channels=(8, 8), conv_channels=(8,))


def task_model(
    task: str, size: str = "tiny", head: HeadConfig | None = TINY_HEAD, **more: Any
) -> Description:
    """A task model's architecture; `more`: image_size, patch_padding, keypoints, classes."""
    image_size = more.pop("image_size", (64, 48) if head else (1024, 768))
    padding = more.pop("patch_padding", 0)
    settings = {"image_size": image_size, "size": size, "head": head, "steps": 9, "warmup_steps": 1}
    config = FinetuneConfig.model_validate(settings | {"target": TaskConfig(**more)})
    return Description(task, config, ViTConfig.of(size, image_size, with_cls=False, patch_padding=padding))


def tiny(kind: str) -> Architecture:
    if kind == "pretrain_clean":
        return ViTConfig.of("tiny", (64, 64))
    return MAEConfig.of("tiny", (64, 64)) if kind == "pretrain" else task_model(kind)


def built(architecture: Architecture, seed: int = 0) -> nn.Module:
    """Our model with seeded values, in evaluation mode."""
    if isinstance(architecture, Description):
        task = make_task(architecture.task, architecture.config.target)
        model: nn.Module = assemble(task, ViT(architecture.vit), architecture.head)
    else:
        model = MAE(architecture) if isinstance(architecture, MAEConfig) else ViT(architecture)
    initialise(model, seed)
    return model.eval()


def random_state(shapes: Mapping[str, Shape], seed: int = 0) -> dict[str, Tensor]:
    """Random bits as float32: every value there is, NaNs with payloads and -0.0 included."""
    generator = torch.Generator().manual_seed(seed)
    low, high = -(2**31), 2**31 - 1
    return {
        name: torch.randint(low, high, shape, dtype=torch.int32, generator=generator).view(torch.float32)
        for name, shape in shapes.items()
    }


def assert_same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype, name
        assert torch.equal(value.view(torch.int32), other[name].view(torch.int32)), name
