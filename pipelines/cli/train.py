"""`vitruvian pretrain`, `finetune`, `evaluate`: thin verbs over the train room."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Pretrain, fine-tune and evaluate.")

Config = Annotated[Path, typer.Option("--config", help="YAML file.")]
Data = Annotated[str, typer.Option("--data", help="Dataset: a folder or fsspec URL with a manifest.json.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of this run.")]
Replace = Annotated[
    bool, typer.Option("--replace", help="Delete another configuration's run found in --out.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Task = Annotated[str, typer.Argument(help="pose, parts, depth or normal.")]
Nproc = Annotated[int, typer.Option("--nproc", min=1, help="Ranks on this machine, through torchrun.")]
Encoder = Annotated[
    Path | None, typer.Option("--encoder", help="encoder.safetensors; without it, from scratch.")
]


@app.command()
def pretrain(
    config: Config,
    data: Data,
    out: Out,
    section: Annotated[str, typer.Option("--section", help="Dotted name of the section.")] = "pretrain",
    nproc: Nproc = 1,
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
    if nproc > 1:
        flags = [flag for flag, wanted in (("--replace", replace), ("--tensorboard", tensorboard)) if wanted]
        arguments = ["--config", str(config), "--section", section, "--data", data, "--out", str(out), *flags]
        raise typer.Exit(_torchrun(nproc, "train.pretrain", arguments))
    with _progress("pretrain", settings.steps, shown=not quiet) as report:
        wanted = TensorBoard(out / "events", report) if tensorboard else report
        result = run(settings, data, out, wanted, replace=replace)
    _say(result.status, out, result.result, json_)


@app.command()
def finetune(
    task: Task,
    config: Config,
    data: Data,
    out: Out,
    section: Annotated[str | None, typer.Option("--section", help="Default: finetune.TASK.")] = None,
    encoder: Encoder = None,
    nproc: Nproc = 1,
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
    if nproc > 1:
        arguments = [task, "--config", str(config), "--section", place, "--data", data, "--out", str(out)]
        arguments += ["--encoder", str(encoder)] if encoder else []
        arguments += ["--replace"] if replace else []
        raise typer.Exit(_torchrun(nproc, "train.finetune", arguments))
    with _progress(f"finetune {task}", settings.steps, shown=not quiet) as report:
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


def _torchrun(nproc: int, module: str, arguments: list[str]) -> int:
    """Run `module` on `nproc` ranks; its exit code (torchrun hides a rank's own code: any failure is 1)."""
    import subprocess

    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(nproc)]
    return int(subprocess.run([*launcher, "-m", module, *arguments], check=False).returncode != 0)


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
            text = f"loss {progress.loss:.4f}  {progress.images_per_second:.0f} images/s"
            bar.update(row, completed=progress.step, total=steps, description=text)

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
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        yield bar, bar.add_task("", total=None)
