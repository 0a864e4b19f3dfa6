"""A job killed with SIGKILL and run again ends in the manifest of an uninterrupted run, byte for byte."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from render.job import REJECTED, RenderWorker, plan, provenance, stage_key
from render.recipe import RenderConfig
from shards.reader import Dataset
from shards.units import close_stage, open_stage, run_unit

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


def test_the_index_knows_each_sample(uninterrupted: Path) -> None:
    dataset = Dataset.open(uninterrupted)
    table = dataset.table()
    assert sorted(table["identity"].to_pylist()) == [0, 1, 2]
    assert set(table["framing"].to_pylist()) <= {"face", "upper_body", "full_body"}
    assert dataset[0].meta()["provenance"]["spec"]["settings"]["width"] == 48


def test_rejects_are_counted_and_kept(tmp_path: Path) -> None:
    config = RenderConfig.model_validate({**CONFIG, "identities": 1, "exposure_ev": (-25.0, -25.0)})
    stage = open_stage(tmp_path / "dark", "render", stage_key(config))
    outcome = run_unit(stage, plan(config)[0], RenderWorker(threads=2))
    assert outcome.samples == 0 and sum(outcome.rejects.values()) == 1
    assert "rgb:" in next(iter(outcome.rejects))
    assert len(list((tmp_path / "dark" / REJECTED).glob("*.png"))) == 1


def test_plan_prints_and_renders_nothing(tmp_path: Path) -> None:
    command = _command(tmp_path, "unused")
    done = subprocess.run(
        [VITRUVIAN, "render", "plan", *command[3:7], "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["images"] == 3
    assert not (tmp_path / "unused").exists()
