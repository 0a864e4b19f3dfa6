"""Pictures as data URIs, so that the report is one file."""

import base64
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

RGB = UInt8[np.ndarray, "_ _ 3"]


def webp_uri(image: RGB, quality: int = 88) -> str:
    """A WebP data URI of an RGB picture; quality 101 is lossless (flat colours are smaller that way)."""
    encoded = cv2.imencode(
        ".webp", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality]
    )[1]
    return f"data:image/webp;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def fit_within(image: RGB, height: int, width: int) -> RGB:
    """The picture as large as these bounds (px) allow, at least one pixel each way."""
    scale = min(height / image.shape[0], width / image.shape[1])
    shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized: RGB = cv2.resize(image, shape, interpolation=method)
    return resized


def draw_boxes(
    image: RGB, boxes: Sequence[Mapping[str, float]], colour: tuple[int, int, int], scale: float = 1.0
) -> RGB:
    """The picture with rectangles {x0, y0, x1, y1}; `scale`: its pixels per pixel of the boxes."""
    marked = image.copy()
    thickness = max(1, round(min(image.shape[:2]) / 90))
    for box in boxes:
        x0, y0, x1, y1 = (round(box[name] * scale) for name in ("x0", "y0", "x1", "y1"))
        cv2.rectangle(marked, (x0, y0), (x1, y1), colour, thickness, cv2.LINE_AA)
    return marked
