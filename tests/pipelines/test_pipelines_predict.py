"""`vitruvian predict` and `export` as commands: exit codes, what they say, where detectors meet models."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from annotation.codecs import encode_rgb
from pipelines.cli import _exit_code
from train.engine.checkpoint import full_state, save_weights
from train.finetune import Description, FinetuneConfig, assemble
from train.models.heads import HeadConfig
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig
from train.tasks import TaskConfig, make_task

VITRUVIAN = Path(sys.executable).parent / "vitruvian"
PHOTOS = Path(__file__).parents[2].parent / "shared/data/photos"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders as `finetune` leaves them, with random weights."""
    root, size = tmp_path_factory.mktemp("models"), (64, 48)
    head = HeadConfig(deconv_channels=(8, 8), conv_channels=(8,))
    for name in ("parts", "pose"):
        task = make_task(name, TaskConfig())
        encoder = ViT(ViTConfig(width=32, depth=2, heads=2, image_size=size, with_cls=False))
        model = assemble(task, encoder, head)
        initialise(model, 0)
        nn.init.normal_(model.head.last.weight, std=0.3, generator=torch.Generator().manual_seed(0))
        config = FinetuneConfig(image_size=size, head=head, steps=2, warmup_steps=0)
        (root / name).mkdir()
        header = Description(name, config, encoder.config).header()
        save_weights(root / name / "model.safetensors", full_state(model), header)
    return root


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        coarse = np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (60, 80), interpolation=cv2.INTER_CUBIC)
        (folder / f"{number}.png").write_bytes(encode_rgb(image))
    return folder


@dataclass(frozen=True)
class Ended:
    returncode: int
    stdout: str
    stderr: str


Vitruvian = Callable[..., Ended]


@pytest.fixture
def vitruvian(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Vitruvian:
    """The command line in this process: importing torch takes longer than predicting."""

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr("sys.argv", ["vitruvian", *map(str, arguments)])
        capfd.readouterr()
        code = _exit_code()
        return Ended(code, *capfd.readouterr())

    return call


def test_a_folder_is_predicted_and_a_second_run_says_that_it_is(
    vitruvian: Vitruvian, models: Path, photos: Path, tmp_path: Path
) -> None:
    call = ["predict", "parts", photos, "--checkpoint", models / "parts", "--out", tmp_path / "out"]
    first = vitruvian(*call)
    assert first.returncode == 0, first.stderr
    assert "2 predicted" in first.stdout
    with Image.open(tmp_path / "out/predictions/1.png.parts.jpg") as overlay:
        assert overlay.height == 80 and overlay.width > 60
    again = vitruvian(*call, "--json", "--quiet")
    assert json.loads(again.stdout) == {
        "out": str(tmp_path / "out"),
        "predicted": 0,
        "skipped": 2,
        "rejects": [],
    }
    other = vitruvian(*call, "--flip")
    assert other.returncode == 2 and "holds another run" in other.stderr
    assert vitruvian(*call, "--flip", "--replace").returncode == 0


def test_bad_pictures_end_with_3_and_are_named(
    vitruvian: Vitruvian, models: Path, photos: Path, tmp_path: Path
) -> None:
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    found = vitruvian("predict", "parts", photos, "--checkpoint", models / "parts", "--out", tmp_path / "out")
    assert found.returncode == 3
    assert "2 predicted, 1 rejected" in found.stdout and "bad.jpg: decode:" in found.stderr


def test_a_picture_on_standard_input_of_the_installed_command(models: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (90, 30, 60)).save(buffer, "JPEG")
    ends = ["--checkpoint", str(models / "parts"), "--out", str(tmp_path / "out")]
    command = [str(VITRUVIAN), "predict", "parts", "-", *ends]
    subprocess.run(command, input=buffer.getvalue(), check=True)
    with Image.open(tmp_path / "out/predictions/stdin.parts.png") as label:
        assert label.size == (40, 30)


def test_pose_takes_boxes_from_a_file_or_a_detector_and_says_which(
    vitruvian: Vitruvian, models: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"0.png": [[5, 5, 50, 70]]}))
    call = ["predict", "pose", photos, "--checkpoint", models / "pose", "--quiet", "--out"]
    given = vitruvian(*call, tmp_path / "a", "--boxes", tmp_path / "boxes.json")
    assert given.returncode == 0, given.stderr
    (person,) = json.loads((tmp_path / "a/keypoints.json").read_text())
    assert person["image_id"] == 0 and person["bbox"] == [5, 5, 45, 65]
    smoke = vitruvian(*call, tmp_path / "b")
    assert smoke.returncode == 0 and "smoke default" in smoke.stderr
    people = json.loads((tmp_path / "b/config.json").read_text())["people"]
    assert people["detector"] == "opencv" and len(people) > 1
    whole = vitruvian(*call, tmp_path / "c", "--detector", "none")
    assert whole.returncode == 0 and len(json.loads((tmp_path / "c/keypoints.json").read_text())) == 2
    both = vitruvian(*call, tmp_path / "d", "--detector", "none", "--boxes", tmp_path / "boxes.json")
    assert both.returncode == 2 and "give one of them" in both.stderr


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no photographs beside the project (../shared/data/photos)")
def test_real_photographs_with_their_annotated_people(
    vitruvian: Vitruvian, models: Path, tmp_path: Path
) -> None:
    call = ["predict", "pose", PHOTOS, "--checkpoint", models / "pose", "--out", tmp_path / "out"]
    found = vitruvian(*call, "--boxes", PHOTOS / "coco_keypoints.json", "--quiet")
    assert found.returncode == 0, found.stderr
    results = json.loads((tmp_path / "out/keypoints.json").read_text())
    truth = json.loads((PHOTOS / "coco_keypoints.json").read_text())["annotations"]
    people = [entry for entry in truth if not entry.get("iscrowd")]
    assert {entry["image_id"] for entry in results} == {entry["image_id"] for entry in people}
    assert len(results) == len(people)


def test_bad_usage_is_refused_before_anything_is_written(
    vitruvian: Vitruvian, models: Path, photos: Path, tmp_path: Path
) -> None:
    call = ["predict", "parts", photos, "--checkpoint", models / "parts", "--out", tmp_path / "out"]
    for extra, message in (
        (["--precision", "fp16"], "precision"),
        (["--tiles", "many"], "tiles"),
        (["--write", "png,gif"], "write"),
        (["--detector", "opencv"], "--fit person"),
    ):
        refused = vitruvian(*call, *extra)
        assert refused.returncode == 2 and message in refused.stderr, refused.stderr
    assert not (tmp_path / "out").exists()


def test_export_prints_a_table_and_the_file_runs(vitruvian: Vitruvian, models: Path, tmp_path: Path) -> None:
    import onnxruntime

    done = vitruvian("export", models / "parts", "--out", tmp_path / "parts.onnx")
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout and "ONNX Runtime" in done.stdout
    session = onnxruntime.InferenceSession(str(tmp_path / "parts.onnx"), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"images": np.zeros((2, 3, 64, 48), np.uint8)})
    assert output.shape == (2, 28, 16, 12)
    strict = vitruvian("export", models / "parts", "--out", tmp_path / "b.onnx", "--tolerance", "1e-13")
    assert strict.returncode == 1 and "nothing was written" in strict.stderr
    assert not (tmp_path / "b.onnx").exists()
