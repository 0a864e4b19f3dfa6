"""The pretraining step: on CPUs ours beside the textbook's, on a GPU images a second and MFU.

    python -P benchmarks/pretrain_step.py [--quick]                                  # CPU: ratios
    python -P benchmarks/pretrain_step.py [--sizes 0.3b 1b] [--batches 32 64]        # GPU: MFU

CPU: forward, backward and AdamW of ViT-B at 224 pixels and `small` at 512, interleaved. The textbook step is
written here from the paper of He et al. (2021): normalise and embed all patches, shuffle by argsort and
`repeat` gather, append mask tokens, un-shuffle by the argsort of the argsort, softmax attention in separate
operations, predict all patches, average the loss under the mask, `torch.optim.AdamW` as it comes. Both share
weights, images and masks; the losses must agree before anything is timed. `ratio`: textbook time / our time,
medians, both in float32; `ratio_same_optimizer`: the same with our fused AdamW on both sides;
`ratio_bfloat16`: with our matrix products in bfloat16 (the setting `cpu_bfloat16`), the textbook in float32.

GPU: the trainer's own model, sharding, optimizer and step; images lie on the device already: the step, not
the loader. MFU: nominal training FLOPs of an image (`train.models.mae.training_flops`) x images/s / dense
bf16 peak. A case that runs out of memory is null.

Last printed line: one JSON object.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.data.dataset import Batch
from train.engine.distributed import World, open_world
from train.engine.loop import Guard, compute_gradients
from train.engine.optim import adamw, set_learning_rate
from train.engine.telemetry import peak_flops
from train.models.initial import initialise
from train.models.mae import MAE, MAEConfig, training_flops
from train.models.vit import SIZES, ViTConfig, normalise_images
from train.pretrain import PretrainConfig, build, objective

WARM_UP = 3
FLAGS: dict[str, dict[str, bool]] = {
    "plain": {},
    "compile": {"compile": True},
    "recompute": {"checkpoint_activations": True},
    "compile+recompute": {"compile": True, "checkpoint_activations": True},
}
KINDS = ("ratio", "ratio_bfloat16")
SIZES_HERE = {**SIZES, "vit_b": (768, 12, 12)}

# --- CPU


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


@dataclass(frozen=True)
class Contender:
    """A way to make a step: how the loss is computed, by which optimizer, products in bfloat16 or not."""

    loss: Callable[[MAE, Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    half: bool = False

    def step(self, model: MAE, images: Tensor, noise: Tensor) -> float:
        """Seconds of one step."""
        began = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            loss = self.loss(model, images, noise)
        torch.autograd.backward(loss)
        self.optimizer.step()
        return time.perf_counter() - began


def our_loss(model: MAE, images: Tensor, noise: Tensor) -> Tensor:
    loss: Tensor = model(images, noise).loss()
    return loss


def compare(given: Case) -> dict[str, float]:
    """Check equality on the same weights, then time whole steps, one contender after the other."""
    generator = torch.Generator().manual_seed(0)
    height, width = given.config.encoder.image_size
    images = torch.randint(0, 256, (given.batch, 3, height, width), dtype=torch.uint8, generator=generator)
    patches = given.config.encoder.patches
    noise = torch.stack([torch.randperm(patches, generator=generator) for _ in range(given.batch)])
    model = MAE(given.config)
    initialise(model, 0)
    with torch.no_grad():
        difference = abs((our_loss(model, images, noise) - textbook_loss(model, images, noise)).item())
    if difference > 1e-5:
        raise SystemExit(f"{given.name}: the formulations disagree by {difference}")
    fused = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    contenders = {
        "ours": Contender(our_loss, fused),
        "ours_half": Contender(our_loss, fused, half=True),
        "textbook": Contender(textbook_loss, torch.optim.AdamW(model.parameters(), 1e-4)),
        "textbook_fused": Contender(textbook_loss, fused),
    }
    rounds = [
        {name: contender.step(model, images, noise) for name, contender in contenders.items()}
        for _ in range(given.steps + 1)
    ]
    median = {name: statistics.median(r[name] for r in rounds[1:]) for name in contenders}  # first: warm-up
    print(f"{given.name}: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in median.items()))
    return {
        "ratio": round(median["textbook"] / median["ours"], 3),
        "ratio_bfloat16": round(median["textbook"] / median["ours_half"], 3),
        "ratio_same_optimizer": round(median["textbook_fused"] / median["ours"], 3),
        "ours_s": round(median["ours"], 4),
        "loss_difference": difference,
    }


def cpu(quick: bool) -> dict[str, Any]:
    if quick:
        cases = [case("small_224", "small", 224, 4, 5), case("small_512", "small", 512, 1, 4)]
    else:
        cases = [case("vit_b_224", "vit_b", 224, 8, 9), case("small_512", "small", 512, 4, 9)]
    figures = {given.name: compare(given) for given in cases}
    ratios = {f"{kind}_{name}": found[kind] for name, found in figures.items() for kind in KINDS}
    return {**ratios, "threads": torch.get_num_threads(), "cases": figures}


# --- GPU


def random_batch(config: PretrainConfig, images: int, device: torch.device) -> Batch:
    """Noise images and mask noise as the loader would deliver them."""
    height, width = config.image_size
    generator = torch.Generator(device=device).manual_seed(0)
    shape = (images, 3, height, width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator, device=device)
    noise = torch.rand((images, config.mae.encoder.patches), generator=generator, device=device).argsort(1)
    return {"image": pixels, "noise": noise.int(), "key": [str(i) for i in range(images)]}


def step_seconds(step: Callable[[], None], steps: int) -> float:
    """Median seconds of a step, each waited for, after a warm-up."""
    seconds = []
    for number in range(WARM_UP + steps):
        torch.cuda.synchronize()
        began = time.perf_counter()
        step()
        torch.cuda.synchronize()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def measure(
    size: str, images: int, flags: str, given: argparse.Namespace, world: World
) -> dict[str, Any] | None:
    """One case; None when the device's memory does not hold it."""
    asked = {"size": size, "image_size": given.side, "batch": images, "steps": 1000, **FLAGS[flags]}
    config = PretrainConfig.model_validate(asked)
    torch.cuda.reset_peak_memory_stats()
    try:
        model = build(config, world)
        optimizer, guard = adamw(model, config.optim), Guard(world)
        set_learning_rate(optimizer, 1e-5)
        batch = random_batch(config, images, world.device)

        def step() -> None:
            done = compute_gradients(model, objective, [batch], config.clip_norm)
            guard.step(optimizer, done, 0)
            optimizer.zero_grad(set_to_none=True)

        seconds = step_seconds(step, given.steps)
    except torch.OutOfMemoryError:
        return None
    rate, peak = images / seconds, peak_flops(world.device)
    mfu = rate * training_flops(config.mae) / peak if peak else None
    return {
        "images_per_s": round(rate, 1),
        "mfu": mfu and round(mfu, 3),
        "gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
    }


def gpu(given: argparse.Namespace) -> dict[str, Any]:
    cases: dict[str, Any] = {}
    with open_world() as world:
        for size in given.sizes:
            for images in given.batches:
                for flags in given.flags:
                    name = f"{size} batch {images} {flags}"
                    began = time.perf_counter()
                    cases[name] = measure(size, images, flags, given, world)
                    torch.cuda.empty_cache()
                    print(f"{name}: {cases[name]} ({time.perf_counter() - began:.0f} s)", flush=True)
        device = torch.cuda.get_device_name(world.device)
    mfu = max((found["mfu"] or 0 for found in cases.values() if found), default=None)
    return {"mfu": mfu, "device": device, "cases": cases}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="CPU: under a minute on 2 cores")
    parser.add_argument("--sizes", nargs="+", default=["0.3b", "1b"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 64])
    parser.add_argument("--flags", nargs="+", default=["plain", "compile"], choices=list(FLAGS))
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=8)
    given = parser.parse_args()
    figures = gpu(given) if torch.cuda.is_available() else cpu(given.quick)
    print(json.dumps({"benchmark": "pretrain_step", "torch": torch.__version__, **figures}))


if __name__ == "__main__":
    main()
