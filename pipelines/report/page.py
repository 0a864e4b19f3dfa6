"""From collected data to the HTML page of a pipeline."""

from collections.abc import Mapping
from typing import Any

from pipelines.report.charts import line_chart
from pipelines.report.curation_view import curation_view
from pipelines.report.data import ReportData, TaskResult
from pipelines.report.html import duration, render

UNITS = {"rmse": "m", "mae": "m", "abs_rel": "", "median_deg": "°", "mean_deg": "°"}


def render_page(data: ReportData) -> str:
    """The whole report as one HTML document, without a single request to anywhere."""
    from markupsafe import Markup

    return render(
        "report.html",
        data=data,
        missing=data.missing,
        curves=[(curve, Markup(line_chart(curve.points, "step", "loss"))) for curve in data.curves],
        curation=curation_view(data.curation) if data.curation else None,
        verdicts=[verdict(task) for task in data.tasks],
        rows=[metric_rows(task) for task in data.tasks],
        facts=facts(data),
        total_seconds=sum(data.timings.values(), 0.0),
    )


def facts(data: ReportData) -> list[tuple[str, str]]:
    """The page's first figures: (value, what it counts)."""
    found = []
    if data.split:
        renders = sum(line.samples for line in data.datasets if line.title.startswith("Renders"))
        found.append((f"{renders:,}", f"renders of {len(data.split.train)} + {len(data.split.eval)} people"))
    if data.curation:
        funnel = data.curation.summary
        found.append((f"{funnel['kept']:,} of {funnel['inputs']:,}", "pool images kept by curation"))
    if data.tasks:
        better = sum(bool(task.metrics["headline"]["beats_constant"]) for task in data.tasks)
        found.append((f"{better} of {len(data.tasks)}", "tasks better than a constant prediction"))
    if data.timings:
        found.append((duration(sum(data.timings.values())), f"in {len(data.timings)} stages"))
    return found


def verdict(task: TaskResult) -> Mapping[str, Any]:
    """The headline of one task, ready to print."""
    headline = task.metrics["headline"]
    arrow = "↑" if headline["better"] == "higher" else "↓"
    return {"task": task.name, "arrow": arrow, **headline}


def metric_rows(task: TaskResult) -> Mapping[str, Any]:
    """Every score of a task beside its baselines': {task, columns, rows: [(metric, [values])]}."""
    baselines: Mapping[str, Mapping[str, float]] = task.metrics["baselines"]
    scores: Mapping[str, float] = task.metrics["metrics"]
    rows = [(name, [scores[name], *(found.get(name) for found in baselines.values())]) for name in scores]
    return {
        "task": task.name,
        "columns": ["model", *baselines],
        "rows": rows,
        "protocol": task.metrics["protocol"],
    }
