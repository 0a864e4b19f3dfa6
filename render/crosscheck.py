"""Labels by an independent ray cast: embree finds the triangles, float64 arithmetic does the rest. No bpy.

What Blender says about a scene can be held against what its triangles say: `RayCaster` gives mask, depth,
both normals and instance ids of any people under any camera, `disagreement` the worst differences. `RIGS` are
ten ways to hold a camera that between them find every mistake in a convention.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Shaped, UInt8

from annotation.camera import Camera, look_at
from annotation.labels import Labels
from annotation.parts import IGNORE
from render.lights import find_hdri, list_hdris
from render.people import PersonSpec
from render.person import Material, Person, Surface
from render.spec import SPEC_VERSION, CameraSpec, LightSpec, Placement, RenderSettings, SampleSpec, ScanSpec
from shards.errors import VitruvianError

NEARBY_PX = 1e-3
"""A float32 ray may pass this far beside its pixel's centre: what is asked of reprojection."""

_COINCIDENT = 3e-6  # of the distance: surfaces closer to each other than this may swap in float32
_BEYOND_SEEN = 1.5  # what any ray that near may change, over what the four that were cast did


@dataclass(frozen=True)
class Rig:
    """One way to hold a camera: image size (px), lens, principal point, roll, and where it stands.

    azimuth_deg: 0 = in front (-y), 90 = at the person's left (+x). distance: metres to the target.
    """

    width: int
    height: int
    focal_mm: float
    distance: float
    azimuth_deg: float = 0.0
    elevation_deg: float = 0.0
    roll_deg: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    def view(self, target: Float[np.ndarray, "3"]) -> CameraSpec:
        """The camera that looks at `target` (world, m)."""
        azimuth, elevation, roll = np.deg2rad([self.azimuth_deg, self.elevation_deg, self.roll_deg])
        level = np.cos(elevation)
        direction = np.array([np.sin(azimuth) * level, -np.cos(azimuth) * level, np.sin(elevation)])
        pose = look_at(target + self.distance * direction, target, np.array([0.0, 0.0, 1.0]))
        turn = np.eye(4)
        turn[:2, :2] = [[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]]
        rows = tuple(tuple(row) for row in (turn @ pose).tolist())
        return CameraSpec(self.focal_mm, rows, *self.shift)  # type: ignore[arg-type]

    def spec(
        self,
        person: PersonSpec | ScanSpec,
        target: Float[np.ndarray, "3"],
        settings: RenderSettings,
        hdri: str | None = None,
    ) -> SampleSpec:
        """A spec of one person under this camera and a bundled HDRI (default: the first by name)."""
        light = find_hdri(hdri or min(list_hdris()))
        return SampleSpec(
            recipe="crosscheck",
            version=SPEC_VERSION,
            seed=0,
            people=(person,),
            placements=(Placement(),),
            light=LightSpec(light.name, light.sha256, 0.0, light.neutral_ev),
            camera=self.view(target),
            settings=settings,
        )

    def probe(self, person: PersonSpec, target: Float[np.ndarray, "3"], scale: int = 1) -> SampleSpec:
        """A spec made for its labels: the picture has one sample a pixel. scale: of the image's sides."""
        size = self.width * scale, self.height * scale
        return self.spec(person, target, RenderSettings(*size, samples=1, denoise=False))


RIGS: Mapping[str, Rig] = {
    "portrait": Rig(48, 64, 50.0, 3.0, azimuth_deg=8.0, elevation_deg=6.0),
    "landscape": Rig(64, 48, 85.0, 4.0, azimuth_deg=-60.0, elevation_deg=10.0),
    "portrait shifted": Rig(48, 64, 35.0, 2.4, azimuth_deg=20.0, shift=(0.15, -0.1)),
    "landscape shifted": Rig(64, 48, 35.0, 2.6, azimuth_deg=-127.0, elevation_deg=-7.0, shift=(-0.12, 0.2)),
    "wide 14 mm": Rig(36, 64, 14.0, 1.1, azimuth_deg=160.0, elevation_deg=15.0, shift=(-0.1, 0.2)),
    "long 200 mm": Rig(48, 48, 200.0, 9.5, azimuth_deg=18.0, elevation_deg=7.0),
    "rolled": Rig(48, 64, 50.0, 3.2, azimuth_deg=75.0, elevation_deg=-4.0, roll_deg=37.0),
    "upside down from above": Rig(64, 48, 70.0, 3.6, azimuth_deg=-30.0, elevation_deg=70.0, roll_deg=180.0),
    "close": Rig(48, 64, 35.0, 0.8, azimuth_deg=-15.0, elevation_deg=4.0, roll_deg=-8.0),
    "far": Rig(96, 128, 200.0, 30.0, azimuth_deg=-100.0, elevation_deg=2.0, shift=(0.02, 0.03)),
}
"""Portrait, landscape, shifted principal points, 14 mm to 200 mm, rolled, 0.3 m from the nearest surface (the
target being half a metre under it) to 30 m. Sizes are small, to be scaled."""


@dataclass(frozen=True)
class Cast:
    """What the rays hit. depth: z in metres, 0 off the people. Normals: unit, in the frame of the normal
    label, (0, 0, 0) off the people.
    """

    mask: Bool[np.ndarray, "height width"]
    depth: Float64[np.ndarray, "height width"]
    normal: Float64[np.ndarray, "height width 3"]
    geometric_normal: Float64[np.ndarray, "height width 3"]
    instance: UInt8[np.ndarray, "height width"]
    parts: UInt8[np.ndarray, "height width"]


class RayCaster:
    """The triangles of `people`, each standing where their placement says, ready to be cast at."""

    def __init__(self, people: Sequence[Person], placements: Sequence[Placement]) -> None:
        import trimesh
        from trimesh.ray.ray_pyembree import RayMeshIntersector

        self._soup = _Soup.of(people, placements)
        points = self._soup.corners.reshape(-1, 3)
        mesh = trimesh.Trimesh(points, np.arange(len(points)).reshape(-1, 3), process=False)
        self._embree = RayMeshIntersector(mesh)

    def cast(self, camera: Camera) -> Cast:
        """The labels of one ray through each pixel's centre."""
        return self._cast(camera, np.zeros((camera.height, camera.width)), 1.0)

    def cast_around(self, camera: Camera) -> tuple[Cast, ...]:
        """The labels through the pixels' centres; of surfaces so little behind those that rounding may bring
        them forward; and through points `NEARBY_PX` left, right, above and below the centres.
        """
        centre = self.cast(camera)
        back = self._cast(camera, centre.depth * (1 + _COINCIDENT), -1.0)  # looking back at the first hit
        near = back.mask & (np.abs(back.depth - centre.depth) < _COINCIDENT * centre.depth)
        casts = [centre, _where(near, back, centre)]
        for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            K = camera.K.copy()
            K[:2, 2] += NEARBY_PX * x, NEARBY_PX * y
            casts.append(self.cast(Camera(K, camera.world_to_camera, camera.width, camera.height)))
        return tuple(casts)

    def _cast(self, camera: Camera, start: Float64[np.ndarray, "height width"], heading: float) -> Cast:
        """The labels of the first surface from z depth `start` (m) on each pixel's ray, onward (1) or back
        (-1).
        """
        rays = camera.rays().reshape(-1, 3)
        first = self._embree.intersects_first(camera.position + start.reshape(-1, 1) * rays, heading * rays)
        hit = first >= 0
        triangle = first[hit]
        corners, normals = self._soup.corners[triangle], self._soup.normals[triangle]
        weights, depth = _intersect(camera.position, rays[hit], corners)
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        toward = np.where(np.einsum("nc,nc->n", flat, rays[hit]) > 0, -1.0, 1.0)[:, None]
        smooth = np.einsum("nk,nkc->nc", weights, normals)
        mask = hit.reshape(camera.height, camera.width)
        return Cast(
            mask=mask,
            depth=_spread(depth, mask),
            normal=_spread(camera.world_normals_to_label(toward * _unit(smooth)), mask),
            geometric_normal=_spread(camera.world_normals_to_label(toward * _unit(flat)), mask),
            instance=_spread(self._soup.instance[triangle].astype(np.uint8), mask),
            parts=_spread(self._soup.parts[triangle], mask),
        )


@dataclass(frozen=True)
class Disagreement:
    """The worst differences between labels and casts, over the people's inner pixels (all eight neighbours
    are on people too); masks over all pixels.

    depth_rel (of the distance), normal_deg, geometric_normal_deg, mask_px: net, that is, less what moving the
    ray by `NEARBY_PX` (or on to a coincident surface) changes there. That only matters on edges, creases and
    surfaces seen edge-on. raw: the
    same without that allowance. unsettled: inner pixels beyond `tolerated_rel` or `tolerated_deg` without it.
    normal_length: of | |n| - 1 |.
    """

    pixels: int
    unsettled: int
    mask_px: int
    instance_px: int
    parts_px: int
    depth_rel: float
    normal_deg: float
    geometric_normal_deg: float
    normal_length: float
    raw: Mapping[str, float]


def disagreement(
    labels: Labels, casts: Sequence[Cast], tolerated_rel: float = 1e-5, tolerated_deg: float = 0.05
) -> Disagreement:
    """Labels held against the casts of `RayCaster.cast_around`.

    Raises VitruvianError when depth or normals are missing.
    """
    if labels.depth is None or labels.normal is None:
        raise VitruvianError("crosscheck: expected labels with depth and normals; got some without")
    cast, seen = casts[0], labels.depth > 0
    inside = interior(cast.mask) & seen
    scale = np.where(inside, cast.depth, 1.0)
    depth = np.abs(labels.depth - cast.depth) / scale
    shifts = np.max([np.abs(other.depth - cast.depth) for other in casts], axis=0)
    depth_slack = _BEYOND_SEEN * shifts / scale
    normal, normal_slack = _turned(labels.normal, [c.normal for c in casts])
    flat, flat_slack = np.zeros_like(normal), np.zeros_like(normal)
    if labels.geometric_normal is not None:
        flat, flat_slack = _turned(labels.geometric_normal, [c.geometric_normal for c in casts])
    masks = np.stack([c.mask for c in casts])
    instance = cast.instance if labels.instance is None else labels.instance
    parts = cast.parts if labels.parts is None else labels.parts
    beyond = (depth > tolerated_rel) | (np.maximum(normal, flat) > tolerated_deg)
    length = np.linalg.norm(labels.normal[seen].astype(np.float64), axis=-1)
    return Disagreement(
        pixels=int(inside.sum()),
        unsettled=int((beyond & inside).sum()),
        mask_px=int((masks != seen).all(axis=0).sum()),
        instance_px=int(np.all([instance != c.instance for c in casts], axis=0)[inside].sum()),
        parts_px=int(np.all([parts != c.parts for c in casts], axis=0)[inside].sum()),
        depth_rel=_worst((depth - depth_slack)[inside]),
        normal_deg=_worst((normal - normal_slack)[inside]),
        geometric_normal_deg=_worst((flat - flat_slack)[inside]),
        normal_length=_worst(np.abs(length - 1)),
        raw={
            "mask_px": float((cast.mask != seen).sum()),
            "depth_rel": _worst(depth[inside]),
            "normal_deg": _worst(normal[inside]),
            "geometric_normal_deg": _worst(flat[inside]),
        },
    )


def interior(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """Pixels whose eight neighbours are on the mask as they are; the image's border is not."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return np.asarray(np.logical_and.reduce(shifted))


def angle_deg(one: Float[np.ndarray, "*n 3"], other: Float[np.ndarray, "*n 3"]) -> Float64[np.ndarray, "*n"]:
    """Degrees between vectors, exact for small angles too; 0 where one of them vanishes."""
    cross = np.linalg.norm(np.cross(one.astype(np.float64), other), axis=-1)
    return np.asarray(np.degrees(np.arctan2(cross, np.einsum("...c,...c->...", one, other))), np.float64)


def ball(radius: float, centre: Float[np.ndarray, "3"], material: Material, subdivisions: int = 7) -> Person:
    """A sphere as a person, for labels that have a formula. Its facets lie up to 0.3 radius / 4**subdivisions
    under the sphere; its normals are the sphere's.
    """
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    directions = _unit(np.asarray(mesh.vertices, np.float64))
    surface = Surface(
        name="ball",
        vertices=directions * radius + centre,
        faces=np.asarray(mesh.faces, np.int32),
        normals=directions,
        uv=None,
        part_ids=np.full(len(mesh.faces), 255, np.uint8),
        material=material,
    )
    return Person((surface,), np.zeros((17, 3)), 2 * radius)


def cast_ball(radius: float, centre: Float[np.ndarray, "3"], camera: Camera) -> Cast:
    """The labels of the true sphere (its two normals are one)."""
    rays = camera.rays()
    offset = camera.position - centre
    a = np.einsum("hwc,hwc->hw", rays, rays)
    b = rays @ offset
    root = b * b - a * (offset @ offset - radius**2)
    mask = root > 0
    depth = np.where(mask, (-b - np.sqrt(np.where(mask, root, 0))) / a, 0.0)
    outward = (camera.position + depth[..., None] * rays - centre) / radius
    normal = np.where(mask[..., None], camera.world_normals_to_label(outward), 0.0)
    instance = mask.astype(np.uint8)
    return Cast(mask, depth, normal, normal, instance, instance * np.uint8(IGNORE))


@dataclass(frozen=True)
class _Soup:
    """Triangles in the world: corners and their normals (t, 3, 3), whose they are, and which part. Lenses
    that labels see through are not among them.
    """

    corners: Float64[np.ndarray, "t 3 3"]
    normals: Float64[np.ndarray, "t 3 3"]
    instance: Int32[np.ndarray, " t"]
    parts: UInt8[np.ndarray, " t"]

    @classmethod
    def of(cls, people: Sequence[Person], placements: Sequence[Placement]) -> "_Soup":
        corners, normals, instance, parts = [], [], [], []
        for index, (person, placement) in enumerate(zip(people, placements, strict=True), start=1):
            pose = placement.matrix()
            for surface in (s for s in person.surfaces if not s.material.clear):
                corners.append(surface.vertices[surface.faces] @ pose[:3, :3].T + pose[:3, 3])
                normals.append(surface.normals[surface.faces] @ pose[:3, :3].T)
                instance.append(np.full(len(surface.faces), index, np.int32))
                parts.append(surface.part_ids)
        return cls(*(np.concatenate(arrays) for arrays in (corners, normals, instance, parts)))


def _intersect(
    origin: Float64[np.ndarray, "3"], rays: Float64[np.ndarray, "n 3"], corners: Float64[np.ndarray, "n 3 3"]
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, " n"]]:
    """Weights of the three corners, and how many times the ray: its z is 1, so that is the depth."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    system = np.stack([b - a, c - a, -rays], axis=-1)
    u, v, t = np.linalg.solve(system, (origin - a)[..., None])[..., 0].T
    return np.stack([1 - u - v, u, v], axis=1), t


def _turned(label: np.ndarray, truths: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Degrees between the label and the first truth, and what the other truths allow."""
    others = [angle_deg(other, truths[0]) for other in truths]
    return angle_deg(label, truths[0]), np.asarray(_BEYOND_SEEN * np.max(others, axis=0))


def _spread(values: Shaped[np.ndarray, "..."], hit: Bool[np.ndarray, "height width"]) -> Any:
    """Values of the rays that hit, in an image that is 0 elsewhere."""
    image = np.zeros((*hit.shape, *values.shape[1:]), values.dtype)
    image[hit] = values
    return image


def _unit(vectors: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _where(chosen: Bool[np.ndarray, "height width"], one: Cast, other: Cast) -> Cast:
    """Pixels of `one` where chosen, of `other` elsewhere."""
    return Cast(
        mask=np.where(chosen, one.mask, other.mask),
        depth=np.where(chosen, one.depth, other.depth),
        normal=np.where(chosen[..., None], one.normal, other.normal),
        geometric_normal=np.where(chosen[..., None], one.geometric_normal, other.geometric_normal),
        instance=np.where(chosen, one.instance, other.instance),
        parts=np.where(chosen, one.parts, other.parts),
    )


def _worst(values: Float[np.ndarray, " n"]) -> float:
    return float(values.max(initial=0))
