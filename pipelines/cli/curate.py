"""`vitruvian curate`: annotate (models, once), select (thresholds), materialise (bytes into shards)."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from curation.job import Job
from shards.config import Config, load_config
from shards.manifest import Manifest
from shards.units import Outcome, close_stage, open_stage, pending

app = typer.Typer(
    no_args_is_help=True, help="Decide, select and materialise images of people from a raw pool."
)

ConfigT = TypeVar("ConfigT", bound=Config)
Outcomes = Callable[..., Iterator[Outcome]]

Folder = Annotated[
    Path, typer.Option("--out", help="Output folder; an earlier run of the same is continued.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; the defaults when not given.")]
Section = Annotated[str | None, typer.Option("--section", help="Dotted path in the YAML: curate.annotate.")]
Replace = Annotated[bool, typer.Option("--replace", help="Delete what another configuration made in --out.")]
Executor = Annotated[str, typer.Option("--executor", help="inline (this process) or ray.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes under ray; one per core.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
PoolPath = Annotated[Path, typer.Argument(help="A folder of images, a folder of tars, a dataset, or a tar.")]


@app.command()
def annotate(
    pool: PoolPath,
    out: Folder,
    config: ConfigFile = None,
    section: Section = None,
    executor: Executor = "inline",
    workers: Workers = None,
    replace: Replace = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure every input of POOL: decoding, size, duplicates, text, people. Writes tables of columns, no
    decision.
    """
    from curation.annotate import AnnotateConfig, plan_annotate

    job = plan_annotate(pool, _load(config, AnnotateConfig, section))
    manifest = _run(job, out, _outcomes(executor, workers), replace=replace, progress=not quiet)
    bad = _total_rejects(manifest)
    if as_json:
        _print_json({"out": str(out), "inputs": manifest.samples, "statuses": bad, "digest": manifest.digest})
    else:
        problems = ", ".join(f"{n} {reason}" for reason, n in bad.items()) or "all decoded"
        typer.echo(f"{out}: {manifest.samples} inputs annotated ({problems})")
    _end(manifest, out)


@app.command()
def select(
    annotations: Annotated[Path, typer.Argument(help="The output of `curate annotate`.")],
    out: Folder,
    config: ConfigFile = None,
    section: Section = None,
    replace: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Keep or reject every annotated input for one reason; no pixel is read. Prints the funnel."""
    from curation.select import SelectConfig, funnel, plan_select

    job = plan_select(annotations, _load(config, SelectConfig, section))
    manifest = _run(job, out, _outcomes("inline", None), replace=replace, progress=False)
    if not manifest.quarantined:
        counts = funnel(out)
        _print_json({"out": str(out), **counts}) if as_json else _print_funnel(counts)
    _end(manifest, out)


@app.command()
def materialise(
    pool: PoolPath,
    selection: Annotated[Path, typer.Argument(help="The output of `curate select`.")],
    out: Folder,
    config: ConfigFile = None,
    section: Section = None,
    executor: Executor = "inline",
    workers: Workers = None,
    replace: Replace = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Copy the original bytes of every kept image of POOL into shards, with where they came from."""
    from curation.materialise import MaterialiseConfig, plan_materialise

    job = plan_materialise(pool, selection, _load(config, MaterialiseConfig, section))
    manifest = _run(job, out, _outcomes(executor, workers), replace=replace, progress=not quiet)
    if as_json:
        _print_json({"out": str(out), "samples": manifest.samples, "digest": manifest.digest})
    else:
        typer.echo(f"{out}: {manifest.samples} images in {len(manifest.shards)} shards")
    _end(manifest, out)


def _load(path: Path | None, model: type[ConfigT], section: str | None) -> ConfigT:
    return model() if path is None else load_config(path, model, section)


def _run(job: Job, out: Path, outcomes: Outcomes, *, replace: bool, progress: bool) -> Manifest:
    """Run the pending units of a job into `out`; returns the manifest."""
    stage = open_stage(out, job.name, job.key, replace=replace)
    waiting = pending(stage, job.units)
    with _progress(job.name, len(waiting), shown=progress and bool(waiting)) as advance:
        for outcome in outcomes(stage, waiting, job.worker):
            advance(outcome)
    if job.units and not waiting:
        typer.echo(f"{out}: up to date: same key, same inputs, all {len(job.units)} units done", err=True)
    return close_stage(stage, job.units, job.provenance)


def _outcomes(executor: str, workers: int | None) -> Outcomes:
    from pipelines.executors import run_units

    # run_units checks the name, and says what is allowed.
    return partial(run_units, executor=cast(Any, executor), workers=workers)


@contextmanager
def _progress(name: str, units: int, shown: bool) -> Iterator[Callable[[Outcome], None]]:
    """A bar on stderr over units, with samples, their rate and the time left; yields what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    parts = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("units, {task.fields[samples]} samples, {task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=Console(stderr=True), disable=not shown) as bar:
        task, samples = bar.add_task(name, total=units, samples=0, rate=0.0), 0

        def advance(outcome: Outcome) -> None:
            nonlocal samples
            samples += outcome.samples
            elapsed = bar.tasks[task].elapsed or 1e-9
            bar.update(task, advance=1, samples=samples, rate=samples / elapsed)

        yield advance


def _end(manifest: Manifest, out: Path) -> None:
    """Exit with 3, listing them, when units are in quarantine."""
    if not manifest.quarantined:
        return
    typer.echo(f"{out}: {len(manifest.quarantined)} units in quarantine; run again to retry them:", err=True)
    for name in manifest.quarantined:
        reason = json.loads((out / ".stage" / "quarantine" / f"{name}.json").read_bytes())["error"]
        typer.echo(f"  {name}: {reason.strip().splitlines()[-1]}", err=True)
    raise typer.Exit(3)


def _total_rejects(manifest: Manifest) -> dict[str, int]:
    total = Counter[str]()
    for shard in manifest.shards:
        total.update(shard.rejects)
    return dict(sorted(total.items()))


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))


def _print_funnel(counts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("rule", overflow="fold")
    for header in ("entered", "rejected", "left", "reason", "count"):
        table.add_column(header, justify="left" if header == "reason" else "right", overflow="fold")
    for stage in counts["stages"]:
        numbers = [f"{stage[name]:,}" for name in ("entered", "rejected", "left")]
        reasons = list(stage["reasons"].items()) or [("", "")]
        for row, (reason, count) in enumerate(reasons):
            first = [stage["stage"], *numbers] if row == 0 else [""] * 4
            table.add_row(*first, reason, str(count))
    console = Console(markup=False)
    console.print(table)
    console.print(f"{counts['kept']:,} of {counts['inputs']:,} inputs kept")
