"""The rules of select: what is read from YAML, and what they say of single rows. No pixel, no model."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.columns import ANNOTATIONS
from curation.histograms import count, edges_of
from curation.keys import to_hex, to_words
from curation.rules import AtPrecision, RuleSet, Subset, load_rules, parse_rules, shipped
from curation.verdicts import PASSES, draw, in_subset, judge
from shards.errors import ShardError, UsageError


def outcome(rules: dict[str, Any], *rows: dict[str, Any]) -> list[str]:
    """The step that rejects each row; "" when none does."""
    chosen = parse_rules(rules)
    steps = judge(pa.Table.from_pylist(list(rows), ANNOTATIONS), chosen).step.tolist()
    return ["" if step == PASSES else chosen.steps[step] for step in steps]


def one_rule(**rule: Any) -> dict[str, Any]:
    return {"rules": [{"reason": "x:y", **rule}]}


@pytest.mark.parametrize(
    ("rule", "rejected"),
    [
        ({"above": 0.2}, [True, True, False]),  # strict: float32's 0.2 is not above 0.2
        ({"at_least": 0.2}, [True, False, False]),
        ({"below": 0.2}, [False, True, True]),
        ({"at_most": 0.2}, [False, False, True]),
        ({"equals": 0.2}, [True, False, True]),
        ({"one_of": [0.1, 0.3]}, [False, True, False]),
        ({"none_of": [0.1, 0.3]}, [True, False, True]),
    ],
)
def test_comparisons_say_what_is_kept(made: Any, rule: dict[str, Any], rejected: list[bool]) -> None:
    rows = [made.row(number, art=value) for number, value in enumerate((0.1, 0.2, 0.3))]
    found = outcome(one_rule(column="art", **rule), *rows, made.row(9, art=None))
    assert [bool(step) for step in found] == [*rejected, False]  # what was not measured is kept


@pytest.mark.parametrize(
    ("column", "rule", "rejected"),
    [
        ("short_side", {"at_least": 301}, True),
        ("short_side", {"at_least": 300}, False),
        ("long_side", {"at_most": 599}, True),
        ("long_side", {"at_most": 600}, False),
        ("aspect", {"at_most": 1.99}, True),
        ("aspect", {"at_most": 2}, False),
        ("megapixels", {"above": 0.18}, True),
        ("megapixels", {"at_least": 0.18}, False),
        ("people", {"at_least": 2}, True),
        ("people", {"equals": 1}, False),
        ("width", {"one_of": [300, 400]}, False),
        ("format", {"one_of": ["png", "webp"]}, True),
        ("digital_source", {"none_of": ["trainedAlgorithmicMedia"]}, True),
    ],
)
def test_columns_and_those_derived(made: Any, column: str, rule: dict[str, Any], rejected: bool) -> None:
    row = made.row(1, width=300, height=600, digital_source="trainedAlgorithmicMedia")
    assert outcome(one_rule(column=column, **rule), row) == (["x:y"] if rejected else [""])


@pytest.mark.parametrize(
    ("box", "detail"),
    [
        ({}, None),
        ({"score": 0.9}, 1),  # strict, as in the paper
        ({"score": 0.5}, 1),
        ({"x1": 300.0}, 2),
        ({"x1": 301.0}, None),
        ({"y1": 100.0}, 2),
    ],
)
def test_person_thresholds(made: Any, box: dict[str, float], detail: int | None) -> None:
    rules = parse_rules({"rules": [{"reason": "person", "person": {}}]})
    table = pa.Table.from_pylist([made.row(1, person_boxes=[made.PERSON | box])], ANNOTATIONS)
    verdicts = judge(table, rules)
    assert (verdicts.step[0] == PASSES) == (detail is None)
    assert detail is None or verdicts.detail[0] == detail


def test_both_conditions_are_of_one_person_and_one_person_is_enough(made: Any) -> None:
    small, doubtful = made.PERSON | {"x1": 10.0}, made.PERSON | {"score": 0.4}
    rules = {"rules": [{"reason": "person", "person": {}}]}
    rows = [
        made.row(i, person_boxes=b)
        for i, b in enumerate([[small, doubtful, made.PERSON], [small, doubtful], []])
    ]
    assert outcome(rules, *rows, made.row(9, person_boxes=None)) == ["", "person", "person", ""]


@pytest.mark.parametrize(
    ("rule", "kept"), [("min", False), ("max", True), ("height", False), ("sqrt_area", True)]
)
def test_size_rules(made: Any, rule: str, kept: bool) -> None:
    row = made.row(1, person_boxes=[made.PERSON | {"y1": 250.0}])  # 400 x 250: the root of its area is 316
    person = {"reason": "person", "person": {"size_rule": rule}}
    assert outcome({"rules": [person]}, row) == ([""] if kept else ["person"])


def test_the_first_rule_in_order_names_the_reason(made: Any) -> None:
    rules = [{"reason": r, "column": c, "at_most": 0.5} for r, c in (("b", "art"), ("a", "text_area"))]
    rows = [
        made.row(1, art=1.0, text_area=1.0),
        made.row(2, text_area=1.0),
        made.undecoded(3, "decode:empty"),
    ]
    assert outcome({"rules": rules}, *rows) == ["b", "a", "decode"]
    assert outcome({"rules": rules[::-1]}, *rows) == ["a", "a", "decode"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (one_rule(column="texts", above=1), r"column: .*text_area.*short_side.*got 'texts'"),
        (one_rule(colum="art", above=1), "unknown field 'colum'; expected one of: reason, column"),
        (one_rule(column="art"), "exactly one of above, at_least.*got none"),
        (one_rule(column="art", above=1, below=2), "got above, below"),
        (one_rule(column="status", above=1), "holds text"),
        (one_rule(column="art", equals="x"), "holds numbers"),
        (one_rule(), "expected one of column, person, duplicates"),
        (one_rule(person={}), "a person rule adds what follows the colon"),
        (
            {"rules": [{"reason": "p", "person": {"min_score": 1}}]},
            "unknown field 'min_score'; .*score_above",
        ),
        ({"rules": [{"reason": "d", "duplicates": {}}]}, "at least one of bytes, pixels, near"),
        (
            {"rules": [{"reason": "d", "duplicates": {"near": {"hamming": 9}}}]},
            "less than or equal to 6; got 9",
        ),
        ({"rules": [{"reason": "decode:x", "column": "art", "above": 1}]}, "not beginning with decode"),
        ({"rules": [{"reason": "A", "column": "art", "above": 1}]}, "lower-case"),
        ({"rules": [{"reason": "a", "column": "art", "above": i} for i in (1, 2)]}, "more than one rule"),
        ({"subset": {"share": 0}}, "share: .*greater than 0"),
        ({"base": "nobody"}, "shipped rule sets: general"),
        ({"rule": []}, "rule: unknown field; known here: people, rules, subset"),
    ],
)
def test_errors_name_the_field_and_what_is_allowed(content: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_rules(content)


def test_the_default_is_the_paper() -> None:
    rules = RuleSet()
    assert rules.steps[0] == "decode" and rules.steps[-2:] == ("person", "near-duplicate")
    person = next(rule.person for rule in rules.rules if rule.person)
    assert (person.score_above, person.side_above, person.size_rule) == (0.9, 300.0, "min")
    assert rules == load_rules("humans") and set(shipped()) >= {"general", "humans-100m"}
    for name in shipped():
        assert load_rules(name).resolved() == load_rules(name)


def test_a_base_is_taken_over_but_for_what_is_given(tmp_path: Path) -> None:
    humans, third = load_rules("humans"), load_rules("humans-100m")
    assert third.rules == humans.rules and third.subset is not None and third.subset.of == "kept"
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: humans-100m\npeople: {score_above: 0.5}\n")
    assert load_rules(mine).subset == third.subset and load_rules(mine).people.score_above == 0.5
    mine.write_text(f"base: {mine}\n")
    with pytest.raises(UsageError, match="cannot begin with itself"):
        load_rules(mine)
    with pytest.raises(UsageError, match="neither a file nor one of"):
        load_rules("humens")


def test_a_score_may_be_given_as_a_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"precision": 0.99, "calibration": str(tmp_path / "calibration.json")}
    rules = parse_rules({"rules": [{"reason": "person", "person": {"score_above": wanted}}]})
    assert isinstance(rules.rules[0].person.score_above, AtPrecision)  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"calibration\.json: not a calibration"):
        rules.resolved()
    calibrate = pytest.importorskip("curation.calibrate")
    monkeypatch.setattr(calibrate, "load_calibration", lambda path: path)
    monkeypatch.setattr(calibrate, "score_at_precision", lambda path, precision: 0.625)
    assert rules.resolved().rules[0].person.score_above == 0.625  # type: ignore[union-attr]


def test_the_draw_is_what_is_documented() -> None:
    """splitmix64 written once more, in Python's integers."""

    def mix(state: int) -> int:
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    key = "00112233445566778899aabbccddeeff"
    start = mix((7 + 0x9E3779B97F4A7C15) % 2**64)
    expected = (mix(mix(int(key[:16], 16) ^ start) ^ int(key[16:], 16)) >> 11) / 2**53
    assert draw(to_words(pa.array([key])), 7).tolist() == [expected]


def test_subsets_are_nested_of_the_right_size_and_of_their_seed() -> None:
    keys = np.random.default_rng(0).integers(0, 2**64, (20_000, 2), dtype=np.uint64)
    small, large, other = (
        in_subset(keys, Subset(share=share, seed=seed)) for share, seed in ((0.1, 0), (0.3, 0), (0.3, 1))
    )
    assert (large | ~small).all() and in_subset(keys, Subset(share=1)).all()
    assert abs(small.mean() - 0.1) < 0.01 and abs(large.mean() - 0.3) < 0.015
    assert abs((large & other).mean() - 0.09) < 0.01  # independent
    in_order = np.arange(20_000, dtype=np.uint64)[:, None] * np.array([[0, 1]], np.uint64)
    assert (
        abs(in_subset(in_order, Subset(share=0.3)).mean() - 0.3) < 0.015
    )  # also of keys that are no digests


def test_keys_as_numbers() -> None:
    texts = ["00000000000000010000000000000002", "f" * 32, "", None, "0" * 31 + "1"]
    words = to_words(pa.array(texts, pa.string()))
    assert words.tolist() == [[1, 2], [2**64 - 1, 2**64 - 1], [0, 0], [0, 0], [0, 1]]
    assert to_hex(words).to_pylist() == [text or "" for text in texts]
    assert to_words(pa.array(["a" * 64, None, "b" * 64]))[:, 0].tolist() == [
        int("a" * 16, 16),
        0,
        int("b" * 16, 16),
    ]
    assert to_words(pa.array(texts, pa.string()).slice(1, 1)).tolist() == [[2**64 - 1, 2**64 - 1]]
    for bad in (["abc"], ["x" * 32]):
        with pytest.raises(ShardError, match="key or digest"):
            to_words(pa.array(bad))


def test_histograms_count_everything_once() -> None:
    edges = (0.0, 1.0, 2.0)
    assert count(np.array([-1, 0, 0.5, 1, 2, 2.5]), edges).tolist() == [1, 2, 2, 1]
    assert edges_of("text_area")[-1] == 1 and edges_of("colourfulness")[0] == 2**-10
