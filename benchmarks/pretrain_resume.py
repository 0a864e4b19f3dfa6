"""Pretraining runs killed with -9 and taken up again, on one rank and on two, with other numbers of loader
processes and micro-batches, against runs that nobody disturbed: sample order, masks, losses, weights.

    python -P benchmarks/pretrain_resume.py [--steps 30]

Real processes throughout (torchrun with gloo for two ranks). Every rank writes down what it trained on: per
step, each sample's key and a digest of the noise that chooses its mask. `same_order`: all runs saw the same
samples with the same masks at every step, steps redone after a kill included. `bitwise_same_world`: killed or
not, equal numbers of ranks gave equal losses at every step and equal bytes of encoder.safetensors.
`max_diff_across_worlds`: the largest difference of a step's loss between 1, 2, and 1 -> 2 -> 1 ranks.
Last printed line: one JSON object. About two minutes on two cores.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shards.manifest import write_manifest
from shards.sample import Sample, content_key
from shards.writer import ShardWriter
from train.data.dataset import Batch
from train.engine.loop import Step
from train.engine.telemetry import read_log
from train.pretrain import PretrainConfig, leave, pretrain

Leg = dict[str, int]
"""`ranks`, settings of execution that differ, and the step `until` which it runs before it is killed."""

RUNS: dict[str, list[Leg]] = {
    "1 rank": [{"ranks": 1}],
    "1 rank, killed twice": [
        {"ranks": 1, "workers": 2, "until": 9},
        {"ranks": 1, "workers": 0, "until": 19},
        {"ranks": 1, "workers": 1},
    ],
    "2 ranks": [{"ranks": 2}],
    "2 ranks, killed": [{"ranks": 2, "workers": 1, "until": 14}, {"ranks": 2}],
    "1 -> 2 -> 1 ranks, killed twice": [
        {"ranks": 1, "workers": 1, "until": 9},
        {"ranks": 2, "workers": 2, "accumulate": 2, "until": 19},
        {"ranks": 1, "accumulate": 4},
    ],
}


def settings(steps: int, leg: Leg) -> dict[str, Any]:
    execution = {name: value for name, value in leg.items() if name in ("workers", "accumulate")}
    return {
        "size": "tiny",
        "image_size": 128,
        "batch": 8,
        "steps": steps,
        "base_learning_rate": 0.02,
        "warmup_steps": 5,
        "reconstructions": 2,
        "log_every": 1,
        "checkpoint_every": 4,
        **execution,
    }


def write_photos(folder: Path, count: int = 53) -> Path:
    """A dataset of smooth random JPEGs; its size has no factor in common with the batch."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    with ShardWriter(folder, "photos-0") as writer:
        for _ in range(count):
            coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            data = cv2.imencode(".jpg", cv2.resize(coarse, (240, 180), interpolation=cv2.INTER_CUBIC))[1]
            writer.add(Sample(content_key(data.tobytes()), {"jpg": data.tobytes(), "json": b"{}"}))
        writer.commit()
    write_manifest(folder, {})
    return folder


# --- the process that trains


def child(data: str, out: str, trace: str, given: str) -> int:
    """Pretrain; append to `trace`-RANK.jsonl what each step was trained on."""
    path = Path(f"{trace}-{os.environ.get('RANK', 0)}.jsonl")

    def watch(done: int, micro: list[Batch], step: Step) -> None:
        samples = [
            [key, hashlib.sha256(noise.numpy().tobytes()).hexdigest()[:16]]
            for batch in micro
            for key, noise in zip(batch["key"], batch["noise"], strict=True)
        ]
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": done, "samples": samples}) + "\n")

    pretrain(PretrainConfig.model_validate_json(given), data, Path(out), watch=watch)
    return 0


# --- the one that starts and kills it


def run_leg(data: Path, out: Path, trace: Path, steps: int, leg: Leg) -> None:
    """One process, or one torchrun, to its end or its death. Raises RuntimeError when it ended otherwise."""
    command = [sys.executable]
    if leg["ranks"] > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(leg["ranks"])]
    command += [__file__, "child", str(data), str(out), str(trace), json.dumps(settings(steps, leg))]
    root = str(Path(__file__).parents[1])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    if "until" in leg:
        while process.poll() is None and latest(trace) < leg["until"]:
            time.sleep(0.005)
        for pid in reversed(descendants(process.pid)):
            os.kill(pid, signal.SIGKILL)
    words = process.communicate()[1]
    expected = -signal.SIGKILL if "until" in leg else 0
    if process.returncode != expected:
        raise RuntimeError(f"{leg}: ended with {process.returncode}, expected {expected}:\n{words}")


def latest(trace: Path) -> int:
    """The last step that the main rank has written down."""
    path = Path(f"{trace}-0.jsonl")
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def descendants(pid: int) -> list[int]:
    """A process and all below it (Linux)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(below for child in children for below in descendants(int(child)))]


def seen(traces: list[Path]) -> list[list[list[str]]]:
    """Per step, the [key, mask digest] of its samples in order. Raises RuntimeError when a step that was done
    again saw others.
    """
    steps: dict[int, list[list[str]]] = {}
    for trace in traces:  # one for each leg
        ranks = [read_trace(path) for path in sorted(trace.parent.glob(f"{trace.name}-*.jsonl"))]
        for step in set.intersection(*(set(rank) for rank in ranks)):
            samples = [sample for rank in ranks for sample in rank[step]]
            if steps.setdefault(step, samples) != samples:
                raise RuntimeError(f"{trace}: step {step} was done again with other samples or masks")
    return [steps[step] for step in sorted(steps)]


def read_trace(path: Path) -> dict[int, list[list[str]]]:
    lines = path.read_text().split("\n")[:-1]
    return {line["step"]: line["samples"] for line in map(json.loads, lines)}


def carry_out(name: str, legs: list[Leg], data: Path, folder: Path, steps: int) -> dict[str, Any]:
    """All legs of a run: samples per step, losses per step, digest of the weights, steps done again."""
    out, began = folder / "out", time.perf_counter()
    traces = [folder / f"trace-{number}" for number in range(len(legs))]
    for trace, leg in zip(traces, legs, strict=True):
        run_leg(data, out, trace, steps, leg)
    losses = [line["loss"] for line in read_log(out)]
    if len(losses) != steps:
        raise RuntimeError(f"{name}: {len(losses)} losses in its log, expected {steps}")
    done = sum(len(read_trace(Path(f"{trace}-0.jsonl"))) for trace in traces)
    print(f"{name}: {done - steps} steps done again, {time.perf_counter() - began:.0f} s", flush=True)
    weights = hashlib.sha256((out / "encoder.safetensors").read_bytes()).hexdigest()
    return {"samples": seen(traces), "losses": losses, "weights": weights, "again": done - steps}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=30, help="above 20")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = write_photos(Path(place) / "data")
        found = {}
        for number, (name, legs) in enumerate(RUNS.items()):
            folder = Path(place) / str(number)
            folder.mkdir()
            found[name] = carry_out(name, legs, data, folder, given.steps)
    one, one_killed, two, two_killed, mixed = found.values()
    pairs = ((one, one_killed), (two, two_killed))
    keys = [key for step in one["samples"] for key, _ in step]
    figures = {
        "same_order": all(run["samples"] == one["samples"] for run in found.values()),
        "bitwise_same_world": all(a[n] == b[n] for a, b in pairs for n in ("losses", "weights")),
        "max_diff_across_worlds": max(
            abs(a - b) for run in (two, mixed) for a, b in zip(one["losses"], run["losses"], strict=True)
        ),
        "steps": given.steps,
        "samples": len(keys),
        "different_samples": len(set(keys)),
        "kills": sum("until" in leg for legs in RUNS.values() for leg in legs),
        "steps_done_again": sum(run["again"] for run in found.values()),
        "first_loss": one["losses"][0],
        "last_loss": one["losses"][-1],
    }
    print(json.dumps({"benchmark": "pretrain_resume", **figures}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        leave(lambda: child(*sys.argv[2:]))
    main()
