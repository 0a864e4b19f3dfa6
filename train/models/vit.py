"""The encoder: a plain pre-norm vision transformer with timm's parameter names, in the four sizes of the
paper's Table 2.

Holds `ViTConfig` and `SIZES`, the `ViT`, its fixed sine-cosine positions (row first, as in the released
checkpoints) with their bicubic resize, the image normalisation, and the closed formulas for parameters and
FLOPs.

Shapes: B images, C = 3 channels, H x W pixels, N tokens, K tokens kept, P = 3 * patch * patch values of a
patch, D width.
"""

from typing import Any

import torch
from jaxtyping import Float, Float32, Int, Shaped, UInt8
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from shards.config import Config

# RGB, 0-255: the constants every released model was trained with.
IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)

# name -> (width, depth, heads). The first four are Table 2; `small` and `tiny` are for CPUs.
SIZES = {
    "0.3b": (1024, 24, 16),
    "0.6b": (1280, 32, 16),
    "1b": (1536, 40, 24),
    "2b": (1920, 48, 32),
    "small": (384, 12, 6),
    "tiny": (192, 4, 3),
}


class ViTConfig(Config):
    """Shape of an encoder. `image_size` is (height, width) in pixels and fixes the stored position table."""

    width: int
    depth: int
    heads: int
    image_size: tuple[int, int] = (1024, 1024)
    patch_size: int = 16
    mlp_ratio: int = 4
    with_cls: bool = True
    patch_padding: int = 0
    """Zero padding of the patch convolution: 2 in the released pose and normal models, else 0."""

    @model_validator(mode="after")
    def _check(self) -> "ViTConfig":
        if any(side <= 0 or side % self.patch_size for side in self.image_size):
            raise ValueError(
                f"image_size must be positive multiples of {self.patch_size}, got {self.image_size}"
            )
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of 4 and of the {self.heads} heads")
        if not 0 <= 2 * self.patch_padding < self.patch_size:
            raise ValueError(
                f"patch_padding must be in [0, {self.patch_size // 2}), got {self.patch_padding}"
            )
        return self

    @classmethod
    def of(cls, size: str, image_size: tuple[int, int] = (1024, 1024), **changes: Any) -> "ViTConfig":
        """The configuration of a named size; `changes` are further fields."""
        width, depth, heads = SIZES[size]
        return cls(width=width, depth=depth, heads=heads, image_size=image_size, **changes)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (rows, columns)."""
        return self.image_size[0] // self.patch_size, self.image_size[1] // self.patch_size

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def tokens(self) -> int:
        return self.patches + int(self.with_cls)


class Attention(nn.Module):
    """Multi-head self-attention, fused qkv with bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        b, n, d = x_BND.shape
        q, k, v = self.qkv(x_BND).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, n, d))
        return out


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BND: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        out: Tensor = self.fc2(F.gelu(self.fc1(x_BND)))
        return out


class Block(nn.Module):
    """x + attn(norm(x)), then x + mlp(norm(x)). The unit of sharding, compilation and activation
    checkpointing.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(
        self, x_BND: Float[Tensor, "b n d"], keep_B2: Float[Tensor, "b 2"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """`keep_B2`: what each sample's two branches are multiplied by (stochastic depth); None: 1."""
        x_BND = x_BND + _kept(self.attn(self.norm1(x_BND)), keep_B2, 0)
        out: Tensor = x_BND + _kept(self.mlp(self.norm2(x_BND)), keep_B2, 1)
        return out


def _kept(
    branch_BND: Float[Tensor, "b n d"], keep_B2: Float[Tensor, "b 2"] | None, column: int
) -> Float[Tensor, "b n d"]:
    if keep_B2 is None:
        return branch_BND
    return branch_BND * keep_B2[:, column, None, None].to(branch_BND.dtype)


class PatchEmbed(nn.Module):
    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(3, config.width, patch, stride=patch, padding=config.patch_padding)


class ViT(nn.Module):
    """The encoder. `forward` sees whole images (fine-tuning); `embed_patches` + `encode` see some patches
    (MAE).
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        if config.with_cls:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        # Frozen, yet a Parameter: it is part of every checkpoint and of the paper's parameter counts.
        positions = sincos_positions(config.grid, config.width, config.with_cls)
        self.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(
        self, images_BCHW: Float[Tensor, "b 3 h w"], keep_BL2: Float[Tensor, "b l 2"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Normalised images, sides multiples of the patch -> tokens after the final norm, cls first.
        `keep_BL2`: of each sample and block, see `Block.forward`.
        """
        patches_BDhw = self.patch_embed.proj(images_BCHW)
        grid = (patches_BDhw.shape[2], patches_BDhw.shape[3])
        tokens_BND = patches_BDhw.flatten(2).transpose(1, 2) + self._positions(grid)
        return self.encode(tokens_BND, keep_BL2)

    def features(
        self, images_BCHW: Float[Tensor, "b 3 h w"], keep_BL2: Float[Tensor, "b l 2"] | None = None
    ) -> Float[Tensor, "b d rows columns"]:
        """The final tokens as a feature map, one cell per patch, without cls."""
        tokens_BND = self.forward(images_BCHW, keep_BL2)[:, int(self.config.with_cls) :]
        rows = images_BCHW.shape[2] // self.config.patch_size
        return tokens_BND.transpose(1, 2).reshape(tokens_BND.shape[0], self.config.width, rows, -1)

    def embed_patches(
        self, patches_BKP: Float[Tensor, "b k p"], index_BK: Int[Tensor, "b k"]
    ) -> Float[Tensor, "b k d"]:
        """Embed only the given patches (values in channel, row, column order) with the positions of their
        indices.
        """
        projection = self.patch_embed.proj
        patches_BKP = patches_BKP.to(projection.weight.dtype)  # pixels are float32, sharded weights bfloat16
        tokens_BKD = F.linear(patches_BKP, projection.weight.flatten(1), projection.bias)
        return tokens_BKD + self._positions(self.config.grid)[0][index_BK]

    def encode(
        self, tokens_BND: Float[Tensor, "b n d"], keep_BL2: Float[Tensor, "b l 2"] | None = None
    ) -> Float[Tensor, "b m d"]:
        """Prepend cls (if any), run the blocks and the final norm."""
        if self.config.with_cls:
            cls = self.cls_token + self.pos_embed[:, :1]
            tokens_BND = torch.cat([cls.expand(len(tokens_BND), -1, -1), tokens_BND], dim=1)
        for number, block in enumerate(self.blocks):
            # Nothing is passed where nothing is dropped: pretraining compiles and wraps the plain call.
            given = () if keep_BL2 is None else (keep_BL2[:, number],)
            tokens_BND = block(tokens_BND, *given)
        out: Tensor = self.norm(tokens_BND)
        return out

    def _positions(self, grid: tuple[int, int]) -> Float[Tensor, "1 n d"]:
        table = self.pos_embed[:, int(self.config.with_cls) :]
        return table if grid == self.config.grid else resize_positions(table, self.config.grid, grid)

    def initial_parameter(self, name: str, generator: torch.Generator) -> Float32[Tensor, "1 n d"]:
        """Starting value of this module's own parameters: N(0, 0.02) for cls, the sine-cosine table for
        positions.
        """
        if name == "pos_embed":
            return sincos_positions(self.config.grid, self.config.width, self.config.with_cls)
        return torch.randn(1, 1, self.config.width, generator=generator) * 0.02


def rows(values_BNP: Shaped[Tensor, "b n p"], index_BK: Int[Tensor, "b k"]) -> Shaped[Tensor, "b k p"]:
    """The rows `index_BK` of each image."""
    return values_BNP.gather(1, index_BK[..., None].expand(-1, -1, values_BNP.shape[2]))


def normalise_images(images: UInt8[Tensor, "b 3 h w"]) -> Float32[Tensor, "b 3 h w"]:
    """uint8 RGB -> (x - mean) / std, on the images' device."""
    mean, std = (torch.tensor(c, device=images.device).view(3, 1, 1) for c in (IMAGE_MEAN, IMAGE_STD))
    return (images.float() - mean) / std


def denormalise_images(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """The inverse of `normalise_images`, clipped to uint8."""
    mean, std = (torch.tensor(c, device=images.device).view(3, 1, 1) for c in (IMAGE_MEAN, IMAGE_STD))
    return (images.float() * std + mean).round().clamp(0, 255).to(torch.uint8)


def sincos_positions(grid: tuple[int, int], width: int, with_cls: bool) -> Float32[Tensor, "1 n d"]:
    """Fixed 2-D positions, temperature 10000: the first half of the channels encodes the row, the second the
    column, each half sines then cosines (the order of the released tables; MAE's own table has the halves
    swapped). With cls, one all-zero row stands first.
    """
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (rows, columns)]
    table = torch.cat([part for a in angles for part in (a.sin(), a.cos())], dim=1).float()
    return F.pad(table, (0, 0, int(with_cls), 0))[None]


def resize_positions(
    table_1ND: Float[Tensor, "1 n d"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "1 m d"]:
    """Resize a position table without cls row from grid `old` to `new` (rows, columns), bicubic, corners
    unaligned.
    """
    table = table_1ND.transpose(1, 2).reshape(1, -1, *old).float()
    resized = F.interpolate(table, size=new, mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(table_1ND.dtype)


def block_flops(width: int, depth: int, tokens: int) -> int:
    """Forward FLOPs of transformer blocks, 2 per multiply-add, attention included (as FlopCounterMode
    counts).
    """
    return depth * (2 * 12 * tokens * width**2 + 2 * 2 * tokens**2 * width)


def forward_flops(config: ViTConfig) -> int:
    """True forward FLOPs of the encoder for one whole image."""
    embed = 2 * config.patches * 3 * config.patch_size**2 * config.width
    return embed + block_flops(config.width, config.depth, config.tokens)


def paper_flops(config: ViTConfig) -> int:
    """Table 2's convention: multiply-adds of convolution and linear layers count 1, attention 0, LayerNorm 5
    an element.
    """
    embed = config.patches * 3 * config.patch_size**2 * config.width
    linear = config.tokens * 12 * config.width**2 * config.depth
    norms = 5 * (2 * config.depth + 1) * config.tokens * config.width
    return embed + linear + norms
