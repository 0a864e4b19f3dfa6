"""Task heads (deconvolutions, then 1x1 convolutions) and the model that puts one on an encoder.

Layer names are the published ones, so official task checkpoints load strictly: `deconv_layers.{0,3,..}`,
`conv_layers.{0,3,..}`, then `final_layer` (pose, under `head.`) or `conv_seg` (dense tasks, under
`decode_head.`). Here the head is always called `head` and the encoder `encoder`, which is what the
layer-wise learning rates go by.

Shape suffixes: B batch, D encoder width, C output channels, H W input pixels, h w heat-map pixels.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Float32, UInt8
from pydantic import Field
from torch import Tensor, nn

from shards.config import Config
from train.models.vit import ViT, normalise_images

PATCH = 16


class HeadConfig(Config):
    """Widths of a head. Each deconvolution doubles the resolution of the encoder's 1/16 feature map."""

    deconv_channels: tuple[int, ...] = Field(default=(768, 768, 768), min_length=1, max_length=4)
    conv_channels: tuple[int, ...] = (768, 768, 768)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of channels dropped before the last layer in training (the published part head: 0.1)."""

    @property
    def stride(self) -> int:
        """Input pixels per output pixel."""
        return int(PATCH // 2 ** len(self.deconv_channels))

    @property
    def width(self) -> int:
        """Channels before the last layer."""
        return (*self.deconv_channels, *self.conv_channels)[-1]


PUBLISHED_HEADS: Mapping[str, HeadConfig] = {
    "pose": HeadConfig(deconv_channels=(768, 768), conv_channels=(768, 768)),
    "parts": HeadConfig(dropout=0.1),
    "depth": HeadConfig(deconv_channels=(384,) * 4, conv_channels=(384, 384)),
    "normal": HeadConfig(),
    "pointmap": HeadConfig(deconv_channels=(384,) * 4, conv_channels=(384, 384)),
    "albedo": HeadConfig(deconv_channels=(384,) * 4, conv_channels=(384, 384)),
    "alpha": HeadConfig(deconv_channels=(384,) * 4, conv_channels=(384, 384)),
}
"""The heads of the released models, the same for every encoder size; the last three tasks have no released
model and take the depth's, which ends at the input's resolution.
"""


class OutputLayer(nn.Conv2d):
    """The 1x1 convolution that makes the output: weights start from N(0, spread), biases from 0."""

    def __init__(self, width: int, channels: int, spread: float) -> None:
        super().__init__(width, channels, kernel_size=1)
        self.spread = spread

    def initial_parameter(self, name: str, generator: torch.Generator) -> Float32[Tensor, "..."]:
        """Starting value of the weight or the bias (see `train.models.initial`)."""
        if name == "bias":
            return torch.zeros(self.out_channels)
        return torch.randn(self.weight.shape, generator=generator) * self.spread


class OffsetLayer(nn.Linear):
    """Mean feature -> what is added to every pixel of the output; starts at zero.

    InstanceNorm takes each channel's mean over the image away, and with it whatever the encoder knows of the
    whole: how far away a person is, in metres.
    """

    def initial_parameter(self, name: str, generator: torch.Generator) -> Float32[Tensor, "..."]:
        """Zeros (see `train.models.initial`)."""
        return torch.zeros(self.out_features, self.in_features)


class DeconvHead(nn.Module):
    """[ConvTranspose 4x4 stride 2, no bias] x n, [1x1 conv] x m, each with InstanceNorm (no affine) and
    SiLU; 1x1 out; with `offset` "pooled" plus an `OffsetLayer`.
    """

    def __init__(
        self,
        width: int,
        out_channels: int,
        config: HeadConfig,
        last: Literal["final_layer", "conv_seg"],
        spread: float = 0.02,
        offset: Literal["none", "pooled"] = "none",
    ) -> None:
        """`width`: the encoder's. `last`: name of the output layer. `spread`: of its starting weights."""
        super().__init__()
        self.config = config
        self.offset = OffsetLayer(width, out_channels, bias=False) if offset == "pooled" else None
        self.deconv_layers = nn.Sequential()
        for channels in config.deconv_channels:
            self.deconv_layers.extend(
                [
                    nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1, bias=False),
                    nn.InstanceNorm2d(channels),
                    nn.SiLU(),
                ]
            )
            width = channels
        self.conv_layers = nn.Sequential()
        for channels in config.conv_channels:
            self.conv_layers.extend(
                [
                    nn.Conv2d(width, channels, kernel_size=1),
                    nn.InstanceNorm2d(channels),
                    nn.SiLU(),
                ]
            )
            width = channels
        self.add_module(last, OutputLayer(width, out_channels, spread))
        self._last = last

    @property
    def last(self) -> OutputLayer:
        """The 1x1 convolution that makes the output."""
        layer = self.get_submodule(self._last)
        assert isinstance(layer, OutputLayer)
        return layer

    def start_at(self, output: Float32[Tensor, " C"]) -> None:
        """Make `output` what the head says before it has learned anything.

        Adam moves a bias by one learning rate a step, so that a short run would spend itself on finding the
        mean; and a depth that starts around 0 is clamped by the logarithm of Eq. 1 in half of its pixels.
        """
        assert self.last.bias is not None
        with torch.no_grad():
            self.last.bias.copy_(output)

    def forward(
        self, features: Float[Tensor, "B D rows columns"], keep_BE: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B C h w"]:
        """Encoder feature map at 1/16 of the input -> output at 1/stride of the input. `keep_BE`: what each
        sample's channels before the last layer are multiplied by (dropout); None: 1.
        """
        hidden = self.conv_layers(self.deconv_layers(features))
        if keep_BE is not None:
            hidden = hidden * keep_BE[:, :, None, None].to(hidden.dtype)
        output: Tensor = self.last(hidden)
        if self.offset is not None:
            output = output + self.offset(features.mean((2, 3)))[:, :, None, None]
        return output


class TaskModel(nn.Module):
    """An encoder and a head: uint8 images in, the head's output (float32) out.

    What is dropped in training is decided by numbers that come with each sample (`noise`), not by torch's
    generator: a resumed run drops what the uninterrupted one would, at any number of ranks.
    """

    def __init__(self, encoder: ViT, head: DeconvHead, drop_path: float = 0.0) -> None:
        """`drop_path`: probability that the last block's branches are skipped (stochastic depth); it grows
        linearly from 0 at the first block.
        """
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.drop_path = drop_path

    @property
    def noise(self) -> tuple[int, int]:
        """How many random numbers a training sample brings: for the blocks' branches, for the head's
        channels; 0 where nothing is dropped.
        """
        branches = 2 * self.encoder.config.depth if self.drop_path else 0
        return branches, self.head.config.width if self.head.config.dropout else 0

    def forward(
        self, images_BCHW: UInt8[Tensor, "B 3 H W"], noise_BN: Float[Tensor, "B N"] | None = None
    ) -> Float32[Tensor, "B C h w"]:
        """`noise_BN`: uniform in [0, 1), N = sum(`noise`); None drops nothing (evaluation)."""
        # FSDP casts parameters to bfloat16, but not images that are born inside the model.
        images = normalise_images(images_BCHW).to(self.encoder.patch_embed.proj.weight.dtype)
        paths, channels = (None, None) if noise_BN is None else self._keep(noise_BN)
        output: Tensor = self.head(self.encoder.features(images, paths), channels)
        return output.float()

    def _keep(self, noise_BN: Float[Tensor, "B N"]) -> tuple[Tensor | None, Tensor | None]:
        """Factors of the branches (B, blocks, 2) and of the head's channels: 0, or 1 / (1 - rate)."""
        branches, channels = noise_BN[:, : self.noise[0]], noise_BN[:, self.noise[0] :]
        depth, rate = self.encoder.config.depth, self.head.config.dropout
        rates = torch.linspace(0, self.drop_path, depth, device=noise_BN.device)[:, None]
        paths = (branches.view(-1, depth, 2) >= rates) / (1 - rates) if self.drop_path else None
        return paths, (channels >= rate) / (1 - rate) if rate else None
