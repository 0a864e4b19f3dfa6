"""Pictures as data URIs, so that the report is one file."""

import base64

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


def fit_height(image: RGB, height: int) -> RGB:
    """The picture at this height, enlarged by whole pixels or reduced by area."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_CUBIC
    resized: RGB = cv2.resize(image, (width, height), interpolation=method)
    return resized


def draw_boxes(image: RGB, boxes: list[dict[str, float]], colour: tuple[int, int, int]) -> RGB:
    """The picture with rectangles {x0, y0, x1, y1} in its own pixels."""
    marked = image.copy()
    thickness = max(1, round(min(image.shape[:2]) / 90))
    for box in boxes:
        first, last = (round(box["x0"]), round(box["y0"])), (round(box["x1"]), round(box["y1"]))
        cv2.rectangle(marked, first, last, colour, thickness, cv2.LINE_AA)
    return marked
