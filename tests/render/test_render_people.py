"""People: specs that round trip, bodies that stand, labels on the right side, clothes that cover."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from annotation.keypoints import keypoint_mapping
from render.people import PersonSpec, build_person, sample_person
from render.people.body import body_model, pose_skeleton, rotation, rotation_vector, shape_body
from render.people.garments import STYLES
from render.people.hair import STYLES as HAIR_STYLES
from render.people.keypoints import person_keypoints
from render.people.parts import NAMES, PART
from render.people.shoes import AROUND, LEVELS
from render.people.through import skin_through
from render.person import Person, Surface
from shards.errors import UsageError

SEEDS = (0, 1, 4, 6, 16)
COCO = keypoint_mapping(308, 17).source  # rows of the 17 points among the 308


@lru_cache(maxsize=16)
def made(seed: int) -> tuple[PersonSpec, Person]:
    spec = sample_person(np.random.default_rng(seed))
    return spec, build_person(spec)


def keypoints_of(person: Person) -> np.ndarray:
    assert person.keypoints is not None
    return person.keypoints


def person_digest(person: Person) -> str:
    total = hashlib.sha256(keypoints_of(person).tobytes())
    for s in person.surfaces:
        total.update(s.name.encode())
        for array in (s.vertices, s.faces, s.normals, s.part_ids, *s.attributes.values()):
            total.update(np.ascontiguousarray(array).tobytes())
        total.update(b"" if s.uv is None else np.ascontiguousarray(s.uv).tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("seed", SEEDS)
def test_spec_round_trips_through_json_text(seed: int) -> None:
    spec, _ = made(seed)
    again = PersonSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert again.to_json() == spec.to_json()


def test_from_json_names_the_wrong_field() -> None:
    value = made(0)[0].to_json()
    value["hair"]["colour"] = "red"
    with pytest.raises((UsageError, TypeCheckError), match=r"person\.hair\.colour"):
        PersonSpec.from_json(value)
    del value["hair"]
    with pytest.raises(UsageError, match="hair"):
        PersonSpec.from_json(value)


def test_the_same_seed_gives_the_same_person_in_another_process_with_another_thread_count() -> None:
    code = (
        "import sys, json, numpy as np; sys.path.insert(0, sys.argv[1]);"
        "from test_render_people import person_digest;"
        "from render.people import PersonSpec, build_person, sample_person;"
        "spec = sample_person(np.random.default_rng(4));"
        "print(person_digest(build_person(spec)), json.dumps(spec.to_json(), sort_keys=True))"
    )
    import os
    from pathlib import Path

    environment = dict(os.environ) | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "7",
    }
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    digest, _, text = done.stdout.strip().partition(" ")
    spec, person = made(4)
    assert json.loads(text) == json.loads(json.dumps(spec.to_json()))
    assert digest == person_digest(person)


@pytest.mark.parametrize("seed", SEEDS)
def test_surfaces_are_sound(seed: int) -> None:
    _, person = made(seed)
    for s in person.surfaces:
        assert np.isfinite(s.vertices).all() and np.isfinite(s.normals).all(), s.name
        np.testing.assert_allclose(np.linalg.norm(s.normals, axis=1), 1.0, atol=1e-9)
        assert len(s.part_ids) == len(s.faces) and s.faces.min() >= 0 and s.faces.max() < len(s.vertices), (
            s.name
        )
        assert s.part_ids.min() > 0 and s.part_ids.max() < len(NAMES), s.name
        assert s.uv is None or (s.uv.shape == (len(s.faces), 3, 2) and np.isfinite(s.uv).all()), s.name
        assert all(len(a) == len(s.vertices) for a in s.attributes.values()), s.name
        np.testing.assert_array_equal(np.round(s.vertices, 6), s.vertices)
    assert sum(len(s.faces) for s in person.surfaces) < 500_000


@pytest.mark.parametrize("seed", SEEDS)
def test_people_stand_on_the_ground(seed: int) -> None:
    _, person = made(seed)
    lowest = min(float(s.vertices[:, 2].min()) for s in person.surfaces)
    assert lowest == pytest.approx(0.0, abs=2e-6)
    assert keypoints_of(person)[COCO][:5, 2].max() < person.height + 0.06, "eyes and ears"
    assert 0.9 < person.height < 2.2


@pytest.mark.parametrize("seed", SEEDS)
def test_vertex_normals_agree_with_the_winding(seed: int) -> None:
    for s in made(seed)[1].surfaces:
        if s.name in ("lashes", "brows", "hair", "beard"):
            continue
        a, b, c = (s.vertices[s.faces[:, i]] for i in range(3))
        agree = (np.cross(b - a, c - a) * s.normals[s.faces].sum(1)).sum(1) > 0
        assert agree.mean() > 0.97, s.name


def test_eyes_and_shoes_are_closed_or_face_outwards() -> None:
    for s in made(0)[1].surfaces:
        if s.name.startswith(("eye_", "sole")):
            centre = (s.vertices.max(0) + s.vertices.min(0)) / 2
            outward = ((s.vertices[s.faces].mean(1) - centre) * s.normals[s.faces].mean(1)).sum(1) > 0
            assert outward.mean() > 0.9, s.name


def rest_keypoints() -> np.ndarray:
    model = body_model()
    shape = shape_body({}, {}, model)
    points = person_keypoints(made(0)[0], shape.vertices, pose_skeleton(shape, {}, model), model)
    return np.asarray(points[COCO])


def test_keypoints_at_rest_are_anatomical() -> None:
    k = rest_keypoints()
    left, right = k[1::2], k[2::2]
    assert (left[:, 0] > 0).all(), "the person's left is at +x"
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=2e-3)
    nose, eye, ear, shoulder, elbow, wrist, hip, knee, ankle = k[0], *left
    assert nose[1] < eye[1] < ear[1], "facing -y: the nose is foremost"
    assert eye[2] > nose[2] > shoulder[2] > hip[2] > knee[2] > ankle[2]
    assert elbow[2] > wrist[2] and wrist[0] > elbow[0] > shoulder[0]
    assert 0.05 < np.linalg.norm(left[0] - right[0]) < 0.08, "distance of the pupils"


@pytest.mark.parametrize("seed", SEEDS)
def test_face_keypoints_lie_on_the_drawn_surfaces(seed: int) -> None:
    _, person = made(seed)
    near = np.concatenate([s.vertices for s in person.surfaces if s.name in ("body", "eye_l", "eye_r")])
    for index in (0, 1, 2):
        assert np.linalg.norm(near - keypoints_of(person)[COCO][index], axis=1).min() < 0.006


@pytest.mark.parametrize("seed", SEEDS)
def test_left_parts_are_on_the_left_limb(seed: int) -> None:
    _, person = made(seed)
    ends = {
        "Hand": ("wrist", "lowerarm02"),
        "Lower_Leg": ("lowerleg01", "lowerleg02"),
        "Shoe": ("foot", "foot"),
        "Foot": ("foot", "foot"),
    }
    for part, bones in ends.items():
        for side, other in (("Left", "Right"), ("Right", "Left")):
            points = [
                s.vertices[s.faces[s.part_ids == PART[f"{side}_{part}"]]].mean(1) for s in person.surfaces
            ]
            found = np.concatenate(points)
            if not len(found):
                continue
            middle = found.mean(0)
            own, wrong = (
                np.mean([person.joints[f"{b}.{n[0]}"] for b in bones], axis=0) for n in (side, other)
            )
            assert np.linalg.norm(middle - own) < np.linalg.norm(middle - wrong), (part, side)


def test_dressed_people_show_their_classes() -> None:
    seen = set()
    for seed in SEEDS:
        for s in made(seed)[1].surfaces:
            seen |= {NAMES[i] for i in np.unique(s.part_ids)}
    wanted = {
        "Face_Neck",
        "Hair",
        "Left_Hand",
        "Right_Hand",
        "Upper_Clothing",
        "Lower_Clothing",
        "Left_Shoe",
        "Right_Shoe",
    }
    assert wanted | {"Upper_Lip", "Lower_Lip", "Upper_Teeth", "Lower_Teeth", "Tongue"} <= seen


def surfaces_mesh(surfaces: Sequence[Surface]) -> tuple[np.ndarray, np.ndarray]:
    start = np.cumsum([0, *(len(s.vertices) for s in surfaces)])
    return np.concatenate([s.vertices for s in surfaces]), np.concatenate(
        [s.faces + base for s, base in zip(surfaces, start, strict=False)]
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_clothes_cover_the_skin_beneath(seed: int) -> None:
    pytest.importorskip("embreex")
    assert skin_through(made(seed)[1]) <= 0.002


@pytest.mark.parametrize("seed", SEEDS)
def test_shoes_hide_feet_and_socks(seed: int) -> None:
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    _, person = made(seed)
    vertices, faces = surfaces_mesh(person.surfaces)
    parts = np.concatenate([s.part_ids for s in person.surfaces])
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    for shoe in (s for s in person.surfaces if s.name == "shoe"):
        outside = shoe.faces[: 2 * AROUND * (LEVELS - 2)]  # below the collar, which folds inwards
        normal = shoe.normals[outside].mean(1)
        origin = shoe.vertices[outside].mean(1) + 0.03 * normal
        face = mesh.ray.intersects_first(origin, -normal)
        part = parts[face[face >= 0]]
        inside = np.isin(part, [PART[f"{s}_{p}"] for s in ("Left", "Right") for p in ("Foot", "Sock")])
        assert len(part) > 500 and inside.mean() < 0.05


def test_rotation_vector_inverts_rotation() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        vector = rng.normal(size=3)
        vector *= rng.uniform(1, 175) / np.linalg.norm(vector)
        np.testing.assert_allclose(rotation_vector(rotation(vector)), vector, atol=1e-6)


def test_part_names_are_the_vocabulary() -> None:
    parts = pytest.importorskip("annotation.parts")
    assert tuple(parts.part_vocabulary(29).names) == tuple(NAMES)


@pytest.mark.slow
def test_a_hundred_people_build() -> None:
    kinds, styles = set(), set()
    for seed in range(1000, 1100):
        spec = sample_person(np.random.default_rng(seed))
        person = build_person(spec)
        assert all(np.isfinite(s.vertices).all() for s in person.surfaces)
        kinds |= {g.kind for g in spec.garments}
        styles.add(spec.hair.style)
    assert set(STYLES) | {"shoes"} <= kinds
    assert set(HAIR_STYLES) <= styles
