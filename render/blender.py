"""Plumbing between plain arrays and Blender: meshes in, EXR layers and view-transformed pixels out."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32, UInt8

from render.passes import PART_ATTRIBUTE, Channels
from render.person import Surface
from shards.errors import UsageError

_FOLDER_PREFIX = "vitruvian-render-"
_DEVICE_TYPES = ("OPTIX", "CUDA")  # in the order of preference


def build_mesh(bpy: Any, surface: Surface, title: str) -> Any:
    """A Blender mesh of `surface` with its part ids, attributes and our own normals."""
    mesh = triangle_mesh(bpy, surface.vertices, surface.faces, surface.normals, title)
    parts = mesh.attributes.new(PART_ATTRIBUTE, "INT", "FACE")
    parts.data.foreach_set("value", surface.part_ids.astype(np.int32))
    for name, values in sorted(surface.attributes.items()):
        mesh.attributes.new(name, "FLOAT", "POINT").data.foreach_set("value", _flat(values))
    if surface.uv is not None:
        mesh.uv_layers.new(name="uv").data.foreach_set("uv", _flat(surface.uv))
    return mesh


def triangle_mesh(
    bpy: Any,
    vertices: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    normals: Float64[np.ndarray, "v 3"],
    title: str,
) -> Any:
    """A Blender mesh with exactly these vertices, triangles and vertex normals."""
    mesh = bpy.data.meshes.new(title)
    count = len(faces)
    mesh.vertices.add(len(vertices))
    mesh.loops.add(3 * count)
    mesh.polygons.add(count)
    mesh.vertices.foreach_set("co", _flat(vertices))
    mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(faces, np.int32).ravel())
    mesh.polygons.foreach_set("loop_start", np.arange(0, 3 * count, 3, dtype=np.int32))
    mesh.update(calc_edges=True)
    # Blender sums vertex normals in a racy order: our own make renders repeat to the last bit.
    normal = mesh.attributes.new("custom_normal", "FLOAT_VECTOR", "POINT")
    normal.data.foreach_set("vector", _flat(normals))
    return mesh


def read_layers(path: Path) -> Channels:
    """Layers of a multilayer EXR by name ("Depth", "part_id", "Combined"): float32 (h, w), (h, w, 3) or, for
    Combined, (h, w, 4).
    """
    import OpenEXR

    layers: dict[str, list[Any]] = {}
    with OpenEXR.File(str(path)) as file:
        for name, channel in sorted(file.channels().items()):
            # "labels.coverage.X", three of "labels.Position.X", or RGB and RGBA joined as "labels.albedo"
            layer = name.removeprefix("labels.").partition(".")[0]
            layers.setdefault(layer, []).append(np.array(channel.pixels))
    joined = {name: parts[0] if len(parts) == 1 else np.stack(parts, -1) for name, parts in layers.items()}
    return {
        name: pixels if pixels.ndim == 2 or name == "Combined" else pixels[..., :3]
        for name, pixels in joined.items()
    }


def display(
    bpy: Any, scene: Any, linear: Float32[np.ndarray, "height width 3"], folder: Path
) -> UInt8[np.ndarray, "height width 3"]:
    """Linear light through the scene's exposure and view transform, by Blender's own colour management."""
    import cv2

    height, width = linear.shape[:2]
    image = bpy.data.images.new("picture", width, height, alpha=True, float_buffer=True)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = linear[::-1]  # Blender counts rows from below
    image.pixels.foreach_set(pixels.ravel())
    path = str(folder / "displayed.png")
    settings = scene.render.image_settings
    settings.file_format, settings.color_mode = "PNG", "RGB"
    settings.color_depth, settings.compression = "8", 0
    with silenced():
        image.save_render(path, scene=scene)
    bpy.data.images.remove(image)
    return np.ascontiguousarray(cv2.imread(path, cv2.IMREAD_COLOR)[..., ::-1])


def choose_device(bpy: Any, scene: Any, device: str) -> None:
    """Let Cycles render on "cpu", "cuda" or "optix"; "auto" takes a GPU when there is one.

    Raises UsageError, saying which devices Cycles finds, when the one asked for is not there.
    """
    scene.cycles.device = "CPU"
    if device == "cpu":
        return
    preferences = bpy.context.preferences.addons["cycles"].preferences
    wanted = _DEVICE_TYPES if device == "auto" else (device.upper(),)
    if unknown := set(wanted) - set(_DEVICE_TYPES):
        raise UsageError(f"device: expected cpu, cuda, optix or auto; got {sorted(unknown)[0].lower()!r}")
    for kind in wanted:
        found = [entry for entry in preferences.get_devices_for_type(kind) if entry.type == kind]
        if found:
            preferences.compute_device_type = kind
            for entry in found:
                entry.use = True
            scene.cycles.device = "GPU"
            return
    if device != "auto":
        raise UsageError(
            f"device {device}: Cycles finds no such GPU in this process (driver, CUDA_VISIBLE_DEVICES?); "
            "use --device cpu"
        )


def scratch_folder() -> "tempfile.TemporaryDirectory[str]":
    """A folder of this process, in memory where that can be had; those of dead processes are removed."""
    root = Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir())
    for folder in root.glob(f"{_FOLDER_PREFIX}*-*"):
        owner = folder.name.removeprefix(_FOLDER_PREFIX).partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-", dir=root)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep Blender, which writes to file descriptor 1 on its own, off our standard output."""
    sys.stdout.flush()
    saved, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)


def _flat(array: Float32[np.ndarray, "..."] | Float64[np.ndarray, "..."]) -> Float32[np.ndarray, " n"]:
    return np.ascontiguousarray(array, dtype=np.float32).ravel()
