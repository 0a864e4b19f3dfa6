"""Depth, normals and mask of real renders against an independent ray cast (embree) and an analytic sphere.

Every ray goes through the stored K and pose; every interior pixel must agree before any codec touches it.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import trimesh

from annotation.camera import Camera, look_at
from render import passes
from render.engine import built_person
from render.people import sample_person
from render.person import Material, Person, Surface
from render.scene import Scene, shared_scene
from render.spec import CameraSpec, Placement

DEPTH_TOLERANCE = 1e-5  # m
ROUNDING = 2e-6  # m: where a float32 ray a few metres long meets a triangle
NORMAL_TOLERANCE = 0.05  # degrees
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class Setup:
    """One way to hold a camera: image size, lens, principal point, and where it stands."""

    width: int
    height: int
    focal_mm: float
    shift: tuple[float, float]
    position: tuple[float, float, float]

    def camera(self) -> Camera:
        pose = look_at(np.array(self.position), np.array([0.0, 0.0, 0.9]), UP)
        rows = tuple(tuple(row) for row in pose.tolist())
        return CameraSpec(self.focal_mm, rows, *self.shift).camera(self.width, self.height)


SETUPS = {
    "portrait": Setup(96, 128, 50.0, (0.0, 0.0), (0.4, -3.0, 1.2)),
    "landscape shifted": Setup(128, 96, 35.0, (0.15, -0.1), (-2.0, -1.5, 0.6)),
    "wide portrait shifted": Setup(72, 128, 14.0, (-0.1, 0.2), (0.3, 1.2, 1.2)),
    "long": Setup(96, 96, 200.0, (0.0, 0.0), (3.0, -9.0, 2.0)),
}


@dataclass(frozen=True)
class Truth:
    mask: np.ndarray
    depth: np.ndarray
    normal: np.ndarray
    turn: np.ndarray  # degrees that the normal may turn when the hit moves by ROUNDING


def _render(scene: Scene, camera: Camera) -> tuple[passes.Channels, Truth]:
    scene.set_camera(camera)
    channels = scene.render_truth()
    view = passes.View(channels["coverage"] > 0.5, camera)
    normal = passes.ShadingNormal().decode(channels["shading_normal"], view)
    depth = passes.decode_depth(channels["Depth"], view)
    return channels, Truth(view.person, depth, normal, np.zeros_like(depth))


def _load(person: Person) -> Scene:
    scene = shared_scene()
    scene.load_people([person], [Placement()])
    scene.cast = None  # the next engine must load its own
    return scene


def _cast(surfaces: tuple[Surface, ...], camera: Camera) -> Truth:
    """The same image by embree, refined in float64: first hit, interpolated normal turned toward the eye."""
    counts = np.cumsum([0] + [len(s.vertices) for s in surfaces])
    vertices = np.concatenate([s.vertices for s in surfaces])
    faces = np.concatenate([s.faces + start for s, start in zip(surfaces, counts[:-1], strict=True)])
    normals = np.concatenate([s.normals for s in surfaces])
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    rays = camera.rays().reshape(-1, 3)
    origins = np.tile(camera.position, (len(rays), 1))
    triangle = mesh.ray.intersects_first(origins, rays)
    hit = triangle >= 0
    a, b, c = (vertices[faces[triangle[hit], corner]] for corner in range(3))
    weights = _barycentric(camera.position, rays[hit], a, b, c)
    depth = np.zeros(len(rays))
    depth[hit] = weights[:, 3]
    shading = np.einsum("nk,nkc->nc", weights[:, :3], normals[faces[triangle[hit]]])
    back = np.einsum("nc,nc->n", np.cross(b - a, c - a), rays[hit]) > 0
    shading[back] *= -1
    normal = np.zeros((len(rays), 3))
    normal[hit] = camera.world_normals_to_label(shading / np.linalg.norm(shading, axis=1, keepdims=True))
    turn = np.zeros(len(rays))
    turn[hit] = _turn(np.stack([a, b, c], axis=1), normals[faces[triangle[hit]]])
    shape = (camera.height, camera.width)
    return Truth(hit.reshape(shape), depth.reshape(shape), normal.reshape(*shape, 3), turn.reshape(shape))


def _turn(corners: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Largest angle between a triangle's normals (n, 3, 3), per smallest altitude, times the rounding."""
    edges = np.roll(corners, -1, axis=1) - corners
    area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    altitude = area / np.linalg.norm(edges, axis=2).max(axis=1)
    spread = _degrees(normals, np.roll(normals, -1, axis=1)).max(axis=1)
    return np.asarray(spread * ROUNDING / altitude)


def _barycentric(
    origin: np.ndarray, rays: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> np.ndarray:
    """(n, 4): weights of the three corners and the ray parameter (z depth), solved in float64."""
    system = np.stack([b - a, c - a, -rays], axis=-1)
    u, v, t = np.linalg.solve(system, (origin - a)[..., None])[..., 0].T
    return np.stack([1 - u - v, u, v, t], axis=1)


def _interior(mask: np.ndarray) -> np.ndarray:
    """Pixels whose eight neighbours are all on the mask."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.asarray(np.logical_and.reduce(shifted))


def _degrees(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    cross = np.linalg.norm(np.cross(one.astype(np.float64), other), axis=-1)
    return np.asarray(np.degrees(np.arctan2(cross, np.einsum("...c,...c->...", one, other))))


def _sphere(radius: float, centre: tuple[float, float, float]) -> Person:
    ball = trimesh.creation.icosphere(subdivisions=7, radius=1.0)
    directions = ball.vertices / np.linalg.norm(ball.vertices, axis=1, keepdims=True)
    surface = Surface(
        name="ball",
        vertices=np.asarray(directions * radius + centre, np.float64),
        faces=np.asarray(ball.faces, np.int32),
        normals=np.asarray(directions, np.float64),
        uv=None,
        part_ids=np.full(len(ball.faces), 21, np.uint8),
        material=_skin(),
    )
    return Person((surface,), np.zeros((17, 3)), 1.0, {})


def _skin() -> Material:
    return built_person(sample_person(np.random.default_rng(0))).surfaces[0].material


@pytest.fixture(scope="module")
def ball() -> tuple[Person, Scene]:
    person = _sphere(0.5, (0.0, 0.0, 0.9))
    return person, _load(person)


@pytest.mark.parametrize("name", SETUPS)
def test_analytic_sphere(name: str, ball: tuple[Person, Scene]) -> None:
    camera = SETUPS[name].camera()
    _, got = _render(ball[1], camera)
    rays, centre = camera.rays(), np.array([0.0, 0.0, 0.9])
    offset = camera.position - centre
    a = np.einsum("hwc,hwc->hw", rays, rays)
    b = rays @ offset
    root = b * b - a * (offset @ offset - 0.25)
    mask = root > 0
    depth = (-b - np.sqrt(np.where(mask, root, 0))) / a
    normal = camera.world_normals_to_label((camera.position + depth[..., None] * rays - centre) / 0.5)
    inside = _interior(mask)
    assert inside.sum() > 150
    assert not (got.mask != mask)[inside].any()
    # Facets lie up to 5e-6 m under the sphere; seen at a slant that grows by 1 / cos.
    slant = np.abs(np.einsum("hwc,hwc->hw", normal, camera.world_normals_to_label(rays))) / np.sqrt(a)
    assert (np.abs(got.depth - depth) * slant)[inside].max() < DEPTH_TOLERANCE
    assert _degrees(got.normal, normal)[inside & (slant > 0.2)].max() < NORMAL_TOLERANCE
    assert np.abs(np.linalg.norm(got.normal[got.mask].astype(np.float64), axis=-1) - 1).max() < 1e-6
    assert not got.depth[~got.mask].any() and not got.normal[~got.mask].any()


@pytest.fixture(scope="module")
def dressed() -> tuple[Person, Scene]:
    person = built_person(sample_person(np.random.default_rng(11)))
    return person, _load(person)


@pytest.mark.parametrize("name", SETUPS)
def test_real_person_against_embree(name: str, dressed: tuple[Person, Scene]) -> None:
    camera = SETUPS[name].camera()
    _, got = _render(dressed[1], camera)
    wanted = _cast(dressed[0].surfaces, camera)
    inside = _interior(wanted.mask)
    assert inside.sum() > 150
    assert not (got.mask != wanted.mask)[inside].any()
    tolerance = DEPTH_TOLERANCE * max(1.0, float(wanted.depth.max()))
    assert np.abs(got.depth - wanted.depth)[inside].max() < tolerance
    # On a sliver whose normals fan out, float32 rounding of the hit is a turn of its own: rare, and counted.
    sliver = wanted.turn > NORMAL_TOLERANCE
    assert (sliver & inside).sum() <= 0.01 * inside.sum()
    assert _degrees(got.normal, wanted.normal)[inside & ~sliver].max() < NORMAL_TOLERANCE


@pytest.mark.parametrize("name", SETUPS)
def test_reprojection_through_the_stored_camera(name: str, dressed: tuple[Person, Scene]) -> None:
    """Cycles' own surface positions land on their pixels' centres, within a thousandth of a pixel."""
    layer = dressed[1].scene.view_layers[0]
    layer.use_pass_position = True
    try:
        camera = SETUPS[name].camera()
        channels, got = _render(dressed[1], camera)
    finally:
        layer.use_pass_position = False
    rows, columns = np.nonzero(got.mask)
    xy = camera.project(channels["Position"][rows, columns].astype(np.float64))[:, :2]
    assert np.abs(xy - np.stack([columns, rows], axis=1)).max() < 1e-3
