"""`render(spec) -> Sample`: a beauty render and a one-sample ground-truth render of one loaded scene.

A pure function of the spec: the same members, byte for byte, in any process, thread count and order (same
build and CPU type). What is loaded stays loaded: views of one person under one HDRI cost two renders and
nothing else.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from annotation.labels import Labels, to_members
from render import passes
from render.keypoints import label_keypoints
from render.lights import find_hdri
from render.people import PersonSpec, build_person
from render.person import Person
from render.scene import Scene, shared_scene
from render.spec import Placement, SampleSpec, sample_key
from shards.errors import VitruvianError
from shards.sample import Sample, digest_json

_REMEMBERED = 8
_BUILT: dict[str, Person] = {}  # by digest of the spec, oldest first


class Engine:
    """Renders specs; keeps Blender's scene and the last people between calls.

    threads: CPU threads per render, default all this process may use. hdri_folder: where HDRIs are looked up
    by name (default: bpy's own). `seconds` adds up the time spent on load, beauty, truth, labels and encode.
    """

    def __init__(self, threads: int | None = None, hdri_folder: Path | None = None) -> None:
        self.threads = threads or len(os.sched_getaffinity(0))
        self.hdri_folder = hdri_folder
        self.seconds: dict[str, float] = {}

    def render(self, spec: SampleSpec) -> Sample:
        """The sample of `spec`: key, image, labels and the json member that holds the spec itself."""
        labels = self.render_labels(spec)
        return self.encode(spec, labels)

    def encode(self, spec: SampleSpec, labels: Labels) -> Sample:
        """Labels -> the members of a sample."""
        with self._timed("encode"):
            return Sample(sample_key(spec), to_members(labels))

    def render_labels(self, spec: SampleSpec) -> Labels:
        """Image and labels as arrays, before any codec."""
        with self._timed("load"):
            scene = self._prepare(spec)
        with self._timed("beauty"):
            rgb, filtered = scene.render_beauty(spec.settings)
        with self._timed("truth"):
            truth = scene.render_truth()
        with self._timed("labels"):
            return self._label(spec, rgb, filtered, truth)

    def people(self, spec: SampleSpec) -> list[Person]:
        """The people of `spec`, built or remembered."""
        return [built_person(person) for person in spec.people]

    def _prepare(self, spec: SampleSpec) -> Scene:
        scene = shared_scene()
        hdri = find_hdri(spec.light.hdri, self.hdri_folder)
        if hdri.sha256 != spec.light.sha256:
            raise VitruvianError(
                f"HDRI {hdri.path}: expected sha256 {spec.light.sha256} as in the spec; got {hdri.sha256}: "
                "name the folder that holds the file the spec was planned with"
            )
        if (cast := (spec.people, spec.placements)) != scene.cast:
            scene.load_people(self.people(spec), spec.placements)
            scene.cast = cast
        scene.set_threads(self.threads)
        scene.set_light(hdri, spec.light)
        scene.set_camera(spec.camera.camera(spec.settings.width, spec.settings.height))
        return scene

    def _label(
        self,
        spec: SampleSpec,
        rgb: UInt8[np.ndarray, "height width 3"],
        filtered: passes.Channels,
        truth: passes.Channels,
    ) -> Labels:
        camera = spec.camera.camera(spec.settings.width, spec.settings.height)
        view = passes.View(person=truth[passes.COVERAGE.aov] > 0.5, camera=camera)
        images = {p.label: p.decode(truth[p.aov], view) for p in passes.GROUND_TRUTH}
        images["depth"] = passes.decode_depth(truth["Depth"], view)
        images["alpha"] = passes.COVERAGE.decode(filtered[passes.COVERAGE.aov], view)
        people = self.people(spec)
        joints = [
            _place(person.keypoints, placement)
            for person, placement in zip(people, spec.placements, strict=True)
        ]
        heights = [person.height for person in people]
        keypoints = label_keypoints(joints, heights, camera, images["depth"], images["instance"])
        meta = {
            "people": [
                {"identity": placement.identity, "instance": index, "height_m": round(height, 4)}
                for index, (placement, height) in enumerate(
                    zip(spec.placements, heights, strict=True), start=1
                )
            ],
            "provenance": {"spec": spec.to_json()},
        }
        return Labels(rgb=rgb, keypoints=keypoints, camera=camera, meta=meta, **images)

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def render(spec: SampleSpec) -> Sample:
    """The sample of `spec`, with bpy's own HDRIs and every thread this process may use."""
    return Engine().render(spec)


def built_person(spec: PersonSpec) -> Person:
    """The person of `spec`; the last few are remembered, for planning and rendering both ask."""
    digest = digest_json(spec.to_json())
    if digest not in _BUILT:
        while len(_BUILT) >= _REMEMBERED:
            del _BUILT[next(iter(_BUILT))]
        _BUILT[digest] = build_person(spec)
    return _BUILT[digest]


def _place(points: Float64[np.ndarray, "n 3"], placement: Placement) -> Float64[np.ndarray, "n 3"]:
    pose = placement.matrix()
    return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])
