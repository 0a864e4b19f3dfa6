"""Person detectors behind one interface; which one runs, and with which weights, is part of the stage key.

    config = detector_config("rtmdet-m")     # a name of registry.yaml, a path to an ONNX file, or "opencv"
    config = pin_detector(config)            # fetch and check the weights, fix their sha256 and the device
    boxes = load_detector(config).detect([image])

docs/detectors.md has the conventions. A new ONNX backend: a configuration, a `Convention`, a line in `_ONNX`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from curation.boxes import RGB, Boxes
from curation.detectors.network import Convention, OnnxConfig, OnnxDetector, read_signature
from curation.detectors.opencv import OpenCVConfig, OpenCVDetector
from curation.detectors.rfdetr import RFDETR, RFDETRConfig
from curation.detectors.rtdetr import RTDETR, RTDETRConfig
from curation.detectors.rtmdet import RTMDet, RTMDetConfig
from curation.detectors.torch_models import (
    TorchConfig,
    TorchvisionConfig,
    TorchvisionDetector,
    TransformersConfig,
    TransformersDetector,
    resolve_device,
)
from curation.detectors.yolox import YOLOX, YOLOXConfig
from curation.weights import onnx_session, pin, resolve_provider, weights_source
from shards.errors import UsageError

_REGISTRY = Path(__file__).with_name("registry.yaml")


@runtime_checkable
class Detector(Protocol):
    """Finds people. Built once per process; `detect` is a pure function of the pixels, whatever the batch."""

    def detect(self, images: Sequence[RGB]) -> list[Boxes]:
        """Boxes around people, one `Boxes` per image, in that image's pixels, all with a score of at least
        0.05.

        Thresholds are `select`'s affair: a detector reports everything it is not sure to be wrong about.
        """
        ...

    def identity(self) -> dict[str, str]:
        """Name and sha256 of the weights: two detectors with the same identity and configuration agree."""
        ...


class OpenCVChoice(OpenCVConfig):
    """`backend: opencv`: the offline smoke default. See `curation.detectors.opencv`."""

    backend: Literal["opencv"] = "opencv"


_ONNX: dict[str, tuple[type[OnnxConfig], Callable[[Any], Convention]]] = {
    "yolox": (YOLOXConfig, YOLOX),
    "rtmdet": (RTMDetConfig, RTMDet),
    "rf-detr": (RFDETRConfig, RFDETR),
    "rt-detr": (RTDETRConfig, RTDETR),
}


def _resolve_name(value: Any) -> Any:
    """`{name: rtmdet-m, provider: cuda}` -> the registry's entry with what is given changed in it."""
    if not isinstance(value, dict):
        return value
    given = dict(value)
    if "name" in given:
        name = given.pop("name")
        entries = registry()
        if name == "opencv":
            return {"backend": "opencv", **given}
        if name not in entries:
            raise ValueError(f"unknown detector {name!r}; known: {', '.join(known_detectors())}")
        return {**entries[name]["config"], **given}
    return {"backend": "opencv", **given}


DetectorConfig = Annotated[
    Annotated[
        OpenCVChoice
        | YOLOXConfig
        | RTMDetConfig
        | RFDETRConfig
        | RTDETRConfig
        | TorchvisionConfig
        | TransformersConfig,
        Field(discriminator="backend"),
    ],
    BeforeValidator(_resolve_name),
]
"""Which detector, by `backend` (opencv when not said), or by `name` out of the registry."""

AnyDetectorConfig = OpenCVChoice | OnnxConfig | TorchConfig


@cache
def registry() -> dict[str, dict[str, Any]]:
    """Name -> {about, config} of the public weights in registry.yaml."""
    entries = yaml.safe_load(_REGISTRY.read_text(encoding="utf-8"))
    return {name: {"about": entry.pop("about"), "config": entry} for name, entry in entries.items()}


def known_detectors() -> list[str]:
    """Every name that `detector_config` takes."""
    return ["opencv", *registry()]


def detector_config(name_or_path: str) -> AnyDetectorConfig:
    """The configuration of a name out of the registry, of `opencv`, or of an ONNX file, whose convention its
    inputs and outputs tell.

    Raises UsageError for anything else, with what is known.
    """
    if name_or_path.endswith(".onnx"):
        return _sniff(Path(name_or_path))
    try:
        config: AnyDetectorConfig = TypeAdapter(DetectorConfig).validate_python({"name": name_or_path})
    except ValidationError:
        raise UsageError(
            f"detector {name_or_path!r}: expected one of {', '.join(known_detectors())}, or a path that "
            "ends in .onnx"
        ) from None
    return config


def load_detector(config: AnyDetectorConfig) -> Detector:
    """Build the detector that `config.backend` names. Networks are fetched and opened at first use."""
    if isinstance(config, OpenCVChoice):
        return OpenCVDetector(config)
    if isinstance(config, TorchvisionConfig):
        return TorchvisionDetector(config)
    if isinstance(config, TransformersConfig):
        return TransformersDetector(config)
    for backend, (kind, convention) in _ONNX.items():
        if isinstance(config, kind):
            return OnnxDetector(config, backend, convention(config))
    raise UsageError(f"no detector for {type(config).__name__}")


def pin_detector(config: AnyDetectorConfig) -> AnyDetectorConfig:
    """What planning does once: fetch the weights, check that they are a network of this backend, and return
    the configuration with their full sha256 and with `auto` resolved, so that every worker runs the same.

    The check opens the network on this machine's CPU, wherever the workers will run it.
    """
    if isinstance(config, OnnxConfig):
        pinned = config.model_copy(update={"weights": pin(config.weights)})
        detector = load_detector(pinned.model_copy(update={"provider": "cpu"}))
        assert isinstance(detector, OnnxDetector)
        detector.open()
        return pinned.model_copy(update={"provider": resolve_provider(config.provider)})
    if isinstance(config, TorchConfig):
        update: dict[str, Any] = {"device": resolve_device(config.device)}
        if isinstance(config, TorchvisionConfig):
            update["weights"] = pin(config.weights)
        return config.model_copy(update=update)
    return config


def _sniff(path: Path) -> OnnxConfig:
    """The configuration, all defaults, of the one convention that an ONNX file's signature fits."""
    source = weights_source(str(path))
    signature = read_signature(onnx_session(_existing(path)))
    fitting, expected = [], []
    for backend, (kind, convention) in _ONNX.items():
        config = kind(weights=source)
        reader = convention(config)
        expected.append(f"  {backend}: {reader.expected}")
        if reader.size(signature) is not None:
            fitting.append(config)
    if len(fitting) != 1:
        raise UsageError(
            "\n".join(
                [f"{path}: its signature fits {len(fitting)} backends", *expected, f"  got: {signature}"]
            )
        )
    return fitting[0]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path}: no such file of weights")
    return path
