"""Body, hands and eyes of the 308 keypoints: symmetric, in their place on many bodies and poses."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

from annotation.definitions import keypoint_definitions
from annotation.keypoints import keypoint_vocabulary
from render.people import PersonSpec, sample_person
from render.people.body import Skeleton, body_model, pose_skeleton, shape_body, skin
from render.people.eyes import Eyeball, build_eye, fit_eyeball
from render.people.keypoints import person_keypoints

VOCABULARY = keypoint_vocabulary(308)
SHAPES: dict[str, dict[str, float]] = {
    "woman": {"gender": 1.0, "caucasian": 0.8, "african": 0.1, "asian": 0.1},
    "man": {"gender": 0.0, "caucasian": 0.8, "african": 0.1, "asian": 0.1},
    "african woman": {"gender": 1.0, "african": 1.0, "asian": 0.0, "caucasian": 0.0, "weight": 0.3},
    "asian man": {"gender": 0.0, "african": 0.0, "asian": 1.0, "caucasian": 0.0},
    "heavy": {"gender": 0.5, "weight": 0.95, "muscle": 0.3},
    "thin and tall": {"gender": 0.4, "weight": 0.1, "height": 0.9, "muscle": 0.8},
}
AGES = {"child": 0.33, "adult": 0.67, "old": 0.97}
FACES: tuple[dict[str, float], ...] = (
    {},
    {"eyeBlinkLeft": 0.6, "eyeBlinkRight": 0.6, "mouthSmileLeft": 0.6, "mouthSmileRight": 0.6},
    {"eyeWideLeft": 0.8, "eyeWideRight": 0.8, "browInnerUp": 0.7, "jawOpen": 0.4},
)
POSES = (None, 3, 11)
"""Seeds of the people whose poses and gazes are taken; None is the rest pose, looking ahead."""
ACROSS = (3, 1, 4, None, 5, 2, 6)
"""Numbers of a line's midpoints in the direction of the image; None is its centre."""
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


@dataclass(frozen=True)
class Figure:
    spec: PersonSpec
    vertices: np.ndarray
    skeleton: Skeleton
    points: np.ndarray

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self.points[VOCABULARY.index(name)])

    def eyeball(self, side: str) -> Eyeball:
        return fit_eyeball(self.spec.eyes, side, self.vertices, self.head, body_model())

    @property
    def head(self) -> np.ndarray:
        return np.asarray(self.skeleton.rotations[body_model().bones.index("head")])


@cache
def someone(seed: int) -> PersonSpec:
    return sample_person(np.random.default_rng(seed))


def figure(phenotype: Mapping[str, float], face: Mapping[str, float], pose: int | None = None) -> Figure:
    model, spec = body_model(), someone(0 if pose is None else pose)
    if pose is None:
        spec = replace(spec, pose={}, eyes=replace(spec.eyes, yaw=0.0, pitch=0.0))
    shape = shape_body(phenotype, face, model)
    skeleton = pose_skeleton(shape, spec.pose, model)
    vertices = skin(shape.vertices, model.weights, model.weight_bones, skeleton)
    return Figure(spec, vertices, skeleton, person_keypoints(spec, vertices, skeleton, model))


@cache
def figures(shape: str) -> tuple[Figure, ...]:
    """Three ages of one shape in three poses with three expressions."""
    variants = [
        (SHAPES[shape] | {"age": age}, face, pose)
        for age in AGES.values()
        for face, pose in zip(FACES, POSES, strict=True)
    ]
    return tuple(figure(*variant) for variant in variants)


def lid_line(person: Figure, side: str, lid: str, line: str) -> np.ndarray:
    """The seven inner points of a line, in the direction of the image."""
    names = ["centerpoint" if n is None else f"midpoint_{n}" for n in ACROSS]
    return np.array([person[f"{side}_{name}_of_{lid}_{line}_line"] for name in names])


every_shape = pytest.mark.parametrize("shape", SHAPES)


def test_all_308_are_symmetric_at_rest() -> None:
    points = figure({"age": 0.67}, {}).points
    np.testing.assert_allclose(points[VOCABULARY.flip] * [-1, 1, 1], points, atol=1e-4)
    side = np.array([{"left": 1, "right": -1, "middle": 0}[s] for s in VOCABULARY.sides])
    assert (np.abs(points[side == 0, 0]) < 1e-4).all()
    offset = points[:, 0] * side
    assert (offset[side != 0] > 0.001).all(), "the person's left is at +x"


def test_skin_points_lie_in_one_triangle() -> None:
    faces_of = defaultdict(set)
    for index, face in enumerate(body_model().faces("body").tolist()):
        for vertex in face:
            faces_of[vertex].add(index)
    apart = {"left_eye", "right_eye", "left_thumb_third_joint", "right_thumb_third_joint"}
    for definition in keypoint_definitions():
        if definition.vertices and definition.name not in apart:
            assert set.intersection(*[faces_of[v] for v in definition.vertices]), definition.name


@every_shape
def test_eyelid_lines_keep_their_order(shape: str) -> None:
    for person in figures(shape):
        for side in "lr":
            for lid in ("upper", "lower"):
                ends = [person[f"{side}_{end}_end_of_{lid}_lash_line"] for end in ("inner", "outer")]
                across = (ends[1] - ends[0]) * (1 if side == "l" else -1)
                for line in ("lash", "eyelid", "crease") if lid == "upper" else ("lash", "eyelid"):
                    steps = np.diff(lid_line(person, side, lid, line), axis=0) @ across
                    assert (steps > 0).all(), (side, lid, line)


@every_shape
def test_lash_line_is_between_eyelid_line_and_crease(shape: str) -> None:
    for person in figures(shape):
        for side in "lr":
            centre = person.eyeball(side).centre
            eyelid, lash = (
                np.linalg.norm(lid_line(person, side, "upper", line) - centre, axis=1)
                for line in ("eyelid", "lash")
            )
            assert (eyelid < lash).all()
            rise = (
                lid_line(person, side, "upper", "crease") - lid_line(person, side, "upper", "lash")
            ) @ person.head
            assert (rise[1:-1, 2] > 0).all() and rise[:, 2].min() > -0.001
            brow = person[f"lower_midpoint_1_of_{side}_eyebrow"]
            assert ((brow - lid_line(person, side, "upper", "crease")[3]) @ person.head)[2] > 0.001


@every_shape
def test_no_eyelid_point_is_in_the_eyeball(shape: str) -> None:
    rows = list(VOCABULARY.groups["face.eyelid"])
    for person in figures(shape):
        for side, word in (("l", "left"), ("r", "right")):
            ball = person.eyeball(side)
            mine = person.points[[i for i in rows if VOCABULARY.sides[i] == word]]
            assert np.linalg.norm(mine - ball.centre, axis=1).min() > ball.radius - 0.001


@every_shape
def test_iris_and_pupil_are_circles_in_clock_order(shape: str) -> None:
    clock = ("12", "midpoint_1", "3", "midpoint_2", "6", "midpoint_3", "9", "midpoint_4")
    for person in figures(shape):
        for side in "lr":
            ball = person.eyeball(side)
            assert np.allclose(person[f"{side}_center_of_iris"], person[f"{side}_center_of_pupil"])
            sizes = {}
            for ring in ("iris", "pupil"):
                local = np.array([person[f"{side}_border_of_{ring}_{hour}"] for hour in clock]) - ball.centre
                local = local @ ball.frame
                np.testing.assert_allclose(np.linalg.norm(local, axis=1), np.linalg.norm(local[0]), atol=1e-9)
                hours = np.degrees(np.arctan2(local[:, 0], local[:, 2])) / 30 - np.arange(8) * 1.5
                np.testing.assert_allclose((hours + 6) % 12, 6, atol=1e-6)
                sizes[ring] = np.hypot(local[0, 0], local[0, 2])
            assert 0.1 * sizes["iris"] < sizes["pupil"] < sizes["iris"]


@every_shape
def test_eye_points_lie_on_the_drawn_eyeball(shape: str) -> None:
    person = figures(shape)[4]
    for side in "lr":
        drawn = build_eye(person.spec.eyes, side, person.vertices, person.head, body_model())
        rows = [i for g in ("iris", "pupil") for i in VOCABULARY.groups[f"face.{g}"]]
        rows = [i for i in rows if VOCABULARY.names[i].startswith(side)]
        ball = person.eyeball(side)
        away = (person.points[rows] - ball.centre) / np.linalg.norm(
            person.points[rows] - ball.centre, axis=1, keepdims=True
        )
        start = ball.centre + 0.05 * away
        depth = first_hit(drawn.vertices[drawn.faces], start, -away)
        gap = 0.05 - depth - np.linalg.norm(person.points[rows] - ball.centre, axis=1)
        assert np.abs(gap).max() < 1e-4


@every_shape
def test_fingers_run_from_base_to_tip(shape: str) -> None:
    for index, person in enumerate(figures(shape)):
        rest = figures(shape)[index - index % len(POSES)]
        for side in ("left", "right"):
            for finger in FINGERS:
                names = [f"{side}_{finger}{end}" for end in ("_third_joint", "2", "3", "4")]
                chain = np.array([person[name] for name in names])
                length = np.linalg.norm(np.diff(chain, axis=0), axis=1)
                straight = np.array([rest[name] for name in names])
                before = np.linalg.norm(np.diff(straight, axis=0), axis=1)
                assert (length > 0.006).all(), (side, finger)
                np.testing.assert_allclose(length[1], before[1], atol=1e-9)
                np.testing.assert_allclose(length, before, atol=0.008)
                reach = np.linalg.norm(straight - rest[f"{side}_wrist"], axis=1)
                assert (np.diff(reach) > 0).all(), (side, finger)


@every_shape
def test_feet_and_arms_have_their_landmarks(shape: str) -> None:
    for person in figures(shape):
        for side in ("left", "right"):
            ankle, heel, big, small = (
                person[f"{side}_{n}"] for n in ("ankle", "heel", "big_toe", "small_toe")
            )
            foot = person.skeleton.rotations[body_model().bones.index(f"foot.{side[0].upper()}")]
            forward = np.array([heel, ankle, small, big]) @ foot @ np.array([0.0, -1.0, 0.0])
            assert (np.diff(forward) > 0).all()
            shoulder, elbow, wrist = (person[f"{side}_{n}"] for n in ("shoulder", "elbow", "wrist"))
            inwards = sum((end - elbow) / np.linalg.norm(end - elbow) for end in (shoulder, wrist))
            assert (person[f"{side}_olecranon"] - elbow) @ inwards < 0 or np.linalg.norm(inwards) < 0.3
            assert np.linalg.norm(person[f"{side}_acromion"] - shoulder) < 0.12


@pytest.mark.parametrize("age", AGES.values(), ids=AGES.keys())
@every_shape
def test_closed_lids_hide_iris_and_pupil(shape: str, age: float) -> None:
    phenotype = SHAPES[shape] | {"age": age}
    limit = keypoint_definitions()[VOCABULARY.index("l_center_of_iris")].inside_m
    blink = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
    rows = [i for g in ("iris", "pupil") for i in VOCABULARY.groups[f"face.{g}"]]
    assert (covered(figure(phenotype, blink))[rows] > limit).all()
    open_ = covered(figure(phenotype, {}))
    assert (open_[[VOCABULARY.index(f"{s}_center_of_iris") for s in "lr"]] < limit).all()
    assert (open_[rows] < limit).mean() > 0.4
    lids = list(VOCABULARY.groups["face.eyelid"])
    margins = np.array([d.inside_m for d in keypoint_definitions()])
    assert (open_[lids] < margins[lids]).mean() > 0.95


def covered(person: Figure) -> np.ndarray:
    """How deep each point lies under the skin seen from the front (person at rest), metres."""
    forward = np.array([0.0, -1.0, 0.0])
    triangles = person.vertices[body_model().faces("body")]
    far = first_hit(triangles, person.points + 0.3 * forward, np.tile(-forward, (308, 1)))
    return np.where(np.isfinite(far) & (far < 0.3), 0.3 - far, 0.0)


def first_hit(triangles: np.ndarray, start: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Distance along unit rays to the first triangle, metres; very large when there is none."""
    scene = EmbreeScene()
    TriangleMesh(scene, triangles.astype(np.float32))
    hit = scene.run(start.astype(np.float32), towards.astype(np.float32), output=1)
    return np.asarray(hit["tfar"], dtype=np.float64)
