"""Weights files of ours and of the official repository: what one is, import, export.

Ours are safetensors whose header rebuilds the model: an encoder (`vit`), a task model (`finetune`), a masked
autoencoder with its decoder (`mae`). Official ones are `.pth`, `.safetensors` with the same names, or
TorchScript; those written here carry our header too, so that importing them again restores the file.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shards.errors import UsageError, VitruvianError
from shards.files import flush, sha256_file
from train.engine.archive import read_archive
from train.engine.checkpoint import read_weights, save_weights
from train.finetune import Description
from train.models.mae import MAEConfig
from train.models.vit import ViTConfig
from train.official import (
    Architecture,
    check,
    describe_positions,
    encoder_of,
    from_official,
    kind_of,
    official_padding,
    our_shapes,
    recognise,
    size_of,
    to_official,
    with_padding,
)

CARRIED = "vitruvian"
"""Where an official file written here has our header: in `meta` of a .pth, in the header of safetensors."""
RECIPE_IMAGE_SIZE = {"pretrain_clean": (1024, 1024), "pretrain": (1024, 1024)}
TASK_IMAGE_SIZE = (1024, 768)


@dataclass(frozen=True)
class Weights:
    """A whole state dict under our names, and what it is."""

    tensors: dict[str, Tensor]
    architecture: Architecture
    header: dict[str, str]
    """Of our file, or the one that an official file carries; empty when there is none."""
    official: bool
    """Whether the file has the official names."""


def read(path: Path, patch_padding: int | None = None) -> Weights:
    """A weights file of either side, checked to the last name and shape.

    `patch_padding` replaces what the header or, without one, the official configuration says. Raises
    VitruvianError for a file that is neither, with every difference when names or shapes do not fit.
    """
    where, carried = str(path), None
    if path.suffix == ".safetensors":
        tensors, header = read_weights(path)
        carried = header.get(CARRIED)
    else:
        tensors, meta = read_archive(path)
        header, carried = {}, meta.get(CARRIED)
    official = not header.keys() & {"vit", "mae"}
    if official:
        header = _carried_header(carried, where)
        shapes = {name: tuple(value.shape) for name, value in tensors.items()}
        architecture = architecture_of(header, where) if header else recognise(shapes, where)
        tensors = from_official(tensors, architecture, where)
    else:
        architecture = architecture_of(header, where)
        check(our_shapes(architecture), tensors, where)
    if patch_padding is not None:
        architecture = with_padding(architecture, patch_padding)
    return Weights(tensors, architecture, header, official)


def _carried_header(text: Any, where: str) -> dict[str, str]:
    try:
        return {} if text is None else {str(name): str(value) for name, value in json.loads(text).items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise VitruvianError(f"{where}: its {CARRIED!r} entry is not a header of ours: {error}") from None


def header_of(architecture: Architecture) -> dict[str, str]:
    """The header of our file, which rebuilds the model."""
    if isinstance(architecture, Description):
        return architecture.header()
    name = "mae" if isinstance(architecture, MAEConfig) else "vit"
    return {"format": "pt", name: architecture.model_dump_json()}


def architecture_of(header: Mapping[str, str], where: str) -> Architecture:
    """The inverse of `header_of`. Raises VitruvianError for a header of something else."""
    if "task" in header:
        return Description.of(header, where)
    try:
        if "mae" in header:
            return MAEConfig.model_validate_json(header["mae"])
        return ViTConfig.model_validate_json(header["vit"])
    except (KeyError, ValueError) as error:
        raise VitruvianError(f"{where}: its header does not say which model it is: {error!r}") from None


def import_weights(
    path: Path, out: Path, patch_padding: int | None = None, *, decoder: bool = False, replace: bool = False
) -> Architecture:
    """Write the official checkpoint `path` as our file `out`: an encoder or a task model; with `decoder`, the
    whole masked autoencoder of a pretraining file (`train.engine.checkpoint.load_mae`).

    Raises UsageError for an `out` that exists (unless `replace`) or has another suffix, VitruvianError for a
    file that does not fit.
    """
    _check_out(out, (".safetensors",), replace)
    weights = read(path, patch_padding)
    if not weights.official:
        raise UsageError(f"{path}: already a weights file of ours; `weights export` writes official ones")
    tensors, architecture = weights.tensors, weights.architecture
    if decoder and not isinstance(architecture, MAEConfig):
        raise UsageError(
            f"{path}: a {kind_of(architecture)} checkpoint has no MAE decoder; it is in the pretraining file "
            "whose name does not end in `_clean`"
        )
    header = dict(weights.header)
    if isinstance(architecture, MAEConfig) and not decoder:
        prefix, architecture = "encoder.", architecture.encoder
        tensors = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
        header.pop("mae", None)
    if not weights.header:
        header["imported"] = json.dumps({"name": path.name, "sha256": sha256_file(path)})
    save_weights(out, _own_memory(tensors), header | header_of(architecture))
    return architecture


def export_weights(path: Path, out: Path, *, replace: bool = False) -> Architecture:
    """Write our file `path` under official names: `out` ends in .pth or .safetensors.

    A .pth holds `{"state_dict", "meta"}`, or for a bare encoder the plain dictionary of tensors, as the
    official files do. Raises UsageError for an `out` that exists (unless `replace`) or has another suffix,
    VitruvianError for weights that no official file could hold.
    """
    _check_out(out, (".pth", ".safetensors"), replace)
    weights = read(path)
    if weights.official:
        raise UsageError(f"{path}: has official names already; `weights import` makes it ours")
    tensors = _own_memory(to_official(weights.tensors, weights.architecture, str(path)))
    carried = json.dumps(dict(sorted(weights.header.items())))
    if out.suffix == ".safetensors":
        kind = kind_of(weights.architecture)
        save_weights(out, tensors, {"format": "pt", "official": kind, CARRIED: carried})
    elif isinstance(weights.architecture, ViTConfig):
        _save_pickle(out, tensors)
    else:
        _save_pickle(out, {"state_dict": tensors, "meta": {CARRIED: carried}})
    return weights.architecture


def inspect_weights(path: Path, patch_padding: int | None = None) -> dict[str, Any]:
    """What a weights file is, as plain data for JSON."""
    weights = read(path, patch_padding)
    vit, tensors = encoder_of(weights.architecture), weights.tensors
    table = tensors["pos_embed" if isinstance(weights.architecture, ViTConfig) else "encoder.pos_embed"]
    said = "given" if patch_padding is not None else "header" if weights.header else "official configuration"
    groups = Counter(name.split(".")[0] if "." in name else name for name in tensors)
    return {
        "file": str(path),
        "names": "official" if weights.official else "ours",
        "kind": kind_of(weights.architecture),
        "size": size_of(weights.architecture),
        **_vocabulary(weights.architecture),
        "image_size": list(vit.image_size),
        "patch_padding": vit.patch_padding,
        "patch_padding_from": said,
        "positions": describe_positions(table, vit),
        "parameters": sum(value.numel() for value in tensors.values()),
        "tensors": len(tensors),
        "dtypes": dict(Counter(str(value.dtype).removeprefix("torch.") for value in tensors.values())),
        "groups": dict(groups),
        "notes": notes(weights.architecture),
    }


def notes(architecture: Architecture) -> list[str]:
    """Where a model differs from the official configuration of its kind, for whoever loads it there."""
    kind, vit = kind_of(architecture), encoder_of(architecture)
    usual = RECIPE_IMAGE_SIZE.get(kind, TASK_IMAGE_SIZE)
    found = []
    if vit.patch_padding != official_padding(architecture):
        found.append(
            f"patch padding {vit.patch_padding}; the official {kind} configuration has "
            f"{official_padding(architecture)}"
        )
    if vit.image_size != usual:
        found.append(f"image size {vit.image_size}; the official {kind} configuration has {usual}")
    if size_of(architecture) in (None, "small", "tiny"):
        found.append("a size that the official repository does not have")
    return found


def _vocabulary(architecture: Architecture) -> dict[str, int]:
    if not isinstance(architecture, Description):
        return {}
    target = architecture.config.target
    if architecture.task == "pose":
        return {"keypoints": target.keypoints}
    return {"classes": target.classes} if architecture.task == "parts" else {}


def _check_out(out: Path, suffixes: tuple[str, ...], replace: bool) -> None:
    if out.suffix not in suffixes:
        raise UsageError(f"--out {out}: expected a name that ends in {' or '.join(suffixes)}")
    if out.exists() and not replace:
        raise UsageError(f"--out {out}: exists; give another name, or --replace to overwrite it")
    if not out.parent.is_dir():
        raise UsageError(f"--out {out}: its folder does not exist")


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same values, each in memory of its own: a tensor that is a view of a file would be saved with all
    of the file, or refused.
    """
    return {
        name: value.contiguous()
        if value.untyped_storage().nbytes() == value.numel() * value.element_size()
        else value.clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def _save_pickle(path: Path, content: Mapping[str, Any]) -> None:
    """torch.save under a temporary name, then a rename."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
        flush(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    flush(path.parent)
