"""2D pose (paper section 3.3): one heat map per keypoint in the box of one person, mean squared error."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor

from annotation.draw import draw_keypoints
from annotation.keypoints import keypoint_vocabulary, map_keypoints
from annotation.labels import Labels
from train.data.view import View
from train.metrics.pose import PosedPerson, PoseGuess, coco_scores, pixel_errors
from train.tasks.base import HALF_COVERED, Evaluator, Target, Task, TaskConfig
from train.tasks.heatmaps import decode_heatmaps, encode_heatmaps, unit_scale

BOX_AREA_SHARE = 0.53
"""Share of a person's box that COCO's segmentations cover, for people without a mask."""
SURE = 0.2
"""Keypoints below this confidence do not count in a person's score."""


class PoseTask(Task):
    """Output: K heat maps. Prediction: (K, 3): x px, y px in the source image, confidence."""

    name = "pose"
    wanted = ("rgb", "keypoints")
    optional = ("instance", "alpha")
    last_layer = "final_layer"
    spread = 0.001  # from 0.02 on, short runs spend themselves on silencing it and end with empty heat maps
    headline, better = "pck10", "higher"

    protocol = (
        "Top-down with ground-truth boxes (mask extent, else keypoint extent), enlarged by the "
        "padding; UDP heat maps, DARK decoding; a person's score is the mean confidence of its "
        "keypoints above 0.2. AP, AR: pycocotools, OKS 0.50:0.05:0.95, at most 20 people an image, "
        "all occluded and visible points, area = mask pixels (0.53 of the box without a mask). "
        "PCK@0.1: share of labelled points closer than 0.1 of the longer side of the unpadded box, "
        "pooled. Error: mean distance of labelled points in source pixels."
    )

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self.vocabulary = keypoint_vocabulary(config.keypoints)

    @property
    def channels(self) -> int:
        return len(self.vocabulary)

    def prepare(self, labels: Labels) -> Labels:
        """The keypoints of the task's vocabulary."""
        assert labels.keypoints is not None
        return replace(labels, keypoints=map_keypoints(labels.keypoints, self.channels))

    def people(self, labels: Labels) -> list[int]:
        """People with at least one labelled keypoint."""
        assert labels.keypoints is not None
        return [int(person) for person in np.flatnonzero((labels.keypoints[..., 3] > 0).any(1))]

    def view(self, labels: Labels, person: int, size: tuple[int, int]) -> View:
        """The person's box with padding, at the aspect of `size`; the whole image for nobody (-1)."""
        if person < 0:
            return super().view(labels, person, size)
        return View.around(person_box(labels, person), self.config.box_padding, size)

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        """Heat maps, points in heat-map pixels, and weights (1 for labelled points inside the crop)."""
        assert crop.keypoints is not None and crop.rgb is not None
        keypoints = crop.keypoints[person] if person >= 0 else np.zeros((self.channels, 4), np.float32)
        weights = (keypoints[:, 3] > 0).astype(np.float32)
        points = np.where(weights[:, None] > 0, keypoints[:, :2], 0) / unit_scale(
            (crop.rgb.shape[0], crop.rgb.shape[1]), size
        )
        heatmaps = encode_heatmaps(points, size, self.config.sigma)
        return {
            "heatmaps": torch.from_numpy(heatmaps * weights[:, None, None]),
            "points": torch.from_numpy(points.astype(np.float32)),
            "weights": torch.from_numpy(weights),
        }

    def loss(self, output_BChw: Float32[Tensor, "B K h w"], target: Target) -> Float32[Tensor, ""]:
        """Mean over all keypoints and pixels of the squared error, unlabelled keypoints with weight 0."""
        squared = (output_BChw - target["heatmaps"]) ** 2
        return (squared * target["weights"][:, :, None, None]).mean()

    def decode(
        self, output_Chw: Float32[Tensor, "K h w"], view: View, source: tuple[int, int]
    ) -> Float64[np.ndarray, "K 3"]:
        points, scores = decode_heatmaps(output_Chw, view.size, self.config.blur)
        return np.column_stack([view.to_source(points), scores])

    def unmirror(self, output_BChw: Float32[Tensor, "B K h w"]) -> Float32[Tensor, "B K h w"]:
        return output_BChw.flip(3)[:, torch.from_numpy(self.vocabulary.flip.copy())]

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "K _ _"]]:
        """The mean pose in the box, as heat maps of its points."""
        total, count, size = torch.zeros(self.channels, 2), torch.zeros(self.channels, 1), (1, 1)
        for target in targets:
            weights = target["weights"][:, None]
            total += target["points"] * weights
            count += weights
            size = (target["heatmaps"].shape[1], target["heatmaps"].shape[2])
        mean = (total / count.clamp(min=1)).numpy()
        return {"constant": torch.from_numpy(encode_heatmaps(mean, size, self.config.sigma))}

    def start(self, constant: Float32[Tensor, "K _ _"]) -> Float32[Tensor, " K"]:
        """Nothing anywhere: a heat map is zero almost everywhere."""
        return torch.zeros(self.channels)

    def evaluator(self) -> Evaluator:
        return PoseEvaluator(self.vocabulary.sigmas)

    def truth(self, labels: Labels, person: int) -> Float64[np.ndarray, "K 3"]:
        assert labels.keypoints is not None
        return np.asarray(labels.keypoints[person][:, [0, 1, 3]], dtype=np.float64)

    def draw(
        self, labels: Labels, person: int, prediction: Float64[np.ndarray, "K 3"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The skeleton over the picture; only the points the truth has, so that pictures compare."""
        assert labels.keypoints is not None and labels.rgb is not None
        shown = np.zeros((1, len(prediction), 4), np.float32)
        shown[0, :, :2] = prediction[:, :2]
        shown[0, :, 3] = 2 * (labels.keypoints[person][:, 3] > 0)
        return draw_keypoints(labels.rgb, shown)


def person_mask(labels: Labels, person: int) -> Bool[np.ndarray, "height width"] | None:
    """The person's pixels: by instance id (index + 1), by alpha when alone, else unknown."""
    if labels.instance is not None:
        return np.asarray(labels.instance == person + 1)
    if labels.alpha is not None and labels.keypoints is not None and len(labels.keypoints) == 1:
        return np.asarray(labels.alpha >= HALF_COVERED)
    return None


def person_box(labels: Labels, person: int) -> Float64[np.ndarray, "4"]:
    """x0, y0, x1, y1 (first and last pixel): extent of the person's mask, else of the labelled keypoints."""
    mask = person_mask(labels, person)
    if mask is not None and mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        return np.array([columns[0], rows[0], columns[-1], rows[-1]], dtype=np.float64)
    assert labels.keypoints is not None
    points = labels.keypoints[person]
    labelled = points[points[:, 3] > 0, :2].astype(np.float64)
    return np.concatenate([labelled.min(0), labelled.max(0)])


class PoseEvaluator:
    """Truth and guesses of all people."""

    def __init__(self, sigmas: Float64[np.ndarray, " K"]) -> None:
        self.sigmas = sigmas
        self.truth: list[PosedPerson] = []
        self.guesses: list[PoseGuess] = []
        self.errors: list[Float64[np.ndarray, " labelled"]] = []
        self.relative: list[Float64[np.ndarray, " labelled"]] = []
        self.images: dict[str, int] = {}

    def add(
        self, key: str, labels: Labels, person: int, prediction: Float64[np.ndarray, "K 3"]
    ) -> dict[str, float]:
        assert labels.keypoints is not None
        image = self.images.setdefault(key, len(self.images) + 1)
        truth = _posed(labels, person, image)
        confidence = prediction[:, 2]
        sure = confidence[confidence > SURE]
        self.truth.append(truth)
        self.guesses.append(PoseGuess(image, prediction, float(sure.mean() if len(sure) else 0.0)))
        errors = pixel_errors(truth.keypoints, prediction)
        self.errors.append(errors)
        self.relative.append(errors / max(truth.box[2:]))
        return {"pck10": float((self.relative[-1] < 0.1).mean()), "error_px": float(errors.mean())}

    def compute(self) -> dict[str, float]:
        """pck10, error_px, then COCO's ten."""
        if not self.truth:
            return {}
        errors, relative = np.concatenate(self.errors), np.concatenate(self.relative)
        scores = coco_scores(self.truth, self.guesses, self.sigmas)
        return {"pck10": float((relative < 0.1).mean()), "error_px": float(errors.mean()), **scores}


def _posed(labels: Labels, person: int, image: int) -> PosedPerson:
    assert labels.keypoints is not None
    x0, y0, x1, y1 = (float(value) for value in person_box(labels, person))
    mask = person_mask(labels, person)
    width, height = x1 - x0 + 1, y1 - y0 + 1
    known = mask is not None and mask.any()
    area = float(mask.sum()) if known and mask is not None else BOX_AREA_SHARE * width * height
    keypoints = labels.keypoints[person][:, [0, 1, 3]].astype(np.float64)
    return PosedPerson(image, keypoints, (x0, y0, width, height), area)
