"""The masked autoencoder: an encoder that sees a quarter of the patches and a small decoder that predicts the
rest.

Written for speed and static shapes: patches are bytes until they are needed, one sort splits them, only
visible ones are embedded, a scatter puts them among the mask tokens, and only masked ones reach the
prediction head. A test shows that it equals the textbook formulation.

Shapes: B images, N patches, K visible, M = N - K masked, P = 3 * patch * patch values in (channel, row,
column) order, D and E the widths of encoder and decoder.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Int, Int64, Shaped, UInt8
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from shards.config import Config
from train.models.vit import (
    IMAGE_MEAN,
    IMAGE_STD,
    Block,
    ViT,
    ViTConfig,
    block_flops,
    denormalise_images,
    normalise_images,
    rows,
    sincos_positions,
)

# (width, depth, heads): the paper has one decoder for all its sizes; the CPU sizes have one in proportion.
DECODERS = {"small": (256, 4, 8), "tiny": (96, 2, 4)}
PAPER_DECODER = (512, 8, 16)


class MAEConfig(Config):
    """Encoder, decoder and the share of patches that is hidden (0.75 in the paper's training)."""

    encoder: ViTConfig
    decoder_width: int = PAPER_DECODER[0]
    decoder_depth: int = PAPER_DECODER[1]
    decoder_heads: int = PAPER_DECODER[2]
    mask_ratio: float = Field(default=0.75, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> "MAEConfig":
        if self.encoder.patch_padding:
            raise ValueError("patch_padding must be 0: masked patches must not leak into visible ones")
        if not 0 < self.visible < self.encoder.patches:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} leaves {self.visible} of {self.encoder.patches} patches"
            )
        return self

    @classmethod
    def of(cls, size: str, image_size: tuple[int, int] = (1024, 1024), **changes: Any) -> "MAEConfig":
        """The configuration of a named size; `changes` are further fields."""
        width, depth, heads = DECODERS.get(size, PAPER_DECODER)
        decoder = {"decoder_width": width, "decoder_depth": depth, "decoder_heads": heads}
        return cls(encoder=ViTConfig.of(size, image_size), **decoder, **changes)

    @property
    def visible(self) -> int:
        """Number of patches the encoder sees."""
        return int(self.encoder.patches * (1 - self.mask_ratio))


class Prediction(NamedTuple):
    """What the decoder says about the masked patches, beside what is true (both in normalised patch
    values).
    """

    predicted_BMP: Float32[Tensor, "b m p"]
    target_BMP: Float32[Tensor, "b m p"]
    masked_BM: Int64[Tensor, "b m"]

    def loss(self) -> Float32[Tensor, ""]:
        """Mean squared error over masked patches. Predicting every patch's own mean would score 1."""
        return F.mse_loss(self.predicted_BMP, self.target_BMP)


class MAE(nn.Module):
    """`forward(images, noise)`: uint8 images and one number per patch, whose smallest K are visible."""

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        self.config = config
        encoder, width = config.encoder, config.decoder_width
        self.encoder = ViT(encoder)
        self.decoder_embed = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        positions = sincos_positions(encoder.grid, width, encoder.with_cls)
        self.decoder_pos_embed = nn.Parameter(positions, requires_grad=False)
        self.decoder_blocks = nn.ModuleList(
            Block(width, config.decoder_heads) for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, 3 * encoder.patch_size**2)

    def forward(self, images_BCHW: UInt8[Tensor, "b 3 h w"], noise_BN: Shaped[Tensor, "b n"]) -> Prediction:
        bytes_BNP = patchify(images_BCHW, self.config.encoder.patch_size)
        visible_BK, masked_BM = split_patches(noise_BN, self.config.visible)
        seen_BKP, hidden_BMP = (normalise_pixels(rows(bytes_BNP, index)) for index in (visible_BK, masked_BM))
        latent = self.encoder.encode(self.encoder.embed_patches(seen_BKP, visible_BK))
        predicted_BMP = self._decode(latent, visible_BK, masked_BM)
        target_BMP = normalise_patches(hidden_BMP)
        return Prediction(predicted_BMP.float(), target_BMP, masked_BM)

    def _decode(
        self,
        latent_BKD: Float[Tensor, "b _ d"],
        visible_BK: Int[Tensor, "b k"],
        masked_BM: Int[Tensor, "b m"],
    ) -> Float[Tensor, "b m p"]:
        cls = int(self.config.encoder.with_cls)
        known = self.decoder_embed(latent_BKD)
        masks = self.mask_token.to(known.dtype)
        tokens = masks.expand(len(known), self.config.encoder.patches, -1)
        tokens = tokens.scatter(1, visible_BK[..., None].expand(-1, -1, known.shape[2]), known[:, cls:])
        tokens = torch.cat([known[:, :cls], tokens], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            tokens = block(tokens)
        out: Tensor = self.decoder_pred(self.decoder_norm(rows(tokens, masked_BM + cls)))
        return out

    @property
    def units(self) -> list[nn.Module]:
        """The blocks, to be sharded and compiled one by one."""
        return [*self.encoder.blocks, *self.decoder_blocks]

    def initial_parameter(self, name: str, generator: torch.Generator) -> Float32[Tensor, "1 _ e"]:
        """Starting value of this module's own parameters: N(0, 0.02) for the mask token, the table of
        positions.
        """
        encoder, width = self.config.encoder, self.config.decoder_width
        if name == "decoder_pos_embed":
            return sincos_positions(encoder.grid, width, encoder.with_cls)
        return torch.randn(1, 1, width, generator=generator) * 0.02


def split_patches(
    noise_BN: Shaped[Tensor, "b n"], visible: int
) -> tuple[Int64[Tensor, "b k"], Int64[Tensor, "b m"]]:
    """(indices of the `visible` smallest, indices of the others) of each row."""
    order_BN = noise_BN.argsort(dim=1, stable=True)
    return order_BN[:, :visible], order_BN[:, visible:]


def normalise_pixels(patches: UInt8[Tensor, "b n p"]) -> Float32[Tensor, "b n p"]:
    """`normalise_images` of pixels that are cut into patches: bytes are moved, floats only where needed."""
    values = patches.shape[2] // 3
    mean, std = (torch.tensor(c, device=patches.device) for c in (IMAGE_MEAN, IMAGE_STD))
    return (patches.float() - mean.repeat_interleave(values)) / std.repeat_interleave(values)


def patchify(images_BCHW: Shaped[Tensor, "b c h w"], patch: int) -> Shaped[Tensor, "b n p"]:
    """Cut images into patches, row by row; a patch's values in the order of the patch convolution's
    weights.
    """
    b, c, h, w = images_BCHW.shape
    cut = images_BCHW.reshape(b, c, h // patch, patch, w // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // patch) * (w // patch), c * patch * patch)


def unpatchify(
    patches_BNP: Float[Tensor, "b n p"], grid: tuple[int, int], patch: int
) -> Float[Tensor, "b 3 h w"]:
    """The inverse of `patchify` for three channels."""
    cut = patches_BNP.reshape(len(patches_BNP), *grid, 3, patch, patch)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(len(cut), 3, grid[0] * patch, grid[1] * patch)


def patch_statistics(
    patches: Float[Tensor, "b n p"],
) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
    """(mean, standard deviation) of each patch; 1e-6 is added to the variance, so a flat patch is
    harmless.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def normalise_patches(patches: Float[Tensor, "b n p"]) -> Float[Tensor, "b n p"]:
    """Each patch to mean 0 and variance 1: the target of the released recipe (`norm_pix`)."""
    mean, deviation = patch_statistics(patches)
    return (patches - mean) / deviation


class Reconstruction(NamedTuple):
    """uint8 pictures for the paper's Fig. 3: hidden patches grey, and hidden patches as predicted."""

    masked: UInt8[Tensor, "b 3 h w"]
    reconstructed: UInt8[Tensor, "b 3 h w"]


@torch.no_grad()
def reconstruct(
    model: nn.Module, config: MAEConfig, images: UInt8[Tensor, "b 3 h w"], noise: Shaped[Tensor, "b n"]
) -> Reconstruction:
    """Show what `model` (an MAE of `config`) makes of `images`.

    Predictions are in normalised patch values, noise to the eye; they are given back the mean and deviation
    of the true patches, so the picture shows structure that was predicted and brightness and contrast that
    were not.
    """
    prediction: Prediction = model(images, noise)
    patch, grid = config.encoder.patch_size, config.encoder.grid
    patches = patchify(normalise_images(images), patch)
    mean, deviation = patch_statistics(rows(patches, prediction.masked_BM))
    index = prediction.masked_BM[..., None].expand(-1, -1, patches.shape[2])
    hidden = patches.scatter(1, index, 0.0)
    filled = patches.scatter(1, index, prediction.predicted_BMP * deviation + mean)
    pictures = (denormalise_images(unpatchify(values, grid, patch)) for values in (hidden, filled))
    return Reconstruction(*pictures)


def training_flops(config: MAEConfig) -> int:
    """Nominal training FLOPs of one image (forward + twice that for backward), 2 per multiply-add: the
    textbook's forward, which embeds all patches and predicts all patches, so that skipping work raises MFU
    rather than hiding it.
    """
    encoder, width = config.encoder, config.decoder_width
    values, cls = 3 * encoder.patch_size**2, int(encoder.with_cls)
    seen, everything = config.visible + cls, encoder.patches + cls
    forward = block_flops(encoder.width, encoder.depth, seen)
    forward += block_flops(width, config.decoder_depth, everything)
    forward += 2 * encoder.patches * values * encoder.width
    forward += 2 * (seen * encoder.width * width + everything * width * values)
    return 3 * forward
