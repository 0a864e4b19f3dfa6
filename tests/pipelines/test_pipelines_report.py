"""The report, from whatever outputs exist, and as a browser sees it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation.camera import Camera
from annotation.codecs import encode_rgb
from annotation.labels import Labels, to_members
from curation.annotate import AnnotateConfig, plan_annotate
from curation.job import Job
from curation.rules import RuleSet
from curation.select import plan_select
from pipelines.executors import run_units
from pipelines.report import build_report
from pipelines.report.charts import bar_chart, line_chart
from pipelines.report.data import TASKS, collect, read_png, split_rows
from pipelines.report.html import compact, duration, number, percent, size
from pipelines.report.page import render_page
from shards.manifest import write_manifest
from shards.sample import Sample, content_key
from shards.units import close_stage, open_stage
from shards.writer import ShardWriter

HEIGHT, WIDTH = 96, 72


def a_render(identity: int) -> Sample:
    """A figure of simple shapes with every label."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    body = ((x - 36) / 14) ** 2 + ((y - 52) / 34) ** 2 < 1
    normal = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    normal[body] = (0.0, 0.6, 0.8)
    keypoints = np.zeros((1, 17, 4), np.float32)
    keypoints[0, :, 0], keypoints[0, :, 1], keypoints[0, :, 3] = 36, np.linspace(20, 80, 17), 2
    labels = Labels(
        rgb=np.where(body[..., None], (200, 150, 120), (90, 110, 140)).astype(np.uint8),
        depth=np.where(body, 2.5 + y / 900, 0).astype(np.float32),
        normal=normal,
        alpha=(body * 255).astype(np.uint8),
        parts=np.where(body, 1 + (y > 50), 0).astype(np.uint8),
        instance=body.astype(np.uint8),
        keypoints=keypoints,
        camera=Camera(np.array([[80.0, 0, 36], [0, 80, 48], [0, 0, 1]]), np.eye(4), WIDTH, HEIGHT),
        meta={"people": [{"identity": identity, "instance": 1, "height_m": 1.7}]},
    )
    members = to_members(labels)
    return Sample(content_key(members["json"]), members)


def write_dataset(folder: Path, samples: list[Sample]) -> None:
    with ShardWriter(folder, "part-000000") as writer:
        for sample in samples:
            writer.add(sample)
        writer.commit(stage_name="test", stage_key="k")
    write_manifest(folder, {"stage": {"name": "test", "key": "k"}})


def write_run(folder: Path, steps: int) -> None:
    folder.mkdir(parents=True)
    lines = [json.dumps({"step": step, "loss": 1 / step}) for step in range(1, steps + 1)]
    (folder / "log.jsonl").write_text("\n".join([*lines, '{"step": 9, "lo']))
    (folder / "run.json").write_text(json.dumps({"run": {"seconds": 65.4}}))


def write_png(path: Path, image: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_rgb(np.ascontiguousarray(image)))


@pytest.fixture(scope="session")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs in the layout of the demo, made through the rooms' own writers; curation by its real code."""
    folder = tmp_path_factory.mktemp("report") / "a pipeline"
    out = folder / "out"
    folder.mkdir()
    (folder / "params.yaml").write_text("note: '<script>alert(1)</script>'\n")
    for name, identities in {"train": (1, 2, 3), "eval": (11, 12), "showcase": (21,)}.items():
        write_dataset(out / "renders" / name, [a_render(identity) for identity in identities])
    rng = np.random.default_rng(0)
    write_png(out / "pool/noise.png", rng.integers(0, 255, (80, 80, 3), np.uint8))
    write_png(out / "pool/<b>tiny.png", rng.integers(0, 255, (20, 20, 3), np.uint8))
    (out / "pool/not.jpg").write_text("no image")
    run_job(plan_annotate(out / "pool", AnnotateConfig()), out / "annotations")
    run_job(plan_select(out / "annotations", RuleSet()), out / "selection")
    write_run(out / "encoder", 40)
    settings = {"pretrain": {"mask_ratio": 0.75}}
    (out / "encoder/config.json").write_text(json.dumps(settings))
    sheet = rng.integers(0, 255, (68, 72, 3), np.uint8)
    sheet[32:36] = 255
    write_png(out / "encoder/reconstructions.png", sheet)
    for task in TASKS:
        write_run(out / "tasks" / task, 20)
        panel = rng.integers(0, 255, (96, 228, 3), np.uint8)
        write_png(out / f"metrics/{task}/predictions/00000-aa.png", panel)
        (out / f"metrics/{task}/metrics.json").write_text(json.dumps(some_metrics(task)))
    (out / "timings.json").write_text(json.dumps({"render-train": 75.0, "report": 2.0}))
    return folder


def run_job(job: Job, out: Path) -> None:
    stage = open_stage(out, job.name, job.key)
    assert {outcome.status for outcome in run_units(stage, job.units, job.worker)} == {"done"}
    close_stage(stage, job.units, job.provenance)


@pytest.fixture
def pipeline(outputs: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(outputs, tmp_path / outputs.name))


def some_metrics(task: str) -> dict[str, Any]:
    better = "higher" if task in ("pose", "parts") else "lower"
    headline = {
        "metric": "score",
        "better": better,
        "model": 0.5,
        "constant": 0.25,
        "beats_constant": better == "higher",
    }
    scores = {"score": 0.5, "images": 2}
    return {
        "headline": headline,
        "metrics": scores,
        "baselines": {"constant": {"score": 0.25}},
        "protocol": "as told",
    }


def test_the_browser_finds_nothing_wrong(pipeline: Path, tmp_path: Path, open_page: Any) -> None:
    report = tmp_path / "report.html"
    assert build_report(pipeline, report) == ["curated photographs"]
    for width, dark in ((1200, False), (1200, True), (360, False)):
        page = open_page(report, width=width, dark=dark)
        assert page.errors == [] and page.requests == []
        assert len(page.images) >= 12 and all(image["width"] > 0 and image["alt"] for image in page.images)
        assert page.overflow == [], f"cut off at {width} px"
        assert all(image["shown"] <= width for image in page.images)
        assert page.background == ("rgb(21, 23, 27)" if dark else "rgb(253, 252, 250)")


def test_the_browser_would_notice(tmp_path: Path, open_page: Any) -> None:
    """The checks above can fail: broken images, a script error, a request, something too wide."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<body><img src="data:image/png;base64,AAAA"><img src="gone.png"><div style="width:2000px">wide</div>'
        "<script>console.error('x'); nothing()</script>"
    )
    page = open_page(bad)
    assert [image["width"] for image in page.images] == [0, 0]
    assert len(page.errors) >= 2 and page.requests == [(tmp_path / "gone.png").as_uri()]
    assert any("wide" in element for element in page.overflow)


def test_it_says_what_was_found(pipeline: Path, tmp_path: Path, open_page: Any) -> None:
    build_report(pipeline, tmp_path / "report.html")
    text = re.sub(r"\s+", " ", open_page(tmp_path / "report.html").text)
    assert (
        "trained on 3 identities and are evaluated on 2 others" in text and "No identity is in both." in text
    )
    assert "2 of 4 tasks better than a constant prediction" in text.replace("2 of 4tasks", "2 of 4 tasks")
    assert "decode:not-an-image · 1" in text and "size:small · 1" in text
    assert "Person 21, person, 1.70 m tall" in text and "2.5" in text
    assert "<script>alert(1)</script>" in text  # shown, not run
    assert "Not shown: curated photographs" in text
    assert "render-train1 min 15 s" in text.replace(" 1 min", "1 min")


def test_shared_identities_are_called_out(pipeline: Path) -> None:
    write_dataset(pipeline / "out/renders/eval", [a_render(2), a_render(11)])
    data = collect(pipeline)
    assert data.split is not None and data.split.shared == {"2"}


def test_it_works_from_nothing(tmp_path: Path, open_page: Any) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    missing = build_report(folder, tmp_path / "report.html")
    assert len(missing) > 15
    page = open_page(tmp_path / "report.html", width=360)
    assert page.errors == [] and page.overflow == []
    assert all(f"Not shown: {what}" in page.text for what in missing)


@pytest.mark.parametrize(
    "damaged",
    [
        "params.yaml",
        "out/timings.json",
        "out/renders/showcase/manifest.json",
        "out/selection/decisions.parquet",
        "out/encoder/reconstructions.png",
        "out/encoder/log.jsonl",
        "out/metrics/depth/metrics.json",
        "out/renders/eval/part-000000.parquet",
    ],
)
def test_a_damaged_output_costs_its_part_only(pipeline: Path, damaged: str) -> None:
    (pipeline / damaged).write_bytes(b"\xff{: nonsense")
    missing = {entry.what for entry in collect(pipeline).missing}
    assert "curated photographs" in missing and 2 <= len(missing) <= 4
    assert "What was run" in render_page(collect(pipeline))


def test_a_sheet_is_cut_at_its_white_rows(pipeline: Path) -> None:
    sheet = read_png(pipeline / "out/encoder/reconstructions.png")
    assert [row.shape[0] for row in split_rows(sheet)] == [32, 32]
    padded = np.pad(sheet, ((3, 2), (0, 0), (0, 0)), constant_values=255)
    assert [row.shape[0] for row in split_rows(padded)] == [32, 32]
    assert split_rows(np.full((4, 4, 3), 255, np.uint8)) == []


def test_charts_follow_the_page() -> None:
    for chart in (
        bar_chart({"1": 3, "2": 1}, "people", "images"),
        line_chart([(1.0, 2.0), (2.0, 1.0)], "step", "loss"),
    ):
        assert chart.startswith("<svg") and "currentColor" in chart and "var(--accent)" in chart
        assert "#0" not in chart and 'width="' not in chart[: chart.index(">")]


def test_figures_are_printed_for_people() -> None:
    assert [number(value) for value in (0.123456, 12345, None, "x")] == [
        "0.1235",
        "12,345",
        "\N{EN DASH}",
        "x",
    ]
    assert [duration(value) for value in (4.4, 65.0, 600.0)] == ["4 s", "1 min 05 s", "10 min 00 s"]
    assert [size(value) for value in (999, 1500, 2_500_000)] == ["999 B", "1.5 kB", "2.5 MB"]
    counts = (0, 9_999, 12_345, 999_499, 999_500, 300_000_000, 1_020_000_000)
    assert [compact(count) for count in counts] == ["0", "9,999", "12.3 k", "999 k", "1 M", "300 M", "1.02 B"]
    shares = [(0, 5), (5, 5), (1, 3), (1, 10**6), (10**6 - 1, 10**6), (0, 0)]
    told = ["0 %", "100 %", "33.3 %", "< 0.1 %", "> 99.9 %", "\N{EN DASH}"]
    assert [percent(part, whole) for part, whole in shares] == told


def test_png_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(OSError, match="not a picture"):
        read_png(tmp_path / "x.png")
