"""A detector that is an ONNX network: session, batches, and the steps that every convention shares.

A `Convention` (one file each: yolox, rtmdet, rfdetr, rtdetr) says how pixels become the network's input and
its output becomes boxes. What it expects is checked against the file before the first image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from pydantic import Field

from curation.boxes import RGB, Boxes, area, clip, intersection, make_boxes
from curation.detectors.resize import Placement
from curation.weights import OnnxModelConfig, fetch, onnx_session, resolve_provider
from shards.errors import UsageError
from shards.files import sha256_file

FLOOR = 0.05  # boxes with a lower score are not reported
_CANDIDATES = 1000  # best boxes that non-maximum suppression looks at
_MOST = 300  # boxes reported per image
_NO_SIZE = "the network takes any size; say `side`"

Outputs = Mapping[str, Shaped[np.ndarray, "..."]]  # of one image: name -> array without the batch axis
Found = tuple[Float32[np.ndarray, "boxes 4"], Float32[np.ndarray, " boxes"]]  # xyxy in original px, scores
Decode = Callable[[Outputs, Placement], Found]
Dimension = int | str | None  # a name or None: any size
Image = Float32[np.ndarray, "3 _height _width"]
Images = Float32[np.ndarray, "_n 3 _height _width"]


class OnnxConfig(OnnxModelConfig):
    """What all ONNX detectors share."""

    floor: float = Field(default=FLOOR, ge=0, le=1, description="boxes with a lower score are not reported")
    side: int | None = Field(
        default=None, ge=32, description="px; of the input, when the network leaves it open"
    )


@dataclass(frozen=True)
class Tensor:
    """An input or output of a network: element type as onnxruntime names it, and shape."""

    name: str
    type: str
    shape: tuple[Dimension, ...]

    def __str__(self) -> str:
        sizes = ", ".join("?" if not isinstance(size, int) else str(size) for size in self.shape)
        return f"{self.name} {self.type}({sizes})"


@dataclass(frozen=True)
class Signature:
    """What a network takes and gives."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        takes = "; ".join(map(str, self.inputs))
        return f"inputs {takes}; outputs {'; '.join(map(str, self.outputs))}"

    def output(self, *names: str) -> Tensor | None:
        """The output that bears one of these names."""
        return next((tensor for tensor in self.outputs if tensor.name in names), None)


@dataclass(frozen=True)
class Reading:
    """How one network's outputs are read. `nms_iou`: suppress at this overlap; None: nothing is left to
    suppress.
    """

    decode: Decode
    nms_iou: float | None


@runtime_checkable
class Convention(Protocol):
    """How one family of networks takes images and gives boxes."""

    @property
    def expected(self) -> str:
        """Its signature in words, for errors."""
        ...

    def size(self, signature: Signature) -> tuple[Dimension, Dimension] | None:
        """(height, width) of the input; None when the network is not of this family."""
        ...

    def prepare(self, image: RGB, height: int, width: int) -> tuple[Image, Placement]:
        """One image as the network takes it, and where it lies in the input."""
        ...

    def feed(
        self, signature: Signature, images: Images, placements: Sequence[Placement]
    ) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        """The network's inputs by name; `placements` may be fewer than images (the rest is filling)."""
        ...

    def reading(self, signature: Signature, probe: Outputs, height: int, width: int) -> Reading:
        """How outputs become boxes. `probe`: what the network says of noise, to settle what its signature
        leaves open. Raises UsageError when that is not what the convention says.
        """
        ...


class OnnxDetector:
    """See `curation.detectors.Detector`. The session is opened at the first `detect`, not before."""

    def __init__(self, config: OnnxConfig, backend: str, convention: Convention) -> None:
        self.config, self.backend, self.convention = config, backend, convention

    def detect(self, images: Sequence[RGB]) -> list[Boxes]:
        """Boxes around people in each image; see `curation.detectors.Detector`."""
        found: list[Boxes] = []
        for start in range(0, len(images), self._network.batch):
            found += self._detect_batch(images[start : start + self._network.batch])
        return found

    def identity(self) -> dict[str, str]:
        """Backend, sha256 of the weights, onnxruntime's version, provider. Fetches the weights, opens no
        session.
        """
        import onnxruntime

        return {
            "name": f"onnx-{self.backend}",
            "weights": sha256_file(self._path),
            "onnxruntime": str(onnxruntime.__version__),
            "provider": resolve_provider(self.config.provider),
        }

    def open(self) -> None:
        """Open the session and check the network, as the first `detect` would. Raises UsageError."""
        _ = self._network

    def _detect_batch(self, images: Sequence[RGB]) -> list[Boxes]:
        network = self._network
        tensor = np.zeros((network.batch, 3, network.height, network.width), np.float32)
        placements = []
        for slot, image in enumerate(images):
            tensor[slot], placement = self.convention.prepare(image, network.height, network.width)
            placements.append(placement)
        outputs = _run(network.session, self.convention.feed(network.signature, tensor, placements))
        return [
            _boxes(
                {name: value[slot] for name, value in outputs.items()},
                placement,
                network.reading,
                self.config,
            )
            for slot, placement in enumerate(placements)
        ]

    @cached_property
    def _path(self) -> Path:
        return fetch(self.config.weights)

    @cached_property
    def _network(self) -> "_Network":
        session = onnx_session(self._path, self.config.provider, self.config.threads)
        return _open(session, self._path, self.config, self.backend, self.convention)


@dataclass(frozen=True)
class _Network:
    """An open session whose signature has been checked."""

    session: Any
    signature: Signature
    batch: int
    height: int
    width: int
    reading: Reading


def _open(session: Any, path: Path, config: OnnxConfig, backend: str, convention: Convention) -> _Network:
    """Check the signature, then the network's own word on an image of noise."""
    signature = read_signature(session)
    size = convention.size(signature)
    if size is None:
        raise UsageError(
            f"{path}: not a network of backend {backend!r}\n  expected: {convention.expected}\n"
            f"  got: {signature}"
        )
    height, width = (side if isinstance(side, int) else config.side for side in size)
    if height is None or width is None:
        raise UsageError(f"{path}: {_NO_SIZE}\n  got: {signature}")
    fixed = signature.inputs[0].shape[0]
    batch = fixed if isinstance(fixed, int) else config.batch
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    tensor, placement = convention.prepare(noise, height, width)
    outputs = _run(
        session, convention.feed(signature, np.repeat(tensor[None], batch, axis=0), [placement] * batch)
    )
    try:
        reading = convention.reading(
            signature, {name: value[0] for name, value in outputs.items()}, height, width
        )
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return _Network(session, signature, batch, height, width, reading)


def _boxes(outputs: Outputs, placement: Placement, reading: Reading, config: OnnxConfig) -> Boxes:
    """What the network says of one image: above the floor, suppressed, inside the image, best first."""
    xyxy, score = reading.decode(outputs, placement)
    sane = (score >= np.float32(config.floor)) & np.isfinite(xyxy).all(axis=1)
    boxes = make_boxes(list(zip(xyxy[sane].tolist(), np.minimum(score[sane], 1).tolist(), strict=True)))
    boxes = _first(boxes, _CANDIDATES)
    if reading.nms_iou is not None:
        boxes = suppress(boxes, reading.nms_iou)
    boxes = clip(boxes, placement.width, placement.height)
    there: Bool[np.ndarray, " boxes"] = area(boxes.xyxy) > 0
    return _first(Boxes(boxes.xyxy[there], boxes.score[there]), _MOST)


def _run(session: Any, feed: dict[str, Shaped[np.ndarray, "n ..."]]) -> dict[str, Shaped[np.ndarray, "..."]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def read_signature(session: Any) -> Signature:
    """What an open session takes and gives."""

    def tensors(nodes: Any) -> tuple[Tensor, ...]:
        kinds = ((node, node.type.removeprefix("tensor(").removesuffix(")")) for node in nodes)
        return tuple(Tensor(node.name, kind, tuple(node.shape)) for node, kind in kinds)

    return Signature(tensors(session.get_inputs()), tensors(session.get_outputs()))


def image_size(tensor: Tensor) -> tuple[Dimension, Dimension] | None:
    """(height, width) of an input of float images, batch x 3 x height x width; None when it is none."""
    if tensor.type != "float" or len(tensor.shape) != 4 or tensor.shape[1] not in (3, None):
        return None
    return tensor.shape[2], tensor.shape[3]


def fits(tensor: Tensor | None, kind: str, *shape: Dimension) -> bool:
    """Whether an output has this type and shape: an int must be met wherever the file states one."""
    if tensor is None or tensor.type != kind or len(tensor.shape) not in (0, len(shape)):
        return False  # a file may leave even the number of axes open: the probe settles it
    pairs = zip(tensor.shape, shape, strict=False)
    return all(not (isinstance(a, int) and isinstance(b, int)) or a == b for a, b in pairs)


def suppress(boxes: Boxes, iou: float) -> Boxes:
    """Greedy non-maximum suppression: drop what overlaps a better box by more than `iou` (intersection over
    union).
    """
    sizes, alive = area(boxes.xyxy), np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if alive[i]:
            shared = intersection(boxes.xyxy[i : i + 1], boxes.xyxy[i + 1 :])[0]
            union = np.maximum(sizes[i] + sizes[i + 1 :] - shared, np.float32(1e-9))
            alive[i + 1 :] &= shared / union <= iou
    return Boxes(boxes.xyxy[alive], boxes.score[alive])


def sigmoid(logits: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """1 / (1 + exp(-x)), without overflow."""
    value: Float32[np.ndarray, "*shape"] = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    return value


def _first(boxes: Boxes, count: int) -> Boxes:
    return Boxes(boxes.xyxy[:count], boxes.score[:count])
