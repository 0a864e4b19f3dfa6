"""`vitruvian reconstruct`: a thin verb over `train.reconstruct`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.cli.train import AsJson, Data, Out, Quiet, Replace, _bar, _say

app = typer.Typer(no_args_is_help=True, help="Score and show what a masked autoencoder fills in.")


@app.command()
def reconstruct(
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", help="Folder of `vitruvian pretrain`, or a mae.safetensors.")
    ],
    data: Data,
    out: Out,
    ratio: Annotated[
        list[float] | None,
        typer.Option("--ratio", help="Share of patches to hide; may be repeated. Default: 0.75, 0.85, 0.95."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=1, help="Rows of the sheet of pictures.")] = 8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the masks and the intervals.")] = 0,
    replace: Replace = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a masked autoencoder, and predictors that learn nothing, on held-out pictures, and show what it
    fills in.
    """
    from shards.config import parse_config
    from train.reconstruct import ReconstructConfig
    from train.reconstruct import reconstruct as run

    given = {"images": images, "seed": seed} | ({"ratios": ratio} if ratio else {})
    settings = parse_config(given, ReconstructConfig, where="reconstruct")
    with _bar("reconstruct", shown=not quiet) as (bar, row):

        def report(done: int, total: int) -> None:
            bar.update(row, completed=done, total=total)

        result = run(settings, data, checkpoint, out, report, replace=replace)
    _say(result.status, out, result.metrics, json_)
    if not json_:
        typer.echo(_table(result.metrics))


def _table(metrics: dict[str, Any]) -> str:
    """A line for each mask ratio."""
    lines = []
    for scores in metrics["ratios"]:
        model, *others = (
            f"{name.replace('_', ' ')} {loss['mean']:.3f}" for name, loss in scores["loss"].items()
        )
        span = "[{low:.3f}, {high:.3f}]".format(**scores["loss"]["model"])
        lines.append(f"mask ratio {scores['mask_ratio']:g}: {model} {span}; {', '.join(others)}")
    if metrics["seen_in_training"]:
        lines.append("note: the model was trained on this data set; these pictures are not held out")
    return "\n".join(lines)
