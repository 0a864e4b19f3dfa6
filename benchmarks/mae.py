"""One MAE training step (forward, backward, AdamW) on CPU: ours against the textbook formulation,
interleaved.

    python benchmarks/mae.py [--quick]

The textbook step is written here from the paper of He et al. (2021): embed all patches, shuffle by argsort
and `repeat` gather, append mask tokens, un-shuffle by the argsort of the argsort, softmax attention in
separate operations, predict all patches, average the loss under the mask. Both share weights, images and
masks; the losses must agree before anything is timed. Last printed line: one JSON object; `ratio` is textbook
time / our time (medians of interleaved steps).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.initial import initialise
from train.models.mae import MAE, MAEConfig
from train.models.vit import SIZES, ViTConfig, normalise_images

SIZES_HERE = {**SIZES, "vit_b": (768, 12, 12)}


@dataclass(frozen=True)
class Case:
    """One comparison: encoder and decoder shape, image side, images a step, timed steps."""

    name: str
    config: MAEConfig
    batch: int
    steps: int


def case(name: str, size: str, side: int, batch: int, steps: int) -> Case:
    width, depth, heads = SIZES_HERE[size]
    encoder = ViTConfig(width=width, depth=depth, heads=heads, image_size=(side, side))
    decoder = (256, 4, 8) if size == "small" else (512, 8, 16)
    shape = dict(zip(("decoder_width", "decoder_depth", "decoder_heads"), decoder, strict=True))
    return Case(name, MAEConfig.model_validate({"encoder": encoder, **shape}), batch, steps)


def textbook_block(block: nn.Module, x: Tensor) -> Tensor:
    """A transformer block with attention written out."""
    parts: dict[str, nn.Module] = dict(block.named_modules())
    b, n, d = x.shape
    heads = int(getattr(parts["attn"], "heads"))  # noqa: B009  # modules' attributes are untyped
    qkv = parts["attn.qkv"](parts["norm1"](x)).reshape(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    attention = ((q @ k.transpose(-2, -1)) * (d // heads) ** -0.5).softmax(dim=-1)
    x = x + parts["attn.proj"]((attention @ v).transpose(1, 2).reshape(b, n, d))
    out: Tensor = x + parts["mlp.fc2"](F.gelu(parts["mlp.fc1"](parts["norm2"](x))))
    return out


def textbook_loss(model: MAE, images: Tensor, noise: Tensor) -> Tensor:
    """The loss of the same weights in the textbook formulation."""
    encoder, keep = model.encoder, model.config.visible
    pixels = normalise_images(images)
    tokens = encoder.patch_embed.proj(pixels).flatten(2).transpose(1, 2) + encoder.pos_embed[:, 1:]
    shuffle = torch.argsort(noise, dim=1)
    restore = torch.argsort(shuffle, dim=1)
    tokens = torch.gather(tokens, 1, shuffle[:, :keep, None].repeat(1, 1, tokens.shape[2]))
    cls = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(tokens), -1, -1)
    tokens = torch.cat([cls, tokens], dim=1)
    for block in encoder.blocks:
        tokens = textbook_block(block, tokens)
    known = model.decoder_embed(encoder.norm(tokens))
    masks = model.mask_token.repeat(len(known), noise.shape[1] - keep, 1)
    full = torch.cat([known[:, 1:], masks], dim=1)
    full = torch.gather(full, 1, restore[..., None].repeat(1, 1, known.shape[2]))
    full = torch.cat([known[:, :1], full], dim=1) + model.decoder_pos_embed
    for block in model.decoder_blocks:
        full = textbook_block(block, full)
    predicted = model.decoder_pred(model.decoder_norm(full))[:, 1:]
    return masked_error(predicted, pixels, restore, keep, model.config.encoder.patch_size)


def masked_error(predicted: Tensor, pixels: Tensor, restore: Tensor, keep: int, patch: int) -> Tensor:
    """Mean squared error under the mask, against per-patch normalised pixels."""
    target = F.unfold(pixels, patch, stride=patch).transpose(1, 2)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
    mask = torch.ones(restore.shape)
    mask[:, :keep] = 0
    mask = torch.gather(mask, 1, restore)
    return (((predicted - target) ** 2).mean(-1) * mask).sum() / mask.sum()


def our_loss(model: MAE, images: Tensor, noise: Tensor) -> Tensor:
    loss: Tensor = model(images, noise).loss()
    return loss


def run(given: Case) -> dict[str, float]:
    """Check equality on the same weights, then time whole steps of the two, one after the other."""
    generator = torch.Generator().manual_seed(0)
    height, width = given.config.encoder.image_size
    images = torch.randint(0, 256, (given.batch, 3, height, width), dtype=torch.uint8, generator=generator)
    patches = given.config.encoder.patches
    noise = torch.stack([torch.randperm(patches, generator=generator) for _ in range(given.batch)])
    contenders: dict[str, Callable[[MAE, Tensor, Tensor], Tensor]] = {
        "ours": our_loss,
        "textbook": textbook_loss,
    }
    model = MAE(given.config)
    initialise(model, 0)
    with torch.no_grad():
        losses = {name: loss(model, images, noise).item() for name, loss in contenders.items()}
    difference = abs(losses["ours"] - losses["textbook"])
    if difference > 1e-5:
        raise SystemExit(f"{given.name}: the formulations disagree: {losses}")
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(given.steps + 1):
        for name, loss in contenders.items():
            began = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss(model, images, noise))
            optimizer.step()
            seconds[name].append(time.perf_counter() - began)
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first warms up
    print(f"{given.name}: ours {median['ours']:.3f} s, textbook {median['textbook']:.3f} s a step")
    ratio = median["textbook"] / median["ours"]
    return {"ratio": round(ratio, 3), "ours_s": round(median["ours"], 4), "loss_difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute on 2 cores")
    if parser.parse_args().quick:
        cases = [case("small_224", "small", 224, 4, 5), case("small_512", "small", 512, 1, 4)]
    else:
        cases = [case("vit_b_224", "vit_b", 224, 8, 9), case("small_512", "small", 512, 4, 9)]
    figures = {given.name: run(given) for given in cases}
    print(json.dumps({"benchmark": "mae", "threads": torch.get_num_threads(), **figures}))


if __name__ == "__main__":
    main()
