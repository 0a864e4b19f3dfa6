"""`vitruvian predict`, `export`: a trained task model on one's own pictures, and in other programs.

Detectors live in the curation room and models in the train room; neither knows the other. Here they meet.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Predict with a task model; export it.")

SMOKE_DETECTOR = "opencv"
LISTED = 10
"""Rejects named on the terminal; summary.json has all."""

Task = Annotated[str, typer.Argument(help="pose, parts, depth, normal, pointmap, albedo or alpha.")]
Inputs = Annotated[
    list[str], typer.Argument(help="Pictures, folders of pictures, videos; - : a picture on stdin.")
]
Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", help="Folder of `vitruvian finetune`, or its model.safetensors.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the predictions.")]
Write = Annotated[str, typer.Option("--write", help="Of png, npy, overlay, ply, pseudo-normals; commas.")]
Boxes = Annotated[Path | None, typer.Option("--boxes", help="People: COCO JSON, or corners by name.")]
Detector = Annotated[
    str | None, typer.Option("--detector", help="Name or .onnx; none: the picture is one person's.")
]
MinScore = Annotated[float, typer.Option("--min-score", help="Of a person's box.")]
Fit = Annotated[str, typer.Option("--fit", help="Dense tasks: whole, letterbox or person.")]
Tiles = Annotated[str, typer.Option("--tiles", help="Dense tasks: off, auto, or rows x columns (2x3).")]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirror image.")]
Batch = Annotated[int, typer.Option("--batch", help="Windows at once.")]
Precision = Annotated[str, typer.Option("--precision", help="fp32 or bf16.")]
Compile = Annotated[bool, typer.Option("--compile", help="torch.compile: a minute first.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Masks = Annotated[
    Path | None, typer.Option("--masks", help="Output of predict alpha or parts: only people count.")
]
FocalPx = Annotated[float | None, typer.Option("--focal", help="Focal length in pixels.")]
DepthRange = Annotated[
    tuple[float, float] | None, typer.Option("--depth-range", help="Metres of relative depth 0 and 1.")
]
Every = Annotated[int, typer.Option("--every", help="Of a video, every how many frames one.")]
Replace = Annotated[bool, typer.Option("--replace", help="Delete what was predicted otherwise in --out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


@app.command()
def predict(
    task: Task,
    inputs: Inputs,
    checkpoint: Checkpoint,
    out: Out,
    write: Write = "png,overlay",
    boxes: Boxes = None,
    detector: Detector = None,
    min_score: MinScore = 0.3,
    fit: Fit = "whole",
    tiles: Tiles = "off",
    flip: Flip = False,
    batch: Batch = 8,
    precision: Precision = "fp32",
    compile_: Compile = False,
    device: Device = "auto",
    masks: Masks = None,
    focal: FocalPx = None,
    depth_range: DepthRange = None,
    every: Every = 1,
    replace: Replace = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Predict pictures, folders and videos; run again, what is there is passed over.

    Exit code 3: some could not be read; summary.json names them.
    """
    from shards.config import parse_config
    from train.predict import PredictConfig
    from train.predict import predict as run

    kinds = tuple(part.strip() for part in write.split(",") if part.strip())
    switches = {"flip": "on" if flip else "off", "compile": "on" if compile_ else "off"}
    sight = {"fit": fit, "tiles": tiles, "batch": batch, "precision": precision, "device": device}
    space = {"masks": masks, "focal": focal, "depth_range": depth_range}
    given = {"write": kinds, "every": every, "min_score": min_score, **switches, **sight, **space}
    config = parse_config(given, PredictConfig, "predict")
    find, who = _people(task, fit, boxes, detector)
    with _progress(task, shown=not quiet) as report:
        result = run(task, checkpoint, inputs, out, config, find, who, report, replace=replace)
    _say(result, out, json_)
    if result.rejects:
        raise typer.Exit(3)


@app.command()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of `vitruvian finetune`, or its model.safetensors.")
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write: .onnx or .pt2.")],
    format_: Annotated[str, typer.Option("--format", help="onnx, or torch (torch.export).")] = "onnx",
    batch: Annotated[int, typer.Option("--batch", help="Fixed number of images; 0: any.")] = 0,
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Largest difference from the model that is accepted.")
    ] = 1e-3,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder of photographs to compare on, beside noise.")
    ] = None,
    compile_: Annotated[bool, typer.Option("--compile", help="Time torch.compile too.")] = False,
    json_: AsJson = False,
) -> None:
    """Export a task model, check that the file says what the model says, and time both."""
    from shards.config import parse_config
    from train.export import ExportConfig, table
    from train.export import export as run

    given = {
        "format": format_,
        "batch": batch,
        "tolerance": tolerance,
        "compile": "on" if compile_ else "off",
    }
    result = run(checkpoint, out, parse_config(given, ExportConfig, "export"), images)
    typer.echo(json.dumps(result) if json_ else table(result))


def _people(
    task: str, fit: str, boxes: Path | None, detector: str | None
) -> tuple[Callable[[Any], Any] | None, dict[str, Any]]:
    """Who says where people are, and what identifies them; pose without a word gets the smoke detector."""
    from shards.errors import UsageError
    from shards.files import sha256_file
    from train.prediction.boxes import BoxesFile

    if boxes is not None and detector is not None:
        raise UsageError("--boxes and --detector: give one of them")
    if task != "pose" and fit != "person":
        if boxes is not None or detector is not None:
            raise UsageError(f"{task}: sees whole pictures; for windows around people add --fit person")
        return None, {}
    if boxes is not None:
        return BoxesFile(boxes), {"boxes": sha256_file(boxes)}
    if detector == "none":
        return None, {"detector": "none"}
    if detector is None:
        print(
            f"note: people are found by {SMOKE_DETECTOR}, a smoke default that misses many and sees some who "
            "are not there; --detector rtmdet-m or --boxes for real work",
            file=sys.stderr,
        )
    return _detector(detector or SMOKE_DETECTOR)


def _detector(name: str) -> tuple[Callable[[Any], Any], dict[str, Any]]:
    import numpy as np

    from curation.detectors import detector_config, load_detector, pin_detector
    from train.prediction.picture import Boxes

    found = load_detector(pin_detector(detector_config(name)))

    def find(picture: Any) -> Boxes:
        boxes = found.detect([picture.image])[0]
        return Boxes(boxes.xyxy.astype(np.float64), boxes.score.astype(np.float64))

    return find, {"detector": name, **found.identity()}


def _say(result: Any, out: Path, json_: bool) -> None:
    if json_:
        rejects = [{"name": r.name, "reason": r.reason, "message": r.message} for r in result.rejects]
        counts = {"predicted": result.predicted, "skipped": result.skipped}
        typer.echo(json.dumps({"out": str(out), **counts, "rejects": rejects}))
        return
    parts = [f"{result.predicted} predicted"]
    parts += [f"{result.skipped} already there"] if result.skipped else []
    parts += [f"{len(result.rejects)} rejected"] if result.rejects else []
    typer.echo(f"{out}: {', '.join(parts)}")
    for reject in result.rejects[:LISTED]:
        print(f"  {reject.name}: {reject.reason}: {reject.message}", file=sys.stderr)
    if len(result.rejects) > LISTED:
        print(f"  ... and {len(result.rejects) - LISTED} more, in summary.json", file=sys.stderr)


@contextmanager
def _progress(task: str, shown: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on stderr with count, rate and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(f"predict {task}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        row = bar.add_task("", total=None)

        def report(done: int, total: int | None) -> None:
            speed = bar.tasks[0].speed
            text = f"{speed:.1f} pictures/s" if speed else ""
            bar.update(row, completed=done, total=total, description=text)

        yield report
