"""`render(spec)` is a function of the spec: same bytes in another process, order and thread count."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from annotation.labels import from_members
from render.check import check_render, keep_rejected, render_checked
from render.engine import Engine, built_person
from render.recipe import RenderConfig, plan_identity
from render.spec import Placement, SampleSpec, sample_key
from shards.errors import VitruvianError
from shards.sample import Sample

VITRUVIAN = str(Path(sys.executable).parent / "vitruvian")
LEVEL_VIEW = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 0.9), (0.0, 1.0, 0.0, 4.0), (0.0, 0.0, 0.0, 1.0))
SMALL = RenderConfig(identities=2, views=1, width=48, height=64, samples=4)


@pytest.fixture(scope="module")
def specs() -> list[SampleSpec]:
    return [spec for identity in (0, 1) for spec in plan_identity(SMALL, identity, built_person)]


@pytest.fixture(scope="module")
def samples(specs: list[SampleSpec]) -> list[Sample]:
    engine = Engine(threads=2)
    return [engine.render(spec) for spec in specs]


def test_order_and_threads_do_not_change_a_byte(specs: list[SampleSpec], samples: list[Sample]) -> None:
    engine = Engine(threads=1)
    again = [engine.render(spec) for spec in reversed(specs)][::-1]
    assert [sample.key for sample in again] == [sample_key(spec) for spec in specs]
    for one, other in zip(samples, again, strict=True):
        assert dict(one.members) == dict(other.members)


def test_other_settings_in_between_leave_no_trace(specs: list[SampleSpec], samples: list[Sample]) -> None:
    engine = Engine(threads=2)
    settings = specs[0].settings
    for change in (
        {"samples": 600},
        {"samples": 1, "denoise": False},
        {"width": 32, "view_transform": "Filmic"},
    ):
        engine.render(replace(specs[0], settings=replace(settings, **change)))
    assert dict(engine.render(specs[0]).members) == dict(samples[0].members)


def test_another_process_renders_the_same_bytes(
    specs: list[SampleSpec], samples: list[Sample], tmp_path: Path
) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(samples[1].members["json"])  # the sample's own json member names its spec
    command = [
        VITRUVIAN,
        "render",
        "one",
        str(path),
        "--out",
        str(tmp_path / "one"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Fra:" not in done.stdout and "Saved" not in done.stdout
    files = {file.name: file.read_bytes() for file in (tmp_path / "one").iterdir()}
    assert files == {f"{samples[1].key}.{name}": data for name, data in samples[1].members.items()}


def test_labels_are_complete_and_pass_their_checks(specs: list[SampleSpec], samples: list[Sample]) -> None:
    for spec, sample in zip(specs, samples, strict=True):
        labels = from_members(sample.members)
        assert check_render(from_members(sample.members, ("rgb", "depth", "alpha", "parts"))) == ()
        assert labels.camera == spec.camera.camera(48, 64)
        assert SampleSpec.from_json(labels.meta["provenance"]["spec"]) == spec
        assert labels.instance is not None and labels.parts is not None and labels.albedo is not None
        assert set(np.unique(labels.instance)) == {0, 1}
        assert len(np.unique(labels.parts)) > 3
        assert labels.albedo[labels.instance == 1].any() and not labels.albedo[labels.instance == 0].any()
        assert labels.keypoints is not None and (labels.keypoints[0, :, 3] == 2).any()
        assert json.loads(sample.members["json"])["people"][0]["identity"] in ("0", "1")


def test_two_people_have_their_own_ids_and_hide_each_other(specs: list[SampleSpec]) -> None:
    first, second = specs[0].people[0], specs[1].people[0]
    camera = replace(specs[0].camera, world_to_camera=LEVEL_VIEW)
    pair = replace(
        specs[0],
        people=(first, second),
        placements=(Placement("0", 0.0, 0.0), Placement("1", 0.1, 1.0, 30.0)),
        camera=replace(camera, focal_mm=40.0),
    )
    labels = Engine(threads=2).render_labels(pair)
    assert labels.instance is not None and labels.keypoints is not None
    assert set(np.unique(labels.instance)) >= {0, 1}
    assert labels.keypoints.shape == (2, 308, 4)
    in_front, behind = labels.keypoints[:, :, 3]
    assert (in_front == 2).sum() > (behind == 2).sum()
    assert (behind == 1).any()


def test_a_sample_that_shows_nothing_is_rejected_with_its_picture(
    specs: list[SampleSpec], tmp_path: Path
) -> None:
    dark = replace(specs[0], light=replace(specs[0].light, exposure_ev=-20.0))
    engine, calls = Engine(threads=2), []

    def render(spec: SampleSpec):  # type: ignore[no-untyped-def]
        calls.append(spec)
        return engine.render_labels(spec)

    checked = render_checked(dark, render)
    assert len(calls) == 2
    assert "rgb:exposure" in [problem.name for problem in checked.problems]
    keep_rejected(tmp_path, dark, checked)
    kept = json.loads((tmp_path / f"{sample_key(dark)}.json").read_text())
    assert "rgb:exposure" in kept["problems"]
    assert SampleSpec.from_json(kept["spec"]) == dark
    assert (tmp_path / f"{sample_key(dark)}.png").stat().st_size > 0


def test_another_hdri_of_the_same_name_is_refused(specs: list[SampleSpec]) -> None:
    other = replace(specs[0], light=replace(specs[0].light, sha256="0" * 64))
    with pytest.raises(VitruvianError, match="expected sha256 0000"):
        Engine(threads=1).render(other)
