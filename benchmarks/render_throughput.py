"""Images per second with depth and normals, beside the peers' way of using the same Blender.

    python -P benchmarks/render_throughput.py [--quick] [--subject scan|person] [--ground none|occlusion]
                                              [--threads N] [--rounds N]

The same subject (a scan with colours per vertex, made of a sampled person; or that person with procedural
skin, cloth and hair), HDRI and cameras (face, upper body and full body in equal parts), 1024 wide x 768
high, 64 samples a pixel on both sides without adaptive stopping, Filmic. What counts on both sides is a
picture, depth and normals as arrays in memory; loading the person is outside. Each side is a process of its
own; they take turns, and of the rounds the one with the least CPU time counts, for the machine may be shared.

The peers' way is re-created from BlenderProc's documented defaults: full frame, one render() per frame with
persistent data, static BVH with spatial splits, 3 diffuse and 0 glossy bounces, no light tree, HDRI on the
background node; picture (PNG), depth (EXR) and normals (EXR, turned into the camera's frame by arithmetic
nodes) written by compositor nodes and read back; OIDN as a compositor node guided by albedo and normals. One
default is not kept: it stops sampling at a noise threshold of 0.01, here every pixel gets its 64 samples.

Equal noise: PSNR of the 8-bit picture on the person's pixels against the same side's undenoised reference
of 4096 samples, at half the size (--quick: 64 samples), kept in the temporary folder for the next
run of the same code. `psnr_references_db`: how alike the two references are. `peer_normal_*`: how far the
peers' normals, averaged over samples and bent by bump maps, are from the surface's. Last printed line: one
JSON object.
"""

import argparse
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from annotation.camera import blender_camera
from render.blender import silenced
from render.crosscheck import Rig, angle_deg, interior
from render.engine import Engine, built_person
from render.folders import Folders
from render.lights import find_hdri
from render.people import PersonSpec, sample_person
from render.person import Person
from render.scene import shared_scene
from render.shading import base_colour, encoded
from render.sources import ScanConfig, list_scans, plan_scan
from render.spec import SENSOR_WIDTH_MM, RenderSettings, SampleSpec, ScanSpec, StageSpec, sample_key

CACHE = Path(tempfile.gettempdir()) / "vitruvian-references"
SCANS = Path(tempfile.gettempdir()) / "vitruvian-benchmark-scans"
FOLDERS = Folders(scans=SCANS)
FRAMINGS = {"face": (0.36, 0.92, 70.0), "upper_body": (0.66, 0.75, 50.0), "full_body": (1.2, 0.5, 35.0)}
"""How tall the frame is (m for the face, else of the person), how high its middle (of the person), and mm."""


@dataclass(frozen=True)
class Images:
    """rgb: uint8. depth: float32 metres, 0 or 1e10 where nothing is. normal: float32, the label's frame."""

    rgb: np.ndarray
    depth: np.ndarray
    normal: np.ndarray


class Side(Protocol):
    """One way to make images of specs. seconds: by step, added up."""

    seconds: dict[str, float]

    def images(self, spec: SampleSpec) -> Images: ...


class Ours:
    """The engine, as a render job uses it, up to the arrays."""

    def __init__(self, threads: int) -> None:
        self._engine = Engine(threads, folders=FOLDERS)
        self.seconds = self._engine.seconds

    def images(self, spec: SampleSpec) -> Images:
        """Picture, depth and normals of `spec`."""
        labels = self._engine.render_labels(spec)
        assert labels.rgb is not None and labels.depth is not None and labels.normal is not None
        return Images(labels.rgb, labels.depth, labels.normal)


class Peer:
    """BlenderProc's way: one scene, one render per frame, everything through the compositor and files."""

    def __init__(self, threads: int) -> None:
        import bpy

        self.bpy = bpy
        self.seconds: dict[str, float] = {}
        self._people: object = None
        self._shared = shared_scene()  # builds meshes and materials; never renders here
        self._scene = bpy.data.scenes.new("peer")
        self._folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self._configure(threads)
        self._background = self._build_world()
        self._build_compositor()

    def images(self, spec: SampleSpec) -> Images:
        """Picture, depth and normals of `spec`, from the files that one render leaves."""
        start = time.perf_counter()
        self._prepare(spec)
        prepared = time.perf_counter()
        with silenced():
            self.bpy.ops.render.render(animation=True, scene=self._scene.name)
        rendered = time.perf_counter()
        images = self._read()
        steps = (prepared - start, rendered - prepared, time.perf_counter() - rendered)
        for name, spent in zip(("prepare", "render", "read"), steps, strict=True):
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
        return images

    def _configure(self, threads: int) -> None:
        scene = self._scene
        render, cycles, layer = scene.render, scene.cycles, scene.view_layers[0]
        render.engine, cycles.device = "CYCLES", "CPU"
        render.resolution_percentage, render.use_persistent_data = 100, True
        render.threads_mode, render.threads = "FIXED", threads
        render.use_simplify, render.simplify_subdivision_render = True, 3
        render.filepath = f"{self._folder}/rgb_"
        render.image_settings.file_format, render.image_settings.color_mode = "PNG", "RGB"
        cycles.debug_bvh_type, cycles.debug_use_spatial_splits = "STATIC_BVH", True
        cycles.use_adaptive_sampling, cycles.use_light_tree, cycles.use_denoising = False, False, False
        cycles.max_bounces, cycles.diffuse_bounces, cycles.glossy_bounces = 3, 3, 0
        cycles.transmission_bounces, cycles.transparent_max_bounces, cycles.volume_bounces = 0, 8, 0
        layer.cycles.use_denoising = False
        layer.use_pass_z = layer.use_pass_normal = layer.use_pass_diffuse_color = True
        scene.frame_start = scene.frame_end = 0
        scene.camera = self.bpy.data.objects.new("peer", self.bpy.data.cameras.new("peer"))
        scene.camera.data.clip_start, scene.camera.data.clip_end = 0.1, 1000
        scene.collection.objects.link(scene.camera)

    def _build_world(self) -> Any:
        world = self.bpy.data.worlds.new("peer")
        self._scene.world, world.use_nodes = world, True
        nodes, links = world.node_tree.nodes, world.node_tree.links
        self._texture, self._mapping = nodes.new("ShaderNodeTexEnvironment"), nodes.new("ShaderNodeMapping")
        links.new(nodes.new("ShaderNodeTexCoord").outputs["Generated"], self._mapping.inputs["Vector"])
        links.new(self._mapping.outputs["Vector"], self._texture.inputs["Vector"])
        links.new(self._texture.outputs["Color"], nodes["Background"].inputs["Color"])
        return nodes["Background"]

    def _build_compositor(self) -> None:
        self._scene.use_nodes = True
        tree = self._scene.node_tree
        tree.nodes.clear()
        self._layers = tree.nodes.new("CompositorNodeRLayers")
        self._layers.scene = self._scene
        self._composite = tree.nodes.new("CompositorNodeComposite")
        self._denoise = tree.nodes.new("CompositorNodeDenoise")
        passes = self._layers.outputs
        for name, source in (("Image", "Image"), ("Albedo", "DiffCol"), ("Normal", "Normal")):
            tree.links.new(passes[source], self._denoise.inputs[name])
        self._write("depth_", passes["Depth"])
        self._write("normals_", self._normal_in_camera_frame(tree, passes["Normal"]))

    def _write(self, prefix: str, socket: Any) -> None:
        tree = self._scene.node_tree
        output = tree.nodes.new("CompositorNodeOutputFile")
        output.base_path, output.format.file_format = self._folder, "OPEN_EXR"
        output.file_slots[0].path = prefix
        tree.links.new(socket, output.inputs[0])

    def _normal_in_camera_frame(self, tree: Any, normal: Any) -> Any:
        """A 3 x 3 matrix of multiply nodes, and the result brought to 0..1."""

        def math_node(operation: str, first: Any, second: Any) -> Any:
            node = tree.nodes.new("CompositorNodeMath")
            node.operation = operation
            tree.links.new(first, node.inputs[0])
            if isinstance(second, float):
                node.inputs[1].default_value = second
            else:
                tree.links.new(second, node.inputs[1])
            return node

        parts = tree.nodes.new("CompositorNodeSeparateColor")
        joined = tree.nodes.new("CompositorNodeCombineColor")
        tree.links.new(normal, parts.inputs[0])
        self._turn = []
        for row in range(3):
            terms = [math_node("MULTIPLY", parts.outputs[column], 0.0) for column in range(3)]
            self._turn.append(terms)
            two = math_node("ADD", terms[0].outputs[0], terms[1].outputs[0])
            three = math_node("ADD", two.outputs[0], terms[2].outputs[0])
            half = math_node("MULTIPLY", three.outputs[0], 0.5)
            tree.links.new(math_node("ADD", half.outputs[0], 0.5).outputs[0], joined.inputs[row])
        return joined.outputs[0]

    def _prepare(self, spec: SampleSpec) -> None:
        if spec.people != self._people:
            self._load(spec)
        self._set_light(spec)
        self._set_camera(spec)
        settings, scene, tree = spec.settings, self._scene, self._scene.node_tree
        scene.cycles.samples, scene.cycles.seed = settings.samples, settings.noise_seed
        scene.view_settings.view_transform = settings.view_transform
        finished = self._denoise if settings.denoise else self._layers
        tree.links.new(finished.outputs["Image"], self._composite.inputs["Image"])

    def _load(self, spec: SampleSpec) -> None:
        self._shared.load_people([built_person(person, FOLDERS) for person in spec.people], spec.placements)
        for thing in self._shared.scene.objects:
            if thing.type == "MESH" and thing.pass_index:
                self._scene.collection.objects.link(thing)
        self._people = spec.people

    def _set_light(self, spec: SampleSpec) -> None:
        path = str(find_hdri(spec.light.hdri).path)
        if self._texture.image is None or self._texture.image.filepath != path:
            self._texture.image = self.bpy.data.images.load(path)
        self._mapping.inputs["Rotation"].default_value[2] = math.radians(spec.light.rotation_deg)
        self._background.inputs["Strength"].default_value = 2.0**spec.light.exposure_ev

    def _set_camera(self, spec: SampleSpec) -> None:
        import mathutils

        camera = spec.camera.camera(spec.settings.width, spec.settings.height)
        blender, data = blender_camera(camera, SENSOR_WIDTH_MM), self._scene.camera.data
        render = self._scene.render
        render.resolution_x, render.resolution_y = blender.width, blender.height
        data.sensor_fit, data.sensor_width, data.lens = blender.sensor_fit, blender.sensor_width, blender.lens
        data.shift_x, data.shift_y = blender.shift_x, blender.shift_y
        self._scene.camera.matrix_world = mathutils.Matrix(blender.matrix_world.tolist())
        to_camera = blender.matrix_world[:3, :3].T
        for row, terms in enumerate(self._turn):
            for column, term in enumerate(terms):
                term.inputs[1].default_value = to_camera[row, column]

    def _read(self) -> Images:
        import cv2

        picture = cv2.imread(f"{self._folder}/rgb_0000.png", cv2.IMREAD_COLOR)
        depth = _read_exr(f"{self._folder}/depth_0000.exr")
        normal = _read_exr(f"{self._folder}/normals_0000.exr") * 2 - 1
        return Images(np.ascontiguousarray(picture[..., ::-1]), depth[..., 0], normal[..., :3])


def _read_exr(path: str) -> np.ndarray:
    """All channels of an EXR file, float32 (h, w, c)."""
    import OpenEXR

    with OpenEXR.File(path) as file:
        channels = [np.asarray(channel.pixels, np.float32) for channel in file.channels().values()]
    return np.concatenate([pixels if pixels.ndim == 3 else pixels[..., None] for pixels in channels], axis=-1)


SIDES: dict[str, Callable[[int], Side]] = {"ours": Ours, "peer": Peer}


@cache
def side(name: str, threads: int) -> Side:
    """This process's one instance."""
    return SIDES[name](threads)


def measure(name: str, threads: int, specs: Sequence[SampleSpec]) -> dict[str, float]:
    """Seconds per image, wall and CPU and by step; one image more is made first."""
    maker = side(name, threads)
    maker.images(specs[-1])
    maker.seconds.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    for spec in specs:
        maker.images(spec)
    spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, **maker.seconds}
    return {step: round(seconds / len(specs), 4) for step, seconds in spent.items()}


def make(name: str, threads: int, spec: SampleSpec) -> Images:
    """The images of one spec."""
    return side(name, threads).images(spec)


def make_scan(person: Person, name: str) -> ScanSpec:
    """`person` as a scanner would hand it over: one mesh with colours per vertex, in a folder of scans."""
    import trimesh

    pieces = []
    for surface in person.surfaces:
        shade = np.rint(255 * encoded(base_colour(surface.material)[None])).astype(np.uint8)
        colour = np.tile(shade, (len(surface.vertices), 1))
        piece = trimesh.Trimesh(
            surface.vertices,
            surface.faces,
            vertex_normals=surface.normals,
            vertex_colors=colour,
            process=False,
        )
        pieces.append(piece)
    SCANS.mkdir(parents=True, exist_ok=True)
    trimesh.util.concatenate(pieces).export(SCANS / f"{name}.ply", vertex_normal=True)
    config = ScanConfig(folder=SCANS, up="+z", front="-y", unit="m")
    (files,) = [files for files in list_scans(config) if files.name == name]
    return plan_scan(files, config)


def make_specs(someone: PersonSpec | ScanSpec, settings: RenderSettings, ground: str) -> list[SampleSpec]:
    """Face, upper body and full body of one person, seen from the front at a slant."""
    height, specs = built_person(someone, FOLDERS).height, []
    for name, (tall, middle, lens) in FRAMINGS.items():
        metres = tall if name == "face" else tall * height
        distance = metres * lens / SENSOR_WIDTH_MM * settings.width / settings.height
        rig = Rig(settings.width, settings.height, lens, distance, azimuth_deg=15.0, elevation_deg=4.0)
        spec = rig.spec(someone, np.array([0.0, 0.0, middle * height]), settings, "courtyard")
        specs.append(replace(spec, stage=StageSpec(ground=ground)))  # type: ignore[arg-type]
    return specs


def psnr(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """Peak signal to noise ratio in dB, 8-bit."""
    error = (picture.astype(np.float64) - truth)[where]
    return float(10 * np.log10(255**2 / max(float((error**2).mean()), 1e-9)))


class Worker:
    """One side in a process of its own."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self._threads = name, threads
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    def measure(self, specs: Sequence[SampleSpec]) -> dict[str, float]:
        """Seconds per image."""
        return self._pool.submit(measure, self.name, self._threads, specs).result()

    def images(self, spec: SampleSpec) -> Images:
        """The images of `spec`."""
        return self._pool.submit(make, self.name, self._threads, spec).result()

    def reference(self, spec: SampleSpec, samples: int) -> np.ndarray:
        """The picture of `spec` with many samples and no denoising; kept between runs of the same code."""
        many = replace(spec, settings=replace(spec.settings, samples=samples, denoise=False))
        code = Path(__file__).read_bytes()
        if self.name == "ours":
            code += b"".join(path.read_bytes() for path in sorted(Path("render").rglob("*.py")))
        digest = hashlib.sha256(code).hexdigest()[:16]
        path = CACHE / f"{self.name}-{sample_key(many)}-{digest}.npy"
        if not path.exists():
            CACHE.mkdir(exist_ok=True)
            np.save(path, self.images(many).rgb)
        return np.asarray(np.load(path))

    def end(self) -> None:
        """End the process without Blender's destructors: they may hang."""
        try:
            self._pool.submit(os._exit, 0).result()
        except BrokenProcessPool:
            self._pool.shutdown()


def compare_noise(workers: Sequence[Worker], specs: Sequence[SampleSpec], samples: int) -> dict[str, Any]:
    """PSNR (dB) of each side against its own reference, on the person; and of one reference in the other."""
    found: dict[str, list[float]] = {"ours": [], "peer": [], "references": []}
    for spec in specs:
        seen = {worker.name: worker.images(spec) for worker in workers}
        truth = {worker.name: worker.reference(spec, samples) for worker in workers}
        person = seen["ours"].depth > 0
        for name, images in seen.items():
            found[name].append(psnr(images.rgb, truth[name], person))
        found["references"].append(psnr(truth["ours"], truth["peer"], person))
        print("psnr", {name: round(values[-1], 2) for name, values in found.items()}, flush=True)
    mean = {f"psnr_{name}_db": round(float(np.mean(values)), 2) for name, values in found.items()}
    return {**mean, "psnr_gap_db": round(mean["psnr_ours_db"] - mean["psnr_peer_db"], 2)}


def compare_labels(workers: Sequence[Worker], specs: Sequence[SampleSpec]) -> dict[str, Any]:
    """That both sides see the same surfaces through the same cameras, and what the peers' normals miss."""
    agree, off = [], []
    for spec in specs:
        seen = {worker.name: worker.images(spec) for worker in workers}
        inner = interior(seen["ours"].depth > 0)
        depth, other = seen["ours"].depth[inner], seen["peer"].depth[inner]
        agree.append(np.abs(depth - other) < 1e-4 * depth)
        off.append(angle_deg(seen["peer"].normal, seen["ours"].normal)[inner])
    degrees = np.concatenate(off)
    return {
        "depth_agrees": round(float(np.concatenate(agree).mean()), 5),
        "peer_normal_off_1_deg": round(float((degrees > 1).mean()), 4),
        "peer_normal_p99_deg": round(float(np.quantile(degrees, 0.99)), 2),
    }


def take_turns(workers: Sequence[Worker], specs: Sequence[SampleSpec], rounds: int) -> dict[str, Any]:
    """Seconds per image of each side: the round with the least CPU time."""
    best: dict[str, dict[str, float]] = {}
    for turn in range(rounds):
        for worker in workers:
            spent = worker.measure(specs)
            print("round", turn, worker.name, spent, flush=True)
            best[worker.name] = min(spent, best.get(worker.name, spent), key=lambda one: one["cpu"])
    ours, peer = best["ours"], best["peer"]
    return {
        "ratio": round(peer["wall"] / ours["wall"], 2),
        "ratio_cpu": round(peer["cpu"] / ours["cpu"], 2),
        "gt_share": round(ours["truth"] / ours["wall"], 4),
        "seconds": best,
    }


def shrunk(specs: Sequence[SampleSpec], by: int) -> list[SampleSpec]:
    """The same pictures, smaller."""
    return [
        replace(s, settings=replace(s.settings, width=s.settings.width // by, height=s.settings.height // by))
        for s in specs
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="192 x 144, 8 samples, one round")
    parser.add_argument("--subject", choices=("scan", "person"), default="scan")
    parser.add_argument("--ground", choices=("none", "occlusion"), default="none", help="ours has one or not")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, help="default 3, quick 1; 0: noise and labels only")
    parser.add_argument("--shrink", type=int, default=2, help="of the pictures whose noise is measured")
    parser.add_argument("--reference", type=int, help="samples of the reference, default 4096, quick 64")
    given = parser.parse_args()
    settings = RenderSettings(
        width=192 if given.quick else 1024,
        height=144 if given.quick else 768,
        samples=8 if given.quick else 64,
        view_transform="Filmic",
        labels=("depth", "normal"),
    )
    sampled = sample_person(np.random.default_rng(3))
    scanned = given.subject == "scan"
    someone = make_scan(built_person(sampled), "person-3") if scanned else sampled
    specs = make_specs(someone, settings, given.ground)
    workers = [Worker(name, given.threads) for name in SIDES]
    figures: dict[str, Any] = {"benchmark": "render_throughput", "settings": asdict(settings)}
    figures |= {"subject": given.subject, "ground": given.ground, "threads": given.threads}
    rounds = given.rounds if given.rounds is not None else (1 if given.quick else 3)
    figures |= take_turns(workers, specs, rounds) if rounds else {}
    smaller = shrunk(specs, given.shrink)
    figures |= compare_labels(workers, smaller)
    reference = given.reference or (64 if given.quick else 4096)
    figures |= {"reference_samples": reference, **compare_noise(workers, smaller, reference)}
    for worker in workers:
        worker.end()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
