"""Specs are plain data: they round trip, their key is their content, their camera is the one Blender gets."""

import json
from dataclasses import replace

import numpy as np
import pytest

from render.people import sample_person
from render.spec import SPEC_VERSION, CameraSpec, LightSpec, Placement, RenderSettings, SampleSpec, sample_key
from shards.errors import VitruvianError

POSE = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 1.0), (0.0, 1.0, 0.0, 3.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture(scope="module")
def spec() -> SampleSpec:
    return SampleSpec(
        recipe="people-v1",
        version=SPEC_VERSION,
        seed=3,
        people=(sample_person(np.random.default_rng(3)),),
        placements=(Placement(identity="3", x=0.5, heading_deg=90.0),),
        light=LightSpec("forest", "0" * 64, 12.5, 0.25),
        camera=CameraSpec(50.0, POSE, shift_x=0.1, shift_y=-0.2, framing="face"),
        settings=RenderSettings(64, 48),
    )


def test_json_round_trip_keeps_the_spec_and_its_key(spec: SampleSpec) -> None:
    again = SampleSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert sample_key(again) == sample_key(spec)
    assert len(sample_key(spec)) == 32


def test_any_change_is_another_key(spec: SampleSpec) -> None:
    others = [
        replace(spec, seed=4),
        replace(spec, light=replace(spec.light, rotation_deg=12.6)),
        replace(spec, settings=replace(spec.settings, samples=17)),
        replace(spec, placements=(replace(spec.placements[0], x=0.0),)),
    ]
    assert len({sample_key(s) for s in (spec, *others)}) == 5


def test_unknown_missing_and_wrong_fields_are_named(spec: SampleSpec) -> None:
    good = spec.to_json()
    for bad, name in (
        ({**good, "colour": 1}, "colour"),
        ({k: v for k, v in good.items() if k != "light"}, "light"),
        ({**good, "settings": {**good["settings"], "samples": "many"}}, "settings.samples"),
        ({**good, "version": 99}, "expected version 3; got 99"),
    ):
        with pytest.raises(VitruvianError, match=name):
            SampleSpec.from_json(bad)


def test_people_need_one_placement_each(spec: SampleSpec) -> None:
    with pytest.raises(VitruvianError, match="0 placements"):
        replace(spec, placements=())


def test_camera_counts_pixel_centres_from_zero(spec: SampleSpec) -> None:
    camera = spec.camera.camera(64, 48)
    focal = 50 / 36 * 64
    expected = np.array([[focal, 0.0, 31.5 - 6.4], [0.0, focal, 23.5 - 12.8], [0.0, 0.0, 1.0]])
    assert np.allclose(camera.K, expected)


def test_placement_turns_then_moves(spec: SampleSpec) -> None:
    facing = spec.placements[0].matrix() @ [0.0, -1.0, 0.0, 1.0]
    assert np.allclose(facing, [1.5, 0, 0, 1])
