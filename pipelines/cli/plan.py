"""`vitruvian plan`: what a pretraining or a fine-tuning takes, before anything runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shards.errors import UsageError

if TYPE_CHECKING:
    from train.plan import Fleet, Plan
    from train.plan_finetune import FinetunePlan

app = typer.Typer(no_args_is_help=True, help="Say what a pretraining or a fine-tuning takes.")


@app.command()
def plan(
    config: Annotated[
        Path, typer.Option("--config", help="YAML file of `vitruvian pretrain` or `vitruvian finetune`.")
    ],
    task: Annotated[
        str | None, typer.Option("--task", help="Fine-tuning: the task. Default: a pretraining.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", help="Fine-tuning: of the encoder it is to start from. Default: the section's."
        ),
    ] = None,
    section: Annotated[
        str | None,
        typer.Option("--section", help="Dotted name of the section. Default: pretrain, or finetune.TASK."),
    ] = None,
    images: Annotated[
        str | None, typer.Option("--images", help="Such as 300e6. Default: steps x batch of the settings.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="H200, H100, A100 or L40S.")] = "H200",
    rate: Annotated[
        float | None, typer.Option("--rate", help="Images a second of one GPU, as you measured it.")
    ] = None,
    mfu: Annotated[
        float | None, typer.Option("--mfu", help="Share of the peak, where nothing is measured; default 0.4.")
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option("--gpus", help="Numbers of GPUs, with commas. Default: 8,64,256; fine-tuning 1,8,64."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a pretraining (or, with --task, a fine-tuning) takes: memory, images a second, GPU-hours,
    days. Arithmetic; nothing runs.
    """
    request: dict[str, Any] = {
        "device": device,
        "images": None if images is None else int(_number("--images", images)),
        "rate": rate,
        "mfu": mfu,
    }
    if gpus is not None:
        request["gpus"] = tuple(int(_number("--gpus", text)) for text in gpus.split(","))
    found = (
        _pretraining(config, section, size, request)
        if task is None
        else _finetuning(task, config, section, size, request)
    )
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        typer.echo(render(found, assumed=rate is None))


def _pretraining(config: Path, section: str | None, size: str | None, request: dict[str, Any]) -> "Plan":
    from shards.config import load_config
    from train.plan import plan as make
    from train.pretrain import PretrainConfig

    if size is not None:
        raise UsageError("--size is for fine-tuning (--task); a pretraining's size stands in its section")
    return make(load_config(config, PretrainConfig, section or "pretrain"), **request)


def _finetuning(
    task: str, config: Path, section: str | None, size: str | None, request: dict[str, Any]
) -> "FinetunePlan":
    from shards.config import load_config
    from train.finetune import FinetuneConfig
    from train.models.vit import SIZES
    from train.plan_finetune import plan_finetune

    settings = load_config(config, FinetuneConfig, section or f"finetune.{task}")
    if size is not None and size not in SIZES:
        raise UsageError(f"--size: expected one of {', '.join(SIZES)}, got {size!r}")
    return plan_finetune(task, settings.model_copy(update={"size": size or settings.size}), **request)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option}: expected a number, got {text!r}") from None


def render(found: "Plan | FinetunePlan", assumed: bool) -> str:
    """The plan as text; the table is Markdown."""
    from train.plan import Plan

    source = "an assumed MFU" if assumed else "the given rate, an MFU"
    lines = [
        *(_of_pretraining(found) if isinstance(found, Plan) else _of_finetuning(found)),
        f"checkpoint   {found.checkpoint_gib:.1f} GiB",
        f"speed        {found.images_per_second:.1f} images/s on one {found.device}: "
        f"{source} of {found.mfu:.0%}",
        f"cost         {found.gpu_hours:,.0f} {found.device}-hours, at perfect scaling",
        "",
        "| GPUs | days | images/s | state, GiB a GPU | images at once (accumulate) | recomputing |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    return "\n".join([*lines, *(_row(fleet, found.images_per_second) for fleet in found.fleets)])


def _of_pretraining(found: "Plan") -> list[str]:
    height, width = found.image_size
    return [
        f"model        {found.size}, {found.parameters:,} parameters with the decoder; {height} x {width}, "
        f"{found.visible_tokens_per_image:,} of {found.tokens_per_image:,} patches visible",
        f"work         {found.flops_per_image / 1e12:.3g} TFLOP an image (forward and backward, nominal); "
        f"{found.images:,} images, {found.images * found.tokens_per_image:.3g} patches",
        f"steps        {found.steps:,} of {found.batch:,} images, peak learning rate "
        f"{found.peak_learning_rate:.3g}",
        f"memory       state {found.state_gib:.1f} GiB, shared by the ranks; activations "
        f"{found.activations_gib:.2f} GiB an image, {found.activations_checkpointed_gib:.2f} recomputed",
    ]


def _of_finetuning(found: "FinetunePlan") -> list[str]:
    height, width = found.image_size
    return [
        f"model        {found.task} on {found.size}, {found.parameters:,} parameters, "
        f"{found.head_parameters:,} of them in the head; {height} x {width}",
        f"work         {found.flops_per_image / 1e12:.3g} TFLOP an image (forward and backward, nominal); "
        f"{found.images:,} images",
        f"steps        {found.steps:,} of {found.batch:,} images, peak learning rate "
        f"{found.learning_rate:.3g}",
        f"memory       state {found.state_gib:.1f} GiB, shared by the ranks; an image: encoder "
        f"{found.encoder_gib:.2f} GiB, {found.encoder_checkpointed_gib:.2f} recomputed, head "
        f"{found.head_gib:.2f}",
        f"             peak of one GPU with one image at once {found.peak_gib:.1f} GiB, "
        f"{found.peak_checkpointed_gib:.1f} recomputing",
    ]


def _row(fleet: "Fleet", rate: float) -> str:
    cells = (
        f"{fleet.gpus}",
        f"{fleet.days:,.1f}",
        f"{fleet.gpus * rate:,.0f}",
        f"{fleet.state_gib:.1f}",
        _fit(fleet.micro_batch, fleet.accumulate),
        _fit(fleet.micro_batch_checkpointed, fleet.accumulate_checkpointed),
    )
    return f"| {' | '.join(cells)} |"


def _fit(micro_batch: int | None, accumulate: int | None) -> str:
    return "no" if micro_batch is None else f"{micro_batch} ({accumulate})"
