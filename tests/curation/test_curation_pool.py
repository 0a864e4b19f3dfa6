"""Pools of files: which inputs there are, in which units, what is not followed, and reading them back."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.pool import Input, PoolConfig, decode_name, encode_name, list_pool, read_input, read_unit
from shards.errors import ShardError, UsageError
from shards.units import Unit

LIMIT = 1 << 20


def inputs(root: str | Path, **config: Any) -> Iterator[Input]:
    settings = PoolConfig(**{"max_bytes": LIMIT, **config})
    for unit in list_pool(root, settings).units:
        yield from read_unit(root, unit, settings)


def statuses(root: str | Path, **config: Any) -> dict[str, str | None]:
    found = list(inputs(root, **config))
    assert len({entry.source for entry in found}) == len(found)
    return {entry.source: entry.status for entry in found}


def row(entry: Input) -> dict[str, object]:
    return {"source": entry.source, "offset": entry.offset, "bytes": entry.size, "key": entry.key}


def units(root: Path, size: int) -> dict[str, Unit]:
    return {unit.name: unit for unit in list_pool(root, PoolConfig(files_per_unit=size)).units}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.jpg",
        "a/z.jpg",
        "a/a.jpg",
        "ünï.txt",
        "back\\slash.jpg",
        "new\nline.jpg",
        "ä" * 125 + ".jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / os.fsdecode(b"latin-\xe9.jpg")).write_bytes(b"latin")
    return tmp_path


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(400):
        (tmp_path / f"{number:03d}.jpg").write_bytes(b"%d" % number)
    return tmp_path


def test_files_are_listed_in_order_and_read_back(folder: Path) -> None:
    pool = list_pool(folder, PoolConfig())
    names = [name for unit in pool.units for name in unit.payload["files"]]
    assert names == sorted(names) and len(names) == pool.inputs == 8
    assert names[:2] == ["a/a.jpg", "a/z.jpg"] and "latin-\\xe9.jpg" in names
    for entry in inputs(folder):
        assert entry.status is None and entry.data is not None
        assert read_input(folder, row(entry)) == entry.data


def test_units_are_of_the_asked_size_on_average_and_bounded(many: Path) -> None:
    found = units(many, 20)
    sizes = [len(unit.payload["files"]) for unit in found.values()]
    assert sum(sizes) == 400 and max(sizes) <= 80 and 10 <= len(sizes) <= 40
    assert all(set(unit.inputs) == set(unit.payload["files"]) for unit in found.values())
    assert len(units(many, 1)) == 400


def test_files_that_join_or_leave_change_their_own_unit_only(many: Path) -> None:
    before = units(many, 20)
    for number in range(0, 400, 40):
        (many / f"{number:03d}-joined.jpg").write_bytes(b"new")
        after = units(many, 20)
        assert len([name for name in after if after[name] != before.get(name)]) <= 2  # it may begin a unit
        before = after
    (many / "000.jpg").unlink()
    after = units(many, 20)
    assert len([name for name in after if after[name] != before.get(name)]) == 1


def test_a_changed_file_changes_its_unit_and_is_refused(many: Path) -> None:
    before, entries = units(many, 20), list(inputs(many))
    (many / "200.jpg").write_bytes(b"200, longer")
    after = units(many, 20)
    assert list(before) == list(after) and sum(before[name] != after[name] for name in after) == 1
    with pytest.raises(ShardError, match="run annotate and select again"):
        read_input(many, row(next(entry for entry in entries if entry.source == "200.jpg")))
    (many / "200.jpg").unlink()
    with pytest.raises(ShardError, match="cannot be read any more"):
        read_input(many, row(next(entry for entry in entries if entry.source == "200.jpg")))


def test_identity_by_stat_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(b"one")
    (content,) = list_pool(tmp_path, PoolConfig()).units
    monkeypatch.setattr("curation.pool.place.open_target", None)
    stat = PoolConfig(identity="stat")
    (before,) = list_pool(tmp_path, stat).units
    assert before == list_pool(tmp_path, stat).units[0] and before.inputs != content.inputs
    os.utime(tmp_path / "a.jpg", ns=(1, 1))
    assert before.inputs != list_pool(tmp_path, stat).units[0].inputs


def test_what_cannot_be_read_is_an_input_with_a_status(tmp_path: Path) -> None:
    root, outside = tmp_path / "pool", tmp_path / "outside"
    (root / "inner").mkdir(parents=True)
    outside.mkdir()
    (root / "inner" / "a.jpg").write_bytes(b"a")
    (outside / "secret.jpg").write_bytes(b"b")
    (root / "big.jpg").write_bytes(bytes(LIMIT + 1))
    for name, target in {
        "dangling.jpg": "nowhere", "loop": str(root), "self.jpg": "self.jpg", "there.jpg": "back.jpg",
        "back.jpg": "there.jpg", "inside.jpg": "inner/a.jpg", "folder": "inner", "parent": "..",
        "out.jpg": str(outside / "secret.jpg"), "up.jpg": "../outside/secret.jpg", "null.jpg": "/dev/null",
        "zero.jpg": "/dev/zero", "same.jpg": str(root / "inner" / "a.jpg"),
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket.jpg"))
    found = statuses(root)
    link, unreadable = "decode:link", "decode:unreadable"
    assert found == {
        "big.jpg": "decode:too-large", "dangling.jpg": unreadable, "loop": link, "self.jpg": unreadable,
        "there.jpg": unreadable, "back.jpg": unreadable, "inside.jpg": None, "folder": link, "parent": link,
        "out.jpg": link, "up.jpg": link, "null.jpg": link, "zero.jpg": link, "pipe.jpg": unreadable,
        "socket.jpg": unreadable, "inner/a.jpg": None, "same.jpg": None,
    }  # fmt: skip
    allowed = statuses(root, allow=(str(outside), "/dev"))
    assert (allowed["out.jpg"], allowed["zero.jpg"]) == (None, unreadable)
    out = next(entry for entry in inputs(root, allow=(str(outside),)) if entry.source == "out.jpg")
    assert read_input(root, row(out), PoolConfig(allow=(str(outside),))) == b"b"
    with pytest.raises(ShardError, match="outside the pool"):
        read_input(root, row(out))


def test_a_folder_that_cannot_be_listed_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.jpg").write_bytes(b"a")
    real = os.scandir

    def scandir(path: str) -> Any:
        if path.endswith("locked"):
            raise PermissionError(13, "no")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert statuses(tmp_path) == {"a.jpg": None, "locked": "decode:unreadable"}


def test_trouble_of_the_machine_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    config = PoolConfig(identity="stat")
    (unit,) = list_pool(tmp_path, config).units
    for number, raises in ((116, True), (24, True), (5, False), (13, False)):  # ESTALE EMFILE EIO EACCES

        def fail(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("curation.pool.place._open_regular", fail)
        if raises:
            with pytest.raises(OSError):
                list(read_unit(tmp_path, unit, config))
        else:
            assert [entry.status for entry in read_unit(tmp_path, unit, config)] == ["decode:unreadable"]


@given(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name))
def test_any_file_name_survives(raw: bytes) -> None:
    name = os.fsdecode(raw)
    encoded = encode_name(name)
    assert encoded.encode("utf-8")
    assert os.fsencode(decode_name(encoded)) == raw


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b.jpg"]),
        ("**/*.jpg", ["a/a.jpg", "a/deep/c.jpg", "b.jpg"]),
        ("a/*", ["a.jpg", "x.png"]),
        ("?/*.[jp]*g", ["a/a.jpg", "a/x.png"]),
    ],
)
def test_patterns_name_files_relative_to_their_fixed_part(
    tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    for name in ("b.jpg", "a/a.jpg", "a/x.png", "a/deep/c.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "a" / "up").symlink_to(tmp_path)  # would loop for whoever follows
    found = [entry for entry in inputs(f"{tmp_path}/{pattern}") if entry.status is None]
    assert sorted(entry.source for entry in found) == expected
    for entry in found:
        assert read_input(f"{tmp_path}/{pattern}", row(entry)) == entry.data


def test_one_file_is_a_pool(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    assert statuses(tmp_path / "b.jpg") == {"b.jpg": None}


def test_a_folder_with_the_signs_of_a_pattern_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "[a]*").mkdir()
    (tmp_path / "[a]*" / "x.jpg").write_bytes(b"x")
    assert statuses(tmp_path / "[a]*") == {"x.jpg": None}


def test_lists(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "pool" / "a.jpg").write_bytes(b"a")
    (tmp_path / "far" / "b.jpg").write_bytes(b"b")
    listing = tmp_path / "pool" / "files.txt"
    far = f"{tmp_path}/far/b.jpg"
    listing.write_text("\n".join(["# a comment", "a.jpg", "", far, "missing.jpg", "a.jpg", "../far/b.jpg"]))
    missing = {"missing.jpg": "decode:unreadable"}
    assert statuses(listing) == {"a.jpg": None, far: None, "../far/b.jpg": None, **missing}
    for entry in inputs(listing):
        if entry.data is not None:
            assert read_input(listing, row(entry)) == entry.data


def test_no_pool_and_mixed_pools_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such pool"):
        list_pool(tmp_path / "nothing", PoolConfig())
    with pytest.raises(UsageError, match="no such pool, or an empty one"):
        list_pool(tmp_path, PoolConfig())
    with pytest.raises(UsageError, match="no such pool"):
        list_pool(f"{tmp_path}/*.jpg", PoolConfig())
    (tmp_path / "a.tar").write_bytes(bytes(10240))
    (tmp_path / "b.jpg").write_bytes(b"2")
    with pytest.raises(UsageError, match="set `layout`"):
        list_pool(tmp_path, PoolConfig())
    assert list_pool(tmp_path, PoolConfig(layout="tars")).layout == "tars"
    assert list_pool(tmp_path, PoolConfig(layout="files")).inputs == 2
    with pytest.raises(UsageError, match="no file ends in"):
        list_pool(tmp_path, PoolConfig(layout="tables"))


def test_moving_a_pool_changes_nothing(many: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    moved = tmp_path_factory.mktemp("moved") / "pool"
    shutil.copytree(many, moved)
    assert units(many, 20) == units(moved, 20)


def test_credentials_stay_out_of_what_is_written() -> None:
    config = PoolConfig(storage_options={"secret": "xyzzy"})
    assert "xyzzy" not in repr(config) + config.model_dump_json() + str(config.model_dump())
    assert hash(config) == hash(PoolConfig())
