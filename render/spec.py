"""What one rendered sample is made of: plain frozen data, no bpy. `SampleSpec` -> `render.engine.render` ->
sample.

Everything that changes a byte of the result is in here, and nothing else: not the thread count, the host or
the worker. The key of a sample is the digest of its spec.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import ConfigDict, TypeAdapter, ValidationError

from annotation.camera import Camera
from render.people import PersonSpec
from shards.errors import VitruvianError
from shards.sample import canonical_json, content_key

SENSOR_WIDTH_MM = 36.0
"""Focal lengths are for a sensor this wide, the image's *width* whatever its shape (fit HORIZONTAL)."""

SPEC_VERSION = 3
"""Raised when the same numbers begin to mean another picture (a new material, light path or label)."""

_STRICT = ConfigDict(extra="forbid")

ViewTransform = Literal["Standard", "Filmic", "AgX"]
Ground = Literal["occlusion", "shadow_catcher", "none"]
Background = Literal["hdri", "transparent"]
Row = tuple[float, float, float, float]
Matrix = tuple[Row, Row, Row, Row]
Triple = tuple[float, float, float]

LABELS = (
    "depth",
    "normal",
    "geometric_normal",
    "alpha",
    "instance",
    "albedo",
    "parts",
    "quality",
    "keypoints",
)
"""Every label that a render can carry. Parts, quality and keypoints are there where someone in the picture
has them."""


@dataclass(frozen=True)
class ScanSpec:
    """A scan, by content. name: in its folder. sha256: over all files it is made of. to_person: from the
    axes and units of its files to the person's frame (metres, z up, feet on 0, facing -y).
    """

    __pydantic_config__ = _STRICT
    name: str
    sha256: str
    to_person: Matrix


@dataclass(frozen=True)
class Placement:
    """Who stands where: the name of the identity, metres on the ground, heading about z (0 = facing -y)."""

    __pydantic_config__ = _STRICT
    identity: str = "0"
    x: float = 0.0
    y: float = 0.0
    heading_deg: float = 0.0

    def matrix(self) -> Float64[np.ndarray, "4 4"]:
        """Person frame -> world frame."""
        angle = np.deg2rad(self.heading_deg)
        pose = np.eye(4)
        pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        pose[:2, 3] = self.x, self.y
        return pose


@dataclass(frozen=True)
class LightSpec:
    """An HDRI environment: file name and sha256 of its bytes, rotation about z, and exposure of the film in
    stops.
    """

    __pydantic_config__ = _STRICT
    hdri: str
    sha256: str
    rotation_deg: float
    exposure_ev: float


@dataclass(frozen=True)
class CameraSpec:
    """A pinhole camera, independent of resolution.

    focal_mm: for a sensor 36 mm wide. shift_x, shift_y: principal point off the centre, as fractions of the
    image *width* (Blender's convention). world_to_camera: OpenCV axes, metres. framing: what it was aimed at.
    """

    __pydantic_config__ = _STRICT
    focal_mm: float
    world_to_camera: Matrix
    shift_x: float = 0.0
    shift_y: float = 0.0
    framing: str = "full_body"

    def camera(self, width: int, height: int) -> Camera:
        """The camera of an image of this size, pixel centres at integers."""
        focal = self.focal_mm / SENSOR_WIDTH_MM * width
        K = np.array(
            [
                [focal, 0.0, (width - 1) / 2 - self.shift_x * width],
                [0.0, focal, (height - 1) / 2 + self.shift_y * width],
                [0.0, 0.0, 1.0],
            ]
        )
        return Camera(K, np.array(self.world_to_camera), width, height)


@dataclass(frozen=True)
class OccluderSpec:
    """A thing that hides part of the people and has no label.

    shape: ball, box, cylinder or ring, of unit diameter before `size` (m, along its own axes). turn_deg:
    rotation about x, then y, then z of the world. colour: linear RGB.
    """

    __pydantic_config__ = _STRICT
    shape: Literal["ball", "box", "cylinder", "ring"]
    position: Triple
    size: Triple
    turn_deg: Triple
    colour: Triple
    roughness: float


@dataclass(frozen=True)
class StageSpec:
    """What is around the people.

    ground: "occlusion" darkens the HDRI's own ground by ambient occlusion, "shadow_catcher" casts the light's
    shadows on it, "none" leaves the people hovering. background: the HDRI, or "transparent" (black behind
    unassociated colours, for compositing through alpha).
    """

    __pydantic_config__ = _STRICT
    ground: Ground = "occlusion"
    background: Background = "hdri"
    occluders: tuple[OccluderSpec, ...] = ()


@dataclass(frozen=True)
class EffectsSpec:
    """What a real camera does to the picture and not to its labels. Everything at its default is off.

    fstop, focus_m: depth of field, 0 = pinhole. shake_m, shake_deg: how far the camera moves and turns (its
    own axes x, y, z) while the shutter is open, its pose being that of mid-exposure. white_balance: gains of
    linear R, G, B. shot_noise, read_noise: variance of the noise is shot_noise * v + read_noise ** 2 at
    linear value v, white = 1. distortion: OpenCV's radial k1, k2, k3; labels follow it. jpeg_quality:
    0 = PNG.
    """

    __pydantic_config__ = _STRICT
    fstop: float = 0.0
    focus_m: float = 0.0
    shake_m: Triple = (0.0, 0.0, 0.0)
    shake_deg: Triple = (0.0, 0.0, 0.0)
    white_balance: Triple = (1.0, 1.0, 1.0)
    shot_noise: float = 0.0
    read_noise: float = 0.0
    distortion: Triple = (0.0, 0.0, 0.0)
    jpeg_quality: int = 0


@dataclass(frozen=True)
class RenderSettings:
    """How the picture is made: size in pixels, camera rays per pixel of the beauty render, its finish, and
    which labels are kept (of `LABELS`).

    noise_threshold: a pixel gets no more rays once its estimated noise is below this (Cycles' adaptive
    sampling); 0 = each gets all.
    """

    __pydantic_config__ = _STRICT
    width: int = 192
    height: int = 256
    samples: int = 8
    denoise: bool = True
    view_transform: ViewTransform = "AgX"
    noise_seed: int = 0
    noise_threshold: float = 0.0
    labels: tuple[str, ...] = LABELS


@dataclass(frozen=True)
class SampleSpec:
    """One picture: who stands where, in which light, seen by which camera, rendered how.

    recipe, version: the recipe that drew it and what its numbers mean. seed: of the recipe, for the record.
    placements: one per person, in the same order.
    """

    __pydantic_config__ = _STRICT
    recipe: str
    version: int
    seed: int
    people: tuple[PersonSpec | ScanSpec, ...]
    placements: tuple[Placement, ...]
    light: LightSpec
    camera: CameraSpec
    settings: RenderSettings
    stage: StageSpec = StageSpec()
    effects: EffectsSpec = EffectsSpec()

    def __post_init__(self) -> None:
        if not 1 <= len(self.people) == len(self.placements) <= 254:
            raise VitruvianError(
                "sample spec: expected 1 to 254 people with one placement each; "
                f"got {len(self.people)} people and {len(self.placements)} placements"
            )
        if unknown := sorted(set(self.settings.labels) - set(LABELS)):
            raise VitruvianError(f"sample spec: unknown labels {unknown}; there are: {', '.join(LABELS)}")

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json(json.loads(json.dumps(...)))` gives back an equal spec."""
        plain: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return plain

    @classmethod
    def from_json(cls, data: Any) -> "SampleSpec":
        """The spec of `to_json`. Raises VitruvianError naming each field that is missing, unknown or of a
        wrong type.
        """
        try:
            spec: SampleSpec = _adapter().validate_python(data)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False)]
            raise VitruvianError("sample spec: " + "; ".join(lines)) from None
        if spec.version != SPEC_VERSION:
            raise VitruvianError(
                f"sample spec: expected version {SPEC_VERSION}; got {spec.version}: "
                "render it with the release that made it"
            )
        return spec


def sample_key(spec: SampleSpec) -> str:
    """First 128 bits of the sha256 of the spec's canonical JSON, as 32 hex digits."""
    return content_key(canonical_json(spec.to_json()))


@cache
def _adapter() -> Any:
    """pydantic's reader and writer of a spec, made on first use."""
    return TypeAdapter(SampleSpec)
