"""Heads: the published parameter counts and layer names, output sizes, and the initial output."""

import pytest
import torch

from train.models.heads import PUBLISHED_HEADS, DeconvHead, HeadConfig, TaskModel
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig

# Element counts of the released 0.3b heads (encoder width 1024).
PUBLISHED_COUNTS = {
    "pose": (308, 23_438_132),
    "parts": (28, 33_250_588),
    "depth": (1, 13_665_409),
    "normal": (3, 33_231_363),
}


@pytest.mark.parametrize("task", PUBLISHED_COUNTS)
def test_published_heads_have_the_published_number_of_parameters(task: str) -> None:
    channels, count = PUBLISHED_COUNTS[task]
    with torch.device("meta"):
        head = DeconvHead(1024, channels, PUBLISHED_HEADS[task], last="conv_seg")
    assert sum(parameter.numel() for parameter in head.parameters()) == count


def test_layer_names_and_shapes_are_the_official_ones() -> None:
    with torch.device("meta"):
        pose = DeconvHead(1024, 308, PUBLISHED_HEADS["pose"], last="final_layer")
        depth = DeconvHead(1024, 1, PUBLISHED_HEADS["depth"], last="conv_seg")
    assert {name: tuple(tensor.shape) for name, tensor in pose.state_dict().items()} == {
        "deconv_layers.0.weight": (1024, 768, 4, 4),
        "deconv_layers.3.weight": (768, 768, 4, 4),
        "conv_layers.0.weight": (768, 768, 1, 1),
        "conv_layers.0.bias": (768,),
        "conv_layers.3.weight": (768, 768, 1, 1),
        "conv_layers.3.bias": (768,),
        "final_layer.weight": (308, 768, 1, 1),
        "final_layer.bias": (308,),
    }
    assert [name for name in depth.state_dict() if name.startswith("deconv")] == [
        f"deconv_layers.{index}.weight" for index in (0, 3, 6, 9)
    ]
    assert "conv_seg.weight" in depth.state_dict()


@pytest.mark.parametrize("deconvolutions", [1, 2, 3, 4])
def test_output_is_the_input_over_the_stride(deconvolutions: int) -> None:
    config = HeadConfig(deconv_channels=(4,) * deconvolutions, conv_channels=(4,))
    head = DeconvHead(8, 5, config, last="conv_seg")
    rows, columns = 3, 2
    output = head(torch.randn(2, 8, rows, columns))
    assert output.shape == (2, 5, rows * 16 // config.stride, columns * 16 // config.stride)


def test_the_head_starts_at_the_value_given() -> None:
    config = HeadConfig(deconv_channels=(8, 8), conv_channels=(8,))
    head = DeconvHead(8, 2, config, last="final_layer")
    initialise(head, seed=0)
    head.start_at(torch.tensor([0.5, -1.0]))
    output = head(torch.randn(1, 8, 4, 4)).detach()
    torch.testing.assert_close(output.mean((0, 2, 3)), torch.tensor([0.5, -1.0]), atol=0.1, rtol=0)
    again = DeconvHead(8, 2, config, last="final_layer")
    initialise(again, seed=0)
    assert torch.equal(again.last.weight, head.last.weight)


def test_a_model_takes_uint8_images_of_any_multiple_of_16() -> None:
    encoder = ViT(ViTConfig(width=16, depth=1, heads=2, image_size=(64, 48), with_cls=False))
    head = DeconvHead(16, 3, HeadConfig(deconv_channels=(4, 4), conv_channels=()), last="conv_seg")
    output = TaskModel(encoder, head)(torch.zeros(2, 3, 96, 32, dtype=torch.uint8))
    assert output.shape == (2, 3, 24, 8)
    assert output.dtype == torch.float32
