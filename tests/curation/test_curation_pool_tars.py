"""Tars by others and by us: every sample once, nothing lost silently, nothing in memory that need not be."""

import io
import os
import tarfile
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.pool import Input, PoolConfig, list_pool, read_input, read_unit
from shards.errors import ShardError
from shards.manifest import write_manifest
from shards.sample import Sample, content_key
from shards.writer import ShardWriter

LIMIT = 1 << 20
Member = tuple[str, bytes]


def tar_bytes(members: Sequence[Member], format: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def inputs(root: Path, max_bytes: int = LIMIT, **config: Any) -> Iterator[Input]:
    chosen = PoolConfig(max_bytes=max_bytes, **config)
    for unit in list_pool(root, chosen).units:
        yield from read_unit(root, unit, chosen)


def read(data: bytes, tmp_path: Path, max_bytes: int = LIMIT) -> list[Input]:
    (tmp_path / "x.tar").write_bytes(data)
    return list(inputs(tmp_path / "x.tar", max_bytes))


def row(entry: Input) -> dict[str, object]:
    return {"source": entry.source, "offset": entry.offset, "bytes": entry.size, "key": entry.key}


def test_img2dataset_output_is_read_as_it_is(tmp_path: Path) -> None:
    meta = b'{"url": "http://example.org/1", "caption": "one"}'
    for shard in ("00000", "00001"):
        members = [
            (f"{shard}0001.jpg", shard.encode()),
            (f"{shard}0001.json", meta),
            (f"{shard}0001.txt", b"one"),
        ]
        (tmp_path / f"{shard}.tar").write_bytes(tar_bytes(members, tarfile.USTAR_FORMAT))
        (tmp_path / f"{shard}_stats.json").write_bytes(b"{}")
        table = pa.table(
            {"key": [f"{shard}0001", f"{shard}0002"], "status": ["success", "failed_to_download"]}
        )
        pq.write_table(table, tmp_path / f"{shard}.parquet")
    pool = list_pool(tmp_path, PoolConfig())
    assert (pool.layout, pool.inputs, len(pool.units)) == ("tars", None, 2)
    entries = list(inputs(tmp_path))
    assert [entry.member for entry in entries] == ["000000001.jpg", "000010001.jpg"]
    assert [entry.metadata for entry in entries] == [meta.decode()] * 2


def test_samples_have_one_image_or_a_reason(tmp_path: Path) -> None:
    members = [
        ("1.jpg", b"first"), ("1.json", b"{}"), ("1.txt", b"caption"), ("2.json", b'{"only": 1}'),
        ("3.depth.png", b"depth"), ("3.rgb.png", b"colour"), ("4.gif", b"GIF89a"), ("5.png", b"png"),
        ("5.jpg", b"jpg"), ("6.JPG", b"upper"), ("7.cls", b"7"), ("8.json", bytes(1 << 17)), ("8.webp", b"8"),
        ("no extension", b"whole"), (".hidden.jpg", b"-"), ("__meta__/x.json", b"-"), ("._9.jpg", b"-"),
    ]  # fmt: skip
    (tmp_path / "a.tar").write_bytes(tar_bytes(members))
    entries = list(inputs(tmp_path))
    assert [(entry.member, entry.data, entry.status) for entry in entries] == [
        ("1.jpg", b"first", None), ("2.json", None, "decode:no-image"), ("3.rgb.png", b"colour", None),
        ("4.gif", b"GIF89a", None), ("5.jpg", b"jpg", None), ("6.JPG", b"upper", None),
        ("7.cls", None, "decode:no-image"), ("8.webp", b"8", None), ("no extension", b"whole", None),
    ]  # fmt: skip
    assert entries[1].metadata == '{"only": 1}' and entries[7].metadata is None
    for entry in entries:
        assert entry.sha256 and entry.offset is not None
        if entry.data is not None:
            assert read_input(tmp_path, row(entry)) == entry.data
    assert list(inputs(tmp_path / "a.tar")) == entries


def test_duplicate_keys_are_inputs_each(tmp_path: Path) -> None:
    members = [("1.jpg", b"a"), ("2.jpg", b"b"), ("1.jpg", b"c"), ("1.jpg", b"d"), ("1.json", b"{}")]
    found = read(tar_bytes(members), tmp_path)
    assert [(entry.member, entry.data, entry.metadata) for entry in found] == [
        ("1.jpg", b"a", None), ("2.jpg", b"b", None), ("1.jpg", b"c", None), ("1.jpg", b"d", "{}"),
    ]  # fmt: skip


def test_names_that_are_no_text_cost_nothing(tmp_path: Path) -> None:
    names = [
        "ünï/名前.jpg",
        "new\nline.jpg",
        "../../up.jpg",
        "/abs.jpg",
        "a\\b.jpg",
        "é" * 200 + ".jpg",
        "x.jpg",
    ]
    data = tar_bytes([(name, b"%d" % number) for number, name in enumerate(names)], tarfile.GNU_FORMAT)
    data = data.replace(b"x.jpg\0", b"\xff.jpg\0", 1)
    at = data.index(b"\xff.jpg\0")
    header = bytearray(data[at : at + 512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    found = read(data[:at] + bytes(header) + data[at + 512 :], tmp_path)
    assert [entry.data for entry in found] == [b"%d" % number for number in range(7)]
    assert found[-1].member == "\\xff.jpg" and found[4].member == "a\\\\b.jpg"
    assert all(str(entry.member).encode("utf-8") for entry in found)


def test_links_and_devices_are_rows(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind in {"1.jpg": tarfile.SYMTYPE, "2.jpg": tarfile.LNKTYPE, "3.jpg": tarfile.CHRTYPE,
                           "4.jpg": tarfile.FIFOTYPE, "folder": tarfile.DIRTYPE}.items():  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("5.jpg")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"5"))
    found = read(stream.getvalue(), tmp_path)
    assert [entry.status for entry in found] == ["decode:unreadable"] * 4 + [None]


def test_large_members_are_passed_over(tmp_path: Path) -> None:
    """Neither an image over the limit nor a video beside it is ever in memory."""
    big = bytes(24 << 20)
    data = tar_bytes([("1.jpg", big), ("2.mp4", big), ("2.jpg", b"two"), ("3.jpg", b"3")])
    (tmp_path / "x.tar").write_bytes(data)
    del data
    tracemalloc.start()
    found = list(inputs(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(entry.size, entry.status) for entry in found] == [
        (24 << 20, "decode:too-large"), (3, None), (1, None)
    ]  # fmt: skip
    assert found[0].key == content_key(big) and found[0].data is None
    assert peak < 8 << 20


@pytest.mark.parametrize("size", [100 << 30, 2 << 20])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_claims_more_than_there_is_allocates_nothing(
    tmp_path: Path, size: int, kind: bytes
) -> None:
    info = tarfile.TarInfo("1.jpg")
    info.size, info.type = size, kind
    data = tar_bytes([("0.jpg", b"0")])[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    tracemalloc.start()
    with pytest.raises(ShardError, match=r"truncated|claims"):
        read(data, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_empty_tars_and_broken_ones(tmp_path: Path) -> None:
    assert read(bytes(10240), tmp_path) == []
    data = tar_bytes([(f"{number}.jpg", bytes([number]) * 3000) for number in range(5)])
    assert len(read(data, tmp_path)) == 5
    broken = {
        "empty": b"",
        "no tar": b"no tar" * 500,
        "cut header": data[:7000],
        "cut data": data[:14000],
        "no end": data[: 5 * 3584],
        "two": data + data,
        "flipped": data[:3590] + b"~" + data[3591:],
    }
    for name, bad in broken.items():
        with pytest.raises(ShardError, match="not a tar"):
            read(bad, tmp_path)
            raise AssertionError(name)
    (tmp_path / "x.tar").unlink()
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(ShardError, match="no regular file"):
        list(inputs(tmp_path))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_rows_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    members = [("1.jpg", b"1" * 700), ("1.json", b"{}"), ("ü" * 120 + ".jpg", b"2"), ("3.png", b"3")]
    format = data.draw(st.sampled_from((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)))
    content = bytearray(tar_bytes(members, format))
    for place in data.draw(st.lists(st.integers(0, 6000), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a checksum that fits the damage
        at = 512 * data.draw(st.integers(0, 8))
        content[at + 148 : at + 156] = b" " * 8
        content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    folder = tmp_path_factory.getbasetemp()
    try:
        found = read(bytes(content), folder)
    except ShardError:
        return
    assert all((entry.data is None) == (entry.status is not None) for entry in found)


def test_our_own_datasets_are_pools_that_are_not_read_to_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ShardWriter(tmp_path, "s-0") as writer:
        for data in (b"one", b"two"):
            writer.add(Sample(content_key(data), {"jpg": data, "json": b"{}"}))
        marker = writer.commit()
    write_manifest(tmp_path, {})
    with monkeypatch.context() as patch:
        patch.setattr("curation.pool.place.open_target", None)
        pool = list_pool(tmp_path, PoolConfig())
    assert (pool.layout, pool.inputs) == ("tars", 2)
    assert pool.units[0].inputs == {"s-0.tar": marker.files["s-0.tar"].sha256}
    assert {entry.data for entry in inputs(tmp_path)} == {b"one", b"two"}


def test_a_tar_that_joins_leaves_the_other_units_alone(tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(tar_bytes([("1.jpg", b"1")]))
    (before,) = list_pool(tmp_path, PoolConfig()).units
    (tmp_path / "a.tar").write_bytes(tar_bytes([("1.jpg", b"2")]))
    assert before in list_pool(tmp_path, PoolConfig()).units
