"""Evaluation: a task model and its baselines on labelled pictures of people it never saw, by one code path.

`out` then holds metrics.json (scores, intervals, baselines, protocol, published figures, what was evaluated
on what), images.csv (scores of each image), predictions/*.png (input, truth, prediction), worst.png and
random.png, keypoints.json (pose: COCO results), config.json and run.json.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from shards.errors import UsageError
from shards.files import sha256_file, write_atomic
from train.data.labelled import LabelledSet, open_source
from train.data.layouts import LEFT_OUT
from train.engine.checkpoint import read_weights
from train.engine.distributed import open_world
from train.engine.run import IDENTITY, RESULT, open_run
from train.finetune import Description, load_task_model
from train.judge import EvaluateConfig, Examples, Judge, Progress
from train.metrics.boxes import Detections, read_detections
from train.metrics.published import Published, check_protocol, find_published
from train.models.heads import TaskModel
from train.tasks import Task
from train.tasks.base import Scoring

__all__ = [
    "EvaluateConfig",
    "EvaluateResult",
    "EvaluationSet",
    "evaluate",
    "open_checkpoint",
    "open_evaluation_set",
]


@dataclass(frozen=True)
class EvaluateResult:
    """`status`: "finished", or "unchanged" when this very evaluation was found complete. `metrics`:
    metrics.json.
    """

    status: Literal["finished", "unchanged"]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures to be scored on, from anywhere. `examples`: labels in the task's vocabulary (`Task.prepare`).

    digest: of the content, it names what was evaluated on. identities: who is in the pictures, () when nobody
    says. provenance: "protocol" names the published test set. What labels may carry for pose, in `meta`:
    "image_id" (the data set's own name of the picture) and, of each entry of "people", COCO's "bbox" (x, y,
    width, height), "area" and "iscrowd".
    """

    examples: Examples
    url: str
    digest: str
    identities: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)


def open_evaluation_set(url: Path | str, task: Task) -> EvaluationSet:
    """A dataset of ours, or the YAML description of another layout (`train.data.layouts`). Raises UsageError
    for one without the task's labels.
    """
    source = open_source(url, "evaluation")
    labelled = LabelledSet(source, task.wanted, task.optional, task.prepare)
    return EvaluationSet(labelled, str(url), source.digest, tuple(source.identities()), source.provenance)


@dataclass(frozen=True)
class Checkpoint:
    """A task model as evaluation needs it. `trained`: the people it was trained on, None when unknown.
    `anonymous`: the training data that do not say who is in them. `seen`: digests of the training data.
    """

    path: Path
    model: TaskModel
    task: Task
    description: Description
    baselines: Mapping[str, torch.Tensor]
    digests: Mapping[str, str]
    trained: Sequence[str] | None
    anonymous: Sequence[str] = ()
    seen: Sequence[str] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        return self.description.config.image_size


def open_checkpoint(place: Path, task_name: str) -> Checkpoint:
    """The model in a folder of `finetune`, or a file as it writes. Baselines and the people it was trained on
    come from the folder, where it has them.

    Raises UsageError when there is none, when it is of another task, or its fine-tuning is not finished.
    """
    path = place / "model.safetensors" if place.is_dir() else place
    if not path.is_file():
        raise UsageError(f"{path}: no such model; expected a folder of `vitruvian finetune`")
    model, task, description = load_task_model(path)
    if description.task != task_name:
        raise UsageError(f"{place}: a model for {description.task!r}; asked to evaluate {task_name!r}")
    beside = path.with_name("baseline.safetensors")
    digests, baselines = {"model": sha256_file(path)}, dict[str, torch.Tensor]()
    if beside.is_file():
        baselines, _ = read_weights(beside)
        digests["baseline"] = sha256_file(beside)
    run = _training_result(path.parent)
    people = None if run is None else run.get("identities", [])
    run = run or {}
    data = run.get("data", [])
    seen = [one["digest"] for one in (data if isinstance(data, list) else [data])]
    return Checkpoint(
        path, model, task, description, baselines, digests, people, run.get("anonymous", []), seen
    )


def evaluate(
    task_name: str,
    config: EvaluateConfig,
    data: Path | str | EvaluationSet,
    checkpoint: Path,
    out: Path,
    report: Progress = lambda done, total: None,
    *,
    boxes: Path | None = None,
    replace: bool = False,
) -> EvaluateResult:
    """Score the model at `checkpoint` (of `finetune`) on the labelled pictures `data`; `boxes`: a detector's,
    as COCO results, for pose (default: those of the truth).

    Does nothing when `out` holds this finished evaluation. Raises UsageError for a checkpoint of another
    task, data without its labels, people who were in the training data (unless the config allows them), a
    protocol the data contradict, or an `out` that holds something else (another evaluation is deleted when
    `replace`).
    """
    found = open_checkpoint(checkpoint, task_name)
    detections = _detections(boxes, task_name)
    found.task.scoring = Scoring(
        config.depth_space, config.depth_cap, "truth" if detections is None else "detected"
    )
    tested = data if isinstance(data, EvaluationSet) else open_evaluation_set(data, found.task)
    protocol = check_protocol(config.protocol, tested.provenance)
    people = held_out(found, tested, config)
    identity = _identity(found, tested, config, boxes)
    with open_world() as world:
        run = open_run(out, identity, world, replace=replace)
        if run.result is not None:
            return EvaluateResult("unchanged", json.loads((out / "metrics.json").read_text(encoding="utf-8")))
        began = time.perf_counter()
        judge = Judge(
            found.task,
            found.model.to(world.device),
            found.baselines,
            found.size,
            world.device,
            config,
            detections,
        )
        judge.run(tested.examples, out, report)
        if boxes is not None and not judge.cases:
            raise UsageError(f"{boxes}: no box of a person is in a picture of {tested.url}: compare image_id")
        metrics = {
            **judge.summary(),
            **_circumstances(found, tested, config, protocol),
            "boxes": None if boxes is None else {"path": str(boxes), "sha256": identity["boxes"]},
            "identities": people,
            "checkpoint": {"path": str(checkpoint), "sha256": found.digests["model"]},
            "run": {"seconds": time.perf_counter() - began, "torch": torch.__version__},
        }
        for name, content in {"images.csv": judge.table(), **judge.files()}.items():
            write_atomic(out / name, content)
        write_atomic(out / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
        run.finish({"headline": metrics["headline"], "seconds": metrics["run"]["seconds"]})
        return EvaluateResult("finished", metrics)


def held_out(checkpoint: Checkpoint, tested: EvaluationSet, config: EvaluateConfig) -> dict[str, Any]:
    """Who is evaluated on, and whether none of them was trained on ("disjoint": None where nobody says who
    is who in the test data or in a part of the training data).

    Raises UsageError, naming them, for people in both, and for the very data that were trained on, unless the
    config allows it.
    """
    known = checkpoint.trained or ()
    shared = sorted(set(known) & set(tested.identities))
    if shared and config.shared_identities == "refuse":
        raise UsageError(
            f"{tested.url}: {len(shared)} of its {len(tested.identities)} people were in the training data: "
            f"{', '.join(shared[:10])}; evaluate on others, or set shared_identities: allow"
        )
    if tested.digest in checkpoint.seen and config.shared_identities == "refuse":
        raise UsageError(
            f"{tested.url}: the model was trained on these very data, all their people were in the training "
            "data; evaluate on others, or set shared_identities: allow"
        )
    told = known and tested.identities and (shared or not checkpoint.anonymous)
    disjoint = False if tested.digest in checkpoint.seen else not shared if told else None
    return {"tested": list(tested.identities), "trained": len(known), "disjoint": disjoint}


def _identity(
    checkpoint: Checkpoint, tested: EvaluationSet, config: EvaluateConfig, boxes: Path | None
) -> dict[str, Any]:
    """What makes two evaluations the same one."""
    return {
        "task": checkpoint.task.name,
        "evaluate": config.model_dump(mode="json"),
        **checkpoint.digests,
        "data": tested.digest,
        "boxes": None if boxes is None else sha256_file(boxes),
    }


def _circumstances(
    checkpoint: Checkpoint, tested: EvaluationSet, config: EvaluateConfig, protocol: str | None
) -> dict[str, Any]:
    count = len(tested.examples)
    left_out = {name: tested.provenance[name] for name in (LEFT_OUT,) if name in tested.provenance}
    return {
        "published": _published(protocol, checkpoint, count),
        "flip_test": config.flip_test,
        "input_size": list(checkpoint.size),
        "data": {"url": tested.url, "digest": tested.digest, "samples": count, **left_out},
    }


def _published(protocol: str | None, checkpoint: Checkpoint, images: int) -> dict[str, Any] | None:
    """What others reached on the same pictures, or why it is not shown; None for data of one's own."""
    if protocol is None:
        return None
    settings = checkpoint.task.config.model_dump()
    found = find_published(protocol, checkpoint.task.name, images, settings)
    if isinstance(found, Published):
        return asdict(found)
    return {"protocol": protocol, "withheld": found.reason}


def _detections(boxes: Path | None, task_name: str) -> Detections | None:
    if boxes is None:
        return None
    if task_name != "pose":
        raise UsageError(f"boxes {boxes}: only pose looks at people one by one, not {task_name}")
    return read_detections(boxes)


def _training_result(folder: Path) -> dict[str, Any] | None:
    """What run.json says of the fine-tuning; None for a model that did not come from `finetune`."""
    try:
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / IDENTITY).is_file():
            raise UsageError(f"{folder}: its fine-tuning is not finished (no {RESULT})") from None
        return None
    return content if isinstance(content, dict) else {}
