"""The encoder: Table 2 to the parameter, the FLOP formulas, positions, any grid, patch padding."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from train.models.initial import initialise
from train.models.vit import (
    SIZES,
    ViT,
    ViTConfig,
    denormalise_images,
    forward_flops,
    normalise_images,
    paper_flops,
    resize_positions,
    sincos_positions,
)

SMALL = ViTConfig(width=32, depth=2, heads=4, image_size=(64, 48))
TABLE_2_FLOPS = {"0.3b": 1.242, "0.6b": 2.583, "1b": 4.647, "2b": 8.709}
ENCODERS = {"0.3b": 307_295_232, "0.6b": 635_910_400, "1b": 1_140_739_584, "2b": 2_133_912_960}


def vit(config: ViTConfig = SMALL, seed: int = 0) -> ViT:
    model = ViT(config)
    initialise(model, seed)
    return model


def block_of(model: ViT, number: int) -> Any:
    return model.blocks[number]


@pytest.mark.parametrize("size", ENCODERS)
def test_encoder_parameters_and_the_papers_flops(size: str) -> None:
    with torch.device("meta"):
        model = ViT(ViTConfig.of(size))
    assert sum(p.numel() for p in model.parameters()) == ENCODERS[size]
    assert round(paper_flops(model.config) / 1e12, 3) == TABLE_2_FLOPS[size]


@pytest.mark.parametrize("with_cls", [True, False])
@pytest.mark.parametrize("size", [(64, 48), (32, 160)])
def test_forward_flops_are_what_torch_counts(size: tuple[int, int], with_cls: bool) -> None:
    config = SMALL.model_copy(update={"image_size": size, "with_cls": with_cls})
    # The counter does not know the CPU's fused attention; the plain one is made of matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        vit(config)(torch.zeros(1, 3, *size))
    assert counter.get_total_flops() == forward_flops(config)


def test_names_are_timms() -> None:
    names = {name.replace("blocks.1.", "blocks.0.") for name in vit().state_dict()}
    block = {f"blocks.0.{n}.{p}" for n in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
             for p in ("weight", "bias")}  # fmt: skip
    outside = {
        "cls_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "norm.weight",
        "norm.bias",
    }
    assert names == block | outside


def test_equals_timm() -> None:
    timm = pytest.importorskip("timm", reason="timm is no dependency")
    ours = vit()
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=SMALL.image_size,
        patch_size=16,
        embed_dim=32,
        depth=2,
        num_heads=4,
        num_classes=0,
        global_pool="",
    )
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, 64, 48)
    torch.testing.assert_close(ours(images), theirs(images))


def test_a_block_equals_attention_written_out() -> None:
    """softmax(q k^T / sqrt(d)) v, by hand, on weights drawn at random."""
    model = vit(seed=3)
    block = block_of(model, 0)
    x = torch.randn(2, 5, 32)
    q, k, v = F.linear(F.layer_norm(x, (32,), eps=1e-6), block.attn.qkv.weight, block.attn.qkv.bias).chunk(
        3, dim=-1
    )
    heads = [
        torch.softmax(q[..., s] @ k[..., s].mT / math.sqrt(8), dim=-1) @ v[..., s]
        for s in (slice(h * 8, h * 8 + 8) for h in range(4))
    ]
    y = x + F.linear(torch.cat(heads, dim=-1), block.attn.proj.weight, block.attn.proj.bias)
    hidden = F.gelu(F.linear(F.layer_norm(y, (32,), eps=1e-6), block.mlp.fc1.weight, block.mlp.fc1.bias))
    expected = y + F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_embedding_all_patches_one_by_one_equals_the_convolution() -> None:
    model = vit()
    images = torch.randn(2, 3, 64, 48)
    patches = F.unfold(images, 16, stride=16).mT  # unfold's values are in channel, row, column order too
    index = torch.arange(12).expand(2, -1)
    torch.testing.assert_close(
        model.encode(model.embed_patches(patches, index)), model(images), atol=1e-5, rtol=1e-5
    )


def test_positions_encode_the_row_first() -> None:
    table = sincos_positions((3, 4), 16, with_cls=True)
    assert table.shape == (1, 13, 16)
    assert (table[0, 0] == 0).all()
    grid = table[0, 1:].reshape(3, 4, 16)
    assert (grid[:, :1, :8] == grid[..., :8]).all()  # the first half depends on the row alone
    assert (grid[:1, :, 8:] == grid[..., 8:]).all()  # the second on the column alone
    frequency = 10000.0 ** (-torch.arange(4) / 4)
    torch.testing.assert_close(grid[2, 0, :8], torch.cat([(2 * frequency).sin(), (2 * frequency).cos()]))
    torch.testing.assert_close(grid[0, 3, 8:], torch.cat([(3 * frequency).sin(), (3 * frequency).cos()]))


def test_positions_are_frozen_parameters() -> None:
    assert not vit().pos_embed.requires_grad


def test_resizing_positions_to_the_same_grid_changes_nothing() -> None:
    table = sincos_positions((4, 6), 16, with_cls=False)
    torch.testing.assert_close(resize_positions(table, (4, 6), (4, 6)), table)
    assert resize_positions(table, (4, 6), (8, 3)).shape == (1, 24, 16)


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (16, 16), (128, 32)])
def test_any_multiple_of_the_patch_is_an_input(size: tuple[int, int]) -> None:
    images = torch.randn(1, 3, *size)
    rows, columns = size[0] // 16, size[1] // 16
    assert vit()(images).shape == (1, rows * columns + 1, 32)
    assert vit().features(images).shape == (1, 32, rows, columns)


def test_feature_cells_are_where_their_pixels_are() -> None:
    """Only the cell under a changed pixel has a changed embedding (before any attention)."""
    model = vit(SMALL.model_copy(update={"depth": 0, "with_cls": False}))
    images = torch.zeros(1, 3, 64, 48)
    changed = images.clone()
    changed[0, 1, 35, 20] = 5
    difference = (model.features(images) - model.features(changed)).abs().sum(1)[0]
    assert difference.nonzero().tolist() == [[2, 1]]


def test_padding_shifts_the_patches_by_two_pixels() -> None:
    padded = vit(SMALL.model_copy(update={"patch_padding": 2}))
    plain = vit()
    images = torch.randn(1, 3, 64, 48)
    shifted = F.pad(images, (2, 2, 2, 2))[..., :64, :48]
    assert padded(images).shape == plain(images).shape
    torch.testing.assert_close(padded(images), plain(shifted))


@pytest.mark.parametrize(
    "change", [{"image_size": (60, 48)}, {"heads": 5}, {"width": 30, "heads": 3}, {"patch_padding": 8}]
)
def test_impossible_shapes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ViTConfig.model_validate(SMALL.model_dump() | change)


def test_weights_depend_on_seed_and_name_alone() -> None:
    one, other = vit(seed=1), vit(SMALL.model_copy(update={"depth": 1}), seed=1)
    own = one.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in other.state_dict().items())
    assert not torch.equal(block_of(vit(seed=2), 0).attn.qkv.weight, block_of(one, 0).attn.qkv.weight)
    assert not torch.equal(block_of(one, 0).mlp.fc1.weight, block_of(one, 1).mlp.fc1.weight)


def test_every_parameter_is_initialised() -> None:
    model = ViT(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    initialise(model, 0)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_initial_weights_follow_the_recipe() -> None:
    model = vit(ViTConfig(width=192, depth=1, heads=3, image_size=(64, 64)))
    block = block_of(model, 0)
    bound = math.sqrt(6 / (192 + 3 * 192))
    assert bound * 0.99 < block.attn.qkv.weight.abs().max() <= bound
    patch_bound = math.sqrt(6 / (192 + 768))
    assert patch_bound * 0.99 < model.patch_embed.proj.weight.abs().max() <= patch_bound
    assert 0 < block.mlp.fc1.bias.abs().max() < 1e-5
    assert (block.attn.qkv.bias == 0).all()
    assert 0.015 < model.cls_token.std() < 0.025


def test_images_normalise_and_come_back() -> None:
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(denormalise_images(normalise_images(images)), images)
    grey = normalise_images(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    torch.testing.assert_close(grey, torch.tensor([2.2489, 2.4286, 2.6400]), atol=1e-4, rtol=0)


def test_sizes_are_table_2() -> None:
    assert {name: SIZES[name] for name in ENCODERS} == {
        "0.3b": (1024, 24, 16),
        "0.6b": (1280, 32, 16),
        "1b": (1536, 40, 24),
        "2b": (1920, 48, 32),
    }
