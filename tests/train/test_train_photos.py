"""Several datasets in shares, samples fetched ahead from a slow store, and indexes beyond memory."""

import http.server
import io
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from annotation.codecs import encode_rgb
from pipelines.cli.train import app
from shards import reader
from shards.errors import ShardError, UsageError
from shards.index import read_table
from shards.manifest import Manifest, dataset_digest, write_manifest
from shards.parallel import in_order
from shards.reader import Dataset
from shards.sample import Sample, content_key
from shards.storage import Store
from shards.writer import ShardWriter
from train.data.dataset import Batch, ShardSource
from train.data.lending import Borrowed, Free, Slots
from train.data.photo import MaskedPhoto
from train.data.photos import READ_AHEAD, Photos
from train.pretrain import PretrainConfig, fixed_examples, main, pretrain

SIZE, PATCHES = (32, 48), 6
MAKE = MaskedPhoto(SIZE, PATCHES)
LATENCY = 0.05  # seconds


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def write(folder: Path, seeds: range, shards: int = 2, render: bool = False) -> Path:
    """Photos (jpg and json), or renders: a picture beside a label that no loader of photos may read."""
    for number in range(shards):
        with ShardWriter(folder, f"part-{number}") as writer:
            for seed in seeds[number::shards]:
                buffer = io.BytesIO()
                Image.fromarray(picture(seed)).save(buffer, "JPEG")
                members = {"jpg": buffer.getvalue(), "json": b"{}"}
                if render:
                    members = {"rgb.png": encode_rgb(picture(seed)), "depth.png": bytes(300_000)}
                writer.add(Sample(content_key(b"%d" % seed), members))
            writer.commit()
    write_manifest(folder, {})
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("photos"), range(11), shards=3)


@pytest.fixture(scope="module")
def renders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("renders"), range(100, 105), render=True)


class SlowHandler(http.server.SimpleHTTPRequestHandler):
    """Byte ranges, each after `LATENCY`, as an object store far away; refuses those in `refused`."""

    requested: ClassVar[list[tuple[str, int, int]]] = []
    crowd: ClassVar[list[int]] = []
    """Requests under way as each began."""
    busy: ClassVar[int] = 0
    lock: ClassVar[threading.Lock] = threading.Lock()
    refused: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self) -> None:
        with self.lock:
            SlowHandler.busy += 1
            self.crowd.append(SlowHandler.busy)
        time.sleep(LATENCY)
        with self.lock:
            SlowHandler.busy -= 1
        self._answer()

    def _answer(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        if wanted := self.headers.get("Range"):
            first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
            self.requested.append((path.name, first, last + 1))
            if (path.name, first) in self.refused:
                self.send_error(503)
                return
            data = data[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def far(photos: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// through aiohttp")
    handler = partial(SlowHandler, directory=str(photos))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        SlowHandler.requested.clear()
        SlowHandler.refused.clear()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def source(
    photos: Photos,
    batch: int = 12,
    accumulate: int = 1,
    workers: int = 0,
    read_ahead: int = 0,
    window: int | None = None,
) -> ShardSource:
    examples = photos.examples(MAKE, 0, window)
    return ShardSource(examples, batch, accumulate=accumulate, workers=workers, read_ahead=read_ahead)


def take(source: ShardSource, start: int, stop: int, world: int = 1) -> Batch:
    """The steps [start, stop) over all ranks, joined in the order of their positions."""
    ranks = [list(source.batches(start, stop, rank=rank, world=world)) for rank in range(world)]
    size = source.accumulate
    parts = [
        p for step in range(stop - start) for rank in ranks for p in rank[step * size : (step + 1) * size]
    ]
    joined: Batch = {name: torch.cat([part[name] for part in parts]) for name in ("image", "noise")}
    return joined | {"key": [key for part in parts for key in part["key"]]}


def equal(one: Batch, other: Batch) -> bool:
    return one["key"] == other["key"] and all(torch.equal(one[n], other[n]) for n in ("image", "noise"))


@pytest.mark.parametrize("window", [None, 2])
def test_ranks_workers_accumulation_and_read_ahead_change_no_sample(
    photos: Path, renders: Path, window: int | None
) -> None:
    mixture = Photos.open([photos, renders], [2, 1])
    whole = take(source(mixture, window=window), 1, 3)
    assert len(set(whole["key"])) > 8
    for accumulate, workers, read_ahead, world in [(1, 0, 5, 2), (3, 0, 0, 2), (2, 2, 3, 1), (1, 2, 0, 2)]:
        other = source(mixture, 12, accumulate, workers, read_ahead, window)
        assert equal(take(other, 1, 3, world), whole)
    assert not equal(take(source(mixture, window=None if window else 1), 1, 3), whole)


def test_a_mixture_keeps_its_shares_and_reads_only_pictures(
    photos: Path, renders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = Photos.open([photos, renders], [30, 10])
    assert mixture.weights == (3, 1)
    read: list[int] = []
    read_range = Store.read_range

    def counting(store: Store, name: str, start: int, stop: int) -> bytes:
        read.append(stop - start)
        return read_range(store, name, start, stop)

    examples = mixture.examples(MAKE, 0)
    monkeypatch.setattr(Store, "read_range", counting)
    rendered = set(Dataset.open(renders).keys())
    keys = [examples[position][0] for position in range(80)]
    assert [sum(key in rendered for key in keys[p : p + 4]) for p in range(0, 80, 4)] == [1] * 20
    assert len(read) == 80 and max(read) < 50_000
    alone = Photos.open(renders).examples(MAKE, 0)
    assert {k for k in keys[:20] if k in rendered} == {alone[position][0] for position in range(5)}


def test_by_default_every_photo_comes_equally_often(photos: Path, renders: Path) -> None:
    mixture = Photos.open([photos, renders])
    assert (mixture.weights, len(mixture)) == ((11, 5), 16)
    examples = mixture.examples(MAKE, 3)
    assert set(Counter(examples[position][0] for position in range(48)).values()) == {3}


def test_wrong_mixtures_are_refused(photos: Path, renders: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"weights: expected one for each of the 2 datasets.*\[1\]"):
        Photos.open([photos, renders], [1])
    with pytest.raises(UsageError, match="are the same data"):
        Photos.open([photos, renders, str(photos)])
    write_manifest(tmp_path, {})
    with pytest.raises(UsageError, match="holds no samples"):
        Photos.open([photos, tmp_path])


def test_one_dataset_is_named_by_its_digest_and_several_by_all_and_the_weights(
    photos: Path, renders: Path
) -> None:
    digests = [Dataset.open(place).digest for place in (photos, renders)]
    assert Photos.open(photos).identity == Photos.open([str(photos)], [4]).identity == digests[0]
    assert Photos.open([photos, renders], [7, 3]).identity == {"digests": digests, "weights": [7, 3]}


SETTINGS = {"size": "tiny", "image_size": [32, 48], "batch": 4, "steps": 5, "warmup_steps": 1}
SETTINGS |= {
    "reconstructions": 3,
    "log_every": 1,
    "checkpoint_every": 2,
    "weights": [2, 1],
    "shuffle_window": 2,
}


def test_pretraining_on_a_mixture_resumes_to_the_same_bits(
    photos: Path, renders: Path, tmp_path: Path
) -> None:
    config = PretrainConfig.model_validate(SETTINGS)
    data = [photos, renders]
    whole = pretrain(config, data, tmp_path / "whole")

    def stop(progress: object) -> None:
        if getattr(progress, "step", 0) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, data, tmp_path / "cut", stop)
    other = config.model_copy(update={"workers": 2, "read_ahead": 3, "accumulate": 1})
    resumed = pretrain(other, data, tmp_path / "cut")
    assert whole.encoder.read_bytes() == resumed.encoder.read_bytes()
    assert whole.result["loss"] == resumed.result["loss"]
    identity = json.loads((tmp_path / "whole/config.json").read_bytes())
    assert identity["data"]["weights"] == [2, 1] and len(identity["data"]["digests"]) == 2
    assert [part["url"] for part in whole.result["data"]] == [str(place) for place in data]
    assert whole.result["samples"] == 16
    with pytest.raises(UsageError, match=r"data\.digests"):
        pretrain(config, data[::-1], tmp_path / "whole")
    assert fixed_examples(config, Photos.open(data, [2, 1]))[0].shape == (3, 3, 32, 48)


def test_far_stores_are_read_ahead_by_default(far: str, photos: Path) -> None:
    assert Photos.open([far]).read_ahead == READ_AHEAD
    assert Photos.open(photos).read_ahead == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_read_ahead_fetches_the_same_bytes_many_at_a_time(far: str, photos: Path, workers: int) -> None:
    expected = take(source(Photos.open(photos)), 0, 2)
    for depth, least, most in ((0, 1, 1), (12, 5, 12)):
        SlowHandler.requested.clear()
        SlowHandler.crowd.clear()
        assert equal(take(source(Photos.open(far), read_ahead=depth, workers=workers), 0, 2), expected)
        ranges = [name for name, _, _ in SlowHandler.requested if name.endswith(".tar")]
        assert len(ranges) >= 24  # nothing is kept: each sample of each step was asked for
        assert least <= max(SlowHandler.crowd) <= most


@pytest.mark.parametrize("workers", [0, 1])
def test_a_range_that_fails_is_named_at_its_own_turn(far: str, photos: Path, workers: int) -> None:
    data = Photos.open(photos)
    keys = take(source(data, 1), 0, 5)["key"]
    dataset = data.datasets[0]
    table = dataset.table()
    at = dataset.position(keys[3])
    shard = next(n for n in range(3) if dataset._starts[n + 1] > at)
    offset = table["members"][at].as_py()[0]["offset"]
    stream = source(Photos.open(far), 1, read_ahead=4, workers=workers)
    SlowHandler.refused.add((f"part-{shard}.tar", offset))
    batches = stream.batches(0, 5, rank=0, world=1)
    assert [batch["key"][0] for batch in islice(batches, 3)] == keys[:3]
    with pytest.raises(ShardError, match=f"sample '{keys[3]}'.*part-{shard}.*cannot be read.*503"):
        next(batches)
    assert not multiprocessing.active_children()


def test_ahead_keeps_order_and_holds_no_more_than_it_says() -> None:
    begun, lock = [0], threading.Lock()

    def fetch(place: int) -> int:
        with lock:
            begun[0] += 1
        time.sleep(0.002 * (place % 3))
        return place * place

    for number, (place, found) in enumerate(in_order(fetch, iter(range(60)), 7)):
        assert (place, found) == (number, number**2)
        assert begun[0] <= number + 8
    stream = in_order(fetch, iter(range(10**9)), 3)
    assert next(stream) == (0, 0)
    stream.close()  # type: ignore[attr-defined]  # ends its threads
    assert not any(thread.name.startswith("read-ahead") for thread in threading.enumerate())


def test_lent_batches_stay_what_they_were_while_anything_of_them_is_held(photos: Path) -> None:
    """A slow reader that keeps every third batch, a view of every fifth, and drops the rest."""
    steps = 60
    expected = list(source(Photos.open(photos), 2).batches(0, steps, rank=0, world=1))
    held: list[tuple[int, Batch]] = []
    views: list[tuple[int, torch.Tensor]] = []
    places = set()
    for number, batch in enumerate(
        source(Photos.open(photos), 2, workers=2).batches(0, steps, rank=0, world=1)
    ):
        assert equal(batch, expected[number])
        places.add(batch["image"].data_ptr())
        if number % 3 == 0:
            held.append((number, batch))
        elif number % 5 == 0:
            views.append((number, batch["noise"].view(-1)[1:].detach()))
    assert len(places) < steps * 3 // 4  # memory is used again
    assert all(equal(batch, expected[number]) for number, batch in held)
    for number, view in views:
        assert torch.equal(view, expected[number]["noise"].view(-1)[1:])


def test_a_slot_goes_back_when_its_last_holder_is_gone() -> None:
    free = Free()
    slots, borrowed = Slots(free), Borrowed(free)
    rows = [{"x": torch.full((3,), value), "y": torch.ones(2)} for value in (1, 2)]
    number, new = slots.stack(iter(rows), 2)
    batch = borrowed.batch(number, new)
    assert (number, batch["x"].tolist()) == (0, [[1] * 3, [2] * 3])
    view = batch["x"][1]
    del batch
    assert slots.stack(rows, 2)[0] == 1  # the view holds the first
    del view
    number, new = slots.stack(rows[::-1], 2)
    assert (number, new) == (0, None)
    assert borrowed.batch(number, new)["x"].tolist() == [[2] * 3, [1] * 3]
    del new
    with pytest.raises(RuntimeError, match="size"):
        slots.stack([{"x": torch.ones(4), "y": torch.ones(2)}], 2)


def wide(folder: Path, names: int, rows: int) -> Dataset:
    """A dataset of `names` shards that are all links to one: as large an index as is wanted."""
    write(folder / "one", range(rows), shards=1)
    record = Dataset.open(folder / "one").manifest.shards[0]
    shards = []
    for number in range(names):
        name = f"s{number:06d}"
        files = {file.replace("part-0", name): found for file, found in record.files.items()}
        for file in files:
            (folder / file).symlink_to(folder / "one" / file.replace(name, "part-0"))
        shards.append(record.model_copy(update={"name": name, "files": files}))
    manifest = Manifest(
        shards=tuple(shards),
        samples=names * rows,
        digest=dataset_digest(tuple(shards)),
        provenance={},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return Dataset.open(folder)


def test_indexes_in_memory_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = wide(tmp_path, 40, 30)
    kept = data._locations
    one = kept(0).nbytes
    assert kept(0).column_names == ["key", "members"]
    assert one < data._read_index(0, read_table).nbytes / 1.5  # no hashes
    monkeypatch.setattr(reader, "CACHED_BYTES", 10 * one)
    for position in range(0, 1200, 7):
        data.read(position)
    assert kept._bytes == sum(table.nbytes for table in kept._kept.values()) <= 10 * one
    assert list(kept._kept) == list(range(30, 40))
    data.read(30 * 30)
    data.read(0)
    assert 30 in kept._kept and 31 not in kept._kept  # the least recently used went


def test_an_index_is_read_once_however_many_threads_ask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = wide(tmp_path, 6, 20)
    read, reads = Store.read, Counter[str]()

    def slowly(store: Store, name: str) -> bytes:
        reads[name] += 1
        time.sleep(0.02)
        return read(store, name)

    monkeypatch.setattr(Store, "read", slowly)
    list(in_order(data.read, iter(range(120)), 16))
    assert reads == Counter({f"s{number:06d}.parquet": 1 for number in range(6)})
    (tmp_path / "s000002.parquet").unlink()
    fresh = Dataset.open(tmp_path)
    for _ in range(2):  # a failure is not remembered
        with pytest.raises(ShardError, match=r"s000002\.parquet: missing"):
            list(in_order(fresh.read, iter(range(40, 60)), 8))
    assert fresh.read(39).key


def test_a_window_reads_each_index_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide(tmp_path, 50, 10)
    photos = Photos.open(tmp_path)
    monkeypatch.setattr(reader, "CACHED_BYTES", 5 * photos.datasets[0]._locations(0).nbytes)
    read, reads = Store.read, Counter[str]()

    def counting(store: Store, name: str) -> bytes:
        reads[name] += 1
        return read(store, name)

    examples = photos.examples(MAKE, 0, window=5)
    everywhere = photos.examples(MAKE, 0)
    monkeypatch.setattr(Store, "read", counting)
    for position in range(500):
        examples.fetch(examples.locate(position))
    assert len(reads) >= 49 and sum(reads.values()) <= 50
    for position in range(500):
        everywhere.fetch(everywhere.locate(position))
    assert sum(reads.values()) > 300


def test_the_command_line_takes_several_datasets(photos: Path, renders: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"pretrain": {**SETTINGS, "steps": 2}}))
    asked = ["--config", str(tmp_path / "params.yaml"), "--section", "pretrain", "--data", str(photos)]
    mixture = [*asked, "--data", str(renders), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["pretrain", *mixture, "--json", "--quiet"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["samples"] == 16
    assert main(mixture) == 0  # found finished
    assert main([*asked, "--out", str(tmp_path / "other")]) == 2  # two weights, one dataset
