"""Exported models say what the model says, at any batch; a file that does not is never written."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from annotation.codecs import encode_rgb
from shards.errors import UsageError, VitruvianError
from train.engine.checkpoint import full_state, save_weights
from train.export import INPUT, OUTPUT, ExportConfig, compare, export, open_network, probe_images, table
from train.finetune import Description, FinetuneConfig, assemble, load_task_model
from train.models.heads import HeadConfig
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig
from train.tasks import TaskConfig, make_task

SIZE, STRIDE = (64, 48), 4


def save_model(folder: Path, task_name: str, seed: int = 0) -> Path:
    """A folder as `finetune` leaves it, with random weights and padded patches."""
    head = HeadConfig(deconv_channels=(8, 8), conv_channels=(8,))
    task = make_task(task_name, TaskConfig())
    encoder = ViT(ViTConfig(width=32, depth=2, heads=2, image_size=SIZE, with_cls=False, patch_padding=2))
    model = assemble(task, encoder, head)
    initialise(model, seed)
    nn.init.normal_(model.head.last.weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    config = FinetuneConfig(image_size=SIZE, head=head, steps=2, warmup_steps=0)
    folder.mkdir(parents=True)
    weights = full_state(model)
    save_weights(
        folder / "model.safetensors", weights, Description(task_name, config, encoder.config).header()
    )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each kind of head: the pose layer, and one with a pooled offset."""
    root = tmp_path_factory.mktemp("models")
    for task in ("normal", "pose", "pointmap"):
        save_model(root / task, task)
    return root


@pytest.mark.parametrize(
    ("task", "format", "batch"),
    [
        ("normal", "onnx", 0),
        ("pose", "onnx", 2),
        ("pointmap", "onnx", 0),
        ("normal", "torch", 0),
        ("pointmap", "torch", 3),
    ],
)
def test_the_file_says_what_the_model_says(
    task: str, format: Any, batch: int, folder: Path, tmp_path: Path
) -> None:
    photographs = tmp_path / "photos"
    photographs.mkdir()
    rng = np.random.default_rng(1)
    (photographs / "a.png").write_bytes(encode_rgb(rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)))
    out = tmp_path / ("model.onnx" if format == "onnx" else "model.pt2")
    result = export(folder / task, out, ExportConfig(format=format, batch=batch), photographs)
    assert result["max_abs_difference"] <= 1e-4 and result["images_compared"] == 3
    assert result["max_abs_output"] > 0.3
    assert result["megabytes"] == round(out.stat().st_size / 1e6, 2)
    sizes = [str(batch)] if batch else ["1", "8"]
    assert all(list(times) == sizes for times in result["ms_per_image"].values())
    assert [path.name for path in tmp_path.iterdir() if path != photographs] == [out.name]
    network, (model, _, _) = open_network(out, format), load_task_model(folder / task / "model.safetensors")
    for size in [batch] if batch else [1, 5]:
        images = rng.integers(0, 256, (size, 3, *SIZE), dtype=np.uint8)
        with torch.inference_mode():
            expected = model(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(network(images), expected, atol=1e-4)
    assert "ms per image" in table(result) and task in table(result)


def test_the_onnx_file_is_valid_and_names_its_ends(folder: Path, tmp_path: Path) -> None:
    export(folder / "normal", tmp_path / "deep/er/model.onnx", ExportConfig())
    found = onnx.load(tmp_path / "deep/er/model.onnx")
    onnx.checker.check_model(found, full_check=True)
    assert [value.name for value in found.graph.input] == [INPUT]
    assert [value.name for value in found.graph.output] == [OUTPUT]
    assert found.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_a_file_that_differs_is_not_written(folder: Path, tmp_path: Path) -> None:
    """No two backends agree to 1e-12."""
    with pytest.raises(VitruvianError, match="differs from the model"):
        export(folder / "normal", tmp_path / "model.onnx", ExportConfig(tolerance=1e-12))
    assert not list(tmp_path.iterdir())


def test_another_models_file_is_noticed(folder: Path, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", "normal", seed=5)
    export(other, tmp_path / "other.pt2", ExportConfig(format="torch"))
    model, _, _ = load_task_model(folder / "normal/model.safetensors")
    network = open_network(tmp_path / "other.pt2", "torch")
    with pytest.raises(VitruvianError, match="differs from the model"):
        compare(model, network, probe_images(SIZE, None), ExportConfig(format="torch"))


def test_weights_too_large_for_one_file_go_beside_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.export._LARGE", 1000)
    result = export(folder / "normal", tmp_path / "model.onnx", ExportConfig())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    both = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert result["megabytes"] == round(both / 1e6, 2)
    images = probe_images(SIZE, None)
    assert open_network(tmp_path / "model.onnx", "onnx")(images).shape == (2, 3, 16, 12)


def test_what_is_missing_is_named(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no such model"):
        export(tmp_path, tmp_path / "x.onnx", ExportConfig())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"onnx, onnxruntime, onnxscript: pip install 'vitruvian\[export\]'"):
        export(folder / "normal", tmp_path / "x.onnx", ExportConfig())
