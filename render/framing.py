"""Where to put the camera so that a region of a person fills the asked share of the frame, for any focal
length.

The unknown is the camera's position; its orientation and focal length are drawn first. No bpy, no rendering.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float, Float64
from pydantic import AfterValidator, Field

from render.spec import SENSOR_WIDTH_MM, CameraSpec
from shards.config import Config
from shards.errors import VitruvianError

FramingName = Literal["face", "upper_body", "full_body"]

_LOWEST_CAMERA = 0.1  # m above the ground
_NEAREST_SURFACE = 0.12  # m: anything nearer than this to the lens is a camera inside a sleeve
_SOLVER_STEPS = 200
_SOLVER_TOLERANCE = 1e-4  # of the frame
_ATTEMPTS = 24


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"expected [low, high] with low <= high, got {list(bounds)}")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
Share = Annotated[float, Field(ge=0.05, le=1.0)]
Focal = Annotated[float, Field(ge=8.0, le=600.0)]


class Framing(Config):
    """How one kind of picture is framed. Angles are uniform in their range, focal lengths log-uniform."""

    weight: float = Field(default=1.0, ge=0, description="how often, relative to the other framings")
    share: Annotated[tuple[Share, Share], AfterValidator(_ordered)] = Field(
        default=(0.6, 0.9), description="of the frame's tighter side that the region fills"
    )
    margin: float = Field(default=0.03, ge=0, lt=0.5, description="of the frame kept free around the region")
    focal_mm: Annotated[tuple[Focal, Focal], AfterValidator(_ordered)] = Field(
        default=(28.0, 85.0), description="focal length for a sensor 36 mm wide"
    )
    frontal_share: float = Field(
        default=0.8, ge=0, le=1, description="views from the frontal range; the rest: all around"
    )
    frontal_deg: float = Field(default=75.0, ge=0, le=180, description="the frontal range is +- this azimuth")
    elevation_deg: Range = Field(
        default=(-12.0, 25.0), description="camera above (+) or below the region's centre"
    )
    roll_deg: Range = Field(default=(-4.0, 4.0), description="camera roll")
    principal_shift: float = Field(
        default=0.0, ge=0, le=0.5, description="largest shift of the principal point, of the width"
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


@dataclass(frozen=True)
class View:
    """One draw: direction the region is seen from, lens, and where in the frame the region's box lies.

    azimuth_deg: 0 = from the front (-y), 90 = from the person's left (+x). share: of the frame's tighter
    side. slack: how the free space beyond the margins is split, (0, 0) = box at the top left, (0.5, 0.5) =
    centred.
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
        tangents = local[:, :2] / local[:, 2:]
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


def sample_camera(
    rng: np.random.Generator,
    regions: Mapping[str, Float[np.ndarray, "_ 3"]],
    name: FramingName,
    framing: Framing,
    aspect: float,
) -> CameraSpec:
    """Draw views until one can be had with the camera above the ground and clear of every surface.

    regions: world points by framing name; "full_body" holds all. aspect: height / width. A camera that would
    sink into the ground is raised by 5 degrees at a time. Raises VitruvianError when no draw works.
    """
    for _ in range(_ATTEMPTS):
        view = framing.draw(rng)
        for raised in np.arange(view.elevation_deg, max(45.0, view.elevation_deg) + 1, 5.0):
            candidate = View(**{**vars(view), "elevation_deg": float(raised)})
            position = solve_position(regions[name], candidate, aspect)
            if position is None:
                break
            if position[2] >= _LOWEST_CAMERA:
                spec = _camera_spec(candidate, position, name)
                if _is_clear(spec, regions["full_body"], aspect):
                    return spec
                break
    raise VitruvianError(
        f"framing {name}: no camera in {_ATTEMPTS} draws fits {framing!r}; widen its focal length or share"
    )


def _camera_spec(view: View, position: Float64[np.ndarray, "3"], name: str) -> CameraSpec:
    pose = np.eye(4)
    pose[:3, :3] = view.rotation()
    pose[:3, 3] = -pose[:3, :3] @ position
    rows = tuple(tuple(float(value) for value in row) for row in pose)
    return CameraSpec(view.focal_mm, rows, view.shift_x, view.shift_y, name)  # type: ignore[arg-type]


def _is_clear(spec: CameraSpec, surface: Float[np.ndarray, "_ 3"], aspect: float) -> bool:
    """Whether no surface point inside the view cone is nearer than a hand's breadth."""
    pose = np.array(spec.world_to_camera)
    local = surface @ pose[:3, :3].T + pose[:3, 3]
    return bool(np.linalg.norm(local, axis=1).min() > _NEAREST_SURFACE)
