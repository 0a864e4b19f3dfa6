"""Effects, occluders, crops and stage change the picture; no label moves, and each does what it says."""

from dataclasses import replace

import numpy as np
import pytest

from annotation.labels import Labels, from_members
from render.engine import Engine, built_person
from render.lights import find_hdri
from render.people import sample_person
from render.spec import (
    SPEC_VERSION,
    CameraSpec,
    EffectsSpec,
    LightSpec,
    OccluderSpec,
    Placement,
    RenderSettings,
    SampleSpec,
    StageSpec,
)

PIXEL_LABELS = ("depth", "normal", "geometric_normal", "parts", "instance", "albedo", "keypoints")
LEVEL = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 1.0), (0.0, 1.0, 0.0, 4.0), (0.0, 0.0, 0.0, 1.0))


@pytest.fixture(scope="module")
def spec() -> SampleSpec:
    hdri = find_hdri("courtyard")
    return SampleSpec(
        recipe="test",
        version=SPEC_VERSION,
        seed=0,
        people=(sample_person(np.random.default_rng(4)),),
        placements=(Placement("4"),),
        light=LightSpec(hdri.name, hdri.sha256, 30.0, hdri.neutral_ev),
        camera=CameraSpec(45.0, LEVEL),
        settings=RenderSettings(60, 80, 8, denoise=False),
    )


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(threads=2)


@pytest.fixture(scope="module")
def plain(engine: Engine, spec: SampleSpec) -> Labels:
    return engine.render_labels(spec)


def changed(engine: Engine, spec: SampleSpec, **effects: object) -> Labels:
    return engine.render_labels(replace(spec, effects=EffectsSpec(**effects)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "effects",
    [
        {"fstop": 0.5, "focus_m": 2.0},
        {"shake_m": (0.05, 0.0, 0.0), "shake_deg": (0.0, 0.0, 1.0)},
        {"white_balance": (1.2, 1.0, 0.8)},
        {"shot_noise": 0.01, "read_noise": 0.01},
    ],
    ids=lambda effects: next(iter(effects)),
)
def test_effects_change_the_picture_and_no_label(
    effects: dict[str, object], engine: Engine, spec: SampleSpec, plain: Labels
) -> None:
    labels = changed(engine, spec, **effects)
    assert labels.rgb is not None and plain.rgb is not None
    assert np.abs(labels.rgb.astype(int) - plain.rgb).mean() > 0.5
    for name in PIXEL_LABELS:
        assert np.array_equal(getattr(labels, name), getattr(plain, name)), name
    assert labels.alpha is not None and plain.alpha is not None
    # Where the picture is blurred the alpha comes from a render of its own, of the sharp people.
    assert np.abs(labels.alpha.astype(int) - plain.alpha).mean() < 2
    again = engine.render_labels(spec)
    assert again.rgb is not None
    assert np.array_equal(again.rgb, plain.rgb)  # nothing of it stays behind


def test_depth_of_field_blurs_what_is_out_of_focus(engine: Engine, spec: SampleSpec) -> None:
    smooth = replace(spec, settings=replace(spec.settings, denoise=True))
    sharp, blurred = (changed(engine, smooth, fstop=0.3, focus_m=focus) for focus in (3.9, 1.0))
    assert _detail(sharp) > 1.3 * _detail(blurred)


def _detail(labels: Labels) -> float:
    assert labels.rgb is not None and labels.depth is not None
    inside = labels.depth[1:, 1:] > 0
    grey = labels.rgb.astype(float).mean(axis=-1)
    return float(np.abs(np.diff(grey, axis=0)[:, 1:][inside]).mean())


def test_a_shaken_camera_smears_along_its_path(engine: Engine, spec: SampleSpec) -> None:
    smooth = replace(spec, settings=replace(spec.settings, denoise=True))
    still, smeared = engine.render_labels(smooth), changed(engine, smooth, shake_m=(0.4, 0.0, 0.0))
    assert smeared.rgb is not None and still.rgb is not None and still.depth is not None
    rows, columns = np.nonzero(still.depth > 0)
    people = (slice(rows.min(), rows.max()), slice(columns.min(), columns.max()))
    across, down = (
        np.abs(np.diff(smeared.rgb[people].astype(float), axis=axis)).mean()
        / np.abs(np.diff(still.rgb[people].astype(float), axis=axis)).mean()
        for axis in (1, 0)
    )
    assert across < 0.85 * down


def test_a_lens_moves_image_and_labels_together(engine: Engine, spec: SampleSpec) -> None:
    near = tuple((*row[:3], 2.4) if row[3] == 4.0 else row for row in LEVEL)
    spec = replace(spec, camera=replace(spec.camera, world_to_camera=near))  # type: ignore[arg-type]
    plain = engine.render_labels(spec)
    labels = changed(engine, spec, distortion=(-0.3, 0.1, 0.0))
    assert labels.camera is not None and labels.camera.distortion == (-0.3, 0.1, 0.0)
    assert labels.depth is not None and plain.depth is not None and labels.alpha is not None
    mask = labels.depth > 0
    assert 0.005 < (mask != (plain.depth > 0)).mean() < 0.2
    assert ((labels.alpha > 127) != mask).mean() < 0.01
    # A point of the label map, unprojected through the lens, lies on the body that the straight camera sees.
    points = _points(labels, mask)
    assert plain.camera is not None
    seen = plain.camera.project(points)
    columns, rows = np.rint(seen[:, :2]).astype(int).T
    inside = plain.camera.contains(seen)
    there = plain.depth[rows[inside], columns[inside]]
    assert np.median(np.abs(there - seen[inside, 2])) < 0.01


def _points(labels: Labels, mask: np.ndarray) -> np.ndarray:
    assert labels.camera is not None and labels.depth is not None
    rows, columns = np.nonzero(mask)
    pixels = np.stack([columns, rows, labels.depth[mask]], axis=1).astype(np.float64)
    return labels.camera.unproject(pixels)


def test_an_occluder_hides_people_and_is_nobody(engine: Engine, spec: SampleSpec, plain: Labels) -> None:
    person = built_person(spec.people[0])
    assert person.keypoints is not None
    x, y, z = (round(float(v), 6) for v in person.keypoints[:17].mean(0))
    ball = OccluderSpec("ball", (x, y - 1.0, z), (0.4, 0.4, 0.4), (0.0, 0.0, 0.0), (0.8, 0.1, 0.1), 0.5)
    labels = engine.render_labels(replace(spec, stage=StageSpec(occluders=(ball,))))
    assert labels.depth is not None and plain.depth is not None and labels.rgb is not None
    hidden = (plain.depth > 0) & (labels.depth == 0)
    assert hidden.sum() > 50 and not ((plain.depth == 0) & (labels.depth > 0)).any()
    red = labels.rgb[hidden].astype(int)
    assert (red[:, 0] > red[:, 1] + 30).mean() > 0.9
    assert labels.keypoints is not None and plain.keypoints is not None
    assert (labels.keypoints[0, :, 3] < plain.keypoints[0, :, 3]).any()


def test_transparent_film_is_black_around_people_and_alpha_composites(
    engine: Engine, spec: SampleSpec, plain: Labels
) -> None:
    labels = engine.render_labels(replace(spec, stage=StageSpec(background="transparent")))
    assert labels.rgb is not None and labels.alpha is not None and plain.rgb is not None
    assert not labels.rgb[labels.alpha == 0].any()
    whole = labels.alpha == 255
    # Covered by 254.6 in 255 parts counts as whole, and a bright sky shines through the rest.
    assert np.quantile(np.abs(labels.rgb[whole].astype(int) - plain.rgb[whole]), 0.98) <= 1


def test_a_shadow_catcher_darkens_the_ground_by_the_feet(
    engine: Engine, spec: SampleSpec, plain: Labels
) -> None:
    bare, caught = (
        engine.render_labels(replace(spec, stage=StageSpec(ground=ground)))
        for ground in ("none", "shadow_catcher")
    )
    assert bare.rgb is not None and caught.rgb is not None and plain.depth is not None
    nobody = plain.depth == 0
    darker = bare.rgb.astype(int).mean(-1) - caught.rgb.astype(int).mean(-1)
    ground = nobody & (np.arange(80)[:, None] > 55)
    assert darker[ground].mean() > 0.5 and np.abs(darker[nobody & ~ground]).mean() < 2
    for name in PIXEL_LABELS:
        assert np.array_equal(getattr(caught, name), getattr(plain, name)), name


def test_the_crop_changes_no_label(engine: Engine, spec: SampleSpec, plain: Labels) -> None:
    """The same picture with the whole frame rendered: a far occluder in each corner stretches the crop."""
    corners = [
        OccluderSpec("box", (x, 6.0, z), (0.1, 0.1, 0.1), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), 0.5)
        for x in (-4.0, 4.0)
        for z in (-4.0, 6.0)
    ]
    whole = engine.render_labels(replace(spec, stage=StageSpec(occluders=tuple(corners))))
    for name in PIXEL_LABELS:
        error = np.abs(getattr(whole, name).astype(np.float64) - getattr(plain, name))
        # Where float32 rounds a ray, a hit moves by micrometres, and a colour by a step.
        assert error.max() <= (1 if name == "albedo" else 2e-3), name
        assert np.median(error) <= 1e-6, name


def test_jpeg_and_the_choice_of_labels(engine: Engine, spec: SampleSpec) -> None:
    settings = replace(spec.settings, labels=("depth", "alpha", "keypoints"))
    sample = engine.render(replace(spec, settings=settings, effects=EffectsSpec(jpeg_quality=85)))
    assert sorted(sample.members) == ["alpha.png", "depth.png", "json", "keypoints.npy", "rgb.jpg"]
    labels = from_members(sample.members)
    assert labels.rgb is not None and labels.rgb.shape == (80, 60, 3)


def test_geometric_and_shading_normals_differ_by_the_smoothing(plain: Labels) -> None:
    assert plain.normal is not None and plain.geometric_normal is not None and plain.depth is not None
    inside = plain.depth > 0
    cosine = np.einsum("nc,nc->n", plain.normal[inside], plain.geometric_normal[inside])
    angle = np.degrees(np.arccos(cosine.clip(-1, 1)))
    assert 0.05 < np.median(angle) < 10 and np.quantile(angle, 0.9) < 45
    assert plain.quality is None  # nobody here is a scan with a mask


def test_people_of_a_spec_are_built_once(spec: SampleSpec) -> None:
    assert built_person(spec.people[0]) is built_person(spec.people[0])
