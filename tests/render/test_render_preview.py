"""Previews: OpenGL hits the pixel centres that Cycles does, shows the same people in the same light, and the
sheets show what is there.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from jaxtyping import Float64
from PIL import Image

from annotation.camera import Camera, look_at
from annotation.labels import Labels
from render.crosscheck import interior
from render.engine import Engine, built_person
from render.lights import find_hdri
from render.people import PersonSpec, sample_person
from render.person import Material, Person, Surface
from render.preview import contact_sheet, preview, scan_sheet
from render.props import occluder_mesh
from render.rasteriser import Piece, rasterise
from render.scene import shared_scene
from render.shading import Environment, lit_piece, paints
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
from shards.errors import UsageError, VitruvianError

UP = np.array([0.0, 0.0, 1.0])
POSE = look_at(np.array([0.6, -3.0, 1.3]), np.array([0.0, 0.0, 0.9]), UP)
GREY_BALL = OccluderSpec("ball", (0.1, -0.8, 1.0), (0.5, 0.5, 0.5), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), 0.5)


@pytest.fixture(scope="module", autouse=True)
def opengl() -> None:
    try:
        rasterise([], camera_of(4, 4))
    except UsageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def someone() -> PersonSpec:
    return sample_person(np.random.default_rng(11))


def camera_of(width: int, height: int, pose: Float64[np.ndarray, "4 4"] = POSE) -> Camera:
    K = np.array([[1.3 * height, 0, width / 2 - 3.2], [0, 1.3 * height, height / 2 + 2.4], [0, 0, 1]])
    return Camera(K, pose, width, height)


def spec_of(person: PersonSpec, width: int = 96, height: int = 128) -> SampleSpec:
    light = find_hdri("city")
    rows = tuple(tuple(row) for row in POSE.tolist())
    return SampleSpec(
        recipe="test",
        version=SPEC_VERSION,
        seed=0,
        people=(person,),
        placements=(Placement(heading_deg=25.0),),
        light=LightSpec(light.name, light.sha256, 70.0, light.neutral_ev),
        camera=CameraSpec(50.0, rows, 0.05, -0.08),  # type: ignore[arg-type]
        settings=RenderSettings(width, height, samples=1, denoise=False),
    )


def a_scan(folder: Path) -> Person:
    """A lumpy, textured, closed mesh of 64,000 triangles, a metre high."""
    rows, columns = 161, 201
    v, u = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    latitude, longitude = (v - 0.5) * np.pi, u * 2 * np.pi
    out = np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
    )
    bumps = 0.02 * np.sin(9 * out[0]) * np.cos(11 * out[1]) + 0.01 * np.sin(31 * out[2] + 17 * out[0])
    points = (out * (0.5 + bumps)).reshape(3, -1).T * (0.7, 0.6, 1.0) + (0, 0, 0.9)
    y, x = np.mgrid[: rows - 1, : columns - 1].reshape(2, -1)
    corner = y * columns + x
    faces = np.concatenate(
        [
            np.stack([corner, corner + 1, corner + columns + 1], 1),
            np.stack([corner, corner + columns + 1, corner + columns], 1),
        ]
    ).astype(np.int32)
    uv = np.stack([u.ravel(), v.ravel()], axis=1)[faces]
    flat = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])
    normals = np.zeros_like(points)
    np.add.at(normals, faces.ravel(), np.repeat(flat, 3, axis=0))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    texture = np.kron(np.indices((32, 32)).sum(0) % 2, np.ones((8, 8)))[..., None] * (150, 60, 40) + 60
    Image.fromarray(texture.astype(np.uint8)).save(folder / "skin.png")
    params = {
        "colour": str(folder / "skin.png"),
        "normal_map": None,
        "roughness": 0.6,
        "roughness_channel": "grey",
    }
    params |= {"parts": None, "quality": None, "trusted_attribute": "trusted", "vertex_colour": False}
    trusted = (points[:, 2] < 1.2).astype(np.float64)
    ids = np.full(len(faces), 255, np.uint8)
    look = Material("scan", params | {"base_colour": [0.5, 0.5, 0.5]})
    surface = Surface("scan0", points, faces, normals, uv, ids, look, {"trusted": trusted})
    return Person((surface,), points[:17].copy(), 1.4)


@dataclass(frozen=True)
class Pair:
    """The labels of Cycles, and the same scene through OpenGL."""

    cycles: Labels
    pieces: list[Piece]
    camera: Camera


class ScanEngine(Engine):
    """Renders one person, whoever the spec asks for."""

    scan: Person

    def people(self, spec: SampleSpec) -> tuple[Person, ...]:
        return (self.scan,)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Person:
    return a_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def pair(scan: Person, someone: PersonSpec) -> Pair:
    shared_scene().cast = None
    engine = ScanEngine()
    engine.scan = scan
    spec = spec_of(someone, 288, 384)
    labels = engine.render_labels(spec)
    shared_scene().cast = None  # a spec says who is in the scene, and this engine lied
    assert labels.camera is not None
    environment = Environment(np.ones((8, 16, 3), np.float32))
    pieces = [lit_piece(scan.surfaces[0], 1, environment, spec.light, spec.placements[0])]
    return Pair(labels, pieces, labels.camera)


def test_depth_of_a_textured_scan_agrees_with_cycles(pair: Pair) -> None:
    """The independent witness: within 0.1 mm on 99.9 % of the pixels inside the outline."""
    theirs = rasterise(pair.pieces, pair.camera)
    ours = pair.cycles.depth
    assert ours is not None
    surface, seen = ours > 0, theirs.ids == 1
    outline = cv2.morphologyEx(surface.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    assert not ((surface != seen) & ~outline).any()
    assert np.count_nonzero(surface != seen) <= 2
    inside = interior(surface) & seen
    difference = np.abs(theirs.depth - ours)[inside]
    assert inside.sum() > 8000
    assert (difference <= 1e-4).mean() >= 0.999
    assert np.median(difference) < 2e-6


def test_rasterised_squares_cover_pixel_centres_exactly() -> None:
    """Ray against plane, in float64: the corner convention's half pixel would show as 5 mm here."""
    camera = camera_of(120, 160)
    box = OccluderSpec("box", (0.0, 0.0, 1.0), (1.2, 0.01, 1.2), (35.0, 20.0, 40.0), (1.0, 1.0, 1.0), 0.5)
    vertices, faces, normals = occluder_mesh(box)
    raster = rasterise([Piece(vertices, faces, 300, np.abs(normals).astype(np.float32))], camera)
    a, b, c = vertices[faces[np.argmax((normals[faces[:, 0]] * (camera.position - box.position)).sum(1))]]
    normal = np.cross(b - a, c - a)
    expected = ((a - camera.position) @ normal) / (camera.rays() @ normal)
    inside = interior(raster.ids == 300)
    assert inside.sum() > 3000 and set(np.unique(raster.ids)) == {0, 300}
    error = np.abs(raster.depth - expected)[inside]
    assert np.percentile(error, 90) < 2e-6
    assert (raster.depth[raster.ids == 0] == 0).all() and (raster.coverage[inside] == 255).all()


def test_a_texture_stands_upright() -> None:
    """v = 1 is the top of the image file."""
    corners = np.array([[-1.0, 0, 0], [1, 0, 0], [1, 0, 2], [-1, 0, 2]])
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32], texture[32:, 32:] = (255, 0, 0), (0, 255, 0)
    square = Piece(
        corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), 1, np.ones((4, 3), np.float32), uv, texture
    )
    camera = camera_of(80, 80, look_at(np.array([0.0, -4.0, 1.0]), np.array([0.0, 0.0, 1.0]), UP))
    pixels = camera.project(np.array([[-0.6, 0, 1.6], [0.6, 0, 1.6], [0.6, 0, 0.4], [-0.6, 0, 0.4]]))
    x, y = pixels[:, :2].round().astype(int).T
    expected = [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 0]]
    assert rasterise([square], camera).colour[y, x].tolist() == expected


def test_what_opengl_cannot_draw_is_refused() -> None:
    triangle = Piece(np.eye(3), np.array([[0, 1, 2]], np.int32), 0, np.zeros((3, 3), np.float32))
    with pytest.raises(VitruvianError, match="ids in 1"):
        rasterise([triangle], camera_of(8, 8))
    bent = Camera(np.eye(3), np.eye(4), 8, 8, (0.1, 0.0, 0.0))
    with pytest.raises(VitruvianError, match="without distortion"):
        rasterise([], bent)


def test_preview_shows_what_cycles_renders(someone: PersonSpec) -> None:
    """Mask and depth of a whole person, hair and lashes included, and the HDRI behind, turned alike."""
    spec = spec_of(someone)
    shown, rendered = preview(spec), Engine().render_labels(spec)
    assert shown.depth is not None and rendered.depth is not None
    assert shown.rgb is not None and rendered.rgb is not None and shown.camera == rendered.camera
    both = (shown.depth > 0) & (rendered.depth > 0)
    assert both.sum() > 700
    assert ((shown.depth > 0) != (rendered.depth > 0)).sum() <= 0.005 * both.sum()
    assert (np.abs(shown.depth - rendered.depth)[both] < 1e-4).mean() > 0.99
    away = ~cv2.dilate(both.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    grey = [cv2.GaussianBlur(labels.rgb, (0, 0), 2.0)[away].mean(axis=1) for labels in (shown, rendered)]
    assert np.corrcoef(*grey)[0, 1] > 0.95
    turned = preview(replace(spec, light=replace(spec.light, rotation_deg=250.0)))
    assert np.corrcoef(cv2.GaussianBlur(turned.rgb, (0, 0), 2.0)[away].mean(axis=1), grey[1])[0, 1] < 0.8


def test_an_occluder_hides_people_and_has_no_label(someone: PersonSpec) -> None:
    plain = spec_of(someone)
    before, after = preview(plain), preview(replace(plain, stage=StageSpec(occluders=(GREY_BALL,))))
    assert before.instance is not None and after.instance is not None and after.depth is not None
    hidden = (before.instance == 1) & (after.instance == 0)
    assert hidden.sum() > 100
    assert after.camera is not None
    x, y = after.camera.project(np.array([GREY_BALL.position]))[0, :2].round().astype(int)
    assert before.instance[y, x] == 1 and after.instance[y, x] == 0 == after.depth[y, x]
    assert after.alpha is not None and np.array_equal(after.alpha, np.where(after.instance, 255, 0))


def test_preview_follows_the_lens(someone: PersonSpec) -> None:
    """A distorted preview's depth, carried to the world by its camera, projects onto the straight one's."""
    spec = spec_of(someone)
    straight = preview(spec, size=(256, 192))
    bent = preview(replace(spec, effects=EffectsSpec(distortion=(-0.3, 0.1, 0.0))), size=(256, 192))
    assert bent.camera is not None and bent.camera.distorted and bent.depth is not None
    assert straight.camera is not None and straight.depth is not None
    rows, columns = np.nonzero(interior(bent.depth > 0))
    world = bent.camera.unproject(
        np.column_stack([columns, rows, bent.depth[rows, columns]]).astype(np.float64)
    )
    x, y, z = straight.camera.project(world).T
    there = straight.camera.contains(np.column_stack([x, y]))
    found = straight.depth[y[there].round().astype(int), x[there].round().astype(int)]
    assert np.median(np.abs(found - z[there])) < 0.004  # half a pixel of 6 mm on a slope
    assert np.count_nonzero((bent.depth > 0) != (straight.depth > 0)) > 100


def test_light_of_an_even_sky_is_even_and_turns_with_the_hdri() -> None:
    normals = np.random.default_rng(0).normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    even = Environment(np.full((32, 64, 3), 2.5, np.float32))
    np.testing.assert_allclose(even.shade(normals), 2.5, rtol=1e-3)
    lamp = np.zeros((64, 128, 3), np.float32)
    lamp[28:36, 28:36] = 100.0  # u = 1/4: toward +y, as in Cycles
    one = Environment(lamp)
    axes = np.array([[0.0, 1, 0], [1, 0, 0], [0, -1, 0]])
    toward, aside, away = one.shade(axes)[:, 0]
    assert toward > 3 * aside and toward > 10 * away
    np.testing.assert_allclose(one.shade(axes, 90.0)[1], one.shade(axes)[0], rtol=1e-6)
    camera = camera_of(33, 33, look_at(np.zeros(3), np.array([0.0, 1, 0]), UP))
    assert one.seen(camera)[19, 13].min() == 100  # where camera_of has its principal point
    assert one.seen(camera, 180.0).max() == 0


def test_sheets_show_every_spec_and_what_a_scan_carries(someone: PersonSpec, scan: Person) -> None:
    spec = spec_of(someone)
    sheet = contact_sheet([spec, replace(spec, light=replace(spec.light, rotation_deg=0.0))])
    assert sheet.shape[1] == 2 * 144 + 6 and sheet.shape[0] > 192
    assert np.abs(sheet[:192, :144].astype(int) - sheet[:192, 150:]).mean() > 3
    with_parts, with_quality = scan_sheet(built_person(someone)), scan_sheet(scan)
    for page in (with_parts, with_quality):
        assert 0.05 < (page < 200).any(axis=-1).mean() < 0.8
    red = (with_quality[..., 0] > 2 * with_quality[..., 1].astype(int)) & (with_quality[..., 0] > 80)
    lower = red[with_quality.shape[0] // 2 :]
    top, bottom = lower[: len(lower) // 2], lower[len(lower) // 2 :]
    assert top.sum() > 10 * max(int(bottom.sum()), 1)  # what lies above 1.2 m is not to be trusted


def test_quality_is_read_from_a_map_in_texture_space(scan: Person, tmp_path: Path) -> None:
    """The lower half of the file is v < 1/2, the lower half of this scan."""
    doubted = np.full((32, 32), 255, np.uint8)
    doubted[16:] = 0
    Image.fromarray(doubted).save(tmp_path / "quality.png")
    surface = scan.surfaces[0]
    params = dict(surface.material.params) | {
        "trusted_attribute": None,
        "quality": str(tmp_path / "quality.png"),
    }
    mapped = replace(scan, surfaces=(replace(surface, material=Material("scan", params)),))
    colours = paints(mapped)["quality"]["scan0"]
    assert list(paints(mapped)) == ["quality"]
    red = colours[..., 0] > 2 * colours[..., 1]
    height = surface.vertices[surface.faces][..., 2]
    assert red[height < 0.85].all() and not red[height > 0.95].any()
