"""Text in the picture: captions, memes, pages. PP-OCR's detection network (DB; Liao et al., AAAI 2020), out
of rapidocr.

Detection only: what the text says is never read. The network takes a lone dark object for a huge glyph, so
only boxes thinner than MAX_LINE times the square root of the image's area count as text.
"""

import logging
import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32
from pydantic import Field

from curation.boxes import RGB, Boxes, make_boxes
from shards.config import Config
from shards.errors import VitruvianError
from shards.files import sha256_file

MAX_LINE = 0.3


class TextConfig(Config):
    """How closely to look for text."""

    max_side: int = Field(
        default=320,
        ge=64,
        le=2048,
        description="px; images are resized to this longer side. Larger finds smaller text, takes four times "
        "as long per doubling, and takes more things for text",
    )
    min_score: float = Field(
        default=0.5, ge=0, le=1, description="a box's mean text probability must reach this"
    )


class TextDetector:
    """Text lines of images; the network is loaded at the first call, with one thread."""

    def __init__(self, config: TextConfig) -> None:
        self.config = config

    def measure(self, image: RGB) -> tuple[float, Boxes]:
        """(share of the image covered by text, 0..1; the lines' upright boxes with scores)."""
        height, width = image.shape[:2]
        scale = self.config.max_side / max(height, width)
        size = (max(32, round(width * scale)), max(32, round(height * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(image, size, interpolation=method)
        lines = [
            line
            for line in self._lines(small)
            if _thickness(line[0]) <= MAX_LINE * math.sqrt(size[0] * size[1])
        ]
        back = np.array([width / size[0], height / size[1]], np.float32)
        boxes = make_boxes([(_bounds(corners * back), score) for corners, score in lines])
        return _covered([corners for corners, _ in lines], size), boxes

    def identity(self) -> dict[str, str]:
        """Name and sha256 of the network."""
        return {"name": "rapidocr-det", _model_path().name: sha256_file(_model_path())}

    def _lines(self, image: RGB) -> list[tuple[Float32[np.ndarray, "4 2"], float]]:
        found = self._network(np.ascontiguousarray(image[..., ::-1]))  # BGR, as the network was trained
        if found.boxes is None:
            return []
        return [
            (np.asarray(corners, np.float32), min(1.0, float(score)))
            for corners, score in zip(found.boxes, found.scores, strict=True)
        ]

    @cached_property
    def _network(self) -> Any:

        import onnxruntime
        from rapidocr.ch_ppocr_det import TextDetector as Network
        from rapidocr.utils.typings import EngineType

        logging.getLogger("RapidOCR").setLevel(logging.WARNING)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        path = str(_model_path())
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return Network(
            _Settings(
                engine_type=EngineType.ONNXRUNTIME,
                session=session,
                limit_side_len=self.config.max_side,
                limit_type="max",
                box_thresh=self.config.min_score,
            )
        )


class _Settings(dict[str, Any]):
    """What rapidocr reads both as a mapping and as an object."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def _model_path() -> Path:
    import importlib.util

    # Not imported: the package takes seconds, and its path is all that is needed here.
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or spec.origin is None:
        raise VitruvianError("text detection needs rapidocr; install vitruvian[cluster]")
    found = sorted((Path(spec.origin).parent / "models").glob("*_det_*.onnx"))
    if not found:
        raise VitruvianError(f"{Path(spec.origin).parent}: no text-detection network in this rapidocr")
    return found[0]


def _thickness(corners: Float32[np.ndarray, "4 2"]) -> float:
    """The shorter side of a rectangle given by its corners in order."""
    return float(min(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[1])))


def _bounds(corners: Float32[np.ndarray, "4 2"]) -> Sequence[float]:
    return [float(side) for side in (*corners.min(axis=0), *corners.max(axis=0))]


def _covered(polygons: Sequence[Float32[np.ndarray, "4 2"]], size: tuple[int, int]) -> float:
    mask = np.zeros((size[1], size[0]), np.uint8)
    for corners in polygons:
        cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return round(float(mask.mean()), 4)
