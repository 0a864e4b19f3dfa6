"""Fine-tuning on several data sets, of ours and of others' layouts, in fixed shares; evaluation on others'
layouts.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from annotation.codecs import encode_mask, encode_rgb
from annotation.labels import Labels, from_members
from shards.errors import UsageError
from shards.reader import Dataset
from train.data.augment import AugmentConfig
from train.data.dataset import Example, ShardSource
from train.data.labelled import LabelledExamples, LabelledSet, LabelledSets, open_source
from train.engine.checkpoint import read_weights
from train.evaluate import EvaluateConfig, evaluate, open_evaluation_set
from train.finetune import FinetuneConfig, finetune, main
from train.metrics.pose import RESULT_FIELDS
from train.models.heads import HeadConfig
from train.tasks import TaskConfig, make_task

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="COCO's photos are not here")
HEAD = HeadConfig(deconv_channels=(16, 16), conv_channels=(16,))


def settings(**changes: Any) -> FinetuneConfig:
    values: dict[str, Any] = {"image_size": (64, 48), "size": "tiny", "head": HEAD, "batch": 4, "steps": 4}
    values |= {"warmup_steps": 1, "learning_rate": 2e-3, "log_every": 1, "cache": 64}
    return FinetuneConfig(**(values | changes))


def described(folder: Path, **fields: Any) -> Path:
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


@pytest.fixture(scope="module")
def toy(unseen_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other people than those of `training_people`, in the official layout; nobody says who they are."""
    folder = tmp_path_factory.mktemp("toy")
    for name in ("images", "masks", "depths"):
        (folder / name).mkdir()
    for sample in Dataset.open(unseen_people):
        labels = from_members(sample.members)
        assert labels.rgb is not None and labels.alpha is not None and labels.depth is not None
        (folder / f"images/{sample.key}.png").write_bytes(encode_rgb(labels.rgb))
        (folder / f"masks/{sample.key}.png").write_bytes(encode_mask(labels.alpha))
        np.save(folder / f"depths/{sample.key}.npy", np.where(labels.depth > 0, labels.depth, 1e10))
    return described(folder, layout="toy")


def opened(*places: Path, weights: tuple[int, ...] | None = None) -> LabelledSets:
    sets = [LabelledSet(open_source(place, "training"), ("rgb", "depth"), ("alpha",)) for place in places]
    return LabelledSets.of(sets, weights)


def example(labels: Labels, rng: np.random.Generator) -> Example:
    return {}


def test_shares_are_exact_and_every_sample_comes_equally_often_by_default(
    training_people: Path, toy: Path
) -> None:
    mixed = opened(training_people, toy)
    assert mixed.weights == (4, 1) and len(mixed) == 60  # 48 and 12
    weighted = opened(training_people, toy, weights=(2, 6))
    assert weighted.weights == (1, 3)
    examples = LabelledExamples(weighted, example, seed=5)
    places = [examples.locate(position) for position in range(48)]
    for block in range(12):
        assert Counter(place.dataset for place in places[4 * block : 4 * block + 4]) == {0: 1, 1: 3}
    few = [(place.epoch, place.sample) for place in places if place.dataset == 1]
    assert [epoch for epoch, _ in few] == [0] * 12 + [1] * 12 + [2] * 12
    assert sorted(sample for epoch, sample in few if epoch == 1) == list(range(12))
    other = LabelledExamples(weighted, example, seed=6)
    assert [other.locate(position) for position in range(48)] != places


def test_read_ahead_and_loader_processes_change_nothing(training_people: Path, toy: Path) -> None:
    examples = LabelledExamples(opened(training_people, toy), lambda labels, rng: {}, seed=1)
    keys = []
    for workers, read_ahead in ((0, 0), (0, 3), (2, 2)):
        source = ShardSource(examples, 4, workers=workers, read_ahead=read_ahead)
        keys.append([batch["key"] for batch in source.batches(3, 9, rank=0, world=1)])
    assert keys[0] == keys[1] == keys[2] and len(keys[0]) == 6


def test_a_mixture_of_shards_and_a_layout_resumes_to_the_same_weights(
    training_people: Path, toy: Path, tmp_path: Path
) -> None:
    data, config = [training_people, toy], settings(checkpoint_every=2, weights=(1, 1))
    whole = finetune("depth", config, data, None, tmp_path / "whole")
    assert [entry["url"] for entry in whole.result["data"]] == [str(training_people), str(toy)]
    assert whole.result["samples"] == 60 and len(whole.result["identities"]) == 16
    assert whole.result["anonymous"] == [str(toy)]

    def stop(progress: Any) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune("depth", config, data, None, tmp_path / "killed", stop)
    resumed = finetune("depth", config, data, None, tmp_path / "killed")
    assert resumed.model.read_bytes() == whole.model.read_bytes()
    assert (tmp_path / "killed/baseline.safetensors").read_bytes() == (
        tmp_path / "whole/baseline.safetensors"
    ).read_bytes()
    assert finetune("depth", config, data, None, tmp_path / "whole").status == "unchanged"
    others: list[tuple[FinetuneConfig, list[Path]]] = [
        (settings(weights=(1, 2)), data),
        (config, data[::-1]),
        (settings(), [toy]),
    ]
    for changed, where in others:
        with pytest.raises(UsageError, match="holds another run"):
            finetune("depth", changed, where, None, tmp_path / "whole")


def test_one_dataset_is_the_same_run_alone_in_a_list_and_with_a_weight(
    training_people: Path, tmp_path: Path
) -> None:
    forms: list[tuple[FinetuneConfig, Path | list[Path]]] = [
        (settings(), training_people),
        (settings(), [training_people]),
        (settings(weights=(7,)), training_people),
    ]
    runs = [
        finetune("depth", config, data, None, tmp_path / str(number)).model
        for number, (config, data) in enumerate(forms)
    ]
    first, *others = [read_weights(path)[0] for path in runs]
    for other in others:
        assert all(bool((other[name] == value).all()) for name, value in first.items())


def test_data_that_do_not_go_together_are_refused(training_people: Path, toy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(
        UsageError, match=r"data.yaml: its samples have no label normal; they have rgb, alpha, depth"
    ):
        finetune("normal", settings(), [training_people, toy], None, out)
    with pytest.raises(UsageError, match="one for each of the 2 data sets"):
        finetune("depth", settings(weights=(1, 2, 3)), [training_people, toy], None, out)
    with pytest.raises(UsageError, match="are the same data"):
        finetune("depth", settings(), [toy, training_people, toy], None, out)
    (tmp_path / "bare").mkdir()
    bare = yaml.safe_load(toy.read_text()) | {"root": str(toy.parent), "masks": "nowhere"}
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        finetune("depth", settings(), described(tmp_path / "bare", **bare), None, out)
    assert not out.exists()


def test_backgrounds_need_an_alpha_label_everywhere(training_people: Path, toy: Path, tmp_path: Path) -> None:
    (tmp_path / "walls").mkdir()
    (tmp_path / "walls/wall.png").write_bytes(encode_rgb(np.full((40, 40, 3), 90, np.uint8)))
    for role in ("images", "depths"):
        (tmp_path / role).symlink_to(toy.parent / role)
    maskless = described(tmp_path, layout="toy")
    augmented = AugmentConfig(backgrounds=tmp_path / "walls", background=0.5)
    with pytest.raises(UsageError, match=r"data.yaml: backgrounds .* only where there is an alpha label"):
        finetune("depth", settings(augment=augmented), [training_people, maskless], None, tmp_path / "out")


def test_evaluation_on_a_layout_equals_that_on_our_shards(
    training_people: Path, unseen_people: Path, toy: Path, tmp_path: Path
) -> None:
    """The same pictures and depths, in two forms; only the shards say who is in them."""
    finetune("depth", settings(), training_people, None, tmp_path / "model")
    config = EvaluateConfig(pictures=2, sheet=2, resamples=0)
    ours = evaluate("depth", config, unseen_people, tmp_path / "model", tmp_path / "ours").metrics
    theirs = evaluate("depth", config, toy, tmp_path / "model", tmp_path / "theirs").metrics
    assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-6)
    assert ours["counts"] == theirs["counts"] | {"people": 12}
    assert (ours["identities"]["disjoint"], theirs["identities"]["disjoint"]) == (True, None)
    assert theirs["data"]["url"] == str(toy) and theirs["data"]["digest"] != ours["data"]["digest"]


def test_nobody_is_known_to_be_new_where_a_part_of_the_training_data_is_anonymous(
    training_people: Path, unseen_people: Path, toy: Path, tmp_path: Path
) -> None:
    finetune("depth", settings(), [training_people, toy], None, tmp_path / "model")
    config = EvaluateConfig(pictures=0, sheet=0, resamples=0)
    metrics = evaluate("depth", config, unseen_people, tmp_path / "model", tmp_path / "scores").metrics
    assert metrics["identities"]["trained"] == 16 and metrics["identities"]["disjoint"] is None
    with pytest.raises(UsageError, match="were in the training data"):
        evaluate("depth", config, training_people, tmp_path / "model", tmp_path / "same")


def test_the_launcher_takes_several(training_people: Path, toy: Path, tmp_path: Path) -> None:
    config = tmp_path / "params.yaml"
    config.write_text(json.dumps({"finetune": settings(weights=(3, 1)).model_dump(mode="json")}))
    arguments = ["depth", "--config", str(config), "--section", "finetune", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--data", str(training_people), "--data", str(toy)]) == 0
    written = json.loads((tmp_path / "out/config.json").read_text())
    assert written["data"]["weights"] == [3, 1] and len(written["data"]["digests"]) == 2
    command = [sys.executable, "-m", "pipelines", "finetune", *arguments]
    command += ["--data", str(training_people), "--data", str(toy)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and "nothing to do" in done.stdout, done.stderr


@needs_photos
@pytest.mark.parametrize(
    ("name", "trained"), [("coco_keypoints", 17), ("coco_keypoints", 308), ("coco_wholebody", 133)]
)
def test_scores_on_cocos_layout_equal_pycocotools_on_cocos_file(
    name: str, trained: int, tmp_path: Path
) -> None:
    """Shaken truth through `open_evaluation_set` and the task's evaluator: all count as COCO counts them."""
    annotations = PHOTOS / f"{name}.json"
    data = described(
        tmp_path, layout="coco", images=str(PHOTOS), annotations=str(annotations), protocol="coco"
    )
    task = make_task("pose", TaskConfig(keypoints=trained))  # type: ignore[arg-type]
    tested = open_evaluation_set(data, task)
    assert tested.provenance["protocol"] == "coco" and len(tested.examples) == 2
    evaluator: Any = task.evaluator()
    rng, results = np.random.default_rng(0), []
    for index in range(2):
        key, labels = tested.examples[index]
        evaluator.begin(key, labels)
        for person in task.people(labels):
            assert labels.keypoints is not None and labels.keypoints.shape[1] == trained
            size = np.sqrt(labels.meta["people"][person]["area"])
            known = labels.keypoints[person][:, 3] > 0
            guess = np.column_stack(
                [labels.keypoints[person][:, :2] + rng.normal(0, 0.03 * size, (trained, 2)), known]
            )
            guess[known, 2] = rng.uniform(0.3, 1, known.sum())
            evaluator.add(key, labels, person, guess.astype(np.float64))
            body = task_body(guess, trained)
            entry = {"image_id": labels.meta["image_id"], "category_id": 1, "score": guess[known, 2].mean()}
            results.append({**entry, "keypoints": body.ravel().tolist()})
    scores = evaluator.compute()
    expected = cocos(annotations, results)
    assert len(results) == 5 and 0.05 < expected[0] < 0.99
    if trained == 133:  # the body alone, whose score is the whole person's
        assert (scores["ap/body"], scores["ar/body"]) == pytest.approx((expected[0], expected[5]), abs=1e-9)
        return
    names = ("ap", "ap50", "ap75", "ap_medium", "ap_large", "ar")
    assert [scores[name] for name in names] == pytest.approx(expected[:6], abs=1e-9)


def task_body(guess: Any, trained: int) -> Any:
    """A guess in COCO's order and numbers."""
    from annotation.keypoints import keypoint_mapping

    return guess[keypoint_mapping(trained, 17).source]


def cocos(annotations: Path, results: list[dict[str, Any]]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        gold: Any = COCO(str(annotations))
        evaluation: Any = COCOeval(gold, gold.loadRes(results), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


@needs_photos
def test_renders_of_17_points_and_whole_bodies_of_133_train_one_model(
    training_people: Path, tmp_path: Path
) -> None:
    annotations = PHOTOS / "coco_wholebody.json"
    whole = described(tmp_path, layout="coco", images=str(PHOTOS), annotations=str(annotations))
    config = settings(target=TaskConfig(keypoints=133, sigma=1.5, blur=5), weights=(1, 1))
    result = finetune("pose", config, [training_people, whole], None, tmp_path / "model").result
    assert result["samples"] == 50 and np.isfinite(result["loss"])
    assert "left_out" not in result["data"][0] and "left_out" not in result["data"][1]


def test_what_was_left_out_is_written_down(toy: Path, tmp_path: Path) -> None:
    for role in ("images", "masks", "depths"):
        (tmp_path / role).mkdir()
        for path in (toy.parent / role).iterdir():
            (tmp_path / role / path.name).write_bytes(path.read_bytes())
    next((tmp_path / "depths").iterdir()).unlink()
    data = described(tmp_path, layout="toy", unpaired="skip")
    result = finetune("depth", settings(), data, None, tmp_path / "model").result
    assert result["samples"] == 11 and result["data"]["left_out"] == {"unpaired": 1}
    config = EvaluateConfig(pictures=0, sheet=0, resamples=0)
    with pytest.raises(UsageError, match="trained on these very data"):
        evaluate("depth", config, data, tmp_path / "model", tmp_path / "scores")
    config = config.model_copy(update={"shared_identities": "allow"})
    metrics = evaluate("depth", config, data, tmp_path / "model", tmp_path / "scores").metrics
    assert metrics["identities"]["disjoint"] is False
    assert metrics["data"]["samples"] == 11 and metrics["data"]["left_out"] == {"unpaired": 1}


@needs_photos
def test_pose_is_learned_and_scored_on_cocos_layout(tmp_path: Path) -> None:
    """From the YAML to COCO results, on two photographs learned by heart."""
    annotations = PHOTOS / "coco_wholebody.json"
    data = described(tmp_path, layout="coco", images=str(PHOTOS), annotations=str(annotations))
    config = settings(
        image_size=(96, 64),
        target=TaskConfig(keypoints=133, sigma=1.5, blur=5),
        augment=AugmentConfig.off(),
        batch=8,
        steps=80,
        learning_rate=3e-3,
        layer_decay=1.0,
    )
    finetune("pose", config, data, None, tmp_path / "model")
    by_heart = EvaluateConfig(resamples=0, shared_identities="allow")
    scores = evaluate("pose", by_heart, data, tmp_path / "model", tmp_path / "scores")
    assert (scores.metrics["images"], scores.metrics["cases"]) == (2, 5)
    results = json.loads((tmp_path / "scores/keypoints.json").read_text())
    assert {entry["image_id"] for entry in results} == {785, 196141}
    assert set(RESULT_FIELDS[133]) <= set(results[0])
    found = scores.metrics["metrics"]["ap/body"]
    assert 0.01 < found == pytest.approx(cocos(annotations, results)[0], abs=2e-3)  # rounded to 0.001 px
