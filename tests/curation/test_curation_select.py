"""Whole selections of tables made by hand: duplicates across units, subsets, funnel, and bytes that
repeat.
"""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import curation.ledger as ledger
from curation.columns import DECISIONS
from curation.decisions import examples, funnel, read_decisions
from curation.keys import to_hex
from curation.rules import parse_rules
from curation.select import Select, plan_select
from curation.tables import Tables
from shards.errors import ShardError, UsageError

EXACT = {"reason": "duplicate", "duplicates": {"bytes": True, "pixels": True}}
NEAR = {"reason": "near-duplicate", "duplicates": {"near": {"hamming": 4, "thumbnail": 8}}}
TEXT = {"reason": "text:area", "column": "text_area", "at_most": 0.02}
PERSON = {"reason": "person", "person": {"score_above": 0.9, "side_above": 300}}


@pytest.fixture
def reasons(made: Any, tmp_path: Path) -> Callable[..., list[str | None]]:
    """`reasons(rows, rule, ...)`: what becomes of rows, in units of two."""
    count = 0

    def run(rows: list[dict[str, Any]], *rules: dict[str, Any], **more: Any) -> list[str | None]:
        nonlocal count
        count += 1
        place = made.write_annotations(tmp_path / f"in-{count}", made.cut(rows, range(2, 100, 2)))
        found: list[str | None] = made.select(
            place, {"rules": list(rules), **more}, tmp_path / f"out-{count}"
        )
        return found

    return run


def key(number: int) -> str:
    return f"{number:032x}"


def test_what_was_not_decoded_has_its_own_reason(made: Any, reasons: Any) -> None:
    rows = [made.undecoded(1, "decode:truncated"), made.row(2), made.undecoded(3, "decode:empty")]
    assert reasons(rows, EXACT, NEAR) == ["decode:truncated", None, "decode:empty"]
    assert reasons([], EXACT, NEAR) == []


def test_the_first_by_key_stays_wherever_it_stands(made: Any, reasons: Any) -> None:
    same = "ab" * 32
    rows = [made.row(3, pixel_sha256=same), made.row(9), made.row(1, pixel_sha256=same), made.row(2)]
    assert reasons(rows, EXACT) == [f"duplicate:{key(1)}", None, None, None]
    assert reasons(rows[::-1], EXACT) == [None, None, None, f"duplicate:{key(1)}"]
    assert reasons(rows, {"reason": "duplicate", "duplicates": {"bytes": True}}) == [None] * 4
    assert reasons(rows, {"reason": "copy", "duplicates": {"pixels": True}})[0] == f"copy:{key(1)}"


def test_equal_bytes_are_settled_by_place(made: Any, reasons: Any) -> None:
    rows = [made.row(1), made.row(2), made.row(1), made.row(1)]
    for same in ({"bytes": True}, {"pixels": True}, {"bytes": True, "pixels": True}):
        found = reasons(rows, {"reason": "duplicate", "duplicates": same})
        assert found == [None, None, f"duplicate:{key(1)}", f"duplicate:{key(1)}"]
    unmeasured = [row | {"pixel_sha256": None} for row in rows[:3]]
    assert reasons(unmeasured, EXACT)[2] == f"duplicate:{key(1)}"
    assert reasons(unmeasured, {"reason": "duplicate", "duplicates": {"pixels": True}}) == [None] * 3


def test_what_was_not_decoded_is_nobodys_duplicate(made: Any, reasons: Any) -> None:
    rows = [
        made.undecoded(1, "decode:empty"),
        made.undecoded(1, "decode:empty"),
        made.undecoded(1, "x") | {"key": ""},
    ]
    assert reasons(rows, EXACT) == ["decode:empty", "decode:empty", "x"]


def test_what_an_earlier_rule_rejects_takes_no_part(made: Any, reasons: Any) -> None:
    same = "cd" * 32
    rows = [made.row(1, pixel_sha256=same, text_area=0.5), made.row(2, pixel_sha256=same)]
    assert reasons(rows, TEXT, EXACT) == ["text:area", None]
    assert reasons(rows, EXACT, TEXT) == [
        "text:area",
        f"duplicate:{key(1)}",
    ]  # a later one may still reject it


def test_near_duplicates_come_last_and_the_better_one_stays(made: Any, reasons: Any) -> None:
    rows = [
        made.row(1, phash=0b0000, width=400),
        made.row(2, phash=0b1111),  # more pixels
        made.row(3, phash=0b1111, bytes=11, person_boxes=[]),
        made.row(4, phash=1 << 40),
        made.row(5, phash=0b0111, thumbnail=bytes(256)),  # the hash collides, the picture is another
        made.row(6, phash=None),
        made.row(7, phash=0b1111, thumbnail=None),
    ]
    expected = [f"near-duplicate:{key(2)}", None, "person:none", None, None, None, None]
    assert reasons(rows, PERSON, NEAR) == expected
    both = reasons(rows, NEAR, PERSON)  # now the third takes part, has more bytes, and is rejected later
    assert both[:4] == [f"near-duplicate:{key(3)}", f"near-duplicate:{key(3)}", "person:none", None]
    one = {"reason": "duplicate", "duplicates": {"bytes": True, "pixels": True, "near": {"hamming": 4}}}
    assert reasons(rows, PERSON, one)[0] == f"duplicate:{key(2)}"


def test_no_row_of_the_thumbnails_is_mixed_up_with_another(made: Any, reasons: Any) -> None:
    """Thumbnails of candidates are stored without those of the others between them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 256), dtype=np.uint8)
    rows = []
    for number in range(40):
        rows.append(
            made.row(2 * number, phash=number // 20, thumbnail=images[number].tobytes(), text_area=0.5)
        )
        rows.append(made.row(2 * number + 1, phash=number // 20, thumbnail=images[number % 20].tobytes()))
    found = reasons(rows, TEXT, NEAR)
    assert found[0::2] == ["text:area"] * 40
    assert found[1:40:2] == [None] * 20
    assert found[41::2] == [f"near-duplicate:{key(2 * number + 1)}" for number in range(20)]


def test_subsets_nest_also_where_there_are_duplicates(made: Any, reasons: Any) -> None:
    rng = np.random.default_rng(0)
    keys = to_hex(rng.integers(0, 2**64, (60, 2), dtype=np.uint64)).to_pylist()
    rows = [
        made.row(n, key=keys[n], phash=n // 3 * 0x0F0F0F0F0F0F0F, pixel_sha256=f"{n // 2 + 1:032x}" * 2)
        for n in range(60)
    ]
    for of in ("pool", "kept"):
        kept = []
        for share in (0.2, 0.5, 0.8, 1.0):
            found = reasons(rows, EXACT, NEAR, subset={"share": share, "seed": 3, "of": of})
            kept.append({n for n, reason in enumerate(found) if reason is None})
            assert share == 1 or "subset:out" in found
        assert kept[0] < kept[1] < kept[2] < kept[3]
    everything = reasons(rows, EXACT, NEAR)
    assert kept[3] == {n for n, reason in enumerate(everything) if reason is None}


def test_where_the_draw_stands_decides_the_reason(made: Any, reasons: Any) -> None:
    rows = [made.row(number, text_area=0.5 * (number % 2)) for number in range(40)]
    kept, pool = (reasons(rows, TEXT, subset={"share": 0.5, "of": of}) for of in ("kept", "pool"))
    assert kept[1::2] == ["text:area"] * 20 and set(kept[0::2]) == {None, "subset:out"}
    assert set(pool[1::2]) == {"text:area", "subset:out"} and pool[0::2] == kept[0::2]


def pool_of_everything(made: Any) -> list[dict[str, Any]]:
    """Rows for every reason, near and exact duplicates far apart."""
    rng = np.random.default_rng(0)
    keys = to_hex(rng.integers(0, 2**64, (90, 2), dtype=np.uint64)).to_pylist()
    rows = []
    for number in range(90):
        row = made.row(
            number,
            key=keys[number],
            pixel_sha256=sha256(b"%d" % (number % 70)).hexdigest(),
            phash=int(number % 25) * 0x0101010101010101,
            width=int(600 + number % 3),
            bytes=int(number % 7),
            text_area=0.5 if number % 11 == 0 else 0.0,
            person_boxes=[made.PERSON] * (number % 4) + [made.PERSON | {"score": 0.35}] * (number % 3),
        )
        rows.append(
            made.undecoded(number, "decode:corrupt") | {"key": keys[number]} if number % 13 == 0 else row
        )
    return rows


RULES = {"rules": [EXACT, TEXT, PERSON, NEAR], "subset": {"share": 0.9}}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.lists(st.integers(1, 89), max_size=5))
def test_neither_order_nor_sharding_decides(
    made: Any, tmp_path_factory: pytest.TempPathFactory, random: Any, cuts: list[int]
) -> None:
    rows = pool_of_everything(made)
    folder = tmp_path_factory.mktemp("order")
    whole = made.write_annotations(folder / "whole", [rows])
    expected = dict(zip((row["key"] for row in rows), made.select(whole, RULES, folder / "a"), strict=True))
    random.shuffle(rows)
    shuffled = made.write_annotations(folder / "shuffled", made.cut(rows, cuts))
    found = dict(zip((row["key"] for row in rows), made.select(shuffled, RULES, folder / "b"), strict=True))
    assert found == expected
    groups = {
        str(reason).rpartition(":")[0] if "duplicate" in str(reason) else reason
        for reason in expected.values()
    }
    assert {
        None,
        "duplicate",
        "near-duplicate",
        "text:area",
        "person:none",
        "subset:out",
        "decode:corrupt",
    } <= groups


def test_bytes_depend_on_neither_threads_nor_memory_nor_batches(made: Any, tmp_path: Path) -> None:
    rows = pool_of_everything(made)
    place = made.write_annotations(tmp_path / "in", made.cut(rows, [10, 50, 51]))
    made.select(place, RULES, tmp_path / "once")
    expected = (tmp_path / "once/decisions.parquet").read_bytes()
    summary = (tmp_path / "once/decisions.summary.json").read_bytes()
    made.select(place, RULES, tmp_path / "again", scratch=tmp_path / "scratch")
    assert not list((tmp_path / "scratch").rglob("near"))
    with mock.patch.object(ledger, "_EXACT_BYTES", 1 << 20), mock.patch.object(ledger, "CHUNK", 7):
        made.select(place, RULES, tmp_path / "tight", memory=1 << 21)  # 64 ranges of digests
    job = plan_select(place, parse_rules(RULES))
    job = job.__class__(**{**job.__dict__, "worker": Select(place, parse_rules(RULES), threads=3)})
    whole = Tables.batches
    with mock.patch.object(Tables, "batches", lambda self: whole(self, rows=1)):
        made.run_to_end(job, tmp_path / "threads")
    for name in ("again", "tight", "threads"):
        assert (tmp_path / name / "decisions.parquet").read_bytes() == expected, name
        assert (tmp_path / name / "decisions.summary.json").read_bytes() == summary, name


def test_the_decisions_join_with_the_annotations(made: Any, tmp_path: Path) -> None:
    rows = pool_of_everything(made)
    place = made.write_annotations(tmp_path / "in", made.cut(rows, [10, 50, 51]))
    made.select(place, RULES, tmp_path / "out")
    table = read_decisions(tmp_path / "out")
    assert table.schema.equals(DECISIONS)
    for decision in table.to_pylist():
        found = pq.read_table(place / f"{decision['unit']}.parquet").slice(decision["row"], 1).to_pylist()[0]
        assert found["key"] == decision["key"]
        scores = [box["score"] for box in found["person_boxes"] or []]
        assert decision["people"] == sum(score > 0.3 for score in scores)
        assert decision["kept"] == (decision["reason"] is None)


def test_the_funnel_adds_up(made: Any, tmp_path: Path) -> None:
    rows = [
        made.row(1, person_boxes=[made.PERSON, made.PERSON | {"score": 0.4}]),
        made.row(2, pixel_sha256=made.row(1)["pixel_sha256"]),
        made.row(3, pixel_sha256=made.row(1)["pixel_sha256"]),
        made.undecoded(4, "decode:truncated"),
        made.undecoded(5, "decode:empty"),
        made.row(6, text_area=0.5),
        made.row(7, person_boxes=[]),
        made.row(8, person_boxes=[made.PERSON | {"score": 0.8}]),
    ]
    place = made.write_annotations(tmp_path / "in", made.cut(rows, [3]))
    made.select(place, {"rules": [EXACT, TEXT, PERSON]}, tmp_path / "out")
    found = funnel(tmp_path / "out")
    assert (found["inputs"], found["kept"], found["people"]) == (8, 1, {"2": 1})
    assert found["people_of_pool"] == {"0": 3, "1": 4, "2": 1}
    assert [(stage["stage"], stage["entered"], stage["left"]) for stage in found["stages"]] == [
        ("decode", 8, 6),
        ("duplicate", 6, 4),
        ("text:area", 4, 3),
        ("person", 3, 1),
    ]
    assert found["stages"][0]["reasons"] == {"decode:empty": 1, "decode:truncated": 1}
    assert found["stages"][1]["reasons"] == {"duplicate": 2}
    assert found["stages"][3]["reasons"] == {"person:none": 1, "person:score": 1}
    area, score, side = found["histograms"]
    assert (area["rule"], area["column"], area["keeps"]) == ("text:area", "text_area", {"at_most": 0.02})
    assert area["counts"][0] == 5 and area["counts"][25] == 1 and sum(area["counts"]) == 6
    assert score["keeps"] == {"above": 0.9} and score["counts"][47] == 4 and score["counts"][40] == 1
    assert side["keeps"] == {"above": 300} and sum(side["counts"]) == 4 and side["edges"][:2] == [0, 32]


@pytest.mark.parametrize("batch", [7, 1000])
def test_examples_are_the_first_by_key(made: Any, tmp_path: Path, batch: int) -> None:
    rows = pool_of_everything(made)
    place = made.write_annotations(tmp_path / "in", made.cut(rows, [10, 50, 51]))
    with mock.patch("curation.select.BATCH", batch):
        reasons = made.select(place, RULES, tmp_path / "out")
    decided = dict(zip((row["key"] for row in rows), reasons, strict=True))
    found = examples(place, tmp_path / "out", 3)
    for name, listed in found.items():
        of_name = [
            key for key, reason in decided.items() if re.sub(":[0-9a-f]{32}", "", reason or "kept") == name
        ]
        assert [row["key"] for row in listed] == sorted(of_name)[:3]
        assert [row["reason"] for row in listed] == [decided[row["key"]] for row in listed]
        assert all(row["source"] and row["kept"] == (name == "kept") for row in listed)
    assert {"kept", "duplicate", "near-duplicate", "person:none"} <= set(found)
    assert examples(place, tmp_path / "out", 1, ["nothing"]) == {"nothing": []}


def test_only_rules_and_annotations_make_the_key(made: Any, tmp_path: Path) -> None:
    place = made.write_annotations(tmp_path / "in", [[made.row(1)]])
    one, other = (
        plan_select(place, parse_rules({"rules": [TEXT | {"at_most": area}]})) for area in (0.1, 0.2)
    )
    assert one.key != other.key
    assert one.key == plan_select(place, parse_rules({"rules": [TEXT | {"at_most": 0.1}]}), memory=1).key


def test_too_little_memory_for_near_duplicates_is_said_beforehand(
    made: Any, reasons: Any, tmp_path: Path
) -> None:
    place = made.write_annotations(tmp_path / "in", [[made.row(number) for number in range(5)]])
    with pytest.raises(UsageError, match=r"among 5 images needs .* GiB, the limit is 0.00: raise --memory"):
        made.select(place, {"rules": [NEAR]}, tmp_path / "out", memory=100)


def test_lost_rows_and_damage_are_noticed(made: Any, tmp_path: Path) -> None:
    place = made.write_annotations(tmp_path / "in", [[made.row(1)], [made.row(2)]])
    manifest = json.loads((place / "manifest.json").read_bytes())
    manifest["provenance"]["pool"]["inputs"] = 3
    (place / "manifest.json").write_text(json.dumps(manifest))
    worker = Select(place, parse_rules({"rules": [TEXT]}))
    tables = Tables.open(place)
    with pytest.raises(ShardError, match="the pool has 3 inputs, the tables 2 rows"):
        worker.decide(tables, tmp_path / "ledger", tmp_path / "out.parquet")
    manifest["provenance"]["pool"]["inputs"] = 2
    (place / "manifest.json").write_text(json.dumps(manifest))
    pq.write_table(pq.read_table(place / "unit-0001.parquet").slice(0, 0), place / "unit-0001.parquet")
    with pytest.raises(ShardError, match="0 rows, the manifest says 1"):
        worker.decide(Tables.open(place), tmp_path / "ledger", tmp_path / "out.parquet")
    (place / "unit-0001.parquet").write_bytes(b"no parquet")
    with pytest.raises(ShardError, match=r"unit-0001\.parquet: damaged"):
        worker.decide(Tables.open(place), tmp_path / "ledger", tmp_path / "out.parquet")


def test_only_complete_annotations_are_selected_from(made: Any, tmp_path: Path) -> None:
    place = made.write_annotations(tmp_path / "in", [[made.row(1)]])
    made.select(place, {"rules": [TEXT]}, tmp_path / "out")
    with pytest.raises(UsageError, match="expected the output of `vitruvian curate annotate`"):
        plan_select(tmp_path / "out", parse_rules({}))
