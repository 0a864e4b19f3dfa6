"""A render job as units of work: a few identities, each under its HDRI, make one shard."""

import importlib.metadata
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from render.check import keep_rejected, render_checked
from render.engine import Engine, built_person
from render.lights import find_hdri, list_hdris
from render.recipe import RenderConfig, plan_identity
from shards.config import parse_config
from shards.sample import Sample, digest_json
from shards.units import Stage, Unit, code_digest
from shards.writer import ShardWriter

STAGE_NAME = "render"
REJECTED = ".rejected"
"""Folder beside the shards with the pictures of samples that failed their checks."""

_EXTENT = ("first_identity", "identities", "identities_per_unit")
"""Fields that say how much to render, not what: a longer job keeps the shards of a shorter one."""


def plan(config: RenderConfig) -> list[Unit]:
    """The units of a job, in order of identity. Cheap: nobody is built, nothing is rendered."""
    plain = {k: v for k, v in config.model_dump(mode="json").items() if k not in _EXTENT}
    identities = list(config.identity_range())
    step = config.identities_per_unit
    groups = [identities[start : start + step] for start in range(0, len(identities), step)]
    return [
        Unit(
            name=f"identity-{group[0]:08d}-{group[-1]:08d}",
            payload={"config": plain, "identities": group},
            inputs={"identities": digest_json(group)},
        )
        for group in groups
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

    threads: CPU threads per render (default: all the process may use); the bytes do not depend on it.
    """

    threads: int | None = None

    def __call__(self, stage: Stage, unit: Unit) -> None:
        """Render the unit's identities and commit its shard; samples that fail their checks are rejects."""
        config = parse_config(unit.payload["config"], RenderConfig, where=f"unit {unit.name}")
        engine = _engine(self.threads, config.hdri_folder)
        rejects: Counter[str] = Counter()
        engine.seconds.clear()
        started = time.perf_counter()
        with ShardWriter(stage.out, unit.name, columns=scalar_columns) as writer:
            for identity in unit.payload["identities"]:
                for spec in plan_identity(config, identity, built_person):
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
    return {
        "identity": meta["people"][0]["identity"],
        "people": len(meta["people"]),
        "framing": spec["camera"]["framing"],
        "focal_mm": spec["camera"]["focal_mm"],
        "hdri": spec["light"]["hdri"],
        "exposure_ev": spec["light"]["exposure_ev"],
        "width": meta["camera"]["width"],
        "height": meta["camera"]["height"],
        "depth_near": meta["depth"]["near"],
        "depth_far": meta["depth"]["far"],
    }


def _look(config: RenderConfig) -> dict[str, Any]:
    """The configuration without its extent, and HDRIs by content instead of by folder."""
    plain = config.model_dump(mode="json", exclude={*_EXTENT, "hdri_folder", "hdris"})
    names = config.hdris or tuple(list_hdris(config.hdri_folder))
    return {"config": plain, "hdris": {name: find_hdri(name, config.hdri_folder).sha256 for name in names}}


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("bpy", "anny", "numpy")}


@lru_cache(maxsize=1)
def _engine(threads: int | None, hdri_folder: Path | None) -> Engine:
    return Engine(threads, hdri_folder)
