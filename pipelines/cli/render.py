"""`vitruvian render`: plan, run, rebuild one sample, look at scans and at a plan."""

import errno
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pipelines.cli.hi4d import hi4d
from shards.config import load_config
from shards.errors import UsageError, VitruvianError

app = typer.Typer(no_args_is_help=True, help="Render people under HDRI lighting with exact labels.")
app.command()(hi4d)

_PREVIEWED_VIEWS = 3  # of each identity, so that a sheet shows several

Device = Literal["auto", "cpu", "cuda", "optix"]

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="YAML file with a job; without it, one of sampled people.")
]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="A bundled recipe or a YAML file, instead of the job's.")
]
Count = Annotated[
    int | None, typer.Option("--count", min=1, help="How many people or scans, instead of the job's.")
]
Views = Annotated[int | None, typer.Option("--views", min=1, help="Pictures of each under each HDRI.")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Of everything random.")]
Size = Annotated[
    tuple[int, int] | None,
    typer.Option("--size", metavar="WIDTH HEIGHT", help="In pixels."),
]
Section = Annotated[str | None, typer.Option("--section", help="Dotted path in the YAML: render.train.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Out = Annotated[Path, typer.Option("--out", help="Output folder; an earlier run of the same is continued.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Hdris = Annotated[Path | None, typer.Option("--hdri-folder", help="Default: bpy's own.")]
AssetFolder = Annotated[
    Path | None, typer.Option("--asset-folder", help="MakeHuman garments, hair, skins and poses.")
]
Scans = Annotated[Path | None, typer.Option("--scan-folder", help="Where the scans of the spec are.")]
On = Annotated[Device, typer.Option("--device", help="What Cycles renders on; auto: a GPU if there is one.")]


@app.command()
def plan(
    config: ConfigFile = None,
    section: Section = None,
    recipe: RecipeName = None,
    count: Count = None,
    views: Views = None,
    seed: Seed = None,
    size: Size = None,
    asset_folder: AssetFolder = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write every spec to this file, one JSON a line.")
    ] = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Say how many images, hours and bytes a job comes to. Renders nothing."""
    from render.forecast import forecast, forecast_specs
    from render.job import plan as plan_units

    job = _job(config, section, recipe, count, views, seed, size, asset_folder)
    found = forecast(job)
    rejects: dict[str, int] = {}
    if out is not None:
        found = forecast_specs(job, _write_specs(job, out, found.images, rejects, quiet))
    units = len(plan_units(job))
    if as_json:
        typer.echo(json.dumps({**found.to_json(), "recipe": job.recipe, "units": units, "rejects": rejects}))
        return
    _print_forecast(job, found, units)
    for reason, images in rejects.items():
        typer.echo(f"{images} images cannot be planned: {reason}", err=True)


@app.command()
def run(
    out: Out,
    config: ConfigFile = None,
    section: Section = None,
    recipe: RecipeName = None,
    count: Count = None,
    views: Views = None,
    seed: Seed = None,
    size: Size = None,
    asset_folder: AssetFolder = None,
    executor: Annotated[str, typer.Option("--executor", help="inline (this process) or ray.")] = "inline",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes under ray; on GPUs, one each.")
    ] = None,
    device: On = "cpu",
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete what another configuration made.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Render a job into shards. Killed and run again, it goes on where it stopped, to the same bytes."""
    from render.job import STAGE_NAME, RenderWorker, provenance, stage_key
    from render.job import plan as plan_units
    from shards.units import close_stage, open_stage, pending, quarantined

    job = _job(config, section, recipe, count, views, seed, size, asset_folder)
    stage = open_stage(out, STAGE_NAME, stage_key(job), replace)
    units = plan_units(job)
    todo = pending(stage, units)
    cores = len(os.sched_getaffinity(0))
    threads = max(1, cores // (workers or cores)) if executor == "ray" else cores
    try:
        _render(stage, todo, RenderWorker(threads, device), executor, workers, len(units), quiet)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise VitruvianError(f"{out}: {error}; make room and run again, finished shards are kept") from None
    manifest = close_stage(stage, units, provenance(job))
    failed = quarantined(stage)
    _report(out, manifest, len(units) - len(todo), len(units), failed, as_json)
    if failed:
        raise typer.Exit(3)


@app.command()
def one(
    what: Annotated[
        str, typer.Argument(help="KEY with --from; else a spec or a sample's json member, a file.")
    ],
    dataset: Annotated[
        str | None, typer.Option("--from", help="Dataset whose sample KEY to rebuild and to compare with.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the members.")] = None,
    hdri_folder: Hdris = None,
    scan_folder: Scans = None,
    asset_folder: AssetFolder = None,
    device: On = "cpu",
) -> None:
    """Render one spec, or rebuild one sample of a dataset and say whether its bytes agree."""
    from render.engine import Engine
    from render.folders import Folders
    from render.spec import SampleSpec

    if dataset is None and out is None:
        raise UsageError("render one: give --out FOLDER for the members, or --from DATASET to compare with")
    stored = _stored(dataset, what) if dataset is not None else None
    content = stored.meta()["provenance"].get("spec") if stored else _read_spec(Path(what))
    spec = SampleSpec.from_json(content)
    sample = Engine(None, Folders(hdri_folder, scan_folder, asset_folder), device).render(spec)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for member, data in sample.members.items():
            (out / f"{sample.key}.{member}").write_bytes(data)
        typer.echo(f"{out / sample.key}.*")
    if stored is not None:
        _compare(stored, sample)


@app.command()
def scans(
    folder: Annotated[Path, typer.Argument(help="Folder of scans: GLB, OBJ, PLY, FBX.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with a job; its scans: says how to read them.")
    ] = None,
    section: Section = None,
    sheets: Annotated[
        Path | None, typer.Option("--sheets", help="Folder for a picture of each scan from three sides.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Inspect scans: axes, units, size, textures found and missing, and why one is rejected."""
    from render.recipe import RenderConfig
    from render.sources import ScanConfig, inspect_scan, list_scans

    job = load_config(config, RenderConfig, section) if config is not None else None
    rules = job.scans if job is not None and job.scans is not None else ScanConfig(folder=folder)
    rules = rules.model_copy(update={"folder": folder})
    files = list_scans(rules)
    reports = (inspect_scan(scan, rules) for scan in files)
    if as_json:
        typer.echo(json.dumps([report.to_json() for report in reports]))
        return
    found = list(_progress(reports, "inspect", len(files), quiet=False))
    _print_scans(found)
    if sheets is not None:
        good = {report.name for report in found if report.accepted}
        _draw_scans([scan for scan in files if scan.name in good], rules, sheets)


@app.command()
def preview(
    out: Annotated[Path, typer.Option("--out", help="PNG to write.")],
    config: ConfigFile = None,
    section: Section = None,
    recipe: RecipeName = None,
    count: Count = None,
    views: Views = None,
    seed: Seed = None,
    size: Size = None,
    asset_folder: AssetFolder = None,
    images: Annotated[int, typer.Option("--images", min=1, max=400, help="How many of the job.")] = 24,
    quiet: Quiet = False,
) -> None:
    """Draw a contact sheet of a job in seconds, by OpenGL instead of Cycles."""
    from itertools import islice

    from annotation.codecs import encode_rgb
    from render.preview import contact_sheet
    from render.recipe import plan_specs

    job = _job(config, section, recipe, count, views, seed, size, asset_folder)
    few = job.model_copy(update={"lights": 1, "views": min(job.views, _PREVIEWED_VIEWS)})
    planned = plan_specs(few, _builder(job.folders))
    specs = list(_progress(islice(planned, images), "plan", images, quiet))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(encode_rgb(contact_sheet(specs, job.folders)))
    typer.echo(f"{out}: {len(specs)} of the job's pictures")


def _job(
    config: Path | None,
    section: str | None,
    recipe: str | None,
    count: int | None,
    views: int | None,
    seed: int | None,
    size: tuple[int, int] | None,
    asset_folder: Path | None,
) -> Any:
    """The job of a configuration file, or a default one, with what the command line says in its place."""
    from render.recipe import RenderConfig
    from shards.config import load_section, parse_config

    if config is None and section is not None:
        raise UsageError(f"--section {section}: it is a section of a file; name the file with --config")
    fields = dict(load_section(config, section)) if config is not None else {}
    width, height = size if size is not None else (None, None)
    said = {
        "recipe": recipe,
        "identities": count,
        "views": views,
        "seed": seed,
        "width": width,
        "height": height,
        "asset_folder": asset_folder,
    }
    fields |= {name: value for name, value in said.items() if value is not None}
    return parse_config(fields, RenderConfig, where=str(config or "the command line"))


def _builder(folders: Any) -> Any:
    from functools import partial

    from render.engine import built_person

    return partial(built_person, folders=folders)


def _write_specs(job: Any, out: Path, total: int, rejects: dict[str, int], quiet: bool) -> Any:
    """Plan every spec of the job, write it and yield it."""
    from render.recipe import plan_specs
    from shards.sample import canonical_json

    def reject(reason: str, images: int) -> None:
        rejects[reason] = rejects.get(reason, 0) + images

    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        for spec in _progress(plan_specs(job, _builder(job.folders), reject), "plan", total, quiet):
            file.write(canonical_json(spec.to_json()) + b"\n")
            yield spec


def _progress(items: Any, title: str, total: int, quiet: bool) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        yield from bar.track(items, total=total)


def _print_forecast(job: Any, found: Any, units: int) -> None:
    from rich.console import Console
    from rich.table import Table

    size = f"{found.width} x {found.height}"
    table = Table("framing", "people", "size", "images", "core hours", "GB")
    for row in found.rows:
        cells = (f"{row.images:,}", f"{row.core_hours:,.2f}", f"{row.bytes / 1e9:,.2f}")
        table.add_row(row.framing, str(row.people), size, *cells)
    Console().print(table)
    typer.echo(
        f"{job.recipe}: {found.images:,} images of {size} px, {found.samples} samples, in {units:,} shards; "
        f"about {_duration(found.core_hours * 3600)} of one core, {found.bytes / 1e9:,.2f} GB"
    )


def _print_scans(reports: Any) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    columns = ("layout", "triangles", "up", "front", "unit", "height", "textures", "verdict")
    table = Table(Column("scan", overflow="fold"), *(Column(name, no_wrap=True) for name in columns))
    for report in reports:
        height = f"{report.height_m:.2f} m" if report.height_m else ""
        table.add_row(
            report.name,
            report.layout,
            f"{report.faces:,}",
            report.up,
            report.front,
            report.unit,
            height,
            str(len(report.textures)),
            "good" if report.accepted else report.reason,
        )
    Console().print(table)
    for report in reports:
        said = [] if report.accepted else [f"rejected: {report.message}"]
        for line in [*said, *report.notes, *(f"missing: {name}" for name in report.missing)]:
            typer.echo(f"{report.name}: {line}")


def _draw_scans(scans: Any, rules: Any, folder: Path) -> None:
    from annotation.codecs import encode_rgb
    from render.preview import scan_sheet
    from render.sources import load_scan, plan_scan

    folder.mkdir(parents=True, exist_ok=True)
    for scan in scans:
        sheet = scan_sheet(load_scan(plan_scan(scan, rules), rules.folder))
        (folder / f"{scan.name.replace('/', '_')}.png").write_bytes(encode_rgb(sheet))
    typer.echo(f"{folder}: {len(scans)} sheets")


def _render(
    stage: Any, todo: list[Any], worker: Any, executor: str, workers: int | None, total: int, quiet: bool
) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from pipelines.executors import Gpus, run_units

    gpus: Gpus = {"cpu": "none", "auto": "auto"}.get(worker.device, "one")  # type: ignore[assignment]
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
        for outcome in run_units(stage, todo, worker, executor=executor, workers=workers, gpus=gpus):
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


def _report(out: Path, manifest: Any, kept: int, total: int, failed: list[Any], as_json: bool) -> None:
    from collections import Counter

    from shards.manifest import read_markers

    images = sum(shard.samples for shard in manifest.shards)
    rejects: Counter[str] = Counter()
    for marker in read_markers(out).values():
        rejects.update(marker.rejects)
    if as_json:
        names = [entry.unit for entry in failed]
        result = {"images": images, "shards": len(manifest.shards), "digest": manifest.digest}
        typer.echo(json.dumps({**result, "kept_shards": kept, "rejects": rejects, "quarantined": names}))
        return
    done = (
        "nothing to do, all shards are up to date" if kept == total else f"{kept} shards were there already"
    )
    typer.echo(f"{images} images in {len(manifest.shards)} shards ({done}); digest {manifest.digest[:12]}")
    for reason, count in sorted(rejects.items()):
        typer.echo(f"{count} images not made: {reason}", err=True)
    for entry in failed:
        typer.echo(
            f"quarantined {entry.unit} after {entry.attempts} attempts: {entry.error.splitlines()[-1]}",
            err=True,
        )


def _stored(dataset: str, key: str) -> Any:
    """The sample to rebuild."""
    from shards.errors import ShardError
    from shards.reader import Dataset

    try:
        return Dataset.open(dataset).get(key)
    except (ShardError, KeyError) as error:
        raise UsageError(f"{dataset}: {error}") from None


def _compare(stored: Any, made: Any) -> None:
    """Say which members differ; exit code 1 when any does."""
    names = sorted(set(stored.members) | set(made.members))
    different = [name for name in names if stored.members.get(name) != made.members.get(name)]
    if not different:
        typer.echo(f"{stored.key}: all {len(names)} members agree, byte for byte")
        return
    for name in different:
        a, b = stored.members.get(name), made.members.get(name)
        sizes = [f"{len(data)} bytes" if data is not None else "absent" for data in (a, b)]
        typer.echo(f"{stored.key}.{name}: differs, {sizes[0]} stored, {sizes[1]} made now", err=True)
    raise typer.Exit(1)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"


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
