"""Runs a task model and its baselines over pictures, and keeps their scores: of the set, of each image, how
sure they are, and the pictures to look at.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from pydantic import Field
from torch import Tensor

from annotation.codecs import encode_rgb
from annotation.draw import captioned
from annotation.labels import Labels
from shards.config import Config
from shards.errors import VitruvianError
from shards.files import write_atomic
from train.data.labelled import IDENTITY, PEOPLE
from train.data.view import View
from train.finetune import to_tensor
from train.metrics.boxes import Detections, with_detections
from train.metrics.depth import CAP
from train.metrics.resampling import LEVEL, Resampled, intervals
from train.models.heads import TaskModel
from train.panels import CELL_HEIGHT, Picture, Worst, draw_panel, sheet
from train.tasks import Evaluator, Task
from train.tasks.base import SeesImages, WritesFiles

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

COUNTS = ("pixels", "points")
"""Entries of an image's scores that say how much there was to score, the same for every contender."""


@runtime_checkable
class Examples(Protocol):
    """Pictures with labels, by index: (key, labels in the task's vocabulary)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[str, Labels]: ...


class EvaluateConfig(Config):
    """How to evaluate."""

    batch: int = Field(default=16, gt=0)
    flip_test: Literal["on", "off"] = "off"
    """on: average the outputs for the image and its mirror image."""
    pictures: int = Field(default=12, ge=0)
    """Images shown in predictions/, evenly spaced over the data set, never chosen by score."""
    sheet: int = Field(default=12, ge=0)
    """Cases on each of worst.png (by the headline score) and random.png."""
    shared_identities: Literal["refuse", "allow"] = "refuse"
    """Whether people of the training data may be in the test data."""
    resamples: int = Field(default=1000, ge=0)
    """Of the bootstrap that the 95 % intervals come from; 0: none."""
    resample: Literal["image", "identity"] = "image"
    """What is drawn: images, or people with all their images (right, and wider, where people recur)."""
    seed: int = Field(default=0, ge=0)
    """Of the resamples and of random.png."""
    depth_space: Literal["depth", "disparity"] = "depth"
    """Depth: where scale and shift are fitted; disparity for models that predict 1 / depth."""
    depth_cap: float = Field(default=CAP, gt=0)
    """Depth, in disparity space: metres at which predictions are cut off, and beyond which none is scored."""
    protocol: str | None = None
    """The published test set the data are, when they do not say so themselves: hi4d, coco-wholebody ..."""


@dataclass(frozen=True)
class Case:
    """One prediction to make: a person of a picture, or the picture."""

    key: str
    labels: Labels
    person: int
    view: View


@dataclass
class Contest:
    """One contender (the model or a baseline): its evaluator and its score for each case."""

    evaluator: Evaluator
    rows: list[dict[str, float]] = field(default_factory=list)


class Judge:
    """Scores `model` and `baselines` (outputs that do not look at the picture) on pictures of any sizes."""

    def __init__(
        self,
        task: Task,
        model: TaskModel,
        baselines: Mapping[str, Tensor],
        size: tuple[int, int],
        device: torch.device,
        config: EvaluateConfig,
        detections: Detections | None = None,
    ) -> None:
        self.task, self.model, self.baselines = task, model, baselines
        self.size, self.device, self.config, self.detections = size, device, config, detections
        self.contests = {name: Contest(task.evaluator()) for name in ("model", *baselines)}
        for name, contest in self.contests.items():
            if isinstance(contest.evaluator, Resampled):
                contest.evaluator.keep_images = name == "model" and config.resamples > 0
        self.cases: list[tuple[str, int]] = []
        self.groups: dict[str, str] = {}
        self.people: int | None = None
        self.worst = Worst(config.sheet, task.better)
        self.random: list[Picture] = []

    def run(self, examples: Examples, out: Path, report: Progress) -> None:
        """Predict and score every case; write the pictures into the folder `out`."""
        (out / "predictions").mkdir(parents=True, exist_ok=True)
        total = len(examples)
        even = set(np.linspace(0, total - 1, min(self.config.pictures, total)).astype(int).tolist())
        rng = np.random.default_rng(self.config.seed)
        lot = set(rng.choice(total, min(self.config.sheet, total), replace=False).tolist())
        for start in range(0, total, self.config.batch):
            stop = min(start + self.config.batch, total)
            cases = [(index, case) for index in range(start, stop) for case in self._cases(*examples[index])]
            for (index, case), output in zip(cases, self._outputs([case for _, case in cases]), strict=True):
                prediction = self._judge(case, output)
                if index in even:
                    even.discard(index)
                    panel = draw_panel(self.task, case.labels, case.person, prediction)
                    name = f"{index:05d}-{case.key[:8]}.png"
                    write_atomic(out / "predictions" / name, encode_rgb(panel))
                self._keep_for_sheets(case, prediction, drawn=index in lot)
                lot.discard(index)
            report(stop, total)
        for name, pictures in (("worst", self.worst.pictures()), ("random", self.random)):
            if pictures:
                write_atomic(out / f"{name}.png", encode_rgb(sheet(pictures)))

    def summary(self) -> dict[str, Any]:
        """Scores of the model and of each baseline, how sure they are, and how they were computed."""
        scores = {name: contest.evaluator.compute() for name, contest in self.contests.items()}
        if not scores["model"]:
            raise VitruvianError(f"{self.task.name}: no image of the data set has anything to be scored on")
        model = scores.pop("model")
        sure = self._intervals()
        return {
            "task": self.task.name,
            "headline": self._headline(model, scores.get("constant", {}), sure),
            "metrics": model,
            "intervals": {"level": LEVEL, "method": self._method(sure), "metrics": sure},
            "units": {name: self.task.units.get(name, "share of 1") for name in model},
            "baselines": scores,
            "protocol": self.task.how(),
            "images": len(self.groups),
            "cases": len(self.cases),
            "counts": {"images": len(self.groups), "people": self.people, **self._counts()},
        }

    def table(self) -> bytes:
        """CSV: one line per case, what there was to score, the scores of the model and of the baselines."""
        lines = []
        for number, (key, person) in enumerate(self.cases):
            line: dict[str, Any] = {"key": key, "person": person, "group": self.groups[key]}
            line |= {name: v for name, v in self.contests["model"].rows[number].items() if name in COUNTS}
            for name, contest in self.contests.items():
                row = contest.rows[number].items()
                line |= {f"{name}.{metric}": value for metric, value in row if metric not in COUNTS}
            lines.append(line)
        columns = list(dict.fromkeys(column for line in lines for column in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue().encode()

    def files(self) -> dict[str, bytes]:
        """What the model's evaluator leaves besides scores."""
        evaluator = self.contests["model"].evaluator
        return evaluator.files() if isinstance(evaluator, WritesFiles) else {}

    def _cases(self, key: str, labels: Labels) -> Iterator[Case]:
        if self.detections is not None:
            labels = with_detections(key, labels, self.detections)
        self._register(key, labels)
        for person in self.task.people(labels):
            yield Case(key, labels, person, self.task.view(labels, person, self.size))

    def _register(self, key: str, labels: Labels) -> None:
        """Count the picture and its people, and note what it is drawn with in a resample."""
        if key in self.groups:
            raise VitruvianError(f"sample {key}: two pictures of the data set have this key")
        listed: Sequence[Any] = labels.meta.get(PEOPLE, ())
        if listed or labels.keypoints is not None:
            found = len(listed) or (0 if labels.keypoints is None else len(labels.keypoints))
            self.people = (self.people or 0) + found
        who = sorted(str(one[IDENTITY]) for one in listed if isinstance(one, Mapping) and IDENTITY in one)
        self.groups[key] = " ".join(who) if who and self.config.resample == "identity" else key
        for contest in self.contests.values():
            if isinstance(contest.evaluator, SeesImages):
                contest.evaluator.begin(key, labels)

    def _outputs(self, cases: Sequence[Case]) -> Iterator[Float32[Tensor, "C h w"]]:
        """The model's outputs, batch by batch."""
        for start in range(0, len(cases), self.config.batch):
            images = torch.stack([_image(case) for case in cases[start : start + self.config.batch]])
            yield from self._predict(images.to(self.device))

    def _predict(self, images_BCHW: UInt8[Tensor, "B 3 H W"]) -> Float32[Tensor, "B C h w"]:
        with torch.inference_mode():
            if self.config.flip_test == "on":
                return self.task.flip_averaged(self.model, images_BCHW)
            output: Tensor = self.model(images_BCHW)
            return output

    def _judge(self, case: Case, output: Float32[Tensor, "C h w"]) -> Shaped[np.ndarray, "..."]:
        """Score the model and the baselines on one case; returns the model's prediction."""
        source = case.labels.size()
        assert source is not None
        outputs = {"model": output, **self.baselines}
        predictions = {name: self.task.decode(value, case.view, source) for name, value in outputs.items()}
        for name, contest in self.contests.items():
            row = contest.evaluator.add(case.key, case.labels, case.person, predictions[name])
            contest.rows.append(row)
        self.cases.append((case.key, case.person))
        return predictions["model"]

    def _keep_for_sheets(self, case: Case, prediction: Shaped[np.ndarray, "..."], drawn: bool) -> None:
        row = self.contests["model"].rows[-1]
        name = self.task.headline if self.task.headline in row else next(iter(row), "")
        who = f", person {case.person}" if len(self.task.people(case.labels)) > 1 else ""
        unit = self.task.units.get(name, "")
        said = f"{name} {row[name]:.4g} {unit}".rstrip() if row else "nothing to score"

        def draw() -> Picture:
            panel = draw_panel(self.task, case.labels, case.person, prediction, CELL_HEIGHT)
            return captioned(panel, f"{case.key[:12]}{who}: {said}")

        if drawn:
            self.random.append(draw())
        if row:
            self.worst.offer(row[name], draw)

    def _headline(
        self,
        model: Mapping[str, float],
        constant: Mapping[str, float],
        sure: Mapping[str, list[float]],
    ) -> dict[str, Any]:
        """The task's headline score, or the first one there is, beside the constant baseline's."""
        name = self.task.headline if self.task.headline in model else next(iter(model))
        better, score, base = self.task.better, model[name], constant.get(name)
        beats = None if base is None else score > base if better == "higher" else score < base
        return {
            "metric": name,
            "better": better,
            "model": score,
            "interval": sure.get(name),
            "constant": base,
            "beats_constant": beats,
        }

    def _intervals(self) -> dict[str, list[float]]:
        evaluator = self.contests["model"].evaluator
        if not isinstance(evaluator, Resampled):
            return {}
        return intervals(evaluator, self.groups, self.config.resamples, self.config.seed)

    def _method(self, sure: Mapping[str, Any]) -> str:
        """How the intervals were made, or why there are none."""
        if sure:
            drawn = "images" if self.config.resample == "image" else "people, with all their images"
            times, count = self.config.resamples, len(set(self.groups.values()))
            return f"percentile bootstrap, {times} resamples of {count} {drawn}, seed {self.config.seed}"
        if self.config.resamples == 0:
            return "none: resamples 0"
        if not isinstance(self.contests["model"].evaluator, Resampled):
            return "none: the task's scores cannot be resampled"
        return "none: fewer than two images (or people) to draw from"

    def _counts(self) -> dict[str, int]:
        rows = self.contests["model"].rows
        present = [name for name in COUNTS if any(name in row for row in rows)]
        return {name: int(sum(row.get(name, 0) for row in rows)) for name in present}


def _image(case: Case) -> UInt8[Tensor, "3 H W"]:
    assert case.labels.rgb is not None
    return to_tensor(case.view.colours(case.labels.rgb))
