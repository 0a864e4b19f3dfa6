"""A small stage run by the tests of units in processes that get killed. Not a test itself.

kill_driver.py run OUT          run the stage once, saying "started" when it begins
kill_driver.py everywhere DIR   kill it before its first, second, ... file operation, run again, compare
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from shards import Sample, ShardWriter, Stage, Unit, close_stage, content_key, open_stage, pending, run_unit

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
SAMPLES = 40


def work(stage: Stage, unit: Unit) -> None:
    with ShardWriter(stage.out, unit.name, columns=lambda sample: {"size": len(sample.members)}) as writer:
        for number in range(unit.payload["samples"]):
            data = f"{unit.name} {number}".encode() * 100
            writer.add(Sample(content_key(data), {"bin": data, "json": b"{}"}))
        writer.commit(
            stage_name=stage.name,
            stage_key=stage.key,
            inputs=unit.inputs,
            run={"random": os.urandom(8).hex()},
        )


def run_stage(out: Path, units: int, samples: int) -> None:
    todo = [Unit(f"part-{n:06d}", {"samples": samples}, {"source": str(n)}) for n in range(units)]
    stage = open_stage(out, "kill", "k" * 64, max_attempts=1000)
    for unit in pending(stage, todo):
        run_unit(stage, unit, work)
    close_stage(stage, todo, {"made": "by a test"})


def digested(out: Path) -> dict[str, bytes]:
    """Every visible byte that may be digested: all but the markers, whose `run` varies."""
    return {
        path.name: path.read_bytes()
        for path in out.iterdir()
        if path.is_file() and (path.suffix != ".json" or path.name == "manifest.json")
    }


def in_child(out: Path, kill_before: int | None) -> bool:
    """Run the stage in a fork that kills itself before its n-th file operation; True when it was killed."""
    child = os.fork()
    if child == 0:
        if kill_before is not None:
            kill_at(kill_before)
        run_stage(out, units=1, samples=2)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def kill_at(operation: int) -> None:
    left = operation

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in FILE_EVENTS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def everywhere(folder: Path) -> int:
    """How many operations were tried; exits with the number of the first whose rerun differs."""
    in_child(folder / "reference", None)
    expected = digested(folder / "reference")
    operation = 1
    while in_child(out := folder / str(operation), operation):
        assert not in_child(out, None)
        if digested(out) != expected:
            sys.exit(f"killed before operation {operation}, run again: different bytes")
        operation += 1
    if digested(out) != expected:
        sys.exit("an uninterrupted run differs")
    return operation - 1


if __name__ == "__main__":
    if sys.argv[1] == "run":
        print("started", flush=True)
        run_stage(Path(sys.argv[2]), units=8, samples=SAMPLES)
    else:
        print(everywhere(Path(sys.argv[2])))
