"""Groups stand apart by the gap asked for, whoever they are and however coarse their triangles; occluders
hide what they may. Checked by ray casts and by silhouettes drawn triangle by triangle, not by our own point
clouds.
"""

from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np
import pytest
import trimesh
from jaxtyping import Float64

from annotation.camera import Camera
from annotation.parts import IGNORE
from render.engine import built_person
from render.framing import Shot, aim_at, in_camera, sample_camera
from render.groups import place_people
from render.occluders import draw_occluders
from render.people import sample_person
from render.people.mesh import vertex_normals
from render.person import Material, Person, Surface
from render.props import occluder_mesh
from render.ranges import Facing, Occluders, People
from render.recipe import RenderConfig
from render.regions import REACH, framing_regions
from render.spec import Placement
from shards.errors import VitruvianError

FACING = Facing(front=1.0, each_other=1.0, anywhere=1.0, jitter_deg=20.0)


def _people(gap: tuple[float, float] = (0.05, 0.3), reach: float = 3.0) -> People:
    return People(weights=(1.0,), gap_m=gap, reach_m=reach, facing=FACING)


@cache
def _sampled(seed: int) -> Person:
    return built_person(sample_person(np.random.default_rng(seed)))


def _block(size: tuple[float, float, float]) -> Person:
    """A body of twelve triangles."""
    box = trimesh.creation.box(size)
    vertices = np.asarray(box.vertices, np.float64) + np.array([0, 0, size[2] / 2])
    faces = np.asarray(box.faces, np.int32)
    surface = Surface(
        "block",
        vertices,
        faces,
        vertex_normals(vertices, faces),
        None,
        np.full(len(faces), IGNORE, np.uint8),
        Material("skin"),
    )
    return Person((surface,), None, size[2])


def _mesh(person: Person, placement: Placement) -> trimesh.Trimesh:
    pieces = [trimesh.Trimesh(s.vertices, s.faces, process=False) for s in person.surfaces]
    mesh = trimesh.util.concatenate(pieces)
    return mesh.apply_transform(placement.matrix())


def _crosses(a: trimesh.Trimesh, b: trimesh.Trimesh) -> bool:
    """Whether an edge of `a` passes through a triangle of `b`."""
    start, stop = a.vertices[a.edges_unique[:, 0]], a.vertices[a.edges_unique[:, 1]]
    length = np.linalg.norm(stop - start, axis=1)
    kept = length > 1e-9
    low, high = b.bounds
    kept &= ((np.maximum(start, stop) >= low) & (np.minimum(start, stop) <= high)).all(axis=1)
    if not kept.any():
        return False
    direction = (stop - start)[kept] / length[kept, None]
    hits, rays, _ = b.ray.intersects_location(start[kept], direction, multiple_hits=False)
    return bool((np.linalg.norm(hits - start[kept][rays], axis=1) <= length[kept][rays]).any())


def _gap(a: trimesh.Trimesh, b: trimesh.Trimesh) -> float:
    """Distance of the surfaces, from points strewn on one to the triangles of the other: never too small."""
    points, _ = trimesh.sample.sample_surface(a, 40_000, seed=0)
    points = np.concatenate([points, a.vertices])
    low, high = b.bounds
    outside = np.linalg.norm(np.maximum(np.maximum(low - points, points - high), 0), axis=1)
    nearest = points[np.argsort(outside)[:400]]
    from_a = trimesh.proximity.closest_point_naive(_near(b, nearest, 0.8), nearest)[1].min()
    return float(from_a)


def _near(mesh: trimesh.Trimesh, points: np.ndarray, reach: float) -> trimesh.Trimesh:
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    corners = mesh.triangles
    kept = ((corners.max(axis=1) >= low) & (corners.min(axis=1) <= high)).all(axis=1)
    return mesh.submesh([np.flatnonzero(kept)], append=True)


def _placed(people: Mapping[str, Person], ranges: People, seed: int) -> list[trimesh.Trimesh]:
    placements = place_people(np.random.default_rng(seed), ranges, people)
    assert [placement.identity for placement in placements] == list(people)
    return [_mesh(p, at) for p, at in zip(people.values(), placements, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_sampled_people_do_not_touch(seed: int) -> None:
    people = {str(i): _sampled(i) for i in range(3)}
    meshes = _placed(people, _people(gap=(0.0, 0.1)), seed)
    for i in range(3):
        for j in range(3):
            if i != j:
                assert not _crosses(meshes[i], meshes[j])


@pytest.mark.parametrize("seed", range(10))
def test_the_gap_is_what_was_asked_for_even_between_a_dozen_triangles(seed: int) -> None:
    people = {"a": _block((0.5, 0.3, 1.8)), "b": _block((0.3, 0.9, 1.2))}
    first, second = _placed(people, _people(gap=(0.2, 0.2)), seed)
    assert not _crosses(first, second) and not _crosses(second, first)
    gap = min(_gap(first, second), _gap(second, first))
    assert 0.2 <= gap <= 0.2 + 2 * REACH + 0.03


def test_people_turn_to_each_other_when_told_to() -> None:
    facing = Facing(front=0.0, each_other=1.0, anywhere=0.0, jitter_deg=0.0)
    ranges = People(weights=(1.0,), gap_m=(0.3, 0.3), reach_m=3.0, facing=facing)
    people = {"a": _block((0.5, 0.3, 1.8)), "b": _block((0.5, 0.3, 1.7))}
    for seed in range(5):
        a, b = place_people(np.random.default_rng(seed), ranges, people)
        between = np.array([b.x - a.x, b.y - a.y]) / np.hypot(b.x - a.x, b.y - a.y)
        ahead = [p.matrix()[:2, :2] @ [0.0, -1.0] for p in (a, b)]
        assert np.allclose(ahead[0], between, atol=1e-5) and np.allclose(ahead[1], -between, atol=1e-5)


def test_whoever_is_alone_stands_at_the_origin_facing_front() -> None:
    placements = place_people(np.random.default_rng(0), _people(), {"7": _block((0.5, 0.3, 1.8))})
    assert placements == (Placement("7", 0.0, 0.0, 0.0),)


def test_no_place_within_reach_is_said_so() -> None:
    people = {"a": _block((2.0, 2.0, 1.8)), "b": _block((2.0, 2.0, 1.8))}
    with pytest.raises(VitruvianError, match=r"'b' within reach_m = 1.5 .* widen reach_m"):
        place_people(np.random.default_rng(0), _people(reach=1.5), people)


def test_pictures_of_a_group_hold_all_of_it_and_faces_one_of_it() -> None:
    people = {str(i): _sampled(i) for i in range(3)}
    framings = RenderConfig(recipe="multi-person-v1").framings.named()
    for seed in range(6):
        rng = np.random.default_rng(seed)
        placements = place_people(rng, _people(), people)
        target = aim_at(list(people.values()), placements)
        for name, framing in framings.items():
            camera = sample_camera(rng, target, name, framing, 4 / 3).camera.camera(300, 400)
            inside = [
                camera.contains(camera.project(_world(framing_regions(p)[name], at))).all()
                for p, at in zip(people.values(), placements, strict=True)
            ]
            assert any(inside) if name == "face" else all(inside)


def _world(points: Float64[np.ndarray, "n 3"], at: Placement) -> Float64[np.ndarray, "n 3"]:
    matrix = at.matrix()
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def _drawn(camera: Camera, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Silhouette of a mesh, triangle by triangle."""
    mask = np.zeros((camera.height, camera.width), np.uint8)
    pixels = camera.project(np.asarray(vertices, np.float64))[:, :2]
    for corners in np.round(pixels[faces] * 16).astype(np.int32):
        cv2.fillConvexPoly(mask, corners, 1, shift=4)
    return mask > 0


def test_occluders_hide_no_more_than_they_may_and_touch_nobody() -> None:
    person, limit = _sampled(3), 0.25
    ranges = Occluders(probability=1.0, count=(1, 3), size_m=(0.1, 0.6), between=0.7, hidden_share=limit)
    target = aim_at([person], [Placement("3")])
    body = _mesh(person, Placement("3"))
    framing = RenderConfig(recipe="train-v1").framings.full_body
    shares, count = [], 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        shot = sample_camera(rng, target, "full_body", framing, 4 / 3)
        camera = shot.camera.camera(150, 200)
        silhouette = _drawn(camera, body.vertices, body.faces)
        hidden = np.zeros_like(silhouette)
        for thing in draw_occluders(rng, ranges, shot, target, 4 / 3):
            count += 1
            vertices, faces, _ = occluder_mesh(thing)
            assert vertices[:, 2].min() > -1e-3
            assert np.linalg.norm(vertices - camera.position, axis=1).min() > 0.2
            mesh = trimesh.Trimesh(vertices, faces, process=False)
            assert not _crosses(mesh, body) and not _crosses(body, mesh)
            if _is_in_front(shot, vertices):
                hidden |= _drawn(camera, vertices, faces)
        shares.append((hidden & silhouette).sum() / silhouette.sum())
    assert max(shares) < limit + 0.02
    assert count > 12 and np.mean(np.array(shares) > 0) > 0.3


def _is_in_front(shot: Shot, vertices: Float64[np.ndarray, "v 3"]) -> bool:
    depth = in_camera(shot.camera, vertices)[:, 2]
    return bool(depth.min() > 0 and depth.min() < in_camera(shot.camera, shot.region.extreme)[:, 2].max())
