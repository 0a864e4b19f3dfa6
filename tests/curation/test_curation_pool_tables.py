"""Parquet, CSV, TSV and JSON lines: a row an input, found, cut and read back; paths stay in the pool."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.pool import Input, PoolConfig, list_pool, parquet, read_input, read_unit
from curation.pool.place import Place
from shards.errors import ShardError, UsageError
from shards.sample import content_key

LIMIT = 1000
JPEG = b"\xff\xd8\xff bytes that only need to be bytes"


def inputs(root: Path | str, **config: Any) -> Iterator[Input]:
    chosen = PoolConfig(**{"max_bytes": LIMIT, **config})
    for unit in list_pool(root, chosen).units:
        yield from read_unit(root, unit, chosen)


def row(entry: Input) -> dict[str, object]:
    where = {"source": entry.source, "offset": entry.offset, "member": entry.member}
    return {**where, "bytes": entry.size, "key": entry.key}


def outcomes(root: Path | str, **config: Any) -> list[tuple[bytes | None, str | None]]:
    """(bytes, status) by row; what has bytes is read back the same."""
    found = list(inputs(root, **config))
    assert len({(entry.source, entry.offset) for entry in found}) == len(found)
    for entry in found:
        if entry.data is not None:
            assert entry.key == content_key(entry.data)
            assert read_input(root, row(entry), PoolConfig(**config)) == entry.data
    return [(entry.data, entry.status) for entry in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pool with an image, and one outside of it."""
    (tmp_path / "pool" / "images").mkdir(parents=True)
    (tmp_path / "pool" / "images" / "a.jpg").write_bytes(b"a")
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    (tmp_path / "pool" / "images" / "link.jpg").symlink_to("../../outside.jpg")
    return tmp_path / "pool"


def references(pool: Path) -> dict[str, tuple[bytes | None, str | None]]:
    """What may stand in a path or url column, and what must come of it."""
    return {
        "images/a.jpg": (b"a", None),
        "./images/../images/a.jpg": (b"a", None),
        str(pool / "images" / "a.jpg"): (b"a", None),
        f"file://{pool}/images/a.jpg": (b"a", None),
        "images/none.jpg": (None, "decode:unreadable"),
        "images": (None, "decode:unreadable"),
        "x" * 300: (None, "decode:unreadable"),
        "../outside.jpg": (None, "decode:outside"),
        "images/link.jpg": (None, "decode:outside"),
        "/etc/passwd": (None, "decode:outside"),
        "file:///etc/passwd": (None, "decode:outside"),
        "s3://bucket/a.jpg": (None, "decode:outside"),
        "memory://a.jpg": (None, "decode:outside"),
        "simplecache::file:///etc/passwd": (None, "decode:outside"),
        "https://example.org/a.jpg": (None, "decode:not-fetched"),
        "HTTP://example.org/a.jpg": (None, "decode:not-fetched"),
    }


def test_bytes_in_parquet_with_their_row(tmp_path: Path) -> None:
    when = datetime(2026, 1, 2)
    table = pa.table(
        {
            "id": [1, 2, 3],
            "jpg": [JPEG, None, bytes(LIMIT + 1)],
            "when": pa.array([when, None, when], pa.timestamp("ns")),
            "price": [Decimal("1.50"), None, None],
            "score": [float("nan"), 1.5, None],
            "tags": [["a", "b"], [], None],
            "nested": [{"x": 1, "raw": b"no"}, None, None],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert outcomes(tmp_path) == [(JPEG, None), (None, "decode:no-image"), (None, "decode:too-large")]
    first, second, third = inputs(tmp_path)
    assert (first.source, first.member, first.offset, second.member) == ("t.parquet", "jpg", 0, None)
    assert third.size == LIMIT + 1 and third.key == content_key(bytes(LIMIT + 1))
    assert json.loads(str(first.metadata)) == {
        "id": 1, "when": "2026-01-02 00:00:00", "price": "1.50", "score": "nan", "tags": ["a", "b"],
    }  # fmt: skip


def test_hugging_face_structs_and_img2dataset_parquet(folder: Path) -> None:
    images = [{"bytes": JPEG, "path": "x.jpg"}, {"bytes": None, "path": "images/a.jpg"}, None,
              {"bytes": None, "path": None}, {"bytes": b"", "path": None}]  # fmt: skip
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(images, kind), "n": range(5)}), folder / "hf.parquet")
    none = (None, "decode:no-image")
    assert outcomes(folder / "hf.parquet") == [(JPEG, None), (b"a", None), none, none, (b"", None)]
    assert json.loads(str(next(inputs(folder / "hf.parquet")).metadata)) == {
        "image": {"path": "x.jpg"},
        "n": 0,
    }
    failed = {
        "url": ["http://x/1", "http://x/2"],
        "status": ["success", "failed_to_download"],
        "jpg": [JPEG, None],
    }
    pq.write_table(pa.table(failed), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")
    assert outcomes(folder / "00000.parquet") == [(JPEG, None), (None, "decode:not-fetched")]
    assert [entry.member for entry in inputs(folder / "00000.parquet")] == ["jpg", "url"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv", "jsonl"])
def test_paths_and_urls_stay_in_the_pool(folder: Path, kind: str) -> None:
    expected = references(folder)
    texts = list(expected)
    if kind == "parquet":
        pq.write_table(pa.table({"path": texts}), folder / "t.parquet")
    elif kind == "jsonl":
        (folder / "t.jsonl").write_text("".join(json.dumps({"path": text}) + "\n" for text in texts))
    else:
        (folder / f"t.{kind}").write_text("".join(f"{text}\n" for text in ["path", *texts]))
    assert dict(zip(texts, outcomes(folder / f"t.{kind}"), strict=True)) == expected
    allowed = dict(zip(texts, outcomes(folder / f"t.{kind}", allow=(str(folder.parent),)), strict=True))
    assert allowed["../outside.jpg"] == (b"secret", None) == allowed["images/link.jpg"]
    assert allowed["/etc/passwd"] == (None, "decode:outside")
    (entry, *_) = inputs(folder / f"t.{kind}")
    assert json.loads(str(entry.metadata)) == {"path": "images/a.jpg"}


def test_a_parquet_is_cut_at_row_groups_into_units_with_stable_names(tmp_path: Path) -> None:
    data = [bytes([number]) * 10 for number in range(100)]
    pq.write_table(pa.table({"jpg": data}), tmp_path / "t.parquet", row_group_size=7)
    pool = list_pool(tmp_path, PoolConfig(rows_per_unit=20))
    assert [(unit.payload["first"], unit.payload["rows"]) for unit in pool.units] == [
        (0, 21), (21, 21), (42, 21), (63, 21), (84, 16),
    ]  # fmt: skip
    assert (pool.layout, pool.inputs, len({unit.name for unit in pool.units})) == ("tables", 100, 5)
    found = list(inputs(tmp_path, rows_per_unit=20))
    assert [entry.data for entry in found] == data and [entry.offset for entry in found] == list(range(100))
    for number in (99, 3, 4, 50, 49, 98, 0):  # any order
        assert read_input(tmp_path, row(found[number])) == data[number]


def test_rows_that_are_read_back_in_order_are_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(
        pa.table({"jpg": [b"%d" % n for n in range(300)]}), tmp_path / "t.parquet", row_group_size=100
    )
    found = list(inputs(tmp_path))
    opened = list[str]()
    real = parquet._opened

    def spy(place: Place, source: str) -> Any:
        opened.append(source)
        return real(place, source)

    monkeypatch.setattr(parquet, "_opened", spy)
    for entry in found[::3]:
        assert read_input(tmp_path, row(entry)) == entry.data
    assert len(opened) <= 4  # 100 rows of three row groups


def test_rows_that_join_a_text_table_leave_its_units_alone(tmp_path: Path) -> None:
    for name, header in (("t.jsonl", ""), ("t.csv", "path,n\n")):
        lines = [f"{n}.jpg,{n}" if header else json.dumps({"path": f"{n}.jpg"}) for n in range(10)]
        path = tmp_path / name
        path.write_text(header + "\n".join(lines[:8]) + "\n")
        config = PoolConfig(rows_per_unit=3)
        before = list_pool(path, config).units
        path.write_text(header + "\n".join(lines) + "\n")
        after = list_pool(path, config).units
        assert [unit.payload["rows"] for unit in after] == [3, 3, 3, 1] and before[:2] == after[:2]
        assert list_pool(path, config).inputs == 10
        changed = list_pool(path, config).units
        path.write_text(header.replace("n", "m") + "\n".join(lines) + "\n")
        if header:
            assert not set(map(str, changed)) & set(map(str, list_pool(path, config).units))


def test_every_line_is_a_row_however_bad(folder: Path) -> None:
    good = b'{"path": "images/a.jpg"}\n'
    deep = b"[" * 100_000 + b"\n"
    lines = [good, b"\n", b"not json\n", b"[1]\n", b'{"path": 3}\n', b'{"other": 1}\n', deep,
             b'{"path": "\xff.jpg"}\n', b'{"path": null, "url": "http://x"}\n', good.strip()]  # fmt: skip
    (folder / "t.jsonl").write_bytes(b"".join(lines))
    bad, ok = (None, "decode:bad-row"), (b"a", None)
    none = (None, "decode:no-image")
    assert outcomes(folder / "t.jsonl", rows_per_unit=2) == [
        ok, bad, bad, bad, none, bad, bad, (None, "decode:not-fetched"), ok,
    ]  # fmt: skip
    rows = ["\ufeffpath,n", "images/a.jpg,1", "", '"images/a.jpg","two\nlines"', "images/a.jpg", ",5",
            "images/a.jpg,6,more", '"' + "x" * 200_000 + '"', "nul\0.jpg", "images/a.jpg,9"]  # fmt: skip
    (folder / "t.csv").write_text("\r\n".join(rows), newline="")
    assert outcomes(folder / "t.csv", rows_per_unit=2) == [
        ok, ok, ok, none, ok, bad, (None, "decode:unreadable"), ok,
    ]  # fmt: skip
    assert json.loads(str(list(inputs(folder / "t.csv"))[1].metadata)) == {
        "path": "images/a.jpg",
        "n": "two\nlines",
    }


def test_lines_that_are_too_long_are_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.pool.text.MAX_JSON_LINE", 100)
    good = '{"path": "images/a.jpg"}\n'
    (folder / "t.jsonl").write_text(good + '{"path": "' + "x" * 5000 + '"}\n' + good)
    assert outcomes(folder / "t.jsonl") == [(b"a", None), (None, "decode:bad-row"), (b"a", None)]


def test_bytes_in_json_are_base64(tmp_path: Path) -> None:
    text = base64.b64encode(JPEG).decode()
    rows: list[dict[str, Any]] = [
        {"image": f"data:image/jpeg;base64,{text}", "n": 1}, {"image": {"bytes": text, "path": None}},
        {"bytes": text}, {"image_base64": "no base64!"}, {"image": {"bytes": "", "path": ""}},
    ]  # fmt: skip
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    bad, none = (None, "decode:bad-row"), (None, "decode:no-image")
    assert outcomes(tmp_path) == [(JPEG, None)] * 3 + [bad, none]
    assert next(inputs(tmp_path)).metadata == '{"n": 1}'


def test_metadata_is_bounded(tmp_path: Path) -> None:
    pq.write_table(pa.table({"jpg": [b"1", b"2"], "text": ["x" * 70_000, "short"]}), tmp_path / "t.parquet")
    assert [entry.metadata for entry in inputs(tmp_path)] == [None, '{"text": "short"}']


def test_columns_are_found_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [b"1"], "b": [b"2"], "caption": ["x"]}), path)
    with pytest.raises(UsageError, match="image_column"):
        list_pool(path, PoolConfig())
    assert outcomes(path, image_column="b") == [(b"2", None)]
    with pytest.raises(UsageError, match="no column 'c'"):
        list_pool(path, PoolConfig(image_column="c"))
    (tmp_path / "t.csv").write_text("caption,n\nx,1\n")
    with pytest.raises(UsageError, match="expected one called path or url"):
        list_pool(tmp_path / "t.csv", PoolConfig())
    assert outcomes(tmp_path / "t.csv", image_column="caption") == [(None, "decode:unreadable")]


def test_damaged_tables_end_in_quarantine_not_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    for number, cut in enumerate((0, 10, -10)):
        pq.write_table(pa.table({"jpg": [bytes(LIMIT)] * 50}), path, compression="none")
        path.write_bytes(path.read_bytes()[:cut])
        (unit,) = list_pool(path, PoolConfig()).units
        with pytest.raises(ShardError, match="damaged parquet"):
            list(read_unit(path, unit, PoolConfig()))
        assert number >= 0
    pq.write_table(pa.table({"jpg": [bytes(LIMIT)] * 50}), path)
    with pytest.raises(ShardError, match="run annotate again"):
        list(read_unit(path, unit, PoolConfig()))  # it was damaged when the pool was listed


def test_a_parquet_that_inflates_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"jpg": [bytes(1 << 20)]}), tmp_path / "t.parquet")
    assert [entry.status for entry in inputs(tmp_path)] == ["decode:too-large"]
    monkeypatch.setattr(parquet, "_MAX_ROW", 1 << 19)
    with pytest.raises(ShardError, match="bytes a row"):
        list(inputs(tmp_path))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=5))
def test_any_damage_of_a_parquet_is_rows_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.parquet"
    pq.write_table(pa.table({"jpg": [JPEG] * 20, "s": ["x"] * 20, "n": range(20)}), path, row_group_size=7)
    content = bytearray(path.read_bytes())
    for place, value in damage:
        content[place % len(content)] = value
    path.write_bytes(content)
    try:
        found = list(inputs(path))
    except (ShardError, UsageError):
        return
    assert all((entry.data is None) == (entry.status is not None) for entry in found)
