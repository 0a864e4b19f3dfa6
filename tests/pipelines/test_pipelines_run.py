"""`vitruvian run` and `status` on a pipeline of three small stages, with the real DVC."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.run import (
    Progress,
    StageFailed,
    find_pipeline,
    reproduce,
    status,
    write_code_digests,
)
from shards.errors import UsageError

VITRUVIAN = Path(sys.executable).parent / "vitruvian"
STAGES = """
stages:
  count:
    cmd: mkdir -p out && python -c "print('{\\"digest\\":', $(cat people.txt), '}')" > out/count.json
    deps: [people.txt]
    params: [{code.yaml: [render]}]
    outs:
      - out/count.json: {cache: false, persist: true}
  double:
    cmd: cp out/count.json out/double.json
    params: [factor, {out/count.json: [digest]}]
    outs:
      - out/double.json: {cache: false, persist: true}
  other:
    cmd: touch out/other.txt
    params: [{code.yaml: [train]}]
    outs:
      - out/other.txt: {cache: false, persist: true}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline in a tree without git and without DVC."""
    (tmp_path / "dvc.yaml").write_text(STAGES)
    (tmp_path / "params.yaml").write_text("factor: 2\n")
    (tmp_path / "people.txt").write_text("7")
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


def test_runs_everything_once_and_then_nothing(folder: Path) -> None:
    seen: list[Progress] = []
    first = reproduce(folder, seen.append)
    assert set(first.ran) == {"count", "double", "other"} and first.skipped == ()
    assert first.ran.index("count") < first.ran.index("double")
    assert [(p.number, p.total, p.state) for p in seen] == [
        (number, 3, state) for number in (1, 2, 3) for state in ("running", "ran")
    ]
    assert json.loads((folder / "out/double.json").read_text()) == {"digest": 7}
    again = reproduce(folder)
    assert again.ran == () and set(again.skipped) == {"count", "double", "other"}
    assert set(json.loads((folder / "out/timings.json").read_text())) == set(first.ran)


def test_a_changed_parameter_reruns_only_what_reads_it(folder: Path) -> None:
    reproduce(folder)
    edit(folder / "params.yaml", factor=3)
    assert reproduce(folder).ran == ("double",)


def test_an_unchanged_result_stops_the_chain(folder: Path) -> None:
    reproduce(folder)
    (folder / "people.txt").write_text("7\n")  # other bytes, the same digest comes out
    assert reproduce(folder).ran == ("count",)
    (folder / "people.txt").write_text("8")
    assert reproduce(folder).ran == ("count", "double")


def test_a_deleted_output_is_made_again(folder: Path) -> None:
    reproduce(folder)
    (folder / "out/other.txt").unlink()
    assert reproduce(folder).ran == ("other",)


def test_edited_code_reruns_the_stages_of_its_room(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce(folder)
    digests = yaml.safe_load((folder / "code.yaml").read_text())
    assert {"shards", "annotation", "render", "curation", "train", "report", "versions"} == set(digests)
    monkeypatch.setattr(
        "pipelines.run.code_digest", lambda package: "edited" if package == "train" else digests[package]
    )
    monkeypatch.setattr("pipelines.run.ROOMS", {room: room for room in digests if room != "versions"})
    assert reproduce(folder).ran == ("other",)


def test_code_digests_are_left_alone_when_nothing_changed(folder: Path) -> None:
    path = write_code_digests(folder)
    before = path.stat().st_mtime_ns
    assert write_code_digests(folder).stat().st_mtime_ns == before


def test_status_says_why_and_runs_nothing(folder: Path) -> None:
    fresh = {entry.stage: entry for entry in status(folder)}
    assert all(entry.reasons for entry in fresh.values()) and not (folder / "out").exists()
    reproduce(folder)
    assert all(not entry.reasons and not entry.after for entry in status(folder))
    edit(folder / "params.yaml", factor=5)
    (folder / "people.txt").write_text("9")
    found = {entry.stage: entry for entry in status(folder)}
    assert found["double"].reasons == ("input params.yaml (factor) is modified",)
    assert found["double"].after == ("count",)
    assert found["count"].reasons == ("input people.txt is modified",)
    assert not found["other"].reasons
    assert json.loads((folder / "out/double.json").read_text()) == {"digest": 7}


def test_the_exit_code_of_a_stage_is_passed_on(folder: Path) -> None:
    (folder / "dvc.yaml").write_text("stages:\n  bad:\n    cmd: exit 3\n")
    with pytest.raises(StageFailed, match="stage bad") as failure:
        reproduce(folder)
    assert failure.value.code == 3


def test_a_broken_pipeline_file_is_a_usage_error(folder: Path) -> None:
    (folder / "dvc.yaml").write_text("stages: [nonsense]\n")
    with pytest.raises(UsageError, match=r"dvc\.yaml"):
        reproduce(folder)


def test_pipelines_are_found_by_name_or_path(folder: Path) -> None:
    assert find_pipeline("demo") == Path(__file__).parents[2] / "pipelines" / "demo"
    assert find_pipeline(str(folder)) == folder
    with pytest.raises(UsageError, match=r"neither a folder .* demo"):
        find_pipeline("no-such-pipeline")


def test_the_command_line_runs_skips_and_fails(folder: Path, tmp_path: Path) -> None:
    def vitruvian(*arguments: str) -> subprocess.CompletedProcess[str]:
        # From another directory, with an environment that has neither our PATH nor a home to write to.
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}
        return subprocess.run(
            [VITRUVIAN, *arguments], cwd="/", env=environment, capture_output=True, text=True, check=False
        )

    first = vitruvian("run", str(folder))
    assert first.returncode == 0, first.stderr
    assert "3 of 3 stages ran" in first.stdout and "[ 1/3]" in first.stderr
    second = vitruvian("run", str(folder))
    assert second.returncode == 0 and "all 3 stages are up to date" in second.stdout
    assert second.stderr.count("skipped") == 3
    edit(folder / "params.yaml", factor=4)
    why = vitruvian("status", str(folder))
    assert why.returncode == 0 and "factor" in why.stdout
    (folder / "people.txt").unlink()
    broken = vitruvian("run", str(folder))
    assert broken.returncode != 0 and "people.txt" in broken.stderr and "Traceback" not in broken.stderr
    assert vitruvian("run", "no-such-pipeline").returncode == 2


def test_git_is_left_alone(folder: Path) -> None:
    """A pipeline inside a git tree with DVC's config, as in a clone: only files of ours appear."""

    def git(*arguments: str) -> str:
        identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
        return subprocess.check_output(command, cwd=folder, text=True, env=os.environ | identity)

    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (folder / ".gitignore").write_text("out/\ncode.yaml\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    assert len(reproduce(folder).ran) == 3
    assert git("status", "--short").split() == ["??", "dvc.lock"]
