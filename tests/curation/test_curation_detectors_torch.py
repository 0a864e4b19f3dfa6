"""Detectors that run in torch, where their packages are installed; and the error where they are not."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.detectors import detector_config, load_detector, pin_detector
from curation.detectors.torch_models import TorchvisionConfig, TransformersConfig
from shards.errors import ShardError, UsageError

IMAGE = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
MODELS = ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"]


def importable(name: str) -> bool:
    """Whether a package is here and works beside this torch."""
    try:
        importlib.import_module(name)
    except (ImportError, RuntimeError):
        return False
    return True


needs_torchvision = pytest.mark.skipif(not importable("torchvision"), reason="torchvision is not installed")
needs_transformers = pytest.mark.skipif(
    not importable("transformers"), reason="transformers is not installed"
)


@pytest.mark.parametrize("package", ["torchvision", "transformers"])
def test_a_missing_package_is_named(tmp_path: Path, package: str) -> None:
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    for name in ("config.json", "preprocessor_config.json", "model.safetensors", "net.pth"):
        (tmp_path / name).write_bytes(b"{}")
    config = (
        TorchvisionConfig.model_validate({"weights": str(tmp_path / "net.pth")})
        if package == "torchvision"
        else TransformersConfig(folder=tmp_path)
    )
    detector = load_detector(config)
    for use in (detector.identity, lambda: detector.detect([IMAGE])):
        with pytest.raises(UsageError, match=f"needs {package}.*ONNX"):
            use()


def test_repositories_are_named_with_their_commit() -> None:
    good = {"repository": "PekingU/rtdetr_r50vd", "revision": "0" * 40}
    assert TransformersConfig.model_validate(good).backend == "transformers"
    for wrong in ({}, {"repository": "a/b"}, {**good, "revision": "main"}, {**good, "folder": "here"}):
        with pytest.raises(ValueError, match=r"revision|exactly one"):
            TransformersConfig.model_validate(wrong)


def test_registered_weights_carry_the_digits_of_their_names() -> None:
    config = detector_config("fasterrcnn-r50-v2")
    assert isinstance(config, TorchvisionConfig)
    assert str(config.weights.sha256) in str(config.weights.url)


@needs_torchvision
@pytest.mark.parametrize("name", MODELS)
def test_torchvision_agrees_with_itself(tmp_path: Path, name: Any) -> None:
    detection: Any = importlib.import_module("torchvision.models.detection")
    torch.manual_seed(0)
    threshold = "box_score_thresh" if name.startswith("fasterrcnn") else "score_thresh"
    model = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=91, **{threshold: 0.001}
    )
    for parameter, values in model.named_parameters():
        classifies = "cls_score" in parameter or "classification_head" in parameter
        if classifies and parameter.endswith("bias") and values.numel() % 91 == 0:
            values.data.view(-1, 91)[:, 1] += 4  # untrained, it would say nothing of people
    torch.save(model.state_dict(), tmp_path / "net.pth")
    config = TorchvisionConfig.model_validate(
        {"model": name, "weights": str(tmp_path / "net.pth"), "floor": 0.001}
    )
    pinned = pin_detector(config)
    other = IMAGE[:, ::-1].copy()[:90]
    found = load_detector(pinned).detect([IMAGE, other])
    assert [boxes.xyxy.tolist() for boxes in load_detector(pinned).detect([other, IMAGE])] == [
        boxes.xyxy.tolist() for boxes in found[::-1]
    ]
    with torch.inference_mode():
        result = model.eval()([torch.from_numpy(IMAGE.transpose(2, 0, 1).copy()).float() / 255])[0]
    people = result["labels"] == 1
    assert people.any()
    assert found[0].score == pytest.approx(result["scores"][people].numpy(), abs=1e-5)
    assert sorted(found[0].xyxy.sum(axis=1)) == pytest.approx(
        sorted(result["boxes"][people].sum(dim=1).tolist()), abs=1e-2
    )
    identity = load_detector(pinned).identity()
    assert identity["weights"] == pinned.weights.sha256  # type: ignore[union-attr]
    wrong = TorchvisionConfig.model_validate({"weights": str(tmp_path / "net.pth")})
    with pytest.raises(ShardError, match="not the weights of fasterrcnn_resnet50_fpn_v2"):
        load_detector(wrong).detect([IMAGE])


@needs_transformers
def test_transformers_agrees_with_itself(tmp_path: Path) -> None:
    transformers: Any = importlib.import_module("transformers")
    torch.manual_seed(0)
    backbone = transformers.RTDetrResNetConfig(
        layer_type="basic",
        depths=[1, 1, 1, 1],
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        out_features=["stage2", "stage3", "stage4"],
    )
    narrow = {"encoder_hidden_dim": 32, "encoder_ffn_dim": 32, "d_model": 32, "decoder_ffn_dim": 32}
    settings = transformers.RTDetrConfig(
        **narrow,
        backbone_config=backbone,
        encoder_in_channels=[32, 48, 64],
        decoder_in_channels=[32, 32, 32],
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        decoder_layers=1,
        num_queries=30,
        num_denoising=0,
        id2label={0: "person", 1: "bicycle", 2: "car"},
    )
    model = transformers.RTDetrForObjectDetection(settings).eval()
    processor = transformers.RTDetrImageProcessor(size={"height": 128, "width": 128})
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    detector = load_detector(TransformersConfig(folder=tmp_path, floor=0.001))
    found = detector.detect([IMAGE, IMAGE[:90]])
    with torch.inference_mode():
        outputs = model(**processor(images=[IMAGE], return_tensors="pt"))
    result = processor.post_process_object_detection(outputs, threshold=0.001, target_sizes=[(120, 200)])[0]
    people = result["labels"] == 0
    assert people.any()
    assert found[0].score == pytest.approx(result["scores"][people].numpy(), abs=1e-5)
    assert set(detector.identity()) >= {"name", "model.safetensors", "transformers"}
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"missing: model\.safetensors"):
        load_detector(TransformersConfig(folder=tmp_path)).detect([IMAGE])
