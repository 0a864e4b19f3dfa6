"""A recipe expands to the same specs whatever else is planned, and says what is wrong with itself."""

import numpy as np
import pytest

from render.engine import built_person
from render.framing import Framing
from render.job import plan, stage_key
from render.lights import find_hdri, list_hdris, neutral_exposure
from render.recipe import Framings, RenderConfig, framing_regions, plan_identity, plan_specs
from render.spec import SampleSpec, sample_key
from shards.config import parse_config
from shards.errors import UsageError


def test_specs_do_not_depend_on_how_many_are_planned() -> None:
    whole = [sample_key(s) for s in plan_specs(RenderConfig(identities=2, views=2), built_person)]
    tail = RenderConfig(first_identity=1, identities=1, views=3)
    assert [sample_key(s) for s in plan_specs(tail, built_person)][:2] == whole[2:]
    assert len(set(whole)) == 4


def test_planned_specs_survive_json_and_show_what_they_should() -> None:
    config = RenderConfig(identities=1, views=6, first_identity=5)
    specs = plan_identity(config, 5, built_person)
    for spec in specs:
        assert SampleSpec.from_json(spec.to_json()) == spec
        region = framing_regions(built_person(spec.people[0]))[spec.camera.framing]
        camera = spec.camera.camera(config.width, config.height)
        assert camera.contains(camera.project(region)).all()
    assert len({spec.light.rotation_deg for spec in specs}) == 1
    assert len({spec.light.exposure_ev for spec in specs}) == 6


def test_weights_choose_the_framing() -> None:
    only_faces = Framings(upper_body=Framing(weight=0), full_body=Framing(weight=0))
    specs = plan_identity(RenderConfig(framings=only_faces), 0, built_person)
    assert {spec.camera.framing for spec in specs} == {"face"}


def test_regions_are_nested() -> None:
    config = RenderConfig()
    person = built_person(next(iter(plan_specs(config, built_person))).people[0])
    face, upper, full = framing_regions(person).values()
    assert len(face) < len(upper) < len(full)
    assert face[:, 2].min() > upper[:, 2].min() > full[:, 2].min() > -1e-6


def test_units_cover_every_identity_once() -> None:
    units = plan(RenderConfig(identities=10, identities_per_unit=4, first_identity=100))
    assert [unit.payload["identities"] for unit in units] == [
        [100, 101, 102, 103],
        [104, 105, 106, 107],
        [108, 109],
    ]
    assert len({unit.name for unit in units}) == 3


def test_a_longer_job_keeps_the_shards_of_a_shorter_one() -> None:
    short, long = RenderConfig(identities=4), RenderConfig(identities=8)
    assert stage_key(short) == stage_key(long) != stage_key(RenderConfig(samples=17))
    assert plan(long)[:1] == plan(short)


def test_bundled_hdris_are_found_and_neutral() -> None:
    assert len(list_hdris()) == 8
    assert find_hdri("forest").sha256 == find_hdri("forest").sha256
    with pytest.raises(UsageError, match="forest"):
        find_hdri("moon")
    grey = np.full((32, 64, 3), 0.5, np.float32)
    assert neutral_exposure(2 * grey) == pytest.approx(neutral_exposure(grey) - 1, abs=2e-3)


def test_errors_name_field_value_and_what_is_allowed() -> None:
    with pytest.raises(UsageError, match=r"samples: .*greater than or equal to 1; got 0"):
        parse_config({"samples": 0}, RenderConfig, "params.yaml")
    with pytest.raises(UsageError, match="low <= high"):
        parse_config({"framings": {"face": {"focal_mm": [50, 20]}}}, RenderConfig, "params.yaml")
    with pytest.raises(UsageError, match="weight > 0"):
        none = {name: {"weight": 0} for name in ("face", "upper_body", "full_body")}
        parse_config({"framings": none}, RenderConfig, "params.yaml")
