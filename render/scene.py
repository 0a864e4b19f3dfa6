"""The one Blender scene of this process: people, ground, light and camera are exchanged, the rest stays
loaded.

Nothing in it depends on what was rendered before: names, order and every setting are written anew.
"""

import atexit
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from annotation.camera import Camera, blender_camera
from render import passes
from render.lights import Hdri
from render.person import Material, Person, Surface
from render.spec import SENSOR_WIDTH_MM, LightSpec, Placement, RenderSettings
from shards.sample import digest_json

_GROUND_RADIUS = 5.0  # m; beyond it the HDRI's own ground stands in
_OCCLUSION_DISTANCES = (1.5, 0.3)  # m: the body's soft shadow, and the dark where a sole meets the ground
# Pixels across the HDRI's importance map, which is rebuilt when the light changes. A map smaller than the
# HDRI misses small lamps: 512 for one of 1024 made the same 16 samples 1.6 times as noisy (RMSE, 2026-11-21).
_IMPORTANCE_MAP_LIMIT = 2048
_TRUTH_FILTER_WIDTH = 0.01  # px; wider filters move the first sample off the pixel centre by 0.0005 px
_BEAUTY_FILTER_WIDTH = 1.5  # px, Blackman-Harris


class Scene:
    """Blender with one scene loaded. There is one per process, because bpy's state is global: use
    `shared_scene`.
    """

    def __init__(self) -> None:
        import bpy

        self.bpy = bpy
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.scene = bpy.context.scene
        self.folder = tempfile.TemporaryDirectory(prefix="vitruvian-render-", dir=_memory_folder())
        atexit.register(self.folder.cleanup)
        self.cast: object = None  # whoever loads people notes here who they are
        self._people: list[Any] = []
        self._materials: dict[str, Any] = {}
        self._samples = 0  # of the last beauty render
        self._configure()
        self._environment = self._build_world()
        self._camera = self._build_camera()
        self._build_ground()

    def load_people(self, people: Sequence[Person], placements: Sequence[Placement]) -> None:
        """Replace whoever is in the scene. Materials get their AOV outputs here, once."""
        self._remove_people()
        for index, (person, placement) in enumerate(zip(people, placements, strict=True), start=1):
            for surface in person.surfaces:
                self._people.append(
                    self._add_surface(surface, f"person{index}.{surface.name}", index, placement)
                )

    def set_light(self, hdri: Hdri, light: LightSpec) -> None:
        """Light the scene with `hdri`, turned by the light's rotation; its exposure acts on the film."""
        image = self.bpy.data.images.get(hdri.sha256)
        if image is None:
            image = self.bpy.data.images.load(str(hdri.path))
            image.name = hdri.sha256
        if self._environment["texture"].image != image:
            self._environment["texture"].image = image
            self.scene.world.cycles.sample_map_resolution = min(image.size[0], _IMPORTANCE_MAP_LIMIT)
        self._environment["mapping"].inputs["Rotation"].default_value[2] = np.deg2rad(light.rotation_deg)
        self.scene.view_settings.exposure = light.exposure_ev

    def set_camera(self, camera: Camera) -> None:
        """Look through `camera`; its size becomes the image's."""
        import mathutils

        blender = blender_camera(camera, SENSOR_WIDTH_MM)
        data, render = self._camera.data, self.scene.render
        render.resolution_x, render.resolution_y = blender.width, blender.height
        data.sensor_fit, data.sensor_width, data.lens = blender.sensor_fit, blender.sensor_width, blender.lens
        data.shift_x, data.shift_y = blender.shift_x, blender.shift_y
        self._camera.matrix_world = mathutils.Matrix(blender.matrix_world.tolist())

    def render_beauty(
        self, settings: RenderSettings
    ) -> tuple[UInt8[np.ndarray, "height width 3"], passes.Channels]:
        """The picture in 8-bit sRGB, and the AOVs filtered like it."""
        cycles = self.scene.cycles
        if settings.samples != self._samples:
            self._forget()
            self._samples = settings.samples
        cycles.samples, cycles.filter_width = settings.samples, _BEAUTY_FILTER_WIDTH
        cycles.seed, cycles.use_denoising = settings.noise_seed, settings.denoise
        self.scene.view_settings.view_transform = settings.view_transform
        channels = self._render()
        return self._displayed(), channels

    def render_truth(self) -> passes.Channels:
        """One ray through each pixel centre: AOVs and depth of exactly one surface point per pixel."""
        cycles = self.scene.cycles
        cycles.samples, cycles.filter_width, cycles.use_denoising = 1, _TRUTH_FILTER_WIDTH, False
        return self._render()

    def set_threads(self, threads: int) -> None:
        """Render with this many CPU threads; the picture does not depend on it."""
        self.scene.render.threads_mode, self.scene.render.threads = "FIXED", threads

    def _forget(self) -> None:
        """Drop Cycles' persistent data.

        Its table of random numbers grows with the sample count and never shrinks: a picture would otherwise
        depend on the sample counts rendered before it.
        """
        self.scene.render.use_persistent_data = False
        self.scene.render.use_persistent_data = True

    def _configure(self) -> None:
        scene = self.scene
        render, cycles, layer = scene.render, scene.cycles, scene.view_layers[0]
        layer.name = "labels"
        render.engine, cycles.device = "CYCLES", "CPU"
        render.use_persistent_data = True
        render.resolution_percentage, render.dither_intensity = 100, 0.0
        render.use_compositing = render.use_sequencer = False
        cycles.use_adaptive_sampling, cycles.use_light_tree = False, False
        cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 4, 2, 2
        cycles.transmission_bounces, cycles.transparent_max_bounces = 2, 8
        cycles.sampling_pattern = "TABULATED_SOBOL"
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = 4.0
        cycles.pixel_filter_type, cycles.use_auto_tile = "BLACKMAN_HARRIS", False
        # Prefiltering the guides accurately doubles the cost of a 192 x 256 image and only smooths it more.
        cycles.denoising_prefilter = "FAST"
        scene.view_settings.look, scene.view_settings.gamma = "None", 1.0
        layer.use_pass_z = True
        layer.pass_alpha_threshold = 0.5
        for label_pass in (passes.COVERAGE, *passes.GROUND_TRUTH):
            aov = layer.aovs.add()
            aov.name, aov.type = label_pass.aov, label_pass.kind

    def _build_world(self) -> dict[str, Any]:
        world = self.bpy.data.worlds.new("environment")
        self.scene.world = world
        world.use_nodes = True
        world.cycles.sampling_method = "MANUAL"
        nodes, links = world.node_tree.nodes, world.node_tree.links
        texture, mapping = nodes.new("ShaderNodeTexEnvironment"), nodes.new("ShaderNodeMapping")
        links.new(nodes.new("ShaderNodeTexCoord").outputs["Generated"], mapping.inputs["Vector"])
        links.new(mapping.outputs["Vector"], texture.inputs["Vector"])
        links.new(texture.outputs["Color"], nodes["Background"].inputs["Color"])
        return {"texture": texture, "mapping": mapping}

    def _build_camera(self) -> Any:
        data = self.bpy.data.cameras.new("camera")
        data.clip_start, data.clip_end = 0.01, 1000.0
        camera = self.bpy.data.objects.new("camera", data)
        self.scene.collection.objects.link(camera)
        self.scene.camera = camera
        return camera

    def _build_ground(self) -> None:
        """A floor that shows the HDRI's own ground, darkened near whatever stands on it (ambient occlusion).

        Transparent to the eye and absent for every other ray, it costs a tenth of a shadow catcher, which
        halves the speed; and it writes no AOV, so to the labels it does not exist.
        """
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        rim = np.stack([np.cos(angles), np.sin(angles), np.zeros(64)], axis=1) * _GROUND_RADIUS
        mesh = self.bpy.data.meshes.new("ground")
        mesh.from_pydata(rim.tolist(), [], [list(range(64))])
        material = self.bpy.data.materials.new("ground")
        material.use_nodes = True
        nodes, links = material.node_tree.nodes, material.node_tree.links
        nodes.remove(nodes["Principled BSDF"])
        veil = nodes.new("ShaderNodeBsdfTransparent")
        darkened = veil.inputs["Color"]
        for distance in _OCCLUSION_DISTANCES:  # chained by colour, they multiply
            occlusion = nodes.new("ShaderNodeAmbientOcclusion")
            occlusion.samples, occlusion.inputs["Distance"].default_value = 1, distance
            links.new(occlusion.outputs["Color"], darkened)
            darkened = occlusion.inputs["Color"]
        links.new(veil.outputs["BSDF"], nodes["Material Output"].inputs["Surface"])
        mesh.materials.append(material)
        ground = self.bpy.data.objects.new("ground", mesh)
        ground.visible_diffuse = ground.visible_glossy = ground.visible_transmission = False
        ground.visible_shadow = False
        self.scene.collection.objects.link(ground)

    def _add_surface(self, surface: Surface, name: str, index: int, placement: Placement) -> Any:
        import mathutils

        mesh = self._build_mesh(surface, name)
        mesh.materials.append(self._material(surface.material))
        thing = self.bpy.data.objects.new(name, mesh)
        thing.matrix_world = mathutils.Matrix(placement.matrix().tolist())
        thing.pass_index = index
        self.scene.collection.objects.link(thing)
        return thing

    def _material(self, material: Material) -> Any:
        """The shader of `material`, shared by all surfaces that have an equal one, with its AOV outputs."""
        from render.materials import build_material

        digest = digest_json(asdict(material))
        if digest not in self._materials:
            built = build_material(material)
            passes.attach(built.node_tree)
            self._materials[digest] = built
        return self._materials[digest]

    def _build_mesh(self, surface: Surface, title: str) -> Any:
        mesh = self.bpy.data.meshes.new(title)
        count = len(surface.faces)
        mesh.vertices.add(len(surface.vertices))
        mesh.loops.add(3 * count)
        mesh.polygons.add(count)
        mesh.vertices.foreach_set("co", _flat(surface.vertices))
        mesh.loops.foreach_set("vertex_index", np.ascontiguousarray(surface.faces, np.int32).ravel())
        mesh.polygons.foreach_set("loop_start", np.arange(0, 3 * count, 3, dtype=np.int32))
        mesh.update(calc_edges=True)
        # Blender sums vertex normals in a racy order: our own make renders repeat to the last bit.
        normals = mesh.attributes.new("custom_normal", "FLOAT_VECTOR", "POINT")
        normals.data.foreach_set("vector", _flat(surface.normals))
        parts = mesh.attributes.new(passes.PART_ATTRIBUTE, "INT", "FACE")
        parts.data.foreach_set("value", surface.part_ids.astype(np.int32))
        for name, values in sorted(surface.attributes.items()):
            mesh.attributes.new(name, "FLOAT", "POINT").data.foreach_set("value", _flat(values))
        if surface.uv is not None:
            mesh.uv_layers.new(name="uv").data.foreach_set("uv", _flat(surface.uv))
        return mesh

    def _remove_people(self) -> None:
        data = self.bpy.data
        for thing in self._people:
            mesh = thing.data
            data.objects.remove(thing)
            data.meshes.remove(mesh)
        for material in self._materials.values():
            data.materials.remove(material)
        self._people, self._materials = [], {}

    def _render(self) -> passes.Channels:
        path = Path(self.folder.name) / "layers.exr"
        image = self.scene.render.image_settings
        image.file_format, image.color_mode = "OPEN_EXR_MULTILAYER", "RGBA"
        image.color_depth, image.exr_codec = "32", "NONE"
        self.scene.render.filepath = str(path)
        with silenced():
            self.bpy.ops.render.render(write_still=True)
        return _read_layers(path)

    def _displayed(self) -> UInt8[np.ndarray, "height width 3"]:
        """The last render through the view transform, by Blender's own colour management."""
        import cv2

        path = str(Path(self.folder.name) / "displayed.png")
        image = self.scene.render.image_settings
        image.file_format, image.color_mode, image.color_depth, image.compression = "PNG", "RGB", "8", 0
        with silenced():
            self.bpy.data.images["Render Result"].save_render(path, scene=self.scene)
        return np.ascontiguousarray(cv2.imread(path, cv2.IMREAD_COLOR)[..., ::-1])


_SCENE: Scene | None = None


def shared_scene() -> Scene:
    """The scene of this process, made on first use."""
    global _SCENE
    if _SCENE is None:
        with silenced():
            _SCENE = Scene()
    return _SCENE


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


def _read_layers(path: Path) -> passes.Channels:
    """Pass name ("Depth", "part_id") -> float32 (h, w) or (h, w, 3)."""
    import OpenEXR

    layers: dict[str, list[Any]] = {}
    with OpenEXR.File(str(path)) as file:
        for name, channel in sorted(file.channels().items()):
            # "labels.coverage.X", three of "labels.Position.X", or RGB and RGBA joined as "labels.albedo"
            layer = name.removeprefix("labels.").partition(".")[0]
            layers.setdefault(layer, []).append(np.array(channel.pixels))
    path.unlink()
    joined = {name: parts[0] if len(parts) == 1 else np.stack(parts, -1) for name, parts in layers.items()}
    return {name: pixels if pixels.ndim == 2 else pixels[..., :3] for name, pixels in joined.items()}


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _flat(array: Float32[np.ndarray, "..."] | Float64[np.ndarray, "..."]) -> Float32[np.ndarray, " n"]:
    return np.ascontiguousarray(array, dtype=np.float32).ravel()
