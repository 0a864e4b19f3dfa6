"""`vitruvian plan`: what a pretraining takes, before anything runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.errors import UsageError

if TYPE_CHECKING:
    from train.plan import Plan

app = typer.Typer(no_args_is_help=True, help="Say what a pretraining takes.")


@app.command()
def plan(
    config: Annotated[Path, typer.Option("--config", help="YAML file of `vitruvian pretrain`.")],
    section: Annotated[str, typer.Option("--section", help="Dotted name of the section.")] = "pretrain",
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
    gpus: Annotated[str, typer.Option("--gpus", help="Numbers of GPUs, with commas.")] = "8,64,256",
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a pretraining takes: memory, images a second, GPU-hours, days. Arithmetic; nothing runs."""
    from shards.config import load_config
    from train.plan import plan as make
    from train.pretrain import PretrainConfig

    settings = load_config(config, PretrainConfig, section)
    wanted = None if images is None else int(_number("--images", images))
    counts = tuple(int(_number("--gpus", text)) for text in gpus.split(","))
    found = make(settings, device=device, images=wanted, rate=rate, mfu=mfu, gpus=counts)
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        typer.echo(render(found, assumed=rate is None))


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option}: expected a number, got {text!r}") from None


def render(found: "Plan", assumed: bool) -> str:
    """The plan as text; the table is Markdown."""
    height, width = found.image_size
    source = "an assumed MFU" if assumed else "the given rate, an MFU"
    lines = [
        f"model        {found.size}, {found.parameters:,} parameters with the decoder; {height} x {width}, "
        f"{found.visible_tokens_per_image:,} of {found.tokens_per_image:,} patches visible",
        f"work         {found.flops_per_image / 1e12:.3g} TFLOP an image (forward and backward, nominal); "
        f"{found.images:,} images, {found.images * found.tokens_per_image:.3g} patches",
        f"steps        {found.steps:,} of {found.batch:,} images, peak learning rate "
        f"{found.peak_learning_rate:.3g}",
        f"memory       state {found.state_gib:.1f} GiB, shared by the ranks; activations "
        f"{found.activations_gib:.2f} GiB an image, {found.activations_checkpointed_gib:.2f} recomputed",
        f"checkpoint   {found.checkpoint_gib:.1f} GiB",
        f"speed        {found.images_per_second:.1f} images/s on one {found.device}: "
        f"{source} of {found.mfu:.0%}",
        f"cost         {found.gpu_hours:,.0f} {found.device}-hours, at perfect scaling",
        "",
        "| GPUs | days | images/s | state, GiB a GPU | images at once (accumulate) | recomputing |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for fleet in found.fleets:
        cells = (
            f"{fleet.gpus}",
            f"{fleet.days:,.1f}",
            f"{fleet.gpus * found.images_per_second:,.0f}",
            f"{fleet.state_gib:.1f}",
            _fit(fleet.micro_batch, fleet.accumulate),
            _fit(fleet.micro_batch_checkpointed, fleet.accumulate_checkpointed),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _fit(micro_batch: int | None, accumulate: int | None) -> str:
    return "no" if micro_batch is None else f"{micro_batch} ({accumulate})"
