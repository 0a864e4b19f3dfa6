"""`vitruvian run`, `status` and `report`: a whole pipeline, from its folder of dvc.yaml and params.yaml."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.run import (
    Progress,
    Reproduced,
    StageFailed,
    StageStatus,
    find_pipeline,
    reproduce,
)
from pipelines.run import status as pipeline_status

app = typer.Typer(no_args_is_help=True, help="Reproduce a pipeline.")

Pipeline = Annotated[str, typer.Argument(help="`demo`, or the folder of a pipeline (dvc.yaml, params.yaml).")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

REPORT = Path("out") / "report.html"


@app.command()
def run(pipeline: Pipeline = "demo", quiet: Quiet = False, as_json: AsJson = False) -> None:
    """Reproduce a pipeline; what is up to date is skipped. Parameters: edit the folder's params.yaml.

    Kill it at any time and run it again: it goes on where it was. Exit code 3: a stage finished, but with
    quarantined items.
    """
    folder = find_pipeline(pipeline)
    try:
        done = reproduce(folder, lambda progress: None) if quiet else _reproduce_aloud(folder)
    except StageFailed as error:
        typer.echo(f"error: {error}", err=True)
        typer.echo(f"What is finished stays; run `vitruvian run {pipeline}` to go on from there.", err=True)
        raise typer.Exit(error.code) from None
    report = folder / REPORT
    if as_json:
        result = {"ran": done.ran, "skipped": done.skipped, "seconds": round(done.seconds, 1)}
        typer.echo(json.dumps({**result, "report": str(report) if report.exists() else None}))
        return
    typer.echo(_summary(done))
    if report.exists():
        typer.echo(f"report: {report}")


@app.command()
def status(pipeline: Pipeline = "demo", as_json: AsJson = False) -> None:
    """Say which stages of a pipeline would run, and why. Runs nothing."""
    found = pipeline_status(find_pipeline(pipeline))
    if as_json:
        typer.echo(
            json.dumps({entry.stage: {"reasons": entry.reasons, "after": entry.after} for entry in found})
        )
        return
    for entry in found:
        typer.echo(_describe(entry))


@app.command()
def report(
    pipeline: Pipeline = "demo",
    out: Annotated[Path | None, typer.Option("--out", help="HTML file; default: out/report.html.")] = None,
) -> None:
    """Build the static HTML report of what a pipeline's folder holds so far; what is missing is named."""
    from pipelines.report import build_report

    folder = find_pipeline(pipeline)
    path = (out or folder / REPORT).resolve()
    missing = build_report(folder, path)
    typer.echo(f"{path}" + (f" (without: {', '.join(missing)})" if missing else ""))


def _reproduce_aloud(folder: Path) -> Reproduced:
    """Stage n of m with the time so far, on stderr; the stages' own progress comes between."""
    import time

    from rich.console import Console

    console, started = Console(stderr=True, highlight=False), time.monotonic()

    def show(progress: Progress) -> None:
        place = f"[{progress.number:2d}/{progress.total}] {progress.stage}"
        if progress.state == "running":
            console.print(
                f"[bold]{place}[/bold] · {_duration(time.monotonic() - started)} so far", markup=True
            )
        elif progress.state == "ran":
            console.print(f"{place} · done in {_duration(progress.seconds)}", markup=False)
        else:
            console.print(f"{place} · up to date, skipped", markup=False)

    return reproduce(folder, show)


def _summary(done: Reproduced) -> str:
    total = len(done.ran) + len(done.skipped)
    if not done.ran:
        return f"all {total} stages are up to date: nothing changed since they ran, all were skipped"
    return f"{len(done.ran)} of {total} stages ran, {len(done.skipped)} skipped, in {_duration(done.seconds)}"


def _describe(entry: StageStatus) -> str:
    if entry.reasons:
        lines: list[Any] = [f"{entry.stage}: would run", *(f"    {reason}" for reason in entry.reasons)]
        return "\n".join(lines)
    if entry.after:
        return f"{entry.stage}: would run if this changes what it reads: {', '.join(entry.after)}"
    return f"{entry.stage}: up to date"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
