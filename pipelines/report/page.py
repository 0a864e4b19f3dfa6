"""From collected data to the HTML page: one jinja2 template, its style sheet, charts drawn in place."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from pipelines.report.charts import bar_chart, line_chart
from pipelines.report.data import Curation, ReportData, TaskResult

UNITS = {"rmse": "m", "mae": "m", "abs_rel": "", "median_deg": "°", "mean_deg": "°"}
REASONS = {
    "kept": "kept",
    "decode:empty": "the file is empty",
    "decode:not-an-image": "not an image, whatever its name says",
    "decode:unsupported": "a format that training shards do not hold, or animated",
    "decode:too-large": "more pixels than allowed; never decoded",
    "decode:truncated": "the file ends too early",
    "decode:corrupt": "damaged",
    "decode:unreadable": "the file cannot be opened",
    "size:small": "too small to train on",
    "duplicate": "the same pixels as another image",
    "near-duplicate": "looks like another image",
    "text:area": "too much text in the picture",
    "watermark:score": "a watermark",
    "art:score": "a drawing, a painting or a graphic",
    "art:unnatural": "a collage, a poster, a screenshot",
    "art:synthetic": "made by a generator, as its file says",
    "subset:out": "not drawn for this subset",
    "person:none": "no person found",
    "person:score": "a person, but too doubtful",
    "person:small": "a person, but too small",
}


def render_page(data: ReportData) -> str:
    """The whole report as one HTML document, without a single request to anywhere."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    templates = files("pipelines.report") / "templates"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "duration": duration, "size": size, "sentence": sentence}
    template = environment.from_string((templates / "report.html").read_text(encoding="utf-8"))
    page: str = template.render(
        data=data,
        style=Markup((templates / "style.css").read_text(encoding="utf-8")),
        curves=[(curve, Markup(line_chart(curve.points, "step", "loss"))) for curve in data.curves],
        people_chart=Markup(people_chart(data.curation)) if data.curation else "",
        verdicts=[verdict(task) for task in data.tasks],
        rows=[metric_rows(task) for task in data.tasks],
        reasons=REASONS,
        facts=facts(data),
        total_seconds=sum(data.timings.values(), 0.0),
    )
    return page


def facts(data: ReportData) -> list[tuple[str, str]]:
    """The page's first figures: (value, what it counts)."""
    found = []
    if data.split:
        renders = sum(line.samples for line in data.datasets if line.title.startswith("Renders"))
        found.append((f"{renders:,}", f"renders of {len(data.split.train)} + {len(data.split.eval)} people"))
    if data.curation:
        funnel = data.curation.funnel
        found.append((f"{funnel['kept']:,} of {funnel['inputs']:,}", "pool images kept by curation"))
    if data.tasks:
        better = sum(bool(task.metrics["headline"]["beats_constant"]) for task in data.tasks)
        found.append((f"{better} of {len(data.tasks)}", "tasks better than a constant prediction"))
    if data.timings:
        found.append((duration(sum(data.timings.values())), f"in {len(data.timings)} stages"))
    return found


def people_chart(curation: Curation) -> str:
    """Histogram of people per kept image (the paper's Fig. 2)."""
    return bar_chart(curation.funnel["people"], "people in the image", "kept images")


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


def number(value: Any) -> str:
    """Four significant digits, integers as they are, a dash for what is not known."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """ "1 min 05 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Bytes with a decimal unit."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def sentence(text: str) -> str:
    """With a capital first letter and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "." if text else text
