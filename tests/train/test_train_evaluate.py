"""Evaluation end to end: each task beats its constant baseline on people it never saw, and says how it was
scored.
"""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from shards.errors import UsageError
from shards.reader import Dataset
from train.data.augment import AugmentConfig
from train.evaluate import EvaluateConfig, evaluate
from train.finetune import FinetuneConfig, finetune
from train.models.heads import HeadConfig
from train.tasks import TASKS, TaskConfig

MILD = AugmentConfig(scale=(0.9, 1.1), shift=0.05, rotate_probability=0, photometric_probability=0.2)

# Few steps from random weights: what is shown is that learning carries over to other people, not how far.
STEPS = {"pose": 150, "parts": 60, "depth": 60, "normal": 60}


@pytest.fixture(scope="module")
def models(training_people: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One short run of each task."""
    folder = tmp_path_factory.mktemp("models")
    for task in TASKS:
        config = FinetuneConfig(
            image_size=(96, 64),
            size="tiny",
            head=HeadConfig(deconv_channels=(24, 24), conv_channels=(24,)),
            target=TaskConfig(sigma=1.5, blur=5),
            batch=8,
            steps=STEPS[task],
            warmup_steps=6,
            learning_rate=3e-3,
            augment=AugmentConfig(
                scale=(0.9, 1.1), shift=0.05, rotate_probability=0, photometric_probability=0.2
            ),
            layer_decay=1.0,
            cache=64,
        )
        finetune(task, config, training_people, None, folder / task)
    return {task: folder / task for task in TASKS}


@pytest.fixture(scope="module")
def scores(
    models: dict[str, Path], unseen_people: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("scores")
    for task, model in models.items():
        evaluate(task, EvaluateConfig(pictures=3, batch=5), unseen_people, model, folder / task)
    return {task: folder / task for task in TASKS}


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return content


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_beats_its_constant_baseline_on_unseen_people(task: str, scores: dict[str, Path]) -> None:
    metrics = read(scores[task])
    headline = metrics["headline"]
    assert headline["beats_constant"], headline
    assert headline["model"] == metrics["metrics"][headline["metric"]]
    assert headline["constant"] == metrics["baselines"]["constant"][headline["metric"]]
    assert metrics["images"] == metrics["cases"] == 12
    assert metrics["identities"]["disjoint"] is True
    assert len(metrics["identities"]["tested"]) == 6 and metrics["identities"]["trained"] == 16
    assert metrics["protocol"] and len(metrics["checkpoint"]["sha256"]) == 64


def test_the_constant_depth_scores_the_standard_deviation_of_each_image(
    scores: dict[str, Path], unseen_people: Path
) -> None:
    from annotation.labels import from_members

    samples = [from_members(sample.members) for sample in Dataset.open(unseen_people)]
    deviations = [float(np.std(labels.depth[labels.alpha > 127], dtype=np.float64)) for labels in samples]  # type: ignore[index, operator]
    assert read(scores["depth"])["baselines"]["constant"]["rmse"] == pytest.approx(
        np.mean(deviations), rel=1e-5
    )


def test_the_table_of_images_averages_to_the_scores(scores: dict[str, Path]) -> None:
    with (scores["depth"] / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["key"] for row in rows}) == 12
    mean = np.mean([float(row["model.rmse"]) for row in rows])
    assert mean == pytest.approx(read(scores["depth"])["metrics"]["rmse"])


def test_pictures_show_input_truth_and_prediction(scores: dict[str, Path]) -> None:
    for folder in scores.values():
        pictures = sorted((folder / "predictions").glob("*.png"))
        assert len(pictures) == 3
        image = cv2.imread(str(pictures[0]))
        assert image.shape[0] == 384 and image.shape[1] > 2 * 288


def test_a_finished_evaluation_is_not_repeated(
    models: dict[str, Path], unseen_people: Path, tmp_path: Path
) -> None:
    first = evaluate("depth", EvaluateConfig(pictures=0), unseen_people, models["depth"], tmp_path / "out")
    again = evaluate("depth", EvaluateConfig(pictures=0), unseen_people, models["depth"], tmp_path / "out")
    assert (first.status, again.status) == ("finished", "unchanged")
    assert again.metrics == first.metrics


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_flip_test_and_the_batch_change_little(
    task: str, models: dict[str, Path], scores: dict[str, Path], unseen_people: Path, tmp_path: Path
) -> None:
    config = EvaluateConfig(pictures=0, flip_test="on", batch=3)
    flipped = evaluate(task, config, unseen_people, models[task], tmp_path / "out").metrics
    plain = read(scores[task])
    assert flipped["metrics"] != plain["metrics"]
    assert flipped["headline"]["constant"] == plain["headline"]["constant"]
    # Averaging with a wrongly turned output would throw a model back behind its baseline.
    assert flipped["headline"]["beats_constant"]


def test_people_of_the_training_data_are_refused(
    models: dict[str, Path], training_people: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="16 of its 16 people were in the training data: person-0"):
        evaluate("depth", EvaluateConfig(), training_people, models["depth"], tmp_path / "out")
    allowed = EvaluateConfig(pictures=0, shared_identities="allow")
    metrics = evaluate("depth", allowed, training_people, models["depth"], tmp_path / "out").metrics
    assert metrics["identities"]["disjoint"] is False


def test_another_tasks_model_or_none_is_refused(
    models: dict[str, Path], unseen_people: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="a model for 'depth'; asked to evaluate 'pose'"):
        evaluate("pose", EvaluateConfig(), unseen_people, models["depth"], tmp_path / "out")
    with pytest.raises(UsageError, match="no such model"):
        evaluate("pose", EvaluateConfig(), unseen_people, tmp_path, tmp_path / "out")
