"""Collects what the report shows from a pipeline's outputs, through the rooms' own readers.

Each part is read on its own: one that is not there yet, or damaged, is named in `ReportData.missing` and the
rest is shown. Layout of the outputs: pipelines/demo/dvc.yaml.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from annotation.draw import colour_depth, colour_normals, draw_keypoints, overlay_parts
from annotation.labels import Labels, from_members
from pipelines.report.curation import Curation, collect_curation
from pipelines.report.images import RGB, webp_uri
from pipelines.report.machine import Machine, this_machine
from pipelines.report.parts import Collector, Missing, Picture
from shards.manifest import read_manifest
from shards.reader import Dataset

TASKS = ("pose", "parts", "depth", "normal")
DATASETS = {
    "Renders, training people": "renders/train",
    "Renders, held-out people": "renders/eval",
    "Renders, showcase": "renders/showcase",
    "Annotations of the raw pool": "annotations",
    "Selection": "selection",
    "Curated photographs": "curated",
}
CONTACTS = 7  # thumbnails per reason


@dataclass(frozen=True)
class Render:
    """One render and its labels, as pictures."""

    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Curve:
    """Loss by step of one training run."""

    title: str
    points: tuple[tuple[float, float], ...]
    seconds: float | None


@dataclass(frozen=True)
class TaskResult:
    """metrics.json of one task, and predictions on held-out people."""

    name: str
    metrics: Mapping[str, Any]
    predictions: tuple[Picture, ...]


@dataclass(frozen=True)
class Split:
    """Identities seen in training and in evaluation."""

    train: frozenset[str]
    eval: frozenset[str]

    @property
    def shared(self) -> frozenset[str]:
        return self.train & self.eval


@dataclass(frozen=True)
class DatasetLine:
    """One dataset in figures."""

    title: str
    samples: int
    shards: int
    bytes: int
    digest: str
    quarantined: tuple[str, ...]


@dataclass(frozen=True)
class ReportData:
    """All the report shows; a part that is None or empty is named in `missing`."""

    title: str
    machine: Machine
    parameters: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    datasets: Sequence[DatasetLine] = ()
    renders: Sequence[Render] = ()
    curation: Curation | None = None
    reconstructions: Sequence[Picture] = ()
    curves: Sequence[Curve] = ()
    tasks: Sequence[TaskResult] = ()
    split: Split | None = None
    missing: Sequence[Missing] = ()


def collect(folder: Path) -> ReportData:
    """Read everything below `folder`/out that is there."""
    out, parts = folder / "out", Collector()
    datasets = [
        parts.one("run", title.lower(), read_dataset, title, out / place) for title, place in DATASETS.items()
    ]
    runs = {"Pretraining": "encoder"} | {f"Fine-tuning: {task}": f"tasks/{task}" for task in TASKS}
    curves = [
        parts.one("finetuning", f"loss of {title.lower()}", read_curve, title, out / place)
        for title, place in runs.items()
    ]
    tasks = [
        parts.one("results", f"metrics of {task}", read_task, task, out / "metrics" / task) for task in TASKS
    ]
    return ReportData(
        title=folder.name,
        machine=this_machine(folder),
        parameters=parts.one("run", "parameters", read_parameters, folder) or "",
        timings=parts.one("run", "time of each stage", read_timings, out) or {},
        datasets=[line for line in datasets if line],
        renders=parts.one("renders", "render gallery", read_renders, out / "renders" / "showcase") or [],
        curation=collect_curation(parts, out / "pool", out / "annotations", out / "selection", CONTACTS),
        reconstructions=parts.one("pretraining", "reconstructions", read_reconstructions, out / "encoder")
        or [],
        curves=[curve for curve in curves if curve],
        tasks=[task for task in tasks if task],
        split=parts.one("results", "identity split", read_split, out / "renders"),
        missing=parts.missing,
    )


def read_timings(out: Path) -> dict[str, float]:
    """Seconds by stage, in the order in which the stages last ran."""
    timings: dict[str, float] = json.loads((out / "timings.json").read_bytes())
    return timings


def read_parameters(folder: Path) -> str:
    """The text of params.yaml. Raises ValueError when it is no YAML."""
    text = (folder / "params.yaml").read_text(encoding="utf-8")
    try:
        yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"params.yaml: {error}") from error
    return text


def read_dataset(title: str, place: Path) -> DatasetLine:
    manifest = read_manifest(place)
    size = sum(file.bytes for shard in manifest.shards for file in shard.files.values())
    return DatasetLine(
        title, manifest.samples, len(manifest.shards), size, manifest.digest, manifest.quarantined
    )


def read_renders(place: Path) -> list[Render]:
    """Every render of the dataset with its labels, in the order of identities and views."""
    samples = [from_members(sample.members) for sample in Dataset.open(place)]
    return [
        show_render(labels)
        for labels in sorted(samples, key=lambda labels: _natural(identity_of(labels.meta)))
    ]


def identity_of(meta: Mapping[str, Any]) -> str:
    """The identity of the first person, "?" where there is none."""
    people: Sequence[Mapping[str, Any]] = meta.get("people", ())
    return str(people[0]["identity"]) if people else "?"


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sorts 9 before 10, whether names are numbers or hold some."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name)]


def show_render(labels: Labels) -> Render:
    """RGB, depth, normals, parts over the image, keypoints over the image: those there are."""
    spec = labels.meta.get("provenance", {}).get("spec", {})
    framing = str(spec.get("camera", {}).get("framing", "person")).replace("_", " ")
    height = labels.meta.get("people", [{}])[0].get("height_m")
    title = f"Person {identity_of(labels.meta)}, {framing}" + (f", {height:.2f} m tall" if height else "")
    rgb, pictures = labels.rgb, list[Picture]()

    def add(name: str, image: RGB, alt: str, quality: int = 88) -> None:
        pictures.append(Picture(webp_uri(image, quality), f"{title}: {alt}", name))

    if rgb is not None:
        add("image", rgb, "the rendered image", 92)
    if labels.depth is not None:
        surface = labels.depth[labels.depth > 0]
        span = f"{surface.min():.2f} to {surface.max():.2f} m" if surface.size else "empty"
        add(f"depth, {span}", colour_depth(labels.depth), "depth as brightness, near is bright")
    if labels.normal is not None:
        add("normals", colour_normals(labels.normal), "surface normals as colours")
    if labels.parts is not None and rgb is not None:
        parts = np.where(labels.parts == 255, 0, labels.parts).astype(np.uint8)
        count = len(np.unique(parts)) - 1
        add(
            f"{count} parts", overlay_parts(rgb, parts, labels.part_classes), f"{count} body parts as colours"
        )
    if labels.keypoints is not None and rgb is not None:
        visible = int((labels.keypoints[..., 3] == 2).sum())
        add(
            f"keypoints, {visible} visible",
            draw_keypoints(rgb, labels.keypoints),
            "the skeleton over the image",
        )
    return Render(title, tuple(pictures))


def read_reconstructions(place: Path) -> list[Picture]:
    """The rows of reconstructions.png: truth, what the encoder saw, what the model made of it."""
    image = read_png(place / "reconstructions.png")
    config = json.loads((place / "config.json").read_bytes())["pretrain"]
    hidden = f"{config['mask_ratio']:.0%}"
    alt = f"A photograph, the same with {hidden} of its patches hidden, and its reconstruction"
    return [Picture(webp_uri(row, 90), alt) for row in split_rows(image)]


def split_rows(sheet: RGB) -> list[RGB]:
    """Cut a contact sheet at its blank (all white) rows of pixels."""
    inked = (sheet < 255).any(axis=(1, 2)).astype(np.int8)
    edges = np.flatnonzero(np.diff(inked, prepend=0, append=0))
    return [sheet[top:bottom] for top, bottom in edges.reshape(-1, 2).tolist()]


def read_curve(title: str, place: Path) -> Curve:
    """Loss by step from log.jsonl; a last line cut off by a kill is ignored."""
    lines = (place / "log.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    points = [(float(entry["step"]), float(entry["loss"])) for entry in map(json.loads, lines)]
    if not points:
        raise ValueError(f"{place}/log.jsonl: no step was logged")
    finished = place / "run.json"
    seconds = json.loads(finished.read_bytes()).get("run", {}).get("seconds") if finished.exists() else None
    return Curve(title, tuple(points), seconds)


def read_task(name: str, place: Path) -> TaskResult:
    """Scores and prediction panels of one task."""
    metrics = json.loads((place / "metrics.json").read_bytes())
    alt = f"{name} on a held-out person: input, ground truth, prediction"
    panels = [
        Picture(webp_uri(read_png(path), 88), alt) for path in sorted((place / "predictions").glob("*.png"))
    ]
    return TaskResult(name, metrics, tuple(panels))


def read_split(renders: Path) -> Split:
    """Who is in the training renders and who in the evaluation renders, from the samples themselves."""
    return Split(frozenset(_identities(renders / "train")), frozenset(_identities(renders / "eval")))


def _identities(place: Path) -> Iterator[str]:
    dataset = Dataset.open(place)
    for position in range(len(dataset)):
        meta = dataset.read(position, ("json",)).meta()
        yield from (str(person["identity"]) for person in meta.get("people", ()))


def read_png(path: Path) -> RGB:
    """A picture of ours as RGB. Raises OSError when it is not there or cannot be decoded."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise OSError(f"{path}: not a picture")
    return np.ascontiguousarray(image[..., ::-1])
