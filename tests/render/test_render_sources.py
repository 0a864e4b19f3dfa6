"""Scans: the same body from every format, layouts, orientation and units, sidecars, and what is refused."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from render.people import build_person, sample_person
from render.people.body import body_model, shape_body
from render.people.mesh import vertex_normals
from render.person import Person
from render.sources import (
    ScanConfig,
    ScanFiles,
    ScanRejected,
    ScanRules,
    inspect_scan,
    list_scans,
    load_scan,
    plan_scan,
)
from render.sources.mesh import ScanMesh, clean
from render.sources.orientation import decide
from shards.errors import UsageError, VitruvianError

CORRUPT = Path(__file__).parents[3] / "shared/data/scans/lee_perry_smith"

AXES = {
    "y up": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),  # file = AXES @ person; front +z
    "z up": np.eye(3),  # front -y
    "x up": np.array([[0.0, 0, 1], [0, -1, 0], [1, 0, 0]]),  # front +y
}


@dataclass(frozen=True)
class Body:
    """A body in the person's frame, centred and on the ground."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray  # of corners
    keypoints: dict[str, list[float]]

    def corners(self) -> np.ndarray:
        return np.asarray(self.vertices[self.faces])


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that no earlier version of the code has written; the body model is read before."""
    body_model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@lru_cache(maxsize=1)
def real_body() -> Body:
    model = body_model()
    used = np.unique(model.faces("body"))
    new = np.zeros(len(model.template), int)
    new[used] = np.arange(len(used))
    shape = shape_body({}, {}, model).vertices[used]
    return centred(shape, new[model.faces("body")].astype(np.int32), model.face_uv("body"))


@lru_cache(maxsize=1)
def block_body() -> Body:
    """Boxes: feet that point to -y, legs, trunk, arms, head. 1.7 m tall, 1344 triangles."""
    import trimesh

    boxes = [
        ((0.10, 0.26, 0.06), (0.1, -0.06, 0.03)),
        ((0.10, 0.26, 0.06), (-0.1, -0.06, 0.03)),
        ((0.12, 0.12, 0.79), (0.1, 0, 0.455)),
        ((0.12, 0.12, 0.79), (-0.1, 0, 0.455)),
        ((0.40, 0.22, 0.60), (0, 0, 1.15)),
        ((0.70, 0.10, 0.10), (0, 0, 1.38)),
        ((0.18, 0.20, 0.25), (0, 0, 1.575)),
    ]
    made = []
    for size, at in boxes:
        box = trimesh.creation.box(size)
        box.apply_translation(at)
        made.append(box)
    both = trimesh.util.concatenate(made).subdivide().subdivide()
    faces = np.asarray(both.faces, np.int32)
    uv = np.asarray(both.vertices)[faces][..., [0, 2]] * [0.8, 0.55] + [0.5, 0.02]
    return centred(np.asarray(both.vertices), faces, uv)


def centred(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray) -> Body:
    """Centre of area over the origin, feet on the ground."""
    at = vertices[faces]
    area = np.linalg.norm(np.cross(at[:, 1] - at[:, 0], at[:, 2] - at[:, 0]), axis=1)
    centre = area @ at.mean(1) / area.sum()
    moved = vertices - [centre[0], centre[1], vertices[:, 2].min()]
    return Body(moved, faces, np.asarray(uv, float), {"nose": [0.0, -0.1, 1.6], "left_hip": [0.1, 0, 0.9]})


def texture(path: Path) -> Path:
    """A smooth picture: red grows with u, green with v."""
    from PIL import Image

    u, v = np.meshgrid((np.arange(64) + 0.5) / 64, 1 - (np.arange(64) + 0.5) / 64)
    pixels = np.stack([60 + 150 * u, 60 + 150 * v, np.full_like(u, 90)], -1)
    Image.fromarray(np.rint(pixels).astype(np.uint8)).save(path, quality=95)
    return path


def write_obj(path: Path, body: Body, axes: str = "y up", scale: float = 1.0, material: str = "") -> Path:
    """A hand-written OBJ with texture coordinates; `material`: text of its .mtl."""
    points = body.vertices @ AXES[axes].T * scale
    lines = [f"mtllib {path.stem}.mtl", "usemtl skin"] if material else []
    lines += ["v " + " ".join(f"{x:.9g}" for x in p) for p in points]
    lines += [f"vt {u:.7f} {v:.7f}" for u, v in body.uv.reshape(-1, 2)]
    numbers = np.arange(3 * len(body.faces)).reshape(-1, 3) + 1
    for face, corner in zip(body.faces + 1, numbers, strict=True):
        lines.append("f " + " ".join(f"{a}/{b}" for a, b in zip(face, corner, strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    if material:
        path.with_suffix(".mtl").write_text("newmtl skin\nKd 0.5 0.5 0.5\n" + material)
    return path


def write_ply(path: Path, body: Body, axes: str, scale: float, extra: dict[str, np.ndarray]) -> Path:
    """An ASCII PLY; `extra`: further vertex properties, integers as uchar."""
    points = body.vertices @ AXES[axes].T * scale
    kinds = {name: "uchar" if v.dtype.kind in "ui" else "float" for name, v in extra.items()}
    head = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    head += [f"property float {c}" for c in "xyz"] + [f"property {k} {n}" for n, k in kinds.items()]
    head += [f"element face {len(body.faces)}", "property list uchar int vertex_indices", "end_header"]
    columns = [points, *(v[:, None] for v in extra.values())]
    rows = [" ".join(f"{x:.9g}" for x in np.concatenate([c[i] for c in columns])) for i in range(len(points))]
    rows += ["3 " + " ".join(map(str, face)) for face in body.faces]
    path.write_text("\n".join(head + rows) + "\n")
    return path


def write_glb(path: Path, body: Body, picture: Path, roughness: float = 0.7) -> Path:
    """A GLB with its texture inside, and a node that moves the mesh."""
    import trimesh
    from PIL import Image

    points = (body.vertices @ AXES["y up"].T)[body.faces].reshape(-1, 3)
    faces = np.arange(len(points)).reshape(-1, 3)
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=Image.open(picture), roughnessFactor=roughness
    )
    visual = trimesh.visual.TextureVisuals(uv=body.uv.reshape(-1, 2), material=material)
    mesh = trimesh.Trimesh(points - [0.0, 5.0, 0.0], faces, visual=visual, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(mesh, transform=trimesh.transformations.translation_matrix([0.0, 5.0, 0.0]))
    path.write_bytes(scene.export(file_type="glb"))
    return path


def write_fbx(path: Path, obj: Path) -> Path:
    """Blender's own FBX of an OBJ, from a process of its own."""
    code = (
        "import bpy, os, sys; bpy.ops.wm.read_factory_settings(use_empty=True);"
        "bpy.ops.wm.obj_import(filepath=sys.argv[1]); bpy.ops.object.shade_smooth();"
        "bpy.ops.export_scene.fbx(filepath=sys.argv[2], path_mode='RELATIVE');"
        "sys.stdout.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(obj), str(path)], check=True, capture_output=True)
    return path


def only(folder: Path, **options: Any) -> tuple[ScanFiles, ScanConfig]:
    config = ScanConfig(folder=folder, **options)
    (files,) = list_scans(config)
    return files, config


def person_in(folder: Path, **options: Any) -> Person:
    files, config = only(folder, **options)
    return load_scan(plan_scan(files, config), folder)


def rejected(folder: Path, **options: Any) -> ScanRejected:
    files, config = only(folder, **options)
    with pytest.raises(ScanRejected) as caught:
        plan_scan(files, config)
    report = inspect_scan(files, config)
    assert not report.accepted and report.reason == caught.value.reason
    assert files.mesh.name in str(caught.value) or files.mesh.stem in str(caught.value)
    return caught.value


def corners_of(person: Person) -> np.ndarray:
    (surface,) = person.surfaces
    return np.asarray(surface.vertices[surface.faces])


@pytest.mark.parametrize("kind", ["obj", "glb", "ply", "fbx"])
def test_every_format_gives_the_same_person(kind: str, tmp_path: Path) -> None:
    body, picture = real_body(), texture(tmp_path / "skin.png")
    folder = tmp_path / "scans"
    folder.mkdir()
    if kind == "obj":
        (folder / "skin.png").write_bytes(picture.read_bytes())
        write_obj(folder / "body.obj", body, "y up", 100.0, "map_Kd skin.png\n")
    elif kind == "glb":
        write_glb(folder / "body.glb", body, picture)
    elif kind == "ply":
        write_ply(folder / "body.ply", body, "x up", 1000.0, {})
    else:
        write_fbx(folder / "body.fbx", write_obj(tmp_path / "body.obj", body, material="map_Kd skin.png\n"))
        (folder / "skin.png").write_bytes(picture.read_bytes())
    person = person_in(folder)
    (surface,) = person.surfaces
    np.testing.assert_allclose(corners_of(person), body.corners(), atol=1e-5)
    expected = vertex_normals(body.vertices, body.faces)[body.faces]
    cosine = (surface.normals[surface.faces] * expected).sum(-1)
    assert np.median(cosine) > (0.999 if kind == "fbx" else 0.9999)  # its own normals weigh by angle
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=1), 1.0, atol=1e-6)
    assert (surface.part_ids == 255).all()
    if kind != "ply":
        assert surface.uv is not None
        np.testing.assert_allclose(surface.uv, body.uv, atol=1e-5)
        assert Path(surface.material.params["colour"]).read_bytes() == picture.read_bytes()
    assert abs(person.height - np.ptp(body.vertices[:, 2])) < 1e-5


@pytest.mark.parametrize(
    ("axes", "unit", "scale"),
    [("y up", "m", 1.0), ("z up", "cm", 100.0), ("x up", "mm", 1000.0), ("y up", "inch", 1 / 0.0254)],
)
def test_axes_and_units_are_found(axes: str, unit: str, scale: float, tmp_path: Path) -> None:
    write_obj(tmp_path / "a.obj", block_body(), axes, scale)
    files, config = only(tmp_path)
    report = inspect_scan(files, config)
    up, front = {"y up": ("+y", "+z"), "z up": ("+z", "-y"), "x up": ("+x", "+y")}[axes]
    assert (report.up, report.front, report.unit) == (up, front, unit)
    assert abs(report.height_m - 1.7) < 1e-4
    np.testing.assert_allclose(corners_of(person_in(tmp_path)), block_body().corners(), atol=1e-5)


def test_an_upside_down_person_facing_away_is_turned(tmp_path: Path) -> None:
    """Up is -y and the feet point to -z: neither is the convention, the shape says so."""
    body = block_body()
    turned = Body(body.vertices * [1.0, -1.0, -1.0], body.faces, body.uv, {})
    write_obj(tmp_path / "a.obj", turned, "y up", 1.0)
    files, config = only(tmp_path)
    report = inspect_scan(files, config)
    assert report.up == "-y" and report.front == "-z" and len(report.notes) == 2
    np.testing.assert_allclose(corners_of(person_in(tmp_path)), body.corners(), atol=1e-5)


def test_sampled_people_are_seen_upright_and_facing_right(tmp_path: Path) -> None:
    """People on their feet, given x up: longest extent, foot spread and toes decide, not a convention."""
    turn = AXES["x up"] * [[-1.0], [1.0], [-1.0]]  # file = turn @ person: up is -x, front is +y
    drawn = (sample_person(np.random.default_rng(seed)) for seed in range(100))
    standing = (spec for spec in drawn if spec.pose_name in ("relaxed", "walking"))
    for spec in islice(standing, 4):
        person = build_person(spec)
        offsets = np.cumsum([0, *(len(s.vertices) for s in person.surfaces)])
        faces = np.concatenate([s.faces + o for s, o in zip(person.surfaces, offsets, strict=False)])
        points = np.concatenate([s.vertices for s in person.surfaces]) @ turn.T
        mesh = ScanMesh(
            vertices=points,
            normals=points,
            faces=faces.astype(np.int32),
            material=np.zeros(len(faces), np.int32),
            uv=None,
            colours=None,
            part_ids=None,
            trusted=None,
            materials=(),
            degenerate=0,
        )
        files = ScanFiles("a", tmp_path / "a.obj", "plain", tmp_path)
        pose = decide(mesh, files, ScanRules())
        assert (pose.up, pose.front, pose.unit) == ("-x", "+y", "m"), spec.pose_name


def test_rules_override_the_guess_and_are_stored(tmp_path: Path) -> None:
    write_obj(tmp_path / "a.obj", block_body(), "y up", 1.0)
    write_obj(tmp_path / "b.obj", block_body(), "y up", 1.0)
    config = ScanConfig(
        folder=tmp_path,
        unit="foot",
        overrides={"b": ScanRules(front="+x", height_m=1.6), "a": ScanRules(up="+y")},
    )
    a, b = (plan_scan(files, config) for files in list_scans(config))
    assert np.isclose(np.linalg.norm(a.to_person[0][:3]), 0.3048)
    assert np.isclose(np.linalg.norm(b.to_person[2][:3]) * 1.7, 1.6)
    np.testing.assert_allclose(np.array(b.to_person)[1, :3], np.array([-1.6 / 1.7, 0, 0]), atol=1e-9)
    assert abs(load_scan(b, tmp_path).height - 1.6) < 1e-9
    with pytest.raises(UsageError, match="overrides"):
        list_scans(ScanConfig(folder=tmp_path, overrides={"nobody": ScanRules()}))
    with pytest.raises(ValueError, match="different axes"):
        ScanRules(up="+y", front="-y")
    with pytest.raises(ValueError, match="not both"):
        ScanRules(unit="m", height_m=1.7)


def test_a_bust_has_no_telling_height(tmp_path: Path) -> None:
    bust = block_body()
    head = bust.faces[bust.vertices[bust.faces][..., 2].min(1) > 1.4]
    write_obj(tmp_path / "bust.obj", Body(bust.vertices, head, bust.uv[-len(head) :], {}), "y up", 1.0)
    assert rejected(tmp_path).reason == "unit:unknown"
    assert rejected(tmp_path, unit="inch").reason == "unit:impossible"
    person = person_in(tmp_path, height_m=0.3)
    assert abs(person.height - 0.3) < 1e-9 and abs(person.surfaces[0].vertices[:, 2].min()) < 1e-8


def test_renderpeople_folders_are_recognised(tmp_path: Path) -> None:
    folder = tmp_path / "rp_dennis_posed_004_OBJ"
    stem = "rp_dennis_posed_004"
    for size in ("30k", "100k"):
        write_obj(folder / f"{stem}_{size}.obj", block_body(), "y up", 100.0, "map_Kd C:\\artist\\lost.jpg\n")
    (folder / "tex").mkdir()
    for word in ("dif", "norm", "gloss"):
        texture(folder / "tex" / f"{stem}_{word}.jpg")
    files, config = only(tmp_path)
    assert (files.name, files.layout, files.mesh.name) == (stem, "renderpeople", f"{stem}_100k.obj")
    report = inspect_scan(files, config)
    assert report.unit == "cm" and report.missing == ("C:\\artist\\lost.jpg",)
    assert report.textures == (f"{stem}_dif.jpg",) and report.normal_maps == (f"{stem}_norm.jpg",)
    params = load_scan(plan_scan(files, config), tmp_path).surfaces[0].material.params
    assert Path(params["roughness"]).name == f"{stem}_gloss.jpg" and params["roughness_channel"] == "gloss"


def test_thuman_folders_are_recognised(tmp_path: Path) -> None:
    """No fixed scale, and after scan 525 other axes: the shape decides, the height is assumed."""
    for name, axes, scale in (("0000", "y up", 0.6), ("0526", "z up", 31.0)):
        write_obj(tmp_path / name / f"{name}.obj", block_body(), axes, scale, "map_Kd material0.jpeg\n")
        (tmp_path / name / f"{name}.mtl").rename(tmp_path / name / "material0.mtl")
        text = (tmp_path / name / f"{name}.obj").read_text()
        (tmp_path / name / f"{name}.obj").write_text(text.replace(f"{name}.mtl", "material0.mtl"))
        texture(tmp_path / name / "material0.jpeg")
    (tmp_path / "0000" / "mesh_smplx.obj").write_text("v 0 0 0\n")  # the fitted body model, not a scan
    config = ScanConfig(folder=tmp_path)
    scans = list_scans(config)
    assert [(s.name, s.layout) for s in scans] == [("0000", "thuman"), ("0526", "thuman")]
    for files in scans:
        report = inspect_scan(files, config)
        assert report.textures == ("material0.jpeg",) and not report.missing
        assert report.unit == "none" and "no fixed scale" in " ".join(report.notes)
        np.testing.assert_allclose(
            corners_of(load_scan(plan_scan(files, config), tmp_path)), block_body().corners(), atol=1e-5
        )


def test_missing_textures_are_reported_not_fatal(tmp_path: Path) -> None:
    write_obj(tmp_path / "a.obj", block_body(), material="map_Kd gone.png\nmap_Bump -bm 1.0 bumps.png\n")
    files, config = only(tmp_path)
    report = inspect_scan(files, config)
    assert report.accepted and report.missing == ("gone.png", "bumps.png") and report.textures == ()
    before = files.digest()
    texture(tmp_path / "gone.png")
    files, config = only(tmp_path)
    assert files.digest() != before and inspect_scan(files, config).textures == ("gone.png",)


def test_files_outside_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    texture(tmp_path / "secret.png")
    write_obj(tmp_path / "scans" / "a.obj", block_body(), material="map_Kd ../secret.png\n")
    files, _ = only(tmp_path / "scans")
    assert files.missing == ("../secret.png",) and files.textures == {}


def test_any_byte_changes_the_digest_and_load_refuses_other_bytes(tmp_path: Path) -> None:
    write_obj(tmp_path / "a.obj", block_body(), material="map_Kd skin.png\n")
    texture(tmp_path / "skin.png")
    (tmp_path / "a.keypoints.json").write_text('{"points": {"nose": [0, 1.6, 0.1]}}')
    files, config = only(tmp_path)
    spec = plan_scan(files, config)
    seen = {spec.sha256}
    for name in ("a.obj", "a.mtl", "skin.png", "a.keypoints.json"):
        path = tmp_path / name
        old = path.read_bytes()
        path.write_bytes(old + b"\n")
        seen.add(only(tmp_path)[0].digest())
        with pytest.raises(VitruvianError, match=spec.sha256):
            load_scan(spec, tmp_path)
        path.write_bytes(old)
    assert len(seen) == 5
    assert only(tmp_path)[0].digest() == spec.sha256


def test_sidecars_travel(tmp_path: Path) -> None:
    from PIL import Image

    body = block_body()
    write_obj(tmp_path / "a.obj", body, "y up", 100.0)
    rows = np.repeat(np.array([[3], [20]], np.uint8), 2, axis=1)  # v > 0.5: head and trunk
    Image.fromarray(rows).save(tmp_path / "a.parts.png")
    Image.fromarray(np.array([[255, 0]], np.uint8)).save(tmp_path / "a.quality.png")
    in_file = {k: (AXES["y up"] @ np.array(p) * 100).tolist() for k, p in body.keypoints.items()}
    (tmp_path / "a.keypoints.json").write_text(json.dumps({"points": in_file}))
    files, config = only(tmp_path)
    report = inspect_scan(files, config)
    assert report.parts and report.quality and report.keypoints
    person = load_scan(plan_scan(files, config), tmp_path)
    (surface,) = person.surfaces
    high = body.uv.mean(1)[:, 1] > 0.5
    np.testing.assert_array_equal(surface.part_ids, np.where(high, 3, 20))
    assert person.keypoints is not None and person.keypoints.shape == (17, 3)
    np.testing.assert_allclose(person.keypoints[0], body.keypoints["nose"], atol=1e-9)
    np.testing.assert_allclose(person.keypoints[11], body.keypoints["left_hip"], atol=1e-9)
    assert np.isnan(person.keypoints[1]).all()
    Image.fromarray(np.full((2, 2), 77, np.uint8)).save(tmp_path / "a.parts.png")
    assert rejected(tmp_path).reason == "parts:unknown"
    (tmp_path / "a.parts.png").unlink()
    (tmp_path / "a.keypoints.json").write_text('{"points": {"third_eye": [0, 0, 0]}}')
    assert rejected(tmp_path).reason == "keypoints:names"


def test_vertex_properties_of_a_ply_travel(tmp_path: Path) -> None:
    body = block_body()
    count = len(body.vertices)
    ids = np.where(body.vertices[:, 2] > 1.4, 3, 20).astype(np.uint8)
    grey = np.full(count, 188, np.uint8)
    extra = {"red": grey, "green": grey, "blue": grey, "part_id": ids, "quality": (ids == 3).astype(np.uint8)}
    write_ply(tmp_path / "a.ply", body, "z up", 1.0, extra)
    (surface,) = person_in(tmp_path).surfaces
    np.testing.assert_array_equal(surface.part_ids, np.median(ids[body.faces], axis=1))  # the majority
    assert surface.material.params["vertex_colour"]
    np.testing.assert_allclose(surface.attributes["col_g"], 0.503, atol=2e-3)  # sRGB 188, linear
    expected = (ids == 3).astype(float)[body.faces].ravel()
    np.testing.assert_array_equal(surface.attributes["trusted"][surface.faces].ravel(), expected)


def test_corrupt_files_are_rejected_by_name(tmp_path: Path) -> None:
    glb = write_glb(tmp_path / "whole.glb", block_body(), texture(tmp_path / "t.png")).read_bytes()
    (tmp_path / "t.png").unlink()
    (tmp_path / "whole.glb").unlink()
    ply = write_ply(tmp_path / "p.ply", block_body(), "z up", 1.0, {}).read_bytes()
    (tmp_path / "p.ply").unlink()
    cases = {
        "glb:length": ("a.glb", glb[:-100]),
        "glb:header": ("a.glb", b"GIF89a" + glb),
        "file:empty": ("a.obj", b""),
        "obj:binary": ("a.obj", b"v 0 0 0\0\0"),
        "ply:header": ("a.ply", b"plx" + ply),
        "ply:truncated": ("a.ply", ply[: len(ply) // 4]),
        "fbx:header": ("a.fbx", b"; FBX 7.3.0 project file"),
        "gltf:json": ("a.gltf", b"{"),
        "mesh:empty": ("a.obj", b"v 0 0 0\nv 0 1 0\nv 1 0 0\n"),
        "mesh:no-area": ("a.obj", b"v 0 0 0\nv 0 1 0\nv 0 2 0\nf 1 2 3\n"),
        "mesh:flat": ("a.obj", b"v 0 0 0\nv 0 1 0\nv 1 0 0\nf 1 2 3\n"),
    }
    for reason, (name, data) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert rejected(tmp_path).reason == reason
        (tmp_path / name).unlink()


def test_points_that_are_not_finite_are_rejected() -> None:
    raw = {
        "vertices": np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, np.nan]]),
        "corners": np.array([[0, 1, 2]], np.int32),
        "normals": np.ones((1, 3, 3)),
        "own_normals": np.array([True]),
        "material": np.array([-1], np.int32),
    }
    with pytest.raises(ScanRejected, match="not finite"):
        clean(raw, [], Path("a.obj"))


def test_a_rejection_survives_the_way_between_processes() -> None:
    again = copy.copy(  # by __reduce__, as between processes
        ScanRejected("mesh:empty", "a.obj: nothing")
    )
    assert (again.reason, str(again)) == ("mesh:empty", "a.obj: nothing")


def test_a_broken_texture_is_rejected(tmp_path: Path) -> None:
    write_obj(tmp_path / "a.obj", block_body(), material="map_Kd skin.png\n")
    whole = texture(tmp_path / "skin.png").read_bytes()
    (tmp_path / "skin.png").write_bytes(whole.decode("utf-8", "replace").encode())
    error = rejected(tmp_path)
    assert error.reason == "texture:unknown" and "saved as text" in str(error)
    (tmp_path / "skin.png").write_bytes(whole[: len(whole) // 2])
    assert rejected(tmp_path).reason == "texture:corrupt"


@pytest.mark.skipif(not CORRUPT.is_dir(), reason="needs ../shared/data/scans/lee_perry_smith")
def test_the_text_mangled_scan_is_rejected_with_a_clear_reason() -> None:
    files, config = only(CORRUPT)
    with pytest.raises(ScanRejected, match=r"LeePerrySmith\.glb: expected \d+ bytes .* saved as text"):
        plan_scan(files, config)


def test_a_crash_of_the_importer_costs_only_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real importer process, told by Python to abort as Blender does, and one that hangs."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "bpy.py").write_text("import os; os.abort()\n")
    write_obj(tmp_path / "scans" / "a.obj", block_body(), scale=1.01)
    from render.sources import importing

    monkeypatch.setenv("PYTHONPATH", str(hook))
    assert rejected(tmp_path / "scans").reason == "import:crashed"
    write_obj(tmp_path / "scans" / "a.obj", block_body(), scale=1.02)
    (hook / "bpy.py").write_text("import time; time.sleep(60)\n")
    monkeypatch.setattr(importing, "TIME_LIMIT_S", 1.0)
    assert rejected(tmp_path / "scans").reason == "import:hung"
    write_obj(tmp_path / "scans" / "a.obj", block_body(), scale=1.03)
    (hook / "bpy.py").write_text("raise RuntimeError('Error: no such thing')\n")
    monkeypatch.setattr(importing, "TIME_LIMIT_S", 60.0)
    error = rejected(tmp_path / "scans")
    assert error.reason == "import:failed" and "no such thing" in str(error)


def test_each_material_is_a_surface_and_images_inside_a_file_are_restored(tmp_path: Path) -> None:
    import trimesh

    body, picture = block_body(), texture(tmp_path / "t.png")
    upper = body.vertices[body.faces][..., 2].min(1) > 0.9
    scene = trimesh.Scene()
    for name, chosen in (("top", upper), ("bottom", ~upper)):
        piece = Body(body.vertices, body.faces[chosen], body.uv[chosen], {})
        write_glb(tmp_path / f"{name}.glb", piece, picture, roughness=0.3 if name == "top" else 0.9)
        (made,) = trimesh.load_scene(tmp_path / f"{name}.glb").dump()
        scene.add_geometry(made, node_name=name)
        (tmp_path / f"{name}.glb").unlink()
    picture.unlink()
    (tmp_path / "both.glb").write_bytes(scene.export(file_type="glb"))
    person = person_in(tmp_path)
    assert sorted(len(s.faces) for s in person.surfaces) == sorted([upper.sum(), (~upper).sum()])
    assert sorted(round(s.material.params["roughness"], 2) for s in person.surfaces) == [0.3, 0.9]
    image = Path(person.surfaces[0].material.params["colour"])
    data = image.read_bytes()
    image.unlink()
    person_in(tmp_path)
    assert image.read_bytes() == data


def test_an_import_happens_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_obj(tmp_path / "a.obj", block_body())
    first = person_in(tmp_path)
    from render.sources import importing

    monkeypatch.setattr(importing, "TIME_LIMIT_S", 1e-9)
    importing._remembered.cache_clear()
    again = person_in(tmp_path)
    for one, other in zip(first.surfaces, again.surfaces, strict=True):
        for name in ("vertices", "normals", "faces", "uv", "part_ids"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    os.utime(tmp_path / "a.obj")  # another time, the same bytes
    person_in(tmp_path)


def test_a_speck_below_the_feet_is_not_stood_on(tmp_path: Path) -> None:
    body = block_body()
    write_obj(tmp_path / "a.obj", body)
    with (tmp_path / "a.obj").open("a") as stream:
        stream.write("v 0 -0.3 0\nv 0.01 -0.3 0\nv 0 -0.3 0.01\nf -3/1 -2/2 -1/3\n")
    person = person_in(tmp_path)
    np.testing.assert_allclose(corners_of(person)[:-1], body.corners(), atol=1e-4)
    assert corners_of(person)[-1, :, 2].max() < -0.29


def test_degenerate_triangles_are_dropped_and_counted(tmp_path: Path) -> None:
    body = block_body()
    write_obj(tmp_path / "a.obj", body)
    with (tmp_path / "a.obj").open("a") as stream:
        stream.write("v 0 0.5 0\nv 0 0.6 0\nv 0 0.7 0\nv 0 0.9 0\nf -4/1 -3/1 -2/2\nf -1/3 -2/4 -3/3\n")
    files, config = only(tmp_path)
    report = inspect_scan(files, config)
    assert report.faces == len(body.faces) and report.degenerate == 2
    assert report.components == 2 and report.watertight  # boxes that share a point are one
