"""Self-checks of labels: a good sample has no problem, and every way to spoil it is named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from annotation.camera import Camera
from annotation.checks import check_labels
from annotation.labels import Labels, from_members, to_members
from annotation.parts import part_vocabulary

HEIGHT, WIDTH = 96, 72


def good_labels() -> Labels:
    """A ball 2 m away, with exact depth and normals from the ray equation, and 17 points on and beside it."""
    camera = Camera(np.array([[100.0, 0, 35.5], [0, 100, 47.5], [0, 0, 1]]), np.eye(4), WIDTH, HEIGHT)
    centre, radius = np.array([0.0, 0, 2]), 0.5
    rays = camera.rays()
    a, b = np.square(rays).sum(axis=-1), rays @ centre
    inside = b**2 - a * (centre @ centre - radius**2)
    depth = np.where(inside > 0, (b - np.sqrt(np.maximum(inside, 0))) / a, 0)
    normal = np.where(inside[..., None] > 0, (rays * depth[..., None] - centre) / radius, 0)
    surface = depth > 0
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (17, 3)) + centre
    pixels = camera.project(points)
    visibility = np.where(camera.contains(pixels), 2, 0)
    return Labels(
        rgb=np.where(surface[..., None], 200, 30).astype(np.uint8).repeat(3, axis=-1),
        depth=depth.astype(np.float32),
        normal=camera.world_normals_to_label(normal).astype(np.float32),
        alpha=np.where(surface, 255, 0).astype(np.uint8),
        parts=np.where(surface, 21, 0).astype(np.uint8),
        instance=surface.astype(np.uint8),
        keypoints=np.column_stack([pixels, visibility]).astype(np.float32)[None],
        camera=camera,
        meta={"people": [{}]},
    )


def spoiled(label: str, change: Callable[[Any], None]) -> Labels:
    labels = good_labels()
    array = getattr(labels, label).copy()
    change(array)
    return replace(labels, **{label: array})


def names(labels: Labels) -> set[str]:
    return {problem.name for problem in check_labels(labels)}


def test_a_good_sample_has_no_problem_before_and_after_the_shard() -> None:
    labels = good_labels()
    assert labels.keypoints is not None
    assert 0 in labels.keypoints[..., 3] and 2 in labels.keypoints[..., 3]
    assert check_labels(labels) == []
    assert check_labels(from_members(to_members(labels))) == []


def test_absent_labels_are_no_problem() -> None:
    assert check_labels(Labels()) == []
    assert check_labels(Labels(keypoints=np.ones((1, 17, 4), np.float32))) == []


def put(index: Any, value: Any) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[index] = value

    return change


MIDDLE = (48, 36)


@pytest.mark.parametrize(
    ("label", "change", "expected"),
    [
        ("rgb", put(..., 0), {"rgb:flat"}),
        ("depth", put(..., 0), {"depth:empty", "mask:depth-normal", "mask:alpha-depth", "mask:parts-depth"}),
        ("depth", put(MIDDLE, np.nan), {"depth:not-finite", "mask:depth-normal", "mask:parts-depth"}),
        ("depth", put(MIDDLE, 1e10), {"depth:range"}),
        ("depth", put(MIDDLE, 1e-3), {"depth:range"}),
        ("depth", put(MIDDLE, 20.0), {"depth:coarse"}),
        ("normal", put(MIDDLE, 0.9), {"normal:length"}),
        ("normal", put(MIDDLE, 0), {"mask:depth-normal"}),
        ("normal", lambda n: np.negative(n, out=n), {"normal:away"}),
        ("normal", lambda n: np.multiply(n, (1, -1, -1), out=n), {"normal:away"}),
        ("alpha", put((slice(0, 5), slice(0, 5)), 255), {"mask:alpha-depth"}),
        ("alpha", put((slice(40, 50), slice(30, 40)), 0), {"mask:alpha-depth"}),
        ("parts", put((0, 0), 5), {"mask:parts-depth", "mask:parts-instance"}),
        ("parts", put(MIDDLE, 28), {"parts:unknown"}),
        ("parts", put(MIDDLE, 255), set()),
        ("instance", put(MIDDLE, 0), {"mask:parts-instance"}),
        ("keypoints", put((0, 3, 0), np.nan), {"keypoints:not-finite"}),
        ("keypoints", put((0, 3), (5, 5, 2, 3)), {"keypoints:visibility"}),
        ("keypoints", put((0, 3), (WIDTH, 5, 2, 2)), {"keypoints:frame"}),
        ("keypoints", put((0, 3), (5, -9, 2, 1)), {"keypoints:frame"}),
        ("keypoints", put((0, 3), (5, 5, -2, 1)), {"keypoints:frame"}),
        ("keypoints", put((0, 3), (5, 5, 2, 0)), {"keypoints:frame"}),
        ("keypoints", put((0, 3), 0), set()),
        ("keypoints", put((0, 3), (WIDTH - 0.5, 5, 2, 2)), set()),
    ],
)
def test_what_is_spoiled_is_named(
    label: str, change: Callable[[np.ndarray], None], expected: set[str]
) -> None:
    assert names(spoiled(label, change)) == expected


def test_alpha_may_be_soft_within_one_pixel_of_the_silhouette() -> None:
    labels = good_labels()
    assert labels.alpha is not None
    shifted = np.roll(labels.alpha, 1, axis=1)
    assert check_labels(replace(labels, alpha=shifted)) == []
    assert names(replace(labels, alpha=np.roll(labels.alpha, 2, axis=1))) == {"mask:alpha-depth"}


def test_strands_of_hair_may_look_away_and_be_missed_by_alpha() -> None:
    labels = good_labels()
    hair = part_vocabulary(labels.part_classes).names.index("Hair")
    assert labels.normal is not None and labels.alpha is not None and labels.parts is not None
    top = np.arange(HEIGHT)[:, None] < HEIGHT // 2
    normal = np.where(top[..., None], -labels.normal, labels.normal).astype(np.float32)
    changed = replace(labels, normal=normal, alpha=np.where(top, 0, labels.alpha).astype(np.uint8))
    assert {p.name for p in check_labels(changed)} == {"normal:away", "mask:alpha-depth"}
    parts = np.where(top & (labels.parts > 0), hair, labels.parts).astype(np.uint8)
    assert check_labels(replace(changed, parts=parts)) == []


def test_people_and_points_are_counted() -> None:
    labels = good_labels()
    assert names(replace(labels, meta={"people": [{}, {}]})) == {"keypoints:people"}
    assert names(replace(labels, keypoints=np.zeros((1, 18, 4), np.float32))) == {"keypoints:count"}


def test_problems_say_what_was_expected_and_got() -> None:
    (problem,) = check_labels(spoiled("parts", put(MIDDLE, 77)))
    assert problem.name == "parts:unknown"
    assert "0 .. 27 of goliath_28" in problem.detail and "[77]" in problem.detail
    assert check_labels(replace(good_labels(), parts=None, part_classes=20)) == []
