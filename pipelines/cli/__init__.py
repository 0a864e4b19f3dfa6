"""The command line: verbs grouped by room. A room's module is imported only when one of its verbs is used.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 finished with quarantined items, 143 stopped by
SIGTERM with a checkpoint written.
"""

import atexit
import importlib
import os
import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from shards.errors import UsageError, VitruvianError

# Verb or verb group -> (module that defines it, one-line help). The module holds `app`, a typer.Typer.
COMMANDS = {
    "curate": ("pipelines.cli.curate", "Decide, select and materialise images of people from a raw pool."),
    "render": ("pipelines.cli.render", "Render people under HDRI lighting with exact labels."),
    "shards": ("pipelines.cli.shards", "Inspect and verify shards and datasets."),
    "plan": ("pipelines.cli.plan", "Say what pretraining or fine-tuning takes: memory, GPU-hours."),
    "pretrain": ("pipelines.cli.train", "Pretrain a masked autoencoder on shards."),
    "finetune": ("pipelines.cli.train", "Fine-tune a task model from a pretrained encoder."),
    "evaluate": ("pipelines.cli.train", "Evaluate a task model on labelled shards."),
    "weights": ("pipelines.cli.weights", "Inspect, import and export weights, official names included."),
    "reconstruct": ("pipelines.cli.reconstruct", "Show and score what a masked autoencoder fills in."),
    "predict": ("pipelines.cli.predict", "Predict pictures, folders and videos with a task model."),
    "export": ("pipelines.cli.predict", "Export a task model to ONNX or torch.export, checked and timed."),
    "run": ("pipelines.cli.pipeline", "Reproduce a pipeline; what is up to date is skipped."),
    "status": ("pipelines.cli.pipeline", "Say which stages of a pipeline would run, and why."),
    "submit": ("pipelines.cli.submit", "Run a verb on a Ray cluster, as a job that is sent once."),
    "report": ("pipelines.cli.pipeline", "Build the static HTML report of a pipeline's outputs."),
}


_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class LazyGroup(TyperGroup):
    """Knows every verb by name and help, and imports its room only when the verb is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, name: str) -> Any:
        if name not in COMMANDS:
            return None
        module, summary = COMMANDS[name]
        if not _is_needed(name):
            return TyperCommand(name, help=summary)  # enough for the overview
        command: Any = typer.main.get_command(importlib.import_module(module).app)
        return command.commands[name] if name in getattr(command, "commands", {}) else command


def _is_needed(name: str) -> bool:
    return name in sys.argv[1:]


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def _vitruvian() -> None:
    """Data engine and retraining system for human-centric vision models."""


def end_with_parent() -> None:
    """As a stage of `vitruvian run`: be ended when that run is killed (Linux).

    An orphan would go on writing to the folder that the next run takes up again.
    """
    if "DVC_STAGE" in os.environ and sys.platform == "linux":
        import ctypes
        import signal

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    """Entry point of the `vitruvian` command."""
    end_with_parent()
    leave(_exit_code())


def leave(code: int) -> NoReturn:
    """End this process with `code`, also when Blender was loaded.

    Blender's static destructors may wait for ever for a thread of its own: they are passed over, after
    Python's own clean-up.
    """
    if "bpy" not in sys.modules:
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _exit_code() -> int:
    try:
        app()
    except VitruvianError as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2 if isinstance(error, UsageError) else 1)
    except SystemExit as end:  # how typer ends
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
