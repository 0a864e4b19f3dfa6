"""Materials: every kind that people wear becomes a shader, shared when equal, with bump correction off; cloth
shows its pattern and its sewing where they belong, in the albedo of flat swatches.
"""

from typing import Any

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from annotation.camera import Camera  # noqa: E402
from render.emblems import HEIGHT  # noqa: E402
from render.materials import BUILDERS, build_material  # noqa: E402
from render.patterns import PATTERNS  # noqa: E402
from render.people import build_person, sample_person  # noqa: E402
from render.people.looks import cloth_material  # noqa: E402
from render.people.palette import SCALES  # noqa: E402
from render.people.spec import FabricSpec  # noqa: E402
from render.person import Material, Person, Surface  # noqa: E402
from render.scene import shared_scene  # noqa: E402
from render.sewing import HEM, PITCH  # noqa: E402
from render.spec import Placement, StageSpec  # noqa: E402
from render.weaves import DARKEST, LIGHTEST  # noqa: E402
from shards.errors import VitruvianError  # noqa: E402


def worn_materials() -> list[Material]:
    people = [build_person(sample_person(np.random.default_rng(seed))) for seed in (0, 4)]
    return [surface.material for person in people for surface in person.surfaces]


def test_every_material_of_a_person_builds() -> None:
    kinds = set()
    for material in worn_materials():
        made = build_material(material)
        kinds.add(material.kind)
        assert made.cycles.use_bump_map_correction is False
        outputs = [n for n in made.node_tree.nodes if n.type == "OUTPUT_MATERIAL"]
        assert len(outputs) == 1 and outputs[0].inputs["Surface"].is_linked
        assert not any(n.type == "TEX_IMAGE" for n in made.node_tree.nodes)
    assert kinds <= set(BUILDERS) and {"skin", "fabric", "eye", "hair", "teeth", "tongue"} <= kinds


@pytest.mark.parametrize("pattern", sorted(SCALES))
def test_every_pattern_builds(pattern: str) -> None:
    fabric = FabricSpec(pattern, (0.2, 0.1, 0.1), (0.6, 0.6, 0.5), SCALES[pattern], 90.0, 0.8, 11)
    made = build_material(cloth_material(fabric, (), {}))
    shader = next(n for n in made.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert shader.inputs["Base Color"].is_linked and shader.inputs["Normal"].is_linked


def test_equal_materials_are_one_datablock() -> None:
    tooth = Material("teeth", {"colour": (0.6, 0.55, 0.5)})
    assert build_material(tooth) == build_material(Material("teeth", {"colour": (0.6, 0.55, 0.5)}))
    assert build_material(tooth) != build_material(Material("teeth", {"colour": (0.5, 0.55, 0.5)}))


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(VitruvianError, match="velvet"):
        build_material(Material("velvet", {}))


SIDE, PIXELS, DISTANCE = 0.30, 150, 2.0  # metres across a swatch, pixels across its picture, from the camera
DYE, ACCENT = (0.5, 0.1, 0.1), (0.1, 0.1, 0.6)


def fabric(pattern: str, seed: int = 0, **changed: Any) -> FabricSpec:
    drawn = {"scale": SCALES[pattern], "angle": 0.0, "roughness": 0.8} | changed
    return FabricSpec(pattern=pattern, colour=DYE, accent=ACCENT, seed=seed, **drawn)


def swatch(
    spec: FabricSpec,
    u: float = 0.0,
    v: float = HEIGHT,
    marks: tuple[tuple[str, float, float, float, float], ...] = (),
    hem: bool = False,
) -> np.ndarray:
    """Albedo of a square of cloth whose middle lies at (u, v), row 0 on top. hem: it is cut off below."""
    across = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * SIDE
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    flat = Surface(
        name="swatch",
        vertices=np.stack([across[:, 0], np.zeros(4), 1 + across[:, 1]], axis=1),
        faces=faces,
        normals=np.tile([0.0, -1.0, 0.0], (4, 1)),
        uv=(across + np.array([u, v]))[faces],
        part_ids=np.full(2, 7, np.uint8),
        material=cloth_material(spec, marks, {}),
        attributes={
            "edge": across[:, 1] + SIDE / 2 if hem else np.full(4, 0.1),
            "top": np.full(4, 0.1),
        },
    )
    scene, focal = shared_scene(2), PIXELS * DISTANCE / SIDE
    scene.load_people((Person((flat,), None, 1.7),), (Placement(),), StageSpec())
    scene.cast = None
    middle = (PIXELS - 1) / 2
    intrinsics = np.array([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
    pose = np.array([[1.0, 0, 0, 0], [0, 0, -1, 1], [0, 1, 0, DISTANCE], [0, 0, 0, 1]])
    scene.set_camera(Camera(intrinsics, pose, PIXELS, PIXELS))
    return np.asarray(scene.render_truth()["albedo"][2:-2, 2:-2, :3])


def accented(albedo: np.ndarray) -> np.ndarray:
    """Where the accent shows rather than the dye."""
    return np.asarray(albedo[..., 2] > albedo[..., 0])


def test_every_pattern_of_the_palette_is_drawn() -> None:
    assert set(PATTERNS) == set(SCALES)


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_stripes_repeat_after_their_scale(angle: float) -> None:
    shown = accented(swatch(fabric("stripes", angle=angle)))
    profile = shown.mean(1 if angle == 0 else 0)
    assert np.isin(profile.round(), profile).all() and (profile > 0.99).any() and (profile < 0.01).any()
    starts = np.flatnonzero(np.diff((profile > 0.5).astype(int)) > 0)
    assert np.diff(starts).mean() * SIDE / PIXELS == pytest.approx(SCALES["stripes"], rel=0.03)


def test_plain_cloth_is_even_and_checks_are_not() -> None:
    plain, checked = swatch(fabric("plain")), swatch(fabric("checks"))
    assert plain.std((0, 1)).max() < 0.04 * max(DYE) and checked.std((0, 1)).max() > 0.1
    np.testing.assert_allclose(plain.mean((0, 1)), DYE, rtol=0.15)


def test_albedo_is_that_of_cloth() -> None:
    for pattern in ("floral", "camouflage", "denim", "knit", "print", "corduroy"):
        shown = swatch(fabric(pattern, seed=5))
        assert shown.min() >= DARKEST - 1e-6 and shown.max() <= LIGHTEST + 1e-6, pattern
        assert shown.std((0, 1)).max() > 0.002, pattern


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 7])
def test_logos_are_on_the_chest_only(seed: int) -> None:
    front = accented(swatch(fabric("logo", seed)))
    assert 0.002 < front.mean() < 0.4
    for u, v in ((0.0, 0.0), (1.0, HEIGHT), (2.0, 1.2), (4.0, -0.4)):
        assert not accented(swatch(fabric("logo", seed), u, v)).any()


def test_marks_are_sewn_where_they_say() -> None:
    low, high = -0.051, 0.071  # pixels' middles
    marks = (("stitch", low, low, high, high),)
    shown = swatch(fabric("denim"), 0.0, 0.0, marks) - swatch(fabric("denim"), 0.0, 0.0)
    changed = np.abs(shown).max(2) > 0.02
    at = (np.arange(2, PIXELS - 2) - (PIXELS - 1) / 2) * SIDE / PIXELS
    x, y = np.meshgrid(at, -at)
    outline = np.abs(np.maximum(np.abs(x - 0.01), np.abs(y - 0.01)) - 0.061)
    assert changed[outline < 0.0008].mean() > 0.6 and not changed[outline > 0.004].any()


def test_hems_are_stitched_along_their_edge() -> None:
    shown = swatch(fabric("denim"), 0.0, 0.0, hem=True) - swatch(fabric("denim"), 0.0, 0.0)
    rows = np.flatnonzero((np.abs(shown).max(2) > 0.02).mean(1) > 0.3)
    rows = rows[rows < PIXELS - 2 - 2 * HEM / 3 * PIXELS / SIDE]  # without the rubbed edge below
    above = (PIXELS - 2.5 - rows) * SIDE / PIXELS
    assert len(rows) and np.abs(above - HEM).max() < PITCH


def test_zips_have_teeth_of_metal() -> None:
    spec = fabric("plain")
    made = build_material(cloth_material(spec, (("zip", -0.005, -0.5, 0.005, 1.0),), {}))
    shader = next(n for n in made.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert shader.inputs["Metallic"].is_linked
    shown = swatch(spec, 0.0, 0.0, (("zip", -0.005, -0.5, 0.005, 1.0),))
    grey = np.ptp(shown, axis=2) < 0.03
    columns = np.flatnonzero(grey.mean(0) > 0.2) + 2
    assert len(columns) and np.abs((columns - (PIXELS - 1) / 2) * SIDE / PIXELS).max() < 0.005
