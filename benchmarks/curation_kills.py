"""`kill -9` at random moments of `curate annotate --executor ray`, and whether anybody can tell afterwards.

    python -P benchmarks/curation_kills.py [--quick] [--kills 20] [--seed 1]

Last printed line: one JSON object. Each trial starts the command on an empty folder and, at a random moment
of the time an undisturbed run takes, sends SIGKILL to the driver, the driver's whole process group, a worker
process, the raylet or one of its agents (as soon as there is one). If the run did not survive that, it is run
a second time. `identical`: trials whose tables and manifest are, byte for byte, those of an undisturbed
inline run. `idle`: trials whose next run did nothing and said so. `survived`: runs that ended well in spite
of the blow, by its kind. `left`: trials after which a process of Ray's was still there 20 s later. `late`:
blows that came after the run's end; they are no kills, and are repeated. Linux.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import skimage

from pipelines.executors.rehearsal import kill_session, session_of
from shards.manifest import read_manifest

VITRUVIAN = str(Path(sys.executable).parent / "vitruvian")
# Of Ray's processes, by the beginning of their names.
NAMES = {
    "worker": ("ray::IDLE", "ray::Runner"),
    "raylet": ("raylet",),
    "agent": ("ray::Dashboard", "ray::Runtime"),
}
KINDS = ("driver", "group", *NAMES)
SUFFIXES = (".png", ".jpg")
LIMIT_S = 600.0


def make_pool(root: Path, images: int) -> Path:
    """Small photographs of scikit-image, two to a unit."""
    found = [path for path in (Path(skimage.__file__).parent / "data").glob("*.*") if path.suffix in SUFFIXES]
    small = sorted(path for path in found if path.stat().st_size < 1 << 18)
    (root / "pool").mkdir()
    for number in range(images):
        photo = small[number % len(small)]
        shutil.copy(photo, root / "pool" / f"{number:03d}-{photo.name}")
    (root / "config.yaml").write_text("pool: {files_per_unit: 2}\n")
    return root / "pool"


def start(pool: Path, out: Path, *how: str) -> subprocess.Popen[bytes]:
    """The command as a user would run it, in a session of its own; its output goes to `<out>.log`."""
    config = str(pool.parent / "config.yaml")
    words = ["curate", "annotate", str(pool), "--out", str(out), "--config", config, "--quiet", *how]
    with out.with_suffix(".log").open("wb") as log:
        return subprocess.Popen([VITRUVIAN, *words], stdout=log, stderr=log, start_new_session=True)


def finish(run: subprocess.Popen[bytes], out: Path) -> str:
    """Wait for a run that must end well; what it printed."""
    if run.wait(LIMIT_S) != 0:
        raise SystemExit(out.with_suffix(".log").read_text())
    return out.with_suffix(".log").read_text()


def content(out: Path) -> dict[str, bytes]:
    """Every table and what the manifest says of all files."""
    manifest = read_manifest(out)
    tables = {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    return {**tables, "manifest": (manifest.digest + str(manifest.samples)).encode()}


def blow(run: subprocess.Popen[bytes], kind: str, chance: random.Random) -> bool:
    """SIGKILL to one of the run's processes, or to its group; whether it met a run that had not ended."""
    while run.poll() is None:
        found = [pid for pid, name in session_of(run.pid).items() if name.startswith(NAMES.get(kind, ()))]
        victim = chance.choice(sorted(found)) if found else None
        with suppress(ProcessLookupError):
            if kind == "group":
                os.killpg(run.pid, signal.SIGKILL)
            elif kind == "driver" or victim is not None:
                os.kill(victim or run.pid, signal.SIGKILL)
            else:
                time.sleep(0.05)
                continue
            return True
    return False


def gone(leader: int) -> bool:
    """Whether nothing of a session is left, or will be in 20 s."""
    for _ in range(40):
        if not session_of(leader):
            return True
        time.sleep(0.5)
    return False


def trial(
    pool: Path, out: Path, kind: str, moment_s: float, chance: random.Random, truth: dict[str, bytes]
) -> dict[str, bool] | None:
    """One blow, and what came of it; None when the run had ended before."""
    run = start(pool, out, "--executor", "ray", "--workers", "2")
    time.sleep(moment_s)
    if not blow(run, kind, chance):
        return None
    survived = run.wait(LIMIT_S) == 0
    if not survived:  # at once: what the killed run left is still dying
        finish(start(pool, out, "--executor", "ray", "--workers", "2"), out)
    left = not gone(run.pid)
    kill_session(run)
    identical = content(out) == truth
    said = finish(start(pool, out, "--executor", "ray", "--workers", "2"), out)
    idle = "up to date" in said and content(out) == truth
    return {"survived": survived, "identical": identical, "idle": idle, "left": left}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="five kills")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance, told = random.Random(given.seed), Counter[str]()
    kills = 5 if given.quick else given.kills
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pool = make_pool(root, 48)
        finish(start(pool, root / "inline"), root / "inline")
        truth, begun = content(root / "inline"), time.monotonic()
        finish(start(pool, root / "whole", "--executor", "ray", "--workers", "2"), root / "whole")
        length = time.monotonic() - begun
        while told["kills"] < kills:
            kind, number = KINDS[told["kills"] % len(KINDS)], told["kills"] + told["late"]
            moment = chance.uniform(0.05, 0.95) * length
            found = trial(pool, root / f"out-{number}", kind, moment, chance, truth)
            told["kills" if found else "late"] += 1
            print(f"{told['kills']}/{kills} {kind} after {moment:.1f} of {length:.1f} s: {found}", flush=True)
            if found:
                told.update({name: int(value) for name, value in found.items()})
                told[f"survived {kind}"] += found["survived"]
    print(
        json.dumps(
            {
                "benchmark": "curation_kills",
                "kills": told["kills"],
                "identical": told["identical"],
                "idle": told["idle"],
                "survived": {kind: told[f"survived {kind}"] for kind in KINDS},
                "left": told["left"],
                "late": told["late"],
                "seed": given.seed,
            }
        )
    )


if __name__ == "__main__":
    main()
