"""What is printed after an evaluation, and which published figures stand beside ours."""

import re
from pathlib import Path
from typing import Any

import pytest

from shards.errors import UsageError
from train.metrics.published import (
    Published,
    Withheld,
    check_protocol,
    find_published,
    protocol_names,
)
from train.scoreboard import scoreboard

PAPER = Path(__file__).parents[3] / "shared/reference/paper.txt"
SETTINGS = {"keypoints": 133, "classes": 28}


def metrics(published: Any) -> dict[str, Any]:
    return {
        "headline": {"metric": "rmse", "better": "lower"},
        "metrics": {"rmse": 0.25, "abs_rel": 0.125, "delta1": 1.0, "iou/Hair": 0.5, "ap_large": -1.0},
        "baselines": {"constant": {"rmse": 0.5}},
        "intervals": {"method": "none: resamples 0", "metrics": {"rmse": [0.2, 0.3]}},
        "units": dict.fromkeys(("abs_rel", "delta1", "iou/Hair", "ap_large"), "share of 1") | {"rmse": "m"},
        "counts": {"images": 1195, "people": None, "pixels": 2000},
        "published": published,
    }


def test_the_board_shows_scores_intervals_and_baselines() -> None:
    lines = scoreboard(metrics(None)).splitlines()
    assert lines[0].split() == ["model", "95", "%", "constant", "unit"]
    assert lines[1].split() == ["rmse", "0.25", "0.2", "..", "0.3", "0.5", "m"]
    assert lines[2].split() == ["abs_rel", "0.125", "-", "-"]
    assert lines[4].split() == ["ap_large", "-", "-", "-"]  # COCO's -1: nobody is large
    assert lines[5] == "1,195 images, 2,000 pixels; rmse: lower is better"
    assert not any("Hair" in line for line in lines)


def test_published_rows_stand_below_the_same_scores_of_the_model() -> None:
    found = {
        "protocol": "hi4d",
        "title": "Hi4D",
        "source": "a paper",
        "conditions": "masked",
        "rows": {"Other": {"rmse": 0.5, "delta1": 0.75}},
    }
    lines = scoreboard(metrics(found)).splitlines()
    start = lines.index("")
    assert [line.split() for line in lines[start + 1 : start + 4]] == [
        ["rmse", "delta1"],
        ["this", "model", "0.25", "1"],
        ["Other", "0.5", "0.75"],
    ]
    withheld = scoreboard(metrics({"protocol": "hi4d", "withheld": "3 images"}))
    assert withheld.endswith("published figures (hi4d): not shown, 3 images")


def test_figures_are_in_our_units_and_name_their_source() -> None:
    depth = find_published("hi4d", "depth", 1195, SETTINGS)
    normal = find_published("hi4d", "normal", 1195, SETTINGS)
    parts = find_published("humans-2k", "parts", 2000, SETTINGS)
    pose = find_published("coco-wholebody", "pose", 5000, SETTINGS)
    assert isinstance(depth, Published) and "Table 5" in depth.source
    assert depth.rows["Sapiens-2B"] == {"rmse": 0.114, "abs_rel": 0.036, "delta1": 1.0}
    assert isinstance(normal, Published)
    assert normal.rows["Sapiens-2B"]["mean"] == 12.14
    assert normal.rows["Sapiens-2B"]["within_11.25"] == 0.6022
    assert isinstance(parts, Published) and parts.rows["Sapiens-2B"] == {"miou": 0.812, "macc": 0.894}
    assert isinstance(pose, Published) and pose.rows["Sapiens-0.3B"] == {"ap": 0.62, "ar": 0.694}


@pytest.mark.parametrize(
    ("protocol", "task", "images", "settings", "reason"),
    [
        ("hi4d", "depth", 12, SETTINGS, "12 images were scored, the published set has 1195"),
        ("hi4d", "parts", 1195, SETTINGS, "nothing was published for parts on Hi4D"),
        ("coco", "pose", 5000, SETTINGS, "published for keypoints 17, this model has 133"),
        ("lip", "parts", 10000, SETTINGS, "nothing was published for parts on LIP"),
        ("eval-v1", "depth", 100, SETTINGS, "nothing was published for depth on This project's"),
    ],
)
def test_figures_of_other_pictures_or_vocabularies_are_withheld(
    protocol: str, task: str, images: int, settings: dict[str, int], reason: str
) -> None:
    found = find_published(protocol, task, images, settings)
    assert isinstance(found, Withheld) and found.reason.startswith(reason)


def test_data_say_which_test_set_they_are_and_nobody_may_contradict() -> None:
    assert check_protocol(None, {}) is None
    assert check_protocol("hi4d", {"protocol": "hi4d"}) == "hi4d"
    assert check_protocol(None, {"protocol": "lip"}) == "lip"
    assert check_protocol(None, {"config": {"recipe": "eval-v1"}}) == "eval-v1"
    assert check_protocol("thuman2", {"config": {"recipe": "my-scans"}}) == "thuman2"
    with pytest.raises(UsageError, match="say of themselves that they are 'lip'"):
        check_protocol("hi4d", {"protocol": "lip"})
    with pytest.raises(UsageError, match=r"protocol 'x': expected one of eval-v1, humans-5k"):
        check_protocol("x", {})


@pytest.mark.skipif(not PAPER.is_file(), reason="../shared/reference is not there")
def test_every_row_of_the_paper_is_as_printed() -> None:
    """The numbers of each row, in order, follow its name in the paper's text."""
    text = re.sub(r"\(\+[\d.]+\)", "", PAPER.read_text(encoding="utf-8"))
    tables = {"depth": "Method\tTH2.0-Face", "normal": "Method\tTHuman2.0 [117]"}
    spans = {task: text[text.index(start) :][:4000] for task, start in tables.items()}
    checked = 0
    for protocol, task, column in [
        ("thuman2-face", "depth", 0),
        ("thuman2-upper", "depth", 3),
        ("thuman2-full", "depth", 6),
        ("hi4d", "depth", 9),
        ("thuman2", "normal", 0),
        ("hi4d", "normal", 5),
    ]:
        sizes = {"thuman2": 1578, "hi4d": 1195}
        found = find_published(protocol, task, sizes.get(protocol, 526), SETTINGS)
        assert isinstance(found, Published)
        for model, scores in found.rows.items():
            line = next(line for line in spans[task].splitlines() if line.startswith(model))
            printed = [float(value) for value in re.findall(r"\d+\.\d+", line.split("\t", 1)[1])]
            ours = [value * (100 if name.startswith("within") else 1) for name, value in scores.items()]
            assert ours == pytest.approx(printed[column : column + len(ours)]), (protocol, model)
            checked += 1
    assert checked == 48
    assert set(sizes) < set(protocol_names())
