"""`vitruvian render hi4d`: the user's own copy of Hi4D as labelled shards, to be evaluated on."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from shards.errors import UsageError


def hi4d(
    folder: Annotated[Path, typer.Argument(help="Hi4D as extracted: pair00, pair01 ... are in it.")],
    out: Annotated[
        Path, typer.Option("--out", help="Output folder; an earlier run of the same is continued.")
    ],
    pairs: Annotated[
        list[int] | None, typer.Option("--pair", min=0, help="May be repeated. Default: 28, 32 and 37.")
    ] = None,
    cameras: Annotated[
        list[int] | None, typer.Option("--camera", min=0, help="May be repeated. Default: 4.")
    ] = None,
    frames: Annotated[
        Path | None,
        typer.Option("--frames", help="Text file of sequences or frames, one a line, instead of --pair."),
    ] = None,
    geometry: Annotated[
        Literal["scan", "instance"],
        typer.Option("--geometry", help="Labels of frames/*.obj, or of the subjects' own meshes."),
    ] = "scan",
    human: Annotated[
        Literal["mesh", "both"],
        typer.Option("--human", help="Human pixels: where rays meet the mesh, or Hi4D's mask agrees too."),
    ] = "mesh",
    executor: Annotated[str, typer.Option("--executor", help="inline (this process) or ray.")] = "inline",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes under ray.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what another configuration made.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Label Hi4D's pictures from its scans, for `vitruvian evaluate depth|normal`.

    Without options: pairs 28, 32, 37 and camera 4. The paper's test set is 1195 of their frames; --frames
    takes the list. Killed and run again, it goes on where it stopped, to the same bytes.
    """
    from render.hi4d import STAGE_NAME, Hi4dConfig, Hi4dWorker, plan, provenance, stage_key
    from render.hi4d.files import read_list
    from shards.units import close_stage, open_stage, pending, quarantined

    if frames is not None and pairs:
        raise UsageError("render hi4d: --frames says which pairs; give it or --pair, not both")
    said: dict[str, Any] = {"pairs": pairs or None, "cameras": cameras or None}
    said["listed"] = None if frames is None else read_list(frames)
    given = {name: value for name, value in said.items() if value is not None}
    config = Hi4dConfig(geometry=geometry, human=human, **given)
    units = plan(folder, config)
    stage = open_stage(out, STAGE_NAME, stage_key(config), replace)
    todo = pending(stage, units)
    _label(stage, todo, Hi4dWorker(folder, geometry, human), executor, workers, len(units), quiet)
    manifest = close_stage(stage, units, provenance(config))
    failed = quarantined(stage)
    _report(out, manifest, len(units) - len(todo), failed, as_json)
    if failed:
        raise typer.Exit(3)


def _label(
    stage: Any, todo: list[Any], worker: Any, executor: str, workers: int | None, total: int, quiet: bool
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipelines.executors import run_units

    bar = Progress(
        TextColumn("hi4d"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards  {task.fields[images]} images"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    with bar:
        task, images = bar.add_task("hi4d", total=total, completed=total - len(todo), images=0), 0
        for outcome in run_units(stage, todo, worker, executor=executor, workers=workers):
            images += outcome.samples
            bar.update(task, advance=1, images=images)


def _report(out: Path, manifest: Any, kept: int, failed: list[Any], as_json: bool) -> None:
    """Counts, what got no labels and why, and how well the labels cover Hi4D's own masks."""
    from collections import Counter

    from shards.manifest import read_markers

    rejects, told = Counter[str](), []
    for marker in read_markers(out).values():
        rejects.update(marker.rejects)
        told += marker.run.get("rejected", [])
    overlaps = _overlaps(out) if manifest.samples else []
    covered = {"mean": sum(overlaps) / len(overlaps), "least": min(overlaps)} if overlaps else None
    if as_json:
        result = {"images": manifest.samples, "shards": len(manifest.shards), "digest": manifest.digest}
        names = [entry.unit for entry in failed]
        result |= {"kept_shards": kept, "rejects": rejects, "mask_iou": covered, "quarantined": names}
        typer.echo(json.dumps(result))
        return
    protocol = manifest.provenance.get("protocol", "none: not the published pairs and camera")
    typer.echo(
        f"{manifest.samples} images in {len(manifest.shards)} shards ({kept} were there already); "
        f"digest {manifest.digest[:12]}; protocol {protocol}"
    )
    if covered is not None:
        share = f"{covered['mean']:.3f} on average, {covered['least']:.3f} at worst"
        typer.echo(f"overlap (IoU) with Hi4D's own masks in {len(overlaps)} images: {share}")
    for reason, count in sorted(rejects.items()):
        typer.echo(f"{count} images not made: {reason}", err=True)
    for message in told[:5]:
        typer.echo(f"  {message}", err=True)
    for entry in failed:
        last = entry.error.splitlines()[-1]
        typer.echo(f"quarantined {entry.unit} after {entry.attempts} attempts: {last}", err=True)


def _overlaps(out: Path) -> list[float]:
    from shards.reader import Dataset

    column = Dataset.open(out).table()["mask_iou"].to_pylist()
    return [value for value in column if value is not None]
