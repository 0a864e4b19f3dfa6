"""`render(spec) -> Sample`: a beauty render and a one-sample ground-truth render of one loaded scene.

A pure function of the spec: the same members, byte for byte, in any process, thread count and order (same
build and CPU type). What is loaded stays loaded: views of one person under one HDRI cost two renders of the
part of the picture where people are, and nothing else.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Shaped, UInt8

from annotation.camera import Camera
from annotation.keypoints import keypoint_vocabulary
from annotation.labels import Labels, to_members
from render import effects, passes
from render.backdrop import GroundShade, backdrop, shade_ground
from render.folders import NO_FOLDERS, Folders
from render.keypoints import label_keypoints
from render.lights import Hdri, find_hdri, read_hdri
from render.people import PersonSpec, build_person
from render.people.library import opened_catalog
from render.person import Person
from render.props import occluder_mesh
from render.scene import Scene, shared_scene
from render.shutter import blur_radius, is_shaken, path_of, picture_box
from render.spec import EffectsSpec, Placement, SampleSpec, ScanSpec, sample_key
from shards.errors import VitruvianError
from shards.sample import Sample, digest_json

_REMEMBERED = 8
_BUILT: dict[str, Person] = {}  # by digest of the spec, oldest first

_FILTER_REACH = 3  # px around whatever is seen, that the pixel filter smears it over
_SHUTTER_STEPS = 9  # pictures of the backdrop that make its motion blur
_LENS_OVERSAMPLING = 3  # label pixels per picture pixel and axis, where a lens bends the picture

Image = Shaped[np.ndarray, "..."]


@dataclass(frozen=True)
class _Cast:
    """Whoever and whatever stands in the scene, as one mesh in the world."""

    people: tuple[Person, ...]
    vertices: Float64[np.ndarray, "v 3"]
    shade: GroundShade | None


class Engine:
    """Renders specs; keeps Blender's scene and the last people between calls.

    threads: CPU threads per render, default all this process may use. folders: where what the
    specs name lies. device: cpu, cuda, optix or auto (a GPU when
    there is one). `seconds` adds up the time spent on load, beauty, finish, truth, labels and encode.
    """

    def __init__(
        self,
        threads: int | None = None,
        folders: Folders = NO_FOLDERS,
        device: str = "cpu",
    ) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self.folders, self.device = folders, device
        self.seconds: dict[str, float] = {}
        self._cast: _Cast | None = None

    def render(self, spec: SampleSpec) -> Sample:
        """The sample of `spec`: key, image, labels and the json member that holds the spec itself."""
        labels = self.render_labels(spec)
        return self.encode(spec, labels)

    def encode(self, spec: SampleSpec, labels: Labels) -> Sample:
        """Labels -> the members of a sample."""
        with self._timed("encode"):
            quality = spec.effects.jpeg_quality
            if not quality or labels.rgb is None:
                return Sample(sample_key(spec), to_members(labels))
            members = to_members(replace(labels, rgb=None))
            members[effects.JPEG_MEMBER] = effects.encode_jpeg(labels.rgb, quality)
            return Sample(sample_key(spec), members)

    def render_labels(self, spec: SampleSpec) -> Labels:
        """Image and labels as arrays, before any codec."""
        with self._timed("load"):
            scene, hdri, cast = self._prepare(spec)
            camera = spec_camera(spec)
            straight = effects.ideal_camera(camera)
            box = _people_box(spec, straight, cast.vertices)
        with self._timed("beauty"):
            scene.set_camera(straight.crop(*box))
            layers = scene.render_beauty(spec.settings, spec.effects, _lens_mm(spec, straight))
            alpha = _paste(self._coverage(scene, spec, layers), box, straight)
        with self._timed("truth"):
            truth_camera, truth = self._truth(scene, spec, straight, cast)
        with self._timed("finish"):
            rgb = self._finish(scene, spec, hdri, cast, straight, _paste(layers["Combined"], box, straight))
        with self._timed("labels"):
            images = self._images(spec, cast, camera, truth_camera, truth)
            covered = effects.distort_image(alpha, straight, camera)
            images["alpha"] = passes.COVERAGE.decode(covered, passes.View(covered > 0, camera))
            return self._label(spec, cast.people, camera, rgb, images)

    def people(self, spec: SampleSpec) -> tuple[Person, ...]:
        """The people of `spec`, built or remembered."""
        return tuple(built_person(person, self.folders) for person in spec.people)

    def _prepare(self, spec: SampleSpec) -> tuple[Scene, Hdri, _Cast]:
        hdri = find_hdri(spec.light.hdri, self.folders.hdris)
        if hdri.sha256 != spec.light.sha256:
            raise VitruvianError(
                f"HDRI {hdri.path}: expected sha256 {spec.light.sha256} as in the spec; got {hdri.sha256}: "
                "name the folder that holds the file the spec was planned with"
            )
        scene = shared_scene(self.threads)
        scene.set_device(self.device)
        scene.set_threads(self.threads)
        wanted = (spec.people, spec.placements, spec.stage)
        if self._cast is None or wanted != scene.cast:
            people = self.people(spec)
            self._cast = _gather(people, spec)
            scene.load_people(people, spec.placements, spec.stage)
            scene.cast = wanted
        scene.set_light(hdri, spec.light)
        return scene, hdri, self._cast

    def _coverage(
        self, scene: Scene, spec: SampleSpec, layers: passes.Channels
    ) -> Float32[np.ndarray, "h w"]:
        """The share of each pixel that is people, in the sharp picture and with see-through surfaces there or
        not.
        """
        if spec.effects.fstop or is_shaken(spec.effects) or scene.see_through:
            layers = scene.render_coverage()
        return layers[passes.COVERAGE.aov]

    def _truth(
        self, scene: Scene, spec: SampleSpec, straight: Camera, cast: _Cast
    ) -> tuple[Camera, passes.Channels]:
        """Ground-truth layers of the whole view, and its camera: finer than the picture's behind a lens.

        The part that is rendered does not depend on the effects: not even the last bit of a label may.
        """
        box = picture_box(straight, 0.0, EffectsSpec(), cast.vertices, _FILTER_REACH)
        factor = _LENS_OVERSAMPLING if any(spec.effects.distortion) else 1
        x, y, width, height = (factor * edge for edge in box)
        camera = effects.oversampled(straight, factor)
        scene.set_camera(camera.crop(x, y, width, height))
        channels = scene.render_truth()
        return camera, {
            name: _paste(channel, (x, y, width, height), camera) for name, channel in channels.items()
        }

    def _finish(
        self,
        scene: Scene,
        spec: SampleSpec,
        hdri: Hdri,
        cast: _Cast,
        straight: Camera,
        people: Float32[np.ndarray, "h w 4"],
    ) -> UInt8[np.ndarray, "height width 3"]:
        """People over the backdrop, through lens, sensor and view transform."""
        camera, light, look = spec_camera(spec), spec.light, spec.effects
        if spec.stage.background == "hdri":
            behind = self._behind(spec, hdri, cast, straight)
            linear = people[..., :3] + (1 - people[..., 3:]) * behind
        else:
            linear = people[..., :3] / np.maximum(people[..., 3:], 1e-6)
        linear = effects.distort_image(linear, straight, camera)
        linear = effects.white_balance(linear, look.white_balance)
        linear = effects.sensor_noise(
            linear, light.exposure_ev, look.shot_noise, look.read_noise, spec.settings.noise_seed
        )
        rgb = scene.display(linear, spec.settings.view_transform)
        if spec.stage.background == "transparent":
            rgb[effects.distort_image(people[..., 3], straight, camera) <= 0] = 0
        return rgb

    def _behind(
        self, spec: SampleSpec, hdri: Hdri, cast: _Cast, camera: Camera
    ) -> Float32[np.ndarray, "height width 3"]:
        """The HDRI and the shade that people throw on its ground, as blurred as depth of field and motion
        make what is far away.
        """
        shade = cast.shade if spec.stage.ground == "occlusion" else None
        views = [
            backdrop(_radiance(hdri.path), spec.light.rotation_deg, view, shade)
            for view in path_of(camera, spec.effects, _SHUTTER_STEPS)
        ]
        seen = views[0] if len(views) == 1 else np.mean(views, axis=0, dtype=np.float32)
        radius = blur_radius(camera, _lens_mm(spec, camera), spec.effects, np.array([np.inf]))[0]
        return seen if radius < 0.5 else np.asarray(cv2.filter2D(seen, -1, _disc(float(radius))))

    def _images(
        self,
        spec: SampleSpec,
        cast: _Cast,
        camera: Camera,
        truth_camera: Camera,
        truth: passes.Channels,
    ) -> dict[str, Image]:
        """The pixel labels that the ground-truth render holds, as `camera` sees them."""
        view = passes.View(person=truth[passes.COVERAGE.aov] > 0.5, camera=truth_camera)
        images: dict[str, Image] = {
            label_pass.label: label_pass.decode(truth[label_pass.aov], view)
            for label_pass in passes.GROUND_TRUTH
            if any(label_pass.carried(person) for person in cast.people)
        }
        images["depth"] = passes.decode_depth(truth["Depth"], view)
        return effects.distort_labels(images, truth_camera, camera)

    def _label(
        self,
        spec: SampleSpec,
        people: tuple[Person, ...],
        camera: Camera,
        rgb: UInt8[np.ndarray, "height width 3"],
        images: Mapping[str, Image],
    ) -> Labels:
        keypoints = None
        heights = [person.height for person in people]
        if any(person.keypoints is not None for person in people):
            joints = _joints(people, spec.placements)
            keypoints = label_keypoints(joints, heights, camera, images["depth"], images["instance"])
        entries = [
            {
                "identity": placement.identity,
                "instance": index,
                "height_m": round(height, 4),
                **({"scan": person.name} if isinstance(person, ScanSpec) else {}),
            }
            for index, (person, placement, height) in enumerate(
                zip(spec.people, spec.placements, heights, strict=True), start=1
            )
        ]
        kept = {name: image for name, image in images.items() if name in spec.settings.labels}
        return Labels(
            rgb=rgb,
            keypoints=keypoints if "keypoints" in spec.settings.labels else None,
            camera=camera,
            part_classes=_part_classes(people),
            meta={"people": entries, "provenance": {"spec": spec.to_json()}},
            **kept,
        )

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def render(spec: SampleSpec) -> Sample:
    """The sample of `spec`, with bpy's own HDRIs and every thread this process may use."""
    return Engine().render(spec)


def built_person(spec: PersonSpec | ScanSpec, folders: Folders = NO_FOLDERS) -> Person:
    """The person of `spec`; the last few are remembered, for planning and rendering both ask.

    Raises VitruvianError for a scan or an asset when its folder is not named or does not hold its bytes.
    """
    digest = digest_json(spec.to_json() if isinstance(spec, PersonSpec) else vars(spec))
    if digest not in _BUILT:
        while len(_BUILT) >= _REMEMBERED:
            del _BUILT[next(iter(_BUILT))]
        _BUILT[digest] = (
            _sampled(spec, folders.assets) if isinstance(spec, PersonSpec) else _scanned(spec, folders.scans)
        )
    return _BUILT[digest]


def spec_camera(spec: SampleSpec) -> Camera:
    """The camera of the sample: pinhole, or with the lens of the spec's effects."""
    camera = spec.camera.camera(spec.settings.width, spec.settings.height)
    distortion = spec.effects.distortion
    return replace(camera, distortion=distortion) if any(distortion) else camera


def _sampled(spec: PersonSpec, folder: Path | None) -> Person:
    return build_person(spec, None if folder is None else opened_catalog(folder))


def _scanned(spec: ScanSpec, folder: Path | None) -> Person:
    from render.sources import load_scan

    if folder is None:
        raise VitruvianError(f"scan {spec.name}: expected a folder of scans; got none: name it (--scans)")
    return load_scan(spec, folder)


def _gather(people: tuple[Person, ...], spec: SampleSpec) -> _Cast:
    """People where they stand, and occluders, as one mesh; and how it shades the ground."""
    pieces = [
        (_place(surface.vertices, placement), surface.faces)
        for person, placement in zip(people, spec.placements, strict=True)
        for surface in person.surfaces
    ]
    pieces += [occluder_mesh(occluder)[:2] for occluder in spec.stage.occluders]
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in pieces])
    vertices = np.concatenate([vertices for vertices, _ in pieces])
    faces = np.concatenate([faces + start for (_, faces), start in zip(pieces, starts[:-1], strict=True)])
    shade = shade_ground(vertices, faces) if spec.stage.ground == "occlusion" else None
    return _Cast(people, vertices, shade)


def _joints(
    people: tuple[Person, ...], placements: tuple[Placement, ...]
) -> list[Float64[np.ndarray, "k 3"]]:
    """Keypoints in the world, NaN for people whose source has none. Raises VitruvianError for people of
    different vocabularies.
    """
    counts = {len(person.keypoints) for person in people if person.keypoints is not None}
    if len(counts) > 1:
        raise VitruvianError(f"keypoints: expected one vocabulary in a picture; got {sorted(counts)} points")
    unknown = np.full((len(keypoint_vocabulary(counts.pop()).names), 3), np.nan)
    return [
        unknown if person.keypoints is None else _place(person.keypoints, placement)
        for person, placement in zip(people, placements, strict=True)
    ]


def _part_classes(people: tuple[Person, ...]) -> int:
    """The vocabulary of everybody's parts. Raises VitruvianError for people of different ones."""
    classes = {person.part_classes for person in people}
    if len(classes) > 1:
        raise VitruvianError(f"parts: expected one vocabulary in a picture; got {sorted(classes)} classes")
    return classes.pop()


def _place(points: Float64[np.ndarray, "n 3"], placement: Placement) -> Float64[np.ndarray, "n 3"]:
    pose = placement.matrix()
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])


def _people_box(
    spec: SampleSpec, camera: Camera, vertices: Float64[np.ndarray, "v 3"]
) -> tuple[int, int, int, int]:
    """x, y, width, height (px) of what Cycles has to render: where people and their shadows may be."""
    if spec.stage.ground == "shadow_catcher":
        return 0, 0, camera.width, camera.height
    return picture_box(camera, _lens_mm(spec, camera), spec.effects, vertices, _FILTER_REACH)


def _lens_mm(spec: SampleSpec, camera: Camera) -> float:
    """Focal length for a sensor as wide as `camera`'s image, which is the spec's but for a lens's margins."""
    return spec.camera.focal_mm * spec.settings.width / camera.width


def _paste(
    part: Float32[np.ndarray, "h w *channels"], box: tuple[int, int, int, int], camera: Camera
) -> Float32[np.ndarray, "height width *channels"]:
    """`part` at its place in an image of `camera`'s size, zeros around it."""
    x, y, width, height = box
    if (width, height) == (camera.width, camera.height):
        return part
    whole = np.zeros((camera.height, camera.width, *part.shape[2:]), part.dtype)
    whole[y : y + height, x : x + width] = part
    return whole


def _disc(radius: float) -> Float32[np.ndarray, "n n"]:
    """A disc of this radius (px) that sums to 1, with a soft edge."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    weight = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return np.asarray(weight / weight.sum())


@lru_cache(maxsize=2)
def _radiance(path: Path) -> Float32[np.ndarray, "h w 3"]:
    return read_hdri(path)
