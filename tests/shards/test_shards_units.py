"""Units of work: claims, attempts, quarantine, resume after a kill at any instant."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import (
    Sample,
    ShardWriter,
    Stage,
    Unit,
    UsageError,
    VitruvianError,
    close_stage,
    code_digest,
    open_stage,
    pending,
    quarantined,
    read_manifest,
    run_unit,
    verify_bytes,
)

DRIVER = Path(__file__).parent / "kill_driver.py"
UNITS = [Unit("a", {"text": "1"}, {"raw": "x"}), Unit("b", {"text": "2"}, {"raw": "y"})]


def work(stage: Stage, unit: Unit) -> None:
    with ShardWriter(stage.out, unit.name) as writer:
        writer.add(Sample(unit.name, {"txt": unit.payload["text"].encode()}))
        writer.commit(
            stage_name=stage.name, stage_key=stage.key, inputs=unit.inputs, rejects={"person:none": 1}
        )


def fail(stage: Stage, unit: Unit) -> None:
    raise ValueError(f"no luck with {unit.name} \udcff")


def run_all(
    stage: Stage, units: list[Unit] = UNITS, worker: Callable[[Stage, Unit], None] = work
) -> list[str]:
    return [run_unit(stage, unit, worker).status for unit in pending(stage, units)]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    visible = (path for path in folder.iterdir() if path.is_file())
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in visible}


def attempts(stage: Stage) -> list[str]:
    return sorted(path.name for path in (stage.out / ".stage" / "attempts").glob("*"))


def test_a_stage_runs_once_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "curate.annotate", "k1")
    assert run_all(stage) == ["done", "done"]
    manifest = close_stage(stage, UNITS, {"config": {"a": 1}})
    assert manifest == read_manifest(stage.out)
    assert manifest.provenance == {"stage": {"name": "curate.annotate", "key": "k1"}, "config": {"a": 1}}
    assert (manifest.samples, manifest.quarantined) == (2, ())
    before = snapshot(stage.out)
    again = open_stage(tmp_path / "out", "curate.annotate", "k1")
    assert pending(again, UNITS) == []
    assert run_unit(again, UNITS[0], fail).status == "skipped"
    close_stage(again, UNITS, {"config": {"a": 1}})
    assert snapshot(stage.out) == before
    assert list(verify_bytes(stage.out)) == []


def test_the_outcome_tells_counts(tmp_path: Path) -> None:
    outcome = run_unit(open_stage(tmp_path / "out", "s", "k"), UNITS[0], work)
    assert (outcome.unit, outcome.status, outcome.attempts, outcome.samples) == ("a", "done", 1, 1)
    assert outcome.rejects == {"person:none": 1} and outcome.error is None


@pytest.mark.parametrize(
    "damage", ["changed inputs", "lost tar", "short tar", "lost marker", "broken marker"]
)
def test_what_is_no_longer_valid_is_pending_again(tmp_path: Path, damage: str) -> None:
    stage = open_stage(tmp_path / "out", "s", "k")
    run_all(stage)
    units = list(UNITS)
    if damage == "changed inputs":
        units[0] = Unit("a", UNITS[0].payload, {"raw": "other"})
    elif damage == "lost tar":
        (stage.out / "a.tar").unlink()
    elif damage == "short tar":
        (stage.out / "a.tar").write_bytes(b"")
    elif damage == "lost marker":
        (stage.out / "a.json").unlink()
    else:
        (stage.out / "a.json").write_text("{")
    assert [unit.name for unit in pending(stage, units)] == ["a"]
    with pytest.raises(VitruvianError, match=r"1 of 2 units.*a; run"):
        close_stage(stage, units, {})
    assert run_all(stage, units) == ["done"]
    close_stage(stage, units, {})
    assert list(verify_bytes(stage.out)) == []


def test_a_failing_unit_is_quarantined_with_its_traceback_and_the_rest_goes_on(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "s", "k", max_attempts=3)
    calls: list[str] = []

    def worker(stage: Stage, unit: Unit) -> None:
        calls.append(unit.name)
        (fail if unit.name == "a" else work)(stage, unit)

    assert run_all(stage, worker=worker) == ["quarantined", "done"]
    assert calls == ["a", "a", "a", "b"]
    [entry] = quarantined(stage)
    assert (entry.unit, entry.attempts) == ("a", 3)
    assert "no luck with a" in entry.error and "Traceback" in entry.error
    manifest = close_stage(stage, UNITS, {})
    assert manifest.quarantined == ("a",) and [shard.name for shard in manifest.shards] == ["b"]


def test_running_again_gives_quarantined_units_another_chance(tmp_path: Path) -> None:
    run_all(open_stage(tmp_path / "out", "s", "k"), worker=fail)
    stage = open_stage(tmp_path / "out", "s", "k")
    assert quarantined(stage) == [] and attempts(stage) == []
    assert run_all(stage) == ["done", "done"]
    healed = close_stage(stage, UNITS, {})
    straight = open_stage(tmp_path / "straight", "s", "k")
    run_all(straight)
    assert close_stage(straight, UNITS, {}) == healed


def test_a_unit_that_succeeds_late_counts_its_attempts(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "s", "k")
    seen: list[list[str]] = []

    def worker(stage: Stage, unit: Unit) -> None:
        seen.append(attempts(stage))
        (work if len(seen) == 3 else fail)(stage, unit)

    outcome = run_unit(stage, UNITS[0], worker)
    assert (outcome.status, outcome.attempts) == ("done", 3)
    assert seen == [["a.1.json"], ["a.1.json", "a.2.json"], ["a.1.json", "a.2.json", "a.3.json"]]
    assert attempts(stage) == []


def test_a_process_that_dies_uses_an_attempt_each_time(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, pathlib\n"
        "from shards import Unit, open_stage, run_unit\n"
        "stage = open_stage(pathlib.Path(sys.argv[1]), 's', 'k', max_attempts=2)\n"
        "run_unit(stage, Unit('a'), lambda stage, unit: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
        assert died.returncode == -signal.SIGKILL
    stage = open_stage(tmp_path / "out", "s", "k", max_attempts=2)
    outcome = run_unit(stage, Unit("a"), fail)
    assert (outcome.status, outcome.attempts) == ("quarantined", 2)
    assert "died during attempt 2" in quarantined(stage)[0].error


@pytest.mark.parametrize("error", [UsageError, KeyboardInterrupt])
def test_a_users_error_or_interrupt_passes_and_costs_no_attempt(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def worker(stage: Stage, unit: Unit) -> None:
        raise error("stop")

    stage = open_stage(tmp_path / "out", "s", "k")
    with pytest.raises(error):
        run_unit(stage, UNITS[0], worker)
    assert attempts(stage) == []


def test_a_worker_that_commits_nothing_or_something_else_fails(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "s", "k")
    assert run_unit(stage, UNITS[0], lambda stage, unit: None).status == "quarantined"
    outcome = run_unit(stage, UNITS[1], lambda stage, unit: work(Stage("s", "other", stage.out), unit))
    assert outcome.error is not None and "committed no shard of that name" in outcome.error


def test_foreign_folders_and_other_stages_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"no stage made \(thesis\.txt\)"):
        open_stage(tmp_path / "mine", "s", "k", replace=True)
    with pytest.raises(UsageError, match="a file"):
        open_stage(tmp_path / "mine" / "thesis.txt", "s", "k")
    stage = open_stage(tmp_path / "out", "s", "k")
    run_all(stage)
    with pytest.raises(UsageError, match="stage 's', not 't'"):
        open_stage(tmp_path / "out", "t", "k", replace=True)
    assert pending(stage, UNITS) == []


def test_another_key_needs_replace_which_keeps_what_is_the_same(tmp_path: Path) -> None:
    first = open_stage(tmp_path / "out", "s", "k1")
    run_all(first)
    close_stage(first, UNITS, {})
    with pytest.raises(UsageError, match="--replace"):
        open_stage(tmp_path / "out", "s", "k2")
    second = open_stage(tmp_path / "out", "s", "k2", replace=True)
    assert snapshot(second.out) == {}
    run_all(second, UNITS[:1])
    assert [unit.name for unit in pending(open_stage(second.out, "s", "k2", replace=True), UNITS)] == ["b"]


def test_outputs_of_vanished_units_and_temporaries_are_removed(tmp_path: Path) -> None:
    stage = open_stage(tmp_path / "out", "s", "k")
    run_all(stage)
    (stage.out / ".a.tmp").mkdir()
    (stage.out / ".a.tmp" / "half.tar").write_bytes(b"x")
    close_stage(stage, UNITS[:1], {})
    assert sorted(path.name for path in stage.out.iterdir()) == [
        ".stage", "a.json", "a.parquet", "a.tar", "manifest.json",
    ]  # fmt: skip


@pytest.mark.parametrize("names", [("a", "a"), ("a.b",), ("manifest",)])
def test_bad_unit_names_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    stage = open_stage(tmp_path / "out", "s", "k")
    with pytest.raises(UsageError, match="name"):
        pending(stage, [Unit(name) for name in names])


def test_killed_before_any_file_operation_then_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DRIVER), "everywhere", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 25


def test_killed_at_random_instants_then_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    def start(out: Path) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(DRIVER), "run", str(out)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        return process

    def finish(out: Path) -> float:
        begun = time.monotonic()
        with start(out) as process:
            assert process.wait() == 0
        return time.monotonic() - begun

    seconds = finish(tmp_path / "reference")
    expected = (tmp_path / "reference" / "manifest.json").read_bytes()
    for number in range(2):
        out = tmp_path / str(number)
        for _ in range(2):
            with start(out) as process:
                time.sleep(random.uniform(0, seconds / 2))
                process.kill()
        finish(out)
        assert (out / "manifest.json").read_bytes() == expected
        assert list(verify_bytes(out)) == []
        assert json.loads(expected)["samples"] == 8 * 40


def test_code_digest_sees_names_code_and_data_but_no_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shards_test_package"
    (package / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("x = 1\n")
    (package / "table.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    seen = {code_digest("shards_test_package")}
    (package / "__pycache__" / "x.pyc").write_bytes(b"cache")
    (package / ".hidden").write_bytes(b"editor")
    assert code_digest("shards_test_package") in seen
    for change in (
        lambda: (package / "__init__.py").write_text("x = 2\n"),
        lambda: (package / "table.json").write_text("[]"),
        lambda: (package / "table.json").rename(package / "tables.json"),
    ):
        change()
        digest = code_digest("shards_test_package")
        assert digest not in seen
        seen.add(digest)


def test_code_digest_of_several_packages_and_modules() -> None:
    assert code_digest("shards", "annotation") == code_digest("annotation", "shards", "shards")
    assert len({code_digest("shards"), code_digest("shards.units"), code_digest("shards", "annotation")}) == 3
    with pytest.raises(UsageError, match="no_such_package"):
        code_digest("no_such_package")
