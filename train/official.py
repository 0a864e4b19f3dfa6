"""Names and shapes of the official Sapiens checkpoints, and conversion between them and ours, both ways.

Pure functions over state dicts; files are in `train.weights`. Six kinds of checkpoint are known: the bare
encoder (`pretrain_clean`), encoder and MAE decoder (`pretrain`), and one for each task. What a checkpoint is,
is said by an `Architecture`: the shape of our model that takes it. A conversion renames, no value is touched.

Source of names and shapes: the module definitions of facebookresearch/sapiens at 3e829ac, issues #73, #119.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isqrt
from typing import Literal, get_args

import torch
from jaxtyping import Float
from pydantic import ValidationError
from torch import Tensor, nn

from annotation.keypoints import SIZES as KEYPOINTS
from annotation.parts import SIZES as CLASSES
from shards.errors import UsageError, VitruvianError
from train.finetune import Description, FinetuneConfig, assemble
from train.models.mae import MAE, MAEConfig
from train.models.vit import SIZES, ViT, ViTConfig, resize_positions, sincos_positions
from train.tasks import make_task

Kind = Literal["pretrain_clean", "pretrain", "pose", "parts", "depth", "normal"]
Architecture = ViTConfig | MAEConfig | Description
"""What our model of a checkpoint is: an encoder, a masked autoencoder or a task model."""
Shape = tuple[int, ...]

PATCH_PADDING: Mapping[str, int] = {"pose": 2, "normal": 2}
"""Zero padding of the patch convolution in the official configs, where it is not 0. No file says it."""
PADDED_CLASSES = 20
"""The part models of LIP and CIHP are padded by 2 as well, those of 28 classes are not."""
OFFICIAL_SIGMA = 6.0
"""Of the official heat maps, in their pixels (256 x 192)."""

_RENAMES = (
    (re.compile(r"^patch_embed\.proj\."), "patch_embed.projection."),
    (re.compile(r"^blocks\."), "layers."),
    (re.compile(r"\.norm([12])\."), r".ln\1."),
    (re.compile(r"\.mlp\.fc1\."), ".ffn.layers.0.0."),
    (re.compile(r"\.mlp\.fc2\."), ".ffn.layers.1."),
    (re.compile(r"^(decoder_)?norm\."), "ln1."),
)


def kind_of(architecture: Architecture) -> Kind:
    """The official kind of file that a model of `architecture` belongs in."""
    if isinstance(architecture, ViTConfig):
        return "pretrain_clean"
    if isinstance(architecture, MAEConfig):
        return "pretrain"
    kinds: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}
    return kinds[architecture.task]


def encoder_of(architecture: Architecture) -> ViTConfig:
    """The encoder's part of `architecture`."""
    if isinstance(architecture, ViTConfig):
        return architecture
    return architecture.encoder if isinstance(architecture, MAEConfig) else architecture.vit


def size_of(architecture: Architecture) -> str | None:
    """The name of the encoder's size; None when it has none."""
    vit = encoder_of(architecture)
    found = [name for name, shape in SIZES.items() if shape == (vit.width, vit.depth, vit.heads)]
    return found[0] if found else None


def official_padding(architecture: Architecture) -> int:
    """The patch padding that the official configuration of this kind of model has."""
    if isinstance(architecture, Description) and architecture.task == "parts":
        return 2 if architecture.config.target.classes == PADDED_CLASSES else 0
    return PATCH_PADDING.get(kind_of(architecture), 0)


def with_padding(architecture: Architecture, padding: int) -> Architecture:
    """`architecture` with another padding of the patch convolution; UsageError for an impossible one."""
    try:
        vit = ViTConfig.model_validate(encoder_of(architecture).model_dump() | {"patch_padding": padding})
        if isinstance(architecture, MAEConfig):
            return MAEConfig.model_validate(architecture.model_dump() | {"encoder": vit})
    except ValidationError as error:
        raise UsageError(f"patch padding {padding}: {error.errors()[0]['msg']}") from None
    return vit if isinstance(architecture, ViTConfig) else replace(architecture, vit=vit)


def skeleton(architecture: Architecture) -> nn.Module:
    """Our model of `architecture` on the meta device: names and shapes without values."""
    if isinstance(architecture, Description):
        task = make_task(architecture.task, architecture.config.target)
        with torch.device("meta"):
            return assemble(task, ViT(architecture.vit), architecture.head)
    with torch.device("meta"):
        return MAE(architecture) if isinstance(architecture, MAEConfig) else ViT(architecture)


def our_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Our name -> shape of every tensor of `architecture`."""
    return {name: tuple(value.shape) for name, value in skeleton(architecture).state_dict().items()}


def official_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Official name -> shape of every tensor of `architecture`."""
    return {official_name(name, architecture): s for name, s in our_shapes(architecture).items()}


def official_name(name: str, architecture: Architecture) -> str:
    """The official name of our tensor `name`."""
    if isinstance(architecture, ViTConfig):
        return _renamed(name)
    if name.startswith("encoder."):
        return "backbone." + _renamed(name.removeprefix("encoder."))
    if isinstance(architecture, MAEConfig):
        return "neck." + _renamed(name)
    return name if architecture.task == "pose" else "decode_" + name  # "head." is pose's own name for it


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def to_official(
    tensors: Mapping[str, Tensor], architecture: Architecture, where: str = "weights"
) -> dict[str, Tensor]:
    """Our state dict under official names. Raises VitruvianError that lists every difference from what
    `architecture` has, and for an architecture that no official file has: only pretraining has a cls token.
    """
    if encoder_of(architecture).with_cls == isinstance(architecture, Description):
        had = "has no" if isinstance(architecture, Description) else "has a"
        raise VitruvianError(f"{where}: an official {kind_of(architecture)} checkpoint {had} cls token")
    expected = our_shapes(architecture)
    check(expected, tensors, where)
    return {official_name(name, architecture): tensors[name] for name in expected}


def from_official(
    tensors: Mapping[str, Tensor], architecture: Architecture, where: str = "weights"
) -> dict[str, Tensor]:
    """The inverse of `to_official`, as strict."""
    expected = official_shapes(architecture)
    check(expected, tensors, where)
    return {name: tensors[official_name(name, architecture)] for name in our_shapes(architecture)}


def differences(expected: Mapping[str, Shape], got: Mapping[str, Shape]) -> list[str]:
    """One line for every name that is missing, unexpected or of another shape, sorted within each."""
    lines = [f"missing {name}: expected {expected[name]}" for name in sorted(expected.keys() - got.keys())]
    lines += [f"unexpected {name}: got {got[name]}" for name in sorted(got.keys() - expected.keys())]
    both = sorted(expected.keys() & got.keys())
    return lines + [
        f"shape of {name}: expected {expected[name]}, got {got[name]}"
        for name in both
        if expected[name] != got[name]
    ]


def check(expected: Mapping[str, Shape], tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise VitruvianError that lists every difference, and what it usually means."""
    got = {name: tuple(value.shape) for name, value in tensors.items()}
    if lines := differences(expected, got):
        text = "\n  ".join(lines + [f"hint: {hint}" for hint in hints(expected, got)])
        raise VitruvianError(f"{where}: {len(lines)} differences from what was expected:\n  {text}")


def hints(expected: Iterable[str], got: Iterable[str]) -> list[str]:
    """What names that do not fit usually mean."""
    expected, got = set(expected), set(got)
    found = []
    if "backbone.pos_embed" in expected and "pos_embed" in got:
        found.append(
            "these are the names of a `_clean` file: the encoder alone, without `backbone.` and without the "
            "decoder or head. Take the file without `_clean` (facebookresearch/sapiens#108)"
        )
    if "pos_embed" in expected and "backbone.pos_embed" in got:
        found.append("these names start with `backbone.`: not a `_clean` file, whose names have no prefix")
    if {"blocks.0.norm1.weight", "encoder.blocks.0.norm1.weight"} & (got - expected):
        found.append("these are our own names (in an encoder, timm's too): nothing to convert from")
    if any(".attn.wq." in name for name in got):
        found.append("this is a Sapiens2 checkpoint: another architecture, which is not supported")
    return found


def recognise(shapes: Mapping[str, Shape], where: str = "weights") -> Architecture:
    """What an official checkpoint with these names and shapes is: kind, size, image size, vocabulary.

    The patch padding is the one of the official configuration (`with_padding` changes it). The names are not
    checked one by one: `from_official` does that. Raises VitruvianError when no kind fits.
    """
    prefix = "" if "pos_embed" in shapes else "backbone."
    parts = {name.split(".")[0] for name in shapes}
    if f"{prefix}pos_embed" not in shapes or (prefix and not parts & {"neck", "head", "decode_head"}):
        raise VitruvianError(_unknown(shapes, where))
    table = shapes[f"{prefix}pos_embed"]
    sizes = {width: name for name, (width, _, _) in SIZES.items()}
    if len(table) != 3 or table[2] not in sizes:
        known = ", ".join(f"{width} ({name})" for width, name in sizes.items())
        raise VitruvianError(f"{where}: {prefix}pos_embed: expected (1, rows, width) of {known}; got {table}")
    size = sizes[table[2]]
    with_cls = not prefix or "neck" in parts
    image_size = _image_size(table[1] - with_cls, f"{where}: {prefix}pos_embed")
    if not prefix:
        return ViTConfig.of(size, image_size)
    if "neck" in parts:
        return MAEConfig.of(size, image_size)
    return _task(size, image_size, shapes, where)


def _task(size: str, image_size: tuple[int, int], shapes: Mapping[str, Shape], where: str) -> Description:
    outputs = [name for name in ("head.final_layer.weight", "decode_head.conv_seg.weight") if name in shapes]
    if len(outputs) != 1:
        raise VitruvianError(
            f"{where}: expected one of head.final_layer.weight (pose) and decode_head.conv_seg.weight "
            f"(parts, depth, normal); got {' and '.join(outputs) or 'neither'}"
        )
    channels = shapes[outputs[0]][0]
    name = "pose" if outputs[0].startswith("head.") else {1: "depth", 3: "normal"}.get(channels, "parts")
    if channels not in {"pose": KEYPOINTS, "parts": CLASSES}.get(name, (channels,)):
        raise VitruvianError(
            f"{where}: {outputs[0]} has {channels} outputs; the vocabularies here have {KEYPOINTS} keypoints "
            f"and {CLASSES} parts"
        )
    targets = {"pose": {"keypoints": channels, "sigma": OFFICIAL_SIGMA}, "parts": {"classes": channels}}
    settings = {"image_size": image_size, "size": size, "target": targets.get(name, {})}
    # How it was trained is not in the file: the number of steps and the rest of the recipe say nothing.
    config = FinetuneConfig.model_validate(settings | {"steps": 1, "warmup_steps": 0})
    plain = Description(name, config, ViTConfig.of(size, image_size, with_cls=False))
    return replace(plain, vit=encoder_of(with_padding(plain, official_padding(plain))))


def _image_size(patches: int, where: str) -> tuple[int, int]:
    """(height, width) in pixels from the number of patches: a square, or 4:3 as in the tasks."""
    side, unit = isqrt(patches), isqrt(patches // 12)
    if side and side * side == patches:
        return 16 * side, 16 * side
    if unit and 12 * unit * unit == patches:
        return 64 * unit, 48 * unit
    raise VitruvianError(
        f"{where}: {patches} patches are neither a square nor 4:3; expected 64 x 64 with one row for cls "
        "(pretraining), or 64 x 48 without (tasks)"
    )


def _unknown(shapes: Mapping[str, Shape], where: str) -> str:
    starts = sorted({name.split(".")[0] for name in shapes})
    lines = [
        f"{where}: not an official checkpoint: its names start with {', '.join(starts[:12])}",
        "expected: cls_token, pos_embed, layers.N... (`_clean`); backbone... + neck... (pretraining); "
        "backbone... + head... (pose); backbone... + decode_head... (parts, depth, normal)",
    ]
    if starts == ["backbone"]:
        lines.append("hint: in the official `_clean` files the names of an encoder have no `backbone.`")
    return "\n  ".join(lines + [f"hint: {hint}" for hint in hints((), shapes)])


def describe_positions(table_1ND: Float[Tensor, "1 n d"], config: ViTConfig) -> str:
    """Which table of positions this is, within 1e-4 of the formulas."""
    table = table_1ND.float()
    cls, patches = table[:, : int(config.with_cls)], table[:, int(config.with_cls) :]
    square = (max(config.grid),) * 2
    rows = sincos_positions(config.grid, config.width, with_cls=False)
    resized = resize_positions(sincos_positions(square, config.width, with_cls=False), square, config.grid)
    half = config.width // 2
    candidates = {
        "row-first sines and cosines": rows,
        f"row-first sines and cosines, resized from {square[0]} x {square[1]}": resized,
        "column-first sines and cosines (not the official order)": rows.roll(half, dims=2),
    }
    near = [name for name, other in candidates.items() if (patches - other).abs().max() < 1e-4]
    name = near[0] if near else "other than the formulas (trained)"
    return name + (", cls row not zero" if cls.any() else "")
