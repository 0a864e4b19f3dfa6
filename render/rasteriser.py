"""Triangles through OpenGL (pyrender): which piece each pixel shows, its depth, and a flat-coloured picture.

Shares no code with Cycles, which makes it both a quick preview and a witness for the labels. pyrender counts
pixels from the corner of the image: its principal point is ours + 0.5.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from annotation.camera import Camera, opencv_to_opengl
from shards.errors import UsageError, VitruvianError

_LARGEST_ID = 255 * 256 + 255  # two 8-bit channels
_NEAREST = 0.01  # m, as in Blender
_SLACK = 1.001  # of near and far, against rounding at the very ends


@dataclass(frozen=True, eq=False)
class Piece:
    """A mesh in the world frame (m). id: what `Raster.ids` says where it is seen, from 1 on. colours: of each
    vertex, display-encoded 0..1, times the texture (sRGB, row 0 at the top) at uv if there is one.
    """

    vertices: Float64[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    id: int
    colours: Float32[np.ndarray, "v 3"]
    uv: Float32[np.ndarray, "v 2"] | None = None
    texture: UInt8[np.ndarray, "h w 3"] | None = None


@dataclass(frozen=True, eq=False)
class Raster:
    """depth: z at the pixel centre, m, 0 = nothing. ids: 0 = nothing. colour: anti-aliased, over black;
    coverage: 0..255, the share of the pixel that is not nothing.
    """

    depth: Float32[np.ndarray, "height width"]
    ids: Int32[np.ndarray, "height width"]
    colour: UInt8[np.ndarray, "height width 3"]
    coverage: UInt8[np.ndarray, "height width"]


def rasterise(pieces: Sequence[Piece], camera: Camera) -> Raster:
    """What `camera` sees of `pieces`, from both sides of their faces.

    Depth is good to about 1e-5 of the distance: OpenGL snaps vertices to 1/256 px, and near and far enclose
    the pieces tightly for its 24 bits of depth. Raises VitruvianError for a camera with distortion or skew,
    and UsageError where there is no OpenGL.
    """
    if camera.distorted or camera.K[0, 1]:
        raise VitruvianError(f"rasterise: expected a camera without distortion and skew; got {camera}")
    pyrender = _pyrender()
    scene = pyrender.Scene(bg_color=np.zeros(4), ambient_light=np.ones(3))
    colour_of = {}
    for piece in _merged(pieces):
        if not 1 <= piece.id <= _LARGEST_ID:
            raise VitruvianError(f"rasterise: expected ids in 1 .. {_LARGEST_ID}; got {piece.id}")
        node = scene.add(pyrender.Mesh([_primitive(pyrender, piece)]))
        colour_of[node] = np.array([piece.id // 256, piece.id % 256, 0])
    K, pose = camera.K, opencv_to_opengl(camera.camera_to_world)
    near, far = _range(pieces, camera)
    lens = pyrender.IntrinsicsCamera(K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5, near, far)
    scene.add(lens, pose=pose)
    flags = pyrender.RenderFlags
    with _LOCK:
        window = _window()
        window.viewport_width, window.viewport_height = camera.width, camera.height
        ids, depth = window.render(scene, flags.SEG | flags.SKIP_CULL_FACES, colour_of)
        picture, _ = window.render(scene, flags.FLAT | flags.RGBA | flags.SKIP_CULL_FACES)
    return Raster(
        depth=np.array(depth, np.float32),
        ids=ids[..., 0].astype(np.int32) * 256 + ids[..., 1],
        colour=np.array(picture[..., :3]),
        coverage=np.array(picture[..., 3]),
    )


_LOCK = threading.Lock()


@cache
def _pyrender() -> Any:
    """pyrender, which chooses its platform when it is imported: EGL needs no display."""
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    try:
        import OpenGL

        OpenGL.UNSIGNED_BYTE_IMAGES_AS_STRING = False  # else it calls numpy's deprecated tostring
        import pyrender
    except ImportError as error:
        raise UsageError(
            f"no OpenGL for previews: {error!r}: install libegl1 (or libosmesa6 and set "
            "PYOPENGL_PLATFORM=osmesa) and 'vitruvian[render]'"
        ) from error
    return pyrender


@cache
def _window() -> Any:
    """The one off-screen renderer of this process. Raises UsageError where EGL opens no device."""
    try:
        return _pyrender().OffscreenRenderer(1, 1)
    except Exception as error:  # whatever the driver feels like: assertion, GLError, ValueError
        raise UsageError(
            f"no OpenGL 4.1 for previews on platform {os.environ['PYOPENGL_PLATFORM']!r}: {error!r}: install "
            "Mesa's software EGL (libegl1 libgl1-mesa-dri), or libosmesa6 and set PYOPENGL_PLATFORM=osmesa"
        ) from error


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Untextured pieces of one id as one: OpenGL from Python costs a millisecond for every piece."""
    merged = [piece for piece in pieces if piece.texture is not None]
    for number in sorted({piece.id for piece in pieces if piece.texture is None}):
        alike = [piece for piece in pieces if piece.texture is None and piece.id == number]
        start = np.cumsum([0, *(len(piece.vertices) for piece in alike)])
        faces = [(piece.faces + first).astype(np.int32) for piece, first in zip(alike, start, strict=False)]
        vertices = np.concatenate([piece.vertices for piece in alike])
        colours = np.concatenate([piece.colours for piece in alike])
        merged.append(Piece(vertices, np.concatenate(faces), number, colours))
    return merged


def _primitive(pyrender: Any, piece: Piece) -> Any:
    material = pyrender.MetallicRoughnessMaterial(baseColorFactor=(1.0, 1.0, 1.0, 1.0), alphaMode="OPAQUE")
    if piece.texture is not None:
        material.baseColorTexture = pyrender.Texture(source=piece.texture, source_channels="RGB")
    opaque = np.ones((len(piece.colours), 1), np.float32)
    return pyrender.Primitive(
        positions=piece.vertices.astype(np.float32),
        indices=piece.faces,
        texcoord_0=piece.uv,
        color_0=np.hstack([piece.colours, opaque]),
        material=material,
    )


def _range(pieces: Sequence[Piece], camera: Camera) -> tuple[float, float]:
    """Nearest and farthest z of what there is, so that the depth buffer wastes no bit."""
    rotation, shift = camera.world_to_camera[2, :3], camera.world_to_camera[2, 3]
    ends = [z for p in pieces if len(p.vertices) for z in _ends(p.vertices @ rotation + shift)]
    near = max(min(ends, default=1.0) / _SLACK, _NEAREST)
    return near, max(max(ends, default=2.0), near) * _SLACK


def _ends(z: Float64[np.ndarray, " v"]) -> tuple[float, float]:
    return float(z.min()), float(z.max())
