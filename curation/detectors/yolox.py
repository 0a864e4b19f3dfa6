"""YOLOX (Ge et al., 2021) as its release 0.1.1rc0 is exported: BGR 0..255 in, undecoded anchors out.

Source: YOLOX `yolox/data/data_augment.py` (preproc), `yolox/utils/demo_utils.py` (demo_postprocess).
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32, Shaped
from pydantic import Field, field_validator

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
from curation.detectors.resize import Placement, letterbox
from curation.weights import WeightsSource
from shards.errors import UsageError

_STRIDES = (8, 16, 32)
_LEGACY = ("/YOLOX/releases/download/0.1.0/", "/storage/releases/download/0.0.1/")


class YOLOXConfig(OnnxConfig):
    """`backend: yolox`. Score: objectness x class, each a sigmoid."""

    backend: Literal["yolox"] = "yolox"
    person: int = Field(default=0, ge=0, description="index of the class")
    nms_iou: float = Field(default=0.45, gt=0, le=1, description="YOLOX's demo")

    @field_validator("weights")
    @classmethod
    def _not_legacy(cls, weights: WeightsSource) -> WeightsSource:
        if weights.url is not None and any(part in weights.url for part in _LEGACY):
            raise ValueError(
                "weights of YOLOX before 0.1.1 were trained on RGB with ImageNet's mean: their signature is "
                "the same, their scores would be wrong; take those of release 0.1.1rc0"
            )
        return weights


class YOLOX:
    """See `curation.detectors.network.Convention`. Persons only: an anchor that scores higher as a dog still
    counts, and only persons suppress persons.
    """

    expected = (
        "input images float(N, 3, H, W), H and W multiples of 32; output output float(N, HW/64 + HW/256 + "
        "HW/1024, 5 + classes)"
    )

    def __init__(self, config: YOLOXConfig) -> None:
        self.person, self.nms_iou = config.person, config.nms_iou

    def size(self, signature: Signature) -> tuple[Dimension, Dimension] | None:
        if [tensor.name for tensor in signature.inputs] != ["images"] or len(signature.outputs) != 1:
            return None
        size = image_size(signature.inputs[0])
        if size is None or any(isinstance(side, int) and side % 32 for side in size):
            return None
        anchors = None
        if isinstance(size[0], int) and isinstance(size[1], int):
            anchors = len(_grid(size[0], size[1])[0])
        output = signature.output("output")
        columns = output.shape[-1] if output and output.shape else None
        few = isinstance(columns, int) and columns < 6 + self.person
        return size if fits(output, "float", None, anchors, None) and not few else None

    def prepare(self, image: RGB, height: int, width: int) -> tuple[Image, Placement]:
        canvas, placement = letterbox(image, height, width, rounding=0.0)
        return canvas[..., ::-1].transpose(2, 0, 1).astype(np.float32), placement

    def feed(
        self, signature: Signature, images: Images, placements: Sequence[Placement]
    ) -> dict[str, Shaped[np.ndarray, "n ..."]]:
        return {"images": images}

    def reading(self, signature: Signature, probe: Outputs, height: int, width: int) -> Reading:
        grid, stride = _grid(height, width)
        raw = probe["output"]
        if raw.shape[0] != len(grid) or raw.shape[1] < 6 + self.person:
            raise UsageError(
                f"expected output (N, {len(grid)}, 5 + classes), got (N, {raw.shape[0]}, {raw.shape[1]})"
            )
        if np.median(np.abs(raw[:, :2])) > _STRIDES[-1]:
            raise UsageError(
                "its boxes are in pixels already (exported with --decode_in_inference); export without"
            )
        if raw[:, 4:].min() < 0 or raw[:, 4:].max() > 1:
            raise UsageError(
                f"scores outside 0..1 ({raw[:, 4:].min():.3g}..{raw[:, 4:].max():.3g}): expected sigmoids"
            )

        def decode(outputs: Outputs, placement: Placement) -> Found:
            rows = outputs["output"]
            centre = (rows[:, :2] + grid) * stride
            half = np.exp(np.minimum(rows[:, 2:4], 20)) * stride / 2
            xyxy = np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)
            return placement.to_original(xyxy), rows[:, 4] * rows[:, 5 + self.person]

        return Reading(decode, self.nms_iou)


def _grid(
    height: int, width: int
) -> tuple[Float32[np.ndarray, "anchors 2"], Float32[np.ndarray, "anchors 1"]]:
    """(column, row) and stride of every anchor: strides 8, 16, 32 in turn, x fastest."""
    cells, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        strides.append(np.full((len(cells[-1]), 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)
