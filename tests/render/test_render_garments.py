"""Clothes: cuts without slivers, cloth off what it lies on, skin that is covered, outfits that vary."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from scipy.spatial import Delaunay

from render.people import build_person, sample_person
from render.people.accessories import ACCESSORIES
from render.people.body import body_model, pose_skeleton, shape_body, skin
from render.people.cloth import body_solid, even_edges
from render.people.drape import Feel, drape
from render.people.garments import STYLES, dress
from render.people.mesh import boundary_edges, clip, face_normals, snap
from render.people.palette import PATTERNS
from render.people.parts import PART
from render.people.phenotype import sample_phenotype
from render.people.shoes import SHOES
from render.people.spec import GarmentSpec, PersonSpec
from render.people.through import skin_through
from render.people.wardrobe import CUTS, _garment, sample_outfit, suit_to_beard, suit_to_pose
from render.person import Person, Surface

COVERED = 0.002  # most skin through clothes, of their pixels
BODIES = (3, 30, 39)  # seeds: a heavy old man bending an arm, a running child, a sitting woman
BENT = {f"upperleg01.{side}": (-70.0, 0.0, 0.0) for side in "LR"}


def wearing(seed: int, *kinds: str) -> PersonSpec:
    rng = np.random.default_rng([seed, 7])
    return replace(
        sample_person(np.random.default_rng(seed)),
        garments=tuple(_garment(rng, kind, list(kinds)) for kind in kinds),
    )


@lru_cache(maxsize=8)
def built(seed: int, *kinds: str) -> Person:
    return build_person(wearing(seed, *kinds))


def surfaces(person: Person, kind: str) -> list[Surface]:
    return [s for s in person.surfaces if s.name == kind]


def flat_mesh() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random triangles in the unit square, and a level whose zero is a circle."""
    points = np.random.default_rng(0).random((400, 2))
    faces = Delaunay(points).simplices.astype(np.int32)
    level = np.sqrt(((points - 0.5) ** 2).sum(1)) - 0.3
    return np.concatenate([points, np.zeros((400, 1))], axis=1), faces, level


def areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(face_normals(points, faces)[:, 2]) / 2)


@pytest.mark.parametrize("snapped", [False, True])
def test_both_sides_of_a_cut_are_the_whole(snapped: bool) -> None:
    points, faces, level = flat_mesh()
    if snapped:
        points, level = snap(points, faces, level)
    both = sum(areas(*clip(points, faces, side)).sum() for side in (level, -level))
    assert both == pytest.approx(areas(points, faces).sum(), rel=1e-12)


def test_snapping_leaves_no_slivers_at_the_cut() -> None:
    points, faces, level = flat_mesh()
    rough = areas(*clip(points, faces, level)).min()
    points, level = snap(points, faces, level)
    inside, kept = clip(points, faces, level)
    assert areas(inside, kept).min() > 10 * rough
    assert areas(inside, kept).min() >= areas(points, faces).min() / 4


def test_draped_cloth_rests_on_a_ball_without_entering_or_stretching() -> None:
    rng = np.random.default_rng(1)
    directions = rng.normal(size=(4000, 3))
    directions /= np.sqrt((directions**2).sum(1, keepdims=True))
    ball = (0.15 * directions, directions)
    side = np.linspace(-0.2, 0.2, 33)
    sheet = np.stack(
        [*(axis.reshape(-1) for axis in np.meshgrid(side, side)), np.full(33 * 33, 0.16)], axis=1
    )
    faces = Delaunay(sheet[:, :2]).simplices.astype(np.int32)
    up = face_normals(sheet, faces)[:, 2] > 0
    faces = np.where(up[:, None], faces, faces[:, ::-1]).astype(np.int32)
    out = drape(sheet, sheet, faces, np.zeros(len(sheet)), [ball], Feel(0.004, 1.0, 0.2))
    assert np.sqrt((out**2).sum(1)).min() > 0.15
    assert out[:, 2].min() < 0.13, "it hangs over the side"
    edge = faces[:, [0, 1]]
    length = [np.sqrt(((p[edge[:, 0]] - p[edge[:, 1]]) ** 2).sum(1)).mean() for p in (sheet, out)]
    assert length[1] == pytest.approx(length[0], rel=0.05)


@pytest.mark.parametrize(("turn", "kind"), list(enumerate(sorted(STYLES))))
def test_every_garment_covers_what_it_cuts(turn: int, kind: str) -> None:
    check_garment(kind, BODIES[turn % len(BODIES)])


@pytest.mark.slow
@pytest.mark.parametrize("seed", BODIES)
@pytest.mark.parametrize("kind", sorted(STYLES))
def test_every_garment_covers_every_body(kind: str, seed: int) -> None:
    check_garment(kind, seed)


def check_garment(kind: str, seed: int) -> None:
    person = built(seed, kind)
    made, socks = surfaces(person, kind), {PART["Left_Sock"], PART["Right_Sock"]}
    assert made, "the garment is there"
    assert skin_through(person) <= COVERED
    wanted = {PART[p.part] for p in STYLES[kind] if p.part != "Sock"} or socks
    found = {int(i) for s in made for i in np.unique(s.part_ids)}
    assert wanted <= found <= wanted | socks
    for surface in made:
        assert np.isfinite(surface.vertices).all()
        assert np.abs(np.sqrt((surface.normals**2).sum(1)) - 1).max() < 1e-6


def test_skin_through_clothes_is_noticed() -> None:
    """Of a shirt sunk by 2 cm, the skin near its edges shows; what is deeper inside is not drawn at all."""
    person = built(3, "tshirt", "jeans")
    sunk = tuple(
        replace(s, vertices=s.vertices - 0.02 * s.normals) if s.name == "tshirt" else s
        for s in person.surfaces
    )
    assert skin_through(person) <= COVERED
    assert skin_through(replace(person, surfaces=sunk)) > 3 * COVERED


def test_a_top_under_trousers_is_tucked_in() -> None:
    tucked, loose = built(22, "tshirt", "chinos"), built(22, "chinos", "tshirt")
    low = {
        name: min(float(s.vertices[:, 2].min()) for s in surfaces(person, "tshirt"))
        for name, person in (("tucked", tucked), ("loose", loose))
    }
    waist = max(float(s.vertices[:, 2].max()) for s in surfaces(tucked, "chinos"))
    assert low["loose"] < waist - 0.05 < low["tucked"]


def test_clothes_stay_off_the_body() -> None:
    spec = wearing(30, "trousers", "sweater", "coat")
    model = body_model()
    shape = shape_body(spec.phenotype, spec.face, model)
    skeleton = pose_skeleton(shape, spec.pose, model)
    posed = skin(shape.vertices, model.weights, model.weight_bones, skeleton)
    dressed = dress(spec.garments, shape, skeleton, posed, model)
    points, normals = body_solid(model, posed)
    for surface in dressed.surfaces[:3]:
        away = surface.vertices[:, None] - points[None, ::7]
        nearest = np.argmin((away**2).sum(2), axis=1)
        gap = (away[np.arange(len(away)), nearest] * normals[::7][nearest]).sum(1)
        assert np.mean(gap < -0.004) < 0.03, surface.name


def test_hems_are_even() -> None:
    """An open edge zigzags less after evening; its corners then turn by less than a right angle."""
    points, faces, level = flat_mesh()
    points, faces = clip(points, faces, level)
    ragged = points + 0.004 * np.random.default_rng(2).normal(size=points.shape)
    assert sharp_corners(ragged, faces) > 3 * sharp_corners(even_edges(ragged, faces, 5), faces)


def sharp_corners(points: np.ndarray, faces: np.ndarray) -> int:
    after = {int(a): int(b) for a, b in boundary_edges(faces)}
    steps = [(points[b] - points[a], points[after[b]] - points[b]) for a, b in after.items() if b in after]
    return sum(
        float((one * two).sum()) < 0.5 * float(np.sqrt((one**2).sum() * (two**2).sum())) for one, two in steps
    )


@pytest.mark.parametrize("seed", range(40))
def test_outfits_are_known_and_decent(seed: int) -> None:
    rng = np.random.default_rng(seed)
    phenotype = sample_phenotype(rng)
    kinds = [garment.kind for garment in sample_outfit(rng, phenotype)]
    assert set(kinds) <= set(STYLES) | set(SHOES) | set(ACCESSORIES)
    assert set(kinds) <= set(CUTS) and set(kinds) <= set(PATTERNS)
    assert len(kinds) == len(set(kinds))
    legs = {"trousers", "chinos", "jeans", "joggers", "shorts", "leggings", "skirt", "dress"}
    assert legs & set(kinds)
    if phenotype["gender"] > 0.5 or phenotype["age"] < 0.55:
        tops = {kind for kind in kinds if kind in CUTS and "sleeve" in CUTS[kind]}
        assert tops, "women and children are covered above"


def test_two_people_seldom_wear_the_same() -> None:
    looks = set()
    everyone = [sample_phenotype(np.random.default_rng(seed)) for seed in range(120)]
    for seed, phenotype in enumerate(everyone):
        worn = sample_outfit(np.random.default_rng([seed, 1]), phenotype)
        looks.add(
            tuple((g.kind, g.fabric.pattern, tuple(round(c, 1) for c in g.fabric.colour)) for g in worn)
        )
    assert len(looks) >= 118


def test_masks_are_not_worn_over_beards() -> None:
    spec = wearing(3, "tshirt", "mask")
    shaven, bearded = (replace(spec.hair, beard=length, moustache=0.0) for length in (0.0, 0.02))
    assert suit_to_beard(spec.garments, shaven) == spec.garments
    assert [g.kind for g in suit_to_beard(spec.garments, bearded)] == ["tshirt"]


def test_who_sits_in_a_skirt_wears_tights() -> None:
    rng = np.random.default_rng(0)
    outfit = tuple(_garment(rng, kind, []) for kind in ("socks", "briefs", "skirt", "tshirt", "sneaker"))

    def kinds(worn: tuple[GarmentSpec, ...]) -> list[str]:
        return [garment.kind for garment in worn]

    assert kinds(suit_to_pose(rng, outfit, {})) == kinds(outfit)
    assert kinds(suit_to_pose(rng, outfit, BENT)) == ["tights", "skirt", "tshirt", "sneaker"]
    trousered = tuple(garment for garment in outfit if garment.kind not in ("briefs", "skirt"))
    assert suit_to_pose(rng, trousered, BENT) == trousered
