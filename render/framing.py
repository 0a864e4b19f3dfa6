"""Where to put the camera so that a region of a person fills the asked share of the frame, for any focal
length.

The unknown is the camera's position; its orientation and focal length are drawn first. No bpy, no rendering.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Float64
from pydantic import AfterValidator, Field, model_validator
from scipy.spatial import ConvexHull, QhullError, cKDTree

from render.person import Person
from render.ranges import Order, Range, ordered
from render.regions import FramingName, framing_regions, surface_points
from render.spec import SENSOR_WIDTH_MM, CameraSpec, Placement, Triple
from shards.config import Config
from shards.errors import VitruvianError

_LOWEST_CAMERA = 0.1  # m above the ground
_NEAREST_SURFACE = 0.12  # m: anything nearer than this to the lens is a camera inside a sleeve
_SOLVER_STEPS = 200
_SOLVER_TOLERANCE = 1e-4  # of the frame
_ATTEMPTS = 24
_HIDDEN_LIMIT = 0.5  # of the region's box
_HIDING_CELLS = 12  # per side of that box
_IN_FRONT = 0.05  # m


Share = Annotated[float, Field(ge=0.05, le=1.0)]
Focal = Annotated[float, Field(ge=8.0, le=600.0)]


class Framing(Config):
    """How one kind of picture is framed. Angles are uniform in their range, focal lengths log-uniform."""

    weight: float = Field(ge=0, description="how often, relative to the other framings")
    share: Annotated[tuple[Share, Share], AfterValidator(ordered)] = Field(
        description="of the frame's tighter side that the region fills"
    )
    margin: float = Field(ge=0, lt=0.5, description="of the frame kept free around the region")
    focal_mm: Annotated[tuple[Focal, Focal], AfterValidator(ordered)] = Field(
        description="focal length for a sensor 36 mm wide"
    )
    frontal_share: float = Field(ge=0, le=1, description="views from the frontal range; the rest: all around")
    frontal_deg: float = Field(ge=0, le=180, description="the frontal range is +- this azimuth")
    elevation_deg: Range = Field(description="camera above (+) or below the region's centre")
    roll_deg: Range = Field(description="camera roll")
    principal_shift: float = Field(
        ge=0, le=0.5, description="largest shift of the principal point, of the width"
    )

    def draw(self, rng: np.random.Generator) -> "View":
        """A view of this kind: direction, lens and place in the frame."""
        frontal = rng.random() < self.frontal_share
        azimuth = rng.uniform(-1, 1) * (self.frontal_deg if frontal else 180.0)
        return View(
            azimuth_deg=azimuth,
            elevation_deg=rng.uniform(*self.elevation_deg),
            roll_deg=rng.uniform(*self.roll_deg),
            focal_mm=float(np.exp(rng.uniform(*np.log(self.focal_mm)))),
            share=min(rng.uniform(*self.share), 1 - 2 * self.margin),
            margin=self.margin,
            slack=(rng.uniform(), rng.uniform()),
            shift_x=rng.uniform(-1, 1) * self.principal_shift,
            shift_y=rng.uniform(-1, 1) * self.principal_shift,
        )


class Framings(Config):
    """The three kinds of picture and how each is framed.

    order: "drawn" by their weights, or "in_turn", view by view, over those with a weight.
    """

    order: Order
    face: Framing
    upper_body: Framing
    full_body: Framing

    @model_validator(mode="after")
    def _some_weight(self) -> "Framings":
        if sum(framing.weight for framing in self.named().values()) <= 0:
            raise ValueError("expected at least one framing with weight > 0")
        return self

    def named(self) -> dict[FramingName, Framing]:
        """Framing by name, in a fixed order."""
        return {"face": self.face, "upper_body": self.upper_body, "full_body": self.full_body}

    def choose(self, rng: np.random.Generator, view: int, available: Sequence[FramingName]) -> FramingName:
        """The framing of a view. Raises NoCamera when none that is available has a weight."""
        weights = {name: f.weight for name, f in self.named().items() if f.weight and name in available}
        if not weights:
            raise NoCamera(f"framings: none with a weight is available, only {list(available)}")
        names = list(weights)
        if self.order == "in_turn":
            return names[view % len(names)]
        shares = np.array(list(weights.values()))
        return names[int(rng.choice(len(names), p=shares / shares.sum()))]


@dataclass(frozen=True)
class View:
    """One draw: direction the region is seen from, lens, and where in the frame the region's box lies.

    azimuth_deg: 0 = from the front (-y), 90 = from the person's left (+x). share: of the frame's tighter
    side. slack: how the free space beyond the margins is split, (0, 0) = box at the top left, (0.5, 0.5) =
    centred. distortion: of the lens, as in `EffectsSpec`; the box is that of the distorted picture.
    """

    azimuth_deg: float
    elevation_deg: float
    roll_deg: float
    focal_mm: float
    share: float
    margin: float = 0.03
    slack: tuple[float, float] = (0.5, 0.5)
    shift_x: float = 0.0
    shift_y: float = 0.0
    distortion: Triple = (0.0, 0.0, 0.0)

    def rotation(self) -> Float64[np.ndarray, "3 3"]:
        """World -> camera axes (OpenCV: x right, y down, z forward)."""
        azimuth, elevation, roll = np.deg2rad([self.azimuth_deg, self.elevation_deg, self.roll_deg])
        forward = -np.array(
            [np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        cos, sin = np.cos(roll), np.sin(roll)
        return np.stack([cos * right + sin * down, cos * down - sin * right, forward])


def solve_position(
    points: Float[np.ndarray, "n 3"], view: View, aspect: float
) -> Float64[np.ndarray, "3"] | None:
    """World position (m) from which `points` (world, m) fill the frame as `view` asks; None when there is
    none.

    aspect: height / width of the image. In tangent space (x/z, y/z) the frame is a box; the points' box
    depends on the camera's position smoothly, so a fixed-point step corrects sideways by the miss and in
    depth by the excess.
    """
    rotation = view.rotation()
    axes = points.astype(np.float64) @ rotation.T
    half = SENSOR_WIDTH_MM / 2 / view.focal_mm * np.array([1.0, aspect])
    frame_low = -half + 2 * half[0] * np.array([view.shift_x, -view.shift_y])
    centre = (axes.min(axis=0) + axes.max(axis=0)) / 2
    size = axes.max(axis=0) - axes.min(axis=0)
    distance = float((size[:2] / (2 * half * view.share)).max() + size[2] / 2)
    camera = centre - [0.0, 0.0, distance]
    nearest = axes[:, 2].min()
    for _ in range(_SOLVER_STEPS):
        local = axes - camera
        tangents = _distorted(local[:, :2] / local[:, 2:], view.distortion)
        low, high = tangents.min(axis=0), tangents.max(axis=0)
        extent = (high - low) / (2 * half)
        free = 1 - 2 * view.margin - extent
        wanted_low = frame_low + 2 * half * (view.margin + np.array(view.slack) * free)
        excess = float(extent.max() / view.share)
        miss = low - wanted_low
        if abs(excess - 1) < _SOLVER_TOLERANCE and float(np.abs(miss / half).max()) < _SOLVER_TOLERANCE:
            return np.asarray(camera @ rotation)
        gap = nearest - camera[2]
        camera[:2] += miss * (gap + centre[2] - camera[2]) / 2
        camera[2] = nearest - max(gap + 0.7 * (excess - 1) * (gap + size[2] / 4), 0.3 * gap, 0.02)
    return None


@dataclass(frozen=True, eq=False)
class Region:
    """What a framing shows, in the world (m). extreme: the corners of the convex hull of `points`; in every
    picture they have the box that all points have. heading_deg: which way it faces, 0 = -y.
    """

    points: Float64[np.ndarray, "n 3"]
    extreme: Float64[np.ndarray, "h 3"]
    heading_deg: float = 0.0


@dataclass(frozen=True, eq=False)
class Target:
    """What cameras can be aimed at, in the world (m).

    regions: framing name -> choices of subject: the whole group, or one person's face. surface: KD-tree of
    points on every surface, to within `regions.REACH`.
    """

    regions: Mapping[FramingName, tuple[Region, ...]]
    surface: Any

    def available(self, names: Sequence[FramingName]) -> tuple[FramingName, ...]:
        """Those of `names` that this target has."""
        return tuple(name for name in names if name in self.regions)


@dataclass(frozen=True, eq=False)
class Shot:
    """A camera and what it was aimed at."""

    camera: CameraSpec
    region: Region

    def distance(self) -> float:
        """Median depth of the region, in metres: where a photographer would focus."""
        return float(np.median(in_camera(self.camera, self.region.points)[:, 2]))


class NoCamera(VitruvianError):
    """No camera fits; `reason` is what a sample is rejected under."""

    reason = "framing:unsolved"


def aim_at(people: Sequence[Person], placements: Sequence[Placement]) -> Target:
    """Everything that a camera can be aimed at in a group: all of it, all upper bodies, each one's face.

    A framing that one of them lacks (a scan of a bust has no full body) is not available.
    """
    regions = [
        {name: placed(points, placement) for name, points in framing_regions(person).items()}
        for person, placement in zip(people, placements, strict=True)
    ]
    found: dict[FramingName, tuple[Region, ...]] = {}
    found["face"] = tuple(
        _region(region["face"], placement.heading_deg)
        for region, placement in zip(regions, placements, strict=True)
    )
    names: tuple[FramingName, ...] = ("upper_body", "full_body")
    for name in names:
        if all(name in region for region in regions):
            found[name] = (_region(np.concatenate([region[name] for region in regions]), 0.0),)
    surfaces = [placed(surface_points(p), at) for p, at in zip(people, placements, strict=True)]
    return Target(found, cKDTree(np.concatenate(surfaces)))


def sample_camera(
    rng: np.random.Generator,
    target: Target,
    name: FramingName,
    framing: Framing,
    aspect: float,
    distortion: Triple = (0.0, 0.0, 0.0),
) -> Shot:
    """Draw views until one can be had with the camera above the ground and clear of every surface, and with
    no more than half of the region behind something nearer.

    aspect: height / width. A camera that would sink into the ground is raised by 5 degrees at a time. Raises
    NoCamera when the target lacks the framing or no draw works.
    """
    if name not in target.regions:
        raise NoCamera(f"framing {name}: not available, expected one of {list(target.regions)}")
    choices = target.regions[name]
    for _ in range(_ATTEMPTS):
        region = choices[int(rng.integers(len(choices)))]
        drawn = framing.draw(rng)
        view = replace(drawn, azimuth_deg=drawn.azimuth_deg + region.heading_deg, distortion=distortion)
        for raised in np.arange(view.elevation_deg, max(45.0, view.elevation_deg) + 1, 5.0):
            candidate = replace(view, elevation_deg=float(raised))
            position = solve_position(region.extreme, candidate, aspect)
            if position is None:
                break
            if position[2] >= _LOWEST_CAMERA:
                spec = _camera_spec(candidate, position, name)
                if _is_clear(position, target) and _hidden_share(spec, region, target) <= _HIDDEN_LIMIT:
                    return Shot(spec, region)
                break
    raise NoCamera(
        f"framing {name}: no camera in {_ATTEMPTS} draws fits {framing!r}; widen its focal length or share"
    )


def _camera_spec(view: View, position: Float64[np.ndarray, "3"], name: str) -> CameraSpec:
    pose = np.eye(4)
    pose[:3, :3] = view.rotation()
    pose[:3, 3] = -pose[:3, :3] @ position
    rows = tuple(tuple(round(float(value), 9) for value in row) for row in pose)
    return CameraSpec(view.focal_mm, rows, view.shift_x, view.shift_y, name)  # type: ignore[arg-type]


def _is_clear(position: Float64[np.ndarray, "3"], target: Target) -> bool:
    """Whether no surface is nearer than a hand's breadth."""
    return bool(target.surface.query(position)[0] > _NEAREST_SURFACE)


def _hidden_share(spec: CameraSpec, region: Region, target: Target) -> float:
    """How much of the region's box in the picture lies behind surfaces nearer than all of it."""
    own, others = in_camera(spec, region.extreme), in_camera(spec, target.surface.data)
    nearer = others[(others[:, 2] < own[:, 2].min() - _IN_FRONT) & (others[:, 2] > 0)]
    tangents = own[:, :2] / own[:, 2:]
    low, size = tangents.min(axis=0), np.ptp(tangents, axis=0)
    cells = np.floor((nearer[:, :2] / nearer[:, 2:] - low) / size * _HIDING_CELLS).astype(np.int64)
    cells = cells[((cells >= 0) & (cells < _HIDING_CELLS)).all(axis=1)]
    return len(np.unique(cells, axis=0)) / _HIDING_CELLS**2


def in_camera(spec: CameraSpec, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """World points (m) in the camera's axes."""
    pose = np.array(spec.world_to_camera)
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def placed(points: Float64[np.ndarray, "n 3"], placement: Placement) -> Float64[np.ndarray, "n 3"]:
    pose = placement.matrix()
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def _region(points: Float64[np.ndarray, "n 3"], heading_deg: float) -> Region:
    try:
        return Region(points, points[np.sort(ConvexHull(points).vertices)], heading_deg)
    except QhullError:  # flat, or too few: as they are
        return Region(points, points, heading_deg)


def _distorted(tangents: Float64[np.ndarray, "n 2"], distortion: Triple) -> Float64[np.ndarray, "n 2"]:
    """OpenCV's radial distortion of points on the plane z = 1."""
    if not any(distortion):
        return tangents
    squared = (tangents**2).sum(axis=1, keepdims=True)
    k1, k2, k3 = distortion
    return np.asarray(tangents * (1 + squared * (k1 + squared * (k2 + squared * k3))))
