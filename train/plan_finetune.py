"""What a fine-tuning takes before anything runs: memory and GPU-hours, from the shapes alone.

A step is tightest at one of two moments. When backward enters the head, everything kept for it is there, but
no gradient yet (unless micro-batches accumulate); when it ends, all gradients are there, and one block:

    GPU's bytes = 12 B x parameters / ranks  +  images x (encoder + head + what the head's backward adds)
               or 16 B x parameters / ranks  +  images x one block

benchmarks/finetune_memory.py holds this against the real step, run on tensors without values.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from train.engine.telemetry import PEAK_FLOPS
from train.finetune import Description, FinetuneConfig, assemble
from train.models.heads import TaskModel
from train.models.vit import ViT, ViTConfig, forward_flops
from train.plan import (
    ACTIVATION_BYTES,
    CHECKPOINTED_BYTES,
    GIB,
    MARGIN_GIB,
    MEMORY_GIB,
    SAVED_BYTES,
    STATE_BYTES,
    Fleet,
    check_request,
    make_fleet,
    rate_of,
    state_bytes,
)
from train.tasks import make_task

LAYER_BYTES = 6
"""Of an output value of a head's layer in bfloat16, kept for backward: of the convolution, the norm, SiLU."""
LAYER_BACKWARD_BYTES = 2
"""Of the same while backward leaves the last such layer: the gradient on both sides of SiLU, whose output is
no longer needed.
"""
LOSS_BYTES = 20
"""Of an output value where the loss compares it, in float32: target, residual, and three arrays that the
loss's backward makes of it.
"""
BLOCK_BYTES = 46
"""Of a token and channel, while backward is in a block: what the block keeps (34) less GELU's output, and the
gradients of the residual stream (4) and on both sides of GELU (16).
"""


class Layer(NamedTuple):
    """A layer of a head: channels in and out, pixels of its output, taps of the kernel that meet there."""

    before: int
    channels: int
    pixels: int
    taps: int


class Moment(NamedTuple):
    """Bytes on a GPU: whatever the batch, and of each image in it."""

    fixed: int
    image: int


@dataclass(frozen=True)
class Memory:
    """Of a task model, by shape. Bytes of one image: kept by the encoder's blocks and by the head between
    forward and backward, added when backward enters the head, and alive while it is in one block.
    """

    parameters: int
    encoder: int
    head: int
    head_backward: int
    block: int

    def moments(self, ranks: int = 1, accumulating: bool = False) -> tuple[Moment, Moment]:
        """Backward enters the head; backward ends. Gradients that accumulate are whole on each rank."""
        state = state_bytes(self.parameters, ranks, accumulating)
        without = self.parameters * SAVED_BYTES // ranks
        kept = self.encoder + self.head + self.head_backward
        return Moment(state if accumulating else without, kept), Moment(state, self.block)

    def peak(self, images: int, ranks: int = 1, accumulating: bool = False) -> int:
        """Bytes at the tighter moment, with so many images at once."""
        return max(moment.fixed + images * moment.image for moment in self.moments(ranks, accumulating))

    def fitting(self, device: str, ranks: int = 1, accumulating: bool = False) -> int:
        """Images that one GPU can take at once, with the margin of `vitruvian plan`; 0: none."""
        free = int((MEMORY_GIB[device] - MARGIN_GIB) * GIB)
        each = ((free - moment.fixed) // moment.image for moment in self.moments(ranks, accumulating))
        return max(0, min(each))


@dataclass(frozen=True)
class FinetunePlan:
    """A fine-tuning in numbers. FLOPs: nominal, of forward and backward. GiB: of one image, kept for backward
    in bfloat16; of the whole state, before it is shared among the ranks; `peak_gib`: of one GPU alone with
    one image at once. Rates: of one GPU.
    """

    task: str
    size: str
    image_size: tuple[int, int]
    parameters: int
    head_parameters: int
    flops_per_image: int
    images: int
    steps: int
    batch: int
    learning_rate: float
    state_gib: float
    checkpoint_gib: float
    encoder_gib: float
    encoder_checkpointed_gib: float
    head_gib: float
    peak_gib: float
    peak_checkpointed_gib: float
    device: str
    images_per_second: float
    mfu: float
    gpu_hours: float
    fleets: tuple[Fleet, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_finetune(
    task: str,
    config: FinetuneConfig,
    *,
    device: str = "H200",
    images: int | None = None,
    rate: float | None = None,
    mfu: float | None = None,
    gpus: tuple[int, ...] = (1, 8, 64),
) -> FinetunePlan:
    """What fine-tuning `task` with an encoder of `config.size` takes; arguments as of `train.plan.plan`.
    Raises UsageError.
    """
    check_request(device, images, rate, mfu, gpus)
    model = skeleton(task, config)
    flops = training_flops(model)
    rate = rate_of(flops, device, rate, mfu)
    images = images or config.steps * config.batch
    plain, recomputed = memory(task, model, False), memory(task, model, True)
    hours = images / rate / 3600

    def fits(ranks: int, accumulating: bool, checkpointed: bool) -> int:
        return (recomputed if checkpointed else plain).fitting(device, ranks, accumulating)

    return FinetunePlan(
        task=task,
        size=config.size,
        image_size=config.image_size,
        parameters=plain.parameters,
        head_parameters=_count(model.head),
        flops_per_image=flops,
        images=images,
        steps=-(-images // config.batch),
        batch=config.batch,
        learning_rate=config.learning_rate,
        state_gib=plain.parameters * STATE_BYTES / GIB,
        checkpoint_gib=plain.parameters * SAVED_BYTES / GIB,
        encoder_gib=plain.encoder / GIB,
        encoder_checkpointed_gib=recomputed.encoder / GIB,
        head_gib=(plain.head + plain.head_backward) / GIB,
        peak_gib=plain.peak(1) / GIB,
        peak_checkpointed_gib=recomputed.peak(1) / GIB,
        device=device,
        images_per_second=rate,
        mfu=rate * flops / PEAK_FLOPS[device],
        gpu_hours=hours,
        fleets=tuple(make_fleet(config.batch, n, hours, plain.parameters, fits) for n in gpus),
    )


def skeleton(task: str, config: FinetuneConfig) -> TaskModel:
    """The model of a run, without values: all on the device "meta". Raises UsageError for an unknown task."""
    made = make_task(task, config.target)
    vit = ViTConfig.of(config.size, config.image_size, with_cls=False)
    head = Description(task, config, vit).head
    with torch.device("meta"):
        return assemble(made, ViT(vit), head, config.drop_path)


def memory(task: str, model: TaskModel, checkpointed: bool) -> Memory:
    """Of `model` at its encoder's image size, with or without activation checkpointing."""
    vit, layers = model.encoder.config, head_layers(model)
    stream = vit.tokens * vit.width
    last = layers[-1].channels * layers[-1].pixels
    # Heat maps are compared as they come, other outputs at the size of the input.
    pixels = layers[-1].pixels if task == "pose" else vit.image_size[0] * vit.image_size[1]
    return Memory(
        parameters=_count(model),
        encoder=(CHECKPOINTED_BYTES if checkpointed else ACTIVATION_BYTES) * stream * vit.depth,
        head=LAYER_BYTES * sum(layer.channels * layer.pixels for layer in layers),
        head_backward=max(LAYER_BACKWARD_BYTES * last, LOSS_BYTES * model.head.last.out_channels * pixels),
        block=BLOCK_BYTES * stream,
    )


def training_flops(model: TaskModel) -> int:
    """Nominal training FLOPs of one image (forward and twice that for backward), 2 per multiply-add."""
    layers = head_layers(model)
    forward = sum(2 * layer.taps * layer.before * layer.channels * layer.pixels for layer in layers)
    forward += 2 * model.head.config.width * model.head.last.out_channels * layers[-1].pixels
    return 3 * (forward_flops(model.encoder.config) + forward)


def head_layers(model: TaskModel) -> list[Layer]:
    """The deconvolutions and 1x1 convolutions, without the output layer."""
    vit, head = model.encoder.config, model.head.config
    widths = (vit.width, *head.deconv_channels, *head.conv_channels)
    layers = []
    for number, (before, channels) in enumerate(pairwise(widths)):
        doublings = min(number + 1, len(head.deconv_channels))
        taps = 4 if number < len(head.deconv_channels) else 1  # 4x4 at stride 2
        layers.append(Layer(before, channels, vit.patches * 4**doublings, taps))
    return layers


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())
