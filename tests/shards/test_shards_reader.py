"""Reading by position and key: locally, through fsspec, over HTTP ranges, across pickles and processes."""

import http.server
import multiprocessing
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from shards import Dataset, Sample, ShardError, UsageError, read_manifest, read_tar, verify_bytes

MakeSamples = Callable[..., list[Sample]]


class RangeHandler(http.server.SimpleHTTPRequestHandler):
    """Serves byte ranges, as object stores do; below `/whole/` it ignores them, as plain servers do."""

    requested: ClassVar[list[tuple[int, int]]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        if self.path.startswith("/whole"):
            self.path = self.path.removeprefix("/whole")
            wanted = None
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().do_GET()
        first, last = (int(part) for part in wanted.removeprefix("bytes=").split("-"))
        data = path.read_bytes()
        self.requested.append((first, last + 1))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}")
        self.send_header("Content-Length", str(len(data[first : last + 1])))
        self.end_headers()
        self.wfile.write(data[first : last + 1])
        return None

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(dataset_folder: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="fsspec reads http:// through aiohttp")
    handler = partial(RangeHandler, directory=str(dataset_folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        RangeHandler.requested.clear()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.fixture
def memory_url(dataset_folder: Path) -> Iterator[str]:
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(dataset_folder) + "/", "/pool/data/", recursive=True)
    yield "memory://pool/data"
    filesystem.rm("/pool", recursive=True)


@pytest.fixture
def expected_samples(make_samples: MakeSamples) -> dict[str, Sample]:
    return {sample.key: sample for sample in make_samples(13)}


def check_everything(dataset: Dataset, expected: dict[str, Sample]) -> None:
    assert len(dataset) == 13
    assert set(dataset.keys()) == set(expected)
    assert list(dataset) == [dataset[i] for i in range(13)]
    for position, key in enumerate(dataset.keys()):
        assert dataset.position(key) == position
        assert dataset.get(key) == dataset[position] == dataset[position - 13] == expected[key]
    assert dataset.table()["n"].to_pylist() == [sample.meta()["n"] for sample in dataset]


def test_a_local_folder(dataset_folder: Path, expected_samples: dict[str, Sample]) -> None:
    check_everything(Dataset.open(dataset_folder), expected_samples)
    check_everything(Dataset.open(f"{dataset_folder}/manifest.json"), expected_samples)


def test_file_and_memory_urls(
    dataset_folder: Path, memory_url: str, make_samples: MakeSamples, expected_samples: dict[str, Sample]
) -> None:
    check_everything(Dataset.open(f"file://{dataset_folder}"), expected_samples)
    check_everything(Dataset.open(memory_url), expected_samples)
    assert {s.key for s in read_tar(f"{memory_url}/part-000001.tar")} == {s.key for s in make_samples(5, 7)}


def test_verify_reads_any_filesystem(dataset_folder: Path, memory_url: str, server: str) -> None:
    assert list(verify_bytes(memory_url)) == list(verify_bytes(server)) == []
    position = Dataset.open(dataset_folder).table()["members"][0].as_py()[0]["offset"]
    path = f"{memory_url}/part-000000.tar".removeprefix("memory:/")
    filesystem = fsspec.filesystem("memory")
    content = bytearray(filesystem.cat_file(path))
    content[position] ^= 1
    filesystem.pipe_file(path, bytes(content))
    filesystem.pipe_file(path.replace("part-000000", "late"), b"")
    assert [problem.kind for problem in verify_bytes(memory_url)] == ["file:unlisted", "bytes:changed"]


def test_http_with_ranges(server: str, expected_samples: dict[str, Sample]) -> None:
    check_everything(Dataset.open(server), expected_samples)


def test_reading_two_members_over_http_fetches_only_their_bytes(
    server: str, expected_samples: dict[str, Sample]
) -> None:
    dataset = Dataset.open(server)
    dataset.table()
    RangeHandler.requested.clear()
    key = dataset.table()["key"][3].as_py()
    sample = dataset.read(3, members=("json", "depth.png"))
    assert sample.members == {name: expected_samples[key].members[name] for name in ("json", "depth.png")}
    ranges = {m["name"]: m for m in dataset.table()["members"][3].as_py()}
    last = ranges["json"]["offset"] + ranges["json"]["size"]
    assert RangeHandler.requested == [(ranges["depth.png"]["offset"], last)]


def test_a_server_that_ignores_ranges_is_named(server: str) -> None:
    with pytest.raises(ShardError, match="ignores byte ranges"):
        Dataset.open(f"{server}/whole")[0]


def test_far_apart_members_are_fetched_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from shards import ShardWriter, write_manifest
    from shards.storage import Store

    members = {"a": b"1" * 10, "b": bytes(1 << 20), "c": b"3" * 10}
    with ShardWriter(tmp_path, "s") as writer:
        writer.add(Sample("k", members))
        writer.commit()
    write_manifest(tmp_path, {})
    sizes: list[int] = []
    read_range = Store.read_range

    def counting(store: Store, name: str, start: int, stop: int) -> bytes:
        sizes.append(stop - start)
        return read_range(store, name, start, stop)

    monkeypatch.setattr(Store, "read_range", counting)
    assert Dataset.open(tmp_path).read(0, members=("c", "a")).members == {
        "c": members["c"],
        "a": members["a"],
    }
    assert sizes == [10, 10]


def test_positions_and_keys_beyond_the_data(dataset_folder: Path) -> None:
    dataset = Dataset.open(dataset_folder)
    for position in (13, -14):
        with pytest.raises(IndexError, match="13 samples"):
            dataset[position]
    for key in ("0", "zzz", ""):
        with pytest.raises(KeyError):
            dataset.get(key)
    with pytest.raises(UsageError, match=r"no member 'jpg'.*depth\.png"):
        dataset.read(0, members=("jpg",))


def test_a_folder_without_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        Dataset.open(tmp_path)
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        Dataset.open("memory://nowhere/at/all")


def test_a_truncated_tar_is_named_when_read(dataset_folder: Path) -> None:
    tar = dataset_folder / "part-000000.tar"
    tar.write_bytes(tar.read_bytes()[:3000])
    dataset = Dataset.open(dataset_folder)
    with pytest.raises(ShardError, match=r"part-000000\.tar.*truncated"):
        dataset[6]
    with pytest.raises(ShardError, match=r"part-000000\.tar.*truncated"):
        list(dataset)


def test_a_missing_or_stale_sidecar_is_named_when_read(dataset_folder: Path) -> None:
    sidecar = dataset_folder / "part-000001.parquet"
    sidecar.write_bytes((dataset_folder / "part-000002.parquet").read_bytes())
    with pytest.raises(ShardError, match="stale"):
        Dataset.open(dataset_folder)[8]
    sidecar.write_bytes(b"PAR1 no")
    with pytest.raises(ShardError, match="damaged parquet"):
        Dataset.open(dataset_folder)[8]
    sidecar.unlink()
    with pytest.raises(ShardError, match="missing"):
        Dataset.open(dataset_folder)[8]


def test_a_manifest_edited_by_hand_is_refused(dataset_folder: Path) -> None:
    path = dataset_folder / "manifest.json"
    path.write_text(path.read_text().replace('"samples": 5', '"samples": 4'))
    with pytest.raises(ShardError, match="digest"):
        read_manifest(dataset_folder)
    path.write_text('{"schema_version": 99}')
    with pytest.raises(ShardError, match="schema_version 99"):
        read_manifest(dataset_folder)
    path.write_text('{"schema_version": 1, "shards": 3}')
    with pytest.raises(ShardError, match=r"manifest\.json: shards"):
        read_manifest(dataset_folder)
    path.write_text("{")
    with pytest.raises(ShardError, match="not JSON"):
        read_manifest(dataset_folder)


def test_a_pickled_dataset_reads_the_same(dataset_folder: Path, expected_samples: dict[str, Sample]) -> None:
    dataset = Dataset.open(dataset_folder)
    dataset.position(next(dataset.keys()))
    copied = pickle.loads(pickle.dumps(dataset))
    check_everything(copied, expected_samples)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_readers_in_other_processes(dataset_folder: Path, memory_url: str, method: str) -> None:
    dataset = Dataset.open(dataset_folder)
    expected = [sample.key for sample in dataset]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert [sample.key for sample in pool.map(dataset.__getitem__, range(13))] == expected
