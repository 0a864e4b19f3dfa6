"""Run as a program: import one mesh file with Blender and write what is in it as plain arrays.

A process of its own, because bpy's state is global and a bad file can take Blender down. On one CPU, so that
whatever Blender sums in parallel comes out the same every time.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

RAW, MATERIALS = "raw.npz", "materials.json"
CARRIED = ("part_id", "quality")
"""Per-vertex properties that travel with the mesh."""


def main(mesh: Path, out: Path) -> None:
    """Write `RAW`, `MATERIALS` and the images that the file holds into the folder `out`."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)
    axes = _import(bpy, mesh)
    bpy.context.view_layer.update()
    graph = bpy.context.evaluated_depsgraph_get()
    things = sorted((o for o in bpy.context.scene.objects if o.type == "MESH"), key=lambda o: o.name)
    names: list[str] = []
    pieces = [_arrays(thing.evaluated_get(graph), axes, names) for thing in things]
    pieces = [piece for piece in pieces if len(piece["corners"])]
    np.savez(out / RAW, **_joined(pieces))
    described = [_describe(bpy.data.materials.get(name), out) for name in names]
    (out / MATERIALS).write_text(json.dumps(described), encoding="utf-8")


def _import(bpy: Any, mesh: Path) -> np.ndarray:
    """Import, and say what brings Blender's axes back to the file's (3 x 3). OBJ and PLY come in as written;
    FBX declares its axes and units, which stay applied.
    """
    path, suffix = str(mesh), mesh.suffix.lower()
    if suffix == ".obj":
        bpy.ops.wm.obj_import(filepath=path, forward_axis="Y", up_axis="Z", validate_meshes=True)
    elif suffix == ".ply":
        bpy.ops.wm.ply_import(filepath=path, forward_axis="Y", up_axis="Z", import_colors="SRGB")
    elif suffix == ".fbx":
        bpy.ops.import_scene.fbx(filepath=path)
    else:
        bpy.ops.import_scene.gltf(filepath=path, import_pack_images=True)
        return np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])  # y up
    return np.eye(3)


def _arrays(thing: Any, axes: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """One object: vertices in the file's axes, and per triangle corner its vertex, normal, uv and colour."""
    mesh = thing.to_mesh()
    mesh.calc_loop_triangles()
    count = len(mesh.loop_triangles)
    matrix = np.array(thing.matrix_world, np.float64)
    matrix[:3] = axes @ matrix[:3]
    loops = _get(mesh.loop_triangles, "loops", 3 * count, np.int32).reshape(count, 3)
    vertices = _get(mesh.vertices, "co", 3 * len(mesh.vertices), np.float32).reshape(-1, 3)
    normals = _get(mesh.corner_normals, "vector", 3 * len(mesh.loops), np.float32).reshape(-1, 3)
    turn = np.linalg.inv(matrix[:3, :3]).T
    slots = np.array([_index(slot.material, names) for slot in thing.material_slots] or [-1], np.int32)
    material = _get(mesh.loop_triangles, "material_index", count, np.int32)
    mirrored = np.linalg.det(matrix[:3, :3]) < 0
    order = [0, 2, 1] if mirrored else [0, 1, 2]
    loops = loops[:, order]
    corners = _get(mesh.loops, "vertex_index", len(mesh.loops), np.int32)[loops]
    found = {
        "vertices": vertices.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3],
        "corners": corners,
        "normals": (normals.astype(np.float64) @ turn.T)[loops],
        "own_normals": np.full(count, mesh.has_custom_normals),
        "material": slots[np.clip(material, 0, len(slots) - 1)],
    }
    if mesh.uv_layers:
        layer = next((one for one in mesh.uv_layers if one.active_render), mesh.uv_layers[0])
        found["uv"] = _get(layer.uv, "vector", 2 * len(mesh.loops), np.float32).reshape(-1, 2)[loops]
    if mesh.color_attributes:
        colour = mesh.color_attributes[0]
        values = _get(colour.data, "color", 4 * len(colour.data), np.float32).reshape(-1, 4)[:, :3]
        found["colour"] = values[loops if colour.domain == "CORNER" else corners]
    for name in CARRIED:
        attribute = mesh.attributes.get(name)
        if attribute is not None and attribute.domain == "POINT":
            kind = np.float32 if attribute.data_type == "FLOAT" else np.int32
            found[name] = _get(attribute.data, "value", len(mesh.vertices), kind).astype(np.float32)[corners]
    thing.to_mesh_clear()
    return found


def _get(collection: Any, name: str, size: int, kind: type) -> np.ndarray:
    values: np.ndarray = np.empty(size, kind)
    collection.foreach_get(name, values)
    return values


def _index(material: Any, names: list[str]) -> int:
    if material is None:
        return -1
    if material.name not in names:
        names.append(material.name)
    return names.index(material.name)


def _joined(pieces: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """All objects as one; what only some of them have is NaN on the others."""
    if not pieces:
        return {}
    joined: dict[str, np.ndarray] = {}
    offsets = np.cumsum([0, *(len(piece["vertices"]) for piece in pieces)])
    widths = {"uv": (3, 2), "colour": (3, 3)} | dict.fromkeys(CARRIED, (3,))
    for name in sorted({name for piece in pieces for name in piece}):
        stack: list[np.ndarray] = []
        for piece, offset in zip(pieces, offsets, strict=False):
            if name not in piece:
                stack.append(np.full((len(piece["corners"]), *widths[name]), np.nan, np.float32))
            else:
                stack.append(piece[name] + int(offset) if name == "corners" else piece[name])
        joined[name] = np.concatenate(stack)
    return joined


def _describe(material: Any, out: Path) -> dict[str, Any]:
    """What feeds the Principled BSDF: constants, and images by name or, when packed, by their bytes."""
    found: dict[str, Any] = {"base_colour": [0.5, 0.5, 0.5], "roughness_constant": 0.6}
    nodes = material.node_tree.nodes if material is not None and material.node_tree else ()
    shader = next((node for node in nodes if node.type == "BSDF_PRINCIPLED"), None)
    if shader is None:  # unlit: whatever image reaches the output
        output = next((node for node in nodes if node.type == "OUTPUT_MATERIAL"), None)
        image, _ = _image_behind(output.inputs["Surface"]) if output is not None else (None, set())
        return found if image is None else found | {"colour": _saved(image, out)}
    found["base_colour"] = [float(c) for c in shader.inputs["Base Color"].default_value[:3]]
    found["roughness_constant"] = float(shader.inputs["Roughness"].default_value)
    for role, socket in (("colour", "Base Color"), ("normal_map", "Normal"), ("roughness", "Roughness")):
        image, through = _image_behind(shader.inputs[socket])
        if image is not None:
            found[role] = _saved(image, out)
            if role == "roughness":
                found["roughness_channel"] = "green" if "Green" in through else "grey"
    return found


def _image_behind(socket: Any) -> tuple[Any, set[str]]:
    """The nearest image whose value reaches `socket`, and the names of the sockets on the way."""
    through: set[str] = set()
    waiting = list(socket.links)
    while waiting:
        link = waiting.pop(0)
        through.add(link.from_socket.name)
        node = link.from_node
        if node.type == "TEX_IMAGE" and node.image is not None:
            return node.image, through
        waiting += [further for inner in node.inputs for further in inner.links]
    return None, through


def _saved(image: Any, out: Path) -> dict[str, str]:
    if image.packed_file is None:
        return {"file": Path(image.filepath.replace("\\", "/").removeprefix("//")).name.lower()}
    data = bytes(image.packed_file.data)
    suffix = {b"\x89PN": ".png", b"\xff\xd8\xff": ".jpg", b"RIF": ".webp"}.get(data[:3], ".bin")
    name = hashlib.sha256(data).hexdigest() + suffix
    (out / name).write_bytes(data)
    return {"packed": name}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)  # Blender's own shutdown can hang
