"""Task models with random weights, for the tests of prediction."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from train.engine.checkpoint import full_state, save_weights
from train.finetune import Description, FinetuneConfig, assemble
from train.models.heads import HeadConfig, TaskModel
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig
from train.prediction.predictor import Predictor, PredictorConfig
from train.tasks import Task, TaskConfig, make_task

SIZE, STRIDE = (64, 48), 4
HEAD = HeadConfig(deconv_channels=(8, 8), conv_channels=(8,))
TARGET = TaskConfig(sigma=1.5, blur=5)
Photo = Callable[[int, tuple[int, int]], np.ndarray]


def raw_model(task: Task, seed: int = 0) -> TaskModel:
    """A model with random weights, its output of unit size."""
    encoder = ViT(ViTConfig(width=32, depth=2, heads=2, image_size=SIZE, with_cls=False))
    model = assemble(task, encoder, HEAD)
    initialise(model, seed)
    nn.init.normal_(model.head.last.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    return model


def predictor(task_name: str, **settings: Any) -> Predictor:
    task = make_task(task_name, TARGET)
    return Predictor(raw_model(task), task, SIZE, STRIDE, PredictorConfig(**settings))


def save_model(folder: Path, task_name: str) -> Path:
    """A folder as `finetune` leaves it, with random weights."""
    task = make_task(task_name, TARGET)
    model = raw_model(task)
    config = FinetuneConfig(image_size=SIZE, head=HEAD, target=TARGET, steps=2, warmup_steps=0)
    folder.mkdir(parents=True)
    header = Description(task_name, config, model.encoder.config).header()
    save_weights(folder / "model.safetensors", full_state(model), header)
    return folder
