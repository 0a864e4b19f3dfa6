"""The loader of pretraining: its speed, what it costs to read from far, and what 300 million samples need.

    python -P benchmarks/loader.py [--quick]

1. Images a CPU-second (all processes of the loader; starting and ending them taken off), 1024 x 1024 JPEG
   photographs (quality 90, tiled from photographs at their own resolution) to 1024 x 1024 random crops, one
   loader process, against
   (a) a bare loop that decodes the same files, cuts the same boxes and resizes them with the same functions,
   (b) webdataset with Pillow: decode to RGB, crop, bicubic resize, numpy to tensor, same boxes and shards.
2. The same loader over http with 50 ms before each answer: with read-ahead against one request at a time.
3. A dataset of 30,000 shards of 10,000 samples (all links to one, so the disk's share is not measured):
   peak memory of a process that starts an epoch and reads on, for both orders and a mixture, and the seconds
   from nothing to the first batch's positions and first sample.

Rounds interleave; figures are medians. Last printed line: one JSON object.
"""

import argparse
import http.server
import json
import multiprocessing
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import webdataset as wds
from PIL import Image
from skimage import data as scikit
from torch.utils.data import DataLoader

from shards.manifest import Manifest, ShardRecord, dataset_digest, write_manifest
from shards.reader import Dataset
from shards.sample import Sample, content_key
from shards.writer import ShardWriter
from train.data.dataset import ShardSource, sample_generator
from train.data.jpeg import Box
from train.data.photo import MaskedPhoto, crop_box, resize, to_tensor
from train.data.photos import Photos

SIDE, PATCHES, SCALE, SEED, BATCH = 1024, 4096, (0.2, 1.0), 0, 8
LATENCY, READ_AHEAD = 0.05, 16
WARM = 6 * BATCH  # until the loader's memory is in turn
SHARDS, ROWS, WINDOW = 30_000, 10_000, 64
FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
Run = Callable[[int], int]
"""Loads so many images and says how many it did."""


def photographs(count: int) -> Iterator[bytes]:
    """JPEGs of SIDE x SIDE: photographs continued by their mirror images, each from another corner."""
    rng = np.random.default_rng(0)
    originals = [scikit.astronaut(), scikit.coffee(), scikit.chelsea()]
    for number in range(count):
        picture = originals[number % 3][:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
        corner = rng.integers(0, picture.shape[:2])
        width = [(0, SIDE + int(start) - side) for start, side in zip(corner, picture.shape, strict=False)]
        tiled = np.pad(picture, [*width, (0, 0)], mode="symmetric")
        cut = tiled[corner[0] : corner[0] + SIDE, corner[1] : corner[1] + SIDE]
        ok, encoded = cv2.imencode(
            ".jpg", cv2.cvtColor(cut, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90]
        )
        assert ok and cut.shape == (SIDE, SIDE, 3)
        yield encoded.tobytes()


def write(folder: Path, files: Iterable[bytes], shards: int = 2) -> Path:
    """A curated dataset: photos, each with a json and the columns that a curation writes."""

    def columns(sample: Sample) -> dict[str, Any]:
        return {
            "source": f"https://photos.example/{sample.key}.jpg",
            "width": SIDE,
            "height": SIDE,
            "score": 0.5,
        }

    files = list(files)
    for number in range(shards):
        with ShardWriter(folder, f"part-{number:03d}", columns=columns) as writer:
            for file in files[number::shards]:
                writer.add(Sample(content_key(file), {"jpg": file, "json": b'{"people": []}'}))
            writer.commit()
    write_manifest(folder, {"made": "by benchmarks/loader.py"})
    return folder


def boxes(data: Dataset) -> dict[str, Box]:
    """The crop of each photo in the first epoch."""
    target = (SIDE, SIDE)
    return {key: crop_box(target, target, SCALE, sample_generator(SEED, 0, key)) for key in list(data.keys())}


def bare(files: list[tuple[bytes, Box]]) -> int:
    for data, (y, x, height, width) in files:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)
        resize(to_tensor(picture[y : y + height, x : x + width]), (SIDE, SIDE))
    return len(files)


def source(place: Path | str, workers: int, read_ahead: int = 0) -> ShardSource:
    examples = Photos.open(place).examples(MaskedPhoto((SIDE, SIDE), PATCHES, SCALE), SEED)
    return ShardSource(examples, BATCH, workers=workers, read_ahead=read_ahead)


def ours(place: Path, images: int) -> int:
    batches = source(place, workers=1).batches(0, images // BATCH, rank=0, world=1)
    return sum(len(batch["key"]) for batch in batches)


def with_pillow(sample: dict[str, Any], chosen: dict[str, Box]) -> torch.Tensor:
    y, x, height, width = chosen[sample["__key__"]]
    picture = sample["jpg"].crop((x, y, x + width, y + height))
    resized = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized).transpose(2, 0, 1).copy())


def plain(place: Path, images: int, chosen: dict[str, Box]) -> int:
    tars = [str(path) for path in sorted(place.glob("*.tar"))]
    stream = wds.WebDataset(tars, shardshuffle=False, workersplitter=wds.split_by_worker)
    stream = stream.decode("pilrgb").map(partial(with_pillow, chosen=chosen)).slice(images)
    return sum(len(batch) for batch in DataLoader(stream, batch_size=BATCH, num_workers=1))


def cpu_seconds() -> float:
    """Of this process and of all children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def spent(run: Run, images: int) -> tuple[float, float]:
    """CPU-seconds and seconds."""
    began, used = time.perf_counter(), cpu_seconds()
    assert run(images) == images
    return cpu_seconds() - used, time.perf_counter() - began


def rates(contenders: dict[str, Run], images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Images a CPU-second and images a second of each contender beyond the first WARM images, medians of
    interleaved rounds.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            short, long = spent(run, WARM), spent(run, images)
            if number:  # the first round warms up
                cpu, wall = ((images - WARM) / (b - a) for a, b in zip(short, long, strict=True))
                found[name].append((cpu, wall))
    return {
        name: {
            "per_cpu_s": statistics.median(cpu for cpu, _ in figures),
            "per_s": statistics.median(wall for _, wall in figures),
        }
        for name, figures in found.items()
    }


class FarHandler(http.server.SimpleHTTPRequestHandler):
    """An object store far away: byte ranges, each answer after LATENCY."""

    def do_GET(self) -> None:
        time.sleep(LATENCY)
        data = Path(self.translate_path(self.path)).read_bytes()
        if wanted := self.headers.get("Range"):
            first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            data = data[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def far(place: Path) -> Iterator[str]:
    """The folder over http, served by a process of its own."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(FarHandler, directory=str(place))
    ) as server:
        process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            process.terminate()
            process.join()


def far_rate(url: str, images: int, read_ahead: int) -> float:
    """Images a second from the second batch on: by then the index is there."""
    batches = source(url, 1, read_ahead).batches(0, 1 + images // BATCH, rank=0, world=1)
    next(batches)
    began = time.perf_counter()
    count = sum(len(batch["key"]) for batch in batches)
    return count / (time.perf_counter() - began)


def vast(folder: Path, shards: int, rows: int) -> Path:
    """A dataset of `shards` shards of `rows` samples, which are all links to one."""
    rng = np.random.default_rng(1)
    noise = (rng.integers(0, 256, (24, 32, 3), dtype=np.uint8) for _ in range(rows))
    one = write(folder / "one", (cv2.imencode(".jpg", picture)[1].tobytes() for picture in noise), shards=1)
    record = Dataset.open(one).manifest.shards[0]
    records = []
    for number in range(shards):
        name = f"s{number:06d}"
        files = {file.replace(record.name, name): found for file, found in record.files.items()}
        for file in files:
            (folder / file).symlink_to(one / file.replace(name, record.name))
        records.append(ShardRecord(**record.model_dump(exclude={"name", "files"}), name=name, files=files))
    manifest = Manifest(
        shards=tuple(records),
        samples=shards * rows,
        digest=dataset_digest(tuple(records)),
        provenance={},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return folder


def start_epoch(place: Path, small: Path, window: int | None, reads: int) -> dict[str, float]:
    """Run in a fresh process: the first batch's positions and first sample, then more samples."""
    began = time.perf_counter()
    photos = Photos.open([place, small], [7, 3])
    examples = photos.examples(MaskedPhoto((64, 64), 16), SEED, window)
    places = [examples.locate(position) for position in range(4096)]
    examples.fetch(places[0])
    seconds, read_at = time.perf_counter() - began, time.perf_counter()
    for position in range(reads):
        examples[position]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "samples": len(photos),
        "epoch_start_s": seconds,
        "samples_per_s": reads / (time.perf_counter() - read_at),
        "memory_gib": peak,
    }


def simulate(place: Path, small: Path, quick: bool) -> dict[str, dict[str, float]]:
    """`start_epoch` with a window and without one."""
    found = {}
    for name, window, reads in (("window", WINDOW, 3000), ("whole_epoch", None, 300 if quick else 1500)):
        arguments = ["--start-epoch", str(place), str(small), str(window or 0), str(reads)]
        command = [sys.executable, "-P", __file__, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, quick: bool) -> dict[str, Any]:
    images, rounds, distant = (128, 3, 32) if quick else (256, 7, 96)
    place = write(folder / "photos", photographs(images))
    data = Dataset.open(place)
    chosen = boxes(data)
    files = [(sample.members["jpg"], chosen[sample.key]) for sample in data]
    speed = rates(
        {
            "bare": lambda count: bare(files[:count]),
            "ours": lambda count: ours(place, count),
            "webdataset": lambda count: plain(place, count, chosen),
        },
        images,
        rounds,
    )
    with far(place) as url:
        gains = [(far_rate(url, distant, 0), far_rate(url, distant, READ_AHEAD)) for _ in range(rounds)]
    shards, rows = (2000, 1000) if quick else (SHARDS, ROWS)
    (folder / "vast").mkdir()
    epoch = simulate(vast(folder / "vast", shards, rows), place, quick)
    jpeg_kib = statistics.mean(len(file) for file, _ in files) / 1024
    print(json.dumps({"jpeg_kib": jpeg_kib, "speed": speed, "far_per_s": gains, "vast": epoch}, indent=1))
    return {
        "benchmark": "loader",
        "ratio_decode": round(speed["ours"]["per_cpu_s"] / speed["bare"]["per_cpu_s"], 3),
        "ratio_webdataset": round(speed["ours"]["per_cpu_s"] / speed["webdataset"]["per_cpu_s"], 2),
        "images_per_cpu_s": round(speed["ours"]["per_cpu_s"], 1),
        "latency_gain": round(statistics.median(b / a for a, b in gains), 1),
        "memory_gib": round(max(one["memory_gib"] for one in epoch.values()), 3),
        "epoch_start_s": round(max(one["epoch_start_s"] for one in epoch.values()), 2),
        "samples": round(epoch["window"]["samples"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images; 2,000 shards of 1,000 samples")
    parser.add_argument("--start-epoch", nargs=4, help=argparse.SUPPRESS)  # place, small, window, reads
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if given.start_epoch:
        place, small, window, reads = given.start_epoch
        print(json.dumps(start_epoch(Path(place), Path(small), int(window) or None, int(reads))))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), given.quick)))


if __name__ == "__main__":
    main()
