"""`vitruvian submit`: run a verb as a job on a Ray cluster, and look after it from here."""

import importlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines import submit as api
from pipelines.submit import SENT, Status, Submission
from shards.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Run a verb on a Ray cluster, through its Jobs API.")

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
# What changes how a command runs, and not what it makes: no part of a submission's identity.
HOW = {"executor", "workers", "gpus", "gpu_share", "stall", "quiet", "as_json"}
CONFIGS = (".yaml", ".yml")

Address = Annotated[
    str | None,
    typer.Option("--address", help="URL of the dashboard, http://head:8265; or RAY_API_SERVER_ADDRESS."),
]
Wait = Annotated[bool, typer.Option("--wait", help="Print the job's log until it ends; end with its code.")]
Env = Annotated[
    list[str] | None,
    typer.Option("--env", help="NAME=VALUE, or NAME to pass on its value here; may be repeated."),
]
Python = Annotated[str, typer.Option("--python", help="Python with the dependencies, on the nodes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
JobId = Annotated[str, typer.Argument(help="The id that `submit` printed.")]


def _verb(name: str, summary: str) -> None:
    @app.command(name, context_settings=PASS_ON, help=summary)
    def send(
        context: typer.Context,
        address: Address = None,
        wait: Wait = False,
        env: Env = None,
        python: Python = "python",
        dry_run: DryRun = False,
    ) -> None:
        _send([name, *context.args], address, wait, env or [], python, dry_run)


_verb("curate", "Submit `vitruvian curate ...`; paths must be the same on every node.")
_verb("render", "Submit `vitruvian render ...`; paths must be the same on every node.")
_verb("run", "Submit `vitruvian run FOLDER`: a whole pipeline; its stages share the cluster.")


@app.command()
def status(job: JobId, address: Address = None, as_json: AsJson = False) -> None:
    """Say how a job is doing."""
    found = api.status(api.connect(address), job)
    typer.echo(json.dumps(asdict(found)) if as_json else _describe(found))


@app.command("list")
def list_jobs(address: Address = None, as_json: AsJson = False) -> None:
    """The cluster's jobs, oldest first."""
    found = api.jobs(api.connect(address))
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        typer.echo(f"{each.id}  {each.state}  {_span(each)}  {each.entrypoint}")


@app.command()
def logs(
    job: JobId,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Until the job ends; end with its code.")] = False,
) -> None:
    """Print what a job wrote."""
    client = api.connect(address)
    if not follow:
        typer.echo(api.logs(client, job), nl=False)
        return
    api.status(client, job)
    _follow(client, job)


@app.command()
def stop(job: JobId, address: Address = None) -> None:
    """End a job. What it has finished stays; submit it again to go on."""
    typer.echo(_describe(api.stop(api.connect(address), job)))


def prepare(words: Sequence[str]) -> Submission:
    """A command line, checked here, made fit for another machine: absolute paths, configuration to send, Ray.

    Paths of existing YAML files in options are sent along. Raises UsageError for what cannot be submitted.
    """
    path, command, rest = _resolve(words)
    context = command.make_context(" ".join(path), list(rest))
    given: dict[str, Any] = {}
    options: list[str] = []
    arguments: list[str] = []
    files: dict[str, bytes] = {}
    for parameter in command.params:
        name = parameter.name
        if context.get_parameter_source(name).name != "COMMANDLINE" or name == "executor":
            continue
        values = [_elsewhere(value, parameter, files) for value in _listed(context.params[name])]
        if name not in HOW:
            given[name] = values
        if parameter.param_type_name == "argument":
            arguments += values
        elif getattr(parameter, "is_flag", False):
            options.append(parameter.opts[0] if context.params[name] else parameter.secondary_opts[0])
        else:
            options += [word for value in values for word in (parameter.opts[0], value)]
    if "executor" in {parameter.name for parameter in command.params}:
        options += ["--executor", "ray"]
    out = given["out"][0] if given.get("out") else (arguments[0] if path == ["run"] else None)
    return Submission(path[-1], (*path, *arguments, *options), {"verb": path, "given": given}, files, out)


def _resolve(words: Sequence[str]) -> tuple[list[str], Any, Sequence[str]]:
    """The verbs that a command line begins with, the command they name, and the rest."""
    from pipelines.cli import COMMANDS

    verb, *rest = words
    command: Any = typer.main.get_command(importlib.import_module(COMMANDS[verb][0]).app)
    path = [verb]
    if verb in getattr(command, "commands", {}):
        command = command.commands[verb]
    elif hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            known = ", ".join(sorted(command.commands))
            raise UsageError(
                f"submit {verb}: expected one of {known}, got {rest[0] if rest else 'nothing'!r}"
            )
        path.append(rest[0])
        command, rest = command.commands[rest[0]], rest[1:]
    if verb == "run" and not (rest and Path(rest[0]).is_dir()):
        raise UsageError("submit run: expected a pipeline's folder on storage that every node sees")
    return path, command, rest


def _elsewhere(value: Any, parameter: Any, files: dict[str, bytes]) -> str:
    """A value as it must read in a job, whose working folder is not this one."""
    text = str(value)
    if "://" in text or not isinstance(value, str | Path):
        return text
    path, option = Path(text), parameter.param_type_name == "option"
    if option and path.suffix in CONFIGS and path.is_file():
        files[f"{parameter.name}-{path.name}"] = path.read_bytes()
        return f"{SENT}/{parameter.name}-{path.name}"
    if isinstance(value, Path) or not option or path.exists():
        return str(path.absolute())  # links stay: another node may see them differently
    return text


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _environment(named: Sequence[str]) -> dict[str, str]:
    found = {}
    for entry in named:
        name, given, value = entry.partition("=")
        if not given and name not in os.environ:
            raise UsageError(f"--env {name}: has no value here; give {name}=VALUE")
        found[name] = value if given else os.environ[name]
    return found


def _send(
    words: Sequence[str], address: str | None, wait: bool, env: Sequence[str], python: str, dry_run: bool
) -> None:
    submission, variables = prepare(words), _environment(env)
    if dry_run:
        told = {"id": submission.base, "entrypoint": submission.entrypoint(python), "env": sorted(variables)}
        typer.echo(json.dumps({**told, "files": sorted(submission.files), "out": submission.out}, indent=1))
        return
    client = api.connect(address)
    job = api.submit(client, submission, variables, python)
    typer.echo(job.id)
    typer.echo("submitted" if job.fresh else "the same submission is running already", err=True)
    if wait:
        _follow(client, job.id)


def _follow(client: Any, job: str) -> None:
    try:
        found = api.follow(client, job, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\n{job} goes on; `submit logs --follow {job}` or `submit stop {job}`", err=True)
        raise typer.Exit(130) from None
    typer.echo(_describe(found), err=True)
    if found.state != "SUCCEEDED":
        raise typer.Exit(found.code or 1)


def _describe(found: Status) -> str:
    lines = [f"{found.id}: {found.state} ({_span(found)})", f"    {found.entrypoint}"]
    if found.message and found.state != "RUNNING":
        lines.append(f"    {found.message.splitlines()[0]}")  # the rest is the log again
    return "\n".join(lines)


def _span(found: Status) -> str:
    if found.started is None:
        return "not started"
    return f"{(found.ended or time.time()) - found.started:.0f} s"
