"""Pictures of specs in milliseconds: the same people, occluders and camera as a render, lit softly by the
same HDRI, drawn by OpenGL.

Geometry is exact (`render.rasteriser`); light is the HDRI's irradiance without shadows, materials are their
base colour or texture, and the ground is the HDRI's own.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from annotation.camera import Camera
from annotation.labels import Labels
from render import effects
from render.engine import built_person
from render.lights import find_hdri, read_hdri
from render.people import PersonSpec
from render.person import Material, Person, Surface
from render.props import occluder_mesh
from render.rasteriser import Piece, Raster, rasterise
from render.sources import load_scan
from render.spec import LightSpec, Placement, SampleSpec, ScanSpec
from shards.errors import UsageError

_GAMMA = 1 / 2.2  # a pure power: light and albedo may be encoded apart and multiplied
_ENVIRONMENT_WIDTH = 1024  # px kept of an HDRI
_TEXTURE_SIDE = 1024  # px kept of a texture
_BRIGHTEST = 64.0  # radiance kept of a lamp in the background
_GREY = (0.5, 0.5, 0.5)
_COLOUR_PARAMETERS = ("tone", "colour", "base_colour")  # of the materials, first found first


class Environment:
    """An HDRI as a small panorama, and its light on a matt surface as nine spherical harmonics."""

    def __init__(self, panorama: Float32[np.ndarray, "h w 3"]) -> None:
        self.panorama = panorama
        height, width = panorama.shape[:2]
        v, u = (np.mgrid[:height, :width].astype(np.float64) + 0.5) / np.array([height, width])[:, None, None]
        elevation, azimuth = (0.5 - v) * np.pi, (0.5 - u) * 2 * np.pi
        directions = np.stack(
            [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], -1
        )
        solid_angle = np.cos(elevation) * (np.pi / height) * (2 * np.pi / width)
        light = (panorama * solid_angle[..., None]).reshape(-1, 3)
        self.harmonics = _harmonics(directions.reshape(-1, 3)).T @ light

    def shade(
        self, normals: Float64[np.ndarray, "n 3"], rotation_deg: float = 0.0
    ) -> Float64[np.ndarray, "n 3"]:
        """Light that a white matt surface of each world normal sends out (Ramamoorthi & Hanrahan 2001)."""
        cosine_lobe = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)  # convolved, over pi
        turned = normals @ _about_z(rotation_deg).T
        return np.asarray(np.maximum(_harmonics(turned) * cosine_lobe @ self.harmonics, 0))

    def seen(self, camera: Camera, rotation_deg: float = 0.0) -> Float32[np.ndarray, "height width 3"]:
        """The background of a picture, linear."""
        d = camera.rays() @ _about_z(rotation_deg).T
        height, width = self.panorama.shape[:2]
        u = 0.5 - np.arctan2(d[..., 1], d[..., 0]) / (2 * np.pi)
        v = 0.5 - np.arctan2(d[..., 2], np.hypot(d[..., 0], d[..., 1])) / np.pi
        where = np.stack([u * width - 0.5, v * height - 0.5], axis=-1).astype(np.float32)
        return np.asarray(cv2.remap(self.panorama, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def preview(
    spec: SampleSpec,
    scan_folder: Path | None = None,
    hdri_folder: Path | None = None,
    size: tuple[int, int] | None = None,
) -> Labels:
    """rgb, depth, alpha, instance and camera of `spec`, without Cycles. size: height, width in pixels; the
    spec's own by default.

    Alpha is 255 where people are, not soft. Raises UsageError where there is no OpenGL.
    """
    height, width = size or (spec.settings.height, spec.settings.width)
    plain = spec.camera.camera(width, height)
    camera = Camera(plain.K, plain.world_to_camera, width, height, spec.effects.distortion)
    ideal = effects.ideal_camera(camera)
    environment = _environment(find_hdri(spec.light.hdri, hdri_folder).path)
    people = [_built(person, scan_folder) for person in spec.people]
    pieces = []
    for index, (person, placement) in enumerate(zip(people, spec.placements, strict=True), start=1):
        pieces += [lit_piece(s, index, environment, spec.light, placement) for s in person.surfaces]
    nobody = len(people) + 1
    for occluder in spec.stage.occluders:
        vertices, faces, normals = occluder_mesh(occluder)
        light = environment.shade(normals, spec.light.rotation_deg) * 2**spec.light.exposure_ev
        pieces.append(Piece(vertices, faces, nobody, _encoded(light * occluder.colour)))
    raster = rasterise(pieces, ideal)
    picture = _over(raster, _background(spec, environment, ideal))
    shown = raster.ids * (raster.ids < nobody)
    bent = effects.distort_labels(
        {"rgb": picture, "depth": np.where(shown > 0, raster.depth, 0), "ids": shown}, ideal, camera
    )
    instance = bent["ids"].astype(np.uint8)
    alpha = np.where(instance > 0, 255, 0).astype(np.uint8)
    return Labels(rgb=bent["rgb"], depth=bent["depth"], alpha=alpha, instance=instance, camera=camera)


def lit_piece(
    surface: Surface, id: int, environment: Environment, light: LightSpec, placement: Placement
) -> Piece:
    """A person's surface in the world, with the light on it as colours."""
    pose = placement.matrix()
    normals = surface.normals @ pose[:3, :3].T
    shade = environment.shade(normals, light.rotation_deg) * 2**light.exposure_ev
    vertices = surface.vertices @ pose[:3, :3].T + pose[:3, 3]
    texture = surface.material.params.get("colour") if surface.material.kind == "scan" else None
    if texture is None or surface.uv is None:
        return Piece(vertices, surface.faces, id, _encoded(shade * _albedo(surface)))
    corners = surface.faces.ravel()
    faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    uv = surface.uv.reshape(-1, 2).astype(np.float32)
    return Piece(vertices[corners], faces, id, _encoded(shade[corners]), uv, _texture(Path(texture)))


def _built(spec: PersonSpec | ScanSpec, scan_folder: Path | None) -> Person:
    if isinstance(spec, PersonSpec):
        return built_person(spec)
    if scan_folder is None:
        raise UsageError(f"preview: scan {spec.name!r} needs the folder of its scans; got none")
    return _scan(spec, scan_folder)


@lru_cache(maxsize=8)
def _scan(spec: ScanSpec, folder: Path) -> Person:
    return load_scan(spec, folder)


def _albedo(surface: Surface) -> Float64[np.ndarray, "v 3"]:
    """The base colour of each vertex: what the material's shader starts from."""
    attributes = surface.attributes
    if surface.material.params.get("vertex_colour"):
        return np.stack([attributes[f"col_{channel}"] for channel in "rgb"], axis=1)
    colour = np.tile(base_colour(surface.material), (len(surface.vertices), 1))
    for name in ("shade", "lips"):  # of skin
        if name in attributes and name in surface.material.params:
            share = np.clip(attributes[name], 0, 1)[:, None]
            colour = colour * (1 - share) + share * np.array(surface.material.params[name])
    return colour


def base_colour(material: Material) -> Float64[np.ndarray, "3"]:
    """A material in one linear colour; eyes are white, what has no colour is grey."""
    if material.kind == "eye":
        return np.array([0.75, 0.73, 0.7])
    found: Any = next((p for k in _COLOUR_PARAMETERS if (p := material.params.get(k)) is not None), _GREY)
    return np.array(_GREY if isinstance(found, str) else found, dtype=np.float64)


@lru_cache(maxsize=16)
def _environment(path: Path) -> Environment:
    panorama = read_hdri(path)
    width = min(panorama.shape[1], _ENVIRONMENT_WIDTH)
    return Environment(cv2.resize(panorama, (width, width // 2), interpolation=cv2.INTER_AREA))


@lru_cache(maxsize=16)
def _texture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(path) as image:
        image.draft("RGB", (_TEXTURE_SIDE, _TEXTURE_SIDE))
        small = image.convert("RGB")
        small.thumbnail((_TEXTURE_SIDE, _TEXTURE_SIDE))
        return np.asarray(small)


def _background(
    spec: SampleSpec, environment: Environment, camera: Camera
) -> Float32[np.ndarray, "height width 3"]:
    if spec.stage.background == "transparent":
        return np.zeros((camera.height, camera.width, 3), np.float32)
    light = environment.seen(camera, spec.light.rotation_deg) * np.float32(2**spec.light.exposure_ev)
    return _encoded(np.minimum(light, _BRIGHTEST).reshape(-1, 3)).reshape(light.shape)


def _over(
    raster: Raster, background: Float32[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The raster's picture, which is over black already, on the background."""
    bare = 1 - raster.coverage[..., None].astype(np.float32) / 255
    return np.rint(np.clip(raster.colour + background * 255 * bare, 0, 255)).astype(np.uint8)


def _encoded(
    linear: Float32[np.ndarray, "n 3"] | Float64[np.ndarray, "n 3"],
) -> Float32[np.ndarray, "n 3"]:
    return np.clip(linear, 0, 1).astype(np.float32) ** np.float32(_GAMMA)


def _about_z(angle_deg: float) -> Float64[np.ndarray, "3 3"]:
    return Placement(heading_deg=angle_deg).matrix()[:3, :3]


def _harmonics(directions: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 9"]:
    """The real spherical harmonics of bands 0, 1 and 2."""
    x, y, z = directions.T
    bands = [np.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x]
    bands += [1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z]
    return np.stack([*bands, 0.546274 * (x * x - y * y)], axis=1)
