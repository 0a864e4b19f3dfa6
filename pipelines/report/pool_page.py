"""The page of one curated pool: what came in, what was kept and why, with what it was measured."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.report.curation import Curation, collect_curation
from pipelines.report.curation_view import curation_view
from pipelines.report.html import compact, percent, render
from pipelines.report.parts import Collector, Missing
from shards.errors import UsageError, VitruvianError
from shards.files import write_atomic
from shards.manifest import read_manifest
from shards.storage import Store

_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST = 300  # characters of an error


@dataclass(frozen=True)
class Model:
    """`measures`: what it gives. `digests`: file -> sha256; `settings`: whatever else identifies it."""

    measures: str
    name: str
    digests: Mapping[str, str]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Quarantined:
    """A unit that failed for good, and the last line of why."""

    stage: str
    unit: str
    why: str


@dataclass(frozen=True)
class Measured:
    """Annotations in figures. `configuration`: as JSON."""

    digest: str
    inputs: int
    units: int
    layout: str
    models: tuple[Model, ...]
    libraries: Mapping[str, str]
    configuration: str

    @property
    def detector(self) -> str:
        """Its name, "?" where the annotations do not say."""
        return next((model.name for model in self.models if "detector" in model.measures.split(", ")), "?")


@dataclass(frozen=True)
class PoolData:
    """All the page shows; a part that is None or empty is named in `missing`."""

    title: str
    measured: Measured | None
    curation: Curation | None
    quarantined: Sequence[Quarantined]
    missing: Sequence[Missing]


def build_pool_page(
    pool: str | Path,
    annotations: str | Path,
    selection: Path,
    out: Path,
    contacts: int = 12,
    title: str | None = None,
) -> list[str]:
    """Write the page to the file `out`, with the same bytes for the same inputs; returns what it had to do
    without.

    `contacts`: examples of each reason, those with the smallest keys. Raises UsageError where there are
    neither annotations nor a selection.
    """
    data = collect_pool(pool, annotations, selection, contacts, title)
    if data.measured is None and data.curation is None:
        told = "; ".join(f"{missing.what}: {missing.why}" for missing in data.missing)
        raise UsageError(f"nothing to report: {told}")
    write_atomic(out, render_pool_page(data).encode())
    return [missing.what for missing in data.missing]


def collect_pool(
    pool: str | Path, annotations: str | Path, selection: Path, contacts: int, title: str | None = None
) -> PoolData:
    """Read everything that is there."""
    parts = Collector()
    measured = parts.one("run", "what measured the pool", read_measured, annotations)
    curation = collect_curation(parts, pool, annotations, selection, contacts)
    places = {"annotate": annotations, "select": selection}
    quarantined = [unit for stage, place in places.items() for unit in _quarantined(stage, place)]
    name = title or str(pool).rstrip("/").rpartition("/")[2] or str(pool)
    return PoolData(name, measured, curation, quarantined, parts.missing)


def read_measured(annotations: str | Path) -> Measured:
    """What the manifest of annotations says. Raises UsageError for anything else."""
    manifest = read_manifest(annotations)
    come = manifest.provenance
    if come.get("stage", {}).get("name") != "annotate":
        raise UsageError(f"{annotations}: expected the output of `vitruvian curate annotate`")
    models = dict(come.get("models", {}))
    libraries = models.pop("libraries", {})
    return Measured(
        digest=manifest.digest,
        inputs=manifest.samples,
        units=len(manifest.shards) + len(manifest.quarantined),
        layout=come.get("pool", {}).get("layout", "?"),
        models=list_models(models),
        libraries=libraries,
        configuration=json.dumps(come.get("config", {}), indent=1, ensure_ascii=False),
    )


def list_models(models: Mapping[str, Mapping[str, Any]]) -> tuple[Model, ...]:
    """One line per model; what the same one measures together."""
    names: dict[str, list[str]] = {}
    for measures, identity in models.items():
        names.setdefault(json.dumps(identity, sort_keys=True), []).append(measures)
    found = []
    for content, measured in names.items():
        facts = {key: str(value) for key, value in json.loads(content).items()}
        name = facts.pop("name", "?")
        digests = {key: value for key, value in facts.items() if _DIGEST.fullmatch(value)}
        settings = {key: value for key, value in facts.items() if key not in digests}
        found.append(Model(", ".join(measured), name, digests, settings))
    return tuple(found)


def _quarantined(stage: str, place: str | Path) -> list[Quarantined]:
    """Nothing where there is no manifest to read: that is named already."""
    try:
        return read_quarantined(stage, place)
    except (VitruvianError, OSError):
        return []


def read_quarantined(stage: str, place: str | Path) -> list[Quarantined]:
    """The quarantined units of a dataset, with why where that can be read."""
    manifest, local = read_manifest(place), Store(str(place)).local
    return [
        Quarantined(
            stage, name, "" if local is None else _why(local / ".stage" / "quarantine" / f"{name}.json")
        )
        for name in manifest.quarantined
    ]


def _why(path: Path) -> str:
    try:
        lines = str(json.loads(path.read_bytes())["error"]).strip().splitlines()
    except (OSError, ValueError, KeyError):
        return "not recorded here"
    return lines[-1][:_LONGEST] if lines else ""


def render_pool_page(data: PoolData) -> str:
    """The page as one HTML document, without a single request to anywhere."""
    return render(
        "pool.html",
        data=data,
        missing=data.missing,
        curation=curation_view(data.curation) if data.curation else None,
        facts=facts(data),
    )


def facts(data: PoolData) -> list[tuple[str, str]]:
    """The page's first figures: (value, what it counts)."""
    found = []
    if data.curation:
        summary = data.curation.summary
        inputs, kept = summary["inputs"], summary["kept"]
        found.append((f"{compact(inputs)} → {compact(kept)}", f"inputs → kept, {percent(kept, inputs)}"))
        people, everyone = data.curation.people
        found.append((compact(people), f"people counted in kept images, {compact(everyone)} in the pool"))
    if data.measured:
        found.append((compact(data.measured.units), f"units of {data.measured.layout}"))
        found.append((data.measured.detector, "person detector"))
    if data.quarantined:
        found.append((compact(len(data.quarantined)), "units in quarantine"))
    return found
