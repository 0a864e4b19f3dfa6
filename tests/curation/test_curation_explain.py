"""Two selections compared: counts, samples, pictures, and the command line."""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
import yaml

from curation.decisions import read_decisions, reason_groups
from curation.explain import contact_sheet, explain
from curation.rules import load_rules
from shards.errors import UsageError

TEXT = {"reason": "text:area", "column": "text_area", "at_most": 0.02}
SIZE = {"reason": "size:small", "column": "short_side", "at_least": 64}
PERSON = {"reason": "person", "person": {"score_above": 0.9, "side_above": 300}}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs of one colour each."""
    folder = tmp_path_factory.mktemp("explain") / "pool"
    folder.mkdir()
    for number in range(12):
        image = np.full((40, 60, 3), 20 * number, np.uint8)
        (folder / f"<b>{number:02d}.png").write_bytes(bytes(cv2.imencode(".png", image)[1]))
    return folder


@pytest.fixture(scope="module")
def annotations(made: Any, pool: Path) -> Path:
    rows = []
    for number, path in enumerate(sorted(pool.iterdir())):
        data = path.read_bytes()
        digest = sha256(data).hexdigest()
        known = {"source": path.name, "bytes": len(data), "sha256": digest, "key": digest[:32]}
        rows.append(made.row(number, **known, text_area=number / 100, width=60, height=40))
    rows.append(made.undecoded(99, "decode:empty"))
    place: Path = made.write_annotations(pool.parent / "annotations", made.cut(rows, [3, 9]))
    return place


@pytest.fixture(scope="module")
def selections(made: Any, annotations: Path) -> tuple[Path, Path]:
    before, after = annotations.parent / "before", annotations.parent / "after"
    with mock.patch("curation.select.BATCH", 4):
        made.select(annotations, {"rules": [TEXT]}, before)
    rules = [SIZE | {"at_least": 10}, TEXT | {"at_most": 0.05}, PERSON | {"person": {"side_above": 450}}]
    with mock.patch("curation.select.BATCH", 4):
        made.select(annotations, {"rules": rules}, after)
    return before, after


def test_it_counts_what_moved(made: Any, annotations: Path, selections: tuple[Path, Path]) -> None:
    found = explain(*selections)
    assert (found.inputs, found.kept_before, found.kept_after, found.moved) == (13, 3, 0, 6)
    assert [(move.before, move.after, move.count, move.positions) for move in found.moves] == [
        ("kept", "person:small", 3, ()),
        ("text:area", "person:small", 3, ()),
    ]
    back = explain(*selections[::-1])
    assert sorted((m.after, m.before, m.count) for m in back.moves) == sorted(
        (m.before, m.after, m.count) for m in found.moves
    )
    assert explain(selections[0], selections[0]).moves == ()


def test_samples_are_those_with_the_smallest_keys(selections: tuple[Path, Path]) -> None:
    one, other = (read_decisions(place).to_pylist() for place in selections)
    for move in explain(*selections, samples=2).moves:
        moved = [
            (row["key"], position)
            for position, row in enumerate(one)
            if (row["reason"] or "kept", other[position]["reason"] or "kept") == (move.before, move.after)
        ]
        assert move.positions == tuple(position for _, position in sorted(moved)[:2])


def test_another_keeper_is_no_move(made: Any, tmp_path: Path) -> None:
    rows = [made.row(n, pixel_sha256="ab" * 32, text_area=0.5 if n == 1 else 0.0) for n in (1, 2, 3)]
    place = made.write_annotations(tmp_path / "in", [rows])
    exact = {"reason": "duplicate", "duplicates": {"pixels": True}}
    made.select(place, {"rules": [exact]}, tmp_path / "a")
    made.select(place, {"rules": [TEXT, exact]}, tmp_path / "b")
    groups = reason_groups(read_decisions(tmp_path / "b")["reason"])
    assert groups.to_pylist() == ["text:area", "kept", "duplicate"]
    moves = [(m.before, m.after, m.count) for m in explain(tmp_path / "a", tmp_path / "b").moves]
    assert moves == [("duplicate", "kept", 1), ("kept", "text:area", 1)]


def test_selections_of_different_pools_are_refused(
    made: Any, selections: tuple[Path, Path], tmp_path: Path
) -> None:
    place = made.write_annotations(tmp_path / "in", [[made.row(1)]])
    made.select(place, {"rules": []}, tmp_path / "other")
    with pytest.raises(UsageError, match="selections of different annotations"):
        explain(selections[0], tmp_path / "other")
    with pytest.raises(UsageError, match="expected the output of `vitruvian curate select`"):
        explain(selections[0], place)


def test_pictures_come_from_the_pool(
    pool: Path, annotations: Path, selections: tuple[Path, Path], tmp_path: Path
) -> None:
    found = explain(*selections, samples=2)
    contact_sheet(pool, annotations, found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == 4 and "kept -&gt; person:small: 3" in page
    assert "<b>" not in page and "&lt;b&gt;0" in page and "http" not in page
    contact_sheet(pool, annotations, found, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (2 * (28 + 128), 640, 3)
    shown = {int(sheet[28 + 64, x, 0]) for x in (50, 250)}  # two of the first three, which are 0, 20 and 40
    assert len(shown) == 2 and shown <= {0, 20, 40}
    first = (tmp_path / "sheet.png").read_bytes()
    contact_sheet(pool, annotations, explain(*selections, samples=2), tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == first
    with pytest.raises(UsageError, match=r"\.html or \.png"):
        contact_sheet(pool, annotations, found, tmp_path / "sheet.gif")


def vitruvian(*arguments: object) -> tuple[int, str]:
    code = "from pipelines.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_command_line(
    pool: Path, annotations: Path, selections: tuple[Path, Path], tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({"rules": [TEXT | {"at_most": 0.05}]}))
    code, shown = vitruvian(
        *("curate", "explain", annotations, selections[0], mine, "--json", "--scratch", tmp_path),
        *("--pool", pool, "--thumbnails", tmp_path / "moved.html"),
    )
    assert code == 0, shown
    told = json.loads(shown)
    assert told["moves"] == [{"before": "text:area", "after": "kept", "count": 3}]
    assert (tmp_path / "moved.html").read_text().count("<img") == 3
    code, shown = vitruvian("curate", "explain", annotations, *selections)
    assert code == 0 and "person:small" in shown and "6 of 13 inputs moved; kept 3 before, 0 after" in shown
    code, shown = vitruvian(
        *("curate", "select", annotations, "--rules", "general", "--share", 0.5, "--out", tmp_path / "half"),
        *("--explain", selections[0]),
    )
    assert code == 0 and "subset:out" in shown and "inputs moved" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["explain", "IN", "A", "nobody"], "rules 'nobody': neither a file nor one of"),
        (["explain", "IN", "A", "A", "--thumbnails", "x.html"], "--pool"),
        (["explain", "IN", "A", "A", "--thumbnails", "x.gif", "--pool", "y"], "ends in .html or .png"),
        (["select", "IN", "--rules", "humans", "--config", "x.yaml", "--out", "OUT"], "give the rules once"),
        (["select", "IN", "--section", "x", "--out", "OUT"], "--config"),
        (["select", "IN", "--share", "2", "--out", "OUT"], "share"),
        (
            ["materialise", "IN", "IN", "IN", "--out", "OUT"],
            "expected the output of `vitruvian curate select`",
        ),
    ],
)
def test_wrong_usage_is_exit_2(
    arguments: list[str], message: str, annotations: Path, selections: tuple[Path, Path], tmp_path: Path
) -> None:
    known = {"IN": annotations, "A": selections[0], "OUT": tmp_path / "out"}
    code, shown = vitruvian("curate", *(known.get(argument, argument) for argument in arguments))
    assert code == 2 and message in shown
    assert not (tmp_path / "out").exists()


def test_the_ablation_sets_come_from_select_alone(made: Any, tmp_path: Path) -> None:
    """Section 4.6: General-N without a look at people, Humans-N within Humans-300M, both nested."""
    rng = np.random.default_rng(0)
    keys = [rng.bytes(16).hex() for _ in range(300)]
    rows = [made.row(n, key=keys[n], person_boxes=[made.PERSON] * (n % 2)) for n in range(300)]
    place = made.write_annotations(tmp_path / "in", made.cut(rows, [100]))
    kept = {}
    for name in ("general", "general-100m", "general-300m", "humans", "humans-100m"):
        found = made.select(place, load_rules(name), tmp_path / name)
        kept[name] = {n for n, reason in enumerate(found) if reason is None}
    assert kept["general-100m"] < kept["general-300m"] < kept["general"] == set(range(300))
    assert kept["humans-100m"] < kept["humans"] == set(range(1, 300, 2))
    assert 15 < len(kept["general-100m"]) < 45 and 70 < len(kept["general-300m"]) < 110
    assert 35 < len(kept["humans-100m"]) < 65
