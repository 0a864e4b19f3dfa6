"""`vitruvian pretrain`, `finetune`, `evaluate`: thin verbs over the train room."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from shards.errors import UsageError

if TYPE_CHECKING:
    from pipelines.ray_train import Ranks

app = typer.Typer(no_args_is_help=True, help="Pretrain, fine-tune and evaluate.")

Config = Annotated[Path, typer.Option("--config", help="YAML file.")]
Data = Annotated[
    str,
    typer.Option("--data", help="Dataset: folder or fsspec URL with a manifest.json, or YAML of a layout."),
]
Datasets = Annotated[
    list[str],
    typer.Option("--data", help="Dataset: folder or fsspec URL; may be repeated, for a mixture."),
]
LabelledData = Annotated[
    list[str],
    typer.Option(
        "--data",
        help="Dataset, or YAML of another layout (docs/evaluate.md); may be repeated, for a mixture.",
    ),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of this run.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Delete another configuration's run found in --out.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Task = Annotated[str, typer.Argument(help="pose, parts, depth, normal, pointmap, albedo or alpha.")]
Nproc = Annotated[
    str, typer.Option("--nproc", help="Ranks: on this machine, or on all of Ray's, there also MIN:MAX.")
]
Launcher = Annotated[
    Literal["torchrun", "ray"],
    typer.Option(
        "--launcher", help="Who starts the ranks. ray: the cluster at RAY_ADDRESS, or one of its own."
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option("--restarts", min=0, help="Starts again after ranks died. Default: ray 3, torchrun 0."),
]
Encoder = Annotated[
    Path | None, typer.Option("--encoder", help="encoder.safetensors; without it, from scratch.")
]


@app.command()
def pretrain(
    config: Config,
    data: Datasets,
    out: Out,
    section: Annotated[str, typer.Option("--section", help="Dotted name of the section.")] = "pretrain",
    nproc: Nproc = "1",
    launcher: Launcher = "torchrun",
    restarts: Restarts = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write events to OUT/events.")
    ] = False,
    replace: Replace = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Pretrain a masked autoencoder on the pictures of a dataset; killed, it resumes; finished, it says
    so.
    """
    from shards.config import load_config
    from train.engine.telemetry import TensorBoard
    from train.pretrain import PretrainConfig
    from train.pretrain import pretrain as run

    settings = load_config(config, PretrainConfig, section)
    ranks = _ranks(nproc, launcher, settings)
    if launcher == "torchrun" and ranks.high > 1:
        flags = [flag for flag, wanted in (("--replace", replace), ("--tensorboard", tensorboard)) if wanted]
        arguments = ["--config", str(config), "--section", section, "--out", str(out), *flags]
        arguments += [word for place in data for word in ("--data", place)]
        raise typer.Exit(_torchrun(ranks.high, "train.pretrain", arguments, restarts or 0))
    with _progress("pretrain", settings.steps, shown=not quiet) as report:
        if launcher == "ray":
            events = TensorBoard(out.resolve() / "events", _nothing) if tensorboard else _nothing
            places = [_everywhere(place) for place in data]
            work = partial(run, settings, places, out.resolve(), events, replace=replace)
            result = _ray(work, ranks, out, report, restarts)
        else:
            wanted = TensorBoard(out / "events", report) if tensorboard else report
            result = run(settings, data, out, wanted, replace=replace)
    _say(result.status, out, result.result, json_)


@app.command()
def finetune(
    task: Task,
    config: Config,
    data: LabelledData,
    out: Out,
    section: Annotated[str | None, typer.Option("--section", help="Default: finetune.TASK.")] = None,
    encoder: Encoder = None,
    nproc: Nproc = "1",
    launcher: Launcher = "torchrun",
    restarts: Restarts = None,
    replace: Replace = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a task model from a pretrained encoder; killed, it resumes; finished, it says so."""
    from shards.config import load_config
    from train.finetune import FinetuneConfig
    from train.finetune import finetune as run

    place = section or f"finetune.{task}"
    settings = load_config(config, FinetuneConfig, place)
    ranks = _ranks(nproc, launcher, settings)
    if launcher == "torchrun" and ranks.high > 1:
        arguments = [task, "--config", str(config), "--section", place, "--out", str(out)]
        arguments += [word for source in data for word in ("--data", source)]
        arguments += ["--encoder", str(encoder)] if encoder else []
        arguments += ["--replace"] if replace else []
        raise typer.Exit(_torchrun(ranks.high, "train.finetune", arguments, restarts or 0))
    with _progress(f"finetune {task}", settings.steps, shown=not quiet) as report:
        if launcher == "ray":
            start = encoder and encoder.resolve()
            places = [_everywhere(source) for source in data]
            work = partial(run, task, settings, places, start, out.resolve(), _nothing, replace=replace)
            result = _ray(work, ranks, out, report, restarts)
        else:
            result = run(task, settings, data, encoder, out, report, replace=replace)
    _say(result.status, out, result.result, json_)


@app.command()
def evaluate(
    task: Task,
    data: Data,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="Folder of `vitruvian finetune`.")],
    out: Out,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file; without it, the defaults.")
    ] = None,
    section: Annotated[str, typer.Option("--section", help="Dotted name of the section.")] = "evaluate",
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help="The published test set the data are: hi4d, coco-wholebody ..."),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option("--boxes", help="Pose: a detector's boxes, as COCO results.")
    ] = None,
    replace: Replace = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score a task model, and its constant baselines, on labelled people it never saw."""
    from shards.config import load_config
    from train.evaluate import EvaluateConfig
    from train.evaluate import evaluate as run

    settings = load_config(config, EvaluateConfig, section) if config else EvaluateConfig()
    if protocol:
        settings = settings.model_copy(update={"protocol": protocol})
    with _bar(f"evaluate {task}", shown=not quiet) as (bar, row):

        def report(done: int, total: int) -> None:
            bar.update(row, completed=done, total=total)

        result = run(task, settings, data, checkpoint, out, report, boxes=boxes, replace=replace)
    _say(result.status, out, result.metrics, json_)
    if not json_:
        from train.scoreboard import scoreboard

        typer.echo(scoreboard(result.metrics))


def _ranks(nproc: str, launcher: str, settings: Any) -> "Ranks":
    """The ranks asked for; checked against the batch where ray may choose their number."""
    from pipelines.ray_train import Ranks

    ranks = Ranks.parse(nproc)
    if launcher == "ray":
        ranks.check(settings.batch, settings.accumulate)
    elif ranks.elastic:
        raise UsageError(f"--nproc {nproc}: torchrun takes one number here; --launcher ray takes MIN:MAX")
    return ranks


def _torchrun(nproc: int, module: str, arguments: list[str], restarts: int) -> int:
    """Run `module` on `nproc` ranks; its exit code (torchrun hides a rank's own code: any failure is 1)."""
    import subprocess

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(nproc)]
    launcher += ["--max-restarts", str(restarts)]
    return int(subprocess.run([*launcher, "-m", module, *arguments], check=False).returncode != 0)


def _ray(
    work: Callable[[], Any], ranks: "Ranks", out: Path, report: Callable[[Any], None], restarts: int | None
) -> Any:
    from pipelines.ray_train import launch

    return launch(work, ranks, out.resolve(), report, restarts=3 if restarts is None else restarts)


def _everywhere(data: str) -> str:
    """A folder by its absolute path (Ray's workers have a folder of their own), a URL as it is."""
    return data if "://" in data else str(Path(data).resolve())


def _nothing(progress: Any) -> None:
    """The ranks' own report under ray, where the driver follows the log."""


def _say(status: str, out: Path, result: dict[str, Any], json_: bool) -> None:
    if json_:
        typer.echo(json.dumps({"status": status, "out": str(out), **result}))
    elif status == "unchanged":
        typer.echo(f"{out}: already finished with this configuration and data; nothing to do")
    else:
        typer.echo(f"{out}: finished")


@contextmanager
def _progress(verb: str, steps: int, shown: bool) -> Iterator[Callable[[Any], None]]:
    """A bar over training steps; yields the report that advances it."""
    with _bar(verb, shown) as (bar, row):

        def report(progress: Any) -> None:
            if bar.tasks[0].total is None:  # steps of an earlier run tell nothing about this one's speed
                bar.reset(row, completed=progress.step, total=steps)
            bar.update(row, completed=progress.step, description=progress.summary)

        yield report


@contextmanager
def _bar(verb: str, shown: bool) -> Iterator[tuple[Any, Any]]:
    """A bar on stderr with count, rate and time left: (the bars, the row)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(verb),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not shown, speed_estimate_period=600) as bar:
        yield bar, bar.add_task("", total=None)
