"""The rules of select, on tables made by hand: no pixel, no model."""

from typing import Any

import pyarrow as pa
import pytest

from curation.columns import ANNOTATIONS, DECISIONS
from curation.select import SelectConfig, decide, summarise

BOX = {"x0": 0.0, "y0": 0.0, "x1": 400.0, "y1": 500.0, "score": 0.95}


def row(number: int, **changes: Any) -> dict[str, Any]:
    """An image that every rule keeps, but for `changes`."""
    good = {
        "source": f"{number:04d}.jpg",
        "bytes": 10,
        "sha256": f"{number:064x}",
        "key": f"{number:032x}",
        "status": "ok",
        "format": "jpg",
        "width": 640,
        "height": 640,
        "orientation": 1,
        "pixel_sha256": f"{number + 1000:064x}",
        "text_area": 0.0,
        "text_boxes": [],
        "person_boxes": [BOX],
    }
    return good | changes


def undecoded(number: int, status: str) -> dict[str, Any]:
    measured = (
        "format",
        "width",
        "height",
        "orientation",
        "pixel_sha256",
        "text_area",
        "text_boxes",
        "person_boxes",
    )
    return row(number, status=status, **dict.fromkeys(measured))


def reasons(*rows: dict[str, Any], **config: Any) -> list[str | None]:
    decisions = decide(pa.Table.from_pylist(list(rows), ANNOTATIONS), SelectConfig(**config))
    assert decisions.schema == DECISIONS
    assert decisions["source"].to_pylist() == [entry["source"] for entry in rows]
    found: list[str | None] = decisions["reason"].to_pylist()
    assert decisions["kept"].to_pylist() == [reason is None for reason in found]
    return found


def test_a_good_image_is_kept() -> None:
    assert reasons(row(1)) == [None]
    assert reasons() == []


def test_decoding_failures_are_their_own_reason() -> None:
    assert reasons(undecoded(1, "decode:truncated"), row(2)) == ["decode:truncated", None]


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ({}, None),
        ({"score": 0.9}, "person:score"),  # strict, as in the paper
        ({"score": 0.5}, "person:score"),
        ({"x1": 300.0}, "person:small"),
        ({"x1": 301.0}, None),
        ({"y1": 100.0}, "person:small"),
    ],
)
def test_person_thresholds(box: dict[str, float], reason: str | None) -> None:
    assert reasons(row(1, person_boxes=[BOX | box])) == [reason]


def test_one_qualifying_person_is_enough_and_both_conditions_are_of_one_person() -> None:
    small, doubtful = BOX | {"x1": 10.0}, BOX | {"score": 0.4}
    assert reasons(row(1, person_boxes=[small, doubtful, BOX])) == [None]
    assert reasons(row(1, person_boxes=[small, doubtful])) == ["person:small"]
    assert reasons(row(1, person_boxes=[])) == ["person:none"]


@pytest.mark.parametrize(
    ("rule", "reason"), [("min", "person:small"), ("max", None), ("height", "person:small")]
)
def test_size_rules(rule: str, reason: str | None) -> None:
    assert reasons(row(1, person_boxes=[BOX | {"y1": 250.0}]), size_rule=rule) == [reason]


def test_text_and_size() -> None:
    assert reasons(row(1, text_area=0.021), row(2, text_area=0.02)) == ["text:area", None]
    assert reasons(row(1, width=63), row(2, height=63), row(3, height=64)) == [
        "size:small",
        "size:small",
        None,
    ]


def test_the_first_by_key_stays_wherever_it_stands() -> None:
    rows = [row(3, pixel_sha256="x"), row(1, pixel_sha256="x"), row(2, pixel_sha256="y")]
    assert reasons(*rows) == [f"duplicate:{1:032x}", None, None]
    assert reasons(*rows[::-1]) == [None, None, f"duplicate:{1:032x}"]
    assert reasons(*rows, duplicates="bytes") == [None, None, None]


def test_equal_bytes_are_settled_by_source() -> None:
    rows = [row(1, source="b.jpg"), row(1, source="a.jpg"), row(1, source="c.jpg")]
    same = f"duplicate:{1:032x}"
    assert reasons(*rows) == [same, None, same]
    assert reasons(*rows, duplicates="bytes") == [same, None, same]
    assert reasons(*rows, duplicates="none") == [None, None, None]


def test_what_was_not_decoded_is_nobodys_duplicate() -> None:
    assert reasons(undecoded(1, "decode:empty"), undecoded(1, "decode:empty")) == ["decode:empty"] * 2


def test_the_first_rule_in_order_names_the_reason() -> None:
    worst = {"width": 10, "text_area": 0.5, "person_boxes": [], "pixel_sha256": "x"}
    assert reasons(row(1, pixel_sha256="x"), row(2, **worst))[1] == "size:small"
    assert reasons(row(1, pixel_sha256="x"), row(2, **{**worst, "width": 640}))[1] == f"duplicate:{1:032x}"
    assert reasons(row(2, **{**worst, "width": 640})) == ["text:area"]


def test_the_funnel_adds_up() -> None:
    rows = [
        row(1, person_boxes=[BOX, BOX | {"score": 0.4}]),
        row(2, pixel_sha256=row(1)["pixel_sha256"]),
        row(3, pixel_sha256=row(1)["pixel_sha256"]),
        undecoded(4, "decode:truncated"),
        undecoded(5, "decode:empty"),
        row(6, text_area=0.5),
        row(7, person_boxes=[]),
        row(8, width=8),
    ]
    funnel = summarise(decide(pa.Table.from_pylist(rows, ANNOTATIONS), SelectConfig()))
    assert (funnel["inputs"], funnel["kept"], funnel["people"]) == (8, 1, {"2": 1})
    assert [(stage["stage"], stage["entered"], stage["left"]) for stage in funnel["stages"]] == [
        ("decode", 8, 6),
        ("size", 6, 5),
        ("duplicate", 5, 3),
        ("text", 3, 2),
        ("person", 2, 1),
    ]
    assert funnel["stages"][0]["reasons"] == {"decode:empty": 1, "decode:truncated": 1}
    assert funnel["stages"][2]["reasons"] == {"duplicate": 2}
