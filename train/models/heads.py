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
    """Share of channels dropped before the last layer (the published part head: 0.1). It draws from torch's
    global generator, so that a resumed run is no longer bit-equal to an uninterrupted one.
    """

    @property
    def stride(self) -> int:
        """Input pixels per output pixel."""
        return int(PATCH // 2 ** len(self.deconv_channels))


PUBLISHED_HEADS: Mapping[str, HeadConfig] = {
    "pose": HeadConfig(deconv_channels=(768, 768), conv_channels=(768, 768)),
    "parts": HeadConfig(dropout=0.1),
    "depth": HeadConfig(deconv_channels=(384,) * 4, conv_channels=(384, 384)),
    "normal": HeadConfig(),
}
"""The heads of the released models; the same for every encoder size."""


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


class DeconvHead(nn.Module):
    """[ConvTranspose 4x4 stride 2, no bias] x n, [1x1 conv] x m, each with InstanceNorm (no affine) and
    SiLU; 1x1 out.
    """

    def __init__(
        self,
        width: int,
        out_channels: int,
        config: HeadConfig,
        last: Literal["final_layer", "conv_seg"],
        spread: float = 0.02,
    ) -> None:
        """`width`: the encoder's. `last`: name of the output layer. `spread`: of its starting weights."""
        super().__init__()
        self.deconv_layers = nn.Sequential()
        for channels in config.deconv_channels:
            self.deconv_layers.extend(
                [
                    nn.ConvTranspose2d(width, channels, kernel_size=4, stride=2, padding=1, bias=False),
                    nn.InstanceNorm2d(channels),
                    nn.SiLU(inplace=True),
                ]
            )
            width = channels
        self.conv_layers = nn.Sequential()
        for channels in config.conv_channels:
            self.conv_layers.extend(
                [
                    nn.Conv2d(width, channels, kernel_size=1),
                    nn.InstanceNorm2d(channels),
                    nn.SiLU(inplace=True),
                ]
            )
            width = channels
        self.dropout = nn.Dropout2d(config.dropout)
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

    def forward(self, features: Float[Tensor, "B D rows columns"]) -> Float[Tensor, "B C h w"]:
        """Encoder feature map at 1/16 of the input -> output at 1/stride of the input."""
        output: Tensor = self.last(self.dropout(self.conv_layers(self.deconv_layers(features))))
        return output


class TaskModel(nn.Module):
    """An encoder and a head: uint8 images in, the head's output (float32) out."""

    def __init__(self, encoder: ViT, head: DeconvHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, images_BCHW: UInt8[Tensor, "B 3 H W"]) -> Float32[Tensor, "B C h w"]:
        # FSDP casts parameters to bfloat16, but not images that are born inside the model.
        images = normalise_images(images_BCHW).to(self.encoder.patch_embed.proj.weight.dtype)
        output: Tensor = self.head(self.encoder.features(images))
        return output.float()
