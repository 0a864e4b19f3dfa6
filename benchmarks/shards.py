"""Shards against plain webdataset and against sha256: writing, streaming, random access.

make bench NAME=shards, or: python -P benchmarks/shards.py [--quick] [--out FOLDER]

Ours does more than the peer: the writer hashes every member and the tar, writes index and marker, and fsyncs.
Two data sets: photos (100 kB + json) and renders (8 small members). Each figure is the best of interleaved
rounds on the same files, already in the page cache. The last line is JSON.
"""

import argparse
import hashlib
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import webdataset

from shards import Dataset, Sample, ShardWriter, content_key, read_tar, write_manifest

SHAPES = {
    "photos": {"jpg": 100_000, "json": 400},
    "renders": {f"m{i}.png": 8_000 for i in range(7)} | {"json": 2_000},
}


def make(shape: dict[str, int], count: int) -> list[Sample]:
    """`count` samples of incompressible bytes with sorted content keys."""
    rng = np.random.default_rng(0)
    samples = [Sample("", {name: rng.bytes(size) for name, size in shape.items()}) for _ in range(count)]
    keyed = [Sample(content_key(next(iter(s.members.values()))), s.members) for s in samples]
    return sorted(keyed, key=lambda sample: sample.key)


def write_ours(folder: Path, samples: Iterable[Sample]) -> None:
    with ShardWriter(folder, "s") as writer:
        for sample in samples:
            writer.add(sample)
        writer.commit()
    write_manifest(folder, {})


def write_theirs(path: Path, samples: Iterable[Sample]) -> None:
    with webdataset.TarWriter(str(path), encoder=False, mtime=0) as writer:
        for sample in samples:
            writer.write({"__key__": sample.key, **sample.members})


def stream_theirs(path: Path) -> Iterator[Any]:
    return iter(webdataset.WebDataset(str(path), shardshuffle=False))


def consume(samples: Iterable[Any]) -> None:
    for _ in samples:
        pass


def best_of(rounds: int, contenders: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Seconds of each contender's fastest round; the rounds interleave so that all see the same machine."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, run in contenders.items():
            begun = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - begun)
    return best


def measure(folder: Path, shape: dict[str, int], count: int, rounds: int) -> dict[str, float]:
    samples = make(shape, count)
    shuffled = random.Random(0).sample(samples, len(samples))
    megabytes = sum(len(data) for sample in samples for data in sample.members.values()) / 1e6
    ours, theirs = folder / "ours", folder / "theirs.tar"
    write_ours(ours, samples)
    write_theirs(theirs, samples)
    dataset = Dataset.open(ours)
    dataset.table()
    order = random.Random(1).sample(range(count), count)
    seconds = best_of(
        rounds,
        {
            "sha256": lambda: [hashlib.sha256(d).digest() for s in samples for d in s.members.values()],
            "write": lambda: write_ours(ours, samples),
            "write_unsorted": lambda: write_ours(ours, shuffled),
            "write_webdataset": lambda: write_theirs(theirs, samples),
            "iterate": lambda: consume(dataset),
            "read_tar": lambda: consume(read_tar(ours / "s.tar")),
            "iterate_webdataset": lambda: consume(stream_theirs(theirs)),
            "random": lambda: consume(dataset[i] for i in order),
            "random_one_member": lambda: consume(dataset.read(i, ("json",)) for i in order),
        },
    )
    rates = {f"{name}_MB_per_s": megabytes / spent for name, spent in seconds.items() if "one" not in name}
    return rates | {
        "random_samples_per_s": count / seconds["random"],
        "random_one_member_per_s": count / seconds["random_one_member"],
        "write_over_webdataset": seconds["write_webdataset"] / seconds["write"],
        "write_over_sha256": seconds["sha256"] / seconds["write"],
        "iterate_over_webdataset": seconds["iterate_webdataset"] / seconds["iterate"],
        "read_tar_over_webdataset": seconds["iterate_webdataset"] / seconds["read_tar"],
        "random_over_webdataset_stream": seconds["iterate_webdataset"] / seconds["random"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="under 60 seconds")
    parser.add_argument("--out", type=Path, help="folder on the disk to measure (default: a temporary one)")
    arguments = parser.parse_args()
    count, rounds = (500, 3) if arguments.quick else (4000, 5)
    figures = {}
    for name, shape in SHAPES.items():
        folder = Path(tempfile.mkdtemp(dir=arguments.out))
        try:
            figures[name] = {
                key: round(value, 2) for key, value in measure(folder, shape, count, rounds).items()
            }
        finally:
            shutil.rmtree(folder)
        for key, value in figures[name].items():
            print(f"{name:8} {key:32} {value:12,.2f}")
    print(json.dumps({"benchmark": "shards", "samples": count, "rounds": rounds, "figures": figures}))


if __name__ == "__main__":
    main()
