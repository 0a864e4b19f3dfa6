"""BVH files: reading untrusted text, and retargeting of MakeHuman's and CMU's bones to the rig."""

from pathlib import Path

import numpy as np
import pytest

from render.people.body import Skeleton, body_model, pose_skeleton, shape_body
from render.people.bvh import CMU, list_poses, read_motion, read_pose
from render.people.plausibility import check_pose
from shards.errors import UsageError

POSES = Path(__file__).resolve().parents[3] / "shared/data/makehuman_assets/poses"

Node = tuple[str, tuple[float, float, float], list["Node"]]


def cmu_skeleton() -> Node:
    """A T-pose with y up, facing +z, the person's left at +x."""

    def leg(side: str, x: float) -> Node:
        foot: Node = (f"{side}Foot", (0, -7, 0), [(f"{side}ToeBase", (0, -0.5, 2.5), [])])
        return (
            f"{side[0]}HipJoint",
            (0, 0, 0),
            [(f"{side}UpLeg", (x, -1.5, 0), [(f"{side}Leg", (0, -7, 0), [foot])])],
        )

    def arm(side: str, x: float) -> Node:
        hand: Node = (f"{side}Hand", (4 * x, 0, 0), [(f"{side}FingerBase", (x, 0, 0), [])])
        fore: Node = (f"{side}ForeArm", (5 * x, 0, 0), [hand])
        return (f"{side}Shoulder", (0, 0, 0), [(f"{side}Arm", (3 * x, 0, 0), [fore])])

    neck: Node = ("Neck", (0, 2, 0), [("Neck1", (0, 1, 0), [("Head", (0, 1, 0), [])])])
    back: Node = (
        "LowerBack",
        (0, 0, 0),
        [("Spine", (0, 2, 0), [("Spine1", (0, 2, 0), [neck, arm("Left", 1), arm("Right", -1)])])],
    )
    return ("Hips", (0, 17, 0), [leg("Left", 1.0), leg("Right", -1.0), back])


def write_bvh(path: Path, turns: dict[str, tuple[float, float, float]], prefix: str = "") -> Path:
    """turns: bone -> rotations about z, y, x (degrees) of the only frame."""
    lines, values = ["HIERARCHY"], ["0", "17", "0"]

    def write(node: Node, depth: int) -> None:
        name, offset, children = node
        pad = "  " * depth
        lines.append(f"{pad}{'JOINT' if depth else 'ROOT'} {prefix}{name}")
        lines.append(f"{pad}{{\n{pad}  OFFSET {' '.join(map(str, offset))}")
        position = "" if depth else "Xposition Yposition Zposition "
        lines.append(f"{pad}  CHANNELS {3 if depth else 6} {position}Zrotation Yrotation Xrotation")
        values.extend(str(v) for v in turns.get(name, (0, 0, 0)))
        for child in children:
            write(child, depth + 1)
        if not children:
            lines.append(f"{pad}  End Site\n{pad}  {{\n{pad}    OFFSET 0 1 0\n{pad}  }}")
        lines.append(f"{pad}}}")

    write(cmu_skeleton(), 0)
    still = " ".join("0" for _ in values)
    lines += ["MOTION", "Frames: 2", "Frame Time: 0.0333", still, " ".join(values)]
    path.write_text("\n".join(lines) + "\n")
    return path


def posed(path: Path, frame: int = 1) -> Skeleton:
    model = body_model()
    shape = shape_body({}, {}, model)
    return pose_skeleton(shape, read_pose(path, frame), model)


def direction(skeleton: Skeleton, start: str, end: str) -> np.ndarray:
    bones = body_model().bones
    way = skeleton.heads[bones.index(end)] - skeleton.heads[bones.index(start)]
    return np.asarray(way / np.linalg.norm(way))


def test_a_t_pose_of_cmu_bones_spreads_the_arms(tmp_path: Path) -> None:
    skeleton = posed(write_bvh(tmp_path / "t.bvh", {}), 0)
    np.testing.assert_allclose(direction(skeleton, "upperarm01.L", "lowerarm01.L"), [1, 0, 0], atol=0.06)
    np.testing.assert_allclose(direction(skeleton, "lowerarm01.R", "wrist.R"), [-1, 0, 0], atol=0.06)
    np.testing.assert_allclose(direction(skeleton, "upperleg01.L", "lowerleg01.L"), [0, 0, -1], atol=0.06)


def test_cmu_rotations_move_the_same_limb_the_same_way(tmp_path: Path) -> None:
    turns = {"LeftArm": (-90.0, 0.0, 0.0), "LeftForeArm": (0.0, -90.0, 0.0), "RightUpLeg": (0.0, 0.0, -90.0)}
    skeleton = posed(write_bvh(tmp_path / "t.bvh", turns))
    np.testing.assert_allclose(direction(skeleton, "upperarm01.L", "lowerarm01.L"), [0, 0, -1], atol=0.06)
    np.testing.assert_allclose(direction(skeleton, "lowerarm01.L", "wrist.L"), [0, -1, 0], atol=0.06)
    np.testing.assert_allclose(direction(skeleton, "upperleg01.R", "lowerleg01.R"), [0, -1, 0], atol=0.06)
    np.testing.assert_allclose(direction(skeleton, "lowerleg01.R", "foot.R"), [0, -1, 0], atol=0.06)


def test_heading_is_taken_out_and_lean_is_kept(tmp_path: Path) -> None:
    turned = read_pose(write_bvh(tmp_path / "turned.bvh", {"Hips": (0.0, 130.0, 0.0)}), 1)
    assert "root" not in turned
    skeleton = posed(write_bvh(tmp_path / "bent.bvh", {"Hips": (0.0, 0.0, 40.0)}))
    up = direction(skeleton, "root", "head")
    assert up[1] < -0.4 and abs(up[0]) < 0.01, "leaning ahead"


def test_prefixes_of_bone_names_are_ignored(tmp_path: Path) -> None:
    turns = {"LeftArm": (-50.0, 10.0, 0.0)}
    plain, named = (write_bvh(tmp_path / f"{i}.bvh", turns, p) for i, p in enumerate(("", "mixamorig:")))
    assert read_pose(plain, 1) == read_pose(named, 1)


def test_frames_are_chosen_by_number(tmp_path: Path) -> None:
    path = write_bvh(tmp_path / "t.bvh", {"LeftArm": (-50.0, 10.0, 0.0)})
    assert read_motion(path).frames == 2
    assert read_pose(path, 0) != read_pose(path, 1)
    with pytest.raises(UsageError, match="more than 2 frames"):
        read_pose(path, 2)


def test_the_map_names_joints_of_the_rig() -> None:
    for ours, end in CMU.values():
        assert ours in body_model().bones and (end is None or end in body_model().bones)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "JUNK", r":1: expected HIERARCHY"),
        ("OFFSET 0 17 0", "OFFSET 0 17", r":4: expected OFFSET x y z"),
        ("OFFSET 0 17 0", "OFFSET 0 x 0", r":4: expected three numbers"),
        ("OFFSET 0 17 0", "OFFSET 0 nan 0", r":4: expected three numbers, finite"),
        ("CHANNELS 6", "CHANNELS 7", r":5: expected CHANNELS"),
        ("Zrotation Yrotation", "Zrotation Wrotation", r":5: expected CHANNELS"),
        ("JOINT LHipJoint", "LIMB LHipJoint", r":6: expected JOINT, End Site or }"),
        ("Frames: 2", "Frames: many", r"expected Frames: count"),
        ("Frames: 2", "Frames: 0", r"more than 0 frames"),
        ("MOTION", "", r"expected MOTION"),
        ("LeftArm", "Arm", r"rename the bones"),
    ],
)
def test_errors_name_file_line_and_what_was_expected(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = write_bvh(tmp_path / "broken.bvh", {})
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_pose(path)
    assert "broken.bvh" in str(caught.value)


def test_truncated_and_deep_files_end_in_errors(tmp_path: Path) -> None:
    whole = write_bvh(tmp_path / "t.bvh", {}).read_text()
    for part in (0, 40, len(whole) // 2, len(whole) - 300):
        (tmp_path / "cut.bvh").write_text(whole[:part])
        with pytest.raises(UsageError, match=r"cut\.bvh:\d+"):
            read_pose(tmp_path / "cut.bvh")
    joint = "JOINT a\n{\nOFFSET 0 0 0\nCHANNELS 3 Xrotation Yrotation Zrotation\n"
    (tmp_path / "deep.bvh").write_text("HIERARCHY\n" + joint.replace("JOINT", "ROOT") + joint * 5000)
    with pytest.raises(UsageError, match="at most"):
        read_pose(tmp_path / "deep.bvh")
    with pytest.raises(UsageError, match="no such file"):
        read_pose(tmp_path / "absent.bvh")


def test_folders_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b.bvh", "a.BVH", "c.txt"):
        (tmp_path / name).write_text("")
    assert list_poses(tmp_path) == ("a", "b")
    with pytest.raises(UsageError, match="not a folder"):
        list_poses(tmp_path / "absent")


@pytest.mark.skipif(not POSES.is_dir(), reason="needs ../shared/data/makehuman_assets")
def test_makehuman_poses_are_read_and_most_are_possible() -> None:
    model = body_model()
    shape = shape_body({"gender": 0.2, "age": 0.7, "height": 0.35}, {}, model)
    reasons = {}
    for name in list_poses(POSES):
        pose = read_pose(POSES / f"{name}.bvh")
        assert set(pose) <= set(model.bones) and len(pose) > 20
        assert not any(bone.startswith(("jaw", "oris", "eye")) for bone in pose)
        reasons[name] = check_pose(shape, pose_skeleton(shape, pose, model), model)
    assert len(reasons) == 15
    assert reasons["standing02"] is None and reasons["standing03"] is None
    assert reasons["run01"] == "pose:unbalanced", "without the room that a runner is given"
    assert sum(reason is None for reason in reasons.values()) >= 6
