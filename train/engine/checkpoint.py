"""Weights: plain safetensors files, whole or absent, and models rebuilt from them.

A file holds tensors with timm's names, and in its header the configuration of the model: the file alone is
enough to rebuild it. (What a run resumes from is in resume.py.)
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shards.errors import VitruvianError
from shards.files import flush
from train.engine.distributed import whole
from train.models.initial import assign
from train.models.mae import MAE, MAEConfig
from train.models.vit import ViT, ViTConfig, resize_positions


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """The whole state dict on the CPU, gathered from all ranks (every rank must call it)."""
    return {name: whole(value.detach()).cpu().contiguous() for name, value in module.state_dict().items()}


def save_weights(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name, then rename it. Call it on one rank."""
    temporary = path.with_name(path.name + ".tmp")
    save_file(dict(tensors), temporary, metadata=dict(header))
    _sort_header(temporary)
    flush(temporary)
    temporary.replace(path)
    flush(path.parent)


def _sort_header(path: Path) -> None:
    """Write the header's metadata in sorted order: safetensors keeps it in a hash map, whose order changes
    from process to process, and equal weights should be equal bytes.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(text) != size:
            raise RuntimeError(
                f"{path}: a header of {size} bytes became {len(text)}; safetensors changed its JSON"
            )
        file.seek(8)
        file.write(text)


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, header) of a safetensors file. Raises VitruvianError when it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:
        raise VitruvianError(f"{path}: cannot be read as safetensors weights: {error}") from None


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy `tensors` into `module`, sharded or not. Strict: raises VitruvianError that lists every
    difference.
    """
    own = module.state_dict()
    problems = [f"missing {name} {tuple(own[name].shape)}" for name in own.keys() - tensors.keys()]
    problems += [f"unexpected {name} {tuple(tensors[name].shape)}" for name in tensors.keys() - own.keys()]
    for name in own.keys() & tensors.keys():
        if own[name].shape != tensors[name].shape:
            got, expected = tuple(tensors[name].shape), tuple(own[name].shape)
            problems.append(f"shape of {name}: got {got}, expected {expected}")
    if problems:
        raise VitruvianError(f"{where}: weights do not fit the model:\n  " + "\n  ".join(sorted(problems)))
    for name, value in own.items():
        assign(value, tensors[name])


def save_encoder(path: Path, encoder_state: Mapping[str, Tensor], config: ViTConfig) -> None:
    """Write an encoder's whole state dict (timm's names) with its configuration in the header."""
    save_weights(path, encoder_state, {"format": "pt", "vit": config.model_dump_json()})


def load_encoder(path: Path, image_size: tuple[int, int] | None = None, with_cls: bool = False) -> ViT:
    """An encoder on the CPU from `save_encoder`'s file, for images of `image_size` (height, width; None: as
    it was trained).

    Positions are resized bicubically to the new grid; the cls token is dropped, as the paper does for its
    tasks, unless `with_cls`. Raises VitruvianError for a file that is no encoder, or when `with_cls` asks for
    a token it lacks.
    """
    tensors, header = read_weights(path)
    if "vit" not in header:
        raise VitruvianError(
            f"{path}: no encoder configuration in its header; expected a file of `vitruvian pretrain`"
        )
    old = ViTConfig.model_validate_json(header["vit"])
    if with_cls and not old.with_cls:
        raise VitruvianError(f"{path}: was trained without a cls token; load it with with_cls=False")
    changes = {"image_size": image_size or old.image_size, "with_cls": with_cls}
    encoder = ViT(ViTConfig.model_validate(old.model_dump() | changes))
    load_weights(encoder, adapt_positions(tensors, old, encoder.config), str(path))
    return encoder


def save_mae(path: Path, state: Mapping[str, Tensor], config: MAEConfig) -> None:
    """Write a masked autoencoder's whole state dict with its configuration in the header."""
    save_weights(path, state, {"format": "pt", "mae": config.model_dump_json()})


def load_mae(path: Path) -> MAE:
    """A masked autoencoder on the CPU from `save_mae`'s file. Raises VitruvianError for a file that is
    none.
    """
    tensors, header = read_weights(path)
    if "mae" not in header:
        raise VitruvianError(
            f"{path}: no autoencoder configuration in its header; expected mae.safetensors of `vitruvian "
            "pretrain` (an encoder alone cannot reconstruct)"
        )
    try:
        model = MAE(MAEConfig.model_validate_json(header["mae"]))
    except ValidationError as error:
        raise VitruvianError(f"{path}: the autoencoder configuration in its header: {error}") from None
    load_weights(model, tensors, str(path))
    return model


def adapt_positions(tensors: Mapping[str, Tensor], old: ViTConfig, new: ViTConfig) -> dict[str, Tensor]:
    """An encoder state dict for `old`, changed to fit `new`: grid resized, cls token and its position row
    dropped.
    """
    table = tensors["pos_embed"]
    cls, patches = table[:, : int(old.with_cls)], table[:, int(old.with_cls) :]
    if old.grid != new.grid:
        patches = resize_positions(patches, old.grid, new.grid)
    adapted = dict(tensors)
    adapted["pos_embed"] = torch.cat([cls, patches], dim=1) if new.with_cls else patches
    if not new.with_cls:
        adapted.pop("cls_token", None)
    return adapted
