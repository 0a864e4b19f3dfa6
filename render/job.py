"""A render job as units of work. One shard holds a few sampled people, or one scan, under one HDRI each."""

import importlib.metadata
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from render.check import keep_rejected, render_checked
from render.engine import Engine, built_person
from render.folders import Folders
from render.lights import find_hdri
from render.people import library_digest
from render.recipe import (
    Reject,
    RenderConfig,
    SampledSubject,
    ScannedSubject,
    plan_views,
    subjects,
)
from render.sources import ScanConfig, ScanFiles, list_scans
from render.spec import SampleSpec
from shards.config import parse_config
from shards.errors import UsageError, VitruvianError
from shards.sample import Sample, digest_json
from shards.units import Stage, Unit, code_digest
from shards.writer import ShardWriter

STAGE_NAME = "render"
REJECTED = ".rejected"
"""Folder beside the shards with the pictures of samples that failed their checks."""

_EXTENT = ("first_identity", "identities", "identities_per_unit", "lights")
"""Fields that say how much to render, not what: a longer job keeps the shards of a shorter one."""
_FOLDERS = ("hdri_folder", "hdris", "scans", "asset_folder")
"""Fields that name inputs, which count by content: HDRIs in the stage's key, a scan in its own units."""


def plan(config: RenderConfig) -> list[Unit]:
    """The units of a job, in order of identity, then light. Nobody is built and nothing rendered; of scans
    the bytes are read, for their digests.
    """
    plain = {k: v for k, v in config.model_dump(mode="json").items() if k not in _EXTENT}
    if config.scans is None:
        return _people_units(config, plain)
    return [
        Unit(
            name=f"scan-{_slug(subject.files.name)}-{subject.files.digest()[:12]}-light-{light:04d}",
            payload={
                "config": plain,
                "scan": subject.files.name,
                "companions": [files.name for files in subject.companions],
                "light": light,
            },
            inputs=_scan_inputs(subject, config.scans),
        )
        for subject in subjects(config)
        if isinstance(subject, ScannedSubject)
        for light in range(config.lights)
    ]


def _people_units(config: RenderConfig, plain: dict[str, Any]) -> list[Unit]:
    identities, step = list(config.identity_range()), config.identities_per_unit
    return [
        Unit(
            name=f"identity-{group[0]:08d}-{group[-1]:08d}-light-{light:04d}",
            payload={"config": plain, "identities": group, "light": light},
            inputs={"identities": digest_json(group)},
        )
        for group in (identities[start : start + step] for start in range(0, len(identities), step))
        for light in range(config.lights)
    ]


def stage_key(config: RenderConfig) -> str:
    """Digest of all that a byte of the output depends on but the units: recipe, HDRIs, code, versions."""
    return digest_json(
        {**_look(config), "code": code_digest("render", "annotation", "shards"), **_versions()}
    )


def provenance(config: RenderConfig) -> dict[str, Any]:
    """What the manifest says about where its samples come from."""
    return {
        "config": config.model_dump(mode="json"),
        "hdris": _look(config)["hdris"],
        "versions": _versions(),
    }


@dataclass(frozen=True)
class RenderWorker:
    """Renders one unit into one shard. Picklable; Blender is loaded by the process that calls it, once.

    threads: CPU threads per render (default: all the process may use); the bytes do not depend on it. device:
    what Cycles runs on.
    """

    threads: int | None = None
    device: str = "cpu"

    def __call__(self, stage: Stage, unit: Unit) -> None:
        """Render the unit's pictures and commit its shard. What cannot be planned (a rejected scan, a
        framing without a camera) or fails its checks is a reject.
        """
        config = parse_config(unit.payload["config"], RenderConfig, where=f"unit {unit.name}")
        engine = _engine(self.threads, config.folders, self.device)
        rejects: Counter[str] = Counter()
        engine.seconds.clear()
        started = time.perf_counter()
        with ShardWriter(stage.out, unit.name, columns=scalar_columns) as writer:
            for spec in _specs(config, unit, lambda reason, images: rejects.update({reason: images})):
                checked = render_checked(spec, engine.render_labels)
                if checked.problems:
                    rejects[checked.problems[0].name] += 1
                    keep_rejected(stage.out / REJECTED, spec, checked)
                else:
                    writer.add(engine.encode(spec, checked.labels))
            seconds = {**engine.seconds, "all": time.perf_counter() - started}
            writer.commit(
                stage_name=stage.name,
                stage_key=stage.key,
                inputs=unit.inputs,
                rejects=rejects,
                run={
                    "seconds": {name: round(value, 3) for name, value in seconds.items()},
                    "pid": os.getpid(),
                },
            )


def scalar_columns(sample: Sample) -> Mapping[str, Any]:
    """Index columns of a rendered sample, for selecting without opening it."""
    meta = sample.meta()
    spec = meta["provenance"]["spec"]
    effects, first = spec["effects"], spec["people"][0]
    return {
        "identity": meta["people"][0]["identity"],
        "people": len(meta["people"]),
        "scan": first["name"] if "to_person" in first else None,
        "recipe": spec["recipe"],
        "framing": spec["camera"]["framing"],
        "focal_mm": spec["camera"]["focal_mm"],
        "hdri": spec["light"]["hdri"],
        "exposure_ev": spec["light"]["exposure_ev"],
        "background": spec["stage"]["background"],
        "occluders": len(spec["stage"]["occluders"]),
        "depth_of_field": effects["fstop"] > 0,
        "shake": any(effects["shake_m"]) or any(effects["shake_deg"]),
        "noise": effects["shot_noise"] > 0 or effects["read_noise"] > 0,
        "distortion": any(effects["distortion"]),
        "jpeg_quality": effects["jpeg_quality"],
        "width": meta["camera"]["width"],
        "height": meta["camera"]["height"],
        "depth_near": meta["depth"]["near"],
        "depth_far": meta["depth"]["far"],
    }


def _specs(config: RenderConfig, unit: Unit, reject: Reject) -> Iterator[SampleSpec]:
    """What a unit is to render."""
    light, build = unit.payload["light"], partial(built_person, folders=config.folders)
    for identity in unit.payload.get("identities", ()):
        yield from plan_views(config, SampledSubject(identity), light, build, reject)
    if config.scans is not None:
        subject = _find_scans(config.scans, [unit.payload["scan"], *unit.payload["companions"]])
        if _scan_inputs(subject, config.scans) != unit.inputs:
            raise VitruvianError(
                f"unit {unit.name}: the files of {subject.files.name!r} or of a scan that joins it changed "
                "since the job was planned; run it again"
            )
        yield from plan_views(config, subject, light, build, reject)


def _find_scans(config: ScanConfig, names: list[str]) -> ScannedSubject:
    found = {files.name: files for files in list_scans(config)}
    if missing := [name for name in names if name not in found]:
        raise UsageError(
            f"scans: {config.folder}: no {', '.join(missing)}; it was there when the job was planned"
        )
    first, *others = (found[name] for name in names)
    return ScannedSubject(first, tuple(others))


def _scan_inputs(subject: ScannedSubject, config: ScanConfig) -> dict[str, str]:
    """Digests of the scans of a unit and of the rules by which they are read."""

    def digest(files: ScanFiles) -> str:
        return digest_json([files.digest(), config.rules(files.name).model_dump(mode="json")])

    return {
        "scan": digest(subject.files),
        **{f"with:{files.name}": digest(files) for files in subject.companions},
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[-60:] or "unnamed"


def _look(config: RenderConfig) -> dict[str, Any]:
    """The configuration without its extent; HDRIs by content, and scans only by whether there are any."""
    plain = config.model_dump(mode="json", exclude={*_EXTENT, *_FOLDERS})
    hdris = {name: find_hdri(name, config.hdri_folder).sha256 for name in config.hdri_names()}
    found = {"config": plain, "scanned": config.scans is not None, "hdris": hdris}
    return found if config.asset_folder is None else found | {"assets": library_digest(config.asset_folder)}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("bpy", "anny", "numpy", "scipy")}


@lru_cache(maxsize=1)
def _engine(threads: int | None, folders: Folders, device: str) -> Engine:
    return Engine(threads, folders, device)
