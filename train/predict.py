"""Prediction on one's own pictures.

    from train.predict import load
    model = load("out/tasks/depth")
    depth = model(image)                    # RGB uint8 (height, width, 3) -> float32 (height, width)

`predict` does the same for files, folders and videos, into a folder: predictions/ (files of each input, its
marker last), manifest.jsonl, summary.json, keypoints.json (pose: COCO results) and config.json. Run again, it
predicts what is new or was rejected.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from annotation.codecs import MAX_PIXELS
from shards.config import parse_config
from shards.errors import UsageError
from shards.files import sha256_file
from shards.parallel import in_order
from train.engine.distributed import World
from train.engine.run import open_run
from train.finetune import load_task_model
from train.prediction.boxes import FindPeople
from train.prediction.outputs import OutputConfig, OutputWriter
from train.prediction.picture import Picture, Reject
from train.prediction.predictor import Predictor, PredictorConfig
from train.prediction.sources import Skipped, Source, ahead, list_sources, read_sources
from train.prediction.summary import write_summary

OPERATIONAL = {"batch", "compile", "device"}
"""Settings that change how predictions are made, not what they are."""
_WRITERS = min(4, os.cpu_count() or 1)
"""Threads that encode and write: a PNG of 16-bit normals takes a core as long as a small network does."""


class PredictConfig(PredictorConfig, OutputConfig):
    """How pictures are read, seen and written."""

    max_pixels: int = Field(default=MAX_PIXELS, gt=0)
    """Pictures with more are rejected before any pixel is decoded."""
    every: int = Field(default=1, gt=0)
    """Videos: every how many frames one is predicted."""
    min_score: float = Field(default=0.3, ge=0, le=1)
    """People whose box scores less are left out."""


Progress = Callable[[int, int | None], None]
"""Called with (pictures done, pictures in all; None while unknown, as of a video)."""


@dataclass(frozen=True)
class PredictResult:
    """How many inputs were predicted now, had their outputs already, and could not be predicted."""

    predicted: int
    skipped: int
    rejects: list[Reject]


def load(checkpoint: Path | str, **settings: Any) -> Predictor:
    """The model in a folder of `vitruvian finetune` (or its model.safetensors), ready to be called.

    `settings` are fields of `PredictorConfig`: batch, precision, flip, compile, fit, tiles, device ... Raises
    UsageError for a wrong setting or no model, VitruvianError for a damaged one.
    """
    return load_predictor(checkpoint, parse_config(settings, PredictorConfig, "load"))


def load_predictor(checkpoint: Path | str, config: PredictorConfig) -> Predictor:
    """As `load`, with a configuration."""
    model, task, description = load_task_model(model_path(checkpoint))
    return Predictor(model, task, description.config.image_size, description.head.stride, config)


def model_path(checkpoint: Path | str) -> Path:
    """The model file of a folder, or the file itself. Raises UsageError when there is none."""
    path = Path(checkpoint)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UsageError(
            f"{path}: no such model; expected a folder of `vitruvian finetune` or its model.safetensors"
        )
    return path


def predict(
    task_name: str,
    checkpoint: Path,
    inputs: Sequence[str],
    out: Path,
    config: PredictConfig,
    find_people: FindPeople | None = None,
    who: Mapping[str, Any] | None = None,
    report: Progress = lambda done, total: None,
    *,
    replace: bool = False,
) -> PredictResult:
    """Predict every input into the folder `out`; those that have their outputs are passed over.

    `find_people`: boxes of a picture, for pose and `fit: person`; `who` identifies it (a detector's
    configuration and weights), because other boxes make other predictions. Raises UsageError for a model of
    another task, inputs that do not exist, or an `out` that holds predictions made otherwise (deleted when
    `replace`).
    """
    path = model_path(checkpoint)
    sources = list_sources(inputs)
    predictor = load_predictor(path, config)
    if predictor.task.name != task_name:
        raise UsageError(f"{path}: a model for {predictor.task.name!r}; asked to predict {task_name!r}")
    writer = OutputWriter(out, predictor.task, config)
    identity = {
        "task": task_name,
        "predict": config.model_dump(mode="json", exclude=OPERATIONAL),
        "model": sha256_file(path),
        "people": dict(who or {}),
    }
    open_run(out, identity, World(0, 1, torch.device("cpu")), replace=replace)
    finder = _with_boxes(find_people, config.min_score) if predictor.sees_people else None
    run = _Run(sources, report)
    read = read_sources(sources, writer.is_done, config.max_pixels, config.every)
    pictures = run.pictures(ahead(read if finder is None else map(finder, read)))
    waiting = max(config.batch, 2 * _WRITERS)  # a batch comes at once
    with _core_for_writers(predictor.device):
        for _, reject in in_order(writer.write, predictor.stream(pictures), waiting, threads=_WRITERS):
            run.written(reject)
    result = PredictResult(run.predicted, run.skipped, run.rejects)
    counts = {"predicted": run.predicted, "skipped": run.skipped, "rejected": len(run.rejects)}
    write_summary(out, task_name, counts, run.rejects)
    return result


@contextmanager
def _core_for_writers(device: torch.device) -> Iterator[None]:
    """One thread fewer for a network on the CPU: its threads wait for each other, so that a writer on the
    core of one of them holds up all.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads - 1) if device.type == "cpu" else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


Item = Picture | Skipped | Reject


def _with_boxes(find_people: FindPeople | None, min_score: float) -> Callable[[Item], Item]:
    def add(item: Item) -> Item:
        if not isinstance(item, Picture) or find_people is None:
            return item
        return replace(item, boxes=find_people(item).above(min_score))

    return add


class _Run:
    """Counts, and the sieve between what was read and what is predicted."""

    def __init__(self, sources: Sequence[Source], report: Progress) -> None:
        self.total = None if any(source.kind == "video" for source in sources) else len(sources)
        self.report, self.predicted, self.skipped = report, 0, 0
        self.rejects: list[Reject] = []

    def pictures(self, items: Iterable[Item]) -> Iterator[Picture]:
        for item in items:
            if isinstance(item, Picture):
                yield item
            elif isinstance(item, Skipped):
                self.skipped += 1
                self._say()
            else:
                self.written(item)

    def written(self, reject: Reject | None) -> None:
        if reject is None:
            self.predicted += 1
        else:
            self.rejects.append(reject)
        self._say()

    def _say(self) -> None:
        self.report(self.predicted + self.skipped + len(self.rejects), self.total)
