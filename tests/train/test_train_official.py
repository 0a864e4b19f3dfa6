"""Official names and shapes, conversion to the bit both ways, what is refused and how, positions, timm."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shards.errors import UsageError, VitruvianError
from tests.train.architectures import assert_same_bits, built, random_state, task_model, tiny
from train.engine.checkpoint import load_weights
from train.finetune import Description
from train.models.heads import PUBLISHED_HEADS
from train.models.mae import MAEConfig
from train.models.vit import SIZES, ViT, ViTConfig, sincos_positions
from train.official import (
    Shape,
    describe_positions,
    differences,
    encoder_of,
    from_official,
    kind_of,
    official_padding,
    official_shapes,
    our_shapes,
    recognise,
    size_of,
    to_official,
    with_padding,
)
from train.tasks import make_task
from train.weights import import_weights

REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "vocab" / "checkpoint_keys_0.3b.json"
FILES = {  # name in the reference -> (kind, elements, outputs of the head)
    "pretrain_clean": ("pretrain_clean", 307_295_232, 0),
    "pretrain_full_state_dict": ("pretrain", 335_532_288, 0),
    "pose_goliath_308": ("pose", 329_682_740, 308),
    "seg_28": ("parts", 339_495_196, 28),
    "depth": ("depth", 319_910_017, 1),
    "normal": ("normal", 339_475_971, 3),
}
KINDS = [kind for kind, _, _ in FILES.values()]


def block(prefix: str, width: int) -> Iterator[tuple[str, Shape]]:
    """One transformer block as the official module definition has it."""
    for norm in ("ln1", "ln2"):
        yield from ((f"{prefix}.{norm}.{part}", (width,)) for part in ("weight", "bias"))
    linear = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "ffn.layers.0.0": (4 * width, width),
        "ffn.layers.1": (width, 4 * width),
    }
    for name, shape in linear.items():
        yield from ((f"{prefix}.{name}.weight", shape), (f"{prefix}.{name}.bias", shape[:1]))


def published(kind: str, size: str, outputs: int) -> dict[str, Shape]:
    """Official names and shapes written out from the published definitions, without the code under test."""
    width, depth, _ = SIZES[size]
    pre, pretrain = "" if kind == "pretrain_clean" else "backbone.", kind.startswith("pretrain")
    found: dict[str, Shape] = {f"{pre}pos_embed": (1, 4097 if pretrain else 3072, width)}
    if pretrain:
        found[f"{pre}cls_token"] = (1, 1, width)
    found[f"{pre}patch_embed.projection.weight"] = (width, 3, 16, 16)
    found[f"{pre}patch_embed.projection.bias"] = (width,)
    for number in range(depth):
        found |= dict(block(f"{pre}layers.{number}", width))
    found |= {f"{pre}ln1.{part}": (width,) for part in ("weight", "bias")}
    if kind == "pretrain":
        found |= {"neck.mask_token": (1, 1, 512), "neck.decoder_pos_embed": (1, 4097, 512)}
        found |= {"neck.decoder_embed.weight": (512, width), "neck.decoder_embed.bias": (512,)}
        found |= {"neck.decoder_pred.weight": (768, 512), "neck.decoder_pred.bias": (768,)}
        found |= {f"neck.ln1.{part}": (512,) for part in ("weight", "bias")}
        for number in range(8):
            found |= dict(block(f"neck.decoder_blocks.{number}", 512))
    if not pretrain:
        deconvs, convs, channels = {"pose": (2, 2, 768), "depth": (4, 2, 384)}.get(kind, (3, 3, 768))
        head, last = ("head", "final_layer") if kind == "pose" else ("decode_head", "conv_seg")
        for number in range(deconvs):
            into = width if number == 0 else channels
            found[f"{head}.deconv_layers.{3 * number}.weight"] = (into, channels, 4, 4)
        for number in range(convs):
            found[f"{head}.conv_layers.{3 * number}.weight"] = (channels, channels, 1, 1)
            found[f"{head}.conv_layers.{3 * number}.bias"] = (channels,)
        found[f"{head}.{last}.weight"] = (outputs, channels, 1, 1)
        found[f"{head}.{last}.bias"] = (outputs,)
    return found


# Names and shapes


@pytest.mark.parametrize("name", FILES)
def test_names_and_shapes_equal_the_reference_list(name: str) -> None:
    if not REFERENCE.is_file():
        pytest.skip(f"{REFERENCE}: the reference lists are not here")
    listed = {key: tuple(shape) for key, shape in json.loads(REFERENCE.read_text())["files"][name].items()}
    architecture = recognise(listed)
    assert kind_of(architecture) == FILES[name][0] and size_of(architecture) == "0.3b"
    assert official_shapes(architecture) == listed


@pytest.mark.parametrize(
    ("name", "size"),
    [*((name, "0.3b") for name in FILES), *(("pose_goliath_308", size) for size in ("0.6b", "1b", "2b"))],
)
def test_names_and_shapes_follow_the_published_definitions(name: str, size: str) -> None:
    kind, elements, outputs = FILES[name]
    expected = published(kind, size, outputs)
    architecture = recognise(expected)
    assert (kind_of(architecture), size_of(architecture)) == (kind, size)
    assert official_shapes(architecture) == expected
    if size == "0.3b":
        assert sum(torch.Size(shape).numel() for shape in expected.values()) == elements


def test_a_recognised_task_model_has_the_published_head_and_its_vocabulary() -> None:
    for (kind, outputs), padding in {
        ("pose", 308): 2,
        ("pose", 133): 2,
        ("pose", 17): 2,
        ("normal", 3): 2,
        ("parts", 20): 2,
        ("parts", 28): 0,
        ("depth", 1): 0,
    }.items():
        architecture = recognise(published(kind, "0.6b", outputs))
        assert isinstance(architecture, Description)
        assert architecture.head == PUBLISHED_HEADS[kind]
        assert architecture.vit.image_size == architecture.config.image_size == (1024, 768)
        assert architecture.vit.patch_padding == padding == official_padding(architecture)
        assert make_task(kind, architecture.config.target).channels == outputs


def test_the_image_size_follows_from_the_positions() -> None:
    shapes = published("depth", "0.3b", 1) | {"backbone.pos_embed": (1, 4096, 1024)}
    assert encoder_of(recognise(shapes)).image_size == (1024, 1024)
    shapes["backbone.pos_embed"] = (1, 192, 1024)
    assert encoder_of(recognise(shapes)).image_size == (256, 192)
    shapes["backbone.pos_embed"] = (1, 3073, 1024)
    with pytest.raises(
        VitruvianError, match=r"backbone\.pos_embed: 3073 patches are neither a square nor 4:3"
    ):
        recognise(shapes)


# Conversion


@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_changes_no_bit(kind: str) -> None:
    architecture = tiny(kind)
    ours = random_state(our_shapes(architecture))
    official = to_official(ours, architecture)
    assert {name: tuple(value.shape) for name, value in official.items()} == official_shapes(architecture)
    assert_same_bits(from_official(official, architecture), ours)
    assert_same_bits(to_official(from_official(official, architecture), architecture), official)


def uneven(model: nn.Module) -> dict[str, Tensor]:
    """Its state with every tensor disturbed, so that no two norms are alike."""
    generator = torch.Generator().manual_seed(9)
    return {
        name: value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in model.state_dict().items()
    }


def official_tokens(state: Mapping[str, Tensor], images: Tensor, depth: int, heads: int) -> Tensor:
    """The encoder by the meaning of the official names: ln1 before attention, ln2 before ffn, ln1 last."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    name = "patch_embed.projection"
    x = F.conv2d(images, state[f"{name}.weight"], state[f"{name}.bias"], stride=16)
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
    x = x + state["pos_embed"]
    for number in range(depth):
        layer = f"layers.{number}"
        b, n, d = x.shape
        qkv = linear(norm(x, f"{layer}.ln1"), f"{layer}.attn.qkv").reshape(b, n, 3, heads, d // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(2, 3) / (d // heads) ** 0.5).softmax(3)
        x = x + linear((weights @ v).transpose(1, 2).reshape(b, n, d), f"{layer}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"{layer}.ln2"), f"{layer}.ffn.layers.0.0"))
        x = x + linear(hidden, f"{layer}.ffn.layers.1")
    return norm(x, "ln1")


def test_official_names_mean_what_they_say() -> None:
    """Shapes cannot tell ln1 from ln2; outputs can."""
    config = ViTConfig.of("tiny", (96, 64))
    model = ViT(config).eval()
    state = uneven(built(config))
    load_weights(model, state, "uneven")
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(8))
    tokens = official_tokens(to_official(state, config), images, config.depth, config.heads)
    with torch.no_grad():
        torch.testing.assert_close(model(images), tokens, atol=1e-4, rtol=1e-4)


# What is refused, and how


def test_every_difference_is_listed() -> None:
    architecture = task_model("pose")
    tensors = to_official(random_state(our_shapes(architecture)), architecture)
    tensors.pop("backbone.layers.3.ln2.bias")
    tensors["backbone.cls_token"] = torch.zeros(1, 1, 192)
    tensors["backbone.patch_embed.projection.weight"] = torch.zeros(192, 3, 32, 32)  # sapiens#88
    with pytest.raises(VitruvianError) as caught:
        from_official(tensors, architecture, "sapiens.pth")
    assert str(caught.value).splitlines() == [
        "sapiens.pth: 3 differences from what was expected:",
        "  missing backbone.layers.3.ln2.bias: expected (192,)",
        "  unexpected backbone.cls_token: got (1, 1, 192)",
        "  shape of backbone.patch_embed.projection.weight: expected (192, 3, 16, 16), got (192, 3, 32, 32)",
    ]


def test_differences_of_equal_names_are_none() -> None:
    assert differences({"a": (1,)}, {"a": (1,)}) == []


def test_a_clean_file_in_place_of_the_whole_is_explained(tmp_path: Path) -> None:
    """sapiens#108: `_clean` renamed, no decoder, grey pictures."""
    config = MAEConfig.of("tiny", (64, 64))
    clean = to_official(random_state(our_shapes(config.encoder)), config.encoder)
    with pytest.raises(VitruvianError, match="hint: these are the names of a `_clean` file"):
        from_official(clean, config)
    torch.save(clean, tmp_path / "clean.pth")
    with pytest.raises(UsageError, match="pretrain_clean checkpoint has no MAE decoder"):
        import_weights(tmp_path / "clean.pth", tmp_path / "m.safetensors", decoder=True)
    whole = to_official(random_state(our_shapes(config)), config)
    with pytest.raises(VitruvianError, match=r"hint: these names start with `backbone\.`"):
        from_official(whole, config.encoder)


def shapes_of(*names: str) -> dict[str, Shape]:
    return dict.fromkeys(names, (1,))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (shapes_of("blocks.0.attn.wq.weight"), "Sapiens2 checkpoint"),
        (shapes_of("encoder.blocks.0.norm1.weight"), "our own names"),
        (shapes_of("model.weight", "fc"), "not an official checkpoint: its names start with fc, model"),
        (shapes_of("backbone.pos_embed"), "names of an encoder have no `backbone.`"),
        (published("parts", "0.3b", 19), r"has 19 outputs; .* \(20, 28, 29\) parts"),
        (published("pose", "0.3b", 21), r"has 21 outputs; .* \(17, 133, 308\) keypoints"),
        (published("depth", "0.3b", 1) | {"backbone.pos_embed": (1, 3072, 1000)}, r"1024 \(0.3b\)"),
        (published("depth", "0.3b", 1) | shapes_of("head.final_layer.weight"), "expected one of"),
        ({"backbone.pos_embed": (1, 3072, 1024), "head.x": (1,)}, "got neither"),
    ],
)
def test_what_is_no_official_checkpoint_is_named(shapes: dict[str, Shape], message: str) -> None:
    with pytest.raises(VitruvianError, match=message):
        recognise(shapes, "x.pth")


def test_a_layer_that_is_missing_is_not_another_size() -> None:
    """One block too few, or a shorter head, is a difference, not a smaller model."""
    shapes = published("normal", "0.3b", 3)
    lacking = {
        name: shape
        for name, shape in shapes.items()
        if ".layers.23." not in name and "deconv_layers.6" not in name
    }
    lines = differences(official_shapes(recognise(lacking)), lacking)
    assert len(lines) == 13 and all(line.startswith("missing") for line in lines)


def test_only_pretraining_has_a_cls_token() -> None:
    bare = ViTConfig.of("tiny", (64, 64), with_cls=False)
    with pytest.raises(VitruvianError, match="an official pretrain_clean checkpoint has a cls token"):
        to_official(random_state(our_shapes(bare)), bare)
    odd = Description("depth", task_model("depth").config, ViTConfig.of("tiny", (64, 48)))
    with pytest.raises(VitruvianError, match="an official depth checkpoint has no cls token"):
        to_official(random_state(our_shapes(odd)), odd)


def test_padding_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"patch padding 8: .*must be in \[0, 8\)"):
        with_padding(ViTConfig.of("tiny"), 8)
    with pytest.raises(UsageError, match="masked patches must not leak"):
        with_padding(MAEConfig.of("tiny"), 2)


# Positions


def test_positions_are_told_apart() -> None:
    config = ViTConfig.of("tiny", (64, 64))
    table = sincos_positions(config.grid, config.width, with_cls=True)
    assert describe_positions(table, config) == "row-first sines and cosines"
    swapped = torch.cat([table[..., 96:], table[..., :96]], dim=2)
    assert describe_positions(swapped, config).startswith("column-first")
    assert describe_positions(table + 0.01, config) == "other than the formulas (trained), cls row not zero"
    task = ViTConfig.of("tiny", (64, 48), with_cls=False)
    grid = table[:, 1:].transpose(1, 2).reshape(1, -1, 4, 4)
    resized = F.interpolate(grid, size=(4, 3), mode="bicubic").flatten(2).transpose(1, 2)
    assert describe_positions(resized, task) == "row-first sines and cosines, resized from 4 x 4"


def test_the_first_half_of_the_channels_is_the_row() -> None:
    """The official table by its definition: row index, temperature 10000, sines then cosines; then column."""
    table = sincos_positions((3, 2), 8, with_cls=True)
    row, column = 2, 1
    angles = torch.tensor([1.0, 0.01])
    expected = torch.cat(
        [(row * angles).sin(), (row * angles).cos(), (column * angles).sin(), (column * angles).cos()]
    )
    torch.testing.assert_close(table[0, 1 + row * 2 + column], expected)
    assert not table[0, 0].any()


# timm


def test_timm_says_the_same_from_official_names() -> None:
    """Renamed by the rule of timm's users, not by ours, the official tensors give the same tokens."""
    timm: Any = pytest.importorskip("timm")
    config = ViTConfig.of("tiny", (96, 64))
    model = ViT(config).eval()
    load_weights(model, uneven(built(config, seed=7)), "uneven")
    official = to_official(model.state_dict(), config)
    width, depth, heads = SIZES["tiny"]
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=(96, 64), embed_dim=width, depth=depth, num_heads=heads, num_classes=0, global_pool=""
    )
    theirs.load_state_dict({timm_name(name): value for name, value in official.items()}, strict=True)
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(8))
    back = ViT(config)
    load_weights(back, from_official(official, config), "official")
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(images), back.eval()(images), atol=1e-5, rtol=1e-5)
        assert torch.equal(back(images), model(images))


def timm_name(name: str) -> str:
    """By splitting at dots: the seven renames that users of timm make."""
    parts = name.split(".")
    if parts[0] == "layers":
        inner = {"ln1": "norm1", "ln2": "norm2"}.get(parts[2], parts[2])
        rest = parts[3:]
        if parts[2] == "ffn":
            inner, rest = "mlp", ["fc1" if parts[4] == "0" else "fc2", parts[-1]]
        return ".".join(["blocks", parts[1], inner, *rest])
    return name.replace("projection", "proj").replace("ln1", "norm")
