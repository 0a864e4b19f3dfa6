"""The one Blender scene of this process: people, things, light and camera are exchanged, the rest stays
loaded.

Cycles sees the people and what hides them, before nothing: render/backdrop.py makes what is behind. Nothing
in the scene depends on what was rendered before: names, order and every setting are written anew.
"""

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from annotation.camera import Camera, blender_camera
from render import passes
from render.blender import (
    build_mesh,
    choose_device,
    display,
    read_layers,
    scratch_folder,
    silenced,
    triangle_mesh,
)
from render.lights import Hdri
from render.nodes import BLENDED
from render.person import Material, Person, Surface
from render.props import occluder_mesh
from render.shutter import is_shaken, moved
from render.spec import (
    SENSOR_WIDTH_MM,
    EffectsSpec,
    LightSpec,
    OccluderSpec,
    Placement,
    RenderSettings,
    StageSpec,
)
from shards.sample import digest_json

_CATCHER_RADIUS = 20.0  # m
# Pixels across the HDRI's importance map, which is rebuilt when the light changes. A map smaller than the
# HDRI misses small lamps: 512 for one of 1024 made the same 16 samples 1.6 times as noisy (RMSE, 2026-11-21).
_IMPORTANCE_MAP_LIMIT = 2048
_TRUTH_FILTER_WIDTH = 0.01  # px; wider filters move the first sample off the pixel centre by 0.0005 px
_BEAUTY_FILTER_WIDTH = 1.5  # px, Blackman-Harris
_FEWEST_SAMPLES = 16  # of a pixel, before its noise can be judged
# From here on the denoiser's guides are prefiltered with care: 0.7 dB better, at twice the denoiser's cost,
# which is little beside so many samples (2026-11-21).
_WORTH_PREFILTERING = 32
_COVERAGE_SAMPLES = 32  # of the alpha, where the picture's own is blurred


class Scene:
    """Blender with one scene loaded. There is one per process, because bpy's state is global: use
    `shared_scene`.
    """

    def __init__(self) -> None:
        import bpy

        self.bpy = bpy
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.scene = bpy.context.scene
        self._scratch = scratch_folder()
        self.folder = Path(self._scratch.name)
        atexit.register(self._scratch.cleanup)
        self.cast: object = None  # whoever loads people notes here who they are
        self._things: list[Any] = []
        self._materials: dict[str, Any] = {}
        self._samples = 0  # of the last beauty render
        self._device = "cpu"
        self._view: Camera | None = None
        self._configure()
        self._environment = self._build_world()
        self._camera = self._build_camera()
        self._catcher = self._build_catcher()

    def load_people(
        self, people: Sequence[Person], placements: Sequence[Placement], stage: StageSpec | None = None
    ) -> None:
        """Replace whoever and whatever is in the scene. Materials get their AOV outputs here, once."""
        self._clear()
        stage = stage or StageSpec()
        for index, (person, placement) in enumerate(zip(people, placements, strict=True), start=1):
            for surface in person.surfaces:
                self._add_surface(surface, f"person{index}.{surface.name}", index, placement)
        for index, occluder in enumerate(stage.occluders):
            self._add_occluder(occluder, f"occluder{index}")
        self._catcher.hide_render = stage.ground != "shadow_catcher"

    def set_light(self, hdri: Hdri, light: LightSpec) -> None:
        """Light the scene with `hdri`, turned by the light's rotation; its exposure acts on the film."""
        texture = self._environment["texture"]
        if texture.image is None or texture.image.name != hdri.sha256:
            if texture.image is not None:
                self.bpy.data.images.remove(texture.image)
            texture.image = image = self.bpy.data.images.load(str(hdri.path))
            image.name = hdri.sha256
            self.scene.world.cycles.sample_map_resolution = min(image.size[0], _IMPORTANCE_MAP_LIMIT)
        self._environment["mapping"].inputs["Rotation"].default_value[2] = np.deg2rad(light.rotation_deg)
        self.scene.view_settings.exposure = light.exposure_ev

    def set_camera(self, camera: Camera) -> None:
        """Look through `camera`; its size becomes the image's."""
        self._view = camera
        blender = blender_camera(camera, SENSOR_WIDTH_MM)
        data, render = self._camera.data, self.scene.render
        render.resolution_x, render.resolution_y = blender.width, blender.height
        data.sensor_fit, data.sensor_width, data.lens = blender.sensor_fit, blender.sensor_width, blender.lens
        data.shift_x, data.shift_y = blender.shift_x, blender.shift_y
        self._aim(camera)

    def render_beauty(
        self, settings: RenderSettings, effects: EffectsSpec | None = None, focal_mm: float = 0.0
    ) -> passes.Channels:
        """The people in linear light: "Combined" (h, w, 4) with associated alpha and nothing behind, and the
        AOVs filtered like it.

        focal_mm: of the whole picture, of which the camera may see a part; depth of field needs it.
        """
        effects = effects or EffectsSpec()
        cycles = self.scene.cycles
        if settings.samples != self._samples:
            self._forget()
            self._samples = settings.samples
        cycles.samples, cycles.filter_width = settings.samples, _BEAUTY_FILTER_WIDTH
        cycles.seed, cycles.use_denoising = settings.noise_seed, settings.denoise
        cycles.denoising_prefilter = "FAST" if settings.samples < _WORTH_PREFILTERING else "ACCURATE"
        cycles.use_adaptive_sampling = settings.noise_threshold > 0
        cycles.adaptive_threshold, cycles.adaptive_min_samples = settings.noise_threshold, _FEWEST_SAMPLES
        with self._in_focus(effects, focal_mm), self._shaken(effects):
            return self._render()

    def render_coverage(self) -> passes.Channels:
        """The AOVs filtered like a picture without depth of field and motion blur."""
        cycles = self.scene.cycles
        cycles.samples, cycles.filter_width = _COVERAGE_SAMPLES, _BEAUTY_FILTER_WIDTH
        cycles.seed, cycles.use_denoising = 0, False
        cycles.use_adaptive_sampling = False
        bounces, cycles.max_bounces = cycles.max_bounces, 0
        with self._hardened():
            channels = self._render()
        cycles.max_bounces = bounces
        return channels

    def render_truth(self) -> passes.Channels:
        """One ray through each pixel centre: AOVs and depth of exactly one surface point per pixel."""
        cycles = self.scene.cycles
        cycles.samples, cycles.filter_width, cycles.use_denoising = 1, _TRUTH_FILTER_WIDTH, False
        cycles.use_adaptive_sampling = False
        with self._hardened():
            return self._render()

    def display(
        self, linear: Float32[np.ndarray, "height width 3"], view_transform: str
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Linear light -> 8-bit sRGB through the light's exposure and the view transform."""
        self.scene.view_settings.view_transform = view_transform
        return display(self.bpy, self.scene, linear, self.folder)

    @property
    def see_through(self) -> bool:
        """Whether something in the scene is blended with what is behind it."""
        return bool(self._blended())

    def set_threads(self, threads: int) -> None:
        """Render with this many CPU threads; the picture does not depend on it."""
        self.scene.render.threads_mode, self.scene.render.threads = "FIXED", threads

    def set_device(self, device: str) -> None:
        """Render on "cpu", "cuda", "optix" or whatever GPU there is ("auto")."""
        if device != self._device:
            choose_device(self.bpy, self.scene, device)
            self._device = device

    def _forget(self) -> None:
        """Drop Cycles' persistent data.

        Its table of random numbers grows with the sample count and never shrinks: a picture would otherwise
        depend on the sample counts rendered before it.
        """
        self.scene.render.use_persistent_data = False
        self.scene.render.use_persistent_data = True

    @contextmanager
    def _hardened(self) -> Iterator[None]:
        """See-through surfaces there or not, by their opacity at each point.

        Of a blended one Cycles follows either what it reflects or what is behind it, by chance: with one ray
        per pixel some pixels behind a lens would have no label.
        """
        blended = self._blended()
        for node in blended:
            node.outputs[0].default_value = 0.0
        yield
        for node in blended:
            node.outputs[0].default_value = 1.0

    def _blended(self) -> list[Any]:
        nodes = [material.node_tree.nodes.get(BLENDED) for material in self._materials.values()]
        return [node for node in nodes if node is not None]

    @contextmanager
    def _in_focus(self, effects: EffectsSpec, focal_mm: float) -> Iterator[None]:
        """Depth of field. The lens that Blender knows is that of a crop, so the f-number is scaled along."""
        lens = self._camera.data
        lens.dof.use_dof = effects.fstop > 0
        if lens.dof.use_dof:
            lens.dof.focus_distance = effects.focus_m
            lens.dof.aperture_fstop = effects.fstop * lens.lens / (focal_mm or lens.lens)
        yield
        lens.dof.use_dof = False

    @contextmanager
    def _shaken(self, effects: EffectsSpec) -> Iterator[None]:
        """Camera motion while the shutter is open: a straight path through the pose at mid-exposure."""
        if not is_shaken(effects) or self._view is None:
            yield
            return
        render, thing = self.scene.render, self._camera
        for frame in (0, 2):  # the shutter is open from 0.5 to 1.5
            self._aim(moved(self._view, effects, float(frame - 1)))
            thing.keyframe_insert("location", frame=frame)
            thing.keyframe_insert("rotation_quaternion", frame=frame)
        action = thing.animation_data.action
        for curve in action.fcurves:
            for point in curve.keyframe_points:
                point.interpolation = "LINEAR"
        render.use_motion_blur, render.motion_blur_shutter = True, 1.0
        self.scene.frame_set(1)
        yield
        render.use_motion_blur = False
        thing.animation_data_clear()
        self.bpy.data.actions.remove(action)
        self._aim(self._view)

    def _aim(self, camera: Camera) -> None:
        import mathutils

        self._camera.matrix_world = mathutils.Matrix(blender_camera(camera).matrix_world.tolist())

    def _configure(self) -> None:
        scene = self.scene
        render, cycles, layer = scene.render, scene.cycles, scene.view_layers[0]
        layer.name = "labels"
        render.engine, cycles.device = "CYCLES", "CPU"
        render.use_persistent_data = True
        render.resolution_percentage, render.dither_intensity = 100, 0.0
        render.use_compositing = render.use_sequencer = False
        render.film_transparent = True
        cycles.use_adaptive_sampling, cycles.use_light_tree = False, False
        cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 4, 2, 2
        cycles.transmission_bounces, cycles.transparent_max_bounces = 2, 64
        cycles.sampling_pattern = "TABULATED_SOBOL"
        cycles.caustics_reflective = cycles.caustics_refractive = False
        cycles.sample_clamp_indirect = 4.0
        cycles.pixel_filter_type, cycles.use_auto_tile = "BLACKMAN_HARRIS", False
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
        camera.rotation_mode = "QUATERNION"
        self.scene.collection.objects.link(camera)
        self.scene.camera = camera
        return camera

    def _build_catcher(self) -> Any:
        """A floor that is seen only by the shadows on it (hidden unless the stage asks for it)."""
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float64) * _CATCHER_RADIUS
        faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
        mesh = triangle_mesh(self.bpy, corners, faces, np.tile([0.0, 0.0, 1.0], (4, 1)), "ground")
        catcher = self.bpy.data.objects.new("ground", mesh)
        catcher.is_shadow_catcher, catcher.hide_render = True, True
        self.scene.collection.objects.link(catcher)
        return catcher

    def _add_surface(self, surface: Surface, name: str, index: int, placement: Placement) -> None:
        import mathutils

        mesh = build_mesh(self.bpy, surface, name)
        mesh.materials.append(self._material(surface.material))
        thing = self.bpy.data.objects.new(name, mesh)
        thing.matrix_world = mathutils.Matrix(placement.matrix().tolist())
        thing.pass_index = index
        self.scene.collection.objects.link(thing)
        self._things.append(thing)

    def _add_occluder(self, occluder: OccluderSpec, name: str) -> None:
        """A thing in the way. Its material writes no AOV, so that to the labels it is nobody."""
        mesh = triangle_mesh(self.bpy, *occluder_mesh(occluder), name)
        material = self.bpy.data.materials.new(name)
        material.use_nodes = True
        shader = material.node_tree.nodes["Principled BSDF"]
        shader.inputs["Base Color"].default_value = (*occluder.colour, 1.0)
        shader.inputs["Roughness"].default_value = occluder.roughness
        mesh.materials.append(material)
        thing = self.bpy.data.objects.new(name, mesh)
        self.scene.collection.objects.link(thing)
        self._things.append(thing)
        self._materials[name] = material

    def _material(self, material: Material) -> Any:
        """The shader of `material`, shared by all surfaces that have an equal one, with its AOV outputs."""
        from render.materials import build_material

        digest = digest_json(asdict(material))
        if digest not in self._materials:
            built = build_material(material)
            passes.attach(built.node_tree)
            self._materials[digest] = built
        return self._materials[digest]

    def _clear(self) -> None:
        data = self.bpy.data
        for thing in self._things:
            mesh = thing.data
            data.objects.remove(thing)
            data.meshes.remove(mesh)
        for material in self._materials.values():
            data.materials.remove(material)
        environment = self._environment["texture"].image
        for image in [image for image in data.images if not image.users and image != environment]:
            data.images.remove(image)
        self._things, self._materials = [], {}

    def _render(self) -> passes.Channels:
        path = self.folder / "layers.exr"
        image = self.scene.render.image_settings
        image.file_format, image.color_mode = "OPEN_EXR_MULTILAYER", "RGBA"
        image.color_depth, image.exr_codec = "32", "NONE"
        self.scene.render.filepath = str(path)
        with silenced():
            self.bpy.ops.render.render(write_still=True)
        channels = read_layers(path)
        path.unlink()
        return channels


_SCENE: Scene | None = None


def shared_scene(threads: int | None = None) -> Scene:
    """The scene of this process, made on first use. threads: the most that will ever render."""
    global _SCENE
    if _SCENE is None:
        with silenced(), _as_if_on(threads):
            _SCENE = Scene()
    return _SCENE


@contextmanager
def _as_if_on(cores: int | None) -> Iterator[None]:
    """Let a library that counts the cores on its first use find only so many.

    Blender's thread pool (TBB) has a thread per core; those that a render with fewer threads leaves out do
    not sleep but yield in a loop, which doubled the CPU time of renders with one thread on two cores.
    """
    if cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
