"""Pools: which inputs there are, in which units, and reading them back."""

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.pool import Input, decode_name, encode_name, list_pool, read_input, read_unit
from shards.errors import ShardError, UsageError
from shards.manifest import write_manifest
from shards.sample import Sample, content_key
from shards.writer import ShardWriter

LIMIT = 1 << 20


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def inputs(root: Path, files_per_unit: int = 100) -> Iterator[Input]:
    for unit in list_pool(root, files_per_unit).units:
        yield from read_unit(root, unit, LIMIT)


def row(entry: Input) -> dict[str, object]:
    return {"source": entry.source, "offset": entry.offset, "bytes": entry.size, "key": entry.key}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.jpg", "a/z.jpg", "a/a.jpg", "ünï.txt", "back\\slash.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / os.fsdecode(b"latin-\xe9.jpg")).write_bytes(b"latin")
    return tmp_path


def test_files_are_listed_in_order_and_cut_into_units(folder: Path) -> None:
    pool = list_pool(folder, files_per_unit=4)
    names = [name for unit in pool.units for name in unit.payload["files"]]
    assert names == sorted(names) and len(names) == pool.inputs == 6
    assert names[:3] == ["a/a.jpg", "a/z.jpg", "b.jpg"] and "latin-\\xe9.jpg" in names
    assert [(unit.name, len(unit.inputs)) for unit in pool.units] == [
        ("files-000000", 4),
        ("files-000001", 2),
    ]


def test_every_file_is_read_back(folder: Path) -> None:
    for entry in inputs(folder, 4):
        assert entry.status is None and entry.data is not None
        assert entry.key == content_key(entry.data)
        assert read_input(folder, row(entry)) == entry.data


def test_a_changed_file_changes_its_unit_and_is_refused(folder: Path) -> None:
    before, entries = list_pool(folder, 4).units, list(inputs(folder))
    (folder / "b.jpg").write_bytes(b"b.jpg, longer")
    after = list_pool(folder, 4).units
    assert [one.inputs == other.inputs for one, other in zip(before, after, strict=True)] == [False, True]
    with pytest.raises(ShardError, match="run annotate and select again"):
        read_input(folder, row(next(entry for entry in entries if entry.source == "b.jpg")))


def test_what_cannot_be_read_is_an_input_with_a_status(tmp_path: Path) -> None:
    (tmp_path / "big.jpg").write_bytes(bytes(LIMIT + 1))
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    statuses = {entry.source: entry.status for entry in inputs(tmp_path)}
    unreadable = dict.fromkeys(("dangling.jpg", "pipe.jpg", "self.jpg"), "decode:unreadable")
    assert statuses == {"big.jpg": "decode:too-large", **unreadable}


@given(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name))
def test_any_file_name_survives(raw: bytes) -> None:
    name = os.fsdecode(raw)
    encoded = encode_name(name)
    assert encoded.encode("utf-8")
    assert os.fsencode(decode_name(encoded)) == raw


def test_tars_by_others(tmp_path: Path) -> None:
    meta = b'{"url": "http://example.org/1", "caption": "one"}'
    write_tar(
        tmp_path / "00000.tar",
        {
            "000000001.jpg": b"first",
            "000000001.json": meta,
            "000000001.txt": b"a caption",
            "000000002.json": b"{}",
            "000000003.depth.png": b"depth",
            "000000003.rgb.png": b"colour",
            "000000004.gif": b"GIF89a",
        },
    )
    (tmp_path / "00000.parquet").write_bytes(b"")
    (tmp_path / "00000_stats.json").write_bytes(b"{}")
    pool = list_pool(tmp_path, 100)
    assert (pool.layout, pool.inputs, len(pool.units)) == ("tars", None, 1)
    entries = list(inputs(tmp_path))
    assert [entry.member for entry in entries] == [
        "000000001.jpg",
        "000000002.json",
        "000000003.rgb.png",
        "000000004.gif",
    ]
    assert [entry.status for entry in entries] == [None, "decode:no-image", None, None]
    assert entries[0].metadata == meta.decode()
    for entry in entries:
        if entry.data is not None:
            assert read_input(tmp_path, row(entry)) == entry.data
    assert [entry.member for entry in inputs(tmp_path / "00000.tar")] == [entry.member for entry in entries]


def test_our_own_datasets_are_pools(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "s-0") as writer:
        for data in (b"one", b"two"):
            writer.add(Sample(content_key(data), {"jpg": data, "json": b"{}"}))
        writer.commit()
    write_manifest(tmp_path, {})
    pool = list_pool(tmp_path, 100)
    assert (pool.layout, pool.inputs) == ("tars", 2)
    assert {entry.data for entry in inputs(tmp_path)} == {b"one", b"two"}


def test_a_tar_that_joins_leaves_the_other_units_alone(tmp_path: Path) -> None:
    write_tar(tmp_path / "b.tar", {"1.jpg": b"1"})
    (before,) = list_pool(tmp_path, 100).units
    write_tar(tmp_path / "a.tar", {"1.jpg": b"2"})
    assert before in list_pool(tmp_path, 100).units


def test_a_cut_tar_is_an_error_not_a_short_list(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {f"{i}.jpg": bytes(3000) for i in range(5)})
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:7000])
    with pytest.raises(ShardError, match="truncated"):
        list(inputs(tmp_path))


def test_no_pool_and_mixed_pools_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such pool"):
        list_pool(tmp_path / "nothing", 100)
    with pytest.raises(UsageError, match="no such pool, or an empty one"):
        list_pool(tmp_path, 100)
    write_tar(tmp_path / "a.tar", {"1.jpg": b"1"})
    (tmp_path / "b.jpg").write_bytes(b"2")
    with pytest.raises(UsageError, match="set `layout`"):
        list_pool(tmp_path, 100)
    assert list_pool(tmp_path, 100, "tars").layout == "tars"
    assert list_pool(tmp_path, 100, "files").inputs == 2
