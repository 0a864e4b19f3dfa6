"""Hair: every style grows on different heads, stays out of them, follows its spec, and repeats."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from render.people import PersonSpec, sample_person
from render.people.appearance import LENGTHS
from render.people.body import BodyModel, Skeleton, body_model, pose_skeleton, shape_body, skin
from render.people.brows import build_brows
from render.people.hair import STYLES, build_hair
from render.people.hair.frame import hair_obstacles, head_frame
from render.people.looks import TEETH
from render.people.mesh import constant_parts, vertex_normals
from render.people.parts import PART
from render.people.spec import HairSpec
from render.person import Surface

HEADS = (0, 4, 16)
TRIANGLES = 260_000


@lru_cache(maxsize=4)
def head(seed: int) -> tuple[PersonSpec, np.ndarray, Skeleton, BodyModel]:
    model = body_model()
    spec = sample_person(np.random.default_rng(seed))
    shape = shape_body(spec.phenotype, spec.face, model)
    skeleton = pose_skeleton(shape, spec.pose, model)
    return spec, skin(shape.vertices, model.weights, model.weight_bones, skeleton), skeleton, model


def haired(spec: PersonSpec, style: str, **changes: Any) -> PersonSpec:
    length = float(np.mean(LENGTHS.get(style, (0.3, 0.3))))
    bare: dict[str, Any] = {"beard": 0.0, "moustache": 0.0, "hairline": 1.8 if style == "ring" else 0.3}
    hair: HairSpec = replace(spec.hair, style=style, length=length, asset=None)
    return replace(spec, hair=replace(hair, **(bare | changes)))


@lru_cache(maxsize=64)
def grown(seed: int, style: str) -> tuple[Surface, ...]:
    spec, posed, skeleton, model = head(seed)
    return build_hair(haired(spec, style), posed, skeleton, (), model)


def strands(surfaces: tuple[Surface, ...]) -> np.ndarray:
    return np.concatenate([s.vertices for s in surfaces if s.name == "hair"])


def digest(surfaces: tuple[Surface, ...]) -> str:
    total = hashlib.sha256()
    for s in surfaces:
        for array in (s.vertices, s.faces, s.normals, *s.attributes.values()):
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("style", sorted(STYLES))
@pytest.mark.parametrize("seed", HEADS)
def test_every_style_grows_on_every_head_and_stays_out_of_it(seed: int, style: str) -> None:
    _, posed, skeleton, model = head(seed)
    surfaces = grown(seed, style)
    assert sum(len(s.faces) for s in surfaces) < TRIANGLES
    frame = head_frame(posed, skeleton, model)
    solid = hair_obstacles(posed, (), frame, model)
    for s in surfaces:
        assert np.isfinite(s.vertices).all() and s.faces.max() < len(s.vertices)
        np.testing.assert_allclose(np.linalg.norm(s.normals, axis=1), 1.0, atol=1e-9)
        assert (s.part_ids == PART["Hair"]).all()
        gap, _ = solid.gap(frame.local(s.vertices))
        assert (gap * frame.scale > -0.002).mean() > 0.999, s.name


@pytest.mark.parametrize("style", ["buzz", "side", "long", "afro"])
def test_strands_start_on_the_scalp(style: str) -> None:
    _, posed, skeleton, model = head(0)
    hair = next(s for s in grown(0, style) if s.name == "hair")
    frame = head_frame(posed, skeleton, model)
    size = 2 * STYLES[style].segments + 1
    roots = (hair.vertices[::size] + hair.vertices[1::size]) / 2
    gap, _ = hair_obstacles(posed, (), frame, model).gap(frame.local(roots))
    assert np.percentile(np.abs(gap), 99) < 0.002


@pytest.mark.parametrize("style", ["buzz", "side", "bob", "long", "afro"])
def test_lengths_follow_the_spec(style: str) -> None:
    spec, posed, skeleton, model = head(0)
    longest = []
    for length in LENGTHS[style]:
        hair = build_hair(haired(spec, style, length=length, fringe=0.0), posed, skeleton, (), model)[1]
        size = 2 * STYLES[style].segments + 1
        lines = hair.vertices.reshape(-1, size, 3)
        middle = np.concatenate([(lines[:, 0:-1:2] + lines[:, 1:-1:2]) / 2, lines[:, -1:]], axis=1)
        reach = np.sqrt((np.diff(middle, axis=1) ** 2).sum(2)).sum(1)
        longest.append(float(np.percentile(reach, 95)))
        assert 0.6 * length < longest[-1] < 1.7 * length
    assert longest[1] > longest[0]


def test_hair_repeats_in_another_process_with_another_thread_count() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from test_render_hair import digest, grown;"
        "print(digest(grown(0, 'braid')), digest(grown(0, 'curly')))"
    )
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [digest(grown(0, "braid")), digest(grown(0, "curly"))]


def lid(seed: int, name: str) -> Surface:
    """A tight cap: the scalp, 6 mm higher."""
    scalp = next(s for s in grown(seed, "buzz") if s.name == "scalp")
    normals = vertex_normals(scalp.vertices, scalp.faces)
    parts = constant_parts(scalp.faces, PART["Apparel"])
    return Surface(name, scalp.vertices + 0.006 * normals, scalp.faces, normals, None, parts, TEETH)


@pytest.mark.parametrize("style", ["side", "textured", "afro", "wavy", "ponytail"])
def test_hair_under_a_cap_stays_under_it(style: str) -> None:
    spec, posed, skeleton, model = head(0)
    cap = lid(0, "cap")
    surfaces = build_hair(haired(spec, style), posed, skeleton, (cap,), model)
    frame = head_frame(posed, skeleton, model)
    points = frame.local(strands(surfaces))
    crown = points[(points[:, 2] > 0.80) & (points[:, 1] > -0.11)]
    tree = cKDTree(frame.local(cap.vertices))
    _, nearest = tree.query(crown)
    normals = frame.turned(cap.normals)[nearest]
    above = ((crown - frame.local(cap.vertices)[nearest]) * normals).sum(1)
    assert len(crown) > 1000 and (above < 0).mean() > 0.97


def test_headscarf_bald_and_asset_leave_no_hair() -> None:
    spec, posed, skeleton, model = head(0)
    assert not build_hair(haired(spec, "long"), posed, skeleton, (lid(0, "headscarf"),), model)
    assert not build_hair(haired(spec, "bald"), posed, skeleton, (), model)


def test_beards_are_part_of_the_face_and_leave_the_mouth_free() -> None:
    spec, posed, skeleton, model = head(4)
    full = haired(spec, "bald", beard=0.015, cheeks=0.8, moustache=0.008)
    surfaces = build_hair(full, posed, skeleton, (), model)
    assert [s.name for s in surfaces] == ["beard", "beard"]
    lips = posed[(model.masks["lips"] > 0.9) & (np.arange(len(posed)) < 13380)]
    for s in surfaces:
        assert (s.part_ids == PART["Face_Neck"]).all()
        distance, _ = cKDTree(lips).query(s.vertices)
        assert (distance < 0.002).mean() < 0.12


@pytest.mark.parametrize("seed", HEADS)
def test_brows_and_lashes_lie_on_the_posed_face(seed: int) -> None:
    spec, posed, skeleton, model = head(seed)
    brows, lashes = build_brows(spec.hair, posed, skeleton, model)
    assert (brows.part_ids == PART["Face_Neck"]).all() and (lashes.part_ids == PART["Face_Neck"]).all()
    frame = head_frame(posed, skeleton, model)
    gap, _ = hair_obstacles(posed, (), frame, model).gap(frame.local(brows.vertices))
    assert np.percentile(np.abs(gap), 99) < 0.004
    assert 500 <= len(brows.faces) // 5 <= 800  # hairs, of five triangles


def test_brows_follow_raised_and_lowered_brows() -> None:
    spec, _, _, model = head(0)
    heights = []
    for face in ({"browDownLeft": 1.0, "browDownRight": 1.0}, {"browInnerUp": 1.0}):
        shape = shape_body(spec.phenotype, face, model)
        skeleton = pose_skeleton(shape, {}, model)
        posed = skin(shape.vertices, model.weights, model.weight_bones, skeleton)
        heights.append(build_brows(spec.hair, posed, skeleton, model)[0].vertices[:, 2].mean())
    assert heights[1] > heights[0] + 0.003
