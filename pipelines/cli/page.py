"""`vitruvian curate report`: a selection as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    pool: Annotated[str, typer.Argument(help="The pool that was annotated; a path or a URL.")],
    annotations: Annotated[str, typer.Argument(help="The output of `curate annotate`; a path or a URL.")],
    selection: Annotated[Path, typer.Argument(help="The output of `curate select` on these annotations.")],
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")],
    contacts: Annotated[
        int, typer.Option("--contacts", min=0, max=200, help="Pictures of each outcome; 0: none.")
    ] = 12,
    title: Annotated[
        str | None, typer.Option("--title", help="Of the page; the pool's name if absent.")
    ] = None,
) -> None:
    """Build one static HTML page: the funnel, people per image, every threshold on its histogram, pictures of
    every outcome from the original bytes, models and digests.

    What is missing or damaged is named on the page and on the command line; the rest is shown.
    """
    from pipelines.report.pool_page import build_pool_page
    from shards.errors import UsageError

    if out.suffix not in (".html", ".htm"):
        raise UsageError(f"--out {out}: expected a name that ends in .html")
    missing = build_pool_page(pool, annotations, selection, out, contacts, title)
    typer.echo(f"{out}" + (f" (without: {', '.join(missing)})" if missing else ""))
