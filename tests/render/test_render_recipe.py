"""A recipe expands to the same specs whatever else is planned, and says what is wrong with itself."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import yaml
from pydantic import BaseModel

from render.engine import built_person
from render.forecast import forecast, forecast_specs
from render.lights import find_hdri, list_hdris, neutral_exposure
from render.people import PersonSpec
from render.person import Person
from render.ranges import white_balance_gains
from render.recipe import (
    BUNDLED,
    Recipe,
    RenderConfig,
    SampledSubject,
    load_recipe,
    plan_group,
    plan_identity,
    plan_specs,
)
from render.regions import framing_regions
from render.sources import load_scan
from render.spec import EffectsSpec, SampleSpec, ScanSpec, sample_key
from shards.config import load_config, parse_config
from shards.errors import UsageError

RECIPES = sorted(path.stem for path in BUNDLED.glob("*.yaml"))


def build(spec: PersonSpec | ScanSpec) -> Person:
    assert isinstance(spec, PersonSpec)
    return built_person(spec)


def keys(specs: Any) -> list[str]:
    return [sample_key(spec) for spec in specs]


def test_specs_do_not_depend_on_how_many_are_planned() -> None:
    whole = keys(plan_specs(RenderConfig(identities=2, views=2), build))
    tail = RenderConfig(first_identity=1, identities=1, views=3, lights=2)
    assert keys(plan_specs(tail, build))[:2] == whole[2:]
    assert len(set(whole)) == 4


def test_planned_specs_survive_json_and_show_what_they_should() -> None:
    config = RenderConfig(identities=1, views=6, first_identity=5)
    specs = plan_identity(config, 5, build)
    for spec in specs:
        assert SampleSpec.from_json(spec.to_json()) == spec
        region = framing_regions(build(spec.people[0]))[spec.camera.framing]  # type: ignore[index]
        camera = spec.camera.camera(config.width, config.height)
        assert camera.contains(camera.project(region)).all()
    assert len({spec.light.rotation_deg for spec in specs}) == 1
    assert len({spec.light.exposure_ev for spec in specs}) == 6


def test_an_identity_meets_every_hdri_once_before_it_meets_one_again() -> None:
    config = RenderConfig(lights=8, hdris=("city", "forest", "night", "sunset"), views=1)
    groups = [plan_group(config, SampledSubject(0), light, build) for light in range(8)]
    seen = [group.hdri for group in groups]
    assert sorted(seen[:4]) == sorted(seen[4:]) == sorted(config.hdris)
    assert all(group.people == groups[0].people for group in groups)
    assert len({group.rotation_deg for group in groups}) == 8


@pytest.mark.parametrize("name", RECIPES)
def test_a_bundled_recipe_names_every_field(name: str) -> None:
    """There is no default anywhere below a recipe, so what its file does not say does not load."""
    for model in _models(Recipe):
        assert all(field.is_required() for field in model.model_fields.values()), model
    config = RenderConfig(recipe=name)
    assert config.recipe == name == yaml.safe_load((BUNDLED / f"{name}.yaml").read_text())["recipe"]
    assert parse_config(config.model_dump(mode="json"), RenderConfig, name) == config


def _models(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner = [field.annotation for field in model.model_fields.values()]
    found = {model}
    for kind in inner:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= _models(kind)
    return found


def test_the_four_recipes_are_what_they_are_called() -> None:
    assert RECIPES == ["eval-v1", "multi-person-v1", "people-v1", "train-v1"]
    still = RenderConfig(recipe="eval-v1", views=3)
    plan = list(plan_specs(still.model_copy(update={"identities": 2}), build))
    assert [spec.camera.framing for spec in plan] == ["face", "upper_body", "full_body"] * 2
    assert {spec.effects for spec in plan} == {EffectsSpec()}
    assert len(RenderConfig(recipe="multi-person-v1").people.weights) == 4
    assert len(RenderConfig(recipe="train-v1").people.weights) == 1


def test_a_job_overrides_any_field_of_its_recipe_and_says_so(tmp_path: Path) -> None:
    config = RenderConfig(recipe="train-v1", samples=5, framings={"face": {"share": [0.3, 0.4]}})
    base = RenderConfig(recipe="train-v1")
    assert (config.recipe, base.recipe) == ("train-v1+changed", "train-v1")
    assert (config.samples, config.framings.face.share) == (5, (0.3, 0.4))
    assert config.framings.face.focal_mm == base.framings.face.focal_mm
    assert config.framings.full_body == base.framings.full_body
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump({**_plain(load_recipe("eval-v1")), "recipe": "mine-v1"}))
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump({"render": {"recipe": str(mine), "views": 3}}))
    own = load_config(job, RenderConfig, "render")
    assert own.recipe == "mine-v1" and own.framings == RenderConfig(recipe="eval-v1").framings


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def test_a_recipe_that_leaves_something_out_does_not_load(tmp_path: Path) -> None:
    content = _plain(load_recipe("train-v1"))
    del content["effects"]["jpeg"]["quality"]
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=r"short.yaml: effects.jpeg.quality: required, but missing"):
        parse_config({"recipe": str(path)}, RenderConfig, "params.yaml")
    with pytest.raises(UsageError, match="bundled are: eval-v1"):
        parse_config({"recipe": "trian-v1"}, RenderConfig, "params.yaml")


def test_effects_come_as_often_and_as_strong_as_the_recipe_says() -> None:
    effects = RenderConfig(recipe="train-v1").effects
    drawn = [
        effects.draw(np.random.default_rng(i), 2.0, effects.draw_distortion(np.random.default_rng(-i % 4999)))
        for i in range(2000)
    ]
    shares = {
        "depth_of_field": np.mean([one.fstop > 0 for one in drawn]),
        "shake": np.mean([any(one.shake_m) for one in drawn]),
        "white_balance": np.mean([one.white_balance != (1.0, 1.0, 1.0) for one in drawn]),
        "noise": np.mean([one.shot_noise > 0 for one in drawn]),
        "distortion": np.mean([any(one.distortion) for one in drawn]),
        "jpeg": np.mean([one.jpeg_quality > 0 for one in drawn]),
    }
    for name, share in shares.items():
        probability = getattr(effects, name).probability
        assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / len(drawn)), name
    for one in drawn:
        assert (
            one.fstop == 0 or effects.depth_of_field.fstop[0] <= one.fstop <= effects.depth_of_field.fstop[1]
        )
        assert (one.focus_m == 2.0) == (one.fstop > 0)
        length = np.linalg.norm(one.shake_m)
        assert length <= effects.shake.metres[1] + 1e-6
        assert one.jpeg_quality == 0 or 70 <= one.jpeg_quality <= 98


def test_an_effect_turned_off_moves_no_other() -> None:
    on = RenderConfig(recipe="train-v1").effects
    off = on.model_copy(update={"noise": on.noise.model_copy(update={"probability": 0.0})})
    for seed in range(50):
        a, b = (e.draw(np.random.default_rng(seed), 1.5, (0.0, 0.0, 0.0)) for e in (on, off))
        assert replace(a, shot_noise=0.0, read_noise=0.0) == b


def test_white_balance_warms_at_equal_luminance() -> None:
    assert white_balance_gains(0.0, 0.0) == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)
    red, green, blue = white_balance_gains(25.0, 0.0)
    assert red > 1 > blue
    assert 0.2126 * red + 0.7152 * green + 0.0722 * blue == pytest.approx(1.0, abs=1e-8)
    # CIE illuminant D50 is daylight of 5003 K; its white in linear sRGB, from its tabulated XYZ.
    d50 = (
        np.array([0.9642, 1.0, 0.8251])
        @ np.linalg.inv(
            np.array(
                [
                    [0.4124564, 0.3575761, 0.1804375],
                    [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041],
                ]
            )
        ).T
    )
    found = np.array(white_balance_gains(1e6 / 5003 - 1e6 / 6504, 0.0))
    assert found == pytest.approx(d50 / (d50 @ [0.2126729, 0.7151522, 0.0721750]), abs=2e-3)


def test_the_forecast_counts_what_planning_gives() -> None:
    config = RenderConfig(recipe="people-v1", identities=2, views=5, lights=2)
    ahead, planned = forecast(config), forecast_specs(config, plan_specs(config, build))
    assert ahead == planned
    assert ahead.images == 20 and ahead.groups == 4
    many = forecast(RenderConfig(recipe="multi-person-v1", identities=400, views=2))
    counts = Counter(
        {people: sum(r.images for r in many.rows if r.people == people) for people in range(1, 5)}
    )
    for people, weight in enumerate((0.25, 0.35, 0.25, 0.15), start=1):
        assert abs(counts[people] / 800 - weight) < 4 * np.sqrt(weight * (1 - weight) / 400)


def test_weights_choose_the_framing() -> None:
    only_faces = {"upper_body": {"weight": 0}, "full_body": {"weight": 0}}
    specs = plan_identity(RenderConfig(framings=only_faces), 0, build)
    assert {spec.camera.framing for spec in specs} == {"face"}


def _scan_folder(folder: Path, people: Mapping[str, int]) -> Path:
    """Sampled people as scans: one mesh each, without labels."""
    folder.mkdir(exist_ok=True)
    for name, identity in people.items():
        spec = next(iter(plan_group(RenderConfig(), SampledSubject(identity), 0, build).people))
        pieces = [trimesh.Trimesh(s.vertices, s.faces, process=False) for s in build(spec).surfaces]
        trimesh.util.concatenate(pieces).export(folder / f"{name}.ply")
    return folder


def _scan_job(folder: Path, **fields: Any) -> RenderConfig:
    scans = {"folder": folder, "up": "+z", "front": "-y", "unit": "m"}
    return RenderConfig(**{"recipe": "eval-v1", "scans": scans, "views": 3, **fields})


def _plan(config: RenderConfig) -> tuple[dict[str, list[str]], Counter[str]]:
    """Keys by scan, and images that cannot be planned by reason."""
    assert config.scans is not None
    folder, found, rejects = config.scans.folder, dict[str, list[str]](), Counter[str]()

    def load(spec: PersonSpec | ScanSpec) -> Person:
        assert isinstance(spec, ScanSpec)
        return load_scan(spec, folder)

    for spec in plan_specs(config, load, lambda reason, images: rejects.update({reason: images})):
        found.setdefault(spec.placements[0].identity, []).append(sample_key(spec))
    return found, rejects


def test_a_scan_added_changes_no_other_and_a_broken_one_costs_only_itself(tmp_path: Path) -> None:
    folder = _scan_folder(tmp_path / "scans", {"berta": 0, "carl": 1})
    before, rejects = _plan(_scan_job(folder))
    assert {name: len(found) for name, found in before.items()} == {"berta": 3, "carl": 3}
    assert not rejects
    (folder / "anton.ply").write_bytes((folder / "carl.ply").read_bytes()[:5000])
    after, rejects = _plan(_scan_job(folder))
    assert after == before
    assert sum(rejects.values()) == 3 and len(rejects) == 1


def test_a_group_of_scans_is_a_matter_of_their_contents(tmp_path: Path) -> None:
    folder = _scan_folder(tmp_path / "scans", {"berta": 0, "carl": 1})
    company = {"recipe": "multi-person-v1", "people": {"weights": [0, 1]}, "views": 1}
    config = _scan_job(folder, **company)
    assert config.scans is not None
    specs = list(plan_specs(config, lambda spec: load_scan(spec, folder)))  # type: ignore[arg-type]
    assert [[at.identity for at in spec.placements] for spec in specs] == [
        ["berta", "carl"],
        ["carl", "berta"],
    ]
    assert forecast(config).rows[0].people == 2


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
    with pytest.raises(UsageError, match=r"unknown labels \['colour'\]; there are: depth"):
        parse_config({"labels": ["colour"]}, RenderConfig, "params.yaml")
    with pytest.raises(UsageError, match="unknown field"):
        parse_config({"framings": {"knee": {}}}, RenderConfig, "params.yaml")
