"""Depth, normals, mask and reprojection of real renders, before any codec touches them: under ten camera
set-ups, against an independent ray cast (embree, refined in float64) and against a sphere's formula.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from annotation.camera import Camera
from annotation.labels import Labels
from render.crosscheck import (
    RIGS,
    Disagreement,
    RayCaster,
    Rig,
    angle_deg,
    ball,
    cast_ball,
    disagreement,
    interior,
)
from render.engine import Engine, built_person
from render.people import PersonSpec, sample_person
from render.person import Person
from render.scene import shared_scene
from render.spec import Placement, SampleSpec
from shards.errors import VitruvianError

DEPTH_REL = 1e-5
NORMAL_DEG = 0.05
RADIUS, CENTRE = 0.5, np.array([0.0, 0.0, 0.9])
SAGITTA = 0.3 * RADIUS / 4**7  # m


class BallEngine(Engine):
    """Renders a sphere, whoever the spec asks for."""

    def people(self, spec: SampleSpec) -> tuple[Person, ...]:
        return (ball(RADIUS, CENTRE, built_person(spec.people[0]).surfaces[0].material),)


@pytest.fixture(scope="module")
def someone() -> PersonSpec:
    return sample_person(np.random.default_rng(11))


@pytest.fixture(scope="module")
def caster(someone: PersonSpec) -> RayCaster:
    return RayCaster([built_person(someone)], [Placement()])


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    yield _fresh(Engine())


@pytest.fixture(scope="module")
def ball_engine() -> Iterator[Engine]:
    yield _fresh(BallEngine())
    shared_scene().cast = None  # a spec says who is in the scene, and this engine lied


def _fresh(engine: Engine) -> Engine:
    shared_scene().cast = None
    return engine


def _target(rig: Rig, person: Person) -> np.ndarray:
    """The middle of the body; up close, half a metre behind the nose."""
    assert person.keypoints is not None
    nose = person.keypoints[0] + [0.0, 0.5, 0.0]
    return nose if rig.distance < 1 else np.array([0.0, 0.0, person.height / 2])


@pytest.mark.parametrize("name", RIGS)
def test_person_against_embree(name: str, someone: PersonSpec, engine: Engine, caster: RayCaster) -> None:
    rig = RIGS[name]
    labels = engine.render_labels(rig.probe(someone, _target(rig, built_person(someone)), scale=2))
    found = disagreement(labels, caster.cast_around(_camera(labels)))
    assert found.pixels > 100
    # At 30 m a strand of hair is a hundredth of a pixel: a ray a thousandth of one aside meets another.
    assert found.unsettled <= (0.05 if name == "far" else 0.02) * found.pixels
    _assert_exact(found)


@pytest.mark.parametrize("name", RIGS)
def test_analytic_sphere(name: str, someone: PersonSpec, ball_engine: Engine) -> None:
    labels = ball_engine.render_labels(RIGS[name].probe(someone, CENTRE))
    cast = cast_ball(RADIUS, CENTRE, _camera(labels))
    assert labels.depth is not None and labels.normal is not None
    # A facet lies under its sphere: the depth of a ray that grazes it differs by that over the cosine.
    cosine = np.abs(np.einsum("hwc,hwc->hw", cast.normal, _toward_camera(_camera(labels))))
    inside = interior(cast.mask) & (cosine > 0.2)
    assert inside.sum() > 100
    error = np.abs(labels.depth - cast.depth) - SAGITTA / np.maximum(cosine, 0.2)
    assert (error / np.where(cast.mask, cast.depth, 1))[inside].max() < DEPTH_REL
    assert angle_deg(labels.normal, cast.normal)[inside].max() < NORMAL_DEG
    assert not ((labels.depth > 0) != cast.mask)[interior(cast.mask) | interior(~cast.mask)].any()
    assert not labels.depth[~cast.mask & interior(~cast.mask)].any()


@pytest.mark.parametrize("name", RIGS)
def test_reprojection_through_the_stored_camera(name: str, someone: PersonSpec, engine: Engine) -> None:
    """Cycles' own surface positions land on their pixels' centres, within a thousandth of a pixel."""
    person = built_person(someone)
    scene = shared_scene()
    labels = engine.render_labels(RIGS[name].probe(someone, _target(RIGS[name], person), scale=2))
    scene.set_camera(_camera(labels))
    scene.scene.view_layers[0].use_pass_position = True
    try:
        position = scene.render_truth()["Position"]
    finally:
        scene.scene.view_layers[0].use_pass_position = False
    assert labels.depth is not None
    rows, columns = np.nonzero(interior(labels.depth > 0))
    xy = _camera(labels).project(position[rows, columns].astype(np.float64))[:, :2]
    assert np.abs(xy - np.stack([columns, rows], axis=1)).max() < 1e-3


def test_a_wrong_label_is_found(someone: PersonSpec, engine: Engine, caster: RayCaster) -> None:
    person, rig = built_person(someone), RIGS["portrait"]
    labels = engine.render_labels(rig.probe(someone, _target(rig, person), scale=2))
    camera, depth = _camera(labels), labels.depth
    assert depth is not None and labels.normal is not None
    casts = caster.cast_around(camera)
    further = disagreement(replace(labels, depth=depth * np.float32(1.0001)), casts)
    assert further.depth_rel > 5e-5 and further.unsettled > 0.9 * further.pixels
    assert labels.parts is not None
    assert disagreement(replace(labels, parts=labels.parts[:, ::-1]), casts).parts_px > 100
    turned = disagreement(replace(labels, normal=labels.normal[..., [1, 0, 2]]), casts)
    assert turned.normal_deg > 10
    moved = disagreement(replace(labels, depth=np.roll(depth, 1, axis=1)), casts)
    assert moved.mask_px > 10
    beside = RayCaster([person], [Placement(x=0.0005)])
    assert disagreement(labels, beside.cast_around(camera)).depth_rel > 1e-5
    with pytest.raises(VitruvianError, match="depth and normals"):
        disagreement(replace(labels, depth=None), casts)


def _assert_exact(found: Disagreement) -> None:
    assert found.mask_px == 0 and found.instance_px == 0 and found.parts_px == 0
    assert found.depth_rel < DEPTH_REL
    assert found.normal_deg < NORMAL_DEG and found.geometric_normal_deg < NORMAL_DEG
    assert found.normal_length < 1e-6


def _camera(labels: Labels) -> Camera:
    assert labels.camera is not None
    return labels.camera


def _toward_camera(camera: Camera) -> np.ndarray:
    rays = camera.world_normals_to_label(-camera.rays())
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))
