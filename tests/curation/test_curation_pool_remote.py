"""Pools on a store: listed without being read, streamed in blocks, references kept inside."""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.pool import Input, PoolConfig, list_pool, read_input, read_unit
from shards.errors import ShardError, UsageError
from shards.manifest import write_manifest
from shards.sample import Sample, content_key
from shards.writer import ShardWriter


def inputs(root: str, **config: Any) -> Iterator[Input]:
    chosen = PoolConfig(**config)
    for unit in list_pool(root, chosen).units:
        yield from read_unit(root, unit, chosen)


def row(entry: Input) -> dict[str, object]:
    where = {"source": entry.source, "offset": entry.offset, "member": entry.member}
    return {**where, "bytes": entry.size, "key": entry.key}


def tar_bytes(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture
def store() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("root", ["memory://pool", "memory://pool/", "memory://pool/**", "memory://pool/*/*"])
def test_files_on_a_store(store: Any, root: str) -> None:
    names = ["a/1.jpg", "a/ünï.jpg", "b/x::y.jpg", "b/back\\slash.jpg", "b/new\nline.jpg", "b/#1?.jpg"]
    for name in names:
        store.pipe(f"/pool/{name}", name.encode())
    store.pipe("/elsewhere/2.jpg", b"-")
    found = list(inputs(root))
    assert [(entry.data or b"").decode() for entry in found] == sorted(names)
    for entry in found:
        assert entry.status is None and read_input(root, row(entry)) == entry.data


def test_a_store_is_listed_not_read(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/pool/0.tar", tar_bytes({"1.jpg": b"one"}))
    monkeypatch.setattr("curation.pool.place.open_target", None)
    (before,) = list_pool("memory://pool", PoolConfig()).units
    assert before == list_pool("memory://pool", PoolConfig()).units[0]
    store.pipe("/pool/0.tar", tar_bytes({"1.jpg": b"two"}))
    (after,) = list_pool("memory://pool", PoolConfig()).units
    assert after.name == before.name and after.inputs != before.inputs


def test_content_identity_on_a_store_is_the_same_as_on_a_disk(store: Any, tmp_path: Path) -> None:
    data = tar_bytes({"1.jpg": b"one"})
    store.pipe("/pool/0.tar", data)
    (tmp_path / "0.tar").write_bytes(data)
    assert list_pool("memory://pool", PoolConfig(identity="content")) == list_pool(tmp_path, PoolConfig())


def test_tars_stream_in_blocks(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"{number}.jpg": bytes([number]) * 3000 for number in range(20)}
    store.pipe("/pool/0.tar", tar_bytes(members))
    opened = list[dict[str, Any]]()
    real = type(store).open

    def spy(self: Any, path: str, mode: str = "rb", **options: Any) -> Any:
        opened.append(options)
        stream = real(self, path, mode, **options)
        monkeypatch.setattr(stream, "seek", None, raising=False)
        return stream

    monkeypatch.setattr(type(store), "open", spy)
    found = list(inputs("memory://pool"))
    monkeypatch.undo()
    assert [entry.data for entry in found] == list(members.values())
    assert opened == [{"block_size": 8 << 20, "cache_type": "readahead"}]
    for entry in found:
        assert read_input("memory://pool", row(entry)) == entry.data


def test_our_datasets_on_a_store(store: Any, tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "s-0") as writer:
        writer.add(Sample(content_key(b"one"), {"jpg": b"one"}))
        writer.commit()
    write_manifest(tmp_path, {})
    store.put(str(tmp_path), "/set", recursive=True)
    pool = list_pool("memory://set", PoolConfig())
    assert (pool.layout, pool.inputs, pool.units) == ("tars", 1, list_pool(tmp_path, PoolConfig()).units)
    assert [entry.data for entry in inputs("memory://set")] == [b"one"]


def test_references_of_tables_stay_in_the_store(store: Any, tmp_path: Path) -> None:
    store.pipe("/pool/images/a.jpg", b"a")
    store.pipe("/pool-2/b.jpg", b"b")
    (tmp_path / "local.jpg").write_bytes(b"local")
    outside = (None, "decode:outside")
    expected = {
        "images/a.jpg": (b"a", None),
        "memory://pool/images/a.jpg": (b"a", None),
        "images/none.jpg": (None, "decode:unreadable"),
        "../pool-2/b.jpg": outside,
        "memory://pool-2/b.jpg": outside,
        "memory://pool/../pool-2/b.jpg": outside,
        "/etc/passwd": outside,
        f"file://{tmp_path}/local.jpg": outside,
        "https://example.org/a.jpg": (None, "decode:not-fetched"),
    }
    pq.write_table(pa.table({"path": list(expected)}), tmp_path / "t.parquet")
    store.pipe("/pool/t.parquet", (tmp_path / "t.parquet").read_bytes())
    store.pipe("/pool/t.jsonl", "\n".join(json.dumps({"url": text}) for text in expected).encode())
    for name in ("t.parquet", "t.jsonl"):
        root = f"memory://pool/{name}"
        found = list(inputs(root))
        assert [(entry.data, entry.status) for entry in found] == list(expected.values())
        for entry in found:
            if entry.data is not None:
                assert read_input(root, row(entry)) == entry.data
        allow = ("memory://pool-2", str(tmp_path))
        allowed = [entry.data for entry in inputs(root, allow=allow)]
        assert allowed[4] == b"b" and allowed[5] is None and allowed[7] == b"local"


def test_a_store_that_fails_is_not_a_bad_file(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/pool/a.jpg", b"a")
    (unit,) = list_pool("memory://pool", PoolConfig()).units

    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("the network is down")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "open", fail)
        with pytest.raises(TimeoutError):
            list(read_unit("memory://pool", unit, PoolConfig()))
    store.rm("/pool/a.jpg")
    assert [entry.status for entry in read_unit("memory://pool", unit, PoolConfig())] == ["decode:unreadable"]
    with pytest.raises(ShardError, match="run annotate again"):
        read_input("memory://pool", {"source": "a.jpg", "offset": None, "bytes": 1, "key": content_key(b"a")})
    with pytest.raises(UsageError, match="no such pool"):
        list_pool("memory://nowhere", PoolConfig())


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """A server without byte ranges that serves `tmp_path`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_list_of_urls_and_a_server_without_ranges(tmp_path: Path, web: str) -> None:
    members = {f"{number}.jpg": bytes([number]) * 3000 for number in range(5)}
    for name in ("0.tar", "1.tar"):
        (tmp_path / name).write_bytes(tar_bytes(members))
    (tmp_path / "list.txt").write_text(f"{web}/0.tar\n{web}/1.tar\n")
    for root in (f"{tmp_path}/list.txt", f"{web}/list.txt", f"{web}/0.tar"):
        found = list(inputs(root))
        assert [entry.data for entry in found] == list(members.values()) * (1 if root.endswith("tar") else 2)
