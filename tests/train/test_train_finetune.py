"""Fine-tuning end to end on synthetic people: it learns, resumes to the same weights, does nothing twice,
and refuses what does not fit.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from annotation.codecs import encode_rgb
from annotation.labels import Labels, to_members
from shards.errors import UsageError, VitruvianError
from shards.manifest import write_manifest
from shards.reader import Dataset
from shards.sample import Sample, content_key
from shards.writer import ShardWriter
from train.data.augment import AugmentConfig
from train.data.labelled import LabelledSet, ShardLabels, identities
from train.engine.checkpoint import read_weights, save_encoder
from train.engine.telemetry import Progress
from train.finetune import FinetuneConfig, finetune, load_task_model, main
from train.models.heads import HeadConfig
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig
from train.tasks import TASKS


def settings(**changes: Any) -> FinetuneConfig:
    values: dict[str, Any] = {
        "image_size": (64, 48),
        "head": HeadConfig(deconv_channels=(16, 16), conv_channels=(16,)),
        "batch": 4,
        "steps": 4,
        "warmup_steps": 1,
        "learning_rate": 2e-3,
        "log_every": 1,
        "cache": 64,
    }
    return FinetuneConfig(**(values | changes))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder with cls token, for squares: as pretraining leaves it."""
    config = ViTConfig(width=32, depth=2, heads=2, image_size=(64, 64))
    model = ViT(config)
    initialise(model, seed=3)
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_encoder(path, model.state_dict(), config)
    return path


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_learns(task: str, training_people: Path, encoder: Path, tmp_path: Path) -> None:
    lines: list[Progress] = []
    config = settings(
        steps=40,
        batch=8,
        warmup_steps=4,
        layer_decay=1.0,
        learning_rate=1e-3 if task == "depth" else 3e-3,
        augment=AugmentConfig.off(),
    )
    result = finetune(task, config, training_people, encoder, tmp_path / "out", lines.append)
    assert result.status == "finished" and result.model.is_file()
    losses = [line.loss for line in lines]
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10])
    assert result.result["identities"] == sorted(f"person-{number}" for number in range(16))


def test_a_killed_run_resumes_to_the_same_weights(
    training_people: Path, encoder: Path, tmp_path: Path
) -> None:
    config = settings(checkpoint_every=2)
    whole = finetune("depth", config, training_people, encoder, tmp_path / "whole").model

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune("depth", config, training_people, encoder, tmp_path / "killed", stop)
    assert not (tmp_path / "killed/model.safetensors").exists()
    steps: list[int] = []
    resumed = finetune(
        "depth", config, training_people, encoder, tmp_path / "killed", lambda p: steps.append(p.step)
    )
    assert steps == [3, 4]
    assert resumed.model.read_bytes() == whole.read_bytes()


def test_recomputing_activations_changes_no_bit(training_people: Path, encoder: Path, tmp_path: Path) -> None:
    weights = [
        read_weights(
            finetune(
                "normal",
                settings(checkpoint_activations=flag),
                training_people,
                encoder,
                tmp_path / str(flag),
            ).model
        )[0]
        for flag in (False, True)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("task", ["parts", "pose"])
def test_a_killed_run_that_drops_and_replaces_backgrounds_resumes_to_the_same_weights(
    task: str, training_people: Path, encoder: Path, tmp_path: Path
) -> None:
    """What is dropped is decided by numbers that come with the sample, not by a generator with a state."""
    walls = tmp_path / "walls"
    walls.mkdir()
    (walls / "wall.png").write_bytes(encode_rgb(np.full((40, 40, 3), 90, np.uint8)))
    published = {"published": task, "backgrounds": walls}
    head = HeadConfig(deconv_channels=(16, 16), conv_channels=(16,), dropout=0.3)
    config = settings(checkpoint_every=2, drop_path=0.4, head=head, augment=published)
    whole = finetune(task, config, training_people, encoder, tmp_path / "whole").model

    def stop(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        finetune(task, config, training_people, encoder, tmp_path / "killed", stop)
    torch.manual_seed(2)
    resumed = finetune(task, config, training_people, encoder, tmp_path / "killed").model
    assert resumed.read_bytes() == whole.read_bytes()
    plain = settings(checkpoint_every=2, head=head.model_copy(update={"dropout": 0.0}), augment=published)
    assert (
        finetune(task, plain, training_people, encoder, tmp_path / "plain").model.read_bytes()
        != whole.read_bytes()
    )
    (walls / "wall.png").write_bytes(encode_rgb(np.full((50, 50, 3), 90, np.uint8)))
    with pytest.raises(UsageError, match="holds another run"):  # other backgrounds are another run
        finetune(task, config, training_people, encoder, tmp_path / "whole")


def test_a_finished_run_does_nothing(training_people: Path, encoder: Path, tmp_path: Path) -> None:
    first = finetune("parts", settings(), training_people, encoder, tmp_path / "out")
    before = first.model.stat().st_mtime_ns
    again = finetune("parts", settings(cache=0), training_people, encoder, tmp_path / "out")
    assert again.status == "unchanged" and again.result == first.result
    assert first.model.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="holds another run"):
        finetune("parts", settings(seed=1), training_people, encoder, tmp_path / "out")
    replaced = finetune("parts", settings(seed=1), training_people, encoder, tmp_path / "out", replace=True)
    assert replaced.status == "finished"


def test_the_encoder_is_taken_over_without_its_cls_token(
    training_people: Path, encoder: Path, tmp_path: Path
) -> None:
    config = settings(steps=2, learning_rate=1e-12, weight_decay=0)
    path = finetune("normal", config, training_people, encoder, tmp_path / "out").model
    trained, given = read_weights(path)[0], read_weights(encoder)[0]
    assert trained["encoder.pos_embed"].shape == (1, 12, 32)  # 64 x 48, resized from 8 x 8 + cls
    assert "encoder.cls_token" not in trained
    torch.testing.assert_close(trained["encoder.blocks.1.mlp.fc1.weight"], given["blocks.1.mlp.fc1.weight"])


def test_a_model_is_rebuilt_from_its_file_alone(training_people: Path, tmp_path: Path) -> None:
    config = settings(size="tiny", steps=2)
    path = finetune("pose", config, training_people, None, tmp_path / "out").model
    model, task, description = load_task_model(path)
    assert (task.name, description.config) == ("pose", config)
    output = model(torch.zeros(1, 3, 64, 48, dtype=torch.uint8))
    assert output.shape == (1, 17, 16, 12)


def test_weights_that_do_not_fit_are_listed(training_people: Path, encoder: Path, tmp_path: Path) -> None:
    tensors, header = read_weights(encoder)
    tensors.pop("norm.weight")
    tensors["surprise"] = torch.zeros(2)
    from train.engine.checkpoint import save_weights

    broken = tmp_path / "encoder.safetensors"
    save_weights(broken, tensors, header)
    with pytest.raises(VitruvianError, match=r"missing norm.weight \(32,\)\n.*unexpected surprise \(2,\)"):
        finetune("depth", settings(), training_people, broken, tmp_path / "out")


def test_data_without_the_label_is_refused(training_people: Path) -> None:
    with pytest.raises(UsageError, match="no label quality"):
        LabelledSet(Dataset.open(training_people), ("rgb", "quality"))


def test_only_the_members_of_the_task_are_read(training_people: Path) -> None:
    labelled = LabelledSet(Dataset.open(training_people), ("rgb", "keypoints"), ("instance", "quality"))
    assert isinstance(labelled.source, ShardLabels)
    members = labelled.source.members(labelled.labels)
    assert members == ("rgb.png", "keypoints.npy", "instance.png", "json")
    _, labels = labelled[0]
    assert labels.depth is None and labels.instance is not None


def test_identities_come_from_the_index(unseen_people: Path) -> None:
    assert identities(Dataset.open(unseen_people)) == sorted(f"person-{number}" for number in range(100, 106))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"warmup_steps": 4}, "less than steps"), ({"image_size": (60, 48)}, "multiples of 16")],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_exit_codes_of_the_launcher(
    training_people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "params.yaml"
    config.write_text("finetune: {steps: 2, colour: red}\n")
    arguments = ["depth", "--config", str(config), "--section", "finetune", "--data", str(training_people)]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert "colour: unknown field" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ranks_train_the_same_model(training_people: Path, encoder: Path, tmp_path: Path) -> None:
    config = tmp_path / "params.yaml"
    config.write_text(json.dumps({"finetune": settings(drop_path=0.3).model_dump(mode="json")}))
    arguments = ["depth", "--config", str(config), "--section", "finetune", "--data", str(training_people)]
    arguments += ["--encoder", str(encoder)]
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "train.finetune", *arguments, "--out", str(tmp_path / "two")]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    one, two = (read_weights(tmp_path / name / "model.safetensors")[0] for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-4, rtol=1e-3)


def test_identities_of_groups_come_from_the_json(tmp_path: Path) -> None:
    """The index names the first of a group only; a companion seen in training is no stranger either."""
    people = [{"identity": "7"}, {"identity": "7.1"}]
    sample = Sample(content_key(b"group"), to_members(Labels(meta={"people": people})))
    with ShardWriter(tmp_path, "group", columns=lambda _: {"identity": "7", "people": 2}) as writer:
        writer.add(sample)
        writer.commit(stage_name="groups", stage_key="test")
    write_manifest(tmp_path, {})
    assert identities(Dataset.open(tmp_path)) == ["7", "7.1"]
