"""The solved camera fills the asked share and keeps out of margins, ground and people. No rendering."""

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest

from annotation.camera import Camera
from annotation.parts import IGNORE
from render.engine import built_person
from render.framing import NoCamera, Target, View, aim_at, sample_camera, solve_position
from render.people import sample_person
from render.person import Person
from render.recipe import RenderConfig
from render.regions import FramingName, framing_regions, surface_points
from render.spec import CameraSpec, Matrix, Placement, Triple

WIDTH = 300
NAMES: tuple[FramingName, ...] = ("face", "upper_body", "full_body")
LENSES: tuple[Triple, ...] = ((0.0, 0.0, 0.0), (-0.08, 0.01, 0.0), (0.03, -0.01, 0.0))
FRAMINGS = RenderConfig(recipe="train-v1").framings.named()
HERE = Placement("0")


@cache
def _sampled(seed: int) -> Person:
    return built_person(sample_person(np.random.default_rng(seed)))


@cache
def _standing() -> Person:
    """Someone whose arms hang."""
    specs = (sample_person(np.random.default_rng(seed)) for seed in range(100))
    return built_person(next(spec for spec in specs if spec.pose_name == "relaxed"))


def _scanned(person: Person) -> Person:
    """The same without part labels, as a scan comes."""
    bare = [replace(s, part_ids=np.full_like(s.part_ids, IGNORE)) for s in person.surfaces]
    return replace(person, surfaces=tuple(bare), keypoints=None, joints={})


def _cut(person: Person, below: float) -> Person:
    """Only what is higher than `below` (m), put on the ground: a scan of a bust or a head."""
    surfaces = []
    for whole in person.surfaces:
        kept = whole.vertices[whole.faces][..., 2].min(axis=1) > below
        lowered = whole.vertices - np.array([0.0, 0.0, below])
        part = replace(
            whole, vertices=lowered, faces=whole.faces[kept], part_ids=whole.part_ids[kept], uv=None
        )
        surfaces.append(part)
    used = np.concatenate([s.vertices[np.unique(s.faces)] for s in surfaces])
    return replace(person, surfaces=tuple(surfaces), height=float(used[:, 2].max()))


@cache
def _with_raised_arms() -> Person:
    specs = (sample_person(np.random.default_rng(seed)) for seed in range(100))
    people = (built_person(spec) for spec in specs if spec.pose_name == "arms_raised")
    return next(p for p in people if _top(p) > framing_regions(p)["face"][:, 2].max() + 0.1)


def _top(person: Person) -> float:
    return float(surface_points(person)[:, 2].max())


def _target(index: int) -> Target:
    person = _sampled(index % 4)
    return aim_at([_scanned(person) if index % 2 else person], [HERE])


def _camera(spec: CameraSpec, aspect: float) -> Camera:
    return spec.camera(WIDTH, round(WIDTH * aspect))


def _seen(camera: Camera, points: np.ndarray, lens: Triple) -> np.ndarray:
    """Pixels by OpenCV's own distortion model, the centre of the top-left one at (0.5, 0.5)."""
    pose = camera.world_to_camera
    k1, k2, k3 = lens
    turn, _ = cv2.Rodrigues(pose[:3, :3])
    xy, _ = cv2.projectPoints(points, turn, pose[:3, 3], camera.K, np.array([k1, k2, 0.0, 0.0, k3]))
    return np.asarray(xy[:, 0] + 0.5)


def test_a_thousand_specs_fill_their_share_within_their_margins() -> None:
    rng = np.random.default_rng(0)
    targets = [_target(index) for index in range(8)]
    for index in range(1000):
        name, aspect = NAMES[index % 3], [4 / 3, 3 / 4, 1.0][index % 7 % 3]
        lens = LENSES[index % 5 % 3]
        target, framing = targets[index % 8], FRAMINGS[name]
        shot = sample_camera(rng, target, name, framing, aspect, lens)
        camera = _camera(shot.camera, aspect)
        size = np.array([camera.width, camera.height])
        points = np.concatenate([shot.region.extreme, shot.region.points[::9]])
        seen = _seen(camera, points, lens)
        low, high = seen.min(axis=0), seen.max(axis=0)
        share = float(((high - low) / size).max())
        assert framing.share[0] - 2e-3 <= share <= framing.share[1] + 2e-3
        assert (low >= (framing.margin - 2e-3) * size).all()
        assert (high <= (1 - framing.margin + 2e-3) * size).all()
        assert camera.position[2] >= 0.1
        assert target.surface.query(camera.position)[0] > 0.12
        assert shot.distance() > 0.12


@pytest.mark.parametrize("seed", range(4))
def test_shape_finds_the_regions_that_labels_name(seed: int) -> None:
    person = _sampled(seed)
    labelled, by_shape = framing_regions(person), framing_regions(_scanned(person))
    _agree_on_the_head(labelled["face"], by_shape["face"])
    assert _overlap(labelled["upper_body"], by_shape["upper_body"]) > 0.5
    whole = np.concatenate([s.vertices[np.unique(s.faces)] for s in person.surfaces])
    assert np.allclose(np.ptp(by_shape["full_body"], axis=0), np.ptp(whole, axis=0), atol=0.01)


def test_raised_arms_are_no_head() -> None:
    person = _with_raised_arms()
    _agree_on_the_head(framing_regions(person)["face"], framing_regions(_scanned(person))["face"])
    upper = framing_regions(_scanned(person))["upper_body"]
    assert upper[:, 2].max() == pytest.approx(_top(person), abs=1e-6)


def _agree_on_the_head(labelled: np.ndarray, found: np.ndarray) -> None:
    """Same crown, same place, a head's height. (Labels go on into long hair and the neck.)"""
    assert abs(labelled[:, 2].max() - found[:, 2].max()) < 0.02
    crowns = [points[points[:, 2] > points[:, 2].max() - 0.15] for points in (labelled, found)]
    assert np.allclose(_middle(crowns[0]), _middle(crowns[1]), atol=0.05)
    assert 0.15 < np.ptp(found[:, 2]) < 0.37


def _middle(points: np.ndarray) -> np.ndarray:
    return np.asarray((points[:, :2].min(axis=0) + points[:, :2].max(axis=0)) / 2)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of the boxes of two sets of points."""
    low, high = np.maximum(a.min(axis=0), b.min(axis=0)), np.minimum(a.max(axis=0), b.max(axis=0))
    both = float(np.prod(np.clip(high - low, 0, None)))
    return both / float(np.prod(np.ptp(a, axis=0)) + np.prod(np.ptp(b, axis=0)) - both)


def test_a_part_of_a_body_has_the_framings_it_can_have() -> None:
    person = _scanned(_standing())
    bust, bare_head = _cut(person, person.height - 0.7), _cut(person, person.height - 0.3)
    assert list(framing_regions(bust)) == ["face", "upper_body"]
    assert list(framing_regions(bare_head)) == ["face"]
    everything = framing_regions(bare_head)["face"]
    assert np.ptp(everything[:, 2]) == pytest.approx(bare_head.height, abs=0.01)
    face = framing_regions(bust)["face"]
    assert 0.15 < np.ptp(face[:, 2]) < 0.4 and face[:, 2].max() == pytest.approx(bust.height, abs=0.01)
    target = aim_at([bust], [HERE])
    with pytest.raises(NoCamera, match="full_body: not available"):
        sample_camera(np.random.default_rng(0), target, "full_body", FRAMINGS["full_body"], 1.0)
    framings = RenderConfig(recipe="eval-v1").framings
    chosen = [framings.choose(np.random.default_rng(0), v, target.available(NAMES)) for v in range(3)]
    assert chosen == ["face", "upper_body", "face"]


def _body() -> np.ndarray:
    return framing_regions(_sampled(1))["full_body"]


@pytest.mark.parametrize("focal", [14.0, 50.0, 200.0, 600.0])
def test_slack_places_the_box_at_any_focal_length(focal: float) -> None:
    points = _body()
    view = View(20.0, 8.0, 3.0, focal, share=0.6, margin=0.1, slack=(0.0, 1.0))
    position = solve_position(points, view, 4 / 3)
    assert position is not None
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = view.rotation(), -view.rotation() @ position
    matrix: Matrix = tuple(map(tuple, pose.tolist()))  # type: ignore[assignment]
    camera = CameraSpec(focal, matrix).camera(300, 400)
    xy = camera.project(points)[:, :2] + 0.5
    assert np.isclose(xy[:, 0].min(), 30, atol=0.1)
    assert np.isclose(xy[:, 1].max(), 360, atol=0.1)


def test_azimuth_runs_from_the_front_to_the_persons_left() -> None:
    points = _body()
    front = solve_position(points, View(0.0, 0.0, 0.0, 50.0, 0.8), 1.0)
    left = solve_position(points, View(90.0, 0.0, 0.0, 50.0, 0.8), 1.0)
    assert front is not None and left is not None
    assert front[1] < -1 and abs(front[0]) < 0.2
    assert left[0] > 1 and abs(left[1]) < 0.2


def test_an_impossible_framing_says_so() -> None:
    framing = FRAMINGS["face"].model_copy(update={"share": (0.9, 0.9), "focal_mm": (8.0, 8.0)})
    with pytest.raises(NoCamera, match="widen") as caught:
        sample_camera(np.random.default_rng(0), aim_at([_scanned(_sampled(1))], [HERE]), "face", framing, 1.0)
    assert caught.value.reason == "framing:unsolved"
