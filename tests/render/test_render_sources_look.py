"""Scans in the renderer: their textures, vertex colours and label maps arrive at the right pixels."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotation.camera import Camera
from annotation.labels import from_members
from render.engine import Engine
from render.folders import Folders
from render.lights import find_hdri
from render.people.body import body_model, shape_body
from render.person import Person
from render.scene import Scene, shared_scene
from render.sources import ScanConfig, list_scans, load_scan, plan_scan
from render.spec import (
    SPEC_VERSION,
    CameraSpec,
    LightSpec,
    Placement,
    RenderSettings,
    SampleSpec,
)

WIDTH, HEIGHT = 48, 64


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    body_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def write_body(path: Path, colours: bool = False) -> None:
    """A body as OBJ, y up, metres, with a texture map or with grey 188 per vertex."""
    model = body_model()
    faces = model.faces("body")
    used, inverse = np.unique(faces, return_inverse=True)
    points = shape_body({}, {}, model).vertices[used][:, [0, 2, 1]] * [1, 1, -1]
    tail = " 0.7372549 0.7372549 0.7372549" if colours else ""
    lines = [] if colours else [f"mtllib {path.stem}.mtl", "usemtl skin"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}{tail}" for x, y, z in points]
    lines += [f"vt {u:.7f} {v:.7f}" for u, v in model.face_uv("body").reshape(-1, 2)]
    for number, (a, b, c) in enumerate(inverse.reshape(-1, 3) + 1):
        lines.append(f"f {a}/{3 * number + 1} {b}/{3 * number + 2} {c}/{3 * number + 3}")
    path.write_text("\n".join(lines) + "\n")
    path.with_suffix(".mtl").write_text("newmtl skin\nKd 0.5 0.5 0.5\nmap_Kd skin.png\n")


def ramp(path: Path) -> None:
    """sRGB red 40 + 180 u, green 40 + 180 v, blue 90."""
    u, v = np.meshgrid((np.arange(256) + 0.5) / 256, 1 - (np.arange(256) + 0.5) / 256)
    pixels = np.stack([40 + 180 * u, 40 + 180 * v, np.full_like(u, 90)], -1)
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(path)


def loaded(folder: Path) -> Person:
    config = ScanConfig(folder=folder)
    (files,) = list_scans(config)
    return load_scan(plan_scan(files, config), folder)


VIEW = CameraSpec(
    80.0, ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, 0.85), (0.0, 1.0, 0.0, 3.2), (0.0, 0.0, 0.0, 1.0))
)
"""From in front of the person, at waist height, 3.2 m away."""


def camera() -> Camera:
    return VIEW.camera(WIDTH, HEIGHT)


def staged(person: Person) -> Scene:
    scene = shared_scene()
    scene.load_people([person], [Placement()])
    scene.cast = None  # the engine must not take this for its own people
    hdri = find_hdri("studio")
    scene.set_light(hdri, LightSpec("studio", hdri.sha256, 0.0, hdri.neutral_ev))
    scene.set_camera(camera())
    return scene


def uv_at_pixels(person: Person) -> tuple[np.ndarray, np.ndarray]:
    """(mask, uv) of each pixel centre by an independent ray cast; the mask leaves out edges and seams."""
    import trimesh

    (surface,) = person.surfaces
    assert surface.uv is not None
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    view = camera()
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays = np.stack(
        [(x - view.K[0, 2]) / view.K[0, 0], (y - view.K[1, 2]) / view.K[1, 1], np.ones(x.shape)], -1
    )
    turn, offset = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
    directions = rays.reshape(-1, 3) @ turn
    origins = np.broadcast_to(-offset @ turn, directions.shape)
    where, ray, face = mesh.ray.intersects_location(origins, directions, multiple_hits=False)
    weights = trimesh.triangles.points_to_barycentric(mesh.triangles[face], where)
    uv, mask = np.zeros((WIDTH * HEIGHT, 2)), np.zeros(WIDTH * HEIGHT, bool)
    uv[ray] = (surface.uv[face] * weights[..., None]).sum(1)
    mask[ray] = True
    return mask.reshape(HEIGHT, WIDTH), uv.reshape(HEIGHT, WIDTH, 2)


def encoded(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def rewired(scene: Scene, name: str) -> np.ndarray:
    """The value of the node called `name` at each pixel, through the albedo's AOV."""
    for material in scene._materials.values():
        tree = material.node_tree
        (output,) = (n for n in tree.nodes if n.type == "OUTPUT_AOV" and n.aov_name == "albedo")
        tree.links.new(tree.nodes[name].outputs[0], output.inputs["Color"])
    return np.asarray(scene.render_truth()["albedo"][..., 0])


def test_the_texture_is_seen_where_it_belongs_and_labels_are_texels(tmp_path: Path) -> None:
    write_body(tmp_path / "a.obj")
    ramp(tmp_path / "skin.png")
    ids = np.random.default_rng(0).integers(1, 28, (32, 32)).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / "a.parts.png")
    trust = (np.arange(64).reshape(8, 8) % 3 > 0).astype(np.uint8)  # 1 is as good as 255
    Image.fromarray(trust).save(tmp_path / "a.quality.png")
    person = loaded(tmp_path)
    scene = staged(person)
    truth = scene.render_truth()
    mask, uv = uv_at_pixels(person)
    np.testing.assert_array_equal(mask, truth["coverage"] > 0.5)
    assert mask.sum() > 400
    seen = encoded(truth["albedo"].astype(np.float64))[mask]
    expected = np.concatenate([40 + 180 * uv[mask], np.full((mask.sum(), 1), 90.0)], axis=1)
    assert np.quantile(np.abs(seen - expected).max(1), 0.99) < 1.5  # the rest are seams between charts
    inside = np.abs(uv[mask] * 32 - np.rint(uv[mask] * 32)).min(1) > 0.02
    column, row = (uv[mask] * [32, 32]).astype(int).T
    parts = rewired(scene, "part_id")[mask]
    np.testing.assert_array_equal(parts[inside], ids[31 - row, column][inside])
    quality = rewired(scene, "quality")[mask]
    np.testing.assert_array_equal(quality[inside], trust[7 - row // 4, column // 4][inside])


def test_vertex_colours_are_seen(tmp_path: Path) -> None:
    write_body(tmp_path / "a.obj", colours=True)
    scene = staged(loaded(tmp_path))
    truth = scene.render_truth()
    albedo = encoded(truth["albedo"].astype(np.float64))[truth["coverage"] > 0.5]
    np.testing.assert_allclose(albedo, 188.0, atol=0.6)


def test_a_normal_map_changes_the_picture_and_no_label(tmp_path: Path) -> None:
    write_body(tmp_path / "a.obj")
    ramp(tmp_path / "skin.png")
    settings = RenderSettings(width=WIDTH, height=HEIGHT, samples=4, denoise=False)

    def rendered() -> tuple[np.ndarray, np.ndarray]:
        scene = staged(loaded(tmp_path))
        picture = np.clip(scene.render_beauty(settings)["Combined"][..., :3], 0, 1)
        return picture, scene.render_truth()["shading_normal"]

    plain, normal = rendered()
    waves = np.sin(np.arange(512) / 4.0)[None] * np.ones((512, 1))
    pixels = np.stack([128 + 90 * waves, np.full_like(waves, 128), np.full_like(waves, 200)], -1)
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(tmp_path / "a.normal_map.png")
    bumpy, same = rendered()
    np.testing.assert_array_equal(normal, same)
    assert np.abs(bumpy - plain).max() > 0.05


def test_maps_are_loaded_once_with_their_colour_space_and_leave_with_the_scan(tmp_path: Path) -> None:
    write_body(tmp_path / "a.obj")
    ramp(tmp_path / "skin.png")
    ramp(tmp_path / "a.roughness.png")
    (tmp_path / "a.keypoints.json").write_text(json.dumps({"points": {"nose": [0, 1.6, 0.1]}}))
    person = loaded(tmp_path)
    for _ in range(2):
        scene = staged(person)
    images = [i for i in scene.bpy.data.images if str(tmp_path) in i.filepath]
    assert sorted((Path(i.filepath).name, i.colorspace_settings.name) for i in images) == [
        ("a.roughness.png", "Non-Color"),
        ("skin.png", "sRGB"),
    ]
    other = tmp_path / "other"
    other.mkdir()
    write_body(other / "b.obj")
    ramp(other / "skin.png")
    scene = staged(loaded(other))
    kept = [i.filepath for i in scene.bpy.data.images if str(tmp_path) in i.filepath]
    assert kept == [str(other / "skin.png")]


def test_a_samples_members_hold_the_scans_own_labels(tmp_path: Path) -> None:
    """Parts, quality and keypoints beside the mesh come out of the engine as they are."""
    write_body(tmp_path / "a.obj")
    ramp(tmp_path / "skin.png")
    ids = np.random.default_rng(0).integers(1, 28, (32, 32)).astype(np.uint8)
    Image.fromarray(ids).save(tmp_path / "a.parts.png")
    trust = 255 * (np.arange(64).reshape(8, 8) % 3 > 0).astype(np.uint8)
    Image.fromarray(trust).save(tmp_path / "a.quality.png")
    (tmp_path / "a.keypoints.json").write_text(json.dumps({"points": {"nose": [0.0, 0.7, 0.1]}}))
    config = ScanConfig(folder=tmp_path)
    (files,) = list_scans(config)
    hdri = find_hdri("studio")
    spec = SampleSpec(
        recipe="test",
        version=SPEC_VERSION,
        seed=0,
        people=(plan_scan(files, config),),
        placements=(Placement("a"),),
        light=LightSpec(hdri.name, hdri.sha256, 0.0, hdri.neutral_ev),
        camera=VIEW,
        settings=RenderSettings(WIDTH, HEIGHT, 4),
    )
    labels = from_members(Engine(threads=2, folders=Folders(scans=tmp_path)).render(spec).members)
    mask, uv = uv_at_pixels(loaded(tmp_path))
    assert labels.parts is not None and labels.quality is not None and labels.keypoints is not None
    both = mask & (labels.parts > 0)
    assert both.sum() > 0.9 * mask.sum()
    for seen, texels in ((labels.parts, ids), (labels.quality, trust)):
        rows = np.floor((1 - uv[..., 1]) * len(texels)).astype(int).clip(0, len(texels) - 1)
        columns = np.floor(uv[..., 0] * len(texels)).astype(int).clip(0, len(texels) - 1)
        assert (seen == texels[rows, columns])[both].mean() > 0.97  # a texel's edge may round either way
    assert set(np.unique(labels.quality)) == {0, 255}
    named = labels.keypoints[0, :, 3] > 0
    assert named.sum() == 1 and not labels.keypoints[0, ~named].any()
