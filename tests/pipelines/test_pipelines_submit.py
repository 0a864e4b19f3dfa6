"""`vitruvian submit`: what is sent, that it is sent once, and a real head that runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import submit as api
from pipelines.cli.submit import prepare
from pipelines.executors.rehearsal import Rehearsal, rehearse
from shards.errors import UsageError, VitruvianError
from shards.manifest import read_manifest

VITRUVIAN = str(Path(sys.executable).parent / "vitruvian")


@dataclass
class FakeCluster:
    """The Jobs API as far as `submit` uses it: ids are taken once and for all."""

    states: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    rival: str | None = None  # somebody who takes this id between our question and our request

    def list_jobs(self) -> list[Any]:
        outs = {request["submission_id"]: request["metadata"] for request in self.requests}
        return [
            SimpleNamespace(
                submission_id=name,
                status=state,
                message="",
                entrypoint="",
                start_time=None,
                end_time=None,
                driver_exit_code=None,
                metadata=outs.get(name),
            )
            for name, state in self.states.items()
        ]

    def submit_job(self, **request: Any) -> str:
        name = request["submission_id"]
        if self.rival:
            self.states[self.rival], self.rival = "RUNNING", None
        if name in self.states:
            raise RuntimeError(f"job {name} exists")
        folder = Path(request["runtime_env"]["working_dir"])
        self.requests.append({**request, "sent": {str(p.relative_to(folder)) for p in folder.rglob("*")}})
        self.states[name] = "RUNNING"
        return str(name)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Six small pictures, one of them broken."""
    folder, random = tmp_path / "pool", np.random.default_rng(5)
    folder.mkdir()
    for number in range(5):
        Image.fromarray(random.integers(0, 255, (64, 96, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "5.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    return folder


def annotate(pool: Path, *more: str) -> list[str]:
    return ["curate", "annotate", str(pool), "--out", str(pool.parent / "out"), *more]


def test_a_command_is_made_fit_for_another_machine(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pool.parent)
    Path("c.yaml").write_text("{}\n")
    how = ["--workers", "3", "--executor", "inline", "--quiet"]
    made = prepare(["curate", "annotate", "pool", "--out", "out", "--config", "c.yaml", *how])
    root = pool.parent
    assert made.words == (
        *("curate", "annotate", f"{root}/pool", "--out", f"{root}/out", "--config"),
        *("submitted/config-c.yaml", "--workers", "3", "--quiet", "--executor", "ray"),
    )
    assert made.files == {"config-c.yaml": b"{}\n"} and made.out == f"{root}/out"
    assert made.entrypoint("/opt/py thon").startswith("'/opt/py thon' -m pipelines curate annotate ")


def test_urls_and_names_of_rules_stay_as_they_are(tmp_path: Path) -> None:
    words = ["curate", "select", "s3://bucket//annotations", "--out", str(tmp_path), "--rules", "humans"]
    assert prepare(words).words == tuple(words)


def test_the_id_says_what_is_made_and_not_how(pool: Path) -> None:
    config = pool.parent / "c.yaml"
    config.write_text("{}\n")
    base = prepare(annotate(pool, "--config", str(config))).base
    assert base.startswith("annotate-") and len(base) == len("annotate-") + 12
    assert prepare(annotate(pool, "--config", str(config), "--workers", "7", "--quiet")).base == base
    assert prepare(annotate(pool)).base != base
    config.write_text("batch: 4\n")
    assert prepare(annotate(pool, "--config", str(config))).base != base


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["curate"], "expected one of .*annotate"),
        (["curate", "guess", "x"], "expected one of .*annotate"),
        (["run", "demo"], "every node sees"),
    ],
)
def test_what_cannot_be_submitted_is_a_usage_error(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(words)


def test_a_submission_runs_once_and_again_after_its_end(pool: Path) -> None:
    cluster, made = FakeCluster(), prepare(annotate(pool))
    first = api.submit(cluster, made, {"A": "1"})
    assert first == api.Submitted(made.base, fresh=True)
    assert api.submit(cluster, made, {}) == api.Submitted(made.base, fresh=False)
    for ended, following in (("FAILED", "-2"), ("STOPPED", "-3"), ("SUCCEEDED", "-4")):
        cluster.states = dict.fromkeys(cluster.states, ended)
        assert api.submit(cluster, made, {}) == api.Submitted(made.base + following, fresh=True)
    request = cluster.requests[0]
    assert request["runtime_env"]["env_vars"]["A"] == "1" and "pip" not in request["runtime_env"]
    assert {"pipelines/__main__.py", "curation/annotate.py", "submitted"} <= request["sent"]
    assert not [name for name in request["sent"] if "__pycache__" in name or name.startswith(("tests", "."))]


def test_of_two_that_submit_at_once_one_gets_the_others_job(pool: Path) -> None:
    made = prepare(annotate(pool))
    cluster = FakeCluster(rival=made.base)
    assert api.submit(cluster, made, {}) == api.Submitted(made.base, fresh=False)


def test_a_refusal_is_not_taken_for_a_rival(pool: Path) -> None:
    cluster = FakeCluster()
    cluster.submit_job = lambda **_: (_ for _ in ()).throw(RuntimeError("disk full"))  # type: ignore[method-assign]
    with pytest.raises(VitruvianError, match=r"refused the job annotate-.*disk full"):
        api.submit(cluster, prepare(annotate(pool)), {})


def test_two_jobs_do_not_write_one_folder(pool: Path) -> None:
    cluster = FakeCluster()
    first = api.submit(cluster, prepare(annotate(pool)), {})
    other = prepare(annotate(pool, "--section", "x"))
    with pytest.raises(UsageError, match=f"job {first.id} is writing there"):
        api.submit(cluster, other, {})
    cluster.states[first.id] = "STOPPED"
    assert api.submit(cluster, other, {}).fresh


def test_an_address_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # of the cluster, not of its Jobs API
    with pytest.raises(UsageError, match="http://head:8265"):
        api.connect(None)


# A real head


@pytest.fixture(scope="module")
def head() -> Iterator[Rehearsal]:
    with rehearse([2]) as cluster:
        yield cluster


def vitruvian(head: Rehearsal, *words: str, code: int = 0, **environment: str) -> str:
    env = {**head.environment, **environment}
    env.pop("RAY_ADDRESS")
    done = subprocess.run(
        [VITRUVIAN, *words], env=env, cwd="/", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_a_job_on_a_real_head(head: Rehearsal, pool: Path) -> None:
    config = pool.parent / "c.yaml"
    config.write_text("pool: {files_per_unit: 2}\n")
    command = annotate(pool, "--config", str(config), "--quiet")
    place = ("--address", head.dashboard)
    printed = vitruvian(head, "submit", command[0], *place, "--wait", *command[1:])
    job = printed.splitlines()[0]
    assert "6 inputs annotated (1 decode:" in printed
    told = json.loads(vitruvian(head, "submit", "status", job, *place, "--json"))
    assert (told["state"], told["code"], told["out"]) == ("SUCCEEDED", 0, str(pool.parent / "out"))
    inline = pool.parent / "inline"
    env = {**os.environ, "RAY_ADDRESS": "http://nobody:1"}
    here = ["curate", "annotate", str(pool), "--out", str(inline), "--config", str(config), "--quiet"]
    subprocess.run([VITRUVIAN, *here], env=env, check=True, capture_output=True)
    assert read_manifest(inline).digest == read_manifest(pool.parent / "out").digest

    again = vitruvian(head, "submit", command[0], *place, "--wait", *command[1:])
    assert again.splitlines()[0] == f"{job}-2" and "up to date" in again
    assert vitruvian(head, "submit", "logs", f"{job}-2", *place) in again
    listed = vitruvian(head, "submit", "list", *place)
    assert [line.split()[0] for line in listed.splitlines()] == [job, f"{job}-2"]


def test_a_failed_job_ends_the_wait_with_its_code(head: Rehearsal, pool: Path) -> None:
    config = pool.parent / "bad.yaml"
    config.write_text("batch: none\n")
    words = annotate(pool, "--config", str(config))
    place = ("--address", head.dashboard)
    printed = vitruvian(head, "submit", words[0], *place, "--wait", *words[1:], code=2)
    assert "batch" in printed


def test_without_the_token_the_error_says_what_is_missing(head: Rehearsal) -> None:
    env = {**head.environment, "RAY_AUTH_TOKEN": "wrong"}
    words = [VITRUVIAN, "submit", "list", "--address", head.dashboard]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "RAY_AUTH_TOKEN" in done.stderr


def test_an_unknown_job_is_a_usage_error(head: Rehearsal) -> None:
    env = {**head.environment}
    words = [VITRUVIAN, "submit", "status", "annotate-0", "--address", head.dashboard]
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and "no such job" in done.stderr
