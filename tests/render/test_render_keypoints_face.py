"""Ears, mouth, nose and midline: symmetric, on the skin, in order, and anatomically placed on many people."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from jaxtyping import Float64

from annotation.definitions import KeypointDefinition, keypoint_definitions
from annotation.keypoints import keypoint_vocabulary
from render.people.body import body_model, shape_body

GROUPS = {"face.ear": 52, "face.mouth": 32, "face.nose": 15, "face.midline": 3}
WOMAN = {"gender": 1.0, "age": 0.67, "weight": 0.45, "caucasian": 0.8, "african": 0.1, "asian": 0.1}
OLD_MAN = {"gender": 0.0, "age": 0.97, "weight": 0.6, "caucasian": 0.2, "african": 0.1, "asian": 0.7}
CHILD = {"age": 0.33, "caucasian": 0.1, "african": 0.8, "asian": 0.1}
HEAVY_MAN = {"gender": 0.0, "age": 0.67, "weight": 0.9, "caucasian": 0.1, "african": 0.8, "asian": 0.1}
TODDLER = {"age": 0.1}
PEOPLE = {
    "woman": WOMAN,
    "old man": OLD_MAN,
    "child": CHILD,
    "heavy man": HEAVY_MAN,
    "toddler": TODDLER,
}
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "jawOpen": {"jawOpen": 0.6},
    "smile": {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7},
    "frown": {"mouthFrownLeft": 0.6, "mouthFrownRight": 0.6},
}
FROM_THE_RIGHT = (3, 1, 4, None, 5, 2, 6)
"""Numbers of a lip line's midpoints from the person's right corner to the left; None is the line's centre."""

HIDDEN_FROM_THE_SIDE = {"deepest_point_of_concha", "start_point_of_crus_of_helix"}
"""Ear points that the tragus may hide."""

everyone = pytest.mark.parametrize("phenotype", PEOPLE.values(), ids=PEOPLE.keys())


@cache
def face_points() -> dict[str, KeypointDefinition]:
    vocabulary = keypoint_vocabulary(308)
    mine = {vocabulary.names[i] for group in GROUPS for i in vocabulary.groups[group]}
    return {d.name: d for d in keypoint_definitions() if d.name in mine}


def placed(phenotype: Mapping[str, float], face: Mapping[str, float] | None = None) -> dict[str, np.ndarray]:
    """The points of a rest body, metres."""
    vertices = shape_body(phenotype, face or {}, body_model()).vertices
    return {name: locate(d, vertices) for name, d in face_points().items()}


def locate(definition: KeypointDefinition, vertices: Float64[np.ndarray, "v 3"]) -> np.ndarray:
    weights = np.array(definition.weights)[:, None]
    return np.asarray((vertices[list(definition.vertices)] * weights).sum(0))


def left_ear() -> list[str]:
    vocabulary = keypoint_vocabulary(308)
    return [vocabulary.names[i] for i in vocabulary.groups["face.ear"] if vocabulary.sides[i] == "left"]


def lip_line(points: Mapping[str, np.ndarray], lip: str, edge: str) -> np.ndarray:
    """A lip's line of nine points from the person's right corner to the left."""
    middle = "center_of_cupid_bow" if (lip, edge) == ("upper", "outer") else f"center_of_{lip}_{edge}_lip"
    names = [middle if n is None else f"midpoint_{n}_of_{lip}_{edge}_lip" for n in FROM_THE_RIGHT]
    return np.array([points[n] for n in (f"r_{edge}_corner_of_mouth", *names, f"l_{edge}_corner_of_mouth")])


def heights(points: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    return np.array([points[name][2] for name in names])


def side_view(phenotype: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """How deep each point lies under what is seen from the person's left (across the ear's plane), metres."""
    model = body_model()
    vertices, faces = shape_body(phenotype, {}, model).vertices, model.faces("body")
    away = np.array([1.0, -0.25, 0.0]) / np.sqrt(1.0625)
    scene = EmbreeScene()
    TriangleMesh(scene, vertices[faces].astype(np.float32))
    points = np.array([locate(face_points()[name], vertices) for name in names])
    start = (points + 0.3 * away).astype(np.float32)
    hit = scene.run(start, np.tile(-away.astype(np.float32), (len(start), 1)), output=1)
    return dict(zip(names, (0.3 - hit["tfar"]).tolist(), strict=True))


def test_every_point_is_defined_with_the_margin_of_its_region() -> None:
    vocabulary = keypoint_vocabulary(308)
    for group, count in GROUPS.items():
        names = [vocabulary.names[i] for i in vocabulary.groups[group]]
        assert len(names) == count
        for name in names:
            inner = "inner_lip" in name or "inner_corner_of_mouth" in name
            margin = 0.012 if group == "face.ear" else 0.006 if inner else 0.008
            assert face_points()[name].inside_m == margin


def test_every_point_is_in_one_triangle_of_the_skin() -> None:
    """Weights above 0 of sum 1 on one triangle: on the surface of every body, in every pose."""
    faces_of = defaultdict(set)
    for index, face in enumerate(body_model().faces("body").tolist()):
        for vertex in face:
            faces_of[vertex].add(index)
    for definition in face_points().values():
        shared = set.intersection(*[faces_of[v] for v in definition.vertices])
        assert shared, f"{definition.name}: {definition.vertices} are not corners of one triangle"


@everyone
def test_left_and_right_are_mirror_images(phenotype: Mapping[str, float]) -> None:
    points, vocabulary = placed(phenotype), keypoint_vocabulary(308)
    for name, point in points.items():
        partner = points[vocabulary.names[vocabulary.flip[vocabulary.index(name)]]]
        assert np.abs(point - partner * [-1, 1, 1]).max() < 1e-4, name
        side = vocabulary.sides[vocabulary.index(name)]
        assert {"left": point[0] > 0, "right": point[0] < 0, "middle": abs(point[0]) < 1e-4}[side], name


@everyone
@pytest.mark.parametrize("face", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_lip_lines_run_from_corner_to_corner(
    phenotype: Mapping[str, float], face: Mapping[str, float]
) -> None:
    points = placed(phenotype, face)
    lines = {
        (lip, edge): lip_line(points, lip, edge) for lip in ("upper", "lower") for edge in ("outer", "inner")
    }
    for name, line in lines.items():
        assert (np.diff(line[:, 0]) > 3e-4).all(), name
    assert (lines["upper", "outer"][1:-1, 2] > lines["upper", "inner"][1:-1, 2]).all()
    assert (lines["lower", "outer"][1:-1, 2] < lines["lower", "inner"][1:-1, 2]).all()
    outer, inner = points["l_outer_corner_of_mouth"], points["l_inner_corner_of_mouth"]
    assert 0 < outer[0] - inner[0] < 0.006


@everyone
def test_an_open_jaw_parts_the_inner_lips(phenotype: Mapping[str, float]) -> None:
    shut, open_ = placed(phenotype), placed(phenotype, EXPRESSIONS["jawOpen"])
    gap = lip_line(open_, "upper", "inner")[1:-1, 2] - lip_line(open_, "lower", "inner")[1:-1, 2]
    assert gap.min() > 0.002
    assert gap[3] > 0.008
    closed = lip_line(shut, "upper", "inner")[1:-1, 2] - lip_line(shut, "lower", "inner")[1:-1, 2]
    assert np.abs(closed).max() < 0.002


@everyone
def test_a_smile_moves_the_corners_outwards_and_up(phenotype: Mapping[str, float]) -> None:
    calm, smile = placed(phenotype), placed(phenotype, EXPRESSIONS["smile"])
    for corner in ("outer", "inner"):
        moved = smile[f"l_{corner}_corner_of_mouth"] - calm[f"l_{corner}_corner_of_mouth"]
        assert moved[0] > 0.002
        assert moved[2] > 0.001


@everyone
def test_the_cupid_bow_dips_between_its_peaks(phenotype: Mapping[str, float]) -> None:
    line = lip_line(placed(phenotype), "upper", "outer")
    assert line[4, 2] < line[[3, 5], 2].min() + 1e-3
    assert (np.diff(line[:4, 2]) > 0).all()


@everyone
def test_the_midline_runs_downwards(phenotype: Mapping[str, float]) -> None:
    names = [
        "center_of_glabella",
        "center_of_nose_root",
        *(f"midpoint_{n}_of_nose_bridge" for n in (2, 1, 3)),
        "tip_of_nose_bridge",
        "tip_of_nose",
        "bottom_center_of_nose",
        "center_of_cupid_bow",
        "center_of_lower_outer_lip",
        "center_of_labiomental_groove",
        "tip_of_chin",
    ]
    assert (np.diff(heights(placed(phenotype), names)) < -0.001).all()


@everyone
def test_the_profile_has_its_hollows_and_its_tip(phenotype: Mapping[str, float]) -> None:
    forward = {name: -point[1] for name, point in placed(phenotype).items()}
    assert forward["tip_of_nose"] > max(forward.values()) - 0.0005
    assert forward["center_of_nose_root"] < forward["midpoint_2_of_nose_bridge"]
    assert forward["center_of_labiomental_groove"] < forward["center_of_lower_outer_lip"]
    assert forward["bottom_center_of_nose"] < forward["tip_of_nose"] - 0.004
    assert forward["bottom_center_of_nose"] < forward["center_of_cupid_bow"] + 0.0005


@everyone
def test_nostrils_lie_between_columella_and_wing(phenotype: Mapping[str, float]) -> None:
    points = placed(phenotype)
    inner, outer, upper = (points[f"{c}_corner_of_l_nostril"] for c in ("inner", "outer", "upper"))
    wing = points["l_outer_corner_of_nose"]
    assert 0.002 < inner[0] < upper[0] < outer[0] < wing[0]
    assert upper[2] > inner[2]
    assert upper[1] < outer[1], "the apex is the nostril's front end"
    assert points["bottom_center_of_nose"][2] < inner[2] < points["tip_of_nose"][2] + 0.002


@everyone
def test_ear_lines_are_in_order(phenotype: Mapping[str, float]) -> None:
    points = placed(phenotype)
    centre = points["l_deepest_point_of_concha"]
    helix = np.array([points[f"l_point_{i}_of_inner_helix"] for i in range(1, 9)]) - centre
    turn = np.unwrap(np.arctan2(helix[:, 2], -helix[:, 1]))
    assert (np.diff(turn) > 0.1).all(), "over the top from the front to the back"
    crest = [
        points[f"l_{n}_of_antihelix"] for n in ("start", "midpoint_2", "midpoint_1", "midpoint_3", "end")
    ]
    assert (np.diff([p[2] for p in crest]) < -0.001).all()
    crus = [points[n] for n in ("l_top_end_of_inferior_crus", "l_midpoint_1_of_inferior_crus")]
    assert (np.diff([p[1] for p in (*crus, crest[0])]) > 0.001).all(), "from the front to the antihelix"
    assert points["l_top_end_of_superior_crus"][2] > crest[0][2] + 0.001
    tragus = heights(points, [f"l_{n}_point_of_tragus" for n in ("top", "protruding", "bottom")])
    assert (np.diff(tragus) < -0.001).all()


@everyone
def test_ear_parts_surround_each_other(phenotype: Mapping[str, float]) -> None:
    ear = {n[2:]: p for n, p in placed(phenotype).items() if n in left_ear()}
    lowest = min(ear, key=lambda name: ear[name][2])
    assert lowest == "tip_of_ear_lobe"
    highest = max(ear, key=lambda name: ear[name][2])
    assert highest in ("point_3_of_inner_helix", "point_4_of_inner_helix", "top_connecting_point_of_helix")
    back = {name: p[1] for name, p in ear.items()}
    assert (
        back["protruding_point_of_tragus"] < back["deepest_point_of_concha"] < back["midpoint_1_of_antihelix"]
    )
    assert back["midpoint_1_of_antihelix"] < back["point_6_of_inner_helix"]
    assert (
        back["bottom_connecting_point_of_ear_lobe"] < back["tip_of_ear_lobe"] < back["midpoint_between_22_15"]
    )
    assert ear["deepest_point_of_concha"][0] < ear["midpoint_1_of_antihelix"][0] - 0.003


def test_ear_points_are_on_the_ear() -> None:
    mask = body_model().masks["ears"]
    for name in left_ear():
        definition = face_points()[name]
        assert (mask[list(definition.vertices)] * np.array(definition.weights)).sum() > 0.5, name


@everyone
def test_ear_points_are_seen_from_the_side(phenotype: Mapping[str, float]) -> None:
    for name, depth in side_view(phenotype, left_ear()).items():
        limit = face_points()[name].inside_m if name[2:] in HIDDEN_FROM_THE_SIDE else 0.0015
        assert depth < limit, name


def test_mouth_borders_follow_the_lips_mask() -> None:
    """The outer border is where the lips' colour ends; the inner line is well within."""
    mask = body_model().masks["lips"]
    for name, definition in face_points().items():
        colour = (mask[list(definition.vertices)] * np.array(definition.weights)).sum()
        if "outer_lip" in name or name == "center_of_cupid_bow":
            assert 0.2 < colour < 0.8, name
        if "inner_lip" in name:
            assert colour > 0.95, name
