"""Recipe + job -> sample specs: which people, light, cameras and effects. Deterministic, and independent of
how many are planned and in which order.

Every draw has its own random stream, named by (seed, identity, what, light, view): identity 7 is the same
person and its second view the same picture whether 8 or 80,000 identities are planned. A scan's identity is
its content: a scan added to the folder changes no other's pictures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import Field, model_validator

from render.folders import Folders
from render.framing import Framings, NoCamera, Target, aim_at, sample_camera
from render.groups import place_people
from render.lights import find_hdri, list_hdris
from render.occluders import draw_occluders
from render.people import NOTHING, Library, PersonSpec, open_library, sample_person
from render.person import Person
from render.ranges import Assets, Effects, People, Range, Stage
from render.sources import ScanConfig, ScanFiles, ScanRejected, list_scans, plan_scan
from render.spec import (
    LABELS,
    SPEC_VERSION,
    LightSpec,
    Placement,
    RenderSettings,
    SampleSpec,
    ScanSpec,
    StageSpec,
    ViewTransform,
)
from shards.config import Config, parse_config
from shards.errors import UsageError
from shards.sample import digest_json


def ignore(reason: str, images: int) -> None:
    """For those who do not count what cannot be planned."""


CHANGED = "+changed"
"""What a recipe's name ends in when the job overrides some of it."""

BUNDLED = Path(__file__).parent / "recipes"

Cast = dict[str, PersonSpec | ScanSpec]
Build = Callable[[PersonSpec | ScanSpec], Person]
Reject = Callable[[str, int], None]
"""Told the reason and the number of images that cannot be planned."""


class Recipe(Config):
    """Every distribution that pictures are drawn from. No field has a default: the file says it all."""

    recipe: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*(\+changed)?$", description="recorded in every sample")
    people: People
    assets: Assets
    framings: Framings
    exposure_ev: Range = Field(description="stops around the HDRI's neutral exposure")
    hdri_rotation_deg: Range = Field(description="of the environment about the vertical")
    stage: Stage
    effects: Effects
    samples: int = Field(ge=1, le=4096, description="camera rays per pixel of the beauty render")
    noise_threshold: float = Field(
        ge=0, le=1, description="a pixel less noisy than this gets no more rays; 0: each gets all"
    )
    denoise: bool = Field(description="run Open Image Denoise on the image (labels never are)")
    view_transform: ViewTransform
    labels: tuple[str, ...] = Field(description=f"which to keep, of: {', '.join(LABELS)}")

    @model_validator(mode="after")
    def _known_labels(self) -> "Recipe":
        if unknown := sorted(set(self.labels) - set(LABELS)):
            raise ValueError(f"unknown labels {unknown}; there are: {', '.join(LABELS)}")
        return self


class RenderConfig(Recipe):
    """A render job: `render plan` and `render run` read this section. Same section, same bytes.

    recipe: a bundled recipe's name or the path of a YAML file (relative to the working folder); any of its
    fields may be given here too and then takes the place of the recipe's, which from then on is called
    NAME+changed.
    """

    seed: int = Field(default=0, ge=0, description="of everything random in the job")
    scans: ScanConfig | None = Field(default=None, description="folder of scans; default: sampled people")
    asset_folder: Path | None = Field(
        default=None, description="of MakeHuman garments, hair, skins, poses; default: all made from nothing"
    )
    first_identity: int = Field(default=0, ge=0, description="jobs with disjoint ranges share no person")
    identities: int | None = Field(
        default=None, ge=1, le=1_000_000, description="people (default 8), or scans in order (default all)"
    )
    lights: int = Field(default=1, ge=1, le=10_000, description="HDRIs that each identity is rendered under")
    views: int = Field(default=4, ge=1, le=10_000, description="images of each identity under each HDRI")
    identities_per_unit: int = Field(default=4, ge=1, le=1000, description="people per shard; scans: 1")
    width: int = Field(default=192, ge=16, le=8192, description="pixels")
    height: int = Field(default=256, ge=16, le=8192, description="pixels")
    hdri_folder: Path | None = Field(
        default=None, description="folder of .exr/.hdr environments; default: bpy's own"
    )
    hdris: tuple[str, ...] = Field(
        default=(), description="names of those to use; default: all in the folder"
    )

    def __init__(self, **fields: Any) -> None:
        """Any field may be left to the recipe; without a recipe that is people-v1."""
        super().__init__(**fields)

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or set(Recipe.model_fields) <= set(fields):
            return fields
        try:
            base = load_recipe(str(fields.get("recipe", "people-v1")))
        except UsageError as error:
            raise ValueError(str(error)) from None
        given = {name: value for name, value in fields.items() if name != "recipe"}
        merged = _merged(base, given)
        if any(merged.get(name) != value for name, value in base.items()):
            merged["recipe"] = f"{str(base.get('recipe')).removesuffix(CHANGED)}{CHANGED}"
        return merged

    @property
    def folders(self) -> Folders:
        """Where the files lie that the job's specs name."""
        scans = self.scans.folder if self.scans is not None else None
        return Folders(self.hdri_folder, scans, self.asset_folder)

    def library(self) -> Library:
        """What people are made of beside what is made from nothing."""
        return NOTHING if self.asset_folder is None else open_library(self.asset_folder, self.assets.shares())

    def identity_range(self, scans: int = 8) -> range:
        """Indices of the identities of this job. scans: how many there are in the folder."""
        stop = self.first_identity + self.identities if self.identities else max(scans, self.first_identity)
        return range(self.first_identity, stop if self.scans is None else min(stop, scans))

    def settings(self, noise_seed: int) -> RenderSettings:
        """Render settings of every sample, with the seed of its pixel noise."""
        return RenderSettings(
            width=self.width,
            height=self.height,
            samples=self.samples,
            denoise=self.denoise,
            view_transform=self.view_transform,
            noise_seed=noise_seed,
            noise_threshold=self.noise_threshold,
            labels=self.labels,
        )

    def hdri_names(self) -> tuple[str, ...]:
        """Names of the HDRIs that are drawn from, sorted."""
        return self.hdris or tuple(list_hdris(self.hdri_folder))


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe as plain data, by the name of a bundled one or the path of a YAML file. Raises UsageError."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else BUNDLED / f"{Path(name).name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in BUNDLED.glob("*.yaml")))
        raise UsageError(f"recipe {name!r}: no such file; bundled are: {known}; others end in .yaml")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from None
    return parse_config(content, Recipe, where=str(path)).model_dump()


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, mapping by mapping."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(old, value) if both else value  # type: ignore[arg-type]
    return merged


@dataclass(frozen=True)
class Streams:
    """The random streams of an identity. Each is independent of every other, and of how many there are.

    identity: the index of a sampled person, the sha256 of a scan.
    """

    seed: int
    identity: int | str

    def of(self, what: "Draw", *index: int) -> np.random.Generator:
        """The stream for one purpose; index: light, view ..."""
        scanned = isinstance(self.identity, str)
        number = int(self.identity, 16) if isinstance(self.identity, str) else self.identity
        entropy = (self.seed, int(scanned), number)
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(what, *index)))


class Draw(IntEnum):
    """What a random stream is for. Recorded pictures hang on the numbers: append, never renumber."""

    PERSON = 0
    COUNT = 1
    PLACES = 2
    HDRIS = 3
    ROTATION = 4
    EXPOSURE = 5
    FRAMING = 6
    CAMERA = 7
    LENS = 8
    EFFECTS = 9
    STAGE = 10
    OCCLUDERS = 11
    NOISE = 12


@dataclass(frozen=True)
class SampledSubject:
    """A sampled person: identity 7 and, in groups, its companions 7.1, 7.2 ..."""

    identity: int

    def streams(self, seed: int) -> Streams:
        return Streams(seed, self.identity)

    def cast(self, config: "RenderConfig", count: int) -> Cast:
        """Name of the identity -> what it is, `count` of them, the first being the subject's own."""
        names = [str(self.identity), *(f"{self.identity}.{k}" for k in range(1, count))]
        streams = self.streams(config.seed)
        library = config.library()
        return {name: sample_person(streams.of(Draw.PERSON, k), library) for k, name in enumerate(names)}


@dataclass(frozen=True, eq=False)
class ScannedSubject:
    """A scan, and the scans that join it in groups, in order of preference."""

    files: ScanFiles
    companions: tuple[ScanFiles, ...] = ()

    def streams(self, seed: int) -> Streams:
        return Streams(seed, self.files.digest())

    def cast(self, config: "RenderConfig", count: int) -> Cast:
        """As of `SampledSubject`; fewer when too few companions can be rendered. Raises ScanRejected for the
        scan itself.
        """
        assert config.scans is not None
        found: Cast = {self.files.name: planned_scan(self.files, config.scans)}
        for files in self.companions[: count - 1]:
            with suppress(ScanRejected):
                found[files.name] = planned_scan(files, config.scans)
        return found


Subject = SampledSubject | ScannedSubject


@dataclass(frozen=True, eq=False)
class Group:
    """Who stands where under which HDRI: what the views of one identity under one light share."""

    config: RenderConfig
    streams: Streams
    number: int
    people: tuple[PersonSpec | ScanSpec, ...]
    placements: tuple[Placement, ...]
    target: Target
    hdri: str
    rotation_deg: float

    def view(self, view: int) -> SampleSpec:
        """One picture of the group. Raises NoCamera when no camera fits what was drawn."""
        config, at = self.config, (self.number, view)
        framings = config.framings.named()
        available = self.target.available(tuple(framings))
        name = config.framings.choose(self.streams.of(Draw.FRAMING, *at), view, available)
        lens = config.effects.draw_distortion(self.streams.of(Draw.LENS, *at))
        aspect = config.height / config.width
        camera_stream = self.streams.of(Draw.CAMERA, *at)
        shot = sample_camera(camera_stream, self.target, name, framings[name], aspect, lens)
        stage = self.streams.of(Draw.STAGE, *at)
        things = self.streams.of(Draw.OCCLUDERS, *at)
        return SampleSpec(
            recipe=config.recipe,
            version=SPEC_VERSION,
            seed=config.seed,
            people=self.people,
            placements=self.placements,
            light=self._light(self.streams.of(Draw.EXPOSURE, *at)),
            camera=shot.camera,
            settings=config.settings(int(self.streams.of(Draw.NOISE, *at).integers(2**31))),
            stage=StageSpec(
                ground=config.stage.ground,
                background=config.stage.draw_background(stage),
                occluders=draw_occluders(things, config.stage.occluders, shot, self.target, aspect),
            ),
            effects=config.effects.draw(self.streams.of(Draw.EFFECTS, *at), shot.distance(), lens),
        )

    def _light(self, rng: np.random.Generator) -> LightSpec:
        hdri = find_hdri(self.hdri, self.config.hdri_folder)
        exposure = hdri.neutral_ev + rng.uniform(*self.config.exposure_ev)
        return LightSpec(hdri.name, hdri.sha256, self.rotation_deg, round(exposure, 9))


def plan_group(config: RenderConfig, subject: Subject, light: int, build: Build) -> Group:
    """Who joins `subject` under its HDRI number `light`, and where everyone stands. Builds the people
    (seconds), because standing clear of each other and framing need their shapes.

    An identity meets every HDRI once before it meets one again. (A turned HDRI costs Cycles a new importance
    map, a tenth of a small render: it stays put while the camera goes around.)
    """
    streams = subject.streams(config.seed)
    count = config.people.draw_count(streams.of(Draw.COUNT, light))
    cast = subject.cast(config, count)
    people = [build(spec) for spec in cast.values()]
    placements = place_people(
        streams.of(Draw.PLACES, light), config.people, dict(zip(cast, people, strict=True))
    )
    names = config.hdri_names()
    cycle, turn = divmod(light, len(names))
    return Group(
        config=config,
        streams=streams,
        number=light,
        people=tuple(cast.values()),
        placements=placements,
        target=aim_at(people, placements),
        hdri=names[int(streams.of(Draw.HDRIS, cycle).permutation(len(names))[turn])],
        rotation_deg=round(streams.of(Draw.ROTATION, light).uniform(*config.hdri_rotation_deg), 9),
    )


def plan_identity(config: RenderConfig, identity: int, build: Build) -> tuple[SampleSpec, ...]:
    """Every picture of one sampled person: light by light, view by view. Raises NoCamera."""
    groups = (plan_group(config, SampledSubject(identity), light, build) for light in range(config.lights))
    return tuple(group.view(view) for group in groups for view in range(config.views))


def plan_specs(config: RenderConfig, build: Build, reject: Reject = ignore) -> Iterator[SampleSpec]:
    """Every spec of the job, in order. Builds everyone; see `plan_group`. What cannot be planned is told to
    `reject(reason, images)` and left out.
    """
    for subject in subjects(config):
        for light in range(config.lights):
            yield from plan_views(config, subject, light, build, reject)


def plan_views(
    config: RenderConfig, subject: Subject, light: int, build: Build, reject: Reject = ignore
) -> Iterator[SampleSpec]:
    """The pictures of one group; see `plan_specs`."""
    try:
        group = plan_group(config, subject, light, build)
    except ScanRejected as error:
        reject(error.reason, config.views)
        return
    for view in range(config.views):
        try:
            yield group.view(view)
        except NoCamera as error:
            reject(error.reason, 1)


def subjects(config: RenderConfig) -> list[Subject]:
    """Whom the job is about, in order. Of scans, the files are read for their digests only when there are
    companions to choose.
    """
    if config.scans is None:
        return [SampledSubject(identity) for identity in config.identity_range()]
    scans = list_scans(config.scans)
    chosen = [scans[index] for index in config.identity_range(len(scans))]
    return [ScannedSubject(files, companions(config, files, scans)) for files in chosen]


def companions(config: RenderConfig, files: ScanFiles, scans: Sequence[ScanFiles]) -> tuple[ScanFiles, ...]:
    """The scans that join `files` in groups: those whose digests, hashed together with its own, come first.

    A scan added to the folder changes the company of those only whom it joins.
    """
    if len(config.people.weights) == 1:
        return ()
    own = files.digest()
    ranked = sorted(
        (digest_json([config.seed, own, other.digest()]), index)
        for index, other in enumerate(scans)
        if other.digest() != own
    )
    return tuple(scans[index] for _, index in ranked[: len(config.people.weights) - 1])


_PLANNED: dict[str, ScanSpec] = {}


def planned_scan(files: ScanFiles, config: ScanConfig) -> ScanSpec:
    """`plan_scan`, once per process for the same bytes and rules."""
    digest = digest_json([files.name, files.digest(), config.rules(files.name).model_dump(mode="json")])
    if digest not in _PLANNED:
        _PLANNED[digest] = plan_scan(files, config)
    return _PLANNED[digest]
