"""Training under a real Ray of two CPU workers: numbers of one rank, what a killed rank costs, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipelines.cli.train import app
from pipelines.executors import connect
from pipelines.ray_train import Ranks, launch
from shards.errors import UsageError, VitruvianError
from tests.photos import SETTINGS, smooth_photos, write_photos
from train.engine.telemetry import Progress, read_log
from train.pretrain import PretrainConfig, pretrain

CONFIG = PretrainConfig.model_validate(SETTINGS)


def real_ray(test: Any) -> Any:
    """Half a minute each: Ray starts processes that each import torch."""
    return pytest.mark.slow(pytest.mark.usefixtures("one_ray")(test))


class KillOnce:
    """Kills its own process, as an out-of-memory killer would, the first time that `step` is logged."""

    def __init__(self, step: int, marker: Path) -> None:
        self.step, self.marker = step, marker

    def __call__(self, progress: Progress) -> None:
        if progress.step == self.step and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def always_dies() -> None:
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


def is_wrong() -> None:
    """One rank finds the data damaged; the other waits for it."""
    if os.environ["RANK"] == "1":
        raise VitruvianError("sample 0f: member jpg does not decode")
    time.sleep(60)


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """One local Ray for the module; launch must use it and leave it running."""
    with connect(workers=2, address="local") as ray:
        from ray import cloudpickle

        cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a Ray worker cannot import a test file
        yield
        assert ray.is_initialized()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), smooth_photos())


@pytest.fixture(scope="module")
def alone(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of one rank without a launcher."""
    out = tmp_path_factory.mktemp("alone") / "out"
    pretrain(CONFIG, photos, out)
    return losses(out)


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_log(out)]


@real_ray
def test_two_ranks_of_ray_equal_one_rank(photos: Path, alone: list[float], tmp_path: Path) -> None:
    settings, out = tmp_path / "settings.yaml", tmp_path / "out"
    settings.write_text(yaml.safe_dump({"pretrain": SETTINGS}))
    given = ["pretrain", "--config", str(settings), "--data", str(photos), "--out", str(out), "--json"]
    run = CliRunner().invoke(app, [*given, "--quiet", "--launcher", "ray", "--nproc", "2"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["status"] == "finished"
    assert losses(out) == pytest.approx(alone, abs=1e-6)
    assert json.loads((out / "run.json").read_text())["run"]["ranks"] == 2


@real_ray
def test_what_the_work_says_is_wrong_is_said_here_and_not_tried_again(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(VitruvianError, match=r"^sample 0f: member jpg does not decode$"):
        launch(is_wrong, Ranks(2, 2), tmp_path / "out", restarts=1)
    assert time.monotonic() - began < 55, "waited for the other rank, or tried again"


@real_ray
def test_a_killed_rank_is_replaced_and_the_run_goes_on(
    photos: Path, alone: list[float], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, seen = tmp_path / "out", list[int]()
    work = partial(pretrain, CONFIG, photos, out, KillOnce(3, tmp_path / "killed"))
    result = launch(work, Ranks(2, 2), out, lambda progress: seen.append(progress.step))
    assert (result.status, result.encoder) == ("finished", out / "encoder.safetensors")
    assert losses(out) == pytest.approx(alone, abs=1e-6)
    assert sorted(set(seen)) == [1, 2, 3, 4] and (tmp_path / "killed").exists()
    assert capfd.readouterr().err.count("; starting again") == 1


@real_ray
def test_ranks_that_keep_dying_end_the_run_with_exit_code_1(tmp_path: Path) -> None:
    with pytest.raises(VitruvianError, match="ranks were lost more than 1 times") as caught:
        launch(always_dies, Ranks(1, 1), tmp_path / "out", restarts=1)
    assert not isinstance(caught.value, UsageError)


@real_ray
def test_an_elastic_run_takes_what_there_is(photos: Path, alone: list[float], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert launch(partial(pretrain, CONFIG, photos, out), Ranks(1, 2), out).result["run"]["ranks"] == 2
    assert losses(out) == pytest.approx(alone, abs=1e-6)


@pytest.mark.slow
def test_control_c_ends_a_run_and_is_no_success(photos: Path, alone: list[float], tmp_path: Path) -> None:
    settings, out = tmp_path / "settings.yaml", tmp_path / "out"
    settings.write_text(yaml.safe_dump({"pretrain": SETTINGS | {"steps": 4000, "checkpoint_every": 10}}))
    words = ["pretrain", "--config", str(settings), "--data", str(photos), "--out", str(out), "--quiet"]
    vitruvian = str(Path(sys.executable).parent / "vitruvian")
    run = subprocess.Popen(
        [vitruvian, *words, "--launcher", "ray"], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while len(losses(out)) < 3:
        assert run.poll() is None, run.communicate()
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    _, printed = run.communicate(timeout=120)
    assert run.returncode == 130 and not (out / "run.json").exists(), (run.returncode, printed)
    assert losses(out)[0] == pytest.approx(alone[0], abs=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--nproc", "x"], "expected N, or MIN:MAX"),
        (["--nproc", "3:2"], "expected 1 <= MIN <= MAX"),
        (["--nproc", "1:2"], "torchrun takes one number"),
        (["--launcher", "ray", "--nproc", "2:4"], "every number of ranks that may come; it is not for 3$"),
    ],
)
def test_impossible_numbers_of_ranks_are_refused(given: list[str], message: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"pretrain": SETTINGS}))
    words = ["pretrain", "--config", str(settings), "--data", "D", "--out", str(tmp_path / "out"), *given]
    with pytest.raises(UsageError, match=message):
        CliRunner().invoke(app, words, catch_exceptions=False)
