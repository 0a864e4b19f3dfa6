"""Recipe -> sample specs: which people, light and cameras. Deterministic, and independent of count and order.

Every draw has its own random stream, named by (seed, identity, what, view): identity 7 is the same person and
its second view the same picture whether 8 or 80,000 identities are planned.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from pydantic import Field, model_validator

from annotation.parts import part_vocabulary
from render.framing import Framing, FramingName, Range, sample_camera
from render.lights import find_hdri, list_hdris
from render.people import PersonSpec, build_person, sample_person
from render.person import Person
from render.spec import (
    SPEC_VERSION,
    CameraSpec,
    LightSpec,
    Placement,
    RenderSettings,
    SampleSpec,
    ViewTransform,
)
from shards.config import Config

_PERSON, _LIGHT, _VIEW, _NOISE = range(4)  # names of the random streams of an identity

_FACE_PARTS = frozenset(
    {"Face_Neck", "Hair", "Lower_Lip", "Upper_Lip", "Lower_Teeth", "Upper_Teeth", "Tongue"}
)
_UPPER_PARTS = _FACE_PARTS | {
    "Torso",
    "Upper_Clothing",
    *(f"{side}_{part}" for side in ("Left", "Right") for part in ("Upper_Arm", "Lower_Arm")),
}


class Framings(Config):
    """The three kinds of picture and how each is framed; `weight` sets the mix."""

    face: Framing = Framing(
        share=(0.5, 0.85), focal_mm=(35, 105), frontal_share=0.95, elevation_deg=(-15, 20)
    )
    upper_body: Framing = Framing(share=(0.75, 0.94), focal_mm=(28, 85), frontal_share=0.85)
    full_body: Framing = Framing(
        share=(0.7, 0.94), focal_mm=(24, 70), frontal_share=0.7, elevation_deg=(4, 28)
    )

    @model_validator(mode="after")
    def _some_weight(self) -> "Framings":
        if sum(framing.weight for framing in self.named().values()) <= 0:
            raise ValueError("expected at least one framing with weight > 0")
        return self

    def named(self) -> dict[FramingName, Framing]:
        """Framing by name, in a fixed order."""
        return {"face": self.face, "upper_body": self.upper_body, "full_body": self.full_body}


class RenderConfig(Config):
    """A render job: `render plan` and `render run` read this section. Same section, same bytes."""

    recipe: str = Field(
        default="people-v1", pattern=r"^[a-z0-9][a-z0-9-]*$", description="name recorded in every sample"
    )
    seed: int = Field(default=0, ge=0, description="of everything random in the job")
    first_identity: int = Field(default=0, ge=0, description="jobs with disjoint ranges share no person")
    identities: int = Field(
        default=8, ge=1, le=1_000_000, description="people, each with its own body, clothes and pose"
    )
    views: int = Field(default=4, ge=1, le=10_000, description="images of each person, all under one HDRI")
    identities_per_unit: int = Field(
        default=4, ge=1, le=1000, description="people per shard, the unit of work"
    )
    framings: Framings = Framings()
    width: int = Field(default=192, ge=16, le=8192, description="pixels")
    height: int = Field(default=256, ge=16, le=8192, description="pixels")
    samples: int = Field(default=8, ge=1, le=4096, description="camera rays per pixel of the beauty render")
    denoise: bool = Field(default=True, description="run Open Image Denoise on the image (labels never are)")
    view_transform: ViewTransform = "AgX"
    hdri_folder: Path | None = Field(
        default=None, description="folder of .exr/.hdr environments; default: bpy's own"
    )
    hdris: tuple[str, ...] = Field(
        default=(), description="names of those to use; default: all in the folder"
    )
    exposure_ev: Range = Field(default=(-0.5, 0.7), description="stops around the HDRI's neutral exposure")

    def identity_range(self) -> range:
        """Indices of the identities of this job."""
        return range(self.first_identity, self.first_identity + self.identities)

    def settings(self, noise_seed: int) -> RenderSettings:
        """Render settings of every sample, with the seed of its pixel noise."""
        return RenderSettings(
            self.width, self.height, self.samples, self.denoise, self.view_transform, noise_seed
        )


def plan_specs(
    config: RenderConfig, build: Callable[[PersonSpec], Person] = build_person
) -> Iterator[SampleSpec]:
    """Every spec of the job, identity by identity. Builds each person (seconds), because framing needs its
    shape.
    """
    for identity in config.identity_range():
        yield from plan_identity(config, identity, build)


def plan_identity(
    config: RenderConfig, identity: int, build: Callable[[PersonSpec], Person] = build_person
) -> tuple[SampleSpec, ...]:
    """The views of one identity: one person under one HDRI, which stays put while the camera goes around.

    (A turned HDRI costs Cycles a new importance map, a tenth of a small render.)
    """
    person_spec = sample_person(stream(config, identity, _PERSON))
    regions = framing_regions(build(person_spec))
    light = stream(config, identity, _LIGHT)
    names = config.hdris or tuple(list_hdris(config.hdri_folder))
    hdri, rotation = str(light.choice(names)), light.uniform(0, 360)
    return tuple(
        SampleSpec(
            recipe=config.recipe,
            version=SPEC_VERSION,
            seed=config.seed,
            people=(person_spec,),
            placements=(Placement(identity),),
            light=_light(config, hdri, rotation, stream(config, identity, _LIGHT, view + 1)),
            camera=_camera(config, regions, stream(config, identity, _VIEW, view)),
            settings=config.settings(int(stream(config, identity, _NOISE, view).integers(2**31))),
        )
        for view in range(config.views)
    )


def stream(config: RenderConfig, *name: int) -> np.random.Generator:
    """The random stream of this name: independent of every other, and of how many there are."""
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=name))


def framing_regions(person: Person) -> dict[str, Float64[np.ndarray, "_ 3"]]:
    """Framing name -> vertices (person frame, m) of the surfaces that it shows."""
    names = part_vocabulary(28).names
    regions = {
        "face": [names.index(name) for name in sorted(_FACE_PARTS)],
        "upper_body": [names.index(name) for name in sorted(_UPPER_PARTS)],
        "full_body": list(range(256)),
    }
    return {name: _vertices_of(person, parts) for name, parts in regions.items()}


def _vertices_of(person: Person, parts: list[int]) -> Float64[np.ndarray, "_ 3"]:
    kept = [
        surface.vertices[np.unique(surface.faces[np.isin(surface.part_ids, parts)])]
        for surface in person.surfaces
    ]
    points: Float64[np.ndarray, "_ 3"] = np.concatenate(kept).astype(np.float64)
    return points


def _light(config: RenderConfig, name: str, rotation: float, rng: np.random.Generator) -> LightSpec:
    hdri = find_hdri(name, config.hdri_folder)
    exposure = hdri.neutral_ev + rng.uniform(*config.exposure_ev)
    return LightSpec(hdri.name, hdri.sha256, rotation, exposure)


def _camera(
    config: RenderConfig, regions: dict[str, Float64[np.ndarray, "_ 3"]], rng: np.random.Generator
) -> CameraSpec:
    framings = config.framings.named()
    weights = np.array([framing.weight for framing in framings.values()])
    name = list(framings)[int(rng.choice(len(framings), p=weights / weights.sum()))]
    return sample_camera(rng, regions, name, framings[name], config.height / config.width)
