"""Detectors that run in torch: torchvision's, and RT-DETR (or DETR, D-FINE) by Hugging Face's transformers.

Neither package is a dependency: each is imported at first use, and its absence is an error that says what
to install. Images go through one at a time: both pad a batch to its largest image, which changes the others'
boxes.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from curation.boxes import RGB, Boxes, clip, make_boxes
from curation.detectors.network import FLOOR
from curation.weights import WeightsSource, fetch
from shards.config import Config
from shards.errors import ShardError, UsageError
from shards.files import sha256_file

Device = Literal["cpu", "cuda", "auto"]
TorchvisionModel = Literal[
    "fasterrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
]
_PERSON = 1  # torchvision's labels are COCO's category ids
_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


class TorchConfig(Config):
    """What both share."""

    device: Device = Field(default="cpu", description="where it runs; never changed silently")
    threads: int = Field(default=1, ge=1, description="of torch, while it detects")
    floor: float = Field(default=FLOOR, ge=0, le=1, description="boxes with a lower score are not reported")


class TorchvisionConfig(TorchConfig):
    """`backend: torchvision`: an RGB image in 0..1 goes in, the model resizes and normalises it itself."""

    backend: Literal["torchvision"] = "torchvision"
    model: TorchvisionModel = "fasterrcnn_resnet50_fpn_v2"
    weights: WeightsSource = Field(description="a state dict (.pth), trained on COCO's 91 category ids")


class TransformersConfig(TorchConfig):
    """`backend: transformers`: any object detector with a "person" label, in safetensors; no remote code."""

    backend: Literal["transformers"] = "transformers"
    folder: Path | None = Field(default=None, description=f"with {', '.join(_FILES)}")
    repository: str | None = Field(default=None, description="of the Hugging Face hub: PekingU/rtdetr_r50vd")
    revision: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{40}$", description="commit of the repository"
    )

    @model_validator(mode="after")
    def _one_place(self) -> "TransformersConfig":
        if (self.folder is None) == (self.repository is None):
            raise ValueError("expected exactly one of folder and repository")
        if (self.repository is None) != (self.revision is None):
            raise ValueError("repository and revision (the commit, 40 hex digits) go together")
        return self


class TorchvisionDetector:
    """See `curation.detectors.Detector`."""

    def __init__(self, config: TorchvisionConfig) -> None:
        self.config = config

    def detect(self, images: Sequence[RGB]) -> list[Boxes]:
        """Boxes around people in each image; see `curation.detectors.Detector`."""
        import torch

        found = []
        with _threads(self.config.threads), torch.inference_mode():
            model, device = self._model
            for image in images:
                pixels = torch.from_numpy(np.array(image.transpose(2, 0, 1))).to(device).float() / 255
                result = model([pixels])[0]
                found.append(_boxes(result, _PERSON, self.config.floor, image))
        return found

    def identity(self) -> dict[str, str]:
        """Backend, model, sha256 of the weights, versions of torch and torchvision, device."""
        return {
            "name": f"torchvision-{self.config.model}",
            "weights": sha256_file(fetch(self.config.weights)),
            "torch": str(_require("torch", "torch").__version__),
            "torchvision": str(_torchvision().__version__),
            "device": resolve_device(self.config.device),
        }

    @cached_property
    def _model(self) -> tuple[Any, Any]:

        build = getattr(_torchvision().models.detection, self.config.model)
        threshold = "box_score_thresh" if self.config.model.startswith("fasterrcnn") else "score_thresh"
        model = build(weights=None, weights_backbone=None, num_classes=91, **{threshold: self.config.floor})
        path = fetch(self.config.weights)
        _load_state(model, path, self.config.model)
        device = _open_device(self.config.device)
        return model.eval().to(device), device


class TransformersDetector:
    """See `curation.detectors.Detector`."""

    def __init__(self, config: TransformersConfig) -> None:
        self.config = config

    def detect(self, images: Sequence[RGB]) -> list[Boxes]:
        """Boxes around people in each image; see `curation.detectors.Detector`."""
        import torch

        found = []
        with _threads(self.config.threads), torch.inference_mode():
            processor, model, device, person = self._model
            for image in images:
                inputs = processor(images=[image], return_tensors="pt", input_data_format="channels_last")
                outputs = model(**inputs.to(device))
                size = [(image.shape[0], image.shape[1])]
                result = processor.post_process_object_detection(
                    outputs, threshold=self.config.floor, target_sizes=size
                )[0]
                found.append(_boxes(result, person, self.config.floor, image))
        return found

    def identity(self) -> dict[str, str]:
        """Backend, sha256 of the files, versions of torch and transformers, device."""
        files = {name: sha256_file(self._folder / name) for name in _FILES}
        return {
            "name": "transformers",
            **files,
            "torch": str(_require("torch", "torch").__version__),
            "transformers": str(_transformers().__version__),
            "device": resolve_device(self.config.device),
        }

    @cached_property
    def _folder(self) -> Path:
        folder = self.config.folder
        if folder is None:
            hub = _require("huggingface_hub", "transformers")
            where = hub.snapshot_download(
                self.config.repository, revision=self.config.revision, allow_patterns=list(_FILES)
            )
            folder = Path(where)
        absent = [name for name in _FILES if not (folder / name).is_file()]
        if absent:
            raise UsageError(f"{folder}: expected {', '.join(_FILES)}; missing: {', '.join(absent)}")
        return folder

    @cached_property
    def _model(self) -> tuple[Any, Any, Any, int]:
        library, folder = _transformers(), str(self._folder)
        processor = library.AutoImageProcessor.from_pretrained(folder, local_files_only=True)
        model = library.AutoModelForObjectDetection.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        labels = {str(name): int(number) for number, name in model.config.id2label.items()}
        if "person" not in labels:
            raise UsageError(f"{folder}: no label 'person' among: {', '.join(sorted(labels)[:20])}")
        device = _open_device(self.config.device)
        return processor, model.eval().to(device), device, labels["person"]


def _load_state(model: Any, path: Path, name: str) -> None:
    """Load a state dict that must be this model's, parameter by parameter. Raises ShardError."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch raise their own
        raise ShardError(f"{path}: not a state dict of tensors: {str(error)[:200]}") from error
    own = model.state_dict()
    # Released with frozen batch norms, which hold no such counters; in inference they are the same.
    wanted = {key for key in own if not key.endswith("num_batches_tracked")}
    odd = sorted(key for key in wanted | set(state) if key not in state or key not in own)
    odd += sorted(key for key in set(own) & set(state) if own[key].shape != state[key].shape)
    if odd:
        raise ShardError(
            f"{path}: not the weights of {name}: {len(odd)} parameters are missing, unknown or of "
            f"another shape: {', '.join(odd[:3])}"
        )
    model.load_state_dict(state, strict=False)


def resolve_device(device: Device) -> Literal["cpu", "cuda"]:
    """`auto` is CUDA where torch sees a device, else CPU."""
    if device != "auto":
        return device
    return "cuda" if _require("torch", "torch").cuda.is_available() else "cpu"


def _open_device(device: Device) -> Any:
    import torch

    chosen = resolve_device(device)
    if chosen == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r}: torch {torch.__version__} sees no CUDA device; say device: cpu")
    return torch.device(chosen)


def _boxes(result: Any, person: int, floor: float, image: RGB) -> Boxes:
    """The people of one torchvision-like result (boxes xyxy in px of the image, labels, scores)."""
    wanted = (result["labels"] == person) & (result["scores"] >= floor)
    corners, scores = result["boxes"][wanted].tolist(), result["scores"][wanted].tolist()
    return clip(make_boxes(list(zip(corners, scores, strict=True))), image.shape[1], image.shape[0])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _torchvision() -> Any:
    return _require("torchvision", "torchvision of the release that matches your torch")


def _transformers() -> Any:
    return _require("transformers", "transformers")


def _require(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # torchvision beside a foreign torch raises RuntimeError
        raise UsageError(
            f"this detector needs {module}, which cannot be imported here ({error}); install {what}, or "
            "choose an ONNX detector, which needs neither"
        ) from error
