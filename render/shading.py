"""The light and colours of previews: an HDRI's soft light without shadows on the pieces of a person, in their
base colours and textures, their parts, or the quality of their geometry.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8
from PIL import Image

from annotation.camera import Camera
from annotation.parts import IGNORE, part_vocabulary
from render.lights import read_hdri
from render.person import Material, Person, Surface
from render.rasteriser import Piece
from render.sources.sidecars import read_map, sample_map
from render.spec import LightSpec, Placement

_GAMMA = 1 / 2.2  # a pure power: light and albedo may be encoded apart and multiplied
_ENVIRONMENT_WIDTH = 1024  # px kept of an HDRI
_TEXTURE_SIDE = 1024  # px kept of a texture
_GREY = (0.5, 0.5, 0.5)
_WHITE_HAIR = 0.5
_COLOUR_PARAMETERS = ("tone", "colour", "base_colour")  # of the materials, first found first
_TRUSTED, _DOUBTED = np.array([0.80, 0.80, 0.76]), np.array([0.85, 0.20, 0.15])

Paint = Mapping[str, Float64[np.ndarray, "f 3 3"]]
"""Surface name -> a display colour for each corner."""


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


@lru_cache(maxsize=16)
def environment_of(path: Path) -> Environment:
    """The environment of an HDRI file, made small."""
    panorama = read_hdri(path)
    width = min(panorama.shape[1], _ENVIRONMENT_WIDTH)
    return Environment(cv2.resize(panorama, (width, width // 2), interpolation=cv2.INTER_AREA))


def studio() -> Float32[np.ndarray, "h w 3"]:
    """A panorama of soft light: bright above, and a large lamp over the viewer's left shoulder, seen from a
    person that faces -y.
    """
    height, width = 32, 64
    v, u = (np.mgrid[:height, :width] + 0.5) / np.array([height, width])[:, None, None]
    elevation, azimuth = (0.5 - v) * np.pi, (0.5 - u) * 2 * np.pi
    lamp = np.exp(-((azimuth + np.deg2rad(125)) ** 2 + (elevation - np.deg2rad(40)) ** 2) / 0.3)
    light = 0.55 + 0.35 * np.sin(elevation) + 3.0 * lamp
    return np.repeat(light[..., None], 3, axis=2).astype(np.float32)


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
        return Piece(vertices, surface.faces, id, encoded(shade * _albedo(surface)))
    corners = surface.faces.ravel()
    faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    uv = surface.uv.reshape(-1, 2).astype(np.float32)
    return Piece(vertices[corners], faces, id, encoded(shade[corners]), uv, _texture(Path(texture)))


def painted_piece(
    surface: Surface, colours: Float64[np.ndarray, "f 3 3"], studio: Environment, rotation_deg: float
) -> Piece:
    """Corner colours with a hint of light, so that the form stays readable."""
    corners = surface.faces.ravel()
    light = 0.55 + 0.45 * np.clip(studio.shade(surface.normals, rotation_deg), 0, 1)
    faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    shaded = (colours.reshape(-1, 3) * light[corners]).astype(np.float32)
    return Piece(surface.vertices[corners], faces, 1, shaded)


def paints(person: Person) -> dict[str, Paint]:
    """What a person carries beside its looks, as colours: "parts", and "quality" (red: not to be trusted)."""
    found: dict[str, Paint] = {}
    if any((surface.part_ids != IGNORE).any() for surface in person.surfaces):
        found["parts"] = {
            surface.name: _part_colours(surface, person.part_classes) for surface in person.surfaces
        }
    if any(_quality(surface) is not None for surface in person.surfaces):
        found["quality"] = {surface.name: _quality_colours(surface) for surface in person.surfaces}
    return found


def encoded(
    linear: Float32[np.ndarray, "n 3"] | Float64[np.ndarray, "n 3"],
) -> Float32[np.ndarray, "n 3"]:
    """Linear light for the display, 0..1."""
    return np.clip(linear, 0, 1).astype(np.float32) ** np.float32(_GAMMA)


def base_colour(material: Material) -> Float64[np.ndarray, "3"]:
    """A material in one linear colour; eyes are between white and iris, what has no colour is grey."""
    if material.kind == "eye":
        return np.array([0.4, 0.38, 0.36])  # with iris and pupil
    found: Any = [p for k in _COLOUR_PARAMETERS if isinstance(p := material.params.get(k), Sequence)]
    colour = np.array(next((p for p in found if not isinstance(p, str)), _GREY), dtype=np.float64)
    white = float(material.params.get("grey", 0.0))
    return np.asarray(colour * (1 - white) + white * _WHITE_HAIR)


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


@lru_cache(maxsize=16)
def _texture(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(path) as image:
        image.draft("RGB", (_TEXTURE_SIDE, _TEXTURE_SIDE))
        small = image.convert("RGB")
        small.thumbnail((_TEXTURE_SIDE, _TEXTURE_SIDE))
        return np.asarray(small)


def _part_colours(surface: Surface, classes: int) -> Float64[np.ndarray, "f 3 3"]:
    palette = np.full((256, 3), 0.5)  # grey: nobody knows
    palette[:classes] = part_vocabulary(classes).colours / 255
    return np.asarray(np.repeat(palette[surface.part_ids][:, None], 3, axis=1))


def _quality_colours(surface: Surface) -> Float64[np.ndarray, "f 3 3"]:
    trusted = _quality(surface)
    share = np.ones((len(surface.faces), 3)) if trusted is None else trusted
    return np.asarray(share[..., None] * _TRUSTED + (1 - share[..., None]) * _DOUBTED)


def _quality(surface: Surface) -> Float64[np.ndarray, "f 3"] | None:
    """1 where a corner is trusted, 0 where not; None when the surface does not say."""
    attribute, path = (surface.material.params.get(key) for key in ("trusted_attribute", "quality"))
    if path is not None and surface.uv is not None:
        inward = 0.98 * surface.uv + 0.02 * surface.uv.mean(axis=1, keepdims=True)  # off the map's seams
        found = sample_map(read_map(Path(path)), inward.reshape(-1, 2)).reshape(-1, 3)
        return np.asarray(found > 0, np.float64)
    return None if attribute is None else np.floor(surface.attributes[attribute][surface.faces] + 0.001)


def _about_z(angle_deg: float) -> Float64[np.ndarray, "3 3"]:
    return Placement(heading_deg=angle_deg).matrix()[:3, :3]


def _harmonics(directions: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 9"]:
    """The real spherical harmonics of bands 0, 1 and 2."""
    x, y, z = directions.T
    bands = [np.full_like(x, 0.282095), 0.488603 * y, 0.488603 * z, 0.488603 * x]
    bands += [1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z]
    return np.stack([*bands, 0.546274 * (x * x - y * y)], axis=1)
