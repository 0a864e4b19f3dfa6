"""`vitruvian weights`: what a weights file is; official checkpoints in, official checkpoints out."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Inspect, import and export weights, official names included.")

File = Annotated[Path, typer.Argument(help=".safetensors, .pth or _torchscript.pt2.")]
Padding = Annotated[
    int | None,
    typer.Option(
        "--patch-padding", min=0, help="px; instead of the header's or the official configuration's (2 or 0)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Replace = Annotated[bool, typer.Option("--replace", help="Overwrite --out.")]


@app.command()
def inspect(file: File, patch_padding: Padding = None, json_: AsJson = False, quiet: Quiet = False) -> None:
    """What a weights file is, ours or official: every name and shape is checked."""
    from train.weights import inspect_weights

    with _busy(f"reading {file}", shown=not quiet):
        found = inspect_weights(file, patch_padding)
    if json_:
        typer.echo(json.dumps(found, indent=1))
    else:
        _print(found)


@app.command("import")
def import_(
    file: File,
    out: Annotated[Path, typer.Option("--out", help="Our file: .safetensors.")],
    patch_padding: Padding = None,
    decoder: Annotated[
        bool, typer.Option("--decoder", help="Of a pretraining file: keep the MAE decoder too.")
    ] = False,
    replace: Replace = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Official checkpoint -> our encoder or task model."""
    from train.weights import import_weights

    with _busy(f"importing {file}", shown=not quiet):
        architecture = import_weights(file, out, patch_padding, decoder=decoder, replace=replace)
    _say(out, "imported", architecture, json_)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="encoder.safetensors or model.safetensors.")],
    out: Annotated[Path, typer.Option("--out", help="Official file: .pth or .safetensors.")],
    replace: Replace = False,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Our encoder or task model -> official names; the other way round gives the file back."""
    from train.weights import export_weights

    with _busy(f"exporting {file}", shown=not quiet):
        architecture = export_weights(file, out, replace=replace)
    _say(out, "exported", architecture, json_)


def _say(out: Path, done: str, architecture: Any, json_: bool) -> None:
    from train.official import encoder_of, kind_of, size_of
    from train.weights import notes

    said: dict[str, Any] = {"kind": kind_of(architecture), "size": size_of(architecture)}
    said |= {"patch_padding": encoder_of(architecture).patch_padding, "notes": notes(architecture)}
    if json_:
        typer.echo(json.dumps({"status": done, "out": str(out), **said}))
        return
    typer.echo(f"{out}: {done}, {said['kind']} {said['size']}, patch padding {said['patch_padding']}")
    for note in said["notes"]:
        typer.echo(f"  note: {note}")


def _print(found: dict[str, Any]) -> None:
    height, width = found["image_size"]
    groups = ", ".join(f"{name} {count}" for name, count in found["groups"].items())
    vocabulary = [f"{found[name]} {name}" for name in ("keypoints", "classes") if name in found]
    rows = {
        "names": found["names"],
        "kind": " ".join([found["kind"], *vocabulary]),
        "size": found["size"],
        "parameters": f"{found['parameters']:,} in {found['tensors']} tensors",
        "dtypes": ", ".join(f"{name} {count}" for name, count in found["dtypes"].items()),
        "image size": f"{height} x {width} (height x width)",
        "patch padding": f"{found['patch_padding']} ({found['patch_padding_from']})",
        "positions": found["positions"],
        "tensors of": groups,
    }
    typer.echo(found["file"])
    for name, value in rows.items():
        typer.echo(f"  {name:14} {value}")
    for note in found["notes"]:
        typer.echo(f"  note           {note}")


@contextmanager
def _busy(text: str, shown: bool) -> Iterator[None]:
    """A spinner with the seconds gone by: what is below has no steps to count."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as bar:
        bar.add_task(text, total=None)
        yield
