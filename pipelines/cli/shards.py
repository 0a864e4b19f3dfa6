"""`vitruvian shards`: look into a dataset, and check that it is what its manifest says."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.filesize import decimal

MAX_ROWS = 20

app = typer.Typer(no_args_is_help=True, help="Inspect and verify shards and datasets.")

Url = Annotated[str, typer.Argument(help="A folder or fsspec URL with a manifest.json, or one .tar.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Deep = Annotated[bool, typer.Option("--deep", help="Read every byte and compare digests.")]


@app.command()
def inspect(url: Url, json_: AsJson = False) -> None:
    """What a dataset holds: shards, samples, bytes, members, provenance, rejects."""
    from shards.summary import summarise

    summary = summarise(url)
    if json_:
        typer.echo(json.dumps(summary, indent=1, ensure_ascii=False))
    else:
        _print_summary(summary)


@app.command()
def verify(url: Url, deep: Deep = False, json_: AsJson = False, quiet: Quiet = False) -> None:
    """Compare a dataset with its manifest; every disagreement is named, and there being one exits 1."""
    from shards.verify import verify_bytes, verify_structure

    problems = []
    with _progress(url, shown=deep and not quiet) as on_file:
        for problem in verify_bytes(url, on_file=on_file) if deep else verify_structure(url):
            problems.append(problem)
            if not json_:
                typer.echo(f"{problem.kind}  {problem.where}: {problem.what}")
    if json_:
        typer.echo(json.dumps({"url": url, "problems": [asdict(problem) for problem in problems]}, indent=1))
    elif not problems:
        typer.echo(
            f"{url}: "
            + ("every byte is as listed" if deep else "intact (structure; --deep reads every byte)")
        )
    if problems:
        raise typer.Exit(1)


@contextmanager
def _progress(url: str, shown: bool) -> Iterator[Any]:
    """A bar on stderr over the bytes the manifest lists, with rate and time left; yields what advances it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from shards.errors import VitruvianError
    from shards.manifest import FileRecord, read_manifest

    try:
        total = sum(file.bytes for shard in read_manifest(url).shards for file in shard.files.values())
    except VitruvianError:
        total = 0  # verify names what is wrong with the manifest
    parts = (
        TextColumn("verify"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=Console(stderr=True), disable=not (shown and total)) as bar:
        task = bar.add_task("verify", total=total)

        def on_file(record: FileRecord) -> None:
            bar.advance(task, record.bytes)

        yield on_file


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)  # names and JSON may hold brackets
    for title, headers, rows in _tables(summary):
        table = Table()
        for number, header in enumerate(headers):
            table.add_column(header, justify="right" if number else "left", overflow="fold")
        for row in rows[:MAX_ROWS]:
            table.add_row(*row)
        if rows:
            console.print(title, style="bold", soft_wrap=True, highlight=False)
            console.print(table)
        if len(rows) > MAX_ROWS:
            console.print(f"... and {len(rows) - MAX_ROWS} more (--json lists all)")


def _tables(summary: dict[str, Any]) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """Title, headers and rows of every table that a summary fills."""
    members = [
        (name, f"{m['samples']:,}", decimal(m["bytes"]), decimal(m["bytes"] // max(m["samples"], 1)))
        for name, m in summary["members"].items()
    ]
    shards = [
        (shard["name"], f"{shard['samples']:,}", decimal(shard["bytes"]), shard["sha256"][:16])
        for shard in summary.get("shard_list", [])
    ]
    provenance = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in summary.get("provenance", {}).items()
    ]
    rejects = [(reason, f"{count:,}") for reason, count in summary.get("rejects", {}).items()]
    return [
        (summary["url"], ("what", "value"), _overview(summary)),
        ("members", ("extension", "samples", "bytes", "mean"), members),
        ("columns", ("name", "type"), list(summary.get("columns", {}).items())),
        ("shards", ("name", "samples", "bytes", "sha256"), shards),
        ("rejects", ("reason", "count"), rejects),
        ("quarantined", ("unit",), [(name,) for name in summary.get("quarantined", [])]),
        ("provenance", ("field", "value"), provenance),
    ]


def _overview(summary: dict[str, Any]) -> Sequence[Sequence[str]]:
    rows = [("shards", f"{summary['shards']:,}"), ("samples", f"{summary['samples']:,}")]
    if "digest" in summary:
        rows += [("bytes", decimal(summary["bytes"])), ("digest", summary["digest"])]
    return rows
