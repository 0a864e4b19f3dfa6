"""The masked autoencoder: Table 2, equality with the textbook formulation, what it may see, what it shows."""

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from train.models.initial import initialise
from train.models.mae import (
    MAE,
    MAEConfig,
    normalise_patches,
    patchify,
    reconstruct,
    split_patches,
    training_flops,
    unpatchify,
)
from train.models.vit import ViTConfig, normalise_images

TABLE_2 = {"0.3b": 335_532_288, "0.6b": 664_278_528, "1b": 1_169_238_784, "2b": 2_162_608_768}
NOMINAL = {"0.3b": 3.64, "0.6b": 5.87, "1b": 9.23, "2b": 15.72}
SMALL = MAEConfig(
    encoder=ViTConfig(width=32, depth=2, heads=4, image_size=(64, 48)),
    decoder_width=24,
    decoder_depth=1,
    decoder_heads=3,
)


def mae(config: MAEConfig = SMALL) -> MAE:
    model = MAE(config)
    initialise(model, 0)
    return model


def example(batch: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, 64, 48), dtype=torch.uint8, generator=generator)
    return images, torch.stack([torch.randperm(12, generator=generator) for _ in range(batch)])


def textbook_loss(model: MAE, images: Tensor, noise: Tensor) -> Tensor:
    """He et al. 2021, appendix and section 3, spelled out: embed every patch, shuffle by argsort, keep the
    first quarter; append mask tokens, un-shuffle by the argsort of the argsort; predict every patch;
    average the error under the mask.
    """
    encoder, config = model.encoder, model.config
    pixels = normalise_images(images)
    tokens = encoder.patch_embed.proj(pixels).flatten(2).mT + encoder.pos_embed[:, 1:]
    shuffle = noise.argsort(dim=1)
    restore = shuffle.argsort(dim=1)
    keep = shuffle[:, : config.visible, None].repeat(1, 1, tokens.shape[2])
    latent = encoder.encode(torch.gather(tokens, 1, keep))
    known = model.decoder_embed(latent)
    masks = model.mask_token.repeat(len(known), tokens.shape[1] - config.visible, 1)
    full = torch.cat([known[:, 1:], masks], dim=1)
    full = torch.gather(full, 1, restore[..., None].repeat(1, 1, known.shape[2]))
    full = torch.cat([known[:, :1], full], dim=1) + model.decoder_pos_embed
    for block in model.decoder_blocks:
        full = block(full)
    predicted = model.decoder_pred(model.decoder_norm(full))[:, 1:]
    target = F.unfold(pixels, 16, stride=16).mT
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    mask = torch.ones(noise.shape)
    mask[:, : config.visible] = 0
    mask = torch.gather(mask, 1, restore)
    loss: Tensor = ((predicted - target) ** 2).mean(-1)
    return (loss * mask).sum() / mask.sum()


def test_weights_in_bfloat16_see_uint8_images() -> None:
    """As under FSDP on a GPU: the weights are cast, the images are born inside the model."""
    model, (images, noise) = mae(), example()
    expected: Tensor = model(images, noise).loss()
    loss: Tensor = model.to(torch.bfloat16)(images, noise).loss()
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("size", TABLE_2)
def test_parameters_are_table_2(size: str) -> None:
    with torch.device("meta"):
        model = MAE(MAEConfig.of(size))
    assert sum(p.numel() for p in model.parameters()) == TABLE_2[size]
    assert round(training_flops(model.config) / 1e12, 2) == NOMINAL[size]


def test_equals_the_textbook_loss_and_gradients() -> None:
    images, noise = example()
    ours, theirs = mae(), mae()
    loss, expected = ours(images, noise).loss(), textbook_loss(theirs, images, noise)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()  # type: ignore[no-untyped-call]
    for (name, one), (_, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, msg=name, atol=1e-6, rtol=1e-4)


def test_nominal_flops_are_the_textbooks_forward_three_times() -> None:
    images, noise = example(batch=1)
    # The counter does not know the CPU's fused attention; the plain one is made of matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        textbook_loss(mae(), images, noise)
    assert 3 * counter.get_total_flops() == training_flops(SMALL)


def test_every_patch_is_visible_or_masked() -> None:
    visible, masked = split_patches(example()[1], 3)
    assert visible.shape == (3, 3)
    together = torch.cat([visible, masked], dim=1).sort(dim=1).values
    assert torch.equal(together, torch.arange(12).expand(3, -1))


def test_the_visible_are_those_of_least_noise_even_when_tied() -> None:
    visible, masked = split_patches(torch.tensor([[2.0, 0.5, 0.5, 1.0, 0.5]]), 2)
    assert visible.tolist() == [[1, 2]]
    assert masked.tolist() == [[4, 3, 0]]


def test_the_prediction_does_not_see_masked_pixels() -> None:
    images, noise = example()
    model = mae()
    before = model(images, noise)
    changed = patchify(images.float(), 16)
    index = before.masked_BM[..., None].expand(-1, -1, 768)
    changed = unpatchify(changed.scatter(1, index, 255 - changed.gather(1, index)), (4, 3), 16).to(
        torch.uint8
    )
    after = model(changed, noise)
    assert torch.equal(before.predicted_BMP, after.predicted_BMP)
    assert not torch.equal(before.target_BMP, after.target_BMP)


def test_predicting_each_patchs_own_mean_scores_one() -> None:
    images, _ = example()
    target = normalise_patches(patchify(normalise_images(images), 16))
    assert target.pow(2).mean().item() == pytest.approx(1.0, abs=2e-3)


def test_flat_patches_do_no_harm() -> None:
    _, noise = example()
    loss = mae()(torch.full((3, 3, 64, 48), 127, dtype=torch.uint8), noise).loss()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("with_cls", [True, False])
@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.9])
def test_ratios_and_cls_are_options(ratio: float, with_cls: bool) -> None:
    encoder = SMALL.encoder.model_copy(update={"with_cls": with_cls})
    config = SMALL.model_copy(update={"mask_ratio": ratio, "encoder": encoder})
    prediction = mae(config)(*example())
    assert prediction.predicted_BMP.shape == (3, 12 - int(12 * (1 - ratio)), 768)


def test_patchify_and_back() -> None:
    images = torch.randn(2, 3, 64, 48)
    patches = patchify(images, 16)
    torch.testing.assert_close(patches, F.unfold(images, 16, stride=16).mT)
    assert torch.equal(unpatchify(patches, (4, 3), 16), images)


def test_pictures_keep_visible_pixels_and_give_back_the_targets_statistics() -> None:
    """A model that predicts the target exactly must reconstruct the photo exactly; visible patches are
    never touched.
    """
    images, noise = example()
    model = mae()
    truth = model(images, noise)

    class Oracle(torch.nn.Module):
        def forward(self, images: Tensor, noise: Tensor) -> object:
            return truth._replace(predicted_BMP=truth.target_BMP)

    assert torch.equal(reconstruct(Oracle(), SMALL, images, noise).reconstructed, images)
    shown = reconstruct(model, SMALL, images, noise)
    visible, masked = split_patches(noise, SMALL.visible)
    for picture in shown:
        patches, true = patchify(picture.float(), 16), patchify(images.float(), 16)
        for image in range(3):
            assert torch.equal(patches[image, visible[image]], true[image, visible[image]])
    hidden = patchify(shown.masked.float(), 16)[0, masked[0]].reshape(-1, 3, 256)
    assert hidden.std(dim=(0, 2)).max() == 0
    assert not torch.equal(shown.reconstructed, images)


@pytest.mark.parametrize("change", [{"mask_ratio": 0.99}, {"mask_ratio": 1.0}])
def test_a_ratio_that_hides_everything_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MAEConfig.model_validate(SMALL.model_dump() | change)


def test_padding_is_refused() -> None:
    with pytest.raises(ValidationError, match="patch_padding"):
        MAEConfig(encoder=SMALL.encoder.model_copy(update={"patch_padding": 2}))


def test_it_learns_one_image() -> None:
    images, noise = example(batch=2)
    model = mae()
    images = images // 64 * 16 + torch.arange(48, dtype=torch.uint8) * 4  # something with structure
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model(images, noise).loss()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
