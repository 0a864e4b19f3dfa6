"""The Slurm script: two torchrun agents that meet over the network stack, a stop before the time limit.

There is no Slurm here. `srun` and `scontrol` are stood in for by scripts that do on this machine what those
do on two nodes: start the command once a node, pass SIGTERM on, end the others when one fails, name the
nodes, note a requeue. Everything else is real: the script, torchrun's rendezvous, gloo, the trainer.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.photos import SETTINGS as QUICK
from tests.photos import smooth_photos, write_photos
from train.engine.telemetry import read_log
from train.pretrain import PretrainConfig, pretrain

SCRIPT = Path(__file__).parents[2] / "pipelines" / "slurm" / "train.sbatch"
SETTINGS = QUICK | {"steps": 40, "checkpoint_every": 1000}
SRUN = """#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
declare -A nodes
trap 'kill -TERM "${!nodes[@]}"' TERM
for node in 0 1; do SLURM_NODEID=$node "$@" & nodes[$!]=$node; done
worst=0
while (( ${#nodes[@]} )); do
    wait -n -p ended "${!nodes[@]}"; code=$?
    [[ -n $ended ]] || continue  # a signal
    unset "nodes[$ended]"
    (( code > worst )) && worst=$code
    (( code && ${#nodes[@]} )) && kill -TERM "${!nodes[@]}"
done
exit $worst
"""
SCONTROL = """#!/usr/bin/env bash
case "$1 $2" in
    "show hostnames") printf 'localhost\\nlocalhost\\n' ;;
    requeue*) echo "$2" >> "$REQUEUED" ;;
    *) exit 1 ;;
esac
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), smooth_photos())


def submit(folder: Path, photos: Path, job: int) -> subprocess.Popen[str]:
    """Start the script as Slurm would on the first of two nodes."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (folder / "settings.yaml").write_text(yaml.safe_dump({"pretrain": SETTINGS}))
    words = ["--config", folder / "settings.yaml", "--section", "pretrain", "--data", photos]
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(SCRIPT.parents[2]),
        "REQUEUED": str(folder / "requeued"),
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": "node[0-1]",
        "SLURM_JOB_NUM_NODES": "2",
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT), *map(str, words), "--out", str(folder / "out")],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(job: subprocess.Popen[str]) -> str:
    """What it printed, once it has ended."""
    try:
        return job.communicate(timeout=300)[0]
    except subprocess.TimeoutExpired:
        job.kill()
        raise AssertionError(job.communicate()[0]) from None


@pytest.mark.slow
def test_two_nodes_stop_in_time_are_queued_again_and_end_where_one_rank_ends(
    photos: Path, tmp_path: Path
) -> None:
    out, job = tmp_path / "out", os.getpid()
    first = submit(tmp_path, photos, job)
    while len(read_log(out)) < 3:
        assert first.poll() is None, end(first)
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    printed = end(first)
    assert first.returncode != 0 and (tmp_path / "requeued").read_text() == f"{job}\n", printed
    stopped = re.search(r"stopped by SIGTERM after step (\d+) of 40", printed)
    assert stopped and 3 <= int(stopped[1]) < 40, printed
    assert (out / "checkpoints" / f"step-{int(stopped[1]):08d}").is_dir() and not (out / "run.json").exists()

    second = submit(tmp_path, photos, job)
    printed = end(second)
    assert second.returncode == 0, printed
    assert json.loads((out / "run.json").read_text())["run"]["ranks"] == 2
    assert (tmp_path / "requeued").read_text() == f"{job}\n", "a finished job is not queued again"

    pretrain(PretrainConfig.model_validate(SETTINGS), photos, tmp_path / "alone")
    ours, theirs = ([line["loss"] for line in read_log(folder)] for folder in (out, tmp_path / "alone"))
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.slow
def test_a_failure_ends_the_job_and_is_not_queued_again(tmp_path: Path) -> None:
    job = submit(tmp_path, tmp_path / "nowhere", os.getpid() + 1)
    printed = end(job)
    assert job.returncode != 0 and "no manifest.json there" in printed
    assert not (tmp_path / "requeued").exists()


def test_the_script_is_sound() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
