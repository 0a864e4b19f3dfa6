"""verify finds each kind of damage and names the file, the key and the member."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import Dataset, Problem, Sample, verify_bytes, verify_structure, write_manifest

MakeSamples = Callable[..., list[Sample]]
WriteShard = Callable[[Path, str, list[Sample]], None]


TAR, INDEX, MARKER = "part-000000.tar", "part-000000.parquet", "part-000000.json"


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def structure(folder: Path) -> list[tuple[str, str]]:
    return brief(list(verify_structure(folder)), folder)


def deep(folder: Path) -> list[tuple[str, str]]:
    return brief(list(verify_bytes(folder)), folder)


def brief(problems: list[Problem], folder: Path) -> list[tuple[str, str]]:
    return [(problem.kind, problem.where.removeprefix(f"{folder}/")) for problem in problems]


def test_an_intact_dataset_has_no_problem(dataset_folder: Path) -> None:
    assert structure(dataset_folder) == deep(dataset_folder) == []
    assert structure(dataset_folder / TAR) == []


def test_every_member_byte_matters_and_is_named(dataset_folder: Path) -> None:
    row = Dataset.open(dataset_folder).table().to_pylist()[2]
    for member in row["members"]:
        position = member["offset"] + member["size"] // 2
        flip(dataset_folder / TAR, position)
        assert structure(dataset_folder) == []
        assert deep(dataset_folder) == [("bytes:changed", f"{TAR}: {row['key']}.{member['name']}")]
        flip(dataset_folder / TAR, position)
    assert deep(dataset_folder) == []


def test_a_flipped_byte_in_padding_or_in_a_header(dataset_folder: Path) -> None:
    member = Dataset.open(dataset_folder).table().to_pylist()[0]["members"][0]
    padding = member["offset"] + member["size"]
    flip(dataset_folder / TAR, padding)
    problems = list(verify_bytes(dataset_folder))
    assert brief(problems, dataset_folder) == [("bytes:changed", TAR)]
    assert "no member's bytes" in problems[0].what
    flip(dataset_folder / TAR, padding)
    flip(dataset_folder / TAR, member["offset"] - 512 + 120)
    assert deep(dataset_folder) == [("tar:damaged", TAR)]


def test_a_flipped_byte_in_the_sidecar(dataset_folder: Path) -> None:
    flip(dataset_folder / INDEX, 100)
    assert structure(dataset_folder) == deep(dataset_folder) == [("index:stale", INDEX)]


@pytest.mark.parametrize("kept", [0, 512, 3000, 10239])
def test_a_truncated_tar(dataset_folder: Path, kept: int) -> None:
    tar = dataset_folder / TAR
    tar.write_bytes(tar.read_bytes()[:kept])
    assert structure(dataset_folder) == deep(dataset_folder) == [("tar:truncated", TAR)]


def test_a_longer_file(dataset_folder: Path) -> None:
    with (dataset_folder / TAR).open("ab") as tar:
        tar.write(b"more")
    assert structure(dataset_folder) == [("file:size", TAR)]


@pytest.mark.parametrize(
    ("file", "kind"), [(TAR, "file:missing"), (INDEX, "file:missing"), (MARKER, "marker:missing")]
)
def test_a_missing_file(dataset_folder: Path, file: str, kind: str) -> None:
    (dataset_folder / file).unlink()
    assert structure(dataset_folder) == deep(dataset_folder) == [(kind, file)]


def test_a_sidecar_of_another_shard_blessed_by_the_marker(
    dataset_folder: Path, tmp_path: Path, make_samples: MakeSamples, write_shard: WriteShard
) -> None:
    """The worst stale sidecar: digests agree everywhere, only the tar itself contradicts it."""
    other = tmp_path / "other"
    write_shard(other, "part-000000", make_samples(7, 100))
    for name in ("tar", "parquet", "json"):
        shutil.copy(other / f"part-000000.{name}", dataset_folder)
    good = make_samples(7)
    write_shard(tmp_path / "good", "part-000000", good)
    tar = (tmp_path / "good" / TAR).read_bytes()
    marker = json.loads((dataset_folder / MARKER).read_bytes())
    (dataset_folder / TAR).write_bytes(tar)
    import hashlib

    marker["files"][TAR] = {"sha256": hashlib.sha256(tar).hexdigest(), "bytes": len(tar)}
    (dataset_folder / MARKER).write_text(json.dumps(marker))
    write_manifest(dataset_folder, {})
    assert [kind for kind, _ in deep(dataset_folder)] == ["index:stale"] * len(deep(dataset_folder)) != []


def test_a_duplicate_key_across_shards(
    dataset_folder: Path, make_samples: MakeSamples, write_shard: WriteShard
) -> None:
    write_shard(dataset_folder, "part-000009", make_samples(1, 3))
    write_manifest(dataset_folder, {})
    problems = list(verify_structure(dataset_folder))
    assert [problem.kind for problem in problems] == ["key:duplicate"]
    assert make_samples(1, 3)[0].key in problems[0].what


def test_a_duplicate_key_inside_a_foreign_tar(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("a.jpg", "b.jpg", "a.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    assert [problem.kind for problem in verify_structure(tmp_path / "x.tar")] == ["key:duplicate"]
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:600])
    assert [problem.kind for problem in verify_bytes(tmp_path / "x.tar")] == ["tar:damaged"]
    assert [problem.kind for problem in verify_structure(tmp_path / "none.tar")] == ["file:missing"]


def test_a_manifest_that_disagrees_with_a_marker(dataset_folder: Path) -> None:
    marker = json.loads((dataset_folder / MARKER).read_bytes())
    (dataset_folder / MARKER).write_text(json.dumps({**marker, "samples": 6, "rejects": {}}))
    problems = list(verify_structure(dataset_folder))
    assert [problem.kind for problem in problems] == ["manifest:disagrees"]
    assert "samples, rejects" in problems[0].what
    (dataset_folder / MARKER).write_text("{}")
    assert structure(dataset_folder) == [("marker:damaged", MARKER)]


def test_a_manifest_edited_missing_or_too_short(
    dataset_folder: Path, make_samples: MakeSamples, write_shard: WriteShard
) -> None:
    write_shard(dataset_folder, "late", make_samples(1, 50))
    assert structure(dataset_folder) == [
        ("file:unlisted", f"late.{end}") for end in ("json", "parquet", "tar")
    ]
    path = dataset_folder / "manifest.json"
    path.write_text(path.read_text().replace('"samples": 5', '"samples": 4'))
    assert structure(dataset_folder) == deep(dataset_folder) == [("manifest:damaged", "manifest.json")]
    path.unlink()
    assert structure(dataset_folder) == [("manifest:missing", "manifest.json")]


def test_a_manifest_with_quarantined_units_is_incomplete(dataset_folder: Path) -> None:
    write_manifest(dataset_folder, {}, ("part-000003",))
    assert structure(dataset_folder) == [("manifest:incomplete", "manifest.json")]


def test_what_was_run_does_not_count(dataset_folder: Path) -> None:
    marker = json.loads((dataset_folder / MARKER).read_bytes())
    (dataset_folder / MARKER).write_text(json.dumps({**marker, "run": {"host": "elsewhere"}}))
    assert deep(dataset_folder) == []
