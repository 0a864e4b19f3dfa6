"""The writer: the same samples give the same bytes, in any order, and nothing shows before the commit."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from shards import (
    Dataset,
    Sample,
    ShardWriter,
    UsageError,
    commit_files,
    index_tar,
    read_marker,
    read_tar,
    summarise,
    verify_bytes,
    write_manifest,
    write_table,
)
from shards.files import temporary_path

MakeSamples = Callable[..., list[Sample]]


KEYS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="./\\"), min_size=1, max_size=200
)
LONG_KEYS = KEYS.filter(lambda key: not key.startswith("__"))
MEMBERS = st.dictionaries(
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,5}(\.[a-z0-9_-]{1,5}){0,2}", fullmatch=True),
    st.binary(max_size=1500),
    min_size=1,
    max_size=4,
)
CONTENTS = st.dictionaries(LONG_KEYS, MEMBERS, max_size=6)


def write(folder: Path, samples: list[Sample], name: str = "s") -> dict[str, bytes]:
    with ShardWriter(folder, name, columns=lambda sample: {"size": len(sample.members)}) as writer:
        for sample in samples:
            writer.add(sample)
        writer.commit(stage_name="test", stage_key="k", run={"worker": os.urandom(4).hex()})
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".tar", ".parquet")}


@settings(max_examples=40)
@given(contents=CONTENTS, data=st.data())
def test_any_order_gives_the_same_bytes_and_reads_back(
    contents: dict[str, dict[str, bytes]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    samples = [Sample(key, members) for key, members in contents.items()]
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    assert write(first, samples) == write(second, data.draw(st.permutations(samples)))
    assert write_manifest(first, {}) == write_manifest(second, {})
    dataset = Dataset.open(first)
    expected = sorted(samples, key=lambda sample: sample.key)
    assert list(dataset) == list(read_tar(first / "s.tar")) == expected
    assert [dataset.get(sample.key) for sample in expected] == expected
    assert index_tar(first / "s.tar") == dataset.table().select(["key", "members"])


# webdataset 1.0.2 leaves the local file it reads for the garbage collector to close.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@settings(max_examples=40)
@given(contents=CONTENTS.filter(len))
def test_webdataset_reads_the_same_keys_and_members(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, dict[str, bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("wds")
    write(folder, [Sample(key, members) for key, members in contents.items()])
    theirs = {
        sample["__key__"]: {name: value for name, value in sample.items() if not name.startswith("__")}
        for sample in webdataset.WebDataset(str(folder / "s.tar"), shardshuffle=False)
    }
    assert theirs == contents


def test_webdataset_writer_and_ours_are_read_alike(tmp_path: Path, make_samples: MakeSamples) -> None:
    samples = make_samples(5)
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), encoder=False, mtime=0) as theirs:
        for sample in samples:
            theirs.write({"__key__": sample.key, **sample.members})
    assert {s.key: dict(s.members) for s in read_tar(tmp_path / "theirs.tar")} == {
        s.key: dict(s.members) for s in samples
    }
    assert index_tar(tmp_path / "theirs.tar")["key"].to_pylist() == [sample.key for sample in samples]


def test_the_marker_holds_digests_and_the_run_apart(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "s") as writer:
        writer.add(Sample("a", {"txt": b"x"}))
        marker = writer.commit(
            stage_name="curate",
            stage_key="k",
            inputs={"raw": "d"},
            rejects={"person:none": 2},
            run={"attempt": 2},
        )
    assert read_marker(tmp_path, "s") == marker
    assert marker.files["s.tar"].sha256 == hashlib.sha256((tmp_path / "s.tar").read_bytes()).hexdigest()
    assert marker.files["s.tar"].bytes == (tmp_path / "s.tar").stat().st_size
    assert (marker.samples, marker.rejects, marker.inputs) == (1, {"person:none": 2}, {"raw": "d"})
    assert marker.run["attempt"] == 2 and {"host", "pid", "committed"} <= marker.run.keys()
    assert "run" not in marker.record().model_dump()


def test_without_commit_nothing_is_left(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "s") as writer:
        writer.add(Sample("a", {"txt": b"x"}))
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, "t") as writer:
        writer.add(Sample("a", {"txt": b"x"}))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    write(tmp_path, [])
    write_manifest(tmp_path, {})
    assert len(Dataset.open(tmp_path)) == 0
    assert list(Dataset.open(tmp_path)) == list(read_tar(tmp_path / "s.tar")) == []


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample("a", {"txt": b"again"}), "added twice"),
        (Sample("b", {}), "no members"),
        (Sample("b.c", {"txt": b""}), "a dot"),
        (Sample("b", {"../x": b""}), "extension"),
    ],
)
def test_a_bad_sample_is_refused_and_costs_only_itself(tmp_path: Path, sample: Sample, reason: str) -> None:
    with ShardWriter(tmp_path, "s") as writer:
        writer.add(Sample("a", {"txt": b"x"}))
        with pytest.raises(UsageError, match=reason):
            writer.add(sample)
        writer.commit()
    assert [sample.key for sample in read_tar(tmp_path / "s.tar")] == ["a"]


@pytest.mark.parametrize("name", ["", "a.b", "../a", "a/b", "manifest", ".a", "-a", "a b"])
def test_bad_shard_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="shard or unit name"):
        ShardWriter(tmp_path, name)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"key": 1}, "taken"),
        ({"x": b"bytes"}, "got bytes"),
        ({"x": [1]}, "got list"),
        ({"x": 2**80}, "no type"),
    ],
)
def test_bad_index_columns_are_refused(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    with ShardWriter(tmp_path, "s", columns=lambda sample: columns) as writer:
        writer.add(Sample("a", {"txt": b"x"}))
        with pytest.raises(UsageError, match=reason):
            writer.commit()


def test_index_columns_are_sorted_and_absent_values_null(tmp_path: Path) -> None:
    values: dict[str, dict[str, Any]] = {"a": {"z": 1, "b": "x"}, "b": {"z": None, "c": 0.5}}
    with ShardWriter(tmp_path, "s", columns=lambda sample: values[sample.key]) as writer:
        for key in values:
            writer.add(Sample(key, {"txt": b""}))
        writer.commit()
    write_manifest(tmp_path, {})
    table = Dataset.open(tmp_path).table()
    assert table.column_names == ["key", "members", "b", "c", "z"]
    assert table.select(["b", "c", "z"]).to_pylist() == [
        {"b": "x", "c": None, "z": 1},
        {"b": None, "c": 0.5, "z": None},
    ]


def test_a_table_is_committed_and_read_like_a_shard(tmp_path: Path) -> None:
    for number in range(2):
        temporary = temporary_path(tmp_path, f"t{number}", "parquet")
        write_table(pa.table({"key": [f"k{number}"], "score": [number / 2]}), temporary)
        commit_files(
            tmp_path, f"t{number}", {f"t{number}.parquet": temporary},
            samples=1, rejects={}, stage_name="annotate", stage_key="k", inputs={},
        )  # fmt: skip
    write_manifest(tmp_path, {})
    dataset = Dataset.open(tmp_path)
    assert len(dataset) == 2
    assert list(verify_bytes(tmp_path)) == []
    assert summarise(tmp_path)["members"] == {}
    assert dataset.table().to_pylist() == [{"key": "k0", "score": 0.0}, {"key": "k1", "score": 0.5}]
    with pytest.raises(UsageError, match="a table, not samples"):
        dataset[0]


@pytest.mark.parametrize("file", ["t.json", "u.tar", "t.d/x"])
def test_commit_files_refuses_foreign_file_names(tmp_path: Path, file: str) -> None:
    with pytest.raises(UsageError, match="file name"):
        commit_files(
            tmp_path,
            "t",
            {file: tmp_path / "x"},
            samples=0,
            rejects={},
            stage_name="",
            stage_key="",
            inputs={},
        )


def test_tables_with_other_metadata_or_chunks_have_the_same_bytes(tmp_path: Path) -> None:
    whole = pa.table({"a": list(range(100))})
    parts = pa.concat_tables([whole.slice(0, 30), whole.slice(30)]).replace_schema_metadata({"made": "now"})
    write_table(whole, tmp_path / "1")
    write_table(parts, tmp_path / "2")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
