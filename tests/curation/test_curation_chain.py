"""annotate, select, materialise on a pool where every reason occurs; killed, repeated, on Ray: the same
bytes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.annotate import AnnotateConfig, plan_annotate
from curation.columns import ANNOTATIONS, CAMERA, DECODED_OK, MEASURED, QUALITY
from curation.decisions import examples, funnel, read_decisions
from curation.job import Job
from curation.materialise import MaterialiseConfig, plan_materialise
from curation.pool import PoolConfig, list_pool, read_input
from curation.rules import RuleSet, parse_rules
from curation.select import plan_select
from shards.errors import UsageError
from shards.manifest import Manifest, read_manifest
from shards.reader import Dataset
from shards.units import open_stage, quarantined, run_unit
from shards.verify import verify_bytes

ANNOTATE = AnnotateConfig(pool=PoolConfig(files_per_unit=4), batch=3)


def rules(score: float = 0.5, text: float = 0.02) -> RuleSet:
    """What the smoke detector can satisfy."""
    listed: list[dict[str, Any]] = [
        {"reason": "size:small", "column": "short_side", "at_least": 64},
        {"reason": "duplicate", "duplicates": {"bytes": True, "pixels": True}},
        {"reason": "text:area", "column": "text_area", "at_most": text},
        {"reason": "person", "person": {"score_above": score, "side_above": 120}},
    ]
    return parse_rules({"rules": listed})


SELECT = rules()
EXPECTED = {
    "bad/animated.gif": "decode:unsupported",
    "bad/bomb.png": "decode:too-large",
    "bad/corrupt.png": "decode:corrupt",
    "bad/empty.jpg": "decode:empty",
    "bad/page.jpg": "decode:not-an-image",
    "bad/truncated.jpg": "decode:truncated",
    "bad/ünïcode 名前.txt": "decode:not-an-image",
    "captions/caption.jpg": "text:area",
    "people/cameraman.png": None,
    "people/far away.jpg": "person:small",
    "people/mirrored.webp": None,
    "people/thumbnail.jpg": "size:small",
    "things/coffee.jpg": "person:none",
    "things/logo.png": "person:score",
    "things/rocket.jpg": "person:none",
}
TRIPLETS = ("people/astronaut.png", "copies/same bytes.png", "copies/same pixels.png")
RunJob = Callable[[Job, Path], Manifest]


@pytest.fixture(scope="module")
def annotations(files_pool: Path, run_job: RunJob, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chain") / "annotations"
    run_job(plan_annotate(files_pool, ANNOTATE), out)
    return out


@pytest.fixture(scope="module")
def selection(annotations: Path, run_job: RunJob) -> Path:
    out = annotations.parent / "selection"
    run_job(plan_select(annotations, SELECT), out)
    return out


@pytest.fixture(scope="module")
def curated(files_pool: Path, annotations: Path, selection: Path, run_job: RunJob) -> Path:
    out = selection.parent / "curated"
    config = MaterialiseConfig(samples_per_shard=2)
    run_job(plan_materialise(files_pool, annotations, selection, out, config), out)
    return out


def snapshot(folder: Path) -> dict[str, bytes]:
    """The digested bytes of a dataset: everything but markers, which hold the run."""
    markers = {f"{shard.name}.json" for shard in read_manifest(folder).shards}
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name not in markers]
    return {path.name: path.read_bytes() for path in files}


def test_every_input_has_one_row_with_its_reason(
    files_pool: Path, annotations: Path, selection: Path
) -> None:
    sources = Dataset.open(annotations).table()["source"].to_pylist()
    decisions = read_decisions(selection).to_pylist()
    rows = [row | {"source": source} for row, source in zip(decisions, sources, strict=True)]
    files = {path.relative_to(files_pool).as_posix() for path in files_pool.rglob("*") if path.is_file()}
    assert sorted(row["source"] for row in rows) == sorted(files)
    reasons = {row["source"]: row["reason"] for row in rows}
    keys = {row["source"]: row["key"] for row in rows}
    keeper = [source for source in TRIPLETS if reasons[source] is None]
    assert len(keeper) == 1 and keys[keeper[0]] == min(keys[source] for source in TRIPLETS)
    for source in TRIPLETS:
        assert reasons.pop(source) in (None, f"duplicate:{keys[keeper[0]]}")
    assert reasons == EXPECTED


def test_tables_have_the_schema_and_no_decision(files_pool: Path, annotations: Path) -> None:
    dataset = Dataset.open(annotations)
    assert len(dataset.manifest.shards) == len(list_pool(files_pool, ANNOTATE.pool).units) > 2
    for shard in dataset.manifest.shards:
        assert pq.read_schema(annotations / f"{shard.name}.parquet").equals(ANNOTATIONS)
    bomb = dataset.table().filter(pa.compute.field("source") == "bad/bomb.png").to_pylist()[0]
    assert (bomb["width"], bomb["height"], bomb["person_boxes"]) == (60_000, 60_000, None)


def test_whatever_was_decoded_was_measured(annotations: Path) -> None:
    """By the models whose identities the manifest names; what no model was configured for stays null."""
    table = Dataset.open(annotations).table()
    decoded = table.filter(pa.compute.equal(table["status"], DECODED_OK))
    unmeasured = {name for name in decoded.column_names if decoded[name].null_count == decoded.num_rows}
    sometimes = {"member", "offset", "metadata", *(field.name for field in CAMERA)}
    assert unmeasured - sometimes == {"unnatural", "aesthetic"}
    for field in (*QUALITY, *MEASURED):
        if field.name not in unmeasured:
            assert decoded[field.name].null_count == 0, field.name
            assert table[field.name].null_count == table.num_rows - decoded.num_rows, field.name
    models = read_manifest(annotations).provenance["models"]
    assert set(models) == {"libraries", "text", "watermark", "art", "detector"}


def test_the_funnel_and_its_examples(files_pool: Path, annotations: Path, selection: Path) -> None:
    counts = funnel(selection)
    assert (counts["inputs"], counts["kept"]) == (18, 3)
    assert counts["inputs"] - sum(stage["rejected"] for stage in counts["stages"]) == counts["kept"]
    for stage in counts["stages"]:
        for reason, count in stage["reasons"].items():
            rows = examples(annotations, selection, 100, [reason])[reason]
            assert len(rows) == count and all(row["reason"].startswith(reason) for row in rows)
    kept = examples(annotations, selection, 2)["kept"]
    assert len(kept) == 2 and kept[0]["key"] < kept[1]["key"]
    assert read_input(files_pool, kept[0]) == (files_pool / kept[0]["source"]).read_bytes()


def test_bytes_travel_unchanged_with_their_provenance(files_pool: Path, curated: Path) -> None:
    dataset = Dataset.open(curated)
    assert len(dataset) == 3 and not list(verify_bytes(str(curated)))
    extensions = set()
    for sample in dataset:
        origin = sample.meta()["provenance"]
        (extension,) = set(sample.members) - {"json"}
        extensions.add(extension)
        assert sample.members[extension] == (files_pool / origin["source"]).read_bytes()
        assert sample.key == origin["sha256"][:32]
        assert origin["person_boxes"][0]["score"] > 0.5
    assert extensions == {"png", "webp"}
    assert set(dataset.table().column_names) >= {"width", "height", "people", "score", "source"}


def test_thresholds_cost_no_pixels(annotations: Path, run_job: RunJob, tmp_path: Path) -> None:
    strict = rules(score=0.999)
    run_job(plan_select(annotations, strict), tmp_path / "strict")
    assert funnel(tmp_path / "strict")["kept"] == 0
    one, other = plan_select(annotations, strict), plan_select(annotations, SELECT)
    assert one.key != other.key and one.key == plan_select(annotations, strict).key


def test_another_selection_remakes_only_the_shards_it_changes(
    files_pool: Path, annotations: Path, selection: Path, run_job: RunJob, tmp_path: Path
) -> None:
    config = MaterialiseConfig(samples_per_shard=1)
    run_job(plan_select(annotations, rules(text=0.5)), tmp_path / "more")
    few = plan_materialise(files_pool, annotations, selection, tmp_path / "out", config)
    many = plan_materialise(files_pool, annotations, tmp_path / "more", tmp_path / "out", config)
    assert few.key == many.key and few.units != many.units


def test_a_change_of_the_pool_is_noticed(
    annotations: Path, selection: Path, files_pool: Path, tmp_path: Path
) -> None:
    job = plan_materialise(tmp_path, annotations, selection, tmp_path / "out", MaterialiseConfig())
    stage = open_stage(tmp_path / "out", job.name, job.key)
    assert run_unit(stage, job.units[0], job.worker).status == "quarantined"
    assert "run annotate again" in quarantined(stage)[0].error


def test_select_and_materialise_refuse_what_is_not_theirs(
    selection: Path, files_pool: Path, annotations: Path
) -> None:
    with pytest.raises(UsageError, match="expected the output of `vitruvian curate annotate`"):
        plan_select(selection, SELECT)
    with pytest.raises(UsageError, match="expected the output of `vitruvian curate select`"):
        plan_materialise(
            files_pool, annotations, annotations, annotations.parent / "none", MaterialiseConfig()
        )


def test_a_broken_tar_is_quarantined_with_exit_3(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "bad.tar").write_bytes(b"no tar at all" * 100)
    arguments = ["curate", "annotate", str(tmp_path / "pool"), "--out", str(tmp_path / "out"), "--quiet"]
    result = vitruvian(*arguments)
    assert result[0] == 3 and "tar-bad-" in result[1] and "not a tar" in result[1]
    with pytest.raises(UsageError, match="quarantine"):
        plan_select(tmp_path / "out", SELECT)


def vitruvian(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the command line, in a process of its own."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments]


def annotate_command(pool: Path, out: Path, *more: str) -> list[str]:
    config = out.parent / "params.yaml"
    config.write_text(json.dumps({"annotate": ANNOTATE.model_dump(mode="json")}))
    options = ["--config", str(config), "--section", "annotate", "--out", str(out), "--quiet"]
    return command("curate", "annotate", str(pool), *options, *more)


def test_killed_and_run_again_gives_the_same_bytes(
    files_pool: Path, annotations: Path, tmp_path: Path
) -> None:
    out = tmp_path / "annotations"
    process = subprocess.Popen(annotate_command(files_pool, out))
    try:
        while not list(out.glob("files-*.json")):
            assert process.poll() is None, "finished before it could be killed"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "manifest.json").exists()
    tables = [marker.with_suffix(".parquet") for marker in out.glob("files-*.json")]  # without one: not done
    done = {path: path.stat().st_mtime_ns for path in tables}
    subprocess.run(annotate_command(files_pool, out), check=True, timeout=120)
    assert snapshot(out) == snapshot(annotations)
    assert len(done) < len(read_manifest(out).shards) and all(
        path.stat().st_mtime_ns == then for path, then in done.items()
    )
    again = subprocess.run(annotate_command(files_pool, out), check=True, capture_output=True, text=True)
    assert "up to date" in again.stderr


def test_ray_gives_the_same_bytes(files_pool: Path, annotations: Path, tmp_path: Path) -> None:
    out = tmp_path / "annotations"
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    arguments = annotate_command(files_pool, out, "--executor", "ray", "--workers", "2")
    subprocess.run(arguments, check=True, timeout=240, env=environment)
    assert snapshot(out) == snapshot(annotations)


def test_the_command_line_end_to_end(files_pool: Path, annotations: Path, tmp_path: Path) -> None:
    config = tmp_path / "params.yaml"
    config.write_text(json.dumps({"curate": {"select": SELECT.model_dump(mode="json", exclude_none=True)}}))
    select = ["curate", "select", str(annotations), "--config", str(config), "--section", "curate.select"]
    code, shown = vitruvian(*select, "--out", str(tmp_path / "selection"))
    assert code == 0 and "3 of 18 inputs kept" in shown and "person:small" in shown
    code, shown = vitruvian(*select, "--out", str(tmp_path / "selection"), "--json")
    assert code == 0 and '"kept": 3' in shown
    config.write_text(json.dumps({"curate": {"select": {"people": {"score_above": 5}}}}))
    code, shown = vitruvian(*select, "--out", str(tmp_path / "other"))
    assert code == 2 and "people.score_above" in shown and "less than or equal to 1" in shown
    materialise = ["curate", "materialise", str(files_pool), str(annotations), str(tmp_path / "selection")]
    code, shown = vitruvian(*materialise, "--out", str(tmp_path / "curated"), "--quiet")
    assert code == 0 and "3 images in 1 shards" in shown
