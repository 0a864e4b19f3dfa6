"""Headwear, spectacles and masks: closed, labelled, off the head, rigid with it, and the same every time."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from render.people import sample_person
from render.people.accessories import ACCESSORIES, Wearer
from render.people.body import body_model, pose_skeleton, shape_body, skin
from render.people.cloth import body_solid
from render.people.eyes import fit_eyeball
from render.people.garments import dress
from render.people.hair.frame import HEADWEAR, HeadFrame, head_frame
from render.people.mesh import face_normals, subdivide
from render.people.parts import PART, region_weights
from render.people.spec import EyeSpec, FabricSpec, GarmentSpec
from render.people.wardrobe import CUTS
from render.person import Surface

PEOPLE = (2, 5, 22, 3)  # a running man, a girl, a heavy child, a heavy old man
KINDS = (*HEADWEAR, "glasses", "sunglasses", "mask")
CLOTH = FabricSpec("plain", (0.2, 0.2, 0.3), (0.6, 0.1, 0.1), 0.002, 0.0, 0.8, 5)
GAZE = EyeSpec((0.1, 0.1, 0.1), 0.4, 0.0, 0.0)
INSIDE = np.array([0.0, -0.055, 0.735])  # of the skull, template


def garment(kind: str, share: float = 0.6) -> GarmentSpec:
    """A garment whose cut lies at a share of every range."""
    cut = {name: low + share * (high - low) for name, (low, high) in CUTS[kind].items()}
    return GarmentSpec(kind, cut | {"seed": float(int(1 + 100 * share))}, CLOTH)


@lru_cache(maxsize=16)
def wearer(seed: int, posed: bool) -> tuple[Wearer, HeadFrame]:
    spec = sample_person(np.random.default_rng(seed))
    spec = spec if posed else replace(spec, pose={})
    model = body_model()
    shape = shape_body(spec.phenotype, spec.face, model)
    skeleton = pose_skeleton(shape, spec.pose, model)
    body = skin(shape.vertices, model.weights, model.weight_bones, skeleton)
    made = Wearer(shape, skeleton, body, (body_solid(model, body),), model)
    return made, head_frame(body, skeleton, model)


@lru_cache(maxsize=128)
def worn(kind: str, seed: int, posed: bool, share: float = 0.6) -> tuple[Surface, ...]:
    return ACCESSORIES[kind](garment(kind, share), wearer(seed, posed)[0])


def local_points(kind: str, seed: int, posed: bool, share: float = 0.6, name: str = "") -> np.ndarray:
    _, frame = wearer(seed, posed)
    return np.concatenate(
        [frame.local(s.vertices) for s in worn(kind, seed, posed, share) if s.name.startswith(name)]
    )


def face_skin(seed: int, posed: bool) -> np.ndarray:
    """The skin between brows and mouth, every 1 or 2 mm, in the head's frame."""
    person, frame = wearer(seed, posed)
    faces = person.model.faces("body")
    corner = person.model.template[faces]
    near = (corner[..., 2].min(1) > 0.69) & (corner[..., 2].max(1) < 0.77) & (corner[..., 1].max(1) < -0.11)
    fine, fine_faces = subdivide(*subdivide(person.posed, faces[near]))
    return np.asarray(frame.local(fine[np.unique(fine_faces)]))


def digest(surfaces: tuple[Surface, ...]) -> str:
    total = hashlib.sha256()
    for s in surfaces:
        assert s.uv is not None
        for array in (s.vertices, s.faces, s.normals, s.uv, s.part_ids, *s.attributes.values()):
            total.update(np.ascontiguousarray(array).tobytes())
        total.update(repr(s.material).encode())
    return total.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", PEOPLE)
def test_surfaces_are_closed_and_look_out(seed: int, kind: str) -> None:
    for share in (0.1, 0.6):
        surfaces = worn(kind, seed, True, share)
        assert sum(len(s.faces) for s in surfaces) < 12_000
        for s in surfaces:
            edges = np.concatenate([s.faces[:, [0, 1]], s.faces[:, [1, 2]], s.faces[:, [2, 0]]])
            there = np.unique(edges, axis=0)
            assert len(there) == len(edges), s.name  # no edge twice in one direction
            np.testing.assert_array_equal(there, np.unique(edges[:, ::-1], axis=0))
            corner = s.vertices[s.faces] - s.vertices.mean(0)
            assert float((np.cross(corner[:, 0], corner[:, 1]) * corner[:, 2]).sum()) > 0, s.name
            area = np.linalg.norm(face_normals(s.vertices, s.faces), axis=1) / 2
            assert area.min() > 1e-10, s.name
            np.testing.assert_allclose(np.linalg.norm(s.normals, axis=1), 1.0, atol=1e-9)
            assert s.uv is not None and s.uv.shape == (len(s.faces), 3, 2) and np.isfinite(s.uv).all()


@pytest.mark.parametrize("kind", KINDS)
def test_parts(kind: str) -> None:
    part = "Eyeglass" if "glasses" in kind else "Apparel"
    for s in worn(kind, 2, True):
        assert s.name.startswith(kind)
        assert (s.part_ids == PART[part]).all()
        opacity = float(s.material.params.get("opacity", 1.0))
        reflecting = opacity + (0.35 if s.material.kind == "lens" else 0.0)
        assert (reflecting <= 0.5) == (opacity <= 0.5)  # labels mean the same from every side
        assert s.material.clear == (s.name == "glasses_lenses")


@pytest.mark.parametrize("kind", ["cap", "beanie", "hat"])
@pytest.mark.parametrize("posed", [True, False])
@pytest.mark.parametrize("seed", PEOPLE)
def test_the_skull_is_under_the_hat(seed: int, posed: bool, kind: str) -> None:
    person, frame = wearer(seed, posed)
    body = np.unique(person.model.faces("body"))
    top = body[(person.model.template[body, 2] > 0.80) & (region_weights()["Face_Neck"][body] > 0.99)]
    assert len(top) > 30
    head = frame.local(person.posed[top]) - INSIDE
    for share in (0.0, 1.0):
        hat = local_points(kind, seed, posed, share) - INSIDE
        far = np.linalg.norm(hat, axis=1)
        near = cKDTree(hat / far[:, None]).query_ball_point(
            head / np.linalg.norm(head, axis=1)[:, None], 0.09
        )
        outside = np.array([far[n].max() if n else 0.0 for n in near])
        assert (outside - np.linalg.norm(head, axis=1)).min() > 0.002


@pytest.mark.parametrize("kind", HEADWEAR)
@pytest.mark.parametrize("seed", PEOPLE)
def test_headwear_leaves_the_face_open(seed: int, kind: str) -> None:
    at = local_points(kind, seed, True)
    before = at[(np.abs(at[:, 0]) < 0.045) & (at[:, 1] < -0.11)]
    person, frame = wearer(seed, True)
    brow = frame.local(person.posed[np.argmin(np.abs(person.model.template - [0.024, -0.148, 0.752]).sum(1))])
    close = before[(before[:, 1] > -0.175) & (before[:, 2] > 0.66)]  # not the brim
    assert close[:, 2].min() > brow[2] + 0.004


@pytest.mark.parametrize("share", [0.1, 0.35, 0.6, 0.95])  # all four shapes
@pytest.mark.parametrize("seed", PEOPLE)
def test_spectacles_stand_before_eyes_and_face(seed: int, share: float) -> None:
    kind = "glasses" if share < 0.5 else "sunglasses"
    person, frame = wearer(seed, True)
    bone = person.model.bones.index("head")
    lens = local_points(kind, seed, True, share, f"{kind}_lenses")
    for side, sign in (("l", 1.0), ("r", -1.0)):
        ball = fit_eyeball(GAZE, side, person.posed, person.skeleton.rotations[bone], person.model)
        centre, own = frame.local(ball.centre), lens[lens[:, 0] * sign > 0]
        middle = 0.5 * (own.min(0) + own.max(0))
        assert np.abs(middle - centre)[[0, 2]].max() < 0.012
        assert 0.006 < np.linalg.norm(own - centre, axis=1).min() - ball.radius / frame.scale < 0.022
    front = local_points(kind, seed, True, share)
    front = front[(front[:, 1] < -0.12) & (np.abs(front[:, 0]) < np.abs(lens[:, 0]).max())]  # no temples
    face = face_skin(seed, True)
    distance, near = cKDTree(face[:, [0, 2]]).query(front[:, [0, 2]], k=6)
    over = distance.max(1) < 0.003
    ahead = face[near][..., 1].min(1) - front[:, 1]  # the foremost skin there, behind the spectacles
    nose = np.abs(front[:, 0]) < 0.018
    assert over.sum() > 100
    assert ahead[over & ~nose].min() > -0.001
    assert ahead[over].min() > -0.006  # pads and bridge may press on the nose
    assert ahead[over].min() < 0.006  # and rest on it


@pytest.mark.parametrize("kind", ["cap", "beanie", "hat", "glasses"])
def test_stiff_things_move_with_the_head(kind: str) -> None:
    rest, posed = local_points(kind, 2, False), local_points(kind, 2, True)
    assert np.linalg.norm(wearer(2, False)[1].axes - wearer(2, True)[1].axes) > 0.1
    moved = np.linalg.norm(rest - posed, axis=1)
    assert np.median(moved) < 0.0003
    assert moved.max() < 0.004  # the skin of nape and temples gives way a little


@pytest.mark.parametrize("seed", PEOPLE)
def test_temples_reach_behind_the_ears(seed: int) -> None:
    at = local_points("glasses", seed, True)
    person, frame = wearer(seed, True)
    ears = np.flatnonzero((person.model.masks["ears"] > 0.5) & (person.model.template[:, 0] > 0.075))
    ear = frame.local(person.posed[ears])
    tip = at[(at[:, 0] > 0) & (at[:, 1] > at[:, 1].max() - 0.004)]
    assert tip[:, 1].max() > np.median(ear[:, 1]) and tip[:, 2].min() < ear[:, 2].max()


@pytest.mark.parametrize("seed", PEOPLE)
def test_a_mask_covers_nose_mouth_and_chin_and_not_the_eyes(seed: int) -> None:
    person, frame = wearer(seed, True)
    mask = local_points("mask", seed, True)
    sheet = mask[mask[:, 1] < -0.09]
    template = person.model.template
    for place in ([0.0, -0.168, 0.691], [0.012, -0.155, 0.6606], [0.0, -0.150, 0.637]):
        skin_point = frame.local(person.posed[np.argmin(np.abs(template - place).sum(1))])
        distance, near = cKDTree(sheet[:, [0, 2]]).query(skin_point[[0, 2]], k=8)
        assert distance.max() < 0.012
        assert sheet[near, 1].min() < skin_point[1] - 0.001
    ball = fit_eyeball(GAZE, "l", person.posed, frame.axes, person.model)
    eye = frame.local(ball.centre)
    assert sheet[np.abs(np.abs(sheet[:, 0]) - eye[0]) < 0.02][:, 2].max() < eye[2] - 0.008


@pytest.mark.parametrize("seed", PEOPLE)
def test_a_headscarf_lies_over_the_shirt(seed: int) -> None:
    person, _ = wearer(seed, True)
    cut = {n: (a + b) / 2 for n, (a, b) in CUTS["tshirt"].items()} | {"seed": 3.0}
    clothes = (GarmentSpec("tshirt", cut, CLOTH), garment("headscarf"))
    made = dress(clothes, person.shape, person.skeleton, person.posed, person.model).surfaces
    scarf = next(s for s in made if s.name == "headscarf")
    shirt = next(s for s in made if s.name == "tshirt")
    half = len(scarf.vertices) // 2  # the outside
    distance, near = cKDTree(shirt.vertices).query(scarf.vertices[:half])
    gap = ((scarf.vertices[:half] - shirt.vertices[near]) * shirt.normals[near]).sum(1)
    assert (distance < 0.03).sum() > 200
    assert (gap[distance < 0.03] > -0.001).mean() > 0.985


def test_accessories_repeat_in_another_process_with_another_thread_count() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from test_render_accessories_head import KINDS, digest, worn;"
        "print(*(digest(worn(k, 5, True)) for k in KINDS))"
    )
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(worn(k, 5, True)) for k in KINDS]
