"""RT-DETR and RT-DETRv2 (Zhao et al., 2024) as their authors export them, post-processing inside.

Source: RT-DETR `rtdetrv2_pytorch/tools/export_onnx.py`, `references/deploy/rtdetrv2_onnxruntime.py`,
`rtdetr_postprocessor.py`; D-FINE's exports share the signature. Hugging Face's port: `torch_models.py`.
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
)
from curation.detectors.resize import Placement, stretch_antialiased, stretched


class RTDETRConfig(OnnxConfig):
    """`backend: rt-detr`. Score: one sigmoid per (query, class); the 300 best pairs, none suppressed."""

    backend: Literal["rt-detr"] = "rt-detr"
    side: int | None = Field(
        default=640, ge=32, description="px; of the input, when the network leaves it open"
    )
    person: int = Field(default=0, ge=0, description="index of the class, of COCO's 80")


class RTDETR:
    """See `curation.detectors.network.Convention`."""

    expected = (
        "inputs images float(N, 3, S, S) and orig_target_sizes int64(N, 2); outputs labels int64(N, K), "
        "boxes float(N, K, 4), scores float(N, K)"
    )

    def __init__(self, config: RTDETRConfig) -> None:
        self.person = config.person

    def size(self, signature: Signature) -> tuple[Dimension, Dimension] | None:
        inputs = {tensor.name: tensor for tensor in signature.inputs}
        if set(inputs) != {"images", "orig_target_sizes"} or signature.inputs[0].name != "images":
            return None
        fitting = (
            fits(inputs["orig_target_sizes"], "int64", None, 2)
            and fits(signature.output("labels"), "int64", None, None)
            and fits(signature.output("boxes"), "float", None, None, 4)
            and fits(signature.output("scores"), "float", None, None)
        )
        return image_size(inputs["images"]) if fitting else None

    def prepare(self, image: RGB, height: int, width: int) -> tuple[Image, Placement]:
        resized = stretch_antialiased(image, height, width)
        tensor = resized.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        return tensor, stretched(image, height, width)

    def feed(
        self, signature: Signature, images: Images, placements: Sequence[Placement]
    ) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        sizes = np.ones((len(images), 2), np.int64)
        for slot, placement in enumerate(placements):
            sizes[slot] = placement.width, placement.height
        return {"images": images, "orig_target_sizes": sizes}

    def reading(self, signature: Signature, probe: Outputs, height: int, width: int) -> Reading:
        def decode(outputs: Outputs, placement: Placement) -> Found:
            chosen = outputs["labels"] == self.person
            return outputs["boxes"][chosen], outputs["scores"][chosen]

        return Reading(decode, None)
