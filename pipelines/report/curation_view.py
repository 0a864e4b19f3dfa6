"""A selection as the templates show it: the same for a pipeline's report and for the page of a pool."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipelines.report.charts import bar_chart
from pipelines.report.curation import Curation
from pipelines.report.thresholds import Distribution, conditions, distributions

MOST_PEOPLE = 8  # from here on one bar
REASONS = {
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


@dataclass(frozen=True)
class View:
    """`conditions`: what each step keeps. `people`: (chart, caption). `told`: what a reason means. Charts are
    safe to print as they are.
    """

    curation: Curation
    conditions: Mapping[str, str]
    distributions: tuple[Distribution, ...]
    people: tuple[tuple[str, str], ...]
    told: Mapping[str, str]


def curation_view(curation: Curation) -> View:
    """Draw the charts of a selection and put its rules into words."""
    from markupsafe import Markup

    shown = distributions(curation.summary["histograms"], curation.rules)
    charts = [
        (people_chart(curation.summary[name], images), f"People counted per {caption}.")
        for name, images, caption in (
            ("people", "kept images", "kept image (the paper's Fig. 2)"),
            ("people_of_pool", "images of the pool", "input of the pool, before any rule"),
        )
        if curation.summary[name]
    ]
    return View(
        curation,
        conditions(curation.rules),
        tuple(replace(one, chart=Markup(one.chart)) for one in shown),
        tuple((Markup(chart), caption) for chart, caption in charts),
        REASONS,
    )


def people_chart(counts: Mapping[str, int], images: str) -> str:
    """Histogram of people per image (the paper's Fig. 2)."""
    return bar_chart(fold(counts, MOST_PEOPLE), "people in the image", images)


def fold(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """A bar for each number from the least to the largest, `most` and above together as "8+"."""
    found = {int(number): count for number, count in counts.items()}
    bars = {str(n): found.get(n, 0) for n in range(min(found), min(max(found), most - 1) + 1)}
    more = sum(count for number, count in found.items() if number >= most)
    return bars | ({f"{most}+": more} if more else {})
