"""RTMDet (Lyu et al., 2022) as mmdeploy exports it, with suppression inside (`end2end`) or without (raw).

Source: mmdet `configs/rtmdet/rtmdet_l_8xb32-300e_coco.py` (data_preprocessor, test_pipeline), mmdeploy
`configs/mmdet/_base_/base_static.py` (dets, labels). The file of the paper's demo is rtmdet-m for persons.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Shaped
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
from curation.detectors.resize import Placement, letterbox
from shards.errors import UsageError

_MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # B, G, R
_STD = np.array([57.375, 57.12, 58.395], np.float32)


class RTMDetConfig(OnnxConfig):
    """`backend: rtmdet`. Score: one sigmoid, trained towards the box's overlap with the truth."""

    backend: Literal["rtmdet"] = "rtmdet"
    side: int | None = Field(
        default=640, ge=32, description="px; of the input, when the network leaves it open"
    )
    person: int = Field(default=0, ge=0, description="index of the class")
    nms_iou: float = Field(
        default=0.65, gt=0, le=1, description="of a raw export; mmdet's test configuration"
    )
    scores: Literal["probe", "probabilities", "logits"] = Field(
        default="probe", description="of a raw export; probe: what the network says of noise settles it"
    )


class RTMDet:
    """See `curation.detectors.network.Convention`."""

    expected = (
        "input input float(N, 3, H, W); outputs either dets float(N, K, 5) and labels int64(N, K), or two "
        "floats, class scores (N, A, classes) and boxes (N, A, 4)"
    )

    def __init__(self, config: RTMDetConfig) -> None:
        self.person, self.scores = config.person, config.scores
        self.nms_iou = config.nms_iou

    def size(self, signature: Signature) -> tuple[Dimension, Dimension] | None:
        if [tensor.name for tensor in signature.inputs] != ["input"] or len(signature.outputs) != 2:
            return None
        fitting = _is_end2end(signature) or _raw_names(signature) is not None
        return image_size(signature.inputs[0]) if fitting else None

    def prepare(self, image: RGB, height: int, width: int) -> tuple[Image, Placement]:
        canvas, placement = letterbox(image, height, width, rounding=0.5)
        normalised = (canvas[..., ::-1].astype(np.float32) - _MEAN) / _STD
        return normalised.transpose(2, 0, 1), placement

    def feed(
        self, signature: Signature, images: Images, placements: Sequence[Placement]
    ) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        return {"input": images}

    def reading(self, signature: Signature, probe: Outputs, height: int, width: int) -> Reading:
        if _is_end2end(signature):
            return Reading(self._end2end, None)
        names = _raw_names(signature)
        assert names is not None
        classes, boxes = names
        scores = probe[classes]
        if scores.shape[-1] <= self.person:
            raise UsageError(f"{scores.shape[-1]} classes, and person is class {self.person}")
        logits = self.scores == "logits" or (self.scores == "probe" and not _are_probabilities(scores))

        def decode(outputs: Outputs, placement: Placement) -> Found:
            score = outputs[classes][:, self.person]
            if not logits and not _are_probabilities(score):
                raise UsageError(
                    f"{classes}: {score.min():.3g}..{score.max():.3g} where probabilities were expected; say "
                    "scores: logits"
                )
            return placement.to_original(outputs[boxes]), sigmoid(score) if logits else score

        return Reading(decode, self.nms_iou)

    def _end2end(self, outputs: Outputs, placement: Placement) -> Found:
        chosen = outputs["dets"][outputs["labels"] == self.person]
        return placement.to_original(chosen[:, :4]), chosen[:, 4]


def _is_end2end(signature: Signature) -> bool:
    labels = signature.output("labels")
    whole = any(fits(labels, kind, None, None) for kind in ("int64", "int32"))
    return whole and fits(signature.output("dets"), "float", None, None, 5)


def _raw_names(signature: Signature) -> tuple[str, str] | None:
    """The names of (class scores, boxes); None when the outputs are not such a pair."""
    if not all(tensor.type == "float" and len(tensor.shape) == 3 for tensor in signature.outputs):
        return None
    if signature.output("dets", "labels") is not None:  # an end2end export, or another family's
        return None
    boxes = [tensor for tensor in signature.outputs if tensor.shape[-1] == 4]
    classes = [tensor for tensor in signature.outputs if tensor.shape[-1] != 4]
    return (classes[0].name, boxes[0].name) if len(boxes) == len(classes) == 1 else None


def _are_probabilities(scores: Float32[np.ndarray, "..."]) -> bool:
    return bool(scores.min() >= 0 and scores.max() <= 1)
