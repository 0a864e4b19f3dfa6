"""`vitruvian render`: plan, run, and render one spec."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from shards.config import load_config
from shards.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Render people under HDRI lighting with exact labels.")

ConfigFile = Annotated[Path, typer.Option("--config", help="YAML file.")]
Section = Annotated[str | None, typer.Option("--section", help="Dotted path in the YAML: render.train.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[Path, typer.Option("--out", help="Output folder; an earlier run of the same is continued.")]

_BYTES_PER_PIXEL = 8.0  # all members of a sample, measured on 192 x 256 (docs/render.md)
_SECONDS_PER_RAY = 1.6e-6  # one core, AMD EPYC; beauty render
_SECONDS_PER_IDENTITY = 2.0  # build, load, BVH, HDRI


@app.command()
def plan(config: ConfigFile, section: Section = None, as_json: AsJson = False) -> None:
    """Say how many images, hours and bytes a job comes to. Renders nothing."""
    from render.job import plan as plan_units
    from render.recipe import RenderConfig

    job = load_config(config, RenderConfig, section)
    images, pixels = job.identities * job.views, job.width * job.height
    seconds = images * pixels * (job.samples + 3) * _SECONDS_PER_RAY + job.identities * _SECONDS_PER_IDENTITY
    figures = {
        "units": len(plan_units(job)),
        "identities": job.identities,
        "images": images,
        "core_seconds": round(seconds),
        "bytes": round(images * pixels * _BYTES_PER_PIXEL),
    }
    if as_json:
        typer.echo(json.dumps(figures))
        return
    typer.echo(
        f"{images} images of {job.width} x {job.height} px ({job.identities} people x {job.views} views) in "
        f"{figures['units']} shards; about {_duration(seconds)} of one core, {figures['bytes'] / 1e6:.1f} MB"
    )


@app.command()
def run(
    config: ConfigFile,
    out: Out,
    section: Section = None,
    executor: Annotated[str, typer.Option("--executor", help="inline (this process) or ray.")] = "inline",
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes under ray.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what another configuration made.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: AsJson = False,
) -> None:
    """Render a job into shards. Killed and run again, it goes on where it stopped, to the same bytes."""
    from render.job import STAGE_NAME, RenderWorker, provenance, stage_key
    from render.job import plan as plan_units
    from render.recipe import RenderConfig
    from shards.units import close_stage, open_stage, pending, quarantined

    job = load_config(config, RenderConfig, section)
    stage = open_stage(out, STAGE_NAME, stage_key(job), replace)
    units = plan_units(job)
    todo = pending(stage, units)
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // (workers or cores)) if executor == "ray" else cores
    _render(stage, todo, RenderWorker(threads), executor, workers, len(units), quiet)
    manifest = close_stage(stage, units, provenance(job))
    failed = quarantined(stage)
    _report(manifest, len(units) - len(todo), len(units), failed, as_json)
    if failed:
        raise typer.Exit(3)


@app.command()
def one(
    spec: Annotated[Path, typer.Argument(help="A sample spec, or a sample's json member, as JSON.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the members.")],
    hdri_folder: Annotated[Path | None, typer.Option("--hdri-folder", help="Default: bpy's own.")] = None,
) -> None:
    """Render one spec and write its members as files named KEY.MEMBER."""
    from render.engine import Engine
    from render.spec import SampleSpec

    sample = Engine(hdri_folder=hdri_folder).render(SampleSpec.from_json(_read_spec(spec)))
    out.mkdir(parents=True, exist_ok=True)
    for member, data in sample.members.items():
        (out / f"{sample.key}.{member}").write_bytes(data)
    typer.echo(f"{out / sample.key}.*")


def _render(
    stage: Any, todo: list[Any], worker: Any, executor: str, workers: int | None, total: int, quiet: bool
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipelines.executors import run_units

    bar = Progress(
        TextColumn("render"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("shards  {task.fields[images]} images  {task.fields[rate]}  {task.fields[failed]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )
    with bar:
        task = bar.add_task("render", total=total, completed=total - len(todo), images=0, rate="", failed="")
        images = failures = 0
        for outcome in run_units(stage, todo, worker, executor=executor, workers=workers):
            images += outcome.samples
            failures += sum(outcome.rejects.values()) + (outcome.status == "quarantined")
            elapsed = bar.tasks[task].elapsed or 1e-9
            bar.update(
                task,
                advance=1,
                images=images,
                rate=f"{images / elapsed:.2f}/s",
                failed=f"{failures} failed" if failures else "",
            )


def _report(manifest: Any, kept: int, total: int, failed: list[Any], as_json: bool) -> None:
    images = sum(shard.samples for shard in manifest.shards)
    if as_json:
        names = [entry.unit for entry in failed]
        result = {"images": images, "shards": len(manifest.shards), "digest": manifest.digest}
        typer.echo(json.dumps({**result, "kept_shards": kept, "quarantined": names}))
        return
    done = (
        "nothing to do, all shards are up to date" if kept == total else f"{kept} shards were there already"
    )
    typer.echo(f"{images} images in {len(manifest.shards)} shards ({done}); digest {manifest.digest[:12]}")
    for entry in failed:
        typer.echo(
            f"quarantined {entry.unit} after {entry.attempts} attempts: {entry.error.splitlines()[-1]}",
            err=True,
        )


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"


def _read_spec(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from None
    if isinstance(content, dict) and "provenance" in content:
        return content["provenance"].get("spec")
    return content
