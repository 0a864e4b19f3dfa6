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


def _model(drop_path: float = 0.0, dropout: float = 0.0, depth: int = 3) -> TaskModel:
    encoder = ViT(ViTConfig(width=16, depth=depth, heads=2, image_size=(32, 32), with_cls=False))
    head = HeadConfig(deconv_channels=(4,), conv_channels=(6,), dropout=dropout)
    model = TaskModel(encoder, DeconvHead(16, 2, head, last="conv_seg"), drop_path)
    initialise(model, seed=0)
    return model


IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_sample_brings_as_many_numbers_as_the_model_drops_by() -> None:
    assert _model().noise == (0, 0)
    assert _model(0.5).noise == (6, 0)
    assert _model(0.5, 0.1).noise == (6, 6)
    assert _model(0.0, 0.1).noise == (0, 6)


def test_the_rate_of_dropped_branches_grows_linearly_and_the_mean_stays() -> None:
    """Depth 3, rate 0.5: blocks 0, 0.25, 0.5; what is kept is scaled by 1, 4/3, 2."""
    noise = torch.tensor([[0.0, 0.99, 0.24, 0.26, 0.49, 0.51]])
    paths, channels = _model(0.5)._keep(noise)
    assert channels is None and paths is not None
    torch.testing.assert_close(paths[0], torch.tensor([[1, 1], [0, 4 / 3], [0, 2]]))
    many, _ = _model(0.5)._keep(torch.rand(4000, 6, generator=torch.Generator().manual_seed(0)))
    assert many is not None
    torch.testing.assert_close(many.mean(0), torch.ones(3, 2), atol=0.06, rtol=0)


def test_dropping_every_branch_leaves_the_embedding() -> None:
    model = _model(0.5)
    features = model.encoder.features(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 2))
    model.encoder.blocks = torch.nn.ModuleList()
    torch.testing.assert_close(features, model.encoder.features(torch.zeros(1, 3, 32, 32)))


def test_what_is_dropped_of_a_sample_does_not_depend_on_its_neighbours() -> None:
    model = _model(0.5, 0.3)
    noise = torch.rand(2, 12, generator=torch.Generator().manual_seed(1))
    both = model(IMAGES, noise)
    torch.testing.assert_close(both[1:], model(IMAGES[1:], noise[1:]))
    assert not torch.allclose(both, model(IMAGES))
    assert torch.equal(model(IMAGES), model(IMAGES))  # without numbers nothing is dropped, in training too
    assert torch.equal(
        _model(0.5)(IMAGES, torch.full((2, 6), 0.999)), _model(0.5)(IMAGES, torch.full((2, 6), 0.9))
    )


def test_dropped_channels_are_whole_and_the_rest_is_scaled() -> None:
    paths, factors = _model(0.0, 0.5)._keep(torch.tensor([[0.0, 0.5, 0.4, 0.6, 0.99, 0.1]]))
    assert paths is None and factors is not None and factors.tolist() == [[0, 2, 0, 2, 2, 0]]
    head = _model(0.0, 0.5).head
    features, keep = torch.randn(1, 16, 2, 2), torch.tensor([[0.0, 2, 0, 2, 2, 0]])
    hidden = head.conv_layers(head.deconv_layers(features))
    torch.testing.assert_close(head(features, keep), head.last(hidden * keep[:, :, None, None]))


def test_an_offset_tells_apart_what_instance_norm_makes_alike() -> None:
    """Features that differ by a constant: the plain head gives one output for both, the other does not."""
    config = HeadConfig(deconv_channels=(4,), conv_channels=(4,))
    plain, pooled = (DeconvHead(8, 1, config, last="conv_seg", offset=kind) for kind in ("none", "pooled"))
    assert set(pooled.state_dict()) - set(plain.state_dict()) == {"offset.weight"}
    initialise(pooled, seed=0)
    features = torch.randn(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    before = pooled(features)
    plain.load_state_dict(pooled.state_dict(), strict=False)
    torch.testing.assert_close(before, plain(features))  # starts at zero
    torch.nn.init.constant_(pooled.get_parameter("offset.weight"), 0.5)
    moved = pooled(features + 2) - pooled(features)
    edge = plain(features + 2) - plain(
        features
    )  # the border of a deconvolution sees zeros beside the constant
    torch.testing.assert_close(moved - edge, torch.full_like(moved, 0.5 * 2 * 8))
