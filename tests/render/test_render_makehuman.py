"""MakeHuman assets: the parsers on files made here, fitting, errors; and every real asset on people."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from render.people import build_person, sample_person
from render.people.body import body_model, pose_skeleton, shape_body
from render.people.makehuman import Catalog, open_catalog
from render.people.makehuman.hair import build_asset_hair
from render.people.makehuman.labels import SLOTS, label_faces
from render.people.makehuman.mhclo import parse_clothes, parse_look, parse_mesh
from render.people.makehuman.outfits import sample_asset_hair, sample_asset_outfit, sample_asset_skin
from render.people.makehuman.pattern import fit, islands, load_pattern
from render.people.makehuman.wear import keep_off, relaxed
from render.people.parts import NAMES, PART
from render.people.spec import AssetSpec, FabricSpec, GarmentSpec, PersonSpec
from render.person import Person
from shards.errors import UsageError, VitruvianError

ASSETS = Path(__file__).parents[3] / "shared/data/makehuman_assets"
real = pytest.mark.skipif(not ASSETS.is_dir(), reason=f"{ASSETS} is absent: MakeHuman's assets")

CLOTHES = """# a patch of four vertices
name patch
tag Hats
obj_file patch.obj
x_scale 5399 11998 1.4
z_scale 962 5320 2.0
y_scale 791 881 2.3
z_depth 40
material patch.mhmat
verts 0
10
11
12
20 21 22 0.2 0.3 0.5 0.1 0.2 -0.3

delete_verts
100 - 102 200
300
"""
MESH = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3 4/4\n"
LOOK = "name patch\ndiffuseColor 0.5 0.25 1.0\nshininess 0.4\ndiffuseTexture patch.png\n"
FABRIC = FabricSpec("plain", (0.2, 0.1, 0.1), (0.05, 0.05, 0.3), 0.002, 0.0, 0.8, 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "clothes/patch"
    home.mkdir(parents=True)
    (home / "patch.mhclo").write_text(CLOTHES)
    (home / "patch.obj").write_text(MESH)
    (home / "patch.mhmat").write_text(LOOK)
    return tmp_path


def edit(folder: Path, name: str, old: str, new: str) -> Path:
    path = folder / "clothes/patch" / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_clothes_are_parsed(folder: Path) -> None:
    clothes = parse_clothes(folder / "clothes/patch/patch.mhclo")
    assert (clothes.name, clothes.tags, clothes.z_depth) == ("patch", ("Hats",), 40)
    assert clothes.corners[0, 0] == 10 and clothes.weights[0].tolist() == [1.0, 0.0, 0.0]
    assert clothes.corners[3].tolist() == [20, 21, 22] and clothes.offsets[3].tolist() == [0.1, 0.2, -0.3]
    assert np.flatnonzero(clothes.deleted).tolist() == [100, 101, 102, 200, 300]
    scales = clothes.scales
    assert scales[1] is not None and (scales[1].first, scales[1].second, scales[1].length) == (791, 881, 2.3)


def test_mesh_and_look_are_parsed(folder: Path) -> None:
    mesh = parse_mesh(folder / "clothes/patch/patch.obj")
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert mesh.texture[mesh.texture_faces][1].tolist() == [[0, 0], [1, 1], [0, 1]]
    look = parse_look(folder / "clothes/patch/patch.mhmat")
    assert (look.diffuse, look.normal, look.colour, look.roughness) == (
        "patch.png",
        None,
        (0.5, 0.25, 1.0),
        0.6,
    )


def test_fitting_follows_the_formula(folder: Path) -> None:
    catalog = open_catalog(folder)
    pattern = load_pattern(catalog.find(catalog.spec("clothes/patch/patch.mhclo")))
    rest = shape_body({"weight": 0.9}, {}, body_model()).vertices
    fitted = fit(pattern, rest)
    assert (fitted[:3] == rest[10:13]).all()
    span = [
        abs(rest[a, i] - rest[b, i]) / n
        for a, b, i, n in ((5399, 11998, 0, 1.4), (962, 5320, 1, 2.0), (791, 881, 2, 2.3))
    ]
    corner = 0.2 * rest[20] + 0.3 * rest[21] + 0.5 * rest[22]
    np.testing.assert_allclose(fitted[3], corner + np.array([0.1, 0.3, 0.2]) * span, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("patch.mhclo", "\n11\n", "\n19158\n", "line 12: expected a base mesh vertex"),
        ("patch.mhclo", "20 21 22 0.2", "20 21 22", "line 14: expected 1 index"),
        ("patch.mhclo", "0.2 0.3 0.5", "0.2 nan 0.5", "line 14: expected 6 numbers"),
        ("patch.mhclo", "102 200", "x 200", "line 17: expected a base mesh vertex"),
        ("patch.mhclo", "11998 1.4", "11998 0.0", "line 5: expected a length above 0"),
        ("patch.mhclo", "\n12\n", "\n", "expected 4 fitted vertices"),
        ("patch.mhclo", "obj_file patch.obj", "obj_file other.obj", "expected other.obj beside it"),
        ("patch.mhclo", "obj_file patch.obj", "obj_file ../../../patch.obj", "inside the asset folder"),
        ("patch.mhclo", "obj_file patch.obj", "obj_file /etc/passwd", "inside the asset folder"),
        ("patch.mhclo", "material patch.mhmat", "material ../../../x.mhmat", "inside the asset folder"),
        ("patch.mhmat", "patch.png", "../../../patch.png", "inside the asset folder"),
        ("patch.mhmat", "0.5 0.25 1.0", "0.5 0.25", "line 2: expected 3 numbers"),
        ("patch.obj", "3/3 4/4", "3/3 9/4", "line 9: expected corners within"),
        ("patch.obj", "3/3 4/4", "3/3 x/4", "line 9: expected corners v/vt"),
        ("patch.obj", "1/1 2/2 3/3 4/4", "1/1 2/2", "line 9: expected 3 to"),
        ("patch.obj", "v 1 0 0", "v 1 0", "line 2: expected 3 numbers"),
    ],
)
def test_bad_files_are_named(folder: Path, name: str, old: str, new: str, says: str) -> None:
    edit(folder, name, old, new)
    catalog = open_catalog(folder)
    with pytest.raises(VitruvianError, match=says):
        load_pattern(catalog.find(catalog.spec("clothes/patch/patch.mhclo")))


def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "patch.obj"
    elsewhere.write_text(MESH)
    mesh = folder / "clothes/patch/patch.obj"
    mesh.unlink()
    mesh.symlink_to(elsewhere)
    with pytest.raises(VitruvianError, match="inside the asset folder"):
        open_catalog(folder).spec("clothes/patch/patch.mhclo")


def test_catalog_says_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    catalog = open_catalog(folder)
    assert catalog.names("hats") == ("clothes/patch/patch.mhclo",)
    spec = catalog.spec("clothes/patch/patch.mhclo")
    assert catalog.find(spec).diffuse is None
    with pytest.raises(VitruvianError, match="expected sha256 00"):
        catalog.find(replace(spec, sha256="00"))
    with pytest.raises(VitruvianError, match="name the asset"):
        catalog.find(AssetSpec("clothes/none.mhclo", "00"))
    with pytest.raises(UsageError, match="expected a folder"):
        open_catalog(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="expected clothes/"):
        open_catalog(tmp_path / "empty")


def test_digest_counts_every_file_that_is_there(folder: Path) -> None:
    from PIL import Image

    catalog = open_catalog(folder)
    seen = {catalog.spec("clothes/patch/patch.mhclo").sha256}
    Image.new("RGB", (4, 4), (200, 10, 10)).save(folder / "clothes/patch/patch.png")
    seen.add(catalog.spec("clothes/patch/patch.mhclo").sha256)
    edit(folder, "patch.obj", "v 1 1 0", "v 1 2 0")
    seen.add(catalog.spec("clothes/patch/patch.mhclo").sha256)
    assert len(seen) == 3
    (folder / "clothes/patch/patch.png").write_bytes(b"not an image")
    with pytest.raises(VitruvianError, match=r"patch.png"):
        catalog.spec("clothes/patch/patch.mhclo")


def test_relaxing_leaves_rigid_motion_alone() -> None:
    rng = np.random.default_rng(0)
    u, v = np.meshgrid(np.linspace(0, 1, 12), np.linspace(0, 1, 12))
    rest = np.stack([u, v, 0.1 * np.sin(5 * u) + 0.02 * rng.random(u.shape)], axis=2).reshape(-1, 3)
    index = np.arange(144).reshape(12, 12)
    a, b, c, d = (
        index[:-1, :-1].ravel(),
        index[:-1, 1:].ravel(),
        index[1:, 1:].ravel(),
        index[1:, :-1].ravel(),
    )
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)]).astype(np.int32)
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(relaxed(rest @ turn.T + 2.0, rest, faces), rest @ turn.T + 2.0, atol=1e-9)


def test_islands_count_connected_parts() -> None:
    faces = np.array([[4, 5, 6], [0, 1, 2], [2, 1, 3]], dtype=np.int32)
    assert islands(faces, 7).tolist() == [1, 0, 0]


# The real assets


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    return open_catalog(ASSETS)


def someone(seed: int, names: tuple[str, ...], **phenotype: float) -> PersonSpec:
    spec = sample_person(np.random.default_rng(seed))
    garments = tuple(GarmentSpec("asset", {}, FABRIC, catalog().spec(name)) for name in names)
    hair = replace(spec.hair, style="bald", asset=None, beard=0.0, moustache=0.0)
    shape = {**spec.phenotype, "age": 0.65, **phenotype}
    return replace(spec, garments=garments, hair=hair, phenotype=shape)


def bodies(name: str) -> Iterator[PersonSpec]:
    """Three bodies in two poses each: average, heavy, thin; a neutral stand and whatever was drawn."""
    shoes = catalog().names("shoes")
    gender = 0.95 if "female" in name else 0.05
    for index, weight in enumerate((0.5, 0.85, 0.2)):
        worn = (name, *shoes[index : index + 1]) if "shoes" not in name else (name,)
        drawn = someone(30 + index, worn, gender=gender, weight=weight)
        yield replace(drawn, pose={})
        yield drawn


def skin_through(person: Person) -> tuple[int, int]:
    """(rays that meet skin with a garment's outside within 2 cm behind it, rays that meet garments first)."""
    trimesh = pytest.importorskip("trimesh")
    pytest.importorskip("embreex")
    start = np.cumsum([0, *(len(s.vertices) for s in person.surfaces)])
    vertices = np.concatenate([s.vertices for s in person.surfaces])
    faces = np.concatenate([s.faces + base for s, base in zip(person.surfaces, start, strict=False)])
    parts = np.concatenate([s.part_ids for s in person.surfaces])
    cloth = np.isin(
        parts, [PART[n] for n in NAMES if n.endswith(("Clothing", "Shoe", "Sock")) or n == "Apparel"]
    )
    body = np.concatenate([np.full(len(s.faces), s.name == "body") for s in person.surfaces])
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    low, high = vertices.min(0), vertices.max(0)
    pierced = covered = 0
    for angle in np.linspace(0, 2 * np.pi, 6, endpoint=False):
        away = np.array([np.sin(angle), -np.cos(angle), 0.0])
        across = np.array([np.cos(angle), np.sin(angle), 0.0])
        reach = np.abs((vertices - (low + high) / 2) @ across).max()
        u, z = np.meshgrid(np.arange(-reach, reach, 0.012), np.arange(low[2], high[2], 0.012))
        origin = np.stack([0 * u.ravel(), 0 * u.ravel(), z.ravel()], 1) + u.reshape(-1, 1) * across + 3 * away
        origin[:, :2] += (low + high)[:2] / 2
        first = mesh.ray.intersects_first(origin, np.broadcast_to(-away, origin.shape))
        hit = first >= 0
        covered += int(cloth[first[hit]].sum())
        skin = np.flatnonzero(hit)[body[first[hit]]]
        at = _along(vertices, faces[first[skin]], origin[skin], -away)
        behind = origin[skin] - away * (at[:, None] + 2e-4)
        second = mesh.ray.intersects_first(behind, np.broadcast_to(-away, behind.shape))
        found = np.flatnonzero(second >= 0)
        found = found[cloth[second[found]]]
        gap = _along(vertices, faces[second[found]], behind[found], -away)
        a, b, c = (vertices[faces[second[found], i]] for i in range(3))
        outside = (np.cross(b - a, c - a) * away).sum(1) > 0
        pierced += int((outside & (gap < 0.02)).sum())
    return pierced, covered


def _along(vertices: Any, faces: Any, origin: Any, direction: Any) -> Any:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    return ((a - origin) * normal).sum(1) / (normal * direction).sum(1)


EXPECTED = {
    "garments": {"Upper_Clothing", "Lower_Clothing"},
    "shoes": {"Left_Shoe", "Right_Shoe", "Left_Sock", "Right_Sock"},
    "hats": {"Apparel"},
}


@real
@pytest.mark.parametrize("category", sorted(EXPECTED))
def test_parts_of_every_asset(category: str) -> None:
    names = catalog().names(category)
    assert len(names) == {"garments": 12, "shoes": 6, "hats": 2}[category]
    for name in names:
        pattern = load_pattern(catalog().find(catalog().spec(name)))
        labels = label_faces(pattern, category, name)
        seen = {NAMES[i] for i in np.unique(labels.parts)}
        assert seen - {"Apparel"} == EXPECTED[category] - {"Apparel"} and seen <= EXPECTED[category] | {
            "Apparel"
        }
        middle = pattern.template[pattern.faces].mean(1)
        for part, sign in (("Left_Shoe", 1), ("Right_Sock", -1)):
            assert (middle[labels.parts == PART[part], 0] * sign > 0).all()
        if category == "garments":
            upper, lower = (middle[labels.parts == PART[f"{p}_Clothing"], 2] for p in ("Upper", "Lower"))
            assert (
                upper.mean() > 0.2
                and upper.max() > 0.5
                and lower.min() < -0.1
                and (labels.parts == PART["Apparel"]).mean() < 0.09
            )


@real
def test_suit_has_a_tie_and_buttons() -> None:
    name = "clothes/male_elegantsuit01/male_elegantsuit01.mhclo"
    labels = label_faces(load_pattern(catalog().find(catalog().spec(name))), "garments", name)
    counts = np.bincount(labels.slots, minlength=len(SLOTS))
    assert counts[SLOTS.index("tie")] > 200 and counts[SLOTS.index("trim")] >= 400
    assert (labels.parts[labels.slots == SLOTS.index("tie")] == PART["Apparel"]).all()


@real
@pytest.mark.slow
@pytest.mark.parametrize("category", sorted(EXPECTED))
def test_every_garment_fits_everybody(category: str) -> None:
    for name in catalog().names(category):
        pierced = covered = 0
        for spec in bodies(name):
            person = build_person(spec, catalog())
            for surface in person.surfaces:
                assert np.isfinite(surface.vertices).all() and np.isfinite(surface.normals).all()
                assert surface.uv is None or np.isfinite(surface.uv).all()
                assert (surface.part_ids > 0).all() and np.abs(surface.vertices).max() < 3.5
            through, over = skin_through(person)
            pierced, covered = pierced + through, covered + over
        assert covered > 2000 and pierced <= 0.002 * covered, (name, pierced, covered)


@real
def test_cloth_stays_on_the_body() -> None:
    """What is worn ends up near the skin it was fitted to: nothing explodes or is left behind."""
    name = "clothes/male_casualsuit02/male_casualsuit02.mhclo"
    spec = someone(5, (name,), gender=0.1)
    person = build_person(spec, catalog())
    body = next(s for s in person.surfaces if s.name == "body").vertices
    cloth = np.concatenate([s.vertices for s in person.surfaces if s.name.startswith("asset")])
    assert cloth[:, 2].min() > -0.05 and cloth[:, 2].max() < body[:, 2].max()


@real
def test_without_the_folder_the_error_says_so() -> None:
    spec = someone(1, catalog().names("garments")[:1])
    with pytest.raises(VitruvianError, match="--asset-folder"):
        build_person(spec)
    wrong = replace(
        spec.garments[0], asset=replace(catalog().spec(catalog().names("hats")[0]), sha256="0" * 64)
    )
    with pytest.raises(VitruvianError, match="expected sha256 000"):
        build_person(replace(spec, garments=(wrong,)), catalog())


def _digest(person: Person) -> str:
    total = hashlib.sha256()
    for s in person.surfaces:
        for array in (s.vertices, s.faces, s.normals, s.part_ids, s.uv):
            total.update(b"" if array is None else array.tobytes())
        total.update(repr(s.material).encode())
    return total.hexdigest()


@real
def test_same_bytes_in_another_process() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_render_makehuman as t; "
        "s = t.dressed(); print(s.garments[0].asset.sha256, t._digest(t.build_person(s, t.catalog())))"
    )
    spec = dressed()
    assert spec.garments[0].asset is not None
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        capture_output=True, text=True, check=True, env={**__import__("os").environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    digest = _digest(build_person(spec, catalog()))
    assert done.stdout.split() == [spec.garments[0].asset.sha256, digest]


def dressed() -> PersonSpec:
    """A sampled person in a sampled asset outfit with asset hair."""
    rng = np.random.default_rng(11)
    spec = someone(8, ())
    garments = sample_asset_outfit(rng, spec.phenotype, catalog())
    hair = replace(spec.hair, asset=sample_asset_hair(rng, spec.phenotype, catalog()))
    return PersonSpec.from_json(replace(spec, garments=garments, hair=hair).to_json())


@real
@pytest.mark.parametrize("name", ["bob01", "long01", "short02"])
def test_hair_is_hair_and_goes_under_a_hat(name: str) -> None:
    asset = catalog().spec(f"hair/{name}/{name}.mhclo")
    bare, hatted = someone(3, ()), someone(3, catalog().names("hats")[:1])
    people = [build_person(replace(s, hair=replace(s.hair, asset=asset)), catalog()) for s in (bare, hatted)]
    shown = [next(s for s in p.surfaces if s.name == "hair") for p in people]
    assert set(shown[0].part_ids) == {PART["Hair"]} and len(shown[1].faces) < len(shown[0].faces)
    assert np.isfinite(shown[0].vertices).all() and set(shown[0].attributes) == {"tip"}


@real
def test_headscarves_hide_all_hair() -> None:
    spec, model = someone(3, ()), body_model()
    shape = shape_body(spec.phenotype, spec.face, model)
    skeleton = pose_skeleton(shape, spec.pose, model)
    body = next(s for s in build_person(spec).surfaces if s.name == "body")
    hair = replace(spec.hair, asset=catalog().spec("hair/bob01/bob01.mhclo"))
    worn = (replace(body, name="headscarf"),)
    assert build_asset_hair(hair, worn, shape, skeleton, shape.vertices, model, catalog()) == ()
    assert build_asset_hair(hair, (), shape, skeleton, shape.vertices, model, catalog()) != ()


@real
def test_outfits_suit_who_wears_them() -> None:
    rng = np.random.default_rng(0)
    base = {"age": 0.7, "african": 0.1, "asian": 0.2, "caucasian": 0.7}
    for gender, other in ((0.9, "/male_"), (0.1, "/female_")):
        seen = [sample_asset_outfit(rng, {**base, "gender": gender}, catalog()) for _ in range(80)]
        names = {g.asset.name for outfit in seen for g in outfit if g.asset}
        assert not any(other in name for name in names)
        assert any("shoes" in n for n in names) and any("fedora" in n for n in names)
        assert sample_asset_hair(rng, {**base, "gender": gender}, catalog()) is not None
    assert sample_asset_outfit(rng, {**base, "age": 0.3, "gender": 0.1}, catalog()) == ()
    assert sample_asset_skin(rng, {**base, "gender": 0.1}, catalog()) is None


def test_cloth_keeps_the_distance_it_had() -> None:
    from render.people.makehuman.wear import Solid

    u, v = np.meshgrid(np.linspace(0, 0.1, 11), np.linspace(0, 0.1, 11))
    flat = np.stack([u, v, 0 * u], axis=2).reshape(-1, 3)
    up = np.tile([0.0, 0.0, 1.0], (len(flat), 1))
    index = np.arange(121).reshape(11, 11)
    a, b, c = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel()
    faces = np.stack([a, b, c], axis=1).astype(np.int32)
    rest, sunk = flat + np.array([0, 0, 0.003]), flat - np.array([0, 0, 0.004])
    moved = keep_off(rest, sunk, faces, [Solid(flat, up, flat, up)])
    assert (moved[:, 2] >= 0.003 - 1e-9).all() and (moved[:, 2] < 0.012).all()


# Textures, which the shared assets lack: made here


@pytest.fixture
def painted(folder: Path) -> Path:
    from PIL import Image

    image = np.zeros((8, 8, 4), dtype=np.uint8)
    image[:, :4], image[:, 4:] = (220, 20, 20, 255), (20, 20, 220, 0)
    Image.fromarray(image).save(folder / "clothes/patch/patch.png")
    skins = folder / "skins/young_caucasian_male"
    skins.mkdir(parents=True)
    (skins / "young_caucasian_male.mhmat").write_text("name skin\ndiffuseTexture skin.png\n")
    Image.fromarray(np.full((16, 16, 3), (30, 160, 60), dtype=np.uint8)).save(skins / "skin.png")
    return folder


def test_textures_reach_the_shader(painted: Path) -> None:
    from render.materials import build_material
    from render.nodes import OPACITY
    from render.people.makehuman.looks import photo_material, textured

    pytest.importorskip("bpy")
    opened = open_catalog(painted)
    cloth = textured(opened.find(opened.spec("clothes/patch/patch.mhclo")))
    assert cloth is not None and str(painted) not in repr(cloth)
    built = build_material(cloth)
    assert OPACITY in built.node_tree.nodes
    spec = sample_person(np.random.default_rng(0))
    asset = sample_asset_skin(
        np.random.default_rng(0),
        {"gender": 0.1, "age": 0.6, "african": 0.1, "asian": 0.1, "caucasian": 0.8},
        opened,
    )
    assert asset is not None
    skin = photo_material(spec.skin, opened.find(asset))
    images = [n.image for n in build_material(skin).node_tree.nodes if n.type == "TEX_IMAGE"]
    assert [tuple(i.size) for i in images] == [(16, 16)] and str(painted) not in repr(skin)


def test_a_photograph_is_the_skin(painted: Path) -> None:
    opened = open_catalog(painted)
    drawn = sample_person(np.random.default_rng(0))
    spec = replace(drawn, hair=replace(drawn.hair, style="bald", beard=0.0, moustache=0.0))
    photo = opened.spec("skins/young_caucasian_male/young_caucasian_male.mhmat")
    person = build_person(replace(spec, skin=replace(spec.skin, photo=photo)), opened)
    body = next(s for s in person.surfaces if s.name == "body")
    assert body.material.kind == "photo_skin" and body.material.params["sha256"] == photo.sha256
    with pytest.raises(VitruvianError, match="--asset-folder"):
        build_person(replace(spec, skin=replace(spec.skin, photo=photo)))
