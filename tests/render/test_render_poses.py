"""Poses and faces: joint limits, stances, the plausibility check, and expressions."""

from collections import Counter
from functools import cache

import numpy as np
import pytest

from render.people.body import Shape, body_model, pose_skeleton, rotation, shape_body, skin
from render.people.expression import (
    EXPRESSIONS,
    GAZE_PITCH,
    GAZE_YAW,
    OPENING,
    follow_gaze,
    sample_expression,
    sample_gaze,
)
from render.people.gestures import SITTING, STANDING
from render.people.hands import HANDS, hand_turns
from render.people.limits import (
    LIMITS,
    NECK,
    SPINE,
    Pose,
    anatomy,
    angles_of,
    beyond_limits,
    clamp_pose,
    rounded_vector,
    turn_of,
)
from render.people.phenotype import sample_phenotype
from render.people.plausibility import MASSES, centre_of_mass, check_pose
from render.people.pose import resolve
from render.people.posture import ATTEMPTS, sample_posture
from render.people.stances import FALLBACK_STANCE, FAMILIES, sample_stance


@cache
def adult() -> Shape:
    return shape_body({"gender": 0.2, "age": 0.7, "height": 0.35}, {}, body_model())


def reason(pose: Pose, shape: Shape | None = None) -> str | None:
    shape = shape or adult()
    return check_pose(shape, pose_skeleton(shape, pose, body_model()), body_model())


def joint_pose(**angles: tuple[float, float, float]) -> Pose:
    """Anatomical angles by joint, `__L` for `.L`."""
    joints = anatomy(adult(), body_model())
    named = {name.replace("__", "."): np.array(value, dtype=np.float64) for name, value in angles.items()}
    return {name: rounded_vector(turn_of(value, joints[name])) for name, value in named.items()}


def test_angles_of_a_joint_invert_its_rotation() -> None:
    rng = np.random.default_rng(0)
    for name, joint in anatomy(adult(), body_model()).items():
        low, high = np.array(LIMITS[joint.kind]).T
        for _ in range(5):
            angles = rng.uniform(low, high)
            angles[:2] *= min(1.0, 170 / np.linalg.norm(angles[:2]))
            np.testing.assert_allclose(
                angles_of(turn_of(angles, joint), joint), angles, atol=1e-6, err_msg=name
            )


def test_left_and_right_joints_mirror_each_other() -> None:
    joints = anatomy(adult(), body_model())
    for name in joints:
        if name.endswith(".L"):
            left, right = (angles_of(np.eye(3), joints[f"{name[:-1]}{side}"]) for side in "LR")
            np.testing.assert_allclose(left, right, atol=0.7, err_msg=name)


def test_anatomy_bends_the_right_way() -> None:
    pose = joint_pose(lowerleg01__L=(60, 0, 0), upperleg01__L=(60, 0, 0), upperarm01__R=(90, 0, 0))
    skeleton = pose_skeleton(adult(), pose, body_model())
    at = {name: skeleton.heads[i] for i, name in enumerate(body_model().bones)}
    assert at["lowerleg01.L"][1] < at["upperleg01.L"][1] - 0.2, "a flexed hip takes the knee ahead"
    assert at["foot.L"][1] > at["lowerleg01.L"][1] - 0.1, "a flexed knee takes the foot back"
    assert at["lowerarm01.R"][1] < at["upperarm01.R"][1] - 0.2, "a flexed shoulder takes the elbow ahead"


def test_clamping_brings_any_pose_within_limits_and_keeps_possible_ones() -> None:
    joints = anatomy(adult(), body_model())
    rng = np.random.default_rng(1)
    for _ in range(10):
        wild = {name: tuple(map(float, rng.uniform(-80, 80, 3))) for name in (*joints, *SPINE, *NECK)}
        tame = clamp_pose(wild, joints)  # type: ignore[arg-type]
        for name, joint in joints.items():
            low, high = np.array(LIMITS[joint.kind]).T
            angles = angles_of(rotation(np.array(tame[name])), joint)
            assert (angles > low - 0.5).all() and (angles < high + 0.5).all(), (name, angles)
        assert beyond_limits(tame, joints) is None
        assert beyond_limits(wild, joints) is not None  # type: ignore[arg-type]
    rest = resolve(FALLBACK_STANCE, adult(), body_model())
    assert clamp_pose(rest, joints) == rest


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_give_possible_poses(family: str) -> None:
    """Within limits always; free of faults in a fair share of draws."""
    joints = anatomy(adult(), body_model())
    rng = np.random.default_rng(5)
    for _ in range(4):
        pose = resolve(FAMILIES[family][1](rng), adult(), body_model())
        assert beyond_limits(pose, joints) is None
        assert set(pose) <= set(body_model().bones)


def test_probabilities_sum_to_one_and_most_people_stand_or_walk() -> None:
    for table in (FAMILIES, STANDING, SITTING, EXPRESSIONS):
        assert sum(entry[0] for entry in table.values()) == pytest.approx(1.0)
    assert sum(FAMILIES[name][0] for name in ("standing", "contrapposto", "walking")) == pytest.approx(0.6)


@pytest.mark.parametrize("name", sorted(HANDS))
def test_hands_are_within_limits(name: str) -> None:
    joints = anatomy(adult(), body_model())
    for side in "LR":
        turns = hand_turns(HANDS[name], side, joints)
        assert len(turns) == 15
        assert beyond_limits({n: rounded_vector(t) for n, t in turns.items()}, joints) is None


def test_the_check_names_what_is_wrong() -> None:
    standing = resolve(FALLBACK_STANCE, adult(), body_model())
    assert reason(standing) is None
    folded = standing | joint_pose(lowerleg01__L=(178, 0, 0))
    assert reason(folded) == "pose:beyond_limits:lowerleg01.L"
    assert reason(standing | {"root": (35.0, 0.0, 0.0)}) == "pose:unbalanced"
    inside = standing | joint_pose(upperarm01__R=(20, -30, 0), lowerarm01__R=(30, 0, 0))
    found = reason(inside)
    assert found is not None and found.startswith("pose:penetration:Right_"), found


def test_sitting_needs_no_feet_under_the_weight() -> None:
    legs = {
        f"{name}__{side}": angles
        for side in "LR"
        for name, angles in (("upperleg01", (88.0, 6.0, 0.0)), ("lowerleg01", (70.0, 0.0, 0.0)))
    }
    pose = resolve(FALLBACK_STANCE, adult(), body_model()) | joint_pose(**legs)
    assert "unbalanced" not in (reason(pose) or "")


def test_the_centre_of_mass_of_a_standing_body_is_in_its_pelvis() -> None:
    assert sum(m for m, *_ in MASSES.values()) == pytest.approx(1.0, abs=0.01)
    model = body_model()
    skeleton = pose_skeleton(adult(), {}, model)
    height = centre_of_mass(skeleton, model)[2] - adult().vertices[np.unique(model.quads["body"]), 2].min()
    stature = np.ptp(adult().vertices[np.unique(model.quads["body"]), 2])
    assert 0.52 < height / stature < 0.60


def test_sampled_postures_are_possible_and_varied_and_rejections_are_noted() -> None:
    rng = np.random.default_rng(7)
    names: Counter[str] = Counter()
    notes: list[str] = []
    for _ in range(24):
        phenotype = sample_phenotype(rng)
        name, pose = sample_posture(rng, phenotype, note=notes.append)
        names[name] += 1
        shape = shape_body(phenotype, {}, body_model())
        found = check_pose(shape, pose_skeleton(shape, pose, body_model()), body_model(), 1.0)
        assert found is None, (name, found)
    assert len(names) >= 8
    assert all(note.startswith("pose:") for note in notes) and len(notes) < 24


def test_recorded_poses_take_their_share_and_impossible_ones_end_in_the_fallback() -> None:
    rng = np.random.default_rng(2)
    good = resolve(FALLBACK_STANCE, adult(), body_model())
    phenotype = {"gender": 0.2, "age": 0.7, "height": 0.35}
    assert sample_posture(rng, phenotype, {"mine": good}, 1.0) == ("mine", good)
    notes: list[str] = []
    fallen = {"fallen": good | {"root": (50.0, 0.0, 0.0)}}
    name, pose = sample_posture(rng, phenotype, fallen, 1.0, notes.append)
    assert (name, pose) == ("relaxed", good)
    assert notes == ["pose:unbalanced"] * ATTEMPTS


def test_stances_repeat_from_the_same_seed() -> None:
    one, two = (sample_stance(np.random.default_rng(9)) for _ in range(2))
    assert one == two and resolve(one, adult(), body_model()) == resolve(two, adult(), body_model())


def test_expressions_use_actions_of_the_model_within_range() -> None:
    rng = np.random.default_rng(0)
    faces = [sample_expression(rng) for _ in range(300)]
    labels = set(body_model().face_labels)
    assert all(set(face) <= labels and all(0 <= v <= 1 for v in face.values()) for face in faces)
    assert sum(min(f["eyeBlinkLeft"], f["eyeBlinkRight"]) > 0.9 for f in faces) >= 4, "closed eyes"
    assert sum(abs(f["eyeBlinkLeft"] - f["eyeBlinkRight"]) > 0.5 for f in faces) >= 1, "winks"
    used = {action for face in faces for action in face}
    assert len(used) > 25


def test_gaze_is_limited_and_lids_follow_it() -> None:
    rng = np.random.default_rng(0)
    gaze = np.array([sample_gaze(rng) for _ in range(500)])
    assert gaze[:, 0].min() >= GAZE_YAW[0] and gaze[:, 0].max() <= GAZE_YAW[1]
    assert gaze[:, 1].min() >= GAZE_PITCH[0] and gaze[:, 1].max() <= GAZE_PITCH[1]
    down = follow_gaze({"jawOpen": 0.2}, 0.0, -15.0)
    assert down == {"jawOpen": 0.2, "eyeLookDownLeft": 0.5, "eyeLookDownRight": 0.5}
    assert set(follow_gaze({}, 10.0, 0.0)) == {"eyeLookOutLeft", "eyeLookInRight"}


def seen_in_the_mouth(face: dict[str, float]) -> set[str]:
    """Groups that rays from ahead meet first around the mouth."""
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    model = body_model()
    shape = shape_body({"age": 0.7, "height": 0.35}, face, model)
    groups = ("body", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue")
    points = skin(shape.vertices, model.weights, model.weight_bones, pose_skeleton(shape, {}, model))
    faces = [model.faces(group) for group in groups]
    owner = np.repeat(np.arange(len(groups)), [len(f) for f in faces])
    mesh = trimesh.Trimesh(points, np.concatenate(faces), process=False)
    lips = points[model.masks["lips"] > 0.5]
    margin = np.array([0.02, 0.0, 0.03])
    low, high = lips.min(0) - margin, lips.max(0) + margin
    x, z = np.meshgrid(np.linspace(low[0], high[0], 40), np.linspace(low[2], high[2], 50))
    origin = np.stack([x.ravel(), np.full(x.size, low[1] - 0.3), z.ravel()], axis=1)
    hit = mesh.ray.intersects_first(origin, np.tile([0.0, 1.0, 0.0], (len(origin), 1)))
    counts = np.bincount(owner[hit[hit >= 0]], minlength=4)
    return {group for group, count in zip(groups, counts, strict=True) if count > 4}


def test_teeth_and_tongue_are_seen_several_times_and_never_through_closed_lips() -> None:
    rng = np.random.default_rng(4)
    seen: Counter[str] = Counter()
    for _ in range(120):
        face = sample_expression(rng)
        groups = seen_in_the_mouth(face)
        seen.update(groups)
        assert groups == {"body"} or any(action.startswith(OPENING) for action in face), face
    assert min(seen[f"helper-{g}"] for g in ("upper-teeth", "lower-teeth", "tongue")) >= 4, seen
