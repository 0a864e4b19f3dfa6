"""A job that is killed, short of disk space or met by a crashing scan ends, when run again, in the manifest
of an uninterrupted run, byte for byte; what fails for good is listed.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trimesh

from render.job import REJECTED, RenderWorker, plan, provenance, stage_key
from render.recipe import RenderConfig
from render.spec import SampleSpec
from shards.reader import Dataset
from shards.units import Stage, Unit, close_stage, open_stage, quarantined, run_unit

VITRUVIAN = str(Path(sys.executable).parent / "vitruvian")
CONFIG = {"identities": 3, "views": 1, "identities_per_unit": 1, "width": 48, "height": 64, "samples": 2}


def _command(folder: Path, out: str) -> list[str]:
    config = folder / "params.yaml"
    config.write_text(json.dumps({"render": {"train": CONFIG}}))
    options = ["--config", str(config), "--section", "render.train"]
    return [VITRUVIAN, "render", "run", *options, "--out", str(folder / out), "--json", "--quiet"]


def _wait_for_a_shard(out: Path, process: "subprocess.Popen[bytes]") -> None:
    while not list(out.glob("identity-*.json")) and process.poll() is None:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = RenderConfig.model_validate(CONFIG)
    out = tmp_path_factory.mktemp("render") / "whole"
    stage = open_stage(out, "render", stage_key(config))
    units = plan(config)
    outcomes = [run_unit(stage, unit, RenderWorker(threads=2)) for unit in units]
    assert [outcome.status for outcome in outcomes] == ["done"] * 3, outcomes
    close_stage(stage, units, provenance(config))
    return out


def test_killed_and_resumed_is_byte_identical(uninterrupted: Path, tmp_path: Path) -> None:
    command, out = _command(tmp_path, "out"), tmp_path / "out"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _wait_for_a_shard(out, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "manifest.json").exists()
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(resumed.stdout)
    assert result["images"] == 3 and result["kept_shards"] >= 1
    assert (out / "manifest.json").read_bytes() == (uninterrupted / "manifest.json").read_bytes()
    for tar in uninterrupted.glob("*.tar"):
        assert (out / tar.name).read_bytes() == tar.read_bytes()


def test_a_full_disk_quarantines_and_a_second_run_makes_good(uninterrupted: Path, tmp_path: Path) -> None:
    command, out = _command(tmp_path, "out"), tmp_path / "out"
    full = subprocess.run(command, capture_output=True, text=True, preexec_fn=_no_large_files)
    assert full.returncode == 3, full.stderr
    names = json.loads(full.stdout.splitlines()[-1])["quarantined"]  # OpenEXR complains above
    assert names == [unit.name for unit in plan(RenderConfig.model_validate(CONFIG))]
    assert not list(out.glob("*.tar"))
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(resumed.stdout)["images"] == 3
    assert (out / "manifest.json").read_bytes() == (uninterrupted / "manifest.json").read_bytes()


def _no_large_files() -> None:
    """Any write beyond 12 kB of a file fails, as on a disk that is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))


@dataclass(frozen=True)
class Deadly(RenderWorker):
    """Dies at one unit, as when Blender crashes on a scan."""

    victim: str = ""

    def __call__(self, stage: Stage, unit: Unit) -> None:
        if unit.name == self.victim:
            os.kill(os.getpid(), signal.SIGKILL)
        super().__call__(stage, unit)


@pytest.mark.slow
def test_a_unit_that_kills_its_worker_is_quarantined_and_costs_only_itself(
    uninterrupted: Path, tmp_path: Path
) -> None:
    from pipelines.executors import run_units

    config = RenderConfig.model_validate(CONFIG)
    stage, units = open_stage(tmp_path / "out", "render", stage_key(config)), plan(config)
    worker = Deadly(threads=1, victim=units[1].name)
    outcomes = {o.unit: o.status for o in run_units(stage, units, worker, executor="ray", workers=1)}
    assert [outcomes[unit.name] for unit in units] == ["done", "quarantined", "done"]
    assert "died during attempt 3" in quarantined(stage)[0].error
    assert close_stage(stage, units, provenance(config)).quarantined == (units[1].name,)
    again = open_stage(tmp_path / "out", "render", stage_key(config))
    assert run_unit(again, units[1], RenderWorker(threads=1)).status == "done"
    close_stage(again, units, provenance(config))
    assert (tmp_path / "out/manifest.json").read_bytes() == (uninterrupted / "manifest.json").read_bytes()


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_replaced(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [*_command(tmp_path, "out"), "--executor", "ray", "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    attempts = out / ".stage" / "attempts"
    while not (found := sorted(attempts.glob("*.1.json"))) and process.poll() is None:
        time.sleep(0.02)
    os.kill(json.loads(found[0].read_bytes())["pid"], signal.SIGKILL)
    stdout, _ = process.communicate()
    assert (
        process.returncode == 0 and json.loads(stdout.splitlines()[-1])["quarantined"] == []
    )  # Ray reports the death above
    assert (out / "manifest.json").read_bytes() == (uninterrupted / "manifest.json").read_bytes()


def test_one_rebuilds_a_sample_and_compares_its_bytes(uninterrupted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(uninterrupted, copy)
    key = next(iter(Dataset.open(copy).keys()))
    same = _one(key, "--from", str(copy))
    assert same.returncode == 0 and "members agree, byte for byte" in same.stdout
    tar = next(path for path in copy.glob("*.tar") if key.encode() in path.read_bytes())
    content = bytearray(tar.read_bytes())
    at = content.index(b"ustar", content.index(f"{key}.keypoints.npy".encode())) + 255 + 128 + 60
    content[at] ^= 1  # a number of the keypoints
    tar.write_bytes(bytes(content))
    other = _one(key, "--from", str(copy))
    assert other.returncode == 1 and f"{key}.keypoints.npy: differs" in other.stderr
    assert _one("0" * 32, "--from", str(copy)).returncode == 2


def _one(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([VITRUVIAN, "render", "one", *arguments], capture_output=True, text=True)


def test_the_index_knows_each_sample(uninterrupted: Path) -> None:
    dataset = Dataset.open(uninterrupted)
    table = dataset.table()
    assert sorted(table["identity"].to_pylist()) == ["0", "1", "2"]
    assert set(table["framing"].to_pylist()) <= {"face", "upper_body", "full_body"}
    assert table["recipe"].to_pylist() == ["people-v1+changed"] * 3
    assert table["noise"].to_pylist() == [False] * 3 and table["scan"].to_pylist() == [None] * 3
    assert dataset[0].meta()["provenance"]["spec"]["settings"]["width"] == 48


def test_rejects_are_counted_and_kept(tmp_path: Path) -> None:
    config = RenderConfig.model_validate({**CONFIG, "identities": 1, "exposure_ev": (-25.0, -25.0)})
    stage = open_stage(tmp_path / "dark", "render", stage_key(config))
    outcome = run_unit(stage, plan(config)[0], RenderWorker(threads=2))
    assert outcome.samples == 0 and sum(outcome.rejects.values()) == 1
    assert "rgb:" in next(iter(outcome.rejects))
    assert len(list((tmp_path / "dark" / REJECTED).glob("*.png"))) == 1


def _scan_job(folder: Path, **fields: Any) -> RenderConfig:
    """Two bodies of a person's size as scans, and one that is no mesh."""
    folder.mkdir(exist_ok=True)
    for name, radius in (("cara", 0.2), ("dora", 0.25)):
        trimesh.creation.capsule(height=1.7 - 2 * radius, radius=radius).export(folder / f"{name}.ply")
    (folder / "anna.ply").write_bytes(b"ply\nno mesh at all\n")
    scans = {"folder": folder, "up": "+z", "front": "-y", "unit": "m"}
    size = {"width": 48, "height": 64, "samples": 2, "views": 2}
    return RenderConfig.model_validate({"recipe": "eval-v1", "scans": scans, **size, **fields})


def test_a_rejected_scan_is_counted_and_the_others_are_rendered(tmp_path: Path) -> None:
    config = _scan_job(tmp_path / "scans")
    stage, units = open_stage(tmp_path / "out", "render", stage_key(config)), plan(config)
    outcomes = [run_unit(stage, unit, RenderWorker(threads=1)) for unit in units]
    assert [outcome.status for outcome in outcomes] == ["done"] * 3, outcomes
    assert [outcome.samples for outcome in outcomes] == [0, 2, 2], outcomes
    assert sum(outcomes[0].rejects.values()) == 2
    close_stage(stage, units, provenance(config))
    table = Dataset.open(tmp_path / "out").table()
    assert table["scan"].to_pylist() == table["identity"].to_pylist() == ["cara", "cara", "dora", "dora"]


def test_units_of_scans_are_named_by_content(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    before = {unit.name: unit for unit in plan(_scan_job(folder, lights=2))}
    key = stage_key(_scan_job(folder))
    assert len(before) == 6
    trimesh.creation.box((0.4, 0.3, 1.6)).export(folder / "bella.ply")
    after = {unit.name: unit for unit in plan(_scan_job(folder, lights=3))}
    assert len(after) == 12 and stage_key(_scan_job(folder)) == key
    assert all(after[name] == unit for name, unit in before.items())
    trimesh.creation.box((0.41, 0.3, 1.6)).export(folder / "bella.ply")
    changed = {unit.name for unit in plan(_scan_job(folder, lights=3))}
    assert len(changed - set(after)) == 3


def test_units_cover_every_identity_once() -> None:
    units = plan(RenderConfig(identities=10, identities_per_unit=4, first_identity=100))
    assert [unit.payload["identities"] for unit in units] == [
        [100, 101, 102, 103],
        [104, 105, 106, 107],
        [108, 109],
    ]
    assert len({unit.name for unit in units}) == 3


def test_a_longer_job_keeps_the_shards_of_a_shorter_one() -> None:
    short, long = RenderConfig(identities=4), RenderConfig(identities=8, lights=2)
    assert stage_key(short) == stage_key(long) != stage_key(RenderConfig(samples=17))
    assert plan(short)[0] in plan(long)


def test_plan_prints_and_renders_nothing(tmp_path: Path) -> None:
    command = _command(tmp_path, "unused")
    written = tmp_path / "specs.jsonl"
    plan_command = [VITRUVIAN, "render", "plan", *command[3:7], "--json", "--quiet"]
    done = subprocess.run([*plan_command, "--out", str(written)], capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert result["images"] == 3 and result["units"] == 3 and result["rejects"] == {}
    assert sum(row["images"] for row in result["rows"]) == 3
    specs = [SampleSpec.from_json(json.loads(line)) for line in written.read_text().splitlines()]
    assert [spec.placements[0].identity for spec in specs] == ["0", "1", "2"]
    assert not (tmp_path / "unused").exists()


def test_scans_are_inspected_from_the_command_line(tmp_path: Path) -> None:
    job = _scan_job(tmp_path / "scans")
    config = tmp_path / "job.json"
    config.write_text(job.model_dump_json())
    command = [VITRUVIAN, "render", "scans", str(tmp_path / "scans"), "--config", str(config), "--json"]
    reports = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [(report["name"], report["accepted"]) for report in reports] == [
        ("anna", False),
        ("cara", True),
        ("dora", True),
    ]
    assert reports[0]["reason"]
