"""Pictures of specs and scans in milliseconds, and contact sheets of them: the same people, occluders and
camera as a render, lit softly by the same HDRI, drawn by OpenGL.

Geometry is exact (`render.rasteriser`); light is the HDRI's irradiance without shadows, materials are their
base colour or texture, and the ground is the HDRI's own.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from annotation.camera import Camera, look_at
from annotation.draw import captioned, tile
from annotation.labels import Labels
from render import effects
from render.engine import built_person
from render.folders import NO_FOLDERS, Folders
from render.lights import find_hdri
from render.person import Person
from render.props import occluder_mesh
from render.rasteriser import Piece, Raster, rasterise
from render.shading import Environment, encoded, environment_of, lit_piece, painted_piece, paints, studio
from render.spec import LightSpec, Placement, SampleSpec

_BRIGHTEST = 64.0  # radiance kept of a lamp in the background
_CELL = 192  # px, the longer side of a preview on a contact sheet
_COLUMNS = 6
_SCAN_SIDE = 480  # px, the height of a scan's view
_FILL = 0.94  # of the view's height or width
_FAR = 4.0  # times its extent from the middle: the perspective of a portrait lens
_VIEWS = {"front": 0.0, "its left side": 90.0, "back": 180.0}


def preview(
    spec: SampleSpec,
    folders: Folders = NO_FOLDERS,
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
    environment = environment_of(find_hdri(spec.light.hdri, folders.hdris).path)
    nobody = len(spec.people) + 1
    pieces = [*_people(spec, folders, environment), *_occluders(spec, nobody, environment)]
    raster = rasterise(pieces, ideal)
    picture = _over(raster, _background(spec, environment, ideal))
    shown = raster.ids * (raster.ids < nobody)
    bent = effects.distort_labels(
        {"rgb": picture, "depth": np.where(shown > 0, raster.depth, 0), "ids": shown}, ideal, camera
    )
    instance = bent["ids"].astype(np.uint8)
    alpha = np.where(instance > 0, 255, 0).astype(np.uint8)
    return Labels(rgb=bent["rgb"], depth=bent["depth"], alpha=alpha, instance=instance, camera=camera)


def contact_sheet(
    specs: Sequence[SampleSpec], folders: Folders = NO_FOLDERS
) -> UInt8[np.ndarray, "height width 3"]:
    """The previews of `specs` in rows of six, each with its framing, focal length and light."""
    cells = []
    for spec in specs:
        width, height = spec.settings.width, spec.settings.height
        scale = _CELL / max(width, height)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        picture = preview(spec, folders, size).rgb
        assert picture is not None
        view = f"{spec.camera.framing.replace('_', ' ')}, {spec.camera.focal_mm:.0f} mm"
        light = f"{spec.light.hdri} {spec.light.rotation_deg:+.0f}°"
        cells.append(captioned(picture, f"{view}\n{light}"))
    return tile(cells, _COLUMNS, gap=6)


def scan_sheet(person: Person) -> UInt8[np.ndarray, "height width 3"]:
    """A person from the front, its left and the back: in its colours, then its parts and the quality of its
    geometry (red: not to be trusted) if it carries them.
    """
    soft = Environment(studio())
    views = {name: _portrait(person, heading) for name, heading in _VIEWS.items()}
    triangles = sum(len(surface.faces) for surface in person.surfaces)
    pictures = []
    for name, heading in _VIEWS.items():
        light = LightSpec("studio", "", -heading, 0.0)
        pieces = [lit_piece(s, 1, soft, light, Placement()) for s in person.surfaces]
        caption = f"{name}\n{person.height:.2f} m, {triangles:,} triangles"
        pictures.append(captioned(_on_white(rasterise(pieces, views[name])), caption))
    for title, colours in paints(person).items():
        for name, heading in _VIEWS.items():
            pieces = [painted_piece(s, colours[s.name], soft, -heading) for s in person.surfaces]
            pictures.append(captioned(_on_white(rasterise(pieces, views[name])), title))
    return tile(pictures, len(_VIEWS))


def _people(spec: SampleSpec, folders: Folders, environment: Environment) -> Iterator[Piece]:
    for index, (who, placement) in enumerate(zip(spec.people, spec.placements, strict=True), start=1):
        for surface in (s for s in built_person(who, folders).surfaces if not s.material.clear):
            yield lit_piece(surface, index, environment, spec.light, placement)


def _occluders(spec: SampleSpec, id: int, environment: Environment) -> Iterator[Piece]:
    for occluder in spec.stage.occluders:
        vertices, faces, normals = occluder_mesh(occluder)
        light = environment.shade(normals, spec.light.rotation_deg) * 2**spec.light.exposure_ev
        yield Piece(vertices, faces, id, encoded(light * occluder.colour))


def _background(
    spec: SampleSpec, environment: Environment, camera: Camera
) -> Float32[np.ndarray, "height width 3"]:
    if spec.stage.background == "transparent":
        return np.zeros((camera.height, camera.width, 3), np.float32)
    light = environment.seen(camera, spec.light.rotation_deg) * np.float32(2**spec.light.exposure_ev)
    return encoded(np.minimum(light, _BRIGHTEST).reshape(-1, 3)).reshape(light.shape)


def _over(
    raster: Raster, background: Float32[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The raster's picture, which is over black already, on the background."""
    bare = 1 - raster.coverage[..., None].astype(np.float32) / 255
    return np.rint(np.clip(raster.colour + background * 255 * bare, 0, 255)).astype(np.uint8)


def _on_white(raster: Raster) -> UInt8[np.ndarray, "height width 3"]:
    return _over(raster, np.ones((*raster.depth.shape, 3), np.float32))


def _portrait(person: Person, heading_deg: float) -> Camera:
    """A camera around the person, 0 = from the front, that shows all of it; as wide as any side needs."""
    points = np.concatenate([surface.vertices for surface in person.surfaces])
    low, high = points.min(axis=0), points.max(axis=0)
    middle, extent = (low + high) / 2, high - low
    across = float(np.hypot(extent[0], extent[1]))
    angle = np.deg2rad(heading_deg)
    distance = _FAR * max(float(extent.max()), 0.1)
    eye = middle + distance * np.array([np.sin(angle), -np.cos(angle), 0.0])
    width = round(_SCAN_SIDE * float(np.clip(across / extent[2], 0.4, 1.5)))
    nearest = distance - across / 2
    focal = _FILL * nearest * min(_SCAN_SIDE / extent[2], width / across)
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (_SCAN_SIDE - 1) / 2], [0, 0, 1]])
    return Camera(K, look_at(eye, middle, np.array([0.0, 0.0, 1.0])), width, _SCAN_SIDE)
