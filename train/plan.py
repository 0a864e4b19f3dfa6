"""What a pretraining takes before anything runs: memory, images a second, GPU-hours. Plain arithmetic.

    GPU-hours = images x FLOPs of an image / (MFU x peak)  / 3600  =  images / (images/s of a GPU) / 3600

Nothing here is measured but what the caller says: a rate, or a utilisation (MFU). Scaling is taken as
perfect; restarts, saves and waiting for data come on top.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from shards.errors import UsageError
from train.engine.telemetry import PEAK_FLOPS
from train.models.mae import MAE, training_flops
from train.pretrain import PretrainConfig

GIB = 2**30
MEMORY_GIB = {"H200": 139.8, "H100": 79.2, "A100": 79.2, "L40S": 44.5}
"""What a process can have of a device. 141 and 80 GB are 10^9 bytes, and the driver takes its share."""
MARGIN_GIB = 6.0
"""CUDA context, images, gathered blocks, what the allocator cannot fill."""
STATE_BYTES = 16
"""Of a parameter: master weight, gradient and AdamW's two moments in float32."""
SAVED_BYTES = 12
"""Of a parameter in a checkpoint: no gradient."""
ACTIVATION_BYTES = 34
"""Of a token, channel and block in bfloat16, kept for backward: the norms' inputs (4) and outputs (4); q, k
and v (6); what attention answers, as it comes and as the projection takes it (4); GELU's input and output,
four times as wide (16).
"""
CHECKPOINTED_BYTES = 2
"""Of the same with activation checkpointing: the block's input."""


@dataclass(frozen=True)
class Fleet:
    """So many GPUs together. `micro_batch`: images that each takes at once; `accumulate`: the setting that
    makes it so; both None when not even one image fits, or the batch does not divide.
    """

    gpus: int
    days: float
    state_gib: float
    micro_batch: int | None
    accumulate: int | None
    micro_batch_checkpointed: int | None
    accumulate_checkpointed: int | None


@dataclass(frozen=True)
class Plan:
    """A pretraining in numbers. FLOPs: nominal, of forward and backward. GiB: of one image's activations in
    bfloat16; of the whole state, before it is shared among the ranks. Rates: of one GPU.
    """

    size: str
    image_size: tuple[int, int]
    parameters: int
    flops_per_image: int
    tokens_per_image: int
    visible_tokens_per_image: int
    images: int
    steps: int
    batch: int
    peak_learning_rate: float
    state_gib: float
    checkpoint_gib: float
    activations_gib: float
    activations_checkpointed_gib: float
    device: str
    images_per_second: float
    mfu: float
    gpu_hours: float
    fleets: tuple[Fleet, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(
    config: PretrainConfig,
    *,
    device: str = "H200",
    images: int | None = None,
    rate: float | None = None,
    mfu: float | None = None,
    gpus: tuple[int, ...] = (8, 64, 256),
) -> Plan:
    """What `config` takes on GPUs of type `device` (a key of PEAK_FLOPS).

    `images`: default steps x batch of the configuration. `rate`: images a second of one GPU, as measured
    (benchmarks/pretrain_step.py); else `mfu`, by default 0.4. Raises UsageError.
    """
    check_request(device, images, rate, mfu, gpus)
    flops = training_flops(config.mae)
    rate = rate_of(flops, device, rate, mfu)
    images = images or config.steps * config.batch
    parameters = count_parameters(config)
    hours = images / rate / 3600

    def fits(ranks: int, accumulating: bool, checkpointed: bool) -> int:
        state = state_bytes(parameters, ranks, accumulating) / GIB
        return largest_micro_batch(config, device, state, checkpointed)

    return Plan(
        size=config.size,
        image_size=config.image_size,
        parameters=parameters,
        flops_per_image=flops,
        tokens_per_image=config.mae.encoder.patches,
        visible_tokens_per_image=config.mae.visible,
        images=images,
        steps=-(-images // config.batch),
        batch=config.batch,
        peak_learning_rate=config.optim.learning_rate,
        state_gib=parameters * STATE_BYTES / GIB,
        checkpoint_gib=parameters * SAVED_BYTES / GIB,
        activations_gib=activation_bytes(config, False) / GIB,
        activations_checkpointed_gib=activation_bytes(config, True) / GIB,
        device=device,
        images_per_second=rate,
        mfu=rate * flops / PEAK_FLOPS[device],
        gpu_hours=hours,
        fleets=tuple(make_fleet(config.batch, number, hours, parameters, fits) for number in gpus),
    )


def count_parameters(config: PretrainConfig) -> int:
    """Of encoder and decoder, the fixed tables of positions included (as Table 2 counts)."""
    with torch.device("meta"):
        return sum(value.numel() for value in MAE(config.mae).parameters())


def activation_bytes(config: PretrainConfig, checkpointed: bool) -> int:
    """What one image keeps between forward and backward, in bfloat16: the encoder on the visible tokens, the
    decoder on all. With activation checkpointing: the blocks' inputs, and one block in full at a time.
    """
    mae, cls = config.mae, int(config.mae.encoder.with_cls)
    encoder = (mae.visible + cls) * mae.encoder.width
    decoder = (mae.encoder.patches + cls) * mae.decoder_width
    total = encoder * mae.encoder.depth + decoder * mae.decoder_depth
    if not checkpointed:
        return ACTIVATION_BYTES * total
    return CHECKPOINTED_BYTES * total + ACTIVATION_BYTES * max(encoder, decoder)


def largest_micro_batch(config: PretrainConfig, device: str, state_gib: float, checkpointed: bool) -> int:
    """Images that a GPU can take at once beside its share of the state; 0 when that does not fit."""
    free = MEMORY_GIB[device] - MARGIN_GIB - state_gib
    return max(0, int(free * GIB // activation_bytes(config, checkpointed)))


def state_bytes(parameters: int, ranks: int, accumulating: bool) -> int:
    """Of one rank: its share of weights, moments and gradients. Gradients that accumulate over micro-batches
    are whole on each rank (`keep_gradients_local`).
    """
    gradients = 4 * parameters // (1 if accumulating else ranks)
    return SAVED_BYTES * parameters // ranks + gradients


Fits = Callable[[int, bool, bool], int]
"""(ranks, accumulating, checkpointed) -> images that a GPU can take at once."""


def make_fleet(batch: int, gpus: int, hours: float, parameters: int, fits: Fits) -> Fleet:
    """Of `gpus` GPUs that share `batch` images a step and `hours` GPU-hours. A GPU's share is taken at once
    where that fits, else in the fewest equal micro-batches that do.
    """
    share, rest = divmod(batch, gpus)

    def micro_batch(checkpointed: bool) -> int | None:
        if rest or fits(gpus, False, checkpointed) >= share:
            return None if rest else share
        most = min(share - 1, fits(gpus, True, checkpointed))
        return next((n for n in range(most, 0, -1) if share % n == 0), None)

    plain, recomputed = micro_batch(False), micro_batch(True)
    return Fleet(
        gpus=gpus,
        days=hours / gpus / 24,
        state_gib=state_bytes(parameters, gpus, False) / GIB,
        micro_batch=plain,
        accumulate=plain and share // plain,
        micro_batch_checkpointed=recomputed,
        accumulate_checkpointed=recomputed and share // recomputed,
    )


def rate_of(flops: int, device: str, rate: float | None, mfu: float | None) -> float:
    """Images a second of one GPU: as given, else by `mfu` (default 0.4). Raises UsageError above the peak."""
    peak = PEAK_FLOPS[device]
    rate = rate or (0.4 if mfu is None else mfu) * peak / flops
    if rate * flops > peak:
        raise UsageError(f"{rate} images/s would be {rate * flops / peak:.0%} of the peak of one {device}")
    return rate


def check_request(
    device: str, images: int | None, rate: float | None, mfu: float | None, gpus: tuple[int, ...]
) -> None:
    """Raises UsageError for a request that makes no sense."""
    if device not in PEAK_FLOPS:
        raise UsageError(f"device: expected one of {', '.join(PEAK_FLOPS)}, got {device!r}")
    if rate is not None and mfu is not None:
        raise UsageError("give a rate or an MFU, not both")
    if (rate is not None and rate <= 0) or (mfu is not None and not 0 < mfu <= 1):
        raise UsageError(f"expected a rate above 0 and an MFU in (0, 1], got {rate} and {mfu}")
    if (images is not None and images < 1) or min(gpus, default=0) < 1:
        raise UsageError(f"expected at least one image and one GPU, got {images} and {list(gpus)}")
