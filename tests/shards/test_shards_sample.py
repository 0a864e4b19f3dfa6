"""Keys and canonical JSON."""

import hashlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards import Sample, ShardError, canonical_json, content_key, digest_json

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)  # fmt: skip


@given(PLAIN)
def test_canonical_json_is_a_fixed_point_and_keeps_the_value(value: Any) -> None:
    spelled = canonical_json(value)
    assert json.loads(spelled) == value
    assert canonical_json(json.loads(spelled)) == spelled


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(), min_size=2))
def test_canonical_json_ignores_insertion_order(value: dict[str, int]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_json(value) == canonical_json(backwards)
    assert digest_json(value) == digest_json(backwards)


def test_canonical_json_spelling() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()


@pytest.mark.parametrize("value", [math.nan, math.inf, {"x": object()}, "\ud800", b"bytes"])
def test_canonical_json_refuses_what_has_no_spelling(value: Any) -> None:
    with pytest.raises(ShardError, match="canonical JSON"):
        canonical_json(value)


def test_content_key_is_the_first_half_of_sha256() -> None:
    assert content_key(b"abc") == hashlib.sha256(b"abc").hexdigest()[:32]


def test_meta_parses_the_json_member() -> None:
    assert Sample("k", {"json": b'{"a": 1}'}).meta() == {"a": 1}
    assert Sample("k", {"jpg": b""}).meta() == {}


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe\x00"])
def test_meta_names_the_sample_whose_json_is_bad(content: bytes) -> None:
    with pytest.raises(ShardError, match="sample 'k'"):
        Sample("k", {"json": content}).meta()
