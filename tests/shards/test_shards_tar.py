"""Tars: ours are deterministic, foreign ones read as webdataset reads them, dangerous ones refused."""

import io
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from webdataset.tariterators import base_plus_ext

from shards import Dataset, Sample, ShardError, ShardWriter, UsageError, index_tar, read_tar, write_manifest
from shards.tar import check_key, check_member, member_header, split_name

KEY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)


def write_foreign(path: Path, files: list[tuple[str, bytes]], format: int = tarfile.GNU_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1700000000
            tar.addfile(info, io.BytesIO(data))
    return path


def write_special(path: Path, kind: bytes) -> Path:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    return path


@given(KEY_TEXT, st.sampled_from(["jpg", "rgb.png", "a-b_c.0"]))
def test_a_name_is_refused_or_split_as_webdataset_splits_it(key: str, member: str) -> None:
    name = check_member(key, member)
    try:
        check_key(key)
    except UsageError:
        return
    assert split_name(f"{key}.{name}") == (key, member) == base_plus_ext(f"{key}.{name}")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_foreign_names_split_as_webdataset_splits_them(name: str) -> None:
    ours = split_name(name)
    key, extension = base_plus_ext(name)
    if ours is not None and not name.startswith("./"):
        assert ours == (key, extension.lower())


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("a.b", "dot"), ("../a", r"'\.\.'"), ("a/../b", r"'\.\.'"), ("/a", "absolute"), ("", "1 to"),
        ("a//b", "empty"), ("a/", "reserved"), ("__a", "reserved"), ("a\nb", "control"),
        ("a\\b", "backslash"), ("\ud800", "Unicode"), ("é" * 3000, "4096"),
    ],
)  # fmt: skip
def test_keys_that_would_not_survive_are_refused(key: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        check_key(key)


@pytest.mark.parametrize("member", ["", ".jpg", "JPG", "a..b", "a/b", "_x", "jpg\n", "é"])
def test_members_that_would_not_survive_are_refused(member: str) -> None:
    with pytest.raises(UsageError, match="member"):
        check_member("k", member)


@given(st.text(min_size=1, max_size=101) | KEY_TEXT, st.integers(0, 2**40))
def test_headers_are_tarfiles_own(name: str, size: int) -> None:
    try:
        expected = tarfile.TarInfo(name)
        expected.size, expected.mode = size, 0o444
        header = expected.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    except UnicodeEncodeError:
        return
    assert member_header(name, size) == header


def test_an_ordinary_header_is_plain_ustar() -> None:
    header = member_header("0" * 32 + ".rgb.png", 5)
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert len(header) == 512
    assert (info.mtime, info.uid, info.gid, info.mode, info.uname) == (0, 0, 0, 0o444, "")


def test_foreign_tar_with_dotted_extensions_folders_and_capitals(tmp_path: Path) -> None:
    files = [
        ("d.v1/", b""),
        ("d.v1/img.v1.JPG", b"1"),
        ("d.v1/img.v2.jpg", b"2"),
        ("./b.cls", b""),
        ("README", b"x"),
    ]
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    expected = [Sample("d.v1/img", {"v1.jpg": b"1", "v2.jpg": b"2"}), Sample("b", {"cls": b""})]
    assert list(read_tar(tmp_path / "x.tar")) == expected
    index = index_tar(tmp_path / "x.tar").to_pylist()
    assert [row["key"] for row in index] == ["d.v1/img", "b"]
    raw = (tmp_path / "x.tar").read_bytes()
    first, second = index[0]["members"]
    assert raw[first["offset"] : first["offset"] + 1] == b"1"
    assert raw[second["offset"] : second["offset"] + 1] == b"2"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_img2dataset_layout_is_read_and_indexed(tmp_path: Path, format: int) -> None:
    files = []
    for number in range(3):
        key = f"00000{number:04d}"
        files += [
            (f"{key}.jpg", b"\xff\xd8" + bytes([number])),
            (f"{key}.json", b"{}"),
            (f"{key}.txt", b"a man"),
        ]
    path = write_foreign(tmp_path / "00000.tar", files, format)
    samples = list(read_tar(path))
    assert [sample.key for sample in samples] == ["000000000", "000000001", "000000002"]
    assert samples[2].members == {"jpg": b"\xff\xd8\x02", "json": b"{}", "txt": b"a man"}
    assert index_tar(path).num_rows == 3


def test_compressed_tars_stream_but_have_no_index(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("a.txt")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    assert list(read_tar(tmp_path / "x.tar.gz")) == [Sample("a", {"txt": b"hi"})]
    with pytest.raises(ShardError, match=r"x\.tar\.gz"):
        index_tar(tmp_path / "x.tar.gz")


@pytest.mark.parametrize("name", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "a\x01.jpg", "a\\b.jpg"])
def test_unsafe_paths_are_refused_by_name(tmp_path: Path, name: str) -> None:
    path = write_foreign(tmp_path / "x.tar", [("ok.jpg", b"1"), (name, b"2")])
    for read in (lambda: list(read_tar(path)), lambda: index_tar(path)):
        with pytest.raises(ShardError, match="refused") as caught:
            read()
        assert str(path) in str(caught.value) and repr(name) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"), (tarfile.FIFOTYPE, "device"),
    ],
)  # fmt: skip
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, word: str) -> None:
    with pytest.raises(ShardError, match=f"'a.jpg' is a {word}"):
        list(read_tar(write_special(tmp_path / "x.tar", kind)))


@pytest.mark.parametrize(
    "files",
    [
        [("a.jpg", b""), ("b.jpg", b""), ("a.json", b"")],
        [("a.jpg", b"1"), ("a.jpg", b"2")],
        [("a.jpg", b"1"), ("a.JPG", b"2")],
    ],
)
def test_duplicate_keys_and_members_are_refused(tmp_path: Path, files: list[tuple[str, bytes]]) -> None:
    with pytest.raises(ShardError, match="duplicate key"):
        list(read_tar(write_foreign(tmp_path / "x.tar", files)))


@given(data=st.data())
def test_a_tar_cut_anywhere_before_its_end_is_never_taken_for_whole(data: st.DataObject) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for number in range(4):
            info = tarfile.TarInfo(f"{number}.bin")
            info.size = 700
            tar.addfile(info, io.BytesIO(bytes(700)))
    whole = stream.getvalue()
    content_end = 4 * (512 + 1024)
    cut = data.draw(st.integers(0, content_end))
    from shards.index import iterate_samples

    assert len(list(iterate_samples(io.BytesIO(whole), "whole"))) == 4
    with pytest.raises(ShardError, match="where"):
        list(iterate_samples(io.BytesIO(whole[:cut]), "where"))


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "x.tar", [("a.jpg", b"1"), ("b.jpg", b"2")])
    content = bytearray(path.read_bytes())
    content[1024 + 10] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ShardError, match="byte 1024"):
        list(read_tar(path))


def test_a_damaged_compressed_tar_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    noise = random.Random(0).randbytes(1 << 16)
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("a.bin")
        info.size = len(noise)
        tar.addfile(info, io.BytesIO(noise))
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:30000] + bytes(200) + whole[30200:]):
        path.write_bytes(damaged)
        with pytest.raises(ShardError, match=r"x\.tar\.gz"):
            list(read_tar(path))


def test_not_a_tar_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"hello" * 1000)
    with pytest.raises(ShardError, match="not a tar"):
        list(read_tar(tmp_path / "x.tar"))
    with pytest.raises(UsageError, match="no such tar"):
        list(read_tar(tmp_path / "y.tar"))
    with pytest.raises(UsageError, match="no such tar"):
        index_tar(tmp_path / "y.tar")


def test_a_member_of_300_megabytes_and_one_of_none(tmp_path: Path) -> None:
    big = bytes(range(256)) * (300 * 4096)
    with ShardWriter(tmp_path, "big") as writer:
        writer.add(Sample("b", {"bin": big, "empty": b""}))
        writer.add(Sample("a", {"txt": b"first by key"}))
        writer.commit()
    write_manifest(tmp_path, {})
    dataset = Dataset.open(tmp_path)
    assert len(big) == 300 * 1024 * 1024
    assert list(dataset.keys()) == ["a", "b"]
    sample = dataset.get("b")
    assert sample.members["empty"] == b""
    assert sample.members["bin"] == big
