"""`vitruvian render hi4d` and `evaluate` as commands: what one writes, the other takes for the paper's test
set.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

from pipelines.cli import _exit_code
from tests.hi4d import write_balls
from train.data.labelled import open_source
from train.engine.checkpoint import full_state, save_weights
from train.finetune import Description, FinetuneConfig, assemble
from train.models.heads import HeadConfig
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig
from train.tasks import TaskConfig, make_task


@pytest.fixture(scope="module")
def hi4d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three published pairs, as balls, two frames each."""
    root = tmp_path_factory.mktemp("hi4d")
    for pair in (28, 32, 37):
        write_balls(root, f"pair{pair}/hug{pair}", (12, 13))
    return root


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vitruvian", *map(str, arguments)])
    return _exit_code()


def weights(path: Path, task: str) -> Path:
    """A model with random weights, as `finetune` writes one."""
    size, head = (64, 48), HeadConfig(deconv_channels=(8,), conv_channels=(8,))
    encoder = ViT(ViTConfig(width=32, depth=1, heads=2, image_size=size, with_cls=False))
    model = assemble(make_task(task, TaskConfig()), encoder, head)
    initialise(model, 0)
    config = FinetuneConfig(image_size=size, head=head, steps=2, warmup_steps=0)
    save_weights(path, full_state(model), Description(task, config, encoder.config).header())
    return path


def test_evaluate_knows_what_hi4d_is(
    hi4d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(monkeypatch, "render", "hi4d", hi4d, "--out", out, "--json", "--quiet") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 6 and told["rejects"] == {} and told["mask_iou"]["least"] > 0.9
    source = open_source(out, "evaluation")
    assert source.provenance["protocol"] == "hi4d" and source.identities() == ["pair28", "pair32", "pair37"]
    assert {"rgb", "depth", "normal", "geometric_normal", "alpha", "instance"} <= set(source.labels)
    for task in ("depth", "normal"):
        model = weights(tmp_path / f"{task}.safetensors", task)
        scored = tmp_path / "metrics" / task
        settings = ("--data", out, "--checkpoint", model, "--out", scored, "--quiet")
        assert command(monkeypatch, "evaluate", task, *settings) == 0
        metrics = json.loads((scored / "metrics.json").read_text())
        withheld = "6 images were scored, the published set has 1195"
        assert metrics["published"] == {"protocol": "hi4d", "withheld": withheld}
        assert metrics["images"] == 6 and metrics["counts"]["people"] == 12


def test_frames_without_files_are_counted_and_said(
    hi4d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(hi4d, tmp_path / "copy")
    (tmp_path / "copy/pair32/hug32/frames/mesh-f00013.obj").unlink()
    out, options = tmp_path / "out", ("--camera", "16", "--quiet")
    for kept in (0, 3):  # the second run finds all there
        assert command(monkeypatch, "render", "hi4d", tmp_path / "copy", "--out", out, *options) == 0
        said = capsys.readouterr()
        assert f"5 images in 3 shards ({kept} were there already)" in said.out and "protocol none" in said.out
        assert "1 images not made: scan:missing" in said.err and "mesh-f00013.obj: no such file" in said.err
    both = ("--human", "both", *options)
    assert command(monkeypatch, "render", "hi4d", hi4d, "--out", out, *both) == 2
    assert "--replace" in capsys.readouterr().err
    assert command(monkeypatch, "render", "hi4d", hi4d, "--out", out, *both, "--replace") == 0
    assert "6 images in 3 shards (0 were there already)" in capsys.readouterr().out


def test_a_list_of_frames_is_taken_instead_of_pairs(
    hi4d: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text("pair28/hug28\npair37/hug37/000013\n")
    options = ("--frames", listing, "--out", tmp_path / "out", "--json", "--quiet")
    assert command(monkeypatch, "render", "hi4d", hi4d, *options, "--pair", 28) == 2
    assert "give it or --pair" in capsys.readouterr().err
    assert command(monkeypatch, "render", "hi4d", hi4d, *options) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
