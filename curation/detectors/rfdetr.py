"""RF-DETR (Robinson et al., 2025) as its own exporter and as onnx-community export it.

Source: rfdetr `export/_runtime/preprocess.py` and `decode.py`; class slots are COCO's category ids, 0..90.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Shaped
from pydantic import Field

from curation.boxes import RGB
from curation.detectors.network import (
    Dimension,
    Found,
    Image,
    Images,
    OnnxConfig,
    Outputs,
    Reading,
    Signature,
    fits,
    image_size,
    sigmoid,
)
from curation.detectors.resize import Placement, stretch, stretched
from shards.errors import UsageError

_MEAN = np.array([0.485, 0.456, 0.406], np.float32)  # R, G, B
_STD = np.array([0.229, 0.224, 0.225], np.float32)
# rfdetr's exporter; onnx-community's. Inputs, boxes, class logits.
_INPUTS, _BOXES, _LOGITS = (
    ("input", "pixel_values"),
    ("dets", "pred_boxes"),
    ("labels", "logits", "pred_logits"),
)


class RFDETRConfig(OnnxConfig):
    """`backend: rf-detr`. Score: the sigmoid of the person slot; every query counts, none is suppressed."""

    backend: Literal["rf-detr"] = "rf-detr"
    person: int = Field(default=1, ge=0, description="class slot; COCO's category id of a person")
    slots: int = Field(default=91, ge=1, description="class slots; others than COCO's say so")


class RFDETR:
    """See `curation.detectors.network.Convention`."""

    def __init__(self, config: RFDETRConfig) -> None:
        self.person, self.slots = config.person, config.slots
        self.expected = (
            f"input {' or '.join(_INPUTS)} float(N, 3, S, S); outputs {' or '.join(_BOXES)} "
            f"float(N, queries, 4) and {' or '.join(_LOGITS)} float(N, queries, {self.slots})"
        )

    def size(self, signature: Signature) -> tuple[Dimension, Dimension] | None:
        if (
            len(signature.inputs) != 1
            or signature.inputs[0].name not in _INPUTS
            or len(signature.outputs) != 2
        ):
            return None
        boxes = fits(signature.output(*_BOXES), "float", None, None, 4)
        logits = fits(signature.output(*_LOGITS), "float", None, None, self.slots)
        return image_size(signature.inputs[0]) if boxes and logits else None

    def prepare(self, image: RGB, height: int, width: int) -> tuple[Image, Placement]:
        normalised = (stretch(image, height, width) / np.float32(255) - _MEAN) / _STD
        return normalised.transpose(2, 0, 1), stretched(image, height, width)

    def feed(
        self, signature: Signature, images: Images, placements: Sequence[Placement]
    ) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        return {signature.inputs[0].name: images}

    def reading(self, signature: Signature, probe: Outputs, height: int, width: int) -> Reading:
        boxes, logits = signature.output(*_BOXES), signature.output(*_LOGITS)
        assert boxes is not None and logits is not None
        if probe[logits.name].shape[-1] != self.slots or self.person >= self.slots:
            raise UsageError(f"expected {self.slots} class slots, got {probe[logits.name].shape[-1]}")

        def decode(outputs: Outputs, placement: Placement) -> Found:
            centre, half = outputs[boxes.name][:, :2], outputs[boxes.name][:, 2:] / 2
            whole = np.array([width, height] * 2, np.float32)
            xyxy = (np.concatenate([centre - half, centre + half], axis=1) * whole).astype(np.float32)
            return placement.to_original(xyxy), sigmoid(outputs[logits.name][:, self.person])

        return Reading(decode, None)
