"""The page of a curated pool: what it says against the selection's own figures, and as a browser sees it."""

import json
import re
import shutil
from html import unescape
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curation.annotate import AnnotateConfig, plan_annotate
from curation.decisions import funnel
from curation.histograms import count, edges_of
from curation.rules import RuleSet, parse_rules
from curation.select import plan_select
from pipelines.cli.curate import app
from pipelines.report.charts import histogram_chart
from pipelines.report.curation import counted, thumbnail
from pipelines.report.curation_view import fold
from pipelines.report.images import fit_within
from pipelines.report.pool_page import build_pool_page, collect_pool, list_models
from pipelines.report.thresholds import Sides, compared, condition, opacity, sides, visible
from shards.errors import UsageError
from shards.index import write_table

HTML_NAME = '<img src=x onerror=alert(1)>&amp;".png'
RULES = {
    "people": {"score_above": 0.3},
    "rules": [
        {"reason": "size:small", "column": "short_side", "at_least": 64},
        {"reason": "duplicate", "duplicates": {"bytes": True, "pixels": True}},
        {"reason": "text:area", "column": "text_area", "at_most": 0.02},
        {"reason": "shape:long", "column": "aspect", "below": 3},
        {"reason": "quality:unnatural", "column": "unnatural", "at_most": 0.5},
        {"reason": "person", "person": {"score_above": 0.5, "side_above": 60}},
    ],
}


def pool_module() -> Any:
    """tests/curation/conftest.py: the hostile pool."""
    path = Path(__file__).parents[1] / "curation" / "conftest.py"
    spec = spec_from_file_location("pool_of_the_curation_tests", path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Places(NamedTuple):
    """pool, annotations, selection."""

    pool: Path
    annotations: Path
    selection: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The hostile pool and a file whose name is HTML, annotated and selected by the rooms' own code."""
    folder, module = tmp_path_factory.mktemp("curation page"), pool_module()
    places = Places(folder / "a pool", folder / "annotations", folder / "selection")
    for name, data in (module.hostile_pool() | {HTML_NAME: b"<script>alert(1)</script>"}).items():
        path = places.pool / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    module.run_inline(plan_annotate(places.pool, AnnotateConfig()), places.annotations)
    module.run_inline(plan_select(places.annotations, parse_rules(RULES)), places.selection)
    return places


@pytest.fixture
def places(made: Places, tmp_path: Path) -> Places:
    """A copy to damage."""
    return Places(*(Path(shutil.copytree(place, tmp_path / place.name)) for place in made))


@pytest.fixture(scope="session")
def page(made: Places, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert build_pool_page(*made, out) == []
    return out


def cells(html: str) -> list[list[str]]:
    """The text of every table row, cell by cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [[plain(cell) for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.DOTALL)] for row in rows]


def plain(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html))).strip()


def test_the_browser_finds_nothing_wrong(page: Path, open_page: Any) -> None:
    for width, dark in ((1200, False), (1200, True), (400, False)):
        seen = open_page(page, width=width, dark=dark)
        assert seen.errors == [] and seen.requests == []
        assert seen.overflow == [], f"cut off at {width} px"
        assert len(seen.images) >= 8 and all(image["width"] > 0 and image["alt"] for image in seen.images)
        assert all(image["width"] <= 540 and image["shown"] <= width for image in seen.images)
        assert seen.background == ("rgb(21, 23, 27)" if dark else "rgb(253, 252, 250)")


def test_names_that_are_html_are_text(page: Path, open_page: Any) -> None:
    assert HTML_NAME in open_page(page).text
    html = page.read_text(encoding="utf-8")
    assert "onerror=alert(1)>" not in html and "<script" not in html
    assert "25 bytes: &lt;script&gt;alert(1)" in html


def test_it_says_what_the_summary_says(page: Path, made: Places) -> None:
    html, summary = page.read_text(encoding="utf-8"), funnel(made.selection)
    rows = {row[0].split(" ")[0]: row for row in cells(html) if len(row) == 7}
    assert [int(rows["raw"][place]) for place in (1, 3)] == [summary["inputs"]] * 2
    for stage in summary["stages"]:
        row = rows[stage["stage"]]
        told = [int(row[place]) for place in (1, 2, 3)]
        assert told == [stage["entered"], stage["rejected"], stage["left"]]
        assert row[6] == ", ".join(f"{r.partition(':')[2] or r} {n}" for r, n in stage["reasons"].items())
    assert f"{summary['inputs']} → {summary['kept']}" in plain(html)
    headings = [plain(found) for found in re.findall(r"<h3>(.*?)</h3>", html)]
    counts = {"kept": summary["kept"]} | {r: n for s in summary["stages"] for r, n in s["reasons"].items()}
    assert [heading.split(" · ")[:2] for heading in headings] == [[r, str(n)] for r, n in counts.items()]
    people = sum(int(number) * images for number, images in summary["people"].items())
    assert f"{people} people counted in kept images" in plain(html)
    assert "short_side ≥ 64" in html and "a person with score &gt; 0.5 and shorter side &gt; 60 px" in html


def test_it_names_detector_models_and_digests(page: Path, made: Places) -> None:
    html = page.read_text(encoding="utf-8")
    manifest = json.loads((made.annotations / "manifest.json").read_bytes())
    models = manifest["provenance"]["models"]
    assert models["detector"]["name"] in html and manifest["digest"] in html
    digests = [value for name, model in models.items() if name != "libraries" for value in model.values()]
    found = [value for value in digests if re.fullmatch("[0-9a-f]{64}", value)]
    assert len(found) >= 4 and all(value in html for value in found)
    shared = {"name": "m", "file.onnx": "a" * 64, "size": "2"}
    both = list_models({"art": shared, "watermark": shared, "text": {"name": "t"}})
    assert [(model.measures, len(model.digests)) for model in both] == [("art, watermark", 1), ("text", 0)]


def test_the_same_page_every_time(made: Places, tmp_path: Path) -> None:
    pages = [tmp_path / "one.html", tmp_path / "other.html"]
    for path in pages:
        build_pool_page(*made, path, contacts=2)
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert 0 < pages[0].read_text(encoding="utf-8").count("<li>") <= 2 * 20


@pytest.mark.parametrize(
    ("damaged", "missing"),
    [
        ("selection/decisions.summary.json", ["the funnel"]),
        ("selection/decisions.parquet", ["contact sheets"]),
        ("selection/manifest.json", ["the funnel"]),
        ("annotations/manifest.json", ["what measured the pool", "contact sheets"]),
    ],
)
def test_a_damaged_part_costs_itself(
    places: Places, tmp_path: Path, open_page: Any, damaged: str, missing: list[str]
) -> None:
    (tmp_path / damaged).write_bytes(b"\xff{: nonsense")
    assert build_pool_page(*places, tmp_path / "page.html") == missing
    seen = open_page(tmp_path / "page.html", width=400)
    assert seen.errors == [] and seen.overflow == []
    assert all(f"Not shown: {what}" in seen.text for what in missing)
    assert ("opencv-hog-haar" in seen.text) == ("what measured the pool" not in missing)
    assert ("share of the pool left" in seen.text) == ("the funnel" not in missing)


def test_a_summary_that_was_changed_is_not_believed(places: Places) -> None:
    path = places.selection / "decisions.summary.json"
    path.write_bytes(path.read_bytes().replace(b'"kept":', b'"kept": 1'))
    assert "damaged" in collect_pool(*places, 1).missing[0].why


def test_an_input_that_is_gone_costs_its_picture(places: Places, tmp_path: Path) -> None:
    (places.pool / "people/astronaut.png").unlink()
    (places.pool / "things/rocket.jpg").write_bytes(b"another")
    missing = build_pool_page(*places, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert missing == [f"{html.count('cannot be read any more</div>')} of the examples"]
    assert html.count("<img") >= 5
    shutil.rmtree(places.pool)
    assert len(build_pool_page(*places, tmp_path / "page.html")) == 1
    assert "share of the pool left" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_pictures_of_other_annotations_are_not_shown(places: Places, tmp_path: Path) -> None:
    other = tmp_path / "other"
    config = AnnotateConfig.model_validate({"max_pixels": 100})
    pool_module().run_inline(plan_annotate(places.pool, config), other)
    data = collect_pool(places.pool, other, places.selection, 2)
    assert [(one.what, "selected from other annotations" in one.why) for one in data.missing] == [
        ("contact sheets", True)
    ]
    assert data.curation is not None and not any(reason.examples for reason in data.curation.reasons)


def test_tables_without_a_column_cost_the_pictures(places: Places) -> None:
    for path in places.annotations.glob("*.parquet"):
        write_table(pq.read_table(path).drop_columns(["member"]), path)
    missing = collect_pool(*places, 2).missing
    assert [(one.what, "no column member" in one.why) for one in missing] == [("contact sheets", True)]


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to report"):
        build_pool_page(tmp_path, tmp_path / "a", tmp_path / "s", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_quarantined_units_are_listed(places: Places, tmp_path: Path) -> None:
    path = places.annotations / "manifest.json"
    manifest = json.loads(path.read_bytes()) | {"quarantined": ["files-a", "files-b"]}
    path.write_text(json.dumps(manifest))
    folder = places.annotations / ".stage" / "quarantine"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "files-a.json").write_text(json.dumps({"error": "Traceback\nShardError: <i>gone</i>\n"}))
    build_pool_page(*places, tmp_path / "page.html", contacts=0)
    rows = cells((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert ["annotate", "files-a", "ShardError: <i>gone</i>"] in rows
    assert ["annotate", "files-b", "not recorded here"] in rows


def test_the_verb(made: Places, tmp_path: Path) -> None:
    arguments = ["report", *map(str, made), "--contacts", "1", "--title", "A <b>title"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "page.html")
    assert "Curation of A &lt;b&gt;title" in (tmp_path / "page.html").read_text(encoding="utf-8")
    refused = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "page.pdf")])
    assert isinstance(refused.exception, UsageError)


def bars(chart: str) -> list[tuple[float, float]]:
    """Left and right of each bar in the SVG's units."""
    paths = re.findall(r'<g class="bin">\s*<path d="([^"]*)"', chart)
    spans = [[float(x) for x in re.findall(r"[ML] ([-\d.]+) ", path)] for path in paths]
    return [(min(xs), max(xs)) for xs in spans]


def lines(chart: str) -> list[float]:
    paths = re.findall(r'<g class="threshold">\s*<path d="M ([-\d.]+) ', chart)
    return [float(x) for x in paths]


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.31, 0.9, 1.0])
def test_the_line_stands_at_the_threshold(threshold: float) -> None:
    edges = [k / 50 for k in range(51)]
    chart = histogram_chart(edges, [5] * 50, [1.0] * 50, [threshold], "x", "images")
    first, last = bars(chart)[0][0], bars(chart)[-1][1]
    assert lines(chart) == [pytest.approx(first + threshold * (last - first), abs=0.01)]


def test_the_line_stands_right_on_a_logarithmic_axis() -> None:
    edges = [2.0**k for k in range(-2, 7)]
    chart = histogram_chart(edges, [1, 900, 3, 4, 5, 6, 7, 8], [1.0] * 8, [3.0, 8.0], "x", "images", log=True)
    found = bars(chart)
    assert len(found) == 8 and "log scale" in chart
    assert lines(chart)[1] == pytest.approx(found[5][0], abs=0.01)
    (left, right), place = found[3], np.log2(3.0) - 1
    assert lines(chart)[0] == pytest.approx(left + place * (right - left), abs=0.01)


def test_empty_bins_have_no_bar_and_charts_follow_the_page() -> None:
    chart = histogram_chart([0.0, 1.0, 2.0, 3.0], [4, 0, 2], [1.0, 1.0, 0.35], [1.5], "x", "images")
    assert len(bars(chart)) == 2 and len(lines(chart)) == 1
    assert "#0" not in chart and "var(--accent)" in chart and ' id="bin"' not in chart


def entry(column: str, keeps: dict[str, Any], values: Any) -> dict[str, Any]:
    counts = count(np.asarray(values, np.float64), edges_of(column)).tolist()
    edges = list(edges_of(column))
    return {"column": column, "keeps": keeps, "edges": edges, "below": counts[0], "counts": counts[1:-1]} | {
        "above": counts[-1]
    }


@pytest.mark.parametrize(("column", "threshold"), [("score", 0.9), ("score", 0.55), ("side", 300.0)])
def test_the_sides_add_up(column: str, threshold: float) -> None:
    top = 1.0 if column == "score" else 5000.0
    values = np.random.default_rng(0).uniform(0, top, 4000)
    found = sides(entry(column, {"above": threshold}, values))
    assert found is not None and found.below + found.cut + found.above == 4000
    edges = np.array(edges_of(column))
    if np.isclose(edges, threshold).any():
        assert found == Sides(int((values < threshold).sum()), 0, int((values >= threshold).sum()))
    else:
        low = edges[edges < threshold].max()
        assert found.below == (values < low).sum() and 0 < found.cut < 200
    assert sides(entry(column, {"one_of": [1.0]}, values)) is None


def test_bars_are_strong_where_the_rule_keeps() -> None:
    assert [opacity(low, low + 1.0, {"at_least": 2.5}) for low in (1.0, 2.0, 3.0)] == [0.35, 0.65, 1.0]
    assert [opacity(low, low + 1.0, {"at_most": 2.0}) for low in (1.0, 2.0)] == [1.0, 0.35]
    assert [opacity(low, low + 1.0, {"one_of": [2, 7]}) for low in (1.0, 2.0)] == [0.35, 1.0]
    assert [opacity(low, low + 1.0, {"none_of": [2, 7]}) for low in (1.0, 2.0)] == [1.0, 0.35]


def test_charts_show_what_holds_something() -> None:
    found = entry("side", {"above": 300.0}, [70.0, 80.0, 400.0])
    edges, counts = visible(found)
    assert sum(counts) == 3 and len(edges) == len(counts) + 1 and (edges[0], edges[-1]) == (32.0, 448.0)
    edges, _ = visible(entry("score", {"above": 0.9}, [0.1]))
    assert edges[0] <= 0.08 and edges[-1] >= 0.92  # the threshold is always on the chart


def test_rules_in_words() -> None:
    assert compared({"at_most": 0.02}) == "≤ 0.02" and compared({"one_of": [1, 2]}) == "one of 1, 2"
    told = [condition(rule) for rule in RuleSet().rules]
    assert "a person with score > 0.9 and shorter side > 300 px" in told and all(told)
    near = {"reason": "near", "duplicates": {"near": {"hamming": 3}}}
    both = {"reason": "both", "duplicates": {"bytes": True, "near": {}}}
    camera = {"reason": "art:synthetic", "column": "digital_source", "none_of": ["a", "b"]}
    assert [condition(rule) for rule in parse_rules({"rules": [near, both, camera]}).rules] == [
        "no other within 3 bits of hash and 8 grey levels",
        "no other with equal bytes or within 4 bits of hash and 8 grey levels",
        "digital_source none of a, b",
    ]


def test_many_people_share_a_bar() -> None:
    assert fold({"1": 5, "3": 2}, 8) == {"1": 5, "2": 0, "3": 2}
    assert fold({"7": 1, "8": 2, "300": 3}, 8) == {"7": 1, "8+": 5}
    assert fold({"9": 4}, 8) == {"8+": 4}


def test_boxes_that_decide_are_drawn_in_place() -> None:
    boxes = [{"x0": 100.0, "y0": 200.0, "x1": 300.0, "y1": 400.0, "score": score} for score in (0.2, 0.9)]
    assert [len(counted(boxes, 0.3)), len(counted(boxes, 0.95)), len(counted([], 0.3))] == [1, 1, 0]
    row = {"person_boxes": boxes[1:], "text_boxes": []}
    small = thumbnail(np.zeros((720, 480, 3), np.uint8), row, "kept", RuleSet())
    assert small.shape == (180, 120, 3)
    y, x = np.nonzero(small.any(axis=2))
    assert np.abs(np.array([x.min(), y.min(), x.max(), y.max()]) - (25, 50, 75, 100)).max() <= 2
    assert fit_within(np.zeros((10, 4000, 3), np.uint8), 180, 540).shape == (1, 540, 3)
    assert fit_within(np.zeros((9000, 3, 3), np.uint8), 180, 540).shape == (180, 1, 3)
