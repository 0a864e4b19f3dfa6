"""Checkpoints: written beside the loop, whole or absent, checked when loaded; real processes killed with -9
while they write, and ended with SIGTERM.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.distributed.checkpoint.filesystem import FileSystemWriter

import shards.files
from shards.errors import VitruvianError
from train.engine import resume
from train.engine.distributed import World
from train.engine.optim import OptimConfig, adamw
from train.engine.resume import COMMIT, Checkpoints, damage
from train.engine.telemetry import read_log
from train.models.initial import initialise
from train.pretrain import PretrainConfig, leave, pretrain
from train.pretrain import main as pretrain_main

pytestmark = pytest.mark.usefixtures("one_thread")

WORLD = World(0, 1, torch.device("cpu"))
OPTIM = OptimConfig(learning_rate=0.05)
SETTINGS = {
    "size": "tiny", "image_size": [64, 48], "batch": 4, "steps": 12, "base_learning_rate": 0.02,
    "reconstructions": 1, "log_every": 1, "checkpoint_every": 4,
}  # fmt: skip


def build() -> tuple[nn.Linear, torch.optim.AdamW]:
    model = nn.Linear(8, 8)
    initialise(model, 0)
    return model, adamw(model, OPTIM)


def save_steps(folder: Path, *steps: int, **keep: int) -> Checkpoints:
    """Checkpoints whose weights are all the step's number."""
    model, optimizer = build()
    with Checkpoints(folder, WORLD, **keep) as checkpoints:
        for step in steps:
            nn.init.constant_(model.weight, step)
            checkpoints.save(step, model, optimizer)
    return checkpoints


def loaded(folder: Path) -> tuple[int, float]:
    """(step, weights) of what is resumed from."""
    model, optimizer = build()
    step = Checkpoints(folder, WORLD).load_latest(model, optimizer)
    return step, model.weight[0, 0].item()


@contextmanager
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writers wait until the event is set."""
    opened, real = threading.Event(), FileSystemWriter.write_data

    def write(self: Any, *given: Any) -> Any:
        assert opened.wait(60)
        return real(self, *given)

    monkeypatch.setattr(FileSystemWriter, "write_data", write)
    try:
        yield opened
    finally:
        opened.set()


# --- the writer


def test_the_loop_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, optimizer = build()
    nn.init.constant_(model.weight, 7)
    with gate(monkeypatch) as opened, Checkpoints(tmp_path, WORLD) as checkpoints:
        checkpoints.save(1, model, optimizer)
        nn.init.constant_(model.weight, 8)  # what is written was copied before
        assert checkpoints.steps() == []
        threading.Timer(0.5, opened.set).start()
        checkpoints.save(2, model, optimizer)  # waits for the one before
        assert opened.is_set()
        assert checkpoints.steps()[0] == 1
    assert checkpoints.steps() == [1, 2]
    assert loaded(tmp_path) == (2, 8)
    (tmp_path / "step-00000002" / COMMIT).unlink()
    assert loaded(tmp_path) == (1, 7)


def test_a_failed_write_is_an_error_and_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_steps(tmp_path, 1)

    def full(self: Any, *given: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FileSystemWriter, "write_data", full)
    model, optimizer = build()
    checkpoints = Checkpoints(tmp_path, WORLD)
    checkpoints.save(2, model, optimizer)
    while not checkpoints.failed:
        time.sleep(0.01)
    with pytest.raises(VitruvianError, match=r"step-00000002: the checkpoint could not be written.*No space"):
        checkpoints.save(3, model, optimizer)
    assert checkpoints.steps() == [1]


def test_a_failed_write_is_told_at_the_end_at_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr(resume, "write_atomic", refuse)
    with pytest.raises(VitruvianError, match="read-only file system"):
        save_steps(tmp_path, 1)
    assert loaded(tmp_path)[0] == 0


def test_the_last_and_every_so_many_steps_are_kept(tmp_path: Path) -> None:
    assert save_steps(tmp_path, *range(2, 20, 2), keep_last=2, keep_every=5).steps() == [6, 10, 16, 18]
    assert save_steps(tmp_path, 20, keep_last=1, keep_every=5).steps() == [6, 10, 16, 20]
    assert sorted(path.name[-2:] for path in tmp_path.iterdir()) == ["06", "10", "16", "20"]


# --- what is not accepted


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: os.truncate(folder / "__0_0.distcp", 100), "__0_0.distcp has 100 bytes, not"),
        (lambda folder: (folder / "__0_0.distcp").unlink(), "__0_0.distcp is missing"),
        (lambda folder: (folder / ".metadata").unlink(), ".metadata is missing"),
        (lambda folder: (folder / COMMIT).write_text("{"), "commit.json cannot be read"),
        (lambda folder: (folder / COMMIT).unlink(), "commit.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, harm: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_steps(tmp_path, 3, 5)
    harm(tmp_path / "step-00000005")
    assert loaded(tmp_path) == (3, 3)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ") and "step-00000005: damaged checkpoint" in warning
    assert words in warning
    assert save_steps(tmp_path, 5).steps() == [3, 5]  # done again, it takes the damaged one's place
    assert loaded(tmp_path) == (5, 5)


def test_when_all_are_damaged_nothing_is_trained_from_the_start(tmp_path: Path) -> None:
    save_steps(tmp_path, 3, 5)
    for step in (3, 5):
        (tmp_path / f"step-0000000{step}" / ".metadata").unlink()
    with pytest.raises(VitruvianError, match=r"no whole checkpoint is left(.|\n)*0005: dam(.|\n)*0003: dam"):
        loaded(tmp_path)


def test_what_killed_saves_and_deletions_left_is_removed(tmp_path: Path) -> None:
    for name in ("step-00000009.tmp", "step-00000001.old"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__0_0.distcp").write_bytes(b"half")
    assert loaded(tmp_path)[0] == 0
    save_steps(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


# --- real processes


def main(stage: str, marks: str, *arguments: str) -> int:
    """A pretraining whose second save stops for good, at `stage`: its data written but not its table
    ("data"), or all written but not renamed ("commit"). It says so with a file in `marks`.
    """

    def hang() -> None:
        (Path(marks) / f"hangs-{os.environ.get('RANK', 0)}").touch()
        time.sleep(600)

    write_data: Any = FileSystemWriter.write_data
    write_atomic = shards.files.write_atomic

    def slow_data(self: Any, *given: Any) -> Any:
        written = write_data(self, *given)
        if "step-00000008" in str(self.path):
            hang()
        return written

    def slow_commit(path: Path, data: bytes) -> None:
        write_atomic(path, data)
        if "step-00000008" in str(path):
            hang()

    (Path(marks) / f"pid-{os.environ.get('RANK', 0)}").write_text(str(os.getpid()))
    if stage == "data":
        FileSystemWriter.write_data = slow_data  # type: ignore[method-assign, assignment]
    if stage == "commit":
        vars(resume)["write_atomic"] = slow_commit
    return pretrain_main(arguments)


@pytest.fixture(scope="module")
def whole(training_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of one rank."""
    out = tmp_path_factory.mktemp("whole") / "out"
    pretrain(PretrainConfig.model_validate(SETTINGS), training_people, out)
    return out


def start(command: list[str], data: Path, folder: Path, **changes: object) -> subprocess.Popen[str]:
    """A pretraining in `folder`/out, in a process group of its own."""
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(SETTINGS | changes))
    arguments = ["--config", str(settings), "--data", str(data), "--out", str(folder / "out")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, *command, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def torchrun(ranks: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return launcher if ranks > 1 else []


@pytest.mark.parametrize(
    ("stage", "ranks"), [("data", 1), ("data", 2), pytest.param("commit", 1, marks=pytest.mark.slow)]
)
def test_killed_while_saving_a_run_resumes_from_the_checkpoint_before(
    stage: str, ranks: int, training_people: Path, whole: Path, tmp_path: Path
) -> None:
    process = start([*torchrun(ranks), __file__, stage, str(tmp_path)], training_people, tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("hangs-*"))) == (ranks if stage == "data" else 1), process)
    wait_for(lambda: len(read_log(tmp_path / "out")) == 12, process)  # the loop went on meanwhile
    for pid in [process.pid, *(int(path.read_text()) for path in tmp_path.glob("pid-*"))]:
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    folder = tmp_path / "out" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000004", "step-00000008.tmp"]
    assert (folder / "step-00000008.tmp" / COMMIT).exists() == (stage == "commit")
    again = start([*torchrun(ranks), __file__, "", str(tmp_path)], training_people, tmp_path)
    words = again.communicate(timeout=120)[1]
    assert again.returncode == 0, words
    assert "step 5/12" in words and "step 4/12" not in words
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000008", "step-00000012"]
    ours, theirs = ([line["loss"] for line in read_log(out)] for out in (tmp_path / "out", whole))
    assert ours == (theirs if ranks == 1 else pytest.approx(theirs, abs=1e-6, rel=0))


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_after_sigterm_a_run_saves_says_so_and_goes_on_later(
    ranks: int, training_people: Path, tmp_path: Path
) -> None:
    """Every process gets the signal, as under Slurm: the launcher, the ranks, the loaders."""
    command = [*torchrun(ranks), "-m", "train.pretrain"]
    process = start(command, training_people, tmp_path, steps=400, workers=2, checkpoint_every=1000)
    wait_for(lambda: len(read_log(tmp_path / "out")) > 3, process)
    for pid in descendants(process.pid):
        os.kill(pid, signal.SIGTERM)
    words = process.communicate(timeout=60)[1]
    done = read_log(tmp_path / "out")[-1]["step"]
    assert f"stopped by SIGTERM after step {done} of 400" in words
    assert process.returncode == (143 if ranks == 1 else 1)  # torchrun has a code of its own
    (folder,) = (tmp_path / "out" / "checkpoints").iterdir()
    assert damage(folder) is None
    assert json.loads((folder / COMMIT).read_text())["step"] == done
    again = start(command, training_people, tmp_path, steps=400, workers=0, checkpoint_every=1000)
    wait_for(lambda: read_log(tmp_path / "out")[-1]["step"] > done, again)
    for pid in reversed(descendants(again.pid)):
        os.kill(pid, signal.SIGKILL)
    again.communicate()
    steps = [line["step"] for line in read_log(tmp_path / "out")]
    assert steps == list(range(1, len(steps) + 1))


def descendants(pid: int) -> list[int]:
    """A process and all below it (Linux)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in descendants(int(child)))]


if __name__ == "__main__":
    leave(lambda: main(*sys.argv[1:]))
