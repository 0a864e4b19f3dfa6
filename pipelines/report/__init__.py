"""The static HTML report of a pipeline's outputs: one file, no network, whatever is missing named instead."""

from pathlib import Path

from shards.files import write_atomic


def build_report(folder: Path, out: Path) -> list[str]:
    """Write the report of the pipeline in `folder` to the file `out`; returns what it had to do without."""
    from pipelines.report.data import collect
    from pipelines.report.page import render_page

    data = collect(folder)
    write_atomic(out, render_page(data).encode())
    return [missing.what for missing in data.missing]
