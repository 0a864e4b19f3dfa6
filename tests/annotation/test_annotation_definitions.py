"""The table of keypoints on the base mesh: complete, sound, and refused with a reason when it is not."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from annotation.definitions import (
    TABLE,
    KeypointDefinition,
    definition_row,
    keypoint_definitions,
    parse_definition,
    read_definitions,
)
from annotation.keypoints import keypoint_vocabulary
from shards.errors import VitruvianError

ROW: dict[str, Any] = {
    "vertices": [1, 2],
    "weights": [0.25, 0.75],
    "method": "vertex",
    "rule": "here",
    "confidence": 0.5,
    "inside_m": 0.01,
}
EYE = {"side": "l", "ring": "iris", "clock": 3.0}


def row(drop: tuple[str, ...] = (), **changes: Any) -> dict[str, Any]:
    return {k: v for k, v in (ROW | changes).items() if k not in drop}


def test_every_keypoint_is_defined_in_vocabulary_order() -> None:
    definitions = keypoint_definitions()
    assert tuple(d.name for d in definitions) == keypoint_vocabulary(308).names
    kinds = Counter("joint" if d.joint else "eye" if d.eye else "skin" for d in definitions)
    assert kinds["eye"] == 36
    assert kinds["joint"] == 12 + 2 * 14 + 1


def test_rows_round_trip() -> None:
    for definition in keypoint_definitions():
        assert parse_definition(definition.name, definition_row(definition)) == definition


def test_partners_are_defined_alike() -> None:
    definitions, flip = keypoint_definitions(), keypoint_vocabulary(308).flip
    for index, one in enumerate(definitions):
        other = definitions[flip[index]]
        assert (one.method, one.confidence, one.inside_m) == (other.method, other.confidence, other.inside_m)
        if one.eye is not None and other.eye is not None and one.eye.ring != "center":
            assert (one.eye.clock + other.eye.clock) % 12 == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (row(method="guess"), "a method of"),
        (row(weights=[0.25, 0.25]), "weights of sum 1"),
        (row(weights=[1.25, -0.25]), "weights above 0"),
        (row(weights=[1.0]), "a weight per vertex"),
        (row(vertices=[1, 1]), "different vertices"),
        (row(vertices=[1, 19158]), "vertices below"),
        (row(vertices=["a", 1]), "invalid literal"),
        (row(confidence=1.5), "confidence"),
        (row(inside_m=0.0), "inside_m"),
        (row(joint="neck01"), "a place"),
        (row(drop=("rule",)), "a place"),
        (row(drop=("vertices", "weights")), "a place"),
        (row(drop=("vertices", "weights"), eye=EYE | {"ring": "lens"}), "eye: side"),
        (row(drop=("vertices", "weights"), eye={"side": "l"}), "missing"),
    ],
)
def test_an_unsound_row_is_refused_by_name(value: dict[str, Any], message: str) -> None:
    with pytest.raises(VitruvianError, match=message) as caught:
        parse_definition("tip_of_chin", value)
    assert "tip_of_chin" in str(caught.value)


def test_a_definition_has_one_place() -> None:
    with pytest.raises(VitruvianError, match="exactly one"):
        KeypointDefinition("neck", "joint", "", 0.5, 0.1, (1,), (1.0,), joint="neck01")


def test_a_table_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    with pytest.raises(VitruvianError, match="expected JSON"):
        read_definitions(path)
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    path.write_text(json.dumps({"points": table["points"] | {"elbow_patch": ROW}}))
    with pytest.raises(VitruvianError, match="elbow_patch"):
        read_definitions(path)
    del table["points"]["tip_of_chin"]
    path.write_text(json.dumps(table))
    with pytest.raises(VitruvianError, match="tip_of_chin"):
        read_definitions(path)
