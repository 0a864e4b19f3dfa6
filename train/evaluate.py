"""Evaluation: a task model and its baselines on a labelled dataset of people it never saw, by one code
path.

`out` then holds metrics.json (scores, baselines, protocol, what was evaluated on what), images.csv (scores
of each image), predictions/*.png (input, truth, prediction), config.json and run.json.
"""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from pydantic import Field
from torch import Tensor

from annotation.codecs import encode_rgb
from annotation.draw import letterbox, tile
from annotation.labels import Labels
from shards.config import Config
from shards.errors import UsageError, VitruvianError
from shards.files import sha256_file, write_atomic
from shards.reader import Dataset
from train.data.labelled import LabelledSet, identities
from train.data.view import View
from train.engine.checkpoint import read_weights
from train.engine.distributed import World, open_world
from train.engine.run import RESULT, open_run
from train.finetune import Description, load_task_model, to_tensor
from train.models.heads import TaskModel
from train.tasks import Evaluator, Task

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

PANEL_HEIGHT = 384


class EvaluateConfig(Config):
    """How to evaluate."""

    batch: int = Field(default=16, gt=0)
    flip_test: Literal["on", "off"] = "off"
    """on: average the outputs for the image and its mirror image."""
    pictures: int = Field(default=12, ge=0)
    """Images shown in predictions/, evenly spaced over the data set, never chosen by score."""
    shared_identities: Literal["refuse", "allow"] = "refuse"
    """Whether people of the training data may be in the test data."""


@dataclass(frozen=True)
class EvaluateResult:
    """`status`: "finished", or "unchanged" when this very evaluation was found complete. `metrics`:
    metrics.json.
    """

    status: Literal["finished", "unchanged"]
    metrics: dict[str, Any]


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


def evaluate(
    task_name: str,
    config: EvaluateConfig,
    data: Path | str,
    checkpoint: Path,
    out: Path,
    report: Progress = lambda done, total: None,
    *,
    replace: bool = False,
) -> EvaluateResult:
    """Score the model in the folder `checkpoint` (of `finetune`) on the labelled dataset `data`.

    Does nothing when `out` holds this finished evaluation. Raises UsageError for a checkpoint of another
    task, data without its labels, people who were in the training data (unless the config allows them), or
    an `out` that holds something else (another evaluation is deleted when `replace`).
    """
    path = checkpoint / "model.safetensors"
    if not path.is_file():
        raise UsageError(f"{path}: no such model; expected a folder of `vitruvian finetune`")
    model, task, description = load_task_model(path)
    if description.task != task_name:
        raise UsageError(f"{checkpoint}: a model for {description.task!r}; asked to evaluate {task_name!r}")
    labelled = LabelledSet(Dataset.open(data), task.wanted, task.optional, task.prepare)
    digests = {
        "model": sha256_file(path),
        "baseline": sha256_file(checkpoint / "baseline.safetensors"),
        "data": labelled.data.digest,
    }
    people = held_out(checkpoint, labelled.data, config)
    with open_world() as world:
        identity = {"task": task_name, "evaluate": config.model_dump(mode="json"), **digests}
        run = open_run(out, identity, world, replace=replace)
        if run.result is not None:
            return EvaluateResult("unchanged", json.loads((out / "metrics.json").read_text(encoding="utf-8")))
        began = time.perf_counter()
        judge = Judge(task, model.to(world.device), description, checkpoint, config, world)
        judge.run(labelled, out / "predictions", report)
        metrics = {
            **judge.summary(),
            "flip_test": config.flip_test,
            "input_size": list(description.config.image_size),
            "data": {"url": str(data), "digest": digests["data"], "samples": len(labelled)},
            "identities": people,
            "checkpoint": {"path": str(checkpoint), "sha256": digests["model"]},
            "run": {"seconds": time.perf_counter() - began, "torch": torch.__version__},
        }
        write_atomic(out / "images.csv", judge.table())
        write_atomic(out / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
        run.finish({"headline": metrics["headline"], "seconds": metrics["run"]["seconds"]})
        return EvaluateResult("finished", metrics)


class Judge:
    """Runs a model and its baselines over a data set."""

    def __init__(
        self,
        task: Task,
        model: TaskModel,
        description: Description,
        checkpoint: Path,
        config: EvaluateConfig,
        world: World,
    ) -> None:
        self.task, self.model, self.config, self.device = task, model, config, world.device
        self.size = description.config.image_size
        self.baselines, _ = read_weights(checkpoint / "baseline.safetensors")
        self.contests = {name: Contest(task.evaluator()) for name in ("model", *self.baselines)}
        self.cases: list[tuple[str, int]] = []

    def run(self, labelled: LabelledSet, pictures: Path, report: Progress) -> None:
        """Predict and score every case; draw the chosen ones into the folder `pictures`."""
        pictures.mkdir(parents=True, exist_ok=True)
        shown = set(np.linspace(0, len(labelled) - 1, min(self.config.pictures, len(labelled))).astype(int))
        for start in range(0, len(labelled), self.config.batch):
            stop = min(start + self.config.batch, len(labelled))
            cases = [(i, case) for i in range(start, stop) for case in self._cases(*labelled[i])]
            for (index, case), output in zip(cases, self._outputs([case for _, case in cases]), strict=True):
                prediction = self._judge(case, output)
                if index in shown:
                    shown.discard(index)
                    panel = draw_panel(self.task, case, prediction)
                    write_atomic(pictures / f"{index:05d}-{case.key[:8]}.png", encode_rgb(panel))
            report(stop, len(labelled))

    def summary(self) -> dict[str, Any]:
        """Scores of the model and of each baseline, and how they were computed."""
        scores = {name: contest.evaluator.compute() for name, contest in self.contests.items()}
        if not scores["model"]:
            raise VitruvianError(f"{self.task.name}: no image of the data set has anything to be scored on")
        name, better = self.task.headline, self.task.better
        model, constant = scores["model"][name], scores["constant"][name]
        return {
            "task": self.task.name,
            "headline": {
                "metric": name,
                "better": better,
                "model": model,
                "constant": constant,
                "beats_constant": model > constant if better == "higher" else model < constant,
            },
            "metrics": scores.pop("model"),
            "baselines": scores,
            "protocol": self.task.protocol,
            "images": len({key for key, _ in self.cases}),
            "cases": len(self.cases),
        }

    def table(self) -> bytes:
        """CSV: one line per case, the model's scores and those of the baselines."""
        lines = []
        for number, (key, person) in enumerate(self.cases):
            line: dict[str, Any] = {"key": key, "person": person}
            for name, contest in self.contests.items():
                line |= {f"{name}.{metric}": value for metric, value in contest.rows[number].items()}
            lines.append(line)
        columns = list(dict.fromkeys(column for line in lines for column in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue().encode()

    def _cases(self, key: str, labels: Labels) -> Iterator[Case]:
        for person in self.task.people(labels):
            yield Case(key, labels, person, self.task.view(labels, person, self.size))

    def _outputs(self, cases: Sequence[Case]) -> Iterator[Float32[Tensor, "C h w"]]:
        """The model's outputs, batch by batch."""
        for start in range(0, len(cases), self.config.batch):
            images = torch.stack([_image(case) for case in cases[start : start + self.config.batch]])
            yield from self._predict(images.to(self.device))

    def _predict(self, images_BCHW: UInt8[Tensor, "B 3 H W"]) -> Float32[Tensor, "B C h w"]:
        with torch.inference_mode():
            output: Tensor = self.model(images_BCHW)
            if self.config.flip_test == "on":
                output = (output + self.task.unmirror(self.model(images_BCHW.flip(3)))) / 2
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


def _image(case: Case) -> UInt8[Tensor, "3 H W"]:
    assert case.labels.rgb is not None
    return to_tensor(case.view.colours(case.labels.rgb))


def draw_panel(
    task: Task, case: Case, prediction: Shaped[np.ndarray, "..."]
) -> UInt8[np.ndarray, "height width 3"]:
    """Input, truth and prediction side by side."""
    labels = case.labels
    assert labels.rgb is not None
    truth = task.draw(labels, case.person, task.truth(labels, case.person))
    images = [labels.rgb, truth, task.draw(labels, case.person, prediction)]
    width = round(PANEL_HEIGHT * labels.rgb.shape[1] / labels.rgb.shape[0])
    return tile([letterbox(image, width, PANEL_HEIGHT) for image in images], columns=3, gap=6)


def held_out(checkpoint: Path, data: Dataset, config: EvaluateConfig) -> dict[str, Any]:
    """Who is evaluated on, and whether none of them was trained on ("disjoint": None where nobody says who
    is who).

    Raises UsageError, naming them, for people in both, unless the config allows it.
    """
    trained = set(_read_json(checkpoint / RESULT).get("identities", []))
    tested = identities(data)
    shared = sorted(trained & set(tested))
    if shared and config.shared_identities == "refuse":
        raise UsageError(
            f"{data.store.url}: {len(shared)} of its {len(tested)} people were in the training data: "
            f"{', '.join(shared[:10])}; evaluate on others, or set shared_identities: allow"
        )
    known = bool(trained and tested)
    return {"tested": tested, "trained": len(trained), "disjoint": not shared if known else None}


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path.parent}: its fine-tuning is not finished (no {path.name})") from None
    return content if isinstance(content, dict) else {}
